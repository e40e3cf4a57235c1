"""A crowd: clients that connect, are answered once, keep the connection, and are idle from then on.

    python -m bench.clients.crowd --port 8080 --connections 10000

A process of its own. Once all of them have been answered it prints a line of JSON; for each line on its standard input
every client asks once more, which shows that its connection has been kept, and it prints another. It ends, and leaves,
when that closes. Each line: how many have been answered, how many had to go without, and how many seconds it took.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import time

from bench.processes import raise_open_files

__all__ = ["NEEDED", "main"]

NEEDED = 300
"""Open files beyond one for each connection, in the crowd and in the server, which has the active clients too."""
_PER_ADDRESS = 10_000
"""Clients of one address, for which the system has some 28,000 ports."""
_BIND_ADDRESS_NO_PORT = 24
"""IP_BIND_ADDRESS_NO_PORT of Linux, which the module socket does not name."""
_PATIENCE = 20.0
_REQUEST = (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) "
            b"Gecko/20100101 Firefox/140.0\r\nAccept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8\r\n"
            b"Accept-Language: en\r\nAccept-Encoding: gzip, deflate\r\n"
            b"Cookie: session=0123456789abcdef0123456789abcdef\r\n\r\n")
"""As a browser asks: what a server keeps of it while the client is idle counts."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.clients.crowd",
                                     description="Idle connections; ends with its "
                                     "standard input (Ctrl-D).")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, default=10_000)
    options = parser.parse_args()
    raise_open_files(options.connections + NEEDED)
    began = time.monotonic()
    clients = []
    answered = 0
    for number in range(options.connections):
        client = _connect(options.port, f"127.0.0.{1 + number // _PER_ADDRESS}")
        clients.append(client)
        answered += _ask(client)
    _report(answered, len(clients), began)
    for _ in sys.stdin:
        began = time.monotonic()
        _report(sum(map(_ask, clients)), len(clients), began)


def _connect(port: int, source: str) -> socket.socket:
    client = socket.socket()
    client.settimeout(_PATIENCE)
    # ip(7): connect(2) chooses the port, which may be one that other connections have, to another server.
    client.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
    client.bind((source, 0))
    client.connect(("127.0.0.1", port))
    return client


def _ask(client: socket.socket) -> bool:
    """Whether there is an answer."""
    try:
        client.sendall(_REQUEST)
        received = b""
        while b"\r\n\r\n" not in received and (data := client.recv(4096)):
            received += data
    except OSError:
        return False
    return received.startswith(b"HTTP/1.1 200 ")


def _report(answered: int, asked: int, began: float) -> None:
    print(json.dumps({"answered": answered, "failed": asked - answered, "seconds": time.monotonic() - began}),
          flush=True)


if __name__ == "__main__":
    main()
