"""A connected socket, read and written by the thread that serves it, which keeps the deadlines itself.

The socket blocks, but only for a tick (`acceptor.settings.TICK`): a recv or send that has had to wait for so long
raises BlockingIOError, the thread looks at the clock, and goes on or gives up. The tick is the kernel's SO_RCVTIMEO and
SO_SNDTIMEO, which accepted sockets inherit, so what does not have to wait costs no system call more than without any
deadline, and what waits costs two a second. And nobody else ever has to touch a socket that is being served, not even
to stop the server: there is no race to be lost between a deadline and a request that comes just in time.

A thread that must not wait for clients reads and writes with MSG_DONTWAIT instead (`Stream.waits`). Where it would have
to wait, MustWait is raised, up to the loop that has the connection parked; `Stream.wants` says until when. What had
been begun to be sent is kept, and `flush` goes on with it.

A client that is slow is not the same as one that stalls, so bodies and responses have no fixed end but `Patience`.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable
from typing import NoReturn, TypeAlias

from acceptor.listen_socket import set_tick
from acceptor.service import Service
from acceptor.tls import TLSSocket

__all__ = ["MustWait", "Patience", "Socket", "Stream"]

Socket: TypeAlias = "socket.socket | TLSSocket"

_RECEIVE = 64 * 1024
"""Bytes read at a time, at most."""
_SENDFILE = 256 * 1024
"""Bytes that one sendfile(2) may send: the kernel waits for a tick in each 64 KiB of them, not in all, so a client that
takes a little in each would keep it, and us, for as long as the file lasts."""
_TURN = 0.01
"""Seconds for which a thread that serves all works for one client that keeps up with it, before others have a turn."""
_DONTWAIT = socket.MSG_DONTWAIT
_NEVER = float("inf")
_TCP_INFO_SIZE, _BYTES_ACKED = 128, 120
"""tcp(7): in struct tcp_info, the 64 bits of tcpi_bytes_acked, since Linux 4.1."""


class MustWait(Exception):  # noqa: N818  # not an error: the connection is parked
    """Nothing more can be done before the socket is ready for what `Stream.wants`, or the connection's time is up."""


class Patience:
    """Seconds of credit that one has with a client: waiting spends them, bytes earn them back. See Timeouts."""

    def __init__(self, seconds: float, service: Service) -> None:
        self._most = seconds
        self.left = seconds
        """Seconds of credit that are left."""
        self.waiting_since: float | None = None
        """Since when it has not been spent, if the connection is parked."""
        self._rate = service.timeouts.minimum_rate
        self._service = service

    def spend(self, waited: float, moved: int, *, holds: bool = True) -> None:
        """`waited` seconds have gone by, in which the client has sent, or taken, `moved` bytes.

        holds: a thread waits for it, so that under pressure it must give way. One that is parked keeps nobody waiting.

        TimeoutError if its credit is used up, ConnectionAbortedError if the server has stopped waiting for anybody.
        """
        self._service.check_not_cut()
        earned = moved / self._rate if self._rate is not None else 0.0
        most = self._service.patience(self._most) if holds else self._most
        self.left = min(most, self.left - waited + earned)
        if self.left <= 0:
            raise TimeoutError


class _Unsent:
    """What has not been sent whole."""

    __slots__ = ("acknowledged", "done", "last", "step", "total")

    def __init__(self, step: Callable[[int], int], done: int, total: int, acknowledged: int | None) -> None:
        self.step = step
        self.done = done
        self.total = total
        self.acknowledged = acknowledged
        self.last = time.monotonic()


