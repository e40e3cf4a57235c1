"""What is urgent is answered although every thread is busy, and nothing else is changed by that."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trustme

from acceptor import TLS, Acceptor, Limits, Request, Response, Timeouts, Violation
from acceptor.access import AccessRecord
from acceptor.health import Health
from taskmaster import (
    PooledTaskmaster,
    RecyclingTaskmaster,
    Snapshot,
    Taskmaster,
    ThreadPerConnectionTaskmaster,
    ThreadState,
)
from tests.clients import PATIENCE, Gate, RawClient, access_records, request

FULL = b"The server is full; try again in a moment.\n"

MODELS: dict[str, Callable[[int], Taskmaster]] = {
    "per_connection": lambda waiting: ThreadPerConnectionTaskmaster(max_thread_count=1, max_accept_count=waiting),
    "pooled": lambda waiting: PooledTaskmaster(threads=1, queue_size=waiting, idle="hold"),
    "recycling": lambda waiting: RecyclingTaskmaster(max_thread_count=1, max_accept_count=waiting, idle="hold"),
    "pooled, parking": lambda waiting: PooledTaskmaster(threads=1, queue_size=waiting, idle="park"),
    "recycling, parking": lambda waiting: RecyclingTaskmaster(max_thread_count=1, max_accept_count=waiting,
                                                              idle="park"),
}
PARKING = [name for name in MODELS if name.endswith("parking")]


class Busy:
    """A server whose only thread is busy until `gate` is opened, and which lets so many others wait."""

    def __init__(self, waiting: int, model: str = "pooled", urgent: Callable[[Request], Any] | None = None,
                 **options: Any) -> None:
        self.gate = Gate("the busy thread may go on")
        self.entered = Gate("the only thread is busy")
        self.health = Health(self.handle, live="/livez", ready="/readyz")
        self.acceptor = Acceptor(self.health, port=0, taskmaster=MODELS[model](waiting),
                                 urgent=urgent or self.health.answer, **options)
        self.clients: list[RawClient] = []

    def handle(self, request: Request) -> str:
        if request.path == "/busy":
            self.entered.open()
            self.gate.pass_through()
        return f"handled {request.path}"

    @property
    def snapshot(self) -> Snapshot:
        return self.acceptor.taskmaster.snapshot()

    def client(self, data: bytes = b"") -> RawClient:
        """A new client, which has sent this. Closed at the end."""
        self.clients.append(RawClient.connect(self.acceptor.port))
        self.clients[-1].send(data)
        return self.clients[-1]

    def make_busy(self, client: RawClient) -> None:
        client.send(request("/busy"))
        self.entered.pass_through()

    def until(self, condition: Callable[[Snapshot], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not condition(snapshot := self.snapshot):
            assert time.monotonic() < end, f"waited in vain: {snapshot}"
            time.sleep(0.005)


@contextmanager
def busy(waiting: int, model: str = "pooled", urgent: Callable[[Request], Any] | None = None, **options: Any
         ) -> Iterator[Busy]:
    """At the end all are answered who wait, and the books must balance."""
    server = Busy(waiting, model, urgent, **options)
    with server.acceptor:
        try:
            first = server.client()
            if options.get("tls") is None and not options.get("proxy_protocol"):
                server.make_busy(first)
            yield server
        finally:
            server.gate.open()
            for client in server.clients:
                client.close()
    assert server.acceptor.connection_count == 0
    snapshot = server.snapshot
    assert (snapshot.queued, snapshot.parked, snapshot.threads[ThreadState.SERVING]) == (0, 0, 0)
    assert snapshot.accepted == snapshot.served + snapshot.refused


# Answered.


@pytest.mark.parametrize("model", MODELS)
def test_where_nobody_may_wait_a_health_check_is_answered_and_others_are_refused(model: str) -> None:
    with busy(0, model) as server:
        for _ in range(3):
            for path in ("/livez", "/readyz"):
                answer = server.client(request(path)).read_response()
                assert (answer.status, answer.body, answer.keep_alive) == (200, b"ok\n", False)
                assert answer.header("cache-control") == "no-store"
            refused = server.client(request("/other")).read_response()
            assert (refused.status, refused.body, refused.header("retry-after")) == (503, FULL, "1")
        assert server.snapshot.refused == 9


@pytest.mark.parametrize("model", MODELS)
def test_one_that_was_answered_in_the_queue_leaves_its_place_to_another(model: str) -> None:
    with busy(1, model) as server:
        for _ in range(3):
            assert server.client(request("/readyz")).read_response().status == 200
            server.until(lambda now: now.queued == 0)
        waiting = server.client(request("/waiting"))
        server.until(lambda now: now.queued == 1)
        server.gate.open()
        server.clients[0].close()
        assert waiting.read_response().body == b"handled /waiting"
        assert server.snapshot.refused == 0


@pytest.mark.parametrize("model", MODELS)
def test_a_health_check_in_the_queue_is_answered_and_the_others_there_wait_for_their_turn(model: str) -> None:
    with busy(3, model) as server:
        before = server.client(request("/before"))
        server.until(lambda now: now.queued == 1)
        check = server.client(request("/readyz"))
        assert check.read_response().body == b"ok\n"
        behind = server.client(request("/behind"))
        server.until(lambda now: now.accepted == 4)
        assert before.has_received() == behind.has_received() == b""
        check.expect_eof()
        server.gate.open()
        server.clients[0].close()
        for client, body in ((before, b"handled /before"), (behind, b"handled /behind")):
            assert client.read_response().body == body
            client.close()
        assert server.snapshot.refused == 0


def test_a_health_check_that_comes_when_the_queue_is_full_is_answered_at_once() -> None:
    with busy(1) as server:
        waits = server.client(request("/waits"))
        server.until(lambda now: now.queued == 1)
        assert server.client(request("/livez")).read_response().status == 200
        assert server.client(request("/other")).read_response().status == 503
        assert waits.has_received() == b""
        server.gate.open()
        server.clients[0].close()
        assert waits.read_response().body == b"handled /waits"


@pytest.mark.parametrize("waiting", [0, 1], ids=["refused", "queued"])
def test_head_is_answered_without_a_body(waiting: int) -> None:
    with busy(waiting) as server:
        client = server.client(request("/readyz", method="HEAD"))
        data = client.read_to_end()
        assert data.startswith(b"HTTP/1.1 200 ")
        assert b"content-length: 3\r\n" in data.lower()
        assert data.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("waiting", [0, 1], ids=["refused", "queued"])
def test_a_server_that_leaves_says_so(waiting: int) -> None:
    with busy(waiting) as server:
        stop = threading.Thread(target=server.acceptor.stop, kwargs={"leave": 600, "deadline": PATIENCE})
        stop.start()
        end = time.monotonic() + PATIENCE
        while (answer := server.client(request("/readyz")).read_response()).body == b"ok\n":
            assert time.monotonic() < end, "it does not leave"
        assert (answer.status, answer.body) == (503, b"leaving\n")
        assert server.client(request("/livez")).read_response().status == 200
        server.acceptor._run.hurry()
        server.gate.open()
        stop.join(PATIENCE)


@pytest.mark.parametrize("model", PARKING)
@pytest.mark.parametrize("waiting", [0, 1], ids=["refused", "queued"])
def test_a_kept_connection_that_comes_back_with_a_health_check(model: str, waiting: int) -> None:
    server = Busy(waiting, model)
    with server.acceptor:
        kept = server.client(request("/first"))
        assert kept.read_response().body == b"handled /first"
        server.until(lambda now: now.parked == 1)
        server.make_busy(server.client())
        kept.send(request("/readyz"))
        answer = kept.read_response()
        assert (answer.status, answer.body, answer.keep_alive) == (200, b"ok\n", False)
        server.gate.open()
        for client in server.clients:
            client.close()


def test_a_health_check_that_comes_in_pieces_is_answered_when_it_is_whole() -> None:
    asked = threading.Semaphore(0)

    def urgent(request: Request) -> Response | None:
        asked.release()
        return Response("ok\n") if request.path == "/readyz" else None

    whole = request("/readyz")
    with busy(3, urgent=urgent) as server:
        pieces = server.client(whole[:20])
        server.until(lambda now: now.queued == 1)
        server.client(request("/other"))
        for _ in range(3):  # ticks, in which it was looked at
            assert asked.acquire(timeout=PATIENCE)
        assert pieces.has_received() == b""
        pieces.send(whole[20:])
        assert pieces.read_response().body == b"ok\n"


def test_beyond_the_limit_of_connections_too() -> None:
    with busy(0, limits=Limits(connections=1)) as server:
        assert server.client(request("/livez")).read_response().body == b"ok\n"
        assert server.client(request("/other")).read_response().status == 503


def test_the_function_sees_the_request() -> None:
    seen: list[tuple[object, ...]] = []

    def urgent(request: Request) -> Response | None:
        seen.append((request.method, request.path, request.host, request.peer[0], request.headers.get("x-check"),
                     request.stopping))
        return Response("seen\n", 418)

    with busy(0, urgent=urgent) as server:
        answer = server.client(request("/a?b=c", headers=["X-Check: 1"])).read_response()
        assert (answer.status, answer.body) == (418, b"seen\n")
    assert seen == [("GET", "/a", "test", "127.0.0.1", "1", False)]


def test_the_access_log_has_a_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "acceptor.access")

    def lines(status: int) -> list[AccessRecord]:
        return [record for record in access_records(caplog) if record.status == status]

    with busy(0, access_log=True) as server:
        server.client(request("/readyz")).read_response()
        server.client(request("/other")).read_response()
    [check], [refused] = [record for record in lines(200) if record.sent == 3], lines(503)
    assert (check.client, check.complete, refused.sent) == ("127.0.0.1", True, len(FULL))
    assert (check.method, check.target, check.host, refused.method) == ("GET", "/readyz", "test", None)


# Not answered.


@pytest.mark.parametrize("data", [
    request("/other"), request("/readyz", method="POST", body=b"x"), request("/readyz")[:20], b"\x16\x03\x01 garbage",
    b"GET /readyz HTTP/1.1\r\n\r\n", b"GET /readyz\r\n\r\n",
], ids=["another path", "with a body", "not whole", "garbage", "without a host", "HTTP/0.9"])
def test_what_is_not_urgent_is_refused_as_ever(data: bytes) -> None:
    with busy(0) as server:
        answer = server.client(data).read_response()
        assert (answer.status, answer.body) == (503, FULL)


def test_a_client_that_says_nothing_is_refused_in_the_end() -> None:
    with busy(0, timeouts=Timeouts(linger=0.1)) as server:
        answer = server.client().read_response()
        assert (answer.status, answer.body) == (503, FULL)


def test_without_such_a_function_a_refusal_waits_for_nothing() -> None:
    server = Busy(0, timeouts=Timeouts(linger=PATIENCE * 3))
    server.acceptor._urgent = None
    with server.acceptor:
        server.make_busy(server.client())
        assert server.client().read_response().status == 503
        server.gate.open()
        for client in server.clients:
            client.close()


def test_a_client_that_has_gone_is_forgotten() -> None:
    with busy(0, timeouts=Timeouts(linger=PATIENCE * 3)) as server:
        server.client().close()
        server.client(request("/livez")).reset()
        server.until(lambda now: now.refused == 2)
        assert server.client(request("/livez")).read_response().status == 200


@pytest.mark.parametrize("function", [
    lambda request: 1 / 0, lambda request: "ok", lambda request: Response(iter([b"ok"])),
    lambda request: request.begin(Response()), lambda request: Response("ok", headers={"bad name": "x"}),
], ids=["raises", "no response", "an iterable", "begins", "a wrong header"])
@pytest.mark.parametrize("waiting", [0, 1], ids=["refused", "queued"])
def test_a_function_that_fails_is_logged_and_changes_nothing(function: Callable[[Request], Any], waiting: int,
                                                             caplog: pytest.LogCaptureFixture) -> None:
    asked = threading.Semaphore(0)

    def urgent(request: Request) -> Any:
        asked.release()
        return function(request)

    with busy(waiting, urgent=urgent) as server:
        client = server.client(request("/readyz"))
        assert asked.acquire(timeout=PATIENCE)
        if waiting:
            server.gate.open()
            server.clients[0].close()
            assert client.read_response().body == b"ok\n", "by a thread, as ever"
        else:
            answer = client.read_response()
            assert (answer.status, answer.body) == (503, FULL)
    messages = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert messages
    assert all(message.startswith("urgent(<GET /readyz from 127.0.0.1:") for message in messages), messages
    assert all("failed; the request waits as others do" in message for message in messages)


def test_over_tls_it_takes_a_thread() -> None:
    authority = trustme.CA()
    context = ssl.create_default_context()
    authority.configure_trust(context)
    pem = authority.issue_cert("localhost").private_key_and_cert_chain_pem
    with pem.tempfile() as path, busy(0, tls=TLS(path)) as server:
        first = RawClient(context.wrap_socket(server.clients[0].sock, server_hostname="localhost"))
        server.clients[0] = first
        server.make_busy(first)
        with pytest.raises(OSError, match=r"EOF|reset|closed"):
            context.wrap_socket(server.client().sock, server_hostname="localhost")


@pytest.mark.parametrize("waiting", [0, 1], ids=["refused", "queued"])
def test_behind_a_proxy_header_it_takes_a_thread(waiting: int) -> None:
    header = b"PROXY TCP4 192.0.2.1 192.0.2.2 1234 80\r\n"
    with busy(waiting, proxy_protocol=["127.0.0.1"]) as server:
        server.clients[0].send(header)
        server.make_busy(server.clients[0])
        client = server.client(header + request("/readyz"))
        if waiting:
            server.until(lambda now: now.queued == 1)
            ticks = threading.Semaphore(0)
            server.acceptor._run._watcher._pending = lambda: bool(ticks.release())  # type: ignore[func-returns-value]
            for _ in range(3):  # two whole ticks
                assert ticks.acquire(timeout=PATIENCE)
            assert client.has_received() == b""
            server.gate.open()
            server.clients[0].close()
            assert client.read_response().body == b"ok\n"
        else:
            assert client.read_response().status == 503


def test_a_wrong_argument_fails_at_once() -> None:
    with pytest.raises(TypeError, match=r"urgent=5: pass a callable that takes a Request, such as Health\(handler\)"):
        Acceptor(lambda request: "", taskmaster=PooledTaskmaster(), urgent=5)  # type: ignore[arg-type]


def test_what_is_wrong_with_a_request_that_waits_is_counted_once() -> None:
    looked = threading.Semaphore(0)

    def urgent(request: Request) -> None:
        looked.release()

    with busy(1, urgent=urgent, allow=[Violation.BARE_LF]) as server:
        waiting = server.client(b"GET /later HTTP/1.1\nHost: x\r\n\r\n")
        for _ in range(3):  # it is looked at, tick by tick
            assert looked.acquire(timeout=PATIENCE)
        assert server.acceptor.violations == {}
        server.gate.open()
        server.clients[0].close()
        assert waiting.read_response().body == b"handled /later"
        assert server.acceptor.violations == {Violation.BARE_LF: 1}
