"""What has been recorded, as it is read again: tracks of events, and what is found in them. Plain data.

A *track* is what one thread has done. A *hand-off* is a connection that one thread has had from accept(), and another
serves; or, where an executor runs handlers, a job that goes there, and back.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

__all__ = ["Event", "Handoff", "Interval", "Numbers", "Serving", "Track", "read"]


class Event(NamedTuple):
    """The track is in this state from `ns` on; "." is its end."""

    ns: int
    state: str
    connection: int


class Interval(NamedTuple):
    """A time in one state."""

    state: str
    begin: int
    end: int


class Serving(NamedTuple):
    """A time in which a thread has a connection, which is number so and so."""

    number: int
    begin: int
    end: int


@dataclass(eq=False)
class Track:
    """One thread of one process."""

    process: int
    name: str
    events: list[Event]
    """At least one, in order."""
    full: bool = False
    """There were more of them before, which have been forgotten."""

    @property
    def begin(self) -> int:
        return self.events[0].ns

    @property
    def end(self) -> float:
        """Infinite if it has not ended."""
        return self.events[-1].ns if self.events[-1].state == "." else float("inf")

    @property
    def role(self) -> str:
        """The first word of its name: "worker"."""
        word = self.name.partition("-")[0]
        return "executor" if word == "ThreadPoolExecutor" else word


@dataclass(frozen=True)
class Handoff:
    """From one thread to another."""

    source: Track
    given: int
    target: Track
    taken: int


class Numbers(NamedTuple):
    """How many there are, from `ns` on."""

    ns: int
    queued: int
    """Connections that wait for a thread."""
    parked: int
    """That wait for their clients, without one; or whose handler an executor runs."""
    threads: int


def read(folder: Path) -> list[Track]:
    """All that has been recorded there. ValueError if there is nothing."""
    tracks = []
    for path in sorted(folder.glob("*.jsonl")):
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                lane = json.loads(line)
                events = list(map(Event, lane["times"], lane["states"], lane["connections"]))
                tracks.append(Track(lane["process"], lane["name"], events, lane["full"]))
    if not tracks:
        raise ValueError(f"{folder} holds no recording: no thread of the server has taken a step, or it did not end "
                         "as it should")
    return sorted(tracks, key=lambda track: track.begin)
