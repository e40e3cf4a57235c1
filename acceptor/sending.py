"""Responses onto a stream: as few system calls as the body allows.

    bytes       head and body in one send
    file        the head with MSG_MORE, then sendfile(2): the file's bytes never enter the process (TLS has to read it)
    iterable    one send for each piece, the head going with the first: who makes them waits for who takes them
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, cast

from acceptor.framing import LAST_CHUNK, Framing, Plan, chunk
from acceptor.messages import Body, ClientDisconnectedError, file_size
from acceptor.stream import Stream

__all__ = ["ResponseBodyError", "close_body", "send"]

_SMALL = 64 * 1024
"""A body up to this is copied behind its head, for one send; a larger one is not worth the copy."""
_BLOCK = 256 * 1024
"""Bytes read at a time from a file that sendfile(2) cannot send."""


class ResponseBodyError(Exception):
    """The response's body raised, or is not what its head announces. `__cause__` is what it raised."""


def send(stream: Stream, planned: Plan, body: Body) -> int:
    """Send head and body, blocking; return the bytes of body sent.

    OSError if the client is gone, TimeoutError if it takes too little (Timeouts.write), ResponseBodyError if the body
    fails; `planned.started` tells whether something has been sent then. The body is not closed: see `close_body`.
    """
    if planned.framing is Framing.NO_BODY:
        planned.started = True
        stream.send(planned.head)
        return 0
    if isinstance(body, bytes):
        planned.started = True
        if len(body) <= _SMALL:
            stream.send(planned.head + body)
        else:
            stream.send(planned.head, more=True)
            stream.send(body)
        return len(body)
    read: Callable[[int], bytes] | None = getattr(body, "read", None)
    if read is None:
        return _send_pieces(stream, planned, _pieces(planned, body))
    if planned.framing is Framing.LENGTH and file_size(body) is not None and stream.can_sendfile:
        return _send_file(stream, planned, cast(BinaryIO, body))
    return _send_pieces(stream, planned, _pieces(planned, iter(lambda: read(_BLOCK), b"")))


def close_body(body: Body) -> None:
    """Call the body's close(), if it has one; raises what that raises. Not for one that was never handed over."""
    close: Callable[[], object] | None = getattr(body, "close", None)
    if close is not None:
        close()


def _send_file(stream: Stream, planned: Plan, file: BinaryIO) -> int:
    planned.started = True
    stream.send(planned.head, more=planned.length > 0)
    sent = stream.send_file(file.fileno(), file.tell(), planned.length)
    if sent < planned.length:
        raise ResponseBodyError(f"the file ended {planned.length - sent} bytes before its Content-Length")
    return sent


def _send_pieces(stream: Stream, planned: Plan, pieces: Iterator[bytes]) -> int:
    head, sent = planned.head, 0
    for data in pieces:
        planned.started = True
        stream.send(head + (chunk(data) if planned.framing is Framing.CHUNKED else data))
        head = b""
        sent += len(data)
    end = head + (LAST_CHUNK if planned.framing is Framing.CHUNKED else b"")
    if end:
        planned.started = True
        stream.send(end)
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
