"""A socket read and written within deadlines: the credit of a slow client, and what a tick does and does not do.

No time passes but ticks: what the clock says is the test's business. Where a test waits for bytes, that is for the
kernel, over a real connection with small buffers.
"""

from __future__ import annotations

import os
import socket
import ssl
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acceptor import Timeouts
from acceptor.listen_socket import set_tick
from acceptor.service import Service
from acceptor.stream import Patience, Stream
from acceptor.tls import TLSSocket
from tests.clients import PATIENCE, read_all, tcp_pair
from tests.sessions import LARGE, SMALL, Clock, certificate, hostname, trusting


def service(**timeouts: Any) -> Service:
    return Service(lambda request: "unused", timeouts=Timeouts(**timeouts))


# Patience.

def outcome(patience: Patience, spent: list[tuple[float, int]]) -> int | None:
    """Spend in turn; the index at which it was used up, None if it was not."""
    for index, (waited, moved) in enumerate(spent):
        try:
            patience.spend(waited, moved)
        except TimeoutError:
            return index
    return None


@pytest.mark.parametrize(("spent", "used_up"), [
    ([(9.9, 0)], None),
    ([(10, 0)], 0),
    ([(5, 0), (4.9, 0)], None),
    ([(5, 0), (5, 0)], 1),
    ([(1, 1)] * 12, 10),                                # a byte a second gains next to nothing
    ([(1, 100)] * 1000, None),                          # the rate itself will do for ever
    ([(1, 75)] * 1000, 39),                             # a little less lasts for as long as the credit does
    ([(0, 1_000_000), (10, 0)], 1),                     # nobody can save more than there is at first
    ([(9, 0), (0, 500), (5.9, 0)], None),               # what was spent can be earned back
    ([(9, 0), (0, 500), (6, 0)], 2),
    ([(20, 2000)], None),                               # both at once: it came while we waited
])
def test_waiting_spends_credit_and_bytes_earn_it_back(spent: list[tuple[float, int]], used_up: int | None) -> None:
    assert outcome(Patience(10, service(minimum_rate=100)), spent) == used_up


def test_without_a_minimum_rate_nothing_is_earned() -> None:
    patience = Patience(10, service(minimum_rate=None))
    assert outcome(patience, [(9, 1_000_000), (0.9, 1_000_000), (0.2, 1_000_000)]) == 2


def test_under_pressure_there_is_only_so_much_credit() -> None:
    pressed = service(minimum_rate=100, pressed=2)
    patience = Patience(10, pressed)
    patience.spend(1, 0)
    pressed.pressed = True
    patience.spend(1, 0)
    assert outcome(patience, [(1, 100)] * 100) is None, "a client that keeps up need not fear"
    assert outcome(patience, [(1.5, 0), (1, 0)]) == 1
    pressed.pressed = False
    assert outcome(Patience(10, pressed), [(9, 0)]) is None


def test_nobody_gives_way_if_that_is_switched_off() -> None:
    pressed = service(pressed=None)
    pressed.pressed = True
    assert outcome(Patience(10, pressed), [(9, 0)]) is None


def test_when_the_server_has_stopped_waiting_there_is_no_credit() -> None:
    stopped = service()
    stopped.cut = True
    with pytest.raises(ConnectionAbortedError):
        Patience(10, stopped).spend(0, 1_000_000)


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(0, 5000))), st.floats(0.1, 100), st.floats(1, 1000))
def test_no_client_has_more_time_than_it_has_earned(spent: list[tuple[float, int]], credit: float, rate: float) -> None:
    ended = outcome(Patience(credit, service(minimum_rate=rate)), spent)
    survived = spent[:ended]
    assert sum(waited for waited, _ in survived) <= credit + sum(moved for _, moved in survived) / rate + 1e-6
    if ended is None and all(moved == 0 for _, moved in spent):
        assert sum(waited for waited, _ in spent) < credit


