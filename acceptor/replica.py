"""The same server in another process: what a worker process of `taskmaster.prefork` runs.

A replica is made in a process that has just been forked, of what its acceptor had before. It has the same listen
sockets, settings and handler, and connections, threads and a watcher of its own. What the replicas of one acceptor, and
the acceptor, have to know of one another is in a `Tally` (acceptor.census), in shared memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import replace

from acceptor.background import start_again_after_fork
from acceptor.census import SharedCensus, SharedCompliance, Tally
from acceptor.connection import Connection
from acceptor.listener import Listener
from acceptor.registry import Registry
from acceptor.run import Run
from acceptor.service import Service
from taskmaster.base import Taskmaster

__all__ = ["Replica"]


class Replica:
    """Made by `Acceptor.replica`. Keeps the contracts of `taskmaster.worker_process.Replica` and, for its taskmaster,
    of `taskmaster.base.AcceptorSteps`.

    service, listener: the acceptor's; they must not be used in this process by anybody else from now on.
    number: its own, in the tally.
    on_reload: called by `reload`.
    """

    def __init__(self, name: str, service: Service, listener: Listener, taskmaster: Taskmaster, tally: Tally,
                 number: int, on_reload: Callable[[], object] | None) -> None:
        self.name = name
        self._on_reload = on_reload
        compliance = SharedCompliance(service.compliance.allowed, tally, number)
        self._service = replace(service, compliance=compliance, on_request=tally.counter(number), multiprocess=True,
                                multithread=taskmaster.max_thread_count != 1)
        self._listener = listener.shared()
        self._registry = Registry(SharedCensus(service.limits, tally, number))
        self._run = Run(self._service, self._registry, self._listener, taskmaster)

    # For the worker process.

    def start(self) -> None:
        start_again_after_fork()
        self._run.begin(self)

    def leave(self) -> None:
        self._service.leaving = True

    def close(self, *, last: bool) -> None:
        self._service.leaving = self._service.stopping = True
        self._registry.park_no_more()
        self._listener.shuts = last
        self._listener.stop()

    def stop(self) -> Sequence[str]:
        return self._run.stop(math.inf, 0.0, spare=0.0).cut

    def hurry(self) -> None:
        self._run.hurry()

    def reload(self) -> None:
        if self._on_reload is not None:
            self._on_reload()

    # For the taskmaster: see taskmaster.base.AcceptorSteps.

    def accept(self, timeout: float | None = None) -> Connection | None:
        return self._run.accept(timeout)

    def process_connection(self, connection: Connection) -> None:
        self._run.process(connection)

    def process_until_idle(self, connection: Connection, go_on: Callable[[], bool]) -> bool:
        return self._run.process_until_idle(connection, go_on)

    def process_without_waiting(self, connection: Connection, offload: Executor | None) -> bool:
        return self._run.process_without_waiting(connection, offload)

    def park(self, connection: Connection) -> bool:
        return self._run.park(connection)

    def refuse(self, connection: Connection) -> None:
        self._run.refuse(connection)

    def abandon(self, connection: Connection) -> None:
        self._run.abandon(connection)
