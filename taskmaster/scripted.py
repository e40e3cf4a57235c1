"""An acceptor without a network, for tests and lessons: clients arrive and leave when the script says so.

    acceptor = ScriptedAcceptor()
    taskmaster.execute_acceptor(acceptor)
    client = acceptor.connect()                 # somebody arrives
    client.wait_for("processing")               # a thread of the taskmaster serves them...
    client.finish()                             # ...until now
    acceptor.close()                            # as Acceptor.stop does, before it calls...
    taskmaster.shutdown(10)

Nothing here sleeps: every state is reached through a gate, and stays until the script opens the next.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence

__all__ = ["ScriptedAcceptor", "ScriptedConnection"]

PATIENCE = 10.0
"""Seconds to wait for something that ought to happen at once, before a test fails."""


class ScriptedConnection:
    """A client, and what has become of it: "queued", "accepted", "processing", "processed", "refused" or, if the
    taskmaster gives it up, "abandoned"."""

    def __init__(self, acceptor: ScriptedAcceptor, number: int, error: BaseException | None) -> None:
        self._acceptor = acceptor
        self.peer = f"client {number}"
        self.error = error
        """What processing it raises in the end, as no good acceptor would."""
        # Guarded by the acceptor's condition.
        self.state = "queued"
        self.history = Counter[str]()
        """How many times it has been in each state: more than once in "processing" or "refused" is a bug."""
        self.thread: threading.Thread | None = None
        """Who processes it."""
        self.may_finish = False

    def wait_for(self, state: str) -> None:
        """Return when it is in `state`; AssertionError if it does not get there."""
        self._acceptor.wait_until(lambda: self.state == state, f"{self.peer} to be {state}, but it is {self.state}")

    def finish(self) -> None:
        """The client is content: processing it ends, now or as soon as it has begun."""
        with self._acceptor.changed:
            self.may_finish = True
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
        self._queued: deque[ScriptedConnection] = deque()
        self._time_outs = 0
        self._closed = False

    # For the script.

    def connect(self, count: int = 1, *, error: BaseException | None = None, finished: bool = False
                ) -> list[ScriptedConnection]:
        """`count` clients arrive. finished: processing them takes no time."""
        with self.changed:
            new = [ScriptedConnection(self, len(self.connections) + number + 1, error) for number in range(count)]
            for connection in new:
                connection.may_finish = finished
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
        """From now on, `accept` returns what is queued already, and then None."""
        with self.changed:
            self._closed = True
            self.changed.notify_all()

    def finish_all(self) -> None:
        for connection in list(self.connections):
            connection.finish()

    def wait_until(self, condition: Callable[[], bool], what: str, show: Callable[[], object] = str) -> None:
        """Return once `condition()`; AssertionError with `what` and `show()` if it does not become true."""
        with self.changed:
            for _ in range(int(PATIENCE / 0.01)):
                # A short wait in a loop: what changes in a taskmaster notifies nobody here.
                if self.changed.wait_for(condition, 0.01):
                    return
        raise AssertionError(f"waited {PATIENCE:g} s without success for {what}. {show()} {self.connections}")

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
            connection.thread = threading.current_thread()
            self.threads.add(connection.thread)
            self._move(connection, "processing")
            self.peak = max(self.peak, self.count_locked("processing"))
            self.changed.wait_for(lambda: connection.may_finish)
            self._move(connection, "processed")
        if connection.error is not None:
            raise connection.error

    def refuse(self, connection: ScriptedConnection) -> None:
        with self.changed:
            self.threads.add(threading.current_thread())
            self._move(connection, "refused")

    def abandon(self, connection: ScriptedConnection) -> None:
        with self.changed:
            if connection.state == "accepted":
                self._move(connection, "abandoned")

    def count_locked(self, state: str) -> int:
        return sum(connection.state == state for connection in self.connections)

    def _move(self, connection: ScriptedConnection, state: str) -> None:
        connection.state = state
        connection.history[state] += 1
        self.changed.notify_all()
