"""Starting, stopping, and everything in between that may happen at an awkward moment."""

from __future__ import annotations

import http.client
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from acceptor import Acceptor, Request, StopReport, Timeouts
from taskmaster import (
    Connection,
    PooledTaskmaster,
    RecyclingTaskmaster,
    SingleThreadedTaskmaster,
    Taskmaster,
    ThreadedTaskmaster,
    ThreadPerConnectionTaskmaster,
)
from tests.clients import read_all

PATIENCE = 10.0
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
PATIENT = Timeouts(head=1000, body=1000, write=1000, keep_alive=1000, pressed=None)
"""Nothing that a test waits for comes of a timeout."""

MODELS: dict[str, Callable[[], ThreadedTaskmaster]] = {
    "single": lambda: SingleThreadedTaskmaster(),
    "per_connection": lambda: ThreadPerConnectionTaskmaster(),
    "pooled": lambda: PooledTaskmaster(threads=8),
    "recycling": lambda: RecyclingTaskmaster(standby=4),
}
CONCURRENT = [name for name in MODELS if name != "single"]


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Callable[[], ThreadedTaskmaster]:
    return MODELS[request.param]


def hello(request: Request) -> str:
    return "hello"


@contextmanager
def connected(acceptor: Acceptor) -> Iterator[socket.socket]:
    with socket.create_connection((acceptor.host, acceptor.port), PATIENCE) as sock:
        yield sock


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


class Handler:
    """Answers when its gate opens; `running` counts the requests that have reached it."""

    def __init__(self) -> None:
        self.running = threading.Semaphore(0)
        self.gate = threading.Event()

    def __call__(self, request: Request) -> str:
        self.running.release()
        assert self.gate.wait(PATIENCE)
        return "done"

    def reached(self, count: int = 1) -> None:
        for _ in range(count):
            assert self.running.acquire(timeout=PATIENCE), "a request did not reach the handler"


class Stopping(threading.Thread):
    """acceptor.stop() in a thread of its own."""

    def __init__(self, acceptor: Acceptor, **options: float) -> None:
        super().__init__()
        self.report: StopReport | None = None
        self._stop_it: Callable[[], StopReport] = lambda: acceptor.stop(**options)  # type: ignore[arg-type]
        self.start()

    def run(self) -> None:
        self.report = self._stop_it()

    def result(self) -> StopReport:
        self.join(PATIENCE)
        assert self.report is not None, "stop() did not return"
        return self.report


# Starting.

def test_port_zero_becomes_the_real_port_and_the_server_answers(model: Callable[[], Taskmaster]) -> None:
    acceptor = Acceptor(hello, port=0, taskmaster=model())
    assert acceptor.port == 0
    with acceptor:
        assert acceptor.port > 0
        connection = http.client.HTTPConnection(acceptor.host, acceptor.port, PATIENCE)
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"hello"
        connection.close()


@pytest.mark.parametrize("host", ["::1", "localhost", "0.0.0.0"])
def test_other_addresses_of_this_machine_are_served_too(host: str) -> None:
    with Acceptor(hello, host=host, port=0, taskmaster=PooledTaskmaster(threads=1)) as acceptor:
        assert acceptor.name in (f"[::1]:{acceptor.port}", f"127.0.0.1:{acceptor.port}", f"0.0.0.0:{acceptor.port}")
        connection = http.client.HTTPConnection(f"{acceptor.name}", timeout=PATIENCE)
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"hello"
        connection.close()


def test_starting_twice_is_an_error_and_harmless(model: Callable[[], Taskmaster]) -> None:
    with Acceptor(hello, port=0, taskmaster=model()) as acceptor:
        with pytest.raises(RuntimeError, match="running already; stop"):
            acceptor.start()
        with connected(acceptor) as sock:
            sock.sendall(GET)
            assert sock.recv(12) == b"HTTP/1.1 200"


