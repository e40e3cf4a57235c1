"""What each thread of a server does, step by step: recorded while somebody wants to know, between two calls.

    recording = acceptor.record()
    ...
    recording.stop()
    for lane in recording.lanes: print(lane.thread.name, lane.steps)

A thread that takes a step of the server appends it to its own lane. So a lane has one writer, and nothing is locked,
with a GIL or without one: whoever reads it meanwhile copies it, which a deque does as one operation. The clock is
time.monotonic, on Linux one for all processes (clock_gettime(2), CLOCK_MONOTONIC).

It costs nothing as long as nobody records: the steps that a taskmaster takes are others meanwhile (`RecordedSteps`),
and what happens within one is written by its connection, if that has a lane. While it records, a request costs some
20 % of CPU more, so it is for a moment: 20 ms of a busy server are hundreds of requests.

A state lasts until the next step of its lane. Where a thread waits for the GIL, or for a core, that is part of the
state in which it does.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias

from acceptor.connection import Connection
from acceptor.listen_socket import waited_in_kernel
from acceptor.phases import Phase
from acceptor.registry import Registry
from taskmaster.base import ThreadState

if TYPE_CHECKING:
    from acceptor.run import Run

__all__ = ["LETTERS", "MOST_STEPS", "STATES", "WITHOUT", "Lane", "RecordedSteps", "Recording", "Step"]

STATES = {
    "S": "starting",
    "A": "in accept()",
    "Q": "finds it a thread",
    "R": "reads a request",
    "H": "handler",
    "W": "writes the response",
    "K": "waits for its client",
    "C": "closes, refuses",
    "_": "between two steps, or waits",
    "X": "leaves",
    ".": "no thread",
}
"""What a thread does, by the letter that is recorded; those of Apache's scoreboard where it has one.

    S   it is to begin
    A   it waits in accept()
    Q   it has a connection from accept(), or a job, and sees to it that it is served: queues it, wakes a thread, starts
        one, or finds that it is to serve it itself. about: the client's host and port, and the seconds for which the
        connection had waited in the kernel; None if it is no new one, or the system does not tell
    R   from the beginning of process_connection(), or the first bytes of a further request, to the handler; and while
        the handler waits for the request's body
    H   about: (method, target); None when it goes on, its body having come
    W   from the end of the handler until the response has been sent, and its connection closed
    K   it holds a connection whose client has its answer, and says nothing
    C   about: "refused", it has the connection refused; "abandoned", nobody serves it
    _   between two steps: it waits for another thread, or has just done something. about: "parked", the connection is
        idle, and is given back; "closed", it is over; "detached", it is somebody else's now; "done", a job of an
        executor
    X   accept() has told it that the server stops
