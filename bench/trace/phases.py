"""The figure of where a request's time goes inside the server: stacked bars, a model below the other (matplotlib)."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from bench.lab.drawing import bare, new_figure, svg_of
from watching.trace import Trace
from watching.trace.picture import COLOURS

__all__ = ["PHASES", "draw_phases", "phases_us"]

PHASES = {"accepted, and waits for a thread": "Q", "read": "R", "handler": "H", "written, closed": "W"}
"""Of a request inside the server, in order, with the states whose colours they have. In each the wait for the GIL, and
for a core, is included."""


def phases_us(trace: Trace) -> Mapping[str, float]:
    """What a request's time consists of, inside the server: microseconds of each of `PHASES`, on average. Empty if
    there was no request."""
    if not trace.requests:
        return {}
    times = trace.times
    spent = (sum(trace.waits), times["R"], times["H"], times["W"] + times["C"])
    return {phase: ns / trace.requests / 1e3 for phase, ns in zip(PHASES, spent, strict=True)}


def draw_phases(traces: Mapping[str, Trace], about: str) -> str:
    """SVG: microseconds of a request by phase, for each of `traces` that had requests. ImportError without
    matplotlib. about: what was done, when and where."""
    phases = {name: found for name, trace in traces.items() if (found := phases_us(trace))}
    figure = new_figure(9.0, 1.3 + 0.42 * len(phases))
    axes = figure.subplots()
    left = dict.fromkeys(phases, 0.0)
    for phase, state in PHASES.items():
        widths = [each[phase] for each in phases.values()]
        axes.barh(list(phases), widths, left=list(left.values()), color=COLOURS[state], label=phase, height=0.7)
        left = {name: left[name] + each[phase] for name, each in phases.items()}
    for name, total in left.items():
        axes.annotate(f" {total:,.0f}", (total, name), va="center", fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.1 * max(left.values(), default=1.0))
    axes.set_title("Where a request's time goes inside the server, microseconds: shorter is better", fontsize=11,
                   fontweight="bold", loc="left")
    axes.set_xlabel(textwrap.fill(f"{about}. Waiting for the GIL and for the core is in each phase; recording adds a "
                                  "few us.", 120), fontsize=8, color="#555555")
    bare(axes)
    figure.legend(loc="outside lower center", ncols=len(PHASES), frameon=False, fontsize=8)
    return svg_of(figure, "phases")
