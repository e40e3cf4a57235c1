"""Parked connections: each costs no thread while it waits, and nothing is lost by it, nor sent twice, nor half.

First one connection, served turn by turn by the test itself, for where it would wait for the client it is parked, and
nothing waits. Then whole servers. What holds for every connection, parked or not, is tested in test_connection.py and
test_exchange.py, with each driver; and what is between the two, the registry and the steps, in test_registry.py.
"""

from __future__ import annotations

import gc
import logging
import os
import random
import select
import socket
import ssl
import tempfile
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from acceptor import Limits, Timeouts
from acceptor.connection import Connection
from acceptor.listen_socket import set_tick
from acceptor.messages import Handler, Request, Response
from acceptor.networks import Networks
from acceptor.phases import End, Phase
from acceptor.service import Service
from acceptor.tls import TLSSocket
from acceptor.urgent import peek
from taskmaster import PooledTaskmaster, RecyclingTaskmaster, ThreadedTaskmaster, ThreadState
from tests.clients import (
    PATIENCE,
    Gate,
    RawClient,
    Truncated,
    access_records,
    parse_response,
    read_all,
    request,
    tcp_pair,
)
from tests.conftest import Server, WatchedAcceptor
from tests.sessions import (
    ADDRESS,
    LARGE,
    SMALL,
    Body,
    Clock,
    CountedFile,
    Driver,
    Session,
    certificate,
    echo,
    endless,
    hostname,
    server_time,
    sparse_file,
    transports,
    trusting,
)
from tests.test_stream import to_the_last_byte

TIMEOUTS = Timeouts(handshake=10, head=15, body=20, write=30, keep_alive=75, minimum_rate=1000, pressed=2)
FIRST, REST = request()[:20], request()[20:]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock().install(monkeypatch)


class Turns:
    """A connection, its client, and whoever serves it when the test says so. Should a turn block, it is for ever."""

    def __init__(self, handler: Handler, *, tls: bool = False, buffer: int | None = None, alone: bool = False,
                 **options: Any) -> None:
        sock, server = tcp_pair(buffer)
        set_tick(server, 6 * PATIENCE)
        self.service = Service(handler, **{"timeouts": TIMEOUTS, "tls": certificate() if tls else None, **options})
        self.connection = Connection(server, ADDRESS, self.service)
        self.client = RawClient(sock)
        self.tls = Memory(sock) if tls else None
        self.asked = 0
        """How often go_on() was."""
        self.goes_on = False
        self._alone = alone
        if tls:
            self._shake_hands()

    def serve(self, *, stops: bool = False) -> End:
        """One turn. stops: by one who waits, as at the stop."""
        return self.connection.serve(None if stops else self._go_on, alone=self._alone)

    def _go_on(self) -> bool:
        self.asked += 1
        return self.goes_on

    def _shake_hands(self) -> None:
        assert self.tls is not None
        while not self.tls.shaken:
            self.tls.work()
            assert self.serve() is End.PARK
        assert self.serve() is End.PARK
        assert self.connection.phase is Phase.FRESH

    def send(self, data: bytes) -> None:
        """It is with the server when this returns: both are on this machine."""
        if self.tls is not None:
            self.tls.send(data)
        else:
            self.client.send(data)

    def received(self) -> bytes:
        """What has come from the server, and was not read before."""
        if self.tls is not None:
            return self.tls.received()
        data = self.client.has_received()
        return self.client.sock.recv(len(data)) if data else b""

    @property
    def parked(self) -> tuple[Phase, int, float]:
        """In which phase, until what, for how many seconds yet."""
        connection = self.connection
        left = connection.deadline - server_time()
        return connection.phase, connection.stream.wants, round(left, 3)

    @property
    def ready(self) -> bool:
        """It would come back from being parked, whatever time it is."""
        poll = select.poll()
        poll.register(self.connection.fileno(), self.connection.stream.wants)
        return bool(poll.poll(0))

    def close(self) -> None:
        self.client.close()
        self.connection.close()


