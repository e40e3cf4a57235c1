"""The lessons say what is so, always in the same words; and a script that expects something else is told so."""

from __future__ import annotations

import io
import itertools
import queue
import re
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskmaster import (
    AcceptorSteps,
    Connection,
    EventLoopTaskmaster,
    PooledTaskmaster,
    RecyclingTaskmaster,
    SingleThreadedTaskmaster,
    Taskmaster,
    TaskmasterBusyError,
    ThreadedTaskmaster,
    ThreadPerConnectionTaskmaster,
    ThreadState,
)
from taskmaster.scripted import ScriptedAcceptor
from watching.slow_motion import Stage, StagedExecutor, StageError, Story
from watching.slow_motion.__main__ import main
from watching.slow_motion.gates import Gates, Lane
from watching.slow_motion.lessons import LESSONS
from watching.slow_motion.story import PLACES, STATES, HandOff, Moment
from watching.slow_motion.svg import DARK, LIGHT, draw
from watching.slow_motion.text import render

ROOT = Path(__file__).parent.parent
WRITTEN = ROOT / "docs" / "lessons"


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


@cache
def story(name: str) -> Story:
    return LESSONS[name].play()


def after(name: str, step: int) -> Moment:
    """What is reached in that step, by its number."""
    return next(each for each in story(name).steps if each.number == step).moments[-1]


def lanes_with(letter: str, moment: Moment) -> list[int]:
    return [lane for lane, cell in enumerate(moment.cells) if cell.letter == letter]


# What is written.

@pytest.mark.parametrize("name", LESSONS)
def test_what_is_written_in_the_docs_is_what_the_lesson_shows(name: str) -> None:
    for suffix, content in (("txt", render(story(name))), ("svg", draw(story(name)))):
        assert (WRITTEN / f"{name}.{suffix}").read_text() == content, (
            "run python -m watching.slow_motion --write docs/lessons, and look at the pictures")


def test_nothing_else_is_written_there() -> None:
    assert {path.name for path in WRITTEN.iterdir()} == {f"{name}.{suffix}" for name in LESSONS
                                                         for suffix in ("txt", "svg")}


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_is_the_same_each_time(name: str) -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        assert all(render(LESSONS[name].play()) == render(story(name)) for _ in range(3))
    finally:
        sys.setswitchinterval(interval)


def test_lessons_begin_with_one_thread_and_have_a_length_that_fits_a_page() -> None:
    assert next(iter(LESSONS)) == "single"
    for name in LESSONS:
        assert 3 <= len(story(name).steps) <= 12, name
        assert all(step.caption for step in story(name).steps if step.number), name
        assert len(story(name).moments) <= 32, name


# What the lessons claim, at every moment.

@pytest.mark.parametrize("name", LESSONS)
def test_whoever_runs_a_handler_has_accepted_its_connection_or_been_handed_it(name: str) -> None:
    played = story(name)
    handed = {(handoff.client, handoff.target) for handoff in played.handoffs()}
    for lane in range(len(played.lanes)):
        accepted: set[str] = set()
        for cell in played.row(lane):
            if cell.letter == "Q":
                accepted.add(cell.client)
            elif cell.letter == "H":
                assert cell.client in accepted or (cell.client, lane) in handed


@pytest.mark.parametrize("name", LESSONS)
def test_nobody_is_in_two_places(name: str) -> None:
    for moment in story(name).moments:
        names = [cell.client for cell in moment.cells if cell.client]
        names += [name for place in PLACES for name in getattr(moment, place)]
        assert len(names) == len(set(names)), moment


def test_one_thread_serves_one_client_at_a_time_though_nobody_works() -> None:
    [lane] = story("single").lanes
    assert story("single").letters(lane) == "AQHHKHAQH"
    assert all("Bob" in moment.kernel for moment in story("single").moments[3:7])
    assert not list(story("single").handoffs())


