"""Figures as a picture: a small chart for each load, a bar for each model, the same scale in every chart of a kind.

Needs matplotlib, which nothing else here does. Colours are Okabe and Ito's, which the colour-blind can tell apart,
and always the same for a model. Bars begin at zero. A bar that must not be compared is pale and hatched, and says why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cells import Figures, same_load

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["MISSING", "draw"]

MISSING = "No picture: matplotlib is not installed. pip install matplotlib, or in the checkout: pip install -e .[bench]"

_COLOURS = {"single": "#999999", "thread": "#D55E00", "pool-hold": "#0072B2", "pool-park": "#56B4E9",
            "recycling-hold": "#009E73", "recycling-park": "#80CFB9", "loop": "#E69F00", "loop-threads": "#F0E442",
            "prefork": "#CC79A7"}
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
_OTHERS = ("#000000", "#882255", "#44AA99", "#AA4499")


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


def draw(all_figures: list[Figures], folder: Path, about: str) -> list[Path]:
    """Write compare.png and compare.svg into `folder`; return their paths. ImportError without matplotlib.

    about: a line on when and where, for the bottom of the picture.
    """
    from matplotlib.figure import Figure

    rows = sorted({one.cell.keep_alive for one in all_figures})
    columns = sorted({one.cell.sleep_ms for one in all_figures})
    models = list(dict.fromkeys(one.cell.model for one in all_figures))
    half = (0.3 * len(models) + 0.55) * len(rows) + 0.55  # inches
    picture = Figure(figsize=(1.4 + 3.6 * max(2, len(columns)), 2 * half + 0.9), layout="constrained")
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
    picture.supxlabel("\n".join([*_explained(models), "", about]), fontsize=8, color="#444444")
    paths = [folder / "compare.png", folder / "compare.svg"]
    for path in paths:
        picture.savefig(path, dpi=150, facecolor="white")
    return paths


def _bars(axes: Axes, group: list[Figures], measure: _Measure, models: list[str]) -> None:
    from matplotlib.ticker import MaxNLocator

    for one in group:
        place, value = models.index(one.cell.model), measure.value(one)
        colour = _COLOURS.get(one.cell.model, _OTHERS[place % len(_OTHERS)])
        fit = not one.unfit
        axes.barh(place, value, color=colour if fit else "white", edgecolor=colour, hatch=None if fit else "////",
                  height=0.72, alpha=1.0 if fit else 0.6)
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
