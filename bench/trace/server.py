"""A server whose threads are recorded, by `bench.trace.steps`; else as `bench.server`, with a handler or two.

    python -m bench.trace.server --model pool-hold --sleep 1 --out FOLDER

It prints its port, and ends with its standard input; then FOLDER holds what has been recorded, a file for each process.
For each line on its standard input it prints what its taskmaster has counted, as JSON; and what threads that have ended
by then had done is forgotten.
"""

from __future__ import annotations

import argparse
import json
import threading
from pathlib import Path
from typing import Any

from acceptor import Acceptor, Handler, Request
from acceptor.wire import WIRES, chosen_wire
from bench.models import Model, find_model
from bench.processes import raise_open_files
from bench.trace.recorder import Recorder
from bench.trace.steps import trace, traced_handler, traced_wire
from handlers import delay, hello
from taskmaster import Taskmaster
from taskmaster.prefork import PreforkTaskmaster

__all__ = ["main"]

_ROOM = 16
"""Connections served at once, where the model has no default."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.trace.server", description="A server whose threads are "
                                     "recorded; ends with its standard input (Ctrl-D).")
    add = parser.add_argument
    add("--model", default="recycling-park", metavar="NAME", help="as for bench.server")
    add("--http", choices=WIRES, default="auto", help="what parses requests")
    add("--capacity", type=int, default=0, metavar="N", help="connections that it has room for; 0: its default")
    add("--exactly", action="store_true", help="so many threads, all of them from the start")
    add("--queue", type=int, metavar="N", help="connections that may wait, where the model has a queue")
    add("--sleep", type=float, default=0.0, metavar="MS", help="milliseconds the handler sleeps; 0: none at all")
    add("--who", action="store_true", help="the handler answers the name of its thread instead")
    add("--out", type=Path, metavar="FOLDER", help="where the recording goes; without it, nothing is recorded")
    options = parser.parse_args()
    raise_open_files()
    handler = who if options.who else delay(options.sleep / 1e3) if options.sleep else hello
    try:
        taskmaster = _made(find_model(options.model), options.capacity, options.exactly, options.queue)
        recorder = Recorder()
        acceptor = (Acceptor(handler, taskmaster=taskmaster, port=0, http=options.http) if options.out is None else
                    recorded(handler, taskmaster, recorder, options.out, options.http))
    except (TypeError, ValueError) as error:
        parser.error(str(error))
    acceptor.start()
    print(acceptor.port, flush=True)

    def counted() -> str:
        now = taskmaster.snapshot()
        return json.dumps({"threads": {state.word: count for state, count in now.threads.items() if count},
                           "accepted": now.accepted, "served": now.served, "refused": now.refused,
                           "parked": now.parked, "queued": now.queued})

    try:
        while True:
            input()
            recorder.forget_the_dead()
            print(counted(), flush=True)
    except (EOFError, KeyboardInterrupt):
        pass
    acceptor.stop(deadline=1.0)
    if options.out is not None and not isinstance(taskmaster, PreforkTaskmaster):
        recorder.write(options.out)
    print(counted())


def recorded(handler: Handler, taskmaster: Taskmaster, recorder: Recorder, folder: Path, http: str = "auto"
             ) -> Acceptor:
    """An acceptor, not started, all of whose threads are recorded.

    folder: of a taskmaster that forks, each process writes its recording there when it ends; else nobody does.
    """
    runs = taskmaster
    if isinstance(taskmaster, PreforkTaskmaster):
        runs = taskmaster.inner
        taskmaster.on_process_exit = lambda: recorder.write(folder)
    trace(runs, recorder)
    acceptor = Acceptor(traced_handler(handler, recorder), taskmaster=taskmaster, port=0, http=http)
    # There is no public way to give it a parser of one's own, and no other place from which to see a first byte.
    acceptor._make_wire = traced_wire(chosen_wire(http), recorder)
    return acceptor


def who(request: Request) -> str:
    """Answer the name of the thread that runs this."""
    return threading.current_thread().name


def _made(model: Model, capacity: int, exactly: bool, queue: int | None) -> Taskmaster:
    more: dict[str, Any] = {} if queue is None else {"queue_size": queue}
    if not capacity and model.capacity_argument == "room":  # which has no default
        capacity = _ROOM
    if capacity:
        return model.make(capacity, exactly=exactly, **more)
    return model.factory(**model.settings, **more)


if __name__ == "__main__":
    main()
