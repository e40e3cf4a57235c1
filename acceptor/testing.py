r"""A server in a test: the pytest fixture `live_server`, which also looks at what is left when the test is over.

    # conftest.py, one line:
    from acceptor.testing import live_server

    # test_shop.py:
    def test_the_shop_is_open(live_server):
        server = live_server(app)                  # a WSGI application, or a handler
        assert urlopen(f"{server.url}/").status == 200

`live_server(app)` returns when connections are accepted; nothing sleeps. It may be called several times in a test. For
a server that many tests share, write in conftest.py

    live_servers = make_live_server(scope="session")

    @pytest.fixture(scope="session")
    def shop(live_servers):
        return live_servers(app)

At the end servers are stopped, and the test fails if

    - requests were still in progress `deadline` seconds later, and had to be cut. A test that is about that calls
      `server.stop()` itself, and looks at what it returns
    - the server logged errors, such as the traceback of a handler that raised. A test that is about that passes
      `errors_allowed=True`, or looks at `server.errors`
    - threads of the server, or its side of a connection, are left (connections on Linux only: by /proc/self/fd)

A thread is the server's if it has the server's name in its own, as `taskmaster.base.AcceptorSteps.name` asks; and what
is logged by such a thread is logged by this server, and not by another in the same process.

What a client has left open is no failure: the server closes idle connections when it stops. With `strict=True` it is,
and so are threads that have been started since the server was, by whomever, and still run.

Nothing is registered by itself, because pytest-django and pytest-flask have a fixture of the same name, and take any
that is called so for theirs: pytest-django skips the test if it has no settings. Beside them, give it another name:

    from acceptor.testing import live_server as serve

(`pytest_plugins = ["acceptor.testing"]` does the same as the import, under the first name.)

For tests of clients there are handlers that answer as no server should: `raw_answer` and `no_answer`.

PYTEST_DONT_REWRITE: there is no assert here, and pytest warns if what it would rewrite has been imported before.
"""

from __future__ import annotations

import logging
import os
import re
import select
import socket
import struct
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Literal

import pytest

from acceptor import Acceptor, StopReport
from acceptor.messages import Handler, Request
from acceptor.wsgi import WSGI, is_wsgi
from taskmaster.arguments import seconds
from taskmaster.base import Taskmaster

__all__ = ["LiveServer", "StartLiveServer", "live_server", "make_live_server", "no_answer", "raw_answer"]

_LOGGERS = ("acceptor", "taskmaster")
_PATIENCE = 1.0
"""Seconds that the threads of others have to end, if a test is strict."""
_LOOK = 0.05
"""Seconds between two looks at whether the server stops."""


