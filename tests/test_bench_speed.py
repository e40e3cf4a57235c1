"""`bench speed`, `regress` and `steps`: what they say follows from what was measured. No figure is judged."""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bench.__main__ import main
from bench.cells import Cell, Run, figures
from bench.children import ROOT, ChildError, running
from bench.clients import wrk
from bench.lab.statistics import Ratio, ratio_of, t_quantile
from bench.peers.server import PEERS
from bench.studies.regress import study as regress
from bench.studies.regress.sides import WORKING_TREE, Side, SideError, copies
from bench.studies.regress.study import Row, render, verdict
from bench.studies.speed import study as speed
from bench.studies.speed import transfer as speed_transfer
from bench.studies.speed.claims import Measured, calibration, judge
from bench.studies.speed.entrants import FAST, LEAN, PROBE, SUBJECTS, chosen, versions
from bench.studies.speed.run import parse_cells, run_once, words_of
from bench.studies.steps import operations as steps_operations
from bench.studies.steps.operations import OPERATIONS, Operation, calls_of, measure
from bench.studies.steps.study import matching, totals
from tests.test_bench import result
from tests.test_lab_subjects import made_up_python

needs_wrk = pytest.mark.skipif(not wrk.installed(), reason="wrk is not installed: apt install wrk")
needs_git = pytest.mark.skipif(not shutil.which("git") or not (ROOT / ".git").exists(), reason="no git checkout")
costs = st.floats(min_value=1e-3, max_value=1e6)


# Statistics.


@settings(max_examples=30)
@given(st.lists(st.tuples(costs, costs), min_size=2, max_size=20))
def test_the_ratio_says_the_same_in_both_directions(pairs: list[tuple[float, float]]) -> None:
    a, b = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    there, back = ratio_of(a, b), ratio_of(b, a)
    assert there.low <= there.value <= there.high
    assert there.value * back.value == pytest.approx(1)
    assert there.low * back.high == pytest.approx(1)


@settings(max_examples=30)
@given(st.lists(costs, min_size=2, max_size=20), st.floats(min_value=0.01, max_value=100))
def test_what_costs_so_many_times_as_much_is_found_exactly(a: list[float], factor: float) -> None:
    found = ratio_of(a, [each * factor for each in a])
    for value in (found.value, found.low, found.high):
        assert value == pytest.approx(factor)


@settings(max_examples=30)
@given(st.lists(st.tuples(costs, costs), min_size=2, max_size=10), st.floats(min_value=0.1, max_value=10))
def test_a_machine_that_is_slower_on_another_day_changes_nothing(pairs: list[tuple[float, float]], day: float) -> None:
    found = ratio_of([x for x, _ in pairs], [y for _, y in pairs])
    other = ratio_of([x * day for x, _ in pairs], [y * day for _, y in pairs])
    assert other.low == pytest.approx(found.low)
    assert other.high == pytest.approx(found.high)


@pytest.mark.parametrize("pairs", [2, 8])
def test_the_interval_has_the_truth_in_it_as_often_as_it_says(pairs: int) -> None:
    rng, truth, times = random.Random(7), 1.2, 1000
    hits = 0
    for _ in range(times):
        days = [rng.uniform(50, 200) for _ in range(pairs)]
        found = ratio_of([day * math.exp(rng.gauss(0, 0.05)) for day in days],
                         [truth * day * math.exp(rng.gauss(0, 0.05)) for day in days])
        hits += found.low <= truth <= found.high
    assert 0.93 < hits / times < 0.97


@pytest.mark.parametrize("freedom", range(1, 31))
def test_the_quantiles_are_those_of_students_t(freedom: int) -> None:
    """Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4."""
    angle = math.atan(t_quantile(freedom) / math.sqrt(freedom))
    cosine, odd = math.cos(angle), freedom % 2
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for n in range(1 + odd, freedom, 2):
        total += term
        term *= n / (n + 1) * cosine ** 2
    within = 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total
    assert within == pytest.approx(0.95, abs=5e-5)


