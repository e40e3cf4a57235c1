"""What has been recorded, as it is read again: tracks of events, and what is found in them. Plain data.

A *track* is what one thread has done. A *hand-off* is a connection that one thread has had from accept(), and another
serves; or, where an executor runs handlers, a job that goes there, and back.

Times are whole nanoseconds of the recording's clock, so that what meets does meet.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from acceptor.recording import MOST_STEPS
from watching.messages import Steps

__all__ = ["Event", "Handoff", "Interval", "Numbers", "Serving", "Track", "nanoseconds", "tracks_of"]


class Event(NamedTuple):
    """The track is in this state from `ns` on; "." is its end. The rest as in `acceptor.recording.Step`."""

    ns: int
    state: str
    connection: int = 0
    about: Any = None


class Interval(NamedTuple):
    """A time in one state."""

    state: str
    begin: int
    end: int
    connection: int = 0
    request: str | None = None
    """"GET /report", from the handler until the thread is done with it."""
    about: Any = None
    """Of the event with which it begins."""


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
        found = re.match(r"[^\W\d_]+", self.name)
        word = found[0] if found else self.name
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
    """That wait for their clients, without one. Of those that were parked before, the ones that have come back since:
    of the others nobody has seen anything."""
    threads: int


def nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)


def tracks_of(said: Steps) -> list[Track]:
    """The threads that have done something, in the order in which they began."""
    process = said["process"]
    tracks = [Track(process, lane["thread"],
                    [Event(nanoseconds(time), *rest) for time, *rest in lane["steps"]],
                    len(lane["steps"]) >= MOST_STEPS)
              for lane in said["lanes"] if lane["steps"]]
    return sorted(tracks, key=lambda track: track.begin)
