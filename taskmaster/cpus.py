"""How many processors this process may use: what it may be scheduled on, and what its control group grants it.

A container that may use two of a machine's 64 processors sees all 64; the limit is in its control group, as the time
that it may run (quota) in each period: cgroups(7), and the kernel's cgroup-v2.rst and sched-bwc.rst.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["available_cpus"]


def available_cpus(root: Path = Path("/")) -> int:
    """At least 1. root: where /proc and /sys are."""
    if hasattr(os, "process_cpu_count"):  # Python 3.13; it also follows -X cpu_count
        count = os.process_cpu_count() or 1
    elif hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    return min([count, *(math.ceil(share) for share in _shares(root))])


def _shares(root: Path) -> Iterator[float]:
    """The processors that each control group above this process grants."""
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except (OSError, UnicodeError):
        return
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2
            for folder in _upwards(root / "sys/fs/cgroup", path):
                yield from _share(folder / "cpu.max")
        elif "cpu" in controllers.split(","):
            for folder in _upwards(root / "sys/fs/cgroup" / controllers, path):
                yield from _share(folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us")


def _upwards(top: Path, path: str) -> Iterator[Path]:
    """The group and all that it is in. In a container its own may be mounted at the top, and the path lead nowhere."""
    names = [name for name in path.split("/") if name not in ("", "..")]
    while names:
        yield top.joinpath(*names)
        names.pop()
    yield top


def _share(*files: Path) -> Iterator[float]:
    """Quota by period. No limit is written "max", or -1."""
    try:
        quota, period = " ".join(file.read_text() for file in files).split()
        if quota != "max" and int(quota) > 0:
            yield int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return
