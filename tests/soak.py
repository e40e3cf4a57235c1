"""Random clients, kills and resizes, with every model, and what is left of the server afterwards. Run from a checkout.

    python -m tests.soak                                  nine models, half a minute each
    python -m tests.soak --minutes 10 --model prefork     ten minutes; --model may be repeated

A command, and not collected by pytest, because it needs minutes. The server is a process of its own (soak_server),
looked at from outside: its descriptors, processes and memory in /proc, its log, and what its taskmaster has counted
before and after. Meanwhile there are:

    8 normal clients   half of them with keep-alive; every answer is checked, as with all that are good
    idle clients       which keep their connection and ask now and then: 200 where they are parked
    2 that pipeline    up to 20 requests at once
    hostile visitors   200 a second (tests/garbage.py)

Every few seconds the taskmaster is resized, or, if it has worker processes, one of them is killed (-9), or all are
replaced. At the end nothing may be left, and no good client have failed, but for what a killed process held: see
`problems`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from bench.processes import resident_bytes, tree
from tests.client_programs import Normal
from tests.garbage import Garbage
from tests.soak_clients import Good, Idle, Pipelining
from tests.soak_server import KEEP_ALIVE, MODELS

PATIENCE = 30.0
"""Seconds after the load in which the server must have rid itself of everybody, and then as many to be as it was."""
DISTURBED = (3.0, 9.0)
"""Seconds between two disturbances."""
ONE_ARENA = {"MALLOC_ARENA_MAX": "1", "PYTHONMALLOC": "malloc"}
"""mallopt(3). With several, what threads have freed that come and go is not all used again: it looks like a leak. So
does what Python's own allocator keeps, an arena for each small object in it that stays, such as the name of a header in
a cache: from 35.1 to 38.3 MiB with it, from 35.5 to 36.5 without, in the same five minutes."""
FLAT, MORE = 1.05, 2.0
"""Memory in use after the run by that after half of it, at most; so many MiB more are no leak either."""
MORE_OF_WORKERS = 8.0
"""MiB for each of several processes, which have no malloc_trim(3), and may have been young after half of the run."""
_KILLED = re.compile(r"^ERROR taskmaster worker process \d+ was killed by SIGKILL.*connections lost: (\d+).*$",
                     re.MULTILINE)


class Server:
    """The server's process, seen from outside."""

    def __init__(self, model: str, seed: int, log: IO[bytes]) -> None:
        self._process = subprocess.Popen([sys.executable, "-m", "tests.soak_server", model, str(seed)],
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                                         env=os.environ | ONE_ARENA)
        self._log = log
        self.port = int(self._read())

    def _read(self) -> str:
        assert self._process.stdout is not None
        if not (told := self._process.stdout.readline()):
            self._log.seek(0)
            raise RuntimeError(f"the server has ended: {self._log.read()[-2000:].decode('latin-1')}")
        return told

    def state(self, command: str = "") -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        told = json.loads(self._read())
        return dict(told, descriptors=sum(map(_descriptors, tree(self._process.pid))))

    def memory(self) -> float:
        """MiB resident, of each process."""
        pids = tree(self._process.pid)
        return resident_bytes(pids) / len(pids) / 1024 ** 2

    def floor(self) -> float:
        """MiB resident that are in use."""
        self.state("trim")
        return self.memory()

    def stop(self) -> dict[str, Any]:
        """Its last words, and `left`: processes that it has left behind."""
        assert self._process.stdin is not None
        pids = tree(self._process.pid)
        self._process.stdin.close()
        told = json.loads(self._read())
        self._process.wait()
        return dict(told, left=[pid for pid in pids if Path(f"/proc/{pid}/exe").exists()])

    def kill(self) -> None:
        with self._process:  # which closes the pipes, and waits
            self._process.kill()


def _descriptors(pid: int) -> int:
    try:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:  # it has ended
        return 0


class Clients:
    """All of them, running from `start` on."""

    def __init__(self, port: int, model: str, rate: float, seconds: float, seed: int) -> None:
        self.normal = Normal(port)
        self.garbage = Garbage(port, rate, seconds, MODELS[model].slow, seed)
        self._others: list[Good] = [Idle(port, MODELS[model].idle, KEEP_ALIVE, seed), Pipelining(port, seed),
                                    Pipelining(port, seed + 1)]

    def start(self) -> None:
        for thread in (*self.normal.threads, *self._others, self.garbage):
            thread.start()

    def end(self) -> None:
        """Have the good ones end: they finish what they do, and leave."""
        self.normal.over.set()
        for good in self._others:
            good.over.set()

    def join(self) -> None:
        threads: list[threading.Thread] = [*self.normal.threads, *self._others]
        for thread in threads:
            thread.join()
        self.garbage.finish(PATIENCE)

    @property
    def answers(self) -> int:
        return len(self.normal.seconds) + sum(good.answers for good in self._others)

    @property
    def crossed(self) -> int:
        return self.normal.crossed + sum(good.crossed for good in self._others)

    @property
    def failures(self) -> Counter[str]:
        return sum((good.failures for good in self._others), Counter(self.normal.failures))


