"""`python -m bench compare A B`: two folders of results of one preset, cell by cell. Is B slower?

What is compared, and how it is judged: `bench.lab.comparison`. Here it is read, and said.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench.lab.comparison import Row, compared, judged, lost
from bench.lab.gates import NOISY
from bench.lab.metrics import METRICS
from bench.lab.preset import Preset
from bench.lab.ranking import ranking
from bench.lab.record import Cell, Results
from bench.lab.run import machine_line
from bench.presets import find_preset
from bench.table import grid

__all__ = ["DESCRIPTION", "METRICS_HELP", "RELATIVE_HELP", "TOLERANCE_HELP", "run_compare_folders"]

DESCRIPTION = """\
Is B slower than A? Two folders of results of the same preset, cell by cell: the ratio B/A with its 95 % confidence
interval (Welch's t on logarithms; it takes at least 2 blocks in each folder), and a verdict.

  SLOWER              worse by more than the tolerance with all of the interval, and that not by the chance that many
                      cells give (Benjamini and Hochberg); the exit code is 1
  perhaps slower      worse, but perhaps by less than the tolerance, or perhaps by chance
  no difference seen  the interval has 1 in it. That is not "the same": what could not have been seen is said
  faster              as SLOWER, the other way round

Flawed runs are left out. If all runs of a cell were fit in A and none is in B, the exit code is 1, too. It is 2 if
nothing can be compared. At the end: whether both folders put the subjects in the same order.
"""
METRICS_HELP = "what is compared, by the names in runs.jsonl (default: cpu_us,ok_per_s, as far as they are there)"
TOLERANCE_HELP = "per cent that B may be worse (default: 3)"
RELATIVE_HELP = (
    "divide each run by that of this subject in the same block, under the same load. The runs of two folders are no "
    "pairs: they may be days apart, and a machine is not as fast on one as on another. What hits a whole block, which "
    "takes minutes, then cancels. So does what hits all subjects alike: if a change makes all of them slower, this one "
    "too, it is not seen")

_DEFAULT = ("cpu_us", "ok_per_s")
_MACHINE = ("host", "cpu", "cores", "cores_usable", "kernel", "python", "gil", "pinned", "packages")
_RUNS = ("seconds", "warmup", "generator", "timeout", "app", "python")
_WIDTH = 120


class _UnlikeError(Exception):
    """The text says why, and what to do."""


def run_compare_folders(options: argparse.Namespace) -> int:
    """Of options: `a`, `b`: folders; `metrics`: names, or None; `tolerance`: per cent; `relative_to`: a subject, or
    None. 0: nothing is worse; 1: something is; 2: they cannot be compared."""
    try:
        preset, a, b = _read(options.a, options.b)
        metrics = _metrics(preset, a, b, options.metrics)
        _check(a, b, options.relative_to)
    except _UnlikeError as error:
        print(_wrapped(f"These cannot be compared: {error}."))
        return 2
    print(f"{preset.title}\n")
    for side, folder, results in (("A", options.a, a), ("B", options.b, b)):
        print(_wrapped(f"{side}: {folder}: {machine_line(results.meta)}"))
    for note in [*_differences(a.meta, b.meta), *_disturbed("A", a), *_disturbed("B", b)]:
        print(_wrapped(f"NOTE: {note}"))
    rows, left_out = compared(a, b, metrics, options.relative_to)
    rows, gone = judged(rows, options.tolerance), lost(a, b)
    print(_tables(rows, options.relative_to))
    for why, cells in left_out.items():
        print(_wrapped(f"Left out: {why}: {_some(cells)}."))
    said = _conclusions(rows, options.tolerance)
    said += [f"{cell}: LOST: fit to be compared in A, in B no more: {'; '.join(b.flaws(cell))}." for cell in gone]
    print("\n" + "\n".join(map(_wrapped, [*said, *(str(ranking(a, b, name)) for name in metrics)])))
    if not rows and not gone:
        return 2
    return int(bool(gone) or any(row.verdict.isupper() for row in rows))


def _read(*folders: Path) -> tuple[Preset, Results, Results]:
    read = []
    for folder in folders:
        try:
            read.append(Results.read(folder))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _UnlikeError(f"{folder} cannot be read ({error}); give folders made by python -m bench run"
                                 ) from error
    a, b = (results.meta.get("preset") for results in read)
    if a != b:
        raise _UnlikeError(f"{folders[0]} is of the preset {a}, {folders[1]} of {b}; give two of the same")
    try:
        return find_preset(str(a)), read[0], read[1]
    except ValueError as error:
        raise _UnlikeError(str(error)) from error


def _metrics(preset: Preset, a: Results, b: Results, asked: Sequence[str] | None) -> list[str]:
    """Those asked for, or those compared by default. The preset is loaded by now, and with it metrics of its own."""
    there = {name for record in a.records for name in record.metrics}
    there &= {name for record in b.records for name in record.metrics}
    known = [name for name, metric in METRICS.items() if name in there and metric.better != "neither"]
    for name in asked or ():
        if name not in known:
            raise _UnlikeError(f"{name!r} is nothing that both have and that can be better or worse; choose from "
                                 f"{', '.join(known) or '(there is nothing)'}")
    usual = [name for name in _DEFAULT if name in known] or [name for name in preset.columns if name in known][:1]
    if not (chosen := list(asked or usual or known[:1])):
        raise _UnlikeError("they have no figure in common that can be better or worse")
    return chosen


def _check(a: Results, b: Results, reference: str | None) -> None:
    common = [cell for cell in a.cells if b.of(cell)]
    if not common:
        raise _UnlikeError("no cell is in both; were they run with other subjects, or under other loads?")
    subjects = list(dict.fromkeys(cell.subject for cell in common))
    if reference is not None and reference not in subjects:
        raise _UnlikeError(f"{reference} is not in both; --relative-to one of {', '.join(subjects)}")


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Between the circumstances of the two, other than the commit."""
    notes = []
    if differ := [_differing(name, a.get(name), b.get(name)) for name in _MACHINE if a.get(name) != b.get(name)]:
        notes.append(f"NOT THE SAME MACHINE, or not in the same state: {', '.join(differ)}. The ratios are those of two"
                     " machines as much as of two commits; --relative-to SUBJECT takes most of that out.")
    one, other = a.get("options", {}), b.get("options", {})
    if differ := [_differing(name, one.get(name), other.get(name)) for name in _RUNS
                  if one.get(name) != other.get(name)]:
        notes.append(f"NOT RUN IN THE SAME WAY: {', '.join(differ)}.")
    return notes


def _disturbed(side: str, results: Results) -> list[str]:
    shares = [record.detail["others"] for record in results.records if "others" in record.detail]
    if not shares or (usual := median(shares)) <= NOISY:
        return []
    return [f"IN {side} OTHERS HAD {usual:.0%} of the server's core in the median run. That says little."]


def _differing(name: str, a: object, b: object) -> str:
    return f"{name.replace('_', ' ')} {a} and {b}"


def _tables(rows: Sequence[Row], reference: str | None) -> str:
    """A table for each metric under each load."""
    tables: dict[tuple[str, str], list[tuple[str, ...]]] = {}
    for row in rows:
        metric = METRICS[row.metric]
        a, b = (f"{value:.3f}" if reference else metric.said(value) for value in (row.a, row.b))
        tables.setdefault((row.metric, row.cell.load), [("", "A", "B", "B/A (95 %)", "", "")]).append(
            (row.cell.subject, a, b, str(row.ratio), row.verdict, row.note))
    said, before = [], ""
    for (name, load), lines in tables.items():
        if name != before:
            said.append(f"{METRICS[name].title}" + (f"; relative to {reference}" if reference else ""))
            before = name
        said.append("\n".join(filter(None, (load, grid(lines)))))
    return "".join(f"\n{one}\n" for one in said)


def _conclusions(rows: Sequence[Row], tolerance: float) -> list[str]:
    if not rows:
        return ["Nothing could be compared."]
    said = [f"{row.cell}, {METRICS[row.metric].label}: B is {row.verdict}: {row.ratio}."
            for row in sorted(rows, key=lambda row: -row.worse.value) if not row.verdict.startswith(("no ", "perhaps"))]
    if not any(row.verdict.isupper() for row in rows):
        said.append(f"Nothing is worse by more than {tolerance:g} % beyond doubt.")
    if perhaps := sum(row.verdict.startswith("perhaps") for row in rows):
        said.append(f'{perhaps} of {len(rows)} are "perhaps". Had nothing changed, about {len(rows) / 20:.0f} would be '
                    "so by chance.")
    widest = max(rows, key=_unseen)
    usual = sorted(_unseen(row) for row in rows)[len(rows) // 2]
    said.append(f"What could not have been seen: in half of the cells a difference below {usual:.1%}; where the "
                f"interval is the widest, in {widest.cell}, {METRICS[widest.metric].label}, one below "
                f"{_unseen(widest):.1%}. More blocks make intervals narrower.")
    return said


def _unseen(row: Row) -> float:
    return row.ratio.high / row.ratio.value - 1


def _some(cells: Sequence[Cell]) -> str:
    """The first few."""
    more = f" and {len(cells) - 4} more" if len(cells) > 5 else ""
    return "; ".join(map(str, cells[:4] if more else cells)) + more


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WIDTH, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False)
