"""Growing and shrinking: by the rules, and by `resize`, while everything runs; each decision on record."""

from __future__ import annotations

import mmap
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from taskmaster import (
    PooledTaskmaster,
    RecyclingTaskmaster,
    SingleThreadedTaskmaster,
    TaskmasterBusyError,
    ThreadedTaskmaster,
    ThreadPerConnectionTaskmaster,
    ThreadState,
)
from taskmaster.books import CELLS, Decision, snapshot_from
from taskmaster.contract_tools import balances, before_each
from taskmaster.scripted import PATIENCE, ScriptedAcceptor
from tests.test_shutdown import Gate, running

Resize = Callable[[Any, int], None]


def resize_pool(taskmaster: PooledTaskmaster, most: int) -> None:
    taskmaster.resize(most)


def resize_recycling(taskmaster: RecyclingTaskmaster, most: int) -> None:
    taskmaster.resize(standby=1, max_thread_count=most)


MODELS: dict[str, tuple[Callable[[int, int | None], ThreadedTaskmaster], Resize]] = {
    "per_connection": (lambda most, room: ThreadPerConnectionTaskmaster(max_thread_count=most, max_accept_count=room),
                       lambda taskmaster, most: taskmaster.resize(most)),
    "pooled": (lambda most, room: PooledTaskmaster(threads=most, queue_size=room), resize_pool),
    "recycling": (lambda most, room: RecyclingTaskmaster(standby=1, max_thread_count=most, max_accept_count=room),
                  resize_recycling),
}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> tuple[Callable[[int, int | None], ThreadedTaskmaster], Resize]:
    return MODELS[request.param]


Model = tuple[Callable[[int, int | None], ThreadedTaskmaster], Resize]


def serving(acceptor: ScriptedAcceptor, count: int, taskmaster: ThreadedTaskmaster) -> None:
    acceptor.wait_until(lambda: acceptor.count("processing") == count == taskmaster.counts[ThreadState.SERVING],
                        f"{count} to be served", taskmaster.snapshot)


# resize, in the models that have it.

@pytest.mark.parametrize("room", [10, None])
def test_more_threads_serve_at_once_what_waits(model: Model, room: int | None) -> None:
    make, resize = model
    with running(make(2, room)) as (acceptor, taskmaster):
        acceptor.connect(6)
        serving(acceptor, 2, taskmaster)
        resize(taskmaster, 5)
        serving(acceptor, 5, taskmaster)
        assert taskmaster.max_thread_count == 5


@pytest.mark.parametrize("room", [10, None])
def test_fewer_threads_leave_when_they_are_free_and_none_in_the_middle(model: Model, room: int | None) -> None:
    make, resize = model
    with running(make(5, room)) as (acceptor, taskmaster):
        first = acceptor.connect(5)
        serving(acceptor, 5, taskmaster)
        resize(taskmaster, 2)
        assert acceptor.count("processing") == 5
        waiting = acceptor.connect(3)
        for left, connection in zip((4, 3, 2, 2, 2), first, strict=True):
            connection.finish()
            connection.wait_for("processed")
            serving(acceptor, left, taskmaster)
        acceptor.finish_all()
        acceptor.settle(waiting, "processed")
        now = taskmaster.snapshot()
        assert (now.refused, now.served) == (0, 8), now


def test_resizing_without_end_loses_nothing(model: Model) -> None:
    make, resize = model
    with running(make(3, 50)) as (acceptor, taskmaster):
        ended = threading.Event()

        def resize_without_end() -> None:
            while not ended.is_set():
                for most in (1, 6, 2, 4):
                    resize(taskmaster, most)

        resizer = threading.Thread(target=resize_without_end)
        resizer.start()
        try:
            for _ in range(30):
                acceptor.settle(acceptor.connect(10, requests=2), "processed", "refused")
                now = taskmaster.snapshot()
                assert balances(now), now
        finally:
            ended.set()
            resizer.join(PATIENCE)
        assert acceptor.peak <= 6, acceptor.peak
        resize(taskmaster, 2)
        acceptor.connect(10)
        serving(acceptor, 2, taskmaster)


