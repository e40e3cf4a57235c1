"""A status page on the application's own port, in the manner of Apache's mod_status, for those who want it there.

    status = Status("/status")
    app = Dispatcher()
    app.add_route(status.path, status)
    ...
    Acceptor(app, urgent=status.answer, hooks=Hooks(starting=status.show), taskmaster=PooledTaskmaster(threads=16))

    /status                 a page: the numbers, and each thread with its request; it needs no script
    /status?refresh=2       the same, which the browser loads again every 2 seconds
    /status?auto            lines for machines, those of Apache's ?auto where it has them
    /status?json            all of it

    Total Connections       accepted, since the start. (Apache counts accesses; here nobody counts requests, unless the
                            server is watched: see `watching`)
    BusyWorkers             threads that have a connection
    IdleWorkers             threads that could take one, as far as the limit lets them
    Open, Queued, Parked    connections: all; waiting for a thread; waiting for their clients
    Kernel                  connections that wait to be accepted; not there, where the system does not tell
    Scoreboard              a letter for each thread: `acceptor.recording.STATES`

Its weakness is Apache's: it takes a thread to answer, so it is gone when it would be needed. With `urgent=` the
acceptor's own thread answers what was accepted and finds no other; see `acceptor.urgent` for what it cannot do. The
control server (`watching.ControlServer`) needs no thread of this server at all, and shows more.

Nor is it for everybody: whoever can ask for it sees which paths are asked for. Let the proxy in front refuse it to
others. Queries, in which there may be secrets, and addresses are not shown unless you say so.

Beside health checks, which are `acceptor.health`'s:

    health = Health(app)
    Acceptor(health, urgent=lambda request: health.answer(request) or status.answer(request),
             hooks=Hooks(starting=status.show), taskmaster=...)

And in front of what is no Dispatcher, such as a WSGI application:

    def site(request): return status.answer(request) or shop(request)
"""

from __future__ import annotations

import json
from urllib.parse import parse_qs

from acceptor import Acceptor, Request, Response
from handlers.scoreboard import StatusNow, idle, read
from handlers.status_page import page

__all__ = ["Status"]

_HEADERS = [("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff")]
_HTML = [("Content-Type", "text/html; charset=utf-8"), *_HEADERS,
         ("Content-Security-Policy",
          "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'")]
_JSON = [("Content-Type", "application/json"), *_HEADERS]
_NOTHING = Response("There is no server to show yet: pass hooks=Hooks(starting=status.show) to the Acceptor, or call "
                    "status.show(acceptor) and start it.\n", 503, _HEADERS)
_METHODS = Response("Method Not Allowed\n", 405, [("Allow", "GET, HEAD")])
_SLOWEST = 3600
"""Seconds between two loads."""


class Status:
    """A handler that shows a server: see the module.

    path: what `answer` answers: "/status".
    queries: show the queries of requests too.
    clients: show the addresses of clients too.

    Any number of threads may call it; it never blocks long. ValueError for a path that is none.
    """

    def __init__(self, path: str = "/status", *, queries: bool = False, clients: bool = False) -> None:
        if not isinstance(path, str) or not path.startswith("/") or "?" in path:
            raise ValueError(f'path={path!r}: pass a path, which begins with "/"')
        self.path = path
        self._queries = bool(queries)
        self._clients = bool(clients)
        # Written by `show`, before the server that it is about has a thread.
        self._acceptor: Acceptor | None = None

    def show(self, acceptor: Acceptor) -> None:
        """Show this one from now on: before its start, or if it is in one process, at any time. For Hooks(starting=)"""
        if not isinstance(acceptor, Acceptor):
            raise TypeError(f"acceptor={acceptor!r}: pass the Acceptor to be shown")
        self._acceptor = acceptor

    def __call__(self, request: Request) -> Response:
        """The page, or what the query asks for; 503 as long as there is nothing to show. Whatever the path."""
        if request.method not in ("GET", "HEAD"):
            return _METHODS
        acceptor = self._acceptor
        if acceptor is None or acceptor.here.run is None:
            return _NOTHING
        now = read(acceptor, queries=self._queries, clients=self._clients)
        query = parse_qs(request.query, keep_blank_values=True)
        if "auto" in query:
            return Response(_lines(now), headers=_HEADERS)
        if "json" in query:
            return Response(json.dumps(now), headers=_JSON)
        return Response(page(now, _refresh(query.get("refresh", [""])[0])), headers=_HTML)

    def answer(self, request: Request) -> Response | None:
        """The same for a request for `path`; None if it is for another. Never blocks long: for Acceptor(urgent=...)."""
        return self(request) if request.path == self.path else None


def _lines(now: StatusNow) -> str:
    threads, connections = now["threads"], now["connections"]
    lines: dict[str, object] = {
        "Server": now["name"], "Model": now["model"], "Process": now["process"],
        "Total Connections": connections["accepted"], "Served": connections["served"],
        "Refused": connections["refused"], "BusyWorkers": threads["serving"],
        "IdleWorkers": idle(now), "Open": connections["open"],
        "Queued": connections["queued"], "Parked": connections["parked"]}
    if connections["kernel"] is not None:
        lines |= {"Kernel": connections["kernel"], "KernelLimit": connections["kernel_limit"]}
    if now["processes"]:
        lines["Processes"] = len(now["processes"])
    lines["Scoreboard"] = "".join(row["state"] for row in now["scoreboard"])
    return "".join(f"{name}: {value}\n" for name, value in lines.items())


def _refresh(written: str) -> int | None:
    """Seconds; None if there is no whole number that will do."""
    if len(written) > 4 or not (written.isascii() and written.isdigit()):
        return None
    return int(written) if 0 < int(written) <= _SLOWEST else None
