"""One connection's life, from its first byte to its end: who may go when, what is refused, and how the server stops."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from acceptor import Limits
from acceptor.connection import Connection
from acceptor.messages import Request, Response
from acceptor.networks import Networks
from acceptor.phases import End, Phase
from acceptor.service import Service
from tests.clients import PATIENCE, Gate, RawClient, Truncated, access_lines, parse_response, request, tcp_pair
from tests.sessions import (
    ADDRESS,
    DRIVERS,
    LARGE,
    SMALL,
    UNREAD,
    Body,
    Clock,
    CountedFile,
    Driver,
    Serve,
    Session,
    certificate,
    driven_sessions,
    echo,
    endless,
    failures,
    hostname,
    only,
    refusals,
    sparse_file,
    transports,
    trusting,
)


@pytest.fixture(params=DRIVERS)
def serve(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[Serve]:
    yield from driven_sessions(request, caplog)


# The good cases.

@transports
@pytest.mark.parametrize("cuts", [[], [1], [20], [10, 20, 30, 60]], ids=str)
def test_a_request_is_answered_however_it_is_cut(serve: Serve, cuts: list[int], tls: bool) -> None:
    session = serve(echo, tls=tls)
    data = request(method="POST", body=b"hello")
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        session.client.send(data[start:end])
    assert session.client.read_response().body == b"hello"


@transports
def test_requests_sent_at_once_are_answered_in_order(serve: Serve, tls: bool) -> None:
    session = serve(lambda request: f"{request.path} {request.body.read().decode()}", tls=tls)
    session.client.send(request("/1") + request("/2", method="POST", body=b"two")
                        + request("/3", method="POST", chunks=[b"thr", b"ee"]) + request("/4", method="HEAD")
                        + request("/5"))
    bodies = [session.client.read_response("HEAD" if n == 4 else "GET").body for n in range(1, 6)]
    assert bodies == [b"/1 ", b"/2 two", b"/3 three", b"", b"/5 "]


@transports
def test_a_request_says_who_sent_it_and_how(serve: Serve, tls: bool) -> None:
    seen: list[Request] = []
    session = serve(lambda request: seen.append(request) or "x", tls=tls)  # type: ignore[func-returns-value]
    session.client.send(request("/a?b", method="PUT", headers=["X-One: 1", "x-one: 2"], body=b""))
    session.client.read_response()
    one, = seen
    assert (one.method, one.target, one.version, one.host) == ("PUT", "/a?b", "1.1", "test")
    assert one.peer == one.client == ADDRESS
    assert one.headers["x-one"] == "1, 2"
    if tls:
        assert one.scheme == "https"
        assert one.tls is not None
        assert (one.tls.version, one.tls.server_name) == ("TLSv1.3", hostname)
    else:
        assert (one.scheme, one.tls) == ("http", None)


def test_a_client_that_sends_no_more_still_gets_its_answer(serve: Serve) -> None:
    session = serve(echo)
    session.client.send(request(method="POST", body=b"hello"))
    session.client.half_close()
    assert session.client.read_response().body == b"hello"
    session.client.expect_eof()
    assert session.await_end() is End.CLOSE


@pytest.mark.parametrize(("version", "lines", "stays"), [
    ("1.1", [], True), ("1.1", ["Connection: close"], False),
    ("1.0", [], False), ("1.0", ["Connection: keep-alive"], True),
])
@pytest.mark.parametrize("streamed", [False, True], ids=["bytes", "streamed"])
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
        assert session.await_end() is End.CLOSE


def test_a_handler_can_have_the_connection_closed(serve: Serve) -> None:
    session = serve(lambda request: Response("bye", headers={"Connection": "close"}))
    session.client.send(request())
    assert session.client.read_response().keep_alive is False
    session.client.expect_eof()


def test_a_connection_has_as_many_requests_as_it_may(serve: Serve) -> None:
    session = serve(lambda request: request.path, limits=Limits(requests_per_connection=3))
    session.client.send(b"".join(request(f"/{n}") for n in range(4)))
    answers = [session.client.read_response() for _ in range(3)]
    assert [(answer.body, answer.keep_alive) for answer in answers] == [(b"/0", True), (b"/1", True), (b"/2", False)]
    session.client.expect_eof()


@transports
def test_a_request_pipelined_behind_the_last_answer_does_not_turn_the_close_into_a_reset(
        serve: Serve, tls: bool) -> None:
    """A reset throws away what the client has not read yet: RFC 9112 section 9.6."""
    entered, leave = Gate("the handler runs"), Gate("the second request has been sent")

    def handler(request: Request) -> Response:
        entered.open()
        leave.pass_through()
        return Response("bye", headers={"Connection": "close"})

    session = serve(handler, tls=tls)
    session.client.send(request("/1"))
    entered.pass_through()
    session.client.send(request("/2"))
    leave.open()
    assert session.await_end() is End.LINGER
    assert session.client.read_response().body == b"bye"
    session.client.expect_eof()


# The client is gone: at every stage, in order or by a reset.

class Stages:
    """Brings a session to a stage of its life, where `go` happens."""

    def __init__(self, serve: Serve, go: Callable[[Session], None], *, tls: bool = False) -> None:
        self._serve = serve
        self._go = go
        self._tls = tls
        self.bodies: list[Body | CountedFile] = []
        self._entered, self._left = Gate("the handler runs"), Gate("it has happened")

    def reach(self, stage: str) -> Session:
        session = self._serve(self._handle, tls=self._tls)
        self._session, self._client = session, session.client
        getattr(self, stage)()
        self._go(session)
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
        self._session.await_recv(Phase.RECEIVING)

    def in_the_body(self) -> None:
        self._client.send(request("/read", method="POST", headers=["Content-Length: 1000"]) + b"some")
        self._session.await_recv(Phase.RECEIVING)

    def in_a_chunk(self) -> None:
        self._client.send(request("/read", method="POST", headers=["Transfer-Encoding: chunked"]) + b"10\r\nsome")
        self._session.await_recv(Phase.RECEIVING)

    def in_a_body_that_is_discarded(self) -> None:
        self._client.send(request("/ignore", method="POST", headers=["Content-Length: 1000"]) + b"some")
        self._await_handler_or_body()

    def in_a_body_that_the_response_reads(self) -> None:
        self._client.send(request("/relay", method="POST", headers=["Content-Length: 1000"]) + b"some")
        self._session.await_recv(Phase.RECEIVING)

    def after_100_continue(self) -> None:
        self._client.send(request("/read", method="POST", headers=["Content-Length: 9", "Expect: 100-continue"]))
        assert self._client.read_interim() == 100
        self._session.await_recv(Phase.RECEIVING)

    def before_100_continue(self) -> None:
        self._client.send(request("/wait-read", method="POST", headers=["Content-Length: 9", "Expect: 100-continue"]))
        self._await_handler_or_body()

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

    def _await_handler_or_body(self) -> None:
        if self._session.driver == "alone":  # the body is read first
            self._session.await_recv(Phase.RECEIVING)
        else:
            self._entered.pass_through()

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


@transports
@pytest.mark.parametrize("go", [RawClient.reset, RawClient.close], ids=["resets", "leaves"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_client_may_go_at_any_stage_and_that_is_no_failure(
        serve: Serve, caplog: pytest.LogCaptureFixture, stage: str, go: Callable[[RawClient], None],
        tls: bool) -> None:
    stages = Stages(serve, lambda session: go(session.client), tls=tls)
    stages.reach(stage)
    assert failures(caplog) == []
    assert all(body.closings == 1 for body in stages.bodies), "the response's body was not closed, or not once"


# What is not answered by a handler.

@transports
@pytest.mark.parametrize("sent", [b"garbage\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"y" * 40_000],
                         ids=["garbage", "long head"])
def test_a_refused_head_is_answered_although_the_client_goes_on_sending(
        serve: Serve, caplog: pytest.LogCaptureFixture, sent: bytes, tls: bool) -> None:
    session = serve(echo, tls=tls)
    session.client.send(sent + b"z" * UNREAD)
    received = session.client.read_response()
    assert received.status in (400, 431)
    assert received.keep_alive is False
    session.client.expect_eof()
    assert session.await_end() is End.LINGER
    assert len(refusals(caplog)) == 1


@only("hold", "park")
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


def test_a_refused_head_is_a_line_of_the_access_log_without_a_request(
        serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    session = serve(echo, log_access=True)
    session.client.send(b"garbage\r\n\r\n")
    body = session.client.read_response().body
    session.leave()
    assert access_lines(caplog) == [f'192.0.2.1 "-" 400 {len(body)}']


def test_a_client_that_speaks_plain_http_where_tls_is_spoken_is_told_so(
        serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    session = serve(echo, tls=True, raw=True)
    session.client.send(request(method="POST", body=b"x" * UNREAD))
    received = session.client.read_response()
    assert (received.status, received.keep_alive) == (400, False)
    session.client.expect_eof()
    assert "plain HTTP, and this port speaks TLS" in refusals(caplog)[0]


@pytest.mark.parametrize("sent", [b"\x00" * 100, b"\x16\x03\x01\x00\x05hello", b"\x16\x03\x01"],
                         ids=["no TLS", "no handshake", "half a record"])
def test_a_client_that_cannot_shake_hands_is_closed_and_that_is_no_failure(serve: Serve, sent: bytes) -> None:
    session = serve(echo, tls=True, raw=True)
    session.client.send(sent)
    session.client.half_close()
    assert session.await_end() is End.CLOSE


def test_a_client_that_breaks_tls_between_two_requests_is_closed_and_that_is_no_failure(serve: Serve) -> None:
    session = serve(echo, tls=True)
    session.client.send(request())
    session.client.read_response()
    session.await_recv(Phase.IDLE)
    socket.socket.send(session.client.sock, b"not a record")
    assert session.await_end() is End.CLOSE


# The end of a connection over TLS says that it is one (RFC 9112 section 9.8): the client, here, insists on that.

@pytest.mark.parametrize("answer", [
    lambda: Response("bye", headers={"Connection": "close"}),
    lambda: Response(iter([b"b", b"ye"]), headers={"Connection": "close"}),
], ids=["bytes", "pieces"])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_a_connection_over_tls_ends_with_close_notify(
        serve: Serve, answer: Callable[[], Response], version: str) -> None:
    session = serve(lambda request: answer(), tls=True)
    session.client.send(request(version=version))
    assert b"ye" in session.client.read_to_end()
    assert session.await_end() is (End.CLOSE if version == "1.0" else End.LINGER)


def test_an_idle_connection_over_tls_ends_with_close_notify(serve: Serve) -> None:
    session = serve(echo, tls=True)
    session.client.send(request())
    session.client.read_response()
    session.service.stopping = True
    session.client.expect_eof()


# Behind a proxy that says whose connection it is.

PROXIES = Networks([f"{ADDRESS[0]}/32"])


@transports
@pytest.mark.parametrize("cuts", [[], [5, 30]], ids=["at once", "in pieces"])
def test_a_proxy_header_says_who_the_client_is(serve: Serve, cuts: list[int], tls: bool) -> None:
    session = serve(lambda request: f"{request.peer} {request.client}", proxy_protocol=PROXIES, tls=tls, raw=True)
    header = b"PROXY TCP4 198.51.100.7 203.0.113.1 49152 443\r\n"
    hello = ssl.MemoryBIO()
    if tls:
        begun = trusting().wrap_bio(ssl.MemoryBIO(), hello, server_hostname=hostname)
        with pytest.raises(ssl.SSLWantReadError):
            begun.do_handshake()
        session.client.send(header + hello.read())
        session.await_address(("198.51.100.7", 49152))
        return
    data = header + request("/1") + request("/2")
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        session.client.send(data[start:end])
        if end < len(header):
            session.await_reads(session.reads + 1)
    for _ in range(2):
        assert session.client.read_response().body == b"('198.51.100.7', 49152) ('198.51.100.7', 49152)"
    assert session.connection.peer == "198.51.100.7:49152"


def test_what_begins_with_no_proxy_header_is_closed_without_a_word(
        serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    session = serve(echo, proxy_protocol=PROXIES)
    session.client.send(request())
    with pytest.raises((AssertionError, ConnectionResetError)):  # it has not been read to its end
        session.client.read_response()
    assert session.await_end() is End.CLOSE
    assert "no PROXY header" in refusals(caplog)[0]


def test_a_client_that_leaves_in_its_proxy_header_is_no_failure(serve: Serve) -> None:
    session = serve(echo, proxy_protocol=PROXIES)
    session.client.send(b"PROXY TC")
    assert session.leave() is End.CLOSE


def test_a_proxy_header_is_read_of_known_proxies_only(serve: Serve) -> None:
    session = serve(lambda request: str(request.peer), proxy_protocol=Networks(["10.0.0.0/8"]))
    session.client.send(request())
    assert session.client.read_response().body == str(ADDRESS).encode()


# Phases, and what other threads may do.

def test_the_phase_tells_where_a_connection_is(serve: Serve) -> None:
    seen: dict[str, Phase] = {}

    def handler(request: Request) -> Response:
        seen["in the handler"] = session.phase
        request.body.read()
        seen["after the body"] = session.phase

        def pieces() -> Iterator[bytes]:
            seen["in the response"] = session.phase
            yield b"ok"

        return Response(pieces())

    session = serve(handler)
    session.await_recv(Phase.FRESH)
    session.client.send(b"POST / HTTP/1.1\r\nHost: a\r\n")
    session.await_recv(Phase.READING)
    assert str(session.connection) == "192.0.2.1:4711 (reading)"
    session.client.send(b"Content-Length: 2\r\n\r\n")
    session.await_recv(Phase.RECEIVING)
    session.client.send(b"ok")
    session.client.read_response()
    session.await_recv(Phase.IDLE)
    head = session.connection.head
    assert head.method == "POST" if head is not None else session.driver != "hold"
    session.client.send(b"garbage\r\n\r\n")
    assert session.client.read_response().status == 400
    session.client.send(b"more")
    session.await_recv(Phase.CLOSING)
    assert session.receiving == [Phase.FRESH, Phase.READING, Phase.RECEIVING, Phase.IDLE, Phase.CLOSING]
    assert seen == {"in the handler": Phase.HANDLING, "after the body": Phase.HANDLING,
                    "in the response": Phase.STREAMING}


def test_a_connection_that_is_opened_is_in_handshake_until_its_first_request(serve: Serve) -> None:
    session = serve(echo, tls=True, raw=True)
    session.await_recv(Phase.HANDSHAKE)
    shaken = serve(echo, tls=True)
    shaken.await_recv(Phase.FRESH)
    assert shaken.receiving[:1] == [Phase.HANDSHAKE]


def accepted() -> tuple[RawClient, Connection]:
    """A connection that nobody serves yet."""
    client, server = tcp_pair()
    return RawClient(client), Connection(server, ADDRESS, Service(echo))


def test_a_connection_that_nobody_serves_yet_is_accepted_and_says_who_it_is_from() -> None:
    client, connection = accepted()
    with client:
        assert (connection.phase, connection.peer) == (Phase.ACCEPTED, "192.0.2.1:4711")
        assert str(connection) == "192.0.2.1:4711 (accepted)"
        assert connection.fileno() >= 0
        connection.close()


def test_a_refused_client_can_read_its_503_while_it_still_sends() -> None:
    client, connection = accepted()
    with client:
        client.send(request(method="POST", body=b"x" * 10_000))
        assert connection.start_refusal("full")
        assert connection.phase is Phase.CLOSING
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
    client, connection = accepted()
    client.reset()
    assert connection.start_refusal("full") is False
    connection.close()


def test_a_client_of_tls_is_refused_without_a_word() -> None:
    client, server = tcp_pair()
    connection = Connection(server, ADDRESS, Service(echo, tls=certificate()))
    with RawClient(client) as refused:
        assert connection.start_refusal("full") is False
        connection.close()
        refused.expect_eof()


# While the server stops.

@transports
def test_when_the_server_stops_an_idle_connection_ends_at_the_next_tick(serve: Serve, tls: bool) -> None:
    session = serve(echo, tls=tls)
    session.client.send(request())
    session.client.read_response()
    session.await_recv(Phase.IDLE)
    session.service.stopping = True
    session.client.expect_eof()
    assert session.await_end() is End.CLOSE


@only("hold", "park")  # on a thread that serves alone nobody waits for one that has sent nothing
@transports
@pytest.mark.parametrize("before", [0, 1], ids=["the first", "a later one"])
def test_when_the_server_stops_a_request_that_comes_before_the_next_tick_is_answered_and_is_the_last(
        serve: Serve, tls: bool, before: int) -> None:
    session = serve(echo, tls=tls, tick=6 * PATIENCE)
    for _ in range(before):
        session.client.send(request())
        assert session.client.read_response().keep_alive
    session.await_recv(Phase.IDLE if before else Phase.FRESH)
    session.service.stopping = True
    session.client.send(request(method="POST", body=b"still here") + request("/too-late"))
    received = session.client.read_response()
    assert (received.body, received.keep_alive) == (b"still here", False)
    session.client.expect_eof()


@transports
@pytest.mark.parametrize("when", ["before", "while it waits"])
def test_when_the_server_stops_a_client_that_has_sent_nothing_gets_503(serve: Serve, when: str, tls: bool) -> None:
    session = serve(echo, tls=tls, stopping=when == "before")
    if when != "before":
        session.await_recv(Phase.FRESH)
        session.service.stopping = True
    received = session.client.read_response()
    assert (received.status, received.keep_alive) == (503, False)
    assert received.header("retry-after") is not None
    session.client.expect_eof()
    assert session.await_end() is End.LINGER


def test_when_the_server_stops_a_request_that_is_being_read_goes_on_to_its_end(serve: Serve) -> None:
    session = serve(lambda request: f"{request.body.read().decode()}, {request.stopping}")
    session.client.send(b"POST / HTTP/1.1\r\nHo")
    session.await_recv(Phase.READING)
    session.service.stopping = True
    session.await_tick()
    session.client.send(b"st: a\r\nContent-Length: 5\r\n\r\nhe")
    session.await_recv(Phase.RECEIVING)
    session.await_tick()
    session.client.send(b"llo")
    received = session.client.read_response()
    assert (received.body, received.keep_alive) == (b"hello, True", False)
    session.client.expect_eof()


def test_when_the_server_stops_a_request_that_is_handled_is_answered_and_is_the_last(serve: Serve) -> None:
    def handler(request: Request) -> str:
        session.service.stopping = True
        return "ok"

    session = serve(handler)
    session.client.send(request() + request("/second"))
    received = session.client.read_response()
    assert (received.body, received.keep_alive) == (b"ok", False)
    session.client.expect_eof()


def cut(session: Session) -> None:
    """As the acceptor does, past its deadline."""
    session.service.stopping = session.service.cut = True
    session.connection.cut()


@transports
@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "after_a_refused_head"])
def test_a_cut_ends_a_connection_at_any_stage_and_is_no_failure(
        serve: Serve, caplog: pytest.LogCaptureFixture, stage: str, tls: bool) -> None:
    stages = Stages(serve, cut, tls=tls)
    session = stages.reach(stage)
    assert session.await_end() is End.CLOSE
    assert failures(caplog) == []
    assert all(body.closings == 1 for body in stages.bodies), "the response's body was not closed, or not once"


@pytest.mark.parametrize("opening", [{"tls": True}, {"proxy_protocol": PROXIES}], ids=["tls", "proxy"])
def test_a_cut_ends_a_handshake(serve: Serve, opening: dict[str, Any]) -> None:
    session = serve(echo, raw=True, **opening)
    session.await_recv(Phase.HANDSHAKE)
    cut(session)
    assert session.await_end() is End.CLOSE


ANSWERS: dict[str, Callable[[], Response]] = {
    "bytes": lambda: Response(b"x" * LARGE), "pieces": lambda: Response(endless()),
    "file": lambda: Response(sparse_file(LARGE)),
}


@transports
@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("answer", ANSWERS)
def test_a_response_that_is_cut_ends_with_a_reset(serve: Serve, answer: str, version: str, tls: bool) -> None:
    session = serve(lambda request: ANSWERS[answer](), tls=tls)
    session.client.send(request(version=version))
    session.client.read_head()
    if answer != "file" or tls:  # nobody sees the ticks of sendfile(2)
        session.await_tick()
    assert session.phase is Phase.WRITING
    cut(session)
    session.await_end()
    session.client.read_to_reset()


def test_a_response_that_is_cut_while_its_next_piece_is_made_ends_with_a_reset(serve: Serve) -> None:
    cut_off = Gate("it has been cut")

    def pieces() -> Iterator[bytes]:
        yield b"first"
        cut_off.pass_through()
        yield b"second"

    session = serve(lambda request: Response(pieces()))
    session.client.send(request(version="1.0"))
    session.client.read_head()
    assert session.client.read_body(5) == b"first"
    cut(session)
    cut_off.open()
    assert b"second" not in session.client.read_to_reset()


@pytest.mark.parametrize("answer", ["bytes", "pieces", "file"])
def test_a_cut_is_noticed_although_the_client_takes_the_response_steadily(serve: Serve, answer: str) -> None:
    """In one sendfile(2) the kernel would go on for as long as the client takes a little in each tick."""
    session = serve(lambda request: Response(sparse_file(1 << 40)) if answer == "file" else Response(endless())
                    if answer == "pieces" else Response(b"x" * (8 * LARGE)))
    session.client.send(request())
    taken = len(session.client.sock.recv(1000))
    gone = threading.Event()

    def take() -> None:
        nonlocal taken
        try:
            while count := len(session.client.sock.recv(1 << 16)):
                taken += count
        except OSError:
            gone.set()

    taking = threading.Thread(target=take)
    taking.start()
    cut(session)
    assert session.await_end() is End.CLOSE
    taking.join(PATIENCE)
    # The bytes have an end, and a client that is quick enough may have them all before a tick has passed.
    whole = answer == "bytes" and taken > 8 * LARGE
    assert gone.is_set() or whole, f"the client took half a response for a whole one, {taken} bytes"


def test_a_client_learns_of_the_cut_although_the_handler_is_stuck(serve: Serve) -> None:
    entered, leave = Gate("the handler runs"), Gate("the client has read the end")

    def handler(request: Request) -> str:
        entered.open()
        leave.pass_through()
        return "too late"

    session = serve(handler)
    session.client.send(request())
    entered.pass_through()
    cut(session)
    session.client.expect_eof()
    leave.open()
    assert session.await_end() is End.CLOSE


# Everything at once: a machine that does at random what clients, servers and clocks do.

@dataclass(frozen=True)
class Wish:
    """A request that the machine may send."""

    kind: str
    version: str
    method: str
    framing: str
    stays: bool

    @property
    def is_last(self) -> bool:
        """So its client says."""
        return not self.stays

    @property
    def may_be_last(self) -> bool:
        """The server may close the connection after its answer."""
        return (self.is_last or self.kind == "close" or (self.version == "1.0" and self.kind == "stream")
                or (self.kind == "ignore" and self.method == "POST" and self.framing == "expect"))

    def encode(self, number: int) -> bytes:
        lines: list[str] = []
        options: dict[str, Any] = {}
        if (self.version == "1.0") == self.stays:
            lines.append("Connection: keep-alive" if self.stays else "Connection: close")
        if self.method == "POST":
            body = b"body of %d" % number
            options = ({"chunks": [body[:3], body[3:]]} if (self.framing, self.version) == ("chunked", "1.1") else
                       {"body": body})
            if self.framing == "expect":
                lines.append("Expect: 100-continue")
        return request(f"/{number}/{self.kind}", method=self.method, version=self.version, headers=lines,
                       **options)

    def answer(self, number: int) -> bytes:
        if self.method == "HEAD":
            return b""
        own = b"answer %d, " % number
        read = b"body of %d" % number if self.method == "POST" else b""
        return {"ignore": own, "stream": own + b"0" + own + b"1" + own + b"2", "large": own * LONG}.get(
            self.kind, own + read)


def answer(request: Request) -> Response | bytes:
    """What `Wish.answer` awaits."""
    _, number, kind = request.path.split("/")
    own = b"answer %b, " % number.encode()
    if kind == "ignore":
        return own
    body = request.body.read()
    if kind == "stream":
        return Response(own + b"%d" % n for n in range(3))
    if kind == "large":
        return own * LONG
    return Response(own + body, headers={"Connection": "close"} if kind == "close" else {})


LONG = 20_000
WISHES = st.builds(Wish, kind=st.sampled_from(["echo", "stream", "large", "ignore", "close"]),
                   version=st.sampled_from(["1.1", "1.0"]), method=st.sampled_from(["GET", "HEAD", "POST"]),
                   framing=st.sampled_from(["length", "chunked", "expect"]), stays=st.booleans())
PARTS = st.one_of(st.just(1.0), st.floats(0, 1))
"""Of what is to be sent."""


class Life(RuleBasedStateMachine):
    """What is answered is answered whole, in order, once, or the connection breaks visibly; and it always ends.

    Which rules there are depends on rules only, and not on what the server is doing meanwhile.
    """

    tls = False
    driver: Driver = "hold"

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.patch = pytest.MonkeyPatch()
        self.clock.install(self.patch)
        self.log: list[logging.LogRecord] = []
        self.patch.setattr(logging.getLogger("acceptor"), "callHandlers", self.log.append)
        self.session = Session(answer, tls=self.tls, tick=0.005, buffer=SMALL, driver=self.driver)
        self.sock = self.session.client.sock
        self.sock.setblocking(False)
        self.begun: list[Wish] = []
        self.ends: list[int] = []
        """Where they end, in all that is sent."""
        self.to_send = b""
        self.count = 0
        """Bytes that have been sent."""
        self.received = b""
        self.end: str | None = None
        """How the input has ended: "in order", "by a reset"; or "closed", by the machine itself."""
        self.silent = self.gone = False
        """The client has ended its side, or everything."""
        self.broken = False
        """Nothing can be sent any more."""

    @initialize(peaceful=st.booleans(), wishes=st.lists(WISHES, max_size=3), part=PARTS)
    def choose(self, peaceful: bool, wishes: list[Wish], part: float) -> None:
        """In half of the lives there is nothing but requests and answers, or none would come to its end."""
        self.peaceful = peaceful
        for wish in wishes:
            self.begin_a_request(wish, 0.0)
        self.send(part)

    # What the client does.

    @precondition(lambda self: not self.silent)
    @rule(wish=WISHES, part=PARTS)
    def begin_a_request(self, wish: Wish, part: float) -> None:
        if self.begun and self.begun[-1].is_last:  # RFC 9112 section 9.6: it must not
            return
        self.to_send += wish.encode(len(self.begun))
        self.begun.append(wish)
        self.ends.append(self.count + len(self.to_send))
        self.send(part)

    @precondition(lambda self: not self.silent)
    @rule(part=PARTS)
    def send(self, part: float) -> None:
        if self.broken or not self.to_send:
            return
        try:
            count = self.sock.send(self.to_send[:max(1, int(len(self.to_send) * part))])
        except BlockingIOError:
            pass
        except OSError:  # a reset; or SSLWantWriteError, after which the very same bytes would have to be sent
            self.broken = True
        else:
            self.count += count
            self.to_send = self.to_send[count:]

    @precondition(lambda self: not self.gone)
    @rule(count=st.integers(1, 1 << 18))
    def read(self, count: int) -> None:
        if self.end is not None:
            return
        try:
            data = self.sock.recv(count)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError):  # BrokenPipe: OpenSSL 3.6
            self.end = "by a reset"
        else:
            self.received += data
            if not data:
                self.end = "in order"

    @rule()
    def let_the_server_look(self) -> None:
        """At what has come, or at the clock."""
        self.session.await_tick()

    @precondition(lambda self: not self.silent and not self.peaceful)
    @rule()
    def send_no_more(self) -> None:
        self.silent = True
        try:
            socket.socket.shutdown(self.sock, socket.SHUT_WR)
        except OSError:  # reset
            pass

    @precondition(lambda self: not self.gone and not self.peaceful)
    @rule(how=st.sampled_from([RawClient.close, RawClient.reset]))
    def go_away(self, how: Callable[[RawClient], None]) -> None:
        how(self.session.client)
        self.silent = self.gone = True
        self.end = self.end or "closed"

    # What the server and time do.

    @precondition(lambda self: not self.peaceful)
    @rule(what=st.sampled_from(["pressed", "stopping", "cut"]))
    def change(self, what: str) -> None:
        if what == "cut" and not self.session.over:
            cut(self.session)
        elif what != "cut":
            setattr(self.session.service, what, True)

    @precondition(lambda self: not self.peaceful)
    @rule(seconds=st.sampled_from([1, 10, 600, 1001]))
    def let_time_pass(self, seconds: float) -> None:
        self.clock.advance(seconds)

    # What must hold.

    def teardown(self) -> None:
        try:
            if not self.silent:
                self.send_no_more()
            if not self.gone:
                self.sock.settimeout(PATIENCE)
            while self.end is None:
                self.read(1 << 20)
            self.session.client.close()
            self.session.join()
            self.check_answers()
            assert [record for record in self.log if record.levelno >= logging.ERROR or record.exc_info] == []
        finally:
            self.patch.undo()

    def check_answers(self) -> None:
        rest, answered = self.received, 0
        for number, wish in enumerate(self.begun or [Wish("", "", "GET", "", False)]):
            if not rest:
                break
            # Whoever is refused before anybody could know that it would have been a HEAD gets a body too.
            refused = rest[9:12] in (b"408", b"503")
            method = "GET" if refused and not rest.endswith(b"\r\n\r\n") else wish.method
            try:
                received, rest = parse_response(rest, method, ended=self.end == "in order")
            except Truncated:
                assert not self.peaceful or self.ends[number] > self.count  # 100 Continue, and the body never came
                return
            if received.status == 200:
                assert received.body == wish.answer(number)
                answered += 1
            else:
                assert received.status in (408, 503)
                assert not self.peaceful
                assert not received.keep_alive
            if not received.keep_alive:
                break
        assert not rest, f"sent behind the last answer: {rest[:200]!r}"
        if self.peaceful:
            due = [wish.may_be_last for wish, end in zip(self.begun, self.ends, strict=True) if end <= self.count]
            assert answered >= (due.index(True) + 1 if True in due else len(due))


class LifeOverTLS(Life):
    tls = True


class ParkedLife(Life):
    driver = "park"


class ParkedLifeOverTLS(ParkedLife):
    tls = True


class LifeAlone(Life):
    driver = "alone"


class LifeAloneOverTLS(LifeAlone):
    tls = True


TestLife = Life.TestCase
TestLifeOverTLS = LifeOverTLS.TestCase
TestParkedLife = ParkedLife.TestCase
TestParkedLifeOverTLS = ParkedLifeOverTLS.TestCase
TestLifeAlone = LifeAlone.TestCase
TestLifeAloneOverTLS = LifeAloneOverTLS.TestCase
for case, examples in ((TestLife, 60), (TestLifeOverTLS, 30), (TestParkedLife, 60), (TestParkedLifeOverTLS, 40),
                       (TestLifeAlone, 40), (TestLifeAloneOverTLS, 20)):
    case.settings = settings(max_examples=examples, stateful_step_count=20)
