"""A server whose threads are recorded, from their first step on; else as `bench.server`, with a handler or two.

    python -m bench.trace.server --model pool-hold --sleep 1 --out FOLDER

It prints its port, and ends with its standard input; then FOLDER holds what has been recorded, a file for each process
(`watching.messages.Steps` as JSON). For each line on its standard input it prints what its taskmaster has counted, as
JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
from pathlib import Path
from typing import Any

from acceptor import Acceptor, Request
from acceptor.recording import Lane, Recording
from acceptor.wire import WIRES
from bench.models import Model, find_model
from bench.processes import raise_open_files
from handlers import delay, hello
from taskmaster import Taskmaster
from taskmaster.prefork import PreforkTaskmaster
from watching.messages import LaneSteps, Steps

__all__ = ["Recorder", "main", "who"]

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
        acceptor = Acceptor(handler, taskmaster=taskmaster, port=0, http=options.http)
    except (TypeError, ValueError) as error:
        parser.error(str(error))
    recorder = Recorder(taskmaster, options.out) if options.out is not None else None
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
            print(counted(), flush=True)
    except (EOFError, KeyboardInterrupt):
        pass
    acceptor.stop(deadline=1.0)
    if recorder is not None:
        recorder.write()
    print(counted())


class Recorder:
    """Has whatever acceptor `taskmaster` is to run be recorded, from before its first thread.

    folder: where `write` puts what has been recorded. In a worker process that is done when that ends.
    """

    def __init__(self, taskmaster: Taskmaster, folder: Path) -> None:
        self._folder = folder
        self._runs = taskmaster
        if isinstance(taskmaster, PreforkTaskmaster):
            self._runs = taskmaster.inner
            taskmaster.on_process_exit = self.write
        self._execute = self._runs.execute_acceptor
        self._runs.execute_acceptor = self._record_and_execute  # type: ignore[method-assign]
        self._recording: Recording | None = None
        """Of this process; None: its taskmaster has not been started here."""
        self._name = ""

    def write(self) -> None:
        """When no thread does anything any more. Does nothing in the main process of one that forks."""
        if self._recording is None:
            return
        self._recording.stop()
        assert self._recording.ended is not None
        steps = Steps(label=self._name, name=self._name, model=type(self._runs).__name__, process=os.getpid(),
                      begin=self._recording.begun, end=self._recording.ended,
                      lanes=[_steps_of(number, lane) for number, lane in enumerate(self._recording.lanes)])
        (self._folder / f"{os.getpid()}.json").write_text(json.dumps(steps), encoding="utf-8")

    def _record_and_execute(self, acceptor: Any) -> None:
        self._recording, self._name = acceptor.record(), acceptor.name
        self._execute(acceptor)


def _steps_of(number: int, lane: Lane) -> LaneSteps:
    """With its end, if its thread has ended: of that nothing is known but that it was after its last step."""
    steps = lane.copy()
    if steps and not lane.thread.is_alive():
        steps.append((steps[-1][0], ".", 0, None))
    return LaneSteps(lane=number, thread=lane.thread.name, steps=steps)


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
