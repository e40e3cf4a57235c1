"""The other load generators: what they print is read rightly. The texts are what they printed, shortened."""

from __future__ import annotations

import json
import shutil
from types import ModuleType

import pytest

from bench.children import ChildError, running
from bench.clients import autocannon, h2load, hey, wrk
from bench.clients.foreign import timed
from bench.clients.generators import GENERATORS, generator_named, missing
from bench.lab.serving import serving
from bench.subjects import Setup

HEY = """
Summary:
  Total:	1.8923 secs
  Slowest:	0.0167 secs
  Fastest:	0.0023 secs
  Average:	0.0105 secs
  Requests/sec:	424.8757
  
  Total data:	358 bytes
  Size/request:	2 bytes

Response time histogram:
  0.002 [1]	|
  0.011 [140]	|■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■


Latency distribution:
  10% in 0.0100 secs
  50% in 0.0102 secs
  95% in 0.0142 secs
  99% in 0.0167 secs

Details (average, fastest, slowest):
  DNS+dialup:	0.0000 secs, 0.0023 secs, 0.0167 secs
  resp wait:	0.0101 secs, 0.0002 secs, 0.0165 secs

Status code distribution:
  [200]	149 responses
  [503]	30 responses

Error distribution:
  [4]	Get "http://127.0.0.1:18999/": context deadline exceeded (Client.Timeout exceeded while awaiting headers)
  [621]	Get "http://127.0.0.1:18999/": dial tcp 127.0.0.1:18999: connect: connection refused
"""  # noqa: W293

HEY_REFUSED = """
Summary:
  Total:	1.0095 secs
  Slowest:	0.0000 secs
  Average:	 NaN secs

Latency distribution:

Status code distribution:

Error distribution:
  [7112]	Get "http://127.0.0.1:1/": dial tcp 127.0.0.1:1: connect: connection refused
"""

H2LOAD = """starting benchmark...
progress: 100% of clients started
Main benchmark duration is over for thread #0. Stopping all clients.
Stopped all clients for thread #0

finished in 1.00s, 5.00 req/s, 4.26KB/s
requests: 5 total, 10 started, 5 done, 3 succeeded, 2 failed, 0 errored, 0 timeout
status codes: 3 2xx, 0 3xx, 0 4xx, 2 5xx
traffic: 4.26KB (4360) total, 1.60KB (1635) headers (space savings 0.00%), 218B (218) data
                     min         max         mean         sd        +/- sd
time for request:     1.00ms     13.82ms     10.12ms       723us    91.74%
"""
H2LOAD_LOG = """1795688224458954	200	2000
1795688224458934	200	1000
1795688224458944	503	13820
1795688224458990	200	6000
1795688224458999	503	7000
"""

AUTOCANNON = json.dumps({
    "url": "http://127.0.0.1:18999/", "connections": 5, "duration": 2.07, "errors": 6, "timeouts": 4, "mismatches": 0,
    "non2xx": 58, "resets": 0, "1xx": 0, "2xx": 292, "3xx": 0, "4xx": 0, "5xx": 58,
    "statusCodeStats": {"200": {"count": 292}, "503": {"count": 58}},
    "latency": {"average": 18.83, "mean": 18.83, "min": 1, "max": 173, "p50": 18, "p97_5": 36, "p99": 170}})


def test_hey_is_read() -> None:
    result = hey.parse(HEY, 0.5, 0.25)
    assert (result.seconds, result.ok) == (1.8923, 149)
    assert result.non_2xx == {"503": 30}
    assert result.errors == {"timeout": 4, "connect": 621}
    assert (result.mean_ms, result.p50_ms, result.p99_ms, result.max_ms) == pytest.approx((10.5, 10.2, 16.7, 16.7))
    assert (result.generator_share, result.server_cpu, result.starved) == (0.5, 0.25, None)


def test_hey_without_any_response_is_read() -> None:
    result = hey.parse(HEY_REFUSED, 0.5, None)
    assert (result.ok, result.errors, result.mean_ms, result.p99_ms) == (0, {"connect": 7112}, 0.0, 0.0)


