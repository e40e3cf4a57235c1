"""A fixed pool of workers behind a queue: the classic.

In one sentence
    One thread accepts and puts each connection into a bounded queue, from which n workers take them.

Who accepts, who serves
    The accepting thread only accepts; the workers only serve. Threads are made once, at the start. Instead, each
    connection pays for a hand-off: the accepting thread must wake a worker, which is a context switch, often two.

        accepting thread:  while (connection := acceptor.accept()) is not None: queue it
        worker:            while (connection := take one from the queue) is not None:
                               acceptor.process_connection(connection)

    With idle="park" a worker gives an idle connection back, and the accepting thread queues it again when its client
    has sent something: so it is a hand-off for each request, not for each connection. That is the price of parking in
    this model. The last line is then

                               if acceptor.process_until_idle(connection, go_on): acceptor.park(connection)

Thread states
    state      where                  counted by           woken by              on stop
    STARTING   promised, not running  threads[STARTING]    the system            enters its loop
    ACCEPTING  acceptor.accept()      threads[ACCEPTING]   a client, or stop     accept() returns None: leaves
    WAITING    _next_connection()     threads[WAITING]     the accepting thread  leaves, the queue being empty
    WAITING    _wait_for_room()       threads[WAITING]     a worker that ends    accepts what is left, then leaves
    SERVING    process_connection()   threads[SERVING]     its client            ends its request, or is cut
    LEAVING    end of _run            threads[LEAVING]     -                     joined by resize(), or shutdown()

When it is busy
    `threads` connections are served; `queue_size` more wait in the queue, the oldest first; the next is refused with
    503. With queue_size=None they wait in the kernel instead: the accepting thread stops accepting until a worker is
    free. The number of threads changes only by `resize`, so it must be chosen in advance: with idle="hold" a connection
    that is kept alive holds its worker, and as many of those as there are threads keep everybody else waiting.

    With idle="park" it holds none while it is idle, and so `threads` bounds the requests served at once, not the
    connections. One that comes back is treated as a new one is: it is queued, or refused. Whether a worker goes on with
    a request that is there already is decided by `inline`: see `ThreadedTaskmaster.choose_parking`.

    Rules of the population:
      grow    `resize` starts the workers that are missing, at once. Nothing else does: the load changes nothing.
      shrink  after `resize` a worker too many leaves when it is free; never in the middle of its connection.

How it stops
    accept() returns what the kernel had queued and what is parked, then None, and the accepting thread closes the queue
    and leaves; the workers finish what is queued, and leave. A connection that a worker wanted to park is queued, for
    parking is no longer possible, and so it is finished too.
"""

from __future__ import annotations

import threading

from taskmaster.arguments import whole_number
from taskmaster.base import AcceptorSteps, Connection, ThreadState, logger
from taskmaster.threaded import DEFAULT_IDLE, Idle, Inline, ThreadedTaskmaster

__all__ = ["PooledTaskmaster"]

_QUEUE = 1000
"""By default: about what the kernel's backlog holds. With idle="park" each request comes through the queue, not each
connection, so a short queue refuses clients that have been served before: 64 did, with 100 clients and 16 threads."""