def test_a_thread_per_connection_is_born_and_gone_with_it_and_the_accepting_one_never_serves() -> None:
    played = story("per-connection")
    assert set(played.letters("accepting thread")) == {"A", "Q", "C"}
    assert [played.letters(f"worker {number}").strip(".") for number in (1, 2, 3)] == [
        "SHHHHX", "SHHHHHHHHHHHH", "SHHHHHHHX"]
    assert [handoff.client for handoff in played.handoffs()] == ["Ada", "Bob", "Cy", "Dora"]
    assert max(len(lanes_with("H", moment)) for moment in played.moments) == 2
    assert "Eve" not in {cell.client for moment in played.moments for cell in moment.cells if cell.letter == "H"}


def test_in_a_pool_every_connection_is_handed_over_once_by_the_accepting_thread() -> None:
    played = story("pool")
    handoffs = list(played.handoffs())
    assert [(handoff.client, handoff.source) for handoff in handoffs] == [("Ada", 0), ("Bob", 0), ("Cy", 0)]
    assert set(played.letters("accepting thread")) == {"A", "Q", "C"}
    for worker in ("worker 1", "worker 2"):
        assert set(played.letters(worker)) == {"_", "H"}, "none is started, and none accepts"
    assert [len(moment.queue) for moment in played.moments].count(1) == len(
        [moment for moment in played.moments if "Cy" in moment.queue]) > 3


def test_in_recycling_whoever_accepts_serves_and_somebody_waits_while_there_may_be_one_more() -> None:
    played = story("recycling")
    assert not list(played.handoffs())
    for name in played.lanes:
        assert re.fullmatch(r"\.*S?(A+(QH+|X?\.*))*", played.letters(name)), played.letters(name)
    assert not any(moment.queue for moment in played.moments)
    for moment in played.moments:
        assert lanes_with("A", moment) or lanes_with("S", moment) or len(lanes_with("H", moment)) == 3 or lanes_with(
            "Q", moment), moment
    assert played.letters("thread 3").startswith("....SA"), "the replacement starts when the last waiter is taken"
    leavers = [(number, lane) for number, moment in enumerate(played.moments) for lane in lanes_with("X", moment)]
    assert [lane for _, lane in leavers] == [1], "one too many, the one that has waited longest"
    assert len(lanes_with("A", played.moments[-1])) == 2


def test_the_event_loop_runs_one_handler_at_a_time() -> None:
    played = story("event-loop")
    assert played.lanes == ("the loop",)
    assert not list(played.handoffs())
    served = [cell.client for moment in played.moments for cell in moment.cells if cell.letter == "Q"]
    assert served == ["Ada", "Bob", "Cy"]


def test_an_event_loop_that_offloads_runs_no_handler_and_hands_each_over_and_back() -> None:
    played = story("event-loop-offload")
    assert set(played.letters("the loop")) == {"A", "Q", "R", "W"}
    assert max(len(lanes_with("H", moment)) for moment in played.moments) == 2
    handoffs = [(handoff.client, handoff.source == 0) for handoff in played.handoffs()]
    assert handoffs == [("Ada", True), ("Bob", True), ("Bob", False), ("Cy", True), ("Dora", True), ("Ada", False)]


def test_keep_alive_that_holds_keeps_the_third_waiting_though_nobody_works() -> None:
    played = story("keep-alive-hold")
    waiting = [moment for moment in played.moments if "Cy" in moment.queue]
    assert len(waiting) >= 3
    assert any(len(lanes_with("K", moment)) == 2 for moment in waiting)
    assert all(len(lanes_with("K", moment)) + len(lanes_with("H", moment)) == 2 for moment in waiting)
    assert [handoff.client for handoff in played.handoffs()] == ["Ada", "Bob", "Cy"], "one for each connection"


