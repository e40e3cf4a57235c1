"""What all connections of one acceptor have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from acceptor.forwarded import ForwardedHeaders
from acceptor.messages import Handler
from acceptor.networks import Networks
from acceptor.settings import Limits, Timeouts
from acceptor.tls import TLS
from acceptor.violations import Compliance
from acceptor.wire import H11Wire, Wire

if TYPE_CHECKING:
    from acceptor.connection import Connection
    from acceptor.recording import Recording
    from acceptor.urgent import Urgent

__all__ = ["Counter", "Service"]


class Counter(Protocol):
    """Of whoever counts responses: one of these two is called for each, by the thread that has sent it.

    For the `append` of a deque, which is one operation, with a GIL or without. (Two, so that there is no tuple to be
    made for most of them.)
    """

    @property
    def ok(self) -> Callable[[float], object]:
        """Of a 200: the seconds since its request's head was read."""

    @property
    def other(self) -> Callable[[tuple[float, int]], object]:
        """Of any other: the same, and its status; 499: the client left before there was one."""


@dataclass(slots=True)
class Service:
    """How connections are served. Made by the acceptor; read by the threads that serve."""

    # Fixed at construction.
    handler: Handler
    limits: Limits = field(default_factory=Limits)
    timeouts: Timeouts = field(default_factory=Timeouts)
    compliance: Compliance = field(default_factory=Compliance)
    tls: TLS | None = None
    proxy_protocol: Networks = field(default_factory=lambda: Networks([]))
    """Peers that begin with a PROXY header."""
    forwarded: ForwardedHeaders | None = None
    log_access: bool = False
    on_request: Callable[[], object] | None = None
    """Called for every request whose head has been read, on the thread that serves it: for whoever counts."""
    multithread: bool = True
    """The handler runs in several threads at once."""
    multiprocess: bool = False
    """Other processes serve the same addresses."""
    urgent: Urgent | None = None
    """Answers what no thread serves: see acceptor.urgent."""
    jobs: set[int] = field(default_factory=set)
    """The threads of executors that run a handler, by ident. Each of them adds and removes itself."""
    counter: Counter | None = None
    """None: nobody counts. Set by whoever does, at any time."""
    recording: Recording | None = None
    """While somebody records."""
    make_wire: Callable[[Limits, Compliance], Wire] = H11Wire
    """What parses the requests of one connection."""
    scheme: str = field(init=False)
    """What clients use, as far as the connection says."""
    # Set before there is a connection.
    wake: Callable[[Connection], None] = lambda connection: None
    """Have a parked connection come back. Any thread."""
    # Written by the acceptor and its watcher; read by any thread, which may see it late by a tick.
    leaving: bool = False
    """The server stops soon: what is new is still accepted, but every response is the last on its connection."""
    stopping: bool = False
    """Requests in progress are answered, and are the last."""
    cut: bool = False
    """Nothing is waited for any more: whoever still serves a connection gives it up at the next tick."""
    pressed: bool = False
    """Others wait for a thread: see Timeouts.pressed."""

    def __post_init__(self) -> None:
        self.scheme = "http" if self.tls is None else "https"

    @property
    def last_responses(self) -> bool:
        """No connection is kept for another request."""
        return self.leaving or self.stopping

    def check_not_cut(self) -> None:
        """ConnectionAbortedError once the server has stopped waiting for anybody."""
        if self.cut:
            raise ConnectionAbortedError("the server has stopped, past its deadline")

    def patience(self, seconds: float) -> float:
        """Seconds that a client may take now, if it usually may take `seconds`."""
        pressed = self.timeouts.pressed
        return min(seconds, pressed) if self.pressed and pressed is not None else seconds
