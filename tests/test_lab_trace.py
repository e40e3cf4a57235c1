"""`bench trace`: what is recorded, exactly; what follows from it; and that whatever comes of it is a trace."""

from __future__ import annotations

import argparse
import json
import re
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from pathlib import Path
from time import perf_counter_ns
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.clients.load import Load
from bench.clients.result import Result
from bench.models import MODELS
from bench.subjects import Setup
from bench.trace import recorder as trace_recorder
from bench.trace import run as trace
from bench.trace import server as trace_server
from bench.trace import steps as trace_steps
from bench.trace.chrome import events_of, write_json
from bench.trace.lanes import Trace
from bench.trace.phases import draw_phases
from bench.trace.picture import draw
from bench.trace.recorder import STATES, Recorder
from bench.trace.run import Asked, Traced, record, run_trace, sentences, traced_command
from bench.trace.steps import TracedSteps
from bench.trace.tracks import Event, Interval, Numbers, Serving, Track, read
from handlers import delay, hello
from taskmaster import (
    EventLoopTaskmaster,
    PooledTaskmaster,
    RecyclingTaskmaster,
    SingleThreadedTaskmaster,
    Taskmaster,
    ThreadPerConnectionTaskmaster,
)
from taskmaster.scripted import PATIENCE, ScriptedAcceptor

# What is recorded: every step of a script, and nothing else.


class Script:
    """A taskmaster that is recorded, with an acceptor that does what the test says."""

    def __init__(self, taskmaster: Taskmaster) -> None:
        self.recorder = Recorder()
        self.acceptor = ScriptedAcceptor()
        self.taskmaster = taskmaster
        trace_steps.trace(taskmaster, self.recorder)
        taskmaster.execute_acceptor(self.acceptor)

    def end(self, folder: Path) -> dict[str, Track]:
        """Stop it; the tracks by their roles, of which there is one each."""
        self.acceptor.close()
        assert not self.taskmaster.shutdown(PATIENCE)
        assert not self.acceptor.complaints
        self.recorder.write(folder)
        tracks = read(folder)
        assert len({track.role for track in tracks}) == len(tracks)
        return {track.role: track for track in tracks}


def states(track: Track) -> str:
    return "".join(event.state for event in track.events)


def connections(track: Track, state: str) -> list[int]:
    return [event.connection for event in track.events if event.state == state]


def test_a_pool_hands_a_connection_from_one_thread_to_another(tmp_path: Path) -> None:
    script = Script(PooledTaskmaster(threads=1, idle="hold"))
    client = script.acceptor.connect()[0]
    client.wait_for("processing")
    client.finish()
    client.wait_for("processed")
    tracks = script.end(tmp_path)
    assert states(tracks["accept"]) == "S_AQAX."
    assert states(tracks["worker"]) == "S_R_."
    assert connections(tracks["accept"], "Q") == connections(tracks["worker"], "R") == [id(client)]


def test_a_recycled_thread_keeps_what_it_has_accepted(tmp_path: Path) -> None:
    script = Script(RecyclingTaskmaster(standby=1, max_thread_count=1, idle="hold"))
    clients = script.acceptor.connect(2, finished=True)
    script.acceptor.settle(clients, "processed")
    [track] = script.end(tmp_path).values()
    assert states(track) == "S_AQR_AQR_AX."
    assert connections(track, "R") == [id(client) for client in clients]


def test_a_thread_for_each_connection_starts_when_it_is_asked_for(tmp_path: Path) -> None:
    script = Script(ThreadPerConnectionTaskmaster())
    client = script.acceptor.connect(1, finished=True)[0]
    client.wait_for("processed")
    tracks = script.end(tmp_path)
    accepting, worker = tracks["accept"], tracks["worker"]
    assert states(accepting) == "S_AQAX."
    assert states(worker) == "S_R_."
    [accepted] = [event.ns for event in accepting.events if event.state == "Q"]
    assert worker.begin > accepted


def test_the_single_thread_does_all(tmp_path: Path) -> None:
    script = Script(SingleThreadedTaskmaster())
    script.acceptor.connect(1, finished=True)[0].wait_for("processed")
    assert states(script.end(tmp_path)["single"]) == "S_AQR_AX."


