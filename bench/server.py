"""The server under test: one process, one model, one handler; it ends when its standard input closes.

    python -m bench.server --model recycling-park --sleep 0.1     milliseconds that the handler sleeps

It prints its port on a line of its own as soon as it listens. For each line on its standard input it prints one of
JSON, with what its taskmaster has counted and what Python has allocated, garbage collected before unless the line is
"glance"; else it measures nothing while it serves, its parent does that from outside. At the end comes one more line:
what has become of it all.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import socket
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

from acceptor import Acceptor, Handler, HTTPError, Request, Response, Timeouts
from acceptor.wsgi import WSGI
from bench.models import MODELS, find_model
from bench.peers import apps as peers_apps
from bench.peers.apps import Work
from bench.processes import raise_open_files
from bench.studies.hostile.attacks import BIG
from bench.studies.speed import transfer as speed_transfer
from handlers import delay, hello, spin

__all__ = ["main"]

_BY_PATH = Work(by_path=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.server", description="The server under test; ends with its "
                                     "standard input (Ctrl-D).")
    add = parser.add_argument
    add("--model", default="recycling-park", metavar="NAME",
        help=f"{', '.join(MODELS)} or pkg.mod:Class (default: recycling-park)")
    add("--capacity", type=int, default=128, metavar="N", help="connections it has room for; 0: what the model has "
        "by default (default: 128)")
    add("--exactly", action="store_true", help="so many threads, all of them from the start")
    add("--standby", type=int, metavar="N", help="threads that wait when there is nothing to do (recycling)")
    add("--queue", type=int, metavar="N", help="connections that may wait, where the model has a queue")
    add("--inline", choices=("fair", "always", "never"), help="whether a thread that parks goes on with its connection")
    add("--processes", type=int, metavar="N", help="worker processes (prefork)")
    add("--sleep", type=float, default=0.0, metavar="MS", help="milliseconds the handler sleeps; 0: none at all")
    add("--spin", type=float, default=0.0, metavar="MS", help="milliseconds of CPU it burns instead")
    add("--by-path", action="store_true", help="it answers /sleep/MS and /spin/MS so, and every other path at once")
    add("--big", action="store_true", help="it answers /big with 40 MB, and reads what it is sent: see bench hostile")
    add("--app", default="handler", metavar="APP", help="answer by a handler of ours, by an application of "
        "bench.peers.apps (wsgi, flask), or by module:app, a WSGI application of yours that can be imported from where "
        "you are (default: handler)")
    add("--transfer", type=Path, metavar="FILE",
        help="it answers, and reads, what bench.studies.speed.transfer asks of it")
    add("--http", metavar="WIRE", help="what parses requests: Acceptor(http=...)")
    add("--port", type=int, default=0, help="default: any free one")
    add("--keep-alive", type=float, default=Timeouts.keep_alive, metavar="S", help="seconds a connection may be idle")
    add("--switch-interval", type=float, metavar="MS", help="sys.setswitchinterval(), in milliseconds")
    add("--defer-accept", type=int, metavar="S", help="TCP_DEFER_ACCEPT of the listen socket, in seconds: tcp(7)")
    add("--trace-memory", action="store_true", help="count what Python allocates, which makes it slow")
    options = parser.parse_args()
    if options.exactly and options.standby is not None:
        parser.error("--exactly says how many threads there are: leave out --standby")
    more = {"inline": options.inline, "processes": options.processes, "queue_size": options.queue,
            "standby": options.standby}
    more = {name: value for name, value in more.items() if value is not None}
    raise_open_files()
    if options.trace_memory:
        tracemalloc.start()
    settings: dict[str, Any] = {} if options.http is None else {"http": options.http}
    try:
        if options.switch_interval is not None:
            sys.setswitchinterval(options.switch_interval / 1e3)
        if options.defer_accept is None:
            settings["port"] = options.port
        else:
            settings["bind"] = _deferring(options.port, options.defer_accept)
        taskmaster = find_model(options.model).make(options.capacity, exactly=options.exactly, **more)
        acceptor = Acceptor(_handler(options), taskmaster=taskmaster,
                            timeouts=Timeouts(keep_alive=options.keep_alive), **settings)
    except (OSError, TypeError, ValueError) as error:
        parser.error(str(error))
    acceptor.start()

    def counted() -> dict[str, Any]:
        now = taskmaster.snapshot()
        used = resource.getrusage(resource.RUSAGE_SELF)  # of all threads, also of those that have ended
        return {"threads": {state.word: count for state, count in now.threads.items() if count},
                "accepted": now.accepted, "served": now.served, "refused": now.refused, "parked": now.parked,
                "queued": now.queued, "grown": dict(now.grown), "shrunk": dict(now.shrunk),
                "voluntary": used.ru_nvcsw, "involuntary": used.ru_nivcsw}

    print(acceptor.port, flush=True)
    try:
        for line in sys.stdin:  # until the parent closes it, or is no more
            if line != "glance\n":
                gc.collect()
            print(json.dumps({**counted(), "allocated": tracemalloc.get_traced_memory()[0]}), flush=True)
    except KeyboardInterrupt:
        pass
    threads = counted()["threads"]
    report = acceptor.stop(deadline=1.0)
    print(json.dumps({**counted(), "threads": threads, "cpu_seconds": time.process_time(),
                      "cut": list(report.cut), "stuck": list(report.stuck)}))


def _handler(options: argparse.Namespace) -> Handler:
    if options.transfer:
        return speed_transfer.handler(options.transfer)
    if options.app != "handler":
        return WSGI(peers_apps.application(options.app, Work(options.sleep, options.spin, options.by_path)))
    if options.by_path:
        return _by_path
    if options.spin:
        return spin(options.spin / 1e3)
    # Nothing at all for 0: even time.sleep(0) costs a system call and some 50 us.
    return delay(options.sleep / 1e3) if options.sleep else _small_or_big if options.big else hello


def _deferring(port: int, seconds: int) -> socket.socket:
    """A listen socket that is ready only once a client has sent something. OSError if it cannot be had."""
    sock = socket.create_server(("127.0.0.1", port), backlog=1024)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, seconds)
    return sock


def _by_path(request: Request) -> Response:
    try:
        _BY_PATH.do(request.path)
    except ValueError:
        raise HTTPError(404) from None
    return hello(request)


def _small_or_big(request: Request) -> bytes:
    request.body.read()
    return bytes(BIG) if request.path == "/big" else b"Hello"


if __name__ == "__main__":
    main()
