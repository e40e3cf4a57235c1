"""Figures as a table for the terminal: one block for each load, one line for each model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.cells import Figures, same_load

__all__ = ["LEGEND", "grid", "problems", "render"]

LEGEND = """\
ok/s      2xx responses a second, median of the rounds (lowest–highest)      higher is better
CPU us    CPU microseconds of the server for each of them                    lower is better; the steadiest figure
p50, p99  ms that half of the requests, and 99 in 100, took at most          lower is better
X·R       ok/s times mean latency: requests in progress on average, to be held against the number of connections
threads   the most that the model had at once
errors    requests without a response, and responses other than 2xx; "starved": clients that got no response at all"""

_HEADER = ("model", "ok/s", "(low–high)", "CPU us", "p50 ms", "p99 ms", "X·R", "threads", "errors", "notes")


def render(all_figures: Iterable[Figures]) -> str:
    """The whole table, without a line end."""
    blocks = []
    for group in same_load(all_figures):
        rows = [_HEADER, *(_row(one) for one in group)]
        blocks.append(f"{group[0].cell.load}, {group[0].connections} connections\n{grid(rows)}")
    return "\n\n".join(blocks)


def problems(one: Figures) -> str:
    """What the column of errors says: "starved 99", "503: 12", "reset 3"; "-" if there is nothing to say."""
    said = [f"starved {one.starved}"] if one.starved else []
    said += [f"{status}: {count:,}" for status, count in sorted(one.non_2xx.items())]
    said += [f"{kind} {count:,}" for kind, count in sorted(one.errors.items())]
    return ", ".join(said) or "-"


def grid(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows as aligned columns, indented: the first column and the last two to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = {0, len(widths) - 2, len(widths) - 1}
    return "\n".join(
        "  " + "  ".join(cell.ljust(width) if n in left else cell.rjust(width)
                         for n, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip()
        for row in rows)


def _row(one: Figures) -> tuple[str, ...]:
    if one.failed:
        return (one.cell.model, *["-"] * 7, "failed", one.failed)
    notes = [f"generator-bound ({one.generator_share:.0%} of its core)"] if one.generator_bound else []
    if one.others > 0.1:
        notes.append(f"others had {one.others:.0%} of its core")
    if one.starved:
        notes.append(f"serves {one.connections - one.starved} of {one.connections} clients")
    elif one.little < one.connections / 2:
        notes.append(f"X·R: about {one.little:.0f} of {one.connections} connections in service")
    return (
        one.cell.model,
        f"{one.rate:,.0f}",
        f"({one.low:,.0f}–{one.high:,.0f})",
        "-" if one.cpu_us is None else f"{one.cpu_us:.1f}",
        f"{one.p50_ms:.2f}", f"{one.p99_ms:.2f}", f"{one.little:.1f}", str(one.threads),
        problems(one), "; ".join(notes),
    )
