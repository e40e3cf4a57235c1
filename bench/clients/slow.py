"""Slow clients: each sends its request one byte at a time, takes the answer, keeps the connection, and does so again.

    python -m bench.clients.slow --port 8080 --clients 64 --interval-ms 10 --duration 5

A process of its own: one thread, one epoll set. It prints a line once the first byte of every client is on its way, and
one line of JSON at its end, which is Told. It ends after `--duration` seconds, or sooner with its standard input.

35 bytes at 10 ms each take a third of a second, which no deadline of a server minds: such a client is no attacker, but
somebody on a bad line. What it costs is the server's choice. A thread that reads from it waits for 35 bytes, and if it
holds the connection then it waits for the next 35, too. Nagle's algorithm is off (TCP_NODELAY, tcp(7)), or the kernel
would put bytes together.
"""

from __future__ import annotations

import argparse
import errno
import json
import re
import select
import socket
import sys
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Self

__all__ = ["REQUEST", "SlowClients", "Told"]

REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_FOREVER = float("inf")


@dataclass
class Told:
    """What came of it."""

    seconds: float
    clients: int
    asked: int
    """Requests that were sent to their last byte."""
    answered: int
    """Of those, with a 2xx status. What is in neither of these counts, nor in the next two, was waiting at the end."""
    others: dict[str, int]
    """Responses with another status, by status; also to half a request."""
    cut: int
    """Requests that the server ended, or would not begin, without a response."""
    served: int
    """Clients that were answered at least once."""
    bytes: int
    """Sent."""
    interval_ms: float
    """Between two bytes of a request, as it really was, on average: longer than asked for if this process has too
    little CPU."""


class _Client:
    __slots__ = ("answers", "fresh", "place", "received", "sent_at", "sock")

    def __init__(self) -> None:
        self.sock: socket.socket | None = None
        """None: it connects when its next byte is due."""
        self.fresh = True
        """There has been no response on this connection."""
        self.place = 0
        """Of the next byte in the request; behind the last it waits for the answer."""
        self.sent_at = 0.0
        self.received = b""
        self.answers = 0


