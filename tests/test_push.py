"""Responses that a handler pushes itself (`Request.begin`), interim ones before them, and reasons of its own."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from acceptor import Limits, Timeouts
from acceptor.access import AccessRecord
from acceptor.messages import ClientDisconnectedError, HTTPError, Request, Response
from acceptor.phases import End, Phase
from tests.clients import PATIENCE, Gate, RawClient, Truncated, request
from tests.conftest import Serve as ServeWithModel
from tests.sessions import (
    SMALL,
    UNREAD,
    Body,
    CountedFile,
    Serve,
    Session,
    failures,
    refusals,
    sessions,
    transports,
)


@pytest.fixture
def start(caplog: pytest.LogCaptureFixture) -> Iterator[Serve]:
    yield from sessions(caplog)


def pushing(*pieces: bytes, then: Any = b"", **options: Any) -> Callable[[Request], Response]:
    """A handler that writes `pieces`, and whose response has the body `then`."""
    def handler(request: Request) -> Response:
        response = Response(then, **options)
        write = request.begin(response)
        for piece in pieces:
            write(piece)
        return response
    return handler


# What begin() promises.

@transports
def test_what_is_written_is_sent_before_the_handler_goes_on(start: Serve, tls: bool) -> None:
    begun, go, arrived = Gate("it has begun"), Gate("it may write"), threading.Semaphore(0)

    def handler(request: Request) -> Response:
        response = Response(headers={"X-Pushed": "yes"})
        write = request.begin(response)
        begun.open()
        go.pass_through()
        for piece in (b"one", b"two"):
            write(piece)
            assert arrived.acquire(timeout=PATIENCE), "the client has not got it"
        return response

    session = start(handler, tls=tls)
    session.client.send(request())
    begun.pass_through()
    if not tls:
        assert session.client.has_received() == b"", "sent before there is a piece to send it with"
    go.open()
    assert session.client.read_head() == 200
    for piece in (b"one", b"two"):
        assert session.client.read_body(len(piece)) == piece
        arrived.release()
    received = session.client.read_response()
    assert received.header("x-pushed") == "yes"
    assert received.keep_alive


def test_under_every_model_a_piece_arrives_while_the_handler_runs(serve: ServeWithModel) -> None:
    arrived = Gate("the client has it")

    def handler(request: Request) -> Response:
        response = Response()
        write = request.begin(response)
        write(b"first")
        arrived.pass_through()
        write(b"second")
        return response

    client = serve(handler).connect()
    client.send(request() + request())
    assert client.read_head() == 200
    assert client.read_body(5) == b"first"
    arrived.open()
    assert client.read_response().body == b"second"
    assert client.read_response().body == b"firstsecond"


@pytest.mark.parametrize(("method", "version"), [("GET", "1.1"), ("GET", "1.0"), ("HEAD", "1.1"), ("HEAD", "1.0")])
@pytest.mark.parametrize("pieces", [[], [b""], [b"one"], [b"one", b"", b"two"]], ids=repr)
@pytest.mark.parametrize("announced", [True, False], ids=["length", "no length"])
def test_the_client_has_a_whole_response_and_may_send_another_request(
        start: Serve, method: str, version: str, pieces: list[bytes], announced: bool) -> None:
    whole = b"".join(pieces)
    headers = {"Content-Length": str(len(whole))} if announced else {}
    session = start(pushing(*pieces, headers=headers))
    keep = ["Connection: keep-alive"] if version == "1.0" else []
    for _ in range(2):
        session.client.send(request(method=method, version=version, headers=keep))
        received = session.client.read_response(method)
        assert (received.status, received.body) == (200, b"" if method == "HEAD" else whole)
        assert received.header("content-length") == (str(len(whole)) if announced else None)
        assert received.header("transfer-encoding") == ("chunked" if version == "1.1" and not announced else None)
        assert received.keep_alive is (announced or version == "1.1")
        if not received.keep_alive:
            session.client.half_close()
            session.client.expect_eof()
            break


@pytest.mark.parametrize("status", [204, 205, 304])
def test_a_status_without_a_body_has_none_although_one_is_written(start: Serve, status: int) -> None:
    session = start(pushing(b"unwanted", then=b"unwanted too", status=status))
    for _ in range(2):
        session.client.send(request())
        received = session.client.read_response()
        assert (received.status, received.body, received.keep_alive) == (status, b"", True)


@pytest.mark.parametrize("length", [None, 9], ids=["no length", "length"])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("kind", ["bytes", "str", "iterable", "BytesIO", "file"])
def test_the_responses_body_comes_behind_what_has_been_written_and_is_closed_once(
        start: Serve, tmp_path: Path, kind: str, version: str, length: int | None) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"behind")
    bodies: dict[str, Callable[[], Any]] = {
        "bytes": lambda: b"behind", "str": lambda: "behind", "iterable": lambda: Body([b"be", b"", b"hind"]),
        "BytesIO": lambda: io.BytesIO(b"behind"), "file": lambda: CountedFile(path),
    }
    body = bodies[kind]()
    headers = {} if length is None else {"Content-Length": str(length)}
    session = start(pushing(b"1", b"23", then=body, headers=headers))
    session.client.send(request(version=version))
    assert session.client.read_response().body == b"123behind"
    session.leave()
    if isinstance(body, (Body, CountedFile)):
        assert body.closings == 1


@pytest.mark.parametrize(("pieces", "then", "sent"), [
    ([b"abc"], b"", b"abc"), ([b"abc"], b"d", b"abcd"), ([b"abc"], Body([b"d"]), b"abcd"), ([b"abc"], b"def", b"abc"),
    ([b"abc"], io.BytesIO(b"d"), b"abcd"), ([b"a", b"b"], Body([b"c", b"def"]), b"abc"),
])
def test_what_is_not_as_long_as_announced_is_a_cut_and_never_exceeds_it(
        start: Serve, caplog: pytest.LogCaptureFixture, pieces: list[bytes], then: Any, sent: bytes) -> None:
    session = start(pushing(*pieces, then=then, headers={"Content-Length": "5"}), may_fail=True)
    session.client.send(request())
    assert session.client.read_to_reset().partition(b"\r\n\r\n")[2] == sent
    session.await_end()
    assert len(failures(caplog)) == 1


def test_nothing_where_a_length_was_announced_is_a_500(start: Serve) -> None:
    session = start(pushing(headers={"Content-Length": "5"}), may_fail=True)
    session.client.send(request())
    assert session.client.read_response().status == 500


def test_writing_more_than_announced_is_an_error_and_sends_nothing(start: Serve) -> None:
    def handler(request: Request) -> Response:
        response = Response(headers={"Content-Length": "5"})
        write = request.begin(response)
        write(b"hell")
        with pytest.raises(Exception, match="longer than its Content-Length of 5"):
            write(b"oo")
        write(b"o")
        return response

    session = start(handler)
    for _ in range(2):
        session.client.send(request())
        assert session.client.read_response().body == b"hello"


@pytest.mark.parametrize("data", ["text", None, bytearray(b"x"), 5], ids=repr)
def test_what_is_not_bytes_is_an_error_and_sends_nothing(start: Serve, data: Any) -> None:
    def handler(request: Request) -> Response:
        response = Response()
        write = request.begin(response)
        with pytest.raises(Exception, match="bytes"):
            write(data)
        write(b"fine")
        return response

    session = start(handler)
    session.client.send(request())
    assert session.client.read_response().body == b"fine"


@settings(max_examples=50)
@given(pieces=st.lists(st.binary(max_size=50), max_size=6), then=st.lists(st.binary(max_size=50), max_size=3),
       version=st.sampled_from(["1.1", "1.0"]), method=st.sampled_from(["GET", "HEAD"]),
       announced=st.none() | st.integers(0, 200))
@example([b"0\r\n\r\n"], [b"\r\n"], "1.1", "GET", None)
@example([b"abc"], [b""], "1.1", "GET", 3)
@example([b"abc"], [b"d"], "1.1", "GET", 3)
def test_whatever_is_pushed_the_client_has_all_of_it_or_sees_that_it_has_not(
        pieces: list[bytes], then: list[bytes], version: str, method: str, announced: int | None) -> None:
    whole = b"".join(pieces + then)
    headers = {} if announced is None else {"Content-Length": str(announced)}
    session = Session(pushing(*pieces, then=list(then), headers=headers), may_fail=True)
    try:
        session.client.send(request(method=method, version=version))
        try:
            received = session.client.read_response(method)
        except (Truncated, ConnectionResetError):
            assert announced not in (None, len(whole))
            assert method == "GET"
        else:
            if announced in (None, len(whole)) or method == "HEAD":
                assert (received.status, received.body) == (200, whole if method == "GET" else b"")
            elif received.status != 500:  # all that was announced had been sent when there was more
                assert received.body == whole[:announced]
    finally:
        session.leave()
        session.join()


# The request's body.

@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_handler_may_read_while_it_writes(start: Serve, framing: str) -> None:
    def handler(request: Request) -> Response:
        response = Response()
        write = request.begin(response)
        while line := request.body.readline():
            write(b"> " + line)
        return response

    session = start(handler)
    headers = ["Content-Length: 4"] if framing == "length" else ["Transfer-Encoding: chunked"]
    session.client.send(request(method="POST", headers=headers))
    session.client.send(b"a\n" if framing == "length" else b"2\r\na\n\r\n")
    session.client.read_head("POST")
    assert session.client.read_body(4) == b"> a\n"
    session.client.send(b"b\n" if framing == "length" else b"2\r\nb\n\r\n0\r\n\r\n")
    received = session.client.read_response("POST")
    assert (received.body, received.keep_alive) == (b"> b\n", True)
    session.client.send(request())
    assert session.client.read_response().status == 200


def test_100_continue_is_not_sent_into_a_response_that_has_begun(start: Serve) -> None:
    def handler(request: Request) -> Response:
        response = Response()
        write = request.begin(response)
        if request.path == "/early":
            request.body.read(1)
        write(b"first")
        request.body.read()
        return response

    for path, interim in (("/early", [100]), ("/late", [])):
        session = start(handler)
        session.client.send(request(path, method="POST", headers=["Expect: 100-continue", "Content-Length: 5"]))
        if interim:
            assert session.client.read_interim() == 100
        session.client.send(b"hello")
        received = session.client.read_response("POST")
        assert (received.interim, received.body) == (interim, b"first")


@pytest.mark.parametrize(("size", "kept"), [(10, True), (UNREAD, False)])
def test_a_body_that_is_not_read_costs_the_connection_only_if_it_is_large(
        start: Serve, size: int, kept: bool) -> None:
    session = start(pushing(b"body"))
    session.client.send(request(method="POST", body=b"x" * size))
    assert session.client.read_response("POST").body == b"body"
    if kept:
        session.client.send(request())
        assert session.client.read_response().body == b"body"
    else:
        session.client.half_close()
        assert session.await_end() is End.LINGER


@pytest.mark.parametrize("written", [False, True])
def test_a_body_that_cannot_be_read_is_answered_as_long_as_nothing_has_been_written(
        start: Serve, written: bool) -> None:
    def handler(request: Request) -> Response:
        response = Response()
        write = request.begin(response)
        if written:
            write(b"first")
        request.body.read()
        return response

    session = start(handler, limits=Limits(body=10))
    session.client.send(request(method="POST", chunks=[b"x" * 100]))
    if written:
        session.client.read_to_reset()
    else:
        received = session.client.read_response("POST")
        assert (received.status, received.keep_alive) == (413, False)


# A handler that fails.

@pytest.mark.parametrize("error", [ValueError("secret"), SystemExit(1), OSError("secret"), TimeoutError("secret")],
                         ids=repr)
def test_a_handler_that_fails_before_it_has_written_is_answered_500(
        start: Serve, caplog: pytest.LogCaptureFixture, error: BaseException) -> None:
    body = Body([b"never"])

    def handler(request: Request) -> Response | str:
        if request.path == "/good":
            return "good"
        request.begin(Response(body, headers={"X-Mine": "1"}))(b"")
        raise error

    session = start(handler, may_fail=True)
    session.client.send(request() + request("/good"))
    received = session.client.read_response()
    assert (received.status, received.body) == (500, b"Internal Server Error\n")
    assert received.header("x-mine") is None
    assert session.client.read_response().body == b"good"
    assert len(failures(caplog)) == 1
    assert body.closings == 1


def test_an_http_error_before_anything_is_written_is_the_answer(start: Serve) -> None:
    def handler(request: Request) -> Response:
        request.begin(Response())
        raise HTTPError(404, "no such events")

    session = start(handler)
    for _ in range(2):
        session.client.send(request())
        received = session.client.read_response()
        assert (received.status, received.body, received.keep_alive) == (404, b"no such events\n", True)


@pytest.mark.parametrize("error", [ValueError("secret"), SystemExit(1), HTTPError(404), TimeoutError("secret")],
                         ids=repr)
@pytest.mark.parametrize(("version", "headers"), [("1.1", {}), ("1.1", {"Content-Length": "100"}), ("1.0", {})])
def test_a_handler_that_fails_once_it_has_written_cuts_the_connection(
        start: Serve, caplog: pytest.LogCaptureFixture, error: BaseException, version: str, headers: dict[str, str]
        ) -> None:
    body = Body([b"never"])

    def handler(request: Request) -> Response:
        request.begin(Response(body, headers=headers))(b"first")
        raise error

    session = start(handler, may_fail=True)
    session.client.send(request(version=version))
    data = session.client.read_to_reset()
    assert b"first" in data
    assert b"secret" not in data
    session.await_end()
    assert body.closings == 1
    assert len(failures(caplog)) == (0 if isinstance(error, HTTPError) else 1)


@pytest.mark.parametrize("written", [False, True], ids=["nothing written", "written"])
@pytest.mark.parametrize("other", ["str", "bytes", "response", "None"])
def test_a_handler_must_return_the_response_that_it_has_begun(
        start: Serve, caplog: pytest.LogCaptureFixture, other: str, written: bool) -> None:
    begun, returned = Body([b"never"]), Body([b"never"])
    answers: dict[str, Any] = {"str": "other", "bytes": b"other", "response": Response(returned), "None": None}

    def handler(request: Request) -> Any:
        request.begin(Response(begun))(b"first" if written else b"")
        return answers[other]

    session = start(handler, may_fail=True)
    session.client.send(request())
    if written:
        session.client.read_to_reset()
    else:
        assert session.client.read_response().status == 500
    session.leave()
    assert "it must return the response that it has begun" in caplog.text
    assert begun.closings == 1
    assert returned.closings == (1 if other == "response" else 0)


def test_the_begun_responses_body_may_fail_like_any_other(start: Serve, caplog: pytest.LogCaptureFixture) -> None:
    def failing() -> Iterator[bytes]:
        yield b"second"
        raise ValueError("secret")

    session = start(pushing(b"first", then=failing()), may_fail=True)
    session.client.send(request())
    data = session.client.read_to_reset()
    assert b"first" in data
    assert b"secret" not in data
    session.await_end()
    assert len(failures(caplog)) == 1


# Once, and in time.

def too_late(request: Request, response: Response) -> list[str]:
    """What is refused to a handler by now."""
    acts: dict[str, Callable[[], object]] = {
        "begin": lambda: request.begin(response), "detach": request.detach,
        "send_informational": lambda: request.send_informational(103),
    }
    refused = []
    for name, act in acts.items():
        try:
            act()
        except RuntimeError as error:
            if "too late" in str(error):
                refused.append(name)
    return refused


@pytest.mark.parametrize("written", [b"", b"first"], ids=["nothing written", "written"])
def test_a_response_is_begun_once_and_nothing_else_is_sent_then(start: Serve, written: bytes) -> None:
    def handler(request: Request) -> Response:
        response = Response()
        request.begin(response)(written)
        assert too_late(request, response) == ["begin", "detach", "send_informational"]
        return response

    session = start(handler)
    session.client.send(request())
    assert session.client.read_response().body == written


@pytest.mark.parametrize("body", [b"bytes", None], ids=["bytes", "iterable"])
def test_a_response_is_begun_by_its_handler_and_not_after_it(start: Serve, body: Any) -> None:
    kept: list[Request] = []

    def pieces(request: Request) -> Iterator[bytes]:
        assert too_late(request, Response()) == ["begin", "detach", "send_informational"]
        yield b"bytes"

    def handler(request: Request) -> Response:
        kept.append(request)
        return Response(body or pieces(request))

    session = start(handler)
    for _ in range(2):
        session.client.send(request())
        assert session.client.read_response().body == b"bytes"
        assert too_late(kept[0], Response()) == ["begin", "detach", "send_informational"]


def test_write_is_of_no_use_once_the_handler_has_returned(start: Serve) -> None:
    """Whoever has kept it must not write into the answers to later requests."""
    kept: list[Callable[[bytes], None]] = []

    def handler(request: Request) -> Response:
        response = Response(after(request) if request.path == "/after" else b"")
        kept.append(request.begin(response))
        return response

    def after(request: Request) -> Iterator[bytes]:
        yield b"a"
        with pytest.raises(RuntimeError, match="returned"):
            kept[-1](b"smuggled")
        yield b"b"

    session = start(handler)
    session.client.send(request("/after"))
    assert session.client.read_response().body == b"ab"
    session.await_recv(Phase.IDLE)
    with pytest.raises(RuntimeError, match="returned"):
        kept[0](b"smuggled")
    session.client.send(request())
    assert session.client.read_response().body == b""


def test_a_response_cannot_be_begun_once_the_connection_has_been_detached(start: Serve) -> None:
    def handler(request: Request) -> str:
        with request.detach().socket:
            assert too_late(request, Response()) == ["begin", "detach", "send_informational"]
        return ""

    session = start(handler)
    session.client.send(request())
    assert session.await_end() is End.DETACHED


# The client goes away, or does not read.

@pytest.mark.parametrize("go", [RawClient.reset, RawClient.close], ids=["resets", "leaves"])
def test_a_handler_learns_that_its_client_has_gone(
        start: Serve, caplog: pytest.LogCaptureFixture, go: Callable[[RawClient], None]) -> None:
    caught: list[BaseException] = []
    body = Body([b"never"])

    def handler(request: Request) -> Response:
        response = Response(body)
        write = request.begin(response)
        try:
            while True:
                write(b"x" * 65536)
        except BaseException as error:
            caught.append(error)
            raise

    session = start(handler, buffer=SMALL)
    session.client.send(request())
    session.client.read_head()
    go(session.client)
    session.await_end()
    assert [type(error) for error in caught] == [ClientDisconnectedError]
    assert failures(caplog) == refusals(caplog) == []
    assert body.closings == 1


SLOW = Timeouts(write=0.1, minimum_rate=None)


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_what_could_not_be_sent_whole_is_never_gone_on_with(start: Serve, version: str) -> None:
    """The client did not read for so long that it was given up, halfway through a piece. Whatever the handler makes of
    that, what comes behind would be in the middle of that piece."""
    gave_up, reads = Gate("the client has been given up"), Gate("the client reads again")
    raised: list[type[BaseException]] = []

    def handler(request: Request) -> Response:
        response = Response(b"last")
        write = request.begin(response)
        try:
            while True:
                write(b"x" * 65536)
        except ClientDisconnectedError:
            gave_up.open()
        reads.pass_through()
        for _ in range(20):
            try:
                write(b"more")
            except BaseException as error:
                raised.append(type(error))
        return response

    session = start(handler, buffer=SMALL, timeouts=SLOW)
    session.client.send(request(version=version))
    gave_up.pass_through()
    reads.open()
    data = session.client.read_to_reset()
    assert b"more" not in data
    assert b"last" not in data
    session.await_end()
    assert raised == [ClientDisconnectedError] * 20


def test_an_interim_response_that_could_not_be_sent_whole_is_the_last_thing_sent(start: Serve) -> None:
    gave_up, reads = Gate("the client has been given up"), Gate("the client reads again")

    def handler(request: Request) -> str:
        try:
            while True:
                request.send_informational(103, [("Link", "x" * 10_000)])
        except ClientDisconnectedError:
            gave_up.open()
        reads.pass_through()
        return "answer"

    session = start(handler, buffer=SMALL, timeouts=SLOW)
    session.client.send(request())
    gave_up.pass_through()
    reads.open()
    data = session.client.read_to_reset()
    assert b"answer" not in data
    session.await_end()


# Stopping.

def test_a_handler_that_pushes_until_the_server_stops_ends_in_order(serve: ServeWithModel) -> None:
    went_on = threading.Event()

    def handler(request: Request) -> Response:
        response = Response(headers={"Content-Type": "text/event-stream"})
        write = request.begin(response)
        while not request.stopping:
            write(b"data: event\n\n")
            went_on.wait(0.01)
        write(b"data: last\n\n")
        return response

    server = serve(handler)
    client = server.connect()
    client.send(request())
    assert client.read_head() == 200
    client.read_body(100)
    stopping = threading.Thread(target=server.acceptor.stop)
    stopping.start()
    try:
        received = client.read_response()
    finally:
        stopping.join(PATIENCE)
    assert received.body.endswith(b"data: last\n\n")
    client.expect_eof()
    assert server.errors == []


def test_a_handler_that_pushes_on_is_cut_so_that_the_client_sees_it(start: Serve) -> None:
    """Past the deadline of a stop."""
    raised: list[type[BaseException]] = []

    def handler(request: Request) -> Response:
        write = request.begin(Response())
        try:
            while True:
                write(b"x" * 100)
        except BaseException as error:
            raised.append(type(error))
            raise

    session = start(handler, buffer=SMALL)
    session.client.send(request(version="1.0"))
    session.client.read_head()
    session.client.read_body(100)
    session.service.cut = True
    session.connection.cut()
    session.client.read_to_reset()
    session.await_end()
    assert raised == [ClientDisconnectedError]


def test_the_phase_tells_who_is_waited_for(start: Serve) -> None:
    """The handler, as with an iterator, may take its time: events are sent when something happens."""
    phases: list[Phase] = []
    gate = Gate("the client has looked")

    def handler(request: Request) -> Response:
        response = Response()
        write = request.begin(response)
        phases.append(session.phase)
        write(b"first")
        phases.append(session.phase)
        gate.pass_through()
        while not full.is_set():
            write(b"x" * 65536)
        return response

    full = threading.Event()
    session = start(handler, buffer=SMALL)
    session.client.send(request())
    session.client.read_head()
    session.client.read_body(5)
    gate.open()
    session.await_tick()
    assert session.phase is Phase.WRITING
    full.set()
    session.client.read_response()
    assert phases == [Phase.STREAMING, Phase.STREAMING]


# Interim responses.

@transports
def test_an_interim_response_arrives_before_the_handler_goes_on(start: Serve, tls: bool) -> None:
    arrived = Gate("the client has it")

    def handler(request: Request) -> str:
        request.send_informational(103, {"Link": "</a.css>; rel=preload"})
        arrived.pass_through()
        request.send_informational(102)
        request.send_informational(199, [("X", "1"), ("X", "2")])
        return "answer"

    session = start(handler, tls=tls)
    session.client.send(request())
    assert session.client.read_interim() == 103
    arrived.open()
    received = session.client.read_response()
    assert (received.interim, received.body, received.keep_alive) == ([103, 102, 199], b"answer", True)
    session.client.send(request())
    assert session.client.read_response().interim == [103, 102, 199]


def test_an_interim_response_on_the_wire(start: Serve) -> None:
    def handler(request: Request) -> Response:
        request.send_informational(103, [("Link", "</a>"), ("Link", "</caf\xe9>")])
        request.send_informational(150)
        return Response("answer", headers={"Connection": "close"})

    session = start(handler)
    session.client.send(request())
    assert session.client.read_to_end().startswith(
        b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nlink: </caf\xe9>\r\n\r\nHTTP/1.1 150 \r\n\r\nHTTP/1.1 200 OK\r\n")


def test_an_interim_response_may_come_before_one_that_is_pushed(start: Serve) -> None:
    def handler(request: Request) -> Response:
        request.send_informational(103)
        return pushing(b"one", b"two")(request)

    session = start(handler)
    session.client.send(request())
    received = session.client.read_response()
    assert (received.interim, received.body) == ([103], b"onetwo")


def test_a_client_of_http_1_0_gets_no_interim_response(start: Serve) -> None:
    def handler(request: Request) -> str:
        request.send_informational(103)
        return "answer"

    session = start(handler)
    session.client.send(request(version="1.0"))
    assert session.client.read_to_end().startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(("status", "headers", "words"), [
    (100, [], "102 to 199"), (101, [], "102 to 199"), (200, [], "102 to 199"), (99, [], "102 to 199"),
    ("103", [], "102 to 199"), (None, [], "102 to 199"),
    (103, [("Link", "a\r\nX: y")], "line end"), (103, [("Bad Name", "x")], "header name"),
    (103, {"Link": "\u20ac"}, "within latin-1"), (103, [("Transfer-Encoding", "chunked")], "server's business"),
])
def test_a_wrong_interim_response_is_refused_and_nothing_sent(
        start: Serve, status: Any, headers: Any, words: str) -> None:
    def handler(request: Request) -> str:
        with pytest.raises((TypeError, ValueError), match=words):
            request.send_informational(status, headers)
        return "answer"

    session = start(handler)
    session.client.send(request())
    received = session.client.read_response()
    assert (received.interim, received.body) == ([], b"answer")


def test_an_interim_response_to_a_client_that_has_gone_is_no_failure(start: Serve) -> None:
    caught: list[type[BaseException]] = []

    def handler(request: Request) -> str:
        try:
            while True:
                request.send_informational(103, [("Link", "x" * 10_000)])
        except BaseException as error:
            caught.append(type(error))
            raise

    session = start(handler, buffer=SMALL)
    session.client.send(request())
    session.client.read_interim()
    session.client.reset()
    session.await_end()
    assert caught == [ClientDisconnectedError]


# Reasons.

@pytest.mark.parametrize(("reason", "line"), [
    (None, b"HTTP/1.1 404 Not Found\r\n"), ("Gone Fishing", b"HTTP/1.1 404 Gone Fishing\r\n"),
    ("", b"HTTP/1.1 404 \r\n"), ("caf\xe9\t!", b"HTTP/1.1 404 caf\xe9\t!\r\n"),
])
@pytest.mark.parametrize("pushed", [False, True])
def test_a_response_may_have_a_reason_of_its_own(start: Serve, reason: str | None, line: bytes, pushed: bool) -> None:
    if pushed:
        session = start(pushing(b"body", status=404, reason=reason, headers={"Connection": "close"}))
    else:
        session = start(lambda request: Response("body", 404, {"Connection": "close"}, reason))
    session.client.send(request())
    assert session.client.read_to_end().startswith(line)


@pytest.mark.parametrize("reason", ["a\r\nX: y", "a\n", "\0", "\x7f", "\u20ac", b"OK", 5])
def test_a_reason_that_cannot_stand_in_a_status_line_is_refused(reason: Any) -> None:
    with pytest.raises(ValueError, match="pass a str within latin-1, without control characters"):
        Response("", 200, reason=reason)


def test_a_reason_that_was_spoilt_later_is_a_500(start: Serve, caplog: pytest.LogCaptureFixture) -> None:
    def handler(request: Request) -> Response:
        response = Response("body")
        response.reason = "a\r\nX-Smuggled: y"
        return response

    session = start(handler, may_fail=True)
    session.client.send(request())
    received = session.client.read_response()
    assert (received.status, received.header("x-smuggled")) == (500, None)


# The access log.

@pytest.mark.parametrize(("pieces", "then", "sent"), [([b"abc", b"de"], b"", 5), ([b"abc"], b"defg", 7), ([], b"", 0)])
def test_the_access_log_counts_what_was_written_too(
        start: Serve, caplog: pytest.LogCaptureFixture, pieces: list[bytes], then: bytes, sent: int) -> None:
    session = start(pushing(*pieces, then=then, status=201), log_access=True)
    session.client.send(request())
    assert session.client.read_response().status == 201
    session.leave()
    assert [(record.status, record.sent) for record in access_records(caplog)] == [(201, sent)]


def access_records(caplog: pytest.LogCaptureFixture) -> list[AccessRecord]:
    return [argument for record in caplog.records if record.name == "acceptor.access" and isinstance(record.args, tuple)
            for argument in record.args if isinstance(argument, AccessRecord)]