def test_a_second_resize_changes_nothing_and_one_before_the_start_is_for_the_start(model: Model) -> None:
    make, resize = model
    taskmaster = make(1, 5)
    resize(taskmaster, 3)
    assert taskmaster.snapshot().thread_count == 0
    with running(taskmaster) as (acceptor, _):
        acceptor.connect(4)
        serving(acceptor, 3, taskmaster)
        before = taskmaster.snapshot()
        for _ in range(3):
            resize(taskmaster, 3)
        assert taskmaster.snapshot() == before


def test_a_resize_in_a_handler_is_fine(model: Model) -> None:
    make, resize = model
    with running(make(1, 5)) as (acceptor, taskmaster):
        for step in ("process_connection", "process_until_idle"):
            before_each(acceptor, step, lambda *arguments: resize(taskmaster, 2))
        acceptor.connect(2)
        serving(acceptor, 2, taskmaster)


def test_a_resize_after_the_stop_makes_no_threads(model: Model) -> None:
    make, resize = model
    taskmaster = make(1, 5)
    with running(taskmaster) as (acceptor, _):
        acceptor.connect(1)
        serving(acceptor, 1, taskmaster)
        acceptor.close()
        assert taskmaster.shutdown(0.0)
        threads = taskmaster.snapshot().thread_count
        resize(taskmaster, 8)
        assert taskmaster.snapshot().thread_count <= threads
    resize(taskmaster, 9)
    assert taskmaster.snapshot().thread_count == 0


def test_a_thread_that_the_system_does_not_give_is_logged_and_comes_later(
        model: Model, caplog: pytest.LogCaptureFixture) -> None:
    make, resize = model
    with running(make(1, 3)) as (acceptor, taskmaster):
        acceptor.connect(3)
        serving(acceptor, 1, taskmaster)
        acceptor.wait_until(lambda: acceptor.count("accepted") == 2, "2 to be queued", taskmaster.snapshot)
        original = taskmaster.start_thread

        def start_thread(target: Callable[[], None], name: str) -> None:
            raise RuntimeError("can't start new thread")

        taskmaster.start_thread = start_thread  # type: ignore[method-assign]
        resize(taskmaster, 3)
        assert "can't start new thread" in caplog.text
        now = taskmaster.snapshot()
        assert balances(now), now
        assert (now.queued, now.refused) == (2, 0), f"those that wait go on waiting; {now}"
        taskmaster.start_thread = original  # type: ignore[method-assign]
        resize(taskmaster, 3)
        serving(acceptor, 3, taskmaster)


@pytest.mark.parametrize(("taskmaster", "arguments", "message"), [
    (PooledTaskmaster(), {"threads": 0}, "threads=0: pass a whole number of at least 1"),
    (RecyclingTaskmaster(), {"standby": 101}, "standby=101 is more than max_thread_count=100: lower the one or raise"),
    (RecyclingTaskmaster(), {"max_thread_count": 3}, "standby=4 is more than max_thread_count=3: lower the one or"),
    (RecyclingTaskmaster(), {"max_thread_count": True}, "max_thread_count=True: pass a whole number of at least 1"),
    (ThreadPerConnectionTaskmaster(), {"max_thread_count": None}, "max_accept_count=20 without max_thread_count"),
    (ThreadPerConnectionTaskmaster(), {"max_thread_count": 0}, "max_thread_count=0: pass a whole number of at least 1"),
])
def test_wrong_sizes_are_refused_with_the_fix_and_change_nothing(taskmaster: Any, arguments: dict[str, Any],
                                                                 message: str) -> None:
    before = (taskmaster.max_thread_count, getattr(taskmaster, "standby", None))
    with pytest.raises((TypeError, ValueError)) as error:
        taskmaster.resize(**arguments)
    assert message in str(error.value)
    assert (taskmaster.max_thread_count, getattr(taskmaster, "standby", None)) == before


# Where resize meets what goes on.

