"""The event loop: one thread, all connections, and nothing but a handler that keeps it waiting; and the executors."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import re
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from acceptor import Acceptor, Request, Response, StopReport, Timeouts
from acceptor.addresses import TCPAddress
from acceptor.listener import Listener
from acceptor.phases import Phase
from taskmaster import EventLoopTaskmaster, Taskmaster, ThreadState
from taskmaster.contract import TaskmasterContract, running
from tests import loop_programs
from tests.clients import PATIENCE, Gate, RawClient, request
from tests.conftest import MODELS, Model, Serve, Server
from tests.crossings import Trial
from tests.loop_programs import where
from tests.sessions import LARGE, certificate, hostname, sparse_file, trusting

LOOPS = {model.name: model for model in MODELS if model.buffers}
both = pytest.mark.parametrize("model", [LOOPS["loop"], LOOPS["offloading"]], ids=["inline", "threads"], indirect=True)
inline = pytest.mark.parametrize("model", [LOOPS["loop"]], ids=["inline"], indirect=True)
threads = pytest.mark.parametrize("model", [LOOPS["offloading"]], ids=["threads"], indirect=True)


def until(condition: Callable[[], bool], what: str, show: Callable[[], object] = str) -> None:
    """Return once `condition()`; AssertionError if it does not become true."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited {PATIENCE:g} s in vain for {what}; {show()}"
        time.sleep(0.001)


def phases(server: Server | Acceptor) -> list[str]:
    acceptor = server.acceptor if isinstance(server, Server) else server
    return sorted(connection.phase.value for connection, _ in acceptor._registry.items())


def until_parked(server: Server | Acceptor, *expected: Phase) -> None:
    """Wait until there are connections in these phases, and the loop waits for them."""
    def parked() -> bool:
        snapshot = server.taskmaster.snapshot()
        return (snapshot.parked == len(expected) and snapshot.threads[ThreadState.ACCEPTING] == 1
                and phases(server) == sorted(phase.value for phase in expected))

    until(parked, f"{expected} to be parked", lambda: f"{phases(server)}; {server.taskmaster.snapshot()}")


# The contract.

class TestInline(TaskmasterContract):
    in_progress = "parked"

    def make_taskmaster(self) -> Taskmaster:
        return EventLoopTaskmaster()


class TestOffloading(TaskmasterContract):
    in_progress = "parked"

    def make_taskmaster(self) -> Taskmaster:
        return EventLoopTaskmaster(offload=_AtOnce())


