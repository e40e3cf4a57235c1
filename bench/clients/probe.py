"""An open loop: a schedule says when each request is due, whether or not earlier ones have been answered.

    python -m bench.clients.probe --port 8080 --rate 200 --duration 5        one line of JSON: see `Probed`
    python -m bench.clients.probe --port 8080 --rate 200 --duration 5 --new-connection --arrivals even

Clients of a server do not know of each other, and do not wait until it has caught up. In a closed loop
(bench.clients.load) they do: while the server stalls, nobody asks, and one slow answer stands for the many that would
have been slow ("coordinated omission": Gil Tene, "How not to measure latency"; Schroeder, Wierman and Harchol-Balter,
"Open versus closed: a cautionary tale", NSDI 2006). So latency runs here from the moment at which a request was due to
the last byte of its response. What the probe itself was late by is part of that, and told apart.

Arrivals are random (Poisson, as those of many clients who do not know of each other are), or evenly spaced. The same
seed makes the same schedule. It is a process of its own, so that it does not share the server's GIL; standard library
only, but for the percentiles. `bench.clients.probe_loop` is how it keeps to its schedule.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import random
import sys
import time
from array import array
from bisect import bisect_left
from dataclasses import asdict, dataclass

from bench.clients.histogram import MISSING, Histogram
from bench.clients.probe_loop import Loop
from bench.processes import cpu_seconds, raise_open_files, tree

__all__ = ["Probed", "probe", "schedule"]

_PR_SET_TIMERSLACK = 29
"""prctl(2): how many nanoseconds longer than asked for the kernel may let this thread sleep; 50,000 by default."""
_LEAD = 0.02
"""Seconds from now to the start of the schedule."""


@dataclass
class Probed:
    """What came of the requests that were due after the warm-up, whenever they were answered. Latencies are those of
    `ok`, in ms: see `Histogram.summary`."""

    seconds: float
    """In which they were due."""
    scheduled: int
    sent: int
    """Fewer than scheduled: there was no connection to send them on."""
    ok: int
    """Complete responses with a 2xx status."""
    non_2xx: dict[str, int]
    """Complete responses with another status, by status."""
    errors: dict[str, int]
    """Requests without a response, by kind: no connection free, no local port, connect, reset, closed early, timeout,
    malformed."""
    unanswered: int
    """Still waiting when the probe ended."""
    connections: int
    """The most that were open at once."""
    latency_ms: dict[str, float]
    """From when it was due to the last byte."""
    from_send_ms: dict[str, float]
    """From when it was sent: without what the probe was late by."""
    late_ms: dict[str, float]
    """From when it was due until it was sent: the probe's own error. Of all that were sent."""
    curve: list[list[float]]
    """[ms, per cent], of latency from when it was due: see `Histogram.curve`."""
    generator_share: float
    """CPU time that the probe needed over the time that passed, without what it spent looking at the clock."""
    server_cpu: float | None
    """CPU seconds of the watched process and its children, from the end of the warm-up to the last answer."""


def schedule(rate: float, seconds: float, arrivals: str = "poisson", seed: int = 0) -> array[float]:
    """When requests are due, in seconds from the start, ascending: `rate` of them a second, exactly or on average."""
    if arrivals == "even":
        return array("d", (number / rate for number in range(round(seconds * rate))))
    due = array("d")
    chance = random.Random(seed)
    at = chance.expovariate(rate)
    while at < seconds:
        due.append(at)
        at += chance.expovariate(rate)
    return due


def probe(port: int, rate: float, *, warmup: float, duration: float, arrivals: str = "poisson", seed: int = 0,
          path: str = "/", new_connection: bool = False, connections: int = 2000, timeout: float = 10.0,
          drain: float = 2.0, watch: int | None = None) -> Probed:
    """Ask 127.0.0.1:`port` `rate` times a second; those that are due in the first `warmup` seconds do not count.

    new_connection: for each request; else as many as are needed at once. connections: no more than these.
    timeout: seconds from when a request was due after which it is given up.
    drain: seconds that may pass at the end until all are answered.
    watch: the process whose CPU time is taken, and that of all it has forked.

    Blocks for all that time. ImportError without hdrhistogram.
    """
    watched = [] if watch is None else tree(watch)
    due = schedule(rate, warmup + duration, arrivals, seed)
    first = bisect_left(due, warmup)
    with Loop(port, path, new_connection, connections, timeout) as loop:
        start = time.perf_counter() + _LEAD
        loop.run(start, due[:first])
        loop.count()
        began, own, idle, server = time.perf_counter(), time.process_time(), loop.spun_s, cpu_seconds(watched)
        loop.run(start, due[first:])
        passed = time.perf_counter() - began
        own, idle = time.process_time() - own, loop.spun_s - idle
        loop.drain(drain)
        server = cpu_seconds(watched) - server
        latencies = Histogram(loop.latencies_ms)
        return Probed(
            seconds=duration,
            scheduled=loop.scheduled,
            sent=len(loop.late_ms),
            ok=len(latencies),
            non_2xx=dict(loop.non_2xx),
            errors=dict(loop.errors),
            unanswered=loop.waiting(),
            connections=loop.most_open,
            latency_ms=latencies.summary(),
            from_send_ms=Histogram(loop.from_send_ms).summary(),
            late_ms=Histogram(loop.late_ms).summary(),
            curve=latencies.curve(),
            generator_share=max(0.0, own - idle) / passed if passed else 0.0,
            server_cpu=server if watched else None,
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.clients.probe",
                                     description="HTTP load on 127.0.0.1 at a rate of "
                                     "its own (an open loop); prints JSON.")
    add = parser.add_argument
    add("--port", type=int, required=True)
    add("--rate", type=_positive, required=True, metavar="R", help="requests a second")
    add("--duration", type=_positive, default=2.0, metavar="S", help="seconds that count (default: 2)")
    add("--warmup", type=float, default=0.3, metavar="S", help="seconds before, that do not (default: 0.3)")
    add("--arrivals", choices=("poisson", "even"), default="poisson", help="at random (the default), or evenly spaced")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--new-connection", action="store_true", help="for each request")
    how.add_argument("--connections", type=int, default=2000, metavar="N",
                     help="at most so many, which are kept and used again (default: 2000)")
    add("--path", default="/")
    add("--seed", type=int, default=0, metavar="N", help="of random arrivals: the same one, the same schedule")
    add("--timeout", type=_positive, default=10.0, metavar="S", help="seconds after which a request is given up")
    add("--drain", type=float, default=2.0, metavar="S", help="seconds to wait at the end for what is not answered")
    add("--watch", type=int, metavar="PID", help="a process whose CPU time to take")
    options = parser.parse_args()
    try:
        Histogram(())
    except ImportError:
        sys.exit(MISSING)
    raise_open_files(options.connections)
    # Else sleeping would take 50 us longer than it should. It may fail, on other systems; then the probe is that late.
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    gc.disable()  # nothing here makes cycles, and a collection would look like a slow server
    result = probe(options.port, options.rate, warmup=options.warmup, duration=options.duration,
                   arrivals=options.arrivals, seed=options.seed, path=options.path,
                   new_connection=options.new_connection, connections=options.connections, timeout=options.timeout,
                   drain=options.drain, watch=options.watch)
    print(json.dumps(asdict(result)))


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: give a number above 0")
    return value


if __name__ == "__main__":
    main()