def test_a_connection_is_parked_and_comes_back(tmp_path: Path) -> None:
    script = Script(EventLoopTaskmaster())
    client = script.acceptor.connect()[0]
    client.wait_for("parked")
    client.finish()
    client.wait_for("processed")
    track = script.end(tmp_path)["loop"]
    assert states(track) == "S_AQR_P_AQR_AX."
    assert connections(track, "P") == [id(client)]


def test_a_connection_that_cannot_be_parked_any_more_is_in_hand_again(tmp_path: Path) -> None:
    script = Script(RecyclingTaskmaster(standby=1, max_thread_count=1, idle="park"))
    client = script.acceptor.connect()[0]
    client.wait_for("processing")
    script.acceptor.close()
    client.idle()
    script.acceptor.wait_until(lambda: client.history["processing"] == 2, "it to be served again")
    client.finish()
    assert states(script.end(tmp_path)["recycling"]) == "S_AQR_PQR_AX."


def test_a_client_is_refused(tmp_path: Path) -> None:
    script = Script(PooledTaskmaster(threads=1, queue_size=0))
    first = script.acceptor.connect()[0]
    first.wait_for("processing")
    second = script.acceptor.connect()[0]
    second.wait_for("refused")
    first.finish()
    track = script.end(tmp_path)["accept"]
    assert states(track) == "S_AQAQC_AX."
    assert connections(track, "C") == [id(second)]


def test_a_client_is_abandoned(tmp_path: Path) -> None:
    class Wrong(PooledTaskmaster):
        def handle_incoming_connection(self, connection: Any) -> None:
            raise ValueError("a bug of mine")

    script = Script(Wrong(threads=1))
    script.acceptor.connect()[0].wait_for("abandoned")
    assert states(script.end(tmp_path)["accept"]) == "S_AQC_AX."


def test_nothing_comes_in_time(tmp_path: Path) -> None:
    script = Script(RecyclingTaskmaster(standby=1, max_thread_count=1))
    script.acceptor.time_out(1)
    script.acceptor.wait_until(lambda: bool(script.acceptor.accepting), "it to wait again")
    assert states(script.end(tmp_path)["recycling"]) == "S_A_AX."


def test_a_job_goes_to_an_executor_and_comes_back(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as executor:
        script = Script(EventLoopTaskmaster(offload=executor))
        with script.acceptor.changed:
            client = script.acceptor.connect()[0]
            client.work = lambda: None
        client.wait_for("parked")
        script.acceptor.wait_until(lambda: client.turns == 2 and client.state == "parked", "it to have come back")
        client.finish()
        client.wait_for("processed")
    tracks = script.end(tmp_path)
    assert states(tracks["loop"]) == "S_AQRQ_P_AQR_P_AQR_AX."
    assert states(tracks["executor"]) == "_R_"
    assert [event.connection for event in tracks["executor"].events] == [0, id(client), id(client)]


def test_what_else_an_acceptor_has_is_there() -> None:
    acceptor = ScriptedAcceptor()
    steps = TracedSteps(acceptor, Recorder())
    assert steps.name == acceptor.name
    assert steps.connect == acceptor.connect
    with pytest.raises(AttributeError):
        _ = steps.nothing_of_the_kind


def test_a_step_that_raises_has_an_end() -> None:
    recorder = Recorder()
    acceptor = ScriptedAcceptor()
    steps = TracedSteps(acceptor, recorder)
    acceptor.connect(1, error=ValueError("a bug of mine"), finished=True)
    with pytest.raises(ValueError, match="a bug of mine"):
        steps.process_connection(steps.accept())
    assert "".join(state for _, state, _ in recorder.lane().events) == "_AQR_"


def test_a_lane_forgets_the_oldest_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_recorder, "MOST_EVENTS", 3)
    recorder = Recorder()
    recorder.begin("one")
    for state in "ABCD":
        recorder.lane().mark(state)
    recorder.write(tmp_path)
    [track] = read(tmp_path)
    assert (states(track), track.full) == ("BCD", True)
    assert Trace([track], track.begin - 1, track.begin + 10).full
    assert not Trace([track], track.begin, track.begin + 10).full