class _AtOnce(Executor):
    def submit(self, function: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        job = Future[Any]()
        job.set_result(function(*args, **options))
        return job


def test_there_is_one_thread_however_many_connections_there_are() -> None:
    with running(EventLoopTaskmaster()) as (acceptor, taskmaster):
        connections = acceptor.connect(100)
        acceptor.settle(connections, "parked")
        now = taskmaster.snapshot()
        assert (now.parked, now.thread_count, now.grown) == (100, 1, {"start": 1})
        for connection in connections:
            connection.finish()
        acceptor.settle(connections, "processed")
        assert len(acceptor.threads) == 1


def test_a_connection_counts_as_parked_while_an_executor_works_for_it() -> None:
    reached, gate = Gate("the job runs"), Gate("it may end")

    def work() -> None:
        reached.open()
        gate.pass_through()

    with ThreadPoolExecutor(1) as executor, running(EventLoopTaskmaster(offload=executor)) as (acceptor, taskmaster):
        busy, other = acceptor.connect(2)
        busy.wait_for("parked")
        busy.work = work
        busy.send()
        reached.pass_through()
        busy.wait_for("parked")
        other.finish()
        other.wait_for("processed")
        now = taskmaster.snapshot()
        assert (now.parked, now.served, now.threads[ThreadState.SERVING]) == (1, 1, 0)
        gate.open()
        acceptor.wait_until(lambda: busy.history["processing"] == 3, "it to come back")
        busy.finish()
        busy.wait_for("processed")


def test_one_that_can_be_parked_no_more_is_processed_until_it_is_over() -> None:
    """The acceptor stops between `process_without_waiting`, which says that it is idle, and `park`."""
    reached, gate = Gate("the loop is about to park"), Gate("the acceptor is closed")
    with running(EventLoopTaskmaster()) as (acceptor, taskmaster):
        park: Callable[[Any], bool] = acceptor.park

        def held(connection: Any) -> bool:
            reached.open()
            gate.pass_through()
            return park(connection)

        acceptor.park = held  # type: ignore[method-assign]
        (connection,) = acceptor.connect()
        reached.pass_through()
        acceptor.close()
        connection.finish()
        gate.open()
        connection.wait_for("processed")
    assert (connection.history["processing"], connection.history["parked"]) == (2, 0)
    assert taskmaster.snapshot().accepted == 1


# Arguments.

@pytest.mark.parametrize("offload", [4, ThreadPoolExecutor, "threads"])
def test_what_is_no_executor_is_refused_with_the_fix(offload: Any) -> None:
    with pytest.raises(TypeError, match=re.escape(f"offload={offload!r}: pass an executor")):
        EventLoopTaskmaster(offload=offload)


def test_limits_say_what_is_served_at_once() -> None:
    assert (EventLoopTaskmaster().max_thread_count, EventLoopTaskmaster().max_accept_count) == (1, None)
    assert EventLoopTaskmaster(offload=_AtOnce()).max_thread_count is None


def test_an_executor_that_has_been_shut_down_is_found_at_the_start() -> None:
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    taskmaster = EventLoopTaskmaster(offload=executor)
    for _ in range(2):
        acceptor = Acceptor(lambda request: "", port=0, taskmaster=taskmaster)
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            acceptor.start()
        assert taskmaster.snapshot().thread_count == 0


# Nothing but the handler keeps the loop waiting.

@contextmanager
def a_handler_runs(server: Server, gate: Gate) -> Iterator[RawClient]:
    """A client whose handler is at `gate`, which is opened in the end."""
    client = server.connect()
    client.send(request("/gate"))
    try:
        yield client
    finally:
        gate.open()


def answers_all(server: Server) -> None:
    """Others are served."""
    for _ in range(2):
        with server.connect() as client:
            client.send(request("/text"))
            assert client.read_response().body == b"text"


class Application:
    """By path. `gate` holds a handler."""

    def __init__(self) -> None:
        self.reached, self.gate = Gate("the handler runs"), Gate("the handler may end")
        self.made = 0

    def __call__(self, request: Request) -> Response | str:
        path = request.path
        if path == "/gate":
            self.reached.open()
            self.gate.pass_through()
        elif path == "/bytes":
            return Response(bytes(LARGE))
        elif path == "/file":
            return Response(sparse_file(LARGE))
        elif path == "/pieces":
            return Response(self._pieces())
        elif path == "/digest":
            return hashlib.md5(request.body.read()).hexdigest()
        return path[1:]

    def _pieces(self) -> Iterator[bytes]:
        for self.made in range(1, 33):
            yield bytes(LARGE // 32)


@both
def test_no_client_keeps_the_others_waiting_whatever_it_does_not_do(serve: Serve, model: Model) -> None:
    server = serve(Application(), timeouts=Timeouts(pressed=None))
    body = os.urandom(200_000)
    clients = {name: server.connect() for name in (
        "silent", "half a head", "half a body", "half a chunked body", "not continuing", "idle", "/bytes", "/file",
        "/pieces")}
    clients["half a head"].send(b"GET /head HTTP/1.1\r\nHost: te")
    clients["half a body"].send(request("/digest", method="POST", body=body)[:-50_000])
    clients["half a chunked body"].send(request("/digest", method="POST", chunks=[body])[:-50_000])
    clients["not continuing"].send(
        request("/digest", method="POST", headers=["Expect: 100-continue", f"Content-Length: {len(body)}"]))
    clients["idle"].send(request("/idle"))
    for path in ("/bytes", "/file", "/pieces"):
        clients[path].send(request(path))
        clients[path].read_head()
    assert clients["not continuing"].read_interim() == 100
    assert clients["idle"].read_response().body == b"idle"
    writing = [Phase.WRITING] * 2 + [Phase.WRITING]
    until_parked(server, Phase.FRESH, Phase.READING, Phase.IDLE, *[Phase.RECEIVING] * 3, *writing)

    answers_all(server)

    digest = hashlib.md5(body).hexdigest().encode()
    clients["half a head"].send(b"st\r\n\r\n")
    clients["half a body"].send(body[-50_000:])
    clients["half a chunked body"].send(request("/digest", method="POST", chunks=[body])[-50_000:])
    clients["not continuing"].send(body)
    for client in (clients["silent"], clients["idle"]):
        client.send(request("/now"))
    for name, expected in {"silent": b"now", "half a head": b"head", "half a body": digest, "idle": b"now",
                           "half a chunked body": digest, "not continuing": digest}.items():
        assert (name, clients[name].read_response().body) == (name, expected)
    for path in ("/bytes", "/file", "/pieces"):
        assert (path, len(clients[path].read_response().body)) == (path, LARGE)


@both
def test_a_client_that_does_not_read_holds_no_more_than_a_few_pieces(serve: Serve) -> None:
    application = Application()
    server = serve(application)
    with server.connect() as client:
        client.send(request("/pieces"))
        client.read_head()
        until_parked(server, Phase.WRITING)
        answers_all(server)
        assert application.made < 32, "all of it has been made, for a client that does not read it"
        client.reset()
    server.wait_until_over(3)


@both
def test_half_a_handshake_keeps_nobody_waiting(serve: Serve) -> None:
    server = serve(Application(), tls=certificate())
    silent, half = server.connect(), server.connect()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = trusting().wrap_bio(incoming, outgoing, server_hostname=hostname)
    with pytest.raises(ssl.SSLWantReadError):
        session.do_handshake()
    hello = outgoing.read()
    half.send(hello[:100])
    until_parked(server, Phase.HANDSHAKE, Phase.HANDSHAKE)

    for path in ("/text", "/bytes", "/pieces"):
        with trusting().wrap_socket(server.connect().sock, server_hostname=hostname) as sock:
            client = RawClient(sock)
            client.send(request(path))
            assert len(client.read_response().body) == (4 if path == "/text" else LARGE)

    half.send(hello[100:])
    while True:
        try:
            session.do_handshake()
            break
        except ssl.SSLWantReadError:
            if data := outgoing.read():
                half.send(data)
            incoming.write(half.sock.recv(65536))
    session.write(request("/late"))
    half.send(outgoing.read())
    answer = b""
    while not answer.endswith(b"late"):
        try:
            answer += session.read(65536)
        except ssl.SSLWantReadError:
            incoming.write(half.sock.recv(65536))
    silent.close()


@both
def test_half_a_proxy_header_keeps_nobody_waiting(serve: Serve) -> None:
    server = serve(lambda request: request.peer[0], proxy_protocol=["127.0.0.1"])
    half = server.connect()
    half.send(b"PROXY TCP4 192.0.2.1 192.0.2.2")
    until_parked(server, Phase.HANDSHAKE)
    with server.connect() as client:
        client.send(b"PROXY TCP4 192.0.2.7 192.0.2.2 1 2\r\n" + request())
        assert client.read_response().body == b"192.0.2.7"
    half.send(b" 1 2\r\n" + request())
    assert half.read_response().body == b"192.0.2.1"


@both
def test_a_client_that_pipelines_gets_one_answer_in_each_round(serve: Serve) -> None:
    """A newcomer is not behind the thousand requests that were there before."""
    order: list[str] = []
    reached, gate = Gate("the first handler runs"), Gate("the newcomer has sent its request")

    def handler(request: Request) -> str:
        order.append(request.path)
        if request.path == "/0":
            reached.open()
            gate.pass_through()
        return "ok"

    server = serve(handler)
    with server.connect() as greedy, server.connect() as newcomer:
        greedy.send(b"".join(request(f"/{number}") for number in range(1000)))
        reached.pass_through()
        newcomer.send(request("/newcomer"))
        gate.open()
        newcomer.read_response()
        for _ in range(1000):
            greedy.read_response()
    assert order.index("/newcomer") < 10
    assert [path for path in order if path != "/newcomer"] == [f"/{number}" for number in range(1000)]


def test_newcomers_and_those_that_are_there_take_turns() -> None:
    """Each of those has a request whenever the loop looks; and a burst of newcomers is one event in a round of them."""
    with ExitStack() as stack:
        listener = Listener([TCPAddress("127.0.0.1", 0)], 64, 0.05)
        stack.callback(listener.close)
        busy = [sock for _ in range(10) for sock in map(stack.enter_context, socket.socketpair())]
        for sock in busy:
            listener.watch(sock.fileno(), select.POLLOUT)
        for _ in range(20):
            stack.enter_context(socket.create_connection(("127.0.0.1", listener.addresses[0].port)))
        turns = ""
        while turns.count("n") < 20:
            came = listener.accept(PATIENCE)
            if isinstance(came, int):
                turns += "b"
                listener.watch(came, select.POLLOUT)
            else:
                assert came is not None
                turns += "n"
                came[0].close()
        first = turns.index("n")
        assert turns[first:first + 39] in ("nb" * 19 + "n", "n" + "nb" * 19), turns
        stack.callback(listener.stop)


@inline
def test_a_handler_on_the_loops_own_thread_keeps_everybody_waiting(serve: Serve) -> None:
    """The lesson."""
    application = Application()
    server = serve(application, timeouts=Timeouts(pressed=None))
    with server.connect() as other, a_handler_runs(server, application.gate) as client:
        application.reached.pass_through()
        other.send(request("/text"))
        snapshot = server.taskmaster.snapshot()
        assert snapshot.threads[ThreadState.SERVING] == 1
        assert not other.has_received()
        application.gate.open()
        assert client.read_response().body == b"gate"
        assert other.read_response().body == b"text"


@threads
def test_handlers_of_an_executor_keep_nobody_waiting(serve: Serve) -> None:
    """The cure. More of them at once than there is any other way."""
    together, gate = threading.Barrier(10), Gate("they may end")

    def handler(request: Request) -> str:
        if request.path == "/gate":
            together.wait(PATIENCE)
            gate.pass_through()
        return request.path[1:]

    server = serve(handler)
    clients = [server.connect() for _ in range(10)]
    for client in clients:
        client.send(request("/gate"))
    until(lambda: together.n_waiting == 0 and phases(server) == ["handling"] * 10, "ten handlers to run")
    answers_all(server)
    gate.open()
    assert [client.read_response().body for client in clients] == [b"gate"] * 10


@both
def test_a_connection_that_is_idle_for_too_long_is_closed(serve: Serve) -> None:
    server = serve(Application(), timeouts=Timeouts(keep_alive=0.1, head=0.1, pressed=None))
    idle, silent, half = (server.connect() for _ in range(3))
    idle.send(request("/text"))
    assert idle.read_response().keep_alive
    half.send(b"GET / HT")
    idle.expect_eof()
    silent.expect_eof()
    assert half.read_response().status == 408
    half.close()


@both
def test_flags_say_whether_handlers_run_side_by_side(serve: Serve, model: Model) -> None:
    server = serve(lambda request: f"{request.multithread} {request.multiprocess}")
    with server.connect() as client:
        client.send(request())
        assert client.read_response().body == f"{model.concurrent} False".encode()


@both
def test_stop_in_a_handler_would_wait_for_itself_and_says_so(serve: Serve) -> None:
    def handler(request: Request) -> str:
        with pytest.raises(RuntimeError, match="call request_stop"):
            server.acceptor.stop()
        return "raised"

    server = serve(handler)
    with server.connect() as client:
        client.send(request())
        assert client.read_response().body == b"raised"


@threads
def test_a_connection_detached_by_a_job_may_be_closed_before_the_handler_returns(serve: Serve) -> None:
    """And others may get its descriptor meanwhile; nobody is taken for anybody else."""
    closed, gate = Gate("the socket has been closed"), Gate("the handler may return")

    def handler(request: Request) -> str:
        if request.path != "/detach":
            return request.path
        request.detach().socket.close()
        closed.open()
        gate.pass_through()
        return ""

    server = serve(handler)
    with server.connect() as client:
        client.send(request("/detach"))
        closed.pass_through()
        assert client.read_to_end() == b""
        others = [server.connect() for _ in range(5)]
        for round_ in range(3):
            for number, other in enumerate(others):
                other.send(request(f"/{round_}{number}"))
                assert other.read_response().body == f"/{round_}{number}".encode()
        gate.open()
        server.wait_until_over(1)
    assert server.acceptor.connection_count == 5


# Wake-ups.

def test_no_wake_up_from_another_thread_is_lost() -> None:
    """A small `python -m tests.crossings`."""
    trial = Trial(5_000)
    trial.run(stuck=PATIENCE)
    assert trial.crossed == 5_000


# Stopping.

def half_a_head(client: RawClient) -> None:
    client.send(b"GET /text HTTP/1.1\r\nHost: te")


def end_of_head(client: RawClient) -> bytes:
    client.send(b"st\r\n\r\n")
    return client.read_response().body


def half_a_body(client: RawClient) -> None:
    client.send(request("/text", method="POST", headers=["Content-Length: 100000"]) + bytes(90_000))


def end_of_body(client: RawClient) -> bytes:
    client.send(bytes(10_000))
    return client.read_response().body


def a_response(path: str) -> Callable[[RawClient], None]:
    def begin(client: RawClient) -> None:
        client.send(request(path))
        client.read_head()
    return begin


def end_of_response(client: RawClient) -> bytes:
    return b"%d" % len(client.read_response().body)


def at_the_gate(client: RawClient) -> None:
    client.send(request("/gate"))


PROGRESS: dict[str, tuple[Phase, Callable[[RawClient], None], Callable[[RawClient], bytes], bytes]] = {
    "half a head": (Phase.READING, half_a_head, end_of_head, b"text"),
    "half a body": (Phase.RECEIVING, half_a_body, end_of_body, b"text"),
    "bytes": (Phase.WRITING, a_response("/bytes"), end_of_response, b"%d" % LARGE),
    "file": (Phase.WRITING, a_response("/file"), end_of_response, b"%d" % LARGE),
    "pieces": (Phase.WRITING, a_response("/pieces"), end_of_response, b"%d" % LARGE),
    "handler": (Phase.HANDLING, at_the_gate, lambda client: client.read_response().body, b"gate"),
}
"""How a request comes to be in progress, and to its end."""
each_progress = pytest.mark.parametrize(
    ("model", "progress"), [
        pytest.param(LOOPS[name], progress, id=f"{name}-{progress}") for name in ("loop", "offloading")
        for progress in PROGRESS if not (name == "loop" and progress == "handler")  # the loop is in it: see test_http
    ], indirect=["model"])


@contextmanager
def stopping(server: Server, deadline: float) -> Iterator[list[StopReport]]:
    """`stop` runs meanwhile; the reports of all calls, in the end."""
    reports: list[StopReport] = []
    begun = threading.Event()
    park_no_more = server.acceptor._registry.park_no_more

    def begin() -> None:
        park_no_more()
        begun.set()

    server.acceptor._registry.park_no_more = begin  # type: ignore[method-assign]
    thread = threading.Thread(target=lambda: reports.append(server.acceptor.stop(deadline=deadline)), daemon=True)
    thread.start()
    assert begun.wait(PATIENCE)
    yield reports
    thread.join(PATIENCE)
    assert not thread.is_alive(), f"stop() still waits; {server.taskmaster.snapshot()}"


@each_progress
def test_what_is_in_progress_is_answered_when_the_server_stops(serve: Serve, model: Model, progress: str) -> None:
    phase, begin, end, expected = PROGRESS[progress]
    application = Application()
    server = serve(application)
    client, idle, silent = (server.connect() for _ in range(3))
    idle.send(request("/text"))
    idle.read_response()
    begin(client)
    until_parked(server, phase, Phase.IDLE, Phase.FRESH)
    with stopping(server, PATIENCE) as reports:
        idle.expect_eof()
        assert silent.read_response().status == 503
        silent.close()
        application.gate.open()
        assert end(client) == expected
        client.expect_eof()
        client.close()
    assert not reports[0]
    assert server.taskmaster.snapshot().served == 3


@each_progress
def test_what_is_in_progress_past_the_deadline_is_cut_and_named(model: Model, progress: str) -> None:
    phase, begin, _, _ = PROGRESS[progress]
    application = Application()
    acceptor = Acceptor(application, port=0, taskmaster=model()).start()
    with RawClient.connect(acceptor.port) as client:
        try:
            begin(client)
            until_parked(acceptor, phase)
            report = acceptor.stop(deadline=0.0)
            assert len(report.cut) == 1, report
            # Or it is just making the next piece, for what the system has room for.
            assert f"({phase.value})" in report.cut[0].replace("(streaming)", "(writing)")
            assert report.stuck == ()
            assert acceptor.connection_count == 0
            if progress == "handler":
                assert client.read_to_end() == b"", "there is no answer, and so no half of one"
            else:
                client.read_to_reset()
            assert acceptor.stop() is report
        finally:
            application.gate.open()
        snapshot = acceptor.taskmaster.snapshot()
        assert (snapshot.accepted, snapshot.served, snapshot.parked, snapshot.thread_count) == (1, 1, 0, 0)


def test_a_handler_that_does_not_end_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acceptor.run._GRACE", 0.1)
    application = Application()
    acceptor = Acceptor(application, port=0, taskmaster=EventLoopTaskmaster()).start()
    with RawClient.connect(acceptor.port) as client:
        client.send(request("/gate"))
        application.reached.pass_through()
        report = acceptor.stop(deadline=0.0)
        assert (len(report.cut), len(report.stuck)) == (1, 1)
        application.gate.open()
        until(lambda: acceptor.taskmaster.shutdown(0.1) == [], "the loop to end")


def test_a_job_may_outlive_the_server_and_the_next_one_does_not_notice() -> None:
    application = Application()
    with ThreadPoolExecutor(2) as executor:
        acceptor = Acceptor(application, port=0, taskmaster=EventLoopTaskmaster(offload=executor)).start()
        with RawClient.connect(acceptor.port) as client:
            client.send(request("/gate"))
            application.reached.pass_through()
            assert acceptor.stop(deadline=0.0).cut
            with acceptor, RawClient.connect(acceptor.port) as other:
                for _ in range(2):
                    other.send(request("/text"))
                    assert other.read_response().body == b"text"
                    application.gate.open()
            snapshot = acceptor.taskmaster.snapshot()
            assert (snapshot.accepted, snapshot.served, snapshot.parked) == (1, 1, 0)


def test_a_job_that_waits_for_its_turn_past_the_deadline_is_never_run() -> None:
    calls: list[str] = []
    reached, gate = Gate("the first runs"), Gate("it may end")

    def handler(request: Request) -> str:
        calls.append(request.path)
        reached.open()
        gate.pass_through()
        return ""

    with ThreadPoolExecutor(1) as executor:
        acceptor = Acceptor(handler, port=0, taskmaster=EventLoopTaskmaster(offload=executor)).start()
        with RawClient.connect(acceptor.port) as first, RawClient.connect(acceptor.port) as second:
            first.send(request("/first"))
            reached.pass_through()
            second.send(request("/second"))
            until(lambda: phases(acceptor) == ["handling"] * 2, "both to be in progress")
            report = acceptor.stop(deadline=0.0)
            assert len(report.cut) == 2
            gate.open()
    assert calls == ["/first"]


# Executors.

def processes(method: str) -> Callable[[], Executor]:
    return lambda: ProcessPoolExecutor(2, multiprocessing.get_context(method))


EXECUTORS: dict[str, Callable[[], Executor]] = {
    "threads": lambda: ThreadPoolExecutor(2),
    "spawned processes": processes("spawn"),
    "forked processes": processes("fork"),
}
interpreter_pool: Any = getattr(futures, "InterpreterPoolExecutor", None)  # since 3.14
if interpreter_pool is not None:
    EXECUTORS["interpreters"] = lambda: interpreter_pool(2)
serve_once = pytest.mark.parametrize("model", [LOOPS["loop"]], ids=[""], indirect=True)
"""The test brings a taskmaster of its own."""
forks = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


@forks
@serve_once
@pytest.mark.parametrize("kind", EXECUTORS)
def test_handlers_run_on_any_executor(serve: Serve, kind: str) -> None:
    body = os.urandom(100_000)
    others = {"/pieces": (200, b"one two"), "/file": (200, Path(loop_programs.__file__).read_bytes()),
              "/missing": (404, b"Not Found\n"), "/fail": (500, b"Internal Server Error\n"),
              "/wsgi": (200, b"GET ")}
    with EXECUTORS[kind]() as executor:
        server = serve(where, taskmaster=EventLoopTaskmaster(offload=executor))
        clients = [server.connect() for _ in range(4)]
        for _ in range(3):
            for client in clients:
                client.send(request("/a", method="POST", body=body) + b"".join(request(path) for path in others))
            for client in clients:
                pid, *rest = client.read_response().body.split()
                assert rest == [b"/a", b"100000"]
                assert (int(pid) != os.getpid()) == ("processes" in kind)
                for path, expected in others.items():
                    received = client.read_response()
                    assert (path, received.status, received.body) == (path, *expected)
        assert len(server.errors) == 12
        assert all("GET /fail" in message and "the handler failed" in message for message in server.errors)
        server.acceptor.stop()


@forks
@serve_once
@pytest.mark.parametrize("kind", [kind for kind in EXECUTORS if kind not in ("threads", "spawned processes")])
def test_a_handler_that_cannot_be_sent_there_costs_its_request_and_the_log_says_what_to_do(
        serve: Serve, kind: str) -> None:
    with EXECUTORS[kind]() as executor:
        server = serve(lambda request: "", taskmaster=EventLoopTaskmaster(offload=executor))
        with server.connect() as client:
            for _ in range(2):
                client.send(request(method="POST", body=b"body"))
                received = client.read_response()
                assert (received.status, received.keep_alive) == (500, True)
        assert len(server.errors) == 2
        assert all("a function at the top level of a module" in message for message in server.errors), server.errors
        server.acceptor.stop()


@forks
@serve_once
def test_processes_that_are_forked_do_not_hold_connections_open(serve: Serve) -> None:
    """They are made at the start, when there is none. Later they would inherit those that there are, and a client would
    wait for the end of a connection that only the server has closed."""
    with EXECUTORS["forked processes"]() as executor:
        server = serve(where, taskmaster=EventLoopTaskmaster(offload=executor))
        with server.connect() as client:
            client.send(request("/a", headers=["Connection: close"]))
            assert client.read_response().status == 200
            client.expect_eof()
        server.acceptor.stop()


@forks
@serve_once
def test_a_worker_process_that_is_killed_costs_its_request_and_the_log_says_what_to_do(serve: Serve) -> None:
    with EXECUTORS["forked processes"]() as executor:
        server = serve(where, taskmaster=EventLoopTaskmaster(offload=executor))
        with server.connect() as client, server.connect() as other:
            client.send(request("/die"))
            received = client.read_response()
            assert (received.status, received.keep_alive) == (500, True)
            other.send(request("/later"))  # the pool is broken, and says so
            assert other.read_response().status == 500
        assert len(server.errors) == 2
        for message in server.errors:
            assert "ProcessPoolExecutor did not run its handler" in message
            assert "restart the server" in message
        server.acceptor.stop()


@serve_once
def test_an_executor_that_is_shut_down_while_the_server_runs_costs_requests_and_not_the_server(serve: Serve) -> None:
    reached, gate = Gate("the handler runs"), Gate("it may end")

    def handler(request: Request) -> str:
        reached.open()
        gate.pass_through()
        return "ok"

    executor = ThreadPoolExecutor(1)
    server = serve(handler, taskmaster=EventLoopTaskmaster(offload=executor))
    with server.connect() as running_, server.connect() as waiting, server.connect() as late:
        running_.send(request())
        reached.pass_through()
        waiting.send(request())
        until_parked(server, Phase.HANDLING, Phase.HANDLING, Phase.FRESH)
        executor.shutdown(wait=False, cancel_futures=True)
        assert waiting.read_response().status == 500
        late.send(request())
        assert late.read_response().status == 500
        gate.open()
        assert running_.read_response().body == b"ok"
    assert len(server.errors) == 2
    assert all("after the server, not before" in message for message in server.errors)
    executor.shutdown()
