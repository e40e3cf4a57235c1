"""`bench watching`: what it says follows from what was measured, and its viewer watches. No figure is judged."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from bench.children import ChildError, running
from bench.clients import wrk
from bench.clients.load import Load
from bench.studies.watching import study
from bench.studies.watching.server import WATCH
from bench.studies.watching.study import render, rows_of, run_watching, verdict


def measured(page: list[float], record: list[float] | None = None) -> dict[tuple[bool, str], list[float]]:
    return {(True, "off"): [100.0, 80.0, 120.0], (True, "page"): page, (True, "record"): record or [118.0, 94.0, 142.0]}


@pytest.mark.parametrize(("page", "word", "wrong"), [
    ([100.5, 80.5, 120.5], "PASS  page, keep-alive on: it costs less than 2 %", False),
    ([110.0, 88.0, 132.0], "FAIL  page, keep-alive on: it costs more than 2 %", True),
    ([110.0, 78.0, 125.0], "?     page, keep-alive on: ", False),
])
def test_the_verdict_follows_from_the_interval(page: list[float], word: str, wrong: bool) -> None:
    text, too_much = verdict(rows_of(measured(page)))
    assert text.startswith(word)
    assert too_much is wrong
    assert "record, keep-alive on: +17.9%" in text


def test_a_recording_may_cost_what_it_does() -> None:
    assert not verdict(rows_of(measured([100.0, 80.0, 120.0], [200.0, 160.0, 240.0])))[1]


def test_the_table() -> None:
    lines = render(rows_of(measured([101.0, 81.0, 121.0]))).split("\n")
    assert lines[1].split() == ["on", "off", "100.00", "-"]
    assert lines[2].split()[:4] == ["on", "page", "101.00", "1.010"]


def options(**more: Any) -> argparse.Namespace:
    values = {"blocks": 2, "seconds": 2, "keep_alive": "on", "model": "recycling-park", "seed": 1, "json": None}
    return argparse.Namespace(**{**values, **more})


def test_a_block_that_is_not_whole_is_left_out(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
                                               tmp_path: Path) -> None:
    runs: list[str] = []

    def run(model: str, keep_alive: bool, watch: str, seconds: int) -> float:
        runs.append(watch)
        if len(runs) == 2:
            raise ChildError("it hung")
        return 50.0 + WATCH.index(watch) + len(runs) / 1e6

    monkeypatch.setattr(study, "run_once", run)
    monkeypatch.setattr(wrk, "installed", lambda: True)
    assert run_watching(options(blocks=4, json=tmp_path / "x.json")) == 0
    said = capsys.readouterr().out
    assert "it hung" in said
    assert "Its block is left out" in said
    assert sorted(runs) == sorted(WATCH * 4)
    kept = json.loads((tmp_path / "x.json").read_text())
    assert [len(each["cpu_us"]) for each in kept["runs"]] == [3, 3, 3]
    runs.clear()
    assert run_watching(options()) == 2
    assert "two whole blocks" in capsys.readouterr().out


def test_without_wrk_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(wrk, "installed", lambda: False)
    assert run_watching(options()) == 2
    assert "apt install wrk" in capsys.readouterr().out


@pytest.mark.parametrize("watch", WATCH)
def test_the_server_is_watched_while_it_serves(watch: str) -> None:
    with running(["bench.studies.watching.server", "--watch", watch]) as server:
        port, control = server.line(30).split()
        assert (control == "-") == (watch != "page")
        with Load(int(port), 4, True) as load:
            load.run(0.05)
            assert load.result(0.05, 0.0, None).ok > 0
        if control != "-":
            with running(["bench.studies.watching.viewer", control]) as viewer:
                assert viewer.line(10) == "sees it"
                viewer.close_input()
                assert json.loads(viewer.line(10))["samples"] >= 1
        server.close_input()
        assert server.rest(10) == ""
        assert server.complaint() == ""
