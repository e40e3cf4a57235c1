"""The contract for a taskmaster with limits. See `taskmaster.contract`."""

from __future__ import annotations

from taskmaster.base import Taskmaster, ThreadState
from taskmaster.contract_serving import TaskmasterContract
from taskmaster.contract_tools import audit, balances, before_each, running
from taskmaster.scripted import ScriptedAcceptor, ScriptedConnection

__all__ = ["LimitedTaskmasterContract"]


class LimitedTaskmasterContract(TaskmasterContract):
    """What `TaskmasterContract` asks, and that limits are exact."""

    def make_limited(self, max_thread_count: int, max_accept_count: int | None) -> Taskmaster:
        """One that serves so many at once, and lets so many wait; see `Taskmaster` for what None means."""
        raise NotImplementedError(f"{type(self).__name__} must define make_limited(), returning a new taskmaster")

    def test_so_many_are_served_so_many_wait_and_the_next_is_refused(self) -> None:
        for serving, waiting in ((1, 0), (1, 1), (3, 0), (2, 3), (5, 4)):
            with running(self.make_limited(serving, waiting)) as (acceptor, taskmaster):
                admitted = acceptor.connect(serving + waiting)
                acceptor.wait_until(lambda a=acceptor, s=serving: a.count("processing") == s,  # type: ignore[misc]
                                    f"{serving} to be served", taskmaster.snapshot)
                acceptor.wait_until(lambda a=acceptor, w=waiting: a.count("accepted") == w,  # type: ignore[misc]
                                    f"{waiting} to wait", taskmaster.snapshot)
                refused = acceptor.connect(7)
                acceptor.settle(refused, "refused")
                now = taskmaster.snapshot()
                assert (now.threads[ThreadState.SERVING], now.queued, now.refused) == (serving, waiting, 7), (
                    f"{serving} are being served, {waiting} wait, 7 have been refused; the books say {now}")
                acceptor.finish_all()
                acceptor.settle(admitted, "processed")
                assert acceptor.peak == serving, f"{acceptor.peak} were served at once, not {serving}"

    def test_limits_hold_while_clients_come_and_go(self) -> None:
        with running(self.make_limited(4, 3)) as (acceptor, taskmaster):
            for _ in range(40):
                acceptor.connect(8, finished=True)
            acceptor.settle(acceptor.connections, "processed", "refused")
            now = taskmaster.snapshot()
            assert now.accepted == 320, now
            assert acceptor.peak <= 4, f"{acceptor.peak} were served at once"

    def test_without_a_waiting_room_nothing_is_accepted_that_cannot_be_served(self) -> None:
        with running(self.make_limited(3, None)) as (acceptor, taskmaster):
            connections = acceptor.connect(10)
            acceptor.wait_until(lambda: acceptor.count("processing") == 3, "3 to be served", taskmaster.snapshot)
            assert acceptor.count("queued") == 7, (
                f"3 of 10 are served, so 7 must not have been accepted; the taskmaster has {taskmaster.snapshot()}")
            acceptor.finish_all()
            acceptor.settle(connections, "processed")
            assert taskmaster.snapshot().refused == 0, taskmaster.snapshot()

    def test_whoever_becomes_free_takes_what_waits_while_all_others_are_stuck(self) -> None:
        for serving in (2, 3):
            for waiting in (1, 2, None):
                for number in range(serving):
                    self._one_frees_all(serving, waiting, number)

    def _one_frees_all(self, serving: int, waiting: int | None, number: int) -> None:
        with running(self.make_limited(serving, waiting)) as (acceptor, taskmaster):
            stuck = acceptor.connect(serving)
            acceptor.settle(stuck, "processing")
            behind = acceptor.connect(waiting or 2)
            acceptor.wait_until(lambda: taskmaster.snapshot().queued == (waiting or 0), f"{waiting or 0} to wait",
                                taskmaster.snapshot)
            stuck[number].finish()
            for _ in range(len(behind) + 1):  # the last has not come yet
                acceptor.wait_until(lambda: any(connection.state == "processing" for connection in behind),
                                    f"whoever waits to be processed: {stuck[number].peer} has left, so there is a free "
                                    f"thread; the other {serving - 1} have not", taskmaster.snapshot)
                served = next(connection for connection in behind if connection.state == "processing")
                served.finish()
                served.wait_for("processed")
                if all(connection.state == "processed" for connection in behind):
                    behind.extend(acceptor.connect())

    def test_what_is_withdrawn_waits_no_more_and_its_place_is_free(self) -> None:
        for serving, waiting in ((1, 1), (2, 3)):
            with running(self.make_limited(serving, waiting)) as (acceptor, taskmaster):
                def so_many_wait(count: int, acceptor: ScriptedAcceptor = acceptor,
                                 taskmaster: Taskmaster = taskmaster) -> None:
                    acceptor.wait_until(lambda: taskmaster.snapshot().queued == count, f"{count} to wait",
                                        taskmaster.snapshot)

                served = acceptor.connect(serving)
                acceptor.settle(served, "processing")
                withdrawn, *others = acceptor.connect(waiting)
                so_many_wait(waiting)
                withdrawn.withdraw(taskmaster)
                taskmaster.withdraw(served[0])  # it has been given to a thread already, and is counted by that
                now = taskmaster.snapshot()
                assert balances(now), f"one that waited is withdrawn, and the books do not balance: {now}"
                assert now.queued == waiting - 1, f"of {waiting} that waited one is withdrawn; the books say {now}"
                others += acceptor.connect(1)
                so_many_wait(waiting)
                acceptor.settle(acceptor.connect(1), "refused")
                acceptor.finish_all()
                acceptor.settle(served + others, "processed")
            assert withdrawn.thread is None, f"{withdrawn} was given a thread, and needed none any more"

    def test_refusing_makes_no_thread(self) -> None:
        with running(taskmaster := self.make_limited(1, 0)) as (acceptor, _):
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
            with running(taskmaster) as (acceptor, _):
                (served,) = acceptor.connect()
                served.wait_for("processing")
                refused = acceptor.connect(5)
                acceptor.settle(refused, "refused")
                assert sorted(told) == sorted((connection.peer, "accepted") for connection in refused)

    def test_the_snapshot_balances_and_no_lock_is_held_when_it_refuses(self) -> None:
        acceptor, taskmaster = ScriptedAcceptor(), self.make_limited(2, 1)
        complaints = audit(acceptor, taskmaster)
        with running(taskmaster, acceptor):
            admitted = acceptor.connect(3)
            acceptor.wait_until(lambda: (acceptor.count("processing"), acceptor.count("accepted")) == (2, 1),
                                "2 to be served, 1 to wait", taskmaster.snapshot)
            acceptor.settle(acceptor.connect(5), "refused")
            acceptor.finish_all()
            acceptor.settle(admitted, "processed")
        assert not complaints, complaints
