"""Garbage beside normal load, with every model, and what is left of the server afterwards. Run from a checkout.

    python -m tests.soak                                 four models, a minute each, 200 hostile connections a second
    python -m tests.soak --seconds 10 --model pool

A command, and not collected by pytest, because it needs minutes. The server is a process of its own, looked at from
outside: its descriptors and memory in /proc, its log, and what it says of its threads before and after. Eight normal
clients, half of them with keep-alive, ask meanwhile and check every answer. tests/garbage.py has the hostile ones. At
the end nothing may be left: see `problems`.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import logging
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from acceptor import Acceptor, Request, Response, Timeouts
from taskmaster import (
    PooledTaskmaster,
    RecyclingTaskmaster,
    SingleThreadedTaskmaster,
    Taskmaster,
    ThreadPerConnectionTaskmaster,
    ThreadState,
)
from tests.client_programs import Normal, line
from tests.garbage import Garbage

MODELS: dict[str, tuple[Callable[[], Taskmaster], float]] = {
    "single": (SingleThreadedTaskmaster, 0.002),
    "thread": (lambda: ThreadPerConnectionTaskmaster(max_thread_count=32, max_accept_count=None), 0.03),
    "pool": (lambda: PooledTaskmaster(threads=32, queue_size=None), 0.03),
    "recycling": (lambda: RecyclingTaskmaster(standby=8, max_thread_count=32, idle_timeout=2.0), 0.03),
}
"""Each with the share of visitors that are slow. Nobody is refused: what is too much waits, and shows in the p99. One
thread can afford few slow ones: each has it for up to two seconds."""
TIMEOUTS = Timeouts(head=5, body=5, write=5, keep_alive=5)
"""Shorter than by default, so that each is met many times in a minute."""
PATIENCE = 30.0
"""Seconds after the load in which the server must have rid itself of everybody, and be as it was."""
LARGE = bytes(20_000_000)
FLAT = 1.05
"""Memory in use after the run by that after half of it, at most; 2 MiB more are no leak either."""


# The server: `python -m tests.soak --serve MODEL`.

def serve(model: str) -> None:
    """Serve until standard input ends; print the port, and one line of JSON for every line that is read.

    "trim" gives what malloc(3) keeps of freed memory back to the system first, which it never does by itself: that
    grows for minutes, whatever the program does, and hides a leak.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")

    def handler(request: Request) -> Response | str:
        if request.path == "/large":
            return Response(LARGE)
        return line(request.method, request.path, request.body.read())

    acceptor = Acceptor(handler, taskmaster=MODELS[model][0](), port=0, timeouts=TIMEOUTS).start()

    def state(**more: Any) -> None:
        snapshot = acceptor.taskmaster.snapshot()
        print(json.dumps({
            "states": {state.value: count for state, count in snapshot.threads.items()
                       if count and state is not ThreadState.LEAVING},  # ended, and joined when there is occasion
            "threads": threading.active_count(), "connections": acceptor.connection_count,
            "balanced": snapshot.accepted == (snapshot.queued + snapshot.threads[ThreadState.SERVING]
                                              + snapshot.served + snapshot.refused),
            "accepted": snapshot.accepted, "refused": snapshot.refused, **more}), flush=True)

    print(acceptor.port, flush=True)
    for command in sys.stdin:
        if command == "trim\n":
            ctypes.CDLL(None).malloc_trim(0)
        state()
    report = acceptor.stop(deadline=5)
    state(lost=[*report.cut, *report.stuck])


