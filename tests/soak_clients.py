"""Two kinds of good clients for `tests.soak`, beside the normal ones: those that are idle, and those that pipeline.

Both check every answer. A kept connection that the server has closed meanwhile, as it may, is no failure: it is counted
as crossed, and the request is sent again, on a new one (RFC 9112 section 9.3.1).
"""

from __future__ import annotations

import contextlib
import heapq
import random
import socket
import threading
import time
from collections import Counter
from typing import BinaryIO

from tests.client_programs import line

__all__ = ["Good", "Idle", "Pipelining"]

_PATIENCE = 60.0


class Good(threading.Thread):
    """What they have in common. The counters are written by this thread alone, and are right after `join`."""

    def __init__(self, port: int, seed: int) -> None:
        super().__init__(name=type(self).__name__, daemon=True)
        self._port = port
        self._rng = random.Random(seed)
        self.over = threading.Event()
        """Set it to have them end."""
        self.answers = 0
        self.crossed = 0
        self.failures: Counter[str] = Counter()


class _Client:
    """One connection, or none. `closing`: the last answer has announced that no other follows."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._sock: socket.socket | None = None
        self._file: BinaryIO
        self.closing = False

    @property
    def connected(self) -> bool:
        return self._sock is not None

    def send(self, data: bytes) -> None:
        if self._sock is None:
            self._sock = socket.create_connection(("127.0.0.1", self._port), _PATIENCE)
            self._file = self._sock.makefile("rb")
        self._sock.sendall(data)

    def receive(self) -> str:
        """The next answer: its status, and its body unless that is not 200. OSError if there is none."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            if not (data := self._file.readline()):
                raise ConnectionResetError("closed before its answer" if not head else "closed in a head")
            head += data
        fields = dict(field.partition(b":")[::2] for field in head.lower().split(b"\r\n"))
        length = int(fields[b"content-length"])
        self.closing = fields.get(b"connection", b"").strip() == b"close"
        body = self._file.read(length)
        if len(body) < length:
            raise ConnectionResetError("closed in a body")
        status = head.split()[1].decode()
        return body.decode() if status == "200" else status

    def close(self) -> None:
        if self._sock is not None:
            self._file.close()
            self._sock.close()
            self._sock = None


class Idle(Good):
    """`count` clients that keep their connection and ask now and then: mostly within `keep_alive`, sometimes later."""

    def __init__(self, port: int, count: int, keep_alive: float, seed: int) -> None:
        super().__init__(port, seed)
        self._count = count
        self._keep_alive = keep_alive

    def run(self) -> None:
        clients = [_Client(self._port) for _ in range(self._count)]
        due = [(time.monotonic() + self._rng.uniform(0, 2), number) for number in range(self._count)]
        heapq.heapify(due)
        with contextlib.ExitStack() as stack:
            for client in clients:
                stack.callback(client.close)
            while due and not self.over.wait(max(0.0, due[0][0] - time.monotonic())):
                _, number = heapq.heappop(due)
                self._ask(clients[number], number)
                long = self._rng.random() < 0.3
                pause = self._rng.uniform(0.8, 1.6) if long else self._rng.uniform(0.04, 0.6)
                heapq.heappush(due, (time.monotonic() + pause * self._keep_alive, number))

    def _ask(self, client: _Client, number: int) -> None:
        kept = client.connected
        try:
            client.send(b"GET /idle/%d HTTP/1.1\r\nHost: test\r\n\r\n" % number)
            answer = client.receive()
        except OSError as error:
            client.close()
            if kept:
                self.crossed += 1
                self._ask(client, number)
            else:
                self.failures[f"idle: {error}"] += 1
            return
        if client.closing:
            client.close()
        if answer == line("GET", f"/idle/{number}"):
            self.answers += 1
        else:
            self.failures[f"idle: {answer[:40]}"] += 1


class Pipelining(Good):
    """One client that sends up to twenty requests before it reads the answers, several times, and then leaves; now and
    then without having read them."""

    def run(self) -> None:
        client = _Client(self._port)
        with contextlib.closing(client):
            while not self.over.wait(self._rng.uniform(0.0, 0.2)):
                if self._rng.random() < 0.1:
                    client.close()
                self._send(client)

    def _send(self, client: _Client) -> None:
        requests = [self._request(number) for number in range(self._rng.randint(2, 20))]
        data = b"".join(request for request, _ in requests)
        cut = self._rng.randrange(len(data))
        kept, read = client.connected, 0
        try:
            client.send(data[:cut])
            if self._rng.random() < 0.5:
                self.over.wait(0.01)
            client.send(data[cut:])
            if self._rng.random() < 0.1:
                client.close()
                return
            for _, expected in requests:
                answer = client.receive()
                if answer != expected:
                    self.failures[f"pipelining: {answer[:40]} instead of {expected[:40]}"] += 1
                    client.close()
                    return
                read += 1
                self.answers += 1
                if client.closing:  # the server stops: the others have not been done, and are to be sent again
                    self.crossed += read < len(requests)
                    client.close()
                    return
        except OSError as error:
            client.close()
            if kept and not read:
                self.crossed += 1
            else:
                self.failures[f"pipelining, after {read} of {len(requests)} answers: {error}"] += 1

    def _request(self, number: int) -> tuple[bytes, str]:
        if self._rng.random() < 0.7:
            path = f"/pipelined/{number}"
            return b"GET %b HTTP/1.1\r\nHost: test\r\n\r\n" % path.encode(), line("GET", path)
        body, path = self._rng.randbytes(self._rng.choice((0, 10, 3000))), f"/pipelined/put/{number}"
        head = b"PUT %b HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(body))
        return head + body, line("PUT", path, body)