class Memory:
    """A client's side of TLS over a socket, of which no call blocks."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = trusting().wrap_bio(self._incoming, self._outgoing, server_hostname=hostname)
        self.shaken = False
        self.ended = False
        """close_notify has come."""

    def work(self) -> None:
        self._receive()
        try:
            self._tls.do_handshake()
            self.shaken = True
        except ssl.SSLWantReadError:
            pass
        self._flush()

    def encrypt(self, data: bytes) -> bytes:
        self._tls.write(data)
        return self._outgoing.read()

    def send(self, data: bytes) -> None:
        self._sock.sendall(self.encrypt(data))

    def received(self, most: int = 1 << 30) -> bytes:
        self._receive(most)
        data = b""
        while True:
            try:
                piece = self._tls.read(1 << 20)
            except ssl.SSLWantReadError:
                return data
            except ssl.SSLZeroReturnError:
                piece = b""
            if not piece:
                self.ended = True
                return data
            data += piece

    def _receive(self, most: int = 1 << 30) -> None:
        self._sock.setblocking(False)
        try:
            while most > 0 and (data := self._sock.recv(min(most, 1 << 16))):
                self._incoming.write(data)
                most -= len(data)
        except BlockingIOError:
            pass
        finally:
            self._sock.settimeout(PATIENCE)

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._sock.sendall(data)


@pytest.fixture
def turns(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[..., Turns]]:
    """Make them; at the end they are closed, and nothing may have been logged as a failure."""
    caplog.set_level(logging.DEBUG, "acceptor")
    made: list[Turns] = []

    def make(handler: Handler = echo, **options: Any) -> Turns:
        made.append(Turns(handler, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


# Until what, and for how long.

def test_it_is_parked_in_each_phase_until_the_client_does_something_or_its_time_is_up(
        turns: Callable[..., Turns], clock: Clock) -> None:
    one = turns(lambda request: b"x" * LARGE if request.path == "/large" else b"ok", buffer=SMALL)
    assert one.serve() is End.PARK
    assert one.parked == (Phase.FRESH, select.POLLIN, 15)
    clock.advance(5)
    assert one.serve() is End.PARK  # called back for nothing
    assert one.parked == (Phase.FRESH, select.POLLIN, 10)
    one.send(FIRST)
    assert one.serve() is End.PARK
    assert one.parked == (Phase.READING, select.POLLIN, 15)
    clock.advance(4)
    assert one.serve() is End.PARK
    assert one.parked == (Phase.READING, select.POLLIN, 11)
    one.send(REST)
    assert one.serve() is End.PARK
    assert one.parked == (Phase.IDLE, select.POLLIN, 75)
    clock.advance(3)
    assert one.serve() is End.PARK
    assert one.parked == (Phase.IDLE, select.POLLIN, 72)
    assert parse_response(one.received(), ended=False)[0].body == b"ok"
    one.send(request("/large"))
    assert one.serve() is End.PARK
    assert one.parked == (Phase.WRITING, select.POLLOUT, 30)
    assert not one.ready
    assert one.asked == 0, "there was no next request"


def test_a_handshake_is_parked_until_the_client_goes_on_with_it(turns: Callable[..., Turns], clock: Clock) -> None:
    service: dict[str, Any] = {"proxy_protocol": Networks([f"{ADDRESS[0]}/32"])}
    one = turns(echo, **service)
    one.service.tls = certificate()
    hello = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        trusting().wrap_bio(ssl.MemoryBIO(), hello, server_hostname=hostname).do_handshake()
    assert one.serve() is End.PARK
    assert one.parked == (Phase.HANDSHAKE, select.POLLIN, 10)
    for data in (b"PROXY TCP4 198.51.100.7", b" 203.0.113.1 49152 443\r\n", hello.read()):
        clock.advance(1)
        one.client.send(data)
        assert one.serve() is End.PARK
    assert one.parked == (Phase.HANDSHAKE, select.POLLIN, 7)
    assert one.connection.address == ("198.51.100.7", 49152)
    assert len(one.received()) > 500, "the server's part of the handshake has not been sent"


def test_a_handshake_that_does_not_fit_is_parked_until_there_is_room(turns: Callable[..., Turns]) -> None:
    for _ in range(5):  # the kernel may find room for more, now and then, when it asks the client (RFC 9293 3.8.6.1)
        one = turns(echo, buffer=SMALL)
        one.service.tls = certificate()
        set_tick(one.connection.stream.raw, 0.002)
        to_the_last_byte(one.connection.stream.raw)
        hello = ssl.MemoryBIO()
        with pytest.raises(ssl.SSLWantReadError):
            trusting().wrap_bio(ssl.MemoryBIO(), hello, server_hostname=hostname).do_handshake()
        one.client.send(hello.read())
        assert one.serve() is End.PARK
        if one.parked[1] == select.POLLOUT:
            break
    assert one.parked[:2] == (Phase.HANDSHAKE, select.POLLOUT)


@transports
@pytest.mark.parametrize("goes_on", [False, True])
def test_if_the_next_request_is_there_it_is_asked_whether_to_go_on(
        turns: Callable[..., Turns], goes_on: bool, tls: bool) -> None:
    one = turns(lambda request: request.path, tls=tls)
    one.goes_on = goes_on
    one.send(request("/1") + request("/2"))
    if tls:
        one.send(request("/3"))  # in a record of its own
    asked = 2 if tls else 1
    for turn in range(1 if goes_on else asked + 1):
        assert one.serve() is End.PARK
        assert one.connection.phase is Phase.IDLE
        if not goes_on and turn < asked:
            assert one.ready, "it must come back, although nothing more is sent"
    assert (one.asked, one.ready) == (asked, False)
    rest = one.received()
    for number in range(1, asked + 2):
        received, rest = parse_response(rest, ended=False)
        assert received.body == b"/%d" % number
    assert rest == b""


def test_a_handler_may_wait_for_its_client(turns: Callable[..., Turns]) -> None:
    """It reads and writes as if nothing were ever parked."""
    seen: list[bool] = []

    def handler(request: Request) -> bytes:
        seen.append(one.connection.stream.waits)
        return request.body.read()

    one = turns(handler)
    for _ in range(2):
        one.send(request(method="POST", body=b"x" * 10_000))
        assert one.serve() is End.PARK
    assert seen == [True, True]


# Its time is up; or it comes just in time.

@transports
def test_when_nothing_comes_in_time_it_ends_in_order(turns: Callable[..., Turns], clock: Clock, tls: bool) -> None:
    for sent, seconds in ((b"", 15), (request(), 75)):
        one = turns(echo, tls=tls)
        if sent:
            one.send(sent)
        assert one.serve() is End.PARK
        one.received()
        clock.advance(seconds - 0.1)
        assert one.serve() is End.PARK
        clock.advance(0.1)
        assert one.serve() is End.CLOSE
        one.connection.close()
        assert one.received() == b""
        assert one.tls is None or one.tls.ended, "no close_notify"
        assert read_all(one.client.sock) == b""


def test_a_head_that_is_not_complete_in_time_is_answered_408(turns: Callable[..., Turns], clock: Clock) -> None:
    one = turns(echo)
    one.send(FIRST)
    assert one.serve() is End.PARK
    clock.advance(15)
    assert one.serve() is End.LINGER
    assert parse_response(one.received(), ended=False)[0].status == 408


def test_a_handshake_that_is_not_complete_in_time_is_closed(turns: Callable[..., Turns], clock: Clock) -> None:
    for options in ({"tls": certificate()}, {"proxy_protocol": Networks([f"{ADDRESS[0]}/32"])}):
        one = turns(echo)
        for name, value in options.items():
            setattr(one.service, name, value)
        one.client.send(b"P" if "proxy_protocol" in options else b"\x16")
        assert one.serve() is End.PARK
        clock.advance(10)
        assert one.serve() is End.CLOSE
        assert one.received() == b""


@transports
@pytest.mark.parametrize("sent", [b"", FIRST, request()], ids=["fresh", "reading", "idle"])
def test_what_came_in_time_is_answered_however_late_we_are(
        turns: Callable[..., Turns], clock: Clock, sent: bytes, tls: bool) -> None:
    """It waited for a thread, perhaps; that is not its client's fault."""
    one = turns(echo, tls=tls)
    if sent:
        one.send(sent)
    assert one.serve() is End.PARK
    one.received()
    one.send(REST if sent == FIRST else request())
    clock.advance(1000)
    assert one.serve() is End.PARK
    assert parse_response(one.received(), ended=False)[0].status == 200


