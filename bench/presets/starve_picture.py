"""The figure of the preset `starve`: what each client got, one panel for each subject, and what newcomers waited."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from bench.lab.drawing import bar_style, bare, colour_of, new_figure, svg_of
from bench.lab.preset import Drawing
from bench.lab.record import Cell, Record, Results, Value

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["panels"]

_IN_A_ROW = 4
_SHORTEST_MS, _LONGEST_MS = 1.0, 1000.0
"""That the axis of newcomers shows at least."""


def panels(results: Results, load: tuple[tuple[str, Value], ...]) -> Drawing:
    """Of one load: the axes of its cells. ImportError without matplotlib."""
    cells = [cell for cell in results.cells if cell.axes == load]
    rows = math.ceil(len(cells) / _IN_A_ROW)
    figure = new_figure(11, 2.1 * rows + 3.6)
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(2.1 * rows, 3.6))[:, 0]
    above.suptitle("Requests a second for each client, ascending: even is better", fontsize=12, fontweight="bold")
    grid = above.subplots(rows, _IN_A_ROW, squeeze=False)
    for place, axes in enumerate(grid.flat):
        if place < len(cells):
            _shares(axes, results, cells[place], place)
        else:
            axes.set_axis_off()
    below.suptitle("Newcomers: how many are answered within so long; further left, and up to 100 %, is better",
                   fontsize=12, fontweight="bold")
    _newcomers(below.subplots(), results, cells)
    name = "starve-" + "-".join(f"{value:g}" if isinstance(value, float) else str(value) for _, value in load)
    hollow = [f"{cell.subject}: {'; '.join(flaws)}" for cell in cells if (flaws := results.flaws(cell))]
    return Drawing(name, svg_of(figure, name), (
        f"{cells[0].load}. Above: the clients that stay, those that got least on the left, the median of the runs at "
        "each place; each panel has a scale of its own, from zero, and its dashed line is an equal share. Below: of "
        "all newcomers that came, how many had waited no longer than that when they were answered, a line for each "
        "run. A line that does not reach 100 % has left newcomers out: it goes on flat, because they were not answered "
        "later either. One at 0 % lies on the axis. Between the percentiles that are kept, lines are straight."
        + (f" Hollow, because it compares with nothing: {'. '.join(hollow)}." if hollow else "")))


def _shares(axes: Axes, results: Results, cell: Cell, place: int) -> None:
    runs = [record for record in results.of(cell) if record.detail.get("answers")]
    axes.set_title(cell.subject, fontsize=10)
    bare(axes)
    if not runs:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no figures", ha="center", va="center", transform=axes.transAxes, fontsize=9)
        return
    shares = _median_shares(runs)
    style = bar_style(colour_of(cell.subject, place), fit=not results.flaws(cell))
    axes.stairs(shares, [0.5 + client for client in range(len(shares) + 1)], fill=True, facecolor=style.pop("color"),
                linewidth=0.8, **style)
    axes.axhline(sum(shares) / len(shares), color="black", linewidth=0.8, linestyle="--")
    axes.set_ylim(0, 1.08 * max(shares) or 1.0)
    axes.set_xlim(0.5, len(shares) + 0.5)
    axes.set_xticks(sorted({1, len(shares)}))
    served, jain = results.spread(cell, "served"), results.spread(cell, "jain")
    if served is not None and jain is not None:
        axes.set_title(f"{cell.subject}\n{served.low:.0f} of {len(shares)} served, Jain {jain.median:.3f}", fontsize=9)


def _median_shares(runs: Sequence[Record]) -> list[float]:
    """Requests a second of the client with the fewest, and so on."""
    each = [[count / record.detail["seconds"] for count in sorted(record.detail["answers"])] for record in runs]
    return [median(place) for place in zip(*each, strict=False)]


def _newcomers(axes: Axes, results: Results, cells: Sequence[Cell]) -> None:
    runs = {cell: [record.detail["newcomers"] for record in results.of(cell)
                   if record.detail.get("newcomers", {}).get("scheduled")] for cell in cells}
    points = [ms for those in runs.values() for one in those for ms, _ in one["curve"]]
    left = min([_SHORTEST_MS, *(0.8 * ms for ms in points if ms > 0)])
    right = max([_LONGEST_MS, *(1.3 * ms for ms in points)])
    for place, (cell, those) in enumerate(runs.items()):
        colour = colour_of(cell.subject, place)
        for one in those:
            part = one["ok"] / one["scheduled"]
            first = one["curve"][0][0] if one["curve"] else right
            axes.plot([left, first, *(ms for ms, _ in one["curve"]), right], _heights(one["curve"], part),
                      color=colour, linewidth=1.3)
        answered, came = (sum(one[what] for one in those) for what in ("ok", "scheduled"))
        axes.plot([], [], color=colour, label=f"{cell.subject}: {answered:,} of {came:,} answered" if came else
                  f"{cell.subject}: no figures")
    axes.set_xscale("log")
    axes.set_xlim(left, right)
    axes.set_ylim(0, 102)
    axes.set_xlabel("ms since it was due", fontsize=9)
    axes.set_ylabel("% of newcomers", fontsize=9)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.xaxis.set_major_formatter("{x:g}")
    bare(axes)


def _heights(curve: Sequence[Sequence[float]], part: float) -> list[float]:
    """Per cent of all that came, from those of them that were answered; the last of which is answered at its end."""
    heights = [percent * part for _, percent in curve]
    if heights:
        heights[-1] = 100 * part
    return [0.0, 0.0, *heights, heights[-1] if heights else 0.0]


