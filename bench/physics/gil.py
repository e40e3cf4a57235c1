"""What it takes to get the GIL back from a thread that computes.

A server thread that wants it waits for the switch interval, 5 ms by default, and then asks for it
(sys.setswitchinterval; "take_gil" in CPython's Python/ceval_gil.c). The client is a process of its own, because one
inside would take part in what is measured; and it pauses between two pings, because otherwise the server thread may be
back before the thread that computes has woken up, which then is the one that waits. Needs the standard library alone.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence

__all__ = ["ping"]

_LONGER = 3
"""A ping beside two threads that compute takes 10 ms: so it takes longer to have some of them."""

_CLIENT = """\
import socket, statistics, sys, time
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 30)
sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
def ping(number):
    time.sleep(0.001 * (1 + number % 4))
    start = time.perf_counter()
    sock.sendall(b".")
    if not sock.recv(1):
        sys.exit("the server has ended")
    return time.perf_counter() - start
ping(0)
taken, end = [], time.perf_counter() + float(sys.argv[2])
while time.perf_counter() < end or len(taken) < 3:
    taken.append(ping(len(taken)))
print(1e6 * statistics.median(taken))
"""


def ping(cores: Sequence[int], burners: int, switch_interval_s: float, seconds: float) -> float:
    """The median of pings, in microseconds, that one thread here answers while `burners` others compute. Takes three
    times `seconds`, and the start of a process.

    Nobody is pinned to a core, so that it is the GIL that they wait for. OSError if the client fails.
    """
    before, interval, over = os.sched_getaffinity(0), sys.getswitchinterval(), threading.Event()
    os.sched_setaffinity(0, cores)
    sys.setswitchinterval(switch_interval_s)
    threads = []
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            threads = [threading.Thread(target=_answer, args=(listener,)),
                       *(threading.Thread(target=_burn, args=(over,)) for _ in range(burners))]
            for thread in threads:
                thread.start()
            command = [sys.executable, "-ISc", _CLIENT, str(listener.getsockname()[1]), str(_LONGER * seconds)]
            client = subprocess.run(command, capture_output=True, text=True, timeout=60 + seconds, check=False)
            listener.shutdown(socket.SHUT_RDWR)  # whoever waits in accept() need not wait any longer
            if client.returncode:
                raise OSError(f"the client that pings failed: {client.stderr.strip()[-200:]}")
            return float(client.stdout)
    finally:
        over.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)
        os.sched_setaffinity(0, before)


def _answer(listener: socket.socket) -> None:
    try:
        sock, _ = listener.accept()
    except OSError:
        return  # nobody came
    with sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := sock.recv(1):
            sock.sendall(data)


def _burn(over: threading.Event) -> None:
    while not over.is_set():
        pass
