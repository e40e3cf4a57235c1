"""What an experiment has to say of itself. Each preset is one module of `bench.presets`, and one subclass of this.

    question, prediction    stand in the report above the figures: said before anything is measured
    cells                   the plan
    run                     one cell, once; a fresh server process
    table, figures, says    made of records alone, so that a report can be made again from what was kept
"""

from __future__ import annotations

import textwrap
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from bench.lab.metrics import METRICS
from bench.lab.record import Cell, Record, Results
from bench.lab.tables import as_text, parts_of

__all__ = ["Drawing", "Options", "Preset", "Saying", "median_and_spread"]


@dataclass(frozen=True)
class Options:
    """What the command line asks for. None: what the preset has by default, which `Preset.with_defaults` fills in."""

    subjects: Sequence[str] | None = None
    blocks: int | None = None
    seconds: float | None = None
    """Of each run that count."""
    warmup: float | None = None
    """Seconds of each run that do not."""
    connections: Sequence[int] | None = None
    sleeps_ms: Sequence[float] | None = None
    keep_alive: Sequence[bool] | None = None
    rates: Sequence[float] | None = None
    """Requests a second, of an open loop."""
    generator: str = "builtin"
    python: Sequence[str] = ()
    """Interpreters that run the servers; none: this one."""
    app: str = ""
    """"module:app", a WSGI application to serve instead of the handler."""
    timeout: float = 10.0
    """Seconds that a client waits for a response."""
    seed: int = 0
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Drawing:
    """A figure of the report."""

    name: str
    """Of its file: "capacity"."""
    svg: str
    """A whole <svg> element."""
    caption: str
    """What it shows, and how to read it; plain text."""


@dataclass(frozen=True)
class Saying:
    """A sentence made of the data."""

    text: str
    shown: bool | None = None
    """Of a claim: whether the data bear it out ("SHOWN", "NOT SHOWN on this machine"). None: it is no claim."""
    heading: str = ""
    """Sentences under the same heading stand together; empty: under none."""

    def __str__(self) -> str:
        return ("" if self.shown is None else "SHOWN: " if self.shown else "NOT SHOWN on this machine: ") + self.text


class Preset(ABC):
    """An experiment. One object, without state; `run` is called by one thread."""

    name: ClassVar[str]
    """On the command line."""
    title: ClassVar[str]
    """"Who is served, when clients keep their connections and threads are few"."""
    question: ClassVar[str]
    """A paragraph: what is asked, and why one would want to know."""
    prediction: ClassVar[str]
    """A paragraph: what is expected to come, and by which mechanism; said before measuring."""
    method: ClassVar[str]
    """A paragraph: what is done, exactly."""
    defaults: ClassVar[Options]
    """All that it uses is set here."""
    columns: ClassVar[Sequence[str]] = ("ok_per_s", "cpu_us", "p50_ms", "p99_ms")
    """Metrics of the table, in order."""

    @abstractmethod
    def cells(self, options: Options) -> list[Cell]:
        """All there are, in the order in which tables have them."""

    def prepare(self, options: Options) -> Options:
        """What has to be found out on this machine before the first run of a folder; it is kept in the options.

        May take seconds, and says so. ChildError, OSError or ValueError if it cannot be had.
        """
        return options

    @abstractmethod
    def run(self, cell: Cell, block: int, options: Options) -> Record:
        """Measure `cell` once, from a fresh server to its end.

        What goes wrong in a child, or in a server, is a Record with `failed`; no exception but KeyboardInterrupt is
        let out, and no process is left.
        """

    def seconds(self, cell: Cell, options: Options) -> float:
        """What a run is guessed to take, start and end included."""
        return (options.warmup or 0.0) + (options.seconds or 0.0) + 0.6

    @abstractmethod
    def figures(self, results: Results) -> list[Drawing]:
        """ImportError without matplotlib. What is flawed is drawn hollow, and named."""

    @abstractmethod
    def says(self, results: Results) -> list[Saying]:
        """First the effect the preset is named after, as a claim; then what else there is to be seen. Of any records,
        also of few or flawed ones: what cannot be judged is said to be so (shown=None)."""

    def text(self, results: Results) -> str:
        """For the terminal: the table, and the sentences."""
        said = [textwrap.fill(str(saying), 116, initial_indent="  - ", subsequent_indent="    ", break_on_hyphens=False)
                for saying in self.says(results)]
        return f"{as_text(parts_of(self.table(results), results.cells))}\n\n" + "\n".join(said)

    def setting(self, meta: Mapping[str, Any]) -> str:
        """How the subjects are set up, in words; empty if `method` says it."""
        return ""

    def table(self, results: Results) -> list[tuple[str, ...]]:
        """Rows, the first of which is the heads; the first column is the cell, the last what is wrong with it."""
        used = [name for name in self.columns if any(name in record.metrics for record in results.records)]
        rows = [("", *(METRICS[name].label + (f", {METRICS[name].unit}" if METRICS[name].unit else "")
                       for name in used), "")]
        for cell in results.cells:
            rows.append((str(cell), *(median_and_spread(results, cell, name) for name in used),
                         "; ".join(results.flaws(cell))))
        return rows


def median_and_spread(results: Results, cell: Cell, metric: str) -> str:
    """"12,345 (11,987–12,870)"; "-" if there is none."""
    spread = results.spread(cell, metric)
    if spread is None:
        return "-"
    said = METRICS[metric].said
    if len(spread.values) < 2:
        return said(spread.median)
    return f"{said(spread.median)} ({said(spread.low)}–{said(spread.high)})"
