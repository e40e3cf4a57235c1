"""How much slower: the ratio of two costs from pairs of runs, and how sure that is. No measuring here.

Each pair gives one ratio. Costs are compared by ratios, so what is averaged are logarithms: the estimate is their mean,
which makes B/A and A/B say the same, and the interval Student's t for a mean, with n - 1 degrees of freedom:
NIST/SEMATECH e-Handbook of Statistical Methods, section 1.3.5.2, and for logarithms Fleming and Wallace, "How not to
lie with statistics: the correct way to summarize benchmark results", CACM 29(3), 1986. With the six to ten pairs that
there are, a bootstrap of percentiles would claim too much: Efron and Tibshirani, "An Introduction to the Bootstrap"
(1993), chapter 13.

The t interval assumes that the logarithms scatter normally. A disturbance that lasts hits both runs of a pair, and
cancels; one that hits a single run widens the interval, so that nothing is called slower for it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Ratio", "ratio_of", "t_quantile"]

_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
      2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042)
"""Student's t, 97.5 %, for 1 to 30 degrees of freedom: NIST/SEMATECH e-Handbook, section 1.3.6.7.2."""


@dataclass(frozen=True)
class Ratio:
    """B over A, with the 95 % confidence interval."""

    value: float
    low: float
    high: float
    pairs: int
    """1: it has been counted, and there is no interval."""

    def above(self, most: float) -> bool:
        """It is above `most` with all of its interval."""
        return self.low > most

    def below(self, least: float) -> bool:
        return self.high < least

    def __str__(self) -> str:
        return f"{self.value:.3f}" + (f" ({self.low:.3f}–{self.high:.3f})" if self.pairs > 1 else "")


def ratio_of(a: Sequence[float], b: Sequence[float]) -> Ratio:
    """Of the pairs (a[0], b[0]), (a[1], b[1]) and so on. ValueError for fewer than two, or what is not above 0."""
    if len(a) != len(b) or len(a) < 2:
        raise ValueError(f"{len(a)} and {len(b)} values: two pairs are the least from which a spread can be told")
    if min(*a, *b) <= 0:
        raise ValueError("a cost is above 0")
    logs = [math.log(after / before) for before, after in zip(a, b, strict=True)]
    mean = statistics.fmean(logs)
    half = t_quantile(len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    return Ratio(math.exp(mean), math.exp(mean - half), math.exp(mean + half), len(logs))


def t_quantile(freedom: int) -> float:
    """97.5 % of Student's t; above 30 degrees of freedom the next lower tabulated one, which errs to the safe side."""
    return _T[min(freedom, len(_T)) - 1]
