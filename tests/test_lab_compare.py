"""`bench compare A B`: what is called slower is, and nothing else is said to be. Nothing is measured."""

from __future__ import annotations

import argparse
import math
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.lab import compare
from bench.lab.comparison import Row, compared, judged, lost
from bench.lab.ranking import ranking
from bench.lab.record import Cell, Record, Results
from bench.lab.statistics import Ratio, beyond_chance, interval_of, ratio_of_groups, t_quantile, t_tail
from tests.lab_results import MadeUp, folder_of, meta_of, runs_of

values = st.lists(st.floats(min_value=1e-3, max_value=1e6), min_size=2, max_size=8)
CELLS = [Cell.of(subject, keep_alive=keep_alive) for keep_alive in (True, False) for subject in ("a", "b", "c")]


def results(rng: random.Random, cost: Callable[[Cell], float], blocks: int = 5, noise: float = 0.01) -> Results:
    return Results([record for cell in CELLS for record in
                    runs_of(cell, blocks, rng, noise, cpu_us=cost(cell), ok_per_s=1e6 / cost(cell))])


def forty(cell: Cell) -> float:
    return 40.0


def verdicts(a: Results, b: Results, reference: str | None = None) -> dict[Cell, str]:
    rows, _ = compared(a, b, ["cpu_us"], reference)
    return {row.cell: row.verdict for row in judged(rows, 3.0)}


# Statistics.


@settings(max_examples=30)
@given(values, values)
def test_the_ratio_of_groups_says_the_same_in_both_directions_and_in_any_order(a: list[float], b: list[float]) -> None:
    there, back = ratio_of_groups(a, b), ratio_of_groups(b[::-1], a)
    assert there.low <= there.value <= there.high
    assert there.value * back.value == pytest.approx(1)
    assert there.low * back.high == pytest.approx(1)


@settings(max_examples=30)
@given(values, values)
def test_welchs_freedom_lies_between_that_of_the_smaller_group_and_that_of_both(a: list[float], b: list[float]) -> None:
    freedom = ratio_of_groups(a, b).freedom
    assert min(len(a), len(b)) - 1 <= freedom <= len(a) + len(b) - 2 + 1e-6


def test_equal_groups_of_equal_spread_have_the_freedom_of_students_t() -> None:
    found = ratio_of_groups([1.0, 2.0, 4.0], [2.0, 4.0, 8.0])
    assert found.value == pytest.approx(2)
    assert found.freedom == pytest.approx(4)
    error = math.log(2) * math.sqrt(2 / 3)
    assert math.log(found.high / found.value) == pytest.approx(2.776 * error, rel=1e-3)


def test_groups_without_spread_are_known_exactly() -> None:
    found = ratio_of_groups([100.0, 100.0], [90.0, 90.0])
    assert (found.low, found.value, found.high) == pytest.approx((0.9, 0.9, 0.9))
    assert found.chance_below(0.95) == 0
    assert found.chance_above(0.95) == 1


@pytest.mark.parametrize(("a", "b"), [([1.0], [1.0, 2.0]), ([1.0, 2.0], []), ([1.0, 0.0], [1.0, 1.0])])
def test_what_no_ratio_of_groups_can_be_made_of(a: list[float], b: list[float]) -> None:
    with pytest.raises(ValueError, match=r"two of each are the least|a cost is above 0"):
        ratio_of_groups(a, b)


@pytest.mark.parametrize(("t", "freedom", "chance"), [
    (1.0, 1, 0.25), (math.sqrt(2), 2, 0.5 - 0.25 * math.sqrt(2)), (0.0, 7.5, 0.5), (-1.0, 1, 0.75), (6.314, 1, 0.05),
    (3.169, 10, 0.005), (1.9623, 1000, 0.025)])
def test_the_tail_of_students_t(t: float, freedom: float, chance: float) -> None:
    """Of 1 and 2 degrees in closed form; the others from NIST/SEMATECH e-Handbook, section 1.3.6.7.2."""
    assert t_tail(t, freedom) == pytest.approx(chance, rel=1e-3)


@settings(max_examples=30)
@given(st.floats(min_value=1, max_value=40), st.floats(min_value=0, max_value=1))
def test_a_quantile_between_two_whole_freedoms_lies_between_theirs(freedom: float, more: float) -> None:
    assert t_quantile(freedom + 1) - 1e-4 <= t_quantile(freedom + more) <= t_quantile(freedom) + 1e-4


def test_the_interval_of_groups_has_the_truth_in_it_as_often_as_it_says() -> None:
    rng, truth, times, hits = random.Random(99), 1.2, 2000, 0
    for _ in range(times):
        found = ratio_of_groups([rng.lognormvariate(3, 0.02) for _ in range(4)],
                                [truth * rng.lognormvariate(3, 0.06) for _ in range(4)])
        hits += found.low <= truth <= found.high
    assert 0.93 < hits / times < 0.97


