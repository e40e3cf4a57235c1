"""The nursery: the process that forks the worker processes of a prefork server, and looks after them.

Why there is one, between the main process and the workers: fork(2) copies one thread, and the locks of all. Whatever
another thread held stays held in the child for ever, an allocator's lock or that of a log (so POSIX lets the child of a
process with threads do little more than exec). Nobody may fork, then, who has threads; but a worker that has died must
be replaced by a fork, and by then the main process has threads, its watcher for one. Hence the nursery is forked while
there are none, never starts one, serves nobody, and runs no code of the user's; all workers are its children.

    from the main process    "leaving", "cut", "reload"       passed on to every worker
                             "stop"                           told to all workers, in an order: below
                             "resize", n                      how many there are to be
                             "restart"                        replace each, one after the other
                             "free", row                      what the worker there has counted has been added up
    to the main process      "born", pid, why, pid of whom it replaces or None
                             "ready", pid                     it accepts connections
                             "failed", pid, why               it could not start
                             "leaving", pid, why, detail      it is going to be replaced
                             "gone", pid, row, exit code, why it was told to stop or None, seconds that it lived,
                                     early deaths in a row, pause before the next fork
                             "cut", what                      given up in a worker
                             "closed"                         after "stop": no worker accepts any more
                             "request", now                   a worker wants the server to stop
                             "no process", why, pause         fork(2) failed

Rules of the population. As many are *missing* as `processes` is more than those neither told to stop nor on their way.
    grow     fork whatever is missing, at once; but after two deaths in a row, each within _EARLY seconds of the start,
             pause before the next: 0.5, 1, 2 ... _LONGEST_PAUSE seconds
    replace  a worker that wants to be replaced goes on until its successor is ready; only then it is told to stop
    shrink   if there are too many, the youngest are told to stop

How all of them stop without losing a connection. A listen socket that is shut down resets what the kernel has queued;
one that is not goes on queuing. So all but one are told to accept no more, and when they have said so the last one is:
it takes what is queued, and shuts the sockets down (`Replica.close`).

When the main process dies, the nursery reads the end of the pipe, and stops all workers in the same way. (Or finds,
within a second, that it has another parent: a child of the main process may hold a copy of the pipe.)
"""

from __future__ import annotations

import gc
import os
import random
import selectors
import signal
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from taskmaster.base import logger
from taskmaster.channel import Channel, fork, wake_up_pipe
from taskmaster.rows import ROWS, Rows
from taskmaster.worker_process import ORPHAN_DEADLINE, ForkingAcceptor, Plan, WorkerProcess

__all__ = ["Nursery"]

_EARLY = 10.0
"""Seconds within which a death is early: most likely the next worker will die too."""
_LONGEST_PAUSE = 30.0
_PAUSE = 1.0
"""Seconds before the next attempt, when the system gives no process."""
_TICK = 1.0
"""Seconds between two looks at whether the main process lives."""
_TO_CLOSE = 1.0
"""Seconds that workers have to say that they accept no more, before the last one shuts the sockets down anyhow."""
_TO_END = 2.0
"""Seconds that a worker has to end after it was told to cut what is in progress; then it is killed. It gives its own
threads less (acceptor.run)."""


@dataclass(eq=False)
class _Child:
    pid: int
    row: int
    channel: Channel
    started: float
    ready: bool = False
    on_its_way: str | None = None
    """Why it wants to be replaced."""
    told: str | None = None
    """Why it was told to stop."""
    closed: bool = False
    """It accepts no more."""
    heard: bool = True
    """Its end of the channel is open."""
    cut_at: float | None = None
    kill_at: float | None = None


