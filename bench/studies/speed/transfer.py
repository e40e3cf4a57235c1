"""`bench speed`, large transfers: 100 MB down from a file, 100 MB down made piece by piece, 100 MB up.

    python -m bench.studies.speed.transfer --port N download-file --times 5

is the client: a socket and a loop, in a process of its own. It prints a line with the seconds of each transfer. What is
asked is how fast one connection can be, and whether the server's memory grows with what it moves.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from acceptor import Handler, Request, Response
from bench.children import cores, running
from bench.processes import resident_bytes, tree
from bench.studies.scale.trial import Finding
from bench.table import grid

__all__ = ["KINDS", "SIZE", "handler", "judge", "measure", "render"]

SIZE = 100_000_000
_PIECE = 64 * 1024
_BUFFER = 1024 * 1024
"""Of the client: what it takes in one system call."""
_LEAST = 1.0
"""GB/s that are asked for."""
_FLAT = 8 * 1024 * 1024
"""Bytes by which a server's memory may grow and still be called flat: buffers, and what malloc keeps."""
KINDS = {"download-file": "a file (sendfile)", "download-made": "bytes made by the handler", "upload": "an upload"}


def handler(file: Path) -> Handler:
    """What the server does: GET /download-file, GET /download-made, PUT /upload."""
    piece = bytes(_PIECE)
    size = file.stat().st_size

    def made() -> Iterator[bytes]:
        whole, rest = divmod(size, _PIECE)
        for _ in range(whole):
            yield piece
        yield piece[:rest]

    def answer(request: Request) -> Response:
        if request.path == "/download-file":
            return Response(open(file, "rb"))  # the server closes it
        if request.path == "/download-made":
            return Response(made(), headers={"Content-Length": str(size)})
        came = 0
        while data := request.body.read(_PIECE):
            came += len(data)
        return Response(str(came))

    return answer


def measure(command: list[str], times: int = 5, size: int = SIZE) -> list[dict[str, Any]]:
    """Run the server `command`, to which the file is added, and move `size` bytes of each kind `times` times; one dict
    for each kind.

    `grown` is by how many bytes its memory was at most larger than before the first transfer of the kind.
    """
    server_core, load_core = cores()
    found = []
    with _sparse_file(size) as file, running([*command, "--transfer", str(file)], server_core) as server:
        port = int(server.line(timeout=20))
        pids = tree(server.pid)
        for kind in KINDS:
            client = ["bench.studies.speed.transfer", "--port", str(port), "--size", str(size), kind, "--times"]
            with running([*client, "1"], load_core) as one:  # what is allocated once
                one.line(60)
            before = most = resident_bytes(pids)

            def look() -> None:
                nonlocal most
                most = max(most, resident_bytes(pids))

            with running([*client, str(times)], load_core) as one:
                seconds = json.loads(one.line(60, look))
            look()
            found.append({"kind": kind, "seconds": seconds, "rate": size / median(seconds) / 1e9,
                          "grown": most - before})
        server.close_input()
    return found


def judge(name: str, found: list[dict[str, Any]]) -> list[Finding]:
    """Whether each kind was fast, and the memory flat."""
    return [Finding(one["rate"] >= _LEAST and one["grown"] <= _FLAT,
                    f"{name}: 100 MB of {KINDS[one['kind']]} at {_LEAST:g} GB/s at least, memory flat",
                    f"{one['rate']:.2f} GB/s, memory grew by {one['grown'] / 1e6:.1f} MB") for one in found]


def render(found: dict[str, list[dict[str, Any]]]) -> str:
    rows = [("server", "transfer", "GB/s", "(low–high)", "memory grew, MB", "", "")]
    for name, kinds in found.items():
        for one in kinds:
            middle = median(one["seconds"])
            low, high = (one["rate"] * middle / each for each in (max(one["seconds"]), min(one["seconds"])))
            rows.append((name, KINDS[one["kind"]], f"{one['rate']:.2f}", f"({low:.2f}–{high:.2f})",
                         f"{one['grown'] / 1e6:.1f}", "", ""))
    return grid(rows)


@contextmanager
def _sparse_file(size: int) -> Iterator[Path]:
    """A file of so many bytes that takes no room on the disk; the page cache has it, once it has been read."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        path = Path(folder) / "large"
        with open(path, "wb") as file:
            file.truncate(size)
        yield path


# The client.


def _transfer(sock: socket.socket, kind: str, size: int, buffer: memoryview) -> None:
    """One transfer, to its last byte. ConnectionError if it is not the answer that was asked for."""
    if kind == "upload":
        sock.sendall(b"PUT /upload HTTP/1.1\r\nHost: bench\r\nContent-Length: %d\r\n\r\n" % size)
        for at in range(0, size, len(buffer)):
            sock.sendall(buffer[:min(len(buffer), size - at)])
    else:
        sock.sendall(b"GET /%b HTTP/1.1\r\nHost: bench\r\n\r\n" % kind.encode())
    head, rest = _head(sock)
    length = re.search(rb"\r\ncontent-length: (\d+)\r\n", head.lower())
    if not head.startswith(b"HTTP/1.1 200 ") or not length:
        raise ConnectionError(f"not the answer that was asked for: {head[:200]!r}")
    left = int(length[1]) - len(rest)
    while left:
        if not (came := sock.recv_into(buffer)):
            raise ConnectionError(f"it ended {left} bytes too soon")
        left -= came


def _head(sock: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        if not (more := sock.recv(4096)):
            raise ConnectionError("no answer")
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head + b"\r\n", rest


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.studies.speed.transfer", description="The client.")
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--size", type=int, default=SIZE, metavar="BYTES", help="of an upload")
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    buffer = memoryview(bytearray(_BUFFER))
    taken = []
    with socket.create_connection(("127.0.0.1", options.port), 30) as sock:
        for _ in range(options.times):
            start = time.perf_counter()
            _transfer(sock, options.kind, options.size, buffer)
            taken.append(time.perf_counter() - start)
    print(json.dumps(taken))


if __name__ == "__main__":
    main()
