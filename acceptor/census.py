"""How many connections are open, in all and of each address, and whether one more may be: Limits.connections and
connections_per_address.

Where the server is in several processes, each writes its own numbers into memory that all of them have (`Tally`), and
the limits are for the sum. No lock is needed for that: whoever comes is counted first, and refused if the sum is too
high then. So there are never too many; of two that come in the same microsecond for one last place, both may be
refused. Nor is there anything to undo when a process dies: its numbers go with it.
"""

from __future__ import annotations

import mmap
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b

from acceptor.settings import Limits
from acceptor.violations import Compliance, Violation

__all__ = ["Census", "SharedCensus", "SharedCompliance", "Tally"]


class Census:
    """Of the connections of this process. Not for two threads at once: the registry's lock is held."""

    def __init__(self, limits: Limits) -> None:
        self._most = limits.connections
        self._most_of_one = limits.connections_per_address
        self._open = 0
        self._of_address: Counter[str] = Counter()

    def enter(self, address: str) -> tuple[str | None, bool]:
        """One more is open, from `address`. What it is too many of, None if it is not; and whether it counts for its
        address, which `leave` is to be told then."""
        self._open += 1
        if self._most is not None and self._open_in_all() > self._most:
            return f"{self._most} connections are open (Limits.connections)", False
        if self._most_of_one is None or address == "unix":
            return None, False
        self._set_of(address, self._of_address[address] + 1)
        if self._of_in_all(address) > self._most_of_one:
            self._set_of(address, self._of_address[address] - 1)
            return f"{self._most_of_one} of its connections are open (Limits.connections_per_address)", False
        return None, True

    def leave(self, address: str | None) -> None:
        """One has been closed; address: for whom it counted."""
        self._open -= 1
        if address is not None:
            self._set_of(address, self._of_address[address] - 1)

    def _set_of(self, address: str, count: int) -> None:
        if count:
            self._of_address[address] = count
        else:
            del self._of_address[address]

    def _open_in_all(self) -> int:
        return self._open

    def _of_in_all(self, address: str) -> int:
        return self._of_address[address]


_REQUESTS, _OPEN, _REFUSED, _USED, _VIOLATIONS = range(5)
_WIDTH = _VIOLATIONS + len(Violation)
_RECORDS = 4096
"""Addresses that a process may have connections of and that the others know of; those beyond count for it alone."""
_DIGEST, _RECORD = 16, 24
"""Bytes: of an address, and of a record, which has the number of its connections too."""


class Tally:
    """Numbers of each process, in memory that all of them have: made before the fork.

        cells      for each process: requests, connections open, connections refused, records in use, and how often each
                   violation of HTTP has been seen
        records    for each process, if addresses are limited: the digest of an address, and how many are open of it

    before: the tally of an earlier run, all of whose processes have ended; it goes on counting from there.
    """

    def __init__(self, processes: int, limits: Limits, before: Tally | None = None) -> None:
        self.records = 8 * _WIDTH * processes
        """Where they begin."""
        per_process = _RECORD * _RECORDS if limits.connections_per_address is not None else 0
        self.memory = mmap.mmap(-1, self.records + per_process * processes)  # shared; pages come as they are used
        self.cells = memoryview(self.memory)[:self.records].cast("q")
        self._past: list[int] = list(before._past) if before is not None else [0] * _WIDTH
        """What processes that have ended have counted. In the main process only."""

    def row(self, number: int) -> memoryview:
        return self.cells[number * _WIDTH:(number + 1) * _WIDTH]

    def requests(self, number: int) -> int:
        return int(self.row(number)[_REQUESTS])

    def counter(self, number: int) -> Callable[[], None]:
        """For that process: what is called for each request. Any thread."""
        row, lock = self.row(number), threading.Lock()

        def count() -> None:
            with lock:
                row[_REQUESTS] += 1

        return count

    @property
    def open(self) -> int:
        return self._sum(_OPEN)

    @property
    def refused(self) -> int:
        return self._past[_REFUSED] + self._sum(_REFUSED)

    def violations(self, position: int) -> int:
        """How often the violation in this place of `Violation` has been seen."""
        return self._past[_VIOLATIONS + position] + self._sum(_VIOLATIONS + position)

    def _sum(self, column: int) -> int:
        return sum(self.cells[column::_WIDTH])

    def end(self, number: int) -> None:
        """Its process has ended, and another may have the number."""
        row = self.row(number)
        begin = self.records + number * _RECORD * _RECORDS
        self.memory[begin:begin + _RECORD * row[_USED]] = bytes(_RECORD * row[_USED])
        for position in range(_WIDTH):
            self._past[position] += row[position]
            row[position] = 0


class SharedCensus(Census):
    """Of the connections of all processes; for the process that has `number`."""

    def __init__(self, limits: Limits, tally: Tally, number: int) -> None:
        super().__init__(limits)
        self._tally = tally
        self._number = number
        self._row = tally.row(number)
        self._begin = tally.records + number * _RECORD * _RECORDS
        self._places: dict[str, int] = {}
        """Of the record of each address."""
        self._free: list[int] = []
        """Places of records that have been in use."""

    def enter(self, address: str) -> tuple[str | None, bool]:
        self._row[_OPEN] += 1  # before it is held against the limit
        reason, counts = super().enter(address)
        self._row[_REFUSED] += reason is not None
        return reason, counts

    def leave(self, address: str | None) -> None:
        super().leave(address)
        self._row[_OPEN] -= 1

    def _set_of(self, address: str, count: int) -> None:
        super()._set_of(address, count)
        place = self._places.get(address)
        if place is None:
            if (place := self._new_place()) is None:
                return
            self._places[address] = place
            self._tally.memory[place:place + _DIGEST] = _digest(address)
        self._tally.memory[place + _DIGEST:place + _RECORD] = count.to_bytes(_RECORD - _DIGEST, sys.byteorder)
        if not count:
            self._tally.memory[place:place + _DIGEST] = bytes(_DIGEST)
            self._free.append(self._places.pop(address))

    def _new_place(self) -> int | None:
        if self._free:
            return self._free.pop()
        used = self._row[_USED]
        if used == _RECORDS:
            return None
        self._row[_USED] = used + 1
        return int(self._begin + used * _RECORD)

    def _open_in_all(self) -> int:
        return self._tally.open

    def _of_in_all(self, address: str) -> int:
        digest, total = _digest(address), self._of_address[address]
        memory = self._tally.memory
        for number, used in enumerate(self._tally.cells[_USED::_WIDTH]):
            if not used or number == self._number:
                continue
            begin = self._tally.records + number * _RECORD * _RECORDS
            end = begin + used * _RECORD
            place = memory.find(digest, begin, end)
            while place >= 0 and (place - begin) % _RECORD:  # it looks so, across two records
                place = memory.find(digest, place + 1, end)
            if place >= 0:
                total += int.from_bytes(memory[place + _DIGEST:place + _RECORD], sys.byteorder)
        return total


class SharedCompliance(Compliance):
    """Counts what the process with `number` sees in the tally."""

    def __init__(self, allowed: Iterable[Violation], tally: Tally, number: int) -> None:
        super().__init__(allowed)
        self._row = tally.row(number)

    @property
    def counts(self) -> Mapping[Violation, int]:
        counts = self._row[_VIOLATIONS:]
        return {violation: count for violation, count in zip(Violation, counts, strict=True) if count}

    def _count_locked(self, violation: Violation) -> None:
        self._row[_VIOLATIONS + list(Violation).index(violation)] += 1


def _digest(address: str) -> bytes:
    return blake2b(address.encode(), digest_size=_DIGEST).digest()
