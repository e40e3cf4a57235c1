"""Clients that come one by one, or many at once; each asks once and leaves. For who asks which thread served whom.

Not for speed: the clients of one process, without threads, and what they wait for is not measured.
"""

from __future__ import annotations

import socket
import time

__all__ = ["burst", "one_by_one"]

_REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


def one_by_one(port: int, count: int, pause_s: float, timeout: float = 10.0) -> list[str]:
    """`count` clients of 127.0.0.1:`port`, each `pause_s` after the one before has gone: their answers.

    Empty for a client that gets none, or another status than 200, within `timeout` seconds. Blocks.
    """
    answers = []
    for _ in range(count):
        try:
            with socket.create_connection(("127.0.0.1", port), timeout) as sock:
                sock.sendall(_REQUEST)
                answers.append(_answer(sock))
        except OSError:
            answers.append("")
        time.sleep(pause_s)
    return answers


def burst(port: int, count: int, timeout: float = 10.0) -> list[str]:
    """The same, but one after the other connects and asks, and only then is the first answer read."""
    socks: list[socket.socket | None] = []
    try:
        for _ in range(count):
            try:
                sock = socket.create_connection(("127.0.0.1", port), timeout)
            except OSError:
                socks.append(None)
            else:
                socks.append(sock)
                _ask(sock)
        return ["" if sock is None else _answer(sock) for sock in socks]
    finally:
        for each in socks:
            if each is not None:
                each.close()


def _ask(sock: socket.socket) -> None:
    try:
        sock.sendall(_REQUEST)
    except OSError:  # it will get no answer either
        pass


def _answer(sock: socket.socket) -> str:
    received = b""
    try:
        while data := sock.recv(65536):
            received += data
    except OSError:
        return ""
    head, _, body = received.partition(b"\r\n\r\n")
    return body.decode(errors="replace") if head.split(b" ")[1:2] == [b"200"] else ""
