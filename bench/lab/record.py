"""What the lab keeps: cells, records of their runs, and all of them together. Plain data; no measuring here.

A record is one run of one cell, in a server process of its own, and one line of `runs.jsonl`. Tables, figures and
sentences are made of records alone: so all of them can be had again from the file.
"""

from __future__ import annotations

import gzip
import json
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

__all__ = ["Cell", "Record", "Results", "Spread", "Value", "runs_in"]

Value = str | int | float | bool
"""Of an axis."""


@dataclass(frozen=True)
class Cell:
    """One place in an experiment: who serves, and what is done to it."""

    subject: str
    """Who serves: a name that `bench.subjects` knows."""
    axes: tuple[tuple[str, Value], ...] = ()
    """All else that is varied, in the order in which it is read out: (("keep_alive", True), ("connections", 100))."""

    @classmethod
    def of(cls, subject: str, **axes: Value) -> Self:
        return cls(subject, tuple(axes.items()))

    def __getitem__(self, axis: str) -> Any:
        """KeyError if there is no such axis."""
        return dict(self.axes)[axis]

    @property
    def load(self) -> str:
        """What is done to it, in words, which are the same for every subject: "keep-alive on, connections 100"."""
        return ", ".join(_said(name, value) for name, value in self.axes)

    def __str__(self) -> str:
        return f"{self.subject}, {self.load}" if self.axes else self.subject


@dataclass
class Record:
    """One run of a cell."""

    cell: Cell
    block: int
    """From 1 on. A block is every cell once."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Figures that can be compared, by their names in `bench.lab.metrics`."""
    detail: dict[str, Any] = field(default_factory=dict)
    """Whatever else is needed to draw and to say what happened; as JSON has it."""
    flaws: list[str] = field(default_factory=list)
    """Why these figures compare with nothing, each in a few words: see `bench.lab.gates`."""
    failed: str = ""
    """Why there are no figures."""

    def to_json(self) -> str:
        """One line. Figures have six digits there: what is behind them is noise, and fills a disk."""
        return json.dumps(asdict(self) | {"metrics": _short(self.metrics), "detail": _short(self.detail)})

    @classmethod
    def from_json(cls, text: str) -> Self:
        values = json.loads(text)
        cell = values.pop("cell")
        return cls(Cell(cell["subject"], tuple((name, value) for name, value in cell["axes"])), **values)


@dataclass(frozen=True)
class Spread:
    """One figure of a cell over its blocks."""

    values: tuple[float, ...]
    """At least one, in the order of the blocks."""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)

    def apart(self, other: Spread) -> bool:
        """Every run of the one is beyond every run of the other."""
        return self.high < other.low or other.high < self.low


class Results:
    """All records of one folder, and what was asked for. Read only."""

    def __init__(self, records: Iterable[Record], meta: Mapping[str, Any] | None = None) -> None:
        self.records = list(records)
        """In the order in which they were made."""
        self.meta = dict(meta or {})
        """What `meta.json` holds: the preset and its options, the machine, the seed."""
        self._by_cell: dict[Cell, list[Record]] = {}
        for record in sorted(self.records, key=lambda record: record.block):
            self._by_cell.setdefault(record.cell, []).append(record)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """What is kept in `folder`. OSError if there is nothing, ValueError if it is not what this writes.

        A last line without its end is a run that was killed while it was written, and does not count. Results that are
        to be kept for long may have been put through gzip(1).
        """
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        kept = runs_in(folder)
        with gzip.open(kept, "rt", encoding="utf-8") if kept.suffix == ".gz" else open(kept, encoding="utf-8") as file:
            *lines, _ = file.read().split("\n")
        return cls(map(Record.from_json, lines), meta)

    @property
    def cells(self) -> list[Cell]:
        """In the order in which the preset plans them, as far as there are records of them."""
        planned = [Cell(subject, tuple((name, value) for name, value in axes))
                   for subject, axes in self.meta.get("cells", [])]
        return [cell for cell in planned if cell in self._by_cell] or list(self._by_cell)

    @property
    def subjects(self) -> list[str]:
        return list(dict.fromkeys(cell.subject for cell in self.cells))

    def where(self, subject: str | None = None, **axes: Value) -> Iterator[Cell]:
        """The cells of `subject` (None: of all) that have these values on these axes."""
        for cell in self.cells:
            if subject in (None, cell.subject) and axes.items() <= dict(cell.axes).items():
                yield cell

    def of(self, cell: Cell) -> list[Record]:
        """The runs of `cell`, by block; none if there are none."""
        return self._by_cell.get(cell, [])

    def spread(self, cell: Cell, metric: str) -> Spread | None:
        """None: no run of `cell` has it."""
        values = tuple(record.metrics[metric] for record in self.of(cell) if metric in record.metrics)
        return Spread(values) if values else None

    def median(self, cell: Cell, metric: str) -> float | None:
        spread = self.spread(cell, metric)
        return None if spread is None else spread.median

    def flaws(self, cell: Cell) -> list[str]:
        """Why it compares with nothing, of all its runs; empty if it may be compared."""
        said = [flaw for record in self.of(cell) for flaw in record.flaws]
        said += [f"failed: {record.failed}" for record in self.of(cell) if record.failed]
        return list(dict.fromkeys(said))


def runs_in(folder: Path) -> Path:
    """The file of its records: runs.jsonl, or if that is not there the same with .gz behind it."""
    plain = folder / "runs.jsonl"
    return plain if plain.exists() else folder / "runs.jsonl.gz"


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _short(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_short(one) for one in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _said(name: str, value: Value) -> str:
    words = name.replace("keep_alive", "keep-alive").replace("_ms", "").replace("_", " ")
    if isinstance(value, bool):
        value = "on" if value else "off"
    if name.endswith("_ms"):
        return f"{words} {value:g} ms" if value else f"no {words}"
    return f"{words} {value:g}" if isinstance(value, float) else f"{words} {value}"
