"""An acceptor without a network, for tests and lessons: clients do what the script says, when it says so.

    acceptor = ScriptedAcceptor()
    taskmaster.execute_acceptor(acceptor)
    client = acceptor.connect()[0]              # somebody arrives
    client.wait_for("processing")               # a thread of the taskmaster serves them...
    client.finish()                             # ...until now
    acceptor.close()                            # as Acceptor.stop does, before it calls...
    taskmaster.shutdown(10)

A client that stays is served until the script says what comes next, and each time a taskmaster may have another answer:

    client.idle()                               # it has its answer, and nothing to say: a model that parks, parks it
    client.wait_for("parked")
    client.send()                               # it says something: `accept` returns it again
    client.again()                              # it has its answer, and its next request is there already
    client.finish()                             # it leaves, parked or not

Nothing here sleeps: every state is reached through a gate, and stays until the script opens the next.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

from taskmaster.base import Taskmaster

__all__ = ["PATIENCE", "ScriptedAcceptor", "ScriptedConnection"]

PATIENCE = 10.0
"""Seconds to wait for something that ought to happen at once, before a test fails."""

_MOVES = {
    "queued": {"accepted"},
    "accepted": {"processing", "refused", "abandoned", "withdrawn"},
    "processing": {"processed", "idle"},
    "idle": {"parked", "processing"},
    "parked": {"ready"},
    "ready": {"accepted"},
}
"""What each state may be followed by; whatever else happens is a complaint."""


class ScriptedConnection:
    """A client, and what has become of it.

        "queued"        it has arrived
        "accepted"      `accept` has returned it
        "processing"    a thread serves it
        "idle"          that thread has been told to park it, and has not done so yet
        "parked"        the acceptor has it
        "ready"         it has done something since: `accept` will return it again

    and in the end "processed", "refused", "withdrawn" or, if the taskmaster gives it up, "abandoned".
    """

    def __init__(self, acceptor: ScriptedAcceptor, number: int, error: BaseException | None) -> None:
        self._acceptor = acceptor
        self.peer = f"client {number}"
        self.error = error
        """What processing it raises in the end, as no good acceptor would."""
        self.work: Callable[[], object] | None = None
        """What its handler does, for a taskmaster that offloads handlers."""
        # Guarded by the acceptor's condition.
        self.state = "queued"
        self.history = Counter[str]()
        """How many times it has been in each state."""
        self.resumed = False
        self.refusable = True
        """False: it comes back in the middle of a response."""
        self.turns = 0
        """Requests that a thread has begun to serve."""
        self.thread: threading.Thread | None = None
        """Who processes it, or has done so last; or has come to, when it had been withdrawn."""
        self.may_finish = False
        self.steps: deque[str] = deque()
        """What comes next, and nobody has come to yet: "idle", "again", "over"."""
        self.sent = False
        """It has said something, which nobody has seen yet."""

    # For the script, any thread.

    def wait_for(self, state: str) -> None:
        """Return when it is in `state`; AssertionError if it does not get there."""
        self._acceptor.wait_until(lambda: self.state == state, f"{self.peer} to be {state}",
                                  lambda: f"it is {self.state}")

    def finish(self) -> None:
        """The client is content, and leaves: processing it ends, now or as soon as it has begun."""
        with self._acceptor.changed:
            self.may_finish = True
            self.send_locked()

    def idle(self) -> None:
        """It has its answer, and says nothing more for now. A model that does not park goes on processing it."""
        with self._acceptor.changed:
            self.steps.append("idle")
            self._acceptor.changed.notify_all()

    def again(self, count: int = 1) -> None:
        """It has its answer, and its next request is there already; `count` times."""
        with self._acceptor.changed:
            self.steps.extend(["again"] * count)
            self._acceptor.changed.notify_all()

    def send(self) -> None:
        """It says something (or its time is up): if it is parked, or as soon as it is, `accept` returns it."""
        with self._acceptor.changed:
            self.send_locked()

    def withdraw(self, taskmaster: Taskmaster) -> None:
        """The acceptor answers it itself, while it waits for a thread, and says so: no step does anything with it."""
        with self._acceptor.changed:
            self._acceptor.withdraw_locked(self)
        taskmaster.withdraw(self)

    def send_locked(self) -> None:
        self.sent = True
        self._acceptor.return_locked(self)
        self._acceptor.changed.notify_all()

    def __repr__(self) -> str:
        return f"<{self.peer}: {self.state}>"


class ScriptedAcceptor:
    """Keeps the contract of `taskmaster.base.AcceptorSteps`. All methods by any thread."""

    name = "scripted:0"

    def __init__(self) -> None:
        self.changed = threading.Condition()
        """Guards everything here and in the connections; notified when any of it changes."""
        self.connections: list[ScriptedConnection] = []
        self.accepting: set[threading.Thread] = set()
        """Threads inside `accept`."""
        self.acceptors: set[threading.Thread] = set()
        """Every thread that was ever inside `accept`."""
        self.threads: set[threading.Thread] = set()
        """Every thread that was ever inside a step."""
        self.peak = 0
        """The most connections that were being processed at one time."""
        self.complaints: list[str] = []
        """What a taskmaster has done to a connection that it must not: process it twice at once, park it twice."""
        self._queued: deque[ScriptedConnection] = deque()
        self._time_outs = 0
        self._closed = False

    # For the script.

    def connect(self, count: int = 1, *, error: BaseException | None = None, finished: bool = False, requests: int = 0
                ) -> list[ScriptedConnection]:
        """`count` clients arrive.

        finished: processing them takes no time.
        requests: each has so many, all there already, which take no time either; and then it leaves.
        """
        with self.changed:
            new = [ScriptedConnection(self, len(self.connections) + number + 1, error) for number in range(count)]
            for connection in new:
                connection.may_finish = finished
                if requests:
                    connection.steps.extend(["again"] * (requests - 1) + ["over"])
            self.connections += new
            self._queued += new
            self.changed.notify_all()
        return new

    def time_out(self, count: int) -> None:
        """Let the next `count` calls of `accept` that find nothing, and have a timeout, run into it; wait for them."""
        with self.changed:
            self._time_outs = count
            self.changed.notify_all()
        self.wait_until(lambda: not self._time_outs, f"{self._time_outs} more threads in accept() to time out")

    def close(self) -> None:
        """From now on, `accept` returns what is queued or parked already, and then None; nothing more is parked."""
        with self.changed:
            self._closed = True
            for connection in self.connections:
                self.return_locked(connection)
            self.changed.notify_all()

    def finish_all(self) -> None:
        for connection in list(self.connections):
            connection.finish()

    def wait_until(self, condition: Callable[[], bool], what: str, show: Callable[[], object] = str) -> None:
        """Return once `condition()`; AssertionError with `what` and `show()` if it does not become true."""
        with self.changed:
            for _ in range(int(PATIENCE / 0.002)):
                # A short wait in a loop: what changes in a taskmaster notifies nobody here.
                if self.changed.wait_for(condition, 0.002):
                    return
        said = f" {show()};" if show is not str else ""
        raise AssertionError(f"waited {PATIENCE:g} s without success for {what};{said} {self._clients()}")

    def count(self, *states: str) -> int:
        """How many connections are in one of `states`."""
        with self.changed:
            return sum(connection.state in states for connection in self.connections)

    def settle(self, connections: Sequence[ScriptedConnection], *states: str) -> None:
        """Wait until each of `connections` is in one of `states`."""
        self.wait_until(lambda: all(connection.state in states for connection in connections),
                        f"all of them to be {' or '.join(states)}")

    # For the taskmaster.

    def accept(self, timeout: float | None = None) -> ScriptedConnection | None:
        me = threading.current_thread()
        with self.changed:
            self.threads.add(me)
            self.accepting.add(me)
            self.acceptors.add(me)
            self.changed.notify_all()
            try:
                self.changed.wait_for(lambda: self._queued or self._closed or (timeout and self._time_outs))
                if self._queued:
                    connection = self._queued.popleft()
                    self._move(connection, "accepted")
                    return connection
                if self._closed:
                    return None
                self._time_outs -= 1
                raise TimeoutError
            finally:
                self.accepting.discard(me)
                self.changed.notify_all()

    def process_connection(self, connection: ScriptedConnection) -> None:
        with self.changed:
            if self._begin(connection):
                self._go_on_to_the_end(connection)

    def process_until_idle(self, connection: ScriptedConnection, go_on: Callable[[], bool]) -> bool:
        with self.changed:
            if not self._begin(connection):
                return False
            while (step := self._next_step(connection)) == "again":
                connection.sent = True
                self.changed.release()
                try:
                    inline = go_on()
                finally:
                    self.changed.acquire()
                if not inline:
                    break
                connection.sent = False
                connection.turns += 1
            if step == "over":
                self._end(connection)
                return False
            self._move(connection, "idle")
            return True

    def process_without_waiting(self, connection: ScriptedConnection, offload: Executor | None) -> bool:
        """If the script has not said what comes next, it is idle. With `offload`, `connection.work` is submitted.

        Once closed, it waits after all, for nothing can be parked any more.
        """
        with self.changed:
            if not self._begin(connection):
                return False
            if self._closed:
                self._go_on_to_the_end(connection)
                return False
            if offload is not None and connection.work is not None:
                work, connection.work = connection.work, None
                offload.submit(work).add_done_callback(lambda _: connection.send())
            elif connection.may_finish or connection.steps:
                step = self._next_step(connection)
                if step == "over":
                    self._end(connection)
                    return False
                connection.sent = step == "again"
            self._move(connection, "idle")
            return True

    def park(self, connection: ScriptedConnection) -> bool:
        with self.changed:
            self.threads.add(threading.current_thread())
            if self._closed:
                return False
            self._move(connection, "parked")
            if connection.sent or connection.may_finish:
                self.return_locked(connection)
            return True

    def refuse(self, connection: ScriptedConnection) -> None:
        with self.changed:
            self.threads.add(threading.current_thread())
            if connection.state != "withdrawn":
                self._move(connection, "refused")

    def abandon(self, connection: ScriptedConnection) -> None:
        with self.changed:
            if connection.state == "accepted":
                self._move(connection, "abandoned")

    def _clients(self) -> str:
        """What has become of them: each, or of many how many."""
        if len(self.connections) <= 12:
            return str(self.connections)
        states = Counter(connection.state for connection in self.connections)
        return "clients: " + ", ".join(f"{count} {state}" for state, count in states.items())

    def count_locked(self, state: str) -> int:
        return sum(connection.state == state for connection in self.connections)

    def return_locked(self, connection: ScriptedConnection) -> None:
        """If it is parked: have `accept` return it."""
        if connection.state == "parked":
            connection.resumed = True
            self._move(connection, "ready")
            self._queued.append(connection)

    def withdraw_locked(self, connection: ScriptedConnection) -> None:
        self._move(connection, "withdrawn")

    def _begin(self, connection: ScriptedConnection) -> bool:
        """False: it has been withdrawn, so there is nothing to do."""
        connection.thread = threading.current_thread()
        self.threads.add(connection.thread)
        if connection.state == "withdrawn":
            return False
        connection.turns += 1
        connection.sent = False
        self._move(connection, "processing")
        self.peak = max(self.peak, self.count_locked("processing"))
        return True

    def _go_on_to_the_end(self, connection: ScriptedConnection) -> None:
        while (step := self._next_step(connection)) != "over":
            connection.turns += step == "again"
        self._end(connection)

    def _next_step(self, connection: ScriptedConnection) -> str:
        self.changed.wait_for(lambda: connection.may_finish or connection.steps)
        return "over" if connection.may_finish else connection.steps.popleft()

    def _end(self, connection: ScriptedConnection) -> None:
        self._move(connection, "processed")
        if connection.error is not None:
            raise connection.error

    def _move(self, connection: ScriptedConnection, state: str) -> None:
        if state not in _MOVES.get(connection.state, ()):
            self.complaints.append(f"{connection.peer} was {connection.state}, and is {state} now")
        connection.state = state
        connection.history[state] += 1
        self.changed.notify_all()
