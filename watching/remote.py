"""A server in another process, as the control server there shows it."""

from __future__ import annotations

import json
import threading
from time import monotonic
from typing import Any, cast
from urllib.parse import quote

from watching.asking import AskingError, Client
from watching.messages import Sample, Steps
from watching.source import SourceError

__all__ = ["RemoteSource"]

_PATIENCE = 1.0
"""Seconds to wait for an answer, beside those that are recorded: for so long all others on the page wait with it."""
_REST = 5.0
"""Seconds for which one that has not answered is not asked again."""
_OTHER_CLOCK = 5.0
"""Seconds that its clock is off, beyond which it is that of another machine."""


class RemoteSource:
    """What the control server at `address` says of one of its sources. Any thread, several at once.

    address: "127.0.0.1:9000", or "unix:/run/app-control.sock".
    label: what to call it here; None: as it calls itself.
    token: if it asks for one.
    theirs: what that source is called there; None: the first that it has.

    Times are those of this machine's clock, also if it is on another.
    """

    def __init__(self, address: str, label: str | None = None, token: str | None = None, theirs: str | None = None
                 ) -> None:
        self.label = label or theirs or address
        self._named = label is not None
        self._address = address
        self._token = token
        self._theirs = theirs
        self._lock = threading.Lock()
        # Guarded by self._lock, which is held for a moment.
        self._idle: list[Client] = []
        self._rests_until = 0.0
        self._silence = ""
        """Why it rests."""

    def sample(self) -> Sample:
        said, answered = self._mine("/snapshot.json?", 0.0)
        by = answered - said["time"]
        if abs(by) > _OTHER_CLOCK:
            said["time"] += by
            for each, key in [*((lane, "since") for lane in said["lanes"] if lane["since"] is not None),
                              *((decision, "time") for decision in said["decisions"]),
                              *([(said["burst"], "time")] if said["burst"] else [])]:
                each[key] += by
        return cast("Sample", said)

    def steps(self, seconds: float) -> Steps:
        said, answered = self._mine(f"/steps.json?seconds={seconds:g}&", seconds)
        by = answered - said["end"]
        if abs(by) > _OTHER_CLOCK:
            said["begin"] += by
            said["end"] += by
            for lane in said["lanes"]:
                lane["steps"] = [(time + by, *rest) for time, *rest in lane["steps"]]
        return cast("Steps", said)

    def stacks(self) -> str:
        return self._ask(f"/threads?{self._which}", 0.0).decode(errors="replace")

    def close(self) -> None:
        """Give its connections back."""
        with self._lock:
            idle, self._idle = self._idle, []
        for client in idle:
            client.close()

    @property
    def _which(self) -> str:
        return "" if self._theirs is None else f"source={quote(self._theirs)}"

    def _mine(self, target: str, seconds: float) -> tuple[dict[str, Any], float]:
        """What it says of this source, and when it has said so."""
        try:
            sources: list[dict[str, Any]] = json.loads(self._ask(target + self._which, seconds))["sources"]
        except (ValueError, TypeError, KeyError) as error:
            raise SourceError(f"{self._address} is no control server: {error}") from None
        if not sources:
            raise SourceError(f"{self.label} does not run any more, or is being recorded for somebody else")
        if self._named:
            sources[0]["label"] = self.label
        return sources[0], monotonic()

    def _ask(self, target: str, seconds: float) -> bytes:
        with self._lock:
            if monotonic() < self._rests_until:
                raise SourceError(self._silence)
            client = self._idle.pop() if self._idle else Client(self._address, self._token)
        try:
            body = client.ask(target, _PATIENCE + 2 * seconds)
        except AskingError as error:
            client.close()
            if isinstance(error.__cause__, TimeoutError):
                with self._lock:
                    self._rests_until, self._silence = monotonic() + _REST, str(error)
            raise SourceError(str(error)) from None
        with self._lock:
            self._idle.append(client)
        return body
