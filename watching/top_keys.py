"""Keys as they are pressed, without Enter, and the terminal as it was afterwards."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import tty
from types import FrameType, TracebackType
from typing import Self

__all__ = ["Keys"]


class Keys:
    """Of the terminal `descriptor`. A context manager, on the main thread.

    Inside, keys are not shown, and Ctrl+Z is none: it would leave the terminal to the shell as it is. Ctrl+C raises
    KeyboardInterrupt as ever. A TERM or HUP raises SystemExit, so that the terminal is given back then, too.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> Self:
        self._former = termios.tcgetattr(self._descriptor)
        self._handlers = {number: signal.signal(number, _leave) for number in (signal.SIGTERM, signal.SIGHUP)}
        tty.setcbreak(self._descriptor)
        settings = termios.tcgetattr(self._descriptor)
        settings[6][termios.VSUSP] = b"\0"  # _POSIX_VDISABLE on Linux: termios(3)
        termios.tcsetattr(self._descriptor, termios.TCSADRAIN, settings)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._former)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def wait(self, seconds: float) -> str:
        """What has been pressed, after so long at most; "" if nothing has. "q" where the terminal is gone."""
        if not select.select([self._descriptor], [], [], max(0.0, seconds))[0]:
            return ""
        try:
            return os.read(self._descriptor, 64).decode(errors="replace") or "q"
        except OSError:  # EIO: it has been hung up
            return "q"


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
