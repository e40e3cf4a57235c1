"""An acceptor between start and stop: its sockets, its connections, the thread of its own.

Here are the steps that a taskmaster makes its loops of, and the phases in which all of it stops.
"""

from __future__ import annotations

import functools
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from acceptor.connection import STOPPING, Connection
from acceptor.listener import BELL, ONCE, Accepted, Listener
from acceptor.phases import End
from acceptor.recording import RecordedSteps, Recording
from acceptor.registry import CLOSING, WAITING, Registry
from acceptor.service import Service
from acceptor.settings import TICK
from acceptor.signals import SIGNALS_EVERY
from acceptor.violations import ProtocolError, Violation
from acceptor.watcher import Watcher
from taskmaster.base import AcceptorSteps, StopPhase, Taskmaster, TaskmasterBusyError

__all__ = ["Run", "Steps", "StopReport"]

logger = logging.getLogger("acceptor")

_FULL = "The server is full; try again in a moment."
_GRACE = 2.0
"""Seconds that threads have to end after their connections have been cut: they notice within a TICK, and have not much
more if somebody is in a hurry. A handler that does not look at its connection meanwhile is not interrupted:
nothing in Python can do that safely."""
_LOOK = 0.1
"""Seconds between two looks, while it stops, at whether it is to hurry."""


@dataclass(frozen=True)
class StopReport:
    """What `stop` had to do. Falsy if nothing was lost."""

    cut: tuple[str, ...] = ()
    """What was cut in the middle: "GET /report from 203.0.113.7:49152 (handling)", or before there was a request,
    "203.0.113.7:49152 (reading)"."""
    stuck: tuple[str, ...] = ()
    """Threads that did not end even then; they are daemons, and end with the process or with their handler."""

    def __bool__(self) -> bool:
        return bool(self.cut or self.stuck)