@pytest.mark.parametrize(("a", "b"), [([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([1.0, 0.0], [1.0, 1.0])])
def test_what_no_ratio_can_be_made_of(a: list[float], b: list[float]) -> None:
    with pytest.raises(ValueError, match=r"two pairs are the least|a cost is above 0"):
        ratio_of(a, b)


# The command line.


@pytest.mark.parametrize(("arguments", "message"), [
    (["speed", "--only", "recycling-park,gunicorm"], "there is no subject 'gunicorm': choose from probe, recycling"),
    (["speed", "--cells", "on"], "'on' is no cell: write keep-alive and the milliseconds"),
    (["speed", "--cells", "on:-1"], "'on:-1' is no cell"),
    (["speed", "--cells", "on:nan"], "'on:nan' is no cell"),
    (["speed", "--seconds", "0.5"], "'0.5': give a whole number from 1 to 600"),
    (["regress", "--pairs", "1"], "'1': give a whole number from 2"),
    (["steps", "--only", "small,nonsense"], "no operation has 'nonsense' in its name: choose from response head"),
])
def test_arguments_that_will_not_do(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert message in capsys.readouterr().err


@settings(max_examples=30)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 1000).map(lambda number: number / 10)), min_size=1,
                max_size=8, unique=True))
def test_cells_are_read_as_they_are_written(cells: list[tuple[bool, float]]) -> None:
    assert parse_cells(",".join(words_of(Cell("", *cell)) for cell in cells)) == cells


def test_words_stand_for_subjects() -> None:
    assert [one.name for one in chosen(["uvicorn", "probe"])] == ["probe", "uvicorn-h11", "uvicorn-httptools"]
    assert [one.name for one in chosen(["recycling-park"])] == [FAST, LEAN]
    assert [one.name for one in chosen(["flask/waitress", "waitress"])] == ["waitress", "flask/waitress"]


@pytest.mark.parametrize("command", [["speed"], ["regress"]], ids=str)
def test_without_wrk_it_is_said_how_to_get_it(command: list[str], monkeypatch: pytest.MonkeyPatch,
                                              capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(wrk, "installed", lambda: False)
    assert main(command) == 2
    assert "apt install wrk" in capsys.readouterr().out


@needs_wrk
def test_a_python_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["speed", "--python", "/nowhere/python"]) == 2
    assert "/nowhere/python does not run: " in capsys.readouterr().out


# Subjects, and their programs.


def test_every_subject_says_what_it_needs_and_how_it_is_set_up(tmp_path: Path) -> None:
    bare = str(made_up_python(tmp_path / "python"))
    assert SUBJECTS["granian"].run_by(bare).missing() == "granian"
    assert SUBJECTS["flask/httptools"].run_by(bare).missing() == "h11, httptools, flask"
    assert SUBJECTS[PROBE].run_by(bare).missing() == ""
    assert SUBJECTS["waitress"].run_by("py").command(0.1) == ["py", "-m", "bench.peers.server", "waitress", "--app",
                                                              "wsgi", "--sleep", "0.1"]
    assert SUBJECTS["wsgi/h11"].run_by("py").command(0.0) == ["py", "-m", "bench.server", "--model", "recycling-park",
                                                              "--http", "h11", "--capacity", "0", "--app", "wsgi"]
    assert set(PEERS) <= set(SUBJECTS)
    assert "128" in versions([SUBJECTS["recycling-hold/h11"]])


def test_a_subject_that_the_claims_need_less_runs_where_the_handler_does_not_sleep() -> None:
    cells = [(True, 0.0), (True, 1.0)]
    subjects = [SUBJECTS[FAST], SUBJECTS["wsgi/h11"]]
    by_default = speed.plan(subjects, cells, everywhere=False)
    assert by_default == [(Cell(FAST, True, 0.0), 100), (Cell(FAST, True, 1.0), 100),
                          (Cell("wsgi/h11", True, 0.0), 100), (Cell(FAST, True, 0.0), 400)]
    assert (Cell("wsgi/h11", True, 1.0), 100) in speed.plan(subjects, cells, everywhere=True)


