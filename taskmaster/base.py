"""The contract between a taskmaster, which runs the work, and an acceptor, which knows what the work is.

A server is split in two, as Hunchentoot splits it:

    the ACCEPTOR    has the listen socket and speaks HTTP; it knows no threads.
    the TASKMASTER  has the threads and decides which of them accepts and which serves; it knows no HTTP.

The acceptor offers single *steps* (`AcceptorSteps` below); a taskmaster builds its *loops* out of them. The
smallest loop is the whole idea:

    while (connection := acceptor.accept()) is not None:     # None: closed for good
        acceptor.process_connection(connection)              # every request, until the connection is over

Every model in this folder is a different answer to two questions about that loop: which thread runs its first line,
and which its second? This module holds no answer: it is the contract only, and there is not a thread in it.
"""

from __future__ import annotations

import enum
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["AcceptorSteps", "Connection", "Snapshot", "StopPhase", "Taskmaster", "TaskmasterBusyError", "ThreadState"]

logger = logging.getLogger("taskmaster")


class ThreadState(enum.IntEnum):
    """Where a taskmaster's thread is, numbered for `taskmaster.books`. Each model tabulates those it uses."""

    STARTING = 0
    """Counted, but its loop has not begun."""
    ACCEPTING = 1
    """Inside `acceptor.accept()`: waiting on the listen socket itself."""
    WAITING = 2
    """Waiting for another thread: for a connection it accepted, or for one of them to be free."""
    SERVING = 3
    """It has a connection: inside `acceptor.process_connection()`, be it reading, handling, writing or holding a
    connection that is idle; or just about to be."""
    LEAVING = 4
    """Out of its loop; all that is left is to be joined."""

    @property
    def word(self) -> str:
        """As it is shown: "serving"."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One consistent reading of a taskmaster: every number is from the same instant.

    Always true: `accepted == queued + parked + threads[ThreadState.SERVING] + served + refused`; the contract suite
    checks it.
    """

    threads: Mapping[ThreadState, int]
    """Threads by state, every state present."""
    queued: int
    """Connections accepted that wait for a thread."""
    parked: int
    """Connections that wait for their clients, with no thread."""
    accepted: int
    """Connections taken from the acceptor since the start, each counted once, however often it was parked."""
    served: int
    """Connections whose processing has ended, however it ended."""
    refused: int
    """Connections answered with 503: the taskmaster was full, or could get no thread for them."""
    grown: Mapping[str, int]
    """Threads started, by reason."""
    shrunk: Mapping[str, int]
    """Threads ended, by reason."""

    @property
    def thread_count(self) -> int:
        """Threads of any state, those about to start and those not yet joined included."""
        return sum(self.threads.values())

    def __str__(self) -> str:
        states = " ".join(f"{state.word}={n}" for state, n in self.threads.items() if n) or "no threads"
        return (f"{states} | queued={self.queued} parked={self.parked} accepted={self.accepted} served={self.served} "
                f"refused={self.refused}")


class StopPhase(enum.Enum):
    """What `Acceptor.stop` does next: see `Taskmaster.stopping`."""

    LEAVING = "leaving"
    """The server stops soon. Connections are accepted as before, but each response is the last on its connection."""
    STOPPING = "stopping"
    """Nothing more is accepted from here on, and requests in progress have until the deadline."""
    CUT = "cut"
    """Past the deadline: what is in progress is given up."""


class Connection(Protocol):
    """One accepted connection. Opaque: a taskmaster hands it from one step to another and does nothing else with it."""

    @property
    def peer(self) -> str:
        """Who is at the other end, for a log line: "203.0.113.7:49152"."""

    @property
    def resumed(self) -> bool:
        """`accept` has returned it before: it has been parked since."""

    @property
    def refusable(self) -> bool:
        """Whether it may be refused. Not in the middle of a response: then it waits, whatever the limit."""