def test_keep_alive_that_parks_keeps_nobody_waiting_and_hands_over_each_request() -> None:
    played = story("keep-alive-park")
    assert "K" not in played.letters_used
    assert not any(moment.queue for moment in played.moments)
    assert [handoff.client for handoff in played.handoffs()] == ["Ada", "Bob", "Cy", "Ada"]
    assert after("keep-alive-park", 5).parked == ("Ada", "Bob", "Cy")


def requests_while_waiting(name: str, waits: str, other: str) -> int:
    """How many requests of `other` are begun while `waits` does."""
    begun = {cell.request for moment in story(name).moments if waits in moment.queue
             for cell in moment.cells if cell.client == other and cell.letter == "H"}
    return len(begun)


def test_a_client_that_always_has_a_next_request_is_served_until_it_tires_or_takes_turns() -> None:
    assert requests_while_waiting("pipelining-always", "Bob", "Greta") == 4
    assert requests_while_waiting("pipelining-fair", "Bob", "Greta") == 1
    assert [handoff.client for handoff in story("pipelining-fair").handoffs()] == ["Greta", "Bob", "Greta", "Greta"]


def test_slow_clients_keep_threads_that_hold_and_none_that_park() -> None:
    assert lanes_with("R", after("slow-clients-hold", 2)) == [0, 1]
    assert after("slow-clients-hold", 2).kernel == ("Ada",)
    assert "R" not in story("slow-clients-park").letters_used
    assert not any(len(moment.kernel) for moment in story("slow-clients-park").moments)


def test_a_stop_serves_all_who_have_arrived_and_then_the_threads_leave_one_by_one() -> None:
    played = story("stop")
    last = {cell.client for moment in played.steps[3].moments + played.steps[4].moments for cell in moment.cells}
    assert last >= {"Cy", "Dora"}
    assert not played.moments[-1].kernel
    assert [len(lanes_with("X", moment)) for moment in played.moments].count(1) == 2
    for name in played.lanes:
        assert re.search(r"AX\.*$", played.letters(name)), "accept() returns None, and it leaves"


def test_a_pool_that_is_resized_starts_at_once_and_interrupts_nobody() -> None:
    played = story("resize")
    assert [len(lanes_with("H", after("resize", step))) for step in range(1, 8)] == [1, 3, 3, 3, 2, 1, 1]
    for worker in ("worker 2", "worker 3"):
        assert re.fullmatch(r"\.+S+H+X\.*", played.letters(worker)), "it serves, and does not wait; then it leaves"
    assert all("Dora" in after("resize", step).queue for step in range(3, 7))


# A stage: for scripts of your own.

def test_the_example_of_the_package_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                         capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    doc = sys.modules["watching.slow_motion"].__doc__ or ""
    example = doc[doc.index("from taskmaster"):doc.index("`python -m")]
    exec(compile(re.sub(r"(?m)^ {4}", "", example), "watching/slow_motion", "exec"), {})
    assert "worker 1          _  | _ Ha | H H  | Hb" in capsys.readouterr().out
    assert (tmp_path / "my-lesson.svg").read_text().startswith("<svg")


class LeaderFollowers(ThreadedTaskmaster):
    """That of the README: followers wait for a plain lock, in the middle of which the leader accepts."""

    def __init__(self) -> None:
        super().__init__()
        self.max_thread_count = 2
        self.lead = threading.Lock()

    def execute_acceptor(self, acceptor: AcceptorSteps) -> None:
        self.begin(acceptor)
        for _ in range(2):
            self.start(self._work, "leader-follower")

    def handle_incoming_connection(self, connection: Connection) -> None:
        with self.lock:
            self.accepted += 1
            self.enter_locked(ThreadState.SERVING)
        self.process(connection)
        with self.lock:
            self.served += 1
            self.enter_locked(ThreadState.WAITING)

    def _work(self) -> None:
        self.enter(ThreadState.WAITING)
        while True:
            with self.lead:
                self.enter(ThreadState.ACCEPTING)
                connection = self.acceptor.accept()
            if connection is None:
                break
            self.hand_over(connection)
        self.leave("stopped")


