"""A chunked body, read by the letter of RFC 9112 section 7.1. No I/O here.

    size [extensions] CRLF  data CRLF   ...   0 [extensions] CRLF  [trailer fields]  CRLF

h11 would read it too, and let pass what others read differently: white space behind a size, a bare CR in an extension,
lengths and hosts among the trailers, extensions of any length. Each of those has been somebody's CVE.
"""

from __future__ import annotations

import enum
import re

from acceptor.grammar import TCHAR
from acceptor.settings import Limits
from acceptor.violations import Compliance, ProtocolError, Violation

__all__ = ["ChunkedBody"]

_TOKEN = TCHAR + rb"+"
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})"
                        rb"((?:[ \t]*;[ \t]*" + _TOKEN + rb"(?:[ \t]*=[ \t]*(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?)*)"
                        rb"([ \t]*)\r\n")
_TRAILER_LINE = re.compile(rb"(" + _TOKEN + rb"):([\t \x21-\x7e\x80-\xff]*)\r\n")
_DIGITS = b"0123456789abcdefABCDEF"
_NO_EXTENSION = 18
"""Bytes of the line of a size that are no extension, at most: 16 digits, and its end."""

_FORBIDDEN = frozenset({
    b"transfer-encoding", b"content-length", b"trailer",                                # framing
    b"host", b"connection", b"keep-alive", b"proxy-connection", b"te", b"upgrade",      # routing
    b"expect", b"range", b"max-forwards", b"cache-control", b"pragma",                  # request modifiers
    b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range",
    b"authorization", b"proxy-authorization", b"cookie", b"set-cookie",                 # access
    b"content-encoding", b"content-type", b"content-range",                             # what the content is
    b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"forwarded",        # who the client is
})
"""RFC 9110 section 6.5.1: what decides about a message's framing, routing, authentication, or content."""


class _Next(enum.Enum):
    """What is read next."""

    SIZE = enum.auto()
    DATA = enum.auto()
    END_OF_DATA = enum.auto()
    TRAILERS = enum.auto()
    NOTHING = enum.auto()


class ChunkedBody:
    """One chunked body. Owned by one thread at a time."""

    def __init__(self, limits: Limits, compliance: Compliance) -> None:
        self.trailers: list[tuple[bytes, bytes]] = []
        """Names in lower case, in order; whole when the body is at its end."""
        self._limits = limits
        self._compliance = compliance
        self._next = _Next.SIZE
        self._left = 0
        """Bytes of the current chunk still to come."""
        self._total = self._extensions = 0
        """Bytes of body and of extensions so far."""
        self._trailer_size = self._trailer_count = 0
        self._refusal: tuple[int, str, Violation | None] | None = None

    def read(self, data: bytes, at: int) -> tuple[bytes | None, int]:
        """The next piece of the body in `data[at:]`, b"" at its end, None if more is needed; and where to go on.

        ProtocolError if it is not a chunked body: 400, 413, or 431 for its trailers. And again, whenever it is called
        after that: whoever caught the first must not read what is left as something else.
        """
        if self._refusal:
            raise ProtocolError(*self._refusal)
        try:
            return self._read(data, at)
        except ProtocolError as error:
            self._refusal = error.status, str(error), error.violation
            raise

    def _read(self, data: bytes, at: int) -> tuple[bytes | None, int]:
        while True:
            if self._next is _Next.SIZE:
                end = data.find(b"\n", at) + 1
                if not end:
                    self._check_start(data, at)
                    return None, at
                self._begin_chunk(data[at:end])
                at = end
            elif self._next is _Next.DATA:
                piece = data[at:at + self._left]
                self._left -= len(piece)
                if not self._left:
                    self._next = _Next.END_OF_DATA
                return piece or None, at + len(piece)
            elif self._next is _Next.END_OF_DATA:
                if not b"\r\n".startswith(data[at:at + 2]):
                    raise ProtocolError(400, "a chunk is longer than its size says")
                if len(data) < at + 2:
                    return None, at
                at += 2
                self._next = _Next.SIZE
            elif self._next is _Next.TRAILERS:
                end = data.find(b"\n", at) + 1
                line = data[at:end or len(data)]
                if line == b"\r\n":
                    self._next = _Next.NOTHING
                else:
                    self._check_trailer_size(line)
                    if not end:
                        return None, at
                    self._read_trailer(line)
                at = end
            else:
                return b"", at

    def _check_start(self, data: bytes, at: int) -> None:
        """Of a size whose line has not come whole."""
        if at < len(data) and data[at] not in _DIGITS:
            raise ProtocolError(400, f"not the size of a chunk: {data[at:at + 20]!r}")
        self._check_extensions(len(data) - at - _NO_EXTENSION)

    def _check_extensions(self, more: int) -> None:
        """`more`: bytes of them at least that have come, and have not been counted yet."""
        if self._extensions + more > self._limits.chunk_extensions:
            raise ProtocolError(400, f"more than {self._limits.chunk_extensions} bytes of chunk extensions "
                                     "(Limits.chunk_extensions)")

    def _begin_chunk(self, line: bytes) -> None:
        self._check_extensions(len(line) - _NO_EXTENSION)
        if not (found := _SIZE_LINE.fullmatch(line)):
            raise ProtocolError(400, f"not the size of a chunk: {line[:60]!r}")
        digits, extensions, space = found.groups()
        if extensions or space:
            self._extensions += len(extensions) + len(space)
            self._check_extensions(0)
        if space:
            self._compliance.saw(Violation.CHUNK_SPACE)
        self._left = int(digits, 16)
        self._total += self._left
        if self._limits.body is not None and self._total > self._limits.body:
            raise ProtocolError(413, f"a body of more than {self._limits.body} bytes (Limits.body)")
        self._next = _Next.DATA if self._left else _Next.TRAILERS

    def _check_trailer_size(self, line: bytes) -> None:
        """`line`: a trailer field's, or the part of it that has come."""
        if self._trailer_size + len(line) > self._limits.trailers and line != b"\r":  # which may be the end
            raise ProtocolError(431, f"more than {self._limits.trailers} bytes of trailers (Limits.trailers)")

    def _read_trailer(self, line: bytes) -> None:
        self._trailer_size += len(line)
        self._trailer_count += 1
        if self._trailer_count > self._limits.header_count:
            raise ProtocolError(431, f"more than {self._limits.header_count} trailer fields (Limits.header_count)")
        if not (found := _TRAILER_LINE.fullmatch(line)):
            raise ProtocolError(400, f"not a trailer field: {line[:60]!r}")
        name, value = found[1].lower(), found[2].strip(b" \t")
        if name in _FORBIDDEN:
            self._compliance.saw(Violation.FORBIDDEN_TRAILER)
        else:
            self.trailers.append((name, value))
