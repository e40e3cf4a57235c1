"""What the runs of `bench threads` come to: tables, sentences, and both put into a page of the documents.

A difference is one if every round of the one setting is beyond every round of the other. Of two settings that are the
same, chance alone does that in 1 of 10 comparisons with three rounds, and in 1 of 126 with five.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median

from bench.studies.threads.plan import EXPERIMENTS, LOADS, Experiment, Setting
from bench.studies.threads.run import Run
from bench.table import grid

__all__ = ["LEGEND", "NOISY", "blocks", "fill", "findings", "table"]

NOISY = 0.1
"""Share of the server's core that others had, beyond which a run is repeated, once, and it is said."""
_BOUND = 0.9
"""Share of its core that wrk used, beyond which it is wrk that was measured."""
LEGEND = """\
CPU us    microseconds of the server, user and system, for each 2xx response: median (lowest–highest) of the rounds
switches  voluntary context switches of the server for each response: a thread went to sleep, to wait for something
p99 ms    what 99 of 100 requests took at most, as wrk has it: from the request written on
ok/s      2xx responses a second; threads: of the model, the most that were seen"""
_HEADER = ("CPU us", "(low–high)", "switches", "p99 ms", "(low–high)", "ok/s", "threads", "", "notes")
_MARK = re.compile(r"<!-- FIGURES (\S+):[^\n]*-->\n.*?<!-- END -->", re.DOTALL)


def table(experiment: Experiment, load: str, runs: Iterable[Run]) -> str:
    """All settings of an experiment under one load, as it stands in a page: indented by four."""
    found = list(runs)
    rows: list[tuple[str, ...]] = [("", *_HEADER)]
    rows += [(setting.name, *_figures(load, _those(found, setting.arguments, load))) for setting in experiment.settings]
    return f"    {LOADS[load].words}\n{textwrap.indent(grid(rows), '  ')}"


def findings(experiment: Experiment, runs: Iterable[Run]) -> list[str]:
    """What differs, pair by pair, in sentences; each line as it stands in a page."""
    found = list(runs)
    lines = []
    for one, other in experiment.pairs:
        a, b = experiment.settings[one], experiment.settings[other]
        told: dict[str, list[str]] = {}
        for load in experiment.loads:
            said = _difference(load, a, b, found)
            told.setdefault(said, []).append(LOADS[load].words)
        if any(told):
            lines.append(f"{b.name} against {a.name}")
            lines += ["  " + line for said, loads in told.items() if said
                      for line in textwrap.wrap(f"{'; '.join(loads)}: {said}", 112, subsequent_indent="  ")]
    return [f"    {line}" for line in lines]


def blocks(names: Iterable[str], runs: Iterable[Run], traced: Mapping[str, Mapping[str, float]], machine: str
           ) -> dict[str, str]:
    """Everything there is to be said, by the names that a page has for it: "threads/hello", "threads/findings"."""
    found = list(runs)
    said = {"machine": textwrap.fill(machine, 120, break_on_hyphens=False)}
    for name in names:
        experiment = EXPERIMENTS[name]
        said |= {f"{name}/{load}": table(experiment, load, found) for load in experiment.loads}
        said[f"{name}/findings"] = "\n".join(findings(experiment, found)) or (
            "    One round tells nothing of how far rounds are apart, so no difference is told: --rounds 3.")
        if experiment.traced and traced:
            said[f"{name}/calls"] = _calls(traced)
    return said


def fill(page: Path, said: Mapping[str, str], when: str) -> list[str]:
    """Put what is `said` into `page`, between its marks: <!-- FIGURES name: anything --> and <!-- END -->. Returns the
    names in the page for which there is nothing, which are left as they are. OSError if it cannot be written."""
    absent = []

    def text(found: re.Match[str]) -> str:
        if found[1] not in said:
            absent.append(found[1])
            return found[0]
        return f"<!-- FIGURES {found[1]}: {when} -->\n\n{said[found[1]]}\n\n<!-- END -->"

    page.write_text(_MARK.sub(text, page.read_text(encoding="utf-8")), encoding="utf-8")
    return absent


def _those(runs: Sequence[Run], arguments: tuple[str, ...], load: str) -> list[Run]:
    return [run for run in runs if run.arguments == arguments and run.load == load]