class SlowClients:
    """`clients` of 127.0.0.1:`port`. Owned by one thread; a context manager, which closes every socket.

    interval: seconds between two bytes, and between an answer and the next request.
    """

    def __init__(self, port: int, clients: int, interval: float) -> None:
        # Fixed at construction.
        self._address = "127.0.0.1", port
        self._interval = interval
        self._clients = [_Client() for _ in range(clients)]
        # What changes.
        self._epoll = select.epoll()
        self._by_descriptor: dict[int, _Client] = {}
        begin = time.perf_counter()
        self._due = deque((begin + interval * n / clients, client) for n, client in enumerate(self._clients))
        """When each sends its next byte. It stays in order, because all wait for the same time; who waits for an answer
        is not in it."""
        self._asked = self._answered = self._cut = self._bytes = self._gaps = 0
        self._between = 0.0
        """Seconds, of all gaps."""
        self._others: Counter[str] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        for client in self._by_descriptor.values():
            assert client.sock is not None
            client.sock.close()
        self._epoll.close()

    def run(self, seconds: float, until: int | None = None) -> None:
        """Send, and be answered, for so long; or until the descriptor `until` can be read."""
        end = time.perf_counter() + seconds
        if until is not None:
            self._epoll.register(until, select.EPOLLIN)
        try:
            while (now := time.perf_counter()) < end:
                while self._due and self._due[0][0] <= now:
                    self._send(self._due.popleft()[1])
                due = self._due[0][0] if self._due else _FOREVER
                for descriptor, _ in self._epoll.poll(max(0.0, min(due, end) - time.perf_counter())):
                    if descriptor == until:
                        return
                    # An earlier event of the same call may have closed it.
                    if (client := self._by_descriptor.get(descriptor)) is not None:
                        self._receive(client)
        finally:
            if until is not None:
                self._epoll.unregister(until)

    def told(self, seconds: float) -> Told:
        """What has come of it in the `seconds` since the start."""
        return Told(seconds, len(self._clients), self._asked, self._answered, dict(self._others), self._cut,
                    sum(client.answers > 0 for client in self._clients), self._bytes,
                    1e3 * self._between / self._gaps if self._gaps else 0.0)

    def _send(self, client: _Client) -> None:
        """The next byte; or at least connect, if that takes longer."""
        if client.sock is None:
            self._connect(client)
        if client.sock is None:  # there was no way to
            self._rest(client)
            return
        try:
            client.sock.send(REQUEST[client.place:client.place + 1])
        except BlockingIOError:  # not connected yet
            self._rest(client)
            return
        except OSError:
            self._end(client)
            self._rest(client)
            return
        now = time.perf_counter()
        if client.place:
            self._gaps += 1
            self._between += now - client.sent_at
        client.sent_at = now
        client.place += 1
        self._bytes += 1
        if client.place < len(REQUEST):
            self._rest(client)
        else:
            self._asked += 1

    def _connect(self, client: _Client) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if sock.connect_ex(self._address) not in (0, errno.EINPROGRESS):
            sock.close()
            self._cut += 1
            return
        client.sock, client.fresh, client.place, client.received = sock, True, 0, b""
        self._by_descriptor[sock.fileno()] = client
        self._epoll.register(sock, select.EPOLLIN)

    def _rest(self, client: _Client) -> None:
        self._due.append((time.perf_counter() + self._interval, client))

    def _receive(self, client: _Client) -> None:
        assert client.sock is not None
        waits = client.place == len(REQUEST)
        try:
            data = client.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        client.received += data
        if not data:
            self._end(client)
        elif (status := _status(client.received)) is None:
            return  # more is to come
        elif waits and status.startswith("2"):
            self._answered += 1
            client.answers += 1
            client.fresh, client.place, client.received = False, 0, b""
        else:
            self._others[status] += 1
            client.fresh, client.place = False, 0  # what it had sent has had its response
            self._end(client)
        if waits:
            self._rest(client)

    def _end(self, client: _Client) -> None:
        """Its connection is over. A server may close one that is idle; else it has cut it, or would not have it."""
        assert client.sock is not None
        self._cut += client.fresh or client.place > 0
        del self._by_descriptor[client.sock.fileno()]
        client.sock.close()  # which also takes it out of the epoll set
        client.sock, client.place = None, 0


def _status(received: bytes) -> str | None:
    """Of a response; None if it is not complete. "no HTTP" if it is none."""
    head, end, body = received.partition(b"\r\n\r\n")
    if not end:
        return None
    status = head[9:12].decode(errors="replace")
    length = _LENGTH.search(head + b"\r\n")
    if length is None or not status.isdecimal():
        return "no HTTP"
    return status if len(body) >= int(length[1]) else None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.clients.slow", description="Clients of 127.0.0.1 that send "
                                     "a byte now and then; prints JSON. Ends with its standard input (Ctrl-D), too.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--interval-ms", type=float, default=10.0, help="between two bytes (default: 10)")
    parser.add_argument("--duration", type=float, default=5.0, help="seconds, at most (default: 5)")
    options = parser.parse_args()
    if options.clients < 1 or options.interval_ms <= 0:
        parser.error("give at least one of --clients, and an --interval-ms above 0")
    began = time.perf_counter()
    interval = options.interval_ms / 1e3
    with SlowClients(options.port, options.clients, interval) as slow:
        slow.run(interval)  # in which every client's first byte is due
        print(f"{options.clients} clients", flush=True)
        try:
            slow.run(options.duration - interval, sys.stdin.fileno())
        except PermissionError:  # epoll_ctl(2): a file, or /dev/null, which has no end to wait for
            slow.run(options.duration - interval)
        passed = time.perf_counter() - began
        print(json.dumps(asdict(slow.told(passed))))


if __name__ == "__main__":
    main()
