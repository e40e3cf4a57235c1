"""Clients who do what the script says, and the acceptor they come to. There is no network, and no time passes.

Built on `taskmaster.scripted`, which the contract suite uses: the same states, and the same complaints about a
taskmaster that serves a connection twice. New are the gates, and that a connection has requests, answered one by one.

What takes time is what the script has not done yet. A handler runs until `client.answer()`, and a thread that holds an
idle connection waits until its client asks or leaves; but a request is read in no time, and a response is written so.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Literal, cast

from taskmaster.scripted import ScriptedAcceptor, ScriptedConnection
from watching.slow_motion.gates import Gates, Lane, StageError

__all__ = ["Client", "StagedAcceptor"]

TIMED_OUT: Literal["timed out"] = "timed out"


class Client(ScriptedConnection):
    """Somebody with a connection. Made by `Stage.connect`; each act returns when all that follows from it has happened.

    (`finish`, `idle`, `again` and `send` of a `ScriptedConnection` are for tests without a stage.)
    """

    _acceptor: StagedAcceptor

    def __init__(self, acceptor: StagedAcceptor, number: int, name: str, requests: int) -> None:
        super().__init__(acceptor, number, None)
        self.peer = self.name = name
        # Guarded by the acceptor's condition.
        self.requests = requests
        """Sent, and not begun to be answered."""
        self.answers = 0
        """For how many handlers the script has said that they return."""
        self.begun = 0
        """Handlers that have been called for it."""
        self.gone = False
        """The client has closed the connection, behind its last request."""
        self.holds = False
        """The thread that serves it waits for its next request."""
        self.job: Literal["none", "runs", "done"] = "none"
        """Of its handler, if that is offloaded."""

    def answer(self, *, leaves: bool = False) -> None:
        """Its handler returns, and so it has its answer; and stays, unless it leaves with that.

        StageError if no handler runs for it.
        """
        with self._acceptor.changed:
            if not any(lane.letter == "H" and lane.client is self for lane in self._acceptor.gates.held_locked()):
                raise self._acceptor.error(f"{self.name} cannot be answered: no handler runs for {self.name}, "
                                           f"who is {self.place}")
            self.answers += 1
            self.gone = self.gone or leaves
        self._acceptor.played()

    def ask(self, requests: int = 1) -> None:
        """It sends a request, or several at once. If it is not idle, they wait behind the one that is being served."""
        self._stay()
        with self._acceptor.changed:
            self.requests += requests
            self.wake_locked()
        self._acceptor.played()

    def leave(self) -> None:
        """It closes the connection. What it has asked before is served first."""
        self._stay()
        with self._acceptor.changed:
            self.gone = True
            self.wake_locked()
        self._acceptor.played()

    @property
    def place(self) -> str:
        """Where it is, while nothing moves:

            "worker 1"      the name of the thread that has it
            "the kernel"    nobody has accepted it; or it was parked, and accept() will return it again
            "the queue"     it has been accepted, and waits for a thread
            "a new thread"  it has been accepted, and the thread that is to serve it is about to start
            "parked"        nothing is to be done before it says something
            "503", "gone"   it was refused; its connection is over
        """
        with self._acceptor.changed:
            for lane in self._acceptor.gates.held_locked():
                if lane.client is self:
                    return lane.name
            if self.state == "accepted":
                return "the queue" if self in self._acceptor.in_queue_locked() else "a new thread"
            return "the queue" if self.job == "runs" else _PLACES[self.state]

    def wake_locked(self) -> None:
        if self.state in ("idle", "parked") and self.job != "runs":
            self.send_locked()

    def _stay(self) -> None:
        if self.gone or self.place in ("gone", "503"):
            raise self._acceptor.error(f"{self.name} has left already, or was sent away: "
                                       "connect somebody else, who may do the same")


_PLACES = {"queued": "the kernel", "ready": "the kernel", "processing": "served", "idle": "served", "parked": "parked",
           "processed": "gone", "refused": "503", "abandoned": "gone"}


class StagedAcceptor(ScriptedAcceptor):
    """A ScriptedAcceptor whose steps have gates."""

    name = "stage"

    def __init__(self) -> None:
        super().__init__()
        self.gates = Gates(self.changed)
        self.clients: list[Client] = []
        self.played: Callable[[], None] = lambda: None
        """Set by the stage: let everything happen that follows, and return."""
        self.queued: Callable[[], int] = lambda: 0
        """Set by the stage: how many wait in the queue of the taskmaster, as that says itself."""
        self.error: Callable[[str], StageError] = StageError
        """Set by the stage: an error that shows all lanes."""
        self._given: dict[Lane, Client | Literal["timed out"] | None] = {}
        """What accept() is about to return, by the lane that has been let go for it."""

    # For the stage.

    def arrive(self, name: str, requests: int) -> Client:
        with self.changed:
            client = Client(self, len(self.clients) + 1, name, requests)
            self.clients.append(client)
            self.connections.append(client)
            self._queued.append(client)
        return client

    def close(self) -> None:
        """The server stops. Those whose handlers run elsewhere stay parked until these have returned."""
        with self.changed:
            self._closed = True
            for client in self.clients:
                if client.job != "runs":
                    self.return_locked(client)
            self.changed.notify_all()

    def give_locked(self, lane: Lane, *, time_out: bool = False) -> bool:
        """Let the accept() that `lane` stands in return, or time out; False if there is nothing to return."""
        if self._queued:
            self._given[lane] = self._take_locked()
        elif time_out:
            self._given[lane] = TIMED_OUT
        elif self._over_locked():
            self._given[lane] = None
        else:
            return False
        self.gates.open_locked(lane)
        return True

    def in_kernel_locked(self) -> list[Client]:
        return cast("list[Client]", list(self._queued))

    def in_queue_locked(self) -> list[Client]:
        """Those that no thread has: the taskmaster knows how many wait, and threads are starting for the others."""
        has_one = {lane.client for lane in self.gates.held_locked()}
        accepted = [client for client in self.clients if client.state == "accepted" and client not in has_one]
        return accepted[max(0, len(accepted) - self.queued()):]

    # For the taskmaster.

    def accept(self, timeout: float | None = None) -> Client | None:
        with self.changed:
            self.gates.hold("A", until=lambda: False, patient=timeout is None)
            lane = self.gates.standing()
            if lane not in self._given:  # set free
                self.changed.wait_for(lambda: self._queued or self._over_locked())
                return self._take_locked() if self._queued else None
            given = self._given.pop(lane)
            if given == TIMED_OUT:
                raise TimeoutError
            if isinstance(given, Client):
                self.gates.hold("Q", given)
            return given

    def process_connection(self, connection: Any) -> None:
        connection.holds = True
        super().process_connection(connection)

    def process_until_idle(self, connection: Any, go_on: Callable[[], bool]) -> bool:
        connection.holds = False
        return super().process_until_idle(connection, go_on)

    def process_without_waiting(self, connection: Any, offload: Executor | None) -> bool:
        with self.changed:
            self._begin(connection)
            connection.holds = False
            if connection.job == "none" and connection.requests and offload is not None and not self._closed:
                self.gates.hold("R", connection)
                connection.requests -= 1
                connection.job = "runs"
                offload.submit(functools.partial(self._handle, connection)).add_done_callback(
                    lambda _: self._hand_back(connection))
            else:
                if connection.job == "done":
                    self.gates.hold("W", connection)
                    connection.job = "none"
                    step = self._after_answer(connection)
                else:
                    step = self._next_step(connection)
                if step == "over":
                    self._end(connection)
                    return False
                connection.sent = step == "again"
            self._move(connection, "idle")
            return True

    def refuse(self, connection: Any) -> None:
        self.gates.hold("C", connection)
        super().refuse(connection)

    def _next_step(self, connection: ScriptedConnection) -> str:
        """Serve its next request; if there is none, wait for it or, if that is not done here, say that it is idle."""
        client = cast("Client", connection)
        while not client.requests:
            if client.gone or self._closed or self.gates.free:
                return "over"
            if not client.holds:
                return "idle"
            self.gates.hold("K" if client.begun else "R", client,
                            lambda: bool(client.requests or client.gone or self._closed))
        client.requests -= 1
        self._handle(client)
        return self._after_answer(client)

    def _handle(self, client: Client) -> None:
        with self.changed:
            client.begun += 1
            self.gates.hold("H", client, lambda: client.answers > 0)
            client.answers -= 1

    def _after_answer(self, client: Client) -> str:
        if self._closed or (client.gone and not client.requests):
            return "over"
        return "again" if client.requests else "idle"

    def _hand_back(self, client: Client) -> None:
        with self.changed:
            client.job = "done"
            client.send_locked()

    def _take_locked(self) -> Client:
        client = cast("Client", self._queued.popleft())
        self._move(client, "accepted")
        return client

    def _over_locked(self) -> bool:
        return self._closed and not self._queued and not self.count_locked("parked")
