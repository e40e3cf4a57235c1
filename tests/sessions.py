"""One connection under test, without acceptor or taskmaster: it is served in a thread, and the test is its client.

    session = serve(handler)                     a fixture of each module, made of `sessions`, or of `driven_sessions`
    session.client.send(request())
    session.await_recv(Phase.IDLE)               nothing sleeps: where the test must know how far the server is, it
    session.service.stopping = True              waits at the socket, at a tick, or at a gate in the handler
    assert session.await_end() is End.CLOSE

Ticks are short, so that tests are fast. Time is another matter: deadlines are kept by a `Clock` that only moves when
the test says so, or they are so long that no test sees them.

Who serves is a *driver*:

    "hold"     one thread, from the first byte to the end
    "park"     each turn another thread; in between the connection is parked, and waited for as the acceptor does
    "alone"    one thread that never waits for the client, as that of an event loop

With `driven_sessions` each test of a module runs with every driver. @only("hold") says that it is about that one.
"""

from __future__ import annotations

import io
import itertools
import logging
import select
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal, Protocol

import pytest
import trustme

from acceptor import TLS, Timeouts
from acceptor import connection as connection_module
from acceptor.connection import Connection
from acceptor.listen_socket import set_tick
from acceptor.messages import Handler, Request
from acceptor.phases import End, Phase
from acceptor.service import Service
from tests.clients import PATIENCE, Gate, RawClient, tcp_pair

__all__ = ["ADDRESS", "DRIVERS", "LARGE", "SMALL", "UNREAD", "Body", "Clock", "CountedFile", "Driver", "Serve",
           "Session", "WatchedSocket", "driven_sessions", "echo", "endless", "failures", "hostname", "only", "refusals",
           "server_time", "sessions", "sparse_file", "transports", "trusting"]

ADDRESS = ("192.0.2.1", 4711)
"""Whom a session's connection is said to be from."""
LARGE = 32 * 1024 * 1024
"""Bytes that no pair of socket buffers holds, so that whoever sends them waits for the other to read."""
SMALL = 8 * 1024
"""Bytes of a buffer that is soon full."""
UNREAD = 1024 * 1024
"""Bytes of a request's body that the server does not throw away for the sake of the connection."""
Driver = Literal["hold", "park", "alone"]
DRIVERS: list[Driver] = ["hold", "park", "alone"]
transports = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
PATIENT = Timeouts(handshake=1000, head=1000, body=1000, write=1000, keep_alive=1000, linger=PATIENCE)
"""No test sees the end of these, as long as it does not move the clock."""


# Time.

class Clock:
    """Stands in for the module `time`, where the server looks at it. Moves when it is told to.

    step: seconds by which it also moves whenever somebody looks.
    """

    def __init__(self, step: float = 0.0) -> None:
        self._step = step
        self._lock = threading.Lock()
        self._now = 1000.0

    def install(self, monkeypatch: pytest.MonkeyPatch) -> Clock:
        for module in ("body", "connection", "stream"):
            monkeypatch.setattr(f"acceptor.{module}.time", self)
        return self

    def monotonic(self) -> float:
        with self._lock:
            self._now += self._step
            return self._now

    def advance(self, seconds: float) -> None:
        with self._lock:
            self._now += seconds


def server_time() -> float:
    """What a server's clock says: the `Clock` that is installed, if there is one."""
    return float(vars(connection_module)["time"].monotonic())


class WatchedSocket(socket.socket):
    """A socket that says when somebody begins to wait at it, and when a tick has ended a wait."""

    def watch(self, begun: Callable[[str], None], ticked: Callable[[], None]) -> None:
        self._begun, self._ticked = begun, ticked

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        with self._watched("recv"):
            return super().recv(size, flags)

    def send(self, data: Any, flags: int = 0, /) -> int:
        with self._watched("send"):
            return super().send(data, flags)

    @contextmanager
    def _watched(self, what: str) -> Iterator[None]:
        self._begun(what)
        try:
            yield
        except BlockingIOError:
            self._ticked()
            raise


# TLS.

@cache
def _authority() -> trustme.CA:
    return trustme.CA()


@cache
def certificate() -> TLS:
    """A server's, for `hostname`."""
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        file.write(_authority().issue_cert(hostname).private_key_and_cert_chain_pem.bytes())
        file.flush()
        return TLS(file.name)


@cache
def trusting() -> ssl.SSLContext:
    """A client that trusts it."""
    context = ssl.create_default_context()
    _authority().configure_trust(context)
    return context


hostname = "server.test"


