"""The preset `slow` (S7): clients that send a byte every 10 ms, and what the others have left beside them.

The good clients, which are measured, come with a new connection for each request: so whatever they wait for, it is not
each other's patience. The slow ones are `bench.clients.slow`. Threads are 8, exactly; the loop and the single thread
have one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from bench.children import running
from bench.clients.result import Result
from bench.clients.slow import REQUEST, Told
from bench.lab.drawing import bare, colour_of, new_figure, svg_of
from bench.lab.gates import flaws_of, notes_of
from bench.lab.metrics import METRICS
from bench.lab.preset import Drawing, Options, Preset, Saying
from bench.lab.record import Cell, Record, Results
from bench.lab.serving import load_core, recording, serving
from bench.presets.slow_sentences import Sentences
from bench.presets.starve_sentences import disturbance
from bench.subjects import Setup, find_subject

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["GOOD", "PRESET", "THREADS", "Slow"]

THREADS = 8
GOOD = 16
"""Clients that are measured: twice as many as threads, so that none of these is idle for want of a client."""
INTERVAL_MS = 10.0
_LATE = 1.5
"""Times the interval, above which the slow clients were not those that they were to be."""


class Slow(Preset):
    """A cell is a subject, and so many slow clients."""

    name = "slow"
    title = "What slow clients cost the others"
    question = (f"A client on a bad line sends its request a byte at a time, one every {INTERVAL_MS:g} ms: "
                f"{len(REQUEST)} bytes, a third of a second for each request. It is no attacker, and no timeout minds. "
                "What do other clients have left, with as many of these beside them as there are threads, or more?")
    prediction = (
        "Where a thread holds its connection (idle=hold, a thread for each connection, the single thread), each slow "
        f"client takes a thread away, for as long as it stays: with 4 of them half of {THREADS} threads are left, and "
        f"half of the responses; with {THREADS} nothing. Where a connection is parked while nothing comes from it, a "
        "half-read head is parked too, and a slow client costs no thread, but CPU: each byte wakes a thread, which "
        "reads it and parks again. So with 64 of them, 6,400 bytes a second, parking is no longer free either. The "
        "loop pays least for a byte, but its handlers take turns, whoever asks.")
    method = (
        f"{GOOD} good clients in a closed loop, each request on a new connection, to a handler that sleeps; {THREADS} "
        "threads, all of them from the start, and room for everybody to wait. Beside them no slow clients, and so many "
        "as --connections says, which are there first, keep their connections, and ask again when they have been "
        "answered. Only the good clients' responses, and latencies from connect() on, are in the figures, but for the "
        "last columns. Server CPU is that for both.")
    defaults = Options(subjects=("single", "thread", "pool-hold", "pool-park", "recycling-hold", "recycling-park",
                                 "loop"),
                       blocks=2, seconds=0.8, warmup=0.2, connections=(4, 8, 64), sleeps_ms=(3.0,), timeout=10.0)
    columns = ("ok_per_s", "p50_ms", "p99_ms", "served", "cpu_percent", "slow_served")

    def cells(self, options: Options) -> list[Cell]:
        return [Cell.of(subject, slow_clients=slow, sleep_ms=sleep_ms)
                for sleep_ms in options.sleeps_ms or () for slow in sorted({0, *(options.connections or ())})
                for subject in options.subjects or ()]

    def run(self, cell: Cell, block: int, options: Options) -> Record:
        slow_clients = cell["slow_clients"]
        warmup, seconds = options.warmup or 0.0, options.seconds or 1.0
        longest = warmup + seconds + 10
        setup = Setup(sleep_ms=cell["sleep_ms"], threads=THREADS, queue=1000, idle_s=3600, app=options.app)
        with recording(cell, block) as record, serving(cell.subject, setup) as server, ExitStack() as stack:
            port = str(server.port)
            slow = None
            if slow_clients:
                slow = stack.enter_context(running(
                    ["bench.clients.slow", "--port", port, "--clients", str(slow_clients), "--interval-ms",
                     f"{INTERVAL_MS:g}", "--duration", f"{longest:g}"], load_core()))
                slow.line(10)  # they are there
            server.quiet_from_here()
            good = stack.enter_context(running(
                ["bench.clients.load", "--port", port, "--connections", str(GOOD), "--no-keep-alive", "--warmup",
                 f"{warmup:g}",
                 "--duration", f"{seconds:g}", "--timeout", f"{options.timeout:g}", "--watch", str(server.pid)],
                load_core()))
            load = Result(**json.loads(good.line(longest + options.timeout, server.look)))
            others = server.others()
            told = None
            if slow is not None:
                slow.close_input()
                told = Told(**json.loads(slow.line(10)))
            _fill(record, load, told, others, server.most_threads)
        return record

    def seconds(self, cell: Cell, options: Options) -> float:
        return super().seconds(cell, options) + (0.7 if cell["slow_clients"] else 0.0)

    def setting(self, meta: Mapping[str, Any]) -> str:
        setup = Setup(threads=THREADS)
        said = "; ".join(find_subject(name).settings(setup) for name in meta["options"]["subjects"])
        return f"All else is the default: {said}."

    def figures(self, results: Results) -> list[Drawing]:
        return [_drawing(results, sleep_ms) for sleep_ms in dict.fromkeys(cell["sleep_ms"] for cell in results.cells)]

    def says(self, results: Results) -> list[Saying]:
        said = [saying for sleep_ms in dict.fromkeys(cell["sleep_ms"] for cell in results.cells)
                for saying in Sentences(results, sleep_ms, THREADS, INTERVAL_MS).all()]
        return said + disturbance(results)


def _fill(record: Record, load: Result, told: Told | None, others: float, threads: int) -> None:
    rate = load.ok / load.seconds
    record.metrics = {"ok_per_s": rate, "little": rate * load.mean_ms / 1e3, "threads": float(threads),
                      "served": float(sum(count > 0 for count in load.answers))}
    if load.ok:
        record.metrics |= {"p50_ms": load.p50_ms, "p99_ms": load.p99_ms, "max_ms": load.max_ms}
    if load.server_cpu is not None:
        record.metrics["cpu_percent"] = 100 * load.server_cpu / load.seconds
    record.flaws = flaws_of(load, GOOD)
    record.detail = {"others": others, "notes": notes_of(load, others)}
    if told is None:
        return
    record.metrics["slow_served"] = float(told.served)
    record.detail["slow"] = {"asked": told.asked, "answered": told.answered, "cut": told.cut, "others": told.others,
                             "bytes_per_s": told.bytes / told.seconds,
                             "interval_ms": told.interval_ms}
    if told.interval_ms > _LATE * INTERVAL_MS:
        record.flaws.append(f"slow clients sent a byte every {told.interval_ms:.0f} ms, not every {INTERVAL_MS:g}")


def _drawing(results: Results, sleep_ms: float) -> Drawing:
    from matplotlib.ticker import LogFormatter

    cells = list(results.where(sleep_ms=sleep_ms))
    slow = sorted({cell["slow_clients"] for cell in cells})
    subjects = list(dict.fromkeys(cell.subject for cell in cells))
    figure = new_figure(10, 4.2)
    for axes, metric in zip(figure.subplots(1, 2), ("ok_per_s", "p99_ms"), strict=True):
        for n, subject in enumerate(subjects):
            _line(axes, results, [Cell.of(subject, slow_clients=count, sleep_ms=sleep_ms) for count in slow], metric,
                  colour_of(subject, n), 0.04 * (n - (len(subjects) - 1) / 2))
        axes.set_xticks(range(len(slow)), [str(count) for count in slow])
        axes.set_xlim(-0.4, len(slow) - 0.6)
        axes.set_xlabel("slow clients", fontsize=9)
        axes.set_title(METRICS[metric].title, fontsize=10)
        if metric == "p99_ms" and any(results.median(cell, metric) for cell in cells):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(LogFormatter())
            axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.4)))
            axes.tick_params(which="minor", labelsize=8, labelcolor="#555555")
        else:
            axes.set_ylim(bottom=0)
        bare(axes)
    for n, subject in enumerate(subjects):
        figure.axes[0].plot([], [], marker="o", color=colour_of(subject, n), label=subject)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right upper", fontsize=8, frameon=False)
    figure.suptitle(f"{GOOD} good clients on {THREADS} threads, beside slow ones", fontsize=12, fontweight="bold")
    name = f"slow-{sleep_ms:g}ms"
    return Drawing(name, svg_of(figure, name), (
        f"The good clients alone: what they get, and what they wait, with a handler that sleeps {sleep_ms:g} ms. "
        "Medians, and from the lowest run to the highest; side by side where they would cover each other. Without an "
        "answer there is no p99, and no point." + _hollow(results, cells)))


def _line(axes: Axes, results: Results, cells: list[Cell], metric: str, colour: str, aside: float) -> None:
    """One subject: a point for each number of slow clients, `aside` of its place."""
    found = [(place + aside, spread, bool(results.flaws(cell))) for place, cell in enumerate(cells)
             if (spread := results.spread(cell, metric)) is not None]
    axes.plot([place for place, _, _ in found], [spread.median for _, spread, _ in found], color=colour, linewidth=1.2)
    for place, spread, flawed in found:
        axes.plot([place, place], [spread.low, spread.high], color=colour, linewidth=1)
        axes.plot([place], [spread.median], marker="o", markersize=6, color=colour, clip_on=False, zorder=3,
                  markerfacecolor="white" if flawed else colour)


def _hollow(results: Results, cells: list[Cell]) -> str:
    """Which, by what is wrong with them, for the caption; empty if none is."""
    which: dict[str, dict[str, list[str]]] = {}
    for cell in cells:
        if flaws := results.flaws(cell):
            which.setdefault("; ".join(flaws), {}).setdefault(cell.subject, []).append(str(cell["slow_clients"]))
    said = [f"{', '.join(f'{subject} with {_and(counts)}' for subject, counts in those.items())} slow clients: {flaws}"
            for flaws, those in which.items()]
    return f" Hollow, because it compares with nothing: {'. '.join(said)}." if said else ""


def _and(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


PRESET = Slow()
