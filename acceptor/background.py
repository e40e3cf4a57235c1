"""A handler of `logging` that writes on a thread of its own."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from logging.handlers import QueueHandler
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Self, TypeAlias

from acceptor.access import access_record
from acceptor.violations import printable
from taskmaster.arguments import seconds, whole_number

__all__ = ["BackgroundHandler", "reopen_file", "start_again_after_fork"]

logger = logging.getLogger("acceptor")

_BURST = 5.0
"""Seconds between two reports of lost lines, at least."""
_Waiting: TypeAlias = "SimpleQueue[logging.LogRecord | Callable[[], None] | None]"
"""What the thread has to do: write it, call it, or, with None, end."""


class BackgroundHandler(QueueHandler):
    """Has log records written by a thread of its own, so that whoever logs never waits for a disk or a terminal.

    target: the handler that writes; it has the format, and the file. From then on it is this one's, and closed with it.
    limit: records that may wait. Each keeps its request's headers, so they may take up to limit * Limits.head bytes.

    When `limit` records wait, because the disk has been slower than the clients for long, what is logged is dropped: a
    hole in the log is better than a server that does not answer. (Whoever wants to wait adds `target` itself to the
    logger.) Lines that `target` cannot write, to a full disk for example, are lost as well. Both are counted in `lost`
    and reported to the logger "acceptor", once per burst, instead of by a traceback for every line.

    Before `start` and after `stop`, whoever logs writes, and waits. Any thread may log; `start`, `stop` and `close` are
    for one at a time. Threads do not survive fork(2): in the child whoever logs writes, until it is started again. (The
    worker processes of a `taskmaster.prefork.PreforkTaskmaster` do that.)

    Records that are no access records are made text by whoever logs them, as by any QueueHandler: what they are made of
    may change later.
    """

    def __init__(self, target: logging.Handler, *, limit: int = 10_000) -> None:
        if not isinstance(target, logging.Handler):
            raise TypeError(f"target={target!r}: pass a handler of logging, such as WatchedFileHandler(path)")
        # Fixed at construction.
        self._limit = whole_number("limit", limit, at_least=1)
        self.target = target
        target.handleError = self._note_failure  # type: ignore[method-assign]
        # Written by start and stop, under self._lock.
        self._waiting: _Waiting = SimpleQueue()
        self._thread: threading.Thread | None = None
        # Guarded by self._lock, which is held for a moment only.
        self._lock = threading.Lock()
        self._lost = 0
        self._dropped = self._failed = 0
        """Lines lost and not reported yet."""
        self._failure = ""
        self._reported_at = -_BURST
        self._left_behind = False
        """It ran in the process that this one has been forked from."""
        super().__init__(self._waiting)
        _all.add(self)

    @property
    def lost(self) -> int:
        """Lines that were dropped or could not be written, since the beginning."""
        with self._lock:
            return self._lost

    def start(self) -> Self:
        """Start the thread. RuntimeError if it runs already, or if the system gives none."""
        if self._thread is not None:
            raise RuntimeError("this BackgroundHandler runs already; stop() it first")
        waiting: _Waiting = SimpleQueue()  # the last thread may still be at its own, after a stop in vain
        thread = threading.Thread(target=self._run, args=(waiting,), name="access-log", daemon=True)
        thread.start()
        with self._lock:
            self._waiting, self._thread = waiting, thread
        return self

    def stop(self, deadline: float = 10.0) -> None:
        """Write all that waits, for up to `deadline` seconds, and end the thread; a second call does nothing.

        If the disk does not answer for so long, that is logged; the thread, a daemon, goes on trying.
        """
        deadline = seconds("deadline", deadline, zero=True)
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is None:
            return
        self._waiting.put(None)
        thread.join(deadline)
        if thread.is_alive():
            logger.warning("access log: %d lines could not be written within %g s", self._waiting.qsize(), deadline)
        self._report_losses(at_once=True)

    def close(self) -> None:
        """Stop, and close `target`. At the end of the process `logging` calls this."""
        self.stop()
        try:
            self.target.close()
        except OSError as error:  # what could not be written before, and has been counted, cannot be now
            logger.warning("access log: %s", error)
        super().close()

    def reopen(self) -> None:
        """Open the file of `target` anew, after the lines logged so far; for what has no file, do nothing.

        For a file that has been moved, at SIGHUP, whose handler may call it: while the thread runs, that does it, and
        this returns at once.
        """
        if self._thread is None:
            self._reopen()
        else:
            self._waiting.put(self._reopen)  # without the lock, which the signal may have found held

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()

    # For `logging`: any thread.

    def setFormatter(self, fmt: logging.Formatter | None) -> None:  # noqa: N802
        """Of `target`, which is the one to format."""
        self.target.setFormatter(fmt)

    def handle(self, record: logging.LogRecord) -> bool:
        """As of every handler, but not under its lock. `logging` holds that while it closes this one, which waits for
        the thread, which may have a loss to report, to a logger that leads here."""
        kept: object = self.filter(record)
        if kept:
            self.emit(kept if isinstance(kept, logging.LogRecord) else record)
        return bool(kept)

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """For the queue: access records as they are, since they do not change; others made text."""
        return record if access_record(record) is not None else super().prepare(record)

    def enqueue(self, record: logging.LogRecord) -> None:
        """Have `record` written: it never waits while the thread runs."""
        with self._lock:
            running = self._thread is not None
            if running and self._waiting.qsize() < self._limit:
                self._waiting.put(record)
            elif running:
                self._dropped += 1
                self._lost += 1
        if not running:
            self._write(record)
            self._report_losses()

    def _forget_parent(self) -> None:
        """In a child, at the fork. What waits to be written, the parent writes."""
        self._left_behind = self._thread is not None
        self._lock = threading.Lock()  # another thread may have held it
        self._thread = None
        self._waiting = SimpleQueue()
        self._lost = self._dropped = self._failed = 0

    # The thread, if it runs.

    def _run(self, waiting: _Waiting) -> None:
        patience: float | None = None
        while True:
            try:
                item = waiting.get(timeout=patience)
            except Empty:
                pass
            else:
                if item is None:
                    return
                if isinstance(item, logging.LogRecord):
                    self._write(item)
                else:
                    item()
            patience = self._report_losses()

    def _write(self, record: logging.LogRecord) -> None:
        if record.levelno >= self.target.level:
            try:
                self.target.handle(record)
            except Exception:  # what handlers do before they care for errors: WatchedFileHandler's reopening
                self._note_failure(record)

    def _note_failure(self, record: logging.LogRecord) -> None:
        """The `handleError` of `target`: an exception is being handled. (Its own would print a traceback.)"""
        kind, error, _ = sys.exc_info()
        with self._lock:
            self._failed += 1
            self._lost += 1
            self._failure = f"{kind.__name__ if kind else None}: {error}"

    def _report_losses(self, at_once: bool = False) -> float | None:
        """Log what has been lost and not reported, if it is time; else return the seconds until it is."""
        now = time.monotonic()
        reasons = []
        with self._lock:
            if not (self._dropped or self._failed):
                return None
            if not at_once and now - self._reported_at < _BURST:
                return self._reported_at + _BURST - now
            if self._dropped:
                reasons.append(f"{self._dropped} because {self._limit} others waited to be written (limit)")
            if self._failed:
                reasons.append(f"{self._failed} could not be written ({printable(self._failure)})")
            self._dropped = self._failed = 0
            self._reported_at = now
        logger.warning("access log: lines were lost: %s", "; ".join(reasons))
        return None

    def _reopen(self) -> None:
        if not isinstance(self.target, logging.FileHandler):
            return
        try:
            reopen_file(self.target)
        except OSError as error:
            logger.error("access log: %s; what was open stays open", error)


_all: weakref.WeakSet[BackgroundHandler] = weakref.WeakSet()


def _forget_parents() -> None:
    for handler in list(_all):
        handler._forget_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parents)


def start_again_after_fork() -> None:
    """In a process that has just been forked, and will fork no more: start what ran in its parent."""
    for handler in list(_all):
        if handler._left_behind:
            handler._left_behind = False
            handler.start()


def reopen_file(handler: logging.FileHandler) -> None:
    """Open the file of `handler` anew: somebody has moved it. OSError if that is not possible; then it stays as it was.
    Any thread."""
    if (old := handler.setStream(handler._open())) is not None:
        old.close()