class _TLSClient(RawClient):
    """Over TLS, where an end without close_notify is as good as a reset: RFC 9112 section 9.8."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(PATIENCE)
        super().__init__(trusting().wrap_socket(sock, server_hostname=hostname, suppress_ragged_eofs=False))

    def half_close(self) -> None:
        socket.socket.shutdown(self.sock, socket.SHUT_WR)  # an SSLSocket's own would forget about TLS

    def _recv(self, *wanted: Any) -> bytes:
        try:
            return super()._recv(*wanted)
        except (ssl.SSLEOFError, BrokenPipeError) as error:  # the latter after half_close: OpenSSL 3.6 sends an alert
            raise ConnectionResetError("no close_notify") from error


# Sessions.

class Session:
    """A connection that is served in a thread, and its client.

    tls: over TLS; the client has shaken hands, unless `raw`.
    raw: the client speaks TCP, whatever the server speaks.
    preface: what the client sends before it shakes hands.
    tick: seconds that a read or a write may wait.
    buffer: see `tcp_pair`.
    may_fail: the handler or the response fails, and the log may have errors.
    driver: who serves.
    options: of Service.
    """

    def __init__(self, handler: Handler, *, tls: bool = False, raw: bool = False, preface: bytes = b"",
                 tick: float = 0.02, buffer: int | None = None, may_fail: bool = False, driver: Driver = "hold",
                 **options: Any) -> None:
        self.may_fail = may_fail
        self.driver = driver
        self.parks = 0
        """How often it has been parked."""
        self._tick = tick
        self._questions = itertools.count()
        ours, theirs = tcp_pair(buffer)
        self.sock = WatchedSocket(fileno=theirs.detach())
        self.sock.watch(self._begun, self._ticked)
        set_tick(self.sock, tick)
        self.service = Service(handler, tls=certificate() if tls else None, **{"timeouts": PATIENT, **options})
        self.connection = Connection(self.sock, ADDRESS, self.service)
        self.receiving: list[Phase] = []
        """The phase at each `recv`, in order, without those that only go on after a tick."""
        self._changed = threading.Condition()
        self._reads = self._ticks = 0
        self._goes_on: Phase | None = None
        """The phase of a wait that a tick has ended."""
        self._end: End | None = None
        self._served = Gate("the connection has been served")
        self._raised: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name="session", daemon=True)
        self._thread.start()
        ours.sendall(preface)
        self.client = _TLSClient(ours) if tls and not raw else RawClient(ours)

    @property
    def phase(self) -> Phase:
        return self.connection.phase

    def await_recv(self, phase: Phase, count: int = 1) -> None:
        """Wait until the server has begun to wait for input in `phase`, for the `count`th time."""
        self._await(lambda: self.receiving.count(phase) >= count,
                    lambda: f"the server to wait for input in {phase}, {count} times; it did in {self.receiving}")

    def await_tick(self) -> None:
        """Wait until the server, which waits at the socket, has looked at the clock and the service once more."""
        begun = self._ticks
        # The next tick may be one that has ended already, and whose look is over. The look of the next is over when
        # there is another.
        self._await(lambda: self._ticks >= begun + 2 or self._served.is_set(),
                    lambda: f"a tick; the server is in {self.connection}, and has waited in {self.receiving}")

    @property
    def reads(self) -> int:
        """How often the server has begun to wait for input, ticks included."""
        return self._reads

    def await_reads(self, count: int) -> None:
        """Wait until `reads` is `count`; also if the connection is over before."""
        self._await(lambda: self._reads >= count or self._served.is_set(),
                    lambda: f"{count} reads; there were {self._reads}")

    def await_parks(self, count: int) -> None:
        """Wait until it has been parked `count` times."""
        self._await(lambda: self.parks >= count or self._served.is_set(),
                    lambda: f"it to be parked {count} times; it has been {self.parks} times, and is {self.connection}")

    def await_address(self, address: tuple[str, int]) -> None:
        """Wait until the server takes the client for `address`, and waits for input again."""
        self._await(lambda: self.connection.address == address,
                    lambda: f"the client to be {address}; it is {self.connection.address}")

    @property
    def over(self) -> bool:
        """`serve()` has returned."""
        return self._served.is_set()

    def await_end(self) -> End:
        """Wait until `serve()` has returned: what it did. It must not have raised anything."""
        assert self._served.wait(PATIENCE), f"the server still serves {self.connection}; received in {self.receiving}"
        assert self._raised is None, f"serve() raised {self._raised!r}; whatever happens, it must not"
        assert self._end is not None
        return self._end

    def leave(self) -> End:
        """Let the client close its end, and wait until the server has done with the connection."""
        self.client.close()
        return self.await_end()

    def join(self) -> None:
        """With the client gone, everything must end."""
        self.await_end()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the connection was served, and lingers although its client is gone"

    def _await(self, condition: Callable[[], bool], wanted: Callable[[], str]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, PATIENCE), f"waited {PATIENCE:g} s in vain for {wanted()}"

    def _begun(self, what: str) -> None:
        phase = self.connection.phase
        with self._changed:
            if what == "recv":
                self._reads += 1
                if self._goes_on is not phase:
                    self.receiving.append(phase)
            self._goes_on = None
            self._changed.notify_all()

    def _ticked(self) -> None:
        with self._changed:
            self._goes_on = self.connection.phase
            self._ticks += 1
            self._changed.notify_all()

    def _serve(self) -> None:
        """As the acceptor does, and its watcher."""
        connection = self.connection
        try:
            while (end := self._turn()) is End.PARK:
                self._wait_as_parked()
            self._end = end
        except BaseException as error:
            self._raised = error
        with self._changed:
            self._served.open()
            self._changed.notify_all()
        if self._end is End.DETACHED:
            return
        if self._end is End.LINGER:
            connection.start_lingering()
            while select.select([connection], [], [], PATIENCE)[0] and connection.drain():
                pass
        connection.close()


    # Parking.

    def _turn(self) -> End:
        connection, service = self.connection, self.service
        if self.parks and service.cut:  # nobody serves it any more
            connection.give_up()
            return End.CLOSE
        if self.driver == "hold":
            return connection.serve()
        if self.driver == "alone":
            return connection.serve(lambda: False, alone=True)
        stops = service.stopping
        end = _elsewhere(lambda: connection.serve(None if stops else lambda: next(self._questions) % 2 == 0))
        assert end is not End.PARK or not stops, f"{connection} is to be served to its end, and has been parked"
        return end

    def _wait_as_parked(self) -> None:
        """Until it is ready for what it wants, or its time is up, or the server stops."""
        connection, service = self.connection, self.service
        poll = select.poll()
        poll.register(connection.fileno(), connection.stream.wants)
        with self._changed:
            self.parks += 1
            self._changed.notify_all()
        reads = connection.stream.wants & select.POLLIN
        if reads:
            self._begun("recv")
        while True:
            ready = poll.poll(self._tick * 1000)
            stays = self.driver == "alone" and connection.phase not in (Phase.FRESH, Phase.IDLE)
            if ready or service.cut or connection.deadline <= server_time() or (service.stopping and not stays):
                with self._changed:
                    self._goes_on = connection.phase
                return
            self._ticked()
            if reads:
                self._begun("recv")


def _elsewhere(call: Callable[[], End]) -> End:
    """Call it on a thread of its own."""
    ends: list[End] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            ends.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="turn", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return ends[0]


class Serve(Protocol):
    """Start a session; the options are those of `Session`."""

    def __call__(self, handler: Handler, **options: Any) -> Session: ...


def only(*drivers: Driver) -> pytest.MarkDecorator:
    """A test is about these drivers, where the fixture is made of `driven_sessions`."""
    return pytest.mark.parametrize("serve", drivers, indirect=True)


def driven_sessions(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[Serve]:
    """For a fixture with params=DRIVERS: sessions that are served by each driver in turn."""
    yield from sessions(caplog, request.param)


def sessions(caplog: pytest.LogCaptureFixture, driver: Driver = "hold") -> Iterator[Serve]:
    """For a fixture that starts sessions. At the end their clients leave, and the server must be done with each.

    Nothing that a client does may be logged as an error, or with a traceback.
    """
    caplog.set_level(logging.DEBUG, "acceptor")
    started: list[Session] = []

    def start(handler: Handler, **options: Any) -> Session:
        started.append(Session(handler, **{"driver": driver, **options}))
        return started[-1]

    yield start
    for session in started:
        session.client.close()
    for session in started:
        session.join()
    if not any(session.may_fail for session in started):
        assert failures(caplog) == []


def failures(log: pytest.LogCaptureFixture) -> list[str]:
    """What was logged as the server's or the application's failure, or with a traceback."""
    return [record.getMessage() for record in log.get_records("call")
            if record.name == "acceptor" and (record.levelno >= logging.ERROR or record.exc_info)]


def refusals(log: pytest.LogCaptureFixture) -> list[str]:
    """What else was logged that somebody should see."""
    return [record.getMessage() for record in log.get_records("call")
            if record.name == "acceptor" and record.levelno == logging.WARNING]


# What handlers answer.

def echo(request: Request) -> bytes:
    return request.body.read()


class Body:
    """A response's body, of `pieces`, which may be endless or raise. Notes how often it is closed."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces
        self.closings = 0

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)

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
