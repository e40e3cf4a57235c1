"""`python -m bench run PRESET`: blocks in a shuffled order, kept as they come, resumed where they stopped.

A block is every cell of the preset once, in an order drawn from the seed; whatever else the machine is busy with then
hits all cells alike. Each run has a server process of its own. Runs are written as they come, one line of JSON each:
what has been broken off goes on with --resume.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import interpreters, machine
from bench.children import ROOT, cores
from bench.lab.preset import Options, Preset
from bench.lab.record import Cell, Results
from bench.progress import Progress

__all__ = ["blocks_within", "default_folder", "plan", "run_preset", "seconds_of"]

RESULTS = ROOT / "bench" / "results"


def plan(cells: Sequence[Cell], blocks: int, seed: int) -> list[tuple[int, Cell]]:
    """(block, cell), in the order of the runs: the same for the same seed."""
    shuffle = random.Random(seed)
    return [(block, cell) for block in range(1, blocks + 1) for cell in shuffle.sample(cells, len(cells))]


def seconds_of(preset: Preset, options: Options) -> float:
    """What it is guessed to take."""
    return (options.blocks or 1) * sum(preset.seconds(cell, options) for cell in preset.cells(options))


def blocks_within(preset: Preset, options: Options, budget_s: float) -> int:
    """How many blocks fit into `budget_s` seconds; at least 1."""
    one = sum(preset.seconds(cell, options) for cell in preset.cells(options))
    return max(1, int(budget_s / one))


def default_folder(preset: str, host: str) -> Path:
    return RESULTS / f"{datetime.now():%Y-%m-%d-%H%M%S}-{preset}-{host}"


def run_preset(preset: Preset, options: Options, folder: Path | None, *, resume: bool = False) -> Path | None:
    """Measure; return the folder with all that was measured, or None if it was interrupted, which is said.

    resume: `folder` holds what an earlier call has left: its runs count, and its options and seed are used.
    """
    done: set[tuple[int, Cell]] = set()
    if resume:
        assert folder is not None
        before = Results.read(folder)
        meta: dict[str, Any] = before.meta
        options = options_of(meta)
        for path in meta.get("pythons", {}).values():
            interpreters.know(path)
        done = {(record.block, record.cell) for record in before.records}
        _end_with_a_line(folder / "runs.jsonl")
    else:
        if folder is not None and (folder / "runs.jsonl").exists():
            raise FileExistsError(f"{folder} holds results already: --resume goes on with them, or give another --out")
        options = preset.prepare(options)
        meta = _meta(preset, options)
        folder = folder or default_folder(preset.name, meta["host"])
        folder.mkdir(parents=True, exist_ok=True)
        _keep(folder, meta)
    cells = preset.cells(options)
    left = [(block, cell) for block, cell in plan(cells, options.blocks or 1, options.seed)
            if (block, cell) not in done]
    guess = sum(preset.seconds(cell, options) for _, cell in left)
    print(introduction(preset, options, meta, cells, len(left), guess), flush=True)
    progress = Progress(len(left), guess / max(1, len(left)))
    try:
        with open(folder / "runs.jsonl", "a", encoding="utf-8") as lines:
            for block, cell in left:
                progress.begin(str(cell))
                record = preset.run(cell, block, options)
                print(record.to_json(), file=lines, flush=True)
                what = record.failed or "; ".join(record.flaws) or ", ".join(
                    f"{name} {value:,.6g}" for name, value in list(record.metrics.items())[:2])
                progress.end(f"{cell}: {what}")
    except KeyboardInterrupt:
        progress.clear()
        print(f"Interrupted. What has been measured is kept.\n"
              f"To go on:  python -m bench run {preset.name} --resume {folder}\n"
              f"To see what there is:  python -m bench report {folder}")
        return None
    progress.clear()
    _keep(folder, meta | {"took_s": meta.get("took_s", 0) + round(progress.seconds())})
    return folder


def introduction(preset: Preset, options: Options, meta: Mapping[str, Any], cells: Sequence[Cell], runs: int,
                 guess: float) -> str:
    """What is about to be done, and for how long."""
    server_core, other = meta["pinned"]
    where = ("One core only: server and load share it, and take from each other." if server_core is None else
             f"Server on core {server_core}, load on core {other}.")
    return (f"{preset.title}\n{machine_line(meta)}\n{where}\n"
            f"{runs} runs ({len(cells)} cells, {options.blocks} blocks, shuffled with seed {options.seed}): "
            f"about {_minutes(guess)}.\n")


def machine_line(meta: Mapping[str, Any]) -> str:
    gil = "" if meta["gil"] else ", no GIL"
    return (f"{meta['started'][:10]}, {meta['cpu']}, {meta['cores']} cores, Linux {meta['kernel']}, "
            f"Python {meta['python']}{gil}, commit {meta['git'] or 'unknown'}")


def options_of(meta: Mapping[str, Any]) -> Options:
    """The options that a folder's runs were made with."""
    return Options(**meta["options"])


def _meta(preset: Preset, options: Options) -> dict[str, Any]:
    cells = preset.cells(options)
    return machine.describe(list(options.sleeps_ms or [])) | {
        "preset": preset.name,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "options": asdict(options),
        "cells": [[cell.subject, [list(axis) for axis in cell.axes]] for cell in cells],
        "pinned": list(cores()),
        "pythons": interpreters.known(),
    }


def _end_with_a_line(path: Path) -> None:
    """Cut off what was not written to its end, so that nothing is written behind it."""
    text = path.read_bytes()
    if not text.endswith(b"\n"):
        os.truncate(path, text.rfind(b"\n") + 1)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} minutes"


def _keep(folder: Path, meta: Mapping[str, Any]) -> None:
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")
