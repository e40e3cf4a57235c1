"""One listen socket: opened or taken over, accepted from, and given back.

What an accepted socket needs (the tick, TCP_NODELAY) is set on the listen socket, because on Linux accepted TCP sockets
inherit it and it costs no system call for each. Those of AF_UNIX do not, and elsewhere it is not to be relied upon:
there each accepted socket gets it.

A socket that this process has opened is its own: when the server stops it is shut down, and its file removed. One that
was inherited is not. Whoever passed it on may go on listening with it, and keeps the clients that come in between; so
it is neither shut down nor is its file removed, as systemd.socket(5) asks.

The file of an AF_UNIX socket outlives a process that was killed, and is in the way of the next. That nobody listens
there is seen by connecting: ECONNREFUSED (unix(7)). Of two servers that start on one path in the same instant, each may
find that of the other in this state, and the one that comes later has it.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
import sys

from acceptor.addresses import (
    Address,
    Bound,
    InheritedAddress,
    TCPAddress,
    UnixAddress,
    cannot_listen,
    check_listening,
    inherited_socket,
    inherited_sockets,
)

__all__ = ["LINUX", "Accepted", "ListenSocket", "open_sockets", "plain_address", "set_tick", "waited_in_kernel"]

Accepted = tuple[socket.socket, tuple[str, int]]
"""A connected socket, blocking, and the address of its peer: host and port, or ("unix", 0)."""

LINUX = sys.platform == "linux"

_FIXES = {
    errno.EADDRINUSE: "something else listens there: stop it, choose another port; port 0 is any free one",
    errno.EACCES: "this user may not: choose a port from 1024 up, or give the process CAP_NET_BIND_SERVICE",
    errno.EADDRNOTAVAIL: "this machine has no such address: use 127.0.0.1 for this machine only, 0.0.0.0 for all its "
                         "addresses",
}
_UNIX_FIXES = {
    errno.EADDRINUSE: "something else listens there: stop it, or choose another name",
    errno.EACCES: "this user may not: choose another directory, or let the user write in that one",
    errno.ENOENT: "there is no such directory: make it first",
    errno.EEXIST: "it is no socket: remove it, or choose another path",
}


_UNACKED, _LAST_DATA_SENT = 24, 44
"""Where these begin in struct tcp_info (linux/tcp.h)."""


def waited_in_kernel(sock: socket.socket) -> float | None:
    """Seconds since the handshake of a connection that has just been accepted, and over which nothing has been sent.

    By the tick of the kernel, some milliseconds. None where the system does not tell. One system call.
    """
    numbers = _tcp_info(sock, _LAST_DATA_SENT, 1)
    return numbers[0] / 1000 if numbers else None


def _tcp_info(sock: socket.socket, offset: int, count: int) -> tuple[int, ...]:
    """`count` 32-bit numbers of struct tcp_info; empty where there is none: elsewhere, of AF_UNIX, once closed."""
    if not LINUX or sock.family == socket.AF_UNIX:
        return ()
    try:
        return struct.unpack_from(f"={count}I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), offset)
    except (OSError, struct.error):
        return ()


class ListenSocket:
    """`sock` listens, does not block, and is this object's from now on.

    tick: seconds, 0.001 at least, that one read or write on an accepted socket may take.
    inherited: somebody else may hold it too.
    """

    def __init__(self, sock: socket.socket, tick: float, *, inherited: bool = False) -> None:
        self.sock = sock
        self.inherited = inherited
        self._tick = tick
        self._family, self._proto = int(sock.family), sock.proto
        self._is_unix = self._family == socket.AF_UNIX
        self._on_linux = LINUX
        self._file: tuple[str, int, int] | None = None
        self._configure(sock)
        sock.setblocking(False)

    @property
    def address(self) -> Bound:
        """Where it listens: port 0 has become the real one."""
        name = self.sock.getsockname()
        if self.sock.family != socket.AF_UNIX:
            return TCPAddress(*name[:2])
        return UnixAddress(os.fsdecode(name).replace("\0", "@"))  # an abstract name begins with a zero byte

    def accept(self) -> Accepted:
        """Take the next connection. For any number of threads; raises what the system call answers."""
        # As socket.accept does, but with the numbers of what it is: that makes an enum of them, each time, and of 10 us
        # it takes 5 for that.
        descriptor, peer = self.sock._accept()  # type: ignore[attr-defined]
        sock = socket.socket(self._family, socket.SOCK_STREAM, self._proto, descriptor)
        if sock.gettimeout() is not None:  # socket.setdefaulttimeout() has been called
            sock.settimeout(None)
        if self._is_unix or not self._on_linux:
            try:
                self._configure(sock)
                if not self._on_linux:  # elsewhere it inherits that it does not block: accept(2)
                    sock.setblocking(True)
            except OSError as error:  # in some systems so, if the client has gone again
                sock.close()
                raise ConnectionAbortedError(errno.ECONNABORTED, str(error)) from error
        if self._family == socket.AF_INET:
            return sock, peer
        return sock, ("unix", 0) if self._is_unix else plain_address(peer)

    @property
    def queue(self) -> tuple[int, int] | None:
        """Connections that wait to be accepted, and how many may. None where the system does not tell. Any thread.

        tcp_get_info() in Linux's net/ipv4/tcp.c: for a socket that listens, tcpi_unacked and tcpi_sacked are these.
        """
        numbers = _tcp_info(self.sock, _UNACKED, 2)
        return (numbers[0], numbers[1]) if numbers else None

    @property
    def listens(self) -> bool:
        """It is open, and nobody has shut it down. (Of AF_UNIX that cannot be told.)"""
        try:
            return self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) != 0
        except OSError:  # closed
            return False

    def own_file(self, path: str) -> None:
        """The file at `path` has just been made for it: `close` removes it."""
        made = os.lstat(path)
        self._file = os.path.abspath(path), made.st_dev, made.st_ino

    def disown(self) -> None:
        """Another process has it, and with it the file made for it."""
        self._file = None

    def close(self) -> None:
        """Close it, and remove the file made for it, unless another has taken its place meanwhile."""
        if self._file is not None:
            path, *made = self._file
            try:
                found = os.lstat(path)
                if [found.st_dev, found.st_ino] == made:  # before it is closed: then the system may use st_ino again
                    os.unlink(path)
            except OSError:  # gone, or out of reach by now
                pass
            self._file = None
        self.sock.close()

    def _configure(self, sock: socket.socket) -> None:
        set_tick(sock, self._tick)
        if not self._is_unix:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def plain_address(name: tuple[str, int] | tuple[str, int, int, int]) -> tuple[str, int]:
    """Host and port of a TCP socket's name, of IPv4 or IPv6."""
    host, port = name[:2]
    if "." in host:  # IPv4; where one socket listens for both, it comes as ::ffff:192.0.2.1 (ipv6(7))
        host = host.removeprefix("::ffff:")
    return host, port


