"""The signals of a server's life, while it runs.

    signal      the first time             again
    INT, TERM   stop: drain                cut what is left; once more: what it did before
    QUIT        stop: cut at once          what it did before
    HUP         reload, if there is what   the same

All a handler does is to put a word into a queue, which the thread in `serve_forever` reads: nothing else is safe at any
point of any code, and SimpleQueue.put is made for it (unlike Event.set, which may interrupt itself).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["SIGNALS_EVERY", "handled_signals"]

SIGNALS_EVERY = 1.0
"""Seconds that the main thread may block in one go while signals are handled. Python runs a handler between two steps
of the main thread, and what wakes that from a lock or a queue is the signal itself: one that comes after the last step,
and before the thread has gone to sleep, is not heeded before it wakes for another reason (11 of 109,562, measured)."""


@contextmanager
def handled_signals(drain: Callable[[], None], cut: Callable[[], None], reload: Callable[[], None] | None
                    ) -> Iterator[None]:
    """While inside, signals call these functions; then the former handlers are back.

    reload: None leaves HUP alone.
    Off the main thread, where Python lets nobody handle signals, it does nothing.
    """
    former: dict[int, Any] = {}
    first = True

    def restore(*numbers: int) -> None:
        for number in numbers:
            if (handler := former.pop(number, None)) is not None:
                signal.signal(number, handler)

    def on_stop(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if first:
            first = False
            drain()
        else:
            restore(signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
            cut()

    def on_quit(number: int, frame: FrameType | None) -> None:
        restore(signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
        cut()

    def on_hangup(number: int, frame: FrameType | None) -> None:
        if reload is not None:
            reload()

    if threading.current_thread() is threading.main_thread():
        handlers: dict[int, Callable[[int, FrameType | None], None]] = {
            signal.SIGINT: on_stop, signal.SIGTERM: on_stop, signal.SIGQUIT: on_quit}
        if reload is not None:
            handlers[signal.SIGHUP] = on_hangup
        for number, handler in handlers.items():
            former[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        restore(*list(former))
