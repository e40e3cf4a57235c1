"""`bench scale`: its parts count rightly, and what it says follows from what was measured. No figure is judged."""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from bench.__main__ import main
from bench.children import running
from bench.clients.flood import Flooded, flood
from bench.clients.result import Result
from bench.models import MODELS, find_model, names_of
from bench.processes import Usage, cpu_seconds, raise_open_files, resident_bytes, serving_threads, tree
from bench.progress import Progress
from bench.studies.scale import cores as scale_cores
from bench.studies.scale import crowd as scale_crowd
from bench.studies.scale import fairness as scale_fairness
from bench.studies.scale import loop as scale_loop
from bench.studies.scale import picture as scale_picture
from bench.studies.scale import price as scale_price
from bench.studies.scale.leader_followers import LeaderFollowersTaskmaster
from bench.studies.scale.study import EXPERIMENTS, run_scale
from bench.studies.scale.trial import Finding, Load, Options, Report, measure, serving
from taskmaster import PooledTaskmaster, RecyclingTaskmaster
from taskmaster.contract import TaskmasterContract
from taskmaster.prefork import PreforkTaskmaster
from tests.test_bench import result

# What the system tells.


def test_a_tree_is_a_process_and_all_that_it_has_forked() -> None:
    program = ("import os, sys, time\n"
               "child = os.fork()\n"
               "grandchild = 0 if child else os.fork()\n"
               "if child: print(os.getpid(), flush=True)\n"
               "time.sleep(60) if child else (grandchild and time.sleep(60)) or time.sleep(60)\n")
    with running([sys.executable, "-c", program]) as child:
        child.line(20)
        deadline = time.monotonic() + 10
        while len(pids := tree(child.pid)) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        try:
            assert pids[0] == child.pid
            assert len(pids) == 3
            assert tree(pids[1]) == pids[1:]
            assert cpu_seconds(pids) > 0
            assert resident_bytes(pids) > resident_bytes(pids[:1]) > 1_000_000
        finally:
            for pid in pids[1:]:
                os.kill(pid, 9)
    assert cpu_seconds(pids[:1]) == resident_bytes(pids[:1]) == serving_threads(pids[:1]) == 0, "it is no more"


def test_a_process_that_waits_switches() -> None:
    before = Usage.of([os.getpid()])
    for _ in range(5):
        time.sleep(0.001)
    used = Usage.of([os.getpid()]) - before
    assert used.voluntary >= 5
    assert used.involuntary >= 0
    assert 0 < used.cpu < 5


def test_too_few_open_files_are_said() -> None:
    most = raise_open_files()
    with pytest.raises(OSError, match=rf"takes {most + 1:,} open files in one process, and the hard limit .* is"):
        raise_open_files(most + 1)


# The models.


def test_a_word_stands_for_all_models_that_begin_with_it() -> None:
    assert names_of("pool") == ["pool-hold", "pool-park"]
    assert names_of("recycling-park") == ["recycling-park"]
    assert names_of("loop") == ["loop"]
    assert names_of("thread") == ["thread"]
    assert names_of("nonsense") == ["nonsense"]


def test_models_are_made_as_they_are_said_to_be() -> None:
    pool = find_model("pool-park").make(5, exactly=True, queue_size=7, inline="always", processes=3)
    assert isinstance(pool, PooledTaskmaster)
    assert (pool.max_thread_count, pool.max_accept_count, pool.parks, pool.inline) == (5, 7, True, "always")
    recycling = find_model("recycling-hold").make(5, exactly=True, queue_size=7)
    assert isinstance(recycling, RecyclingTaskmaster)
    assert (recycling.standby, recycling.max_thread_count, recycling.parks) == (5, 5, False)
    prefork = find_model("prefork").make(128, processes=3)
    assert isinstance(prefork, PreforkTaskmaster)
    assert (prefork.process_count, prefork.inner.max_thread_count) == (3, 43)
    assert {name: model.spelled(9) for name, model in MODELS.items()}["pool-hold"] == (
        "PooledTaskmaster(threads=9, idle='hold')")


class TestLeaderFollowersWithParking(TaskmasterContract):
    one_accepts = False

    def make_taskmaster(self) -> LeaderFollowersTaskmaster:
        return LeaderFollowersTaskmaster(threads=20)


# The server and its clients.


def test_a_server_is_seen_from_outside() -> None:
    with serving("recycling-park", 3) as server:
        [load] = measure(server, [Load(3)], 0.2, warmup=0.0)
        assert load.ok > 0
        assert load.server_cpu
        assert load.server_cpu > 0
        assert serving_threads(server.pids) == 3
        assert server.state()["accepted"] == 3
        assert server.state()["allocated"] == 0, "it does not trace"
        assert server.resident > 1_000_000
    with serving("prefork", 4, pinned=False) as server:
        assert len(server.pids) == 4, "the main process, the nursery, two workers"
        assert serving_threads(server.pids) == 4


