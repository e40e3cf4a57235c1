"""What comes of counting responses: how many, of which class, how long they took, and how many there are a second.

The server's threads append to one deque, which costs a request less than 1 us; whoever looks takes from its other end.
Both are one operation of the deque, so there is no lock between them, with a GIL or without one.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_right
from collections import Counter, deque
from time import monotonic

from watching.messages import Histogram, Responses

__all__ = ["BOUNDS", "ResponseCounts", "quantile"]

BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds: of the histogram's buckets. Those of Prometheus' clients, and three below."""
_WINDOW = 1.0
"""Seconds that a rate and quantiles are of, at least: a little more, if nobody has looked for a while."""
_ENOUGH = 2_000
_ORDER_EVERY = 0.25
"""Responses that quantiles are of, at least: of more, it is each second, or third; and so often they are put in order.
To sort all of those of a fast server, ten times a second, would take 2 % of its processor."""
_MOST = 1_000_000
"""Responses kept until somebody looks: a minute of a fast server. Beyond it the oldest are not counted."""


class ResponseCounts:
    """An `acceptor.service.Counter`: `ok` and `other` are for the server's threads; all else for any thread.

    Of one server there is one, whoever watches: it is found in `Service.counter`.
    """

    def __init__(self) -> None:
        self._new: deque[float] = deque(maxlen=_MOST)
        self._others: deque[tuple[float, int]] = deque(maxlen=_MOST)
        self.ok = self._new.append
        self.other = self._others.append
        self.viewers: set[object] = set()
        """Who wants to know. Theirs."""
        self._lock = threading.Lock()
        # Guarded by self._lock.
        self._total = 0
        self._by_class: Counter[str] = Counter()
        self._buckets = [0] * len(BOUNDS)
        """How many took no longer than each of them."""
        self._seconds = 0.0
        self._recent: deque[tuple[float, float, list[float]]] = deque()
        """(since when, until when, the seconds of each, in order): what has been taken in the last _WINDOW, and perhaps
        a little before."""
        self._looked_at = monotonic()
        self._ordered: list[float] = []
        """Of those that quantiles are of."""
        self._ordered_at = -_ORDER_EVERY

    def look(self) -> tuple[Responses, Histogram]:
        """What there has been until now. Any thread; blocks for a moment."""
        with self._lock:
            now = monotonic()
            self._take_locked(now)
            recent = sum(len(seconds) for *_, seconds in self._recent)
            since = self._recent[0][0]
            if now - self._ordered_at >= _ORDER_EVERY:
                self._ordered_at = now
                self._ordered = sorted(
                    [each for *_, seconds in self._recent for each in seconds[::recent // _ENOUGH + 1]])
            responses = Responses(
                total=self._total, by_class=dict(self._by_class),
                per_second=recent / max(now - since, _WINDOW / 10),
                p50=quantile(self._ordered, 0.5), p99=quantile(self._ordered, 0.99))
            return responses, Histogram(buckets=list(zip(BOUNDS, self._buckets, strict=True)), sum=self._seconds,
                                        count=self._total)

    def _take_locked(self, now: float) -> None:
        # What comes meanwhile is left for the next look: a server may be faster than this. For each response there are
        # as few steps of Python as can be: all of this is done in the process that is watched.
        take, take_other = self._new.popleft, self._others.popleft
        seconds = [take() for _ in range(len(self._new))]
        others = [take_other() for _ in range(len(self._others))]
        if seconds:
            self._by_class["2xx"] += len(seconds)
        self._by_class.update(f"{status // 100}xx" for _, status in others)
        seconds += [took for took, _ in others]
        seconds.sort()
        self._total += len(seconds)
        self._seconds += sum(seconds)
        for place, bound in enumerate(BOUNDS):
            self._buckets[place] += bisect_right(seconds, bound)
        self._recent.append((self._looked_at, now, seconds))
        self._looked_at = now
        while self._recent[0][1] < now - _WINDOW:
            self._recent.popleft()


def quantile(ordered: list[float], part: float) -> float | None:
    """The least value that so many are not above: the nearest rank. None of no values. `ordered`: from low to high."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]
