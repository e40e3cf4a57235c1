"""`bench trace`, and `watching.trace`: what follows from what is recorded, and that whatever comes of it is a trace."""

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
from time import monotonic_ns
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acceptor import Acceptor
from acceptor.recording import STATES, Step
from bench.children import running
from bench.clients.load import Load
from bench.clients.result import Result
from bench.models import MODELS
from bench.subjects import Setup
from bench.trace import run as trace
from bench.trace.phases import draw_phases, phases_us
from bench.trace.run import Asked, Traced, read, record, run_trace, sentences, traced_command
from bench.trace.server import Recorder
from handlers import hello
from taskmaster import EventLoopTaskmaster, Taskmaster
from tests.test_recording import check_lanes
from watching import LocalSource
from watching.messages import LaneSteps, Steps
from watching.pieces import trace_in_pieces
from watching.trace import Trace, tracks_of
from watching.trace import tracks as trace_tracks
from watching.trace.chrome import events_of, write_json
from watching.trace.picture import COLOURS, draw
from watching.trace.tracks import Event, Interval, Numbers, Serving, Track


def chrome_of(sources: Any) -> Any:
    """The trace that the control server sends."""
    return json.loads(b"".join(trace_in_pieces(sources)))


def states(track: Track) -> str:
    return "".join(event.state for event in track.events)


# What follows from it: made-up tracks, in which a nanosecond is worth a letter.


ABOUT: dict[str, Any] = {"": None, "new": ("192.0.2.1", 4711, 0.002), "back": ("192.0.2.1", 4711, None)}


def track(name: str, text: str, process: int = 1) -> Track:
    """"0S 5_ 9R7 12H7=/a": states by when they begin, with the connection, and what about it: a path, or a word."""
    events = []
    for word in text.split():
        found = re.fullmatch(r"(\d+)(\D)(\d*)=?(\S*)", word)
        assert found
        about = ABOUT.get(found[4], found[4])
        events.append(Event(int(found[1]), found[2], int(found[3] or 0),
                            ("GET", about) if found[2] == "H" and about else about))
    return Track(process, name, events)


def pool() -> list[Track]:
    return [track("accept-1", "0S 2_ 4A 10Q7=new 14A 20Q8=new 22A"),
            track("worker-2", "1S 3_ 12R7 14H7=/a 20W7 24_7=closed 30R8 31H8=/b 35W8 36_8=closed 40.")]


def test_a_hand_off_goes_from_thread_to_thread_and_a_wait_is_its_length() -> None:
    accepting, worker = tracks = pool()
    found = Trace(tracks, 0, 50)
    assert [(each.source, each.given, each.target, each.taken) for each in found.handoffs] == [
        (accepting, 10, worker, 12), (accepting, 20, worker, 30)]
    assert found.waits == [2, 10]
    assert found.requests == 2


def test_who_serves_what_it_has_accepted_hands_nothing_over() -> None:
    found = Trace([track("recycling-1", "0_ 1A 5Q7=new 6R7 9_7=parked 10A 12Q7=back 15R7 20_7=closed")], 0, 30)
    assert found.handoffs == []
    assert found.waits == [1, 3]


def test_a_job_is_handed_over_and_back_and_then_its_answer_is_written() -> None:
    loop = track("loop-1", "0A 5Q7=new 6R7 8Q7 12A 30Q7=back 31R7 32W7 35_7=closed")
    executor = track("ThreadPoolExecutor-0_0", "0_ 15R7 16H7=/ 20W7 22_7=done")
    found = Trace([loop, executor], 0, 50)
    assert [(each.source, each.given, each.target, each.taken) for each in found.handoffs] == [
        (loop, 8, executor, 15), (executor, 22, loop, 30)]
    assert found.waits == [1, 7, 1]
    assert [serving[:2] for serving in found.servings(loop)] == [(7, 6), (7, 31)]
    assert list(found.servings(executor)) == [Serving(7, 15, 22)]
    assert [numbers[1:3] for numbers in found.numbers] == [(0, 0), (1, 0), (0, 0), (1, 0), (0, 0), (1, 0), (0, 0)]


