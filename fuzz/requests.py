"""Target `wire`: bytes into requests, without I/O.

What must hold, whatever comes:

    only ProtocolError is raised, and no more calls are made than there are bytes to be read
    however the bytes are cut, they are the same requests, the same refusal, and the same violations
    and so they are whichever wire reads, where httptools is installed
    no body is longer than Limits.body, nor anything else than its limit
    h11 by itself, unless it refuses them, reads the same requests, and sees their ends at the same bytes
    a request that was accepted, written down in the plainest way, is read as the same by h11 and by the wire
"""

from __future__ import annotations

import re
from collections.abc import Collection, Container, Iterator
from dataclasses import dataclass, replace

import h11

from acceptor.framing import chunk
from acceptor.heads import RequestHead
from acceptor.settings import Limits
from acceptor.violations import Compliance, ProtocolError, Violation
from acceptor.wire import H11Wire, Wire, chosen_wire
from fuzz.choices import Choices, cut, settings

__all__ = ["ByH11", "Outcome", "Pairs", "Read", "Steps", "read", "read_by_h11", "refused_by_h11_only", "wire"]

Pairs = list[tuple[bytes, bytes]]

_OTHER_WIRE = chosen_wire("auto")
_AMPLE = Limits(request_line=1 << 20, head=1 << 20, header_count=10_000, body=None, trailers=1 << 20)
_NOT_IN_PLAIN_WRITING = frozenset({
    Violation.BARE_LF, Violation.OBS_FOLD, Violation.LENGTH_AND_CHUNKED, Violation.REPEATED_LENGTH,
    Violation.CHUNK_SPACE, Violation.FORBIDDEN_TRAILER,
})
_EMPTY_LINES = re.compile(rb"(?:\r?\n)*")
_SPACE_BEFORE_EXTENSION = re.compile(rb"[0-9A-Fa-f][ \t]+;")
"""RFC 9112 section 7.1.1 has it (BWS); h11 does not."""


@dataclass(frozen=True)
class Read:
    """One request, as far as it was read."""

    head: RequestHead
    body: bytes = b""
    trailers: tuple[tuple[bytes, bytes], ...] = ()
    whole: bool = False


@dataclass(frozen=True)
class Outcome:
    """What has become of all the bytes that came."""

    requests: tuple[Read, ...]
    refused: tuple[int, Violation | None] | None
    """Status, and what for."""
    rest: bytes | None
    """What has not been read; None if something was refused."""
    seen: dict[Violation, int]


