"""The register: which threads a taskmaster has, the state each is in, and what has been counted.

Every model keeps the same books, so they are kept here, under the one lock there is; the loops, which are what the
models differ in, are not here. A thread's life in the register:

    _promise_locked   counted as STARTING: it has no Thread object yet, but it is counted from this moment on, so that
                      two threads cannot both find room for one more
    _start            started, through the `start_thread` hook
    _run              its outermost frame: enters it in the register, runs its loop, sees it out
    _enter[_locked]   moves from state to state; the only writer of the counts
    _leave[_locked]   the last act of a loop: LEAVING, still counted, until...
    _reap             ...somebody has joined it. Only then does the limit let another take its place, so the limits
                      bound threads of the operating system, not just entries in a table.

Rules: whatever ends in `_locked` is called with `self._lock` held. Nothing is accepted, served, refused, started or
joined, and no hook is called, while it is held. This code assumes nothing of the GIL: what two threads touch is
touched under the lock.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from types import MappingProxyType

from taskmaster.base import AcceptorSteps, Connection, Snapshot, Taskmaster, ThreadState, logger

__all__ = ["ThreadedTaskmaster"]

_BURST = 5.0
"""Seconds without a refusal after which the next one is a new burst, and logged again."""


class ThreadedTaskmaster(Taskmaster):
    """What the models share: the register of threads, the counters, and the one thread that refuses.

    To write a model: call `_begin` and `_start_now` in `execute_acceptor`, and write a loop for each kind of thread. A
    loop says where it is (`_enter`) and, as its last act, why its thread leaves (`_leave`).
    """

    acceptor: AcceptorSteps
    """Set by `execute_acceptor`, before there is a thread to read it."""

    def __init__(self) -> None:
        # Guarded by self._lock.
        self._lock = threading.Lock()
        self._left_one = threading.Condition(self._lock)
        """Notified by a thread that leaves; `shutdown` waits."""
        self._states: dict[threading.Thread, ThreadState] = {}
        self._counts = dict.fromkeys(ThreadState, 0)
        self._left: list[threading.Thread] = []
        self._queue: deque[Connection] = deque()
        self._accepted = self._served = self._refused = self._number = 0
        self._grown: Counter[str] = Counter()
        self._shrunk: Counter[str] = Counter()
        # Owned by whichever one thread is accepting; harmless if two are: one line more in the log.
        self._refused_at = -_BURST

    def shutdown(self, deadline: float) -> Sequence[str]:
        end = time.monotonic() + deadline
        with self._lock:
            if threading.current_thread() in self._states:
                raise RuntimeError("shutdown() on one of the taskmaster's own threads would wait for itself; "
                                   "call it from another")
            self._left_one.wait_for(lambda: self._thread_count_locked() == self._counts[ThreadState.LEAVING], deadline)
        self._reap(max(0.0, end - time.monotonic()))
        with self._lock:
            late = [thread.name for thread in self._states]
            return late + ["(starting)"] * (self._thread_count_locked() - len(late))

    def snapshot(self) -> Snapshot:
        with self._lock:
            return Snapshot(
                threads=MappingProxyType(dict(self._counts)),
                queued=len(self._queue),
                accepted=self._accepted,
                served=self._served,
                refused=self._refused,
                grown=MappingProxyType(dict(self._grown)),
                shrunk=MappingProxyType(dict(self._shrunk)),
            )

    def too_many_requests(self, connection: Connection) -> None:
        now = time.monotonic()
        if now - self._refused_at > _BURST:
            super().too_many_requests(connection)
        self._refused_at = now

    # The register.

    def _begin(self, acceptor: AcceptorSteps) -> None:
        """Take on `acceptor`, with fresh counters. RuntimeError while threads of an earlier run are left."""
        with self._lock:
            if self._thread_count_locked():
                raise RuntimeError(f"this {type(self).__name__} still runs {self.acceptor.name}: "
                                   "stop that acceptor first, or give each its own taskmaster")
            self._accepted = self._served = self._refused = self._number = 0
            self._grown.clear()
            self._shrunk.clear()
        self.acceptor = acceptor

    def _thread_count_locked(self) -> int:
        return sum(self._counts.values())

    def _promise_locked(self, reason: str, state: ThreadState = ThreadState.STARTING) -> None:
        """Count one more thread, which the caller starts with `_start` as soon as it has released the lock."""
        assert self._lock.locked()
        self._counts[state] += 1
        self._grown[reason] += 1

    def _start(self, loop: Callable[[], None], role: str, state: ThreadState = ThreadState.STARTING) -> None:
        """Start a thread already promised. Raises what `start_thread` raises; the promise is then taken back."""
        with self._lock:
            self._number += 1
            name = f"{role}-{self.acceptor.name}-{self._number}"
        try:
            self.start_thread(lambda: self._run(loop, state), name)
        except BaseException:
            with self._lock:
                self._counts[state] -= 1
                self._shrunk["could not start"] += 1
                self._left_one.notify_all()
            raise

    def _start_now(self, loop: Callable[[], None], role: str, reason: str,
                   state: ThreadState = ThreadState.STARTING) -> None:
        """Promise and start, where there is no limit to be checked in the same breath."""
        with self._lock:
            self._promise_locked(reason, state)
        self._start(loop, role, state)

    def _run(self, loop: Callable[[], None], state: ThreadState) -> None:
        """The outermost frame of every thread: whatever happens inside, the books are right afterwards."""
        me = threading.current_thread()
        with self._lock:
            self._states[me] = state  # already counted, by _promise_locked
        try:
            loop()
        except BaseException:  # a bug in a model or in a hook; the thread is lost, the server is not
            logger.critical("%s died; this is a bug", me.name, exc_info=True)
        finally:
            with self._lock:
                if self._states[me] is not ThreadState.LEAVING:
                    self._leave_locked("died")

    def _enter(self, state: ThreadState) -> None:
        with self._lock:
            self._enter_locked(state)

    def _enter_locked(self, state: ThreadState) -> None:
        """The calling thread is in `state` from now on."""
        assert self._lock.locked()
        me = threading.current_thread()
        self._counts[self._states[me]] -= 1
        self._counts[state] += 1
        self._states[me] = state

    def _leave(self, reason: str) -> None:
        with self._lock:
            self._leave_locked(reason)

    def _leave_locked(self, reason: str) -> None:
        """The last act of a loop: the calling thread does nothing for the model any more, for `reason`."""
        self._enter_locked(ThreadState.LEAVING)
        self._shrunk[reason] += 1
        self._left.append(threading.current_thread())
        self._left_one.notify_all()

    def _reap(self, timeout: float | None = None) -> None:
        """Join the threads that have left, waiting at most `timeout` seconds for them all.

        They are at their last instruction, so this takes microseconds, unless `start_thread` has wrapped them in
        something slow.
        """
        end = None if timeout is None else time.monotonic() + timeout
        with self._lock:
            left = list(self._left)
        for thread in left:
            thread.join(None if end is None else max(0.0, end - time.monotonic()))
        with self._lock:
            for thread in left:
                if thread in self._left and not thread.is_alive():  # two threads may be reaping at once
                    self._left.remove(thread)
                    del self._states[thread]
                    self._counts[ThreadState.LEAVING] -= 1

    # Steps that are the same in every loop.

    def _hand_over(self, connection: Connection) -> None:
        """Call the public hook; an override that raises costs its own connection, not the thread that accepts."""
        try:
            self.handle_incoming_connection(connection)
        except Exception:
            logger.exception("handle_incoming_connection(%s) raised", connection.peer)

    def _process(self, connection: Connection) -> None:
        """Process `connection` on this thread. Nothing it does, not even SystemExit, ends the thread."""
        try:
            self.acceptor.process_connection(connection)
        except BaseException:
            logger.critical("processing %s raised; this is a bug in the acceptor", connection.peer, exc_info=True)

    def _refuse(self, connection: Connection) -> None:
        """Have `connection`, already counted as refused, answered with 503 by the one thread that does so.

        That thread exists only while there is something to refuse. Its start is decided by the acceptor, under the
        acceptor's lock, so that there is one or none, and never none while a connection waits for its 503.
        """
        try:
            self.too_many_requests(connection)
        except Exception:
            logger.exception("too_many_requests() raised; %s gets its 503 all the same", connection.peer)
        if self.acceptor.refuse(connection):
            self._reap(0)  # the one that answered the last burst
            try:
                self._start_now(self._refuse_loop, "refusals", "refusals to answer", ThreadState.REFUSING)
            except RuntimeError as error:
                logger.error("no thread to answer refusals (%s): doing it on the accepting thread", error)
                self.acceptor.answer_refusals()

    def _refuse_loop(self) -> None:
        self.acceptor.answer_refusals()
        self._leave("refusals answered")
