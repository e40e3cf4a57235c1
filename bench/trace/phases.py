"""The figure of where a request's time goes inside the server: stacked bars, a model below the other (matplotlib)."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from bench.lab.drawing import bare, new_figure, svg_of
from bench.trace.lanes import PHASES, Trace

__all__ = ["draw_phases"]

_COLOURS = dict(zip(PHASES, ("#D55E00", "#56B4E9", "#009E73", "#0072B2"), strict=True))
"""As in bench.trace.picture: whoever hands over, reads, handles, writes."""


def draw_phases(traces: Mapping[str, Trace], about: str) -> str:
    """SVG: microseconds of a request by phase, for each of `traces` that had requests. ImportError without
    matplotlib. about: what was done, when and where."""
    phases = {name: trace.phases_us for name, trace in traces.items() if trace.phases_us}
    figure = new_figure(9.0, 1.3 + 0.42 * len(phases))
    axes = figure.subplots()
    left = dict.fromkeys(phases, 0.0)
    for phase in PHASES:
        widths = [each[phase] for each in phases.values()]
        axes.barh(list(phases), widths, left=list(left.values()), color=_COLOURS[phase], label=phase, height=0.7)
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
