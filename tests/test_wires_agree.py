"""Both wires: whatever comes, they read the same; and what parses is what was asked for.

Wherever a test calls `test_wire.outcome`, every wire reads, and they must agree. Here is what could tell them apart:
heads that are like HTTP, made part by part out of what parsers are known to differ about, and every case of the corpus.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from acceptor import Acceptor, Request
from acceptor.heads import RequestHead
from acceptor.settings import Limits
from acceptor.violations import Compliance, Violation
from acceptor.wire import H11Wire, Wire, chosen_wire
from taskmaster import SingleThreadedTaskmaster
from tests import corpus
from tests.clients import RawClient
from tests.test_wire import anything, bytewise, cut, cuts, outcome, outcome_of, some_limits, subsets

httptools = pytest.importorskip("httptools")
from acceptor import httptools_wire  # noqa: E402  # where there is no httptools, this cannot be
from acceptor.httptools_wire import HttptoolsWire  # noqa: E402

GOOD = b"GET /a?b HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n"


def assert_agreed(data: bytes, at: Sequence[int], allow: frozenset[Violation] = frozenset(),
                  limits: Limits | None = None) -> None:
    for pieces in [data], cut(data, at), bytewise(data):
        assert (outcome_of(HttptoolsWire, pieces, limits, allow)
                == outcome_of(H11Wire, pieces, limits, allow)), "the wires do not agree"


# Heads that are almost HTTP, part by part.

METHODS = ["GET", "HEAD", "POST", "CONNECT", "PRI", "SOURCE", "M-SEARCH", "QUERY", "PLAY", "FLUSH", "FOO", "get", "*!|",
           "GETT", "", "X" * 30]
TARGETS = ["/", "/a?b=c", "*", "a:80", "http://a/", "http://b:1/x", "HTTP://a", "https://[::1]/", "x", "?", "//", "/#x",
           '/"<>{}|\\^`', "http:///", "/" + "x" * 60, "/\xe9", ""]
VERSIONS = ["HTTP/1.1", "HTTP/1.0", "HTTP/1.2", "HTTP/1.9", "HTTP/0.9", "HTTP/2.0", "HTTP/1.10", "http/1.1", "ICE/1.1",
            "RTSP/1.0", ""]
LENGTHS = ["5", "5", "0", "00005", "5, 5", "5,6", "+5", "-5", "5 5", "0x5", "18446744073709551615",
           "18446744073709551616", "99999999999999999999", "0" * 20 + "5", "\xb2", "", "\r\n 5", "5\r\n "]
CODINGS = ["chunked", "chunked", "Chunked", "chunked, chunked", "gzip, chunked", "gzip", "chunked, gzip", "xchunked",
           "chunkedx", "chunked;q=1", "identity", ",chunked", "", "chu\r\n nked"]
OPTIONS = ["close", "keep-alive", "upgrade", "close, keep-alive", "Close", "x", ""]
OTHERS = ["a", "a", "", " ", "\t", "a\tb", "a  b", "\x80\xff", "a\x01b", "a\x7fb", "a\x00b", "a\rb", "x\r\n y",
          "x" * 60, "h2c", "websocket"]
FIELDS = {
    "Content-Length": LENGTHS, "content-length": LENGTHS, "Transfer-Encoding": CODINGS, "TRANSFER-ENCODING": CODINGS,
    "Connection": OPTIONS, "connection": OPTIONS, "Proxy-Connection": OPTIONS, "Keep-Alive": OTHERS, "Upgrade": OTHERS,
    "Host": ["a", "a:80", "[::1]", "a b", ""], "Expect": ["100-continue", "100-Continue, x"], "X": OTHERS, "x": OTHERS,
    "x!#$%&'*+-.^_`|~": OTHERS, "Content_Length": LENGTHS, "Cookie": OTHERS, "Content-Length\t": LENGTHS, "X ": OTHERS,
    "X\xe9": OTHERS, "": OTHERS,
}
SPACES = ["", " ", "\t", " \t ", "  "]


@st.composite
def near_heads(draw: st.DrawFn) -> bytes:
    """Most of them are good but for one thing or two."""
    strange = draw(st.sampled_from(["line", "fields", "fields", "fields", "ends", "all"]))
    line = ("GET", "/", "HTTP/1.1") if strange in ("fields", "ends") else (
        draw(st.sampled_from(METHODS)), draw(st.sampled_from(TARGETS)), draw(st.sampled_from(VERSIONS)))
    lines = [draw(st.sampled_from([" ", " ", " ", " ", "  ", "\t"]) if strange == "all" else st.just(" ")).join(line)]
    if draw(st.integers(0, 9)):
        lines.append("Host: a")
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from(list(FIELDS)))
        before, after = draw(st.sampled_from(SPACES)), draw(st.sampled_from(SPACES))
        lines.append(f"{name}:{before}{draw(st.sampled_from(FIELDS[name]))}{after}")
    lines[1:] = draw(st.permutations(lines[1:]))
    ends = st.sampled_from(["\r\n"] * 6 + ["\n", "\r", "\r\r\n"]) if strange in ("ends", "all") else st.just("\r\n")
    return "".join(each + draw(ends) for each in [*lines, ""]).encode("latin-1")


BODIES = [b"", b"", b"hello", b"0\r\n\r\n", b"2\r\nhi\r\n0\r\nX: 1\r\n\r\n", b"\r\n"]
near_http = st.lists(st.tuples(near_heads(), st.sampled_from(BODIES)), min_size=1, max_size=3).map(
    lambda requests: b"".join(head + body for head, body in requests) + GOOD)


@given(near_http, cuts, subsets)
@settings(max_examples=700)
@example(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n" + GOOD, [], frozenset())
@example(b"GET / HTTP/1.0\r\n\r\n" + GOOD, [], frozenset())
def test_whatever_is_like_http_is_read_the_same(data: bytes, at: list[int], allow: frozenset[Violation]) -> None:
    assert_agreed(data, at, allow)


@given(near_heads())
@settings(max_examples=700)
def test_with_everything_allowed_too(head: bytes) -> None:
    assert_agreed(head + b"hello" + GOOD, [], frozenset(Violation))


@given(anything, cuts, subsets, some_limits)
@settings(max_examples=200)
def test_whatever_the_limits_it_is_read_the_same(
        data: bytes, at: list[int], allow: frozenset[Violation], limits: Limits) -> None:
    assert_agreed(data, at, allow, limits)


@pytest.mark.parametrize("subject", corpus.CORPUS)
def test_every_case_of_the_corpus_is_read_the_same(subject: str) -> None:
    for case in corpus.CORPUS[subject]:
        data = case.sent + case.then + corpus.SMUGGLED
        for allow in [frozenset[Violation](), frozenset(Violation),
                      *([frozenset({case.violation})] if case.violation else [])]:
            for pieces in [data], *([bytewise(data)] if len(data) < 400 else []):
                assert (outcome_of(HttptoolsWire, pieces, corpus.LIMITS, allow)
                        == outcome_of(H11Wire, pieces, corpus.LIMITS, allow)), case.name


def test_every_byte_in_a_head_is_read_the_same() -> None:
    """In each kind of place, inserted."""
    head = b"PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"
    places = [head.index(each) + len(each) for each in (
        b"P", b"PUT", b"PUT ", b"/", b"/a ", b"HTTP/1", b"1.", b"1.1", b"\r", b"\r\n", b"Ho", b"Host", b"Host:", b": a",
        b"a\r\nCont", b"Length: ", b"Length: 2", b"close", b"close\r\n")]
    for byte in range(256):
        for place in places:
            data = head[:place] + bytes([byte]) + head[place:] + GOOD
            outcome([data])  # which compares
            outcome([data], allow=frozenset(Violation))


# What parses.

@pytest.fixture
def without_h11(monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not be needed."""
    monkeypatch.setattr(H11Wire, "_parse", lambda self, raw, line: pytest.fail(f"h11 has read {raw!r}"))


