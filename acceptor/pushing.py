"""What a handler sends itself, before it returns: interim responses, and a response that it has begun."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from acceptor.framing import Plan, informational_bytes
from acceptor.messages import ClientDisconnectedError, Response
from acceptor.phases import Phase
from acceptor.sending import send_piece

if TYPE_CHECKING:
    from acceptor.connection import Connection

__all__ = ["Pushing"]


class Pushing:
    """Of one exchange, made when its handler first sends something. Owned by the thread that runs the handler."""

    __slots__ = ("_connection", "broken", "over", "response")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.response: Response | None = None
        """The one that the handler has begun."""
        self.broken = False
        """Something could not be sent whole: nothing may follow it, and the connection is reset."""
        self.over = False
        """The handler has returned."""

    def send_informational(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Send an interim response; ClientDisconnectedError if the client is gone."""
        with self._writing():
            self._connection.stream.send(informational_bytes(status, headers))

    def begin(self, response: Response, planned: Plan) -> Callable[[bytes], None]:
        """What `Request.begin` returns."""
        stream = self._connection.stream
        self.response = response
        self._connection.phase = Phase.STREAMING
        stream.begin_response()

        def write(data: bytes) -> None:
            if self.over:
                raise RuntimeError("write() after the handler has returned; what is still to be sent belongs in the "
                                   "response's body")
            if not isinstance(data, bytes):
                raise TypeError(f"write({data!r:.80}): pass bytes, not {type(data).__name__}")
            with self._writing():
                send_piece(stream, planned, data)

        return write

    def check_returned(self, answer: object) -> None:
        """TypeError if the handler has begun a response, and returns something else."""
        if self.response is not None and answer is not self.response:
            raise TypeError(f"the handler returned {answer!r:.80} and has begun {self.response!r}: it must return the "
                            "response that it has begun")

    def end(self) -> None:
        """The exchange is over. (The response's body may know `write`, which would be a circle.)"""
        self.over = True
        self.response = None

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """What goes wrong here, the handler can tell from errors of its own."""
        connection = self._connection
        if self.broken:
            raise ClientDisconnectedError(f"{connection.peer}: what was sent before could not be sent whole")
        phase = connection.phase
        connection.phase = Phase.WRITING
        try:
            yield
        except OSError as error:
            self.broken = True
            connection.stream.reset_when_closed()
            raise ClientDisconnectedError(f"{connection.peer}: {error or 'it does not read its response'}") from None
        finally:
            connection.phase = phase
