"""One request and its response: run the handler, read the body as it asks for it, send what it answers.

Whatever goes wrong, one of two things holds at the end: the client has a whole response and the next request begins
where this one ended; or the connection closes, and if it was in the middle of a response, by a reset, so that no client
takes half a response for a whole one (RFC 9112 section 8).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from acceptor import access
from acceptor.body import RequestBody
from acceptor.framing import CONTINUE, Plan, plan
from acceptor.messages import (
    Body,
    BodyError,
    ClientDisconnectedError,
    Detached,
    Headers,
    HTTPError,
    Request,
    Response,
    as_response,
)
from acceptor.phases import CLOSING, DETACHED, HANDLING, IDLE, RECEIVING, STREAMING, WRITING, End
from acceptor.pushing import Pushing
from acceptor.sending import Sending, close_body, finish_at_once, send_at_once
from acceptor.stream import MustWait, Patience
from acceptor.tls import TLSInfo, TLSSocket
from acceptor.violations import ProtocolError, printable

if TYPE_CHECKING:
    from acceptor.connection import Connection
    from acceptor.forwarded import Seen
    from acceptor.heads import RequestHead

__all__ = ["Exchange", "internal_error"]

logger = logging.getLogger("acceptor")

_DISCARD = 64 * 1024
"""Bytes of an unread body that are read and thrown away to keep a connection; beyond that closing it is cheaper."""
_DISCARD_PATIENCE = 0.1
"""Seconds to wait for such a body: the answer waits as long."""
_LEFT = 499
"""The status, in the access log, of a request whose client left before there was an answer: nginx's."""


_NO_RESPONSE = Response()
"""What a handler that has detached its connection answers."""


