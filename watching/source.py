"""Where a page has its numbers from: a server in this process, or one in another that is asked for them.

    LocalSource    reads the books of the taskmaster and the connections' own fields: nobody writes anything for it, but
                   that each response is counted
    RemoteSource   asks the control server of another process, by HTTP, over TCP or a UNIX socket
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from time import monotonic, sleep
from typing import Any, Protocol, cast

from acceptor import Acceptor
from acceptor.connection import Connection
from acceptor.recording import STATES, Recording
from acceptor.run import Run, Steps
from taskmaster.base import Taskmaster, ThreadState
from taskmaster.books import Decision
from watching.bursts import burst_of
from watching.counts import ResponseCounts
from watching.lanes import Rows, lanes_now, lanes_of
from watching.messages import Burst, ConnectionsNow, DecisionSaid, Sample
from watching.messages import Steps as StepsSaid

__all__ = ["MOST_SECONDS", "LocalSource", "RemoteSource", "Source", "SourceError"]

MOST_SECONDS = 10.0
"""That are recorded at a time."""
_DECISIONS = 20
_FRESH = 10.0
"""Seconds for which a burst is told of."""


class SourceError(Exception):
    """A source cannot be read now: why, and what to do about it."""


class Source(Protocol):
    """One server in one process. Any thread, several at once."""

    @property
    def label(self) -> str:
        """What it is called on the page."""

    def sample(self) -> Sample:
        """How it is now. SourceError if that cannot be told."""

    def steps(self, seconds: float) -> StepsSaid:
        """Record it for so long; blocks until then. SourceError."""

    def stacks(self) -> str:
        """What each of its threads does, with its Python stack: text for people. SourceError."""


class LocalSource:
    """`server`, an acceptor of this process, started now, before or later.

    label: by default its name, "127.0.0.1:8080".

    In a worker process of a PreforkTaskmaster it is what that process does.
    """

    def __init__(self, server: Acceptor, label: str | None = None) -> None:
        self._acceptor = server
        self._label = label
        self._counts = ResponseCounts()
        self._lock = threading.Lock()
        """Held while the rows are looked at."""
        self._recording = threading.Lock()
        """Held while it is recorded: one recording at a time."""
        # Guarded by self._lock.
        self._rows = Rows()
        # Written by whoever records.
        self._burst: Burst | None = None

    @property
    def label(self) -> str:
        return self._label or self._acceptor.name

    def attach(self) -> Run | None:
        """See that its responses are counted from now on; its run, None before the start."""
        run = self._steps.run
        if run is not None and run.service.count is not self._counts.count:
            run.service.count = self._counts.count
        return run

    def detach(self) -> None:
        """Have them counted no more."""
        run = self._steps.run
        if run is not None and run.service.count is self._counts.count:
            run.service.count = None

    def look(self) -> None:
        """See that responses are counted, and take what has been."""
        if self.attach() is not None:
            self._counts.look()

    def sample(self) -> Sample:
        acceptor, taskmaster = self._acceptor, self._taskmaster
        run = self.attach()
        responses, histogram = self._counts.look()
        snapshot = taskmaster.snapshot()
        queues = [queue for queue in run.kernel_queues.values() if queue is not None] if run is not None else []
        attended = run.attended() if run is not None else []
        with self._lock:
            now = monotonic()
            lanes = lanes_now(self._rows, self._threads(attended), attended, now)
        burst = self._burst
        return Sample(
            time=now, label=self.label, name=acceptor.name, model=type(taskmaster).__name__, process=os.getpid(),
            max_thread_count=taskmaster.max_thread_count, max_accept_count=taskmaster.max_accept_count,
            threads={state.word: count for state, count in snapshot.threads.items()},
            lanes=lanes,
            connections=ConnectionsNow(
                open=self._open, kernel=sum(waiting for waiting, _ in queues) if queues else None,
                kernel_limit=sum(limit for _, limit in queues) if queues else None,
                queued=snapshot.queued, parked=snapshot.parked, accepted=snapshot.accepted, served=snapshot.served,
                refused=snapshot.refused + (run.refused_count if run is not None else 0)),
            responses=responses, histogram=histogram,
            burst=burst if burst is not None and now - burst["time"] < _FRESH else None,
            threads_started=sum(snapshot.grown.values()), grown=dict(snapshot.grown), shrunk=dict(snapshot.shrunk),
            decisions=_decisions(taskmaster),
            violations={violation.name.lower(): count for violation, count in run.violations.items()} if run else {})

    def steps(self, seconds: float) -> StepsSaid:
        if not 0 < seconds <= MOST_SECONDS:
            raise ValueError(f"seconds={seconds:g}: pass more than 0, and {MOST_SECONDS:g} at most")
        if (run := self.attach()) is None:
            raise SourceError(f"{self.label} has not been started")
        with self._recording:
            threads = self._threads(run.attended())
            recording = self._begin()
            try:
                sleep(seconds)  # there is nothing to wait for but time
            finally:
                recording.stop()
        with self._lock:
            lanes = lanes_of(recording, self._rows, threads)
        assert recording.ended is not None
        said = StepsSaid(label=self.label, name=self._acceptor.name, model=type(self._taskmaster).__name__,
                         process=os.getpid(), begin=recording.begun, end=recording.ended, lanes=lanes)
        self._burst = burst_of(said)
        return said

    def stacks(self) -> str:
        sample = self.sample()
        frames = sys._current_frames() if getattr(sys, "_is_gil_enabled", lambda: True)() else None
        lines = [f"{self.label} ({sample['model']}, process {sample['process']}): {self._taskmaster.snapshot()}"]
        for lane in sample["lanes"]:
            if lane["thread"] is None:
                continue
            doing = f"{lane['request']} from {lane['client']}" if lane["request"] else lane["client"] or ""
            age = sample["time"] - lane["since"]
            lines.append(f"\n{lane['thread']}: {STATES[lane['state']]}, for {age:.3f} s  {doing}".rstrip())
            if frames is None:
                lines.append("  (this Python runs without the GIL: the frames of a thread that runs cannot be read)")
            elif (frame := frames.get(lane["ident"])) is not None:
                lines.append("".join(traceback.format_stack(frame)).rstrip())
        return "\n".join(lines) + "\n"

    @property
    def _steps(self) -> Steps:
        """The steps that are taken in this process."""
        return self._acceptor.here

    @property
    def _taskmaster(self) -> Taskmaster:
        """Whose threads take them."""
        taskmaster = self._acceptor.taskmaster
        return getattr(taskmaster, "inner", taskmaster) if self._steps is not self._acceptor else taskmaster

    @property
    def _open(self) -> int:
        if self._steps is self._acceptor:
            return self._acceptor.connection_count
        return self._steps.run.connection_count if self._steps.run is not None else 0

    def _threads(self, attended: Sequence[tuple[Connection, int]]) -> Mapping[threading.Thread, ThreadState]:
        """Those of the taskmaster. Of one that does not keep the register that ours have, those with a connection."""
        states = getattr(self._taskmaster, "states", None)
        threads: dict[threading.Thread, ThreadState] = dict(states()) if states is not None else {}
        others = {owner for _, owner in attended if owner > 0} - {thread.ident for thread in threads}
        if others:
            threads.update({thread: ThreadState.SERVING for thread in threading.enumerate() if thread.ident in others})
        return threads

    def _begin(self) -> Recording:
        try:
            return self._steps.record()
        except RuntimeError as error:  # somebody else does
            raise SourceError(str(error)) from None


def _decisions(taskmaster: Taskmaster) -> list[DecisionSaid]:
    decisions: Sequence[Decision] = getattr(taskmaster, "decisions", ())
    return [DecisionSaid(time=each.time, change=each.change, reason=each.reason, threads=each.threads)
            for each in decisions[-_DECISIONS:]]


_PATIENCE = 5.0
"""Seconds for another process to answer, beside those that it records."""


class RemoteSource:
    """What the control server at `address` says of one of its sources.

    address: "127.0.0.1:9000", or "unix:/run/app-control.sock".
    label: what to call it here; None: as it calls itself.
    token: if it asks for one.
    place: of the source among those that it shows, from 0.
    """

    def __init__(self, address: str, label: str | None = None, token: str | None = None, place: int = 0) -> None:
        self._address = address
        self.label = label or address
        self._named = label is not None
        self._token = token
        self._place = place
        self._lock = threading.Lock()
        """Held while a connection is taken, or given back."""
        self._idle: list[http.client.HTTPConnection] = []

    def sample(self) -> Sample:
        return cast("Sample", self._mine("/snapshot.json", 0.0))

    def steps(self, seconds: float) -> StepsSaid:
        return cast("StepsSaid", self._mine(f"/steps.json?seconds={seconds:g}", seconds))

    def stacks(self) -> str:
        return self._ask("/threads", 0.0).decode(errors="replace")

    def close(self) -> None:
        """Give its connections back."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _mine(self, target: str, seconds: float) -> dict[str, Any]:
        try:
            sources: list[dict[str, Any]] = json.loads(self._ask(target, seconds))["sources"]
        except (ValueError, TypeError, KeyError) as error:
            raise SourceError(f"{self._address} is no control server: {error}") from None
        if len(sources) <= self._place:
            raise SourceError(f"{self.label} does not run any more")
        said = sources[self._place]
        if self._named:
            said["label"] = self.label
        return said

    def _ask(self, target: str, seconds: float) -> bytes:
        headers = {"Host": "localhost"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        for fresh in (False, True):
            connection = self._take(fresh)
            try:
                connection.timeout = _PATIENCE + seconds
                if connection.sock is not None:
                    connection.sock.settimeout(connection.timeout)
                connection.request("GET", target, headers=headers)
                response = connection.getresponse()
                body = response.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if fresh:
                    raise SourceError(f"{self._address} does not answer: {error or type(error).__name__}; is it "
                                      "running, and is it a control server?") from None
                continue  # a kept connection may have been closed meanwhile
            if response.status != 200:
                connection.close()
                said = body.decode(errors="replace").strip()[:300]
                raise SourceError(f"{self._address} answers {response.status}: {said}")
            with self._lock:
                self._idle.append(connection)
            return body
        raise AssertionError

    def _take(self, fresh: bool) -> http.client.HTTPConnection:
        with self._lock:
            if self._idle and not fresh:
                return self._idle.pop()
        if self._address.startswith("unix:"):
            return _UnixConnection(self._address.removeprefix("unix:"))
        return http.client.HTTPConnection(self._address, timeout=_PATIENCE)


class _UnixConnection(http.client.HTTPConnection):
    """Over a UNIX socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_PATIENCE)
        self._path = path

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(self.timeout)
        try:
            sock.connect(self._path)
        except BaseException:
            sock.close()
            raise
        self.sock = sock
