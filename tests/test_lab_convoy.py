"""The preset `convoy`: tiny requests beside those that compute, and what is said of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.children import cores
from bench.clients.load import measure
from bench.lab.preset import Saying
from bench.lab.record import Cell, Record, Results
from bench.presets.convoy import PRESET
from tests.scripted_server import HELLO, requests, scripted


def records(p50_ms: float, subject: str = "recycling-park", computing: int = 1, interval: float = 5.0,
            where: str = "one", spins: float = 150.0, **more: Any) -> list[Record]:
    """Two runs, one a little slower."""
    cell = Cell.of(subject, cores=where, switch_interval_ms=interval, computing=computing)
    figures = {"spins_per_s": spins} if computing else {}
    return [Record(cell, block, {"p50_ms": p50_ms * (1 + block / 100), "p99_ms": 3 * p50_ms, **figures}, **more)
            for block in (1, 2)]


def says(*made: list[Record]) -> list[Saying]:
    return PRESET.says(Results([record for records in made for record in records]))


def test_a_load_asks_for_the_path_it_was_told() -> None:
    asked = []

    def serve(sock: Any) -> None:
        for request in requests(sock):
            asked.append(request.split(b"\r\n")[0])
            sock.sendall(HELLO)

    with scripted(serve) as port:
        result = measure(port, 1, True, warmup=0.0, duration=0.05, path="/spin/5")
    assert result.ok > 0
    assert set(asked) == {b"GET /spin/5 HTTP/1.1"}


def test_the_convoy_is_said_with_what_a_shorter_interval_brings() -> None:
    said = says(records(0.2, computing=0), records(6.0), records(12.0, computing=2),
                records(0.8, interval=0.5, spins=140))
    assert said[0].shown is True
    assert "recycling-park 6.09 ms at p50 instead of 0.20, and 0.81 with a switch interval of 0.5 ms" in said[0].text
    assert "12.2 ms beside 2, 2.0 times that beside 1" in said[1].text
    assert said[2].shown is True
    assert "0.81 ms instead of 6.09, for 140 responses a second of the handler that computes instead of 150" in (
        said[2].text)


def test_what_is_not_clear_is_not_shown() -> None:
    assert says(records(0.2, computing=0), records(0.5))[0].shown is False, "2.5 times is not clear"
    mixed = [*records(0.2, computing=0), *records(6.0)]
    mixed[0].metrics["p50_ms"] = 7.0
    assert says(mixed)[0].shown is False, "one run without is as slow"
    assert says(records(0.2, computing=0), records(6.0), records(4.0, interval=0.5))[1].shown is False
    both = says(records(0.2, computing=0), records(6.0), records(0.2, "thread", 0), records(0.2, "thread"))
    assert both[0].shown is False, "it has to be so with each of them"


def test_processes_are_held_against_threads_on_all_cores() -> None:
    said = says(records(6.0, where="all"), records(0.3, "prefork", where="all"),
                records(4.0, "prefork", 2, where="all"))
    assert [one.shown for one in said] == [None, None, True]
    assert "prefork 0.30 ms, and 4.06 beside 2" in said[1].text
    assert "prefork 0.30 ms, where threads with one GIL take recycling-park 6.09 ms" in said[2].text
    assert says(records(6.0, where="all"), records(5.0, "prefork", where="all"))[-1].shown is False


def test_an_interpreter_without_a_gil_is_held_against_those_with_one() -> None:
    free = records(0.1, "recycling-park@3.14t", where="all")
    assert [one.shown for one in says(free)] == [None, None]
    said = says(records(6.0, "recycling-park@3.14", where="all"), free)[-1]
    assert said.shown is True
    assert "without a GIL tiny requests get past" in said.text
    assert says(records(0.2, where="all"), free)[-1].shown is False


def test_what_is_flawed_or_missing_cannot_be_judged() -> None:
    flawed = says(records(0.2, computing=0), records(6.0, flaws=["3 timeout"]))
    assert [one.shown for one in flawed] == [None]
    assert "cannot be said" in flawed[0].text
    assert [one.shown for one in says()] == [None]
    cell = Cell.of("thread", cores="one", switch_interval_ms=5.0, computing=1)
    failed = Results([Record(cell, 1, failed="it ended")])
    assert [one.shown for one in PRESET.says(failed)] == [None]
    assert PRESET.figures(failed) == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["thread", "prefork"]), st.sampled_from(["one", "all"]),
                          st.sampled_from([5.0, 0.5]), st.integers(0, 2), st.floats(0, 1e4), st.booleans())))
def test_something_can_be_said_of_any_records(rows: list[tuple[str, str, float, int, float, bool]]) -> None:
    made = [record for subject, where, interval, computing, p50, fit in rows
            for record in records(p50, subject, computing, interval, where, flaws=[] if fit else ["3 timeout"])]
    assert PRESET.says(Results(made))


def test_the_figure_has_a_line_for_each() -> None:
    pytest.importorskip("matplotlib")
    made = [*records(0.2, computing=0), *records(6.0), *records(0.8, interval=0.5),
            *records(0.3, "prefork", where="all", flaws=["3 timeout"])]
    [drawing] = PRESET.figures(Results(made))
    for words in ("recycling-park, one core, 5 ms", "recycling-park, one core, 0.5 ms", "prefork, all cores, 5 ms"):
        assert words in drawing.svg


def test_cells_are_those_that_can_show_something() -> None:
    cells = PRESET.cells(replace(PRESET.defaults, connections=(2,)))
    assert not any(cell.subject == "prefork" and cell["cores"] == "one" for cell in cells)
    assert {cell["computing"] for cell in cells} == {0, 2}
    if cores()[0] is not None:
        assert any(cell.subject == "prefork" for cell in cells)
    with pytest.raises(ValueError, match="leave out --app"):
        PRESET.cells(replace(PRESET.defaults, app="shop:app"))


@pytest.mark.parametrize("where", ["one", "all"])
def test_a_tiny_request_is_measured_beside_one_that_computes(where: str) -> None:
    pytest.importorskip("hdrh")
    options = replace(PRESET.defaults, seconds=0.3, warmup=0.1, rates=(50.0,))
    cell = Cell.of("recycling-park", cores=where, switch_interval_ms=0.5, computing=1)
    made = PRESET.run(cell, 1, options)
    assert not made.failed
    assert {"p50_ms", "p99_ms", "max_ms", "spins_per_s"} <= set(made.metrics)
    assert made.metrics["spins_per_s"] > 0
    assert Record.from_json(made.to_json()).to_json() == made.to_json()
