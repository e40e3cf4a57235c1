"""The contract suite over every model of ours, and over some that are wrong: it must find that."""

from __future__ import annotations

import threading
from collections import deque

import pytest

from taskmaster import (
    AcceptorSteps,
    Connection,
    PooledTaskmaster,
    RecyclingTaskmaster,
    SingleThreadedTaskmaster,
    Taskmaster,
    ThreadedTaskmaster,
    ThreadPerConnectionTaskmaster,
    ThreadState,
    scripted,
)
from taskmaster.contract import LimitedTaskmasterContract, ParkingTaskmasterContract, TaskmasterContract


class TestSingleThreaded(TaskmasterContract):
    concurrent = False

    def make_taskmaster(self) -> Taskmaster:
        return SingleThreadedTaskmaster()


class TestThreadPerConnection(LimitedTaskmasterContract):
    def make_taskmaster(self) -> Taskmaster:
        return ThreadPerConnectionTaskmaster()

    def make_limited(self, max_thread_count: int, max_accept_count: int | None) -> Taskmaster:
        return ThreadPerConnectionTaskmaster(max_thread_count=max_thread_count, max_accept_count=max_accept_count)


class TestPooled(LimitedTaskmasterContract):
    def make_taskmaster(self) -> Taskmaster:
        return PooledTaskmaster(threads=20, idle="hold")

    def make_limited(self, max_thread_count: int, max_accept_count: int | None) -> Taskmaster:
        return PooledTaskmaster(threads=max_thread_count, queue_size=max_accept_count, idle="hold")


class TestRecycling(LimitedTaskmasterContract):
    one_accepts = False

    def make_taskmaster(self) -> Taskmaster:
        return RecyclingTaskmaster(standby=4, idle="hold")

    def make_limited(self, max_thread_count: int, max_accept_count: int | None) -> Taskmaster:
        return RecyclingTaskmaster(standby=1, max_thread_count=max_thread_count, max_accept_count=max_accept_count,
                                   idle="hold")


class TestPooledThatParks(LimitedTaskmasterContract, ParkingTaskmasterContract):
    def make_taskmaster(self) -> Taskmaster:
        return PooledTaskmaster(threads=20, idle="park")

    def make_limited(self, max_thread_count: int, max_accept_count: int | None) -> Taskmaster:
        return PooledTaskmaster(threads=max_thread_count, queue_size=max_accept_count, idle="park")

    make_parking = make_limited


class TestRecyclingThatParks(LimitedTaskmasterContract, ParkingTaskmasterContract):
    one_accepts = False

    def make_taskmaster(self) -> Taskmaster:
        return RecyclingTaskmaster(standby=4, idle="park")

    def make_limited(self, max_thread_count: int, max_accept_count: int | None) -> Taskmaster:
        return RecyclingTaskmaster(standby=1, max_thread_count=max_thread_count, max_accept_count=max_accept_count,
                                   idle="park")

    make_parking = make_limited


# A queue for each worker: in the books it is one.

class Queues:
    """What the books, and those who give back, ask of `queue`."""

    def __init__(self, count: int) -> None:
        self.each = [deque[Connection]() for _ in range(count)]
        self.next = 0

    def append(self, connection: Connection) -> None:
        self.each[self.next].append(connection)
        self.next = (self.next + 1) % len(self.each)

    def take(self, number: int, *, steal: bool) -> Connection | None:
        queue = self.each[number] or (max(self.each, key=len) if steal else self.each[number])
        return queue.popleft() if queue else None

    def clear(self) -> None:
        for queue in self.each:
            queue.clear()

    def remove(self, connection: Connection) -> None:
        next(queue for queue in self.each if connection in queue).remove(connection)

    def __contains__(self, connection: Connection) -> bool:
        return any(connection in queue for queue in self.each)

    def __len__(self) -> int:
        return sum(map(len, self.each))


