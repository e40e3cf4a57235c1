"""The Pythons that run servers: which version each is, and what it can import. Each is asked once, by one process."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from bench.peers.server import PEERS

__all__ = ["MODULES", "Interpreter", "ask", "find", "know", "known"]

MODULES = tuple(sorted({"h11", "httptools", "flask"}.union(*(peer.needs for peer in PEERS.values()))))
"""All that a subject may need. Each is called as its package is, but for underscores."""
_OLDEST = (3, 11)
_PROGRAM = f"""\
import importlib.metadata, importlib.util, json, platform, sys, sysconfig
found = {{}}
for name in {MODULES!r}:
    if importlib.util.find_spec(name):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = ""
print(json.dumps([platform.python_version(), list(sys.version_info[:2]),
                  bool(sysconfig.get_config_var("Py_GIL_DISABLED")), found]))
"""
_known: dict[str, str] = {}
"""Paths by tags. Used by the main thread only."""


@dataclass(frozen=True)
class Interpreter:
    """What one has answered."""

    path: str
    version: str
    """"3.13.5"."""
    number: tuple[int, int]
    free_threaded: bool
    """Built to run without a GIL: PEP 703."""
    packages: Mapping[str, str]
    """Of MODULES those that it can import, with their versions; empty where that is not known."""

    @property
    def tag(self) -> str:
        """Behind the @ of a subject's name: "3.13", or "3.13t" for a free-threaded one, as its command is called."""
        return f"{self.number[0]}.{self.number[1]}{'t' if self.free_threaded else ''}"

    def missing(self, modules: tuple[str, ...]) -> str:
        """Which of the `modules` it lacks, and what installs them; empty if none."""
        if self.number < _OLDEST:
            return f"Python {_OLDEST[0]}.{_OLDEST[1]} or newer is needed, and {self.path} is {self.version}"
        absent = [module for module in modules if module not in self.packages]
        if not absent:
            return ""
        builds = [peer.build for peer in PEERS.values() if peer.build and {*peer.needs} & {*absent}]
        return (f"{' and '.join(absent)} not installed: "
                + "".join(f"{build}, and then " for build in builds[:1])
                + f"{self.path} -m pip install {' '.join(absent)}")


@cache
def ask(path: str) -> Interpreter:
    """The interpreter at `path`. Takes a tenth of a second, once. ValueError if it does not run."""
    try:
        run = subprocess.run([path, "-c", _PROGRAM], capture_output=True, text=True, timeout=60, check=True,
                             stdin=subprocess.DEVNULL)
        version, number, free_threaded, packages = json.loads(run.stdout)
    except subprocess.CalledProcessError as error:
        raise ValueError(f"{path} does not run: {error.stderr.strip()[-200:]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ValueError(f"{path} does not run: {error}") from error
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is no Python: it answers {run.stdout[:80]!r}") from error
    return Interpreter(path, version, (number[0], number[1]), free_threaded, packages)


def know(path: str) -> str:
    """The tag of the interpreter at `path`, by which `find` finds it from now on.

    ValueError if it does not run, or if another one is known by this tag.
    """
    tag = ask(path).tag
    if _known.setdefault(tag, path) != path:
        raise ValueError(f"{_known[tag]} and {path} are both Python {tag}, and no table could tell them apart: "
                         "compare them one after the other")
    return tag


def known() -> dict[str, str]:
    """The paths of all that are known, by their tags."""
    return dict(_known)


def find(tag: str) -> str:
    """The path of the interpreter called `tag`: of one that is known, this one, or that on PATH as "python3.13t".

    Empty if there is none.
    """
    if tag in _known:
        return _known[tag]
    for path in (sys.executable, shutil.which(f"python{tag}") or ""):
        try:
            if path and ask(path).tag == tag:
                return path
        except ValueError:
            pass
    return ""