class PooledTaskmaster(ThreadedTaskmaster):
    """One accepting thread, one bounded queue, `threads` workers. See the module for the whole story.

    threads: workers, made at the start; so many connections are served at once (this is max_thread_count).
    queue_size: connections that may wait for a worker, 1,000 by default; the next gets 503 (this is max_accept_count;
        None: they wait in the kernel's backlog, and none is refused).
    idle: "park": a connection that is idle gives its worker back; "hold": it keeps it.
    inline: with idle="park", whether a worker goes on with a connection whose next request is there already: "fair",
        "always" or "never".
    """

    def __init__(self, *, threads: int = 16, queue_size: int | None = _QUEUE, idle: Idle = DEFAULT_IDLE,
                 inline: Inline = "fair") -> None:
        super().__init__()
        # Fixed at construction.
        if queue_size is not None:
            whole_number("queue_size", queue_size, at_least=0)
        self.max_accept_count = queue_size
        self.choose_parking(idle, inline)
        # Guarded by self.lock.
        self.max_thread_count: int = whole_number("threads", threads, at_least=1)
        self._closed = True
        """The accepting thread has left, or has not been promised yet; no more will be queued by it."""
        self._work_to_do = threading.Condition(self.lock)
        """Notified by the accepting thread, when it queues one or closes the queue; the workers wait."""
        self._room = threading.Condition(self.lock)
        """Notified by a worker that is done; the accepting thread waits, if it may not queue."""

    def execute_acceptor(self, acceptor: AcceptorSteps) -> None:
        self.begin(acceptor)
        with self.lock:
            self._closed = False
            self.promise_locked("start")
        self.start_promised(self._accept_loop, "accept")  # first: it closes the queue if a worker cannot start
        while self._promise_worker("start", closed=True):  # what is queued is to be served, closed or not
            self.start_promised(self._work, "worker")

    def handle_incoming_connection(self, connection: Connection) -> None:
        with self.lock:
            self.count_in_locked(connection)
            queued = self.max_accept_count is None or not connection.refusable or (
                self.counts[ThreadState.SERVING] + len(self.queue) < self.max_thread_count + self.max_accept_count)
            if queued:
                self.queue.append(connection)
                self._work_to_do.notify()
            else:
                self.refused += 1
        if not queued:
            self.refuse(connection)

    def resize(self, threads: int) -> None:
        """Have so many workers, also while it runs. Any thread; a second call with the same number changes nothing.

        More are started at once. If there are too many, each that is free leaves, and the others when they are done
        with their connection. TypeError or ValueError as from the constructor, and then nothing is changed. A worker
        that the system does not give is logged, and tried again by the next call.
        """
        whole_number("threads", threads, at_least=1)
        with self.lock:
            self.max_thread_count = threads
            self._work_to_do.notify_all()  # those who wait look whether they are too many
            self._room.notify()
        self.reap(0)
        try:
            while self._promise_worker("resized"):
                self.start_promised(self._work, "worker")
        except Exception as error:
            logger.error("resize(%d): no more workers: %s", threads, error)

    def others_idle(self) -> bool:
        return self.counts[ThreadState.SERVING] < self._workers_locked() and super().others_idle()

    def _accept_loop(self) -> None:
        self.enter(ThreadState.ACCEPTING)
        try:
            while True:
                if self.max_accept_count is None:
                    self._wait_for_room()
                if (connection := self.acceptor.accept()) is None:
                    break
                self.hand_over(connection)
        except BaseException:
            self._close("died")  # whatever ends this thread: the workers must not wait for ever
            raise
        self._close("stopped")

    def _close(self, reason: str) -> None:
        with self.lock:
            self._closed = True
            self._work_to_do.notify_all()
            self.leave_locked(reason)

    def _work(self) -> None:
        connection = self._next_connection()
        while connection is not None:
            if self.process(connection):
                self._count_parked()
                self.park(connection)  # if it is queued instead, this thread looks there next
            connection = self._next_connection()

    def _count_parked(self) -> None:
        with self.lock:
            self.count_out_locked(idle=True)
            self.enter_locked(ThreadState.WAITING)
            self._room.notify()

    def _next_connection(self) -> Connection | None:
        """The oldest connection queued, waiting for one if need be. None: the queue is closed and empty, or there are
        too many workers; then this one has left."""
        with self.lock:
            if self.state_locked() is ThreadState.SERVING:
                self.count_out_locked(idle=False)
                self._room.notify()
            self.enter_locked(ThreadState.WAITING)
            self._work_to_do.wait_for(lambda: self.queue or self._closed or self._too_many_locked())
            if self._too_many_locked():
                self.leave_locked("resized")
                return None
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

    def _promise_worker(self, reason: str, *, closed: bool = False) -> bool:
        """Promise one, if there are too few; unless it stops, or the queue is closed. (closed: also then.)"""
        with self.lock:
            missing = ((closed or not self._closed) and not self.ending
                       and self._workers_locked() < self.max_thread_count)
            if missing:
                self.promise_locked(reason)
            return missing

    def _too_many_locked(self) -> bool:
        """Only `resize` makes them too many, and it wakes all who wait: so none of them leaves with a wake-up that was
        meant for another."""
        return self._workers_locked() > self.max_thread_count

    def _workers_locked(self) -> int:
        """All threads that have not left, but the accepting one."""
        return self._staying_locked() - (not self._closed)
