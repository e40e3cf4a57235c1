"""The wire: bytes into requests. No I/O here, so that whoever has the bytes can use it, blocking or not.

A wire reads one request after another from one connection:

    receive(data)      what came; any amount, cut anywhere
    next_head()        the next request's head, or None: more is needed
    next_body()        the next piece of its body, b"" at the end, or None: more is needed
    next_request()     begin the next request, with the bytes that came behind this one
    take_rest()        the bytes that nobody has read, for whoever takes the connection over

The bytes of a head are looked at twice. First here, by the strict rules and the limits: what a parser reads, and
RFC 9112 does not, is found in the bytes as they came, for a parser shows them only tidied up. Then it parses:

    `H11Wire`                            h11, the reference
    `httptools_wire.HttptoolsWire`       llhttp for heads to which there is nothing to be said, h11 for all others

What a head means for the connection is decided in `acceptor.heads`, and a chunked body is read by `acceptor.chunks`, so
a parser has no rules of its own. Responses are not written through a wire: `acceptor.framing` does that.

However the bytes are cut, the outcome is the same: what can be judged early is judged early, in the same order.
"""

from __future__ import annotations

import re
import sys
from abc import ABC, abstractmethod
from typing import NoReturn

import h11

from acceptor.chunks import ChunkedBody
from acceptor.grammar import TCHAR
from acceptor.heads import RequestHead, codings_status, read_head
from acceptor.settings import Limits
from acceptor.violations import Compliance, ProtocolError, Violation

__all__ = ["WIRES", "H11Wire", "Wire", "chosen_wire"]

WIRES = ("auto", "h11", "httptools")

_END = re.compile(rb"\n\r?\n")
_REQUEST_LINE = re.compile(rb"(" + TCHAR + rb"+) ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])\r?\n")
"""RFC 9112 section 3, with the characters that its section 3.2 leaves to the target."""
_FIELDS = re.compile(rb"(?:" + TCHAR + rb"++:[\t\x20-\x7e\x80-\xff]*+\r\n)*+\r\n")
"""RFC 9112 section 5 and RFC 9110 section 5.5: field lines to which there is nothing to be said, and the empty line.
Possessive, so that no input makes it try twice."""
_HEAD = re.compile(rb"(" + TCHAR + rb"++) ([\x21-\x7e]++) HTTP/1\.([0-9])\r\n" + _FIELDS.pattern)
"""A whole head to which there is nothing to be said: one look, which is enough for almost every one."""
_BARE_LF = re.compile(rb"(?<!\r)\n")
_FOLD = re.compile(rb"\n[ \t]")
_FATAL = re.compile(rb"[\x00\x0b\x0c]|\r(?!\n)")
_CONTROL = re.compile(rb"[\x01-\x08\x0e-\x1f\x7f]")
_CODINGS = re.compile(rb"\ntransfer-encoding:([^\n]*(?:\n[ \t][^\n]*)*)", re.IGNORECASE)
_HUGE_LENGTH = re.compile(rb"\ncontent-length:[ \t]*[0-9]{21,}[ \t]*\r?\n", re.IGNORECASE)
"""More digits than h11 takes."""


