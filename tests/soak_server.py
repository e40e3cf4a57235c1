"""The server of `tests.soak`, a process of its own: `python -m tests.soak_server MODEL SEED`.

It prints its port. Then it does what a line on its standard input says, and answers with one line of JSON, its state:

    (nothing)  look
    trim       give what malloc(3) keeps of freed memory back to the system first, which it never does by itself: that
               grows for minutes, whatever the program does, and hides a leak
    disturb    resize the taskmaster, at random; or of several processes kill one (-9), or replace all
    restore    have the size that it began with

When standard input ends it stops, and the last line says what was left.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import random
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast

from acceptor import Acceptor, Request, Response, Timeouts
from taskmaster import (
    EventLoopTaskmaster,
    PooledTaskmaster,
    RecyclingTaskmaster,
    SingleThreadedTaskmaster,
    Taskmaster,
    ThreadPerConnectionTaskmaster,
    ThreadState,
)
from taskmaster.prefork import PreforkTaskmaster
from tests.client_programs import line

__all__ = ["KEEP_ALIVE", "MODELS", "Model", "serve"]

KEEP_ALIVE = 5.0
TIMEOUTS = Timeouts(head=5, body=5, write=5, keep_alive=KEEP_ALIVE)
"""Shorter than by default, so that each is met many times in a minute."""
LARGE = bytes(20_000_000)
OFFLOADED = 16
PROCESSES = 2


@dataclass(frozen=True)
class Model:
    """A model, and the load that it is given. Nobody is refused: what is too much waits, and shows in the p99."""

    make: Callable[[], Taskmaster]
    slow: float
    """Share of hostile visitors that are slow: each that holds a thread has it for up to two seconds."""
    idle: int
    """Clients that keep their connection, idle most of the time."""
    disturb: Callable[[Any, random.Random], str] | None = None
    restore: Callable[[Any], object] | None = None


def _resize_pool(pool: PooledTaskmaster, rng: random.Random) -> str:
    pool.resize(rng.randint(16, 48))
    return f"resized to {pool.max_thread_count}"


def _resize_recycling(recycling: RecyclingTaskmaster, rng: random.Random) -> str:
    most = rng.randint(16, 48)
    recycling.resize(standby=rng.randint(1, 16), max_thread_count=most)
    return f"resized to {recycling.standby}:{most}"


def _trouble_processes(prefork: PreforkTaskmaster, rng: random.Random) -> str:
    what = rng.choice(("kill", "kill", "resize", "restart"))
    workers = [process for process in prefork.processes() if process.state == "ready"]
    if what == "kill" and workers:
        os.kill(rng.choice(workers).pid, signal.SIGKILL)
        return "killed one"
    if what == "restart":
        prefork.restart()
        return "restarted"
    prefork.resize(rng.randint(1, 3))
    return f"resized to {prefork.process_count}"


def _pool(idle: str) -> Callable[[], Taskmaster]:
    return lambda: PooledTaskmaster(threads=32, queue_size=None, idle=idle)  # type: ignore[arg-type]


def _recycling(idle: str) -> Callable[[], Taskmaster]:
    return lambda: RecyclingTaskmaster(
        standby=8, max_thread_count=32, idle_timeout=2.0, idle=idle)  # type: ignore[arg-type]


def _loop_with_threads() -> Taskmaster:
    executor = ThreadPoolExecutor(OFFLOADED)
    everybody = threading.Barrier(OFFLOADED + 1)
    for _ in range(OFFLOADED):  # it starts a thread for a job if none is idle: all of them, before they are counted
        executor.submit(everybody.wait)
    everybody.wait()
    return EventLoopTaskmaster(offload=executor)


def _prefork() -> Taskmaster:
    return PreforkTaskmaster(RecyclingTaskmaster(standby=8, max_thread_count=16, idle_timeout=2.0, idle="park"),
                             PROCESSES, deadline=10.0)


def _restore_pool(pool: PooledTaskmaster) -> None:
    pool.resize(32)


def _restore_recycling(recycling: RecyclingTaskmaster) -> None:
    recycling.resize(standby=8, max_thread_count=32)


def _restore_prefork(prefork: PreforkTaskmaster) -> None:
    prefork.resize(PROCESSES)


MODELS = {
    "single": Model(SingleThreadedTaskmaster, 0.002, 0),
    "thread": Model(lambda: ThreadPerConnectionTaskmaster(max_thread_count=32, max_accept_count=None), 0.03, 4),
    "pool-hold": Model(_pool("hold"), 0.03, 4, _resize_pool, _restore_pool),
    "pool-park": Model(_pool("park"), 0.03, 200, _resize_pool, _restore_pool),
    "recycling-hold": Model(_recycling("hold"), 0.03, 4, _resize_recycling, _restore_recycling),
    "recycling-park": Model(_recycling("park"), 0.03, 200, _resize_recycling, _restore_recycling),
    "loop": Model(EventLoopTaskmaster, 0.03, 200),
    "loop-threads": Model(_loop_with_threads, 0.03, 200),
    "prefork": Model(_prefork, 0.03, 200, _trouble_processes, _restore_prefork),
}


def serve(name: str, seed: int) -> None:
    """Serve until standard input ends: see the module."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")
    model, rng = MODELS[name], random.Random(seed)

    def handler(request: Request) -> Response | str:
        if request.path == "/large":
            return Response(LARGE)
        return line(request.method, request.path, request.body.read())

    acceptor = Acceptor(handler, taskmaster=model.make(), port=0, timeouts=TIMEOUTS).start()
    taskmaster = acceptor.taskmaster

    def state(**more: Any) -> None:
        now = taskmaster.snapshot()
        processes = taskmaster.processes() if isinstance(taskmaster, PreforkTaskmaster) else []
        print(json.dumps({
            "states": {state.word: count for state, count in now.threads.items()
                       if count and state is not ThreadState.LEAVING},  # ended, and joined when there is occasion
            "threads": threading.active_count(), "connections": acceptor.connection_count,
            "processes": [process.state for process in processes],
            "balanced": now.accepted == (now.queued + now.parked + now.threads[ThreadState.SERVING] + now.served
                                         + now.refused),
            "accepted": now.accepted, "served": now.served, "refused": now.refused, "parked": now.parked,
            "queued": now.queued, **more}), flush=True)

    print(acceptor.port, flush=True)
    for command in map(str.strip, sys.stdin):
        did = ""
        if command == "trim":
            ctypes.CDLL(None).malloc_trim(0)
        elif command == "disturb" and model.disturb is not None:
            did = model.disturb(taskmaster, rng)
        elif command == "restore" and model.restore is not None:
            model.restore(taskmaster)
        state(did=did)
    report = acceptor.stop(deadline=5)
    if isinstance(taskmaster, EventLoopTaskmaster) and taskmaster.offload is not None:
        cast(ThreadPoolExecutor, taskmaster.offload).shutdown()
    state(lost=[*report.cut, *report.stuck])


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
