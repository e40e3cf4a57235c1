"""One thread does everything: the yardstick.

In one sentence
    The thread that accepts a connection serves it to its end, and only then accepts the next.

Who accepts, who serves
    The same, only thread does both.

        while (connection := acceptor.accept()) is not None:
            acceptor.process_connection(connection)

Thread states
    state      where                  counted by           woken by              on stop
    STARTING   promised, not running  threads[STARTING]    the system            enters its loop
    ACCEPTING  acceptor.accept()      threads[ACCEPTING]   a client, or stop     accept() returns None: leaves
    SERVING    process_connection()   threads[SERVING]     its client            ends its request, or is cut
    LEAVING    end of _run            threads[LEAVING]     -                     joined by shutdown()

When it is busy
    Everybody else waits in the kernel's backlog, for as long as the one client keeps its connection: with keep-alive,
    one client that stays can have the server for itself. Nothing is refused. It costs nothing, either: no hand-off, no
    second thread, no lock that anyone else wants. What another model adds to this one is the price of that model.

How it stops
    accept() returns the connections the kernel had queued, then None.
"""

from __future__ import annotations

from taskmaster.base import AcceptorSteps, Connection, ThreadState
from taskmaster.threaded import ThreadedTaskmaster

__all__ = ["SingleThreadedTaskmaster"]


class SingleThreadedTaskmaster(ThreadedTaskmaster):
    """One thread accepts and serves, one connection at a time. See the module for the whole story."""

    max_thread_count = 1

    def execute_acceptor(self, acceptor: AcceptorSteps) -> None:
        self.begin(acceptor)
        self.start(self._work, "single")

    def handle_incoming_connection(self, connection: Connection) -> None:
        with self.lock:
            self.accepted += 1
            self.enter_locked(ThreadState.SERVING)
        self.process(connection)
        with self.lock:
            self.served += 1
            self.enter_locked(ThreadState.ACCEPTING)

    def _work(self) -> None:
        self.enter(ThreadState.ACCEPTING)
        while (connection := self.acceptor.accept()) is not None:
            self.hand_over(connection)
        self.leave("stopped")
