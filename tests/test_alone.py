"""An exchange on the one thread that serves all, step by step: the test is the loop, and nothing moves without it.

    lone = serve(handler)                        a connection, of which the test is both ends
    lone.client.send(request())
    assert lone.run() is End.PARK                served until it would have to wait
    lone.client.read_response()                  reading lets the server go on whenever it can

Executors are scripted too: `Later` runs a job when it is told to, `Elsewhere` pickles it and its outcome, as one of
processes does. Real executors, and a real loop, are in test_event_loop.py.
"""

from __future__ import annotations

import errno
import gc
import hashlib
import io
import logging
import os
import pickle
import random
import select
import socket
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import Any, Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acceptor import Limits, Timeouts
from acceptor.connection import Connection
from acceptor.listen_socket import set_tick
from acceptor.messages import ClientDisconnectedError, Handler, Headers, HTTPError, Request, Response
from acceptor.phases import End, Phase
from acceptor.service import Service
from acceptor.tls import TLSInfo
from acceptor.wsgi import WSGI
from tests.clients import PATIENCE, Gate, RawClient, Received, access_lines, access_records, request, tcp_pair
from tests.sessions import ADDRESS, LARGE, PATIENT, SMALL, Body, Clock, endless, failures, refusals, sparse_file

IN_MEMORY = 64 * 1024


def never() -> bool:
    return False


# The harness.

class Lone:
    """A connection served alone by whoever calls `serve`, `run`, or reads with its client."""

    def __init__(self, handler: Handler, *, offload: Executor | None = None, buffer: int | None = None,
                 may_fail: bool = False, **options: Any) -> None:
        ours, theirs = tcp_pair(buffer)
        set_tick(theirs, 0.02)
        self.may_fail = may_fail
        self.offload = offload
        self.woken: list[Connection] = []
        """Whom the server wants back, in order."""
        self.service = Service(handler, **{"timeouts": PATIENT, **options})
        self.service.wake = self.woken.append
        self.connection = Connection(theirs, ADDRESS, self.service)
        self.client = _Client(ours, self)
        self.end = End.PARK
        """What `serve` returned last."""
        self.turns = 0

    def serve(self) -> End:
        """Once, whether it is ready or not."""
        assert self.end is End.PARK, f"it is over: {self.end}"
        self.turns += 1
        self.end = self.connection.serve(never, alone=True, offload=self.offload)
        if self.end is End.CLOSE:
            self.connection.close()
        elif self.end is End.LINGER:
            self.connection.start_lingering()
        return self.end

    def turn(self, patience: float = 0.0) -> bool:
        """Serve, if it is ready, or is within so many seconds."""
        if self.end is not End.PARK or not self._ready(patience):
            return False
        self.serve()
        return True

    def run(self) -> End:
        """Serve for as long as it is ready; what it returned last."""
        while self.turn(0.01):
            pass
        return self.end

    def run_to_end(self) -> End:
        """Serve until it is over."""
        while self.end is End.PARK:
            assert self.turn(PATIENCE), f"waited {PATIENCE:g} s in vain for the end; {self.connection}"
        return self.end

    def leave(self) -> End:
        self.client.close()
        return self.run_to_end()

    def finish(self) -> None:
        """With the client gone, it must come to an end by itself, unless a job has it."""
        self.client.close()
        while self.end is End.PARK and not self.connection.at_work:
            assert self.turn(PATIENCE), f"waited {PATIENCE:g} s in vain for the end; {self.connection}"
        self.connection.close()

    def _ready(self, patience: float) -> bool:
        if self.connection.phase is Phase.ACCEPTED:
            return True
        if not (wants := self.connection.stream.wants):
            return not self.connection.at_work
        poll = select.poll()
        poll.register(self.connection.stream.raw, wants)
        return bool(poll.poll(patience * 1000))


class _Client(RawClient):
    """Waiting to receive, it lets the server serve."""

    def __init__(self, sock: socket.socket, lone: Lone) -> None:
        super().__init__(sock)
        self._lone = lone

    def _recv(self, *wanted: Any) -> bytes:
        lone = self._lone
        while not select.select([self.sock], [], [], 0)[0]:
            if not lone.turn() and not select.select([self.sock], [], [], 0.01)[0] and not lone._ready(0):
                raise AssertionError(f"neither end can go on; {lone.connection}, {lone.end}, waiting for {wanted[0]}")
        return super()._recv(*wanted)


class Serve(Protocol):
    """Make a connection; the options are those of `Lone`."""

    def __call__(self, handler: Handler, **options: Any) -> Lone: ...


@pytest.fixture
def serve(caplog: pytest.LogCaptureFixture) -> Iterator[Serve]:
    """In the end every connection must come to its end, with no error in the log unless it may fail."""
    caplog.set_level(logging.DEBUG, "acceptor")
    made: list[Lone] = []

    def make(handler: Handler, **options: Any) -> Lone:
        made.append(Lone(handler, **options))
        return made[-1]

    yield make
    for lone in made:
        lone.finish()
    if not any(lone.may_fail for lone in made):
        assert failures(caplog) == []


class Later(Executor):
    """Runs each job when it is told to."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, function: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        job = Future[Any]()
        self.jobs.append((job, lambda: function(*args, **options)))
        return job

    def begin(self) -> Callable[[], None]:
        """The oldest job is running; the rest of it is returned."""
        job, call = self.jobs.pop(0)
        assert job.set_running_or_notify_cancel(), "it has been cancelled"

        def finish() -> None:
            try:
                result = self.call(call)
            except BaseException as error:
                job.set_exception(error)
            else:
                job.set_result(result)

        return finish

    def run(self) -> None:
        """Run the oldest job, on this thread."""
        self.begin()()

    def run_in_thread(self) -> threading.Thread:
        thread = threading.Thread(target=self.begin(), daemon=True)
        thread.start()
        return thread

    def call(self, call: Callable[[], Any]) -> Any:
        return call()


class AtOnce(Later):
    """Runs each job before `submit` returns."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        job = super().submit(function, *args, **options)
        self.run()
        return job


