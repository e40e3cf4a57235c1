"""The lab: that it counts rightly, and says what the data say. No figure is judged here, and none is timed."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.cells import Cell, Run, figures
from bench.children import ROOT, ChildError, running
from bench.clients import wrk
from bench.clients.load import measure
from bench.clients.result import Result, fairness, percentile, process_clock
from bench.lab.drawing import MISSING, svg_of
from bench.lab.preset import Saying
from bench.lab.record import Cell as LabCell
from bench.lab.record import Record, Results
from bench.models import find_model
from bench.presets import find_preset
from bench.presets.matrix_picture import bars, capacity_grid
from bench.presets.matrix_verdict import verdict
from bench.presets.readme import published
from bench.studies.waiting.report import Alone, Loaded, sentences
from bench.studies.waiting.strategies import OURS, STRATEGIES
from bench.table import render
from tests.scripted_server import HELLO, requests, scripted

# The generator, against a server that follows a script.


def load(port: int, connections: int = 3, keep_alive: bool = True, duration: float = 0.5, timeout: float = 10.0,
         pause: float = 0.0) -> Result:
    return measure(port, connections, keep_alive, warmup=0.0, duration=duration, timeout=timeout, pause=pause)


def test_with_keep_alive_every_client_keeps_one_connection() -> None:
    connections = []

    def serve(sock: socket.socket) -> None:
        connections.append(sock)
        for request in requests(sock):
            assert b"Connection" not in request
            sock.sendall(HELLO)

    with scripted(serve) as port:
        result = load(port)
    assert len(connections) == 3
    assert result.ok == sum(result.answers) > 3
    assert (result.errors, result.non_2xx, result.starved) == ({}, {}, 0)
    assert 0 < result.p50_ms <= result.p99_ms <= result.max_ms


def test_without_keep_alive_each_request_has_its_connection_and_the_server_closes_first() -> None:
    asked, closed = [], []

    def serve(sock: socket.socket) -> None:
        asked.append(next(requests(sock)))
        sock.sendall(HELLO)
        readable, _, _ = select.select([sock], [], [], 0.001)
        closed.append(bool(readable))

    with scripted(serve) as port:
        result = load(port, keep_alive=False)
    assert all(b"\r\nConnection: close" in request for request in asked)
    assert 0 < result.ok <= len(asked)
    assert result.errors == {}
    assert sum(closed) <= 3, "a client closed before the server had, other than at the end of the load"


def test_a_response_may_come_in_any_pieces() -> None:
    def serve(sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number, _ in enumerate(requests(sock)):
            cut = number % len(HELLO)
            sock.sendall(HELLO[:cut])
            select.select([sock], [], [], 0.0005)  # the other piece in another segment
            sock.sendall(HELLO[cut:])

    with scripted(serve) as port:
        result = load(port, connections=1)
    assert result.ok > 0
    assert (result.errors, result.non_2xx) == ({}, {})


def test_other_statuses_are_answers_but_no_throughput() -> None:
    def serve(sock: socket.socket) -> None:
        for _ in requests(sock):
            sock.sendall(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\nno")

    with scripted(serve) as port:
        result = load(port)
    assert result.ok == 0
    assert result.starved == 0
    assert result.non_2xx["503"] > 0


def test_a_connection_that_the_server_announces_to_close_is_followed_by_another() -> None:
    def serve(sock: socket.socket) -> None:
        next(requests(sock))
        sock.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")

    with scripted(serve) as port:
        result = load(port, connections=1)
    assert result.ok > 1
    assert result.errors == {}


@pytest.mark.parametrize(("answer", "kind"), [
    (b"", "closed early"),
    (HELLO[:-1], "closed early"),
    (b"HTTP/1.1 200 OK\r\n\r\nno length", "malformed"),
    (b"what?\r\n\r\n", "malformed"),
])
def test_what_is_no_answer_is_an_error(answer: bytes, kind: str) -> None:
    def serve(sock: socket.socket) -> None:
        next(requests(sock))
        sock.sendall(answer)

    with scripted(serve) as port:
        result = load(port)
    assert result.ok == 0
    assert result.errors.keys() == {kind}
    assert result.starved == 3


def test_a_reset_is_an_error() -> None:
    def serve(sock: socket.socket) -> None:
        sock.recv(1)
        # What is left unread makes a reset of the close.

    with scripted(serve) as port:
        result = load(port)
    assert result.errors.keys() == {"reset"}


def test_a_server_that_is_not_there_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    result = load(port)
    assert result.errors.keys() == {"connect"}
    assert 0 < result.errors["connect"] < 3 * 200, "it should rest in between"


def test_clients_that_nobody_answers_starve() -> None:
    served = threading.Lock()

    def serve(sock: socket.socket) -> None:
        with served:  # like a single thread: the first client for as long as it stays, then the next
            for _ in requests(sock):
                sock.sendall(HELLO)

    with scripted(serve) as port:
        result = load(port, connections=4)
    assert result.starved == 3
    assert result.answers[:3] == [0, 0, 0]
    assert result.ok == result.answers[3] > 0


def test_waiting_too_long_is_an_error() -> None:
    with scripted(lambda sock: None, accept=False) as port:
        result = load(port, duration=0.6, timeout=0.1)
    assert result.errors.keys() == {"timeout"}
    assert result.starved == 3


@pytest.mark.parametrize("keep_alive", [True, False])
def test_clients_that_pause_ask_less_often(keep_alive: bool) -> None:
    connections = []

    def serve(sock: socket.socket) -> None:
        connections.append(sock)
        for _ in requests(sock):
            sock.sendall(HELLO)
            if not keep_alive:
                return

    with scripted(serve) as port:
        result = load(port, keep_alive=keep_alive, pause=0.05, duration=0.8)
    assert 3 < result.ok < 150, "3 clients, a request each 50 ms, and less than a second"
    assert (result.errors, result.starved) == ({}, 0)
    assert len(connections) == 3 if keep_alive else result.ok <= len(connections) <= result.ok + 3


def test_a_connection_that_is_closed_while_its_client_pauses_is_no_error() -> None:
    def serve(sock: socket.socket) -> None:
        next(requests(sock))
        sock.sendall(HELLO)

    with scripted(serve) as port:
        result = load(port, pause=0.02, duration=0.8)
    assert result.ok > 3
    assert result.errors == {}


def test_fairness() -> None:
    assert fairness([5, 5, 5, 5]) == 1
    assert fairness([8, 0, 0, 0]) == pytest.approx(0.25)
    assert fairness([1, 3]) == pytest.approx(0.8)
    assert fairness([]) == fairness([0, 0]) == 0


def test_percentile() -> None:
    values = [float(n) for n in range(1, 101)]
    assert [percentile(values, percent) for percent in (50, 99, 100)] == [50.0, 99.0, 100.0]
    assert percentile([], 50) == 0.0


def test_the_cpu_clock_of_a_process() -> None:
    assert abs(process_clock(os.getpid()) - time.process_time()) < 1.0
    with pytest.raises(OSError):  # noqa: PT011
        process_clock(2**22 + 1)


# wrk.


WRK = """\
Running 2s test @ http://127.0.0.1:33445/
  1 threads and 100 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     7.72ms    5.28ms 205.65ms   95.70%
    Req/Sec    13.43k     1.13k   15.08k    70.00%
  Latency Distribution
     50%    7.12ms
     75%    8.30ms
     90%    9.92ms
     99%   1.23s
  26752 requests in 2.01s, 3.72MB read
  Socket errors: connect 0, read 31, write 0, timeout 7
  Non-2xx or 3xx responses: 752
