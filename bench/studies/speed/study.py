"""`python -m bench speed`: what a request costs, ours and others', and whether what is claimed holds.

One run is: a fresh server on one core, a short warm-up, wrk on another core with one thread, the end of both. A round
is every run of the plan, once, shuffled; whatever else the machine is busy with then hits all alike. Figures are
medians of the rounds. Who takes part is in `bench.studies.speed.entrants`, what is claimed in
`bench.studies.speed.claims`.
"""

from __future__ import annotations

import argparse
import json
import random
import textwrap
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from bench import machine
from bench.cells import Cell, Figures, Run, figures
from bench.children import cores
from bench.clients import wrk
from bench.interpreters import Interpreter, ask
from bench.progress import Progress
from bench.studies.speed import transfer as speed_transfer
from bench.studies.speed.claims import Measured, calibration, few, judge
from bench.studies.speed.entrants import FAST, INSTALL, LEAN, SUBJECTS, Entrant, versions
from bench.studies.speed.run import NO_WRK, run_once
from bench.table import grid, problems

__all__ = ["CELLS", "plan", "run_speed", "show"]

CELLS = [(keep_alive, sleep) for keep_alive in (True, False) for sleep in (0.0, 0.1, 1.0)]
"""Keep-alive, and milliseconds that the handler sleeps."""
_USUAL, _CROWDED = 100, 400
"""Connections."""
_NOISY = 0.1
"""Share of the server's core that others had, beyond which a run is repeated, once."""
_LEGEND = """\
CPU us    microseconds, user and system, of all processes of the server, for each 2xx response: median (lowest–highest)
ok/s      2xx responses a second
p50, p99  ms that half of the requests, and 99 in 100, took at most, as wrk has it: from the request written on
X·R       ok/s times mean latency: how many of the connections were in service; above, wrk has corrected for pauses"""


def plan(subjects: Sequence[Entrant], cells: Sequence[tuple[bool, float]], everywhere: bool) -> list[tuple[Cell, int]]:
    """What one round runs: cells, and their connections. everywhere: all subjects in all cells, as if asked for."""
    runs = [(Cell(subject.name, keep_alive, sleep), _USUAL) for subject in subjects for keep_alive, sleep in cells
            if everywhere or subject.everywhere or not sleep]
    return runs + [(Cell(subject.name, keep_alive, sleep), _CROWDED) for subject in subjects
                   if subject.name in (FAST, LEAN) for keep_alive, sleep in cells if not sleep]


def run_speed(options: argparse.Namespace) -> int:
    """Run what the command line asks for; 1 if a claim did not hold, 2 if it cannot be run."""
    if not wrk.installed():
        print(NO_WRK)
        return 2
    try:
        there = ask(options.python)
    except ValueError as error:
        print(f"{error}: give another --python")
        return 2
    asked = [subject.run_by(options.python) for subject in options.only or SUBJECTS.values()]
    absent = {subject.name: missing for subject in asked if (missing := subject.missing())}
    subjects = [subject for subject in asked if subject.name not in absent]
    runs = plan(subjects, options.cells, bool(options.only))
    shuffle = random.Random(options.seed)
    rounds = [(number, cell, connections) for number in range(1, options.rounds + 1)
              for cell, connections in shuffle.sample(runs, len(runs))]
    print(_introduction(options, subjects, absent, there, len(rounds)), flush=True)
    noise, progress = machine.Noise(None), Progress(len(rounds), options.seconds + 1)
    done: list[Run] = []
    moved: dict[str, list[dict[str, Any]]] = {}
    interrupted = False
    try:
        for number, cell, connections in rounds:
            what = f"{cell}, {connections} connections"
            progress.begin(what)
            done.append(_run(options, cell, connections, number))
            progress.end(f"{what}: " + (done[-1].failed or f"{_cost(done[-1]):.1f} us"))
        progress.clear()
        if not options.quick:
            for subject in subjects:
                if subject.name in (FAST, LEAN):
                    moved[subject.name] = speed_transfer.measure(subject.command(0.0))
    except KeyboardInterrupt:  # what has been measured is worth seeing
        interrupted = True
        progress.clear()
        print("Interrupted; so far:")
    holds = show(done, moved, "httptools" in there.packages)
    print(f"\n{progress.seconds() / 60:.1f} minutes, until {time.strftime('%H:%M')}. Meanwhile others (processes that "
          f"are not ours, and the hypervisor) had {noise.share():.0%} of the machine.")
    if options.json:
        kept = {"machine": machine.describe([]), "versions": {"python": there.version, **there.packages},
                "runs": [asdict(run) for run in done],
                "transfers": moved}
        options.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        print(f"All runs: {options.json}")
    return 130 if interrupted else int(not holds)


