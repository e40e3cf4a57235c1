"""A story as text: a grid of letters, a row for each thread and a column for each moment, and the captions below.

    accepting thread  A | QaA  | QbA
    worker 1          _ | _ Ha | H H
    in the queue        |      |   b

A small letter is the initial of the client whose connection the thread has from there on.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from watching.slow_motion.story import PLACES, STATES, Cell, Moment, Step, Story

__all__ = ["caption", "grid", "heading", "legend", "render"]

_WIDTH = 100


def render(story: Story) -> str:
    """All of it, in lines of at most 100 characters or as wide as its grid."""
    captions = "\n".join(caption(step) for step in story.steps if step.caption)
    return "\n\n".join(part for part in (heading(story), grid(story), legend(story), captions) if part) + "\n"


def heading(story: Story) -> str:
    return f"{story.title}\n{story.model}".strip()


def grid(story: Story, steps: int | None = None, colours: Mapping[str, str] | None = None) -> str:
    """The lanes, and those who wait; of the first `steps` steps.

    colours: "#rrggbb" for each letter, for a terminal that knows them (ISO 8613-6).
    """
    shown = story.steps[:steps]
    wide = max(2, 1 + max((len(_waiting(moment, place)) for moment in story.moments for place in PLACES), default=0))
    left = max(len(name) for name in (*story.lanes, *PLACES.values(), "step"))

    def row(name: str, columns: Sequence[str]) -> str:
        return f"  {name:{left}}  {' | '.join(columns)}".rstrip()

    rows = [row("step", [f"{step.number or '':<{wide * len(step.moments)}}" for step in shown])]
    for lane, name in enumerate(story.lanes):
        before = Cell(".")
        columns = []
        for step in shown:
            cells = []
            for moment in step.moments:
                cell = story.cell(lane, moment)
                again = cell.letter == before.letter == "H" and cell.request != before.request
                initial = cell.client[:1].lower() if again or cell.client != before.client else ""
                cells.append(_paint(cell.letter, colours) + f"{initial:{wide - 1}}")
                before = cell
            columns.append("".join(cells))
        rows.append(row(name, columns))
    for place, words in PLACES.items():
        if any(_waiting(moment, place) for moment in story.moments):
            rows.append(row(words, ["".join(f"{_waiting(moment, place):{wide}}" for moment in step.moments)
                                    for step in shown]))
    return "\n".join(rows)


def legend(story: Story) -> str:
    words = ", ".join(f"{letter} {STATES[letter]}" for letter in STATES if letter in story.letters_used)
    return textwrap.fill(words, _WIDTH, initial_indent="  ", subsequent_indent="  ")


def caption(step: Step) -> str:
    return textwrap.fill(step.caption, _WIDTH, initial_indent=f"  {step.number or '':>2}  ", subsequent_indent="      ")


def _paint(letter: str, colours: Mapping[str, str] | None) -> str:
    if not colours or letter not in colours:
        return letter
    red, green, blue = bytes.fromhex(colours[letter][1:])
    ink = 30 if red + 2 * green + blue > 380 else 97
    return f"\x1b[{ink};48;2;{red};{green};{blue}m{letter}\x1b[0m"


def _waiting(moment: Moment, place: str) -> str:
    return "".join(name[:1].lower() for name in getattr(moment, place))
