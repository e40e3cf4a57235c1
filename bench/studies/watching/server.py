"""A server that can be watched: it prints its port, and the address of its control server, or "-".

    python -m bench.studies.watching.server --watch page

It ends with its standard input.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack

from acceptor import Acceptor
from bench.models import find_model
from bench.processes import raise_open_files
from handlers import hello
from watching import ControlServer

__all__ = ["WATCH", "main"]

WATCH = ("off", "page", "record")
"""Nothing; a control server, for a viewer; a recording that never ends."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.studies.watching.server", description="A server that can be "
                                     "watched; ends with its standard input (Ctrl-D).")
    parser.add_argument("--model", default="recycling-park", metavar="NAME", help="as for bench.server")
    parser.add_argument("--watch", choices=WATCH, default="page")
    options = parser.parse_args()
    raise_open_files()
    try:
        taskmaster = find_model(options.model).make(0)
    except ValueError as error:
        parser.error(str(error))
    with ExitStack() as stack:
        acceptor = stack.enter_context(Acceptor(hello, taskmaster=taskmaster, port=0))
        control = "-"
        if options.watch == "page":
            control = stack.enter_context(ControlServer(acceptor)).name
        elif options.watch == "record":
            stack.callback(acceptor.record().stop)
        print(acceptor.port, control, flush=True)
        try:
            sys.stdin.read()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