def test_recycling_without_a_waiting_room_queues_what_surplus_waiters_accept_and_they_leave() -> None:
    with running(RecyclingTaskmaster(standby=3, max_thread_count=3)) as (acceptor, taskmaster):
        acceptor.wait_until(lambda: len(acceptor.accepting) == 3, "3 waiters", taskmaster.snapshot)
        taskmaster.resize(standby=1, max_thread_count=1)
        connections = [acceptor.connect()[0] for _ in range(4)]
        acceptor.wait_until(lambda: not acceptor.accepting and acceptor.count("accepted") == 2,
                            "1 to be served, and 2 waiters to have taken one each, and left", taskmaster.snapshot)
        assert [c.state for c in connections].count("queued") == 1
        acceptor.finish_all()
        acceptor.settle(connections, "processed")
        acceptor.wait_until(lambda: len(acceptor.accepting) == 1, "1 waiter", taskmaster.snapshot)
        now = taskmaster.snapshot()
        assert (now.refused, acceptor.peak, now.shrunk) == (0, 1, {"resized": 2}), now


def test_recycling_with_a_waiting_room_keeps_one_at_the_door_however_crowded_it_is() -> None:
    with running(RecyclingTaskmaster(standby=1, max_thread_count=3, max_accept_count=1)) as (acceptor, taskmaster):
        served = acceptor.connect(3)
        serving(acceptor, 3, taskmaster)
        taskmaster.resize(max_thread_count=1)
        acceptor.time_out(1)
        acceptor.connect()[0].wait_for("accepted")
        acceptor.connect()[0].wait_for("refused")
        assert taskmaster.snapshot().thread_count == 4, "3 that serve, and 1 at the door"
        for left, connection in zip((2, 1, 1), served, strict=True):
            connection.finish()
            serving(acceptor, left, taskmaster)
        acceptor.wait_until(lambda: taskmaster.snapshot().thread_count - taskmaster.counts[ThreadState.LEAVING] == 2,
                            "1 that serves, and 1 at the door", taskmaster.snapshot)


def test_recycling_starts_no_more_threads_than_are_needed_for_what_is_queued() -> None:
    with running(RecyclingTaskmaster(standby=1, max_thread_count=1, max_accept_count=2)) as (acceptor, taskmaster):
        acceptor.connect(3)
        acceptor.wait_until(lambda: acceptor.count("accepted") == 2, "2 to be queued", taskmaster.snapshot)
        gate = Gate(taskmaster, before=True)
        taskmaster.resize(max_thread_count=10)
        assert taskmaster.snapshot().grown["resized"] == 2, taskmaster.snapshot()
        gate.open.set()
        serving(acceptor, 3, taskmaster)


def test_per_connection_without_a_waiting_room_queues_what_it_accepts_while_it_shrinks() -> None:
    taskmaster = ThreadPerConnectionTaskmaster(max_thread_count=2, max_accept_count=None)
    with running(taskmaster) as (acceptor, _):
        (first,) = acceptor.connect()
        first.wait_for("processing")
        acceptor.wait_until(lambda: bool(acceptor.accepting), "room for another, and so a thread at the door")
        taskmaster.resize(1)
        (second,) = acceptor.connect()
        second.wait_for("accepted")
        first.finish()
        second.wait_for("processing")
        assert taskmaster.snapshot().refused == 0


def test_a_pool_whose_acceptor_closes_before_there_is_a_worker_serves_what_it_queued_and_no_more_at_once() -> None:
    taskmaster, acceptor = PooledTaskmaster(threads=1), ScriptedAcceptor()
    original = taskmaster.start_thread

    def start_thread(target: Callable[[], None], name: str) -> None:
        if name.startswith("worker"):
            acceptor.wait_until(lambda: taskmaster.counts[ThreadState.LEAVING] == 1, "the accepting thread to leave")
        original(target, name)

    taskmaster.start_thread = start_thread  # type: ignore[method-assign]
    connections = acceptor.connect(3)
    acceptor.close()
    taskmaster.execute_acceptor(acceptor)
    for _ in connections:
        serving(acceptor, 1, taskmaster)
        served = next(connection for connection in connections if connection.state == "processing")
        served.finish()
        served.wait_for("processed")
    assert not taskmaster.shutdown(PATIENCE)
    assert (acceptor.count("processed"), acceptor.peak) == (3, 1)


