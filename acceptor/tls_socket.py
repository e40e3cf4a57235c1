"""TLS whose waits end at every tick: OpenSSL works on memory, and we read and write the raw socket ourselves.

    connection  --send-->  OpenSSL  --outgoing-->  raw socket  -->
                <--recv--           <--incoming--              <--

`ssl.SSLSocket` goes on waiting where SO_RCVTIMEO and SO_SNDTIMEO end a wait: no deadline could be kept. Here the only
calls that wait are the raw socket's. When one raises BlockingIOError what is on its way, in either direction, is kept,
and the same call made again goes on where it stopped.
"""

from __future__ import annotations

import errno
import re
import select
import socket
import ssl
from dataclasses import dataclass
from typing import Any, Self

__all__ = ["PlainHTTPError", "ServerSide", "TLSInfo", "TLSSocket"]

_PLAINTEXT = 64 * 1024
"""Bytes that one `send` encrypts, at most: so much of an answer is in memory a second time."""
_CIPHERTEXT = 64 * 1024
"""Bytes read from the raw socket at a time, at most."""
_RECORD = 16 * 1024
"""Bytes that one record carries, at most: RFC 8446 section 5.1."""
_METHOD = re.compile(rb"[A-Z]{3,}(?: |$)")
"""How plain HTTP opens, in as many bytes as OpenSSL reads before it gives up: 5. A TLS record begins with 22."""


class PlainHTTPError(ssl.SSLError):
    """The client speaks HTTP without TLS. Nothing has been sent to it: it can read an answer in plain HTTP."""


class ServerSide(ssl.SSLObject):
    """Our end of one connection; `server_name` is the name the client asked for."""

    server_name: str | None = None


@dataclass(frozen=True, slots=True)
class TLSInfo:
    """What a handshake agreed on."""

    version: str
    """"TLSv1.2" or "TLSv1.3"."""
    cipher: str
    server_name: str | None
    """The name the client asked for, in lower case; None if it sent none."""
    peer_certificate: dict[str, Any] | None
    """The client's certificate, verified, in the form of `ssl.SSLSocket.getpeercert`; None if it sent none."""
    peer_certificate_der: bytes | None


