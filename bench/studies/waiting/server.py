"""The server of `bench waiting`: threads that accept, recv, work a little, send and close. No HTTP, but for the form.

    python -m bench.studies.waiting.server --strategy "blocking accept()" --threads 64 --work 1000

It prints its port once all threads are about to wait. For each line on its standard input it prints one of JSON, with
what its threads have done so far; it ends when that closes. The main thread is not counted in anything.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import sys
import threading
from pathlib import Path

from bench.studies.waiting.strategies import STRATEGIES

__all__ = ["main"]

_RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\n%4d"
"""The form is that of HTTP, so that bench.clients.load can read it. The body is the number of the thread that
answers."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.studies.waiting.server",
                                     description="See python -m bench waiting.")
    parser.add_argument("--strategy", choices=STRATEGIES, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--work", type=int, default=0, help="passes of an empty Python loop for each connection")
    options = parser.parse_args()
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    strategy = STRATEGIES[options.strategy](listener)
    served = [0] * options.threads
    everybody = threading.Barrier(options.threads + 1)

    def serve(number: int) -> None:
        accept = strategy.for_thread()
        response = _RESPONSE % number
        everybody.wait()
        while True:
            with accept() as connection:
                try:
                    connection.recv(4096)
                    for _ in range(options.work):
                        pass
                    connection.sendall(response)
                except OSError:  # the client has gone
                    pass
            served[number] += 1

    for number in range(options.threads):
        # Daemons: what a thread waits in here cannot be interrupted in every strategy, and need not be.
        threading.Thread(target=serve, args=(number,), daemon=True).start()
    everybody.wait()
    print(listener.getsockname()[1], flush=True)
    for _ in sys.stdin:
        print(json.dumps({"served": sum(served), "switches": _voluntary_switches()}), flush=True)


def _voluntary_switches() -> int:
    """How often the threads, but for the main thread, have gone to sleep: proc(5), /proc/PID/task/TID/status."""
    total = 0
    for task in Path("/proc/self/task").iterdir():
        if int(task.name) != os.getpid():
            found = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", (task / "status").read_text(), re.MULTILINE)
            total += int(found[1]) if found else 0
    return total


if __name__ == "__main__":
    main()
