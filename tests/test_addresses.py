"""Texts into addresses and back, and the listen sockets that are opened, inherited or refused for them."""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acceptor import listen_socket as module
from acceptor.addresses import (
    Address,
    InheritedAddress,
    TCPAddress,
    UnixAddress,
    inherited_socket,
    inherited_sockets,
    parse_address,
)
from acceptor.listen_socket import ListenSocket, open_sockets, set_tick

PATIENCE = 10.0


def opened(address: Address | socket.socket) -> ListenSocket:
    [listening] = open_sockets(address, 16, 5.0)
    return listening


@pytest.fixture
def descriptor() -> Iterator[int]:
    """A listening descriptor, as inherited; it is closed with the socket that takes it over."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        number = sock.detach()
        os.set_inheritable(number, True)
        yield number


# Texts.

@pytest.mark.parametrize(("text", "address"), [
    ("127.0.0.1:8080", TCPAddress("127.0.0.1", 8080)),
    ("localhost:8080", TCPAddress("localhost", 8080)),
    ("app-1.example_x.org:0", TCPAddress("app-1.example_x.org", 0)),
    ("[::1]:8080", TCPAddress("::1", 8080)),
    ("[fe80::1%eth0]:65535", TCPAddress("fe80::1%eth0", 65535)),
    (":8080", TCPAddress("", 8080)),
    ("0.0.0.0:80", TCPAddress("0.0.0.0", 80)),
    ("[::]:8080", TCPAddress("::", 8080)),
    ("unix:/run/app.sock", UnixAddress("/run/app.sock")),
    ("unix:app.sock", UnixAddress("app.sock")),
    ("unix:@name", UnixAddress("@name")),
    ("fd://3", InheritedAddress(3)),
    ("systemd", InheritedAddress()),
])
def test_what_a_text_means_and_how_it_is_shown(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(("text", "say"), [
    ("", 'it is empty; write "127.0.0.1:8080"'),
    ("/run/app.sock", 'write "unix:/run/app.sock"'),
    ("127.0.0.1:80,127.0.0.1:81", "give each by itself"),
    ("::1:4242", 'an IPv6 address stands in brackets; write "[::1]:4242"'),
    (":", 'the port is missing; write ":8080"'),
    ("8080", '":8080" for every address of this machine'),
    ("127.0.0.1", 'the port is missing; write "127.0.0.1:8080"'),
    ("127.0.0.1:", 'the port is missing; write "127.0.0.1:8080"'),
    ("[::1]", 'the port is missing; write "[::1]:8080"'),
    ("[::1]:", 'the port is missing; write "[::1]:8080"'),
    ("::1", 'an IPv6 address stands in brackets; write "[::1]:8080"'),
    ("fe80::1:8080", "an IPv6 address stands in brackets"),
    ("a:b:80", "an IPv6 address stands in brackets"),
    ("127.0.0.1:http", "its port is no number from 0 to 65535"),
    ("127.0.0.1:65536", "its port is no number from 0 to 65535"),
    ("127.0.0.1:-1", "its port is no number from 0 to 65535"),
    ("127.0.0.1: 80", "its port is no number from 0 to 65535"),
    ("127.0.0.1:٨٠", "its port is no number from 0 to 65535"),
    ("127.0.0.1:" + "1" * 5000, "its port is no number from 0 to 65535"),
    ("[127.0.0.1]:80", "in the brackets belongs an IPv6 address"),
    ("[::1:80", "in the brackets belongs an IPv6 address"),
    ("[]:80", "in the brackets belongs an IPv6 address"),
    ("http://127.0.0.1:8080/", 'a scheme has no place here; write "127.0.0.1:8080"'),
    ("*:80", 'write ":80" for every address of this machine'),
    ("my host:80", "write a name or an address"),
    ("a/b:80", "write a name or an address"),
    ("a]:80", "write a name or an address"),
    ("unix:", 'write "unix:/run/app.sock", or "unix:@name"'),
    ("unix:@", 'write "unix:/run/app.sock", or "unix:@name"'),
    ("unix:/a\0b", 'write "unix:/run/app.sock", or "unix:@name"'),
    ("unix:/" + "x" * 107, "at most 107 bytes"),
    ("unix:/" + "é" * 54, "at most 107 bytes"),
    ("unix:@" + "x" * 108, "at most 107 bytes"),
    ("fd://", 'such as "fd://3"'),
    ("fd://three", 'such as "fd://3"'),
    ("fd://-1", 'such as "fd://3"'),
    ("fd://99999999999", 'such as "fd://3"'),
])
def test_a_wrong_text_says_what_to_write(text: str, say: str) -> None:
    with pytest.raises(ValueError, match=re.escape(say)) as caught:
        parse_address(text)
    assert str(caught.value).startswith(repr(text))


def test_what_is_no_text_is_a_type_error() -> None:
    with pytest.raises(TypeError, match=r'pass an address as text, such as "127.0.0.1:8080", not int'):
        parse_address(8080)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"parse_address\(\) makes of text"):
        open_sockets("127.0.0.1:8080", 16, 5.0)  # type: ignore[arg-type]


def test_addresses_are_checked_however_they_are_made() -> None:
    with pytest.raises(ValueError, match="port=65536: pass a whole number from 0 to 65535"):
        TCPAddress("127.0.0.1", 65536)
    with pytest.raises(ValueError, match="write a path"):
        UnixAddress("")


ports = st.integers(0, 65535)
tcp = st.builds(TCPAddress, st.just("") | st.from_regex(r"[\w.-]+", fullmatch=True)
                | st.ip_addresses().map(str), ports)
paths = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=107).filter(
    lambda path: 0 < len(path.encode().removeprefix(b"@")) < 108)
inherited = st.builds(InheritedAddress, st.none() | st.integers(0, 999_999_999))


@given(tcp | st.builds(UnixAddress, paths) | inherited)
def test_every_address_is_read_back_as_it_is_shown(address: Address) -> None:
    assert parse_address(str(address)) == address


@given(st.text(max_size=12) | st.text("[]:.@01/%funixd-", max_size=16))
def test_any_text_is_an_address_that_can_be_shown_or_says_what_to_write(text: str) -> None:
    said = ""
    try:
        address = parse_address(text)
    except ValueError as error:
        said = str(error)
    assert "write" in said if said else parse_address(str(address)) == address


# TCP.

@pytest.mark.parametrize("text", [":0", "[::]:0"])
def test_one_socket_for_ipv6_and_ipv4(text: str) -> None:
    listening = opened(parse_address(text))
    assert str(listening.address) == f"[::]:{listening.address.port}"
    assert listening.address.port > 0
    for host in ("127.0.0.1", "::1"):
        with socket.create_connection((host, listening.address.port), PATIENCE) as client:
            sock, peer = listening.accept()
            assert peer == client.getsockname()[:2], "an IPv4 address looks like one"
            sock.close()
    listening.close()


def test_ipv4_only_where_there_is_no_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    listening = opened(parse_address(":0"))
    assert listening.address.host == "0.0.0.0"
    listening.close()


def test_ipv4_beside_all_addresses_is_one_too_many() -> None:
    listening = opened(TCPAddress("0.0.0.0", 0))
    with pytest.raises(OSError, match=r"something else listens there.*\[::\] takes IPv4 too") as caught:
        opened(TCPAddress("::", listening.address.port))
    assert caught.value.errno == errno.EADDRINUSE
    listening.close()


@pytest.mark.parametrize(("host", "error", "message"), [
    ("203.0.113.7", errno.EADDRNOTAVAIL, "this machine has no such address"),
    ("no such host", socket.EAI_NONAME, "pass an address or a name of this machine"),
    ("a..b", socket.EAI_NONAME, "pass an address or a name of this machine"),
])
def test_an_address_that_cannot_be_had_says_what_to_do(host: str, error: int, message: str) -> None:
    with pytest.raises(OSError, match=message) as caught:
        opened(TCPAddress(host, 0))
    assert caught.value.errno == error
    assert f"cannot listen on {host}:0: " in str(caught.value)


# AF_UNIX.

def connect(path: str) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(PATIENCE)
    client.connect(path)
    return client


@pytest.mark.parametrize("name", ["app", "x" * 107], ids=["short", "longest"])
def test_an_abstract_name_makes_no_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    listening = opened(UnixAddress(f"@{name}"))
    assert listening.address == UnixAddress(f"@{name}")
    connect(f"\0{name}").close()
    listening.accept()[0].close()
    with pytest.raises(OSError, match=f"cannot listen on unix:@{name}: .*stop it, or choose another name") as caught:
        opened(UnixAddress(f"@{name}"))
    assert caught.value.errno == errno.EADDRINUSE
    listening.close()
    assert os.listdir() == []


def test_the_longest_path(tmp_path: Path) -> None:
    directory = Path("/tmp", f"taskmasters-{os.getpid()}")
    directory.mkdir()
    path = str(directory / ("x" * (106 - len(str(directory)))))
    assert len(path) == 107
    listening = opened(parse_address(f"unix:{path}"))
    connect(path).close()
    listening.close()
    directory.rmdir()


def test_the_file_has_the_mode_of_the_umask_and_is_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    former = os.umask(0o027)
    try:
        listening = opened(UnixAddress(str(path)))
    finally:
        os.umask(former)
    assert stat.S_IMODE(path.stat().st_mode) == 0o750
    listening.close()
    listening.close()
    assert not path.exists()


def test_the_file_is_removed_though_the_directory_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    listening = opened(UnixAddress("app.sock"))
    monkeypatch.chdir("/")
    listening.close()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_has_taken_its_place_stays(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    former = opened(UnixAddress(str(path)))
    path.unlink()
    successor = opened(UnixAddress(str(path)))
    former.close()
    connect(str(path)).close()
    successor.close()
    assert not path.exists()


def test_a_file_that_is_gone_is_nobodys_business(tmp_path: Path) -> None:
    listening = opened(UnixAddress(str(tmp_path / "app.sock")))
    (tmp_path / "app.sock").unlink()
    listening.close()


def test_a_stale_file_is_removed_first(tmp_path: Path) -> None:
    path = str(tmp_path / "app.sock")
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(path)
        killed.listen()
    listening = opened(UnixAddress(path))
    connect(path).close()
    listening.close()


@pytest.mark.parametrize("backlog", [8, 0], ids=["with room", "whose backlog is full"])
def test_a_live_server_keeps_its_file(backlog: int, tmp_path: Path) -> None:
    path = str(tmp_path / "app.sock")
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(path)
        live.listen(backlog)
        with connect(path), pytest.raises(OSError, match=f"cannot listen on unix:{path}: .*stop it") as caught:
            opened(UnixAddress(path))
        assert caught.value.errno == errno.EADDRINUSE
        live.accept()[0].close()
        connect(path).close()


def test_a_datagram_server_keeps_its_file(tmp_path: Path) -> None:
    path = str(tmp_path / "app.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as live:
        live.bind(path)
        with pytest.raises(OSError, match="something else listens there"):
            opened(UnixAddress(path))
    assert os.path.exists(path)


@pytest.mark.parametrize("kind", ["file", "directory", "link to a stale socket"])
def test_what_is_no_socket_stays(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    else:
        with socket.socket(socket.AF_UNIX) as killed:
            killed.bind(str(tmp_path / "target"))
        path.symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match=f"cannot listen on unix:{path}: .*it is no socket: remove it") as caught:
        opened(UnixAddress(str(path)))
    assert caught.value.errno == errno.EEXIST
    assert path.exists()


def test_without_its_directory_a_path_cannot_be_had(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"cannot listen on unix:/.*: No such file or directory; .*make it first"):
        opened(UnixAddress(str(tmp_path / "none" / "app.sock")))


def test_a_socket_that_may_not_be_connected_to_is_not_taken_for_a_stale_one(tmp_path: Path,
                                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may connect to everything: so the answer of connect(2) is made up."""
    path = str(tmp_path / "app.sock")
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(path)
        live.listen()
        monkeypatch.setattr(socket.socket, "connect_ex", lambda sock, path: errno.EACCES)
        with pytest.raises(OSError, match="this user may not") as caught:
            opened(UnixAddress(path))
        assert caught.value.errno == errno.EACCES
        assert os.path.exists(path)


