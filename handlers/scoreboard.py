"""What a server is doing now, as data: what `handlers.status` shows.

It is read from what the taskmaster and the acceptor know anyway, so nothing is written down for it, and nobody waits.
The parts are read one after the other: while requests come and go they may be one off against each other.

Of a server in several processes (`taskmaster.prefork`) the numbers are those of all that there are now, and the
scoreboard is that of the process which reads it: threads of others cannot be seen from here.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from typing import Any, TypedDict

from acceptor import Acceptor, Headers, Request
from acceptor.connection import Connection
from acceptor.phases import Phase
from acceptor.recording import LETTERS, WITHOUT
from acceptor.registry import AT_WORK
from acceptor.violations import printable

__all__ = ["ConnectionsNow", "ProcessNow", "Row", "StatusNow", "idle", "read"]


class Row(TypedDict):
    """A thread, and what it does."""

    state: str
    """A letter: see `acceptor.recording.STATES`."""
    thread: str
    """Its name; "(executor)" for a handler that an executor runs."""
    seconds: float | None
    """For how long its connection has been in that state; None: it has none."""
    connection: int | None
    """The connection's number: 1 for the first of the server."""
    request: str | None
    """"GET /report", while it is being answered."""
    client: str | None
    """Address and port, if they are to be shown."""


class ConnectionsNow(TypedDict):
    """Each that was accepted and is not closed is in `open`; those that are queued or parked are some of them."""

    open: int
    kernel: int | None
    """They wait in the kernel, and have not been accepted; None where the system does not tell."""
    kernel_limit: int | None
    queued: int
    parked: int
    accepted: int
    served: int
    refused: int


class ProcessNow(TypedDict):
    """A worker process."""

    process: int
    state: str
    """"starting", "ready" or "stopping"."""
    requests: int
    memory: int
    """Bytes in RAM."""
    threads: dict[str, int]


class StatusNow(TypedDict):
    """A server. As `watching.messages.Sample`, where the names are the same."""

    name: str
    model: str
    process: int
    """The one that has read this."""
    max_thread_count: int | None
    max_accept_count: int | None
    threads: dict[str, int]
    """By state, in words."""
    connections: ConnectionsNow
    violations: dict[str, int]
    scoreboard: list[Row]
    processes: list[ProcessNow]
    """Empty, if there is one process."""


def read(acceptor: Acceptor, *, queries: bool, clients: bool) -> StatusNow:
    """How it is now. Any thread; never blocks long.

    queries, clients: whether the queries of requests, and the addresses of clients, are among it.

    RuntimeError if the acceptor has not been started.
    """
    taskmaster = acceptor.taskmaster
    if (run := acceptor.here.run) is None:
        raise RuntimeError(f"{acceptor.name} has not been started")
    if (reap := getattr(taskmaster, "reap", None)) is not None:
        reap(0)  # a thread that has ended is joined when the next one starts: it is not to be counted until then
    snapshot = taskmaster.snapshot()
    kernel, kernel_limit = run.kernel_queue or (None, None)
    return StatusNow(
        name=acceptor.name, model=type(taskmaster).__name__, process=os.getpid(),
        max_thread_count=taskmaster.max_thread_count, max_accept_count=taskmaster.max_accept_count,
        threads=_by_word(snapshot.threads),
        connections=ConnectionsNow(
            open=acceptor.connection_count, kernel=kernel, kernel_limit=kernel_limit, queued=snapshot.queued,
            parked=snapshot.parked, accepted=snapshot.accepted, served=snapshot.served,
            refused=snapshot.refused + acceptor.refused_count),
        violations={violation.name.lower(): count for violation, count in acceptor.violations.items()},
        scoreboard=_rows(_states(taskmaster), run.attended(), queries, clients),
        processes=[ProcessNow(process=each.pid, state=each.state, requests=each.requests, memory=each.memory,
                              threads=_by_word(each.snapshot.threads)) for each in _processes(taskmaster)])


def idle(now: StatusNow) -> int:
    """Threads that could take a connection: they are in accept(), or wait for another thread; as far as the limit lets
    them, for a thread that only accepts is in accept() also when all others are busy."""
    threads, limit = now["threads"], now["max_thread_count"]
    could = threads["accepting"] + threads["waiting"]
    return could if limit is None else max(0, min(could, limit - threads["serving"]))


def _rows(states: Mapping[threading.Thread, Any], attended: list[tuple[Connection, int]], queries: bool, clients: bool
          ) -> list[Row]:
    """A row for each thread, and behind them one for each handler that an executor runs."""
    now = time.monotonic()
    served = {owner: connection for connection, owner in attended if owner > 0}
    rows: list[Row] = []
    for thread, state in states.items():
        if (connection := served.pop(thread.ident or 0, None)) is not None:
            rows.append(_row(thread.name, connection, now, queries, clients))
        else:
            rows.append(Row(state=WITHOUT[state], thread=thread.name, seconds=None, connection=None, request=None,
                            client=None))
    if served:  # the taskmaster has no register of its threads; or these have begun since
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        rows += [_row(names.get(owner, "(unknown)"), connection, now, queries, clients)
                 for owner, connection in served.items()]
    rows += [_row("(executor)", connection, now, queries, clients) for connection, owner in attended
             if owner == AT_WORK and connection.phase is Phase.HANDLING]
    return rows


def _row(thread: str, connection: Connection, now: float, queries: bool, clients: bool) -> Row:
    phase, head = connection.phase, connection.head
    request = None
    if head is not None and phase.in_progress and phase is not Phase.READING:
        shown = head.target if queries else Request(head.method, head.target, head.version, Headers([])).raw_path
        request = f"{head.method} {printable(shown)}"
    return Row(state=LETTERS[phase], thread=thread, seconds=max(0.0, now - connection.since),
               connection=connection.number, request=request, client=connection.peer if clients else None)


def _by_word(threads: Mapping[Any, int]) -> dict[str, int]:
    return {state.word: count for state, count in threads.items()}


def _states(taskmaster: Any) -> Mapping[threading.Thread, Any]:
    states = getattr(getattr(taskmaster, "inner", taskmaster), "states", None)  # inner: what a worker process runs
    return states() if states is not None else {}


def _processes(taskmaster: Any) -> list[Any]:
    processes = getattr(taskmaster, "processes", None)
    return list(processes()) if processes is not None else []