def set_tick(sock: socket.socket, seconds: float) -> None:
    """Have reads and writes of `sock` raise BlockingIOError after `seconds` (SO_RCVTIMEO and SO_SNDTIMEO, which answer
    EAGAIN: socket(7)); 0: never."""
    interval = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, interval)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, interval)


def open_sockets(address: Address | socket.socket, backlog: int, tick: float, *, reuse_port: bool = False
                 ) -> list[ListenSocket]:
    """Listen on `address`, or take over what listens already; several sockets for "systemd".

    backlog: connections the kernel may queue (listen(2)); an inherited socket has one already.
    reuse_port: of a TCP address, other processes of this user may listen there too (SO_REUSEPORT: socket(7)).

    OSError, with what to do
    about it, if the address cannot be had; then nothing is left open, and what was inherited is left as it was.
    """
    if isinstance(address, TCPAddress):
        return [_listen_tcp(address, backlog, tick, reuse_port)]
    if isinstance(address, UnixAddress):
        return [_listen_unix(address, backlog, tick)]
    if isinstance(address, socket.socket):
        check_listening(address, address)
        sockets = [address]
    elif not isinstance(address, InheritedAddress):
        raise TypeError(f"{address!r}: pass an address, which parse_address() makes of text, or a listening socket")
    elif address.descriptor is None:
        sockets = inherited_sockets(os.environ)
    else:
        sockets = [inherited_socket(address.descriptor)]
    return [ListenSocket(sock, tick, inherited=True) for sock in sockets]


def _listen_tcp(address: TCPAddress, backlog: int, tick: float, reuse_port: bool) -> ListenSocket:
    host = address.host or ("::" if socket.has_dualstack_ipv6() else "0.0.0.0")
    try:
        family, _, _, _, name = socket.getaddrinfo(host, address.port, type=socket.SOCK_STREAM,
                                                   flags=socket.AI_PASSIVE)[0]
        # ipv6(7): with IPV6_V6ONLY off, [::] takes IPv4 connections too; on any other address it makes no difference.
        dual = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
        sock = socket.create_server(name, family=family, backlog=backlog, dualstack_ipv6=dual,
                                    reuse_port=reuse_port)
    except (socket.gaierror, UnicodeError) as error:  # UnicodeError: it cannot even be asked for
        number = error.errno if isinstance(error, OSError) else socket.EAI_NONAME
        why = error.strerror if isinstance(error, OSError) else "no such name is possible"
        raise cannot_listen(address, number, why=why, fix="pass an address or a name of this machine") from error
    except OSError as error:
        fix = _FIXES.get(error.errno or 0, "see the errno in bind(2)")
        if error.errno == errno.EADDRINUSE and name[0] == "::":
            fix += "; [::] takes IPv4 too, so 0.0.0.0 beside it is one too many"
        raise cannot_listen(address, error.errno, fix=fix) from error
    return ListenSocket(sock, tick)


def _listen_unix(address: UnixAddress, backlog: int, tick: float) -> ListenSocket:
    abstract = address.path.startswith("@")
    try:
        if not abstract:
            _remove_stale(address.path)
        listening = ListenSocket(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), tick)
        try:
            listening.sock.bind(f"\0{address.path[1:]}" if abstract else address.path)
            if not abstract:
                listening.own_file(address.path)
            listening.sock.listen(backlog)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        fix = _UNIX_FIXES.get(error.errno or 0, "see the errno in bind(2) and unix(7)")
        raise cannot_listen(address, error.errno, fix=fix) from error
    return listening


def _remove_stale(path: str) -> None:
    """Remove a socket's file if nobody listens there. OSError if somebody does, or if it is another sort of file."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:  # it does not exist; or else bind(2) will say what is wrong
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # where the backlog is full, the answer is EAGAIN: somebody listens
        number = probe.connect_ex(path)
    if number == errno.ECONNREFUSED:
        os.unlink(path)
    elif number != errno.ENOENT:  # gone meanwhile
        raise OSError(errno.EACCES if number == errno.EACCES else errno.EADDRINUSE, path)
