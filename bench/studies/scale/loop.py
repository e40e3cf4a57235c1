"""`bench scale loop`: what a handler that takes time does to an event loop, and threads that take it off its hands.

32 clients with keep-alive, and a handler that sleeps for nothing, 0.1 or 1 ms: the seed of this project found Woo, an
event loop, to answer 248,000 requests a second without a sleep, and 790 with one of 1 ms. Beside it, models that give
each request a thread anyway.

What was expected: a request that is handed to a thread and back costs some 0.35 ms of CPU, and with a GIL there is one
second of that in a second. So threads are worth it where the handler takes more than that, and not for 0.1 ms; for 1 ms
they give at least three times the answers. The other models hand nothing over, and gain from 0.1 ms on.
"""

from __future__ import annotations

import random
from dataclasses import asdict
from statistics import median
from typing import Any

from bench.machine import measured_sleep_ms
from bench.models import OFFLOADED
from bench.progress import Progress
from bench.studies.scale.trial import Finding, Load, Options, Report, measure, serving, step
from bench.table import grid

__all__ = ["run", "steps"]

_MODELS = ("loop", "loop-threads", "recycling-park", "recycling-hold", "pool-park")
_SLEEPS = (0.0, 0.1, 1.0)
_CLIENTS = 32
_CURE, _NONE, _OTHER_CURE = 3.0, 1.5, 1.25
"""How many times the loop's answers: threads for its handlers must give at least, if those sleep for 1 ms, and at most,
if they sleep for 0.1 ms; and recycling at least, for 0.1 ms."""


def steps(options: Options) -> int:
    return len(_MODELS) * len(_SLEEPS) * options.rounds


def run(options: Options, progress: Progress) -> Report:
    sleeps = {ms: measured_sleep_ms(ms) for ms in _SLEEPS if ms}
    cells = [(model, sleep) for model in _MODELS for sleep in _SLEEPS]
    runs = [_one(model, sleep, options, progress) for _ in range(options.rounds)
            for model, sleep in random.sample(cells, len(cells))]

    def of(model: str, sleep: float) -> list[dict[str, Any]]:
        return [one for one in runs if (one["model"], one["sleep"]) == (model, sleep)]

    rate = {(model, sleep): median(one["ok"] / one["seconds"] for one in of(model, sleep)) for model, sleep in cells}
    rows: list[tuple[str, ...]] = [
        ("", "ok/s", "", "", "p99 ms", "", "", "CPU us", "", "", "", ""),
        ("model", *3 * tuple(map(_said, _SLEEPS)), "", "")]
    for model in _MODELS:
        rows.append((
            model, *(f"{rate[model, sleep]:,.0f}" for sleep in _SLEEPS),
            *(f"{median(one['p99_ms'] for one in of(model, sleep)):.1f}" for sleep in _SLEEPS),
            *(f"{median(1e6 * one['server_cpu'] / max(1, one['ok']) for one in of(model, sleep)):.0f}"
              for sleep in _SLEEPS), "", ""))
    findings = [_at_most_one_each(rate["loop", sleep], sleep, sleeps[sleep]) for sleep in _SLEEPS if sleep]
    factor = {model: {sleep: rate[model, sleep] / max(1e-9, rate["loop", sleep]) for sleep in _SLEEPS}
              for model in ("loop-threads", "recycling-park")}
    for holds, sleep, model, claim in (
            (factor["loop-threads"][1.0] >= _CURE, 1.0, "loop-threads",
             f"threads for the handlers give the loop at least {_CURE:g} x the answers"),
            (factor["loop-threads"][0.1] <= _NONE, 0.1, "loop-threads",
             f"they give it no more than {_NONE:g} x: two hand-offs cost more than they save"),
            (factor["recycling-park"][0.1] >= _OTHER_CURE, 0.1, "recycling-park",
             f"recycling, which hands nothing over, gives at least {_OTHER_CURE:g} x the loop's answers")):
        findings.append(Finding(holds, f"{_said(sleep)}: {claim}", f"{rate[model, sleep]:,.0f} against "
                                f"{rate['loop', sleep]:,.0f} a second, {factor[model][sleep]:.1f} x"))
    notes = [f"The loop's threads are {OFFLOADED}; the others have one for each client. A sleep really takes "
             + ", ".join(f"{taken:.3f} ms for {asked:g}" for asked, taken in sleeps.items()) + " here."]
    return Report(grid(rows), findings, notes, runs)


def _one(model: str, sleep: float, options: Options, progress: Progress) -> dict[str, Any]:
    with (step(progress, f"{model}, {_said(sleep)}") as outcome,
          serving(model, _CLIENTS, "--sleep", str(sleep)) as server):
        [load] = measure(server, [Load(_CLIENTS)], options.seconds)
        outcome.append(f"{load.ok / load.seconds:,.0f} a second")
        return {"model": model, "sleep": sleep, **asdict(load)}


def _at_most_one_each(rate: float, sleep: float, taken: float) -> Finding:
    most = 1e3 / taken
    return Finding(rate <= 1.05 * most, f"{_said(sleep)}: the loop that runs its handlers answers no more than one for "
                   "each sleep", f"{rate:,.0f} a second, and {most:,.0f} sleeps are in one")


def _said(sleep: float) -> str:
    return f"sleep {sleep:g} ms" if sleep else "no sleep"
