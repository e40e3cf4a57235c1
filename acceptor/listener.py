"""The listen socket: open it, wait on it from any number of threads, and stop without losing what the kernel queued.

How a thread waits: in an epoll set of its own, in which the listen socket is registered with EPOLLEXCLUSIVE, so that a
connection wakes one thread and not all (epoll_ctl(2)), and beside it the end of a socket pair that is readable for
ever once the listener stops, so that stopping wakes all. `taskmaster.recycling` argues the choice, docs/waiting.md measures it.
Where there is no epoll, poll(2) does the same less well: a connection wakes every thread, and all but one wait again.

How it stops, in this order, because both shutdown(2) and close(2) of a listen socket reset what the kernel has queued:
  1. accept everything that is queued, without blocking, and keep it for those who call `accept`
  2. set the flag
  3. shutdown(2): the kernel refuses new connections from here on, and the port is free for a successor
  4. make the socket pair readable
  5. later, when nobody can be inside `accept` any more: `close`. Not before: the system would give the descriptor's
     number to the next file opened, and a thread about to accept would accept on that.
Between the last accept of step 1 and step 3 a connection may still arrive, and is reset; on Linux nothing can prevent
that, and it lasts microseconds.
"""

from __future__ import annotations

import errno
import logging
import select
import socket
import struct
import sys
import threading
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
"""accept(2): the next connection had died before it was accepted. The one after it may be well."""

BACK_OFF = frozenset({
    errno.EMFILE,   # "the per-process limit on the number of open file descriptors has been reached"
    errno.ENFILE,   # "the system-wide limit on the total number of open files has been reached"
    errno.ENOBUFS,  # "not enough free memory ... limited by the socket buffer limits"
    errno.ENOMEM,
})
"""accept(2): the system lacks something. The connection stays queued, and the listen socket readable, so waiting for
that would spin: pause, then try again."""

_PAUSE = 0.1
"""Seconds to back off: short beside a client's patience, long beside an accept."""
_COMPLAIN = 10.0
"""Seconds between two log lines about the same trouble."""


_FIXES = {
    errno.EADDRINUSE: "something else listens there: stop it, choose another port, or pass port=0 for any free one",
    errno.EACCES: "this user may not: choose a port from 1024 up, or give the process CAP_NET_BIND_SERVICE",
    errno.EADDRNOTAVAIL: "this machine has no such address: 127.0.0.1 is itself, 0.0.0.0 every address it has",
}


class Listener:
    """A listening TCP socket. `accept` may be called by any number of threads; the rest by the one that owns it.

    host, port: where to listen; port 0 lets the system choose. OSError, with what to do about it, if that fails.
    backlog: connections the kernel may queue (listen(2); the system bounds it by net.core.somaxconn).
    timeout: seconds that one read or write on an accepted socket may take before it raises BlockingIOError.
    """

    def __init__(self, host: str, port: int, backlog: int, timeout: float) -> None:
        # Fixed at construction.
        self._socket = _listen(host, port, backlog, timeout)
        self.address: tuple[str, int] = self._socket.getsockname()[:2]
        """Host and port, the real ones."""
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._waiters = _Waiters(self._socket.fileno(), self._wake_reader.fileno())
        # Written by `stop`, before the flag is set; taken from by any thread. deque: append and popleft are atomic.
        self._drained: deque[Accepted] = deque()
        self._stopped = False
        # Written by any accepting thread; two at once make one log line more.
        self._complained_at = -_COMPLAIN

    def accept(self, timeout: float | None = None) -> Accepted | None:
        """The next connection; None for good once stopped. TimeoutError if none came for `timeout` seconds.

        Never raises for what the network does: see RETRY and BACK_OFF. Tries first and waits then, so a busy server
        does not wait at all.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            if self._stopped:
                return self.take_drained()
            try:
                sock, address = self._socket.accept()
                return sock, address[:2]
            except BlockingIOError:
                pause = False
            except OSError as error:
                if error.errno in RETRY or self._stopped:  # stopped: EINVAL, the socket having been shut down
                    continue
                self._complain(error)
                pause = True
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError
            if pause:
                self._pause()
            else:
                self._wait(left)

    def stop(self) -> None:
        """Accept no more, and wake everybody; a second call does nothing. `accept` still returns what was queued."""
        if self._stopped:
            return
        self._drain()
        self._stopped = True
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:  # not everywhere can a listen socket be shut down; closing it will do
            pass
        self._wake_writer.send(b"!")

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
        self._socket.close()
        self._wake_reader.close()
        self._wake_writer.close()

    def _drain(self) -> None:
        while True:
            try:
                sock, address = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in RETRY:
                    continue
                logger.warning("connections waiting in the kernel's backlog are lost: %s", error)
                return
            self._drained.append((sock, address[:2]))

    def _wait(self, timeout: float | None) -> None:
        """Wait for a connection or for `stop`, or for nothing: the caller tries again in any case."""
        try:
            self._waiters.wait(timeout)
        except OSError as error:  # no descriptor for this thread's epoll set: as little as there is for a connection
            self._complain(error)
            self._pause()

    def _pause(self) -> None:
        poll = select.poll()  # takes no descriptor, unlike epoll
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


class _Waiters(threading.local):
    """Each thread's own epoll set: made when it first waits, closed with the thread."""

    def __init__(self, listen_fd: int, wake_fd: int) -> None:
        """Run by threading.local once in each thread, at its first access."""
        self._poll: select.epoll | select.poll
        if hasattr(select, "EPOLLEXCLUSIVE"):
            self._poll = select.epoll()
            self._poll.register(listen_fd, select.EPOLLIN | select.EPOLLEXCLUSIVE)
            self._poll.register(wake_fd, select.EPOLLIN)
            self._unit = 1.0
        else:
            self._poll = select.poll()
            self._poll.register(listen_fd, select.POLLIN)
            self._poll.register(wake_fd, select.POLLIN)
            self._unit = 1000.0

    def wait(self, timeout: float | None) -> None:
        self._poll.poll(None if timeout is None else timeout * self._unit)


def _listen(host: str, port: int, backlog: int, timeout: float) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        sock = socket.create_server(address, family=family, backlog=backlog)
    except OSError as error:
        fix = _FIXES.get(error.errno or 0, "")
        if isinstance(error, socket.gaierror):
            fix = "pass an address or a name of this machine"
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}; {fix}".rstrip("; ")) from error
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