# Inherited.

def test_an_inherited_descriptor_is_taken_over(descriptor: int) -> None:
    listening = opened(parse_address(f"fd://{descriptor}"))
    assert listening.sock.fileno() == descriptor
    assert not os.get_inheritable(descriptor), "not for the children of this process"
    assert not os.get_blocking(descriptor)
    assert listening.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert listening.inherited
    with socket.create_connection((listening.address.host, listening.address.port), PATIENCE):
        listening.accept()[0].close()
    listening.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_the_file_of_an_inherited_socket_stays(tmp_path: Path) -> None:
    path = str(tmp_path / "app.sock")
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    sock.listen()
    listening = opened(sock)
    assert listening.address == UnixAddress(path)
    listening.close()
    assert os.path.exists(path)
    assert sock.fileno() == -1


def test_an_inherited_abstract_name_may_be_padded_with_zero_bytes() -> None:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(b"\0name-%d\0\0" % os.getpid())
    sock.listen()
    listening = opened(sock)
    assert listening.address == UnixAddress(f"@name-{os.getpid()}@@")
    listening.close()


def refused(kind: str) -> socket.socket:
    """A socket that cannot be listened on."""
    if kind == "not listening":
        return socket.socket()
    if kind == "datagrams":
        return socket.socket(type=socket.SOCK_DGRAM)
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)


