"""`python -m bench scale`: more connections than threads, more cores than the GIL lets a process use.

    crowd      thousands of idle connections beside active ones: what they cost these, and in memory
    fairness   more active connections than threads: who is served, and how long do newcomers wait
    loop       an event loop whose handlers sleep, and threads for them
    cores      a handler that computes, in one process and in two
    price      what parking costs: context switches and CPU for each request

Each experiment is a module, scale_NAME, whose first lines say what it does. For each claim a line says PASS or FAIL.
"""

from __future__ import annotations

import argparse
import json
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench import machine
from bench.children import cores
from bench.clients.crowd import NEEDED
from bench.processes import raise_open_files
from bench.progress import Progress
from bench.studies.scale import cores as scale_cores
from bench.studies.scale import crowd as scale_crowd
from bench.studies.scale import fairness as scale_fairness
from bench.studies.scale import loop as scale_loop
from bench.studies.scale import picture as scale_picture
from bench.studies.scale import price as scale_price
from bench.studies.scale.trial import Finding, Options, Report

__all__ = ["EXPERIMENTS", "run_scale"]

_NOISY = 0.1
"""A share of the machine above which it is said that others had it, and that a FAIL may be theirs."""


@dataclass(frozen=True)
class _Experiment:
    title: str
    steps: Callable[[Options], int]
    run: Callable[[Options, Progress], Report]


EXPERIMENTS = {
    "crowd": _Experiment("Idle connections beside active ones", scale_crowd.steps, scale_crowd.run),
    "fairness": _Experiment("More active connections than threads", scale_fairness.steps, scale_fairness.run),
    "loop": _Experiment("An event loop whose handlers sleep", scale_loop.steps, scale_loop.run),
    "cores": _Experiment("A handler that computes, and two cores", scale_cores.steps, scale_cores.run),
    "price": _Experiment("What parking costs for each request", scale_price.steps, scale_price.run),
}


def run_scale(options: argparse.Namespace) -> int:
    """Run what the command line asks for; 1 if a claim did not hold, 2 if the machine does not allow it."""
    asked = Options(rounds=options.rounds, seconds=options.seconds, idle=options.idle)
    if "crowd" in options.only:
        try:
            raise_open_files(asked.idle + NEEDED)
        except OSError as error:
            print(f"{error}. Raise it, or ask for fewer: --idle N")
            return 2
    chosen = {name: EXPERIMENTS[name] for name in EXPERIMENTS if name in options.only}
    server_core, load_core = cores()
    print(f"{machine.one_line()}\n" + ("" if server_core is None else f"Server on core {server_core}, load on core "
          f"{load_core}, but for cores, which has both for both.\n"), flush=True)
    progress = Progress(sum(one.steps(asked) for one in chosen.values()), 1.5 * asked.seconds + 2)
    findings: list[Finding] = []
    kept: dict[str, Any] = {"machine": machine.describe([]), "options": vars(asked)}
    for name, experiment in chosen.items():
        noise = machine.Noise(None)
        report = experiment.run(asked, progress)
        progress.clear()
        others = noise.share()
        kept[name] = {"data": report.data, "others": others, "findings": [str(one) for one in report.findings]}
        print(f"\n{name}: {experiment.title}\n\n{report.table}\n", flush=True)
        for line in [*report.findings, *report.notes, _said_of(others)]:
            print(textwrap.fill(str(line), 116, initial_indent="  ", break_on_hyphens=False,
                                subsequent_indent="        " if isinstance(line, Finding) else "  "))
        print(flush=True)
        findings += report.findings
    if options.picture and "fairness" in kept:
        options.picture.write_text(_picture(kept["fairness"]["data"]), encoding="utf-8")
    if options.json:
        options.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    failed = [one for one in findings if not one.holds]
    print(f"{len(findings) - len(failed)} of {len(findings)} claims hold here; {progress.seconds() / 60:.0f} minutes, "
          f"until {time.strftime('%H:%M')}." + "".join(f"\n  not: {one.claim}" for one in failed))
    return int(bool(failed))


def _picture(runs: list[dict[str, Any]]) -> str:
    """Of the last round."""
    answers = {one["case"]: one["answers"] for one in runs}
    panels = {"recycling-hold": "recycling, idle=hold", "recycling-park": "recycling, idle=park",
              "recycling-park, inline=always": "pipelining, inline=always",
              "recycling-park, inline=fair": "pipelining, inline=fair"}
    return scale_picture.draw({title: answers[case] for case, title in panels.items()}, machine.one_line())


def _said_of(others: float) -> str:
    line = f"Meanwhile others (processes that are not ours, and the hypervisor) had {others:.0%} of the machine."
    return line + (" That may be why, if something fails." if others > _NOISY else "")
