"""The preset `open` (S2): latency at equal work. Requests come at their own rate, the same for all.

After Ruan and Pai, "The Origins of Network Server Latency" (2004), who compare servers at rates that all of them can
serve: 30, 50, 70 and 90 % of what the slowest can do. What that is on this machine is found out before the first run of
a folder, and kept in its options. `bench.clients.probe` makes the load; beside it stand runs in a closed loop.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace

from bench.children import running
from bench.clients.generators import generator_named
from bench.clients.probe import Probed
from bench.clients.result import Result
from bench.lab.drawing import svg_of
from bench.lab.gates import GENERATOR_BOUND, NOISY, flaws_of, notes_of
from bench.lab.preset import Drawing, Options, Preset, Saying
from bench.lab.record import Cell, Record, Results
from bench.lab.serving import load_core, recording, serving
from bench.presets.open_picture import percentiles, tails
from bench.presets.open_sentences import Told
from bench.progress import Progress
from bench.subjects import Setup

__all__ = ["LOADS", "PRESET", "OpenPreset", "flaws_of_probed"]

LOADS = (0.3, 0.5, 0.7, 0.9)
"""Shares of what the slowest can do."""
_CALIBRATION, _TWICE = 0.7, 2
"""Seconds in a closed loop from which it is told what a subject can do; so often, of which the best counts."""
_MARGIN = 28
"""Connections that a model has room for beyond those of the closed loop."""
_LATE_MS, _LATE_SHARE = 1.0, 0.1
"""Of the p99 of what the probe itself was late by; and its share of the p99 that it is part of. Then somebody else has
had its core."""
_TRIES = 3
"""Runs at a rate, at most, until the probe was in time; the one in which it was least late counts."""

_LINES = ("Each line is one run: how long the requests took, from when they were due, of the share of them that is on "
          "the axis, which has one more nine with each step. Lower is better. Dashed: the run compares with nothing, "
          "for the reason that the table says.")
_POINTS = ("p99 by rate, the thin line from the lowest run to the highest; on the right the same servers in a closed "
           "loop. Lower is better. Hollow: it compares with nothing, for the reason that the table says.")


class OpenPreset(Preset):
    """A cell is a subject, keep-alive on or off, what the handler sleeps; and either a rate, or so many clients in a
    closed loop."""

    name = "open"
    title = "Latency at equal work: requests come at their own rate"
    question = (
        "How long do clients wait, if all servers have the same to do? In a closed loop they have not: each client "
        "asks as soon as it has been answered, so a fast server gets more to do than a slow one, all of them are full, "
        "and latency is little more than the number of clients over the throughput. The clients of a real server do "
        "not know of each other, and do not wait until it has caught up.")
    prediction = (
        "With handlers that sleep for 1 ms, a server that runs one handler at a time (the loop) is a queue with one "
        "server: at 90 % of what it can do, waiting takes several times as long as the work (Pollaczek and Khinchine), "
        "and its p99 is some 20 ms. To those that have a thread for each handler the same rate is a fifth of what they "
        "can do: they have no queue, and their p99 stays near the 1.1 ms that the handler takes, with keep-alive the "
        "same for all of them. In a closed loop all of them are full, and the difference looks much smaller.")
    method = (
        "Requests are due at random moments (Poisson), by a schedule that is the same for all subjects of a block, "
        "whether or not earlier ones have been answered. Latency runs from when a request was due to the last byte of "
        "its response. The rates are 30, 50, 70 and 90 % of what the slowest subject can do, measured in a closed loop "
        "before the first run (--rates sets them in requests a second). With keep-alive a request takes the free "
        "connection that was used last, or opens one; without, each has its own. Beside that the same servers in a "
        "closed loop, where latency runs from the request, or from connect(). Who has a limit has room for 28 "
        "connections more than the closed loop has; all else is the default.")
    defaults = Options(subjects=("thread", "pool-hold", "pool-park", "recycling-hold", "recycling-park", "loop"),
                       blocks=3, seconds=5.0, warmup=1.0, connections=(100,), sleeps_ms=(1.0,), keep_alive=(True,),
                       rates=())
    columns = ("ok_per_s", "cpu_us", "p50_ms", "p99_ms", "p999_ms", "max_ms", "late_p99_ms", "threads")

    def cells(self, options: Options) -> list[Cell]:
        found = []
        for keep_alive, sleep_ms in _kinds(options):
            axis, levels = ("requests_per_s", options.rates) if options.rates else ("load", LOADS)
            for name, values in ((axis, levels), ("clients", options.connections)):
                found += [Cell.of(subject, keep_alive=keep_alive, sleep_ms=sleep_ms, **{name: value})
                          for value in values or () for subject in options.subjects or ()]
        return found

    def prepare(self, options: Options) -> Options:
        """Without given rates: find out what the slowest can do. Three seconds for each subject and kind of load."""
        if options.rates:
            return options
        plan = [(kind, subject) for _ in range(_TWICE) for kind in _kinds(options)
                for subject in options.subjects or ()]
        print("First, in a closed loop: what can the slowest of them do?", flush=True)
        progress = Progress(len(plan), _CALIBRATION + 0.9)
        able: dict[str, dict[str, float]] = {}
        why = "nobody was measured"
        for (keep_alive, sleep_ms), subject in plan:
            cell = Cell.of(subject, keep_alive=keep_alive, sleep_ms=sleep_ms, clients=max(options.connections or (1,)))
            progress.begin(str(cell))
            record = self.run(cell, 1, replace(options, warmup=0.3, seconds=_CALIBRATION))
            rates = able.setdefault(_key(cell), {})
            if record.failed or record.flaws:
                why = f"{subject}: {record.failed or record.flaws[0]}"
                progress.end(f"{cell}: not counted, {why}")
            else:
                rate = round(record.metrics["ok_per_s"], 1)
                rates[subject] = max(rate, rates.get(subject, 0.0))
                progress.end(f"{cell}: {rate:,.0f} requests/s")
        progress.clear()
        if not all(able.values()) or not able:
            raise ValueError(f"what the slowest can do cannot be told ({why}): give --rates, in requests a second")
        return replace(options, more=options.more | {"able_per_s": able})

    def run(self, cell: Cell, block: int, options: Options) -> Record:
        setup = Setup(sleep_ms=cell["sleep_ms"], capacity=max(options.connections or (100,)) + _MARGIN, app=options.app)
        with recording(cell, block) as record:
            rate = _rate(cell, options)
            if rate is not None:
                return _run_open(cell, block, rate, setup, options)
            with serving(cell.subject, setup) as server:
                load = generator_named(options.generator)(
                    server.port, cell["clients"], cell["keep_alive"], warmup=options.warmup or 0.0,
                    duration=options.seconds or 1.0, timeout=options.timeout, watch=server.pid, core=load_core(),
                    meanwhile=server.look)
                _fill_closed(record, load, server.others())
                record.metrics["threads"] = float(server.most_threads)
        return record

    def figures(self, results: Results) -> list[Drawing]:
        drawings = []
        for keep_alive, sleep_ms in _kinds_of(results):
            cells = list(results.where(keep_alive=keep_alive, sleep_ms=sleep_ms))
            words = f"keep-alive {'on' if keep_alive else 'off'}, the handler sleeps {sleep_ms:g} ms"
            for draw, what, caption in ((percentiles, "percentiles", _LINES), (tails, "tails", _POINTS)):
                figure = draw(results, cells, words)
                name = f"{what}-{'on' if keep_alive else 'off'}-{sleep_ms:g}"
                if figure is not None:
                    drawings.append(Drawing(name, svg_of(figure, name), f"{words[0].upper()}{words[1:]}. {caption}"))
        return drawings

    def says(self, results: Results) -> list[Saying]:
        kinds = _kinds_of(results)
        said = []
        for keep_alive, sleep_ms in kinds:
            heading = f"Keep-alive {'on' if keep_alive else 'off'}, the handler sleeps {sleep_ms:g} ms"
            told = Told(results, list(results.where(keep_alive=keep_alive, sleep_ms=sleep_ms)))
            said += [replace(saying, heading=heading if len(kinds) > 1 else "") for saying in told.all()]
        return said or [Saying("Latency at equal work: there are no runs.")]


def flaws_of_probed(probed: Probed) -> list[str]:
    """Why these latencies must not be compared with others at the same rate; empty if they may."""
    said = [f"{count:,} responses {status}" for status, count in sorted(probed.non_2xx.items())]
    said += [f"{count:,} {kind}" for kind, count in sorted(probed.errors.items())]
    if probed.unanswered:
        said.append(f"{probed.unanswered:,} of {probed.scheduled:,} requests not answered")
    if not probed.ok:
        return [*said, "no answer at all"]
    return said


def _run_open(cell: Cell, block: int, rate: float, setup: Setup, options: Options) -> Record:
    """Once, or once more if the probe was late; a fresh server each time."""
    tries: list[Record] = []
    while not tries or (len(tries) < _TRIES and _late(tries[-1])):
        with recording(cell, block) as record, serving(cell.subject, setup) as server:
            probed = _probe(server.port, server.pid, cell, rate, block, options, server.look)
            _fill_open(record, probed, rate, server.others())
            record.metrics["threads"] = float(server.most_threads)
        tries.append(record)
    best = min(tries, key=lambda record: (bool(record.failed), _late(record)))
    best.detail["tries"] = len(tries)
    return best


def _probe(port: int, pid: int, cell: Cell, rate: float, block: int, options: Options,
           meanwhile: Callable[[], None]) -> Probed:
    warmup, seconds = options.warmup or 0.0, options.seconds or 1.0
    with running(["bench.clients.probe", "--port", str(port), "--rate", f"{rate:g}", "--warmup", f"{warmup:g}",
                  "--duration",
                  f"{seconds:g}", "--timeout", f"{options.timeout:g}", "--seed", str(1000 * options.seed + block),
                  "--watch", str(pid), *([] if cell["keep_alive"] else ["--new-connection"])], load_core()) as child:
        return Probed(**json.loads(child.line(warmup + seconds + 30, meanwhile)))


def _late(record: Record) -> float:
    """By how many ms the probe was, if that was too much; else, and if there are no figures, 0."""
    late = record.metrics.get("late_p99_ms", 0.0)
    return late if late > _LATE_MS and late > _LATE_SHARE * record.metrics.get("p99_ms", 0.0) else 0.0


def _fill_open(record: Record, probed: Probed, rate: float, others: float) -> None:
    latency = probed.latency_ms
    record.metrics = {"ok_per_s": probed.ok / probed.seconds}
    if probed.ok:
        record.metrics |= {"p50_ms": latency["p50"], "p99_ms": latency["p99"], "p999_ms": latency["p99.9"],
                           "max_ms": latency["max"]}
        if probed.server_cpu is not None:
            record.metrics["cpu_us"] = 1e6 * probed.server_cpu / probed.ok
    if probed.late_ms:
        record.metrics["late_p99_ms"] = probed.late_ms["p99"]
    record.flaws = flaws_of_probed(probed)
    if late := _late(record):
        record.flaws.append(f"the probe itself was late: 1 % of the requests by {late:.1f} ms or more")
    notes = [f"others had {others:.0%} of the server's core"] if others > NOISY else []
    if probed.generator_share > GENERATOR_BOUND:
        notes.append(f"generator-bound ({probed.generator_share:.0%} of its core)")
    record.detail = {"rate": rate, "scheduled": probed.scheduled, "connections": probed.connections,
                     "mean_ms": latency.get("mean"), "from_send_p99_ms": probed.from_send_ms.get("p99"),
                     "generator_share": round(probed.generator_share, 3), "others": others, "notes": notes,
                     "curve": probed.curve}


def _fill_closed(record: Record, load: Result, others: float) -> None:
    record.metrics = {"ok_per_s": load.ok / load.seconds, "little": load.ok / load.seconds * load.mean_ms / 1e3}
    if load.ok:
        record.metrics |= {"p50_ms": load.p50_ms, "p99_ms": load.p99_ms, "max_ms": load.max_ms}
        if load.server_cpu is not None:
            record.metrics["cpu_us"] = 1e6 * load.server_cpu / load.ok
    record.flaws = flaws_of(load, record.cell["clients"])
    record.detail = {"load": asdict(load) | {"answers": []}, "others": others, "notes": notes_of(load, others)}


def _rate(cell: Cell, options: Options) -> float | None:
    """Requests a second, to three digits; None: a closed loop. ValueError if it is not known."""
    axes = dict(cell.axes)
    if "requests_per_s" in axes:
        return float(axes["requests_per_s"])
    if "load" not in axes:
        return None
    able = options.more.get("able_per_s", {}).get(_key(cell))
    if not able:
        raise ValueError("what the slowest can do has not been measured: begin a new folder, or give --rates")
    return float(f"{cell['load'] * min(able.values()):.3g}")


def _key(cell: Cell) -> str:
    """Of subjects that are compared: the same kind of load."""
    return f"{'on' if cell['keep_alive'] else 'off'}:{cell['sleep_ms']:g}"


def _kinds(options: Options) -> Iterator[tuple[bool, float]]:
    """Keep-alive, and what the handler sleeps."""
    for keep_alive in options.keep_alive or ():
        for sleep_ms in options.sleeps_ms or ():
            yield keep_alive, sleep_ms


def _kinds_of(results: Results) -> list[tuple[bool, float]]:
    return list(dict.fromkeys((cell["keep_alive"], cell["sleep_ms"]) for cell in results.cells))


PRESET = OpenPreset()
