"""The processes: servers, the load and HAProxy, each as its user starts it."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests import proxies

__all__ = ["CROWD", "PATIENCE", "ROOT", "HAProxy", "LoadProcess", "LoadResult", "Server", "haproxy", "listen_socket",
           "model_options", "taken_over", "wait_until"]

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 60.0
"""Seconds for whatever must happen; a failure, if it does not."""
CROWD = 100
"""Threads of a server, and clients that want them all."""


def model_options(model: str) -> list[str]:
    return ["--taskmaster", model, *([] if model == "single" else ["--threads", str(CROWD)])]


class Server:
    """A `taskmaster serve tests.restarts.app:app` that listens. Its log is kept.

    options: of the command. before: a command that runs it, such as ip-netns(8). inherits: descriptors to pass on.

    RuntimeError, with its log, if it does not listen.
    """

    def __init__(self, *options: str, before: Sequence[str] = (), environ: Mapping[str, str] | None = None,
                 inherits: Sequence[int] = ()) -> None:
        command = [*before, sys.executable, "-m", "acceptor", "serve", "tests.restarts.app:app", *options]
        self._process = subprocess.Popen(command, cwd=ROOT, env=os.environ | (environ or {}), stdin=subprocess.DEVNULL,
                                         stderr=subprocess.PIPE, pass_fds=inherits, text=True)
        self.pid = self._process.pid
        self._lines: list[str] = []
        self._listens = threading.Event()
        self._reading = threading.Thread(target=self._read)
        self._reading.start()
        if not self._listens.wait(PATIENCE) or "listening on" not in self.log:
            self.kill()
            raise RuntimeError(f"{' '.join(command)} does not listen: {self.log}")

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr:
            for line in self._process.stderr:
                self._lines.append(line)
                if "listening on" in line:
                    self._listens.set()
        self._listens.set()  # it has ended

    @property
    def log(self) -> str:
        return "".join(self._lines)

    @property
    def errors(self) -> list[str]:
        """What it has logged as errors."""
        return [line.strip() for line in self._lines if re.search(r"\] (ERROR|CRITICAL) ", line)]

    @property
    def port(self) -> int:
        found = re.search(r"listening on http://[^ ,]*:(\d+)", self.log)
        assert found, self.log
        return int(found[1])

    def count(self, what: str) -> int:
        """How many entries /proc has: "fd", descriptors; "task", threads."""
        return len(list(Path(f"/proc/{self.pid}/{what}").iterdir()))

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        code = self._process.wait(PATIENCE)
        self._reading.join(PATIENCE)
        return code

    def stop(self) -> None:
        """TERM, and wait. RuntimeError if its exit code is not 0, or if it has logged errors."""
        self.signal(signal.SIGTERM)
        if (code := self.wait()) or self.errors:
            raise RuntimeError(f"exit code {code}: {self.log}")

    def kill(self) -> None:
        """If it still runs."""
        self._process.kill()
        self.wait()


@dataclass(frozen=True)
class LoadResult:
    outcomes: dict[str, int]
    """"ok", or what went wrong."""
    crossed: dict[str, int]
    """By method; see `tests.restarts.load`."""
    p50: float
    """Seconds."""
    p99: float
    longest: float


class LoadProcess:
    """`python -m tests.restarts.load PORT COUNT RATE`, with `options`, running; `before` as for a Server."""

    def __init__(self, port: int, count: int, rate: float, *options: str, before: Sequence[str] = ()) -> None:
        command = [*before, sys.executable, "-m", "tests.restarts.load", str(port), str(count), str(rate), *options]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.count = count
        self.done = 0
        """Requests that are over, a second ago."""
        self._result: LoadResult | None = None
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout:
            for line in self._process.stdout:
                if line.startswith("{"):
                    self._result = LoadResult(**json.loads(line))
                else:
                    self.done = int(line)

    def result(self) -> LoadResult:
        """Let it end, once it has made all its requests. RuntimeError if it fails."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10 * PATIENCE)
        self._reading.join(PATIENCE)
        if self._result is None:
            raise RuntimeError(f"the load has ended with status {self._process.returncode}, and without a result")
        return self._result

    def kill(self) -> None:
        """If it still runs."""
        with self._process:  # which closes the pipe, and waits
            self._process.kill()
        self._reading.join(PATIENCE)


@contextlib.contextmanager
def listen_socket(path: Path | None = None) -> Iterator[socket.socket]:
    """What systemd holds for a service with a socket unit: it listens, and nobody accepts here.

    path: a UNIX socket there; None: TCP, on a port that the system chooses.
    """
    with socket.socket(socket.AF_INET if path is None else socket.AF_UNIX) as sock:
        sock.bind(("127.0.0.1", 0) if path is None else str(path))
        sock.listen(4096)
        yield sock


PASS_ON = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


def taken_over(sock: socket.socket, *options: str) -> Server:
    """A server that gets `sock` as systemd passes it on (sd_listen_fds(3)): as descriptor 3, and two variables."""
    return Server("--bind", "systemd", *options, inherits=[sock.fileno()],
                  before=[sys.executable, "-c", PASS_ON, str(sock.fileno())])


class HAProxy:
    """A HAProxy that runs, asked over its control socket."""

    def __init__(self, control: Path) -> None:
        self._control = control

    def _rows(self) -> list[dict[str, str]]:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(self._control))
            sock.sendall(b"show stat\n")
            with sock.makefile("r", encoding="ascii") as answer:
                return list(csv.DictReader(answer.read().removeprefix("# ").splitlines()))

    def is_up(self, *servers: str) -> bool:
        states = {row["svname"]: row["status"] for row in self._rows()}
        return all(states[server].startswith("UP") for server in servers)

    @property
    def repaired(self) -> int:
        """Requests that met a connection that failed, and were sent elsewhere."""
        return sum(int(row["wretr"]) + int(row["wredis"]) for row in self._rows() if row["svname"] == "BACKEND")


@contextlib.contextmanager
def haproxy(config: str, before: Sequence[str] = ()) -> Iterator[HAProxy]:
    """HAProxy in the foreground with `config`, and a control socket."""
    with tempfile.TemporaryDirectory() as name:
        path, control = Path(name, "haproxy.cfg"), Path(name, "control")
        path.write_text(f"{config}\nglobal\n    stats socket {control} mode 600\n")
        with proxies.foreground([*before, "haproxy", "-db", "-f", str(path)], control.exists, PATIENCE):
            yield HAProxy(control)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """As that of `tests.proxies`, with the patience of this lab."""
    proxies.wait_until(condition, what, PATIENCE)
