"""The acceptor: the listen socket and HTTP, start and stop. It knows no threads.

It offers the steps that a taskmaster makes its loops of (`accept`, `process_connection`, `refuse`,
`answer_refusals`), any of which may be running in any number of threads at once. What they share is the registry of
connections, under one lock.

A connection's owner, from hand to hand: `accept` returns it to the taskmaster, which passes it to `process_connection`
or `refuse`, which end by taking it out of the registry and closing it, exactly once (`_close`).
"""

from __future__ import annotations

import enum
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from types import FrameType, TracebackType
from typing import Any, Self

from acceptor.connection import Connection, Phase
from acceptor.listener import Accepted, Listener
from acceptor.messages import Handler
from acceptor.refusals import Refusals
from taskmaster.arguments import seconds, whole_number
from taskmaster.base import Taskmaster, TaskmasterBusyError

__all__ = ["Acceptor", "StopReport"]

logger = logging.getLogger("acceptor")

_STOPPING = "The server is stopping."
_WAITING = 0
"""In the registry: no thread serves it yet."""
_REFUSED = -1
"""In the registry: it belongs to the refusals."""
_GRACE = 2.0
"""Seconds that threads have to end after their connections have been cut. A handler that does not look at its
connection meanwhile is not interrupted: nothing in Python can do that safely."""


@dataclass(frozen=True)
class StopReport:
    """What `stop` had to do. Falsy if nothing was lost."""

    cut: tuple[str, ...] = ()
    """Connections that were cut in the middle of something: "203.0.113.7:49152 (handling)"."""
    stuck: tuple[str, ...] = ()
    """Threads that did not end even then; they are daemons, and end with the process or with their handler."""

    def __bool__(self) -> bool:
        return bool(self.cut or self.stuck)


