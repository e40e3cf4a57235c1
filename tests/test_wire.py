"""The wire: the same outcome wherever the bytes are cut, and nothing accepted that h11 would not read the same way.

`read` reads a wire as a connection does; every wire there is, and they must agree. What a head means is in
test_heads.py, and chunks by themselves are in test_chunks.py; what could tell one wire from another is in
test_wires_agree.py; corpus.py has the long table of single cases. Here are the promises about all of them at once.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import h11
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from acceptor import chunks, fields, heads, wire
from acceptor.heads import RequestHead
from acceptor.settings import Limits
from acceptor.violations import Compliance, ProtocolError, Violation
from acceptor.wire import H11Wire, Wire, chosen_wire

WIRES: list[type[Wire]] = list(dict.fromkeys([H11Wire, chosen_wire("auto")]))
"""The reference; and the other one, where httptools is installed."""
each_wire = pytest.mark.parametrize("make", WIRES)

# Reading a wire as a connection does.


@dataclass(frozen=True)
class Exchange:
    """One request as read: its head, its body and trailers, and, if it was refused halfway, the status of that."""

    head: RequestHead | None
    body: bytes = b""
    trailers: tuple[tuple[bytes, bytes], ...] = ()
    refused: int | None = None
    whole: bool = True
    """The body has been read to its end."""


@dataclass(frozen=True)
class Outcome:
    """All that came of some bytes."""

    exchanges: list[Exchange]
    seen: Mapping[Violation, int]
    """How often each violation was counted."""
    rest: bytes
    """What was left unread, waiting for more; b"" if a request was refused."""


def outcome(pieces: Iterable[bytes], limits: Limits | None = None, allow: Collection[Violation] = ()) -> Outcome:
    """What comes of `pieces` with every wire, which must be the same."""
    pieces = list(pieces)
    first, *others = (outcome_of(make, pieces, limits, allow) for make in WIRES)
    for other in others:
        assert other == first, "the wires do not agree"
    return first


def outcome_of(make: type[Wire], pieces: Iterable[bytes], limits: Limits | None = None,
               allow: Collection[Violation] = ()) -> Outcome:
    """Receive `pieces` one after the other, as they are needed, and read every request there is in them."""
    compliance = Compliance(allow)
    reading, source = make(limits or Limits(), compliance), iter(pieces)
    exchanges: list[Exchange] = []

    def receive() -> bool:
        for piece in source:
            reading.receive(piece)
            return True
        return False

    def end(*last: Exchange, rest: bytes = b"") -> Outcome:
        return Outcome([*exchanges, *last], compliance.counts, rest)

    some = receive()
    while True:
        head, body = None, b""
        try:
            while not some or (head := reading.next_head()) is None:
                if not receive():
                    return end(rest=reading.take_rest())
                some = True
            while head.has_body:
                while (data := reading.next_body()) is None:
                    if not receive():
                        return end(Exchange(head, body, whole=False), rest=reading.take_rest())
                if not data:
                    break
                body += data
        except ProtocolError as error:
            return end(Exchange(head, body, refused=error.status, whole=False))
        exchanges.append(Exchange(head, body, tuple(reading.trailers)))
        some = reading.next_request()


def read(pieces: Iterable[bytes], limits: Limits | None = None, allow: Collection[Violation] = ()) -> list[Exchange]:
    return outcome(pieces, limits, allow).exchanges


def read_one(data: bytes, limits: Limits | None = None, allow: Collection[Violation] = ()) -> Exchange:
    exchanges = read([data], limits, allow)
    assert len(exchanges) == 1, exchanges
    return exchanges[0]


def head_of(*lines: str, allow: Collection[Violation] = ()) -> RequestHead:
    """The head that those lines are; fails if it is refused."""
    exchange = read_one("\r\n".join([*lines, "", ""]).encode("latin-1"), allow=allow)
    assert exchange.head is not None, exchange
    return exchange.head


def cut(data: bytes, at: Iterable[int]) -> list[bytes]:
    """`data` in pieces, none of them empty, cut at the positions in `at`, modulo its length."""
    edges = sorted({0, len(data), *(position % len(data) for position in at)}) if data else []
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def bytewise(data: bytes) -> list[bytes]:
    return cut(data, range(len(data)))


# Requests that Hypothesis makes, with what they must be read as.

tokens = st.text("abcXYZ-019_", min_size=1, max_size=8)
values = st.text(st.characters(min_codepoint=0x21, max_codepoint=0xff, exclude_categories=["Cc"]), max_size=12)
chunk_lists = st.lists(st.binary(min_size=1, max_size=80), max_size=4)


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, Exchange]:
    version = draw(st.sampled_from(["1.1", "1.1", "1.0", "1.2"]))
    method = draw(st.sampled_from(["GET", "POST", "HEAD", "OPTIONS", "M-SEARCH", "X_1"]))
    target = "/" + draw(st.text("abc/%2F?=&~", max_size=12))
    host = draw(st.sampled_from(["test", "test:8080", "[::1]:1", ""]))
    if host and draw(st.booleans()):
        target = f"http://{host}{target}"
    length, trailers = None, []
    headers = [("Host", host)]
    headers += draw(st.lists(st.tuples(tokens.map(lambda name: f"X-{name}"), values), max_size=4))
    body, framed = b"", b""
    framing = draw(st.sampled_from(["none", "length", "chunked"]))
    if framing == "length":
        body = framed = draw(st.binary(max_size=300))
        length = len(body)
        headers.append(("Content-Length", str(length)))
    elif framing == "chunked" and version != "1.0":
        pieces = draw(chunk_lists)
        extension = draw(st.sampled_from([b"", b";a=b", b' ; x = "y"']))
        body = b"".join(pieces)
        framed = b"".join(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces) + b"0\r\n"
        for number in range(draw(st.integers(0, 2))):
            trailers.append((b"x-%d" % number, b"sum"))
            framed += b"X-%d: \tsum \r\n" % number
        framed += b"\r\n"
        headers.append(("Transfer-Encoding", "chunked"))
    headers = draw(st.permutations(headers))
    lines = [f"{method} {target} HTTP/{version}", *(f"{name}: {value}" for name, value in headers), "", ""]
    empty_lines = b"\r\n" * draw(st.sampled_from([0, 0, 0, 1, 3]))
    return empty_lines + "\r\n".join(lines).encode("latin-1") + framed, Exchange(RequestHead(
        method, target, "1.0" if version == "1.0" else "1.1",
        [(name.lower().encode(), value.encode("latin-1")) for name, value in headers], host=host,
        has_body=bool(framed), length=length, keep_alive=version != "1.0", expects_continue=False,
    ), body, tuple(trailers))


pipelines = st.lists(requests(), min_size=1, max_size=4)
valid = pipelines.map(lambda pipeline: b"".join(sent for sent, _ in pipeline))

FRAGMENTS = [
    b"\r", b"\n", b"\r\n", b"\n\n", b"\r\n\r\n", b"\r\n ", b" ", b"\t", b":", b";", b",", b"#", b'"', b"=", b"0", b"5",
    b"\0", b"\x0b", b"\x0c", b"\x10", b"\x16", b"\x1b", b"\x7f", b"\x80", b"\xff",
    b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\n", b"POST / HTTP/1.0\r\n", b"get * HTTP/1.3\r\n", b"GET / HTTP/2.0\r\n",
    b"CONNECT a:1 HTTP/1.1\r\n", b"GET http://b/ HTTP/1.1\r\n", b"GET / HTTP/1.1\n", b"OPTIONS * HTTP/1.1\r\n",
    b"Host: a\r\n", b"Host: a b\r\n", b"Host: a\n", b"Content-Length: 3\r\n", b"Content-Length: 3, 3\r\n",
    b"content-length:0\r\n", b"Content-Length: 99999999999999999999\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding:\r\n chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Connection: close\r\n",
    b"Connection: keep-alive\r\n", b"Expect: 100-continue\r\n", b"Expect: x\r\n", b"Upgrade: h2c\r\n", b"X : y\r\n",
    b"X: 1\r\n\t2\r\n", b"X: \x01\r\n", b"3\r\nabc\r\n", b"3 \r\nabc\r\n", b"3;a=b\r\nabc\r\n", b"0\r\n\r\n",
    b"0\r\nX: 1\r\n\r\n", b"0\r\nHost: b\r\n\r\n", b"abc",
]
fragments = st.sampled_from(FRAGMENTS)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Good requests with a few things inserted, taken out, or there twice."""
    data = draw(valid)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 12)))
        inserted = draw(st.one_of(fragments, st.just(b""), st.just(data[start:end] * 2)))
        data = data[:start] + inserted + data[end:]
    return data


