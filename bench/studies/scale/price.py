"""`bench scale price`: what parking costs for each request: context switches, and CPU.

What three mechanisms need for the same work, where each parks its connections, and the first two where they hold them:

    recycling   threads wait in one epoll set for new and parked connections; who gets one serves it
    pool        one thread waits there, and hands each request over to a worker, which has to be woken
    leader  one thread waits there, and before it serves wakes another to wait (bench.studies.scale.leader_followers)

8 and 32 threads; as many clients, each with its connection, so that those who hold can serve all of them; and where
they park also 100 clients on 8 threads. Two loads: 1,500 requests a second, so that all do the same work, with time to
go to sleep in between; and as many as can be answered. Switches are those of all threads (proc(5),
/proc/PID/task/TID/status): voluntary, to wait for something, and involuntary, when the core was taken away.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from bench.progress import Progress
from bench.studies.scale.trial import Finding, Load, Options, Report, measure, serving, step
from bench.table import grid

__all__ = ["run", "steps"]

_MODELS = {"recycling-hold": "recycling-hold", "recycling-park": "recycling-park", "pool-hold": "pool-hold",
           "pool-park": "pool-park", "leader-park": "bench.studies.scale.leader_followers:LeaderFollowersTaskmaster"}
_RATE = 1500


@dataclass(frozen=True)
class _Cell:
    model: str
    threads: int
    clients: int
    full: bool

    def __str__(self) -> str:
        return (f"{self.model}, {self.threads} threads, {self.clients} clients, "
                f"{'full load' if self.full else f'{_RATE:,} a second'}")


_CELLS = [_Cell(model, threads, clients, full) for full in (False, True)
          for threads, clients in ((8, 8), (32, 32), (8, 100)) for model in _MODELS
          if clients == threads or model.endswith("park")]


def steps(options: Options) -> int:
    return len(_CELLS) * options.rounds


def run(options: Options, progress: Progress) -> Report:
    runs = [_one(cell, options, progress) for _ in range(options.rounds)
            for cell in random.sample(_CELLS, len(_CELLS))]
    figures: dict[_Cell, dict[str, float]] = {}
    rows = [("load", "model", "threads", "clients", "ok/s", "CPU us", "(low–high)", "voluntary", "involuntary",
             "p99 ms", "", "")]
    for cell in _CELLS:
        mine = [one for one in runs if one["cell"] == asdict(cell)]
        costs = [one["cpu_us"] for one in mine]
        figures[cell] = {name: median(one[name] for one in mine)
                         for name in ("rate", "cpu_us", "voluntary", "involuntary", "p99_ms")}
        of = figures[cell]
        rows.append(("full" if cell.full else f"{_RATE:,}/s", cell.model, str(cell.threads), str(cell.clients),
                     f"{of['rate']:,.0f}", f"{of['cpu_us']:.0f}", f"({min(costs):.0f}–{max(costs):.0f})",
                     f"{of['voluntary']:.2f}", f"{of['involuntary']:.2f}", f"{of['p99_ms']:.1f}", "", ""))
    findings = []
    for threads, clients in ((8, 8), (32, 32), (8, 100)):
        ours = figures[_Cell("recycling-park", threads, clients, False)]
        for other in ("pool-park", "leader-park"):
            theirs = figures[_Cell(other, threads, clients, False)]
            findings.append(Finding(
                ours["voluntary"] < theirs["voluntary"] and ours["cpu_us"] < theirs["cpu_us"],
                f"{threads} threads, {clients} clients: recycling parks with fewer switches and less CPU than {other}",
                f"{ours['voluntary']:.2f} against {theirs['voluntary']:.2f} voluntary switches for a request, "
                f"{ours['cpu_us']:.0f} against {theirs['cpu_us']:.0f} us"))
        if clients == threads:
            held = figures[_Cell("recycling-hold", threads, clients, False)]
            findings.append(Finding(
                ours["cpu_us"] <= 1.5 * held["cpu_us"],
                f"{threads} threads: parking costs recycling at most half as much CPU again as holding",
                f"{ours['cpu_us']:.0f} against {held['cpu_us']:.0f} us for a request, "
                f"{ours['cpu_us'] / held['cpu_us']:.2f} x"))
    crowded = {model: figures[_Cell(model, 32, 32, True)]["p99_ms"] for model in _MODELS}
    notes = ["Switches are those for each request.",
             ("The slowest answers at full load, where 32 threads wait for nothing but the GIL: p99 "
              + ", ".join(f"{model} {p99:.0f} ms" for model, p99 in crowded.items()) + ". A thread that has been woken "
              "with a connection in its hands waits there behind others, up to sys.getswitchinterval() for each.")]
    return Report(grid(rows), findings, notes, runs)


def _one(cell: _Cell, options: Options, progress: Progress) -> dict[str, Any]:
    load = Load(cell.clients, pause_ms=0.0 if cell.full else 1e3 * cell.clients / _RATE)
    with step(progress, str(cell)) as outcome, serving(_MODELS[cell.model], cell.threads) as server:
        measure(server, [Load(cell.clients)], 0.2)
        before = server.usage
        [result] = measure(server, [load], options.seconds, warmup=0.0)  # so that what is used is for what is counted
        used, answers = server.usage - before, max(1, result.ok)
        outcome.append(f"{1e6 * used.cpu / answers:.0f} us, {used.voluntary / answers:.2f} voluntary switches")
        return {"cell": asdict(cell), "rate": result.ok / result.seconds, "cpu_us": 1e6 * used.cpu / answers,
                "voluntary": used.voluntary / answers, "involuntary": used.involuntary / answers,
                "p99_ms": result.p99_ms, "starved": result.starved, "errors": result.errors}
