"""The Chrome trace of recorded lanes: JSON that https://ui.perfetto.dev opens, and chrome://tracing.

The events are those of Google's "Trace Event Format", as far as Perfetto reads it:

    M      names of processes (a server each) and of threads
    X      slices: a thread's life, in it the connections that it has, in these its states. Those of one lane nest
    C      counters: connections that wait for a thread, connections parked, threads
    s, f   the two ends of an arrow: a connection is handed from one thread to another

Times are in microseconds, with three decimals: so no nanosecond is lost, and slices that meet do not overlap.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

from acceptor.recording import STATES
from watching.messages import Steps
from watching.trace.lanes import Row, Trace
from watching.trace.tracks import Interval, Numbers, nanoseconds, tracks_of

__all__ = ["chrome_events", "events_of", "names_of", "write_json"]

_EVERY_NS = 1_000_000
"""A counter changes several times for a request: its last value in this time is shown."""
_MOST_ARROWS = 1_000_000_000
_MOST_ROWS = 100_000
"""No two threads of a file have the same number, as on a real machine: those of a process begin at a multiple of it."""


def chrome_events(sources: Sequence[Steps]) -> Iterator[dict[str, Any]]:
    """What all `sources` have done: a process each, on one axis of time, which begins with the first of them."""
    origin = min((nanoseconds(said["begin"]) for said in sources), default=0)
    for number, said in enumerate(sources, start=1):
        yield from events_of(_name_of(said), _trace_of(said), number, origin)


def names_of(sources: Sequence[Steps]) -> list[str]:
    """What those processes are called."""
    return [_name_of(said) for said in sources]


def write_json(file: TextIO, traces: Mapping[str, Trace], about: Mapping[str, Any]) -> None:
    """All `traces`, by what they are called; each begins at 0. about: whatever else is to be known."""
    file.write('{"displayTimeUnit": "ms", "otherData": ' + json.dumps(about) + ', "traceEvents": [\n')
    comma = ""
    for number, (name, trace) in enumerate(traces.items(), start=1):
        for event in events_of(name, trace, number, trace.begin):
            file.write(comma + json.dumps(event, separators=(",", ":")))
            comma = ",\n"
    file.write("\n]}\n")


def events_of(name: str, trace: Trace, process: int, origin: int) -> Iterator[dict[str, Any]]:
    """The events of one trace. process: its number in the file. origin: the nanosecond that is 0 there."""
    yield {"ph": "M", "name": "process_name", "pid": process, "args": {"name": name}}
    yield {"ph": "M", "name": "process_sort_index", "pid": process, "args": {"sort_index": process}}
    rows = trace.rows()
    first = _MOST_ROWS * process + 1
    lane = {track: number for number, row in enumerate(rows, first) for track in row.tracks}
    for number, row in enumerate(rows, first):
        where = {"pid": process, "tid": number}
        yield {"ph": "M", "name": "thread_name", **where, "args": {"name": row.label}}
        yield {"ph": "M", "name": "thread_sort_index", **where, "args": {"sort_index": number}}
        for begin, end, words, args in _slices(trace, row):
            yield {"ph": "X", **where, "name": words, "ts": _us(begin - origin), "dur": _us(end - begin),
                   **({"args": args} if args else {})}
    # Whole numbers, for Perfetto takes no others ("flow_invalid_id" among its import errors), and of no other process.
    for number, handoff in enumerate(trace.arrows, start=_MOST_ARROWS * process):
        arrow = {"cat": "hand-off", "name": "hand-off", "id": number, "pid": process}
        yield {"ph": "s", **arrow, "tid": lane[handoff.source], "ts": _us(handoff.given - origin)}
        yield {"ph": "f", "bp": "e", **arrow, "tid": lane[handoff.target], "ts": _us(handoff.taken - origin)}
    threads = -1
    for at in _thinned(trace.numbers):
        when: dict[str, Any] = {"ph": "C", "pid": process, "ts": _us(at.ns - origin)}
        yield {**when, "name": "connections", "args": {"waiting for a thread": at.queued, "parked": at.parked}}
        if at.threads != threads:
            threads = at.threads
            yield {**when, "name": "threads", "args": {"threads": threads}}


def _name_of(said: Steps) -> str:
    where = "" if said["label"] == said["name"] else f"{said['name']}, "
    return f"{said['label']} ({where}{said['model']}, process {said['process']})"


def _trace_of(said: Steps) -> Trace:
    return Trace(tracks_of(said), nanoseconds(said["begin"]), nanoseconds(said["end"]))


def _slices(trace: Trace, row: Row) -> Iterator[tuple[int, int, str, dict[str, Any]]]:
    """Of one lane, (begin, end, name, arguments), those that contain others first."""
    found: list[tuple[int, int, str, dict[str, Any]]] = []
    for track in row.tracks:
        found.append((max(track.begin, trace.begin), int(min(track.end, trace.end)), track.name, {}))
        found += [(begin, end, f"connection {number}", {"connection": number})
                  for number, begin, end in trace.servings(track)]
        found += [(each.begin, each.end, STATES[each.state], _arguments(each)) for each in trace.intervals(track)]
    found.sort(key=lambda slice_: (slice_[0], -slice_[1]))  # which is stable: a connection before its only state
    yield from found


def _arguments(interval: Interval) -> dict[str, Any]:
    """What Perfetto shows of a slice that is chosen."""
    args: dict[str, Any] = {}
    if interval.connection:
        args["connection"] = interval.connection
    if interval.request is not None:
        args["request"] = interval.request
    if interval.state == "Q" and interval.about is not None:
        host, port, waited = interval.about
        args["client"] = f"{host}:{port}"
        if waited is not None:
            args["waited in the kernel, ms"] = 1e3 * waited
    elif isinstance(interval.about, str):
        args["how it ended"] = interval.about
    return args


def _thinned(numbers: list[Numbers]) -> Iterator[Numbers]:
    for at, following in zip(numbers, [*numbers[1:], None], strict=True):
        if following is None or following.ns // _EVERY_NS != at.ns // _EVERY_NS:
            yield at


def _us(ns: int) -> float:
    return ns / 1000
