"""`python -m bench compare`: every model under every load, in interleaved rounds, as a table, a picture and sentences.

One run is: a fresh server process with one model, on one core; a load process on another; the warm-up; the time that
counts; the end of both. A round is all cells of the matrix, once each, shuffled: whatever else the machine is busy with
then hits all models alike. Runs are kept as they come, so that one broken off is not lost.
"""

from __future__ import annotations

import argparse
import json
import random
import textwrap
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import machine, picture, table, wrk
from bench.cells import Cell, Run, figures, read_runs
from bench.children import ROOT, ChildError, cores, running
from bench.models import find_model
from bench.processes import serving_threads, tree
from bench.progress import Progress
from bench.result import Result
from bench.verdict import verdict

__all__ = ["capacity_for", "report", "run_cell", "run_compare"]

_MARGIN = 28
"""Connections that a model has room for beyond those of the load, the last of which may still be closing."""


def capacity_for(connections: int) -> int:
    """What every model is given room for."""
    return connections + _MARGIN


def run_compare(options: argparse.Namespace) -> int:
    """Measure what `options` ask for, keep it, show it; return the exit status."""
    cells = [Cell(model, keep_alive, sleep) for keep_alive in options.keep_alive for sleep in options.sleeps
             for model in options.models]
    shuffle = random.Random(options.seed)
    plan = [(number, cell) for number in range(1, options.rounds + 1) for cell in shuffle.sample(cells, len(cells))]
    meta = machine.describe(options.sleeps) | {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "options": {name: value for name, value in vars(options).items()
                    if isinstance(value, (bool, int, float, str, list))},
        "capacity": capacity_for(options.connections),
        "pinned": cores(),
    }
    folder = options.out or ROOT / "bench" / "results" / f"{datetime.now():%Y-%m-%d-%H%M%S}-{meta['host']}"
    folder.mkdir(parents=True, exist_ok=True)
    _keep(folder, meta)
    print(_introduction(options, meta, len(plan)), flush=True)
    progress = Progress(len(plan), options.warmup + options.duration + 0.6)
    try:
        with open(folder / "runs.jsonl", "w", encoding="utf-8") as lines:
            for number, cell in plan:
                progress.begin(str(cell))
                run = run_cell(cell, options, number)
                print(run.to_json(), file=lines, flush=True)
                progress.end(f"{cell}: " + (f"{run.load.ok / run.load.seconds:,.0f} ok/s" if run.load else run.failed))
    except KeyboardInterrupt:
        progress.clear()
        print(f"Interrupted. What has been measured is kept, and can be seen with: python -m bench report {folder}")
        return 130
    progress.clear()
    _keep(folder, meta | {"took_s": round(progress.seconds())})
    return report(folder, options.picture)


def run_cell(cell: Cell, options: argparse.Namespace, number: int = 1) -> Run:
    """Run one cell once. What goes wrong in a child is a Run with `failed`: the other cells are still worth having."""
    run = Run(cell, number, options.connections, capacity_for(options.connections))
    server_core, load_core = cores()
    with running(["bench.server", "--model", cell.model, "--sleep", f"{cell.sleep_ms:g}",
                  "--capacity", str(run.capacity)], server_core) as server:
        def look() -> None:
            run.threads = max(run.threads, serving_threads(pids))

        try:
            port = int(server.line(timeout=20))
            pids = tree(server.pid)
            noise = machine.Noise(server_core, pids)
            generator = wrk.measure if options.generator == "wrk" else _built_in
            run.load = generator(port, options.connections, cell.keep_alive, warmup=options.warmup,
                                 duration=options.duration, timeout=options.timeout, watch=server.pid,
                                 core=load_core, meanwhile=look)
            run.others = noise.share()
            server.close_input()
            run.server = json.loads(server.line(timeout=10))
        except (ChildError, OSError, ValueError) as error:
            run.load, run.failed = None, str(error)
        run.said = server.complaint()
        if run.failed and run.said not in run.failed:
            run.failed += f"; the server said{run.said}"
    return run


def _built_in(port: int, connections: int, keep_alive: bool, *, warmup: float, duration: float, timeout: float,
              watch: int, core: int | None, meanwhile: Callable[[], None]) -> Result:
    """`bench.load` in a process of its own, on `core`."""
    with running(["bench.load", "--port", str(port), "--connections", str(connections), "--warmup", str(warmup),
                  "--duration", str(duration), "--timeout", str(timeout), "--watch", str(watch),
                  *([] if keep_alive else ["--no-keep-alive"])], core) as child:
        return Result(**json.loads(child.line(warmup + duration + 20, meanwhile)))


def report(folder: Path, with_picture: bool) -> int:
    """Show what is kept in `folder`: table, picture, sentences. Returns the exit status: 1 if every cell failed."""
    every = figures(read_runs(folder))
    meta: dict[str, Any] = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    print(f"\n{table.render(every)}\n\n{table.LEGEND}\n")
    print(f"What the figures say\n\n{verdict(every, meta['measured_sleep_ms'])}")
    print(f"\nRaw results: {folder}/runs.jsonl and meta.json; again from them: python -m bench report {folder}")
    if with_picture:
        try:
            rounds = f"{meta['options']['rounds']} rounds of {meta['options']['duration']:g} s over loopback"
            paths = picture.draw(every, folder, f"{rounds}; {_machine(meta)}")
            print("Picture: " + " and ".join(map(str, paths)))
        except ImportError:
            print(picture.MISSING)
    return int(all(one.failed for one in every))


def _introduction(options: argparse.Namespace, meta: dict[str, Any], runs: int) -> str:
    server_core, load_core = meta["pinned"]
    pinned = ("one core only: server and generator share it, and take from each other" if server_core is None else
              f"server on core {server_core}, generator on core {load_core}")
    models = ", ".join(find_model(name).spelled(meta["capacity"]) for name in options.models)
    models = textwrap.fill(models, 116, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    seconds = runs * (options.warmup + options.duration + 0.6)
    sleeps = ", ".join(f"sleep({ms} ms) takes {taken:.3f} ms" for ms, taken in meta["measured_sleep_ms"].items())
    return (f"{_machine(meta)}\n"
            f"Pinned: {pinned}. Here {sleeps}.\n"
            f"Capacity: each model has room for {meta['capacity']} connections, {options.connections} come; all else is"
            f" its default:\n{models}\n"
            f"{runs} runs of {options.warmup:g} s warm-up and {options.duration:g} s, {options.rounds} of each cell, "
            f"shuffled with seed {options.seed}, generator {options.generator}: about {seconds:.0f} s.\n")


def _machine(meta: dict[str, Any]) -> str:
    gil = "" if meta["gil"] else ", no GIL"
    return (f"{meta['started'][:10]}, {meta['cpu']}, {meta['cores']} cores, Linux {meta['kernel']}, "
            f"Python {meta['python']}{gil}, commit {meta['git'] or 'unknown'}")


def _keep(folder: Path, meta: dict[str, Any]) -> None:
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")
