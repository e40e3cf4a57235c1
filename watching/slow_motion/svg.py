"""A story as SVG: a bar for each state of each thread, arrows for hand-offs, and the captions below.

For documents, by <img>: 760 pixels wide, light or dark as the reader's system is, and on a ground of its own, since a
page may be dark where the system is not. Text is text. The colours are those of the live page, watching/page/page.css.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

from watching.slow_motion.story import PLACES, STATES, Cell, Story

__all__ = ["DARK", "LIGHT", "draw"]

LIGHT = {"A": "#a9d3ee", "Q": "#b8478f", "R": "#0072b2", "H": "#009e73", "W": "#e69f00", "K": "#f0dc2c", "C": "#cf4305",
         "_": "#cfccc3", "S": "#17181a", "X": "#84878d"}
DARK = {"A": "#3a6d94", "Q": "#e58cc4", "R": "#56b4e9", "H": "#14b487", "W": "#f0a818", "K": "#f0e442", "C": "#f4662a",
        "_": "#4b515a", "S": "#ffffff", "X": "#969ba4"}
_WHITE_ON = {"light": "QRCS", "dark": "A_"}
"""Letters that are white on their colour; the others are black."""
_ID = {letter: "wait" if letter == "_" else letter for letter in LIGHT}
"""For the names of classes."""
_THIN = "A_"
"""Waiting for something to do is drawn thin."""

_WIDTH, _LEFT, _RIGHT = 760, 136, 746
_ROW, _HIGH, _LOW = 26, 20, 12
_LINE, _TEXT = 18, 106
"""Pixels of a line of the captions, and characters that fit into it with any sans-serif."""
_GAP, _WIDEST = 9, 36
_STYLE = """
  svg { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif;
        --ground: #ffffff; --ink: #1c1d20; --muted: #5c5f66; --line: #dcd9d2; LIGHT }
  @media (prefers-color-scheme: dark) {
    svg { --ground: #181b20; --ink: #eceef1; --muted: #a4aab3; --line: #3a4049; DARK } }
  text { fill: var(--ink) } .muted { fill: var(--muted) } .right { text-anchor: end } .middle { text-anchor: middle }
  .title { font-size: 15px; font-weight: 600 } .caption { font-size: 12.5px } .small { font-size: 11px }
  .code { font-family: ui-monospace, "DejaVu Sans Mono", "Liberation Mono", monospace; font-size: 11.5px }
  .number { font-weight: 600 } .line { stroke: var(--line); fill: none } .ground { fill: var(--ground) }
  .waits { fill: var(--ground); stroke: var(--muted); stroke-dasharray: 3 2 }
  .arrow { stroke: var(--ink); stroke-width: 1.3; fill: none } .tip { fill: var(--ink) }
"""


_TIP = """<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
  <path class="tip" d="M0 0.8L8 4L0 7.2z"/></marker></defs>"""


class _Run(NamedTuple):
    """The same for some moments, in a row."""

    letter: str
    client: str
    first: int
    last: int


def draw(story: Story) -> str:
    """The whole document."""
    return _Drawing(story).document()


class _Drawing:
    """Draws from the top down; `y` is where the next thing comes."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.moments = story.moments
        self.back: list[str] = []
        """Drawn first: what the others are drawn over."""
        self.parts: list[str] = []
        self.y = 0.0
        sizes = [len(step.moments) for step in story.steps]
        room = _RIGHT - _LEFT - _GAP * max(0, len(sizes) - 1)
        self.width = min(_WIDEST, room / max(1, sum(sizes)))
        """Of a moment."""
        self.left = [_LEFT + _GAP * step + self.width * moment for moment, step in enumerate(
            number for number, size in enumerate(sizes) for _ in range(size))]
        """Of each moment; there is a gap before each step but the first."""

    def document(self) -> str:
        story = self.story
        self._head()
        top = self.y
        self.y += 20
        self._place("kernel")
        lanes = self.y
        for number, name in enumerate(story.lanes):
            self._lane(number, name)
        queued = self._place("queue")
        self._place("parked")
        self._steps(top)
        self._arrows(lanes, queued)
        self._legend()
        self._captions()
        height = round(self.y + 14)
        said = " ".join(f"{step.number}. {step.caption}" for step in story.steps if step.caption)
        return "\n".join([
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"',
            f'  width="{_WIDTH}" height="{height}" role="img" aria-labelledby="title desc">',
            f'<title id="title">{escape(f"{story.title}: {story.model}".removeprefix(": "))}</title>',
            f'<desc id="desc">{escape(said)}</desc>', f"<style>{_style(story)}</style>",
            _TIP, f'<rect class="ground" width="{_WIDTH}" height="{height}" rx="8"/>',
            *self.back, *self.parts, "</svg>\n"])

    def _head(self) -> None:
        if self.story.title:
            self._text(14, 25, self.story.title, "title")
        self.y = 45 if self.story.title else 25
        self._text(14, self.y, self.story.model, "code muted")
        self.y += 14

    def _steps(self, top: float) -> None:
        """Numbers above, and lines between: from `top` to where we are."""
        moment = 0
        for step in self.story.steps:
            x, width = self._span(moment, moment + len(step.moments) - 1)
            self._text(x + width / 2, top + 12, str(step.number or "start"), "middle number" if step.number else
                       "middle small muted")
            if moment:
                self.back.append(f'<path class="line" d="M{x - _GAP / 2:.1f} {top:g}V{self.y + 2:g}"/>')
            moment += len(step.moments)

    def _lane(self, lane: int, name: str) -> None:
        self._text(_LEFT - 8, self.y + 17, name, "right")
        for run in _runs(self.story.row(lane)):
            if run.letter == ".":
                continue
            x, width = self._span(run.first, run.last)
            high = _LOW if run.letter in _THIN else _HIGH
            self.parts.append(f'<rect class="s{_ID[run.letter]}" x="{x + 0.5:.1f}" y="{self.y + (_ROW - high) / 2:g}" '
                              f'width="{width - 1:.1f}" height="{high}" rx="2"/>')
            words = f"{run.letter} {run.client}".strip()
            said = words if self.width / 2 + 7 * len(words) <= width else run.letter
            middle = self.y + _ROW / 2 + (0 if run.letter == "_" else 4)
            self._text(x + self.width / 2 - 4, middle, said,
                       f"t{_ID[run.letter]}" + (" small" if high == _LOW else ""))
        self.y += _ROW

    def _place(self, place: str) -> dict[tuple[str, int], tuple[float, float, float]]:
        """Those who wait in a place, each in a row of its own while it does. By client and last moment, where it was
        drawn: x of its left and right end, and y of its middle."""
        rows: list[int] = []
        """Until which moment each is taken."""
        drawn = {}
        names = sorted({name for moment in self.moments for name in getattr(moment, place)})
        stays = [run for name in names
                 for run in _runs([Cell(name * (name in getattr(moment, place))) for moment in self.moments])]
        for run in sorted((stay for stay in stays if stay.letter), key=lambda stay: (stay.first, stay.letter)):
            number = next((number for number, until in enumerate(rows) if until < run.first), len(rows))
            rows[number:number + 1] = [run.last]
            x, width = self._span(run.first, run.last)
            y = self.y + 21 * number
            said = run.letter if 7 * len(run.letter) + 8 <= width else run.letter[:1]
            self.parts.append(f'<rect class="waits" x="{x + 1:.1f}" y="{y + 3:g}" width="{width - 2:.1f}" height="17" '
                              'rx="8"/>')
            if width > 7 * len(said) + 24:  # on the left, where no arrow to a row below crosses it
                self._text(x + 11, y + 15.5, said, "small")
            else:
                self._text(x + width / 2, y + 15.5, said, "middle small")
            drawn[run.letter, run.last] = x + 1, x + width - 1, y + 11.5
        if rows:
            self._text(_LEFT - 8, self.y + 16, PLACES[place], "right muted")
            self.y += 21 * len(rows) + 4
        return drawn

    def _arrows(self, lanes: float, queued: dict[tuple[str, int], tuple[float, float, float]]) -> None:
        """From thread to thread; by way of the queue, if it has been there for a moment."""
        for handoff in self.story.handoffs():
            from_x, from_y = self.left[handoff.given] + self.width / 2, lanes + _ROW * handoff.source + _ROW / 2
            to_x, to_y = self.left[handoff.taken] + 1, lanes + _ROW * handoff.target + _ROW / 2
            down = 1 if to_y > from_y else -1
            from_y += down * _HIGH / 2
            if stay := queued.get((handoff.client, handoff.taken - 1)):
                left, right, y = stay
                self._arrow(from_x, from_y, left + 6, y - 8)
                self._arrow(right - 4, y - 8, to_x + 2, to_y + _HIGH / 2)
            else:
                self._arrow(from_x, from_y, to_x + 2, to_y - down * _HIGH / 2)

    def _arrow(self, from_x: float, from_y: float, to_x: float, to_y: float) -> None:
        self.parts.append(f'<path class="arrow" d="M{from_x:.1f} {from_y:.1f}L{to_x:.1f} {to_y:.1f}" '
                          'marker-end="url(#tip)"/>')

    def _legend(self) -> None:
        self.y += 12
        x = 14.0
        for letter, words in STATES.items():
            if letter not in self.story.letters_used or letter == ".":
                continue
            wide = 24 + 6.3 * len(words)
            if x + wide > _WIDTH - 10:
                x, self.y = 14.0, self.y + _LINE
            self.parts.append(f'<rect class="s{_ID[letter]}" x="{x:g}" y="{self.y:g}" width="14" height="14" rx="2"/>')
            self._text(x + 7, self.y + (7 if letter == "_" else 11), letter, f"middle small t{_ID[letter]}")
            self._text(x + 19, self.y + 11, words, "small muted")
            x += wide + 8
        self.y += 20

    def _captions(self) -> None:
        for step in self.story.steps:
            for number, line in enumerate(textwrap.wrap(step.caption, _TEXT)):
                self.y += _LINE
                if number == 0:
                    self._text(32, self.y, str(step.number or ""), "caption number right")
                self._text(42, self.y, line, "caption")

    def _span(self, first: int, last: int) -> tuple[float, float]:
        """Left edge and width of the moments `first` to `last`, both included."""
        return self.left[first], self.left[last] + self.width - self.left[first]

    def _text(self, x: float, y: float, words: str, classes: str) -> None:
        self.parts.append(f'<text class="{classes}" x="{x:.1f}" y="{y:g}">{escape(words)}</text>')


def _runs(cells: Sequence[Cell]) -> Iterator[_Run]:
    for (letter, client, _), group in itertools.groupby(enumerate(cells), key=lambda numbered: numbered[1]):
        numbers = [number for number, _ in group]
        yield _Run(letter, client, numbers[0], numbers[-1])


def _style(story: Story) -> str:
    """The rules, with the colours of those states that there are."""
    rules = _STYLE
    for theme, colours in (("light", LIGHT), ("dark", DARK)):
        said = "".join(f"--{_ID[letter]}: {colour}; --on-{_ID[letter]}: "
                       f"{'#ffffff' if letter in _WHITE_ON[theme] else '#000000'}; "
                       for letter, colour in colours.items() if letter in story.letters_used)
        rules = rules.replace(theme.upper(), said.strip())
    return rules + "".join(f"  .s{_ID[letter]} {{ fill: var(--{_ID[letter]}) }} .t{_ID[letter]} "
                           f"{{ fill: var(--on-{_ID[letter]}) }}\n" for letter in LIGHT if letter in story.letters_used)
