"""One thread for all connections: the event loop, which servers such as Woo are made of, as the contrast.

In one sentence
    One thread waits for all connections at once, does for each what can be done without waiting, and waits again.

Who accepts, who serves
    The loop's thread does both, for every connection; what waits for its client is parked, and costs no thread.

        while (connection := acceptor.accept()) is not None:          # a new one, or one that is ready
            if acceptor.process_without_waiting(connection, offload):
                acceptor.park(connection)

    There is nothing to hand over, to lock or to wake, so hardly anything is as cheap for a connection as this; until a
    handler takes time. One that sleeps for a millisecond keeps everybody waiting for that millisecond: at most 1,000
    requests a second, however many connections there are, and however idle the machine is. That is the model's price,
    and the reason why "asynchronous" servers ask for handlers that never block. docs/event-loop.md has the figures.

    offload     The cure: handlers are submitted to an executor (concurrent.futures), and the loop only reads and
    (Executor)  writes. A connection is parked until its job is done; then whatever thread has noticed that has it come
                back from accept(). That is the wake-up, and there is no other; `python -m tests.crossings` is what
                shows that none is lost. With a ThreadPoolExecutor this is a pool again, with a hand-off there and one
                back for each request; with one of processes, or a cluster's such as Dask's, handlers run on other cores
                and machines.

Thread states
    state      where                      counted by           woken by              on stop
    STARTING   promised, not running      threads[STARTING]    the system            enters its loop
    ACCEPTING  acceptor.accept()          threads[ACCEPTING]   a client, a job       accept() returns None: leaves
    SERVING    process_without_waiting()  threads[SERVING]     itself                parks it again, or ends it
    LEAVING    end of _run                threads[LEAVING]     -                     joined by shutdown()

    The executor's threads are its owner's, and are not counted. A connection whose handler they run counts as parked.

When it is busy
    Without `offload`, whatever comes waits in the kernel for the one thread: new connections in the backlog, requests
    in their sockets. With it, the executor's queue is where requests wait, and has no limit of ours; neither has the
    number of connections: see the acceptor's Limits.connections. Nothing is refused here.

    No client has the loop for long: it is parked where it would be waited for, and behind the others when its answer is
    sent, whatever else it has sent already. Only a handler can hold everybody up.

How it stops
    Idle connections come back from accept() and are closed; those in progress stay parked until they have been
    answered, or until the deadline; then accept() returns None, and the thread leaves. The executor is its owner's to
    shut down, after the server. A job that has not begun by the deadline is cancelled; one that runs is the executor's
    to see through: its client gets nothing, and its connection is closed when it is done.
"""

from __future__ import annotations

from concurrent.futures import Executor

from taskmaster.base import AcceptorSteps, Connection, ThreadState, logger
from taskmaster.books import ACCEPTING, SERVING
from taskmaster.threaded import ThreadedTaskmaster

__all__ = ["EventLoopTaskmaster"]


class EventLoopTaskmaster(ThreadedTaskmaster):
    """One thread accepts and serves everything, waiting for nobody. See the module for the whole story.

    offload: runs the handlers, if there is one: any executor, which stays its owner's, to be shut down after the
        server. One of processes or of other machines gets the handler pickled: a function at the top level of a module.
    """

    max_accept_count = None

    def __init__(self, *, offload: Executor | None = None) -> None:
        super().__init__()
        if offload is not None and (isinstance(offload, type) or not callable(getattr(offload, "submit", None))):
            raise TypeError(f"offload={offload!r}: pass an executor, such as concurrent.futures.ThreadPoolExecutor(); "
                            "or None, and the handlers run on the loop's own thread")
        # Fixed at construction.
        self.offload = offload
        self.max_thread_count = 1 if offload is None else None

    def execute_acceptor(self, acceptor: AcceptorSteps) -> None:
        """As in the contract; and whatever `offload.submit` raises, RuntimeError if it has been shut down."""
        self.begin(acceptor)
        if self.offload is not None:
            # One that cannot run anything fails here. And one that forks its processes when there is something to do,
            # does so now: later, they would inherit the connections that are open, and nobody could close those.
            self.offload.submit(_nothing)
        self.start(self._loop, "loop")

    def handle_incoming_connection(self, connection: Connection) -> None:
        lock = self.lock
        lock.acquire()  # `with` costs twice as much, and this is done for every request
        try:
            self.count_in_locked(connection)
            self.enter_locked(SERVING)
        finally:
            lock.release()
        while True:
            idle = self.process(connection)
            lock.acquire()
            try:
                self.count_out_locked(idle)
                self.enter_locked(ACCEPTING)
            finally:
                lock.release()
            if not idle or self.park(connection):
                return
            with lock:  # the server stops, and it stands in the queue: to its end, now
                self.enter_locked(SERVING)
                connection = self.queue.popleft()

    def process(self, connection: Connection) -> bool:
        try:
            return self.acceptor.process_without_waiting(connection, self.offload)
        except BaseException:
            logger.critical("processing %s raised; this is a bug in the acceptor", connection.peer, exc_info=True)
            return False

    def _loop(self) -> None:
        self.enter(ThreadState.ACCEPTING)
        while (connection := self.acceptor.accept()) is not None:
            self.hand_over(connection)
        self.leave("stopped")


def _nothing() -> None:
    """Run by the executor, wherever that is."""
