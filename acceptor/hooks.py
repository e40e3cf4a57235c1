"""What an application may want to do at the turns of a server's life: open a pool, tell a load balancer, flush."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from acceptor.acceptor import Acceptor

__all__ = ["Hooks"]

logger = logging.getLogger("acceptor")

Hook = Callable[["Acceptor"], object]


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """Functions called with the acceptor, on the thread that is in `start` or `stop`, which waits for them.

    (At the start and the end of each thread: `Taskmaster.on_thread_start` and `on_thread_exit`.)
    """

    starting: Hook | None = None
    """Before anything is opened. What it raises, `start` raises, and nothing has been opened."""
    ready: Hook | None = None
    """Connections are being accepted. What it raises, `start` raises, and what has been started is stopped again."""
    stopping: Hook | None = None
    """`stop` has begun; connections are still being accepted. What it raises is logged."""
    stopped: Hook | None = None
    """Nothing is left: no thread, no connection, no socket. What it raises is logged. It follows every `stopping`."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not callable(value):
                raise TypeError(f"Hooks.{field.name}={value!r}: pass a function that takes the acceptor")

    def call(self, name: str, acceptor: Acceptor) -> None:
        """Call the hook called `name`, if there is one; raises what it raises."""
        if (hook := getattr(self, name)) is not None:
            hook(acceptor)

    def call_and_log(self, name: str, acceptor: Acceptor) -> None:
        """The same where there is no way back: what it raises is logged."""
        try:
            self.call(name, acceptor)
        except Exception:
            logger.exception("Hooks.%s failed; going on", name)
