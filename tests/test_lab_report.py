"""`bench report`: all that was kept is on the page, in order, and nothing else is needed to read it."""

from __future__ import annotations

import argparse
import logging
import random
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import asdict
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bench.lab import account
from bench.lab.account import command_of
from bench.lab.drawing import MISSING
from bench.lab.preset import Drawing, Saying
from bench.lab.record import Cell, Record, Results
from bench.lab.report import report, run_report
from bench.lab.tables import Part, as_markdown, as_text, parts_of
from bench.lab.trust import trust, warnings
from tests.lab_results import MadeUp, folder_of, meta_of, runs_of

SAYINGS = [Saying("A serves 8 < 100.", True), Saying("B costs less.", False, "What it costs"),
           Saying("C is slow.", None, "What it costs")]


class Page(HTMLParser):
    """What a reader of the page finds in it."""

    VOID = frozenset({"meta", "br", "img", "link", "rect", "use"})

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.open: list[str] = []
        self.headings: list[tuple[int, str]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(self.source)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append((int(tag[1]), ""))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.open and re.fullmatch(r"h[1-6]", self.open[-1]):
            level, text = self.headings[-1]
            self.headings[-1] = (level, text + data)

    def attributes(self, name: str) -> list[str]:
        return [value for _, attributes in self.tags if (value := attributes.get(name))]


@pytest.fixture
def preset(monkeypatch: pytest.MonkeyPatch) -> MadeUp:
    made_up = MadeUp(SAYINGS)
    monkeypatch.setattr(account, "find_preset", lambda name: made_up)
    return made_up


@pytest.fixture
def folder(tmp_path: Path, preset: MadeUp) -> Path:
    return kept(tmp_path / "one", preset)


def kept(path: Path, preset: MadeUp, change: Callable[[Record], None] = lambda record: None, **meta: Any) -> Path:
    rng = random.Random(1)
    records = [record for cell in preset.cells(preset.defaults)
               for record in runs_of(cell, 3, rng, cpu_us=40.0, ok_per_s=12345.0)]
    for record in records:
        change(record)
    return folder_of(path, records, meta_of(preset, **meta))


def code_of(*folders: Path, out: Path | None = None) -> int:
    return run_report(argparse.Namespace(folders=list(folders), out=out))


# The page.


def test_the_page_argues_in_order(folder: Path) -> None:
    page = Page(report([folder]))
    assert [text for level, text in page.headings if level < 3] == [
        "Who is <fast> & who is not", "In short", "What was expected", "Who is who", "The figures",
        "What the figures say", "The table", "How it was measured", "How far to trust this",
        "The machine, and how to do it again"]
    assert (3, "What it costs") in page.headings
    figures = page.source.index("<svg")
    assert page.source.index("What was expected before.") < figures < page.source.rindex("C is slow.")


def test_headings_leave_out_no_level(folder: Path, tmp_path: Path) -> None:
    for path in (report([folder]), report([folder, folder], tmp_path / "two" / "page.html")):
        levels = [level for level, _ in Page(path).headings]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))