class Wire(ABC):
    """Requests of one connection; what parses the fields of a head is the subclass's. Owned by one thread at a time."""

    __slots__ = ("_at", "_chunks", "_compliance", "_data", "_left", "_limits", "_line", "_line_end", "_looked",
                 "_skipped", "_strict")

    def __init__(self, limits: Limits, compliance: Compliance) -> None:
        self._limits = limits
        self._compliance = compliance
        self._data = b""
        self._at = 0
        """What has come and has not been read is self._data[self._at:]."""
        # Begun again for each request, by next_request.
        self._looked = 0
        """There is no end of the head before this."""
        self._skipped = 0
        """Bytes of empty lines before the head."""
        self._line_end = 0
        """Behind the request line, once that has come and been found good. Then there is `self._line`, its method,
        target and minor version."""
        self._left: int | None = 0
        """Bytes of the body still to come; None if it comes in chunks."""
        self._chunks: ChunkedBody | None = None

    @property
    def trailers(self) -> list[tuple[bytes, bytes]]:
        """The trailer fields of the current request, once its body is at its end; names in lower case."""
        return self._chunks.trailers if self._chunks else []

    @property
    def has_rest(self) -> bool:
        """Whether something has come that nobody has read."""
        return self._at < len(self._data)

    @property
    def asks_for_head(self) -> bool:
        """Whether the head that is being read, and was perhaps refused, is that of a HEAD: its answer has no body."""
        return self._data.startswith(b"HEAD ", self._at)

    def receive(self, data: bytes) -> None:
        at = self._at
        if at < len(self._data):
            self._data = self._data[at:] + data
            self._looked = max(0, self._looked - at)
            self._line_end = max(0, self._line_end - at)
        else:
            self._data = data
            self._looked = 0
        self._at = 0

    def take_rest(self) -> bytes:
        """What has come and nobody has read; it is gone then."""
        rest, self._data = self._data[self._at:], b""
        self._at = 0
        return rest

    def next_request(self) -> bool:
        """Begin the next request, this one's body being at its end. True if some of it has come already."""
        self._looked = self._at
        self._skipped = self._line_end = self._left = 0
        self._chunks = None
        return self._at < len(self._data)

    def next_head(self) -> RequestHead | None:
        """The next request's head; None if more bytes are needed. ProtocolError if there can be none."""
        data, at, limits = self._data, self._at, self._limits
        found = _HEAD.match(data, at) if self._looked == at else None
        # Of the limits, in the order of what they cost: no field has less than 4 bytes.
        if (found is not None and (size := (end := found.end()) - at) + self._skipped <= limits.head
                and (size <= limits.request_line or found.end(3) + 2 - at <= limits.request_line)
                and (size <= 4 * limits.header_count or data.count(b"\n", at, end) <= limits.header_count + 2)):
            line = found.groups()
            strict = True
        elif end := self._look_closely():
            at, line, strict = self._at, self._line, self._strict
        else:
            return None
        raw = data[at:end]
        headers = self._parse(raw, line) if strict else _parse_loosely(raw)
        head = read_head(line, headers, raw, limits, self._compliance)
        self._at = end
        if head.has_body:
            self._left = head.length
            if head.length is None:
                self._chunks = ChunkedBody(limits, self._compliance)
        return head

    def next_body(self) -> bytes | None:
        """The next bytes of the body, b"" at its end; None if more are needed. ProtocolError if it is not a body."""
        if self._chunks is not None:
            piece, self._at = self._chunks.read(self._data, self._at)
            return piece
        if not self._left:
            return b""
        piece = self._data[self._at:self._at + self._left]
        self._at += len(piece)
        self._left -= len(piece)
        return piece or None

    def _look_closely(self) -> int:
        """Where the head ends, if it has come; 0 if not. ProtocolError if it will not do."""
        self._skip_empty_lines()
        found = _END.search(self._data, max(self._at, self._looked - 2))
        end = self._looked = found.end() if found else len(self._data)
        if not self._line_end:
            self._check_request_line(end)
        self._check_size(end)
        if not found:
            return 0
        self._strict = self._data[self._line_end - 2] == 0x0d
        if not _FIELDS.fullmatch(self._data, self._line_end, end):
            self._find_violations(self._data[self._line_end:end])
            self._strict = False
        return end

    def _skip_empty_lines(self) -> None:
        """RFC 9112 section 2.2: some clients send a CRLF too many behind a body; it is to be ignored before a head."""
        while not self._line_end and self._data.startswith((b"\r\n", b"\n"), self._at):
            if self._data[self._at] == 0x0a:
                self._compliance.saw(Violation.BARE_LF)
            size = 2 if self._data[self._at] == 0x0d else 1
            self._at += size
            self._skipped += size
            self._looked = self._at
            self._check_size(self._at)

    def _check_request_line(self, end: int) -> None:
        """As soon as it can be told; `end`: of what has come, or of the head."""
        data, at, most = self._data, self._at, self._limits.request_line
        if at < end and not 0x21 <= data[at] <= 0x7e and data[at] != 0x0d:
            tls = data[at] == 0x16
            raise ProtocolError(400, "a TLS handshake, and this port speaks plain HTTP" if tls else
                                f"not HTTP: {data[at:at + 20]!r}")
        line_end = data.find(b"\n", at, end) + 1
        if (line_end or end) - at > most and most <= self._limits.head - self._skipped:
            raise ProtocolError(414, f"a request line of more than {most} bytes (Limits.request_line)")
        self._check_size(line_end or end)  # before its content: had it come byte by byte, that would not have come
        if line_end:
            if not (found := _REQUEST_LINE.fullmatch(data, at, line_end)):
                raise ProtocolError(400, f"not a request line: {data[at:line_end][:200]!r}")
            method, target, major, minor = found.groups()
            if major != b"1":
                raise ProtocolError(505, "not a version of HTTP/1")
            if data[line_end - 2] != 0x0d:
                self._compliance.saw(Violation.BARE_LF)
            self._line_end = line_end
            self._line: tuple[bytes, ...] = method, target, minor

    def _check_size(self, end: int) -> None:
        """The limits of the whole head; `end`: of what has come, or of the head."""
        if end - self._at + self._skipped > self._limits.head:
            raise ProtocolError(431, f"a head of more than {self._limits.head} bytes (Limits.head)")
        # A line for each field, the request line, and the empty one; a fold counts too.
        if self._data.count(b"\n", self._at, end) > self._limits.header_count + 2:
            raise ProtocolError(431, f"more than {self._limits.header_count} header fields (Limits.header_count)")

    def _find_violations(self, fields: bytes) -> None:
        """There is something in `fields` that the strict rules do not have: say what, unless it is allowed."""
        if (fatal := _FATAL.search(fields)) or fields[:1] in (b" ", b"\t"):
            raise ProtocolError(400, f"the byte {fatal[0]!r} in the head" if fatal else
                                "white space before the first header field")
        known = False
        for pattern, violation in ((_BARE_LF, Violation.BARE_LF), (_FOLD, Violation.OBS_FOLD),
                                   (_CONTROL, Violation.CONTROL_BYTE)):
            if pattern.search(fields):
                self._compliance.saw(violation)
                known = True
        if not known:
            _malformed(fields)

    @abstractmethod
    def _parse(self, raw: bytes, line: tuple[bytes, ...]) -> list[tuple[bytes, bytes]]:
        """The fields of the whole head `raw`, to which there is nothing to be said; ProtocolError if it will not do.

        In order, names in lower case, values without white space around them. line: method, target, minor version.
        """