def test_a_model_that_waits_for_a_plain_lock_can_be_staged() -> None:
    with Stage(LeaderFollowers()) as stage:
        ada = stage.connect("Ada")
        stage.step("The leader has Ada, and lets another lead.", Ada="leader-follower 1")
        stage.connect("Bob")
        stage.step("Nobody leads.", Bob="leader-follower 2")
        ada.answer(leaves=True)
        stage.step("Ada's thread leads.", Ada="gone")
    assert [stage.story.letters(name) for name in stage.story.lanes] == ["AQHHHA", "__AQHH"]
    assert not list(stage.story.handoffs())


class Queued(ThreadedTaskmaster):
    """Hands over by a queue.Queue, as many a server does; counts without the books' help."""

    def __init__(self) -> None:
        super().__init__()
        self.max_thread_count = 1
        self.waiting: queue.Queue[Connection | None] = queue.Queue()

    def execute_acceptor(self, acceptor: AcceptorSteps) -> None:
        self.begin(acceptor)
        self.start(self._accept, "accept")
        self.start(self._work, "worker")

    def handle_incoming_connection(self, connection: Connection) -> None:
        with self.lock:
            self.accepted += 1
            self.queue.append(connection)
        self.waiting.put(connection)

    def _accept(self) -> None:
        self.enter(ThreadState.ACCEPTING)
        while (connection := self.acceptor.accept()) is not None:
            self.hand_over(connection)
        self.waiting.put(None)
        self.leave("stopped")

    def _work(self) -> None:
        self.enter(ThreadState.WAITING)
        while (connection := self.waiting.get()) is not None:
            with self.lock:
                self.queue.remove(connection)
                self.enter_locked(ThreadState.SERVING)
            self.process(connection)
            with self.lock:
                self.served += 1
                self.enter_locked(ThreadState.WAITING)
        self.leave("stopped")


def test_a_model_that_waits_for_a_queue_can_be_staged() -> None:
    with Stage(Queued()) as stage:
        ada, _ = stage.connect("Ada"), stage.connect("Bob")
        stage.step("", Ada="worker 1", Bob="the queue")
        ada.answer(leaves=True)
        stage.step("", Ada="gone", Bob="worker 1")
    assert [handoff.client for handoff in stage.story.handoffs()] == ["Ada", "Bob"]


def test_a_gate_that_is_kept_shut_shows_what_happens_meanwhile() -> None:
    """The replacement has been promised, and is not there yet; and no second one is started."""
    with Stage(RecyclingTaskmaster(standby=1, max_thread_count=4, idle="hold")) as stage:
        stage.keep_shut("S")
        stage.connect("Ada")
        stage.connect("Bob")
        stage.step("The replacement starts, for long.", Ada="thread 1", Bob="the kernel")
        assert stage.story.letters("thread 2")[-1] == "S"
        stage.keep_shut("")
        stage.step("Now it is there, and starts another in its place.", Bob="thread 2")
        assert stage.story.lanes == ("thread 1", "thread 2", "thread 3")


def test_a_connection_for_which_a_thread_starts_is_not_queued() -> None:
    with Stage(ThreadPerConnectionTaskmaster(max_thread_count=1, max_accept_count=1)) as stage:
        stage.keep_shut("S")
        ada, _ = stage.connect("Ada"), stage.connect("Bob")
        stage.step("Worker 1 starts, for long.", Ada="a new thread", Bob="the queue")
        stage.keep_shut("")
        stage.step("It serves the one for whom it was started.", Ada="worker 1", Bob="the queue")
        ada.answer(leaves=True)
        stage.step("And then the other.", Bob="worker 1")


