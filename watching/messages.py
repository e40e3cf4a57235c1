"""What a watched server says of itself, as JSON: the shapes of what goes from one process to another, and to the page.

Times are seconds of time.monotonic, which on Linux is one clock for all processes (clock_gettime(2), CLOCK_MONOTONIC),
so that lanes of several servers have one axis.
"""

from __future__ import annotations

from typing import Any, TypedDict

__all__ = ["Burst", "ClientsSee", "ConnectionsNow", "DecisionSaid", "Histogram", "LaneNow", "LaneSteps", "LoadState",
           "Responses", "Sample", "Steps"]


class LaneNow(TypedDict):
    """A row, and where its thread is."""

    lane: int
    """Its number: a thread that begins gets the lowest that no other has."""
    thread: str | None
    """None: it has no thread now."""
    ident: int
    """threading.get_ident() of that one; 0 if there is none."""
    state: str
    """A letter of `acceptor.recording.STATES`."""
    since: float | None
    """When what it does with its connection began; None if it has none, for then nobody knows."""
    connection: int
    """The number of the connection that it has; 0: none."""
    request: str | None
    """"GET /report"."""
    client: str | None
    """"127.0.0.1:49152"."""


class ConnectionsNow(TypedDict):
    """How many there are."""

    open: int
    kernel: int | None
    """They wait to be accepted; None where the system does not tell."""
    kernel_limit: int | None
    queued: int
    parked: int
    accepted: int
    served: int
    refused: int


class Responses(TypedDict):
    """Since somebody watches; requests whose client left before there was an answer are among them, as 499."""

    total: int
    by_class: dict[str, int]
    """{"2xx": 4990, "5xx": 10}."""
    per_second: float
    """In the last second."""
    p50: float | None
    """Seconds from a request's head to the end of its response, in the last second; None if there was none."""
    p99: float | None


class Histogram(TypedDict):
    """Of the seconds that responses took, since somebody watches."""

    buckets: list[tuple[float, int]]
    """(at most so many seconds, how many took no longer), in order; those beyond the last are in `count` only."""
    sum: float
    count: int


class Burst(TypedDict):
    """What the last recording of steps tells, if that was no more than 10 seconds ago."""

    time: float
    """When it ended."""
    seconds: float
    """How long it was."""
    requests: int
    """Whose handlers have begun in it."""
    handoffs_per_request: float | None
    """Connections that another thread has accepted than serves them, for each of those; None if there was none."""
    wait_p99: float | None
    """Seconds from accept() to a thread that serves; None if none was taken up."""
    kernel_wait_p99: float | None
    """Seconds that new connections had waited in the kernel, by its tick of milliseconds; None if there were none."""


class DecisionSaid(TypedDict):
    """A thread more, or less: see `taskmaster.books.Decision`."""

    time: float
    change: int
    reason: str
    threads: int


class Sample(TypedDict):
    """A server in one process, at one moment."""

    time: float
    label: str
    """What to call it: "pool"."""
    name: str
    """"127.0.0.1:8080"."""
    model: str
    """"PooledTaskmaster"."""
    process: int
    max_thread_count: int | None
    max_accept_count: int | None
    threads: dict[str, int]
    """By state, in words: see `taskmaster.ThreadState`."""
    lanes: list[LaneNow]
    """All rows there have been, by number."""
    connections: ConnectionsNow
    responses: Responses
    histogram: Histogram
    burst: Burst | None
    threads_started: int
    grown: dict[str, int]
    shrunk: dict[str, int]
    decisions: list[DecisionSaid]
    """The last 20, the oldest first."""
    violations: dict[str, int]
    """How often each violation of HTTP has been seen, by name."""


class LaneSteps(TypedDict):
    """What one thread has done."""

    lane: int
    """As in `LaneNow`; threads that came and went between two samples are behind those."""
    thread: str
    steps: list[tuple[float, str, int, Any]]
    """See `acceptor.recording.Step`; the first may be before `begin`: then it is how it began."""


class Steps(TypedDict):
    """What a server has done from `begin` to `end`, step by step."""

    label: str
    name: str
    model: str
    process: int
    begin: float
    end: float
    lanes: list[LaneSteps]


class ClientsSee(TypedDict):
    """What the clients of one server have seen in the last second."""

    answers: int
    failures: int
    """5xx, no answer, or none in time."""
    p50: float | None
    """Seconds from the moment when a client asks, its connect() included, to the end of its answer; None if there was
    none. A server's own (see `Responses`) begin with the request's head, and so leave out all waiting for a thread."""
    p99: float | None


class LoadState(TypedDict):
    """What the clients do, where there are any of ours: see `watching.load`."""

    clients: int
    keep_alive: bool
    sleep_ms: float
    """What the handler is asked to sleep."""
    seen: dict[str, ClientsSee]
    """By the `name` of their server."""
