"""Threads that wait on the listen socket itself: hunchentoot-recycling-taskmaster's model.

In one sentence
    Every thread waits on the listen socket; whoever accepts a connection serves it, and then waits there again.

Who accepts, who serves
    Every thread does both. There is no queue, no dispatcher and no hand-off: the kernel wakes one of the waiting
    threads, which has the connection in its hands already. Threads are recycled, so it costs no thread start either.

        while (connection := acceptor.accept(idle_timeout)) is not None:
            if this was the last waiter: start a replacement
            acceptor.process_connection(connection)

    With idle="park" they wait for new connections and parked ones at once, for accept() returns both. Still no queue
    and no dispatcher: the kernel's list of what is ready is the queue, first in, first out, and whoever is free takes
    the next from it, as it would take a new connection. The last line is then

            if acceptor.process_until_idle(connection, go_on): acceptor.park(connection)

Thread states
    state      where                  counted by           woken by              on stop
    STARTING   promised, or _hold_on  threads[STARTING]    the system, the time  enters its loop
    ACCEPTING  acceptor.accept()      threads[ACCEPTING]   a client, or stop     accept() returns None: leaves
    SERVING    process_connection()   threads[SERVING]     its client            ends its request, or is cut
    LEAVING    end of _run            threads[LEAVING]     -                     joined by the next start, or shutdown()

When it is busy
    Rules of the population; a *waiter* is a thread ACCEPTING or STARTING:
      grow    when a connection takes the last waiter, a replacement is promised under the same lock, and started before
              the connection is served; never beyond `max_thread_count`. With idle="park", and without a number of
              connections that may wait, it holds on, STARTING, while the threads there are use all the CPU they can
              get and take turns: it looks at that for 2 ms, and no longer than 0.1 s in which none was free.
      shrink  a waiter that got nothing for `idle_timeout` leaves if more than `standby` wait; never otherwise.
      resize  `resize` changes the bounds; threads are started at once, and those too many leave when they are free.
    So, while there is room and CPU, somebody waits on the listen socket; and after a burst of any shape the population
    comes down to `standby`, each thread `idle_timeout` after its last connection. Since growing does not wait for
    anybody to be done, a response that never ends costs its own thread and freezes nobody (what granian#873 is about).
    Handlers that wait get as many threads as they can use, up to `max_thread_count`; handlers that compute get
    `standby`, for with a GIL more of them are slower together. (See `taskmaster.saturation`.)

    With max_accept_count=None (the default, and the pure form of the model) all `max_thread_count` threads may be
    serving; then nobody waits on the listen socket, and what comes waits in the kernel's backlog. With a number, there
    is one thread more, so that one always waits on the listen socket: when `max_thread_count` are being served, whoever
    accepts queues the connection, or refuses it if `max_accept_count` are queued already, and waits again.

    With idle="hold" a connection that is kept alive holds its thread, idle or not. With idle="park" it costs none while
    it is idle, and so `max_thread_count` bounds the requests served at once, not the connections. One that comes back
    is treated as a new one is: with a number, it may be queued, or refused. Whether a thread goes on with a request
    that is there already is decided by `inline`: see `ThreadedTaskmaster.choose_parking`.

How it stops
    accept() returns what the kernel had queued and what is parked, then None, and each thread leaves when it sees that;
    threads that are serving finish first, and then serve what is queued: also a connection that they wanted to park,
    for that is no longer possible.

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
import time

from taskmaster.arguments import seconds, whole_number
from taskmaster.base import AcceptorSteps, Connection, ThreadState, logger
from taskmaster.books import ACCEPTED, ACCEPTING, PARKED, SERVED, SERVING, STARTING
from taskmaster.cpus import available_cpus
from taskmaster.register import cpu_seconds_of_all
from taskmaster.saturation import CAN_TELL, saturated
from taskmaster.threaded import DEFAULT_IDLE, Idle, Inline, ThreadedTaskmaster

__all__ = ["RecyclingTaskmaster"]

_STANDBY = 4
"""By default: where handlers do not wait, p99 is less than half of what it is with 8, for the same CPU; and where they
do, there are more within milliseconds (docs/threads.md)."""
_LOOK, _LOOK_AT_MOST = 0.002, 0.02
"""Seconds for which a thread looks at what the others use before it joins them: at first, and at last, for each look
costs a wake-up."""
_NONE_FREE = 0.1
"""Seconds without a thread that was free for a connection, after which one more is needed, whatever they use."""


class RecyclingTaskmaster(ThreadedTaskmaster):
    """Every thread accepts, serves, and accepts again. See the module for the whole story.

    standby: threads that wait when there is nothing to do, and are made at the start (4, or max_thread_count if that is
        less).
    max_thread_count: connections served at once, each by a thread.
    max_accept_count: connections that may wait for one of those threads; the next gets 503 (None: they wait in the
        kernel's backlog, and none is refused).
    idle_timeout: seconds without a connection after which a thread leaves, if more than `standby` wait.
    idle: "park": a connection that is idle gives its thread back; "hold": it keeps it.
    inline: with idle="park", whether a thread goes on with a connection whose next request is there already: "fair",
        "always" or "never".
    """

    def __init__(self, *, standby: int | None = None, max_thread_count: int = 100, max_accept_count: int | None = None,
                 idle_timeout: float = 10.0, idle: Idle = DEFAULT_IDLE, inline: Inline = "fair") -> None:
        super().__init__()
        # Fixed at construction.
        if max_accept_count is not None:
            whole_number("max_accept_count", max_accept_count, at_least=0)
        self.max_accept_count = max_accept_count
        self.idle_timeout = seconds("idle_timeout", idle_timeout)
        self.choose_parking(idle, inline)
        # Guarded by self.lock.
        self.standby: int
        self.max_thread_count: int
        self.standby, self.max_thread_count = _bounds(standby, max_thread_count)
        self._turns = 0
        """How often a thread was free for a connection. `_hold_on` reads it without the lock: it looks again soon."""
        self._crowded = False
        """There are more threads than there may be, since `resize`. Read without the lock too: one that sees it late
        waits, or serves, once more before it leaves."""

    def execute_acceptor(self, acceptor: AcceptorSteps) -> None:
        self.begin(acceptor)
        self._crowded = False
        self._cpus = available_cpus()
        for _ in range(self.standby):
            with self.lock:
                if self._staying_locked() >= self.standby:  # a connection that came meanwhile, or resize(), made some
                    break
                self.promise_locked("start")
            self.start_promised(self._work, "recycling")

    def handle_incoming_connection(self, connection: Connection) -> None:
        cells, lock = self.cells, self.lock
        lock.acquire()  # here, and in `_serve`, is what the books cost for each request: numbers, and no calls
        try:
            if connection.resumed:  # as count_in_locked, which would be a call more for every request
                cells[PARKED] -= 1
                self._uncounted.pop(connection, None)
            else:
                cells[ACCEPTED] += 1
            self._turns += 1
            serving, waiting = cells[SERVING], cells[ACCEPTING]
            if room := serving < self.max_thread_count:
                cells[SERVING] = serving + 1
                cells[ACCEPTING] = waiting = waiting - 1
            elif queued := self._may_queue_locked() or not connection.refusable:
                self.queue.append(connection)  # whoever is done next takes it; this thread waits again
            else:
                self.refused += 1
            last = not waiting and not cells[STARTING] and self._may_grow_locked()
        finally:
            lock.release()
        if last:
            self._grow("the last waiter was taken")
        if room:
            self._serve(connection)
        elif not queued:
            self.refuse(connection)

    def resize(self, *, standby: int | None = None, max_thread_count: int | None = None) -> None:
        """Change these bounds, also while it runs; None leaves one as it is. Any thread; a second call changes nothing.

        Higher bounds have effect at once. With lower ones threads leave, each as it becomes free: when it is done with
        its connection, or has got none for `idle_timeout`, never in the middle. Meanwhile what is accepted beyond
        `max_thread_count` is queued, also with max_accept_count=None.

        TypeError or ValueError as from the constructor, and then nothing is changed. A thread that the system does not
        give is logged, and comes with the next connection that takes the last waiter.
        """
        with self.lock:
            self.standby, self.max_thread_count = _bounds(
                self.standby if standby is None else standby,
                self.max_thread_count if max_thread_count is None else max_thread_count)
            self._crowded = self._staying_locked() > self._thread_limit
        self._grow("resized", fill=True)

    def others_idle(self) -> bool:
        return self.cells[ACCEPTING] > 0 and super().others_idle()  # one that is STARTING may hold on

    def _replace(self) -> None:
        try:
            self._hold_on()
        except OSError:  # the system, or a sandbox, does not tell what threads have used
            pass
        self._work()

    def _hold_on(self) -> None:
        """Return as soon as there is CPU to be had. Or if nobody is to be held: those that come have to wait for the
        thread that holds on, and not for the CPU, when all others are in handlers that wait, and one of them computes;
        which is to be seen in that none has been free for `_NONE_FREE`."""
        pause, before, then = _LOOK, cpu_seconds_of_all(), time.monotonic()
        turns, since = self._turns, then
        while not self.ending:
            time.sleep(pause)  # there is nothing to wait for but time
            after, now = cpu_seconds_of_all(), time.monotonic()
            if not saturated(before, after, now - then, self._cpus):
                return
            if self._turns != turns:
                turns, since = self._turns, now
            elif now - since >= _NONE_FREE:
                return
            with self.lock:
                if self.cells[SERVING] + self.cells[ACCEPTING] < self.standby:  # `resize`, or it is the start
                    return
            pause, before, then = min(2 * pause, _LOOK_AT_MOST), after, now

    def _work(self) -> None:
        self._serve(self._take_queued(starting=True))
        while not (self._crowded and self._retire()):
            try:
                connection = self.acceptor.accept(self.idle_timeout)
            except TimeoutError:
                if self._retire(timed_out=True):
                    return
                continue
            if connection is None:
                self.leave("stopped")
                return
            self.hand_over(connection)

    def _serve(self, connection: Connection | None) -> None:
        """Serve `connection`, for which the calling thread is counted as SERVING, and what is queued after it. It is
        ACCEPTING when this returns.

        Only the numbers say so: for the register it is ACCEPTING all the time, since `enter_locked` would be the half
        of what is paid here for every request. So nothing in here may raise.
        """
        cells, lock = self.cells, self.lock
        while connection is not None:
            idle = self.process(connection)
            following = None
            lock.acquire()  # `with` costs twice as much
            try:
                cells[PARKED if idle else SERVED] += 1
                serving = cells[SERVING]
                # Not while more are served than `resize` allows: the others take what is queued.
                if self.queue and serving <= self.max_thread_count:
                    following = self.queue.popleft()
                else:
                    cells[SERVING] = serving - 1
                    cells[ACCEPTING] += 1
            finally:
                lock.release()
            try:
                if idle and not self.acceptor.park(connection):  # it stops
                    self.queue_unparked(connection)
                    if following is None:
                        following = self._take_queued()
            except BaseException:
                logger.critical("parking %s raised; this is a bug in the acceptor", connection.peer, exc_info=True)
            connection = following

    def _take_queued(self, *, starting: bool = False) -> Connection | None:
        """The oldest connection queued for a thread, for one that has none: it is starting, or could park its own no
        more. None if there is none, or enough are served without it."""
        with self.lock:
            if starting:
                self.enter_locked(ThreadState.ACCEPTING)
            if not self.queue or self.cells[SERVING] >= self.max_thread_count:
                return None
            self.cells[ACCEPTING] -= 1
            self.cells[SERVING] += 1
            connection = self.queue.popleft()
        self._grow("the last waiter was taken")
        return connection

    def _grow(self, reason: str, *, fill: bool = False) -> None:
        """If nobody waits on the listen socket, start a thread that does, if the limit allows.

        fill: for `resize`, as many as there must be: also for what is queued, and for `standby`.

        Why a thread is promised under the lock, and STARTING counts as waiting:
          1. A, the last waiter, accepts a connection, and is about to start B in its place
          2. C, done with its own connection, waits, accepts the next one, and finds nobody waiting, for B is not there
             yet
          3. without the promise C would start a thread too, and so would every thread of a burst: far too many
        """
        self.reap(0)
        while True:
            with self.lock:
                if not (self._too_few_locked() if fill else self._waiters_locked() == 0):
                    return
                if promised := self._thread_count_locked() < self._thread_limit:
                    self.promise_locked(reason)
                elif not self.counts[ThreadState.LEAVING]:
                    return  # all threads there may be are serving: the next to be done waits again
            if not promised:
                self.reap()  # one is on its way out and makes room
                continue
            # With a number of connections that may wait, somebody must be there to count them; and where connections
            # hold their threads, no thread is free before its client leaves, however little it does.
            holds_on = CAN_TELL and self._parking and not fill and self.max_accept_count is None
            try:
                self.start_promised(self._replace if holds_on else self._work, "recycling")
            except BaseException as error:  # whatever it is, this thread may have a connection to serve
                logger.error("no thread to wait in place of %s: %s", threading.current_thread().name, error)
                return
            if not fill:
                return

    def _too_few_locked(self) -> bool:
        """While it runs: to wait, for `standby`, or for what is queued, where a thread that starts looks first."""
        if self.ending or not self._running:
            return False
        starting = self.counts[ThreadState.STARTING]
        return (self._waiters_locked() == 0 or self._staying_locked() < self.standby
                or (len(self.queue) > starting and self.counts[ThreadState.SERVING] + starting < self.max_thread_count))

    def _retire(self, *, timed_out: bool = False) -> bool:
        """Leave, if there are more than `resize` allows, or this one got nothing and more than `standby` wait.

        Decided and done under one lock, so that no two leave for one too many.
        """
        self.reap(0)  # those that have left before
        with self.lock:
            waiters = self._waiters_locked()
            if self._crowded and (waiters > 1 or self.max_accept_count is None):  # with a number, one always waits
                self.leave_locked("resized")
            elif timed_out and waiters > self.standby:
                self.leave_locked(f"idle for {self.idle_timeout:g} s")
            else:
                return False
            self._crowded = self._staying_locked() > self._thread_limit
            return True

    def _may_queue_locked(self) -> bool:
        return self.max_accept_count is None or len(self.queue) < self.max_accept_count

    def _may_grow_locked(self) -> bool:
        """There may be one thread more, now or when one that is leaving has left."""
        return self._thread_count_locked() < self._thread_limit or self.counts[ThreadState.LEAVING] > 0

    def _waiters_locked(self) -> int:
        return self.cells[ACCEPTING] + self.cells[STARTING]

    @property
    def _thread_limit(self) -> int:
        return self.max_thread_count + (self.max_accept_count is not None)  # one more, which always waits


def _bounds(standby: int | None, max_thread_count: int) -> tuple[int, int]:
    """Both, checked; TypeError or ValueError with the fix."""
    whole_number("max_thread_count", max_thread_count, at_least=1)
    standby = min(_STANDBY, max_thread_count) if standby is None else whole_number("standby", standby, at_least=1)
    if standby > max_thread_count:
        raise ValueError(f"standby={standby} is more than max_thread_count={max_thread_count}: "
                         "lower the one or raise the other")
    return standby, max_thread_count
