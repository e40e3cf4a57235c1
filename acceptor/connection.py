"""A connection's life: open it, read a request's head, have it answered, again, until one of the two has enough.

It is served by one thread from FRESH to its end (`acceptor.phases` has the table), and that thread keeps its deadlines
(`acceptor.stream`). Other threads may read `phase`, `since` and `head`. Once it has been served, or if it is refused,
the watcher has it.
"""

from __future__ import annotations

import logging
import select
import socket
import ssl
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TYPE_CHECKING

from acceptor import access
from acceptor.alone import LoneExchange
from acceptor.exchange import Exchange
from acceptor.fields import phrase
from acceptor.framing import error_bytes
from acceptor.heads import RequestHead
from acceptor.listen_socket import plain_address
from acceptor.phases import (
    ACCEPTED,
    CLOSING,
    DETACHED,
    FRESH,
    HANDLING,
    HANDSHAKE,
    IDLE,
    READING,
    STREAMING,
    End,
    Phase,
)
from acceptor.proxy_protocol import ProxyHeaderError, parse
from acceptor.service import Service
from acceptor.settings import TICK
from acceptor.stream import MustWait, Stream
from acceptor.tls import PlainHTTPError
from acceptor.urgent import Answer
from acceptor.violations import ProtocolError, printable
from acceptor.wire import Wire

if TYPE_CHECKING:
    from acceptor.recording import Lane

__all__ = ["STOPPING", "Connection"]

logger = logging.getLogger("acceptor")

STOPPING = "The server is stopping."
_RETRY = b"retry-after: 1\r\n"
_NEVER = float("inf")
_POLLIN, _POLLOUT = select.POLLIN, select.POLLOUT
_PARK = End.PARK
"""By itself: see `acceptor.phases`."""


