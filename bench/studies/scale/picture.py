"""The picture of `bench scale fairness`: how many answers each of the 64 clients got. SVG, which is text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from bench.clients.result import fairness

__all__ = ["draw"]

_PANEL, _GAP, _LEFT, _TOP, _HEIGHT = 200, 24, 16, 64, 120
_COLOURS = {"hold": "#D55E00", "always": "#D55E00", "park": "#009E73", "fair": "#009E73", "never": "#0072B2"}
"""By the last word of a panel's name; Okabe and Ito's, as in bench.picture."""


def draw(panels: Mapping[str, Sequence[int]], about: str) -> str:
    """A small chart for each of `panels`: its clients' answers as bars, on one scale. about: when and where."""
    width = 2 * _LEFT + len(panels) * (_PANEL + _GAP) - _GAP
    most = max((max(answers) for answers in panels.values()), default=0) or 1
    height = _TOP + _HEIGHT + 56
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
             f'<rect width="{width}" height="{height}" fill="white"/>',
             f'<text x="{_LEFT}" y="20" font-size="14" font-weight="bold">Answers that each client got</text>']
    for number, (name, answers) in enumerate(panels.items()):
        parts += _panel(_LEFT + number * (_PANEL + _GAP), name, answers, most)
    parts += [f'<text x="{_LEFT}" y="{_TOP + _HEIGHT + 44}" font-size="9" fill="#555555">{escape(about)}</text>',
              "</svg>"]
    return "\n".join(parts) + "\n"


def _panel(left: int, name: str, answers: Sequence[int], most: int) -> list[str]:
    colour = next((colour for word, colour in _COLOURS.items() if name.endswith(word)), "#999999")
    shares = f"{sum(count > 0 for count in answers)} of {len(answers)} served, Jain {fairness(answers):.2f}"
    each, bottom = _PANEL / len(answers), _TOP + _HEIGHT
    bars = "".join(f"M{left + n * each:.1f} {bottom}v{-_HEIGHT * count / most:.1f}h{each * 0.8:.1f}V{bottom}z"
                   for n, count in enumerate(sorted(answers, reverse=True)) if count)
    return [f'<text x="{left}" y="{_TOP - 22}" font-size="11" font-weight="bold">{escape(name)}</text>',
            f'<text x="{left}" y="{_TOP - 8}" font-size="11">{shares}</text>',
            f'<path d="{bars}" fill="{colour}"/>',
            f'<path d="M{left} {bottom + 0.5}h{_PANEL}" stroke="#888888"/>',
            f'<text x="{left}" y="{bottom + 16}" font-size="9" fill="#555555">the most: {max(answers):,}</text>']
