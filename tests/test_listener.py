"""The listener: what accept(2) may answer, how threads wait on several sockets, and how they stop."""

from __future__ import annotations

import errno
import logging
import os
import resource
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from acceptor import listener as module
from acceptor.addresses import Address, Bound, InheritedAddress, TCPAddress, UnixAddress
from acceptor.listen_socket import Accepted
from acceptor.listener import BACK_OFF, BELL, RETRY

PATIENCE = 10.0
ANY = TCPAddress("127.0.0.1", 0)


class Listener(module.Listener):
    """Where nothing is parked, all that comes is new."""

    def accept(self, timeout: float | None = None) -> Accepted | None:
        came = super().accept(timeout)
        assert not isinstance(came, int), came
        return came


@pytest.fixture
def listen() -> Iterator[Callable[..., Listener]]:
    """Make a listener on these addresses, with a backlog of 128 and a tick of 5 s; at the end they are closed."""
    listeners: list[Listener] = []

    def listen(*addresses: Address | socket.socket, tick: float = 5.0) -> Listener:
        listeners.append(Listener(addresses or [ANY], 128, tick))
        return listeners[-1]

    yield listen
    for listener in listeners:
        listener.stop()
        listener.close()


@pytest.fixture
def listener(listen: Callable[..., Listener]) -> Listener:
    return listen()


KINDS: dict[str, Callable[[Path], Address | socket.socket]] = {
    "ipv4": lambda path: ANY,
    "ipv6": lambda path: TCPAddress("::1", 0),
    "all": lambda path: TCPAddress("", 0),
    "unix": lambda path: UnixAddress(str(path / "app.sock")),
    "abstract": lambda path: UnixAddress(f"@taskmasters-{os.getpid()}"),
    "inherited": lambda path: socket.create_server(("127.0.0.1", 0)),
    "descriptor": lambda path: InheritedAddress(socket.create_server(("127.0.0.1", 0)).detach()),
}


@pytest.fixture(params=KINDS)
def each(request: pytest.FixtureRequest, tmp_path: Path, listen: Callable[..., Listener]) -> Listener:
    """A listener on one address of each kind in turn."""
    return listen(KINDS[request.param](tmp_path))


@pytest.fixture
def several(tmp_path: Path, listen: Callable[..., Listener]) -> Listener:
    """A listener on one address of every kind."""
    return listen(*(make(tmp_path) for make in KINDS.values()))


def connect(address: Bound) -> socket.socket:
    if isinstance(address, TCPAddress):
        return socket.create_connection((address.host, address.port), PATIENCE)
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(PATIENCE)
    try:
        sock.connect("\0" + address.path[1:] if address.path.startswith("@") else address.path)
    except OSError:
        sock.close()
        raise
    return sock


def client(listener: Listener) -> socket.socket:
    return connect(listener.addresses[0])


def fill(sock: socket.socket) -> None:
    """Send more than the other side reads."""
    while True:
        sock.send(b"x" * 1_000_000)


class LyingSocket:
    """A listen socket whose accept() first raises what the test says."""

    def __init__(self, real: socket.socket, *errors: int) -> None:
        self._real = real
        self.errors = list(errors)
        self.tried = 0

    def _accept(self) -> tuple[int, tuple[str, int]]:
        self.tried += 1
        if self.errors:
            number = self.errors.pop(0)
            raise OSError(number, os.strerror(number))
        return self._real._accept()  # type: ignore[attr-defined, no-any-return]

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)


def lie(listener: Listener, *errors: int, index: int = 0) -> LyingSocket:
    """Let the listener's socket number `index` answer accept() with these errors first."""
    listening = list(listener._sockets.values())[index]
    lying = LyingSocket(listening.sock, *errors)
    listening.sock = lying  # type: ignore[assignment]
    return lying


