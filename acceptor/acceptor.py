"""The acceptor, as its user sees it: how it is made, started and stopped.

It offers the steps that a taskmaster makes its loops of (`accept`, `process_connection`, `refuse`, `abandon`), any of
which may be running in any number of threads at once; `acceptor.run` has them, and how all of it stops.
"""

from __future__ import annotations

import enum
import functools
import logging
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Self

from acceptor import systemd
from acceptor.addresses import Bound, UnixAddress, chosen_addresses, unbound_name
from acceptor.census import Census, Tally
from acceptor.forwarded import ForwardedHeaders
from acceptor.hooks import Hooks
from acceptor.listener import Listener
from acceptor.messages import Handler
from acceptor.networks import Networks
from acceptor.registry import Registry
from acceptor.replica import Replica
from acceptor.run import Run, Steps, StopReport
from acceptor.service import Service
from acceptor.settings import TICK, Limits, Timeouts
from acceptor.signals import SIGNALS_EVERY, handled_signals
from acceptor.tls import TLS
from acceptor.urgent import Urgent
from acceptor.violations import Compliance, Violation
from acceptor.wire import chosen_wire
from taskmaster.arguments import seconds, whole_number
from taskmaster.base import Taskmaster

__all__ = ["Acceptor"]

logger = logging.getLogger("acceptor")