class Nursery:
    """Made and run in the process itself, just after the fork.

    main: the end of the channel to the main process, whose process ID is `parent`.
    """

    def __init__(self, acceptor: ForkingAcceptor, plan: Plan, processes: int, main: Channel, rows: Rows, parent: int
                 ) -> None:
        self._acceptor = acceptor
        self._plan = plan
        self._wanted = processes
        self._main = main
        self._rows = rows
        self._parent = parent
        self._children: dict[int, _Child] = {}
        """By process ID, the oldest first."""
        self._free_rows = deque(range(ROWS))
        self._vacancies: deque[tuple[str, int | None]] = deque([("start", None)] * processes)
        """For those that are missing: why, and whom they replace."""
        self._selector = selectors.PollSelector()  # unlike epoll it is no descriptor, which every worker would have too
        self._wake_reader, self._wake_writer = wake_up_pipe()
        self._child_handler_before: Any = None
        self._complete = False
        """All of the start were ready."""
        self._to_restart: deque[int] = deque()
        self._reloaded = self._leaving = False
        """What those that are forked later have not been told."""
        self._early_deaths = 0
        self._next_fork = 0.0
        # Once it stops.
        self._stopping = False
        self._orphaned = False
        self._last: _Child | None = None
        """Who shuts the sockets down."""
        self._last_at = 0.0
        self._said_closed = False

    def run(self) -> int:
        """Look after the workers until all have stopped; the exit code."""
        gc.freeze()  # or the collectors of the workers would write to all the pages that they share, and so copy them
        signal.set_wakeup_fd(self._wake_writer, warn_on_full_buffer=False)
        self._child_handler_before = signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(self._wake_reader, selectors.EVENT_READ)
        self._selector.register(self._main, selectors.EVENT_READ)
        while self._children or not self._stopping:
            self._grow()
            self._wait()
            self._reap()
            self._decide()
            if not self._orphaned and os.getppid() != self._parent:
                self._lose_parent()
        return 0

    # What has happened?

    def _wait(self) -> None:
        """For whatever comes first."""
        times = [each for child in self._children.values() for each in (child.cut_at, child.kill_at)]
        if self._stopping and not self._said_closed:
            times.append(self._last_at)
        if not self._stopping and self._missing() > 0:
            times.append(self._next_fork)
        now = time.monotonic()
        patience = min([_TICK, *(each - now for each in times if each is not None)])
        for key, _ in self._selector.select(max(0.0, patience)):
            if key.fileobj is self._main:
                self._hear_main()
            elif key.data is not None:
                self._hear(key.data)
            else:
                os.read(self._wake_reader, 1000)

    def _hear_main(self) -> None:
        try:
            messages = self._main.receive()
        except EOFError:
            self._lose_parent()
            return
        for word, *rest in messages:
            if word == "resize":
                self._vacancies.extend([("resize", None)] * (rest[0] - self._wanted))
                self._wanted = rest[0]
            elif word == "restart":
                self._to_restart = deque(child.pid for child in self._children.values() if child.told is None)
            elif word == "free":
                self._free_rows.append(rest[0])
            elif word == "stop":
                self._stop()
            else:
                self._tell_all(word)

    def _hear(self, child: _Child) -> bool:
        """Do what `child` says; False if it has nothing to say."""
        try:
            messages = child.channel.receive() if child.heard else []
        except EOFError:  # it has ended, or is about to
            child.heard = False
            self._selector.unregister(child.channel)
            return False
        for word, *rest in messages:
            if word == "ready":
                child.ready = True
                if self._leaving:
                    child.channel.send("leaving")
                self._complete = self._complete or self._missing(ready=True) <= 0
                self._main.send("ready", child.pid)
            elif word == "replace":
                self._send_on_its_way(child, *rest)
            elif word == "closed":
                child.closed = True
            elif word == "failed":
                self._main.send("failed", child.pid, *rest)
            else:
                self._main.send(word, *rest)
        return bool(messages)

    def _reap(self) -> None:
        for child in list(self._children.values()):
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                self._bury(child, os.waitstatus_to_exitcode(status))

    def _bury(self, child: _Child, code: int) -> None:
        while self._hear(child):  # what it said last
            pass
        if child.heard:  # a process of its own has its end of the channel too
            self._selector.unregister(child.channel)
        child.channel.close()
        del self._children[child.pid]
        now, pause = time.monotonic(), 0.0
        if child.told is None:
            self._early_deaths = self._early_deaths + 1 if now - child.started < _EARLY else 0
            if self._early_deaths > 1:
                pause = min(_LONGEST_PAUSE, 2.0 ** (self._early_deaths - 3))
            self._next_fork = now + pause
            if self._missing() > len(self._vacancies):
                self._vacancies.append(("another died", child.pid))
        self._main.send("gone", child.pid, child.row, code, child.told, now - child.started, self._early_deaths, pause)
        if not self._complete and not self._stopping:  # at the start all must come up
            self._stop()
            self._tell_all("cut")

    def _lose_parent(self) -> None:
        self._orphaned = True
        self._selector.unregister(self._main)
        logger.critical("the main process %d has ended, and has not stopped the server %s; its worker processes stop, "
                        "and have up to %g s for what is in progress", self._parent, self._acceptor.name,
                        ORPHAN_DEADLINE)
        self._stop()
        for child in self._children.values():
            child.cut_at = time.monotonic() + ORPHAN_DEADLINE

    # What is to be done about it?

    def _decide(self) -> None:
        self._replace()
        self._shrink()
        while len(self._vacancies) > max(0, self._missing()):  # there are to be fewer now
            self._vacancies.popleft()
        self._close_the_last()
        self._press()

    def _missing(self, *, ready: bool = False) -> int:
        """How many there are too few, or if negative too many. ready: of those that are ready."""
        return self._wanted - sum(child.told is None and child.on_its_way is None and (child.ready or not ready)
                                  for child in self._children.values())

    def _grow(self) -> None:
        while not self._stopping and self._missing() > 0 and self._free_rows and time.monotonic() >= self._next_fork:
            self._fork()

    def _fork(self) -> None:
        row = self._free_rows[0]
        try:
            pid, here = self._fork_worker(row)
        except OSError as error:
            self._next_fork = time.monotonic() + _PAUSE
            self._main.send("no process", str(error), _PAUSE)
            return
        self._free_rows.popleft()
        child = _Child(pid, row, here, time.monotonic())
        self._children[pid] = child
        self._selector.register(here, selectors.EVENT_READ, child)
        why, replaces = self._vacancies.popleft() if self._vacancies else ("another died", None)
        self._main.send("born", pid, why, replaces)

    def _fork_worker(self, row: int) -> tuple[int, Channel]:
        here, there = Channel.pair()
        try:
            return fork(lambda: self._run_worker(row, here, there)), here
        except OSError:
            here.close()
            raise
        finally:
            there.close()

    def _run_worker(self, row: int, parents_end: Channel, channel: Channel) -> int:
        """In the new process: close what is the nursery's, and be a worker."""
        signal.signal(signal.SIGCHLD, self._child_handler_before or signal.SIG_DFL)
        parents_end.close()
        self._main.close()
        for child in self._children.values():
            child.channel.close()
        os.close(self._wake_reader)
        os.close(self._wake_writer)
        self._children.clear()
        most = self._plan.max_requests
        if most is not None:
            most += random.randint(0, self._plan.max_requests_jitter)
        return WorkerProcess(self._acceptor, self._plan, row, channel, self._rows, max_requests=most,
                             reload=self._reloaded).run()

    def _send_on_its_way(self, child: _Child, why: str, detail: str) -> None:
        if child.told is None and child.on_its_way is None and not self._stopping:
            child.on_its_way = why
            self._vacancies.append((why, child.pid))
            self._main.send("leaving", child.pid, why, detail)

    def _replace(self) -> None:
        """Tell those on their way to stop whose successors are ready; at a restart, send the next one on its way."""
        if self._stopping:
            return
        leaving = [child for child in self._children.values() if child.on_its_way is not None and child.told is None]
        surplus = len(leaving) - max(0, self._missing(ready=True))
        for child in leaving[:max(0, surplus)]:
            self._tell_to_stop(child, child.on_its_way or "", self._plan.deadline)
        if not leaving:
            while self._to_restart:
                if (next_one := self._children.get(self._to_restart.popleft())) is not None:
                    self._send_on_its_way(next_one, "restart", "restart()")
                    break

    def _shrink(self) -> None:
        if self._stopping or (too_many := -self._missing()) <= 0:
            return
        staying = [child for child in self._children.values() if child.told is None and child.on_its_way is None]
        for child in staying[-too_many:]:
            self._tell_to_stop(child, "resize", self._plan.deadline)

    def _stop(self) -> None:
        """All of them: see the module's text."""
        if self._stopping:
            return
        self._stopping = True
        left = [child for child in self._children.values() if child.told is None]
        self._last = next((child for child in left if child.ready), None)
        self._last_at = time.monotonic() + _TO_CLOSE
        for child in left:
            if child is not self._last:
                self._tell_to_stop(child, "stopped", None)

    def _close_the_last(self) -> None:
        if not self._stopping or self._said_closed:
            return
        last = self._last if self._last is not None and self._last.pid in self._children else None
        others = any(not child.closed for child in self._children.values() if child is not last)
        if others and time.monotonic() < self._last_at:
            return
        if last is not None and last.told is None:
            self._tell_to_stop(last, "stopped", ORPHAN_DEADLINE if self._orphaned else None, last=True)
            self._last_at = time.monotonic() + _TO_CLOSE
        elif last is None or last.closed or time.monotonic() >= self._last_at:
            self._said_closed = True
            self._main.send("closed")

    def _tell_to_stop(self, child: _Child, why: str, deadline: float | None, *, last: bool = False) -> None:
        """deadline: seconds until it is told to cut what is in progress; None: when the main process says so."""
        child.told = why
        child.channel.send("stop", last)
        if deadline is not None:
            child.cut_at = time.monotonic() + deadline

    def _tell_all(self, word: str) -> None:
        self._reloaded = self._reloaded or word == "reload"
        self._leaving = self._leaving or word == "leaving"
        for child in self._children.values():
            child.channel.send(word)
            if word == "cut":
                child.cut_at, child.kill_at = None, time.monotonic() + _TO_END

    def _press(self) -> None:
        """Keep the deadlines of those that stop."""
        now = time.monotonic()
        for child in self._children.values():
            if child.cut_at is not None and now >= child.cut_at:
                child.channel.send("cut")
                child.cut_at, child.kill_at = None, now + _TO_END
            if child.kill_at is not None and now >= child.kill_at:
                os.kill(child.pid, signal.SIGKILL)  # it has not been reaped, so nobody else has its number
                child.kill_at = None
