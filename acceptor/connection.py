"""A connection's life: read a request, run the handler, write the response, again, until one of the two has enough.

    ACCEPTED   no thread has it yet                     (in a taskmaster's queue)
    FRESH      a thread waits for its first byte
    READING    a request is coming
    HANDLING   the handler runs
    WRITING    the response goes out
    IDLE       answered; a thread waits for the next request
    CLOSING    no more is served; what the client still sends is read so that it can read our answer

A connection is served by one thread from FRESH to its end. Other threads may do two things only: read `phase`, and
call `hang_up` or `abort`, for which the acceptor's registry holds the lock that keeps the socket from being closed
under them.
"""

from __future__ import annotations

import enum
import logging
import select
import socket
import struct
import time
from collections.abc import Callable

from acceptor.body import RequestBody
from acceptor.framing import CONTINUE, Plan, error_bytes, plan
from acceptor.messages import (
    Body,
    BodyError,
    ClientDisconnectedError,
    Handler,
    Headers,
    HTTPError,
    Request,
    Response,
    as_response,
    phrase,
)
from acceptor.sending import close_body, send
from acceptor.wire import H11Wire, ProtocolError, RequestHead

__all__ = ["Connection", "Phase"]

logger = logging.getLogger("acceptor")
access = logging.getLogger("acceptor.access")

_RECEIVE = 64 * 1024
"""Bytes read at a time, at most."""
_DISCARD = 64 * 1024
"""Bytes of an unread body that are read and thrown away to keep a connection; beyond that closing it is cheaper."""
_DISCARD_PATIENCE = 0.1
"""Seconds to wait for such a body: the answer waits as long."""
_LINGER = 1.0
"""Seconds that what a client still sends is read after the last answer: RFC 9112 section 9.6. Without, the close would
be a reset, and a reset throws away the answer on its way."""


class Phase(enum.Enum):
    """Where a connection is in its life; see the module."""

    ACCEPTED = "accepted"
    FRESH = "fresh"
    READING = "reading"
    HANDLING = "handling"
    WRITING = "writing"
    IDLE = "idle"
    CLOSING = "closing"


