"""`python -m bench regress A B`: is B slower than A? Two commits, or one and the working tree, side by side.

Both run the same cells in pairs, one behind the other, in an order that is drawn for each pair; so what the machine is
busy with, and how fast it is that day, hits both. Of each pair the ratio B over A is taken: of CPU for each response,
and of responses a second. A cell is slower if its cost grew by more than the tolerance with all of the 95 % interval
(`bench.lab.statistics`); then the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

from bench import machine
from bench.cells import Cell
from bench.children import ChildError, cores, running
from bench.clients import wrk
from bench.lab.statistics import Ratio, ratio_of
from bench.progress import Progress
from bench.studies.regress.sides import Side, SideError, copies
from bench.studies.speed.run import NO_WRK, run_once, words_of
from bench.studies.steps.study import NO_VALGRIND, OPERATIONS_FILE, instructions
from bench.table import grid

__all__ = ["Row", "render", "run_regress", "verdict"]

_CONNECTIONS = 100


@dataclass(frozen=True)
class Row:
    """One cell, or one step: what both sides needed for it, and the ratios."""

    name: str
    unit: str
    a: float
    b: float
    """Medians, in `unit`."""
    cost: Ratio
    """Of B over A: above 1, B is slower."""
    rate: Ratio | None = None
    """Of responses a second; above 1, B is faster."""


def run_regress(options: argparse.Namespace) -> int:
    """Compare; 1 if something is slower, 2 if it cannot be run."""
    steps = options.steps or options.instructions
    if not steps and not wrk.installed():
        print(NO_WRK)
        return 2
    if options.instructions and not shutil.which("valgrind"):
        print(NO_VALGRIND)
        return 2
    try:
        with copies(options.a, options.b) as (a, b):
            pairs = "" if options.instructions else f"{options.pairs} pairs. "
            interval = "" if options.instructions else ", with all of the 95 % interval"
            print(f"{machine.one_line()}\nA: {a.name}\nB: {b.name}\n{pairs}Slower is what costs more than "
                  f"{options.tolerance:g} % more{interval}.\n", flush=True)
            shuffle = random.Random(options.seed)
            rows, problems = (_steps if steps else _served)(a, b, options, shuffle)
    except SideError as error:
        print(error)
        return 2
    print(render(rows))
    for problem in problems:
        print(textwrap.fill(f"Left out: {problem}", 116, initial_indent="  ", subsequent_indent="    "))
    text, slower = verdict(rows, options.tolerance)
    print(f"\n{text}")
    if options.json:
        options.json.write_text(json.dumps({"a": a.name, "b": b.name, "rows": [_as_json(row) for row in rows]},
                                           indent=1) + "\n", encoding="utf-8")
    return 2 if not rows else int(slower)


def verdict(rows: Sequence[Row], tolerance: float) -> tuple[str, bool]:
    """What the ratios say, in words; whether something is slower. tolerance: in per cent."""
    if not rows:
        return "Nothing could be compared.", False
    most = 1 + tolerance / 100
    slower = [row for row in rows if row.cost.above(most) or (row.rate is not None and row.rate.below(1 / most))]
    faster = [row for row in rows if row.cost.below(1 / most)]
    said = [f"{row.name}: B is {what}, cost {row.cost}" + (f", responses a second {row.rate}" if row.rate else "")
            for what, which in (("SLOWER", slower), ("faster", faster)) for row in which]
    said += [f"{row.name}: B costs more, but perhaps by less than {tolerance:g} %: {row.cost}"
             for row in rows if row.cost.above(1.0) and row.cost.pairs > 1 and row not in slower]
    if not slower:
        said.append(f"No cell is slower by more than {tolerance:g} %.")
    if rows[0].unit == "instructions":
        return "\n".join(said), bool(slower)
    widest = max(rows, key=lambda row: row.cost.high / row.cost.low)
    said.append(f"The widest interval is that of {widest.name}: it cannot tell what is below "
                f"{widest.cost.high / widest.cost.value - 1:.1%}. More --pairs make it narrower.")
    return "\n".join(said), bool(slower)


def render(rows: Sequence[Row]) -> str:
    lines = [("cell", "A", "B", "unit", "B/A cost (95 %)", "B/A ok/s (95 %)", "", "")]
    lines += [(row.name, f"{row.a:,.2f}", f"{row.b:,.2f}", row.unit, str(row.cost), str(row.rate or "-"), "", "")
              for row in rows]
    return grid(lines)


def _served(a: Side, b: Side, options: argparse.Namespace, shuffle: random.Random) -> tuple[list[Row], list[str]]:
    """Servers under wrk."""
    cells = [Cell(options.model, keep_alive, sleep) for keep_alive, sleep in options.cells]
    progress = Progress(2 * options.pairs * len(cells), options.seconds + 1)

    def run(cell: Cell, side: Side) -> tuple[float, float]:
        what = f"{'A' if side is a else 'B'}, {words_of(cell)}"
        progress.begin(what)
        arguments = ["--model", cell.model, "--sleep", f"{cell.sleep_ms:g}", *options.server]
        done = run_once(side.command("bench.server", *arguments), cell, _CONNECTIONS, options.seconds, 0)
        if done.load is None or not done.load.server_cpu or not done.load.ok:
            raise ChildError(f"{what}: {done.failed or 'no answer'}")
        cost, rate = 1e6 * done.load.server_cpu / done.load.ok, done.load.ok / done.load.seconds
        progress.end(f"{what}: {cost:.1f} us")
        return cost, rate

    measured: dict[Cell, list[tuple[tuple[float, float], tuple[float, float]]]] = {cell: [] for cell in cells}
    problems: dict[Cell, str] = {}
    for _ in range(options.pairs):
        for cell in shuffle.sample(cells, len(cells)):
            if cell not in problems:
                try:
                    measured[cell].append(_pair(a, b, partial(run, cell), shuffle))
                except ChildError as error:
                    problems[cell] = str(error)
    progress.clear()
    rows = []
    for cell, pairs in measured.items():
        if cell not in problems:
            rows.append(_row(words_of(cell), "CPU us", [x[0] for x, _ in pairs], [y[0] for _, y in pairs],
                             ([x[1] for x, _ in pairs], [y[1] for _, y in pairs])))
    return rows, list(problems.values())


def _steps(a: Side, b: Side, options: argparse.Namespace, shuffle: random.Random) -> tuple[list[Row], list[str]]:
    """The steps of a request: this checkout's operations, on each side's code. Instructions need no second run."""
    rounds = 1 if options.instructions else options.pairs
    progress = Progress(2 * rounds, 10)
    core = cores()[0]

    def run(side: Side) -> dict[str, Any]:
        progress.begin("A" if side is a else "B")
        with running(side.command(str(OPERATIONS_FILE)), core) as child:
            done: dict[str, Any] = json.loads(child.line(300))
        progress.end("A" if side is a else "B")
        return done

    pairs = [_pair(a, b, run, shuffle) for _ in range(rounds)]
    progress.clear()
    problems: dict[str, list[str]] = {}
    for side, half in zip("AB", pairs[0], strict=True):
        for name, one in half.items():
            if isinstance(one, str):
                problems.setdefault(f"in {side}, {one}", []).append(name)
    said = [f"{', '.join(names)}: {why}" for why, names in problems.items()]
    names = [name for name in pairs[0][0] if all(isinstance(half.get(name), float) for pair in pairs for half in pair)]
    if options.instructions:
        print(f"counting {len(names)} operations in both...", flush=True)
        before, after = (instructions(side.command(str(OPERATIONS_FILE)), names) for side in (a, b))
        return [_counted(name, before[name], after[name]) for name in names], said
    rows = [_row(name, "us", [x[name] for x, _ in pairs], [y[name] for _, y in pairs]) for name in names]
    return rows, said


def _pair(a: Side, b: Side, run: Callable[[Side], Any], shuffle: random.Random) -> tuple[Any, Any]:
    """Both, in an order that is drawn; what A came to, and B."""
    if shuffle.random() < 0.5:
        first = run(a)
        return first, run(b)
    second = run(b)
    return run(a), second


def _row(name: str, unit: str, a: list[float], b: list[float],
         rates: tuple[list[float], list[float]] | None = None) -> Row:
    return Row(name, unit, median(a), median(b), ratio_of(a, b), ratio_of(*rates) if rates else None)


def _counted(name: str, a: float, b: float) -> Row:
    """Without an interval: there is no spread."""
    return Row(name, "instructions", a, b, Ratio(b / a, b / a, b / a, 1))


def _as_json(row: Row) -> dict[str, Any]:
    return {"name": row.name, "unit": row.unit, "a": row.a, "b": row.b, "cost": vars(row.cost),
            "rate": vars(row.rate) if row.rate else None}
