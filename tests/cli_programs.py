"""The command `taskmaster serve` as a real process, for the tests: what it says is read as it comes."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.clients import PATIENCE, RawClient, request

__all__ = ["ROOT", "Program", "clean_environ", "get", "run", "running", "wait_for_content"]

ROOT = Path(__file__).parent.parent


def clean_environ(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process' environment without what the command would read, and with `extra`."""
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith(("TASKMASTER_", "_TASKMASTER_"))
            and name not in ("PORT", "FORWARDED_ALLOW_IPS", "WEB_CONCURRENCY")}
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"} | dict(extra or {})


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "acceptor", *arguments]


def run(directory: Path, *arguments: str, environ: Mapping[str, str] | None = None
        ) -> subprocess.CompletedProcess[str]:
    """Run `taskmaster` to its end, in `directory`."""
    return subprocess.run(command(*arguments), cwd=directory, env=clean_environ(environ), timeout=60, check=False,
                          capture_output=True, text=True)


class Program:
    """`taskmaster serve`, running. Its standard error is read by a thread; `wait_for` looks for lines in it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said = ""
        """What has been looked through so far."""
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The next line on standard error that `pattern` is found in."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                line = None
            assert line is not None, f"waited in vain for {pattern!r}; it has said:\n{self.said}"
            self.said += line
            if found := re.search(pattern, line):
                return found

    @property
    def port(self) -> int:
        """Waits until it listens, and tells the (first) port."""
        return int(self.wait_for(r"listening on https?://[^ ]*?:(\d+)")[1])

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        """Wait for its end: the exit code."""
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        while (line := self._lines.get(timeout=PATIENCE)) is not None:
            self.said += line
        return code

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.end()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._lines.put(line)
        self._lines.put(None)


@contextmanager
def running(directory: Path, *arguments: str, environ: Mapping[str, str] | None = None,
            pass_fds: tuple[int, ...] = ()) -> Iterator[Program]:
    """Run `taskmaster serve` in `directory`. At the end it must have ended, or it is killed, and the test fails."""
    process = subprocess.Popen(command("serve", *arguments), cwd=directory, env=clean_environ(environ), text=True,
                               stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=pass_fds,
                               start_new_session=True)
    program = Program(process)
    try:
        yield program
        assert process.poll() is not None, "it still runs"
    finally:
        with contextlib.suppress(ProcessLookupError):  # with it whoever it has started, and left behind
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)
        program._reader.join(PATIENCE)
        assert process.stderr is not None
        process.stderr.close()


def get(port: int, target: str = "/") -> bytes:
    """The body of the answer, which must be 200."""
    with RawClient.connect(port) as client:
        client.send(request(target))
        response = client.read_response()
    assert response.status == 200, response
    return response.body


def wait_for_content(path: Path, text: str, times: int = 1) -> None:
    """Wait until `text` is in the file at `path` so many times."""
    end = time.monotonic() + PATIENCE
    while not (path.exists() and path.read_text().count(text) >= times):
        assert time.monotonic() < end, f"waited in vain for {text!r} ({times} times) in {path.name}"
        time.sleep(0.01)