class Elsewhere(AtOnce):
    """Runs each job as another process would: it gets pickles, and answers with one."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        assert not args
        assert not options
        try:
            data = pickle.dumps(function)
        except Exception as error:  # as ProcessPoolExecutor does
            job = Future[Any]()
            job.set_exception(error)
            return job
        return super().submit(lambda: pickle.loads(data)())

    def call(self, call: Callable[[], Any]) -> Any:
        return pickle.loads(pickle.dumps(call()))


EXECUTORS: dict[str, Callable[[], Executor | None]] = {
    "inline": lambda: None, "at once": AtOnce, "elsewhere": Elsewhere}


@pytest.fixture(params=EXECUTORS)
def offload(request: pytest.FixtureRequest) -> Executor | None:
    """None, and executors that run a job at once: to the client there is no difference."""
    return EXECUTORS[request.param]()


here = pytest.mark.parametrize("offload", ["inline", "at once"], indirect=True)
"""For what a handler elsewhere, which has no connection, cannot do."""


def get(lone: Lone, target: str = "/", **options: Any) -> Received:
    lone.client.send(request(target, **options))
    return lone.client.read_response(options.get("method", "GET"))


# Handlers at the top level, which can be pickled.

def echo(request: Request) -> bytes:
    return request.body.read()


def digest(request: Request) -> str:
    hashed, total = hashlib.md5(), 0
    while data := request.body.read1():
        hashed.update(data)
        total += len(data)
    return f"{total} {hashed.hexdigest()}"


def digest_of(data: bytes) -> bytes:
    return f"{len(data)} {hashlib.md5(data).hexdigest()}".encode()


def many(request: Request) -> Response | str:
    """Answers of every kind, by path."""
    kind = request.path
    if kind == "/text":
        return "naïve"
    if kind == "/file":
        file = tempfile.TemporaryFile()  # noqa: SIM115
        file.write(b"0123456789")
        file.seek(2)
        return Response(file)
    if kind == "/part":
        file = tempfile.TemporaryFile()  # noqa: SIM115
        file.write(b"0123456789")
        file.seek(0)
        return Response(file, headers={"Content-Length": "4"})
    if kind == "/memory":
        return Response(io.BytesIO(b"in memory"))
    if kind == "/pieces":
        return Response(iter([b"one ", b"", b"two"]))
    if kind == "/announced":
        return Response(iter([b"12", b"345"]), headers={"Content-Length": "5"})
    if kind == "/nothing":
        return Response(b"", 204, {"X-Header": "kept"}, reason="Nothing")
    if kind == "/missing":
        raise HTTPError(404, "no such page", {"X-Header": "kept"})
    raise AssertionError(kind)


KINDS = {"/text": "naïve".encode(), "/file": b"23456789", "/part": b"0123", "/memory": b"in memory",
         "/pieces": b"one two", "/announced": b"12345", "/nothing": b"", "/missing": b"no such page\n"}


# The body is read first.

@pytest.mark.parametrize("size", [0, 1, IN_MEMORY, IN_MEMORY + 1, 1_000_000])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_handler_has_the_whole_body_and_the_next_request_follows(
        serve: Serve, offload: Executor | None, framing: str, size: int) -> None:
    body = random.Random(size).randbytes(size)
    framed: dict[str, Any] = ({"body": body} if framing == "length" else
                              {"chunks": [body[start:start + 50_000] for start in range(0, size, 50_000)]})
    lone = serve(digest, offload=offload)
    for _ in range(2):
        sender = threading.Thread(target=lone.client.send, args=(request(method="POST", **framed),), daemon=True)
        sender.start()
        received = lone.client.read_response("POST")
        sender.join(PATIENCE)
        assert (received.body, received.keep_alive) == (digest_of(body), True)


def test_the_handler_is_not_called_before_the_last_byte_of_the_body(serve: Serve) -> None:
    called: list[bytes] = []
    lone = serve(lambda request: called.append(request.body.read()) or "done")  # type: ignore[func-returns-value]
    lone.client.send(request(method="POST", headers=["Content-Length: 5"]))
    for byte in (b"h", b"e", b"l", b"l"):
        assert lone.run() is End.PARK
        assert (lone.connection.phase, lone.connection.stream.wants) == (Phase.RECEIVING, select.POLLIN)
        lone.client.send(byte)
    assert called == []
    lone.client.send(b"o")
    assert lone.client.read_response().body == b"done"
    assert called == [b"hello"]


@settings(max_examples=40)
@given(cuts=st.lists(st.integers(1, 200), max_size=6))
def test_however_a_request_is_cut_it_is_answered_the_same(cuts: list[int]) -> None:
    data = (request("/1", method="POST", chunks=[b"abc" * 10, b"def"]) + request("/2", method="POST", body=b"x" * 30)
            + request("/3"))
    lone = Lone(lambda request: f"{request.path} {request.body.read().decode()}")
    try:
        for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(data)], strict=True):
            lone.client.send(data[start:end])
            lone.run()
        answers = [lone.client.read_response().body for _ in range(3)]
        assert answers == [b"/1 " + b"abc" * 10 + b"def", b"/2 " + b"x" * 30, b"/3 "]
    finally:
        lone.finish()


@pytest.mark.parametrize(("size", "on_disk"), [(IN_MEMORY, False), (IN_MEMORY + 1, True)])
def test_what_is_large_is_kept_in_a_file_which_is_closed_in_the_end(
        serve: Serve, monkeypatch: pytest.MonkeyPatch, size: int, on_disk: bool) -> None:
    made: list[Any] = []

    class Watched(tempfile.SpooledTemporaryFile):  # type: ignore[type-arg]
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr("acceptor.alone.SpooledTemporaryFile", Watched)
    rolled = []
    lone = serve(lambda request: str(rolled.append(made[-1]._rolled)))  # type: ignore[func-returns-value]
    get(lone, method="POST", body=b"x" * size)
    assert rolled == [on_disk]
    assert made[0].closed
    get(lone)
    assert len(made) == 1, "a request without a body needs no file"


def test_a_client_that_expects_100_continue_gets_it_before_the_handler_is_called(serve: Serve) -> None:
    lone = serve(echo)
    for _ in range(2):
        lone.client.send(request(method="POST", headers=["Expect: 100-continue", "Content-Length: 5"]))
        assert lone.client.read_interim() == 100
        assert lone.connection.phase is Phase.RECEIVING
        lone.client.send(b"hello")
        received = lone.client.read_response()
        assert (received.body, received.keep_alive) == (b"hello", True)


def test_the_trailers_of_a_body_are_there_for_the_handler(serve: Serve, offload: Executor | None) -> None:
    lone = serve(trailer, offload=offload)
    lone.client.send(request(method="POST", headers=["Transfer-Encoding: chunked"]) + b"0\r\nX-Sum: 42\r\n\r\n")
    assert lone.client.read_response().body == b"42"


def trailer(request: Request) -> str:
    return request.trailers["x-sum"]


def test_a_handler_need_not_read_the_body_however_large_it_is(serve: Serve, offload: Executor | None) -> None:
    lone = serve(ignore, offload=offload)
    for _ in range(2):
        received = get(lone, method="POST", body=b"x" * 200_000)
        assert (received.body, received.keep_alive) == (b"not read", True)


def ignore(request: Request) -> str:
    return "not read"


@pytest.mark.parametrize(("version", "data", "status"), [
    ("1.1", b"b\r\n12345678901\r\n", 413), ("1.1", b"no number\r\n", 400), ("1.1", b"5\r\nhello!", 400)])
def test_a_body_that_will_not_do_is_refused_before_the_handler_and_the_client_can_read_that(
        serve: Serve, caplog: pytest.LogCaptureFixture, version: str, data: bytes, status: int) -> None:
    lone = serve(lambda request: str(1 // 0), limits=Limits(body=10))
    lone.client.send(request(method="POST", version=version, headers=["Transfer-Encoding: chunked"]) + data)
    received = lone.client.read_response()
    assert (received.status, received.keep_alive) == (status, False)
    assert lone.end is End.LINGER
    assert len(refusals(caplog)) == 1


def test_a_body_that_is_refused_lingers_also_if_the_connection_was_to_close_anyway(serve: Serve) -> None:
    """Or the client, which is still sending, would get a reset instead of the answer."""
    lone = serve(echo, limits=Limits(body=10))
    lone.client.send(request(method="POST", headers=["Transfer-Encoding: chunked", "Connection: close"]) + b"b\r\n")
    assert lone.client.read_response().status == 413
    assert lone.end is End.LINGER


def test_a_body_that_comes_too_slowly_is_answered_408(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock().install(monkeypatch)
    lone = serve(echo, timeouts=Timeouts(body=10, minimum_rate=None))
    lone.client.send(request(method="POST", headers=["Content-Length: 5"]) + b"hell")
    assert lone.run() is End.PARK
    assert lone.connection.deadline == clock.monotonic() + 10
    clock.advance(9)
    assert lone.serve() is End.PARK
    assert lone.connection.deadline == clock.monotonic() + 1
    clock.advance(1)
    lone.serve()
    received = lone.client.read_response()
    assert (received.status, received.keep_alive) == (408, False)


def test_what_a_client_sends_earns_it_time(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock().install(monkeypatch)
    lone = serve(digest, timeouts=Timeouts(body=10, minimum_rate=100))
    lone.client.send(request(method="POST", headers=["Content-Length: 5000"]))
    for _ in range(5):
        assert lone.run() is End.PARK
        clock.advance(9)
        lone.client.send(b"x" * 1000)
    assert lone.client.read_response().body == digest_of(b"x" * 5000)


@pytest.mark.parametrize("go", [RawClient.reset, RawClient.close, RawClient.half_close],
                         ids=["resets", "leaves", "sends no more"])
@pytest.mark.parametrize("size", [10, 100_000])
def test_a_client_that_leaves_in_its_body_costs_no_handler(
        serve: Serve, caplog: pytest.LogCaptureFixture, go: Callable[[RawClient], None], size: int) -> None:
    caplog.set_level("INFO", "acceptor.access")
    lone = serve(lambda request: str(1 // 0), log_access=True)
    lone.client.send(request(method="POST", headers=["Content-Length: 1000000"]) + b"x" * size)
    assert lone.run() is End.PARK
    go(lone.client)
    assert lone.run_to_end() is End.CLOSE
    assert access_lines(caplog) == ['192.0.2.1 "POST / HTTP/1.1" 499 -']


def test_a_body_for_which_there_is_no_room_is_answered_500_and_logged(
        serve: Serve, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(tempfile.SpooledTemporaryFile):  # type: ignore[type-arg]
        def rollover(self) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("acceptor.alone.SpooledTemporaryFile", Full)
    lone = serve(echo, may_fail=True)
    assert get(lone, method="POST", body=b"x" * IN_MEMORY).status == 200
    received = get(lone, method="POST", body=b"x" * (IN_MEMORY + 1))
    assert (received.status, received.keep_alive) == (500, False)
    assert lone.end is End.LINGER
    assert "No space left on device" in failures(caplog)[0]
    assert "TMPDIR" in failures(caplog)[0]


def test_a_body_cannot_be_read_when_the_request_is_over(serve: Serve) -> None:
    kept: list[Request] = []
    lone = serve(lambda request: str(kept.append(request)))  # type: ignore[func-returns-value]
    get(lone, method="POST", body=b"x" * 10)
    with pytest.raises(ValueError, match="the request is over"):
        kept[0].body.read()


# The response is sent as the client takes it.

@pytest.mark.parametrize("path", KINDS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_every_kind_of_response_arrives(serve: Serve, offload: Executor | None, path: str, method: str) -> None:
    lone = serve(many, offload=offload)
    for _ in range(2):
        received = get(lone, path, method=method)
        assert received.body == (b"" if method == "HEAD" else KINDS[path])
        assert received.keep_alive
        assert received.status == {"/nothing": 204, "/missing": 404}.get(path, 200)
        assert received.header("x-header") == ("kept" if received.status != 200 else None)
        if path in ("/file", "/part", "/announced"):
            assert received.header("content-length") == str(len(KINDS[path]))


@pytest.mark.parametrize("path", KINDS)
def test_a_client_of_1_0_is_answered_in_what_it_understands(serve: Serve, offload: Executor | None, path: str) -> None:
    lone = serve(many, offload=offload)
    received = get(lone, path, version="1.0")
    assert (received.body, received.keep_alive) == (KINDS[path], False)
    assert received.header("transfer-encoding") is None
    lone.client.expect_eof()
    assert lone.end is End.CLOSE


def large(kind: str) -> Any:
    if kind == "bytes":
        return bytes(LARGE)
    return sparse_file(LARGE) if kind == "file" else Body(bytes(100_000) for _ in range(LARGE // 100_000))


@pytest.mark.parametrize("kind", ["bytes", "file", "pieces"])
def test_a_client_that_takes_its_time_keeps_nobody_waiting(serve: Serve, kind: str) -> None:
    body = large(kind)
    lone = serve(lambda request: Response(body))
    lone.client.send(request() + request())
    assert lone.run() is End.PARK
    assert (lone.connection.phase, lone.connection.served) == (Phase.WRITING, 1)
    assert lone.connection.stream.wants & select.POLLOUT
    body = b"the next"
    assert len(lone.client.read_response().body) == LARGE - (LARGE % 100_000 if kind == "pieces" else 0)
    assert lone.client.read_response().body == b"the next"
    assert lone.turns > 3


def test_no_piece_is_made_before_the_one_before_it_is_gone(serve: Serve) -> None:
    made = 0

    def pieces() -> Iterator[bytes]:
        nonlocal made
        while True:
            made += 1
            yield bytes(SMALL)

    lone = serve(lambda request: Response(pieces()), buffer=SMALL)
    lone.client.send(request())
    assert lone.run() is End.PARK
    assert made <= 32, "that is more than there can be in the buffers"
    before = made
    for _ in range(10):  # called for nothing
        assert lone.serve() is End.PARK
    assert made == before
    lone.client.read_head()
    lone.client.read_body(10 * before * SMALL)
    assert before < made <= 12 * before + 32


@pytest.mark.parametrize("kind", ["bytes", "file", "pieces"])
def test_a_client_that_reads_nothing_is_cut_when_its_credit_is_used_up(
        serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    clock = Clock().install(monkeypatch)
    body = large(kind)
    lone = serve(lambda request: Response(body), timeouts=Timeouts(write=10, minimum_rate=None))
    lone.client.send(request())
    assert lone.run() is End.PARK
    assert lone.connection.deadline == clock.monotonic() + 10
    clock.advance(10)
    assert lone.serve() is End.CLOSE
    lone.client.read_to_reset()
    assert "does not read its response" in caplog.text
    if kind != "bytes":
        assert body.closings == 1


def test_under_pressure_nobody_who_is_parked_need_give_way(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """What there is too much of is work for the one thread, and it would have more of that."""
    clock = Clock().install(monkeypatch)
    timeouts = Timeouts(head=10, body=10, write=10, keep_alive=10, pressed=1, minimum_rate=None)
    idle, half, upload, slow = lones = [serve(
        lambda request: bytes(LARGE) if request.path == "/large" else "small", timeouts=timeouts) for _ in range(4)]
    get(idle)
    half.client.send(b"GET / HT")
    upload.client.send(request(method="POST", headers=["Content-Length: 5"]))
    slow.client.send(request("/large"))
    for lone in lones:
        assert lone.run() is End.PARK
        lone.service.pressed = True
    for _ in range(9):
        clock.advance(1)
        assert [lone.serve() for lone in lones] == [End.PARK] * 4
    clock.advance(1)
    assert [lone.serve() for lone in lones] == [End.CLOSE, End.LINGER, End.LINGER, End.CLOSE]


@pytest.mark.parametrize("kind", ["file", "pieces", "body"])
def test_a_client_that_keeps_up_does_not_have_the_loop_for_itself(
        serve: Serve, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """However quickly it sends or takes: after a while it goes behind the others."""
    monkeypatch.setattr("acceptor.stream._TURN", 0.0)
    pieces = large(kind) if kind != "body" else b"ok"
    lone = serve(lambda request: Response(pieces))
    if kind == "body":
        with lone.client.sock.dup() as sock:
            sender = threading.Thread(target=sock.sendall, daemon=True, args=(
                request(method="POST", body=bytes(2_000_000)),))
            sender.start()
            received = lone.client.read_response("POST")
            sender.join(PATIENCE)
        assert received.body == b"ok"
        assert lone.turns >= 2_000_000 // 65536
    else:
        lone.client.send(request())
        received = lone.client.read_response()
        assert len(received.body) == LARGE - (LARGE % 100_000 if kind == "pieces" else 0)
        assert lone.turns >= LARGE // (256 * 1024)


def test_pipelined_requests_take_turns_with_the_others(serve: Serve) -> None:
    lone = serve(lambda request: request.path)
    lone.client.send(b"".join(request(f"/{number}") for number in range(10)))
    for number in range(1, 11):
        assert lone.serve() is End.PARK
        assert (lone.connection.served, lone.connection.phase) == (number, Phase.IDLE)
        assert lone.connection.stream.wants == (select.POLLIN if number == 10 else select.POLLOUT)
    assert [lone.client.read_response().body for _ in range(10)] == [b"/%d" % number for number in range(10)]


@pytest.mark.parametrize("after", [0, 1])
def test_an_iterator_that_fails_is_a_500_or_a_cut(
        serve: Serve, caplog: pytest.LogCaptureFixture, offload: Executor | None, after: int) -> None:
    lone = serve(failing_at_once if after == 0 else failing_later, may_fail=True, offload=offload)
    lone.client.send(request())
    if after and not isinstance(offload, Elsewhere):
        assert b"half" in lone.client.read_to_reset()
    else:  # there, nothing is sent before all has been made
        assert lone.client.read_response().status == 500
    assert len(failures(caplog)) == 1
    assert "secret" in caplog.text


def failing_at_once(request: Request) -> Response:
    return Response(failing(0))


def failing_later(request: Request) -> Response:
    return Response(failing(1))


def failing(after: int) -> Iterator[bytes]:
    if after:
        yield b"half"
    raise ValueError("secret")


@pytest.mark.parametrize("error", [ValueError, OSError, TimeoutError, ConnectionResetError, SystemExit,
                                   KeyboardInterrupt])
def test_whatever_a_handler_raises_is_a_500_and_the_next_request_is_served(
        serve: Serve, caplog: pytest.LogCaptureFixture, offload: Executor | None, error: type[BaseException]) -> None:
    """An OSError too, which must not be taken for the client's."""
    lone = serve(_Raising(error), may_fail=True, offload=offload)
    received = get(lone, "/bad")
    assert (received.status, received.body, received.keep_alive) == (500, b"Internal Server Error\n", True)
    assert len(failures(caplog)) == 1
    assert "the handler failed" in failures(caplog)[0]
    assert "secret" in caplog.text
    assert "in __call__" in caplog.text, "no traceback"
    assert get(lone, "/good").body == b"ok"


