"""The figures of the preset `open`: percentiles of every run, and p99 by rate beside that of a closed loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bench.lab.drawing import bare, colour_of, new_figure
from bench.lab.record import Cell, Results
from bench.presets.open_sentences import level_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["percentiles", "tails"]

_NINES = {2: "50 %", 10: "90 %", 100: "99 %", 1000: "99.9 %"}
"""1 / (1 - p), and p."""


def percentiles(results: Results, cells: Sequence[Cell], words: str) -> Figure | None:
    """One panel a rate, one line a run. None: there is none to be drawn. ImportError without matplotlib."""
    by_level = _by_level(cells)
    curves = [(cell, record) for some in by_level.values() for cell in some for record in results.of(cell)
              if record.detail.get("curve")]
    if not curves:
        return None
    subjects = _subjects(cells)
    figure = new_figure(10.5, 4.3)
    panels: Any = figure.subplots(1, len(by_level), sharey=True, squeeze=False)[0]
    for axes, (level, some) in zip(panels, by_level.items(), strict=True):
        for cell in some:
            for record in results.of(cell):
                points = [(max(1.0, 100 / (100 - percent)), ms) for ms, percent in record.detail.get("curve", ())]
                if points:
                    axes.plot(*zip(*points, strict=True), color=colour_of(cell.subject, subjects.index(cell.subject)),
                              linewidth=1, alpha=0.8, linestyle="--" if record.flaws else "-")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(1, 2000)
        _plain(axes.xaxis, list(_NINES), list(_NINES.values()))
        axes.grid(axis="both", which="major", color="#dddddd", linewidth=0.5)
        axes.set_title(_level_said(results, some, level), fontsize=9)
        axes.set_xlabel("of the requests took no longer", fontsize=8)
        bare(axes)
    _plain_y(panels[0])
    panels[0].set_ylabel("latency from when it was due, ms", fontsize=8)
    figure.suptitle(f"Latency at equal work: lower is better\n{words}", fontsize=10)
    _legend(figure, subjects)
    return figure


def tails(results: Results, cells: Sequence[Cell], words: str) -> Figure | None:
    """p99 by rate, and in a closed loop. None: there is none to be drawn. ImportError without matplotlib."""
    by_level = _by_level(cells)
    clients = max((cell["clients"] for cell in cells if level_of(cell) is None), default=None)
    if not any(results.spread(cell, "p99_ms") for some in by_level.values() for cell in some):
        return None
    subjects = _subjects(cells)
    figure = new_figure(9, 3.8)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    levels = list(by_level)
    for place, subject in enumerate(subjects):
        aside = 0.09 * (place - (len(subjects) - 1) / 2)
        at = [(number + aside, cell) for number, level in enumerate(levels) for cell in by_level[level]
              if cell.subject == subject]
        _marks(left, results, at, colour_of(subject, place))
        _marks(right, results, [(float(place), cell) for cell in cells
                                if cell.subject == subject and dict(cell.axes).get("clients") == clients],
               colour_of(subject, place))
    left.set_yscale("log")
    _plain_y(left)
    left.set_xticks(range(len(levels)), [_level_said(results, by_level[level], level) for level in levels], fontsize=8)
    left.set_xlim(-0.5, len(levels) - 0.5)
    left.set_title("at equal work (open loop)", fontsize=9)
    left.set_ylabel("p99, ms", fontsize=8)
    right.set_xticks(range(len(subjects)), subjects, fontsize=8, rotation=35, ha="right")
    right.set_xlim(-0.5, len(subjects) - 0.5)
    right.set_title("not measured" if clients is None else f"closed loop, {clients} clients", fontsize=9)
    for axes in (left, right):
        axes.grid(axis="y", which="major", color="#dddddd", linewidth=0.5)
        bare(axes)
    figure.suptitle(f"p99: lower is better\n{words}", fontsize=10)
    _legend(figure, subjects)
    return figure


def _marks(axes: Axes, results: Results, at: Sequence[tuple[float, Cell]], colour: str) -> None:
    line = []
    for x, cell in at:
        spread = results.spread(cell, "p99_ms")
        if spread is None or spread.low <= 0:
            continue
        fit = not results.flaws(cell)
        axes.plot([x, x], [spread.low, spread.high], color=colour, linewidth=1)
        axes.plot([x], [spread.median], marker="o", markersize=5, color=colour,
                  markerfacecolor=colour if fit else "white")
        line += [(x, spread.median)] if fit else []
    if len(line) > 1:
        axes.plot(*zip(*line, strict=True), color=colour, linewidth=0.8, alpha=0.6)


def _by_level(cells: Sequence[Cell]) -> dict[float, list[Cell]]:
    """Of the open loop, ascending."""
    levels = sorted({level for cell in cells if (level := level_of(cell)) is not None})
    return {level: [cell for cell in cells if level_of(cell) == level] for level in levels}


def _subjects(cells: Sequence[Cell]) -> list[str]:
    return list(dict.fromkeys(cell.subject for cell in cells))


def _level_said(results: Results, cells: Sequence[Cell], level: float) -> str:
    """Two lines: "765 requests/s", "(90 % of the slowest)"."""
    rate = next((record.detail["rate"] for cell in cells for record in results.of(cell) if "rate" in record.detail),
                None)
    said = "" if rate is None else f"{rate:,.0f} requests/s"
    return f"{said}\n({level:.0%} of the slowest)" if "load" in dict(cells[0].axes) else said


def _legend(figure: Figure, subjects: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    figure.legend([Line2D([], [], color=colour_of(name, place), linewidth=2) for place, name in enumerate(subjects)],
                  subjects, loc="outside lower center", ncols=min(6, len(subjects)), fontsize=8, frameon=False)


def _plain(axis: Any, places: Sequence[float], labels: Sequence[str]) -> None:
    from matplotlib.ticker import NullLocator

    axis.set_minor_locator(NullLocator())
    axis.set_ticks(places, labels)


def _plain_y(axes: Axes) -> None:
    """Numbers, not powers of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
