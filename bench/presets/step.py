"""The preset `step` (S4): 10 to 400 to 10 connections, and what threads and queues do meanwhile.

The load is `bench.clients.steps`, what is seen from outside `bench.presets.step_watch`, the figure
`bench.presets.step_picture`.
"""

from __future__ import annotations

import json
from typing import Any

from bench.children import running
from bench.clients.result import Result
from bench.lab.drawing import svg_of
from bench.lab.gates import flaws_of, notes_of
from bench.lab.preset import Drawing, Options, Preset, Saying
from bench.lab.record import Cell, Record, Results
from bench.lab.serving import load_core, recording, serving
from bench.presets.step_picture import over_time
from bench.presets.step_sentences import loads_of, sentences
from bench.presets.step_watch import Watch, figures_of
from bench.programs import Ours
from bench.subjects import Setup, find_subject

__all__ = ["PRESET"]

_ROOM = 128
"""Connections, or threads, that each subject has room for."""


class _Step(Preset):
    name = "step"
    title = "Ten clients, then four hundred, then ten again"
    question = (
        "Traffic does not come evenly. When it grows forty times at once, who gets more threads, how fast, and what do "
        "clients wait meanwhile? When there are more clients than can be served, where do those wait: in a queue that "
        "the server knows of and can report, or where no figure of its own shows them? And how fast is all well again "
        "when they have gone?")
    prediction = (
        "A thread per connection is there with its connection and gone with it, and beyond its number it queues 20 and "
        "refuses the rest with 503. A pool has its threads before and after, and those beyond wait in its queue, which "
        "it counts. Recycling begins with 4 threads and starts one more whenever the last that waits is taken: it "
        "grows within a fraction of a second, and shrinks only by threads that have had nothing for 10 seconds. It has "
        "no queue of its own: with idle=hold those beyond its threads wait in the kernel's accept queue, and with "
        "idle=park their connections count as parked, as those of idle clients do, though each has asked.")
    method = (
        "One load process with 10 clients, then 400, then 10, by default for 3 s each. Each asks again when it has "
        "been answered (a closed loop); those that leave do so when they are answered, and who is refused asks again "
        "after 0.1 s. The handler sleeps 50 ms, so that threads are wanted and CPU is not: by Little's law 128 of them "
        "give 2,560 responses a second. Every subject has room for 128 connections or threads, and all else is its "
        "default. Seen from outside, 20 times a second: threads, from /proc; the taskmaster's own figures, told by a "
        "thread that serves nobody; and the accept queue, from /proc/net/tcp. Threads have grown when nine tenths of "
        "those that came are there; p99 is as before when a tenth of a second has at most twice the p99 of before. "
        "Waiting unseen are those that have asked, less those being served and those in the server's queue: the median "
        "over the second half of the step. A recycling server cannot be seen to shrink in 3 s, since its idle_timeout "
        "is 10 s: --seconds 12 shows it.")
    defaults = Options(subjects=("thread", "pool-hold", "pool-park", "recycling-hold", "recycling-park",
                                 "loop-threads"),
                       blocks=2, seconds=3.0, warmup=0.3, connections=(10, 400), sleeps_ms=(50.0,), keep_alive=(True,))
    columns = ("threads", "grown_s", "shrunk_s", "step_p99_ms", "recovered_s", "queued", "kernel_queue",
               "kernel_waiting", "parked", "unseen", "low_ok_per_s", "high_ok_per_s", "after_ok_per_s", "cpu_us")

    def cells(self, options: Options) -> list[Cell]:
        _numbers(options)
        return [Cell.of(subject, keep_alive=keep_alive, sleep_ms=sleep_ms)
                for keep_alive in options.keep_alive or () for sleep_ms in options.sleeps_ms or ()
                for subject in options.subjects or ()]

    def seconds(self, cell: Cell, options: Options) -> float:
        return (options.warmup or 0.0) + 3 * (options.seconds or 0.0) + 0.7

    def run(self, cell: Cell, block: int, options: Options) -> Record:
        low, high = _numbers(options)
        warmup, phase = options.warmup or 0.0, options.seconds or 0.0
        setup = Setup(sleep_ms=cell["sleep_ms"], capacity=_ROOM, app=options.app)
        tells = isinstance(find_subject(cell.subject), Ours)
        with recording(cell, block) as record, serving(cell.subject, setup) as server, running(
                ["bench.clients.steps", "--port", str(server.port), "--low", str(low), "--high", str(high), "--warmup",
                 str(warmup), "--phase", str(phase), "--timeout", str(options.timeout), "--watch", str(server.pid),
                 *([] if cell["keep_alive"] else ["--no-keep-alive"])], load_core()) as child:
            watch = Watch(server, tells)
            told = json.loads(child.line(warmup + 3 * phase + 30, meanwhile=watch.look))
            _fill(record, told, watch, server.others())
        return record

    def figures(self, results: Results) -> list[Drawing]:
        drawings = []
        for load in loads_of(results):
            cells = [cell for cell in results.cells if cell.load == load]
            if not any(record.detail for cell in cells for record in results.of(cell)):
                continue
            name = "-".join(["step", *(load.replace(",", "").split() if len(loads_of(results)) > 1 else [])])
            drawings.append(Drawing(name, svg_of(over_time(results, cells), name), (
                f"The first run of each, {load}; the step lies between the dotted lines, and thin lines are other "
                "runs. Above: threads. In the middle: where the clients are that have asked. What is full is in the "
                "server's own figures: being served, or in its queue. What is hatched is not: in the kernel's accept "
                "queue, or parked, as idle connections are, with a request that nobody has read. Below: p99 of each "
                "tenth of a second, of those that were answered in it. A subject in grey compares with nothing, for "
                "the reasons in its upper chart.")))
        return drawings

    def says(self, results: Results) -> list[Saying]:
        return sentences(results)


