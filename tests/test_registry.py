"""Who has a connection: nobody but one at a time, whatever threads, events and clocks do, and none is ever lost.

First the registry alone. Then a `Run` with a real listener and real clients, whose threads are played by the test, so
that it says which of them is in which step, and in what order they take them.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from acceptor import Limits
from acceptor.addresses import TCPAddress
from acceptor.census import Census
from acceptor.connection import Connection
from acceptor.listener import Listener
from acceptor.messages import Request, Response
from acceptor.phases import Phase
from acceptor.registry import PARKED, WAITING, Registry
from acceptor.run import Run
from acceptor.service import Service
from acceptor.settings import TICK
from taskmaster import SingleThreadedTaskmaster
from taskmaster.base import AcceptorSteps
from tests.clients import PATIENCE, Gate, Truncated, parse_response, request, tcp_pair
from tests.sessions import ADDRESS, SMALL, Clock, echo, server_time, sparse_file

ME = threading.get_ident()


@pytest.fixture
def registry() -> Registry:
    return Registry(Census(Limits()))


@pytest.fixture
def connect(registry: Registry) -> Iterator[Callable[..., Connection]]:
    """Make a connection; parked, if it is not said otherwise."""
    made: list[tuple[Connection, socket.socket]] = []
    service = Service(echo)

    def connect(*, parked: bool = True, deadline: float = float("inf"), phase: Phase = Phase.IDLE, alone: bool = False,
                descriptor: int | None = None) -> Connection:
        """descriptor: the one it is to have, which must be free."""
        if descriptor is not None:
            os.dup2(0, descriptor)  # nothing else is to get it
        client, server = tcp_pair()
        if descriptor is not None:
            with server:
                server = socket.socket(fileno=os.dup2(server.fileno(), descriptor))
        connection = Connection(server, ADDRESS, service)
        made.append((connection, client))
        connection.phase, connection.deadline, connection.alone = phase, deadline, alone
        assert registry.add(connection) is None
        if parked:
            assert registry.begin(connection)
            assert registry.park(connection)
        return connection

    yield connect
    for connection, client in made:
        connection.close()
        client.close()


def one_of(what: list[Any], which: int) -> list[Any]:
    """One of them, if there is any."""
    return [what[which % len(what)]] if what else []


def owner(registry: Registry, connection: Connection) -> int | None:
    return dict(registry.items()).get(connection)


# The registry.

def test_from_hand_to_hand(registry: Registry, connect: Callable[..., Connection]) -> None:
    connection = connect(parked=False)
    number = connection.fileno()
    assert (owner(registry, connection), registry.parked) == (WAITING, 0)
    assert registry.begin(connection)
    assert not registry.begin(connection), "two serve it"
    assert registry.serves(ME)
    assert registry.park(connection)
    assert (owner(registry, connection), registry.parked) == (PARKED, 1)
    assert not registry.serves(ME)
    assert not registry.begin(connection), "somebody serves it who has not got it back"
    assert not registry.remove(connection, WAITING)
    assert not registry.hand_over(connection, ME)
    assert registry.unpark(number) is connection
    assert registry.unpark(number) is None, "it came back twice"
    assert (owner(registry, connection), registry.parked) == (WAITING, 0)
    assert registry.begin(connection)
    assert registry.remove(connection, ME)
    assert not registry.remove(connection, ME), "two would close it"
    assert len(registry) == 0


@given(deadlines=st.lists(st.integers(0, 40).map(lambda n: n * TICK / 4) | st.just(math.inf), max_size=12),
       now=st.integers(0, 44).map(lambda n: n * TICK / 4))
def test_those_are_due_whose_time_is_up_whichever_tick_that_is_in(deadlines: list[float], now: float) -> None:
    registry = Registry(Census(Limits()))
    with ExitStack() as sockets:
        parked = {}
        for deadline in deadlines:
            client, sock = tcp_pair()
            sockets.callback(client.close)
            sockets.callback(sock.close)
            connection = Connection(sock, ("127.0.0.1", 1), Service(lambda request: ""))
            registry.add(connection)
            registry.begin(connection)
            connection.phase, connection.deadline = Phase.IDLE, deadline
            assert registry.park(connection)
            parked[connection] = deadline
        assert registry.attended() == []
        assert dict(registry.items()) == dict.fromkeys(parked, PARKED)
        assert registry.find_due(now) == any(deadline <= now for deadline in deadlines)
        came: list[Connection] = []
        while (due := registry.unpark_due()[0]) is not None:
            came.append(due)
        assert sorted(came, key=id) == sorted((c for c, deadline in parked.items() if deadline <= now), key=id)
        assert {connection for connection, _ in registry.attended()} == set(came)
        while registry.unpark_any(True) is not None:
            pass
        assert not registry.find_due(1e9), "something is left of those that have come back"
        assert (registry.parked, len(registry)) == (0, len(parked))


class Wheel(RuleBasedStateMachine):
    """Of what is parked those come back whose time is up, when it is: held against a naive model, which looks at all.

    Its connections have no clients, and are parked, had back by their clients' doing, and closed, at any time and with
    any deadline, earlier or later than the one before.
    """

    def __init__(self) -> None:
        super().__init__()
        self.registry = Registry(Census(Limits()))
        self.now = 0.0
        self.parked: dict[Connection, float] = {}
        self.served: list[Connection] = []
        self.sockets: list[socket.socket] = []

    @initialize(count=st.integers(1, 6))
    def begin(self, count: int) -> None:
        for _ in range(count):
            self.connect()

    @rule()
    def connect(self) -> None:
        if len(self.sockets) < 20:
            client, ours = socket.socketpair()
            self.sockets += [client, ours]
            connection = Connection(ours, ADDRESS, Service(echo))
            assert self.registry.add(connection) is None
            assert self.registry.begin(connection)
            self.served.append(connection)

    @rule(which=st.integers(0, 20), seconds=st.integers(-2, 30).map(lambda n: n * TICK / 4) | st.just(math.inf))
    def park(self, which: int, seconds: float) -> None:
        for connection in one_of(self.served, which):
            self.served.remove(connection)
            connection.phase, connection.deadline = Phase.IDLE, self.now + seconds
            assert self.registry.park(connection)
            self.parked[connection] = connection.deadline

    @rule(which=st.integers(0, 20), again=st.booleans())
    def send(self, which: int, again: bool) -> None:
        """again: it has its answer, and is parked for as long as before, as of now."""
        for connection in one_of(list(self.parked), which):
            assert [self.registry.unpark(connection.fileno())] == [connection]
            assert self.registry.begin(connection)
            connection.deadline += TICK
            if again:
                assert self.registry.park(connection)
                self.parked[connection] = connection.deadline
            else:
                del self.parked[connection]
                self.served.append(connection)

    @rule(which=st.integers(0, 20))
    def close(self, which: int) -> None:
        for connection in one_of(self.served, which):
            self.served.remove(connection)
            assert self.registry.remove(connection, ME)
            connection.close()

    @rule(ticks=st.integers(1, 8), collected=st.integers(0, 20))
    def tick(self, ticks: int, collected: int) -> None:
        """collected: threads may be slow to have those back whose time is up."""
        self.now += ticks * TICK / 4
        due = {connection for connection, deadline in self.parked.items() if deadline <= self.now}
        assert self.registry.find_due(self.now) or not due
        for _ in range(min(collected, len(due))):
            connection, more = self.registry.unpark_due()
            assert connection is not None
            assert connection in due, "its time is not up"
            due.remove(connection)
            del self.parked[connection]
            assert self.registry.begin(connection)
            self.served.append(connection)
            assert more or not due, "more are due, and nobody is told"

    @invariant()
    def each_stands_in_one_bucket_at_most(self) -> None:
        buckets = self.registry._buckets
        placed = [connection for bucket in buckets.values() for connection in bucket]
        assert len(placed) == len(set(placed))
        assert all(connection.alarm == alarm for alarm, bucket in buckets.items() for connection in bucket)
        assert all(buckets.values()), "an empty bucket is kept"
        assert set(placed) <= {connection for connection, _ in self.registry.items()}, "what is closed is kept"
        due = set(self.registry._due)
        for connection, deadline in self.parked.items():
            assert connection.alarm <= deadline or connection in due
        assert [c for c, owner in self.registry.items() if owner == PARKED] == [
            c for c, _ in self.registry.items() if c in self.parked]

    def teardown(self) -> None:
        for sock in self.sockets:
            sock.close()


TestWheel = Wheel.TestCase
TestWheel.settings = settings(max_examples=100, stateful_step_count=50)


def test_each_time_that_one_comes_back_is_counted(registry: Registry, connect: Callable[..., Connection]) -> None:
    """Or the watcher would think that it waits for a thread all the time."""
    connection, due = connect(), connect(deadline=1.0)
    assert registry.unpark(connection.fileno()) is connection
    assert registry.find_due(1.0)
    assert registry.unpark_due() == (due, False)
    assert (connection.comebacks, due.comebacks) == (1, 1)
    for count in (2, 3):
        assert registry.begin(connection)
        assert registry.park(connection)
        assert registry.unpark(connection.fileno()) is connection
        assert connection.comebacks == count


def test_a_descriptor_that_nobody_is_parked_with_is_nobodys(
        registry: Registry, connect: Callable[..., Connection]) -> None:
    served = connect(parked=False)
    registry.begin(served)
    assert registry.unpark(served.fileno()) is None
    assert registry.unpark(12345) is None
    assert owner(registry, served) == ME


def test_a_late_event_of_a_number_that_was_given_away_brings_another_back_for_nothing(
        registry: Registry, connect: Callable[..., Connection]) -> None:
    first = connect(deadline=1.0)
    number = first.fileno()
    # The event is on its way; meanwhile its time is up, and somebody closes it, and the number is given to another.
    assert registry.find_due(2.0)
    assert registry.unpark_due() == (first, False)
    assert registry.begin(first)
    assert registry.remove(first, ME)
    first.close()
    second = connect(parked=False, descriptor=number)
    assert second.fileno() == number
    registry.begin(second)
    assert registry.unpark(number) is None, "it is being served"
    registry.park(second)
    assert registry.unpark(number) is second
    registry.begin(second)
    assert registry.park(second)
    assert registry.unpark(number) is second


def test_one_that_its_new_owner_has_closed_does_not_take_away_another_with_its_number(
        registry: Registry, connect: Callable[..., Connection]) -> None:
    detached = connect(parked=False)
    assert registry.begin(detached)
    number = detached.fileno()
    detached.close()
    other = connect(descriptor=number)
    assert registry.remove(detached, ME)
    assert len(registry) == 1
    assert registry.unpark(number) is other


def test_those_whose_time_is_up_come_back_each_once_and_the_others_do_not(
        registry: Registry, connect: Callable[..., Connection]) -> None:
    late = [connect(deadline=float(n)) for n in range(5)]
    patient = connect(deadline=10.0)
    assert not registry.find_due(-0.1)
    assert registry.find_due(4.0)
    assert registry.unpark(late[2].fileno()) is late[2]  # its client was quicker
    came = []
    more = True
    while more:
        connection, more = registry.unpark_due()
        came.append(connection)
    assert came == [late[0], late[1], late[3], late[4]]
    assert registry.unpark_due() == (None, False)
    assert not registry.find_due(9.9)
    assert owner(registry, patient) == PARKED


def test_one_whose_time_was_up_and_that_has_been_parked_for_longer_meanwhile_is_not_due(
        registry: Registry, connect: Callable[..., Connection]) -> None:
    connection = connect(deadline=1.0)
    assert registry.find_due(1.0)
    assert registry.unpark(connection.fileno()) is connection
    assert registry.begin(connection)
    connection.deadline = 5.0
    assert registry.park(connection)
    assert registry.unpark_due() == (None, False)
    assert not registry.find_due(4.9)
    assert registry.find_due(5.0)
    assert registry.unpark_due() == (connection, False)


def test_nothing_may_be_due_any_more_when_it_is_looked_for(
        registry: Registry, connect: Callable[..., Connection]) -> None:
    connections = [connect(deadline=1.0) for _ in range(3)]
    assert registry.find_due(1.0)
    for connection in connections:
        registry.unpark(connection.fileno())
    assert registry.unpark_due() == (None, False)


def test_at_the_stop_everything_that_is_parked_comes_back_once_and_nothing_more_is_parked(
        registry: Registry, connect: Callable[..., Connection]) -> None:
    parked = {connect(phase=phase) for phase in (Phase.FRESH, Phase.READING, Phase.IDLE, Phase.WRITING)}
    served = connect(parked=False)
    registry.begin(served)
    registry.park_no_more()
    came = [registry.unpark_any(False) for _ in range(5)]
    assert set(came[:4]) == parked
    assert came[4] is None
    assert not registry.park(served)
    assert owner(registry, served) == WAITING
    assert registry.begin(served), "it is to be served to its end"
    registry.open(True)
    assert registry.park(served)


def test_at_the_stop_what_a_lone_thread_has_in_progress_stays_parked(
        registry: Registry, connect: Callable[..., Connection]) -> None:
    idle, busy = connect(alone=True), connect(alone=True, phase=Phase.WRITING)
    registry.park_no_more()
    assert [registry.unpark_any(False), registry.unpark_any(False)] == [idle, None]
    registry.begin(idle)
    assert not registry.park(idle)
    assert registry.unpark(busy.fileno()) is busy
    registry.begin(busy)
    assert registry.park(busy), "who else would wait for it?"
    assert [registry.unpark_any(True), registry.unpark_any(True)] == [busy, None]


def test_past_the_deadline_nobody_begins(registry: Registry, connect: Callable[..., Connection]) -> None:
    connection = connect()
    registry.open(False)
    assert registry.unpark_any(True) is connection
    assert not registry.begin(connection)
    assert registry.remove(connection, WAITING)


def test_parked_connections_count_as_open(connect: Callable[..., Connection]) -> None:
    registry = Registry(Census(Limits(connections=3, connections_per_address=2)))
    clients, service = [], Service(echo)

    def come(address: str) -> str | None:
        client, server = tcp_pair()
        connection = Connection(server, (address, 1), service)
        clients.extend([client, server])
        reason = registry.add(connection)
        if reason is None:
            registry.begin(connection)
            registry.park(connection)
        return reason

    try:
        assert [come("a"), come("a"), come("b")] == [None] * 3
        assert "connections_per_address" not in str(come("a"))
        assert registry.unpark(clients[1].fileno()) is not None
        assert (len(registry), registry.refused) == (4, 1)
        assert "3 connections are open" in str(come("c"))
    finally:
        for sock in clients:
            sock.close()


def test_of_many_threads_that_take_the_same_event_one_gets_the_connection(
        registry: Registry, connect: Callable[..., Connection]) -> None:
    connections = [connect(deadline=0.0) for _ in range(100)]
    got: list[Connection] = []
    start = threading.Barrier(8)

    def take(due: bool) -> None:
        start.wait(PATIENCE)
        for connection in connections:
            back = registry.unpark_due()[0] if due else registry.unpark(connection.fileno())
            if back is not None:
                assert registry.begin(back)
                got.append(back)

    registry.find_due(1.0)
    threads = [threading.Thread(target=take, args=(number % 2 == 0,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert Counter(got) == Counter(connections)


# A run, whose threads are played by the test.

class Books(SingleThreadedTaskmaster):
    """A taskmaster that does nothing: what it should do is done by the test."""

    def __init__(self) -> None:
        super().__init__()
        self.serve_the_rest: Callable[[], None] = lambda: None

    def execute_acceptor(self, acceptor: Any) -> None:
        pass

    def shutdown(self, deadline: float) -> list[str]:
        self.serve_the_rest()
        return []


def handler(request: Request) -> Response | bytes:
    number = request.path.rpartition("/")[2].encode()
    if request.path.startswith("/large"):
        return number + b"x" * 100_000
    if request.path.startswith("/file"):
        return Response(sparse_file(100_000))
    return number


def expected(path: str) -> bytes:
    number = path.rpartition("/")[2].encode()
    return (number + b"x" * 100_000 if path.startswith("/large") else b"\0" * 100_000 if path.startswith("/file") else
            number)


class Client:
    """What it has sent, and what it may expect."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.setblocking(False)
        self.address = sock.getsockname()
        self.to_send = b""
        self.sent = 0
        self.ends: list[int] = []
        self.paths: list[str] = []
        self.received = b""
        self.is_reset = False
        self.end: str | None = None
        """How its input ended: "in order", "by a reset"."""

    def ask(self, path: str) -> None:
        self.to_send += request(path)  # without a body: a handler that reads it blocks its thread
        self.paths.append(path)
        self.ends.append(self.sent + len(self.to_send))

    def send(self, count: int) -> None:
        if not self.to_send:
            return
        try:
            done = self.sock.send(self.to_send[:count])
        except BlockingIOError:
            return
        except OSError:  # told once, and `read` would take the end for one in order
            self.to_send = b""
            self.is_reset = True
            return
        self.sent += done
        self.to_send = self.to_send[done:]

    def leave(self, how: str) -> None:
        if how == "reset":
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if how != "half":
            self.sock.close()
            return
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:  # the server has reset it
            pass
        self.to_send = b""

    def read(self, count: int = 1 << 24) -> bool:
        """Whether anything has come."""
        if self.end is not None:
            return False
        try:
            data = self.sock.recv(count)
        except BlockingIOError:
            return False
        except OSError:
            self.end = "by a reset"
            return True
        self.received += data
        if not data:
            self.end = "by a reset" if self.is_reset else "in order"
        return True

    @property
    def asked(self) -> int:
        """Requests that have been sent whole."""
        return sum(end <= self.sent for end in self.ends)

    def answers(self) -> tuple[list[int], bool]:
        """The statuses of all whole responses, each checked; and whether there is half a response behind them."""
        statuses: list[int] = []
        rest = self.received
        while rest:
            try:
                received, rest = parse_response(rest, ended=False)
            except Truncated:
                return statuses, True
            statuses.append(received.status)
            if received.status == 200:
                assert received.body == expected(self.paths[len(statuses) - 1])
        return statuses, False