def test_a_head_that_comes_byte_by_byte_has_its_time_and_no_more(turns: Callable[..., Turns], clock: Clock) -> None:
    one = turns(echo)
    data = request(headers=["X-Long: " + "y" * 100])
    for byte in data[:15]:
        one.send(bytes([byte]))
        assert one.serve() is End.PARK
        clock.advance(1)
    one.send(data[15:16])
    assert one.serve() is End.LINGER
    assert parse_response(one.received(), ended=False)[0].status == 408


@transports
@pytest.mark.parametrize("kind", ["bytes", "file"])
@pytest.mark.parametrize("alone", [False, True], ids=["park", "alone"])
def test_a_response_that_is_not_taken_is_cut_when_the_credit_is_spent(
        turns: Callable[..., Turns], clock: Clock, kind: str, alone: bool, tls: bool) -> None:
    body = sparse_file(LARGE) if kind == "file" else None
    one = turns(lambda request: Response(body or b"x" * LARGE), tls=tls, buffer=SMALL, alone=alone)
    one.send(request())
    assert one.serve() is End.PARK
    phase, wants, left = one.parked
    assert (phase, wants) == (Phase.WRITING, select.POLLOUT)
    assert 25 < left <= 30
    clock.advance(left - 1)
    assert one.serve() is End.PARK
    clock.advance(one.parked[2] - 1)  # more than the rest of it, if its system has acknowledged something since
    assert one.serve() is End.PARK
    clock.advance(one.parked[2] + 0.001)
    assert one.serve() is End.CLOSE
    one.close()
    with pytest.raises((ConnectionResetError, OSError)):
        read_all(one.client.sock)
    assert body is None or body.closings == 1


# Responses, taken little by little.

@transports
@pytest.mark.parametrize("kind", ["bytes", "file", "reader"])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("alone", [False, True], ids=["park", "alone"])
def test_a_response_that_is_taken_slowly_arrives_whole_and_the_connection_goes_on(
        turns: Callable[..., Turns], kind: str, version: str, alone: bool, tls: bool) -> None:
    content = random.Random(1).randbytes(500_000)
    closed: list[object] = []

    class Reader:
        """Like a file, and none."""

        def __init__(self) -> None:
            self._rest = content

        def read(self, size: int = -1) -> bytes:
            piece, self._rest = self._rest[:size], self._rest[size:]
            return piece

        def close(self) -> None:
            closed.append(self)

    def handler(request: Request) -> Response | bytes:
        if request.path == "/small":
            return b"small"
        if kind == "bytes":
            return content
        if kind == "reader":
            return Response(Reader(), headers={"Content-Length": str(len(content))})  # type: ignore[arg-type]
        file = tempfile.TemporaryFile()  # noqa: SIM115  # the server's to close
        file.write(content)
        file.seek(0)
        return Response(file)

    one = turns(handler, tls=tls, buffer=SMALL, alone=alone)
    one.send(request(version=version, headers=["Connection: keep-alive"]) + request("/small"))
    data, parks = b"", 0
    while (end := one.serve()) is End.PARK:
        parks += 1
        if one.connection.phase is Phase.IDLE and one.connection.stream.wants == select.POLLIN:
            break
        while not one.ready:  # a little at a time
            data += one.tls.received(3000) if one.tls is not None else one.client.sock.recv(3000)
    assert end is End.PARK
    assert parks > 10, "this test shows nothing"
    while not data.endswith(b"small"):
        assert select.select([one.client.sock], [], [], PATIENCE)[0], f"{len(data)} bytes have come"
        data += one.received()
    received, rest = parse_response(data, ended=False)
    assert received.body == content
    assert parse_response(rest, ended=False)[0].body == b"small"
    assert len(closed) == (kind == "reader")


@pytest.mark.parametrize("alone", [False, True], ids=["park", "alone"])
@pytest.mark.parametrize("end", [End.LINGER, End.CLOSE], ids=["last response", "idle"])
def test_over_tls_an_end_for_which_there_is_no_room_is_parked_once_more(
        turns: Callable[..., Turns], clock: Clock, monkeypatch: pytest.MonkeyPatch, end: End, alone: bool) -> None:
    """An end without close_notify looks like a cut."""
    one = turns(lambda request: Response("ok", headers={"Connection": "close"} if end is End.LINGER else {}),
                tls=True, alone=alone)
    assert one.tls is not None
    shutdown, calls = TLSSocket.shutdown, []

    def full_at_first(sock: TLSSocket, how: int, flags: int = 0) -> None:
        calls.append(flags)
        if len(calls) < 3:
            sock.wants = select.POLLOUT
            raise BlockingIOError
        shutdown(sock, how, flags)

    monkeypatch.setattr(TLSSocket, "shutdown", full_at_first)
    one.send(request())
    assert one.serve() is End.PARK
    if end is End.CLOSE:
        clock.advance(75)
        assert one.serve() is End.PARK
    assert one.parked == (Phase.CLOSING, select.POLLOUT, 30)
    assert one.serve() is end
    assert calls == [socket.MSG_DONTWAIT] * 3
    assert parse_response(one.received(), ended=True)[0].body == b"ok"
    assert one.tls.ended
    one.connection.stream.end_output()
    assert len(calls) == 3