class TLSSocket:
    """One connection over TLS: the part of a socket's interface that is used here, with a socket's results and errors.

    flags, wherever they are taken: MSG_DONTWAIT or 0, for the raw socket.

    raw: blocking, with SO_RCVTIMEO and SO_SNDTIMEO as its ticks; once detached, in any mode.
    context: `TLS.context`. received: bytes that have been read from `raw` already.

    For one thread at a time: OpenSSL does not let one read while another writes. `shutdown` with SHUT_RD or SHUT_RDWR,
    and `fileno`, may be called by any. The raw socket's BlockingIOError (a tick) and TimeoutError (a `settimeout`) are
    passed on, and the same call may be made again then: nothing is lost, nothing is sent twice. What else it raises is
    passed on too. ssl.SSLError, which is an OSError, says that the client has violated TLS.
    """

    __slots__ = ("_ahead", "_ended", "_failure", "_has_read", "_incoming", "_opening", "_outgoing", "_taken", "_tls",
                 "_unsent", "one_read", "raw", "truncated", "wants")

    def __init__(self, raw: socket.socket, context: ssl.SSLContext, received: bytes = b"") -> None:
        self.raw = raw
        """For what passes TLS by: polling, lingering, a plain answer to plain HTTP."""
        self.truncated = False
        """The input ended without close_notify: more may have been meant to come (RFC 8446 section 6.1)."""
        self.one_read = False
        """A call reads the raw socket once at most, and raises BlockingIOError, as at a tick, if more is needed. For a
        record may come byte by byte, none of them late enough for a tick, and each must be seen by whoever has the
        clock."""
        self.wants = select.POLLIN
        """After a BlockingIOError: what the raw socket must be ready for, for the call to go on."""
        self._has_read = False        # in the current call
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._incoming.write(received)
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._opening = received[:5]  # the first bytes of the client
        self._ahead = b""             # decrypted, and not given to recv's caller yet
        self._ended = False           # nothing more will be decrypted,
        self._failure: ssl.SSLError | None = None  # or this was the reason
        self._unsent = b""            # taken from _outgoing, and not sent yet
        self._taken = 0               # bytes encrypted by `send`, whose caller does not know yet

    def handshake(self, flags: int = 0) -> None:
        """Agree with the client, blocking. PlainHTTPError or another ssl.SSLError (the client has been told) if it
        fails, ConnectionError if the client left."""
        self._has_read = False
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._receive_or_raise(flags)
            except ssl.SSLError as error:
                if _METHOD.match(self._opening):
                    raise PlainHTTPError(error.errno or 0, "plain HTTP where TLS was to come") from error
                self._flush_at_once()  # the alert
                raise
            else:
                return self._flush(flags)

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Up to `size` bytes, blocking until there is one; b"" at the end, and then `truncated` says how it came."""
        self._has_read = False
        if self._ahead:
            data, self._ahead = self._ahead[:size], self._ahead[size:]
            return data
        while True:
            decrypted = self._decrypt(size)
            if decrypted is not None:
                return decrypted
            if not self._receive(flags):
                self._ended = self.truncated = True

    def pending(self) -> int:
        """How many bytes `recv` would give without the raw socket; 1 if it would tell of an end or an error at once."""
        if not self._ahead and not self._tls.pending() and self._incoming.pending:
            try:
                self._ahead = self._decrypt(_RECORD) or b""
            except ssl.SSLError:  # for recv to raise
                pass
        return len(self._ahead) or self._tls.pending() or int(self._ended or self._failure is not None)

    def send(self, data: bytes | bytearray | memoryview, flags: int = 0) -> int:
        """Encrypt and send, blocking; how many bytes of `data` that was, when all of them are with the raw socket.

        After a tick it is to be called again with the same data.
        """
        self._has_read = False
        view = memoryview(data)[:_PLAINTEXT]
        while self._taken < len(view):
            try:
                self._taken += self._tls.write(view[self._taken:])
            except ssl.SSLWantReadError:  # the client has sent half a key update, and must send the rest first
                self._receive_or_raise(flags)
        self._flush(flags)
        taken, self._taken = self._taken, 0
        return taken

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`, blocking, whatever the ticks; for one who has detached the socket and knows none."""
        view = memoryview(data).cast("B")
        while view:
            try:
                view = view[self.send(view):]
            except BlockingIOError:
                if self.raw.gettimeout() == 0:  # setblocking(False)
                    raise

    def shutdown(self, how: int, flags: int = 0) -> None:
        """SHUT_WR: send close_notify, then end the raw socket's output; what the client sends can still be read.

        It does not wait for the client's close_notify, but as `send` does for room in the buffer: after a tick call it
        again, or give up. SHUT_RD and SHUT_RDWR: the raw socket's, which ends what another thread waits for.
        """
        if how == socket.SHUT_WR:
            self._write_close_notify()
            try:
                self._flush(flags)
            except ConnectionError:  # nobody is there to read it
                pass
        self.raw.shutdown(how)

    def close(self) -> None:
        """Close the raw socket. Without close_notify, which would call whole what may have been cut: see `shutdown`."""
        self.raw.close()

    @property
    def info(self) -> TLSInfo:
        """What the handshake agreed on; ValueError before its end."""
        tls = self._tls
        return TLSInfo(tls.version() or "", (tls.cipher() or ("",))[0], getattr(tls, "server_name", None),
                       tls.getpeercert(), tls.getpeercert(binary_form=True))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def fileno(self) -> int:
        return self.raw.fileno()

    def settimeout(self, timeout: float | None) -> None:
        self.raw.settimeout(timeout)

    def setblocking(self, blocking: bool) -> None:
        self.raw.setblocking(blocking)

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        self.raw.setsockopt(level, option, value)

    def getsockopt(self, level: int, option: int) -> int:
        return self.raw.getsockopt(level, option)

    # Between OpenSSL and the raw socket.

    def _decrypt(self, size: int) -> bytes | None:
        """Up to `size` bytes, b"" at the end; None if the raw socket must be read first."""
        if self._failure is not None:
            raise self._failure
        if self._ended or not size:
            return b""
        try:
            data = self._tls.read(size)
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLZeroReturnError:  # close_notify, after ours
            data = b""
        except ssl.SSLError as error:
            self._failure = error
            self._flush_at_once()  # the alert
            raise
        self._ended = not data
        return data

    def _receive(self, flags: int) -> bool:
        """Read from the raw socket what OpenSSL waits for, once it has all we have to say; False at the end."""
        self._flush(flags)  # first, for the client may be waiting for that
        self.wants = select.POLLIN
        if self._has_read and self.one_read:
            raise BlockingIOError(errno.EAGAIN, "some has come, but no whole record")
        self._has_read = True
        received = self.raw.recv(_CIPHERTEXT, flags)
        self._incoming.write(received)
        if len(self._opening) < 5:
            self._opening += received[:5]
        return bool(received)

    def _receive_or_raise(self, flags: int) -> None:
        if not self._receive(flags):
            raise ConnectionResetError("the client left in the middle of a TLS handshake")

    def _flush(self, flags: int = 0) -> None:
        """Send what OpenSSL has written. Whatever is raised, the rest is kept."""
        while unsent := self._unsent or self._outgoing.read():
            self._unsent = unsent
            self.wants = select.POLLOUT
            self._unsent = unsent[self.raw.send(unsent, flags):]

    def _flush_at_once(self) -> None:
        """Send what can be sent without waiting; for what is not worth a wait."""
        try:
            self._flush(socket.MSG_DONTWAIT)
        except OSError:
            pass

    def _write_close_notify(self) -> None:
        """OpenSSL does it once, and then looks for the client's; it would trip over data, so it must find none."""
        if count := self._tls.pending():
            self._ahead += self._tls.read(count)
        kept = self._incoming.read()
        try:
            self._tls.unwrap()
        except ssl.SSLError:  # the client has not answered, or the handshake was never done
            pass
        self._incoming.write(kept)
