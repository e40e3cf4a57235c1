"""How far a long measurement is: one line that changes on a terminal, a line for each step elsewhere."""

from __future__ import annotations

import shutil
import sys
import time

__all__ = ["Progress"]

_BAR = 20
"""Characters of the bar."""


class Progress:
    """Of `steps` steps, each of which is guessed to take `guess` seconds until one has been seen."""

    def __init__(self, steps: int, guess: float) -> None:
        self._steps, self._guess, self._ended = steps, guess, 0
        self._start = time.monotonic()
        self._live = sys.stdout.isatty()

    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._start

    def begin(self, what: str) -> None:
        """A step begins."""
        if self._live:
            done = round(_BAR * self._ended / self._steps)
            line = f"[{'#' * done}{'.' * (_BAR - done)}] {self._where()}  {what}"
            # One that wraps could not be taken off again.
            print(f"\r\x1b[K{line[:shutil.get_terminal_size().columns - 1]}", end="", flush=True)

    def end(self, what: str) -> None:
        """It has ended; `what` may say how."""
        self._ended += 1
        if not self._live:
            print(f"{self._where()}  {what}", flush=True)

    def clear(self) -> None:
        """Take the line off the terminal, for something else to be printed."""
        if self._live:
            print("\r\x1b[K", end="", flush=True)

    def _where(self) -> str:
        each = self.seconds() / self._ended if self._ended else self._guess
        left = each * (self._steps - self._ended)
        return f"{self._ended / self._steps:4.0%}, " + (f"{left:3.0f} s left" if left < 100 else
                                                        f"{left / 60:.0f} min left")
