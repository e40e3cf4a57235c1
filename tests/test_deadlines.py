"""Every wait for a client has an end, however it trickles: in each phase, under pressure, in the clear and over TLS.

Hours pass here in no time, for the clock moves only when a test says so. How far the server has come in the meantime is
seen at its socket: `await_tick` has it look at the clock, `await_reads` has it take what was sent.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from acceptor import Timeouts
from acceptor.messages import BodyError, Request, Response
from acceptor.networks import Networks
from acceptor.phases import End, Phase
from tests.clients import PATIENCE, Gate, RawClient, Truncated, request
from tests.sessions import (
    ADDRESS,
    LARGE,
    SMALL,
    Body,
    Clock,
    Serve,
    Session,
    echo,
    endless,
    hostname,
    refusals,
    sessions,
    sparse_file,
    transports,
    trusting,
)

TIMEOUTS = Timeouts(handshake=10, head=15, body=30, write=30, keep_alive=75, minimum_rate=500, pressed=2)
"""As they are by default; but here they are a part of what is tested."""
STRICT = Timeouts(handshake=10, head=15, body=30, write=30, keep_alive=75, minimum_rate=None, pressed=None)
EARNING_NOTHING = replace(TIMEOUTS, minimum_rate=None)
"""What the client's system takes for a client that does not read comes when it likes, and would earn time."""
NEVER = 6 * PATIENCE
"""Seconds of a tick that no test sees the end of: what is seen there is seen because something has come."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock().install(monkeypatch)


@pytest.fixture
def serve(caplog: pytest.LogCaptureFixture, clock: Clock) -> Iterator[Serve]:
    yield from sessions(caplog)


def pass_time(session: Session, clock: Clock, seconds: float) -> None:
    """Let `seconds` pass, of which the server takes notice: at the end of one of its ticks."""
    clock.advance(seconds)
    session.await_tick()


def trickle(session: Session, clock: Clock, data: bytes, seconds: float,
            send: Callable[[bytes], object] | None = None) -> int:
    """Send `data` byte by byte, each `seconds` after the last, until the server has had enough; how many it took.

    `session` is one without ticks, so the server notices at the bytes or not at all.
    """
    send = send or session.client.send
    for count, byte in enumerate(data):
        reads = session.reads
        try:
            send(bytes([byte]))
        except OSError:  # it has closed the connection already
            return count
        session.await_reads(reads + 1)
        if session.over or session.phase is Phase.CLOSING:
            return count + 1
        clock.advance(seconds)
    return len(data)


# The first byte, and the head.

@transports
def test_who_sends_nothing_is_closed_without_a_word(serve: Serve, clock: Clock, tls: bool) -> None:
    session = serve(echo, timeouts=TIMEOUTS, tls=tls)
    session.await_recv(Phase.FRESH)
    pass_time(session, clock, 14.9)
    assert not session.over
    clock.advance(0.2)
    session.client.expect_eof()
    assert session.await_end() is End.CLOSE


@transports
def test_who_stops_in_the_head_is_told_408(serve: Serve, clock: Clock, tls: bool) -> None:
    session = serve(echo, timeouts=TIMEOUTS, tls=tls)
    session.await_recv(Phase.FRESH)
    pass_time(session, clock, 14)  # waiting for the first byte is another matter
    session.client.send(b"GET / HTTP/1.1\r\nHo")
    session.await_recv(Phase.READING)
    pass_time(session, clock, 14.9)
    assert not session.over
    clock.advance(0.2)
    received = session.client.read_response()
    assert (received.status, received.keep_alive) == (408, False)
    session.client.expect_eof()
    assert session.await_end() is End.LINGER


@transports
@pytest.mark.parametrize("before", [0, 1], ids=["the first", "a later one"])
def test_a_head_that_comes_byte_by_byte_has_no_more_time_for_it(
        serve: Serve, clock: Clock, before: int, tls: bool) -> None:
    session = serve(echo, timeouts=TIMEOUTS, tick=NEVER, tls=tls)
    for _ in range(before):
        session.client.send(request())
        session.client.read_response()
    session.await_recv(Phase.IDLE if before else Phase.FRESH)
    clock.advance(70 if before else 14)
    assert trickle(session, clock, request(headers=["X-Long: " + "y" * 100]), 1.0) == 16
    received = session.client.read_response()
    assert (received.status, received.keep_alive) == (408, False)
    assert session.await_end() is End.LINGER


def test_a_head_that_is_complete_in_time_is_answered(serve: Serve, clock: Clock) -> None:
    session = serve(echo, timeouts=TIMEOUTS, tick=NEVER)
    head = request()
    assert trickle(session, clock, head[:-1], 14.9 / len(head)) == len(head) - 1
    session.client.send(head[-1:])
    assert session.client.read_response().status == 200


def test_each_head_has_its_own_time(serve: Serve, clock: Clock) -> None:
    session = serve(echo, timeouts=TIMEOUTS)
    for _ in range(3):
        session.client.send(b"GET / HT")
        session.await_recv(Phase.READING)
        pass_time(session, clock, 14)
        session.receiving.clear()
        session.client.send(b"TP/1.1\r\nHost: a\r\n\r\n")
        assert session.client.read_response().status == 200


def test_a_head_that_comes_too_slowly_is_logged_as_a_refusal(
        serve: Serve, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    session = serve(echo, timeouts=TIMEOUTS)
    session.client.send(b"G")
    session.await_recv(Phase.READING)
    clock.advance(15)
    session.await_end()
    assert len(refusals(caplog)) == 1
    assert "408: the head of the request came too slowly (Timeouts.head)" in refusals(caplog)[0]


# Between two requests.

@transports
def test_who_sends_no_other_request_is_closed_without_a_word(serve: Serve, clock: Clock, tls: bool) -> None:
    session = serve(echo, timeouts=TIMEOUTS, tls=tls)
    for count in (1, 2):
        session.client.send(request())
        session.client.read_response()
        session.await_recv(Phase.IDLE, count)
        pass_time(session, clock, 74.9)
    assert not session.over
    clock.advance(0.2)
    session.client.expect_eof()
    assert session.await_end() is End.CLOSE


# Opening.

def send_hello(session: Session) -> bytes:
    """The first message of TLS."""
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        trusting().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=hostname).do_handshake()
    return outgoing.read()


OPENINGS: dict[str, tuple[dict[str, Any], Callable[[Session], bytes]]] = {
    "tls": ({"tls": True}, send_hello),
    "proxy": ({"proxy_protocol": Networks([ADDRESS[0]])},
              lambda session: b"PROXY TCP4 198.51.100.7 203.0.113.1 49152 443\r\n"),
    "proxy and tls": ({"tls": True, "proxy_protocol": Networks([ADDRESS[0]])},
                      lambda session: b"PROXY TCP4 1.1.1.1 1.1.1.2 1 1\r\n" + send_hello(session)),
}


@pytest.mark.parametrize("opening", OPENINGS)
def test_a_handshake_that_is_not_begun_ends(serve: Serve, clock: Clock, opening: str) -> None:
    session = serve(echo, raw=True, timeouts=TIMEOUTS, **OPENINGS[opening][0])
    session.await_recv(Phase.HANDSHAKE)
    pass_time(session, clock, 9.9)
    assert not session.over
    clock.advance(0.2)
    session.client.expect_eof()
    assert session.await_end() is End.CLOSE


@pytest.mark.parametrize("opening", OPENINGS)
@pytest.mark.parametrize("pace", [1.0, 0.25], ids=["slowly", "less slowly"])
def test_a_handshake_that_comes_byte_by_byte_has_no_more_time_for_it(
        serve: Serve, clock: Clock, opening: str, pace: float) -> None:
    options, send = OPENINGS[opening]
    session = serve(echo, raw=True, timeouts=TIMEOUTS, tick=NEVER, **options)
    session.await_recv(Phase.HANDSHAKE)
    data = send(session)
    assert trickle(session, clock, data, pace) == int(10 / pace) + 1
    assert session.await_end() is End.CLOSE


# Bodies.

def reader(statuses: list[int], size: int = 1) -> Callable[[Request], str]:
    """Reads bodies, and notes how that ends."""
    def handler(request: Request) -> str:
        try:
            while request.body.read(size):
                pass
        except BodyError as error:
            statuses.append(error.status)
            raise
        return "read"

    return handler


@transports
@pytest.mark.parametrize("lines", [["Content-Length: 1000"], ["Transfer-Encoding: chunked"]], ids=["length", "chunked"])
def test_a_body_that_stalls_is_a_408_in_the_handler_and_for_the_client(
        serve: Serve, clock: Clock, lines: list[str], tls: bool) -> None:
    statuses: list[int] = []
    session = serve(reader(statuses), timeouts=TIMEOUTS, tls=tls)
    session.client.send(request(method="POST", headers=lines))
    session.await_recv(Phase.RECEIVING)
    pass_time(session, clock, 29.9)
    assert not session.over
    clock.advance(0.2)
    received = session.client.read_response()
    assert (received.status, received.keep_alive) == (408, False)
    assert statuses == [408]
    session.client.expect_eof()
    assert session.await_end() is End.LINGER
    assert session.receiving.count(Phase.RECEIVING) == 1, "it is not waited for a second time"


@transports
@pytest.mark.parametrize(("timeouts", "taken"), [(TIMEOUTS, 32), (STRICT, 31)], ids=["rate", "strict"])
def test_a_body_that_comes_byte_by_byte_has_no_more_time_for_it(
        serve: Serve, clock: Clock, timeouts: Timeouts, taken: int, tls: bool) -> None:
    statuses: list[int] = []
    session = serve(reader(statuses), timeouts=timeouts, tick=NEVER, tls=tls)
    session.client.send(request(method="POST", headers=["Content-Length: 1000"]))
    session.await_recv(Phase.RECEIVING)
    assert trickle(session, clock, b"x" * 1000, 1.0) == taken  # at 500 bytes a second, so many earn next to nothing
    assert session.client.read_response("POST").status == 408
    assert statuses == [408]


def test_the_framing_of_a_body_earns_no_time_of_its_own(serve: Serve, clock: Clock) -> None:
    """A handler that reads gets nothing of a chunk's size line, and the clock is looked at all the same."""
    session = serve(echo, timeouts=TIMEOUTS, tick=NEVER)
    session.client.send(request(method="POST", headers=["Transfer-Encoding: chunked"]))
    session.await_recv(Phase.RECEIVING)
    assert trickle(session, clock, b"1;extension=" + b"x" * 1000, 1.0) == 32
    assert session.client.read_response("POST").status == 408


