"""Whether threads use all the CPU that they can get. Then one more of them would answer nothing sooner: it would be one
more to wait for the interpreter's lock (GIL), and to be switched to. docs/threads.md has figures.

What counts is what the threads in question have used themselves, those of all taskmasters of the process: a thread of
the application that computes in the background is none of them, and must not keep a server from having threads for
handlers that wait.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping

__all__ = ["CAN_TELL", "cpu_seconds", "saturated"]

CAN_TELL = hasattr(time, "pthread_getcpuclockid")
"""Whether the system knows what a thread has used: Linux does, macOS does not."""
_ALL = 0.9
"""Of a core: what is missing is lost when threads take turns."""
_BEYOND = 1.25
"""Cores: who uses more than the one that the GIL allows for runs outside of it, in C code that releases it, and may use
as many as there are."""


def cpu_seconds(threads: Iterable[int]) -> dict[int, float]:
    """What each of `threads` (idents) has used since it began. None of them may end meanwhile: pthread_getcpuclockid(3)
    leaves open what happens then."""
    return {thread: time.clock_gettime(time.pthread_getcpuclockid(thread)) for thread in threads}


def saturated(before: Mapping[int, float], after: Mapping[int, float], seconds: float, cpus: int) -> bool:
    """Whether the threads that are in both readings, `seconds` apart, have used what they could of `cpus` cores."""
    used = sum(after[thread] - before[thread] for thread in before.keys() & after.keys()) / seconds
    most = 1 if used < _BEYOND and getattr(sys, "_is_gil_enabled", lambda: True)() else cpus
    return used >= _ALL * most