class QueuesTaskmaster(ThreadedTaskmaster):
    """One thread accepts, and deals out. A worker whose queue is empty steals from the longest."""

    steals = True

    def __init__(self, threads: int, queue_size: int | None = None) -> None:
        super().__init__()
        self.max_thread_count: int = threads
        self.max_accept_count = queue_size
        self.queues = Queues(threads)
        self.queue = self.queues  # type: ignore[assignment]  # it has what is needed of a deque
        self.closed = False
        self.dealt = threading.Condition(self.lock)
        self.room = threading.Condition(self.lock)

    def execute_acceptor(self, acceptor: AcceptorSteps) -> None:
        self.begin(acceptor)
        self.closed = False
        self.start(self._accept_loop, "accept")
        for number in range(self.max_thread_count):
            self.start(lambda number=number: self._work(number), "worker")  # type: ignore[misc]

    def handle_incoming_connection(self, connection: Connection) -> None:
        with self.lock:
            self.accepted += 1
            admitted = self.max_accept_count is None or self._room_locked(self.max_accept_count)
            if admitted:
                self.queue.append(connection)
                self.dealt.notify_all()
            else:
                self.refused += 1
        if not admitted:
            self.refuse(connection)

    def _room_locked(self, waiting: int) -> bool:
        return self.counts[ThreadState.SERVING] + len(self.queue) < self.max_thread_count + waiting

    def _accept_loop(self) -> None:
        while True:
            with self.lock:
                self.enter_locked(ThreadState.WAITING)
                self.room.wait_for(lambda: self.max_accept_count is not None or self._room_locked(0))
                self.enter_locked(ThreadState.ACCEPTING)
            if (connection := self.acceptor.accept()) is None:
                break
            self.hand_over(connection)
        with self.lock:
            self.closed = True
            self.dealt.notify_all()
            self.leave_locked("stopped")

    def _work(self, number: int) -> None:
        self.enter(ThreadState.WAITING)
        while True:
            with self.lock:
                while (connection := self.queues.take(number, steal=self.steals)) is None:
                    if self.closed:
                        self.leave_locked("stopped")
                        return
                    self.dealt.wait()
                self.enter_locked(ThreadState.SERVING)
            self.process(connection)
            with self.lock:
                self.served += 1
                self.enter_locked(ThreadState.WAITING)
                self.room.notify()


class TestQueues(LimitedTaskmasterContract):
    def make_taskmaster(self) -> Taskmaster:
        return QueuesTaskmaster(20)

    def make_limited(self, max_thread_count: int, max_accept_count: int | None) -> Taskmaster:
        return QueuesTaskmaster(max_thread_count, max_accept_count)


# What is wrong is found.

def test_a_queue_for_each_worker_from_which_no_other_takes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripted, "PATIENCE", 0.5)
    monkeypatch.setattr(QueuesTaskmaster, "steals", False)
    with pytest.raises(AssertionError, match=r"whoever waits to be processed: client \d has left, so"):
        TestQueues().test_whoever_becomes_free_takes_what_waits_while_all_others_are_stuck()


def test_a_model_that_keeps_what_has_been_withdrawn_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PooledTaskmaster, "withdraw", Taskmaster.withdraw)
    with pytest.raises(AssertionError, match=r"of 1 that waited one is withdrawn; the books say .* queued=1"):
        TestPooled().test_what_is_withdrawn_waits_no_more_and_its_place_is_free()


class ParksFirst(PooledTaskmaster):
    """...and counts it as parked afterwards."""

    def _count_parked(self) -> None:
        pass

    def park(self, connection: Connection) -> bool:
        parked = super().park(connection)
        super()._count_parked()
        return parked


def test_one_that_parks_before_it_counts_is_found() -> None:
    class Suite(TestPooledThatParks):
        __test__ = False

        def make_parking(self, max_thread_count: int, max_accept_count: int | None) -> Taskmaster:
            return ParksFirst(threads=max_thread_count, queue_size=max_accept_count)

    with pytest.raises(AssertionError, match=r"is counted as parked before it is parked"):
        Suite().test_one_that_is_back_before_park_returns_has_been_counted_as_parked()
