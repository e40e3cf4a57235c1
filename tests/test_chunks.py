"""Chunked bodies: what is encoded is decoded, however it is cut; what is malformed is refused at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from acceptor.chunks import _FORBIDDEN, ChunkedBody
from acceptor.settings import Limits
from acceptor.violations import Compliance, ProtocolError, Violation
from acceptor.wire import Wire
from tests.test_wire import bytewise, cut, cuts, each_wire, subsets

END = b"0\r\n\r\n"


@dataclass(frozen=True)
class Decoded:
    body: bytes
    """What was read before the end, or the refusal."""
    trailers: list[tuple[bytes, bytes]] | None = None
    """At the end; None if that has not come."""
    rest: bytes = b""
    """What was not read."""
    refused: int | None = None
    violation: Violation | None = None


def decode(pieces: Iterable[bytes], limits: Limits | None = None, allow: Collection[Violation] = ()) -> Decoded:
    """Read a body that comes in those pieces, out of a buffer that begins with something else, as a wire's does."""
    chunked = ChunkedBody(limits or Limits(), Compliance(allow))
    source, data, at, body = iter(pieces), b"behind", 6, b""
    for received in itertools.chain([b""], source):
        data, at = b"behind" + data[at:] + received, 6
        try:
            while True:
                piece, at = chunked.read(data, at)
                if piece is None:
                    break
                if not piece:
                    return Decoded(body, chunked.trailers, data[at:] + b"".join(source))
                body += piece
        except ProtocolError as error:
            return Decoded(body, None, b"", error.status, error.violation)
    return Decoded(body, None, data[at:])


def decode_all(data: bytes, limits: Limits | None = None, allow: Collection[Violation] = ()) -> Decoded:
    """`data` in one piece and byte by byte, which must be the same."""
    decoded = decode([data], limits, allow)
    assert decode(bytewise(data), limits, allow) == decoded
    return decoded


# Bodies that Hypothesis makes: all that the grammar of RFC 9112 section 7.1 has.

TOKEN = "!#$%&'*+-.^_`|~09azAZ"
tokens = st.text(TOKEN, min_size=1, max_size=5)
white_space = st.text(" \t", max_size=2)
quoted = st.lists(st.one_of(st.text(st.characters(codec="latin-1", exclude_categories=["Cc"],
                                                  exclude_characters='"\\'), min_size=1, max_size=3),
                            st.sampled_from(["\\\"", "\\\\", "\\a", "\t", ";", "\\\t", "\\\xe9"])), max_size=4
                  ).map(lambda parts: f'"{"".join(parts)}"')


@st.composite
def extensions(draw: st.DrawFn) -> str:
    text = ""
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2, 3]))):
        text += f"{draw(white_space)};{draw(white_space)}{draw(tokens)}"
        if draw(st.booleans()):
            text += f"{draw(white_space)}={draw(white_space)}{draw(st.one_of(tokens, quoted))}"
    return text


field_values = st.text(st.one_of(st.characters(min_codepoint=0x20, max_codepoint=0x7e),
                                 st.characters(min_codepoint=0xa1, max_codepoint=0xff), st.just("\t")), max_size=12)
trailer_names = tokens.filter(lambda name: name.lower().encode() not in _FORBIDDEN)


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, Decoded]:
    """A body as it may come, and what it is."""
    encoded, body = b"", b""
    for piece in draw(st.lists(st.one_of(st.binary(min_size=1, max_size=40), st.just(END), st.just(b"x" * 300)),
                               max_size=4)):
        size = draw(st.sampled_from(["%x", "%X", "%03x", "%016X"])) % len(piece)
        encoded += f"{size}{draw(extensions())}\r\n".encode("latin-1") + piece + b"\r\n"
        body += piece
    encoded += f"{draw(st.sampled_from(['0', '000', '0' * 16]))}{draw(extensions())}\r\n".encode("latin-1")
    trailers = draw(st.lists(st.tuples(trailer_names, field_values), max_size=3))
    for name, value in trailers:
        encoded += f"{name}:{value}\r\n".encode("latin-1")
    read_as = [(name.lower().encode(), value.strip(" \t").encode("latin-1")) for name, value in trailers]
    return encoded + b"\r\n", Decoded(body, read_as)


@given(bodies(), cuts, st.one_of(st.just(b""), st.just(b"GET / HTTP/1.1\r\n"), st.binary(max_size=20)))
def test_a_body_is_what_was_encoded_however_it_is_cut_and_what_is_behind_it_is_left(
        body: tuple[bytes, Decoded], at: list[int], behind: bytes) -> None:
    encoded, meant = body
    meant = Decoded(meant.body, meant.trailers, behind)
    for pieces in [encoded + behind], cut(encoded + behind, at), bytewise(encoded + behind):
        assert decode(pieces) == meant


