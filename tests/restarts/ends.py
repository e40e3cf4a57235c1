"""How a server ends, and how its clients do: what must be answered, how soon it is over, and that nothing is left."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from tests.client_programs import line
from tests.proxies import accepts
from tests.restarts.lab import CROWD, Server, model_options, wait_until

__all__ = ["ENDS"]

AT_ONCE = 3.0
"""Seconds: a second for threads to notice that their connections have been cut, and time for the machine."""


def stops(model: str) -> tuple[str, bool]:
    """TERM with a crowd of requests in progress: all answered, exit code 0."""
    with _crowd(model, "0.03" if model == "single" else "1") as (server, clients):
        begun = time.monotonic()
        server.signal(signal.SIGTERM)
        answered = 0
        for client, expected in clients:
            with contextlib.suppress(OSError, http.client.HTTPException):
                response = client.getresponse()
                answered += response.status == 200 and response.read().decode() == expected
        code = server.wait()
        return (f"{answered} answered, exit code {code}, {time.monotonic() - begun:.1f} s",
                answered == CROWD and code == 0 and not server.errors)


def hurries(model: str) -> tuple[str, bool]:
    """TERM again, while the crowd is still being served."""
    with _crowd(model, "60") as (server, _):
        server.signal(signal.SIGTERM)
        wait_until(lambda: not accepts(server.port), "the server has begun to stop")
        begun = time.monotonic()
        server.signal(signal.SIGTERM)
        code = server.wait()
        seconds = time.monotonic() - begun
        return f"exit code {code}, {seconds:.1f} s", code == 3 and seconds < AT_ONCE


UPLOAD = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as sock:
    sock.sendall(b"POST /upload HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: 1000000\\r\\n\\r\\n" + bytes(100_000))
    sock.recv(1)
"""


def dies(model: str) -> tuple[str, bool]:
    """A client is killed in the middle of its upload, again and again."""
    with _holding_server(model) as (server, held):
        before = server.count("fd"), server.count("task")
        for _ in range(CROWD):
            with subprocess.Popen([sys.executable, "-S", "-c", UPLOAD, str(server.port)]) as client:
                held(1)
                client.kill()
        with contextlib.suppress(RuntimeError):  # it is said below
            wait_until(lambda: (server.count("fd"), server.count("task")) == before, "it is as before")
        after = server.count("fd"), server.count("task")
        server.stop()
        return f"descriptors {before[0]}, {after[0]}; threads {before[1]}, {after[1]}", after == before


@contextlib.contextmanager
def _crowd(model: str, seconds: str) -> Iterator[tuple[Server, list[tuple[http.client.HTTPConnection, str]]]]:
    """A server and its clients, each of whom has sent a request that takes so long, with the answer that it must get.

    All of them are with the application, if the model can do that; else one is.
    """
    with _holding_server(model, "--graceful-timeout", "60") as (server, held), contextlib.ExitStack() as stack:
        clients = []
        for number in range(CROWD):
            client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            stack.callback(client.close)
            method, body = ("POST", b"x" * number) if number % 2 else ("GET", b"")
            path = f"/sleep/{seconds}/{number}"
            client.request(method, path, body or None)
            clients.append((client, line(method, path, body)))
        held(1 if model == "single" else CROWD)
        yield server, clients


@contextlib.contextmanager
def _holding_server(model: str, *options: str) -> Iterator[tuple[Server, Callable[[int], None]]]:
    """A server, and a function that waits until so many more requests have come to the application."""
    reader, writer = os.pipe()
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, reader)
        try:
            server = Server("--bind", "127.0.0.1:0", *model_options(model), *options, environ={"HELD": str(writer)},
                            inherits=[writer])
        finally:
            os.close(writer)
        stack.callback(server.kill)

        def held(count: int) -> None:
            while count:
                came = len(os.read(reader, count))
                if not came:
                    raise RuntimeError(f"the server has ended: {server.log}")
                count -= came

        yield server, held


ENDS: dict[str, tuple[str, Callable[[str], tuple[str, bool]]]] = {
    "stops": (f"TERM with {CROWD} requests in progress", stops),
    "hurries": ("TERM a second time, meanwhile", hurries),
    "dies": (f"{CROWD} clients killed in mid-upload: before, after", dies),
}
"""By name: what stands in the table, and what says what has come of it, and whether that is as it must be."""