def problems(clients: Clients, before: dict[str, Any], after: dict[str, Any], end: dict[str, Any],
             floors: Sequence[float], log: str) -> list[str]:
    """Everything that is not as it must be after a run."""
    _, half, full = floors
    kills = [int(lost) for lost in _KILLED.findall(log)]
    more = MORE_OF_WORKERS if before["processes"] else MORE
    rest = _KILLED.sub("", log)
    checks = [
        (clients.failures.total() <= sum(kills),
         (f"good clients failed: {dict(clients.failures)}; {len(kills)} worker processes were killed, and held "
          f"{sum(kills)} connections")),
        (bool(clients.normal.seconds), "no normal client was answered"),
        # What a killed process had sent, the kernel keeps for a client that reads nothing, and so learns of nothing.
        (not clients.garbage.open or bool(kills), f"{clients.garbage.open} hostile connections still open"),
        *((after[key] == before[key], f"{key}: {before[key]} -> {after[key]}")
          for key in ("connections", "states", "threads", "processes", "parked", "queued", "descriptors")),
        (after["balanced"] and after["accepted"] == after["served"] + after["refused"],
         f"accepted is not served + refused: {after}"),
        (not after["refused"], f"{after['refused']} were refused"),
        (full <= max(half * FLAT, half + more), f"memory grew from {half:.1f} to {full:.1f} MiB in the second half"),
        (not any(word in rest for word in ("ERROR", "CRITICAL", "Traceback", "bug")), f"in the log: {rest[:1000]}"),
        (not end["lost"] and end["threads"] == 1 and not end["states"] and not end["left"] and end["balanced"],
         f"stop() left something: {end}"),
    ]
    return [text for good, text in checks if not good]


def soak(model: str, seconds: float, rate: float, seed: int) -> list[str]:
    """One model's run: its row is printed; what is wrong is returned."""
    rng = random.Random(seed)
    with tempfile.TemporaryFile() as log, contextlib.ExitStack() as stack:
        server = Server(model, seed, log)
        stack.callback(server.kill)
        before = server.state()
        clients = Clients(server.port, model, rate, seconds, seed)
        stack.callback(clients.end)
        clients.start()
        begun, floors, did = time.monotonic(), list[float](), Counter[str]()
        time.sleep(seconds * 0.1)
        disturb_at = time.monotonic()
        for end in (begun + seconds * 0.55, begun + seconds):
            floors.append(server.floor())
            report_at = 0.0
            while (now := time.monotonic()) < end:
                if now >= disturb_at:
                    did[server.state("disturb")["did"].partition(" to ")[0]] += 1
                    disturb_at = now + rng.uniform(*DISTURBED)
                if now >= report_at:
                    report_at = now + 10
                    print(f"  {model} {now - begun:3.0f} of {seconds:.0f} s: {clients.garbage.kinds.total():,} hostile "
                          f"connections over, {clients.garbage.open} open; {clients.answers:,} answers, "
                          f"{clients.failures.total()} failures; {server.memory():.1f} MiB", file=sys.stderr,
                          flush=True)
                time.sleep(0.5)
        floors.append(server.floor())
        clients.end()
        clients.join()
        after = server.state("restore")
        keys = "connections", "states", "threads", "processes", "parked", "descriptors"
        patience = time.monotonic() + PATIENCE
        while any(after[key] != before[key] for key in keys) and time.monotonic() < patience:
            time.sleep(0.1)
            after = server.state()
        last = server.stop()
        log.seek(0)
        text = log.read().decode("latin-1")
    times = sorted(clients.normal.seconds) or [0.0]
    wrong = problems(clients, before, after, last, floors, text)
    print(f"{model:14} {clients.garbage.kinds.total():8,} {clients.answers:8,} {clients.failures.total():8,} "
          f"{clients.crossed:8,} {times[len(times) // 2] * 1e3:8.1f} {times[len(times) * 99 // 100] * 1e3:8.1f} "
          f"{after['accepted']:8,} {before['threads']:4}->{after['threads']:<4} "
          f"{before['descriptors']:4}->{after['descriptors']:<4} {floors[1]:6.1f}->{floors[2]:<6.1f} "
          f"{text.count(chr(10)):5}")
    disturbances = ", ".join(f"{what} {count} times" for what, count in did.items() if what) or "nothing"
    print(f"  disturbed: {disturbances}; killed processes held {sum(map(int, _KILLED.findall(text)))} connections; "
          f"failures: {dict(clients.failures)}\n"
          f"  hostile: {dict(clients.garbage.kinds.most_common())}\n  answers to those that waited: "
          f"{dict(clients.garbage.statuses.most_common())}\n  longest, s: "
          f"{ {kind: round(longest, 1) for kind, longest in clients.garbage.longest.items()} }")
    print("".join(f"  WRONG: {text}\n" for text in wrong), end="", flush=True)
    return wrong


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0: all is well with every model, 1: not."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak", formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__,
        epilog="exit status: 0 all is well, 1 something was lost, leaked, failed or logged as an error")
    parser.add_argument("--seconds", type=float, default=30.0, metavar="S", help="of load, each model (default: 30)")
    parser.add_argument("--minutes", type=float, metavar="M", help="instead, minutes")
    parser.add_argument("--rate", type=float, default=200.0, metavar="N", help="hostile connections a second (200)")
    parser.add_argument("--model", action="append", choices=MODELS, help="may be repeated (default: all, in turn)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of all that is random (default: 1)")
    options = parser.parse_args(arguments)
    seconds = options.seconds if options.minutes is None else 60 * options.minutes
    print(f"Python {platform.python_version()}, {platform.system()} {platform.release()}, {time.strftime('%Y-%m-%d')}; "
          f"{seconds:g} s each, {options.rate:g} hostile connections a second, seed {options.seed}\n"
          f"{'model':14} {'hostile':>8} {'answers':>8} {'failures':>8} {'crossed':>8} {'p50 ms':>8} {'p99 ms':>8} "
          f"{'accepted':>8} {'threads':^10} {'descript.':^10} {'MiB in use':^14} log lines", flush=True)
    wrong = [soak(model, seconds, options.rate, options.seed) for model in options.model or MODELS]
    return 1 if any(wrong) else 0


if __name__ == "__main__":
    sys.exit(main())
