"""How the probe keeps to its schedule, and what becomes of a request. `bench.clients.probe` says what for.

To be on time it sleeps until shortly before a request is due, and from then on looks at the clock again and again.
What has been answered is read in between. A request takes the free connection that was used last, as pools of
connections do, or opens one. Or each has one of its own, whose end it leaves to the server: so TIME_WAIT, which lasts a
minute, is on the server's side, where it holds none of the 28,000 ports that clients can have.
"""

from __future__ import annotations

import errno
import select
import socket
import time
from array import array
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from types import TracebackType
from typing import Literal, Self

__all__ = ["Loop"]

_EARLY = 100e-6
"""Seconds before a request is due at which sleeping ends: about what a core takes to wake up."""
_SCAN = 0.1
"""Seconds between two searches for requests that have waited too long."""
_BATCH = 8
"""Responses that are read before the clock is looked at again: some 100 us."""


class _Connection:
    """One connection, and the request that it is busy with."""

    __slots__ = ("counts", "due", "received", "sent_at", "sock", "state", "used")

    def __init__(self, due: float, counts: bool) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.state: Literal["connecting", "asked", "free", "closing"] = "connecting"
        """closing: answered for the last time; the server is about to close."""
        self.due = due
        self.counts = counts
        self.sent_at = time.perf_counter()
        self.received = b""
        """The beginning of a response that is not complete."""
        self.used = False
        """It has had a response before."""