class Run:
    """Made and stopped by the acceptor, one of them at a time. The steps are for any number of threads at once."""

    def __init__(self, service: Service, registry: Registry, listener: Listener, taskmaster: Taskmaster) -> None:
        self._service = service
        self._registry = registry
        self._listener = listener
        self._taskmaster = taskmaster
        self._can_park = listener.can_park
        self._watch_again = listener.watch_again
        self._watcher: Watcher
        self._name = ""
        self._records = threading.Lock()
        """Held for a moment by who begins to record, or ends: there is one recording at a time."""
        self._over = False
        """It has been stopped, or never came up."""
        self._hurry: SimpleQueue[None] = SimpleQueue()
        """Not empty: `stop` is to cut what is left. Its `put` may be called by a signal handler, unlike Event.set."""
        registry.open(True)
        service.wake = self._wake

    def begin(self, acceptor: AcceptorSteps) -> None:
        """Let the taskmaster run `acceptor`, and start the watcher. Raises what they raise; then nothing is left.

        In this order, because a taskmaster that forks must do so while there are no threads.
        """
        self._name = acceptor.name
        if isinstance(acceptor, Steps):
            acceptor.take(self)
        listener = self._listener
        self._watcher = Watcher(self._service, self._registry, listener.pending, listener.ring,
                                self._taskmaster.withdraw, self._close)
        try:
            self._taskmaster.execute_acceptor(acceptor)
        except TaskmasterBusyError:
            self._listener.stop()
            self._close_everything()
            raise
        except BaseException:
            self.hurry()
            self.stop(0.0, 0.0)
            raise
        try:
            self._watcher.start(self._taskmaster.start_thread, f"watcher-{acceptor.name}")
        except BaseException:
            self.hurry()
            self.stop(0.0, 0.0)
            raise

    @property
    def alive(self) -> bool:
        """The thread of its own has not ended. Any thread."""
        return self._watcher.alive

    # The steps: see taskmaster.base.AcceptorSteps.

    def accept(self, timeout: float | None = None) -> Connection | None:
        while (came := self._listener.accept(timeout)) is not None:
            if isinstance(came, int):
                connection = self._registry.unpark(came) if came != BELL else self._unpark(BELL)
            else:
                connection = self._admit(came)
            if connection is not None:
                return connection
        return self._accept_late()

    def process_connection(self, connection: Connection) -> None:
        self._process(connection)

    def process_until_idle(self, connection: Connection, go_on: Callable[[], bool]) -> bool:
        return self._process(connection, go_on if self._can_park and not self._service.stopping else None)

    def process_without_waiting(self, connection: Connection, offload: Executor | None) -> bool:
        if not self._can_park:
            return self._process(connection)
        return self._process(connection, _never, True, offload)

    def park(self, connection: Connection) -> bool:
        stream = connection.stream
        if not (wants := stream.wants):
            return self._park_for_job(connection)
        # Before it is parked, for then another thread may have it back, and close it.
        descriptor, comebacks = stream.raw.fileno(), connection.comebacks
        if not self._registry.park(connection):
            return False
        if connection.watched:
            try:
                self._watch_again(descriptor, wants | ONCE)
            except (OSError, ValueError):  # it has been closed meanwhile
                pass
        else:
            connection.watched = self._listener.watch(stream.raw.fileno(), wants)
        if connection.comebacks != comebacks:
            self._watch_for_another(descriptor, wants)
        return True

    def _watch_for_another(self, descriptor: int, wants: int) -> None:
        """While we parked a connection: 1. its time was up, 2. another thread has had it, and has parked it again,
        until something else; or has closed it, and its descriptor is that of another one, which is parked, 3. and then
        we have watched it, until what nobody waits for. Whoever comes last puts that right."""
        while (now := self._registry.wants(descriptor)) not in (0, wants):
            self._listener.watch(descriptor, now)
            wants = now

    def _park_for_job(self, connection: Connection) -> bool:
        self._registry.park_for_job(connection)
        if not connection.at_work:
            # Why it is looked at here: 1. the job is done, 2. its thread finds (`_wake`) that the connection is not
            # parked yet, 3. it is parked. And if it is parked before 2., that thread has it come back.
            self._wake(connection)
        return True

    def refuse(self, connection: Connection) -> None:
        if not connection.refusable or not connection.has_come:
            connection.give_up()
            self._end(connection, WAITING)
        elif self._registry.hand_over(connection, WAITING):  # else it came too late: `stop` has answered it
            self._watcher.refuse(connection, _FULL)

    def abandon(self, connection: Connection) -> None:
        self._end(connection, WAITING)

    def _wake(self, connection: Connection) -> None:
        """The job is done that it was, or will be, parked for. Any thread; a second call does nothing."""
        if self._registry.work_is_done(connection):
            self._listener.ring()

    def _process(self, connection: Connection, go_on: Callable[[], bool] | None = None, alone: bool = False,
                 offload: Executor | None = None) -> bool:
        """Whether it is to be parked."""
        if not self._registry.begin(connection):  # it waited for a thread past the deadline: `stop` answers it
            self._record_end(connection, _CLOSE)
            return False
        end = _CLOSE
        try:
            end = connection.serve(go_on, alone=alone, offload=offload)
        except Exception:
            logger.exception("%s: this is a bug in the server; closing", connection)
        finally:
            if end is not _PARK:
                self._part(connection, end)
            if connection.lane is not None:
                self._record_end(connection, end)
        return end is _PARK

    def _record_end(self, connection: Connection, end: End) -> None:
        """If somebody records: the calling thread has nothing more to do with it for now."""
        lane = connection.lane
        if lane is not None and lane.thread is threading.current_thread():  # else it is a job's by now
            connection.lane = None
            lane.step((time.monotonic(), "_", connection.number, _ENDS[end]))

    def _part(self, connection: Connection, end: End) -> None:
        """The calling thread has served `connection` to its end."""
        me = threading.get_ident()
        if end is End.LINGER and self._registry.hand_over(connection, me):
            self._watcher.linger(connection)
        elif end is End.DETACHED:
            self._registry.remove(connection, me)
        else:
            self._end(connection, me)

    def _end(self, connection: Connection, owner: int) -> None:
        if self._registry.remove(connection, owner):
            connection.close()

    def _unpark(self, descriptor: int) -> Connection | None:
        """The parked connection that is ready; None if another thread has it."""
        if descriptor != BELL:
            return self._registry.unpark(descriptor)
        connection, more = self._registry.unpark_due()
        if more:
            self._listener.ring()
        return connection

    def _accept_late(self) -> Connection | None:
        """The server stops, and what the kernel had queued has been returned: now what is parked."""
        while (connection := self._registry.unpark_any(self._service.cut)) is None:
            if not self._registry.parked:
                return None
            if (ready := self._listener.wait_late(TICK)) is not None and (connection := self._unpark(ready)):
                break
        return connection

    # Stopping, in phases.

    def hurry(self) -> None:
        """Have `stop` cut what is left, now or when it is called. Any thread, and signal handlers."""
        self._hurry.put(None)

    # For whoever watches: any thread.

    @property
    def service(self) -> Service:
        return self._service

    @property
    def kernel_queues(self) -> dict[str, tuple[int, int] | None]:
        """See `Acceptor.kernel_queues`."""
        return {str(address): queue for address, queue in self._listener.queues()}

    @property
    def kernel_queue(self) -> tuple[int, int] | None:
        """The sums of these, over the addresses of which the system tells; None if it tells of none."""
        queues = [queue for queue in self.kernel_queues.values() if queue is not None]
        return (sum(waiting for waiting, _ in queues), sum(limit for _, limit in queues)) if queues else None

    @property
    def connection_count(self) -> int:
        """Connections of this process, accepted and not yet closed."""
        return len(self._registry)

    @property
    def refused_count(self) -> int:
        """Connections of this process that were refused because of Limits: no taskmaster saw them."""
        return self._registry.refused

    @property
    def violations(self) -> Mapping[Violation, int]:
        """Of HTTP, seen in this process."""
        return self._service.compliance.counts

    def attended(self) -> list[tuple[Connection, int]]:
        """The connections that are not parked, each with the ident of the thread that has it, or 0, or less."""
        return self._registry.attended()

    def record(self, steps: Steps) -> Recording:
        """Record what is done by `steps`, which are this run's. RuntimeError if somebody records already."""
        recording = Recording(functools.partial(self._record_no_more, steps))
        with self._records:
            if self._over:
                raise RuntimeError(f"{self._name} has been stopped: there is nothing to record; start() it first")
            if self._service.recording is not None:
                raise RuntimeError(f"{self._name} is being recorded already; stop() that recording first")
            self._service.recording = recording
            # Under the lock, as its end, and as what ends this run: or it might be put in the place of another run's
            # steps, the server having been stopped and started again in between.
            steps.take(RecordedSteps(self, recording))
        recording.enter(self._registry)
        return recording

    def _record_no_more(self, steps: Steps, recording: Recording) -> None:
        with self._records:
            if self._service.recording is not recording:  # another thread has stopped it too
                return
            if not self._over:  # else the steps may be those of another run by now
                steps.take(self)
                for connection, _ in self._registry.items():
                    connection.lane = None
            self._service.recording = None

    def stop(self, deadline: float, leave: float, *, spare: float = 2 * _LOOK) -> StopReport:
        """What `Acceptor.stop` does; seconds, all.

        spare: how much longer it waits in a hurry than the same in a worker process, which has to end before.

        What a thread of the taskmaster may block in, and what ends that here:

            accept()                 listener.stop(); what is parked is returned first
            recv, while idle         it sees `service.stopping` within a TICK
            recv, send, in between   the client; past the deadline it sees `service.cut` within a TICK
            a detached connection    whoever has it; connection.cut() past the deadline
            a handler                itself; after the deadline and _GRACE it is reported as stuck
        """
        in_progress = sum(connection.phase.in_progress for connection, _ in self._registry.items())
        logger.info("%s: stopping%s; requests in progress: %d%s", self._name, f" in {leave:g} s" if leave else "",
                    in_progress, f", which have up to {deadline:g} s" if deadline != math.inf else "")
        # 0. Everybody learns that it leaves.
        self._service.leaving = True
        if leave:
            self._tell(StopPhase.LEAVING)
        self._wait_unless_hurried(leave)
        # 1. No new connections, and no further request on those there are.
        self._tell(StopPhase.STOPPING)
        self.accept_no_more()
        # 2. Everything in progress gets its answer, and every thread is joined.
        late = self._shut_down_taskmaster(deadline)
        cut: list[str] = []
        if late:
            # 3. Past the deadline: cut what is in progress.
            self._registry.open(False)
            self._service.cut = True

            def note(connection: Connection, owner: int) -> None:
                if connection.phase.in_progress:
                    cut.append(connection.description)
                connection.cut()

            self._registry.each(note)
            self._tell(StopPhase.CUT)
            late = self._taskmaster.shutdown(min(_GRACE, TICK + _LOOK + spare) if self._hurried else _GRACE)
            cut += self._taskmaster.cut
        # 4. Nobody is left who could accept; close what is open.
        self._close_everything()
        report = StopReport(tuple(cut), tuple(late))
        if report:
            logger.warning("%s stopped; %s it cut %s%s", self._name,
                           "told to hurry," if self._hurried else f"past the deadline of {deadline:g} s",
                           ", ".join(cut) or "nothing",
                           f"; threads that have not ended: {', '.join(late)}" if late else "")
        return report

    def accept_no_more(self) -> None:
        """What the kernel has queued is still served; a second call only wakes who waits. Also before `stop`."""
        self._service.stopping = True
        self._registry.park_no_more()
        self._listener.stop()

    def _tell(self, phase: StopPhase) -> None:
        try:
            self._taskmaster.stopping(phase)
        except Exception:
            logger.exception("%s.stopping(%s) failed; going on", type(self._taskmaster).__name__, phase.value)

    @property
    def _hurried(self) -> bool:
        return not self._hurry.empty()

    def _wait_unless_hurried(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self._hurried:
            try:
                self._hurry.get(timeout=min(left, SIGNALS_EVERY))
                self._hurry.put(None)  # it stays hurried
            except Empty:
                pass

    def _shut_down_taskmaster(self, deadline: float) -> Sequence[str]:
        """Wait for its threads until the deadline, or until somebody is in a hurry; the names of those left."""
        end = time.monotonic() + deadline
        while True:
            left = 0.0 if self._hurried else max(0.0, end - time.monotonic())
            late = self._taskmaster.shutdown(min(left, _LOOK))
            if not late or left <= _LOOK:
                return late

    def _close_everything(self) -> None:
        """Answer whoever still waits for a thread, and give everything back to the system."""
        with self._records:
            self._over = True
        while (accepted := self._listener.take_drained()) is not None:
            self._admit(accepted)
        while self._registry.unpark_any(True) is not None:
            pass
        for connection, owner in self._registry.items():
            if owner != WAITING:
                continue
            if connection.phase.in_progress or not connection.refusable or not connection.has_come:
                connection.give_up()
                self._end(connection, WAITING)
            elif self._registry.hand_over(connection, WAITING):
                self._watcher.refuse(connection, STOPPING)
        self._watcher.stop(linger=not self._hurried)
        self._listener.close()

    def _admit(self, accepted: Accepted) -> Connection | None:
        """Enter it in the registry; None if it is one too many, and is refused."""
        connection = Connection(*accepted, self._service)
        if (reason := self._registry.add(connection)) is None:
            return connection
        self._service.compliance.log_refusal(connection.peer, ProtocolError(503, reason))
        self._watcher.refuse(connection, _FULL)
        return None

    def _close(self, connection: Connection) -> None:
        """For the watcher: it is done with `connection`."""
        self._end(connection, CLOSING)


class Steps:
    """The steps of `taskmaster.base.AcceptorSteps`, for whoever has a run: any number of threads at once."""

    _run: Run
    _taken: Run | RecordedSteps
    """Who takes the steps: `_run`, or while it is recorded, what records it."""

    @property
    def run(self) -> Run | None:
        """Since the start; of the last one, once that has been stopped."""
        return getattr(self, "_run", None)

    def record(self) -> Recording:
        """Record, from now on, what each thread does, step by step, until `Recording.stop`. Any thread, while it runs.

        Meanwhile a request costs some 15 % of CPU more. RuntimeError if it does not run, or somebody records already.
        """
        if self.run is None:
            raise RuntimeError(f"{type(self).__name__} has not been started: there is nothing to record")
        return self._run.record(self)

    def take(self, run: Run | RecordedSteps) -> None:
        """The steps are those of `run` from now on; before, there are none.

        As attributes, so that each is one call, and not two: they are taken for every request. What a subclass, or
        somebody else's attribute, does instead stays; its super() is those of `run` too.
        """
        self._taken = run
        for step in _STEPS:
            own = vars(self).get(step)
            of_a_run = own is None or isinstance(getattr(own, "__self__", None), (Run, RecordedSteps))
            if of_a_run and getattr(type(self), step) is getattr(Steps, step):
                setattr(self, step, getattr(run, step))

    def accept(self, timeout: float | None = None) -> Connection | None:
        return self._taken.accept(timeout)

    def process_connection(self, connection: Connection) -> None:
        self._taken.process_connection(connection)

    def process_until_idle(self, connection: Connection, go_on: Callable[[], bool]) -> bool:
        return self._taken.process_until_idle(connection, go_on)

    def process_without_waiting(self, connection: Connection, offload: Executor | None) -> bool:
        return self._taken.process_without_waiting(connection, offload)

    def park(self, connection: Connection) -> bool:
        return self._taken.park(connection)

    def refuse(self, connection: Connection) -> None:
        self._taken.refuse(connection)

    def abandon(self, connection: Connection) -> None:
        self._taken.abandon(connection)


_STEPS = ("accept", "process_connection", "process_until_idle", "process_without_waiting", "park", "refuse", "abandon")
_ENDS = {End.CLOSE: "closed", End.LINGER: "closed", End.DETACHED: "detached", End.PARK: "parked"}
_CLOSE, _PARK = End.CLOSE, End.PARK  # to take a member of an enum costs 0.2 us (3.11)


def _never() -> bool:
    """Whether a thread that serves all goes on with a connection whose next request is there: others come first."""
    return False
