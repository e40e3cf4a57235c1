"""What the processes of a prefork server have in common: a table in shared memory, with a row for each worker process.

    cell   0 to CELLS - 1         CELLS        CELLS + 1         CELLS + 2
    what   `taskmaster.books`     its state    bytes resident    start, in microseconds since 1970

Each row is written by one process, its worker, and read by the main process, at any time and without asking anybody: a
cell is a machine word, which is written whole. Which rows are in use, the column of process IDs says: the worker enters
itself there, with its row cleared, and the main process takes it out, when it has added up what is to be kept.
"""

from __future__ import annotations

import mmap
import os
import time

from taskmaster.books import CELLS

__all__ = ["MOST_PROCESSES", "ROWS", "Rows"]

MOST_PROCESSES = 256
ROWS = 2 * MOST_PROCESSES
"""Each may have a successor already while it ends."""
_STATE, _MEMORY, _STARTED = CELLS, CELLS + 1, CELLS + 2
_WIDTH = CELLS + 3
_CUT = 0
_HEADER = 1


class Rows:
    """Made before the fork, by the main process; then all processes have the same memory, which goes with the last."""

    def __init__(self) -> None:
        memory = mmap.mmap(-1, 8 * (_HEADER + ROWS + ROWS * _WIDTH))  # shared; pages come as they are used
        cells = memoryview(memory).cast("q")
        self._header = cells[:_HEADER]
        self._pids = cells[_HEADER:_HEADER + ROWS]
        self._cells = cells[_HEADER + ROWS:]

    def row(self, number: int) -> memoryview:
        return self._cells[number * _WIDTH:(number + 1) * _WIDTH]

    def enter(self, number: int) -> None:
        """This process has the row from now on."""
        row = self.row(number)
        for position in range(_WIDTH):
            row[position] = 0
        row[_STARTED] = int(time.time() * 1e6)
        self._pids[number] = os.getpid()

    def clear(self, number: int) -> None:
        """Nobody has the row any more."""
        self._pids[number] = 0

    def in_use(self) -> list[tuple[int, int]]:
        """Row and process ID, in the order of the start."""
        used = [(number, pid) for number, pid in enumerate(self._pids) if pid]
        return sorted(used, key=lambda each: self.row(each[0])[_STARTED])

    def set_state(self, number: int, state: int) -> None:
        self.row(number)[_STATE] = state

    def state(self, number: int) -> int:
        return int(self.row(number)[_STATE])

    def set_memory(self, number: int, size: int) -> None:
        self.row(number)[_MEMORY] = size

    def memory(self, number: int) -> int:
        return int(self.row(number)[_MEMORY])

    def started(self, number: int) -> float:
        """Seconds since 1970."""
        return int(self.row(number)[_STARTED]) / 1e6

    @property
    def cut(self) -> bool:
        """For workers whom nobody can tell any more: they are to give up what is in progress."""
        return bool(self._header[_CUT])

    @cut.setter
    def cut(self, yes: bool) -> None:
        self._header[_CUT] = yes