class H11Wire(Wire):
    """Through h11, the reference.

    Of a head to which there is nothing to be said, the strict rules have shown where each part begins and ends. h11 is
    given the parts, and judges them as it would judge its own, without its reader and its state machine: in a quarter
    of the time for a small head, in half for a browser's. Only a head that breaks a rule needs a whole h11.Connection.
    """

    __slots__ = ()

    def _parse(self, raw: bytes, line: tuple[bytes, ...]) -> list[tuple[bytes, bytes]]:
        method, target, minor = line
        fields = []
        for field in raw.splitlines()[1:-1]:
            name, _, value = field.partition(b":")
            fields.append((name.lower(), value.strip()))
        try:
            request = h11.Request(method=method, target=target, headers=fields, http_version=b"1." + minor)
        except h11.LocalProtocolError as error:
            raise _refusal(raw, error) from None
        return request.headers.raw_items()


def _malformed(fields: bytes) -> NoReturn:
    for line in fields.split(b"\r\n"):
        if not _FIELDS.fullmatch(line + b"\r\n\r\n"):
            raise ProtocolError(400, f"not a header field: {line[:200]!r}")
    raise ProtocolError(400, "malformed header fields")


def _parse_loosely(raw: bytes) -> list[tuple[bytes, bytes]]:
    """The fields of a head that breaks rules, all of which are allowed; by the whole of h11. ProtocolError if it will
    not do."""
    # A fresh one each time costs 1.3 us, and makes its response half unnecessary, which costs 30.
    parser = h11.Connection(h11.SERVER)
    parser.receive_data(raw)
    try:
        event = parser.next_event()
    except h11.RemoteProtocolError as error:
        raise _refusal(raw, error) from None
    if not isinstance(event, h11.Request):
        raise ProtocolError(400, "not a whole head")
    return list(event.headers)


def _refusal(raw: bytes, error: h11.ProtocolError) -> ProtocolError:
    """What h11's stands for: 501 is every Transfer-Encoding but one `chunked`, and 400 a length of more than 20 digits,
    too."""
    status = error.error_status_hint
    if status == 501:
        status = codings_status(b",".join(_CODINGS.findall(raw)))
    elif _HUGE_LENGTH.search(raw):
        status = 413
    return ProtocolError(status, str(error))


def chosen_wire(http: str) -> type[Wire]:
    """What parses: "h11", "httptools", or "auto": httptools if that is installed, and Python has its GIL, which an
    extension that is not made for a Python without it would switch on again.

    ValueError for another name, and for "httptools" without the package.
    """
    if http not in WIRES:
        raise ValueError(f"http={http!r}: pass one of {', '.join(map(repr, WIRES))}")
    if http == "h11" or (http == "auto" and not getattr(sys, "_is_gil_enabled", lambda: True)()):
        return H11Wire
    try:
        from acceptor.httptools_wire import HttptoolsWire
    except ImportError as error:
        if http == "auto":
            return H11Wire
        raise ValueError(f"http='httptools': {error}; pip install 'taskmasters[fast]', or pass http='auto'") from None
    return HttptoolsWire