@given(bodies(), st.data())
@settings(max_examples=50)
def test_half_a_body_is_half_read_and_no_more_than_what_is_unfinished_is_kept(
        body: tuple[bytes, Decoded], data: st.DataObject) -> None:
    encoded, meant = body
    half = decode_all(encoded[:data.draw(st.integers(0, len(encoded) - 1))])
    assert (half.trailers, half.refused) == (None, None)
    assert meant.body.startswith(half.body)
    assert b"\n" not in half.rest, "every line that has come has been judged"


FRAGMENTS = [
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b";", b"=", b'"', b"\\", b":", b"0", b"5", b"g", b"+", b"-", b"_",
    b"x", b"0x", b"\0", b"\x0b", b"\x10", b"\x7f", b"\x80", END, b"5\r\nhello\r\n", b"5 \r\nhello\r\n", b";a=b",
    b"X: 1\r\n", b" fold\r\n", b"Host: b\r\n", b"Content-Length: 5\r\n", b"1" * 17,
]


@st.composite
def mutated_bodies(draw: st.DrawFn) -> bytes:
    """A body with a few things inserted, taken out, or there twice."""
    data, _ = draw(bodies())
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 6)))
        inserted = draw(st.one_of(st.sampled_from(FRAGMENTS), st.just(b""), st.just(data[start:end] * 2)))
        data = data[:start] + inserted + data[end:]
    return data


anything = st.one_of(mutated_bodies(), st.lists(st.sampled_from(FRAGMENTS), max_size=10).map(b"".join))
small_limits = st.builds(Limits, body=st.integers(0, 50), chunk_extensions=st.integers(0, 20),
                         trailers=st.integers(0, 30), header_count=st.integers(1, 3))


@given(anything, cuts, subsets, st.one_of(st.just(Limits()), small_limits))
@settings(max_examples=200)
def test_no_outcome_depends_on_where_a_body_is_cut_and_no_line_that_has_come_is_waited_on(
        data: bytes, at: list[int], allow: frozenset[Violation], limits: Limits) -> None:
    outcome = decode_all(data, limits, allow)
    assert decode(cut(data, at), limits, allow) == outcome
    if outcome.trailers is None:
        assert b"\n" not in outcome.rest


def by_h11(data: bytes) -> Decoded:
    """A body as plain h11 reads it; h11.RemoteProtocolError if it does not."""
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    parser.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + data)
    parser.next_event()
    body, event = b"", parser.next_event()
    while isinstance(event, h11.Data):
        body += event.data
        event = parser.next_event()
    if not isinstance(event, h11.EndOfMessage):
        return Decoded(body)
    return Decoded(body, list(event.headers), bytes(parser.trailing_data[0]))


@given(anything)
@example(b"5\r\nhello\r\n0\r\nX: \xa0\r\n\r\n")
@settings(max_examples=200)
def test_what_is_accepted_is_accepted_by_h11_and_read_the_same(data: bytes) -> None:
    ours = decode_all(data)
    if ours.trailers is None:
        return
    try:
        theirs = by_h11(data)
    except h11.RemoteProtocolError as error:
        # RFC 9112 section 7.1.1 has white space before the semicolon; h11 does not.
        if "illegal chunk header" not in str(error):
            raise
        assert b" ;" in data or b"\t;" in data
        return
    assert ours == theirs


# What is malformed: whole, and nothing behind it.