def test_a_crowd_is_idle_and_still_there() -> None:
    with (serving("pool-park", 2, "--trace-memory") as server,
          running(["bench.clients.crowd", "--port", str(server.port), "--connections", "30"]) as crowd):
        assert json.loads(crowd.line(20))["answered"] == 30
        state = server.state()
        assert state["accepted"] == 30
        assert state["allocated"] > 0
        crowd.tell("again")
        told = json.loads(crowd.line(20))
        assert (told["answered"], told["failed"]) == (30, 0)


def test_a_crowd_tells_who_got_no_answer() -> None:
    with (socket.create_server(("127.0.0.1", 0)) as listener,
          running(["bench.clients.crowd", "--port", str(listener.getsockname()[1]), "--connections", "1"]) as crowd):
        accepted, _ = listener.accept()
        accepted.close()
        assert json.loads(crowd.line(20))["failed"] == 1


def test_a_flood_is_answered_and_counted() -> None:
    with serving("recycling-park", 2) as server:
        flooded = flood(server.port, 4, warmup=0.0, duration=0.4)
        before = server.state()
    assert len(flooded.answers) == 4
    assert flooded.answers == sorted(flooded.answers)
    assert all(flooded.answers), "inline is fair"
    assert not flooded.errors
    assert before["accepted"] == 4


# The experiments.


def test_what_is_found_out_is_said_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    def run(options: Options, progress: Progress) -> Report:
        return Report(f"a table of {options.seconds:g}", findings, ["a note"], [{"measured": 7}])

    findings = [Finding(True, "it is so", "1 against 2"), Finding(False, "it is not", "2 against 1")]
    monkeypatch.setitem(EXPERIMENTS, "loop", replace(EXPERIMENTS["loop"], run=run))
    file = tmp_path / "kept.json"
    assert main(["scale", "--only", "loop", "--seconds", "0.7", "--json", str(file)]) == 1
    printed = capsys.readouterr().out
    for line in ("a table of 0.7", "  PASS  it is so: 1 against 2\n", "  FAIL  it is not: 2 against 1\n", "  a note\n",
                 "Meanwhile others", "1 of 2 claims hold here", "  not: it is not\n"):
        assert line in printed
    assert json.loads(file.read_text())["loop"]["data"] == [{"measured": 7}]
    findings.pop()
    assert main(["scale", "--only", "loop"]) == 0


class Made:
    """In place of a server: what is measured of it has been made up."""

    port = 1

    def __init__(self, model: str, arguments: Sequence[str], resident: int) -> None:
        self.model, self.arguments, self.resident = model, arguments, resident
        self.asked = 0

    @property
    def usage(self) -> Usage:
        self.asked += 1
        each = {"recycling-hold": 1, "recycling-park": 1.2, "pool-hold": 1.1, "pool-park": 2}.get(self.model, 1.5)
        return Usage(cpu=self.asked * each, voluntary=int(1000 * self.asked * each), involuntary=0)

    def state(self) -> dict[str, int]:
        self.asked += 1
        return {"parked": 60, "allocated": self.asked * 50 * 1500}


Answer = Callable[[Made, Load], Result]


def judged(module: ModuleType, answer: Answer, monkeypatch: pytest.MonkeyPatch, **more: object) -> list[str]:
    """What `module` says of made-up results. It must take as many steps as it has said."""
    steps = []

    @contextmanager
    def step(progress: object, what: str) -> Iterator[list[str]]:
        steps.append(what)
        yield []

    @contextmanager
    def serving(model: str, threads: int, *arguments: str, pinned: bool = True) -> Iterator[Made]:
        yield Made(model, arguments, 0)

    def measure(server: Made, loads: Sequence[Load], seconds: float, warmup: float = 0.0) -> list[Result]:
        return [answer(server, load) for load in loads]

    for name, value in {"step": step, "serving": serving, "measure": measure, **more}.items():
        monkeypatch.setattr(module, name, value)
    options = Options(rounds=2, seconds=1.0, idle=50)
    report: Report = module.run(options, Progress(1, 1.0))
    assert len(steps) == module.steps(options)
    assert report.table
    json.dumps(report.data)
    return [str(one) for one in report.findings]