def test_threads_that_have_ended_can_be_forgotten(tmp_path: Path) -> None:
    recorder = Recorder()

    def run() -> None:
        recorder.begin("another")
        recorder.end()

    recorder.begin("this one")
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    recorder.forget_the_dead()
    recorder.write(tmp_path)
    assert [track.name for track in read(tmp_path)] == ["this one"]


def test_nothing_recorded_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no recording"):
        read(tmp_path)


# What follows from it: made-up tracks, in which a nanosecond is worth a letter.


def track(name: str, text: str, process: int = 1) -> Track:
    """"0S 5_ 9R7": states by when they begin, with the connection."""
    found = [re.fullmatch(r"(\d+)(\D)(\d*)", word) for word in text.split()]
    return Track(process, name, [Event(int(each[1]), each[2], int(each[3] or 0)) for each in found if each])


def pool() -> list[Track]:
    return [track("accept-1", "0S 2_ 4A 10Q7 14A 20Q8 22A"),
            track("worker-2", "1S 3_ 12R7 14H 20W 24_ 30R8 31H 35W 36_ 40.")]


def test_a_hand_off_goes_from_thread_to_thread_and_a_wait_is_its_length() -> None:
    accepting, worker = tracks = pool()
    found = Trace(tracks, 0, 50)
    assert [(each.source, each.given, each.target, each.taken) for each in found.handoffs] == [
        (accepting, 10, worker, 12), (accepting, 20, worker, 30)]
    assert found.waits == [2, 10]
    assert found.requests == 2


def test_who_serves_what_it_has_accepted_hands_nothing_over() -> None:
    found = Trace([track("recycling-1", "0_ 1A 5Q7 6R7 9_ 10A 12Q7 15R7 20_")], 0, 30)
    assert found.handoffs == []
    assert found.waits == [1, 3]


def test_a_job_is_handed_over_and_back_and_then_its_answer_is_written() -> None:
    loop = track("loop-1", "0A 5Q7 6R7 8Q7 9_ 10P7 11_ 12A 30Q7 31R7 35_")
    executor = track("ThreadPoolExecutor-0_0", "0_ 15R7 16H 20W 22_7")
    found = Trace([loop, executor], 0, 50)
    assert [(each.source, each.given, each.target, each.taken) for each in found.handoffs] == [
        (loop, 8, executor, 15), (executor, 22, loop, 30)]
    assert found.waits == [1, 7, 1]
    assert Interval("W", 31, 35) in list(found.intervals(loop))
    assert [serving.number for serving in found.servings(loop)] == [1, 1]
    assert list(found.servings(executor)) == [Serving(1, 15, 22)]


def test_intervals_are_cut_at_the_edges_and_fill_a_life() -> None:
    _, worker = pool()
    found = Trace(pool(), 13, 33)
    worker = found.tracks[1]
    assert list(found.intervals(worker)) == [
        Interval("R", 13, 14), Interval("H", 14, 20), Interval("W", 20, 24), Interval("_", 24, 30),
        Interval("R", 30, 31), Interval("H", 31, 33)]
    assert list(found.servings(worker)) == [Serving(1, 13, 24), Serving(2, 30, 33)]
    whole = Trace(pool(), 0, 100)
    assert sum(end - begin for _, begin, end in whole.intervals(whole.tracks[1])) == 39, "from 1 to its end at 40"
    assert whole.shares["H"] == pytest.approx(10 / (100 + 39))


def test_the_phases_of_a_request_are_its_share_of_what_all_took() -> None:
    phases = Trace(pool(), 0, 50).phases_us
    assert [round(1e3 * us, 3) for us in phases.values()] == [12 / 2, 3 / 2, 10 / 2, 5 / 2]
    nothing = Trace([track("single-1", "0A")], 0, 50)
    assert nothing.phases_us == {}
    drawn = draw_phases({"pool": Trace(pool(), 0, 50), "idle": nothing}, "here and now")
    assert "shorter is better" in drawn
    assert "waits for a thread" in drawn
    assert "idle" not in drawn


