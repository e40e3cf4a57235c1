"""Clients of servers on this machine: so many for each server, the same for all, in one thread.

A client asks for /?sleep=MS, waits for its answer, thinks, and asks again: a closed loop. It thinks for a random time
(exponential, as of people who do not know of each other), `think_ms` on average; without it the clients would measure
how fast they are, and the machine would do nothing else. Of N clients that think Z seconds, and are answered after R,
come N / (Z + R) requests a second: Little's law. That R is what they measure: from the moment when a client asks, its
connect() included, to the end of its answer. All waiting is in it, also that of which the server knows nothing.

Without keep-alive a client connects anew for each request, and waits for the server to close, so that what is left for
a minute (TIME_WAIT) is on the server's side, where it holds none of the 28,000 ports that clients can have.
"""

from __future__ import annotations

import errno
import heapq
import itertools
import random
import select
import socket
import time
from collections import deque
from typing import Any

import h11

from watching.counts import quantile
from watching.messages import ClientsSee

__all__ = ["Clients"]

_WINDOW = 1.0
"""Seconds that `Clients.see` tells of."""

_REST = 0.5
"""Seconds that a client pauses when something has failed, so that a server that is gone is not asked all the time."""
_PATIENCE = 30.0
"""Seconds to wait for an answer, beside what the handler sleeps."""
_SCAN = 1.0
"""Seconds between two searches for clients that have waited longer."""


class _Client:
    """One client, with the socket it has at the moment."""

    __slots__ = ("answered", "asked_at", "closing", "head", "received", "retired", "server", "sock", "thinks")

    def __init__(self, server: int) -> None:
        self.server = server
        """The place of its server in the list."""
        self.sock: socket.socket | None = None
        self.head = b""
        """The request that it is to send, as long as it has not."""
        self.received = b""
        self.thinks = True
        self.closing = False
        """Its request says so: the answer ends where the server closes."""
        self.answered = 0
        self.asked_at = 0.0
        self.retired = False
        """There are to be fewer: it goes once it has its answer."""


