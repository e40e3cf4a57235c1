"""The preset `starve`: that it says what its records say, whatever they are, and draws it. No figure is judged here."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.clients.probe import Probed
from bench.clients.result import Result, fairness
from bench.lab.metrics import METRICS
from bench.lab.preset import Options, Saying
from bench.lab.record import Cell, Record, Results
from bench.presets import find_preset
from bench.presets.starve import PRESET, THREADS, measured
from bench.presets.starve_sentences import pairs_of

CLIENTS = 100


def newcomers(came: int = 40, ok: int = 40, longest: float = 30.0, **more: Any) -> Probed:
    values: dict[str, Any] = {
        "seconds": 2.0, "scheduled": came, "sent": came, "ok": ok, "non_2xx": {}, "errors": {},
        "unanswered": came - ok, "connections": came,
        "latency_ms": {"p50": 1.0, "p99": longest - 1, "max": longest} if ok else {}, "from_send_ms": {},
        "late_ms": {"p99": 0.1}, "curve": [[1.0, 0.0], [10.0, 50.0], [longest, 100 - 100 / ok]] if ok else [],
        "generator_share": 0.1, "server_cpu": None}
    return Probed(**(values | more))


def stay(served: int, each: int = 60, p99: float = 30.0, clients: int = CLIENTS, **more: Any) -> Result:
    """3 seconds in which so many clients are answered so often, by so much of X·R."""
    ok = served * each
    values: dict[str, Any] = {
        "seconds": 3.0, "ok": ok, "non_2xx": {}, "errors": {}, "starved": clients - served,
        "answers": [0] * (clients - served) + [each] * served, "mean_ms": 3e3 * served / ok if ok else 0.0,
        "p50_ms": p99 / 2, "p99_ms": p99 if ok else 0.0, "max_ms": 2 * p99, "generator_share": 0.3,
        "server_cpu": 1.5}
    return Result(**(values | more))


def record(subject: str, load: Result, come: Probed, block: int = 1, sleep_ms: float = 1.0) -> Record:
    made = Record(Cell.of(subject, connections=len(load.answers), sleep_ms=sleep_ms), block)
    measured(made, load, come, others=0.0)
    return made


def holds(subject: str, served: int = 8, block: int = 1, p99: float = 4.0, **come: Any) -> Record:
    return record(subject, stay(served, each=1000, p99=p99), newcomers(**{"ok": 0, **come}), block)


def parks(subject: str, served: int = CLIENTS, block: int = 1, p99: float = 30.0, **come: Any) -> Record:
    return record(subject, stay(served, p99=p99), newcomers(**come), block)


def says(*records: Record) -> list[Saying]:
    return PRESET.says(Results(records, {"measured_sleep_ms": {"1": 1.09}}))


AS_EXPECTED = [record for block in (1, 2) for record in (
    holds("pool-hold", block=block), parks("pool-park", block=block, longest=30 + block),
    holds("recycling-hold", block=block), parks("recycling-park", block=block, p99=20.0))]


# Of a run.


def test_it_is_the_preset_of_its_name() -> None:
    assert find_preset("starve") is PRESET
    assert set(PRESET.columns) <= set(METRICS)
    cells = PRESET.cells(PRESET.defaults)
    assert len(set(cells)) == len(cells) == 7
    assert (PRESET.defaults.blocks or 0) * sum(PRESET.seconds(cell, PRESET.defaults) for cell in cells) < 120


def test_what_a_run_comes_to() -> None:
    made = record("pool-park", stay(100), newcomers(longest=31.0))
    assert made.metrics == {
        "served": 100, "jain": pytest.approx(1.0), "ok_per_s": 2000.0, "little": pytest.approx(100.0), "p50_ms": 15.0,
        "p99_ms": 30.0, "cpu_us": 250.0, "left_out_percent": 0.0, "newcomer_p99_ms": 30.0, "newcomer_max_ms": 31.0}
    assert (made.flaws, made.failed) == ([], "")
    few = record("pool-hold", stay(8, each=1000), newcomers(ok=0))
    assert few.metrics["served"] == 8
    assert few.metrics["jain"] == pytest.approx(0.08)
    assert any("92 of 100 clients got no answer" in flaw for flaw in few.flaws)


def test_newcomers_that_are_left_out_are_counted_and_have_no_latency() -> None:
    """Whatever became of them; and a p99 of those that are left would be no p99 of them all."""
    some = record("pool-hold", stay(8), newcomers(200, 196, unanswered=1, errors={"reset": 2}, non_2xx={"503": 1}))
    assert some.metrics["left_out_percent"] == 2.0
    assert not {"newcomer_p99_ms", "newcomer_max_ms"} & set(some.metrics)
    one = record("pool-park", stay(100), newcomers(200, 199))
    assert one.metrics["left_out_percent"] == 0.5
    assert "newcomer_p99_ms" in one.metrics
    assert "newcomer_max_ms" not in one.metrics
    assert "left_out_percent" not in record("pool-park", stay(100), newcomers(0, 0)).metrics


def test_nobody_is_answered() -> None:
    none = record("single", stay(0), newcomers(ok=0))
    assert none.metrics["served"] == none.metrics["jain"] == 0
    assert not {"p99_ms", "p50_ms", "cpu_us"} & set(none.metrics)


def test_newcomers_that_came_late_are_noted() -> None:
    assert parks("loop", late_ms={"p99": 12.0}).detail["notes"] == ["newcomers came up to 12 ms late"]
    assert parks("loop", late_ms={"p99": 0.2}).detail["notes"] == []


def test_a_run_is_kept_in_little_room() -> None:
    full = newcomers(1000, 1000, curve=[[float(n), float(n)] for n in range(60)])
    assert len(record("recycling-hold", stay(100, each=99_999), full).to_json()) < 3000


def test_a_run() -> None:
    pytest.importorskip("hdrh")
    options = Options(seconds=0.2, warmup=0.1, rates=(50.0,), timeout=5.0)
    made = PRESET.run(Cell.of("recycling-park", connections=10, sleep_ms=1.0), 1, options)
    assert made.failed == ""
    assert len(made.detail["answers"]) == 10
    assert made.metrics["jain"] == fairness(made.detail["answers"]) > 0
    come = made.detail["newcomers"]
    assert come["scheduled"] >= 1
    assert come["scheduled"] == (come["ok"] + come["unanswered"] + sum(come["errors"].values())
                                 + sum(come["non_2xx"].values()))
    assert PRESET.says(Results([made]))


def test_how_the_subjects_are_set_up_is_told() -> None:
    said = PRESET.setting({"options": {"subjects": ["loop", "pool-hold"]}})
    assert "PooledTaskmaster(threads=8, idle='hold')" in said


def test_what_does_not_serve_is_a_record_that_says_so() -> None:
    made = PRESET.run(Cell.of("nobody", connections=10, sleep_ms=1.0), 1, PRESET.defaults)
    assert "'nobody'" in made.failed


# The sentences.


def test_pairs_differ_by_holding_alone() -> None:
    assert pairs_of(["loop", "pool-hold/h11", "pool-hold", "pool-park/h11", "recycling-park"]) == [
        ("pool-hold/h11", "pool-park/h11")]


def test_shown_if_holding_starves_and_parking_does_not() -> None:
    claim = says(*AS_EXPECTED)[0]
    assert claim.shown is True
    assert claim.text.startswith(f"with {THREADS} threads, 100 clients that keep their connections, and idle=hold, "
                                 "pool-hold serves 8 of 100, and 80 of 80 newcomers are left out, which waited for "
                                 "more than 1,000 ms; recycling-hold serves 8 of 100")
    assert "With idle=park pool-park serves 100 of 100, and newcomers wait for 32 ms at most; " in claim.text


@pytest.mark.parametrize("records", [
    [holds("pool-hold", served=100), parks("pool-park")],  # everybody is served by both
    [holds("pool-hold"), parks("pool-park", served=99)],  # parking leaves one out
    [holds("pool-hold", served=60), parks("pool-park")],  # not by a clear factor
    [holds("pool-hold", ok=40), parks("pool-park")],  # newcomers come through, all the same
    [holds("pool-hold"), parks("pool-park", ok=30)],  # or not even with parking
    [*AS_EXPECTED, holds("recycling-hold", served=100, block=3)],  # not in every run
])
def test_not_shown(records: list[Record]) -> None:
    assert says(*records)[0].shown is False


@pytest.mark.parametrize(("records", "why"), [
    ([parks("loop")], "takes a model with idle=hold"),
    ([holds("pool-hold"), parks("recycling-park")], "takes a model with idle=hold"),
    ([holds("pool-hold"), Record(parks("pool-park").cell, 1, failed="it did not start")], "no figures of pool-park"),
    ([holds("pool-hold"), parks("pool-park", came=0, ok=0)], "no figures of pool-park"),
    ([record(name, stay(8, clients=8), newcomers()) for name in ("pool-hold", "pool-park")], "each may have one"),
])
def test_what_cannot_be_judged_is_no_claim(records: list[Record], why: str) -> None:
    claim = says(*records)[0]
    assert claim.shown is None
    assert why in claim.text


def test_those_that_got_something_else_than_an_answer_did_not_wait() -> None:
    refused = holds("thread", unanswered=0, non_2xx={"503": 30}, errors={"reset": 10})
    [said] = [saying.text for saying in says(refused) if "thread serves" in saying.text]
    assert "40 of 40 newcomers are left out: 30 got a 503, 10 ended in reset." in said
    both = holds("thread", ok=10, unanswered=1, non_2xx={"503": 29}, longest=700.0)
    [said] = [saying.text for saying in says(both) if "thread serves" in saying.text]
    assert ("30 of 40 newcomers are left out: 1 waited for more than 1,000 ms, 29 got a 503 (those that are answered "
            "wait for 700 ms at most).") in said


def test_the_lowest_p99_is_that_of_a_model_that_starves() -> None:
    best = says(*AS_EXPECTED)[1]
    assert best.shown is True
    assert "the lowest p99, 4.0 ms, is that of pool-hold, which serves 8 of 100 clients" in best.text
    assert "Of the models that serve all, recycling-park has the lowest, 20.0 ms." in best.text


def test_the_lowest_p99_is_not_that_of_a_model_that_starves() -> None:
    slow = says(holds("pool-hold", p99=90.0), parks("pool-park"))[1]
    assert slow.shown is False
    assert "is that of pool-park, which serves 100 of 100" in slow.text
    overlap = says(holds("pool-hold"), holds("pool-hold", block=2, p99=31.0), parks("pool-park"))[1]
    assert overlap.shown is False


def test_p99_of_models_that_all_starve_or_of_none_is_no_claim() -> None:
    none = says(holds("pool-hold"), holds("single", served=1))[1]
    assert none.shown is None
    assert "no model here serves all" in none.text
    assert says(parks("loop"), parks("pool-park"))[1].text == (
        "p99 can be compared here: all models serve all clients.")


def test_the_rest() -> None:
    text = "\n".join(saying.text for saying in says(*AS_EXPECTED, parks("loop"), holds("single", served=1)))
    assert "pool-hold 8.0, pool-park 100.0" in text  # X·R
    assert "The others: loop serves 100 of 100" in text
    assert "single serves 1 of 100" in text
    assert "100 x 1.09 ms = 109 ms" in text
    assert "pool-park uses 250 us of CPU for a response, pool-hold 188" in text


def test_who_disturbed_is_told() -> None:
    disturbed = parks("loop", block=2)
    disturbed.detail["others"] = 0.42
    assert says(parks("loop"), disturbed)[-1].text.startswith(
        "In 1 of 2 runs others had more than 10 % of the server's core, up to 42 %: ")
    assert "others had" not in says(parks("loop"))[-1].text


def test_several_loads_have_a_heading_each() -> None:
    more = [record("pool-hold", stay(8, clients=400), newcomers()), record("pool-park", stay(400, clients=400),
                                                                          newcomers())]
    assert {saying.heading for saying in says(*AS_EXPECTED, *more)} == {"Connections 100, sleep 1 ms",
                                                                        "Connections 400, sleep 1 ms"}
    assert {saying.heading for saying in says(*AS_EXPECTED)} == {""}


@st.composite
def records(draw: st.DrawFn) -> Record:
    clients = draw(st.sampled_from([1, 8, 100]))
    came = draw(st.integers(0, 50))
    ok = draw(st.integers(0, came))
    cell = Cell.of(draw(st.sampled_from(["loop", "pool-hold", "pool-park", "pkg.mod:Class"])), connections=clients,
                   sleep_ms=draw(st.sampled_from([0.0, 1.0])))
    block = draw(st.integers(1, 3))
    if draw(st.booleans()):
        return Record(cell, block, failed="it did not start")
    made = Record(cell, block)
    measured(made, stay(draw(st.integers(0, clients)), clients=clients, each=draw(st.integers(1, 1000))),
             newcomers(came, ok, errors={"reset": came - ok}, unanswered=0), others=0.5)
    return made


@given(st.lists(records()))
def test_there_is_something_to_say_of_any_records(made: list[Record]) -> None:
    results = Results(map(Record.from_json, map(Record.to_json, made)), {"measured_sleep_ms": {"1": 1.09}})
    said = PRESET.says(results)
    assert len(said) >= len({each.cell.axes for each in made})
    assert all(saying.text and "nan" not in saying.text for saying in said)


# The figure.


def test_the_figure_names_what_is_hollow_and_counts_who_was_answered() -> None:
    pytest.importorskip("matplotlib")
    [drawing] = PRESET.figures(Results(AS_EXPECTED))
    assert drawing.svg.startswith("<svg")
    for text in ("8 of 100 served, Jain 0.080", "100 of 100 served, Jain 1.000", "pool-hold: 0 of 80 answered",
                 "pool-park: 80 of 80 answered"):
        assert text in drawing.svg
    assert "pool-hold: 92 of 100 clients got no answer at all" in drawing.caption
    assert "pool-park" not in drawing.caption


def test_the_figure_of_next_to_nothing() -> None:
    pytest.importorskip("matplotlib")
    failed = Record(parks("pool-park").cell, 1, failed="it did not start")
    [drawing] = PRESET.figures(Results([failed, record("loop", stay(0), newcomers(ok=0))]))
    assert "no figures" in drawing.svg
    assert "pool-park: failed: it did not start" in drawing.caption