MALFORMED = {
    "no size": b"\r\n", "no hexadecimal": b"g\r\n", "a word": b"hello", "a word and a line end": b"hello\r\n",
    "-1": b"-1\r\n", "+5": b"+5\r\nhello\r\n", "0x5": b"0x5\r\nhello\r\n", "0_5": b"0_5\r\nhello\r\n",
    "5.0": b"5.0\r\nhello\r\n", "a space before it": b" 5\r\nhello\r\n", "a tab before it": b"\t5\r\n",
    "two sizes": b"5 5\r\nhello\r\n", "17 digits": b"0" * 16 + b"5\r\nhello\r\n", "30 digits": b"1" * 30 + b"\r\n",
    "a digit that is not ASCII": "٥\r\n".encode(), "a fullwidth digit": "５\r\n".encode(),
    "LF": b"5\nhello\r\n", "LF behind an extension": b"5;a\nhello\r\n", "CR CR LF": b"5\r\r\nhello\r\n",
    "LF behind the last": b"0\n", "NUL": b"5\0\r\nhello\r\n", "vertical tab": b"5\x0b\r\nhello\r\n",
    "data that is too long": b"5\r\nhelloX", "data that is too short": b"5\r\nhell\r\n",
    "LF behind data": b"5\r\nhello\n", "CR behind data": b"5\r\nhello\rx", "CR CR behind data": b"5\r\nhello\r\r",
    "an empty line": b"5\r\nhello\r\n\r\n",
    "no name of an extension": b"5;\r\n", "no name but a value": b"5;=b\r\n", "no value": b"5;a=\r\n",
    "two words": b"5;a b\r\n", "two names": b"5;a;;b\r\n", "a quote that does not end": b'5;a="b\r\n',
    "something behind a quote": b'5;a="b"c\r\n', "an escape that does not end": b'5;a="b\\"\r\n',
    "a quoted name": b'5;"a"=b\r\n', "a delimiter": b"5;a=b@c\r\n", "no semicolon": b"5a=b\r\n",
    "a comma": b"5,a\r\n", "NUL in an extension": b"5;a=\0\r\n", "a control byte in quotes": b'5;a="\x01"\r\n',
    "an escaped control byte": b'5;a="\\\x01"\r\n', "é outside of quotes": b"5;a=\xe9\r\n", "DEL": b'5;a="\x7f"\r\n',
    "CR in an extension": b"5;a\rb\r\n", "CR in quotes": b'5;a="\r"\r\n', "CRLF in quotes": b'5;a="\r\n"\r\n',
    "LF in quotes": b'5;a="\n"\r\n',
    "a trailer without colon": b"0\r\nX\r\n", "a trailer without name": b"0\r\n: 1\r\n",
    "LF ends a trailer": b"0\r\nX: 1\n", "LF ends the trailers": b"0\r\nX: 1\r\n\n", "LF ends the body": b"0\r\n\n",
    "CR in a trailer": b"0\r\nX: 1\r2\r\n", "a space before the colon": b"0\r\nX : 1\r\n",
    "a fold": b"0\r\nX: 1\r\n 2\r\n", "a fold at first": b"0\r\n X: 1\r\n", "NUL in a trailer": b"0\r\nX: \0\r\n",
    "a control byte in a trailer": b"0\r\nX: \x10\r\n", "DEL in a trailer": b"0\r\nX: \x7f\r\n",
    "é in a name": b"0\r\n\xe9: 1\r\n", "a request": b"0\r\nGET / HTTP/1.1\r\n",
    "a bad one behind a good one": b"0\r\nX: 1\r\nY\r\n",
}


@pytest.mark.parametrize("allow", [frozenset(), frozenset(Violation)], ids=["strict", "all allowed"])
@pytest.mark.parametrize("before", [b"", b"3;x=y\r\nabc\r\n"], ids=["first", "second"])
@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_malformed_is_refused_whatever_is_allowed(
        data: bytes, before: bytes, allow: frozenset[Violation]) -> None:
    decoded = decode_all(before + data, allow=allow)
    assert (decoded.refused, decoded.violation) == (400, None)


@pytest.mark.parametrize("name", sorted(name.decode() for name in _FORBIDDEN))
def test_a_trailer_that_must_not_be_is_refused_or_ignored(name: str) -> None:
    data = f"2\r\nhi\r\n0\r\nX: 1\r\n{name.title()}: 2\r\nY: 3\r\n\r\n".encode()
    refused = decode_all(data)
    assert (refused.body, refused.refused, refused.violation) == (b"hi", 400, Violation.FORBIDDEN_TRAILER)
    assert decode_all(data, allow=[Violation.FORBIDDEN_TRAILER]) == Decoded(b"hi", [(b"x", b"1"), (b"y", b"3")])


@pytest.mark.parametrize("name", ["host", "content-length", "transfer-encoding", "trailer", "authorization", "cookie",
                                  "content-type", "content-encoding", "connection", "x-forwarded-for"])
def test_what_decides_about_a_request_must_not_be_a_trailer(name: str) -> None:
    """RFC 9110 section 6.5.1."""
    assert name.encode() in _FORBIDDEN


@pytest.mark.parametrize("space", [b" ", b"\t", b" \t ", b";a=b "])
def test_white_space_behind_a_size_is_refused_or_ignored(space: bytes) -> None:
    data = b"2" + space + b"\r\nhi\r\n0" + space + b"\r\n\r\n"
    assert decode_all(data).violation is Violation.CHUNK_SPACE
    assert decode_all(data, allow=[Violation.CHUNK_SPACE]) == Decoded(b"hi", [])


@each_wire
@pytest.mark.parametrize(("data", "limits"), [
    (b"x\r\n", Limits()), (b"0\r\nX: 1\r\nbad\r\n", Limits()), (b"6\r\nhello!\r\n", Limits(body=5)),
    (b"0\r\nX: " + b"x" * 20 + b"\r\n\r\n", Limits(trailers=10)), (b"0\r\nHost: a\r\n\r\n", Limits()),
    (b"5\r\nhelloX", Limits()),
], ids=["size", "trailer", "body", "trailers", "forbidden", "data"])
def test_a_refused_body_is_refused_again_whenever_it_is_asked_for_and_counted_once(
        make: type[Wire], data: bytes, limits: Limits) -> None:
    """A handler may catch the first refusal; what is left must not read as anything else."""
    compliance, refusals = Compliance(), []
    wire = make(limits, compliance)
    wire.receive(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + data)
    assert wire.next_head() is not None
    for _ in range(4):
        with pytest.raises(ProtocolError) as caught:  # noqa: PT012  # some of it may be read before
            while wire.next_body():
                pass
        refusals.append((caught.value.status, caught.value.violation, str(caught.value)))
        wire.receive(END)
    assert len(set(refusals)) == 1
    assert sum(compliance.counts.values()) <= 1


