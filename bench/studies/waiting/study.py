"""`python -m bench waiting`: measures the six ways of waiting in bench.studies.waiting.strategies, and says what came
of it.

Part A, one client at a time: what does a connection cost in context switches, and which thread gets it? The threads
have nothing else to do, so that all but one wait.

Part B, under load: 100 clients, a new connection for each request, 64 threads. What do they get, and how late? Rounds
are interleaved and shuffled.

Server and clients are processes of their own, so that what clients do is counted nowhere.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import textwrap
import time
from dataclasses import asdict
from typing import Any

from bench.children import Child, cores, running
from bench.progress import Progress
from bench.studies.waiting.report import Alone, Loaded, sentences, table_alone, table_loaded
from bench.studies.waiting.strategies import STRATEGIES

__all__ = ["run_waiting"]

_WAITERS = (8, 64, 256)
_COUNTED, _BEFORE = 80, 20
"""Connections of part A that count, and those before them, in which the threads find their places."""
_THINK = 0.006
"""Seconds the one client of part A thinks in between: part of the load, so that the threads are waiting again."""
_THREADS, _CLIENTS, _WORK_US = 64, 100, 50
_ROUNDS, _WARMUP, _DURATION = 3, 0.2, 1.5


def run_waiting(options: argparse.Namespace) -> int:
    """Measure both parts, print tables and sentences; return the exit status."""
    server_core, load_core = cores()
    work = _passes(_WORK_US)
    pinned = "" if server_core is None else f"Server on core {server_core}, load on core {load_core}. "
    print(f"{pinned}{_WORK_US} us of Python work are {work:,} passes of an empty loop here.\n", flush=True)

    plan = [(threads, name) for threads in _WAITERS for name in STRATEGIES]
    rounds = [name for _ in range(_ROUNDS) for name in random.sample(list(STRATEGIES), len(STRATEGIES))]
    progress = Progress(len(plan) + len(rounds), 1.3)
    alone, loaded = [], []
    for threads, name in plan:
        progress.begin(f"one client: {name}, {threads} threads")
        alone.append(_alone(name, threads))
        progress.end(f"one client: {name}, {threads} threads: {alone[-1].switches:.1f} switches")
    for name in rounds:
        progress.begin(f"under load: {name}")
        loaded.append(_loaded(name, work))
        progress.end(f"under load: {name}: {loaded[-1].rate:,.0f} connections a second")
    progress.clear()
    print(f"\nA. One client at a time: {_COUNTED} connections, {_THINK * 1e3:g} ms in between, to N threads that wait\n"
          f"{table_alone(alone)}\n"
          "  switches: voluntary context switches of the server for each connection, one or two being the least\n"
          "  served by: how many of the N threads got any of the connections\n")
    print(f"B. Under load: {_THREADS} threads, {_CLIENTS} clients without keep-alive, {_WORK_US} us of Python work; "
          f"median of {_ROUNDS} rounds of {_DURATION:g} s\n{table_loaded(loaded)}\n")

    print("What the figures say")
    for line in sentences(alone, loaded):
        print(textwrap.fill(line, 116, initial_indent="  - ", subsequent_indent="    "))
    if options.json:
        kept = {"alone": list(map(asdict, alone)), "loaded": list(map(asdict, loaded)), "work_passes": work}
        options.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return 0


def _alone(name: str, threads: int) -> Alone:
    with running(["bench.studies.waiting.server", "--strategy", name, "--threads", str(threads)], cores()[0]) as server:
        address = "127.0.0.1", int(server.line(20))
        for _ in range(_BEFORE):
            _ask(address)
        before = _count(server)
        order = [_ask(address) for _ in range(_COUNTED)]
        after = _count(server)
    return Alone(name, threads, (after["switches"] - before["switches"]) / _COUNTED, order)


def _ask(address: tuple[str, int]) -> int:
    """Be served once; return the number of the thread that did it."""
    time.sleep(_THINK)
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(b"hello")
        received = b""
        while data := client.recv(4096):
            received += data
    return int(received[-4:])


def _loaded(name: str, work: int) -> Loaded:
    server_core, load_core = cores()
    with running(["bench.studies.waiting.server", "--strategy", name, "--threads", str(_THREADS), "--work", str(work)],
                 server_core) as server:
        port = server.line(20)
        before = _count(server)
        with running(["bench.clients.load", "--port", port, "--connections", str(_CLIENTS), "--no-keep-alive",
                      "--watch",
                      str(server.pid), "--warmup", str(_WARMUP), "--duration", str(_DURATION)], load_core) as load:
            result = json.loads(load.line(_WARMUP + _DURATION + 20))
        after = _count(server)
    ok = result["ok"] or 1
    return Loaded(name, result["ok"] / result["seconds"], result["p50_ms"], result["p99_ms"],
                  (after["switches"] - before["switches"]) / max(1, after["served"] - before["served"]),
                  1e6 * result["server_cpu"] / ok, sum(result["errors"].values()) + sum(result["non_2xx"].values()))


def _count(server: Child) -> dict[str, Any]:
    server.tell("count")
    count: dict[str, Any] = json.loads(server.line(20))
    return count


def _passes(microseconds: float) -> int:
    """How many passes of an empty Python loop take so long. The same number for all, so that their work is the same."""
    best = min(_burn(20_000) for _ in range(20))
    return round(20_000 * microseconds / 1e6 / best)


def _burn(passes: int) -> float:
    start = time.thread_time()
    for _ in range(passes):
        pass
    return time.thread_time() - start
