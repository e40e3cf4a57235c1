"""wrk as the load generator instead of ours: a second opinion, written in C. `compare --generator wrk`.

What to know of its figures: it takes whole seconds only; its clock starts when a request is written, so the time to
connect is not in its latencies; it corrects them upwards for pauses it did not see; it counts a timeout only if the
answer comes after all, and 3xx as a success. It does not tell which connection got what, so nobody is seen starving,
except by X·R.
"""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable

from bench.clients.foreign import timed
from bench.clients.result import Result

__all__ = ["MISSING", "installed", "measure", "parse"]

MISSING = ("wrk is not installed. Debian has it: apt install wrk. Or leave out --generator wrk: the generator that "
           "comes with this will do.")

_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 60e3, "h": 3600e3}
_TIME = r"([\d.]+)(us|ms|s|m|h)"


def installed() -> bool:
    return shutil.which("wrk") is not None


def measure(port: int, connections: int, keep_alive: bool, *, warmup: float, duration: float, timeout: float,
            watch: int, core: int | None, meanwhile: Callable[[], None]) -> Result:
    """As `bench.clients.load.measure`, by wrk on `core`; `warmup` and `duration` are rounded up to whole seconds."""
    command = ["wrk", "-t1", f"-c{connections}", "--latency", "--timeout", f"{math.ceil(timeout)}s"]
    if not keep_alive:
        command += ["-H", "Connection: close"]
    url = f"http://127.0.0.1:{port}/"
    if warmup:
        timed([*command, f"-d{math.ceil(warmup)}s", url], math.ceil(warmup), watch=watch, core=core,
              meanwhile=meanwhile)
    ran = timed([*command, f"-d{math.ceil(duration)}s", url], math.ceil(duration), watch=watch, core=core,
                meanwhile=meanwhile)
    return parse(ran.text, ran.generator_share, ran.server_cpu)


def parse(text: str, generator_share: float, server_cpu: float | None) -> Result:
    """What wrk printed, as a Result. ValueError if it is not what wrk prints."""
    ran = re.search(rf"(\d+) requests in {_TIME}", text)
    latency = re.search(rf"Latency\s+{_TIME}\s+{_TIME}\s+{_TIME}", text)
    if ran is None or latency is None:
        raise ValueError(f"not what wrk prints: {text.strip()[-200:]!r}")
    errors = {}
    if failed := re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text):
        kinds = ("connect", "read", "write", "timeout")
        errors = {kind: int(count) for kind, count in zip(kinds, failed.groups(), strict=True) if int(count)}
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    non_2xx = int(bad[1]) if bad else 0
    return Result(
        seconds=_ms(ran[2], ran[3]) / 1e3,
        ok=int(ran[1]) - non_2xx,
        non_2xx={"not 2xx": non_2xx} if non_2xx else {},
        errors=errors,
        starved=None,
        answers=[],
        mean_ms=_ms(latency[1], latency[2]),
        p50_ms=_percentile(text, 50),
        p99_ms=_percentile(text, 99),
        max_ms=_ms(latency[5], latency[6]),
        generator_share=generator_share,
        server_cpu=server_cpu,
    )


def _percentile(text: str, percent: int) -> float:
    found = re.search(rf"^\s+{percent}%\s+{_TIME}", text, re.MULTILINE)
    return _ms(found[1], found[2]) if found else 0.0


def _ms(number: str, unit: str) -> float:
    return float(number) * _UNITS[unit]
