"""One run of `bench threads`: a fresh server on one core, a load on the other; and the system calls, counted."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bench import machine
from bench.children import Child, ChildError, cores, running
from bench.clients import load, wrk
from bench.clients.flood import Flooded
from bench.processes import cpu_seconds, serving_threads, tree
from bench.studies.threads.plan import LOADS, Load

__all__ = ["Run", "counted_calls", "run_once", "system_calls"]

_WARMUP = 0.2
"""Seconds, of our own generator, because wrk takes whole ones only."""
_TRACED = 1.0
"""Seconds of load while system calls are counted, which makes them many times slower."""


@dataclass
class Run:
    """What happened once. Each figure but the rate is for each 2xx response."""

    arguments: tuple[str, ...]
    """Of bench.server, but for the handler."""
    load: str
    round: int
    rate: float = 0.0
    """2xx responses a second."""
    cpu_us: float = 0.0
    """Of the server, user and system."""
    switches: float = 0.0
    """Voluntary context switches: a thread has gone to sleep, to wait for something."""
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    little: float = 0.0
    """Rate times mean latency: how many of the connections were in service."""
    threads: int = 0
    """Of the model, the most that were seen."""
    served: int | None = None
    """Clients that got an answer at all. None: wrk cannot tell."""
    generator_share: float = 0.0
    """Of its core, that wrk used: near 1, it is wrk that was measured."""
    problems: dict[str, int] = field(default_factory=dict)
    """Errors and responses other than 2xx, by kind."""
    others: float = 0.0
    """Share of the server's core that others had."""
    failed: str = ""
    """Why there are no figures."""


def run_once(arguments: Sequence[str], name: str, number: int, seconds: float) -> Run:
    """Run bench.server with `arguments` under the load called `name`, for `seconds`. What goes wrong is a Run with
    `failed`. All processes have ended by then; a wrk that hangs is ended 15 seconds after it should have."""
    run, what = Run(tuple(arguments), name, number), LOADS[name]
    server_core, load_core = cores()
    with running(["bench.server", *arguments, *what.arguments], server_core) as server:
        try:
            port, pids = int(server.line(timeout=30)), tree(server.pid)
            load.measure(port, what.connections, what.keep_alive, warmup=0.0, duration=_WARMUP)
            before, noise = _state(server), machine.Noise(server_core, pids)
            if what.pipelined:
                answers, cpu = _flood(run, what, port, pids, seconds, load_core)
            else:
                answers, cpu = _wrk(run, what, port, pids, seconds, load_core)
            run.others = noise.share()
            after = _state(server)
            run.cpu_us = 1e6 * cpu / max(1, answers)
            run.switches = (after["voluntary"] - before["voluntary"]) / max(1, answers)
            run.threads = max(run.threads, sum(after["threads"].values()))
            if not answers:
                run.failed = "no answer at all"
        except (ChildError, OSError, ValueError) as error:
            said = server.complaint()
            run.failed = str(error) if said in str(error) else f"{error}; the server said{said}"
        server.close_input()
    return run


def _wrk(run: Run, what: Load, port: int, pids: Sequence[int], seconds: float, core: int | None
         ) -> tuple[int, float]:
    """Answers, and CPU seconds of the server."""
    def look() -> None:
        run.threads = max(run.threads, serving_threads(pids))

    found = wrk.measure(port, what.connections, what.keep_alive, warmup=0.0, duration=seconds, timeout=5.0,
                        watch=pids[0], core=core, meanwhile=look)
    run.rate, run.p50_ms, run.p99_ms = found.ok / found.seconds, found.p50_ms, found.p99_ms
    run.little, run.generator_share = run.rate * found.mean_ms / 1e3, found.generator_share
    run.problems = found.errors | found.non_2xx
    return found.ok, found.server_cpu or 0.0


def _flood(run: Run, what: Load, port: int, pids: Sequence[int], seconds: float, core: int | None
           ) -> tuple[int, float]:
    before = cpu_seconds(pids)
    with running(["bench.clients.flood", "--port", str(port), "--connections", str(what.connections), "--warmup", "0",
                  "--duration", str(seconds)], core) as child:
        found = Flooded(**json.loads(child.line(seconds + 30)))
    answers = sum(found.answers)
    run.rate, run.served = answers / found.seconds, sum(count > 0 for count in found.answers)
    run.problems = {"closed early": found.errors} if found.errors else {}
    return answers, cpu_seconds(pids) - before


def _state(server: Child) -> dict[str, Any]:
    server.tell("state")
    state: dict[str, Any] = json.loads(server.line(timeout=30))
    return state


def system_calls(arguments: Sequence[str], name: str) -> dict[str, float]:
    """System calls of the server for each connection, by name, as strace(1) counts them in two runs, with clients and
    without: the difference is theirs. ChildError or OSError if it cannot be had."""
    totals, accepted, what = [], 0, LOADS[name]
    for with_clients in (True, False):
        # It writes into our pipe, opened by its name: so the pipe closes when strace has ended, not just the server.
        with running(["strace", "-f", "-c", "-o", "/dev/stdout", sys.executable, "-m", "bench.server", *arguments,
                      *what.arguments], cores()[0]) as server:
            port = int(server.line(timeout=60))
            if with_clients:
                load.measure(port, what.connections, what.keep_alive, warmup=0.0, duration=_TRACED)
            server.close_input()
            last = server.line(timeout=60)
            accepted = accepted or json.loads(last)["accepted"]
            totals.append(counted_calls(server.rest(timeout=60)))
    theirs, without = totals
    return {call: (count - without.get(call, 0)) / max(1, accepted) for call, count in theirs.items()}


def counted_calls(text: str) -> dict[str, int]:
    """The table that `strace -c` prints: calls, by name."""
    rows = [line.split() for line in text.splitlines()]
    return {row[-1]: int(row[3]) for row in rows if len(row) >= 5 and row[3].isdigit() and row[-1] != "total"}