def test_intervals_are_cut_at_the_edges_and_fill_a_life() -> None:
    _, worker = pool()
    found = Trace(pool(), 13, 33)
    worker = found.tracks[1]
    assert list(found.intervals(worker)) == [
        Interval("R", 13, 14, 7), Interval("H", 14, 20, 7, "GET /a", ("GET", "/a")), Interval("W", 20, 24, 7, "GET /a"),
        Interval("_", 24, 30, 7, None, "closed"),
        Interval("R", 30, 31, 8), Interval("H", 31, 33, 8, "GET /b", ("GET", "/b"))]
    assert list(found.servings(worker)) == [Serving(7, 13, 24), Serving(8, 30, 33)]
    whole = Trace(pool(), 0, 100)
    lived = sum(each.end - each.begin for each in whole.intervals(whole.tracks[1]))
    assert lived == 39, "from 1 to its end at 40"
    assert whole.shares["H"] == pytest.approx(10 / (100 + 39))


def test_the_phases_of_a_request_are_its_share_of_what_all_took() -> None:
    phases = phases_us(Trace(pool(), 0, 50))
    assert [round(1e3 * us, 3) for us in phases.values()] == [12 / 2, 3 / 2, 10 / 2, 5 / 2]
    nothing = Trace([track("single-1", "0A")], 0, 50)
    assert phases_us(nothing) == {}
    drawn = draw_phases({"pool": Trace(pool(), 0, 50), "idle": nothing}, "here and now")
    assert "shorter is better" in drawn
    assert "waits for a thread" in drawn
    assert "idle" not in drawn


def test_counters_say_who_waits_and_how_many_threads_there_are() -> None:
    assert Trace(pool(), 0, 100).numbers == [
        Numbers(0, 0, 0, 1), Numbers(1, 0, 0, 2), Numbers(10, 1, 0, 2), Numbers(12, 0, 0, 2), Numbers(20, 1, 0, 2),
        Numbers(30, 0, 0, 2), Numbers(40, 0, 0, 1)]
    assert Trace(pool(), 15, 25).numbers == [Numbers(15, 0, 0, 2), Numbers(20, 1, 0, 2)]
    parked = Trace([track("loop-1", "0A 5Q7=new 6R7 9_7=parked 12A 15Q7=back 16R7 20_7=closed 21C9=refused")], 1, 50)
    assert [numbers[1:] for numbers in parked.numbers] == [(0, 0, 1), (1, 0, 1), (0, 0, 1), (0, 1, 1), (1, 0, 1),
                                                           (0, 0, 1)]


def test_who_comes_back_and_was_not_seen_before_was_parked_before() -> None:
    found = Trace([track("loop-1", "5A 6Q7=back 7R7 8_7=closed 9A 10Q8=new 11R8 12_8=closed")], 0, 20)
    assert [numbers[1:3] for numbers in found.numbers] == [(0, 1), (0, 1), (1, 0), (0, 0), (1, 0), (0, 0)]


def test_a_thread_keeps_its_connection_from_request_to_request() -> None:
    found = Trace([track("single-1", "0A 1Q7=new 2R7 3H7=/a 4R7 5H7 6W7 7K7 8R7 9H7=/b 10W7 11_7=closed")], 0, 20)
    [single] = found.tracks
    assert list(found.servings(single)) == [Serving(7, 2, 11)]
    assert found.requests == 2, "a handler that goes on, its body having come, is no other request"
    assert [(each.state, each.request) for each in found.intervals(single)][2:] == [
        ("R", None), ("H", "GET /a"), ("R", "GET /a"), ("H", "GET /a"), ("W", "GET /a"), ("K", None), ("R", None),
        ("H", "GET /b"), ("W", "GET /b"), ("_", None)]


