"""Child processes: started on a core of their own, and ended by their number whatever happens.

A child is a session of its own, so that Ctrl-C in the terminal reaches the parent only, which then ends its children in
order. Should the parent itself be killed, its servers see their standard input close, and loads end by their own time.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

__all__ = ["ROOT", "Child", "ChildError", "cores", "running"]

ROOT = Path(__file__).resolve().parent.parent
"""The checkout, which children import from, wherever they are started."""


class ChildError(Exception):
    """A child process did not do what it was started for. The text says what it said itself."""


def cores() -> tuple[int | None, int | None]:
    """A core for the server and another for the load; None and None, which is anywhere, if there are not two."""
    usable = sorted(os.sched_getaffinity(0))
    return (usable[0], usable[1]) if len(usable) > 1 else (None, None)


class Child:
    """A running child process with pipes to it. Made by `running`."""

    def __init__(self, process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
        self.pid = process.pid
        self._process = process
        self._log = log
        self._selector = selectors.PollSelector()
        assert process.stdout is not None
        self._selector.register(process.stdout, selectors.EVENT_READ)
        self._received = b""

    def line(self, timeout: float, meanwhile: Callable[[], None] | None = None) -> str:
        """The next line it prints, without the line end. ChildError if none comes within `timeout` seconds.

        meanwhile: called about 20 times a second while it waits.
        """
        end = time.monotonic() + timeout
        while b"\n" not in self._received:
            if not self._read(end, meanwhile):
                raise ChildError(f"{self._command()} ended too soon{self.complaint()}")
        line, _, self._received = self._received.partition(b"\n")
        return line.decode()

    def rest(self, timeout: float, meanwhile: Callable[[], None] | None = None) -> str:
        """Everything it prints up to its end. ChildError if that does not come within `timeout` seconds."""
        end = time.monotonic() + timeout
        while self._read(end, meanwhile):
            pass
        return self._received.decode()

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def close_input(self) -> None:
        """Close its standard input, which is how a server here is told to end."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def complaint(self) -> str:
        """The last line it wrote to standard error, which tells most, behind a colon; empty if it wrote nothing."""
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").split("\n")
        return next((f": {line[:400]}" for line in reversed(lines) if line.strip()), "")

    def _read(self, end: float, meanwhile: Callable[[], None] | None) -> bool:
        """Wait for more output; False at its end. ChildError past `end`."""
        left = end - time.monotonic()
        if left <= 0:
            raise ChildError(f"{self._command()} took too long{self.complaint()}")
        if self._selector.select(min(left, 0.05) if meanwhile else left):
            assert self._process.stdout is not None
            data = os.read(self._process.stdout.fileno(), 65536)
            self._received += data
            return bool(data)
        if meanwhile:
            meanwhile()
        return True

    def _command(self) -> str:
        arguments = self._process.args
        assert isinstance(arguments, list)
        return str(arguments[2] if arguments[0] == sys.executable else arguments[0])


@contextmanager
def running(arguments: list[str], core: int | None = None) -> Iterator[Child]:
    """Run `arguments` on `core` (None: anywhere) for the length of a with block; then it is ended, if it has not.

    Arguments that begin with "bench." are a module of ours, run by this Python.
    """
    if arguments[0].startswith("bench."):
        arguments = [sys.executable, "-m", *arguments]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryFile() as log:
        before = os.sched_getaffinity(0)
        if core is not None:
            os.sched_setaffinity(0, {core})  # a child inherits it, with every thread it will have
        try:
            process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                                       start_new_session=True, env=os.environ | {"PYTHONPATH": path})
        finally:
            os.sched_setaffinity(0, before)
        try:
            yield Child(process, log)
        finally:
            process.kill()  # does nothing if it has ended
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                try:
                    pipe.close()
                except BrokenPipeError:
                    pass
            process.wait()
