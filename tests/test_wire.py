"""The wire: the same requests whatever the cuts, and a refusal, with its status, for what is not HTTP."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from acceptor.wire import H11Wire, ProtocolError, RequestHead

MAX_HEAD = 16 * 1024
"""Bytes of a head that are accepted."""

# Reading a wire as a connection does.


@dataclass(frozen=True)
class Exchange:
    """One request as read: its head, its body, and, if it was refused halfway, the status of that."""

    head: RequestHead | None
    body: bytes = b""
    refused: int | None = None


def read(pieces: Iterable[bytes]) -> list[Exchange]:
    """Every request in `pieces`, received one after the other as they are needed."""
    wire, source = H11Wire(), iter(pieces)
    exchanges: list[Exchange] = []

    def receive() -> bool:
        for piece in source:
            wire.receive(piece)
            return True
        return False

    some = receive()
    while True:
        head, body = None, b""
        try:
            while not some or (head := wire.next_head()) is None:
                if not receive():
                    return exchanges
                some = True
            while head.has_body:
                while (data := wire.next_body()) is None:
                    if not receive():
                        return [*exchanges, Exchange(head, body)]
                if not data:
                    break
                body += data
        except ProtocolError as error:
            return [*exchanges, Exchange(head, body, error.status)]
        exchanges.append(Exchange(head, body))
        some = wire.next_request()


def read_one(data: bytes) -> Exchange:
    exchanges = read([data])
    assert len(exchanges) == 1, exchanges
    return exchanges[0]


def head_of(*lines: str) -> RequestHead:
    exchange = read_one("\r\n".join([*lines, "", ""]).encode("latin-1"))
    assert exchange.head is not None, exchange
    return exchange.head


def cut(data: bytes, at: Iterable[int]) -> list[bytes]:
    """`data` in pieces, none of them empty, cut at the positions in `at` that lie inside it."""
    edges = sorted({0, len(data), *(position % len(data) for position in at)})
    return [data[start:end] for start, end in itertools.pairwise(edges)]


# Requests that Hypothesis makes, with what they must be read as.

tokens = st.text("abcXYZ-019_", min_size=1, max_size=8)
values = st.text(st.characters(min_codepoint=0x21, max_codepoint=0xff, exclude_categories=["Cc"]), max_size=12)


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, Exchange]:
    version = draw(st.sampled_from(["1.1", "1.0"]))
    method = draw(st.sampled_from(["GET", "POST", "HEAD", "OPTIONS", "x-own"]))
    target = "/" + draw(st.text("abc/%2F?=&~", max_size=12))
    length = None
    headers = [("Host", "test")]
    headers += draw(st.lists(st.tuples(tokens.map(lambda name: f"X-{name}"), values), max_size=4))
    body, framed = b"", b""
    framing = draw(st.sampled_from(["none", "length", "chunked"]))
    if framing == "length":
        body = framed = draw(st.binary(max_size=300))
        length = len(body)
        headers.append(("Content-Length", str(length)))
    elif framing == "chunked" and version == "1.1":
        chunks = draw(st.lists(st.binary(min_size=1, max_size=80), max_size=4))
        extension = draw(st.sampled_from([b"", b";a=b", b";x"]))
        trailer = draw(st.sampled_from([b"", b"X-Sum: 1\r\n"]))
        body = b"".join(chunks)
        framed = b"".join(b"%x%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks)
        framed += b"0\r\n" + trailer + b"\r\n"
        headers.append(("Transfer-Encoding", "chunked"))
    headers = draw(st.permutations(headers))
    lines = [f"{method} {target} HTTP/{version}", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1") + framed, Exchange(RequestHead(
        method, target, version, [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
        has_body=bool(framed), length=length, keep_alive=version == "1.1", expects_continue=False,
    ), body)


pipelines = st.lists(requests(), min_size=1, max_size=4)
cuts = st.lists(st.integers(min_value=0, max_value=2000), max_size=12)


@given(pipelines, cuts)
def test_requests_are_read_the_same_wherever_their_bytes_are_cut(
        pipeline: list[tuple[bytes, Exchange]], at: Sequence[int]) -> None:
    data = b"".join(sent for sent, _ in pipeline)
    assert read(cut(data, at)) == [meant for _, meant in pipeline]


@given(pipelines)
@settings(max_examples=30)
def test_requests_are_read_the_same_byte_by_byte_and_whole(pipeline: list[tuple[bytes, Exchange]]) -> None:
    data = b"".join(sent for sent, _ in pipeline)
    assert read(cut(data, range(len(data)))) == read([data]) == [meant for _, meant in pipeline]


def test_what_follows_a_request_is_reported_when_it_is_over() -> None:
    wire = H11Wire()
    wire.receive(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2")
    assert wire.next_head() is not None
    assert wire.next_request() is True, "the start of a second request has come"
    assert wire.next_head() is None, "but not all of it"
    wire.receive(b" HTTP/1.1\r\nHost: a\r\n\r\n")
    head = wire.next_head()
    assert head is not None
    assert head.target == "/2"
    assert wire.next_request() is False, "nothing has come"


def test_a_body_is_given_as_it_comes() -> None:
    wire = H11Wire()
    wire.receive(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\na")
    assert wire.next_head() is not None
    assert wire.next_body() == b"a"
    assert wire.next_body() is None
    wire.receive(b"bcd")
    assert wire.next_body() == b"bcd"
    assert wire.next_body() == b""


# What is refused.

REFUSED = {
    # Request smuggling: RFC 9112 sections 6.1 and 6.3.
    "length and chunked": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
                           400),
    "chunked and length": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
                           400),
    "chunked in 1.0": (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    "two lengths": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
    "lengths that differ": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 6\r\n\r\n", 400),
    "length +5": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n", 400),
    "length -5": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n", 400),
    "length 0x5": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\n", 400),
    "empty length": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", 400),
    "space before a colon": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\n", 400),
    "unknown coding": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    "stacked coding": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
    "chunked twice": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", 501),
    # Versions.
    "version 2.0": (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    "version 1.2": (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
    "version 0.9": (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505),
    "version 11": (b"GET / HTTP/11\r\nHost: a\r\n\r\n", 400),
    "HTTP/2 with prior knowledge": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "no version": (b"GET /\r\n\r\n", 400),
    # Not HTTP.
    "garbage": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS client\r\n\r\n", 400),
    "one word": (b"hello\r\n\r\n", 400),
    "no method": (b" / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "two spaces": (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "space in the target": (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a bad method": (b"GE(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "a header without colon": (b"GET / HTTP/1.1\r\nHost: a\r\nbroken\r\n\r\n", 400),
    "a header without name": (b"GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n", 400),
    "NUL in a value": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400),
    "CR in a value": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400),
}


@pytest.mark.parametrize(("data", "status"), REFUSED.values(), ids=REFUSED.keys())
def test_a_head_that_is_none_is_refused_with_its_status(data: bytes, status: int) -> None:
    assert read_one(data) == Exchange(None, refused=status)


@pytest.mark.parametrize(("data", "status"), REFUSED.values(), ids=REFUSED.keys())
def test_a_head_that_is_none_is_refused_with_the_same_status_byte_by_byte(data: bytes, status: int) -> None:
    assert read(cut(data, range(len(data)))) == [Exchange(None, refused=status)]


@pytest.mark.parametrize(("data", "status"), REFUSED.values(), ids=REFUSED.keys())
def test_a_head_that_is_none_is_refused_behind_a_good_request_too(data: bytes, status: int) -> None:
    good = b"POST /good HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok"
    first, second = read([good + data])
    assert (first.body, first.refused) == (b"ok", None)
    assert second == Exchange(None, refused=status)


@pytest.mark.parametrize("chunk", [b"x\r\n", b"-1\r\n", b"0x5\r\nhello\r\n", b"+5\r\nhello\r\n", b"5\r\nhelloX\r\n",
                                   b"5\r\nhello\r\nx\r\n", b"\r\n", b"g\r\n", b"0\r\nbroken trailer\r\n\r\n",
                                   b"1" * 30 + b"\r\n"])
def test_a_body_that_is_none_is_refused_after_the_head_was_read(chunk: bytes) -> None:
    data = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk
    for pieces in [data], cut(data, range(len(data))):
        exchange, = read(pieces)
        assert exchange.head is not None
        assert exchange.refused == 400, exchange


def test_a_refused_body_is_refused_again_whenever_it_is_asked_for() -> None:
    """A handler may catch the first refusal; what is left must not read as anything else."""
    wire = H11Wire()
    wire.receive(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n")
    assert wire.next_head() is not None
    for _ in range(3):
        with pytest.raises(ProtocolError):
            wire.next_body()


@pytest.mark.parametrize("start", [
    b"GET /", b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: ", b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 2000 + b"X: ",
], ids=["target", "one header", "many headers"])
def test_an_endless_head_is_refused_while_it_is_still_coming(start: bytes) -> None:
    wire, size = H11Wire(), 0
    wire.receive(start)
    with pytest.raises(ProtocolError) as caught:  # noqa: PT012  # whichever of them it is
        while wire.next_head() is None:
            wire.receive(b"x" * 1000)
            size += 1000
            assert size <= 4 * MAX_HEAD, "it goes on for ever"
    assert caught.value.status == 431


@pytest.mark.parametrize("missing", [0, 1, 100], ids=lambda missing: f"{missing} bytes still missing")
def test_a_head_that_is_too_long_is_refused_however_much_of_it_comes_at_once(missing: int) -> None:
    data = b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: " + b"v" * (MAX_HEAD + 100) + b"\r\n\r\n"
    good = b"POST /good HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok"
    too_long = Exchange(None, refused=431)
    sent = data[:len(data) - missing]
    assert read([sent]) == read(cut(sent, range(0, len(sent), 100))) == [too_long]
    assert read([good + sent])[1:] == [too_long]


def test_a_head_of_almost_the_limit_is_accepted_however_it_comes() -> None:
    value = b"v" * (MAX_HEAD - 100)
    data = b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: " + value + b"\r\n\r\n"
    for pieces in [data], cut(data, range(0, len(data), 100)):
        exchange, = read(pieces)
        assert exchange.head is not None
        assert exchange.head.headers[1] == (b"x-long", value)


@given(st.lists(st.one_of(st.binary(max_size=20), st.sampled_from(
    [b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\n", b"POST / HTTP/1.0\r\n", b"Host: a\r\n", b"\r\n", b"\n", b"\r", b" ",
     b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"Expect: 100-continue\r\n",
     b"3\r\nabc\r\n", b"0\r\n\r\n", b"abc", b"CONNECT a:1 HTTP/1.1\r\n", b"Upgrade: h2c\r\n"])), max_size=12), cuts)
@example([b"CONNECT a:1 HTTP/1.1\r\n", b"Host: a\r\n", b"\r\n", b"GET / HTTP/1.1\r\n", b"Host: a\r\n", b"\r\n"], [])
@settings(max_examples=300)
def test_whatever_comes_is_read_or_refused_and_nothing_else_happens(parts: list[bytes], at: list[int]) -> None:
    data = b"".join(parts)
    if data:
        assert all(exchange.refused is None or 400 <= exchange.refused <= 599 for exchange in read(cut(data, at)))


# What a head means.

@pytest.mark.parametrize(("version", "lines", "keep_alive"), [
    ("1.1", [], True),
    ("1.1", ["Connection: keep-alive"], True),
    ("1.1", ["Connection: close"], False),
    ("1.1", ["Connection: Close"], False),
    ("1.1", ["Connection: CLOSE"], False),
    ("1.1", ["connection:close"], False),
    ("1.1", ["Connection: keep-alive, close"], False),
    ("1.1", ["Connection: close, keep-alive"], False),
    ("1.1", ["Connection: upgrade,  close "], False),
    ("1.1", ["Connection: upgrade"], True),
    ("1.1", ["Connection: closed"], True),
    ("1.1", ["Connection: not-close"], True),
    ("1.1", ["Connection: ,,"], True),
    ("1.1", ["Connection:"], True),
    ("1.1", ["Connection: upgrade", "Connection: close"], False),
    ("1.1", ["Connection: close", "Connection: upgrade"], False),
    ("1.1", ["X-Connection: close"], True),
    ("1.0", [], False),
    ("1.0", ["Connection: keep-alive"], True),
    ("1.0", ["Connection: Keep-Alive"], True),
    ("1.0", ["Connection: close"], False),
    ("1.0", ["Connection: keep-alive, close"], False),
    ("1.0", ["Connection: x, keep-alive"], True),
    ("1.0", ["Connection: x", "Connection: keep-alive"], True),
    ("1.0", ["Connection: keep-alive", "Connection: close"], False),
    ("1.0", ["Connection: keepalive"], False),
    ("1.0", ["Keep-Alive: timeout=5"], False),
])
def test_a_client_stays_if_its_version_and_connection_header_say_so(
        version: str, lines: list[str], keep_alive: bool) -> None:
    """RFC 9112 section 9.3."""
    assert head_of(f"GET / HTTP/{version}", "Host: a", *lines).keep_alive is keep_alive


@pytest.mark.parametrize(("version", "lines", "expects"), [
    ("1.1", ["Expect: 100-continue"], True),
    ("1.1", ["Expect: 100-Continue"], True),
    ("1.1", ["expect:100-CONTINUE"], True),
    ("1.1", [], False),
    ("1.1", ["Expect: something"], False),
    ("1.1", ["Expect:"], False),
    ("1.0", ["Expect: 100-continue"], False),
])
def test_only_a_client_of_1_1_can_expect_100_continue(version: str, lines: list[str], expects: bool) -> None:
    """RFC 9110 section 10.1.1."""
    assert head_of(f"POST / HTTP/{version}", "Host: a", "Content-Length: 1", *lines).expects_continue is expects


@pytest.mark.parametrize(("lines", "has_body", "length"), [
    ([], False, None),
    (["Content-Length: 0"], False, 0),
    (["Content-Length: 00"], False, 0),
    (["Content-Length: 5"], True, 5),
    (["Content-Length: 5, 5"], True, 5),
    (["Content-Length: 99999999999999999999"], True, 99999999999999999999),
    (["Transfer-Encoding: chunked"], True, None),
    (["Transfer-Encoding: Chunked"], True, None),
])
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "DELETE"])
def test_a_request_has_a_body_if_its_head_announces_one(
        method: str, lines: list[str], has_body: bool, length: int | None) -> None:
    """RFC 9112 section 6.3, whatever the method."""
    head = head_of(f"{method} / HTTP/1.1", "Host: a", *lines)
    assert (head.has_body, head.length) == (has_body, length)


@pytest.mark.parametrize("method", ["GET", "get", "PATCH", "x-own", "CONNECT", "*"])
@pytest.mark.parametrize("target", ["/", "*", "http://a/b", "a:443", "/a?b#c", "/%zz", "//x"])
def test_method_and_target_are_given_as_sent(method: str, target: str) -> None:
    head = head_of(f"{method} {target} HTTP/1.1", "Host: a")
    assert (head.method, head.target, head.version) == (method, target, "1.1")
