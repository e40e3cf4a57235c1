"""The machine and the moment: what has to be known beside a figure to make sense of it later. Kept in meta.json."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.children import ROOT
from bench.processes import cpu_seconds

__all__ = ["Noise", "describe", "measured_sleep_ms", "one_line"]


def describe(sleeps_ms: list[float]) -> dict[str, Any]:
    """Everything worth keeping, as JSON takes it. Measures sleeps, which takes a tenth of a second."""
    gil = getattr(sys, "_is_gil_enabled", lambda: True)
    return {
        "host": socket.gethostname(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "cores_usable": sorted(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "python_build": " ".join(platform.python_build()),
        "gil": gil(),
        "switch_interval_s": sys.getswitchinterval(),
        "packages": {name: _version(name) for name in ("h11", "httptools", "matplotlib")},
        "git": _git(),
        "load_average": os.getloadavg(),
        "somaxconn": _read("/proc/sys/net/core/somaxconn"),
        "tcp_tw_reuse": _read("/proc/sys/net/ipv4/tcp_tw_reuse"),
        "local_ports": _read("/proc/sys/net/ipv4/ip_local_port_range"),
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "measured_sleep_ms": {f"{ms:g}": measured_sleep_ms(ms) for ms in sorted({0.1, 1.0, *sleeps_ms} - {0.0})},
    }


def one_line() -> str:
    """When and where, for below a table."""
    return (f"{time.strftime('%Y-%m-%d')}, {len(os.sched_getaffinity(0))} cores of {_cpu_model()}, "
            f"Linux {platform.release()}, Python {platform.python_version()}, commit {_git() or 'unknown'}")


def measured_sleep_ms(asked_ms: float) -> float:
    """What time.sleep really takes, in ms: the median of a few. More than was asked for, by the timer's slack."""
    taken = []
    for _ in range(max(3, min(50, round(50 / asked_ms)))):
        start = time.perf_counter()
        time.sleep(asked_ms / 1e3)
        taken.append(1e3 * (time.perf_counter() - start))
    return round(statistics.median(taken), 4)


class Noise:
    """Who else had a core, since this object was made: other processes, and the hypervisor.

    core: which; None: all of them. pids: the processes whose core it is meant to be; none: this one, and its children
    that have ended by the time that `share` is called.
    """

    def __init__(self, core: int | None, pids: Sequence[int] = ()) -> None:
        self._line = "cpu" if core is None else f"cpu{core}"
        self._pids = pids
        self._start = self._now()

    def share(self) -> float:
        """Their share of the core's time, from 0 to 1."""
        total, busy, own = (now - then for now, then in zip(self._now(), self._start, strict=True))
        return round(max(0.0, busy - own) / total, 3) if total > 0 else 0.0

    def _now(self) -> tuple[float, float, float]:
        """Seconds: of the core in all, of those the ones it was not idle in (proc(5)), and those of the process."""
        for line in (_read("/proc/stat") or "").splitlines():
            name, *fields = line.split()
            if name == self._line:
                ticks = [int(field) for field in fields[:8]]  # the rest is contained in these
                second = os.sysconf("SC_CLK_TCK")
                idle = ticks[3] + ticks[4]
                return sum(ticks) / second, (sum(ticks) - idle) / second, self._own()
        return 0.0, 0.0, 0.0

    def _own(self) -> float:
        if self._pids:
            return cpu_seconds(self._pids)
        usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _cpu_model() -> str:
    for line in (_read("/proc/cpuinfo") or "").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git() -> str | None:
    """The commit, with "-dirty" if files differ from it; None outside a checkout or without git."""
    commit = _output("git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD")
    changed = _output("git", "--no-optional-locks", "-C", str(ROOT), "status", "--porcelain")
    return f"{commit}-dirty" if commit and changed else commit or None


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
