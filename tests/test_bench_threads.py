"""`bench threads`: that it counts rightly, and says what the data say. No figure is judged here, and none is timed."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import server
from bench.__main__ import main
from bench.children import ROOT, ChildError, running
from bench.clients import load as generator
from bench.clients import wrk
from bench.clients.result import Result, process_clock
from bench.studies.threads import run as threads_run
from bench.studies.threads import study as threads
from bench.studies.threads.plan import EXPERIMENTS, LOADS, chosen_experiments, plan
from bench.studies.threads.report import blocks, fill, findings, table
from bench.studies.threads.run import Run, counted_calls, run_once, system_calls
from tests.test_bench import result
from tests.test_bench_speed import get

PAGE = ROOT / "docs" / "threads.md"
COUNTS = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.000600           6       100           accept4
 30.00    0.000300           1       250        40 futex
  0.00    0.000000           0         1           execve
------ ----------- ----------- --------- --------- ----------------
100.00    0.000900           2       351        40 total
"""


# The plan.


def test_a_setting_of_several_experiments_runs_once_in_a_round() -> None:
    runs = plan(EXPERIMENTS)
    assert len(runs) == len(set(runs))
    eight = EXPERIMENTS["threads"].settings[3].arguments
    assert eight == EXPERIMENTS["models"].settings[0].arguments == EXPERIMENTS["switch"].settings[2].arguments
    assert {load for arguments, load in plan(["switch", "defer", "inline"]) if arguments == eight} == {
        "pipelined", "hello", "sleep", "spin", "close", "alone"}


@pytest.mark.parametrize("name", ["inline", "switch", "defer"])
def test_a_knob_is_turned_and_nothing_else(name: str) -> None:
    experiment = EXPERIMENTS[name]
    default = min((setting.arguments for setting in experiment.settings), key=len)
    for setting in experiment.settings:
        assert setting.arguments[:len(default)] == default
        assert len(setting.arguments) - len(default) in (0, 2)


@pytest.mark.parametrize("name", list(EXPERIMENTS))
def test_an_experiment_is_one_that_can_be_run_and_told(name: str) -> None:
    experiment = EXPERIMENTS[name]
    assert set(experiment.loads) <= set(LOADS)
    assert not experiment.traced or experiment.traced in LOADS
    assert {number for pair in experiment.pairs for number in pair} <= set(range(len(experiment.settings)))
    assert len({setting.arguments for setting in experiment.settings}) == len(experiment.settings)


def test_experiments_are_chosen_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert chosen_experiments("switch,threads") == ["threads", "switch"]
    with pytest.raises(SystemExit):
        main(["threads", "--only", "threads,swich"])
    assert "there is no experiment 'swich': choose from threads, models" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["threads", "--again", "/nowhere/kept.json"])
    assert "there is no file '/nowhere/kept.json'" in capsys.readouterr().err


# The server.


def test_a_deferring_server_does_not_see_who_says_nothing() -> None:
    with running(["bench.server", "--capacity", "0", "--standby", "3", "--switch-interval", "1", "--defer-accept",
                  "30"]) as child:
        port = int(child.line(20))
        with (socket.create_connection(("127.0.0.1", port), 10),
              socket.create_connection(("127.0.0.1", port), 10) as second):
            # Connections are accepted in the order in which they came, so the first would have been by now.
            second.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
            assert b"".join(iter(lambda: second.recv(4096), b"")).startswith(b"HTTP/1.1 200 ")
            child.tell("state")
            state = json.loads(child.line(20))
        assert state["accepted"] == 1
        assert sum(state["threads"].values()) >= 3
        assert state["voluntary"] > 0


@pytest.mark.parametrize(("arguments", "message"), [
    (["--switch-interval", "0"], "switch interval must be strictly positive"),
    (["--exactly", "--standby", "3"], "--exactly says how many threads there are: leave out --standby"),
])
def test_a_server_that_cannot_be_set_up_so_says_why(arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch,
                                                    capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["server", *arguments])
    monkeypatch.setattr(server, "raise_open_files", lambda: None)
    with pytest.raises(SystemExit):
        server.main()
    assert message in capsys.readouterr().err


# One run.


