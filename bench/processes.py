"""What the system tells of a server: one process, or several if it forks. Read from outside, in /proc (proc(5))."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bench.clients.result import process_clock

__all__ = ["Usage", "cpu_seconds", "raise_open_files", "resident_bytes", "serving_threads", "tree"]

_SWITCHES = re.compile(r"^(?:non)?voluntary_ctxt_switches:\s+(\d+)$", re.MULTILINE)


def tree(pid: int) -> list[int]:
    """Process `pid` and all that descend from it at this moment, `pid` first. Takes some milliseconds."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := _read(f"/proc/{entry}/stat").rpartition(")")[2].split()):
            children.setdefault(int(fields[1]), []).append(int(entry))
    found = [pid]
    for parent in found:  # which grows meanwhile
        found += children.get(parent, [])
    return found


def cpu_seconds(pids: Sequence[int]) -> float:
    """That these processes have used, user and system; those that have ended count nothing."""
    total = 0.0
    for pid in pids:
        try:
            total += process_clock(pid)
        except OSError:
            pass
    return total


def serving_threads(pids: Sequence[int]) -> int:
    """The taskmaster's threads in a `tree`: without the main thread of each process, and the acceptor's watcher.

    Where processes have been forked, those of the last ones: the others (the main process, the nursery) serve nobody.
    """
    alone = len(pids) == 1
    parents = {int((_read(f"/proc/{pid}/stat").rpartition(")")[2].split() or ["", "0"])[1]) for pid in pids}
    return sum(max(0, _status_number(pid, "Threads") - 2) for pid in pids if alone or pid not in parents)


def resident_bytes(pids: Sequence[int]) -> int:
    """In RAM: the sum of VmRSS, in which pages that processes share count for each of them."""
    return 1024 * sum(_status_number(pid, "VmRSS") for pid in pids)


@dataclass(frozen=True)
class Usage:
    """What processes have used so far. The difference of two is what they used in between."""

    cpu: float
    """Seconds."""
    voluntary: int
    """Context switches of all threads that there are: to wait for something."""
    involuntary: int
    """Because the system had given the core to somebody else."""

    @classmethod
    def of(cls, pids: Sequence[int]) -> Self:
        voluntary = involuntary = 0
        for pid in pids:
            for task in Path(f"/proc/{pid}/task").glob("*"):
                one, other = map(int, _SWITCHES.findall(_read(f"{task}/status")) or (0, 0))
                voluntary, involuntary = voluntary + one, involuntary + other
        return cls(cpu_seconds(pids), voluntary, involuntary)

    def __sub__(self, other: Usage) -> Usage:
        return Usage(self.cpu - other.cpu, self.voluntary - other.voluntary, self.involuntary - other.involuntary)


def raise_open_files(needed: int = 0) -> int:
    """Let this process have as many descriptors as it may ask for; how many that is. OSError if they are too few."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most < needed and most != resource.RLIM_INFINITY:
        raise OSError(f"this takes {needed:,} open files in one process, and the hard limit (ulimit -Hn) is {most:,}")
    return most


def _status_number(pid: int, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+)", _read(f"/proc/{pid}/status"), re.MULTILINE)
    return int(found[1]) if found else 0


def _read(path: str) -> str:
    """Empty if the process is no more."""
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
