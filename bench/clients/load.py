"""The load: a fixed number of clients in one process, each asking again as soon as it is answered (a closed loop).

    python -m bench.clients.load --port 8080 --connections 100 --duration 2  one line of JSON: see bench.clients.result
    python -m bench.clients.load --port 8080 --connections 100 --pause 20  each pauses 20 ms between two requests

Run as a process of its own, so that it does not share the server's GIL. Standard library only. It is made to cost
little, because a load that is slower than the server measures itself: one epoll set, non-blocking sockets, a request
made beforehand, and a response's head parsed once and then looked up. It tells its own share of a core.

When the clock of a request runs: from connect() without keep-alive, from send() with it, until the last byte of the
response. Without keep-alive a client then waits for the server to close, and only then connects anew. So no more than
`connections` ever exist, and the server closes first: TIME_WAIT, which lasts a minute, is on its side, where it holds
none of the 28,000 ports that clients can have.

With a pause, every client thinks between an answer and its next request, for a time that is random (exponential), so
that requests come at their own rate, as long as the server keeps up. A connection that the server closes meanwhile, as
it may, is no error: the client connects anew when it asks.

What a closed loop hides: a client that waits asks nothing meanwhile. While the server stalls, one slow answer for each
client is counted, not the many that would have been asked for in that time ("coordinated omission").
"""

from __future__ import annotations

import argparse
import errno
import gc
import heapq
import itertools
import json
import random
import select
import socket
import time
from array import array
from collections import Counter, deque
from dataclasses import asdict
from types import TracebackType
from typing import Self

from bench.clients.result import Result, percentile
from bench.processes import cpu_seconds, tree

__all__ = ["Load", "measure"]

_REST = 0.01
"""Seconds a client pauses after an error, so that a dead server is not asked a million times."""
_LONGEST_START = 1.0
"""Seconds that the warm-up may last longer than asked for, until every client has been answered for the first time."""
_SCAN = 0.25
"""Seconds between two searches for clients that have waited longer than the timeout."""


class _Client:
    """One client of the loop, with the socket it has at the moment."""

    __slots__ = ("answered", "answers", "connected", "others", "received", "sent", "sock", "start", "thinks")

    def __init__(self) -> None:
        self.sock: socket.socket
        self.connected = False
        self.start = 0.0
        """When the clock of its request began to run."""
        self.thinks = False
        """It pauses; it may be connected meanwhile."""
        self.sent = False
        self.answered = False
        """Answered, and the server is about to close."""
        self.received = b""
        """The beginning of a response that is not complete."""
        self.answers = 0
        self.others = 0
        """Responses other than 2xx."""


