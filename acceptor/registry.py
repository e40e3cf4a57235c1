"""Every connection that has been accepted and not yet closed, and who has it. Any thread.

A connection's owner, from hand to hand: a taskmaster, while it waits for a thread; the thread that serves it; nobody,
while it is parked, and waits for its client; the watcher, while it lingers or is refused. Whoever takes it out of here
(`remove`) is the one to close it, so it is closed exactly once, and nobody touches a socket that is closed.

The owner is a field of the connection (`Connection.owner`), which is compared and written under the one lock there is.
So to be taken and to be parked, which is done for every request, is a lock and a field, and moves nothing from one
collection to another.

Events of a parked connection's socket name its descriptor. Such an event may be late: another thread has had the
connection back meanwhile, has closed it, and the system has given its number to a new one, which is parked. Then that
one comes back for nothing, finds nothing to read, and is parked again: no harm is done.

Deadlines of parked connections are in a wheel, which is lazy: a connection stands in one bucket at most, that of the
TICK in which it is looked at next (`Connection.alarm`), and stays there, whatever becomes of it meanwhile. When that
comes, its time is up, or it is put where its deadline is by then, or it is not parked. A kept-alive connection's
deadline moves on with each request, so that costs nothing until the first one would have been up. To be parked costs
something only if the deadline is earlier than the alarm.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from threading import get_ident

from acceptor.census import Census
from acceptor.connection import Connection
from acceptor.phases import Phase
from acceptor.settings import TICK

__all__ = ["AT_WORK", "CLOSING", "GONE", "PARKED", "WAITING", "Registry"]

WAITING = 0
"""No thread serves it yet."""
CLOSING = -1
"""The watcher has it."""
PARKED = -2
"""It waits for its client."""
AT_WORK = -3
"""It waits for a job, whatever its client does; or that is done, and it has not come back yet."""
GONE = -4
"""It has been taken out."""
_NEVER = float("inf")


class Registry:
    """The connections, each with the ident of the thread that serves it, or WAITING, PARKED, AT_WORK or CLOSING."""

    def __init__(self, census: Census) -> None:
        # Guarded by self._lock, which is held for a moment only; nothing but `each` calls out under it. What is called
        # for every request takes it by acquire() and release(), which cost 0.2 us; `with` costs 0.5 (3.11 to 3.13).
        # What a main thread calls takes it by `with`, for Ctrl+C may come between acquire() and `try`.
        self._lock = threading.Lock()
        self._census = census
        self._connections: dict[Connection, int] = {}
        """All of them, each with its descriptor when it came."""
        self._by_descriptor: dict[int, Connection] = {}
        """The same. But of one that has been detached, and closed by whoever has it, another may have the number."""
        self._addresses: dict[Connection, str] = {}
        """Whom each counts for, if connections_per_address is set; a connection's own address may change."""
        self._count = 0
        """Those that there have been."""
        self._open = True
        self._refused = 0
        self._parks = True
        self._buckets: dict[float, dict[Connection, None]] = {}
        """The wheel: by the second in which the tick begins, which is the alarm of all in it."""
        self._due: deque[Connection] = deque()
        """Those whose time was up when that was looked at; perhaps they have come back since."""
        self._looked_at = 0.0
        """When that was, last."""
        self._at_work: dict[Connection, None] = {}
        """Those whose job is not done."""
        self._done: deque[Connection] = deque()
        """Those whose job is done, and who have not come back."""
        self._left: deque[Connection] = deque()
        """While the server stops: some that were parked."""

    def __len__(self) -> int:
        with self._lock:
            return len(self._connections)

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
        address, descriptor = connection.address[0], connection.stream.raw.fileno()
        with self._lock:
            reason, counts = self._census.enter(address)
            if counts:
                self._addresses[connection] = address
            if reason is not None:
                self._refused += 1
            connection.owner = WAITING if reason is None else CLOSING
            self._count += 1
            connection.number = self._count
            self._connections[connection] = descriptor
            self._by_descriptor[descriptor] = connection
            return reason

    def begin(self, connection: Connection) -> bool:
        """The calling thread serves it from now on; False if it is not there any more, or nothing is begun any more."""
        self._lock.acquire()
        try:
            if connection.owner != WAITING or not self._open:
                return False
            connection.owner = get_ident()
            return True
        finally:
            self._lock.release()

    def hand_over(self, connection: Connection, owner: int) -> bool:
        """It goes from `owner` to the watcher; False if somebody else has it, or it is not there any more."""
        with self._lock:
            if connection.owner != owner:
                return False
            connection.owner = CLOSING
            return True

    def remove(self, connection: Connection, owner: int) -> bool:
        """Take it out, from `owner`; False if somebody else has it, or it is not there any more."""
        with self._lock:
            if connection.owner != owner:
                return False
            connection.owner = GONE
            descriptor = self._connections.pop(connection)
            if self._by_descriptor.get(descriptor) is connection:
                del self._by_descriptor[descriptor]
            if connection.alarm != _NEVER:
                self._clear_alarm_locked(connection)
            self._census.leave(self._addresses.pop(connection, None))
            return True

    def park(self, connection: Connection) -> bool:
        """The calling thread has served `connection`, which now waits for its client. False: it must be served again,
        until it is over, since the server stops; it is WAITING then.

        What is in progress on a thread that serves alone is parked all the same: nobody else would wait for it."""
        self._lock.acquire()
        try:
            if not self._parks and (not connection.alone or connection.phase in _IDLE):
                self._wait_locked(connection)
                return False
            if connection.deadline < connection.alarm:
                self._set_alarm_locked(connection)
            connection.owner = PARKED
            return True
        finally:
            self._lock.release()

    def park_for_job(self, connection: Connection) -> None:
        """The same, but it waits for a job, and not for its client: until `work_is_done`. It has no deadline."""
        with self._lock:
            connection.owner = AT_WORK
            self._at_work[connection] = None

    def unpark(self, descriptor: int) -> Connection | None:
        """Take back the one with this descriptor; None if it has been taken. It is WAITING then."""
        self._lock.acquire()
        try:
            connection = self._by_descriptor.get(descriptor)
            if connection is None or connection.owner != PARKED:
                return None
            connection.owner = WAITING
            connection.comebacks += 1
            return connection
        finally:
            self._lock.release()

    def wants(self, descriptor: int) -> int:
        """What the parked connection with this descriptor waits for; 0 if there is none."""
        with self._lock:
            connection = self._by_descriptor.get(descriptor)
            return connection.stream.wants if connection is not None and connection.owner == PARKED else 0

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
            self._looked_at = now
            for alarm in [alarm for alarm in self._buckets if alarm <= now]:
                for connection in self._buckets.pop(alarm):
                    connection.alarm = _NEVER
                    if connection.owner != PARKED:
                        continue
                    if connection.deadline <= now:
                        self._due.append(connection)
                    elif connection.deadline < _NEVER:
                        self._set_alarm_locked(connection)
            return bool(self._due)

    def unpark_due(self) -> tuple[Connection | None, bool]:
        """Take back one whose job is done, or whose time is up, None if there is none; and whether there are more."""
        with self._lock:
            connection = self._unpark_done_locked()
            while connection is None and self._due:
                due = self._due.popleft()
                if due.owner == PARKED and due.deadline <= self._looked_at:
                    connection = self._wait_locked(due)
            return connection, bool(self._done or self._due)

    def unpark_any(self, all_of_them: bool) -> Connection | None:
        """While the server stops: take back one that need not stay parked; None if there is none."""
        def comes(connection: Connection) -> bool:
            return connection.owner == PARKED and (
                all_of_them or not connection.alone or connection.phase in _IDLE)

        with self._lock:
            while self._left and not comes(self._left[0]):
                self._left.popleft()
            if not self._left:
                self._left.extend(filter(comes, self._connections))
            if self._left:
                return self._wait_locked(self._left.popleft())
            if all_of_them and self._at_work:
                self._done.append(self._at_work.popitem()[0])
            return self._unpark_done_locked()

    @property
    def parked(self) -> int:
        with self._lock:
            return sum(connection.owner in (PARKED, AT_WORK) for connection in self._connections)

    def _unpark_done_locked(self) -> Connection | None:
        return self._wait_locked(self._done.popleft()) if self._done else None

    def _wait_locked(self, connection: Connection) -> Connection:
        connection.owner = WAITING
        connection.comebacks += 1
        return connection

    def _set_alarm_locked(self, connection: Connection) -> None:
        if connection.alarm != _NEVER:
            self._clear_alarm_locked(connection)
        connection.alarm = alarm = connection.deadline // TICK * TICK
        self._buckets.setdefault(alarm, {})[connection] = None

    def _clear_alarm_locked(self, connection: Connection) -> None:
        bucket = self._buckets[connection.alarm]
        del bucket[connection]
        if not bucket:
            del self._buckets[connection.alarm]
        connection.alarm = _NEVER

    def serves(self, thread: int) -> bool:
        """Whether the thread with this ident serves a connection."""
        with self._lock:
            return any(connection.owner == thread for connection in self._connections)

    def items(self) -> list[tuple[Connection, int]]:
        """What there is at this moment."""
        with self._lock:
            return [(connection, connection.owner) for connection in self._connections]

    def attended(self) -> list[tuple[Connection, int]]:
        """The same without those that wait for their clients: of many, most do.

        Of what is taken and given up meanwhile each is as it is when it is looked at. So the lock is held only while
        they are copied, and that is quick: of 10,000 it takes 0.1 ms."""
        with self._lock:
            connections = list(self._connections)
        return [(connection, owner) for connection in connections if (owner := connection.owner) > PARKED
                or owner == AT_WORK]

    def each(self, act: Callable[[Connection, int], None], *, attended: bool = False) -> None:
        """Call `act` with every connection and its owner, none of which can be closed meanwhile. It must not block.
        attended: as above."""
        some = [connection for connection, _ in self.attended()] if attended else None
        with self._lock:
            for connection in self._connections if some is None else some:
                if (owner := connection.owner) != GONE:
                    act(connection, owner)


_IDLE = (Phase.FRESH, Phase.IDLE)
"""Nothing is lost by closing it."""
