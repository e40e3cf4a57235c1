"""What `bench waiting` has measured, as tables and in sentences."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from bench.studies.waiting.strategies import OURS, STRATEGIES, BlockingAccept, EpollExclusive
from bench.table import grid

__all__ = ["Alone", "Loaded", "sentences", "table_alone", "table_loaded"]

_CALM = 2.5
"""Switches for a connection up to which one thread is woken: it waits for the connection, and then for what is sent."""


@dataclass
class Alone:
    """Part A: one strategy with so many threads."""

    strategy: str
    threads: int
    switches: float
    """Voluntary context switches of the server for each connection."""
    order: list[int]
    """The number of the thread that served, for each connection in turn."""

    @property
    def distinct(self) -> int:
        """How many threads got a connection."""
        return len(set(self.order))


@dataclass
class Loaded:
    """Part B: one strategy, one round."""

    strategy: str
    rate: float
    """Connections a second."""
    p50_ms: float
    p99_ms: float
    switches: float
    """Voluntary context switches of the server for each connection."""
    cpu_us: float
    """CPU microseconds of the server for each connection."""
    failed: int


def table_alone(alone: list[Alone]) -> str:
    sizes = sorted({one.threads for one in alone})
    rows: list[tuple[str, ...]] = [
        ("", *["switches"] * len(sizes), *["served by"] * len(sizes), "", ""),
        ("strategy", *(f"N={threads}" for threads in sizes), *(f"of {threads}" for threads in sizes), "", ""),
    ]
    for name in STRATEGIES:
        mine = [one for one in alone if one.strategy == name]
        shown = " ".join(map(str, mine[0].order[:10]))
        rows.append((name, *(f"{one.switches:.1f}" for one in mine), *(str(one.distinct) for one in mine),
                     f"N={mine[0].threads}, who in turn: {shown} ...", ""))
    return grid(rows)


def table_loaded(loaded: list[Loaded]) -> str:
    rows: list[tuple[str, ...]] = [
        ("strategy", "conn/s", "(low–high)", "p50 ms", "p99 ms", "(low–high)", "switches", "CPU us", "failed", "")]
    for name in STRATEGIES:
        mine = [one for one in loaded if one.strategy == name]
        rates, slowest = [one.rate for one in mine], [one.p99_ms for one in mine]
        rows.append((name, f"{median(rates):,.0f}", f"({min(rates):,.0f}–{max(rates):,.0f})",
                     f"{median([one.p50_ms for one in mine]):.1f}",
                     f"{median(slowest):.1f}", f"({min(slowest):.1f}–{max(slowest):.1f})",
                     f"{median([one.switches for one in mine]):.2f}", f"{median([one.cpu_us for one in mine]):.1f}",
                     str(sum(one.failed for one in mine)), ""))
    return grid(rows)


def sentences(alone: list[Alone], loaded: list[Loaded]) -> list[str]:
    """What the data support, and where they contradict what taskmaster/recycling.py says of them."""
    return [*_who_wakes(alone), *_who_serves(alone), *_under_load(loaded)]


def _who_wakes(alone: list[Alone]) -> list[str]:
    most = max(one.threads for one in alone)
    switches = {one.strategy: one.switches for one in alone if one.threads == most}
    herd = {name: count for name, count in switches.items() if count > most / 4}
    calm = {name: count for name, count in switches.items() if count <= _CALM}
    lines = []
    if herd:
        lines.append(f"A thundering herd: with {most} threads waiting, one connection costs "
                     + ", ".join(f"{count:.0f} context switches by {name}" for name, count in herd.items()) + ".")
    if calm:
        lines.append(f"One thread wakes for one connection, be there {most} that wait, by {'; '.join(calm)}.")
    if between := [f"{name} ({count:.1f} switches)" for name, count in switches.items() if name not in herd | calm]:
        lines.append(f"More than one wakes, but not all of {most}, by {'; '.join(between)}.")
    lines.append(_expected(OURS in calm, f"{OURS} wakes one thread for a connection", f"{switches[OURS]:.1f} switches "
                           f"with {most} threads waiting"))
    return lines


def _who_serves(alone: list[Alone]) -> list[str]:
    most = max(one.threads for one in alone)
    count = max(len(one.order) for one in alone)
    possible = min(most, count)
    distinct = {one.strategy: one.distinct for one in alone if one.threads == most}
    lines = []
    if around := [name for name, some in distinct.items() if some > 0.8 * possible]:
        lines.append(f"It goes round: {count} connections to {most} threads were served by nearly {possible} of "
                     f"them, by {'; '.join(around)}. No thread stays idle for long, so none can tell that it is not "
                     "needed.")
    if same := [name for name, some in distinct.items() if some <= 4]:
        lines.append(f"The same few threads again, and the others stay cold, by {'; '.join(same)}. There an idle "
                     "timeout finds out that there are too many.")
    if between := [f"{name} ({some})" for name, some in distinct.items() if name not in around and name not in same]:
        lines.append(f"In between (how many of the {most} served): {'; '.join(between)}.")
    lines.append(_expected(OURS in same, f"{OURS} wakes the thread that has waited shortest",
                           f"{distinct[OURS]} of {most} threads served {count} connections"))
    return lines


def _under_load(loaded: list[Loaded]) -> list[str]:
    rates = {name: [one.rate for one in loaded if one.strategy == name] for name in STRATEGIES}
    slowest = {name: [one.p99_ms for one in loaded if one.strategy == name] for name in STRATEGIES}
    fastest = max(rates, key=lambda name: median(rates[name]))
    calmest = min(slowest, key=lambda name: median(slowest[name]))
    most, ours = median(rates[fastest]), median(rates[OURS])
    lowest = median(slowest[calmest])
    lines = [f"Under load {fastest} serves most, {most:,.0f} connections a second; ours {ours / most:.0%} of that.",
             f"The lowest p99 is that of {calmest}, {lowest:.1f} ms; ours is {median(slowest[OURS]):.1f} ms."]
    for name in (BlockingAccept.name, EpollExclusive.name):
        line = _expected(median(slowest[OURS]) < median(slowest[name]),
                         f"the slowest answers are faster by {OURS} than by {name}",
                         f"p99 {median(slowest[OURS]):.1f} ms against {median(slowest[name]):.1f} ms")
        if max(slowest[OURS]) >= min(slowest[name]) and max(slowest[name]) >= min(slowest[OURS]):
            line += " Not for sure: their rounds overlap."
        lines.append(line)
    spread = max(max(some) / min(some) for some in rates.values() if min(some))
    lines.append(f"The rounds of one strategy differ by up to a factor of {spread:.2f} in connections a second: a "
                 "smaller difference between two strategies is none.")
    return lines


def _expected(holds: bool, claim: str, figures: str) -> str:
    return f'"{claim}" {"HOLDS" if holds else "DOES NOT HOLD"} here: {figures}.'