class Load:
    """`connections` clients of 127.0.0.1:`port`. Owned by one thread; a context manager, which closes every socket.

    timeout: seconds a client waits for one response before it gives up and connects anew.
    pause: seconds that each pauses after an answer, on average.
    """

    def __init__(self, port: int, connections: int, keep_alive: bool, timeout: float = 10.0, pause: float = 0.0,
                 path: str = "/") -> None:
        # Fixed at construction.
        self._address = "127.0.0.1", port
        self._keep_alive = keep_alive
        self._timeout = timeout
        self._pause = pause
        fields = b"Host: 127.0.0.1\r\n" + (b"" if keep_alive else b"Connection: close\r\n")
        self._request = f"GET {path} HTTP/1.1\r\n".encode() + fields + b"\r\n"
        # What changes.
        self._epoll = select.epoll()
        self._clients = [_Client() for _ in range(connections)]
        self._by_descriptor: dict[int, _Client] = {}
        self._resting: deque[tuple[float, _Client]] = deque((0.0, client) for client in self._clients)
        self._thinking: list[tuple[float, int, _Client]] = []
        """A heap: when each asks again, and a number, because clients have no order."""
        self._numbers = itertools.count()
        self._random = random.Random(connections)
        self._heads: dict[bytes, tuple[int, int, bool] | None] = {}
        self.forget()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        for client in self._by_descriptor.values():
            client.sock.close()
        self._epoll.close()

    def forget(self) -> None:
        """Start counting anew: the warm-up is over. A request in flight counts when it is answered."""
        self._latencies = array("d")
        self._non_2xx: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        for client in self._clients:
            client.answers = client.others = 0

    def run(self, seconds: float) -> None:
        """Ask and be answered for so long."""
        clock, poll, clients = time.perf_counter, self._epoll.poll, self._by_descriptor
        now = clock()
        end = now + seconds
        scan = now + _SCAN
        while now < end:
            wait = min(_REST, end - now)
            if self._thinking:
                wait = min(wait, max(0.0, self._thinking[0][0] - now))
            for descriptor, _ in poll(wait, 1024):
                client = clients[descriptor]
                if client.sent:
                    self._receive(client)
                else:
                    self._send_first(client)
            now = clock()
            while self._resting and self._resting[0][0] <= now:
                self._connect(self._resting.popleft()[1])
            while self._thinking and self._thinking[0][0] <= now:
                self._ask(heapq.heappop(self._thinking)[2])
            if now >= scan:
                scan = now + _SCAN
                self._give_up(now - self._timeout)

    def unanswered(self) -> int:
        """Clients that have got no response since `forget`, or since the start."""
        return sum(not (client.answers or client.others) for client in self._clients)

    def result(self, seconds: float, generator_cpu: float, server_cpu: float | None) -> Result:
        """What has been counted since `forget`, which was `seconds` ago."""
        latencies = sorted(self._latencies)
        return Result(
            seconds=seconds,
            ok=len(latencies),
            non_2xx=dict(self._non_2xx),
            errors=dict(self._errors),
            starved=self.unanswered(),
            answers=sorted(client.answers for client in self._clients),
            mean_ms=1e3 * sum(latencies) / len(latencies) if latencies else 0.0,
            p50_ms=1e3 * percentile(latencies, 50),
            p99_ms=1e3 * percentile(latencies, 99),
            max_ms=1e3 * percentile(latencies, 100),
            generator_share=generator_cpu / seconds,
            server_cpu=server_cpu,
        )

    # A connection's life.

    def _think(self, client: _Client) -> None:
        client.thinks = True
        due = time.perf_counter() + self._random.expovariate(1 / self._pause)
        heapq.heappush(self._thinking, (due, next(self._numbers), client))

    def _ask(self, client: _Client) -> None:
        client.thinks = False
        if not client.connected:
            self._connect(client)
            return
        client.start = time.perf_counter()
        try:
            client.sock.send(self._request)
        except OSError:
            self._fail(client, "reset")

    def _connect(self, client: _Client) -> None:
        client.connected = True
        client.received = b""
        client.sent = client.answered = False
        client.start = time.perf_counter()
        client.sock = sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._by_descriptor[sock.fileno()] = client
        failed = sock.connect_ex(self._address)
        if failed not in (0, errno.EINPROGRESS):
            self._fail(client, "no local port" if failed == errno.EADDRNOTAVAIL else "connect")
            return
        try:
            # On loopback the handshake is over by now, unless the server's backlog is full.
            sock.send(self._request)
            client.sent = True
            self._epoll.register(sock, select.EPOLLIN)
        except BlockingIOError:
            self._epoll.register(sock, select.EPOLLIN | select.EPOLLOUT)
        except OSError:
            self._fail(client, "connect")

    def _send_first(self, client: _Client) -> None:
        try:
            client.sock.send(self._request)
        except OSError:
            self._fail(client, "connect")
            return
        client.sent = True
        self._epoll.modify(client.sock, select.EPOLLIN)

    def _receive(self, client: _Client) -> None:
        try:
            data = client.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = None
        if not data:
            if client.answered or client.thinks:
                self._close(client)
                if not self._pause:
                    self._connect(client)
                elif not client.thinks:
                    self._think(client)
            else:
                self._fail(client, "reset" if data is None else "closed early")
            return
        if client.received:
            data = client.received + data
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            client.received = data
            return
        head = data[:end]
        parsed = self._heads.get(head)
        if parsed is None:
            parsed = self._parse(head)
        if parsed is None or client.answered or client.thinks:
            self._fail(client, "malformed")
            return
        status, length, last = parsed
        if len(data) < end + length:
            client.received = data
            return
        now = time.perf_counter()
        if 200 <= status <= 299:
            self._latencies.append(now - client.start)
            client.answers += 1
        else:
            self._non_2xx[str(status)] += 1
            client.others += 1
        client.received = b""
        if last or not self._keep_alive:
            client.answered = True
            return
        if self._pause:
            self._think(client)
            return
        client.start = now
        try:
            client.sock.send(self._request)
        except OSError:
            self._fail(client, "reset")

    def _parse(self, head: bytes) -> tuple[int, int, bool] | None:
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
        if len(self._heads) > 1000:
            self._heads.clear()
        self._heads[head] = parsed = status, length, b"close" in headers.get(b"connection", b"")
        return parsed

    def _give_up(self, before: float) -> None:
        for client in list(self._by_descriptor.values()):
            if client.start < before and not client.thinks:
                self._fail(client, "not closed" if client.answered else "timeout")

    def _fail(self, client: _Client, kind: str) -> None:
        self._errors[kind] += 1
        self._close(client)
        if not client.thinks:  # else it connects when it asks
            self._resting.append((time.perf_counter() + _REST, client))

    def _close(self, client: _Client) -> None:
        client.connected = False
        del self._by_descriptor[client.sock.fileno()]
        client.sock.close()  # which also takes it out of the epoll set


