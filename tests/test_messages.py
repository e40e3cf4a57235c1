"""Request, Response, Headers and errors: what handlers see, and that every wrong argument says how to mend it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from acceptor.framing import plan
from acceptor.heads import RequestHead
from acceptor.messages import BodyError, Headers, HTTPError, Request, Response, as_response, file_size

GET = RequestHead("GET", "/", "1.1", [], host="a", has_body=False, keep_alive=True, expects_continue=False)


def make_request(target: str = "/", headers: list[tuple[bytes, bytes]] | None = None,
                 body: io.RawIOBase | None = None) -> Request:
    return Request("GET", target, "1.1", Headers(headers or []), peer=("203.0.113.7", 49152), body=body)


# Headers.

HEADERS = Headers([(b"host", b"example.org"), (b"accept", b"text/html"), (b"accept", b"text/plain"),
                   (b"x-latin", b"caf\xe9")])


@pytest.mark.parametrize("name", ["accept", "Accept", "ACCEPT", "aCCept"])
def test_a_header_is_found_under_its_name_in_any_case(name: str) -> None:
    assert name in HEADERS
    assert HEADERS[name] == "text/html, text/plain"
    assert HEADERS.get(name) == "text/html, text/plain"
    assert HEADERS.get_all(name) == ["text/html", "text/plain"]


@pytest.mark.parametrize("name", ["accepted", "", "accept ", "x-\u20ac", "hôst"])
def test_a_header_that_was_not_sent_is_absent_whatever_its_name(name: str) -> None:
    assert name not in HEADERS
    assert HEADERS.get(name) is None
    assert HEADERS.get_all(name) == []
    with pytest.raises(KeyError) as caught:
        HEADERS[name]
    assert caught.value.args == (name,)


def test_headers_iterate_over_their_names_once_each_in_order_and_count_the_same() -> None:
    assert list(HEADERS) == ["host", "accept", "x-latin"]
    assert len(HEADERS) == 3
    assert dict(HEADERS.items()) == {"host": "example.org", "accept": "text/html, text/plain", "x-latin": "caf\xe9"}


def test_headers_keep_the_pairs_as_received_and_show_them() -> None:
    assert HEADERS.raw[1:3] == [(b"accept", b"text/html"), (b"accept", b"text/plain")]
    assert "text/plain" in repr(HEADERS)


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b", b"x-y"]), st.binary(max_size=5))))
def test_headers_are_a_consistent_mapping(raw: list[tuple[bytes, bytes]]) -> None:
    headers = Headers(raw)
    assert len(headers) == len(list(headers)) == len(set(headers))
    for name in headers:
        assert headers[name] == ", ".join(headers.get_all(name.upper()))
    assert sum(len(headers.get_all(name)) for name in headers) == len(raw)


# Request.

@pytest.mark.parametrize(("target", "path", "query"), [
    ("/", "/", ""),
    ("/a/b", "/a/b", ""),
    ("/?", "/", ""),
    ("/?a=1&b=2", "/", "a=1&b=2"),
    ("/a?b?c", "/a", "b?c"),
    ("/caf%C3%A9?q=%C3%A9", "/café", "q=%C3%A9"),
    ("/a%2Fb%20c%3Fd", "/a/b c?d", ""),
    ("/a+b", "/a+b", ""),
    ("/%FF%zz%", "/\ufffd%zz%", ""),
    ("/%00", "/\0", ""),
    ("*", "*", ""),
])
def test_a_target_is_divided_into_a_decoded_path_and_a_raw_query(target: str, path: str, query: str) -> None:
    request = make_request(target)
    assert (request.path, request.query, request.target) == (path, query, target)


@pytest.mark.parametrize(("target", "path", "query"), [
    ("http://example.org/a/b?c=d", "/a/b", "c=d"),
    ("http://example.org:8080/caf%C3%A9", "/café", ""),
    ("HTTPS://example.org/", "/", ""),
    ("http://example.org", "/", ""),
    ("http://example.org?c=d", "/", "c=d"),
])
def test_a_target_in_absolute_form_has_the_path_of_its_url(target: str, path: str, query: str) -> None:
    """RFC 9112 section 3.2.2: a server MUST accept it."""
    request = make_request(target)
    assert (request.path, request.query, request.target) == (path, query, target)


@given(st.text())
def test_no_target_makes_path_or_query_fail(target: str) -> None:
    request = make_request(target)
    assert isinstance(request.path, str)
    assert target.endswith(request.query)


@pytest.mark.parametrize(("headers", "given", "host"), [
    ([(b"host", b"example.org:8080")], None, "example.org:8080"),
    ([(b"host", b"a")], "b", "b"),
    ([(b"host", b"a")], "", ""),
    ([], None, ""),
    ([(b"host", b"\xe9")], None, "\xe9"),
])
def test_a_request_is_for_the_host_that_is_given_or_else_for_that_of_its_header(
        headers: list[tuple[bytes, bytes]], given: str | None, host: str) -> None:
    assert Request("GET", "/", "1.1", Headers(headers), host=given).host == host


def test_a_client_is_the_peer_unless_somebody_else_is_named() -> None:
    peer, client = ("203.0.113.7", 49152), ("192.0.2.1", 0)
    assert Request("GET", "/", "1.1", Headers([]), peer=peer).client == peer
    request = Request("GET", "/", "1.1", Headers([]), peer=peer, client=client, scheme="https")
    assert (request.peer, request.client, request.scheme) == (peer, client, "https")


def test_a_request_that_came_over_no_connection_says_so() -> None:
    request = make_request()
    assert (request.tls, request.stopping, request.trailers.raw, request.scheme) == (None, False, [], "http")
    assert (request.local, request.multithread, request.multiprocess) == (("", 0), True, False)
    request.send_informational(103)
    for act in (request.detach, lambda: request.begin(Response())):
        with pytest.raises(RuntimeError, match="came over no connection; it was made by hand"):
            act()


def test_a_request_without_a_body_has_an_empty_one() -> None:
    body = make_request().body
    assert (body.peek(), body.read(), body.readline(), list(body)) == (b"", b"", b"", [])  # type: ignore[union-attr]


def test_what_is_read_of_a_request_can_be_replaced() -> None:
    request = make_request()
    request.headers, request.body = Headers([(b"a", b"1")]), io.BytesIO(b"b")
    assert (request.headers["A"], request.body.read()) == ("1", b"b")


def test_a_request_has_one_body_however_often_it_is_asked_for() -> None:
    request = make_request(body=io.FileIO(Path(__file__), "r"))
    with request.body as body:
        assert request.body is body
        assert body.readline().startswith(b'"""Request')


