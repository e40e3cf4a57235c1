"""Two applications with the same URLs, one in Flask and one in Django, each of the size of its tutorial.

    flask_app, django_app    they share the templates, and what a test sees of them: `probe`
    substitutes, wire        something else: for `tests.peer_suites`

    /                    who is logged in                       /hello/NAME   what the URL says
    /login, /logout      a form with a CSRF token, a session    /counter      counts in the session
    /cookies             three at once                          /about/       /about redirects there
    /upload              multipart: size and hash of "file"     /body         the same of a raw body
    /ignore              reads nothing of its body              /limited      refuses more than a megabyte
    /json                what was sent, or 400                  /headers      what was sent as X-Echo
    /stream/N            N pieces, as they are made             /gated        the last piece waits for `probe.gate`
    /halfway             fails behind its first piece           /crash        fails at once
    /file                a file, to be saved                    /where        how the client has called us
    /mine/TOKEN          the TOKEN, after others could put      /async        an asynchronous view
                         theirs where it lay                    /missing      is not there: an error page

`tests/test_apps.py` drives both with the same tests.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.clients import PATIENCE, Gate

__all__ = ["FILE_NAME", "PIECE", "TEMPLATES", "Digest", "Probe", "probe"]

TEMPLATES = Path(__file__).parent / "templates"
FILE_NAME = "Übersicht 1.txt"
"""Under which a browser is to save `/file`."""
PIECE = 64 * 1024
"""Bytes of each piece of `/stream/N`, all of which are N modulo 256 in it."""


class Digest:
    """Size and SHA-256 of what it is fed."""

    def __init__(self, pieces: Iterable[bytes] = ()) -> None:
        self._hash = hashlib.sha256()
        self.size = 0
        for piece in pieces:
            self._hash.update(piece)
            self.size += len(piece)

    def __str__(self) -> str:
        return self._hash.hexdigest()


class Probe:
    """What a test sees of the application, and how it holds it up. Any thread; `reset` before each test."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.reset()

    def reset(self) -> None:
        self._counts: Counter[str] = Counter()
        self.gate = Gate("the test opens the gate of /gated")
        self.file = Path()
        """What `/file` sends."""
        self.pair: threading.Barrier | None = None
        """Requests for `/mine/TOKEN` wait for each other there, two by two."""

    def count(self, what: str) -> None:
        """The application says: once more `what`.

        "finished": Flask's teardown_request, Django's request_finished; "closed": the response; "ended": a generator;
        "made": a piece of /stream.
        """
        with self._changed:
            self._counts[what] += 1
            self._changed.notify_all()

    def __getitem__(self, what: str) -> int:
        with self._changed:
            return self._counts[what]

    def wait_for(self, what: str, count: int) -> None:
        """Wait until `what` has been counted so often; AssertionError if it has not in time, or more often."""
        with self._changed:
            self._changed.wait_for(lambda: self._counts[what] >= count, PATIENCE)
            assert self._counts[what] == count, f"{what!r}: {self._counts[what]} times, not {count}"

    def meet(self) -> None:
        """Wait for another request, so that both are in progress."""
        if self.pair is not None:
            self.pair.wait(PATIENCE)

    def pieces(self, count: int) -> Iterator[bytes]:
        """The body of `/stream/N`."""
        try:
            for number in range(count):
                self.count("made")
                yield bytes([number % 256]) * PIECE
        finally:
            self.count("ended")

    def gated(self) -> Iterator[bytes]:
        """The body of `/gated`."""
        try:
            yield b"first\n"
            self.gate.pass_through()
            yield b"last\n"
        finally:
            self.count("ended")

    def halfway(self) -> Iterator[bytes]:
        """The body of `/halfway`."""
        try:
            yield b"first\n"
            raise RuntimeError("halfway through the response")
        finally:
            self.count("ended")


probe = Probe()
"""Of both applications: they are modules, and so is what they share."""
