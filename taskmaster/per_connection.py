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
    STARTING   promised, not running  threads[STARTING]    the system            enters its loop, to accept
    ACCEPTING  acceptor.accept()      threads[ACCEPTING]   a client, or stop     accept() returns None: leaves
    WAITING    _wait_for_room()       threads[WAITING]     a worker that ends    accepts what is left, then leaves
    SERVING    promised, not running  threads[SERVING]     the system            serves its connection
    SERVING    process_connection()   threads[SERVING]     its client            ends its request, or is cut
    LEAVING    end of _run            threads[LEAVING]     -                     joined by the next start, or shutdown()

When it is busy
    Up to `max_thread_count` workers exist, those that start and those that end included. Beyond that, connections
    wait: `max_accept_count` of them in a queue, holding no thread, and a worker that is done takes the oldest of them
    instead of ending (so under overload this is a pool); the next is refused with 503. With max_accept_count=None they
    wait in the kernel instead: the accepting thread stops accepting until a worker ends.

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
                workers = self.counts[ThreadState.SERVING] + self.counts[ThreadState.LEAVING]
                room = self.max_thread_count is None or workers < self.max_thread_count
                if room or not self.counts[ThreadState.LEAVING]:
                    self.accepted += 1
                    if room:
                        self.promise_locked("a connection", ThreadState.SERVING)
                    elif queued := len(self.queue) < (self.max_accept_count or 0):
                        self.queue.append(connection)  # whichever worker is done next takes it
                    else:
                        self.refused += 1
                    break
            self.reap()  # at the limit, but one is on its way out; wait, or nobody might be left to take the queue
        if room:
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

    def _serve(self, connection: Connection | None) -> None:
        while connection is not None:
            self.process(connection)
            connection = self._next_connection()

    def _next_connection(self) -> Connection | None:
        """The oldest connection queued for a thread; None if there is none, and then this thread leaves."""
        with self.lock:
            self.served += 1
            self._room.notify()
            if self.queue:
                return self.queue.popleft()
            self.leave_locked("connection over")
            return None

    def _wait_for_room(self) -> None:
        """Accept nothing that would have to wait: for max_accept_count=None."""
        def room() -> bool:
            return self.max_thread_count is None or self.counts[ThreadState.SERVING] < self.max_thread_count

        with self.lock:
            if not room():
                self.enter_locked(ThreadState.WAITING)
                self._room.wait_for(room)
                self.enter_locked(ThreadState.ACCEPTING)

    def _start_worker(self, connection: Connection) -> None:
        """Start the worker promised to `connection`; if the system gives no thread, refuse the connection."""
        try:
            self.start_promised(lambda: self._serve(connection), "worker", ThreadState.SERVING)
        except BaseException as error:  # whatever it is, the client gets its 503
            logger.error("no thread for %s: %s", connection.peer, error)
            self.refuse(connection)
