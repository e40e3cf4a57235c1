"""The population of a RecyclingTaskmaster: when it grows, when it shrinks, and never beyond its bounds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from taskmaster import Connection, RecyclingTaskmaster, Snapshot, ThreadState
from taskmaster.contract_tools import balances
from taskmaster.scripted import PATIENCE, ScriptedAcceptor
from tests.clients import Gate
from tests.populations import PARKING, Population
from tests.test_shutdown import running


def waiters(taskmaster: RecyclingTaskmaster) -> int:
    return taskmaster.snapshot().threads[ThreadState.ACCEPTING]


def test_it_starts_with_standby_threads() -> None:
    with running(RecyclingTaskmaster(standby=3)) as (acceptor, taskmaster):
        acceptor.wait_until(lambda: len(acceptor.accepting) == 3, "3 waiters", taskmaster.snapshot)
        assert taskmaster.snapshot().thread_count == 3


def test_sequential_clients_need_no_more_threads() -> None:
    with running(RecyclingTaskmaster(standby=2)) as (acceptor, taskmaster):
        for _ in range(100):
            acceptor.settle(acceptor.connect(1, finished=True), "processed")
        assert taskmaster.snapshot().grown.get("the last waiter was taken", 0) <= 100
        acceptor.wait_until(lambda: waiters(taskmaster) == taskmaster.snapshot().thread_count, "all to wait")
        assert taskmaster.snapshot().thread_count <= 3, taskmaster.snapshot()


def test_a_replacement_starts_when_the_last_waiter_is_taken() -> None:
    with running(RecyclingTaskmaster(standby=2, max_thread_count=10)) as (acceptor, taskmaster):
        first, second, third = (acceptor.connect(1)[0] for _ in range(3))
        for connection in (first, second, third):
            connection.wait_for("processing")
        acceptor.wait_until(lambda: len(acceptor.accepting) == 1, "one to wait", taskmaster.snapshot)
        now = taskmaster.snapshot()
        assert (now.threads[ThreadState.SERVING], waiters(taskmaster), now.thread_count) == (3, 1, 4), now
        assert now.grown == {"start": 2, "the last waiter was taken": 2}


class Verdict:
    """In place of `saturated`: says yes until it is released; `asked` when it has been asked twice, so that nobody has
    gone on after the first time."""

    def __init__(self) -> None:
        self.yes = True
        self.asked = threading.Semaphore(0)

    def __call__(self, before: Any, after: Any, seconds: float, cpus: int) -> bool:
        self.asked.release()
        return self.yes

    def wait_until_asked_twice(self) -> None:
        for _ in range(2):
            assert self.asked.acquire(timeout=PATIENCE)


@contextmanager
def holding_on(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ScriptedAcceptor, RecyclingTaskmaster, Verdict]]:
    """One thread serves; its replacement holds on, for as long as the verdict says."""
    verdict = Verdict()
    monkeypatch.setattr("taskmaster.recycling.saturated", verdict)
    monkeypatch.setattr("taskmaster.recycling._NONE_FREE", float("inf"))
    with running(RecyclingTaskmaster(standby=1, max_thread_count=10)) as (acceptor, taskmaster):
        acceptor.connect(1)[0].wait_for("processing")
        verdict.wait_until_asked_twice()
        yield acceptor, taskmaster, verdict


def test_a_replacement_holds_on_while_there_is_no_cpu_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    with holding_on(monkeypatch) as (acceptor, taskmaster, verdict):
        now = taskmaster.snapshot()
        assert (now.threads[ThreadState.SERVING], now.threads[ThreadState.STARTING], now.thread_count) == (1, 1, 2), now
        assert not taskmaster.others_idle(), "it is not free to serve"
        second = acceptor.connect(1)[0]
        verdict.wait_until_asked_twice()
        assert second.state == "queued", "nobody is there to accept it"
        verdict.yes = False
        second.wait_for("processing")


@pytest.mark.parametrize("settings", [{"idle": "hold"}, {"max_accept_count": 5}], ids=str)
def test_where_somebody_must_be_free_no_replacement_holds_on(settings: dict[str, Any],
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskmaster.recycling.saturated", Verdict())
    with running(RecyclingTaskmaster(standby=1, max_thread_count=3, **settings)) as (acceptor, taskmaster):
        acceptor.settle(acceptor.connect(2), "processing")
        acceptor.wait_until(lambda: len(acceptor.accepting) == 1, "one at the door", taskmaster.snapshot)


def test_a_replacement_that_nobody_relieves_joins_although_there_is_no_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """All others are in handlers that wait, and one of them computes."""
    monkeypatch.setattr("taskmaster.recycling.saturated", Verdict())
    with running(RecyclingTaskmaster(standby=1, max_thread_count=10)) as (acceptor, _):
        acceptor.settle(acceptor.connect(5), "processing")


def test_a_replacement_that_holds_on_is_none_of_the_threads_that_resize_asks_for(
        monkeypatch: pytest.MonkeyPatch) -> None:
    with holding_on(monkeypatch) as (acceptor, taskmaster, _):
        taskmaster.resize(standby=2)
        acceptor.connect(1)[0].wait_for("processing")


@pytest.mark.parametrize("error", [OSError, PermissionError])
def test_a_replacement_that_cannot_see_what_is_used_joins_at_once(error: type[OSError],
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(threads: object) -> dict[int, float]:
        raise error("no clocks here")

    monkeypatch.setattr("taskmaster.register.cpu_seconds", refuse)
    with running(RecyclingTaskmaster(standby=1, max_thread_count=10)) as (acceptor, _):
        acceptor.settle(acceptor.connect(5), "processing")


def test_a_replacement_that_holds_on_does_not_delay_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    with holding_on(monkeypatch) as (acceptor, taskmaster, _):
        acceptor.finish_all()
    assert taskmaster.snapshot().thread_count == 0


def test_after_a_burst_the_population_returns_to_standby() -> None:
    with running(RecyclingTaskmaster(standby=4, max_thread_count=200)) as (acceptor, taskmaster):
        burst = acceptor.connect(200)
        acceptor.settle(burst, "processing")
        assert taskmaster.snapshot().thread_count == 200
        acceptor.finish_all()
        acceptor.settle(burst, "processed")
        acceptor.wait_until(lambda: len(acceptor.accepting) == 200, "200 waiters", taskmaster.snapshot)
        acceptor.time_out(200)
        acceptor.wait_until(lambda: len(acceptor.accepting) == 4, "4 waiters", taskmaster.snapshot)
        assert taskmaster.snapshot().shrunk == {"idle for 10 s": 196}
        acceptor.time_out(50)
        acceptor.wait_until(lambda: len(acceptor.accepting) == 4, "still 4 waiters", taskmaster.snapshot)
        acceptor.wait_until(lambda: taskmaster.snapshot().thread_count == 4, "those that left to be joined",
                            taskmaster.snapshot)


def test_with_a_waiting_room_one_thread_stays_at_the_door() -> None:
    taskmaster = RecyclingTaskmaster(standby=1, max_thread_count=2, max_accept_count=1)
    with running(taskmaster) as (acceptor, _):
        acceptor.connect(3)
        acceptor.wait_until(lambda: acceptor.count("processing") == 2 and acceptor.count("accepted") == 1,
                            "2 served and 1 waiting", taskmaster.snapshot)
        acceptor.wait_until(lambda: len(acceptor.accepting) == 1, "one at the door", taskmaster.snapshot)
        assert taskmaster.snapshot().thread_count == 3


def test_a_replacement_that_cannot_start_is_logged_and_the_connection_served(
        caplog: pytest.LogCaptureFixture) -> None:
    taskmaster = RecyclingTaskmaster(standby=1, max_thread_count=4)
    with running(taskmaster) as (acceptor, _):
        original = taskmaster.start_thread

        def start_thread(target: Callable[[], None], name: str) -> None:
            raise RuntimeError("can't start new thread")

        taskmaster.start_thread = start_thread  # type: ignore[method-assign]
        acceptor.settle(acceptor.connect(1, finished=True), "processed")
        taskmaster.start_thread = original  # type: ignore[method-assign]
        first, second = acceptor.connect(2)
        acceptor.settle([first, second], "processing")
        assert "no thread to wait in place of recycling-scripted:0-1" in caplog.text
        assert taskmaster.snapshot().shrunk == {"could not start": 1}


def test_a_replacement_is_started_even_if_a_leaving_thread_still_fills_the_limit() -> None:
    """The race that _replace loops for: at the limit with nobody waiting, but with one thread on its way out."""
    taskmaster = RecyclingTaskmaster(standby=1, max_thread_count=2, idle_timeout=1)
    gate, held = threading.Event(), threading.Event()
    original = taskmaster.start_thread

    def start_thread(target: Callable[[], None], name: str) -> None:
        def slow_to_end() -> None:
            target()
            held.set()
            assert gate.wait(PATIENCE)
        original(slow_to_end, name)

    taskmaster.start_thread = start_thread  # type: ignore[method-assign]
    with running(taskmaster) as (acceptor, _):
        (first,) = acceptor.connect()
        first.wait_for("processing")
        acceptor.wait_until(lambda: len(acceptor.accepting) == 1, "a replacement", taskmaster.snapshot)
        first.finish()
        acceptor.wait_until(lambda: len(acceptor.accepting) == 2, "two waiters", taskmaster.snapshot)
        acceptor.time_out(1)
        assert held.wait(PATIENCE)
        assert taskmaster.snapshot().threads[ThreadState.LEAVING] == 1
        second, third = acceptor.connect(2)  # the second takes the last waiter; there is room only once the other ends
        gate.set()
        acceptor.settle([second, third], "processing")


def test_the_start_makes_no_more_threads_than_there_may_be_whatever_comes_meanwhile() -> None:
    taskmaster = RecyclingTaskmaster(standby=3, max_thread_count=3)
    acceptor = ScriptedAcceptor()
    connections = acceptor.connect(2)
    original = taskmaster.start_thread

    def start_thread(target: Callable[[], None], name: str) -> None:
        original(target, name)
        if threading.current_thread() is threading.main_thread():  # the two serve, and a third waits, before it goes on
            acceptor.settle(connections, "processing")
            acceptor.wait_until(lambda: len(acceptor.accepting) == 1, "a replacement", taskmaster.snapshot)

    taskmaster.start_thread = start_thread  # type: ignore[method-assign]
    taskmaster.execute_acceptor(acceptor)
    assert taskmaster.snapshot().thread_count == 3, taskmaster.snapshot()
    acceptor.close()
    acceptor.finish_all()
    assert not taskmaster.shutdown(PATIENCE)


def test_a_start_after_a_crowded_stop_begins_anew() -> None:
    taskmaster = RecyclingTaskmaster(standby=3, max_thread_count=3)
    with running(taskmaster) as (acceptor, _):
        acceptor.settle(acceptor.connect(3), "processing")
        taskmaster.resize(standby=1, max_thread_count=1)
        acceptor.close()
    taskmaster.resize(standby=2, max_thread_count=2)
    with running(taskmaster) as (acceptor, _):
        acceptor.settle(acceptor.connect(3, finished=True), "processed")
        acceptor.wait_until(lambda: len(acceptor.accepting) == 2, "2 waiters", taskmaster.snapshot)


def test_standby_is_no_more_than_a_small_limit_allows() -> None:
    assert RecyclingTaskmaster(max_thread_count=4).standby == 4
    assert RecyclingTaskmaster().standby == 4


class Recycling(Population):
    """A naive model of the rules in the docstring, held against the real thing after every step."""

    taskmaster: RecyclingTaskmaster

    @initialize(standby=st.integers(1, 3), more=st.integers(0, 4), room=st.none() | st.integers(0, 3), parking=PARKING)
    def start(self, standby: int, more: int, room: int | None, parking: tuple[Any, Any]) -> None:
        self.standby, self.most, self.room = standby, standby + more, room
        self.waiters = standby
        self.run(RecyclingTaskmaster(standby=standby, max_thread_count=self.most, max_accept_count=room,
                                     idle=parking[0], inline=parking[1]))

    @property
    def threads(self) -> int:
        return self.waiters + self.serving

    @property
    def limit(self) -> int:
        return self.most + (self.room is not None)

    def arrive(self) -> None:
        if self.waiters == 0:
            self.unseen += 1
        elif self.serving < self.most:
            self.serving += 1
            self.waiters -= 1
            if self.waiters == 0 and self.threads < self.limit:
                self.waiters = 1
        else:
            if self.room is None or self.queued < self.room:
                self.queued += 1
            else:
                self.refused += 1
            self.leave_if_too_many()

    def done(self) -> None:
        if self.queued and self.serving <= self.most:
            self.queued -= 1
            return
        self.serving -= 1
        self.waiters += 1
        self.leave_if_too_many()
        self.see()

    def see(self) -> None:
        """Whoever waits accepts what nobody has seen yet."""
        while self.unseen and self.waiters:
            self.unseen -= 1
            self.arrive()

    def leave_if_too_many(self) -> bool:
        if leaves := self.threads > self.limit and (self.waiters > 1 or self.room is None):
            self.waiters -= 1
        return leaves

    @precondition(lambda self: self.waiters)
    @rule()
    def time_out(self) -> None:
        self.acceptor.time_out(1)
        if not self.leave_if_too_many() and self.waiters > self.standby:
            self.waiters -= 1

    @rule(standby=st.integers(1, 3), more=st.sampled_from([0, 0, 1, 4]))
    def resize(self, standby: int, more: int) -> None:
        for _ in range(2):  # the second changes nothing
            self.taskmaster.resize(standby=standby, max_thread_count=standby + more)
        self.standby, self.most = standby, standby + more
        while self.threads < self.limit and (
                (serve := self.queued and self.serving < self.most) or not self.waiters or self.threads < standby):
            if serve:
                self.queued -= 1
                self.serving += 1
            else:
                self.waiters += 1
                self.see()

    def others_idle(self) -> bool:
        return bool(self.waiters) and not self.queued and self.serving < self.most

    def as_expected(self, now: Snapshot) -> bool:
        return (len(self.acceptor.accepting) == now.threads[ThreadState.ACCEPTING] == self.waiters
                and (self.waiters > 0 or self.threads >= self.limit))

    def model(self) -> str:
        return f"waiters={self.waiters} standby={self.standby} most={self.most} room={self.room}"


TestPopulation = Recycling.TestCase
TestPopulation.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"standby": 200}, "standby=200 is more than max_thread_count=100"),
    ({"standby": 0}, "standby=0: pass a whole number of at least 1"),
    ({"standby": 2.0}, "standby=2.0: pass a whole number of at least 1, not float"),
    ({"standby": True}, "not bool"),
    ({"standby": 9, "max_thread_count": 8}, "standby=9 is more than max_thread_count=8: lower the one or raise"),
    ({"max_thread_count": 0}, "max_thread_count=0: pass a whole number of at least 1"),
    ({"max_accept_count": -1}, "max_accept_count=-1: pass a whole number of at least 0"),
    ({"idle_timeout": 0}, "idle_timeout=0: pass a number of seconds of at least 0.001"),
    ({"idle_timeout": float("nan")}, "idle_timeout=nan: pass a number of seconds of at least 0.001"),
    ({"idle_timeout": "10"}, "idle_timeout='10': pass a number of seconds of at least 0.001, not str"),
])
def test_wrong_arguments_are_refused_with_the_fix(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as error:
        RecyclingTaskmaster(**arguments)
    assert message in str(error.value)


# The books.

def test_an_override_that_raises_once_another_thread_has_the_connection_back_spoils_no_books() -> None:
    """1. A thread has served it and parked it, in its hook, and is still there, 2. another has it back, and is in the
    hook too, and has not counted it in, 3. the first raises."""
    back, over = Gate("the second thread is in its hook"), Gate("the first thread is out of its own")
    threads: list[threading.Thread] = []

    class Model(RecyclingTaskmaster):
        def handle_incoming_connection(self, connection: Connection) -> None:
            threads.append(threading.current_thread())
            turn = len(threads)
            if turn == 3:
                back.open()
                over.pass_through()
            super().handle_incoming_connection(connection)
            if turn == 2:
                client.send()
                back.pass_through()
                raise ValueError("from an override")

    with running(taskmaster := Model(standby=2)) as (acceptor, _):
        acceptor.abandon = lambda connection: None  # type: ignore[method-assign]
        (client,) = acceptor.connect()
        client.idle()
        client.wait_for("parked")
        client.idle()
        client.send()
        back.pass_through()
        acceptor.wait_until(lambda: threads[1] in acceptor.accepting, "the first thread to be out of its hook")
        over.open()
        client.finish()
        client.wait_for("processed")
    assert balances(taskmaster.snapshot()), taskmaster.snapshot()
    assert (taskmaster.snapshot().parked, taskmaster.snapshot().served) == (0, 1), taskmaster.snapshot()