@given(st.lists(st.floats(0, 9.9)), st.floats(1, 1000))
def test_no_client_that_keeps_up_is_ever_cut(waits: list[float], rate: float) -> None:
    assert outcome(Patience(10, service(minimum_rate=rate)),
                   [(waited, int(waited * rate) + 1) for waited in waits]) is None


# Streams.

class Ends:
    """A stream, and the client's socket at the other end."""

    def __init__(self, buffer: int | None = SMALL, tick: float = 0.01, **timeouts: Any) -> None:
        self.client, self.raw = tcp_pair(buffer)
        self.client.settimeout(PATIENCE)
        set_tick(self.raw, tick)
        self.service = service(**timeouts)
        self.stream = Stream(self.raw, self.service)

    def over_tls(self) -> ssl.SSLSocket:
        """Shake hands; the client's TLS socket, which replaces its plain one."""
        with in_thread(lambda: self.stream.shake_hands(certificate().context, b"", lambda: None)):
            client = trusting().wrap_socket(self.client, server_hostname=hostname)
        self.client = client
        return client


@pytest.fixture
def ends() -> Iterator[Callable[..., Ends]]:
    with ExitStack() as stack:
        def make(*arguments: Any, **options: Any) -> Ends:
            both = Ends(*arguments, **options)
            stack.callback(both.raw.close)
            stack.callback(lambda: both.client.close())
            return both

        yield make


class in_thread:  # noqa: N801  # it reads like a function
    """Call `steps` in a thread, in a `with`, which waits for them, and raises what they raised, unless they may."""

    def __init__(self, *steps: Callable[[], object], may_raise: type[BaseException] | tuple[()] = ()) -> None:
        self.raised: BaseException | None = None
        self._may_raise = may_raise
        self._steps = steps
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            for step in self._steps:
                step()
        except BaseException as error:
            self.raised = error

    def __enter__(self) -> in_thread:
        self._thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "it does not come to its end"
        if self.raised is not None and not isinstance(self.raised, self._may_raise):
            raise self.raised


Send = Callable[[Ends], None]


class Enough(Exception):  # noqa: N818
    """Raised by a tick."""


def raise_enough() -> None:
    raise Enough


# Reading.

def test_what_has_come_is_read_without_a_look_at_the_clock(ends: Callable[..., Ends]) -> None:
    both = ends()
    both.client.send(b"hello")
    assert both.stream.receive(raise_enough) == b"hello"
    both.client.shutdown(socket.SHUT_WR)
    assert both.stream.receive(raise_enough) == b""


def test_at_each_tick_somebody_may_look_up_or_give_up(ends: Callable[..., Ends]) -> None:
    both, looks = ends(), []

    def look() -> None:
        looks.append(1)
        if len(looks) == 3:
            both.client.send(b"at last")

    assert both.stream.receive(look) == b"at last"
    assert len(looks) == 3
    with pytest.raises(Enough):
        both.stream.receive(raise_enough)


def test_a_body_is_waited_for_as_long_as_there_is_credit(
        ends: Callable[..., Ends], monkeypatch: pytest.MonkeyPatch) -> None:
    both = ends(minimum_rate=100)
    Clock(step=1).install(monkeypatch)  # each look comes a second after the last
    patience = Patience(5, both.service)
    both.client.send(b"x" * 1000)
    assert both.stream.receive_patiently(patience) == b"x" * 1000
    with pytest.raises(TimeoutError):
        both.stream.receive_patiently(patience)
    both.client.send(b"x")
    with pytest.raises(TimeoutError):  # what comes then comes too late
        both.stream.receive_patiently(patience)


def test_the_time_between_two_reads_is_not_the_clients(
        ends: Callable[..., Ends], monkeypatch: pytest.MonkeyPatch) -> None:
    both, clock = ends(minimum_rate=None), Clock().install(monkeypatch)
    patience = Patience(5, both.service)
    for _ in range(3):
        both.client.send(b"x")
        assert both.stream.receive_patiently(patience) == b"x"
        clock.advance(100)  # the handler thinks about it