class Stream:
    """One socket, plain or TLS. Owned by the thread that serves it.

    Raises OSError when the client is gone, as sockets do, and TimeoutError, which is one, when it is out of time.
    """

    __slots__ = ("_output_ended", "_service", "_slow", "_tls", "_turn_ends", "_unsent", "raw", "sock", "waits", "wants")

    def __init__(self, sock: socket.socket, service: Service) -> None:
        self.raw = sock
        """What the system knows."""
        self.sock: Socket = sock
        """What is read and written: over TLS, a TLSSocket over `raw`."""
        self._service = service
        self._slow: Patience | None = None
        """With the current response, once the client has been slow to take it."""
        self._tls: TLSSocket | None = None
        """Once a handshake has begun."""
        self.waits = True
        """Whether reads and writes block; else they raise MustWait."""
        self._turn_ends = _NEVER
        self._unsent: _Unsent | None = None
        self._output_ended = False
        self.wants = select.POLLIN
        """After MustWait: what the socket must be ready for."""

    @property
    def _flags(self) -> int:
        return 0 if self.waits else _DONTWAIT

    def shake_hands(self, context: ssl.SSLContext, received: bytes, tick: Callable[[], None]) -> None:
        """TLS from here on; `received` has been read already. `tick` as in `receive`. Raises what a TLSSocket does.

        After MustWait it is to be called again."""
        tls = self._tls
        if tls is None:
            tls = self._tls = TLSSocket(self.raw, context, received)
            tls.one_read = True
        while True:
            try:
                tls.handshake(self._flags)
                break
            except BlockingIOError:
                self._tick(tick)
        self.sock = tls

    def receive(self, tick: Callable[[], None]) -> bytes:
        """What has come next, b"" at the end. `tick` is called whenever a tick has passed, and may raise to give up."""
        while True:
            try:
                return self.sock.recv(_RECEIVE, 0 if self.waits else _DONTWAIT)
            except BlockingIOError:
                self._tick(tick)

    def _tick(self, tick: Callable[[], None]) -> None:
        tick()
        if not self.waits:
            self._must_wait(select.POLLIN)

    def _must_wait(self, wants: int) -> NoReturn:
        # TLS may have to read in order to write, and the other way round.
        self.wants = wants if self._tls is None else self._tls.wants
        raise MustWait

    def receive_patiently(self, patience: Patience) -> bytes:
        """What has come next, b"" at the end. TimeoutError when `patience` is used up, also by trickling."""
        last = patience.waiting_since or time.monotonic()
        patience.waiting_since = None
        while True:
            try:
                data = self.sock.recv(_RECEIVE, self._flags)
            except BlockingIOError:
                data = None
            now = time.monotonic()
            patience.spend(now - last, len(data or b""), holds=self.waits)
            last = now
            if data is not None:
                return data
            if not self.waits:
                patience.waiting_since = now
                self._must_wait(select.POLLIN)

    def receive_until(self, end: float) -> bytes:
        """What has come next, b"" at the end; it waits in any case. TimeoutError if nothing has by `end`, or a tick
        later if TLS has half a record."""
        if not self.has_input(max(0.0, end - time.monotonic())):
            raise TimeoutError

        def tick() -> None:
            if time.monotonic() >= end:
                raise TimeoutError

        waits, self.waits = self.waits, True
        try:
            return self.receive(tick)
        finally:
            self.waits = waits

    def begin_turn(self) -> None:
        """This thread serves all, and must not work for this client for too long: see `end_turn`."""
        self._turn_ends = time.monotonic() + _TURN

    def end_turn(self) -> None:
        """Between two pieces of work: MustWait, though there is nothing to wait for, if it is time for the others."""
        if not self.waits and time.monotonic() >= self._turn_ends:
            self.wants = select.POLLIN | select.POLLOUT  # whichever it can tell of: it is to come back at once
            raise MustWait

    def begin_response(self) -> None:
        """From here on the client has the credit for another response."""
        self._slow = None

    def send(self, data: bytes, more: bool = False) -> None:
        """Send all of `data`. more: something else follows at once (MSG_MORE)."""
        if self._service.cut:
            self._service.check_not_cut()
        try:
            sent = self._send(data, more) if more else self.sock.send(data, 0 if self.waits else _DONTWAIT)
        except BlockingIOError:
            sent = 0
        if sent != len(data):
            view = memoryview(data)
            self._finish(lambda done: self._send(view[done:], more), sent, len(data))

    @property
    def has_unsent(self) -> bool:
        """Something has been sent in part: `flush`."""
        return self._unsent is not None

    def flush(self) -> int:
        """After MustWait: go on with what could not be sent whole. How much of it has been sent, in all."""
        unsent = self._unsent
        if unsent is None:
            return 0
        patience = self._slow
        if patience is None:
            patience = self._slow = Patience(self._service.timeouts.write, self._service)
        while unsent.done < unsent.total:
            blocked = False
            try:
                moved = unsent.step(unsent.done)
            except BlockingIOError:
                blocked, moved = True, 0
            else:
                if not moved:
                    break
            unsent.done += moved
            before, unsent.acknowledged = unsent.acknowledged, self._acknowledged()
            before_that, unsent.last = unsent.last, time.monotonic()
            patience.spend(unsent.last - before_that,
                           moved if before is None else (unsent.acknowledged or 0) - before, holds=self.waits)
            if blocked and not self.waits:
                self._must_wait(select.POLLOUT)
            if unsent.done < unsent.total:
                self.end_turn()
        self._unsent = None
        return unsent.done

    @property
    def patience_left(self) -> float:
        """Seconds of credit that the client has with the current response."""
        return self._slow.left if self._slow is not None else self._service.timeouts.write

    def send_file(self, file: int, offset: int, count: int) -> int:
        """Send up to `count` bytes of the descriptor `file` by sendfile(2); the number sent: less, if it ends before.

        Only of plain sockets.
        """
        def step(done: int) -> int:
            if not self.waits:  # sendfile(2) has no flags
                self.raw.setblocking(False)
            try:
                return os.sendfile(self.raw.fileno(), file, offset + done, min(count - done, _SENDFILE))
            finally:
                if not self.waits:
                    self.raw.setblocking(True)

        return self._finish(step, 0, count)

    @property
    def can_sendfile(self) -> bool:
        return self.sock is self.raw

    def wait_for_job(self) -> NoReturn:
        """MustWait, for something else than the socket."""
        self.wants = 0
        raise MustWait

    def has_input(self, seconds: float) -> bool:
        """Whether there is something to be read (the end of input counts), now or within `seconds`."""
        if self.has_decrypted:
            return True
        poll = select.poll()
        poll.register(self.raw, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    @property
    def has_decrypted(self) -> bool:
        """TLS has input for us that the socket has not any more."""
        return isinstance(self.sock, TLSSocket) and self.sock.pending() > 0

    def end_output(self) -> None:
        """Nothing more is sent; the client learns that. Over TLS it may have to wait as `send` does. After MustWait, be
        it from here or from the last `send`, it is to be called again."""
        def step(done: int) -> int:
            if isinstance(self.sock, TLSSocket):
                self.sock.shutdown(socket.SHUT_WR, self._flags)
            else:
                self.sock.shutdown(socket.SHUT_WR)
            self._output_ended = True
            return 1

        self.flush()
        if self._output_ended:
            return
        try:
            step(0)
        except BlockingIOError:  # no room for close_notify
            self._finish(step, 0, 1)

    def say_goodbye(self) -> None:
        """Before a close that is in order: over TLS it must be announced, or it looks like a cut (RFC 9112 section
        9.8). Without TLS the close itself says it."""
        if self.sock is not self.raw:
            self.end_output()

    def block_without_ticks(self) -> None:
        """For whoever takes the socket over: it blocks as sockets do."""
        set_tick(self.raw, 0)
        if isinstance(self.sock, TLSSocket):
            self.sock.one_read = False

    def reset_when_closed(self) -> None:
        """To a client that reads up to the end of the connection, any other end would be that of its body. Any
        thread."""
        try:
            self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:  # it is closed already
            pass

    def _send(self, data: bytes | memoryview, more: bool) -> int:
        if more and self.sock is self.raw:
            return self.raw.send(data, socket.MSG_MORE | self._flags)
        return self.sock.send(data, self._flags)

    def _finish(self, step: Callable[[int], int], done: int, total: int) -> int:
        """Repeat `step`, which is told how much is done and does some more, until `total` is, or there is no more.

        The client's kernel may have acknowledged a lot before the first byte is read, and ours may have buffered as
        much, so what `step` could hand over says little; what counts as taken is what has been acknowledged meanwhile.
        """
        self._unsent = _Unsent(step, done, total, self._acknowledged())
        return self.flush()

    def _acknowledged(self) -> int | None:
        """Bytes that the client's system has acknowledged since the connection began; None if that cannot be told."""
        try:
            info = self.raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE)
        except (OSError, AttributeError):  # not TCP, or not Linux
            return None
        return int.from_bytes(info[_BYTES_ACKED:_TCP_INFO_SIZE], "little") if len(info) == _TCP_INFO_SIZE else None
