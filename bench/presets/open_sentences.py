"""What is said of the preset `open`, of one kind of load: keep-alive on or off, and one sleep of the handler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from bench.lab.preset import Saying
from bench.lab.record import Cell, Results, Spread

__all__ = ["Told", "level_of"]

_CLEAR = 2.0
"""Times as long: a difference that counts."""
_HIDES = 1.5
"""Times as small as at equal work: a difference is hidden."""
_OFF = 0.05
"""Of what the slowest can do: by how much a rate may be another share than it was meant to be."""


def level_of(cell: Cell) -> float | None:
    """Of an open loop: the load, or the rate; None: a closed one."""
    axes = dict(cell.axes)
    level = axes.get("load", axes.get("requests_per_s"))
    return None if level is None else float(level)


class Told:
    """The sentences on `cells`, of which all are the same kind of load."""

    def __init__(self, results: Results, cells: Sequence[Cell]) -> None:
        self._results = results
        self._open: dict[float, list[Cell]] = {}
        closed: dict[int, list[Cell]] = {}
        for cell in cells:
            level = level_of(cell)
            if level is not None:
                self._open.setdefault(level, []).append(cell)
            else:
                closed.setdefault(cell["clients"], []).append(cell)
        self._levels = sorted(self._open)
        self._clients = max(closed, default=0)
        self._closed = closed.get(self._clients, [])

    def all(self) -> list[Saying]:
        if not self._levels:
            return [Saying("Latency at equal work cannot be said: there are no runs at a rate.")]
        said = [self._equal_work(), self._hidden(), self._growth(), self._queue(), self._rates()]
        return [saying for saying in said if saying is not None]

    def _equal_work(self) -> Saying:
        top = self._levels[-1]
        fit = self._fit(self._open[top])
        unfit = [cell.subject for cell in self._open[top] if cell.subject not in fit]
        left_out = f" Left out, for the reasons in the table: {', '.join(unfit)}." if unfit else ""
        if len(fit) < 2:
            return Saying(f"Whose p99 is lowest at equal work cannot be said: at {self._work(top)} there are fewer "
                          f"than two to be compared.{left_out}")
        best, worst = _extremes(fit)
        same = [name for name in fit if name not in (best, worst) and not fit[name].apart(fit[best])]
        factor = fit[worst].median / fit[best].median
        shown = fit[worst].apart(fit[best]) and factor >= _CLEAR
        text = (f"at equal work, {self._work(top)}, p99 is lowest with {best}, {_ms(fit[best])}, and highest with "
                f"{worst}, {_ms(fit[worst])}: {factor:.1f} times as long")
        if not shown:
            text += ", which is no clear difference"
        if shown and same:
            text += f". Not told apart from {best}: {_listed(same, fit)}"
        if len(fit[best].values) < 2:
            text += ". There is one run of each, so it may be chance"
        return Saying(f"{text}.{left_out}", shown)

    def _hidden(self) -> Saying | None:
        """Whether the same two look as different in a closed loop."""
        fit, closed = self._fit(self._open[self._levels[-1]]), self._fit(self._closed)
        if len(fit) < 2:
            return None
        best, worst = _extremes(fit)
        factor = fit[worst].median / fit[best].median
        if factor < _CLEAR or not fit[worst].apart(fit[best]):
            return None
        if best not in closed or worst not in closed:
            return Saying("Whether a closed loop hides that cannot be said: there are no runs in one, of these two, "
                          "that compare with anything.")
        there = closed[worst].median / closed[best].median
        text = (f"a closed loop hides that: with {self._clients} clients the p99 of {best} is {_ms(closed[best])}, and "
                f"that of {worst} {_ms(closed[worst])}, {there:.1f} times as long")
        waits = [1e3 * self._clients / rate for name in (best, worst) if (rate := self._able(name))]
        if len(waits) == 2:
            text += (f". There latency is clients over throughput, by Little's law {waits[0]:.0f} and {waits[1]:.0f} "
                     "ms on average: it tells what a server can do, not how long clients of one that is not full wait")
        return Saying(f"{text}.", factor >= _HIDES * there)

    def _growth(self) -> Saying | None:
        if len(self._levels) < 2:
            return None
        low, high = (self._fit(self._open[level]) for level in (self._levels[0], self._levels[-1]))
        grown = [f"{name} {low[name].median:.2f} and {high[name].median:.2f} ms" for name in low if name in high]
        return Saying(f"p99 at {self._work(self._levels[0])} and at {self._work(self._levels[-1])}: {', '.join(grown)}."
                      ) if grown else None

    def _queue(self) -> Saying | None:
        """The loop is a queue with one server, whose work is always the same: M/D/1."""
        able = self._able("loop")
        said = []
        for level in self._levels:
            cells = [cell for cell in self._open[level] if cell.subject == "loop"]
            means = [record.detail["mean_ms"] for cell in cells for record in self._results.of(cell)
                     if not record.flaws and record.detail.get("mean_ms")]
            rate = self._rate(level)
            if able and rate and means and rate < able:
                share = rate / able
                said.append(f"{1e3 / able * (1 + share / (2 * (1 - share))):.1f} ms at {share:.0%}, measured "
                            f"{median(means):.1f}")
        return Saying("The loop, whose handlers run one at a time, is a queue with one server and always the same "
                      "work. Of what it did in the closed loop Pollaczek and Khinchine's formula makes a mean "
                      f"latency of {'; '.join(said)}.") if said else None

    def _rates(self) -> Saying | None:
        """Whether the rates are what they were meant to be."""
        able = {name: rate for cell in self._closed if (rate := self._able(name := cell.subject))}
        rate = self._rate(self._levels[-1])
        if not able or not rate:
            return None
        slowest = min(able, key=lambda name: able[name])
        share = rate / able[slowest]
        if share > 1:
            return Saying(f"{rate:,.0f} requests/s are more than {slowest} can do, which did {able[slowest]:,.0f} in "
                          "the closed loop: there its queue grows for as long as a run lasts, and latency with it.")
        if "load" in dict(self._open[self._levels[-1]][0].axes):
            if abs(share - self._levels[-1]) <= _OFF:
                return None
            return Saying(f"What was to be {self._levels[-1]:.0%} of what the slowest can do has turned out to be "
                          f"{share:.0%}: {slowest} did {able[slowest]:,.0f} requests/s in the closed loop of these "
                          "runs.")
        better = ",".join(f"{part * able[slowest]:.3g}" for part in (0.3, 0.5, 0.7, 0.9))
        return Saying(f"The highest rate is {share:.0%} of what the slowest, {slowest}, did in the closed loop, "
                      f"{able[slowest]:,.0f} requests/s. 30, 50, 70 and 90 % of that would be --rates {better}.")

    # What they are made of.

    def _fit(self, cells: Sequence[Cell]) -> dict[str, Spread]:
        """The p99 of those that may be compared."""
        return {cell.subject: spread for cell in cells
                if not self._results.flaws(cell) and (spread := self._results.spread(cell, "p99_ms")) is not None}

    def _able(self, subject: str) -> float | None:
        """Requests a second in the closed loop; None: not known."""
        for cell in self._closed:
            if cell.subject == subject and not self._results.flaws(cell):
                return self._results.median(cell, "ok_per_s")
        return None

    def _rate(self, level: float) -> float | None:
        for cell in self._open[level]:
            for record in self._results.of(cell):
                if "rate" in record.detail:
                    return float(record.detail["rate"])
        return None

    def _work(self, level: float) -> str:
        """"765 requests/s (90 % of what the slowest can do)"."""
        rate = self._rate(level)
        said = "an unknown rate" if rate is None else f"{rate:,.0f} requests/s"
        share = "load" in dict(self._open[level][0].axes)
        return f"{said} ({level:.0%} of what the slowest can do)" if share else said


def _extremes(fit: Mapping[str, Spread]) -> tuple[str, str]:
    """Whose is lowest, and whose is highest."""
    return min(fit, key=lambda name: fit[name].median), max(fit, key=lambda name: fit[name].median)


def _ms(spread: Spread) -> str:
    """"1.95 ms (1.90–2.01)"."""
    around = f" ({spread.low:.2f}–{spread.high:.2f})" if len(spread.values) > 1 else ""
    return f"{spread.median:.2f} ms{around}"


def _listed(names: Sequence[str], spreads: Mapping[str, Spread]) -> str:
    return ", ".join(f"{name} ({spreads[name].median:.2f})" for name in names)
