"""What the presets `quick` and `readme` share: subjects x keep-alive x sleep x connections, in a closed loop."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from bench import table
from bench.cells import Cell as LoadCell
from bench.cells import Figures, Run, figures
from bench.clients.generators import generator_named
from bench.clients.result import Result
from bench.lab.drawing import svg_of
from bench.lab.gates import flaws_of, notes_of
from bench.lab.preset import Drawing, Options, Preset, Saying
from bench.lab.record import Cell, Record, Results
from bench.lab.serving import load_core, recording, serving
from bench.presets import matrix_verdict as verdict
from bench.presets.matrix_picture import bars
from bench.subjects import Setup, find_subject

__all__ = ["MatrixPreset", "capacity_for", "figures_of"]

_THREE = ("recycling-hold", "pool-hold", "thread")
_MARGIN = 28
"""Connections that a model has room for beyond those of the load, the last of which may still be closing."""


def capacity_for(connections: int) -> int:
    """What every model is given room for."""
    return connections + _MARGIN


class MatrixPreset(Preset):
    """A cell is a subject, keep-alive on or off, what the handler sleeps, and so many clients in a closed loop."""

    columns = ("ok_per_s", "cpu_us", "p50_ms", "p99_ms", "little", "threads")

    def cells(self, options: Options) -> list[Cell]:
        return [Cell.of(subject, keep_alive=keep_alive, sleep_ms=sleep_ms, connections=connections)
                for connections in options.connections or () for keep_alive in options.keep_alive or ()
                for sleep_ms in options.sleeps_ms or () for subject in options.subjects or ()]

    def run(self, cell: Cell, block: int, options: Options) -> Record:
        connections = cell["connections"]
        assert options.warmup is not None
        assert options.seconds is not None
        with recording(cell, block) as record, serving(cell.subject, Setup(
                sleep_ms=cell["sleep_ms"], capacity=capacity_for(connections), app=options.app)) as server:
            load = generator_named(options.generator)(
                server.port, connections, cell["keep_alive"], warmup=options.warmup, duration=options.seconds,
                timeout=options.timeout, watch=server.pid, core=load_core(), meanwhile=server.look)
            others = server.others()
            record.detail = {"load": asdict(load) | {"answers": []}, "others": others,
                             "starts": _starts(server.ended())}
            record.metrics = {
                "ok_per_s": load.ok / load.seconds, "p50_ms": load.p50_ms, "p99_ms": load.p99_ms,
                "little": load.ok / load.seconds * load.mean_ms / 1e3, "threads": server.most_threads}
            if load.server_cpu is not None and load.ok:
                record.metrics["cpu_us"] = 1e6 * load.server_cpu / load.ok
            record.flaws, record.detail["notes"] = flaws_of(load, connections), notes_of(load, others)
        return record

    def figures(self, results: Results) -> list[Drawing]:
        drawings = []
        for connections, every in figures_of(results).items():
            name = f"bars-{connections}"
            drawings.append(Drawing(name, svg_of(bars(every), name), (
                f"{connections} clients. Above: responses a second, the thin line from the lowest round to the "
                "highest. Below: the server's CPU for each of them, the steadiest figure. Hatched: it compares with "
                "nothing, for the reason written in it.")))
        return drawings

    def says(self, results: Results) -> list[Saying]:
        sleeps = results.meta.get("measured_sleep_ms", {})
        every = figures_of(results)
        return [*(_effect(some) for some in every.values()),
                *(Saying(line, _judged(line), f"{heading} ({connections} clients)" if len(every) > 1 else heading)
                  for connections, some in every.items()
                  for heading, lines in verdict.paragraphs(some, sleeps) for line in lines)]

    def text(self, results: Results) -> str:
        every = figures_of(results)
        sleeps = results.meta.get("measured_sleep_ms", {})
        parts = [table.render(some) for some in every.values()] + [table.LEGEND, "What the figures say"]
        parts += [textwrap.fill(str(_effect(some)), 116, break_on_hyphens=False) for some in every.values()]
        parts += [verdict.verdict(some, sleeps) for some in every.values()]
        return "\n\n".join(parts)

    def setting(self, meta: Mapping[str, Any]) -> str:
        """How the subjects are set up, in words."""
        most = max(meta["options"]["connections"])
        setup = Setup(capacity=capacity_for(most), app=meta["options"]["app"])
        said = "; ".join(find_subject(name).settings(setup) for name in meta["options"]["subjects"])
        sleeps = ", ".join(f"sleep({ms} ms) takes {taken:.3f} ms" for ms, taken in meta["measured_sleep_ms"].items())
        return textwrap.fill(f"Each has room for {_MARGIN} connections more than come, and all else is its default: "
                             f"{said}. On this machine {sleeps}.", 116, break_on_hyphens=False)


def figures_of(results: Results) -> dict[int, list[Figures]]:
    """What tables and sentences are made of, by the number of connections."""
    runs: dict[int, list[Run]] = {}
    for record in results.records:
        cell, detail = record.cell, record.detail
        run = Run(LoadCell(cell.subject, cell["keep_alive"], cell["sleep_ms"]), record.block, cell["connections"],
                  Result(**detail["load"]) if "load" in detail else None,
                  threads=int(record.metrics.get("threads", 0)), others=detail.get("others", 0.0),
                  starts=detail.get("starts"), failed=record.failed)
        runs.setdefault(cell["connections"], []).append(run)
    return {connections: figures(runs[connections]) for connections in sorted(runs)}


def _starts(state: dict[str, Any]) -> float | None:
    """Threads that were started for each connection; None if the server does not tell."""
    return sum(state["grown"].values()) / state["accepted"] if state.get("accepted") else None


def _effect(some: list[Figures]) -> Saying:
    """What the experiment is about: who starts a thread for a connection, hands it over, or neither."""
    by_load = {(one.cell.model, one.cell.keep_alive): one for one in some if not one.cell.sleep_ms and not one.unfit}
    off = [by_load.get((model, False)) for model in _THREE]
    on = [by_load.get((model, True)) for model in _THREE]
    connections = f"{some[0].connections} connections"
    if None in off:
        return Saying(f"{connections}: what a thread start and a hand-off cost cannot be told, because {_THREE[0]}, "
                      f"{_THREE[1]} and {_THREE[2]} without keep-alive and without a sleep are not all among the runs "
                      "that may be compared.")
    recycling, pool, thread = (one for one in off if one is not None)
    said = (f"{connections}: where every request has its own, who hands nothing over (recycling-hold) answers "
            f"{recycling.rate:,.0f} a second, who hands over to a worker (pool-hold) {pool.rate:,.0f}, who starts a "
            f"thread (thread) {thread.rate:,.0f}")
    if None not in on:
        rates = ", ".join(f"{one.rate:,.0f}" for one in on if one is not None)
        said += f"; where connections are kept, and so all this happens once, {rates}"
    return Saying(f"{said}.", recycling.low > pool.high and pool.low > thread.high)


def _judged(line: str) -> bool | None:
    """Of a claim: whether it held. None for what is no claim, or not for sure, since blocks disagree."""
    if "Not for sure" in line or "HOLD" not in line:
        return None
    return "DOES NOT HOLD" not in line
