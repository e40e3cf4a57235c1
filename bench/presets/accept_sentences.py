"""What the preset `accept` says, made of its records alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from bench.lab.preset import Saying
from bench.lab.record import Cell, Results, Spread

__all__ = ["model_of", "sentences"]

_CLEAR = 2.0
"""Times as much is a difference, if besides every run of the one is beyond every run of the other."""


def model_of(cell: Cell) -> str:
    """Without its parser and interpreter: "pool-hold"."""
    return cell.subject.partition("/")[0].partition("@")[0]


def sentences(results: Results, connections: int, threads: int, with_heading: bool) -> list[Saying]:
    """Of the cells with so many `connections`: first the claim that the preset is named after."""
    heading = f"{connections} connections" if with_heading else ""
    said = _Sentences(results, connections, threads)
    found = [said.order(), said.surplus(), said.in_a_burst(), said.threads_of_their_own(), said.left_out()]
    return [Saying(saying.text, saying.shown, heading) for saying in found if saying is not None]


class _Sentences:
    def __init__(self, results: Results, connections: int, threads: int) -> None:
        self._results, self._connections, self._threads = results, connections, threads
        self._cells = list(results.where(connections=connections))
        self._fit = [cell for cell in self._cells if not results.flaws(cell)]

    def order(self) -> Saying:
        recycling, pool = self._of("recycling"), self._of("pool")
        if not recycling or not pool:
            return Saying("Whether recycling gives clients that come one by one to one thread, and the pool hands "
                          "threads round, cannot be judged: it takes a run of both, one by one, in which all clients "
                          f"were answered. {self._listed('busiest_percent', [*pool, *recycling], '%')}".rstrip())
        shares = self._all("busiest_percent", recycling)
        of_pool = self._all("busiest_percent", pool)
        shown = shares.low > of_pool.high and shares.median >= _CLEAR * of_pool.median
        text = (f"Of {self._connections} clients that come one by one, the busiest thread serves "
                f"{self._listed('busiest_percent', [*recycling, *pool], '%')}; the same share for each of "
                f"{self._threads} threads would be {100 / self._threads:.0f} %. ")
        text += ("Recycling's epoll set wakes the thread that has waited for the shortest time (last in, first out), "
                 "and the pool's queue the one that has waited longest." if shown else
                 "Recycling should give nearly all of them to one thread, since its epoll set wakes the one that has "
                 "waited for the shortest time, and the pool hand them round: here they are not that far apart.")
        return Saying(text, shown)

    def surplus(self) -> Saying | None:
        recycling, pool = self._of("recycling"), self._of("pool")
        if not recycling or not pool:
            return None
        used, of_pool = self._all("threads_used", recycling), self._all("threads_used", pool)
        shown = used.high < self._threads and of_pool.low == self._threads
        text = (f"Of {self._threads} threads, so many have served anybody at all: "
                f"{self._listed('threads_used', [*recycling, *pool])}. ")
        text += ("A thread that gets nothing reaches its idle timeout: with recycling those that are too many can "
                 "leave. Where threads are handed round, each gets somebody now and then, and no timeout ever sees "
                 "that fewer would do." if shown else
                 "With recycling some should get nobody, and with the pool none.")
        return Saying(text, shown)

    def in_a_burst(self) -> Saying | None:
        pairs = [(one, many) for one in self._of("pool") for many in self._of("pool", "burst")
                 if one.subject == many.subject]
        if not pairs:
            return None
        one = self._all("switches", [pair[0] for pair in pairs])
        many = self._all("switches", [pair[1] for pair in pairs])
        shown = many.high < one.low and _CLEAR * many.median <= one.median
        text = (f"In a burst the pool does not hand threads round either: from one client to the next the thread "
                f"changes {self._listed('switches', [pair[1] for pair in pairs])} times; one by one, "
                f"{self._listed('switches', [pair[0] for pair in pairs])} times, of {self._connections - 1}. ")
        text += ("A worker that is done finds the next client in the queue before another worker is awake." if shown
                 else "It should be fewer, since a worker that is done finds the next client in the queue.")
        if recycling := self._of("recycling", "burst"):
            text += (" The busiest thread of a burst serves "
                     f"{self._listed('busiest_percent', [*recycling, *self._of('pool', 'burst')], '%')}.")
        return Saying(text, shown)

    def threads_of_their_own(self) -> Saying | None:
        cells = [*self._of("thread"), *self._of("thread", "burst")]
        if not cells:
            return None
        used = self._all("threads_used", cells)
        each = used.low == used.high == self._connections
        return Saying(f"A thread for each connection has no order: {self._connections} clients were served by "
                      f"{self._connections if each else _range(used)} threads"
                      f"{', each by one that had been started for it' if each else ''}.")

    def left_out(self) -> Saying | None:
        flawed = [f"{cell.subject}, {cell['arrivals']} ({'; '.join(self._results.flaws(cell))})"
                  for cell in self._cells if cell not in self._fit]
        return Saying(f"Not counted in any of this: {', '.join(flawed)}.") if flawed else None

    def _of(self, kind: str, arrivals: str = "one by one") -> list[Cell]:
        """Those without a flaw and with figures, of one kind of models: "pool"."""
        return [cell for cell in self._fit if model_of(cell).partition("-")[0] == kind
                and cell["arrivals"] == arrivals and self._results.spread(cell, "busiest_percent") is not None]

    def _all(self, metric: str, cells: Iterable[Cell]) -> Spread:
        """Of all runs of `cells`, of which there is one at least."""
        return Spread(tuple(record.metrics[metric] for cell in cells for record in self._results.of(cell)))

    def _listed(self, metric: str, cells: Sequence[Cell], unit: str = "") -> str:
        """"recycling-hold 100 % (98–100), pool-hold 25 %"."""
        return ", ".join(f"{cell.subject} {_said(self._all(metric, [cell]), unit)}" for cell in cells)


def _said(spread: Spread, unit: str) -> str:
    space = f" {unit}" if unit else ""
    median_ = f"{median(spread.values):.0f}{space}"
    return median_ if round(spread.low) == round(spread.high) else f"{median_} ({_range(spread)})"


def _range(spread: Spread) -> str:
    low, high = f"{spread.low:.0f}", f"{spread.high:.0f}"
    return low if low == high else f"{low}–{high}"
