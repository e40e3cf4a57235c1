"""The record of what threads do: whatever clients do, with every model, it is whole and in order, and nothing is left.

A script is a list of clients, each with a thread and a connection of its own. The server is recorded from before its
first thread to after its last, and then the stream of events has to be what it says it is.
"""

from __future__ import annotations

import re
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acceptor import Acceptor, Request, Timeouts
from acceptor.connection import Connection
from acceptor.phases import Phase
from acceptor.recording import LETTERS, STATES, Lane, Recording, Step
from taskmaster import (
    EventLoopTaskmaster,
    PooledTaskmaster,
    RecyclingTaskmaster,
    SingleThreadedTaskmaster,
    Snapshot,
    Taskmaster,
    ThreadPerConnectionTaskmaster,
    ThreadState,
)
from tests.clients import Gate, RawClient, request

MODELS: dict[str, Callable[[Executor], Taskmaster]] = {
    "single": lambda _: SingleThreadedTaskmaster(),
    "thread": lambda _: ThreadPerConnectionTaskmaster(max_thread_count=8),
    "pool-hold": lambda _: PooledTaskmaster(threads=2, idle="hold"),
    "pool-park": lambda _: PooledTaskmaster(threads=2, idle="park"),
    "recycling-hold": lambda _: RecyclingTaskmaster(standby=2, max_thread_count=3, idle="hold"),
    "recycling-park": lambda _: RecyclingTaskmaster(standby=2, max_thread_count=3, idle="park"),
    "loop": lambda _: EventLoopTaskmaster(),
    "loop-offload": lambda executor: EventLoopTaskmaster(offload=executor),
}
CROWDED: dict[str, Callable[[Executor], Taskmaster]] = {
    "thread": lambda _: ThreadPerConnectionTaskmaster(max_thread_count=1, max_accept_count=1),
    "pool": lambda _: PooledTaskmaster(threads=1, queue_size=1, idle="park"),
    "recycling": lambda _: RecyclingTaskmaster(max_thread_count=1, max_accept_count=1, idle="park"),
}
"""With room for hardly anybody."""


# What the events of a connection are, in order, by all threads: a letter each, and of "_" how it ended.

ENDS = {"parked": "p", "closed": "c", "detached": "d", "done": "j"}
LIFE = re.compile(r"""
    ( Q R [RHWK]* ( p             # taken up, and served until it is idle
                  | Q R H [RHW]* j   # or until its handler is submitted; the job
                  ) )*
    ( Q R [RHWK]* [cd]            # taken up, and served to its end
    | Q C )                       # or refused
    """, re.VERBOSE)


def letter(step: Step) -> str:
    return ENDS[step[3]] if step[1] == "_" else step[1]


def lives(lanes: Sequence[Sequence[Step]]) -> dict[int, str]:
    """The events of each connection."""
    found: defaultdict[int, str] = defaultdict(str)
    for step in sorted((step for lane in lanes for step in lane if step[2]), key=lambda step: step[0]):
        found[step[2]] += letter(step)
    return found


def check_lanes(lanes: Sequence[Sequence[Step]]) -> dict[int, str]:
    """What holds of every recording that is whole, whatever the model; the lives of its connections."""
    for lane in lanes:
        assert lane, "a lane begins with a step"
        times = [time for time, _, _, _ in lane]
        assert times == sorted(times), "no thread goes back in time"
        for before, step in zip([(0.0, "", 0, None), *lane], lane, strict=False):
            _, state, connection, about = step
            assert state in STATES
            if state == "H":
                assert (before[1], before[2]) == ("R", connection), "its request has been read, or the body, before"
                assert about is None or len(about) == 2
            elif state == "Q" and about is not None:
                host, port, waited = about
                assert host == "127.0.0.1"
                assert port > 0
                assert waited is None or waited >= 0
            elif state in "AX":
                assert connection == 0
            if before[1] == "A":
                assert state in ("Q", "X") or (state == "_" and connection == 0), "accept() returns, or times out"
            assert before[1] != "X", "who leaves does nothing more"
    waiting, queued = 0, set()
    for _, state, connection, _ in sorted((step for lane in lanes for step in lane), key=lambda step: step[0]):
        if state == "Q":
            assert connection not in queued, "it waits already"
            queued.add(connection)
            waiting += 1
        elif state in "RC" and connection in queued:
            queued.remove(connection)
            waiting -= 1
        assert waiting >= 0
    assert not queued, "somebody still waits"
    found = lives(lanes)
    for number, life in found.items():
        assert LIFE.fullmatch(life), f"connection {number}: {life}"
    return found


