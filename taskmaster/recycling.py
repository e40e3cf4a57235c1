"""Threads that wait on the listen socket itself: hunchentoot-recycling-taskmaster's model.

In one sentence
    Every thread waits on the listen socket; whoever accepts a connection serves it, and then waits there again.

Who accepts, who serves
    Every thread does both. There is no queue, no dispatcher and no hand-off: the kernel wakes one of the waiting
    threads, which has the connection in its hands already. Threads are recycled, so it costs no thread start either.

        while (connection := acceptor.accept(idle_timeout)) is not None:
            if this was the last waiter: start a replacement
            acceptor.process_connection(connection)

Thread states
    state      where                  counted by           woken by              on stop
    STARTING   promised, not running  threads[STARTING]    the system            enters its loop
    ACCEPTING  acceptor.accept()      threads[ACCEPTING]   a client, or stop     accept() returns None: leaves
    SERVING    process_connection()   threads[SERVING]     its client            ends its request, or is cut
    LEAVING    end of _run            threads[LEAVING]     -                     joined by the next start, or shutdown()

When it is busy
    Rules of the population; a *waiter* is a thread ACCEPTING or STARTING:
      grow    when a connection takes the last waiter, a replacement is promised under the same lock, and started before
              the connection is served; never beyond `max_thread_count`.
      shrink  a waiter that got nothing for `idle_timeout` leaves if more than `standby` wait; never otherwise.
    So, while there is room, somebody always waits on the listen socket; and after a burst of any shape the population
    comes down to `standby`, each thread `idle_timeout` after its last connection.

    With max_accept_count=None (the default, and the pure form of the model) all `max_thread_count` threads may be
    serving; then nobody waits on the listen socket, and what comes waits in the kernel's backlog. With a number, there
    is one thread more, so that one always waits on the listen socket: when `max_thread_count` are being served, whoever
    accepts queues the connection, or refuses it if `max_accept_count` are queued already, and waits again.

How it stops
    accept() returns what the kernel had queued, then None, and each thread leaves when it sees that; threads that are
    serving finish first, and then serve what is queued.

How N threads should wait on one listen socket
    They share one epoll set, in which the socket is registered with EPOLLONESHOT: the kernel wakes one thread and
    disarms the socket; that thread accepts, arms it again, and serves. `python -m bench waiting` compares the ways
    there are; docs/waiting.md holds its figures, and the reasons:
      - one thread wakes for a connection, whether 8 wait or 256. A socket with a Python timeout, or a plain poll or
        epoll, wakes them all: a thundering herd.
      - the thread that has waited for the shortest time wakes first, so surplus threads stay idle and reach their
        idle_timeout. A blocking accept() wakes the waiters in turn: every thread gets a connection now and then, and no
        timeout ever sees that half of them would do.
      - a burst wakes threads one after the other, each by the one before, when it has accepted; the other ways wake a
        thread for each connection as it arrives, and they all queue for the GIL. Under load that is half the context
        switches, or less, and the least CPU time for a connection.
      - stopping wakes everybody without touching the listen socket. A blocking accept() is woken only by shutdown(2) of
        that socket, which resets whatever the kernel has queued.
"""

from __future__ import annotations

import threading

from taskmaster.arguments import seconds, whole_number
from taskmaster.base import AcceptorSteps, Connection, ThreadState, logger
from taskmaster.threaded import ThreadedTaskmaster

__all__ = ["RecyclingTaskmaster"]


