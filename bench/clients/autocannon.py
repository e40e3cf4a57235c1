"""autocannon as the load generator, written for Node.js. `--generator autocannon`.

What to know of its figures: a closed loop, as all here; latencies are whole milliseconds, rounded down, so those below
some 10 ms say little, and X·R is too low; it costs more CPU for a request than wrk or ours. For keep-alive only: told
to reconnect after each request (-D 1) it counted no response, and with `Connection: close` it asks twice.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable

from bench.clients.foreign import timed
from bench.clients.result import Result

__all__ = ["MISSING", "installed", "measure", "parse"]

MISSING = ("autocannon is not installed. npm has it: npm install --global autocannon. Or leave out --generator "
           "autocannon: the generator that comes with this will do.")


def installed() -> bool:
    return shutil.which("autocannon") is not None


def measure(port: int, connections: int, keep_alive: bool, *, warmup: float, duration: float, timeout: float,
            watch: int, core: int | None, meanwhile: Callable[[], None]) -> Result:
    """As `bench.clients.load.measure`, by autocannon on `core`; `warmup` and `duration` are rounded up to whole
    seconds.

    ValueError without keep-alive.
    """
    if not keep_alive:
        raise ValueError("autocannon does not do without keep-alive: choose another --generator, or --keep-alive on")
    command = ["autocannon", "--json", "--no-progress", "-c", str(connections), "-t", str(math.ceil(timeout))]
    url = f"http://127.0.0.1:{port}/"
    if warmup:
        timed([*command, "-d", str(math.ceil(warmup)), url], math.ceil(warmup), watch=watch, core=core,
              meanwhile=meanwhile)
    ran = timed([*command, "-d", str(math.ceil(duration)), url], math.ceil(duration), watch=watch, core=core,
                meanwhile=meanwhile)
    return parse(ran.text, ran.generator_share, ran.server_cpu)


def parse(text: str, generator_share: float, server_cpu: float | None) -> Result:
    """What autocannon printed, as a Result. ValueError if it is not what autocannon prints."""
    try:
        said = json.loads(text)
        statuses = {status: each["count"] for status, each in said["statusCodeStats"].items()}
        latency, timeouts = said["latency"], said["timeouts"]
        errors = {"errored": said["errors"] - timeouts, "timeout": timeouts}  # the one contains the other
        return Result(
            seconds=said["duration"],
            ok=said["2xx"],
            non_2xx={status: count for status, count in statuses.items() if not status.startswith("2")},
            errors={kind: count for kind, count in errors.items() if count},
            starved=None,
            answers=[],
            mean_ms=latency["mean"],
            p50_ms=latency["p50"],
            p99_ms=latency["p99"],
            max_ms=latency["max"],
            generator_share=generator_share,
            server_cpu=server_cpu,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not what autocannon prints: {text.strip()[-200:]!r}") from error
