"""Pictures of a matrix: bars for one number of connections, and curves over several; small charts on one scale.

Bars begin at zero. What must not be compared is pale and hatched, or hollow, and says why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.cells import Figures, same_load
from bench.lab.drawing import bar_style, bare, colour_of, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["bars", "capacity_grid"]

_IN_WORDS = {
    "single": "one thread does everything",
    "thread": "a new thread for each connection",
    "pool": "one thread accepts, workers serve",
    "recycling": "every thread accepts and serves",
    "-hold, -park": "what a thread does with a connection that is idle",
    "loop": "one thread serves all at once",
    "loop-threads": "the same, and handlers have threads",
    "prefork": "recycling-park in two processes",
}


@dataclass(frozen=True)
class _Measure:
    """What one half of the picture shows."""

    title: str
    value: Callable[[Figures], float]
    whiskers: bool


_MEASURES = (
    _Measure("Answers per second to {} clients: longer bars are better", lambda one: one.rate, True),
    _Measure("Server CPU for each answer, microseconds: shorter bars are better", lambda one: one.cpu_us or 0.0, False),
)


def bars(all_figures: list[Figures]) -> Figure:
    """A matplotlib figure: the two measures, a chart for each load. ImportError without matplotlib."""
    rows = sorted({one.cell.keep_alive for one in all_figures})
    columns = sorted({one.cell.sleep_ms for one in all_figures})
    models = list(dict.fromkeys(one.cell.model for one in all_figures))
    half = (0.3 * len(models) + 0.55) * len(rows) + 0.55  # inches
    picture = new_figure(1.4 + 3.6 * max(2, len(columns)), 2 * half + 0.6)
    for part, measure in zip(picture.subfigures(2, 1, squeeze=False, hspace=0.05)[:, 0], _MEASURES, strict=True):
        part.suptitle(measure.title.format(all_figures[0].connections), fontsize=13, fontweight="bold")
        charts = part.subplots(len(rows), len(columns), squeeze=False, sharex=True, sharey=True)
        longest = max((_end(one, measure) for one in all_figures), default=0.0) or 1.0
        for group in same_load(all_figures):
            cell = group[0].cell
            row, column = rows.index(cell.keep_alive), columns.index(cell.sleep_ms)
            axes = charts[row][column]
            axes.set_xlim(0, 1.15 * longest)  # room for the number behind the longest bar
            _bars(axes, group, measure, models)
            if row == 0:
                axes.set_title(f"handler sleeps {cell.sleep_ms:g} ms" if cell.sleep_ms else "handler does not sleep",
                               fontsize=10)
            if column == 0:
                axes.set_ylabel("keep-alive on:\nconnections are kept\n" if cell.keep_alive else
                                "keep-alive off: a new\nconnection each time\n", fontsize=9)
    picture.supxlabel("\n".join(_explained(models)), fontsize=8, color="#444444")
    return picture


def capacity_grid(by_connections: Mapping[int, list[Figures]], value: Callable[[Figures], float | None], title: str
                  ) -> Figure:
    """A curve for each model over the number of connections, a chart for each keep-alive and sleep.

    value: of a cell; None: it has none. title: says which way is better.
    """
    every = [one for some in by_connections.values() for one in some]
    rows = sorted({one.cell.keep_alive for one in every})
    columns = sorted({one.cell.sleep_ms for one in every})
    models = list(dict.fromkeys(one.cell.model for one in every))
    picture = new_figure(1.6 + 3.4 * max(2, len(columns)), 0.9 + 2.9 * len(rows))
    picture.suptitle(title, fontsize=13, fontweight="bold")
    highest = max((value(one) or 0.0 for one in every), default=0.0) or 1.0
    charts = picture.subplots(len(rows), len(columns), squeeze=False, sharex=True, sharey=True)
    for row, keep_alive in enumerate(rows):
        for column, sleep_ms in enumerate(columns):
            axes = charts[row][column]
            for place, model in enumerate(models):
                mine = [(connections, one) for connections, some in sorted(by_connections.items()) for one in some
                        if (one.cell.model, one.cell.keep_alive, one.cell.sleep_ms) == (model, keep_alive, sleep_ms)]
                _curve(axes, [(connections, one, shown) for connections, one in mine
                              if (shown := value(one)) is not None], colour_of(model, place), model, place, len(models))
            axes.set_xscale("log")
            axes.set_xticks(sorted(by_connections), [str(connections) for connections in sorted(by_connections)])
            axes.minorticks_off()
            axes.set_ylim(0, 1.05 * highest)  # of all: the charts share their scale
            axes.yaxis.set_major_formatter("{x:,.0f}")
            axes.grid(axis="y", color="#eeeeee")
            bare(axes)
            if row == 0:
                axes.set_title(f"handler sleeps {sleep_ms:g} ms" if sleep_ms else "handler does not sleep", fontsize=10)
            if row == len(rows) - 1:
                axes.set_xlabel("connections", fontsize=9)
            if column == 0:
                axes.set_ylabel("keep-alive on" if keep_alive else "keep-alive off", fontsize=9)
    handles, labels = charts[0][0].get_legend_handles_labels()
    picture.legend(handles, labels, loc="outside lower center", ncols=min(5, len(models)), frameon=False, fontsize=9)
    return picture


def _curve(axes: Axes, points: list[tuple[int, Figures, float]], colour: str, model: str, place: int, of: int) -> None:
    """One model's; what is unfit is hollow, and joined to nothing. Models are moved apart a little, to be seen."""
    def aside(connections: int) -> float:
        return float(connections * 1.02 ** (place - of / 2))

    fit = [point for point in points if not point[1].unfit]
    axes.plot([aside(connections) for connections, _, _ in fit], [shown for _, _, shown in fit], color=colour,
              marker="o", markersize=5, linewidth=1.5, label=model)
    for connections, one, shown in points:
        if one.unfit:
            axes.plot([aside(connections)], [shown], marker="o", markersize=5, markerfacecolor="white",
                      markeredgecolor=colour, linestyle="none")


