"""The one thread that an acceptor has of its own. It does what no thread that serves should wait for:

    refuse     503 to connections for which there is no thread, so that a client which is still sending can read it
    urgent     answers all the same to what is urgent, if somebody has said what that is (acceptor.urgent)
    linger     after a last answer, read what the client still sends (RFC 9112 section 9.6)
    ring       see that parked connections whose time is up come back to a thread of the taskmaster
    press      see whether others wait for a thread, so that idle and slow clients give way (Timeouts.pressed)
    watch      log the stack of a handler that takes too long (Timeouts.handler)

Why refuse and linger: an answer that is followed by a close is lost whenever the client is still sending, for its bytes
meet a closed socket, the kernel answers with a reset, and the reset throws away what has not been read. So the
connection is half-closed and read until the client closes its side too, for a bounded time. That is waiting, not work,
so one thread does it for all. It never touches a connection that is being served.
"""

from __future__ import annotations

import logging
import selectors
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable

from acceptor.connection import Connection
from acceptor.phases import Phase
from acceptor.registry import AT_WORK, WAITING, Registry
from acceptor.service import Service
from acceptor.settings import TICK
from acceptor.urgent import Urgent, peek, urgent_answer
from acceptor.violations import printable

__all__ = ["Watcher"]

logger = logging.getLogger("acceptor")

_MOST = 256
"""Connections that linger at once; beyond that the oldest are closed early, to bound descriptors in a flood."""
_AGAIN = "Try again in a moment."
_PATIENCE = 5.0
"""Seconds for the thread to end, once it has nothing to do; more than enough, unless start_thread has wrapped it."""


