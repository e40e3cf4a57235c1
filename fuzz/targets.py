"""What can be fuzzed, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fuzz import chunks, proxies, requests, responses, serving

__all__ = ["TARGETS", "Target"]


@dataclass(frozen=True)
class Target:
    """A function of bytes that raises if something is wrong, and what it is for."""

    name: str
    run: Callable[[bytes], None]
    longest: int
    """Bytes of an input; more make it slower, and no more thorough."""

    @property
    def about(self) -> str:
        return (self.run.__doc__ or "").partition("\n")[0]


TARGETS = {target.name: target for target in (
    Target("wire", requests.wire, 1200),
    Target("chunks", chunks.chunks, 800),
    Target("connection", serving.connection, 1200),
    Target("proxy", proxies.proxy, 600),
    Target("forwarded", proxies.forwarded, 400),
    Target("response", responses.response, 800),
)}