def test_the_interval_of_one_group() -> None:
    low, high = interval_of([1.0, 2.0, 4.0])
    assert low * high == pytest.approx(4)
    assert math.log(high / 2) == pytest.approx(4.3027 * math.log(2) / math.sqrt(3), rel=1e-3)
    with pytest.raises(ValueError, match="two are the least"):
        interval_of([1.0])


def test_of_many_findings_those_stand_that_are_surer_than_chance_would_give() -> None:
    """The example of Benjamini and Hochberg's paper, section 3.2, at 0.05: the four smallest."""
    chances = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528,
               0.7590, 1.0]
    assert beyond_chance(chances, 0.05) == [True] * 4 + [False] * 11
    assert beyond_chance(chances[::-1], 0.05) == [False] * 11 + [True] * 4
    assert beyond_chance([], 0.05) == []


# Verdicts.


def test_what_became_slower_is_called_so_and_nothing_else_is() -> None:
    rng = random.Random(1)
    found = verdicts(results(rng, forty), results(rng, lambda cell: 50.0 if cell == CELLS[1] else 40.0))
    assert found.pop(CELLS[1]) == "SLOWER"
    assert set(found.values()) <= {"no difference seen", "perhaps slower", "perhaps faster"}


def test_where_higher_is_better_less_is_slower() -> None:
    rng = random.Random(2)
    rows, _ = compared(results(rng, forty), results(rng, lambda cell: 80.0), ["ok_per_s"])
    assert {row.verdict for row in judged(rows, 3.0)} == {"SLOWER"}
    assert all(row.ratio.value == pytest.approx(0.5, rel=0.05) for row in rows)
    rows, _ = compared(results(rng, lambda cell: 80.0), results(rng, forty), ["ok_per_s"])
    assert {row.verdict for row in judged(rows, 3.0)} == {"faster"}


def test_worse_is_above_1_whichever_way_is_better() -> None:
    ratio = Ratio(0.8, 0.5, 0.9, 3, 0.1, 4.0)
    assert Row(CELLS[0], "cpu_us", 1.0, 0.8, ratio).worse == ratio
    turned = Row(CELLS[0], "ok_per_s", 1.0, 0.8, ratio).worse
    assert (turned.low, turned.value, turned.high) == pytest.approx((1 / 0.9, 1.25, 2.0))
    assert turned.chance_above(1.1) == pytest.approx(ratio.chance_below(1 / 1.1))


def test_a_figure_that_is_no_time_gets_worse_and_not_slower() -> None:
    rng = random.Random(3)
    a, b = (Results(runs_of(CELLS[0], 5, rng, jain=jain)) for jain in (0.9, 0.4))
    assert judged(compared(a, b, ["jain"])[0], 3.0)[0].verdict == "WORSE"


def test_what_is_worse_by_less_than_the_tolerance_is_only_perhaps() -> None:
    rng = random.Random(4)
    found = verdicts(results(rng, forty, noise=0.001), results(rng, lambda cell: 40.8, noise=0.001))
    assert set(found.values()) == {"perhaps slower"}


def test_one_finding_among_many_that_chance_would_give_is_only_perhaps() -> None:
    rng = random.Random(11)
    cells = [Cell.of(f"s{n}") for n in range(60)]
    a = Results([run for cell in cells for run in runs_of(cell, 3, rng, 0.05, cpu_us=40.0)])
    b = Results([run for cell in cells for run in runs_of(cell, 3, rng, 0.05, cpu_us=40.0)])
    rows = judged(compared(a, b, ["cpu_us"])[0], 0.0)
    alone = [row for row in rows if row.worse.above(1.0)]
    assert alone, "the seed is to give what looks like a finding"
    assert {row.verdict for row in alone} == {"perhaps slower"}
    assert {row.note for row in alone} == {"may be chance"}


def test_with_nothing_changed_a_build_is_rarely_stopped() -> None:
    """One in forty is promised; of 100 more than 8 would come to pass once in 700 times."""
    rng = random.Random(6)
    stopped = sum("SLOWER" in verdicts(results(rng, forty, 3, 0.05), results(rng, forty, 3, 0.05)).values()
                  for _ in range(100))
    assert stopped <= 8


