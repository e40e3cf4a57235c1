"""Target `chunks`: chunked bodies, without I/O.

What must hold, whatever comes:

    what was put into chunks comes out, and so do its trailers, and what follows is left alone
    only ProtocolError is raised, and no more calls are made than there are bytes to be read
    however the bytes are cut, it is the same body, the same end, or the same refusal
    it is within the limits, and h11 by itself, unless it refuses it, reads the same body
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from acceptor.chunks import ChunkedBody
from acceptor.framing import chunk
from acceptor.settings import Limits
from acceptor.violations import Compliance, ProtocolError, Violation
from fuzz.choices import LIMITS, Choices, Settings, cut, settings
from fuzz.requests import Pairs, Steps, read_by_h11, refused_by_h11_only

__all__ = ["Chunked", "chunks", "read_chunks"]


@dataclass(frozen=True)
class Chunked:
    body: bytes
    trailers: Pairs
    ended: bool
    refused: tuple[int, Violation | None] | None
    rest: bytes | None


def read_chunks(pieces: list[bytes], limits: Limits, allowed: Iterable[Violation]) -> Chunked:
    """What a chunked body comes to."""
    steps = Steps(pieces)
    body = ChunkedBody(limits, Compliance(allowed))
    source, data, at, content = iter(pieces), b"", 0, b""
    try:
        while True:
            steps.one()
            piece, at = body.read(data, at)
            assert 0 <= at <= len(data)
            if piece == b"":
                return Chunked(content, body.trailers, True, None, data[at:] + b"".join(source))
            content += piece or b""
            if piece is None:
                more = next(source, None)
                if more is None:
                    return Chunked(content, [], False, None, data[at:])
                data, at = data[at:] + more, 0
    except ProtocolError as error:
        return Chunked(content, [], False, (error.status, error.violation), None)


_POST = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunks(data: bytes) -> None:
    """Chunked bodies: what was put into chunks comes out, and anything else is read as h11 reads it, or not at all."""
    choices = Choices(data)
    chosen = settings(choices)
    if chosen.options[0] & 1:
        _put_into_chunks(choices, chosen)
        return
    sent = choices.rest()
    outcome = read_chunks([sent], chosen.limits, chosen.allowed)
    pieces = cut(sent, chosen.cuts)
    assert read_chunks(pieces, chosen.limits, chosen.allowed) == outcome, f"it depends on how it is cut: {pieces}"
    assert chosen.limits.body is None or len(outcome.body) <= chosen.limits.body
    if outcome.ended:
        assert outcome.rest is not None
        _check_extensions(sent[:len(sent) - len(outcome.rest)], chosen.limits)
        theirs = read_by_h11(_POST + sent)
        if theirs is None:
            assert refused_by_h11_only(sent, chosen.allowed), "h11 does not read it"
            return
        assert (theirs.body, theirs.rest) == (outcome.body, outcome.rest)
        if Violation.FORBIDDEN_TRAILER in chosen.allowed:
            assert set(outcome.trailers) <= set(theirs.trailers)
        else:
            assert outcome.trailers == theirs.trailers


def _check_extensions(body: bytes, limits: Limits) -> None:
    """Look at a body that was accepted once more, in another way."""
    extensions, at, size = 0, 0, -1
    while size:
        line, at = body[at:body.index(b"\r\n", at)], body.index(b"\r\n", at) + 2
        digits = line[:len(line) - len(line.lstrip(b"0123456789abcdefABCDEF"))]
        extensions += len(line) - len(digits)
        size = int(digits, 16)
        at += size + 2 if size else 0
    assert extensions <= limits.chunk_extensions, f"{extensions} bytes of chunk extensions"
    assert len(body) - at <= limits.trailers + 2


def _put_into_chunks(choices: Choices, chosen: Settings) -> None:
    pieces = [piece for _ in range(choices.byte() % 8) if (piece := choices.piece())]
    extension = choices.one_of([b"", b";a", b";a=b", b" ; a = b", b';a="b;\\"c"', b";a=b;c"])
    trailers = [(b"x-%d" % number, choices.piece().translate(None, bytes(range(32)) + b"\x7f").strip())
                for number in range(choices.byte() % 4)]
    rest = choices.rest()
    sent = b"".join(chunk(piece).replace(b"\r\n", extension + b"\r\n", 1) for piece in pieces) + b"0\r\n"
    sent += b"".join(b"%b: %b\r\n" % pair for pair in trailers) + b"\r\n" + rest
    meant = Chunked(b"".join(pieces), trailers, True, None, rest)
    for came in [sent], cut(sent, chosen.cuts):
        assert read_chunks(came, LIMITS[0], ()) == meant