# A server that is recorded.

@dataclass
class Recorded:
    """A server, from before its first thread to after its last."""

    acceptor: Acceptor
    answers: list[float | tuple[float, int]] = field(default_factory=list)
    """As an `acceptor.service.Counter`: what it has been told."""
    recordings: list[Recording] = field(default_factory=list)
    handled: Counter[str] = field(default_factory=Counter)

    def ok(self, seconds: float) -> None:
        self.answers.append(seconds)

    def other(self, answer: tuple[float, int]) -> None:
        self.answers.append(answer)

    @property
    def lanes(self) -> list[list[Step]]:
        return [lane.copy() for lane in self.recordings[0].lanes]

    @property
    def snapshot(self) -> Snapshot:
        return self.acceptor.taskmaster.snapshot()

    def handler(self, request: Request) -> str | bytes:
        self.handled[request.path] += 1
        if request.path == "/fail":
            raise HandlerError
        if request.path == "/detach":
            with request.detach().socket as sock:
                sock.sendall(b"bye")
            return b""
        return request.body.read() or b"Hello"


class HandlerError(Exception):
    pass


@contextmanager
def recorded(make: Callable[[Executor], Taskmaster]) -> Iterator[Recorded]:
    """Its threads have ended when it is left, so that all has been written."""
    with ThreadPoolExecutor(2, "offload") as executor:
        taskmaster = make(executor)
        execute = taskmaster.execute_acceptor
        server: Recorded

        def record_and_execute(acceptor: Any) -> None:
            server.recordings.append(acceptor.record())
            acceptor.run.service.counter = server
            execute(acceptor)

        taskmaster.execute_acceptor = record_and_execute  # type: ignore[method-assign]
        server = Recorded(Acceptor(lambda request: server.handler(request), taskmaster=taskmaster, port=0,
                                   timeouts=Timeouts(pressed=None)))  # nobody is closed because others wait
        with server.acceptor:
            yield server
    server.recordings[0].stop()


# Clients.

OPERATIONS = ("get", "two", "post", "slow post", "fail")
LAST = ("leave", "reset", "half", "detach", "say close", "go", "nothing")


@dataclass
class Client:
    """Does `script` on one connection, and then leaves, or before if it is turned away."""

    port: int
    script: Sequence[str]
    read = 0
    """Responses."""
    left = 0
    """Requests whose response it has not waited for."""
    reset = 0
    """Requests that may never have come, for the same reason."""
    refused = 0

    def run(self) -> None:
        with RawClient.connect(self.port) as self.client:
            for operation in self.script:
                if not self._do(operation):
                    return

    def _do(self, operation: str) -> bool:
        if operation == "get":
            return self._ask(request())
        if operation == "two":
            self.client.send(request() + request())
            return self._read() and self._read()
        if operation == "post":
            return self._ask(request(method="POST", body=b"x" * 1000))
        if operation == "slow post":
            head, _, body = request(method="POST", body=b"slowly").partition(b"\r\n\r\n")
            self.client.send(head + b"\r\n\r\n" + body[:2])
            self.client.send(body[2:])
            return self._read()
        if operation == "fail":
            return self._ask(request("/fail"), 500)
        if operation == "leave":
            self.client.send(request())
            self.left += 1
        elif operation == "reset":
            self.client.send(request())
            self.client.reset()
            self.reset += 1
        elif operation == "half":
            self.client.send(b"GET / HT")
        elif operation == "detach":
            self.client.send(request("/detach"))
            assert self.client.read_to_end().startswith((b"bye", b"HTTP/1.1 503"))
        elif operation == "say close" and self._ask(request(headers=["Connection: close"])):
            self.client.expect_eof()
        return operation != "nothing"

    def _ask(self, data: bytes, status: int = 200) -> bool:
        self.client.send(data)
        return self._read(status)

    def _read(self, status: int = 200) -> bool:
        received = self.client.read_response()
        self.read += 1
        self.refused += received.status == 503
        assert received.status in (status, 503)
        return received.status == status


