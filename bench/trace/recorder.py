"""What each thread has done and when, in a lane of its own: the states of a thread, and who keeps them.

A lane is written by its thread alone, and read when that has ended, or has nothing more to do. So there is nothing to
lock, with a GIL or without one. What is recorded of a state is its beginning: it lasts until the next one. Where a
thread has to wait for the GIL, or for a core, that is part of the state in which it does.
"""

from __future__ import annotations

import json
import os
import threading
from collections import deque
from pathlib import Path
from time import perf_counter_ns

__all__ = ["MOST_EVENTS", "STATES", "Lane", "Recorder"]

STATES = {
    "S": "starting",
    "A": "in accept()",
    "Q": "finds it a thread",
    "R": "reads a request",
    "H": "handler",
    "W": "writes, closes",
    "K": "waits for its client",
    "P": "parks",
    "C": "refuses",
    "_": "waits for a hand-off",
    "X": "leaves",
}
"""What a thread does, by the letter that is recorded.

    Q   it has a connection from accept(), and sees to it that it is served: queues it, wakes a thread, starts one, or
        finds that it is to serve it itself
    R   from the beginning of process_connection(), or from the first bytes of a further request, to the handler
    W   from the end of the handler to the next request, or to the end of process_connection()
    K   it holds a connection whose client has its answer, and says nothing
    _   it waits for another thread to give it something, or is between two steps
    X   accept() has told it that the server stops
"""
MOST_EVENTS = 200_000
"""Of one lane; beyond that the oldest are forgotten."""


class Lane:
    """What one thread has done. Written by that thread alone."""

    __slots__ = ("_append", "events", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.events: deque[tuple[int, str, int]] = deque(maxlen=MOST_EVENTS)
        """(nanoseconds of perf_counter, state from then on, the connection that it is about, or 0)."""
        self._append = self.events.append

    @property
    def state(self) -> str:
        """The last one."""
        return self.events[-1][1]

    def mark(self, state: str, connection: int = 0) -> None:
        """The thread is in `state` from now on."""
        self._append((perf_counter_ns(), state, connection))


class _Mine(threading.local):
    """Of each thread."""

    lane: Lane | None = None


class Recorder:
    """All lanes of a process."""

    def __init__(self) -> None:
        self._mine = _Mine()
        self._lock = threading.Lock()
        """Guards the list of lanes, not what is in them."""
        self._lanes: list[Lane] = []

    def lane(self) -> Lane:
        """The calling thread's."""
        return self._mine.lane or self.begin(threading.current_thread().name)

    def begin(self, name: str, asked_ns: int | None = None) -> Lane:
        """The calling thread's life begins. asked_ns: when somebody wanted to have it."""
        lane = self._mine.lane = Lane(name)
        if asked_ns is not None:
            lane.events.append((asked_ns, "S", 0))
        lane.mark("_")
        with self._lock:
            self._lanes.append(lane)
        return lane

    def end(self) -> None:
        """It is over."""
        self.lane().mark(".")

    def forget_the_dead(self) -> None:
        """Of a thread for each connection, many have come and gone in a warm-up."""
        with self._lock:
            self._lanes = [lane for lane in self._lanes if lane.state != "."]

    def write(self, folder: Path) -> None:
        """Into a file of this process; a line of JSON for each lane. When no traced thread does anything any more."""
        with open(folder / f"{os.getpid()}.jsonl", "w", encoding="utf-8") as file:
            for lane in self._lanes:
                times, states, connections = zip(*lane.events, strict=True)
                print(json.dumps({"process": os.getpid(), "name": lane.name, "full": len(times) == MOST_EVENTS,
                                  "times": times, "states": "".join(states), "connections": connections}), file=file)
