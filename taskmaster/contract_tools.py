"""What the contract suites share: running a taskmaster on a script, and looking at its books at every step."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from taskmaster.base import Snapshot, Taskmaster, ThreadState, logger
from taskmaster.scripted import PATIENCE, ScriptedAcceptor

__all__ = ["audit", "balances", "before_each", "end", "running", "shut_down"]


@contextmanager
def running(taskmaster: Taskmaster, acceptor: ScriptedAcceptor | None = None
            ) -> Iterator[tuple[ScriptedAcceptor, Taskmaster]]:
    """`taskmaster` runs a scripted acceptor (a new one, if none is given), until the end of the block.

    In the end no thread may be left, every connection must have come to an end, once, and the books must balance. If
    anything fails, what the taskmaster has logged about a thread that died comes first in the message.
    """
    acceptor = acceptor or ScriptedAcceptor()
    with _saying_what_was_logged():
        taskmaster.execute_acceptor(acceptor)
        try:
            yield acceptor, taskmaster
        finally:
            acceptor.close()
            acceptor.finish_all()
            late = taskmaster.shutdown(PATIENCE)
        now = taskmaster.snapshot()
        assert not late, _did_not_end(late, now)
        assert "died" not in now.shrunk, f"a thread died, or ended its loop without leave(reason): {now.shrunk}"
        assert (now.thread_count, now.queued, now.parked) == (0, 0, 0), f"after the stop nothing must be left: {now}"
        assert balances(now), f"the books do not balance: {now}"
        assert not acceptor.complaints, acceptor.complaints
        for connection in acceptor.connections:
            ends = {state: connection.history[state] for state in ("processed", "refused", "abandoned", "withdrawn")}
            assert sum(ends.values()) == 1, f"{connection.peer} must come to one end, once: {ends}"


class _Log(logging.Handler):
    """The exceptions that the taskmaster has logged, a line for each."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and (error := record.exc_info[1]) is not None:
            self.lines.append(f"{record.getMessage()}: {type(error).__name__}: {error}")


@contextmanager
def _saying_what_was_logged() -> Iterator[None]:
    """Put it before the message of whatever fails in the block: a thread that died, or else the first that was caught,
    explains more than what has not happened since."""
    log = _Log()
    logger.addHandler(log)
    try:
        yield
    except AssertionError as error:
        if not log.lines:
            raise
        told = min(log.lines, key=lambda line: " died; " not in line)
        raise AssertionError(f"{told}; {error}") from error
    finally:
        logger.removeHandler(log)


def end(taskmaster: Taskmaster) -> None:
    """Shut it down: every thread must end, now that `accept` returns None and no client stays."""
    late = taskmaster.shutdown(PATIENCE)
    assert not late, _did_not_end(late, taskmaster.snapshot())


def _did_not_end(late: Sequence[str], now: Snapshot) -> str:
    more = f" and {len(late) - 3} more" if len(late) > 3 else ""
    return f"did not end within {PATIENCE:g} s: {', '.join(late[:3])}{more}; {now}"


def balances(now: Snapshot) -> bool:
    """Whether its numbers can be from one instant."""
    return (now.accepted == now.queued + now.parked + now.threads[ThreadState.SERVING] + now.served + now.refused
            and set(now.threads) == set(ThreadState)
            and min(*now.threads.values(), now.queued, now.parked, now.accepted, now.served, now.refused) >= 0)


def before_each(thing: object, method: str, call: Callable[..., object]) -> None:
    """Have `call` called, with the same arguments, before each call of that method of `thing`."""
    original = getattr(thing, method)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        call(*args, **kwargs)
        return original(*args, **kwargs)

    setattr(thing, method, wrapped)


def shut_down(taskmaster: Taskmaster, deadline: float) -> tuple[Sequence[str], float]:
    """What `shutdown(deadline)` returns, and the seconds it took; AssertionError if it does not return."""
    returned: list[tuple[Sequence[str], float]] = []

    def call() -> None:
        begun = time.monotonic()
        returned.append((taskmaster.shutdown(deadline), time.monotonic() - begun))

    caller = threading.Thread(target=call, daemon=True)
    caller.start()
    caller.join(PATIENCE)
    assert returned, f"shutdown({deadline}) has not returned after {PATIENCE:g} s"
    return returned[0]


def audit(acceptor: ScriptedAcceptor, taskmaster: Taskmaster) -> list[str]:
    """Before each hook and step that is called from now on, take a snapshot; return the list of complaints to come.

    It is taken by another thread: should the one that calls hold the lock, of whatever kind and name, that guards the
    numbers, it does not come. That others hold the lock for an instant is no reason to complain.
    """
    complaints: list[str] = []

    def check(what: str) -> None:
        if complaints:
            return  # one is enough
        taken: list[Snapshot] = []
        other = threading.Thread(target=lambda: taken.append(taskmaster.snapshot()), daemon=True)
        other.start()
        other.join(PATIENCE)
        if not taken:
            complaints.append(f"{what}() is called while the lock is held that snapshot() needs")
        elif not balances(taken[0]):
            complaints.append(f"when {what}() is called the snapshot does not balance: {taken[0]}")

    for thing, methods in ((taskmaster, ("handle_incoming_connection", "start_thread", "too_many_requests")),
                           (acceptor, ("accept", "process_connection", "process_until_idle", "process_without_waiting",
                                       "park", "refuse", "abandon"))):
        for method in methods:
            before_each(thing, method, lambda *args, method=method, **kwargs: check(method))
    return complaints
