"""Who takes part in `bench speed`: our server in several ways, others, and the probe that says how fast the machine is.

Each is one of `bench.subjects`, set up in a certain way, with a name of its own where that is not the usual one. All of
them run in the Python that `--python` names, if what they need can be imported there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from bench.interpreters import ask
from bench.peers.server import PEERS
from bench.subjects import PROBE, WIRES, Setup, Subject, find_subject
from bench.table import grid

__all__ = ["FAST", "INSTALL", "LEAN", "PROBE", "SUBJECTS", "Entrant", "chosen", "versions"]

FAST, LEAN = "recycling-park/httptools", "recycling-park/h11"
INSTALL = ("pip install 'taskmasters[peers]' has all but bjoern and fastwsgi, for which it takes a compiler, and "
           "libev's headers: apt install build-essential libev-dev, then pip install bjoern fastwsgi")
_FOR_DEVELOPMENT = ("werkzeug", "stdlib")


@dataclass(frozen=True)
class Entrant:
    """A subject that takes part, and how."""

    name: str
    subject: Subject
    setup: Setup
    pool: bool = False
    """A peer that serves in a pool of threads."""
    everywhere: bool = True
    """By default it runs in every cell; else only where the handler does not sleep, which is where it differs."""

    def run_by(self, python: str) -> Entrant:
        return replace(self, subject=replace(self.subject, python=python))

    def command(self, sleep_ms: float) -> list[str]:
        return self.subject.command(replace(self.setup, sleep_ms=sleep_ms))

    def missing(self) -> str:
        """What it needs and is not installed; empty if nothing. ValueError if its Python does not run."""
        needs = (*self.subject.needs, *(["flask"] if self.setup.app == "flask" else []))
        return ", ".join(need for need in needs if need not in ask(self.subject.python).packages)


def _entrant(name: str, *, app: str = "", everywhere: bool = False, capacity: int | None = None) -> Entrant:
    pool = name in PEERS and PEERS[name].pool
    return Entrant(f"{app}/{name.rpartition('/')[2]}" if app else name, find_subject(name),
                   Setup(app=app, capacity=capacity), pool, everywhere)


SUBJECTS = {entrant.name: entrant for entrant in (
    _entrant(PROBE, everywhere=True),
    *(_entrant(f"recycling-park/{wire}", everywhere=True) for wire in WIRES[::-1]),
    *(_entrant(f"pool-park/{wire}") for wire in WIRES[::-1]),
    *(_entrant(f"recycling-hold/{wire}", capacity=128) for wire in WIRES[::-1]),
    *(_entrant(f"recycling-park/{wire}", app="wsgi") for wire in WIRES[::-1]),
    *(_entrant(name, everywhere=name not in _FOR_DEVELOPMENT) for name in PEERS),
    *(_entrant(f"recycling-park/{wire}", app="flask") for wire in WIRES[::-1]),
    *(_entrant(name, app="flask") for name in ("waitress", "gunicorn", "granian")),
)}


def chosen(words: Iterable[str]) -> list[Entrant]:
    """Those that `words` stand for: a name, or its beginning up to "/" or "-". ValueError if a word stands for none."""
    names: dict[str, None] = {}
    for word in words:
        found = [name for name in SUBJECTS if name == word or name.startswith((f"{word}/", f"{word}-"))]
        if not found:
            raise ValueError(f"there is no subject {word!r}: choose from {', '.join(SUBJECTS)}")
        names |= dict.fromkeys(found)
    return [SUBJECTS[name] for name in SUBJECTS if name in names]


def versions(subjects: Sequence[Entrant]) -> str:
    """A line for each of the `subjects`: how it is set up, and in which version."""
    return grid([(one.name, one.subject.versions(), one.subject.spelled(one.setup)) for one in subjects])
