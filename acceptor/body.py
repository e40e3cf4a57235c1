"""The body of one request, as a raw binary file that is read from the connection while the handler reads it."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from acceptor.messages import BodyError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["RequestBody"]


class RequestBody(io.RawIOBase):
    """Read by the thread that runs the handler, through the io.BufferedReader that is `Request.body`.

    fetch: reads the next piece; b"" at the end. Waits for as long as the connection does, or until the time
        (time.monotonic) that it is told. The first time it is told to let the client go on (`100 Continue`), if
        `expects_continue`. It is not called again once it has raised BodyError.
    length: bytes announced; None if they come in chunks.
    """

    def __init__(self, fetch: Callable[[bool, float | None], bytes], expects_continue: bool,
                 length: int | None) -> None:
        self._fetch_piece: Callable[[bool, float | None], bytes] | None = fetch
        self._expects_continue = expects_continue
        self._to_come = length
        self._piece = memoryview(b"")
        self.failed: int | None = None
        """The status of a BodyError: nobody can tell where this body ends, and it is not asked for again."""
        self.ended = False
        """Read to its end."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        if self._fetch_piece is None:
            raise ValueError("the request is over; read its body before the response has been sent")
        if not self._piece and not self.ended:
            self._fetch()
        target = memoryview(buffer).cast("B")
        count = min(len(target), len(self._piece))
        target[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        return count

    def end(self) -> None:
        """The response has been sent: whoever still holds this must not read the next request's bytes. A second call
        does nothing."""
        self._fetch_piece = None

    def is_much(self, limit: int) -> bool:
        """`discard` would find that out without reading: it is announced to be more, or has to be asked for."""
        return not self.ended and (self._expects_continue or (self._to_come or 0) > limit)

    def discard(self, limit: int, patience: float) -> bool:
        """Read what is left and throw it away; True if that was all of it.

        False if it is more than `limit` bytes, or takes more than `patience` seconds to come, or if the client would
        have to be asked for it.
        """
        end = time.monotonic() + patience
        try:
            while not self.ended:
                if limit < 0 or self.is_much(limit):
                    return False
                self._fetch(end)
                limit -= len(self._piece)
        except BodyError:
            return False
        return True

    def _fetch(self, until: float | None = None) -> None:
        if self.failed is not None:
            raise BodyError(self.failed)
        expects_continue, self._expects_continue = self._expects_continue, False
        assert self._fetch_piece is not None, "nobody asks once it is over"
        try:
            data = self._fetch_piece(expects_continue, until)
        except BodyError as error:
            self.failed = error.status
            raise
        self.ended = not data
        self._piece = memoryview(data)
        if self._to_come is not None:
            self._to_come -= len(data)