def play(port: int, scripts: Sequence[Sequence[str]]) -> list[Client]:
    """All of them at once, each to its end."""
    clients = [Client(port, script) for script in scripts]
    with ThreadPoolExecutor(len(clients)) as threads:
        for done in [threads.submit(client.run) for client in clients]:
            done.result()
    return clients


scripts = st.lists(st.builds(lambda some, last: [*some, last], st.lists(st.sampled_from(OPERATIONS), max_size=3),
                             st.sampled_from(LAST)), min_size=1, max_size=6)


@pytest.mark.parametrize("model", MODELS)
@settings(max_examples=10)
@given(scripts=scripts)
def test_whatever_clients_do_the_record_is_whole(model: str, scripts: list[list[str]]) -> None:
    with recorded(MODELS[model]) as server:
        clients = play(server.acceptor.port, scripts)
    found = check_lanes(server.lanes)
    ends = Counter(life[-1] for life in found.values())
    now = server.snapshot
    assert len(found) == now.accepted == len(scripts)
    assert ends["C"] == now.refused == 0
    assert ends["c"] + ends["d"] == now.served
    assert now.queued == now.parked == 0
    assert ends["d"] == server.handled["/detach"] == sum("detach" in script for script in scripts)
    handlers = [step for lane in server.lanes for step in lane if step[1] == "H" and step[3] is not None]
    assert Counter(target for _, _, _, (_, target) in handlers) == server.handled
    answered = sum(client.read + client.left for client in clients)
    assert answered <= len(server.answers) <= answered + sum(client.reset for client in clients)
    failed = [answer for answer in server.answers if isinstance(answer, tuple) and answer[1] == 500]
    assert len(failed) == server.handled["/fail"]
    holds = {"single", "thread", "pool-hold", "recycling-hold"}
    parks = any("p" in life for life in found.values())
    assert not parks or model not in holds, "who holds parks nothing"
    assert ("j" in "".join(found.values())) <= (model == "loop-offload")


@pytest.mark.parametrize("model", CROWDED)
@settings(max_examples=8)
@given(scripts=scripts)
def test_whoever_is_refused_is_refused_once(model: str, scripts: list[list[str]]) -> None:
    with recorded(CROWDED[model]) as server:
        clients = play(server.acceptor.port, scripts)
    found = check_lanes(server.lanes)
    ends = Counter(life[-1] for life in found.values())
    now = server.snapshot
    assert len(found) == now.accepted == len(scripts)
    assert ends["C"] == now.refused >= sum(client.refused for client in clients)
    assert ends["c"] + ends["d"] == now.served
    refused = sum(isinstance(answer, tuple) and answer[1] == 503 for answer in server.answers)
    assert refused <= now.refused, "whom nobody reads is not counted"
    read = sum(client.read for client in clients)
    assert read <= len(server.answers) <= read + now.refused + sum(client.left + client.reset for client in clients)


# Step by step: a taskmaster without threads, whose acceptor the test calls.

class ByHand(Taskmaster):
    """Does nothing: the test accepts and serves."""

    max_thread_count = 1
    max_accept_count = None

    def execute_acceptor(self, acceptor: object) -> None:
        pass

    def handle_incoming_connection(self, connection: object) -> None:
        raise NotImplementedError

    def shutdown(self, deadline: float) -> Sequence[str]:
        return []

    def snapshot(self) -> Snapshot:
        return Snapshot(dict.fromkeys(ThreadState, 0), 0, 0, 0, 0, 0, {}, {})


