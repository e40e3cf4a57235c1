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

__all__ = ["ResponseBodyError", "close_body", "end_pieces", "send", "send_piece"]

_SMALL = 64 * 1024
"""A body up to this is copied behind its head, for one send; a larger one is not worth the copy."""
_BLOCK = 256 * 1024
"""Bytes read at a time from a file that sendfile(2) cannot send."""


class ResponseBodyError(Exception):
    """The response's body raised, then `__cause__` is that, or it is not what its head announces."""


def send(stream: Stream, planned: Plan, body: Body) -> int:
    """Send head and body, or what is left of them after `send_piece`, blocking; return the bytes of body sent, in all.

    OSError if the client is gone, TimeoutError if it takes too little (Timeouts.write), ResponseBodyError if the body
    fails; `planned.started` tells whether something has been sent then. The body is not closed: see `close_body`.
    """
    if planned.framing is Framing.NO_BODY:
        end_pieces(stream, planned)
        return 0
    exact = planned.framing is Framing.LENGTH and not planned.started
    if exact and isinstance(body, bytes) and len(body) == planned.length:
        planned.started = True
        if len(body) <= _SMALL:
            stream.send(planned.head + body)
        else:
            stream.send(planned.head, more=True)
            stream.send(body)
        planned.sent = len(body)
        return planned.sent
    read: Callable[[int], bytes] | None = getattr(body, "read", None)
    if isinstance(body, bytes):
        pieces: Iterable[object] = (body,)
    elif read is None:
        pieces = body
    elif planned.framing is Framing.LENGTH and file_size(body) is not None:
        if stream.can_sendfile:
            return _send_file(stream, planned, cast(BinaryIO, body))
        pieces = iter(lambda: read(min(_BLOCK, planned.length - planned.sent)), b"")  # no more of it, as sendfile does
    else:
        pieces = iter(lambda: read(_BLOCK), b"")
    for data in _made(pieces):
        send_piece(stream, planned, data)
    end_pieces(stream, planned)
    return planned.sent


def send_piece(stream: Stream, planned: Plan, data: object) -> None:
    """Send one piece of the body, which may be empty, and with the first one the head. Raises what `send` does."""
    if not isinstance(data, bytes):
        raise ResponseBodyError(f"the response's body yielded {data!r:.80} ({type(data).__name__}); yield bytes")
    if planned.framing is Framing.LENGTH and planned.sent + len(data) > planned.length:
        raise ResponseBodyError(f"the response's body is longer than its Content-Length of {planned.length}")
    if not data or planned.framing is Framing.NO_BODY:
        return
    head = b"" if planned.started else planned.head
    planned.started = True
    stream.send(head + (chunk(data) if planned.framing is Framing.CHUNKED else data))
    planned.sent += len(data)


def end_pieces(stream: Stream, planned: Plan) -> None:
    """There are no more pieces. Raises what `send` does."""
    if planned.framing is Framing.LENGTH and planned.sent < planned.length:
        raise ResponseBodyError(f"the response's body ended after {planned.sent} of the {planned.length} bytes it "
                                "announced")
    end = b"" if planned.started else planned.head
    if planned.framing is Framing.CHUNKED:
        end += LAST_CHUNK
    if end:
        planned.started = True
        stream.send(end)


def close_body(body: Body) -> None:
    """Call the body's close(), if it has one; raises what that raises. Not for one that was never handed over."""
    close: Callable[[], object] | None = getattr(body, "close", None)
    if close is not None:
        close()


def _send_file(stream: Stream, planned: Plan, file: BinaryIO) -> int:
    left = planned.length - planned.sent
    if not planned.started:
        planned.started = True
        stream.send(planned.head, more=left > 0)
    sent = stream.send_file(file.fileno(), file.tell(), left)
    planned.sent += sent
    if sent < left:
        raise ResponseBodyError(f"the file ended {left - sent} bytes before its Content-Length")
    return planned.sent


def _made(pieces: Iterable[object]) -> Iterator[object]:
    """`pieces`; whatever making them raises, as a ResponseBodyError."""
    try:
        yield from pieces
    except (GeneratorExit, ClientDisconnectedError):  # the client is gone and nobody wants the rest
        raise
    except BaseException as error:
        raise ResponseBodyError(str(error)) from error