# Limits: as much as they say, and not a byte more.

def one_extension(size: int) -> bytes:
    return b"5;" + b"a" * (size - 1) + b"\r\nhello\r\n" + END


AT_LIMITS: dict[str, tuple[Limits, Callable[[int], bytes], int]] = {
    "body in one chunk": (Limits(body=5), lambda more: b"%x\r\n%b\r\n" % (5 + more, b"x" * (5 + more)) + END, 413),
    "body in many": (Limits(body=5), lambda more: b"1\r\nx\r\n" * (5 + more) + END, 413),
    "no body": (Limits(body=0), lambda more: b"1\r\nx\r\n" * more + END, 413),
    "one extension": (Limits(chunk_extensions=20), lambda more: one_extension(20 + more), 400),
    "one extension, at first": (Limits(), lambda more: one_extension(4096 + more), 400),
    "no extension": (Limits(chunk_extensions=0), lambda more: b"5;a\r\nhello\r\n" * more + END, 400),
    "an extension of a size of 16 digits": (
        Limits(chunk_extensions=20), lambda more: b"0" * 15 + one_extension(20 + more), 400),
    "extensions together": (Limits(chunk_extensions=20), lambda more: b"1;a\r\nx\r\n" * (10 + more) + END, 400),
    "extensions and the last one": (
        Limits(chunk_extensions=20), lambda more: b"1;aaaaaaaaa\r\nx\r\n0;" + b"a" * (9 + more) + b"\r\n\r\n", 400),
    "white space": (Limits(chunk_extensions=20), lambda more: b"1 \r\nx\r\n" * (20 + more) + END, 400),
    "trailers": (Limits(trailers=50), lambda more: b"0\r\nX: 1\r\nY:" + b"x" * (40 + more) + b"\r\n\r\n", 431),
    "trailers, at first": (Limits(), lambda more: b"0\r\nX:" + b"x" * (8188 + more) + b"\r\n\r\n", 431),
    "no trailers": (Limits(trailers=0), lambda more: b"0\r\n" + b"X:\r\n" * more + b"\r\n", 431),
    "trailer fields": (Limits(header_count=7), lambda more: b"0\r\n" + b"X:\r\n" * (7 + more) + b"\r\n", 431),
    "trailer fields, at first": (Limits(), lambda more: b"0\r\n" + b"X:\r\n" * (100 + more) + b"\r\n", 431),
}
"""Limits, a body that is so much more than they allow, and how that is answered."""


@pytest.mark.parametrize(("limits", "make", "status"), AT_LIMITS.values(), ids=AT_LIMITS.keys())
def test_a_limit_is_exact_however_the_bytes_come(limits: Limits, make: Callable[[int], bytes], status: int) -> None:
    fits = decode_all(make(0), limits, [Violation.CHUNK_SPACE])
    assert fits.trailers is not None
    assert decode_all(make(1), limits, [Violation.CHUNK_SPACE]).refused == status


@pytest.mark.parametrize(("start", "status", "most"), [
    (b"5;a=", 400, 4096), (b"5", 400, 4096), (b"5\r\nhello\r\n5;a=", 400, 4096), (b"0\r\nX: ", 431, 8192),
    (b"0\r\n", 431, 8192),
], ids=["extension", "size", "second extension", "trailer", "name of a trailer"])
def test_a_line_without_end_is_refused_as_soon_as_it_is_too_long(start: bytes, status: int, most: int) -> None:
    come = 0

    def endless() -> Iterator[bytes]:
        nonlocal come
        yield start
        while come < 10_000:
            come += 1
            yield b"1"

    assert decode(endless()).refused == status
    assert come <= most + 18


def test_a_chunk_of_any_size_may_come_if_there_is_no_limit() -> None:
    decoded = decode_all(b"f" * 16 + b"\r\nhello", Limits(body=None))
    assert decoded == Decoded(b"hello")
    assert decode_all(b"f" * 16 + b"\r\nhello").refused == 413


def test_a_chunk_that_is_too_large_is_refused_before_any_of_it_comes() -> None:
    assert decode_all(b"6\r\n", Limits(body=5)).refused == 413
    assert decode_all(b"3\r\nabc\r\n3\r\n", Limits(body=5)) == Decoded(b"abc", refused=413)
