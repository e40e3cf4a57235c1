"""`bench scale cores`: a handler that computes for 1 ms, in Python, in one process and in two, on all cores.

16 clients. Server and load share the cores here. The load needs little, some 3 % of a core for what one process
answers; what it has had is said, for the server cannot have that. With keep-alive and without it, because a connection
stays with the process that has accepted it: with it, processes may have shares of different size.
"""

from __future__ import annotations

import random
from dataclasses import asdict
from statistics import median
from typing import Any

from bench.progress import Progress
from bench.studies.scale.trial import Finding, Load, Options, Report, measure, serving, step
from bench.table import grid

__all__ = ["run", "steps"]

_THREADS, _CLIENTS, _SPIN_MS = 8, 16, 1.0
_CASES: dict[str, tuple[str, list[str]]] = {
    "recycling-park": ("recycling-park", []),
    "prefork, 1 process": ("prefork", ["--processes", "1"]),
    "prefork, 2 processes": ("prefork", ["--processes", "2"]),
}
_LEAST = 1.7


def steps(options: Options) -> int:
    return 2 * len(_CASES) * options.rounds


def run(options: Options, progress: Progress) -> Report:
    cells = [(name, keep_alive) for name in _CASES for keep_alive in (True, False)]
    runs = [_one(name, keep_alive, options, progress) for _ in range(options.rounds)
            for name, keep_alive in random.sample(cells, len(cells))]
    rate: dict[tuple[str, bool], float] = {}
    rows = [("server", "keep-alive", "ok/s", "(low–high)", "p50 ms", "p99 ms", "cores used", "of the load", "", "")]
    for name, keep_alive in cells:
        mine = [one for one in runs if (one["name"], one["keep_alive"]) == (name, keep_alive)]
        rates = [one["ok"] / one["seconds"] for one in mine]
        rate[name, keep_alive] = median(rates)
        rows.append((name, "on" if keep_alive else "off", f"{median(rates):,.0f}",
                     f"({min(rates):,.0f}–{max(rates):,.0f})", f"{median(one['p50_ms'] for one in mine):.1f}",
                     f"{median(one['p99_ms'] for one in mine):.1f}",
                     f"{median(one['server_cpu'] / one['seconds'] for one in mine):.2f}",
                     f"{median(one['generator_share'] for one in mine):.2f}", "", ""))
    findings = []
    for keep_alive in (True, False):
        one, two = rate["prefork, 1 process", keep_alive], rate["prefork, 2 processes", keep_alive]
        findings.append(Finding(two >= _LEAST * one, f"keep-alive {'on' if keep_alive else 'off'}: two processes "
                                f"answer at least {_LEAST} x what one does", f"{two:,.0f} against {one:,.0f} a second, "
                                f"{two / one:.2f} x"))
    notes = [("Cores used: the CPU time of all of the server's processes, over the time that passed; 2 is all there is "
              "on two cores, and the load's is to be taken from it.")]
    return Report(grid(rows), findings, notes, runs)


def _one(name: str, keep_alive: bool, options: Options, progress: Progress) -> dict[str, Any]:
    model, arguments = _CASES[name]
    with (step(progress, f"{name}, keep-alive {'on' if keep_alive else 'off'}") as outcome,
          serving(model, _THREADS, "--spin", str(_SPIN_MS), *arguments, pinned=False) as server):
        [load] = measure(server, [Load(_CLIENTS, keep_alive)], options.seconds)
        outcome.append(f"{load.ok / load.seconds:,.0f} a second")
        return {"name": name, "keep_alive": keep_alive, **asdict(load)}
