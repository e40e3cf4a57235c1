"""An executor whose threads are lanes of the stage, for a taskmaster that offloads handlers."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

__all__ = ["StagedExecutor"]


class StagedExecutor(Executor):
    """`threads` threads; a job goes to the first of them that is free. `Stage` starts them, and ends them.

    Unlike a ThreadPoolExecutor it starts all its threads at once, and which of them gets a job is not left to chance.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._work_to_do = threading.Condition()
        self._jobs: deque[tuple[Future[Any], Callable[[], object]]] = deque()
        self._free: set[int] = set()
        """The numbers of those that wait for a job."""
        self._ended = False

    def begin(self) -> None:
        """For a stage: as new, also if it was another's before."""
        self._jobs.clear()
        self._free.clear()
        self._ended = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        with self._work_to_do:
            self._jobs.append((future, lambda: fn(*args, **kwargs)))
            self._work_to_do.notify_all()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """They do what has been submitted, and end; the stage joins them."""
        with self._work_to_do:
            self._ended = True
            self._work_to_do.notify_all()

    def work(self, number: int) -> None:
        """What thread `number` does, from 0 on."""
        while True:
            with self._work_to_do:
                self._free.add(number)
                self._work_to_do.wait_for(lambda: self._ended or (self._jobs and number == min(self._free)))
                self._free.remove(number)
                if not self._jobs:
                    return
                future, job = self._jobs.popleft()
                self._work_to_do.notify_all()  # the next job is for the next of them
            future.set_running_or_notify_cancel()
            try:
                future.set_result(job())
            except BaseException as error:
                future.set_exception(error)

    def __repr__(self) -> str:
        return f"StagedExecutor({self.threads})"