@pytest.mark.parametrize("number", sorted(RETRY | BACK_OFF | {errno.EIO, errno.EAGAIN}), ids=errno.errorcode.get)
def test_no_error_of_accept_keeps_the_next_connection_away(listener: Listener, number: int,
                                                           monkeypatch: pytest.MonkeyPatch,
                                                           caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(module, "_PAUSE", 0.001)
    lie(listener, number, number, number)
    with client(listener) as sock:
        accepted = listener.accept(PATIENCE)
        assert accepted is not None
        assert accepted[1] == sock.getsockname()
        accepted[0].close()
    complaints = [record.getMessage() for record in caplog.records]
    if number in RETRY or number == errno.EAGAIN:
        assert complaints == []
    else:
        assert len(complaints) == 1, "three failures in a row, one line"
        assert "trying again" in complaints[0]


def test_whoever_accepts_arms_that_socket_only(listen: Callable[..., Listener]) -> None:
    """A thread has the event of one socket and has not accepted yet; another accepts from another socket."""
    listener = listen(ANY, ANY)
    inside, go_on = threading.Event(), threading.Event()

    class Slow(LyingSocket):
        def _accept(self) -> tuple[int, tuple[str, int]]:
            inside.set()
            assert go_on.wait(PATIENCE)
            return super()._accept()

    first, second = listener._sockets.values()
    slow = first.sock = Slow(first.sock)  # type: ignore[assignment]
    accepted: list[Accepted | None] = []
    thread = threading.Thread(target=lambda: accepted.append(listener.accept(PATIENCE)))
    with connect(first.address):
        thread.start()
        assert inside.wait(PATIENCE)
        with connect(second.address):
            accepted.append(listener.accept(PATIENCE))
        with pytest.raises(TimeoutError):
            listener.accept(0.05)
        go_on.set()
        thread.join(PATIENCE)
    assert slow.tried == 1
    for connection in accepted:
        assert connection is not None
        connection[0].close()


def test_while_one_thread_pauses_for_one_address_the_others_accept_for_another(
        listen: Callable[..., Listener], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    listener = listen(ANY, ANY)
    pausing, go_on = threading.Event(), threading.Event()

    def pause() -> None:
        pausing.set()
        assert go_on.wait(PATIENCE)

    monkeypatch.setattr(listener, "_pause", pause)
    lie(listener, errno.EMFILE)
    accepted: list[object] = []

    def accept() -> None:
        connection = listener.accept(PATIENCE)
        assert connection is not None
        accepted.append(connection[0].getsockname()[1])
        connection[0].close()

    first, second = listener.addresses
    pauses, accepts = threading.Thread(target=accept), threading.Thread(target=accept)
    with connect(first):
        pauses.start()
        assert pausing.wait(PATIENCE)
        with connect(second):
            accepts.start()
            accepts.join(PATIENCE)
            assert accepted == [second.port]
        go_on.set()
        pauses.join(PATIENCE)
    assert accepted == [second.port, first.port]


def test_accept_raises_timeout_when_nobody_comes(several: Listener) -> None:
    with pytest.raises(TimeoutError):
        several.accept(0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_accepted_sockets_block_for_a_tick(kind: str, tmp_path: Path, listen: Callable[..., Listener]) -> None:
    listener = listen(KINDS[kind](tmp_path), tick=0.05)
    with client(listener) as sender:
        accepted = listener.accept(PATIENCE)
        assert accepted is not None
        with accepted[0] as sock:
            assert sock.gettimeout() is None, "a Python timeout costs a poll(2) for every read and write"
            assert os.get_blocking(sock.fileno())
            with pytest.raises(BlockingIOError):
                sock.recv(1)
            with pytest.raises(BlockingIOError):
                fill(sock)
            sender.sendall(b"y")
            assert sock.recv(1) == b"y"
            if sock.family == socket.AF_UNIX:
                assert accepted[1] == ("unix", 0)
            else:
                assert accepted[1] == sender.getsockname()[:2]
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_default_timeout_of_the_program_changes_nothing(tmp_path: Path, listen: Callable[..., Listener]) -> None:
    socket.setdefaulttimeout(0.01)
    try:
        listener = listen(ANY, UnixAddress(str(tmp_path / "app.sock")))
        for address in listener.addresses:
            with connect(address):
                accepted = listener.accept(PATIENCE)
                assert accepted is not None
                assert accepted[0].gettimeout() is None
                accepted[0].close()
    finally:
        socket.setdefaulttimeout(None)


def test_a_connection_to_any_address_is_accepted(several: Listener) -> None:
    for address in several.addresses * 3:
        with connect(address) as sock:
            accepted = several.accept(PATIENCE)
            assert accepted is not None
            accepted[0].sendall(str(address).encode())
            accepted[0].close()
            assert sock.recv(200) == str(address).encode()


def test_a_busy_address_does_not_keep_the_others_waiting(several: Listener) -> None:
    """Each always has a connection waiting; in turn, all are accepted."""
    clients = [connect(address) for address in several.addresses for _ in range(20)]
    names = set()
    for _ in several.addresses:
        accepted = several.accept(PATIENCE)
        assert accepted is not None
        names.add(accepted[0].getsockname())
        accepted[0].close()
    assert len(names) == len(several.addresses)
    for sock in clients:
        sock.close()


@pytest.mark.parametrize("addresses", [[ANY], [ANY, TCPAddress("::1", 0), UnixAddress(f"@herd-{os.getpid()}")]],
                         ids=["one address", "three addresses"])
def test_a_connection_wakes_one_of_many_threads(listen: Callable[..., Listener], addresses: list[Address]) -> None:
    listener = listen(*addresses)
    accepted: list[object] = []
    woken = threading.Semaphore(0)
    lying = [lie(listener, index=index) for index in range(len(addresses))]

    def wait() -> None:
        while (connection := listener.accept()) is not None:
            accepted.append(connection)
            connection[0].close()
            woken.release()

    threads = [threading.Thread(target=wait) for _ in range(16)]
    for thread in threads:
        thread.start()
    for number in range(48):
        with connect(listener.addresses[number % len(addresses)]) as sock:
            assert woken.acquire(timeout=PATIENCE)
            sock.recv(1)
    tried = sum(sock.tried for sock in lying)
    listener.stop()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "stop() did not wake it"
    assert len(accepted) == 48
    assert tried <= 58, f"{tried} threads tried to accept 48 connections: that is a thundering herd"


def test_an_inherited_socket_that_somebody_shuts_down_does_not_make_threads_spin(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listen: Callable[..., Listener]) -> None:
    """One of AF_UNIX is readable then, and there is nothing to accept: EAGAIN, for ever."""
    with socket.socket(socket.AF_UNIX) as theirs:
        theirs.bind(str(tmp_path / "app.sock"))
        theirs.listen()
        listener = listen(theirs.dup())
        paused = threading.Event()
        real = listener._pause

        def pause() -> None:
            paused.set()
            real()

        monkeypatch.setattr(listener, "_pause", pause)
        thread = threading.Thread(target=listener.accept)
        thread.start()
        theirs.shutdown(socket.SHUT_RDWR)
        assert paused.wait(PATIENCE)
        listener.stop()
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_what_the_kernel_had_queued_is_accepted_after_stop_and_not_reset(several: Listener) -> None:
    clients = [connect(address) for address in several.addresses for _ in range(3)]
    for sock in clients:
        sock.sendall(b"hello")
    several.stop()
    served = 0
    while (accepted := several.accept()) is not None:
        with accepted[0] as sock:
            assert sock.recv(5) == b"hello"
            sock.sendall(b"goodbye")
            served += 1
    assert served == len(clients)
    for sock in clients:
        with sock:
            assert sock.recv(7) == b"goodbye"


@pytest.mark.parametrize("kind", ["unix", "abstract"])
def test_a_unix_client_that_comes_between_draining_and_shutdown_is_not_lost(
        kind: str, tmp_path: Path, listen: Callable[..., Listener], monkeypatch: pytest.MonkeyPatch) -> None:
    listener = listen(KINDS[kind](tmp_path))
    [listening] = listener._sockets.values()
    late: list[socket.socket] = []

    class Shutdown(LyingSocket):
        def shutdown(self, how: int) -> None:
            if not late:
                late.append(client(listener))
            self._real.shutdown(how)

    listening.sock = Shutdown(listening.sock)  # type: ignore[assignment]
    listener.stop()
    accepted = listener.take_drained()
    assert accepted is not None
    with accepted[0] as sock, late[0]:
        sock.sendall(b"x")
        assert late[0].recv(1) == b"x"


def test_a_client_that_comes_to_one_address_while_another_is_drained_is_not_lost(
        listen: Callable[..., Listener]) -> None:
    listener = listen(ANY, ANY)
    late: list[socket.socket] = []

    class Slow(LyingSocket):
        def _accept(self) -> tuple[int, tuple[str, int]]:
            if not late:
                late.append(client(listener))
            return super()._accept()

    _, second = listener._sockets.values()
    second.sock = Slow(second.sock)  # type: ignore[assignment]
    listener.stop()
    accepted = listener.take_drained()
    assert accepted is not None
    with late[0]:
        assert accepted[1] == late[0].getsockname()
        accepted[0].close()


def test_what_cannot_be_drained_is_logged_once(several: Listener, caplog: pytest.LogCaptureFixture) -> None:
    for index in range(len(several.addresses)):
        lie(several, *[errno.EMFILE] * 3, index=index)
    several.stop()
    [record] = caplog.records
    assert "connections waiting in the kernel's backlog are lost" in record.getMessage()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("inherited", "descriptor")])
def test_after_stop_new_clients_are_turned_away_and_the_address_is_free(
        kind: str, tmp_path: Path, listen: Callable[..., Listener]) -> None:
    listener = listen(KINDS[kind](tmp_path))
    [address] = listener.addresses
    listener.stop()
    with pytest.raises(ConnectionRefusedError):
        connect(address)
    if kind == "abstract":  # the name is free when the socket is closed: unix(7)
        listener.close()
    successor = listen(address)
    listener.close()
    with connect(address):
        accepted = successor.accept(PATIENCE)
        assert accepted is not None
        accepted[0].close()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_whoever_passed_a_socket_on_keeps_listening_and_loses_nobody(
        family: socket.AddressFamily, tmp_path: Path, listen: Callable[..., Listener]) -> None:
    """systemd.socket(5): "It should not invoke shutdown(2) on sockets it got"."""
    with socket.socket(family) as theirs:
        theirs.bind(("127.0.0.1", 0) if family == socket.AF_INET else str(tmp_path / "app.sock"))
        theirs.listen(8)
        listener = listen(theirs.dup())
        [address] = listener.addresses
        with connect(address):
            listener.stop()
            accepted = listener.accept()
            assert accepted is not None
            accepted[0].close()
        clients = [connect(address) for _ in range(5)]  # the backlog is what it was
        assert listener.accept() is None
        listener.close()
        theirs.settimeout(PATIENCE)
        for sock in clients:
            served, _ = theirs.accept()
            served.sendall(b"x")
            served.close()
            assert sock.recv(1) == b"x"
            sock.close()


def test_stop_twice_is_stop_once(each: Listener) -> None:
    with client(each):
        each.stop()
        each.stop()
        accepted = each.accept()
        assert accepted is not None
        accepted[0].close()
        assert each.accept() is None
        assert each.accept() is None
    each.close()
    each.stop()
    each.close()


def test_close_closes_what_nobody_accepted(each: Listener) -> None:
    with client(each) as sock:
        each.stop()
        each.close()
        try:
            assert sock.recv(1) == b""
        except ConnectionResetError:
            pass


def test_pending_says_whether_somebody_waits_and_takes_nothing(each: Listener) -> None:
    assert not each.pending()
    with client(each):
        assert each.pending()
        assert each.pending()
        accepted = each.accept(PATIENCE)
        assert accepted is not None
        assert not each.pending()
        accepted[0].close()
    assert not each.pending()


def test_pending_is_about_every_address(several: Listener) -> None:
    for address in several.addresses:
        with connect(address):
            assert several.pending(), address
            accepted = several.accept(PATIENCE)
            assert accepted is not None
            accepted[0].close()
        assert not several.pending()


def test_pending_neither_takes_nor_arms_what_a_thread_is_about_to_accept(listener: Listener) -> None:
    """A thread has the event and has not accepted yet; while `pending` looks, nobody else is woken."""
    inside, go_on = threading.Event(), threading.Event()

    class Slow(LyingSocket):
        def _accept(self) -> tuple[int, tuple[str, int]]:
            inside.set()
            assert go_on.wait(PATIENCE)
            return super()._accept()

    [listening] = listener._sockets.values()
    slow = Slow(listening.sock)
    listening.sock = slow  # type: ignore[assignment]
    accepted: list[object] = []
    thread = threading.Thread(target=lambda: accepted.append(listener.accept(PATIENCE)))
    with client(listener):
        thread.start()
        assert inside.wait(PATIENCE)
        assert listener.pending()
        with pytest.raises(TimeoutError):
            listener.accept(0.05)
        go_on.set()
        thread.join(PATIENCE)
    assert slow.tried == 1
    [connection] = accepted
    assert isinstance(connection, tuple)
    connection[0].close()


def test_pending_is_false_after_stop(each: Listener) -> None:
    with client(each):
        assert each.pending()
        each.stop()
        assert not each.pending()
    each.close()
    assert not each.pending()


def test_pending_is_false_once_stopped_though_it_finds_somebody(each: Listener,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    """`stop` comes while it looks. Of an inherited socket, or before the shutdown, the queue may fill again."""
    class Looking:
        def poll(self, timeout: float) -> list[tuple[int, int]]:
            found = real.poll(timeout)
            each.stop()
            return found

    real = each._waiting
    monkeypatch.setattr(each, "_waiting", Looking())
    with client(each):
        assert not each.pending()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_pending_is_false_if_somebody_else_has_shut_the_socket_down(
        family: socket.AddressFamily, tmp_path: Path, listen: Callable[..., Listener]) -> None:
    with socket.socket(family) as theirs:
        theirs.bind(("127.0.0.1", 0) if family == socket.AF_INET else str(tmp_path / "app.sock"))
        theirs.listen()
        listener = listen(theirs.dup())
        theirs.shutdown(socket.SHUT_RDWR)
        assert not listener.pending()


def test_where_there_is_no_epoll_it_works_with_poll(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                                    listen: Callable[..., Listener]) -> None:
    monkeypatch.delattr(select, "epoll")
    listener = listen(ANY, UnixAddress(str(tmp_path / "app.sock")))
    with pytest.raises(TimeoutError):
        listener.accept(0.01)
    for address in listener.addresses:
        with connect(address):
            accepted = listener.accept(PATIENCE)
            assert accepted is not None
            accepted[0].close()
    threads = [threading.Thread(target=listener.accept) for _ in range(4)]
    for thread in threads:
        thread.start()
    listener.stop()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_where_there_is_no_epoll_no_address_starves(monkeypatch: pytest.MonkeyPatch,
                                                    listen: Callable[..., Listener]) -> None:
    monkeypatch.delattr(select, "epoll")
    listener = listen(ANY, ANY)
    clients = [connect(address) for address in listener.addresses for _ in range(100)]
    seen = set()
    for _ in range(100):  # always in turn with one of them only: once in 2**99
        accepted = listener.accept(PATIENCE)
        assert accepted is not None
        seen.add(accepted[0].getsockname())
        accepted[0].close()
    assert len(seen) == 2
    for sock in clients:
        sock.close()


def test_off_linux_it_says_what_is_different(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
                                             listen: Callable[..., Listener]) -> None:
    monkeypatch.setattr(module, "LINUX", False)
    listen()
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "made for Linux" in record.getMessage()


def test_addresses_are_the_real_ones_in_the_order_asked_for(several: Listener, tmp_path: Path) -> None:
    shown = [str(address) for address in several.addresses]
    ports = [address.port for address in several.addresses]
    assert shown == [f"127.0.0.1:{ports[0]}", f"[::1]:{ports[1]}", f"[::]:{ports[2]}", f"unix:{tmp_path}/app.sock",
                     f"unix:@taskmasters-{os.getpid()}", f"127.0.0.1:{ports[5]}", f"127.0.0.1:{ports[6]}"]
    assert all(port > 0 for port in ports[:3] + ports[5:])


def test_no_address_is_an_error() -> None:
    with pytest.raises(ValueError, match="pass at least one address"):
        Listener([], 128, 5.0)


def test_if_one_address_cannot_be_had_those_before_it_are_closed(tmp_path: Path, listener: Listener) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    [used] = listener.addresses
    given = socket.create_server(("127.0.0.1", 0))
    path = tmp_path / "app.sock"
    with pytest.raises(OSError, match=f"cannot listen on {used}: .*something else listens there") as caught:
        Listener([ANY, UnixAddress(str(path)), given, used], 16, 5.0)
    assert caught.value.errno == errno.EADDRINUSE
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert not path.exists()
    assert given.fileno() == -1


def test_without_descriptors_for_itself_it_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(os.listdir("/proc/self/fd"))

    def fail() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    for name, where in (("socketpair", socket), ("epoll", select)):
        with monkeypatch.context() as patch:
            patch.setattr(where, name, fail)
            with pytest.raises(OSError, match="Too many open files"):
                Listener([ANY, ANY], 16, 5.0)
        assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("same_object", [True, False])
def test_a_descriptor_passed_twice_is_an_error_and_closed_once(same_object: bool) -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    number = sock.fileno()
    again: Address | socket.socket = sock if same_object else InheritedAddress(number)
    with pytest.raises(OSError, match="it is among the addresses twice; pass it once"):
        Listener([sock, again], 16, 5.0)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_close_removes_the_file_and_gives_everything_back(tmp_path: Path) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    listener = Listener([make(tmp_path) for make in KINDS.values()], 16, 5.0)
    assert (tmp_path / "app.sock").exists()
    listener.stop()
    listener.close()
    assert list(tmp_path.iterdir()) == []
    assert sorted(os.listdir("/proc/self/fd")) == before


# Parked connections: descriptors that somebody watches.

@pytest.fixture
def parking() -> Iterator[module.Listener]:
    listener = module.Listener([ANY], 128, 5.0)
    yield listener
    listener.stop()
    listener.close()


@pytest.fixture
def pair() -> Iterator[Callable[[], tuple[socket.socket, socket.socket]]]:
    """Make two connected sockets."""
    made: list[socket.socket] = []

    def make() -> tuple[socket.socket, socket.socket]:
        made.extend(socket.socketpair())
        return made[-2], made[-1]

    yield make
    for sock in made:
        sock.close()


Pair = Callable[[], tuple[socket.socket, socket.socket]]


def test_a_descriptor_that_is_watched_comes_back_once_when_it_is_ready(parking: module.Listener, pair: Pair) -> None:
    ours, theirs = pair()
    parking.watch(ours.fileno(), select.POLLIN)
    with pytest.raises(TimeoutError):
        parking.accept(0.01)
    theirs.send(b"x")
    assert parking.accept(PATIENCE) == ours.fileno()
    with pytest.raises(TimeoutError):
        parking.accept(0.01)  # although it is still ready
    for _ in range(2):
        parking.watch(ours.fileno(), select.POLLIN)
        assert parking.accept(PATIENCE) == ours.fileno(), "it was ready before"


def test_a_descriptor_that_is_watched_again_comes_back_once_more(parking: module.Listener, pair: Pair) -> None:
    ours, theirs = pair()
    assert parking.watch(ours.fileno(), select.POLLIN)
    theirs.send(b"x")
    for _ in range(3):
        assert parking.accept(PATIENCE) == ours.fileno()
        with pytest.raises(TimeoutError):
            parking.accept(0.01)
        parking.watch_again(ours.fileno(), select.POLLIN | module.ONCE)
    assert parking.accept(PATIENCE) == ours.fileno()
    assert parking.watch(ours.fileno(), select.POLLIN), "it has been watched before"
    assert parking.accept(PATIENCE) == ours.fileno()


def test_a_descriptor_is_ready_for_what_it_is_watched_for_and_for_its_end(parking: module.Listener, pair: Pair) -> None:
    ours, theirs = pair()
    ours.setblocking(False)
    with pytest.raises(BlockingIOError):
        fill(ours)
    theirs.send(b"x")
    parking.watch(ours.fileno(), select.POLLOUT)
    with pytest.raises(TimeoutError):
        parking.accept(0.01)
    parking.watch(ours.fileno(), select.POLLIN)  # it changes its mind
    assert parking.accept(PATIENCE) == ours.fileno()
    parking.watch(ours.fileno(), select.POLLOUT)
    theirs.close()
    assert parking.accept(PATIENCE) == ours.fileno()


def test_those_that_become_ready_first_come_back_first(parking: module.Listener, pair: Pair) -> None:
    pairs = [pair() for _ in range(5)]
    for ours, _ in pairs:
        parking.watch(ours.fileno(), select.POLLIN)
    order = [3, 0, 4, 1, 2]
    for number in order:
        pairs[number][1].send(b"x")
    assert [parking.accept(PATIENCE) for _ in order] == [pairs[number][0].fileno() for number in order]


def test_what_is_ready_wakes_one_of_many_threads(parking: module.Listener, pair: Pair) -> None:
    woken: list[object] = []
    one = threading.Semaphore(0)

    def wait() -> None:
        while (came := parking.accept()) is not None:
            woken.append(came)
            one.release()

    threads = [threading.Thread(target=wait) for _ in range(8)]
    for thread in threads:
        thread.start()
    pairs = [pair() for _ in range(20)]
    for ours, theirs in pairs:
        parking.watch(ours.fileno(), select.POLLIN)
        theirs.send(b"x")
        assert one.acquire(timeout=PATIENCE)
    for _ in range(20):
        parking.ring()
        assert one.acquire(timeout=PATIENCE)
    parking.stop()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert woken == [ours.fileno() for ours, _ in pairs] + [BELL] * 20


def test_new_connections_and_those_that_are_ready_take_turns(parking: module.Listener, pair: Pair) -> None:
    ours, theirs = pair()
    clients = [connect(parking.addresses[0]) for _ in range(50)]
    theirs.send(b"x")
    parking.watch(ours.fileno(), select.POLLIN)
    came = [parking.accept(PATIENCE) for _ in range(3)]
    assert ours.fileno() in came, "new connections keep it waiting"
    for accepted in came:
        if isinstance(accepted, tuple):
            accepted[0].close()
    for sock in clients:
        sock.close()


def test_watching_what_is_closed_is_nothing(parking: module.Listener, pair: Pair, tmp_path: Path) -> None:
    ours, _ = pair()
    number = ours.fileno()
    assert parking.watch(number, select.POLLIN)
    ours.close()
    for descriptor in (number, -1, 12345):
        assert not parking.watch(descriptor, select.POLLOUT)
        with pytest.raises((OSError, ValueError)):
            parking.watch_again(descriptor, select.POLLOUT | module.ONCE)
    with open(tmp_path / "file", "wb") as file:  # which no epoll set takes
        assert not parking.watch(file.fileno(), select.POLLOUT)
        with pytest.raises(TimeoutError):
            parking.accept(0.01)


def test_what_is_closed_is_watched_no_more_and_its_number_can_be_watched_again(
        parking: module.Listener, pair: Pair) -> None:
    ours, theirs = pair()
    parking.watch(ours.fileno(), select.POLLIN)
    theirs.send(b"x")
    number = ours.fileno()
    other, sender = pair()
    ours.close()
    with pytest.raises(TimeoutError):
        parking.accept(0.01)
    again = socket.socket(fileno=os.dup2(other.fileno(), number))
    with again:
        parking.watch(number, select.POLLIN)
        with pytest.raises(TimeoutError):
            parking.accept(0.01)
        sender.send(b"y")
        assert parking.accept(PATIENCE) == number


def test_many_threads_may_watch_at_once(parking: module.Listener, pair: Pair) -> None:
    """Also one descriptor, of which one thread knows no more than another whether the set has it yet."""
    pairs = [pair() for _ in range(50)]
    start = threading.Barrier(4)

    def watch() -> None:
        start.wait(PATIENCE)
        for ours, _ in pairs:
            parking.watch(ours.fileno(), select.POLLIN)

    threads = [threading.Thread(target=watch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    for _, theirs in pairs:
        theirs.send(b"x")
    assert {parking.accept(PATIENCE) for _ in pairs} == {ours.fileno() for ours, _ in pairs}
    with pytest.raises(TimeoutError):
        parking.accept(0.01)


def test_a_bell_is_heard_once_by_whoever_comes(parking: module.Listener) -> None:
    parking.ring()
    parking.ring()
    assert parking.accept(PATIENCE) == BELL
    with pytest.raises(TimeoutError):
        parking.accept(0.01)
    parking.ring()
    assert parking.accept(PATIENCE) == BELL


def test_after_stop_descriptors_and_bells_can_still_be_waited_for(parking: module.Listener, pair: Pair) -> None:
    ours, theirs = pair()
    parking.watch(ours.fileno(), select.POLLIN)
    parking.stop()
    assert parking.accept() is None
    while parking.wait_late(0.01) is not None:  # the listen socket, which has been shut down
        pass
    theirs.send(b"x")
    assert parking.wait_late(PATIENCE) == ours.fileno()
    parking.ring()
    assert parking.wait_late(PATIENCE) == BELL
    assert parking.wait_late(0.01) is None
    parking.watch(ours.fileno(), select.POLLIN)
    assert parking.wait_late(PATIENCE) == ours.fileno()


def test_where_there_is_no_epoll_nothing_is_parked(
        monkeypatch: pytest.MonkeyPatch, listen: Callable[..., Listener]) -> None:
    assert listen().can_park
    monkeypatch.delattr(select, "epoll")
    assert not listen().can_park


FORKED = """
import os, socket, sys
from acceptor.addresses import TCPAddress, UnixAddress
from acceptor.listener import Listener
from tests.test_listener import connect

path = sys.argv[1]
listener = Listener([TCPAddress("127.0.0.1", 0), UnixAddress(path)], 16, 5.0)
parked, theirs = socket.socketpair()
listener.watch(parked.fileno(), 1)
before = sorted(os.listdir("/proc/self/fd"))
told, tell = os.pipe()
if not (pid := os.fork()):
    shared = listener.shared()
    assert shared.addresses == listener.addresses
    for address in shared.addresses:
        with connect(address):
            sock, _ = shared.accept(10)
            sock.close()
    theirs.send(b"x")
    try:
        shared.accept(0.1)
        raise SystemExit("the child is told of what its parent watches")
    except TimeoutError:
        pass
    clients = [connect(address) for address in shared.addresses]
    shared.stop()
    while (accepted := shared.accept()) is not None:
        accepted[0].close()
        clients.pop()
    assert not clients, "what was queued has not been taken"
    shared.close()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0, "the child failed"
assert os.path.exists(path), "the child has removed its parent's file"
os.close(told)
os.close(tell)
assert sorted(os.listdir("/proc/self/fd")) == before
assert listener.accept(10) == parked.fileno()
for address in listener.addresses:
    with connect(address):
        sock, _ = listener.accept(10)
        sock.close()
listener.stop()
listener.close()
assert not os.path.exists(path)
print("fine")
"""


def test_a_listener_that_is_shared_by_a_fork_leaves_its_parents_as_it_was(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", FORKED, str(tmp_path / "app.sock")], capture_output=True, text=True,
                         timeout=60, check=False, stdin=subprocess.DEVNULL)
    assert run.stdout == "fine\n", run.stdout + run.stderr


EMFILE = """
import os, resource, socket, threading, time, urllib.request
from acceptor import Acceptor
from taskmaster import {model}

served = []
acceptor = Acceptor(lambda request: "fine", port=0, taskmaster={make})
acceptor.start()
url = f"http://{{acceptor.name}}/"
assert urllib.request.urlopen(url).read() == b"fine"
while acceptor.taskmaster.snapshot().served < 1:  # until its descriptor has been given back
    time.sleep(0.001)
waiting = socket.socket()
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
hoard = []
try:
    while True:
        hoard.append(os.dup(0))
except OSError:
    pass
waiting.connect((acceptor.host, acceptor.port))      # the kernel queues it; nobody can accept it
waiting.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
waiting.settimeout(1.0)
try:
    print("answered while there were no descriptors:", waiting.recv(100))
except TimeoutError:
    print("no answer for a second")
for descriptor in hoard:
    os.close(descriptor)
waiting.settimeout(10)
answer = b""
while data := waiting.recv(1000):
    answer += data
print("then", answer.split(b"\\r\\n")[0].decode())
assert urllib.request.urlopen(url).read() == b"fine"
print("lost", bool(acceptor.stop()))
print(acceptor.taskmaster.snapshot().shrunk.get("died", 0), "threads died")
"""


@pytest.mark.parametrize(("model", "make"), [
    ("SingleThreadedTaskmaster", "SingleThreadedTaskmaster()"),
    ("ThreadPerConnectionTaskmaster", "ThreadPerConnectionTaskmaster()"),
    ("PooledTaskmaster", "PooledTaskmaster()"),
    ("RecyclingTaskmaster", "RecyclingTaskmaster(standby=4)"),
])
def test_a_second_without_descriptors_and_service_resumes(model: str, make: str) -> None:
    """In a process of its own, whose limit on open files may be lowered."""
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 256
    run = subprocess.run([sys.executable, "-c", EMFILE.format(model=model, make=make)], capture_output=True, text=True,
                         timeout=60, check=False, stdin=subprocess.DEVNULL)
    assert run.stdout.splitlines() == [
        "no answer for a second", "then HTTP/1.1 200 OK", "lost False", "0 threads died"], run.stdout + run.stderr
    complaints = [line for line in run.stderr.splitlines() if "cannot accept connections" in line]
    assert len(complaints) == 1, run.stderr
    assert "Raise the limit (ulimit -n)" in complaints[0]


def test_one_that_serves_nobody_leaves_what_an_inherited_socket_has_queued_to_others(
        listen: Callable[..., Listener]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as given:
        others = given.dup()
        with others, socket.create_connection(given.getsockname(), PATIENCE):
            main = listen(given.dup())
            main.serves = False
            main.stop()
            assert main.accept() is None
            others.settimeout(PATIENCE)
            served, _ = others.accept()
            served.close()