class Server:
    """The server's process, seen from outside."""

    def __init__(self, model: str, log: IO[bytes]) -> None:
        self._process = subprocess.Popen([sys.executable, "-m", "tests.soak", "--serve", model], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, stderr=log, text=True)
        self.port = int(self._read())

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def state(self, command: str = "") -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return dict(json.loads(self._read()), descriptors=len(list(Path(f"/proc/{self._process.pid}/fd").iterdir())))

    def memory(self) -> float:
        """MiB resident."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def floor(self) -> float:
        """MiB resident that are in use."""
        self.state("trim")
        return self.memory()

    def stop(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.close()
        return dict(json.loads(self._read()))

    def kill(self) -> None:
        with self._process:  # which closes the pipes, and waits
            self._process.kill()


def problems(normal: Normal, garbage: Garbage, before: dict[str, Any], after: dict[str, Any], end: dict[str, Any],
             floors: Sequence[float], log: str) -> list[str]:
    """Everything that is not as it must be after a run."""
    _, half, full = floors
    checks = [
        (not normal.failures, f"normal clients failed: {dict(normal.failures)}"),
        (bool(normal.seconds), "no normal client was answered"),
        (not garbage.open, f"{garbage.open} hostile connections still open"),
        (after["connections"] == 0, f"connections left: {after['connections']}"),
        (after["states"] == before["states"], f"the taskmaster's threads: {before['states']} -> {after['states']}"),
        (after["threads"] == before["threads"], f"threads: {before['threads']} -> {after['threads']}"),
        (after["descriptors"] == before["descriptors"],
         f"descriptors: {before['descriptors']} -> {after['descriptors']}"),
        (after["balanced"], f"accepted is not served + refused: {after}"),
        (full <= max(half * FLAT, half + 2), f"memory grew from {half:.1f} to {full:.1f} MiB in the second half"),
        (not any(word in log for word in ("ERROR", "CRITICAL", "Traceback", "bug")), f"in the log: {log[:1000]}"),
        (not end["lost"] and end["threads"] == 1 and not end["states"], f"stop() left something: {end}"),
    ]
    return [text for good, text in checks if not good]


def soak(model: str, seconds: float, rate: float, seed: int) -> list[str]:
    """One model's run: its row is printed; what is wrong is returned."""
    with tempfile.TemporaryFile() as log, contextlib.ExitStack() as stack:
        server = Server(model, log)
        stack.callback(server.kill)
        before = server.state()
        normal, garbage = Normal(server.port), Garbage(server.port, rate, seconds, MODELS[model][1], seed)
        stack.callback(normal.over.set)
        for thread in (*normal.threads, garbage):
            thread.start()
        begun, halves, floors = time.monotonic(), ([0.0], [0.0]), list[float]()
        time.sleep(seconds * 0.1)
        for half, end in zip(halves, (begun + seconds * 0.55, begun + seconds), strict=True):
            floors.append(server.floor())
            half.clear()
            while (now := time.monotonic()) < end:
                half.append(server.memory())
                if len(half) % 20 == 0:
                    print(f"  {model} {now - begun:3.0f} s: {garbage.kinds.total():,} hostile connections over, "
                          f"{garbage.open} open; {len(normal.seconds):,} answers, {normal.failures.total()} failures; "
                          f"{half[-1]:.1f} MiB", file=sys.stderr, flush=True)
                time.sleep(0.5)
        floors.append(server.floor())
        normal.over.set()
        for thread in normal.threads:
            thread.join()
        garbage.finish(PATIENCE)
        after = server.state()
        keys = "connections", "states", "threads", "descriptors"
        while any(after[key] != before[key] for key in keys) and time.monotonic() < begun + seconds + PATIENCE:
            time.sleep(0.1)
            after = server.state()
        last = server.stop()
        log.seek(0)
        text = log.read().decode("latin-1")
    times = sorted(normal.seconds) or [0.0]
    wrong = problems(normal, garbage, before, after, last, floors, text)
    print(f"{model:10} {garbage.kinds.total():8,} {len(normal.seconds):8,} {normal.failures.total():8,} "
          f"{normal.crossed:8,} {times[len(times) // 2] * 1e3:8.1f} {times[len(times) * 99 // 100] * 1e3:8.1f} "
          f"{before['threads']:4}->{after['threads']:<4} {before['descriptors']:4}->{after['descriptors']:<4} "
          f"{floors[1]:6.1f}->{floors[2]:<6.1f} "
          f"{statistics.mean(halves[0]):6.1f}->{statistics.mean(halves[1]):<6.1f} {text.count(chr(10)):5}")
    print(f"  hostile: {dict(garbage.kinds.most_common())}\n  answers to those that waited: "
          f"{dict(garbage.statuses.most_common())}\n  longest, s: "
          f"{ {kind: round(longest, 1) for kind, longest in garbage.longest.items()} }")
    print("".join(f"  WRONG: {text}\n" for text in wrong), end="", flush=True)
    return wrong


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0: all is well with every model, 1: not."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak", formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__,
        epilog="exit status: 0 all is well, 1 something was lost, leaked, failed or logged as an error")
    parser.add_argument("--seconds", type=float, default=60.0, metavar="S", help="of load, each model (default: 60)")
    parser.add_argument("--rate", type=float, default=200.0, metavar="N", help="hostile connections a second (200)")
    parser.add_argument("--model", action="append", choices=MODELS, help="may be repeated (default: all, in turn)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the garbage (default: 1)")
    parser.add_argument("--serve", choices=MODELS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        serve(options.serve)
        return 0
    print(f"Python {platform.python_version()}, {platform.system()} {platform.release()}, {time.strftime('%Y-%m-%d')}; "
          f"{options.seconds:g} s each, {options.rate:g} hostile connections a second, seed {options.seed}\n"
          f"{'model':10} {'hostile':>8} {'answers':>8} {'failures':>8} {'crossed':>8} {'p50 ms':>8} {'p99 ms':>8} "
          f"{'threads':^10} {'descript.':^10} {'MiB in use':^14} {'resident':^14} log lines")
    wrong = [soak(model, options.seconds, options.rate, options.seed) for model in options.model or MODELS]
    return 1 if any(wrong) else 0


if __name__ == "__main__":
    sys.exit(main())
