"""What `bench speed` claims, and whether it holds: by ratios of figures from the same run, never by figures of a day.

Where the aim was stated in microseconds, it was on a machine on which the probe needed so many (`_REFERENCE`); so what
is judged is the ratio to the probe of this run, and the aim is told both as it was stated and as that ratio makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from bench.cells import Cell, Figures
from bench.studies.scale.trial import Finding
from bench.studies.speed.entrants import FAST, LEAN, PROBE, SUBJECTS
from bench.studies.speed.run import words_of
from bench.table import problems

__all__ = ["Measured", "calibration", "few", "judge"]

_REFERENCE = {(True, 0.0): 16.0, (False, 0.0): 40.0, (True, 0.1): 37.0}
"""CPU us per request of the probe, with httptools, when the aims below were stated: keep-alive, ms of sleep."""
_AIMS = {FAST: {(True, 0.0): 22.0, (False, 0.0): 50.0, (True, 0.1): 34.0},
         LEAN: {(True, 0.0): 85.0, (False, 0.0): 130.0}}
"""CPU us per request, at most."""
_COMPILED = 137.0
"""CPU us per request without keep-alive of Hunchentoot, compiled by SBCL, with its recycling taskmaster, the better of
its two, on the same machine and day as `_REFERENCE`. It is not run here."""
_OF_WAITRESS = 0.65
_OF_C = 2.2
_MORE = 3.0
"""Responses a second. What Flask itself costs is in both sides of the ratio, so with Flask it says less of servers."""
_CROWDED = 0.8
"""Throughput with 400 connections, of that with 100."""


@dataclass(frozen=True)
class Measured:
    """All figures of a run of `bench speed`."""

    usual: Mapping[Cell, Figures]
    """With 100 connections."""
    crowded: Mapping[Cell, Figures]
    """With 400."""
    probe_parses: bool
    """The probe had httptools, as it had when the aims were stated."""

    def cpu(self, name: str, load: tuple[bool, float]) -> float | None:
        """Microseconds for each answer; None if there is no figure. A probe with errors is no measure."""
        found = self.usual.get(Cell(name, *load))
        if found is None or found.failed or (name == PROBE and _wrong(found)):
            return None
        return found.cpu_us

    @property
    def loads(self) -> list[tuple[bool, float]]:
        """Keep-alive and sleep, of all cells; keep-alive first."""
        return sorted({(cell.keep_alive, cell.sleep_ms) for cell in self.usual}, key=lambda load: (not load[0], load))


def judge(measured: Measured) -> tuple[list[Finding], list[str]]:
    """What held and what did not; and what could not be judged, and why, in words."""
    findings: list[Finding] = []
    unjudged: list[str] = []

    def add(claim: str, outcome: tuple[bool, str] | str) -> None:
        if isinstance(outcome, str):
            unjudged.append(f"{claim}: {outcome}")
        else:
            findings.append(Finding(outcome[0], claim, outcome[1]))

    for name, aims in _AIMS.items():
        for load, aim in aims.items():
            add(f"{name}, {_say(load)}: at most {aim:g} us where the probe needs {_REFERENCE[load]:g}",
                _aim(measured, name, load, aim))
    add(f"{FAST}: less CPU than granian in every cell", _cheaper(measured, FAST, "granian", lambda load: 1.0))
    for peer in ("bjoern", "fastwsgi"):
        add(f"{FAST}: less CPU than {peer} in every cell but on:0, where at most {_OF_C:g} times as much",
            _cheaper(measured, FAST, peer, lambda load: _OF_C if load == (True, 0.0) else 1.0))
    add(f"{LEAN}: at most {_OF_WAITRESS:g} of waitress's CPU in every cell",
        _cheaper(measured, LEAN, "waitress", lambda load: _OF_WAITRESS))
    for peer in ("cheroot", "gunicorn", "uvicorn-h11"):
        add(f"{LEAN}: less CPU than {peer} in every cell", _cheaper(measured, LEAN, peer, lambda load: 1.0))
    add(f"{LEAN}, off:0: less than compiled Hunchentoot, {_COMPILED:g} us where the probe needs 40",
        _aim(measured, LEAN, (False, 0.0), _COMPILED))
    for peer in ("waitress", "gunicorn"):
        add(f"WSGI: at least {_MORE:g} times the responses of {peer}", _more(measured, "wsgi/httptools", peer))
        add(f"Flask: at least {_MORE:g} times the responses of {peer}",
            _more(measured, "flask/httptools", f"flask/{peer}"))
    add(f"{FAST}: p99 no worse than that of the best peer with a pool of threads, in every cell", _p99(measured))
    for name in (FAST, LEAN):
        add(f"{name}: no errors, and nobody starves, with 100 connections", _no_errors(measured.usual, name))
        add(f"{name}: no errors with 400 connections, and at least {_CROWDED:.0%} of the responses with 100",
            _crowded(measured, name))
    return findings, unjudged


def few(one: Figures) -> bool:
    """Only some of the connections were in service, the others starved; by Little's law, for wrk does not tell. Without
    keep-alive that says nothing: wrk's clock starts once a connection is there."""
    return one.cell.keep_alive and one.little < one.connections / 2