def test_the_page_needs_nothing_from_elsewhere(folder: Path) -> None:
    page = Page(report([folder]))
    assert not {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe", "object"}
    assert page.attributes("src") == []
    assert [link for link in page.attributes("href") if not link.startswith("#")] == ["./runs.jsonl", "./meta.json"]
    assert "@import" not in page.source
    assert "url(http" not in page.source
    assert ("html", {"lang": "en"}) in page.tags
    assert "<title>Who is &lt;fast&gt; &amp; who is not: the lab of Taskmasters</title>" in page.source
    assert "prefers-color-scheme: dark" in page.source


def test_a_verdict_is_a_word(folder: Path) -> None:
    source = Page(report([folder])).source
    assert source.count('<b class="badge shown">SHOWN</b> A serves 8 &lt; 100.') == 2  # in short, and at length
    assert '<b class="badge not">NOT SHOWN</b> B costs less.' in source
    assert "<li>C is slow.</li>" in source
    assert "Other claims: 0 shown, 1 not." in source


def test_a_claim_that_cannot_be_judged_is_no_other_sentence(folder: Path, preset: MadeUp) -> None:
    preset.sayings = [Saying("Too few blocks."), Saying("Something else.")]
    source = Page(report([folder])).source
    assert source.count('<b class="badge open">NOT JUDGED</b> Too few blocks.') == 2
    assert "<li>Something else.</li>" in source


def test_figures_are_named_on_white_and_of_their_own(folder: Path, tmp_path: Path) -> None:
    page = Page(report([folder, folder], tmp_path / "two" / "page.html"))
    figures = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert [figure["aria-label"] for figure in figures] == ["Bars of it"] * 2
    assert [figure["role"] for figure in figures] == ["img"] * 2
    assert all(figure["style"] == "max-width:480px; min-width:336px" for figure in figures)
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    assert {link for link in page.attributes("href") if link.startswith("#")} <= {f"#{each}" for each in ids}
    assert all(f"url(#{each})" in page.source for each in ids if each.endswith("-p1"))
    assert ".card { background: #fff;" in page.source


def test_what_is_flawed_says_so_in_its_row(tmp_path: Path, preset: MadeUp) -> None:
    def starve(record: Record) -> None:
        if record.cell.subject == "single":
            record.flaws.append("99 of 100 clients <starve>")

    source = Page(report([kept(tmp_path, preset, starve)])).source
    assert source.count('<tr class="flawed"><th scope="row">single, ') == 2
    assert source.count('<td class="remark">99 of 100 clients &lt;starve&gt;</td>') == 2
    assert "2 of 4 cells compare with nothing" in source


def test_figures_and_tables_stand_beside_the_page(folder: Path, preset: MadeUp) -> None:
    assert report([folder]) == folder / "report.html"
    ET.parse(folder / "figs" / "bars.svg")
    tables = (folder / "tables.md").read_text()
    assert "![Bars of it](figs/bars.svg)" in tables
    assert "- **SHOWN:** A serves 8 < 100.\n- **NOT SHOWN on this machine:** B costs less.\n- C is slow." in tables
    assert "| single, keep-alive on, connections 10 | 12," in tables


def test_several_folders_make_one_page_elsewhere(folder: Path, tmp_path: Path) -> None:
    path = report([folder, folder], tmp_path / "all of it" / "page.html")
    page = Page(path)
    assert page.headings[0] == (1, "2 experiments")
    assert {file.name for file in (path.parent / "figs").iterdir()} == {"made-up-bars.svg", "made-up-2-bars.svg"}
    links = [link for link in page.attributes("href") if link.endswith("runs.jsonl")]
    assert links == ["../one/runs.jsonl"] * 2
    assert {"#made-up", "#made-up-2"} <= set(page.attributes("href"))
    assert page.source.count("a new thread for each connection") == 1


# What goes wrong.


class Clumsy(MadeUp):
    """It has learnt nothing."""

    def figures(self, results: Results) -> list[Drawing]:
        raise ZeroDivisionError("division by zero")

    def says(self, results: Results) -> list[Saying]:
        raise KeyError("cpu_us")


def test_a_mistake_of_a_preset_does_not_lose_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                      caplog: pytest.LogCaptureFixture) -> None:
    clumsy = Clumsy()
    monkeypatch.setattr(account, "find_preset", lambda name: clumsy)
    with caplog.at_level(logging.ERROR):
        page = Page(report([kept(tmp_path, clumsy)]))
    assert '<p class="trouble">The figures could not be made: ZeroDivisionError: division by zero</p>' in page.source
    assert "The sentences could not be made: KeyError" in page.source
    assert (2, "The table") in page.headings
    assert any(record.exc_info and record.exc_info[0] is ZeroDivisionError for record in caplog.records)


