"""A handler takes its connection over: what it gets, what it may do with it, and what the server then leaves alone."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from acceptor import Detached
from acceptor.messages import ClientDisconnectedError, Headers, HTTPError, Request, Response
from acceptor.networks import Networks
from acceptor.phases import End, Phase
from acceptor.tls import TLSSocket
from tests.clients import PATIENCE, Gate, request
from tests.conftest import Serve as ServeWithModel
from tests.sessions import ADDRESS, Serve, Session, echo, failures, sessions, transports

SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n"


@pytest.fixture
def start(caplog: pytest.LogCaptureFixture) -> Iterator[Serve]:
    yield from sessions(caplog)


def echo_lines(detached: Detached) -> None:
    """Another protocol: upper case for every line, until "bye"."""
    with detached.socket as sock:
        sock.sendall(SWITCHING)
        data = detached.received
        while True:
            while b"\n" not in data:
                if not (some := sock.recv(100)):
                    return
                data += some
            line, _, data = data.partition(b"\n")
            if line == b"bye":
                return
            sock.sendall(line.upper() + b"\n")


def expect(session: Session, wanted: bytes) -> None:
    """The client must receive `wanted`, and no more for now."""
    data = b""
    while len(data) < len(wanted):
        some = session.client.sock.recv(100)
        assert some, f"the connection ended after {data!r}"
        data += some
    assert data == wanted


class Kept:
    """A handler that detaches, and leaves it to others what comes of that."""

    def __init__(self) -> None:
        self.future: Future[Detached] = Future()
        self.requests: list[Request] = []

    def __call__(self, request: Request) -> Any:
        self.requests.append(request)
        self.future.set_result(request.detach())

    @property
    def detached(self) -> Detached:
        return self.future.result(PATIENCE)


@pytest.fixture
def kept() -> Iterator[Kept]:
    handler = Kept()
    yield handler
    if handler.future.done():
        handler.detached.socket.close()


# What one gets.

@transports
def test_one_gets_the_socket_and_what_the_client_has_sent_behind_the_head(start: Serve, kept: Kept, tls: bool) -> None:
    session = start(kept, tls=tls)
    session.client.send(request(headers=["Upgrade: echo"]) + b"one\n\0two")
    assert session.await_end() is End.DETACHED
    assert kept.detached.received == b"one\n\0two"
    assert isinstance(kept.detached.socket, TLSSocket if tls else socket.socket)
    session.client.send(b"three")
    assert kept.detached.socket.recv(100) == b"three"
    kept.detached.socket.sendall(b"four")
    expect(session, b"four")


@transports
def test_behind_a_proxy_header_too(start: Serve, kept: Kept, tls: bool) -> None:
    session = start(kept, tls=tls, proxy_protocol=Networks([ADDRESS[0]]), preface=PROXY_LINE)
    session.client.send(request() + b"one")
    assert session.await_end() is End.DETACHED
    assert kept.detached.received == b"one"
    assert kept.requests[0].peer == ("198.51.100.7", 49152)


PROXY_LINE = b"PROXY TCP4 198.51.100.7 203.0.113.1 49152 443\r\n"


def test_what_was_sent_in_other_records_of_tls_is_not_lost(start: Serve, kept: Kept) -> None:
    """They may have been read from the raw socket together with the head's, and only `recv` can give them."""
    session = start(kept, tls=True)
    whole = b""
    session.client.send(request())
    for n in range(100):
        session.client.send(b"%d," % n)
        whole += b"%d," % n
    data = kept.detached.received
    while len(data) < len(whole):
        data += kept.detached.socket.recv(10)
    assert data == whole


def test_nothing_was_sent_behind_the_head(start: Serve, kept: Kept) -> None:
    session = start(kept)
    session.client.send(request())
    assert kept.detached.received == b""
    session.client.half_close()
    assert kept.detached.socket.recv(100) == b""


def test_a_request_before_it_is_answered_and_one_behind_it_is_not(start: Serve, kept: Kept) -> None:
    session = start(lambda request: kept(request) if request.path == "/detach" else "answer")
    session.client.send(request("/first") + request("/detach") + request("/not-ours"))
    assert session.client.read_response().body == b"answer"
    assert kept.detached.received == request("/not-ours")
    assert session.client.has_received() == b""


@pytest.mark.parametrize("lines", [["Content-Length: 5"], ["Content-Length: 5", "Expect: 100-continue"]],
                         ids=["", "expecting 100"])
def test_a_body_that_has_not_been_read_is_a_part_of_what_was_received(
        start: Serve, kept: Kept, lines: list[str]) -> None:
    session = start(kept)
    session.client.send(request(method="POST", headers=lines) + b"hello, and more")
    assert kept.detached.received == b"hello, and more"
    with pytest.raises(ValueError, match="the request is over"):
        kept.requests[0].body.read()
    assert session.client.has_received() == b"", "no 100 Continue, and nothing else"