class Loop:
    """Asks 127.0.0.1:`port` for `path`. Owned by one thread; a context manager, which closes every socket.

    most: connections at once, of which no more are opened. timeout: seconds from when a request was due.
    """

    def __init__(self, port: int, path: str, new_connection: bool, most: int, timeout: float) -> None:
        # Fixed at construction.
        self._address = "127.0.0.1", port
        self._new_connection = new_connection
        self._most, self._timeout = most, timeout
        fields = "Host: 127.0.0.1\r\n" + ("Connection: close\r\n" if new_connection else "")
        self._request = f"GET {path} HTTP/1.1\r\n{fields}\r\n".encode()
        # What changes.
        self._epoll = select.epoll()
        self._open: dict[int, _Connection] = {}
        self._free: list[_Connection] = []
        self._counts = False
        self.spun_s = 0.0
        """Seconds spent with nothing but looking at the clock."""
        self.most_open = 0
        # Of the requests that count.
        self.scheduled = 0
        self.latencies_ms, self.from_send_ms, self.late_ms = array("d"), array("d"), array("d")
        self.non_2xx: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        for connection in self._open.values():
            connection.sock.close()
        self._epoll.close()

    def count(self) -> None:
        """The warm-up is over: the requests that are sent from here on count."""
        self._counts = True

    def waiting(self) -> int:
        """Requests that count and have no response yet."""
        return sum(one.counts and one.state in ("connecting", "asked") for one in self._open.values())

    def run(self, start: float, due: Iterable[float]) -> None:
        """Send each request when it is due, in seconds after `start`, and read what is answered meanwhile.

        Returns once the last one is sent.
        """
        clock = time.perf_counter
        scan = start + _SCAN
        for offset in due:
            moment = start + offset
            while (left := moment - (now := clock())) > 0:
                if left > _EARLY:
                    # select(2) counts microseconds, where epoll_wait(2) counts milliseconds; an epoll set can be waited
                    # for like a socket, and this one has a low number.
                    select.select((self._epoll,), (), (), min(_SCAN, left - _EARLY))
                if not self._read(0) and left <= _EARLY:
                    self.spun_s += clock() - now
                if now > scan:
                    scan = now + _SCAN
                    self._give_up(now - self._timeout)
            self._send(moment)

    def drain(self, seconds: float) -> None:
        """Wait for the responses that are still to come, for so long at most."""
        end = time.perf_counter() + seconds
        while self.waiting() and (now := time.perf_counter()) < end:
            self._read(min(_SCAN, end - now))
            self._give_up(now - self._timeout)

    def _read(self, wait: float) -> int:
        """What there is, but no more than a batch; for how many connections that was."""
        ready = self._epoll.poll(wait, _BATCH)
        for descriptor, _ in ready:
            connection = self._open[descriptor]
            if connection.state == "connecting":
                self._send_first(connection)
            else:
                self._receive(connection)
        return len(ready)

    # A request's life.

    def _send(self, due: float) -> None:
        self.scheduled += self._counts
        if self._free:
            connection = self._free.pop()
            connection.due, connection.counts = due, self._counts
            connection.sent_at = time.perf_counter()
            connection.state = "asked"
            if self._counts:
                self.late_ms.append(1e3 * (connection.sent_at - due))
            try:
                connection.sock.send(self._request)
            except OSError:
                self._ask_anew(connection)
        elif len(self._open) < self._most:
            connection = _Connection(due, self._counts)
            if self._counts:
                self.late_ms.append(1e3 * (connection.sent_at - due))
            self._connect(connection)
        elif self._counts:
            self.errors["no connection free"] += 1

    def _connect(self, connection: _Connection) -> None:
        self._open[connection.sock.fileno()] = connection
        self.most_open = max(self.most_open, len(self._open))
        failed = connection.sock.connect_ex(self._address)
        if failed not in (0, errno.EINPROGRESS):
            self._fail(connection, "no local port" if failed == errno.EADDRNOTAVAIL else "connect")
            return
        try:
            # On loopback the handshake is over by now, unless the server's backlog is full.
            connection.sock.send(self._request)
            connection.state = "asked"
            self._epoll.register(connection.sock, select.EPOLLIN)
        except BlockingIOError:
            self._epoll.register(connection.sock, select.EPOLLIN | select.EPOLLOUT)
        except OSError:
            self._fail(connection, "connect")

    def _send_first(self, connection: _Connection) -> None:
        try:
            connection.sock.send(self._request)
        except OSError:
            self._fail(connection, "connect")
            return
        connection.state = "asked"
        self._epoll.modify(connection.sock, select.EPOLLIN)

    def _ask_anew(self, connection: _Connection) -> None:
        """It had been idle, and was closed just when it was used again: no error, RFC 9112 section 9.3.1."""
        self._close(connection)
        self._connect(_Connection(connection.due, connection.counts))

    def _receive(self, connection: _Connection) -> None:
        data: bytes | None
        try:
            data = connection.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = None
        if not data:
            if connection.state != "asked":
                self._close(connection)
            elif connection.used and not connection.received:
                self._ask_anew(connection)
            else:
                self._fail(connection, "reset" if data is None else "closed early")
            return
        data = connection.received + data
        end = data.find(b"\r\n\r\n") + 4
        parsed = _parse(data[:end]) if end >= 4 else (0, 0, False)
        if parsed is None or connection.state != "asked":
            self._fail(connection, "malformed")
            return
        status, length, last = parsed
        if end < 4 or len(data) < end + length:
            connection.received = data
            return
        if connection.counts:
            self._count_response(connection, status)
        connection.received = b""
        connection.used = True
        if last or self._new_connection:
            connection.state = "closing"
        else:
            connection.state = "free"
            self._free.append(connection)

    def _count_response(self, connection: _Connection, status: int) -> None:
        if 200 <= status <= 299:
            now = time.perf_counter()
            self.latencies_ms.append(1e3 * (now - connection.due))
            self.from_send_ms.append(1e3 * (now - connection.sent_at))
        else:
            self.non_2xx[str(status)] += 1

    def _give_up(self, before: float) -> None:
        for connection in list(self._open.values()):
            if connection.due < before and connection.state == "closing":
                self._close(connection)
            elif connection.due < before and connection.state != "free":
                self._fail(connection, "timeout")

    def _fail(self, connection: _Connection, kind: str) -> None:
        if connection.counts:
            self.errors[kind] += 1
        self._close(connection)

    def _close(self, connection: _Connection) -> None:
        if connection.state == "free":
            self._free.remove(connection)
        del self._open[connection.sock.fileno()]
        connection.sock.close()  # which also takes it out of the epoll set


@lru_cache(1000)
def _parse(head: bytes) -> tuple[int, int, bool] | None:
    """Status, length of the body, whether the server closes after it; None if it has no Content-Length.

    Kept, because a server's heads are all the same but for the Date, which changes once a second.
    """
    line, *fields = head.lower().split(b"\r\n")
    headers = dict(field.partition(b":")[::2] for field in fields)
    try:
        status = int(line.split()[1])
        length = 0 if status in (204, 304) else int(headers[b"content-length"])
    except (IndexError, KeyError, ValueError):
        return None
    return status, length, b"close" in headers.get(b"connection", b"")