class LiveServer:
    """A running server, made by `live_server`. For the thread that runs the test."""

    def __init__(self, acceptor: Acceptor, *, deadline: float, errors_allowed: bool, strict: bool) -> None:
        self.acceptor = acceptor
        self.taskmaster = acceptor.taskmaster
        self._deadline = seconds("deadline", deadline, zero=True)
        self._errors_allowed = errors_allowed
        self._strict = strict
        self._stopped = False
        """By the test, which has the report."""
        self._threads_before = frozenset(threading.enumerate())
        self._sockets_before = _own_sockets()
        self._log = _Errors()
        for name in _LOGGERS:
            logging.getLogger(name).addHandler(self._log)
        try:
            acceptor.start()
        except BaseException:
            self._forget_log()
            raise

    @property
    def url(self) -> str:
        """"http://127.0.0.1:54321", "https://" with `tls`; no slash at its end."""
        return self.acceptor.urls[0]

    @property
    def port(self) -> int:
        return self.acceptor.port

    @property
    def errors(self) -> list[str]:
        """What the server has logged from ERROR up, the oldest first: "GET / from 127.0.0.1:40312: the handler failed:
        ZeroDivisionError: division by zero (shop.py:12, in price)". Whoever looks at it judges it: errors do not fail
        the test any more."""
        self._errors_allowed = True
        return self._errors()

    def stop(self, deadline: float | None = None) -> StopReport:
        """Stop now, as `Acceptor.stop` does, and not at the end of the test. Whoever calls it judges the report: what
        was cut does not fail the test. deadline: in seconds; None is that of `live_server`."""
        self._stopped = True
        return self.acceptor.stop(deadline=self._deadline if deadline is None else deadline)

    def __str__(self) -> str:
        """The URL."""
        return self.url

    def __repr__(self) -> str:
        return f"<LiveServer {self.url} with {type(self.taskmaster).__name__}>"

    def _finish(self) -> str:
        """Stop, and say what is not as it should be; empty if all is."""
        try:
            report = self.acceptor.stop(deadline=self._deadline)
        finally:
            self._forget_log()
        problems = []
        if report.cut and not self._stopped:
            problems.append(f"requests in progress were cut {self._deadline:g} s after the test: "
                            f"{', '.join(report.cut)}; if the test is about that, let it call server.stop()")
        if (errors := self._errors()) and not self._errors_allowed:
            problems.append("the server logged errors; if the test is about that, pass live_server(..., "
                            "errors_allowed=True), or look at server.errors\n      " + "\n      ".join(errors))
        threads = [thread.name for thread in threading.enumerate()
                   if self._is_of_server(thread.name) or thread.name in report.stuck]
        if threads:
            problems.append(f"threads of the server have not ended: {', '.join(sorted(threads))}")
        else:  # those would have sockets
            problems += self._sockets_left()
        if self._strict and (others := self._threads_left()):
            problems.append(f"threads that were started since the server was still run: {', '.join(others)}")
        return "\n  - ".join([f"{self!r} was not left as it should be:", *problems]) if problems else ""

    def _sockets_left(self) -> list[str]:
        problems = []
        if self.acceptor.connection_count:
            problems.append(f"connections that the server has not closed: {self.acceptor.connection_count}")
        ports = [pair for pair in _tcp_ports(_own_sockets() - self._sockets_before) if self.port in pair]
        if servers := [other for own, other in ports if own == self.port]:
            problems.append(f"sockets of the server are open, to clients at port {_listed(servers)}; whoever takes a "
                            "connection over, by request.detach(), closes it")
        clients = [own for own, _ in ports if own != self.port]
        if self._strict and clients:
            problems.append(f"clients have not closed their connections, from port {_listed(clients)}")
        return problems

    def _threads_left(self) -> list[str]:
        end = time.monotonic() + _PATIENCE
        others = [thread for thread in threading.enumerate()
                  if thread not in self._threads_before and not self._is_of_server(thread.name)]
        for thread in others:
            thread.join(max(0.0, end - time.monotonic()))
        return sorted(thread.name for thread in others if thread.is_alive())

    def _errors(self) -> list[str]:
        """Those that were logged by threads of this server."""
        return [text for thread, text in self._log.kept() if self._is_of_server(thread)]

    def _is_of_server(self, thread: str) -> bool:
        """Whether a thread with this name is one of the server's."""
        name = re.escape(self.acceptor.name)
        return re.search(f"{name}(?![0-9])", thread) is not None  # else port 5432 would have the threads of 54321

    def _forget_log(self) -> None:
        for name in _LOGGERS:
            logging.getLogger(name).removeHandler(self._log)


class StartLiveServer:
    """What the fixture `live_server` is: called, it starts a server."""

    def __init__(self, at_the_end: ExitStack, problems: list[str]) -> None:
        self._at_the_end = at_the_end
        self._problems = problems

    def __call__(self, app: Any, *, taskmaster: Taskmaster | Callable[[], Taskmaster] | None = None,
                 wsgi: bool | None = None, deadline: float = 5.0, errors_allowed: bool = False, strict: bool = False,
                 **options: Any) -> LiveServer:
        """Start a server; return when it accepts connections.

        app: a WSGI application, or a handler, which takes a Request.
        taskmaster: one, or what makes one, such as its class; None is a RecyclingTaskmaster.
        wsgi: whether `app` is a WSGI application; None asks its signature.
        deadline: seconds that requests in progress have at the end of the test.
        errors_allowed, strict: see the module.
        options: those of Acceptor. Without `port` or `bind` the system chooses a port.

        TypeError, ValueError and OSError as of Acceptor.
        """
        if "bind" not in options:
            options.setdefault("port", 0)
        handler: Handler = WSGI(app) if (is_wsgi(app) if wsgi is None else wsgi) else app
        server = LiveServer(Acceptor(handler, taskmaster=_taskmaster(taskmaster), **options),
                            deadline=deadline, errors_allowed=errors_allowed, strict=strict)
        self._at_the_end.callback(lambda: self._problems.append(server._finish()))
        return server

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"live_server has no {name!r}: call it, live_server(app), and use what that returns. If pytest-django or "
            "pytest-flask asks, which take any fixture of this name for theirs, give it another one in conftest.py: "
            "from acceptor.testing import live_server as serve", name=name, obj=self)


