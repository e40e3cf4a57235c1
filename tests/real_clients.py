"""Real clients and proxies with every model: 10,000 requests each, of which none may fail. Run from a checkout.

    python -m tests.real_clients                                          everything
    python -m tests.real_clients --model pool --requests 1000 curl nginx  all whose names begin so

A command, and not collected by pytest, because it needs programs and minutes. Every answer is compared with what it
must be. The server runs in this process, beside the threads of http.client; curl, wget, nginx and HAProxy are processes
of their own. docs/real-clients.md has the figures and what they mean.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import logging
import platform
import random
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from acceptor import Acceptor, Request, Response, Timeouts
from bench.models import MODELS
from tests.case_choice import choose
from tests.client_programs import big, curl, line, load, wget
from tests.proxies import proxy

UPLOAD = random.Random(1).randbytes(100_000)
SHORT = 0.5
"""Seconds: a keep-alive timeout that clients can be made to meet."""


def handler(request: Request) -> Response | str:
    if request.path == "/big":
        return Response(big())
    if request.path == "/client":
        return f"{request.client[0]}:{request.client[1]}"
    return line(request.method, request.path, request.body.read())


class Backend:
    """A running server; `restart` stops it softly and starts another on the same port. Closed by a `with` block."""

    def __init__(self, model: str, threads: int, **options: Any) -> None:
        self._model, self._threads, self._options = model, threads, options
        self._acceptor = self._make(0)
        self._before = 0
        self.port = self._acceptor.port

    def _make(self, port: int) -> Acceptor:
        taskmaster = MODELS[self._model].make(self._threads)
        return Acceptor(handler, taskmaster=taskmaster, port=port, **self._options).start()

    @property
    def connections(self) -> int:
        """Accepted so far."""
        return self._before + self._acceptor.taskmaster.snapshot().accepted

    def restart(self) -> None:
        self.close()
        self._before = self.connections
        self._acceptor = self._make(self.port)

    def close(self) -> None:
        report = self._acceptor.stop(deadline=30)
        if report:
            logging.getLogger("acceptor").error("stop() lost something: %s", report)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


Start = Callable[..., Backend]


@dataclass(frozen=True)
class Case:
    """One row of the table for each model: a client or a proxy, and what is done with it."""

    program: str | None
    """What must be installed."""
    run: Callable[[Start, int], Counter[str]]
    """Start the servers it needs, make so many requests, and return what came of them."""
    concurrent: bool = True
    """Several connections at once: not for the model that serves one after the other."""
    excused: frozenset[str] = frozenset()
    """Outcomes that no server can prevent, as docs/real-clients.md explains. They are shown all the same."""


def with_curl(*options: str, concurrent: bool = False, **request: Any) -> Case:
    return Case("curl", lambda start, count: curl(start().port, count, *options, **request), concurrent)


def behind(kind: str, *, threads: int = 64, clients: int = 16, load_options: dict[str, Any] | None = None,
           idle: float = 60.0, options: str = "", backends: int = 1, restart: bool = False,
           excused: Sequence[str] = (), **backend_options: Any) -> Case:
    """http.client through a proxy to `backends` servers, which `restart` all the time, one after the other."""

    def run(start: Start, count: int) -> Counter[str]:
        servers = [start(threads, **backend_options) for _ in range(backends)]
        over = threading.Event()

        def restart_all() -> None:
            for server in itertools.cycle(servers):
                if over.wait(0.2):
                    break
                server.restart()

        restarting = threading.Thread(target=restart_all)
        with proxy(kind, [server.port for server in servers], idle=idle, options=options) as port:
            if restart:
                restarting.start()
            try:
                return load(port, count, clients, **load_options or {})
            finally:
                over.set()
                if restart:
                    restarting.join()

    return Case(kind, run, excused=frozenset(excused))


CASES: dict[str, Case] = {
    "curl": with_curl(),
    "curl-1.0": with_curl("--http1.0"),
    "curl-expect": with_curl("-H", "Expect: 100-continue", method="PUT", body=UPLOAD),
    "curl-chunked": with_curl("-H", "Transfer-Encoding: chunked", method="PUT", body=UPLOAD),
    "curl-parallel": with_curl("-Z", "--parallel-max", "32", concurrent=True),
    "wget": Case("wget", lambda start, count: wget(start().port, count), concurrent=False),
    "http.client": Case(None, lambda start, count: load(start().port, count, 1), concurrent=False),
    "http.client-16": Case(None, lambda start, count: load(start().port, count, 16)),
}
CROSSED = ["POST 502", "POST RemoteDisconnected"]
"""The request crossed the close of its connection, and may not be sent again: nginx's way to say it, and HAProxy's."""
ABSENT = ["POST 502", "GET 502", "HEAD 502"]
"""Nobody listens between the end of one server and the start of the next, and nginx does not wait."""
PAUSES: dict[str, Any] = {"threads": 160, "clients": 128, "load_options": {"pause": SHORT}}
for _kind in ("nginx", "haproxy"):
    CASES[_kind] = behind(_kind)
    CASES[f"{_kind}-crowded"] = behind(_kind, threads=4)
    CASES[f"{_kind}-idle"] = behind(_kind, timeouts=Timeouts(keep_alive=SHORT), excused=CROSSED, **PAUSES)
    CASES[f"{_kind}-rolling"] = behind(_kind, backends=2, restart=True, excused=CROSSED)
    CASES[f"{_kind}-restart"] = behind(_kind, restart=True, excused=ABSENT if _kind == "nginx" else CROSSED)
CASES["nginx-sooner"] = behind("nginx", idle=SHORT, timeouts=Timeouts(keep_alive=3 * SHORT), **PAUSES)
CASES["haproxy-sooner"] = behind("haproxy", options="pool-purge-delay 250ms",
                                 timeouts=Timeouts(keep_alive=3 * SHORT), **PAUSES)
for _version, _option in ("v1", "send-proxy"), ("v2", "send-proxy-v2"):
    CASES[f"haproxy-{_version}"] = behind("haproxy", options=_option, proxy_protocol=["127.0.0.1"],
                                          load_options={"path": "/client"})


class _Errors(logging.Handler):
    """Counts what the server logs as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.counted: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        self.counted[f"logged: {record.getMessage()[:150]}"] += 1