def test_the_start_is_a_step_without_a_caption_if_the_script_says_nothing_of_it() -> None:
    with Stage(SingleThreadedTaskmaster()) as stage:
        stage.connect("Ada")
        stage.step("Ada arrives.")
    assert [(step.number, step.caption, len(step.moments)) for step in stage.story.steps] == [
        (0, "", 1), (1, "Ada arrives.", 2)]


def test_what_is_not_part_of_the_script_is_not_part_of_the_story() -> None:
    with Stage(PooledTaskmaster(threads=2)) as stage:
        stage.connect("Ada")
        stage.step("Ada arrives.")
    assert stage.story.letters("worker 1") == "__H"
    assert stage.taskmaster.snapshot().served == 1, "she was let go in the end"


def test_a_taskmaster_can_play_twice_and_runs_elsewhere_afterwards() -> None:
    executor = StagedExecutor(1)
    taskmaster = EventLoopTaskmaster(offload=executor)
    for _ in range(2):
        with Stage(taskmaster) as stage:
            stage.connect("Ada").answer()
            stage.step("", Ada="parked")
    assert "start_thread" not in vars(taskmaster)
    acceptor, pool = ScriptedAcceptor(), PooledTaskmaster(threads=1)
    with Stage(pool):
        pass
    pool.execute_acceptor(acceptor)
    acceptor.settle(acceptor.connect(1, finished=True), "processed")
    acceptor.close()
    assert not pool.shutdown(10)


def test_an_override_of_start_thread_is_called_and_may_fail() -> None:
    started: list[str] = []

    class Counting(RecyclingTaskmaster):
        def start_thread(self, target: Callable[[], None], name: str) -> None:
            if len(started) == 1:
                raise RuntimeError("can't start new thread")
            started.append(name)
            super().start_thread(target, name)

    with Stage(Counting(standby=1, max_thread_count=2, idle="hold")) as stage:
        stage.connect("Ada")
        stage.step("There is no replacement.", Ada="thread 1")
    assert started == ["recycling-stage-1"]
    assert stage.story.lanes == ("thread 1",)


# Errors say what is wrong, and show the lanes.

@pytest.fixture
def pool() -> Iterator[Stage]:
    with Stage(PooledTaskmaster(threads=1, queue_size=0)) as stage:
        stage.connect("Ada")
        stage.step("Ada arrives.")
        yield stage


def test_a_client_that_is_elsewhere(pool: Stage) -> None:
    pool.connect("Bob")
    with pytest.raises(StageError, match="'Bob too': Bob was to be with worker 2, and is refused with 503") as error:
        pool.step("Bob too", Bob="worker 2")
    assert "accepting thread  A  | QaA  | QbC A\n  worker 1          _  | _ Ha | H H H\n" in str(error.value)
    assert "refused=1" in str(error.value)


def test_a_client_that_is_nowhere(pool: Stage) -> None:
    with pytest.raises(StageError, match="there is no client 'Bob'; connect one"):
        pool.step("", Bob="gone")
    with pytest.raises(ValueError, match="there is a Ada already"):
        pool.connect("Ada")


def test_an_answer_without_a_handler(pool: Stage) -> None:
    [ada] = pool.acceptor.clients
    ada.answer()
    with pytest.raises(StageError, match="Ada cannot be answered: no handler runs for Ada, who is parked"):
        ada.answer()
    ada.leave()
    for act in (ada.ask, ada.leave):
        with pytest.raises(StageError, match="Ada has left already, or was sent away"):
            act()


def test_a_timeout_that_nobody_has(pool: Stage) -> None:
    with pytest.raises(StageError, match=r"nobody can time out: no thread is in an accept\(\) that has a timeout"):
        pool.time_out()


