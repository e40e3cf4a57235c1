"""A server that follows a script, for tests of whatever asks servers: no HTTP of ours, and no taskmaster."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["HELLO", "requests", "scripted"]

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@contextmanager
def scripted(serve: Callable[[socket.socket], object], accept: bool = True) -> Iterator[int]:
    """A server whose every connection is given to `serve`, each in a thread, and then closed; yields its port.

    accept: whether it accepts any. All threads are joined at the end, so `serve` must come to one.
    """
    threads: list[threading.Thread] = []

    def one(sock: socket.socket) -> None:
        with sock:
            sock.settimeout(10)
            try:
                serve(sock)
            except OSError:
                pass

    def loop() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=one, args=(sock,)))
            threads[-1].start()

    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        accepting = threading.Thread(target=loop)
        if accept:
            accepting.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # which wakes accept()
            if accept:
                accepting.join()
            for thread in threads:
                thread.join()


def requests(sock: socket.socket) -> Iterator[bytes]:
    """Each request that comes, as long as the client stays."""
    received = b""
    while data := sock.recv(4096):
        received += data
        while b"\r\n\r\n" in received:
            request, _, received = received.partition(b"\r\n\r\n")
            yield request
