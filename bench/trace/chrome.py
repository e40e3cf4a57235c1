"""The Chrome trace of recorded lanes: JSON that https://ui.perfetto.dev opens, and chrome://tracing.

The events are those of Google's "Trace Event Format", as far as Perfetto reads it:

    M      names of processes (a model each) and of threads
    X      slices: a thread's life, in it the connections that it has, in these its states. Those of one lane nest
    C      counters: connections that wait for a thread, connections parked, threads
    s, f   the two ends of an arrow: a connection is handed from one thread to another

Times are in microseconds, with three decimals: so no nanosecond is lost, and slices that meet do not overlap.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from bench.trace.lanes import Row, Trace
from bench.trace.recorder import STATES
from bench.trace.tracks import Numbers

__all__ = ["events_of", "write_json"]

_EVERY_NS = 1_000_000
"""A counter changes several times for a request: its last value in this time is shown."""


def write_json(file: TextIO, traces: Mapping[str, Trace], about: Mapping[str, Any]) -> None:
    """All `traces`, by what they are called; each begins at 0. about: whatever else is to be known."""
    file.write('{"displayTimeUnit": "ms", "otherData": ' + json.dumps(about) + ', "traceEvents": [\n')
    comma = ""
    for number, (name, trace) in enumerate(traces.items(), start=1):
        for event in events_of(name, trace, number):
            file.write(comma + json.dumps(event, separators=(",", ":")))
            comma = ",\n"
    file.write("\n]}\n")


def events_of(name: str, trace: Trace, process: int) -> Iterator[dict[str, Any]]:
    """The events of one trace. process: its number in the file."""
    yield {"ph": "M", "name": "process_name", "pid": process, "args": {"name": name}}
    yield {"ph": "M", "name": "process_sort_index", "pid": process, "args": {"sort_index": process}}
    rows = trace.rows()
    first = 1000 * process + 1  # no two threads of a file have the same number, as on a real machine
    lane = {track: number for number, row in enumerate(rows, first) for track in row.tracks}
    for number, row in enumerate(rows, first):
        where = {"pid": process, "tid": number}
        yield {"ph": "M", "name": "thread_name", **where, "args": {"name": row.label}}
        yield {"ph": "M", "name": "thread_sort_index", **where, "args": {"sort_index": number}}
        for slice_ in _slices(trace, row):
            yield {"ph": "X", **where, **slice_}
    for number, handoff in enumerate(trace.arrows, start=1):
        arrow = {"cat": "hand-off", "name": "hand-off", "id": f"{process}-{number}", "pid": process}
        yield {"ph": "s", **arrow, "tid": lane[handoff.source], "ts": _us(handoff.given - trace.begin)}
        yield {"ph": "f", "bp": "e", **arrow, "tid": lane[handoff.target], "ts": _us(handoff.taken - trace.begin)}
    threads = -1
    for at in _thinned(trace.numbers):
        when: dict[str, Any] = {"ph": "C", "pid": process, "ts": _us(at.ns - trace.begin)}
        yield {**when, "name": "connections", "args": {"waiting for a thread": at.queued, "parked": at.parked}}
        if at.threads != threads:
            threads = at.threads
            yield {**when, "name": "threads", "args": {"threads": threads}}


def _slices(trace: Trace, row: Row) -> Iterator[dict[str, Any]]:
    """Of one lane, those that contain others first."""
    found: list[tuple[int, int, str]] = []
    for track in row.tracks:
        begin, end = max(track.begin, trace.begin), min(int(min(track.end, trace.end)), trace.end)
        found.append((begin, end, track.name))
        found += [(begin, end, f"connection {number}") for number, begin, end in trace.servings(track)]
        found += [(begin, end, STATES[state]) for state, begin, end in trace.intervals(track)]
    found.sort(key=lambda slice_: (slice_[0], -slice_[1]))  # which is stable: a connection before its only state
    for begin, end, name in found:
        yield {"name": name, "ts": _us(begin - trace.begin), "dur": _us(end - begin)}


def _thinned(numbers: list[Numbers]) -> Iterator[Numbers]:
    for at, following in zip(numbers, [*numbers[1:], None], strict=True):
        if following is None or following.ns // _EVERY_NS != at.ns // _EVERY_NS:
            yield at


def _us(ns: int) -> float:
    return ns / 1000
