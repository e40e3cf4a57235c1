"""What the tests share: `model`, every concurrency model in turn, and `serve`, a running server that is checked.

    def test_hello(serve: Serve) -> None:
        server = serve(lambda request: "Hello")         # once with each model
        with server.connect() as client: ...
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import pytest
from hypothesis import settings

import acceptor.acceptor
import acceptor.connection
import acceptor.run
import acceptor.watcher
from acceptor import Acceptor, Handler, StopReport
from acceptor.connection import Connection
from taskmaster import (
    EventLoopTaskmaster,
    PooledTaskmaster,
    RecyclingTaskmaster,
    SingleThreadedTaskmaster,
    Taskmaster,
    ThreadPerConnectionTaskmaster,
)
from tests.clients import PATIENCE, RawClient

for module in (acceptor.acceptor, acceptor.connection, acceptor.run, acceptor.watcher):
    vars(module)["TICK"] = 0.05
"""Seconds. What waits for the next tick, as a stop for idle connections, need not take half a second in each test."""

settings.register_profile("taskmasters", deadline=None, max_examples=100)
settings.load_profile("taskmasters")


@dataclass(frozen=True)
class Model:
    """A concurrency model under test. Call it for a new taskmaster, with room for several connections at once."""

    name: str
    make: Callable[[], Taskmaster]
    concurrent: bool
    """It serves more than one connection at a time."""
    buffers: bool = False
    """A handler is called when its request's body has come whole."""
    offloads: bool = False
    """Handlers run on threads that are not the taskmaster's."""

    def __call__(self) -> Taskmaster:
        return self.make()


def _offloading() -> Taskmaster:
    _EXECUTORS.append(ThreadPoolExecutor(16, "offload"))
    return EventLoopTaskmaster(offload=_EXECUTORS[-1])


_EXECUTORS: list[ThreadPoolExecutor] = []
"""Made in the current test: see `model`."""

MODELS = [
    Model("loop", EventLoopTaskmaster, concurrent=False, buffers=True),
    Model("offloading", _offloading, concurrent=True, buffers=True, offloads=True),
    Model("single", SingleThreadedTaskmaster, concurrent=False),
    Model("per_connection", lambda: ThreadPerConnectionTaskmaster(max_thread_count=16), concurrent=True),
    Model("pooled", lambda: PooledTaskmaster(threads=4, queue_size=16, idle="park"), concurrent=True),
    Model("recycling", lambda: RecyclingTaskmaster(standby=2, max_thread_count=16, idle="park"), concurrent=True),
]


@pytest.fixture(params=MODELS, ids=lambda model: model.name)
def model(request: pytest.FixtureRequest) -> Iterator[Model]:
    """Each of the models in turn."""
    assert isinstance(request.param, Model)
    yield request.param
    while _EXECUTORS:
        _EXECUTORS.pop().shutdown()


class WatchedAcceptor(Acceptor):
    """An acceptor that lets a test wait until connections are over."""

    def __init__(self, handler: Handler, **options: Any) -> None:
        super().__init__(handler, **options)
        self._one_over = threading.Condition()
        self._over = 0

    def process_connection(self, connection: Connection) -> None:
        try:
            super().process_connection(connection)
        finally:
            self._count()

    def process_until_idle(self, connection: Connection, go_on: Callable[[], bool]) -> bool:
        idle = False
        try:
            idle = super().process_until_idle(connection, go_on)
        finally:
            if not idle:
                self._count()
        return idle

    def process_without_waiting(self, connection: Connection, offload: Executor | None) -> bool:
        idle = False
        try:
            idle = super().process_without_waiting(connection, offload)
        finally:
            if not idle:
                self._count()
        return idle

    def _count(self) -> None:
        with self._one_over:
            self._over += 1
            self._one_over.notify_all()

    def wait_until_over(self, count: int) -> None:
        """Wait until `count` connections have been processed to their end since the start."""
        with self._one_over:
            ended = self._one_over.wait_for(lambda: self._over >= count, PATIENCE)
            assert ended, (f"only {self._over} of {count} connections are over after {PATIENCE:g} s; open: "
                           f"{self.connection_count}; {self.taskmaster.snapshot()}")


