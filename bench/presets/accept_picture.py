"""The figure of the preset `accept` (F8): a square for each client, in the colour of the thread that served it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.lab.drawing import new_figure, svg_of
from bench.lab.preset import Drawing
from bench.lab.record import Cell, Record, Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["strips"]

_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442", "#000000")
"""Of the threads, in the order in which they first serve somebody: Okabe and Ito's, as in `bench.lab.drawing`."""
_ONCE, _MORE, _NOBODY = "#C8C8C8", "#666666", "#FFFFFF"
_HIGH = 0.115
"""Inches, of a row."""

_Row = Record | None
"""None: a gap between two subjects."""


def strips(results: Results, connections: int, threads: int) -> Drawing:
    """Of the cells with so many `connections`: a panel for each way to come. ImportError without matplotlib."""
    ways = list(dict.fromkeys(cell["arrivals"] for cell in results.where(connections=connections)))
    cells = {way: list(results.where(connections=connections, arrivals=way)) for way in ways}
    rows = max(sum(len(results.of(cell)) + 1 for cell in of_way) for of_way in cells.values())
    figure = new_figure(11, 1.15 + _HIGH * rows)
    figure.suptitle(f"Which of {threads} threads serves the next client: a square for each client, a colour for each "
                    "thread", fontsize=12, fontweight="bold")
    for axes, way in zip(figure.subplots(1, len(ways), squeeze=False)[0], ways, strict=True):
        _panel(axes, results, cells[way], connections)
        axes.set_title(way, fontsize=10)
    name = f"accept-{connections}"
    flawed = [f"{cell}: {'; '.join(flaws)}" for way in ways for cell in cells[way] if (flaws := results.flaws(cell))]
    return Drawing(name, svg_of(figure, name), (
        "From left to right the clients, in the order in which they came; a row for each run, which begins its colours "
        f"anew, with the thread that serves first. Light grey: a thread that serves nobody else in its run; dark: the "
        f"ninth thread, and others. No direction is better. A run has {connections} clients."
        + (f" White, or a row with a star, is flawed: {'. '.join(flawed)}." if flawed else "")))


def _panel(axes: Axes, results: Results, cells: Sequence[Cell], connections: int) -> None:
    from matplotlib.colors import to_rgb

    rows: list[_Row] = []
    places, labels = [], []
    for cell in cells:
        records = results.of(cell)
        places.append(len(rows) + (len(records) - 1) / 2)
        labels.append(cell.subject + (" *" if results.flaws(cell) else ""))
        rows += [*records, None]
    rows = rows[:-1]
    colours = [[to_rgb(colour) for colour in _row(row, connections)] for row in rows]
    axes.imshow(colours, interpolation="none", aspect="auto", extent=(0, connections, len(rows), 0))
    for x in range(1, connections):
        axes.axvline(x, color="white", linewidth=0.7)
    for y in range(1, len(rows)):
        axes.axhline(y, color="white", linewidth=0.9)
    axes.set_yticks([place + 0.5 for place in places], labels)
    axes.set_xlabel("client, in order of arrival", fontsize=8, color="#555555")
    axes.tick_params(labelsize=8, length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _row(row: _Row, connections: int) -> list[str]:
    order = row.detail.get("order", []) if row is not None else []
    served = Counter(order)
    found = [_NOBODY if thread < 0 else _ONCE if served[thread] == 1 else
             _COLOURS[thread] if thread < len(_COLOURS) else _MORE for thread in order]
    return found[:connections] + [_NOBODY] * (connections - len(found))
