"""--offload: the executor that runs the application for the event loop.

It is made by the process that serves, when it begins to, and not when the configuration is read: an executor has
threads, pipes and locks, and none of these is to be in two processes after a fork.

The application goes to processes by its name: what "module:attribute" names seldom can be pickled, and need not be.
"""

from __future__ import annotations

import functools
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from acceptor.cli.errors import StartError
from acceptor.cli.kinds import Offload
from acceptor.cli.loading import call_users, load, load_application
from acceptor.interfaces import is_wsgi
from acceptor.messages import Handler, Request
from acceptor.wsgi import WSGI

__all__ = ["LateExecutor", "NamedHandler", "make_offload"]

_T = TypeVar("_T")

logger = logging.getLogger("acceptor")


class LateExecutor(Executor):
    """The executor that `make` makes, at `open`, or when something is submitted. One thread at a time.

    One that is broken, because one of its processes has died, is replaced by another: what it had in progress has
    failed, but nothing else does.
    """

    def __init__(self, make: Callable[[], Executor]) -> None:
        self._make = make
        self._executor: Executor | None = None
        # Guarded by self._lock.
        self._lock = threading.Lock()
        self._in_progress = 0

    def open(self) -> None:
        """Make it now. Raises what that raises."""
        if self._executor is None:
            self._executor = self._make()

    def submit(self, function: Callable[..., _T], /, *args: Any, **options: Any) -> Future[_T]:
        self.open()
        assert self._executor is not None
        try:
            job = self._executor.submit(function, *args, **options)
        except BrokenExecutor as error:
            logger.error("the executor of --offload is broken, and is replaced: %s", error)
            self._executor.shutdown(wait=False)
            self._executor = self._make()
            job = self._executor.submit(function, *args, **options)
        with self._lock:
            self._in_progress += 1
        job.add_done_callback(self._end)
        return job

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=wait, cancel_futures=cancel_futures)

    @property
    def in_progress(self) -> int:
        """Jobs that have not ended. Any thread."""
        with self._lock:
            return self._in_progress

    def _end(self, job: Future[Any]) -> None:
        with self._lock:
            self._in_progress -= 1


def make_offload(chosen: Offload, where: str, directory: Path) -> LateExecutor:
    """The executor that was asked for; nothing is started. CliError if there is no such function.

    where: what the user calls the option. directory: the first in sys.path.
    """
    if chosen.what == "threads":
        return LateExecutor(functools.partial(ThreadPoolExecutor, chosen.count, "offload"))
    if chosen.what == "processes":
        # Not "fork", since this process has threads.
        return LateExecutor(lambda: ProcessPoolExecutor(chosen.count, multiprocessing.get_context("spawn"), _begin))
    function = load(chosen.what, where, directory)
    if not callable(function):
        raise StartError(f"{where} {chosen.what!r} is {function!r:.80}: name a function that makes an executor")
    return LateExecutor(lambda: _checked(call_users(function, f"{where} {chosen.what}"), f"{where} {chosen.what}"))


def _checked(made: object, what: str) -> Executor:
    if not callable(getattr(made, "submit", None)):
        raise StartError(f"{what} has made {made!r:.80}: return an executor, as those of concurrent.futures")
    return made  # type: ignore[return-value]


def _begin() -> None:
    """In a process that runs handlers: end when the server does, and not before.

    A signal for the whole group, as by Ctrl+C, is the server's business, which waits for what is in progress. When the
    server is killed, nobody tells its executor's processes, which would wait for ever.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, lambda *_: None)
    server = multiprocessing.parent_process()
    assert server is not None

    def wait() -> None:
        server.join()
        os._exit(1)

    threading.Thread(target=wait, name="server", daemon=True).start()


class NamedHandler:
    """`handler`, which is pickled as the name and the settings that it was made of.

    directory: where its module is.
    """

    def __init__(self, handler: Handler, reference: str, *, directory: Path, factory: bool, interface: str,
                 script_name: str | None) -> None:
        self._handler = handler
        self._made_of = (reference, str(directory), factory, interface, script_name)

    def __call__(self, request: Request) -> Any:
        return self._handler(request)

    def __reduce__(self) -> tuple[Callable[..., Handler], tuple[Any, ...]]:
        return _load_once, self._made_of


@functools.cache
def _load_once(reference: str, directory: str, factory: bool, interface: str, script_name: str | None) -> Handler:
    """In the process that runs handlers."""
    if directory not in sys.path:
        sys.path.insert(0, directory)
    application = load_application(reference, "the application", Path(directory), factory=factory)
    wsgi = is_wsgi(application) if interface == "auto" else interface == "wsgi"
    return WSGI(application, script_name=script_name or "") if wsgi else application
