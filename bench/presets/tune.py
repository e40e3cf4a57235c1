"""The preset `tune` (S8): how many threads a pool should have.

A sweep of exactly so many threads, under one load. Pariag et al., "Comparing the performance of web server
architectures" (EuroSys 2007), and Ruan and Pai, "Making the 'box' transparent" (USENIX 2004), show comparisons of
servers turned round by tuning them first; so this comes before any comparison of pools.
"""

from __future__ import annotations

import json

from bench.children import running
from bench.clients.result import Result
from bench.lab.drawing import svg_of
from bench.lab.gates import flaws_of, notes_of
from bench.lab.preset import Drawing, Options, Preset, Saying
from bench.lab.record import Cell, Record, Results
from bench.lab.serving import load_core, recording, serving
from bench.presets.tune_picture import sweep
from bench.presets.tune_sentences import loads_of, sentences
from bench.subjects import Setup

__all__ = ["PRESET", "THREADS"]

THREADS = (1, 2, 4, 8, 16, 32, 64, 128)
"""One doubling apart: what is asked is the order of magnitude."""
_QUEUE = 1000
"""Connections that may wait, so that nobody is refused."""


class _Tune(Preset):
    """A cell is a subject, so many clients, what the handler sleeps, and exactly so many threads."""

    name = "tune"
    title = "How many threads a pool should have"
    question = (
        "The number of threads is the one setting that everybody has to choose. With too few, requests wait for a "
        "thread; what do too many cost? From which number on is there nothing more to be had?")
    prediction = (
        "While a handler sleeps, its thread does nothing else: so n threads give at most n / sleep responses a second "
        "(the dashed line), and this binds until the server's core has no more to give. There is the knee: about sleep "
        "/ CPU for a response, with 1 ms and some 100 us a dozen threads. Beyond it throughput is level, and each "
        "response costs a little more, since more threads wait for the GIL, and wake with cold caches. Without a sleep "
        "one or two threads are enough, and more only get in each other's way. With idle=hold fewer threads than "
        "clients starve those that come last: such figures compare with nothing.")
    method = (
        f"Exactly {', '.join(map(str, THREADS))} threads, all of them from the start; a queue of {_QUEUE:,} where the "
        "model has one. Clients keep their connections and ask again when they are answered (a closed loop). The knee "
        "is the smallest number of threads whose median is within 5 % of the best. The ceiling is threads divided by "
        "what the sleep was measured to take on this machine, which is more than was asked for. Those that are flawed, "
        "because clients starve, are hollow, and have no part in the sentences. --sleeps none,1 has both kinds of "
        "handler, and takes twice as long.")
    defaults = Options(subjects=("pool-hold", "pool-park", "recycling-hold", "recycling-park"), blocks=2, seconds=0.6,
                       warmup=0.2, connections=(100,), sleeps_ms=(1.0,))
    columns = ("ok_per_s", "cpu_us", "p50_ms", "p99_ms", "little")

    def cells(self, options: Options) -> list[Cell]:
        if options.generator != "builtin":
            raise ValueError(f"tune has the load that comes with the lab: leave out {options.generator}")
        return [Cell.of(subject, connections=connections, sleep_ms=sleep_ms, threads=threads)
                for connections in options.connections or () for sleep_ms in options.sleeps_ms or ()
                for subject in options.subjects or () for threads in THREADS]

    def seconds(self, cell: Cell, options: Options) -> float:
        starve = "-hold" in cell.subject and cell["threads"] < cell["connections"]
        return super().seconds(cell, options) + (1.0 if starve else 0.0)  # by which the warm-up is then longer

    def run(self, cell: Cell, block: int, options: Options) -> Record:
        warmup, seconds, connections = options.warmup or 0.0, options.seconds or 0.0, cell["connections"]
        setup = Setup(sleep_ms=cell["sleep_ms"], threads=cell["threads"], queue=_QUEUE, app=options.app)
        with recording(cell, block) as record, serving(cell.subject, setup) as server, running(
                ["bench.clients.load", "--port", str(server.port), "--connections", str(connections), "--warmup",
                 str(warmup),
                 "--duration", str(seconds), "--timeout", str(options.timeout), "--watch", str(server.pid)],
                load_core()) as child:
            load = Result(**json.loads(child.line(warmup + seconds + options.timeout + 10)))
            others = server.others()
            rate = load.ok / load.seconds
            record.metrics = {"ok_per_s": round(rate, 1), "little": round(rate * load.mean_ms / 1e3, 2)}
            if load.ok:
                record.metrics |= {"p50_ms": round(load.p50_ms, 3), "p99_ms": round(load.p99_ms, 3)}
                if load.server_cpu is not None:
                    record.metrics["cpu_us"] = round(1e6 * load.server_cpu / load.ok, 2)
            record.flaws = flaws_of(load, connections)
            record.detail = {"others": others, "notes": notes_of(load, others), "starved": load.starved}
        return record

    def figures(self, results: Results) -> list[Drawing]:
        drawings = []
        for load in loads_of(results):
            name = "tune" if len(loads_of(results)) == 1 else f"tune-{load.words.replace(',', '').replace(' ', '-')}"
            drawings.append(Drawing(name, svg_of(sweep(results, load), name), (
                f"{load.words}, against the number of threads. Dots are medians, the thin lines through them from the "
                "lowest run to the highest. Dashed: what so many threads can give at most, if the handler sleeps. "
                "Hollow: it compares with nothing, because clients starve or wait where no latency shows it; p99 is "
                "then that of the few that are served.")))
        return drawings

    def says(self, results: Results) -> list[Saying]:
        return sentences(results)


PRESET = _Tune()