@pytest.fixture(name="hand")
def hand_() -> Iterator[Acceptor]:
    with Acceptor(lambda request: "Hello", taskmaster=ByHand(), port=0) as acceptor:
        yield acceptor


def letters(lane: Lane) -> str:
    return "".join(letter(step) if step[3] in ENDS else step[1] for step in lane.copy())


def accepted(acceptor: Acceptor) -> Connection:
    connection = acceptor.accept()
    assert connection is not None
    return connection


def test_one_step_after_the_other(hand: Acceptor) -> None:
    recording = hand.record()
    with RawClient.connect(hand.port) as client:
        client.send(request("/a?b=c") * 2)
        client.half_close()
        hand.process_connection(accepted(hand))
    recording.stop()
    [lane] = recording.lanes
    assert lane.thread is threading.current_thread()
    assert letters(lane) == "AQRHWRHWKc"
    assert [step[2] for step in lane.copy()] == [0, *[1] * 9]
    queued, handled = lane.copy()[1], lane.copy()[3]
    assert queued[3][0] == "127.0.0.1"
    assert queued[3][2] is not None
    assert handled[3] == ("GET", "/a?b=c")
    assert recording.begun <= lane.copy()[0][0] <= lane.copy()[-1][0] <= recording.ended  # type: ignore[operator]


def test_a_body_that_comes_late_is_read_in_between(hand: Acceptor) -> None:
    gate = Gate("the handler asks for the body")

    def handler(request: Request) -> bytes:
        gate.open()
        return request.body.read()

    def send_the_body() -> None:
        gate.pass_through()
        client.send(b"body")

    hand._service.handler = handler
    recording = hand.record()
    with ThreadPoolExecutor(1) as other, RawClient.connect(hand.port) as client:
        client.send(request(method="POST", headers=["Connection: close", "Content-Length: 4"]))
        done = other.submit(send_the_body)
        hand.process_connection(accepted(hand))
        done.result()
    [lane] = recording.lanes
    assert letters(lane) == "AQRHRHWc"
    assert [step[3] for step in lane.copy() if step[1] == "H"] == [("POST", "/"), None]
    recording.stop()


def test_whoever_is_parked_comes_back_as_somebody_known(hand: Acceptor) -> None:
    recording = hand.record()
    with RawClient.connect(hand.port) as client:
        connection = accepted(hand)
        assert hand.process_until_idle(connection, lambda: True)
        assert hand.park(connection)
        client.send(request(headers=["Connection: close"]))
        assert accepted(hand) is connection
        assert not hand.process_until_idle(connection, lambda: True)
    recording.stop()
    [lane] = recording.lanes
    assert letters(lane) == "AQRpAQRHWc"
    assert [step[3][2] is None for step in lane.copy() if step[1] == "Q"] == [False, True], "not from the kernel"


def test_what_can_be_parked_no_more_is_in_hand_again(hand: Acceptor) -> None:
    recording = hand.record()
    with RawClient.connect(hand.port):
        connection = accepted(hand)
        assert hand.process_until_idle(connection, lambda: True)
        hand._run.accept_no_more()
        assert not hand.park(connection)
        assert not hand.process_until_idle(connection, lambda: True)
        assert hand.accept() is None
    recording.stop()
    [lane] = recording.lanes
    assert letters(lane)[:6] == "AQRpQR"
    assert letters(lane)[-3:] == "cAX"


def test_who_is_refused_or_abandoned_has_no_other_end(hand: Acceptor) -> None:
    recording = hand.record()
    with RawClient.connect(hand.port) as first, RawClient.connect(hand.port) as second:
        hand.refuse(accepted(hand))
        assert first.read_response().status == 503
        abandoned = accepted(hand)
        hand.abandon(abandoned)
        second.expect_eof()
        hand.process_connection(abandoned)  # too late: it is over
        assert abandoned.lane is None
    recording.stop()
    [lane] = recording.lanes
    assert letters(lane) == "AQCAQCRc"
    assert [step[3] for step in lane.copy() if step[1] == "C"] == ["refused", "abandoned"]


