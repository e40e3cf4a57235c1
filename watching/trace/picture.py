"""The picture of recorded lanes: what each thread does in 50 ms, model below model, on one scale of time. SVG.

Text, and not by matplotlib, since there are thousands of rectangles in it: a path for each colour takes a tenth of the
room. Colours are those of the live page, watching/page/page.css, light or dark as the reader's system is. Whoever waits
is drawn thin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from acceptor.recording import STATES
from watching.trace.lanes import Row, Trace
from watching.trace.tracks import Track

__all__ = ["COLOURS", "DARK", "draw"]

COLOURS = {"S": "#17181a", "A": "#a9d3ee", "Q": "#b8478f", "R": "#0072b2", "H": "#009e73", "W": "#e69f00",
           "K": "#f0dc2c", "C": "#cf4305", "_": "#cfccc3", "X": "#84878d"}
DARK = {"S": "#ffffff", "A": "#3a6d94", "Q": "#e58cc4", "R": "#56b4e9", "H": "#14b487", "W": "#f0a818",
        "K": "#f0e442", "C": "#f4662a", "_": "#4b515a", "X": "#969ba4"}
"""Of each state, on a light ground and on a dark one."""

_WIDTH = 1180
_LEFT, _RIGHT = 104, 14
_ROW, _HIGH = 13, 10
_MOST_ROWS = 24
"""Of a model; of more threads than that, the first are drawn."""
_SPAN_NS, _ZOOM_NS = 50_000_000, 5_000_000
_THIN = {"A": 4, "_": 2}
"""Pixels; the others are as high as their lane."""
_STYLE = """
  svg { font: 10px "DejaVu Sans", Verdana, sans-serif;
        --ground: #ffffff; --ink: #1c1d20; --muted: #5c5f66; --line: #dddddd; --cut: #f4efe0; LIGHT }
  @media (prefers-color-scheme: dark) {
    svg { --ground: #181b20; --ink: #eceef1; --muted: #a4aab3; --line: #3a4049; --cut: #2b2a26; DARK } }
  text { fill: var(--ink) } .muted { fill: var(--muted) } .right { text-anchor: end } .middle { text-anchor: middle }
  .title { font-size: 14px; font-weight: bold } .name { font-size: 12px; font-weight: bold }
  .lane { font-size: 9px } .tick { font-size: 8px } .ground { fill: var(--ground) } .cut { fill: var(--cut) }
  .line { stroke: var(--line); stroke-width: 0.6 } .tip { fill: var(--ink) }
  .arrow { fill: none; stroke: var(--ink); stroke-width: 0.8 } .faint { stroke-width: 0.4; opacity: 0.6 }
"""
_TIP = ('<defs><marker id="tip" viewBox="0 0 6 6" refX="5.4" refY="3" markerWidth="6" markerHeight="6" orient="auto">'
        '<path class="tip" d="M0 0.6L6 3L0 5.4z"/></marker></defs>')


class _Panel(NamedTuple):
    """A stretch of the page, and how long it stands for."""

    left: float
    width: float
    ns: int
    tick_ns: int


_OVERVIEW = _Panel(_LEFT, 640, _SPAN_NS, 10_000_000)
_ZOOM = _Panel(_LEFT + 640 + 26, _WIDTH - _RIGHT - _LEFT - 640 - 26, _ZOOM_NS, 1_000_000)


def draw(traces: Mapping[str, Trace], about: str) -> str:
    """All `traces`, by their names: the middle of each. about: what was done, when and where."""
    body: list[str] = []
    top = 74
    for name, trace in traces.items():
        part, height = _model(name, trace, top)
        body += part
        top += height
    head = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top + 4}">', _style(), _TIP,
            f'<rect class="ground" width="{_WIDTH}" height="{top + 4}" rx="8"/>',
            _text(14, 20, "What each thread does: 50 ms of each model, on one scale of time; on the right, 5 ms of it",
                  "title"),
            _text(14, 36, about, "muted")]
    return "\n".join([*head, *_legend(traces), *body, "</svg>"]) + "\n"


def _legend(traces: Mapping[str, Trace]) -> list[str]:
    seen = {state for trace in traces.values() for state in trace.shares}
    parts, left = [], 14.0
    for state, words in STATES.items():
        if state in seen:
            high = _THIN.get(state, _HIGH)
            parts.append(f'<rect class="s{state}" x="{left:g}" y="{48 + (_HIGH - high) / 2:g}" width="12" '
                         f'height="{high}"/>' + _text(left + 16, 57, words))
            left += 26 + 5.9 * len(words)
    if any(trace.handoffs for trace in traces.values()):
        parts.append(f'<path class="arrow" d="M{left:.0f} 53h14" marker-end="url(#tip)"/>'
                     + _text(left + 20, 57, "a connection, or its handler, goes to another thread"))
    return parts


def _model(name: str, trace: Trace, top: int) -> tuple[list[str], int]:
    """One model's lanes, from `top` down; and how high they are."""
    span = min(_SPAN_NS, trace.end - trace.begin)
    begin = trace.begin + (trace.end - trace.begin - span) // 2
    whole = trace.part(begin, begin + span)
    zoom_begin = begin + max(0, span - _ZOOM_NS) // 2
    zoom = whole.part(zoom_begin, min(zoom_begin + _ZOOM_NS, begin + span))
    rows = whole.rows()
    shown, more = rows[:_MOST_ROWS], len(rows) - _MOST_ROWS
    lanes = top + 22
    bottom = lanes + _ROW * len(shown)
    said = f"{trace.requests / ((trace.end - trace.begin) / 1e9):,.0f} requests a second"
    if trace.requests:
        said += (f"; for each {len(trace.handoffs) / trace.requests:.2f} hand-offs, and "
                 f"{sum(trace.waits) / trace.requests / 1e3:,.0f} us of waiting for a thread")
    if more > 0:
        said += f"; {more} more threads are not drawn"
    x = _OVERVIEW.left + (zoom_begin - begin) * _OVERVIEW.width / _OVERVIEW.ns
    wide = _OVERVIEW.width * _ZOOM.ns / _OVERVIEW.ns
    parts = [_text(14, top + 14, name, "name"), _text(_LEFT + 8 * max(0, len(name) - 9), top + 14, said, "muted"),
             f'<rect class="cut" x="{x:.1f}" y="{lanes - 2}" width="{wide:.1f}" height="{bottom - lanes + 3}"/>']
    parts += [_text(_LEFT - 6, lanes + _ROW * number + 9, row.label, "right lane")
              for number, row in enumerate(shown)]
    for panel, part in ((_OVERVIEW, whole), (_ZOOM, zoom)):
        parts += _axis(panel, lanes, bottom)
        parts += _lanes(panel, part, shown, lanes)
    return parts, bottom - top + 22


def _axis(panel: _Panel, top: int, bottom: int) -> list[str]:
    parts = []
    for number in range(panel.ns // panel.tick_ns + 1):
        x = panel.left + panel.width * number * panel.tick_ns / panel.ns
        unit = " ms" if number == panel.ns // panel.tick_ns else ""
        parts += [f'<path class="line" d="M{x:.1f} {top - 2}V{bottom + 2}"/>',
                  _text(x, bottom + 11, f"{number * panel.tick_ns / 1e6:g}{unit}", "middle tick muted")]
    return parts


def _lanes(panel: _Panel, trace: Trace, rows: Sequence[Row], top: int) -> list[str]:
    scale = panel.width / panel.ns
    lane: dict[Track, int] = {track: number for number, row in enumerate(rows) for track in row.tracks}
    paths: dict[str, list[str]] = {state: [] for state in COLOURS}
    for track in trace.tracks:
        if (number := lane.get(track)) is None:
            continue
        for interval in trace.intervals(track):
            high = _THIN.get(interval.state, _HIGH)
            y = top + _ROW * number + (_HIGH - high) / 2
            x = panel.left + (interval.begin - trace.begin) * scale
            wide = (interval.end - interval.begin) * scale
            paths[interval.state].append(f"M{x:.2f} {y:g}h{wide:.2f}v{high}H{x:.2f}z")
    parts = [f'<path class="s{state}" d="{"".join(drawn)}"/>' for state, drawn in paths.items() if drawn]
    arrows = []
    for handoff in trace.arrows:
        if handoff.source in lane and handoff.target in lane:
            down = lane[handoff.target] > lane[handoff.source]
            from_y = top + _ROW * lane[handoff.source] + (_HIGH - 1 if down else 1)
            to_y = top + _ROW * lane[handoff.target] + (0 if down else _HIGH)
            from_x, to_x = (panel.left + (ns - trace.begin) * scale for ns in (handoff.given, handoff.taken))
            arrows.append(f"M{from_x:.2f} {from_y}L{to_x:.2f} {to_y}")
    if arrows and panel is _OVERVIEW:
        parts.append(f'<path class="arrow faint" d="{"".join(arrows)}"/>')
    elif arrows:  # a path for each, for a marker is drawn at the end of a path
        parts += [f'<path class="arrow" d="{arrow}" marker-end="url(#tip)"/>' for arrow in arrows]
    return parts


def _text(x: float, y: float, words: str, classes: str = "") -> str:
    said = f' class="{classes}"' if classes else ""
    return f'<text{said} x="{x:g}" y="{y:g}">{escape(words)}</text>'


def _style() -> str:
    rules = _STYLE
    for theme, colours in (("LIGHT", COLOURS), ("DARK", DARK)):
        rules = rules.replace(theme, " ".join(f"--{state}: {colour};" for state, colour in colours.items()))
    return "<style>" + rules + "".join(f"  .s{state} {{ fill: var(--{state}) }}\n" for state in COLOURS) + "</style>"
