"""The listen socket: open it, wait on it from any number of threads, and stop without losing what the kernel queued.

How a thread waits: in an epoll set that all of them share, in which the listen socket is registered with EPOLLONESHOT
(epoll_ctl(2)), which means for one event at a time. Whoever gets the event is the only one who does; however many
connections arrive, nobody else is woken until that thread has accepted and asks for one more event (`_arm`). Beside it
in the set is the end of a socket pair, which is readable forever once the listener stops, so that stopping wakes
everybody. `taskmaster.recycling` argues this choice, and docs/waiting.md measures it. Where there is no epoll, poll(2)
does the same less well: a connection wakes every thread, and all but one wait again.

How it stops, in this order, because both shutdown(2) and close(2) of a listen socket reset what the kernel has queued:
  1. accept everything that is queued, without blocking, and keep it for those who call `accept`
  2. set the flag
  3. shutdown(2): the kernel refuses new connections from here on, and the port is free for another server
  4. make the socket pair readable
  5. later, when nobody can be inside `accept` any more: `close`. Not before: the system would give the descriptor's
     number to the next file opened, and a thread about to accept would accept on that.
Between the last accept of step 1 and step 3 a connection may still arrive, and is reset; on Linux nothing can prevent
that, and it lasts microseconds.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import struct
import sys
import time
from collections import deque

__all__ = ["Accepted", "Listener"]

logger = logging.getLogger("acceptor")

Accepted = tuple[socket.socket, tuple[str, int]]
"""A connected socket, blocking, and the address of its peer."""

RETRY = frozenset({
    errno.ECONNABORTED,  # "a connection has been aborted"
    errno.EPERM,         # "firewall rules forbid connection"
    errno.EPROTO, errno.ENETDOWN, errno.ENOPROTOOPT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.EOPNOTSUPP,
    errno.ENETUNREACH, errno.ETIMEDOUT, getattr(errno, "ENONET", errno.EPROTO),
    # "already-pending network errors on the new socket ... treat them like EAGAIN by retrying"
})
"""accept(2): the next connection had died before it was accepted. The one after it may be fine."""

BACK_OFF = frozenset({
    errno.EMFILE,   # "the per-process limit on the number of open file descriptors has been reached"
    errno.ENFILE,   # "the system-wide limit on the total number of open files has been reached"
    errno.ENOBUFS,  # "not enough free memory ... limited by the socket buffer limits"
    errno.ENOMEM,
})
"""accept(2): the system lacks something. The connection stays queued, and the listen socket readable, so waiting for
that would spin: pause, then try again. One thread does; the others are not woken meanwhile."""

_PAUSE = 0.1
"""Seconds to back off: short beside a client's patience, long beside an accept."""
_COMPLAIN = 10.0
"""Seconds between two log lines about the same problem."""


_FIXES = {
    errno.EADDRINUSE: "something else listens there: stop it, choose another port, or pass port=0 for any free one",
    errno.EACCES: "this user may not: choose a port from 1024 up, or give the process CAP_NET_BIND_SERVICE",
    errno.EADDRNOTAVAIL: "this machine has no such address: use 127.0.0.1 for this machine only, 0.0.0.0 for all its "
                         "addresses",
}


_ONCE = select.POLLIN | getattr(select, "EPOLLONESHOT", 0)


