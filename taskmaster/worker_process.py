"""A worker process of a prefork server: it runs an inner taskmaster, and does what its nursery says.

Its main thread, this module, serves nobody. It waits for messages, looks once a second at what the process has used,
and has it stopped in phases; the threads of the inner taskmaster do the rest.

    from the nursery     "leaving"     every response is the last on its connection from here on
                         "stop", last  accept nothing more, answer what is in progress, and end; whether it is the last
                                       to stop, and so shuts the listen sockets down
                         "cut"         give up what is in progress
                         "reload"
    to the nursery       "ready"       connections are being accepted
                         "failed"      they cannot be: why
                         "replace"     it wants a successor: why
                         "closed"      after "stop": it accepts nothing more
                         "cut"         what was given up, a message for each
                         "request"     the server is to stop, by `Acceptor.request_stop`: whether at once

A worker that has lost its nursery stops by itself.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from taskmaster.base import AcceptorSteps, Taskmaster, logger
from taskmaster.books import CELLS
from taskmaster.channel import Channel, wake_up_pipe
from taskmaster.register import Register
from taskmaster.rows import Rows

__all__ = ["ORPHAN_DEADLINE", "STATES", "ForkingAcceptor", "Plan", "Replica", "WorkerProcess", "resident_bytes"]

STATES = ("starting", "ready", "stopping")
"""Of a worker process; its row has the number."""
_READY, _STOPPING = 1, 2
ORPHAN_DEADLINE = 30.0
"""Seconds that requests in progress have when nobody is left who could say how many: the default of Acceptor.stop."""
_TICK = 1.0
"""Seconds between two looks at what the process has used."""
_ORPHAN_TICK = 0.1


class Replica(Protocol):
    """The same server in another process: what `ForkingAcceptor.replica` makes. For the thread that made it."""

    def start(self) -> None:
        """Accept connections. Raises what the taskmaster raises; then nothing is left."""

    def leave(self) -> None:
        """From now on every response is the last on its connection."""

    def close(self, *, last: bool) -> None:
        """Accept nothing more but what the kernel has queued. Does not wait. last: nobody accepts after this; shut the
        listen sockets down, so that nothing more is queued."""

    def stop(self) -> Sequence[str]:
        """After `close`: answer what is in progress, and return when all threads have been joined: what had to be cut.
        Waits for as long as that takes, or until `hurry`. On any thread."""

    def hurry(self) -> None:
        """Have `stop` give up what is in progress. Any thread; does not wait."""

    def reload(self) -> None:
        """Do what the server does when it is told to reload. Raises what that raises."""


@runtime_checkable
class ForkingAcceptor(AcceptorSteps, Protocol):
    """An acceptor that can be in several processes."""

    def share(self, replicas: int) -> None:
        """Before the fork: there will be no more replicas at one time than this, numbered from 0."""

    def replica(self, taskmaster: Taskmaster, number: int, request_stop: Callable[[bool], None]) -> Replica:
        """After it, in the new process, once: the same server. request_stop: has the main process stop (True: now)."""

    def replica_ended(self, number: int) -> None:
        """In the main process: that process has ended, and another may have its number. Never blocks."""

    def replica_requests(self, number: int) -> int:
        """Requests that the replica has had since its start. In any of the processes; never blocks."""

    def request_stop(self, *, now: bool = False) -> None:
        """In the main process: have whoever runs the server stop it. Returns at once."""


@dataclass(frozen=True)
class Plan:
    """What all worker processes have in common."""

    inner: Register
    max_requests: int | None
    max_requests_jitter: int
    max_memory: int | None
    deadline: float
    """Seconds that requests in progress have in a process that is replaced."""
    on_start: Callable[[], object] | None
    on_exit: Callable[[], object] | None


class WorkerProcess:
    """Made and run in the process itself, just after the fork. `request_stop` by any thread.

    max_requests: of this process, jitter included.
    reload: the server has been reloaded since the nursery was forked.
    """

    def __init__(self, acceptor: ForkingAcceptor, plan: Plan, number: int, channel: Channel, rows: Rows, *,
                 max_requests: int | None, reload: bool) -> None:
        self._acceptor = acceptor
        self._plan = plan
        self._number = number
        self._channel = channel
        self._rows = rows
        self._max_requests = max_requests
        self._reload_first = reload
        self._wake_reader, self._wake_writer = wake_up_pipe()
        # Owned by the main thread.
        self._replica: Replica
        self._stopping = False
        self._cut_at: float | None = None
        self._asked = False
        """For a successor."""
        self._nursery_lost = False
        # Written by a signal handler.
        self._terminated = False
        # Written by the thread that stops.
        self._done = False

    def run(self) -> int:
        """Serve until told to stop; the exit code."""
        self._rows.enter(self._number)
        signal.signal(signal.SIGTERM, self._on_term)
        self._plan.inner.share(self._rows.row(self._number)[:CELLS])
        _call("on_process_start", self._plan.on_start)
        try:
            self._replica = self._acceptor.replica(self._plan.inner, self._number, self.request_stop)
            if self._reload_first:
                self._reload()
            self._replica.start()
        except BaseException as error:
            logger.debug("worker process %d could not start", os.getpid(), exc_info=True)
            self._channel.send("failed", f"{type(error).__name__}: {error}")
            return 1
        self._rows.set_memory(self._number, resident_bytes())
        self._rows.set_state(self._number, _READY)
        self._channel.send("ready")
        try:
            self._obey()
        finally:
            _call("on_process_exit", self._plan.on_exit)
            logging.shutdown()  # what waits to be written is written
        return 0

    def request_stop(self, now: bool) -> None:
        """Have the whole server stop."""
        self._channel.send("request", now)

    # The main thread.

    def _obey(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._channel, selectors.EVENT_READ)
            selector.register(self._wake_reader, selectors.EVENT_READ)
            while not self._done:
                for key, _ in selector.select(_ORPHAN_TICK if self._nursery_lost else _TICK):
                    if key.fileobj is not self._channel:
                        os.read(self._wake_reader, 100)
                    elif not self._receive():
                        selector.unregister(self._channel)
                self._look()

    def _receive(self) -> bool:
        """False once the nursery is gone."""
        try:
            messages = self._channel.receive()
        except EOFError:
            self._nursery_lost = True
            self._cut_at = time.monotonic() + ORPHAN_DEADLINE
            if not self._stopping:
                logger.error("worker process %d: the nursery is gone; stopping", os.getpid())
                self._stop(last=False)
            return False
        for message in messages:
            self._heed(*message)
        return True

    def _heed(self, word: str, *rest: Any) -> None:
        if word == "leaving":
            self._replica.leave()
        elif word == "stop" and not self._stopping:
            self._stop(last=rest[0])
        elif word == "cut":
            self._replica.hurry()
        elif word == "reload":
            self._reload()

    def _reload(self) -> None:
        try:
            self._replica.reload()
        except Exception:
            logger.exception("worker process %d: the reload failed; going on", os.getpid())

    def _look(self) -> None:
        """What the process has used, and whether its time is up."""
        memory = resident_bytes()
        self._rows.set_memory(self._number, memory)
        if self._cut_at is not None and (time.monotonic() >= self._cut_at or self._rows.cut):
            self._cut_at = None
            self._replica.hurry()
        if self._stopping or self._asked:
            return
        requests = self._acceptor.replica_requests(self._number)
        if self._terminated:
            self._ask("SIGTERM", "SIGTERM")
        elif self._max_requests is not None and requests >= self._max_requests:
            self._ask("max_requests", f"{requests:,} requests")
        elif self._plan.max_memory is not None and memory > self._plan.max_memory:
            self._ask("max_memory", f"{memory / 2**20:,.0f} MiB resident")

    def _ask(self, reason: str, detail: str) -> None:
        self._asked = True
        self._channel.send("replace", reason, detail)

    def _on_term(self, number: int, frame: object) -> None:
        self._terminated = True
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full: it wakes anyhow
            os.write(self._wake_writer, b"!")

    # Stopping: on a thread of its own, so that the main thread can be told to hurry meanwhile.

    def _stop(self, *, last: bool) -> None:
        self._stopping = True
        self._rows.set_state(self._number, _STOPPING)
        self._replica.close(last=last)
        self._channel.send("closed")
        try:
            threading.Thread(target=self._wait_for_replica, name=f"stop-{self._acceptor.name}", daemon=True).start()
        except RuntimeError:  # the system gives no thread
            self._wait_for_replica()

    def _wait_for_replica(self) -> None:
        try:
            for what in self._replica.stop():
                self._channel.send("cut", what)
        except BaseException:
            logger.critical("worker process %d could not stop; this is a bug", os.getpid(), exc_info=True)
        finally:
            self._done = True
            self._wake()


def resident_bytes() -> int:
    """Memory of this process that is in RAM, what it shares with others included; 0 where that cannot be told."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _call(name: str, hook: Callable[[], object] | None) -> None:
    if hook is None:
        return
    try:
        hook()
    except Exception:
        logger.exception("%s failed in worker process %d; going on", name, os.getpid())