class _Life(enum.Enum):
    """Where an acceptor is in its life. Only `start` and `stop` move it."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


class Acceptor:
    """An HTTP/1.1 server: `handler` answers the requests, `taskmaster` decides which threads do what.

        Acceptor(hello, port=4242, taskmaster=RecyclingTaskmaster()).serve_forever()

    handler: takes a `Request`, returns a `Response`, str or bytes. Runs in many threads at once.
    taskmaster: an instance, its own for each acceptor.
    host, port: where to listen; 127.0.0.1 is this machine only, "0.0.0.0" and "::" are everybody. Port 0: the system
        chooses, and `port` tells which.
    backlog: connections the kernel may queue before they are accepted (bounded by net.core.somaxconn).
    timeout: seconds of silence tolerated while a request is read, a response written, or between two requests.
    access_log: one line per response, to the logger "acceptor.access". Everything else goes to "acceptor".

    Wrong arguments raise TypeError or ValueError here; an address that cannot be had, OSError in `start`.
    """

    def __init__(self, handler: Handler, *, taskmaster: Taskmaster, host: str = "127.0.0.1", port: int = 8080,
                 backlog: int = 1024, timeout: float = 30.0, access_log: bool = False) -> None:
        if not callable(handler):
            raise TypeError(f"handler={handler!r} ({type(handler).__name__}): pass a callable that takes a Request")
        if not isinstance(taskmaster, Taskmaster):
            hint = (f"; write {taskmaster.__name__}(), with the parentheses" if isinstance(taskmaster, type) else "")
            raise TypeError(f"taskmaster={taskmaster!r}: pass an instance of a Taskmaster, such as "
                            f"RecyclingTaskmaster(){hint}")
        if not isinstance(host, str) or not host:
            raise TypeError(f'host={host!r}: pass a name or an address, "0.0.0.0" for all of this machine\'s')
        # Fixed at construction.
        self.handler = handler
        self.taskmaster = taskmaster
        self._asked = host, whole_number("port", port, at_least=0, at_most=65535)
        self._backlog = whole_number("backlog", backlog, at_least=1)
        self._timeout = seconds("timeout", timeout)
        self._access_log = bool(access_log)
        # Owned by start and stop; one of them at a time, which _life sees to. Read by the steps in between.
        self._address = self._asked
        self._listener: Listener
        self._refusals: Refusals
        self._last_report = StopReport()
        self._stop_requested: SimpleQueue[None] = SimpleQueue()
        # Guarded by self._life_changed.
        self._life_changed = threading.Condition()
        """Notified when start or stop is done; those who came meanwhile wait."""
        self._life = _Life.STOPPED
        self._starts = 0
        # Guarded by self._registry.
        self._registry = threading.Lock()
        self._connections: dict[Connection, int] = {}
        """Every connection accepted and not yet closed, with the ident of the thread that serves it, or _WAITING, or
        _REFUSED."""
        # Set by stop; read by any thread, which may see it late by as much as a connection takes to become idle.
        self._stopping = False
        self._cutting = False
        self._of_taskmaster = threading.local()
        """Has the attribute `yes` on the taskmaster's threads that accept."""

    # For the user.

    @property
    def host(self) -> str:
        """The address listened on; after `start` as the system has it."""
        return self._address[0]

    @property
    def port(self) -> int:
        """The port listened on; after `start` the real one, if 0 was asked for."""
        return self._address[1]

    @property
    def name(self) -> str:
        """Which server this is, for URLs, thread names and log lines: "127.0.0.1:8080", "[::1]:8080"."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def connection_count(self) -> int:
        """Connections accepted and not yet closed."""
        with self._registry:
            return len(self._connections)

    def start(self) -> Self:
        """Listen, and let the taskmaster run; return when connections are being accepted.

        Raises OSError if the address cannot be had, RuntimeError if it runs already or its taskmaster runs another
        acceptor; then nothing is left open. While another thread is in `stop`, it waits for that. May be called again
        after `stop`.
        """
        with self._life_changed:
            self._life_changed.wait_for(lambda: self._life is not _Life.STOPPING)
            if self._life is not _Life.STOPPED:
                raise RuntimeError(f"{self.name} is {self._life.value} already; stop() it first")
            self._life = _Life.STARTING
            self._starts += 1
        try:
            self._refusals = Refusals("The server is full; try again in a moment.", self._close)
            try:
                self._listener = Listener(*self._asked, self._backlog, self._timeout)
            except BaseException:
                self._refusals.close()
                raise
            self._address = self._listener.address
            self._stopping = self._cutting = False
            if self._last_report.stuck:
                self.taskmaster.shutdown(0.0)  # they may have ended since
            try:
                self.taskmaster.execute_acceptor(self)
                self._become(_Life.RUNNING)
            except TaskmasterBusyError:
                self._listener.stop()
                self._close_everything()
                raise
            except BaseException:
                self._stop(0.0)
                raise
        except BaseException:
            self._become(_Life.STOPPED)
            raise
        logger.info("listening on http://%s with %s", self.name, type(self.taskmaster).__name__)
        return self

    def stop(self, *, soft: bool = True, deadline: float = 30.0) -> StopReport:
        """Stop listening and end every connection; return when every thread has been joined. Falsy: nothing was lost.

        Soft: every request in progress is answered, for up to `deadline` seconds; then what is left is cut. Not soft:
        it is cut at once. Idle connections are closed at once. Those that the kernel had queued are served if their
        request has come; the others, and those that nobody gets to by the deadline, are answered 503. Blocks up to
        `deadline` and a moment.

        A second call returns the same, at once; one while another thread is in `stop`, when that is done; one during
        `start` waits for it, and one before it does nothing. RuntimeError on one of the taskmaster's own threads, in a
        handler for example, which it would wait for: call `request_stop` there.
        """
        deadline = seconds("deadline", deadline, zero=True) if soft else 0.0
        with self._registry:
            if hasattr(self._of_taskmaster, "yes") or threading.get_ident() in self._connections.values():
                raise RuntimeError("stop() in a handler would wait for that handler; call request_stop() there, which "
                                   "lets serve_forever() stop, or stop() from another thread")
        with self._life_changed:
            starts = self._starts
            self._life_changed.wait_for(
                lambda: self._starts != starts or self._life in (_Life.STOPPED, _Life.RUNNING))
            if self._starts != starts or self._life is _Life.STOPPED:  # stopped, and perhaps started again, meanwhile
                return self._last_report
            self._life = _Life.STOPPING
        try:
            report = self._stop(deadline)
        except BaseException:
            self._become(_Life.RUNNING)  # interrupted: it can be called again
            raise
        self._become(_Life.STOPPED)
        return report

    def serve_forever(self) -> StopReport:
        """Start, serve until SIGINT, SIGTERM or `request_stop`, and stop softly.

        Off the main thread signals are left alone. A second signal has the effect it had before: by default, SIGINT
        raises KeyboardInterrupt here and SIGTERM ends the process.
        """
        with _signals_call(self.request_stop), self:
            if sys.stderr is not None and sys.stderr.isatty():
                model = type(self.taskmaster).__name__
                print(f"Serving http://{self.name} with {model}; Ctrl+C stops", file=sys.stderr)
            self._stop_requested.get()
        while not self._stop_requested.empty():
            self._stop_requested.get()
        return self._last_report

    def request_stop(self) -> None:
        """Let `serve_forever` stop. Returns at once; any thread, handlers included; a second call changes nothing."""
        self._stop_requested.put(None)  # unlike Event.set, it may be called by a signal handler that interrupts get()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.stop()

    # For the taskmaster: see taskmaster.base.AcceptorSteps. Any number of threads at once.

    def accept(self, timeout: float | None = None) -> Connection | None:
        self._of_taskmaster.yes = True
        accepted = self._listener.accept(timeout)
        return None if accepted is None else self._register(accepted)

    def process_connection(self, connection: Connection) -> None:
        with self._registry:
            if self._cutting or connection not in self._connections:
                return  # it waited for a thread past the deadline: `stop` answers it, or has done so
            self._connections[connection] = threading.get_ident()
        try:
            connection.serve()
        except Exception:
            logger.exception("%s: this is a bug in the server; closing", connection)
        finally:
            self._close(connection)

    def refuse(self, connection: Connection) -> bool:
        with self._registry:
            if connection not in self._connections:
                return False  # it came too late: `stop` has answered it
            self._connections[connection] = _REFUSED
        return self._refusals.add(connection)

    def answer_refusals(self, patient: bool = True) -> None:
        self._refusals.answer(patient)

    def abandon(self, connection: Connection) -> None:
        with self._registry:
            alone = self._connections.get(connection) == _WAITING
            if alone:  # out of the registry under the same lock, or a thread might begin to process it meanwhile
                del self._connections[connection]
        if alone:
            connection.close()

    # Stopping, in phases.

    def _stop(self, deadline: float) -> StopReport:
        """What a thread of the taskmaster may block in, and what ends that here:

            accept()                 listener.stop()
            recv, while idle         hang_up()
            recv, send, in between   the client; abort() at the deadline
            a handler                itself; after the deadline and _GRACE it is reported as stuck
        """
        # 1. No new connections, and no further request on those there are.
        self._stopping = True
        self._listener.stop()
        self._refusals.stop()
        # 2. Connections that nobody is using go at once.
        with self._registry:
            for connection in self._connections:
                if connection.phase in (Phase.IDLE, Phase.FRESH):
                    connection.hang_up()
        # 3. Everything in progress gets its answer, and every thread is joined.
        late = self.taskmaster.shutdown(deadline)
        cut: list[str] = []
        if late:
            # 4. Past the deadline: cut what is in progress.
            with self._registry:
                self._cutting = True
                for connection, thread in self._connections.items():
                    if connection.phase in (Phase.READING, Phase.HANDLING, Phase.WRITING):
                        cut.append(str(connection))
                    if thread not in (_WAITING, _REFUSED):
                        connection.abort()
            self._refusals.hurry()
            late = self.taskmaster.shutdown(_GRACE)
        # 5. Nobody is left who could accept; close what is open.
        self._close_everything()
        report = self._last_report = StopReport(tuple(cut), tuple(late))
        if report:
            logger.warning("%s stopped; past the deadline of %g s it cut %s%s", self.name, deadline,
                           ", ".join(cut) or "nothing",
                           f"; threads that have not ended: {', '.join(late)}" if late else "")
        return report

    def _close_everything(self) -> None:
        """Answer whoever still waits for a thread, and give the listen socket back to the system."""
        while (accepted := self._listener.take_drained()) is not None:
            self._register(accepted)
        with self._registry:
            waiting = [connection for connection, thread in self._connections.items() if thread == _WAITING]
        if waiting:
            last = Refusals(_STOPPING, self._close)
            for connection in waiting:
                last.add(connection)
            last.stop()
            last.answer()
            last.close()
        self._listener.close()
        self._refusals.close()

    def _register(self, accepted: Accepted) -> Connection:
        connection = Connection(*accepted, self.handler, self._is_stopping, self._access_log)
        with self._registry:
            self._connections[connection] = _WAITING
        return connection

    def _close(self, connection: Connection) -> None:
        """Close `connection`: out of the registry first, so that `stop` never touches a socket that is closed, and so
        that of two threads that want to, one does."""
        with self._registry:
            owned = self._connections.pop(connection, None) is not None
        if owned:
            connection.close()

    def _is_stopping(self) -> bool:
        return self._stopping

    def _become(self, life: _Life) -> None:
        with self._life_changed:
            self._life = life
            self._life_changed.notify_all()


@contextmanager
def _signals_call(function: Callable[[], None]) -> Iterator[None]:
    """While inside, the first SIGINT or SIGTERM calls `function` and puts the former handlers back."""
    former: dict[signal.Signals, Any] = {}

    def restore() -> None:
        while former:
            signal.signal(*former.popitem())

    def handle(number: int, frame: FrameType | None) -> None:
        restore()
        function()

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            former[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        restore()