def test_a_port_in_use_leaves_nothing_behind_and_can_be_tried_again(model: Callable[[], Taskmaster]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        port = occupied.getsockname()[1]
        acceptor = Acceptor(hello, port=port, taskmaster=model())
        before, threads = descriptors(), threading.active_count()
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use; something else"):
            acceptor.start()
        assert (descriptors(), threading.active_count()) == (before, threads)
    with acceptor, connected(acceptor) as sock:
        sock.sendall(GET)
        assert sock.recv(12) == b"HTTP/1.1 200"


def test_a_taskmaster_that_runs_another_acceptor_is_refused_and_the_other_goes_on(
        model: Callable[[], Taskmaster]) -> None:
    taskmaster = model()
    with Acceptor(hello, port=0, taskmaster=taskmaster) as first:
        second = Acceptor(hello, port=0, taskmaster=taskmaster)
        before = len(descriptors())
        with pytest.raises(RuntimeError, match=f"still runs {first.name}: stop that acceptor first"):
            second.start()
        assert len(descriptors()) == before
        with connected(first) as sock:
            sock.sendall(GET)
            assert sock.recv(12) == b"HTTP/1.1 200"


def test_no_thread_to_be_had_at_the_start_leaves_nothing_behind(model: Callable[[], ThreadedTaskmaster]) -> None:
    for possible in range(3):
        taskmaster, left = model(), [possible]
        original = taskmaster.start_thread

        def start_thread(target: Callable[[], None], name: str, left: list[int] = left,
                         original: Callable[[Callable[[], None], str], None] = original) -> None:
            if not left[0]:
                raise RuntimeError("can't start new thread")
            left[0] -= 1
            original(target, name)

        taskmaster.start_thread = start_thread  # type: ignore[method-assign]
        before, threads = len(descriptors()), threading.active_count()
        acceptor = Acceptor(hello, port=0, taskmaster=taskmaster)
        try:
            acceptor.start()
        except RuntimeError as error:
            assert str(error) == "can't start new thread"  # noqa: PT017
        else:
            acceptor.stop()
        assert (len(descriptors()), threading.active_count()) == (before, threads)


# Stopping.

def test_stop_before_start_and_stop_twice_do_nothing(model: Callable[[], Taskmaster]) -> None:
    acceptor = Acceptor(hello, port=0, taskmaster=model())
    assert not acceptor.stop()
    acceptor.start()
    assert not acceptor.stop()
    assert not acceptor.stop()


def test_stop_while_starting_waits_for_the_start(model: Callable[[], ThreadedTaskmaster]) -> None:
    taskmaster = model()
    arrived, gate = threading.Event(), threading.Event()
    original = taskmaster.start_thread

    def start_thread(target: Callable[[], None], name: str) -> None:
        arrived.set()
        assert gate.wait(PATIENCE)
        original(target, name)

    taskmaster.start_thread = start_thread  # type: ignore[method-assign]
    acceptor = Acceptor(hello, port=0, taskmaster=taskmaster)
    starting = threading.Thread(target=acceptor.start)
    starting.start()
    assert arrived.wait(PATIENCE)
    stopping = Stopping(acceptor)
    assert stopping.report is None
    gate.set()
    assert not stopping.result()
    starting.join(PATIENCE)
    assert taskmaster.snapshot().thread_count == 0


def test_two_stops_at_once_both_return_when_everything_has_ended() -> None:
    handler = Handler()
    acceptor = Acceptor(handler, port=0, taskmaster=PooledTaskmaster()).start()
    with connected(acceptor) as sock:
        sock.sendall(GET)
        handler.reached()
        stops = [Stopping(acceptor) for _ in range(2)]
        assert all(stop.report is None for stop in stops)
        handler.gate.set()
        assert not any(stop.result() for stop in stops)
        assert acceptor.connection_count == 0


@pytest.mark.parametrize("name", CONCURRENT)
def test_a_soft_stop_waits_for_every_request_in_progress_however_different(name: str) -> None:
    """The one that Hunchentoot stops waiting for: of a 0.2 s and a 1 s request, both are answered."""
    def handler(request: Request) -> str:
        started.release()
        time.sleep(float(request.query))
        return "slept"

    started = threading.Semaphore(0)
    acceptor = Acceptor(handler, port=0, taskmaster=MODELS[name]()).start()
    with connected(acceptor) as short, connected(acceptor) as long:
        short.sendall(b"GET /?0.2 HTTP/1.1\r\nHost: x\r\n\r\n")
        long.sendall(b"GET /?1 HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in range(2):
            assert started.acquire(timeout=PATIENCE)
        assert not acceptor.stop()
        for sock in (short, long):
            answer = read_all(sock)
            assert answer.startswith(b"HTTP/1.1 200 OK"), answer
            assert b"connection: close" in answer, "a client should know that the connection ends"


def test_a_soft_stop_lets_a_response_that_is_being_written_end(model: Callable[[], Taskmaster]) -> None:
    big = b"x" * 20_000_000
    acceptor = Acceptor(lambda request: big, port=0, taskmaster=model()).start()
    with connected(acceptor) as sock:
        sock.sendall(GET)
        start = sock.recv(1000)
        stopping = Stopping(acceptor)
        head, _, body = (start + read_all(sock)).partition(b"\r\n\r\n")
        assert len(body) == len(big), head
        assert not stopping.result()


def test_an_idle_connection_does_not_delay_the_stop(model: Callable[[], Taskmaster]) -> None:
    """The deadline is longer than PATIENCE: were the connection waited for, stop() would not be back in time."""
    acceptor = Acceptor(hello, port=0, taskmaster=model(), timeouts=PATIENT).start()
    with connected(acceptor) as sock:
        sock.sendall(GET)
        assert sock.recv(1000).endswith(b"hello")
        assert not Stopping(acceptor, deadline=1000).result()
        assert sock.recv(1) == b""


def test_a_connection_that_has_sent_nothing_gets_503_at_the_stop(model: Callable[[], ThreadedTaskmaster]) -> None:
    taskmaster = model()
    acceptor = Acceptor(hello, port=0, taskmaster=taskmaster, timeouts=PATIENT).start()
    with connected(acceptor) as sock:
        while not taskmaster.snapshot().accepted:
            time.sleep(0.001)
        stopping = Stopping(acceptor, deadline=1000)
        assert sock.recv(12) == b"HTTP/1.1 503"
        sock.close()
        assert not stopping.result()


@pytest.mark.parametrize(("taskmaster", "busy_count"), [
    (SingleThreadedTaskmaster(), 1),
    (ThreadPerConnectionTaskmaster(max_thread_count=2, max_accept_count=None), 2),
    (PooledTaskmaster(threads=2, queue_size=None), 2),
    (RecyclingTaskmaster(standby=2, max_thread_count=2), 2),
], ids=list(MODELS))
def test_what_the_kernel_had_queued_is_served_at_the_stop(taskmaster: Taskmaster, busy_count: int) -> None:
    """All threads are busy, and eight more clients have sent a request to a server that has not accepted them."""
    handler = Handler()
    acceptor = Acceptor(handler, port=0, taskmaster=taskmaster).start()
    clients = [socket.create_connection((acceptor.host, acceptor.port), PATIENCE) for _ in range(busy_count + 8)]
    for sock in clients:
        sock.sendall(GET)
    handler.reached(busy_count)
    stopping = Stopping(acceptor)
    while _may_connect(acceptor):  # until stop() has closed the listen socket to newcomers
        pass
    handler.gate.set()
    answers = []
    for sock in clients:
        try:
            answers.append(read_all(sock)[:12])
        except ConnectionResetError:
            answers.append(b"reset")
        sock.close()
    assert answers == [b"HTTP/1.1 200"] * (busy_count + 8)
    assert not stopping.result()


def _may_connect(acceptor: Acceptor) -> bool:
    try:
        socket.create_connection((acceptor.host, acceptor.port), PATIENCE).close()
    except ConnectionRefusedError:
        return False
    except ConnectionResetError:
        pass
    return True


def test_past_the_deadline_what_is_in_progress_is_cut_and_named(model: Callable[[], Taskmaster],
                                                                caplog: pytest.LogCaptureFixture) -> None:
    body_started = threading.Event()

    def handler(request: Request) -> bytes:
        body_started.set()
        return request.body.read()  # which never comes

    acceptor = Acceptor(handler, port=0, taskmaster=model(), timeouts=PATIENT).start()
    with connected(acceptor) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
        assert body_started.wait(PATIENCE)
        peer = "{}:{}".format(*sock.getsockname())
        report = Stopping(acceptor, deadline=0.05).result()
    assert report == StopReport(cut=(f"POST / from {peer} (receiving)",))
    assert report
    assert f"cut POST / from {peer} (receiving)" in caplog.text


def test_a_hard_stop_cuts_at_once(model: Callable[[], Taskmaster]) -> None:
    acceptor = Acceptor(hello, port=0, taskmaster=model(), timeouts=PATIENT).start()
    with connected(acceptor) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost:")
        while acceptor.connection_count == 0:
            time.sleep(0.001)
        acceptor.stop(soft=False)
        assert acceptor.connection_count == 0


def test_a_handler_that_never_looks_up_is_reported_as_stuck_and_its_thread_ends_with_it(
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acceptor.run._GRACE", 0.05)
    handler = Handler()
    threads = threading.active_count()
    acceptor = Acceptor(handler, port=0, taskmaster=PooledTaskmaster(threads=2)).start()
    with connected(acceptor) as sock:
        sock.sendall(GET)
        handler.reached()
        report = acceptor.stop(deadline=0)
        assert len(report.cut) == 1
        assert len(report.stuck) == 1
        assert report.stuck[0].startswith("worker-127.0.0.1:")
        with pytest.raises(RuntimeError, match="still runs"):
            acceptor.start()
        handler.gate.set()
        sock.close()
        while threading.active_count() > threads:
            time.sleep(0.001)
    with acceptor:  # and then it can run again, nobody having called shutdown() again
        assert acceptor.connection_count == 0


def test_connections_waiting_for_a_thread_get_503_at_the_deadline() -> None:
    handler = Handler()
    acceptor = Acceptor(handler, port=0, taskmaster=PooledTaskmaster(threads=1, queue_size=5)).start()
    with connected(acceptor) as busy, connected(acceptor) as waiting, connected(acceptor) as waiting_too:
        busy.sendall(GET)
        handler.reached()
        for sock in (waiting, waiting_too):
            sock.sendall(GET)
        while acceptor.taskmaster.snapshot().queued < 2:
            time.sleep(0.001)
        stopping = Stopping(acceptor, deadline=0.05)
        assert busy.recv(1) == b""
        handler.gate.set()
        for sock in (waiting, waiting_too):
            assert sock.recv(12) == b"HTTP/1.1 503"
        assert len(stopping.result().cut) == 1


def test_stop_in_a_handler_is_refused_and_request_stop_does_it(model: Callable[[], Taskmaster]) -> None:
    errors: list[str] = []

    def handler(request: Request) -> str:
        try:
            acceptor.stop()
        except RuntimeError as error:
            errors.append(str(error))
        acceptor.request_stop()
        return "stopping"

    acceptor = Acceptor(handler, port=0, taskmaster=model())
    serving = threading.Thread(target=acceptor.serve_forever)
    serving.start()
    while not acceptor.port:
        time.sleep(0.001)
    with connected(acceptor) as sock:
        sock.sendall(GET)
        assert sock.recv(12) == b"HTTP/1.1 200"
    serving.join(PATIENCE)
    assert not serving.is_alive()
    assert len(errors) == 1
    assert "call request_stop() there" in errors[0]


def test_stop_in_a_hook_of_the_taskmaster_is_refused_and_it_can_still_be_stopped() -> None:
    class Stops(PooledTaskmaster):
        def too_many_requests(self, connection: object) -> None:
            acceptor.stop()

    handler = Handler()
    acceptor = Acceptor(handler, port=0, taskmaster=Stops(threads=1, queue_size=0)).start()
    with connected(acceptor) as busy:
        busy.sendall(GET)
        handler.reached()
        for _ in range(2):  # the server goes on as if nothing had happened
            with connected(acceptor) as refused:
                assert refused.recv(12) == b"HTTP/1.1 503"
        handler.gate.set()
        assert not acceptor.stop()


def test_a_connection_given_up_by_a_hook_that_had_passed_it_on_is_not_closed_under_its_thread() -> None:
    class Raises(PooledTaskmaster):
        def handle_incoming_connection(self, connection: Connection) -> None:
            super().handle_incoming_connection(connection)
            if not connection.resumed:
                handler.reached()
                raise ValueError("after the connection has been passed on")

    handler = Handler()
    with Acceptor(handler, port=0, taskmaster=Raises(threads=1, idle="hold")) as acceptor, connected(acceptor) as sock:
        sock.sendall(GET)
        handler.gate.set()
        assert sock.recv(12) == b"HTTP/1.1 200"


def test_a_second_stop_returns_what_the_first_did(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acceptor.run._GRACE", 0.05)
    handler = Handler()
    acceptor = Acceptor(handler, port=0, taskmaster=PooledTaskmaster(threads=1)).start()
    with connected(acceptor) as sock:
        sock.sendall(GET)
        handler.reached()
        report = acceptor.stop(soft=False)
        assert report
        assert acceptor.stop() == report
        handler.gate.set()
        assert not acceptor.taskmaster.shutdown(PATIENCE)


def test_it_can_be_started_again_after_a_stop(model: Callable[[], Taskmaster]) -> None:
    acceptor = Acceptor(hello, port=0, taskmaster=model())
    for _ in range(3):
        with acceptor, connected(acceptor) as sock:
            sock.sendall(GET)
            assert sock.recv(12) == b"HTTP/1.1 200"


def test_a_thousand_starts_and_stops_leave_no_thread_and_no_descriptor(model: Callable[[], Taskmaster]) -> None:
    """250 for each of the four models."""
    acceptor = Acceptor(hello, port=0, taskmaster=model())
    threads, before = set(threading.enumerate()), descriptors()
    for number in range(250):
        acceptor.start()
        if number % 5 == 0:
            with connected(acceptor) as sock:
                sock.sendall(GET)
                assert sock.recv(12) == b"HTTP/1.1 200"
        assert not acceptor.stop()
    assert set(threading.enumerate()) == threads
    assert descriptors() == before


# Wrong arguments.

@pytest.mark.parametrize(("arguments", "message"), [
    ({"handler": 3}, r"handler=3 \(int\): pass a callable that takes a Request"),
    ({"taskmaster": PooledTaskmaster}, r"write PooledTaskmaster\(\), with the parentheses"),
    ({"taskmaster": None}, r"taskmaster=None: pass an instance of a Taskmaster, such as RecyclingTaskmaster\(\)"),
    ({"port": "80"}, "port='80': pass a whole number from 0 to 65535, not str"),
    ({"port": 70000}, "port=70000: pass a whole number from 0 to 65535"),
    ({"host": ""}, "host='': pass a name or an address, \"0.0.0.0\" for all"),
    ({"bind": []}, r'bind=\[\]: pass at least one address, such as bind=\["127.0.0.1:8080"\]'),
    ({"bind": "127.0.0.1"}, "127.0.0.1"),
    ({"bind": ":80", "port": 80}, "pass either host and port, or bind"),
    ({"backlog": 0}, "backlog=0: pass a whole number of at least 1"),
    ({"timeouts": 3}, "timeouts=3: pass an acceptor.Timeouts"),
    ({"limits": {"body": 3}}, "limits={'body': 3}: pass an acceptor.Limits"),
    ({"tls": "cert.pem"}, "tls='cert.pem': pass an acceptor.TLS"),
    ({"allow": ["no-such"]}, "there is no violation 'no-such'; there are BARE_LF, OBS_FOLD"),
    ({"allow": "obs-fold"}, r"allow='obs-fold': pass a list, such as allow=\[Violation.OBS_FOLD\]"),
    ({"proxy_protocol": "10.0.0.0/8"}, "proxy_protocol='10.0.0.0/8': pass a list"),
    ({"trusted_proxies": ["10.0.0.1/8"]}, "trusted_proxies.*10.0.0.0/8"),
])
def test_wrong_arguments_are_refused_with_the_fix(arguments: dict[str, object], message: str) -> None:
    right: dict[str, object] = {"handler": hello, "taskmaster": SingleThreadedTaskmaster()}
    with pytest.raises((TypeError, ValueError), match=message):
        Acceptor(**(right | arguments))  # type: ignore[arg-type]


def test_a_wrong_deadline_is_refused_and_nothing_is_stopped() -> None:
    with Acceptor(hello, port=0, taskmaster=SingleThreadedTaskmaster()) as acceptor:
        with pytest.raises(ValueError, match="deadline=-1: pass a number of seconds of at least 0"):
            acceptor.stop(deadline=-1)
        with connected(acceptor) as sock:
            sock.sendall(GET)
            assert sock.recv(12) == b"HTTP/1.1 200"