def test_a_call_that_does_not_return_or_raises(pool: Stage) -> None:
    wait = threading.Condition()
    pool.taskmaster.wait = wait  # type: ignore[attr-defined]

    def forever() -> None:
        with wait:
            wait.wait_for(lambda: ada.gone)

    [ada] = pool.acceptor.clients
    with pytest.raises(StageError, match=r"forever\(\) does not return, though all threads are at rest"):
        pool.call(forever)
    ada.gone = True
    with wait:
        wait.notify_all()
    with pytest.raises(ValueError, match="threads=0"):
        pool.call(pool.taskmaster.resize, threads=0)  # type: ignore[attr-defined]


def test_a_thread_that_waits_in_a_way_that_cannot_be_seen() -> None:
    secret = threading.Event()  # no attribute of the taskmaster

    class Sleepless(SingleThreadedTaskmaster):
        def handle_incoming_connection(self, connection: Connection) -> None:
            secret.wait()
            super().handle_incoming_connection(connection)

    with Stage(Sleepless(), patience=0.05) as stage:
        with pytest.raises(StageError, match=r"after 0\.05 s the thread did not come to rest"):
            stage.connect("Ada")
        secret.set()


def test_an_executor_of_another_kind() -> None:
    with ThreadPoolExecutor(1) as executor, pytest.raises(ValueError, match=r"pass StagedExecutor\(2\)"):
        Stage(EventLoopTaskmaster(offload=executor)).__enter__()


def test_a_taskmaster_that_does_not_start() -> None:
    taskmaster = PooledTaskmaster(threads=1)
    acceptor = ScriptedAcceptor()
    taskmaster.execute_acceptor(acceptor)
    with pytest.raises(TaskmasterBusyError):
        Stage(taskmaster, patience=0.05).__enter__()
    acceptor.close()
    assert not taskmaster.shutdown(10)


def test_a_model_that_serves_a_connection_twice() -> None:
    class Twice(SingleThreadedTaskmaster):
        def process(self, connection: Connection) -> bool:
            super().process(connection)
            return super().process(connection)

    stage = Stage(Twice()).__enter__()
    stage.connect("Ada").answer(leaves=True)
    with pytest.raises(StageError, match="Ada was processed, and is processing now"):
        stage.__exit__(None, None, None)


def test_books_that_do_not_balance() -> None:
    class Forgetful(SingleThreadedTaskmaster):
        def handle_incoming_connection(self, connection: Connection) -> None:
            super().handle_incoming_connection(connection)
            self.served -= 1

    stage = Stage(Forgetful()).__enter__()
    stage.connect("Ada").answer(leaves=True)
    with pytest.raises(StageError, match="the books do not balance"):
        stage.__exit__(None, None, None)


def test_an_error_of_the_script_itself_is_not_hidden() -> None:
    def script() -> None:
        with Stage(SingleThreadedTaskmaster()) as stage:
            stage.connect("Ada")
            raise KeyError

    with pytest.raises(KeyError):
        script()


# Nothing moves any more.

class TwoLooks(threading.Condition):
    """Its only waiter is notified between two looks."""

    looks = 0

    @property
    def _waiters(self) -> Any:
        self.looks += 1
        return ["lock"] if self.looks == 1 else []

    @_waiters.setter
    def _waiters(self, waiters: object) -> None:
        pass


def test_who_is_notified_between_two_looks_is_not_at_rest() -> None:
    gates, lane = Gates(threading.Condition()), Lane("worker 1")
    lane.thread = threading.current_thread()
    gates.lanes.append(lane)
    watched = type("Watched", (), {})()
    watched.condition = TwoLooks()
    gates.watched = [watched]
    assert not gates.at_rest_locked()
    assert watched.condition.looks == 2


# Any script: the same story each time.

