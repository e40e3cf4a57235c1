"""The preset `starve` (S3): clients that keep their connections, more of them than threads; and newcomers.

Who stays is a closed loop (`bench.clients.load`): it shows who is served. Newcomers are an open loop
(`bench.clients.probe`): they come when they come, whether or not anybody answers, and so their waiting is seen, and
counted when it has no end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bench.children import running
from bench.clients.probe import Probed
from bench.clients.result import Result, fairness
from bench.lab.gates import flaws_of, notes_of
from bench.lab.preset import Drawing, Options, Preset, Saying
from bench.lab.record import Cell, Record, Results
from bench.lab.serving import load_core, recording, serving
from bench.presets.starve_picture import panels
from bench.presets.starve_sentences import Sentences, disturbance
from bench.subjects import Setup, find_subject

__all__ = ["PATIENCE", "PRESET", "THREADS", "Starve", "measured"]

THREADS = 8
PATIENCE = 1.0
"""Seconds that the last newcomer waits at least, before it counts as left out; those before it wait longer."""
_KNOWN = 0.01
"""Share of the newcomers that may be left out, and the 99th percentile is still that of those that are not."""
_LATE_MS = 5.0
"""By which the probe itself may miss its schedule, which counts as waiting."""
_SLACK = 10.0


class Starve(Preset):
    """A cell is a subject, so many clients that stay, and what the handler sleeps."""

    name = "starve"
    title = "Who is served, when clients keep their connections and threads are few"
    question = (f"A hundred clients keep their connections and ask again as soon as they are answered; there are "
                f"{THREADS} threads. Who is served? And how long does somebody wait who comes now, for one request? A "
                "usual benchmark does not tell: it sees the latency of those that are answered.")
    prediction = (
        "A thread that holds its connection (idle=hold; a thread for each connection; the single thread) is done with "
        f"it when the client leaves or is idle, and these clients do neither: so {THREADS} of them get everything, the "
        "others nothing, and a newcomer waits behind these. A thread that parks takes whatever has been ready longest: "
        "so all take turns, and a newcomer waits for one turn of everybody, which is clients / threads x the time of a "
        "request, or for the CPU. The loop serves all with one thread, and there a turn of everybody takes clients x "
        "the time of a request, since its handlers sleep one after the other. The best latencies are those of the "
        "models that serve the fewest, because they are the latencies of the few.")
    method = (
        f"{THREADS} threads, all of them from the start, with room for everybody to wait, and no idle timeout; the "
        "loop and the single thread have one. Clients that stay (--connections) are a closed loop; their figures are "
        "the table's first columns. Beside them newcomers (--rates), at random moments, because those see what is "
        "there on average (Wolff, \"Poisson arrivals see time averages\", Operations Research 30(2), 1982), each on a "
        "connection of its own. A newcomer's clock runs from the moment at which it was due. The last of them is "
        f"waited for {PATIENCE:g} s longer; who has no answer then, or another than 2xx, is left out, and has no "
        f"latency: where more than {100 * _KNOWN:.0f} % are left out there is no p99. Jain's index is 1 if all get the "
        "same, and 1/n if one of n gets all.")
    defaults = Options(subjects=("single", "thread", "pool-hold", "pool-park", "recycling-hold", "recycling-park",
                                 "loop"),
                       blocks=3, seconds=2.0, warmup=0.4, connections=(100,), sleeps_ms=(1.0,), rates=(20.0,),
                       timeout=30.0)
    columns = ("served", "jain", "ok_per_s", "cpu_us", "p50_ms", "p99_ms", "little", "newcomer_p99_ms",
               "newcomer_max_ms", "left_out_percent")

    def cells(self, options: Options) -> list[Cell]:
        return [Cell.of(subject, connections=connections, sleep_ms=sleep_ms)
                for connections in options.connections or () for sleep_ms in options.sleeps_ms or ()
                for subject in options.subjects or ()]

    def seconds(self, cell: Cell, options: Options) -> float:
        return super().seconds(cell, options) + PATIENCE + 0.5

    def run(self, cell: Cell, block: int, options: Options) -> Record:
        connections, warmup, seconds = cell["connections"], options.warmup or 0.0, options.seconds or 1.0
        [rate, *_] = options.rates or (20.0,)
        setup = Setup(sleep_ms=cell["sleep_ms"], threads=THREADS, queue=1000, idle_s=3600, app=options.app)
        with recording(cell, block) as record, serving(cell.subject, setup) as server:
            # Those that stay outlast the newcomers: they begin to count at the same time, or later if some starve, and
            # count for as long as the last newcomer waits.
            stay = ["bench.clients.load", "--port", str(server.port), "--connections", str(connections), "--warmup",
                    f"{warmup:g}", "--duration", f"{seconds + PATIENCE:g}", "--timeout", f"{options.timeout:g}",
                    "--watch", str(server.pid)]
            come = ["bench.clients.probe", "--port", str(server.port), "--rate", f"{rate:g}", "--warmup", f"{warmup:g}",
                    "--duration", f"{seconds:g}", "--seed", str(1000 * options.seed + block), "--new-connection",
                    "--timeout", f"{options.timeout:g}", "--drain", f"{PATIENCE:g}"]
            with running(stay, load_core()) as staying, running(come, load_core()) as coming:
                longest = warmup + seconds + PATIENCE + _SLACK
                newcomers = Probed(**json.loads(coming.line(longest, server.look)))
                load = Result(**json.loads(staying.line(longest, server.look)))
            measured(record, load, newcomers, server.others())
            record.metrics["threads"] = server.most_threads
        return record

    def setting(self, meta: Mapping[str, Any]) -> str:
        setup = Setup(threads=THREADS)
        said = "; ".join(find_subject(name).settings(setup) for name in meta["options"]["subjects"])
        return f"All else is the default: {said}."

    def figures(self, results: Results) -> list[Drawing]:
        return [panels(results, load) for load in dict.fromkeys(cell.axes for cell in results.cells)]

    def says(self, results: Results) -> list[Saying]:
        loads = list(dict.fromkeys(cell.axes for cell in results.cells))
        said = [saying for load in loads
                for saying in Sentences(results, load, THREADS, PATIENCE).all(with_heading=len(loads) > 1)]
        return said + disturbance(results)


def measured(record: Record, load: Result, newcomers: Probed, others: float) -> None:
    """Put into `record` what a run has come to. others: the share of the server's core that others had."""
    left_out = newcomers.scheduled - newcomers.ok
    rate = load.ok / load.seconds
    record.metrics = {"served": sum(count > 0 for count in load.answers), "jain": fairness(load.answers),
                      "ok_per_s": rate, "little": rate * load.mean_ms / 1e3}
    if load.ok:
        record.metrics |= {"p50_ms": load.p50_ms, "p99_ms": load.p99_ms}
        if load.server_cpu is not None:
            record.metrics["cpu_us"] = 1e6 * load.server_cpu / load.ok
    if newcomers.scheduled:
        record.metrics["left_out_percent"] = 100 * left_out / newcomers.scheduled
    if newcomers.ok:
        if left_out <= _KNOWN * newcomers.scheduled:
            record.metrics["newcomer_p99_ms"] = newcomers.latency_ms["p99"]
        if not left_out:
            record.metrics["newcomer_max_ms"] = newcomers.latency_ms["max"]
    record.flaws = flaws_of(load, len(load.answers))
    late = newcomers.late_ms.get("p99", 0.0)
    notes = notes_of(load, others) + ([f"newcomers came up to {late:.0f} ms late"] if late > _LATE_MS else [])
    record.detail = {
        "others": others, "notes": notes, "seconds": load.seconds, "answers": load.answers,
        "newcomers": {"scheduled": newcomers.scheduled, "ok": newcomers.ok, "unanswered": newcomers.unanswered,
                      "non_2xx": newcomers.non_2xx, "errors": newcomers.errors, "late_ms": newcomers.late_ms,
                      "longest_ms": newcomers.latency_ms.get("max"), "curve": newcomers.curve}}


PRESET = Starve()