Requests/sec:  13309.46
Transfer/sec:      1.85MB
"""


def test_what_wrk_prints_is_read() -> None:
    result = wrk.parse(WRK, 0.4, 1.9)
    assert (result.ok, result.seconds) == (26000, 2.01)
    assert result.non_2xx == {"not 2xx": 752}
    assert result.errors == {"read": 31, "timeout": 7}
    assert (result.mean_ms, result.p50_ms, result.p99_ms, result.max_ms) == (7.72, 7.12, 1230.0, 205.65)
    assert result.starved is None
    clean = wrk.parse("\n".join(WRK.splitlines()[:-4]), 0.4, None)
    assert (clean.ok, clean.errors, clean.non_2xx) == (26752, {}, {})
    with pytest.raises(ValueError, match="not what wrk prints"):
        wrk.parse("unable to connect to 127.0.0.1:1 Connection refused", 0.0, None)


# Figures, table and sentences, of made-up data.


def result(rate: float, **changes: object) -> Result:
    """A made-up second of load: `rate` answers, 100 clients in progress."""
    one = Result(seconds=1.0, ok=int(rate), non_2xx={}, errors={}, starved=0, answers=[1] * 100,
                 mean_ms=1e5 / (rate or 1), p50_ms=9.0, p99_ms=20.0, max_ms=30.0, generator_share=0.4, server_cpu=0.9)
    return replace(one, **changes)  # type: ignore[arg-type]


def run(model: str, rate: float, keep_alive: bool = False, sleep_ms: float = 0.0, number: int = 1,
        **changes: object) -> Run:
    return Run(Cell(model, keep_alive, sleep_ms), number, 100, result(rate, **changes), threads=10, starts=0.5)


def said(*runs: Run) -> str:
    """The verdict on one line, because it is wrapped."""
    return " ".join(verdict(figures(runs), {"1": 1.08}).split())


def as_expected() -> list[Run]:
    rates = {False: {"single": 10000, "thread": 4000, "pool-hold": 8100, "recycling-hold": 9900},
             True: {"thread": 13000, "pool-hold": 14000, "recycling-hold": 15000}}
    return [run(model, rate + 10 * number, keep_alive, number=number, server_cpu=1.0)
            for number in (1, 2) for keep_alive, models in rates.items() for model, rate in models.items()]


def test_figures_are_medians_over_the_rounds_in_the_order_of_the_course() -> None:
    first, second, third = (run("pool-hold", rate, number=n, p99_ms=rate / 100, errors={"reset": n}, starved=n)
                            for n, rate in enumerate((1000, 3000, 2000)))
    of_pool, of_single = figures([first, second, third, run("single", 10, keep_alive=True)])
    assert of_single.cell.model == "single", "keep-alive off comes first"
    assert (of_pool.rate, of_pool.low, of_pool.high, of_pool.p99_ms) == (2000, 1000, 3000, 20)
    assert of_pool.cpu_us == pytest.approx(450)
    assert of_pool.little == pytest.approx(100)
    assert (of_pool.errors, of_pool.starved, of_pool.starts) == ({"reset": 3}, 2, 0.5)
    assert figures([first, second])[0].rate == 2000, "of two rounds, the mean"


def test_the_claims_when_they_hold() -> None:
    text = said(*as_expected())
    assert 'no sleep: "recycling and pool answer at least twice as much as thread" HOLDS here' in text
    assert "recycling-hold 2.47 x, pool-hold 2.02 x thread's 4,015 a second" in text
    assert 'no sleep: "the three are within 25 % of each other" HOLDS here' in text
    assert "the most is 15% above the least" in text
    assert "DOES NOT HOLD" not in text
    assert "Not for sure" not in text


def test_the_claims_when_the_data_contradict_them() -> None:
    text = said(run("thread", 5000), run("pool-hold", 9999), run("recycling-hold", 10001),
                run("thread", 9000, True), run("pool-hold", 6000, True), run("recycling-hold", 9000, True))
    assert '"recycling and pool answer at least twice as much as thread" DOES NOT HOLD here' in text
    assert '"the three are within 25 % of each other" DOES NOT HOLD here' in text
    assert "the most is 50% above the least" in text


def test_the_claims_when_the_rounds_disagree() -> None:
    runs = [run(model, rate, number=number) for number, rates in enumerate(((4000, 9000, 9500), (4600, 8000, 9800)))
            for model, rate in zip(("thread", "pool-hold", "recycling-hold"), rates, strict=True)]
    assert "DOES NOT HOLD here" in said(*runs)
    assert "Not for sure: from round to round the lesser of them is anywhere from 1.74 to 2.25 x" in said(*runs)


def test_claims_are_not_judged_on_models_that_leave_clients_out() -> None:
    text = said(run("thread", 5000), run("pool-hold", 90000, starved=92), run("recycling-hold", 10001))
    assert "cannot be judged, because of pool-hold (92 of 100 clients got no answer at all)" in text
    assert "HOLD here" not in text
    assert "recycling-hold, 10,001 a second" in text
    assert "pool-hold is left out, because 92 of 100 clients" in text
    assert "which must all be among --models" in said(run("single", 10))


def test_a_lead_smaller_than_the_noise_is_none() -> None:
    assert "no clear lead over recycling-hold" in said(run("pool-hold", 1000), run("recycling-hold", 970))
    apart = [run("pool-hold", 1000, number=1), run("pool-hold", 2000, number=2), run("recycling-hold", 1100, number=1)]
    assert "no clear lead over recycling-hold" in said(*apart)
    assert "2.00 x recycling-hold" in said(run("pool-hold", 1000), run("recycling-hold", 500))


def test_the_price_of_a_connection_and_an_order_that_was_not_expected() -> None:
    text = said(run("single", 10000, server_cpu=0.5), run("thread", 10000, server_cpu=0.7),
                run("pool-hold", 10000, server_cpu=2.0))
    assert "single 50 us, thread 70 us, pool-hold 200 us" in text
    assert "pool-hold: 150 us more than the single thread (the accepting thread hands each connection to" in text
    assert "Threads it started for each connection: 0.50" in text
    assert "NOT THE ORDER EXPECTED: pool-hold was expected to be cheaper than thread, and cost 130 us more" in text
    assert "NOT THE ORDER EXPECTED" not in said(*as_expected())


def test_why_a_factor_shrinks_when_the_handler_sleeps() -> None:
    without = [run("thread", 10000, server_cpu=2.5), run("recycling-hold", 10000, server_cpu=0.8)]
    text = said(*without, run("thread", 10000, False, 1.0, server_cpu=2.8),
                run("recycling-hold", 10000, False, 1.0, server_cpu=1.6))
    assert "costs 80 us without a sleep (thread's 3.1 x that), 160 us with 1 ms (1.8 x): the more" in text
    assert "smaller the factor" not in said(*without, run("thread", 10000, False, 1.0, server_cpu=2.5),
                                            run("recycling-hold", 10000, False, 1.0, server_cpu=0.8))


def test_what_went_wrong_is_said_and_explained() -> None:
    one_client = run("single", 7000, True, starved=99, mean_ms=0.14)
    one_client.threads = 1
    dead = Run(Cell("pool-hold", False, 0), 1, 100, failed="it died")
    text = said(one_client, dead, run("recycling-hold", 100, non_2xx={"503": 12345}),
                run("thread", 100, errors={"reset": 3}), run("single", 800, False, 1.0),
                run("my:Own", 100, False, 0.1, mean_ms=80.0, starved=None))
    assert "single: 99 of 100 clients got no answer at all (keep-alive on, no sleep). Its only thread stays" in text
    assert "pool-hold, keep-alive off, no sleep: failed, it died." in text
    assert "recycling-hold: 503: 12,345 (keep-alive off, no sleep). The model was full" in text
    assert "thread: reset 3 (keep-alive off, no sleep). These requests got no response." in text
    assert "926 a second, as a sleep really takes 1.08 ms here" in text
    assert "my:Own: X·R is 8.0 with 100 connections (keep-alive off, sleep 0.1 ms). By X·R, fewer than half" in text


def test_what_parking_the_loop_and_processes_cost_is_said() -> None:
    text = said(*(run(model, 10000, True, server_cpu=cpu) for model, cpu in (
        ("recycling-hold", 1.0), ("recycling-park", 1.4), ("pool-hold", 1.0), ("pool-park", 2.0), ("loop", 0.9),
        ("prefork", 1.5))))
    assert "recycling 140 us of CPU for an answer instead of 100 (1.40 x), and 1.00 x the answers; pool 200 us" in text
    assert '"At most half as much CPU again in recycling" HOLDS here. "More in the pool" HOLDS here.' in text
    assert '"the event loop costs the least CPU" HOLDS here: 90 us for an answer, and of the others' in text
    assert '"on one core, two processes need the CPU of one, within 25 %" HOLDS here' in text
    assert "DOES NOT HOLD" not in text
    text = said(*(run(model, 10000, True, server_cpu=cpu) for model, cpu in (
        ("recycling-hold", 1.0), ("recycling-park", 1.6), ("pool-hold", 1.0), ("pool-park", 1.0), ("loop", 1.1),
        ("prefork", 2.5))))
    assert text.count("DOES NOT HOLD here") == 4


def test_what_threads_do_for_a_loop_whose_handler_sleeps_is_said() -> None:
    text = said(run("loop", 900, True, 1.0), run("loop-threads", 4600, True, 1.0))
    assert "the loop answers 900 a second if it runs the handlers itself, and 4,600 with threads for them, 5.1" in text
    assert '"At least three times" HOLDS here' in text
    assert "loop, keep-alive on, sleep 1 ms: 900 a second. While its one thread sleeps nobody is served" in text
    assert '"At least three times" DOES NOT HOLD' in said(run("loop", 900, True, 1), run("loop-threads", 1000, True, 1))
    late = run("loop", 900, True, 1.0, starved=20, mean_ms=80.0)
    late.threads = 1
    assert "did not get round to them in that time" in said(late), "it is no single thread that stays with its client"


def test_how_far_to_trust_it_is_said() -> None:
    disturbed = run("pool-hold", 1000)
    disturbed.others = 0.4
    text = said(disturbed, run("pool-hold", 3000, number=2), run("thread", 900, generator_share=0.97))
    assert "Generator-bound: thread, keep-alive off, no sleep." in text
    assert "In 1 of 2 cells somebody else had more than 10% of the server's core" in text
    assert "from 1,000 to 3,000 a second, 100% of the median" in text
    assert "1 of 1 cells differ by more than 25%" in text


def test_the_table_shows_errors_beside_figures() -> None:
    table = render(figures([run("single", 7000, True, starved=99, mean_ms=0.14), run("pool-hold", 0, True),
                            run("recycling-hold", 5, True, non_2xx={"503": 7}, errors={"reset": 2, "connect": 1}),
                            Run(Cell("thread", True, 0), 1, 100, failed="it died"),
                            run("wrks", 5, True, starved=None, generator_share=0.95)]))
    lines = {line.split()[0]: " ".join(line.split()) for line in table.splitlines()}
    assert "keep-alive on, no sleep, 100 connections" in table
    assert "starved 99 serves 1 of 100 clients" in lines["single"]
    assert "503: 7, connect 1, reset 2" in lines["recycling-hold"]
    assert lines["thread"].endswith("failed it died")
    assert lines["pool-hold"].startswith("pool-hold 0 (0–0)")
    assert "generator-bound (95% of its core)" in lines["wrks"]


def test_the_pictures_draw_all_of_that() -> None:
    some = figures([*as_expected(), run("single", 7000, True, starved=99), run("my:Own", 0),
                    Run(Cell("pool-hold", True, 1.0), 1, 100, failed="it died")])
    drawn = svg_of(bars(some), "bars")
    assert "99 of 100 clients get nothing" in drawn
    assert "it failed" in drawn
    grid = capacity_grid({10: some, 100: some}, lambda one: one.cpu_us, "CPU: lower is better")
    dearest = max(one.cpu_us or 0.0 for one in some)
    assert all(axes.get_ylim()[1] > dearest for axes in grid.axes), "nothing is cut off"
    drawn = svg_of(grid, "grid")
    assert "CPU: lower is better" in drawn
    assert "recycling-hold" in drawn


def test_the_sentences_about_waiting() -> None:
    def alone(**others: tuple[float, int]) -> list[Alone]:
        data = dict.fromkeys(STRATEGIES, (1.5, 1)) | {"settimeout()": (256.0, 80), "blocking accept()": (1.7, 80)}
        data |= others
        return [Alone(name, 256, switches, [n % distinct for n in range(80)])
                for name, (switches, distinct) in data.items()]

    def loaded(ours_ms: float) -> list[Loaded]:
        return [Loaded(name, 8000.0, 5.0, ours_ms if name == OURS else 40.0, 2.0, 100.0, 0) for name in STRATEGIES]

    text = "\n".join(sentences(alone(), loaded(20.0)))
    assert "256 context switches by settimeout()" in text
    assert "It goes round" in text
    assert text.count("HOLDS here") == 4
    text = "\n".join(sentences(alone(**{OURS: (250.0, 60)}), loaded(50.0)))
    assert text.count("DOES NOT HOLD here") == 4


# The command line, and the whole of it once.


@pytest.mark.parametrize(("arguments", "fix"), [
    (["--models", "single,pol"], "there is no model 'pol': choose from single, thread, pool-hold, pool-park,"),
    (["--models", "no.such:Thing"], "is it importable from where you are?"),
    (["--models", "taskmaster:Thing"], "cannot be had"),
    (["--models", "threading:Thread"], "derive the class from taskmaster.Taskmaster"),
    (["--sleeps", "none,soon"], "'soon': give milliseconds"),
    (["--sleeps", "-1"], "'-1': give milliseconds"),
    (["--keep-alive", "perhaps"], "give on, off, or on,off"),
    (["--connections", "0"], "give a whole number from 1 to 5000"),
    (["--connections", "1.5"], "give a whole number from 1 to 5000"),
    (["--sleeps", "1", "--rates", "3"], "the preset quick has no --rates; leave it out"),
    (["--duration", "nan"], "give a number from 0.05 to 600"),
    (["--rounds", "none"], "give a whole number from 1 to 100"),
    (["--generator", "ab"], "choose from builtin, wrk, hey, h2load"),
])
def test_a_wrong_argument_is_told_the_right_one(arguments: list[str], fix: str,
                                                capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["run", "quick", *arguments])
    assert stopped.value.code == 2
    assert fix in " ".join(capsys.readouterr().err.split())


def test_wrk_is_asked_for_where_it_is_not(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit):
        main(["run", "quick", "--generator", "wrk"])
    assert "apt install wrk. Or leave out --generator wrk" in " ".join(capsys.readouterr().err.split())


def test_a_report_needs_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["report", str(tmp_path)])
    assert "give a folder made by python -m bench run" in " ".join(capsys.readouterr().err.split())


def test_a_taskmaster_of_ones_own_gets_the_same_room_where_it_has_an_argument_for_it() -> None:
    assert find_model("taskmaster:PooledTaskmaster").spelled(7) == "PooledTaskmaster(threads=7)"
    assert find_model("taskmaster:SingleThreadedTaskmaster").spelled(7) == "SingleThreadedTaskmaster()"
    assert find_model("taskmaster:RecyclingTaskmaster").make(9).max_thread_count == 9


def test_quick_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                               monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["run", "quick", "--models", "recycling-park", "--sleeps", "none", "--keep-alive", "off",
                 "--connections", "4", "--seconds", "0.5", "--warmup", "0.1", "--blocks", "1", "--seed", "7",
                 "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "keep-alive off, no sleep, 4 connections" in printed
    results = Results.read(tmp_path)
    [one] = results.records
    assert not one.failed
    assert one.detail["load"]["ok"] > 0
    assert one.metrics["cpu_us"] > 0
    assert one.metrics["threads"] >= 4
    assert results.meta["options"]["seed"] == 7
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "RecyclingTaskmaster(max_thread_count=32, idle=&#x27;park&#x27;)" in page
    assert main(["report", str(tmp_path)]) == 0
    again = capsys.readouterr().out
    assert again in printed, "tables are made from what is kept, and from nothing else"
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["report", str(tmp_path)]) == 0
    assert MISSING in capsys.readouterr().out


def test_the_matrix_says_first_what_a_thread_start_and_a_hand_off_cost() -> None:
    def record(model: str, keep_alive: bool, ok: int, block: int = 1, **changes: object) -> Record:
        cell = LabCell.of(model, keep_alive=keep_alive, sleep_ms=0.0, connections=100)
        return Record(cell, block, {"threads": 9.0}, {"load": asdict(result(ok, **changes))})

    def said(*records: Record) -> Saying:
        return find_preset("quick").says(Results(records))[0]

    rates = {"recycling-hold": 9000, "pool-hold": 6000, "thread": 3000}
    off = [record(model, False, rate + 100 * block, block) for model, rate in rates.items() for block in (1, 2)]
    on = [record(model, True, 9500) for model in rates]
    first = said(*off, *on)
    assert first.shown
    assert "recycling-hold) answers 9,150 a second" in first.text
    assert first.text.endswith("9,500, 9,500, 9,500.")
    assert said(*off).shown
    assert not said(*off, record("thread", False, 7000, 3)).shown, "the runs of the two are not apart"
    assert said(*off[:4]).shown is None
    starved = record("thread", False, 3000, starved=4)
    assert said(*off[:4], starved).shown is None, "it compares with nothing"


def test_a_model_that_cannot_serve_is_a_result_with_a_reason(tmp_path: Path,
                                                             capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", "quick", "--models", "threading:current_thread", "--sleeps", "none", "--keep-alive", "on",
          "--blocks", "1", "--seconds", "0.1", "--out", str(tmp_path)])
    printed = " ".join(capsys.readouterr().out.split())
    assert "pass an instance of a Taskmaster" in printed


def test_children_are_ended_whatever_happens() -> None:
    pids = []

    def interrupted() -> None:
        with running([sys.executable, "-c", "input()"]) as child:
            pids.append(child.pid)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not Path(f"/proc/{pids[0]}").exists()


def test_a_child_that_is_silent_or_dies_is_an_error_that_says_what_it_said() -> None:
    with running([sys.executable, "-c", "input()"]) as child, pytest.raises(ChildError, match="took too long"):
        child.line(0.05)
    with (running([sys.executable, "-c", "raise SystemExit('I cannot')"]) as child,
          pytest.raises(ChildError, match="ended too soon: I cannot")):
        child.line(20)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_way_of_waiting_serves(strategy: str) -> None:
    with running(["bench.studies.waiting.server", "--strategy", strategy, "--threads", "5"]) as server:
        port = int(server.line(20))
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
                client.sendall(b"hello")
                assert int(client.makefile("rb").read()[-4:]) in range(5)


def test_the_load_runs_without_anything_but_the_standard_library() -> None:
    program = "import sys; before = set(sys.modules); import bench.clients.load; print(*set(sys.modules) - before)"
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=60, stdout=subprocess.PIPE)
    names = {name.partition(".")[0] for name in found.stdout.decode().split()}
    assert names - set(sys.stdlib_module_names) == {"bench"}


def test_the_originals_are_compared_with_where_both_may_be() -> None:
    def record(subject: str, ok: int, block: int, **changes: object) -> Record:
        cell = LabCell.of(subject, keep_alive=True, sleep_ms=0.0, connections=100)
        return Record(cell, block, {"ok_per_s": float(ok)}, {"load": asdict(result(ok, **changes))})

    def said(*records: Record) -> list[Saying]:
        return [one for one in find_preset("readme").says(Results(records)) if "which is compiled" in one.text]

    ours = [record("recycling-park", 9000, 1), record("recycling-park", 9200, 2)]
    [one] = said(*ours, record("hunchentoot", 7000, 1), record("hunchentoot", 8000, 2))
    assert one.shown
    assert "1.21 to 1.21 times as many requests a second as hunchentoot" in one.text
    [one] = said(*ours, record("hunchentoot", 7000, 1), record("hunchentoot", 9100, 2))
    assert one.shown is False
    flawed = record("hunchentoot", 7000, 1)
    flawed.flaws = ["3 reset"]
    assert said(*ours, flawed) == said(*ours) == []


def test_what_is_wrong_with_the_published_figures_is_found() -> None:
    by_place = {(one.server, one.keep_alive, one.sleep_ms, one.connections): one for one in published()}
    assert "X·R is 7.8" in by_place["gserver, 8 workers", True, 1.0, 100].defects[0]
    assert "X·R is 731" in by_place["Hunchentoot", True, 1.0, 100].defects[0]
    assert "21% of the answers are not 2xx" in by_place["recycling", True, 1.0, 400].defects[0]
    assert by_place["recycling", False, 0.0, 100].defects == []
    assert by_place["recycling", True, 1.0, 400].ok_per_s == pytest.approx(31627.04 * (1 - 67295 / 319273))