MODELS: dict[str, Callable[[], Taskmaster]] = {
    "single": SingleThreadedTaskmaster,
    "per connection": lambda: ThreadPerConnectionTaskmaster(max_thread_count=2, max_accept_count=1),
    "per connection, kernel": lambda: ThreadPerConnectionTaskmaster(max_thread_count=2, max_accept_count=None),
    "pool": lambda: PooledTaskmaster(threads=2, queue_size=1, idle="hold"),
    "pool, parking": lambda: PooledTaskmaster(threads=2, queue_size=None, idle="park"),
    "recycling": lambda: RecyclingTaskmaster(standby=1, max_thread_count=2, max_accept_count=1, idle="park"),
    "recycling, kernel": lambda: RecyclingTaskmaster(standby=2, max_thread_count=3, idle="hold"),
    "loop": EventLoopTaskmaster,
    "loop, offloading": lambda: EventLoopTaskmaster(offload=StagedExecutor(2)),
}
ACTS = st.lists(st.tuples(st.sampled_from(["connect", "connect", "answer", "answer", "ask", "leave", "time_out"]),
                          st.integers(0, 3)), max_size=12)


def act_out(model: str, acts: list[tuple[str, int]], stop: bool) -> Stage:
    with Stage(MODELS[model]()) as stage:
        for act, number in acts:
            clients = [client for client in stage.acceptor.clients if not client.gone and client.place not in (
                "gone", "503")]
            if act == "answer":
                clients = [client for client in stage.acceptor.clients if any(
                    lane.letter == "H" and lane.client is client for lane in stage.acceptor.gates.held_locked())]
            if act == "connect":
                stage.connect(f"Client {len(stage.acceptor.clients)}", requests=number % 3)
            elif act == "time_out":
                if any(lane.letter == "A" and not lane.patient for lane in stage.acceptor.gates.held_locked()):
                    stage.time_out()
            elif clients:
                getattr(clients[number % len(clients)], act)()
            stage.step(f"{act} {number}")
        if stop:
            stage.stop()
            stage.step("stop")
    return stage


@settings(max_examples=40, deadline=None)
@given(model=st.sampled_from(sorted(MODELS)), acts=ACTS, stop=st.booleans())
def test_any_script_gives_the_same_story_each_time_and_nobody_is_lost(model: str, acts: list[tuple[str, int]],
                                                                     stop: bool) -> None:
    stage = act_out(model, acts, stop)
    assert act_out(model, acts, stop).text() == stage.text()
    ElementTree.fromstring(stage.svg())
    clients = {client.name for client in stage.acceptor.clients}
    for moment in stage.story.moments:
        there = [cell.client for cell in moment.cells if cell.client] + [*moment.kernel, *moment.queue, *moment.parked]
        assert len(there) == len(set(there))
        assert set(there) <= clients
        assert {cell.letter for cell in moment.cells} <= set(STATES)


# Pictures and text.

def test_a_hand_off_by_way_of_the_queue_is_one() -> None:
    handoffs = [handoff for handoff in story("pool").handoffs() if handoff.client == "Cy"]
    [(client, source, given_at, target, taken)] = handoffs
    assert isinstance(handoffs[0], HandOff)
    assert (client, source, target) == ("Cy", 0, 1)
    assert all("Cy" in moment.queue for moment in story("pool").moments[given_at + 1:taken])


@pytest.mark.parametrize("name", LESSONS)
def test_a_picture_is_well_formed_says_what_it_shows_and_stays_on_its_page(name: str) -> None:
    svg = ElementTree.fromstring(draw(story(name)))
    space = "{http://www.w3.org/2000/svg}"
    assert svg.attrib["aria-labelledby"] == "title desc"
    title, desc = (svg.find(space + part) for part in ("title", "desc"))
    assert title is not None
    assert desc is not None
    assert LESSONS[name].title in (title.text or "")
    assert all(step.caption in (desc.text or "") for step in story(name).steps)
    height = float(svg.attrib["height"])
    bars: dict[float, list[tuple[float, float]]] = {}
    for rect in svg.iter(space + "rect"):
        x, y, wide, high = (float(rect.attrib.get(each, 0)) for each in ("x", "y", "width", "height"))
        assert x >= 0
        assert x + wide <= 760
        assert y + high <= height
        if rect.attrib["class"] != "ground":
            bars.setdefault(y + high / 2, []).append((x, x + wide))
    for row in bars.values():
        row.sort()
        assert all(end <= begin + 0.01 for (_, end), (begin, _) in itertools.pairwise(row)), "they overlap"
    texts = [text.text or "" for text in svg.iter(space + "text")]
    assert all(lane in texts for lane in story(name).lanes)
    assert max(map(len, texts)) <= 106
    assert len(list(svg.iter(space + "path"))) - 1 - (len(story(name).steps) - 1) >= len(list(story(name).handoffs()))


