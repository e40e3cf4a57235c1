"""What the preset `tune` says of its records: where the knee is, what binds below it, what more threads cost."""

from __future__ import annotations

from dataclasses import dataclass

from bench.lab.preset import Saying
from bench.lab.record import Cell, Results

__all__ = ["Load", "ceiling", "knee", "loads_of", "sentences"]

_NEAR = 0.95
"""Of the best: what is close enough to it."""
_BINDS = 0.85
"""Of the ceiling: what has reached it. The rest is what a thread does besides sleeping."""
_CLEAR = 1.5
"""Times as much as with the fewest threads: without that there is no knee."""
_DEARER = 1.1
"""Times as much CPU for a response, from which on it is worth calling a price."""


@dataclass(frozen=True)
class Load:
    """What was done to all of them, whatever the number of threads."""

    connections: int
    sleep_ms: float

    @property
    def words(self) -> str:
        sleep = f"the handler sleeps {self.sleep_ms:g} ms" if self.sleep_ms else "the handler does not sleep"
        return f"{self.connections} clients, {sleep}"


def loads_of(results: Results) -> list[Load]:
    return list(dict.fromkeys(Load(cell["connections"], cell["sleep_ms"]) for cell in results.cells))


def ceiling(results: Results, load: Load, threads: int) -> float | None:
    """Responses a second that so many threads can give at most, if each sleeps as long as it was measured to take;
    None if they do not sleep."""
    if not load.sleep_ms:
        return None
    measured: float = results.meta.get("measured_sleep_ms", {}).get(f"{load.sleep_ms:g}", load.sleep_ms)
    return 1e3 * threads / measured


def fit_cells(results: Results, load: Load, subject: str) -> list[Cell]:
    """Those that may be compared, by threads."""
    cells = results.where(subject, connections=load.connections, sleep_ms=load.sleep_ms)
    return sorted((cell for cell in cells if results.spread(cell, "ok_per_s") and not results.flaws(cell)),
                  key=lambda cell: int(cell["threads"]))


def knee(results: Results, cells: list[Cell]) -> Cell | None:
    """The one with the fewest threads that is within 5 % of the best of `cells`; None if there are none."""
    rates = {cell: rate for cell in cells if (rate := results.median(cell, "ok_per_s"))}
    best = max(rates.values(), default=0.0)
    return next((cell for cell, rate in rates.items() if rate >= _NEAR * best), None)


def sentences(results: Results) -> list[Saying]:
    """Of every load; under a heading for each, if there are several."""
    loads = loads_of(results)
    said = []
    for load in loads:
        cells = {subject: fit_cells(results, load, subject) for subject in results.subjects}
        some = [_knee(results, load, cells), *_ceiling(results, load, cells), *_price(results, cells),
                *_flawed(results, load)]
        said += [Saying(one.text, one.shown, load.words if len(loads) > 1 else "") for one in some]
    return said or [Saying("Where the knee is cannot be said: there are no records.")]


def _knee(results: Results, load: Load, cells: dict[str, list[Cell]]) -> Saying:
    """The claim: threads help up to a number, and then no more."""
    told, shown = [], []
    for subject, mine in cells.items():
        first = knee(results, mine)
        if len(mine) < 3 or first is None:
            continue
        fewest, rate = (results.spread(cell, "ok_per_s") for cell in (mine[0], first))
        assert fewest is not None
        assert rate is not None
        told.append(f"{subject} {first['threads']} threads, {rate.median:,.0f} responses a second")
        shown.append(first is not mine[-1] and first is not mine[0] and rate.apart(fewest)
                     and rate.median >= _CLEAR * fewest.median)
    if not told:
        return Saying("Where the knee is cannot be said: no subject has three numbers of threads that may be compared.")
    few = min(int(mine[0]["threads"]) for mine in cells.values() if len(mine) >= 3)
    return Saying(f"with {load.words}, the fewest threads within 5 % of the best are: {'; '.join(told)}. Up to "
                  f"there more threads give clearly more than {few} {'do' if few > 1 else 'does'}, beyond it no more.",
                  all(shown))


def _ceiling(results: Results, load: Load, cells: dict[str, list[Cell]]) -> list[Saying]:
    """What binds below the knee."""
    told, shown = [], []
    for subject, mine in cells.items():
        first = knee(results, mine)
        shares = [rate / most for cell in mine if first is not None and cell["threads"] < first["threads"]
                  and (most := ceiling(results, load, cell["threads"]))
                  and (rate := results.median(cell, "ok_per_s"))]
        if first is None or not shares:
            continue
        told.append(f"{subject} gives {shares[0]:.0%} of it with {mine[0]['threads']}"
                    + (f", {shares[-1]:.0%} with the last number below its knee" if len(shares) > 1 else ""))
        shown.append(shares[0] >= _BINDS)
    if not told:
        return []
    return [Saying(f"far below the knee it is the sleep that binds, threads / {_sleep(results, load):.3f} ms: "
                   f"{'; '.join(told)}.", all(shown))]


def _sleep(results: Results, load: Load) -> float:
    one = ceiling(results, load, 1)
    assert one is not None
    return 1e3 / one


def _price(results: Results, cells: dict[str, list[Cell]]) -> list[Saying]:
    """What threads beyond the knee cost."""
    dearer: list[str] = []
    same: list[str] = []
    for subject, mine in cells.items():
        first = knee(results, mine)
        if first is None or first is mine[-1]:
            continue
        less, more = (results.spread(cell, "cpu_us") for cell in (first, mine[-1]))
        if less is None or more is None:
            continue
        clear = more.low > less.high and more.median >= _DEARER * less.median
        (dearer if clear else same).append(f"{subject} {more.median:.0f} us with {mine[-1]['threads']} threads, "
                                           f"{less.median:.0f} us with {first['threads']}")
    if not dearer and not same:
        return []
    text = f"threads beyond the knee cost CPU for each response: {'; '.join(dearer or same)}"
    return [Saying(text + (f". Not clearly so: {'; '.join(same)}." if dearer and same else "."), bool(dearer))]


def _flawed(results: Results, load: Load) -> list[Saying]:
    """Who has no part in all this."""
    told = []
    for subject in results.subjects:
        numbers = sorted(int(cell["threads"]) for cell in results.where(
            subject, connections=load.connections, sleep_ms=load.sleep_ms) if results.flaws(cell))
        if numbers:
            told.append(f"{subject} with {', '.join(map(str, numbers))} threads")
    return [Saying(f"Not counted, because some clients get nothing, or something failed: {'; '.join(told)}.")
            ] if told else []
