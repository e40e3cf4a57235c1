"""The contract as tests: whatever passes them can be given to any Acceptor. Run it on your own taskmaster with pytest:

    from taskmaster.contract import TaskmasterContract

    class TestMine(TaskmasterContract):
        def make_taskmaster(self):
            return MyTaskmaster()

or, if it has limits, inherit `LimitedTaskmasterContract` and define `make_limited` too. The acceptor is a scripted one
(`taskmaster.scripted`), so that a test can hold a connection at any point for as long as it likes, and no test depends
on how fast anything is. Nothing is imported here but the standard library.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from taskmaster.base import Connection, Snapshot, Taskmaster, ThreadState
from taskmaster.scripted import PATIENCE, ScriptedAcceptor, ScriptedConnection

__all__ = ["LimitedTaskmasterContract", "TaskmasterContract"]


class TaskmasterContract:
    """Inherit it and say how to make one of yours."""

    concurrent = True
    """Whether it serves two connections at once."""
    one_accepts = True
    """Whether a single thread accepts, from start to stop."""

    def make_taskmaster(self) -> Taskmaster:
        """A taskmaster with room for 20 connections at once, if it is concurrent at all."""
        raise NotImplementedError(f"{type(self).__name__} must define make_taskmaster(), returning a new taskmaster")

    # Serving.

    def test_every_connection_is_processed_once(self) -> None:
        with self.running() as (acceptor, taskmaster):
            for _ in range(10):
                connections = acceptor.connect(10, finished=True)
                acceptor.settle(connections, "processed")
            assert all(connection.history["processing"] == 1 for connection in acceptor.connections)
        snapshot = taskmaster.snapshot()
        assert (snapshot.accepted, snapshot.served, snapshot.refused) == (100, 100, 0), snapshot

    def test_a_connection_in_progress_does_not_keep_another_waiting(self) -> None:
        with self.running() as (acceptor, _):
            first, second = acceptor.connect(2)
            first.wait_for("processing")
            if not self.concurrent:
                assert second.state == "queued", "it says that it serves one at a time"
                first.finish()
            second.wait_for("processing")
            second.finish()
            second.wait_for("processed")
            assert first.state == ("processing" if self.concurrent else "processed")

    def test_no_connection_can_end_a_thread(self) -> None:
        with self.running() as (acceptor, taskmaster):
            for error in (ValueError("a bug"), OSError(9, "EBADF"), SystemExit(1), KeyboardInterrupt()):
                acceptor.settle(acceptor.connect(15, error=error, finished=True), "processed")
            acceptor.settle(acceptor.connect(15, finished=True), "processed")
            assert "died" not in taskmaster.snapshot().shrunk, taskmaster.snapshot().shrunk

    def test_a_hook_that_raises_does_not_end_the_accepting_thread(self) -> None:
        with self.running(taskmaster := self.make_taskmaster()) as (acceptor, _):
            original = taskmaster.handle_incoming_connection

            def hook(connection: Connection) -> None:
                if connection.peer == "client 1":
                    raise ValueError("from an override")
                original(connection)

            taskmaster.handle_incoming_connection = hook  # type: ignore[method-assign]
            lost, *rest = acceptor.connect(5, finished=True)
            acceptor.settle(rest, "processed")
            lost.wait_for("abandoned")

    def test_handle_incoming_connection_is_called_once_for_each_on_the_thread_that_accepted_it(self) -> None:
        calls: list[tuple[str, threading.Thread]] = []
        with self.running(taskmaster := self.make_taskmaster()) as (acceptor, _):
            original = taskmaster.handle_incoming_connection

            def hook(connection: Connection) -> None:
                calls.append((connection.peer, threading.current_thread()))
                assert threading.current_thread() not in acceptor.accepting
                original(connection)

            taskmaster.handle_incoming_connection = hook  # type: ignore[method-assign]
            connections = acceptor.connect(10, finished=True)
            acceptor.settle(connections, "processed")
        assert sorted(peer for peer, _ in calls) == sorted(connection.peer for connection in connections)
        if self.one_accepts:
            assert len(acceptor.acceptors) == 1, f"it says that one thread accepts; {acceptor.acceptors} did"

    # Counting.

    def test_the_snapshot_balances_at_every_moment(self) -> None:
        with self.running() as (acceptor, taskmaster):
            def all_served() -> bool:
                now = taskmaster.snapshot()
                assert balances(now), str(now)
                return now.served == len(acceptor.connections)

            for _ in range(10):
                acceptor.connect(20, finished=True)
                acceptor.wait_until(all_served, "all to be served", taskmaster.snapshot)

    def test_the_snapshot_balances_and_no_lock_is_held_at_every_call(self) -> None:
        acceptor, taskmaster = ScriptedAcceptor(), self.make_taskmaster()
        complaints = audit(acceptor, taskmaster)
        with self.running(taskmaster, acceptor):
            for _ in range(3):
                acceptor.settle(acceptor.connect(10, finished=True), "processed")
        assert not complaints, complaints

    def test_the_snapshot_shows_who_is_accepting(self) -> None:
        with self.running() as (acceptor, taskmaster):
            def as_many_as_there_are() -> bool:  # nobody enters or leaves accept() meanwhile
                inside, shown = len(acceptor.accepting), taskmaster.snapshot().threads[ThreadState.ACCEPTING]
                assert inside <= shown, f"{inside} threads are inside accept(), {shown} in the snapshot"
                return inside == shown > 0

            for _ in range(5):
                acceptor.wait_until(as_many_as_there_are, "some to be ACCEPTING, and inside accept()",
                                    taskmaster.snapshot)
                acceptor.settle(acceptor.connect(3, finished=True), "processed")

    def test_the_snapshot_shows_what_is_being_served(self) -> None:
        with self.running() as (acceptor, taskmaster):
            (connection,) = acceptor.connect()
            connection.wait_for("processing")
            now = taskmaster.snapshot()
            assert (now.threads[ThreadState.SERVING], now.accepted, now.served) == (1, 1, 0), now
            connection.finish()
        now = taskmaster.snapshot()
        assert (now.thread_count, now.queued, now.accepted, now.served, now.refused) == (0, 0, 1, 1, 0), now

    # Starting and stopping.

    def test_shutdown_joins_every_thread(self) -> None:
        before = set(threading.enumerate())
        with self.running() as (acceptor, _):
            acceptor.settle(acceptor.connect(10, finished=True), "processed")
        assert set(threading.enumerate()) == before
        assert not any(thread.is_alive() for thread in acceptor.threads)

    def test_shutdown_waits_for_what_is_in_progress(self) -> None:
        with self.running() as (acceptor, taskmaster):
            (connection,) = acceptor.connect()
            connection.wait_for("processing")
            acceptor.close()
            late, _ = shut_down(taskmaster, 0.01)
            assert connection.thread is not None
            assert connection.thread.name in late, f"{connection.thread.name} still serves, shutdown() named {late}"
            connection.finish()
            assert not taskmaster.shutdown(PATIENCE)
            assert connection.state == "processed"

    def test_shutdown_is_back_at_its_deadline_even_if_no_connection_ever_ends(self) -> None:
        deadline, moment = 0.3, 2.0  # ten threads, each with the deadline for itself, would take longer
        with self.running() as (acceptor, taskmaster):
            connections = acceptor.connect(10 if self.concurrent else 1)
            acceptor.settle(connections, "processing")
            acceptor.close()
            _, took = shut_down(taskmaster, deadline)
            assert deadline <= took < deadline + moment, f"shutdown({deadline}) took {took:.3f} s"

    def test_shutdown_again_changes_nothing(self) -> None:
        with self.running() as (acceptor, taskmaster):
            acceptor.close()
            for _ in range(3):
                assert not taskmaster.shutdown(PATIENCE)

    def test_what_was_queued_is_still_served_after_the_stop(self) -> None:
        with self.running() as (acceptor, taskmaster):
            acceptor.settle(acceptor.connect(1, finished=True), "processed")
            queued = acceptor.connect(10, finished=True)
            acceptor.close()
            assert not taskmaster.shutdown(PATIENCE)
            assert [connection.state for connection in queued] == ["processed"] * 10

    def test_shutdown_on_one_of_its_own_threads_is_refused(self) -> None:
        errors: list[BaseException] = []
        with self.running() as (acceptor, taskmaster):
            process = acceptor.process_connection

            def process_and_shut_down(connection: object) -> None:
                try:
                    taskmaster.shutdown(0.0)
                except RuntimeError as error:
                    errors.append(error)
                process(connection)  # type: ignore[arg-type]

            acceptor.process_connection = process_and_shut_down  # type: ignore[method-assign]
            acceptor.settle(acceptor.connect(1, finished=True), "processed")
        assert len(errors) == 1, "shutdown() on a serving thread must raise RuntimeError, or it waits for itself"

    def test_it_can_run_again_after_shutdown(self) -> None:
        taskmaster = self.make_taskmaster()
        for _ in range(3):
            with self.running(taskmaster) as (acceptor, _):
                acceptor.settle(acceptor.connect(5, finished=True), "processed")
            assert taskmaster.snapshot().served == 5, taskmaster.snapshot()

    def test_it_runs_one_acceptor_at_a_time(self) -> None:
        with self.running() as (_, taskmaster):
            try:
                taskmaster.execute_acceptor(ScriptedAcceptor())
            except RuntimeError:
                return
        raise AssertionError("execute_acceptor() must raise RuntimeError while it still runs another")

    # Threads.

    def test_every_thread_comes_from_start_thread(self) -> None:
        taskmaster = self.make_taskmaster()
        started: list[threading.Thread] = []
        original = taskmaster.start_thread

        def start_thread(target: Callable[[], None], name: str) -> None:
            def wrapped() -> None:
                started.append(threading.current_thread())
                target()
            original(wrapped, name)

        taskmaster.start_thread = start_thread  # type: ignore[method-assign]
        with self.running(taskmaster) as (acceptor, _):
            acceptor.settle(acceptor.connect(10, finished=True), "processed")
        assert acceptor.threads <= set(started)
        assert all(ScriptedAcceptor.name in thread.name for thread in started), "names say whose threads they are"

    def test_nothing_is_left_behind_when_no_thread_can_be_started(self) -> None:
        for possible in range(3):
            taskmaster = self.make_taskmaster()
            original, left = taskmaster.start_thread, possible

            def start_thread(target: Callable[[], None], name: str,
                             original: Callable[[Callable[[], None], str], None] = original) -> None:
                nonlocal left
                left -= 1
                if left < 0:
                    raise RuntimeError("can't start new thread")
                original(target, name)

            taskmaster.start_thread = start_thread  # type: ignore[method-assign]
            acceptor = ScriptedAcceptor()
            acceptor.connect(3, finished=True)
            try:
                taskmaster.execute_acceptor(acceptor)
            except RuntimeError:
                pass
            acceptor.close()
            assert not taskmaster.shutdown(PATIENCE)
            now = taskmaster.snapshot()
            assert now.thread_count == 0, now
            assert balances(now), now

    def test_a_connection_whose_thread_cannot_be_started_is_processed_or_refused_all_the_same(self) -> None:
        for error, too_late in ((RuntimeError("can't start new thread"), False), (SystemExit(1), False),
                                (RuntimeError("from an override, after super().start_thread()"), True)):
            acceptor, taskmaster = ScriptedAcceptor(), self.make_taskmaster()
            original, possible = taskmaster.start_thread, threading.Event()
            possible.set()

            def start_thread(target: Callable[[], None], name: str, *, error: BaseException = error,
                             too_late: bool = too_late, possible: threading.Event = possible,
                             original: Callable[[Callable[[], None], str], None] = original) -> None:
                if too_late or possible.is_set():
                    original(target, name)
                if not possible.is_set():
                    raise error

            taskmaster.start_thread = start_thread  # type: ignore[method-assign]
            complaints = audit(acceptor, taskmaster)
            with self.running(taskmaster, acceptor):
                acceptor.settle(acceptor.connect(1, finished=True), "processed")
                possible.clear()
                connections = acceptor.connect(10)
                acceptor.wait_until(lambda a=acceptor, t=taskmaster: not a.count("queued") or  # type: ignore[misc]
                                    not t.snapshot().threads[ThreadState.ACCEPTING], "all to be accepted, or nobody to "
                                    "be left who accepts", taskmaster.snapshot)
                acceptor.finish_all()
                acceptor.settle(connections, "processed", "refused")
                possible.set()
                acceptor.settle(acceptor.connect(5, finished=True), "processed")
            assert not complaints, complaints

    @contextmanager
    def running(self, taskmaster: Taskmaster | None = None, acceptor: ScriptedAcceptor | None = None
                ) -> Iterator[tuple[ScriptedAcceptor, Taskmaster]]:
        """A taskmaster (a new one, if none is given) that runs a scripted acceptor, until the end of the block.

        In the end no thread may be left, every connection must have come to an end, once, and the books must balance.
        """
        taskmaster, acceptor = taskmaster or self.make_taskmaster(), acceptor or ScriptedAcceptor()
        taskmaster.execute_acceptor(acceptor)
        try:
            yield acceptor, taskmaster
        finally:
            acceptor.close()
            acceptor.finish_all()
            late = taskmaster.shutdown(PATIENCE)
        now = taskmaster.snapshot()
        assert not late, f"these threads did not end: {late}; {now}"
        assert "died" not in now.shrunk, ("a thread died, or ended its loop without leave(reason): "
                                          f"{now.shrunk}; see the log")
        assert (now.thread_count, now.queued) == (0, 0), now
        assert balances(now), now
        for connection in acceptor.connections:
            ends = {state: connection.history[state] for state in ("processing", "refused", "abandoned")}
            assert sum(ends.values()) == 1, f"{connection.peer} must come to one end, once: {ends}"


class LimitedTaskmasterContract(TaskmasterContract):
    """The same, and more, for a taskmaster with limits."""

    def make_limited(self, max_thread_count: int, max_accept_count: int | None) -> Taskmaster:
        """One that serves so many at once, and lets so many wait; see `Taskmaster` for what None means."""
        raise NotImplementedError(f"{type(self).__name__} must define make_limited(), returning a new taskmaster")

    def test_so_many_are_served_so_many_wait_and_the_next_is_refused(self) -> None:
        for serving, waiting in ((1, 0), (1, 1), (3, 0), (2, 3), (5, 4)):
            with self.running(self.make_limited(serving, waiting)) as (acceptor, taskmaster):
                admitted = acceptor.connect(serving + waiting)
                acceptor.wait_until(lambda a=acceptor, s=serving: a.count("processing") == s,  # type: ignore[misc]
                                    f"{serving} to be served", taskmaster.snapshot)
                acceptor.wait_until(lambda a=acceptor, w=waiting: a.count("accepted") == w,  # type: ignore[misc]
                                    f"{waiting} to wait", taskmaster.snapshot)
                refused = acceptor.connect(7)
                acceptor.settle(refused, "refused")
                now = taskmaster.snapshot()
                assert (now.threads[ThreadState.SERVING], now.queued, now.refused) == (serving, waiting, 7), now
                acceptor.finish_all()
                acceptor.settle(admitted, "processed")
                assert acceptor.peak == serving

    def test_limits_hold_while_clients_come_and_go(self) -> None:
        with self.running(self.make_limited(4, 3)) as (acceptor, taskmaster):
            for _ in range(40):
                acceptor.connect(8, finished=True)
            acceptor.settle(acceptor.connections, "processed", "refused")
            now = taskmaster.snapshot()
            assert now.accepted == 320, now
            assert acceptor.peak <= 4, f"{acceptor.peak} were served at once"

    def test_without_a_waiting_room_nothing_is_accepted_that_cannot_be_served(self) -> None:
        with self.running(self.make_limited(3, None)) as (acceptor, taskmaster):
            connections = acceptor.connect(10)
            acceptor.wait_until(lambda: acceptor.count("processing") == 3, "3 to be served", taskmaster.snapshot)
            assert acceptor.count("queued") == 7, acceptor.connections
            acceptor.finish_all()
            acceptor.settle(connections, "processed")
            assert taskmaster.snapshot().refused == 0

    def test_refusing_makes_no_thread(self) -> None:
        with self.running(taskmaster := self.make_limited(1, 0)) as (acceptor, _):
            (served,) = acceptor.connect()
            served.wait_for("processing")
            acceptor.settle(acceptor.connect(1), "refused")  # whatever it needs for that, it has now
            started: list[str] = []
            before_each(taskmaster, "start_thread", lambda target, name: started.append(name))
            for _ in range(20):
                acceptor.settle(acceptor.connect(3), "refused")
            assert not started, f"refusing has started {started}"

    def test_too_many_requests_is_called_before_each_refusal_and_cannot_prevent_it(self) -> None:
        for error in (ValueError("from an override"), SystemExit(1)):
            taskmaster = self.make_limited(1, 0)
            told: list[tuple[str, str]] = []

            def hook(connection: ScriptedConnection, told: list[tuple[str, str]] = told,
                     error: BaseException = error) -> None:
                told.append((connection.peer, connection.state))
                raise error

            taskmaster.too_many_requests = hook  # type: ignore[method-assign, assignment]
            with self.running(taskmaster) as (acceptor, _):
                (served,) = acceptor.connect()
                served.wait_for("processing")
                refused = acceptor.connect(5)
                acceptor.settle(refused, "refused")
                assert sorted(told) == sorted((connection.peer, "accepted") for connection in refused)

    def test_the_snapshot_balances_and_no_lock_is_held_when_it_refuses(self) -> None:
        acceptor, taskmaster = ScriptedAcceptor(), self.make_limited(2, 1)
        complaints = audit(acceptor, taskmaster)
        with self.running(taskmaster, acceptor):
            admitted = acceptor.connect(3)
            acceptor.wait_until(lambda: (acceptor.count("processing"), acceptor.count("accepted")) == (2, 1),
                                "2 to be served, 1 to wait", taskmaster.snapshot)
            acceptor.settle(acceptor.connect(5), "refused")
            acceptor.finish_all()
            acceptor.settle(admitted, "processed")
        assert not complaints, complaints


def balances(now: Snapshot) -> bool:
    """Whether its numbers can be from one instant."""
    return (now.accepted == now.queued + now.threads[ThreadState.SERVING] + now.served + now.refused
            and set(now.threads) == set(ThreadState)
            and min(*now.threads.values(), now.queued, now.accepted, now.served, now.refused) >= 0)


def before_each(thing: object, method: str, call: Callable[..., object]) -> None:
    """Have `call` called, with the same arguments, before each call of that method of `thing`."""
    original = getattr(thing, method)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        call(*args, **kwargs)
        return original(*args, **kwargs)

    setattr(thing, method, wrapped)


def shut_down(taskmaster: Taskmaster, deadline: float) -> tuple[Sequence[str], float]:
    """What `shutdown(deadline)` returns, and the seconds it took; AssertionError if it does not return."""
    returned: list[tuple[Sequence[str], float]] = []

    def call() -> None:
        begun = time.monotonic()
        returned.append((taskmaster.shutdown(deadline), time.monotonic() - begun))

    caller = threading.Thread(target=call, daemon=True)
    caller.start()
    caller.join(PATIENCE)
    assert returned, f"shutdown({deadline}) has not returned after {PATIENCE:g} s"
    return returned[0]


def audit(acceptor: ScriptedAcceptor, taskmaster: Taskmaster) -> list[str]:
    """Before each hook and step that is called from now on, take a snapshot; return the list of complaints to come.

    It is taken by another thread: should the one that calls hold the lock, of whatever kind and name, that guards the
    numbers, it does not come. That others hold the lock for an instant is no reason to complain.
    """
    complaints: list[str] = []

    def check(what: str) -> None:
        if complaints:
            return  # one is enough
        taken: list[Snapshot] = []
        other = threading.Thread(target=lambda: taken.append(taskmaster.snapshot()), daemon=True)
        other.start()
        other.join(PATIENCE)
        if not taken:
            complaints.append(f"{what}() is called while the lock is held that snapshot() needs")
        elif not balances(taken[0]):
            complaints.append(f"when {what}() is called the snapshot does not balance: {taken[0]}")

    for thing, methods in ((taskmaster, ("handle_incoming_connection", "start_thread", "too_many_requests")),
                           (acceptor, ("accept", "process_connection", "refuse", "abandon"))):
        for method in methods:
            before_each(thing, method, lambda *args, method=method, **kwargs: check(method))
    return complaints