def _bars(axes: Axes, group: list[Figures], measure: _Measure, models: list[str]) -> None:
    from matplotlib.ticker import MaxNLocator

    for one in group:
        place, value = models.index(one.cell.model), measure.value(one)
        fit = not one.unfit
        axes.barh(place, value, height=0.72, **bar_style(colour_of(one.cell.model, place), fit))
        if measure.whiskers and one.high > one.low:
            axes.plot([one.low, one.high], [place, place], color="black", linewidth=1)
        if fit:
            axes.annotate(f" {value:,.0f}", (_end(one, measure), place), va="center", fontsize=8, in_layout=False)
        else:
            axes.annotate(f"{value:,.0f}, but {_short(one)}", (0, place), (4, 0), textcoords="offset points",
                          va="center", fontsize=8, in_layout=False,
                          bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none"})
    axes.set_yticks(range(len(models)), [model.rpartition(":")[2] for model in models], fontsize=9)
    axes.set_ylim(len(models) - 0.5, -0.5)  # the first model on top
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.tick_params(axis="x", labelsize=7, colors="#666666")
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _end(one: Figures, measure: _Measure) -> float:
    """Where a bar ends, or its whisker."""
    return max(measure.value(one), one.high) if measure.whiskers else measure.value(one)


def _explained(models: list[str]) -> list[str]:
    shown = {*models, *(model.partition("-")[0] for model in models)}
    if any(model.endswith(("-hold", "-park")) for model in models):
        shown.add("-hold, -park")
    known = [f"{name}: {words}" for name, words in _IN_WORDS.items() if name in shown]
    return [*(";  ".join(known[first:first + 3]) for first in range(0, len(known), 3)),
            "Thin line: from the lowest to the highest round. Hatched: compares with nothing, for the reason in it."]


def _short(one: Figures) -> str:
    """Why a bar is hatched, as short as there is room for."""
    if one.failed:
        return "it failed"
    if one.starved:
        return f"{one.starved} of {one.connections} clients get nothing"
    if one.non_2xx:
        return f"{sum(one.non_2xx.values()):,} answers not 2xx"
    return f"X·R is {one.little:.0f} of {one.connections}"
