"""What a head means: how its body ends, whether the client stays, whom it is for; and every violation by its name."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from acceptor.heads import RequestHead, read_head
from acceptor.settings import Limits
from acceptor.violations import Compliance, ProtocolError, Violation
from tests.test_wire import Exchange, bytewise, head_of, outcome, read_one

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
HI = b"2\r\nhi\r\n0\r\n\r\n"


# Every violation: refused, unless it is the one that is allowed.

@dataclass(frozen=True)
class Case:
    """Bytes that break one rule, and no other; and what they are read as where that is allowed."""

    violation: Violation
    data: bytes
    method: str = "GET"
    target: str = "/"
    host: str = "a"
    body: bytes = b""
    value: bytes | None = None
    """Of the field X."""
    keep_alive: bool = True
    times: int = 1
    """How often it is counted."""


CASES = {
    "LF ends a request line": Case(Violation.BARE_LF, b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
    "LF ends a field": Case(Violation.BARE_LF, GET + b"X: 1\nY: 2\r\n\r\n", value=b"1"),
    "LF ends a head": Case(Violation.BARE_LF, GET + b"\n"),
    "LF ends everything": Case(Violation.BARE_LF, b"GET / HTTP/1.1\nHost: a\n\n", times=2),
    "LF before a head": Case(Violation.BARE_LF, b"\n" + GET + b"\r\n"),
    "a fold": Case(Violation.OBS_FOLD, GET + b"X: 1\r\n 2\r\n\t 3\r\n\r\n", value=b"1 2 3"),
    "a fold that looks like a field": Case(
        Violation.OBS_FOLD, GET + b"X: 1\r\n Content-Length: 5\r\n\r\n", value=b"1 Content-Length: 5"),
    "a folded length": Case(Violation.OBS_FOLD, POST + b"Content-Length:\r\n 5\r\n\r\nhello", method="POST",
                            body=b"hello"),
    "a control byte": Case(Violation.CONTROL_BYTE, GET + b"X: 1\x102\r\n\r\n", value=b"1\x102"),
    "DEL": Case(Violation.CONTROL_BYTE, GET + b"X: 1\x7f2\r\n\r\n", value=b"1\x7f2"),
    "escape": Case(Violation.CONTROL_BYTE, GET + b"X: \x1b[31m\r\n\r\n", value=b"\x1b[31m"),
    "length, then chunked": Case(
        Violation.LENGTH_AND_CHUNKED, POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + HI,
        method="POST", body=b"hi", keep_alive=False),
    "chunked, then length": Case(
        Violation.LENGTH_AND_CHUNKED, POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + HI,
        method="POST", body=b"hi", keep_alive=False),
    "chunked in 1.0": Case(
        Violation.CHUNKED_IN_1_0, b"POST / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n" + HI, method="POST", body=b"hi", keep_alive=False),
    "a length twice": Case(Violation.REPEATED_LENGTH, POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
                           method="POST", body=b"hi"),
    "a list of lengths": Case(Violation.REPEATED_LENGTH, POST + b"Content-Length: 2, 2\r\n\r\nhi", method="POST",
                              body=b"hi"),
    "0 twice": Case(Violation.REPEATED_LENGTH, POST + b"content-length:0\r\nCONTENT-LENGTH: 0\r\n\r\n", method="POST"),
    "two words as Host": Case(Violation.INVALID_HOST, b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", host="a b"),
    "é as Host": Case(Violation.INVALID_HOST, b"GET / HTTP/1.1\r\nHost: \xe9\r\n\r\n", host="\xe9"),
    "a URL as Host": Case(Violation.INVALID_HOST, b"GET / HTTP/1.1\r\nHost: http://a\r\n\r\n", host="http://a"),
    "another host": Case(Violation.MISMATCHED_HOST, b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", target="http://b/",
                         host="b"),
    "another port": Case(Violation.MISMATCHED_HOST, b"GET http://a:1/ HTTP/1.1\r\nHost: a:2\r\n\r\n",
                         target="http://a:1/", host="a:1"),
    "an empty Host beside a target's": Case(
        Violation.MISMATCHED_HOST, b"GET http://b/ HTTP/1.1\r\nHost:\r\n\r\n", target="http://b/", host="b"),
    "a relative target": Case(Violation.INVALID_TARGET, b"GET x HTTP/1.1\r\nHost: a\r\n\r\n", target="x"),
    "GET *": Case(Violation.INVALID_TARGET, b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", target="*"),
    "a fragment": Case(Violation.INVALID_TARGET, b"GET /x#y HTTP/1.1\r\nHost: a\r\n\r\n", target="/x#y"),
    "an authority": Case(Violation.INVALID_TARGET, b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", target="a:80"),
    "ftp": Case(Violation.INVALID_TARGET, b"GET ftp://b/ HTTP/1.1\r\nHost: a\r\n\r\n", target="ftp://b/"),
    "a user": Case(Violation.INVALID_TARGET, b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", target="http://u@a/"),
    "no authority": Case(Violation.INVALID_TARGET, b"GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", target="http:///x"),
    "an authority that is none": Case(Violation.INVALID_TARGET, b"GET http://a:b/ HTTP/1.1\r\nHost: a\r\n\r\n",
                                      target="http://a:b/"),
    "a method in lower case": Case(Violation.UNUSUAL_METHOD, b"get / HTTP/1.1\r\nHost: a\r\n\r\n", method="get"),
    "a method of signs": Case(Violation.UNUSUAL_METHOD, b"*!| / HTTP/1.1\r\nHost: a\r\n\r\n", method="*!|"),
    "a method in almost upper case": Case(Violation.UNUSUAL_METHOD, b"GEt / HTTP/1.1\r\nHost: a\r\n\r\n", method="GEt"),
    "another expectation": Case(Violation.UNKNOWN_EXPECTATION, GET + b"Expect: 200-ok\r\n\r\n"),
    "one expectation too many": Case(Violation.UNKNOWN_EXPECTATION, GET + b"Expect: 100-continue, x\r\n\r\n"),
    "and on two lines": Case(Violation.UNKNOWN_EXPECTATION, GET + b"Expect: x\r\nExpect: 100-continue\r\n\r\n"),
    "a space behind a size": Case(Violation.CHUNK_SPACE, CHUNKED + b"2 \r\nhi\r\n0\r\n\r\n", method="POST", body=b"hi"),
    "a tab behind the last size": Case(Violation.CHUNK_SPACE, CHUNKED + b"2\r\nhi\r\n0\t\r\n\r\n", method="POST",
                                       body=b"hi"),
    "a length as a trailer": Case(Violation.FORBIDDEN_TRAILER, CHUNKED + b"2\r\nhi\r\n0\r\nContent-Length: 2\r\n\r\n",
                                  method="POST", body=b"hi"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_violation_is_refused_counted_and_named_unless_it_is_allowed(case: Case) -> None:
    for allow in frozenset[Violation](), frozenset(Violation) - {case.violation}:
        for pieces in [case.data], bytewise(case.data):
            result = outcome(pieces, allow=allow)
            assert result.exchanges[-1].refused == case.violation.status
            assert result.seen == {case.violation: 1}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_violation_that_is_allowed_has_the_sensible_reading_and_is_counted(case: Case) -> None:
    for pieces in [case.data], bytewise(case.data):
        result = outcome(pieces, allow={case.violation})
        (exchange,), head = result.exchanges, result.exchanges[0].head
        assert head is not None
        assert (exchange.refused, exchange.whole, exchange.body) == (None, True, case.body)
        assert (head.method, head.target, head.host, head.keep_alive) == (
            case.method, case.target, case.host, case.keep_alive)
        assert [value for name, value in head.headers if name == b"x"] == ([] if case.value is None else [case.value])
        assert result.seen == {case.violation: case.times}
        assert result.rest == b""


def test_every_violation_has_its_case() -> None:
    assert {case.violation for case in CASES.values()} == set(Violation)


def test_a_length_that_is_removed_beside_chunks_is_seen_by_nobody() -> None:
    head = head_of("POST / HTTP/1.1", "Host: a", "X: 1", "Content-Length: 5", "Transfer-Encoding: chunked",
                   allow=[Violation.LENGTH_AND_CHUNKED])
    assert head.headers == [(b"host", b"a"), (b"x", b"1"), (b"transfer-encoding", b"chunked")]
    assert (head.length, head.has_body) == (None, True)


@pytest.mark.parametrize("lines", [
    [b"Content-Length:", b" 5, 5"], [b"Content-Length: 5,", b" 5"], [b"Content-Length: 5,", b"\t5"],
])
def test_a_repeated_length_does_not_hide_behind_a_fold(lines: list[bytes]) -> None:
    data = POST + b"\r\n".join(lines) + b"\r\n\r\nhello"
    result = outcome([data], allow={Violation.OBS_FOLD})
    assert result.exchanges == [Exchange(None, refused=400, whole=False)]
    assert result.seen == {Violation.OBS_FOLD: 1, Violation.REPEATED_LENGTH: 1}


def test_two_violations_need_both_to_be_allowed() -> None:
    data = b"get / HTTP/1.1\r\nHost: a b\r\n\r\n"
    assert read_one(data, allow={Violation.UNUSUAL_METHOD}).refused == 400
    assert read_one(data, allow={Violation.INVALID_HOST}).refused == 501
    assert read_one(data, allow={Violation.INVALID_HOST, Violation.UNUSUAL_METHOD}).whole


# The connection: RFC 9112 section 9.3.

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
    ("1.2", [], True),
    ("1.9", ["Connection: close"], False),
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
    assert head_of(f"GET / HTTP/{version}", "Host: a", *lines).keep_alive is keep_alive


# Expectations: RFC 9110 section 10.1.1.

@pytest.mark.parametrize(("version", "lines", "expects"), [
    ("1.1", ["Expect: 100-continue"], True),
    ("1.1", ["Expect: 100-Continue"], True),
    ("1.1", ["expect:100-CONTINUE"], True),
    ("1.2", ["Expect: 100-continue"], True),
    ("1.1", ["Expect: 100-continue", "Expect: 100-continue"], True),
    ("1.1", ["Expect: , 100-continue ,"], True),
    ("1.1", [], False),
    ("1.1", ["Expect:"], False),
    ("1.0", ["Expect: 100-continue"], False),
    ("1.0", ["Expect: something"], False),
])
def test_only_a_client_of_1_1_can_expect_100_continue(version: str, lines: list[str], expects: bool) -> None:
    """Empty elements of a list are to be ignored: RFC 9110 section 5.6.1.2."""
    assert head_of(f"POST / HTTP/{version}", "Host: a", "Content-Length: 1", *lines).expects_continue is expects


def test_an_expectation_that_is_ignored_does_not_hide_the_one_that_is_known() -> None:
    head = head_of("POST / HTTP/1.1", "Host: a", "Content-Length: 1", "Expect: x, 100-continue",
                   allow=[Violation.UNKNOWN_EXPECTATION])
    assert head.expects_continue, "or client and server would wait for each other"


# The body: RFC 9112 section 6.3, whatever the method.

@pytest.mark.parametrize(("lines", "has_body", "length"), [
    ([], False, None),
    (["Content-Length: 0"], False, 0),
    (["Content-Length: 00"], False, 0),
    (["Content-Length: 5"], True, 5),
    (["Content-Length: 0005"], True, 5),
    (["content-length:\t5 \t"], True, 5),
    (["Content-Length: 1073741824"], True, 1 << 30),
    (["Transfer-Encoding: chunked"], True, None),
    (["Transfer-Encoding: Chunked"], True, None),
    (["transfer-encoding:\tCHUNKED "], True, None),
    (["Content_Length: 5", "Transfer_Encoding: chunked"], False, None),
    (["X-Content-Length: 5", "X-Transfer-Encoding: chunked"], False, None),
])
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "DELETE"])
def test_a_request_has_a_body_if_its_head_announces_one(
        method: str, lines: list[str], has_body: bool, length: int | None) -> None:
    head = head_of(f"{method} / HTTP/1.1", "Host: a", *lines)
    assert (head.has_body, head.length) == (has_body, length)


@pytest.mark.parametrize("limit", [0, 5, 1 << 30])
def test_a_length_beyond_the_limit_is_refused_before_any_of_it_comes(limit: int) -> None:
    data = POST + b"Content-Length: %d\r\n\r\n"
    assert read_one(data % (limit + 1), Limits(body=limit)).refused == 413
    assert read_one(data % limit, Limits(body=limit)).refused is None


# Method, target and host.

@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "PROPFIND",
                                    "M-SEARCH", "VERSION-CONTROL", "X_1", "A"])
@pytest.mark.parametrize("target", ["/", "/a?b=c", "/%zz", "//x", "/?", "/a:b@c", "/..//", "/%00%0d%0a"])
def test_method_and_target_are_given_as_sent(method: str, target: str) -> None:
    head = head_of(f"{method} {target} HTTP/1.1", "Host: a")
    assert (head.method, head.target, head.version, head.host) == (method, target, "1.1", "a")


@pytest.mark.parametrize(("line", "hosts", "host"), [
    ("GET / HTTP/1.1", ["a"], "a"),
    ("GET / HTTP/1.1", ["A.Example:8080"], "A.Example:8080"),
    ("GET / HTTP/1.1", [""], ""),
    ("GET / HTTP/1.1", ["127.0.0.1:1"], "127.0.0.1:1"),
    ("GET / HTTP/1.1", ["[::1]"], "[::1]"),
    ("GET / HTTP/1.1", ["[::ffff:1.2.3.4]:80"], "[::ffff:1.2.3.4]:80"),
    ("GET / HTTP/1.1", ["a:"], "a:"),
    ("GET / HTTP/1.1", ["a_b-c~d%41"], "a_b-c~d%41"),
    ("GET / HTTP/1.0", [], ""),
    ("GET / HTTP/1.0", ["a"], "a"),
    ("GET http://b/ HTTP/1.0", [], "b"),
    ("GET http://b/x?y HTTP/1.1", ["b"], "b"),
    ("GET http://b HTTP/1.1", ["b"], "b"),
    ("GET http://b?c HTTP/1.1", ["b"], "b"),
    ("GET HTTPS://B:1/ HTTP/1.1", ["b:1"], "B:1"),
    ("GET http://[::1]:80/ HTTP/1.1", ["[::1]:80"], "[::1]:80"),
    ("OPTIONS * HTTP/1.1", ["a"], "a"),
    ("OPTIONS http://a HTTP/1.1", ["a"], "a"),
    ("GET /http://b/ HTTP/1.1", ["a"], "a"),
])
def test_a_request_is_for_the_targets_authority_or_else_for_host(line: str, hosts: list[str], host: str) -> None:
    """RFC 9112 section 3.3."""
    assert head_of(line, *(f"Host: {value}" for value in hosts)).host == host


names = st.one_of(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7e), min_size=1, max_size=20),
                  st.text("a.-_:@/?#%4[]\\,;", min_size=1, max_size=8)).filter(lambda name: not name.startswith("["))
"""(What may stand in brackets urlsplit knows better, and differently from one Python to the next.)"""


@given(names)
@example("a:b:c")
@example("a%4")
@example("a@b")
@example("::1")
def test_a_host_is_accepted_only_if_a_url_could_hold_it(host: str) -> None:
    """By the opinion of another parser."""
    if read_one(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()).refused:
        return
    split = urlsplit(f"http://{host}/path?query#fragment")
    assert (split.netloc, split.path, split.query, split.username) == (host, "/path", "query", None)


@given(st.sampled_from(["http", "https", "HTTP", "ftp", "h"]), names, st.sampled_from(["", "/", "/x", "?y", "/x?y"]))
@example("http", "a/b", "")
@example("http", "u:p@a", "/")
def test_an_absolute_target_is_accepted_only_if_its_authority_is_its_host(scheme: str, host: str, rest: str) -> None:
    target = f"{scheme}://{host}{rest}"
    exchange = read_one(f"GET {target} HTTP/1.0\r\n\r\n".encode())
    if exchange.refused:
        return
    assert exchange.head is not None
    split = urlsplit(target)
    assert split.scheme in ("http", "https")
    assert exchange.head.host == split.netloc
    assert "@" not in split.netloc
    assert not split.fragment


# Another parser than h11 needs no rules of its own.

@dataclass
class Parsed:
    method: bytes = b"GET"
    target: bytes = b"/"
    minor: bytes = b"1"
    headers: tuple[tuple[bytes, bytes], ...] = ((b"host", b"a"),)


def with_host(*headers: tuple[bytes, bytes]) -> Parsed:
    return Parsed(headers=((b"host", b"a"), *headers))


def judge(parsed: Parsed) -> RequestHead:
    line = parsed.method, parsed.target, parsed.minor
    return read_head(line, list(parsed.headers), b"", Limits(), Compliance(Violation))


@pytest.mark.parametrize(("parsed", "status"), [
    (Parsed(headers=((b"host", b"a"), (b"host", b"a"))), 400),
    (Parsed(minor=b"0", headers=((b"host", b"a"), (b"host", b"b"))), 400),
    (Parsed(headers=((b"host", b""), (b"host", b""))), 400),
    (Parsed(headers=()), 400),
    (Parsed(minor=b"5", headers=()), 400),
    (Parsed(method=b"CONNECT", target=b"a:1"), 501),
    (Parsed(method=b"CONNECT", minor=b"0", headers=()), 501),
    (with_host((b"content-length", b"")), 400),
    (with_host((b"content-length", b"+5")), 400),
    (with_host((b"content-length", b"5_0")), 400),
    (with_host((b"content-length", b"5, 5")), 400),
    (with_host((b"content-length", b"\xb2")), 400),
    (with_host((b"content-length", b"5"), (b"content-length", b"5")), 400),
    (with_host((b"content-length", b"0" * 20 + b"5")), 413),
    (with_host((b"content-length", b"9" * 5000)), 413),
    (with_host((b"transfer-encoding", b"")), 400),
    (with_host((b"transfer-encoding", b"gzip")), 400),
    (with_host((b"transfer-encoding", b"xchunked")), 400),
    (with_host((b"transfer-encoding", b"chunked, gzip")), 400),
    (with_host((b"transfer-encoding", b"gzip, Chunked")), 501),
    (with_host((b"transfer-encoding", b"gzip"), (b"transfer-encoding", b"chunked")), 501),
    (with_host((b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"chunked")), 400),
    (with_host((b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"")), 400),
    (with_host((b"transfer-encoding", b""), (b"transfer-encoding", b"chunked")), 501),
], ids=repr)
def test_what_has_no_sensible_reading_is_refused_whatever_the_parser_thinks(parsed: Parsed, status: int) -> None:
    with pytest.raises(ProtocolError) as caught:
        judge(parsed)
    assert (caught.value.status, caught.value.violation) == (status, None)


def test_headers_are_handed_on_in_order_with_their_repetitions() -> None:
    headers = ((b"b", b"1"), (b"host", b"a"), (b"a", b"2"), (b"b", b"\xe9"), (b"b", b""))
    assert judge(Parsed(headers=headers)).headers == list(headers)


def test_the_only_coding_there_is_is_written_in_one_way() -> None:
    head = judge(with_host((b"transfer-encoding", b"CHUNKED"), (b"x", b"CHUNKED")))
    assert head.headers == [(b"host", b"a"), (b"transfer-encoding", b"chunked"), (b"x", b"CHUNKED")]
    assert (head.has_body, head.length) == (True, None)
