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
        self._begin(acceptor)
        self._start_now(self._work, "single", "start")

    def handle_incoming_connection(self, connection: Connection) -> None:
        with self._lock:
            self._accepted += 1
            self._enter_locked(ThreadState.SERVING)
        self._process(connection)
        with self._lock:
            self._served += 1
            self._enter_locked(ThreadState.ACCEPTING)

    def _work(self) -> None:
        self._enter(ThreadState.ACCEPTING)
        while (connection := self.acceptor.accept()) is not None:
            self._hand_over(connection)
        self._leave("stopped")
