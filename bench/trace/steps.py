"""Who does what, and when: recorded between an acceptor and its taskmaster, of which neither knows.

All that a taskmaster sees of an acceptor are steps (`taskmaster.base.AcceptorSteps`). So somebody who stands in between
sees every one of them, with the thread that calls it, whatever the model:

    TracedSteps     accept, process, park, refuse: and so where a connection is given from thread to thread
    trace           has a taskmaster use those, and tell when its threads start and end
    traced_handler  when the handler begins, and ends
    traced_wire     when a request's first bytes come; until then the thread that holds the connection waits

What is marked is kept by `bench.trace.recorder`, which also says what the letters stand for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from time import perf_counter_ns
from typing import Any, ParamSpec, TypeVar

from acceptor import Handler, Request
from acceptor.wire import Wire
from bench.trace.recorder import Recorder
from taskmaster.base import AcceptorSteps, Taskmaster

__all__ = ["TracedSteps", "trace", "traced_handler", "traced_wire"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


class TracedSteps:
    """The steps of `steps`, each of which marks where its thread is."""

    def __init__(self, steps: AcceptorSteps, recorder: Recorder) -> None:
        self._steps = steps
        self._recorder = recorder
        self._lane = recorder.lane

    def __getattr__(self, name: str) -> Any:
        return getattr(self._steps, name)  # whatever else an acceptor has, its name first of all

    @property
    def name(self) -> str:
        return self._steps.name

    def accept(self, timeout: float | None = None) -> Any:
        lane = self._lane()
        lane.mark("A")
        try:
            connection = self._steps.accept(timeout)
        except TimeoutError:
            lane.mark("_")
            raise
        if connection is None:
            lane.mark("X")
        else:
            lane.mark("Q", id(connection))
        return connection

    def process_connection(self, connection: Any) -> None:
        lane = self._lane()
        lane.mark("R", id(connection))
        try:
            self._steps.process_connection(connection)
        finally:
            lane.mark("_")

    def process_until_idle(self, connection: Any, go_on: Callable[[], bool]) -> bool:
        lane = self._lane()
        lane.mark("R", id(connection))
        try:
            return self._steps.process_until_idle(connection, go_on)
        finally:
            lane.mark("_")

    def process_without_waiting(self, connection: Any, offload: Executor | None) -> bool:
        lane = self._lane()
        lane.mark("R", id(connection))
        if isinstance(offload, ThreadPoolExecutor):  # where others run a job, nobody could mark anything
            offload = _TracedExecutor(offload, self._recorder, id(connection))
        try:
            return self._steps.process_without_waiting(connection, offload)
        finally:
            lane.mark("_")

    def park(self, connection: Any) -> bool:
        lane = self._lane()
        lane.mark("P", id(connection))  # before: it may have come back already when this returns
        parked = self._steps.park(connection)
        if parked:
            lane.mark("_")
        else:
            lane.mark("Q", id(connection))  # the server stops: it has the connection in its hands again
        return parked

    def refuse(self, connection: Any) -> None:
        lane = self._lane()
        lane.mark("C", id(connection))
        self._steps.refuse(connection)
        lane.mark("_")

    def abandon(self, connection: Any) -> None:
        lane = self._lane()
        lane.mark("C", id(connection))
        self._steps.abandon(connection)
        lane.mark("_")


class _TracedExecutor(Executor):
    """Marks when a job is submitted, on the thread that does so, and when it begins and ends, on that which runs it.

    The end is marked with the connection: it is handed back.
    """

    def __init__(self, executor: Executor, recorder: Recorder, connection: int) -> None:
        self._executor = executor
        self._recorder = recorder
        self._connection = connection

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        def job() -> _T:
            lane = self._recorder.lane()
            lane.mark("R", self._connection)
            try:
                return fn(*args, **kwargs)
            finally:
                lane.mark("_", self._connection)

        self._recorder.lane().mark("Q", self._connection)
        return self._executor.submit(job)


class _Traced(Taskmaster):
    """Mixed into the class of a taskmaster: these two are there to be overridden, for all models."""

    recorder: Recorder

    def execute_acceptor(self, acceptor: AcceptorSteps) -> None:
        super().execute_acceptor(TracedSteps(acceptor, self.recorder))  # type: ignore[safe-super]  # the model's own

    def start_thread(self, target: Callable[[], None], name: str) -> None:
        if name.startswith("watcher-"):  # the acceptor's own, which takes no step
            super().start_thread(target, name)
            return
        recorder, asked = self.recorder, perf_counter_ns()

        def run() -> None:
            recorder.begin(name, asked)
            try:
                target()
            finally:
                recorder.end()

        super().start_thread(run, name)


def trace(taskmaster: Taskmaster, recorder: Recorder) -> None:
    """Have `taskmaster`, which does not run yet, be recorded: it is of a class derived from its own from now on."""
    kind = type(taskmaster)
    taskmaster.__class__ = type(kind.__name__, (_Traced, kind), {"recorder": recorder})


def traced_handler(handler: Handler, recorder: Recorder) -> Handler:
    """`handler`, which marks when it begins and ends."""
    find_lane = recorder.lane

    @functools.wraps(handler)
    def answer(request: Request) -> Any:
        lane = find_lane()
        lane.mark("H")
        try:
            return handler(request)
        finally:
            lane.mark("W")

    return answer


def traced_wire(wire: type[Wire], recorder: Recorder) -> type[Wire]:
    """`wire`, which marks when a thread that has answered begins to wait for its client, and when something comes."""
    find_lane, receive, next_request = recorder.lane, wire.receive, wire.next_request

    class TracedWire(wire):  # type: ignore[valid-type, misc]  # whichever it is
        __slots__ = ()

        def receive(self, data: bytes) -> None:
            lane = find_lane()
            if lane.events[-1][1] == "K":  # as lane.state, at half the price: all this is done for every request
                lane.mark("R")
            receive(self, data)

        def next_request(self) -> bool:
            has_come = next_request(self)
            lane = find_lane()
            if lane.events[-1][1] == "W":
                lane.mark("R" if has_come else "K")
            return has_come

    return TracedWire
