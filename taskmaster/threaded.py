"""What a loop does with a connection, whatever the model: count it, process it, park it, refuse it. Build yours on it.

The threads are in `taskmaster.register`, which this is built on. A connection's life in the books: in the queue, with a
thread that is SERVING, or parked; at last served, or refused:

    hand_over          `accept` has returned it, and the public hook is called for it: handle_incoming_connection
    count_in_locked    a new one, or one that is back from being parked
    process            a thread serves it; True: it is idle, and this model parks
    count_out_locked   the thread is done with it: served, or parked from now on
    park               the acceptor has it, and another thread may have it back before this call returns. That is why
                       it is counted as parked before
    refuse             it has been counted as refused, and its client is told

The rules are those of the register: whatever ends in `_locked` is called with `self.lock` held.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from taskmaster.arguments import one_of
from taskmaster.base import AcceptorSteps, Connection, logger
from taskmaster.books import ACCEPTED, PARKED, SERVED, SERVING
from taskmaster.register import NOT_LOCKED, Register

__all__ = ["DEFAULT_IDLE", "Idle", "Inline", "ThreadedTaskmaster"]

Idle = Literal["hold", "park"]
"""What becomes of a connection that is idle: its thread waits for the client, or parks it and serves another."""
Inline = Literal["fair", "always", "never"]
"""When a thread that parks goes on with a request that is there already: see `ThreadedTaskmaster.choose_parking`."""
DEFAULT_IDLE: Idle = "park"
"""Of the models that can do both."""

_BURST = 5.0
"""Seconds without a refusal after which the next one is a new burst, and logged again."""


class ThreadedTaskmaster(Register):
    """What the models share: the register of threads, the counters, and what a loop does with a connection.

    To write a model, `begin` and `start` threads in `execute_acceptor`, and write a loop for each kind of thread. A
    loop says where it is (`enter`) and, as its last act, why its thread leaves (`leave`); it gives each connection it
    accepts to `hand_over`. `handle_incoming_connection` counts it (`accepted`) and sees that some thread, in state
    SERVING, calls `process` and then counts it again (`served`), or counts it as `refused` and calls `refuse`.
    Connections that wait for a thread stand in `queue`: a deque, or what the constructor puts there instead, with
    `append`, `clear`, `in`, `remove` and a length. Conditions of its own are made on `lock`.

    A model that parks says so in `idle`, counts with `count_in_locked` and `count_out_locked`, and gives to `park` what
    `process` has found idle.
    """

    idle: Idle = "hold"
    """Read by `begin`."""
    inline: Inline = "fair"
    """Read by `go_on`. Both are set by `choose_parking`."""

    def __init__(self) -> None:
        super().__init__()
        # Written by `begin`, and once by whichever thread `park` answers False first; all write the same, and a thread
        # that still reads True is answered False itself.
        self._parking = False
        self._go_on: Callable[[], bool] = self.go_on
        """As one object, which need not be made for every request."""
        # Each thread puts in and takes out the one that it hands over; each is one operation of a dict, and so atomic.
        self._uncounted: dict[Connection, object] = {}
        """They came back from being parked, and are still counted as parked. Each with a mark of the `hand_over` that
        it is in: before that is over, it may have been parked again, and be in the next."""
        # Owned by whoever accepts. If that is two threads at once, there may be a line more in the log, no harm else.
        self._refused_at = -_BURST
        self._keep()

    def begin(self, acceptor: AcceptorSteps) -> None:
        one_of("idle", self.idle, "hold", "park")  # a model may have thought of a list of those that are idle
        super().begin(acceptor)
        self._parking = self.parks
        self._uncounted.clear()

    def too_many_requests(self, connection: Connection) -> None:
        now = time.monotonic()
        if now - self._refused_at > _BURST:
            super().too_many_requests(connection)
        self._refused_at = now

    def hand_over(self, connection: Connection) -> None:
        """Call the public hook; an override that raises costs its own connection, not the thread that accepts."""
        mark = None
        if connection.resumed:
            mark = self._uncounted[connection] = object()
        try:
            self.handle_incoming_connection(connection)
        except BaseException:
            logger.exception("handle_incoming_connection(%s) raised", connection.peer)
            self.acceptor.abandon(connection)
            if mark is not None and self._uncounted.get(connection) is mark:  # not counted in: the books say parked
                self._uncounted.pop(connection, None)
                with self.lock:
                    self.parked -= 1
                    self.served += 1

    def count_in_locked(self, connection: Connection) -> None:
        """`connection` has come from `accept`. The caller sees, in the same breath, where it is from now on."""
        assert self.lock.locked(), NOT_LOCKED
        if connection.resumed:
            self.cells[PARKED] -= 1  # as self.parked, at half the price: this is done for every request
            self._uncounted.pop(connection, None)
        else:
            self.cells[ACCEPTED] += 1

    def count_out_locked(self, idle: bool) -> None:
        """The calling thread is done with its connection, as `process` said, and leaves SERVING in the same breath."""
        assert self.lock.locked(), NOT_LOCKED
        self.cells[PARKED if idle else SERVED] += 1

    def process(self, connection: Connection) -> bool:
        """Process `connection` on this thread. Nothing it does, not even SystemExit, ends the thread.

        True: it is idle; count that (`count_out_locked`), and then `park` it. False: it is over. Always False for a
        model that does not park.
        """
        try:
            if self._parking:
                return self.acceptor.process_until_idle(connection, self._go_on)
            self.acceptor.process_connection(connection)
        except BaseException:
            logger.critical("processing %s raised; this is a bug in the acceptor", connection.peer, exc_info=True)
        return False

    def choose_parking(self, idle: Idle, inline: Inline) -> None:
        """For the constructor of a model that can both hold and park; ValueError for what makes no sense.

        idle: "hold" or "park", as in `Idle`.
        inline: with "park", when a thread has served a request, and the next one of its connection is there already:
            "fair"    it serves that, if another thread is free for whatever else may come; else the connection goes
                      behind all that wait, so that each gets its turn
            "always"  it serves that. So a client that always has a next request keeps its thread, and as many of those
                      as there are threads keep everybody else waiting: Puma's CVE-2019-16770, here to be shown
            "never"   the connection goes behind all that wait, also if none does
        """
        one_of("idle", idle, "hold", "park")
        one_of("inline", inline, "fair", "always", "never")
        if idle == "hold" and inline != "fair":
            raise ValueError(f"inline={inline!r} with idle='hold': a thread goes on with its connection anyway; "
                             "add idle='park', or drop inline")
        self.idle, self.inline = idle, inline

    @property
    def parks(self) -> bool:
        """Whether `process` returns when a connection is idle."""
        return self.idle == "park"

    def go_on(self) -> bool:
        """Whether the calling thread serves the next request of its connection, which is there already, at once.

        Called by that thread, between two requests. Without the lock, for each number is read in one piece, and what is
        decided would be as stale a moment later with it: at worst one request is served before or behind its turn.
        """
        if self.inline == "fair":
            return self.others_idle()
        return self.inline == "always"

    def others_idle(self) -> bool:
        """Whether another thread is free to serve, and no connection waits for one. Without the lock: see `go_on`.

        A model whose threads may be fewer than `max_thread_count` says more.
        """
        return (self.max_thread_count is None
                or self.cells[SERVING] + len(self.queue) < self.max_thread_count)

    def park(self, connection: Connection) -> bool:
        """Give `connection`, already counted as parked, to the acceptor. Never blocks.

        False: the server stops, and it stands in the queue instead, whatever the limit of that: the caller looks there,
        or has another thread look. From then on `process` goes on to the end of each.
        """
        if self.acceptor.park(connection):
            return True
        self.queue_unparked(connection)
        return False

    def queue_unparked(self, connection: Connection) -> None:
        """`acceptor.park` has answered False: what `park` does then."""
        self._parking = False
        with self.lock:
            self.parked -= 1
            self.queue.append(connection)

    def withdraw(self, connection: Connection) -> None:
        """The acceptor has answered `connection` itself. If it is in the queue, it is taken out, and counted."""
        with self.lock:
            if connection in self.queue:
                self.queue.remove(connection)
                self.cells[SERVED] += 1

    def refuse(self, connection: Connection) -> None:
        """Have `connection`, already counted as refused, answered with 503; first tell the hook. Never blocks."""
        try:
            self.too_many_requests(connection)
        except BaseException:
            logger.exception("too_many_requests() raised; %s gets its 503 all the same", connection.peer)
        self.acceptor.refuse(connection)
