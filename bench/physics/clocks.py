"""What time costs: clocks, sleeping, and waking a core that has gone to sleep.

Microseconds, of as many calls as fit into the given seconds; None if it cannot be measured here. Needs the standard
library alone.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

from bench.physics.threads import each, statement

__all__ = ["clock", "sleep", "timer_slack", "wake_up"]

_PR_SET_TIMERSLACK = 29
_PAUSE_S = 0.001
"""Between two wake-ups: long enough for a core to go to sleep."""
_ECHO = """\
import os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
while data := os.read(0, 1):
    os.write(1, data)
"""
_KEEP_AWAKE = """\
import os, sys, time
os.sched_setaffinity(0, {int(sys.argv[1])})
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
print(flush=True)
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    pass
"""
"""Runs whenever nobody else wants the core (SCHED_IDLE, sched(7)), so that it is never idle; anybody preempts it."""


def clock(seconds: float) -> float:
    return statement("clock()", seconds, clock=time.perf_counter_ns)


def sleep(asked_s: float, slack_ns: int, seconds: float) -> float | None:
    """What time.sleep(asked_s) takes. slack_ns: see `timer_slack`; 0: as it is."""
    try:
        with timer_slack(slack_ns) if slack_ns else nullcontext():
            return each(lambda: time.sleep(asked_s), seconds)
    except OSError:
        return None


@contextmanager
def timer_slack(ns: int) -> Iterator[None]:
    """How much later than asked this thread may be woken, so that wake-ups can be taken together: 50 us by default.

    PR_SET_TIMERSLACK(2const). OSError where that cannot be set.
    """
    try:
        import ctypes
        prctl = ctypes.CDLL(None, use_errno=True).prctl
    except (ImportError, AttributeError) as error:  # a Python without ctypes, a C library without prctl
        raise OSError(str(error)) from error
    if prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(ns), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_TIMERSLACK)")
    try:
        yield
    finally:
        prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(0), 0, 0, 0)  # back to the default


def wake_up(cores: Sequence[int], awake: bool, seconds: float) -> float | None:
    """A byte to a process that waits on cores[1], and back to this thread, which never sleeps: the median.

    awake: that core is kept from idling. None with a single core.
    """
    if len(cores) < 2:
        return None
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cores[0]})
    try:
        with _keeping_awake(cores[1], seconds) if awake else nullcontext(), _echo(cores[1]) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            there, back = process.stdin.fileno(), process.stdout.fileno()
            os.set_blocking(back, False)
            _one(there, back)  # once it has started
            taken: list[float] = []
            end = time.monotonic() + seconds
            while time.monotonic() < end or len(taken) < 3:
                time.sleep(_PAUSE_S)
                taken.append(_one(there, back))
    finally:
        os.sched_setaffinity(0, before)
    return 1e6 * statistics.median(taken)


def _one(there: int, back: int) -> float:
    start = time.perf_counter()
    os.write(there, b".")
    while True:
        try:
            if not os.read(back, 1):
                raise OSError("the process that echoes has ended")
            return time.perf_counter() - start
        except BlockingIOError:
            pass


@contextmanager
def _echo(core: int) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-ISc", _ECHO, str(core)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          bufsize=0) as process:
        yield process
        # __exit__ closes its input, and waits for its end


@contextmanager
def _keeping_awake(core: int, seconds: float) -> Iterator[None]:
    """It ends by itself, should nobody be left to end it."""
    with subprocess.Popen([sys.executable, "-ISc", _KEEP_AWAKE, str(core), str(seconds + 5)],
                          stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield
        finally:
            process.kill()
