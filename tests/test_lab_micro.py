"""`bench micro`: what it says follows from what was measured; each measurement measures, and leaves nothing. No figure
is judged."""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import sys
import threading
import timeit
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.physics import clocks as physics_clocks
from bench.physics import micro
from bench.physics import threads as physics_threads
from bench.physics.clocks import sleep, timer_slack, wake_up
from bench.physics.gil import ping
from bench.physics.micro import Column, measure, render, run_micro, says
from bench.physics.program import groups, one_round
from bench.physics.threads import each, statement

CORES = sorted(os.sched_getaffinity(0))
NAMES = [step.name for group in groups([0, 1]) for step in group.steps]
FIGURES = {"accepted": 100.0, "handed_over": 140.0, "started": 250.0, "sleep_0": 56.0, "sleep_0_exact": 7.0,
           "sleep_100us": 157.0, "sleep_100us_exact": 106.0, "ping_0": 90.0, "ping_1": 5300.0, "ping_1_short": 700.0,
           "idle_core": 71.0, "busy_core": 26.0}


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No thread, core or interval is other than before."""
    before = threading.active_count(), os.sched_getaffinity(0), sys.getswitchinterval()
    yield
    for thread in threading.enumerate():  # one that is not waited for may be about to end
        if thread is not threading.current_thread():
            thread.join(10)
    assert (threading.active_count(), os.sched_getaffinity(0), sys.getswitchinterval()) == before


# The sentences and the table.


def test_what_the_figures_say() -> None:
    text = "\n".join(says(FIGURES))
    assert "takes 100 us when the thread that waits in accept serves it, 40.0 us more when it is handed" in text
    assert "and 150 us more when a thread is started for it" in text
    assert "time.sleep(0) takes 56.0 us" in text
    assert "Most of it is timer slack: without, 7.0." in text
    assert "90.0 us, and 5,300 us beside a thread that computes: it waits for the GIL" in text
    assert "With a switch interval of 0.5 ms: 700 us" in text
    assert "Waking a core that idles takes 45.0 us" in text


@pytest.mark.parametrize(("changed", "said", "not_said"), [
    ({"ping_1": 95.0}, "beside a thread that computes.", "GIL"),
    ({"handed_over": 90.0}, "no more when it is handed", "-10"),
    ({"sleep_0_exact": 55.0}, "time.sleep(0) takes 56.0 us", "slack: without"),
    ({"idle_core": 25.0}, "is woken as fast as", "Waking"),
])
def test_nothing_is_said_that_the_figures_do_not_bear_out(changed: dict[str, float], said: str, not_said: str) -> None:
    text = "\n".join(says(FIGURES | changed))
    assert said in text
    assert not_said not in text


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from(NAMES), st.floats(min_value=1e-3, max_value=1e6)))
def test_any_figures_make_sentences(us: dict[str, float]) -> None:
    said = says(us)
    assert bool(said) == bool({"sleep_0", "sleep_100us"} & us.keys() or {"accepted", "handed_over", "started"}
                              <= us.keys() or {"ping_0", "ping_1"} <= us.keys()
                              or {"idle_core", "busy_core"} <= us.keys())
    assert not any("-" in sentence or "nan" in sentence for sentence in said)


def test_the_table_has_median_and_lowest_and_a_column_for_each_interpreter() -> None:
    columns = [Column("3.11.7", [{"thread": 140.0, "idle_core": None}, {"thread": 99.0, "idle_core": None},
                                 {"thread": 150.0, "idle_core": None}]),
               Column("3.13.5, no GIL", [{"thread": 1234.0}])]
    text = render(groups([0]), columns)
    [line] = [line for line in text.splitlines() if "threading.Thread: start" in line]
    assert line.split("  ")[-1] == "1,234 (1,234)"
    assert "140 (99.0)" in line
    [missing] = [line for line in text.splitlines() if "the other core is idle" in line]
    assert missing.split()[-2:] == ["-", "-"]
    heads = text.splitlines()[0]
    assert heads.index("3.11.7, us") < heads.index("3.13.5, no GIL, us")
    for group in groups([0]):
        assert group.title in text
    assert all(len(line) <= 120 for line in text.splitlines())


def test_every_step_has_a_name_of_its_own() -> None:
    assert len(NAMES) == len(set(NAMES))
    assert FIGURES.keys() <= set(NAMES)


# Measuring.


def test_the_first_call_does_not_count() -> None:
    calls: list[int] = []
    assert each(lambda: calls.append(1), 0) > 0
    assert len(calls) == 2


def test_a_statement_is_the_least_of_its_repeats_without_the_loop_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def repeat(text: str, number: int, **options: object) -> list[float]:
        return [number * seconds for seconds in ((3e-7, 1e-7) if text == "pass" else (9e-7, 6e-7))]

    monkeypatch.setattr(timeit, "repeat", repeat)
    assert statement("lock()", 0.001) == pytest.approx(0.5)
    assert statement("pass", 0.001) == 0


@pytest.mark.parametrize("name", ["thread", "bare_thread", "queues", "simple_queues", "condition", "epoll", "accepted",
                                  "handed_over", "started", "lock", "rlock"])
def test_threads_are_measured_and_end(name: str) -> None:
    assert getattr(physics_threads, name)(0.001) >= 0


def test_a_sleep_takes_at_least_what_was_asked_for() -> None:
    for slack_ns in (0, 1):
        taken = sleep(0.0005, slack_ns, 0.0)
        assert taken is not None
        assert taken >= 500


def test_timer_slack_is_set_and_set_back() -> None:
    now = ctypes.CDLL(None).prctl
    before = now(30, 0, 0, 0, 0)  # PR_GET_TIMERSLACK
    with timer_slack(7):
        assert now(30, 0, 0, 0, 0) == 7
    assert now(30, 0, 0, 0, 0) == before


def test_where_slack_cannot_be_set_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda *arguments, **options: object())
    assert sleep(0, 1, 0.0) is None


def test_waking_a_core_takes_two_of_them() -> None:
    assert wake_up([0], awake=False, seconds=0.0) is None
    if len(CORES) > 1:
        for awake in (False, True):
            taken = wake_up(CORES, awake, 0.0)
            assert taken is not None
            assert taken > 0


def test_an_echo_that_ends_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(physics_clocks, "_ECHO", "import os; os.read(0, 1)")
    with pytest.raises(OSError, match="the process that echoes has ended"):
        wake_up(CORES[:1] * 2, awake=False, seconds=0.0)


def test_pings_are_answered_beside_a_thread_that_computes() -> None:
    assert ping(CORES, 0, 0.005, 0.0) > 0
    assert ping(CORES, 1, 0.0005, 0.0) > 0


def test_a_client_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.physics.gil._CLIENT", "raise SystemExit('out of order')")
    with pytest.raises(OSError, match="the client that pings failed: out of order"):
        ping(CORES, 1, 0.005, 0.0)


def test_a_round_has_everything() -> None:
    steps = [step for group in groups([0]) for step in group.steps if step.name in ("lock", "idle_core")]
    taken = one_round(steps, 0.0)
    assert taken.keys() == {"lock", "idle_core"}
    assert taken["idle_core"] is None


# From end to end.


def test_micro_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                               capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(micro, "_ROUNDS_QUICK", 1)
    monkeypatch.setattr(micro, "_SECONDS_QUICK", 0.001)
    kept = tmp_path / "micro.json"
    assert run_micro(argparse.Namespace(quick=True, python=[], json=kept)) == 0
    printed = capsys.readouterr().out
    assert "What the figures say\n  A connection takes" in printed
    values = json.loads(kept.read_text())
    [[title, [only_round]]] = values["us"].items()
    assert title == sys.version.split()[0]
    assert list(only_round) == NAMES
    assert values["machine"]["cores_usable"] == CORES


def test_an_interpreter_that_does_not_run_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_micro(argparse.Namespace(quick=True, python=["/nowhere/python"], json=None)) == 2
    assert "/nowhere/python" in capsys.readouterr().out
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no such version >&2\nexit 1\n")
    broken.chmod(0o755)
    assert run_micro(argparse.Namespace(quick=True, python=[str(broken)], json=None)) == 2
    assert f"{broken} does not run bench.physics.program" in (printed := capsys.readouterr().out)
    assert "no such version" in printed


def test_interpreters_of_one_version_are_told_apart(tmp_path: Path) -> None:
    program = ("#!/bin/sh\necho '{\"python\": \"3.13.5\", \"gil\": false}'\n"
               "while read seconds; do echo '{\"thread\": 2.0}'; done\n")
    paths = []
    for name in ("one", "two"):
        (tmp_path / name).write_text(program)
        (tmp_path / name).chmod(0o755)
        paths.append(str(tmp_path / name))
    columns = measure(paths, [0], rounds=2, seconds=0.0)
    assert [column.title for column in columns] == ["3.13.5, no GIL", f"3.13.5, no GIL {paths[1]}"]
    assert [column.of("thread") for column in columns] == [[2.0, 2.0]] * 2
    assert columns[0].medians() == {"thread": 2.0}