def test_an_end_for_which_there_never_is_room_is_given_up(
        turns: Callable[..., Turns], clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(sock: TLSSocket, how: int, flags: int = 0) -> None:
        raise BlockingIOError

    one = turns(lambda request: Response("ok", headers={"Connection": "close"}), tls=True)
    monkeypatch.setattr(TLSSocket, "shutdown", full)
    one.send(request())
    assert one.serve() is End.PARK
    clock.advance(one.parked[2])
    assert one.serve() is End.CLOSE


@transports
def test_a_refusal_behind_a_response_that_is_not_read_yet_is_sent_when_there_is_room(
        turns: Callable[..., Turns], tls: bool) -> None:
    waited = 0
    for size in range(60_000, 70_000, 500):
        one = turns(lambda request, size=size: b"x" * size, tls=tls, buffer=SMALL)
        one.goes_on = True
        one.send(request() + b"garbage\r\n\r\n")
        data = b""
        while (end := one.serve()) is End.PARK:
            waited += one.connection.phase is not Phase.WRITING  # in the refusal
            while not one.ready:
                data += one.tls.received(1000) if one.tls is not None else one.client.sock.recv(1000)
        assert end is End.LINGER
        data += one.received() if one.tls is not None else read_all(one.client.sock)
        while one.tls is not None and not one.tls.ended:
            data += one.received()
        received, rest = parse_response(data, ended=False)
        assert len(received.body) == size
        assert parse_response(rest, ended=False)[0].status == 400
        one.close()
    assert waited, "there has been room each time: this test shows nothing"


def test_a_body_that_nobody_read_is_waited_for_behind_a_file_and_the_handler_is_not_called_twice(
        turns: Callable[..., Turns]) -> None:
    """Half a record has come when it is looked for: there is something to be read, and yet nothing."""
    calls = []

    def handler(request: Request) -> Response:
        calls.append(request.path)
        one.client.send(record[:7])
        return Response(sparse_file(100))

    one = turns(handler, tls=True)
    assert one.tls is not None
    one.send(request(method="POST", headers=["Content-Length: 5"]))
    record = one.tls.encrypt(b"hello")
    set_tick(one.connection.stream.raw, 0.01)
    end = one.serve()
    assert (calls, end) == (["/"], End.LINGER)


# While the server stops.

@transports
def test_at_the_stop_nobody_waits_once_more_for_who_has_been_parked(
        turns: Callable[..., Turns], clock: Clock, tls: bool) -> None:
    """A tick for each of ten thousand would be half an hour."""
    fresh, idle = turns(echo, tls=tls), turns(echo, tls=tls)
    idle.send(request())
    for one in (fresh, idle):
        assert one.serve() is End.PARK
        one.received()
        one.service.stopping = True
    clock.advance(1)
    assert idle.serve(stops=True) is End.CLOSE
    idle.connection.close()
    assert idle.received() == b""
    assert fresh.serve(stops=True) is End.LINGER
    assert parse_response(fresh.received(), ended=False)[0].status == 503


@transports
@pytest.mark.parametrize("sent", [b"", FIRST, request(), request() + FIRST], ids=["fresh", "reading", "idle", "half"])
@pytest.mark.parametrize("stops", [True, False])
def test_at_the_stop_a_request_that_has_come_is_answered_and_is_the_last(
        turns: Callable[..., Turns], sent: bytes, stops: bool, tls: bool) -> None:
    """stops: False: whoever serves it does not know yet."""
    one = turns(echo, tls=tls)
    if sent:
        one.send(sent)
    while one.serve() is End.PARK and one.ready:
        pass
    one.received()
    one.service.stopping = True
    one.send(REST if sent.endswith(FIRST) else request())
    assert one.serve(stops=stops) is End.LINGER
    received, rest = parse_response(one.received(), ended=False)
    assert (received.status, received.keep_alive, rest) == (200, False, b"")


@transports
@pytest.mark.parametrize("kind", ["bytes", "file"])
def test_one_that_is_parked_in_its_response_can_be_served_to_its_end_by_one_who_waits(
        turns: Callable[..., Turns], kind: str, tls: bool) -> None:
    size = 300_000
    one = turns(lambda request: Response(sparse_file(size) if kind == "file" else b"\0" * size), tls=tls, buffer=SMALL)
    one.send(request())
    assert one.serve() is End.PARK
    one.service.stopping = True
    data = b""

    def read() -> None:
        nonlocal data
        while len(data) < size:
            assert select.select([one.client.sock], [], [], PATIENCE)[0]
            data += one.received()

    reading = threading.Thread(target=read)
    reading.start()
    assert one.serve(stops=True) is End.CLOSE
    reading.join(PATIENCE)
    assert parse_response(data + one.received(), ended=True)[0].body == b"\0" * size


# Refused.

def test_nobody_is_refused_who_has_nothing_to_be_refused_or_half_an_answer(turns: Callable[..., Turns]) -> None:
    one = turns(lambda request: b"x" * LARGE if request.path == "/large" else b"ok", buffer=SMALL)
    connection = one.connection

    def takes_refusal() -> bool:
        return connection.refusable and connection.has_come

    assert takes_refusal(), "it is new"
    assert one.serve() is End.PARK
    assert not takes_refusal(), "it has said nothing"
    one.send(FIRST)
    assert takes_refusal()
    assert one.serve() is End.PARK
    assert takes_refusal()
    one.send(REST)
    assert one.serve() is End.PARK
    assert not takes_refusal(), "it is idle"
    one.send(request() + request())
    assert takes_refusal()
    assert one.serve() is End.PARK
    assert takes_refusal(), "its next request has been read"
    assert one.serve() is End.PARK
    assert not takes_refusal()
    one.send(request("/large"))
    assert one.serve() is End.PARK
    assert not takes_refusal(), "it has half an answer"


def test_what_is_urgent_is_not_looked_for_behind_a_request_that_has_been_read(turns: Callable[..., Turns]) -> None:
    """Its answer would be taken for that of the request before it."""
    one = turns()
    one.send(request("/1") + request("/2"))
    assert one.serve() is End.PARK
    one.send(request("/health"))
    assert peek(one.connection) == b""
    assert one.serve() is End.PARK
    assert peek(one.connection) == request("/health")


# Given up.

def test_past_the_deadline_nothing_is_parked_though_its_response_was_sent_before(turns: Callable[..., Turns]) -> None:
    def handler(request: Request) -> Response:
        response = Response(b"", headers={"Content-Length": "2"})
        request.begin(response)(b"ok")
        one.service.stopping = one.service.cut = True
        return response

    one = turns(handler)
    one.send(request())
    assert one.serve() is End.CLOSE
    one.connection.close()
    assert parse_response(one.received(), ended=True)[0].body == b"ok"


@transports
@pytest.mark.parametrize("kind", ["bytes", "file"])
def test_what_is_closed_in_the_middle_of_its_response_is_reset_and_its_body_closed(
        turns: Callable[..., Turns], caplog: pytest.LogCaptureFixture, kind: str, tls: bool) -> None:
    file = sparse_file(LARGE) if kind == "file" else None
    one = turns(lambda request: Response(file or b"x" * LARGE), tls=tls, buffer=SMALL, log_access=True)
    one.send(request())
    assert one.serve() is End.PARK
    one.connection.close()
    assert file is None or file.closings == 1
    with pytest.raises((ConnectionResetError, OSError)):
        read_all(one.client.sock)
    [record] = access_records(caplog)
    assert (record.status, record.complete) == (200, False)


@pytest.mark.parametrize("leave", [RawClient.close, RawClient.reset])
def test_the_request_of_a_client_that_leaves_is_gone_without_the_garbage_collector(
        turns: Callable[..., Turns], leave: Callable[[RawClient], None]) -> None:
    for kind in ("bytes", "file", "pieces"):
        gone: list[weakref.ref[Request]] = []

        def handler(request: Request, kind: str = kind, gone: list[weakref.ref[Request]] = gone) -> Response:
            gone.append(weakref.ref(request))
            return Response(b"x" * LARGE if kind == "bytes" else sparse_file(LARGE) if kind == "file" else
                            Body(endless()))

        one = turns(handler, buffer=SMALL)
        gc.collect()
        gc.disable()
        try:
            one.send(request())
            if kind == "pieces":
                leave(one.client)
            else:
                assert one.serve() is End.PARK
                leave(one.client)
            while one.serve() is End.PARK:
                assert select.select([], [one.connection], [], PATIENCE)[1]
            assert gone[0]() is None, kind
        finally:
            gc.enable()


def test_an_idle_connection_keeps_nothing_of_its_last_request(turns: Callable[..., Turns]) -> None:
    one = turns(echo)
    one.send(request())
    assert one.serve() is End.PARK
    assert one.connection.head is None
    assert one.connection._exchange is None


# However it is cut.

@pytest.mark.parametrize("driver", ["park", "alone"])
def test_a_request_may_be_cut_anywhere(driver: Driver) -> None:
    session = Session(echo, driver=driver)
    data = request(method="POST", headers=["X: y"], body=b"hello")
    head = data.index(b"\r\n\r\n") + 4
    for cut in range(1, len(data) if driver == "alone" else head):
        parks = session.parks
        session.client.send(data[:cut])
        session.await_parks(parks + 1)
        session.client.send(data[cut:])
        assert session.client.read_response().body == b"hello"
        session.await_recv(Phase.IDLE, cut)
    assert session.leave() is End.CLOSE


@pytest.mark.parametrize("driver", ["park", "alone"])
def test_a_connection_over_tls_behind_a_proxy_may_come_byte_by_byte(driver: Driver) -> None:
    session = Session(lambda request: str(request.client), driver=driver, tls=True, raw=True,
                      proxy_protocol=Networks([f"{ADDRESS[0]}/32"]))
    sock = session.client.sock

    def trickle(data: bytes) -> None:
        for byte in data:
            parks = session.parks
            sock.send(bytes([byte]))
            session.await_parks(parks + 1)

    trickle(b"PROXY TCP4 198.51.100.7 203.0.113.1 49152 443\r\n")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trusting().wrap_bio(incoming, outgoing, server_hostname=hostname)
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            trickle(outgoing.read())
            incoming.write(sock.recv(1 << 16))
    trickle(outgoing.read())
    tls.write(request())
    trickle(outgoing.read())
    answer = b""
    while not answer.endswith(b"49152)"):
        incoming.write(sock.recv(1 << 16))
        try:
            answer += tls.read(1 << 16)
        except ssl.SSLWantReadError:
            pass
    assert parse_response(answer, ended=False)[0].body == b"('198.51.100.7', 49152)"
    assert session.leave() is End.CLOSE


# Whole servers.

MODELS: dict[str, Callable[..., ThreadedTaskmaster]] = {
    "pooled": lambda threads=4: PooledTaskmaster(threads=threads, queue_size=None, idle="park"),
    "recycling": lambda threads=4: RecyclingTaskmaster(standby=threads, max_thread_count=threads, idle="park"),
}
Start = Callable[..., Server]


@pytest.fixture
def watched_clock(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Of the watcher too, which rings for those whose time is up. For fixtures and servers that come after it."""
    monkeypatch.setattr("acceptor.watcher.time", clock)
    return clock


@pytest.fixture
def start() -> Iterator[Start]:
    """start(handler, taskmaster): a running server. At the end it is stopped, and nothing may be left of it.

    loses: it may have had to cut something."""
    servers: list[Server] = []
    losing: list[Server] = []
    before = len(os.listdir("/proc/self/fd"))

    def start(handler: Handler, taskmaster: ThreadedTaskmaster, *, loses: bool = False, **options: Any) -> Server:
        server = Server(WatchedAcceptor(handler, **{"taskmaster": taskmaster, "port": 0, **options}))
        server.start()
        (losing if loses else servers).append(server)
        return server

    yield start
    assert [problem for server in servers for problem in server.stop()] == []
    for server in losing:
        server.stop()
    assert [error for server in servers for error in server.errors] == []
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Callable[..., ThreadedTaskmaster]:
    return MODELS[request.param]


def until(condition: Callable[[], bool], what: str, show: Callable[[], object]) -> None:
    """Wait for what notifies nobody."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited {PATIENCE:g} s in vain for {what}; {show()}"
        time.sleep(0.002)


def await_parked(server: Server, count: int, phase: Phase | None = None) -> None:
    """Wait until so many are parked, in `phase`, and nobody is served."""
    def condition() -> bool:
        snapshot = server.taskmaster.snapshot()
        phases = [connection.phase for connection, _ in server.acceptor._registry.items()]
        return ((snapshot.parked, snapshot.queued, snapshot.threads[ThreadState.SERVING]) == (count, 0, 0)
                and (phase is None or phases.count(phase) == count))

    until(condition, f"{count} to be parked", server.taskmaster.snapshot)


def parked(server: Server, count: int) -> list[RawClient]:
    """So many clients that have had an answer, and are idle."""
    clients = [server.connect() for _ in range(count)]
    for client in clients:
        client.send(request())
    for client in clients:
        assert client.read_response().status == 200
    return clients


def test_300_idle_connections_cost_no_thread_and_keep_nobody_waiting(
        start: Start, model: Callable[..., ThreadedTaskmaster]) -> None:
    threads: set[threading.Thread] = set()

    def handler(request: Request) -> bytes:
        threads.add(threading.current_thread())
        return request.path.encode()

    server = start(handler, model())
    idle = parked(server, 300)
    await_parked(server, 300)

    def work(number: int) -> None:
        client = server.connect()
        for turn in range(50):
            client.send(request(f"/{number}/{turn}"))
            assert client.read_response().body == b"/%d/%d" % (number, turn)
        client.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    for client in idle:
        client.send(request("/again"))
    for client in idle:
        assert client.read_response().body == b"/again"
    await_parked(server, 300)
    snapshot = server.taskmaster.snapshot()
    assert (snapshot.accepted, snapshot.served, snapshot.refused, server.acceptor.connection_count) == (304, 4, 0, 300)
    assert len(threads) <= 4


def test_clients_that_do_nothing_or_half_of_it_cost_no_thread(
        start: Start, model: Callable[..., ThreadedTaskmaster]) -> None:
    for tls in (None, certificate()):
        server = start(echo, model(2), tls=tls)
        silent = [server.connect() for _ in range(20)]
        half = [server.connect() for _ in range(20)]
        for client in half:
            client.send(b"\x16\x03\x01" if tls else FIRST)
        await_parked(server, 40)
        sock = server.connect().sock
        with trusting().wrap_socket(sock, server_hostname=hostname) if tls else sock as other:
            other.sendall(request(headers=["Connection: close"]))
            assert parse_response(read_all(other), ended=True)[0].status == 200
        for client in silent + half:
            client.close()


@pytest.mark.parametrize("kind", ["bytes", "file"])
def test_clients_that_read_slowly_cost_no_thread_and_get_everything(
        start: Start, model: Callable[..., ThreadedTaskmaster], kind: str) -> None:
    size = 8_000_000

    def handler(request: Request) -> Response | bytes:
        if request.path == "/small":
            return b"small"
        return Response(sparse_file(size)) if kind == "file" else b"\0" * size

    server = start(handler, model(2))
    slow = [server.connect() for _ in range(16)]
    for client in slow:
        client.send(request("/large") + request("/small"))
    await_parked(server, 16, Phase.WRITING)
    other = server.connect()
    other.send(request("/small"))
    assert other.read_response().body == b"small"
    for client in slow:
        assert client.read_response().body == b"\0" * size
        assert client.read_response().body == b"small"


def test_idle_connections_whose_time_is_up_are_closed(
        start: Start, model: Callable[..., ThreadedTaskmaster]) -> None:
    server = start(echo, model(), timeouts=Timeouts(keep_alive=0.3, head=0.3))
    silent = [server.connect() for _ in range(10)]
    for client in parked(server, 100) + silent:
        client.expect_eof()
    until(lambda: server.taskmaster.snapshot().served == 110, "all to be over", server.taskmaster.snapshot)
    assert server.acceptor.connection_count == 0


def outcome(client: RawClient) -> str:
    """What became of a request: a status, or "closed"; it must not be half an answer."""
    try:
        data = client.sock.recv(1 << 16)
        if data:
            received, rest = parse_response(data, ended=False)
            assert rest == b""
            return str(received.status)
    except OSError:
        pass
    return "closed"


def test_a_request_in_the_very_moment_its_time_is_up_is_answered_or_the_connection_is_closed(
        watched_clock: Clock, start: Start, model: Callable[..., ThreadedTaskmaster]) -> None:
    server = start(echo, model())
    outcomes = Counter[str]()
    for _ in range(20):
        clients = parked(server, 10)
        await_parked(server, 10)
        together = threading.Barrier(2)

        def send(clients: list[RawClient] = clients, together: threading.Barrier = together) -> None:
            together.wait(PATIENCE)
            for client in clients:
                try:
                    client.send(request())
                except OSError:
                    pass

        sending = threading.Thread(target=send)
        sending.start()
        together.wait(PATIENCE)
        watched_clock.advance(75)
        sending.join(PATIENCE)
        outcomes.update(outcome(client) for client in clients)
        for client in clients:
            client.close()
        until(lambda: server.acceptor.connection_count == 0, "all to be over", server.taskmaster.snapshot)
    assert set(outcomes) <= {"200", "closed"}, outcomes


def test_a_stop_with_300_idle_connections_closes_them_at_once(
        start: Start, model: Callable[..., ThreadedTaskmaster]) -> None:
    server = start(echo, model(), timeouts=Timeouts(linger=0.3))
    clients = parked(server, 250) + [server.connect() for _ in range(50)]
    await_parked(server, 300)
    begun = time.monotonic()
    assert not server.acceptor.stop(deadline=PATIENCE)
    took = time.monotonic() - begun
    for client in clients[:250]:
        client.expect_eof()
    assert {outcome(client) for client in clients[250:]} == {"503"}, "they had said nothing"
    assert took < 3, f"{took} s"
    assert server.taskmaster.snapshot().served == 300


@pytest.mark.parametrize("before", [b"", FIRST, request()], ids=["fresh", "reading", "idle"])
def test_a_stop_while_one_sends_answers_or_closes(
        start: Start, model: Callable[..., ThreadedTaskmaster], before: bytes) -> None:
    outcomes = Counter[str]()
    for _ in range(4):
        server = start(echo, model(), timeouts=Timeouts(linger=0.3))
        clients = [server.connect() for _ in range(10)]
        for client in clients:
            client.send(before)
            if before == request():
                client.read_response()
        await_parked(server, 10, Phase.IDLE if before == request() else Phase.READING if before else Phase.FRESH)
        together = threading.Barrier(2)

        def send(clients: list[RawClient] = clients, together: threading.Barrier = together) -> None:
            together.wait(PATIENCE)
            for client in clients:
                try:
                    client.send(REST if before == FIRST else request())
                except OSError:
                    pass

        sending = threading.Thread(target=send)
        sending.start()
        together.wait(PATIENCE)
        assert not server.acceptor.stop(deadline=PATIENCE)
        sending.join(PATIENCE)
        outcomes.update(outcome(client) for client in clients)
        snapshot = server.taskmaster.snapshot()
        assert snapshot.accepted == snapshot.served == 10, snapshot
    if before == FIRST:
        assert set(outcomes) == {"200"}, outcomes
    elif before:
        assert set(outcomes) <= {"200", "closed"}, outcomes
    else:
        assert set(outcomes) <= {"200", "503", "closed"}, outcomes


def test_a_stop_with_slow_readers_lets_them_have_all_of_it(
        start: Start, model: Callable[..., ThreadedTaskmaster]) -> None:
    size = 8_000_000
    server = start(lambda request: b"\0" * size, model(2))
    clients = [server.connect() for _ in range(6)]
    for client in clients:
        client.send(request())
    await_parked(server, 6, Phase.WRITING)
    with ThreadPoolExecutor(7) as pool:
        stopping = pool.submit(lambda: server.acceptor.stop(deadline=PATIENCE))
        answers = list(pool.map(lambda client: client.read_response().body, clients))
    assert not stopping.result()
    assert answers == [b"\0" * size] * 6


def test_past_the_deadline_what_is_parked_in_the_middle_is_cut_and_reported(
        start: Start, model: Callable[..., ThreadedTaskmaster]) -> None:
    files: list[CountedFile] = []

    def handler(request: Request) -> Response:
        files.append(sparse_file(LARGE))
        return Response(files[-1])

    server = start(handler, model(2), loses=True)
    clients = [server.connect() for _ in range(6)]
    for client in clients:
        client.send(request())
    await_parked(server, 6, Phase.WRITING)
    report = server.acceptor.stop(deadline=0.0)
    assert (len(report.cut), report.stuck) == (6, ()), report
    for client in clients:
        client.read_to_reset()
    assert [file.closings for file in files] == [1] * 6


# Full.

class Full:
    """A server with room for one request, none of which may wait; `fill` takes it, until `leave` is opened."""

    def __init__(self, start: Start) -> None:
        self.entered, self.leave = Gate("the worker is busy"), Gate("the worker may go on")
        self.files: list[CountedFile] = []
        self.server = start(self._handle, PooledTaskmaster(threads=1, queue_size=0, idle="park"),
                            timeouts=Timeouts(linger=0.3, handler=None))

    def fill(self) -> None:
        self.client = self.server.connect()
        self.client.send(request("/wait"))
        self.entered.pass_through()

    def end(self) -> None:
        self.leave.open()
        assert self.client.read_response().body == b"ok"
        self.client.close()

    def _handle(self, request: Request) -> Response | bytes:
        if request.path == "/wait":
            self.entered.open()
            self.leave.pass_through()
        if request.path == "/large":
            self.files.append(sparse_file(LARGE))
            return Response(self.files[-1])
        return b"ok"


@pytest.fixture
def full(start: Start) -> Iterator[Full]:
    full = Full(start)
    yield full
    full.end()


def one_by_one(server: Server, count: int, data: bytes = b"") -> list[RawClient]:
    """So many parked clients, of a server which has room for one at a time."""
    clients: list[RawClient] = []
    for number in range(count):
        clients.append(server.connect())
        clients[-1].send(data)
        if data == request():
            assert clients[-1].read_response().status == 200
        await_parked(server, number + 1, {b"": Phase.FRESH, FIRST: Phase.READING, request(): Phase.IDLE}.get(
            data, Phase.WRITING))
    return clients


@pytest.mark.parametrize("before", [b"", FIRST, request()], ids=["fresh", "reading", "idle"])
def test_when_full_one_that_comes_back_with_a_request_gets_503(full: Full, before: bytes) -> None:
    [client] = one_by_one(full.server, 1, before)
    full.fill()
    client.send(REST if before == FIRST else request())
    assert client.read_response().status == 503
    client.expect_eof()


@pytest.mark.parametrize("before", [b"", request()], ids=["fresh", "idle"])
def test_when_full_one_whose_time_is_up_is_closed_without_a_word(
        watched_clock: Clock, full: Full, before: bytes) -> None:
    clients = one_by_one(full.server, 3, before)
    full.fill()
    watched_clock.advance(75)
    for client in clients:
        client.expect_eof()
    assert full.server.taskmaster.snapshot().refused == 3


def test_when_full_one_that_comes_back_in_the_middle_of_its_response_gets_the_rest_of_it_or_a_reset(full: Full) -> None:
    """And no 503 in between."""
    [writing] = one_by_one(full.server, 1, request("/large"))
    full.fill()
    data = writing.sock.recv(1 << 16)
    head = data.index(b"\r\n\r\n") + 4

    def came_back() -> bool:
        snapshot = full.server.taskmaster.snapshot()
        return bool(snapshot.queued or snapshot.refused)

    while not came_back() and len(data) < LARGE // 2:
        data += writing.sock.recv(1 << 16)
    until(came_back, "it to come back", full.server.taskmaster.snapshot)
    full.leave.open()
    try:
        while len(data) < head + LARGE and (piece := writing.sock.recv(1 << 24)):
            data += piece
    except ConnectionResetError:
        pass
    else:
        assert len(data) == head + LARGE
    assert not data[head:].strip(b"\0")
    until(lambda: full.files[0].closings == 1, "the file to be closed", lambda: full.files)


# What else there is.

def test_parked_connections_count_for_the_limit(start: Start, model: Callable[..., ThreadedTaskmaster]) -> None:
    server = start(echo, model(), limits=Limits(connections=10))
    clients = parked(server, 10)
    await_parked(server, 10)
    one_too_many = server.connect()
    assert one_too_many.read_response().status == 503
    one_too_many.close()
    clients[0].close()
    until(lambda: server.acceptor.connection_count == 9, "one to be closed", server.taskmaster.snapshot)
    parked(server, 1)
    assert server.acceptor.refused_count == 1


def test_a_handler_that_takes_too_long_is_logged_with_its_stack_on_whatever_thread_it_runs(
        start: Start, model: Callable[..., ThreadedTaskmaster]) -> None:
    logged = Gate("it has been logged")

    def handler(request: Request) -> bytes:
        if request.path == "/slow":
            return wait_to_be_logged()
        return b"ok"

    def wait_to_be_logged() -> bytes:
        logged.pass_through()
        return b"at last"

    server = start(handler, model(), timeouts=Timeouts(handler=0.1))
    [client] = parked(server, 1)
    await_parked(server, 1)
    client.send(request("/slow"))
    until(lambda: any("wait_to_be_logged" in record.getMessage() for record in server.records), "a warning",
          lambda: server.records)
    logged.open()
    assert client.read_response().body == b"at last"


def test_one_that_was_parked_can_be_detached(start: Start, model: Callable[..., ThreadedTaskmaster]) -> None:
    def handler(request: Request) -> str:
        if request.path != "/detach":
            return "ok"
        detached = request.detach()
        with detached.socket as sock:
            sock.sendall(b"hello from the other side")
        return ""

    server = start(handler, model())
    [client] = parked(server, 1)
    await_parked(server, 1)
    client.send(request("/detach"))
    assert client.read_to_end() == b"hello from the other side"


@pytest.mark.parametrize("seed", range(2))
def test_whatever_clients_do_the_books_balance_and_every_answer_is_whole(
        start: Start, model: Callable[..., ThreadedTaskmaster], seed: int) -> None:
    def handler(request: Request) -> Response | bytes:
        if request.path.startswith("/large"):
            return b"\0" * 300_000
        if request.path.startswith("/file"):
            return Response(sparse_file(300_000))
        return request.path.encode()

    server = start(handler, model(3), timeouts=Timeouts(keep_alive=0.2, head=0.3))
    answers = Counter[str]()

    def act(number: int) -> None:
        dice = random.Random(seed * 1000 + number)
        for _ in range(15):
            client = RawClient.connect(server.port)
            try:
                for _ in range(dice.randrange(6)):
                    kind = dice.choice(["/small", "/small", "/large", "/file"])
                    data = request(kind)
                    cut = dice.randrange(len(data))
                    client.send(data[:cut])
                    if dice.random() < 0.1:
                        break
                    client.send(data[cut:])
                    if dice.random() < 0.1:
                        break
                    received = client.read_response()
                    if received.status == 408:
                        break
                    assert received.body == (b"/small" if kind == "/small" else b"\0" * 300_000)
                    answers[kind] += 1
            except (OSError, Truncated) as error:  # its time was up
                answers[type(error).__name__] += 1
            finally:
                dice.choice([client.close, client.reset])()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(act, range(8)))
    until(lambda: server.acceptor.connection_count == 0, "all to be over", server.taskmaster.snapshot)
    snapshot = server.taskmaster.snapshot()
    assert (snapshot.accepted, snapshot.parked, snapshot.queued) == (snapshot.served, 0, 0), snapshot
    assert answers["/small"] > 20, answers
