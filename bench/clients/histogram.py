"""Percentiles of many latencies, by HdrHistogram, and the curve that is drawn of them. Values in and out in ms.

HdrHistogram (Gil Tene; the package `hdrhistogram`, module `hdrh`) counts values in buckets whose width grows with the
value, so that each keeps three digits, from a microsecond to an hour, in a fixed amount of memory. It costs about a
microsecond for a value, and so is filled when the load is over.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["MISSING", "NAMES", "Histogram"]

MISSING = ("No percentiles: hdrhistogram is not installed. pip install hdrhistogram, or in the checkout: "
           "pip install -e '.[bench]'")

NAMES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}
"""What `Histogram.summary` tells, besides the mean and the longest."""
_LOWEST, _HIGHEST, _DIGITS = 1, 3_600_000_000, 3
"""Microseconds, and significant digits."""
_STEPS = 12
"""Points of a curve from one nine to the next."""


class Histogram:
    """Of values in milliseconds, none of them negative. ImportError without hdrhistogram: `MISSING` says what to do."""

    def __init__(self, values_ms: Iterable[float]) -> None:
        from hdrh.histogram import HdrHistogram

        self._counts: Any = HdrHistogram(_LOWEST, _HIGHEST, _DIGITS)
        self._sum = self._most = 0.0
        for value in values_ms:
            self._counts.record_value(min(round(1e3 * value), _HIGHEST))
            self._sum += value
            self._most = max(self._most, value)

    def __len__(self) -> int:
        total: int = self._counts.get_total_count()
        return total

    def summary(self) -> dict[str, float]:
        """Of each of `NAMES`, of the mean and of the longest ("max"), how many ms. Empty if there are no values."""
        if not len(self):
            return {}
        at = self._counts.get_percentile_to_value_dict(list(NAMES.values()))
        return {"mean": round(self._sum / len(self), 4),
                **{name: self._ms(at[percent]) for name, percent in NAMES.items()}, "max": round(self._most, 4)}

    def curve(self) -> list[list[float]]:
        """[ms, per cent of the values that are no longer], both ascending: at most 60 points, as close to each other
        near 99.9 % as near 90 %. The last is the longest, at the per cent that all the others are: of n values,
        100 - 100 / n, because 100 % is nowhere on an axis that has one more nine with each step."""
        count = len(self)
        if not count:
            return []
        left = [10 ** (-step / _STEPS) for step in range(5 * _STEPS - 1)]  # of the values, above this point
        percents = [100 - 100 * share for share in left if share * count > 1]
        at = self._counts.get_percentile_to_value_dict(percents)
        return [*([self._ms(at[percent]), round(percent, 5)] for percent in percents),
                [round(self._most, 4), round(100 - 100 / count, 5)]]

    def _ms(self, microseconds: int) -> float:
        """No longer than the longest: a bucket's upper end may be."""
        return round(min(microseconds / 1e3, self._most), 4)
