"""The load generators that make a closed loop, by their names on the command line: ours, and others as second opinions.

    builtin  bench.clients.load: fair to all of its clients, tells which of them starved; costs 20 to 100 us a request
    wrk          cheap, so for throughput; corrects its latencies upwards, whole seconds only
    hey          with the time to connect in its latencies; 0.1 ms is its least step
    h2load       every latency written down; keep-alive only
    autocannon   latencies in whole milliseconds; keep-alive only

What each one's figures mean and hide is said in its module. In a closed loop a client that waits asks nothing: so a
server that stalls looks better than it is, in all five. `bench.clients.probe` is the open loop.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Protocol

from bench.children import running
from bench.clients import autocannon, h2load, hey, wrk
from bench.clients.result import Result

__all__ = ["GENERATORS", "Measure", "generator_named", "missing"]


class Measure(Protocol):
    """Load 127.0.0.1:`port` with a closed loop of `connections` clients, from a process on `core` (None: anywhere).

    warmup, duration: seconds that do not count, and that do. timeout: seconds that a client waits for a response.
    watch: the server's process, whose CPU time is taken. meanwhile: called about 20 times a second.

    Blocks until the load is over. ChildError, ValueError, OSError if there are no figures.
    """

    def __call__(self, port: int, connections: int, keep_alive: bool, *, warmup: float, duration: float,
                 timeout: float, watch: int, core: int | None, meanwhile: Callable[[], None]) -> Result: ...


class _Tool(Protocol):
    """A module that runs a program of others."""

    MISSING: str
    measure: Measure

    def installed(self) -> bool: ...


def _builtin(port: int, connections: int, keep_alive: bool, *, warmup: float, duration: float, timeout: float,
             watch: int, core: int | None, meanwhile: Callable[[], None]) -> Result:
    with running(["bench.clients.load", "--port", str(port), "--connections", str(connections), "--warmup", str(warmup),
                  "--duration", str(duration), "--timeout", str(timeout), "--watch", str(watch),
                  *([] if keep_alive else ["--no-keep-alive"])], core) as child:
        return Result(**json.loads(child.line(warmup + duration + 20, meanwhile)))


_TOOLS: Mapping[str, _Tool] = {"wrk": wrk, "hey": hey, "h2load": h2load, "autocannon": autocannon}
GENERATORS = ("builtin", *_TOOLS)


def missing(name: str) -> str:
    """Why the generator `name` cannot be used, and the fix; empty if it can. ValueError if there is none."""
    if name not in GENERATORS:
        raise ValueError(f"there is no generator {name!r}: choose from {', '.join(GENERATORS)}")
    return "" if name == "builtin" or _TOOLS[name].installed() else _TOOLS[name].MISSING


def generator_named(name: str) -> Measure:
    """The generator called `name`. ValueError, with the fix, if there is none, or it is not installed."""
    if why := missing(name):
        raise ValueError(why)
    return _builtin if name == "builtin" else _TOOLS[name].measure
