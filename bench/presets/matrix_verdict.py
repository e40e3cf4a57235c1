"""What the figures say, in sentences: made of the data, and saying so where the data are not what was expected.

What was expected, before anything was measured (bench/README.md argues it):
  1. Without keep-alive, recycling and pool answer at least twice as much as a thread per connection.
  2. With keep-alive, those three are within 25 % of each other, if each holds its connections.
  3. A connection costs the server the least CPU with one thread, then with recycling, then pool, then a thread each.
  4. With keep-alive, parking costs recycling at most half as much CPU again for an answer as holding does; and the pool
     more than recycling, since it hands over every request and not every connection.
  5. The event loop costs the least CPU of all that serve everybody, if the handler does not sleep; if it sleeps for a
     millisecond, the loop answers no more than one in each, and threads for the handlers give three times that or more.
  6. On one core two processes give nothing: within 25 % of the CPU that the one process of recycling-park needs.
Nothing is tuned to make these hold, and a model that left clients without an answer is not compared with any.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise

from bench.cells import Figures, same_load
from bench.presets.matrix_scaling import scaling
from bench.table import problems

__all__ = ["paragraphs", "verdict"]

_THREE = ("thread", "pool-hold", "recycling-hold")
_MECHANISM = {
    "single": "nothing to wake and nothing to share",
    "thread": "a thread is started, and ended, for each connection",
    "pool-hold": "the accepting thread hands each connection to a worker, which has to be woken for it",
    "pool-park": "a hand-off as well, and another if the request is not there yet",
    "recycling-hold": "the thread that accepts also serves: no thread is started, no connection handed over",
    "recycling-park": "the same, unless the request is not there yet: then it is parked",
    "loop": "one thread, which looks after everybody at once",
    "loop-threads": "each request is handed to another thread, and its response comes back to the loop",
    "prefork": "recycling-park in each of two processes, which have one core here",
}
_CLEAR = 1.05
"""A lead by less than this factor is none, nor is one where the rounds of the two overlap."""
_NOISY = 0.25
"""A spread between rounds above which figures are called unsteady."""
_DISTURBED = 0.1
"""A share of the server's core above which it is said that others had it."""


def verdict(all_figures: Iterable[Figures], measured_sleep_ms: Mapping[str, float] | None = None) -> str:
    """Paragraphs, a heading over each. measured_sleep_ms: what each sleep really took, by what was asked for."""
    return "\n\n".join(f"{heading}\n" + "\n".join(map(_wrapped, lines))
                       for heading, lines in paragraphs(all_figures, measured_sleep_ms))


def paragraphs(all_figures: Iterable[Figures], measured_sleep_ms: Mapping[str, float] | None = None
               ) -> list[tuple[str, list[str]]]:
    """The same as headings, and the sentences under each."""
    every = list(all_figures)
    parts = [
        ("The claims that were to be checked", _claims(every)),
        ("Who answered most", [_winner(group) for group in same_load(every)]),
        ("Why: the price of a connection", _price(every)),
        ("Parking, the event loop, processes", scaling(every)),
        ("What a model could not do", _failures(every, measured_sleep_ms or {})),
        ("How far to trust this", _trust(every)),
    ]
    return [(heading, lines) for heading, lines in parts if lines]


def _claims(every: list[Figures]) -> list[str]:
    lines = []
    for keep_alive in (False, True):
        for group in same_load(one for one in every if one.cell.keep_alive is keep_alive):
            three = {one.cell.model: one for one in group if one.cell.model in _THREE}
            if len(three) < len(_THREE):
                continue
            if unfit := [f"{model} ({one.unfit})" for model, one in three.items() if one.unfit]:
                lines.append(f"{group[0].cell.load}: cannot be judged, because of {', '.join(unfit)}.")
            elif keep_alive:
                lines.append(_same_with_keep_alive(group[0].cell.load, *(three[model] for model in _THREE)))
            else:
                lines.append(_twice_without(group[0].cell.load, *(three[model] for model in _THREE)))
    return lines or [f"Not checked: they compare {', '.join(_THREE)}, which must all be among --models."]


def _twice_without(load: str, thread: Figures, pool: Figures, recycling: Figures) -> str:
    factor = min(pool.rate, recycling.rate) / thread.rate
    line = (f'{load}: "recycling and pool answer at least twice as much as thread" {_holds(factor >= 2)} here: '
            f"recycling-hold {recycling.rate / thread.rate:.2f} x, pool-hold {pool.rate / thread.rate:.2f} x thread's "
            f"{thread.rate:,.0f} a second.")
    least = min(pool.low, recycling.low) / thread.high
    most = min(pool.high, recycling.high) / thread.low if thread.low else factor
    if (least >= 2) is not (most >= 2):
        line += f" Not for sure: from round to round the lesser of them is anywhere from {least:.2f} to {most:.2f} x."
    if thread.cpu_us and pool.cpu_us and recycling.cpu_us:
        line += (f" By CPU time, which other processes disturb less, an answer of thread's costs "
                 f"{thread.cpu_us / recycling.cpu_us:.2f} x recycling's,"
                 f" and {thread.cpu_us / pool.cpu_us:.2f} x pool's.")
    return line