def test_clients_that_pipeline_are_counted() -> None:
    run = run_once(EXPERIMENTS["inline"].settings[0].arguments, "pipelined", 1, 0.5)
    assert not run.failed
    assert run.served is not None
    assert run.rate > 0
    assert run.cpu_us > 0
    assert run.threads == 8


def test_what_a_run_has_used_is_for_each_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(port: int, *arguments: object, watch: int, **more: object) -> Result:
        before = process_clock(watch)
        for _ in range(20):
            assert get(port).startswith(b"HTTP/1.1 200 ")
        return replace(result(20), server_cpu=process_clock(watch) - before)

    monkeypatch.setattr(wrk, "measure", measure)
    run = run_once(("--model", "thread"), "close", 1, 1)
    assert not run.failed
    assert run.rate == result(20).ok / result(20).seconds
    assert run.cpu_us > 0
    assert run.switches > 0.5, "a thread for each connection, and each has ended: they count"


def test_a_server_that_does_not_start_is_a_run_that_failed() -> None:
    run = run_once(("--model", "nonsense"), "hello", 1, 1)
    assert "there is no model 'nonsense'" in run.failed


def test_the_table_of_strace_is_read() -> None:
    assert counted_calls(COUNTS) == {"accept4": 100, "futex": 250, "execve": 1}
    assert counted_calls("strace: ptrace(PTRACE_TRACEME, ...): Operation not permitted\n") == {}


