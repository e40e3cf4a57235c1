"""Who takes part in `bench speed`: our server in several ways, others, and the probe that says how fast the machine is.

A subject is a program of this folder and its arguments; it takes --sleep, prints its port once it serves, and ends with
its standard input. It runs in the Python that `--python` names, if what it needs can be imported there.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.children import ROOT
from bench.peers_server import SETTINGS
from bench.table import grid

__all__ = ["FAST", "INSTALL", "LEAN", "PROBE", "SUBJECTS", "Subject", "chosen", "installed", "versions"]

PROBE, FAST, LEAN = "probe", "recycling-park/httptools", "recycling-park/h11"
INSTALL = ("pip install 'taskmasters[peers]' has all but bjoern and fastwsgi, for which it takes a compiler, and "
           "libev's headers: apt install build-essential libev-dev, then pip install bjoern fastwsgi")


@dataclass(frozen=True)
class Subject:
    name: str
    arguments: tuple[str, ...]
    """The program, a module of this folder, and what it is called with."""
    settings: str
    """How it is set up, in words."""
    needs: tuple[str, ...] = ()
    """Modules that must be there."""
    pool: bool = False
    """A peer that serves in a pool of threads."""
    everywhere: bool = True
    """By default it runs in every cell; else only where the handler does not sleep, which is where it differs."""

    def command(self, python: str, sleep_ms: float) -> list[str]:
        return [python, "-m", *self.arguments, "--sleep", f"{sleep_ms:g}"]

    def missing(self, there: Mapping[str, str]) -> str:
        """What it needs and is not `there`; empty if nothing."""
        return ", ".join(need for need in self.needs if need not in there)


def _ours(model: str, wire: str, settings: str, *more: str, everywhere: bool = False) -> Subject:
    needs = ("h11", "httptools") if wire == "httptools" else ("h11",)
    return Subject(f"{model}/{wire}", ("bench.server", "--model", model, "--http", wire, *more), settings, needs,
                   everywhere=everywhere)


def _application(app: str, wire: str) -> Subject:
    needs = ["h11", *(["httptools"] if wire == "httptools" else []), *(["flask"] if app == "flask" else [])]
    return Subject(f"{app}/{wire}", ("bench.server", "--model", "recycling-park", "--http", wire, "--capacity", "0",
                                     "--app", app), "RecyclingTaskmaster(), all by default", tuple(needs),
                   everywhere=False)


def _peer(name: str, app: str = "wsgi") -> Subject:
    module, _, parser = name.partition("-")
    needs = [module, *([parser] if parser else []), *(["flask"] if app == "flask" else [])]
    pool = name in ("waitress", "cheroot", "gunicorn", "granian")
    return Subject(name if app == "wsgi" else f"{app}/{name}", ("bench.peers_server", name, "--app", app),
                   SETTINGS[name], tuple(needs), pool, everywhere=app == "wsgi")


SUBJECTS = {subject.name: subject for subject in (
    Subject(PROBE, ("bench.speed_probe",), "8 threads on one epoll set, no server: see bench/speed_probe.py"),
    *(_ours("recycling-park", wire, "RecyclingTaskmaster(), all by default", "--capacity", "0", everywhere=True)
      for wire in ("httptools", "h11")),
    *(_ours("pool-park", wire, "PooledTaskmaster(), all by default", "--capacity", "0")
      for wire in ("httptools", "h11")),
    *(_ours("recycling-hold", wire, "room for 128 connections, which is 128 threads", "--capacity", "128")
      for wire in ("httptools", "h11")),
    *(_application("wsgi", wire) for wire in ("httptools", "h11")),
    *(_peer(name) for name in SETTINGS),
    *(_application("flask", wire) for wire in ("httptools", "h11")),
    *(_peer(name, "flask") for name in ("waitress", "gunicorn", "granian")),
)}


def chosen(words: Iterable[str]) -> list[Subject]:
    """Those that `words` stand for: a name, or its beginning up to "/" or "-". ValueError if a word stands for none."""
    names: dict[str, None] = {}
    for word in words:
        found = [name for name in SUBJECTS if name == word or name.startswith((f"{word}/", f"{word}-"))]
        if not found:
            raise ValueError(f"there is no subject {word!r}: choose from {', '.join(SUBJECTS)}")
        names |= dict.fromkeys(found)
    return [SUBJECTS[name] for name in SUBJECTS if name in names]


def installed(python: str) -> dict[str, str]:
    """What of all that subjects need can be imported by `python`, with its version. ValueError if it does not run."""
    modules = sorted({need for subject in SUBJECTS.values() for need in subject.needs})
    program = ("import importlib.metadata as m, importlib.util as u, json, platform\n"
               f"found = {{n: m.version(n) for n in {modules!r} if u.find_spec(n)}}\n"
               "print(json.dumps(found | {'python': platform.python_version()}))")
    try:
        run = subprocess.run([python, "-c", program], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT)
    except subprocess.CalledProcessError as error:
        raise ValueError(f"{python} does not run: {error.stderr.strip()[-200:]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ValueError(f"{python} does not run: {error}") from error
    versions: dict[str, str] = json.loads(run.stdout)
    return versions


def versions(subjects: Sequence[Subject], there: Mapping[str, Any]) -> str:
    """A line for each of the `subjects`: how it is set up, and in which version."""
    return grid([(one.name, " ".join(f"{need} {there[need]}" for need in one.needs), one.settings)
                 for one in subjects])