def test_a_cut_ends_a_wait_for_a_body(ends: Callable[..., Ends]) -> None:
    both = ends()
    both.service.cut = True
    with pytest.raises(ConnectionAbortedError):
        both.stream.receive_patiently(Patience(1000, both.service))


def test_one_may_wait_until_a_certain_time_only(ends: Callable[..., Ends], monkeypatch: pytest.MonkeyPatch) -> None:
    both, clock = ends(), Clock().install(monkeypatch)
    both.client.send(b"x")
    assert both.stream.receive_until(clock.monotonic() - 1) == b"x", "it was there in time"
    with pytest.raises(TimeoutError):
        both.stream.receive_until(clock.monotonic() + 0.001)
    with pytest.raises(TimeoutError):
        both.stream.receive_until(clock.monotonic() - 1)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_it_is_known_whether_there_is_something_to_be_read(ends: Callable[..., Ends], tls: bool) -> None:
    both = ends()
    client: socket.socket = both.over_tls() if tls else both.client
    assert not both.stream.has_input(0)
    client.send(b"xy")
    assert both.stream.has_input(PATIENCE)
    assert both.stream.sock.recv(1) == b"x"
    assert both.stream.has_input(0)
    assert both.stream.sock.recv(1) == b"y"
    assert not both.stream.has_input(0)
    socket.socket.shutdown(client, socket.SHUT_WR)
    assert both.stream.has_input(PATIENCE), "the end of input counts"


# TLS.

class Memory:
    """The client's side of TLS, without a socket: its bytes are sent by hand."""

    def __init__(self) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = trusting().wrap_bio(self.incoming, self.outgoing, server_hostname=hostname)

    def hello(self) -> bytes:
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self.outgoing.read()

    def finish(self, received: bytes) -> bytes:
        self.incoming.write(received)
        self.tls.do_handshake()
        return self.outgoing.read()

    def encrypt(self, data: bytes) -> bytes:
        self.tls.write(data)
        return self.outgoing.read()


def byte_by_byte(both: Ends, data: bytes, looks: list[int]) -> Callable[[], None]:
    """A tick that sends the next byte, and notes the look."""
    rest = iter(data)

    def look() -> None:
        looks.append(1)
        if (byte := next(rest, None)) is not None:
            both.client.send(bytes([byte]))

    look()
    return look


def test_every_byte_of_a_handshake_is_a_look_at_the_clock(ends: Callable[..., Ends]) -> None:
    """No wait is as long as a tick, here."""
    both, client, looks = ends(tick=6 * PATIENCE), Memory(), list[int]()
    look = byte_by_byte(both, client.hello()[:100], looks)

    def until_the_last() -> None:
        look()
        if len(looks) > 100:
            raise Enough

    with pytest.raises(Enough):
        both.stream.shake_hands(certificate().context, b"", until_the_last)


def test_every_byte_of_a_record_is_a_look_at_the_clock(ends: Callable[..., Ends]) -> None:
    both, client, looks = ends(tick=6 * PATIENCE), Memory(), list[int]()
    with in_thread(lambda: both.stream.shake_hands(certificate().context, client.hello(), lambda: None)):
        answer = both.client.recv(65536)
        while len(answer) < 500:  # the certificate comes with it
            answer += both.client.recv(65536)
        both.client.send(client.finish(answer))
    record = client.encrypt(b"hello")
    assert both.stream.receive(byte_by_byte(both, record, looks)) == b"hello"
    assert len(looks) == len(record)

    patience = Patience(1000, both.service)
    record = client.encrypt(b"x" * 100)
    both.client.send(record[:50])
    both.service.cut = True
    with pytest.raises(ConnectionAbortedError):
        both.stream.receive_patiently(patience)


def test_until_hands_are_shaken_one_can_answer_in_the_clear(ends: Callable[..., Ends]) -> None:
    both = ends()
    with pytest.raises(Enough):
        both.stream.shake_hands(certificate().context, b"", raise_enough)
    assert both.stream.sock is both.raw
    both.stream.send(b"plain")
    assert both.client.recv(5) == b"plain"


