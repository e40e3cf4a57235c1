"""Where to listen: the texts people write, what they mean, and sockets that listen already.

    "127.0.0.1:8080", "localhost:8080"   one address of this machine; of a name, the first address that it resolves to
    "[::1]:8080"                         an IPv6 address, in brackets as in URLs (RFC 3986, section 3.2.2)
    ":8080"                              every address of this machine, IPv6 and IPv4; IPv4 only where there is no IPv6
    "0.0.0.0:8080"                       every IPv4 address
    "[::]:8080"                          every IPv6 and every IPv4 address: one socket for both (ipv6(7), IPV6_V6ONLY)
    "unix:/run/app.sock"                 a file, with the permissions that the umask leaves (unix(7))
    "unix:@name"                         a name in Linux's abstract namespace, where there is no file
    "fd://3"                             a listening descriptor that this process has inherited, here number 3
    "systemd"                            every listening descriptor that systemd has passed on: sd_listen_fds(3)

Port 0 lets the system choose. `parse_address(str(address)) == address`, whatever the address.

`acceptor.listen_socket` makes listen sockets of them; those that were inherited are found here.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from taskmaster.arguments import whole_number

__all__ = ["Address", "Bound", "InheritedAddress", "TCPAddress", "UnixAddress", "cannot_listen", "check_listening",
           "chosen_addresses", "inherited_socket", "inherited_sockets", "parse_address", "unbound_name"]


@dataclass(frozen=True)
class TCPAddress:
    """host: a name, an IPv4 address, or an IPv6 address without brackets; "" is every address of this machine."""

    host: str
    port: int

    def __post_init__(self) -> None:
        whole_number("port", self.port, at_least=0, at_most=65535)

    def __str__(self) -> str:
        """As in URLs."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class UnixAddress:
    """path: of the socket's file; or "@name", in the abstract namespace."""

    path: str
    host = "unix"
    port = 0

    def __post_init__(self) -> None:
        # unix(7): sun_path has 108 bytes; a path ends with a zero byte, an abstract name begins with one (here "@").
        size = len(os.fsencode(self.path).removeprefix(b"@"))
        if not 0 < size < 108 or "\0" in self.path:
            raise ValueError(f"path={self.path!r}: write a path, or @ and a name, of 1 to 107 bytes without zero bytes")

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True)
class InheritedAddress:
    """descriptor: the number of a listening socket that this process was started with; None is all of systemd's."""

    descriptor: int | None = None

    def __str__(self) -> str:
        return "systemd" if self.descriptor is None else f"fd://{self.descriptor}"


Bound = TCPAddress | UnixAddress
"""Where a socket really listens."""
Address = TCPAddress | UnixAddress | InheritedAddress


def parse_address(text: str) -> Address:
    """The address that `text` means: see the module. TypeError or ValueError, with what to write, if it means none."""
    if not isinstance(text, str):
        raise TypeError(f'{text!r}: pass an address as text, such as "127.0.0.1:8080", not {type(text).__name__}')
    if text == "systemd":
        return InheritedAddress()
    if text.startswith("unix:"):
        try:
            return UnixAddress(text[5:])
        except ValueError:
            raise ValueError(f'{text!r} is no address: write "unix:/run/app.sock", or "unix:@name" without a file; at '
                             "most 107 bytes, none of them zero") from None
    if text.startswith("fd://"):
        if not re.fullmatch("[0-9]{1,9}", text[5:]):
            raise ValueError(f'{text!r} is no address: write the number of a descriptor, such as "fd://3"')
        return InheritedAddress(int(text[5:]))
    host, _, port = text.rpartition(":")
    if problem := _problem(text, host, port):
        raise ValueError(f"{text!r} is no address to listen on: {problem}")
    return TCPAddress(host.strip("[]"), int(port))


