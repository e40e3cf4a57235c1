"""The contract for a taskmaster that parks idle connections. See `taskmaster.contract`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from taskmaster.base import Connection, Snapshot, Taskmaster, ThreadState
from taskmaster.contract_serving import TaskmasterContract
from taskmaster.contract_tools import audit, balances, end, running
from taskmaster.scripted import PATIENCE, ScriptedAcceptor, ScriptedConnection

__all__ = ["ParkingTaskmasterContract"]


class ParkingTaskmasterContract(TaskmasterContract):
    """What `TaskmasterContract` asks, and that parking loses nothing. `make_taskmaster` returns one that parks, too.

    That no connection is processed by two threads at once, or parked twice, is asked by the scripted acceptor, in every
    test: see `ScriptedAcceptor.complaints`.
    """

    def make_parking(self, max_thread_count: int, max_accept_count: int | None) -> Taskmaster:
        """One that serves so many at once, lets so many wait, and parks those that are idle.

        A thread of it goes on with a request that is there already only while another is free.
        """
        raise NotImplementedError(f"{type(self).__name__} must define make_parking(), returning a new taskmaster")

    # An idle connection holds no thread.

    def test_idle_connections_hold_no_thread_and_are_served_when_they_say_something(self) -> None:
        with running(self.make_parking(8, None)) as (acceptor, taskmaster):
            connections = acceptor.connect(50)
            for connection in connections:
                connection.idle()
            acceptor.settle(connections, "parked")
            now = taskmaster.snapshot()
            assert (now.parked, now.threads[ThreadState.SERVING], now.accepted) == (50, 0, 50), now
            for connection in connections:
                connection.send()
                connection.wait_for(self.in_progress)
                connection.idle()
                connection.wait_for("parked")
            for connection in connections:
                connection.finish()
            acceptor.settle(connections, "processed")
            now = taskmaster.snapshot()
            assert (now.parked, now.served, now.accepted, now.refused) == (0, 50, 50, 0), now

    def test_all_idle_connections_that_say_something_at_once_are_served_in_turn(self) -> None:
        with running(self.make_parking(8, None)) as (acceptor, taskmaster):
            connections = acceptor.connect(50)
            for parked in range(1, 4):
                for connection in connections:
                    connection.idle()
                acceptor.wait_until(lambda n=parked: all(  # type: ignore[misc]
                    (c.state, c.history["parked"]) == ("parked", n) for c in connections),
                    f"all to be parked {parked} times", taskmaster.snapshot)
                for connection in connections:
                    connection.send()
            for connection in connections:
                connection.finish()
            acceptor.settle(connections, "processed")
            assert acceptor.peak <= 8, f"{acceptor.peak} were served at once"
            assert taskmaster.snapshot().accepted == 50, f"each is accepted once; {taskmaster.snapshot()}"

    def test_a_client_that_says_something_before_it_is_parked_is_not_forgotten(self) -> None:
        with running(self.make_parking(2, None)) as (acceptor, _):
            (connection,) = acceptor.connect()
            connection.wait_for(self.in_progress)
            with acceptor.changed:
                connection.send_locked()
                connection.steps.append("idle")
            acceptor.wait_until(lambda: connection.history["processing"] == 2, "it to be served again")

    def test_handle_incoming_connection_is_called_each_time_that_it_comes_back(self) -> None:
        calls: list[bool] = []
        with running(taskmaster := self.make_parking(2, None)) as (acceptor, _):
            original = taskmaster.handle_incoming_connection

            def hook(connection: Connection) -> None:
                calls.append(connection.resumed)
                original(connection)

            taskmaster.handle_incoming_connection = hook  # type: ignore[method-assign]
            (connection,) = acceptor.connect()
            for _ in range(3):
                connection.idle()
                connection.wait_for("parked")
                connection.send()
                connection.wait_for(self.in_progress)
        assert calls[:4] == [False, True, True, True], calls

    def test_a_hook_that_raises_for_one_that_comes_back_costs_that_connection_only(self) -> None:
        with running(taskmaster := self.make_parking(2, None)) as (acceptor, _):
            original = taskmaster.handle_incoming_connection

            def hook(connection: Connection) -> None:
                if connection.resumed and connection.peer == "client 1":
                    raise ValueError("from an override")
                original(connection)

            taskmaster.handle_incoming_connection = hook  # type: ignore[method-assign]
            lost, other = acceptor.connect(2)
            for connection in (lost, other):
                connection.idle()
            acceptor.settle([lost, other], "parked")
            lost.send()
            lost.wait_for("abandoned")
            other.send()
            other.wait_for(self.in_progress)
            acceptor.wait_until(lambda: balances(taskmaster.snapshot()) and not taskmaster.snapshot().parked,
                                "none to be counted as parked", taskmaster.snapshot)

    # The books.

    def test_the_snapshot_balances_and_no_lock_is_held_at_every_call_while_they_are_parked(self) -> None:
        acceptor, taskmaster = ScriptedAcceptor(), self.make_parking(4, None)
        complaints = audit(acceptor, taskmaster)
        with running(taskmaster, acceptor):
            connections = acceptor.connect(10)
            for _ in range(3):
                for connection in connections:
                    connection.idle()
                acceptor.settle(connections, "parked")
                for connection in connections:
                    connection.again()
                    connection.send()
        assert not complaints, complaints

    def test_the_snapshot_balances_at_every_moment_while_they_are_parked(self) -> None:
        with running(self.make_parking(4, None)) as (acceptor, taskmaster):
            def all_served() -> bool:
                now = taskmaster.snapshot()
                assert balances(now), f"the books do not balance: {now}"
                return now.served == len(acceptor.connections)

            for _ in range(10):
                acceptor.connect(20, requests=5)
                acceptor.wait_until(all_served, "all to be served", taskmaster.snapshot)

    def test_one_that_is_back_before_park_returns_has_been_counted_as_parked(self) -> None:
        with running(self.make_parking(2, None)) as (acceptor, taskmaster):
            original, books = acceptor.park, list[Snapshot]()

            def park(connection: ScriptedConnection) -> bool:
                parked = original(connection)
                with acceptor.changed:
                    acceptor.changed.wait_for(lambda: connection.history["processing"] == 2, PATIENCE)
                books.append(taskmaster.snapshot())  # the other thread has it, and this one is still in park()
                return parked

            acceptor.park = park  # type: ignore[method-assign]
            (connection,) = acceptor.connect()
            connection.wait_for("processing")
            with acceptor.changed:
                connection.send_locked()
                connection.steps.append("idle")
            acceptor.wait_until(lambda: bool(books), "park() to return", taskmaster.snapshot)
            assert (books[0].parked, books[0].threads[ThreadState.SERVING]) == (0, 1), (
                "one thread is in park(), another serves that connection again already, and the books say "
                f"{books[0]}; a connection is counted as parked before it is parked")

    # Fairness.

    def test_clients_with_a_next_request_always_there_are_served_in_turn(self) -> None:
        threads, clients, rounds = 8, 64, 5
        with running(self.make_parking(threads, None)) as (acceptor, taskmaster):
            connections = acceptor.connect(clients)
            for _ in range(rounds * clients):
                acceptor.wait_until(lambda: acceptor.count("processing") == threads, f"{threads} to be served",
                                    taskmaster.snapshot)
                first = min((c for c in connections if c.state == "processing"), key=lambda c: c.turns)
                first.again()
                acceptor.wait_until(lambda c=first, n=first.turns: c.turns > n or c.state == "ready",  # type: ignore[misc]
                                    f"{first.peer} to have had its turn", taskmaster.snapshot)
                turns = [connection.turns for connection in connections]
                assert max(turns) - min(turns) <= 2, f"{max(turns)} turns for one, {min(turns)} for another: {turns}"
            assert min(turns) >= rounds, turns

    def test_a_thread_goes_on_with_its_connection_while_another_is_free(self) -> None:
        with running(self.make_parking(2, None)) as (acceptor, taskmaster):
            acceptor.wait_until(lambda: taskmaster.snapshot().threads[ThreadState.STARTING] == 0, "all to have started")
            (connection,) = acceptor.connect()
            connection.wait_for("processing")
            acceptor.wait_until(lambda: bool(acceptor.accepting), "another to wait", taskmaster.snapshot)
            thread = connection.thread
            connection.again(5)
            acceptor.wait_until(lambda: connection.turns == 6, "6 turns")
            assert (connection.history["processing"], connection.thread) == (1, thread)

    # Limits.

    def test_so_many_are_served_however_many_come_back_and_none_is_refused_without_a_limit_of_those_that_wait(
            self) -> None:
        with running(self.make_parking(2, None)) as (acceptor, taskmaster):
            connections = self.parked(acceptor, 10)
            for connection in connections:
                connection.send()
            acceptor.wait_until(lambda: acceptor.count("processing") == 2, "2 to be served", taskmaster.snapshot)
            acceptor.finish_all()
            acceptor.settle(connections, "processed")
            assert (acceptor.peak, taskmaster.snapshot().refused) == (2, 0)

    def test_one_that_comes_back_is_queued_or_refused_as_a_new_one_is(self) -> None:
        for serving, waiting in ((1, 0), (2, 1), (3, 2)):
            with running(self.make_parking(serving, waiting)) as (acceptor, taskmaster):
                parked = self.parked(acceptor, 3)
                admitted = acceptor.connect(serving + waiting)
                acceptor.wait_until(lambda a=acceptor, s=serving, w=waiting:  # type: ignore[misc]
                                    (a.count("processing"), a.count("accepted")) == (s, w),
                                    f"{serving} to be served, {waiting} to wait", taskmaster.snapshot)
                for connection in parked[:2]:
                    connection.send()
                acceptor.settle(parked[:2], "refused")
                now = taskmaster.snapshot()
                assert (now.threads[ThreadState.SERVING], now.queued, now.parked, now.refused) == (
                    serving, waiting, 1, 2), now
                for connection in admitted:
                    connection.finish()
                acceptor.settle(admitted, "processed")
                parked[2].send()
                parked[2].wait_for("processing")

    def test_one_that_comes_back_in_the_middle_of_a_response_waits_whatever_the_limit(self) -> None:
        with running(self.make_parking(1, 0)) as (acceptor, taskmaster):
            (parked,) = self.parked(acceptor, 1)
            parked.refusable = False
            (served,) = acceptor.connect()
            served.wait_for("processing")
            parked.send()
            parked.wait_for("accepted")
            acceptor.settle(acceptor.connect(2), "refused")
            assert (taskmaster.snapshot().queued, taskmaster.snapshot().refused) == (1, 2), taskmaster.snapshot()
            served.finish()
            parked.wait_for("processing")

    def test_limits_hold_while_clients_come_and_go_and_are_parked(self) -> None:
        with running(self.make_parking(4, 3)) as (acceptor, taskmaster):
            for _ in range(40):
                acceptor.connect(8, requests=3)
            acceptor.settle(acceptor.connections, "processed", "refused")
            assert taskmaster.snapshot().accepted == 320, taskmaster.snapshot()
            assert acceptor.peak <= 4, f"{acceptor.peak} were served at once"

    # Stopping.

    def test_what_is_parked_comes_back_once_when_it_stops_and_is_processed_to_its_end(self) -> None:
        with running(self.make_parking(4, None)) as (acceptor, taskmaster):
            connections = self.parked(acceptor, 20)
            acceptor.close()
            acceptor.wait_until(lambda: acceptor.count("processing") == 4, "4 to be served", taskmaster.snapshot)
            assert taskmaster.shutdown(0.0), "threads are serving"
            acceptor.finish_all()
            end(taskmaster)
            assert all(c.state == "processed" for c in connections), connections
            assert all((c.history["parked"], c.history["ready"], c.history["processing"]) == (1, 1, 2)
                       for c in connections)
            assert acceptor.peak <= 4, f"{acceptor.peak} were served at once"

    def test_one_that_can_be_parked_no_more_is_processed_to_its_end(self) -> None:
        """The acceptor stops between `process_until_idle`, which says that it is idle, and `park`."""
        for threads in (1, 4):
            with running(self.make_parking(threads, None)) as (acceptor, taskmaster):
                connections = acceptor.connect(threads)
                acceptor.settle(connections, "processing")
                with gate_before_park(acceptor, threads):
                    for connection in connections:
                        connection.idle()
                acceptor.settle(connections, "processing")
                for connection in connections:
                    connection.idle()
                acceptor.wait_until(lambda cs=connections: not any(c.steps for c in cs),  # type: ignore[misc]
                                    "all to be idle once more", taskmaster.snapshot)
                assert taskmaster.shutdown(0.0), "threads are serving"
                acceptor.finish_all()
                end(taskmaster)
                assert all((c.state, c.history["parked"], c.history["processing"]) == ("processed", 0, 2)
                           for c in connections), [c.history for c in connections]

    def test_one_that_can_be_parked_no_more_is_not_lost_behind_one_that_waited(self) -> None:
        with running(self.make_parking(1, 1)) as (acceptor, taskmaster):
            first, second = acceptor.connect(2)
            acceptor.wait_until(lambda: {first.state, second.state} == {"processing", "accepted"},
                                "one to be served, one to wait", taskmaster.snapshot)
            serving = first if first.state == "processing" else second
            with gate_before_park(acceptor, 1):
                serving.idle()
            acceptor.finish_all()
            end(taskmaster)
            assert (first.state, second.state) == ("processed", "processed")
            assert acceptor.peak == 1, f"{acceptor.peak} were served at once"

    def parked(self, acceptor: ScriptedAcceptor, count: int) -> list[ScriptedConnection]:
        """So many clients, all of them parked; one after the other, for there may be room for one only."""
        connections = []
        for _ in range(count):
            (connection,) = acceptor.connect()
            connection.idle()
            connection.wait_for("parked")
            connections.append(connection)
        return connections


@contextmanager
def gate_before_park(acceptor: ScriptedAcceptor, count: int) -> Iterator[None]:
    """At the end of the block, wait until so many threads are about to park; close the acceptor; let them go on."""
    arrived, opened = threading.Semaphore(0), threading.Event()
    original = acceptor.park

    def park(connection: ScriptedConnection) -> bool:
        arrived.release()
        assert opened.wait(PATIENCE)
        return original(connection)

    acceptor.park = park  # type: ignore[method-assign]
    yield
    for _ in range(count):
        assert arrived.acquire(timeout=PATIENCE), "no thread came to park()"
    acceptor.close()
    opened.set()