def test_a_recording_that_begins_in_the_middle() -> None:
    worker = track("worker-1", "5H7=/a 8W7 9_7=closed 20R8 21_8=detached")
    found = Trace([worker], 0, 30)
    assert list(found.servings(worker)) == [Serving(7, 5, 9), Serving(8, 20, 21)]
    assert found.waits == []
    assert found.handoffs == []


def test_a_lane_that_is_full_has_forgotten_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_tracks, "MOST_STEPS", 4)

    def said(count: int) -> Steps:
        steps: list[Step] = [(1.0 + n, "A", 0, None) for n in range(count)]
        return Steps(label="x", name="x", model="x", process=1, begin=0.0, end=1e6,
                     lanes=[LaneSteps(lane=0, thread="accept-1", steps=steps),
                            LaneSteps(lane=1, thread="worker-2", steps=[])])

    [less] = tracks_of(said(3))
    assert (less.full, less.begin, states(less)) == (False, 1_000_000_000, "AAA")
    [full] = tracks_of(said(4))
    assert Trace([full], full.begin - 1, full.begin + 10).full
    assert not Trace([full], full.begin, full.begin + 10).full


def test_a_hand_off_that_is_not_whole_is_not_drawn() -> None:
    found = Trace(pool(), 11, 25)
    assert len(found.handoffs) == len(found.waits) == 1, "it counts where it ends"
    assert found.arrows == []
    assert Trace(pool(), 10, 12).handoffs == []


def test_processes_know_nothing_of_each_others_connections() -> None:
    found = Trace([track("recycling-1", "0A 5Q7=new", process=1), track("recycling-1", "0_ 9R7", process=2)], 0, 20)
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
    assert Trace([track("worker-1", "8A 8.")], 0, 30).tracks == [], "of it nothing could be drawn"


# The Chrome trace.


def check(events: Sequence[dict[str, Any]], length_ns: int) -> None:
    """It is one: slices of a lane nest, both ends of every arrow are there, and are on a slice; no time is negative."""
    lanes: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    ends: dict[int, list[str]] = defaultdict(list)
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
            assert isinstance(event["id"], int), "Perfetto takes no other"
            ends[event["id"]].append(event["ph"])
            at = round(1000 * event["ts"])
            assert any(begin <= at < end for begin, end in lanes[event["pid"], event["tid"]]), "an arrow from nowhere"
    assert all(both == ["s", "f"] for both in ends.values())


def test_a_trace_of_two_threads() -> None:
    events = list(events_of("pool-hold", Trace(pool(), 0, 50), 3, 0))
    check(events, 50)
    assert {"ph": "M", "name": "process_name", "pid": 3, "args": {"name": "pool-hold"}} in events
    slices = [{key: event[key] for key in ("tid", "name", "ts", "dur", "args") if key in event}
              for event in events if event["ph"] == "X"]
    assert {"tid": 300002, "name": "worker-2", "ts": 0.001, "dur": 0.039} in slices
    assert {"tid": 300002, "name": "connection 7", "ts": 0.012, "dur": 0.012, "args": {"connection": 7}} in slices
    assert {"tid": 300002, "name": "handler", "ts": 0.014, "dur": 0.006,
            "args": {"connection": 7, "request": "GET /a"}} in slices
    assert {"tid": 300002, "name": "between two steps, or waits", "ts": 0.024, "dur": 0.006,
            "args": {"connection": 7, "how it ended": "closed"}} in slices
    assert {"tid": 300001, "name": "finds it a thread", "ts": 0.01, "dur": 0.004,
            "args": {"connection": 7, "client": "192.0.2.1:4711", "waited in the kernel, ms": 2.0}} in slices
    assert [event["ts"] for event in events if event["ph"] == "s"] == [0.01, 0.02]
    assert [event["ts"] for event in events if event["ph"] == "f"] == [0.012, 0.03]


