"""The picture that `taskmaster top` draws: for each source its numbers, its threads, and its last minute.

    pool  PooledTaskmaster  127.0.0.1:8080  process 4242
    1,234 responses/s  p99 once a thread has it: 12 ms  17 threads  kernel 0  queued 2  parked 90  refused 0
    A_H_HW__HH_H___H_                                      the threads, by letter: see `acceptor.recording.STATES`
      0  AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA      each one's last minute; or, if they are too many, all of
      1  __H___H_HH__H_H__HH____H___HH_H___H__H__H_H_      them, stacked by what they did
    wait    ▂▁▁▃█▂▁                              max 9     connections in the kernel or queued
    3 s ago: +4 threads, to 17: the last waiter was taken

Every letter stands on its colour, and neither is needed to tell what the other says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from acceptor.recording import STATES
from watching.messages import Sample
from watching.top_history import ORDER, History, Slots

__all__ = ["PALETTES", "Picture"]

PALETTES: Mapping[str, Mapping[str, str]] = {
    "dark": {"A": "#3a6d94", "Q": "#e58cc4", "R": "#56b4e9", "H": "#14b487", "W": "#f0a818", "K": "#f0e442",
             "C": "#f4662a", "_": "#4b515a", "S": "#ffffff", "X": "#969ba4"},
    "light": {"A": "#a9d3ee", "Q": "#b8478f", "R": "#0072b2", "H": "#009e73", "W": "#e69f00", "K": "#f0dc2c",
              "C": "#cf4305", "_": "#cfccc3", "S": "#17181a", "X": "#84878d"},
}
"""The colours of the letters, as in page/page.css."""
_WHITE = {"dark": "A_", "light": "QRCS"}
"""The letters that are white on their colour; the others are black."""
_BESIDE = 60
"""Columns that a source needs to stand beside others."""
_LEFT, _RIGHT, _STRIP = 5, 9, 120
"""Columns beside a strip, and the most that it has: half a second each."""
_DECISIONS = 5
_STACK = 10
"""The most rows of a strip that all threads share."""


class Picture:
    """theme: of `PALETTES`. blocks: the terminal has characters for bars."""

    def __init__(self, theme: str, *, blocks: bool = True) -> None:
        self._styles = {letter: f"{'#ffffff' if letter in _WHITE[theme] else '#000000'} on {colour}"
                        for letter, colour in PALETTES[theme].items()}
        self._bars = " ▁▂▃▄▅▆▇█" if blocks else " .:-=+*%#"

    def draw(self, histories: Sequence[History], now: float, width: int, height: int | None) -> RenderableType:
        """All sources, in so many columns and, if there is a height, rows; beside each other if there is room.

        now: the time at the right edge.
        """
        if not histories:
            return Text("There is no server to watch yet.")
        count = len(histories)
        each = (width - 2 * (count - 1)) // count
        if height is not None and count > 1 and each >= _BESIDE:
            grid = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
            for _ in histories:
                grid.add_column(width=each, no_wrap=True)
            grid.add_row(*(Group(*self._source(history, now, each, height)) for history in histories))
            return grid
        room = None if height is None else height // count
        return Group(*(line for history in histories for line in self._source(history, now, width, room)))

    def legend(self, histories: Sequence[History], width: int) -> list[Text]:
        """What the letters say that are to be seen, in as many lines as that takes."""
        lines = [_line()]
        seen = set().union(*(history.letters for history in histories))
        for letter in (each for each in ORDER if each in seen):
            if lines[-1] and len(lines[-1]) + len(STATES[letter]) + 4 > width:
                lines.append(_line())
            lines[-1].append(f" {letter} ", self._styles[letter]).append(f" {STATES[letter]}  ")
        return lines

    def _source(self, history: History, now: float, width: int, height: int | None) -> list[Text]:
        """Its lines: just `height`, or as many as there are to be."""
        sample = history.last
        letters = "".join(lane["state"] for lane in sample["lanes"])
        rows = [self._coloured(letters[begin:begin + width]) for begin in range(0, len(letters), width)]
        top = [_title(sample), *_numbers(sample, width)]
        said = _decisions(sample)
        if height is None:
            return [*top, *rows, *said, Text()]
        slots = Slots(now, max(1, min(_STRIP, width - _LEFT - _RIGHT)))
        room = height - len(top) - 2  # the row of those that wait, and an empty one
        rows = rows[:max(1, room - 4)]
        strip = self._strip(history, slots, room - len(rows) - min(1, len(said)))
        lines = [*top, *rows, *strip, self._waits(history, slots), *said[:max(0, room - len(rows) - len(strip))]]
        return [*lines[:height - 1], *[_line()] * (height - len(lines[:height - 1]))]

    def _coloured(self, letters: str) -> Text:
        text = _line()
        for letter, group in groupby(letters):
            text.append("".join(group), self._styles.get(letter, "dim"))
        return text

    def _strip(self, history: History, slots: Slots, room: int) -> list[Text]:
        """A row for each lane if there is room, else all of them in the rows that there are."""
        lanes = len(history.last["lanes"])
        if not lanes or room < 2:
            return []
        if lanes <= room:
            rows = [(f"{number:>3}", row) for number, row in enumerate(history.lanes(slots))]
        else:
            rows = [("" if number else "all", row) for number, row in
                    enumerate(history.shares(slots, min(room, _STACK)))]
        return [_line(f"{name:<{_LEFT}}", "dim").append_text(self._coloured(row)) for name, row in rows]

    def _waits(self, history: History, slots: Slots) -> Text:
        waits = history.waits(slots)
        most = max(count or 0 for count in waits)
        bars = "".join(self._bars[-(-(count or 0) * (len(self._bars) - 1) // max(1, most))] for count in waits)
        return _line(f"{'wait':<{_LEFT}}", "dim").append(bars, "bold").append(f" max {most}", "dim")


def _line(text: str = "", style: str = "") -> Text:
    """That is cut at the terminal's edge, and not wrapped."""
    return Text(no_wrap=True, overflow="crop").append(text, style)