def _figures(load: str, runs: Sequence[Run]) -> tuple[str, ...]:
    if not (good := [run for run in runs if not run.failed]):
        return (*["-"] * 7, "", f"failed: {runs[0].failed}" if runs else "not run")
    costs, slowest = [run.cpu_us for run in good], [run.p99_ms for run in good]
    latency = ("-", "-") if LOADS[load].pipelined else _spread(slowest)
    problems: dict[str, int] = {}
    for run in good:
        for kind, count in run.problems.items():
            problems[kind] = problems.get(kind, 0) + count
    notes = [f"{kind} {count:,}" for kind, count in sorted(problems.items())]
    notes += [f"{len(runs) - len(good)} of {len(runs)} rounds failed"] if len(good) < len(runs) else []
    if others := [run.others for run in good if run.others > NOISY]:
        notes.append(f"others had {max(others):.0%}")
    if max(run.generator_share for run in good) > _BOUND:
        notes.append("wrk-bound")
    if few := _few(load, good):
        notes.append(few)
    return (*_spread(costs), f"{median(run.switches for run in good):.2f}", *latency,
            f"{median(run.rate for run in good):,.0f}", str(max(run.threads for run in good)), "", "; ".join(notes))


def _spread(values: Sequence[float]) -> tuple[str, str]:
    """The median, and the lowest and the highest."""
    middle, low, high = (f"{value:,.1f}" if value < 100 else f"{value:,.0f}"
                         for value in (median(values), min(values), max(values)))
    return middle, f"({low}–{high})"


def _few(load: str, runs: Sequence[Run]) -> str:
    """That only some of the clients are served, if it is so: by Little's law, for wrk does not tell. Without keep-alive
    that says nothing: wrk's clock starts once a connection is there."""
    if LOADS[load].pipelined:
        served = min(run.served or 0 for run in runs)
        return f"serves {served} of {LOADS[load].connections} clients" if served < LOADS[load].connections else ""
    little = median(run.little for run in runs)
    return (f"about {little:.0f} of {LOADS[load].connections} in service"
            if LOADS[load].keep_alive and little < LOADS[load].connections / 2 else "")


def _difference(load: str, one: Setting, other: Setting, runs: Sequence[Run]) -> str:
    """What the other is against the one; empty if too little has been run."""
    both = {each.name: [run for run in _those(runs, each.arguments, load) if not run.failed] for each in (one, other)}
    a, b = both.values()
    if min(len(a), len(b)) < 2:
        return ""
    if few := [f"{name}: {text}" for name, mine in both.items() if (text := _few(load, mine))]:
        return f"not compared; {few[0]}"
    measures = [("CPU", "more CPU", "less CPU", [run.cpu_us for run in a], [run.cpu_us for run in b]),
                ("answers", "more answers", "fewer answers", [run.rate for run in a], [run.rate for run in b])]
    if not LOADS[load].pipelined:
        measures.append(("p99", "more p99", "less p99", [run.p99_ms for run in a], [run.p99_ms for run in b]))
    differ = [_words(name, more, less, median(theirs) / median(ours)) for name, more, less, ours, theirs in measures
              if _apart(ours, theirs)]
    same = [name for name, _, _, ours, theirs in measures if not _apart(ours, theirs)]
    nothing = "no difference beyond the rounds' spread"
    if same:
        differ.append(f"{nothing} in {' and '.join(same)}" if differ else nothing)
    noise = max(run.others for run in (*a, *b))
    return "; ".join(differ) + (f" (others had up to {noise:.0%} of its core)" if noise > NOISY else "")


def _apart(a: Sequence[float], b: Sequence[float]) -> bool:
    return min(a) > max(b) or min(b) > max(a)


def _words(name: str, more: str, less: str, ratio: float) -> str:
    """How many times as much, or per cent more or less: whichever is easier to imagine."""
    if not 0.5 < ratio < 1.5:
        return f"{ratio:.1f} times the {name}" if ratio >= 0.1 else f"{ratio:.2g} times the {name}"
    return f"{abs(ratio - 1):.0%} {more if ratio > 1 else less}"


def _calls(traced: Mapping[str, Mapping[str, float]]) -> str:
    """That of futex stands apart: these are threads that wait for the GIL, and under strace, which stops a thread at
    each call, they are many times as many as without."""
    most: dict[str, float] = {}
    for calls in traced.values():
        most |= {name: max(count, most.get(name, 0.0)) for name, count in calls.items()}
    names = [name for name in sorted(most, key=lambda name: -most[name]) if most[name] >= 0.05 and name != "futex"]
    rows = [("system calls for a connection", *traced, "", "")]
    rows += [(name, *(f"{calls.get(name, 0.0):.1f}" for calls in traced.values()), "", "") for name in names]
    rows.append(("in all", *(f"{sum(calls.get(name, 0.0) for name in names):.1f}" for calls in traced.values()), "",
                 "and futex " + ", ".join(f"{calls.get('futex', 0.0):.1f}" for calls in traced.values())))
    return textwrap.indent(grid(rows), "  ")
