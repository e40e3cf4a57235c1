"""What the lab keeps, and how it is gone on with: plan, resume, interruption, JSON. Nothing is measured."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import machine
from bench.cli.arguments import results
from bench.lab.preset import Options
from bench.lab.record import Cell, Record, Results, Spread
from bench.lab.run import blocks_within, options_of, plan, run_preset, seconds_of
from tests.lab_results import MadeUp, folder_of, meta_of

names = st.text(min_size=1, max_size=8)
numbers = st.floats(allow_nan=False, allow_infinity=False)
values = st.one_of(names, st.integers(), numbers, st.booleans())
axes = st.lists(st.tuples(names, values), max_size=4, unique_by=lambda axis: axis[0]).map(tuple)
cells = st.builds(Cell, names, axes)
details = st.recursive(st.one_of(st.none(), values), lambda inner: st.one_of(
    st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)), max_leaves=8)
records = st.builds(Record, cells, st.integers(1, 99), st.dictionaries(names, numbers, max_size=4),
                    st.dictionaries(names, details, max_size=3), st.lists(names, max_size=3), st.text(max_size=20))
FOUR = [Cell.of(subject, connections=connections) for connections in (10, 100) for subject in ("single", "thread")]


# Records.


@settings(max_examples=60)
@given(records)
def test_a_record_is_the_same_after_json(record: Record) -> None:
    line = record.to_json()
    assert "\n" not in line
    again = Record.from_json(line)
    assert again.to_json() == line
    assert replace(again, metrics=record.metrics, detail=record.detail) == record
    assert again.metrics == pytest.approx(record.metrics, rel=1e-5)
    assert [type(value) for _, value in again.cell.axes] == [type(value) for _, value in record.cell.axes]
    assert hash(again.cell) == hash(record.cell)


@settings(max_examples=30)
@given(st.lists(records, max_size=6))
def test_a_folder_gives_back_what_was_put_in(tmp_path_factory: pytest.TempPathFactory, some: list[Record]) -> None:
    folder = folder_of(tmp_path_factory.mktemp("results"), some, {"preset": "made-up", "cells": []})
    found = Results.read(folder)
    assert found.records == [Record.from_json(record.to_json()) for record in some]
    assert set(found.cells) == {record.cell for record in some}
    assert sum(len(found.of(cell)) for cell in found.cells) == len(some)
    for cell in found.cells:
        assert [record.block for record in found.of(cell)] == sorted(record.block for record in found.of(cell))


def test_a_run_that_was_killed_while_it_was_written_does_not_count(tmp_path: Path) -> None:
    record = Record(FOUR[0], 1, {"cpu_us": 1.0})
    folder_of(tmp_path, [record, record], {})
    torn = (tmp_path / "runs.jsonl").read_text()[:-7]
    (tmp_path / "runs.jsonl").write_text(torn)
    assert Results.read(tmp_path).records == [record]


def test_what_was_not_written_by_the_lab(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"meta\.json"):
        Results.read(tmp_path)
    folder_of(tmp_path, [], {})
    (tmp_path / "runs.jsonl").write_text("no JSON\n")
    with pytest.raises(ValueError, match="Expecting value"):
        Results.read(tmp_path)


def test_cells_come_in_the_order_of_the_plan_as_far_as_there_are_records() -> None:
    planned = [[cell.subject, [list(axis) for axis in cell.axes]] for cell in FOUR]
    found = Results([Record(FOUR[3], 1), Record(FOUR[1], 1)], {"cells": planned})
    assert found.cells == [FOUR[1], FOUR[3]]
    assert found.subjects == ["thread"]
    assert list(found.where(connections=10)) == [FOUR[1]]
    assert list(found.where("single")) == []


def test_figures_and_flaws_of_a_cell() -> None:
    cell = FOUR[0]
    found = Results([Record(cell, 2, {"cpu_us": 3.0}, flaws=["late"]), Record(cell, 1, {"cpu_us": 1.0}, flaws=["late"]),
                     Record(cell, 3, failed="it did not start")])
    spread = found.spread(cell, "cpu_us")
    assert spread == Spread((1.0, 3.0))
    assert (spread.low, spread.median, spread.high) == (1.0, 2.0, 3.0)
    assert found.median(cell, "ok_per_s") is None
    assert found.flaws(cell) == ["late", "failed: it did not start"]
    assert found.of(FOUR[1]) == []


@settings(max_examples=40)
@given(st.lists(numbers, min_size=1, max_size=5), st.lists(numbers, min_size=1, max_size=5))
def test_spreads_are_apart_if_no_run_of_the_one_is_among_those_of_the_other(a: list[float], b: list[float]) -> None:
    apart = Spread(tuple(a)).apart(Spread(tuple(b)))
    assert apart == Spread(tuple(b)).apart(Spread(tuple(a)))
    assert apart == (all(x < y for x in a for y in b) or all(x > y for x in a for y in b))


@pytest.mark.parametrize(("cell", "said"), [
    (Cell.of("loop", keep_alive=True, sleep_ms=0.1, connections=100), "keep-alive on, sleep 0.1 ms, connections 100"),
    (Cell.of("loop", keep_alive=False, sleep_ms=0.0, rate=2.5), "keep-alive off, no sleep, rate 2.5"),
    (Cell.of("loop"), ""),
])
def test_a_load_in_words(cell: Cell, said: str) -> None:
    assert cell.load == said
    assert str(cell) == ("loop, " + said if said else "loop")


# The plan.


@settings(max_examples=40)
@given(st.lists(cells, max_size=6, unique=True), st.integers(1, 4), st.integers())
def test_a_block_is_every_cell_once_and_the_same_seed_the_same_order(some: list[Cell], blocks: int, seed: int) -> None:
    order = plan(some, blocks, seed)
    assert Counter(order) == Counter((block, cell) for block in range(1, blocks + 1) for cell in some)
    assert [block for block, _ in order] == sorted(block for block, _ in order)
    assert plan(some, blocks, seed) == order


def test_another_seed_or_block_is_another_order() -> None:
    many = [Cell.of(str(n)) for n in range(20)]
    first, second = plan(many, 2, 1)[:20], plan(many, 2, 1)[20:]
    assert [cell for _, cell in first] != [cell for _, cell in second]
    assert plan(many, 1, 1) != plan(many, 1, 2)


def test_as_many_blocks_as_fit() -> None:
    preset = MadeUp()
    one = seconds_of(preset, replace(preset.defaults, blocks=1))
    assert seconds_of(preset, replace(preset.defaults, blocks=3)) == pytest.approx(3 * one)
    assert blocks_within(preset, preset.defaults, 3.5 * one) == 3
    assert blocks_within(preset, preset.defaults, 0.1 * one) == 1


# Running.


class Interrupted(MadeUp):
    """By Ctrl-C, in the run after `left`."""

    def __init__(self, left: int) -> None:
        super().__init__()
        self.left = left

    def run(self, cell: Cell, block: int, options: Options) -> Record:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return super().run(cell, block, options)


@pytest.fixture(autouse=True)
def known_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def describe(sleeps_ms: list[float]) -> dict[str, Any]:
        known = meta_of(MadeUp())
        return {name: known[name] for name in ("cpu", "cores", "kernel", "python", "gil", "git", "host")}

    monkeypatch.setattr(machine, "describe", describe)


OPTIONS = replace(MadeUp.defaults, seed=5)
ORDER = plan(MadeUp().cells(OPTIONS), 2, 5)


def test_all_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    preset = MadeUp()
    assert run_preset(preset, OPTIONS, tmp_path / "new") == tmp_path / "new"
    assert preset.ran == ORDER
    found = Results.read(tmp_path / "new")
    assert [(record.block, record.cell) for record in found.records] == ORDER
    assert found.cells == preset.cells(OPTIONS)
    assert found.meta["preset"] == "made-up"
    assert found.meta["took_s"] == 0
    assert preset.cells(options_of(found.meta)) == preset.cells(OPTIONS)
    assert "8 runs (4 cells, 2 blocks, shuffled with seed 5)" in capsys.readouterr().out


@pytest.mark.parametrize("after", range(len(ORDER) + 1))
def test_what_was_interrupted_goes_on_where_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str], after: int
                                                   ) -> None:
    whole = run_preset(Interrupted(after), OPTIONS, tmp_path)
    said = " ".join(capsys.readouterr().out.split())
    assert (whole is None) == (after < len(ORDER))
    assert (f"python -m bench run made-up --resume {tmp_path}" in said) == (whole is None)
    assert len(Results.read(tmp_path).records) == after
    preset = MadeUp()
    assert run_preset(preset, Options(), tmp_path, resume=True) == tmp_path  # with the options that were kept
    assert preset.ran == ORDER[after:]
    assert [(record.block, record.cell) for record in Results.read(tmp_path).records] == ORDER


def test_a_run_that_was_cut_off_is_made_again(tmp_path: Path) -> None:
    run_preset(Interrupted(3), OPTIONS, tmp_path)
    with open(tmp_path / "runs.jsonl", "a", encoding="utf-8") as lines:
        lines.write('{"cell": {"subject"')
    preset = MadeUp()
    run_preset(preset, OPTIONS, tmp_path, resume=True)
    assert preset.ran == ORDER[3:]
    assert len(Results.read(tmp_path).records) == len(ORDER)


def test_results_that_are_there_are_not_overwritten(tmp_path: Path) -> None:
    run_preset(MadeUp(), OPTIONS, tmp_path)
    before = (tmp_path / "meta.json").read_text()
    with pytest.raises(FileExistsError, match="--resume goes on with them"):
        run_preset(MadeUp(), OPTIONS, tmp_path)
    assert (tmp_path / "meta.json").read_text() == before
    assert json.loads(before)["options"]["seed"] == 5


def test_results_may_have_been_compressed(tmp_path: Path) -> None:
    record = Record(FOUR[0], 1, {"cpu_us": 1.0})
    folder = folder_of(tmp_path, [record], {"preset": "made-up", "cells": []})
    kept = folder / "runs.jsonl"
    (folder / "runs.jsonl.gz").write_bytes(gzip.compress(kept.read_bytes()))
    kept.unlink()
    assert Results.read(folder).records == [record]
    assert results(str(folder)) == folder
