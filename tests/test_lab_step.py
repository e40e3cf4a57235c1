"""The preset `step`: clients that come and go, what is seen of a server meanwhile, and what is said of it."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.clients.steps import StepLoad, measure_step
from bench.lab.preset import Saying
from bench.lab.record import Cell, Record, Results
from bench.presets.step import PRESET
from bench.presets.step_watch import accept_queue, asking_at, figures_of
from tests.scripted_server import HELLO, requests, scripted

BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
PHASES = [{"clients": clients, "from": start, "to": start + 1.0}
          for clients, start in ((10, 0.0), (400, 1.0), (10, 2.0))]


# The load.


def test_clients_come_at_once_and_go_when_they_are_answered() -> None:
    cut = []

    def serve(sock: socket.socket) -> None:
        for _ in requests(sock):
            try:
                sock.sendall(HELLO)
            except OSError:
                cut.append(sock)

    with scripted(serve) as port, StepLoad(port, 8, keep_alive=True) as load:
        load.run(0.02)
        assert (load.answered(), load.asking()) == (0, 0), "nobody takes part before anybody was told to"
        load.become(2)
        while load.answered() < 10:
            load.run(0.02)
        load.forget()
        load.become(8)
        while load.unanswered():
            load.run(0.02)
        assert load.asking() == 8
        load.become(2)
        while load.asking() > 2:
            load.run(0.02)
        load.forget()
        load.run(0.05)
        result = load.result(0.05, 0.0, None)
    assert len(result.answers) == 2
    assert result.ok == sum(result.answers) > 0
    assert result.errors == {}
    assert not cut


def test_who_is_refused_waits_before_asking_again() -> None:
    refused = []

    def serve(sock: socket.socket) -> None:
        for _ in requests(sock):
            refused.append(sock)
            sock.sendall(BUSY)

    with scripted(serve) as port, StepLoad(port, 2, keep_alive=True) as load:
        load.become(2)
        while load.unanswered():
            load.run(0.01)
        assert load.asking() < 2 or len(refused) > 2, "both are thinking, or have thought and asked again"
        load.become(0)
        while load.asking():
            load.run(0.01)
        result = load.result(1.0, 0.0, None)
    assert (result.ok, result.errors) == (0, {})
    assert len(refused) < 100


def test_three_phases_are_told_apart() -> None:
    def serve(sock: socket.socket) -> None:
        for _ in requests(sock):
            sock.sendall(HELLO)

    with scripted(serve) as port:
        told = measure_step(port, 1, 3, keep_alive=True, warmup=0.02, phase=0.15)
    assert [phase["clients"] for phase in told["phases"]] == [1, 3, 1]
    assert [len(phase["load"]["answers"]) for phase in told["phases"]] == [1, 3, 1]
    series = told["series"]
    assert sum(series["ok"]) == sum(phase["load"]["ok"] for phase in told["phases"])
    assert len({len(values) for values in series.values()}) == 1
    assert series["t"] == sorted(series["t"])


# What is seen.


def test_the_accept_queue_is_what_nobody_has_accepted() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=10) as listener:
        port = listener.getsockname()[1]
        assert accept_queue(port) == 0
        clients = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(3)]
        assert accept_queue(port) == 3
        listener.accept()[0].close()
        assert accept_queue(port) == 2
        for client in clients:
            client.close()
    assert accept_queue(port) == 0, "nobody listens there any more"


def seen(threads: Sequence[int], busy: Sequence[int], queued: Sequence[int], kernel: Sequence[int]) -> dict[str, Any]:
    return {"t": [0.1 + 0.2 * place for place in range(15)], "threads": threads, "busy": busy, "queued": queued,
            "kernel": kernel, "parked": [0] * 15}


def series(high: int = 400, p99: float | None = 60.0) -> dict[str, Any]:
    return {"t": [round(0.1 + 0.1 * place, 1) for place in range(30)], "ok": [1] * 30,
            "p99_ms": [60.0] * 20 + [p99] * 5 + [60.0] * 5, "asking": [10] * 10 + [high] * 10 + [10] * 10}


def test_figures_of_a_run_that_grows_and_shrinks() -> None:
    figures = figures_of(PHASES, seen([4] * 5 + [20, 60, 104, 104, 104] + [104, 54, 14, 4, 4],
                                      [4] * 5 + [20, 60, 100, 100, 100] + [4] * 5,
                                      [0] * 5 + [0, 5, 20, 20, 20] + [0] * 5,
                                      [0] * 5 + [300, 70, 30, 30, 30] + [0] * 5), series(p99=500.0))
    assert figures == {"threads": 104, "kernel_queue": 300, "grown_s": pytest.approx(0.5), "queued": 20,
                       "shrunk_s": pytest.approx(0.5), "kernel_waiting": 30, "parked": 0, "unseen": 280,
                       "recovered_s": pytest.approx(0.6)}


def test_who_has_its_threads_before_has_not_grown() -> None:
    figures = figures_of(PHASES, seen([128] * 15, [10] * 15, [0] * 15, [0] * 15), series(10))
    assert not {"grown_s", "shrunk_s"} & set(figures)
    assert figures["unseen"] == 0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 500), min_size=60, max_size=60), st.lists(st.none() | st.floats(0, 1e4), min_size=30,
                                                                        max_size=30))
def test_figures_can_be_made_of_anything(counts: list[int], p99: list[float | None]) -> None:
    figures = figures_of(PHASES, seen(counts[:15], counts[15:30], counts[30:45], counts[45:]),
                         series() | {"p99_ms": p99})
    assert figures["unseen"] >= 0
    for name in {"grown_s", "shrunk_s"} & set(figures):
        assert 0 <= figures[name] < 1.0
    assert 0 < figures.get("recovered_s", 1.0) <= 1.01


def test_asking_is_that_of_the_slice() -> None:
    assert [asking_at(series(), moment) for moment in (-1.0, 0.05, 1.05, 99.0)] == [10, 10, 400, 10]


# What is said.


def record(subject: str, block: int = 1, grown: float | None = None, few: int = 128, most: int = 128,
           unseen: float = 0.0, kernel: float = 0.0, parked: float = 0.0, **axes: Any) -> Record:
    metrics = {"threads": most, "unseen": unseen, "kernel_waiting": kernel, "parked": parked, "step_p99_ms": 80.0,
               "recovered_s": 0.2}
    if grown is not None:
        metrics["grown_s"] = grown
    loads = [{"ok": 1, "seconds": 1.0, "non_2xx": {}, "errors": {}, "starved": 0, "p99_ms": 1.0} for _ in range(3)]
    samples = seen([few] * 5 + [most] * 10, [4] * 15, [0] * 15, [0] * 15)
    return Record(Cell.of(subject, **({"keep_alive": True, "sleep_ms": 50.0} | axes)), block, metrics,
                  {"phases": PHASES, "samples": samples, "series": series(), "loads": loads})


def says(*records: Record) -> list[Saying]:
    return PRESET.says(Results(records))


def test_who_grows_is_said_and_how_fast() -> None:
    said = says(record("recycling-park", 1, 0.2, 11, 128), record("recycling-park", 2, 0.4, 10, 128),
                record("pool-park"), record("loop-threads", 1, 0.1, 11, 17))
    assert said[0].shown is True
    assert "recycling-park from 11 to 128 threads, nine tenths of them 0.20 to 0.40 s after" in said[0].text
    assert "As many threads as before have pool-park (128)" in said[0].text
    assert "A little, or not in every run, grows loop-threads (from 11 to 17)" in said[0].text
    assert any("recycling-park has them still after 1 s" in one.text for one in said)


def test_who_grew_in_one_run_only_has_not_grown() -> None:
    assert says(record("recycling-park", 1, 0.2, 11, 128), record("recycling-park", 2, None, 11, 12))[0].shown is False
    assert says(record("pool-park"))[0].shown is False


def test_where_clients_wait_unseen() -> None:
    said = says(record("recycling-hold", unseen=272, kernel=272), record("recycling-park", unseen=270, parked=270),
                record("thread", unseen=120), record("pool-park", unseen=2))[1]
    assert said.shown is True
    assert "recycling-hold 272 of 400, in the kernel's accept queue" in said.text
    assert "recycling-park 270 of 400, whose connections count as parked" in said.text
    assert "thread 120 of 400, who come, and go, and are refused. Not so pool-park." in said.text
    assert says(record("pool-park"))[1].shown is False


def test_several_loads_have_headings() -> None:
    said = says(record("pool-park"), record("pool-park", keep_alive=False))
    assert {one.heading for one in said} == {"Keep-alive on, sleep 50 ms", "Keep-alive off, sleep 50 ms"}


def test_what_failed_cannot_be_judged() -> None:
    failed = [Record(Cell.of("pool-park", keep_alive=True, sleep_ms=50.0), 1, failed="it ended too soon")]
    assert [one.shown for one in says(*failed)] == [None]
    assert [one.shown for one in says()] == [None]
    assert PRESET.figures(Results(failed)) == []


def test_the_figure_names_what_is_flawed() -> None:
    pytest.importorskip("matplotlib")
    good, bad = record("recycling-park", 1, 0.2, 11, 128), record("thread")
    bad.flaws = ["in the step: 20 of 400 clients got no answer at all"]
    [drawing] = PRESET.figures(Results([good, bad]))
    assert drawing.svg.startswith("<svg")
    assert "20 of 400 clients got no" in drawing.svg


# The whole.


def test_a_step_takes_two_numbers_of_clients() -> None:
    with pytest.raises(ValueError, match="give 10,400, not 400"):
        PRESET.cells(replace(PRESET.defaults, connections=(400,)))
    with pytest.raises(ValueError, match="leave out wrk"):
        PRESET.cells(replace(PRESET.defaults, generator="wrk"))


def test_a_step_is_measured_and_told() -> None:
    options = replace(PRESET.defaults, subjects=("recycling-park",), seconds=0.25, warmup=0.1, connections=(2, 12),
                      sleeps_ms=(5.0,))
    [cell] = PRESET.cells(options)
    made = PRESET.run(cell, 1, options)
    assert not made.failed
    assert [phase["clients"] for phase in made.detail["phases"]] == [2, 12, 2]
    assert {"threads", "unseen", "kernel_queue", "low_ok_per_s", "high_ok_per_s", "after_ok_per_s", "cpu_us"
            } <= set(made.metrics)
    again = Record.from_json(made.to_json())
    assert PRESET.says(Results([again]))[0].shown is not None
    assert len(PRESET.table(Results([again]))) == 2