def get(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
        return b"".join(iter(lambda: sock.recv(4096), b""))


@pytest.mark.parametrize("arguments", [
    ["bench.studies.speed.probe", "--sleep", "0.1"],
    ["bench.server", "--capacity", "0", "--http", "h11", "--sleep", "0.1", "--app", "wsgi"],
    ["bench.server", "--capacity", "0", "--app", "flask", "--sleep", "0"],
], ids=str)
def test_every_program_answers_the_same_12_bytes(arguments: list[str]) -> None:
    with running(arguments) as child:
        answer = get(int(child.line(20)))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\ncontent-length: 12\r\n" in answer.lower()
    assert answer.endswith(b"\r\n\r\nHello, World")


@pytest.fixture
def made_up_peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A module called waitress, which serves by wsgiref, and prints; the command that runs it."""
    (tmp_path / "waitress.py").write_text(
        "import os\nfrom wsgiref.simple_server import make_server\n"
        "def serve(app, host, port, **settings):\n"
        "    print('serving', flush=True)\n"
        "    assert settings['threads'] and settings['connection_limit']\n"
        f"    open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "    if os.fork() == 0: make_server(host, port, app).serve_forever()\n"
        "    os.wait()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return ["bench.peers.server", "waitress"]


def test_a_peer_tells_its_port_once_it_answers_and_ends_with_its_input(made_up_peer: list[str], tmp_path: Path) -> None:
    with running(made_up_peer) as child:
        assert b"Hello, World" in get(int(child.line(20)))
        assert int((tmp_path / "pid").read_text()) == child.pid
        child.close_input()
        assert child.rest(20) == "", "the pipe closes when the last of its processes ends"


def test_a_peer_that_cannot_start_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "waitress.py").write_text("def serve(*arguments, **settings): raise SystemExit('no such port')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with running(["bench.peers.server", "waitress"]) as child, pytest.raises(ChildError, match="no such port"):
        child.line(60)


def test_large_transfers_are_measured_and_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    found = speed_transfer.measure([sys.executable, "-m", "bench.server", "--capacity", "0"], times=1, size=3_000_001)
    assert [one["kind"] for one in found] == list(speed_transfer.KINDS)
    assert all(len(one["seconds"]) == 1 and one["rate"] > 0 and one["grown"] >= 0 for one in found)
    assert "an upload" in speed_transfer.render({"ours": found})
    slow, fat = [{"kind": "upload", "seconds": [1.0], "rate": rate, "grown": grown}
                 for rate, grown in ((0.9, 0), (2.0, 10**9))]
    good = {"kind": "upload", "seconds": [0.1], "rate": 1.0, "grown": 1000}
    assert [one.holds for one in speed_transfer.judge("ours", [slow, fat, good])] == [False, False, True]


# Claims, of made-up runs.


def made_up(name: str, cpu_us: float, keep_alive: bool = True, sleep_ms: float = 0.0, connections: int = 100,
            rate: int = 1000, **changes: object) -> Run:
    load = replace(result(rate), server_cpu=cpu_us * rate / 1e6, mean_ms=1e3 * connections / rate)
    return Run(Cell(name, keep_alive, sleep_ms), 1, connections, replace(load, **changes))  # type: ignore[arg-type]


def measured(*runs: Run, probe_parses: bool = True) -> Measured:
    usual, crowded = ({one.cell: one for one in figures(run for run in runs if run.connections == connections)}
                      for connections in (100, 400))
    return Measured(usual, crowded, probe_parses)


def said(*runs: Run, probe_parses: bool = True) -> dict[str, str]:
    """Each claim that could be judged, with PASS or FAIL and its figures."""
    return {one.claim: str(one) for one in judge(measured(*runs, probe_parses=probe_parses))[0]}


def the_one(claims: dict[str, str], beginning: str) -> str:
    [found] = [text for claim, text in claims.items() if claim.startswith(beginning)]
    return found


def test_aims_in_microseconds_are_judged_by_the_probe_of_the_same_run() -> None:
    aim = f"{FAST}, on:0: at most 22 us"
    text = the_one(said(made_up(PROBE, 24), made_up(FAST, 32)), aim)
    assert text.startswith("PASS")
    assert "32.0 us; at most 33.0 here, where the probe needs 24.0; as stated, 22; 1.33 probes against 1.38" in text
    assert the_one(said(made_up(PROBE, 16), made_up(FAST, 23)), aim).startswith("FAIL")
    assert the_one(said(made_up(PROBE, 8), made_up(FAST, 12)), aim).startswith("FAIL"), "on a machine that is faster"


@pytest.mark.parametrize("runs", [[made_up(FAST, 20)], [made_up(PROBE, 16)], []], ids=["no probe", "not ours", "none"])
def test_what_has_not_run_is_not_judged(runs: list[Run]) -> None:
    findings, unjudged = judge(measured(*runs))
    assert not [one for one in findings if "at most 22 us" in one.claim]
    assert [text for text in unjudged if "at most 22 us" in text]
    assert len(findings) + len(unjudged) == len(judge(measured())[1])


def test_a_probe_without_its_parser_is_no_measure() -> None:
    runs = [made_up(PROBE, 10), made_up(FAST, 20)]
    assert not [claim for claim in said(*runs, probe_parses=False) if "at most 22 us" in claim]
    assert "cannot be judged" in calibration(measured(*runs, probe_parses=False))
    assert "on:0 10.0 us (then 16, so 0.62 x)" in calibration(measured(*runs))
    assert "The probe has not run" in calibration(measured())
    failing = made_up(PROBE, 10, errors={"read": 1})
    assert not [claim for claim in said(failing, runs[1]) if "at most 22 us" in claim]


def test_ahead_in_every_cell_means_in_every_cell() -> None:
    runs = [made_up(name, cpu, keep_alive) for name, cpu in ((FAST, 20), ("granian", 21), ("bjoern", 10))
            for keep_alive in (True, False)]
    claims = said(*runs)
    assert the_one(claims, f"{FAST}: less CPU than granian").startswith("PASS")
    text = the_one(claims, f"{FAST}: less CPU than bjoern")
    assert text.startswith("FAIL")
    assert "on:0 20.0 against 10.0 us, 2.00 x; off:0 20.0 against 10.0 us, 2.00 x NOT" in text
    same = said(made_up(FAST, 20), made_up("granian", 20), made_up("bjoern", 20 / 2.2 + 0.01))
    assert the_one(same, f"{FAST}: less CPU than granian").startswith("FAIL"), "the same is not ahead"
    assert the_one(same, f"{FAST}: less CPU than bjoern").startswith("PASS")


@settings(max_examples=30)
@given(st.dictionaries(st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 1.0])), st.tuples(costs, costs), min_size=1))
def test_waitress_is_beaten_by_a_third_or_the_claim_fails(cells: dict[tuple[bool, float], tuple[float, float]]) -> None:
    assume(all(abs(ours / theirs - 0.65) > 1e-6 for ours, theirs in cells.values()))
    claims = said(*(made_up(name, cpu, *load) for load, pair in cells.items()
                    for name, cpu in zip((LEAN, "waitress"), pair, strict=True)))
    holds = all(ours < 0.65 * theirs for ours, theirs in cells.values())
    assert the_one(claims, f"{LEAN}: at most 0.65").startswith("PASS" if holds else "FAIL")


def test_a_peer_with_errors_or_that_serves_a_few_is_no_measure_of_p99() -> None:
    ours = made_up(FAST, 20, p99_ms=8.0)
    claim = f"{FAST}: p99"
    assert the_one(said(ours, made_up("waitress", 100, p99_ms=9.0)), claim).startswith("PASS")
    text = the_one(said(ours, made_up("granian", 20, p99_ms=7.0), made_up("waitress", 100, p99_ms=9.0)), claim)
    assert text.startswith("FAIL")
    assert "8.0 against 7.0 ms of granian NOT" in text
    for changes in ({"errors": {"timeout": 1}}, {"non_2xx": {"503": 1}}, {"mean_ms": 1.0}):
        others = [made_up("granian", 20, p99_ms=1.0, **changes), made_up("waitress", 100, p99_ms=9.0)]
        assert the_one(said(ours, *others), claim).startswith("PASS")
    assert claim not in " ".join(said(ours, made_up("uvicorn-h11", 100, p99_ms=9.0))), "it has no threads"


def test_flask_is_three_times_as_fast_in_each_cell_or_the_claim_fails() -> None:
    for slowest, word in ((3000, "PASS"), (2999, "FAIL")):
        claims = said(made_up("flask/httptools", 1, True, rate=9000),
                      made_up("flask/httptools", 1, False, rate=slowest),
                      *(made_up("flask/waitress", 1, keep_alive, rate=1000) for keep_alive in (True, False)))
        assert the_one(claims, "Flask: at least 3 times the responses of waitress").startswith(word)


def test_a_crowd_may_cost_a_fifth_of_the_responses_and_no_error() -> None:
    claim = f"{LEAN}: no errors with 400"
    usual = made_up(LEAN, 80)
    assert the_one(said(usual, made_up(LEAN, 90, connections=400, rate=801)), claim).startswith("PASS")
    assert the_one(said(usual, made_up(LEAN, 90, connections=400, rate=799)), claim).startswith("FAIL")
    failing = made_up(LEAN, 90, connections=400, errors={"timeout": 2})
    assert "timeout 2" in the_one(said(usual, failing), claim)
    assert the_one(said(usual, failing), claim).startswith("FAIL")


def test_errors_and_starved_clients_of_ours_are_a_failure() -> None:
    claim = f"{FAST}: no errors, and nobody starves"
    assert the_one(said(made_up(FAST, 20)), claim).startswith("PASS")
    assert "503: 3" in the_one(said(made_up(FAST, 20, non_2xx={"503": 3})), claim)
    assert the_one(said(made_up(FAST, 20, mean_ms=1.0)), claim).startswith("FAIL"), "1 of 100 in service"
    assert the_one(said(made_up(FAST, 20, False, mean_ms=1.0)), claim).startswith("PASS"), "wrk cannot tell"
    broken = Run(Cell(FAST, True, 0.0), 1, 100, failed="it died")
    assert "it died" in the_one(said(broken), claim)


def test_tables_and_claims_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    runs = [made_up(PROBE, 16), made_up(FAST, 20), made_up(FAST, 20, connections=400), made_up("granian", 21),
            Run(Cell("cheroot", True, 0.0), 1, 100, failed="it died")]
    runs[3].others = 0.4
    assert speed.show(runs, {}, probe_parses=True)
    printed = capsys.readouterr().out
    for text in ("keep-alive on, no sleep, 100 connections", "keep-alive on, no sleep, 400 connections", "it died",
                 "others had 40% of its core", "----  not judged: ", "claims hold here"):
        assert text in printed
    moved = {"ours": [{"kind": "upload", "seconds": [1.0], "rate": 0.1, "grown": 0}]}
    assert not speed.show(runs, moved, probe_parses=True)
    assert "FAIL  ours: 100 MB of an upload" in capsys.readouterr().out


@needs_wrk
def test_speed_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "kept.json"
    assert main(["speed", "--only", "wsgi/h11", "--cells", "on:0", "--quick", "--json", str(kept)]) == 0
    printed = capsys.readouterr().out
    assert "RecyclingTaskmaster(idle='park')" in printed
    assert "0 of 0 claims hold here" in printed
    runs = json.loads(kept.read_text())["runs"]
    assert [run["cell"]["model"] for run in runs] == ["wsgi/h11"]
    assert all(run["load"]["ok"] > 0 and run["load"]["server_cpu"] > 0 for run in runs)


def test_a_run_with_noise_is_repeated_once_and_an_interruption_loses_nothing(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shares = iter([0.5, 0.3, 0.0, None])

    def run_once(command: list[str], cell: Cell, connections: int, seconds: float, number: int) -> Run:
        if (others := next(shares)) is None:
            raise KeyboardInterrupt
        return replace(made_up(cell.model, 100 * (1 + others)), others=others)

    monkeypatch.setattr(speed, "run_once", run_once)
    monkeypatch.setattr(wrk, "installed", lambda: True)
    assert main(["speed", "--only", PROBE, "--cells", "on:0", "--rounds", "3"]) == 130
    printed = capsys.readouterr().out
    assert "Interrupted; so far:" in printed
    assert "(100.0–130.0)" in printed, "the one with less noise counts, be it the first or the second"


@needs_wrk
def test_what_is_not_installed_is_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = str(made_up_python(tmp_path / "python"))
    assert main(["speed", "--only", "waitress", "--quick", "--python", bare]) == 0
    assert "something is not installed: waitress (waitress)" in capsys.readouterr().out


def test_a_server_that_does_not_start_is_a_run_that_failed() -> None:
    run = run_once(["bench.server", "--model", "nonsense"], Cell("x", True, 0.0), 1, 1, 1)
    assert run.load is None
    assert "there is no model 'nonsense'" in run.failed


# Two commits.


def row(name: str, value: float, low: float, high: float, rate: Ratio | None = None) -> Row:
    return Row(name, "us", 10.0, 10.0 * value, Ratio(value, low, high, 8), rate)


def test_slower_is_what_is_so_with_all_of_its_interval() -> None:
    text, slower = verdict([row("on:0", 1.2, 1.031, 1.4), row("off:0", 1.2, 1.01, 1.4), row("x", 0.8, 0.7, 0.9)], 3.0)
    assert slower
    assert "on:0: B is SLOWER, cost 1.200 (1.031–1.400)" in text
    assert "off:0: B costs more, but perhaps by less than 3 %" in text
    assert "x: B is faster" in text
    text, slower = verdict([row("off:0", 1.2, 1.03, 1.4)], 3.0)
    assert not slower
    assert "No cell is slower by more than 3 %" in text
    assert verdict([], 3.0) == ("Nothing could be compared.", False)


def test_fewer_responses_are_slower_too() -> None:
    text, slower = verdict([row("on:1", 1.0, 0.99, 1.01, Ratio(0.8, 0.75, 0.9, 8))], 3.0)
    assert slower
    assert "responses a second 0.800 (0.750–0.900)" in text
    assert "0.800" in render([row("on:1", 1.0, 0.99, 1.01, Ratio(0.8, 0.75, 0.9, 8))])


FIND = """\
import json, sys, bench, taskmaster
try:
    import taskmaster.only_in_the_checkout
    found = True
except ImportError as error:
    found = str(error)
print(json.dumps([bench.__file__, taskmaster.__file__, found, sys.argv[1:]]))
"""


@needs_git
def test_each_side_has_its_own_code_and_none_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "find.py"
    program.write_text(FIND)
    monkeypatch.chdir(ROOT)  # where everything could be found

    def found_by(side: Side, path: Path) -> list[Any]:
        run = subprocess.run(side.command(str(program), "x"), capture_output=True, text=True, check=True, timeout=60,
                             env=os.environ | {"PYTHONPATH": str(path)})
        found: list[Any] = json.loads(run.stdout)
        return found

    with copies("HEAD", WORKING_TREE) as sides:
        for side in sides:
            lab, taskmaster, found, arguments = found_by(side, ROOT)
            assert Path(lab).parent.parent == Path(taskmaster).parent.parent == side.root
            assert found == f"there is no taskmaster.only_in_the_checkout in {side.root}"
            assert arguments == ["x"]
        assert sides[0].name.startswith("HEAD (")
        (sides[1].root / "taskmaster" / "only_in_the_checkout.py").write_text("")
        assert found_by(sides[1], ROOT)[2] is True
        assert found_by(sides[0], sides[1].root)[2] is not True, "another checkout has it, and is on the path"
    assert not sides[0].root.exists()


@needs_git
@pytest.mark.parametrize(("asked", "message"), [("no-such-commit", "give a commit, such as HEAD~1"),
                                                ("./", "has no package")])
def test_a_side_that_is_none(asked: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                             capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SideError, match=message), copies(asked):
        raise AssertionError("it has been copied")
    assert main(["regress", asked, "--steps"]) == 2
    assert message in capsys.readouterr().out


def test_copies_are_gone_after_an_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    roots: list[Path] = []

    def interrupted() -> None:
        with copies(WORKING_TREE, WORKING_TREE) as sides:
            roots.extend(side.root for side in sides)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(roots) == 2
    assert not any(root.exists() for root in roots)


@pytest.fixture
def checkouts(tmp_path: Path) -> tuple[str, str]:
    """Two directories with a checkout, as far as that matters: the second one's handlers say that they are slow."""
    for side in "ab":
        for package in ("acceptor", "taskmaster", "handlers", "bench"):
            (tmp_path / side / package).mkdir(parents=True)
            (tmp_path / side / package / "__init__.py").write_text(f"cost = {1.0 if side == 'a' else 1.5}\n")
    return f"{tmp_path}/a/", f"{tmp_path}/b/"


def test_regress_from_end_to_end(checkouts: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                 capsys: pytest.CaptureFixture[str]) -> None:
    operations = tmp_path / "operations.py"
    operations.write_text("import handlers, json\nprint(json.dumps({'step': handlers.cost, 'other': 'not there'}))\n")
    monkeypatch.setattr(regress, "OPERATIONS_FILE", operations)
    kept = tmp_path / "kept.json"
    assert main(["regress", *checkouts, "--steps", "--pairs", "2", "--json", str(kept)]) == 1
    printed = capsys.readouterr().out
    assert "step: B is SLOWER, cost 1.500 (1.500–1.500)" in printed
    assert "Left out: other: in A, not there" in printed
    assert json.loads(kept.read_text())["rows"][0]["cost"]["value"] == pytest.approx(1.5)
    assert main(["regress", checkouts[0], checkouts[0], "--steps", "--pairs", "2"]) == 0
    assert "No cell is slower by more than 3 %" in capsys.readouterr().out


def test_servers_are_compared_in_pairs(checkouts: tuple[str, str], monkeypatch: pytest.MonkeyPatch,
                                       capsys: pytest.CaptureFixture[str]) -> None:
    """The machine becomes slower all the time, which hits both; B costs a tenth more."""
    order, day, broken = [], 1.0, False

    def run_once(command: list[str], cell: Cell, connections: int, seconds: float, number: int) -> Run:
        nonlocal day
        day *= 1.01
        side = "AB"[checkouts_of(command)]
        order.append(side)
        if broken and cell.sleep_ms:
            return Run(cell, 1, connections, failed="it died")
        return made_up(cell.model, day * (22.0 if side == "B" else 20.0), cell.keep_alive, cell.sleep_ms)

    def checkouts_of(command: list[str]) -> int:
        assert command[command.index("--sleep") + 2:] == ["--http=h11"]
        return int(any(part.endswith("/b") for part in command))

    monkeypatch.setattr(regress, "run_once", run_once)
    monkeypatch.setattr(wrk, "installed", lambda: True)
    arguments = ["regress", *checkouts, "--cells", "on:0,off:0.1", "--seed", "1", "--server=--http=h11"]
    assert main(arguments) == 1
    printed = capsys.readouterr().out
    assert printed.count("B is SLOWER") == 2
    assert len(order) == 2 * 2 * 8
    assert {"".join(order[at:at + 2]) for at in range(0, len(order), 2)} == {"AB", "BA"}
    assert main([*arguments, "--tolerance", "20"]) == 0
    broken = True
    assert main([*arguments, "--tolerance", "20"]) == 0
    assert "Left out: " in (printed := capsys.readouterr().out)
    assert "it died" in printed


# Microbenchmarks.


def test_every_operation_does_what_it_counts() -> None:
    times = measure(OPERATIONS, repeat=1, long_enough=0.0)
    assert list(OPERATIONS) == [*times]
    missing = {name for name, taken in times.items() if isinstance(taken, str)}
    assert all(name.startswith("httptools") for name in missing), times
    assert all(taken > 0 for taken in times.values() if isinstance(taken, float))


def test_an_operation_that_does_not_fit_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def make() -> Any:
        raise ImportError("it was called otherwise then")

    monkeypatch.setitem(OPERATIONS, "response head", replace(OPERATIONS["response head"], make=make))
    assert measure(["response head"]) == {"response head": "ImportError: it was called otherwise then"}


def test_words_choose_operations() -> None:
    assert matching([]) == list(OPERATIONS)
    assert matching(["h11: small", "response"]) == ["response head", "h11: small head"]


def test_steps_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "kept.json"
    assert main(["steps", "--only", "response head", "--json", str(kept)]) == 0
    assert "response head" in capsys.readouterr().out
    assert json.loads(kept.read_text())["us"]["response head"] > 0


def test_without_valgrind_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "")
    assert main(["steps", "--instructions"]) == 2
    assert "apt install valgrind" in capsys.readouterr().out