@pytest.mark.parametrize(("kind", "message"), [
    ("not listening", r"it does not listen; call listen\(2\)"),
    ("datagrams", "pass on a stream socket"),
    ("packets", "pass on a stream socket"),
])
def test_a_socket_of_another_sort_is_refused_and_left_as_it_was(kind: str, message: str) -> None:
    with refused(kind) as sock:
        with pytest.raises(OSError, match=f"cannot listen on .*{message}"):
            opened(sock)
        with pytest.raises(OSError, match=f"cannot listen on fd://{sock.fileno()}: .*{message}"):
            inherited_socket(sock.fileno())
        os.fstat(sock.fileno())


def test_a_descriptor_that_is_no_open_socket_is_refused(tmp_path: Path) -> None:
    with open(tmp_path / "file", "w") as file:
        with pytest.raises(OSError, match=f"cannot listen on fd://{file.fileno()}: .*pass on a listening socket"):
            inherited_socket(file.fileno())
        os.fstat(file.fileno())
        number = file.fileno()
    with pytest.raises(OSError, match=f"cannot listen on fd://{number}: Bad file descriptor; .*pass the descriptor on"):
        inherited_socket(number)
    sock = socket.create_server(("127.0.0.1", 0))
    sock.close()
    with pytest.raises(OSError, match="pass on a socket that is open"):
        opened(sock)