def _numbers(options: Options) -> tuple[int, int]:
    """Clients before, and in the step. ValueError if it cannot be run so."""
    numbers = tuple(options.connections or ())
    if len(numbers) != 2 or not numbers[0] < numbers[1]:
        raise ValueError(f"step takes two numbers of connections, few and many: give 10,400, not "
                         f"{','.join(map(str, numbers))}")
    if options.generator != "builtin":
        raise ValueError(f"step has a load of its own, whose clients come and go: leave out {options.generator}")
    return numbers[0], numbers[1]


def _fill(record: Record, told: dict[str, Any], watch: Watch, others: float) -> None:
    """Make a record of what the load has printed, and the watch seen."""
    began = told["phases"][0]["began"]
    phases = [{"clients": phase["clients"], "from": round(phase["began"] - began, 3),
               "to": round(phase["ended"] - began, 3)} for phase in told["phases"]]
    loads = [Result(**phase["load"]) for phase in told["phases"]]
    series = told["series"] | {"t": [round(t - began, 3) for t in told["series"]["t"]]}
    samples = watch.since(began)
    record.detail = {"phases": phases, "samples": samples, "series": series, "others": others,
                     "loads": [{"ok": load.ok, "seconds": round(load.seconds, 4), "non_2xx": load.non_2xx,
                                "errors": load.errors, "starved": load.starved, "p99_ms": round(load.p99_ms, 3)}
                               for load in loads],
                     "notes": list(dict.fromkeys(note for load in loads for note in notes_of(load, others)))}
    record.metrics = figures_of(phases, samples, series)
    for name, load in zip(("low_ok_per_s", "high_ok_per_s", "after_ok_per_s"), loads, strict=True):
        record.metrics[name] = round(load.ok / load.seconds, 1)
    if told["phases"][1]["first_p99_ms"] is not None:
        record.metrics["step_p99_ms"] = told["phases"][1]["first_p99_ms"]
    cpu, ok = sum(load.server_cpu or 0.0 for load in loads), sum(load.ok for load in loads)
    if cpu and ok:
        record.metrics["cpu_us"] = round(1e6 * cpu / ok, 1)
    for when, phase, load in zip(("before", "in", "after"), phases, loads, strict=True):
        record.flaws += [f"{when} the step: {flaw}" for flaw in flaws_of(load, phase["clients"])]


PRESET = _Step()