# Writing.

def test_what_there_is_room_for_is_sent_without_a_look_at_anything(
        ends: Callable[..., Ends], monkeypatch: pytest.MonkeyPatch) -> None:
    both = ends()
    monkeypatch.setattr("acceptor.stream.time", None)
    monkeypatch.setattr(Stream, "_acknowledged", None)
    both.stream.send(b"hello")
    both.stream.send(b", ", more=True)
    both.stream.send(b"world")
    both.raw.close()
    assert read_all(both.client) == b"hello, world"


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("more", [False, True], ids=["", "more"])
def test_all_is_sent_once_over_as_many_ticks_as_it_takes(ends: Callable[..., Ends], more: bool, tls: bool) -> None:
    both = ends(tick=0.002)
    client: socket.socket = both.over_tls() if tls else both.client
    data = os.urandom(300_000)
    with in_thread(lambda: both.stream.send(data, more=more), lambda: both.stream.send(b"the end"), both.raw.close):
        assert read_all(client) == data + b"the end"


def test_a_file_is_sent_from_where_it_is_wanted_and_no_further_than_it_goes(ends: Callable[..., Ends]) -> None:
    both = ends(tick=0.002)
    content = os.urandom(600_000)
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        counts: list[int] = []
        with in_thread(lambda: counts.append(both.stream.send_file(file.fileno(), 10, 500_000)),
                       lambda: counts.append(both.stream.send_file(file.fileno(), 590_000, 500_000)),
                       both.raw.close):
            assert read_all(both.client) == content[10:500_010] + content[590_000:]
        assert counts == [500_000, 10_000]


def large_file() -> int:
    with tempfile.TemporaryFile() as file:
        file.truncate(LARGE)
        return os.dup(file.fileno())


def send_bytes(both: Ends) -> None:
    both.stream.send(b"x" * LARGE)


def send_pieces(both: Ends) -> None:
    for _ in range(LARGE // 1000):
        both.stream.send(b"x" * 1000)


def send_file(both: Ends) -> None:
    file = large_file()
    try:
        both.stream.send_file(file, 0, LARGE)
    finally:
        os.close(file)


def send_over_tls(both: Ends) -> None:
    assert isinstance(both.client, ssl.SSLSocket)
    send_bytes(both)


@pytest.fixture(params=[send_bytes, send_pieces, send_file, send_over_tls], ids=lambda send: send.__name__)
def sending(request: pytest.FixtureRequest, ends: Callable[..., Ends]) -> Callable[..., tuple[Ends, Send]]:
    """Make ends over which a large response will be sent, in each way in turn; the way."""
    def make(**options: Any) -> tuple[Ends, Send]:
        both = ends(**options)
        if request.param is send_over_tls:
            both.over_tls()
        return both, request.param

    return make


def test_a_client_that_does_not_read_has_its_credit_and_no_more(
        sending: Callable[..., tuple[Ends, Send]], monkeypatch: pytest.MonkeyPatch) -> None:
    both, send = sending(write=30)
    clock = Clock().install(monkeypatch)
    looks: list[float] = []

    def monotonic() -> float:
        looks.append(Clock.monotonic(clock))
        clock.advance(1)
        return looks[-1]

    monkeypatch.setattr(clock, "monotonic", monotonic)
    with pytest.raises(TimeoutError):
        send(both)
    # What the client's system has acknowledged is worth something: all of its buffer, at 500 bytes a second.
    assert 30 <= looks[-1] - looks[0] < 30 + 8 * SMALL / 500


def test_the_credit_is_that_of_a_whole_response(ends: Callable[..., Ends], monkeypatch: pytest.MonkeyPatch) -> None:
    """However many pieces it has, and not a new one for each; but the next response has it again."""
    both, clock = ends(write=30, minimum_rate=None), Clock().install(monkeypatch)
    with pytest.raises(TimeoutError):
        fill(both, clock)
    clock.advance(1000)  # while the next piece is made
    with pytest.raises(TimeoutError):
        both.stream.send(b"x" * LARGE)
    both.stream.begin_response()
    waits = threading.Event()
    acknowledged = Stream._acknowledged

    def watched(stream: Stream) -> int | None:
        waits.set()
        return acknowledged(stream)

    monkeypatch.setattr(Stream, "_acknowledged", watched)
    with in_thread(lambda: both.stream.send(b"the next"), both.raw.close):
        assert waits.wait(PATIENCE)
        assert read_all(both.client).endswith(b"the next")


def fill(both: Ends, clock: Clock) -> None:
    """Send until the credit is used up: a second for each tick."""
    ticking = both.stream._acknowledged

    def acknowledged() -> int | None:
        clock.advance(1)
        return ticking()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stream, "_acknowledged", lambda stream: acknowledged())
        both.stream.send(b"x" * LARGE)