def test_a_request_shows_what_it_is_in_a_log_line() -> None:
    assert repr(make_request("/a?b")) == "<GET /a?b from 203.0.113.7:49152>"


# Response: what it makes of good arguments.

@pytest.mark.parametrize(("body", "sent", "kind"), [
    ("naïve", "naïve".encode(), "text/plain; charset=utf-8"),
    (b"\0\1", b"\0\1", "application/octet-stream"),
    (bytearray(b"ab"), b"ab", "application/octet-stream"),
    (memoryview(b"ab"), b"ab", "application/octet-stream"),
    (memoryview(b"abcdef")[::2], b"ace", "application/octet-stream"),
])
def test_a_body_of_text_or_bytes_is_bytes_with_its_content_type(body: Any, sent: bytes, kind: str) -> None:
    response = Response(body)
    assert response.body == sent
    assert type(response.body) is bytes
    assert response.headers == [(b"content-type", kind.encode())]
    assert response.status == 200


@pytest.mark.parametrize("body", ["", b"", bytearray()])
def test_an_empty_body_has_no_content_type_of_its_own(body: Any) -> None:
    assert Response(body).headers == []
    assert Response(body, headers={"Content-Type": "text/html"}).headers == [(b"content-type", b"text/html")]


@pytest.mark.parametrize("name", ["Content-Type", "content-type", "CONTENT-TYPE"])
def test_a_content_type_that_is_given_is_the_only_one(name: str) -> None:
    assert Response("<p>", headers={name: "text/html"}).headers == [(b"content-type", b"text/html")]


class HasRead:
    def read(self, count: int) -> bytes:
        return b""


@pytest.mark.parametrize("make", [
    lambda: iter([b"a"]), lambda: [b"a", b"b"], lambda: (piece for piece in [b"a"]), lambda: io.BytesIO(b"a"), HasRead,
    lambda: (b"a", b"b"),
], ids=["iterator", "list", "generator", "BytesIO", "an object with read()", "tuple"])
def test_a_body_that_is_iterable_or_can_be_read_is_kept_as_it_is(make: Callable[[], Any]) -> None:
    body = make()
    assert Response(body).body is body


@pytest.mark.parametrize("status", [200, 204, 304, 418, 599, 600, 999, HTTPStatus.NOT_FOUND])
def test_a_final_status_is_kept_as_a_plain_number(status: int) -> None:
    response = Response(b"", status)
    assert response.status == status
    assert type(response.status) is int


