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
    STARTING   promised by resize()   threads[STARTING]    the system            serves what is queued
    SERVING    promised, not running  threads[SERVING]     the system            serves its connection
    SERVING    process_connection()   threads[SERVING]     its client            ends its request, or is cut
    LEAVING    end of _run            threads[LEAVING]     -                     joined by the next start, or shutdown()

When it is busy
    Up to `max_thread_count` workers exist, those that start and those that end included. Beyond that, connections
    wait: `max_accept_count` of them in a queue, holding no thread, and a worker that is done takes the oldest of them
    instead of ending (so under overload this is a pool); the next is refused with 503. With max_accept_count=None they
    wait in the kernel instead: the accepting thread stops accepting until a worker ends.

    Rules of the population:
      grow    a connection gets a new worker, up to `max_thread_count`; and so do those that are queued, when `resize`
              makes room for them.
      shrink  a worker leaves when its connection is over and none is queued, or if there are more than `resize` allows;
              never in the middle of its connection.
    A kept-alive connection holds its worker, idle or not: this model does not park.

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
        if max_accept_count is not None:
            whole_number("max_accept_count", max_accept_count, at_least=0)
        self.max_accept_count = max_accept_count
        # Guarded by self.lock.
        self.max_thread_count = self._limit(max_thread_count)
        self._room = threading.Condition(self.lock)
        """Notified by a worker that ends; the accepting thread waits, if it may not queue."""

    def execute_acceptor(self, acceptor: AcceptorSteps) -> None:
        self.begin(acceptor)
        self.start(self._accept_loop, "accept")

    def handle_incoming_connection(self, connection: Connection) -> None:
        self.reap(0)
        while True:
            with self.lock:
                room = self._room_locked()
                if room or not self.counts[ThreadState.LEAVING]:
                    self.accepted += 1
                    if room:
                        self.promise_locked("a connection", ThreadState.SERVING)
                    elif queued := self.max_accept_count is None or len(self.queue) < self.max_accept_count:
                        self.queue.append(connection)  # whichever worker is done next takes it
                    else:
                        self.refused += 1
                    break
            self.reap()  # at the limit, but one is on its way out; wait, or nobody might be left to take the queue
        if room:
            self._start_worker(connection)
        elif not queued:
            self.refuse(connection)

    def resize(self, max_thread_count: int | None) -> None:
        """Have so many workers at most, also while it runs. Any thread; a second call changes nothing.

        With more, those that are queued get their workers at once. With fewer, those too many leave when they are done
        with their connection. TypeError or ValueError as from the constructor, and then nothing is changed.
        """
        limit = self._limit(max_thread_count)
        with self.lock:
            self.max_thread_count = limit
            self._room.notify()
        self.reap(0)
        try:
            while self._promise_helper():
                self.start_promised(self._help, "worker")
        except Exception as error:
            logger.error("resize(%s): no more workers: %s", limit, error)

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
        """The oldest connection queued for a thread. None: there is none, or more are served than `resize` allows, and
        others take it; then this thread has left."""
        with self.lock:
            self.served += 1
            self._room.notify()
            if self.queue and self._allows_locked(self.counts[ThreadState.SERVING] - 1):
                return self.queue.popleft()
            self.leave_locked("connection over")
            return None

    def _promise_helper(self) -> bool:
        """Promise a worker to what is queued, if there is room for one; False if there is none, or nothing queued."""
        with self.lock:
            helps = (len(self.queue) > self.counts[ThreadState.STARTING] and self._running and not self.ending
                     and self._room_locked())
            if helps:
                self.promise_locked("resized")
            return helps

    def _help(self) -> None:
        with self.lock:
            if not self.queue or not self._allows_locked(self.counts[ThreadState.SERVING]):  # others were quicker
                self.leave_locked("connection over")
                return
            self.enter_locked(ThreadState.SERVING)
            connection = self.queue.popleft()
        self._serve(connection)

    def _room_locked(self) -> bool:
        """For one worker more; one that ends counts until it has been joined. The accepting thread is in none of these
        states while it accepts."""
        return self._allows_locked(self.counts[ThreadState.STARTING] + self.counts[ThreadState.SERVING]
                                   + self.counts[ThreadState.LEAVING])

    def _allows_locked(self, others: int) -> bool:
        """Whether there may be one beside so many others."""
        return self.max_thread_count is None or others < self.max_thread_count

    def _wait_for_room(self) -> None:
        """Accept nothing that would have to wait: for max_accept_count=None."""
        def room() -> bool:
            return self._allows_locked(self.counts[ThreadState.SERVING])

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

    def _limit(self, max_thread_count: int | None) -> int | None:
        """`max_thread_count`, checked; TypeError or ValueError with the fix."""
        if max_thread_count is not None:
            return whole_number("max_thread_count", max_thread_count, at_least=1)
        if self.max_accept_count is not None:
            raise ValueError(f"max_accept_count={self.max_accept_count} without max_thread_count: with no limit on "
                             "threads nothing ever waits; give both, or max_accept_count=None")
        return None
