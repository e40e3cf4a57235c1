"""Parking in the pool and in the recycling model, beyond the contract suite: who serves what comes back, and when."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from taskmaster import PooledTaskmaster, RecyclingTaskmaster, Snapshot, ThreadedTaskmaster, ThreadState
from taskmaster.scripted import ScriptedAcceptor, ScriptedConnection
from tests.populations import PARKING, Population
from tests.test_shutdown import running

MODELS: dict[str, Callable[..., ThreadedTaskmaster]] = {
    "pooled": lambda threads, **options: PooledTaskmaster(threads=threads, queue_size=None, **options),
    "recycling": lambda threads, **options: RecyclingTaskmaster(standby=threads, max_thread_count=threads, **options),
}
Make = Callable[..., ThreadedTaskmaster]


@pytest.fixture(params=MODELS)
def make(request: pytest.FixtureRequest) -> Make:
    """Makes one that serves so many at once, and refuses none."""
    return MODELS[request.param]


def busy(acceptor: ScriptedAcceptor, count: int) -> list[ScriptedConnection]:
    """So many clients that are being served."""
    connections = acceptor.connect(count)
    acceptor.settle(connections, "processing")
    return connections


# Hold, the textbook's way.

def test_idle_connections_that_hold_their_threads_keep_a_newcomer_waiting(make: Make) -> None:
    with running(make(2, idle="hold")) as (acceptor, taskmaster):
        idle = busy(acceptor, 2)
        (newcomer,) = acceptor.connect()
        for turns in range(2, 10):
            for connection in idle:
                connection.idle()
                connection.again()
            acceptor.wait_until(lambda n=turns: [c.turns for c in idle] == [n, n],  # type: ignore[misc]
                                "both to have had an idle moment, and another turn")
        now = taskmaster.snapshot()
        assert (now.threads[ThreadState.SERVING], now.parked, newcomer.state) == (2, 0, "queued"), now
        idle[0].finish()
        newcomer.wait_for("processing")


def test_idle_connections_that_are_parked_do_not(make: Make) -> None:
    with running(make(2, idle="park")) as (acceptor, _):
        for connection in busy(acceptor, 2):
            connection.idle()
        (newcomer,) = acceptor.connect()
        newcomer.wait_for("processing")


# Inline: what becomes of a connection whose next request is there already.

def test_always_keeps_a_newcomer_waiting_for_as_long_as_clients_have_a_next_request(make: Make) -> None:
    """Puma's CVE-2019-16770."""
    with running(make(2, idle="park", inline="always")) as (acceptor, _):
        greedy = busy(acceptor, 2)
        (newcomer,) = acceptor.connect()
        for turns in range(2, 50):
            for connection in greedy:
                connection.again()
            acceptor.wait_until(lambda n=turns: [c.turns for c in greedy] == [n, n],  # type: ignore[misc]
                                "both to have another turn")
        assert newcomer.state == "queued"


def test_fair_gives_a_newcomer_the_next_turn(make: Make) -> None:
    with running(make(2, idle="park", inline="fair")) as (acceptor, _):
        greedy = busy(acceptor, 2)
        (newcomer,) = acceptor.connect()
        greedy[0].again()
        newcomer.wait_for("processing")
        assert (greedy[0].state, greedy[0].turns, greedy[1].turns) == ("ready", 1, 1)


def test_fair_goes_on_only_while_another_thread_is_free(make: Make) -> None:
    with running(make(2, idle="park", inline="fair")) as (acceptor, taskmaster):
        (first,) = busy(acceptor, 1)
        acceptor.wait_until(lambda: taskmaster.go_on() and bool(acceptor.accepting), "another to be free",
                            taskmaster.snapshot)
        first.again(3)
        acceptor.wait_until(lambda: first.turns == 4, "4 turns")
        assert first.history["parked"] == 0, "it went behind, though a thread was free"
        busy(acceptor, 1)
        first.again()
        acceptor.wait_until(lambda: first.history["parked"] == 1 and first.state == "processing",
                            "it to go behind, and come back, for nobody else waits", taskmaster.snapshot)
        assert first.turns == 5


def test_others_are_idle_only_if_one_is_left_over_when_all_that_is_queued_is_served() -> None:
    taskmaster = PooledTaskmaster(threads=3, idle="park")
    with running(taskmaster) as (acceptor, _):
        (served,) = busy(acceptor, 1)
        with taskmaster.lock:
            for free in (True, True, False):
                assert taskmaster.go_on() == free, f"{len(taskmaster.queue)} queued, and 1 of 3 serves"
                taskmaster.queue.append(served)
            taskmaster.queue.clear()


def test_never_goes_behind_also_if_nobody_waits(make: Make) -> None:
    with running(make(2, idle="park", inline="never")) as (acceptor, taskmaster):
        (only,) = busy(acceptor, 1)
        for parked in range(1, 5):
            only.again()
            acceptor.wait_until(lambda n=parked: (only.history["parked"], only.state) == (n, "processing"),  # type: ignore[misc]
                                f"it to go behind {parked} times", taskmaster.snapshot)


def test_fair_goes_behind_when_there_is_no_thread_for_anybody_else() -> None:
    """Recycling: fewer serve than may, but nobody waits, for the system gives no thread."""
    with running(RecyclingTaskmaster(standby=1, max_thread_count=4, idle="park")) as (acceptor, taskmaster):
        def start_thread(target: Callable[[], None], name: str) -> None:
            raise RuntimeError("can't start new thread")

        taskmaster.start_thread = start_thread  # type: ignore[method-assign]
        (greedy,) = busy(acceptor, 1)
        (newcomer,) = acceptor.connect()
        greedy.again()
        newcomer.wait_for("processing")


