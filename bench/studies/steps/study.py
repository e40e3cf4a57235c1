"""`python -m bench steps`: the steps of a request one by one, without a network. `bench.studies.steps.operations` has
them.

Time is the least of several repeats: what disturbs makes it longer, never shorter. With --instructions what callgrind
counts, too: that is the same on a busy machine, so a change of one per cent can be seen, though not every instruction
takes as long as another. Each operation has a short run and a long one; the difference counts, so that what is no part
of the operation cancels.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import machine
from bench.children import ChildError, cores, running
from bench.studies.steps.operations import OPERATIONS, runs_of
from bench.table import grid

__all__ = ["NO_VALGRIND", "OPERATIONS_FILE", "instructions", "matching", "run_steps", "totals"]

OPERATIONS_FILE = Path(__file__).with_name("operations.py")
NO_VALGRIND = ("valgrind is not installed, which counts instructions. Debian has it: apt install valgrind. Or leave "
               "out --instructions")
_PATIENCE = 600.0
"""Seconds."""


def run_steps(options: argparse.Namespace) -> int:
    """Run what the command line asks for; 1 if some operation could not be had, 2 if valgrind is missing."""
    if options.instructions and not shutil.which("valgrind"):
        print(NO_VALGRIND)
        return 2
    names = matching(options.only)
    print(f"{machine.one_line()}\n", flush=True)
    times = _times(options.python, names)
    counts: dict[str, float] = {}
    if options.instructions:
        there = [name for name in names if not isinstance(times[name], str)]
        print(f"counting {len(there)} operations...", flush=True)
        counts = instructions([options.python, str(OPERATIONS_FILE)], there)
    rows = [("operation", "us", "instructions", "", "")]
    for name in names:
        taken = times[name]
        rows.append((name, "-" if isinstance(taken, str) else f"{taken:.2f}",
                     f"{counts[name]:,.0f}" if name in counts else "", "", taken if isinstance(taken, str) else ""))
    print(grid(rows))
    if options.json:
        kept = {"machine": machine.describe([]), "us": {name: times[name] for name in names}, "instructions": counts}
        options.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return int(any(isinstance(times[name], str) for name in names))


def matching(words: Iterable[str]) -> list[str]:
    """The operations whose name has one of `words` in it; all, if there are none. ValueError if a word is in none."""
    words = list(words)
    for word in words:
        if not any(word in name for name in OPERATIONS):
            raise ValueError(f"no operation has {word!r} in its name: choose from {'; '.join(OPERATIONS)}")
    return [name for name in OPERATIONS if not words or any(word in name for word in words)]


def totals(folder: Path) -> list[int]:
    """The instructions of each part that callgrind has dumped into `folder`, in their order. ValueError for others."""
    found: list[int] = []
    while (file := folder / f"out.{len(found) + 1}").exists():
        total = re.search(r"^totals: (\d+)$", file.read_text(errors="replace"), re.MULTILINE)
        if total is None:
            raise ValueError(f"{file} is not what callgrind dumps")
        found.append(int(total[1]))
    return found


def _times(python: str, names: list[str]) -> dict[str, float | str]:
    with running([python, str(OPERATIONS_FILE), *names], cores()[0]) as child:
        times: dict[str, float | str] = json.loads(child.line(_PATIENCE))
    return times


def instructions(program: list[str], names: list[str]) -> dict[str, float]:
    """Of each operation, by callgrind, which dumps what it has counted at each mark. program: `OPERATIONS_FILE`, and
    what runs it. ChildError if valgrind does not do it."""
    with TemporaryDirectory(prefix="bench-steps-") as folder:
        # Without randomised hashes two runs do the same.
        command = ["env", "PYTHONHASHSEED=0", "valgrind", "-q", "--tool=callgrind", "--dump-before=getpriority",
                   f"--callgrind-out-file={folder}/out", *program, "--mark", *names]
        with running(command) as child:
            child.rest(_PATIENCE)
            parts = totals(Path(folder))
            if len(parts) != 3 * len(names):
                raise ChildError(f"valgrind has told of {len(parts)} parts, not {3 * len(names)}{child.complaint()}")
    counts = {}
    for name, short, long in zip(names, parts[1::3], parts[2::3], strict=True):  # the first: all that came before
        few, many = runs_of(name)
        counts[name] = (long - short) / (many - few) / OPERATIONS[name].count
    return counts
