"""The preset `accept` (S6): which thread gets the next connection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from bench.children import cores, running
from bench.clients.arrivals import burst, one_by_one
from bench.lab.gates import NOISY
from bench.lab.preset import Drawing, Options, Preset, Saying
from bench.lab.record import Cell, Record, Results
from bench.lab.serving import Server, on_load_core, recording
from bench.presets.accept_picture import strips
from bench.presets.accept_sentences import sentences
from bench.subjects import Setup
from bench.trace.run import traced_command

__all__ = ["ARRIVALS", "PRESET", "THREADS", "Accept"]

THREADS = 4
ARRIVALS = ("one by one", "burst")
_PAUSE_S = 0.003
"""Between two clients that come one by one: a thread that has closed a connection is back where it waits by then."""
_BEFORE = 2 * THREADS
"""Clients before those that count: so each thread has had its first one."""


class Accept(Preset):
    """A cell is a subject, and how clients come."""

    name = "accept"
    title = "Who gets the next connection"
    question = (f"{THREADS} threads wait, and a client comes. Which of them serves it, and which the next? Nobody has "
                "to wait longer for it; but it decides whether threads that are too many are ever seen to be idle, and "
                "can leave, and whose caches are warm.")
    prediction = (
        "In the pool, workers wait for a condition, which wakes whoever has waited longest: threads are handed round, "
        "1 2 3 4 1 2 3 4. In recycling all wait for one epoll set, where the kernel wakes whoever has waited for the "
        "shortest time: one thread takes nearly all clients that come one by one, and the others sleep through it. In "
        "a burst neither order holds: a thread that is done takes whoever is next before another is awake. A thread "
        "for each connection has no order: each is a new one. (Cloudflare saw the same of epoll in 2017: \"Why does "
        "one NGINX worker take all the load?\")")
    method = (
        f"{THREADS} threads, all of them from the start; of `thread`, as many as come. The handler answers the name of "
        f"the thread that runs it. Clients come one by one, each {1e3 * _PAUSE_S:g} ms after the one before has got "
        f"its answer and gone; or in a burst, where all connect and ask before the first reads. {_BEFORE} clients one "
        "by one come before, and do not count. With keep-alive nothing would be different: a connection is accepted "
        "once.")
    defaults = Options(subjects=("thread", "pool-hold", "pool-park", "recycling-hold", "recycling-park"), blocks=5,
                       connections=(40,))
    columns = ("busiest_percent", "threads_used", "switches")

    def cells(self, options: Options) -> list[Cell]:
        return [Cell.of(subject, arrivals=arrivals, connections=connections)
                for connections in options.connections or () for arrivals in ARRIVALS
                for subject in options.subjects or ()]

    def prepare(self, options: Options) -> Options:
        if options.app or options.generator != "builtin":
            raise ValueError("the preset accept has its own handler, which tells its thread, and its own clients: "
                             "leave out --app and --generator")
        return options

    def seconds(self, cell: Cell, options: Options) -> float:
        counted: int = cell["connections"] if cell["arrivals"] != "burst" else 0
        return 0.8 + 2 * _PAUSE_S * (_BEFORE + counted)

    def run(self, cell: Cell, block: int, options: Options) -> Record:
        count = cell["connections"]
        with recording(cell, block) as record:
            setup = Setup(threads=THREADS, queue=count)
            if cell.subject.partition("/")[0].partition("@")[0] == "thread":  # has none before somebody comes
                setup = Setup(capacity=count + _BEFORE)
            with running([*traced_command(cell.subject, setup), "--who"], cores()[0]) as child:
                server = Server(child, cores()[0])
                with on_load_core():
                    one_by_one(server.port, _BEFORE, _PAUSE_S, options.timeout)
                    if cell["arrivals"] == "burst":
                        answers = burst(server.port, count, options.timeout)
                    else:
                        answers = one_by_one(server.port, count, _PAUSE_S, options.timeout)
                others = server.others()
                server.ended()
            _fill(record, answers, others)
        return record

    def figures(self, results: Results) -> list[Drawing]:
        return [strips(results, connections, THREADS)
                for connections in dict.fromkeys(cell["connections"] for cell in results.cells)]

    def says(self, results: Results) -> list[Saying]:
        numbers = list(dict.fromkeys(cell["connections"] for cell in results.cells))
        return [saying for connections in numbers
                for saying in sentences(results, connections, THREADS, with_heading=len(numbers) > 1)] or [
                    Saying("Who gets the next connection cannot be judged: there are no records.")]


def _fill(record: Record, answers: Sequence[str], others: float) -> None:
    """What `answers` tell: the names of the threads, in the order in which the clients came."""
    numbers: dict[str, int] = {}
    order = [numbers.setdefault(name, len(numbers)) if name else -1 for name in answers]
    served = [number for number in order if number >= 0]
    if served:
        [(_, most)] = Counter(served).most_common(1)
        record.metrics = {"busiest_percent": 100 * most / len(served), "threads_used": len(numbers),
                          "switches": sum(one != next_ for one, next_ in pairwise(served))}
    if missing := len(order) - len(served):
        record.flaws.append(f"{missing} of {len(order)} clients got no answer")
    record.detail = {"others": others, "order": order,
                     "notes": [f"others had {others:.0%} of the server's core"] if others > NOISY else []}


PRESET = Accept()
