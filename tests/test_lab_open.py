"""The preset `open`: that it says and draws what the records say. Records are made up; one run is real."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.clients.probe import Probed
from bench.lab.preset import Options, Saying
from bench.lab.record import Cell, Record, Results
from bench.presets.open import LOADS, PRESET, flaws_of_probed

SUBJECTS = ("thread", "recycling-park", "loop")
SLOWEST = 800.0


def cell_of(subject: str, level: float | None, keep_alive: bool = True) -> Cell:
    if level is None:
        return Cell.of(subject, keep_alive=keep_alive, sleep_ms=1.0, clients=100)
    axis = "load" if level <= 1 else "requests_per_s"
    return Cell.of(subject, keep_alive=keep_alive, sleep_ms=1.0, **{axis: level})


def record_of(subject: str, level: float | None, p99_ms: float, *, block: int = 1, able: float = 4000.0,
              keep_alive: bool = True) -> Record:
    cell = cell_of(subject, level, keep_alive)
    if level is None:
        return Record(cell, block, {"ok_per_s": able, "p50_ms": p99_ms / 2, "p99_ms": p99_ms},
                      {"load": {}, "others": 0.0})
    rate = level * SLOWEST if level <= 1 else level
    curve = [[p99_ms / 3, 0.0], [p99_ms / 2, 50.0], [p99_ms, 99.0], [p99_ms * 1.5, 99.9]]
    return Record(cell, block, {"ok_per_s": rate, "p50_ms": p99_ms / 2, "p99_ms": p99_ms, "late_p99_ms": 0.1},
                  {"rate": rate, "mean_ms": p99_ms / 2, "curve": curve, "others": 0.0})


def expected(blocks: int = 3, levels: Sequence[float] = LOADS) -> list[Record]:
    """What is predicted."""
    records = []
    for block in range(1, blocks + 1):
        for level in levels:
            share = level if level <= 1 else level / SLOWEST
            records += [record_of("thread", level, 2.0 + 0.1 * block, block=block),
                        record_of("recycling-park", level, 1.95 + 0.1 * block, block=block),
                        record_of("loop", level, 2.0 / (1 - share) + 0.1 * block, block=block)]
        records += [record_of("thread", None, 40.0, block=block),
                    record_of("recycling-park", None, 30.0 + block, block=block),
                    record_of("loop", None, 125.0 + block, block=block, able=SLOWEST)]
    return records


def says(records: Sequence[Record]) -> list[Saying]:
    return PRESET.says(Results(records))


def test_the_effect_is_shown_with_its_figures() -> None:
    first, hidden, *others = says(expected())
    assert first.shown
    assert "720 requests/s (90% of what the slowest can do)" in first.text
    assert "lowest with recycling-park, 2.15 ms (2.05–2.25), and highest with loop, 20.20 ms (20.10–20.30): 9.4" in (
        first.text)
    assert "Not told apart from recycling-park: thread (2.20)." in first.text
    assert hidden.shown
    assert ("with 100 clients the p99 of recycling-park is 32.00 ms (31.00–33.00), and that of loop 127.00 ms "
            "(126.00–128.00), 4.0 times as long") in hidden.text
    assert "25 and 125 ms on average" in hidden.text
    assert any("p99 at 240 requests/s" in other.text and "loop 3.06 and 20.20 ms" in other.text for other in others)
    assert all(other.shown is None for other in others)


def test_the_queue_is_held_against_theory() -> None:
    queue = next(saying for saying in says(expected()) if "Pollaczek" in saying.text)
    # 1/800 s of work; at 90 % a wait of 0.9 / (2 x 0.1) times that.
    assert "6.9 ms at 90%, measured 10.1" in queue.text


def test_no_difference_is_not_shown() -> None:
    records = [replace(record, metrics=record.metrics | {"p99_ms": 2.0 + 0.1 * record.block})
               for record in expected()]
    first, *others = says(records)
    assert first.shown is False
    assert "which is no clear difference" in first.text
    assert not any("closed loop hides" in other.text for other in others)


def test_runs_that_overlap_are_no_difference_however_far_their_medians() -> None:
    records = expected()
    for record in records:
        if record.cell == cell_of("loop", 0.9) and record.block == 1:
            record.metrics["p99_ms"] = 2.1
    assert says(records)[0].shown is False


def test_a_closed_loop_that_shows_as_much_hides_nothing() -> None:
    records = expected()
    for record in records:
        if record.cell == cell_of("loop", None):
            record.metrics["p99_ms"] *= 3
    hidden = says(records)[1]
    assert "a closed loop hides that" in hidden.text
    assert hidden.shown is False


def test_what_is_flawed_is_left_out_and_named() -> None:
    records = expected()
    next(record for record in records if record.cell == cell_of("loop", 0.9)).flaws.append("17 timeout")
    first = says(records)[0]
    assert "loop" not in first.text.partition("Left out")[0]
    assert "Left out, for the reasons in the table: loop." in first.text
    assert first.shown is False  # the other two are alike


def test_one_subject_alone_compares_with_nobody() -> None:
    first = says([record for record in expected() if record.cell.subject == "loop"])[0]
    assert first.shown is None
    assert "cannot be said" in first.text


def test_without_a_closed_loop_nothing_is_said_of_it() -> None:
    first, hidden, *_ = says([record for record in expected() if "clients" not in dict(record.cell.axes)])
    assert first.shown
    assert hidden.shown is None
    assert "cannot be said" in hidden.text


def test_one_block_is_said_to_be_one() -> None:
    assert "one run of each, so it may be chance" in says(expected(blocks=1))[0].text


def test_rates_that_turn_out_to_be_another_share_are_said() -> None:
    records = expected()
    for record in records:
        if record.cell == cell_of("loop", None):
            record.metrics["ok_per_s"] = 1000.0
    assert any("What was to be 90% of what the slowest can do has turned out to be 72%" in saying.text
               for saying in says(records))


def test_more_than_the_slowest_can_do_is_said() -> None:
    records = expected(levels=(240.0, 900.0 - 300))
    for record in records:
        if record.cell == cell_of("loop", None):
            record.metrics["ok_per_s"] = 500.0
    assert any("600 requests/s are more than loop can do, which did 500" in saying.text for saying in says(records))


def test_for_given_rates_better_ones_are_proposed() -> None:
    assert any("The highest rate is 50% of what the slowest, loop, did" in saying.text
               and "--rates 240,400,560,720" in saying.text for saying in says(expected(levels=(100.0, 400.0))))


def test_each_kind_of_load_has_its_heading() -> None:
    records = expected()
    assert {saying.heading for saying in says(records)} == {""}
    off = [replace(record, cell=Cell(record.cell.subject, (("keep_alive", False), *record.cell.axes[1:])))
           for record in records]
    headings = [saying.heading for saying in says(records + off)]
    assert list(dict.fromkeys(headings)) == ["Keep-alive on, the handler sleeps 1 ms",
                                             "Keep-alive off, the handler sleeps 1 ms"]


@st.composite
def any_record(draw: st.DrawFn) -> Record:
    record = record_of(draw(st.sampled_from(SUBJECTS)), draw(st.sampled_from([0.3, 0.9, 500.0, None])),
                       draw(st.floats(0.5, 1e4)), block=draw(st.integers(1, 3)))
    match draw(st.sampled_from(["fit", "fit", "flawed", "bare", "failed"])):
        case "flawed":
            record.flaws = ["1 reset"]
        case "bare":
            record.metrics, record.detail = {}, {}
        case "failed":
            return Record(record.cell, record.block, failed="it did not start")
    return record


@settings(max_examples=60, deadline=None)
@given(st.lists(any_record(), max_size=20))
def test_of_any_records_there_is_something_to_say(records: list[Record]) -> None:
    said = says(records)
    assert said
    assert all(saying.text for saying in said)
    PRESET.table(Results(records))
    json.dumps([asdict(record) for record in records])


# Figures.


def test_figures_are_drawn_with_flawed_runs_told_apart() -> None:
    pytest.importorskip("matplotlib")
    records = expected(blocks=1, levels=(0.9,))
    percentiles, tails = PRESET.figures(Results(records))
    assert (percentiles.name, tails.name) == ("percentiles-on-1", "tails-on-1")
    assert "lower is better" in percentiles.svg
    assert "lower is better" in tails.svg
    assert "99.9 %" in percentiles.svg
    assert "720 requests/s" in percentiles.svg
    assert "closed loop, 100 clients" in tails.svg
    records[0].flaws.append("1 reset")
    dashed, hollow = PRESET.figures(Results(records))
    assert dashed.svg.count("stroke-dasharray") == percentiles.svg.count("stroke-dasharray") + 1
    assert hollow.svg != tails.svg


def test_of_runs_that_failed_there_are_no_figures() -> None:
    pytest.importorskip("matplotlib")
    assert PRESET.figures(Results([Record(cell_of("loop", 0.3), 1, failed="it did not start")])) == []


# The plan, and runs.


def test_cells_are_planned_before_anything_is_measured() -> None:
    cells = PRESET.cells(PRESET.defaults)
    assert len(cells) == len(set(cells)) == 6 * (len(LOADS) + 1)
    assert cell_of("loop", 0.9) in cells
    assert cell_of("loop", None) in cells
    given = PRESET.cells(replace(PRESET.defaults, rates=(100.0,), keep_alive=(True, False)))
    assert len(given) == 6 * 2 * 2
    assert cell_of("thread", 100.0) in given


def test_with_given_rates_nothing_has_to_be_found_out() -> None:
    options = replace(PRESET.defaults, rates=(100.0,))
    assert PRESET.prepare(options) is options


def test_the_slowest_is_found_out_of_the_better_run_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    able = {"thread": iter([3000.0, 4000.0]), "loop": iter([500.0, 800.0]), "single": iter([100.0, 100.0])}

    def run(cell: Cell, block: int, options: Options) -> Record:
        record = record_of(cell.subject, None, 10.0, able=next(able[cell.subject]))
        return replace(record, flaws=["99 of 100 clients got no answer at all"] if cell.subject == "single" else [])

    monkeypatch.setattr(PRESET, "run", run)
    options = PRESET.prepare(replace(PRESET.defaults, subjects=("single", "thread", "loop")))
    assert options.more == {"able_per_s": {"on:1": {"thread": 4000.0, "loop": 800.0}}}
    assert PRESET.cells(options) == PRESET.cells(replace(options, more={}))
    assert json.loads(json.dumps(asdict(options)))["more"] == options.more


def test_if_nobody_can_be_measured_rates_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PRESET, "run", lambda cell, block, options: Record(cell, block, failed="no such module"))
    with pytest.raises(ValueError, match=r"thread: no such module\): give --rates"):
        PRESET.prepare(replace(PRESET.defaults, subjects=("thread",)))


def test_a_load_of_which_nobody_knows_the_rate_is_a_failed_run() -> None:
    record = PRESET.run(cell_of("loop", 0.9), 1, PRESET.defaults)
    assert "give --rates" in record.failed


def probed(**changes: object) -> Probed:
    latency = {"mean": 1.5, "p50": 1.4, "p90": 1.7, "p99": 2.0, "p99.9": 3.0, "max": 4.0}
    late = dict.fromkeys(latency, 0.1)
    whole = Probed(5.0, 1000, 1000, 1000, {}, {}, 0, 4, latency, latency, late, [[1.4, 50.0]], 0.1, 0.2)
    return replace(whole, **changes)  # type: ignore[arg-type]


def test_flaws_are_what_was_not_answered_well() -> None:
    assert flaws_of_probed(probed()) == []
    assert flaws_of_probed(probed(non_2xx={"503": 1200}, errors={"timeout": 3}, unanswered=2)) == [
        "1,200 responses 503", "3 timeout", "2 of 1,000 requests not answered"]
    assert flaws_of_probed(probed(ok=0, latency_ms={}, errors={"connect": 1000})) == [
        "1,000 connect", "no answer at all"]


def test_of_runs_in_which_the_probe_was_late_the_least_late_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    late = iter([3.0, 1.5, 2.0])

    class Server:
        port = pid = most_threads = 1
        look = others = staticmethod(lambda: 0.0)

    monkeypatch.setattr("bench.presets.open.serving", lambda *_: nullcontext(Server()))
    monkeypatch.setattr("bench.presets.open._probe",
                        lambda *_: probed(late_ms=dict.fromkeys(probed().late_ms, next(late))))
    options = replace(PRESET.defaults, subjects=("thread",), rates=(100.0,))
    record = PRESET.run(cell_of("thread", 100.0), 1, options)
    assert record.metrics["late_p99_ms"] == 1.5
    assert record.flaws == ["the probe itself was late: 1 % of the requests by 1.5 ms or more"]
    assert record.detail["tries"] == 3


def test_a_real_run_at_a_rate_and_one_in_a_closed_loop() -> None:
    options = replace(PRESET.defaults, subjects=("recycling-park",), rates=(100.0,), seconds=0.1, warmup=0.0,
                      connections=(2,))
    for cell in PRESET.cells(options):
        record = PRESET.run(cell, 1, options)
        assert not record.failed
        assert record.metrics["ok_per_s"] > 0
        assert record.metrics["p99_ms"] > 0.5
        assert len(record.to_json()) < 4000