class _Raising:
    def __init__(self, error: type[BaseException]) -> None:
        self._error = error

    def __call__(self, request: Request) -> str:
        if request.path == "/good":
            return "ok"
        raise self._error("secret")


@pytest.mark.parametrize("value", [None, ("body", 200), 42])
def test_a_handler_that_returns_no_response_is_told_what_to_return(
        serve: Serve, caplog: pytest.LogCaptureFixture, offload: Executor | None, value: object) -> None:
    lone = serve(_Returning(value), may_fail=True, offload=offload)
    assert get(lone).status == 500
    assert "return a str, bytes or acceptor.Response" in caplog.text


class _Returning:
    def __init__(self, value: object) -> None:
        self._value = value

    def __call__(self, request: Request) -> Any:
        return self._value


@pytest.mark.parametrize("kind", ["file", "pieces"])
@pytest.mark.parametrize("go", [RawClient.reset, RawClient.close], ids=["resets", "leaves"])
def test_a_client_that_leaves_in_its_response_leaves_nothing_open(
        serve: Serve, kind: str, go: Callable[[RawClient], None]) -> None:
    body = large(kind)
    lone = serve(lambda request: Response(body))
    lone.client.send(request())
    lone.client.read_head()
    go(lone.client)
    assert lone.run_to_end() is End.CLOSE
    assert body.closings == 1