def test_counters_say_who_waits_and_how_many_threads_there_are() -> None:
    assert Trace(pool(), 0, 100).numbers == [
        Numbers(0, 0, 0, 1), Numbers(1, 0, 0, 2), Numbers(10, 1, 0, 2), Numbers(12, 0, 0, 2), Numbers(20, 1, 0, 2),
        Numbers(30, 0, 0, 2), Numbers(40, 0, 0, 1)]
    assert Trace(pool(), 15, 25).numbers == [Numbers(15, 0, 0, 2), Numbers(20, 1, 0, 2)]
    parked = Trace([track("loop-1", "0A 5Q7 6R7 9P7 10_ 12A 15Q7 16R7 20_ 21C9")], 1, 50)
    assert [numbers[1:] for numbers in parked.numbers] == [(0, 0, 1), (1, 0, 1), (0, 0, 1), (0, 1, 1), (1, 0, 1),
                                                           (0, 0, 1)]


def test_an_address_that_comes_from_accept_again_is_another_connection() -> None:
    found = Trace([track("single-1", "0A 1Q7 2R7 3_ 4A 5Q7 6R7 7P7 8_ 9A 10Q7 11R7 12_")], 0, 20)
    assert [serving.number for serving in found.servings(found.tracks[0])] == [1, 2, 2]


def test_a_hand_off_that_is_not_whole_is_not_drawn() -> None:
    found = Trace(pool(), 11, 25)
    assert len(found.handoffs) == len(found.waits) == 1, "it counts where it ends"
    assert found.arrows == []
    assert Trace(pool(), 10, 12).handoffs == []


def test_processes_know_nothing_of_each_others_connections() -> None:
    found = Trace([track("recycling-1", "0A 5Q7", process=1), track("recycling-1", "0_ 9R7", process=2)], 0, 20)
    assert found.handoffs == []
    assert [row.label for row in found.rows()] == ["1: recycling", "2: recycling"]


def test_threads_that_live_one_after_the_other_share_a_row() -> None:
    tracks = [track("accept-1", "0A"), track("worker-2", "1S 5."), track("worker-3", "2S 9."),
              track("worker-4", "5S 7."), track("worker-5", "9S")]
    assert [(row.label, [each.name for each in row.tracks]) for row in Trace(tracks, 0, 20).rows()] == [
        ("accept", ["accept-1"]), ("worker 1", ["worker-2", "worker-4", "worker-5"]), ("worker 2", ["worker-3"])]


def test_what_is_over_or_has_not_begun_is_not_there() -> None:
    tracks = [track("worker-1", "0S 5."), track("worker-2", "7S 9."), track("worker-3", "30S")]
    assert [each.name for each in Trace(tracks, 5, 30).tracks] == ["worker-2"]


# The Chrome trace.


def check(events: Sequence[dict[str, Any]], length_ns: int) -> None:
    """It is one: slices of a lane nest, both ends of every arrow are there, and are on a slice; no time is negative."""
    lanes: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    ends: dict[str, list[str]] = defaultdict(list)
    named = {(event["pid"], event["tid"]) for event in events if event["name"] == "thread_name"}
    for event in events:
        assert event["ph"] in "MXCsf"
        if event["ph"] != "M":
            assert 0 <= event["ts"] <= length_ns / 1e3
        if event["ph"] == "X":
            assert event["dur"] > 0
            begin = round(1000 * event["ts"])
            lanes[event["pid"], event["tid"]].append((begin, begin + round(1000 * event["dur"])))
        if event["ph"] == "C":
            assert all(value >= 0 for value in event["args"].values()), event
    assert set(lanes) <= named
    for slices in lanes.values():
        inside: list[int] = []
        for begin, end in slices:  # in the order in which they are written: what contains others comes first
            while inside and inside[-1] <= begin:
                inside.pop()
            assert not inside or end <= inside[-1], "they overlap"
            inside.append(end)
        assert slices == sorted(slices, key=lambda slice_: slice_[0])
    for event in events:
        if event["ph"] in "sf":
            ends[event["id"]].append(event["ph"])
            at = round(1000 * event["ts"])
            assert any(begin <= at < end for begin, end in lanes[event["pid"], event["tid"]]), "an arrow from nowhere"
    assert all(both == ["s", "f"] for both in ends.values())


