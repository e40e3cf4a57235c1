"""How quiet this machine is, in three seconds: `bench doctor` runs this on the core that servers under test get.

    python -m bench.doctor.noise 0,1 3      the cores that may be used, and the seconds that it may take: for each part
                                            its name, and at the end all figures, as lines of JSON

A fixed piece of work, again and again: how much its time scatters. A reader of the clock that does nothing else: the
gaps in what it sees are what interrupts, other processes and the hypervisor do to any server, as jHiccup has it (Tene,
2012). Short sleeps: how late the timer is. And waking another core, asleep and awake.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from bench.machine import Noise
from bench.physics.clocks import wake_up

__all__ = ["PARTS", "Quiet", "gaps", "scatter"]

PARTS = ("work", "gaps", "sleeps", "wake-up")
_SHARES = (0.4, 0.3, 0.15, 0.15)
"""Of the time, for each of the parts."""
_PIECES = 12
"""Of the work: as many as the spread is estimated from."""
_GAP_US = 20.0
"""A gap is more than this: reading the clock takes 0.1 us, an interrupt some few."""


@dataclass(frozen=True)
class Quiet:
    """What the test found."""

    work_scatter: float
    """Coefficient of variation of the time that equal pieces of work take, each of about a tenth of a second."""
    cpu_scatter: float
    """The same of their CPU time."""
    longest_gap_ms: float
    gaps_per_s: float
    lost: float
    """The share of the time that is in gaps."""
    late_us: float
    """How much later than asked time.sleep(0.001) returns: the median."""
    late_p99_us: float
    idle_us: float | None
    """A byte to a process on another core that idles, and back; None with a single core."""
    awake_us: float | None
    """The same if that core is awake."""
    others: float
    """The share of the core that others had: processes, and the hypervisor."""
    others_cores: float
    """What they had of all cores together, in cores' worth of time."""


def scatter(values: Sequence[float]) -> float:
    """Standard deviation over mean. ValueError for fewer than two."""
    if len(values) < 2:
        raise ValueError("two values are the least that scatter")
    return statistics.stdev(values) / statistics.fmean(values)


def gaps(seconds: float) -> tuple[float, int, float]:
    """Read the clock for `seconds`: the longest gap in ms, how many gaps, and the seconds that are in them."""
    clock, longest, count, lost = time.perf_counter_ns, 0, 0, 0
    start = last = clock()
    end, least = start + int(seconds * 1e9), int(_GAP_US * 1e3)
    while last < end:
        now = clock()
        if now - last > least:
            count += 1
            lost += now - last
            longest = max(longest, now - last)
        last = now
    return longest / 1e6, count, lost / 1e9


def parts(cores: Sequence[int], seconds: float) -> Iterator[str | Quiet]:
    """The name of each part when it begins, at last what was found."""
    noise, everywhere = Noise(cores[0] if len(cores) > 1 else None), Noise(None)
    times = dict(zip(PARTS, (share * seconds for share in _SHARES), strict=True))
    yield "work"
    wall, cpu = _pieces(times["work"])
    yield "gaps"
    longest_ms, count, lost_s = gaps(times["gaps"])
    yield "sleeps"
    late = _lateness(times["sleeps"])
    others, others_cores = noise.share(), everywhere.share() * (os.cpu_count() or 1)
    yield "wake-up"
    idle, awake = (wake_up(cores, awake, times["wake-up"] / 2) for awake in (False, True))
    yield Quiet(scatter(wall), scatter(cpu), longest_ms, count / times["gaps"], lost_s / times["gaps"],
                statistics.median(late), _percentile(late, 0.99), idle, awake, others,
                others_cores)


def _pieces(seconds: float) -> tuple[list[float], list[float]]:
    """Seconds of each piece, and CPU seconds."""
    loops = 1000
    while (taken := _work(loops)[0]) < seconds / _PIECES / 4:
        loops *= 2
    loops = max(1, int(loops * seconds / _PIECES / taken))
    wall, cpu = zip(*(_work(loops) for _ in range(_PIECES)), strict=True)
    return list(wall), list(cpu)


def _work(loops: int) -> tuple[float, float]:
    """What interpreters do: look something up, call something, make something."""
    table = {number: str(number) for number in range(64)}
    start, cpu = time.perf_counter(), time.thread_time()
    for number in range(loops):
        table[number & 63] = table[(number + 1) & 63].strip() + "."[:0]
    return time.perf_counter() - start, time.thread_time() - cpu


def _lateness(seconds: float) -> list[float]:
    """Microseconds, sorted."""
    late: list[float] = []
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end or not late:
        time.sleep(0.001)
        late.append(1e6 * (time.perf_counter() - start) - 1000)
    return sorted(late)


def _percentile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def main() -> None:
    cores = [int(word) for word in sys.argv[1].split(",")]
    if len(cores) > 1:
        os.sched_setaffinity(0, cores[:1])
    for part in parts(cores, float(sys.argv[2])):
        print(json.dumps(part if isinstance(part, str) else asdict(part)), flush=True)


if __name__ == "__main__":
    main()
