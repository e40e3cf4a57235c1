"""What this machine and this interpreter charge for the steps that a concurrency model is made of.

    python -m bench.physics.program 0,1      the cores to use; then for each line on standard input, the seconds that a
                                     measurement may take, one round: a line of JSON, microseconds by name

`bench micro` runs it, in a process of its own for each interpreter, which needs the standard library alone. It stays on
the first core, as a server under test does, except where it says that it does not. Its first line says which Python it
is. null is what cannot be measured here.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench.physics import threads
from bench.physics.clocks import clock, sleep, wake_up
from bench.physics.gil import ping

__all__ = ["Group", "Step", "groups", "identity", "one_round"]


@dataclass(frozen=True)
class Step:
    name: str
    label: str
    measure: Callable[[float], float | None]
    """Microseconds, from the seconds that it may take."""


@dataclass(frozen=True)
class Group:
    title: str
    reading: str
    """How to read it."""
    steps: tuple[Step, ...]


def groups(cores: Sequence[int]) -> list[Group]:
    """All there is to measure, in the order in which it is shown. cores: which may be used."""

    def sleeping(name: str, ms: float) -> tuple[Step, ...]:
        asked = f"time.sleep({ms / 1e3:g})"
        return (Step(name, asked, partial(sleep, ms / 1e3, 0)),
                Step(f"{name}_exact", f"{asked}, timer slack 1 ns", partial(sleep, ms / 1e3, 1)))

    def pinging(name: str, burners: int, interval_ms: float) -> Step:
        beside = ("no thread that computes", "1 thread that computes", "2 threads that compute")[burners]
        interval = f", switch interval {interval_ms:g} ms" if burners else ""
        return Step(name, f"beside {beside}{interval}", partial(ping, cores, burners, interval_ms / 1e3))

    return [
        Group("A thread", "The price of one thread per connection, without keep-alive: it is paid for each request.", (
            Step("thread", "threading.Thread: start, run, join", threads.thread),
            Step("bare_thread", "_thread.start_new_thread, and a lock", threads.bare_thread))),
        Group("A hand-off, there and back", "Half of it is the least that a pool pays to give a connection from the "
              "thread that accepts to one that waits: a wake-up, a switch, and the GIL.", (
                  Step("queue", "queue.Queue", threads.queues),
                  Step("simple_queue", "queue.SimpleQueue", threads.simple_queues),
                  Step("condition", "threading.Condition", threads.condition),
                  Step("epoll", "a byte, to a thread that waits in epoll", threads.epoll))),
        Group("A connection: connect, accept, one byte, close", "The client's part is in each, so the differences "
              "count: what a model adds to a connection. Recycling is the first.", (
                  Step("accepted", "served by the thread that waits in accept", threads.accepted),
                  Step("handed_over", "handed to a thread that waits at a queue", threads.handed_over),
                  Step("started", "served by a thread of its own", threads.started))),
        Group("A lock that nobody else wants", "Little. Locks cost when threads wait for them.", (
            Step("lock", "with threading.Lock", threads.lock),
            Step("rlock", "with threading.RLock", threads.rlock))),
        Group("Sleep: asked and taken", "So long a handler really sleeps. Above all sleep(0) is not nothing. Slack is "
              "what the kernel may be late, 50 us by default, so as to do several wake-ups at once.",
              (*sleeping("sleep_0", 0), *sleeping("sleep_100us", 0.1), *sleeping("sleep_1ms", 1))),
        Group("The GIL: one thread answers a byte to another process", "What a small request waits for in a process "
              "whose other threads compute. Without a GIL: for nobody. Beside none it is the core that has to wake up. "
              "Not kept to one core.", (
                  pinging("ping_0", 0, 5), pinging("ping_1", 1, 5), pinging("ping_2", 2, 5),
                  pinging("ping_1_short", 1, 0.5), pinging("ping_2_short", 2, 0.5))),
        Group("A core that sleeps: a byte to a process on another, and back", "The difference is the hypervisor's, or "
              "the processor's way out of a deep sleep; no server can do anything about it. It is in every latency "
              "at a low load.", (
                  Step("idle_core", "the other core is idle", partial(wake_up, cores, False)),
                  Step("busy_core", "it is kept awake", partial(wake_up, cores, True)))),
        Group("A clock", "What it costs to measure.", (
            Step("clock", "time.perf_counter_ns", clock),)),
    ]


def one_round(steps: Iterable[Step], seconds: float) -> dict[str, float | None]:
    """Microseconds of each, by its name; `seconds` for each of them, about."""
    return {step.name: step.measure(seconds) for step in steps}


def identity() -> dict[str, Any]:
    """Which Python this is."""
    gil = getattr(sys, "_is_gil_enabled", lambda: True)
    return {"python": platform.python_version(), "gil": gil()}


def main() -> None:
    cores = [int(word) for word in sys.argv[1].split(",")]
    if len(cores) > 1:
        os.sched_setaffinity(0, cores[:1])
    steps = [step for group in groups(cores) for step in group.steps]
    print(json.dumps(identity()), flush=True)
    for line in sys.stdin:
        print(json.dumps(one_round(steps, float(line))), flush=True)


if __name__ == "__main__":
    main()
