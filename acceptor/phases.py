"""Where a connection is in its life.

    What is parked is with nobody while it waits: in FRESH to READING, in IDLE, and in WRITING and CLOSING if its client
    takes its time; on a thread that serves alone, in RECEIVING too, and in HANDLING if that is a job of an executor.

    phase      who has it              what it waits for                       no longer than
    ACCEPTED   a taskmaster's queue    a thread                                -
    FRESH      the thread serving it   the first byte                          Timeouts.head
    HANDSHAKE  the thread serving it   TLS, or the PROXY header                Timeouts.handshake
    READING    the thread serving it   the rest of a request's head            Timeouts.head
    HANDLING   the thread serving it   the handler                             (Timeouts.handler: is logged)
    RECEIVING  the thread serving it   a piece of the body, for the handler    Timeouts.body
    STREAMING  the thread serving it   the next piece of the response's body   -
    WRITING    the thread serving it   the client, to take the response        Timeouts.write
    IDLE       the thread serving it   the next request                        Timeouts.keep_alive
    CLOSING    the watcher             the client, to read the last answer     Timeouts.linger
    DETACHED   whoever detached it     -                                       -
"""

from __future__ import annotations

import enum

__all__ = ["ACCEPTED", "CLOSING", "DETACHED", "FRESH", "HANDLING", "HANDSHAKE", "IDLE", "READING", "RECEIVING",
           "STREAMING", "WRITING", "End", "Phase"]


class Phase(enum.Enum):
    """Where a connection is in its life; see the module."""

    ACCEPTED = "accepted"
    FRESH = "fresh"
    HANDSHAKE = "handshake"
    READING = "reading"
    HANDLING = "handling"
    RECEIVING = "receiving"
    STREAMING = "streaming"
    WRITING = "writing"
    IDLE = "idle"
    CLOSING = "closing"
    DETACHED = "detached"

    @property
    def in_progress(self) -> bool:
        """Somebody would lose something if the connection were cut now."""
        return self in _IN_PROGRESS


# The members by themselves, for what is done for every request: in Python 3.11 `Phase.IDLE` takes 0.1 us, `IDLE` 0.01.
ACCEPTED, FRESH, HANDSHAKE, READING, HANDLING, RECEIVING, STREAMING, WRITING, IDLE, CLOSING, DETACHED = Phase

_IN_PROGRESS = {READING, HANDLING, RECEIVING, STREAMING, WRITING, DETACHED}


class End(enum.Enum):
    """What is to be done with a connection that has been served."""

    CLOSE = "close"
    """Close it: the client has closed it too, or has nothing more to read."""
    LINGER = "linger"
    """Close it gently: the client may still be sending, and must be able to read its last answer."""
    DETACHED = "detached"
    """Nothing: it belongs to somebody else now."""
    PARK = "park"
    """It is not over: it waits for its client, or for its handler."""