def make_live_server(scope: Literal["session", "package", "module", "class", "function"] = "function") -> Any:
    """The fixture `live_server` with another scope, or another name: that of the variable it is assigned to."""
    @pytest.fixture(scope=scope)
    def live_server() -> Iterator[StartLiveServer]:
        """Starts a server, WSGI application or handler, which is stopped and checked at the end: acceptor.testing."""
        problems: list[str] = []
        with ExitStack() as at_the_end:
            yield StartLiveServer(at_the_end, problems)
        if found := "\n".join(filter(None, problems)):
            pytest.fail(found, pytrace=False)
    return live_server


live_server = make_live_server()


# For tests of clients.

def raw_answer(data: bytes, *, reset: bool = False) -> Handler:
    r"""A handler that reads its request, sends `data` as it is, and closes the connection, if `reset` with a RST.

        raw_answer(b"")                                                     it closes without an answer
        raw_answer(b"", reset=True)                                         "connection reset by peer"
        raw_answer(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")    a body that is cut short
    """
    def handler(request: Request) -> bytes:
        request.body.read()  # or the close would be a reset
        with request.detach().socket as sock:
            try:
                sock.sendall(data)
                if reset:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # socket(7)
            except OSError:  # the client has gone
                pass
        return b""
    return handler


def no_answer(request: Request) -> bytes:
    """A handler that never answers. It keeps its thread until the client goes, or the server stops."""
    with request.detach().socket as sock:
        try:
            while not request.stopping:
                if select.select([sock], [], [], _LOOK)[0] and not sock.recv(65536):
                    break
        except OSError:  # the client has gone
            pass
    return b""


# What the checks look at.

class _Errors(logging.Handler):
    """Keeps what is logged from ERROR up, and by which thread. Any thread."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._kept: list[tuple[str, str]] = []
        """Guarded by the lock that every handler has."""

    def emit(self, record: logging.LogRecord) -> None:
        self._kept.append((record.threadName or "", _described(record)))

    def kept(self) -> list[tuple[str, str]]:
        self.acquire()
        try:
            return list(self._kept)
        finally:
            self.release()


def _described(record: logging.LogRecord) -> str:
    """The message, and of an exception what it was and where it was raised."""
    text = record.getMessage()
    error = record.exc_info[1] if record.exc_info else None
    if error is None:
        return text
    text = f"{text}: {type(error).__name__}: {error}"
    for frame in traceback.extract_tb(error.__traceback__)[-1:]:
        text = f"{text} ({frame.filename}:{frame.lineno}, in {frame.name})"
    return text


def _own_sockets() -> frozenset[int]:
    """The inodes of this process' sockets; empty where there is no /proc/self/fd. proc(5)."""
    inodes = set()
    try:
        numbers = os.listdir("/proc/self/fd")
    except OSError:
        return frozenset()
    for number in numbers:
        try:
            found = re.fullmatch(r"socket:\[([0-9]+)\]", os.readlink(f"/proc/self/fd/{number}"))
        except OSError:  # closed meanwhile, as that of the listing
            continue
        if found:
            inodes.add(int(found[1]))
    return frozenset(inodes)


def _tcp_ports(inodes: frozenset[int]) -> list[tuple[int, int]]:
    """Of those of the sockets that are TCP, the own port and that of the other end. proc(5), /proc/net/tcp."""
    ports = []
    for table in ("/proc/self/net/tcp", "/proc/self/net/tcp6"):
        try:
            with open(table) as file:
                lines = file.readlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if int(fields[9]) in inodes:
                own, other = (int(address.rpartition(":")[2], 16) for address in fields[1:3])
                ports.append((own, other))
    return ports


def _listed(ports: list[int]) -> str:
    return ", ".join(str(port) for port in sorted(ports))


def _taskmaster(given: Taskmaster | Callable[[], Taskmaster] | None) -> Taskmaster:
    if given is None:
        from taskmaster import RecyclingTaskmaster
        return RecyclingTaskmaster()
    return given() if callable(given) else given
