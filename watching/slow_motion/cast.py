"""Which threads play: those of the taskmaster, those of its executor, and those that call something for the script.

Each has a lane from before it is started, so that nobody is overlooked who is about to be there.
"""

from __future__ import annotations

import functools
import threading
import time
from collections import Counter
from collections.abc import Callable

from taskmaster.base import Taskmaster
from watching.slow_motion.executor import StagedExecutor
from watching.slow_motion.gates import Gates, Lane, replace_locks
from watching.slow_motion.story import EXECUTOR

__all__ = ["Cast"]

_ROLES = {"accept": "accepting thread", "recycling": "thread", "single": "the thread", "loop": "the loop"}
"""How a lane is called whose thread's name begins so; the others as that does."""
_ALONE = ("accept", "single", "loop")
"""Of these there is one, which needs no number."""


class Cast:
    """From `begin` to `end`, the threads that `taskmaster` starts have lanes in `gates`."""

    def __init__(self, taskmaster: Taskmaster, gates: Gates, server: str) -> None:
        self._taskmaster = taskmaster
        self._gates = gates
        self._server = server
        """Its name, which stands in the names of threads."""
        self._roles = Counter[str]()

    @property
    def lanes(self) -> list[Lane]:
        """Those that are shown, in the order in which they were started."""
        return [lane for lane in self._gates.lanes if not lane.hidden]

    def begin(self) -> None:
        """ValueError if the taskmaster offloads to an executor that is none of ours."""
        self._executor = self._staged_executor()
        if self._executor is not None:
            self._executor.begin()
        replace_locks(self._taskmaster)
        self._gates.watched = [self._taskmaster]
        self._own_start_thread = vars(self._taskmaster).get("start_thread")
        self._start_thread = self._taskmaster.start_thread
        self._taskmaster.start_thread = self._start_lane  # type: ignore[method-assign]

    def start_executor(self) -> None:
        if self._executor is not None:
            for number in range(self._executor.threads):
                self._start(Lane(f"{EXECUTOR} {number + 1}"), functools.partial(self._executor.work, number))

    def start_hidden(self, target: Callable[[], object], name: str) -> Lane:
        """A thread that calls `target` for the script: it begins at once, and is not shown."""
        return self._start(Lane(f"{name}()", hidden=True), target)

    def end(self, patience: float) -> list[str]:
        """Join them; the names of those that have not ended after `patience` seconds."""
        if self._executor is not None:
            self._executor.shutdown()
        end = time.monotonic() + patience
        for lane in self._gates.lanes:
            if lane.thread is not None:
                lane.thread.join(max(0.0, end - time.monotonic()))
        if self._own_start_thread is None:
            del self._taskmaster.start_thread
        else:
            self._taskmaster.start_thread = self._own_start_thread  # type: ignore[method-assign]
        return [lane.name for lane in self._gates.lanes if lane.thread is not None and lane.thread.is_alive()]

    def _staged_executor(self) -> StagedExecutor | None:
        offload = getattr(self._taskmaster, "offload", None)
        if offload is None or isinstance(offload, StagedExecutor):
            return offload
        raise ValueError(f"offload={offload!r}: its threads cannot be staged; pass StagedExecutor(2)")

    def _start_lane(self, target: Callable[[], None], name: str) -> None:
        """In place of the taskmaster's `start_thread`: the same, for a thread that has a lane."""
        role = name.partition(f"-{self._server}")[0].rstrip("-0123456789") or "thread"
        self._roles[role] += 1
        word = _ROLES.get(role, role)
        lane = Lane(word if role in _ALONE else f"{word} {self._roles[role]}")
        with self._gates.changed:
            self._gates.lanes.append(lane)
        try:
            self._start_thread(lambda: self._gates.run(lane, target), name)
        except BaseException:
            with self._gates.changed:
                if lane.thread is None:  # it has not been started
                    self._gates.lanes.remove(lane)
                    self._roles[role] -= 1
            raise

    def _start(self, lane: Lane, target: Callable[[], object]) -> Lane:
        with self._gates.changed:
            self._gates.lanes.append(lane)
        threading.Thread(target=self._gates.run, args=(lane, target), name=lane.name, daemon=True).start()
        return lane
