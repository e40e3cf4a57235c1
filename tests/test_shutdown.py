"""Stopping, with a thread held in each state that a model's docstring documents, reached through gates."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import pytest

from taskmaster import (
    PooledTaskmaster,
    RecyclingTaskmaster,
    SingleThreadedTaskmaster,
    ThreadedTaskmaster,
    ThreadPerConnectionTaskmaster,
    ThreadState,
    contract_tools,
)
from taskmaster.scripted import PATIENCE, ScriptedAcceptor

T = TypeVar("T", bound=ThreadedTaskmaster)

MODELS: dict[str, Callable[[], ThreadedTaskmaster]] = {
    "single": SingleThreadedTaskmaster,
    "per_connection": lambda: ThreadPerConnectionTaskmaster(max_thread_count=2, max_accept_count=1),
    "pooled": lambda: PooledTaskmaster(threads=2, queue_size=1),
    "recycling": lambda: RecyclingTaskmaster(standby=1, max_thread_count=2, max_accept_count=1),
}
QUEUEING = [name for name in MODELS if name != "single"]


@pytest.fixture(params=MODELS)
def taskmaster(request: pytest.FixtureRequest) -> ThreadedTaskmaster:
    return MODELS[request.param]()


@contextmanager
def running(taskmaster: T) -> Iterator[tuple[ScriptedAcceptor, T]]:
    """As the contract suite does, and its threads have ended too, not only in the books."""
    before = set(threading.enumerate())
    with contract_tools.running(taskmaster) as (acceptor, _):
        yield acceptor, taskmaster
    assert set(threading.enumerate()) == before, "shutdown() returned before its threads had ended"


class Gate:
    """Wraps start_thread so that threads wait before their loop, or after it."""

    def __init__(self, taskmaster: ThreadedTaskmaster, *, before: bool = False, after: bool = False) -> None:
        self.open = threading.Event()
        self.arrived = threading.Semaphore(0)
        original = taskmaster.start_thread

        def start_thread(target: Callable[[], None], name: str) -> None:
            def held() -> None:
                if before:
                    self.wait()
                target()
                if after:
                    self.wait()
            original(held, name)

        taskmaster.start_thread = start_thread  # type: ignore[method-assign]

    def wait(self) -> None:
        self.arrived.release()
        assert self.open.wait(PATIENCE)

    def reached(self) -> None:
        assert self.arrived.acquire(timeout=PATIENCE), "no thread came to the gate"


def test_a_thread_that_is_starting_is_waited_for(taskmaster: ThreadedTaskmaster) -> None:
    gate = Gate(taskmaster, before=True)
    with running(taskmaster) as (acceptor, _):
        gate.reached()
        assert taskmaster.snapshot().threads[ThreadState.STARTING] >= 1
        acceptor.close()
        assert "(starting)" in taskmaster.shutdown(0.0)
        gate.open.set()


def test_a_thread_that_is_accepting_leaves(taskmaster: ThreadedTaskmaster) -> None:
    with running(taskmaster) as (acceptor, _):
        acceptor.wait_until(lambda: bool(acceptor.accepting), "a thread in accept()", taskmaster.snapshot)
        assert taskmaster.snapshot().threads[ThreadState.ACCEPTING] >= 1
        acceptor.close()
        assert not taskmaster.shutdown(PATIENCE)


def test_a_thread_that_waits_for_a_connection_leaves() -> None:
    with running(PooledTaskmaster(threads=3)) as (acceptor, taskmaster):
        acceptor.wait_until(lambda: taskmaster.snapshot().threads[ThreadState.WAITING] == 3, "3 waiting workers")
        acceptor.close()
        assert not taskmaster.shutdown(PATIENCE)


@pytest.mark.parametrize("make", [
    lambda: PooledTaskmaster(threads=1, queue_size=None),
    lambda: ThreadPerConnectionTaskmaster(max_thread_count=1, max_accept_count=None),
], ids=["pooled", "per_connection"])
def test_an_accepting_thread_that_waits_for_room_takes_what_is_left_and_leaves(
        make: Callable[[], ThreadedTaskmaster]) -> None:
    with running(make()) as (acceptor, taskmaster):
        first, second = acceptor.connect(2)
        first.wait_for("processing")
        acceptor.wait_until(lambda: taskmaster.snapshot().threads[ThreadState.WAITING] == 1, "one to wait for room",
                            taskmaster.snapshot)
        acceptor.close()
        assert taskmaster.shutdown(0.0)
        assert second.state == "queued"
        first.finish()
        second.wait_for("processing")
        second.finish()
        assert not taskmaster.shutdown(PATIENCE)


def test_a_thread_that_serves_is_waited_for_and_named_when_it_is_late(taskmaster: ThreadedTaskmaster) -> None:
    with running(taskmaster) as (acceptor, _):
        (connection,) = acceptor.connect()
        connection.wait_for("processing")
        acceptor.close()
        late = taskmaster.shutdown(0.01)
        assert connection.thread is not None
        assert connection.thread.name in late
        connection.finish()
        assert not taskmaster.shutdown(PATIENCE)


def test_a_worker_that_is_starting_still_serves_its_connection() -> None:
    """A thread per connection: the worker counts as SERVING from its promise on, before there is a Thread."""
    with running(ThreadPerConnectionTaskmaster(max_thread_count=1, max_accept_count=0)) as (acceptor, taskmaster):
        acceptor.wait_until(lambda: bool(acceptor.accepting), "the accepting thread")
        gate = Gate(taskmaster, before=True)
        first, second = acceptor.connect(2)
        gate.reached()
        second.wait_for("refused")
        now = taskmaster.snapshot()
        assert (now.threads[ThreadState.SERVING], now.queued, now.accepted, now.refused) == (1, 0, 2, 1), now
        acceptor.close()
        assert "(starting)" in taskmaster.shutdown(0.0)
        assert first.state == "accepted"
        gate.open.set()
        first.finish()
        assert not taskmaster.shutdown(PATIENCE)
        assert first.state == "processed"


def test_a_thread_that_is_leaving_is_joined_and_named_when_it_is_late(taskmaster: ThreadedTaskmaster) -> None:
    gate = Gate(taskmaster, after=True)
    with running(taskmaster) as (acceptor, _):
        acceptor.settle(acceptor.connect(1, finished=True), "processed")
        acceptor.close()
        gate.reached()
        late = taskmaster.shutdown(0.01)
        assert late, "a thread past its loop, but not ended, must be named"
        assert taskmaster.snapshot().threads[ThreadState.LEAVING] >= 1
        gate.open.set()


@pytest.mark.parametrize("model", QUEUEING)
def test_connections_that_wait_for_a_thread_are_served_before_it_ends(model: str) -> None:
    with running(MODELS[model]()) as (acceptor, taskmaster):
        connections = acceptor.connect(3)
        acceptor.wait_until(lambda: acceptor.count("processing") == 2 and acceptor.count("accepted") == 1,
                            "2 served, 1 waiting", taskmaster.snapshot)
        acceptor.close()
        assert taskmaster.shutdown(0.0)
        acceptor.finish_all()
        assert not taskmaster.shutdown(PATIENCE)
        assert {connection.state for connection in connections} == {"processed"}


def test_every_documented_state_has_a_test_here() -> None:
    """The tables in the docstrings name the states; this file reaches each of them."""
    import taskmaster.per_connection
    import taskmaster.pooled
    import taskmaster.recycling
    import taskmaster.single
    documented = {
        module.__name__: {line.split()[0] for line in (module.__doc__ or "").splitlines()
                          if line.strip() and line.split()[0] in ThreadState.__members__}
        for module in (taskmaster.single, taskmaster.per_connection, taskmaster.pooled, taskmaster.recycling)
    }
    everyone = {"STARTING", "ACCEPTING", "SERVING", "LEAVING"}
    assert documented == {
        "taskmaster.single": everyone,
        "taskmaster.per_connection": everyone | {"WAITING"},
        "taskmaster.pooled": everyone | {"WAITING"},
        "taskmaster.recycling": everyone,
    }
