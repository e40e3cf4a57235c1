"""The same server in another process: what a worker process of `taskmaster.prefork` runs.

A replica is made in a process that has just been forked, of what its acceptor had before. It has the same listen
sockets, settings and handler, and connections, threads and a watcher of its own. What the replicas of one acceptor, and
the acceptor, have to know of one another is in a `Tally` (acceptor.census), in shared memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from acceptor.background import start_again_after_fork
from acceptor.census import SharedCensus, SharedCompliance, Tally
from acceptor.listener import Listener
from acceptor.registry import Registry
from acceptor.run import Run, Steps
from acceptor.service import Service
from taskmaster.base import Taskmaster

__all__ = ["Replica"]


class Replica(Steps):
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
        registry = Registry(SharedCensus(service.limits, tally, number))
        self._run = Run(self._service, registry, self._listener, taskmaster)

    # For the worker process.

    def start(self) -> None:
        start_again_after_fork()
        self._run.begin(self)

    def leave(self) -> None:
        self._service.leaving = True

    def close(self, *, last: bool) -> None:
        self._service.leaving = True
        self._listener.shuts = last
        self._run.accept_no_more()

    def stop(self) -> Sequence[str]:
        return self._run.stop(math.inf, 0.0, spare=0.0).cut

    def hurry(self) -> None:
        self._run.hurry()

    def reload(self) -> None:
        if self._on_reload is not None:
            self._on_reload()