USUAL = {
    "one field": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "no field": b"GET / HTTP/1.0\r\n\r\n",
    "closes": b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "stays": b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
    "upgrades": b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    "empty body": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "body": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    "chunked body": b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: 1\r\n\r\n",
    "waits": b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
    "repeated": b"GET / HTTP/1.1\r\nHost: a\r\nCookie: a\r\ncookie: b\r\nCookie: a\r\n\r\n",
    "absolute": b"GET http://a/b HTTP/1.1\r\nHost: a\r\n\r\n",
    "asterisk": b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.usefixtures("without_h11")
@pytest.mark.parametrize("first", USUAL)
def test_the_usual_ones_are_read_by_llhttp_one_after_the_other(first: str) -> None:
    for second in USUAL:
        data = USUAL[first] + USUAL[second] + GOOD
        for pieces in [data], bytewise(data):
            read = outcome_of(HttptoolsWire, pieces)
            assert [exchange.whole for exchange in read.exchanges] == [True] * 3, (first, second)


ODD = {
    "a method of one's own": b"FOO / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a later version": b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
    "a method of RTSP": b"PLAY / HTTP/1.1\r\nHost: a\r\n\r\n",
    "PRI": b"PRI / HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("odd", ODD)
def test_what_llhttp_does_not_know_is_served_all_the_same_and_what_follows_too(odd: str) -> None:
    data = (ODD[odd] + GOOD) * 2
    result = outcome([data])
    assert [exchange.whole for exchange in result.exchanges] == [True] * 4
    assert result.exchanges[1] == result.exchanges[3] == outcome([GOOD]).exchanges[0]


@pytest.mark.usefixtures("without_h11")
def test_a_refused_request_leaves_nothing_behind_for_the_next_connection_of_its_thread() -> None:
    """They share a parser."""
    for refused in (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n",
                    b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
                    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
                    b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"):
        assert outcome_of(HttptoolsWire, [refused]).exchanges[0].refused, refused
        (read,) = outcome_of(HttptoolsWire, [GOOD]).exchanges
        assert read.head is not None
        assert read.head.headers == [(b"host", b"a"), (b"x", b"1")]


def test_connections_that_take_turns_in_one_thread_read_each_their_own() -> None:
    wires = [HttptoolsWire(Limits(), Compliance()) for _ in range(3)]
    for number, wire in enumerate(wires):
        wire.receive(b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n" % number)
        assert wire.next_head() is None
    for number, wire in enumerate(wires):
        wire.receive(b"X: %d\r\n\r\nGET" % number)
        head = wire.next_head()
        assert head is not None
        assert (head.target, head.headers[2]) == (f"/{number}", (b"x", b"%d" % number))
    for wire in wires:
        wire.receive(b" / HT" + GOOD)
        assert (wire.next_body(), wire.next_body()) == (b"GET / HT", b"")
        assert wire.next_request()
        head = wire.next_head()
        assert head is not None
        assert head.target == "/a?b"


def test_each_thread_has_a_parser_of_its_own() -> None:
    parsers = [httptools_wire._of_thread.parser]
    thread = threading.Thread(target=lambda: parsers.append(httptools_wire._of_thread.parser))
    thread.start()
    thread.join()
    assert parsers[0] is not parsers[1]


def test_a_signal_while_llhttp_reads_is_not_lost_and_the_next_head_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: object, name: bytes, value: bytes) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(httptools_wire._of_thread, "parser", None)
    with monkeypatch.context() as patched:
        patched.setattr(httptools_wire._Fields, "on_header", interrupted)
        httptools_wire._of_thread.parser = httptools_wire._Parser()
        with pytest.raises(KeyboardInterrupt):
            outcome_of(HttptoolsWire, [GOOD])
    assert outcome_of(HttptoolsWire, [GOOD]) == outcome_of(H11Wire, [GOOD])


# Which one.

def test_httptools_is_chosen_where_it_is_installed() -> None:
    assert chosen_wire("httptools") is HttptoolsWire
    assert chosen_wire("auto") is (HttptoolsWire if getattr(sys, "_is_gil_enabled", lambda: True)() else H11Wire)
    assert chosen_wire("h11") is H11Wire


def test_without_httptools_it_is_h11_unless_httptools_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "acceptor.httptools_wire")
    monkeypatch.setitem(sys.modules, "httptools", None)
    assert chosen_wire("auto") is chosen_wire("h11") is H11Wire
    with pytest.raises(ValueError, match=r"http='httptools': .*pip install 'taskmasters\[fast\]'"):
        chosen_wire("httptools")
    with pytest.raises(ValueError, match=r"pip install"):
        Acceptor(lambda request: "", taskmaster=SingleThreadedTaskmaster(), http="httptools")


def test_without_the_gil_nothing_brings_it_back_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    assert chosen_wire("auto") is H11Wire
    assert chosen_wire("httptools") is HttptoolsWire


@pytest.mark.parametrize("http", ["", "H11", "llhttp", None, H11Wire])
def test_another_name_is_refused_with_those_there_are(http: object) -> None:
    with pytest.raises(ValueError, match="'auto', 'h11', 'httptools'"):
        Acceptor(lambda request: "", taskmaster=SingleThreadedTaskmaster(), http=http)  # type: ignore[arg-type]


@pytest.mark.parametrize(("http", "wire"), [("h11", H11Wire), ("httptools", HttptoolsWire)])
def test_a_server_reads_with_what_was_asked_for(http: str, wire: type[Wire], monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[type[Wire]] = []
    next_head = Wire.next_head

    def watched(self: Wire) -> RequestHead | None:
        used.append(type(self))
        return next_head(self)

    monkeypatch.setattr(Wire, "next_head", watched)

    def handler(request: Request) -> str:
        return request.target

    with (Acceptor(handler, taskmaster=SingleThreadedTaskmaster(), port=0, http=http) as acceptor,
          RawClient.connect(acceptor.port) as client):
        client.send(GOOD)
        assert client.read_response().body == b"/a?b"
    assert set(used) == {wire}
