"""A preset's table, whatever its shape, for a terminal and for Markdown: a part for each load, where subjects compare.

The first row has the heads. The first column is the cell, the last what is wrong with it; all between are figures.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.lab.record import Cell
from bench.table import grid

__all__ = ["Part", "as_markdown", "as_text", "parts_of"]

_SUBJECTS = 3
"""As many rows for a load make a part of it worth while."""


@dataclass(frozen=True)
class Part:
    """Rows that belong together."""

    load: str
    """That all of them are under; empty: the rows say it themselves."""
    heads: tuple[str, ...]
    rows: list[tuple[str, ...]]


def parts_of(table: Sequence[tuple[str, ...]], cells: Iterable[Cell]) -> list[Part]:
    """`table` by load, in the order in which loads come; as one part if its rows are no cells, or loads have few."""
    heads, *rows = table
    by_name = {str(cell): cell for cell in cells}
    loads: dict[str, list[tuple[str, ...]]] = {}
    for row in rows:
        cell = by_name.get(row[0])
        loads.setdefault(cell.load if cell else "", []).append((cell.subject if cell else row[0], *row[1:]))
    if not all(loads) or len(rows) < _SUBJECTS * len(loads):
        return [Part("", heads, rows)]
    return [Part(load, heads, those) for load, those in loads.items()]


def as_text(parts: Iterable[Part], width: int = 120) -> str:
    """For a terminal of so many columns: what is wrong stands below, and figures that have no room in another table."""
    return "\n\n".join("\n".join(filter(None, (part.load, *_pieces(part, width), *_remarks(part, width))))
                       for part in parts)


def as_markdown(parts: Iterable[Part]) -> str:
    """Tables as GitHub has them. Figures to the right; who is flawed in italics."""
    said = []
    for part in parts:
        lines = [part.heads, (":--", *["--:"] * (len(part.heads) - 2), ":--")]
        lines += [(f"*{_escaped(row[0])}*" if row[-1] else _escaped(row[0]), *map(_escaped, row[1:]))
                  for row in part.rows]
        said.append("\n".join([*([f"**{part.load}**\n"] if part.load else []),
                               *(f"| {' | '.join(line)} |" for line in lines)]))
    return "\n\n".join(said)


def _pieces(part: Part, width: int) -> list[str]:
    """As many tables as it takes; each begins with the first column."""
    columns = list(zip(*(row[:-1] for row in (part.heads, *part.rows)), strict=True))
    pieces, chosen = [], columns[:1]
    for column in columns[1:]:
        if len(chosen) > 1 and _width([*chosen, column]) > width:
            pieces.append(chosen)
            chosen = columns[:1]
        chosen.append(column)
    return [grid([(*row, "", "") for row in zip(*piece, strict=True)]) for piece in (*pieces, chosen)]


def _width(columns: Sequence[Sequence[str]]) -> int:
    return sum(2 + max(map(len, column)) for column in columns)


def _remarks(part: Part, width: int) -> list[str]:
    return [textwrap.fill(f"{row[0]}: {row[-1]}", width, initial_indent="    ", subsequent_indent="      ",
                          break_on_hyphens=False) for row in part.rows if row[-1]]


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")
