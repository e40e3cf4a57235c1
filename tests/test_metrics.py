"""What Prometheus is told is what the samples say: read back by the client library's own parsers."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_classic

from acceptor.violations import Violation
from taskmaster import ThreadState
from watching.counts import BOUNDS
from watching.messages import ConnectionsNow, Histogram, LaneNow, Responses, Sample
from watching.metrics import exposition

ROOT = Path(__file__).parent.parent
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
PROMETHEUS_3 = ("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
                "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
                "text/plain;version=0.0.4;q=0.3,*/*;q=0.2")
"""What Prometheus 3 sends."""

VIOLATIONS = [violation.name.lower() for violation in Violation]

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def a_sample(**changes: Any) -> Sample:
    sample = Sample(
        time=100.0, label="pool", name="127.0.0.1:8080", model="PooledTaskmaster", process=4242, max_thread_count=16,
        max_accept_count=1000, threads={"starting": 0, "accepting": 1, "waiting": 7, "serving": 2, "leaving": 0},
        lanes=[lane("H", 99.75), lane("H", 99.5), lane("W", 3.0), lane("A", 1.0)],
        connections=ConnectionsNow(open=100, kernel=3, kernel_limit=1024, queued=5, parked=90, accepted=5000,
                                   served=4900, refused=11),
        responses=Responses(total=5000, by_class={"2xx": 4990, "5xx": 10}, per_second=1234.5, p50=0.001, p99=0.02),
        histogram=Histogram(buckets=[(0.0001, 5), (0.25, 4999), (10.0, 4999)], sum=12.3, count=5000), burst=None,
        threads_started=5001, grown={"start": 4, "all were busy": 2}, shrunk={"idle for 10 s": 1}, decisions=[],
        violations={"obs_fold": 3})
    sample.update(cast("Sample", changes))
    return sample


def lane(state: str, since: float) -> LaneNow:
    return LaneNow(lane=0, thread="worker", ident=1, state=state, since=since, connection=1, request=None, client=None)


def expected(sample: Sample, **labels: str) -> Series:
    """Each series that there must be, and no other."""
    connections, histogram = sample["connections"], sample["histogram"]
    found: Series = {}

    def add(name: str, value: float | None, **more: str) -> None:
        if value is not None:
            found[name, frozenset({**labels, **more}.items())] = value

    add("taskmaster_server_info", 1, address=sample["name"])
    for state, count in sample["threads"].items():
        add("taskmaster_threads", count, state=state)
    add("taskmaster_max_threads", sample["max_thread_count"])
    add("taskmaster_max_queued_connections", sample["max_accept_count"])
    add("taskmaster_threads_started_total", sample["threads_started"])
    for reason, count in sample["grown"].items():
        add("taskmaster_thread_decisions_total", count, change="grown", reason=reason)
    for reason, count in sample["shrunk"].items():
        add("taskmaster_thread_decisions_total", count, change="shrunk", reason=reason)
    ages = [sample["time"] - each["since"] for each in sample["lanes"]
            if each["state"] == "H" and each["since"] is not None]
    add("taskmaster_oldest_handler_seconds", max([0.0, *ages]))
    add("taskmaster_connections", connections["queued"], state="queued")
    add("taskmaster_connections", connections["parked"], state="parked")
    add("taskmaster_connections", sample["threads"]["serving"], state="serving")
    add("taskmaster_open_connections", connections["open"])
    add("taskmaster_kernel_backlog", connections["kernel"])
    add("taskmaster_kernel_backlog_limit", connections["kernel_limit"])
    add("taskmaster_connections_accepted_total", connections["accepted"])
    add("taskmaster_connections_served_total", connections["served"])
    add("taskmaster_connections_refused_total", connections["refused"])
    for code in {"2xx", "3xx", "4xx", "5xx", *sample["responses"]["by_class"]}:
        add("taskmaster_responses_total", sample["responses"]["by_class"].get(code, 0), code=code)
    for violation in VIOLATIONS:
        add("acceptor_violations_total", sample["violations"].get(violation, 0), violation=violation)
    for most, count in histogram["buckets"]:
        add("taskmaster_response_seconds_bucket", count, le=str(most))
    add("taskmaster_response_seconds_bucket", histogram["count"], le="+Inf")
    add("taskmaster_response_seconds_count", histogram["count"])
    add("taskmaster_response_seconds_sum", histogram["sum"])
    return found


def read(samples: Iterable[Sample], accept: str | None = None) -> tuple[list[Metric], str]:
    body, content_type = exposition(samples, accept)
    parse = cast("Callable[[str], Iterable[Metric]]",
                 parse_openmetrics if content_type.startswith("application/openmetrics-text") else parse_classic)
    return list(parse(body.decode())), content_type


def series(metrics: Iterable[Metric]) -> Series:
    found: Series = {}
    for metric in metrics:
        for each in metric.samples:
            key = each.name, frozenset(each.labels.items())
            assert key not in found, f"{key} is there twice"
            found[key] = each.value
    return found


# The numbers.


@pytest.mark.parametrize("accept", [None, "", "*/*", "text/plain", OPENMETRICS, PROMETHEUS_3])
def test_every_number_is_the_samples(accept: str | None) -> None:
    metrics, content_type = read([a_sample()], accept)
    assert series(metrics) == expected(a_sample(), server="pool", model="PooledTaskmaster")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0" if accept and "open" in accept
                                   else "text/plain; version=0.0.4")


def test_what_a_sample_does_not_know_is_not_there() -> None:
    sample = a_sample(max_thread_count=None, max_accept_count=None, grown={}, shrunk={}, lanes=[])
    sample["connections"]["kernel"] = sample["connections"]["kernel_limit"] = None
    metrics, _ = read([sample])
    assert series(metrics) == expected(sample, server="pool", model="PooledTaskmaster")
    names = {metric.name for metric in metrics}
    assert not names & {"taskmaster_max_threads", "taskmaster_max_queued_connections", "taskmaster_kernel_backlog",
                        "taskmaster_kernel_backlog_limit", "taskmaster_thread_decisions"}


def test_the_classes_and_violations_that_have_not_been_seen_are_there_as_zero() -> None:
    metrics, _ = read([a_sample(violations={}, responses=Responses(total=0, by_class={}, per_second=0.0, p50=None,
                                                                   p99=None))])
    found = {name: [value for (each, _), value in series(metrics).items() if each == name]
             for name in ("taskmaster_responses_total", "acceptor_violations_total")}
    assert found == {"taskmaster_responses_total": [0.0] * 4, "acceptor_violations_total": [0.0] * len(Violation)}


def test_several_sources_are_told_apart_by_label_and_those_of_several_processes_by_process_too() -> None:
    one, two = a_sample(label="thread"), a_sample(label="pool", threads_started=7)
    metrics, _ = read([one, two])
    assert series(metrics) == {**expected(one, server="thread", model="PooledTaskmaster"),
                               **expected(two, server="pool", model="PooledTaskmaster")}
    first, second = a_sample(process=1), a_sample(process=2, threads_started=9)
    metrics, _ = read([first, second], OPENMETRICS)
    assert series(metrics) == {**expected(first, server="pool", model="PooledTaskmaster", process="1"),
                               **expected(second, server="pool", model="PooledTaskmaster", process="2")}


def test_two_sources_that_cannot_be_told_apart_are_an_error_with_the_fix() -> None:
    with pytest.raises(ValueError, match="two sources are called 'pool': give each a label"):
        exposition([a_sample(), a_sample()])


def test_without_a_source_there_is_nothing_and_it_parses() -> None:
    for accept in (None, OPENMETRICS):
        metrics, _ = read([], accept)
        assert series(metrics) == {}


def test_a_handler_that_began_after_the_sample_was_read_has_no_negative_age() -> None:
    metrics, _ = read([a_sample(lanes=[lane("H", 100.5)])])
    assert {value for (name, _), value in series(metrics).items() if name == "taskmaster_oldest_handler_seconds"} == {0}


counts = st.integers(0, 2**53)
seconds = st.floats(0, 1e9)
words = st.text(st.characters(codec="utf-8"), max_size=20) | st.sampled_from(
    ['"', "\\", "\n", '\\n"', "\\\\n", "\r\n", "}", "{", ",", "a\\", "#", " ", "\u2028", "é", "\x00"])
reasons = st.dictionaries(words, counts, max_size=3)


@st.composite
def histograms(draw: st.DrawFn) -> Histogram:
    cumulative = sorted(draw(st.lists(counts, min_size=len(BOUNDS) + 1, max_size=len(BOUNDS) + 1)))
    return Histogram(buckets=list(zip(BOUNDS, cumulative, strict=False)), sum=draw(seconds), count=cumulative[-1])


samples = st.builds(
    a_sample, label=words, name=words, model=words, max_thread_count=st.none() | counts,
    max_accept_count=st.none() | counts,
    threads=st.fixed_dictionaries({state.word: counts for state in ThreadState}),
    lanes=st.lists(st.builds(lane, st.sampled_from("AHW_"), seconds), max_size=4),
    connections=st.fixed_dictionaries({**dict.fromkeys(("open", "queued", "parked", "accepted", "served", "refused"),
                                                       counts),
                                       "kernel": st.none() | counts, "kernel_limit": st.none() | counts}),
    responses=st.builds(lambda by_class: Responses(total=sum(by_class.values()), by_class=by_class, per_second=0.0,
                                                   p50=None, p99=None),
                        st.dictionaries(st.sampled_from(["1xx", "2xx", "4xx", "5xx", "9xx"]), counts)),
    histogram=histograms(), threads_started=counts, grown=reasons, shrunk=reasons,
    violations=st.dictionaries(st.sampled_from(VIOLATIONS), counts))


@settings(max_examples=40)
@given(st.lists(samples, min_size=1, max_size=2), st.sampled_from([None, OPENMETRICS]))
def test_whatever_a_sample_says_both_parsers_read_it_back(given: list[Sample], accept: str | None) -> None:
    for number, sample in enumerate(given):
        sample["process"] = number
    metrics, _ = read(given, accept)
    want: Series = {}
    for sample in given:
        process = {"process": str(sample["process"])} if len(given) > 1 else {}
        want |= expected(sample, server=sample["label"], model=sample["model"], **process)
    assert series(metrics) == want


def test_a_label_that_is_no_unicode_is_made_some() -> None:
    metrics, _ = read([a_sample(label="p\udcff", name="unix:/run/\udcff", grown={"\ud800": 1})])
    servers = {dict(labels)["server"] for _, labels in series(metrics)}
    assert servers == {"p?"}


# The conventions: https://prometheus.io/docs/practices/naming and https://prometheus.io/docs/specs/om/open_metrics_spec.


@pytest.mark.parametrize("accept", [None, OPENMETRICS])
def test_the_names_are_as_the_conventions_ask(accept: str | None) -> None:
    metrics, content_type = read([a_sample()], accept)
    for metric in metrics:
        assert re.fullmatch(r"(taskmaster|acceptor)_[a-z][a-z_]*[a-z]", metric.name), metric.name
        assert metric.documentation.endswith("."), f"{metric.name} has no help"
        assert not re.search(r"_(milliseconds|ms|minutes|count|total|bucket|sum|created|gauge|counter)$",
                             metric.name), metric.name
        names = {each.name for each in metric.samples}
        if metric.type == "counter":
            assert names == {metric.name + "_total"}
        elif metric.type == "histogram":
            assert names == {metric.name + suffix for suffix in ("_bucket", "_sum", "_count")}
        else:
            assert metric.type in ("gauge", "info")
            assert not any(name.endswith("_total") for name in names), f"{metric.name} is no counter"
        for each in metric.samples:
            assert all(re.fullmatch(r"[a-z][a-z_]*", label) for label in each.labels)
            assert not set(each.labels) & {"job", "instance"}, "those are Prometheus' own"
        if "openmetrics" in content_type:
            assert metric.unit == ("seconds" if metric.name.endswith("_seconds") else ""), metric.name
    assert len({metric.name for metric in metrics}) == len(metrics)


def test_the_buckets_only_grow_and_the_last_is_the_count() -> None:
    metrics, _ = read([a_sample()])
    [histogram] = [metric for metric in metrics if metric.type == "histogram"]
    buckets = [(float(each.labels["le"]), each.value) for each in histogram.samples if "le" in each.labels]
    assert buckets == sorted(buckets)
    assert buckets[-1] == (math.inf, 5000)


def test_the_page_about_watching_names_the_metrics_that_there_are() -> None:
    metrics, _ = read([a_sample()])
    names = {name for name, _ in series(metrics)} | {metric.name for metric in metrics if metric.type == "histogram"}
    text = (ROOT / "docs" / "watching.md").read_text()
    named = set(re.findall(r"\b(?:taskmaster|acceptor)_[a-z_]+\b", text))
    assert named - names == set(), "the page names what is not there"
    assert {name for name in names if not name.endswith(("_count", "_sum", "_bucket"))} - named == set()


# What is asked for, and what is not there.


@given(st.text(max_size=60) | st.sampled_from(["text/plain; version=x", ";;;,,,=", "a;version"])
       | st.builds("application/openmetrics-text; version={}".format,
                   st.text(max_size=9) | st.sampled_from(["x", "2.\r\nX: y", "\uff12.0.0", "2.\x07"])))
def test_whatever_is_accepted_there_is_an_answer_whose_type_can_stand_in_a_header(accept: str) -> None:
    body, content_type = exposition([a_sample()], accept)
    assert body
    assert content_type.isascii()
    assert content_type.isprintable()


def test_without_the_library_the_error_says_what_to_do() -> None:
    program = ("import sys; sys.modules['prometheus_client'] = None\n"
               "import watching.metrics\n"
               "try:\n    watching.metrics.exposition([])\nexcept ModuleNotFoundError as error:\n    print(error)\n")
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=ROOT,
                         check=True)
    assert run.stdout.endswith("pip install 'taskmasters[watch]'\n")


def test_the_library_is_imported_when_somebody_asks_and_its_own_registry_is_left_alone() -> None:
    program = ("import sys\nimport watching, watching.metrics\nassert 'prometheus_client' not in sys.modules\n"
               "import prometheus_client\nbefore = set(prometheus_client.REGISTRY._names_to_collectors)\n"
               "prometheus_client.REGISTRY.register = None\n"
               "watching.metrics.exposition([])\n"
               "assert set(prometheus_client.REGISTRY._names_to_collectors) == before\n")
    subprocess.run([sys.executable, "-c", program], timeout=60, cwd=ROOT, check=True)
