"""What the preset `step` says of its records: who grows, and where those wait who cannot be served."""

from __future__ import annotations

from collections.abc import Sequence

from bench.lab.metrics import METRICS
from bench.lab.preset import Saying
from bench.lab.record import Cell, Record, Results, Spread

__all__ = ["loads_of", "sentences"]

_TWICE = 2.0
"""Times as many threads as before the step, in every run, is what growing means here."""
_FLAT = 1.1
"""Times as many threads is what having had them from the start means."""
_MANY = 0.1
"""Share of the clients from which on it is worth saying where they wait."""


def loads_of(results: Results) -> list[str]:
    return list(dict.fromkeys(cell.load for cell in results.cells))


def sentences(results: Results) -> list[Saying]:
    """Of every load; under a heading for each, if there are several."""
    said = []
    for load in loads_of(results):
        cells = [cell for cell in results.cells if cell.load == load and _good(results, cell)]
        some = [_growth(results, cells), *_unseen(results, cells), *_latency(results, cells),
                *_shrinking(results, cells)]
        said += [Saying(one.text, one.shown, load.capitalize() if len(loads_of(results)) > 1 else "") for one in some]
    return said or [_growth(results, [])]


def _good(results: Results, cell: Cell) -> list[Record]:
    return [record for record in results.of(cell) if "phases" in record.detail and "threads" in record.metrics]


def _growth(results: Results, cells: Sequence[Cell]) -> Saying:
    """The claim that the preset is named after."""
    grew, had, neither = [], [], []
    for cell in cells:
        before = max(1, *map(_before, _good(results, cell)))
        most, after = results.spread(cell, "threads"), results.spread(cell, "grown_s")
        assert most is not None
        if after is not None and most.low >= _TWICE * before:
            grew.append(f"{cell.subject} from {before:.0f} to {_range(most, 'threads')} threads, nine tenths of them "
                        f"{_range(after, 'grown_s')} s after the step")
        elif most.high <= _FLAT * before:
            had.append(f"{cell.subject} ({most.median:.0f})")
        else:
            neither.append(f"{cell.subject} (from {before:.0f} to {_range(most, 'threads')})")
    if not cells:
        return Saying("Who grows, and how fast, cannot be judged: there is no run with figures.")
    text = f"with the step grow {'; '.join(grew)}" if grew else "with the step nobody's threads grow clearly"
    if had:
        text += f". As many threads as before have {_and(had)}"
    if neither:
        text += f". A little, or not in every run, {'grow' if len(neither) > 1 else 'grows'} {_and(neither)}"
    return Saying(text + ".", bool(grew))


def _unseen(results: Results, cells: Sequence[Cell]) -> list[Saying]:
    """Who lets clients wait where the server's own figures do not show it."""
    said, seen, told = [], [], False
    for cell in cells:
        unseen = results.spread(cell, "unseen")
        if unseen is None:
            continue
        told = True
        clients = max(phase["clients"] for record in _good(results, cell) for phase in record.detail["phases"])
        if unseen.low < _MANY * clients:
            seen.append(cell.subject)
        else:
            said.append(f"{cell.subject} {unseen.median:.0f} of {clients}, {_where(results, cell, unseen.median / 2)}")
    if not told:
        return []
    text = ("clients wait where no figure of the server's shows them: with " + "; ".join(said) if said else
            "no server here lets clients wait where its own figures do not show them")
    return [Saying(text + (f". Not so {_and(seen)}." if said and seen else "."), bool(said))]


def _where(results: Results, cell: Cell, many: float) -> str:
    """Where most of those are that wait unseen."""
    if (results.median(cell, "kernel_waiting") or 0.0) >= many:
        return "in the kernel's accept queue"
    if (results.median(cell, "parked") or 0.0) >= many:
        return "whose connections count as parked, as idle ones do"
    return "who come, and go, and are refused"


def _latency(results: Results, cells: Sequence[Cell]) -> list[Saying]:
    said = []
    for cell in cells:
        if (p99 := results.spread(cell, "step_p99_ms")) is None:
            continue
        missing = _missing(results, cell)
        said.append(f"{cell.subject} {_range(p99, 'step_p99_ms')} ms{f' ({missing})' if missing else ''}")
    return [Saying(f"p99 in the step's first second, of those that were answered: {'; '.join(said)}.")] if said else []


def _missing(results: Results, cell: Cell) -> str:
    """Who is in no latency: refused, or not answered at all; of the worst run."""
    loads = [record.detail["loads"][1] for record in _good(results, cell)]
    refused = max((sum(load["non_2xx"].values()) for load in loads), default=0)
    starved = max((load["starved"] or 0 for load in loads), default=0)
    return " and ".join([f"{refused:,} times refused"] * bool(refused) + [f"{starved} clients never answered"]
                        * bool(starved))


def _shrinking(results: Results, cells: Sequence[Cell]) -> list[Saying]:
    said = []
    for cell in cells:
        good = _good(results, cell)
        if not all("grown_s" in record.metrics for record in good):
            continue
        gone = results.spread(cell, "shrunk_s")
        if gone is not None and len(gone.values) == len(good):
            said.append(f"{cell.subject} has given its up {_range(gone, 'shrunk_s')} s after the end of the step")
        else:
            last = min(record.detail["phases"][2]["to"] - record.detail["phases"][2]["from"] for record in good)
            said.append(f"{cell.subject} has them still after {last:.0f} s")
    slow = [f"{cell.subject} {METRICS['recovered_s'].said(spread.median)} s" for cell in cells
            if (spread := results.spread(cell, "recovered_s")) is not None]
    sayings = [Saying(f"Of those that have grown {'; '.join(said)}.")] if said else []
    if slow:
        sayings.append(Saying(f"When the clients have gone, p99 is as before after: {', '.join(slow)}."))
    return sayings


def _before(record: Record) -> float:
    """The most threads before the step."""
    to = record.detail["phases"][0]["to"]
    samples = record.detail["samples"]
    return max((count for t, count in zip(samples["t"], samples["threads"], strict=True) if 0 <= t < to), default=0)


def _range(spread: Spread, metric: str) -> str:
    said = METRICS[metric].said
    low, high = said(spread.low), said(spread.high)
    return low if low == high else f"{low} to {high}"


def _and(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
