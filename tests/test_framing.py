"""Framing and sending: whatever a handler answers, a client reads the same and knows where it ends.

`transmit` sends over a real socket; the judge is h11's client side, which shares no code with the server's.
"""

from __future__ import annotations

import gzip
import io
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Self

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from acceptor.fields import phrase
from acceptor.framing import CONTINUE, LAST_CHUNK, Framing, Plan, chunk, error_bytes, plan
from acceptor.heads import RequestHead
from acceptor.messages import Response
from acceptor.sending import ResponseBodyError, close_body
from acceptor.service import Service
from acceptor.stream import Stream
from fuzz.responses import send
from tests.clients import PATIENCE, Truncated, parse_response, read_all

NEXT = b"HTTP/1.1 299 \r\n\r\n"
"""The start of another response, which no client must mistake for more of the first."""


def request_head(method: str = "GET", version: str = "1.1") -> RequestHead:
    return RequestHead(method, "/", version, [], host="a", has_body=False, keep_alive=True, expects_continue=False)


def stream_over(sock: socket.socket) -> Stream:
    return Stream(sock, Service(lambda request: ""))


@dataclass
class Transmitted:
    """What `send` did."""

    data: bytes
    """What the client received, up to the end of the connection."""
    sent: int | None
    """What `send` returned."""
    error: ResponseBodyError | None


def transmit(planned: Plan, body: Any) -> Transmitted:
    """Send `planned` and `body` to a client that reads in another thread, then close."""
    server, client = socket.socketpair()
    received = bytearray()

    def receive() -> None:
        while data := client.recv(1 << 20):
            received.extend(data)

    reader = threading.Thread(target=receive, name="reader", daemon=True)
    with server, client:
        reader.start()
        result = Transmitted(b"", None, None)
        try:
            result.sent = send(stream_over(server), planned, body)
        except ResponseBodyError as error:
            result.error = error
        finally:
            server.shutdown(socket.SHUT_WR)
            reader.join(PATIENCE)
        assert not reader.is_alive(), f"the client still reads; so far {len(received)} bytes, {bytes(received[:200])!r}"
    result.data = bytes(received)
    return result


# Bodies that Hypothesis makes.

class Readable:
    """As little of a file as a body may be."""

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)

    def read(self, count: int) -> bytes:
        return self._file.read(min(count, 7))


def temporary_file(content: bytes, before: bytes = b"") -> Any:
    file = tempfile.TemporaryFile()  # noqa: SIM115  # the body of a response; closed by the test
    file.write(before + content)
    file.seek(len(before))
    return file


@dataclass
class Answer:
    """A body in one of the forms that a handler may give, and the bytes it is."""

    form: str
    pieces: list[bytes]

    @property
    def content(self) -> bytes:
        return b"".join(self.pieces)

    def body(self) -> Any:
        forms: dict[str, Callable[[], Any]] = {
            "bytes": lambda: self.content,
            "bytearray": lambda: bytearray(self.content),
            "list": lambda: list(self.pieces),
            "generator": lambda: (piece for piece in self.pieces),
            "BytesIO": lambda: io.BytesIO(self.content),
            "read()": lambda: Readable(self.content),
            "file": lambda: temporary_file(self.content),
            "rest of a file": lambda: temporary_file(self.content, before=b"not this"),
        }
        return forms[self.form]()


WHOLE = ("bytes", "bytearray")
STREAMED = ("list", "generator", "BytesIO", "read()")
FILES = ("file", "rest of a file")

