"""Telling clients that the server is full, in a way they can read, without keeping anybody waiting.

A 503 that is sent and followed by a close is lost whenever the client is still sending: its bytes meet a closed socket,
the kernel answers with a reset, and the reset throws away the 503 (RFC 9112 section 9.6). So each refused connection is
answered, half-closed, and then read until the client closes its side, or for `_LINGER` seconds. That takes a while, but
no work, so one thread does it for all of them at once; which thread is the taskmaster's choice.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Callable

from acceptor.connection import Connection

__all__ = ["Refusals"]

_LINGER = 2.0
"""Seconds a refused client has to finish sending and to read its answer."""
_STAY = 1.0
"""Seconds the answering thread stays when there is nobody left, so that a busy time needs one thread, not one each."""
_MOST = 256
"""Refused connections kept open at once; beyond that the oldest are closed early, to bound descriptors in a flood."""


class Refusals:
    """The connections being refused. `add` by any thread; `answer` by the one thread it asked for.

    done: called with each connection when it is finished with, by the answering thread, to close it.
    """

    def __init__(self, text: str, done: Callable[[Connection], None]) -> None:
        # Fixed at construction.
        self._text = text
        self._done = done
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        # Guarded by self._lock.
        self._lock = threading.Lock()
        self._new: list[Connection] = []
        self._attended = False
        """A thread is in `answer`, or its caller has been told to send one."""
        self._stopping = self._hurrying = False

    def add(self, connection: Connection) -> bool:
        """Take `connection`; never blocks. True if the caller must send a thread to `answer`."""
        with self._lock:
            self._new.append(connection)
            send_thread = not self._attended
            self._attended = True
        if not send_thread:
            self._wake()
        return send_thread

    def answer(self, patient: bool = True) -> None:
        """Answer and close all of them; return when there have been none for a moment, or at once after `stop`.

        patient: give each client time to finish sending; without, they are answered and closed, and this returns.

        Why "none left" and "no thread attends" are decided under one lock:
          1. this thread finds nothing left, and is about to leave
          2. another adds a connection, is told that a thread attends, and sends none
          3. this thread leaves; nobody ever answers that connection
        """
        selector = selectors.PollSelector()  # unlike epoll it takes no descriptor, of which there may be none left
        selector.register(self._wake_reader, selectors.EVENT_READ)
        lingering: dict[Connection, float] = {}  # each with the end of its time: oldest first
        leave_at = time.monotonic() + _STAY
        while True:
            now = time.monotonic()
            with self._lock:
                new, self._new = self._new, []
                hurry = self._hurrying or not patient
                if not new and not lingering and (self._stopping or hurry or now >= leave_at):
                    self._attended = False
                    return
            for connection in new:
                if connection.start_refusal(self._text):
                    selector.register(connection, selectors.EVENT_READ)
                    lingering[connection] = now + _LINGER
                else:
                    self._done(connection)
            over = [connection for connection, end in lingering.items() if end <= now or hurry]
            over += list(lingering)[len(over):max(len(over), len(lingering) - _MOST)]
            if lingering:
                leave_at = now + _STAY
            if not over:
                for key, _ in selector.select(next(iter(lingering.values()), leave_at) - now):
                    if not isinstance(key.fileobj, Connection):
                        self._wake_reader.recv(4096)
                    elif not key.fileobj.drain():
                        over.append(key.fileobj)
            for connection in over:
                del lingering[connection]
                selector.unregister(connection)
                self._done(connection)

    def stop(self) -> None:
        """Let `answer` return as soon as nobody is left; any thread. What is added later is answered all the same."""
        with self._lock:
            self._stopping = True
        self._wake()

    def hurry(self) -> None:
        """Let `answer` wait for nobody any more; any thread."""
        with self._lock:
            self._hurrying = True
        self._wake()

    def close(self) -> None:
        """Give the socket pair back to the system. Only when nobody is in `answer`, nor will be."""
        self._wake_reader.close()
        self._wake_writer.close()

    def _wake(self) -> None:
        try:
            self._wake_writer.send(b"!")
        except OSError:  # full: it is awake; or closed, by a stop that was interrupted
            pass
