"""SIGINT and SIGTERM, while a server runs."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["signals_call"]


@contextmanager
def signals_call(function: Callable[[], None]) -> Iterator[None]:
    """While inside, the first SIGINT or SIGTERM calls `function` and puts the former handlers back.

    Off the main thread, where Python lets nobody handle signals, it does nothing.
    """
    former: dict[signal.Signals, Any] = {}

    def restore() -> None:
        while former:
            signal.signal(*former.popitem())

    def handle(number: int, frame: FrameType | None) -> None:
        restore()
        function()

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            former[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        restore()