class SlowPark(threading.Thread):
    """A thread that parks a connection, and has come no further than to watching it."""

    def __init__(self, run: Run, connection: Connection) -> None:
        super().__init__()
        self._run, self._connection = run, connection
        self._arrived, self._left = Gate("it is parked"), Gate("it may be watched")
        self.start()
        self._arrived.pass_through()

    def run(self) -> None:
        assert self._run.park(self._connection)

    def wait(self) -> None:
        self._arrived.open()
        self._left.pass_through()

    def go_on(self) -> None:
        self._left.open()
        self.join(PATIENCE)


WHICH = st.integers(0, 5)


class Lot(RuleBasedStateMachine):
    """No connection is lost, none is had by two, none closed twice, and each request is answered.

    Threads are lists: what each of them has in its hands between two steps. Events that a thread has been given and not
    looked at yet are `events`; a thread that has parked a connection, and has not come to watching it, is in `watches`.
    """

    name = "the lot"

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.clock = Clock().install(self.patch)
        self.patch.setattr("acceptor.watcher.time", self.clock)
        self.log: list[logging.LogRecord] = []
        self.patch.setattr(logging.getLogger("acceptor"), "callHandlers", self.log.append)
        self.descriptors = len(os.listdir("/proc/self/fd"))
        self.closings: Counter[Connection] = Counter()
        close = Connection.close

        def counted(connection: Connection) -> None:
            self.closings[connection] += 1
            close(connection)

        self.patch.setattr(Connection, "close", counted)
        self.service = Service(handler)
        self.registry = Registry(Census(Limits()))
        self.listener = Listener([TCPAddress("127.0.0.1", 0)], 128, 5.0)
        [listening] = self.listener._sockets.values()
        listening.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
        self.books = Books()
        self.run = Run(self.service, self.registry, self.listener, self.books)
        self.run.begin(cast(AcceptorSteps, self))
        self.clients: list[Client] = []
        self.events: list[Any] = []
        self.given_up: set[object] = set()
        self.accepted: list[Connection] = []
        self.idle: list[Connection] = []
        self.watches: list[SlowPark] = []
        self.counts: Counter[str] = Counter()
        watch = self.listener.watch

        def watch_late(descriptor: int, events: int) -> bool:
            thread = threading.current_thread()
            if isinstance(thread, SlowPark):
                thread.wait()
            return watch(descriptor, events)

        self.patch.setattr(self.listener, "watch", watch_late)

    @initialize(count=st.integers(1, 4))
    def begin(self, count: int) -> None:
        for _ in range(count):
            self.connect()

    # What clients do. Nothing that is drawn depends on what the server, or the kernel, does meanwhile.

    @rule()
    def connect(self) -> None:
        if len(self.clients) < 6:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.connect(("127.0.0.1", self.listener.addresses[0].port))
            self.clients.append(Client(sock))

    @rule(which=WHICH, kind=st.sampled_from(["/small", "/small", "/large", "/file"]), part=st.sampled_from([20, 9999]))
    def ask(self, which: int, kind: str, part: int) -> None:
        for client in one_of(self.clients, which):
            client.ask(f"{kind}/{len(client.paths)}")
            client.send(part)

    @rule(which=WHICH, part=st.sampled_from([10, 9999]))
    def send(self, which: int, part: int) -> None:
        for client in one_of(self.clients, which):
            client.send(part)

    @rule(which=WHICH, count=st.sampled_from([1000, 30_000, 1 << 20]))
    def read(self, which: int, count: int) -> None:
        for client in one_of(self.clients, which):
            client.read(count)

    @rule(which=WHICH, how=st.sampled_from(["close", "half", "reset"]))
    def leave(self, which: int, how: str) -> None:
        for client in one_of(self.clients, which):
            client.leave(how)
            if how != "half":
                self.clients.remove(client)

    # What time does.

    @rule(seconds=st.sampled_from([1, 16, 80]))
    def tick(self, seconds: float) -> None:
        self.clock.advance(seconds)
        if self.registry.find_due(server_time()):
            self.listener.ring()

    # What threads do.

    @rule()
    def accept(self) -> None:
        try:
            connection = self.run.accept(0)
        except TimeoutError:
            return
        assert connection is not None
        self.take(connection)

    @rule()
    def get_an_event(self) -> None:
        """In `accept`, and no further."""
        try:
            self.events.append(self.listener.accept(0))
        except TimeoutError:
            pass

    @rule(which=WHICH)
    def look_at_an_event(self, which: int) -> None:
        for came in one_of(self.events, which):
            self.events.remove(came)
            connection = self.run._unpark(came) if isinstance(came, int) else self.run._admit(came)
            if connection is not None:
                self.take(connection)

    def take(self, connection: Connection) -> None:
        self.counts["accepted"] += not connection.resumed
        self.accepted.append(connection)

    @rule(which=WHICH, goes_on=st.booleans())
    def process(self, which: int, goes_on: bool) -> None:
        for connection in one_of(self.accepted, which):
            self.accepted.remove(connection)
            if self.run.process_until_idle(connection, lambda: goes_on):
                self.idle.append(connection)
            else:
                self.counts["served"] += 1

    @rule(which=WHICH, slow=st.booleans())
    def park(self, which: int, slow: bool) -> None:
        for connection in one_of(self.idle, which):
            self.idle.remove(connection)
            if slow:
                self.watches.append(SlowPark(self.run, connection))
            else:
                assert self.run.park(connection)

    @rule(which=WHICH)
    def watch_what_was_parked(self, which: int) -> None:
        for watched in one_of(self.watches, which):
            self.watches.remove(watched)
            watched.go_on()

    @rule(which=WHICH, how=st.sampled_from(["refuse", "abandon"]))
    def give_one_up(self, which: int, how: str) -> None:
        for connection in one_of(self.accepted, which):
            self.accepted.remove(connection)
            self.given_up.add(connection.address)
            getattr(self.run, how)(connection)
            self.counts["refused"] += 1

    # What must hold.

    @invariant()
    def each_is_had_by_one(self) -> None:
        owners = Counter(owner for _, owner in self.registry.items())
        assert owners[WAITING] == len(self.accepted)
        assert owners[ME] == len(self.idle)
        assert owners[PARKED] == self.registry.parked
        assert len(set(self.accepted + self.idle)) == len(self.accepted) + len(self.idle)
        counts = self.counts
        assert counts["accepted"] == (counts["served"] + counts["refused"] + len(self.accepted) + len(self.idle)
                                      + owners[PARKED])
        assert max(self.closings.values(), default=1) == 1, "closed twice"

    def serve_all(self) -> None:
        """Until nothing happens any more."""
        while self.events:
            came = self.events.pop()
            connection = self.run._unpark(came) if isinstance(came, int) else self.run._admit(came)
            if connection is not None:
                self.take(connection)
        while self.watches:
            self.watches.pop().go_on()
        happens = True
        while happens:
            happens = False
            while self.accepted or self.idle:
                happens = True
                for connection in self.accepted:
                    if self.run.process_until_idle(connection, lambda: False):
                        self.idle.append(connection)
                self.accepted.clear()
                for connection in self.idle:
                    assert self.run.park(connection)
                self.idle.clear()
            while True:
                try:
                    connection = self.run.accept(0)
                except TimeoutError:
                    break
                assert connection is not None
                self.accepted.append(connection)
            for client in self.clients:
                while client.read():
                    happens = True
            happens = happens or bool(self.accepted)

    def serve_until(self, condition: Callable[[], bool]) -> bool:
        """The kernel may need a moment to pass on what has been sent."""
        end = time.monotonic() + PATIENCE
        while True:
            self.serve_all()
            if condition() or time.monotonic() > end:
                return condition()
            time.sleep(0.001)

    def has_all(self, client: Client) -> bool:
        return (client.end is not None or client.address in self.given_up
                or client.answers()[0] == [200] * client.asked)

    def teardown(self) -> None:
        try:
            for client in self.clients:
                client.send(9999)
            assert self.serve_until(lambda: all(map(self.has_all, self.clients))), (
                f"lost: {[(client.answers(), client.asked, client.end) for client in self.clients]}")
            for client in self.clients:
                assert not client.answers()[1] or client.end != "in order", "half a response, and then an end in order"
                client.sock.close()
            assert self.serve_until(lambda: self.registry.parked == 0), f"lost: {self.registry.items()}"
            self.run.hurry()
            self.run.stop(0.0, 0.0)
            assert len(self.registry) == 0
            assert set(self.closings.values()) <= {1}
            assert len(os.listdir("/proc/self/fd")) == self.descriptors
            assert [record.getMessage() for record in self.log if record.levelno >= logging.ERROR] == []
        finally:
            for client in self.clients:
                client.sock.close()
            for connection, _ in self.registry.items():
                connection.stream.raw.close()
            self.listener.stop()
            self.listener.close()
            self.run.hurry()
            self.run._watcher.stop(linger=False)
            self.patch.undo()