@transports
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_that_comes_steadily_may_take_hours(serve: Serve, clock: Clock, framing: str, tls: bool) -> None:
    session = serve(lambda request: str(len(request.body.read())), timeouts=TIMEOUTS, tick=NEVER, tls=tls)
    count, size = 400, 10_000
    lines = [f"Content-Length: {count * size}"] if framing == "length" else ["Transfer-Encoding: chunked"]
    session.client.send(request(method="POST", headers=lines))
    session.await_recv(Phase.RECEIVING)
    begun = clock.monotonic()
    for _ in range(count):
        clock.advance(size / 500 - 0.01)
        reads = session.reads
        session.client.send(b"x" * size if framing == "length" else b"%x\r\n%b\r\n" % (size, b"x" * size))
        session.await_reads(reads + 1)
    if framing == "chunked":
        session.client.send(b"0\r\n\r\n")
    assert session.client.read_response("POST").body == str(count * size).encode()
    assert clock.monotonic() - begun > 2 * 3600


def test_without_a_rate_no_body_may_take_longer_however_steady(serve: Serve, clock: Clock) -> None:
    session = serve(echo, timeouts=STRICT, tick=NEVER)
    session.client.send(request(method="POST", headers=["Content-Length: 100000"]))
    session.await_recv(Phase.RECEIVING)
    sent = 0
    while not session.over:
        clock.advance(1)
        reads = session.reads
        session.client.send(b"x" * 1000)
        session.await_reads(reads + 1)
        sent += 1
        assert sent <= 30
    assert session.client.read_response("POST").status == 408
    assert sent == 30