@pytest.mark.parametrize("headers", [
    {"X-One": "1", "Set-Cookie": "a"},
    [("X-One", "1"), ("Set-Cookie", "a")],
    (("X-One", "1"), ["Set-Cookie", "a"]),
    iter([("X-One", "1"), ("Set-Cookie", "a")]),
    Headers([(b"x-one", b"1"), (b"set-cookie", b"a")]),
], ids=["dict", "list", "tuple", "iterator", "Headers"])
def test_headers_are_given_as_a_mapping_or_as_pairs(headers: Any) -> None:
    assert Response("", headers=headers).headers[:2] == [(b"x-one", b"1"), (b"set-cookie", b"a")]


def test_pairs_may_repeat_a_name() -> None:
    headers = Response("", headers=[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]).headers
    assert headers[:2] == [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]


def test_a_response_shows_the_start_of_its_body_and_its_status() -> None:
    assert repr(Response("x" * 1000, 404)).endswith(", 404)")
    assert len(repr(Response("x" * 1000))) < 100


# Response: what it says to wrong ones. (arguments, words of the fix)

WRONG_STATUS = "status=.*: pass a status code, a whole number from 200 to 999"
WRONG_BODY = "body=.*: pass str, bytes, a binary file, or an iterable of bytes"
WRONG_PAIR = "header .*: pass a name and a value, both str and within latin-1"
WRONG_NAME = "header name .*: only letters, digits and .* may stand in one"
WRONG_VALUE = "header X-A: value .* holds a control byte .* or white space at an end; remove it"

WRONG = {
    "status 100": ({"status": 100}, WRONG_STATUS),
    "status 199": ({"status": 199}, WRONG_STATUS),
    "status 1000": ({"status": 1000}, WRONG_STATUS),
    "status 0": ({"status": 0}, WRONG_STATUS),
    "status -200": ({"status": -200}, WRONG_STATUS),
    "status as str": ({"status": "200"}, WRONG_STATUS),
    "status as float": ({"status": 200.0}, WRONG_STATUS),
    "status None": ({"status": None}, WRONG_STATUS),
    "status True": ({"status": True}, WRONG_STATUS),
    "status and headers exchanged": ({"status": {"X-A": "1"}, "headers": 200}, WRONG_STATUS),
    "body None": ({"body": None}, WRONG_BODY),
    "body int": ({"body": 5}, WRONG_BODY),
    "body dict": ({"body": {"a": 1}}, WRONG_BODY),
    "body Headers": ({"body": HEADERS}, WRONG_BODY),
    "body object": ({"body": object()}, WRONG_BODY),
    "body Response": ({"body": Response("x")}, WRONG_BODY),
    "body class": ({"body": int}, WRONG_BODY),
    "header value int": ({"headers": {"X-A": 5}}, WRONG_PAIR),
    "header value None": ({"headers": {"X-A": None}}, WRONG_PAIR),
    "header value bytes": ({"headers": {"X-A": b"5"}}, WRONG_PAIR),
    "header value list": ({"headers": {"X-A": ["5"]}}, WRONG_PAIR),
    "header value beyond latin-1": ({"headers": {"X-A": "\u20ac"}}, WRONG_PAIR),
    "header value surrogate": ({"headers": {"X-A": "\ud800"}}, WRONG_PAIR),
    "header name bytes": ({"headers": {b"X-A": "5"}}, WRONG_PAIR),
    "header name beyond latin-1": ({"headers": {"X-\u20ac": "5"}}, WRONG_PAIR),
    "header of three": ({"headers": [("X-A", "b", "c")]}, WRONG_PAIR),
    "header of one": ({"headers": [("X-A",)]}, WRONG_PAIR),
    "header as a line": ({"headers": ["X-A: b"]}, WRONG_PAIR),
    "header as a line of two characters": ({"headers": ["ab"]}, WRONG_PAIR),
    "headers as a str": ({"headers": "X-A: b"}, WRONG_PAIR),
    "header None": ({"headers": [None]}, WRONG_PAIR),
    "headers None": ({"headers": None}, "headers=None.*: pass "),
    "headers int": ({"headers": 5}, "headers=5.*: pass "),
    "empty name": ({"headers": {"": "b"}}, WRONG_NAME),
    "space in a name": ({"headers": {"X A": "b"}}, WRONG_NAME),
    "colon in a name": ({"headers": {"X-A:": "b"}}, WRONG_NAME),
    "space behind a name": ({"headers": {"X-A ": "b"}}, WRONG_NAME),
    "line end in a name": ({"headers": {"X-A\r\nX-B": "b"}}, WRONG_NAME),
    "line end behind a name": ({"headers": {"X-A\n": "b"}}, WRONG_NAME),
    "NUL in a name": ({"headers": {"X-A\0": "b"}}, WRONG_NAME),
    "é in a name": ({"headers": {"X-é": "b"}}, WRONG_NAME),
    "CRLF in a value": ({"headers": {"X-A": "b\r\nX-B: c"}}, WRONG_VALUE),
    "LF in a value": ({"headers": {"X-A": "b\nX-B: c"}}, WRONG_VALUE),
    "CR in a value": ({"headers": {"X-A": "b\rc"}}, WRONG_VALUE),
    "LF behind a value": ({"headers": {"X-A": "b\n"}}, WRONG_VALUE),
    "CRLF alone": ({"headers": {"X-A": "\r\n"}}, WRONG_VALUE),
    "folded line": ({"headers": {"X-A": "b\r\n c"}}, WRONG_VALUE),
    "NUL in a value": ({"headers": {"X-A": "b\0"}}, WRONG_VALUE),
    "DEL in a value": ({"headers": {"X-A": "b\x7f"}}, WRONG_VALUE),
    "escape in a value": ({"headers": {"X-A": "\x1b[31m"}}, WRONG_VALUE),
    "space before a value": ({"headers": {"X-A": " b"}}, WRONG_VALUE),
    "tab behind a value": ({"headers": {"X-A": "b\t"}}, WRONG_VALUE),
    "a space as a value": ({"headers": {"X-A": " "}}, WRONG_VALUE),
    "Transfer-Encoding": ({"headers": {"Transfer-Encoding": "chunked"}}, "header Transfer-Encoding: .* leave it out"),
    "Content-Length text": ({"headers": {"Content-Length": "many"}},
                            "header Content-Length: .* not a number of bytes; give one, or leave it out"),
    "Content-Length negative": ({"headers": {"Content-Length": "-1"}}, "header Content-Length: .* leave it out"),
    "Content-Length empty": ({"headers": {"Content-Length": ""}}, "header Content-Length: .* leave it out"),
    "Content-Length twice": ({"headers": {"Content-Length": "5, 5"}}, "header Content-Length: .* leave it out"),
    "Content-Length ²": ({"headers": {"Content-Length": "²"}}, "header Content-Length: .* leave it out"),
}


