"""JSON of thousands of steps, made and sent piece by piece.

For json.dumps keeps the GIL until it is done: of a quarter of a million steps all at once that would be half a second,
in which the server that is watched could do nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from watching.messages import Steps

__all__ = ["steps_in_pieces", "trace_in_pieces"]

_PIECE = 1000
"""Steps, or events, of one: some milliseconds."""


def steps_in_pieces(sources: Sequence[Steps]) -> Iterator[bytes]:
    """{"sources": [...]}."""
    yield b'{"sources":['
    for number, said in enumerate(sources):
        about = {key: value for key, value in said.items() if key != "lanes"}
        yield (b"," if number else b"") + _encoded(about)[:-1] + b',"lanes":['
        for place, lane in enumerate(said["lanes"]):
            head = {"lane": lane["lane"], "thread": lane["thread"]}
            yield (b"," if place else b"") + _encoded(head)[:-1] + b',"steps":['
            yield from _items(lane["steps"])
            yield b"]}"
        yield b"]}"
    yield b"]}"


def trace_in_pieces(sources: Sequence[Steps]) -> Iterator[bytes]:
    """A Chrome trace."""
    from watching.trace import chrome_events, names_of

    yield b'{"displayTimeUnit":"ms","otherData":' + _encoded({"servers": names_of(sources)}) + b',"traceEvents":['
    yield from _items(chrome_events(sources))
    yield b"]}"


def _items(items: Iterable[object]) -> Iterator[bytes]:
    """Those of a JSON array, without its brackets."""
    left, comma = iter(items), b""
    while some := list(islice(left, _PIECE)):
        yield comma + _encoded(some)[1:-1]
        comma = b","


def _encoded(said: object) -> bytes:
    return json.dumps(said, separators=(",", ":")).encode()
