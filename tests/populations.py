"""A state machine that drives a taskmaster by a script, and holds it against a naive model after every step.

A subclass says, in the fewest lines, what the rules in its taskmaster's docstring make of one connection that arrives
(`arrive`), one thread that is done with its connection (`done`), and of `resize`. The clients are the same for all:
they come, go idle, say something again, have a next request there already, and leave.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from taskmaster import Snapshot, ThreadedTaskmaster, ThreadState
from taskmaster.contract_tools import balances
from taskmaster.scripted import PATIENCE, ScriptedAcceptor, ScriptedConnection

PARKING = st.sampled_from([("hold", "fair"), ("park", "fair"), ("park", "fair"), ("park", "always"), ("park", "never")])


class Population(RuleBasedStateMachine):
    """The model's numbers: connections `serving`, `queued`, `parked`, `refused`, and `unseen` by the taskmaster."""

    taskmaster: ThreadedTaskmaster

    def run(self, taskmaster: ThreadedTaskmaster) -> None:
        self.taskmaster = taskmaster
        self.inline = taskmaster.inline if taskmaster.parks else "always"
        self.acceptor = ScriptedAcceptor()
        self.serving = self.queued = self.parked = self.refused = self.unseen = 0
        taskmaster.execute_acceptor(self.acceptor)

    # What a subclass says.

    def arrive(self) -> None:
        """A connection is to be accepted: a new one, or one that comes back."""
        raise NotImplementedError

    def done(self) -> None:
        """A thread is done with its connection, which is over or parked."""
        raise NotImplementedError

    def others_idle(self) -> bool:
        raise NotImplementedError

    def as_expected(self, now: Snapshot) -> bool:
        """Whether its threads are where they should be."""
        raise NotImplementedError

    def model(self) -> str:
        """Its own numbers, for a failure."""
        raise NotImplementedError

    # What clients do.

    def one(self, data: st.DataObject, state: str) -> ScriptedConnection:
        connection: ScriptedConnection = data.draw(st.sampled_from(
            [connection for connection in self.acceptor.connections if connection.state == state]))
        return connection

    @rule(count=st.integers(1, 4))
    def connect(self, count: int) -> None:
        for _ in range(count):
            self.acceptor.connect()
            self.arrive()
            self.settled()

    @precondition(lambda self: self.serving)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        connection = self.one(data, "processing")
        connection.finish()
        connection.wait_for("processed")
        self.done()

    @precondition(lambda self: self.serving and self.taskmaster.parks)
    @rule(data=st.data())
    def go_idle(self, data: st.DataObject) -> None:
        connection = self.one(data, "processing")
        connection.idle()
        connection.wait_for("parked")
        self.parked += 1
        self.done()

    @precondition(lambda self: self.serving)
    @rule(data=st.data())
    def have_a_next_request_there(self, data: st.DataObject) -> None:
        connection = self.one(data, "processing")
        turns, parked = connection.turns, connection.history["parked"]
        connection.again()
        if self.inline == "always" or (self.inline == "fair" and self.others_idle()):
            self.acceptor.wait_until(lambda: connection.turns > turns, f"{connection} to have another turn at once")
            assert connection.history["parked"] == parked, f"{connection} went behind the others, though none waits"
        else:
            self.acceptor.wait_until(lambda: connection.history["ready"] == parked + 1, f"{connection} to go behind")
            self.done()
            self.arrive()

    @precondition(lambda self: self.parked)
    @rule(data=st.data())
    def send(self, data: st.DataObject) -> None:
        self.one(data, "parked").send()
        self.parked -= 1
        self.arrive()

    # What must hold.

    @invariant()
    def settled(self) -> None:
        if not hasattr(self, "acceptor"):
            return

        def all_as_expected() -> bool:
            now = self.taskmaster.snapshot()
            assert balances(now), now
            count = self.acceptor.count
            return (now.threads[ThreadState.SERVING] == self.serving == count("processing")
                    and now.queued == self.queued == count("accepted")
                    and now.parked == count("parked", "ready") and count("parked") == self.parked
                    and now.refused == self.refused == count("refused")
                    and count("queued", "ready") == self.unseen
                    and not now.threads[ThreadState.STARTING]
                    and self.as_expected(now))

        self.acceptor.wait_until(all_as_expected, f"serving={self.serving} queued={self.queued} parked={self.parked} "
                                 f"refused={self.refused} unseen={self.unseen} {self.model()}",
                                 self.taskmaster.snapshot)

    def teardown(self) -> None:
        if not hasattr(self, "acceptor"):
            return
        self.acceptor.close()
        self.acceptor.finish_all()
        late: Any = self.taskmaster.shutdown(PATIENCE)
        assert not late, f"these threads did not end: {late}"
        now = self.taskmaster.snapshot()
        assert (now.thread_count, now.queued, now.parked) == (0, 0, 0), now
        assert balances(now), now
        assert not self.acceptor.complaints, self.acceptor.complaints
        for connection in self.acceptor.connections:
            assert connection.history["processed"] + connection.history["refused"] == 1, connection.history
