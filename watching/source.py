"""Where a page has its numbers from: a server in this process. (`watching.remote`: one in another.)

It reads the books of the taskmaster and the connections' own fields: nobody writes anything for it, but that each
response is counted.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from time import monotonic
from types import FrameType
from typing import Protocol

from acceptor import Acceptor, exchange
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

__all__ = ["MOST_SECONDS", "LocalSource", "Source", "SourceError"]

MOST_SECONDS = 10.0
"""That are recorded at a time."""
_DECISIONS = 20
_TURN = 0.5
"""Seconds to wait for somebody else's recording to end: those of the page are short."""
_FRESH = 10.0
"""Seconds for which a burst is told of."""


_attaching = threading.Lock()
"""Held while somebody begins to count, or ends."""


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
        """Record it for so long; blocks until then. SourceError, also if somebody else records it for long."""

    def stacks(self) -> str:
        """What each of its threads does, with its Python stack: text for people. SourceError."""


class LocalSource:
    """`server`, an acceptor of this process, started now, before or later.

    label: by default its name, "127.0.0.1:8080".
    queries: whether the queries of requests are shown, in which there may be secrets.

    In a worker process of a PreforkTaskmaster it is what that process does.
    """

    def __init__(self, server: Acceptor, label: str | None = None, *, queries: bool = False) -> None:
        self._acceptor = server
        self._label = label
        self._queries = queries
        self._recording = threading.Lock()
        """Held while it is recorded: one recording at a time."""
        self._cut = threading.Event()
        """Set: the recording that there is, if there is one, is to end."""
        self._lock = threading.Lock()
        # Guarded by self._lock.
        self._rows = Rows()
        self._counts = ResponseCounts()
        # Written by whoever records.
        self._burst: Burst | None = None

    @property
    def label(self) -> str:
        return self._label or self._acceptor.name

    def attach(self) -> Run | None:
        """See that its responses are counted from now on, if they are not; its run, None before the start."""
        run = self._steps.run
        if run is not None:
            with _attaching:
                service = run.service
                if isinstance(service.counter, ResponseCounts):  # somebody else counts already: together, then
                    self._counts = service.counter
                else:
                    service.counter = self._counts
                self._counts.viewers.add(self)
        return run

    def detach(self) -> None:
        """Have them counted no more, unless somebody else counts too; and end what is being recorded."""
        self._cut.set()
        run = self._steps.run
        with _attaching:
            self._counts.viewers.discard(self)
            if run is not None and run.service.counter is self._counts and not self._counts.viewers:
                run.service.counter = None

    def look(self) -> None:
        """See that responses are counted, and take what has been."""
        if self.attach() is not None:
            self._counts.look()

    def sample(self) -> Sample:
        acceptor, taskmaster = self._acceptor, self._taskmaster
        run = self.attach()
        responses, histogram = self._counts.look()
        if (reap := getattr(taskmaster, "reap", None)) is not None:
            reap(0)  # what has ended is joined when the next one starts: it is not to be shown as a thread until then
        snapshot = taskmaster.snapshot()
        kernel, kernel_limit = (run.kernel_queue if run is not None else None) or (None, None)
        attended = run.attended() if run is not None else []
        with self._lock:
            now = monotonic()
            lanes = lanes_now(self._rows, self._threads(attended), attended, now, self._queries)
        burst = self._burst
        return Sample(
            time=now, label=self.label, name=acceptor.name, model=type(taskmaster).__name__, process=os.getpid(),
            max_thread_count=taskmaster.max_thread_count, max_accept_count=taskmaster.max_accept_count,
            threads={state.word: count for state, count in snapshot.threads.items()},
            lanes=lanes,
            connections=ConnectionsNow(
                open=self._open, kernel=kernel, kernel_limit=kernel_limit,
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
        if not self._recording.acquire(timeout=_TURN):
            raise SourceError(f"{self.label} is being recorded for somebody else; ask again in a moment")
        try:
            self._cut.clear()
            threads = self._threads(run.attended())
            with self._lock:
                rows = self._rows.assign(threads, monotonic())
            recording = self._begin()
            self._cut.wait(seconds)
            recording.stop()
        finally:
            self._recording.release()
        lanes = lanes_of(recording, rows, threads, self._queries)
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
            age = f", for {sample['time'] - lane['since']:.3f} s" if lane["since"] is not None else ""
            lines.append(f"\n{lane['thread']}: {STATES[lane['state']]}{age}  {doing}".rstrip())
            if frames is None:
                lines.append("  (this Python runs without the GIL: the frames of a thread that runs cannot be read)")
            elif (frame := frames.get(lane["ident"])) is not None and lane["state"] != "X":
                lines += _stack(frame)
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


def _stack(frame: FrameType) -> list[str]:
    """What a thread does, the innermost last; of the server's own frames, those below which the application is are left
    out, and of others all but the last."""
    frames = traceback.extract_stack(frame)
    handler = [place for place, each in enumerate(frames, start=1)
               if each.name == "_handle" and each.filename == exchange.__file__]
    begin = handler[-1] if handler else len(frames) - 2
    return [f"  ({begin} frames of the server)", "".join(traceback.format_list(frames[begin:])).rstrip()]


def _decisions(taskmaster: Taskmaster) -> list[DecisionSaid]:
    decisions: Sequence[Decision] = getattr(taskmaster, "decisions", ())
    return [DecisionSaid(time=each.time, change=each.change, reason=each.reason, threads=each.threads)
            for each in decisions[-_DECISIONS:]]