def slowly(both: Ends, sending: in_thread, clock: Clock, monkeypatch: pytest.MonkeyPatch, *, rate: int,
           seconds: int) -> None:
    """Read `rate` bytes a second for `seconds`; the sender looks up in every one of them, until it gives up."""
    looked = threading.Semaphore(0)
    acknowledged = Stream._acknowledged

    def watched(stream: Stream) -> int | None:
        looked.release()
        return acknowledged(stream)

    monkeypatch.setattr(Stream, "_acknowledged", watched)
    for _ in range(seconds):
        left = rate
        while left:
            left -= len(both.client.recv(left))
        clock.advance(1)
        while looked.acquire(blocking=False):  # those that were over before
            pass
        for _ in range(2):
            while not looked.acquire(timeout=0.01):
                if sending.raised is not None:
                    return


def test_a_response_that_is_read_slowly_but_steadily_is_never_cut(
        sending: Callable[..., tuple[Ends, Send]], monkeypatch: pytest.MonkeyPatch) -> None:
    """What a client takes is what its system acknowledges: ours takes far more at once than it can pass on."""
    both, send = sending(tick=0.002, write=30, minimum_rate=1000)
    clock = Clock().install(monkeypatch)
    with in_thread(lambda: send(both), may_raise=ConnectionError) as thread:
        slowly(both, thread, clock, monkeypatch, rate=1200, seconds=70)
        assert thread.raised is None, "it has been cut"
        both.client.close()


def test_a_response_that_is_read_too_slowly_is_cut(
        sending: Callable[..., tuple[Ends, Send]], monkeypatch: pytest.MonkeyPatch) -> None:
    both, send = sending(tick=0.002, write=30, minimum_rate=1000)
    clock = Clock().install(monkeypatch)
    with in_thread(lambda: send(both), may_raise=TimeoutError) as thread:
        slowly(both, thread, clock, monkeypatch, rate=100, seconds=70)
    assert isinstance(thread.raised, TimeoutError)


