"""One connection's life, without acceptor or taskmaster: what a client does at every stage, and what a handler does.

A `Session` serves one end of a TCP connection in a thread; the test is the client at the other. Where the test must
know how far the server is, it waits at the socket (`await_recv`) or in the handler (`Gate`): nothing sleeps.
"""

from __future__ import annotations

import io
import logging
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import pytest

from acceptor.connection import Connection, Phase
from acceptor.messages import BodyError, ClientDisconnectedError, Handler, HTTPError, Request, Response
from tests.clients import PATIENCE, Gate, RawClient, Truncated, request, tcp_pair

LARGE = 32 * 1024 * 1024
"""Bytes that no pair of socket buffers holds, so that whoever sends them waits for the other to read."""
UNREAD = 1024 * 1024
"""Bytes of a request's body that the server does not throw away for the sake of the connection."""
SHORT = 0.05
"""Seconds of silence that the server tolerates where a test is about that."""


class WatchedSocket(socket.socket):
    """A socket that says when somebody is about to wait for input."""

    before_recv: Callable[[], None]

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        if not flags:
            self.before_recv()
        return super().recv(size, flags)


class Session:
    """A connection that is served in a thread, and its client."""

    def __init__(self, handler: Handler, *, stopping: Callable[[], bool] = lambda: False, log_access: bool = False,
                 receive_timeout: float = 6 * PATIENCE, send_timeout: float = 6 * PATIENCE) -> None:
        ours, theirs = tcp_pair()
        self.client = RawClient(ours)
        sock = WatchedSocket(fileno=theirs.detach())
        for option, timeout in (socket.SO_RCVTIMEO, receive_timeout), (socket.SO_SNDTIMEO, send_timeout):
            interval = struct.pack("ll", int(timeout), int(timeout % 1 * 1e6))
            sock.setsockopt(socket.SOL_SOCKET, option, interval)
        sock.before_recv = self._before_recv
        self.connection = Connection(sock, ("192.0.2.1", 4711), handler, stopping, log_access)
        self.receiving: list[Phase] = []
        """The phase at each `recv`, in order."""
        self._receiving_changed = threading.Condition()
        self._raised: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name="session", daemon=True)
        self._thread.start()

    def await_recv(self, phase: Phase, count: int = 1) -> None:
        """Wait until the server has begun to wait for input in `phase`, for the `count`th time."""
        with self._receiving_changed:
            begun = self._receiving_changed.wait_for(lambda: self.receiving.count(phase) >= count, PATIENCE)
            assert begun, f"the server never waited for input {count} times while {phase}, only while {self.receiving}"

    def leave(self) -> None:
        """Let the client close its end, and wait until the server has done with the connection."""
        self.client.close()
        self.await_end()

    def await_end(self) -> None:
        """Wait until the server has done with the connection; it must not have raised anything."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), f"the server still serves {self.connection}; received in {self.receiving}"
        assert self._raised is None, f"serve() raised {self._raised!r}; whatever happens, it must not"

    def _before_recv(self) -> None:
        with self._receiving_changed:
            self.receiving.append(self.connection.phase)
            self._receiving_changed.notify_all()

    def _serve(self) -> None:
        try:
            self.connection.serve()
        except BaseException as error:
            self._raised = error
        finally:
            self.connection.close()


class Serve(Protocol):
    def __call__(self, handler: Handler, **options: Any) -> Session: ...


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start sessions. At the end their clients leave, and the server must be done with each."""
    sessions: list[Session] = []

    def start(handler: Handler, **options: Any) -> Session:
        sessions.append(Session(handler, **options))
        return sessions[-1]

    yield start
    for session in sessions:
        session.client.close()
    for session in sessions:
        session.await_end()


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "acceptor")
    return caplog


def failures(log: pytest.LogCaptureFixture) -> list[str]:
    """What was logged as more than a client's doing."""
    return [record.getMessage() for record in log.records if record.levelno >= logging.WARNING]


