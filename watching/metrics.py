"""What Prometheus is told: samples as metrics, by Prometheus' own client library (the extra `watch`).

All of it is made when somebody asks, from the samples: no request pays for it, and nothing is kept. So the numbers are
exactly those of `/snapshot.json`. The names follow https://prometheus.io/docs/practices/naming: base units, `_total`
for what only grows, and the sum of a metric over its labels means something.

    taskmaster_threads{state}                         every thread is in one state
    taskmaster_connections{state}                     every connection that was accepted is in one state, at most
    taskmaster_kernel_backlog                         these have not been accepted

So what is idle, what is busy and what waits are never in one number: where they were, as in Puma's `busy_threads`
(puma#3745), there came to be more busy threads than threads.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from acceptor.violations import Violation
from watching.messages import Sample

if TYPE_CHECKING:
    from prometheus_client.core import Metric

__all__ = ["SampleCollector", "exposition"]

_MISSING = "metrics need the library prometheus_client, which is not installed; say: pip install 'taskmasters[watch]'"
_CLASSES = ("2xx", "3xx", "4xx", "5xx")
_VIOLATIONS = [violation.name.lower() for violation in Violation]
"""Both are there from the start, as 0: what appears with its first value has no rate until the second."""

_Values = Iterable[tuple[tuple[str, ...], float]]


@dataclass(frozen=True)
class _Family:
    """A counter if its name ends in _total, else a gauge. Its unit is the end of its name, if that is one."""

    name: str
    help: str
    values: Callable[[Sample], _Values]
    """(values of its labels, value) for each of its series; none: what it is about does not exist, or nobody knows."""
    labels: tuple[str, ...] = ()
    """Besides those that say which server it is."""


def _one(value: float | None) -> _Values:
    return [((), value)] if value is not None else []


def _each(values: dict[str, int], *at_least: str) -> _Values:
    return [((name,), value) for name, value in {**dict.fromkeys(at_least, 0), **values}.items()]


def _by_state(sample: Sample) -> _Values:
    connections = sample["connections"]
    return [(("queued",), connections["queued"]), (("serving",), sample["threads"].get("serving", 0)),
            (("parked",), connections["parked"])]


def _decisions(sample: Sample) -> _Values:
    return [((change, reason), count) for change, reasons in (("grown", sample["grown"]), ("shrunk", sample["shrunk"]))
            for reason, count in reasons.items()]


def _longest(sample: Sample) -> _Values:
    # One may have begun since the sample's time was read.
    since = [lane["since"] for lane in sample["lanes"] if lane["state"] == "H" and lane["since"] is not None]
    return _one(max([0.0, *(sample["time"] - each for each in since)]))


_FAMILIES = [
    _Family("taskmaster_threads", "Threads by what they do: starting, accepting (in accept()), waiting (for another "
            "thread), serving (with a connection), leaving.", lambda sample: _each(sample["threads"]), ("state",)),
    _Family("taskmaster_max_threads", "Connections that are served at once, at most. Not there: no limit.",
            lambda sample: _one(sample["max_thread_count"])),
    _Family("taskmaster_threads_started_total", "Threads started.", lambda sample: _one(sample["threads_started"])),
    _Family("taskmaster_thread_decisions_total", "Threads that were made (grown) or left (shrunk), by reason.",
            _decisions, ("change", "reason")),
    _Family("taskmaster_oldest_handler_seconds", "For how long the handler has been running that has done so longest, "
            "on a thread of the taskmaster; 0: none runs.", _longest),
    _Family("taskmaster_connections", "Connections that were accepted, by where they are: queued (waiting for a "
            "thread), serving (a thread has them), parked (waiting for their clients).", _by_state, ("state",)),
    _Family("taskmaster_open_connections", "Connections accepted and not yet closed, those that are being refused "
            "included.", lambda sample: _one(sample["connections"]["open"])),
    _Family("taskmaster_max_queued_connections", "Connections that may wait for a thread before one is refused. Not "
            "there: none is accepted before a thread is free for it.", lambda sample: _one(sample["max_accept_count"])),
    _Family("taskmaster_kernel_backlog", "Connections that wait in the kernel to be accepted. Processes with the same "
            "listen socket report the same ones.", lambda sample: _one(sample["connections"]["kernel"])),
    _Family("taskmaster_kernel_backlog_limit", "Connections that may wait in the kernel; more are not answered.",
            lambda sample: _one(sample["connections"]["kernel_limit"])),
    _Family("taskmaster_connections_accepted_total", "Connections accepted, each once, however often it was parked.",
            lambda sample: _one(sample["connections"]["accepted"])),
    _Family("taskmaster_connections_served_total", "Connections whose processing has ended.",
            lambda sample: _one(sample["connections"]["served"])),
    _Family("taskmaster_connections_refused_total", "Connections answered 503, since the server was full.",
            lambda sample: _one(sample["connections"]["refused"])),
    _Family("taskmaster_responses_total", "Responses by the class of their status, since the server is watched, with "
            "refusals. Where the client left before there was one, it counts as 4xx.",
            lambda sample: _each(sample["responses"]["by_class"], *_CLASSES), ("code",)),
    _Family("acceptor_violations_total", "Violations of HTTP that clients have sent, refused or allowed.",
            lambda sample: _each(sample["violations"], *_VIOLATIONS), ("violation",)),
]


class SampleCollector:
    """`samples` as metric families: a custom collector of prometheus_client. Any thread.

    Each series says which `server` it is of, by its label, and of which `model`; and of which `process`, where there
    are several. ValueError if that does not tell two samples apart.
    """

    def __init__(self, samples: Iterable[Sample]) -> None:
        samples = list(samples)
        several = len({sample["process"] for sample in samples}) > 1
        self._labels = ("server", "model", "process") if several else ("server", "model")
        self._samples: dict[tuple[str, ...], Sample] = {}
        """By the values of the labels."""
        for sample in samples:
            of = _valid((sample["label"], sample["model"], *([str(sample["process"])] if several else [])))
            if of in self._samples:
                raise ValueError(f"two sources are called {sample['label']!r}: give each a label of its own")
            self._samples[of] = sample

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
            InfoMetricFamily,
        )

        info = InfoMetricFamily("taskmaster_server", "Where it listens.", labels=self._labels)
        for of, sample in self._samples.items():
            info.add_metric(of, {"address": _valid([sample["name"]])[0]})
        yield info
        for family in _FAMILIES:
            kind = CounterMetricFamily if family.name.endswith("_total") else GaugeMetricFamily
            unit = "seconds" if family.name.endswith("_seconds") else ""
            metric = kind(family.name, family.help, labels=(*self._labels, *family.labels), unit=unit)
            for of, sample in self._samples.items():
                for values, value in family.values(sample):
                    metric.add_metric((*of, *_valid(values)), value)
            if metric.samples:
                yield metric
        seconds = HistogramMetricFamily(
            "taskmaster_response_seconds", "Seconds from a request's head to the end of its response, since the server "
            "is watched.", labels=self._labels, unit="seconds")
        for of, sample in self._samples.items():
            histogram = sample["histogram"]
            buckets: list[tuple[str, float]] = [(str(float(most)), count) for most, count in histogram["buckets"]]
            seconds.add_metric(of, [*buckets, ("+Inf", histogram["count"])], histogram["sum"])
        yield seconds


def exposition(samples: Iterable[Sample], accept: str | None = None) -> tuple[bytes, str]:
    """What is answered to Prometheus, and its Content-Type.

    samples: of each source, one.
    accept: the request's header Accept. Without it, the classic text format 0.0.4; OpenMetrics is for those who ask.

    ModuleNotFoundError, with what to do, without the library; ValueError as in `SampleCollector`. Any thread.
    """
    try:
        from prometheus_client import CollectorRegistry
    except ModuleNotFoundError:
        raise ModuleNotFoundError(_MISSING, name="prometheus_client") from None
    registry = CollectorRegistry()  # not the library's own, which an application may have metrics of its own in
    registry.register(cast("Any", SampleCollector(samples)))
    encode, content_type = _encoder(accept or "")
    return encode(registry), content_type


def _encoder(accept: str) -> tuple[Callable[[Any], bytes], str]:
    from prometheus_client.exposition import choose_encoder

    try:
        encode, content_type = choose_encoder(accept)
    except TypeError:  # version=x: it compares that with a number
        return choose_encoder("")
    # It repeats the version that was asked for; what is no header is answered as if nothing had been.
    return (encode, content_type) if content_type.isascii() and content_type.isprintable() else choose_encoder("")


def _valid(values: Collection[str]) -> tuple[str, ...]:
    """As UTF-8 can have them: what came from the command line, or is a file's name, may be otherwise."""
    return tuple(value.encode(errors="replace").decode() for value in values)