class Exchange(Request):
    """One request of `connection`, whose head has been read, and its response. To its handler it is the Request.

    Owned by the thread that serves the connection. One object and not two, which would be one more to make for every
    request, and would know each other.
    """

    # What hardly any request needs stands here until it is needed. (In Python 3.11 an object gives up its compact form,
    # and that takes 2 us, when it gets an attribute that the first thirty of its class have not got.)
    _seen: Seen | None = None
    """Who the client is, as a trusted proxy says: for the log, because a handler may change its request."""
    _patience: Patience | None = None
    """With the body, once it has been waited for."""
    _step: Callable[..., End | None] | None = None
    """What `run` does next, once it has begun. (A function, not a method: that would be a circle.)"""
    _planned: Plan | None = None
    _sending: Sending | None = None
    """If the response is sent in parts."""
    _response = _to_close = _NO_RESPONSE
    """What is answered; and what the handler has, whose body is to be closed, even if that failed."""
    _keep_alive = False
    _in_job = False
    """A job of an executor, in this process, is at it: see `acceptor.alone`."""
    _streamed = False
    """Its body is not bytes, or has been begun by the handler."""
    _pushing: Pushing | None = None
    """Once the handler has sent something itself."""
    _handling = True
    """The handler has not returned yet."""
    _detached = False
    _started = 0.0

    def __init__(self, connection: Connection, head: RequestHead) -> None:
        # Not by Request.__init__, which is for those who make one by hand.
        self._connection = connection
        self._head = head
        self.method, self.target, self.version, self.host = head.method, head.target, head.version, head.host
        self.peer = self.client = connection.address
        service = connection.service
        self.scheme = service.scheme
        self._raw_body: RequestBody | None = None
        self._body = None
        self._made: Headers | None = None
        """`headers`, once somebody has asked for them."""
        if service.forwarded is not None:
            self._seen = seen = service.forwarded.resolve(self.peer, self.scheme, head.headers)
            self.client, self.scheme, self.host = seen.client, seen.scheme, seen.host or self.host
            self._made = Headers(seen.headers)
        if head.has_body:
            self._raw_body = RequestBody(self._read_body, head.expects_continue, head.length)

    @property
    def patience(self) -> float:
        """Seconds that it may stay parked now."""
        return self._connection.stream.patience_left

    @property
    def at_work(self) -> bool:
        """It is parked, and a job of an executor has it, the socket too: see `acceptor.alone`."""
        return False

    def run(self) -> End | None:
        """Handle and answer; None if another request may follow, else how the connection is to end.

        OSError if the client is gone, TimeoutError, which is one, if it does not take the response. MustWait, if the
        stream does not wait: then call it again.
        """
        try:
            if self._step is None:
                end = self._begin()
            else:
                if self._connection.lane is not None:
                    self._connection.record("W" if self._connection.phase is not RECEIVING else "R")
                end = self._step(self)
        except MustWait:
            raise
        except OSError:
            self._count_lost()
            self._end()
            raise
        except BaseException:
            self._end()
            raise
        self._end()
        return end

    def give_up(self) -> bool:
        """It has been parked, and will not be run again. False: somebody else closes the connection's socket."""
        self._reset_if_started()
        self._close_body(self._to_close)
        self._count_lost()
        self._end()
        return True

    def _begin(self) -> End | None:
        connection = self._connection
        connection.enter(HANDLING)
        self._started = connection.since
        if connection.lane is not None:
            connection.record("H", (self.method, self.target))
        if connection.parks:
            connection.stream.waits = True  # while the handler has it
        response = self._handle()
        if self._detached:
            return End.DETACHED
        return self._respond(response)

    def _end(self) -> None:
        self._response = self._to_close = _NO_RESPONSE  # these may know this
        if self._streamed:
            self._sending = None
        if self._raw_body is not None:
            self._raw_body.end()
        if self._pushing is not None:
            self._pushing.end()

    # For the handler, on the thread that runs it: see Request.

    @property
    def headers(self) -> Headers:
        if self._made is None:
            self._made = Headers(self._head.headers)
        return self._made

    @headers.setter
    def headers(self, headers: Headers) -> None:
        self._made = headers

    @property
    def trailers(self) -> Headers:
        return Headers(self._connection.wire.trailers)

    @property
    def body_error(self) -> int | None:
        return self._raw_body.failed if self._raw_body is not None else None

    @property
    def tls(self) -> TLSInfo | None:
        sock = self._connection.stream.sock
        return sock.info if isinstance(sock, TLSSocket) else None

    @property
    def local(self) -> tuple[str, int]:
        return self._connection.local

    @property
    def multithread(self) -> bool:
        return self._connection.service.multithread

    @property
    def multiprocess(self) -> bool:
        return self._connection.service.multiprocess

    @property
    def detached(self) -> bool:
        return self._detached

    @property
    def stopping(self) -> bool:
        return self._connection.service.last_responses

    def _send_informational(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        pushing = self._may_push("send_informational()")
        if self._head.version != "1.0":
            pushing.send_informational(status, headers)

    def begin(self, response: Response) -> Callable[[bytes], None]:
        pushing = self._may_push("begin()")
        self._planned = plan(self._head, response, self._would_keep_alive(), pushed=True)
        return pushing.begin(response, self._planned)

    def detach(self) -> Detached:
        self._may_push("detach()")
        connection = self._connection
        self._detached = True
        if self._raw_body is not None:
            self._raw_body.end()
        connection.enter(DETACHED)
        sock = connection.stream.sock
        connection.stream.block_without_ticks()
        return Detached(sock, connection.wire.take_rest())

    def _may_push(self, what: str) -> Pushing:
        """RuntimeError if it is too late for `what`."""
        if self._detached or not self._handling or (self._pushing is not None and self._pushing.response is not None):
            raise RuntimeError(f"call {what} in the handler, before its response has begun and before the connection "
                               "is detached; now it is too late")
        if self._pushing is None:
            self._pushing = Pushing(self._connection)
        return self._pushing

    # The request.

    def _read_body(self, expects_continue: bool, until: float | None) -> bytes:
        """The next piece of the body, b"" at its end; if `until` is given, it must have come by then."""
        connection = self._connection
        wire, stream = connection.wire, connection.stream
        try:
            if expects_continue and not (self._planned and self._planned.started):
                stream.send(CONTINUE)
            while (data := wire.next_body()) is None:
                received = self._receive() if until is None else stream.receive_until(until)
                if not received:
                    raise ClientDisconnectedError(f"{connection.peer} left before the end of its request's body")
                wire.receive(received)
        except ProtocolError as error:
            connection.service.compliance.log_refusal(connection.peer, error)
            raise BodyError(error.status) from None
        except TimeoutError:
            raise BodyError(408) from None
        except ClientDisconnectedError:
            raise
        except OSError as error:  # so that a handler's own connection errors can be told from its client's
            raise ClientDisconnectedError(f"{connection.peer}: {error}") from None
        return data

    def _receive(self) -> bytes:
        connection = self._connection
        if self._patience is None:
            self._patience = Patience(connection.service.timeouts.body, connection.service)
        phase, stream = connection.phase, connection.stream
        connection.enter(RECEIVING)
        # A response's body may read this one, on a thread that does not wait for whoever takes the response.
        waits, stream.waits = stream.waits, True
        if connection.lane is not None:
            connection.record("R")
        try:
            return stream.receive_patiently(self._patience)
        finally:
            stream.waits = waits
            connection.enter(phase)
            if connection.lane is not None:
                connection.record("H" if phase is HANDLING else "W")

    def _handle(self) -> Response:
        """Run the handler; what it raises becomes a response. OSError if the client is gone."""
        connection = self._connection
        handler = connection.service.handler
        answer: object = None
        try:
            try:
                answer = handler(self)
                if self._detached:
                    self._close_body(answer)
                    return _NO_RESPONSE
                if self._pushing is not None:
                    self._pushing.check_returned(answer)
                return answer if type(answer) is Response else as_response(answer, handler)
            except HTTPError as error:
                if self._detached:  # there is nobody to be answered
                    raise
                return error.response
        except ClientDisconnectedError:
            if self._pushing is not None:
                self._close_body(self._pushing.response)
            raise
        except BaseException:  # SystemExit too: a handler ends its request, never the thread
            logger.exception("%s: the handler failed", self)
            self._close_body(answer)
            if self._detached:
                connection.stream.sock.close()  # it may still be open, and nobody else will
            return internal_error()
        finally:
            self._handling = False
            if self._pushing is not None:
                self._pushing.over = True

    # The response.

    def _respond(self, response: Response) -> End | None:
        """Send the response, and close its body."""
        if self._connection.lane is not None:
            self._connection.record("W")
        if self._pushing is not None:
            self._end_pushing(self._pushing, response)
        self._response = self._to_close = response
        if self._planned is not None or not isinstance(response.body, bytes):
            self._streamed = True
        self._keep_alive = self._would_keep_alive() and (self._streamed or self._discard_body())
        return self._send()

    def _send(self) -> End | None:
        """Send the response, or after MustWait what is left of it."""
        try:
            try:
                self._transmit()
            except (MustWait, OSError):
                raise
            except BaseException as error:
                self._replace_response(error)
                self._transmit()
        except MustWait:
            self._step = Exchange._send
            raise
        except BaseException:
            self._reset_if_started()
            self._close_body(self._to_close)
            raise
        return self._sent()

    def _transmit(self) -> None:
        if self._sending is not None:
            return self._sending.go()
        connection, body = self._connection, self._response.body
        stream = connection.stream
        if (planned := self._planned) is None:
            stream.begin_response()
            self._planned = planned = plan(self._head, self._response, self._keep_alive)
        elif stream.has_unsent:
            return finish_at_once(stream, planned)
        connection.phase = WRITING
        made = self._streamed and not isinstance(body, bytes) and not hasattr(body, "read")
        if connection.parks:
            # Does this thread wait for the client, or is the connection parked? An iterator may be bound to its thread.
            stream.waits = made if not connection.alone else self._in_job
        if not self._streamed and send_at_once(stream, planned, body):  # type: ignore[arg-type]  # it is bytes then
            return None
        self._sending = Sending(stream, planned, self._watched(body) if made else body)
        return self._sending.go()

    def _sent(self) -> End | None:
        """The response has been sent whole; what now?"""
        connection, planned = self._connection, self._planned
        assert planned is not None
        connection.phase = IDLE if planned.keep_alive else CLOSING  # whatever follows, nothing is lost
        if self._streamed:
            self._close_body(self._to_close)
        counter = connection.service.counter  # once: it may be taken away meanwhile
        if counter is not None:
            seconds = time.monotonic() - self._started
            if planned.status == 200:
                counter.ok(seconds)
            else:
                counter.other((seconds, planned.status))
        if connection.service.log_access:
            self._log()
        if planned.keep_alive and (not self._streamed or self._discard_body()):
            return None
        # The client may be sending what nobody will read?
        body = self._raw_body
        return End.LINGER if self._head.keep_alive or (body is not None and not body.ended) else End.CLOSE

    def _end_pushing(self, pushing: Pushing, response: Response) -> None:
        """The handler has sent something itself. If it has begun a response and failed since, or has not heeded that
        something could not be sent, then ConnectionAbortedError, and the connection is cut; but as long as nothing of
        that response has been sent, there is `response` instead."""
        begun = pushing.response
        if response is begun and not pushing.broken:
            return
        if begun is not None and begun is not response:
            self._close_body(begun)
        if pushing.broken or (self._planned is not None and self._planned.started):
            self._close_body(response)
            self._connection.stream.reset_when_closed()
            raise ConnectionAbortedError("the handler failed after it had begun its response")
        self._planned = None

    def _would_keep_alive(self) -> bool:
        service = self._connection.service
        return (self._head.keep_alive and not service.last_responses
                and self._connection.served != service.limits.requests_per_connection
                and not (self._raw_body is not None and self._raw_body.is_much(_DISCARD)))

    def _watched(self, body: Body) -> Iterator[bytes]:
        """The pieces of `body`; while one is being made, the connection is STREAMING. It is the iterator that is slow
        then, which may be as it should: events are sent when something happens."""
        connection = self._connection
        connection.phase = STREAMING
        for piece in body:
            connection.phase = WRITING
            yield piece  # type: ignore[misc]  # `sending` checks that they are bytes
            connection.phase = STREAMING
        connection.phase = WRITING

    def _replace_response(self, error: BaseException) -> None:
        """The response failed: answer that. OSError, the connection cut, if some of it has been sent."""
        cause = error.__cause__ or error
        started = self._planned is not None and self._planned.started
        if isinstance(cause, BodyError) or (isinstance(cause, HTTPError) and not started):
            response = cause.response
        else:
            logger.error("%s: the response failed: %s", self, error, exc_info=cause)
            response = internal_error()
        if started:
            self._reset_if_started()
            raise ConnectionAbortedError("the response failed halfway")
        self._keep_alive = self._keep_alive and self._planned is None  # it may have read half a request
        self._planned = self._sending = None
        self._response = response

    def _reset_if_started(self) -> None:
        """The response stops where it is, for whatever reason; if that is its end, the client has all of it."""
        if self._planned is not None and self._planned.started and not self._planned.whole:
            self._connection.stream.reset_when_closed()

    def _close_body(self, answer: object) -> None:
        """Close the body of what the handler has answered, if that is a response."""
        if not isinstance(answer, Response):
            return
        try:
            close_body(answer.body)
        except BaseException:
            logger.exception("%s: the body's close() failed", self)

    def _discard_body(self) -> bool:
        """Read what the handler left of the body, if that is little. True if the next request can be read then.

        Before a response of bytes, so that the response can say whether the connection closes; after a streamed one,
        whose iterator may still be reading it.
        """
        return self._raw_body is None or self._raw_body.discard(_DISCARD, _DISCARD_PATIENCE)

    def _count_lost(self) -> None:
        """The client has left, or has been given up."""
        counter = self._connection.service.counter
        if counter is not None:
            counter.other((time.monotonic() - self._started, self._planned.status if self._planned else _LEFT))
        if self._connection.service.log_access:
            self._log(complete=False)

    def _log(self, complete: bool = True) -> None:
        """A line of the access log."""
        connection, head, planned = self._connection, self._head, self._planned
        seconds, seen = time.monotonic() - self._started, self._seen
        access.log(access.AccessRecord(
            client=(connection.address if seen is None else seen.client)[0], peer=connection.peer,
            time=time.time() - seconds, seconds=seconds,
            method=head.method, target=head.target, version=head.version, headers=head.headers,
            status=planned.status if planned else _LEFT, sent=planned.sent if planned else 0,
            scheme=connection.service.scheme if seen is None else seen.scheme, host=head.host, complete=complete,
        ))

    def __str__(self) -> str:
        return f"{self._head.method} {printable(self._head.target)} from {self._connection.peer}"


def internal_error() -> Response:
    return Response("Internal Server Error\n", 500)