def _problem(text: str, host: str, port: str) -> str | None:
    """What is wrong with the text of a TCP address, and what to write; None if nothing is."""
    if not text.strip():
        return 'it is empty; write "127.0.0.1:8080"'
    if text.startswith(("/", "./", "../")):
        return f'for a UNIX socket, write "unix:{text}"'
    if "," in text:
        return 'write one address, such as "127.0.0.1:8080", and give each by itself'
    if host == "*":
        return f'write ":{port}" for every address of this machine'
    if "://" in text:
        return f'a scheme has no place here; write "{text.partition("://")[2].strip("/")}"'
    if ":" in host and not host.startswith("["):
        written = f"[{host}]:{port}" if _is_ipv6(host) else f"[{text}]:8080" if _is_ipv6(text) else "[::1]:8080"
        return f'an IPv6 address stands in brackets; write "{written}"'
    if not port or ":" not in text or text.endswith("]"):
        return f'the port is missing; write "{text.rstrip(":")}:8080", or ":8080" for every address of this machine'
    if not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        return 'its port is no number from 0 to 65535; write "127.0.0.1:8080"'
    if host.startswith("["):
        if not host.endswith("]") or not _is_ipv6(host[1:-1]):
            return 'in the brackets belongs an IPv6 address; write "[::1]:8080"'
    elif not re.fullmatch(r"[\w.-]*", host):
        return 'write a name or an address, as in "127.0.0.1:8080"; ":8080" is every address of this machine'
    return None


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def chosen_addresses(host: str | None, port: int | None,
                     bind: str | socket.socket | Sequence[str | socket.socket] | None
                     ) -> list[Address | socket.socket]:
    """Where to listen, as an acceptor is told it; TypeError or ValueError, with the fix, if that cannot be."""
    if bind is None:
        if host is not None and (not isinstance(host, str) or not host):
            raise TypeError(f'host={host!r}: pass a name or an address, "0.0.0.0" for all of this machine\'s')
        return [TCPAddress("127.0.0.1" if host is None else host,
                           whole_number("port", 8080 if port is None else port, at_least=0, at_most=65535))]
    if host is not None or port is not None:
        raise ValueError(f"host={host!r}, port={port!r} and bind={bind!r}: pass either host and port, or bind")
    several = [bind] if isinstance(bind, (str, socket.socket)) else list(bind)
    if not several:
        raise ValueError('bind=[]: pass at least one address, such as bind=["127.0.0.1:8080"]')
    return [each if isinstance(each, socket.socket) else parse_address(each) for each in several]


def unbound_name(address: Address | socket.socket) -> Bound:
    """What to call `address` as long as it has not been bound."""
    if isinstance(address, (TCPAddress, UnixAddress)):
        return address
    return UnixAddress(f"@{address}" if isinstance(address, InheritedAddress) else "@socket")


def inherited_sockets(environ: Mapping[str, str]) -> list[socket.socket]:
    """The listen sockets that systemd has passed to this process: sd_listen_fds(3), which reads LISTEN_PID and
    LISTEN_FDS. OSError if there are none, if they are for another process, or if one of them does not listen."""
    pid, count = environ.get("LISTEN_PID", ""), environ.get("LISTEN_FDS", "")
    if not pid or not re.fullmatch("[1-9][0-9]{0,4}", count):
        raise cannot_listen("systemd", errno.ENOENT, why=f"it has passed no socket to this process (LISTEN_PID={pid} "
                            f"LISTEN_FDS={count})", fix="start it from a .socket unit, or by systemd-socket-activate")
    if pid != str(os.getpid()):
        raise cannot_listen("systemd", errno.ENOENT, fix="a shell or a wrapper in between must exec this program",
                            why=f"it has passed sockets to process {pid}, and this is {os.getpid()}")
    sockets: list[socket.socket] = []
    try:
        for descriptor in range(3, 3 + int(count)):  # SD_LISTEN_FDS_START
            sockets.append(inherited_socket(descriptor))
    except OSError:
        for sock in sockets:
            sock.detach()
        raise
    return sockets


def inherited_socket(descriptor: int) -> socket.socket:
    """The listen socket that this process has inherited under that number. OSError, and the descriptor is left as it
    was, if there is none."""
    name = InheritedAddress(descriptor)
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        fix = "pass on a listening socket" if error.errno == errno.ENOTSOCK else \
            "whoever starts this process must pass the descriptor on, open and without FD_CLOEXEC"
        raise cannot_listen(name, error.errno, fix=fix) from error
    try:
        check_listening(sock, name)
    except OSError:
        sock.detach()
        raise
    sock.set_inheritable(False)  # as sd_listen_fds(3) does: not for the children of this process
    return sock


def check_listening(sock: socket.socket, name: object) -> None:
    """OSError if `sock`, called `name` in the message, does not listen for streams of TCP or AF_UNIX."""
    families = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
    if sock.family not in families or sock.type != socket.SOCK_STREAM:
        raise cannot_listen(name, errno.EPROTOTYPE, fix="pass on a stream socket, of TCP or AF_UNIX")
    try:
        listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise cannot_listen(name, error.errno, fix="pass on a socket that is open") from error
    if not listens:
        raise cannot_listen(name, errno.EINVAL, why="it does not listen", fix="call listen(2) before passing it on")


def cannot_listen(name: object, number: int | None, *, fix: str, why: str | None = None) -> OSError:
    """The error to raise: `why`, or what the errno `number` says, and what to do about it."""
    number = number or 0
    return OSError(number, f"cannot listen on {name}: {why or os.strerror(number)}; {fix}")
