"""The preset `accept`: who served whom is counted rightly, and what it says follows from what was recorded."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acceptor import Acceptor, HTTPError, Request
from bench.clients.arrivals import burst, one_by_one
from bench.lab.metrics import METRICS
from bench.lab.preset import Saying
from bench.lab.record import Cell, Record, Results
from bench.presets import find_preset
from bench.presets.accept import ARRIVALS, PRESET, THREADS, _fill
from bench.trace.server import who
from taskmaster import PooledTaskmaster, SingleThreadedTaskmaster

CELL = Cell.of("pool-hold", arrivals="one by one", connections=40)


def run_of(subject: str, arrivals: str, order: Sequence[int], block: int = 1, connections: int = 40) -> Record:
    """A record in which client after client was served by these threads; -1 for nobody."""
    record = Record(Cell.of(subject, arrivals=arrivals, connections=connections), block)
    _fill(record, ["" if thread < 0 else f"thread {thread}" for thread in order], 0.0)
    return record


ROUND = [0, 1, 2, 3] * 10
ONE = [0] * 40
RUNS = [0] * 20 + [1] * 20
OWN = list(range(40))


def full(*more: Record, **orders: Sequence[int]) -> Results:
    """Three blocks as they are expected, or with other `orders` of some models one by one."""
    one = {"thread": OWN, "pool_hold": ROUND, "pool_park": ROUND, "recycling_hold": ONE, "recycling_park": ONE}
    records = [run_of(name.replace("_", "-"), "one by one", order, block)
               for name, order in (one | orders).items() for block in (1, 2, 3)]
    records += [run_of(subject, "burst", OWN if subject == "thread" else RUNS, block)
                for subject in PRESET.defaults.subjects or () for block in (1, 2, 3)]
    return Results([*records, *more])


def said(results: Results) -> list[Saying]:
    return PRESET.says(results)


# The clients.


@pytest.fixture(name="port")
def port_() -> Iterator[int]:
    with Acceptor(who, taskmaster=PooledTaskmaster(threads=2), port=0) as acceptor:
        yield acceptor.port


def test_clients_are_told_who_has_served_them(port: int) -> None:
    for answers in (one_by_one(port, 3, 0.0), burst(port, 5)):
        assert all(name.startswith("worker-127.0.0.1:") for name in answers), answers
        assert len(set(answers)) <= 2
    assert len(burst(port, 5)) == 5


def test_whoever_gets_no_answer_is_not_forgotten() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    assert one_by_one(port, 2, 0.0) == burst(port, 2) == ["", ""]


def test_an_answer_of_another_status_tells_nothing() -> None:
    asked = threading.Semaphore(0)

    def handler(request: Request) -> str:
        asked.release()
        raise HTTPError(503, "not now")

    with Acceptor(handler, taskmaster=SingleThreadedTaskmaster(), port=0) as acceptor:
        assert one_by_one(acceptor.port, 1, 0.0) == burst(acceptor.port, 1) == [""]
    assert asked.acquire(blocking=False)


def test_a_server_that_closes_has_not_answered() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        def close_all() -> None:
            for _ in range(2):
                sock.accept()[0].close()

        thread = threading.Thread(target=close_all)
        thread.start()
        port = sock.getsockname()[1]
        assert one_by_one(port, 1, 0.0) + burst(port, 1) == ["", ""]
        thread.join()


# The records.


@given(st.lists(st.sampled_from(["", "a", "b", "c"]), min_size=1, max_size=50))
def test_what_is_kept_of_the_answers(answers: list[str]) -> None:
    record = Record(CELL, 1)
    _fill(record, answers, 0.25)
    order, served = record.detail["order"], [name for name in answers if name]
    assert len(order) == len(answers)
    assert all((one == other) == (order[i] == order[j]) for i, one in enumerate(answers)
               for j, other in enumerate(answers))
    assert bool(record.flaws) == ("" in answers)
    assert record.detail["notes"] == ["others had 25% of the server's core"]
    assert set(record.metrics) == (set(PRESET.columns) if served else set())
    if served:
        assert record.metrics["threads_used"] == len(set(served))
        assert record.metrics["busiest_percent"] == 100 * max(map(served.count, served)) / len(served)
        assert record.metrics["switches"] == sum(one != other for one, other in pairwise(served))
    assert Record.from_json(record.to_json()).to_json() == record.to_json()


def test_the_plan() -> None:
    cells = PRESET.cells(PRESET.defaults)
    assert len(cells) == len(set(cells)) == 10
    assert {cell["arrivals"] for cell in cells} == set(ARRIVALS)
    assert all(0 < PRESET.seconds(cell, PRESET.defaults) < 5 for cell in cells)
    assert find_preset("accept") is PRESET
    assert set(PRESET.columns) <= set(METRICS)


def test_an_application_of_ones_own_cannot_tell_its_thread() -> None:
    assert PRESET.prepare(PRESET.defaults) == PRESET.defaults
    for options in (replace(PRESET.defaults, app="my:app"), replace(PRESET.defaults, generator="wrk")):
        with pytest.raises(ValueError, match="its own handler"):
            PRESET.prepare(options)


def test_a_real_run() -> None:
    options = replace(PRESET.defaults, connections=(3,))
    record = PRESET.run(Cell.of("recycling-hold", arrivals="burst", connections=3), 2, options)
    assert not record.failed
    assert not record.flaws
    assert record.block == 2
    assert len(record.detail["order"]) == 3
    assert 1 <= record.metrics["threads_used"] <= 3


def test_a_subject_that_does_not_start_is_a_record_too() -> None:
    record = PRESET.run(Cell.of("no.such:Thing", arrivals="burst", connections=3), 1, PRESET.defaults)
    assert "no.such:Thing" in record.failed
    assert not record.metrics


# What it says.


def test_the_effect_is_shown_with_its_figures() -> None:
    order, surplus, in_a_burst, own = said(full())
    assert order.shown
    assert "recycling-hold 100 %, recycling-park 100 %, pool-hold 25 %, pool-park 25 %" in order.text
    assert "last in, first out" in order.text
    assert surplus.shown
    assert "recycling-hold 1, recycling-park 1, pool-hold 4, pool-park 4" in surplus.text
    assert "can leave" in surplus.text
    assert in_a_burst.shown
    assert "pool-hold 1, pool-park 1 times; one by one, pool-hold 39, pool-park 39 times, of 39" in in_a_burst.text
    assert own.shown is None
    assert "40 clients were served by 40 threads, each by one that had been started for it" in own.text


def test_it_is_not_shown_if_one_run_is_like_those_of_the_other() -> None:
    order, surplus, *_ = said(full(run_of("recycling-hold", "one by one", ROUND, 4)))
    assert (order.shown, surplus.shown) == (False, False)
    assert "recycling-hold 100 % (25–100)" in order.text
    assert "not that far apart" in order.text
    assert "can leave" not in surplus.text


def test_it_is_not_shown_if_the_difference_is_small() -> None:
    order, *_ = said(full(recycling_hold=[0] * 16 + [1, 2, 3] * 8, recycling_park=[0] * 16 + [1, 2, 3] * 8))
    assert order.shown is False, "40 % and 25 % are less than twice as much"


def test_a_pool_in_a_burst_that_hands_round_is_said_to() -> None:
    records = [record for record in full().records if record.cell["arrivals"] == "one by one"]
    records += [run_of("pool-hold", "burst", ROUND)]
    saying = said(Results(records))[2]
    assert saying.shown is False
    assert "should be fewer" in saying.text


def test_what_is_missing_is_not_judged() -> None:
    for kind in ("pool", "recycling"):
        [first, *others] = said(Results([record for record in full().records
                                         if not record.cell.subject.startswith(kind)]))
        assert first.shown is None
        assert "cannot be judged" in first.text
        assert all(saying.shown is None or kind == "recycling" for saying in others)
    [only] = said(Results([]))
    assert only.shown is None


def test_a_flaw_is_named_and_counts_nowhere() -> None:
    failed = Record(Cell.of("pool-park", arrivals="one by one", connections=40), 4, failed="it has died")
    order, *_, last = said(full(run_of("pool-hold", "one by one", [*ROUND[:39], -1], 4), failed))
    assert order.shown is None
    assert last.text == ("Not counted in any of this: pool-hold, one by one (1 of 40 clients got no answer), "
                         "pool-park, one by one (failed: it has died).")
    order, *_, last = said(full(failed))
    assert order.shown, "there is another pool"
    assert "pool-park" not in order.text
    assert "pool-park" in last.text


def test_each_number_of_connections_is_judged_by_itself() -> None:
    more = [run_of(subject, "one by one", [0] * 8, connections=8) for subject in ("pool-hold", "recycling-hold")]
    sayings = said(full(*more))
    assert [saying.heading for saying in sayings] == ["40 connections"] * 4 + ["8 connections"] * 2
    assert [saying.shown for saying in sayings] == [True, True, True, None, False, False]


@given(st.lists(st.tuples(st.sampled_from(["thread", "pool-hold", "recycling-park", "loop", "pkg.mod:Own"]),
                          st.sampled_from(ARRIVALS), st.lists(st.integers(-1, 9), min_size=1, max_size=12)),
                max_size=8))
def test_of_any_records_something_can_be_said(runs: list[tuple[str, str, list[int]]]) -> None:
    results = Results([run_of(subject, arrivals, order, block)
                       for block, (subject, arrivals, order) in enumerate(runs, start=1)])
    sayings = said(results)
    assert sayings
    assert all(saying.text and "nan" not in saying.text for saying in sayings)
    assert PRESET.table(results)


# The figure.


def test_the_strip() -> None:
    pytest.importorskip("matplotlib")
    failed = Record(Cell.of("pool-park", arrivals="burst", connections=40), 4, failed="it has died")
    [drawing] = PRESET.figures(full(run_of("pool-hold", "one by one", [*ROUND[:39], -1], 4), failed))
    texts = {element.text for element in ElementTree.fromstring(drawing.svg).iter()}
    assert {"one by one", "burst", "thread", "recycling-hold", "pool-hold *", "pool-park *", "pool-hold"} <= texts
    assert f"Which of {THREADS} threads" in drawing.svg
    assert "1 of 40 clients got no answer" in drawing.caption
    assert "failed: it has died" in drawing.caption
    assert len(drawing.svg) < 100_000
    assert PRESET.figures(Results([])) == []