class Body:
    """A response's body, of `pieces`, which may be endless or raise. Notes how often it is closed."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self.closings = 0

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces

    def close(self) -> None:
        self.closings += 1


def endless() -> Iterator[bytes]:
    while True:
        yield b"x" * 65536


class CountedFile(io.FileIO):
    """A real file that notes how often it is closed."""

    closings = 0

    def close(self) -> None:
        if not self.closed:
            self.closings += 1
        super().close()


def sparse_file(size: int) -> CountedFile:
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(size)
        return CountedFile(file.name)


# The good cases.

def echo(request: Request) -> bytes:
    return request.body.read()


@pytest.mark.parametrize("cuts", [[], [1], [20], [10, 20, 30, 60]], ids=str)
def test_a_request_is_answered_however_it_is_cut(serve: Serve, cuts: list[int]) -> None:
    session = serve(echo)
    data = request(method="POST", body=b"hello")
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        session.client.send(data[start:end])
    assert session.client.read_response().body == b"hello"


def test_requests_sent_at_once_are_answered_in_order(serve: Serve) -> None:
    session = serve(lambda request: f"{request.path} {request.body.read().decode()}")
    session.client.send(request("/1") + request("/2", method="POST", body=b"two")
                        + request("/3", method="POST", chunks=[b"thr", b"ee"]) + request("/4", method="HEAD")
                        + request("/5"))
    bodies = [session.client.read_response("HEAD" if n == 4 else "GET").body for n in range(1, 6)]
    assert bodies == [b"/1 ", b"/2 two", b"/3 three", b"", b"/5 "]


def test_a_request_says_who_sent_it_and_how(serve: Serve) -> None:
    seen: list[Request] = []
    session = serve(lambda request: seen.append(request) or "x")  # type: ignore[func-returns-value]
    session.client.send(request("/a?b", method="PUT", headers=["X-One: 1", "x-one: 2"], body=b""))
    session.client.read_response()
    one, = seen
    assert (one.method, one.target, one.version, one.scheme) == ("PUT", "/a?b", "1.1", "http")
    assert one.peer == ("192.0.2.1", 4711)
    assert one.headers["x-one"] == "1, 2"


def test_a_client_that_sends_no_more_still_gets_its_answer(serve: Serve) -> None:
    session = serve(echo)
    session.client.send(request(method="POST", body=b"hello"))
    session.client.half_close()
    assert session.client.read_response().body == b"hello"
    session.client.expect_eof()


@pytest.mark.parametrize(("version", "lines", "stays"), [
    ("1.1", [], True), ("1.1", ["Connection: close"], False),
    ("1.0", [], False), ("1.0", ["Connection: keep-alive"], True),
])
@pytest.mark.parametrize("streamed", [False, True])
def test_the_connection_is_kept_if_the_client_wants_that(
        serve: Serve, version: str, lines: list[str], stays: bool, streamed: bool) -> None:
    headers = {"Content-Length": "2"} if streamed else {}
    session = serve(lambda request: Response(iter([b"o", b"k"]) if streamed else b"ok", headers=headers))
    for _ in range(2 if stays else 1):
        session.client.send(request(version=version, headers=lines))
        received = session.client.read_response()
        assert (received.body, received.keep_alive) == (b"ok", stays)
    if not stays:
        session.client.expect_eof()


def test_a_body_of_unknown_length_ends_with_the_connection_for_a_client_of_1_0(serve: Serve) -> None:
    session = serve(lambda request: Response(iter([b"o", b"k"])))
    session.client.send(request(version="1.0", headers=["Connection: keep-alive"]))
    received = session.client.read_response()
    assert (received.body, received.keep_alive) == (b"ok", False)
    assert received.header("transfer-encoding") is None


def test_a_handler_can_have_the_connection_closed(serve: Serve) -> None:
    session = serve(lambda request: Response("bye", headers={"Connection": "close"}))
    session.client.send(request())
    assert session.client.read_response().keep_alive is False
    session.client.expect_eof()


def test_a_request_pipelined_behind_the_last_answer_does_not_turn_the_close_into_a_reset(serve: Serve) -> None:
    """A reset throws away what the client has not read yet: RFC 9112 section 9.6."""
    entered, leave = Gate("the handler runs"), Gate("the second request has been sent")

    def handler(request: Request) -> Response:
        entered.open()
        leave.pass_through()
        return Response("bye", headers={"Connection": "close"})

    session = serve(handler)
    session.client.send(request("/1"))
    entered.pass_through()
    session.client.send(request("/2"))
    leave.open()
    assert session.client.read_response().body == b"bye"
    session.client.expect_eof()


# The client is gone: at every stage, in order or by a reset.

class Stages:
    """Brings a session to a stage of its life, where its client leaves by `go`."""

    def __init__(self, serve: Serve, go: Callable[[RawClient], None]) -> None:
        self._serve = serve
        self._go = go
        self.bodies: list[Body | CountedFile] = []
        self._entered, self._left = Gate("the handler runs"), Gate("the client is gone")

    def reach(self, stage: str) -> Session:
        session = self._serve(self._handle)
        self._session, self._client = session, session.client
        getattr(self, stage)()
        self._go(session.client)
        self._left.open()
        session.await_end()
        return session

    def before_the_first_byte(self) -> None:
        self._session.await_recv(Phase.FRESH)

    def in_the_head(self) -> None:
        self._client.send(b"GET / HTTP/1.1\r\nHo")
        self._session.await_recv(Phase.READING)

    def before_the_body(self) -> None:
        self._client.send(request("/read", method="POST", headers=["Content-Length: 1000"]))
        self._session.await_recv(Phase.HANDLING)

    def in_the_body(self) -> None:
        self._client.send(request("/read", method="POST", headers=["Content-Length: 1000"]) + b"some")
        self._session.await_recv(Phase.HANDLING)

    def in_a_chunk(self) -> None:
        self._client.send(request("/read", method="POST", headers=["Transfer-Encoding: chunked"]) + b"10\r\nsome")
        self._session.await_recv(Phase.HANDLING)

    def in_a_body_that_is_discarded(self) -> None:
        self._client.send(request("/ignore", method="POST", headers=["Content-Length: 1000"]) + b"some")
        self._entered.pass_through()

    def in_a_body_that_the_response_reads(self) -> None:
        self._client.send(request("/relay", method="POST", headers=["Content-Length: 1000"]) + b"some")
        self._session.await_recv(Phase.WRITING)

    def after_100_continue(self) -> None:
        self._client.send(request("/read", method="POST", headers=["Content-Length: 9", "Expect: 100-continue"]))
        assert self._client.read_interim() == 100
        self._session.await_recv(Phase.HANDLING)

    def before_100_continue(self) -> None:
        self._client.send(request("/wait-read", method="POST", headers=["Content-Length: 9", "Expect: 100-continue"]))
        self._entered.pass_through()

    def while_the_handler_runs(self) -> None:
        self._client.send(request("/wait"))
        self._entered.pass_through()

    def before_a_large_response(self) -> None:
        self._client.send(request("/wait-large"))
        self._entered.pass_through()

    def in_a_response_of_bytes(self) -> None:
        self._client.send(request("/large"))
        self._client.read_head()

    def in_a_response_of_pieces(self) -> None:
        self._client.send(request("/endless"))
        self._client.read_head()

    def in_a_response_of_pieces_for_1_0(self) -> None:
        self._client.send(request("/endless", version="1.0"))
        self._client.read_head()

    def in_a_response_of_a_file(self) -> None:
        self._client.send(request("/file"))
        self._client.read_head()

    def in_the_second_of_two_pipelined_responses(self) -> None:
        self._client.send(request("/") + request("/large"))
        self._client.read_response()
        self._client.read_head()

    def between_two_requests(self) -> None:
        self._client.send(request("/"))
        self._client.read_response()
        self._session.await_recv(Phase.IDLE)

    def after_a_refused_head(self) -> None:
        self._client.send(b"garbage\r\n\r\n")
        assert self._client.read_response().status == 400

    def _handle(self, request: Request) -> Response | bytes:
        self._entered.open()
        if "wait" in request.path:
            self._left.pass_through()
        if "read" in request.path:
            return request.body.read()
        if "large" in request.path:
            return b"x" * LARGE
        if request.path in ("/endless", "/relay", "/file"):
            body = (Body(endless()) if request.path == "/endless" else sparse_file(LARGE) if request.path == "/file"
                    else Body(iter(lambda: request.body.read1(), b"")))
            self.bodies.append(body)
            return Response(body)
        return b"ok"


STAGES = [name for name, value in vars(Stages).items() if callable(value) and not name.startswith("_")
          and name != "reach"]


@pytest.mark.parametrize("go", [RawClient.reset, RawClient.close], ids=["resets", "leaves"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_client_may_go_at_any_stage_and_that_is_no_failure(
        serve: Serve, log: pytest.LogCaptureFixture, stage: str, go: Callable[[RawClient], None]) -> None:
    stages = Stages(serve, go)
    stages.reach(stage)
    assert failures(log) == []
    assert all(body.closings == 1 for body in stages.bodies), "the response's body was not closed, or not once"


@pytest.mark.parametrize("expect", [[], ["Expect: 100-continue"]], ids=["", "expecting 100"])
@pytest.mark.parametrize("go", [RawClient.reset, RawClient.close, RawClient.half_close],
                         ids=["resets", "leaves", "sends no more"])
def test_a_handler_that_reads_learns_that_the_client_is_gone(
        serve: Serve, log: pytest.LogCaptureFixture, go: Callable[[RawClient], None], expect: list[str]) -> None:
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
    session.await_recv(Phase.HANDLING)
    go(session.client)
    session.await_end()
    assert [type(error) for error in caught] == [ClientDisconnectedError], caught
    assert failures(log) == []


@pytest.mark.parametrize("go", [RawClient.reset, RawClient.close], ids=["resets", "leaves"])
def test_a_handler_may_answer_a_client_that_is_gone(
        serve: Serve, log: pytest.LogCaptureFixture, go: Callable[[RawClient], None]) -> None:
    def handler(request: Request) -> str:
        try:
            request.body.read()
        except ConnectionError:
            pass
        return "nobody reads this"

    session = serve(handler)
    session.client.send(request(method="POST", headers=["Content-Length: 1000"]) + b"some")
    session.await_recv(Phase.HANDLING)
    go(session.client)
    session.await_end()
    assert failures(log) == []


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
        serve: Serve, log: pytest.LogCaptureFixture, error: type[BaseException], method: str) -> None:
    def handler(request: Request) -> str:
        if request.path == "/good":
            return "ok"
        raise error(SECRET)

    session = serve(handler)
    session.client.send(request("/bad?page=1", method=method))
    received = session.client.read_response(method)
    assert received.status == 500
    assert received.body == (b"" if method == "HEAD" else b"Internal Server Error\n")
    assert SECRET not in str(received.headers)
    assert failures(log) == [f"{method} /bad?page=1 from 192.0.2.1:4711: the handler failed"]
    record, = (record for record in log.records if record.levelno >= logging.WARNING)
    assert record.name == "acceptor"
    assert record.exc_info is not None
    assert record.exc_info[0] is error
    assert SECRET in log.text
    assert "in handler" in log.text, "no traceback"

    session.client.send(request("/good"))
    assert session.client.read_response().body == b"ok", "a handler's failure does not cost the connection"


@pytest.mark.parametrize("error", [HTTPError(404), HTTPError(410, "gone"), HTTPError(401, headers={"X-Why": "no"})],
                         ids=str)
def test_an_http_error_is_an_answer_and_not_a_failure(
        serve: Serve, log: pytest.LogCaptureFixture, error: HTTPError) -> None:
    def handler(request: Request) -> str:
        raise error

    session = serve(handler)
    for _ in range(2):
        session.client.send(request())
        received = session.client.read_response()
        assert (received.status, received.body) == (error.status, error.response.body)
        assert received.keep_alive
    assert failures(log) == []


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


@pytest.mark.parametrize("catch", [False, True], ids=["raised", "caught"])
@pytest.mark.parametrize("sent", [b"nonsense\r\n", b"3\r\nabcdef\r\n"], ids=["no size", "no end of a chunk"])
def test_a_malformed_body_is_answered_400_and_closes_the_connection_even_if_the_handler_catches_that(
        serve: Serve, log: pytest.LogCaptureFixture, sent: bytes, catch: bool) -> None:
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
    assert failures(log) == []


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
        serve: Serve, log: pytest.LogCaptureFixture, nonsense: Any, hint: str) -> None:
    session = serve(lambda request: nonsense)
    session.client.send(request())
    received = session.client.read_response()
    assert (received.status, received.body) == (500, b"Internal Server Error\n")
    assert hint in log.text
    assert len(failures(log)) == 1


def test_a_response_that_was_spoilt_after_it_was_made_is_a_500_and_its_body_is_closed(
        serve: Serve, log: pytest.LogCaptureFixture) -> None:
    body = Body(iter([b"x"]))

    def handler(request: Request) -> Response | str:
        if request.path == "/good":
            return "ok"
        response = Response(body)
        response.headers.append(("X-Text", "not bytes"))  # type: ignore[arg-type]
        return response

    session = serve(handler)
    session.client.send(request("/bad") + request("/good"))
    received = session.client.read_response()
    assert (received.status, received.body) == (500, b"Internal Server Error\n")
    assert session.client.read_response().body == b"ok"
    assert len(failures(log)) == 1, failures(log)
    assert body.closings == 1


# The response's body fails.

def failing(good: int, error: BaseException) -> Iterator[bytes]:
    yield from [b"piece"] * good
    raise error


FRAMINGS = {"chunked": ("1.1", {}), "length": ("1.1", {"Content-Length": "1000"}), "close": ("1.0", {})}


@pytest.mark.parametrize("error", [ValueError, OSError, BrokenPipeError, SystemExit, KeyboardInterrupt, Sudden])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_body_that_fails_before_its_first_piece_is_a_500(
        serve: Serve, log: pytest.LogCaptureFixture, framing: str, error: type[BaseException]) -> None:
    version, headers = FRAMINGS[framing]
    body = Body(failing(0, error(SECRET)))
    session = serve(lambda request: Response(body, headers=headers))
    session.client.send(request(version=version))
    received = session.client.read_response()
    assert (received.status, received.body) == (500, b"Internal Server Error\n")
    assert received.header("content-length") == "22"
    session.leave()
    assert body.closings == 1
    assert len(failures(log)) == 1, failures(log)
    assert "in failing" in log.text, "no traceback"


@pytest.mark.parametrize("error", [ValueError, OSError, BrokenPipeError, SystemExit, KeyboardInterrupt, Sudden])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_body_that_fails_halfway_is_cut_so_that_the_client_sees_it(
        serve: Serve, log: pytest.LogCaptureFixture, framing: str, error: type[BaseException]) -> None:
    """With a body that ends where the connection does, only a reset is a cut that can be seen."""
    version, headers = FRAMINGS[framing]
    body = Body(failing(2, error(SECRET)))
    session = serve(lambda request: Response(body, headers=headers))
    session.client.send(request(version=version))
    data = session.client.read_to_reset()
    assert SECRET.encode() not in data
    assert b"500" not in data
    session.await_end()
    assert body.closings == 1
    assert len(failures(log)) == 1, failures(log)
    assert "in failing" in log.text, "no traceback"


@pytest.mark.parametrize("error", [HTTPError(404), HTTPError(500, SECRET)], ids=str)
def test_an_http_error_halfway_is_a_failure_like_any_other(
        serve: Serve, log: pytest.LogCaptureFixture, error: HTTPError) -> None:
    """It comes too late to be an answer, so the log is the only one to tell."""
    session = serve(lambda request: Response(failing(1, error)))
    session.client.send(request())
    assert SECRET.encode() not in session.client.read_to_reset()
    session.await_end()
    assert len(failures(log)) == 1, failures(log)


def test_an_http_error_before_the_first_piece_is_an_answer(serve: Serve, log: pytest.LogCaptureFixture) -> None:
    body = Body(failing(0, HTTPError(404, "no such thing")))
    session = serve(lambda request: Response(body))
    session.client.send(request())
    received = session.client.read_response()
    assert (received.status, received.body) == (404, b"no such thing\n")
    session.leave()
    assert body.closings == 1
    assert failures(log) == []


def test_a_malformed_request_body_that_a_response_reads_halfway_is_a_cut_and_no_failure(
        serve: Serve, log: pytest.LogCaptureFixture) -> None:
    session = serve(lambda request: Response(iter(lambda: request.body.read1(), b"")))
    session.client.send(request(method="POST", headers=["Transfer-Encoding: chunked"]) + b"3\r\nabc\r\n")
    session.client.read_head()
    session.client.send(b"nonsense\r\n")
    session.client.read_to_reset()
    session.await_end()
    assert failures(log) == []


@pytest.mark.parametrize(("pieces", "started"), [([], False), ([b"abc"], True), ([b"abcdefgh"], False),
                                                 ([b"abcd", b"efgh"], True)])
def test_a_body_that_is_not_as_long_as_announced_is_a_failure(
        serve: Serve, log: pytest.LogCaptureFixture, pieces: list[bytes], started: bool) -> None:
    session = serve(lambda request: Response(pieces, headers={"Content-Length": "5"}))
    session.client.send(request())
    if started:
        data = session.client.read_to_reset()
        assert len(data.partition(b"\r\n\r\n")[2]) <= 5
    else:
        assert session.client.read_response().status == 500
    session.leave()
    assert len(failures(log)) == 1, failures(log)


def test_a_piece_that_is_not_bytes_is_a_500_and_the_fix_in_the_log(
        serve: Serve, log: pytest.LogCaptureFixture) -> None:
    session = serve(lambda request: Response(["text"]))  # type: ignore[list-item]
    session.client.send(request())
    assert session.client.read_response().status == 500
    assert "yield bytes" in log.text


def test_a_malformed_request_body_that_the_responses_body_reads_is_answered_400_and_is_no_failure(
        serve: Serve, log: pytest.LogCaptureFixture) -> None:
    """Reading `Request.body` raises BodyError, "answered 400 or 408", wherever the application reads it."""
    session = serve(lambda request: Response(iter(lambda: request.body.read1(), b"")))
    session.client.send(request(method="POST", headers=["Transfer-Encoding: chunked"]) + b"nonsense\r\n")
    assert session.client.read_response().status == 400
    session.leave()
    assert failures(log) == []


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


def test_a_close_that_raises_is_logged_once_and_costs_nothing_else(serve: Serve, log: pytest.LogCaptureFixture) -> None:
    class Unclosable(Body):
        def close(self) -> None:
            super().close()
            raise SystemExit(SECRET)

    body = Unclosable(iter([b"ok"]))
    session = serve(lambda request: Response(body) if request.path == "/" else "still here")
    session.client.send(request() + request("/next"))
    assert session.client.read_response().body == b"ok"
    assert session.client.read_response().body == b"still here"
    assert failures(log) == ["GET / from 192.0.2.1:4711: the body's close() failed"]
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


# 100 Continue.

EXPECT = ["Expect: 100-continue", "Content-Length: 5"]


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
    session.await_recv(Phase.HANDLING)
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


def test_a_large_body_that_nobody_reads_leaves_a_streamed_answer_that_can_be_read(serve: Serve) -> None:
    session = serve(lambda request: Response(iter([b"too ", b"large"]), 413))
    session.client.send(request(method="POST", body=b"x" * UNREAD))
    received = session.client.read_response()
    assert (received.status, received.body) == (413, b"too large")
    session.client.expect_eof()


@pytest.mark.parametrize("lines", [["Content-Length: 9"], ["Content-Length: 9000000"], ["Transfer-Encoding: chunked"]],
                         ids=["small", "large", "chunked"])
def test_the_answer_to_a_body_that_nobody_reads_does_not_wait_for_it(serve: Serve, lines: list[str]) -> None:
    """A client may wait for the answer before it goes on sending."""
    session = serve(lambda request: Response("no", 403))
    session.client.send(request(method="POST", headers=lines))
    received = session.client.read_response()
    assert (received.body, received.keep_alive) == (b"no", False)
    session.client.expect_eof()


@pytest.mark.parametrize("sent", [b"garbage\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"y" * 20_000],
                         ids=["garbage", "long head"])
def test_a_refused_head_is_answered_although_the_client_goes_on_sending(serve: Serve, sent: bytes) -> None:
    session = serve(echo)
    session.client.send(sent + b"z" * UNREAD)
    received = session.client.read_response()
    assert received.status in (400, 431)
    assert received.keep_alive is False
    session.client.expect_eof()


def test_a_head_that_is_too_long_is_refused_behind_a_body_too(serve: Serve) -> None:
    entered, read = Gate("the handler runs"), Gate("the rest has been sent")

    def handler(request: Request) -> bytes:
        entered.open()
        read.pass_through()
        return request.body.read()

    long_head = request("/long", headers=["X-Long: " + "y" * 40_000])
    alone = serve(echo)
    alone.client.send(long_head)
    assert alone.client.read_response().status == 431

    session = serve(handler)
    session.client.send(request(method="POST", headers=["Content-Length: 5"]))
    entered.pass_through()
    session.client.send(b"hello" + long_head)
    read.open()
    assert session.client.read_response().body == b"hello"
    assert session.client.read_response().status == 431


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


# Slow clients.

def test_a_head_that_comes_too_slowly_is_answered_408(serve: Serve, log: pytest.LogCaptureFixture) -> None:
    session = serve(echo, receive_timeout=SHORT)
    session.client.send(b"GET / HTTP/1.1\r\nHo")
    received = session.client.read_response()
    assert (received.status, received.keep_alive) == (408, False)
    session.client.expect_eof()
    assert failures(log) == []


@pytest.mark.parametrize("before", [0, 1], ids=["before the first request", "between two"])
def test_a_client_that_sends_nothing_is_left_without_a_word(serve: Serve, before: int) -> None:
    session = serve(echo, receive_timeout=SHORT)
    for _ in range(before):
        session.client.send(request())
        session.client.read_response()
    session.client.expect_eof()


@pytest.mark.parametrize("lines", [["Content-Length: 10"], ["Transfer-Encoding: chunked"]], ids=["length", "chunked"])
def test_a_body_that_comes_too_slowly_is_answered_408_and_is_no_failure(
        serve: Serve, log: pytest.LogCaptureFixture, lines: list[str]) -> None:
    session = serve(echo, receive_timeout=SHORT)
    session.client.send(request(method="POST", headers=lines))
    received = session.client.read_response()
    assert (received.status, received.keep_alive) == (408, False)
    session.client.expect_eof()
    assert failures(log) == []


def test_a_body_that_came_too_slowly_is_not_waited_for_a_second_time(serve: Serve) -> None:
    session = serve(echo, receive_timeout=SHORT)
    session.client.send(request(method="POST", headers=["Content-Length: 10"]))
    assert session.client.read_response().status == 408
    assert session.receiving.count(Phase.HANDLING) == 1, session.receiving


def test_a_client_that_does_not_read_is_cut(serve: Serve, log: pytest.LogCaptureFixture) -> None:
    body = Body(endless())
    session = serve(lambda request: Response(body), send_timeout=SHORT)
    session.client.send(request())
    session.await_end()
    assert body.closings == 1
    assert failures(log) == []
    assert "192.0.2.1:4711 does not read its response; closing" in log.text


@pytest.mark.parametrize("body", ["bytes", "file"])
def test_a_client_that_stops_reading_gets_no_whole_response(
        serve: Serve, log: pytest.LogCaptureFixture, body: str) -> None:
    session = serve(lambda request: Response(sparse_file(LARGE) if body == "file" else b"x" * LARGE),
                    send_timeout=SHORT)
    session.client.send(request())
    session.client.read_head()
    session.await_end()
    assert failures(log) == []
    with pytest.raises((Truncated, ConnectionResetError)):
        session.client.read_response()


# Phases, and what other threads may do.

def test_the_phase_tells_where_a_connection_is(serve: Serve) -> None:
    seen: dict[str, Phase] = {}
    ready = Gate("the session has been made")

    def handler(request: Request) -> Response:
        seen["in the handler"] = session.connection.phase
        request.body.read()

        def pieces() -> Iterator[bytes]:
            seen["in the response"] = session.connection.phase
            yield b"ok"

        return Response(pieces())

    def stopping() -> bool:
        ready.pass_through()
        seen.setdefault("at the start", session.connection.phase)
        return False

    session = serve(handler, stopping=stopping)
    ready.open()
    session.await_recv(Phase.FRESH)
    session.client.send(b"POST / HTTP/1.1\r\nHost: a\r\n")
    session.await_recv(Phase.READING)
    assert str(session.connection) == "192.0.2.1:4711 (reading)"
    session.client.send(b"Content-Length: 2\r\n\r\n")
    session.await_recv(Phase.HANDLING)
    session.client.send(b"ok")
    session.client.read_response()
    session.await_recv(Phase.IDLE)
    session.client.send(b"garbage\r\n\r\n")
    assert session.client.read_response().status == 400
    session.client.send(b"more")
    session.await_recv(Phase.CLOSING)
    assert session.receiving == [Phase.FRESH, Phase.READING, Phase.HANDLING, Phase.IDLE, Phase.CLOSING]
    assert seen == {"at the start": Phase.FRESH, "in the handler": Phase.HANDLING, "in the response": Phase.WRITING}


def test_a_connection_that_nobody_serves_yet_is_accepted_and_says_who_it_is_from() -> None:
    client, server = tcp_pair()
    with client, server:
        connection = Connection(server, ("192.0.2.1", 4711), echo, lambda: False, False)
        assert (connection.phase, connection.peer) == (Phase.ACCEPTED, "192.0.2.1:4711")
        assert str(connection) == "192.0.2.1:4711 (accepted)"
        assert connection.fileno() == server.fileno()


def test_hanging_up_ends_the_wait_for_the_next_request(serve: Serve) -> None:
    session = serve(echo)
    session.client.send(request())
    session.client.read_response()
    session.await_recv(Phase.IDLE)
    session.connection.hang_up()
    session.client.expect_eof()
    session.await_end()


def test_hanging_up_does_not_spoil_the_answer_in_progress(serve: Serve) -> None:
    entered, leave = Gate("the handler runs"), Gate("it has been hung up")

    def handler(request: Request) -> str:
        entered.open()
        leave.pass_through()
        return "ok"

    session = serve(handler)
    session.client.send(request())
    entered.pass_through()
    session.connection.hang_up()
    leave.open()
    assert session.client.read_response().body == b"ok"
    session.client.expect_eof()


@pytest.mark.parametrize("stage", ["before_the_first_byte", "in_the_head", "in_the_body", "while_the_handler_runs",
                                   "in_a_response_of_bytes", "in_a_response_of_pieces", "in_a_response_of_a_file",
                                   "between_two_requests"])
def test_aborting_ends_a_connection_at_any_stage_and_is_no_failure(
        serve: Serve, log: pytest.LogCaptureFixture, stage: str) -> None:
    sessions: list[Session] = []

    def start(handler: Handler, **options: Any) -> Session:
        sessions.append(serve(handler, **options))
        return sessions[-1]

    stages = Stages(start, lambda client: sessions[0].connection.abort())
    stages.reach(stage)
    assert failures(log) == []
    assert all(body.closings == 1 for body in stages.bodies), "the response's body was not closed, or not once"


# While the server stops.

def test_while_the_server_stops_a_client_that_has_sent_nothing_gets_503(serve: Serve) -> None:
    session = serve(echo, stopping=lambda: True)
    received = session.client.read_response()
    assert (received.status, received.keep_alive) == (503, False)
    assert received.header("retry-after") is not None
    session.client.expect_eof()


def test_when_the_server_begins_to_stop_a_client_that_has_sent_nothing_gets_503(serve: Serve) -> None:
    stop = threading.Event()
    session = serve(echo, stopping=stop.is_set)
    session.await_recv(Phase.FRESH)
    stop.set()
    session.connection.hang_up()
    received = session.client.read_response()
    assert (received.status, received.keep_alive) == (503, False)
    assert received.header("retry-after") is not None
    session.client.expect_eof()


def test_while_the_server_stops_a_request_in_progress_is_answered_and_is_the_last(serve: Serve) -> None:
    stop = threading.Event()

    def handler(request: Request) -> str:
        stop.set()
        return "ok"

    session = serve(handler, stopping=stop.is_set)
    session.client.send(request() + request("/second"))
    received = session.client.read_response()
    assert (received.body, received.keep_alive) == (b"ok", False)
    session.client.expect_eof()


def test_a_refused_client_can_read_its_503_while_it_still_sends() -> None:
    ours, theirs = tcp_pair()
    connection = Connection(theirs, ("192.0.2.1", 4711), echo, lambda: False, False)
    with RawClient(ours) as client:
        client.send(request(method="POST", body=b"x" * 10_000))
        assert connection.start_refusal("full")
        client.send(b"more")
        received = client.read_response()
        assert (received.status, received.body, received.keep_alive) == (503, b"full\n", False)
        assert received.header("retry-after") is not None
        client.expect_eof()
        assert connection.drain() is True
        client.half_close()
        while connection.drain():
            pass
        connection.close()


def test_refusing_a_client_that_is_gone_is_no_failure() -> None:
    ours, theirs = tcp_pair()
    connection = Connection(theirs, ("192.0.2.1", 4711), echo, lambda: False, False)
    RawClient(ours).reset()
    assert connection.start_refusal("full") is False
    connection.close()


# The access log.

def access_lines(log: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in log.records if record.name == "acceptor.access"]


def test_each_response_is_a_line_of_the_access_log(serve: Serve, log: pytest.LogCaptureFixture) -> None:
    answers: dict[str, Callable[[], Any]] = {
        "/bytes?q=1": lambda: "hello",
        "/pieces": lambda: Response(iter([b"a", b"bc"])),
        "/file": lambda: Response(sparse_file(1000)),
        "/empty": lambda: Response(b"", 204),
        "/missing": lambda: Response("no", 404),
        "/nonsense": lambda: None,
    }
    session = serve(lambda request: answers[request.target](), log_access=True)
    for target in answers:
        session.client.send(request(target))
        session.client.read_response()
    session.client.send(request("/bytes?q=1", method="HEAD"))
    session.client.read_response("HEAD")
    session.client.send(request("/bytes?q=1", version="1.0"))
    session.client.read_response()
    session.await_end()
    assert access_lines(log) == [
        '192.0.2.1 - - "GET /bytes?q=1 HTTP/1.1" 200 5',
        '192.0.2.1 - - "GET /pieces HTTP/1.1" 200 3',
        '192.0.2.1 - - "GET /file HTTP/1.1" 200 1000',
        '192.0.2.1 - - "GET /empty HTTP/1.1" 204 0',
        '192.0.2.1 - - "GET /missing HTTP/1.1" 404 2',
        '192.0.2.1 - - "GET /nonsense HTTP/1.1" 500 22',
        '192.0.2.1 - - "HEAD /bytes?q=1 HTTP/1.1" 200 0',
        '192.0.2.1 - - "GET /bytes?q=1 HTTP/1.0" 200 5',
    ]


def test_the_access_log_has_the_status_that_was_sent_when_the_body_failed(
        serve: Serve, log: pytest.LogCaptureFixture) -> None:
    session = serve(lambda request: Response(failing(0, ValueError())), log_access=True)
    session.client.send(request())
    assert session.client.read_response().status == 500
    session.leave()
    assert access_lines(log) == ['192.0.2.1 - - "GET / HTTP/1.1" 500 22']


def test_there_is_no_access_log_unless_it_is_asked_for(serve: Serve, log: pytest.LogCaptureFixture) -> None:
    session = serve(echo)
    session.client.send(request())
    session.client.read_response()
    session.leave()
    assert access_lines(log) == []
