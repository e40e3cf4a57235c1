"""The preset `convoy` (S5): handlers that compute, and a tiny one that waits behind them.

The effect has its name from David Beazley, "Understanding the Python GIL" (PyCon 2010), and "Python GIL convoy effect"
(bpo-7946, now gh-52194). A thread that computes gives the interpreter's lock up only when another has waited for it for
`sys.getswitchinterval()`, 5 ms by default. A thread that does I/O gives it up at every system call that may block, and
asks for it again after each: so a request that takes a hundred microseconds waits up to 5 ms several times over.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from bench.children import Child, cores, running
from bench.clients.probe import Probed
from bench.clients.result import Result
from bench.lab.drawing import svg_of
from bench.lab.gates import NOISY
from bench.lab.preset import Drawing, Options, Preset, Saying
from bench.lab.record import Cell, Record, Results
from bench.lab.serving import Server, load_core, recording, serving
from bench.presets.convoy_picture import waits
from bench.presets.convoy_sentences import DEFAULT_MS, sentences, without_gil
from bench.subjects import Setup, find_subject

__all__ = ["PRESET"]

_SPIN_MS = 5
"""Of CPU, for each response of the handler that computes."""
_SHORT_MS = 0.5
_ROOM = 32
_LATE_MS = 2.0
"""By which the probe itself may miss its schedule, which counts as waiting."""
_LONGER = 0.3
"""Seconds for which the computing goes on after the probe is thought to have ended."""
_PATIENCE = 2.0


class _Convoy(Preset):
    """A cell is a subject, on one core or on all, with a switch interval, and so many clients that make it compute."""

    name = "convoy"
    title = "A tiny handler beside one that computes"
    question = (
        "Most requests are answered at once, and a few need the CPU for a while. With threads and a GIL, what do the "
        "many pay for the few? What does a shorter switch interval help, and what processes, or an interpreter without "
        "a GIL?")
    prediction = (
        "A thread that computes gives the GIL up only when another has waited for it for the switch interval, 5 ms. A "
        "tiny request needs it several times, since each system call that may block gives it up: to wake up, accept, "
        "read, write. So one computing handler makes a tiny response, of a fraction of a millisecond, wait "
        "several milliseconds, and two about twice as long. With a switch interval of 0.5 ms it is about a tenth of "
        "that, for a few more switches. More threads, or another model of threads, help nothing. A second process on a "
        "core of its own does, as long as not all of them compute: who is free accepts first. (Beazley, "
        "\"Understanding the Python GIL\", PyCon 2010.)")
    method = (
        f"Clients in a closed loop (--connections 1,2; none besides) ask for /spin/{_SPIN_MS}, which computes for "
        f"{_SPIN_MS} ms of CPU time in Python. Beside them bench.clients.probe asks for / at random moments, 100 times "
        "a second, each on a new connection, and its clock runs from the moment at which a request was due. Cores one: "
        f"the server has one, and the load another; with switch intervals of {DEFAULT_MS:g} and {_SHORT_MS:g} ms. "
        "Cores all: server and load are anywhere, so that processes and threads without a GIL can use what there is; "
        f"{DEFAULT_MS:g} ms. There the load takes from the server what it needs, some per cent of a core.")
    defaults = Options(subjects=("recycling-park", "thread", "prefork"), blocks=2, seconds=1.2, warmup=0.3,
                       connections=(1, 2), rates=(100.0,))
    columns = ("p50_ms", "p99_ms", "max_ms", "spins_per_s")

    def cells(self, options: Options) -> list[Cell]:
        if options.app or options.generator != "builtin" or len(options.rates or ()) != 1:
            raise ValueError("convoy has handlers and a load of its own, and one rate: leave out --app and --generator")
        numbers = (0, *(number for number in options.connections or () if number))
        cells = [Cell.of(subject, cores="one", switch_interval_ms=interval, computing=number)
                 for interval in (DEFAULT_MS, _SHORT_MS) for subject in options.subjects or ()
                 if find_subject(subject).model != "prefork" and not without_gil(subject) for number in numbers]
        if cores()[0] is not None:
            cells += [Cell.of(subject, cores="all", switch_interval_ms=DEFAULT_MS, computing=number)
                      for subject in options.subjects or () for number in numbers]
        return cells

    def seconds(self, cell: Cell, options: Options) -> float:
        return super().seconds(cell, options) + (_LONGER if cell["computing"] else 0.0) + 0.2

    def run(self, cell: Cell, block: int, options: Options) -> Record:
        warmup, seconds = options.warmup or 0.0, options.seconds or 0.0
        [rate] = options.rates or (100.0,)
        pinned = cell["cores"] == "one"
        setup = Setup(by_path=True, capacity=_ROOM, switch_interval_ms=cell["switch_interval_ms"])
        with (recording(cell, block) as record, serving(cell.subject, setup, pinned=pinned) as server,
              _computing(server, cell["computing"], warmup, seconds) as computing,
              running(["bench.clients.probe", "--port", str(server.port), "--rate", f"{rate:g}", "--warmup",
                       f"{warmup:g}",
                       "--duration", f"{seconds:g}", "--seed", str(1000 * options.seed + block), "--new-connection",
                       "--timeout", f"{options.timeout:g}", "--drain", f"{_PATIENCE:g}"],
                      load_core() if pinned else None) as child):
            longest = warmup + seconds + _PATIENCE + 15
            tiny = Probed(**json.loads(child.line(longest)))
            spins = Result(**json.loads(computing.line(longest + options.timeout))) if computing else None
            _fill(record, tiny, spins, server.others() if pinned else None)
        return record

    def figures(self, results: Results) -> list[Drawing]:
        if not any(record.metrics for record in results.records):
            return []
        return [Drawing("convoy", svg_of(waits(results), "convoy"), (
            "How long a tiny request takes, against the number of clients that make the server compute; on a "
            "logarithmic scale. One line for each subject, switch interval, and cores that it may use. Dots are "
            "medians, thin lines go from the lowest run to the highest; hollow ones compare with nothing."))]

    def says(self, results: Results) -> list[Saying]:
        return sentences(results)


@contextmanager
def _computing(server: Server, clients: int, warmup: float, seconds: float) -> Iterator[Child | None]:
    """Clients that make the server compute, for as long as the probe counts, and a little longer."""
    if not clients:
        yield None
        return
    with running(["bench.clients.load", "--port", str(server.port), "--connections", str(clients), "--warmup",
                  f"{warmup:g}", "--duration", f"{seconds + _LONGER:g}", "--path", f"/spin/{_SPIN_MS}"],
                 None if server.core is None else load_core()) as child:
        yield child


def _fill(record: Record, tiny: Probed, spins: Result | None, others: float | None) -> None:
    """others: the share of the server's core that others had; None: it has no core of its own."""
    if tiny.ok:
        record.metrics = {f"{name}_ms": round(tiny.latency_ms[name], 3) for name in ("p50", "p99", "max")}
    else:
        record.flaws.append("no answer at all")
    record.flaws += [f"{count:,} responses {status}" for status, count in sorted(tiny.non_2xx.items())]
    record.flaws += [f"{count:,} {kind}" for kind, count in sorted(tiny.errors.items())]
    if tiny.unanswered:
        record.flaws.append(f"{tiny.unanswered} requests without an answer {_PATIENCE:g} s after the last was due")
    late = tiny.late_ms.get("p99", 0.0)
    record.detail = {"ok": tiny.ok, "scheduled": tiny.scheduled, "late_ms": tiny.late_ms, "others": others,
                     "notes": [f"the probe was up to {late:.1f} ms late"] if late > _LATE_MS else []}
    if others is not None and others > NOISY:
        record.detail["notes"].append(f"others had {others:.0%} of the server's core")
    if spins is not None:
        record.metrics["spins_per_s"] = round(spins.ok / spins.seconds, 1)
        wrong = sorted((spins.errors | spins.non_2xx).items())
        record.flaws += [f"of the computing: {count:,} {kind}" for kind, count in wrong]
        if spins.starved:
            record.flaws.append(f"{spins.starved} of the computing clients got no answer at all")


PRESET = _Convoy()
