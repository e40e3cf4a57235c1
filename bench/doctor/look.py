"""`python -m bench doctor`: what is there, what is missing, how quiet this machine is, and what it therefore can show.

Every line begins with OK, NOTE (to know, when figures are read) or LACKS (with the fix). What can be read is printed at
once; then come three seconds of listening to the machine, whose progress goes to standard error. The exit code is 0
unless not even `make compare` could run.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict

from bench import machine
from bench.children import running
from bench.doctor.facts import gather
from bench.doctor.noise import PARTS, Quiet
from bench.doctor.says import Line, of_facts, of_quiet
from bench.progress import Progress

__all__ = ["listen", "run_doctor"]

_SECONDS = 3.0


def run_doctor(options: argparse.Namespace, seconds: float = _SECONDS) -> int:
    """Look, listen for `seconds`, and print; 1 if `make compare` could not run. Keeps all in options.json, if given."""
    lines = _shown([Line("OK", machine.one_line())])
    facts = gather()
    lines += _shown(of_facts(facts))
    quiet = listen(facts.cores, seconds)
    lines += _shown(of_quiet(facts, quiet))
    fatal = any(line.fatal for line in lines)
    lines += _shown([Line("LACKS", "make compare cannot run here, for what is said above", fatal=True) if fatal else
                     Line("OK", "make compare can run here")])
    if options.json:
        kept = {"facts": asdict(facts), "quiet": asdict(quiet), "lines": [asdict(line) for line in lines]}
        options.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return int(fatal)


def listen(cores: Sequence[int], seconds: float) -> Quiet:
    """Run `bench.doctor.noise`. ChildError if it fails."""
    command = [sys.executable, "-m", "bench.doctor.noise", ",".join(map(str, cores)), f"{seconds:g}"]
    with redirect_stdout(sys.stderr):
        progress = Progress(len(PARTS), seconds / len(PARTS))
        with running(command) as child:
            part = json.loads(child.line(60))
            for _ in PARTS:
                progress.begin(part)
                ended, part = part, json.loads(child.line(60 + seconds))
                progress.end(ended)
        progress.clear()
    return Quiet(**part)


def _shown(lines: Iterable[Line]) -> list[Line]:
    """Print them as they come, and give them back."""
    shown = []
    for line in lines:
        print(textwrap.fill(str(line), 118, subsequent_indent=" " * 7, break_on_hyphens=False), flush=True)
        shown.append(line)
    return shown
