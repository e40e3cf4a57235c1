"""Rows for threads: where each is now, and what it has done.

A thread that begins gets the lowest row that no other has, and keeps it until it has ended. So a thread for each
connection needs as many rows as there are threads at one time.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Iterable, Mapping

from acceptor.connection import Connection
from acceptor.phases import Phase
from acceptor.recording import LETTERS, WITHOUT, Recording, Step
from taskmaster.base import ThreadState
from watching.messages import LaneNow, LaneSteps

__all__ = ["Rows", "lanes_now", "lanes_of"]

_KEPT = 60.0
"""Seconds for which the last rows are kept when they have no thread any more."""


class Rows:
    """Which thread has which row. Not for two threads at once."""

    def __init__(self) -> None:
        self._of_thread: dict[threading.Thread, int] = {}
        self._free: list[int] = []
        """A heap."""
        self._used: dict[int, float] = {}
        """When each row had a thread, last."""
        self.count = 0
        """Rows that there have been lately."""

    def assign(self, threads: Iterable[threading.Thread], at: float) -> dict[threading.Thread, int]:
        """The row of each of `threads`, which are all that there are now. A copy. at: the time."""
        now = dict.fromkeys(threads)
        for thread in [thread for thread in self._of_thread if thread not in now]:
            heapq.heappush(self._free, self._of_thread.pop(thread))
        for thread in now:
            if thread not in self._of_thread:
                if not self._free:
                    heapq.heappush(self._free, self.count)
                    self.count += 1
                self._of_thread[thread] = heapq.heappop(self._free)
        self._used.update(dict.fromkeys(self._of_thread.values(), at))
        while self.count and self._used[self.count - 1] < at - _KEPT:  # the last, and it has had no thread for long
            self.count -= 1
            self._free.remove(self.count)
            heapq.heapify(self._free)
        return dict(self._of_thread)


def lanes_now(rows: Rows, threads: Mapping[threading.Thread, ThreadState],
              attended: Iterable[tuple[Connection, int]], now: float, queries: bool) -> list[LaneNow]:
    """Where each thread is: all rows there have been lately, by number.

    threads: as `Register.states` has them. attended: as `Run.attended` has them. queries: whether those of requests
    are shown.

    Nothing has been written down for it: a connection knows its phase, and who has it.
    """
    of_thread = {owner: connection for connection, owner in attended if owner > 0}
    lanes: list[LaneNow] = []
    for thread, row in rows.assign(threads, now).items():
        ident = thread.ident or 0
        # Of one that is leaving a new thread may have the ident by now.
        connection = of_thread.get(ident) if threads[thread] is not ThreadState.LEAVING else None
        request = None
        if connection is None:
            state, number, since = WITHOUT[threads[thread]], 0, None
        else:
            phase, since, number = connection.phase, connection.since, connection.number
            state = LETTERS[phase]
            if (head := connection.head) is not None and phase not in (Phase.FRESH, Phase.READING, Phase.IDLE):
                request = f"{head.method} {shown(head.target, queries)}"
        lanes.append(LaneNow(lane=row, thread=thread.name, ident=ident, state=state, since=since, connection=number,
                             request=request, client=connection.peer if connection is not None else None))
    taken = {lane["lane"] for lane in lanes}
    lanes += [LaneNow(lane=row, thread=None, ident=0, state=".", since=None, connection=0,
                      request=None, client=None) for row in range(rows.count) if row not in taken]
    return sorted(lanes, key=lambda lane: lane["lane"])


def shown(target: str, queries: bool) -> str:
    """A request's target; without its query, where secrets may be, unless those are to be shown."""
    path, mark, query = target.partition("?")
    return target if queries or not query else f"{path}{mark}..."


def lanes_of(recording: Recording, known: Mapping[threading.Thread, int],
             threads: Mapping[threading.Thread, ThreadState], queries: bool) -> list[LaneSteps]:
    """What each thread has done in `recording`, which has been stopped, by rows.

    threads: those that there were when it began, with their states then; known: their rows. Others get the lowest rows
    behind, one after the other in the same row if they lived one after the other.
    """
    assert recording.ended is not None
    steps = {lane.thread: [_shown(step, queries) for step in lane.copy()] for lane in recording.lanes}
    behind = max(known.values(), default=-1) + 1
    found: list[LaneSteps] = []
    for thread, state in threads.items():
        own = steps.pop(thread, [])
        if not own or own[0][0] > recording.begun:
            own.insert(0, (recording.begun, WITHOUT[state], 0, None))
        found.append(LaneSteps(lane=known[thread], thread=thread.name, steps=_ended(thread, own)))
    ends: list[float] = []
    """Of those in each row behind, until when it is taken."""
    for thread, own in sorted(steps.items(), key=lambda item: item[1][0][0] if item[1] else 0.0):
        if not own:
            continue
        own = _ended(thread, own)
        place = next((place for place, end in enumerate(ends) if end < own[0][0]), len(ends))
        ends[place:place + 1] = [own[-1][0] if own[-1][1] == "." else float("inf")]
        found.append(LaneSteps(lane=behind + place, thread=thread.name, steps=own))
    return sorted(found, key=lambda lane: (lane["lane"], lane["steps"][0][0]))


def _shown(step: Step, queries: bool) -> Step:
    time, state, connection, about = step
    return (time, state, connection, (about[0], shown(about[1], queries))) if state == "H" and about else step


def _ended(thread: threading.Thread, steps: list[Step]) -> list[Step]:
    """With its end, if it has ended: of that nothing is known but that it was after its last step."""
    if thread.is_alive():
        return steps
    return [*steps, (steps[-1][0], ".", 0, None)]
