"""One request and its response: whatever handler, body and client do, an answer is whole or its end is visible."""

from __future__ import annotations

import gc
import io
import logging
import os
import random
import select
import socket
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from acceptor import Limits, Violation
from acceptor.messages import BodyError, ClientDisconnectedError, Headers, HTTPError, Request, Response
from acceptor.phases import End, Phase
from acceptor.violations import Compliance
from tests.clients import PATIENCE, Gate, RawClient, access_lines, access_records, request
from tests.sessions import (
    DRIVERS,
    LARGE,
    SMALL,
    UNREAD,
    Body,
    Serve,
    driven_sessions,
    echo,
    endless,
    failures,
    only,
    refusals,
    sparse_file,
    transports,
)


@pytest.fixture(params=DRIVERS)
def serve(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[Serve]:
    yield from driven_sessions(request, caplog)


reads_while_it_comes = only("hold", "park")
"""A handler does, of the request's body. With "alone" it is called when the body is there."""


# What is left of it.

@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_request_that_is_over_is_gone_without_the_garbage_collector(serve: Serve, method: str) -> None:
    """With a circle of references in each, the collector would have to look for them all the time."""
    gone: list[weakref.ref[Request]] = []

    def handler(request: Request) -> bytes:
        gone.append(weakref.ref(request))
        return request.body.read()

    gc.disable()
    try:
        session = serve(handler)
        for _ in range(2):  # when the second has been answered the first is over for sure
            session.client.send(request(method=method, body=b"a body" if method == "POST" else None))
            assert session.client.read_response(method).status == 200
        assert gone[0]() is None
    finally:
        gc.enable()


class Knowing(Response):
    """One that knows the request that it answers."""

    request: Request


def test_a_response_that_knows_its_request_is_gone_with_it(serve: Serve) -> None:
    gone: list[weakref.ref[Request]] = []

    def handler(request: Request) -> Response:
        gone.append(weakref.ref(request))
        response = Knowing("ok")
        response.request = request
        return response

    gc.disable()
    try:
        session = serve(handler)
        for _ in range(2):
            session.client.send(request())
            assert session.client.read_response().body == b"ok"
        assert gone[0]() is None
    finally:
        gc.enable()


# What a handler makes of it.

def test_what_a_handler_sets_is_its_own_and_the_log_has_what_came(
        serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    def handler(request: Request) -> bytes:
        request.client = ("elsewhere", 1)
        request.scheme = "ftp"
        request.headers = Headers([(b"x-more", b"1")])
        request.body = io.BytesIO(b"another")
        return request.headers["X-More"].encode() + request.body.read()

    session = serve(handler, log_access=True)
    session.client.send(request(method="POST", body=b"a body"))
    assert session.client.read_response().body == b"1another"
    session.client.send(request(method="POST", body=b"a body"))  # what was not read of the first is not taken for it
    assert session.client.read_response().body == b"1another"
    session.client.close()
    session.join()
    came = session.connection.address[0], "http"
    assert [(record.client, record.scheme) for record in access_records(caplog)] == [came, came]


class Shrinking(Response):
    """As one that another thread changes, between two looks at it."""

    looks = 0

    @property
    def body(self) -> Any:
        self.looks += 1
        return b"xxx" if self.looks < 3 else b"xx"

    @body.setter
    def body(self, body: object) -> None:
        pass


@pytest.mark.parametrize("looks", range(6))
def test_no_response_goes_out_whose_length_is_not_that_of_its_body(serve: Serve, looks: int) -> None:
    def handler(request: Request) -> Response:
        response = Shrinking("xxx")
        response.looks = looks - 3
        return response

    session = serve(handler, may_fail=True)
    session.client.send(request() + request(headers=["Connection: close"]))
    received = b""
    with suppress(ConnectionResetError):  # it stops where it is: better than a length that is none
        received = session.client.read_to_end()
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 "), received
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        received = rest[length:]


@pytest.mark.parametrize("wrap", [lambda body: body, lambda body: iter(body.read, b"")], ids=["file", "pieces"])
def test_a_response_whose_body_is_the_request_s_waits_for_what_is_still_to_come(
        serve: Serve, wrap: Callable[[Any], Any]) -> None:
    session = serve(lambda request: Response(wrap(request.body)))
    head = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n"
    session.client.send(head + b"hello")
    session.await_recv(Phase.RECEIVING)
    session.client.send(b"world")
    assert session.client.read_response().body == b"helloworld"


# The client is gone.

@reads_while_it_comes
@pytest.mark.parametrize("expect", [[], ["Expect: 100-continue"]], ids=["", "expecting 100"])
@pytest.mark.parametrize("go", [RawClient.reset, RawClient.close, RawClient.half_close],
                         ids=["resets", "leaves", "sends no more"])
def test_a_handler_that_reads_learns_that_the_client_is_gone(
        serve: Serve, caplog: pytest.LogCaptureFixture, go: Callable[[RawClient], None], expect: list[str]) -> None:
    caught: list[BaseException] = []

    def handler(request: Request) -> str:
        try:
            request.body.read()
        except BaseException as error:
            caught.append(error)
            raise
        return "never"

    session = serve(handler)
    session.client.send(request(method="POST", headers=["Content-Length: 1000", *expect]) + b"some")
    session.await_recv(Phase.RECEIVING)
    go(session.client)
    session.await_end()
    assert [type(error) for error in caught] == [ClientDisconnectedError], caught
    assert failures(caplog) == []


@pytest.mark.parametrize("go", [RawClient.reset, RawClient.close], ids=["resets", "leaves"])
def test_a_handler_may_answer_a_client_that_is_gone(
        serve: Serve, caplog: pytest.LogCaptureFixture, go: Callable[[RawClient], None]) -> None:
    def handler(request: Request) -> str:
        try:
            request.body.read()
        except ConnectionError:
            pass
        return "nobody reads this"

    session = serve(handler)
    session.client.send(request(method="POST", headers=["Content-Length: 1000"]) + b"some")
    session.await_recv(Phase.RECEIVING)
    go(session.client)
    session.await_end()
    assert failures(caplog) == []


# The handler fails.

class Sudden(BaseException):
    """Neither an Exception nor known to anybody."""


SECRET = "secret-of-the-application"


@pytest.mark.parametrize("error", [
    ValueError, OSError, ConnectionResetError, TimeoutError, BlockingIOError, AssertionError, RecursionError,
    StopIteration, SystemExit, KeyboardInterrupt, GeneratorExit, Sudden,
])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_whatever_a_handler_raises_is_a_500_without_details_and_one_log_line_with_the_traceback(
        serve: Serve, caplog: pytest.LogCaptureFixture, error: type[BaseException], method: str) -> None:
    def handler(request: Request) -> str:
        if request.path == "/good":
            return "ok"
        raise error(SECRET)

    session = serve(handler, may_fail=True)
    session.client.send(request("/bad?page=1", method=method))
    received = session.client.read_response(method)
    assert received.status == 500
    assert received.body == (b"" if method == "HEAD" else b"Internal Server Error\n")
    assert SECRET not in str(received.headers)
    assert failures(caplog) == [f"{method} /bad?page=1 from 192.0.2.1:4711: the handler failed"]
    record, = (record for record in caplog.records if record.levelno >= logging.WARNING)
    assert record.name == "acceptor"
    assert record.exc_info is not None
    assert record.exc_info[0] is error
    assert SECRET in caplog.text
    assert "in handler" in caplog.text, "no traceback"

    session.client.send(request("/good"))
    assert session.client.read_response().body == b"ok", "a handler's failure does not cost the connection"


@pytest.mark.parametrize("error", [HTTPError(404), HTTPError(410, "gone"), HTTPError(401, headers={"X-Why": "no"})],
                         ids=str)
def test_an_http_error_is_an_answer_and_not_a_failure(
        serve: Serve, caplog: pytest.LogCaptureFixture, error: HTTPError) -> None:
    def handler(request: Request) -> str:
        raise error

    session = serve(handler)
    for _ in range(2):
        session.client.send(request())
        received = session.client.read_response()
        assert (received.status, received.body) == (error.status, error.response.body)
        assert received.keep_alive
    assert failures(caplog) == []


def test_the_connection_closes_after_the_answer_to_a_body_error(serve: Serve) -> None:
    """So says BodyError."""
    def handler(request: Request) -> str:
        request.body.read()
        raise BodyError(400, "this is not JSON")

    session = serve(handler)
    session.client.send(request(method="POST", body=b"?"))
    received = session.client.read_response()
    assert (received.status, received.body) == (400, b"this is not JSON\n")
    assert received.keep_alive is False


@reads_while_it_comes
@pytest.mark.parametrize("catch", [False, True], ids=["raised", "caught"])
@pytest.mark.parametrize("sent", [b"nonsense\r\n", b"3\r\nabcdef\r\n"], ids=["no size", "no end of a chunk"])
def test_a_malformed_body_is_answered_400_and_closes_the_connection_even_if_the_handler_catches_that(
        serve: Serve, caplog: pytest.LogCaptureFixture, sent: bytes, catch: bool) -> None:
    def handler(request: Request) -> str:
        try:
            request.body.read()
        except BodyError as error:
            if not catch:
                raise
            return f"caught {error.status}"
        return "never"

    session = serve(handler)
    session.client.send(request(method="POST", headers=["Transfer-Encoding: chunked"]) + sent + request("/smuggled"))
    received = session.client.read_response()
    assert (received.status, received.keep_alive) == (200 if catch else 400, False)
    assert received.body == (b"caught 400" if catch else b"Bad Request\n"), "the parser's words are internals"
    session.client.expect_eof()
    assert failures(caplog) == []


@reads_while_it_comes
def test_a_malformed_body_that_nobody_reads_closes_the_connection(serve: Serve) -> None:
    session = serve(lambda request: "not read")
    malformed = request(method="POST", headers=["Transfer-Encoding: chunked"]) + b"x\r\n"
    session.client.send(malformed + request("/smuggled"))
    received = session.client.read_response()
    assert (received.body, received.keep_alive) == (b"not read", False)
    session.client.expect_eof()


@pytest.mark.parametrize(("nonsense", "hint"), [
    (None, "did you forget `return`?"), (5, "return a str, bytes or acceptor.Response"),
    (("body", 404), "write Response(body, status, headers)"), (["x"], "wrap it: Response(...)"),
])
def test_a_handler_that_returns_nonsense_gets_a_500_and_the_fix_in_the_log(
        serve: Serve, caplog: pytest.LogCaptureFixture, nonsense: Any, hint: str) -> None:
    session = serve(lambda request: nonsense, may_fail=True)
    session.client.send(request())
    received = session.client.read_response()
    assert (received.status, received.body) == (500, b"Internal Server Error\n")
    assert hint in caplog.text
    assert len(failures(caplog)) == 1


def test_a_response_that_was_spoilt_after_it_was_made_is_a_500_and_its_body_is_closed(
        serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    body = Body(iter([b"x"]))

    def handler(request: Request) -> Response | str:
        if request.path == "/good":
            return "ok"
        response = Response(body)
        response.headers.append(("X-Text", "not bytes"))  # type: ignore[arg-type]
        return response

    session = serve(handler, may_fail=True)
    session.client.send(request("/bad") + request("/good"))
    received = session.client.read_response()
    assert (received.status, received.body) == (500, b"Internal Server Error\n")
    assert session.client.read_response().body == b"ok"
    assert len(failures(caplog)) == 1, failures(caplog)
    assert body.closings == 1


# The response's body fails.

def failing(good: int, error: BaseException) -> Iterator[bytes]:
    yield from [b"piece"] * good
    raise error


BODY_ERRORS = [ValueError, OSError, BrokenPipeError, TimeoutError, SystemExit, KeyboardInterrupt, GeneratorExit, Sudden]
FRAMINGS = {"chunked": ("1.1", {}), "length": ("1.1", {"Content-Length": "1000"}), "close": ("1.0", {})}


@pytest.mark.parametrize("error", BODY_ERRORS)
@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_body_that_fails_before_its_first_piece_is_a_500(
        serve: Serve, caplog: pytest.LogCaptureFixture, framing: str, error: type[BaseException]) -> None:
    version, headers = FRAMINGS[framing]
    body = Body(failing(0, error(SECRET)))
    session = serve(lambda request: Response(body, headers=headers), may_fail=True)
    session.client.send(request(version=version))
    received = session.client.read_response()
    assert (received.status, received.body) == (500, b"Internal Server Error\n")
    assert received.header("content-length") == "22"
    session.leave()
    assert body.closings == 1
    assert len(failures(caplog)) == 1, failures(caplog)
    assert "in failing" in caplog.text, "no traceback"


@pytest.mark.parametrize("error", BODY_ERRORS)
@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_body_that_fails_halfway_is_cut_so_that_the_client_sees_it(
        serve: Serve, caplog: pytest.LogCaptureFixture, framing: str, error: type[BaseException]) -> None:
    """With a body that ends where the connection does, only a reset is a cut that can be seen."""
    version, headers = FRAMINGS[framing]
    body = Body(failing(2, error(SECRET)))
    session = serve(lambda request: Response(body, headers=headers), may_fail=True)
    session.client.send(request(version=version))
    data = session.client.read_to_reset()
    assert SECRET.encode() not in data
    assert b"500" not in data
    session.await_end()
    assert body.closings == 1
    assert len(failures(caplog)) == 1, failures(caplog)
    assert "in failing" in caplog.text, "no traceback"


@pytest.mark.parametrize("error", [HTTPError(404), HTTPError(500, SECRET)], ids=str)
def test_an_http_error_halfway_is_a_failure_like_any_other(
        serve: Serve, caplog: pytest.LogCaptureFixture, error: HTTPError) -> None:
    """It comes too late to be an answer, so the log is the only one to tell."""
    session = serve(lambda request: Response(failing(1, error)), may_fail=True)
    session.client.send(request())
    assert SECRET.encode() not in session.client.read_to_reset()
    session.await_end()
    assert len(failures(caplog)) == 1, failures(caplog)


def test_an_http_error_before_the_first_piece_is_an_answer(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    body = Body(failing(0, HTTPError(404, "no such thing")))
    session = serve(lambda request: Response(body))
    session.client.send(request())
    received = session.client.read_response()
    assert (received.status, received.body) == (404, b"no such thing\n")
    session.leave()
    assert body.closings == 1
    assert failures(caplog) == []


@reads_while_it_comes
def test_a_malformed_request_body_that_a_response_reads_halfway_is_a_cut_and_no_failure(
        serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    session = serve(lambda request: Response(iter(lambda: request.body.read1(), b"")))
    session.client.send(request(method="POST", headers=["Transfer-Encoding: chunked"]) + b"3\r\nabc\r\n")
    session.client.read_head()
    session.client.send(b"nonsense\r\n")
    session.client.read_to_reset()
    session.await_end()
    assert failures(caplog) == []


@pytest.mark.parametrize(("pieces", "started"), [([], False), ([b"abc"], True), ([b"abcdefgh"], False),
                                                 ([b"abcd", b"efgh"], True)])
def test_a_body_that_is_not_as_long_as_announced_is_a_failure(
        serve: Serve, caplog: pytest.LogCaptureFixture, pieces: list[bytes], started: bool) -> None:
    session = serve(lambda request: Response(pieces, headers={"Content-Length": "5"}), may_fail=True)
    session.client.send(request())
    if started:
        data = session.client.read_to_reset()
        assert len(data.partition(b"\r\n\r\n")[2]) <= 5
    else:
        assert session.client.read_response().status == 500
    session.leave()
    assert len(failures(caplog)) == 1, failures(caplog)


def test_a_piece_that_is_not_bytes_is_a_500_and_the_fix_in_the_log(
        serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    session = serve(lambda request: Response(["text"]), may_fail=True)  # type: ignore[list-item]
    session.client.send(request())
    assert session.client.read_response().status == 500
    assert "yield bytes" in caplog.text


def test_a_malformed_request_body_that_the_responses_body_reads_is_answered_400_and_is_no_failure(
        serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """Reading `Request.body` raises BodyError, "answered 400 or 408", wherever the application reads it."""
    session = serve(lambda request: Response(iter(lambda: request.body.read1(), b"")))
    session.client.send(request(method="POST", headers=["Transfer-Encoding: chunked"]) + b"nonsense\r\n")
    assert session.client.read_response().status == 400
    session.leave()
    assert failures(caplog) == []


# Closing the response's body.

def body_cases() -> dict[str, tuple[str, int, Iterator[bytes]]]:
    return {
        "sent": ("GET", 200, iter([b"a", b"b"])),
        "empty": ("GET", 200, iter([])),
        "HEAD": ("HEAD", 200, iter([b"a"])),
        "204": ("GET", 204, iter([b"a"])),
        "304": ("GET", 304, iter([b"a"])),
    }


@pytest.mark.parametrize("case", body_cases())
def test_a_body_that_is_sent_or_not_wanted_is_closed_once_before_the_next_request(serve: Serve, case: str) -> None:
    method, status, pieces = body_cases()[case]
    body = Body(pieces)
    session = serve(lambda request: Response(body, status) if request.path == "/" else str(body.closings))
    session.client.send(request(method=method))
    session.client.read_response(method)
    session.client.send(request("/closed"))
    assert session.client.read_response().body == b"1"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_file_is_sent_and_closed_once(serve: Serve, method: str) -> None:
    file = sparse_file(1000)
    session = serve(lambda request: Response(file) if request.path == "/" else str(file.closings))
    session.client.send(request(method=method))
    received = session.client.read_response(method)
    assert received.header("content-length") == "1000"
    assert received.body == (b"\0" * 1000 if method == "GET" else b"")
    session.client.send(request("/closed"))
    assert session.client.read_response().body == b"1"


def test_a_close_that_raises_is_logged_once_and_costs_nothing_else(
        serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    class Unclosable(Body):
        def close(self) -> None:
            super().close()
            raise SystemExit(SECRET)

    body = Unclosable(iter([b"ok"]))
    session = serve(lambda request: Response(body) if request.path == "/" else "still here", may_fail=True)
    session.client.send(request() + request("/next"))
    assert session.client.read_response().body == b"ok"
    assert session.client.read_response().body == b"still here"
    assert failures(caplog) == ["GET / from 192.0.2.1:4711: the body's close() failed"]
    assert body.closings == 1


def test_a_generators_finally_runs_when_the_client_has_gone(serve: Serve) -> None:
    finished = Gate("the generator's finally")

    def generate() -> Iterator[bytes]:
        try:
            yield from endless()
        finally:
            finished.open()

    session = serve(lambda request: Response(generate()))
    session.client.send(request())
    session.client.read_head()
    session.client.reset()
    finished.pass_through()


# A response goes out while it is made, and no faster than it is taken.

@transports
def test_the_phase_tells_whether_a_piece_is_made_or_taken(serve: Serve, tls: bool) -> None:
    phases: list[Phase] = []

    def pieces() -> Iterator[bytes]:
        for _ in range(20):
            phases.append(session.phase)
            yield b"x" * 10_000
        phases.append(session.phase)

    session = serve(lambda request: Response(pieces()), tls=tls, buffer=SMALL)
    session.client.send(request())
    session.client.read_head()
    session.await_tick()
    assert session.phase is Phase.WRITING, "the client does not read"
    assert len(session.client.read_response().body) == 200_000
    assert phases == [Phase.STREAMING] * 21
    session.await_recv(Phase.IDLE)


@reads_while_it_comes
@transports
def test_the_phase_tells_that_a_response_reads_the_requests_body(serve: Serve, tls: bool) -> None:
    phases: list[Phase] = []

    def pieces(request: Request) -> Iterator[bytes]:
        while piece := request.body.read1():
            phases.append(session.phase)
            yield piece

    session = serve(lambda request: Response(pieces(request)), tls=tls)
    session.client.send(request(method="POST", headers=["Content-Length: 4"]))
    for count in (1, 2):
        session.await_recv(Phase.RECEIVING, count)
        session.client.send(b"ab")
    assert session.client.read_response("POST").body == b"abab"
    assert phases == [Phase.STREAMING] * 2


def test_the_phase_of_a_file_is_writing(serve: Serve) -> None:
    session = serve(lambda request: Response(sparse_file(LARGE)))
    session.client.send(request())
    session.client.read_head()
    assert session.phase is Phase.WRITING


@transports
def test_an_iterator_is_asked_for_no_more_than_the_client_takes(serve: Serve, tls: bool) -> None:
    made = 0

    def pieces() -> Iterator[bytes]:
        nonlocal made
        while True:
            made += 4096
            yield b"x" * 4096

    session = serve(lambda request: Response(pieces()), tls=tls, buffer=SMALL)
    session.client.send(request())
    session.client.read_head()
    before = 0
    for _ in range(3):
        session.await_tick()  # it waits for room
        assert before < made < before + 300_000, "what all the buffers hold"
        before = made
        session.client.read_body(100_000)
    session.client.reset()


@transports
@pytest.mark.parametrize("piece", [b"event", b"x" * 100_000], ids=["small", "large"])
def test_a_piece_arrives_before_the_next_is_made(serve: Serve, piece: bytes, tls: bool) -> None:
    arrived = threading.Semaphore(0)

    def pieces() -> Iterator[bytes]:
        for _ in range(3):
            yield piece
            assert arrived.acquire(timeout=PATIENCE), "the client has not got it"

    session = serve(lambda request: Response(pieces()), tls=tls)
    session.client.send(request())
    session.client.read_head()
    for _ in range(3):
        assert session.client.read_body(len(piece)) == piece
        arrived.release()


@transports
@pytest.mark.parametrize("size", [0, 1, 300_000, 5_000_000])
def test_a_file_goes_by_sendfile_and_over_tls_it_is_read(
        serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, size: int, tls: bool) -> None:
    calls: list[int] = []
    sendfile = os.sendfile

    def watched(to: int, file: int, offset: int, count: int) -> int:
        calls.append(count)
        return sendfile(to, file, offset, count)

    monkeypatch.setattr(os, "sendfile", watched)
    content = random.Random(size).randbytes(size)
    (tmp_path / "file").write_bytes(b"before" + content)

    def handler(request: Request) -> Response:
        file = open(tmp_path / "file", "rb")  # noqa: SIM115  # it is the server's to close
        file.seek(6)
        return Response(file)

    session = serve(handler, tls=tls)
    for _ in range(2):
        session.client.send(request())
        received = session.client.read_response()
        assert received.header("content-length") == str(size)
        assert received.body == content
    assert bool(calls) == (size > 0 and not tls)
    assert max(calls, default=0) <= 1 << 18, "in one call the kernel may wait for as long as that takes"


# 100 Continue.

EXPECT = ["Expect: 100-continue", "Content-Length: 5"]


@reads_while_it_comes
def test_100_continue_is_sent_when_the_body_is_first_read_and_once(serve: Serve) -> None:
    entered, read = Gate("the handler runs"), Gate("the body may be read")

    def handler(request: Request) -> bytes:
        entered.open()
        read.pass_through()
        return request.body.read(2) + b"|" + request.body.read(2) + b"|" + request.body.read()

    session = serve(handler)
    session.client.send(request(method="POST", headers=EXPECT))
    entered.pass_through()
    assert session.client.has_received() == b"", "sent before the handler wanted the body"
    read.open()
    assert session.client.read_interim() == 100
    session.client.send(b"he")
    session.client.send(b"llo")
    received = session.client.read_response()
    assert (received.interim, received.status, received.body) == ([100], 200, b"he|ll|o")
    assert received.keep_alive
    session.client.send(request(method="POST", body=b"x"))
    assert session.client.read_response().interim == []


@reads_while_it_comes
def test_100_continue_is_not_sent_when_nobody_reads_the_body_and_the_connection_closes(serve: Serve) -> None:
    """Whether the client then sends its body cannot be known, so what follows on the connection cannot be read."""
    session = serve(lambda request: Response("no", 403))
    session.client.send(request(method="POST", headers=EXPECT))
    received = session.client.read_response()
    assert (received.interim, received.status, received.keep_alive) == ([], 403, False)
    session.client.expect_eof()


def test_100_continue_is_not_sent_to_a_client_of_1_0(serve: Serve) -> None:
    session = serve(echo)
    session.client.send(request(method="POST", version="1.0", headers=EXPECT))
    session.await_recv(Phase.RECEIVING)
    assert session.client.has_received() == b""
    session.client.send(b"hello")
    assert session.client.read_response().body == b"hello"


def test_a_client_that_does_not_wait_for_100_continue_is_served_all_the_same(serve: Serve) -> None:
    session = serve(echo)
    session.client.send(request(method="POST", headers=EXPECT) + b"hello" + request("/next"))
    assert session.client.read_response().body == b"hello"
    assert session.client.read_response().status == 200


def test_100_continue_is_sent_before_a_response_that_reads_the_body(serve: Serve) -> None:
    session = serve(lambda request: Response(iter(lambda: request.body.read1(), b"")))
    session.client.send(request(method="POST", headers=EXPECT))
    assert session.client.read_interim() == 100
    session.client.send(b"hello")
    assert session.client.read_response().body == b"hello"


@reads_while_it_comes
@pytest.mark.parametrize("framing", FRAMINGS)
def test_100_continue_is_never_sent_into_a_response_that_has_begun(serve: Serve, framing: str) -> None:
    version, headers = FRAMINGS[framing]
    if headers:
        headers = {"Content-Length": "10"}

    def handler(request: Request) -> Response:
        def pieces() -> Iterator[bytes]:
            yield b"first"
            yield request.body.read()

        return Response(pieces(), headers=headers)

    session = serve(handler)
    session.client.send(request(method="POST", version=version, headers=EXPECT))
    session.client.read_head("POST")
    assert session.client.read_body(5) == b"first"
    session.client.send(b"hello")
    assert session.client.read_response().body == b"hello"  # what is left of it


# Bodies of requests that nobody reads.

@pytest.mark.parametrize("streamed", [False, True], ids=["bytes", "streamed"])
@pytest.mark.parametrize("part", [0, 1, 500], ids=lambda part: f"{part} bytes read")
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_small_body_that_nobody_reads_costs_nothing(serve: Serve, framing: str, part: int, streamed: bool) -> None:
    def handler(request: Request) -> Response:
        request.body.read(part)
        return Response(iter([b"ok"]) if streamed else b"ok")

    session = serve(handler)
    body: dict[str, Any] = {"body": b"x" * 1000} if framing == "length" else {"chunks": [b"x" * 500] * 2}
    for _ in range(2):
        session.client.send(request(method="POST", **body))
        received = session.client.read_response()
        assert (received.body, received.keep_alive) == (b"ok", True)


@reads_while_it_comes
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_large_body_that_nobody_reads_closes_the_connection_after_an_answer_that_can_be_read(
        serve: Serve, framing: str) -> None:
    session = serve(lambda request: Response("too large", 413))
    body: dict[str, Any] = ({"body": b"x" * UNREAD} if framing == "length" else
                            {"chunks": [b"x" * 4096] * (UNREAD // 4096)})
    session.client.send(request(method="POST", **body))  # all of it, before the answer is read
    received = session.client.read_response()
    assert (received.status, received.body, received.keep_alive) == (413, b"too large", False)
    session.client.expect_eof()


@reads_while_it_comes
def test_a_large_body_that_nobody_reads_leaves_a_streamed_answer_that_can_be_read(serve: Serve) -> None:
    session = serve(lambda request: Response(iter([b"too ", b"large"]), 413))
    session.client.send(request(method="POST", body=b"x" * UNREAD))
    received = session.client.read_response()
    assert (received.status, received.body) == (413, b"too large")
    session.client.expect_eof()


@reads_while_it_comes
@pytest.mark.parametrize("lines", [["Content-Length: 9"], ["Content-Length: 9000000"], ["Transfer-Encoding: chunked"]],
                         ids=["small", "large", "chunked"])
def test_the_answer_to_a_body_that_nobody_reads_does_not_wait_for_it(serve: Serve, lines: list[str]) -> None:
    """A client may wait for the answer before it goes on sending."""
    session = serve(lambda request: Response("no", 403))
    session.client.send(request(method="POST", headers=lines))
    received = session.client.read_response()
    assert (received.body, received.keep_alive) == (b"no", False)
    session.client.expect_eof()


@reads_while_it_comes
def test_an_answer_waits_for_a_body_that_nobody_reads_no_longer_than_in_all(serve: Serve) -> None:
    """And not as long again for each byte."""
    session = serve(lambda request: "not read", limits=Limits(chunk_extensions=1 << 20))
    session.client.send(request(method="POST", headers=["Transfer-Encoding: chunked"]) + b"1;")
    trickled = 0
    while not select.select([session.client.sock], [], [], 0.01)[0]:
        session.client.send(b"x")
        trickled += 1
        assert trickled < 1000, "the answer waits for each byte"
    assert session.client.read_response("POST").body == b"not read"


@reads_while_it_comes
def test_an_answer_over_tls_does_not_wait_for_the_rest_of_a_record_that_nobody_reads(serve: Serve) -> None:
    session = serve(lambda request: "not read", tls=True)
    session.client.send(request(method="POST", headers=["Content-Length: 9"]))
    socket.socket.send(session.client.sock, b"\x17\x03\x03\x01\x00half of it")
    received = session.client.read_response("POST")
    assert (received.body, received.keep_alive) == (b"not read", False)


# The request's body, when the request is over.

@pytest.mark.parametrize("touched", [False, True], ids=["never touched", "touched before"])
@pytest.mark.parametrize("read", [lambda body: body.read(), lambda body: body.read(1), lambda body: body.read1(),
                                  lambda body: list(body)], ids=["read()", "read(1)", "read1()", "iteration"])
def test_a_body_cannot_be_read_after_the_response(serve: Serve, read: Callable[[Any], object], touched: bool) -> None:
    kept: list[Request] = []

    def handler(request: Request) -> str:
        kept.append(request)
        if touched:
            request.body  # noqa: B018  # which makes it
        return "ok"

    session = serve(handler)
    session.client.send(request(method="POST", body=b"hello") + request("/next", method="POST", body=b"other"))
    session.client.read_response()
    session.client.read_response()
    session.await_recv(Phase.IDLE)
    for one in kept:
        with pytest.raises(ValueError, match="the request is over; read its body before the response has been sent"):
            read(one.body)


def test_a_body_cannot_be_read_after_the_response_although_the_next_request_has_come(serve: Serve) -> None:
    kept: list[Request] = []
    caught: list[Exception] = []

    def handler(request: Request) -> bytes:
        kept.append(request)
        if request.path == "/second":
            try:
                return kept[0].body.read()
            except ValueError as error:
                caught.append(error)
        return request.body.read() if request.path == "/second" else b"first"

    session = serve(handler)
    session.client.send(request("/first", method="POST", body=b"hello")
                        + request("/second", method="POST", body=b"mine"))
    assert session.client.read_response().body == b"first"
    assert session.client.read_response().body == b"mine"
    assert len(caught) == 1


def test_a_handler_may_close_the_body(serve: Serve) -> None:
    def handler(request: Request) -> bytes:
        with request.body as body:
            return body.read(2)

    session = serve(handler)
    for _ in range(2):
        session.client.send(request(method="POST", body=b"hello"))
        received = session.client.read_response()
        assert (received.body, received.keep_alive) == (b"he", True)


# How a body ends.

@reads_while_it_comes
@transports
def test_trailers_can_be_read_behind_the_body(serve: Serve, tls: bool) -> None:
    def handler(request: Request) -> str:
        before = dict(request.trailers)
        body = request.body.read()
        return f"{before} {body!r} {dict(request.trailers)} {request.trailers.get_all('X-Two')}"

    session = serve(handler, tls=tls)
    session.client.send(request(method="POST", headers=["Transfer-Encoding: chunked"])
                        + b"2\r\nhi\r\n0\r\nX-One: 1\r\nX-Two: a\r\nx-two: b\r\n\r\n"
                        + request("/next", method="POST", chunks=[b"x"]) + request("/none"))
    answers = [session.client.read_response().body for _ in range(3)]
    assert answers == [b"{} b'hi' {'x-one': '1', 'x-two': 'a, b'} ['a', 'b']", b"{} b'x' {} []", b"{} b'' {} []"]


@transports
@pytest.mark.parametrize("expect", [[], ["Expect: 100-continue"]], ids=["", "expecting 100"])
def test_a_body_that_is_announced_as_too_large_is_refused_before_it_is_sent(
        serve: Serve, expect: list[str], tls: bool) -> None:
    session = serve(lambda request: pytest.fail("the handler was called"), limits=Limits(body=10), tls=tls)
    session.client.send(request(method="POST", headers=["Content-Length: 11", *expect]))
    received = session.client.read_response("POST")
    assert (received.interim, received.status, received.keep_alive) == ([], 413, False)
    session.client.expect_eof()
    assert session.await_end() is End.LINGER


def test_the_refusal_of_a_body_that_is_too_large_can_be_read_although_it_is_being_sent(serve: Serve) -> None:
    session = serve(echo, limits=Limits(body=10))
    session.client.send(request(method="POST", body=b"x" * UNREAD))
    assert session.client.read_response("POST").status == 413
    session.client.expect_eof()


def test_a_body_of_the_limit_is_not_too_large(serve: Serve) -> None:
    session = serve(echo, limits=Limits(body=10))
    session.client.send(request(method="POST", body=b"x" * 10) + request(method="POST", chunks=[b"x" * 5] * 2))
    assert [session.client.read_response().body for _ in range(2)] == [b"x" * 10] * 2


@reads_while_it_comes
@transports
@pytest.mark.parametrize("catch", [False, True], ids=["raised", "caught"])
def test_a_body_that_becomes_too_large_is_refused_while_it_is_read(serve: Serve, catch: bool, tls: bool) -> None:
    caught: list[int] = []

    def handler(request: Request) -> str:
        assert request.body.read(5) == b"x" * 5
        try:
            request.body.read()
        except BodyError as error:
            caught.append(error.status)
            if not catch:
                raise
        return "caught"

    session = serve(handler, limits=Limits(body=10), tls=tls)
    session.client.send(request(method="POST", chunks=[b"x" * 5] * 3) + request("/smuggled"))
    received = session.client.read_response("POST")
    assert (received.status, received.keep_alive) == (200 if catch else 413, False)
    assert caught == [413]
    session.client.expect_eof()


@reads_while_it_comes
def test_a_body_that_is_refused_is_refused_again_and_counted_once(
        serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    statuses: list[int] = []

    def handler(request: Request) -> str:
        for _ in range(3):
            try:
                request.body.read()
            except BodyError as error:
                statuses.append(error.status)
        return "all the same"

    compliance = Compliance()
    session = serve(handler, compliance=compliance)
    session.client.send(request(method="POST", headers=["Transfer-Encoding: chunked"]) + b"1 \r\nx\r\n0\r\n\r\n")
    received = session.client.read_response("POST")
    assert (received.body, received.keep_alive) == (b"all the same", False)
    assert statuses == [400] * 3
    assert compliance.counts == {Violation.CHUNK_SPACE: 1}
    assert len(refusals(caplog)) == 1


@reads_while_it_comes
def test_a_body_is_read_while_it_comes(serve: Serve) -> None:
    pieces: list[bytes] = []
    one = threading.Semaphore(0)

    def handler(request: Request) -> str:
        while piece := request.body.read1():
            pieces.append(piece)
            one.release()
        return "done"

    session = serve(handler)
    session.client.send(request(method="POST", headers=["Content-Length: 6"]))
    for piece in (b"ab", b"c", b"def"):
        session.client.send(piece)
        assert one.acquire(timeout=PATIENCE), f"the handler did not get {piece!r} before the next was sent: {pieces}"
    assert pieces == [b"ab", b"c", b"def"]
    assert session.client.read_response().body == b"done"


# The access log.


def test_each_response_is_a_line_of_the_access_log(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    answers: dict[str, Callable[[], Any]] = {
        "/bytes?q=1": lambda: "hello",
        "/pieces": lambda: Response(iter([b"a", b"bc"])),
        "/file": lambda: Response(sparse_file(1000)),
        "/empty": lambda: Response(b"", 204),
        "/missing": lambda: Response("no", 404),
        "/nonsense": lambda: None,
    }
    session = serve(lambda request: answers[request.target](), log_access=True, may_fail=True)
    for target in answers:
        session.client.send(request(target))
        session.client.read_response()
    session.client.send(request("/bytes?q=1", method="HEAD"))
    session.client.read_response("HEAD")
    session.client.send(request("/bytes?q=1", version="1.0"))
    session.client.read_response()
    session.await_end()
    assert access_lines(caplog) == [
        '192.0.2.1 "GET /bytes?q=1 HTTP/1.1" 200 5',
        '192.0.2.1 "GET /pieces HTTP/1.1" 200 3',
        '192.0.2.1 "GET /file HTTP/1.1" 200 1000',
        '192.0.2.1 "GET /empty HTTP/1.1" 204 -',
        '192.0.2.1 "GET /missing HTTP/1.1" 404 2',
        '192.0.2.1 "GET /nonsense HTTP/1.1" 500 22',
        '192.0.2.1 "HEAD /bytes?q=1 HTTP/1.1" 200 -',
        '192.0.2.1 "GET /bytes?q=1 HTTP/1.0" 200 5',
    ]


def test_the_access_log_has_the_status_that_was_sent_when_the_body_failed(
        serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    session = serve(lambda request: Response(failing(0, ValueError())), log_access=True, may_fail=True)
    session.client.send(request())
    assert session.client.read_response().status == 500
    session.leave()
    assert access_lines(caplog) == ['192.0.2.1 "GET / HTTP/1.1" 500 22']


@pytest.mark.parametrize("pushed", [False, True], ids=["iterated", "pushed"])
def test_a_response_that_is_cut_short_is_marked_in_the_access_log(
        serve: Serve, caplog: pytest.LogCaptureFixture, pushed: bool) -> None:
    def handler(request: Request) -> Response:
        response = Response(failing(3, ValueError()), headers={"Content-Length": "100"})
        if pushed:
            response.body = b""
            request.begin(response)(b"pushed")
            raise ValueError
        return response

    session = serve(handler, log_access=True, may_fail=True)
    session.client.send(request())
    session.await_end()
    [record] = access_records(caplog)
    assert (record.status, record.complete) == (200, False)
    assert 0 < record.sent < 100


def test_a_client_that_leaves_before_its_answer_is_a_line_of_the_access_log(
        serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    session = serve(lambda request: request.body.read(), log_access=True)
    session.client.send(request(method="POST", headers=["Content-Length: 100"]) + b"half of it")
    session.client.close()
    session.await_end()
    [record] = access_records(caplog)
    assert (record.status, record.sent, record.complete) == (499, 0, False)


def test_there_is_no_access_log_unless_it_is_asked_for(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    session = serve(echo)
    session.client.send(request())
    session.client.read_response()
    session.leave()
    assert access_lines(caplog) == []
