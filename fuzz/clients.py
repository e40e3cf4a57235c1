"""Clients for `serving` and `responses`: one that follows a script, and what h11 makes of what it has received."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass

import h11

__all__ = ["Answer", "ScriptedSocket", "read_answers"]


class ScriptedSocket(socket.socket):
    """The server's end of a pair whose client follows a script, in the same thread: nobody ever waits.

    pieces: what the client sends, one whenever the server reads or waits; for an empty one the server waits for a tick.
    at_most: bytes that one send takes; None: all. Every other one has to wait for a tick first.
    leaves_after: sends after which the client is gone; None: it stays.
    resets: behind the pieces there is an error, and not the end.
    """

    def __init__(self, pieces: list[bytes], *, at_most: int | None = None, leaves_after: int | None = None,
                 resets: bool = False) -> None:
        self._client, ours = socket.socketpair()
        super().__init__(fileno=ours.detach())
        self._pieces = pieces[::-1]
        self._at_most, self._leaves_after, self._resets = at_most, leaves_after, resets
        self._sends = 0
        self._come = self._ended = False
        self.left = False
        """The client was gone before it had been sent all there was."""
        self.received = b""
        """By the client."""
        self.broken = False
        """The client will see a reset, wherever it is."""

    @property
    def unsent(self) -> bytes:
        return b"".join(self._pieces[::-1])

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        if not self._pieces and self._resets and not self._come:
            raise ConnectionResetError("as the script has it")
        if self._pieces and not self._pieces[-1] and not self._come:
            self._pieces.pop()
            raise BlockingIOError
        self._go_on()
        self._come = False
        return super().recv(size, flags)

    def fileno(self) -> int:
        """Asked for by those who wait."""
        while self._pieces and not self._pieces[-1] and not self._come:
            self._pieces.pop()
        self._go_on()
        return super().fileno()

    def send(self, data: bytes | memoryview, flags: int = 0, /) -> int:  # type: ignore[override]
        self._sends += 1
        if self._leaves_after is not None and self._sends > self._leaves_after:
            self.left = True
            raise BrokenPipeError("as the script has it")
        if self._at_most is not None:
            if self._sends % 2:
                raise BlockingIOError
            data = data[:self._at_most]
        sent = super().send(data, flags)
        self.take()
        return sent

    def take(self) -> None:
        """Receive what there is."""
        while True:
            try:
                data = self._client.recv(1 << 20, socket.MSG_DONTWAIT)
            except OSError:
                return
            self.received += data
            if not data:
                return

    def setsockopt(self, level: int, option: int, value: object, length: int = 0, /) -> None:
        self.broken |= option == socket.SO_LINGER

    def close(self) -> None:
        self._client.close()
        super().close()

    def _go_on(self) -> None:
        if self._come:
            return
        self._come = True
        if self._pieces:
            self._client.send(self._pieces.pop())
        elif not self._ended:
            self._ended = True
            self._client.shutdown(socket.SHUT_WR)


@dataclass(frozen=True)
class Answer:
    """A response as a client reads it."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    whole: bool
    interim: int = 0
    """Informational ones before it."""


def read_answers(received: bytes, methods: Iterable[str], *, broken: bool = False) -> list[Answer]:
    """What h11 as a client makes of `received`, up to the end of the connection, having sent requests of `methods`.

    broken: the connection ended by a reset. The last may be not whole; AssertionError for what is no response.
    """
    answers: list[Answer] = []
    for method in methods:
        if not received:
            return answers
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
        client.send(h11.EndOfMessage())
        client.receive_data(received)
        if not broken:
            client.receive_data(b"")
        try:
            answer = _read_answer(client)
        except h11.RemoteProtocolError as error:
            raise AssertionError(f"no response: {error}: {received[:300]!r}") from None
        if answer is None:
            return answers
        answers.append(answer)
        if not answer.whole:
            return answers
        received = client.trailing_data[0]
    assert not received, f"something is sent that nobody has asked for: {received[:300]!r}"
    return answers


def _read_answer(client: h11.Connection) -> Answer | None:
    head, body, interim = None, b"", 0
    while True:
        try:
            event = client.next_event()
        except h11.RemoteProtocolError:
            if head is None and interim and not client.trailing_data[0]:
                return None  # the client was told to go on, and did not
            if head is None or client.their_state is not h11.ERROR or client.trailing_data[0]:
                raise
            return Answer(head.status_code, list(head.headers), body, False, interim)  # it ended too early
        if isinstance(event, h11.InformationalResponse):
            interim += 1
        elif isinstance(event, h11.Response):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif head is None:
            return None
        else:
            return Answer(head.status_code, list(head.headers), body, isinstance(event, h11.EndOfMessage), interim)