class _Life(enum.Enum):
    """Where an acceptor is in its life. Only `start` and `stop` move it."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


class Acceptor(Steps):
    """An HTTP/1.1 server: `handler` answers the requests, `taskmaster` decides which threads do what.

        Acceptor(hello, port=4242, taskmaster=RecyclingTaskmaster()).serve_forever()

    handler: takes a `Request`, returns a `Response`, str or bytes. Runs in many threads at once.
    taskmaster: an instance, its own for each acceptor.
    host, port: where to listen; 127.0.0.1 is this machine only, "0.0.0.0" every IPv4 address of it and "::" every
        address. Port 0: the system chooses, and `port` tells which.
    bind: instead, one or more of "127.0.0.1:8080", "[::1]:8080", ":8080", "unix:/run/app.sock", "fd://3", "systemd"
        (see `acceptor.addresses`), or sockets that listen already, which are the acceptor's from then on.
    backlog: connections the kernel may queue before they are accepted (bounded by net.core.somaxconn).
    tls: certificates; every connection is TLS then.
    limits, timeouts: what a client may send, and how long it may take.
    allow: violations of HTTP that are served all the same; by default none.
    proxy_protocol: peers ("10.0.0.0/8", "unix") whose connections begin with a PROXY header, and must.
    trusted_proxies: peers whose X-Forwarded-For, -Proto and -Host are believed; those of others are removed. Empty:
        the headers are left as they are, and nothing is believed. For the header Forwarded (RFC 7239) instead, pass
        an `acceptor.forwarded.ForwardedHeaders`.
    access_log: one record per response, to the logger "acceptor.access" (see `acceptor.access`). Everything else goes
        to "acceptor".
    reuse_port: other processes may listen on the same addresses, and share the connections (SO_REUSEPORT: socket(7)).
    urgent: answers a request for which there is no thread, or None: for health checks, see `acceptor.urgent`.
    http: what parses the heads of requests: "httptools", "h11", or "auto", which is httptools where that is installed
        (the extra `fast`). Which requests are served, and as what, is the same with both.
    hooks: functions to be called when it starts and stops.

    Wrong arguments raise TypeError or ValueError here; an address that cannot be had, OSError in `start`.
    """

    def __init__(self, handler: Handler, *, taskmaster: Taskmaster, host: str | None = None, port: int | None = None,
                 bind: str | socket.socket | Sequence[str | socket.socket] | None = None, backlog: int = 1024,
                 tls: TLS | None = None, limits: Limits | None = None, timeouts: Timeouts | None = None,
                 allow: Iterable[Violation | str] = (), proxy_protocol: Iterable[str] = (),
                 trusted_proxies: Iterable[str] | ForwardedHeaders = (), access_log: bool = False,
                 reuse_port: bool = False, urgent: Urgent | None = None, hooks: Hooks | None = None, http: str = "auto"
                 ) -> None:
        if not callable(handler):
            raise TypeError(f"handler={handler!r} ({type(handler).__name__}): pass a callable that takes a Request")
        if not isinstance(taskmaster, Taskmaster):
            hint = (f"; write {taskmaster.__name__}(), with the parentheses" if isinstance(taskmaster, type) else "")
            raise TypeError(f"taskmaster={taskmaster!r}: pass an instance of a Taskmaster, such as "
                            f"RecyclingTaskmaster(){hint}")
        if urgent is not None and not callable(urgent):
            raise TypeError(f"urgent={urgent!r}: pass a callable that takes a Request, such as Health(handler).answer")
        for name, value, kind in (("tls", tls, TLS), ("limits", limits, Limits), ("timeouts", timeouts, Timeouts),
                                  ("hooks", hooks, Hooks)):
            if value is not None and not isinstance(value, kind):
                raise TypeError(f"{name}={value!r}: pass an acceptor.{kind.__name__}")
        # Fixed at construction.
        self.handler = handler
        self.taskmaster = taskmaster
        self.tls = tls
        self.limits = limits or Limits()
        self.timeouts = timeouts or Timeouts()
        self._asked = chosen_addresses(host, port, bind)
        self._backlog = whole_number("backlog", backlog, at_least=1)
        self._compliance = Compliance(allow)
        self._proxy_protocol = Networks(proxy_protocol, name="proxy_protocol")
        self._forwarded = _forwarded(trusted_proxies)
        self._access_log = bool(access_log)
        self._reuse_port = bool(reuse_port)
        self._urgent = urgent
        self._make_wire = chosen_wire(http)
        self._hooks = hooks or Hooks()
        self._registry = Registry(Census(self.limits))
        # Owned by start and stop; one of them at a time, which _life sees to. Read by the steps in between.
        self._addresses: Sequence[Bound] = [unbound_name(address) for address in self._asked]
        self._run: Run
        self._service: Service
        self._listener: Listener
        """Since `start`, these three."""
        self._tally: Tally | None = None
        """Of its replicas, once there have been any."""
        self._here: Steps = self
        """In the process of a replica: that."""
        self._ask_main: Callable[[bool], None] | None = None
        """In the process of a replica: `request_stop` of the main process."""
        self._reload: Callable[[], object] | None = None
        """What `serve_forever` was given, before the start; a replica does it in its process."""
        self._last_report = StopReport()
        # Written by any thread and by signal handlers, which SimpleQueue.put is made for.
        self._wishes: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        """What serve_forever is to do: call something, or (None) stop."""
        # Guarded by self._life_changed.
        self._life_changed = threading.Condition()
        """Notified when start or stop is done; those who came meanwhile wait."""
        self._life = _Life.STOPPED
        self._starts = 0

    # For the user.

    @property
    def addresses(self) -> list[str]:
        """Where it listens; after `start` as the system has it: ["127.0.0.1:8080", "unix:/run/app.sock"]."""
        return [str(address) for address in self._addresses]

    @property
    def host(self) -> str:
        """The (first) address listened on; after `start` as the system has it. "unix" for a UNIX socket."""
        return self._addresses[0].host

    @property
    def port(self) -> int:
        """The (first) port listened on; after `start` the real one, if 0 was asked for."""
        return self._addresses[0].port

    @property
    def name(self) -> str:
        """Which server this is, for URLs, thread names and log lines: "127.0.0.1:8080", "[::1]:8080"."""
        return str(self._addresses[0])

    @property
    def urls(self) -> list[str]:
        """The same for a browser: ["https://127.0.0.1:8443"]; UNIX sockets, which have no URL, as they are."""
        scheme = "https" if self.tls else "http"
        return [str(address) if isinstance(address, UnixAddress) else f"{scheme}://{address}"
                for address in self._addresses]

    @property
    def connection_count(self) -> int:
        """Connections accepted and not yet closed, in all its processes."""
        return len(self._registry) + (self._tally.open if self._tally is not None else 0)

    @property
    def refused_count(self) -> int:
        """Connections refused because of Limits.connections or connections_per_address: no taskmaster saw them."""
        return self._registry.refused + (self._tally.refused if self._tally is not None else 0)

    @property
    def kernel_queues(self) -> Mapping[str, tuple[int, int] | None]:
        """For each address: connections that wait in the kernel to be accepted, and how many may (listen(2)'s backlog,
        bounded by net.core.somaxconn). None where the system does not tell: UNIX sockets, other systems than Linux, and
        before the start. Any thread; a system call for each address."""
        return self.run.kernel_queues if self.run is not None else dict.fromkeys(self.addresses)

    @property
    def here(self) -> Steps:
        """Whose steps are taken in this process: its own, or in a worker process those of what it has there."""
        return self._here

    @property
    def violations(self) -> Mapping[Violation, int]:
        """How often each violation of HTTP has been seen, allowed or not, in all its processes. A copy."""
        seen = Counter(self._compliance.counts)
        if self._tally is not None:
            seen.update({each: self._tally.violations(position) for position, each in enumerate(Violation)})
        return {violation: count for violation, count in seen.items() if count}

    def start(self) -> Self:
        """Listen, and let the taskmaster run; return when connections are being accepted.

        Raises OSError if an address cannot be had, RuntimeError if it runs already or its taskmaster runs another
        acceptor, or if the system gives no thread; then nothing is left open. While another thread is in `stop`, it
        waits for that. May be called again after `stop`.
        """
        with self._life_changed:
            self._life_changed.wait_for(lambda: self._life is not _Life.STOPPING)
            if self._life is not _Life.STOPPED:
                raise RuntimeError(f"{self.name} is {self._life.value} already; stop() it first")
            self._life = _Life.STARTING
            self._starts += 1
        try:
            self._hooks.call("starting", self)
            self._start()
        except BaseException:
            self._become(_Life.STOPPED)
            raise
        logger.info("listening on %s with %s", ", ".join(self.urls), type(self.taskmaster).__name__)
        try:
            self._hooks.call("ready", self)
        except BaseException:
            self.stop(soft=False)
            raise
        return self

    def stop(self, *, soft: bool = True, deadline: float = 30.0, leave: float = 0.0) -> StopReport:
        """Stop listening and end every connection; return when every thread has been joined. Falsy: nothing was lost.

        Soft: every request in progress is answered, for up to `deadline` seconds; then what is left is cut. Not soft:
        it is cut at once, also if another thread is in a soft stop. Idle connections are closed within half a second;
        a request that comes before is answered. Those that the kernel had queued are served if their request comes as
        soon; the others, and those that nobody gets to by the deadline, are answered 503. Blocks up to `deadline` and
        a moment, and for as long as refused clients take to read that (Timeouts.linger).

        leave: seconds in which it goes on accepting, before that. Every response closes its connection, and
        `Request.stopping` is true, from which a load balancer's health check learns (see `acceptor.health`) that it
        should send no more. So nobody is turned away.

        A second call returns the same, at once; one while another thread is in `stop`, when that is done; one during
        `start` waits for it, and one before it does nothing. RuntimeError on one of the taskmaster's own threads, in a
        handler for example, which it would wait for: call `request_stop` there.
        """
        deadline = seconds("deadline", deadline, zero=True)
        leave = seconds("leave", leave, zero=True)
        if self._ask_main is not None:
            raise RuntimeError("stop() in a worker process would stop that alone; call request_stop() there, which "
                               "lets serve_forever() stop, in the main process")
        me = threading.get_ident()
        if self.taskmaster.runs_this_thread or self._registry.serves(me) or self._runs_job(me):
            raise RuntimeError("stop() in a handler would wait for that handler; call request_stop() there, which "
                               "lets serve_forever() stop, or stop() from another thread")
        with self._life_changed:
            if not soft and self._life in (_Life.RUNNING, _Life.STOPPING):
                self._run.hurry()
            starts = self._starts
            self._life_changed.wait_for(
                lambda: self._starts != starts or self._life in (_Life.STOPPED, _Life.RUNNING))
            if self._starts != starts or self._life is _Life.STOPPED:  # stopped, and perhaps started again, meanwhile
                return self._last_report
            self._life = _Life.STOPPING
        try:
            self._hooks.call_and_log("stopping", self)
            report = self._run.stop(deadline, leave)
            self._last_report = report
            self._hooks.call_and_log("stopped", self)
        except BaseException:
            self._become(_Life.RUNNING)  # interrupted: it can be called again
            raise
        self._become(_Life.STOPPED)
        return report

    def serve_forever(self, *, deadline: float = 30.0, leave: float = 0.0, reload: Callable[[], object] | None = None
                      ) -> StopReport:
        """Start, serve until a signal or `request_stop`, and stop softly, with `deadline` and `leave` as in `stop`.

        SIGINT and SIGTERM stop it softly, a second one cuts what is left; SIGQUIT cuts at once; SIGHUP calls `reload`,
        on this thread, and logs what that raises. When it returns, signals have the effect that they had before. Off
        the main thread they are left alone.

        Where systemd waits to be told (NOTIFY_SOCKET), it is: when connections are accepted, when it reloads and stops,
        and, if the unit has WatchdogSec, that it is alive.
        """
        self._reload = reload
        wish = functools.partial(self._wishes.put, self._reload_all) if reload is not None else None
        with handled_signals(self.request_stop, functools.partial(self.request_stop, now=True), wish):
            self.start()
            try:
                if sys.stderr is not None and sys.stderr.isatty() and not logger.isEnabledFor(logging.INFO):
                    model = type(self.taskmaster).__name__
                    print(f"Serving {self.urls[0]} with {model}; Ctrl+C stops", file=sys.stderr)
                systemd.notify("READY=1", f"STATUS=listening on {', '.join(self.urls)}")
                self._grant_wishes()
            finally:
                systemd.notify("STOPPING=1")
                self.stop(deadline=deadline, leave=leave)
        while not self._wishes.empty():
            self._wishes.get()
        return self._last_report

    def request_stop(self, *, now: bool = False) -> None:
        """Let `serve_forever` stop, or if `now` is set, and it stops already, have it cut what is left.

        Returns at once. Any thread, handlers and signal handlers included, of any of its processes; a second call
        changes nothing.
        """
        if self._ask_main is not None:
            self._ask_main(now)
            return
        if now and hasattr(self, "_run"):
            self._run.hurry()
        self._wishes.put(None)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.stop()

    # For a taskmaster that forks: see taskmaster.worker_process.ForkingAcceptor.

    def share(self, replicas: int) -> None:
        self._tally = Tally(replicas, self.limits, self._tally)
        self._listener.serves = False

    def replica(self, taskmaster: Taskmaster, number: int, request_stop: Callable[[bool], None]) -> Replica:
        assert self._tally is not None
        self._ask_main = request_stop
        replica = Replica(self.name, self._service, self._listener, taskmaster, self._tally, number, self._reload)
        self._here = replica
        return replica

    def replica_ended(self, number: int) -> None:
        assert self._tally is not None
        self._tally.end(number)

    def replica_requests(self, number: int) -> int:
        assert self._tally is not None
        return self._tally.requests(number)

    def _start(self) -> None:
        self._service = Service(
            self.handler, self.limits, self.timeouts, self._compliance, self.tls, self._proxy_protocol, self._forwarded,
            self._access_log, multithread=self.taskmaster.max_thread_count != 1, multiprocess=self._reuse_port,
            urgent=self._urgent, make_wire=self._make_wire)
        self._listener = Listener(self._asked, self._backlog, TICK, reuse_port=self._reuse_port)
        self._addresses = self._listener.addresses
        self._run = Run(self._service, self._registry, self._listener, self.taskmaster)
        if self._last_report.stuck:
            self.taskmaster.shutdown(0.1)  # they may have ended since; one that just does needs a moment to be joined
        self._run.begin(self)
        self._become(_Life.RUNNING)

    def _reload_all(self) -> None:
        """Here, and in the process of every replica, even if it fails here."""
        assert self._reload is not None
        try:
            self._reload()
        finally:
            self.taskmaster.reload()

    def _grant_wishes(self) -> None:
        """Do what signals and `request_stop` ask for, until they ask to stop."""
        alive_every = systemd.watchdog_interval()
        while True:
            try:
                wish = self._wishes.get(timeout=min(alive_every or SIGNALS_EVERY, SIGNALS_EVERY))
            except Empty:
                if alive_every is not None and self._run.alive:
                    systemd.notify("WATCHDOG=1")
                continue
            if wish is None:
                return
            systemd.notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
            try:
                wish()
            except Exception:
                logger.exception("the reload failed; going on")
            systemd.notify("READY=1")

    def _runs_job(self, thread: int) -> bool:
        """It runs a handler for an executor."""
        return hasattr(self, "_service") and thread in self._service.jobs

    def _become(self, life: _Life) -> None:
        with self._life_changed:
            self._life = life
            self._life_changed.notify_all()


def _forwarded(trusted: Iterable[str] | ForwardedHeaders) -> ForwardedHeaders | None:
    if isinstance(trusted, ForwardedHeaders):
        return trusted
    networks = Networks(trusted, name="trusted_proxies")
    return ForwardedHeaders(networks) if networks else None
