"""The original: Hunchentoot, and hunchentoot-recycling-taskmaster, in SBCL; bench/lisp_server.lisp is the server."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["SYSTEMS", "Answer", "ask", "command"]

SYSTEMS = {"hunchentoot": "hunchentoot", "hunchentoot-recycling": "hunchentoot-recycling-taskmaster"}
"""Names of ours, and of ASDF."""
_INSTALL = {
    "hunchentoot": "apt install sbcl cl-hunchentoot",
    "hunchentoot-recycling": "clone github.com/y2q-actionman/hunchentoot-recycling-taskmaster into ~/common-lisp/, "
                             "where ASDF looks, after apt install sbcl cl-hunchentoot; it is made for "
                             "Hunchentoot 1.3 and bordeaux-threads 0.9: clone what Debian has older beside it",
}
_FIRST_TIME_S = 300
"""Compiling all that Hunchentoot needs takes half a minute, once: ASDF keeps it in ~/.cache/common-lisp."""


@dataclass(frozen=True)
class Answer:
    """Whether a server can be loaded."""

    versions: str = ""
    missing: str = ""
    """Why not, and what installs it; empty if it can."""


def command(name: str, *options: str) -> list[str]:
    """The program for the server called `name`."""
    return ["sbcl", "--noinform", "--end-runtime-options", "--no-sysinit", "--no-userinit", "--disable-debugger",
            "--load", str(Path(__file__).with_name("lisp_server.lisp")), "--end-toplevel-options",
            "--system", SYSTEMS[name], *options]


@cache
def ask(name: str) -> Answer:
    """Load it, once, which takes a second, and half a minute the first time on a machine."""
    if not shutil.which("sbcl"):
        return Answer(missing=f"sbcl is not installed: {_INSTALL[name]}")
    try:
        run = subprocess.run(command(name, "--check"), capture_output=True, text=True, errors="replace",
                             timeout=_FIRST_TIME_S, stdin=subprocess.DEVNULL, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Answer(missing=f"sbcl does not load it: {error}")
    if run.returncode:
        said = run.stderr.strip().rpartition("\n")[2] or "it said nothing"
        return Answer(missing=f"sbcl does not load it: {said[:300]}. To get it: {_INSTALL[name]}")
    return Answer(versions=run.stdout.strip())
