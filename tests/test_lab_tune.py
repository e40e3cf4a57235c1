"""The preset `tune`: where the knee is, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.lab.preset import Saying
from bench.lab.record import Cell, Record, Results
from bench.presets.tune import PRESET, THREADS
from bench.presets.tune_sentences import Load, ceiling, fit_cells, knee

LOAD = Load(100, 1.0)
RATES = {1: 850.0, 2: 1700.0, 4: 3300.0, 8: 6000.0, 16: 8000.0, 32: 8200.0, 64: 8100.0, 128: 7900.0}
META = {"measured_sleep_ms": {"1": 1.08}}


def records(rates: Mapping[int, float], subject: str = "pool-park", dearer: float = 1.0, flawed: int = 0,
            sleep_ms: float = 1.0) -> list[Record]:
    """Two runs of each number of threads, one a little slower; those with less than `flawed` threads are flawed."""
    return [Record(Cell.of(subject, connections=100, sleep_ms=sleep_ms, threads=threads), block,
                   {"ok_per_s": rate - block, "cpu_us": 100.0 * dearer ** (threads > 16) + block, "p99_ms": 10.0,
                    "p50_ms": 5.0},
                   flaws=["92 of 100 clients got no answer at all"] if threads < flawed else [])
            for threads, rate in rates.items() for block in (1, 2)]


def says(*made: Record) -> list[Saying]:
    return PRESET.says(Results(made, META))


def test_the_knee_is_the_fewest_threads_within_five_per_cent() -> None:
    results = Results(records(RATES))
    first = knee(results, fit_cells(results, LOAD, "pool-park"))
    assert first is not None
    assert first["threads"] == 16


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.sampled_from(THREADS), st.floats(1, 1e5), min_size=1))
def test_no_number_of_threads_is_much_better_than_the_knee(rates: dict[int, float]) -> None:
    results = Results([Record(Cell.of("pool-park", connections=100, sleep_ms=1.0, threads=threads), 1,
                              {"ok_per_s": rate}) for threads, rate in rates.items()])
    first = knee(results, fit_cells(results, LOAD, "pool-park"))
    assert first is not None
    best = max(rates.values())
    assert rates[first["threads"]] >= 0.95 * best
    assert all(rate < 0.95 * best for threads, rate in rates.items() if threads < first["threads"])
    assert PRESET.says(results)


def test_the_ceiling_is_of_what_the_sleep_really_takes() -> None:
    results = Results([], META)
    assert ceiling(results, LOAD, 54) == pytest.approx(50_000)
    assert ceiling(Results([]), LOAD, 54) == pytest.approx(54_000), "not measured: what was asked for"
    assert ceiling(results, Load(100, 0.0), 54) is None


def test_a_knee_is_said_with_what_binds_below_it_and_what_more_threads_cost() -> None:
    said = says(*records(RATES, dearer=1.5))
    assert [one.shown for one in said] == [True, True, True]
    assert "within 5 % of the best are: pool-park 16 threads, 7,998 responses a second" in said[0].text
    assert "more threads give clearly more than 1 does" in said[0].text
    assert "pool-park gives 92% of it with 1, 81% with the last number below its knee" in said[1].text
    assert "pool-park 152 us with 128 threads, 102 us with 16" in said[2].text


def test_what_more_threads_do_not_cost_is_told_apart() -> None:
    said = says(*records(RATES, dearer=1.5), *records(RATES, "recycling-park"))[2]
    assert said.shown is True
    assert said.text.endswith("Not clearly so: recycling-park 102 us with 128 threads, 102 us with 16.")


def test_what_is_not_there_is_said_not_to_be_shown() -> None:
    level = says(*records(dict.fromkeys(THREADS, 5000.0)))
    assert level[0].shown is False
    rising = says(*records({threads: 100.0 * threads for threads in THREADS}))
    assert rising[0].shown is False, "128 is the best: the knee may be further on"
    assert rising[1].shown is False, "a tenth of the ceiling"
    assert [one.shown for one in says(*records(RATES))] == [True, True, False]


def test_without_a_sleep_there_is_no_ceiling() -> None:
    said = says(*records(dict.fromkeys(THREADS, 9000.0), sleep_ms=0.0))
    assert not any("binds" in one.text for one in said)


def test_flawed_cells_have_no_part_in_it() -> None:
    said = says(*records(RATES, "pool-hold", flawed=128), *records(RATES))
    assert not any("pool-hold" in one.text for one in said[:-1])
    assert said[-1].text.endswith("pool-hold with 1, 2, 4, 8, 16, 32, 64 threads.")
    assert said[-1].shown is None
    [alone, _] = says(*records(RATES, "pool-hold", flawed=128))
    assert (alone.shown, "cannot be said" in alone.text) == (None, True)
    assert [one.shown for one in says()] == [None]


def test_two_sleeps_have_headings_and_figures_of_their_own() -> None:
    pytest.importorskip("matplotlib")
    made = [*records(RATES, flawed=8), *records(RATES, sleep_ms=0.0)]
    assert {one.heading for one in says(*made)} == {"100 clients, the handler sleeps 1 ms",
                                                    "100 clients, the handler does not sleep"}
    drawings = PRESET.figures(Results(made, META))
    assert len({drawing.name for drawing in drawings}) == 2
    assert ["measured sleep" in drawing.svg for drawing in drawings] == [True, False]


def test_one_number_of_threads_is_measured() -> None:
    options = replace(PRESET.defaults, subjects=("recycling-park",), seconds=0.15, warmup=0.05, connections=(4,))
    cells = PRESET.cells(options)
    assert [cell["threads"] for cell in cells] == list(THREADS)
    made = PRESET.run(cells[1], 1, options)
    assert not made.failed
    assert made.flaws == []
    assert made.metrics["ok_per_s"] > 0
    assert {"cpu_us", "p50_ms", "p99_ms", "little"} <= set(made.metrics)
    with pytest.raises(ValueError, match="leave out wrk"):
        PRESET.cells(replace(options, generator="wrk"))