def calibration(measured: Measured) -> str:
    """How fast this machine is today, in words."""
    said = [f"{_say(load)} {now:.1f} us (then {then:g}, so {now / then:.2f} x)"
            for load, then in _REFERENCE.items() if (now := measured.cpu(PROBE, load)) is not None]
    if not said:
        return "The probe has not run, or not well, so aims in microseconds cannot be judged on this machine."
    if not measured.probe_parses:
        return ("The probe ran without httptools, which it had when the aims were stated: those in microseconds cannot "
                "be judged. " + ", ".join(said))
    return "The probe, which measures the machine: " + ", ".join(said) + "."


def _aim(measured: Measured, name: str, load: tuple[bool, float], aim: float) -> tuple[bool, str] | str:
    ours, probe = measured.cpu(name, load), measured.cpu(PROBE, load)
    if ours is None:
        return f"{name} has not run in {_say(load)}"
    if probe is None or not measured.probe_parses:
        return f"{ours:.1f} us, and the probe has not run with httptools, or not well"
    then = _REFERENCE[load]
    here = aim * probe / then
    return ours <= here, (f"{ours:.1f} us; at most {here:.1f} here, where the probe needs {probe:.1f}; as stated, "
                          f"{aim:g}; {ours / probe:.2f} probes against {aim / then:.2f}")


def _cheaper(measured: Measured, ours: str, peer: str, factor: Callable[[tuple[bool, float]], float]
             ) -> tuple[bool, str] | str:
    """In every cell in which both have run, `ours` needs at most `factor` times the CPU of `peer`."""
    ratios = {load: (one, other) for load in measured.loads
              if (one := measured.cpu(ours, load)) is not None and (other := measured.cpu(peer, load))}
    if not ratios:
        return f"{ours} and {peer} have run in no cell both"
    bad = {load for load, (one, other) in ratios.items()
           if one > factor(load) * other or (factor(load) == 1.0 and one == other)}
    return not bad, _listed(f"{_say(load)} {one:.1f} against {other:.1f} us, {one / other:.2f} x"
                            + (" NOT" if load in bad else "") for load, (one, other) in ratios.items())


def _more(measured: Measured, name: str, peer: str) -> tuple[bool, str] | str:
    said, holds = [], True
    for load in measured.loads:
        ours = measured.usual.get(Cell(name, *load))
        theirs = measured.usual.get(Cell(peer, *load))
        if ours and theirs and theirs.rate:
            holds = holds and ours.rate >= _MORE * theirs.rate
            said.append(f"{_say(load)} {ours.rate:,.0f} against {theirs.rate:,.0f} a second, "
                        f"{ours.rate / theirs.rate:.1f} x")
    return (holds, _listed(said)) if said else f"{name} and {peer} have run in no cell both"


def _p99(measured: Measured) -> tuple[bool, str] | str:
    """A peer with errors, or that serves a few clients only, is no measure: its p99 is that of those it serves."""
    said, holds = [], True
    for load in measured.loads:
        ours = measured.usual.get(Cell(FAST, *load))
        peers = [one for name, subject in SUBJECTS.items() if subject.pool and subject.everywhere
                 and (one := measured.usual.get(Cell(name, *load))) and not _wrong(one)]
        if ours and not ours.failed and peers:
            best = min(peers, key=lambda one: one.p99_ms)
            good = ours.p99_ms <= best.p99_ms
            holds = holds and good
            said.append(f"{_say(load)} {ours.p99_ms:.1f} against {best.p99_ms:.1f} ms of {best.cell.model}"
                        + ("" if good else " NOT"))
    return (holds, _listed(said)) if said else f"{FAST} and a peer with threads have run in no cell both"


def _no_errors(figures: Mapping[Cell, Figures], name: str) -> tuple[bool, str] | str:
    mine = [one for cell, one in figures.items() if cell.model == name]
    if not mine:
        return "it has not run"
    bad = [f"{words_of(one.cell)} {wrong}" for one in mine if (wrong := _wrong(one))]
    return not bad, _listed(bad) or f"{len(mine)} cells"


def _crowded(measured: Measured, name: str) -> tuple[bool, str] | str:
    said, holds = [], True
    for cell, one in measured.crowded.items():
        usual = measured.usual.get(cell)
        if cell.model == name and usual and usual.rate:
            wrong = _wrong(one)
            holds = holds and not wrong and one.rate >= _CROWDED * usual.rate
            said.append(f"{words_of(cell)} {wrong or 'no errors'}, {one.rate:,.0f} against {usual.rate:,.0f} a second, "
                        f"{one.rate / usual.rate:.0%}")
    return (holds, _listed(said)) if said else "it has not run with both"


def _wrong(one: Figures) -> str:
    """Why it is no good service, whatever it costs; empty if it is."""
    if one.failed:
        return one.failed
    if (said := problems(one)) != "-":
        return said
    return f"about {one.little:.0f} of {one.connections} connections in service" if few(one) else (
        "" if one.rate else "no answer at all")


def _say(load: tuple[bool, float]) -> str:
    return words_of(Cell("", *load))


def _listed(said: Iterable[str]) -> str:
    return "; ".join(said)
