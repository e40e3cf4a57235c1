"""The open loop: that it keeps to its schedule whatever the server does, and counts rightly. No time is judged."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
import threading
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.children import ROOT
from bench.clients.histogram import NAMES, Histogram
from bench.clients.probe import Probed, probe, schedule
from bench.clients.probe_loop import Loop
from tests.scripted_server import HELLO, requests, scripted

# The schedule.


@given(st.floats(0.5, 500), st.floats(0.01, 2), st.sampled_from(["poisson", "even"]), st.integers(0, 10**6))
def test_a_schedule_ascends_within_its_time_and_is_the_same_for_the_same_seed(
        rate: float, seconds: float, arrivals: str, seed: int) -> None:
    due = schedule(rate, seconds, arrivals, seed)
    assert all(before <= after for before, after in pairwise(due))
    assert not due or (due[0] >= 0 and due[-1] < seconds + 0.5 / rate)
    assert due == schedule(rate, seconds, arrivals, seed)


def test_even_arrivals_are_as_many_as_asked_for_and_evenly_spaced() -> None:
    due = schedule(200, 1.5, "even")
    assert len(due) == 300
    assert due[:3].tolist() == [0, 0.005, 0.01]


@pytest.mark.parametrize("seed", range(5))
def test_random_arrivals_are_poisson(seed: int) -> None:
    due = schedule(1000, 10, "poisson", seed)
    gaps = [after - before for before, after in pairwise(due)]
    mean = sum(gaps) / len(gaps)
    deviation = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    assert abs(len(due) - 10_000) < 500  # five standard deviations
    assert 0.9 < deviation / mean < 1.1  # of the exponential distribution it is 1; evenly spaced, 0
    assert due != schedule(1000, 10, "poisson", seed + 1)


# Percentiles.


@given(st.lists(st.floats(0.001, 1e5), min_size=1, max_size=300))
def test_percentiles_are_those_of_the_sorted_values_to_three_digits(values: list[float]) -> None:
    summary = Histogram(values).summary()
    ascending = sorted(values)
    for name, percent in NAMES.items():
        rank = max(1, int(len(values) * percent / 100 + 0.5))
        assert summary[name] == pytest.approx(ascending[rank - 1], rel=1e-3, abs=2e-3)
    assert summary["max"] == pytest.approx(ascending[-1], abs=1e-4)
    assert summary["mean"] == pytest.approx(sum(values) / len(values), rel=1e-3, abs=1e-4)
    assert summary["p50"] <= summary["p90"] <= summary["p99"] <= summary["p99.9"] <= summary["max"] + 1e-4


@given(st.lists(st.floats(0.001, 1e5), min_size=1, max_size=300))
def test_a_curve_ascends_to_the_longest_in_few_points(values: list[float]) -> None:
    curve = Histogram(values).curve()
    assert len(curve) <= 60
    assert all(a[0] <= b[0] and a[1] <= b[1] for a, b in pairwise(curve))
    assert curve[-1][0] == pytest.approx(max(values), abs=1e-4)
    assert all(0 <= percent < 100 for _, percent in curve)


def test_of_no_values_there_are_no_percentiles() -> None:
    assert (Histogram(()).summary(), Histogram(()).curve(), len(Histogram(()))) == ({}, [], 0)


def test_without_hdrhistogram_it_is_an_import_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hdrh.histogram", None)
    with pytest.raises(ImportError):
        Histogram(())


# The loop, against a server that follows a script.


def answering(sock: socket.socket) -> None:
    for _ in requests(sock):
        sock.sendall(HELLO)


def ask(port: int, *, count: int = 20, rate: float = 200.0, arrivals: str = "even", new_connection: bool = False,
        connections: int = 2000, timeout: float = 10.0, drain: float = 10.0, path: str = "/") -> Probed:
    return probe(port, rate, warmup=0.0, duration=count / rate, arrivals=arrivals, new_connection=new_connection,
                 connections=connections, timeout=timeout, drain=drain, path=path)


@pytest.mark.parametrize("new_connection", [False, True])
def test_a_server_that_does_not_answer_is_asked_all_the_same(new_connection: bool) -> None:
    """In a closed loop this server, which answers nobody until all have asked, would never be asked by all."""
    all_asked = threading.Barrier(20)

    def serve(sock: socket.socket) -> None:
        for _ in requests(sock):
            all_asked.wait(10)
            sock.sendall(HELLO)

    with scripted(serve) as port:
        told = ask(port, new_connection=new_connection)
    assert (told.scheduled, told.sent, told.ok, told.connections) == (20, 20, 20, 20)
    assert told.latency_ms["max"] >= 95, "the first was due 95 ms before the last, and answered after it"
    assert (told.errors, told.non_2xx, told.unanswered) == ({}, {}, 0)


def test_latency_runs_from_when_a_request_was_due() -> None:
    with scripted(answering) as port:
        told = ask(port)
    for name in ("p50", "p99", "max"):
        assert told.latency_ms[name] >= told.from_send_ms[name] - 0.01 > 0
    assert told.late_ms["max"] >= told.late_ms["p50"] >= 0


def test_a_connection_that_is_free_is_used_again() -> None:
    seen = []

    def serve(sock: socket.socket) -> None:
        seen.append(sock)
        answering(sock)

    with scripted(serve) as port, Loop(port, "/", new_connection=False, most=10, timeout=10.0) as loop:
        loop.count()
        for _ in range(5):
            loop.run(time.perf_counter(), [0.0])
            loop.drain(10.0)
        assert len(loop.latencies_ms) == 5
        assert loop.most_open == 1
    assert len(seen) == 1


def test_with_a_new_connection_for_each_request_the_server_closes_first() -> None:
    asked, closed = [], []

    def serve(sock: socket.socket) -> None:
        asked.append(next(requests(sock)))
        sock.sendall(HELLO)
        sock.settimeout(0.001)
        try:
            closed.append(sock.recv(1))
        except TimeoutError:
            pass

    with scripted(serve) as port:
        told = ask(port, new_connection=True, path="/some/where")
    assert told.ok == len(asked) == 20
    assert all(request.startswith(b"GET /some/where ") and b"\r\nConnection: close" in request for request in asked)
    assert len(closed) < 20, "the client closed every connection before the server had"


def test_no_more_connections_than_allowed() -> None:
    over = threading.Event()

    def serve(sock: socket.socket) -> None:
        over.wait(10)

    with scripted(serve) as port:
        told = ask(port, connections=5, drain=0.0)
        over.set()
    assert (told.scheduled, told.sent, told.connections, told.unanswered) == (20, 5, 5, 5)
    assert told.errors == {"no connection free": 15}
    assert (told.ok, told.latency_ms, told.curve) == (0, {}, [])


def test_a_request_is_given_up_after_its_timeout() -> None:
    over = threading.Event()

    def serve(sock: socket.socket) -> None:
        over.wait(10)

    with scripted(serve) as port:
        told = ask(port, timeout=0.05)
        over.set()
    assert (told.errors, told.unanswered) == ({"timeout": 20}, 0)


@pytest.mark.parametrize(("answer", "kind"), [
    (b"", "closed early"),
    (HELLO[:-1], "closed early"),
    (b"HTTP/1.1 200 OK\r\n\r\n", "malformed"),
    (b"nonsense\r\n\r\n", "malformed"),
])
def test_what_is_no_response_is_an_error(answer: bytes, kind: str) -> None:
    def serve(sock: socket.socket) -> None:
        next(requests(sock))
        sock.sendall(answer)

    with scripted(serve) as port:
        told = ask(port)
    assert (told.ok, told.errors) == (0, {kind: 20})


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    told = ask(port)
    assert (told.ok, told.errors) == (0, {"connect": 20})


def test_other_statuses_are_responses_but_not_ok() -> None:
    def serve(sock: socket.socket) -> None:
        for _ in requests(sock):
            sock.sendall(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\nno")

    with scripted(serve) as port:
        told = ask(port)
    assert (told.ok, told.non_2xx, told.errors) == (0, {"503": 20}, {})


def test_a_response_may_come_in_any_pieces() -> None:
    def serve(sock: socket.socket) -> None:
        for number, _ in enumerate(requests(sock)):
            cut = number % len(HELLO)
            for piece in (HELLO[:cut], HELLO[cut:]):
                sock.sendall(piece)

    with scripted(serve) as port:
        told = ask(port)
    assert (told.ok, told.errors) == (20, {})


@pytest.mark.parametrize("said", [True, False])
def test_a_connection_that_the_server_has_done_with_is_no_error(said: bool) -> None:
    """It closes after one response, having said so or not; or just when it is used again."""
    answer = HELLO.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") if said else HELLO

    def serve(sock: socket.socket) -> None:
        several = requests(sock)
        next(several)
        sock.sendall(answer)
        if not said:
            next(several, None)  # asked again, it closes without a word

    with scripted(serve) as port:
        told = ask(port)
    assert (told.scheduled, told.sent, told.ok, told.errors) == (20, 20, 20, {})


def test_only_requests_due_after_the_warm_up_count() -> None:
    asked = []

    def serve(sock: socket.socket) -> None:
        for request in requests(sock):
            asked.append(request)
            sock.sendall(HELLO)

    with scripted(serve) as port:
        told = probe(port, 200, warmup=0.1, duration=0.05, arrivals="even")
    assert len(asked) == 30
    assert (told.scheduled, told.sent, told.ok) == (10, 10, 10)


def test_the_command_prints_one_line() -> None:
    with scripted(answering) as port:
        done = subprocess.run([sys.executable, "-m", "bench.clients.probe", "--port", str(port), "--rate", "200",
                               "--duration",
                               "0.1", "--warmup", "0", "--seed", "3", "--watch", str(os.getpid())], cwd=ROOT,
                              capture_output=True, text=True, timeout=30, check=True)
    told = Probed(**json.loads(done.stdout))
    assert told.ok == told.scheduled == len(schedule(200, 0.1, seed=3))
    assert told.server_cpu is not None
    assert told.server_cpu > 0
    assert told.generator_share >= 0


def test_the_command_refuses_a_rate_that_is_none() -> None:
    done = subprocess.run([sys.executable, "-m", "bench.clients.probe", "--port", "1", "--rate", "0"], cwd=ROOT,
                          capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "give a number above 0" in done.stderr
