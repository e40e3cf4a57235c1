"""Responses onto a stream: as few system calls as the body allows.

    bytes       head and body in one send
    file        the head with MSG_MORE, then sendfile(2): the file's bytes never enter the process (TLS has to read it)
    iterable    one send for each piece, the head going with the first: who makes them waits for who takes them
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, cast

from acceptor.framing import LAST_CHUNK, Framing, Plan, chunk
from acceptor.messages import Body, ClientDisconnectedError, file_size
from acceptor.stream import Stream

__all__ = ["ResponseBodyError", "Sending", "close_body", "finish_at_once", "send_at_once", "send_piece"]

_SMALL = 64 * 1024
"""A body up to this is copied behind its head, for one send; a larger one is not worth the copy."""
_BLOCK = 256 * 1024
"""Bytes read at a time from a file that sendfile(2) cannot send."""


_LENGTH = Framing.LENGTH
"""By itself: see `acceptor.phases`."""


class ResponseBodyError(Exception):
    """The response's body raised, then `__cause__` is that, or it is not what its head announces."""


def send_at_once(stream: Stream, planned: Plan, body: bytes) -> bool:
    """Send head and body by one call, if that is the way; else nothing is sent, and the answer is False. Nothing may
    have been sent before.

    Raises what `Stream.send` does. After MustWait: `finish_at_once`.
    """
    # The last: `plan` has looked at the response by itself, and another thread may have changed that in between.
    if planned.framing is not _LENGTH or (size := len(body)) > _SMALL or size != planned.length:
        return False
    planned.started = True
    stream.send(planned.head + body)
    planned.sent = size
    return True


def finish_at_once(stream: Stream, planned: Plan) -> None:
    stream.flush()
    planned.sent = planned.length


class Sending:
    """A response that is sent in parts: `go` does it. After MustWait, call it again. Owned by one thread at a time."""

    __slots__ = ("_file", "_parts", "_stream")

    def __init__(self, stream: Stream, planned: Plan, body: Body) -> None:
        self._stream = stream
        self._parts = _parts(stream, planned, body)
        self._file: _File | None = None
        """The part that is being sent, if it is one."""

    def go(self) -> None:
        """Send what is left.

        OSError if the client is gone, TimeoutError if it takes too little (Timeouts.write), ResponseBodyError if the
        body fails; `Plan.started` tells whether something has been sent then. The body is not closed: `close_body`.
        """
        stream = self._stream
        sent = stream.flush()
        if self._file is not None:
            self._file.sent = sent
            self._file = None
        for part in self._parts:
            if isinstance(part, bytes):
                stream.send(part)
            elif isinstance(part, _Head):
                stream.send(part.data, more=True)
            else:
                self._file = part
                part.sent = stream.send_file(part.file.fileno(), part.begin, part.count)
                self._file = None
            if not isinstance(part, _Head):
                stream.end_turn()


@dataclass(slots=True)
class _Head:
    """Something follows it at once."""

    data: bytes


@dataclass(slots=True)
class _File:
    """`count` bytes of a file, from `begin` on."""

    file: BinaryIO
    begin: int
    count: int
    sent: int = 0


def _parts(stream: Stream, planned: Plan, body: Body) -> Iterator[bytes | _Head | _File]:
    """What is to be sent. Each part is asked for when the one before it has been sent, which `planned` then counts."""
    read: Callable[[int], bytes] | None = getattr(body, "read", None)
    if planned.framing is Framing.NO_BODY:
        pieces: Iterable[object] = ()
    elif isinstance(body, bytes):
        if len(body) > _SMALL and len(body) == planned.length and not planned.started:  # not worth a copy
            planned.started = True
            yield _Head(planned.head)
            yield body
            planned.sent = len(body)
            return
        pieces = (body,)
    elif read is None:
        pieces = body
    elif planned.framing is Framing.LENGTH and file_size(body) is not None:
        if stream.can_sendfile:
            yield from _parts_of_file(planned, cast(BinaryIO, body))
            return
        pieces = iter(lambda: read(min(_BLOCK, planned.length - planned.sent)), b"")  # no more of it, as sendfile does
    else:
        pieces = iter(lambda: read(_BLOCK), b"")
    for data in _made(pieces):
        if part := _piece(planned, data):
            yield part
            planned.sent += len(cast(bytes, data))
    if end := _end(planned):
        yield end


def _parts_of_file(planned: Plan, file: BinaryIO) -> Iterator[_Head | _File | bytes]:
    left = planned.length - planned.sent
    if not planned.started:
        planned.started = True
        yield _Head(planned.head) if left else planned.head
    if left:
        part = _File(file, file.tell(), left)
        yield part
        planned.sent += part.sent
        if part.sent < left:
            raise ResponseBodyError(f"the file ended {left - part.sent} bytes before its Content-Length")


def send_piece(stream: Stream, planned: Plan, data: object) -> None:
    """Send one piece of the body, which may be empty, and with the first one the head. Raises what `go` does."""
    if part := _piece(planned, data):
        stream.send(part)
        planned.sent += len(cast(bytes, data))


def _piece(planned: Plan, data: object) -> bytes:
    """What is to be sent for one piece of the body; b"" if nothing is."""
    if not isinstance(data, bytes):
        raise ResponseBodyError(f"the response's body yielded {data!r:.80} ({type(data).__name__}); yield bytes")
    if planned.framing is Framing.LENGTH and planned.sent + len(data) > planned.length:
        raise ResponseBodyError(f"the response's body is longer than its Content-Length of {planned.length}")
    if not data or planned.framing is Framing.NO_BODY:
        return b""
    head = b"" if planned.started else planned.head
    planned.started = True
    return head + (chunk(data) if planned.framing is Framing.CHUNKED else data)


def _end(planned: Plan) -> bytes:
    """What is to be sent when there are no more pieces."""
    if planned.framing is Framing.LENGTH and planned.sent < planned.length:
        raise ResponseBodyError(f"the response's body ended after {planned.sent} of the {planned.length} bytes it "
                                "announced")
    end = b"" if planned.started else planned.head
    if planned.framing is Framing.CHUNKED:
        end += LAST_CHUNK
    planned.started = True
    return end


def close_body(body: Body) -> None:
    """Call the body's close(), if it has one; raises what that raises. Not for one that was never handed over."""
    close: Callable[[], object] | None = getattr(body, "close", None)
    if close is not None:
        close()


def _made(pieces: Iterable[object]) -> Iterator[object]:
    """`pieces`; whatever making them raises, as a ResponseBodyError."""
    try:
        yield from pieces
    except (GeneratorExit, ClientDisconnectedError):  # the client is gone and nobody wants the rest
        raise
    except BaseException as error:
        raise ResponseBodyError(str(error)) from error
