"""Ten million wake-ups of an event loop by other threads, none of which may be lost. Run from a checkout.

    python -m tests.crossings                             10,000,000: a quarter of an hour
    python -m tests.crossings --count 100000 --threads 8

A crossing is what `EventLoopTaskmaster(offload=...)` does for each request, without the request: the loop's thread
submits a job and parks the connection; a thread of the executor does the job, and has the connection come back; the
loop's thread collects it. They cross in rounds: one connection, or a few at once, and the next round begins when all of
them have come back. So one wake-up cannot stand in for another that was lost: then the round never ends, and the trial
fails when nothing has come for a while.

Real here: the acceptor, its listen socket, epoll set, registry and watcher; the taskmaster, its loop and its books; the
connections, each a client's over loopback. Not real: what a connection is served (`_Crossing.serve`), which is jobs
instead of HTTP; and the executor, a queue and threads, so that it is quick. One job in four is done by the thread that
submits it, before that returns. So jobs end before their connection is parked, while it is being parked, and after, and
two at once: these are the races that there are.
"""

from __future__ import annotations

import argparse
import platform
import queue
import random
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from contextlib import ExitStack
from typing import Any
from unittest import mock

from acceptor import Acceptor
from acceptor.connection import Connection
from acceptor.phases import End, Phase
from acceptor.service import Service
from taskmaster import EventLoopTaskmaster

__all__ = ["Trial"]

STUCK = 20.0
"""Seconds without a single crossing after which one is lost. What is left of its way takes microseconds of work, on a
machine that may be doing other things."""


