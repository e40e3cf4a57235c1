"""Visitors that mean no good, for `tests.soak`: so many a second, from a seed, all of them in one thread.

    quick   random bytes, a TLS hello, requests mutated, cut or followed by rubbish; then close, half-close or reset
    slow    silent, half a head, a head or a body by drops, a large answer that is not read; they never close

Whoever half-closes or never closes waits until the server ends the connection, and it is counted if that does not
happen. A visitor is a generator that yields when it waits: a number of seconds, or a socket to read.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import random
import selectors
import socket
import ssl
import struct
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Generator, Iterable, Iterator

__all__ = ["Garbage"]

REQUESTS = [
    b"GET /1 HTTP/1.1\r\nHost: test\r\n\r\n",
    b"HEAD /2?a=b HTTP/1.1\r\nHost: test\r\nAccept: */*\r\nCookie: a=b; c=d\r\n\r\n",
    b"GET /3 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"POST /4 HTTP/1.1\r\nHost: test\r\nContent-Length: 11\r\n\r\nhello world",
    b"PUT /5 HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
    (b"POST /6 HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\nTrailer: T\r\n\r\n"
     b"5;a=b\r\nhello\r\nA\r\n0123456789\r\n0\r\nT: 1\r\n\r\n"),
    b"GET http://test/7 HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\nX: \xe9\r\n\r\n",
]
PIECES = [b"\r\n", b"\n", b"\r", b"\0", b"\xff", b" ", b"\t", b":", b",", b"\r\n ", b"Host: other\r\n", b"HTTP/9.9",
          b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"ffffffffffffffffffff", b"-1", b"/../%00", b"#"]
UNREAD = b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n"
Visitor = Generator[float | socket.socket, None, None]


def _tls_hello() -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="test")
    try:
        session.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def mutated(rng: random.Random, data: bytes) -> bytes:
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + rng.randint(1, 12))
        data = data[:at] + rng.choice([
            rng.choice(PIECES) + data[at:],
            rng.choice(PIECES) + data[end:],
            rng.randbytes(1) + data[at + 1:],
            data[end:],
            data[at:end] * rng.randint(2, 5) + data[end:],
        ])
    return data


def quick(rng: random.Random, hello: bytes = _tls_hello()) -> tuple[str, list[tuple[float, bytes]], str]:
    """A kind, what to send after how many seconds each, and how it ends."""
    request = rng.choice(REQUESTS)
    kind, data = rng.choice([
        ("random", rng.randbytes(rng.randint(1, 3000))),
        ("tls", hello if rng.random() < 0.5 else mutated(rng, hello)),
        ("mutated", mutated(rng, request)),
        ("mutated", mutated(rng, request)),
        ("mutated", mutated(rng, request + rng.choice(REQUESTS))),
        ("truncated", request[:rng.randrange(len(request))]),
        ("rubbish behind", request + rng.randbytes(rng.randint(1, 200))),
        ("too much", request[:-2] + b"X: %b\r\n" % (b"y" * rng.randint(1, 200_000))),
    ])
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(3)))
    parts = [data[a:b] for a, b in itertools.pairwise([0, *cuts, len(data)])]
    return kind, [(rng.choice([0.0, 0.0, 0.005]), part) for part in parts], rng.choice(["close", "half-close", "reset"])


def slow(rng: random.Random) -> tuple[str, Iterable[tuple[float, bytes]], str]:
    drops: Iterator[tuple[float, bytes]] = ((0.3, b"x") for _ in itertools.count())
    kind, first, rest = rng.choice([
        ("silent", b"", iter(())),
        ("half a head", b"GET / HTTP/1.1\r\nHost: te", iter(())),
        ("idle", REQUESTS[0], iter(())),
        ("drops of a head", b"GET / HTTP/1.1\r\nHost: test\r\nX: ", drops),
        ("drops of a body", b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\n", drops),
        ("not reading", UNREAD, ((0.5, b"") for _ in itertools.count())),
    ])
    return kind, itertools.chain([(0.0, first)], rest), "not at all"


class Garbage(threading.Thread):
    """`rate` visitors a second for `seconds`, a share `slow_share` of them slow; then `finish` waits for the last.

    Every counter is written by this thread alone, and is right after `join`.
    """

    def __init__(self, port: int, rate: float, seconds: float, slow_share: float, seed: int) -> None:
        super().__init__(name="garbage", daemon=True)
        self._port, self._rate, self._seconds, self._slow_share = port, rate, seconds, slow_share
        self._rng = random.Random(seed)
        self._selector = selectors.DefaultSelector()
        self._waiting: list[tuple[float, int, Visitor]] = []
        self._serial = itertools.count()
        self._give_up_at = float("inf")
        self.kinds: Counter[str] = Counter()
        """Visitors that have ended."""
        self.statuses: Counter[str] = Counter()
        """What came back: the status of the first answer, or "none"."""
        self.open = 0
        """Visitors that have not ended; after `join`: that the server has not ended."""
        self.longest: defaultdict[str, float] = defaultdict(float)
        """By kind: seconds of the longest visit that the server had to end."""

    def run(self) -> None:
        begun = time.monotonic()
        count = round(self._rate * self._seconds)
        made = 0
        while made < count or self.open:
            now = time.monotonic()
            if now > self._give_up_at:
                break
            while made < count and begun + made / self._rate <= now:
                made += 1
                self.open += 1
                self._resume(self._visit())
            while self._waiting and self._waiting[0][0] <= now:
                self._resume(heapq.heappop(self._waiting)[2])
            for key, _ in self._selector.select(0.002):
                self._selector.unregister(key.fileobj)
                self._resume(key.data)

    def finish(self, patience: float) -> None:
        """Wait up to so many seconds for the visitors that are left, and end."""
        self._give_up_at = time.monotonic() + patience
        self.join()

    def _resume(self, visitor: Visitor) -> None:
        try:
            awaited = next(visitor)
        except StopIteration:
            self.open -= 1
            return
        if isinstance(awaited, socket.socket):
            self._selector.register(awaited, selectors.EVENT_READ, visitor)
        else:
            heapq.heappush(self._waiting, (time.monotonic() + awaited, next(self._serial), visitor))

    def _visit(self) -> Visitor:
        kind, pieces, ending = slow(self._rng) if self._rng.random() < self._slow_share else quick(self._rng)
        begun, answer, stays = time.monotonic(), b"", ending in ("half-close", "not at all")
        with socket.socket() as sock:
            if kind == "not reading":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            try:
                sock.connect_ex(("127.0.0.1", self._port))
                yield 0.01  # over loopback it is connected then, unless the backlog is full
                for pause, data in pieces:
                    if pause:
                        yield pause
                    with contextlib.suppress(BlockingIOError):  # what does not fit is cut
                        sock.send(data)
                        if kind.startswith("drops"):
                            answer = answer or sock.recv(65536)
                            break
                if ending == "reset":
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                elif ending == "half-close":
                    sock.shutdown(socket.SHUT_WR)
                while stays:
                    yield sock
                    data = sock.recv(65536)
                    answer = answer or data
                    stays = bool(data)
            except OSError:  # the server has ended it
                pass
        self.kinds[kind] += 1
        if ending not in ("close", "reset"):
            self.statuses[answer[9:12].decode("latin-1") or "none"] += 1
            self.longest[kind] = max(self.longest[kind], time.monotonic() - begun)
