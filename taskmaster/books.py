"""The numbers of a taskmaster, in a row of cells that another process may read.

    cell   0 to 4                       5          6        7         8
    what   threads by ThreadState,      ACCEPTED   SERVED   REFUSED   PARKED
           whose members are numbers

A plain list, for most; for a process that is one of several, a memoryview over memory that they share. Connections that
wait for a thread have no cell, for they are what is left:

    queued == accepted - parked - threads[SERVING] - served - refused
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol, overload

from taskmaster.base import Snapshot, ThreadState

__all__ = ["ACCEPTED", "ACCEPTING", "CELLS", "PARKED", "REFUSED", "SERVED", "SERVING", "STARTING", "Cell", "Cells",
           "Decision", "HasCells", "snapshot_from"]

STARTING, ACCEPTING, SERVING = int(ThreadState.STARTING), int(ThreadState.ACCEPTING), int(ThreadState.SERVING)
"""As plain numbers, for what is done for every request: to look a member of an enum up costs 0.2 us (3.11)."""
ACCEPTED = len(ThreadState)
SERVED, REFUSED, PARKED = ACCEPTED + 1, ACCEPTED + 2, ACCEPTED + 3
CELLS = ACCEPTED + 4
"""How many there are."""
_TRIES = 8


class Cells(Protocol):
    """A row of whole numbers: `[0] * CELLS`, or `memoryview(shared).cast("q")`, whose numbers have 64 bits."""

    @overload
    def __getitem__(self, position: int, /) -> int: ...
    @overload
    def __getitem__(self, positions: slice, /) -> Iterable[int]: ...
    def __setitem__(self, position: int, value: int, /) -> None: ...
    def __len__(self) -> int: ...


class HasCells(Protocol):
    cells: Cells


class Cell:
    """One of the four behind the threads, as an attribute of whoever has `cells`: `accepted = Cell(ACCEPTED)`."""

    def __init__(self, position: int) -> None:
        self._position = position

    def __get__(self, owner: HasCells, kind: type | None = None) -> int:
        return owner.cells[self._position]

    def __set__(self, owner: HasCells, value: int) -> None:
        owner.cells[self._position] = value


class Decision(NamedTuple):
    """One thread more, or one less, and why."""

    time: float
    """When it was made: `time.monotonic()`."""
    change: int
    """+1 or -1."""
    reason: str
    """As counted in `Snapshot.grown` or `Snapshot.shrunk`."""
    threads: int
    """How many there were then, with this change, those that were leaving not counted."""


def snapshot_from(cells: Cells, grown: Mapping[str, int] | None = None, shrunk: Mapping[str, int] | None = None
                  ) -> Snapshot:
    """What the `cells` say, read while another process or thread may be writing them. Never blocks.

    They are read until two readings are the same, a few times at most. That is not a lock: a writer stopped in the
    middle of a change is read as it is, and one that never rests leaves the last reading. Then a number may be one off
    against another, for that moment; still it balances, because `queued` is what the others leave, and no less than 0.

    grown, shrunk: the reasons, which are words and stand in no cell.
    """
    now = list(cells[:CELLS])
    for _ in range(_TRIES):
        before, now = now, list(cells[:CELLS])
        if now == before and _queued(now) >= 0:
            break
    queued = max(0, _queued(now))
    return Snapshot(
        threads=MappingProxyType(dict(zip(ThreadState, now, strict=False))),
        queued=queued,
        parked=now[PARKED],
        accepted=now[ACCEPTED] - _queued(now) + queued,
        served=now[SERVED],
        refused=now[REFUSED],
        grown=MappingProxyType(dict(grown or {})),
        shrunk=MappingProxyType(dict(shrunk or {})),
    )


def _queued(numbers: list[int]) -> int:
    return (numbers[ACCEPTED] - numbers[PARKED] - numbers[ThreadState.SERVING] - numbers[SERVED]
            - numbers[REFUSED])