def _run(options: argparse.Namespace, cell: Cell, connections: int, number: int) -> Run:
    command = SUBJECTS[cell.model].run_by(options.python).command(cell.sleep_ms)
    run = run_once(command, cell, connections, options.seconds, number)
    if run.others > _NOISY:  # once more; by who else had the core, not by what came out
        run = min(run, run_once(command, cell, connections, options.seconds, number), key=lambda one: one.others)
    return run


def show(runs: Sequence[Run], moved: dict[str, list[dict[str, Any]]], probe_parses: bool) -> bool:
    """Print tables and claims of what has been run; whether all claims that could be judged hold."""
    usual = figures(run for run in runs if run.connections == _USUAL)
    crowded = figures(run for run in runs if run.connections == _CROWDED)
    measured = Measured({one.cell: one for one in usual}, {one.cell: one for one in crowded}, probe_parses)
    for every in (usual, crowded):
        for keep_alive, sleep in measured.loads:
            if mine := [one for one in every if (one.cell.keep_alive, one.cell.sleep_ms) == (keep_alive, sleep)]:
                print(f"\n{mine[0].cell.load}, {mine[0].connections} connections\n{_table(mine, runs)}")
    print(f"\n{_LEGEND}")
    findings, unjudged = judge(measured)
    if moved:
        print(f"\nOne connection, 100 MB at a time\n{speed_transfer.render(moved)}")
        for name, kinds in moved.items():
            findings += speed_transfer.judge(name, kinds)
    print(f"\n{textwrap.fill(calibration(measured), 116)}\n")
    for line in [*findings, *(f"----  not judged: {text}" for text in unjudged)]:
        print(textwrap.fill(str(line), 116, subsequent_indent="      ", break_on_hyphens=False))
    print(f"\n{sum(one.holds for one in findings)} of {len(findings)} claims hold here, {len(unjudged)} not judged.")
    return all(one.holds for one in findings)


def _table(every: Sequence[Figures], runs: Sequence[Run]) -> str:
    rows: list[tuple[str, ...]] = [("subject", "CPU us", "(low–high)", "ok/s", "p50 ms", "p99 ms", "X·R", "errors",
                                    "notes")]
    for one in sorted(every, key=lambda one: one.cpu_us or float("inf")):
        if one.failed:
            rows.append((one.cell.model, *["-"] * 6, "failed", one.failed))
            continue
        notes = [f"others had {one.others:.0%} of its core"] if one.others > _NOISY else []
        if few(one):
            notes.append(f"about {one.little:.0f} of {one.connections} connections in service")
        if one.generator_bound:
            notes.append("wrk-bound")
        costs = [_cost(run) for run in runs if (run.cell, run.connections) == (one.cell, one.connections) and run.load]
        rows.append((one.cell.model, f"{one.cpu_us or 0:.1f}", f"({min(costs):.1f}–{max(costs):.1f})",
                     f"{one.rate:,.0f}", f"{one.p50_ms:.2f}", f"{one.p99_ms:.2f}", f"{one.little:.0f}", problems(one),
                     "; ".join(notes)))
    return grid(rows)


def _cost(run: Run) -> float:
    """CPU us of the server for each 2xx response."""
    return 1e6 * (run.load.server_cpu or 0.0) / max(1, run.load.ok) if run.load else 0.0


def _introduction(options: argparse.Namespace, subjects: Sequence[Entrant], absent: dict[str, str],
                  there: Interpreter, runs: int) -> str:
    server_core, load_core = cores()
    pinned = ("one core only: server and wrk share it, and take from each other" if server_core is None else
              f"server on core {server_core}, wrk on core {load_core}")
    said = [machine.one_line(), f"Pinned: {pinned}. Servers run in {options.python}, Python {there.version}.",
            f"{runs} runs of {options.seconds} s, seed {options.seed}: {runs * (options.seconds + 0.8) / 60:.0f} min.",
            "", versions(subjects), ""]
    if absent:
        said.append("Left out, because something is not installed: "
                    + "; ".join(f"{name} ({missing})" for name, missing in absent.items())
                    + f". {INSTALL}.\n")
    return "\n".join(said)

