"""The event loop with Dask's executor, on clusters of this machine: of threads, and of processes. Run from a checkout.

    python -m tests.dask_trial                  needs `distributed`: pip install -e '.[dask]'

A command, because to import Dask and start such a cluster takes longer than the rest of the tests of the event loop.
tests/test_event_loop.py does the same with other executors.
"""

from __future__ import annotations

import importlib
import logging
import os
import statistics
import sys
import threading
import time
from concurrent.futures import Executor
from pathlib import Path

from acceptor import Acceptor
from taskmaster import EventLoopTaskmaster
from tests import loop_programs
from tests.clients import RawClient, request
from tests.loop_programs import where

REQUESTS = 200


def check(executor: Executor, *, elsewhere: bool) -> str:
    """AssertionError if it does not do what any executor does; else what was measured."""
    others = {"/pieces": (200, b"one two"), "/file": (200, Path(loop_programs.__file__).read_bytes()),
              "/missing": (404, b"Not Found\n"), "/fail": (500, b"Internal Server Error\n"), "/wsgi": (200, b"GET ")}
    with Acceptor(where, port=0, taskmaster=EventLoopTaskmaster(offload=executor)) as acceptor:
        clients = [RawClient.connect(acceptor.port) for _ in range(8)]
        for size in (0, 100_000, 2_000_000):
            for client in clients:
                sender = threading.Thread(target=client.send, args=(
                    request("/a", method="POST", body=os.urandom(size)) + b"".join(map(request, others)),))
                sender.start()
                pid, *rest = client.read_response().body.split()
                sender.join()
                assert rest == [b"/a", b"%d" % size], rest
                assert (int(pid) != os.getpid()) == elsewhere, pid
                for path, expected in others.items():
                    received = client.read_response()
                    assert (received.status, received.body) == expected, (path, received)
        seen = set()
        for _ in range(10):  # the same each time, and yet no answer is one of before
            clients[0].send(request("/unique"))
            seen.add(clients[0].read_response().body)
        assert len(seen) == 10, seen
        times = []
        for _ in range(REQUESTS):
            begun = time.monotonic()
            clients[0].send(request("/a"))
            clients[0].read_response()
            times.append(time.monotonic() - begun)
        for client in clients:
            client.close()
    snapshot = acceptor.taskmaster.snapshot()
    assert (snapshot.accepted, snapshot.served, snapshot.parked) == (8, 8, 0), snapshot
    return f"a request after the other takes {statistics.median(times) * 1e3:.1f} ms"


def main() -> int:
    try:
        dask = importlib.import_module("distributed")
    except ImportError:
        print("Dask is not installed; say: pip install -e '.[dask]'", file=sys.stderr)
        return 2
    for processes in (False, True):
        begun = time.monotonic()
        with (dask.LocalCluster(n_workers=2, processes=processes, dashboard_address=None) as cluster,
              dask.Client(cluster) as client):
            started = time.monotonic() - begun
            told = check(client.get_executor(), elsewhere=processes)
            print(f"Dask {dask.__version__}, {'2 processes' if processes else 'threads of this process'}, after "
                  f"{started:.1f} s: all as it should be; {told}", flush=True)
    return 0


if __name__ == "__main__":
    logging.getLogger("acceptor").setLevel(logging.CRITICAL)  # what fails is meant to
    sys.exit(main())