def test_a_pool_that_could_not_grow_goes_on_with_no_connection_while_another_waits() -> None:
    with running(PooledTaskmaster(threads=1, idle="park")) as (acceptor, taskmaster):
        def start_thread(target: Callable[[], None], name: str) -> None:
            raise RuntimeError("can't start new thread")

        taskmaster.start_thread = start_thread  # type: ignore[method-assign]
        taskmaster.resize(3)
        greedy, newcomer = acceptor.connect(2)
        greedy.wait_for("processing")
        newcomer.wait_for("accepted")
        greedy.again()
        newcomer.wait_for("processing")


# The rules.

def test_what_never_ends_freezes_nobody_else() -> None:
    """granian#873: a response that never ends must cost its own thread only, however few stand by."""
    with running(RecyclingTaskmaster(standby=1, max_thread_count=3)) as (acceptor, taskmaster):
        endless = acceptor.connect(2)
        acceptor.settle(endless, "processing")
        for _ in range(20):
            acceptor.settle(acceptor.connect(1, finished=True), "processed")
        assert acceptor.count("processing") == 2
        acceptor.time_out(1)
        acceptor.settle(acceptor.connect(1, finished=True), "processed")
        assert taskmaster.snapshot().thread_count <= 3, taskmaster.snapshot()


def test_a_higher_standby_is_there_at_once_and_a_lower_one_after_the_timeout() -> None:
    with running(RecyclingTaskmaster(standby=2, max_thread_count=20)) as (acceptor, taskmaster):
        taskmaster.resize(standby=6)
        acceptor.wait_until(lambda: len(acceptor.accepting) == 6, "6 waiters", taskmaster.snapshot)
        taskmaster.resize(standby=1)
        acceptor.wait_until(lambda: len(acceptor.accepting) == 6, "still 6 waiters", taskmaster.snapshot)
        acceptor.time_out(10)
        acceptor.wait_until(lambda: len(acceptor.accepting) == 1, "1 waiter", taskmaster.snapshot)
        assert taskmaster.snapshot().grown == {"start": 2, "resized": 4}
        assert taskmaster.snapshot().shrunk == {"idle for 10 s": 5}


# The record.

def test_every_decision_is_on_record_with_its_reason() -> None:
    begun = time.monotonic()
    taskmaster = RecyclingTaskmaster(standby=1, max_thread_count=2)
    with running(taskmaster) as (acceptor, _):
        (first,) = acceptor.connect()
        first.wait_for("processing")
        acceptor.wait_until(lambda: len(acceptor.accepting) == 1, "a replacement", taskmaster.snapshot)
        first.finish()
        acceptor.wait_until(lambda: len(acceptor.accepting) == 2, "2 waiters", taskmaster.snapshot)
        acceptor.time_out(1)
        acceptor.wait_until(lambda: len(acceptor.accepting) == 1, "1 waiter", taskmaster.snapshot)
        taskmaster.resize(standby=2)
        acceptor.wait_until(lambda: len(acceptor.accepting) == 2, "2 waiters", taskmaster.snapshot)
    record = taskmaster.decisions
    assert [decision[1:] for decision in record] == [
        (+1, "start", 1), (+1, "the last waiter was taken", 2), (-1, "idle for 10 s", 1), (+1, "resized", 2),
        (-1, "stopped", 1), (-1, "stopped", 0)]
    times = [begun, *(decision.time for decision in record), time.monotonic()]
    assert times == sorted(times)
    now = taskmaster.snapshot()
    for change, counts in ((+1, now.grown), (-1, now.shrunk)):
        assert Counter(decision.reason for decision in record if decision.change == change) == counts


