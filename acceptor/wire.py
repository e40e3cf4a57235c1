"""The wire: bytes into requests. No I/O here, so that whoever has the bytes can use it, blocking or not.

`H11Wire` is the reference, over h11. A wire reads one request after another from one connection:

    receive(data)      what came; any amount, cut anywhere
    next_head()        the next request's head, or None: more is needed
    next_body()        the next piece of its body, b"" at the end, or None: more is needed
    next_request()     begin the next request, with the bytes that came behind this one

Responses are not written through it: `acceptor.framing` does that, the same for every wire.
"""

from __future__ import annotations

from dataclasses import dataclass

import h11

__all__ = ["H11Wire", "ProtocolError", "RequestHead"]

_MAX_HEAD = 16 * 1024
"""Bytes of a head; more is answered 431. h11's own default; nginx, Apache and Jetty have 8 to 32 KiB. h11 only looks at
heads that are incomplete, so the limit is checked again when one has arrived."""


class ProtocolError(Exception):
    """What came is not HTTP, or is HTTP that is not spoken here. Whatever follows it on the connection is in doubt."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        """The status to answer with, from 400 to 599."""


@dataclass(slots=True)
class RequestHead:
    """A request line and its headers, with what they mean for the connection."""

    method: str
    target: str
    version: str
    headers: list[tuple[bytes, bytes]]
    has_body: bool
    """There is something to be read before the next request: RFC 9112 section 6.3, for requests."""
    keep_alive: bool
    """The client will stay: RFC 9112 section 9.3."""
    expects_continue: bool
    """The client waits for `100 Continue` before it sends the body: RFC 9110 section 10.1.1."""
    length: int | None = None
    """Bytes of the body, if that is announced; with `has_body` and without this, it comes in chunks."""


class H11Wire:
    """Requests of one connection through h11. Owned by one thread at a time.

    A fresh h11.Connection for each request costs 1.3 us and makes its response half unnecessary, which costs 30.
    """

    def __init__(self) -> None:
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD)

    def receive(self, data: bytes) -> None:
        self._h11.receive_data(data)

    def next_head(self) -> RequestHead | None:
        """The next request's head; None if more bytes are needed. ProtocolError if there can be none."""
        event = self._next_event()
        if event is h11.NEED_DATA:
            return None
        assert isinstance(event, h11.Request)
        return _head(event)

    def next_body(self) -> bytes | None:
        """The next bytes of the body, b"" at its end; None if more are needed. ProtocolError if it is not a body."""
        event = self._next_event()
        if event is h11.NEED_DATA:
            return None
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    def _next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        try:
            return self._h11.next_event()
        except h11.RemoteProtocolError as error:
            raise ProtocolError(error.error_status_hint, str(error)) from None

    def next_request(self) -> bool:
        """Begin the next request, this one's body being at its end. True if some of it has come already."""
        rest, _ = self._h11.trailing_data
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD)
        if rest:
            self._h11.receive_data(rest)
        return bool(rest)


def _head(request: h11.Request) -> RequestHead:
    headers = list(request.headers)
    version = request.http_version
    length: int | None = None
    chunked = False
    connection = expect = b""
    size = len(request.method) + len(request.target) + 15
    for name, value in headers:
        size += len(name) + len(value) + 4
        if name == b"content-length":
            length = int(value)
        elif name == b"transfer-encoding":
            chunked = True
        elif name == b"connection":
            connection += b"," + value.lower()
        elif name == b"expect":
            expect = value.lower()
    if size > _MAX_HEAD:
        raise ProtocolError(431, f"a head of {size} bytes")
    if version not in (b"1.1", b"1.0"):
        raise ProtocolError(505, f"HTTP/{version.decode()} is not spoken here")
    if chunked and (length is not None or version == b"1.0"):
        # RFC 9112 sections 6.1 and 6.3: either is how requests are smuggled past a proxy that reads it the other way.
        raise ProtocolError(400, "Transfer-Encoding beside Content-Length, or in HTTP/1.0")
    options = {option.strip() for option in connection.split(b",")}
    stays = version == b"1.1" or b"keep-alive" in options
    return RequestHead(
        method=request.method.decode(),
        target=request.target.decode(),
        version=version.decode(),
        headers=headers,
        has_body=bool(length) or chunked,
        length=length,
        keep_alive=stays and b"close" not in options,
        expects_continue=version == b"1.1" and expect == b"100-continue",
    )
