"""The watcher: every refused client can read its 503, whatever it is doing; nobody is kept waiting; slow handlers are
logged; and nothing is left open."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from acceptor import Acceptor, Limits, Request, Timeouts, watcher
from acceptor.census import Census
from acceptor.connection import Connection
from acceptor.registry import Registry
from acceptor.service import Service
from acceptor.watcher import Watcher
from taskmaster import (
    PooledTaskmaster,
    RecyclingTaskmaster,
    Taskmaster,
    ThreadPerConnectionTaskmaster,
    ThreadState,
)
from tests.clients import RawClient, read_all, tcp_pair

PATIENCE = 10.0
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Desk:
    """A running watcher, and connections for it."""

    def __init__(self, **timeouts: float) -> None:
        self.closed: list[Connection] = []
        self.service = Service(lambda request: "", timeouts=Timeouts(**timeouts))
        self.registry = Registry(Census(Limits()))
        self.queued = False
        self.ticks = threading.Condition()
        self.tick_count = 0
        self.watcher = Watcher(self.service, self.registry, self.pending, lambda: None, lambda _: None, self.done)
        self.threads: list[threading.Thread] = []
        self.watcher.start(self.start_thread, "watcher")

    def start_thread(self, target: Callable[[], None], name: str) -> None:
        self.threads.append(threading.Thread(target=target, name=name))
        self.threads[-1].start()

    def pending(self) -> bool:
        with self.ticks:
            self.tick_count += 1
            self.ticks.notify_all()
        return self.queued

    def wait_for_ticks(self, count: int) -> None:
        """Wait until `count` more ticks have been, each of them whole."""
        with self.ticks:
            wanted = self.tick_count + count + 1
            assert self.ticks.wait_for(lambda: self.tick_count >= wanted, PATIENCE), "the watcher does not tick"

    def done(self, connection: Connection) -> None:
        connection.close()
        self.closed.append(connection)

    def connection(self) -> tuple[Connection, socket.socket]:
        client, ours = tcp_pair()
        client.settimeout(PATIENCE)
        return Connection(ours, ("test", 0), self.service), client

    def refuse(self) -> socket.socket:
        connection, client = self.connection()
        self.watcher.refuse(connection, "full")
        return client

    def end(self) -> None:
        self.watcher.stop()
        assert not self.threads[0].is_alive(), "stop() returned, and the thread has not ended"


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.end()


def test_the_answer_says_503_when_to_come_back_and_that_the_connection_closes(desk: Desk) -> None:
    with desk.refuse() as client:
        head, _, body = read_all(client).partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert lines[0] == b"http/1.1 503 service unavailable"
    assert b"connection: close" in lines
    assert b"retry-after: 1" in lines
    assert any(line.startswith(b"date: ") for line in lines)
    assert b"content-length: %d" % len(body) in lines
    assert body == b"full\n"


def test_a_client_that_is_still_sending_reads_its_answer(desk: Desk) -> None:
    with desk.refuse() as client:
        for _ in range(64):
            client.sendall(b"x" * 65536)
        client.shutdown(socket.SHUT_WR)
        assert read_all(client).startswith(b"HTTP/1.1 503 ")


def test_one_that_lingers_keeps_no_other_waiting(desk: Desk) -> None:
    """Each answer is read while every earlier client still holds its connection open."""
    clients = []
    for _ in range(50):
        client = desk.refuse()
        clients.append(client)
        assert client.recv(12) == b"HTTP/1.1 503"
    for client in clients:
        client.close()


def test_one_that_never_closes_is_closed() -> None:
    desk = Desk(linger=0.05)
    with desk.refuse() as client:
        assert read_all(client).startswith(b"HTTP/1.1 503 ")
        desk.end()
        assert len(desk.closed) == 1


def test_one_that_has_gone_is_closed_at_once(desk: Desk) -> None:
    desk.refuse().close()
    desk.end()
    assert len(desk.closed) == 1


def test_of_too_many_the_oldest_are_closed_early(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "_MOST", 3)
    clients = [desk.refuse() for _ in range(5)]
    for client in clients:
        assert client.recv(12) == b"HTTP/1.1 503"
    assert read_all(clients[0])
    with pytest.raises(OSError, match=r"Broken pipe|reset by peer"):  # noqa: PT012
        while True:
            clients[0].send(b"x")
    assert clients[4].send(b"x") == 1
    for client in clients:
        client.close()


def test_what_comes_after_the_end_is_closed_at_once() -> None:
    desk = Desk()
    desk.end()
    connection, client = desk.connection()
    with client:
        desk.watcher.linger(connection)
        assert desk.closed == [connection]
        assert client.recv(1) == b""


def test_a_client_of_tls_that_is_refused_is_closed_without_a_word() -> None:
    desk = Desk()
    desk.service.tls = object()  # type: ignore[assignment]
    with desk.refuse() as client:
        assert read_all(client) == b""
    desk.end()


def test_lingering_reads_what_still_comes_and_closes_when_the_client_does(desk: Desk) -> None:
    connection, client = desk.connection()
    with client:
        connection.stream.end_output()
        desk.watcher.linger(connection)
        for _ in range(64):
            client.sendall(b"x" * 65536)
        assert read_all(client) == b""
        assert not desk.closed
    desk.end()
    assert desk.closed == [connection]


def test_a_thread_that_cannot_be_started_leaves_nothing_open() -> None:
    def start_thread(target: Callable[[], None], name: str) -> None:
        raise RuntimeError("can't start new thread")

    before = set(os.listdir("/proc/self/fd"))
    lost = Watcher(Service(lambda request: ""), Registry(Census(Limits())), lambda: False, lambda: None, lambda _: None,
                   lambda _: None)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        lost.start(start_thread, "watcher")
    assert set(os.listdir("/proc/self/fd")) == before


# Pressure.

def test_one_tick_with_a_queue_in_the_kernel_is_nothing_two_are_pressure_and_it_passes(desk: Desk) -> None:
    assert not desk.service.pressed
    desk.queued = True
    desk.wait_for_ticks(2)
    assert desk.service.pressed
    desk.queued = False
    desk.wait_for_ticks(1)
    assert not desk.service.pressed


def test_a_connection_that_has_waited_for_a_thread_for_a_tick_is_pressure(desk: Desk) -> None:
    connection, client = desk.connection()
    with client:
        desk.registry.add(connection)
        desk.wait_for_ticks(3)
        assert desk.service.pressed
        assert desk.registry.begin(connection)
        desk.wait_for_ticks(1)
        assert not desk.service.pressed
        connection.close()


def test_one_that_waits_at_each_tick_and_is_served_in_between_is_no_pressure(desk: Desk) -> None:
    connection, client = desk.connection()
    pending = desk.watcher._pending

    def serve_first() -> bool:
        assert desk.registry.begin(connection)
        assert desk.registry.park(connection)
        assert desk.registry.unpark(connection.fileno()) is connection
        return pending()

    with client:
        desk.registry.add(connection)
        desk.watcher._pending = serve_first
        for _ in range(4):
            desk.wait_for_ticks(1)
            assert not desk.service.pressed
        desk.watcher._pending = pending
        desk.wait_for_ticks(2)
        assert desk.service.pressed
        connection.close()


# Slow handlers.

def test_the_stack_of_a_slow_handler_is_logged_once_with_its_request_and_thread(
        caplog: pytest.LogCaptureFixture) -> None:
    gate = threading.Event()
    logged = threading.Event()

    class Look(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logged.set()

    def a_handler_that_waits(request: Request) -> str:
        assert gate.wait(PATIENCE)
        return "done"

    look = Look()
    logging.getLogger("acceptor").addHandler(look)
    try:
        with Acceptor(a_handler_that_waits, port=0, taskmaster=PooledTaskmaster(threads=2),
                      timeouts=Timeouts(handler=0.01)) as acceptor, RawClient.connect(acceptor.port) as client:
            client.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
            assert logged.wait(PATIENCE), "nothing was logged"
            ticks = threading.Semaphore(0)
            acceptor._run._watcher._pending = lambda: bool(ticks.release())  # type: ignore[func-returns-value]
            for _ in range(3):  # so that there were two whole ticks in which it could have been logged again
                assert ticks.acquire(timeout=PATIENCE)
            gate.set()
            assert client.read_response().body == b"done"
    finally:
        logging.getLogger("acceptor").removeHandler(look)
    lines = [record.getMessage() for record in caplog.records if "handler has been running" in record.getMessage()]
    assert len(lines) == 1, lines
    assert lines[0].startswith("GET /slow from 127.0.0.1:")
    assert "on thread worker-127.0.0.1:" in lines[0]
    with_gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    assert ("in a_handler_that_waits" if with_gil else "its stack cannot be read") in lines[0]


MODELS: dict[str, Callable[[int, int], Taskmaster]] = {
    "per_connection": lambda m, n: ThreadPerConnectionTaskmaster(max_thread_count=m, max_accept_count=n),
    "pooled": lambda m, n: PooledTaskmaster(threads=m, queue_size=n),
    "recycling": lambda m, n: RecyclingTaskmaster(standby=2, max_thread_count=m, max_accept_count=n),
}


@pytest.mark.parametrize("model", MODELS)
def test_of_200_clients_at_once_m_are_served_n_wait_and_the_rest_read_their_503(model: str) -> None:
    serving, waiting = 7, 11
    gate = threading.Event()
    peak = threading.Semaphore(serving)

    def handler(request: object) -> str:
        assert peak.acquire(blocking=False), "more are served at once than max_thread_count"
        try:
            assert gate.wait(PATIENCE)
        finally:
            peak.release()
        return "served"

    taskmaster = MODELS[model](serving, waiting)
    answers: list[bytes] = []
    start = threading.Barrier(200)

    def client(address: tuple[str, int]) -> None:
        start.wait(PATIENCE)
        with socket.create_connection(address, PATIENCE) as sock:
            sock.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 100000\r\n\r\n")
            try:
                sock.sendall(b"x" * 100_000)  # still sending while it is refused
            except OSError as error:
                answers.append(repr(error).encode())
            answers.append(read_all(sock).partition(b"\r\n")[0])

    with Acceptor(handler, port=0, taskmaster=taskmaster, backlog=512) as acceptor:
        clients = [threading.Thread(target=client, args=((acceptor.host, acceptor.port),)) for _ in range(200)]
        for thread in clients:
            thread.start()
        end = time.monotonic() + PATIENCE
        while True:  # until all have been accepted, and the threads that are to serve have been woken
            now = taskmaster.snapshot()
            if (now.accepted, now.threads[ThreadState.SERVING]) == (200, serving) or time.monotonic() > end:
                break
            gate.wait(0.01)
        assert (now.accepted, now.threads[ThreadState.SERVING], now.queued, now.refused) == (
            200, serving, waiting, 200 - serving - waiting), now
        threads = now.thread_count - now.threads[ThreadState.LEAVING]
        assert threads <= serving + 1, f"one accepts, {serving} serve: {now}"
        gate.set()
        for thread in clients:
            thread.join(PATIENCE)
    assert sorted(answers) == ([b"HTTP/1.1 200 OK"] * (serving + waiting)
                               + [b"HTTP/1.1 503 Service Unavailable"] * (200 - serving - waiting))
    assert acceptor.connection_count == 0


@pytest.mark.parametrize("model", MODELS)
def test_a_burst_of_refusals_is_logged_once(model: str, caplog: pytest.LogCaptureFixture) -> None:
    gate, handling = threading.Event(), threading.Semaphore(0)

    def handler(request: object) -> str:
        handling.release()
        gate.wait(PATIENCE)
        return "served"

    with Acceptor(handler, port=0, taskmaster=MODELS[model](2, 0)) as acceptor:
        address = acceptor.host, acceptor.port
        busy = [socket.create_connection(address, PATIENCE) for _ in range(2)]
        for sock in busy:
            sock.sendall(GET)
        for _ in busy:  # or one of those below may have the thread, for a moment, when one of these comes back for it
            assert handling.acquire(timeout=PATIENCE)
        for _ in range(20):
            with socket.create_connection(address, PATIENCE) as sock:
                assert sock.recv(12) == b"HTTP/1.1 503"
        gate.set()
        for sock in busy:
            assert sock.recv(12) == b"HTTP/1.1 200"
            sock.close()
    lines = [record.getMessage() for record in caplog.records if record.name == "taskmaster"]
    assert len(lines) == 1, lines
    assert "2 connections are served at once (max_thread_count) and 0 more may wait (max_accept_count)" in lines[0]
