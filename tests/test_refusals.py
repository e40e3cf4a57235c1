"""503: every refused client can read it, whatever it is doing; nobody is kept waiting, and nothing is left open."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from acceptor import Acceptor, refusals
from acceptor.connection import Connection
from acceptor.refusals import Refusals
from taskmaster import (
    PooledTaskmaster,
    RecyclingTaskmaster,
    Taskmaster,
    ThreadPerConnectionTaskmaster,
    ThreadState,
)
from tests.clients import read_all

PATIENCE = 10.0
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Desk:
    """Refusals with a thread of its own when it asks for one, and socket pairs to refuse."""

    def __init__(self) -> None:
        self.closed: list[Connection] = []
        self.refusals = Refusals("full", self.done)
        self.threads: list[threading.Thread] = []

    def done(self, connection: Connection) -> None:
        connection.close()
        self.closed.append(connection)

    def refuse(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        theirs.settimeout(PATIENCE)
        connection = Connection(ours, ("test", 0), lambda request: "", lambda: False, False)
        if self.refusals.add(connection):
            self.threads.append(threading.Thread(target=self.refusals.answer))
            self.threads[-1].start()
        return theirs

    def end(self) -> None:
        self.refusals.stop()
        for thread in self.threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "answer() did not return"
        self.refusals.close()


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


def test_one_that_never_closes_is_closed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "_LINGER", 0.05)
    with desk.refuse() as client:
        assert read_all(client).startswith(b"HTTP/1.1 503 ")
        desk.refusals.stop()
        desk.threads[0].join(PATIENCE)
        assert len(desk.closed) == 1


def test_one_that_has_gone_is_closed_at_once(desk: Desk) -> None:
    desk.refuse().close()
    desk.refusals.stop()
    desk.threads[0].join(PATIENCE)
    assert len(desk.closed) == 1


def test_of_too_many_the_oldest_are_closed_early(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "_MOST", 3)
    clients = [desk.refuse() for _ in range(5)]
    for client in clients:
        assert client.recv(12) == b"HTTP/1.1 503"
    clients[0].settimeout(PATIENCE)
    assert read_all(clients[0])
    with pytest.raises(OSError, match="Broken pipe"):  # noqa: PT012
        while True:
            clients[0].send(b"x")
    assert clients[4].send(b"x") == 1
    for client in clients:
        client.close()


def test_one_thread_is_enough_for_one_after_another(desk: Desk) -> None:
    for _ in range(20):
        with desk.refuse() as client:
            assert client.recv(12) == b"HTTP/1.1 503"
    assert len(desk.threads) == 1


def test_a_thread_is_asked_for_again_after_the_last_has_left(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "_STAY", 0.01)
    for number in range(1, 4):
        with desk.refuse() as client:
            assert client.recv(12) == b"HTTP/1.1 503"
        desk.threads[-1].join(PATIENCE)
        assert len(desk.threads) == number


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
        while taskmaster.snapshot().accepted < 200 and time.monotonic() < end:
            gate.wait(0.01)
        now = taskmaster.snapshot()
        assert (now.accepted, now.threads[ThreadState.SERVING], now.queued, now.refused) == (
            200, serving, waiting, 200 - serving - waiting), now
        threads = now.thread_count - now.threads[ThreadState.LEAVING]
        assert threads <= serving + 2, f"one accepts, one refuses, {serving} serve: {now}"
        gate.set()
        for thread in clients:
            thread.join(PATIENCE)
    assert sorted(answers) == ([b"HTTP/1.1 200 OK"] * (serving + waiting)
                               + [b"HTTP/1.1 503 Service Unavailable"] * (200 - serving - waiting))
    assert acceptor.connection_count == 0


@pytest.mark.parametrize("model", MODELS)
def test_a_burst_of_refusals_is_logged_once(model: str, caplog: pytest.LogCaptureFixture) -> None:
    gate = threading.Event()

    def handler(request: object) -> str:
        gate.wait(PATIENCE)
        return "served"

    with Acceptor(handler, port=0, taskmaster=MODELS[model](2, 0)) as acceptor:
        address = acceptor.host, acceptor.port
        busy = [socket.create_connection(address, PATIENCE) for _ in range(2)]
        for sock in busy:
            sock.sendall(GET)
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
