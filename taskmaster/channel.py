"""How the processes of a prefork server are made, and how they talk: fork(2), and lines through pipes.

Standard library only, and no thread: all of this runs in processes that have just been forked.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["Channel", "fork", "wake_up_pipe"]

_MOST = 4000
"""Bytes of a line. Up to 4096 (PIPE_BUF), what several threads write into a pipe is not mixed: pipe(7)."""
_OURS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)
_FAILED = 70
"""The exit code of a process of ours that ends by a bug: EX_SOFTWARE of sysexits.h(3head)."""


class Channel:
    """One of the two ends between two processes: short messages, in order. Nothing blocks but `send`, if the other
    process has not read for a thousand messages. Any thread may send; one receives, and closes it."""

    def __init__(self, reader: int, writer: int) -> None:
        os.set_blocking(reader, False)
        self._reader = reader
        self._writer = writer
        self._begun = b""
        """Of a line that has not come whole."""

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """Both ends. After a fork each process closes the one that is not its own: only then is an end seen."""
        one = os.pipe()
        try:
            other = os.pipe()
        except OSError:
            for end in one:
                os.close(end)
            raise
        return cls(one[0], other[1]), cls(other[0], one[1])

    def fileno(self) -> int:
        """Readable when something has come."""
        return self._reader

    def send(self, *message: str | float | bool | None) -> None:
        """What is sent to a process that has ended is lost. A text that is too long is shortened."""
        line = _line(message)
        while len(line) > _MOST:
            message = tuple(part[:len(part) // 2] if isinstance(part, str) else part for part in message)
            line = _line(message)
        with contextlib.suppress(BrokenPipeError):
            os.write(self._writer, line)

    def receive(self) -> list[list[Any]]:
        """The messages that have come, the oldest first. EOFError once the other process has ended, and all is read."""
        try:
            data = os.read(self._reader, 65536)
        except BlockingIOError:
            return []
        if not data:
            raise EOFError
        *lines, self._begun = (self._begun + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        os.close(self._reader)
        os.close(self._writer)


def _line(message: tuple[object, ...]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def fork(child: Callable[[], int]) -> int:
    """Run `child` in a new process, whose exit code is what it returns; the process ID. OSError if there is none.

    Nothing that called this is returned to in the child: it ends by os._exit, so that what the parent has registered
    with `atexit` (removing its temporary files, for example) is not done there.

    A signal that is sent to all processes of the server, as Ctrl+C is by the terminal and the TERM of systemd, is the
    main process's business: in the child INT, TERM, QUIT and HUP do nothing, until `child` sets a handler. (They are
    not ignored, since whatever a handler starts by exec(2) would inherit that: signal(7).)
    """
    for stream in (sys.stdout, sys.stderr):  # or both processes would write what is in their buffers
        with contextlib.suppress(Exception):
            stream.flush()
    with _signals_held():
        pid = os.fork()
        if pid:
            return pid
        code = _FAILED
        try:
            signal.set_wakeup_fd(-1)
            for number in _OURS:
                signal.signal(number, lambda *_: None)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _OURS)
            code = child()
        except BaseException:
            with contextlib.suppress(Exception):
                traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):
                    stream.flush()
            os._exit(code)


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """None is handled inside: the child has the parent's handlers, until it has set its own."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _OURS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def wake_up_pipe() -> tuple[int, int]:
    """Two ends that do not block, for a process to wake itself: to read, to write."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    return reader, writer