# Who serves what comes back.

def test_in_the_recycling_model_whoever_accepts_it_serves_it() -> None:
    accepted: dict[str, threading.Thread] = {}
    with running(RecyclingTaskmaster(standby=4, max_thread_count=4, idle="park")) as (acceptor, taskmaster):
        original = taskmaster.handle_incoming_connection

        def hook(connection: Any) -> None:
            accepted[connection.peer] = threading.current_thread()
            original(connection)

        taskmaster.handle_incoming_connection = hook  # type: ignore[method-assign]
        connections = acceptor.connect(20)
        for connection in connections:
            connection.idle()
        acceptor.settle(connections, "parked")
        for connection in connections:
            connection.idle()
            connection.send()
        acceptor.wait_until(lambda: all(c.history["parked"] == 2 for c in connections), "all to be served again")
        assert {c.peer: c.thread for c in connections} == accepted


def test_in_the_pool_a_worker_serves_it_and_the_accepting_thread_never() -> None:
    with running(PooledTaskmaster(threads=2, idle="park")) as (acceptor, _):
        (connection,) = busy(acceptor, 1)
        for _ in range(5):
            connection.idle()
            connection.wait_for("parked")
            connection.send()
            connection.wait_for("processing")
            assert connection.thread not in acceptor.acceptors


def test_with_any_number_parked_the_population_of_the_recycling_model_returns_to_standby() -> None:
    with running(RecyclingTaskmaster(standby=2, max_thread_count=100, idle="park")) as (acceptor, taskmaster):
        burst = busy(acceptor, 50)
        for connection in burst:
            connection.idle()
        acceptor.settle(burst, "parked")
        acceptor.wait_until(lambda: len(acceptor.accepting) == 51, "51 waiters", taskmaster.snapshot)
        acceptor.time_out(51)
        acceptor.wait_until(lambda: len(acceptor.accepting) == 2, "2 waiters", taskmaster.snapshot)
        for connection in burst:
            connection.send()
            connection.finish()
        acceptor.settle(burst, "processed")


def test_when_the_pool_is_full_the_workers_need_no_further_room_to_park() -> None:
    """queue_size=0: a worker that parks makes room in the same breath, so what comes next is not refused."""
    with running(PooledTaskmaster(threads=1, queue_size=0, idle="park")) as (acceptor, taskmaster):
        (first,) = busy(acceptor, 1)
        for _ in range(10):
            first.idle()
            first.wait_for("parked")
            (second,) = busy(acceptor, 1)
            second.finish()
            second.wait_for("processed")
            acceptor.wait_until(lambda: not taskmaster.snapshot().threads[ThreadState.SERVING], "the worker to be free")
            first.send()
            first.wait_for("processing")
        assert taskmaster.snapshot().refused == 0


# The pool's rules, as a state machine; those of the recycling model are in test_recycling.py.

class Pool(Population):
    taskmaster: PooledTaskmaster

    @initialize(threads=st.integers(1, 4), room=st.none() | st.integers(0, 3), parking=PARKING)
    def start(self, threads: int, room: int | None, parking: tuple[Any, Any]) -> None:
        self.workers = self.threads = threads
        self.room = room
        self.at_the_door = True
        self.run(PooledTaskmaster(threads=threads, queue_size=room, idle=parking[0], inline=parking[1]))

    def arrive(self) -> None:
        self.unseen += 1
        self.flow()

    def done(self) -> None:
        self.serving -= 1
        self.flow()

    def flow(self) -> None:
        """What follows by itself: those too many leave, workers take what is queued, the accepting thread accepts."""
        while True:
            self.workers = max(self.serving, min(self.workers, self.threads))
            taken = min(self.queued, self.workers - self.serving)
            self.queued -= taken
            self.serving += taken
            waiting = self.serving + self.queued
            if self.room is None:
                self.at_the_door = self.at_the_door or waiting < self.threads
            if not self.unseen or not self.at_the_door:
                return
            self.unseen -= 1
            if self.room is None or waiting < self.threads + self.room:
                self.queued += 1
            else:
                self.refused += 1
            self.at_the_door = self.room is not None

    @rule(threads=st.integers(1, 5))
    def resize(self, threads: int) -> None:
        for _ in range(2):  # the second changes nothing
            self.taskmaster.resize(threads)
        self.threads = threads
        self.workers = max(self.workers, threads)
        self.flow()

    def others_idle(self) -> bool:
        return self.serving + self.queued < min(self.workers, self.threads)

    def as_expected(self, now: Snapshot) -> bool:
        return (len(self.acceptor.accepting) == now.threads[ThreadState.ACCEPTING] == self.at_the_door
                and now.threads[ThreadState.WAITING] == self.workers - self.serving + (not self.at_the_door)
                and self.workers >= self.threads)

    def model(self) -> str:
        return f"workers={self.workers} threads={self.threads} room={self.room} at_the_door={self.at_the_door}"


TestPool = Pool.TestCase
TestPool.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


@pytest.mark.parametrize("model", [PooledTaskmaster, RecyclingTaskmaster])
@pytest.mark.parametrize(("arguments", "message"), [
    ({"idle": "sleep"}, "idle='sleep': pass one of 'hold', 'park'"),
    ({"idle": None}, "idle=None: pass one of 'hold', 'park'"),
    ({"idle": "park", "inline": True}, "inline=True: pass one of 'fair', 'always', 'never'"),
    ({"idle": "hold", "inline": "always"},
     "inline='always' with idle='hold': a thread goes on with its connection anyway; add idle='park', or drop inline"),
])
def test_wrong_arguments_are_refused_with_the_fix(model: Callable[..., object], arguments: dict[str, Any],
                                                  message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        model(**arguments)
