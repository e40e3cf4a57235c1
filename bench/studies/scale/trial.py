"""What the experiments of `bench scale` are made of: a server with so many threads, loads on it, and what both used."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from bench.children import Child, cores, running
from bench.clients.result import Result
from bench.processes import Usage, resident_bytes, tree
from bench.progress import Progress

__all__ = ["WARMUP", "Finding", "Load", "Options", "Report", "Server", "loading", "measure", "serving", "step"]

WARMUP = 0.4
"""Seconds of a load that do not count."""
_IN_VAIN = 3.0
"""Seconds after which a client gives up: a server that does not answer in this time does not serve it."""


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    rounds: int = 2
    """Repetitions of what is compared, interleaved."""
    seconds: float = 2.0
    """Of each load that count."""
    idle: int = 10_000
    """Connections of the crowd."""


@dataclass(frozen=True)
class Finding:
    """A claim, and whether it held."""

    holds: bool
    claim: str
    figures: str

    def __str__(self) -> str:
        return f"{'PASS' if self.holds else 'FAIL'}  {self.claim}: {self.figures}"


@dataclass
class Report:
    """What an experiment has found out."""

    table: str
    findings: list[Finding]
    notes: list[str] = field(default_factory=list)
    data: list[dict[str, Any]] = field(default_factory=list)
    """All that was measured, to be kept as JSON."""


@dataclass(frozen=True)
class Load:
    """Clients of `bench.clients.load`."""

    connections: int
    keep_alive: bool = True
    pause_ms: float = 0.0


class Server:
    """A running `bench.server`, seen from outside. Made by `serving`."""

    def __init__(self, child: Child, pinned: bool) -> None:
        self._child = child
        self.port = int(child.line(timeout=20))
        self.pids = tree(child.pid)
        self.pid = child.pid
        self.pinned = pinned

    def state(self) -> dict[str, Any]:
        """What its taskmaster has counted, and what Python has allocated."""
        self._child.tell("state")
        state: dict[str, Any] = json.loads(self._child.line(timeout=30))
        return state

    @property
    def resident(self) -> int:
        """Bytes in RAM."""
        return resident_bytes(self.pids)

    @property
    def usage(self) -> Usage:
        return Usage.of(self.pids)


@contextmanager
def serving(model: str, threads: int, *arguments: str, pinned: bool = True) -> Iterator[Server]:
    """`model` with exactly so many threads, nobody refused, on a core of its own; or, not `pinned`, on any.

    arguments: further ones of bench.server.
    """
    core = cores()[0] if pinned else None
    with running(["bench.server", "--model", model, "--capacity", str(threads), "--exactly", "--queue", "1000",
                  "--keep-alive", "3600", *arguments], core) as child:
        yield Server(child, pinned)
        child.close_input()
        child.line(timeout=20)  # it has ended, and with it all that it has forked


@contextmanager
def loading(server: Server, load: Load, seconds: float, warmup: float = WARMUP) -> Iterator[Child]:
    """A load that runs; `seconds` of it count. Its one line is a Result."""
    with running(["bench.clients.load", "--port", str(server.port), "--connections", str(load.connections), "--warmup",
                  str(warmup), "--duration", str(seconds), "--timeout", str(_IN_VAIN), "--pause", str(load.pause_ms),
                  "--watch", str(server.pid), *([] if load.keep_alive else ["--no-keep-alive"])],
                 cores()[1] if server.pinned else None) as child:
        yield child


def measure(server: Server, loads: Sequence[Load], seconds: float, warmup: float = WARMUP) -> list[Result]:
    """Loads that run at the same time, each from a process of its own; `seconds` of them count, after `warmup`."""
    with ExitStack() as stack:
        children = [stack.enter_context(loading(server, load, seconds, warmup)) for load in loads]
        return [Result(**json.loads(child.line(warmup + seconds + 30))) for child in children]


@contextmanager
def step(progress: Progress, what: str) -> Iterator[list[str]]:
    """A step of the progress; put into the list what it came to."""
    progress.begin(what)
    outcome: list[str] = []
    yield outcome
    progress.end(": ".join([what, *outcome]))
