"""What a recording of some milliseconds tells in numbers: hand-offs for each request, and waits."""

from __future__ import annotations

from watching.counts import quantile
from watching.messages import Burst, Steps

__all__ = ["burst_of"]


def burst_of(said: Steps) -> Burst:
    """Of all that has happened between its begin and its end."""
    events = sorted(((step[0], thread, step) for thread, lane in enumerate(said["lanes"]) for step in lane["steps"]
                     if said["begin"] <= step[0] <= said["end"]), key=lambda event: event[0])
    given: dict[int, tuple[float, int]] = {}
    """Connections that have been accepted, and wait for a thread: since when, and by whom."""
    before: dict[int, tuple[str, int]] = {}
    """What each thread did last, and its connection."""
    requests = handoffs = 0
    waits: list[float] = []
    kernel_waits: list[float] = []
    for time, thread, (_, state, connection, about) in events:
        did, had = before.get(thread, ("", 0))
        if state == "Q":
            given[connection] = time, thread
            if about is not None and about[2] is not None:
                kernel_waits.append(about[2])
        elif state == "R" and (taken := given.pop(connection, None)) is not None:
            waits.append(time - taken[0])
            handoffs += thread != taken[1]
        elif state == "R" and had != connection and did != "A":  # somebody else has accepted it, before it all began
            handoffs += 1  # how long it has waited nobody knows
        elif state == "H" and about is not None and time > said["begin"]:
            requests += 1
        before[thread] = state, connection if state != "_" else 0
    return Burst(time=said["end"], seconds=said["end"] - said["begin"], requests=requests,
                 handoffs_per_request=handoffs / requests if requests else None,
                 wait_p99=quantile(sorted(waits), 0.99), kernel_wait_p99=quantile(sorted(kernel_waits), 0.99))
