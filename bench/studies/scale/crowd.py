"""`bench scale crowd`: do idle connections cost those that are active anything, and how much memory does each take?

100 active clients, 8 threads, and beside them nobody, or 10,000 clients that have been answered once and are idle. Two
loads: all that the server can do, where most of an answer's time is waiting for the other 99; and half of that, where
hardly anybody waits, so that a pause of the server is seen. Rounds are interleaved and shuffled, each run has a server
of its own.

Memory: what the server's process has in RAM with the crowd, less what it had without; and in a run of its own, because
it makes everything slow, what Python has allocated, by tracemalloc. The kernel's memory for a socket, which is no
process's, is in neither.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from statistics import median
from typing import Any

from bench.children import Child, cores, running
from bench.progress import Progress
from bench.studies.scale.trial import Finding, Load, Options, Report, Server, measure, serving, step
from bench.table import grid

__all__ = ["MODELS", "run", "steps"]

MODELS = ("recycling-park", "pool-park")
_THREADS, _ACTIVE = 8, 100
_MOST_SLOWER = 2.0
_MOST_MEMORY = 6 * 1024
_PATIENCE = 300.0


def steps(options: Options) -> int:
    return len(MODELS) * (2 + 2 * options.rounds)


def run(options: Options, progress: Progress) -> Report:
    half = {model: _half(model, options, progress) for model in MODELS}
    plan = [(model, idle) for _ in range(options.rounds)
            for model, idle in random.sample([(model, idle) for model in MODELS for idle in (0, options.idle)],
                                             2 * len(MODELS))]
    runs = [_one(model, idle, half[model], options, progress) for model, idle in plan]
    allocated = {model: _allocated(model, options, progress) for model in MODELS}
    rows: list[tuple[str, ...]] = [
        ("model", "idle", "load", "ok/s", "p50 ms", "p99 ms", "(low–high)", "max ms", "RSS/idle", "errors", "")]
    findings, notes = [], []
    for model in MODELS:
        p99 = {}
        for load in ("full", "half"):
            for idle in (0, options.idle):
                mine = [one for one in runs if (one["model"], one["idle"]) == (model, idle)]
                p99[load, idle] = median(one[load]["p99_ms"] for one in mine)
                rows.append(_row(model, idle, load, mine))
            with_them, without = p99[load, options.idle], p99[load, 0]
            failed = sum(_failed(one[load]) for one in runs if one["model"] == model and one["idle"])
            findings.append(Finding(
                with_them <= _MOST_SLOWER * without and not failed,
                f"{model}, {load} load: p99 with {options.idle:,} idle connections is within 2 x of that without",
                f"{with_them:.1f} ms against {without:.1f} ms, {with_them / without:.2f} x; {failed} requests failed"))
        mine = [one for one in runs if one["model"] == model and one["idle"]]
        kept = all(one["parked"] >= options.idle and not one["lost"] for one in mine)
        findings.append(Finding(kept, f"{model}: all {options.idle:,} were held, and answered when they asked again",
                                f"parked at least {min(one['parked'] for one in mine):,}, "
                                f"{sum(one['lost'] for one in mine)} lost"))
        findings.append(Finding(
            allocated[model] <= _MOST_MEMORY, f"{model}: Python memory for a parked connection is under 6 KiB",
            f"{allocated[model]:,.0f} bytes; the process grew by {median(one['resident'] for one in mine):,.0f} bytes"))
    seconds = median(one["seconds"] for one in runs if one["idle"])
    notes.append(f"Half load is half of the answers that the model gave at full load, {half[MODELS[0]]:,.0f} and "
                 f"{half[MODELS[1]]:,.0f} a second. The crowd came, and was answered, in {seconds:.1f} s.")
    return Report(grid(rows), findings, notes, [*runs, {"allocated": allocated, "half": half}])


def _half(model: str, options: Options, progress: Progress) -> float:
    """Half of what it can answer in a second."""
    with step(progress, f"{model}: how much it can do") as outcome, serving(model, _THREADS) as server:
        [full] = measure(server, [Load(_ACTIVE)], options.seconds)
        outcome.append(f"{full.ok / full.seconds:,.0f} a second")
        return full.ok / full.seconds / 2


def _one(model: str, idle: int, half: float, options: Options, progress: Progress) -> dict[str, Any]:
    what = f"{model}, {idle:,} idle"
    with step(progress, what) as outcome, serving(model, _THREADS) as server:
        measure(server, [Load(_ACTIVE)], 0.2)  # what it allocates once, it has allocated
        before = server.resident
        with _crowd(server, idle) as crowd:
            resident = (server.resident - before) / idle if idle else 0.0
            [full] = measure(server, [Load(_ACTIVE)], options.seconds)
            [easy] = measure(server, [Load(_ACTIVE, pause_ms=1e3 * _ACTIVE / half)], options.seconds)
            parked = server.state()["parked"]
            lost = crowd.ask() if crowd is not None else 0
        outcome.append(f"p99 {full.p99_ms:.1f} ms, and {easy.p99_ms:.1f} ms at half load")
        return {"model": model, "idle": idle, "full": asdict(full), "half": asdict(easy), "resident": resident,
                "parked": parked, "lost": lost, "seconds": crowd.seconds if crowd is not None else 0.0}


def _allocated(model: str, options: Options, progress: Progress) -> float:
    """Bytes that Python has for each idle connection."""
    with (step(progress, f"{model}: memory, as Python counts it") as outcome,
          serving(model, _THREADS, "--trace-memory") as server):
        measure(server, [Load(_ACTIVE)], 0.5)
        before = server.state()["allocated"]
        with _crowd(server, options.idle):
            each: float = (server.state()["allocated"] - before) / options.idle
        outcome.append(f"{each:,.0f} bytes for each")
        return each


class _Crowd:
    def __init__(self, child: Child) -> None:
        self._child = child
        self.seconds = self._read()["seconds"]

    def ask(self) -> int:
        """Have everyone ask again; how many got no answer."""
        self._child.tell("ask")
        return int(self._read()["failed"])

    def _read(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self._child.line(_PATIENCE))
        return told


@contextmanager
def _crowd(server: Server, idle: int) -> Iterator[_Crowd | None]:
    if not idle:
        yield None
        return
    with running(["bench.clients.crowd", "--port", str(server.port), "--connections", str(idle)], cores()[1]) as child:
        yield _Crowd(child)


def _row(model: str, idle: int, load: str, runs: list[dict[str, Any]]) -> tuple[str, ...]:
    loads = [one[load] for one in runs]
    slow = [one["p99_ms"] for one in loads]
    return (model, f"{idle:,}", load, f"{median(one['ok'] / one['seconds'] for one in loads):,.0f}",
            f"{median(one['p50_ms'] for one in loads):.2f}", f"{median(slow):.2f}",
            f"({min(slow):.2f}–{max(slow):.2f})", f"{max(one['max_ms'] for one in loads):.1f}",
            f"{median(one['resident'] for one in runs):,.0f} B" if idle and load == "full" else "",
            str(sum(map(_failed, loads))), "")


def _failed(load: dict[str, Any]) -> int:
    """Requests without an answer, or with another than 2xx."""
    return sum((*load["errors"].values(), *load["non_2xx"].values()))
