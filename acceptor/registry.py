"""Every connection that has been accepted and not yet closed, and who has it. Any thread.

A connection's owner, from hand to hand: a taskmaster, while it waits; the thread that serves it; the watcher, while it
lingers or is refused. Whoever takes it out of here (`remove`) is the one to close it, so it is closed exactly once, and
nobody touches a socket that is closed.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

from acceptor.connection import Connection
from acceptor.settings import Limits

__all__ = ["CLOSING", "WAITING", "Registry"]

WAITING = 0
"""No thread serves it yet."""
CLOSING = -1
"""The watcher has it."""


class Registry:
    """The connections, each with the ident of the thread that serves it, or WAITING, or CLOSING."""

    def __init__(self, limits: Limits) -> None:
        self._most = limits.connections
        self._most_of_one = limits.connections_per_address
        # Guarded by self._lock, which is held for a moment only; nothing but `each` calls out under it.
        self._lock = threading.Lock()
        self._owners: dict[Connection, int] = {}
        self._addresses: dict[Connection, str] = {}
        """Whom each counts for, if connections_per_address is set; a connection's own address may change."""
        self._of_address: Counter[str] = Counter()
        self._open = True
        self._refused = 0

    def __len__(self) -> int:
        with self._lock:
            return len(self._owners)

    @property
    def refused(self) -> int:
        """Connections that were one too many."""
        with self._lock:
            return self._refused

    def open(self, yes: bool) -> None:
        """Whether `begin` lets anybody begin."""
        with self._lock:
            self._open = yes

    def add(self, connection: Connection) -> str | None:
        """Enter `connection` as WAITING; or as CLOSING, if it is one too many: then the answer says of what."""
        with self._lock:
            address = connection.address[0]
            reason = None
            if self._most is not None and len(self._owners) >= self._most:
                reason = f"{self._most} connections are open (Limits.connections)"
            elif self._most_of_one is not None and address != "unix":
                if self._of_address[address] >= self._most_of_one:
                    reason = f"{self._most_of_one} of its connections are open (Limits.connections_per_address)"
                else:
                    self._of_address[address] += 1
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
            if (address := self._addresses.pop(connection, None)) is not None:
                self._of_address[address] -= 1
                if not self._of_address[address]:
                    del self._of_address[address]
            return True

    def serves(self, thread: int) -> bool:
        """Whether the thread with this ident serves a connection."""
        with self._lock:
            return thread in self._owners.values()

    def items(self) -> list[tuple[Connection, int]]:
        """What there is at this moment."""
        with self._lock:
            return list(self._owners.items())

    def each(self, act: Callable[[Connection, int], None]) -> None:
        """Call `act` with every connection and its owner, none of which can be closed meanwhile. It must not block."""
        with self._lock:
            for connection, owner in self._owners.items():
                act(connection, owner)
