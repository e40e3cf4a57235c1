"""Whether two folders of results put the subjects in the same order.

Two subjects under the same load are told apart in a folder if their 95 % confidence intervals do not overlap there
(Student's t on logarithms, `bench.lab.statistics`). Folders contradict each other where both tell two subjects apart,
and not in the same order. Where one of them does not, there is nothing to contradict.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

from bench.lab.metrics import METRICS
from bench.lab.record import Cell, Results
from bench.lab.statistics import interval_of

__all__ = ["Ranking", "ranking"]


@dataclass(frozen=True)
class Ranking:
    """By one metric."""

    metric: str
    pairs: int
    """Of subjects under the same load, fit to be compared in both folders."""
    told: int
    """Of those, told apart in both."""
    reversed: tuple[tuple[str, str, str], ...]
    """Of those, in another order in B: (load, what is lower in A, what is lower in B)."""

    def __str__(self) -> str:
        label = METRICS[self.metric].label
        if not self.told:
            return (f"Order by {label}: nothing to be said; of {self.pairs} pairs of subjects under the same load none "
                    "is told apart in both folders.")
        said = (f"Order by {label}: of {self.pairs} pairs of subjects under the same load, both folders tell "
                f"{self.told} apart (their 95 % intervals do not overlap)")
        if not self.reversed:
            return f"{said}, and put all of them in the same order."
        where = "; ".join(f"{load or 'all'}: {a} is below {b} in A, above it in B" for load, a, b in self.reversed)
        return f"{said}, and {len(self.reversed)} of them in ANOTHER ORDER. {where}."


def ranking(a: Results, b: Results, metric: str) -> Ranking:
    """Of all subjects under all loads that both have. Flawed cells compare with nothing, and so are left out."""
    pairs = told = 0
    turned: list[tuple[str, str, str]] = []
    intervals = [_intervals(results, metric) for results in (a, b)]
    both = [cell for cell in intervals[0] if cell in intervals[1]]
    for one, other in combinations(both, 2):
        if one.axes != other.axes:
            continue
        pairs += 1
        orders = [_order(those[one], those[other]) for those in intervals]
        if all(orders):
            told += 1
            if orders[0] != orders[1]:
                lower, higher = (one, other) if orders[0] < 0 else (other, one)
                turned.append((one.load, lower.subject, higher.subject))
    return Ranking(metric, pairs, told, tuple(turned))


def _intervals(results: Results, metric: str) -> dict[Cell, tuple[float, float]]:
    """Of the cells that are fit, and have one: it takes two runs, and values above 0."""
    found = {}
    for cell in results.cells:
        spread = results.spread(cell, metric)
        if spread is not None and not results.flaws(cell) and len(spread.values) > 1 and spread.low > 0:
            found[cell] = interval_of(spread.values)
    return found


def _order(one: tuple[float, float], other: tuple[float, float]) -> int:
    """-1: the one is below the other; 1: above; 0: they overlap."""
    return -1 if one[1] < other[0] else int(other[1] < one[0])
