"""The listen socket: what accept(2) may answer, how threads wait, and how it stops."""

from __future__ import annotations

import errno
import os
import resource
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from acceptor import listener as module
from acceptor.listener import BACK_OFF, RETRY, Listener

PATIENCE = 10.0


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener("127.0.0.1", 0, 128, 5.0)
    yield listener
    listener.stop()
    listener.close()


def client(listener: Listener) -> socket.socket:
    return socket.create_connection(listener.address, PATIENCE)


class LyingSocket:
    """A listen socket whose accept() first raises what the test says."""

    def __init__(self, real: socket.socket, *errors: int) -> None:
        self._real = real
        self.errors = list(errors)

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        if self.errors:
            number = self.errors.pop(0)
            raise OSError(number, os.strerror(number))
        return self._real.accept()

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)


@pytest.mark.parametrize("number", sorted(RETRY | BACK_OFF | {errno.EIO, errno.EAGAIN}), ids=errno.errorcode.get)
def test_no_error_of_accept_keeps_the_next_connection_away(listener: Listener, number: int,
                                                           monkeypatch: pytest.MonkeyPatch,
                                                           caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(module, "_PAUSE", 0.001)
    listener._socket = LyingSocket(listener._socket, number, number, number)  # type: ignore[assignment]
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


def test_accept_raises_timeout_when_nobody_comes(listener: Listener) -> None:
    with pytest.raises(TimeoutError):
        listener.accept(0.01)


def test_accepted_sockets_block_and_have_the_timeout_and_nodelay_of_the_listen_socket() -> None:
    listener = Listener("127.0.0.1", 0, 128, 0.05)
    with client(listener):
        accepted = listener.accept(PATIENCE)
        assert accepted is not None
        with accepted[0] as sock:
            assert sock.gettimeout() is None, "a Python timeout costs a poll(2) for every read and write"
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            with pytest.raises(BlockingIOError):
                sock.recv(1)
    listener.stop()
    listener.close()


def test_a_connection_wakes_one_of_many_threads(listener: Listener) -> None:
    accepted: list[object] = []
    woken = threading.Semaphore(0)
    real = listener._socket
    attempts: list[int] = []

    class Counting(LyingSocket):
        def accept(self) -> tuple[socket.socket, tuple[str, int]]:
            attempts.append(threading.get_ident())
            return super().accept()

    listener._socket = Counting(real)  # type: ignore[assignment]

    def wait() -> None:
        while (connection := listener.accept()) is not None:
            accepted.append(connection)
            connection[0].close()
            woken.release()

    threads = [threading.Thread(target=wait) for _ in range(16)]
    for thread in threads:
        thread.start()
    for _ in range(50):
        with client(listener) as sock:
            assert woken.acquire(timeout=PATIENCE)
            sock.recv(1)
    tried = len(attempts)
    listener.stop()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "stop() did not wake it"
    assert len(accepted) == 50
    assert tried <= 60, f"{tried} threads tried to accept 50 connections: that is a thundering herd"


def test_what_the_kernel_had_queued_is_accepted_after_stop_and_not_reset(listener: Listener) -> None:
    clients = [client(listener) for _ in range(5)]
    for sock in clients:
        sock.sendall(b"hello")
    listener.stop()
    served = 0
    while (accepted := listener.accept()) is not None:
        with accepted[0] as sock:
            assert sock.recv(5) == b"hello"
            sock.sendall(b"goodbye")
            served += 1
    assert served == 5
    for sock in clients:
        with sock:
            assert sock.recv(7) == b"goodbye"


def test_after_stop_new_clients_are_turned_away_and_the_port_is_free(listener: Listener) -> None:
    listener.stop()
    with pytest.raises(ConnectionRefusedError):
        client(listener)
    successor = Listener(*listener.address, 16, 5.0)
    successor.stop()
    successor.close()


def test_stop_twice_is_stop_once(listener: Listener) -> None:
    with client(listener):
        listener.stop()
        listener.stop()
        accepted = listener.accept()
        assert accepted is not None
        accepted[0].close()
        assert listener.accept() is None
        assert listener.accept() is None


def test_close_closes_what_nobody_accepted(listener: Listener) -> None:
    with client(listener) as sock:
        listener.stop()
        listener.close()
        try:
            assert sock.recv(1) == b""
        except ConnectionResetError:
            pass


def test_where_there_is_no_epoll_it_works_with_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(select, "epoll")
    listener = Listener("127.0.0.1", 0, 128, 5.0)
    with pytest.raises(TimeoutError):
        listener.accept(0.01)
    with client(listener):
        accepted = listener.accept(PATIENCE)
        assert accepted is not None
        accepted[0].close()
    thread = threading.Thread(target=listener.accept)
    thread.start()
    listener.stop()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    listener.close()


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


@pytest.mark.parametrize(("host", "port", "error", "message"), [
    ("127.0.0.1", "used", errno.EADDRINUSE, "something else listens there"),
    ("203.0.113.7", 0, errno.EADDRNOTAVAIL, "this machine has no such address"),
    ("no such host", 0, socket.EAI_NONAME, "pass an address or a name of this machine"),
])
def test_an_address_that_cannot_be_had_says_what_to_do(host: str, port: int | str, error: int, message: str,
                                                      listener: Listener) -> None:
    with pytest.raises(OSError, match=message) as caught:
        Listener(host, listener.address[1] if isinstance(port, str) else port, 16, 5.0)
    assert caught.value.errno == error
    assert f"cannot listen on {host}:" in str(caught.value)
