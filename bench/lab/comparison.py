"""Two folders of results of one preset, cell by cell: the ratio B/A, how sure it is, and the verdict. No printing.

The ratio is that of geometric means over the blocks, with its 95 % confidence interval: Welch's t on logarithms, since
block 3 of one folder has nothing to do with block 3 of the other (`bench.lab.statistics`). Relative to a subject, each
run is first divided by the run of that subject in the same block, under the same load: what the machine did that day is
in both, and cancels.

Many cells are many chances to be wrong: with nothing changed, one interval in twenty lies wholly beyond 1. So "slower"
and "faster", which stop a build, are not said for the interval alone: of all that are beyond the tolerance those count
that Benjamini and Hochberg's procedure lets stand (JRSS B 57(1), 1995). Then at most one in forty of those called
slower is expected to be chance, and with nothing changed the chance that any is called so is one in forty. Holm's
procedure, which keeps even one wrong among them as unlikely, would with few blocks and fifty cells find next to
nothing; and what makes a server slower rarely does so in one cell. The others are "perhaps".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import geometric_mean

from bench.lab.metrics import METRICS
from bench.lab.record import Cell, Record, Results
from bench.lab.statistics import Ratio, beyond_chance, ratio_of_groups

__all__ = ["Row", "compared", "judged", "lost"]

_BY_CHANCE = 0.025
"""Of findings of one kind; what a 95 % interval leaves on one side."""
_TIMED = ("_us", "_ms", "_s")


@dataclass(frozen=True)
class Row:
    """One metric of one cell: both sides, and the ratio."""

    cell: Cell
    metric: str
    a: float
    b: float
    """Geometric means, whose ratio it is; relative to a subject, of ratios."""
    ratio: Ratio
    """B over A."""
    verdict: str = ""
    """In words; in capitals if it is worse beyond doubt. Empty: not judged yet."""
    note: str = ""

    @property
    def worse(self) -> Ratio:
        """As `ratio`, but above 1 is always worse: turned round where higher is better."""
        one = self.ratio
        if METRICS[self.metric].better == "lower":
            return one
        return replace(one, value=1 / one.value, low=1 / one.high, high=1 / one.low)


def compared(a: Results, b: Results, metrics: Sequence[str], reference: str | None = None
             ) -> tuple[list[Row], dict[str, list[Cell]]]:
    """The ratios of all cells that both have; and the cells left out, by the reason.

    reference: a subject; every run is divided by its run in the same block, under the same load.
    """
    rows: list[Row] = []
    left_out: dict[str, list[Cell]] = {}
    for side, one, other in (("A", a, b), ("B", b, a)):
        if only := [cell for cell in one.cells if not other.of(cell)]:
            left_out[f"only in {side}"] = only
    for name in metrics:
        for cell in a.cells:
            if not b.of(cell) or cell.subject == reference:
                continue
            before, after = (_values(results, cell, name, reference) for results in (a, b))
            try:
                ratio = ratio_of_groups(before, after)
                rows.append(Row(cell, name, geometric_mean(before), geometric_mean(after), ratio,
                                note=_unfit(a, b, cell)))
            except ValueError as error:
                cells = left_out.setdefault(_unfit(a, b, cell) or f"{METRICS[name].label}: {error}", [])
                if cell not in cells:
                    cells.append(cell)
    return rows, left_out


def judged(rows: Sequence[Row], tolerance: float) -> list[Row]:
    """The rows with their verdicts. tolerance: in per cent."""
    most = 1 + tolerance / 100
    worse = beyond_chance([row.worse.chance_above(most) for row in rows], _BY_CHANCE)
    better = beyond_chance([row.worse.chance_below(1 / most) for row in rows], _BY_CHANCE)
    return [_judged(row, most, bad, good) for row, bad, good in zip(rows, worse, better, strict=True)]


def lost(a: Results, b: Results) -> list[Cell]:
    """The cells all of whose runs were fit in A, and none in B."""
    return [cell for cell in a.cells if b.of(cell) and not a.flaws(cell) and not any(map(_fit, b.of(cell)))]


def _judged(row: Row, most: float, bad: bool, good: bool) -> Row:
    down, up = ("slower", "faster") if row.metric.endswith(_TIMED) else ("worse", "better")
    one = row.worse
    if bad or good:
        return replace(row, verdict=down.upper() if bad else up)
    if one.low <= 1 <= one.high:
        return replace(row, verdict="no difference seen")
    chance = "may be chance" if one.above(most) or one.below(1 / most) else ""
    return replace(row, verdict=f"perhaps {down if one.low > 1 else up}",
                   note="; ".join(filter(None, (chance, row.note))))


def _values(results: Results, cell: Cell, name: str, reference: str | None) -> list[float]:
    """Of the runs that are fit, by block."""
    runs = [record for record in results.of(cell) if _fit(record) and name in record.metrics]
    if reference is None:
        return [record.metrics[name] for record in runs]
    base = {record.block: record.metrics[name] for record in results.of(Cell(reference, cell.axes))
            if _fit(record) and record.metrics.get(name, 0) > 0}
    return [record.metrics[name] / base[record.block] for record in runs if record.block in base]


def _fit(record: Record) -> bool:
    return not record.flaws and not record.failed


def _unfit(a: Results, b: Results, cell: Cell) -> str:
    """"flawed: 3 of 3 runs of A"; empty if none is."""
    counts = [(side, sum(not _fit(record) for record in results.of(cell)), len(results.of(cell)))
              for side, results in (("A", a), ("B", b))]
    said = ", ".join(f"{bad} of {runs} runs of {side}" for side, bad, runs in counts if bad)
    return f"flawed: {said}" if said else ""
