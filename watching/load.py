"""The load of `taskmaster watch --compare`: clients in a process of their own, that the page may change while they ask.

In a process of its own, so that it does not share a server's GIL; in one for all servers, so that whatever keeps it
from asking keeps it from asking all of them.

The defaults are chosen so that there is something to see, and the machine has little to do. 20 clients that think 80 ms
and are answered after 20 ms come to 200 requests a second for each server, of which 4 are in the handler at any time:
few enough for three servers and the clients to take half a core in all, enough to see which threads serve. Which model
is the fastest is the lab's business (`python -m bench`), not that of a page that has to move smoothly beside it.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from watching.children import Child
from watching.messages import ClientsSee, LoadState

__all__ = ["CLIENTS", "MOST_CLIENTS", "MOST_MS", "SLEEP_MS", "THINK_MS", "Clientele"]

CLIENTS = 20
SLEEP_MS = 20.0
THINK_MS = 80.0
MOST_CLIENTS = 1000
"""For each server."""
MOST_MS = 10_000.0


class Clientele:
    """Clients of `servers` ("127.0.0.1:8080"), from now on until `stop`. A `watching.server.Load`. Any thread.

    clients: for each server. keep_alive: they keep their connections. sleep_ms: what they ask the handler to sleep.
    think_ms: how long each thinks between an answer and its next request, on average.
    ended: called, on a thread of its own, if it ends.
    """

    def __init__(self, servers: Sequence[str], *, clients: int = CLIENTS, keep_alive: bool = False,
                 sleep_ms: float = SLEEP_MS, think_ms: float = THINK_MS,
                 ended: Callable[[Child], object] = lambda child: None) -> None:
        self._lock = threading.Lock()
        """Held while something is changed."""
        self._ended = ended
        self._state = LoadState(clients=0, keep_alive=False, sleep_ms=0.0, seen={})
        first = _checked({"clients": clients, "keep_alive": keep_alive, "sleep_ms": sleep_ms})
        self._child = Child("watching.load_process", "the load", heard=self._hear, ended=self._has_ended)
        self._child.say({"servers": list(servers), "think_ms": think_ms})
        self._change(first)

    def state(self) -> LoadState:
        """What they do, and what they have seen in the last second."""
        return self._state

    def change(self, wishes: Mapping[str, Any]) -> LoadState:
        return self._change(_checked(wishes))

    def stop(self) -> None:
        """They are gone when this returns."""
        self._child.join()

    def _hear(self, child: Child, said: dict[str, ClientsSee]) -> None:
        """On a thread of the child's."""
        with self._lock:
            self._state = {**self._state, "seen": said}

    def _has_ended(self, child: Child) -> None:
        self._hear(child, {})
        self._ended(child)

    def _change(self, wishes: dict[str, Any]) -> LoadState:
        with self._lock:
            self._state = LoadState(**(self._state | wishes))  # type: ignore[typeddict-item]
            self._child.say(wishes)
            return self._state


def _checked(wishes: Mapping[str, Any]) -> dict[str, Any]:
    """ValueError, with the fix."""
    for name, value in wishes.items():
        if name == "clients":
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_CLIENTS:
                raise ValueError(f"clients={value!r}: pass a whole number from 0 to {MOST_CLIENTS}")
        elif name == "keep_alive":
            if not isinstance(value, bool):
                raise ValueError(f"keep_alive={value!r}: pass true or false")
        elif name == "sleep_ms":
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MOST_MS \
                    or math.isnan(value):
                raise ValueError(f"sleep_ms={value!r}: pass a number from 0 to {MOST_MS:g}")
        else:
            raise ValueError(f"{name}: there is no such thing; pass clients, keep_alive or sleep_ms")
    return dict(wishes)
