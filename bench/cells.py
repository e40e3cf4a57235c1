"""A model under a closed loop, one run of it, and the figures that several runs add up to.

A run is what happened once, with a server process of its own. Figures are made of the runs of one cell, and everything
that is printed or drawn is made of figures.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from bench.clients.result import Result
from bench.models import MODELS

__all__ = ["Cell", "Figures", "Run", "figures", "same_load"]


@dataclass(frozen=True)
class Cell:
    """One model under one load."""

    model: str
    keep_alive: bool
    sleep_ms: float
    """What the handler sleeps; 0: it calls no sleep at all."""

    @property
    def load(self) -> str:
        """The load in words, which are the same for every model: "keep-alive off, sleep 0.1 ms"."""
        sleep = f"sleep {self.sleep_ms:g} ms" if self.sleep_ms else "no sleep"
        return f"keep-alive {'on' if self.keep_alive else 'off'}, {sleep}"

    def __str__(self) -> str:
        return f"{self.model}, {self.load}"


@dataclass
class Run:
    """One run of a cell."""

    cell: Cell
    round: int
    connections: int
    load: Result | None = None
    """None: it failed."""
    threads: int = 0
    """The taskmaster's threads, the most that were seen at once: neither main threads nor watchers."""
    others: float = 0.0
    """Share of the server's core that other processes, or the hypervisor, had meanwhile."""
    starts: float | None = None
    """Threads started for each connection accepted; None: the server does not tell."""
    failed: str = ""
    """Why there is no load."""


@dataclass(frozen=True)
class Figures:
    """One cell over all its rounds. Medians, which of two values are their mean; times in the unit of the name."""

    cell: Cell
    connections: int
    rate: float
    """2xx responses a second."""
    low: float
    high: float
    """The lowest and the highest rate of any round."""
    cpu_us: float | None
    """CPU microseconds of the server, user and system, for each 2xx response."""
    p50_ms: float
    p99_ms: float
    little: float
    """Rate times mean latency: by Little's law, how many requests were in progress on average."""
    threads: int
    starved: int | None
    """Clients without one response, in the worst round; None: the generator could not tell."""
    errors: dict[str, int]
    """Requests without a response, by kind, of all rounds."""
    non_2xx: dict[str, int]
    """Other responses, by status, of all rounds."""
    generator_share: float
    """The highest share of its core that the generator used."""
    starts: float | None
    """Threads started for each connection accepted."""
    others: float
    """Share of the server's core that somebody else had, in the worst round."""
    failed: str
    """Why there are no figures, if there are none."""

    @property
    def generator_bound(self) -> bool:
        return self.generator_share > 0.9

    @property
    def unfit(self) -> str:
        """Why this must not be compared with other models under the same load; empty if it may."""
        if self.failed:
            return self.failed
        if self.starved:
            return f"{self.starved} of {self.connections} clients got no answer at all"
        if self.non_2xx:
            return ", ".join(f"{count:,} responses {status}" for status, count in sorted(self.non_2xx.items()))
        if self.rate == 0:
            return "no answer at all"
        if self.little < self.connections / 2:
            return f"X·R is {self.little:.1f} with {self.connections} connections"
        return ""

    @property
    def spread(self) -> float:
        """How far apart the rounds are, as a share of the median rate."""
        return (self.high - self.low) / self.rate if self.rate else 0.0


def figures(runs: Iterable[Run]) -> list[Figures]:
    """The figures of every cell, sorted by keep-alive (off first), by sleep, by model in the order of the course."""
    by_cell: dict[Cell, list[Run]] = {}
    for run in runs:
        by_cell.setdefault(run.cell, []).append(run)
    order = {model: n for n, model in enumerate(MODELS)}

    def place(cell: Cell) -> tuple[bool, float, int, str]:
        return cell.keep_alive, cell.sleep_ms, order.get(cell.model, len(order)), cell.model

    return [_of_cell(cell, by_cell[cell]) for cell in sorted(by_cell, key=place)]


def same_load(all_figures: Iterable[Figures]) -> list[list[Figures]]:
    """Grouped by load: each group compares models, and nothing else differs in it."""
    groups: dict[str, list[Figures]] = {}
    for one in all_figures:
        groups.setdefault(one.cell.load, []).append(one)
    return list(groups.values())


def _of_cell(cell: Cell, runs: list[Run]) -> Figures:
    good = [(run, run.load) for run in runs if run.load is not None]
    loads = [load for _, load in good]
    rates = [load.ok / load.seconds for load in loads] or [0.0]
    costs = [1e6 * load.server_cpu / load.ok for load in loads if load.server_cpu is not None and load.ok]
    starts = [run.starts for run, _ in good if run.starts is not None]
    starved = [load.starved for load in loads]
    errors: Counter[str] = Counter()
    non_2xx: Counter[str] = Counter()
    for load in loads:
        errors.update(load.errors)
        non_2xx.update(load.non_2xx)

    def median(values: Iterable[float]) -> float:
        return statistics.median(list(values) or [0.0])

    return Figures(
        cell=cell,
        connections=runs[0].connections,
        rate=median(rates), low=min(rates), high=max(rates),
        cpu_us=median(costs) if costs else None,
        p50_ms=median(load.p50_ms for load in loads),
        p99_ms=median(load.p99_ms for load in loads),
        little=median(load.ok / load.seconds * load.mean_ms / 1e3 for load in loads),
        threads=max((run.threads for run, _ in good), default=0),
        starved=None if None in starved else max((n for n in starved if n is not None), default=0),
        errors=dict(errors), non_2xx=dict(non_2xx),
        generator_share=max((load.generator_share for load in loads), default=0.0),
        starts=median(starts) if starts else None,
        others=max((run.others for run, _ in good), default=0.0),
        failed="" if loads else next((run.failed for run in runs if run.failed), "no run"),
    )
