"""The picture of the preset `step`: for each subject its threads, where the clients wait, and p99, over time."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bench.lab.drawing import bare, colour_of, new_figure
from bench.lab.record import Cell, Record, Results
from bench.presets.step_watch import asking_at

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["over_time"]

_SERVED, _QUEUED, _KERNEL, _PARKED = "#777777", "#0072B2", "#D55E00", "#E69F00"
_UNFIT = "#999999"


def over_time(results: Results, cells: Sequence[Cell]) -> Figure:
    """A matplotlib figure, of the first run of each of `cells` that has figures; the others' lines are thin."""
    shown = [cell for cell in cells if any(record.detail for record in results.of(cell))]
    figure = new_figure(1.0 + 2.1 * max(2, len(shown)), 7.2)
    charts = figure.subplots(3, len(shown), squeeze=False, sharex=True, sharey="row")
    for column, cell in enumerate(shown):
        records = [record for record in results.of(cell) if record.detail]
        fit = not results.flaws(cell)
        colour = colour_of(cell.subject, column) if fit else _UNFIT
        for axes in charts[:, column]:
            bare(axes)
            for phase in records[0].detail["phases"][1:]:
                axes.axvline(phase["from"], color="#444444", linewidth=0.8, linestyle=":")
        charts[0][column].set_title(cell.subject.rpartition(":")[2], fontsize=10, color="black" if fit else _UNFIT)
        if not fit:
            charts[0][column].text(0.03, 0.98, _wrapped(results.flaws(cell)), transform=charts[0][column].transAxes,
                                   fontsize=6.5, va="top", color="#444444")
        for number, record in enumerate(records):
            _lines(charts[0][column], charts[2][column], record, colour, thin=number > 0)
        _areas(charts[1][column], records[0])
        charts[2][column].set_xlabel("seconds", fontsize=8)
    for row, label in enumerate(("threads", "clients that have asked,\nby where they are",
                                 "p99 of 0.1 s, ms:\nlower is better")):
        charts[row][0].set_ylabel(label, fontsize=9)
        charts[row][0].set_ylim(bottom=0)
    highest = max((count for cell in shown for record in results.of(cell) if record.detail
                   for count in record.detail["samples"]["threads"]), default=1)
    charts[0][0].set_ylim(0, 1.9 * highest)  # room for what is wrong with it
    handles = {label: handle for axes in charts[1] for handle, label in zip(*axes.get_legend_handles_labels(),
                                                                            strict=True)}
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return figure


def _lines(threads: Axes, latency: Axes, record: Record, colour: str, *, thin: bool) -> None:
    samples, series = record.detail["samples"], record.detail["series"]
    style: dict[str, Any] = {"color": colour, "linewidth": 0.6 if thin else 1.6, "alpha": 0.6 if thin else 1.0}
    here = [place for place, t in enumerate(samples["t"]) if t >= 0]
    threads.plot([samples["t"][place] for place in here], [samples["threads"][place] for place in here],
                 drawstyle="steps-post", **style)
    points = [(t, p99) for t, p99 in zip(series["t"], series["p99_ms"], strict=True) if p99 is not None]
    latency.plot([t for t, _ in points], [p99 for _, p99 in points], **style)


def _areas(axes: Axes, record: Record) -> None:
    """Where the clients are that have asked: full what the server's own figures tell, hatched what they do not."""
    samples, series = record.detail["samples"], record.detail["series"]
    times: list[float] = []
    asking: list[float] = []
    places: list[list[float]] = [[], [], [], []]
    served, queued, kernel, parked = places
    for place in _corners(samples, series, record.detail["phases"][2]["to"]):
        times.append(samples["t"][place])
        # Samples and series are not of the same instant: no more are anywhere than have asked.
        left = asking_at(series, times[-1])
        asking.append(left)
        for counts, name in zip(places, ("busy", "queued", "kernel", "parked"), strict=True):
            counts.append(min(left, samples[name][place]) if name in samples else 0.0)
            left -= counts[-1]
    if "busy" not in samples:
        axes.stackplot(times, kernel, [most - some for most, some in zip(asking, kernel, strict=True)],
                       colors=[_KERNEL, "#dddddd"], labels=["in the kernel's accept queue", "accepted"])
        return
    areas = axes.stackplot(times, served, queued, kernel, parked, colors=[_SERVED, _QUEUED, "white", "white"],
                           labels=["being served", "in the server's queue", "in the kernel's accept queue",
                                   "parked, as if idle"])
    for area, colour, hatch in zip(areas[2:], (_KERNEL, _PARKED), ("////", "\\\\\\\\"), strict=True):
        area.set(edgecolor=colour, hatch=hatch, linewidth=0)


def _corners(samples: dict[str, list[float]], series: dict[str, list[float]], end: float) -> list[int]:
    """Places of the samples from 0 to `end`, without those that are as their neighbours: a smaller picture."""
    here = [place for place, t in enumerate(samples["t"]) if 0 <= t <= end]
    rows = {place: (asking_at(series, samples["t"][place]),
                    *(values[place] for name, values in samples.items() if name != "t")) for place in here}
    return [place for place in here
            if place in (here[0], here[-1]) or not rows[place - 1] == rows[place] == rows[place + 1]]


def _wrapped(flaws: Sequence[str]) -> str:
    said = [flaw.removeprefix("in the step: ") for flaw in flaws]
    lines = [line for flaw in said[:3] for line in textwrap.wrap(flaw, 30)]
    return "\n".join(lines + ["..."] * (len(said) > 3))