def test_what_the_handler_does_meanwhile_is_not_the_clients_time(serve: Serve, clock: Clock) -> None:
    def handler(request: Request) -> str:
        for _ in range(3):
            assert request.body.read(5) == b"hello"
            clock.advance(3600)
        return "slow"

    session = serve(handler, timeouts=TIMEOUTS)
    session.client.send(request(method="POST", body=b"hello" * 3))
    assert session.client.read_response("POST").body == b"slow"


# Responses.

RESPONSES: dict[str, Callable[[], Any]] = {
    "bytes": lambda: b"x" * LARGE, "pieces": lambda: Body(endless()), "file": lambda: sparse_file(LARGE),
}


@transports
@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("kind", RESPONSES)
def test_a_response_that_is_never_read_is_cut(
        serve: Serve, clock: Clock, kind: str, version: str, tls: bool, caplog: pytest.LogCaptureFixture) -> None:
    body = RESPONSES[kind]()
    session = serve(lambda request: Response(body), timeouts=TIMEOUTS, tls=tls, buffer=SMALL)
    session.client.send(request(version=version))
    session.client.read_head()
    while not session.over:  # what its system has taken earns it some time, and cannot be told beforehand
        assert session.phase in (Phase.WRITING, Phase.STREAMING)
        clock.advance(10)
        if kind == "file" and not tls:
            session.client.has_received()  # nobody sees the ticks of sendfile(2)
        else:
            session.await_tick()
    assert session.await_end() is End.CLOSE
    session.client.read_to_reset()
    assert "192.0.2.1:4711 does not read its response; closing" in caplog.text
    if not isinstance(body, bytes):
        assert body.closings == 1


