"""What `bench threads` compares: settings of one server that differ in one thing, under the same loads.

Each experiment turns one knob, and leaves all else as it is in the setting that it is compared with. A setting that is
in several experiments runs once in each round, and its figures stand in each of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["EXPERIMENTS", "LOADS", "Experiment", "Load", "Setting", "chosen_experiments", "plan"]

@dataclass(frozen=True)
class Load:
    """What the clients do, and what a request costs the handler."""

    words: str
    keep_alive: bool = True
    connections: int = 100
    arguments: tuple[str, ...] = ()
    """Of bench.server: the handler."""
    pipelined: bool = False
    """The clients do not wait for answers: bench.clients.flood, not wrk. Then there are no latencies."""


@dataclass(frozen=True)
class Setting:
    """A way to set up the server."""

    name: str
    """In its experiment."""
    arguments: tuple[str, ...]
    """Of bench.server."""


@dataclass(frozen=True)
class Experiment:
    """settings: the first column of its tables; pairs: numbers of two of them, of which the second is told against the
    first; loads: keys of LOADS; traced: one of them, under which system calls are counted, too; empty: they are not."""

    title: str
    settings: tuple[Setting, ...]
    pairs: tuple[tuple[int, int], ...]
    loads: tuple[str, ...]
    traced: str = ""


LOADS = {
    "hello": Load("keep-alive, no sleep"),
    "sleep": Load("keep-alive, sleep 0.1 ms", arguments=("--sleep", "0.1")),
    "spin": Load("keep-alive, 1 ms of computing", arguments=("--spin", "1")),
    "close": Load("no keep-alive, no sleep", keep_alive=False),
    "alone": Load("no keep-alive, no sleep, 1 client", keep_alive=False, connections=1),
    "pipelined": Load("pipelining, no sleep", pipelined=True),
}
_WAITING = ("hello", "sleep", "spin", "close")


def _exactly(threads: int, model: str = "recycling-park") -> tuple[str, ...]:
    return "--model", model, "--capacity", str(threads), "--exactly"


_EIGHT = _exactly(8)
_DEFAULT = ("--model", "recycling-park", "--capacity", "0")


EXPERIMENTS = {
    "threads": Experiment(
        "How many threads",
        tuple(Setting(f"{n} thread{'s' if n > 1 else ''}", _exactly(n)) for n in (1, 2, 4, 8, 16, 32, 64)),
        ((0, 3), (3, 5), (3, 6)), _WAITING),
    "models": Experiment(
        "Which model, with 8 threads where it has a number",
        (Setting("recycling, park", _EIGHT),
         Setting("recycling, hold (100)", _exactly(100, "recycling-hold")),  # with fewer, the other clients get nothing
         Setting("pool, park", (*_exactly(8, "pool-park"), "--queue", "1000")),  # else it refuses some of 100 clients
         Setting("leader/followers", _exactly(8, "bench.studies.scale.leader_followers:LeaderFollowersTaskmaster")),
         Setting("thread per connection", ("--model", "thread", "--capacity", "128")),
         Setting("event loop", ("--model", "loop")),
         Setting("single", ("--model", "single"))),
        tuple((0, other) for other in range(1, 7)), _WAITING),
    "inline": Experiment(
        "Whether a thread goes on with the next request that is there already, 8 threads",
        (Setting('"fair" (default)', _EIGHT), Setting('"always"', (*_EIGHT, "--inline", "always")),
         Setting('"never"', (*_EIGHT, "--inline", "never"))),
        ((0, 1), (0, 2)), ("pipelined",)),
    "switch": Experiment(
        "The switch interval, 8 threads",
        (Setting("0.1 ms", (*_EIGHT, "--switch-interval", "0.1")), Setting("1 ms", (*_EIGHT, "--switch-interval", "1")),
         Setting("5 ms (default)", _EIGHT), Setting("20 ms", (*_EIGHT, "--switch-interval", "20"))),
        ((2, 0), (2, 1), (2, 3)), ("hello", "sleep", "spin")),
    "defer": Experiment(
        "TCP_DEFER_ACCEPT, 8 threads",
        (Setting("off (default)", _EIGHT), Setting("on", (*_EIGHT, "--defer-accept", "5"))),
        ((0, 1),), ("close", "alone"), traced="alone"),
    "standby": Experiment(
        "Threads that wait when there is nothing to do, of 100 that there may be",
        tuple(Setting(f"standby={n}{' (default)' if n == 4 else ''}", (*_DEFAULT, "--standby", str(n)))
              for n in (1, 4, 8, 32)),
        ((1, 0), (1, 2)), _WAITING),
}


def plan(names: Iterable[str]) -> list[tuple[tuple[str, ...], str]]:
    """What one round of these experiments runs: arguments of the server, and the key of a load; nothing twice."""
    return list(dict.fromkeys((setting.arguments, load) for name in names for setting in EXPERIMENTS[name].settings
                              for load in EXPERIMENTS[name].loads))


def chosen_experiments(text: str) -> list[str]:
    """"threads,switch" as names. ValueError, with the fix."""
    words = text.split(",")
    for word in words:
        if word not in EXPERIMENTS:
            raise ValueError(f"there is no experiment {word!r}: choose from {', '.join(EXPERIMENTS)}")
    return [name for name in EXPERIMENTS if name in words]
