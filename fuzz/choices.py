"""Bytes into decisions: whatever a fuzzer makes up is a test case, and a small change to it is a similar one."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from acceptor.settings import Limits
from acceptor.violations import Violation

__all__ = ["LIMITS", "Choices", "Settings", "cut", "settings"]

T = TypeVar("T")

LIMITS = (
    Limits(),
    Limits(request_line=40, head=160, header_count=4, body=16, chunk_extensions=20, trailers=60),
    Limits(request_line=100, head=50, header_count=100, body=0, chunk_extensions=0, trailers=0),
    Limits(request_line=8192, head=8192, header_count=1, body=None, chunk_extensions=4096, trailers=20),
)
"""The usual ones; some that a short input can exceed; the least; and in one the line may be longer than the head."""
_VIOLATIONS = tuple(Violation)


class Choices:
    """Decisions out of `data`, from its beginning. At its end every byte reads as 0, so no input is too short."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def number(self) -> int:
        """Of two bytes."""
        return self.byte() << 8 | self.byte()

    def one_of(self, things: Sequence[T]) -> T:
        return things[self.byte() % len(things)]

    def piece(self) -> bytes:
        """Up to 255 bytes."""
        size = self.byte()
        piece = self._data[self._at:self._at + size]
        self._at += size
        return piece

    def rest(self) -> bytes:
        """All that is left."""
        rest, self._at = self._data[self._at:], len(self._data)
        return rest

    def violations(self) -> frozenset[Violation]:
        """Any set of them: a bit for each, in the order in which they are defined."""
        bits = self.number()
        return frozenset(each for number, each in enumerate(_VIOLATIONS) if bits >> number & 1)


def cut(data: bytes, seed: int) -> list[bytes]:
    """`data` in pieces, none empty: single bytes for a `seed` up to 63, else a few, cut where chance has it, always the
    same one."""
    if seed < 64:
        return [data[at:at + 1] for at in range(len(data))]
    rng = random.Random(seed)
    edges = sorted({0, len(data), *(rng.randrange(len(data) + 1) for _ in range(1 + seed % 8))})
    return list(_between(data, edges))


def _between(data: bytes, edges: Sequence[int]) -> Iterator[bytes]:
    return (data[start:end] for start, end in itertools.pairwise(edges))


@dataclass(frozen=True)
class Settings:
    """How to read, and what to cut where: the first bytes of an input."""

    allowed: frozenset[Violation]
    limits: Limits
    cuts: int
    options: bytes
    """Four, for `serving`."""


def settings(choices: Choices) -> Settings:
    """The first 8 bytes."""
    return Settings(choices.violations(), choices.one_of(LIMITS), choices.byte(),
                    bytes(choices.byte() for _ in range(4)))