def _title(sample: Sample) -> Text:
    name = f"  {sample['name']}" if sample["name"] not in sample["label"].split() else ""
    return _line(sample["label"], "bold").append(f"  {sample['model']}{name}  process {sample['process']}")


def _numbers(sample: Sample, width: int) -> list[Text]:
    """In as many lines as they take."""
    connections, responses = sample["connections"], sample["responses"]
    kernel = connections["kernel"]
    parts = [
        (f"{_rate(responses['per_second'])} responses/s", ""),
        (f"p99 once a thread has it: {_duration(responses['p99'])}", ""),
        (_threads(sum(sample["threads"].values())), ""), (f"kernel {'?' if kernel is None else f'{kernel:,}'}", ""),
        (f"queued {connections['queued']:,}", ""), (f"parked {connections['parked']:,}", ""),
        (f"refused {connections['refused']:,}", "bold red" if connections["refused"] else ""),
    ]
    lines = [_line()]
    for part, style in parts:
        if lines[-1] and len(lines[-1]) + 2 + len(part) > width:
            lines.append(_line())
        lines[-1].append("  " if lines[-1] else "").append(part, style)
    return lines


def _decisions(sample: Sample) -> list[Text]:
    """The last few, the newest first; those of one reason in a row as one."""
    lines = []
    for _, group in groupby(reversed(sample["decisions"]), key=lambda each: (each["reason"], each["change"] > 0)):
        decisions = list(group)
        newest, change = decisions[0], sum(each["change"] for each in decisions)
        ago = _duration(max(0.0, sample["time"] - newest["time"]))
        lines.append(_line(f"{ago} ago: ", "dim").append(
            f"{'+' if change > 0 else '-'}{_threads(abs(change))}, to {newest['threads']:,}: {newest['reason']}"))
    return lines[:_DECISIONS]


def _threads(count: int) -> str:
    return f"{count:,} thread{'s' if count != 1 else ''}"


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 9.95 or rate == 0 else f"{rate:.1f}"


def _duration(seconds: float | None) -> str:
    """Two digits, or more before the point."""
    if seconds is None:
        return "-"
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if seconds * factor >= 0.95 or unit == "ms":
            value = seconds * factor
            return f"{value:,.0f} {unit}" if value >= 9.95 or value == 0 else f"{value:.1f} {unit}"
    raise AssertionError
