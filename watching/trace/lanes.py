"""What follows from what has been recorded: intervals, hand-offs, waits, counters, rows. Arithmetic only.

A *wait* is the time from accept(), or from a job's submission, until a thread takes it up, on whichever threads: so
long a connection has waited inside the server. What it waited in the kernel before it was accepted is not in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from acceptor.listen_socket import LINUX
from acceptor.recording import STATES
from watching.trace.tracks import Event, Handoff, Interval, Numbers, Serving, Track

__all__ = ["Row", "Trace"]


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
        self.tracks = [track for track in self.all_tracks if max(track.begin, begin) < min(track.end, end)]
        self._replays = {process: _Replay([track for track in self.all_tracks if track.process == process])
                         for process in dict.fromkeys(track.process for track in self.all_tracks)}

    def part(self, begin: int, end: int) -> Trace:
        """A shorter time of the same."""
        return Trace(self.all_tracks, begin, end)

    @cached_property
    def handoffs(self) -> list[Handoff]:
        """Those that have been taken in this time, perhaps given before."""
        return [handoff for replay in self._replays.values() for handoff in replay.handoffs
                if self.begin <= handoff.taken < self.end]

    @property
    def arrows(self) -> list[Handoff]:
        """The hand-offs of which both ends are in this time, and on a thread that goes on."""
        return [handoff for handoff in self.handoffs if handoff.given >= self.begin
                and handoff.given < handoff.source.end and handoff.taken < handoff.target.end]

    @cached_property
    def waits(self) -> list[int]:
        """Nanoseconds, of each time that a thread has taken up a connection."""
        return [taken - given for replay in self._replays.values() for given, taken in replay.waits
                if self.begin <= taken < self.end]

    def intervals(self, track: Track) -> Iterator[Interval]:
        """Its states, those at the edges cut; none of them is empty."""
        request: tuple[int, str] | None = None
        before = ""
        events = track.events
        for event, following in zip(events, [*events[1:], None], strict=True):
            state, connection = event.state, event.connection
            if state == ".":
                return
            if state == "H" and event.about is not None:
                request = connection, " ".join(event.about)
            elif state not in "RHW" or (state == "R" and before != "H"):  # else it reads that request's body
                request = None
            before = state
            begin, end = max(event.ns, self.begin), min(self.end if following is None else following.ns, self.end)
            if begin < end:
                yield Interval(state, begin, end, connection,
                               request[1] if request is not None and request[0] == connection else None, event.about)

    def servings(self, track: Track) -> Iterator[Serving]:
        """When it had which connection; those at the edges cut."""
        for number, begin, end in self._replays[track.process].servings[track]:
            if (since := max(begin, self.begin)) < (until := int(min(end, self.end))):
                yield Serving(number, since, until)

    @cached_property
    def numbers(self) -> list[Numbers]:
        """The counters, whenever one of them changes, of all processes together; the first is how it began."""
        found = [Numbers(self.begin, 0, 0, 0)]
        totals = [0, 0, 0]
        for ns, *changes in sorted(change for replay in self._replays.values() for change in replay.changes):
            totals = [total + change for total, change in zip(totals, changes, strict=True)]
            if ns <= self.begin:
                found[0] = Numbers(self.begin, *totals)
            elif ns < self.end:
                found.append(Numbers(ns, *totals))
        return found

    @cached_property
    def requests(self) -> int:
        """Handlers that have begun."""
        return sum(self.begin <= event.ns < self.end and event.state == "H" and event.about is not None
                   for track in self.tracks for event in track.events)

    @cached_property
    def times(self) -> Counter[str]:
        """Nanoseconds of all threads together, by state."""
        times: Counter[str] = Counter()
        for track in self.tracks:
            for interval in self.intervals(track):
                times[interval.state] += interval.end - interval.begin
        return times

    @property
    def shares(self) -> Mapping[str, float]:
        """Of the time of all threads, by state, in the order of `STATES`; what does not occur is left out."""
        return {state: self.times[state] / self.times.total() for state in STATES if self.times[state]}

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


_FREE = "_ACSX."
"""States of a thread that serves no connection."""
_HAS, _GIVEN, _PARKED, _DONE = "has", "given", "parked", "done"


class _Replay:
    """Everything that has happened in one process, once more and in order: where each connection is, and since when.

    Times of different threads are in order where it matters: what a thread does before it gives a connection away, it
    writes before.
    """

    def __init__(self, tracks: list[Track]) -> None:
        self.handoffs: list[Handoff] = []
        self.waits: list[tuple[int, int]] = []
        """(given, taken)."""
        self.servings: dict[Track, list[tuple[int, int, float]]] = {track: [] for track in tracks}
        """(the connection's number, when it begins, and ends)."""
        self.changes: list[tuple[int, int, int, int]] = []
        """When, and of `Numbers` the changes."""
        self._where: dict[int, tuple[str, Track, int]] = {}
        """Of each connection that is known: how it is, whose doing that is, and since when."""
        self._serves: dict[Track, tuple[int, int]] = {}
        """Which connection a track has now, and since when."""
        begun: set[Track] = set()
        merged = sorted(((event, track) for track in tracks for event in track.events), key=lambda pair: pair[0].ns)
        for event, track in merged:
            threads = (track not in begun) - (event.state == ".")
            begun.add(track)
            serves = self._serves.get(track)
            if serves is not None and (event.state in _FREE or event.connection != serves[0]):
                self._end_serving(track, event.ns)
            queued, parked = self._step(event, track) if event.connection else (0, 0)
            if queued or parked or threads:
                self.changes.append((event.ns, queued, parked, threads))
        for track in list(self._serves):
            self._end_serving(track, float("inf"))

    def _step(self, event: Event, track: Track) -> tuple[int, int]:
        """How many more are queued, and parked."""
        ns, state, connection, about = event
        before = self._where.get(connection)
        if before is None and state == "Q" and _has_come_back(about):
            before = _PARKED, track, ns
            self.changes.append((0, 0, 1, 0))
        how, whose, since = before or ("", track, ns)
        after: str | None = how
        if state == "Q":
            after = _GIVEN
            if how == _DONE:
                self._hand_off(whose, since, track, ns)
        elif state in "RHWK":
            after = _HAS
            if how == _GIVEN:
                self.waits.append((since, ns))
                self._hand_off(whose, since, track, ns)
            self._serves.setdefault(track, (connection, ns))
        elif state == "C" or about in ("closed", "detached"):
            after = None
        elif about == "done":
            after = _DONE
        elif about == "parked" and (how, whose) == (_HAS, track):  # else a job has it by now
            after = _PARKED
        else:
            return 0, 0
        if after is None:
            self._where.pop(connection, None)
        else:
            self._where[connection] = after, track, ns
        return (after == _GIVEN) - (how == _GIVEN), (after == _PARKED) - (how == _PARKED)

    def _end_serving(self, track: Track, ns: float) -> None:
        self.servings[track].append((*self._serves.pop(track), ns))

    def _hand_off(self, source: Track, given: int, target: Track, taken: int) -> None:
        if source is not target:
            self.handoffs.append(Handoff(source, given, target, taken))


def _has_come_back(about: object) -> bool:
    """It has not come from the kernel now: for one that has, Linux tells how long it has waited there."""
    return LINUX and isinstance(about, (tuple, list)) and about[0] != "unix" and about[2] is None