@here
def test_a_detached_connection_is_the_handlers(serve: Serve, offload: Executor | None) -> None:
    taken: list[socket.socket] = []

    def handler(request: Request) -> str:
        taken.append(request.detach().socket)  # type: ignore[arg-type]
        return "ignored"

    lone = serve(handler, offload=offload)
    lone.client.send(request())
    lone.run()
    assert lone.end is End.DETACHED
    taken[0].sendall(b"hello")
    taken[0].close()
    assert lone.client.read_to_end() == b"hello"


@here
def test_what_a_handler_sends_itself_arrives_in_order(serve: Serve, offload: Executor | None) -> None:
    def handler(request: Request) -> Response:
        request.send_informational(103, {"Link": "</style.css>; rel=preload"})
        response = Response(b"end")
        request.begin(response)(b"begun ")
        return response

    lone = serve(handler, offload=offload)
    for _ in range(2):
        received = get(lone)
        assert (received.interim, received.body, received.keep_alive) == ([103], b"begun end", True)


# A parked connection that is given up.

@pytest.mark.parametrize("kind", ["bytes", "file", "pieces"])
def test_a_response_that_is_given_up_is_a_cut_and_its_body_is_closed(
        serve: Serve, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    """Past the deadline of a stop."""
    caplog.set_level("INFO", "acceptor.access")
    body = large(kind)
    lone = serve(lambda request: Response(body), log_access=True)
    lone.client.send(request())
    assert lone.run() is End.PARK
    lone.connection.close()
    lone.end = End.CLOSE
    lone.client.read_to_reset()
    if kind != "bytes":
        assert body.closings == 1
    record, = access_records(caplog)
    assert (record.status, record.complete) == (200, False)


def test_a_body_that_is_given_up_is_not_kept(serve: Serve) -> None:
    lone = serve(echo)
    lone.client.send(request(method="POST", headers=["Content-Length: 1000000"]) + b"x" * 100_000)
    assert lone.run() is End.PARK
    lone.connection.close()  # an open file would be a ResourceWarning, which is an error here
    lone.end = End.CLOSE


# A job has the connection.

def test_a_connection_is_parked_until_its_job_is_done(serve: Serve) -> None:
    lone = serve(echo, offload=(later := Later()))
    lone.client.send(request(method="POST", body=b"hello"))
    assert lone.serve() is End.PARK
    connection = lone.connection
    assert connection.at_work
    assert (connection.stream.wants, connection.phase, connection.deadline) == (0, Phase.HANDLING, float("inf"))
    lone.client.send(request("/next"))
    for _ in range(3):  # called back for nothing
        assert lone.serve() is End.PARK
        assert (connection.at_work, connection.stream.wants, connection.served) == (True, 0, 1)
    assert lone.woken == []
    later.run()
    assert lone.woken == [connection]
    assert not connection.at_work
    assert lone.client.read_response().body == b"hello"


def test_to_be_called_back_for_nothing_does_no_harm_to_what_a_job_sends(serve: Serve) -> None:
    """The loop's thread serves with MSG_DONTWAIT; a job that waits for its client must not find that set."""
    lone = serve(lambda request: Response(bytes(100_000) for _ in range(100)), offload=(later := Later()))
    lone.client.send(request())
    assert lone.serve() is End.PARK
    thread = later.run_in_thread()
    for _ in range(1000):
        assert lone.serve() is End.PARK
    lone.client.sock.setblocking(True)
    total = 0
    while total < 10_000_000:
        total += len(lone.client.sock.recv(1 << 20))
        if total < 9_000_000:
            assert lone.serve() is End.PARK
    thread.join(PATIENCE)
    assert lone.woken == [lone.connection]


@pytest.mark.parametrize(("kind", "sender"), [("/text", "loop"), ("/file", "loop"), ("/memory", "job"),
                                              ("/pieces", "job"), ("/pipe", "job")])
def test_what_has_to_be_made_or_waited_for_is_sent_by_the_job_and_what_is_there_by_the_loop(
        serve: Serve, kind: str, sender: str) -> None:
    def handler(request: Request) -> Response | str:
        if kind != "/pipe":
            return many(request)
        reader, writer = os.pipe()
        os.write(writer, b"from a pipe")
        os.close(writer)
        return Response(os.fdopen(reader, "rb"))

    lone = serve(handler, offload=(later := Later()))
    lone.client.send(request(kind))
    assert lone.serve() is End.PARK
    later.run()
    assert bool(lone.client.has_received()) == (sender == "job")
    assert lone.client.read_response().body == {**KINDS, "/pipe": b"from a pipe"}[kind]


def test_a_client_that_leaves_while_its_job_runs_ends_the_connection_when_that_is_done(serve: Serve) -> None:
    lone = serve(lambda request: Response(endless()), offload=(later := Later()))
    lone.client.send(request())
    assert lone.serve() is End.PARK
    lone.client.reset()
    assert not lone.turn(), "it is not looked at while the job has it"
    later.run()
    assert lone.serve() is End.CLOSE


def test_a_client_that_does_not_take_what_a_job_sends_is_cut(
        serve: Serve, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(step=0.5).install(monkeypatch)
    body = Body(endless())
    lone = serve(lambda request: Response(body), offload=(later := Later()),
                 timeouts=Timeouts(write=2, minimum_rate=None))
    lone.client.send(request())
    assert lone.serve() is End.PARK
    later.run()
    assert lone.serve() is End.CLOSE
    assert "does not read its response" in caplog.text
    assert body.closings == 1


def test_a_connection_detached_by_a_job_may_be_closed_by_it(serve: Serve) -> None:
    def handler(request: Request) -> str:
        with request.detach().socket as sock:
            sock.sendall(b"hello")
        return ""

    lone = serve(handler, offload=(later := Later()))
    lone.client.send(request())
    assert lone.serve() is End.PARK
    later.run()
    assert lone.client.read_to_end() == b"hello"
    assert lone.serve() is End.DETACHED


def test_a_job_that_fails_after_it_has_detached_closes_the_socket(serve: Serve) -> None:
    def handler(request: Request) -> str:
        request.detach()
        raise ValueError

    lone = serve(handler, offload=(later := Later()), may_fail=True)
    lone.client.send(request())
    assert lone.serve() is End.PARK
    later.run()
    assert lone.client.read_to_end() == b""
    assert lone.serve() is End.DETACHED


@pytest.mark.parametrize("path", ["/good", "/bad"])
def test_a_request_that_is_over_is_gone_without_the_garbage_collector(serve: Serve, path: str) -> None:
    for offload in (None, AtOnce()):
        gone: list[weakref.ref[Request]] = []

        def handler(request: Request, gone: list[weakref.ref[Request]] = gone) -> bytes:
            gone.append(weakref.ref(request))
            if request.path == "/bad":
                raise HTTPError(400)
            return request.body.read()

        gc.disable()
        try:
            lone = serve(handler, offload=offload)
            for _ in range(2):  # when the second has been answered the first is over for sure
                get(lone, path, method="POST", body=b"a body")
            assert gone[0]() is None
        finally:
            gc.enable()


# A job whose connection is given up: past the deadline of a stop.

def test_a_job_that_has_not_begun_is_cancelled(serve: Serve) -> None:
    lone = serve(echo, offload=(later := Later()))
    lone.client.send(request(method="POST", body=b"x" * 100_000))
    assert lone.run() is End.PARK
    lone.connection.close()
    lone.end = End.CLOSE
    assert later.jobs[0][0].cancelled()
    assert lone.client.read_to_end() == b""


def test_a_job_that_runs_keeps_its_socket_and_body_until_it_is_done(serve: Serve) -> None:
    bodies: list[bytes] = []
    response = sparse_file(10)

    def handler(request: Request) -> Response:
        bodies.append(request.body.read())
        return Response(response)

    lone = serve(handler, offload=(later := Later()))
    lone.client.send(request(method="POST", body=b"x" * 100_000))
    assert lone.run() is End.PARK
    finish = later.begin()
    lone.service.cut = True
    lone.connection.cut()
    lone.connection.close()
    lone.end = End.CLOSE
    assert lone.connection.stream.raw.fileno() >= 0
    assert lone.client.read_to_end() == b"", "the client learns of it at once"
    finish()
    assert bodies == [b"x" * 100_000]
    assert lone.connection.stream.raw.fileno() == -1
    assert response.closings == 1, "nobody has sent it"


def test_a_job_that_sends_sees_that_it_is_cut_and_closes_what_it_has(serve: Serve) -> None:
    begun = Gate("the response has begun")
    body = Body(bytes(100_000) for _ in iter(lambda: begun.open(), 1))
    lone = serve(lambda request: Response(body), offload=(later := Later()))
    lone.client.send(request())
    assert lone.run() is End.PARK
    thread = later.run_in_thread()
    begun.pass_through()
    lone.service.cut = True
    lone.connection.cut()
    lone.connection.close()
    lone.end = End.CLOSE
    thread.join(PATIENCE)
    assert not thread.is_alive(), "it waits for a client of which the server has tired"
    lone.client.read_to_reset()
    assert body.closings == 1


def test_a_job_that_has_detached_its_connection_keeps_it(serve: Serve) -> None:
    taken: list[socket.socket] = []
    lone = serve(lambda request: str(taken.append(request.detach().socket)),  # type: ignore[arg-type,func-returns-value]
                 offload=(later := Later()))
    lone.client.send(request())
    assert lone.run() is End.PARK
    finish = later.begin()
    lone.connection.close()
    finish()
    lone.end = End.DETACHED
    taken[0].sendall(b"still here")
    taken[0].close()
    assert lone.client.read_to_end() == b"still here"


def test_a_job_that_is_done_and_not_collected_is_given_up_at_once(serve: Serve) -> None:
    response = sparse_file(10)
    lone = serve(lambda request: Response(response), offload=(later := Later()))
    lone.client.send(request())
    assert lone.run() is End.PARK
    later.run()
    lone.connection.close()
    lone.end = End.CLOSE
    assert lone.connection.stream.raw.fileno() == -1
    assert response.closings == 1


# An executor that fails.

class _Refusing(Executor):
    def __init__(self, error: Exception) -> None:
        self.error: Exception | None = error

    def submit(self, function: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        if self.error is not None:
            raise self.error
        return AtOnce().submit(function, *args, **options)


@pytest.mark.parametrize(("error", "words"), [
    (RuntimeError("cannot schedule new futures after shutdown"), "after the server, not before"),
    (BrokenExecutor("a child process terminated abruptly"), "restart the server"),
    (OSError("no connection to the scheduler"), "no connection to the scheduler"),
])
def test_a_request_that_no_executor_takes_is_answered_500_and_what_comes_when_it_has_recovered_is_served(
        serve: Serve, caplog: pytest.LogCaptureFixture, error: Exception, words: str) -> None:
    lone = serve(echo, offload=(executor := _Refusing(error)), may_fail=True)
    received = get(lone, method="POST", body=b"x")
    assert (received.status, received.keep_alive) == (500, True)
    message, = failures(caplog)
    assert message.startswith("POST / from 192.0.2.1:4711: _Refusing did not run its handler: ")
    assert words in message
    executor.error = None
    assert get(lone, method="POST", body=b"x").body == b"x"


@pytest.mark.parametrize("error", [BrokenExecutor("gone"), OSError("lost"), SystemExit(1), KeyboardInterrupt()])
def test_a_job_that_its_executor_loses_is_answered_500(
        serve: Serve, caplog: pytest.LogCaptureFixture, error: BaseException) -> None:
    """An OSError too, which must not be taken for the client's."""
    lone = serve(echo, offload=(later := Later()), may_fail=True)
    lone.client.send(request())
    assert lone.run() is End.PARK
    job, _ = later.jobs.pop()
    job.set_running_or_notify_cancel()
    job.set_exception(error)
    assert lone.client.read_response().status == 500
    assert "Later did not run its handler" in failures(caplog)[0]


def test_a_job_that_is_cancelled_is_answered_500(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    lone = serve(echo, offload=(later := Later()), may_fail=True)
    lone.client.send(request())
    assert lone.run() is End.PARK
    assert later.jobs[0][0].cancel()
    assert lone.woken == [lone.connection]
    assert lone.client.read_response().status == 500
    assert "the job was cancelled" in failures(caplog)[0]


def test_a_handler_that_cannot_be_pickled_is_answered_500_and_the_log_says_what_to_do(
        serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    lone = serve(lambda request: "ok", offload=Elsewhere(), may_fail=True)
    received = get(lone, method="POST", body=b"x" * 100_000)
    assert (received.status, received.keep_alive) == (500, True)
    assert "a function at the top level of a module" in failures(caplog)[0]


# A job elsewhere.

class _UnpicklableError(Exception):
    def __init__(self, one: str, two: str) -> None:  # unpickling calls it with one argument
        super().__init__(one)


class _Special(Response):
    """More than can be pickled."""

    def __init__(self) -> None:
        super().__init__("special", 201)
        self.lock = threading.Lock()


def tell(request: Request) -> Response | str:
    """What the handler sees there, or does there."""
    if request.path == "/special":
        return _Special()
    if request.path == "/raise":
        raise _UnpicklableError("secret", "two")
    if request.path == "/begin":
        request.begin(Response())
    if request.path == "/detach":
        request.detach()
    if request.path == "/hints":
        request.send_informational(103, {"Link": "</style.css>"})
        return "without"
    return repr((request.method, request.target, request.version, request.path, request.query, request.peer,
                 request.client, request.scheme, request.host, request.local[0], request.tls, request.multithread,
                 request.multiprocess, request.stopping, request.detached, request.body_error,
                 request.headers.get_all("x-name"), request.body.read()))


def test_a_request_is_the_same_elsewhere_but_for_what_is_not_known_there(serve: Serve) -> None:
    lone = serve(tell, offload=Elsewhere())
    seen = get(lone, "/path%20x?query=1", method="POST", body=b"body", headers=["X-Name: one", "X-Name: two"]).body
    assert eval(seen) == (
        "POST", "/path%20x?query=1", "1.1", "/path x", "query=1", ADDRESS, ADDRESS, "http", "test", "127.0.0.1", None,
        True, True, False, False, None, ["one", "two"], b"body")
    lone.service.stopping = True
    assert eval(get(lone).body)[13] is True


def test_a_response_from_elsewhere_is_plain_whatever_it_was(serve: Serve) -> None:
    received = get(serve(tell, offload=Elsewhere()), "/special")
    assert (received.status, received.body) == (201, b"special")
    assert received.header("content-type") == "text/plain; charset=utf-8"


@pytest.mark.parametrize(("path", "words"), [("/raise", "_UnpicklableError: secret"), ("/begin", "return the whole"),
                                             ("/detach", "run handlers on threads")])
def test_what_fails_elsewhere_is_logged_here_as_text(
        serve: Serve, caplog: pytest.LogCaptureFixture, path: str, words: str) -> None:
    """An exception that cannot be unpickled would break a ProcessPoolExecutor."""
    lone = serve(tell, offload=Elsewhere(), may_fail=True)
    assert get(lone, path).status == 500
    assert "the handler failed" in failures(caplog)[0]
    assert words in caplog.text


def test_interim_responses_are_left_out_elsewhere(serve: Serve) -> None:
    received = get(serve(tell, offload=Elsewhere()), "/hints")
    assert (received.interim, received.body) == ([], b"without")


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/write":
        write(b"written ")
    elif environ["PATH_INFO"] == "/file":
        file = io.BytesIO(b"a file")
        return environ["wsgi.file_wrapper"](file)
    return iter([environ["wsgi.input"].read(), b" ", str(environ["wsgi.multithread"]).encode(), b" ",
                 str(environ["wsgi.multiprocess"]).encode()])


def test_a_wsgi_application_is_served(serve: Serve, offload: Executor | None, caplog: pytest.LogCaptureFixture) -> None:
    elsewhere = isinstance(offload, Elsewhere)
    lone = serve(WSGI(application), offload=offload, may_fail=elsewhere)
    assert get(lone, method="POST", body=b"input").body == b"input True " + str(elsewhere).encode()
    assert get(lone, "/file").body == b"a file"
    assert failures(caplog) == []
    received = get(lone, "/write", method="POST", body=b"input")
    if elsewhere:
        assert received.status == 500
        assert "the write() of WSGI" in caplog.text
    else:
        assert received.body == b"written input True False"


# Pickles.

def test_a_request_may_be_pickled_again_and_has_its_body_each_time() -> None:
    class Watched(io.BytesIO):
        pass

    made = Request("POST", "/", "1.1", Headers([(b"host", b"test")]), body=Watched(b"0123456789"))
    assert made.body.read(4) == b"0123"
    for _ in range(3):
        assert pickle.loads(pickle.dumps(made)).body.read() == b"456789", "what is left of it"
    assert made.body.read() == b"456789"


def test_a_request_made_by_hand_can_be_pickled() -> None:
    made = Request("GET", "/x?y", "1.0", Headers([(b"a", b"1"), (b"a", b"2")]), peer=("192.0.2.1", 1),
                   client=("192.0.2.2", 0), scheme="https", host="example.com")
    again = pickle.loads(pickle.dumps(made))
    assert (again.method, again.target, again.version, again.headers.raw, again.peer, again.client, again.scheme,
            again.host, again.body.read()) == (made.method, made.target, made.version, made.headers.raw, made.peer,
                                               made.client, made.scheme, made.host, b"")


def test_what_is_known_of_tls_can_be_pickled() -> None:
    info = TLSInfo("TLSv1.3", "TLS_AES_256_GCM_SHA384", "test", {"subject": ((("commonName", "me"),),)}, b"der")
    assert pickle.loads(pickle.dumps(info)) == info


def test_no_two_jobs_are_alike(serve: Serve) -> None:
    """Dask, unless it is told that a function is not pure, takes one for the other, and its result too."""
    pickles: list[bytes] = []

    class Remembering(Elsewhere):
        def submit(self, function: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
            pickles.append(pickle.dumps(function))
            return super().submit(function, *args, **options)

    lone = serve(echo, offload=Remembering())
    for _ in range(2):
        assert get(lone, method="POST", body=b"same").body == b"same"
    assert len(set(pickles)) == 2


def test_a_body_whose_client_is_gone_cannot_be_pickled(serve: Serve) -> None:
    """By a handler on a thread, which reads its body from the connection."""
    def handler(request: Request) -> bytes:
        try:
            return pickle.dumps(request)
        except ClientDisconnectedError as error:
            caught.append(error)
            raise

    caught: list[Exception] = []
    lone = serve(handler)
    lone.client.send(request(method="POST", headers=["Content-Length: 5"]) + b"hell")
    lone.client.half_close()
    lone.end = lone.connection.serve()  # as a thread of its own would
    assert (lone.end, len(caught)) == (End.CLOSE, 1)
