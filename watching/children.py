"""A process of our own beside this one, that cannot outlive it: it reads its standard input, and ends where that does.

That holds whatever ends this process, SIGKILL included, for the kernel closes the pipe. What it says goes to its
standard output, a line of JSON each. It is in a process group of its own, so that a Ctrl+C in the terminal is this
process' business alone.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["Child"]

_PROGRAM = "import sys; sys.path += eval(sys.argv.pop(1)); from {module} import main; main()"
"""Where this process has found the modules the child does too; behind its own, for it has the same Python. Not by -m,
which would look into the working directory first (-P: nor does it)."""
_PATIENCE = 3.0
"""Seconds for it to end by itself, before it is killed."""


class Child:
    """`module`.main() in a Python of its own. Owned by the thread that makes it.

    name: what to call it.
    heard: called with each line that it says, and `ended` with this once it has ended, on a thread of its own.
    """

    def __init__(self, module: str, name: str, *, heard: Callable[[Child, Any], object],
                 ended: Callable[[Child], object]) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _PROGRAM.format(module=module), repr([path for path in sys.path if path])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0)
        self._heard = heard
        self._ended = ended
        self._listener = threading.Thread(target=self._listen, name=f"child-{name}", daemon=True)
        self._listener.start()

    @property
    def process(self) -> int:
        """Its number."""
        return self._process.pid

    @property
    def end(self) -> str:
        """How it has ended, in words."""
        code = self._process.returncode
        if code is None:
            return "it runs"
        return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"

    def say(self, what: dict[str, Any]) -> None:
        """A line to its standard input; nothing if it has ended."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(what).encode() + b"\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):  # it has ended; or this has closed it
            pass

    def let_go(self) -> None:
        """Tell it to end, and do not wait."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass

    def kill(self) -> None:
        self._process.kill()

    def join(self) -> None:
        """Wait until it has ended; kill it if that takes too long."""
        self.let_go()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._heard(self, json.loads(line))
        self._process.wait()
        self._ended(self)
