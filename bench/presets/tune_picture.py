"""The picture of the preset `tune`: throughput, p99 and CPU against the number of threads, one line a subject."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.lab.drawing import bare, colour_of, new_figure
from bench.lab.metrics import METRICS
from bench.lab.record import Results
from bench.presets.tune_sentences import Load, ceiling

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["sweep"]

_SHOWN = ("ok_per_s", "p99_ms", "cpu_us")
_ROOM = 1.15


def sweep(results: Results, load: Load) -> Figure:
    """A matplotlib figure. ImportError without matplotlib."""
    figure = new_figure(12.5, 4.4)
    figure.suptitle(load.words, fontsize=11)
    for axes, metric in zip(figure.subplots(1, len(_SHOWN)), _SHOWN, strict=True):
        numbers, highest = _lines(axes, results, load, metric)
        if metric == "ok_per_s" and load.sleep_ms:
            axes.plot(numbers, [ceiling(results, load, threads) or 0.0 for threads in numbers], color="#444444",
                      linestyle="--", linewidth=1, label="threads / measured sleep")
        axes.set_title(METRICS[metric].title, fontsize=9.5)
        axes.set_xscale("log")
        axes.set_xticks(numbers, [str(number) for number in numbers])
        axes.minorticks_off()
        axes.set_ylim(0, _ROOM * highest)
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.set_xlabel("threads", fontsize=9)
        axes.grid(axis="y", color="#eeeeee")
        bare(axes)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    return figure


def _lines(axes: Axes, results: Results, load: Load, metric: str) -> tuple[list[int], float]:
    """Draw one for each subject; the numbers of threads there are, and the highest value."""
    numbers, tops = set(), [0.0]
    for place, subject in enumerate(results.subjects):
        colour, line = colour_of(subject, place), []
        for cell in sorted(results.where(subject, connections=load.connections, sleep_ms=load.sleep_ms),
                           key=lambda cell: int(cell["threads"])):
            numbers.add(int(cell["threads"]))
            if (spread := results.spread(cell, metric)) is None:
                continue
            at = cell["threads"] * 1.03 ** (place - len(results.subjects) / 2)  # moved apart, to be seen
            fit = not results.flaws(cell)
            axes.plot([at, at], [spread.low, spread.high], color=colour, linewidth=1)
            axes.plot([at], [spread.median], marker="o", markersize=5, linestyle="none", markeredgecolor=colour,
                      markerfacecolor=colour if fit else "white")
            tops.append(spread.high)
            if fit:
                line.append((at, spread.median))
        axes.plot([at for at, _ in line], [value for _, value in line], color=colour, linewidth=1.5, marker="o",
                  markersize=5, label=subject.rpartition(":")[2])
    return sorted(numbers), max(tops) or 1.0