class Clients:
    """`clients` for each of `servers` ("127.0.0.1:8080"). One thread; see `change` for what it is told."""

    def __init__(self, servers: list[str], seed: int = 0) -> None:
        # Fixed at construction.
        self._addresses = [(host, int(port)) for host, _, port in (each.rpartition(":") for each in servers)]
        self._random = random.Random(seed)
        self._epoll = select.epoll()
        # What changes.
        self.clients = 0
        self.keep_alive = False
        self.sleep_ms = 0.0
        self.think_ms = 0.0
        self._all: list[_Client] = []
        self._by_descriptor: dict[int, _Client] = {}
        self._thinking: list[tuple[float, int, _Client]] = []
        """A heap: when each asks again, and a number, because clients have no order."""
        self._numbers = itertools.count()
        self._scan_at = 0.0
        self._ends: list[deque[tuple[float, float | None]]] = [deque() for _ in servers]
        """Of each server's requests in the last `_WINDOW`: when they ended, after how many seconds; None: failed."""

    @property
    def answered(self) -> list[int]:
        """Answers so far, by client."""
        return [client.answered for client in self._all]

    def see(self) -> list[ClientsSee]:
        """What the clients of each server have seen in the last second."""
        before, seen = time.monotonic() - _WINDOW, []
        for ends in self._ends:
            while ends and ends[0][0] < before:
                ends.popleft()
            ordered = sorted(seconds for _, seconds in ends if seconds is not None)
            seen.append(ClientsSee(answers=len(ordered), failures=len(ends) - len(ordered),
                                   p50=quantile(ordered, 0.5), p99=quantile(ordered, 0.99)))
        return seen

    def change(self, wishes: dict[str, Any]) -> None:
        """clients, keep_alive, sleep_ms, think_ms: each from the next request on."""
        for name in wishes.keys() & {"clients", "keep_alive", "sleep_ms", "think_ms"}:
            setattr(self, name, wishes[name])
        now = time.monotonic()
        for server in range(len(self._addresses)):
            mine = [client for client in self._all if client.server == server and not client.retired]
            for client in mine[self.clients:]:
                client.retired = True
                if client.thinks:
                    self._leave(client)
            for _ in range(self.clients - len(mine)):
                client = _Client(server)
                self._all.append(client)
                # Spread over the time that they think, for people do not come all at once.
                self._think(client, now, self._random.uniform(0, self.think_ms / 1e3))

    def run(self, seconds: float) -> None:
        """Ask and be answered for so long, or until something is to be read from descriptor 0, if that is watched."""
        end = (now := time.monotonic()) + seconds
        while now < end:
            due = self._thinking[0][0] if self._thinking else end
            for descriptor, events in self._epoll.poll(max(0.0, min(due, end) - now), 1024):
                client = self._by_descriptor.get(descriptor)
                if client is None:
                    return
                if client.head and events & select.EPOLLOUT:
                    self._send(client)
                else:
                    self._receive(client)
            now = time.monotonic()
            while self._thinking and self._thinking[0][0] <= now:
                client = heapq.heappop(self._thinking)[2]
                if not client.retired:
                    self._ask(client, time.monotonic())
            if now >= self._scan_at:
                self._scan_at = now + _SCAN
                self._give_up(now - _PATIENCE - self.sleep_ms / 1e3)

    def watch(self, descriptor: int) -> None:
        """Have `run` return when something is to be read there."""
        self._epoll.register(descriptor, select.EPOLLIN)

    def close(self) -> None:
        for client in self._all:
            self._drop(client)
        self._epoll.close()

    # A client's life.

    def _think(self, client: _Client, now: float, seconds: float | None = None) -> None:
        if client.retired:
            self._leave(client)
            return
        client.thinks = True
        if seconds is None:
            seconds = self._random.expovariate(1e3 / self.think_ms) if self.think_ms else 0.0
        heapq.heappush(self._thinking, (now + seconds, next(self._numbers), client))

    def _ask(self, client: _Client, now: float) -> None:
        host, port = self._addresses[client.server]
        client.thinks, client.closing, client.received, client.asked_at = False, not self.keep_alive, b"", now
        close = "Connection: close\r\n" if client.closing else ""
        client.head = f"GET /?sleep={self.sleep_ms:g} HTTP/1.1\r\nHost: {host}:{port}\r\n{close}\r\n".encode()
        if client.sock is not None:
            self._send(client)
            return
        sock = client.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._by_descriptor[sock.fileno()] = client
        self._epoll.register(sock, select.EPOLLIN | select.EPOLLOUT)  # writable: it is connected
        if sock.connect_ex((host, port)) not in (0, errno.EINPROGRESS):
            self._fail(client)

    def _send(self, client: _Client) -> None:
        assert client.sock is not None
        try:
            client.sock.send(client.head)  # less than a socket's buffer, and so as a whole
        except OSError:
            self._fail(client)
            return
        client.head = b""
        self._epoll.modify(client.sock, select.EPOLLIN)

    def _receive(self, client: _Client) -> None:
        assert client.sock is not None
        try:
            data = client.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            self._fail(client)
            return
        if client.thinks:
            self._drop(client)  # the server closes a connection that is idle, as it may
        elif client.closing:
            if data:
                client.received = client.received or data  # its head is all that we look at
            elif client.received:
                self._drop(client)
                self._answer(client)
            else:
                self._fail(client)
        else:
            client.received += data
            try:
                if _is_whole(client.received):
                    self._answer(client)
                elif not data:
                    self._fail(client)
            except (ValueError, h11.RemoteProtocolError):
                self._fail(client)

    def _answer(self, client: _Client) -> None:
        now = time.monotonic()
        failed = client.received[9:10] == b"5"  # "HTTP/1.1 503": refused, and soon, which is not to pass for fast
        self._ends[client.server].append((now, None if failed else now - client.asked_at))
        client.answered += 1
        client.received = b""
        self._think(client, now)

    def _fail(self, client: _Client) -> None:
        now = time.monotonic()
        self._ends[client.server].append((now, None))
        self._drop(client)
        self._think(client, now, _REST)

    def _give_up(self, before: float) -> None:
        for client in [each for each in self._all if not each.thinks and each.asked_at < before]:
            self._fail(client)

    def _leave(self, client: _Client) -> None:
        self._drop(client)
        self._all.remove(client)

    def _drop(self, client: _Client) -> None:
        if client.sock is not None:
            del self._by_descriptor[client.sock.fileno()]
            client.sock.close()  # which also takes it out of the epoll set
            client.sock, client.head = None, b""


def _is_whole(received: bytes) -> bool:
    """A response on a connection that stays."""
    head, found, body = received.partition(b"\r\n\r\n")
    if not found:
        return False
    _, found, rest = head.lower().partition(b"\r\ncontent-length:")
    if found:
        return len(body) >= int(rest.partition(b"\r\n")[0])
    reader = h11.Connection(h11.CLIENT)  # chunked: which we do not read ourselves
    reader.send(h11.Request(method="GET", target="/", headers=[("Host", "localhost")]))
    reader.send(h11.EndOfMessage())
    reader.receive_data(received)
    while not isinstance(event := reader.next_event(), h11.EndOfMessage):
        if event is h11.NEED_DATA or event is h11.PAUSED:
            return False
    return True
