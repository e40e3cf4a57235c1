"""The contract for every taskmaster: serving, counting, starting, stopping, threads. See `taskmaster.contract`."""

from __future__ import annotations

import threading
from collections.abc import Callable

from taskmaster.base import Connection, Taskmaster, ThreadState
from taskmaster.contract_tools import audit, balances, before_each, end, running, shut_down
from taskmaster.scripted import PATIENCE, ScriptedAcceptor

__all__ = ["TaskmasterContract"]


class TaskmasterContract:
    """Inherit it and say how to make one of yours."""

    concurrent = True
    """Whether it serves two connections at once."""
    one_accepts = True
    """Whether a single thread accepts, from start to stop."""
    in_progress = "processing"
    """The state of a scripted connection whose client is not content yet. "parked", if no thread ever waits for one."""

    def make_taskmaster(self) -> Taskmaster:
        """A taskmaster with room for 20 connections at once, if it is concurrent at all."""
        raise NotImplementedError(f"{type(self).__name__} must define make_taskmaster(), returning a new taskmaster")

    # Serving.

    def test_every_connection_is_processed_once(self) -> None:
        with running(self.make_taskmaster()) as (acceptor, taskmaster):
            for _ in range(10):
                connections = acceptor.connect(10, finished=True)
                acceptor.settle(connections, "processed")
            assert all(connection.history["processing"] == 1 for connection in acceptor.connections)
        now = taskmaster.snapshot()
        assert (now.accepted, now.served, now.refused) == (100, 100, 0), f"100 have been served; the books say {now}"

    def test_a_connection_in_progress_does_not_keep_another_waiting(self) -> None:
        with running(self.make_taskmaster()) as (acceptor, _):
            first, second = acceptor.connect(2)
            first.wait_for(self.in_progress)
            if not self.concurrent:
                assert second.state == "queued", "it says that it serves one at a time"
                first.finish()
            second.wait_for(self.in_progress)
            second.finish()
            second.wait_for("processed")
            assert first.state == (self.in_progress if self.concurrent else "processed"), first

    def test_no_connection_can_end_a_thread(self) -> None:
        with running(self.make_taskmaster()) as (acceptor, taskmaster):
            for error in (ValueError("a bug"), OSError(9, "EBADF"), SystemExit(1), KeyboardInterrupt()):
                acceptor.settle(acceptor.connect(15, error=error, finished=True), "processed")
            acceptor.settle(acceptor.connect(15, finished=True), "processed")
            assert "died" not in taskmaster.snapshot().shrunk, taskmaster.snapshot().shrunk

    def test_a_hook_that_raises_does_not_end_the_accepting_thread(self) -> None:
        with running(taskmaster := self.make_taskmaster()) as (acceptor, _):
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
        with running(taskmaster := self.make_taskmaster()) as (acceptor, _):
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
        with running(self.make_taskmaster()) as (acceptor, taskmaster):
            def all_served() -> bool:
                now = taskmaster.snapshot()
                assert balances(now), f"the books do not balance: {now}"
                return now.served == len(acceptor.connections)

            for _ in range(10):
                acceptor.connect(20, finished=True)
                acceptor.wait_until(all_served, "all to be served", taskmaster.snapshot)

    def test_the_snapshot_balances_and_no_lock_is_held_at_every_call(self) -> None:
        acceptor, taskmaster = ScriptedAcceptor(), self.make_taskmaster()
        complaints = audit(acceptor, taskmaster)
        with running(taskmaster, acceptor):
            for _ in range(3):
                acceptor.settle(acceptor.connect(10, finished=True), "processed")
        assert not complaints, complaints

    def test_the_snapshot_shows_who_is_accepting(self) -> None:
        with running(self.make_taskmaster()) as (acceptor, taskmaster):
            def as_many_as_there_are() -> bool:  # nobody enters or leaves accept() meanwhile
                inside, shown = len(acceptor.accepting), taskmaster.snapshot().threads[ThreadState.ACCEPTING]
                assert inside <= shown, f"{inside} threads are inside accept(), {shown} in the snapshot"
                return inside == shown > 0

            for _ in range(5):
                acceptor.wait_until(as_many_as_there_are, "some to be ACCEPTING, and inside accept()",
                                    taskmaster.snapshot)
                acceptor.settle(acceptor.connect(3, finished=True), "processed")

    def test_the_snapshot_shows_what_is_being_served(self) -> None:
        with running(self.make_taskmaster()) as (acceptor, taskmaster):
            (connection,) = acceptor.connect()
            connection.wait_for(self.in_progress)
            now = taskmaster.snapshot()
            assert (now.threads[ThreadState.SERVING] + now.parked, now.accepted, now.served) == (1, 1, 0), (
                f"one connection is being served; the books say {now}")
            connection.finish()
        now = taskmaster.snapshot()
        assert (now.thread_count, now.queued, now.accepted, now.served, now.refused) == (0, 0, 1, 1, 0), (
            f"one connection has been served, and all has ended; the books say {now}")

    # Starting and stopping.

    def test_shutdown_joins_every_thread(self) -> None:
        before = set(threading.enumerate())
        with running(self.make_taskmaster()) as (acceptor, _):
            acceptor.settle(acceptor.connect(10, finished=True), "processed")
        assert set(threading.enumerate()) == before, f"more threads than before: {threading.enumerate()}"
        assert not any(thread.is_alive() for thread in acceptor.threads), acceptor.threads

    def test_shutdown_waits_for_what_is_in_progress(self) -> None:
        with running(self.make_taskmaster()) as (acceptor, taskmaster):
            (connection,) = acceptor.connect()
            connection.wait_for(self.in_progress)
            acceptor.close()
            late, _ = shut_down(taskmaster, 0.01)
            assert connection.thread is not None
            assert connection.thread.name in late, f"{connection.thread.name} still serves, shutdown() named {late}"
            connection.finish()
            end(taskmaster)
            assert connection.state == "processed", connection

    def test_shutdown_is_back_at_its_deadline_even_if_no_connection_ever_ends(self) -> None:
        deadline, moment = 0.3, 2.0  # ten threads, each with the deadline for itself, would take longer
        with running(self.make_taskmaster()) as (acceptor, taskmaster):
            connections = acceptor.connect(10 if self.concurrent else 1)
            acceptor.settle(connections, self.in_progress)
            acceptor.close()
            _, took = shut_down(taskmaster, deadline)
            assert deadline <= took < deadline + moment, f"shutdown({deadline}) took {took:.3f} s"

    def test_shutdown_again_changes_nothing(self) -> None:
        with running(self.make_taskmaster()) as (acceptor, taskmaster):
            acceptor.close()
            for _ in range(3):
                end(taskmaster)

    def test_what_was_queued_is_still_served_after_the_stop(self) -> None:
        with running(self.make_taskmaster()) as (acceptor, taskmaster):
            acceptor.settle(acceptor.connect(1, finished=True), "processed")
            queued = acceptor.connect(10, finished=True)
            acceptor.close()
            end(taskmaster)
            assert all(connection.state == "processed" for connection in queued), (
                f"10 had arrived before the stop, and must be served: {queued}; {taskmaster.snapshot()}")

    def test_shutdown_on_one_of_its_own_threads_is_refused(self) -> None:
        errors: list[BaseException] = []
        with running(self.make_taskmaster()) as (acceptor, taskmaster):
            def shut_down_here(*_: object) -> None:
                try:
                    taskmaster.shutdown(0.0)
                except RuntimeError as error:
                    errors.append(error)

            for step in ("process_connection", "process_until_idle", "process_without_waiting"):
                before_each(acceptor, step, shut_down_here)
            acceptor.settle(acceptor.connect(1, finished=True), "processed")
        assert len(errors) == 1, "shutdown() on a serving thread must raise RuntimeError, or it waits for itself"

    def test_it_can_run_again_after_shutdown(self) -> None:
        taskmaster = self.make_taskmaster()
        for _ in range(3):
            with running(taskmaster) as (acceptor, _):
                acceptor.settle(acceptor.connect(5, finished=True), "processed")
            assert taskmaster.snapshot().served == 5, taskmaster.snapshot()

    def test_it_runs_one_acceptor_at_a_time(self) -> None:
        with running(self.make_taskmaster()) as (_, taskmaster):
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
        with running(taskmaster) as (acceptor, _):
            acceptor.settle(acceptor.connect(10, finished=True), "processed")
        assert acceptor.threads <= set(started), f"not from start_thread(): {acceptor.threads - set(started)}"
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
            late, now = taskmaster.shutdown(PATIENCE), taskmaster.snapshot()
            assert not late, (f"threads that could be started: {possible}, so execute_acceptor() has failed; and then "
                              f"{', '.join(late)} did not end: {now}")
            assert now.thread_count == 0, now
            assert balances(now), f"the books do not balance: {now}"

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
            with running(taskmaster, acceptor):
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
