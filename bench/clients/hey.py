"""hey as the load generator: a third opinion, written in Go. `--generator hey`.

What to know of its figures: a closed loop, as all here; times come in steps of 0.1 ms, so that a p50 of 0.2 ms may be
0.15 or 0.25; latencies are of all responses, whatever their status; a request's clock includes the time to connect. It
costs two to three times as much CPU for a request as wrk, so it is often hey that is measured: see generator-bound. It
does not tell which connection got what.
"""

from __future__ import annotations

import math
import re
import shutil
from collections import Counter
from collections.abc import Callable

from bench.clients.foreign import timed
from bench.clients.result import Result

__all__ = ["MISSING", "installed", "measure", "parse"]

MISSING = ("hey is not installed. Debian has it: apt install hey. Or leave out --generator hey: the generator that "
           "comes with this will do.")

_KINDS = (("connection refused", "connect"), ("deadline exceeded", "timeout"), ("Client.Timeout", "timeout"),
          ("reset", "reset"), ("EOF", "closed early"), ("cannot assign requested address", "no local port"))


def installed() -> bool:
    return shutil.which("hey") is not None


def measure(port: int, connections: int, keep_alive: bool, *, warmup: float, duration: float, timeout: float,
            watch: int, core: int | None, meanwhile: Callable[[], None]) -> Result:
    """As `bench.clients.load.measure`, by hey on `core`. It ends when the last request has been answered, or given up
    after
    `timeout` seconds, rounded up to whole ones."""
    command = ["hey", "-c", str(connections), "-t", str(math.ceil(timeout)), "-cpus", "1",
               *([] if keep_alive else ["-disable-keepalive"])]
    url = f"http://127.0.0.1:{port}/"
    longest = duration + timeout
    if warmup:
        timed([*command, "-z", f"{warmup:g}s", url], warmup + timeout, watch=watch, core=core, meanwhile=meanwhile)
    ran = timed([*command, "-z", f"{duration:g}s", url], longest, watch=watch, core=core, meanwhile=meanwhile)
    return parse(ran.text, ran.generator_share, ran.server_cpu)


def parse(text: str, generator_share: float, server_cpu: float | None) -> Result:
    """What hey printed, as a Result. ValueError if it is not what hey prints."""
    took = re.search(r"Total:\s+([\d.]+) secs", text)
    if took is None or "Status code distribution" not in text:
        raise ValueError(f"not what hey prints: {text.strip()[-200:]!r}")
    statuses = {status: int(count) for status, count in re.findall(r"^\s+\[(\d+)\]\s+(\d+) responses$", text, re.M)}
    errors: Counter[str] = Counter()
    for count, what in re.findall(r"^\s+\[(\d+)\]\s+(?!\d+ responses$)(\S.*)$", text.partition("Error distribution")[2],
                                  re.M):
        errors[next((kind for sign, kind in _KINDS if sign in what), "other")] += int(count)
    return Result(
        seconds=float(took[1]),
        ok=sum(count for status, count in statuses.items() if status.startswith("2")),
        non_2xx={status: count for status, count in statuses.items() if not status.startswith("2")},
        errors=dict(errors),
        starved=None,
        answers=[],
        mean_ms=_ms(text, r"Average:\s+([\d.]+) secs"),
        p50_ms=_ms(text, r"50% in ([\d.]+) secs"),
        p99_ms=_ms(text, r"99% in ([\d.]+) secs"),
        max_ms=_ms(text, r"Slowest:\s+([\d.]+) secs"),
        generator_share=generator_share,
        server_cpu=server_cpu,
    )


def _ms(text: str, pattern: str) -> float:
    """0.0 if there is none: hey says NaN, or nothing, of too few responses."""
    found = re.search(pattern, text)
    return 1e3 * float(found[1]) if found else 0.0