def test_system_calls_are_those_that_clients_make_the_difference_of(tmp_path: Path,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    """A made-up strace, with a server that accepts 4 connections once there has been a load."""
    file, loaded = tmp_path / "strace", tmp_path / "loaded"
    file.write_text(f"""#!/bin/sh
[ "$1 $2 $3 $4" = "-f -c -o /dev/stdout" ] || exit 1
echo 1234
cat >/dev/null
n=0; [ -e {loaded} ] && n=4
echo '{{"accepted": '$n'}}'
echo " 60.00    0.000600           6       $((2 * n))           accept4"
echo " 10.00    0.000100           1       7         2 execve"
""")
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    def measure(port: int, *arguments: object, **more: object) -> None:
        assert port == 1234
        loaded.touch()

    def counted(text: str) -> dict[str, int]:
        loaded.unlink(missing_ok=True)
        return counted_calls(text)

    monkeypatch.setattr(generator, "measure", measure)
    monkeypatch.setattr(threads_run, "counted_calls", counted)
    assert system_calls(("--capacity", "1"), "close") == {"accept4": 2.0, "execve": 0.0}


# Tables and sentences, of made-up runs.


def made_up(name: str, setting: int, load: str, costs: Sequence[float], **changes: Any) -> list[Run]:
    """Rounds of a setting of the experiment called `name`: what each costs; rate and p99 follow from it."""
    fields = {"p99_ms": 5.0, "little": 100.0, "threads": 8, "rate": 1000.0} | changes
    return [Run(EXPERIMENTS[name].settings[setting].arguments, load, number, cpu_us=cost, **fields)
            for number, cost in enumerate(costs, 1)]


def told(*runs: list[Run], name: str = "threads") -> str:
    return " ".join("\n".join(findings(EXPERIMENTS[name], [run for some in runs for run in some])).split())


def test_what_differs_is_said_in_numbers() -> None:
    one = made_up("threads", 0, "sleep", [20, 21, 19])
    eight = made_up("threads", 3, "sleep", [24, 22.4, 22], rate=3100.0, p99_ms=2.5)
    assert told(one, eight) == ("8 threads against 1 thread keep-alive, sleep 0.1 ms: 12% more CPU; 3.1 times the "
                                "answers; 0.5 times the p99")
    assert "11% less CPU" in told(made_up("threads", 3, "spin", [100, 100, 100]),
                                  made_up("threads", 5, "spin", [89, 89, 89]))


def test_what_the_rounds_do_not_tell_apart_is_no_difference() -> None:
    one, eight = made_up("threads", 0, "hello", [20, 30, 25]), made_up("threads", 3, "hello", [29, 60, 70])
    assert told(one, eight) == ("8 threads against 1 thread keep-alive, no sleep: no difference beyond the rounds' "
                                "spread in CPU and answers and p99").replace(" in CPU and answers and p99", "")
    partly = made_up("threads", 3, "hello", [40, 60, 70])
    assert told(one, partly).endswith("2.4 times the CPU; no difference beyond the rounds' spread in answers and p99")
    both = told(one, eight, made_up("threads", 0, "spin", [1, 1]), made_up("threads", 3, "spin", [1, 1]))
    assert "keep-alive, no sleep; keep-alive, 1 ms of computing: no difference beyond" in both, "said once for both"


@settings(max_examples=50)
@given(st.lists(st.floats(1, 100), min_size=2, max_size=5), st.lists(st.floats(1, 100), min_size=2, max_size=5))
def test_a_difference_is_beyond_all_rounds(a: list[float], b: list[float]) -> None:
    text = told(made_up("threads", 0, "hello", a), made_up("threads", 3, "hello", b))
    assert (" CPU;" in text) == (max(a) < min(b) or max(b) < min(a))


def test_one_round_tells_no_difference() -> None:
    runs = made_up("threads", 0, "hello", [20]) + made_up("threads", 3, "hello", [90])
    assert told(runs) == ""
    assert "--rounds 3" in blocks(["threads"], runs, {}, "")["threads/findings"]


def test_who_leaves_clients_out_is_not_compared() -> None:
    fair = made_up("inline", 0, "pipelined", [40, 41], served=100)
    always = made_up("inline", 1, "pipelined", [30, 31], served=8)
    text = told(fair, always, name="inline")
    assert 'not compared; "always": serves 8 of 100 clients' in text
    single = made_up("models", 6, "hello", [30, 31], little=1.0)
    text = told(made_up("models", 0, "hello", [40, 41]), single, name="models")
    assert "not compared; single: about 1 of 100 in service" in text


def test_who_else_had_the_core_is_said() -> None:
    runs = made_up("threads", 0, "hello", [20, 20]), made_up("threads", 3, "hello", [90, 90], others=0.3)
    assert told(*runs).endswith("(others had up to 30% of its core)")
    assert "others had 30%" in table(EXPERIMENTS["threads"], "hello", runs[1])


def test_the_table_has_a_line_for_each_setting_whatever_has_become_of_it() -> None:
    runs = made_up("switch", 2, "spin", [1000, 1100, 1300], problems={"read": 2})
    runs += [Run(EXPERIMENTS["switch"].settings[0].arguments, "spin", 1, failed="it died")]
    lines = table(EXPERIMENTS["switch"], "spin", runs).splitlines()
    assert all(line.startswith("    ") for line in lines), "so that it is a block of a page"
    assert lines[0] == "    keep-alive, 1 ms of computing"
    assert [line.split("  ")[2].strip() for line in lines[2:]] == ["0.1 ms", "1 ms", "5 ms (default)", "20 ms"]
    assert lines[2].endswith("failed: it died")
    assert lines[3].endswith("not run")
    assert lines[4].split()[3:] == ["1,100", "(1,000–1,300)", "0.00", "5.0", "(5.0–5.0)", "1,000", "8", "read", "6"]


def test_system_calls_stand_side_by_side_and_those_of_the_gil_apart() -> None:
    said = blocks(["defer"], [], {"off": {"accept4": 1.0, "futex": 20.0, "brk": 0.01}, "on": {"accept4": 2.0}}, "")
    lines = [line.split() for line in said["defer/calls"].splitlines()]
    assert lines[1:] == [["accept4", "1.0", "2.0"], ["in", "all", "1.0", "2.0", "and", "futex", "20.0,", "0.0"]]


# The page.


def test_a_page_is_filled_between_its_marks_and_nowhere_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- FIGURES a/b: to be replaced -->\nold\n<!-- END -->\nbetween\n"
                    "<!-- FIGURES c: to be replaced -->\n<!-- END -->\n")
    for text in (r"new \1", "newer"):  # filled twice, it has the latter
        assert fill(page, {"a/b": text, "d": "not asked for"}, "2026-11-26") == ["c"]
    assert page.read_text() == ("before\n<!-- FIGURES a/b: 2026-11-26 -->\n\nnewer\n\n<!-- END -->\nbetween\n"
                                "<!-- FIGURES c: to be replaced -->\n<!-- END -->\n")