class AcceptorSteps(Protocol):
    """What a taskmaster sees of an acceptor: single steps.

    Any number of threads may be in any of them at once. None raises for anything a network or a client does.
    """

    @property
    def name(self) -> str:
        """Which server this is, to name threads with: "127.0.0.1:4242"."""

    def accept(self, timeout: float | None = None) -> Connection | None:
        """Wait for the next connection and return it. None means closed for good; every later call returns None too.

        It is a new one, or one that has been parked: its client has sent something, or gone, or its time is up. Each is
        returned to one thread, and is that thread's until it is given to another step.

        Blocks; with a `timeout`, raises TimeoutError once nothing has come for that long. However many threads wait
        here, a connection wakes one; which, is not defined, so do not count on even shares. While the server stops,
        connections that the kernel had already queued, and those that are parked, are still returned, without waiting;
        only then comes None.
        """

    def process_connection(self, connection: Any) -> None:
        """Serve every request of `connection`, until it is over; the acceptor sees to its closing.

        Blocks the calling thread for as long as the requests take. `connection` came from `accept` and must not be used
        afterwards. Hunchentoot: `process-connection`.
        """

    def process_until_idle(self, connection: Any, go_on: Callable[[], bool]) -> bool:
        """As `process_connection`, but return when nothing is left to be done before the client does something.

        True: it is idle; give it to `park`. False: it is over, and must not be used afterwards. Blocks for as long as
        its handler does, reading and writing included; but not to wait for a request, or the rest of one's head, nor
        for a client that takes its time over a response that has been made.

        go_on: asked after a response when the next request is there already: whether this thread serves it at once.
            False: it returns True, and the request waits behind whatever waits for a thread.
        """

    def process_without_waiting(self, connection: Any, offload: Executor | None) -> bool:
        """As `process_until_idle`, but it never waits for the client at all: for a thread that has all connections.

        A request's body is read before its handler is called, into a file if it is large, and a response is sent as the
        client takes it. What still blocks is the handler, and what it answers; unless there is `offload`, to which
        they are submitted, and then it returns True meanwhile. For one thread only, which also calls `accept`.

        offload: any executor. One of processes, or of machines, gets the handler and the request pickled.
        """

    def park(self, connection: Any) -> bool:
        """Have `accept` return `connection`, to any thread, as soon as its client does something, or its time is up.

        Never blocks. True: it must not be used any more, for it may have been returned already. False: the server stops
        and parks nothing more; `connection` is to be processed again, until it is over.
        """

    def refuse(self, connection: Any) -> None:
        """Have the client told that the server is full (503), and `connection` closed.

        Never blocks, so that the thread which accepts may call it: nothing is sent here, the acceptor sees to the
        answer. `connection` came from `accept` and must not be used afterwards.
        """

    def abandon(self, connection: Any) -> None:
        """Close `connection`, unless it is being processed or refused; never blocks. For when nobody else will."""


class TaskmasterBusyError(RuntimeError):
    """The taskmaster runs an acceptor already. That one goes on, and `shutdown` is not called for the other."""


