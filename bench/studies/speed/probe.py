"""The least that a threaded server in Python can do for a request, as a measure of the machine: `bench speed`'s unit.

    python -m bench.studies.speed.probe --sleep 0.1      milliseconds that each request sleeps

Eight threads wait in one epoll set (EPOLLONESHOT: epoll_ctl(2)) for new connections and for requests. Who gets one
reads, has llhttp (httptools) parse it, sends an answer that never changes, and reads on until nothing comes. There is
no request object, no rule of HTTP kept, no limit, no deadline: it is not a server. Without httptools it looks for the
end of the head only, and is another measure. Prints its port; ends with its standard input.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import select
import socket
import sys
import threading
import time
from typing import Any

__all__ = ["main"]

_THREADS = 8
_ONCE = select.EPOLLIN | select.EPOLLONESHOT
_HEAD = (b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\ncontent-type: text/plain; charset=utf-8\r\n"
         b"date: Thu, 26 Nov 2026 06:00:00 GMT\r\n")
_STAYS, _LEAVES = _HEAD + b"\r\nHello, World", _HEAD + b"connection: close\r\n\r\nHello, World"


class _Client:
    """One connection. Used by the one thread that the epoll set has told of it."""

    def __init__(self, sock: socket.socket, parser: Any) -> None:
        self.sock = sock
        self.complete = self.stays = False
        self.parser: Any = parser(self) if parser else _EndOfHead(self)

    # Called by the parser.

    def on_url(self, url: bytes) -> None:
        self.url = url
        self.headers: list[tuple[bytes, bytes]] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_message_complete(self) -> None:
        self.complete = True
        self.stays = self.parser.should_keep_alive()  # afterwards it has forgotten


class _EndOfHead:
    """In place of httptools."""

    def __init__(self, client: _Client) -> None:
        self._client = client

    def feed_data(self, data: bytes) -> None:
        self._client.complete = data.endswith(b"\r\n\r\n")
        self._client.stays = b"onnection: close\r\n" not in data


class _Probe:
    """All threads use it: its fields are fixed, but for `clients`, of which a thread touches the entry that is its
    connection's: setting and popping an item of a dict is atomic."""

    def __init__(self, listener: socket.socket, sleep_ms: float) -> None:
        self.listener = listener
        self.listening = listener.fileno()
        self.sleep = sleep_ms / 1e3
        self.epoll = select.epoll()
        self.epoll.register(listener, _ONCE)
        self.clients: dict[int, _Client] = {}
        self.parser = (importlib.import_module("httptools").HttpRequestParser
                       if importlib.util.find_spec("httptools") else None)

    def work(self) -> None:
        """What each thread does, for ever."""
        while True:
            for fd, _ in self.epoll.poll(-1, 1):
                if fd != self.listening:
                    self.serve(fd, self.clients[fd])
                elif (sock := self.accept()) is not None:
                    client = self.clients[sock.fileno()] = _Client(sock, self.parser)
                    self.epoll.register(sock, select.EPOLLONESHOT)
                    self.serve(sock.fileno(), client)

    def accept(self) -> socket.socket | None:
        try:
            return self.listener.accept()[0]
        except BlockingIOError:
            return None
        finally:
            self.epoll.modify(self.listener, _ONCE)

    def serve(self, fd: int, client: _Client) -> None:
        sock, parser = client.sock, client.parser
        while True:
            try:
                data = sock.recv(65536, socket.MSG_DONTWAIT)
            except BlockingIOError:
                self.epoll.modify(fd, _ONCE)
                return
            except OSError:
                data = b""
            if not data:
                break
            parser.feed_data(data)
            if not client.complete:
                continue
            client.complete = False
            if self.sleep:
                time.sleep(self.sleep)
            with contextlib.suppress(OSError):  # the client may have left
                sock.send(_STAYS if client.stays else _LEAVES)
            if not client.stays:
                break
        self.clients.pop(fd)
        sock.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.studies.speed.probe",
                                     description="The least a server can do.")
    parser.add_argument("--sleep", type=float, default=0.0, metavar="MS")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    with socket.create_server(("127.0.0.1", options.port), backlog=1024) as listener:
        listener.setblocking(False)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        probe = _Probe(listener, options.sleep)
        for _ in range(_THREADS):
            threading.Thread(target=probe.work, daemon=True).start()
        print(listener.getsockname()[1], flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