class _Threads(Executor):
    """`count` threads and a queue."""

    def __init__(self, count: int) -> None:
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[..., Any]] | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, name=f"crossing-{n}", daemon=True) for n in range(count)]
        self._rng = random.Random(1)
        for thread in self._threads:
            thread.start()

    def submit(self, function: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        job = Future[Any]()
        if self._rng.random() < 0.25:
            job.set_result(function())
        else:
            self._jobs.put((job, function))
        return job

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (taken := self._jobs.get()) is not None:
            taken[0].set_result(taken[1]())


class _Crossing(Connection):
    """It is served jobs instead of requests. Owned by the loop's thread, as is the trial while it runs."""

    __slots__ = ("connected", "crossed", "job", "trial")

    def __init__(self, trial: Trial, sock: socket.socket, address: tuple[str, int], service: Service) -> None:
        super().__init__(sock, address, service)
        self.trial = trial
        self.crossed = 0
        self.connected = False
        self.job: Future[Any] | None = None
        """None: it waits for a round."""

    def serve(self, go_on: Callable[[], bool] | None = None, *, alone: bool = False, offload: Executor | None = None
              ) -> End:
        self.alone, self.phase, self.stream.wants, self.deadline, self.resumed = (
            True, Phase.HANDLING, 0, float("inf"), True)
        trial = self.trial
        if self.connected and self.at_work:
            # 1. a job is done, 2. that is seen when the connection is parked, it is collected, and parked again,
            # 3. the job's thread gets to have it come back
            trial.for_nothing += 1
            return End.PARK
        if self.job is not None:
            self.job = None
            self.crossed += 1
        self.connected = True
        if not trial.over:
            trial.came(self)
        return End.CLOSE if trial.over else End.PARK

    def cross(self, executor: Executor) -> None:
        self.job = executor.submit(int)
        self.job.add_done_callback(self._tell)

    @property
    def at_work(self) -> bool:
        return (self.job is None or not self.job.done()) and not self.trial.over

    def _tell(self, job: Future[Any]) -> None:
        self.service.wake(self)


class Trial:
    """`count` crossings, by so many connections, at once and in turns, and threads of an executor."""

    def __init__(self, count: int, *, connections: int = 4, threads: int = 3) -> None:
        self.count = count
        self.crossed = 0
        self.over = False
        self.for_nothing = 0
        """How often one has come back, and its job was not done: allowed, and rare."""
        self._connections: list[_Crossing] = []
        self._away = connections
        """Of the current round. The first is that all connect."""
        self._rng = random.Random(2)
        self._executor = _Threads(threads)

    def came(self, connection: _Crossing) -> None:
        """For a connection: it has come back. The last begins the next round."""
        self._away -= 1
        if self._away:
            return
        left = self.count - self.crossed
        if not left:
            self.over = True
            for other in self._connections:
                if other is not connection:
                    other.service.wake(other)
            return
        self._away = min(left, self._rng.randint(1, len(self._connections)))
        self.crossed += self._away  # by the time that anybody begins the next round, they will have
        for each in self._rng.sample(self._connections, self._away):
            each.cross(self._executor)

    def run(self, report: Callable[[int, float], object] = lambda crossed, seconds: None, every: float = 5.0,
            stuck: float = STUCK) -> float:
        """Blocks until it is over: the seconds it took. AssertionError if one is lost, or the books do not balance.

        report: called every so many seconds, with what has crossed and the seconds so far.
        """
        connections = self._away

        def connect(*arguments: Any) -> _Crossing:
            self._connections.append(_Crossing(self, *arguments))
            return self._connections[-1]

        taskmaster = EventLoopTaskmaster(offload=self._executor)
        acceptor = Acceptor(lambda request: "", port=0, taskmaster=taskmaster)
        with mock.patch("acceptor.run.Connection", connect), ExitStack() as stack:
            stack.callback(self._executor.shutdown)
            acceptor.start()
            stack.callback(acceptor.stop, deadline=0.0)
            begun = moved = reported = time.monotonic()
            for _ in range(connections):
                stack.enter_context(socket.create_connection(("127.0.0.1", acceptor.port)))
            before = 0
            while taskmaster.snapshot().served < connections:
                time.sleep(0.02)
                crossed, now = self.crossed, time.monotonic()
                if crossed != before:
                    before, moved = crossed, now
                assert now - moved < stuck, (
                    f"for {stuck:g} s nothing has crossed; before that {crossed - self._away:,} of {self.count:,} had; "
                    f"{self._away} away: {[(each.crossed, each.at_work) for each in self._connections]}; "
                    f"{taskmaster.snapshot()}")
                if now - reported >= every:
                    reported = now
                    report(crossed, now - begun)
            seconds = time.monotonic() - begun
        books = taskmaster.snapshot()
        assert sum(each.crossed for each in self._connections) == self.count
        assert (books.accepted, books.served, books.parked, books.queued) == (connections, connections, 0, 0), books
        assert acceptor.connection_count == 0
        return seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0: none is lost, 1: one is."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.crossings", formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__,
        epilog="exit status: 0 all have crossed, 1 one was lost")
    parser.add_argument("--count", type=int, default=10_000_000, metavar="N", help="crossings (default: 10,000,000)")
    parser.add_argument("--connections", type=int, default=4, metavar="N", help="that cross at once, at most (4)")
    parser.add_argument("--threads", type=int, default=3, metavar="N", help="of the executor (default: 3)")
    options = parser.parse_args(arguments)
    print(f"Python {platform.python_version()}, {platform.system()} {platform.release()}, {time.strftime('%Y-%m-%d')}; "
          f"{options.connections} connections, {options.threads} threads", flush=True)
    trial = Trial(options.count, connections=options.connections, threads=options.threads)

    def report(crossed: int, seconds: float) -> None:
        print(f"  {seconds:4.0f} s: {crossed:12,} crossed, {crossed / seconds:8,.0f} a second", flush=True)

    try:
        seconds = trial.run(report)
    except AssertionError as error:
        print(f"LOST: {error}", flush=True)
        return 1
    print(f"{trial.crossed:,} of {trial.count:,} have crossed, in {seconds:.0f} s: {trial.crossed / seconds:,.0f} a "
          f"second; called back for nothing: {trial.for_nothing}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
