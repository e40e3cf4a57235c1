"""Clients that never stop asking: each sends request upon request without waiting for an answer (pipelining).

    python -m bench.clients.flood --port 8080 --connections 64 --duration 3            one line of JSON: see Flooded

A process of its own. So each client has a next request at the server all the time, which is what it takes to see
whether a server that may go on with a connection ever leaves it. Answers are counted by their length, which is that of
the first: so the handler must answer all alike.
"""

from __future__ import annotations

import argparse
import json
import select
import socket
import time
from dataclasses import asdict, dataclass

__all__ = ["Flooded", "flood"]

_AHEAD = 4000
"""Requests that a client is ahead of its answers: more than the server reads at a time (64 KiB)."""
_REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@dataclass
class Flooded:
    """What came of it."""

    seconds: float
    answers: list[int]
    """For each client, ascending."""
    errors: int
    """Clients whose connection was closed."""


class _Client:
    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), 10)
        self.sock.setblocking(False)
        self.unsent = b""
        self.sent = 0
        self.received = 0
        self.length = 0
        """Bytes of one answer; 0 as long as that is unknown."""
        self.begun = b""
        self.before = 0
        """Answers that do not count, because they came during the warm-up."""

    @property
    def answers(self) -> int:
        return self.received // self.length if self.length else 0

    def send(self) -> None:
        """Be _AHEAD, or as much of it as the system takes."""
        if not self.unsent and self.sent - self.answers < _AHEAD // 2:
            self.unsent = _REQUEST * (_AHEAD // 2)
            self.sent += _AHEAD // 2
        try:
            self.unsent = self.unsent[self.sock.send(self.unsent):]
        except BlockingIOError:
            pass

    def receive(self) -> bool:
        """False at the end."""
        try:
            data = self.sock.recv(65536)
        except BlockingIOError:
            return True
        self.received += len(data)
        if not self.length:
            self.begun += data
            head, end, _ = self.begun.partition(b"\r\n\r\n")
            if end:
                fields = dict(line.partition(b":")[::2] for line in head.lower().split(b"\r\n"))
                self.length = len(head) + len(end) + int(fields[b"content-length"])
        return bool(data)


def flood(port: int, connections: int, *, warmup: float, duration: float) -> Flooded:
    """Ask for `warmup` seconds, which do not count, and for `duration` seconds, which do."""
    clients = [_Client(port) for _ in range(connections)]
    by_descriptor = {client.sock.fileno(): client for client in clients}
    poll = select.poll()
    for descriptor in by_descriptor:
        poll.register(descriptor, select.POLLIN)
    errors = 0
    for seconds in (warmup, duration):
        began = time.perf_counter()
        for client in clients:
            client.before = client.answers
        while (left := began + seconds - time.perf_counter()) > 0:
            for client in by_descriptor.values():
                client.send()
            for descriptor, _ in poll.poll(min(20.0, 1e3 * left)):
                try:
                    over = not by_descriptor[descriptor].receive()
                except OSError:
                    over = True
                if over:
                    errors += 1
                    poll.unregister(descriptor)
                    del by_descriptor[descriptor]
    passed = time.perf_counter() - began
    for client in clients:
        client.sock.close()
    return Flooded(passed, sorted(client.answers - client.before for client in clients), errors)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.clients.flood",
                                     description="Clients that pipeline without end.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--warmup", type=float, default=0.5, help="seconds that do not count")
    parser.add_argument("--duration", type=float, default=3.0, help="seconds that do")
    options = parser.parse_args()
    print(json.dumps(asdict(flood(options.port, options.connections, warmup=options.warmup,
                                  duration=options.duration))))


if __name__ == "__main__":
    main()
