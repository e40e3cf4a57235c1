"""The body of one request, as a raw binary file that is read from the connection while the handler reads it."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

from acceptor.messages import BodyError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["RequestBody"]


class RequestBody(io.RawIOBase):
    """Read by the thread that runs the handler, through the io.BufferedReader that is `Request.body`.

    fetch: reads the next piece, blocking; b"" at the end. Told once, the first time, to let the client go on
        (`100 Continue`), if `expects_continue`.
    """

    def __init__(self, fetch: Callable[[bool], bytes], expects_continue: bool) -> None:
        self._fetch_piece = fetch
        self._expects_continue = expects_continue
        self._piece = memoryview(b"")
        self.ended = False
        """Read to its end."""
        self.over = False
        """The response has been sent; whoever still holds this must not read the next request's bytes."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        if self.over:
            raise ValueError("the request is over; read its body before the response has been sent")
        if not self._piece and not self.ended:
            self._fetch()
        target = memoryview(buffer).cast("B")
        count = min(len(target), len(self._piece))
        target[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        return count

    def _fetch(self) -> None:
        expects_continue, self._expects_continue = self._expects_continue, False
        data = self._fetch_piece(expects_continue)
        self.ended = not data
        self._piece = memoryview(data)

    def discard(self, limit: int) -> bool:
        """Read up to `limit` bytes and throw them away; True if that was all. Never asks the client to send more."""
        if self._expects_continue:
            return False
        try:
            while not self.ended and limit > 0:
                self._fetch()
                limit -= len(self._piece)
        except BodyError:
            return False
        return self.ended
