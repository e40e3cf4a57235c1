"""The register: which threads a taskmaster has, the state each is in, and what has been counted.

Every model keeps the same books, so they are kept here, under the one lock there is; the loops, which are what the
models differ in, are not here. A thread's life in the register:

    promise_locked     counted as STARTING: it has no Thread object yet, but it is counted from this moment on, so that
                       two threads cannot both find room for one more
    start_promised     started, through the `start_thread` hook (`start` is both, where there is no limit to check)
    _run               its outermost frame: enters it in the register, runs its loop, sees it out
    enter[_locked]     moves from state to state
    leave[_locked]     the last act of a loop: LEAVING, still counted, until...
    reap               ...somebody has joined it. Only then does the limit let another take its place, so the limits
                       bound threads of the operating system, not just entries in a table.

Rules: whatever ends in `_locked` is called with `self.lock` held. Nothing is accepted, served, parked, refused, started
or joined, and no hook is called, while it is held. This code assumes nothing of the GIL: what two threads touch is
touched under the lock, and where a number is read without it, the comment there says why a stale one does no harm.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from inspect import isfunction
from types import MappingProxyType
from typing import Any

from taskmaster.base import AcceptorSteps, Connection, Snapshot, Taskmaster, TaskmasterBusyError, ThreadState, logger
from taskmaster.books import ACCEPTED, CELLS, PARKED, REFUSED, SERVED, Cell, Cells, Decision
from taskmaster.saturation import cpu_seconds

__all__ = ["NOT_LOCKED", "Register", "cpu_seconds_of_all"]

_DECISIONS = 256
"""How many are kept."""
_STATES = len(ThreadState)
_REPLACED = {"cells", "counts", "queue", "ending", "_number", "_running", "_parking", "_refused_at", "_made"}
"""Made in the constructor, and perhaps another object by the next `begin`; a model may have a queue of its own."""
NOT_LOCKED = "what ends in _locked is called with self.lock held: `with self.lock:`"
"""Why an assertion has failed, for whoever writes a model."""


class Register(Taskmaster):
    """The part of `taskmaster.threaded.ThreadedTaskmaster` that knows threads, and holds the numbers."""

    acceptor: AcceptorSteps
    """Set by `begin`, before there is a thread to read it."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        own = [name for name in vars(cls) if name.startswith("_") and not name.startswith("__")]
        if taken := [name for name in own if name in vars(Register)]:
            raise TypeError(f"{cls.__name__}.{taken[0]} would replace a part of the register: give it another name")

    accepted, served, refused, parked = Cell(ACCEPTED), Cell(SERVED), Cell(REFUSED), Cell(PARKED)
    """Connections, as in `Snapshot`."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        """Guards the rest. The only lock: conditions of a model are made on it too."""
        self.cells: Cells = [0] * CELLS
        """All numbers of the books: see `taskmaster.books`."""
        self.counts: Cells = self.cells
        """The same, for the first of them: threads by state. Read it; `enter_locked` and its like write it."""
        self.queue: deque[Connection] = deque()
        """Connections accepted that no thread serves yet, the oldest first."""
        self.ending = False
        """`shutdown` has been called: no thread is made from here on that is not needed to end."""
        self._states: dict[int, int] = {}
        """What each is counted as, by thread ident; of those that have not left. (Of one that has, a new thread may
        have the ident.)"""
        self._threads: dict[threading.Thread, None] = {}
        """Those that have begun and have not been joined."""
        self._left: list[threading.Thread] = []
        self._left_one = threading.Condition(self.lock)
        """Notified by a thread that leaves; `shutdown` waits."""
        self._number = 0
        self._running = False
        self._grown: Counter[str] = Counter()
        self._shrunk: Counter[str] = Counter()
        self._decisions: deque[Decision] = deque(maxlen=_DECISIONS)
        self._keep()

    # The contract, as far as all models keep it in the same way.

    def shutdown(self, deadline: float) -> Sequence[str]:
        end = time.monotonic() + deadline
        with self.lock:
            if threading.current_thread() in self._threads:
                raise RuntimeError("shutdown() on one of the taskmaster's own threads would wait for itself; "
                                   "call it from another")
            self.ending = True
            self._left_one.wait_for(lambda: self._thread_count_locked() == self.counts[ThreadState.LEAVING], deadline)
        self.reap(max(0.0, end - time.monotonic()))
        with self.lock:
            self._running = self._thread_count_locked() > 0
            late = [thread.name for thread in self._threads]
            return late + ["(starting)"] * (self._thread_count_locked() - len(late))

    def snapshot(self) -> Snapshot:
        with self.lock:
            return Snapshot(
                threads=MappingProxyType({state: self.cells[state] for state in ThreadState}),
                queued=len(self.queue),
                parked=self.parked,
                accepted=self.accepted,
                served=self.served,
                refused=self.refused,
                grown=MappingProxyType(dict(self._grown)),
                shrunk=MappingProxyType(dict(self._shrunk)),
            )

    # For whoever watches it.

    @property
    def decisions(self) -> Sequence[Decision]:
        """The last 256 threads that were made or left, and why, the oldest first. A copy; any thread."""
        with self.lock:
            return tuple(self._decisions)

    def states(self) -> Mapping[threading.Thread, ThreadState]:
        """Where each thread is that has begun and has not been joined, the oldest first. A copy; any thread.

        A model may count some as SERVING that are here as they were before: see `RecyclingTaskmaster`.
        """
        with self.lock:
            left = set(self._left)  # of those another thread may have the ident by now, and a state under it
            return {thread: ThreadState.LEAVING if thread in left else
                    ThreadState(self._states.get(thread.ident or 0, ThreadState.LEAVING)) for thread in self._threads}

    def share(self, cells: Cells) -> None:
        """Keep the numbers in `cells` from now on, for another process to read, with `snapshot_from`.

        cells: `CELLS` whole numbers or more, such as a memoryview cast to "q"; this taskmaster alone may write the
            first CELLS of them. They are set to 0.

        Before the start: RuntimeError while it runs. ValueError if there are too few.
        """
        if len(cells) < CELLS:
            raise ValueError(f"cells: {len(cells)} of them; pass at least {CELLS} (taskmaster.books.CELLS)")
        with self.lock:
            if self._running:
                raise RuntimeError("share() while it runs would lose what is counted meanwhile; call it before start()")
            self.cells = self.counts = cells
            self._clear_locked()

    # The register.

    def begin(self, acceptor: AcceptorSteps) -> None:
        """Take on `acceptor`, with fresh counters. For the first line of `execute_acceptor`.

        TaskmasterBusyError while it runs another, or threads are left. TypeError if the constructor of a model has
        used a name that is taken.
        """
        if not hasattr(self, "lock"):
            raise TypeError(f"{type(self).__name__}.__init__() must call super().__init__() first: it makes the books")
        self._check()
        with self.lock:
            if self._running:
                raise TaskmasterBusyError(f"this {type(self).__name__} still runs {self.acceptor.name}: "
                                          "stop that acceptor first, or give each its own taskmaster")
            self._running = True
            self.ending = False
            self._clear_locked()
            self.queue.clear()
            self._number = 0
            self._grown.clear()
            self._shrunk.clear()
            self._decisions.clear()
            self.acceptor = acceptor
        with _all_lock:
            _all.add(self)

    def promise_locked(self, reason: str, state: ThreadState = ThreadState.STARTING) -> None:
        """Count one more thread, to be started with `start_promised` as soon as the lock has been released.

        reason: why there is one more, in a few words; counted in `Snapshot.grown`, and among the `decisions`.
        state: what it is counted as until its loop says otherwise; SERVING if there is a connection for it already.

        RuntimeError before `begin`.
        """
        assert self.lock.locked(), NOT_LOCKED
        if not self._running:
            raise RuntimeError("it runs no acceptor; execute_acceptor() must begin with self.begin(acceptor)")
        self.counts[state] += 1
        self._grown[reason] += 1
        self._record_locked(+1, reason)

    def start_promised(self, loop: Callable[[], None], role: str, state: ThreadState = ThreadState.STARTING) -> None:
        """Start a thread that was promised, to run `loop`; `role` is the first word of its name, `state` as promised.

        Raises what `start_thread` raises (RuntimeError if the system gives no thread). The promise is then taken back,
        and the connection of a thread that was promised as SERVING is counted as refused: the caller refuses it. What
        an override raises once the loop runs is logged, for then there is nothing to take back.
        """
        with self.lock:
            self._number += 1
            name = f"{role}-{self.acceptor.name}-{self._number}"
        promise = [state]  # kept by the thread, or taken back here: by one of the two
        try:
            self.start_thread(lambda: self._run(loop, promise), name)
        except BaseException as error:  # of an override, perhaps, that has started the thread before it failed
            with self.lock:
                taken_back = bool(promise)
                if taken_back:
                    self.counts[promise.pop()] -= 1
                    self._shrunk["could not start"] += 1
                    self._record_locked(-1, "could not start")
                    if state is ThreadState.SERVING:
                        self.refused += 1  # in the same breath, or the books would not balance meanwhile
                    self._left_one.notify_all()
            if taken_back or isinstance(error, KeyboardInterrupt):  # Ctrl+C is not for us
                raise
            logger.exception("start_thread() raised, and yet %s runs", name)

    def start(self, loop: Callable[[], None], role: str, reason: str = "start") -> None:
        """Promise a thread and start it, where there is no limit to be checked in the same breath."""
        with self.lock:
            self.promise_locked(reason)
        self.start_promised(loop, role)

    def enter(self, state: ThreadState) -> None:
        """The calling thread is in `state` from now on. RuntimeError if it is not in the register.

        It takes the lock. Where the thread holds that already, it would wait for itself: say `enter_locked` there.
        """
        with self.lock:
            self.enter_locked(state)

    def enter_locked(self, state: int) -> None:
        assert self.lock.locked(), NOT_LOCKED
        me, cells = threading.get_ident(), self.cells
        try:
            before = self._states[me]
        except KeyError:
            raise RuntimeError(f"the thread {threading.current_thread().name!r} is not in the register: start it with "
                               "self.start(loop, role), and do nothing more on it after leave()") from None
        cells[before] -= 1
        cells[state] += 1
        self._states[me] = state

    def state_locked(self) -> ThreadState:
        """The calling thread's state."""
        assert self.lock.locked(), NOT_LOCKED
        return ThreadState(self._states[threading.get_ident()])

    def leave(self, reason: str) -> None:
        """The last act of a loop: the calling thread does no more work. The reason is counted in `Snapshot.shrunk`. It
        takes the lock, as `enter` does."""
        with self.lock:
            self.leave_locked(reason)

    def leave_locked(self, reason: str) -> None:
        self.enter_locked(ThreadState.LEAVING)
        del self._states[threading.get_ident()]
        self._shrunk[reason] += 1
        self._record_locked(-1, reason)
        self._left.append(threading.current_thread())
        self._left_one.notify_all()

    def reap(self, timeout: float | None = None) -> None:
        """Join the threads that have left, waiting at most `timeout` seconds for them all.

        They are at their last instruction, so this takes microseconds, unless `start_thread` has wrapped them in
        something slow.
        """
        end = None if timeout is None else time.monotonic() + timeout
        with self.lock:
            left = list(self._left)
        for thread in left:
            thread.join(None if end is None else max(0.0, end - time.monotonic()))
        with self.lock:
            for thread in left:
                if thread in self._left and not thread.is_alive():  # two threads may be reaping at once
                    self._left.remove(thread)
                    del self._threads[thread]
                    self.counts[ThreadState.LEAVING] -= 1

    def cpu_seconds(self) -> dict[int, float]:
        """What each thread that has not left has used of the CPU so far, by ident. Any thread; a system call for each
        of them. For systems where `taskmaster.saturation.CAN_TELL`."""
        with self.lock:  # or one may end meanwhile: to leave it must take the lock
            return cpu_seconds(self._states)

    def _run(self, loop: Callable[[], None], promise: list[ThreadState]) -> None:
        """The outermost frame of every thread: whatever happens inside, the books are right afterwards."""
        me, ident = threading.current_thread(), threading.get_ident()
        self.owns_this_thread()  # an override of start_thread may not call the one that says so
        with self.lock:
            if not promise:  # taken back, because start_thread failed; and yet there is a thread
                return
            self._threads[me] = None
            self._states[ident] = promise.pop()  # already counted, by promise_locked
        try:
            loop()
            with self.lock:
                if ident in self._states:
                    raise RuntimeError("the loop has returned; its last act must be self.leave(reason)")
        except BaseException:  # a bug in a model or in a hook; the thread is lost, the server is not
            logger.critical("%s died; this is a bug", me.name, exc_info=True)
        finally:
            with self.lock:
                if ident in self._states:
                    self.leave_locked("died")

    def _thread_count_locked(self) -> int:
        return sum(self.cells[:_STATES])

    def _staying_locked(self) -> int:
        """Threads that have not left, those about to start included."""
        return self._thread_count_locked() - self.counts[ThreadState.LEAVING]

    def _record_locked(self, change: int, reason: str) -> None:
        self._decisions.append(Decision(time.monotonic(), change, reason, self._staying_locked()))

    def _keep(self) -> None:
        """What there is now has been made by us: `_check` finds out whether it still is what it was."""
        self._made = tuple((name, value) for name, value in vars(self).items() if name not in _REPLACED)

    def _check(self) -> None:
        """TypeError if a model has given one of our names to something of its own. Else that fails later, elsewhere."""
        own = vars(self)
        taken = [name for name, value in self._made if own.get(name) is not value]
        taken += [name for name, value in own.items()
                  if isfunction(getattr(type(self), name, None)) and value is not None and not callable(value)]
        taken += ["counts"] if self.counts is not self.cells else []
        if taken:
            raise TypeError(f"{type(self).__name__} has set self.{taken[0]}, and that name is taken by the register: "
                            "give yours another")

    def _clear_locked(self) -> None:
        for position in range(CELLS):
            self.cells[position] = 0


_all: weakref.WeakSet[Register] = weakref.WeakSet()
"""Those of this process that have begun, and may have threads. Guarded by _all_lock."""
_all_lock = threading.Lock()


def cpu_seconds_of_all() -> dict[int, float]:
    """What each thread of all taskmasters of this process has used of the CPU so far, by ident. They share its
    processors, and its GIL: what a control server takes, say, is not there for the server beside it.

    Any thread, none of their locks being held; a system call for each thread. Where `taskmaster.saturation.CAN_TELL`.
    """
    with _all_lock:
        registers = list(_all)
    return {thread: used for register in registers for thread, used in register.cpu_seconds().items()}