@pytest.mark.parametrize("environ", [
    {},
    {"LISTEN_FDS": "1"},
    {"LISTEN_PID": str(os.getpid())},
    {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0"},
    {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "many"},
    {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "-1"},
], ids=lambda environment: "-".join(environment) + environment.get("LISTEN_FDS", ""))
def test_nothing_from_systemd_is_an_error(environ: dict[str, str]) -> None:
    with pytest.raises(OSError, match=r"cannot listen on systemd: it has passed no socket .*start it from a "):
        inherited_sockets(environ)


def test_sockets_for_another_process_are_not_ours() -> None:
    with pytest.raises(OSError, match=f"passed sockets to process {os.getppid()}, and this is {os.getpid()}; .* exec"):
        inherited_sockets({"LISTEN_PID": str(os.getppid()), "LISTEN_FDS": "1"})


ACTIVATE = """
import fcntl, os, sys
high = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 20) for number in sys.argv[2:]]
for number, descriptor in enumerate(high, 3):
    os.dup2(descriptor, number)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(high))}
os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
"""
"""What systemd does: the sockets become the descriptors from 3 up, and then the program begins."""


def activate(program: str, *descriptors: int) -> str:
    run = subprocess.run([sys.executable, "-c", ACTIVATE, program, *map(str, descriptors)], pass_fds=descriptors,
                         capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
    assert run.stderr == ""
    return run.stdout


def test_all_that_systemd_passes_on_is_listened_on(tmp_path: Path) -> None:
    program = """
from acceptor.addresses import InheritedAddress
from acceptor.listener import Listener
listener = Listener([InheritedAddress()], 16, 5.0)
print(*listener.addresses)
for _ in range(3):
    sock, peer = listener.accept(10.0)
    sock.sendall(b"hello")
    sock.close()
listener.stop()
listener.close()
"""
    path = str(tmp_path / "app.sock")
    with (socket.create_server(("127.0.0.1", 0)) as ipv4, socket.socket(socket.AF_UNIX) as unix,
          socket.create_server(("::1", 0), family=socket.AF_INET6) as ipv6):
        unix.bind(path)
        unix.listen()
        sockets = (ipv4, ipv6, unix)
        clients = []
        for sock in sockets:
            client = socket.socket(sock.family)
            client.settimeout(PATIENCE)
            client.connect(sock.getsockname())
            clients.append(client)
        printed = activate(program, *(sock.fileno() for sock in sockets))
        assert printed.split() == [
            f"127.0.0.1:{ipv4.getsockname()[1]}", f"[::1]:{ipv6.getsockname()[1]}", f"unix:{path}"]
        for client in clients:
            with client:
                assert client.recv(5) == b"hello"


def test_if_one_of_systemds_cannot_be_had_all_are_left_as_they_were() -> None:
    program = """
import os
from acceptor.addresses import inherited_sockets
try:
    inherited_sockets(os.environ)
except OSError as error:
    print(error)
os.fstat(3), os.fstat(4)
"""
    with socket.create_server(("127.0.0.1", 0)) as good, socket.socket() as bad:
        printed = activate(program, good.fileno(), bad.fileno())
    assert "cannot listen on fd://4: it does not listen" in printed


# What accepted sockets have.

@pytest.mark.parametrize("linux", [True, False])
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_what_accepted_sockets_do_not_inherit_is_set_on_each(family: socket.AddressFamily, linux: bool, tmp_path: Path,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINUX", linux)
    [listening] = open_sockets(TCPAddress("127.0.0.1", 0) if family == socket.AF_INET
                               else UnixAddress(str(tmp_path / "app.sock")), 16, 0.25)
    if not linux:  # what could be inherited is taken away
        set_tick(listening.sock, 0)
        if family == socket.AF_INET:
            listening.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
    with socket.socket(family) as client:
        client.connect(listening.sock.getsockname())
        sock, peer = listening.accept()
        assert peer == (("unix", 0) if family == socket.AF_UNIX else client.getsockname())
        with sock:
            assert os.get_blocking(sock.fileno())
            assert sock.gettimeout() is None
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                # The kernel rounds up to its own ticks: socket(7).
                interval = sock.getsockopt(socket.SOL_SOCKET, option, 16)
                assert 0.25 <= int.from_bytes(interval[:8], sys.byteorder) + int.from_bytes(
                    interval[8:], sys.byteorder) / 1e6 < 0.3
            if family == socket.AF_INET:
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    listening.close()


def test_a_client_that_is_gone_before_its_socket_is_ready_is_an_aborted_connection(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listening = opened(UnixAddress(str(tmp_path / "app.sock")))

    def fail(sock: socket.socket) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    with connect(str(tmp_path / "app.sock")) as client:
        monkeypatch.setattr(listening, "_configure", fail)
        with pytest.raises(ConnectionAbortedError) as caught:
            listening.accept()
        assert caught.value.errno == errno.ECONNABORTED
        assert client.recv(1) == b"", "it has been closed"
    listening.close()