class RecyclingTaskmaster(ThreadedTaskmaster):
    """Every thread accepts, serves, and accepts again. See the module for the whole story.

    standby: threads that wait when there is nothing to do, and are made at the start (8, or max_thread_count if that is
        less).
    max_thread_count: connections served at once, each by a thread.
    max_accept_count: connections that may wait for one of those threads; the next gets 503 (None: they wait in the
        kernel's backlog, and none is refused).
    idle_timeout: seconds without a connection after which a thread leaves, if more than `standby` wait.
    """

    def __init__(self, *, standby: int | None = None, max_thread_count: int = 100, max_accept_count: int | None = None,
                 idle_timeout: float = 10.0) -> None:
        super().__init__()
        # Fixed at construction.
        self.max_thread_count: int = whole_number("max_thread_count", max_thread_count, at_least=1)
        self.standby = min(8, max_thread_count) if standby is None else whole_number("standby", standby, at_least=1)
        if self.standby > max_thread_count:
            raise ValueError(f"standby={standby} is more than max_thread_count={max_thread_count}: "
                             "lower the one or raise the other")
        if max_accept_count is not None:
            whole_number("max_accept_count", max_accept_count, at_least=0)
        self.max_accept_count = max_accept_count
        self.idle_timeout = seconds("idle_timeout", idle_timeout)
        self._thread_limit = max_thread_count + (max_accept_count is not None)  # one more, which always waits

    def execute_acceptor(self, acceptor: AcceptorSteps) -> None:
        self.begin(acceptor)
        for _ in range(self.standby):
            self.start(self._work, "recycling")

    def handle_incoming_connection(self, connection: Connection) -> None:
        with self.lock:
            self.accepted += 1
            room = self.counts[ThreadState.SERVING] < self.max_thread_count
            if room:
                self.enter_locked(ThreadState.SERVING)
            elif queued := len(self.queue) < (self.max_accept_count or 0):
                self.queue.append(connection)  # whoever is done next takes it; this thread waits again
            else:
                self.refused += 1
            last = self._waiters_locked() == 0
        if last:
            self._replace()
        if room:
            self._serve(connection)
        elif not queued:
            self.refuse(connection)

    def _work(self) -> None:
        self.enter(ThreadState.ACCEPTING)
        while True:
            try:
                connection = self.acceptor.accept(self.idle_timeout)
            except TimeoutError:
                if self._retire():
                    return
                continue
            if connection is None:
                break
            self.hand_over(connection)
        self.leave("stopped")

    def _serve(self, connection: Connection | None) -> None:
        while connection is not None:
            self.process(connection)
            connection = self._next_connection()

    def _next_connection(self) -> Connection | None:
        """The oldest connection queued for a thread; None if there is none, and then this thread waits again."""
        with self.lock:
            self.served += 1
            if self.queue:
                return self.queue.popleft()
            self.enter_locked(ThreadState.ACCEPTING)
            return None

    def _replace(self) -> None:
        """Nobody waits on the listen socket: start a thread that does, if the limit allows.

        Why a thread is promised under the lock, and STARTING counts as waiting:
          1. A, the last waiter, accepts a connection, and is about to start B in its place
          2. C, done with its own connection, waits, accepts the next one, and finds nobody waiting, for B is not there
             yet
          3. without the promise C would start a thread too, and so would every thread of a burst: far too many
        """
        self.reap(0)
        while True:
            with self.lock:
                if self._waiters_locked():
                    return
                if promised := self._thread_count_locked() < self._thread_limit:
                    self.promise_locked("the last waiter was taken")
                elif not self.counts[ThreadState.LEAVING]:
                    return  # all threads there may be are serving: the next to be done waits again
            if promised:
                break
            self.reap()  # one is on its way out and makes room
        try:
            self.start_promised(self._work, "recycling")
        except BaseException as error:  # whatever it is, there is a connection to be served by this thread
            logger.error("no thread to wait in place of %s: %s", threading.current_thread().name, error)

    def _retire(self) -> bool:
        """Leave if more than `standby` wait; decided and done under one lock, so that no two leave for one too many."""
        self.reap(0)  # those that have left before
        with self.lock:
            if self._waiters_locked() <= self.standby:
                return False
            self.leave_locked(f"idle for {self.idle_timeout:g} s")
            return True

    def _waiters_locked(self) -> int:
        return self.counts[ThreadState.ACCEPTING] + self.counts[ThreadState.STARTING]
