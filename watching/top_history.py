"""What `taskmaster top` remembers: the last minute of each source, as columns of a strip.

A column is a slot of time, the same slot for every row and every source, and shows the last look in it. So each letter
is a random look at a thread, and how often a letter is seen is the share of time that the thread spent so, however
short each time was (as in a profiler that samples).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from watching.messages import Sample

__all__ = ["ORDER", "History", "Slots"]

ORDER = "HWRKQC_AXS"
"""Threads that work, then those that wait: how they are stacked, from the bottom up."""
_MINUTE = 60.0


def _waiting(sample: Sample) -> int:
    """Connections that nobody serves though their clients want something."""
    connections = sample["connections"]
    return (connections["kernel"] or 0) + connections["queued"]


class Slots:
    """A minute up to `end` in `count` slots; the last is the one with `end` in it. Slots begin at multiples of their
    length, so that a column does not change while it moves."""

    def __init__(self, end: float, count: int) -> None:
        self.count = count
        self.seconds = _MINUTE / count
        self._first = int(end // self.seconds) - count + 1

    def place(self, time: float) -> int:
        """The number of the slot that `time` is in; outside 0 to count - 1: it is in none."""
        return int(time // self.seconds) - self._first


class History:
    """One source's samples of the last minute. `add` them in the order of their times."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque()

    def add(self, sample: Sample) -> None:
        if self._samples and sample["time"] <= self._samples[-1]["time"]:
            return  # the same once more
        self._samples.append(sample)
        while self._samples[0]["time"] < sample["time"] - 1.1 * _MINUTE:
            self._samples.popleft()

    @property
    def last(self) -> Sample:
        return self._samples[-1]

    @property
    def letters(self) -> set[str]:
        """That have been seen in the last minute."""
        return {lane["state"] for sample in self._samples for lane in sample["lanes"]}

    def _columns(self, slots: Slots) -> list[Sample | None]:
        """Of each slot the last sample, None where there is none."""
        columns: list[Sample | None] = [None] * slots.count
        for sample in self._samples:
            if 0 <= (place := slots.place(sample["time"])) < slots.count:
                columns[place] = sample
        return columns

    def lanes(self, slots: Slots) -> list[str]:
        """A row of letters for each lane of the last sample; " " where it was not seen."""
        columns = self._columns(slots)
        rows = range(len(self.last["lanes"]))
        return ["".join(_letter(sample, row) for sample in columns) for row in rows]

    def shares(self, slots: Slots, height: int) -> list[str]:
        """All threads in `height` rows: in each column the letters of all threads, sorted, each as high as its share of
        them. " " where there was none."""
        columns = [_stack(sample, height) for sample in self._columns(slots)]
        return ["".join(column[row] for column in columns) for row in range(height)]

    def waits(self, slots: Slots) -> list[int | None]:
        """The most connections that have waited, by slot."""
        most: list[int | None] = [None] * slots.count
        for sample in self._samples:
            if 0 <= (place := slots.place(sample["time"])) < slots.count:
                most[place] = max(most[place] or 0, _waiting(sample))
        return most


def _letter(sample: Sample | None, row: int) -> str:
    return sample["lanes"][row]["state"] if sample is not None and row < len(sample["lanes"]) else " "


def _stack(sample: Sample | None, height: int) -> Sequence[str]:
    """From the top row down."""
    lanes = [] if sample is None else sample["lanes"]
    letters = sorted((lane["state"] for lane in lanes if lane["thread"] is not None), key=ORDER.find)
    if not letters:
        return " " * height
    middles = ((row + 0.5) / height for row in reversed(range(height)))
    return [letters[int(middle * len(letters))] for middle in middles]
