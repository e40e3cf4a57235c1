"""Clients for the tests: raw sockets, whose answers are read by h11's client side, so that nothing of ours judges ours.

`RawClient` sends exactly the bytes it is given. `parse_response` reads one response out of bytes that are there.
Everything waits for up to `PATIENCE` seconds and then fails with a message; nothing sleeps.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import h11
import pytest

from acceptor.access import AccessRecord

__all__ = ["PATIENCE", "Gate", "RawClient", "Received", "Truncated", "access_lines", "access_records", "parse_response",
           "read_all", "request", "tcp_pair"]

PATIENCE = 10.0
"""Seconds that a test waits for what must happen, before it fails."""


class Gate(threading.Event):
    """An event with a name. Waiting for it takes up to `PATIENCE` seconds, and then fails with a message."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def open(self) -> None:
        self.set()

    def pass_through(self) -> None:
        assert self.wait(PATIENCE), f"waited {PATIENCE:g} s in vain until: {self.name}"


class Truncated(AssertionError):  # noqa: N818  # "the response was truncated"
    """The connection ended before the response did."""


@dataclass
class Received:
    """One response as an HTTP client understands it."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    keep_alive: bool
    """The client may send another request: the response has an end of its own, and nobody said "close"."""
    interim: list[int] = field(default_factory=list)
    """The statuses of the 1xx responses before it."""

    def header(self, name: str) -> str | None:
        """The only value of header `name`; None if there is none."""
        values = [value for key, value in self.headers if key == name.lower()]
        assert len(values) <= 1, f"{name} was sent {len(values)} times: {values}"
        return values[0] if values else None


def request(target: str = "/", *, method: str = "GET", version: str = "1.1", headers: Iterable[str] = (),
            body: bytes | None = None, chunks: Iterable[bytes] | None = None) -> bytes:
    """The bytes of a request. `headers` are whole lines, "Name: value"; `body` has a length, `chunks` are chunked."""
    lines = [f"{method} {target} HTTP/{version}", "Host: test", *headers]
    end = b""
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
        end = body
    if chunks is not None:
        lines.append("Transfer-Encoding: chunked")
        end = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks if chunk) + b"0\r\n\r\n"
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + end


def expecting(method: str = "GET") -> h11.Connection:
    """A client that has sent a whole request with `method`, and now awaits the response."""
    parser = h11.Connection(h11.CLIENT)
    parser.send(h11.Request(method=method, target="/", headers=[("Host", "test")]))
    parser.send(h11.EndOfMessage())
    return parser


def parse_response(data: bytes, method: str = "GET", *, ended: bool) -> tuple[Received, bytes]:
    """The response to a `method` request in `data`, and the bytes behind it.

    ended: the connection has ended after `data`. Truncated if the response is not complete.
    """
    collector = _Collector(method)
    for piece in ([data] if data else []) + ([b""] if ended else []):
        if (received := collector.feed(piece)) is not None:
            return received, collector.rest()
    raise Truncated(f"this is no whole response to {method}: {data[:200]!r} ({len(data)} bytes, ended={ended})")


class _Collector:
    """Makes a `Received` of bytes that come piece by piece; b"" is the end of the connection."""

    def __init__(self, method: str) -> None:
        self._parser = expecting(method)
        self.interim: list[int] = []
        self._body = bytearray()
        self.response: h11.Response | None = None

    def feed(self, data: bytes) -> Received | None:
        self._parser.receive_data(data)
        while True:
            try:
                event = self._parser.next_event()
            except h11.RemoteProtocolError as error:
                kind = Truncated if not data else AssertionError  # h11 says so when the connection ends too early
                raise kind(f"h11 as a client: {error}; so far {self.response!r}, {len(self._body)} bytes of body "
                           f"{bytes(self._body[:80])!r}, then {data[:200]!r}") from error
            if event is h11.NEED_DATA:
                return None
            if isinstance(event, h11.ConnectionClosed):
                raise Truncated(f"the connection ended before a response (interim: {self.interim})")
            if isinstance(event, h11.InformationalResponse):
                self.interim.append(event.status_code)
            elif isinstance(event, h11.Response):
                self.response = event
            elif isinstance(event, h11.Data):
                self._body += event.data
            else:
                assert isinstance(event, h11.EndOfMessage), event
                assert self.response is not None
                return Received(
                    status=self.response.status_code,
                    headers=[(name.decode("latin-1"), value.decode("latin-1"))
                             for name, value in self.response.headers],
                    body=bytes(self._body),
                    keep_alive=self._parser.their_state is h11.DONE,
                    interim=self.interim,
                )

    def take_body(self) -> bytes:
        """The body that has come since the last call."""
        taken, self._body = bytes(self._body), bytearray()
        return taken

    def rest(self) -> bytes:
        return bytes(self._parser.trailing_data[0])


class RawClient:
    """One connection to a server, as a client that sends what it likes. Owned by one thread at a time.

    sock: connected. Closed by `close`, `reset`, or at the end of a `with`.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(PATIENCE)
        self._rest = b""
        """Received, and behind the last response that was read."""
        self._streaming: _Collector | None = None

    @classmethod
    def connect(cls, port: int, host: str = "127.0.0.1") -> RawClient:
        sock = socket.create_connection((host, port), PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(sock)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def read_response(self, method: str = "GET") -> Received:
        """The next response, to a request with `method`. Truncated if the connection ends before it does."""
        collector = self._collector(method)
        received = collector.feed(self._rest) if self._rest else None
        while received is None:
            received = collector.feed(self._recv("a whole response", collector))
        self._rest = collector.rest()
        self._streaming = None
        return received

    def read_head(self, method: str = "GET") -> int:
        """Read no further than the head of the next response needs; its status. `read_response` reads the whole."""
        collector = self._collector(method)
        if self._rest:
            collector.feed(self._rest)
            self._rest = b""
        while collector.response is None:
            collector.feed(self._recv("the head of a response", collector))
        return collector.response.status_code

    def read_interim(self) -> int:
        """Read until a 1xx response has come, and no final one; its status."""
        collector = self._collector("POST")
        while not collector.interim:
            done = collector.feed(self._recv("an interim response", collector))
            assert done is None, f"a final response instead of an interim one: {done}"
        return collector.interim[-1]

    def has_received(self) -> bytes:
        """What has arrived and has not been read, without waiting for more."""
        self.sock.setblocking(False)
        try:
            return self._rest + self.sock.recv(1 << 20, socket.MSG_PEEK)
        except BlockingIOError:
            return self._rest
        finally:
            self.sock.settimeout(PATIENCE)

    def read_body(self, count: int) -> bytes:
        """After `read_head`: at least `count` more bytes of the body, which must not end with them."""
        assert self._streaming is not None, "read_head() first"
        body = self._streaming.take_body()
        while len(body) < count:
            done = self._streaming.feed(self._recv(f"{count} bytes of body", self._streaming))
            assert done is None, f"the body ended after {done!r}, with {count - len(body)} bytes still expected"
            body += self._streaming.take_body()
        return body

    def read_to_end(self) -> bytes:
        """Everything up to the end of the connection, as it came. ConnectionResetError if that is a reset."""
        pieces = [self._rest]
        self._rest = b""
        while data := self._recv("the end of the connection"):
            pieces.append(data)
        return b"".join(pieces)

    def read_to_reset(self) -> bytes:
        """Everything up to a reset, which must come; AssertionError if the connection ends as if all were well."""
        data = self._rest
        try:
            while True:
                piece = self._recv("a reset")
                assert piece, f"the connection ended in order, not by a reset, after {data[-200:]!r}"
                data += piece
        except ConnectionResetError:
            return data

    def expect_eof(self) -> None:
        """The server must have nothing more to say and close the connection, in order."""
        try:
            data = self.read_to_end()
        except ConnectionResetError:
            raise AssertionError("the connection was reset; it should have ended in order") from None
        assert not data, f"the server should have closed the connection; it sent {data[:300]!r}"

    def half_close(self) -> None:
        """Send no more; still read."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Go at once, by a RST, whatever has not been read or sent. (An AF_UNIX socket only closes.)"""
        with contextlib.suppress(OSError):  # the server has reset it already
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()

    def _collector(self, method: str) -> _Collector:
        if self._streaming is None:
            self._streaming = _Collector(method)
        return self._streaming

    def _recv(self, wanted: str, collector: _Collector | None = None) -> bytes:
        try:
            return self.sock.recv(1 << 20)
        except TimeoutError:
            so_far = f"; so far {collector.response!r}" if collector else ""
            raise AssertionError(f"waited {PATIENCE:g} s in vain for {wanted}{so_far}") from None


def tcp_pair(buffer: int | None = None) -> tuple[socket.socket, socket.socket]:
    """Two ends of one TCP connection: the client's, the server's. Unlike `socket.socketpair` it can be reset.

    buffer: bytes that each end keeps in each direction, more or less, in segments of Ethernet's size instead of the
        64 KiB of loopback; None: as the system likes.
    """
    client = socket.socket()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        if buffer is not None:
            for sock in (listening, client):  # what is accepted has what the listening socket has
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1460)
        client.connect(listening.getsockname())
        server, _ = listening.accept()
    for sock in (client, server):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client, server


def access_records(caplog: pytest.LogCaptureFixture) -> list[AccessRecord]:
    """The access log."""
    return [record.args[0] for record in caplog.records if record.name == "acceptor.access"]  # type: ignore[index,misc]


def access_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The same as lines, without what is different each time."""
    return [re.sub(r" - - \[[^]]*\]", "", str(record)) for record in access_records(caplog)]


def read_all(sock: socket.socket) -> bytes:
    """Everything up to the end of the connection, as it came."""
    pieces = []
    while piece := sock.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)
