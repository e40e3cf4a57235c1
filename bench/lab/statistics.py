"""How many times as much, and how sure that is: the ratio of two costs, from pairs of runs or from two groups of runs.

Costs are compared by ratios, so what is averaged are logarithms: the estimate is the ratio of geometric means, which
makes B/A and A/B say the same (Fleming and Wallace, "How not to lie with statistics: the correct way to summarize
benchmark results", CACM 29(3), 1986). The interval is Student's t on those logarithms:

    of pairs    each pair gives one ratio; t for a mean, with n - 1 degrees of freedom. NIST/SEMATECH e-Handbook of
                Statistical Methods, section 1.3.5.2. A disturbance that lasts hits both of a pair, and cancels.
    of groups   runs that have nothing to do with each other. Welch's t, which does not take the two for equally noisy:
                B. L. Welch, "The generalization of 'Student's' problem when several different population variances are
                involved", Biometrika 34, 1947; e-Handbook, section 1.3.5.3.

With the two to ten runs that there are, a bootstrap of percentiles would claim too much: Efron and Tibshirani, "An
Introduction to the Bootstrap" (1993), chapter 13. Both intervals assume that the logarithms scatter normally; a run
that was disturbed widens them, so that nothing is called slower for it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

__all__ = ["Ratio", "beyond_chance", "interval_of", "ratio_of", "ratio_of_groups", "t_quantile", "t_tail"]


@dataclass(frozen=True)
class Ratio:
    """B over A, with the 95 % confidence interval."""

    value: float
    low: float
    high: float
    pairs: int
    """Or runs, of the group that has fewer. 1: it has been counted, and there is no interval."""
    error: float = 0.0
    """Standard error of the logarithm."""
    freedom: float = 1.0
    """Degrees of freedom of Student's t."""

    def above(self, most: float) -> bool:
        """It is above `most` with all of its interval."""
        return self.low > most

    def below(self, least: float) -> bool:
        return self.high < least

    def chance_above(self, most: float) -> float:
        """Of so great a ratio, or a greater one, were the true one `most`: the p value, one-sided."""
        return self._chance(math.log(self.value / most))

    def chance_below(self, least: float) -> float:
        return self._chance(math.log(least / self.value))

    def _chance(self, beyond: float) -> float:
        if not self.error:
            return 0.0 if beyond > 0 else 1.0
        return t_tail(beyond / self.error, self.freedom)

    def __str__(self) -> str:
        return f"{self.value:.3f}" + (f" ({self.low:.3f}–{self.high:.3f})" if self.pairs > 1 else "")


def ratio_of(a: Sequence[float], b: Sequence[float]) -> Ratio:
    """Of the pairs (a[0], b[0]), (a[1], b[1]) and so on. ValueError for fewer than two, or what is not above 0."""
    if len(a) != len(b) or len(a) < 2:
        raise ValueError(f"{len(a)} and {len(b)} values: two pairs are the least from which a spread can be told")
    logs = [after - before for before, after in zip(_logarithms(a), _logarithms(b), strict=True)]
    return _ratio(statistics.fmean(logs), statistics.stdev(logs) / math.sqrt(len(logs)), len(logs) - 1, len(logs))


def ratio_of_groups(a: Sequence[float], b: Sequence[float]) -> Ratio:
    """Of the values `b` over the values `a`, in any order. ValueError for fewer than two, or what is not above 0."""
    if min(len(a), len(b)) < 2:
        raise ValueError(f"{len(a)} and {len(b)} values: two of each are the least from which a spread can be told")
    before, after = _logarithms(a), _logarithms(b)
    parts = [statistics.variance(logs) / len(logs) for logs in (before, after)]
    squares = [part ** 2 / (len(logs) - 1) for part, logs in zip(parts, (before, after), strict=True)]
    least = min(len(a), len(b))
    freedom = sum(parts) ** 2 / sum(squares) if sum(squares) else 0.0
    freedom = max(least - 1.0, math.floor(10 * freedom + 1e-9) / 10)  # to the safe side; so that quantiles repeat
    return _ratio(statistics.fmean(after) - statistics.fmean(before), math.sqrt(sum(parts)), freedom, least)


def interval_of(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % confidence interval of their geometric mean. ValueError for fewer than two, or what is not above 0."""
    if len(values) < 2:
        raise ValueError(f"{len(values)} values: two are the least from which a spread can be told")
    logs = _logarithms(values)
    mean, half = statistics.fmean(logs), t_quantile(len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(mean - half), math.exp(mean + half)


def beyond_chance(chances: Sequence[float], share: float) -> list[bool]:
    """Which of many findings stand, if at most `share` of those that do may be by chance.

    Benjamini and Hochberg, "Controlling the False Discovery Rate", Journal of the Royal Statistical Society B 57(1),
    1995. Also right where findings go together, as those of one machine do: Benjamini and Yekutieli, Annals of
    Statistics 29(4), 2001. chances: the p value of each.
    """
    order = sorted(chances)
    most = max((chance for place, chance in enumerate(order, 1) if chance <= share * place / len(order)), default=-1.0)
    return [chance <= most for chance in chances]


def t_tail(t: float, freedom: float) -> float:
    """The chance that Student's t with `freedom` degrees of freedom, which need not be whole, is `t` or more.

    With t = sqrt(freedom) tan(angle) the density becomes a power of the cosine, over a finite range: Abramowitz and
    Stegun, Handbook of Mathematical Functions, 26.7.
    """
    if t < 0:
        return 1.0 - t_tail(-t, freedom)
    # The tail is from that angle to pi/2. Counted from pi/2 the cosine is a sine, which is exact where the tail is
    # thin; and by u ** 3 the power is smooth at 0, as Simpson's rule needs it, also where it is below 1.
    steps = 2 * math.ceil(30 + 20 * math.sqrt(freedom))  # the more freedom, the narrower the peak
    step = math.atan2(math.sqrt(freedom), t) ** (1 / 3) / steps
    places = [n * step for n in range(1, steps + 1)]  # at 0 it is 0
    heights = [3 * u * u * math.sin(u ** 3) ** (freedom - 1) for u in places]
    area = step / 3 * (4 * sum(heights[::2]) + 2 * sum(heights[1:-1:2]) + heights[-1])
    whole = math.exp(math.lgamma(freedom / 2) - math.lgamma((freedom + 1) / 2)) * math.sqrt(math.pi)
    return float(area / whole)


@cache
def t_quantile(freedom: float) -> float:
    """What Student's t exceeds in 2.5 % of all cases: half of a 95 % interval, in standard errors."""
    low, high = 1.9, 13.0  # for 1 degree of freedom and more
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (middle, high) if t_tail(middle, freedom) > 0.025 else (low, middle)
    return high


def _logarithms(values: Sequence[float]) -> list[float]:
    if min(values) <= 0:
        raise ValueError("a cost is above 0")
    return [math.log(value) for value in values]


def _ratio(mean: float, error: float, freedom: float, pairs: int) -> Ratio:
    half = t_quantile(freedom) * error
    return Ratio(math.exp(mean), math.exp(mean - half), math.exp(mean + half), pairs, error, freedom)