def measure(model: str, name: str, count: int) -> bool:
    """Run one case with one model, print its row, and say whether all is well."""
    case, errors = CASES[name], _Errors()
    servers: list[Backend] = []
    logging.getLogger().addHandler(errors)
    begun = time.monotonic()
    with contextlib.ExitStack() as stack:
        def start(threads: int = 64, **options: Any) -> Backend:
            servers.append(stack.enter_context(Backend(model, threads, **options)))
            return servers[-1]

        try:
            outcome = case.run(start, count)
        except Exception as error:
            outcome = Counter({f"{type(error).__name__}: {error}": 1})
        seconds = time.monotonic() - begun
    logging.getLogger().removeHandler(errors)
    bad = Counter({what: number for what, number in outcome.items() if not what.endswith("ok")}) + errors.counted
    failures = sum(number for what, number in bad.items() if what not in case.excused)
    notes = ", ".join(f"{what}: {number}{' (excused)' * (what in case.excused)}" for what, number in bad.items())
    print(f"{model:10} {name:16} {outcome.total():8,} {failures:8,} {sum(it.connections for it in servers):11,} "
          f"{seconds:8.1f}  {notes}", flush=True)
    return not failures


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0: no failure, 1: some, 2: something is not installed, or there is no such case."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.real_clients", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Real clients and proxies with every model; no request may fail. A table goes to standard output.",
        epilog=f"cases: {', '.join(CASES)}\n\nexit status: 0 no failure, 1 some, 2 a program is missing")
    options, chosen = choose(parser, CASES, models=MODELS, requests=10_000, what="of each case", arguments=arguments)
    missing = sorted({tool for name in chosen if (tool := CASES[name].program) and not shutil.which(tool)})
    if missing:
        parser.error(f"not installed: {', '.join(missing)}; try: apt-get install {' '.join(missing)}, or name the "
                     "cases to run")
    logging.basicConfig(level=logging.CRITICAL + 1)  # what is an error is in the table
    print(f"Python {platform.python_version()}, {platform.system()} {platform.release()}, {time.strftime('%Y-%m-%d')}")
    print(f"{'model':10} {'client':16} {'requests':>8} {'failures':>8} {'connections':>11} {'seconds':>8}")
    results = [measure(model, name, options.requests) for model in options.model or MODELS for name in chosen
               if CASES[name].concurrent is False or model != "single"]
    print(f"{results.count(False)} of {len(results)} rows with failures")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
