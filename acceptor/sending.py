"""Responses onto a blocking socket: as few system calls as the body allows.

    bytes       head and body in one send
    file        the head with MSG_MORE, then sendfile(2): the file's bytes never enter the process
    iterable    one send for each piece, the head going with the first
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, cast

from acceptor.framing import LAST_CHUNK, Framing, Plan, chunk
from acceptor.messages import Body, ClientDisconnectedError, file_size

__all__ = ["ResponseBodyError", "close_body", "send"]

_SMALL = 64 * 1024
"""A body up to this is copied behind its head, for one send; a larger one is not worth the copy."""
_BLOCK = 256 * 1024
"""Bytes read at a time from a file that sendfile(2) cannot send."""


class ResponseBodyError(Exception):
    """The response's body raised, or is not what its head announces. `__cause__` is what it raised."""


def send(sock: socket.socket, planned: Plan, body: Body) -> int:
    """Send head and body, blocking; return the bytes of body sent.

    OSError if the client is gone (BlockingIOError if it does not read for as long as SO_SNDTIMEO),
    ResponseBodyError if the body fails; `planned.started` tells whether something has been sent then. The body is not
    closed: see `close_body`.
    """
    if planned.framing is Framing.NO_BODY:
        planned.started = True
        sock.sendall(planned.head)
        return 0
    if isinstance(body, bytes):
        planned.started = True
        if len(body) <= _SMALL:
            sock.sendall(planned.head + body)
        else:
            sock.sendall(planned.head, socket.MSG_MORE)
            sock.sendall(body)
        return len(body)
    read: Callable[[int], bytes] | None = getattr(body, "read", None)
    if read is None:
        return _send_pieces(sock, planned, _pieces(planned, body))
    if planned.framing is Framing.LENGTH and file_size(body) is not None:
        return _send_file(sock, planned, cast(BinaryIO, body))
    return _send_pieces(sock, planned, _pieces(planned, iter(lambda: read(_BLOCK), b"")))


def close_body(body: Body) -> None:
    """Call the body's close(), if it has one; raises what that raises. Not for one that was never handed over."""
    close: Callable[[], object] | None = getattr(body, "close", None)
    if close is not None:
        close()


def _send_file(sock: socket.socket, planned: Plan, file: BinaryIO) -> int:
    planned.started = True
    sock.sendall(planned.head, socket.MSG_MORE if planned.length else 0)
    offset = file.tell()
    end = offset + planned.length
    while offset < end:
        count = os.sendfile(sock.fileno(), file.fileno(), offset, end - offset)
        if not count:
            raise ResponseBodyError(f"the file ended {end - offset} bytes before its Content-Length")
        offset += count
    return planned.length


def _send_pieces(sock: socket.socket, planned: Plan, pieces: Iterator[bytes]) -> int:
    head, sent = planned.head, 0
    for data in pieces:
        planned.started = True
        sock.sendall(head + (chunk(data) if planned.framing is Framing.CHUNKED else data))
        head = b""
        sent += len(data)
    end = head + (LAST_CHUNK if planned.framing is Framing.CHUNKED else b"")
    if end:
        planned.started = True
        sock.sendall(end)
    return sent


def _pieces(planned: Plan, body: Iterable[object]) -> Iterator[bytes]:
    """The pieces of `body` that are not empty; whatever it raises, as a ResponseBodyError."""
    total = 0
    try:
        for data in body:
            if not isinstance(data, bytes):
                raise TypeError(f"the response's body yielded {data!r:.80} ({type(data).__name__}); yield bytes")
            total += len(data)
            if planned.framing is Framing.LENGTH and total > planned.length:
                raise ValueError(f"the response's body is longer than its Content-Length of {planned.length}")
            if data:
                yield data
        if planned.framing is Framing.LENGTH and total < planned.length:
            raise ValueError(f"the response's body ended after {total} of the {planned.length} bytes it announced")
    except (GeneratorExit, ClientDisconnectedError):  # the client is gone and nobody wants the rest
        raise
    except BaseException as error:
        raise ResponseBodyError(str(error)) from error