class Connection:
    """One accepted socket and what is served over it. Made by `Acceptor.accept`, on any thread."""

    __slots__ = ("_exchange", "_last", "_local", "_received", "address", "alarm", "alone", "comebacks", "deadline",
                 "head", "lane", "number", "offload", "owner", "parks", "phase", "resumed", "served", "service",
                 "since", "stream", "watched", "wire")

    def __init__(self, sock: socket.socket, address: tuple[str, int], service: Service) -> None:
        # Fixed.
        self.service = service
        # Written by the registry, under its lock.
        self.owner = 0
        """Who has it: see `acceptor.registry`."""
        self.comebacks = 0
        """How often it came back from being parked."""
        self.number = 0
        """Which it is: 1 for the first of its server."""
        self.alarm = _NEVER
        """The second in which the tick begins in which the registry looks whether its time is up."""
        # Written by `acceptor.recording`.
        self.lane: Lane | None = None
        """Where the thread that has it writes its steps; None: nobody records."""
        # Written by the thread that parks it.
        self.watched = False
        """The listener's epoll set has it."""
        # Written by the serving thread; `phase`, `since`, `address` and `head` are read by any.
        self.address = address
        """The client's, as far as it is known: the peer's, or what the PROXY header says."""
        self.phase = ACCEPTED
        self.since = time.monotonic()
        """When the phase began; while WRITING or STREAMING, HANDLING."""
        self.head: RequestHead | None = None
        """The current or the last request's."""
        self.served = 0
        """Requests read."""
        self._local: tuple[str, int] | None = None
        self._exchange: Exchange | None = None
        """The one that is not over, while it is parked."""
        self._received: bytes | None = None
        """Of the PROXY header, until it is whole."""
        self._last: End | None = None
        """How it is to end; all that is left is to tell the client."""
        self.parks = self.alone = False
        self.offload: Executor | None = None
        """See `serve`."""
        self.deadline = 0.0
        """While it is parked: when it is to come back, whatever its client does (time.monotonic)."""
        self.resumed = False
        """It has been parked."""
        self.stream = Stream(sock, service)
        self.wire: Wire = service.make_wire(service.limits, service.compliance)

    @property
    def peer(self) -> str:
        return f"{self.address[0]}:{self.address[1]}"

    def __str__(self) -> str:
        return f"{self.peer} ({self.phase.value})"

    @property
    def description(self) -> str:
        """What it is busy with: "GET /report from 203.0.113.7:49152 (handling)". Any thread."""
        phase, head = self.phase, self.head
        if head is None or phase in (FRESH, READING, IDLE):
            return str(self)
        return f"{head.method} {printable(head.target)} from {self}"

    # For the thread that serves.

    @property
    def local(self) -> tuple[str, int]:
        """Address and port at our end; one system call (getsockname), if somebody wants to know."""
        if self._local is None:
            name = self.stream.raw.getsockname()
            self._local = ("unix", 0) if self.stream.raw.family == socket.AF_UNIX else plain_address(name)
        return self._local

    def record(self, state: str, about: object = None) -> None:
        """If somebody records: this thread is in `state` from now on (see `acceptor.recording.STATES`)."""
        lane = self.lane
        if lane is not None:
            lane.step((time.monotonic(), state, self.number, about))

    def enter(self, phase: Phase) -> None:
        # In this order, so that whoever reads first `phase`, then `since`, may think that it has been in a phase for a
        # shorter time than it has, but never for a longer one.
        self.since = time.monotonic()
        self.phase = phase

    def serve(self, go_on: Callable[[], bool] | None = None, *, alone: bool = False, offload: Executor | None = None
              ) -> End:
        """Serve every request; return how the connection is to end, once it is over. Nothing a client does raises.

        go_on: if there is one, End.PARK is returned where this thread would have to wait for the client to begin, send
            its request's head, or take a response; and after a response, too, if the next request is there already, and
            `go_on()` says that somebody else is to have the thread first. Then call `serve` again when the socket is
            ready for `stream.wants`, or the `deadline` has come.
        alone: this thread serves all connections: End.PARK wherever it would have to wait for the client. A request's
            body is read before its handler is called, by `offload` if there is one. See acceptor.alone.
        """
        exchange = self._exchange
        if exchange is not None and exchange.at_work:  # called back for nothing; all of it is the job's, its stream too
            return _PARK
        self.parks = go_on is not None
        self.alone = alone
        self.offload = offload
        self.stream.waits = go_on is None
        if alone:
            self.stream.begin_turn()
        try:
            try:
                return self._serve(go_on) if self._last is None else self._say_last(self._last)
            except ProtocolError as error:
                return self._refuse(error)
        except MustWait:
            return self._park()
        except TimeoutError:
            logger.info("%s does not read its response; closing", self.peer)
            self.stream.reset_when_closed()
        except OSError as error:  # a client may leave at any time, and so may we
            # As text, or whoever keeps the record keeps the request, by the error's traceback.
            logger.debug("%s: %s", self.peer, str(error))
            if self.service.cut:
                self.stream.reset_when_closed()
        return End.CLOSE

    def _serve(self, go_on: Callable[[], bool] | None) -> End:
        if self.phase is ACCEPTED:
            self.enter(FRESH)
            if self.service.proxy_protocol or self.service.tls:
                self.enter(HANDSHAKE)
                self._received = b"" if self.address[0] in self.service.proxy_protocol else None
        if self.phase is HANDSHAKE and not self._open():
            return End.CLOSE
        service, stream, wire = self.service, self.stream, self.wire
        exchange, self._exchange = self._exchange, None
        while True:
            if exchange is None:
                if (head := self._read_head()) is None:
                    break
                self.head = head
                self.served += 1
                if service.on_request is not None:
                    service.on_request()
                exchange = Exchange(self, head) if not self.alone else LoneExchange(self, head)
            try:
                end = exchange.run()
            except MustWait:
                self._exchange = exchange
                raise
            exchange = None
            if end is not None:
                return end if end is End.DETACHED else self._say_last(end)
            self.enter(IDLE)
            if go_on is not None:
                stream.waits = False
                if service.cut:  # nothing is parked any more
                    break
                if not (wire.has_rest or stream.has_decrypted):
                    stream.wants = _POLLIN
                    return self._park()
                # There is a next request already: does this thread serve it? If not, the connection waits until the
                # socket can be written to, which it can now: so it comes back at once, behind the others.
                if not go_on():
                    stream.wants = _POLLOUT
                    return self._park()
        return self._say_last(End.CLOSE)

    def _say_last(self, end: End) -> End:
        """It is over: say so, where that is for us to say, and return `end`. After MustWait, call it again."""
        self._last = end
        self.phase = CLOSING
        if end is End.LINGER:
            # The client may be sending what nobody will read, and must not get a reset for it.
            self.stream.end_output()
        else:
            self.stream.say_goodbye()
        return end

    def _park(self) -> End:
        """Until `stream.wants`, or the deadline."""
        timeouts = self.service.timeouts
        if self._last is not None:
            self.deadline = time.monotonic() + self.stream.patience_left
        elif self._exchange is not None:  # in whatever phase: a job may be about to change it
            self.deadline = time.monotonic() + self._exchange.patience
        elif self.phase is IDLE:
            self.head = None  # it may be for long
            self.deadline = self.since + timeouts.keep_alive
        elif self.phase in (FRESH, READING):
            self.deadline = self.since + timeouts.head
        elif self.phase is HANDSHAKE:
            self.deadline = self.since + timeouts.handshake
        self.resumed = True
        return _PARK

    def _read_head(self) -> RequestHead | None:
        """The next request's head; None if there will be none. ProtocolError if what comes is none."""
        wire, stream = self.wire, self.stream
        late = False
        try:
            if self.phase is READING:  # it has been parked: perhaps it is we who are late, and the rest came in time
                late = stream.has_input(0)
            elif not wire.next_request():
                if self.service.stopping and self.resumed and not stream.has_input(0):
                    self._wait_for_request()  # not once more: there may be thousands of them
                holds = self.lane is not None and stream.waits and self.phase is IDLE
                if holds:
                    self.record("K")
                if not (data := stream.receive(self._wait_for_request)):
                    return None
                if holds:
                    self.record("R")
                wire.receive(data)
            elif self.lane is not None and self.phase is IDLE:
                self.record("R")
            while (head := wire.next_head()) is None:
                if self.phase is not READING:
                    self.enter(READING)
                if not late:
                    self._wait_for_rest()  # a clock is looked at here too, for a head that comes byte by byte
                late = False
                if not (data := stream.receive(self._wait_for_rest)):
                    return None
                wire.receive(data)
            return head
        except _NothingCame:
            return None

    def _wait_for_request(self) -> None:
        """A tick has passed without a first byte: _NothingCame if that is enough."""
        service, timeouts = self.service, self.service.timeouts
        if self.phase is IDLE:
            enough = (service.stopping or time.monotonic() - self.since >= timeouts.keep_alive
                      or (service.pressed and timeouts.pressed is not None and self.stream.waits))
            # Looked at once more, because a thread may be a while on its way to here, and a request that has come
            # meanwhile would be lost.
            if enough and not self.stream.has_input(0):
                raise _NothingCame
        elif service.stopping and (self.alone or time.monotonic() - self.since >= TICK):
            raise ProtocolError(503, "the server is stopping")  # a client that has just come has a tick for its request
        elif self._out_of_time(timeouts.head):
            raise _NothingCame

    def _wait_for_rest(self) -> None:
        """The head is not complete: ProtocolError if it takes too long."""
        if self._out_of_time(self.service.timeouts.head):
            raise ProtocolError(408, "the head of the request came too slowly (Timeouts.head)")

    def _out_of_time(self, seconds: float) -> bool:
        """Whether the phase has lasted for `seconds`, or, if it holds a thread, as long as it may under pressure.
        ConnectionAbortedError if the server has stopped waiting for anybody."""
        self.service.check_not_cut()
        return time.monotonic() - self.since >= (self.service.patience(seconds) if self.stream.waits else seconds)

    def _refuse(self, error: ProtocolError) -> End:
        """Answer what is no request, and let the client read that."""
        status = error.status
        if status == 503:
            answer = error_bytes(503, STOPPING, _RETRY)
        else:
            self.service.compliance.log_refusal(self.peer, error)
            answer = error_bytes(status, phrase(status))
        head, end, body = answer.partition(b"\r\n\r\n")
        if self.wire.asks_for_head:
            body = b""
        self._log(status, len(body))
        self._count(status)
        self._last = End.LINGER
        try:
            self.stream.begin_response()
            self.stream.send(head + end + body)
            return self._say_last(End.LINGER)
        except OSError:  # gone, or does not read
            return End.CLOSE

    def _count(self, status: int) -> None:
        """If somebody counts: an answer that no exchange has given."""
        counter = self.service.counter  # once: it may be taken away meanwhile
        if counter is not None:
            counter.other((time.monotonic() - self.since, status))

    def _log(self, status: int, sent: int, head: RequestHead | None = None) -> None:
        """A line of the access log for an answer that no exchange has given; head: if there was a request."""
        service = self.service
        if not service.log_access:
            return
        seconds = time.monotonic() - self.since
        access.log(access.AccessRecord(
            client=self.address[0], peer=self.peer, time=time.time() - seconds, seconds=seconds,
            method=head.method if head else None, target=head.target if head else None,
            version=head.version if head else None,
            headers=head.headers if head else [], status=status, sent=sent,
            scheme="http" if service.tls is None else "https", host=head.host if head else "",
        ))

    # Opening it: what comes before the first request.

    def _open(self) -> bool:
        """Read the PROXY header, shake hands; False if the client cannot. After MustWait, call it again."""
        service = self.service
        try:
            received = self._read_proxy_header(self._received) if self._received is not None else b""
            if service.tls is not None:
                self.stream.shake_hands(service.tls.context, received, self._wait_for_handshake)
            elif received:
                self.wire.receive(received)
        except _NothingCame:
            logger.info("%s: no handshake in time; closing", self.peer)
            return False
        except ProxyHeaderError as error:
            logger.warning("%s: %s; closing, because Acceptor(proxy_protocol=...) asks for one of this peer", self.peer,
                           printable(str(error)))
            return False
        except PlainHTTPError:
            raise ProtocolError(400, "plain HTTP, and this port speaks TLS") from None
        except ssl.SSLError as error:
            logger.info("%s: no TLS: %s", self.peer, printable(str(error)))
            return False
        self.enter(FRESH)
        return True

    def _read_proxy_header(self, received: bytes) -> bytes:
        """Take the client's address from it; return what came behind it. `received` is what has come of it before."""
        while (parsed := parse(received)) is None:
            self._received = received
            data = self.stream.receive(self._wait_for_handshake)
            if not data:
                raise ConnectionAbortedError("left before the end of its PROXY header")
            received += data
            self._wait_for_handshake()
        if parsed.source is not None:
            self.address = parsed.source
        self._received = None
        return received[parsed.length:]

    def _wait_for_handshake(self) -> None:
        if self._out_of_time(self.service.timeouts.handshake):
            raise _NothingCame

    # For whoever has taken it out of the registry, and for the watcher, once it has been served or will not be.

    def close(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is None or exchange.give_up():
            self.stream.sock.close()

    def start_refusal(self, text: str) -> bool:
        """Send 503 and half-close, without blocking; False if there is nobody to read it. Then wait for input, and
        `drain`. (A client of TLS reads nothing: a handshake is more than a full server can afford.)"""
        if self.service.tls is not None:
            return False
        return self.start_answer(Answer(503, error_bytes(503, text, _RETRY), len(text) + 1))

    def start_answer(self, answer: Answer) -> bool:
        """The same, with that answer."""
        self.start_lingering()
        try:
            self.stream.raw.send(answer.data)  # fits: nothing is on its way
            self.stream.end_output()
        except OSError:
            return False
        self._log(answer.status, answer.length, answer.head)
        self._count(answer.status)
        return True

    def start_lingering(self) -> None:
        """Have `drain` not block."""
        self.phase = CLOSING
        self.stream.raw.setblocking(False)

    def drain(self) -> bool:
        """Read what has come, without blocking; False once the client has closed its side, or is gone."""
        try:
            return bool(self.stream.raw.recv(65536))  # it is thrown away, so nobody needs to decrypt it
        except BlockingIOError:
            return True
        except OSError:
            return False

    def fileno(self) -> int:
        return self.stream.raw.fileno()

    @property
    def refusable(self) -> bool:
        """There is nothing half answered, into which a 503 would be sent."""
        return self._exchange is None and self._last is None

    @property
    def has_come(self) -> bool:
        """There is somebody to be refused; it did not come back from being parked only because its time is up."""
        return (not self.resumed or self.phase not in (FRESH, IDLE)
                or self.wire.has_rest or self.stream.has_input(0))

    @property
    def at_work(self) -> bool:
        """It is parked for a job of `offload`, which is not done."""
        return self._exchange is not None and self._exchange.at_work

    def give_up(self) -> None:
        """It was parked, and is closed before it is over: what is in progress must not look whole."""
        if self.phase.in_progress:
            self.stream.reset_when_closed()

    # For any thread, as long as the connection is in the acceptor's registry, and its lock is held.

    def cut(self) -> None:
        """`service.cut` is set; do what else is needed so that the client learns of it even from a stuck handler.

        What is being read or written ends by itself, at the next tick: of that, nothing is touched here.
        """
        try:
            if self.phase in (HANDLING, DETACHED):
                self.stream.raw.shutdown(socket.SHUT_RDWR)
            elif self.phase is STREAMING:  # the end must not look like that of the response
                self.stream.reset_when_closed()
        except OSError:  # the client, or whoever has detached it, has closed it already
            pass


class _NothingCame(Exception):  # noqa: N818  # not an error: nobody is told
    """The client has had its time, and sent nothing that could be answered."""