VALGRIND = f"""\
#!{sys.executable}
import sys
sys.path.insert(0, {str(ROOT)!r})
from bench.studies.steps.operations import runs_of
[folder] = [word.partition("=")[2] for word in sys.argv if word.startswith("--callgrind-out-file=")]
names = sys.argv[sys.argv.index("--mark") + 1:]
parts = [part for name in names for part in (1_000_000, *(77 + 500 * calls for calls in runs_of(name)))]
for number, part in enumerate(parts, 1):
    open(f"{{folder}}.{{number}}", "w").write(f"events: Ir\\nfn=(1) main\\n0 {{part}}\\n\\ntotals: {{part}}\\n")
"""


@pytest.fixture
def valgrind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that counts a million before each operation, 77 for each mark, and 500 for each call."""
    (tmp_path / "bin").mkdir()
    file = tmp_path / "bin" / "valgrind"
    file.write_text(VALGRIND)
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{file.parent}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.usefixtures("valgrind")
def test_instructions_are_the_difference_of_a_long_run_and_a_short_one(tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    assert main(["steps", "--only", "response,h11: request (held)", "--instructions", "--json", str(kept)]) == 0
    counts = json.loads(kept.read_text())["instructions"]
    assert counts == {"response head": 500, "h11: request (held)": 500 / 100}, "one call of this does a hundred"


@pytest.mark.usefixtures("valgrind")
def test_two_sides_are_compared_by_instructions(checkouts: tuple[str, str], tmp_path: Path,
                                                monkeypatch: pytest.MonkeyPatch,
                                                capsys: pytest.CaptureFixture[str]) -> None:
    operations = tmp_path / "operations.py"
    operations.write_text("import json\nprint(json.dumps({'response head': 1.0}))\n")
    monkeypatch.setattr(regress, "OPERATIONS_FILE", operations)
    assert main(["regress", *checkouts, "--instructions"]) == 0
    assert "response head 500.00 500.00 instructions 1.000" in " ".join(capsys.readouterr().out.split())


def test_a_run_of_marked_operations_has_three_marks_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name, count in (("one", 1), ("hundred", 100)):
        monkeypatch.setitem(OPERATIONS, name, Operation(partial(partial, calls.append, name), count))
    monkeypatch.setattr(steps_operations, "mark", lambda: calls.append("mark"))
    steps_operations.run_marked(["one", "hundred"])
    assert [(word, len([*those])) for word, those in itertools.groupby(calls)] == [
        ("one", 1), ("mark", 1), ("one", 100), ("mark", 1), ("one", 500), ("mark", 1),
        ("hundred", 1), ("mark", 1), ("hundred", 1), ("mark", 1), ("hundred", 5), ("mark", 1)]


def test_calls_are_counted_for_each_of_what_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def two() -> None:
        len([])
        len([])

    monkeypatch.setitem(OPERATIONS, "two", Operation(lambda: two, 2))
    calls = calls_of("two")
    assert calls.pop("len") == 1
    assert list(calls.values()) == [0.5], "itself"


def test_what_callgrind_dumps_is_read_in_its_order(tmp_path: Path) -> None:
    assert totals(tmp_path) == []
    for number in range(1, 12):
        (tmp_path / f"out.{number}").write_text(f"events: Ir\n\ntotals: {number}00\n")
    assert totals(tmp_path) == [100 * number for number in range(1, 12)]
    (tmp_path / "out.12").write_text("no")
    with pytest.raises(ValueError, match=r"out\.12 is not what callgrind dumps"):
        totals(tmp_path)
