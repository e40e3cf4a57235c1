"""What follows from what has been recorded: intervals, hand-offs, waits, counters, rows. Arithmetic only.

A *wait* is the time from accept(), or from a job's submission, until a thread takes it up, on whichever threads: so
long a connection has waited inside the server. What it waited in the kernel before it was accepted, nobody sees here.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from bench.trace.recorder import STATES
from bench.trace.tracks import Event, Handoff, Interval, Numbers, Serving, Track

__all__ = ["PHASES", "Row", "Trace"]

PHASES = ("accepted, and waits for a thread", "read", "handler", "written, closed")
"""Of a request inside the server, in order. In each the wait for the GIL, and for a core, is included."""


@dataclass
class Row:
    """Where tracks are drawn that do not overlap: a row for each thread, unless they live one after the other."""

    label: str
    tracks: list[Track] = field(default_factory=list)


class Trace:
    """What happened from `begin` to `end`, nanoseconds of the clock that the events have."""

    def __init__(self, tracks: Iterable[Track], begin: int, end: int) -> None:
        self.all_tracks = list(tracks)
        self.begin, self.end = begin, end
        self.tracks = [track for track in self.all_tracks if track.begin < end and track.end > begin]
        self.handoffs: list[Handoff] = []
        """Those that have been taken in this time, perhaps given before."""
        self.waits: list[int] = []
        """Nanoseconds, of each time that a connection has been taken up by a thread."""
        self._numbers: list[Numbers] = []
        self._serving: dict[Track, list[tuple[int, int]]] = {track: [] for track in self.all_tracks}
        """(when it begins, the connection's number)."""
        self._written: dict[Track, set[int]] = {track: set() for track in self.all_tracks}
        """Where it begins to write what another thread's handler has answered."""
        for process in dict.fromkeys(track.process for track in self.all_tracks):
            _Replay(self, [track for track in self.all_tracks if track.process == process], self._serving,
                    self._written, self._numbers)
        self._numbers.sort()

    def part(self, begin: int, end: int) -> Trace:
        """A shorter time of the same."""
        return Trace(self.all_tracks, begin, end)

    @property
    def arrows(self) -> list[Handoff]:
        """The hand-offs of which both ends are in this time."""
        return [handoff for handoff in self.handoffs if handoff.given >= self.begin]

    def intervals(self, track: Track) -> Iterator[Interval]:
        """Its states, those at the edges cut; none of them is empty."""
        written = self._written[track]
        events = track.events
        for event, following in zip(events, [*events[1:], None], strict=True):
            if event.state == ".":
                return
            until = self.end if following is None else following.ns
            begin, end = max(event.ns, self.begin), min(until, self.end)
            if begin < end:
                yield Interval("W" if event.state == "R" and event.ns in written else event.state, begin, end)

    def servings(self, track: Track) -> Iterator[Serving]:
        """When it had which connection; those at the edges cut."""
        ends = [event.ns for event in track.events if event.state in "_."]
        for begin, number in self._serving[track]:
            place = bisect_right(ends, begin)
            end = ends[place] if place < len(ends) else self.end
            if (since := max(begin, self.begin)) < (until := min(end, self.end)):
                yield Serving(number, since, until)

    @cached_property
    def numbers(self) -> list[Numbers]:
        """The counters, whenever one of them changes, of all processes together; the first is how it began."""
        found = [Numbers(self.begin, 0, 0, 0)]
        totals = [0, 0, 0]
        for ns, *changes in self._numbers:
            totals = [total + change for total, change in zip(totals, changes, strict=True)]
            if ns <= self.begin:
                found[0] = Numbers(self.begin, *totals)
            elif ns < self.end:
                found.append(Numbers(ns, *totals))
        return found

    @cached_property
    def requests(self) -> int:
        """Handlers that have begun."""
        return sum(self.begin <= event.ns < self.end and event.state == "H"
                   for track in self.tracks for event in track.events)

    @cached_property
    def times(self) -> Counter[str]:
        """Nanoseconds of all threads together, by state."""
        times: Counter[str] = Counter()
        for track in self.tracks:
            for state, begin, end in self.intervals(track):
                times[state] += end - begin
        return times

    @property
    def shares(self) -> Mapping[str, float]:
        """Of the time of all threads, by state, in the order of `STATES`; what does not occur is left out."""
        return {state: self.times[state] / self.times.total() for state in STATES if self.times[state]}

    @property
    def phases_us(self) -> Mapping[str, float]:
        """What a request's time consists of, inside the server: microseconds of each of `PHASES`, on average. Empty if
        there was no request."""
        if not self.requests:
            return {}
        spent = {"accepted, and waits for a thread": sum(self.waits), "read": self.times["R"],
                 "handler": self.times["H"], "written, closed": self.times["W"] + self.times["C"]}
        return {phase: spent[phase] / self.requests / 1e3 for phase in PHASES}

    def rows(self) -> list[Row]:
        """A row for each track, in the order in which they began. One whose thread has ended is used again by the next
        of the same kind, so that a thread for each connection fits on a page."""
        found: dict[tuple[int, str], list[Row]] = {}
        processes = list(dict.fromkeys(track.process for track in self.tracks))
        for track in self.tracks:
            rows = found.setdefault((track.process, track.role), [])
            row = next((row for row in rows if row.tracks[-1].end <= track.begin), None)
            if row is None:
                where = f"{processes.index(track.process) + 1}: " if len(processes) > 1 else ""
                row = Row(f"{where}{track.role} {len(rows) + 1}")
                rows.append(row)
            row.tracks.append(track)
        for rows in found.values():
            if len(rows) == 1:
                rows[0].label = rows[0].label.removesuffix(" 1")
        return [row for rows in found.values() for row in rows]

    @property
    def full(self) -> bool:
        """Something that it should hold has been forgotten."""
        return any(track.full and track.begin > self.begin for track in self.tracks)


class _Replay:
    """Everything that has happened in one process, once more and in order.

    Connections are known by their address in memory, which another may have when one is over. So one that comes from
    accept(), and has not been parked, is a new one.
    """

    def __init__(self, trace: Trace, tracks: Sequence[Track], serving: Mapping[Track, list[tuple[int, int]]],
                 written: Mapping[Track, set[int]], numbers: list[Numbers]) -> None:
        self._trace, self._serving, self._written, self._numbers = trace, serving, written, numbers
        self._given: dict[int, tuple[Track, int]] = {}
        """Connections that wait for a thread: who had them, since when."""
        self._parked: set[int] = set()
        self._done: dict[int, tuple[Track, int]] = {}
        """Connections whose job is done, and which nobody has noticed yet."""
        self._names: dict[int, int] = {}
        self._name = itertools.count(1)
        """The connections' numbers, and the next one."""
        before: dict[Track, str] = {}
        merged = sorted(((event, track) for track in tracks for event in track.events), key=lambda pair: pair[0].ns)
        for event, track in merged:
            self._step(event, track, before.get(track, ""))
            before[track] = event.state

    def _step(self, event: Event, track: Track, before: str) -> None:
        ns, state, connection = event
        queued, parked = len(self._given), len(self._parked)
        threads = (not before) - (state == ".")
        if connection:
            if state == "Q":
                self._give(ns, track, connection, accepted=before == "A")
            elif state == "R":
                self._take(ns, track, connection)
            elif state == "P":
                self._parked.add(connection)
            elif state == "C":
                self._given.pop(connection, None)
            elif state == "_":
                self._done[connection] = track, ns
        changes = len(self._given) - queued, len(self._parked) - parked, threads
        if any(changes):
            self._numbers.append(Numbers(ns, *changes))

    def _give(self, ns: int, track: Track, connection: int, accepted: bool) -> None:
        if accepted:
            if connection not in self._parked:
                self._names[connection] = next(self._name)
            if (done := self._done.get(connection)) is not None:
                self._hand_off(*done, track, ns)
        self._parked.discard(connection)
        self._given[connection] = track, ns

    def _take(self, ns: int, track: Track, connection: int) -> None:
        if (given := self._given.pop(connection, None)) is not None:
            if self._trace.begin <= ns < self._trace.end:
                self._trace.waits.append(ns - given[1])
            self._hand_off(*given, track, ns)
        if self._done.pop(connection, None) is not None:
            self._written[track].add(ns)
        if connection not in self._names:  # the recording begins in the middle
            self._names[connection] = next(self._name)
        self._serving[track].append((ns, self._names[connection]))

    def _hand_off(self, source: Track, given: int, target: Track, taken: int) -> None:
        if source is not target and self._trace.begin <= taken < self._trace.end:
            self._trace.handoffs.append(Handoff(source, given, target, taken))
