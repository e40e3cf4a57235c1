"""What HTTP forbids and clients send all the same: each has a name, by which it is allowed, counted and logged.

Two servers in a row that read the same bytes in two ways are how requests are smuggled, so everything here is refused
by default, and the connection closed, since its framing is in doubt. Whoever must serve a client that does one of these
things, and knows that nobody in front reads it differently, allows that one:

    Acceptor(app, taskmaster=..., allow=[Violation.OBS_FOLD])

What has no sensible reading at all (no version, two lengths that differ, a space before a colon) has no name here: it
is always refused.
"""

from __future__ import annotations

import enum
import logging
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping

__all__ = ["Compliance", "ProtocolError", "Violation"]

logger = logging.getLogger("acceptor")

_BURST = 5.0
"""Seconds without a refusal of one kind after which the next is logged again."""
_LONGEST = 300
"""Characters of a log line that a client has a say in."""


class Violation(enum.Enum):
    """One rule that is broken: its section, the status it is answered with, and what was done."""

    BARE_LF = "9112 2.2", 400, "a line of the head ends in LF without CR"
    """Allowed: LF ends a line. (In the lines of a chunked body never.)"""
    OBS_FOLD = "9112 5.2", 400, "a field is continued on a line of its own (obs-fold)"
    """Allowed: the fold reads as a space."""
    CONTROL_BYTE = "9110 5.5", 400, "a field's value holds a control byte"
    """Allowed: it is handed to the handler. (NUL, CR, vertical tab and form feed never.)"""
    LENGTH_AND_CHUNKED = "9112 6.1", 400, "Content-Length beside Transfer-Encoding"
    """Allowed: the chunks count, the length is removed, and the connection closes after the answer."""
    CHUNKED_IN_1_0 = "9112 6.1", 400, "Transfer-Encoding in HTTP/1.0"
    """Allowed: the chunks count, and the connection closes after the answer."""
    REPEATED_LENGTH = "9110 8.6", 400, "Content-Length is there more than once, with the same number"
    """Allowed: the number counts."""
    INVALID_HOST = "9112 3.2", 400, "Host is not a name or address, with or without a port"
    """Allowed: it is handed to the handler."""
    MISMATCHED_HOST = "9112 3.2.2", 400, "the target's authority is another one than Host"
    """Allowed: the target's counts, as RFC 9112 demands."""
    INVALID_TARGET = "9112 3.2", 400, "the target has none of the forms that its method may have"
    """Allowed: it is handed to the handler."""
    UNUSUAL_METHOD = "9110 9.1", 501, "the method is not written in capitals"
    """Allowed: it is handed to the handler. (Letters, digits, "-" and "_" are usual.)"""
    UNKNOWN_EXPECTATION = "9110 10.1.1", 417, "something else than 100-continue is expected"
    """Allowed: it is ignored."""
    CHUNK_SPACE = "9112 7.1", 400, "white space behind the size of a chunk"
    """Allowed: it is ignored."""
    FORBIDDEN_TRAILER = "9110 6.5.1", 400, "a trailer field that decides about framing, routing or access"
    """Allowed: that field is ignored."""

    def __init__(self, section: str, status: int, text: str) -> None:
        self.section = section
        """Of which RFC, and where: "9112 6.1"."""
        self.status = status
        self.text = text

    def __str__(self) -> str:
        return f"{self.text} (Violation.{self.name}, RFC {self.section})"


class ProtocolError(Exception):
    """What came is not HTTP, or is HTTP that is not spoken here. Whatever follows it on the connection is in doubt."""

    def __init__(self, status: int, text: str, violation: Violation | None = None) -> None:
        super().__init__(text)
        self.status = status
        """The status to answer with, from 400 to 599."""
        self.violation = violation
        """The rule that was broken, if it is one that could be allowed."""


class Compliance:
    """Which violations one acceptor allows, and what it has seen. Shared by all its connections: any thread.

    allow: violations, or their names. TypeError or ValueError, with the names there are, for anything else.
    """

    def __init__(self, allow: Iterable[Violation | str] = ()) -> None:
        if isinstance(allow, (str, Violation)) or not isinstance(allow, Iterable):
            raise TypeError(f"allow={allow!r}: pass a list, such as allow=[Violation.OBS_FOLD]")
        self.allowed = frozenset(_violation(each) for each in allow)
        # Guarded by self._lock.
        self._lock = threading.Lock()
        self._counts: Counter[Violation] = Counter()
        self._logged: dict[object, tuple[float, int]] = {}
        """When each kind of refusal was last seen, and how many have not been logged since it was."""

    @property
    def counts(self) -> Mapping[Violation, int]:
        """How often each violation has been seen, allowed or not; those never seen are left out. A copy."""
        with self._lock:
            return dict(self._counts)

    def saw(self, violation: Violation) -> None:
        """Count `violation`; ProtocolError unless it is allowed."""
        with self._lock:
            self._count_locked(violation)
        if violation not in self.allowed:
            raise ProtocolError(violation.status, str(violation), violation)

    def _count_locked(self, violation: Violation) -> None:
        self._counts[violation] += 1

    def log_refusal(self, peer: str, error: ProtocolError) -> None:
        """Log why `peer` is refused, once per burst of the same reason: a scanner must not fill the disk."""
        kind = error.violation or error.status
        now = time.monotonic()
        with self._lock:
            last, silent = self._logged.get(kind, (now - _BURST, 0))
            burst = now - last < _BURST
            self._logged[kind] = now, silent + 1 if burst else 0
        if not burst:
            more = f" ({silent} more like it were not logged)" if silent else ""
            logger.warning("%s: %d: %s%s", printable(peer), error.status, printable(str(error)), more)


def printable(text: str) -> str:
    """`text` for a log line: no control byte, nothing beyond ASCII, and not too long."""
    if not (text.isascii() and text.isprintable()):
        text = text.encode("unicode_escape").decode("ascii")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text)} characters)"


def _violation(value: object) -> Violation:
    if isinstance(value, Violation):
        return value
    if not isinstance(value, str):
        raise TypeError(f"allow: {value!r} ({type(value).__name__}) is no violation; pass Violation.OBS_FOLD, for "
                        "example, or its name")
    try:
        return Violation[value.upper().replace("-", "_")]
    except KeyError:
        raise ValueError(f"allow: there is no violation {value!r}; there are {', '.join(Violation.__members__)}"
                         ) from None
