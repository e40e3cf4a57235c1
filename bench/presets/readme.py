"""`python -m bench run readme`: the matrix of hunchentoot-recycling-taskmaster's README, and its own table beside ours.

The original measured in December 2025: SBCL, a 13th-generation i7, wrk with four threads (sixteen for 400 connections)
for ten seconds, once. Its logs are public; `original.tsv` holds what wrk printed there. Three things in them are to be
known before reading: `defects` finds them.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from bench.lab.drawing import svg_of
from bench.lab.preset import Drawing, Options, Saying
from bench.lab.record import Results
from bench.presets.matrix import MatrixPreset, figures_of
from bench.presets.matrix_picture import capacity_grid

__all__ = ["PRESET", "Published", "published"]

_SAID = ("The claims", "How far")
"""Of the sentences on a matrix, for one number of connections; with three the table tells the rest better."""
_IN_SERVICE = 0.5
_IMPOSSIBLE = 1.25
_A_FEW = 0.01


@dataclass(frozen=True)
class Published:
    """One line of the original's results."""

    server: str
    keep_alive: bool
    sleep_ms: float
    connections: int
    """As given to wrk; with four threads and ten connections it makes eight, two for each."""
    per_s: float
    """Of any status: wrk counts them all."""
    mean_ms: float
    requests: int
    non_2xx: int
    failed: int
    """Read and write errors, and timeouts."""

    @property
    def ok_per_s(self) -> float:
        return self.per_s * (1 - self.non_2xx / self.requests)

    @property
    def little(self) -> float:
        """Throughput times mean latency: requests in progress, by Little's law."""
        return self.per_s * self.mean_ms / 1e3

    @property
    def defects(self) -> list[str]:
        """What is wrong with this line, in words; empty if nothing is to be seen."""
        said = []
        if self.non_2xx > _A_FEW * self.requests:
            said.append(f"{self.non_2xx / self.requests:.0%} of the answers are not 2xx, and count in its figure")
        if self.failed > _A_FEW * self.requests:
            said.append(f"{self.failed / self.requests:.0%} as many errors as requests")
        if self.little > _IMPOSSIBLE * self.connections:
            said.append(f"X·R is {self.little:.0f}, more than there are connections: the mean latency is not one of "
                        "requests (wrk fills in what it believes to have missed)")
        elif self.keep_alive and self.little < _IN_SERVICE * self.connections and self.connections > 10:
            said.append(f"X·R is {self.little:.1f}: so many are served, and the others wait where no latency shows it")
        return said


def published() -> list[Published]:
    """All lines of `original.tsv`."""
    with open(Path(__file__).with_name("original.tsv"), encoding="utf-8", newline="") as lines:
        return [Published(row["server"], row["keep_alive"] == "on", float(row["sleep_ms"]), int(row["connections"]),
                          float(row["per_s"]), float(row["mean_ms"]), int(row["requests"]), int(row["non_2xx"]),
                          int(row["read_errors"]) + int(row["write_errors"]) + int(row["timeouts"]))
                for row in csv.DictReader(lines, delimiter="\t")]


class _Readme(MatrixPreset):
    name = "readme"
    title = "The experiment of the original, in full"
    question = (
        "hunchentoot-recycling-taskmaster, where listen-socket recycling comes from, was shown by one experiment: "
        "keep-alive or not, a handler that sleeps or not, 10, 100 or 400 connections. What comes of it in Python, with "
        "every model behind one and the same acceptor?")
    prediction = (
        "Without keep-alive the original's recycling answered three times what a thread per connection did (12,831 and "
        "4,163 a second), and with keep-alive the same (35,324 and 34,800). The first because no thread is started, "
        "the second because then none is started by anybody. Both are expected here, at Python's rates; and models "
        "that hold a connection's thread are expected to serve everybody only as long as there are threads for all.")
    method = (
        "The original's matrix: sleep none, 0.1 ms (in its drafts) and 1 ms, keep-alive on and off, 10, 100 and 400 "
        "connections. What differs from it: several interleaved blocks instead of one run; only 2xx answers count; a "
        "client that gets nothing is counted; ten connections are ten, where wrk with four threads made eight; and our "
        "generator, which closes no connection before the server does. --generator wrk takes its tool.")
    defaults = Options(
        subjects=("single", "thread", "pool-hold", "pool-park", "recycling-hold", "recycling-park", "loop"),
        blocks=3, seconds=0.8, warmup=0.3, connections=(10, 100, 400), sleeps_ms=(0.0, 0.1, 1.0),
        keep_alive=(True, False))

    def figures(self, results: Results) -> list[Drawing]:
        every = figures_of(results)
        rate = capacity_grid(every, lambda one: one.rate, "2xx answers a second: higher is better")
        cost = capacity_grid(every, lambda one: one.cpu_us, "Server CPU for an answer, microseconds: lower is better")
        hollow = "Hollow: it compares with nothing, because clients starve or are refused; the table says which."
        return [Drawing("capacity", svg_of(rate, "capacity"), f"Medians of the blocks. {hollow}"),
                Drawing("cost", svg_of(cost, "cost"), f"The same runs, by the server's CPU clock. {hollow}")]

    def says(self, results: Results) -> list[Saying]:
        said = [one for one in super().says(results) if one.heading.startswith(_SAID) or not one.heading]
        said.sort(key=lambda one: not one.text.startswith("100 connections: where"))
        return [*said[:1], *_beside_the_originals(results), *said[1:], *_original()]


def _beside_the_originals(results: Results) -> list[Saying]:
    """If they took part: who is ahead, in the cells in which both may be compared."""
    said = []
    for theirs in ("hunchentoot", "hunchentoot-recycling"):
        ratios, ahead = [], 0
        for cell in results.where("recycling-park"):
            other = next(results.where(theirs, **dict(cell.axes)), None)
            if other is None or results.flaws(cell) or results.flaws(other):
                continue
            mine, its = results.spread(cell, "ok_per_s"), results.spread(other, "ok_per_s")
            if mine is not None and its is not None and its.median:
                ratios.append(mine.median / its.median)
                ahead += mine.low > its.high
        if ratios:
            said.append(Saying(
                f"recycling-park answers {min(ratios):.2f} to {max(ratios):.2f} times as many requests a second as "
                f"{theirs}, which is compiled (SBCL); in {ahead} of {len(ratios)} cells every run of the one is ahead "
                "of every run of the other. Each has one core: with more of them compiled threads run at the same "
                "time, and Python's take turns, so that it takes processes (prefork).", ahead == len(ratios),
                "Beside the compiled originals"))
    return said


def _original() -> list[Saying]:
    lines = published()
    said = [Saying(f"{one.server}, keep-alive {'on' if one.keep_alive else 'off'}, sleep {one.sleep_ms:g} ms, "
                   f"{one.connections} connections: {one.per_s:,.0f} a second in the original; "
                   f"{'; '.join(one.defects)}.", heading="The original's own figures, and what is wrong with them")
            for one in lines if one.defects]
    sound = len(lines) - len(said)
    return [Saying(f"Of the {len(lines)} figures that the original published, {sound} show nothing wrong. Its machine, "
                   "its language and its generator are others: ratios within its table can be held against ratios "
                   "within ours, and nothing else.", heading="The original's own figures, and what is wrong with them"),
            *said]


PRESET = _Readme()