def test_relative_to_a_subject_a_slow_day_is_none() -> None:
    rng, days = random.Random(8), random.Random(9)
    a, b = results(rng, forty, noise=0.002), results(rng, forty, noise=0.002)
    for both in (a, b):
        pace = {block: days.uniform(1, 1.5) for block in range(1, 6)}
        for record in both.records:
            record.metrics["cpu_us"] *= pace[record.block] * (1.4 if both is b else 1.0)
    rows, _ = compared(a, b, ["cpu_us"], "a")
    assert {row.cell.subject for row in rows} == {"b", "c"}
    assert all(row.ratio.value == pytest.approx(1, abs=0.01) and row.ratio.high < 1.02 for row in rows)
    plain, _ = compared(a, b, ["cpu_us"])
    assert all(row.ratio.value > 1.2 for row in plain)


def test_a_block_in_which_the_other_subject_has_no_figure_is_left_out() -> None:
    rng = random.Random(13)
    a, b = results(rng, forty), results(rng, lambda cell: 60.0 if cell.subject == "b" else 40.0)
    a.of(CELLS[0])[2].flaws.append("1 response 503")
    b.of(CELLS[0])[1].metrics.clear()
    for cell, pairs in ((CELLS[1], 4), (CELLS[4], 5)):
        row = next(row for row in compared(a, b, ["cpu_us"], "a")[0] if row.cell == cell)
        assert row.ratio.pairs == pairs
        assert row.ratio.value == pytest.approx(1.5, rel=0.05)


def test_what_is_flawed_or_not_in_both_is_left_out_and_said() -> None:
    rng = random.Random(10)
    a, b = results(rng, forty), results(rng, forty)
    for record in a.of(CELLS[0]):
        record.flaws.append("9 responses 503")
    b.of(CELLS[1])[0].failed = "it did not start"
    b = Results([record for record in b.records if record.cell != CELLS[2]])
    rows, left_out = compared(a, b, ["cpu_us", "ok_per_s"])
    assert left_out == {"only in A": [CELLS[2]], "flawed: 5 of 5 runs of A": [CELLS[0]]}
    assert {row.note for row in rows if row.cell == CELLS[1]} == {"flawed: 1 of 5 runs of B"}
    assert {row.cell for row in rows} == {CELLS[1], *CELLS[3:]}


def test_what_was_fit_and_is_so_no_more_is_lost() -> None:
    rng = random.Random(12)
    a, b = results(rng, forty), results(rng, forty)
    for record in b.of(CELLS[3]):
        record.flaws.append("9 responses 503")
    b.of(CELLS[4])[0].flaws.append("1 response 503")
    assert lost(a, b) == [CELLS[3]]
    assert lost(b, a) == []


# Ranking.


def ordered(costs: Sequence[float], noise: float = 0.005, seed: int = 1) -> Results:
    rng = random.Random(seed)
    return Results([record for cell, cost in zip(CELLS, costs, strict=True)
                    for record in runs_of(cell, 5, rng, noise, cpu_us=cost)])


def test_the_same_order_twice() -> None:
    found = ranking(ordered((10, 20, 30, 30, 20, 10)), ordered((11, 21, 31, 31, 21, 11), seed=2), "cpu_us")
    assert (found.pairs, found.told, found.reversed) == (6, 6, ())
    assert "all of them in the same order" in str(found)


def test_another_order_is_told_with_its_load() -> None:
    found = ranking(ordered((10, 20, 30, 30, 20, 10)), ordered((20, 10, 30, 30, 20, 10), seed=2), "cpu_us")
    assert found.reversed == (("keep-alive on", "a", "b"),)
    assert "ANOTHER ORDER. keep-alive on: a is below b in A, above it in B" in str(found)


def test_intervals_that_overlap_contradict_nothing() -> None:
    found = ranking(ordered((10, 10.1, 30, 30, 20, 10), 0.05), ordered((10.1, 10, 30, 30, 20, 10), 0.05, 2), "cpu_us")
    assert (found.pairs, found.told, found.reversed) == (6, 5, ())
    nothing = ranking(ordered((10,) * 6), ordered((10,) * 6, seed=2), "cpu_us")
    assert "nothing to be said" in str(nothing)


def test_flawed_cells_and_single_runs_are_not_ranked() -> None:
    a, b = ordered((10, 20, 30, 30, 20, 10)), ordered((20, 10, 30, 30, 20, 10), seed=2)
    a.of(CELLS[0])[0].flaws.append("1 response 503")
    assert ranking(a, b, "cpu_us").reversed == ()
    once = Results([record for record in b.records if record.block == 1])
    assert ranking(b, once, "cpu_us").pairs == 0


# The command.


@pytest.fixture(autouse=True)
def preset(monkeypatch: pytest.MonkeyPatch) -> MadeUp:
    made_up = MadeUp()
    monkeypatch.setattr(compare, "find_preset", lambda name: made_up)
    return made_up