def test_where_nobody_acknowledges_what_was_handed_over_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A UNIX socket has no TCP_INFO."""
    client, raw = socket.socketpair()
    with client, raw:
        set_tick(raw, 0.005)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
        stream = Stream(raw, service(write=30, minimum_rate=1000))
        Clock(step=1).install(monkeypatch)
        with pytest.raises(TimeoutError):
            stream.send(b"x" * LARGE)
        stream.begin_response()
        with in_thread(lambda: stream.send(b"y" * 1_000_000), raw.close):
            assert read_all(client).endswith(b"y" * 1_000_000)


def test_a_cut_ends_a_wait_for_room(sending: Callable[..., tuple[Ends, Send]]) -> None:
    both, send = sending(write=1000)
    with in_thread(lambda: send(both), may_raise=ConnectionAbortedError) as thread:
        both.client.recv(1)
        both.service.cut = True
    assert isinstance(thread.raised, ConnectionAbortedError)


def test_after_a_cut_nothing_is_sent_any_more(ends: Callable[..., Ends]) -> None:
    both = ends()
    both.service.cut = True
    with pytest.raises(ConnectionAbortedError):
        both.stream.send(b"never")
    both.raw.close()
    assert read_all(both.client) == b""


# Ends.

@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_the_output_can_end_while_there_is_input(ends: Callable[..., Ends], tls: bool) -> None:
    both = ends()
    client: socket.socket = both.over_tls() if tls else both.client
    both.stream.send(b"bye")
    both.stream.end_output()
    assert read_all(client) == b"bye"
    client.send(b"still here")
    assert both.stream.receive(lambda: None) == b"still here"


def to_the_last_byte(raw: socket.socket) -> int:
    """Fill every buffer between here and the client, past TLS; how many bytes they hold."""
    filled = ticks = 0
    while ticks < 20:  # the kernel may still be passing on what it has
        try:
            filled += raw.send(b"x" * 100)
            ticks = 0
        except BlockingIOError:
            ticks += 1
    return filled


def test_the_end_of_the_output_waits_for_room_over_tls(ends: Callable[..., Ends]) -> None:
    both = ends(tick=0.002, write=1000)
    client = both.over_tls()
    filled = to_the_last_byte(both.raw)
    with in_thread(both.stream.end_output):
        received = 0
        while data := socket.socket.recv(client, 65536):  # past TLS, which this is none of
            received += len(data)
    assert received > filled, "there is a close_notify behind it"


def test_the_end_of_the_output_waits_no_longer_than_a_response_over_tls(
        ends: Callable[..., Ends], monkeypatch: pytest.MonkeyPatch) -> None:
    both = ends(tick=0.002, write=30)
    both.over_tls()
    to_the_last_byte(both.raw)
    Clock(step=1).install(monkeypatch)
    with pytest.raises(TimeoutError):
        both.stream.end_output()


def test_a_goodbye_is_said_over_tls_only(ends: Callable[..., Ends]) -> None:
    plain, secret = ends(), ends()
    client = secret.over_tls()
    secret.stream.say_goodbye()
    assert client.recv(1) == b""
    plain.stream.say_goodbye()
    plain.stream.send(b"more")
    assert plain.client.recv(4) == b"more"


def test_a_reset_is_what_the_client_gets_if_that_is_asked_for(ends: Callable[..., Ends]) -> None:
    both = ends()
    both.stream.send(b"half of it")
    both.stream.reset_when_closed()
    both.raw.close()
    with pytest.raises(ConnectionResetError):
        read_all(both.client)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_for_somebody_else_there_are_no_ticks(ends: Callable[..., Ends], tls: bool) -> None:
    both = ends(tick=0.001)
    client: socket.socket = both.over_tls() if tls else both.client
    both.stream.block_without_ticks()
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        assert both.raw.getsockopt(socket.SOL_SOCKET, option, 16) == struct.pack("ll", 0, 0)
    assert both.raw.gettimeout() is None
    assert isinstance(both.stream.sock, TLSSocket) == tls
    received: list[bytes] = []
    with in_thread(lambda: received.append(both.stream.sock.recv(100))):
        client.send(b"at some time")
    assert received == [b"at some time"]


def test_for_somebody_else_a_record_that_comes_in_pieces_is_no_reason_to_stop_waiting(
        ends: Callable[..., Ends]) -> None:
    both, client = ends(), Memory()
    with in_thread(lambda: both.stream.shake_hands(certificate().context, client.hello(), lambda: None)):
        answer = both.client.recv(65536)
        while len(answer) < 500:
            answer += both.client.recv(65536)
        both.client.send(client.finish(answer))
    both.stream.block_without_ticks()
    received: list[bytes] = []
    with in_thread(lambda: received.append(both.stream.sock.recv(100))):
        for byte in client.encrypt(b"hello"):
            both.client.send(bytes([byte]))
    assert received == [b"hello"]