def test_a_response_that_is_never_read_has_the_time_that_it_may_have(serve: Serve, clock: Clock) -> None:
    session = serve(lambda request: b"x" * LARGE, timeouts=STRICT, buffer=SMALL)
    session.client.send(request())
    session.client.read_head()
    session.await_tick()
    pass_time(session, clock, 29.9)
    assert not session.over
    clock.advance(0.2)
    assert session.await_end() is End.CLOSE


@transports
def test_a_response_that_is_read_steadily_may_take_hours(serve: Serve, clock: Clock, tls: bool) -> None:
    session = serve(lambda request: b"x" * 200_000, timeouts=TIMEOUTS, tick=0.002, tls=tls, buffer=SMALL)
    session.client.send(request())
    session.client.read_head()
    taken, begun = len(session.client.read_body(0)), clock.monotonic()
    while taken < 150_000:
        taken += len(session.client.sock.recv(6000))
        pass_time(session, clock, 5)  # 1200 bytes a second; TLS reads 16 KiB at a time, which takes half of the 30 s
        assert not session.over, f"cut after {taken} bytes"
    assert clock.monotonic() - begun > 100
    while taken < 200_000:
        taken += len(session.client.sock.recv(6000))


def test_each_response_has_its_own_time(serve: Serve, clock: Clock) -> None:
    session = serve(lambda request: b"x" * 100_000, timeouts=STRICT, buffer=SMALL)
    for count in (1, 2, 3):
        session.client.send(request())
        session.client.read_head()
        session.await_tick()
        pass_time(session, clock, 20)
        assert len(session.client.read_response().body) == 100_000
        session.await_recv(Phase.IDLE, count)


def test_what_the_iterator_takes_is_not_the_clients_time(serve: Serve, clock: Clock) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(5):
            clock.advance(3600)
            yield b"x" * 100_000

    session = serve(lambda request: Response(pieces()), timeouts=TIMEOUTS, buffer=SMALL)
    session.client.send(request())
    assert len(session.client.read_response().body) == 500_000


# Under pressure.

@transports
def test_under_pressure_an_idle_connection_is_closed_at_the_next_tick(serve: Serve, clock: Clock, tls: bool) -> None:
    session = serve(echo, timeouts=TIMEOUTS, tls=tls)
    session.client.send(request())
    session.client.read_response()
    session.await_recv(Phase.IDLE)
    session.service.pressed = True
    session.client.expect_eof()
    assert session.await_end() is End.CLOSE


def test_under_pressure_a_connection_goes_on_as_long_as_it_is_not_idle(serve: Serve, clock: Clock) -> None:
    session = serve(echo, timeouts=TIMEOUTS, tick=NEVER)
    session.service.pressed = True
    session.client.send(request() * 3)
    for _ in range(3):
        assert session.client.read_response().keep_alive


def begin_nothing(session: Session) -> None:
    session.await_recv(Phase.FRESH)


def begin_a_head(session: Session) -> None:
    session.client.send(b"GET / HTTP/1.1\r\nHo")
    session.await_recv(Phase.READING)


def begin_a_body(session: Session) -> None:
    session.client.send(request("/echo", method="POST", headers=["Content-Length: 10"]) + b"some")
    session.await_recv(Phase.RECEIVING)


def begin_a_response(session: Session) -> None:
    session.client.send(request("/large"))
    session.client.read_head()
    session.await_tick()  # over TLS the first tick only ends the first send; the client's credit begins behind it


