"""What is seen of a server from outside while a load steps up and down, and the figures made of it.

Some 20 times a second: its threads, from /proc; what its taskmaster says, if it is one of ours: connections that are
being served, queued and parked; and the kernel's queue, of connections that nobody has accepted. Clients that wait and
are in none of these figures wait unseen: their connections are parked, which looks as if they were idle, and their
requests lie in the kernel.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from bench.lab.serving import Server
from bench.processes import serving_threads

__all__ = ["GROWN", "Watch", "accept_queue", "asking_at", "figures_of"]

GROWN = 0.9
"""Share of the threads that came, from which on a server has grown."""
_MORE = 1.5
"""Times as many threads as before are growth."""
_POINTS = 300
"""Samples that are kept of a run."""
_LISTEN = "0A"


def accept_queue(port: int) -> int:
    """Connections to this port of 127.0.0.1 that nobody has accepted yet; 0 if nobody listens there.

    In /proc/net/tcp, rx_queue of a socket that listens is the length of this queue (net/ipv4/tcp_ipv4.c, tcp4_seq_show:
    sk_ack_backlog). Those that listen come first there: the rest, a line for each connection, is not read.
    """
    queued, ours = 0, f":{port:04X}"
    with open("/proc/net/tcp", encoding="ascii") as lines:
        next(lines)
        for line in lines:
            _, local, _, state, queues, *_ = line.split()
            if state != _LISTEN:
                break
            if local.endswith(ours):
                queued += int(queues.partition(":")[2], 16)
    return queued


class Watch:
    """Samples of one server. Used by one thread.

    tells: it is one of ours, and says what its taskmaster has counted.
    """

    def __init__(self, server: Server, tells: bool) -> None:
        self._server = server
        self._tells = tells
        self.samples: dict[str, list[float]] = {name: [] for name in ("t", "threads", "kernel", *(
            ("busy", "queued", "parked") if tells else ()))}

    def look(self) -> None:
        """To be called some 20 times a second: `Child.line(..., meanwhile=watch.look)`."""
        if self._tells:
            state = self._server.glance()
            for name, value in (("busy", state["threads"].get("serving", 0)), ("queued", state["queued"]),
                                ("parked", state["parked"])):
                self.samples[name].append(value)
        self.samples["t"].append(time.perf_counter())
        self.samples["threads"].append(serving_threads(self._server.pids))
        self.samples["kernel"].append(accept_queue(self._server.port))

    def since(self, began: float) -> dict[str, list[float]]:
        """The samples, their times counted from `began`, which may be negative; of very many, some."""
        every = 1 + len(self.samples["t"]) // _POINTS
        return {name: [round(value - began, 3) if name == "t" else value for value in values[::every]]
                for name, values in self.samples.items()}


def asking_at(series: Mapping[str, Sequence[float]], moment: float) -> float:
    """How many clients waited for an answer then; `series` is that of `bench.clients.steps`."""
    place = bisect_left(series["t"], moment)
    return series["asking"][min(place, len(series["asking"]) - 1)]


def figures_of(phases: Sequence[Mapping[str, float]], samples: Mapping[str, Sequence[float]],
               series: Mapping[str, Sequence[Any]]) -> dict[str, float]:
    """Metrics of one run: how threads and queues followed the step. Those that cannot be told are left out.

    phases: "from" and "to" of the three, in seconds by the same clock as the samples.
    """
    before, during, after = ([place for place, t in enumerate(samples["t"]) if phase["from"] <= t < phase["to"]]
                             for phase in phases)
    found: dict[str, float] = {}
    if not before or not during:
        return found
    threads = samples["threads"]
    few, most = max(threads[place] for place in before), max(threads[place] for place in during)
    found["threads"] = most
    found["kernel_queue"] = max(samples["kernel"][place] for place in during)
    if most >= _MORE * max(1, few):
        aim = few + GROWN * (most - few)
        found["grown_s"] = next(samples["t"][place] for place in during if threads[place] >= aim) - phases[1]["from"]
        back = next((place for place in after if threads[place] <= most - GROWN * (most - few)), None)
        if back is not None:
            found["shrunk_s"] = samples["t"][back] - phases[2]["from"]
    settled = during[len(during) // 2:]
    found["kernel_waiting"] = median(samples["kernel"][place] for place in settled)
    if "busy" in samples:
        found["queued"] = max(samples["queued"][place] for place in during)
        found["parked"] = median(samples["parked"][place] for place in settled)
        found["unseen"] = median(max(0.0, asking_at(series, samples["t"][place]) - samples["busy"][place]
                                     - samples["queued"][place]) for place in settled)
    slow = [p99 for t, p99 in zip(series["t"], series["p99_ms"], strict=True)
            if p99 is not None and t <= phases[0]["to"] + 0.01]
    if slow:
        ended = next((t for t, p99 in zip(series["t"], series["p99_ms"], strict=True)
                      if t > phases[2]["from"] + 0.01 and p99 is not None and p99 <= 2 * median(slow)), None)
        if ended is not None:
            found["recovered_s"] = ended - phases[2]["from"]
    return {name: round(value, 3) for name, value in found.items()}
