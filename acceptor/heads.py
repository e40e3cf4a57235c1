"""What a request's head means: how its body ends, whether the connection stays, whom it is for. No I/O, no parsing.

Everything that two servers in a row could read in two ways is decided here, by RFC 9112 section 6 and RFC 9110.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache

from acceptor.settings import Limits
from acceptor.violations import Compliance, ProtocolError, Violation

__all__ = ["RequestHead", "codings_status", "read_head"]

_HOST = re.compile(rb"(?:\[([0-9A-Fa-f:.]+)\]|(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?")
"""RFC 9110 section 7.2 and RFC 3986 section 3.2.2: uri-host, and a port if there is one. May be empty."""
_ABSOLUTE = re.compile(rb"https?://([^/?#@]+)(?:[/?][^#]*)?", re.IGNORECASE)
"""RFC 9112 section 3.2.2, for the two schemes there are, without user information (RFC 9110 section 4.2.4)."""
_USUAL = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")}
_SLASH, _NUMBER_SIGN = b"/#"
_METHOD = re.compile(rb"[A-Z][A-Z0-9_-]*")
_LENGTHS = re.compile(rb"\ncontent-length:([^\n]*(?:\n[ \t][^\n]*)*)", re.IGNORECASE)
"""With the lines on which one goes on, if obs-fold is allowed."""
_MOST_DIGITS = 20
"""Of a Content-Length. More are a number, too (RFC 9110 section 8.6), but not one of bytes that anybody will read."""
_LOOKED_AT = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection", b"expect"})


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


def read_head(line: tuple[bytes, ...], headers: list[tuple[bytes, bytes]], raw: bytes, limits: Limits,
              compliance: Compliance) -> RequestHead:
    """Judge a head that has been parsed, and is well-formed. ProtocolError if it will not do.

    line: method, target, and minor version.
    headers: names in lower case, values without white space around them. They become the head's.
    raw: how all of it came. A parser may have made one of several equal Content-Lengths, and here it is seen.
    """
    method, target, minor = line
    at_least_1_1 = minor != b"0"
    length: int | None = None
    hosts = 0
    host = codings = connection = expect = b""
    for name, value in headers:
        if name not in _LOOKED_AT:
            continue
        if name == b"host":
            host = value
            hosts += 1
        elif name == b"connection":
            connection = connection + b"," + value.lower() if connection else value.lower()
        elif name == b"content-length":
            if length is not None or not value.isdigit():
                raise ProtocolError(400, f"a length that is none, or one too many: {value[:60]!r}")
            if len(value) > _MOST_DIGITS:
                raise ProtocolError(413, f"a body is announced whose length has more than {_MOST_DIGITS} digits")
            length = int(value)
        elif name == b"transfer-encoding":
            codings = codings + b"," + value if codings else value or b","
        else:
            expect += b"," + value.lower()

    if codings and codings != b"chunked":
        if codings.lower() != b"chunked":
            raise ProtocolError(codings_status(codings), f"a transfer coding other than chunked: {codings[:60]!r}")
        headers = [(name, b"chunked" if name == b"transfer-encoding" else value) for name, value in headers]
    if hosts > 1:
        raise ProtocolError(400, "Host is there twice")
    if not hosts and at_least_1_1:
        raise ProtocolError(400, "no Host")
    if (method_name := _USUAL.get(method)) is None:
        method_name = method.decode()
        if method == b"CONNECT":
            raise ProtocolError(501, "CONNECT, and this is not a proxy")
        if not _METHOD.fullmatch(method):
            compliance.saw(Violation.UNUSUAL_METHOD)
    host_name, is_host = _host(host) if len(host) <= _LONG_HOST else _host.__wrapped__(host)
    if not is_host:
        compliance.saw(Violation.INVALID_HOST)
    # Numbers, because `b"#" in target` tries first whether b"#" is one: that costs 0.5 us.
    if target[0] != _SLASH or _NUMBER_SIGN in target:
        host_name = _authority(method, target, host if hosts else None, compliance)

    has_body = False
    stays = at_least_1_1
    if connection == b"keep-alive":
        stays = True
    elif connection:
        options = {option.strip() for option in connection.split(b",")}
        stays = (at_least_1_1 or b"keep-alive" in options) and b"close" not in options
    if length is not None:
        has_body = length > 0
        lengths = _LENGTHS.findall(raw)
        if len(lengths) > 1 or b"," in lengths[0]:
            compliance.saw(Violation.REPEATED_LENGTH)
    if codings:
        has_body = True
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
    # By position: keywords cost 0.2 us.
    return RequestHead(method_name, target.decode(), "1.1" if at_least_1_1 else "1.0", headers,
                       host_name, has_body, stays, expects_continue, length)


def codings_status(codings: bytes) -> int:
    """With which status `codings`, a Transfer-Encoding that is not one `chunked`, is refused.

    501, unless RFC 9112 section 6.3 makes it 400: where `chunked` is not the last of the codings, or is there twice,
    nobody can tell where the body ends.
    """
    each = [coding.strip().lower() for coding in codings.split(b",")]
    return 501 if each[-1] == b"chunked" and each.count(b"chunked") == 1 else 400


_LONG_HOST = 260
"""Bytes up to which a host is remembered: a name has 253 at most (RFC 1035 section 2.3.4), and then there is a port."""


@lru_cache(256)
def _host(host: bytes) -> tuple[str, bool]:
    """`host` as text, and whether it may be one. Remembered, because a server has few names, and is called by them all
    the time."""
    return host.decode("latin-1"), _is_host(host)


def _is_host(host: bytes) -> bool:
    found = _HOST.fullmatch(host)
    if found is None or found[1] is None:
        return found is not None
    try:
        ipaddress.IPv6Address(found[1].decode())
    except ValueError:
        return False
    return True


def _authority(method: bytes, target: bytes, host: bytes | None, compliance: Compliance) -> str:
    """Whom a request is for whose target is not a path: RFC 9112 sections 3.2.2 and 3.2.4."""
    if not (target == b"*" and method == b"OPTIONS"):
        found = _ABSOLUTE.fullmatch(target)
        # RFC 9110 section 4.2.1: no empty host here.
        if found and not found[1].startswith(b":") and _is_host(found[1]):
            if host is not None and host.lower() != found[1].lower():
                compliance.saw(Violation.MISMATCHED_HOST)
            host = found[1]
        else:
            compliance.saw(Violation.INVALID_TARGET)
    return host.decode("latin-1") if host else ""
