"""This server in place of the one that a framework's own test suite drives, in the processes of `tests.peer_suites`.

    werkzeug    `werkzeug.serving.make_server`, which is what run_simple, and so the development server, runs
    django      the two server classes of `django.core.servers.basehttp`, which LiveServerTestCase runs
    wire        the test client of Werkzeug and Flask, in `tests.apps.wire`

What becomes of each test is appended to a file, a line of JSON each.
"""

from __future__ import annotations

import functools
import json
import os
import runpy
import socket
import ssl
import sys
import threading
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any

from acceptor import TLS, Acceptor, Violation
from acceptor.connection import Connection
from acceptor.wsgi import WSGI, Application
from bench.models import MODELS
from taskmaster import SingleThreadedTaskmaster, Taskmaster

__all__ = ["pytest_configure", "pytest_runtest_logreport"]

MODEL = os.environ.get("PEER_MODEL", "pool")
RESULTS = Path(os.environ.get("PEER_RESULTS", "peer-results"))
WIRE = "PEER_WIRE" in os.environ
"""What `tests.peer_suites` says; now, because some tests empty the environment."""
ALLOWED = [Violation.INVALID_HOST, Violation.INVALID_TARGET, Violation.MISMATCHED_HOST, Violation.OBS_FOLD,
           Violation.LENGTH_AND_CHUNKED]
"""What HTTP forbids and Werkzeug's tests send."""


def make_taskmaster() -> Taskmaster:
    return MODELS[MODEL].make(32)


def record(test: str, outcome: str, details: str = "") -> None:
    """Append what has become of a test: "passed", "skipped" for a reason, or "failed" with a traceback."""
    with RESULTS.open("a") as file:
        file.write(json.dumps([test, outcome, details]) + "\n")


# Werkzeug.


class WerkzeugServer:
    """What `make_server` is to return: bound when made, since the reloader hands the socket on, and not yet running."""

    def __init__(self, host: str, port: int, app: Application, threaded: bool = False, processes: int = 1,
                 request_handler: object = None, passthrough_errors: bool = False, ssl_context: Any = None,
                 fd: int | None = None) -> None:
        if fd is not None:
            self.socket = socket.socket(fileno=fd)
        elif host.startswith("unix://"):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.bind(host.removeprefix("unix://"))
            self.socket.listen()
        else:
            self.socket = socket.create_server((host, port))
        self._app = app
        self._tls = None if ssl_context is None else TLS.of(functools.partial(self._context, ssl_context))

    @staticmethod
    def _context(wanted: Any) -> ssl.SSLContext:
        from werkzeug.serving import generate_adhoc_ssl_context, load_ssl_context

        if wanted == "adhoc":
            return generate_adhoc_ssl_context()
        return load_ssl_context(*wanted) if isinstance(wanted, tuple) else wanted

    def fileno(self) -> int:
        return self.socket.fileno()

    def log_startup(self) -> None:
        print(f" * Running on {self.socket.getsockname()}", file=sys.stderr)

    def serve_forever(self) -> None:
        Acceptor(WSGI(self._app), bind=self.socket, tls=self._tls, allow=ALLOWED,
                 taskmaster=make_taskmaster()).serve_forever()

    def server_close(self) -> None:
        self.socket.close()


def run_werkzeug(program: str) -> None:
    """Run `live_apps/run.py`, on this server."""
    import werkzeug.serving

    werkzeug.serving.make_server = WerkzeugServer  # type: ignore[assignment]
    runpy.run_path(program, run_name="__main__")


# Django.


class _WithConnections(Acceptor):
    """Does for each connection what ThreadedWSGIServer does: the test's database before, and closed afterwards."""

    before: Callable[[], None]
    after: Callable[[], None]

    def process_connection(self, connection: Connection) -> None:
        self.before()
        try:
            super().process_connection(connection)
        finally:
            self.after()


class DjangoServer:
    """`ThreadedWSGIServer`, as far as LiveServerThread and the tests know it."""

    def __init__(self, server_address: tuple[str, int], handler: object, *, ipv6: bool = False,
                 allow_reuse_address: bool = True, connections_override: dict[str, Any] | None = None) -> None:
        self.socket = socket.create_server(server_address, family=socket.AF_INET6 if ipv6 else socket.AF_INET)
        self.server_address = self.socket.getsockname()
        self.connections_override = connections_override
        self._stopped = threading.Event()

    def make_taskmaster(self) -> Taskmaster:
        return make_taskmaster()

    def set_app(self, app: Application) -> None:
        """And start, rather than in `serve_forever`: the thread says next that it is ready, and may be told to stop."""
        self._acceptor = _WithConnections(WSGI(app), bind=self.socket, taskmaster=self.make_taskmaster())
        self._acceptor.before, self._acceptor.after = self._open_connections, self._close_connections
        self._acceptor.start()

    def serve_forever(self) -> None:
        self._stopped.wait()

    def shutdown(self) -> None:
        self._acceptor.stop()
        self._stopped.set()

    def server_close(self) -> None:
        self.socket.close()

    def _open_connections(self) -> None:
        from django.db import connections  # type: ignore[import-untyped]

        for alias, connection in (self.connections_override or {}).items():
            connections[alias] = connection

    def _close_connections(self) -> None:
        from django.db import connections

        connections.close_all()


class SingleThreadedDjangoServer(DjangoServer):
    """`WSGIServer`: whatever the model, this one has one thread."""

    def make_taskmaster(self) -> Taskmaster:
        return SingleThreadedTaskmaster()


def run_django(labels: list[str]) -> None:
    """Run Django's `runtests.py`, of the folder we are in, with this server."""
    from django.core.servers import basehttp  # type: ignore[import-untyped]

    basehttp.ThreadedWSGIServer, basehttp.WSGIServer = DjangoServer, SingleThreadedDjangoServer
    unittest.TestCase.run = _recorded(unittest.TestCase.run)  # type: ignore[method-assign]
    sys.argv = ["runtests.py", "--parallel=1", "--verbosity=0", *labels]
    runpy.run_path("runtests.py", run_name="__main__")


def _recorded(original: Callable[..., Any]) -> Callable[..., Any]:
    """`TestCase.run`, which also writes down what has become of the test."""

    def run(test: unittest.TestCase, result: unittest.TestResult) -> Any:
        failed, broken, skipped = len(result.failures), len(result.errors), len(result.skipped)
        if MODEL == "single" and "LiveServerThreadedTests" in test.id():
            result.addSkip(test, "it asks the server from within a request, and this one serves one at a time")
        else:
            original(test, result)
        if problems := result.failures[failed:] + result.errors[broken:]:
            record(test.id(), "failed", problems[0][1])
        elif len(result.skipped) > skipped:
            record(test.id(), "skipped", result.skipped[-1][1])
        else:
            record(test.id(), "passed")
        return result

    return run


# Hooks of pytest: this module is its plugin.


def pytest_configure(config: Any) -> None:
    if WIRE:
        import werkzeug.test

        from tests.apps.wire import Wire

        wire = Wire(make_taskmaster())
        werkzeug.test.run_wsgi_app = wire.run_wsgi_app
        config.add_cleanup(wire.close)


def pytest_runtest_logreport(report: Any) -> None:
    if report.outcome == "skipped" and isinstance(report.longrepr, tuple):
        record(report.nodeid, "skipped", report.longrepr[2])
    elif report.when == "call" or report.outcome != "passed":
        record(report.nodeid, report.outcome, str(report.longrepr or ""))


if __name__ == "__main__":
    run_django(sys.argv[1:])
