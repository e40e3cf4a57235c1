"""`python -m bench watching`: what it costs a server to be watched. CPU for each request, by ratios within this run.

    off      nobody can look
    page     a control server in the server's process, and a viewer in another (`bench.studies.watching.viewer`): ten
             samples a second, and every two seconds 20 ms step by step. That is what an open page asks for
    record   every step of every thread is written down, all the time

A block is one run of each, with a fresh server, in an order that is drawn. The server's CPU is that of its process,
control server included. Of each block the ratios to `off` are taken: see `bench.lab.statistics`. A page must cost less
than 2 %; if it costs more with all of the 95 % interval, the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import random
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench import machine
from bench.children import ChildError, cores, running
from bench.clients import wrk
from bench.lab.statistics import Ratio, ratio_of
from bench.progress import Progress
from bench.studies.speed.run import NO_WRK
from bench.studies.watching.server import WATCH
from bench.studies.watching.viewer import STEPS_EVERY
from bench.table import grid

__all__ = ["MOST_PERCENT", "Row", "render", "rows_of", "run_once", "run_watching", "verdict"]

MOST_PERCENT = 2.0
"""That a page may cost."""
_CONNECTIONS = 100
_WARMUP = 0.3


@dataclass(frozen=True)
class Row:
    """One way to be watched, with keep-alive or without."""

    keep_alive: bool
    watch: str
    cpu_us: float
    """For each request; the median."""
    cost: Ratio | None
    """To `off`, of which there is none."""

    def __str__(self) -> str:
        return f"{self.watch}, keep-alive {'on' if self.keep_alive else 'off'}"


def run_watching(options: argparse.Namespace) -> int:
    """Measure; 1 if a page costs too much, 2 if it cannot be measured."""
    if not wrk.installed():
        print(NO_WRK)
        return 2
    keep_alive = {"on": [True], "off": [False], "both": [True, False]}[options.keep_alive]
    cells = [(kept, watch) for kept in keep_alive for watch in WATCH]
    print(f"{machine.one_line()}\n{options.model}, {_CONNECTIONS} clients of wrk. {options.blocks} blocks of "
          f"{len(cells)} runs, {options.seconds} s each.\n", flush=True)
    progress = Progress(options.blocks * len(cells), options.seconds + 1.2)
    shuffle = random.Random(options.seed)
    measured: dict[tuple[bool, str], list[float]] = {cell: [] for cell in cells}
    failed: list[str] = []
    for _ in range(options.blocks):
        block: dict[tuple[bool, str], float] = {}
        for kept, watch in shuffle.sample(cells, len(cells)):
            what = f"{watch}, keep-alive {'on' if kept else 'off'}"
            progress.begin(what)
            try:
                block[kept, watch] = run_once(options.model, kept, watch, options.seconds)
                progress.end(f"{what}: {block[kept, watch]:.1f} us")
            except (ChildError, OSError, ValueError) as error:
                failed.append(f"{what}: {error}")
                progress.end(failed[-1])
        if len(block) == len(cells):  # else it would not be compared with what ran beside it
            for cell, cost in block.items():
                measured[cell].append(cost)
    progress.clear()
    for problem in dict.fromkeys(failed):
        print(textwrap.fill(f"Its block is left out: {problem}", 116, initial_indent="  ", subsequent_indent="    "))
    if len(measured[cells[0]]) < 2:
        print("Nothing can be compared: that takes two whole blocks at least.")
        return 2
    rows = rows_of(measured)
    print(render(rows))
    text, too_much = verdict(rows)
    print(f"\n{text}")
    if options.json:
        options.json.write_text(json.dumps(
            {"machine": machine.one_line(), "model": options.model, "seconds": options.seconds,
             "runs": [{"keep_alive": kept, "watch": watch, "cpu_us": costs}
                      for (kept, watch), costs in measured.items()]}, indent=1) + "\n", encoding="utf-8")
    return int(too_much)


def run_once(model: str, keep_alive: bool, watch: str, seconds: int) -> float:
    """CPU microseconds of a fresh server for each request. ChildError, OSError or ValueError if that cannot be had."""
    server_core, load_core = cores()
    command = ["bench.studies.watching.server", "--model", model, "--watch", watch]
    with running(command, server_core) as server:
        port, control = server.line(timeout=30).split()
        warm_up = ["bench.clients.load", "--port", port, "--connections", str(_CONNECTIONS), "--warmup", "0",
                   "--duration", str(_WARMUP), *([] if keep_alive else ["--no-keep-alive"])]
        with running(warm_up, load_core) as load:
            load.line(_WARMUP + 20)
        if control == "-":
            return _cost(int(port), keep_alive, server.pid, load_core, seconds)
        with running(["bench.studies.watching.viewer", control], load_core) as viewer:
            viewer.line(timeout=10)
            cost = _cost(int(port), keep_alive, server.pid, load_core, seconds)
            viewer.close_input()
            seen = json.loads(viewer.line(timeout=10))
        if seen["samples"] < 5 * seconds or seen["bursts"] < seconds // STEPS_EVERY:
            raise ChildError(f"the viewer has seen {seen['samples']} samples, and steps {seen['bursts']} times: too "
                             "few to say what they cost")
        return cost


def _cost(port: int, keep_alive: bool, server: int, core: int | None, seconds: int) -> float:
    load = wrk.measure(port, _CONNECTIONS, keep_alive, warmup=0.0, duration=seconds, timeout=5.0, watch=server,
                       core=core, meanwhile=lambda: None)
    if not load.server_cpu or not load.ok:
        raise ChildError("there was no answer")
    return 1e6 * load.server_cpu / load.ok


def rows_of(measured: Mapping[tuple[bool, str], Sequence[float]]) -> list[Row]:
    """measured: CPU microseconds by keep-alive and watch, a value for each block, and two or more blocks."""
    return [Row(kept, watch, median(costs), None if watch == "off" else ratio_of(measured[kept, "off"], costs))
            for (kept, watch), costs in measured.items()]


def render(rows: Sequence[Row]) -> str:
    lines = [("keep-alive", "watched by", "CPU us", "to off (95 %)", "", "")]
    lines += [("on" if row.keep_alive else "off", row.watch, f"{row.cpu_us:,.2f}", str(row.cost or "-"), "", "")
              for row in rows]
    return grid(lines)


def verdict(rows: Sequence[Row]) -> tuple[str, bool]:
    """What the ratios say, in words; whether a page costs too much."""
    most = 1 + MOST_PERCENT / 100
    said, too_much = [], False
    for row in rows:
        if row.cost is None:
            continue
        if row.watch != "page":
            said.append(f"      {row}: {row.cost.value - 1:+.1%} ({row.cost.low - 1:+.1%} to {row.cost.high - 1:+.1%})")
        elif row.cost.above(most):
            too_much = True
            said.append(f"FAIL  {row}: it costs more than {MOST_PERCENT:g} %: {row.cost}")
        elif row.cost.below(most):
            said.append(f"PASS  {row}: it costs less than {MOST_PERCENT:g} %: {row.cost}")
        else:
            said.append(f"?     {row}: {row.cost}: the interval has {MOST_PERCENT:g} % in it; more --blocks make it "
                        "narrower")
    return "\n".join(said), too_much
