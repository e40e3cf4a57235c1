"""The command line, `taskmaster` or `python -m acceptor`. The only place that imports click, the models and `watching`.

    commands        the command over click; foreign: what the options of other servers are called here
    options         the table of all options; kinds: how each kind of value is read and written
    configuration   the values: command line, environment, TOML file, default; reference: shown to people
    loading         imports what "module:attribute" names; models: makes the taskmaster; offload: its executor
    server          makes the Acceptor of all that; logs: where they go
    control         --control: what shows it, beside it
    serving         runs it, to an exit code; reload: runs it again when a file changes
    watch           the commands `watch` and `top`, for the package `watching`; teaching: how a --help is laid out
    errors          what a user is told, and the exit code with it

`import acceptor` imports none of this.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command in sys.argv, and exit."""
    try:
        import click  # noqa: F401  # everything below needs it; nothing above does
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        print("The command line needs click, which is not installed; say: pip install 'taskmasters[cli]'",
              file=sys.stderr)
        sys.exit(2)
    from acceptor.cli.commands import taskmaster
    taskmaster()
