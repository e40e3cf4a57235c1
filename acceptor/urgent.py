"""What must be answered although every thread is busy: load balancers' health checks, above all.

`Acceptor(urgent=...)` is a function that is asked about a request for which there is no thread: on the acceptor's own
thread, the watcher, so it must not block. What it answers is sent at once; None means that the request is nothing
special, and waits, or is refused, as if there were no such function.

    connection                                        looked at
    refused, since the server is full                 as soon as it has sent something; only then does it get its 503
    waiting for a thread, after it was accepted       at every tick (`acceptor.settings.TICK`)

Only what the client has sent by then is looked at, and it is left where it is. Not over TLS, nor behind a PROXY header:
for what they hide, a thread would be needed. And not what waits in the kernel's backlog, which nobody has accepted:
with `max_accept_count=None` that is where everything waits, so give the taskmaster a number.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from acceptor.framing import plan
from acceptor.messages import Headers, Request, Response
from acceptor.violations import Compliance, ProtocolError

if TYPE_CHECKING:
    from acceptor.connection import Connection
    from acceptor.heads import RequestHead

__all__ = ["Answer", "Urgent", "peek", "urgent_answer"]

logger = logging.getLogger("acceptor")

Urgent: TypeAlias = "Callable[[Request], Response | None]"

_MOST = 8192
"""Bytes that are looked at: a request line and the headers of a health check fit in."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is to be sent."""

    status: int
    data: bytes
    length: int
    """Bytes of the body."""
    head: RequestHead | None = None
    """Of the request, if it was read."""


def peek(connection: Connection) -> bytes | None:
    """What `connection` has sent, which is left where it is; b"" if it cannot be urgent, None if nothing has come.

    Never blocks. While nobody can close it."""
    service = connection.service
    if service.tls is not None or connection.address[0] in service.proxy_protocol or connection.wire.has_rest:
        return b""
    try:
        return connection.stream.raw.recv(_MOST, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def urgent_answer(connection: Connection, data: bytes, urgent: Urgent) -> Answer | None:
    """What `urgent` answers to the request that `data`, from `peek`, begins with; None if it is not urgent."""
    service = connection.service
    # Whoever serves it counts what is wrong with it; and this may be looked at again and again.
    wire = service.make_wire(service.limits, Compliance(service.compliance.allowed))
    try:
        wire.receive(data)
        head = wire.next_head()
    except ProtocolError:  # whoever serves it will say what is wrong
        return None
    if head is None or head.has_body:
        return None
    request = _UrgentRequest(head.method, head.target, head.version, Headers(head.headers), connection.address,
                             host=head.host)
    request.stopping = service.last_responses
    try:
        response = urgent(request)
        if response is None:
            return None
        if not isinstance(response, Response) or not isinstance(response.body, bytes):
            raise TypeError(f"it answered {response!r:.80}; return an acceptor.Response of str or bytes, or None")
        planned = plan(head, response, False)
    except Exception:
        logger.exception("urgent(%s) failed; the request waits as others do", request)
        return None
    body = response.body if head.method != "HEAD" else b""
    return Answer(response.status, planned.head + body, len(body), head)


class _UrgentRequest(Request):
    """What is not known of its connection, it has not got."""

    stopping = False
    multiprocess = True
    _no_connection = "a function that answers what is urgent returns a response, and does nothing else"

    def _send_informational(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        raise RuntimeError(self._no_connection)