def test_the_record_is_bounded_and_a_copy() -> None:
    taskmaster = ThreadPerConnectionTaskmaster()
    with running(taskmaster) as (acceptor, _):
        for _ in range(20):
            acceptor.settle(acceptor.connect(10, finished=True), "processed")
        acceptor.wait_until(lambda: taskmaster.snapshot().shrunk.get("connection over") == 200, "all to have left")
        record = taskmaster.decisions
        assert len(record) == 256
        assert all(isinstance(decision, Decision) for decision in record)
        acceptor.settle(acceptor.connect(1, finished=True), "processed")
        assert record != taskmaster.decisions
    with running(taskmaster):
        assert [decision.reason for decision in taskmaster.decisions] == ["start"], "a new start, a new record"


# The numbers, where another process can read them.

def test_the_cells_may_be_memory_that_others_read() -> None:
    memory = mmap.mmap(-1, 8 * (CELLS + 2))
    with memoryview(memory) as whole, whole.cast("q") as cells:
        taskmaster = RecyclingTaskmaster(standby=2, max_thread_count=2, max_accept_count=2, idle="park")
        taskmaster.share(cells[1:])
        with running(taskmaster) as (acceptor, _):
            connections = acceptor.connect(3)
            connections[0].idle()
            acceptor.wait_until(lambda: acceptor.count("parked") == 1 and acceptor.count("processing") == 2,
                                "1 parked, 2 served", taskmaster.snapshot)
            acceptor.connect(3)
            acceptor.settle(acceptor.connections[-1:], "accepted", "refused")
            acceptor.wait_until(lambda: acceptor.count("refused") == 1 and len(acceptor.accepting) == 1,
                                "2 queued, 1 refused", taskmaster.snapshot)
            now = taskmaster.snapshot()
            assert snapshot_from(cells[1:], now.grown, now.shrunk) == now
            assert (cells[0], cells[CELLS + 1]) == (0, 0), "beside its own"
        taskmaster.share([0] * CELLS)


def test_what_is_read_beside_a_writer_balances() -> None:
    taskmaster = PooledTaskmaster(threads=4, idle="park")
    cells = [0] * CELLS
    taskmaster.share(cells)
    with running(taskmaster) as (acceptor, _):
        for _ in range(20):
            connections = acceptor.connect(10, requests=5)
            while not all(connection.state in ("processed", "refused") for connection in connections):
                now = snapshot_from(cells)
                assert balances(now), now


def test_a_reading_in_the_middle_of_a_change_balances_all_the_same() -> None:
    cells = [0, 1, 0, 1, 0, 1, 1, 0, 0]  # served already, and not yet out of SERVING
    now = snapshot_from(cells)
    assert balances(now), now
    assert (now.served, now.queued, now.threads[ThreadState.SERVING]) == (1, 0, 1)


def test_what_changes_while_it_is_read_is_read_again() -> None:
    class Changing(list[int]):
        """Each reading of all of them is the next of `readings`."""

        def __init__(self, *readings: list[int]) -> None:
            super().__init__(readings[0])
            self.readings = list(readings)

        def __getitem__(self, which: Any) -> Any:
            return self.readings.pop(0) if len(self.readings) > 1 else self.readings[0]

    torn = [0, 1, 0, 1, 0, 0, 0, 0, 0]  # SERVING before it is accepted
    right = [0, 0, 0, 1, 0, 1, 0, 0, 0]
    for readings in ([torn, right], [torn, torn, torn, right], [[1] * CELLS, torn, right, right]):
        now = snapshot_from(Changing(*readings))
        assert (now.accepted, now.queued, now.threads[ThreadState.ACCEPTING]) == (1, 0, 0), (readings, now)


def test_cells_are_installed_before_the_start_and_there_must_be_enough() -> None:
    taskmaster = SingleThreadedTaskmaster()
    with pytest.raises(ValueError, match=f"cells: {CELLS - 1} of them; pass at least {CELLS}"):
        taskmaster.share([0] * (CELLS - 1))
    with running(taskmaster):
        with pytest.raises(RuntimeError, match=r"share\(\) while it runs"):
            taskmaster.share([0] * CELLS)
        with pytest.raises(TaskmasterBusyError):
            taskmaster.execute_acceptor(ScriptedAcceptor())
    stale = [7] * CELLS
    taskmaster.share(stale)
    assert stale == [0] * CELLS