def measure(port: int, connections: int, keep_alive: bool, *, warmup: float, duration: float, timeout: float = 10.0,
            pause: float = 0.0, path: str = "/", watch: int | None = None) -> Result:
    """Load 127.0.0.1:`port` for `warmup` seconds, which do not count, and `duration` seconds, which do.

    A warm-up is longer, by a second at most, if a client has not been answered yet: a server that is late with its
    first answers is not the same as one that leaves clients without any. No warm-up (0) stays none.

    watch: the process whose CPU time is taken at both ends of the time that counts, and that of all it has forked.
    """
    watched = [] if watch is None else tree(watch)
    with Load(port, connections, keep_alive, timeout, pause, path) as load:
        load.run(warmup)
        end = time.perf_counter() + (_LONGEST_START if warmup else 0.0)
        while load.unanswered() and time.perf_counter() < end:
            load.run(0.05)
        load.forget()
        began, own = time.perf_counter(), time.process_time()
        server = cpu_seconds(watched)
        load.run(duration)
        passed, own, server = time.perf_counter() - began, time.process_time() - own, cpu_seconds(watched) - server
        return load.result(passed, own, server if watched else None)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.clients.load",
                                     description="HTTP load on 127.0.0.1; prints JSON.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, default=100)
    parser.add_argument("--no-keep-alive", action="store_true", help="a new connection for each request")
    parser.add_argument("--warmup", type=float, default=0.3, help="seconds that do not count")
    parser.add_argument("--duration", type=float, default=2.0, help="seconds that do")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds a client waits for one response")
    parser.add_argument("--pause", type=float, default=0.0, metavar="MS",
                        help="milliseconds that each client pauses after an answer, on average")
    parser.add_argument("--path", default="/", help="what is asked for (default: /)")
    parser.add_argument("--watch", type=int, metavar="PID", help="a process whose CPU time to take")
    options = parser.parse_args()
    gc.disable()  # nothing here makes cycles, and a collection would look like a slow server
    result = measure(options.port, options.connections, not options.no_keep_alive, warmup=options.warmup,
                     duration=options.duration, timeout=options.timeout, pause=options.pause / 1e3,
                     path=options.path, watch=options.watch)
    print(json.dumps(asdict(result)))


if __name__ == "__main__":
    main()