class Taskmaster(ABC):
    """Who runs the work. Hunchentoot: `taskmaster`.

    One taskmaster runs one acceptor at a time, and may run it (or another) again after `shutdown`.
    """

    max_thread_count: int | None = None
    """Connections served at once, and with that the threads that serve: exact. None: as many as come."""

    max_accept_count: int | None = None
    """Connections accepted that wait for a thread: exact.

        N      so many wait, and the next is refused
        0      none waits: what cannot be served at once is refused
        None   nothing is accepted before a thread is free for it, so nothing is refused; what is too much waits in the
               kernel's backlog, unseen

    (Hunchentoot's `max-accept-count` is the sum of served and waiting, less one.)"""

    on_thread_start: Callable[[], object] | None = None
    """Called on every new thread, the watcher's included, before anything else. What it raises is logged. Set it on an
    instance, before the start; in a subclass, override `start_thread`."""

    on_thread_exit: Callable[[], object] | None = None
    """Called on every thread, as the last thing that it does."""

    @abstractmethod
    def execute_acceptor(self, acceptor: AcceptorSteps) -> None:
        """Start running `acceptor`; return once the model runs. Hunchentoot: `execute-acceptor`.

        Called by `Acceptor.start`, with the listen socket open. Raises TaskmasterBusyError if it still runs one. May
        raise anything else (RuntimeError if the system gives no thread); then `accept` returns None, and `shutdown` is
        called.
        """

    @abstractmethod
    def handle_incoming_connection(self, connection: Connection) -> None:
        """See to it that `connection` is processed or refused. Hunchentoot: `handle-incoming-connection`.

        Called by the model's own accept loop for whatever `accept` returns, on the thread that got it: once per
        connection, and again each time it comes back from being parked (`connection.resumed`). So it is the place to
        override in order to see every connection. May block only if that thread is the one to serve.
        """

    @abstractmethod
    def shutdown(self, deadline: float) -> Sequence[str]:
        """Join every thread, waiting at most `deadline` seconds. Hunchentoot: `shutdown`.

        Called by `Acceptor.stop`, after `accept` has begun to return None, several times, since it looks in between
        whether it is told to hurry, and again after the connections still in progress have been cut. Idempotent: a
        further call waits again for what is left, and returns at once if nothing is. Returns the names of the threads
        that have not ended, none if all is well. Raises RuntimeError on one of the taskmaster's own threads, which
        could only wait for itself.
        """

    def withdraw(self, connection: Connection) -> None:  # noqa: B027
        """`connection`, which waits for a thread, needs none any more: the acceptor has answered it itself.

        Called by the acceptor's own thread; must not block. It may have been given to a thread already, whose step then
        does nothing. A model with a queue should take it out, where it takes the place of another.
        """

    def stopping(self, phase: StopPhase) -> None:  # noqa: B027  # most models have nothing to do
        """`Acceptor.stop`, on whose thread this is called, begins this phase: for those who must tell other processes.

        STOPPING comes before the listen socket is shut down: return when nobody but this process accepts from it, or
        connections will be lost. May block for a moment. Called once for each phase, LEAVING perhaps not, CUT only past
        the deadline, and then before the last call of `shutdown`.
        """

    @property
    def cut(self) -> Sequence[str]:
        """What has been given up in other processes since `stopping(STOPPING)`, for the report of `Acceptor.stop`: "GET
        /report from 203.0.113.7:49152". Complete when `shutdown` leaves nothing."""
        return ()

    def reload(self) -> None:  # noqa: B027
        """The server has been told to read again what is read when it starts. As `stopping`, for other processes."""

    @abstractmethod
    def snapshot(self) -> Snapshot:
        """One consistent reading of all counters. Any thread, at any time, also after `shutdown`; never blocks long."""

    def start_thread(self, target: Callable[[], None], name: str) -> None:
        """Start a thread that runs `target()`. Hunchentoot: `start-thread`.

        Every thread of the server is started here, those of every model and the acceptor's own one, the watcher (its
        name begins with "watcher-"): override it to wrap `target`, for a profiler, a thread-local or a stack size, and
        call `super()`. Called by any thread, never under a lock. RuntimeError if the system gives no thread.

        `shutdown` joins the threads of the model; the watcher is not among them, the acceptor joins it. They are
        daemon threads because a handler that never returns cannot be joined; `shutdown` reports it, and it must not
        keep the process alive.
        """
        threading.Thread(target=self._run_thread, args=(target,), name=name, daemon=True).start()

    @property
    def runs_this_thread(self) -> bool:
        """Whether the calling thread comes from `start_thread` of this taskmaster: it must not wait for its end."""
        return getattr(_thread, "taskmaster", None) is self

    def owns_this_thread(self) -> None:
        """Say that it does: for the first act of a thread. From then on `runs_this_thread` on it."""
        _thread.taskmaster = self

    def _run_thread(self, target: Callable[[], None]) -> None:
        self.owns_this_thread()
        _call_hook("on_thread_start", self.on_thread_start)
        try:
            target()
        finally:
            _call_hook("on_thread_exit", self.on_thread_exit)

    def too_many_requests(self, connection: Connection) -> None:
        """Called just before `connection` is refused, on the accepting thread: must not block.

        Hunchentoot: `too-many-taskmaster-requests`. Override it to count or to raise an alarm; the 503 is sent
        whatever it does. By default it logs, once per burst (see `ThreadedTaskmaster`).
        """
        logger.warning(
            "full: %s gets 503; %s connections are served at once (max_thread_count) and %s more may wait "
            "(max_accept_count)", connection.peer, self.max_thread_count, self.max_accept_count,
        )


_thread = threading.local()
"""Has the attribute `taskmaster` on a thread that one has started."""


def _call_hook(name: str, hook: Callable[[], object] | None) -> None:
    """What a hook raises must not end a thread that is counted on already."""
    if hook is None:
        return
    try:
        hook()
    except Exception:
        logger.exception("%s failed on thread %s; the thread goes on", name, threading.current_thread().name)
