"""`python -m bench threads`: how threads move what a request costs, and how late the last one comes.

How many threads, which model, which switch interval and so on: each experiment turns one knob, and all else stays as it
is (`bench.studies.threads.plan`). A run is a fresh server on one core, and wrk on another. A round is every run once,
shuffled; whatever else the machine does then hits all alike. Figures are medians of the rounds, and what is called a
difference is beyond how far the rounds of one setting are apart. docs/threads.md says why it comes out so, and has the
tables in the form in which this prints them: `--page docs/threads.md` puts them there.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import machine
from bench.children import ChildError, cores
from bench.clients import wrk
from bench.progress import Progress
from bench.studies.speed.run import NO_WRK
from bench.studies.threads.plan import EXPERIMENTS, LOADS, Experiment, plan
from bench.studies.threads.report import LEGEND, NOISY, blocks, fill
from bench.studies.threads.run import Run, run_once, system_calls

__all__ = ["run_threads"]


def run_threads(options: argparse.Namespace) -> int:
    """Run what the command line asks for, or show what an earlier time has kept; 2 if it cannot be run, 130 if it was
    interrupted: what has been measured by then is shown and kept."""
    if options.again:
        kept = json.loads(options.again.read_text(encoding="utf-8"))
        _show(options, kept)
        return 0
    if not wrk.installed():
        print(NO_WRK)
        return 2
    kept, interrupted = _measure(options)
    if options.json:
        options.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    _show(options, kept)
    if options.json:
        print(f"All runs: {options.json}")
    return 130 if interrupted else 0


def _measure(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """All that there is to be kept, and whether somebody has interrupted it."""
    runs, shuffle = plan(options.only), random.Random(options.seed)
    rounds = [(number, *one) for number in range(1, options.rounds + 1) for one in shuffle.sample(runs, len(runs))]
    described, (server_core, load_core) = machine.describe([]), cores()
    where = machine.one_line() + ("" if described["gil"] else ", without a GIL")
    print(f"{where}\n"
          + ("One core only: server and wrk share it, and take from each other. " if server_core is None else
             f"Server on core {server_core}, wrk on core {load_core}. ")
          + f"{len(rounds)} runs of {options.seconds} s, seed {options.seed}: "
          f"{len(rounds) * (options.seconds + 0.6) / 60:.1f} min.\n", flush=True)
    noise, progress = machine.Noise(None), Progress(len(rounds), options.seconds + 0.6)
    done: list[Run] = []
    traced: dict[str, dict[str, float]] = {}
    interrupted = False
    try:
        for number, arguments, load in rounds:
            what = f"{' '.join(arguments[1:])}, {LOADS[load].words}"
            progress.begin(what)
            run = run_once(arguments, load, number, options.seconds)
            if run.others > NOISY:  # once more; by who else had the core, not by what came out
                run = min(run, run_once(arguments, load, number, options.seconds), key=lambda one: one.others)
            done.append(run)
            progress.end(f"{what}: " + (run.failed or f"{run.cpu_us:.1f} us, p99 {run.p99_ms:.1f} ms"))
        for name in options.only:
            traced |= _traced(EXPERIMENTS[name]) if EXPERIMENTS[name].traced else {}
    except KeyboardInterrupt:  # what has been measured is worth seeing
        interrupted = True
    progress.clear()
    minutes = f"{progress.seconds() / 60:.1f} minutes until {time.strftime('%H:%M')}"
    said = (f"{where}; {options.rounds} round{'s' * (options.rounds > 1)} of {options.seconds} s, {minutes}. Others "
            f"(processes that are not ours, and the hypervisor) had {noise.share():.0%} of the machine meanwhile.")
    return {"machine": described, "said": said, "date": time.strftime("%Y-%m-%d"), "only": options.only,
            "runs": [asdict(run) for run in done], "traced": traced}, interrupted


def _traced(experiment: Experiment) -> dict[str, dict[str, float]]:
    """The system calls of each setting; none, and a word on why, where they cannot be counted."""
    if not shutil.which("strace"):
        print("System calls are not counted: strace is not installed. Debian has it: apt install strace", flush=True)
        return {}
    try:
        return {setting.name: system_calls(setting.arguments, experiment.traced) for setting in experiment.settings}
    except (ChildError, OSError, ValueError, KeyError) as error:  # some systems do not let it look: ptrace(2)
        print(f"System calls are not counted: {error}", flush=True)
        return {}


def _show(options: argparse.Namespace, kept: dict[str, Any]) -> None:
    runs = [Run(**run | {"arguments": tuple(run["arguments"])}) for run in kept["runs"]]
    said = blocks(kept["only"], runs, kept["traced"], kept["said"])
    print(LEGEND)
    for name in kept["only"]:
        print(f"\n{name}: {EXPERIMENTS[name].title}")
        for block in (*EXPERIMENTS[name].loads, "calls"):
            if text := said.get(f"{name}/{block}"):
                print(f"\n{text}")
    print("\nWhat differs beyond the rounds' spread: every round of the one is beyond every round of the other. With "
          "three\nrounds chance alone does that once in ten comparisons; with five, once in 126.")
    for name in kept["only"]:
        print(f"\n{name}\n{said[f'{name}/findings']}")
    print(f"\n{said['machine']}")
    if options.page:
        absent = fill(options.page, said, kept["date"])
        print(f"Put into {options.page}" + (f", but for {', '.join(absent)}: not measured" if absent else "") + ".")


def existing(text: str) -> Path:
    """A file that is there, for the command line."""
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text!r}")
    return path
