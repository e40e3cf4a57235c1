"""What a load generator reports, whichever it is, and the two measurements that all of them share."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Result", "fairness", "percentile", "process_clock"]


@dataclass
class Result:
    """What happened between the end of the warm-up and the end of the load. Times in seconds unless they say ms."""

    seconds: float
    """How long that was."""
    ok: int
    """Complete responses with a 2xx status. Latencies are theirs."""
    non_2xx: dict[str, int]
    """Complete responses with another status, by status."""
    errors: dict[str, int]
    """Requests without a response, by kind: connect, no local port, reset, closed early, not closed (after
    the response), timeout, malformed."""
    starved: int | None
    """Clients that got no response at all, of any status. None: the generator cannot tell."""
    answers: list[int]
    """2xx responses for each client, ascending: how fair the server was."""
    mean_ms: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    generator_share: float
    """This process' CPU time over the time that passed: near 1, it is this process that was measured."""
    server_cpu: float | None
    """CPU seconds, user and system, that the watched process and its children used. None: none was watched."""


def percentile(ascending: list[float], percent: float) -> float:
    """The smallest of the values that `percent` of them do not exceed; 0.0 if there are none."""
    return ascending[max(0, math.ceil(len(ascending) * percent / 100) - 1)] if ascending else 0.0


def fairness(shares: Sequence[float]) -> float:
    """Jain's index of how evenly something is shared: 1 if all have the same, 1/n if one of n has all; 0.0 of nothing.

    Jain, Chiu and Hawe, "A Quantitative Measure of Fairness and Discrimination", DEC-TR-301 (1984).
    """
    squares = len(shares) * sum(share * share for share in shares)
    return sum(shares) ** 2 / squares if squares else 0.0


def process_clock(pid: int) -> float:
    """CPU seconds, user and system, that process `pid` has used, ended threads included.

    It is what /proc/PID/stat says in hundredths of a second, to the nanosecond: clock_getcpuclockid(3), whose clock
    number is made of the process' number. OSError if there is no such process.
    """
    return time.clock_gettime(~pid << 3 | 2)
