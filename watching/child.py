"""One of the servers of `taskmaster watch --compare`, as its process: an acceptor, and a control server beside it.

The first line on its standard input says what to serve: {"options": {"taskmaster": "pool", ...}, "control":
"unix:/path", "label": "pool"}; the options are those of `taskmaster serve`. It answers with a line on its standard
output: {"listens": "127.0.0.1:41234"}, or {"error": "what is wrong"} and its end. And it ends where its standard input
does.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from acceptor import Acceptor, HTTPError, Request
from acceptor.cli.configuration import read_configuration
from acceptor.cli.errors import CliError
from acceptor.cli.server import make_acceptor
from watching.server import ControlServer
from watching.source import LocalSource

__all__ = ["main", "sleeper"]

_MOST_SECONDS = 10.0


def sleeper(request: Request) -> str:
    """Answers once it has slept as long as asked for: /?sleep=MS. As a handler does that asks a database."""
    written = parse_qs(request.query).get("sleep", ["0"])[-1]
    try:
        seconds = float(written) / 1e3
        if not 0 <= seconds <= _MOST_SECONDS:
            raise ValueError
    except ValueError:
        raise HTTPError(400, f"sleep={written[:40]}: milliseconds, {_MOST_SECONDS * 1e3:g} at most") from None
    time.sleep(seconds)
    return "Hello\n"


def main() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # connections, each of which takes one
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what an application prints is for people
    told = json.loads(sys.stdin.readline() or "null")
    if told is None:
        return
    try:
        acceptor = _acceptor(told["options"])
        os.nice(5)  # the page, and the browser, come first; of the threads that begin after it (sched(7))
        acceptor.start()
    except (CliError, OSError) as error:
        print(json.dumps({"error": str(error)}), file=answers)
        sys.exit(1)
    try:
        with ControlServer(LocalSource(acceptor, told["label"]), told["control"]):
            print(json.dumps({"listens": acceptor.name}), file=answers)
            sys.stdin.read()
    finally:
        logging.getLogger("acceptor").setLevel(logging.ERROR)  # nobody waits for the answers that are cut
        acceptor.stop(deadline=0.5)
        with contextlib.suppress(OSError):  # there are others in it; the last one leaves nothing, if the parent is gone
            os.rmdir(os.path.dirname(told["control"].removeprefix("unix:")))


def _acceptor(options: dict[str, Any]) -> Acceptor:
    """CliError if something is wrong."""
    configuration = read_configuration({"bind": ("127.0.0.1:0",)} | options, {}, Path("/"))  # no pyproject.toml
    # Not by its name: a folder of the user's may have that of this package.
    return make_acceptor(configuration, access_log=False, begin=_nothing, ready=_nothing, stopped=_nothing,
                         handler=None if "app" in options else sleeper)


def _nothing() -> None:
    pass
