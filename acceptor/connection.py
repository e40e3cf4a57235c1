"""A connection's life: open it, read a request's head, have it answered, again, until one of the two has enough.

It is served by one thread from FRESH to its end (`acceptor.phases` has the table), and that thread keeps its deadlines
(`acceptor.stream`). Other threads may read `phase`, `since` and `head`. Once it has been served, or if it is refused,
the watcher has it.
"""

from __future__ import annotations

import logging
import socket
import ssl
import time

from acceptor import access
from acceptor.exchange import Exchange
from acceptor.fields import phrase
from acceptor.framing import error_bytes
from acceptor.heads import RequestHead
from acceptor.listen_socket import plain_address
from acceptor.phases import End, Phase
from acceptor.proxy_protocol import ProxyHeaderError, parse
from acceptor.service import Service
from acceptor.stream import Stream
from acceptor.tls import PlainHTTPError
from acceptor.violations import ProtocolError, printable
from acceptor.wire import H11Wire

__all__ = ["STOPPING", "Connection"]

logger = logging.getLogger("acceptor")

STOPPING = "The server is stopping."
_RETRY = b"retry-after: 1\r\n"


class Connection:
    """One accepted socket and what is served over it. Made by `Acceptor.accept`, on any thread."""

    __slots__ = ("_local", "accepted", "address", "head", "phase", "served", "service", "since", "stream", "wire")

    def __init__(self, sock: socket.socket, address: tuple[str, int], service: Service) -> None:
        # Fixed.
        self.service = service
        self.accepted = time.monotonic()
        # Written by the serving thread; `phase`, `since`, `address` and `head` are read by any.
        self.address = address
        """The client's, as far as it is known: the peer's, or what the PROXY header says."""
        self.phase = Phase.ACCEPTED
        self.since = self.accepted
        """When the phase began; while WRITING or STREAMING, HANDLING."""
        self.head: RequestHead | None = None
        """The current or the last request's."""
        self.served = 0
        """Requests read."""
        self._local: tuple[str, int] | None = None
        self.stream = Stream(sock, service)
        self.wire = H11Wire(service.limits, service.compliance)

    @property
    def peer(self) -> str:
        return f"{self.address[0]}:{self.address[1]}"

    def __str__(self) -> str:
        return f"{self.peer} ({self.phase.value})"

    @property
    def description(self) -> str:
        """What it is busy with: "GET /report from 203.0.113.7:49152 (handling)". Any thread."""
        phase, head = self.phase, self.head
        if head is None or phase in (Phase.FRESH, Phase.READING, Phase.IDLE):
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

    def enter(self, phase: Phase) -> None:
        # In this order, so that whoever reads first `phase`, then `since`, may think that it has been in a phase for a
        # shorter time than it has, but never for a longer one.
        self.since = time.monotonic()
        self.phase = phase

    def serve(self) -> End:
        """Serve every request; return how the connection is to end, once it is over. Nothing a client does raises."""
        try:
            self.enter(Phase.FRESH)
            if (self.service.proxy_protocol or self.service.tls) and not self._open():
                return End.CLOSE
            while (head := self._read_head()) is not None:
                self.head = head
                self.served += 1
                end = Exchange(self, head).run()
                if end is End.CLOSE:
                    break
                if end is not None:
                    return end
                self.enter(Phase.IDLE)
            self.stream.say_goodbye()
        except ProtocolError as error:
            return self._refuse(error)
        except TimeoutError:
            logger.info("%s does not read its response; closing", self.peer)
            self.stream.reset_when_closed()
        except OSError as error:  # a client may leave at any time, and so may we
            logger.debug("%s: %s", self.peer, error)
            if self.service.cut:
                self.stream.reset_when_closed()
        return End.CLOSE

    def _read_head(self) -> RequestHead | None:
        """The next request's head; None if there will be none. ProtocolError if what comes is none."""
        wire, stream = self.wire, self.stream
        some = wire.next_request()
        while True:
            if some:
                if (head := wire.next_head()) is not None:
                    return head
                if self.phase is not Phase.READING:
                    self.enter(Phase.READING)
                self._wait_for_rest()  # a clock is looked at here too, for a head that comes byte by byte
            try:
                data = stream.receive(self._wait_for_rest if some else self._wait_for_request)
            except _NothingCame:
                return None
            if not data:
                return None
            wire.receive(data)
            some = True

    def _wait_for_request(self) -> None:
        """A tick has passed without a first byte: _NothingCame if that is enough."""
        service, timeouts = self.service, self.service.timeouts
        if self.phase is Phase.IDLE:
            enough = (service.stopping or time.monotonic() - self.since >= timeouts.keep_alive
                      or (service.pressed and timeouts.pressed is not None))
            # Looked at once more, because a thread may be a while on its way to here, and a request that has come
            # meanwhile would be lost.
            if enough and not self.stream.has_input(0):
                raise _NothingCame
        elif service.stopping:
            raise ProtocolError(503, "the server is stopping")
        elif self._out_of_time(timeouts.head):
            raise _NothingCame

    def _wait_for_rest(self) -> None:
        """The head is not complete: ProtocolError if it takes too long."""
        if self._out_of_time(self.service.timeouts.head):
            raise ProtocolError(408, "the head of the request came too slowly (Timeouts.head)")

    def _out_of_time(self, seconds: float) -> bool:
        """Whether the phase has lasted for `seconds`, or as long as it may under pressure. ConnectionAbortedError if
        the server has stopped waiting for anybody."""
        self.service.check_not_cut()
        return time.monotonic() - self.since >= self.service.patience(seconds)

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
        try:
            self.stream.begin_response()
            self.stream.send(head + end + body)
            self.stream.end_output()
        except OSError:  # gone, or does not read
            return End.CLOSE
        return End.LINGER

    def _log(self, status: int, sent: int) -> None:
        """A line of the access log for an answer to what is no request."""
        service = self.service
        if not service.log_access:
            return
        seconds = time.monotonic() - self.since
        access.log(access.AccessRecord(
            client=self.address[0], peer=self.peer, time=time.time() - seconds, seconds=seconds,
            method=None, target=None, version=None, headers=[], status=status, sent=sent,
            scheme="http" if service.tls is None else "https", host="",
        ))

    # Opening it: what comes before the first request.

    def _open(self) -> bool:
        """Read the PROXY header, shake hands; False if the client cannot."""
        service = self.service
        self.enter(Phase.HANDSHAKE)
        try:
            received = self._read_proxy_header() if self.address[0] in service.proxy_protocol else b""
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
        self.enter(Phase.FRESH)
        return True

    def _read_proxy_header(self) -> bytes:
        """Take the client's address from it; return what came behind it."""
        received = b""
        while (parsed := parse(received)) is None:
            data = self.stream.receive(self._wait_for_handshake)
            if not data:
                raise ConnectionAbortedError("left before the end of its PROXY header")
            received += data
            self._wait_for_handshake()
        if parsed.source is not None:
            self.address = parsed.source
        return received[parsed.length:]

    def _wait_for_handshake(self) -> None:
        if self._out_of_time(self.service.timeouts.handshake):
            raise _NothingCame

    # For whoever has taken it out of the registry, and for the watcher, once it has been served or will not be.

    def close(self) -> None:
        self.stream.sock.close()

    def start_refusal(self, text: str) -> bool:
        """Send 503 and half-close, without blocking; False if there is nobody to read it. Then wait for input, and
        `drain`. (A client of TLS reads nothing: a handshake is more than a full server can afford.)"""
        self.phase = Phase.CLOSING
        if self.service.tls is not None:
            return False
        try:
            self.start_lingering()
            self.stream.raw.send(error_bytes(503, text, _RETRY))  # fits: nothing has been sent yet
            self.stream.end_output()
        except OSError:
            return False
        self._log(503, len(text) + 1)
        return True

    def start_lingering(self) -> None:
        """Have `drain` not block."""
        self.phase = Phase.CLOSING
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

    # For any thread, as long as the connection is in the acceptor's registry, and its lock is held.

    def cut(self) -> None:
        """`service.cut` is set; do what else is needed so that the client learns of it even from a stuck handler.

        What is being read or written ends by itself, at the next tick: of that, nothing is touched here.
        """
        try:
            if self.phase in (Phase.HANDLING, Phase.DETACHED):
                self.stream.raw.shutdown(socket.SHUT_RDWR)
            elif self.phase is Phase.STREAMING:  # the end must not look like that of the response
                self.stream.reset_when_closed()
        except OSError:  # the client, or whoever has detached it, has closed it already
            pass


class _NothingCame(Exception):  # noqa: N818  # not an error: nobody is told
    """The client has had its time, and sent nothing that could be answered."""