class Steps:
    """Raises if reading does not come to an end."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.left = 10 + 4 * sum(map(len, pieces)) + 2 * len(pieces)

    def one(self) -> None:
        self.left -= 1
        assert self.left > 0, "it goes on and on"


def read(pieces: list[bytes], limits: Limits, allowed: Collection[Violation], at_most: int | None = None,
         make_wire: type[Wire] = H11Wire) -> Outcome:
    """Read all requests (or `at_most` so many) as `acceptor.connection` does, receiving a piece when more is needed."""
    compliance = Compliance(allowed)
    steps = Steps(pieces)
    source = iter(pieces)
    reader = make_wire(limits, compliance)
    requests: list[Read] = []
    refused: tuple[int, Violation | None] | None = None
    try:
        while at_most is None or len(requests) < at_most:
            head = _read_head(reader, source, steps)
            if head is None:
                break
            requests.append(Read(head))
            if not _read_body(reader, source, requests, steps):
                break
    except ProtocolError as error:
        refused = error.status, error.violation
    if refused:
        assert 400 <= refused[0] <= 599
        assert refused[1] not in allowed, "refused for what is allowed"
    rest = None if refused else reader.take_rest() + b"".join(source)
    return Outcome(tuple(requests), refused, rest, dict(compliance.counts))


def _read_head(reader: Wire, source: Iterator[bytes], steps: Steps) -> RequestHead | None:
    some = reader.next_request()
    while True:
        steps.one()
        if some and (head := reader.next_head()) is not None:
            return head
        piece = next(source, None)
        if piece is None:
            return None
        reader.receive(piece)
        some = True


def _read_body(reader: Wire, source: Iterator[bytes], requests: list[Read], steps: Steps) -> bool:
    """Keep in the last of `requests` what has been read so far, so that it is there whatever happens."""
    while True:
        steps.one()
        data = reader.next_body()
        if data is None:
            piece = next(source, None)
            if piece is None:
                return False
            reader.receive(piece)
        elif data:
            requests[-1] = replace(requests[-1], body=requests[-1].body + data)
        else:
            requests[-1] = replace(requests[-1], trailers=tuple(reader.trailers), whole=True)
            return True


def wire(data: bytes) -> None:
    """Requests: however they are cut, whatever parses, as h11 reads them, and as they are when written down plainly."""
    choices = Choices(data)
    chosen = settings(choices)
    sent = choices.rest()
    if not sent:
        return
    outcome = read([sent], chosen.limits, chosen.allowed)
    pieces = cut(sent, chosen.cuts)
    assert read(pieces, chosen.limits, chosen.allowed) == outcome, f"it depends on how it is cut: {pieces}"
    other = read(pieces, chosen.limits, chosen.allowed, make_wire=_OTHER_WIRE)
    assert other == outcome, f"it depends on what parses: {other}"
    for request in outcome.requests:
        _check_limits(request, chosen.limits)
    left = sent
    for request in outcome.requests:
        if request.whole:
            first = read([left], chosen.limits, chosen.allowed, at_most=1)
            assert first.requests == (request,), "it depends on what came before it"
            assert first.rest is not None
            _compare_with_h11(left, request, first)
            _write_plainly(request, chosen.allowed, first)
            left = first.rest


def _check_limits(request: Read, limits: Limits) -> None:
    assert limits.body is None or len(request.body) <= limits.body
    assert request.head.length is None or limits.body is None or request.head.length <= limits.body
    assert request.head.length is None or len(request.body) <= request.head.length
    assert not request.whole or len(request.body) == (request.head.length or 0) or request.head.length is None
    assert len(request.head.headers) <= limits.header_count
    assert len(request.head.method) + len(request.head.target) + 12 <= limits.request_line
    assert sum(len(name) + len(value) + 3 for name, value in request.head.headers) <= limits.head
    assert sum(len(name) + len(value) + 3 for name, value in request.trailers) <= limits.trailers
    assert len(request.trailers) <= limits.header_count
    assert (request.head.length is None and request.head.has_body) or not request.trailers


@dataclass(frozen=True)
class ByH11:
    method: bytes
    target: bytes
    headers: Pairs
    body: bytes
    trailers: Pairs
    rest: bytes


def read_by_h11(data: bytes) -> ByH11 | None:
    """The first request in `data`; None if h11 refuses it or wants more."""
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 24)
    parser.receive_data(data)
    request, body = None, b""
    while True:
        try:
            event = parser.next_event()
        except h11.RemoteProtocolError:
            return None
        if isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage) and request is not None:
            return ByH11(request.method, request.target, list(request.headers), body, list(event.headers),
                          parser.trailing_data[0])
        else:
            return None


def _compare_with_h11(data: bytes, request: Read, outcome: Outcome) -> None:
    """Both have read `data` as it came."""
    theirs = read_by_h11(data[_EMPTY_LINES.match(data).end():])  # type: ignore[union-attr]
    if theirs is None:
        assert refused_by_h11_only(data, outcome.seen), "h11 does not read it"
        return
    headers = theirs.headers
    if Violation.LENGTH_AND_CHUNKED in outcome.seen:
        headers = [pair for pair in headers if pair[0] != b"content-length"]
    ours = ByH11(request.head.method.encode(), request.head.target.encode(), request.head.headers, request.body,
                  list(request.trailers), outcome.rest or b"")
    if Violation.FORBIDDEN_TRAILER in outcome.seen:
        assert set(ours.trailers) <= set(theirs.trailers)
        theirs = replace(theirs, trailers=ours.trailers)
    assert replace(theirs, headers=headers) == ours


def refused_by_h11_only(data: bytes, seen: Container[Violation]) -> bool:
    """It may be: for a space that RFC 9112 has, and for what it makes of lengths among the trailers."""
    return bool(_SPACE_BEFORE_EXTENSION.search(data)) or Violation.FORBIDDEN_TRAILER in seen


def _write_plainly(request: Read, allowed: frozenset[Violation], outcome: Outcome) -> None:
    """Write the request down, and have it read again."""
    head = request.head
    plain = b"".join([f"{head.method} {head.target} HTTP/{head.version}\r\n".encode(),
                      *(b"%b: %b\r\n" % pair for pair in head.headers), b"\r\n"])
    if head.has_body and head.length is None:
        plain += (chunk(request.body) if request.body else b"") + b"0\r\n"
        plain += b"".join(b"%b: %b\r\n" % pair for pair in request.trailers) + b"\r\n"
    else:
        plain += request.body
    theirs = read_by_h11(plain)
    assert theirs is not None, f"h11 does not read {plain!r}"
    assert theirs == ByH11(head.method.encode(), head.target.encode(), head.headers, request.body,
                            list(request.trailers), b"")
    again = read([plain], _AMPLE, allowed - _NOT_IN_PLAIN_WRITING)
    if Violation.LENGTH_AND_CHUNKED in outcome.seen:
        request = replace(request, head=replace(head, keep_alive=again.requests[0].head.keep_alive))
    assert again.requests == (request,), f"{plain!r} is read as {again}"
    assert again.rest == b""