def test_what_is_said_of_a_crowd(monkeypatch: pytest.MonkeyPatch) -> None:
    class Crowd:
        seconds = 1.0

        def ask(self) -> int:
            return lost

    @contextmanager
    def crowd(server: Made, idle: int) -> Iterator[Crowd | None]:
        server.resident += 1000
        server.model += f" {idle}"
        yield Crowd() if idle else None

    def answer(server: Made, load: Load) -> Result:
        slow = 3.0 if load.pause_ms and server.model == "pool-park 50" else 1.5 if " 50" in server.model else 1.0
        return result(1000, p99_ms=slow, errors={"reset": 1} if failing and " 50" in server.model else {})

    lost, failing = 0, False
    said = judged(scale_crowd, answer, monkeypatch, _crowd=crowd)
    assert len(said) == 8
    assert [text[:40] for text in said if text.startswith("FAIL")] == ["FAIL  pool-park, half load: p99 with 50 "]
    assert "3.0 ms against 1.0 ms, 3.00 x" in said[5]
    assert "1,500 bytes; the process grew by 20 bytes" in said[3]
    lost, failing = 1, True
    said = judged(scale_crowd, answer, monkeypatch, _crowd=crowd)
    assert [text[:4] for text in said] == ["FAIL", "FAIL", "FAIL", "PASS"] * 2


def test_what_is_said_of_fairness(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(server: Made, load: Load) -> Result:
        if not load.keep_alive:
            return result(10, max_ms=longest)
        return result(640, answers=eight if server.model.endswith("hold") else all_of_them)

    def flooded(server: Made, seconds: float) -> tuple[Flooded, Result]:
        return Flooded(1.0, eight if "always" in server.arguments else all_of_them, 0), result(10)

    eight, all_of_them, longest = [0] * 56 + [80] * 8, [10] * 64, 50.0
    said = judged(scale_fairness, answer, monkeypatch, _flood=flooded)
    assert not [text for text in said if text.startswith("FAIL")]
    assert "64 of 64 clients, index 1.0000" in " ".join(said)
    all_of_them, longest = [1] * 60 + [200] * 4, 150.0
    said = judged(scale_fairness, answer, monkeypatch, _flood=flooded)
    assert sum(text.startswith("FAIL") for text in said) == 2 + 2 + 4, "unfair, late, and unfair to those who pipeline"


def test_what_is_said_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(server: Made, load: Load) -> Result:
        sleep = server.arguments[server.arguments.index("--sleep") + 1]
        return result({("loop", "1.0"): 800, ("loop", "0.1"): 2700, ("loop-threads", "0.1"): threads}.get(
            (server.model, sleep), cured))

    cured, threads = 4000, 2600
    said = judged(scale_loop, answer, monkeypatch)
    assert not [text for text in said if text.startswith("FAIL")]
    assert "4,000 against 800 a second, 5.0 x" in said[2]
    assert "2,600 against 2,700 a second, 1.0 x" in said[3]
    assert "4,000 against 2,700 a second, 1.5 x" in said[4]
    cured, threads = 700, 5000
    assert [text[:4] for text in judged(scale_loop, answer, monkeypatch)] == ["PASS", "PASS", "FAIL", "FAIL", "FAIL"]


def test_what_is_said_of_two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(server: Made, load: Load) -> Result:
        return result(1800 if "2" in server.arguments and load.keep_alive else 1000)

    said = judged(scale_cores, answer, monkeypatch)
    assert [text[:4] for text in said] == ["PASS", "FAIL"]
    assert "1,800 against 1,000 a second, 1.80 x" in said[0]


def test_what_is_said_of_the_price(monkeypatch: pytest.MonkeyPatch) -> None:
    said = judged(scale_price, lambda server, load: result(1000), monkeypatch)
    assert not [text for text in said if text.startswith("FAIL")]
    assert "1.20 against 2.00 voluntary switches for a request, 1200 against 2000 us" in said[0]


def test_a_machine_that_does_not_allow_it_is_said_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    options = argparse.Namespace(only=["crowd"], rounds=1, seconds=1.0, idle=raise_open_files(), json=None,
                                 picture=None)
    assert run_scale(options) == 2
    assert "Raise it, or ask for fewer: --idle N" in capsys.readouterr().out


def test_the_picture_shows_every_client() -> None:
    drawn = scale_picture.draw({"recycling, idle=hold": [0, 0, 3, 7], "<fair>": [5, 5, 5, 5]}, "today & here")
    tree = ElementTree.fromstring(drawn)
    texts = ["".join(text.itertext()) for text in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert "2 of 4 served, Jain 0.43" in texts
    assert "4 of 4 served, Jain 1.00" in texts
    assert {"<fair>", "today & here"} <= set(texts)
    paths = [path.attrib for path in tree.iter("{http://www.w3.org/2000/svg}path")]
    assert [path["d"].count("z") for path in paths if "fill" in path] == [2, 4], "a bar for each who got something"


def test_an_experiment_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["scale", "--only", "crowd,lop"])
    assert "there is no experiment 'lop': choose from crowd, fairness, loop, cores" in capsys.readouterr().err