def test_a_trace_of_two_threads() -> None:
    events = list(events_of("pool-hold", Trace(pool(), 0, 50), 3))
    check(events, 50)
    assert {"ph": "M", "name": "process_name", "pid": 3, "args": {"name": "pool-hold"}} in events
    assert {"ph": "X", "pid": 3, "tid": 3002, "name": "handler", "ts": 0.014, "dur": 0.006} in events
    assert {"ph": "X", "pid": 3, "tid": 3002, "name": "connection 1", "ts": 0.012, "dur": 0.012} in events
    assert [event["ts"] for event in events if event["ph"] == "s"] == [0.01, 0.02]
    assert [event["ts"] for event in events if event["ph"] == "f"] == [0.012, 0.03]


@st.composite
def any_tracks(draw_: st.DrawFn) -> list[Track]:
    """Threads that do anything in any order, at different times: a clock that all of them read tells no time twice."""
    count = draw_(st.integers(1, 4))
    moments = iter(sorted(draw_(st.sets(st.integers(0, 500), min_size=6 * count, max_size=60))))
    events: list[list[Event]] = [[Event(next(moments), "_", 0)] for _ in range(count)]
    for ns in moments:
        events[draw_(st.integers(0, count - 1))].append(
            Event(ns, draw_(st.sampled_from("SAQRHWKPC_X")), draw_(st.integers(0, 3))))
    for mine in events:
        if draw_(st.booleans()):
            mine.append(Event(501, ".", 0))
    return [Track(1, f"{draw_(st.sampled_from(('worker', 'accept')))}-{number}", mine)
            for number, mine in enumerate(events)]


@settings(max_examples=50, deadline=None)
@given(any_tracks(), st.integers(0, 300), st.integers(1, 300))
def test_whatever_is_recorded_a_trace_comes_of_it(tracks: list[Track], begin: int, length: int) -> None:
    found = Trace(tracks, begin, begin + length)
    check(list(events_of("x", found, 1)), length)
    for each in found.tracks:
        life = min(each.end, begin + length) - max(each.begin, begin)
        assert sum(end - start for _, start, end in found.intervals(each)) == life
    assert not found.tracks or sum(found.shares.values()) == pytest.approx(1)
    assert all(wait >= 0 for wait in found.waits)
    ElementTree.fromstring(draw({"x": found}, "about"))


# Real servers.


def tracks_of(taskmaster: Taskmaster, folder: Path, keep_alive: bool, sleep_s: float = 0.0) -> tuple[Trace, Result]:
    recorder = Recorder()
    acceptor = trace_server.recorded(delay(sleep_s) if sleep_s else hello, taskmaster, recorder, folder)
    with acceptor, Load(acceptor.port, 4, keep_alive) as load:
        load.run(0.06)
        result = load.result(0.06, 0.0, None)
        end = perf_counter_ns()
    recorder.write(folder)
    tracks = read(folder)
    return Trace(tracks, tracks[0].begin, end), result


@pytest.fixture(name="executor")
def executor_() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.mark.parametrize("keep_alive", [False, True], ids=["close", "keep-alive"])
@pytest.mark.parametrize("name", [name for name in MODELS if name != "prefork"])
def test_every_model_is_recorded(name: str, keep_alive: bool, tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    taskmaster = (EventLoopTaskmaster(offload=executor) if name == "loop-threads" else
                  MODELS[name].make(8, exactly=True))
    found, load = tracks_of(taskmaster, tmp_path, keep_alive)
    check(list(events_of(name, found, 1)), found.end - found.begin)
    assert found.requests >= load.ok > 0
    for each in found.tracks:
        assert all(before == "R" for before, state in zip(states(each), states(each)[1:], strict=False)
                   if state == "H"), "a handler runs when its request has been read"
        assert set(states(each)) <= {*STATES, "."}
    if name in ("thread", "pool-hold", "pool-park"):
        assert {(handoff.source.role, handoff.target.role) for handoff in found.handoffs} == {("accept", "worker")}
    elif name == "loop-threads":
        assert {(handoff.source.role, handoff.target.role) for handoff in found.handoffs} == {
            ("loop", "executor"), ("executor", "loop")}
    else:
        assert not found.handoffs
    holds = name in ("single", "thread", "pool-hold", "recycling-hold")
    assert ("K" in found.shares) == (holds and keep_alive), "who holds waits for its client, and nobody else does"
    ElementTree.fromstring(draw({name: found}, "about"))


def test_the_whole_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "record", lambda name, asked: record(name, Asked(
        asked.seconds, asked.connections, asked.sleep_ms, asked.keep_alive, asked.threads, warmup=0.02)))
    options = argparse.Namespace(models=["pool-hold", "prefork"], seconds=0.1, connections=3, sleep=1.0,
                                 keep_alive="off", threads=2, out=tmp_path / "new")
    assert run_trace(options) == 0
    said = capsys.readouterr().out
    assert "3 clients, keep-alive off, a handler that sleeps 1 ms" in said
    assert re.search(r"[01]\.\d\d hand-offs from thread to thread", said)
    content = json.loads((options.out / "lanes.json").read_text())
    check(content["traceEvents"], 100_000_000 + 50_000_000)
    processes = {event["pid"]: event["args"]["name"] for event in content["traceEvents"]
                 if event["name"] == "process_name"}
    assert processes == {1: "pool-hold", 2: "prefork"}
    lanes = {event["args"]["name"] for event in content["traceEvents"] if event["name"] == "thread_name"}
    assert {"accept", "worker 1", "worker 2"} < lanes
    assert {lane[:3] for lane in lanes} >= {"1: ", "2: "}, "both processes of prefork"
    assert "prefork" in (options.out / "phases.svg").read_text()
    picture = ElementTree.fromstring((options.out / "lanes.svg").read_text())
    assert {"pool-hold", "prefork"} <= {element.text for element in picture.iter()}