BEGINNINGS = {"nothing": begin_nothing, "head": begin_a_head, "body": begin_a_body, "response": begin_a_response}


def large_or_echo(request: Request) -> bytes:
    return b"x" * LARGE if request.path == "/large" else request.body.read()


def what_it_gets(session: Session) -> int | None:
    """The status that a client reads, or None for the end; `session` has read the head of a large response."""
    try:
        return session.client.read_response().status
    except (Truncated, ConnectionResetError):
        return None


@transports
@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_under_pressure_slow_clients_have_little_time(serve: Serve, clock: Clock, beginning: str, tls: bool) -> None:
    session = serve(large_or_echo, timeouts=EARNING_NOTHING, tls=tls, buffer=SMALL)
    BEGINNINGS[beginning](session)
    session.service.pressed = True
    session.await_tick()  # from here on
    pass_time(session, clock, 1.9)
    assert not session.over
    clock.advance(0.2)
    session.await_end()
    assert what_it_gets(session) == {"head": 408, "body": 408}.get(beginning)


@transports
@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_when_pressure_comes_who_has_had_that_time_already_gives_way_at_the_next_tick(
        serve: Serve, clock: Clock, beginning: str, tls: bool) -> None:
    """Those that are waited for in one piece; credit shrinks, and is spent from then on."""
    session = serve(large_or_echo, timeouts=EARNING_NOTHING, tls=tls, buffer=SMALL)
    BEGINNINGS[beginning](session)
    session.await_tick()
    pass_time(session, clock, 10)
    assert not session.over
    session.service.pressed = True
    session.await_tick()
    assert session.over == (beginning in ("nothing", "head"))
    clock.advance(2)
    session.await_end()


@pytest.mark.parametrize("opening", OPENINGS)
def test_under_pressure_a_handshake_has_little_time(serve: Serve, clock: Clock, opening: str) -> None:
    session = serve(echo, raw=True, timeouts=TIMEOUTS, **OPENINGS[opening][0])
    session.await_recv(Phase.HANDSHAKE)
    session.service.pressed = True
    pass_time(session, clock, 1.9)
    assert not session.over
    clock.advance(0.2)
    assert session.await_end() is End.CLOSE


@pytest.mark.parametrize("beginning", ["idle", *BEGINNINGS])
def test_nobody_gives_way_to_pressure_if_that_is_switched_off(serve: Serve, clock: Clock, beginning: str) -> None:
    session = serve(large_or_echo, timeouts=STRICT, buffer=SMALL)
    if beginning == "idle":
        session.client.send(request())
        session.client.read_response()
        session.await_recv(Phase.IDLE)
    else:
        BEGINNINGS[beginning](session)
    session.service.pressed = True
    pass_time(session, clock, 14)
    session.await_tick()
    assert not session.over
    session.client.reset()


def test_a_body_that_comes_steadily_goes_on_under_pressure(serve: Serve, clock: Clock) -> None:
    session = serve(lambda request: str(len(request.body.read())), timeouts=TIMEOUTS, tick=NEVER)
    session.client.send(request(method="POST", headers=["Content-Length: 60000"]))
    session.await_recv(Phase.RECEIVING)
    session.service.pressed = True
    for _ in range(60):
        clock.advance(1.9)
        reads = session.reads
        session.client.send(b"x" * 1000)
        session.await_reads(reads + 1)
    assert session.client.read_response("POST").body == b"60000"


# What has no deadline.

def test_a_handler_may_take_as_long_as_it_likes(serve: Serve, clock: Clock) -> None:
    entered, leave = Gate("the handler runs"), Gate("a day has passed")

    def handler(request: Request) -> str:
        entered.open()
        leave.pass_through()
        return "at last"

    session = serve(handler, timeouts=TIMEOUTS)
    session.client.send(request())
    entered.pass_through()
    session.service.pressed = True
    clock.advance(86_400)
    leave.open()
    assert session.client.read_response().body == b"at last"


def test_a_client_that_leaves_at_its_deadline_is_no_failure(serve: Serve, clock: Clock) -> None:
    for go in (RawClient.close, RawClient.reset, lambda client: client.sock.shutdown(socket.SHUT_RDWR)):
        session = serve(echo, timeouts=TIMEOUTS)
        session.client.send(b"GET / HT")
        session.await_recv(Phase.READING)
        clock.advance(15)
        go(session.client)
        session.await_end()