class Connection:
    """One accepted socket and what is served over it. Made by `Acceptor.accept`, on any thread.

    sock: blocking, with SO_RCVTIMEO and SO_SNDTIMEO as its only timeouts, so that a read or write is one system call.
    stopping: whether the server is; then no further request is served.
    """

    __slots__ = ("_body", "_handler", "_log_access", "_planned", "_sock", "_stopping", "_wire", "address", "phase")

    def __init__(self, sock: socket.socket, address: tuple[str, int], handler: Handler,
                 stopping: Callable[[], bool], log_access: bool) -> None:
        # Fixed.
        self.address = address
        self._sock = sock
        self._handler = handler
        self._stopping = stopping
        self._log_access = log_access
        # Written by the serving thread; `phase` is read by any.
        self.phase = Phase.ACCEPTED
        self._wire = H11Wire()
        self._body: RequestBody | None = None
        self._planned: Plan | None = None

    @property
    def peer(self) -> str:
        return f"{self.address[0]}:{self.address[1]}"

    def __str__(self) -> str:
        return f"{self.peer} ({self.phase.value})"

    # For the thread that serves.

    def serve(self) -> None:
        """Serve every request; return when the connection is over, to be closed. Nothing a client does raises."""
        try:
            self.phase = Phase.FRESH
            while (not self._stopping() or self._has_input(0)) and self._serve_request():
                # This order, so that a connection that becomes idle while the server stops is not missed:
                #   1. here: phase = IDLE             1. stop: the flag is set
                #   2. here: is the flag set? leave   2. stop: is the phase IDLE? hang up
                # One of the two sees the other. (This code assumes that a store is seen before a later load, as it is
                # with a GIL and, through the locks in attribute access, without. Were it not, such a connection would
                # be cut at the deadline: late, but neither lost nor left.)
                self.phase = Phase.IDLE
                if self._stopping():
                    if self._has_input(0):
                        self._linger()
                    return
            if self.phase in (Phase.FRESH, Phase.READING) and self._stopping():  # a request may be on its way
                self.answer_and_linger(503, "The server is stopping.", b"retry-after: 1\r\n")
        except BlockingIOError:  # SO_SNDTIMEO: the client does not read
            logger.info("%s does not read its response; closing", self.peer)
            self._reset_when_closed()
        except OSError as error:  # a client may leave at any time
            logger.debug("%s: %s", self.peer, error)

    def answer_and_linger(self, status: int, text: str, headers: bytes = b"") -> None:
        """Send a last response, and let the client read it: up to `_LINGER` seconds. OSError if it is gone."""
        self.phase = Phase.CLOSING
        self._sock.sendall(error_bytes(status, text, headers))
        self._linger()

    # For any thread, as long as the connection is in the acceptor's registry and the registry's lock is held.

    def hang_up(self) -> None:
        """End the wait for a request: the serving thread reads an end of input. An answer can still be written."""
        self._shutdown(socket.SHUT_RD)

    def abort(self) -> None:
        """End everything: whatever the serving thread waits for on the socket, it gets an end or an error."""
        self._shutdown(socket.SHUT_RDWR)

    def _shutdown(self, how: int) -> None:
        try:
            self._sock.shutdown(how)
        except OSError:  # the client has disconnected already
            pass

    # For whoever has taken it out of the registry.

    def close(self) -> None:
        self._sock.close()

    def start_refusal(self, text: str) -> bool:
        """Send 503 and half-close, without blocking; False if the client is gone. Then wait for input, and `drain`."""
        self.phase = Phase.CLOSING
        try:
            self._sock.setblocking(False)
            self._sock.send(error_bytes(503, text, b"retry-after: 1\r\n"))  # fits: nothing has been sent yet
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            return False
        return True

    def drain(self) -> bool:
        """Read what has come, without blocking; False once the client has closed its side, or is gone."""
        try:
            return bool(self._sock.recv(_RECEIVE))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def fileno(self) -> int:
        return self._sock.fileno()

    # One request.

    def _serve_request(self) -> bool:
        """Read, handle and answer one request. True if another may follow."""
        try:
            head = self._read_head()
        except ProtocolError as error:
            logger.info("%s: %d: %s", self.peer, error.status, error)
            self.answer_and_linger(error.status, phrase(error.status))
            return False
        if head is None:
            return False
        body = RequestBody(self._read_body, head.expects_continue, head.length) if head.has_body else None
        self._body, self._planned = body, None
        request = Request(head.method, head.target, head.version, Headers(head.headers), peer=self.address, body=body)
        self.phase = Phase.HANDLING
        try:
            return self._respond(head, self._handle(request))
        finally:
            if body is not None:
                body.over = True
                self._body = None

    def _read_head(self) -> RequestHead | None:
        """The next request's head; None if the client has none to send."""
        wire = self._wire
        some = self.phase is Phase.IDLE and wire.next_request()
        while True:
            if some:
                self.phase = Phase.READING
                if (head := wire.next_head()) is not None:
                    return head
            try:
                data = self._sock.recv(_RECEIVE)
            except BlockingIOError:  # SO_RCVTIMEO
                if self.phase is Phase.READING:
                    raise ProtocolError(408, "the head of the request came too slowly") from None
                return None
            if not data:
                return None
            wire.receive(data)
            some = True

    def _read_body(self, expects_continue: bool, patience: float | None) -> bytes:
        """The next piece of the body, b"" at its end; if `patience` is given, it must come within so many seconds."""
        try:
            if expects_continue and not (self._planned and self._planned.started):
                self._sock.sendall(CONTINUE)
            while (data := self._wire.next_body()) is None:
                if patience is not None and not self._has_input(patience):
                    raise BlockingIOError
                received = self._sock.recv(_RECEIVE)
                if not received:
                    if self._stopping():  # it may be our own doing: hang_up, just when the request had begun to come
                        raise BodyError(503)
                    raise ClientDisconnectedError(f"{self.peer} left before the end of its request's body")
                self._wire.receive(received)
        except ProtocolError as error:
            logger.info("%s: %d: %s", self.peer, error.status, error)
            raise BodyError(error.status) from None
        except BlockingIOError:
            raise BodyError(408) from None
        except ClientDisconnectedError:
            raise
        except OSError as error:  # so that a handler's own connection errors can be told from its client's
            raise ClientDisconnectedError(f"{self.peer}: {error}") from None
        return data

    def _handle(self, request: Request) -> Response:
        """Run the handler; what it raises becomes a response. OSError if the client is gone."""
        try:
            try:
                return as_response(self._handler(request), self._handler)
            except HTTPError as error:
                return error.response
        except ClientDisconnectedError:
            raise
        except BaseException:  # SystemExit too: a handler ends its request, never the thread
            logger.exception("%s %s from %s: the handler failed", request.method, request.target, self.peer)
            return _internal_error()

    def _respond(self, head: RequestHead, response: Response) -> bool:
        """Send the response, and close its body. True if the connection can take another request."""
        body = response.body
        streamed = not isinstance(body, bytes)
        keep_alive = head.keep_alive and not self._stopping() and (streamed or self._discard_body())
        try:
            self._planned = planned = plan(head, response, keep_alive)
            self.phase = Phase.WRITING
            sent = send(self._sock, planned, body)
        except OSError:
            raise
        except Exception as error:
            response = self._answer_instead(head, error)
            planned = plan(head, response, keep_alive and self._planned is None)  # it may have read half a request
            sent = send(self._sock, planned, response.body)
        finally:
            self._close_body(head, body)
        if self._log_access:
            access.info('%s - - "%s %s HTTP/%s" %d %d', self.address[0], head.method, head.target, head.version,
                        response.status, sent)
        if planned.keep_alive and (not streamed or self._discard_body()):
            return True
        if (self._body is not None and not self._body.ended) or (head.keep_alive and self._has_input(0)):
            self._linger()  # the client is sending what nobody will read, and must not get a reset for it
        return False

    def _answer_instead(self, head: RequestHead, error: Exception) -> Response:
        """What to answer where the response failed; OSError, the connection cut, if some of it has been sent."""
        cause = error.__cause__ or error
        started = self._planned is not None and self._planned.started
        if isinstance(cause, BodyError) or (isinstance(cause, HTTPError) and not started):
            response = cause.response
        else:
            logger.error("%s %s from %s: the response failed: %s", head.method, head.target, self.peer, error,
                         exc_info=cause)
            response = _internal_error()
        if started:
            self._reset_when_closed()
            raise ConnectionAbortedError(f"{self.peer}: its response failed halfway")
        return response

    def _close_body(self, head: RequestHead, body: Body) -> None:
        try:
            close_body(body)
        except BaseException:
            logger.exception("%s %s from %s: the body's close() failed", head.method, head.target, self.peer)

    def _discard_body(self) -> bool:
        """Read what the handler left of the body, if that is little. True if the next request can be read then.

        Before a response of bytes, so that the response can say whether the connection closes; after a streamed one,
        whose iterator may still be reading it.
        """
        return self._body is None or self._body.discard(_DISCARD, _DISCARD_PATIENCE)

    # Ending.

    def _has_input(self, patience: float) -> bool:
        """Whether there is something to be read (the end of input counts), now or within `patience` seconds."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(patience * 1000))

    def _reset_when_closed(self) -> None:
        """To a client that reads up to the end of the connection, any other end would be that of the body."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _linger(self) -> None:
        self.phase = Phase.CLOSING
        self._sock.shutdown(socket.SHUT_WR)
        end = time.monotonic() + _LINGER
        while (left := end - time.monotonic()) > 0 and self._has_input(left) and self.drain():
            pass


def _internal_error() -> Response:
    return Response("Internal Server Error\n", 500)
