"""`bench doctor`: its sentences follow from the facts, and it reads what the system writes. No machine is judged."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.doctor import facts as doctor_facts
from bench.doctor import look as doctor
from bench.doctor.facts import (
    TOOLS,
    Facts,
    cgroup_file,
    gather,
    interpreters,
    numbers,
    packages_of,
    quota_of,
    steal_of,
)
from bench.doctor.look import listen, run_doctor
from bench.doctor.noise import Quiet, gaps, scatter
from bench.doctor.says import Line, of_facts, of_quiet, smallest_difference
from bench.interpreters import Interpreter

FREE = Interpreter("/opt/3.14t/bin/python", "3.14.1", (3, 14), True, {"h11": "0.16.0"})
GOOD = Facts(
    tools=dict.fromkeys(TOOLS, "/usr/bin/tool"), packages={"bench": {"matplotlib": "3.11.2"}, "peers": {"flask": "3"}},
    h11="0.16.0", gil=True, interpreters=[FREE], cores=[0, 1, 2, 3], siblings=[0], quota=None, hypervisor=True,
    clock="tsc", governor=None, steal=0.0, load_average=0.1, open_files=None, threads=None, somaxconn=4096, ports=28232,
    tcp_tw_reuse=2, loopback=True)
QUIET = Quiet(work_scatter=0.01, cpu_scatter=0.005, longest_gap_ms=0.1, gaps_per_s=40, lost=0.001, late_us=60,
              late_p99_us=90, idle_us=71, awake_us=16, others=0.0, others_cores=0.0)


def only_changed(lines: list[Line], before: list[Line]) -> list[Line]:
    return [line for line in lines if line not in before]


# From facts to sentences.


def test_a_machine_that_has_everything_has_one_thing_to_note() -> None:
    [note] = [line for line in of_facts(GOOD) if line.kind != "OK"]
    assert note.kind == "NOTE"
    assert "prefork, and a Python without a GIL, are not seen at their best. make scale gives prefork two" in note.text


@pytest.mark.parametrize(("changed", "kind", "said", "fatal"), [
    ({"h11": None}, "LACKS", "h11, without which there is no server. Fix: pip install", True),
    ({"loopback": False}, "LACKS", "Nothing can be listened on at 127.0.0.1", True),
    ({"open_files": 256}, "LACKS", "Open files: 256, too few for 100 connections. Fix: raise", True),
    ({"open_files": 1024}, "LACKS", "Open files: 1,024. 11,000 for 10,000 idle connections", False),
    ({"open_files": 20_000}, "OK", "Open files: 20,000", False),
    ({"packages": {"bench": {"matplotlib": None, "hdrhistogram": "0.10.8"}}}, "LACKS",
     "Packages [bench]: matplotlib: no figures. Fix: pip install -e '.[bench]'. There are hdrhistogram 0.10.8", False),
    ({"packages": {"peers": {"bjoern": None}}}, "LACKS", "bjoern: fewer servers to compare with. Fix:", False),
    ({"tools": {"wrk": None}}, "LACKS", "wrk (--generator wrk, make speed, threads, regress). Fix: Debian has", False),
    ({"interpreters": []}, "LACKS", "A Python without a GIL, in which handlers that compute run at once. Fix:", False),
    ({"interpreters": [FREE, replace(FREE, version="3.14.2", packages={})]}, "NOTE",
     "Python 3.14.2, without a GIL: /opt/3.14t/bin/python, which has no h11: enough for micro, not to serve", False),
    ({"threads": 500}, "LACKS", "Threads: 500. A thread for each of 400 connections will not do", False),
    ({"somaxconn": 128}, "NOTE", "somaxconn is 128: of more connections at once some wait a second", False),
    ({"tcp_tw_reuse": 0}, "NOTE", "Ports: 28,232, each taken for 60 s: more than 471 connections a second", False),
    ({"ports": 500}, "NOTE", "Ports: 500, few without keep-alive. Fix:", False),
    ({"cores": [3]}, "NOTE", "One core: server and load share it", False),
    ({"cores": [0, 1]}, "NOTE", "With two, the load would share what they take", False),
    ({"siblings": [0, 1]}, "NOTE", "load slows down the server. Fix: taskset -c 0,2 python -m bench", False),
    ({"quota": 1.5}, "NOTE", "The control group may use 1.5 of 4 cores", False),
    ({"clock": "hpet"}, "NOTE", "Clock: hpet, which takes a system call to read", False),
    ({"governor": "powersave"}, "NOTE", "Frequency: governor powersave", False),
    ({"governor": "performance"}, "OK", "Frequency: governor performance", False),
])
def test_what_differs_is_said_with_its_fix(changed: dict[str, Any], kind: str, said: str, fatal: bool) -> None:
    new = only_changed([*of_facts(replace(GOOD, **changed))], [*of_facts(GOOD)])
    line = next(line for line in new if said in line.text)
    assert (line.kind, line.fatal) == (kind, fatal)
    assert str(line).startswith(f"{kind} ")
    assert not fatal or "Fix: " in line.text


def test_whatever_is_lacking_has_a_fix() -> None:
    worst = replace(GOOD, tools=dict.fromkeys(TOOLS), h11=None, loopback=False, interpreters=[], open_files=10,
                    packages={"bench": {"matplotlib": None}, "peers": {"flask": None}}, threads=10)
    lacking = [line for line in of_facts(worst) if line.kind == "LACKS"]
    assert len(lacking) == len(TOOLS) + 7
    assert all("Fix: " in line.text for line in lacking)


def test_a_python_without_a_gil_needs_no_other_one() -> None:
    lines = of_facts(replace(GOOD, gil=False, interpreters=[]))
    assert not any(line.kind == "LACKS" for line in lines)


def test_what_the_system_does_not_tell_is_not_said() -> None:
    text = "\n".join(map(str, of_facts(replace(GOOD, clock=None, somaxconn=None, ports=None, tcp_tw_reuse=None))))
    assert "None" not in text
    assert "Ports" not in text


def test_a_quiet_machine_says_what_it_can_tell_apart() -> None:
    lines = [*of_quiet(GOOD, QUIET)]
    assert [line.kind for line in lines] == ["OK"] * 4 + ["NOTE"]
    assert "below 3.5% with 3 blocks, 1.8% with 5 blocks, 1.0% with 10 blocks" in lines[1].text
    assert "for up to 0.10 ms, and 40 times a second for more than 20 us: 0.1% of the time" in lines[2].text
    assert "about 55 us are the hypervisor's wake-up" in lines[4].text
    assert "Fix" not in lines[4].text


@pytest.mark.parametrize(("changed", "said"), [
    ({"others": 0.3}, "Others had 30.0% of the server's core"),
    ({"others_cores": 0.8}, "the time of 0.80 cores in all"),
    ({"work_scatter": 0.05}, "The same work takes 5.0% more or less"),
    ({"longest_gap_ms": 12.0}, "was stopped for up to 12.00 ms"),
    ({"lost": 0.1}, "10.0% of the time"),
    ({"late_p99_us": 4000.0}, "one in a hundred 4,000 us"),
    ({"idle_us": None, "awake_us": None}, "With one core the price of waking another cannot be measured"),
])
def test_noise_is_noted(changed: dict[str, Any], said: str) -> None:
    [line] = only_changed([*of_quiet(GOOD, replace(QUIET, **changed))], [*of_quiet(GOOD, QUIET)])
    assert line.kind == "NOTE"
    assert said in line.text


def test_whose_wake_up_it_is() -> None:
    assert "the processor's wake-up" in (text := [*of_quiet(replace(GOOD, hypervisor=False), QUIET)][-1].text)
    assert "Fix: idle=poll" in text
    assert "waking costs little here" in [*of_quiet(GOOD, replace(QUIET, idle_us=17.0))][-1].text


@given(st.floats(min_value=1e-4, max_value=1.0), st.integers(2, 30))
def test_more_blocks_show_less(spread: float, blocks: int) -> None:
    assert smallest_difference(spread, blocks + 1) < smallest_difference(spread, blocks)
    assert smallest_difference(2 * spread, blocks) == pytest.approx(2 * smallest_difference(spread, blocks))


def test_the_smallest_difference_is_half_an_interval_of_student() -> None:
    assert smallest_difference(0.01, 2) == pytest.approx(0.12706, rel=1e-3)
    assert smallest_difference(0.01, 5) == pytest.approx(2.776 * math.sqrt(2 / 5) * 0.01, rel=1e-3)


# What the system writes.


@given(st.sets(st.integers(0, 40), min_size=1))
def test_sets_of_cores_are_read_as_they_are_written(cores: set[int]) -> None:
    ordered = sorted(cores)
    runs: list[list[int]] = []
    for core in ordered:
        if runs and runs[-1][1] == core - 1:
            runs[-1][1] = core
        else:
            runs.append([core, core])
    assert numbers(",".join(f"{a}-{b}" if a < b else f"{a}" for a, b in runs) + "\n", ranges=True) == ordered


def test_numbers_are_found_or_there_are_none() -> None:
    assert numbers("32768\t60999\n") == [32768, 60999]
    assert numbers("") == numbers("max") == numbers("", ranges=True) == []


@pytest.mark.parametrize(("text", "quota"), [("150000 100000\n", 1.5), ("max 100000\n", None), ("", None),
                                             ("1 0", None)])
def test_quota(text: str, quota: float | None) -> None:
    assert quota_of(text) == quota


@pytest.mark.parametrize(("text", "path"), [
    ("0::/user.slice/a.scope\n", "/sys/fs/cgroup/user.slice/a.scope/cpu.max"),
    ("12:cpu:/x\n0::/\n", "/sys/fs/cgroup/cpu.max"),
    ("12:cpu:/x\n", ""),
    ("", ""),
])
def test_where_a_limit_is(text: str, path: str) -> None:
    assert cgroup_file(text, "cpu.max") == path


@pytest.mark.parametrize(("text", "share"), [
    ("cpu  10 0 10 70 0 0 0 10 99 99\ncpu0 1 2 3 4 5 6 7 8 9 10\n", 0.1),
    ("cpu  0 0 0 0 0 0 0 0\n", None),
    ("cpu  1 2 3\n", None),
    ("", None),
])
def test_steal(text: str, share: float | None) -> None:
    assert steal_of(text) == share


def test_packages_of_an_extra_and_of_those_it_refers_to() -> None:
    extras = {"fast": ["httptools>=0.7,<1"], "cli": ["click"], "one": ["x.y_z-1 ; python_version > '3'"],
              "all": ["lab[fast, one]", "flask>=3", "httptools"]}
    project = {"project": {"name": "lab", "optional-dependencies": extras}}
    assert packages_of(project, "all") == ["httptools", "x.y_z-1", "flask"]


def test_every_interpreter_is_told_once(tmp_path: Path) -> None:
    def python(name: str, *answer: Any, code: int = 0) -> str:
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\nexit {code}\n")
        (tmp_path / name).chmod(0o755)
        return str(tmp_path / name)

    bare = python("bare", "3.13.5", [3, 13], False, {})
    ready = python("ready", "3.13.5", [3, 13], False, {"h11": "0.16.0"})
    free = python("free", "3.13.5", [3, 13], True, {})
    old = python("old", "3.10.1", [3, 10], False, {"h11": "0.16.0"})
    shim = python("shim", "3.14.0", [3, 14], False, {}, code=127)
    found = interpreters([bare, ready, bare, sys.executable, free, old, shim, "/nowhere/python"])
    assert [one.path for one in found] == [ready, free], "this one, old ones and those that do not run are left out"


def test_names_that_are_too_old_are_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = ["bin/python3", "bin/python3.9", "bin/python3.14t", "bin/python3-config", "shims/python3.13",
             *(f".pyenv/versions/{version}/bin/python" for version in ("3.8.18", "3.13.0", "mine"))]
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{tmp_path}/shims:{tmp_path}/nowhere")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    found = [str(Path(path).relative_to(tmp_path)) for path in doctor_facts._candidates()]
    assert found == ["bin/python3", "bin/python3.14t", ".pyenv/versions/3.13.0/bin/python",
                     ".pyenv/versions/mine/bin/python"]


# Noise.


def test_gaps_are_what_the_clock_skips(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0, 100, 300, 2_000_300, 2_000_400, 2_050_400, 10_000_000, 10_000_100])
    monkeypatch.setattr(time, "perf_counter_ns", lambda: next(clock))
    longest_ms, count, lost_s = gaps(0.01)
    assert longest_ms == pytest.approx(7.9496)
    assert count == 3
    assert lost_s == pytest.approx((2_000_000 + 50_000 + 7_949_600) / 1e9)


def test_scatter() -> None:
    assert scatter([1.0, 1.0, 1.0]) == 0
    assert scatter([9.0, 11.0]) == pytest.approx(math.sqrt(2) / 10)
    with pytest.raises(ValueError, match="two values"):
        scatter([1.0])


# From end to end.


@pytest.fixture
def few_interpreters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_facts, "_candidates", list)


@pytest.mark.usefixtures("few_interpreters")
def test_doctor_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "doctor.json"
    assert run_doctor(argparse.Namespace(json=kept), seconds=0.1) == 0
    printed = capsys.readouterr()
    lines = [line for line in printed.out.splitlines() if not line.startswith(" " * 7)]
    assert {line.split("  ")[0].strip() for line in lines} <= {"OK", "NOTE", "LACKS"}
    assert lines[-1] == "OK     make compare can run here"
    assert "wake-up" in printed.err, "its progress"
    values = json.loads(kept.read_text())
    assert len(values["lines"]) == len(lines)
    assert values["facts"]["cores"]
    assert values["quiet"]["work_scatter"] > 0


def test_where_nothing_can_run_the_exit_code_says_so(monkeypatch: pytest.MonkeyPatch,
                                                     capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(doctor, "gather", lambda: replace(GOOD, h11=None))
    monkeypatch.setattr(doctor, "listen", lambda cores, seconds: QUIET)
    assert run_doctor(argparse.Namespace(json=None)) == 1
    assert capsys.readouterr().out.endswith("LACKS  make compare cannot run here, for what is said above\n")


def test_one_core_is_listened_to_as_well() -> None:
    quiet = listen([min(os.sched_getaffinity(0))], 0.05)
    assert quiet.idle_us is None
    assert quiet.late_p99_us >= quiet.late_us > 0


@pytest.mark.usefixtures("few_interpreters")
def test_facts_of_this_machine_make_sentences() -> None:
    facts = gather()
    assert "matplotlib" in facts.packages["bench"]
    assert {"waitress", "bjoern", "httptools"} <= facts.packages["peers"].keys()
    assert facts.loopback
    assert [*of_facts(facts)]
