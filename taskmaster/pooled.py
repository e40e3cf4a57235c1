"""A fixed pool of workers behind a queue: the classic.

In one sentence
    One thread accepts and puts each connection into a bounded queue, from which n workers take them.

Who accepts, who serves
    The accepting thread only accepts; the workers only serve. Threads are made once, at the start. Instead, each
    connection pays for a hand-off: the accepting thread must wake a worker, which is a context switch, often two.

        accepting thread:  while (connection := acceptor.accept()) is not None: queue it
        worker:            while (connection := take one from the queue) is not None:
                               acceptor.process_connection(connection)

Thread states
    state      where                  counted by           woken by              on stop
    STARTING   promised, not running  threads[STARTING]    the system            enters its loop
    ACCEPTING  acceptor.accept()      threads[ACCEPTING]   a client, or stop     accept() returns None: leaves
    WAITING    _next_connection()     threads[WAITING]     the accepting thread  leaves, the queue being empty
    WAITING    _wait_for_room()       threads[WAITING]     a worker that ends    accepts what is left, then leaves
    SERVING    process_connection()   threads[SERVING]     its client            ends its request, or is cut
    LEAVING    end of _run            threads[LEAVING]     -                     joined by shutdown()

When it is busy
    `threads` connections are served; `queue_size` more wait in the queue, the oldest first; the next is refused with
    503. With queue_size=None they wait in the kernel instead: the accepting thread stops accepting until a worker is
    free. The number of threads never changes, so it must be chosen in advance: a connection that is kept alive holds
    its worker, and as many of those as there are threads keep everybody else waiting.

How it stops
    accept() returns what the kernel had queued, then None, and the accepting thread closes the queue and leaves; the
    workers finish what is queued, and leave.
"""

from __future__ import annotations

import threading

from taskmaster.arguments import whole_number
from taskmaster.base import AcceptorSteps, Connection, ThreadState
from taskmaster.threaded import ThreadedTaskmaster

__all__ = ["PooledTaskmaster"]


class PooledTaskmaster(ThreadedTaskmaster):
    """One accepting thread, one bounded queue, `threads` workers. See the module for the whole story.

    threads: workers, made at the start; so many connections are served at once (this is max_thread_count).
    queue_size: connections that may wait for a worker; the next gets 503 (this is max_accept_count; None: they wait in
        the kernel's backlog, and none is refused).
    """

    def __init__(self, *, threads: int = 16, queue_size: int | None = 64) -> None:
        super().__init__()
        # Fixed at construction.
        self.max_thread_count: int = whole_number("threads", threads, at_least=1)
        if queue_size is not None:
            whole_number("queue_size", queue_size, at_least=0)
        self.max_accept_count = queue_size
        # Guarded by self.lock.
        self._closed = True
        """No more will be queued."""
        self._work_to_do = threading.Condition(self.lock)
        """Notified by the accepting thread, when it queues one or closes the queue; the workers wait."""
        self._room = threading.Condition(self.lock)
        """Notified by a worker that is done; the accepting thread waits, if it may not queue."""

    def execute_acceptor(self, acceptor: AcceptorSteps) -> None:
        self.begin(acceptor)
        self._closed = False
        self.start(self._accept_loop, "accept")  # first, because it closes the queue if a worker cannot start
        for _ in range(self.max_thread_count):
            self.start(self._work, "worker")

    def handle_incoming_connection(self, connection: Connection) -> None:
        with self.lock:
            self.accepted += 1
            queued = self.max_accept_count is None or (
                self.counts[ThreadState.SERVING] + len(self.queue) < self.max_thread_count + self.max_accept_count)
            if queued:
                self.queue.append(connection)
                self._work_to_do.notify()
            else:
                self.refused += 1
        if not queued:
            self.refuse(connection)

    def _accept_loop(self) -> None:
        self.enter(ThreadState.ACCEPTING)
        try:
            while True:
                if self.max_accept_count is None:
                    self._wait_for_room()
                if (connection := self.acceptor.accept()) is None:
                    break
                self.hand_over(connection)
        finally:  # whatever ends this thread: the workers must not wait for ever
            with self.lock:
                self._closed = True
                self._work_to_do.notify_all()
        self.leave("stopped")

    def _work(self) -> None:
        connection = self._next_connection()
        while connection is not None:
            self.process(connection)
            connection = self._next_connection()

    def _next_connection(self) -> Connection | None:
        """The oldest connection queued, waiting for one if need be; None once the queue is closed and empty."""
        with self.lock:
            if self.state_locked() is ThreadState.SERVING:
                self.served += 1
                self._room.notify()
            self.enter_locked(ThreadState.WAITING)
            self._work_to_do.wait_for(lambda: self.queue or self._closed)
            if not self.queue:
                self.leave_locked("stopped")
                return None
            self.enter_locked(ThreadState.SERVING)
            return self.queue.popleft()

    def _wait_for_room(self) -> None:
        """Accept nothing that would have to wait: for queue_size=None."""
        def room() -> bool:
            return self.counts[ThreadState.SERVING] + len(self.queue) < self.max_thread_count

        with self.lock:
            if not room():
                self.enter_locked(ThreadState.WAITING)
                self._room.wait_for(room)
                self.enter_locked(ThreadState.ACCEPTING)