@st.composite
def any_tracks(draw_: st.DrawFn) -> list[Track]:
    """Threads that do anything in any order, at different times: a clock that all of them read tells no time twice."""
    count = draw_(st.integers(1, 4))
    moments = iter(sorted(draw_(st.sets(st.integers(0, 500), min_size=6 * count, max_size=60))))
    events: list[list[Event]] = [[Event(next(moments), "_", 0)] for _ in range(count)]
    abouts = {"Q": [None, *ABOUT.values()], "H": [None, ("GET", "/")], "C": ["refused", "abandoned"],
              "_": [None, "parked", "closed", "detached", "done"]}
    for ns in moments:
        state = draw_(st.sampled_from("SAQRHWKC_X"))
        events[draw_(st.integers(0, count - 1))].append(
            Event(ns, state, draw_(st.integers(0, 3)), draw_(st.sampled_from(abouts.get(state, [None])))))
    for mine in events:
        if draw_(st.booleans()):
            mine.append(Event(draw_(st.sampled_from((mine[-1].ns, 501))), ".", 0))
    return [Track(1, f"{draw_(st.sampled_from(('worker', 'accept')))}-{number}", mine)
            for number, mine in enumerate(events)]


@settings(max_examples=50, deadline=None)
@given(any_tracks(), st.integers(0, 300), st.integers(1, 300))
def test_whatever_is_recorded_a_trace_comes_of_it(tracks: list[Track], begin: int, length: int) -> None:
    found = Trace(tracks, begin, begin + length)
    check(list(events_of("x", found, 1, begin)), length)
    for each in found.tracks:
        life = min(each.end, begin + length) - max(each.begin, begin)
        assert sum(interval.end - interval.begin for interval in found.intervals(each)) == life
    assert not found.tracks or sum(found.shares.values()) == pytest.approx(1)
    assert all(wait >= 0 for wait in found.waits)
    ElementTree.fromstring(draw({"x": found}, "about"))


def test_the_trace_of_several_servers_has_one_axis() -> None:
    def said(label: str, begin: float, lanes: list[LaneSteps]) -> Steps:
        return Steps(label=label, name="127.0.0.1:8080", model="PooledTaskmaster", process=4242, begin=begin,
                     end=begin + 1e-3, lanes=lanes)

    accepting = LaneSteps(lane=0, thread="accept-127.0.0.1:8080-1", steps=[
        (99.0, "A", 0, None), (100.0001, "Q", 7, ("127.0.0.1", 4711, None)), (100.0002, "A", 0, None)])
    worker = LaneSteps(lane=1, thread="worker-127.0.0.1:8080-2", steps=[
        (100.00015, "R", 7, None), (100.0003, "H", 7, ("GET", "/report")), (100.0004, ".", 0, None)])
    found = chrome_of([said("pool", 100.0, [accepting, worker]), said("127.0.0.1:8080", 100.0005, []),
                          said("late", 100.0005, [accepting])])
    found = json.loads(json.dumps(found))
    events = found["traceEvents"]
    check(events, 1_500_000)
    assert found["otherData"]["servers"] == [
        "pool (127.0.0.1:8080, PooledTaskmaster, process 4242)", "127.0.0.1:8080 (PooledTaskmaster, process 4242)",
        "late (127.0.0.1:8080, PooledTaskmaster, process 4242)"]
    [handler] = [event for event in events if event["name"] == "handler"]
    assert (handler["ts"], handler["dur"]) == (300.0, 100.0)
    assert handler["args"] == {"connection": 7, "request": "GET /report"}
    assert [event["ts"] for event in events if event["ph"] == "X" and event["pid"] == 3] == [500.0, 500.0]
    assert {(event["ph"], event["ts"]) for event in events if event["ph"] in "sf"} == {("s", 100.0), ("f", 150.0)}
    assert chrome_of([]) == {"displayTimeUnit": "ms", "otherData": {"servers": []}, "traceEvents": []}


