"""Results that nobody has measured, for the tests of the lab: a preset in memory, and folders of made-up runs."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.lab.preset import Drawing, Options, Preset, Saying
from bench.lab.record import Cell, Record, Results

__all__ = ["SVG", "MadeUp", "folder_of", "meta_of", "runs_of"]

SVG = ('<svg xmlns:xlink="http://www.w3.org/1999/xlink" width="360pt" height="90pt" viewBox="0 0 360 90" '
       'xmlns="http://www.w3.org/2000/svg"><defs><clipPath id="p1"><rect width="9" height="9"/></clipPath></defs>'
       '<g clip-path="url(#p1)"><use xlink:href="#p1"/></g></svg>')


class MadeUp(Preset):
    """Runs are made up by `run`; what it says and draws, by whoever made it."""

    name = "made-up"
    title = "Who is <fast> & who is not"
    question = "What is asked?\n\nAnd why?"
    prediction = "What was expected before."
    method = "How it was done."
    defaults = Options(subjects=("single", "thread"), blocks=2, seconds=0.1, warmup=0.0, connections=(10, 100),
                       keep_alive=(True,), sleeps_ms=(0.0,))

    def __init__(self, sayings: list[Saying] | None = None) -> None:
        self.sayings = [Saying("A is faster.", True)] if sayings is None else sayings
        self.ran: list[tuple[int, Cell]] = []

    def cells(self, options: Options) -> list[Cell]:
        return [Cell.of(subject, keep_alive=keep_alive, connections=connections)
                for keep_alive in options.keep_alive or () for connections in options.connections or ()
                for subject in options.subjects or ()]

    def run(self, cell: Cell, block: int, options: Options) -> Record:
        self.ran.append((block, cell))
        return Record(cell, block, {"cpu_us": 40.0 + block, "ok_per_s": 1e4}, {"others": 0.01})

    def figures(self, results: Results) -> list[Drawing]:
        return [Drawing("bars", SVG, "Bars of it. Shorter is better.")]

    def says(self, results: Results) -> list[Saying]:
        return self.sayings


def runs_of(cell: Cell, blocks: int, rng: random.Random, noise: float = 0.01, **metrics: float) -> list[Record]:
    """Runs of `cell`, whose `metrics` scatter by `noise`."""
    return [Record(cell, block, {name: value * rng.lognormvariate(0, noise) for name, value in metrics.items()},
                   {"others": 0.01}) for block in range(1, blocks + 1)]


def meta_of(made_up: Preset, **more: Any) -> dict[str, Any]:
    return {"preset": made_up.name, "started": "2026-11-26T10:00:00+00:00", "cpu": "A CPU", "cores": 2,
            "cores_usable": [0, 1], "kernel": "6.1", "python": "3.11.7", "gil": True, "git": "0123456789ab",
            "host": "here", "pinned": [0, 1], "packages": {"h11": "0.16.0", "httptools": None},
            "measured_sleep_ms": {"1": 1.07}, "options": asdict(made_up.defaults) | {"seed": 7},
            "cells": [[cell.subject, [list(axis) for axis in cell.axes]] for cell in made_up.cells(made_up.defaults)],
            } | more


def folder_of(folder: Path, records: list[Record], meta: Mapping[str, Any]) -> Path:
    """Write them as `bench run` does."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    (folder / "runs.jsonl").write_text("".join(record.to_json() + "\n" for record in records), encoding="utf-8")
    return folder