pieces = st.lists(st.one_of(st.binary(max_size=40), st.integers(0, 70_000).map(lambda size: b"\r\n0\r\n" * (size // 5)),
                            st.just(b"")), max_size=5)
answers = st.builds(Answer, st.sampled_from(WHOLE + STREAMED + FILES), pieces)
tokens = st.text("abcXYZ019-_", min_size=1, max_size=8)
values = st.text(st.characters(min_codepoint=0x21, max_codepoint=0xff, exclude_categories=["Cc"]), max_size=12)
header_lists = st.lists(st.tuples(tokens.map(lambda name: f"X-{name}"), values), max_size=4)
statuses = st.sampled_from([200, 201, 204, 205, 206, 301, 304, 404, 500, 599, 700, 999])
methods = st.sampled_from(["GET", "POST", "HEAD", "OPTIONS"])
versions = st.sampled_from(["1.1", "1.0"])


@given(answer=answers, announced=st.booleans(), status=statuses, headers=header_lists, method=methods,
       version=versions, keep_alive=st.booleans(), close=st.booleans())
@example(Answer("list", [b"to the end"]), False, 200, [], "GET", "1.0", True, False)
@example(Answer("list", [b"to the end"]), False, 200, [], "HEAD", "1.0", True, False)
@example(Answer("list", [b"chunked"]), False, 200, [], "GET", "1.1", True, False)
@settings(max_examples=200)
def test_a_client_reads_the_status_headers_and_body_that_were_meant_and_where_they_end(
        answer: Answer, announced: bool, status: int, headers: list[tuple[str, str]], method: str, version: str,
        keep_alive: bool, close: bool) -> None:
    content = answer.content
    given_headers = [*headers]
    if announced:
        given_headers.append(("Content-Length", str(len(content))))
    if close:
        given_headers.append(("Connection", "close"))
    response = Response(answer.body(), status, given_headers)
    planned = plan(request_head(method, version), response, keep_alive)
    result = transmit(planned, response.body)
    close_body(response.body)

    bodiless = method == "HEAD" or status in (204, 205, 304)
    expected = b"" if bodiless else content
    assert result.error is None
    assert result.sent == len(expected)

    # The client knows the end: from the response itself, or, having been told "close", from the connection's.
    if planned.framing is Framing.CLOSE:
        received, rest = parse_response(result.data, method, ended=True)
        assert (version, received.keep_alive, planned.keep_alive) == ("1.0", False, False)
    else:
        received, rest = parse_response(result.data + NEXT, method, ended=False)
        assert rest == NEXT, "the client takes something behind the response for a part of it, or the reverse"
    assert received.status == status
    assert received.body == expected

    # Its headers are the handler's, and the server's own, each once.
    framing_names = ("content-length", "transfer-encoding", "connection", "date", "content-type")
    assert [pair for pair in received.headers if pair[0] not in framing_names] == [
        (name.lower(), value) for name, value in headers]
    kind = None if response.body == b"" else "application/octet-stream"
    assert received.header("content-type") == kind
    date = received.header("date")
    assert date is not None
    assert parsedate_to_datetime(date).tzinfo is not None
    length, coding = received.header("content-length"), received.header("transfer-encoding")
    if status in (204, 304):
        assert (length, coding) == (None, None), "RFC 9110 section 8.6, RFC 9112 section 6.1"
    elif status == 205:
        assert (length, coding) == ("0", None), "RFC 9110 section 15.3.6"
    elif length is not None:
        assert (int(length), coding) == (len(content), None)
    else:
        assert coding == (None if version == "1.0" else "chunked"), "RFC 9112 section 6.1"

    # What is said about the connection is what the server will do.
    assert not (planned.keep_alive and (close or not keep_alive))
    connection = received.header("connection")
    assert connection == ("close" if not planned.keep_alive else "keep-alive" if version == "1.0" else None)
    assert received.keep_alive is planned.keep_alive


@given(answer=st.builds(Answer, st.sampled_from(STREAMED + FILES), pieces), announced=st.integers(0, 300_000),
       version=versions)
@example(Answer("list", [b"abc", b"def"]), 3, "1.1")  # exactly one piece too many
@example(Answer("list", [b"abc", b"def"]), 5, "1.1")  # a piece that is too long
@example(Answer("list", [b"abc"]), 0, "1.1")
@example(Answer("list", []), 1, "1.1")
@example(Answer("list", [b"abc"]), 4, "1.1")
def test_a_body_that_differs_from_its_content_length_never_exceeds_it_and_never_passes_for_whole(
        answer: Answer, announced: int, version: str) -> None:
    content = answer.content
    response = Response(answer.body(), headers={"Content-Length": str(announced)})
    planned = plan(request_head(version=version), response, True)
    result = transmit(planned, response.body)
    close_body(response.body)
    assert (planned.framing, planned.length) == (Framing.LENGTH, announced)

    head, separator, body = result.data.partition(b"\r\n\r\n")
    assert len(body) <= announced, f"{len(body)} bytes were sent of the {announced} announced"
    assert content.startswith(body)
    if len(content) == announced or (len(content) > announced and answer.form in FILES):  # that much of the file
        assert result.error is None
        assert body == content[:announced]
    else:
        assert result.error is not None, f"{len(content)} bytes for {announced} should have been an error"
        assert planned.started is bool(separator), "it has been sent, so nothing else can be answered"
        if separator and len(body) < announced:
            with pytest.raises(Truncated):
                parse_response(result.data, ended=True)
        elif not separator:
            assert head == b"", "half a head was sent"


@pytest.mark.parametrize(("given_length", "method", "announced"), [
    (None, "GET", "5"), ("5", "GET", "5"), ("3", "GET", "5"), ("9", "GET", "5"),
    (None, "HEAD", "5"), ("5", "HEAD", "5"), ("9", "HEAD", "9"),
])
def test_bytes_announce_their_real_length_except_that_head_may_announce_another(
        given_length: str | None, method: str, announced: str) -> None:
    response = Response(b"hello", headers={} if given_length is None else {"Content-Length": given_length})
    planned = plan(request_head(method), response, True)
    received, rest = parse_response(transmit(planned, response.body).data + NEXT, method, ended=False)
    assert received.header("content-length") == announced
    assert (received.body, rest) == (b"" if method == "HEAD" else b"hello", NEXT)


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("form", WHOLE + STREAMED + FILES)
def test_204_and_304_have_neither_body_nor_content_length(form: str, version: str, status: int) -> None:
    response = Response(Answer(form, [b"body"]).body(), status, {"Content-Length": "4"})
    planned = plan(request_head(version=version), response, True)
    data = transmit(planned, response.body).data
    close_body(response.body)
    assert data.endswith(b"\r\n\r\n")
    assert b"content-length" not in data
    assert b"transfer-encoding" not in data
    assert planned.keep_alive


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("form", WHOLE + STREAMED + FILES)
def test_205_has_no_body_and_says_so(form: str, version: str, method: str) -> None:
    """RFC 9110 section 15.3.6; a client that knows no 205 would wait for a body otherwise."""
    response = Response(Answer(form, [b"body"]).body(), 205, {"Content-Length": "4"})
    planned = plan(request_head(method, version), response, True)
    received, rest = parse_response(transmit(planned, response.body).data + NEXT, method, ended=False)
    close_body(response.body)
    assert (received.status, received.body, rest) == (205, b"", NEXT)
    assert (received.header("content-length"), received.header("transfer-encoding")) == ("0", None)
    assert planned.keep_alive


@pytest.mark.parametrize("status", [204, 205, 304])
def test_a_body_that_must_not_be_sent_is_not_read(status: int) -> None:
    def body() -> Iterator[bytes]:
        raise AssertionError("read in vain")
        yield b""

    response = Response(body(), status)
    assert transmit(plan(request_head(), response, True), response.body).sent == 0


@pytest.mark.parametrize("form", WHOLE + STREAMED + FILES)
def test_the_answer_to_head_has_the_headers_of_the_answer_to_get(form: str) -> None:
    def head(method: str) -> bytes:
        response = Response(Answer(form, [b"body"]).body())
        planned = plan(request_head(method), response, True)
        close_body(response.body)
        return b"\r\n".join(line for line in planned.head.split(b"\r\n") if not line.startswith(b"date:"))

    assert head("HEAD") == head("GET")


def test_the_body_of_an_answer_to_head_is_not_even_read() -> None:
    def body() -> Iterator[bytes]:
        raise AssertionError("read in vain")
        yield b""

    response = Response(body())
    assert transmit(plan(request_head("HEAD"), response, True), response.body).sent == 0


def test_a_date_from_the_handler_does_not_become_a_second_date() -> None:
    """RFC 9110 section 5.3: two of a header that is no list are an error; a client may take either."""
    try:
        response = Response("x", headers={"Date": "Thu, 01 Jan 1970 00:00:00 GMT"})
    except ValueError:
        return  # refused with the rest that is the server's business
    assert plan(request_head(), response, True).head.lower().count(b"\r\ndate:") == 1


# A response that has been changed since it was made: nothing can contradict its framing.

@pytest.mark.parametrize(("name", "value"), [
    (b"x", b"a\r\nset-cookie: b"), (b"x", b"a\nb"), (b"x", b"a\rb"), (b"x\r\ny", b"a"), (b"x", b"\n"),
    (b"x", b"\r\n\r\nHTTP/1.1 200 OK"), (b"content-length", b"-5"), (b"Content-Length", b"-5"),
    (b"content-length", b"many"), ("x", b"a"), (b"x", "a"), (b"x", None), (5, b"a"),
], ids=repr)
@pytest.mark.parametrize("body", [b"body", [b"body"]], ids=["bytes", "list"])
def test_a_header_that_was_smuggled_in_later_is_refused_too(body: Any, name: Any, value: Any) -> None:
    response = Response(body)
    response.headers.append((name, value))
    with pytest.raises((TypeError, ValueError, AttributeError)):
        plan(request_head(), response, True)


@pytest.mark.parametrize("name", ["Transfer-Encoding", "transfer-encoding", "CONNECTION", "Date", "Content-Length"])
@pytest.mark.parametrize("form", ["bytes", "list"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_header_that_is_the_servers_business_is_its_own_in_any_case(version: str, form: str, name: str) -> None:
    response = Response(Answer(form, [b"body"]).body())
    response.headers.append((name.encode(), b"4"))
    planned = plan(request_head(version=version), response, True)
    received, _ = parse_response(transmit(planned, response.body).data, ended=True)
    assert received.body == b"body"
    assert len([key for key, _ in received.headers if key == name.lower()]) <= 1
    assert received.header("connection") in (None, "close", "keep-alive")


@pytest.mark.parametrize("length", ["99999999999999999999", "9" * 5000], ids=["2**66", "5000 digits"])
def test_an_absurd_content_length_is_refused_or_is_a_body_that_ends_too_early(length: str) -> None:
    with temporary_file(b"hello") as file:
        try:
            response = Response(file, headers={"Content-Length": length})
        except ValueError:
            return
        result = transmit(plan(request_head(), response, True), response.body)
        assert result.error is not None


def test_a_compressed_file_object_is_sent_as_what_it_reads_as() -> None:
    """Its fileno() is that of the compressed file; its read() is not."""
    with tempfile.TemporaryFile() as plain:
        plain.write(gzip.compress(b"hello " * 100))
        plain.seek(0)
        with gzip.GzipFile(fileobj=plain) as unpacking:
            response = Response(unpacking)
            result = transmit(plan(request_head(), response, True), response.body)
    assert parse_response(result.data, ended=True)[0].body == b"hello " * 100


# Pieces that are no bytes, bodies that raise.

@pytest.mark.parametrize(("body", "started", "words"), [
    ([None], False, "yielded None (NoneType); yield bytes"),
    (["text"], False, "yielded 'text' (str); yield bytes"),
    ([b"x", "text"], True, "yielded 'text' (str); yield bytes"),
    ([b"", 5], False, "yielded 5 (int); yield bytes"),
    ([bytearray(b"x")], False, "yielded bytearray(b'x') (bytearray); yield bytes"),
    (io.StringIO("x"), False, "yielded 'x' (str); yield bytes"),
    (["x" * 10_000], False, "(str); yield bytes"),
], ids=["None", "str", "str as second", "int behind an empty one", "bytearray", "StringIO", "a long str"])
def test_a_piece_that_is_not_bytes_is_an_error_that_says_the_fix(body: Any, started: bool, words: str) -> None:
    response = Response(body)
    planned = plan(request_head(), response, True)
    result = transmit(planned, response.body)
    assert result.error is not None
    assert words in str(result.error)
    assert len(str(result.error)) < 250
    assert planned.started is started
    assert bool(result.data) is started


class Stop(BaseException):
    """Neither an Exception nor known to anybody."""


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1), KeyboardInterrupt(), Stop()], ids=repr)
@pytest.mark.parametrize("good", [0, 1, 3])
def test_what_a_body_raises_is_the_cause_and_what_was_sent_before_is_known(good: int, error: BaseException) -> None:
    def body() -> Iterator[bytes]:
        yield from [b"piece"] * good
        raise error

    response = Response(body())
    planned = plan(request_head(), response, True)
    result = transmit(planned, response.body)
    assert result.error is not None
    assert result.error.__cause__ is error
    assert planned.started is bool(good)
    assert result.data.count(b"piece") == good
    assert not result.data.endswith(LAST_CHUNK), "the client would take the half for the whole"


def test_a_file_that_shrinks_while_it_is_sent_is_a_visible_cut() -> None:
    with temporary_file(b"x" * 1000) as file:
        response = Response(file)
        planned = plan(request_head(), response, True)
        os.truncate(file.fileno(), 400)
        result = transmit(planned, response.body)
    assert result.error is not None
    assert planned.started
    assert "ended 600 bytes before its Content-Length" in str(result.error)
    with pytest.raises(Truncated):
        parse_response(result.data, ended=True)


def test_close_body_calls_close_where_there_is_one() -> None:
    calls: list[str] = []

    class Body:
        def close(self) -> None:
            calls.append("close")

        def __iter__(self) -> Iterator[bytes]:
            return iter([b"x"])

    close_body(Body())
    close_body(b"x")
    close_body([b"x"])
    assert calls == ["close"]


# How it goes out: as few system calls as the body allows.

class Recorder(socket.socket):
    """A socket that notes what `send` is called with."""

    calls: list[tuple[bytes, int]]
    most = 1 << 30
    """Bytes taken by one call."""
    waits = False
    """Every second call has to wait, and comes back at a tick: BlockingIOError."""

    @classmethod
    def pair(cls) -> tuple[Self, socket.socket]:
        server, client = socket.socketpair()
        recorder = cls(fileno=server.detach())
        recorder.calls = []
        return recorder, client

    def send(self, data: Any, flags: int = 0) -> int:
        self.calls.append((bytes(data), flags))
        if self.waits and len(self.calls) % 2:
            raise BlockingIOError
        return super().send(data[:self.most], flags)


def recorded(body: Any, *, method: str = "GET", headers: dict[str, str] | None = None) -> tuple[Recorder, Plan]:
    """Send a small response; the closed socket with what was called on it."""
    server, client = Recorder.pair()
    response = Response(body, headers=headers or {})
    planned = plan(request_head(method), response, True)
    with server, client:
        send(stream_over(server), planned, response.body)
    return server, planned


def test_a_small_body_goes_with_its_head_in_one_call() -> None:
    server, planned = recorded(b"hello")
    assert server.calls == [(planned.head + b"hello", 0)]


def test_a_large_body_is_not_copied_behind_its_head() -> None:
    body = b"x" * 70_000
    server, planned = recorded(body)
    assert server.calls == [(planned.head, socket.MSG_MORE), (body, 0)]


@pytest.mark.parametrize("waits", [False, True], ids=["at once", "after ticks"])
@pytest.mark.parametrize("body", [b"hello, world", b"x" * 66_000, [b"one", b"two"]], ids=["small", "large", "pieces"])
def test_whatever_the_socket_takes_at_a_time_everything_arrives_once_and_in_order(body: Any, waits: bool) -> None:
    server, client = Recorder.pair()
    server.most, server.waits = 1 if len(body) < 100 else 5000, waits
    response = Response(body)
    planned = plan(request_head(), response, True)
    with server, client:
        send(stream_over(server), planned, response.body)
        server.shutdown(socket.SHUT_WR)
        received, _ = parse_response(read_all(client), ended=True)
    assert received.body == (body if isinstance(body, bytes) else b"".join(body))


def test_a_client_that_is_gone_is_an_os_error_and_the_response_has_begun() -> None:
    server, client = socket.socketpair()
    planned = plan(request_head(), response := Response(b"hello"), True)
    with server:
        client.close()
        with pytest.raises(BrokenPipeError):
            send(stream_over(server), planned, response.body)
    assert planned.started


def test_the_head_goes_with_the_first_piece_and_an_empty_piece_is_not_the_end() -> None:
    server, planned = recorded([b"", b"one", b"", b"two"])
    assert server.calls == [(planned.head + b"3\r\none\r\n", 0), (b"3\r\ntwo\r\n", 0), (b"0\r\n\r\n", 0)]


def test_the_bytes_of_a_file_go_by_sendfile(monkeypatch: pytest.MonkeyPatch) -> None:
    real, counts = os.sendfile, []

    def sendfile(to: int, source: int, offset: int, count: int) -> int:
        counts.append(real(to, source, offset, count))
        return counts[-1]

    monkeypatch.setattr(os, "sendfile", sendfile)
    with temporary_file(b"x" * 1000) as file:
        server, planned = recorded(file)
    assert server.calls == [(planned.head, socket.MSG_MORE)]
    assert sum(counts) == 1000


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("make", [lambda: temporary_file(b""), lambda: b"", list, io.BytesIO],
                         ids=["file", "bytes", "list", "BytesIO"])
def test_an_empty_body_leaves_no_head_corked_in_the_kernel(make: Callable[[], Any], method: str) -> None:
    """MSG_MORE (send(2)) holds a partial segment back for up to 200 ms, until something follows; nothing does."""
    body = make()
    server, _ = recorded(body, method=method)
    close_body(body)
    assert server.calls[-1][1] & socket.MSG_MORE == 0, f"the last call was {server.calls[-1]}"


# The pieces themselves.

@given(st.binary(min_size=1, max_size=5000))
def test_a_chunk_is_its_size_in_hexadecimal_and_itself(data: bytes) -> None:
    size, data_then_end = chunk(data).split(b"\r\n", 1)
    assert int(size, 16) == len(data)
    assert data_then_end == data + b"\r\n"


@pytest.mark.parametrize("status", [400, 404, 408, 431, 500, 501, 503, 505])
def test_error_bytes_are_a_whole_response_that_ends_the_connection(status: int) -> None:
    received, rest = parse_response(error_bytes(status, phrase(status), b"retry-after: 1\r\n"), ended=False)
    assert (received.status, received.body, rest) == (status, f"{phrase(status)}\n".encode(), b"")
    assert received.keep_alive is False
    assert received.header("retry-after") == "1"
    assert received.header("content-type") == "text/plain; charset=utf-8"


def test_continue_is_an_interim_response() -> None:
    received, _ = parse_response(CONTINUE + error_bytes(404, "x"), ended=False)
    assert (received.interim, received.status) == ([100], 404)


@pytest.mark.parametrize(("status", "line"), [(200, b"HTTP/1.1 200 OK\r\n"), (418, b"HTTP/1.1 418 I'm a Teapot\r\n"),
                                              (599, b"HTTP/1.1 599 \r\n")])
def test_a_status_line_has_the_standard_phrase_or_none(status: int, line: bytes) -> None:
    assert plan(request_head(), Response(b"", status), True).head.startswith(line)
