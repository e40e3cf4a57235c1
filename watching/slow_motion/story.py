"""What has happened on a stage, moment by moment: plain data, for whoever renders it or asserts something of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from acceptor.recording import STATES

__all__ = ["EXECUTOR", "NO_THREAD", "PLACES", "STATES", "Cell", "HandOff", "Moment", "Step", "Story"]

PLACES = {"kernel": "in the kernel", "queue": "in the queue", "parked": "parked"}
"""Where connections wait that no thread has: fields of `Moment`, and their words."""


EXECUTOR = "executor"
"""How the names of lanes begin that are an executor's threads."""


class Cell(NamedTuple):
    """One thread at one moment."""

    letter: str
    """As in `STATES`."""
    client: str = ""
    """Whose connection it has; "" if none."""
    request: int = 0
    """How many handlers have been called for that client, this one included."""


NO_THREAD = Cell(".")


@dataclass(frozen=True)
class Moment:
    """All threads at rest: at gates, or waiting for another."""

    cells: tuple[Cell, ...]
    """By lane; of those that there are by then."""
    kernel: tuple[str, ...]
    """Clients whom nobody has accepted, or whose parked connections are ready; in the order of accept()."""
    queue: tuple[str, ...]
    """Accepted, and no thread serves them."""
    parked: tuple[str, ...]


@dataclass(frozen=True)
class Step:
    """What the script does, and all that follows from it."""

    caption: str
    """"" for the start, if the script says nothing of it."""
    number: int
    """From 1; 0 for the start without a caption."""
    moments: tuple[Moment, ...]
    """One for each thread that was let go, and one at least; the last is what is reached."""


class HandOff(NamedTuple):
    """A connection goes from one thread to another. Lanes and moments by number."""

    client: str
    source: int
    given: int
    """The last moment in which the first thread has it."""
    target: int
    taken: int
    """The first in which the other one has it."""


@dataclass
class Story:
    title: str
    model: str
    """The taskmaster, as it is made: "PooledTaskmaster(threads=2)"."""
    lanes: tuple[str, ...] = ()
    """Names of the threads, in the order in which they were started."""
    steps: list[Step] = field(default_factory=list)

    @property
    def moments(self) -> list[Moment]:
        return [moment for step in self.steps for moment in step.moments]

    def cell(self, lane: int, moment: Moment) -> Cell:
        return moment.cells[lane] if lane < len(moment.cells) else NO_THREAD

    def row(self, lane: int) -> list[Cell]:
        """A thread, moment by moment."""
        return [self.cell(lane, moment) for moment in self.moments]

    def letters(self, lane: str) -> str:
        """A thread, moment by moment: "_HHH_"."""
        return "".join(cell.letter for cell in self.row(self.lanes.index(lane)))

    @property
    def letters_used(self) -> list[str]:
        return sorted({cell.letter for moment in self.moments for cell in moment.cells})

    def handoffs(self) -> Iterator[HandOff]:
        """A thread has a connection, and then another thread, without its client's doing; in the order of `taken`.

        A connection that accept() returns to another thread than the one that has parked it, is not handed over: it has
        been waited for. One that an executor has done its job for is.
        """
        last: dict[str, tuple[int, int]] = {}
        for number, moment in enumerate(self.moments):
            for client in (*moment.parked, *(set(moment.kernel) - self._offloaded(last))):
                last.pop(client, None)
            for lane, cell in enumerate(moment.cells):
                if cell.client:
                    source, given = last.get(cell.client, (lane, number))
                    if source != lane:
                        yield HandOff(cell.client, source, given, lane, number)
                    last[cell.client] = lane, number

    def _offloaded(self, last: dict[str, tuple[int, int]]) -> set[str]:
        return {client for client, (lane, _) in last.items() if self.lanes[lane].startswith(EXECUTOR)}