"""

LETTERS = {
    Phase.ACCEPTED: "Q", Phase.FRESH: "R", Phase.HANDSHAKE: "R", Phase.READING: "R", Phase.HANDLING: "H",
    Phase.RECEIVING: "R", Phase.STREAMING: "W", Phase.WRITING: "W", Phase.IDLE: "K", Phase.CLOSING: "W",
    Phase.DETACHED: "H",
}
"""The state of a thread that has a connection in this phase."""
WITHOUT = {
    ThreadState.STARTING: "S", ThreadState.ACCEPTING: "A", ThreadState.WAITING: "_", ThreadState.SERVING: "Q",
    ThreadState.LEAVING: "X",
}
"""That of one without a connection, by what its taskmaster knows of it. (SERVING: it is about to have one.)"""

Step: TypeAlias = tuple[float, str, int, Any]
"""(time.monotonic(), state from then on, number of the connection or 0, about: see `STATES`)."""

MOST_STEPS = 100_000
"""Kept of each lane; the oldest are forgotten."""


class Lane:
    """What one thread has done. Written by that thread; before its first step, by whoever begins the recording."""

    __slots__ = ("step", "steps", "thread")

    def __init__(self, thread: threading.Thread) -> None:
        self.thread = thread
        self.steps: deque[Step] = deque(maxlen=MOST_STEPS)
        self.step = self.steps.append
        """Write a step."""

    def copy(self) -> list[Step]:
        """Its steps until now, the oldest first. Any thread."""
        while True:
            try:
                return list(self.steps.copy())
            except RuntimeError:  # "deque mutated during iteration": where copy() is not one operation
                continue


class Recording:
    """Made by `Acceptor.record`. All of it by any thread, `lanes` also meanwhile."""

    def __init__(self, end: Callable[[Recording], None]) -> None:
        self._end = end
        self._lanes: dict[threading.Thread, Lane] = {}
        """Each thread puts in its own."""
        self.begun = monotonic()
        self.ended: float | None = None
        """When it was stopped."""

    @property
    def lanes(self) -> list[Lane]:
        """One for each thread that has taken a step, in the order of their first. A copy."""
        return list(self._lanes.copy().values())

    def lane(self) -> Lane:
        """The calling thread's."""
        me = threading.current_thread()
        lane = self._lanes.get(me)
        return lane if lane is not None else self._lanes.setdefault(me, Lane(me))

    def enter(self, registry: Registry) -> None:
        """What has begun before, and may last: threads that serve a connection now have a lane from now on.

        Once the steps are recorded, so that nothing is between the two. The owner of a connection cannot change while
        it is looked at, so no connection gets the lane of a thread that does not have it any more. A job of an executor
        that runs already is not seen: nobody knows its thread.
        """
        threads = {thread.ident: thread for thread in threading.enumerate()}

        def enter(connection: Connection, owner: int) -> None:
            thread = threads.get(owner)
            if thread is None or thread in self._lanes:  # nobody serves it; or that one has taken a step meanwhile
                return
            lane = self._lanes.setdefault(thread, Lane(thread))
            head = connection.head
            about = (head.method, head.target) if head is not None and connection.phase is Phase.HANDLING else None
            lane.step((self.begun, LETTERS[connection.phase], connection.number, about))
            connection.lane = lane

        registry.each(enter, attended=True)

    def stop(self) -> None:
        """Record no more; a second call does nothing. A thread in the middle of a step may still write one or two."""
        if self.ended is None:
            self.ended = monotonic()
            self._end(self)


class RecordedSteps:
    """The steps of `run`, each of which writes where its thread is. Keeps `taskmaster.base.AcceptorSteps`."""

    def __init__(self, run: Run, recording: Recording) -> None:
        self._run = run
        self._recording = recording
        self._lane = recording.lane

    def accept(self, timeout: float | None = None) -> Connection | None:
        lane = self._lane()
        lane.step((monotonic(), "A", 0, None))
        try:
            connection = self._run.accept(timeout)
        except TimeoutError:
            lane.step((monotonic(), "_", 0, None))
            raise
        if connection is None:
            lane.step((monotonic(), "X", 0, None))
        else:
            waited = waited_in_kernel(connection.stream.raw) if not connection.resumed else None
            lane.step((monotonic(), "Q", connection.number, (*connection.address, waited)))
        return connection

    def process_connection(self, connection: Connection) -> None:
        self._begin(connection)
        self._run.process_connection(connection)

    def process_until_idle(self, connection: Connection, go_on: Callable[[], bool]) -> bool:
        self._begin(connection)
        return self._run.process_until_idle(connection, go_on)

    def process_without_waiting(self, connection: Connection, offload: Executor | None) -> bool:
        self._begin(connection)
        return self._run.process_without_waiting(connection, offload)

    def park(self, connection: Connection) -> bool:
        number, about = connection.number, (*connection.address, None)
        if self._run.park(connection):
            return True
        self._lane().step((monotonic(), "Q", number, about))  # the server stops: it has it again
        return False

    def refuse(self, connection: Connection) -> None:
        self._lane().step((monotonic(), "C", connection.number, "refused"))
        self._run.refuse(connection)

    def abandon(self, connection: Connection) -> None:
        self._lane().step((monotonic(), "C", connection.number, "abandoned"))
        self._run.abandon(connection)

    def _begin(self, connection: Connection) -> None:
        """From now on it writes its steps itself, its end too, until that."""
        lane = connection.lane = self._lane()
        lane.step((monotonic(), "R", connection.number, None))
        if self._recording.ended is not None:  # `stop` may have looked at this connection before it had the lane
            connection.lane = None
