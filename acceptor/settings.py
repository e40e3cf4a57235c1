"""How much of everything a client may send, and how long it may take. Checked when made, and fixed from then on."""

from __future__ import annotations

from dataclasses import dataclass, fields

from taskmaster.arguments import seconds, whole_number

__all__ = ["TICK", "Limits", "Timeouts"]

TICK = 0.5
"""Seconds that a thread blocks in one read or write of a socket before it looks at the clock (`acceptor.stream`): the
precision of every timeout. Shorter, and threads that hold idle connections wake up for nothing; longer, and a stop
takes longer, since it waits for them to notice."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Sizes in bytes, and numbers. None, where it is allowed: no limit. TypeError or ValueError for what is neither.

    What is too much is answered with the status behind it, in a way that the client can read, and the connection
    closes.
    """

    request_line: int = 8192
    """414. RFC 9112 section 3 asks for at least 8000."""
    head: int = 32768
    """431. Request line and header fields. (nginx: 32 KiB; Apache: 8 KiB a line; Jetty: 8 KiB.)"""
    header_count: int = 100
    """431. Also of the trailer fields of a chunked body."""
    body: int | None = 1 << 30
    """413, before the handler runs if the length is announced, else while it reads. A handler that wants less checks by
    itself: this is what no handler must ever see."""
    chunk_extensions: int = 4096
    """400. Of a whole body: they carry nothing for a server, and cost it time (RFC 9112 section 7.1.1)."""
    trailers: int = 8192
    """431. The trailer section of a chunked body."""
    requests_per_connection: int | None = None
    """The last answer says `Connection: close`."""
    connections: int | None = None
    """503. Open at once, in all."""
    connections_per_address: int | None = None
    """503. Open at once, of one client address. Behind a proxy all clients have the proxy's."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None or "None" not in str(field.type):
                least = 0 if field.name in ("body", "chunk_extensions", "trailers") else 1
                whole_number(f"Limits.{field.name}", value, at_least=least)


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """Seconds. Each is a total: a client that sends a byte now and then gains nothing by it.

    They are kept to within a `TICK`. None, where it is allowed, switches one off.
    """

    handshake: float = 10.0
    """TLS, and the PROXY header before it. Then the connection is closed."""
    head: float = 15.0
    """From a request's first byte to the end of its head; and from the start of a connection to that first byte. 408,
    or nothing if there was not one byte."""
    body: float = 30.0
    """Credit: see `minimum_rate`. 408."""
    write: float = 30.0
    """Credit. A response that a client does not read is cut."""
    keep_alive: float = 75.0
    """Between a response and the next request. Longer than the 60 s after which proxies let go of an idle connection,
    so that it is they who close it, and no request crosses our close."""
    minimum_rate: float | None = 500.0
    """Bytes per second. For a body, and for a response, a client has the seconds of credit that `body` and `write` say.
    Waiting for it spends them, and every `minimum_rate` bytes that it sends or takes earn one back, never beyond what
    it had at first. So a large upload may take its time, and a byte now and then may not. None: nothing is earned."""
    pressed: float | None = 2.0
    """While others wait for a thread: an idle connection is closed at once, and the credit of a slow client, and its
    time for a head, shrink to this. None: nobody gives way."""
    handler: float | None = 60.0
    """A handler that takes longer is logged, once, with the stack of its thread. It is not interrupted."""
    linger: float = 2.0
    """After a last answer, what the client still sends is read for so long, so that it can read that answer: RFC 9112
    section 9.6. No worker does that."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and "None" in str(field.type):
                continue
            if field.name == "minimum_rate":
                if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < 1e12:
                    raise ValueError(f"Timeouts.minimum_rate={value!r}: pass a number of bytes per second, above 0 and "
                                     "below 1e12, or None")
            else:
                seconds(f"Timeouts.{field.name}", value, zero=field.name == "linger")
