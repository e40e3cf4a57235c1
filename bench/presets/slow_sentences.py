"""What the preset `slow` says of its records: what slow clients took from the others, and what they cost."""

from __future__ import annotations

from bench.lab.preset import Saying
from bench.lab.record import Cell, Results, Spread
from bench.presets.starve_sentences import pairs_of

__all__ = ["Sentences"]

_CLEAR = 2.0
"""Times as much: a difference that counts."""


class Sentences:
    """On the cells in which the handler sleeps for so long. interval_ms: between two bytes of a slow client."""

    def __init__(self, results: Results, sleep_ms: float, threads: int, interval_ms: float) -> None:
        self._results = results
        self._sleep_ms = sleep_ms
        self._threads = threads
        self._interval_ms = interval_ms
        cells = list(results.where(sleep_ms=sleep_ms))
        self._subjects = list(dict.fromkeys(cell.subject for cell in cells))
        self._slow = sorted({cell["slow_clients"] for cell in cells} - {0})

    def all(self) -> list[Saying]:
        several = len({cell["sleep_ms"] for cell in self._results.cells}) > 1
        heading = f"The handler sleeps {self._sleep_ms:g} ms" if several else ""
        said = [self._lost(), self._some_lost(), self._first(), self._price(), self._themselves()]
        return [Saying(each.text, each.shown, heading) for each in said if each is not None]

    def _lost(self) -> Saying:
        """The claim: a thread that holds is lost to a slow client, one that parks is not."""
        pairs = pairs_of(self._subjects)
        enough = [slow for slow in self._slow if slow >= self._threads]
        if not pairs or not enough:
            return Saying("What a slow client takes from the others cannot be said: this takes a model with idle=hold, "
                          f"the same with idle=park, and at least {self._threads} slow clients.")
        slow = enough[0]
        unfit = [f"{park}: {'; '.join(flaws)}" for _, park in pairs if (flaws := self._flaws(park, slow))]
        unfit += [f"{name} has no figures" for pair in pairs for name in pair if self._rate(name, slow) is None]
        if unfit:
            return Saying(f"What {slow} slow clients take from the others cannot be said. {'. '.join(unfit)}.")
        shown = all(self._beyond(hold, park, slow) and self._kept(park, slow, least=1 / _CLEAR) for hold, park in pairs)
        holding, parking = (", ".join(f"{name} {self._of_before(name, slow)}" for name in names)
                            for names in zip(*pairs, strict=True))
        return Saying(f"with {slow} slow clients, {self._threads} threads that hold their connections have so many "
                      f"responses a second left for the others: {holding}; threads that park them: {parking}.", shown)

    def _some_lost(self) -> Saying | None:
        some = [slow for slow in self._slow if slow < self._threads]
        if not some:
            return None
        slow, kept = some[-1], self._shares(some[-1])
        left = self._threads - slow
        return Saying(f"With {slow} slow clients {left} of {self._threads} threads are left to those that hold, "
                      f"{100 * left / self._threads:.0f} %. Of the responses that each gives without slow clients "
                      f"there are left: {kept}.") if kept else None

    def _first(self) -> Saying | None:
        nobody = [name for name in self._subjects if self._slow
                  and (rate := self._rate(name, self._slow[0])) is not None and not rate.high]
        return Saying(f"{self._slow[0]} slow clients are enough for nobody else to be answered by "
                      f"{', '.join(nobody)}.") if nobody else None

    def _price(self) -> Saying | None:
        """In CPU, for those that go on in spite of most."""
        if not self._slow:
            return None
        slow, prices = self._slow[-1], []
        for name in self._subjects:
            if not self._flaws(name, slow) and (share := self._share(name, slow)) is not None:
                byte = self._us_for_a_byte(name, slow)
                prices.append(f"{name} keeps {100 * share:.0f} % of its responses"
                              + (f", and spends about {byte:.0f} us of CPU on a byte" if byte is not None else ""))
        return Saying(f"Who loses no thread pays in CPU. With {slow} slow clients, a byte every {self._interval_ms:g} "
                      f"ms from each, {'; '.join(prices)}. (What the responses to the slow ones cost is in it.)"
                      ) if prices else None

    def _themselves(self) -> Saying | None:
        if not self._slow:
            return None
        slow = self._slow[-1]
        served = []
        for name in self._subjects:
            if (counts := self._results.spread(self._cell(name, slow), "slow_served")) is not None:
                served.append(f"{name} {counts.low:.0f}")
        return Saying(f"Of the {slow} slow clients themselves, so many have been answered: {', '.join(served)}."
                      ) if served else None

    def _shares(self, slow: int) -> str:
        return ", ".join(f"{name} {100 * share:.0f} %" for name in self._subjects
                         if (share := self._share(name, slow)) is not None)

    def _share(self, name: str, slow: int) -> float | None:
        """Of the responses a second that it gives without slow clients."""
        before, now = self._rate(name, 0), self._rate(name, slow)
        return now.median / before.median if before is not None and now is not None and before.median else None

    def _us_for_a_byte(self, name: str, slow: int) -> float | None:
        """What the server uses more than it would for these responses alone, for each byte of a slow client."""
        share = self._share(name, slow)
        busy, before = (self._results.median(self._cell(name, count), "cpu_percent") for count in (slow, 0))
        rates = [record.detail["slow"]["bytes_per_s"] for record in self._results.of(self._cell(name, slow))
                 if "slow" in record.detail]
        if share is None or busy is None or before is None or not rates or not min(rates):
            return None
        more = 1e4 * (busy - share * before) / (sum(rates) / len(rates))
        return more if more > 0 else None

    def _beyond(self, hold: str, park: str, slow: int) -> bool:
        holding, parking = self._rate(hold, slow), self._rate(park, slow)
        return (holding is not None and parking is not None and holding.apart(parking)
                and parking.median >= _CLEAR * holding.median)

    def _kept(self, name: str, slow: int, least: float) -> bool:
        """Also if nobody knows how many there were before."""
        share = self._share(name, slow)
        return share is None or share >= least

    def _of_before(self, name: str, slow: int) -> str:
        now, before = self._rate(name, slow), self._rate(name, 0)
        assert now is not None
        return f"{now.median:,.0f}" + (f" of {before.median:,.0f}" if before is not None else "")

    def _cell(self, name: str, slow: int) -> Cell:
        return Cell.of(name, slow_clients=slow, sleep_ms=self._sleep_ms)

    def _rate(self, name: str, slow: int) -> Spread | None:
        return self._results.spread(self._cell(name, slow), "ok_per_s")

    def _flaws(self, name: str, slow: int) -> list[str]:
        return self._results.flaws(self._cell(name, slow))
