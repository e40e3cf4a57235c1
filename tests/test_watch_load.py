"""The clients of `taskmaster watch`: they ask as they are told, change meanwhile, and end with their parent."""

from __future__ import annotations

import queue
import select
import socket
import threading
import time
import types
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import watching.clients
from acceptor import Acceptor, Limits, Request, Response
from taskmaster import PooledTaskmaster, ThreadPerConnectionTaskmaster
from tests.clients import PATIENCE
from watching.children import Child
from watching.clients import Clients, _is_whole
from watching.load import CLIENTS, SLEEP_MS, THINK_MS, Clientele
from watching.messages import LoadState

Ask = Callable[..., Clients]


class Server:
    """An acceptor that remembers what it was asked."""

    def __init__(self, answer: Callable[[], Any] = lambda: "Hello", **options: Any) -> None:
        self.asked: queue.SimpleQueue[tuple[str, bool]] = queue.SimpleQueue()
        """(target, the client closes behind it)."""
        self._answer = answer
        self.acceptor = Acceptor(self._handle, port=0, taskmaster=PooledTaskmaster(threads=4), **options).start()
        self.name = self.acceptor.name

    @property
    def accepted(self) -> int:
        return self.acceptor.taskmaster.snapshot().accepted

    def _handle(self, request: Request) -> Any:
        self.asked.put((request.target, request.headers.get("Connection") == "close"))
        return self._answer()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(*arguments: Any, **options: Any) -> Server:
        servers.append(Server(*arguments, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.acceptor.stop(deadline=1.0)


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ask]:
    """Clients of servers, told what to do."""
    made: list[Clients] = []
    monkeypatch.setattr(watching.clients, "_REST", 0.01)

    def make(*servers: Server | str, **wishes: Any) -> Clients:
        made.append(Clients([each if isinstance(each, str) else each.name for each in servers]))
        made[-1].change({"clients": 2, "sleep_ms": 0.0, "think_ms": 0.0} | wishes)
        return made[-1]

    yield make
    for clients in made:
        clients.close()


def run_until(clients: Clients, condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited in vain; answered: {clients.answered}"
        clients.run(0.01)


def everybody(clients: Clients, times: int) -> Callable[[], bool]:
    """All have been answered so often, from now on."""
    before = list(clients.answered)
    return lambda: all(now - then >= times for now, then in zip(clients.answered, before, strict=True))


def test_without_keep_alive_every_request_has_a_connection_of_its_own(serve: Callable[..., Server], ask: Ask) -> None:
    server = serve()
    clients = ask(server, clients=3, sleep_ms=1.5)
    run_until(clients, everybody(clients, 3))
    assert server.asked.get(timeout=PATIENCE) == ("/?sleep=1.5", True)
    assert server.accepted >= sum(clients.answered)


def test_with_keep_alive_every_client_keeps_its_connection(serve: Callable[..., Server], ask: Ask) -> None:
    server = serve()
    clients = ask(server, clients=3, keep_alive=True)
    run_until(clients, everybody(clients, 3))
    assert server.asked.get(timeout=PATIENCE) == ("/?sleep=0", False)
    assert server.accepted == 3


@pytest.mark.parametrize("answer", [
    lambda: Response(b"x" * 100_000),
    lambda: Response(iter([b"5\r\n", b"0\r\n\r\n", b"more"])),  # chunked, and looks as if it ended
    lambda: Response(status=204),
    lambda: Response("no", 404),
], ids=["long", "chunked", "without body", "an error"])
def test_answers_of_any_form_are_read_to_their_end(answer: Callable[[], Response], serve: Callable[..., Server],
                                                   ask: Ask) -> None:
    server = serve(answer)
    clients = ask(server, keep_alive=True)
    run_until(clients, everybody(clients, 2))
    assert server.accepted == 2


def test_a_connection_that_the_server_closes_is_made_anew(serve: Callable[..., Server], ask: Ask) -> None:
    server = serve(limits=Limits(requests_per_connection=1))
    clients = ask(server, keep_alive=True)
    run_until(clients, everybody(clients, 3))
    assert server.accepted >= 6


def test_everything_can_be_changed_meanwhile(serve: Callable[..., Server], ask: Ask) -> None:
    first, second = serve(), serve()
    clients = ask(first, second, clients=1)
    run_until(clients, everybody(clients, 1))
    assert len(clients.answered) == 2, "one for each server"
    clients.change({"clients": 3})
    run_until(clients, everybody(clients, 1))
    assert len(clients.answered) == 6
    clients.change({"clients": 1, "keep_alive": True, "sleep_ms": 2.0})
    run_until(clients, lambda: len(clients.answered) == 2)
    run_until(clients, everybody(clients, 3))
    before = first.accepted
    run_until(clients, everybody(clients, 5))
    assert first.accepted == before, "they keep their connections now"
    asked = [first.asked.get() for _ in range(first.asked.qsize())]
    assert asked[0] == ("/?sleep=0", True)
    assert asked[-1] == ("/?sleep=2", False)
    clients.change({"clients": 0})
    run_until(clients, lambda: clients.answered == [])


def test_a_server_that_is_gone_is_asked_again_until_it_is_back(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        name = f"127.0.0.1:{taken.getsockname()[1]}"
    clients = ask(name)
    clients.run(0.05)
    assert clients.answered == [0, 0]
    with Acceptor(lambda request: "back", bind=name, taskmaster=ThreadPerConnectionTaskmaster()):
        run_until(clients, everybody(clients, 2))


def test_nonsense_is_no_answer_and_ends_nothing(ask: Ask) -> None:
    answers = iter([b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", b"nonsense\r\n\r\n", b"", b"HTTP/1.1 2"])
    good = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def answer() -> None:
            for _ in range(6):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(next(answers, good))

        thread = threading.Thread(target=answer)
        thread.start()
        clients = ask(f"127.0.0.1:{listener.getsockname()[1]}", clients=1, keep_alive=True)
        run_until(clients, everybody(clients, 2))
        assert clients.answered == [2]
        thread.join(PATIENCE)


_HEADS = st.sampled_from([b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n",
                          b"HTTP/1.1 503 Service Unavailable\r\nServer: x\r\ncontent-length:  %d \r\nDate: y\r\n\r\n"])


@given(_HEADS, st.binary(max_size=50), st.data())
def test_an_answer_with_a_length_is_whole_with_its_last_byte(head: bytes, body: bytes, data: st.DataObject) -> None:
    whole = head % len(body) + body
    assert _is_whole(whole)
    assert not _is_whole(whole[:data.draw(st.integers(0, len(whole) - 1))])


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=4), st.data())
def test_a_chunked_answer_is_whole_with_its_last_chunk(chunks: list[bytes], data: st.DataObject) -> None:
    whole = (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
             + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n")
    assert _is_whole(whole)
    assert not _is_whole(whole[:data.draw(st.integers(0, len(whole) - 1))])


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.floats(1, 1000))
def test_thinking_takes_the_time_on_average_and_the_same_for_all(seed: int, think_ms: float) -> None:
    clients = Clients(["127.0.0.1:1", "127.0.0.1:2"], seed)
    try:
        clients.change({"clients": 500, "think_ms": think_ms})
        due = Counter(client.server for _, _, client in clients._thinking)
        assert due == {0: 500, 1: 500}
        begun = time.monotonic()
        assert all(at <= begun + think_ms / 1e3 for at, _, _ in clients._thinking), "spread over one time of thinking"
        clients._thinking.clear()
        for client in clients._all:
            clients._think(client, 0.0)
        mean = sum(at for at, _, _ in clients._thinking) / 1000
        assert 0.8 * think_ms < mean * 1e3 < 1.2 * think_ms  # the standard deviation of the mean is 3 %
    finally:
        clients.close()


# What they see.


def test_all_waiting_is_in_what_clients_see(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a listener that nobody accepts from for a while: the kernel has made the connections meanwhile."""
    clock = 100.0
    monkeypatch.setattr(watching.clients, "time", types.SimpleNamespace(monotonic=lambda: clock))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        clients = ask(f"127.0.0.1:{listener.getsockname()[1]}", clients=2, think_ms=500.0)
        for client in clients._all:
            clients._ask(client, clock)
        clients._thinking.clear()
        clock += 2.0
        assert clients.see() == [{"answers": 0, "failures": 0, "p50": None, "p99": None}]
        for took, answer in (0.5, b"HTTP/1.1 200 OK\r\n\r\n"), (0.1, b"HTTP/1.1 503 Service Unavailable\r\n\r\n"):
            connection, _ = listener.accept()
            clock += took
            with connection:
                answered_by(clients, connection, answer)
    assert clients.see() == [{"answers": 1, "failures": 1, "p50": 2.5, "p99": 2.5}]
    clock += 0.95
    assert clients.see() == [{"answers": 0, "failures": 1, "p50": None, "p99": None}], "of the last second"


def answered_by(clients: Clients, connection: socket.socket, answer: bytes) -> None:
    """That client sends its request, gets this and the end of its connection."""
    mine = next(each for each in clients._all if each.sock and each.sock.getsockname() == connection.getpeername())
    clients._send(mine)
    connection.recv(65536)
    connection.sendall(answer)
    connection.shutdown(socket.SHUT_WR)
    for _ in range(2):
        assert mine.sock is not None
        assert select.select([mine.sock], [], [], PATIENCE)[0]
        clients._receive(mine)


def test_who_gets_no_answer_has_failed(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        name = f"127.0.0.1:{taken.getsockname()[1]}"
    clients = ask(name)
    run_until(clients, lambda: clients.see()[0]["failures"] >= 2)
    assert clients.see()[0]["p99"] is None


def done(state: LoadState) -> dict[str, Any]:
    """What the clients do."""
    return {name: value for name, value in state.items() if name != "seen"}


# In a process of their own.


def test_the_clients_are_a_process_that_can_be_told_and_ended(serve: Callable[..., Server]) -> None:
    server = serve()
    ended: queue.SimpleQueue[Child] = queue.SimpleQueue()
    load = Clientele([server.name], clients=2, sleep_ms=0.0, think_ms=1.0, ended=ended.put)
    try:
        assert done(load.state()) == {"clients": 2, "keep_alive": False, "sleep_ms": 0.0}
        assert server.asked.get(timeout=PATIENCE) == ("/?sleep=0", True)
        wait_until_seen = time.monotonic() + PATIENCE
        while not load.state()["seen"].get(server.name, {"answers": 0})["answers"]:
            assert time.monotonic() < wait_until_seen, load.state()
            time.sleep(0.01)
        changed = load.change({"keep_alive": True, "sleep_ms": 3})
        assert done(changed) == {"clients": 2, "keep_alive": True, "sleep_ms": 3}
        while server.asked.get(timeout=PATIENCE) != ("/?sleep=3", False):
            pass
    finally:
        load.stop()
    child = ended.get(timeout=PATIENCE)
    assert child.end == "exit code 0", "it ends by itself where its standard input does"
    assert not Path(f"/proc/{child.process}").exists()
    assert load.change({"clients": 0}) == {"clients": 0, "keep_alive": True, "sleep_ms": 3, "seen": {}}, (
        "which does nothing any more, and sees nothing")


@pytest.fixture(scope="module")
def nobody() -> Iterator[Clientele]:
    load = Clientele([], clients=0)
    yield load
    load.stop()


@pytest.mark.parametrize(("wishes", "message"), [
    ({"clients": -1}, "clients=-1: pass a whole number from 0 to 1000"),
    ({"clients": 1001}, "clients=1001: pass a whole number from 0 to 1000"),
    ({"clients": 2.5}, "clients=2.5: pass a whole number"),
    ({"clients": True}, "clients=True: pass a whole number"),
    ({"keep_alive": 1}, "keep_alive=1: pass true or false"),
    ({"sleep_ms": -0.5}, "sleep_ms=-0.5: pass a number from 0 to 10000"),
    ({"sleep_ms": 20_000}, "sleep_ms=20000: pass a number from 0 to 10000"),
    ({"sleep_ms": float("nan")}, "sleep_ms=nan: pass a number"),
    ({"sleep_ms": "1"}, "sleep_ms='1': pass a number"),
    ({"client": 1}, "client: there is no such thing; pass clients, keep_alive or sleep_ms"),
    ({"clients": 5, "sleep_ms": None}, "sleep_ms=None: pass a number"),
])
def test_what_cannot_be_is_refused_and_changes_nothing(wishes: dict[str, Any], message: str, nobody: Clientele) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        nobody.change(wishes)
    assert done(nobody.state()) == {"clients": 0, "keep_alive": False, "sleep_ms": SLEEP_MS}


def test_the_defaults_come_to_what_is_written_about_them() -> None:
    seconds = (THINK_MS + SLEEP_MS) / 1e3
    assert CLIENTS / seconds == 200, "requests a second"
    assert CLIENTS * SLEEP_MS / 1e3 / seconds == 4, "in the handler"