def test_what_cannot_be_traced_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                       monkeypatch: pytest.MonkeyPatch) -> None:
    options = argparse.Namespace(models=["nobody"], seconds=0.1, connections=3, sleep=1.0, keep_alive="off",
                                 threads=None, out=tmp_path)
    assert run_trace(options) == 2
    assert "'nobody': choose from" in capsys.readouterr().err

    def fail(name: str, asked: Asked) -> Traced:
        raise OSError("out of everything")

    monkeypatch.setattr(trace, "record", fail)
    options.models = ["single"]
    assert run_trace(options) == 1
    assert "single: not traced: out of everything" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_only_what_has_a_taskmaster_can_be_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    command = traced_command("pool-hold/h11", Setup(sleep_ms=1, threads=4))
    assert "bench.trace.server" in command
    assert command[command.index("--http") + 1] == "h11"

    class Peer:
        def command(self, setup: Setup) -> list[str]:
            return ["peer"]

    monkeypatch.setattr(trace, "find_subject", lambda name: Peer())
    with pytest.raises(ValueError, match="peer is not one of our taskmasters"):
        traced_command("peer", Setup())


def load_of(ok: int = 10, **more: Any) -> Result:
    values: dict[str, Any] = {"seconds": 1.0, "ok": ok, "non_2xx": {}, "errors": {}, "starved": 0, "answers": [ok],
                              "mean_ms": 1.0, "p50_ms": 1.0, "p99_ms": 1.0, "max_ms": 1.0, "generator_share": 0.1,
                              "server_cpu": None}
    return Result(**(values | more))


def test_the_sentences() -> None:
    said = " ".join(sentences(Traced(Trace(pool(), 0, 50), load_of()), Asked()))
    assert "2 requests. For each, on average, 1.00 hand-offs from thread to thread" in said
    assert "2 threads at most" in said
    assert "handler 11.2%" in said
    assert "But" not in said
    wrong = " ".join(sentences(Traced(Trace([track("single-1", "0A")], 0, 50), load_of(
        non_2xx={"503": 1234}, errors={"reset": 2}, starved=3)), Asked()))
    assert "No request came to a handler." in wrong
    assert "1 thread at most" in wrong
    assert "But 1,234 responses 503; 2 reset; 3 of 10 clients got no answer." in wrong


def test_several_traces_are_one_file() -> None:
    file = StringIO()
    write_json(file, {"a": Trace(pool(), 0, 50), "b": Trace(pool(), 0, 50)}, {"load": "none"})
    content = json.loads(file.getvalue())
    check(content["traceEvents"], 50)
    assert content["otherData"] == {"load": "none"}
    assert {event["pid"] for event in content["traceEvents"]} == {1, 2}


def test_more_threads_than_can_be_drawn_are_counted() -> None:
    tracks = [track(f"worker-{number}", "0_") for number in range(30)]
    assert "6 more threads are not drawn" in draw({"thread": Trace(tracks, 0, 50)}, "about")
