"""The clients of `watching.clients` as a process of their own: what `watching.load` starts, and talks to.

Standard input is the only way to it. Each line is JSON with what is to change: {"clients": 20, "keep_alive": false,
"sleep_ms": 20, "think_ms": 80}; the first has also "servers": ["127.0.0.1:8080", ...]. Where it ends, the process does,
and so it cannot outlive whoever holds the other end. On its standard output it says four times a second what the
clients see: a line of JSON, {"127.0.0.1:8080": {"answers": 200, "failures": 0, "p50": 0.021, "p99": 0.024}, ...}.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from typing import Any

from watching.clients import Clients

__all__ = ["main"]

_EVERY = 0.25
"""Seconds between two lines about what the clients see."""


def main() -> None:
    """The first line on standard input names the servers."""
    os.nice(5)  # the page, and the browser, come first
    commands = _Commands(0)
    while (first := commands.take()) is None:
        if commands.ended:
            return
        select.select([0], [], [])
    clients = Clients(first["servers"])
    clients.change(first)
    clients.watch(0)
    say_at = time.monotonic() + _EVERY
    try:
        while not commands.ended:
            while (wishes := commands.take()) is not None:
                clients.change(wishes)
            if commands.ended:
                break
            clients.run(max(0.0, say_at - time.monotonic()))
            if time.monotonic() >= say_at:
                say_at = time.monotonic() + _EVERY
                os.write(1, json.dumps(dict(zip(first["servers"], clients.see(), strict=True))).encode() + b"\n")
    except BrokenPipeError:  # whoever listens has ended
        pass
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        clients.close()


class _Commands:
    """Lines of JSON from a descriptor, without waiting for them."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._read = b""
        self.ended = False

    def take(self) -> dict[str, Any] | None:
        """The next; None if there is none, now or, if `ended`, ever."""
        while b"\n" not in self._read:
            try:
                data = os.read(self._descriptor, 65536)
            except BlockingIOError:
                return None
            if not data:
                self.ended = True
                return None
            self._read += data
        line, _, self._read = self._read.partition(b"\n")
        wishes: dict[str, Any] = json.loads(line)
        return wishes
