"""`python -m bench`: the command line."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence

from bench.children import ChildError
from bench.cli.lab import add_lab
from bench.cli.studies import add_studies

__all__ = ["main"]

_DESCRIPTION = """\
The lab: measure the concurrency models, and whoever else serves HTTP, on this machine.

Begin with `python -m bench doctor` and `python -m bench run quick`. bench/README.md is the argument behind it.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (None: this process' own); return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=_DESCRIPTION,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    add_lab(commands)
    add_studies(commands)
    options = parser.parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    return run(options)


def _terminate(number: int, frame: object) -> None:
    raise KeyboardInterrupt  # SIGTERM as Ctrl-C, so that the child processes are ended


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminate)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # whoever read what this printed has enough, as head(1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except ChildError as error:
        sys.exit(f"python -m bench: {error}")