TestLot = Lot.TestCase
TestLot.settings = settings(max_examples=60, stateful_step_count=40)


# The same by steps, for what the machine comes to but rarely.

@pytest.fixture
def lot() -> Iterator[Lot]:
    lot = Lot()
    lot.begin(count=1)
    yield lot
    lot.teardown()


def parked_slowly(lot: Lot) -> None:
    """The first client has said nothing, and its thread has parked it, and not come to watching it. Its time is up."""
    lot.accept()
    lot.process(which=0, goes_on=False)
    lot.park(which=0, slow=True)
    lot.tick(16)


def parked_for_output(lot: Lot) -> None:
    """Another thread has a connection back, or anew, and parks it in its response."""
    lot.accept()
    assert lot.accepted
    lot.process(which=0, goes_on=False)
    [connection] = lot.idle
    assert connection.phase is Phase.WRITING
    lot.park(which=0, slow=False)


def test_who_comes_late_to_watching_does_not_spoil_what_another_waits_for(lot: Lot) -> None:
    parked_slowly(lot)
    lot.ask(which=0, kind="/large", part=9999)
    parked_for_output(lot)
    lot.watch_what_was_parked(which=0)
    while not lot.accepted:
        assert lot.clients[0].read(), "the client has read everything, and the connection has not come back"
        lot.accept()


def test_who_comes_late_to_watching_does_not_spoil_what_another_connection_waits_for(lot: Lot) -> None:
    """The first has been closed meanwhile, and the system has given its descriptor to another."""
    parked_slowly(lot)
    lot.accept()
    [first] = lot.accepted
    descriptor = first.fileno()
    lot.process(which=0, goes_on=False)
    assert first.fileno() == -1
    lot.clients.pop().sock.close()
    taken = [os.dup(0)]  # the system gives away the lowest that is free
    while taken[-1] < descriptor:
        taken.append(os.dup(0))
    lot.connect()
    os.close(taken.pop())
    lot.ask(which=0, kind="/large", part=9999)
    lot.accept()
    [second] = lot.accepted
    assert second.fileno() == descriptor
    for number in taken:
        os.close(number)
    lot.process(which=0, goes_on=False)
    lot.park(which=0, slow=False)
    lot.watch_what_was_parked(which=0)
    while not lot.accepted:
        assert lot.clients[0].read(), "the client has read everything, and the connection has not come back"
        lot.accept()
