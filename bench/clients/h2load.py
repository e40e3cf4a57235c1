"""h2load, of nghttp2, as the load generator, with HTTP/1.1: a fourth opinion, written in C. `--generator h2load`.

What to know of its figures: a closed loop, as all here; the only one of these that writes down every request, so that
percentiles are exact. A request's clock starts when it is written. Requests that are not answered when its time is over
are in no figure: clients that get no answer at all are not seen, except by X·R; nor are connections that cannot be made
at the start. With `Connection: close` it has been seen never to end, so it is for keep-alive only.
"""

from __future__ import annotations

import math
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from bench.clients.foreign import timed
from bench.clients.result import Result, percentile

__all__ = ["MISSING", "installed", "measure", "parse"]

MISSING = ("h2load is not installed. Debian has it: apt install nghttp2-client. Or leave out --generator h2load: the "
           "generator that comes with this will do.")


def installed() -> bool:
    return shutil.which("h2load") is not None


def measure(port: int, connections: int, keep_alive: bool, *, warmup: float, duration: float, timeout: float,
            watch: int, core: int | None, meanwhile: Callable[[], None]) -> Result:
    """As `bench.clients.load.measure`, by h2load on `core`; `warmup` and `duration` are rounded up to whole seconds.

    ValueError without keep-alive.
    """
    if not keep_alive:
        raise ValueError("h2load never ends where each connection has one request: choose another --generator, or "
                         "--keep-alive on")
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "requests")
        command = ["h2load", "--h1", "-t1", "-c", str(connections), "-N", f"{math.ceil(timeout)}s"]
        url = f"http://127.0.0.1:{port}/"
        if warmup:
            timed([*command, "-D", str(math.ceil(warmup)), url], math.ceil(warmup), watch=watch, core=core,
                  meanwhile=meanwhile)
        ran = timed([*command, "-D", str(math.ceil(duration)), f"--log-file={log}", url], math.ceil(duration),
                    watch=watch, core=core, meanwhile=meanwhile)
        return parse(ran.text, log.read_text(), ran.generator_share, ran.server_cpu)


def parse(text: str, log: str, generator_share: float, server_cpu: float | None) -> Result:
    """What h2load printed and logged, as a Result. ValueError if it is not what h2load prints.

    A line of the log is: when it was sent, in microseconds since 1970; the status, or -1; microseconds that it took.
    """
    took = re.search(r"finished in ([\d.]+)(us|ms|s)", text)
    counts = re.search(r"requests: .* (\d+) errored, (\d+) timeout", text)
    if took is None or counts is None:
        raise ValueError(f"not what h2load prints: {text.strip()[-200:]!r}")
    statuses: Counter[str] = Counter()
    latencies = []
    for line in log.splitlines():
        _, status, microseconds = line.split("\t")
        statuses[status] += 1
        if status.startswith("2"):
            latencies.append(int(microseconds) / 1e3)
    latencies.sort()
    errored, timeout = int(counts[1]), int(counts[2])  # the one contains the other
    errors = {"errored": errored - timeout, "timeout": timeout}
    return Result(
        seconds=float(took[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[took[2]],
        ok=len(latencies),
        non_2xx={status: count for status, count in statuses.items() if status[0] not in "2-"},
        errors={kind: count for kind, count in errors.items() if count},
        starved=None,
        answers=[],
        mean_ms=sum(latencies) / len(latencies) if latencies else 0.0,
        p50_ms=percentile(latencies, 50),
        p99_ms=percentile(latencies, 99),
        max_ms=percentile(latencies, 100),
        generator_share=generator_share,
        server_cpu=server_cpu,
    )
