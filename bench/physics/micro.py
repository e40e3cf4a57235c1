"""`python -m bench micro`: what this machine and this interpreter charge for the steps that models are made of.

What is measured, and how it is to be read, is in `bench.physics.program`, which runs in a process of its own, on the
core that servers under test have. --python gives other interpreters, side by side. A round measures everything once,
and the rounds of all interpreters alternate, so that what disturbs hits all alike. Shown are the median of the rounds
and, in brackets, the lowest.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from bench import machine
from bench.children import Child, ChildError, running
from bench.physics.program import Group, groups
from bench.progress import Progress

__all__ = ["Column", "render", "run_micro", "says"]

_ROUNDS, _SECONDS = 7, 0.05
"""Seconds: of each measurement in a round."""
_ROUNDS_QUICK, _SECONDS_QUICK = 3, 0.02
_PATIENCE_S = 120.0


@dataclass
class Column:
    """What was measured of one interpreter."""

    title: str
    """"3.13.0"; "3.13.5, no GIL"."""
    rounds: list[Mapping[str, float | None]] = field(default_factory=list)
    """Microseconds, by step; None: it cannot be measured here."""

    def of(self, step: str) -> list[float]:
        """All rounds of one step, if it could be measured."""
        return [taken for one in self.rounds if (taken := one.get(step)) is not None]

    def medians(self) -> dict[str, float]:
        """Of all steps that could be measured."""
        names = dict.fromkeys(name for one in self.rounds for name in one)
        return {name: statistics.median(values) for name in names if (values := self.of(name))}


def run_micro(options: argparse.Namespace) -> int:
    """Measure, and print the table and what it says; 2 if an interpreter does not run."""
    rounds, seconds = (_ROUNDS_QUICK, _SECONDS_QUICK) if options.quick else (_ROUNDS, _SECONDS)
    cores = sorted(os.sched_getaffinity(0))
    print(f"{machine.one_line()}\n", flush=True)
    try:
        columns = measure(options.python or [sys.executable], cores, rounds, seconds)
    except (ChildError, OSError) as error:
        print(error)
        return 2
    print(render(groups(cores), columns))
    for column in columns:
        print(f"\nWhat the figures say{f' of {column.title}' if len(columns) > 1 else ''}")
        for sentence in says(column.medians()):
            print(textwrap.fill(sentence, 116, initial_indent="  ", subsequent_indent="    "))
    if options.json:
        kept = {"machine": machine.describe([]), "seconds": seconds,
                "us": {column.title: column.rounds for column in columns}}
        options.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return 0


def measure(pythons: Sequence[str], cores: Sequence[int], rounds: int, seconds: float) -> list[Column]:
    """A column for each interpreter. ChildError, or OSError, if one does not run."""
    steps = sum(len(group.steps) for group in groups(cores))
    progress = Progress(rounds * len(pythons), 1.2 * steps * seconds + 0.4)
    columns: list[Column] = []
    with ExitStack() as stack:
        children = []
        for python in pythons:
            child = stack.enter_context(running([python, "-m", "bench.physics.program", ",".join(map(str, cores))]))
            children.append(child)
            columns.append(Column(_title(child, python, [column.title for column in columns])))
        for number in range(1, rounds + 1):
            for child, column in zip(children, columns, strict=True):
                what = f"round {number} of {rounds}, Python {column.title}"
                progress.begin(what)
                child.tell(f"{seconds}")
                column.rounds.append(json.loads(child.line(_PATIENCE_S)))
                progress.end(what)
    progress.clear()
    return columns


def render(everything: Iterable[Group], columns: Sequence[Column]) -> str:
    """The table: for each group its title, how to read it, and its steps; without a line end."""
    everything = list(everything)
    widest = max(len(step.label) for group in everything for step in group.steps) + 2
    heads = [f"{column.title}, us (lowest)" for column in columns]
    widths = [max(20, len(head)) for head in heads]
    lines = [" " * (widest + 2) + "  ".join(head.rjust(width) for head, width in zip(heads, widths, strict=True))]
    for group in everything:
        lines += ["", group.title, textwrap.fill(group.reading, 116, initial_indent="  ", subsequent_indent="  ")]
        for step in group.steps:
            cells = "  ".join(_cell(column.of(step.name)).rjust(width)
                              for column, width in zip(columns, widths, strict=True))
            lines.append(f"    {step.label.ljust(widest - 2)}{cells}")
    return "\n".join(lines)


def says(us: Mapping[str, float]) -> list[str]:
    """What the medians mean for models; nothing on what is not among them."""
    said = []
    if {"accepted", "handed_over", "started"} <= us.keys():
        said.append(f"A connection takes {_us(us['accepted'])} us when the thread that waits in accept serves it, "
                    f"{_more(us['handed_over'] - us['accepted'])} when it is handed to a worker, and "
                    f"{_more(us['started'] - us['accepted'])} when a thread is started for it.")
    if "sleep_0" in us:
        said.append(f"time.sleep(0) takes {_us(us['sleep_0'])} us: a handler that is to do nothing must not call it."
                    + (f" Most of it is timer slack: without, {_us(exact)}." if
                       (exact := us.get("sleep_0_exact")) is not None and exact < us["sleep_0"] / 2 else ""))
    if "sleep_100us" in us:
        exact = us.get("sleep_100us_exact")
        said.append(f"time.sleep(0.0001) takes {_us(us['sleep_100us'])} us"
                    + (f", and {_us(exact)} without timer slack." if exact is not None else "."))
    if {"ping_0", "ping_1"} <= us.keys():
        factor = us["ping_1"] / us["ping_0"]
        said.append(f"A small answer takes {_us(us['ping_0'])} us, and {_us(us['ping_1'])} us beside a thread that "
                    + ("computes: it waits for the GIL." if factor > 5 else "computes."))
        if "ping_1_short" in us and factor > 5:
            said[-1] += f" With a switch interval of 0.5 ms: {_us(us['ping_1_short'])} us."
    if {"idle_core", "busy_core"} <= us.keys():
        more = us["idle_core"] - us["busy_core"]
        said.append(f"Waking a core that idles takes {_us(more)} us: latencies at a low load have that in them."
                    if more > 0.1 * us["busy_core"] else
                    "A process on a core that idles is woken as fast as on one that is awake.")
    return said


def _title(child: Child, python: str, taken: Sequence[str]) -> str:
    """Its version, and whatever else tells it from the others. ChildError if it does not say."""
    try:
        identity = json.loads(child.line(30))
    except ChildError as error:
        raise ChildError(f"{python} does not run bench.physics.program: {error}") from error
    title = identity["python"] + ("" if identity["gil"] else ", no GIL")
    return title if title not in taken else f"{title} {python}"


def _cell(values: Sequence[float]) -> str:
    """"109 (95.1)"; "-" if there are none."""
    return f"{_us(statistics.median(values))} ({_us(min(values))})" if values else "-"


def _us(value: float) -> str:
    """With three digits or so."""
    return f"{value:.3f}" if value < 1 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _more(us: float) -> str:
    return f"{_us(us)} us more" if us > 0 else "no more"
