"""The worker processes, as the main process knows them: from the fork of the nursery to its end.

One thread of the main process hears what the nursery has to say (`taskmaster.nursery` has the list of messages), logs
it, and keeps the books: when a worker has ended, what it has counted is added to what is kept, and its row is free.
Whoever reads the books sees either the row, or the sum with it.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from taskmaster.base import Snapshot, ThreadState, logger
from taskmaster.books import CELLS, snapshot_from
from taskmaster.channel import Channel, fork
from taskmaster.nursery import Nursery
from taskmaster.rows import ROWS, Rows
from taskmaster.worker_process import STATES, ForkingAcceptor, Plan

__all__ = ["ProcessSnapshot", "Processes"]


@dataclass(frozen=True, slots=True)
class ProcessSnapshot:
    """One worker process."""

    pid: int
    number: int
    """From 0, the lowest that is free when it is forked: so that of one that has ended."""
    state: str
    """"starting", "ready" or "stopping"."""
    started: float
    """Seconds since 1970."""
    requests: int
    """That it has had."""
    memory: int
    """Bytes in RAM, what it shares with other processes included; as of a second ago."""
    snapshot: Snapshot
    """Of the inner taskmaster; its `grown` and `shrunk`, which are words, stay in the process."""


class Processes:
    """One run: made by `PreforkTaskmaster.execute_acceptor`, for one acceptor, while there are no threads.

    `begin`, then `hear` on a thread of its own; or `give_up`. The rest by any thread, at any time.
    """

    def __init__(self, acceptor: ForkingAcceptor) -> None:
        self._acceptor = acceptor
        self._rows = Rows()
        acceptor.share(ROWS)
        # Written before there is a thread.
        self.nursery = 0
        """Its process ID."""
        self._lifeline = -1
        """Readable, and at its end, when no process of this run is left but the main process."""
        self.thread: threading.Thread | None = None
        """That which is in `hear`."""
        # Guarded by self._changed, which is notified when any of it changes. What is called inside reads and writes
        # memory only.
        self._changed = threading.Condition()
        self._channel: Channel | None = None
        """To the nursery, while it lives."""
        self._stop_sent = self._closed = self._ended = False
        self._past = [0] * CELLS
        """What workers that have ended have counted."""
        self._grown: Counter[str] = Counter()
        self._shrunk: Counter[str] = Counter()
        self._cut: list[str] = []

    # For the taskmaster.

    def begin(self, plan: Plan, count: int) -> None:
        """Fork the nursery, and return when `count` workers are ready. RuntimeError, with the reason, if one cannot be;
        then `give_up`."""
        here, there = Channel.pair()
        self._channel = here
        its_end = -1
        parent = os.getpid()

        def run() -> int:
            here.close()
            os.close(self._lifeline)
            return Nursery(self._acceptor, plan, count, there, self._rows, parent).run()

        try:
            self._lifeline, its_end = os.pipe()  # the other processes have `its_end`, and do nothing with it
            self.nursery = fork(run)
        finally:
            there.close()
            _close(its_end)
        logger.info("process %d looks after the worker processes of %s", self.nursery, self._acceptor.name)
        ready, failed = 0, ""
        while ready < count and not failed:
            for word, *rest in self._next_messages():
                if word == "born":
                    self._note_birth(*rest)
                elif word == "ready":
                    ready += 1
                elif word == "gone":
                    self._settle(*rest[:2])
                    failed = failed or f"worker process {rest[0]} {_ending(rest[2])} before it was ready"
                elif word == "failed":
                    failed = failed or f"worker process {rest[0]} could not start: {rest[1]}"
                elif word == "no process":
                    failed = failed or f"the system gives no process: {rest[0]}"
        if failed:
            raise RuntimeError(failed)

    def give_up(self) -> None:
        """Nothing is left when this returns. Instead of `hear`."""
        self.stop()
        self.send("cut")
        with contextlib.suppress(EOFError):
            while True:
                for word, *rest in self._next_messages():
                    if word == "gone":
                        self._settle(*rest[:2])
        if self.nursery:
            self._reap_nursery()
        self._end()

    def send(self, *message: str | int) -> None:
        """Tell the nursery something; when it has ended, nobody."""
        with self._changed:
            if self._channel is not None:
                self._channel.send(*message)

    def stop(self) -> None:
        """Have all workers stop. A second call does nothing. What is given up from here on is in `cut`."""
        with self._changed:
            sent, self._stop_sent = self._stop_sent, True
            if not sent:
                self._cut.clear()
        if not sent:
            self.send("stop")

    def cut_all(self) -> None:
        """Have all workers give up what is in progress."""
        self._rows.cut = True  # for those who have lost the nursery
        self.send("cut")

    def wait_until_closed(self, timeout: float) -> None:
        """After `stop`: until nobody accepts any more, or nobody could say so."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._ended, timeout)

    def wait_until_ended(self, timeout: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._ended, timeout)

    def names(self) -> list[str]:
        """Of the processes that are left."""
        return [f"worker process {pid}" for _, pid in self._rows.in_use()] or [f"nursery process {self.nursery}"]

    # The books.

    @property
    def cut(self) -> Sequence[str]:
        with self._changed:
            return tuple(self._cut)

    def snapshot(self) -> Snapshot:
        with self._changed:
            total = list(self._past)
            for row, _ in self._rows.in_use():
                for position, number in enumerate(_numbers(snapshot_from(self._rows.row(row)))):
                    total[position] += number
            return snapshot_from(total, self._grown, self._shrunk)

    def snapshots(self) -> list[ProcessSnapshot]:
        """Each, the oldest first."""
        rows = self._rows
        with self._changed:
            return [ProcessSnapshot(pid=pid, number=row, state=STATES[rows.state(row)], started=rows.started(row),
                                    requests=self._acceptor.replica_requests(row), memory=rows.memory(row),
                                    snapshot=snapshot_from(rows.row(row))) for row, pid in rows.in_use()]

    def _settle(self, pid: int, row: int) -> int:
        """Keep what a worker that has ended has counted, and free its row; the connections that it has lost."""
        with self._changed:
            if (row, pid) not in self._rows.in_use():
                return 0  # it has ended before it could enter itself
            last = snapshot_from(self._rows.row(row))
            lost = last.queued + last.parked + last.threads[ThreadState.SERVING]
            kept = replace(last, threads=dict.fromkeys(ThreadState, 0), queued=0, parked=0, served=last.served + lost)
            for position, number in enumerate(_numbers(kept)):
                self._past[position] += number
            self._rows.clear(row)
            self._acceptor.replica_ended(row)
        return lost

    # The thread.

    def hear(self) -> None:
        """Hear the nursery until all processes have ended."""
        self.thread = threading.current_thread()
        try:
            with contextlib.suppress(EOFError):
                while True:
                    for message in self._next_messages():
                        self._heed(*message)
            code = self._reap_nursery()
            if not self._closed or code:
                self._lose_nursery(code)
        except BaseException:
            logger.critical("the thread that hears the nursery died; this is a bug", exc_info=True)
        finally:
            self._end()

    def _next_messages(self) -> list[list[Any]]:
        """Wait for them. EOFError once the nursery has ended."""
        channel = self._channel
        if channel is None:
            raise EOFError
        with selectors.PollSelector() as selector:
            selector.register(channel, selectors.EVENT_READ)
            selector.select()
        return channel.receive()

    def _heed(self, word: str, *rest: Any) -> None:
        if word == "born":
            self._note_birth(*rest)
        elif word == "gone":
            self._note_end(*rest)
        elif word == "failed":
            logger.error("worker process %d could not start: %s", *rest)
        elif word == "leaving":
            logger.info("worker process %d is going to be replaced (%s): %s", *rest)
        elif word == "no process":
            logger.error("the system gives no process for another worker: %s; trying again in %g s", *rest)
        elif word == "cut":
            with self._changed:
                self._cut.append(rest[0])
        elif word == "closed":
            self._note_closed()
        elif word == "request":
            self._acceptor.request_stop(now=rest[0])

    def _note_birth(self, pid: int, why: str, replaces: int | None) -> None:
        with self._changed:
            self._grown[why] += 1
        logger.info("worker process %d has been forked%s (%s)", pid,
                    f" in place of {replaces}" if replaces is not None else "", why)

    def _note_end(self, pid: int, row: int, code: int, told: str | None, lived: float, early_deaths: int, pause: float
                  ) -> None:
        lost = self._settle(pid, row)
        with self._changed:
            self._shrunk[told or "died"] += 1
        self.send("free", row)
        if told is not None and code == 0:
            logger.info("worker process %d has ended (%s)", pid, told)
        elif told is not None:
            logger.error("worker process %d, which was told to stop (%s), %s after %.1f s; connections lost: %d", pid,
                         told, _ending(code), lived, lost)
        else:
            logger.error("worker process %d %s after %.1f s; connections lost: %d. %s", pid, _ending(code), lived, lost,
                         f"{early_deaths} in a row died as early as that; the next is forked in {pause:g} s"
                         if early_deaths > 1 else "Another takes its place")

    def _note_closed(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _lose_nursery(self, code: int | None) -> None:
        """Nobody can tell the workers anything, nor replace them. They stop by themselves: wait for that."""
        with self._changed:
            stopping = self._stop_sent
            left = self._rows.in_use()
        self._note_closed()
        logger.critical("the nursery process %d %s. Nobody could replace the worker processes, so they stop (%s), and "
                        "so does the server: start it again", self.nursery,
                        "has ended" if code is None else _ending(code), ", ".join(str(pid) for _, pid in left))
        if not stopping:
            self._acceptor.request_stop()
        os.read(self._lifeline, 1)  # returns when they have ended
        for row, pid in left:
            self._settle(pid, row)
            with self._changed:
                self._shrunk["the nursery died"] += 1

    def _reap_nursery(self) -> int | None:
        """Its exit code; None if somebody else has reaped it."""
        try:
            return os.waitstatus_to_exitcode(os.waitpid(self.nursery, 0)[1])
        except ChildProcessError:
            return None

    def _end(self) -> None:
        with self._changed:
            if self._channel is not None:
                self._channel.close()
                self._channel = None
                _close(self._lifeline)
            self._ended = True
            self._changed.notify_all()


def _numbers(snapshot: Snapshot) -> list[int]:
    """In the order of `taskmaster.books`."""
    return [*(snapshot.threads[state] for state in ThreadState), snapshot.accepted, snapshot.served, snapshot.refused,
            snapshot.parked]


def _close(descriptor: int) -> None:
    if descriptor >= 0:
        os.close(descriptor)


def _ending(code: int) -> str:
    if code >= 0:
        return f"has ended by itself, with exit code {code},"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = " (by somebody, or by the kernel if memory was short: see dmesg)" if code == -signal.SIGKILL else ""
    return f"was killed by {name}{hint}"
