"""The programs that are measured: our models, other servers, the original in Lisp, and the probe; how each is set up.

Which name stands for which is in `bench.subjects`.
"""

from __future__ import annotations

import inspect
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass

from bench import interpreters
from bench.models import PROCESSES, find_model
from bench.peers import lisp
from bench.peers.apps import APPS
from bench.peers.server import KEEP_ALIVE, PEERS, Peer

__all__ = ["Lisp", "Ours", "Probe", "Server", "Setup", "Subject"]


@dataclass(frozen=True)
class Setup:
    """How a server is set up for a run. What a subject does not have is left out, unless it says so."""

    sleep_ms: float = 0.0
    """What the handler sleeps; 0: it calls no sleep at all."""
    spin_ms: float = 0.0
    """Of CPU that it burns instead."""
    by_path: bool = False
    """/sleep/MS and /spin/MS do that; every other path answers at once."""
    capacity: int | None = None
    """Connections served at once, or threads, whichever it has; None: its default."""
    threads: int | None = None
    """Exactly so many threads, all of them from the start, instead of a capacity."""
    queue: int | None = None
    """Connections that may wait for a thread."""
    idle_s: float | None = None
    """Seconds that a connection may be idle."""
    switch_interval_ms: float | None = None
    processes: int | None = None
    app: str = ""
    """"module:app", a WSGI application that can be imported from the current directory, instead of the handler; or
    "wsgi" or "flask", those of bench.peers.apps."""

    @property
    def foreign(self) -> bool:
        """An application that is not the lab's."""
        return bool(self.app) and self.app not in APPS


@dataclass(frozen=True)
class Subject(ABC):
    """Who is measured."""

    name: str
    model: str
    """What runs: a model or a server, without parser and interpreter."""
    wire: str = ""
    """Empty: the default."""
    python: str = sys.executable
    """Empty: none of the version in its name is known."""

    @property
    @abstractmethod
    def needs(self) -> tuple[str, ...]:
        """Modules that its interpreter must have."""

    @abstractmethod
    def program(self, setup: Setup) -> list[str]:
        """The module that it is, and what that is called with. ValueError as `command`."""

    @abstractmethod
    def spelled(self, setup: Setup) -> str:
        """How it is set up, without versions."""

    def command(self, setup: Setup) -> list[str]:
        """The program, and what it is called with. ValueError if it cannot be set up so, with what it lacks."""
        if setup.app and setup.app not in APPS and not all(setup.app.partition(":")):
            raise ValueError(f'app {setup.app!r}: write "module:app", or {" or ".join(APPS)}')
        program = self.program(setup)
        if not self.python:
            raise ValueError(f"{self.name}: {self.missing()}")
        return [self.python, "-m", *program]

    def missing(self) -> str:
        """What it needs and is not installed, and what installs it; empty if nothing. The first call asks."""
        if not self.python:
            tag = self.name.partition("@")[2]
            return f"no Python {tag} is known here: give its path, {self.name.partition('@')[0]}@/path/to/python"
        try:
            return interpreters.ask(self.python).missing(self.needs)
        except ValueError as error:
            return str(error)

    def settings(self, setup: Setup) -> str:
        """How it is set up, in words, with the versions that are installed here."""
        said = [self.spelled(setup)]
        if setup.app:
            said.append(f"serving {setup.app}")
        if setup.switch_interval_ms is not None:
            said.append(f"switch interval {setup.switch_interval_ms:g} ms")
        return ", ".join(filter(None, [*said, self.versions()]))

    def versions(self) -> str:
        """Of what it needs, and of its Python if that is another one than this; empty if there is nothing to say."""
        try:
            there = interpreters.ask(self.python)
        except ValueError:
            return ""
        said = [f"{need} {there.packages[need]}" for need in self.needs if there.packages.get(need)]
        return ", ".join([*said, f"Python {there.version}"] if "@" in self.name else said)


class Ours(Subject):
    """One of our models, or a taskmaster of the user's. What a model does not have is left out, but for processes."""

    @property
    def needs(self) -> tuple[str, ...]:
        return ("h11", "httptools") if self.wire == "httptools" else ("h11",)

    def program(self, setup: Setup) -> list[str]:
        if setup.processes not in (None, 1) and "processes" not in inspect.signature(
                find_model(self.model).factory).parameters:
            raise ValueError(f"{self.name} is one process, and cannot be {setup.processes}; prefork can")
        said: list[str] = ["--model", self.model]
        if self.wire:
            said += ["--http", self.wire]
        if setup.threads is not None:
            said += ["--capacity", str(setup.threads), "--exactly"]
        else:
            said += ["--capacity", str(setup.capacity or 0)]
        if setup.app:
            said += ["--app", setup.app]
        return ["bench.server", *said, *_work(setup), *_flags(
            queue=setup.queue, keep_alive=setup.idle_s, switch_interval=setup.switch_interval_ms,
            processes=setup.processes)]

    def spelled(self, setup: Setup) -> str:
        model = find_model(self.model)
        said = model.spelled(setup.threads or setup.capacity or 0)
        if setup.processes is not None:
            said = said.replace(f"processes={PROCESSES}", f"processes={setup.processes}")
        exactly = setup.threads is not None and model.capacity_argument
        return f"{said}, all its threads from the start" if exactly else said

    def versions(self) -> str:
        """Of the parser if the name says which; else it is the one that is installed, as everywhere."""
        return super().versions() if self.wire or "@" in self.name else ""