def test_the_page_of_the_documents_can_be_filled(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    shutil.copy(PAGE, page)
    said = blocks(EXPERIMENTS, [], {"off": {"accept4": 1.0}}, "a machine")
    assert fill(page, said, "2026-11-26") == []
    assert page.read_text().count("<!-- FIGURES ") == PAGE.read_text().count("<!-- END -->") > 10


def test_the_program_of_the_documents_runs(capsys: pytest.CaptureFixture[str]) -> None:
    [program] = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    scope: dict[str, Any] = {"__name__": "threads"}
    exec(compile(program, "threads.md", "exec"), scope)
    assert re.fullmatch(r"late alone: \d+ of 1000\nlate beside a thread that computes: \d+ of 1000\n",
                        capsys.readouterr().out)
    for name in ("server", "client", "listener"):
        scope[name].close()


# The command.


def fake_run(arguments: tuple[str, ...], load: str, number: int, seconds: float) -> Run:
    return Run(arguments, load, number, rate=100.0, cpu_us=10.0 + number, little=100.0, served=100)


def test_the_command_measures_keeps_shows_and_fills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                    capsys: pytest.CaptureFixture[str]) -> None:
    kept, page = tmp_path / "kept.json", tmp_path / "page.md"
    page.write_text("<!-- FIGURES defer/close: none -->\n<!-- END -->\n<!-- FIGURES threads/hello: -->\n<!-- END -->\n")
    monkeypatch.setattr(wrk, "installed", lambda: True)
    monkeypatch.setattr(threads, "run_once", fake_run)
    monkeypatch.setattr(threads, "system_calls", lambda arguments, load: {"accept4": 1.0})
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert main(["threads", "--only", "defer", "--json", str(kept), "--page", str(page)]) == 0
    printed = capsys.readouterr().out
    assert len(json.loads(kept.read_text())["runs"]) == 3 * len(plan(["defer"]))
    assert "on against off (default)" in printed
    assert f"Put into {page}, but for threads/hello: not measured." in printed
    assert "    off (default)" in page.read_text()
    assert main(["threads", "--again", str(kept)]) == 0
    again = capsys.readouterr().out
    assert again[again.index("defer:"):] in printed, "the same from what was kept"


def test_an_interruption_loses_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[int] = []

    def run(arguments: tuple[str, ...], load: str, number: int, seconds: float) -> Run:
        calls.append(number)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return fake_run(arguments, load, number, seconds)

    monkeypatch.setattr(wrk, "installed", lambda: True)
    monkeypatch.setattr(threads, "run_once", run)
    assert main(["threads", "--only", "inline", "--quick"]) == 130
    printed = capsys.readouterr().out
    assert printed.count("11.0  (11.0–11.0)") == 2
    assert "not run" in printed


def test_a_run_with_noise_is_made_again_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
                                             ) -> None:
    shares = iter([0.5, 0.3, 0.0, 0.0])

    def run(arguments: tuple[str, ...], load: str, number: int, seconds: float) -> Run:
        share = next(shares)
        return Run(arguments, load, number, cpu_us=100 * (1 + share), others=share, served=100)

    monkeypatch.setattr(wrk, "installed", lambda: True)
    monkeypatch.setattr(threads, "run_once", run)
    assert main(["threads", "--only", "inline", "--quick"]) == 0
    assert "(130–130)" in capsys.readouterr().out


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(wrk, "installed", lambda: False)
    assert main(["threads"]) == 2
    assert "apt install wrk" in capsys.readouterr().out
    monkeypatch.setattr(wrk, "installed", lambda: True)
    monkeypatch.setattr(threads, "run_once", fake_run)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert main(["threads", "--only", "defer", "--quick"]) == 0
    assert "strace is not installed" in capsys.readouterr().out

    def not_permitted(arguments: tuple[str, ...], load: str) -> dict[str, float]:
        raise ChildError("strace ended too soon: ptrace: Operation not permitted")

    monkeypatch.setattr(threads, "system_calls", not_permitted)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert main(["threads", "--only", "defer", "--quick"]) == 0
    assert "System calls are not counted: strace ended too soon: ptrace" in capsys.readouterr().out
