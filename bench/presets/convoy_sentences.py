"""What the preset `convoy` says of its records: how long a tiny request waits behind one that computes."""

from __future__ import annotations

from collections.abc import Sequence

from bench.lab.preset import Saying
from bench.lab.record import Cell, Results, Spread

__all__ = ["DEFAULT_MS", "sentences", "without_gil"]

DEFAULT_MS = 5.0
"""Python's switch interval, if nobody changes it."""
_CLEAR = 3.0
"""Times as long: waiting that counts."""
_HELPS = 0.5
"""Of the waiting: what is clearly less."""


def without_gil(subject: str) -> bool:
    """Whether it is run by a free-threaded Python, as its name says: "recycling-park@3.14t"."""
    return "@" in subject and subject.endswith("t")


def sentences(results: Results) -> list[Saying]:
    return [_convoy(results), *_two(results), *_interval(results), *_cores(results)]


def _convoy(results: Results) -> Saying:
    """The claim."""
    told, shown, without = [], [], []
    for subject in results.subjects:
        alone, beside = (_p50(results, subject, "one", DEFAULT_MS, number) for number in (0, 1))
        if alone is None or beside is None:
            without.append(subject)
            continue
        told.append(f"{subject} {_ms(beside)} ms at p50 instead of {_ms(alone)}")
        if (shorter := _shortest(results, subject)) is not None:
            interval, less = shorter
            told[-1] += f", and {_ms(less)} with a switch interval of {interval:g} ms"
        shown.append(beside.apart(alone) and beside.median >= _CLEAR * alone.median)
    if not told:
        return Saying("Whether one computing handler holds tiny ones up cannot be said: nobody on one core has figures "
                      "that compare, with it and without.")
    return Saying(f"one computing handler makes a tiny response wait. On one core it takes: {'; '.join(told)}.",
                  all(shown))


def _two(results: Results) -> list[Saying]:
    """More of them."""
    told = []
    for subject in results.subjects:
        most = max((int(cell["computing"]) for cell in results.where(subject, cores="one")), default=0)
        one, more = (_p50(results, subject, "one", DEFAULT_MS, number) for number in (1, most))
        if most > 1 and one is not None and more is not None and one.median:
            told.append(f"{subject} {_ms(more)} ms beside {most}, {more.median / one.median:.1f} times that beside 1")
    return [Saying(f"With more of them p50 is: {'; '.join(told)}.")] if told else []


def _interval(results: Results) -> list[Saying]:
    """What a shorter switch interval does, and what it costs those who compute."""
    told, shown = [], []
    for subject in results.subjects:
        shorter, long = _shortest(results, subject), _p50(results, subject, "one", DEFAULT_MS, 1)
        if shorter is None or long is None:
            continue
        interval, less = shorter
        shown.append(less.apart(long) and less.median <= _HELPS * long.median)
        told.append(f"{subject} {_ms(less)} ms instead of {_ms(long)}")
        before, after = (results.median(cell, "spins_per_s") for ms in (DEFAULT_MS, interval)
                         for cell in [_cell(results, subject, "one", ms, 1)] if cell is not None)
        if before and after:
            told[-1] += f", for {after:.0f} responses a second of the handler that computes instead of {before:.0f}"
    return [Saying(f"a shorter switch interval lets tiny requests through sooner, beside one handler that computes: "
                   f"{'; '.join(told)}.", all(shown))] if told else []


def _cores(results: Results) -> list[Saying]:
    """What processes do on several cores, and an interpreter without a GIL."""
    found: dict[str, Spread] = {}
    told = []
    for subject in results.subjects:
        one = _p50(results, subject, "all", DEFAULT_MS, 1)
        if one is None:
            continue
        found[subject] = one
        most = max(int(cell["computing"]) for cell in results.where(subject, cores="all"))
        more = _p50(results, subject, "all", DEFAULT_MS, most)
        told.append(f"{subject} {_ms(one)} ms" + (f", and {_ms(more)} beside {most}" if most > 1 and more else ""))
    if not told:
        return []
    said = [Saying(f"With all cores p50 beside one handler that computes is: {'; '.join(told)}.")]
    threads = {subject: spread for subject, spread in found.items()
               if _model(subject) != "prefork" and not without_gil(subject)}
    for what, passing in (
            ("a second process lets tiny requests past a handler that computes", {
                subject: spread for subject, spread in found.items() if _model(subject) == "prefork"}),
            ("without a GIL tiny requests get past a handler that computes", {
                subject: spread for subject, spread in found.items() if without_gil(subject)})):
        if passing and threads:
            said.append(Saying(f"{what}: {_list(passing)}, where threads with one GIL take {_list(threads)}.", all(
                one.apart(other) and _CLEAR * one.median <= other.median
                for one in passing.values() for other in threads.values())))
    return said


def _list(found: dict[str, Spread]) -> str:
    return ", ".join(f"{subject} {_ms(spread)} ms" for subject, spread in found.items())


def _model(subject: str) -> str:
    return subject.partition("@")[0].partition("/")[0]


def _cell(results: Results, subject: str, cores: str, interval_ms: float, computing: int) -> Cell | None:
    """If it has figures that compare."""
    cells = results.where(subject, cores=cores, switch_interval_ms=interval_ms, computing=computing)
    return next((cell for cell in cells if results.of(cell) and not results.flaws(cell)), None)


def _p50(results: Results, subject: str, cores: str, interval_ms: float, computing: int) -> Spread | None:
    cell = _cell(results, subject, cores, interval_ms, computing)
    return None if cell is None else results.spread(cell, "p50_ms")


def _shortest(results: Results, subject: str) -> tuple[float, Spread] | None:
    """The shortest switch interval that is not the default, and p50 with it, beside one that computes."""
    intervals: Sequence[float] = sorted({cell["switch_interval_ms"] for cell in results.where(subject, cores="one")})
    for interval in intervals:
        if interval < DEFAULT_MS and (spread := _p50(results, subject, "one", interval, 1)) is not None:
            return interval, spread
    return None


def _ms(spread: Spread) -> str:
    return f"{spread.median:.2f}" if spread.median < 10 else f"{spread.median:.1f}"