def folder(path: Path, factor: float = 1.0, blocks: int = 4, change: Callable[[Record], None] = lambda record: None,
           **meta: Any) -> Path:
    made_up, rng = MadeUp(), random.Random(str(path.name))
    records = [record for cell in made_up.cells(made_up.defaults) for record in
               runs_of(cell, blocks, rng, 0.005, cpu_us=40 * factor, ok_per_s=1e4, little=9.0)]
    for record in records:
        change(record)
    return folder_of(path, records, meta_of(made_up, **meta))


def code_of(a: Path, b: Path, **more: Any) -> int:
    return compare.run_compare_folders(argparse.Namespace(
        **{"a": a, "b": b, "metrics": None, "tolerance": 3.0, "relative_to": None} | more))


def test_nothing_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of(folder(tmp_path / "a"), folder(tmp_path / "b")) == 0
    said = capsys.readouterr().out
    assert "server CPU for a response, us: lower is better" in said
    assert "2xx responses a second: higher is better" in said
    assert "Nothing is worse by more than 3 % beyond doubt." in said
    assert re.search(r"in half of the cells a difference below \d\.\d%", said)
    assert "Order by server CPU for a response" in said
    assert "NOTE" not in said
    assert max(map(len, said.splitlines())) <= 120


def test_slower_is_an_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = folder(tmp_path / "a"), folder(tmp_path / "b", 1.25)
    assert code_of(a, b) == 1
    assert "connections 10, server CPU for a response: B is SLOWER: 1.2" in capsys.readouterr().out
    assert code_of(b, a) == 0
    assert "B is faster: 0.8" in capsys.readouterr().out
    assert code_of(a, b, tolerance=40.0) == 0
    assert code_of(a, b, metrics=["ok_per_s"]) == 0
    assert code_of(a, b, relative_to="single") == 0
    assert "relative to single" in capsys.readouterr().out


def test_noise_is_said_loudly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def disturb(record: Record) -> None:
        record.detail["others"] = 0.4

    assert code_of(folder(tmp_path / "a"), folder(tmp_path / "b", change=disturb)) == 0
    said = capsys.readouterr().out
    assert "NOTE: IN B OTHERS HAD 40% of the server's core" in said
    assert "IN A" not in said


def test_a_cell_that_is_fit_no_more_is_an_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(record: Record) -> None:
        if record.cell.subject == "thread":
            record.flaws.append("12 responses 503")

    assert code_of(folder(tmp_path / "a"), folder(tmp_path / "b", change=refuse)) == 1
    assert "thread, keep-alive on, connections 10: LOST" in capsys.readouterr().out


def test_another_machine_is_said_loudly_and_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slower = asdict(MadeUp.defaults) | {"seconds": 5.0}
    assert code_of(folder(tmp_path / "a"), folder(tmp_path / "b", cpu="Another CPU", options=slower)) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "NOTE: NOT THE SAME MACHINE, or not in the same state: cpu A CPU and Another CPU." in said
    assert "NOTE: NOT RUN IN THE SAME WAY: seconds 0.1 and 5.0." in said


@pytest.mark.parametrize(("make", "more", "why"), [
    (lambda path: folder(path, preset="other"), {}, "is of the preset made-up, .* of other; give two of the same"),
    (lambda path: path, {}, "cannot be read .*; give folders made by python -m bench run"),
    (lambda path: folder(path, change=lambda record: record.metrics.clear()), {}, "no figure in common"),
    (folder, {"metrics": ["little"]}, "choose from ok_per_s, cpu_us"),
    (folder, {"metrics": ["cpu"]}, "choose from ok_per_s, cpu_us"),
    (folder, {"relative_to": "loop"}, "--relative-to one of single, thread"),
    (lambda path: folder(path, blocks=1), {}, "4 and 1 values: two of each are the least .* Nothing could be compared"),
])
def test_what_cannot_be_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Callable[[Path], Path],
                                 more: dict[str, Any], why: str) -> None:
    assert code_of(folder(tmp_path / "a"), make(tmp_path / "b"), **more) == 2
    assert re.search(why, " ".join(capsys.readouterr().out.split()))


def test_no_cell_in_common(tmp_path: Path, capsys: pytest.CaptureFixture[str], preset: MadeUp) -> None:
    cell = Cell.of("loop", connections=7)
    other = folder_of(tmp_path / "b", runs_of(cell, 3, random.Random(1), cpu_us=1.0), meta_of(preset, cells=[]))
    assert code_of(folder(tmp_path / "a"), other) == 2
    assert "no cell is in both" in capsys.readouterr().out


def test_a_ratio_that_was_counted_has_no_interval() -> None:
    assert str(Ratio(1.25, 1.25, 1.25, 1)) == "1.250"
    assert str(Ratio(1.25, 1.2, 1.3, 3)) == "1.250 (1.200–1.300)"
