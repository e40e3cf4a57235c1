"""Every connection that has been accepted and not yet closed, and who has it. Any thread.

A connection's owner, from hand to hand: a taskmaster, while it waits for a thread; the thread that serves it; nobody,
while it is parked, and waits for its client; the watcher, while it lingers or is refused. Whoever takes it out of here
(`remove`) is the one to close it, so it is closed exactly once, and nobody touches a socket that is closed.

Events of a parked connection's socket name its descriptor. Such an event may be late: another thread has had the
connection back meanwhile, has closed it, and the system has given its number to a new one, which is parked. Then that
one comes back for nothing, finds nothing to read, and is parked again: no harm is done.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from acceptor.census import Census
from acceptor.connection import Connection
from acceptor.phases import Phase
from acceptor.settings import TICK

__all__ = ["CLOSING", "PARKED", "WAITING", "Registry"]

WAITING = 0
"""No thread serves it yet."""
CLOSING = -1
"""The watcher has it."""
PARKED = -2
"""It waits for its client."""
_NEVER = 1e15
"""Seconds; for what has no deadline."""


class Registry:
    """The connections, each with the ident of the thread that serves it, or WAITING, PARKED or CLOSING."""

    def __init__(self, census: Census) -> None:
        # Guarded by self._lock, which is held for a moment only; nothing but `each` calls out under it.
        self._lock = threading.Lock()
        self._census = census
        self._owners: dict[Connection, int] = {}
        """Not of those in `_parked`: whoever looks for something to do need not look at thousands who are idle."""
        self._addresses: dict[Connection, str] = {}
        """Whom each counts for, if connections_per_address is set; a connection's own address may change."""
        self._open = True
        self._refused = 0
        self._parks = True
        self._parked: dict[int, Connection] = {}
        """By descriptor; the one that has been parked for the longest time first."""
        self._by_deadline: dict[float, dict[int, Connection]] = {}
        """The same, by the TICK in which their time is up: each is looked at when it may be, and not in every one."""
        self._due: deque[int] = deque()
        """Descriptors of those whose time is up; perhaps they have come back since."""
        self._at_work: dict[Connection, None] = {}
        """Parked for a job, whatever their clients do. Not by descriptor: the job may close the socket, if its handler
        has detached it, and then another connection has its number."""
        self._done: deque[Connection] = deque()
        """Parked, and their job is done."""

    def __len__(self) -> int:
        with self._lock:
            return len(self._owners) + len(self._parked)

    @property
    def refused(self) -> int:
        """Connections that were one too many."""
        with self._lock:
            return self._refused

    def open(self, yes: bool) -> None:
        """Whether `begin` lets anybody begin, and `park` parks anything."""
        with self._lock:
            self._open = self._parks = yes

    def park_no_more(self) -> None:
        """From now on `park` refuses what is idle."""
        with self._lock:
            self._parks = False

    def add(self, connection: Connection) -> str | None:
        """Enter `connection` as WAITING; or as CLOSING, if it is one too many: then the answer says of what."""
        with self._lock:
            address = connection.address[0]
            reason, counts = self._census.enter(address)
            if counts:
                self._addresses[connection] = address
            self._refused += reason is not None
            self._owners[connection] = WAITING if reason is None else CLOSING
            return reason

    def begin(self, connection: Connection) -> bool:
        """The calling thread serves it from now on; False if it is not there any more, or nothing is begun any more."""
        with self._lock:
            if not self._open or self._owners.get(connection) != WAITING:
                return False
            self._owners[connection] = threading.get_ident()
            return True

    def hand_over(self, connection: Connection, owner: int) -> bool:
        """It goes from `owner` to the watcher; False if somebody else has it, or it is not there any more."""
        with self._lock:
            if self._owners.get(connection) != owner:
                return False
            self._owners[connection] = CLOSING
            return True

    def remove(self, connection: Connection, owner: int) -> bool:
        """Take it out, from `owner`; False if somebody else has it, or it is not there any more."""
        with self._lock:
            if self._owners.get(connection) != owner:
                return False
            del self._owners[connection]
            self._census.leave(self._addresses.pop(connection, None))
            return True

    def park(self, connection: Connection) -> bool:
        """The calling thread has served `connection`, which now waits for its client. False: it must be served again,
        until it is over, since the server stops; it is WAITING then.

        What is in progress on a thread that serves alone is parked all the same: nobody else would wait for it."""
        with self._lock:
            works = not connection.stream.wants
            if not self._parks and not works and (not connection.alone or connection.phase in _IDLE):
                self._wait_locked(connection)
                return False
            if works:
                self._owners[connection] = PARKED
                self._at_work[connection] = None
            else:
                del self._owners[connection]
                self._parked[number := connection.fileno()] = connection
                self._by_deadline.setdefault(_tick_of(connection), {})[number] = connection
            return True

    def unpark(self, descriptor: int) -> Connection | None:
        """Take back the one with this descriptor; None if it has been taken. It is WAITING then."""
        with self._lock:
            return self._unpark_locked(descriptor)

    def wants(self, descriptor: int) -> int:
        """What the parked connection with this descriptor waits for; 0 if there is none."""
        with self._lock:
            connection = self._parked.get(descriptor)
            return connection.stream.wants if connection is not None else 0

    def work_is_done(self, connection: Connection) -> bool:
        """What `connection` was parked for is done: `unpark_due` is to return it. False: it is not parked for that."""
        with self._lock:
            if connection not in self._at_work:
                return False
            del self._at_work[connection]
            self._done.append(connection)
            return True

    def find_due(self, now: float) -> bool:
        """See which parked connections have had their time by `now`; whether there are any, for `unpark_due`."""
        with self._lock:
            this = now // TICK
            self._due = deque(number for tick, parked in self._by_deadline.items() if tick <= this
                              for number, connection in parked.items() if connection.deadline <= now)
            return bool(self._due)

    def unpark_due(self) -> tuple[Connection | None, bool]:
        """Take back one whose job is done, or whose time is up, None if there is none; and whether there are more."""
        with self._lock:
            connection = self._unpark_done_locked()
            while connection is None and self._due:
                connection = self._unpark_locked(self._due.popleft())
            return connection, bool(self._done or self._due)

    def unpark_any(self, all_of_them: bool) -> Connection | None:
        """While the server stops: take back one that need not stay parked; None if there is none."""
        with self._lock:
            for descriptor, connection in self._parked.items():
                if all_of_them or not connection.alone or connection.phase in _IDLE:
                    return self._unpark_locked(descriptor)
            if all_of_them and self._at_work:
                self._done.append(self._at_work.popitem()[0])
            return self._unpark_done_locked()

    @property
    def parked(self) -> int:
        with self._lock:
            return len(self._parked) + len(self._at_work) + len(self._done)

    def _unpark_locked(self, descriptor: int) -> Connection | None:
        if (connection := self._parked.pop(descriptor, None)) is not None:
            same = self._by_deadline[tick := _tick_of(connection)]
            del same[descriptor]
            if not same:
                del self._by_deadline[tick]
            self._wait_locked(connection)
        return connection

    def _unpark_done_locked(self) -> Connection | None:
        if not self._done:
            return None
        connection = self._done.popleft()
        self._wait_locked(connection)
        return connection

    def _wait_locked(self, connection: Connection) -> None:
        connection.ready_since = time.monotonic()
        connection.comebacks += 1
        self._owners[connection] = WAITING

    def serves(self, thread: int) -> bool:
        """Whether the thread with this ident serves a connection."""
        with self._lock:
            return thread in self._owners.values()

    def items(self) -> list[tuple[Connection, int]]:
        """What there is at this moment."""
        with self._lock:
            return [*self._owners.items(), *((connection, PARKED) for connection in self._parked.values())]

    def attended(self) -> list[tuple[Connection, int]]:
        """The same without those that wait for their clients: of many, most do."""
        with self._lock:
            return list(self._owners.items())

    def each(self, act: Callable[[Connection, int], None], *, attended: bool = False) -> None:
        """Call `act` with every connection and its owner, none of which can be closed meanwhile. It must not block.
        attended: as above."""
        with self._lock:
            for connection, owner in self._owners.items():
                act(connection, owner)
            if not attended:
                for connection in self._parked.values():
                    act(connection, PARKED)


def _tick_of(connection: Connection) -> float:
    return min(connection.deadline, _NEVER) // TICK


_IDLE = (Phase.FRESH, Phase.IDLE)
"""Nothing is lost by closing it."""
