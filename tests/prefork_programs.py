"""A server with worker processes that tests run as a program of its own, to kill it: `python -m tests.prefork_programs
FOLDER`. It prints "PORT" and its number once it accepts, and what it logs goes to standard error."""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path

from acceptor import Acceptor, Request
from acceptor.hooks import Hooks
from taskmaster import RecyclingTaskmaster
from taskmaster.prefork import PreforkTaskmaster


def _tell(acceptor: Acceptor) -> None:
    print(f"PORT {acceptor.port}", flush=True)


def serve(folder: str) -> int:
    """Handlers: "/pid"; "/slow" tells its process ID in the file `entered`, and answers once there is a file `go`;
    "/stop" asks for a stop, and "/stop-here" tries to. A reload leaves a file "reloaded-PID"."""
    place = Path(folder)

    def handler(request: Request) -> str:
        if request.path == "/slow":
            (place / "entered").write_text(f"{os.getpid()}")
            while not (place / "go").exists():
                time.sleep(0.005)
        elif request.path == "/stop":
            acceptor.request_stop()
        elif request.path == "/stop-here":
            try:
                acceptor.stop()
            except RuntimeError as error:
                return str(error)
        return f"{os.getpid()}"

    def reload() -> None:
        (place / f"reloaded-{os.getpid()}").touch()

    taskmaster = PreforkTaskmaster(RecyclingTaskmaster(standby=2), 2)
    acceptor = Acceptor(handler, port=0, taskmaster=taskmaster, hooks=Hooks(ready=_tell))
    report = acceptor.serve_forever(deadline=10, reload=reload)
    return 3 if report else 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="[%(process)d] %(levelname)s %(message)s")
    sys.exit(serve(*sys.argv[1:]))
