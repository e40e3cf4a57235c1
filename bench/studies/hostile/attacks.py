"""Hostile clients: six ways to hold a server's threads, four clients each, and somebody else who only wants an answer.

Each client does one thing and goes on until the server has had enough. Beside them a good client asks for a small page
on a new connection, again and again, and is timed: what matters is whether it is answered, how long the worst of its
requests took, and when the server was rid of the hostile ones.

    nothing     connects, and sends nothing
    idle        has an answer, and keeps the connection
    head        sends half a head, then nothing
    head drip   sends a head, one byte every 4 seconds
    body drip   sends a body, one byte every 4 seconds
    deaf        asks for 40 MB, and reads none of it
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

__all__ = ["BIG", "HOSTILE", "Outcome", "attack", "wsgi_app"]

BIG = 40_000_000
"""Bytes of the response that nobody reads: more than the kernels at both ends buffer."""
_DRIP = 4.0
"""Seconds between two bytes."""
_POLLRDHUP = getattr(select, "POLLRDHUP", 0x2000)

_GET = b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n"
_POST = b"POST / HTTP/1.1\r\nHost: lab\r\nContent-Length: 1000\r\n\r\n"


@dataclass
class Outcome:
    """What came of one attack. Seconds since its start."""

    ended: list[float | None] = field(default_factory=list)
    """When the server was rid of each hostile client; None: not before the lab's patience ended."""
    answers: list[float] = field(default_factory=list)
    """How long the good client waited for each of its answers."""
    failures: list[str] = field(default_factory=list)
    """Why it got none."""

    @property
    def worst(self) -> float | None:
        """The longest the good client waited for an answer; None if it had to go without."""
        return max(self.answers) if self.answers and not self.failures else None

    @property
    def rid(self) -> float | None:
        """When the server was rid of the last hostile client; None if it is not."""
        times = [each for each in self.ended if each is not None]
        return max(times) if len(times) == len(self.ended) else None

    def __str__(self) -> str:
        good = (f"{len(self.failures)} of {len(self.failures) + len(self.answers)} not answered" if self.failures else
                f"{self.worst:.2f} s" if self.worst is not None else "never answered")
        return f"{good}; {'not rid of them' if self.rid is None else f'rid of them after {self.rid:.0f} s'}"


def attack(address: tuple[str, int], kind: str, count: int, patience: float, good_every: float = 0.25) -> Outcome:
    """Let `count` clients of one kind (see HOSTILE) at the server; blocks until it is rid of them, or for `patience`
    seconds; and until the good client has its last answer, or has waited as long again."""
    outcome = Outcome()
    start = time.monotonic()
    end = start + patience
    outcome.ended = [None] * count
    ready = threading.Barrier(count + 1)

    def be_hostile(number: int) -> None:
        with socket.create_connection(address) as sock:
            HOSTILE[kind](sock, end, ready.wait)
            if time.monotonic() < end:
                outcome.ended[number] = time.monotonic() - start

    hostile = [threading.Thread(target=be_hostile, args=(number,)) for number in range(count)]
    for thread in hostile:
        thread.start()
    ready.wait()
    asks = threading.Event()
    while True:
        begun = time.monotonic()
        try:
            _ask(address, max(1.0, end - begun) + 5)
            outcome.answers.append(time.monotonic() - begun)
        except OSError as error:
            outcome.failures.append(str(error))
        if not any(thread.is_alive() for thread in hostile) or time.monotonic() > end:
            break
        asks.wait(good_every)
    for thread in hostile:
        thread.join()
    return outcome


def _ask(address: tuple[str, int], patience: float) -> None:
    with socket.create_connection(address, patience) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n")
        answer = sock.recv(4096)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise OSError(f"answered {answer[:40]!r}")


def _wait(sock: socket.socket, until: float) -> bool:
    """Wait until the server ends the connection: True; or until then: False. What it says before is read."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    while (left := until - time.monotonic()) > 0:
        if poll.poll(left * 1000):
            try:
                if not sock.recv(65536):
                    return True
            except OSError:
                return True
    return False


def _drip(sock: socket.socket, data: Iterable[int], end: float) -> None:
    for byte in data:
        try:
            sock.sendall(bytes([byte]))
        except OSError:
            return
        if _wait(sock, min(end, time.monotonic() + _DRIP)) or time.monotonic() >= end:
            return
    _wait(sock, end)


def _nothing(sock: socket.socket, end: float, ready: Callable[[], object]) -> None:
    ready()
    _wait(sock, end)


def _idle(sock: socket.socket, end: float, ready: Callable[[], object]) -> None:
    sock.sendall(_GET)
    ready()
    _wait(sock, end)


def _half_head(sock: socket.socket, end: float, ready: Callable[[], object]) -> None:
    sock.sendall(_GET[:20])
    ready()
    _wait(sock, end)


def _head_drip(sock: socket.socket, end: float, ready: Callable[[], object]) -> None:
    ready()
    _drip(sock, _GET[:-4] + b"\r\nX: " + b"x" * 1000, end)


def _body_drip(sock: socket.socket, end: float, ready: Callable[[], object]) -> None:
    sock.sendall(_POST)
    ready()
    _drip(sock, b"x" * 1000, end)


def _deaf(sock: socket.socket, end: float, ready: Callable[[], object]) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.sendall(b"GET /big HTTP/1.1\r\nHost: lab\r\n\r\n")
    ready()
    poll = select.poll()
    poll.register(sock, _POLLRDHUP)  # errors and hang-ups are always told
    poll.poll(max(0.0, end - time.monotonic()) * 1000)


HOSTILE: dict[str, Callable[[socket.socket, float, Callable[[], object]], None]] = {
    "nothing": _nothing, "idle": _idle, "head": _half_head, "head drip": _head_drip, "body drip": _body_drip,
    "deaf": _deaf,
}
"""Each is given its socket, when to give up, and what to call as soon as it holds what it means to hold."""


def wsgi_app(environ: dict[str, object], start_response: Callable[..., object]) -> list[bytes]:
    """The same application for servers of others: `waitress-serve bench.studies.hostile.attacks:wsgi_app`, for one."""
    stream = environ["wsgi.input"]
    length = int(str(environ.get("CONTENT_LENGTH") or 0))
    if length:
        stream.read(length)  # type: ignore[attr-defined]
    body = b"x" * BIG if environ["PATH_INFO"] == "/big" else b"Hello"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