garbage = st.lists(st.one_of(fragments, st.binary(max_size=20)), max_size=14).map(b"".join)
anything = st.one_of(valid, mutated(), garbage)
cuts = st.lists(st.integers(min_value=0, max_value=2000), max_size=12)
subsets = st.one_of(st.just(frozenset[Violation]()), st.just(frozenset(Violation)),
                    st.frozensets(st.sampled_from(Violation)))
small_limits = st.builds(
    Limits, request_line=st.integers(1, 60), head=st.integers(1, 300), header_count=st.integers(1, 5),
    body=st.integers(0, 150), chunk_extensions=st.integers(0, 12), trailers=st.integers(0, 30))
some_limits = st.one_of(st.just(Limits()), small_limits)


@given(pipelines, cuts)
def test_requests_are_read_as_they_are_meant_wherever_their_bytes_are_cut(
        pipeline: list[tuple[bytes, Exchange]], at: Sequence[int]) -> None:
    data, meant = b"".join(sent for sent, _ in pipeline), [exchange for _, exchange in pipeline]
    for pieces in [data], cut(data, at), bytewise(data):
        assert outcome(pieces) == Outcome(meant, {}, b"")


@given(anything, cuts, subsets, some_limits)
@example(b"\x01" + b"x" * 70, [], frozenset(), Limits(request_line=60))  # no method, and too long
@example(b"\r\n" * 30 + b"\x01", [], frozenset(), Limits(head=50))  # too many empty lines, and no method
@example(b"\r\n" * 10 + b"GET / HTTP/3.0\r\n", [], frozenset(), Limits(head=25))  # too long before the line ends
@example(b"GET / HTTP/3.0\r\n\r\n", [], frozenset(), Limits(request_line=40, head=10))
@example(b"\n" * 30, [], frozenset(Violation), Limits(head=20))
@example(b"\r\n" * 10 + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", [20], frozenset(), Limits(head=40))  # too long together
@example(b"\r\n\r\nGET / HTTP/1.1\r\n" + b"a:\r\n" * 9 + b"\r\n", [2], frozenset(), Limits(header_count=3))
@settings(max_examples=300)
def test_no_outcome_depends_on_where_the_bytes_are_cut(
        data: bytes, at: list[int], allow: frozenset[Violation], limits: Limits) -> None:
    """The requests, the refusal and its status, what was counted, and what is still waited for."""
    whole = outcome([data] if data else [], limits, allow)
    assert outcome(cut(data, at), limits, allow) == whole
    assert outcome(bytewise(data), limits, allow) == whole
    assert all(exchange.refused is None or 400 <= exchange.refused <= 599 for exchange in whole.exchanges)


@given(anything, anything, subsets, some_limits)
@settings(max_examples=100)
def test_what_comes_later_does_not_change_what_was_decided(
        data: bytes, more: bytes, allow: frozenset[Violation], limits: Limits) -> None:
    """So a refusal never waits for more than it needs, and never for what more bytes could mend."""
    before = outcome([data] if data else [], limits, allow)
    after = outcome([data + more] if data + more else [], limits, allow)
    settled = [exchange for exchange in before.exchanges if exchange.whole or exchange.refused]
    assert after.exchanges[:len(settled)] == settled
    assert not before.rest or (data + more).endswith(before.rest + more)


# h11 by itself, as a second opinion.

def by_h11(data: bytes) -> tuple[Exchange, bytes]:
    """The first request in `data` as plain h11 reads it, and what is behind it; h11.RemoteProtocolError if it does not.

    What a head means for the connection is not its business: that half of the Exchange is left as it is there.
    """
    while data.startswith((b"\r\n", b"\n")):  # which h11 does not ignore
        data = data[1:]
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    parser.receive_data(data)
    request = parser.next_event()
    assert isinstance(request, h11.Request), request
    body, event = b"", parser.next_event()
    while isinstance(event, h11.Data):
        body += event.data
        event = parser.next_event()
    assert isinstance(event, h11.EndOfMessage), event
    version = "1.0" if request.http_version == b"1.0" else "1.1"
    head = RequestHead(request.method.decode(), request.target.decode(), version, list(request.headers),
                       host="", has_body=False, keep_alive=False, expects_continue=False)
    return Exchange(head, bytes(body), tuple(event.headers)), parser.trailing_data[0]


def assert_h11_agrees(data: bytes, allow: Collection[Violation] = ()) -> int:
    """Everything that is accepted in `data` is accepted by h11 too, as the same; how many requests that were."""
    result = outcome([data], allow=allow)
    rest, count = data, 0
    for ours in result.exchanges:
        if not ours.whole:
            break
        assert ours.head is not None
        try:
            theirs, rest = by_h11(rest)
        except h11.RemoteProtocolError as error:
            # RFC 9112 section 7.1.1 has white space before the semicolon, which RFC 9110 section 5.6.3 demands to be
            # read. h11 does not.
            if not re.match(r"illegal chunk header: bytearray\(b['\"][0-9A-Fa-f]+( |\\t)+;", str(error)):
                raise
            return count
        assert theirs.head is not None
        theirs_as_ours = [(name, value) for name, value in theirs.head.headers
                          if name != b"content-length" or ours.head.length is not None]  # removed beside chunks
        assert ((ours.head.method, ours.head.target, ours.head.version, ours.head.headers, ours.body)
                == (theirs.head.method, theirs.head.target, theirs.head.version, theirs_as_ours, theirs.body))
        assert ours.trailers == tuple(pair for pair in theirs.trailers if pair[0] not in chunks._FORBIDDEN)
        count += 1
    if count == len(result.exchanges) and result.rest:
        assert rest.endswith(result.rest), "what is behind the last request is where h11 leaves it"
        assert not rest.removesuffix(result.rest).strip(b"\r\n")
    return count


@given(anything)
@settings(max_examples=200)
def test_what_is_accepted_is_accepted_by_h11_and_read_the_same(data: bytes) -> None:
    assume(data)
    assert_h11_agrees(data)


@given(anything, subsets)
@settings(max_examples=200)
def test_what_is_allowed_is_read_as_h11_reads_it(data: bytes, allow: frozenset[Violation]) -> None:
    assume(data)
    assert_h11_agrees(data, allow)


MODEL = (b"POST /a?b HTTP/1.1\r\nHost: a\r\nX: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
         b"5;a=b\r\nhello\r\n0\r\nX: 2\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
INTERESTING = sorted({byte for fragment in FRAGMENTS for byte in fragment if len(fragment) == 1} | set(b"\r\n aA1/@{"))


@pytest.mark.parametrize("allow", [frozenset(), frozenset(Violation)], ids=["strict", "all allowed"])
@pytest.mark.parametrize("replaced", [0, 1], ids=["inserted", "replaced"])
def test_one_wrong_byte_anywhere_is_judged_the_same_byte_by_byte_and_by_h11(
        replaced: int, allow: frozenset[Violation]) -> None:
    accepted = 0
    for position, byte in itertools.product(range(len(MODEL)), INTERESTING):
        data = MODEL[:position] + bytes([byte]) + MODEL[position + replaced:]
        accepted += assert_h11_agrees(data, allow)
        if byte in b"\r\n :\0":
            assert outcome(bytewise(data), allow=allow) == outcome([data], allow=allow), data
    assert accepted > 100, "so it has been compared, too"


# One request behind the other.

@each_wire
def test_what_follows_a_request_is_reported_when_it_is_over(make: type[Wire]) -> None:
    reading = make(Limits(), Compliance())
    reading.receive(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2")
    assert reading.next_head() is not None
    assert reading.has_rest
    assert reading.next_request() is True, "the start of a second request has come"
    assert reading.next_head() is None, "but not all of it"
    reading.receive(b" HTTP/1.1\r\nHost: a\r\n\r\n")
    head = reading.next_head()
    assert head is not None
    assert head.target == "/2"
    assert not reading.has_rest
    assert reading.next_request() is False, "nothing has come"


@each_wire
def test_a_good_head_that_comes_whole_is_looked_at_once(make: type[Wire], monkeypatch: pytest.MonkeyPatch) -> None:
    """What almost every request is must not take the long way."""
    head = (b"GET /a?b=c HTTP/1.1\r\nHost: example.org:8080\r\nUser-Agent: M/5.0 (X11; rv:1)\r\nAccept: */*;q=0.8\r\n"
            b"Cookie: a=\xe9\tb\r\nContent-Length: 2\r\nEmpty:\r\n\r\n")
    monkeypatch.setattr(Wire, "_look_closely", lambda self: pytest.fail("looked at twice"))
    reading = make(Limits(), Compliance())
    reading.receive((head + b"ok") * 2)
    for more in True, False:
        assert reading.next_head() is not None
        assert reading.next_body() == b"ok"
        assert reading.next_request() is more


@each_wire
def test_a_body_is_given_as_it_comes(make: type[Wire]) -> None:
    reading = make(Limits(), Compliance())
    reading.receive(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\na")
    assert reading.next_head() is not None
    assert reading.next_body() == b"a"
    assert reading.next_body() is None
    reading.receive(b"bcd")
    assert reading.next_body() == b"bcd"
    assert reading.next_body() == b""
    assert reading.next_body() == b"", "and that is its end, however often it is asked for"


@each_wire
def test_trailers_are_there_at_the_end_of_the_body_and_gone_with_the_next_request(make: type[Wire]) -> None:
    reading = make(Limits(), Compliance())
    reading.receive(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: 1\r\n\r\n")
    assert reading.next_head() is not None
    assert reading.next_body() == b"a"
    assert reading.trailers == []
    assert reading.next_body() == b""
    assert reading.trailers == [(b"x", b"1")]
    reading.next_request()
    assert reading.trailers == []


@each_wire
@pytest.mark.parametrize("behind", [b"", b"\x81\x05hello", b"\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"])
def test_whoever_takes_the_connection_over_gets_what_nobody_has_read_and_once(make: type[Wire], behind: bytes) -> None:
    reading = make(Limits(), Compliance())
    reading.receive(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n" + behind)
    assert reading.next_head() is not None
    assert reading.has_rest is bool(behind)
    assert reading.take_rest() == behind
    assert reading.take_rest() == b""
    assert not reading.has_rest


# What is refused, with everything allowed: there is no sensible reading of it.

REFUSED = {
    # Request smuggling: RFC 9112 sections 6.1 and 6.3.
    "two lengths": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
    "lengths that differ": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 6\r\n\r\n", 400),
    "length +5": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n", 400),
    "length -5": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n", 400),
    "length 0x5": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\n", 400),
    "length 5_0": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5_0\r\n\r\n", 400),
    "length 5 0": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 0\r\n\r\n", 400),
    "length 5,": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5,\r\n\r\n", 400),
    "empty length": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", 400),
    "a length of 20 digits": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", 413),
    "a length of 5000 digits": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 413),
    "space before a colon": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\n", 400),
    "unknown coding before chunked": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
    "and on two lines": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n",
                         501),
    "chunked not last": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", 400),
    "chunked not there": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
    "chunked twice": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", 400),
    "and twice on two lines": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\ntransfer-encoding:Chunked\r\n\r\n", 400),
    "an empty coding": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n", 400),
    "vertical tab before chunked": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n", 400),
    # Versions.
    "version 2.0": (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    "version 0.9": (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505),
    "version 11": (b"GET / HTTP/11\r\nHost: a\r\n\r\n", 400),
    "HTTP/2 with prior knowledge": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "no version": (b"GET /\r\n\r\n", 400),
    # Not HTTP.
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS client\r\n\r\n", 400),
    "one word": (b"hello\r\n\r\n", 400),
    "no method": (b" / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "two spaces": (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "space in the target": (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "é in the target": ("GET /é HTTP/1.1\r\nHost: a\r\n\r\n".encode(), 400),
    "a bad method": (b"GE(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "CONNECT": (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 501),
    "CONNECT in 1.0": (b"CONNECT a:443 HTTP/1.0\r\n\r\n", 501),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "no host in 1.2": (b"GET / HTTP/1.2\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "two hosts in 1.0": (b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    "a header without colon": (b"GET / HTTP/1.1\r\nHost: a\r\nbroken\r\n\r\n", 400),
    "a header without name": (b"GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n", 400),
    "a fold before the first header": (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    "NUL in a value": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400),
    "CR in a value": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400),
    "CR before the line end": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\r\n\r\n", 400),
    "form feed in a value": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x0cb\r\n\r\n", 400),
    "control byte in a name": (b"GET / HTTP/1.1\r\nHost: a\r\nX\x01: a\r\n\r\n", 400),
}


@pytest.mark.parametrize("allow", [frozenset(), frozenset(Violation)], ids=["strict", "all allowed"])
@pytest.mark.parametrize(("data", "status"), REFUSED.values(), ids=REFUSED.keys())
def test_a_head_that_is_none_is_refused_with_its_status_whatever_is_allowed(
        data: bytes, status: int, allow: frozenset[Violation]) -> None:
    refused = Exchange(None, refused=status, whole=False)
    good = b"POST /good HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok"
    assert read([data], allow=allow) == read(bytewise(data), allow=allow) == [refused]
    first, second = read([good + data], allow=allow)
    assert (first.body, first.refused, second) == (b"ok", None, refused)


@pytest.mark.parametrize("space", [b" ", b"\t"])
def test_white_space_before_the_first_field_is_no_fold_that_could_be_allowed(space: bytes) -> None:
    result = outcome([b"GET / HTTP/1.1\r\n" + space + b"Host: a\r\n\r\n"])
    assert result.exchanges == [Exchange(None, refused=400, whole=False)]
    assert result.seen == {}


@pytest.mark.parametrize("start", [b"\x16", b"\x80", b"\0", b" ", b"\x05\x01"])
def test_what_cannot_begin_a_request_is_refused_at_its_first_byte(start: bytes) -> None:
    assert read_one(start).refused == 400


def test_a_refusal_says_what_the_client_seems_to_want() -> None:
    reading = H11Wire(Limits(), Compliance())
    reading.receive(b"\x16\x03\x01")
    with pytest.raises(ProtocolError, match="TLS handshake"):
        reading.next_head()


# Limits: as much as they say, and not a byte more, at once or byte by byte.

def request_line_of(size: int) -> bytes:
    return b"GET /" + b"x" * (size - len(b"GET / HTTP/1.1\r\n")) + b" HTTP/1.1\r\n"


def head_of_size(size: int, count: int = 2) -> bytes:
    """A head of `size` bytes with `count` fields."""
    head = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a:\r\n" * (count - 2) + b"X: "
    return head + b"x" * (size - len(head) - 4) + b"\r\n\r\n"


AT_LIMITS: dict[str, tuple[Limits, Callable[[int], bytes], int]] = {
    "request line": (Limits(request_line=50), lambda more: request_line_of(50 + more) + b"Host: a\r\n\r\n", 414),
    "request line, at first": (Limits(), lambda more: request_line_of(8192 + more) + b"Host: a\r\n\r\n", 414),
    "head": (Limits(head=300), lambda more: head_of_size(300 + more), 431),
    "head, at first": (Limits(), lambda more: head_of_size(32768 + more), 431),
    "head with empty lines before it": (
        Limits(head=300), lambda more: b"\r\n" * 50 + head_of_size(200 + more), 431),
    "head that is mostly request line": (
        Limits(head=300), lambda more: request_line_of(289 + more) + b"Host: a\r\n\r\n", 431),
    "head smaller than a request line may be": (
        Limits(head=80, request_line=100), lambda more: request_line_of(69 + more) + b"Host: a\r\n\r\n", 431),
    "fields": (Limits(header_count=7), lambda more: head_of_size(200, 7 + more), 431),
    "fields, at first": (Limits(), lambda more: head_of_size(1000, 100 + more), 431),
    "body": (Limits(body=5), lambda more: b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (5 + more)
             + b"x" * (5 + more), 413),
    "no body": (Limits(body=0), lambda more: b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % more
                + b"x" * more, 413),
}
"""Limits, a request that is so much more than they allow, and how that is answered."""


@pytest.mark.parametrize("before", [b"", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"], ids=["first", "second"])
@pytest.mark.parametrize(("limits", "make", "status"), AT_LIMITS.values(), ids=AT_LIMITS.keys())
def test_a_limit_is_exact_however_the_bytes_come(
        limits: Limits, make: Callable[[int], bytes], status: int, before: bytes) -> None:
    for more, refused in (0, None), (1, status):
        data = before + make(more)
        for pieces in [data], cut(data, range(0, len(data), 7)), cut(data, range(len(data) - 500, len(data))):
            exchange = read(pieces, limits)[-1]
            assert (exchange.whole, exchange.refused) == (refused is None, refused)


@pytest.mark.parametrize(("start", "status"), [
    (b"GET /", 414), (b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: ", 431),
    (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 2000 + b"X: ", 431), (b"x", 414),
    (b"GET / HTTP/1.1\r\nHost: a\r\n", 431), (b"\r\n" * 20_000, 431),
], ids=["target", "one header", "many headers", "method", "header name", "empty lines"])
def test_an_endless_head_is_refused_as_soon_as_it_is_too_long(start: bytes, status: int) -> None:
    reading, size = H11Wire(Limits(), Compliance()), len(start)
    reading.receive(start)
    with pytest.raises(ProtocolError) as caught:  # noqa: PT012  # whichever of them it is
        while reading.next_head() is None:
            reading.receive(b"x" * 100)
            size += 100
            assert size <= 33_000, "it goes on for ever"
    assert caught.value.status == status


def test_a_body_of_any_length_may_be_announced_if_there_is_no_limit() -> None:
    limits = Limits(body=None)
    exchange = read_one(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\nx", limits)
    assert exchange.head is not None
    assert (exchange.head.length, exchange.body, exchange.whole) == (99999999999999999999, b"x", False)


def test_empty_lines_are_counted_for_each_request_by_itself() -> None:
    limits = Limits(head=100)
    data = (b"\r\n" * 30 + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") * 5
    assert len(read([data], limits)) == len(read(bytewise(data), limits)) == 5


# No input makes a regular expression try again and again.

PATTERNS: dict[str, tuple[re.Pattern[bytes], Callable[[re.Pattern[bytes], bytes], object]]] = {
    f"{module.__name__}.{name}": (pattern, method) for module, method, names in (
        (wire, re.Pattern.match, ["_HEAD"]),
        (wire, re.Pattern.fullmatch, ["_REQUEST_LINE", "_FIELDS"]),
        (wire, re.Pattern.search, ["_END", "_BARE_LF", "_FOLD", "_FATAL", "_CONTROL"]),
        (wire, re.Pattern.findall, ["_CODINGS", "_HUGE_LENGTH"]),
        (heads, re.Pattern.fullmatch, ["_HOST", "_ABSOLUTE", "_METHOD"]),
        (heads, re.Pattern.findall, ["_LENGTHS"]),
        (chunks, re.Pattern.fullmatch, ["_SIZE_LINE", "_TRAILER_LINE"]),
        (fields, re.Pattern.fullmatch, ["_NAME", "_REASON"]),
        (fields, re.Pattern.search, ["_BAD_VALUE"]),
    ) for name in names for pattern in [getattr(module, name)]
}
STARTS = [b"", b"G", b"GET /", b"GET / HTTP/1.1\r\n", b"X: ", b"http://", b"[", b"5", b"5;a=", b'5;a="',
          b"a\ncontent-length:", b"a\ntransfer-encoding: "]
PUMPS = [b" ", b"\t", b"x", b"5", b"%41", b"x ", b" x", b"a:\r\n", b"a: b\r\n ", b";a", b";a=b", b' ; a = "b"', b'"',
         b'\\"', b"\r\n", b"\n", b"\r", b":", b"[", b"/", b"a.", b"\ncontent-length:", b"\ncontent-length: 5\r\n ",
         b",", b"\x01", b"\x80"]
ENDS = [b"", b"\0", b"\r\n\r\n", b"\x01\r\n\r\n", b"#"]


def test_every_pattern_is_in_the_table() -> None:
    there = {f"{module.__name__}.{name}" for module in (wire, heads, chunks, fields)
             for name, value in vars(module).items() if isinstance(value, re.Pattern)}
    assert there == set(PATTERNS)


def seconds_for(action: Callable[[], object]) -> float:
    begin = time.thread_time()  # not the time in which others have the processor
    action()
    return time.thread_time() - begin


def assert_linear(make: Callable[[int], Callable[[], object]], what: object) -> None:
    """`make(n)` does something with n bytes. Four times as many must not take much more than four times as long.

    What takes less than 1 ms for 7,500 bytes does not try again and again: half of their square is 28 million steps.
    """
    for _ in range(4):  # an interruption by another process does not come four times
        short = seconds_for(make(7_500))
        if short < 0.001 or seconds_for(make(30_000)) < 10 * short:
            return
    raise AssertionError(f"superlinear: {what}")


@pytest.mark.parametrize(("pattern", "method"), PATTERNS.values(), ids=PATTERNS.keys())
def test_no_pattern_takes_more_than_linear_time(
        pattern: re.Pattern[bytes], method: Callable[[re.Pattern[bytes], bytes], object]) -> None:
    for start, pump, end in itertools.product(STARTS, PUMPS, ENDS):
        assert_linear(lambda size: lambda: method(pattern, start + pump * (size // len(pump)) + end),  # noqa: B023
                      (start, pump, end))


@pytest.mark.parametrize("allow", [frozenset(), frozenset(Violation)], ids=["strict", "all allowed"])
def test_no_request_takes_more_than_linear_time(allow: frozenset[Violation]) -> None:
    """h11's own patterns among them."""
    much = 1 << 20
    limits = Limits(request_line=much, head=much, header_count=much, chunk_extensions=much, trailers=much)
    head = b"POST / HTTP/1.1\r\nHost: a\r\n"
    body = head + b"Transfer-Encoding: chunked\r\n\r\n"
    for start, pump, end in itertools.product(
            [b"", b"GET /", head, head + b"X: ", body, body + b"5;a=", body + b"0\r\nX:"], PUMPS,
            [b"\r\n\r\n", b"\x01\r\n\r\n", b"\0\r\n\r\n", b" HTTP/1.1\r\nHost: a\r\n\r\n"]):
        assert_linear(lambda size: lambda: read([start + pump * (size // len(pump)) + end], limits, allow),  # noqa: B023
                      (start, pump, end))