def _same_with_keep_alive(load: str, *three: Figures) -> str:
    apart = max(one.rate for one in three) / min(one.rate for one in three) - 1
    said = ", ".join(f"{one.cell.model} {one.rate:,.0f}" for one in three)
    line = (f'{load}: "the three are within 25 % of each other" {_holds(apart <= 0.25)} here: {said} a second; '
            f"the most is {apart:.0%} above the least.")
    least = max(0.0, max(one.low for one in three) / min(one.high for one in three) - 1)
    most = max(one.high for one in three) / min(one.low or one.rate for one in three) - 1
    if (least <= 0.25) is not (most <= 0.25):
        line += f" Not for sure: from round to round that is anywhere from {least:.0%} to {most:.0%}."
    return line


def _holds(it_does: bool) -> str:
    return "HOLDS" if it_does else "DOES NOT HOLD"


def _winner(group: list[Figures]) -> str:
    """Who answered most under one load, and how far behind the others are."""
    load = group[0].cell.load
    ranked = sorted((one for one in group if not one.unfit), key=lambda one: -one.rate)
    aside = [f"{one.cell.model} is left out, because {one.unfit}" for one in group if one.unfit]
    if not ranked:
        return f"{load}: nobody served every client. {'; '.join(aside)}."
    best, *others = ranked
    said = []
    for one in others:
        if one.high >= best.low or best.rate < _CLEAR * one.rate:
            said.append(f"no clear lead over {one.cell.model} ({one.rate:,.0f})")
        else:
            said.append(f"{best.rate / one.rate:.2f} x {one.cell.model} ({one.rate:,.0f})")
    return "; ".join([f"{load}: {best.cell.model}, {best.rate:,.0f} a second", *said, *aside]) + "."


def _price(every: list[Figures]) -> list[str]:
    """CPU for a response without keep-alive, where each is also one connection, beside the single thread's."""
    lines = []
    for group in same_load(one for one in every if not one.cell.keep_alive):
        costs = {one.cell.model: one.cpu_us for one in group if not one.unfit and one.cpu_us is not None}
        if len(costs) < 2:
            continue
        said = ", ".join(f"{model} {cost:.0f} us" for model, cost in sorted(costs.items(), key=lambda item: item[1]))
        lines.append(f"{group[0].cell.load}: a connection with its one request cost {said} of the server's CPU.")
        if group[0].cell.sleep_ms:
            continue  # a sleeping thread costs a switch there and back, and an idle core its waking: not the model's
        if "single" in costs:
            lines += [_extra(one, costs["single"]) for one in group
                      if one.cell.model in costs and one.cell.model != "single"]
        order = [model for model in ("single", "recycling-hold", "pool-hold", "thread") if model in costs]
        lines += [f"This is NOT THE ORDER EXPECTED: {cheap} was expected to be cheaper than {dear}, and cost "
                  f"{costs[cheap] - costs[dear]:.0f} us more."
                  for cheap, dear in pairwise(order) if costs[cheap] > 1.1 * costs[dear]]
    lines += _shrinking_factor(every)
    kept = [one for one in every if one.cell.keep_alive and one.cell.sleep_ms == 0 and not one.unfit and one.cpu_us]
    if lines and kept:
        lines.append("keep-alive on, no sleep: " + ", ".join(f"{one.cell.model} {one.cpu_us:.0f} us" for one in kept)
                     + " for a response. A connection is accepted once and then answers many requests, so its "
                     "price is paid once.")
    return lines


def _shrinking_factor(every: list[Figures]) -> list[str]:
    """Why a factor between two models sinks when the handler sleeps, if it does."""
    costs: dict[float, dict[str, float]] = {}
    for one in every:
        if not one.cell.keep_alive and not one.unfit and one.cpu_us:
            costs.setdefault(one.cell.sleep_ms, {})[one.cell.model] = one.cpu_us
    both = {sleep_ms: (of["thread"], of["recycling-hold"]) for sleep_ms, of in costs.items()
            if {"thread", "recycling-hold"} <= of.keys()}
    if 0.0 not in both:
        return []
    thread, recycling = both.pop(0.0)
    factor = thread / recycling
    shrunk = [f"{dear:.0f} us with {sleep_ms:g} ms ({other / dear:.1f} x)"
              for sleep_ms, (other, dear) in sorted(both.items())
              if dear > 1.1 * recycling and other / dear < 0.9 * factor]
    if not shrunk:
        return []
    return [("A handler that sleeps has to be woken, in every model, and that costs too. An answer of recycling-hold "
             f"costs {recycling:.0f} us without a sleep (thread's {factor:.1f} x that), {', '.join(shrunk)}: the more "
             "of the cost is common to all models, the smaller the factor between them.")]


