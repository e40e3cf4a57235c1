"""A control server for any acceptor, also one whose taskmaster is in several processes.

Each worker process of a PreforkTaskmaster has a control server of its own, on a UNIX socket in a directory that only
this user may enter; that of the main process asks them. So one page shows all of them, a source for each.

    browser --- main process: ControlServer --- unix:.../4242 --- worker process: ControlServer, LocalSource
                                            +-- unix:.../4243 --- worker process: ControlServer, LocalSource
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from acceptor import Acceptor
from taskmaster import PreforkTaskmaster
from watching.remote import RemoteSource
from watching.server import ControlServer
from watching.source import LocalSource, Source

__all__ = ["ProcessesControl", "control_for"]


_LONGEST = 108
"""Bytes: the path of a UNIX socket, with the zero at its end (unix(7), sun_path)."""


def control_for(acceptor: Acceptor, bind: str = "127.0.0.1:0", token: str | None = None
                ) -> ControlServer | ProcessesControl:
    """What shows `acceptor`, which has not been started: with `start` and `stop`, each to be called once.

    bind, token: see `ControlServer`. ValueError and OSError as from that.
    """
    if isinstance(acceptor.taskmaster, PreforkTaskmaster):
        return ProcessesControl(acceptor, acceptor.taskmaster, bind, token)
    return ControlServer(acceptor, bind, token=token)


class ProcessesControl:
    """The control server of an acceptor whose `taskmaster` is in several processes. Made before that starts."""

    def __init__(self, acceptor: Acceptor, taskmaster: PreforkTaskmaster, bind: str, token: str | None) -> None:
        self._acceptor = acceptor
        self._taskmaster = taskmaster
        self._sources: dict[int, RemoteSource] = {}
        """By process. Used by the control server's threads, one at a time."""
        self._server = ControlServer(self._sources_now, bind, token=token)
        self._folder = Path(tempfile.mkdtemp(prefix="taskmaster-control-"))  # mode 0700: mkdtemp(3)
        self._remove = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)  # if it never starts
        if len(os.fsencode(self._socket(10**7))) >= _LONGEST:
            self._remove()
            raise ValueError(f"{tempfile.gettempdir()} is too long a path for the sockets of worker processes, which "
                             f"may have {_LONGEST} bytes; set TMPDIR to a shorter one")
        self._of_worker: ControlServer | None = None
        """In a worker process."""
        taskmaster.on_process_start = _both(self._start_worker, taskmaster.on_process_start)
        taskmaster.on_process_exit = _both(taskmaster.on_process_exit, self._stop_worker)

    @property
    def name(self) -> str:
        return self._server.name

    @property
    def url(self) -> str:
        return self._server.url

    def start(self) -> Self:
        """Once the acceptor has been started: nothing may be open, and no thread run, before it forks."""
        self._server.start()
        return self

    def stop(self) -> None:
        """A second call does nothing."""
        self._server.stop()
        for source in self._sources.values():
            source.close()
        self._remove()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.stop()

    def _sources_now(self) -> Sequence[Source]:
        """One for each worker process there is."""
        now = {each.pid: each.number for each in self._taskmaster.processes() if self._socket(each.pid).exists()}
        for process in [process for process in self._sources if process not in now]:
            self._sources.pop(process).close()
        for process, number in now.items():
            if process not in self._sources:
                self._sources[process] = RemoteSource(
                    f"unix:{self._socket(process)}", f"{self._acceptor.name} worker {number + 1}")
        return [self._sources[process] for process in now]

    def _socket(self, process: int) -> Path:
        return self._folder / str(process)

    # In a worker process, on its main thread.

    def _start_worker(self) -> None:
        self._of_worker = ControlServer(LocalSource(self._acceptor), f"unix:{self._socket(os.getpid())}").start()

    def _stop_worker(self) -> None:
        if self._of_worker is not None:
            self._of_worker.stop()


def _both(first: Callable[[], object] | None, second: Callable[[], object] | None) -> Callable[[], object]:
    """Call one after the other, also if the first fails; None: nothing."""
    def call() -> None:
        try:
            if first is not None:
                first()
        finally:
            if second is not None:
                second()

    return call