def test_the_colours_are_those_of_the_page() -> None:
    page = (Path(trace.__file__).parents[2] / "watching" / "page" / "page.css").read_text()
    light = dict(re.findall(r"--state-(\S): (#\w{6})", page[:page.index("dark\"]")]))
    assert light == COLOURS
    assert set(COLOURS) == set(STATES) - {"."}


# Real servers.


def tracks_of_load(taskmaster: Taskmaster, folder: Path, keep_alive: bool) -> tuple[Trace, Result]:
    recorder = Recorder(taskmaster, folder)
    acceptor = Acceptor(hello, taskmaster=taskmaster, port=0)
    with acceptor, Load(acceptor.port, 4, keep_alive) as load:
        load.run(0.06)
        result = load.result(0.06, 0.0, None)
        end = monotonic_ns()
    recorder.write()
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
    found, load = tracks_of_load(taskmaster, tmp_path, keep_alive)
    check(list(events_of(name, found, 1, found.begin)), found.end - found.begin)
    assert found.requests >= load.ok > 0
    for each in found.tracks:
        assert states(each).endswith(".") == (each.role != "executor"), "its thread has ended"
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


def test_what_a_source_says_becomes_a_trace() -> None:
    with Acceptor(hello, taskmaster=MODELS["recycling-park"].make(2), port=0) as acceptor:
        source = LocalSource(acceptor, "mine")
        stop = threading.Event()

        def ask() -> None:
            with Load(acceptor.port, 2, True) as load:
                while not stop.is_set():
                    load.run(0.01)

        with ThreadPoolExecutor(1) as other:
            asking = other.submit(ask)
            try:
                said = source.steps(0.05)
            finally:
                stop.set()
            asking.result()
        source.detach()
    found = chrome_of([json.loads(json.dumps(said))])
    check(found["traceEvents"], 60_000_000_000)
    assert any(event["name"] == "handler" for event in found["traceEvents"])


def test_prefork_is_recorded_in_each_of_its_processes(tmp_path: Path) -> None:
    command = [*traced_command("prefork", Setup()), "--out", str(tmp_path)]
    with running(command) as child:
        with Load(int(child.line(30)), 4, False) as load:
            load.run(0.1)
            result = load.result(0.1, 0.0, None)
        child.close_input()
        counted = json.loads(child.line(30))
    found = [json.loads(path.read_text()) for path in tmp_path.iterdir()]
    assert len({said["process"] for said in found}) == len(found) == 2
    lives = [check_lanes([lane["steps"][:-1] for lane in said["lanes"]]) for said in found]
    assert sum(map(len, lives)) == counted["accepted"] == counted["served"] >= result.ok > 0


def test_the_whole_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "record", lambda name, asked: record(name, Asked(
        asked.seconds, asked.connections, asked.sleep_ms, asked.keep_alive, asked.threads, warmup=0.02)))
    options = argparse.Namespace(models=["pool-hold", "prefork"], seconds=0.2, connections=3, sleep=1.0,
                                 keep_alive="off", threads=2, out=tmp_path / "new")
    assert run_trace(options) == 0
    said = capsys.readouterr().out
    assert "3 clients, keep-alive off, a handler that sleeps 1 ms" in said
    assert re.search(r"[01]\.\d\d hand-offs from thread to thread", said)
    content = json.loads((options.out / "lanes.json").read_text())
    check(content["traceEvents"], 10_000_000_000)
    processes = {event["pid"]: event["args"]["name"] for event in content["traceEvents"]
                 if event["name"] == "process_name"}
    assert processes == {1: "pool-hold", 2: "prefork"}
    lanes = {event["args"]["name"] for event in content["traceEvents"] if event["name"] == "thread_name"}
    assert "accept" in lanes
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
