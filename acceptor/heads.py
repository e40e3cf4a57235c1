"""What a request's head means: how its body ends, whether the connection stays, whom it is for. No I/O, no parsing.

Everything that two servers in a row could read in two ways is decided here, by RFC 9112 section 6 and RFC 9110.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from acceptor.settings import Limits
from acceptor.violations import Compliance, ProtocolError, Violation

__all__ = ["RequestHead", "read_head"]

_HOST = re.compile(rb"(?:\[([0-9A-Fa-f:.]+)\]|(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?")
"""RFC 9110 section 7.2 and RFC 3986 section 3.2.2: uri-host, and a port if there is one. May be empty."""
_ABSOLUTE = re.compile(rb"https?://([^/?#@]+)(?:[/?][^#]*)?", re.IGNORECASE)
"""RFC 9112 section 3.2.2, for the two schemes there are, without user information (RFC 9110 section 4.2.4)."""
_USUAL = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"})
_METHOD = re.compile(rb"[A-Z][A-Z0-9_-]*")
_LENGTHS = re.compile(rb"\ncontent-length:([^\n]*(?:\n[ \t][^\n]*)*)", re.IGNORECASE)
"""With the lines on which one goes on, if obs-fold is allowed."""
_LOOKED_AT = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection", b"expect"})


class _Parsed(Protocol):
    """What a parser has made of a head: h11.Request, for one. Names in lower case, one valid Content-Length at most, no
    Transfer-Encoding but one `chunked`, one Host in HTTP/1.1."""

    @property
    def method(self) -> bytes: ...
    @property
    def target(self) -> bytes: ...
    @property
    def http_version(self) -> bytes: ...
    @property
    def headers(self) -> Iterable[tuple[bytes, bytes]]: ...


@dataclass(slots=True)
class RequestHead:
    """A request line and its headers, with what they mean for the connection."""

    method: str
    target: str
    version: str
    """"1.1", also for a later 1.x (RFC 9110 section 2.5), or "1.0"."""
    headers: list[tuple[bytes, bytes]]
    host: str
    """Whom the request is for: the target's authority, or else Host (RFC 9112 section 3.3). May be empty."""
    has_body: bool
    """There is something to be read before the next request: RFC 9112 section 6.3, for requests."""
    keep_alive: bool
    """The client will stay: RFC 9112 section 9.3."""
    expects_continue: bool
    """The client waits for `100 Continue` before it sends the body: RFC 9110 section 10.1.1."""
    length: int | None = None
    """Bytes of the body, if that is announced; with `has_body` and without this, it comes in chunks."""


def read_head(parsed: _Parsed, raw: bytes, limits: Limits, compliance: Compliance) -> RequestHead:
    """Judge a head that has been `parsed`; `raw` is how it came. ProtocolError if it will not do."""
    method, target = parsed.method, parsed.target
    headers = list(parsed.headers)
    at_least_1_1 = parsed.http_version != b"1.0"
    length: int | None = None
    chunked = False
    host: bytes | None = None
    connection = expect = b""
    for name, value in headers:
        if name not in _LOOKED_AT:
            continue
        if name == b"host":
            if host is not None:
                raise ProtocolError(400, "Host is there twice")
            host = value
        elif name == b"content-length":
            length = int(value)
        elif name == b"transfer-encoding":
            chunked = True
        elif name == b"connection":
            connection += b"," + value.lower()
        else:
            expect += b"," + value.lower()

    if host is None and at_least_1_1:
        raise ProtocolError(400, "no Host")  # h11 asks for it in 1.1, and not in a later 1.x
    if method == b"CONNECT":
        raise ProtocolError(501, "CONNECT, and this is not a proxy")
    if method not in _USUAL and not _METHOD.fullmatch(method):
        compliance.saw(Violation.UNUSUAL_METHOD)
    if host and not _is_host(host):
        compliance.saw(Violation.INVALID_HOST)
    if not target.startswith(b"/") or b"#" in target:
        host = _authority(method, target, host, compliance)

    stays = at_least_1_1
    if connection:
        options = {option.strip() for option in connection.split(b",")}
        stays = (at_least_1_1 or b"keep-alive" in options) and b"close" not in options
    if length is not None:
        lengths = _LENGTHS.findall(raw)
        if len(lengths) > 1 or b"," in lengths[0]:
            compliance.saw(Violation.REPEATED_LENGTH)
    if chunked:
        if length is not None:
            compliance.saw(Violation.LENGTH_AND_CHUNKED)
            headers = [(name, value) for name, value in headers if name != b"content-length"]
            length, stays = None, False
        if not at_least_1_1:
            compliance.saw(Violation.CHUNKED_IN_1_0)
            stays = False
    expects_continue = False
    if expect and at_least_1_1:
        expected = {each.strip() for each in expect.split(b",")} - {b""}
        expects_continue = b"100-continue" in expected
        if expected - {b"100-continue"}:
            compliance.saw(Violation.UNKNOWN_EXPECTATION)
    if length is not None and limits.body is not None and length > limits.body:
        raise ProtocolError(413, f"a body of {length} bytes is announced; {limits.body} may be sent (Limits.body)")
    return RequestHead(
        method=method.decode(),
        target=target.decode(),
        version="1.1" if at_least_1_1 else "1.0",
        headers=headers,
        host=host.decode("latin-1") if host else "",
        has_body=bool(length) or chunked,
        length=length,
        keep_alive=stays,
        expects_continue=expects_continue,
    )


@lru_cache(256)
def _is_host(host: bytes) -> bool:
    """Remembered, because a server has few names, and is called by them all the time."""
    found = _HOST.fullmatch(host)
    if found is None or found[1] is None:
        return found is not None
    try:
        ipaddress.IPv6Address(found[1].decode())
    except ValueError:
        return False
    return True


def _authority(method: bytes, target: bytes, host: bytes | None, compliance: Compliance) -> bytes | None:
    """Whom a request is for whose target is not a path: RFC 9112 sections 3.2.2 and 3.2.4."""
    if target == b"*" and method == b"OPTIONS":
        return host
    found = _ABSOLUTE.fullmatch(target)
    if not found or found[1].startswith(b":") or not _is_host(found[1]):  # RFC 9110 section 4.2.1: no empty host here
        compliance.saw(Violation.INVALID_TARGET)
        return host
    if host is not None and host.lower() != found[1].lower():
        compliance.saw(Violation.MISMATCHED_HOST)
    return found[1]
