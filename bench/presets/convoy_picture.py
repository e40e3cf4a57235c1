"""The picture of the preset `convoy`: p50 and p99 of tiny requests against the number of clients that compute."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.lab.drawing import bare, colour_of, new_figure
from bench.lab.record import Cell, Results
from bench.presets.convoy_sentences import DEFAULT_MS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["waits"]


def waits(results: Results) -> Figure:
    """A matplotlib figure. ImportError without matplotlib."""
    lines: dict[tuple[str, str, float], list[Cell]] = {}
    for cell in results.cells:
        lines.setdefault((cell.subject, cell["cores"], cell["switch_interval_ms"]), []).append(cell)
    numbers = sorted({int(cell["computing"]) for cell in results.cells})
    figure = new_figure(11, 5)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, metric, name in zip(panels, ("p50_ms", "p99_ms"), ("p50", "p99"), strict=True):
        for place, ((subject, cores, interval), cells) in enumerate(lines.items()):
            words = f"{subject.rpartition(':')[2]}, {'one core' if cores == 'one' else 'all cores'}, {interval:g} ms"
            style = "-" if cores == "one" and interval == DEFAULT_MS else ":" if cores == "one" else "--"
            _line(axes, results, cells, metric, colour_of(subject, place), style, words,
                  0.03 * (place - (len(lines) - 1) / 2))
        axes.set_title(f"{name} of tiny requests, ms: lower is better", fontsize=10)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xticks(numbers)
        axes.set_xlabel("clients that make the server compute", fontsize=9)
        axes.grid(axis="y", color="#eeeeee")
        bare(axes)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9,
                  title="subject, cores, switch interval", title_fontsize=9)
    return figure


def _line(axes: Axes, results: Results, cells: list[Cell], metric: str, colour: str, style: str, words: str,
          aside: float) -> None:
    """aside: by how much it is moved, to be seen beside others."""
    points = []
    for cell in sorted(cells, key=lambda cell: int(cell["computing"])):
        if (spread := results.spread(cell, metric)) is None:
            continue
        at, fit = cell["computing"] + aside, not results.flaws(cell)
        axes.plot([at, at], [spread.low, spread.high], color=colour, linewidth=1)
        axes.plot([at], [spread.median], marker="o", markersize=5, linestyle="none", markeredgecolor=colour,
                  markerfacecolor=colour if fit else "white")
        if fit:
            points.append((at, spread.median))
    axes.plot([at for at, _ in points], [value for _, value in points], color=colour, linestyle=style, linewidth=1.5,
              label=words)