def test_a_body_that_has_been_read_is_not(start: Serve, kept: Kept) -> None:
    def handler(request: Request) -> str:
        assert request.body.read() == b"hello"
        kept(request)
        return "ignored"

    session = start(handler)
    session.client.send(request(method="POST", body=b"hello") + b"more")
    assert kept.detached.received == b"more"


@transports
def test_the_socket_has_no_ticks(start: Serve, kept: Kept, tls: bool) -> None:
    session = start(kept, tls=tls)
    session.client.send(request())
    sock = kept.detached.socket
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        assert session.sock.getsockopt(socket.SOL_SOCKET, option, 16) == struct.pack("ll", 0, 0)
    assert session.sock.gettimeout() is None
    sock.settimeout(0.001)
    with pytest.raises(TimeoutError):  # a socket's own timeouts work
        sock.recv(1)


# What one does with it.

@transports
def test_it_can_be_used_in_the_handler(start: Serve, tls: bool) -> None:
    def handler(request: Request) -> str:
        echo_lines(request.detach())
        return "ignored"

    session = start(handler, tls=tls)
    session.client.send(request(headers=["Upgrade: echo"]) + b"one\ntw")
    expect(session, SWITCHING + b"ONE\n")
    assert session.phase is Phase.DETACHED
    assert session.phase.in_progress
    session.client.send(b"o\n")
    expect(session, b"TWO\n")
    session.client.send(b"bye\n")
    assert session.await_end() is End.DETACHED


@transports
def test_it_can_be_handed_to_another_thread(start: Serve, tls: bool) -> None:
    threads: list[threading.Thread] = []

    def handler(request: Request) -> Response:
        threads.append(threading.Thread(target=echo_lines, args=[request.detach()]))
        threads[0].start()
        return Response("ignored")

    session = start(handler, tls=tls)
    session.client.send(request() + b"one\n")
    assert session.await_end() is End.DETACHED
    expect(session, SWITCHING + b"ONE\n")
    session.client.send(b"two\nbye\n")
    expect(session, b"TWO\n")
    threads[0].join(PATIENCE)
    assert not threads[0].is_alive()


@pytest.mark.parametrize("returned", [None, 5, Response(iter([b"never"])), "never"],
                         ids=lambda value: type(value).__name__)
def test_what_the_handler_returns_is_ignored(
        start: Serve, kept: Kept, returned: Any, caplog: pytest.LogCaptureFixture) -> None:
    def handler(request: Request) -> Any:
        kept(request)
        return returned

    session = start(handler, log_access=True)
    session.client.send(request())
    assert session.await_end() is End.DETACHED
    assert failures(caplog) == []
    kept.detached.socket.sendall(b"all there is")
    kept.detached.socket.close()
    assert session.client.read_to_end() == b"all there is"


@transports
@pytest.mark.parametrize("error", [ValueError("oops"), HTTPError(404), SystemExit(), ConnectionResetError()], ids=repr)
def test_what_the_handler_raises_closes_the_socket_and_is_logged_once(
        start: Serve, error: BaseException, tls: bool, caplog: pytest.LogCaptureFixture) -> None:
    def handler(request: Request) -> str:
        request.detach().socket.sendall(b"so far")
        raise error

    session = start(handler, tls=tls, may_fail=True)
    session.client.send(request())
    expect(session, b"so far")
    if tls:  # no close_notify: somebody else's protocol has been cut
        with pytest.raises(ConnectionResetError):
            session.client.read_to_end()
    else:
        session.client.expect_eof()
    assert session.await_end() is End.DETACHED
    assert failures(caplog) == ["GET / from 192.0.2.1:4711: the handler failed"]


def test_a_handler_may_close_the_socket_and_raise(start: Serve, caplog: pytest.LogCaptureFixture) -> None:
    def handler(request: Request) -> str:
        request.detach().socket.close()
        raise ValueError

    session = start(handler, may_fail=True)
    session.client.send(request())
    session.client.expect_eof()
    assert session.await_end() is End.DETACHED
    assert len(failures(caplog)) == 1


def test_a_handler_that_says_that_its_client_is_gone_is_believed(start: Serve) -> None:
    def handler(request: Request) -> str:
        request.detach()
        raise ClientDisconnectedError("the other protocol's client")

    session = start(handler)
    session.client.send(request())
    session.client.expect_eof()


def test_the_request_tells_that_the_server_stops(start: Serve) -> None:
    seen: list[bool] = []
    stopping = Gate("the server stops")

    def handler(request: Request) -> None:
        with request.detach().socket:
            seen.append(request.stopping)
            stopping.pass_through()
            seen.append(request.stopping)

    session = start(handler)  # type: ignore[arg-type]
    session.client.send(request())
    session.service.stopping = True
    stopping.open()
    assert session.await_end() is End.DETACHED
    assert seen[-1] is True


