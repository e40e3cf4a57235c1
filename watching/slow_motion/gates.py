"""Gates: where the threads of a staged model stand until they are let go; and how to know that nothing moves any more.

A thread `hold`s itself wherever the acceptor has it: as it starts, in accept(), with a connection it has just accepted,
in the handler. There it stands until its gate is opened, which only the stage does, for one thread at a time, and only
when all are *at rest*: at a gate, or waiting for another thread on a condition of the taskmaster's own. Nobody can move
then but by the stage's doing. So what happens between two openings is what one thread did, and those it woke.

How to know that a thread waits for another, and has not been notified meanwhile? A threading.Condition has a list of
the locks that its waiters wait on, `_waiters`; notify() takes a lock out when it releases it (CPython's
Lib/threading.py; a private name, in 3.11 to 3.14). `Gates.at_rest_locked` counts them, and looks twice:

    1. worker 1 waits on the condition; it is counted
    2. worker 2, which moves, notifies it, and comes to its own gate
    3. worker 2 is counted as standing: everybody seems to be at rest, though worker 1 is on its way

The second look finds the lock of worker 1 gone. Each wait has a lock of its own, so two looks that find the same locks,
and the same threads at gates, have found all of them at rest in between.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["Gates", "Lane", "StageError", "replace_locks"]


class StageError(AssertionError):
    """The script expects what cannot happen, or the model does what it must not; the message shows all lanes."""


class Lane:
    """A thread of the story, and where it is. Guarded by the condition of its `Gates`."""

    def __init__(self, name: str, *, hidden: bool = False) -> None:
        self.name = name
        self.hidden = hidden
        """It runs what the script has called, and is not shown."""
        self.thread: threading.Thread | None = None
        """None until it has begun to run."""
        self.letter = "S"
        """Its state at this gate, as in `watching.slow_motion.story.STATES`."""
        self.client: Any = None
        self.until: Callable[[], bool] | None = None
        self.patient = True
        self.held = False
        self.since = 0
        """The number of the move in which it came to its gate."""
        self.ended = False
        self.seen_off = False
        """It has been recorded that it left."""


class Gates:
    """All lanes of a stage."""

    def __init__(self, changed: threading.Condition) -> None:
        self.changed = changed
        """Guards the lanes; notified when one comes to its gate, or is let go."""
        self.lanes: list[Lane] = []
        self.watched: list[object] = []
        """Who may have conditions on which a thread waits for another one: the taskmaster."""
        self.moves = 0
        """How often a gate has been opened."""
        self.free = False
        """Nobody is held any more: the story is over."""
        self._of_thread: dict[threading.Thread, Lane] = {}

    # For the threads.

    def run(self, lane: Lane, target: Callable[[], object]) -> None:
        """The outermost call of a thread: all that it does is `target()`."""
        with self.changed:
            lane.thread = threading.current_thread()
            self._of_thread[lane.thread] = lane
        try:
            if not lane.hidden:
                self.hold("S")
            target()
        finally:
            with self.changed:
                lane.ended = True
                self.changed.notify_all()

    def hold(self, letter: str, client: Any = None, until: Callable[[], bool] | None = None, *, patient: bool = True
             ) -> None:
        """The calling thread stands here, in state `letter`, until its gate is opened; one without a lane passes.

        client: whose connection it has.
        until: when the gate may be opened; None: at any time.
        patient: in accept(), without a timeout.
        """
        with self.changed:
            lane = self._of_thread.get(threading.current_thread())
            if lane is None or self.free:
                return
            lane.letter, lane.client, lane.until, lane.patient = letter, client, until, patient
            lane.held, lane.since = True, self.moves
            self.changed.notify_all()
            self.changed.wait_for(lambda: not lane.held or self.free)
            lane.held, lane.client = False, None

    def standing(self) -> Lane | None:
        """The lane of the calling thread."""
        return self._of_thread.get(threading.current_thread())

    # For the stage. What ends in `_locked` is called with `changed` held.

    def open_locked(self, lane: Lane) -> None:
        self.moves += 1
        lane.held = False
        self.changed.notify_all()

    def set_free(self) -> None:
        with self.changed:
            self.free = True
            self.changed.notify_all()

    def held_locked(self) -> list[Lane]:
        """Those that stand at a gate."""
        return [lane for lane in self.lanes if lane.held]

    def moving_locked(self) -> list[Lane]:
        """Those that are at no gate, and have not ended: each moves, or waits for another."""
        return [lane for lane in self.lanes if not lane.held and not _over(lane)]

    def at_rest_locked(self) -> bool:
        """Nobody moves, and nobody will, unless a gate is opened. See the module for why it looks twice."""
        moving = self.moving_locked()
        if any(lane.ended or lane.thread is None for lane in moving):
            return False
        waiting = self._waiting()
        return not moving or (len(moving) == len(waiting) and waiting == self._waiting())

    def _waiting(self) -> list[Any]:
        return [waiter for condition in _conditions(self.watched) if condition is not self.changed
                for waiter in condition._waiters.copy()]  # type: ignore[attr-defined]  # see the module


def _over(lane: Lane) -> bool:
    return lane.ended and lane.thread is not None and not lane.thread.is_alive()


def _conditions(things: Iterable[object]) -> list[threading.Condition]:
    """Those that are attributes of `things`, or in a list, deque or dict that is one, or attributes of what is: of an
    event, a semaphore, a queue."""
    attributes = [value for thing in things for value in vars(thing).copy().values()]
    attributes += [each for value in attributes if isinstance(value, (list, deque)) for each in value.copy()]
    attributes += [each for value in attributes if isinstance(value, dict) for each in value.copy().values()]
    inner = [each for value in attributes if hasattr(value, "__dict__") for each in vars(value).copy().values()]
    return list(dict.fromkeys(each for each in attributes + inner if isinstance(each, threading.Condition)))


class _WatchedLock(threading.Semaphore):
    """In place of a threading.Lock, which does not tell who waits for it: this one has a condition."""

    def locked(self) -> bool:
        return self._value == 0


def replace_locks(taskmaster: object) -> None:
    """Put locks that can be watched in place of the plain ones that `taskmaster` has as attributes; before the start.

    Not of those that guard a condition: who waits for one of these waits for a moment, and not to be called.
    """
    guards = [getattr(condition, "_lock", None) for condition in _conditions([taskmaster])]
    for name, value in vars(taskmaster).copy().items():
        if isinstance(value, type(threading.Lock())) and not any(value is guard for guard in guards):
            setattr(taskmaster, name, _WatchedLock())