class Watcher:
    """Made and started by the acceptor. `refuse` and `linger` by any thread, never blocking; `stop` by the acceptor.

    pending: whether connections wait in the kernel's queue.
    withdraw: called with each connection that waited for a thread and has been answered without one.
    ring: called when parked connections have had their time: somebody is to ask the registry which.
    close: called with each connection that is finished with, by the watcher's thread.
    """

    def __init__(self, service: Service, registry: Registry, pending: Callable[[], bool], ring: Callable[[], object],
                 withdraw: Callable[[Connection], object], close: Callable[[Connection], None]) -> None:
        # Fixed at construction.
        self._service = service
        self._registry = registry
        self._pending = pending
        self._ring = ring
        self._withdraw = withdraw
        self._close = close
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._ended = threading.Event()
        # Guarded by self._lock.
        self._lock = threading.Lock()
        self._new: list[tuple[Connection, str | None]] = []
        self._stopping = self._hurried = self._done = False
        # Owned by the acceptor, which starts and stops it.
        self._begun = False
        # Owned by the watcher's thread.
        self._thread: threading.Thread | None = None
        self._selector = selectors.PollSelector()  # unlike epoll it takes no descriptor, which may be what is lacking
        self._lingering: dict[Connection, float] = {}
        """Each with the end of its time: the oldest first."""
        self._undecided: dict[Connection, str] = {}
        """Those of them that are refused with that text unless they turn out to be urgent, and have not sent anything
        by which to tell."""
        self._waited_before = False
        """At the last tick connections waited in the kernel's queue."""
        self._waiting: dict[Connection, int] = {}
        """Those that waited for a thread at the last tick, each with how often it had come back by then."""
        self._reported: dict[Connection, float] = {}
        """Handlers that have been logged, each with its beginning."""

    def start(self, start_thread: Callable[[Callable[[], None], str], None], name: str) -> None:
        """Start the thread; raises what `start_thread` raises, and then nothing is left."""
        self._begun = True
        try:
            start_thread(self._run, name)
        except BaseException:
            self._begun = False
            self.stop()
            raise

    def refuse(self, connection: Connection, text: str) -> None:
        """Have `connection` answered with 503 and `text`, and closed."""
        self._add(connection, text)

    def linger(self, connection: Connection) -> None:
        """Have `connection`, whose output has ended, read until its client ends too, and closed."""
        self._add(connection, None)

    @property
    def alive(self) -> bool:
        """Its thread has been started, and has not ended. Any thread."""
        return not self._ended.is_set()

    def stop(self, *, linger: bool = True) -> None:
        """Finish what there is, for up to Timeouts.linger, and join the thread. What comes later is closed at once.
        linger: False: so is what there is; and also if the thread has never been started."""
        with self._lock:
            self._stopping = True
            self._hurried = not linger
            self._done = self._done or not self._begun
            new = self._new if not self._begun else []
        if not self._begun:
            for connection, _ in new:
                self._close(connection)
            self._wake_reader.close()
            self._wake_writer.close()
            self._ended.set()
            return
        self._wake()
        if not self._ended.wait(self._service.timeouts.linger + _PATIENCE) or self._thread is None:
            logger.error("the watcher has not ended; is it that start_thread() does not call its target?")
            return
        self._thread.join(_PATIENCE)
        self._wake_reader.close()
        self._wake_writer.close()

    def _add(self, connection: Connection, text: str | None) -> None:
        with self._lock:
            late = self._done
            if not late:
                self._new.append((connection, text))
        if late:
            self._close(connection)
        else:
            self._wake()

    def _wake(self) -> None:
        try:
            self._wake_writer.send(b"!")
        except OSError:  # full: it is awake; or closed: it has ended
            pass

    # The watcher's thread.

    def _run(self) -> None:
        self._thread = threading.current_thread()
        self._selector.register(self._wake_reader, selectors.EVENT_READ)
        next_tick = time.monotonic() + TICK
        try:
            while True:
                with self._lock:
                    new, self._new = self._new, []
                    hurried = self._hurried
                    if self._stopping and not new and not self._lingering:
                        self._done = True
                        return
                now = time.monotonic()
                for connection, text in new:
                    self._begin(connection, text, now)
                self._end_old(float("inf") if hurried else now)
                if now >= next_tick:
                    next_tick = now + TICK
                    self._tick(now)
                self._wait(min([next_tick, *list(self._lingering.values())[:1]]) - now)
        except BaseException:
            logger.critical("the watcher died; this is a bug. Refused clients get no answer any more", exc_info=True)
        finally:
            with self._lock:
                self._done = True
            self._ended.set()

    def _begin(self, connection: Connection, text: str | None, now: float) -> None:
        try:
            connection.start_lingering()
            if text is not None:
                self._undecided[connection] = text
                if not self._decide(connection, self._service.urgent is None):
                    self._close(connection)
                    return
        except (OSError, ValueError):  # closed under us, which only a bug elsewhere could do
            self._undecided.pop(connection, None)
            self._close(connection)
        else:
            self._watch(connection, now)

    def _watch(self, connection: Connection, now: float) -> None:
        """Read what it still sends, for as long as it may linger."""
        try:
            self._selector.register(connection, selectors.EVENT_READ)
        except (OSError, ValueError, KeyError):  # as above
            self._undecided.pop(connection, None)
            self._close(connection)
        else:
            self._lingering[connection] = now + self._service.timeouts.linger

    def _decide(self, connection: Connection, at_once: bool) -> bool:
        """Answer one that is undecided, if it has sent something or has to be decided about now.

        False if there is nobody to read that."""
        urgent, answer = self._service.urgent, None
        if not at_once and urgent is not None:
            data = peek(connection)
            if data is None:
                return True
            answer = urgent_answer(connection, data, urgent)
        text = self._undecided.pop(connection)
        return connection.start_answer(answer) if answer is not None else connection.start_refusal(text)

    def _wait(self, seconds: float) -> None:
        for key, _ in self._selector.select(max(0.0, seconds)):
            connection = key.fileobj
            if not isinstance(connection, Connection):
                self._wake_reader.recv(4096)
                continue
            goes_on = self._decide(connection, False) if connection in self._undecided else connection.drain()
            if not goes_on:
                self._end(connection)

    def _end_old(self, now: float) -> None:
        """End what has had its time by `now`, and what is too much."""
        over = [connection for connection, end in self._lingering.items() if end <= now]
        for connection in over or list(self._lingering)[:max(0, len(self._lingering) - _MOST)]:
            self._end(connection)

    def _end(self, connection: Connection) -> None:
        if connection in self._undecided:
            self._decide(connection, True)
        del self._lingering[connection]
        self._selector.unregister(connection)
        self._close(connection)

    def _tick(self, now: float) -> None:
        if self._registry.find_due(now):
            self._ring()
        waits = self._pending()
        pressed = waits and self._waited_before  # twice, because everybody is there for a moment
        self._waited_before = waits
        waiting, running = {}, {}
        if self._service.urgent is not None:
            self._answer_urgent(self._service.urgent, now)
        for connection, owner in self._registry.attended():
            phase, since = connection.phase, connection.since
            if owner == WAITING:
                waiting[connection] = connection.comebacks
                pressed = pressed or self._waiting.get(connection) == connection.comebacks  # it is the same wait
            elif phase is Phase.HANDLING and now - since >= (self._service.timeouts.handler or float("inf")):
                running[connection] = since
                if self._reported.get(connection) != since:
                    self._report(connection, owner, since, now)
        self._waiting, self._reported = waiting, running
        self._service.pressed = pressed

    def _answer_urgent(self, urgent: Urgent, now: float) -> None:
        """Answer those that wait for a thread, and need none."""
        sent: list[tuple[Connection, bytes]] = []

        def look(connection: Connection, owner: int) -> None:
            if owner != WAITING or connection.phase not in (Phase.ACCEPTED, Phase.FRESH, Phase.IDLE):
                return
            if len(sent) < _MOST and not connection.wire.has_rest and (data := peek(connection)):
                sent.append((connection, data))

        self._registry.each(look, attended=True)
        for connection, data in sent:
            answer = urgent_answer(connection, data, urgent)
            if answer is None or not self._registry.hand_over(connection, WAITING):
                continue
            self._withdraw(connection)
            # A thread may have served that request meanwhile, and parked the connection, and it waits with another.
            same = peek(connection) == data
            if connection.start_answer(answer) if same else connection.start_refusal(_AGAIN):
                self._watch(connection, now)
            else:
                self._close(connection)

    def _report(self, connection: Connection, owner: int, since: float, now: float) -> None:
        name, stack = _thread(owner)
        head = connection.head
        if connection.phase is not Phase.HANDLING or connection.since != since or head is None:
            return  # it has come to its end meanwhile: the stack may be that of something else
        logger.warning("%s %s from %s: its handler has been running for %.0f s (Timeouts.handler), on thread %s:\n%s",
                       head.method, printable(head.target), connection.peer, now - since, name, stack.rstrip())


def _thread(owner: int) -> tuple[str, str]:
    """The name of the thread that has a connection, and what it does at the moment."""
    if owner == AT_WORK:
        return "of an executor", "(the executor's, which may be another process)"
    return next((thread.name for thread in threading.enumerate() if thread.ident == owner), str(owner)), _stack(owner)


def _stack(thread: int) -> str:
    """What the thread with this ident does at the moment. Not without the GIL: to read the frames of a thread that runs
    may crash the process there (Python's HOWTO on free threading, "Frame objects")."""
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return "(its stack cannot be read: this Python runs without the GIL)"
    frame = sys._current_frames().get(thread)
    return "".join(traceback.format_stack(frame)) if frame else "(its thread has ended)"
