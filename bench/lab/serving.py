"""A server under test, started for one run, and what is seen of it from outside."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench import machine
from bench.children import Child, ChildError, cores, running
from bench.lab.record import Cell, Record
from bench.processes import Usage, cpu_seconds, serving_threads, tree
from bench.subjects import Setup, find_subject

__all__ = ["Server", "load_core", "on_load_core", "recording", "serving"]


class Server:
    """A running subject. Made by `serving`; used by one thread."""

    def __init__(self, child: Child, core: int | None) -> None:
        self._child = child
        self.core = core
        self.pid = child.pid
        self.port = int(child.line(timeout=30))
        self.pids = tree(child.pid)
        self._noise = machine.Noise(core, self.pids)
        self.most_threads = 0
        """That `look` has seen at once, without the acceptor's own."""

    def state(self) -> dict[str, Any]:
        """What its taskmaster has counted: threads by state, accepted, served, refused, parked, queued. Ours only."""
        self._child.tell("state")
        state: dict[str, Any] = json.loads(self._child.line(timeout=30))
        return state

    def glance(self) -> dict[str, Any]:
        """The same, and cheap enough for 20 times a second: no garbage is collected before."""
        self._child.tell("glance")
        state: dict[str, Any] = json.loads(self._child.line(timeout=30))
        return state

    def ended(self) -> dict[str, Any]:
        """End it, and return what its taskmaster has counted; empty if it does not say (ours only)."""
        self._child.close_input()
        try:
            state: dict[str, Any] = json.loads(self._child.rest(20) or "{}")
        except json.JSONDecodeError:
            return {}
        return state

    def look(self) -> None:
        """To be called some 20 times a second while a load runs: `Child.line(..., meanwhile=server.look)`."""
        self.most_threads = max(self.most_threads, serving_threads(self.pids))

    @property
    def cpu_seconds(self) -> float:
        """Of all its processes, since their start."""
        return cpu_seconds(self.pids)

    @property
    def usage(self) -> Usage:
        return Usage.of(self.pids)

    def others(self) -> float:
        """The share of its core that others have had since it was started, or since `quiet_from_here`."""
        return self._noise.share()

    def quiet_from_here(self) -> None:
        """Begin to count what others have anew."""
        self._noise = machine.Noise(self.core, self.pids)


@contextmanager
def serving(subject: str, setup: Setup, *, pinned: bool = True) -> Iterator[Server]:
    """`subject` on a core of its own; or, not `pinned`, on any. ChildError, with what it said, if it does not serve."""
    core = cores()[0] if pinned else None
    with running(find_subject(subject).command(setup), core) as child:
        try:
            server = Server(child, core)
        except ValueError as error:
            raise ChildError(f"{subject} did not say its port: {error}{child.complaint()}") from error
        yield server
        child.close_input()


def load_core() -> int | None:
    """Where what loads a pinned server is to run."""
    return cores()[1]


@contextmanager
def on_load_core() -> Iterator[None]:
    """The calling thread is the load, and runs there for the length of a with block."""
    before = os.sched_getaffinity(0)
    if (core := load_core()) is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def recording(cell: Cell, block: int) -> Iterator[Record]:
    """A record to be filled in; what goes wrong inside is written into it, and is no exception any more."""
    record = Record(cell, block)
    try:
        yield record
    except (ChildError, OSError, ValueError, KeyError) as error:
        record.failed = str(error) or type(error).__name__
