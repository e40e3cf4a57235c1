"""Responses into bytes: the head, and how the end of the body is marked. No I/O here.

RFC 9112 section 6: a body's end is known by its length, by chunks, or by the end of the connection. `plan` decides
which, from the request's version and the response's body; nothing a handler puts in its headers can contradict it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from itertools import starmap
from time import time

from acceptor.fields import check_field, check_reason, phrase
from acceptor.heads import RequestHead
from acceptor.messages import Response, file_size

__all__ = ["CONTINUE", "LAST_CHUNK", "Framing", "Plan", "chunk", "error_bytes", "informational_bytes", "plan"]

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


class Framing(enum.Enum):
    """How the end of a response's body is marked."""

    NO_BODY = "no body"
    """HEAD, 204, 205 and 304: RFC 9110 sections 9.3.2, 15.3.5, 15.3.6 and 15.4.5."""
    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"
    """By the end of the connection: a body of unknown length to an HTTP/1.0 client."""


@dataclass(slots=True)
class Plan:
    """What `plan` decided."""

    status: int
    head: bytes
    """Status line and headers, up to and including the empty line."""
    framing: Framing
    length: int
    """Bytes of the body, under LENGTH."""
    keep_alive: bool
    started: bool = False
    """Set by whoever sends it, before the first byte: from then on nothing else can be answered."""
    sent: int = 0
    """Bytes of the body that have been sent, by whoever sends it."""

    @property
    def whole(self) -> bool:
        """The client has, or will have, all that the head announces, and can tell that it has."""
        return self.started and self.framing is Framing.LENGTH and self.sent == self.length


def plan(request: RequestHead, response: Response, keep_alive: bool, pushed: bool = False) -> Plan:
    """Decide on the framing of `response` to `request` and write its head.

    keep_alive: whether the server would keep the connection. The plan may still say no.
    pushed: the handler sends the body before it returns, so that its length is unknown unless the headers have it.

    TypeError or ValueError for headers that have been changed since the response was made, and checked, into what
    they must not be.
    """
    body, is_head = response.body, request.method == "HEAD"
    start, fields, given, sized, end, keeps = _fixed(
        response.status, response.reason, tuple(response.headers), request.version, is_head, keep_alive)
    known = given
    if pushed:
        pass
    elif isinstance(body, bytes):
        if given is None or not is_head:  # the answer to a HEAD may announce a body that it has not got
            known = len(body)
    elif given is None:
        known = file_size(body)
    if sized is None:
        return Plan(response.status, b"".join((start, _date_line(), fields, end)), _NO_BODY, known or 0, keeps)
    if known is not None:
        framing, length = sized, b"content-length: %d\r\n" % known
    elif request.version == "1.1":
        framing, length = (_NO_BODY if is_head else Framing.CHUNKED), b"transfer-encoding: chunked\r\n"
    else:
        framing, length, keeps, end = (_NO_BODY if is_head else Framing.CLOSE), b"", False, _CLOSES
    return Plan(response.status, b"".join((start, _date_line(), fields, length, end)), framing, known or 0, keeps)


_LENGTH, _NO_BODY = Framing.LENGTH, Framing.NO_BODY
"""By themselves: see `acceptor.phases`."""
_CLOSES = b"connection: close\r\n\r\n"


@lru_cache(512)
def _fixed(status: int, reason: str | None, headers: tuple[tuple[bytes, bytes], ...], version: str, is_head: bool,
           keep_alive: bool) -> tuple[bytes, bytes, int | None, Framing | None, bytes, bool]:
    """Of a head what does not depend on its body: the status line; the fields; the Content-Length that they give; how a
    body whose length is known is framed, None if there can be none whatever it is; the end; and whether the connection
    is kept.

    Checked again, because a response may have been changed since it was made; remembered, because most are alike. One
    that is not costs what it has cost, and each of its lines is remembered by itself.
    """
    given: int | None = None
    lines = []
    for name, value in headers:
        name = name.lower()
        if name == b"content-length":
            if not value.isdigit():
                raise ValueError(f"header Content-Length: {value!r:.40} is not a number of bytes; leave it out")
            given = int(value)
        elif name == b"connection":
            keep_alive = keep_alive and b"close" not in value.lower()
        elif name not in (b"date", b"transfer-encoding"):
            lines.append(_field_line(name, value))
    sized = None if status in (204, 205, 304) else _NO_BODY if is_head else _LENGTH
    if status == 205:
        lines.append(b"content-length: 0\r\n")  # but none with 204 and 304: RFC 9110 section 8.6
    end = _CLOSES if not keep_alive else b"\r\n" if version == "1.1" else b"connection: keep-alive\r\n\r\n"
    return _status_line(status, reason), b"".join(lines), given, sized, end, keep_alive


def chunk(data: bytes) -> bytes:
    """One chunk of `data`, which must not be empty: RFC 9112 section 7.1."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def error_bytes(status: int, text: str, headers: bytes = b"") -> bytes:
    """A whole response that ends its connection, for when there is no request to answer. `text` goes to the client."""
    body = text.encode() + b"\n"
    return (b"%b%b%bcontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
            % (_status_line(status), _date_line(), headers, len(body), body))


@lru_cache(512)
def _field_line(name: bytes, value: bytes) -> bytes:
    check_field(name, value)
    return b"%s: %s\r\n" % (name, value)


def informational_bytes(status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """An interim response: RFC 9110 section 15.2."""
    return b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, phrase(status).encode(), b"".join(starmap(_field_line, headers)))


@lru_cache(512)
def _status_line(status: int, reason: str | None = None) -> bytes:
    """Checked again, as the fields are."""
    if not isinstance(status, int) or not 200 <= status <= 999:
        raise ValueError(f"status={status!r} is no status of a response")
    return b"HTTP/1.1 %d %b\r\n" % (status, phrase(status).encode() if reason is None else check_reason(reason))


_date = (0, b"")
"""The second, and its Date line. Replaced whole, so any thread may read or replace it at any time."""


def _date_line() -> bytes:
    """RFC 9110 section 6.6.1; formatted once a second."""
    global _date
    second, line = _date
    if (now := int(time())) != second:
        line = f"date: {formatdate(now, usegmt=True)}\r\n".encode()
        _date = now, line
    return line
