"""What the preset `starve` says of its records: who was served, who was not, and why no latency tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.lab.gates import NOISY
from bench.lab.preset import Saying
from bench.lab.record import Results, Spread, Value

__all__ = ["Sentences", "disturbance", "pairs_of"]

_CLEAR = 2.0
"""Times as many: a difference that counts."""
_MOST, _FEW = 50.0, 1.0
"""Per cent of the newcomers that are left out: most of them, and next to none."""


def pairs_of(subjects: Sequence[str]) -> list[tuple[str, str]]:
    """Those that differ by idle="hold" and "park" alone, in this order."""
    return [(name, other) for name in subjects for other in [name.replace("-hold", "-park")]
            if other != name and other in subjects]


def disturbance(results: Results) -> list[Saying]:
    """How far to trust it all; nothing if nobody disturbed."""
    shares = [share for record in results.records if (share := record.detail.get("others", 0.0)) > NOISY]
    return [Saying(f"In {len(shares)} of {len(results.records)} runs others had more than {100 * NOISY:.0f} % of the "
                   f"server's core, up to {100 * max(shares):.0f} %: believe factors only, or repeat it when the "
                   "machine is quiet.")] if shares else []


class Sentences:
    """On the cells of one load."""

    def __init__(self, results: Results, load: tuple[tuple[str, Value], ...], threads: int, patience: float) -> None:
        self._results = results
        self._cells = {cell.subject: cell for cell in results.cells if cell.axes == load}
        self._axes = dict(load)
        self._threads = threads
        self._patience = patience

    def all(self, with_heading: bool) -> list[Saying]:
        heading = next(iter(self._cells.values())).load.capitalize() if with_heading else ""
        said = [self._starved(), self._best_looking(), self._given_away(), self._others(), self._price()]
        return [Saying(each.text, each.shown, heading) for each in said if each is not None]

    @property
    def _clients(self) -> int:
        clients: int = self._axes["connections"]  # type: ignore[assignment]
        return clients

    def _starved(self) -> Saying:
        """The claim."""
        if self._clients <= self._threads:
            return Saying(f"Who starves cannot be said: with {self._clients} clients for {self._threads} threads each "
                          "may have one. Ask for more connections.")
        pairs = pairs_of(list(self._cells))
        if not pairs:
            return Saying("Whether it is holding that starves cannot be said: this takes a model with idle=hold, and "
                          "the same with idle=park.")
        missing = [name for pair in pairs for name in pair
                   if self._of(name, "served") is None or self._of(name, "left_out_percent") is None]
        if missing:
            return Saying("Whether it is holding that starves cannot be said: there are no figures of "
                          f"{', '.join(missing)}.")
        holding, parking = ("; ".join(f"{name} serves {self._served(name)}, {self._waits(name)}" for name in names)
                            for names in zip(*pairs, strict=True))
        shown = all(self._apart(hold, park) for hold, park in pairs)
        return Saying(f"with {self._threads} threads, {self._clients} clients that keep their connections, and "
                      f"idle=hold, {holding}. With idle=park {parking}.", shown)

    def _apart(self, hold: str, park: str) -> bool:
        """Hold leaves clients and most newcomers out, in every run; park none of the ones and next to none of the
        others."""
        held, parked = self._of(hold, "served"), self._of(park, "served")
        out, less = self._of(hold, "left_out_percent"), self._of(park, "left_out_percent")
        assert held is not None
        assert parked is not None
        assert out is not None
        assert less is not None
        return (held.apart(parked) and parked.low == self._clients and parked.low >= _CLEAR * held.high
                and out.low > _MOST and less.high <= _FEW)

    def _best_looking(self) -> Saying | None:
        """Whose p99 is the lowest, and whom it leaves out."""
        found = {name: p99 for name in self._cells if (p99 := self._of(name, "p99_ms")) is not None}
        if len(found) < 2:
            return None
        few = [name for name in found if self._most_served(name) < self._clients]
        everybody = [name for name in found if self._least_served(name) == self._clients]
        if not few:
            return Saying("p99 can be compared here: all models serve all clients.") if everybody else None
        best = min(found, key=lambda name: found[name].median)
        text = (f"the lowest p99, {found[best].median:,.1f} ms, is that of {best}, which serves "
                f"{self._served(best)} clients")
        if not everybody:
            return Saying(f"{text[0].upper()}{text[1:]}; no model here serves all, and so nothing can be held against "
                          "it.")
        fair = min(everybody, key=lambda name: found[name].median)
        if best in few:
            text += (". A latency is that of somebody who is answered, and those who are not have none. Of the models "
                     f"that serve all, {fair} has the lowest, {found[fair].median:,.1f} ms")
        return Saying(f"{text}.", best in few and found[best].apart(found[fair]))

    def _given_away(self) -> Saying | None:
        """By X·R."""
        little = [f"{name} {one.median:.1f}" for name in self._cells if (one := self._of(name, "little")) is not None]
        return Saying(f"X·R, responses a second times mean latency, gives it away. It is how many requests were in "
                      f"progress, to be held against {self._clients} clients: {', '.join(little)}.") if little else None

    def _others(self) -> Saying | None:
        """Those that come in one kind only."""
        paired = {name for pair in pairs_of(list(self._cells)) for name in pair}
        said = [f"{name} serves {self._served(name)}, {self._waits(name)}" for name in self._cells
                if name not in paired and self._of(name, "served") is not None]
        if not said:
            return None
        text = "; ".join(said)
        sleep_ms = self._results.meta.get("measured_sleep_ms", {}).get(f"{self._axes['sleep_ms']:g}")
        if "loop" in self._cells and sleep_ms:
            text += (f". (A turn of everybody takes the loop {self._clients} x {sleep_ms:.2f} ms = "
                     f"{self._clients * sleep_ms:.0f} ms, handlers alone)")
        return Saying(f"The others: {text}.")

    def _price(self) -> Saying | None:
        """Of taking turns."""
        said = []
        for hold, park in pairs_of(list(self._cells)):
            held, parked = self._of(hold, "cpu_us"), self._of(park, "cpu_us")
            if held is not None and parked is not None and held.apart(parked):
                said.append(f"{park} uses {parked.median:.0f} us of CPU for a response, {hold} {held.median:.0f}")
        return Saying(f"What taking turns costs: {'; '.join(said)} (for the few that it serves).") if said else None

    # Parts of them.

    def _served(self, name: str) -> str:
        """"8 of 100", or of runs that differ "8 to 9 of 100"."""
        low, high = self._least_served(name), self._most_served(name)
        return f"{low:.0f} of {self._clients}" if low == high else f"{low:.0f} to {high:.0f} of {self._clients}"

    def _waits(self, name: str) -> str:
        """"and 49 of 52 newcomers are left out, which waited for more than 1,000 ms (those that are answered ...)"."""
        runs = [record.detail["newcomers"] for record in self._results.of(self._cells[name])
                if "newcomers" in record.detail]
        came, answered = sum(one["scheduled"] for one in runs), sum(one["ok"] for one in runs)
        if not came:
            return "and no newcomer came"
        longest = max((one["longest_ms"] for one in runs if one["longest_ms"] is not None), default=None)
        waited = "" if longest is None else f"{longest:,.0f} ms at most"
        if answered == came:
            return f"and newcomers wait for {waited}"
        out = f"and {came - answered:,} of {came:,} newcomers are left out{_how(runs, self._patience)}"
        return out + (f" (those that are answered wait for {waited})" if waited else "")

    def _least_served(self, name: str) -> float:
        served = self._of(name, "served")
        return 0.0 if served is None else served.low

    def _most_served(self, name: str) -> float:
        served = self._of(name, "served")
        return 0.0 if served is None else served.high

    def _of(self, name: str, metric: str) -> Spread | None:
        return self._results.spread(self._cells[name], metric)


def _how(runs: Sequence[Mapping[str, Any]], patience: float) -> str:
    """What became of those without an answer: ": 12 waited for more than 1,000 ms, 3 got a 503, 1 ended in reset"; or
    if it was the same for all: ", which got a 503"."""
    counts: dict[str, int] = {}
    for one in runs:
        for what, count in {f"waited for more than {1e3 * patience:,.0f} ms": one["unanswered"],
                            **{f"got a {status}": n for status, n in one["non_2xx"].items()},
                            **{f"ended in {kind}": n for kind, n in one["errors"].items()}}.items():
            counts[what] = counts.get(what, 0) + count
    kinds = [what for what, count in counts.items() if count]
    return f", which {kinds[0]}" if len(kinds) == 1 else ": " + ", ".join(f"{counts[what]:,} {what}" for what in kinds)