def test_h2load_is_read_with_its_log() -> None:
    result = h2load.parse(H2LOAD, H2LOAD_LOG, 0.5, 0.25)
    assert (result.seconds, result.ok, result.non_2xx, result.errors) == (1.0, 3, {"503": 2}, {})
    assert (result.mean_ms, result.p50_ms, result.p99_ms, result.max_ms) == (3.0, 2.0, 6.0, 6.0)


def test_h2load_tells_errors_and_timeouts_apart() -> None:
    result = h2load.parse(H2LOAD.replace("0 errored, 0 timeout", "5 errored, 2 timeout"), "1\t-1\t5\n", 0.5, 0.25)
    assert (result.ok, result.non_2xx, result.errors) == (0, {}, {"errored": 3, "timeout": 2})


def test_autocannon_is_read() -> None:
    result = autocannon.parse(AUTOCANNON, 0.5, 0.25)
    assert (result.seconds, result.ok, result.non_2xx) == (2.07, 292, {"503": 58})
    assert result.errors == {"errored": 2, "timeout": 4}
    assert (result.mean_ms, result.p50_ms, result.p99_ms, result.max_ms) == (18.83, 18, 170, 173)


@pytest.mark.parametrize("text", ["", "Segmentation fault", "[]", "{}", "finished in", "Total: 1.0 secs"])
def test_anything_else_is_said_not_to_be_theirs(text: str) -> None:
    with pytest.raises(ValueError, match="not what hey prints"):
        hey.parse(text, 0.5, 0.25)
    with pytest.raises(ValueError, match="not what h2load prints"):
        h2load.parse(text, "", 0.5, 0.25)
    with pytest.raises(ValueError, match="not what autocannon prints"):
        autocannon.parse(text, 0.5, 0.25)
    with pytest.raises(ValueError, match="not what wrk prints"):
        wrk.parse(text, 0.5, 0.25)


def test_each_is_found_by_its_name_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    found = [generator_named(name) for name in GENERATORS]
    assert found[1:] == [wrk.measure, hey.measure, h2load.measure, autocannon.measure]


@pytest.mark.parametrize(("name", "fix"), [("wrk", "apt install wrk"), ("hey", "apt install hey"),
                                           ("h2load", "apt install nghttp2-client"),
                                           ("autocannon", "npm install --global autocannon")])
def test_what_is_not_installed_is_said_with_how_to_get_it(name: str, fix: str, monkeypatch: pytest.MonkeyPatch
                                                          ) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert fix in missing(name)
    with pytest.raises(ValueError, match=fix):
        generator_named(name)
    assert missing("builtin") == ""


def test_an_unknown_one_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"no generator 'ab': choose from builtin, wrk, hey, h2load, autocannon"):
        generator_named("ab")


@pytest.mark.parametrize("tool", [h2load, autocannon])
def test_those_that_cannot_do_without_keep_alive_say_so(tool: ModuleType) -> None:
    with pytest.raises(ValueError, match="choose another --generator"):
        tool.measure(1, 1, False, warmup=0.0, duration=1.0, timeout=1.0, watch=1, core=None, meanwhile=lambda: None)


def test_a_program_that_prints_nothing_is_an_error_with_what_it_said() -> None:
    with running(["sleep", "30"]) as watched, pytest.raises(ChildError, match="sh printed nothing: no such option"):
        timed(["sh", "-c", "echo no such option >&2"], 1.0, watch=watched.pid, core=None, meanwhile=lambda: None)


def test_a_program_is_run_and_what_it_printed_returned() -> None:
    with running(["sleep", "30"]) as watched:
        ran = timed(["echo", "some", "text"], 1.0, watch=watched.pid, core=None, meanwhile=lambda: None)
    assert ran.text == "some text\n"
    assert ran.generator_share > 0
    assert ran.server_cpu >= 0


def test_the_built_in_one_loads_a_server() -> None:
    with serving("recycling-park", Setup(), pinned=False) as server:
        result = generator_named("builtin")(server.port, 2, True, warmup=0.0, duration=0.1, timeout=5.0,
                                            watch=server.pid, core=None, meanwhile=server.look)
    assert result.ok > 0
    assert (result.errors, result.starved) == ({}, 0)
    assert result.server_cpu is not None