def test_a_long_story_is_drawn_narrow_enough() -> None:
    with Stage(SingleThreadedTaskmaster()) as stage:
        for number in range(30):
            stage.connect(f"Client {number}").answer(leaves=True)
        stage.step("Thirty & <one>.")
    rights = [float(x) + float(wide) for x, wide in re.findall(r'<rect class="s\w+" x="([\d.]+)".*? width="([\d.]+)"',
                                                               stage.svg())]
    assert max(rights) <= 760
    assert "Thirty &amp; &lt;one&gt;." in stage.svg()


def test_the_colours_are_those_of_the_live_page() -> None:
    light, dark = (ROOT / "watching" / "page" / "page.css").read_text().split('[data-theme="dark"]', 1)
    for colours, css in ((LIGHT, light), (DARK, dark)):
        assert colours == {letter: colour for letter, colour in re.findall(r"--state-(.): (#\w{6})", css)
                           if letter in colours}
        assert set(colours) == set(STATES) - {"."}


# In the terminal.

def test_without_arguments_it_lists_the_lessons(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    said = capsys.readouterr().out
    assert all(re.search(rf"^  {name} +{re.escape(LESSONS[name].title)}$", said, re.MULTILINE) for name in LESSONS)


def test_help_teaches_to_read(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert all(f"    {letter}  {words}\n" in said for letter, words in STATES.items())


def test_all_at_once_is_the_text(capsys: pytest.CaptureFixture[str]) -> None:
    main(["pool", "--all"])
    assert capsys.readouterr().out == render(story("pool"))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("typed", "steps"), [("\n\n\n\n\n", 6), ("\nq\n", 2), ("\n", 2)], ids=["all", "enough", "end"])
def test_step_by_step(typed: str, steps: int, monkeypatch: pytest.MonkeyPatch,
                      capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(typed))
    main(["single"])
    said = capsys.readouterr().out
    assert len(re.findall(r"^      ?\[Enter\] ?", said, re.MULTILINE)) == min(steps, 5)
    assert said.count("  the thread     A") == steps
    assert (" 6  Ada has her answer, and leaves." in said) == (steps == 6)


def test_in_a_terminal_letters_have_their_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    for no_colour in (False, True):
        out = Terminal()
        monkeypatch.setattr("sys.stdout", out)
        if no_colour:
            monkeypatch.setenv("NO_COLOR", "1")
        else:
            monkeypatch.delenv("NO_COLOR", raising=False)
        main(["single", "--all"])
        assert ("\x1b[30;48;2;0;158;115mH\x1b[0m" in out.getvalue()) == (not no_colour)
        assert re.sub(r"\x1b\[[\d;]*m", "", out.getvalue()) == render(story("single"))


def test_a_picture_and_all_of_them_are_written(tmp_path: Path) -> None:
    main(["stop", "--svg", str(tmp_path / "stop.svg")])
    assert (tmp_path / "stop.svg").read_text() == draw(story("stop"))
    main(["--write", str(tmp_path / "all")])
    assert {path.name for path in (tmp_path / "all").iterdir()} == {path.name for path in WRITTEN.iterdir()}


def test_a_lesson_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["pol"])
    assert "there is no lesson 'pol'; there are: single, per-connection, pool, " in capsys.readouterr().err