def test_without_matplotlib_all_but_the_figures_is_there(folder: Path, preset: MadeUp, monkeypatch: pytest.MonkeyPatch,
                                                         capsys: pytest.CaptureFixture[str]) -> None:
    def figures(results: Results) -> list[Drawing]:
        raise ImportError("No module named 'matplotlib'")

    monkeypatch.setattr(preset, "figures", figures)
    monkeypatch.setattr(account, "find_spec", lambda name: None)
    assert code_of(folder) == 0
    page = Page(folder / "report.html")
    assert "No figures: matplotlib is not installed." in page.source
    assert "<svg" not in page.source
    assert (2, "The table") in page.headings
    assert " ".join(MISSING.split()) in " ".join(capsys.readouterr().out.split())


def test_an_import_that_fails_for_another_reason_is_a_mistake(folder: Path, preset: MadeUp,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    def figures(results: Results) -> list[Drawing]:
        raise ImportError("No module named 'nothing'")

    monkeypatch.setattr(preset, "figures", figures)
    monkeypatch.setattr(account, "find_spec", lambda name: object())
    assert "The figures could not be made: ImportError" in Page(report([folder])).source


def test_the_terminal_has_table_and_sentences_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of(folder) == 0
    said = capsys.readouterr().out
    assert "SHOWN: A serves 8 < 100." in said
    assert "NOT SHOWN on this machine: B costs less." in said
    assert "single, keep-alive on, connections 10" in said
    assert f"The report: {folder}/report.html" in said
    assert max(map(len, said.splitlines())) <= 120


def test_no_run_that_worked_is_an_exit_code(tmp_path: Path, preset: MadeUp, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(record: Record) -> None:
        record.metrics, record.detail, record.failed = {}, {}, "it did not <start>"

    assert code_of(kept(tmp_path, preset, fail)) == 1
    assert "it did not <start>" in capsys.readouterr().out
    assert "failed: it did not &lt;start&gt;" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(("meta", "why"), [({}, "lacks 'preset'"), ({"preset": "made-up"}, "lacks 'started'")])
def test_a_folder_of_something_else(tmp_path: Path, preset: MadeUp, capsys: pytest.CaptureFixture[str],
                                    meta: dict[str, Any], why: str) -> None:
    assert code_of(folder_of(tmp_path, [], meta)) == 2
    assert why in (said := capsys.readouterr().out)
    assert "give a folder made by python -m bench run" in said


def test_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of(tmp_path / "nowhere") == 2
    assert "No such file" in capsys.readouterr().out


def test_a_folder_without_a_run(tmp_path: Path, preset: MadeUp) -> None:
    page = Page(report([folder_of(tmp_path, [], meta_of(preset))]))
    assert "8 of 8 runs are missing" in page.source


# The command that does it again.


def test_the_command_has_what_differs_from_the_preset() -> None:
    preset = MadeUp()
    assert command_of(preset, meta_of(preset)) == "python -m bench run made-up --seed 7"
    options = asdict(preset.defaults) | {
        "subjects": ["loop"], "sleeps_ms": [0.0, 0.1], "keep_alive": [True, False], "seconds": 2.5, "connections": [10],
        "app": "my shop:app", "seed": 3}
    assert command_of(preset, meta_of(preset, options=options)) == (
        "python -m bench run made-up --models loop --connections 10 --sleeps 0,0.1 --keep-alive on,off --seconds 2.5 "
        "--app 'my shop:app' --seed 3")


# Tables.


def test_a_table_of_cells_is_parted_by_load() -> None:
    cells = [Cell.of(subject, connections=connections) for subject in "abc" for connections in (10, 100)]
    table: list[tuple[str, ...]] = [("", "x", ""), *((str(cell), "1", "") for cell in cells)]
    parts = parts_of(table, cells)
    assert [part.load for part in parts] == ["connections 10", "connections 100"]
    assert [row[0] for row in parts[0].rows] == ["a", "b", "c"]
    assert parts_of(table[:3], cells) == [Part("", ("", "x", ""), table[1:3])]
    assert parts_of([*table, ("in all", "6", "")], cells)[0].load == ""


def test_what_has_no_room_on_the_terminal_stands_below() -> None:
    rows: list[tuple[str, ...]] = [("loop", "1" * 40, "2" * 40, "flawed " * 20), ("thread", "3", "4", "")]
    part = Part("keep-alive on", ("", "first", "second", ""), rows)
    lines = as_text([part], 60).splitlines()
    assert max(map(len, lines)) <= 60
    begin = [line.split()[0] for line in lines[:7]]
    assert begin == ["keep-alive", "first", "loop", "thread", "second", "loop", "thread"]
    assert "    loop: flawed flawed" in "\n".join(lines)
    assert as_text([part], 200).count("thread") == 1


def test_markdown_tables() -> None:
    text = as_markdown([Part("on", ("", "x, ms", ""), [("a|b", "1.0", ""), ("c", "2.0", "it <starves>")])])
    assert text.splitlines() == [
        "**on**", "", "|  | x, ms |  |", "| :-- | --: | :-- |", "| a\\|b | 1.0 |  |", "| *c* | 2.0 | it &lt;starves> |"]


# How far to trust it.


def trusted(records: list[Record], **meta: Any) -> str:
    return " ".join(trust(Results(records, {"pinned": [0, 1]} | meta), ("ok_per_s", "cpu_us")))


def test_what_is_to_be_known_of_the_noise() -> None:
    cells = [Cell.of(subject) for subject in ("a", "b")]
    records = [Record(cells[0], block, {"cpu_us": value}, {"others": others})
               for block, value, others in ((1, 10.0, 0.0), (2, 11.0, 0.02), (3, 12.0, 0.2))]
    records += [Record(cells[1], block, {"cpu_us": 10.0}, {"others": 0.01}) for block in (1, 2, 3)]
    said = trusted(records, cells=[["a", []], ["b", []]], options={"blocks": 4}, git="0123-dirty")
    assert "6 runs of 2 cells in 3 blocks" in said
    assert "2 of 8 runs are missing" in said
    assert "had 1.0% of the server's core in the median run, and 20.0% at most (a, block 3)" in said
    assert "In 1 run it was more than 10%" in said
    assert "by 9.1% of their median in the median cell, and by 18.2% in the worst (a)" in said
    assert "1 of 10 comparisons, with 3 runs of each" in said
    assert "not committed" in said
    assert "shared their cores" not in said


def test_what_one_block_tells_of_noise() -> None:
    said = trusted([Record(Cell.of("a"), 1, {"cpu_us": 1.0})], pinned=[None, None])
    assert "No cell was run twice" in said
    assert "was not recorded" in said
    assert "shared their cores" in said


def test_flawed_cells_tell_nothing_of_the_spread() -> None:
    records = [Record(Cell.of("a"), block, {"ok_per_s": float(block)}, flaws=["starved"]) for block in (1, 2)]
    records += [Record(Cell.of("b"), block, failed="gone") for block in (1, 2)]
    said = trusted(records)
    assert "No cell was run twice" in said
    assert "2 runs failed, the first with: b: gone." in said
    assert "1 of 2 cells compare with nothing" in said


def test_what_is_to_be_known_first_stands_first(tmp_path: Path, preset: MadeUp,
                                                capsys: pytest.CaptureFixture[str]) -> None:
    def disturb(record: Record) -> None:
        record.detail["others"] = 0.4

    assert code_of(kept(tmp_path, preset, disturb)) == 0
    source = (tmp_path / "report.html").read_text()
    assert source.index("others had 40% of the server") < source.index("What was expected")
    assert "others had 40%" in capsys.readouterr().out


def test_warnings_are_of_noise_of_what_is_missing_and_of_single_runs() -> None:
    once = [Record(Cell.of("a"), 1, detail={"others": 0.0}), Record(Cell.of("b"), 1)]
    assert warnings(Results(once)) == ["Every cell was run once only: nothing tells how far runs are apart."]
    twice = [*once, Record(Cell.of("a"), 2), Record(Cell.of("b"), 2)]
    assert warnings(Results(twice)) == []
    asked = {"cells": [["a", []], ["b", []]], "options": {"blocks": 3}}
    assert warnings(Results(twice, asked)) == ["Not complete: 2 of 6 runs are missing."]