@pytest.mark.parametrize("arguments", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_argument_to_response_gets_a_message_that_says_the_fix(arguments: tuple[dict[str, Any], str]) -> None:
    wrong, fix = arguments
    with pytest.raises((TypeError, ValueError), match=f"(?s){fix}"):
        Response(**{"body": "", **wrong})


@pytest.mark.parametrize("wrong", [WRONG["status 100"], WRONG["CRLF in a value"], WRONG["header value int"]],
                         ids=["status", "injection", "header value"])
def test_an_http_error_takes_no_more_than_a_response_does(wrong: tuple[dict[str, Any], str]) -> None:
    arguments, fix = wrong
    with pytest.raises((TypeError, ValueError), match=f"(?s){fix}"):
        HTTPError(**{"status": 400, **arguments})


# Header injection.

def written_lines(response: Response) -> list[bytes]:
    """The lines of the response's head as they go to the client, without the status line."""
    head = plan(GET, response, True).head
    assert head.endswith(b"\r\n\r\n"), head
    return head[:-4].split(b"\r\n")[1:]


anything = st.text(st.one_of(st.sampled_from("\r\n\0\t :;,\x0b\x0c\x1c\x7f\x85\u2028\u010a\u560a"),
                             st.characters(codec="latin-1"), st.characters()), max_size=12)
tokens = st.text("abcXYZ019-_!#$%&'*+.^`|~", min_size=1, max_size=8)


@given(name=st.one_of(tokens, anything), value=anything)
@example("X-A", "b\r\nX-B: c")
@example("X-A\r\nX-B", "c")
@example("X-A", "\u010d\u010a")  # whose low bytes are CR and LF
def test_whatever_header_is_accepted_is_one_line_on_the_wire(name: str, value: str) -> None:
    try:
        response = Response("", headers=[(name, value)])
    except (TypeError, ValueError):
        return
    bare = written_lines(Response(""))
    lines = written_lines(response)
    assert not any(byte in line for line in lines for byte in b"\r\n\0"), lines
    assert len(lines) <= len(bare) + 1, f"one header became more than one line: {lines}"
    if len(lines) == len(bare) + 1:  # not replaced by the server's own
        assert f"{name.lower()}: {value}".encode("latin-1") in lines


@given(name=tokens, value=st.text(st.characters(min_codepoint=0x21, max_codepoint=0xff, exclude_categories=["Cc"])))
def test_a_harmless_header_is_never_refused(name: str, value: str) -> None:
    if name.lower() not in ("transfer-encoding", "content-length"):
        assert (name.lower().encode(), value.encode("latin-1")) in Response("", headers={name: value}).headers


# HTTPError, BodyError.

@pytest.mark.parametrize(("error", "status", "body"), [
    (HTTPError(404), 404, b"Not Found\n"),
    (HTTPError(404, "no such page"), 404, b"no such page\n"),
    (HTTPError(HTTPStatus.CONFLICT), 409, b"Conflict\n"),
    (HTTPError(599), 599, b"\n"),
    (BodyError(408, "too slow"), 408, b"too slow\n"),
])
def test_an_http_error_is_a_response_of_its_text_or_phrase(error: HTTPError, status: int, body: bytes) -> None:
    assert error.status == error.response.status == status
    assert error.response.body == body
    assert str(error).startswith(str(status))


def test_a_body_error_closes_the_connection() -> None:
    assert (b"connection", b"close") in BodyError(413).response.headers


def test_an_http_error_carries_headers() -> None:
    assert (b"allow", b"GET, HEAD") in HTTPError(405, headers={"Allow": "GET, HEAD"}).response.headers


# as_response.

def handler_named_so() -> None: ...


class CallableHandler:
    def __repr__(self) -> str:
        return "<the handler>"


def test_a_response_is_itself_and_str_and_bytes_become_one() -> None:
    response = Response("x", 404)
    assert as_response(response, handler_named_so) is response
    assert as_response("é", handler_named_so).body == "é".encode()
    assert as_response(b"x", handler_named_so).body == b"x"
    assert as_response("x", handler_named_so).status == 200


def generator() -> Iterator[bytes]:
    yield b"x"


@pytest.mark.parametrize(("value", "words"), [
    (None, r"returned None \(NoneType\); return a str, bytes or acceptor.Response; did you forget `return`\?"),
    (("x", 200), r"returned .*\(tuple\); .*; write Response\(body, status, headers\)"),
    ([b"x"], r"returned .*\(list\); .*; wrap it: Response\(\.\.\.\)"),
    (generator(), r"returned .*\(generator\); .*; wrap it: Response\(\.\.\.\)"),
    (bytearray(b"x"), r"returned .*\(bytearray\); .*; wrap it: Response\(\.\.\.\)"),
    (io.BytesIO(b"x"), r"returned .*\(BytesIO\); .*; wrap it: Response\(\.\.\.\)"),
    (200, r"returned 200 \(int\); return a str, bytes or acceptor.Response$"),
    (Response, r"returned .*\(type\); return a str, bytes or acceptor.Response"),
    ("x" * 10_000 and ["x" * 10_000], r"returned .{,100}\(list\)"),
], ids=["None", "tuple", "list", "generator", "bytearray", "file", "int", "class", "something long"])
def test_whatever_else_a_handler_returns_is_refused_with_its_name_and_a_hint(value: object, words: str) -> None:
    with pytest.raises(TypeError, match=f"^handler handler_named_so {words}"):
        as_response(value, handler_named_so)


def test_a_handler_without_a_name_is_shown() -> None:
    with pytest.raises(TypeError, match=r"^handler <the handler> returned None"):
        as_response(None, CallableHandler())


@pytest.mark.parametrize("value", [{"a": 1}, [b"x"], (b"x",), bytearray(b"x"), {b"x"}, HEADERS],
                         ids=["dict", "list", "tuple", "bytearray", "set", "Headers"])
def test_the_hint_to_wrap_it_is_given_only_where_that_helps(value: Any) -> None:
    with pytest.raises(TypeError) as caught:
        as_response(value, handler_named_so)
    if "wrap it: Response(...)" in str(caught.value):
        Response(value)  # must not raise: else the message sends people from one error to the next


# file_size.

def test_the_size_of_a_file_counts_from_its_position(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with path.open("rb") as file:
        assert file_size(file) == 10
        file.read(3)
        assert file_size(file) == 7
        file.seek(100)
        assert file_size(file) == 0


@pytest.mark.parametrize("body", [b"x", [b"x"], io.BytesIO(b"x"), HasRead()],
                         ids=["bytes", "list", "BytesIO", "read()"])
def test_what_is_no_file_of_the_system_has_no_size(body: Any) -> None:
    assert file_size(body) is None


def test_a_closed_file_has_no_size(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    with path.open("rb") as file:
        pass
    assert file_size(file) is None


def test_a_device_has_no_size() -> None:
    """Or a handler that answers with one would send nothing."""
    with open("/dev/zero", "rb") as file:
        assert file_size(file) is None