class _Keep(logging.Handler):
    """Appends what is logged to `records`."""

    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__(logging.WARNING)
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(record)


class Server:
    """A running server, its log, and the clients connected to it. Made by the fixture `serve`."""

    def __init__(self, acceptor: WatchedAcceptor) -> None:
        self.acceptor = acceptor
        self.taskmaster = acceptor.taskmaster
        self.records: list[logging.LogRecord] = []
        """What it logged, from WARNING up."""
        self._clients: list[RawClient] = []
        self._log = _Keep(self.records)

    @property
    def port(self) -> int:
        return self.acceptor.port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def errors(self) -> list[str]:
        """What it logged from ERROR up."""
        return [record.getMessage() for record in self.records if record.levelno >= logging.ERROR]

    def connect(self) -> RawClient:
        """A new client, closed at the end of the test at the latest."""
        client = RawClient.connect(self.port)
        self._clients.append(client)
        return client

    def wait_until_over(self, count: int) -> None:
        """Wait until `count` connections have been processed to their end since the start."""
        self.acceptor.wait_until_over(count)

    def start(self) -> None:
        for name in ("acceptor", "taskmaster"):
            logging.getLogger(name).addHandler(self._log)
        try:
            self.acceptor.start()
        except BaseException:
            self._forget_log()
            raise

    def stop(self) -> list[str]:
        """Stop, close the clients, and say everything that is not as it should be."""
        try:
            report = self.acceptor.stop(deadline=PATIENCE)
        finally:
            for client in self._clients:
                client.close()
            self._forget_log()
        return self._problems(report)

    def _forget_log(self) -> None:
        for name in ("acceptor", "taskmaster"):
            logging.getLogger(name).removeHandler(self._log)

    def _problems(self, report: StopReport) -> list[str]:
        snapshot = self.taskmaster.snapshot()
        threads = [thread.name for thread in threading.enumerate() if self.acceptor.name in thread.name]
        bugs = [record.getMessage() for record in self.records if "this is a bug" in record.getMessage()]
        checks = [
            (not report, f"stop() lost something: {report}"),
            (not threads, f"threads left: {threads}"),
            (snapshot.thread_count == 0, "threads left in the taskmaster's books"),
            (self.acceptor.connection_count == 0, f"connections left: {self.acceptor.connection_count}"),
            (snapshot.queued == 0, "connections left in the queue"),
            (snapshot.parked == 0, "connections left parked"),
            (snapshot.accepted == snapshot.served + snapshot.refused, "accepted is not served + refused"),
            (not bugs, f"logged as bugs of the server: {bugs}"),
        ]
        problems = [text for good, text in checks if not good]
        return [*problems, str(snapshot)] if problems else []


class Serve(Protocol):
    """Start a server with `handler` and the model of this test; options are those of Acceptor."""

    def __call__(self, handler: Handler, **acceptor_options: Any) -> Server: ...


@pytest.fixture
def serve(model: Model) -> Iterator[Serve]:
    """Start servers on port 0 with `model`. At the end they are stopped, and nothing may be left of them: no thread,
    no connection, and no connection that the taskmaster has lost count of."""
    servers: list[Server] = []

    def start(handler: Handler, **acceptor_options: Any) -> Server:
        options: dict[str, Any] = {"taskmaster": model(), "port": 0, **acceptor_options}
        server = Server(WatchedAcceptor(handler, **options))
        server.start()
        servers.append(server)
        return server

    yield start
    problems = [problem for server in servers for problem in server.stop()]
    if problems:
        pytest.fail("; ".join(problems), pytrace=False)
