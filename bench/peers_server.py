"""Another server than ours under test: one process tree; it ends when its standard input closes.

    python -m bench.peers_server waitress --sleep 0.1      milliseconds that the application sleeps

It prints its port on a line of its own once it has answered a request. It needs the standard library and the server it
is to run, so that `bench speed --python` can run it in another environment than ours. Each is set up as well as it can
be for 100 to 400 connections on one core: what `SETTINGS` says, stated beside the figures.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from bench import peers_apps

__all__ = ["SETTINGS", "main"]

HOST = "127.0.0.1"
THREADS = 8
"""For those with a pool of threads: what costs them least CPU on one core, of 4, 8, 16 and 32, without a sleep or with
1 ms of it; granian alone makes something of more."""
GRANIAN_THREADS = 16
CONNECTIONS = 1000
"""For those that have a limit."""
BACKLOG = 1024
KEEP_ALIVE = 75
"""Seconds, longer than a run."""


def _waitress(options: argparse.Namespace, app: Any) -> None:
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # or it writes a line for each request that waits
    importlib.import_module("waitress").serve(app, host=HOST, port=options.port, threads=THREADS, backlog=BACKLOG,
                                              connection_limit=CONNECTIONS, channel_timeout=KEEP_ALIVE)


def _cheroot(options: argparse.Namespace, app: Any) -> None:
    server = importlib.import_module("cheroot.wsgi").Server(
        (HOST, options.port), app, numthreads=THREADS, request_queue_size=BACKLOG, timeout=KEEP_ALIVE)
    server.keep_alive_conn_limit = CONNECTIONS  # 10 by default, and all others are closed after each response
    server.start()


def _gunicorn(options: argparse.Namespace, app: Any) -> None:
    base: Any = importlib.import_module("gunicorn.app.base").BaseApplication
    settings = {"bind": f"{HOST}:{options.port}", "worker_class": "gthread", "workers": 1, "threads": THREADS,
                "keepalive": KEEP_ALIVE, "worker_connections": CONNECTIONS, "backlog": BACKLOG, "loglevel": "error"}

    def load_config(self: Any) -> None:
        for name, value in settings.items():
            self.cfg.set(name, value)

    type("Application", (base,), {"load_config": load_config, "load": lambda self: app})().run()


def _uvicorn(options: argparse.Namespace, app: Any) -> None:
    importlib.import_module("uvicorn").run(
        peers_apps.asgi(options.sleep), host=HOST, port=options.port, http=options.peer.partition("-")[2],
        access_log=False, log_level="error", backlog=BACKLOG, timeout_keep_alive=KEEP_ALIVE, lifespan="off")


def _granian(options: argparse.Namespace, app: Any) -> None:
    os.environ[peers_apps.SLEEP] = str(options.sleep)  # its worker process imports the application
    factory = "flask_from_environment" if options.app == "flask" else "from_environment"
    importlib.import_module("granian").Granian(
        f"bench.peers_apps:{factory}", factory=True, address=HOST, port=options.port, interface="wsgi", workers=1,
        blocking_threads=GRANIAN_THREADS, backlog=BACKLOG, backpressure=CONNECTIONS, log_enabled=False,
        websockets=False).serve()


def _bjoern(options: argparse.Namespace, app: Any) -> None:
    importlib.import_module("bjoern").run(app, HOST, options.port, listen_backlog=BACKLOG)


def _fastwsgi(options: argparse.Namespace, app: Any) -> None:
    fastwsgi = importlib.import_module("fastwsgi")
    fastwsgi.server.backlog = BACKLOG
    fastwsgi.run(wsgi_app=app, host=HOST, port=options.port, loglevel=0)


PEERS: dict[str, Callable[[argparse.Namespace, Any], None]] = {
    "waitress": _waitress, "cheroot": _cheroot, "gunicorn": _gunicorn, "uvicorn-h11": _uvicorn,
    "uvicorn-httptools": _uvicorn, "granian": _granian, "bjoern": _bjoern, "fastwsgi": _fastwsgi,
}
SETTINGS = {
    "waitress": f"{THREADS} threads, connection_limit={CONNECTIONS}, its log of waiting requests off",
    "cheroot": f"{THREADS} threads, keep_alive_conn_limit={CONNECTIONS} (10 by default)",
    "gunicorn": f"gthread, 1 worker, {THREADS} threads, keepalive={KEEP_ALIVE}, worker_connections={CONNECTIONS}",
    "uvicorn-h11": "ASGI, 1 process, loop=auto (uvloop if that is installed), no access log; asyncio.sleep",
    "uvicorn-httptools": "the same with http=httptools",
    "granian": f"WSGI, 1 worker, blocking_threads={GRANIAN_THREADS}, backpressure={CONNECTIONS}, no log",
    "bjoern": "one thread, it has no more",
    "fastwsgi": "one thread, it has no more",
}
"""How each is run, in words."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.peers_server", description="Another server under test; ends "
                                     "with its standard input (Ctrl-D).")
    add = parser.add_argument
    add("peer", choices=PEERS)
    add("--app", choices=("wsgi", "flask"), default="wsgi")
    add("--sleep", type=float, default=0.0, metavar="MS", help="milliseconds the application sleeps; 0: none at all")
    add("--port", type=int, default=0, help="default: any free one")
    options = parser.parse_args()
    if options.app == "flask" and options.peer.startswith("uvicorn"):
        parser.error("Flask is WSGI, and uvicorn runs ASGI")
    app = (peers_apps.flask if options.app == "flask" else peers_apps.wsgi)(options.sleep)
    if not options.port:
        with socket.create_server((HOST, 0)) as free:  # not every peer tells which one the system has chosen
            options.port = free.getsockname()[1]
    _fork_guard(options.port)
    PEERS[options.peer](options, app)


def _fork_guard(port: int) -> None:
    """A process that tells when the server answers, and ends all of it when standard input closes.

    A process and not a thread, because not every peer lets another thread run; and nobody's child, so that its CPU
    counts for none.
    """
    if os.getpgrp() != os.getpid():  # started by hand; bench.children makes a group of each child
        os.setpgrp()
    server = os.getpid()
    if child := os.fork():
        os.waitpid(child, 0)
        os.dup2(2, 1)  # what the server has to say is not for whoever reads the port
        return
    if os.fork():
        os._exit(0)
    try:
        if _answers(port, server, time.monotonic() + 20):
            print(port, flush=True)
            sys.stdin.read()
    finally:
        os.killpg(0, signal.SIGKILL)  # the server, all that it has forked, and this process


def _answers(port: int, server: int, deadline: float) -> bool:
    while time.monotonic() < deadline and _runs(server):
        try:
            with socket.create_connection((HOST, port), 5) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
                answer = b"".join(iter(lambda: sock.recv(4096), b""))
        except OSError:
            time.sleep(0.02)
            continue
        if answer.startswith((b"HTTP/1.1 200 ", b"HTTP/1.0 200 ")) and peers_apps.BODY in answer:
            return True
        print(f"not the answer that was expected: {answer[:200]!r}", file=sys.stderr)
        return False
    return False


def _runs(pid: int) -> bool:
    """Whether it has not ended; proc(5)."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


if __name__ == "__main__":
    main()
