"""The command line of long trials: which cases, with which models, and how many requests."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence

__all__ = ["choose"]


def choose(parser: argparse.ArgumentParser, names: Collection[str], *, models: Collection[str], requests: int,
           what: str, arguments: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Read the command line: its `model` (None: all) and `requests`, and which of the cases called `names` to run.

    requests: the default, and `what` they are of. Ends the process, with a message, if a case is not there.
    """
    parser.add_argument("cases", nargs="*", metavar="CASE", help="all cases that begin so (default: all)")
    parser.add_argument("--model", action="append", choices=models, help="may be repeated (default: all)")
    parser.add_argument("--requests", type=int, default=requests, metavar="N", help=f"{what} (default: {requests})")
    options = parser.parse_args(arguments)
    wrong = [prefix for prefix in options.cases if not any(name.startswith(prefix) for name in names)]
    if wrong:
        parser.error(f"no case begins with {', '.join(wrong)}; there are {', '.join(names)}")
    return options, [name for name in names if name.startswith(tuple(options.cases or [""]))]
