"""A load that steps: few clients, then many, then the few again; each asks again as soon as it is answered.

    python -m bench.clients.steps --port 8080 --low 10 --high 400 --phase 3        one line of JSON

It is `bench.clients.load` with clients that come and go. Those that come all connect at once; those that go do so when
they have been answered, as a client does that has what it wanted, and not in the middle of a request.

A client that is refused (answered with another status than 2xx) asks again after a tenth of a second, on average. Did
it ask again at once, it would be refusals that are measured: a server can answer thousands of them in a second.

Printed: {"phases": [{"clients", "began", "ended", "first_p99_ms", "load": see bench.clients.result}, ...],
"series": {"t", "ok", "p99_ms", "asking"}}, with times by the clock that all processes share (CLOCK_MONOTONIC), in
seconds. first_p99_ms is p99 of the phase's first second. The series has one point for each tenth of a second: 2xx
responses that came in it, p99 of these (null if there were none), and at its end the clients that have asked and were
not answered yet, those included that go when they are.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from dataclasses import asdict
from typing import Any

from bench.clients.load import Load, _Client
from bench.clients.result import percentile
from bench.processes import cpu_seconds, tree

__all__ = ["FIRST", "SLICE", "StepLoad", "measure_step"]

SLICE = 0.1
"""Seconds that a point of the series stands for."""
FIRST = 1.0
"""Seconds of a phase that are looked at by themselves."""
_REFUSED = 0.1
"""Seconds after which a client that was refused asks again, on average."""


class StepLoad(Load):
    """As `Load`, but of its `most` clients only as many take part as `become` has said last; at first none."""

    def __init__(self, port: int, most: int, keep_alive: bool, timeout: float = 10.0) -> None:
        self._here: set[_Client] = set()
        """Who takes part. Others ask nothing more."""
        self._others: dict[_Client, int] = {}
        """How many responses other than 2xx each had had at its last one."""
        super().__init__(port, most, keep_alive, timeout, pause=_REFUSED)
        self._everybody = self._clients
        self._clients = []
        self._resting.clear()

    def become(self, count: int) -> None:
        """Let `count` clients take part from now on: those that are new come at once, the others go when answered."""
        before, self._clients = len(self._clients), self._everybody[:count]
        self._here = set(self._clients)
        self._resting.extendleft((0.0, client) for client in self._clients[before:] if not client.thinks)

    def forget(self) -> None:
        super().forget()
        self._others.clear()

    def asking(self) -> int:
        """Clients that wait for an answer, those that go included."""
        return sum(client.connected and not client.thinks and not client.answered for client in self._everybody)

    def answered(self) -> int:
        """2xx responses since `forget`."""
        return len(self._latencies)

    def p99_ms(self, since: int = 0) -> float | None:
        """Of the 2xx responses after the first `since`; None if there are none."""
        latencies = sorted(self._latencies[since:])
        return round(1e3 * percentile(latencies, 99), 2) if latencies else None

    # What `Load` does with a client that has been answered: with a pause, it thinks.

    def _think(self, client: _Client) -> None:
        refused = client.others > self._others.get(client, 0)
        self._others[client] = client.others
        if refused:
            super()._think(client)
        else:
            self._ask(client)

    def _ask(self, client: _Client) -> None:
        if client in self._here:
            super()._ask(client)
            return
        client.thinks = False
        if client.connected:
            self._close(client)

    def _connect(self, client: _Client) -> None:
        if client in self._here and not client.connected:
            super()._connect(client)


def measure_step(port: int, low: int, high: int, keep_alive: bool, *, warmup: float, phase: float,
                 timeout: float = 10.0, watch: int | None = None) -> dict[str, Any]:
    """`low` clients for `warmup` seconds, which do not count; then three phases: low, high, low. As it is printed.

    watch: the process whose CPU time is taken in each phase, with that of all it has forked.
    """
    watched = [] if watch is None else tree(watch)
    phases: list[dict[str, Any]] = []
    series: dict[str, list[Any]] = {"t": [], "ok": [], "p99_ms": [], "asking": []}
    with StepLoad(port, max(low, high), keep_alive, timeout) as load:
        load.become(low)
        load.run(warmup)
        for clients in (low, high, low):
            load.forget()
            began, own, server = time.perf_counter(), time.process_time(), cpu_seconds(watched)
            now, first_p99_ms = began, None
            load.become(clients)
            while (left := began + phase - now) > SLICE / 100:
                before = load.answered()
                load.run(min(SLICE, left))
                now = time.perf_counter()
                series["t"].append(round(now, 4))
                series["ok"].append(load.answered() - before)
                series["p99_ms"].append(load.p99_ms(before))
                series["asking"].append(load.asking())
                if now < began + FIRST + SLICE / 2:
                    first_p99_ms = load.p99_ms()
            own, server = time.process_time() - own, cpu_seconds(watched) - server
            result = load.result(now - began, own, server if watched else None)
            phases.append({"clients": clients, "began": began, "ended": now, "first_p99_ms": first_p99_ms,
                           "load": asdict(result)})
    return {"phases": phases, "series": series}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.clients.steps",
                                     description="HTTP load on 127.0.0.1 that steps up and down; prints JSON.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--low", type=int, default=10, help="clients before and after the step")
    parser.add_argument("--high", type=int, default=400, help="clients in it")
    parser.add_argument("--no-keep-alive", action="store_true", help="a new connection for each request")
    parser.add_argument("--warmup", type=float, default=0.3, help="seconds that do not count")
    parser.add_argument("--phase", type=float, default=3.0, help="seconds of each of the three phases")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds a client waits for one response")
    parser.add_argument("--watch", type=int, metavar="PID", help="a process whose CPU time to take")
    options = parser.parse_args()
    gc.disable()  # nothing here makes cycles, and a collection would look like a slow server
    print(json.dumps(measure_step(options.port, options.low, options.high, not options.no_keep_alive,
                                  warmup=options.warmup, phase=options.phase, timeout=options.timeout,
                                  watch=options.watch)))


if __name__ == "__main__":
    main()