def _extra(one: Figures, single: float) -> str:
    """What a model costs beyond the single thread, and by which mechanism."""
    assert one.cpu_us is not None
    more = f"{abs(one.cpu_us - single):.0f} us {'more' if one.cpu_us >= single else 'less'} than the single thread"
    mechanism = f" ({_MECHANISM[one.cell.model]})" if one.cell.model in _MECHANISM else ""
    starts = "" if one.starts is None else f" Threads it started for each connection: {one.starts:.2f}."
    return f"{one.cell.model}: {more}{mechanism}.{starts}"


_TROUBLE: list[tuple[Callable[[Figures], bool], str]] = [
    (lambda one: bool(one.starved) and one.threads == 1 and one.little < 2,
     ("Its only thread stays with a client for as long as that client stays, and all others wait outside. The figures "
      "are those of the few that were served: they compare with nothing, and those who waited are not in the p99.")),
    (lambda one: bool(one.starved) and not (one.threads == 1 and one.little < 2),
     ("It had the connections of these clients, or could have had them, and did not get round to them in that time: "
      "look at threads, and at what they wait for (the GIL, one for all, is the first suspect; of an event loop, the "
      "handler).")),
    (lambda one: not one.starved and 0 < one.little < one.connections / 2,
     "By X·R, fewer than half of the connections were in service at a time; no latency shows it."),
    (lambda one: bool(one.non_2xx), "The model was full, or its handler failed: such responses are no throughput."),
    (lambda one: bool(one.errors), "These requests got no response."),
]
"""What can have gone wrong, and what it means."""


def _failures(every: list[Figures], measured_sleep_ms: Mapping[str, float]) -> list[str]:
    lines = [f"{one.cell}: failed, {one.failed}." for one in every if one.failed]
    for concerns, meaning in _TROUBLE:
        cells: dict[str, list[str]] = {}
        for one in every:
            if not one.failed and concerns(one):
                reason = one.unfit if one.starved or not (one.errors or one.non_2xx) else problems(one)
                cells.setdefault(f"{one.cell.model}: {reason}", []).append(one.cell.load)
        lines += [f"{what} ({'; '.join(loads)})." for what, loads in cells.items()]
        if cells:
            lines[-1] += f" {meaning}"
    for model in ("single", "loop"):
        slow = [one for one in every if one.cell.model == model and one.cell.sleep_ms and one.rate]
        if not slow:
            continue
        one = max(slow, key=lambda one: (one.cell.sleep_ms, not one.cell.keep_alive))
        sleep = measured_sleep_ms.get(f"{one.cell.sleep_ms:g}", one.cell.sleep_ms)
        lines.append(f"{one.cell}: {one.rate:,.0f} a second. While its one thread sleeps nobody is served, so it "
                     f"cannot give more than one answer for each sleep: {1e3 / sleep:,.0f} a second, as a sleep really "
                     f"takes {sleep:.2f} ms here.")
    return lines


def _trust(every: list[Figures]) -> list[str]:
    lines = []
    if bound := [str(one.cell) for one in every if one.generator_bound]:
        lines.append(f"Generator-bound: {'; '.join(bound)}. The generator used more than 90 % of its core, so the "
                     "server may be able to do more.")
    if disturbed := [one for one in every if one.others > _DISTURBED]:
        worst = max(disturbed, key=lambda one: one.others)
        lines.append(f"In {len(disturbed)} of {len(every)} cells somebody else had more than {_DISTURBED:.0%} of the "
                     f"server's core in at least one round; most in {worst.cell}: {worst.others:.0%}. That lowers ok/s "
                     "and raises latencies; CPU us is hurt least.")
    if measured := [one for one in every if one.rate and one.high > one.low]:
        widest = max(measured, key=lambda one: one.spread)
        line = (f"The rounds differ most in {widest.cell}: from {widest.low:,.0f} to {widest.high:,.0f} a second, "
                f"{widest.spread:.0%} of the median.")
        if unsteady := sum(one.spread > _NOISY for one in measured):
            line += (f" {unsteady} of {len(measured)} cells differ by more than {_NOISY:.0%}: believe factors of 2 "
                     "here, not differences of 20 %, or give it more --rounds and a quieter machine.")
        lines.append(line)
    return lines


def _wrapped(line: str) -> str:
    return textwrap.fill(line, 116, initial_indent="  - ", subsequent_indent="    ", break_on_hyphens=False)
