"""What a comparison says of the models that are made for many connections: parking, the event loop, processes.

Claims 4 to 6 of bench.presets.matrix_verdict. All by CPU time, which other processes disturb least, but for the loop's
answers. That these models serve connections that outnumber threads is not to be seen here, where all have a thread for
each that comes: `python -m bench scale` shows it, and on two cores what processes give.
"""

from __future__ import annotations

from collections.abc import Iterable

from bench.cells import Figures, same_load

__all__ = ["scaling"]


def scaling(every: Iterable[Figures]) -> list[str]:
    """Sentences; none if there are no such models among them."""
    lines = []
    for group in same_load(every):
        fit = {one.cell.model: one for one in group if not one.unfit}
        lines += _parking(fit) + _loop(fit) + _processes(fit)
    if lines:
        lines.append("None of this shows what they are for: here there is room for every connection. python -m bench "
                     "scale has more connections than threads, and gives two processes two cores.")
    return lines


def _parking(fit: dict[str, Figures]) -> list[str]:
    """Claim 4, under one load."""
    said, ratios = [], {}
    for model in ("recycling", "pool"):
        hold, park = fit.get(f"{model}-hold"), fit.get(f"{model}-park")
        if hold is not None and park is not None and hold.cpu_us and park.cpu_us:
            ratios[model] = park.cpu_us / hold.cpu_us
            said.append(f"{model} {park.cpu_us:.0f} us of CPU for an answer instead of {hold.cpu_us:.0f} "
                        f"({ratios[model]:.2f} x), and {park.rate / hold.rate:.2f} x the answers")
    if not said:
        return []
    cell = next(iter(fit.values())).cell
    line = f"{cell.load}: parked rather than held, {'; '.join(said)}."
    if cell.keep_alive and "recycling" in ratios:
        line += f' "At most half as much CPU again in recycling" {_holds(ratios["recycling"] <= 1.5)} here.'
    if cell.keep_alive and len(ratios) == 2:
        line += f' "More in the pool" {_holds(ratios["pool"] > ratios["recycling"])} here.'
    return [line]


def _loop(fit: dict[str, Figures]) -> list[str]:
    """Claim 5, under one load."""
    loop, threads = fit.get("loop"), fit.get("loop-threads")
    if loop is None or not loop.cpu_us:
        return []
    cell = loop.cell
    if not cell.sleep_ms:
        dear = {model: one.cpu_us for model, one in fit.items() if model != "loop" and one.cpu_us}
        if not dear:
            return []
        least = min(dear, key=lambda model: dear[model])
        return [(f'{cell.load}: "the event loop costs the least CPU" {_holds(loop.cpu_us < dear[least])} here: '
                 f"{loop.cpu_us:.0f} us for an answer, and of the others {least} the least, {dear[least]:.0f}.")]
    if threads is None:
        return []
    factor = threads.rate / loop.rate
    line = (f"{cell.load}: the loop answers {loop.rate:,.0f} a second if it runs the handlers itself, and "
            f"{threads.rate:,.0f} with threads for them, {factor:.1f} x.")
    if cell.sleep_ms >= 1:
        line += f' "At least three times" {_holds(factor >= 3)} here.'
    return [line]


def _processes(fit: dict[str, Figures]) -> list[str]:
    """Claim 6, under one load; of those without a sleep, where nothing but the CPU matters."""
    one, two = fit.get("recycling-park"), fit.get("prefork")
    if one is None or two is None or not one.cpu_us or not two.cpu_us or one.cell.sleep_ms:
        return []
    ratio = two.cpu_us / one.cpu_us
    return [(f'{one.cell.load}: "on one core, two processes need the CPU of one, within 25 %" '
             f"{_holds(0.75 <= ratio <= 1.25)} here: {two.cpu_us:.0f} us for an answer, and {one.cpu_us:.0f} in one "
             "process.")]


def _holds(it_does: bool) -> str:
    return "HOLDS" if it_does else "DOES NOT HOLD"
