"""How far figures can be trusted, in sentences made of the records: what is missing, who disturbed, how far runs are
apart, and what chance would do.
"""

from __future__ import annotations

from math import comb
from statistics import median

from bench.lab.gates import NOISY
from bench.lab.metrics import METRICS
from bench.lab.record import Cell, Record, Results

__all__ = ["trust", "warnings"]

_ONCE = ("No cell was run twice, so nothing tells how far runs are apart, and no small difference means anything: "
         "--blocks 3 or more.")


def trust(results: Results, columns: tuple[str, ...]) -> list[str]:
    """columns: the metrics of the table; the spread told is that of the first one that there is."""
    said = [_runs(results), _others(results), *_spread(results, columns), *_unfit(results)]
    if results.meta.get("pinned", [None])[0] is None:
        said.append("Server and load shared their cores, and took from each other: compare with nothing measured "
                    "elsewhere.")
    if str(results.meta.get("git") or "").endswith("-dirty"):
        said.append("The code had changes that were not committed: no commit gives exactly these figures again.")
    return [sentence for sentence in said if sentence]


def warnings(results: Results) -> list[str]:
    """What is to be known before anything else is read; usually nothing."""
    said = []
    shares = [share for share, _ in _shares(results)]
    if shares and (usual := median(shares)) > NOISY:
        said.append(f"The machine was busy: others had {usual:.0%} of the server's core in the median run. "
                    "Believe large factors only.")
    if missing := _planned(results) - len(results.records):
        said.append(f"Not complete: {missing} of {_planned(results)} runs are missing.")
    if results.records and all(len(results.of(cell)) == 1 for cell in results.cells):
        said.append("Every cell was run once only: nothing tells how far runs are apart.")
    return said


def _planned(results: Results) -> int:
    blocks = results.meta.get("options", {}).get("blocks") or 1
    return max(len(results.records), len(results.meta.get("cells", [])) * blocks)


def _shares(results: Results) -> list[tuple[float, Record]]:
    """Of the server's core that others had."""
    return [(float(record.detail["others"]), record) for record in results.records
            if isinstance(record.detail.get("others"), (int, float))]


def _runs(results: Results) -> str:
    runs, cells = len(results.records), len(results.cells)
    blocks = len({record.block for record in results.records})
    said = (f"{_count(runs, 'run')} of {_count(cells, 'cell')} in {_count(blocks, 'block')}, each with a server "
            "process of its own. A block is every cell once, in an order that is drawn: whatever else the machine did "
            "then hit all alike.")
    if runs < (planned := _planned(results)):
        said += f" It is not complete: {planned - runs} of {planned} runs are missing."
    return said


def _others(results: Results) -> str:
    if not (shares := _shares(results)):
        return "Whether anybody else used the server's core was not recorded."
    most, record = max(shares, key=lambda pair: pair[0])
    said = (f"Others, the hypervisor among them, had {median(share for share, _ in shares):.1%} of the server's core in"
            f" the median run, and {most:.1%} at most ({record.cell}, block {record.block}).")
    if disturbed := sum(share > NOISY for share, _ in shares):
        said += f" In {_count(disturbed, 'run')} it was more than {NOISY:.0%}: these figures say little."
    return said


def _spread(results: Results, columns: tuple[str, ...]) -> list[str]:
    """Of the cells that are fit to be compared."""
    for name in columns:
        spreads = [((spread.high - spread.low) / spread.median, cell) for cell in results.cells
                   if not results.flaws(cell) and (spread := results.spread(cell, name)) is not None
                   and len(spread.values) > 1 and spread.median > 0]
        if spreads:
            widest, where = max(spreads, key=lambda pair: pair[0])
            usual = median(spread for spread, _ in spreads)
            said = (f"Runs of one cell differ in {METRICS[name].label}, from the lowest to the highest, by {usual:.1%} "
                    f"of their median in the median cell, and by {widest:.1%} in the worst ({where}). A difference "
                    "between two cells counts only if every run of the one is beyond every run of the other.")
            return [said, _chance(min(len(results.of(cell)) for _, cell in spreads))]
    return [_ONCE]


def _chance(runs: int) -> str:
    """That two sets of `runs` values, alike, are apart: 2 of all the orders in which they can come."""
    return (f"Of two settings that are the same, chance alone puts them so far apart in 1 of "
            f"{comb(2 * runs, runs) // 2} comparisons, with {_count(runs, 'run')} of each.")


def _unfit(results: Results) -> list[str]:
    said = []
    if failed := [record for record in results.records if record.failed]:
        said.append(f"{_count(len(failed), 'run')} failed, the first with: {failed[0].cell}: {failed[0].failed}.")
    flawed = [cell for cell in results.cells if any(record.flaws for record in results.of(cell))]
    if flawed:
        said.append(f"{len(flawed)} of {_count(len(results.cells), 'cell')} compare with nothing, because clients got "
                    f"no answer, or other answers than asked for, or most of them waited unseen: {_some(flawed)}.")
    return said


def _some(cells: list[Cell]) -> str:
    more = f"; and {len(cells) - 4} more, see the table" if len(cells) > 5 else ""
    return "; ".join(map(str, cells[:4] if more else cells)) + more


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")
