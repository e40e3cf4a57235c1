"""Another server than ours under test: one process tree; it ends when its standard input closes.

    python -m bench.peers.server waitress --sleep 0.1      milliseconds that the application sleeps

It prints its port on a line of its own once it has answered a request. It needs the standard library and the server it
is to run, so that it runs in another environment than ours, too. Each is set up as well as it can be for 100 to 400
connections on one core: what `Peer.settings` says, stated beside the figures.
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
from dataclasses import dataclass
from typing import Any

from bench.peers import apps as peers_apps
from bench.peers import stdlib as peers_stdlib

__all__ = ["PEERS", "Peer", "main"]

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
    importlib.import_module("waitress").serve(
        app, host=HOST, port=options.port, threads=options.threads, backlog=BACKLOG, connection_limit=CONNECTIONS,
        channel_timeout=options.keep_alive)


def _cheroot(options: argparse.Namespace, app: Any) -> None:
    server = importlib.import_module("cheroot.wsgi").Server(
        (HOST, options.port), app, numthreads=options.threads, request_queue_size=BACKLOG, timeout=options.keep_alive)
    server.keep_alive_conn_limit = CONNECTIONS  # 10 by default, and all others are closed after each response
    server.start()


def _gunicorn(options: argparse.Namespace, app: Any) -> None:
    base: Any = importlib.import_module("gunicorn.app.base").BaseApplication
    settings = {"bind": f"{HOST}:{options.port}", "worker_class": "gthread", "workers": options.processes,
                "threads": options.threads, "keepalive": round(options.keep_alive), "worker_connections": CONNECTIONS,
                "backlog": BACKLOG, "loglevel": "error"}

    def load_config(self: Any) -> None:
        for name, value in settings.items():
            self.cfg.set(name, value)

    type("Application", (base,), {"load_config": load_config, "load": lambda self: app})().run()


def _uvicorn(options: argparse.Namespace, app: Any) -> None:
    importlib.import_module("uvicorn").run(
        "bench.peers.apps:asgi_from_environment", factory=True, host=HOST, port=options.port,
        http=options.peer.partition("-")[2], workers=options.processes, access_log=False, log_level="error",
        backlog=BACKLOG, timeout_keep_alive=round(options.keep_alive), lifespan="off")


def _granian(options: argparse.Namespace, app: Any) -> None:
    importlib.import_module("granian").Granian(
        "bench.peers.apps:wsgi_from_environment", factory=True, address=HOST, port=options.port, interface="wsgi",
        workers=options.processes, blocking_threads=options.threads, backlog=BACKLOG, backpressure=CONNECTIONS,
        log_enabled=False, websockets=False).serve()


def _bjoern(options: argparse.Namespace, app: Any) -> None:
    importlib.import_module("bjoern").run(app, HOST, options.port, listen_backlog=BACKLOG)


def _fastwsgi(options: argparse.Namespace, app: Any) -> None:
    fastwsgi = importlib.import_module("fastwsgi")
    fastwsgi.server.backlog = BACKLOG
    fastwsgi.run(wsgi_app=app, host=HOST, port=options.port, loglevel=0)


def _werkzeug(options: argparse.Namespace, app: Any) -> None:
    serving: Any = importlib.import_module("werkzeug.serving")
    handler = type("Handler", (serving.WSGIRequestHandler,), {"log": lambda *_: None, "timeout": options.keep_alive})
    serving.ThreadedWSGIServer.request_queue_size = BACKLOG
    serving.make_server(HOST, options.port, app, threaded=True, request_handler=handler).serve_forever()


def _stdlib(options: argparse.Namespace, app: Any) -> None:
    peers_stdlib.make_server((HOST, options.port), None if options.app == "wsgi" else app, work_of(options),
                             backlog=BACKLOG, keep_alive=options.keep_alive).serve_forever()


@dataclass(frozen=True)
class Peer:
    """A server, and what it can be told."""

    serve: Callable[[argparse.Namespace, Any], None]
    settings: str
    """How it is run, in words, in which {threads}, {processes} and {keep_alive} stand for what was asked for."""
    needs: tuple[str, ...]
    """Modules that must be there."""
    threads: int | None = 1
    """By default; None: it starts one for each connection."""
    pool: bool = False
    """It can be told how many threads."""
    processes: bool = False
    """It can be told how many processes."""
    wsgi: bool = True
    """It serves WSGI applications; otherwise it serves ASGI."""
    build: str = ""
    """What it takes besides, where it has to be built."""


_ASGI = "ASGI, workers={processes}, loop=auto (uvloop if that is installed), no access log; asyncio.sleep"
_BUILD = "it is built from C: apt install build-essential libev-dev"
PEERS = {
    "waitress": Peer(_waitress, f"{{threads}} threads, connection_limit={CONNECTIONS}, its log of waiting requests off",
                     ("waitress",), THREADS, pool=True),
    "cheroot": Peer(_cheroot, f"{{threads}} threads, keep_alive_conn_limit={CONNECTIONS} (10 by default)",
                    ("cheroot",), THREADS, pool=True),
    "gunicorn": Peer(_gunicorn, "gthread, workers={processes}, {threads} threads, keepalive={keep_alive:g}, "
                     f"worker_connections={CONNECTIONS}", ("gunicorn",), THREADS, pool=True, processes=True),
    "uvicorn-h11": Peer(_uvicorn, _ASGI, ("uvicorn", "h11"), processes=True, wsgi=False),
    "uvicorn-httptools": Peer(_uvicorn, _ASGI, ("uvicorn", "httptools"), processes=True, wsgi=False),
    "granian": Peer(_granian, f"WSGI, workers={{processes}}, blocking_threads={{threads}}, "
                    f"backpressure={CONNECTIONS}, no log", ("granian",), GRANIAN_THREADS, pool=True, processes=True),
    "bjoern": Peer(_bjoern, "one thread, it has no more", ("bjoern",), build=_BUILD),
    "fastwsgi": Peer(_fastwsgi, "one thread, it has no more", ("fastwsgi",), build=_BUILD),
    "werkzeug": Peer(_werkzeug, "its development server: a thread for each connection, no log; HTTP/1.1, but it "
                     "closes each connection after a response", ("werkzeug",), None),
    "stdlib": Peer(_stdlib, "http.server.ThreadingHTTPServer: a thread for each connection, HTTP/1.1, output "
                   "buffered, no log; an application by wsgiref", (), None),
}


def work_of(options: argparse.Namespace) -> peers_apps.Work:
    return peers_apps.Work(options.sleep, options.spin, options.by_path)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.peers.server", description="Another server under test; ends "
                                     "with its standard input (Ctrl-D).")
    add = parser.add_argument
    add("peer", choices=PEERS)
    add("--app", default="wsgi", metavar="APP", help="wsgi, flask, or module:app, a WSGI application of yours that can "
        "be imported from where you are (default: wsgi, or a smallest ASGI one)")
    add("--sleep", type=float, default=0.0, metavar="MS", help="milliseconds the application sleeps; 0: none at all")
    add("--spin", type=float, default=0.0, metavar="MS", help="milliseconds of CPU it burns")
    add("--by-path", action="store_true", help="it answers /sleep/MS and /spin/MS so, and every other path at once")
    add("--threads", type=int, metavar="N", help="of its pool (default: what serves 100 to 400 connections best)")
    add("--processes", type=int, default=1, metavar="N")
    add("--keep-alive", type=float, default=KEEP_ALIVE, metavar="S",
        help=f"seconds a connection may be idle, where it has such a limit (default: {KEEP_ALIVE})")
    add("--switch-interval", type=float, metavar="MS", help="sys.setswitchinterval(), in milliseconds")
    add("--port", type=int, default=0, help="default: any free one")
    options = parser.parse_args()
    peer = PEERS[options.peer]
    options.threads = options.threads or peer.threads
    if options.app != "wsgi" and not peer.wsgi:
        parser.error(f"--app {options.app}: that is WSGI, and uvicorn runs ASGI")
    try:
        app = peers_apps.application(options.app, work_of(options))
        if options.switch_interval is not None:
            sys.setswitchinterval(options.switch_interval / 1e3)
    except ValueError as error:
        parser.error(str(error))
    os.environ |= peers_apps.environment(options.app, work_of(options), options.switch_interval)
    if not options.port:
        with socket.create_server((HOST, 0)) as free:  # not every peer tells which one the system has chosen
            options.port = free.getsockname()[1]
    _fork_guard(options.port, peers_apps.BODY if options.app in peers_apps.APPS else b"HTTP/1.")
    peer.serve(options, app)


def _fork_guard(port: int, expected: bytes) -> None:
    """A process that tells when the server answers `expected`, and ends all of it when standard input closes.

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
        if _answers(port, expected, server, time.monotonic() + 20):
            print(port, flush=True)
            sys.stdin.read()
    finally:
        os.killpg(0, signal.SIGKILL)  # the server, all that it has forked, and this process


def _answers(port: int, expected: bytes, server: int, deadline: float) -> bool:
    while time.monotonic() < deadline and _runs(server):
        try:
            with socket.create_connection((HOST, port), 5) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
                answer = b"".join(iter(lambda: sock.recv(4096), b""))
        except OSError:
            time.sleep(0.02)
            continue
        if expected in answer:
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