def test_a_cut_ends_what_the_handler_waits_for(start: Serve) -> None:
    received: list[bytes] = []

    def handler(request: Request) -> None:
        with request.detach().socket as sock:
            sock.sendall(b"ready")
            received.append(sock.recv(100))

    session = start(handler)  # type: ignore[arg-type]
    session.client.send(request())
    expect(session, b"ready")
    session.service.stopping = session.service.cut = True
    session.connection.cut()
    session.client.expect_eof()
    assert session.await_end() is End.DETACHED
    assert received == [b""]


def test_a_cut_of_what_is_closed_already_is_no_failure(start: Serve, kept: Kept) -> None:
    session = start(kept)
    session.client.send(request())
    session.await_end()
    kept.detached.socket.close()
    session.service.cut = True
    session.connection.cut()


# When one may not.

AGAIN = r"call detach\(\) in the handler, before its response"


def test_it_can_be_detached_once(start: Serve, kept: Kept) -> None:
    def handler(request: Request) -> str:
        kept(request)
        with pytest.raises(RuntimeError, match=AGAIN):
            request.detach()
        return "ignored"

    session = start(handler)
    session.client.send(request())
    assert session.await_end() is End.DETACHED
    with pytest.raises(RuntimeError, match=AGAIN):
        kept.requests[0].detach()


@pytest.mark.parametrize("body", [b"ok", iter([b"ok"])], ids=["bytes", "pieces"])
def test_it_cannot_be_detached_after_the_response(start: Serve, body: Any) -> None:
    requests: list[Request] = []

    def handler(request: Request) -> Response:
        requests.append(request)
        return Response(body)

    session = start(handler)
    session.client.send(request())
    session.client.read_response()
    session.await_recv(Phase.IDLE)
    with pytest.raises(RuntimeError, match=AGAIN):
        requests[0].detach()
    assert session.phase is Phase.IDLE


def test_it_cannot_be_detached_by_an_earlier_request(start: Serve) -> None:
    requests: list[Request] = []
    caught: list[RuntimeError] = []

    def handler(request: Request) -> str:
        requests.append(request)
        if len(requests) == 2:
            try:
                requests[0].detach()
            except RuntimeError as error:
                caught.append(error)
        return "answered"

    session = start(handler)
    session.client.send(request() * 3)
    assert [session.client.read_response().body for _ in range(3)] == [b"answered"] * 3
    assert len(caught) == 1


def test_it_cannot_be_detached_by_the_response(start: Serve) -> None:
    caught: list[RuntimeError] = []

    def pieces(request: Request) -> Iterator[bytes]:
        for piece in (b"a", b"b"):
            try:
                request.detach()
            except RuntimeError as error:
                caught.append(error)
            yield piece

    session = start(lambda request: Response(pieces(request)))
    session.client.send(request())
    assert session.client.read_response().body == b"ab"
    assert len(caught) == 2


def test_it_cannot_be_detached_after_the_client_has_gone(start: Serve) -> None:
    requests: list[Request] = []

    def handler(request: Request) -> bytes:
        requests.append(request)
        return request.body.read()

    session = start(handler)
    session.client.send(request(method="POST", headers=["Content-Length: 10"]))
    session.await_recv(Phase.RECEIVING)
    session.leave()
    with pytest.raises(RuntimeError, match=AGAIN):
        requests[0].detach()


def test_a_request_that_came_over_no_connection_cannot_be_detached() -> None:
    made = Request("GET", "/", "1.1", Headers([]))
    with pytest.raises(RuntimeError, match="this request came over no connection"):
        made.detach()


# With an acceptor, and in every model.

def test_others_are_served_and_the_server_stops_while_a_detached_connection_goes_on(serve: ServeWithModel) -> None:
    kept = Kept()
    server = serve(lambda request: kept(request) if request.path == "/detach" else echo(request))
    client = server.connect()
    client.send(request("/detach") + b"one")
    assert kept.detached.received == b"one"
    server.wait_until_over(1)
    assert server.acceptor.connection_count == 0
    for count in range(2, 5):
        with server.connect() as other:
            other.send(request(headers=["Connection: close"]))
            assert other.read_response().status == 200
        server.wait_until_over(count)
    assert not server.acceptor.stop(deadline=PATIENCE)
    with kept.detached.socket as sock:
        sock.sendall(b"still here")
    assert client.read_to_end() == b"still here"


def test_a_stop_waits_for_a_handler_that_has_detached_and_cuts_it_at_the_deadline(serve: ServeWithModel) -> None:
    def handler(request: Request) -> None:
        with request.detach().socket as sock:
            sock.sendall(b"ready")
            while sock.recv(100):
                sock.sendall(b"more")

    server = serve(handler)  # type: ignore[arg-type]
    client = server.connect()
    client.send(request())
    assert client.sock.recv(100) == b"ready"
    report = server.acceptor.stop(deadline=0.1)
    assert len(report.cut) == 1
    assert report.cut[0].endswith("(detached)")
    assert report.stuck == ()
    client.expect_eof()
    server.acceptor.start()  # so that the fixture's own stop has nothing to report
