"""What a recording of some milliseconds tells in numbers: hand-offs for each response, and waits."""

from __future__ import annotations

from watching.counts import quantile
from watching.messages import Burst, Steps

__all__ = ["burst_of"]


def burst_of(said: Steps) -> Burst:
    """Of all that has happened between its begin and its end."""
    events = sorted(((step[0], lane["lane"], step) for lane in said["lanes"] for step in lane["steps"]
                     if said["begin"] <= step[0] <= said["end"]), key=lambda event: event[0])
    given: dict[int, tuple[float, int]] = {}
    """Connections that have been accepted, and wait for a thread: since when, and on which row."""
    requests = handoffs = 0
    waits: list[float] = []
    kernel_waits: list[float] = []
    for time, lane, (_, state, connection, about) in events:
        if state == "Q":
            given[connection] = time, lane
            if about is not None and about[2] is not None:
                kernel_waits.append(about[2])
        elif state == "R" and (taken := given.pop(connection, None)) is not None:
            waits.append(time - taken[0])
            handoffs += lane != taken[1]
        elif state == "H" and about is not None:
            requests += 1
    return Burst(time=said["end"], seconds=said["end"] - said["begin"], requests=requests,
                 handoffs_per_request=handoffs / requests if requests else None,
                 wait_p99=quantile(sorted(waits), 0.99), kernel_wait_p99=quantile(sorted(kernel_waits), 0.99))