class Listener:
    """A listening TCP socket. `accept` may be called by any number of threads; the rest by the acceptor only.

    host, port: where to listen; port 0 lets the system choose. OSError, with what to do about it, if that fails.
    backlog: connections the kernel may queue (listen(2); the system bounds it by net.core.somaxconn).
    timeout: seconds that one read or write on an accepted socket may take before it raises BlockingIOError
        (it is the kernel's SO_RCVTIMEO and SO_SNDTIMEO, which answer EAGAIN).
    """

    def __init__(self, host: str, port: int, backlog: int, timeout: float) -> None:
        # Fixed at construction.
        self._backlog = backlog
        self._socket = _listen(host, port, backlog, timeout)
        self.address: tuple[str, int] = self._socket.getsockname()[:2]
        """Host and port, the real ones."""
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._events: select.epoll | _Poll = select.epoll() if hasattr(select, "epoll") else _Poll()
        self._events.register(self._socket, _ONCE)
        self._events.register(self._wake_reader, select.POLLIN)
        # Written by `stop`, before the flag is set; taken from by any thread. deque: append and popleft are atomic.
        self._drained: deque[Accepted] = deque()
        self._stopped = False
        # Written by any accepting thread; two at once make one log line more.
        self._complained_at = -_COMPLAIN

    def accept(self, timeout: float | None = None) -> Accepted | None:
        """The next connection; None for good once stopped. TimeoutError once nothing has come for `timeout` seconds.

        Never raises for what the network does: see RETRY and BACK_OFF.
        """
        while not self._stopped:
            came = True
            try:
                if came := bool(self._events.poll(timeout, 1)):
                    return self._accept()  # until _arm, this thread is the only one awake for the listen socket
            except BlockingIOError:  # the client has gone again
                pass
            except OSError as error:
                if error.errno not in RETRY and not self._stopped:  # stopped: EINVAL, the socket having been shut down
                    self._complain(error)
                    self._pause()
            finally:
                self._arm()
            if not came:
                raise TimeoutError
        return self.take_drained()

    def stop(self) -> None:
        """Accept no more, and wake everybody; a second call only wakes. `accept` still returns what was queued."""
        if not self._stopped:
            self._socket.listen(0)  # what comes now is turned away rather than queued
            self._drain()
            self._stopped = True
        # Again in a second call: the first may have been interrupted here.
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:  # not everywhere can a listen socket be shut down; closing it will do
            pass
        try:
            self._wake_writer.send(b"!")
        except OSError:  # closed already
            pass

    def take_drained(self) -> Accepted | None:
        """After `stop`: one of the connections the kernel had queued, None if there are none left."""
        try:
            return self._drained.popleft()
        except IndexError:
            return None

    def close(self) -> None:
        """Give everything back to the system. Only when no thread can be inside `accept` any more."""
        while (accepted := self.take_drained()) is not None:
            accepted[0].close()
        self._events.close()
        self._socket.close()
        self._wake_reader.close()
        self._wake_writer.close()

    def _drain(self) -> None:
        for _ in range(self._backlog + 1):  # all that can be queued; newcomers must not keep it going for ever
            try:
                self._drained.append(self._accept())
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in RETRY:
                    continue
                logger.warning("connections waiting in the kernel's backlog are lost: %s", error)
                return

    def _accept(self) -> Accepted:
        sock, address = self._socket.accept()
        if sock.gettimeout() is not None:  # socket.setdefaulttimeout() has been called
            sock.settimeout(None)
        return sock, address[:2]

    def _arm(self) -> None:
        """Let the next connection, or one that waits already, wake one thread."""
        self._events.modify(self._socket, _ONCE)

    def _pause(self) -> None:
        poll = select.poll()
        poll.register(self._wake_reader, select.POLLIN)
        poll.poll(_PAUSE * 1000)

    def _complain(self, error: OSError) -> None:
        now = time.monotonic()
        if now - self._complained_at < _COMPLAIN:
            return
        self._complained_at = now
        if error.errno in BACK_OFF:
            logger.error("cannot accept connections: %s; trying again every %g s, clients wait meanwhile. Raise the "
                         "limit (ulimit -n) or lower the taskmaster's max_thread_count", error, _PAUSE)
        else:
            logger.error("accept() failed: %s; trying again every %g s", error, _PAUSE)


class _Poll:
    """What is used of select.epoll, by poll(2): it wakes everybody, and arms nothing. A set for each call, because
    select.poll objects are not for two threads at once."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    def register(self, sock: socket.socket, events: int) -> None:
        self._sockets.append(sock)

    def modify(self, sock: socket.socket, events: int) -> None:
        pass

    def poll(self, timeout: float | None, maxevents: int) -> list[tuple[int, int]]:
        poll = select.poll()
        for sock in self._sockets:
            poll.register(sock, select.POLLIN)
        return poll.poll(None if timeout is None else timeout * 1000)

    def close(self) -> None:
        pass


def _listen(host: str, port: int, backlog: int, timeout: float) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        sock = socket.create_server(address, family=family, backlog=backlog)
    except OSError as error:
        number = error.errno or 0
        if isinstance(error, socket.gaierror):
            why, fix = error.strerror, "pass an address or a name of this machine"
        else:
            why, fix = os.strerror(number), _FIXES.get(number, "see the errno in bind(2)")
        raise OSError(number, f"cannot listen on {host}:{port}: {why}; {fix}") from error
    # What accepted sockets inherit on Linux, so that it costs no system call for each: tcp(7), socket(7).
    interval = struct.pack("ll", int(timeout), int(timeout % 1 * 1e6))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, interval)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, interval)
    sock.setblocking(False)
    if sys.platform != "linux":
        logger.warning("made for Linux; on %s accepted connections may have no timeout, and waiting threads wake "
                       "together", sys.platform)
    return sock