class Other(Subject):
    """Another server. It refuses what would be another experiment without it: threads and processes, where it cannot be
    told how many, and an application, where it cannot serve it. The rest is left out silently where it does not have
    it: capacity and queue, since its limits are wide enough for a thousand connections; idle_s, since where it has no
    such limit it keeps connections for longer than a run; and the switch interval without a GIL.
    """

    def settings(self, setup: Setup) -> str:
        said = [self.spelled(setup), *([f"serving {setup.app}"] if setup.app else [])]
        installed = "" if self.missing() else self.versions()
        return f"{installed or self.name}: {', '.join(said)}"

    def refuse(self, what: str) -> ValueError:
        return ValueError(f"{self.name} {what}")


class Server(Other):
    """One of bench.peers.server."""

    @property
    def peer(self) -> Peer:
        return PEERS[self.model]

    @property
    def needs(self) -> tuple[str, ...]:
        return self.peer.needs

    def program(self, setup: Setup) -> list[str]:
        peer = self.peer
        if setup.threads is not None and not peer.pool and setup.threads != peer.threads:
            has = "it has one" if peer.threads else "it starts one for each connection"
            able = ", ".join(name for name, other in PEERS.items() if other.pool)
            raise self.refuse(f"cannot be told to have {setup.threads} threads: {has}; these can: {able}")
        if setup.processes not in (None, 1) and not peer.processes:
            able = ", ".join(name for name, other in PEERS.items() if other.processes)
            raise self.refuse(f"cannot be told to have {setup.processes} processes; these can: {able}")
        if setup.app and not peer.wsgi:
            raise self.refuse(f"cannot serve {setup.app}: that is a WSGI application, and it serves ASGI")
        return ["bench.peers.server", self.model, "--app", setup.app or "wsgi", *_work(setup), *_flags(
            threads=setup.threads if peer.pool else None, processes=setup.processes, keep_alive=setup.idle_s,
            switch_interval=setup.switch_interval_ms)]

    def spelled(self, setup: Setup) -> str:
        return self.peer.settings.format(threads=setup.threads or self.peer.threads, processes=setup.processes or 1,
                                         keep_alive=KEEP_ALIVE if setup.idle_s is None else setup.idle_s)


class Probe(Other):
    """bench.studies.speed.probe."""

    @property
    def needs(self) -> tuple[str, ...]:
        return ()

    def program(self, setup: Setup) -> list[str]:
        for name, value in (("threads", setup.threads), ("processes", setup.processes), ("an app", setup.app),
                            ("work by path", setup.by_path), ("spin", setup.spin_ms)):
            if value:
                raise self.refuse(f"is no server, and cannot be told {name}: it has 8 threads, and sleeps")
        return ["bench.studies.speed.probe", "--sleep", f"{setup.sleep_ms:g}"]

    def spelled(self, setup: Setup) -> str:
        return "8 threads on one epoll set, no server: see bench/studies/speed/probe.py"


class Lisp(Other):
    """The original. It can be told its capacity, and queue: connections that wait beyond that; each is a thread."""

    @property
    def needs(self) -> tuple[str, ...]:
        return ()

    def program(self, setup: Setup) -> list[str]:
        if setup.threads is not None:
            raise self.refuse("cannot be told to have exactly so many threads: give a capacity")
        if setup.processes not in (None, 1):
            raise self.refuse(f"is one process, and cannot be {setup.processes}")
        if setup.app:
            raise self.refuse(f"is Lisp, and cannot serve {setup.app}")
        return [*_work(setup), *_flags(threads=setup.capacity, queue=setup.queue, keep_alive=setup.idle_s)]

    def command(self, setup: Setup) -> list[str]:
        program = self.program(setup)
        if missing := self.missing():  # which also has it compiled: that takes longer than a server may to start
            raise ValueError(f"{self.name}: {missing}")
        return lisp.command(self.model, *program)

    def missing(self) -> str:
        return lisp.ask(self.model).missing

    def spelled(self, setup: Setup) -> str:
        most = f"at most {setup.capacity} threads" if setup.capacity else "at most 100 threads"
        kind = "one thread per connection" if self.model == "hunchentoot" else "recycling, 8 threads stand by"
        return f"{kind}, {most}, no log"

    def versions(self) -> str:
        return lisp.ask(self.model).versions


def _work(setup: Setup) -> list[str]:
    """What the handler does. An application of the user's does its own."""
    if setup.foreign:
        return []
    return [*_flags(sleep=setup.sleep_ms or None, spin=setup.spin_ms or None),
            *(["--by-path"] if setup.by_path else [])]


def _flags(**values: float | None) -> list[str]:
    """Those that are not None, as options: keep_alive=5 as --keep-alive 5."""
    return [word for name, value in values.items() if value is not None
            for word in (f"--{name.replace('_', '-')}", f"{value:.12g}")]
