"""What the load generators that are not ours have in common: a program, run for so many seconds, and its text."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass

from bench.children import ChildError, running
from bench.processes import cpu_seconds, tree

__all__ = ["Ran", "timed"]

_LONGEST = 15.0
"""Seconds that a program may go on for when it should have ended: some have been seen to hang."""


@dataclass(frozen=True)
class Ran:
    """A run of such a program."""

    text: str
    """All that it printed."""
    generator_share: float
    """Its CPU time over the time that passed."""
    server_cpu: float
    """CPU seconds of the watched process, and of all it has forked, from its start to its end."""


def timed(command: list[str], seconds: float, *, watch: int, core: int | None, meanwhile: Callable[[], None]) -> Ran:
    """Run `command` on `core` to its end, which should come after `seconds`. Blocks for as long; `meanwhile` is called
    about 20 times a second. ChildError if it does not end, or prints nothing."""
    watched = tree(watch)
    own, server, start = _children_cpu(), cpu_seconds(watched), time.perf_counter()
    with running(command, core) as child:
        child.close_input()
        text = child.rest(seconds + _LONGEST, meanwhile)
        said = child.complaint()
    passed = time.perf_counter() - start
    if not text:
        raise ChildError(f"{command[0]} printed nothing{said}")
    return Ran(text, (_children_cpu() - own) / passed, cpu_seconds(watched) - server)


def _children_cpu() -> float:
    """CPU seconds of the children that have ended, of which the program is the only one in between two calls."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
