"""Processes that share the listen socket: every processor, on every build of Python.

In one sentence
    Worker processes, forked before there is a connection, accept from the same listen socket, and each runs a
    taskmaster of its own.

Who accepts, who serves
    The threads of the inner taskmaster, in each worker process, as they always do; to them nothing is different. The
    kernel wakes one thread in each process that has one waiting, and the first of them gets the connection. The main
    process accepts nobody and serves nobody.

        main process --- nursery --- worker process: the inner taskmaster's threads
          (watcher)              +--- worker process: the inner taskmaster's threads

    The nursery forks the workers, the first as well as those that replace others (`taskmaster.nursery` says why that
    takes a process of its own). What the application has loaded before the start, they share: fork(2) copies a page
    when somebody writes to it, and the garbage collector, which would write to all of them, is told not to (gc.freeze).

Thread states
    Those of the inner taskmaster: `snapshot` has the sums over all worker processes. Each keeps its numbers in a row of
    shared memory, where the main process reads them; nobody is asked. The main process has one thread more, that hears
    what the nursery has to say, and is in no sum.

    state of a process   where                        counted by             on stop
    starting             fork, on_process_start       processes()            stops as soon as it is ready
    ready                the inner taskmaster runs    processes()            "stopping"
    stopping             accepts no more              processes()            ends when its requests are answered
    (gone)               reaped by the nursery        Snapshot.shrunk        -

When it is busy
    As the inner taskmaster, in each process for itself: its limits are those of one process. A process that is full may
    refuse a connection while another has room; with max_accept_count=None, where nobody is refused, it does not accept
    until it has room, and the others do.

    How many connections each has is left to the kernel, and to who waits; with kept connections it may be uneven.

    When a worker dies, the connections that it held are lost, and are counted as served: their processing has ended.
    Another is forked at once or, if one dies after the other as it comes up, after a pause. A worker that has had
    `max_requests`, or has grown beyond `max_memory`, is replaced: its successor is ready before it is told to stop.

How it stops
    stopping(STOPPING) has every worker accept what the kernel had queued, and no more; one of them, the last, shuts the
    listen sockets down. They end when what they have accepted has been answered; stopping(CUT) has them give it up, and
    what has not ended two seconds later is killed. If the main process dies, by SIGKILL or by os._exit, they stop in
    the same way. If the nursery dies, they do too, and the main process asks for the whole server to be stopped, since
    nobody would replace them: whoever runs it, systemd for example, starts it again.

Signals
    INT, TERM, QUIT and HUP are the main process's business. The others get them too, if they are sent to the process
    group or to the unit, and heed them not; but a TERM for one worker replaces it, softly. `kill -9` is for what hangs.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Literal

from taskmaster.arguments import seconds, whole_number
from taskmaster.base import AcceptorSteps, Connection, Snapshot, StopPhase, Taskmaster, TaskmasterBusyError
from taskmaster.books import CELLS, snapshot_from
from taskmaster.cpus import available_cpus
from taskmaster.processes import Processes, ProcessSnapshot
from taskmaster.register import Register
from taskmaster.rows import MOST_PROCESSES
from taskmaster.worker_process import ForkingAcceptor, Plan, resident_bytes

__all__ = ["PreforkTaskmaster", "ProcessSnapshot"]

_TO_CLOSE = 2.5
"""Seconds that `stopping` waits for all workers to accept no more; the nursery gives them a little less."""


class PreforkTaskmaster(Taskmaster):
    """Worker processes that each run `inner`. See the module for the whole story.

    inner: a taskmaster, for this one alone. It is never started here: each worker process runs a copy of it, as it was
        at the start, hooks included (on_thread_start).
    processes: worker processes; "auto": as many as there are processors for this process, by its affinity and by the
        limit of its control group.
    max_requests: requests after which a worker is replaced, for applications that leak; None: never.
    max_requests_jitter: up to so many more, chosen at random for each worker, so that they are not replaced at the same
        time (None: a tenth of max_requests).
    max_memory: bytes in RAM (resident, what is shared included) beyond which a worker is replaced. Linux only. This and
        max_requests are looked at once a second.
    deadline: seconds that requests in progress have in a worker that is replaced.

    Start it while the process has no threads, and open what the application needs in on_process_start: what is open at
    the start, be it a file, a connection to a database or another server's, is open in every worker process, and shared
    by all. `atexit` functions are not called in worker processes: see on_process_exit.

    RuntimeError where there is no os.fork.
    """

    on_process_start: Callable[[], object] | None = None
    """Called in each worker process, on its main thread, before it accepts. What it raises is logged. Set it on an
    instance, before the start."""

    on_process_exit: Callable[[], object] | None = None
    """Called in each worker process that ends as it should, on its main thread, when nothing is in progress there."""

    def __init__(self, inner: Taskmaster, processes: int | Literal["auto"] = "auto", *,
                 max_requests: int | None = None, max_requests_jitter: int | None = None,
                 max_memory: int | None = None, deadline: float = 30.0) -> None:
        if not hasattr(os, "fork"):
            raise RuntimeError("PreforkTaskmaster needs os.fork, which this system does not have; use one process")
        if max_requests is not None:
            whole_number("max_requests", max_requests, at_least=1)
        if max_requests_jitter is not None:
            if max_requests is None:
                raise ValueError(f"max_requests_jitter={max_requests_jitter!r}: there is no max_requests; pass both")
            whole_number("max_requests_jitter", max_requests_jitter, at_least=0)
        if max_memory is not None:
            whole_number("max_memory", max_memory, at_least=1)
            if not resident_bytes():
                raise ValueError(f"max_memory={max_memory!r}: this system has no /proc/self/statm to tell how much a "
                                 "process has; leave it out")
        # Fixed at construction.
        self.inner = _checked(inner)
        self.max_requests = max_requests
        self.max_requests_jitter = (max_requests or 0) // 10 if max_requests_jitter is None else max_requests_jitter
        self.max_memory = max_memory
        self.deadline = seconds("deadline", deadline, zero=True)
        # Written by `resize`.
        self.process_count = _count(processes)
        """How many worker processes there are to be."""
        self._set_limits()
        # Written by execute_acceptor and shutdown, one of them at a time; except that two acceptors may want to start.
        self._lock = threading.Lock()
        self._running = False
        self._run: Processes | None = None
        """The current run, or the last one."""

    # The contract.

    def execute_acceptor(self, acceptor: AcceptorSteps) -> None:
        if not isinstance(acceptor, ForkingAcceptor):
            raise TypeError(f"{type(acceptor).__name__} cannot be in several processes: it has no replica()")
        with self._lock:
            if self._running:
                raise TaskmasterBusyError("this PreforkTaskmaster still runs another acceptor: stop that first, or "
                                          "give each its own taskmaster")
            self._running = True
        plan = Plan(self.inner, self.max_requests, self.max_requests_jitter, self.max_memory, self.deadline,
                    self.on_process_start, self.on_process_exit)
        try:
            self._run = run = Processes(acceptor)
            try:
                run.begin(plan, self.process_count)
                self.start_thread(run.hear, f"nursery-{acceptor.name}")
            except BaseException:
                run.give_up()
                raise
        except BaseException:
            self._running = False
            raise

    def handle_incoming_connection(self, connection: Connection) -> None:
        raise RuntimeError("the main process of a PreforkTaskmaster accepts no connections: the inner taskmaster does, "
                           "in its worker processes; override that one's")

    def stopping(self, phase: StopPhase) -> None:
        run = self._run
        if run is None:
            return
        if phase is StopPhase.LEAVING:
            run.send("leaving")
        elif phase is StopPhase.STOPPING:
            run.stop()
            run.wait_until_closed(_TO_CLOSE)
        elif phase is StopPhase.CUT:
            run.cut_all()

    def shutdown(self, deadline: float) -> Sequence[str]:
        run = self._run
        if run is None or not self._running:
            return []
        if threading.current_thread() is run.thread:
            raise RuntimeError("shutdown() on the taskmaster's own thread would wait for itself; call it from another")
        end = time.monotonic() + deadline
        run.stop()
        if not run.wait_until_ended(deadline):
            return run.names()
        if run.thread is not None:
            run.thread.join(max(0.0, end - time.monotonic()))
            if run.thread.is_alive():
                return [run.thread.name]
        self._running = False
        return []

    @property
    def cut(self) -> Sequence[str]:
        return self._run.cut if self._run is not None else ()

    def reload(self) -> None:
        self._send("reload")

    def snapshot(self) -> Snapshot:
        """The sums over all worker processes, those that have ended included. `grown` and `shrunk` count processes."""
        return self._run.snapshot() if self._run is not None else snapshot_from([0] * CELLS)

    # For whoever watches and steers it: any thread.

    def processes(self) -> Sequence[ProcessSnapshot]:
        """The worker processes that there are, the oldest first. Nobody is asked: it reads shared memory."""
        return self._run.snapshots() if self._run is not None else []

    def resize(self, processes: int | Literal["auto"]) -> None:
        """Have so many worker processes from now on, and at the next start. Returns at once; those that are too many
        answer first what they have in progress, for up to `deadline` seconds."""
        self.process_count = _count(processes)
        self._set_limits()
        self._send("resize", self.process_count)

    def restart(self) -> None:
        """Replace every worker process, one after the other, each when its successor is ready. Returns at once.

        It gives back the memory that they have taken. It loads no new code, for they are forked from what was loaded
        before the start.
        """
        self._send("restart")

    def _send(self, *message: str | int) -> None:
        if self._run is not None:
            self._run.send(*message)

    def _set_limits(self) -> None:
        """Of all worker processes together."""
        for name in ("max_thread_count", "max_accept_count"):
            of_one = getattr(self.inner, name)
            setattr(self, name, None if of_one is None else of_one * self.process_count)


def _checked(inner: object) -> Register:
    if isinstance(inner, type):
        raise TypeError(f"inner={inner.__name__}: pass an instance; write {inner.__name__}(), with the parentheses")
    if isinstance(inner, PreforkTaskmaster):
        raise TypeError("inner is a PreforkTaskmaster: worker processes have no worker processes of their own; pass "
                        "what each is to run, such as RecyclingTaskmaster(), and the number of all as processes")
    if not isinstance(inner, Register):
        raise TypeError(f"inner={inner!r:.80}: pass a taskmaster that keeps its numbers in cells, such as "
                        "RecyclingTaskmaster() or what derives from ThreadedTaskmaster")
    return inner


def _count(processes: object) -> int:
    if processes == "auto":
        return min(available_cpus(), MOST_PROCESSES)
    if isinstance(processes, str):
        raise ValueError(f"processes={processes!r}: pass a whole number from 1 to {MOST_PROCESSES}, or \"auto\"")
    return whole_number("processes", processes, at_least=1, at_most=MOST_PROCESSES)
