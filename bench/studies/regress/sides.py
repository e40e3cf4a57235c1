"""The two sides of `bench regress`: copies of the code of a commit, of the working tree, or of another directory.

A copy, so that files edited meanwhile change nothing; by git-archive(1), which leaves nothing behind in the repository,
whatever becomes of this process. Each side runs its own code, server program included: a program that `command` starts
finds no module of this project but in its copy, whatever is on the path, installed, or in the current directory.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.children import ROOT

__all__ = ["WORKING_TREE", "Side", "SideError", "copies"]

WORKING_TREE = "working tree"
"""As it is now: what git tracks, and what it does not ignore."""
_PACKAGES = ("acceptor", "taskmaster", "handlers", "bench")
_LAUNCH = f"""\
import importlib.machinery, os, runpy, sys

root, program = sys.argv[1:3]
sys.path[0] = root

class Own:
    # Where a module of ours is missing, an editable install would give that of another checkout.
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] not in {_PACKAGES!r}:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.origin is None or os.path.commonpath([root, spec.origin]) != root:
            raise ModuleNotFoundError(f"there is no {{name}} in {{root}}", name=name)
        return spec

sys.meta_path.insert(0, Own)
del sys.argv[:2]
if program.endswith(".py"):
    runpy.run_path(program, run_name="__main__")
else:
    runpy.run_module(program, run_name="__main__", alter_sys=True)
"""


class SideError(Exception):
    """There is no such commit, or no such code. The text says what to give instead."""


@dataclass(frozen=True)
class Side:
    """One copy."""

    name: str
    """As it was asked for, with the commit if it is one."""
    root: Path

    def command(self, program: str, *arguments: str) -> list[str]:
        """Run `program`, a module or the path of a file, on this side's code."""
        return [sys.executable, "-c", _LAUNCH, str(self.root), program, *arguments]


@contextmanager
def copies(*asked: str) -> Iterator[list[Side]]:
    """A side for each of `asked`, in a temporary directory that is gone afterwards, also after Ctrl-C.

    What is asked for is a commit, in any of git's ways, WORKING_TREE, or a directory with a checkout. SideError.
    """
    with TemporaryDirectory(prefix="bench-regress-") as folder:
        sides = []
        for number, name in enumerate(asked):
            root = Path(os.path.realpath(folder)) / "ab"[number]
            root.mkdir()
            sides.append(Side(_copy(name, root), root))
            if missing := [each for each in _PACKAGES if not (root / each / "__init__.py").is_file()]:
                raise SideError(f"{name} has no package {missing[0]}: it is no checkout of this project, or too old")
        yield sides


def _copy(asked: str, root: Path) -> str:
    """Put the code that is asked for into `root`; its name."""
    if asked == WORKING_TREE:
        _copy_files(ROOT, root)
        return asked
    if os.sep in asked and Path(asked).is_dir():
        _copy_files(Path(asked), root)
        return asked
    commit = _git("rev-parse", "--verify", "--quiet", "--short=12", f"{asked}^{{commit}}").decode().strip()
    there = _git("ls-tree", "--name-only", commit, "--", *_PACKAGES).decode().split()
    with zipfile.ZipFile(io.BytesIO(_git("archive", "--format=zip", commit, "--", *there))) as archive:
        archive.extractall(root)
    return asked if asked == commit else f"{asked} ({commit})"


def _copy_files(checkout: Path, root: Path) -> None:
    for package in _PACKAGES:
        if (checkout / package).is_dir():
            shutil.copytree(checkout / package, root / package,
                            ignore=shutil.ignore_patterns("__pycache__", "results"))


def _git(*arguments: str) -> bytes:
    try:
        return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, timeout=60, check=True).stdout
    except FileNotFoundError:
        raise SideError("git is not installed, and commits are its: apt install git") from None
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()
        raise SideError(f"git {' '.join(arguments)}: {said or 'there is no such commit'}; give a commit, such as "
                        "HEAD~1, or a directory, with a / in it") from None
