"""A thread for every connection: Hunchentoot's default, the textbook model.

In one sentence
    One thread accepts; each connection gets a new thread, which serves it and ends.

Who accepts, who serves
    The accepting thread only accepts. A worker is started for each connection and ends with it, so each connection
    pays for the start and the end of a thread: without keep-alive that is every request.

        accepting thread:  while (connection := acceptor.accept()) is not None: start a worker for it
        worker:            acceptor.process_connection(connection)

Thread states
    state      where                  counted by           woken by              on stop
    STARTING   promised, not running  threads[STARTING]    the system            runs, serves its connection, leaves
    ACCEPTING  acceptor.accept()      threads[ACCEPTING]   a client, or stop     accept() returns None: leaves
    WAITING    _wait_for_room()       threads[WAITING]     a worker that ends    accepts what is left, then leaves
    SERVING    process_connection()   threads[SERVING]     its client            ends its request, or is cut
    REFUSING   answer_refusals()      threads[REFUSING]    refused clients       leaves when none is left
    LEAVING    end of _run            threads[LEAVING]     -                     joined by the next start, or shutdown()

When it is busy
    Up to `max_thread_count` workers exist, the ending one included. Beyond that, connections wait: `max_accept_count`
    of them in a queue, holding no thread, and a worker that is done takes the oldest of them instead of ending (so
    under overload this is a pool); the next is refused with 503. With max_accept_count=None they wait in the kernel
    instead: the accepting thread stops accepting until a worker ends.

How it stops
    accept() returns what the kernel had queued, then None, and the accepting thread leaves; the workers finish what is
    queued and being served, and leave.
"""

from __future__ import annotations

import threading

from taskmaster.arguments import whole_number
from taskmaster.base import AcceptorSteps, Connection, ThreadState, logger
from taskmaster.threaded import ThreadedTaskmaster

__all__ = ["ThreadPerConnectionTaskmaster"]

_WORKERS = (ThreadState.STARTING, ThreadState.SERVING, ThreadState.LEAVING)
"""The states of a thread that max_thread_count counts."""


class ThreadPerConnectionTaskmaster(ThreadedTaskmaster):
    """One accepting thread, one new thread per connection. See the module for the whole story.

    max_thread_count: connections served at once, each by a thread (None: without limit).
    max_accept_count: connections that may wait for one of those threads; the next gets 503 (None: they wait in the
        kernel's backlog, and none is refused).
    """

    def __init__(self, *, max_thread_count: int | None = 100, max_accept_count: int | None = 20) -> None:
        super().__init__()
        # Fixed at construction.
        if max_thread_count is not None:
            whole_number("max_thread_count", max_thread_count, at_least=1)
        if max_accept_count is not None:
            whole_number("max_accept_count", max_accept_count, at_least=0)
            if max_thread_count is None:
                raise ValueError(f"max_accept_count={max_accept_count} without max_thread_count: with no limit on "
                                 "threads nothing ever waits; give both, or max_accept_count=None")
        self.max_thread_count = max_thread_count
        self.max_accept_count = max_accept_count
        # Guarded by self.lock.
        self._room = threading.Condition(self.lock)
        """Notified by a worker that ends; the accepting thread waits, if it may not queue."""

    def execute_acceptor(self, acceptor: AcceptorSteps) -> None:
        self.begin(acceptor)
        self.start(self._accept_loop, "accept")

    def handle_incoming_connection(self, connection: Connection) -> None:
        self.reap(0)
        while True:
            with self.lock:
                workers = sum(self.counts[state] for state in _WORKERS)
                start = self.max_thread_count is None or workers < self.max_thread_count
                if start or not self.counts[ThreadState.LEAVING]:
                    queued = self._admit_locked(connection, start)
                    break
            self.reap()  # at the limit, but one is on its way out; wait, or nobody might be left to take the queue
        if start:
            self._start_worker(connection)
        elif not queued:
            self.refuse(connection)

    def _accept_loop(self) -> None:
        self.enter(ThreadState.ACCEPTING)
        while True:
            if self.max_accept_count is None:
                self._wait_for_room()
            if (connection := self.acceptor.accept()) is None:
                break
            self.hand_over(connection)
        self.leave("stopped")

    def _work(self) -> None:
        connection = self._next_connection()
        while connection is not None:
            self.process(connection)
            connection = self._next_connection()

    def _next_connection(self) -> Connection | None:
        """Its own connection for a worker that starts; for one that is done, the oldest that waits, or leave."""
        with self.lock:
            starting = self.state_locked() is ThreadState.STARTING
            if not starting:
                self.served += 1
                self._room.notify()
            # Of those queued, one each belongs to the workers that are starting. (A starting one may find none: another
            # has taken it, when a third could not be started, and its connection was in the queue for a moment.)
            if not self.queue or (not starting and len(self.queue) <= self.counts[ThreadState.STARTING]):
                self.leave_locked("connection over")
                return None
            self.enter_locked(ThreadState.SERVING)
            return self.queue.popleft()

    def _admit_locked(self, connection: Connection, start: bool) -> bool:
        """Promise `connection` a thread of its own if `start`; else let it wait, or return False: refuse it."""
        self.accepted += 1
        # The connection of a worker that is STARTING is in the queue too, but is not waiting for one to be free.
        waiting = len(self.queue) - self.counts[ThreadState.STARTING]
        if start:
            self.promise_locked("a connection")
        elif self.max_accept_count is not None and waiting >= self.max_accept_count:
            self.refused += 1
            return False
        self.queue.append(connection)
        return True

    def _wait_for_room(self) -> None:
        """Accept nothing that would have to wait: for max_accept_count=None."""
        def room() -> bool:
            busy = self.counts[ThreadState.STARTING] + self.counts[ThreadState.SERVING]
            return self.max_thread_count is None or busy < self.max_thread_count

        with self.lock:
            if not room():
                self.enter_locked(ThreadState.WAITING)
                self._room.wait_for(room)
                self.enter_locked(ThreadState.ACCEPTING)

    def _start_worker(self, connection: Connection) -> None:
        """Start the worker promised to `connection`; if the system gives no thread, refuse the connection."""
        try:
            self.start_promised(self._work, "worker")
        except Exception as error:
            logger.error("no thread for %s: %s", connection.peer, error)
            with self.lock:
                if connection not in self.queue:
                    return  # a worker that was done has taken it
                self.queue.remove(connection)
                self.refused += 1
            self.refuse(connection)