def test_nothing_comes_in_time(hand: Acceptor) -> None:
    recording = hand.record()
    with pytest.raises(TimeoutError):
        hand.accept(0.01)
    recording.stop()
    assert letters(recording.lanes[0]) == "A_"


class AtOnce(Executor):
    """Runs a job when it is submitted, on that thread."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        with ThreadPoolExecutor(1) as executor:
            future = executor.submit(int)
        done: Any = type(future)()
        done.set_result(fn(*args, **kwargs))
        return done


def test_a_job_that_the_same_thread_runs(hand: Acceptor) -> None:
    recording = hand.record()
    with RawClient.connect(hand.port) as client:
        client.send(request(headers=["Connection: close"]))
        connection = accepted(hand)
        assert hand.process_without_waiting(connection, AtOnce())
        assert connection.lane is None
        assert hand.park(connection)
        assert not hand.process_without_waiting(accepted(hand), AtOnce())
        assert client.read_response().body == b"Hello"
    recording.stop()
    [lane] = recording.lanes
    assert letters(lane) == "AQRQRHjAQRWWc"
    assert LIFE.fullmatch(letters(lane).replace("A", ""))


def test_a_job_that_cannot_be_submitted_is_answered_by_whoever_tried(hand: Acceptor) -> None:
    recording = hand.record()
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    with RawClient.connect(hand.port) as client:
        client.send(request(headers=["Connection: close"]))
        assert not hand.process_without_waiting(accepted(hand), executor)
        assert client.read_response().status == 500
    recording.stop()
    assert letters(recording.lanes[0]) == "AQRQWc"


# The life of a recording.

STEPS = ("accept", "process_connection", "process_until_idle", "process_without_waiting", "park", "refuse", "abandon")


def taken_by(acceptor: Acceptor) -> set[object]:
    return {getattr(acceptor, step).__self__ for step in STEPS}


def test_nothing_is_left_behind(hand: Acceptor) -> None:
    run = hand.run
    assert taken_by(hand) == {run}
    with ThreadPoolExecutor(1) as other, RawClient.connect(hand.port) as client:
        recording = hand.record()
        assert run not in taken_by(hand)
        connection = accepted(hand)
        client.send(request())
        served = other.submit(hand.process_connection, connection)
        client.read_response()
        recording.stop()  # while a thread waits for its next request
        assert taken_by(hand) == {run}
        assert connection.lane is None
        assert hand._service.recording is None
        client.send(request(headers=["Connection: close"]))
        client.read_response()
        served.result()
    assert "".join(map(letters, recording.lanes)) in ("AQRHW", "AQRHWK"), "and what comes later is not written down"


def test_there_is_one_recording_at_a_time(hand: Acceptor) -> None:
    first = hand.record()
    with pytest.raises(RuntimeError, match=r"is being recorded already; stop\(\) that recording first"):
        hand.record()
    first.stop()
    ended = first.ended
    second = hand.record()
    first.stop()
    assert first.ended == ended
    first.ended = None  # as for a thread that stops it at the same time
    first.stop()
    assert hand._service.recording is second, "who has been stopped stops no other"
    assert hand.run not in taken_by(hand)
    second.stop()
    assert taken_by(hand) == {hand.run}


def test_only_what_runs_can_be_recorded() -> None:
    acceptor = Acceptor(lambda request: "Hello", taskmaster=ByHand(), port=0)
    with pytest.raises(RuntimeError, match="has not been started"):
        acceptor.record()
    acceptor.start()
    acceptor.stop()
    with pytest.raises(RuntimeError, match=r"has been stopped: there is nothing to record; start\(\) it first"):
        acceptor.record()
    with acceptor:
        acceptor.record().stop()


def test_a_recording_that_outlives_its_run_disturbs_no_other() -> None:
    acceptor = Acceptor(lambda request: "Hello", taskmaster=ByHand(), port=0)
    with acceptor:
        first = acceptor.record()
    with acceptor:
        assert taken_by(acceptor) == {acceptor.run}
        second = acceptor.record()
        with ThreadPoolExecutor(1) as other, RawClient.connect(acceptor.port) as client:
            connection = accepted(acceptor)
            served = other.submit(acceptor.process_connection, connection)
            client.send(request())
            client.read_response()
            first.stop()
            client.send(request(headers=["Connection: close"]))
            client.read_response()
            served.result()
        second.stop()
        assert taken_by(acceptor) == {acceptor.run}
    assert not first.lanes
    assert [letters(lane) for lane in second.lanes] in (["AQ", "RHWKRHWc"], ["AQ", "RHWRHWc"])


def test_what_somebody_does_instead_of_a_step_stays_and_what_he_calls_is_recorded() -> None:
    seen = []

    class Mine(Acceptor):
        def process_connection(self, connection: Connection) -> None:
            seen.append(connection.number)
            super().process_connection(connection)

    acceptor = Mine(lambda request: "Hello", taskmaster=ByHand(), port=0)

    def accept(timeout: float | None = None) -> Connection | None:
        return Acceptor.accept(acceptor, timeout)

    acceptor.accept = accept  # type: ignore[method-assign]
    with acceptor:
        for _ in range(2):
            recording = acceptor.record()
            assert acceptor.accept is accept
            with RawClient.connect(acceptor.port) as client:
                client.send(request(headers=["Connection: close"]))
                acceptor.process_connection(accepted(acceptor))
            recording.stop()
            assert letters(recording.lanes[0]) == "AQRHWc"
        assert acceptor.accept is accept
        assert acceptor.refuse.__self__ is acceptor.run  # type: ignore[attr-defined]
    assert seen == [1, 2]


# Begun in the middle.

@pytest.mark.parametrize("model", [name for name in MODELS if name != "loop-offload"])
def test_who_is_in_the_middle_of_a_request_has_a_lane_at_once(model: str) -> None:
    entered, gate = Gate("the handler runs"), Gate("the test lets it go on")
    threads = []

    def handler(request: Request) -> str:
        threads.append(threading.current_thread())
        entered.open()
        gate.pass_through()
        return "Hello"

    with ExitStack() as stack:
        executor = stack.enter_context(ThreadPoolExecutor(1))
        acceptor = stack.enter_context(Acceptor(handler, taskmaster=MODELS[model](executor), port=0))
        client = stack.enter_context(RawClient.connect(acceptor.port))
        client.send(request("/long"))
        entered.pass_through()
        recording = acceptor.record()
        [lane] = [lane for lane in recording.lanes if lane.thread in threads]
        assert lane.copy() == [(recording.begun, "H", 1, ("GET", "/long"))]
        [(connection, owner)] = acceptor.run.attended()  # type: ignore[union-attr]
        assert owner == lane.thread.ident
        gate.open()
        client.read_response()
        client.close()
        acceptor.stop()
        recording.stop()
    assert re.match("HW[KRp]", letters(lane)), letters(lane)
    assert lives([each.copy() for each in recording.lanes])[1][-1] == "c"
    assert connection.lane is None


def test_a_job_that_has_begun_before_is_not_seen_but_what_follows_is() -> None:
    entered, gate = Gate("the handler runs"), Gate("the test lets it go on")

    def handler(request: Request) -> str:
        entered.open()
        gate.pass_through()
        return "Hello"

    with (ThreadPoolExecutor(1) as executor,
          Acceptor(handler, taskmaster=EventLoopTaskmaster(offload=executor), port=0) as acceptor,
          RawClient.connect(acceptor.port) as client):
        client.send(request(headers=["Connection: close"]))
        entered.pass_through()
        recording = acceptor.record()
        gate.open()
        client.read_response()
        acceptor.stop()
        recording.stop()
    [lane] = recording.lanes
    assert lane.thread.name.startswith("loop-")
    assert letters(lane).replace("A", "") in ("RWWcX", "QRWWcX"), "it was in accept() when the recording began, or not"


def test_every_phase_has_a_state() -> None:
    assert set(LETTERS) == set(Phase)
    assert set(LETTERS.values()) < set(STATES)
