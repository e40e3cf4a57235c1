"""The preset `slow`: that slow clients are slow and count rightly, and that it says what its records say, any records.

No figure is judged here, and none is timed.
"""

from __future__ import annotations

import json
import socket
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.children import ChildError, running
from bench.clients.slow import REQUEST, SlowClients, Told
from bench.lab.metrics import METRICS
from bench.lab.preset import Options
from bench.lab.record import Cell, Record, Results
from bench.presets import find_preset
from bench.presets.slow import GOOD, INTERVAL_MS, PRESET, THREADS
from tests.scripted_server import HELLO, scripted

TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


# The clients, against a server that follows a script.


def send(port: int, seconds: float = 0.3, clients: int = 1, interval: float = 0.001) -> Told:
    with SlowClients(port, clients, interval) as slow:
        slow.run(seconds)
        return slow.told(seconds)


def request(sock: socket.socket) -> bytes:
    """The next one that comes; what has come of it if the client leaves."""
    received = b""
    while not received.endswith(b"\r\n\r\n") and (data := sock.recv(4096)):
        received += data
    return received


def test_each_byte_comes_alone_and_a_client_that_is_answered_asks_again_on_its_connection() -> None:
    pieces: list[bytes] = []
    connections = []

    def serve(sock: socket.socket) -> None:
        connections.append(sock)
        while data := sock.recv(4096):
            pieces.append(data)
            if b"".join(pieces).endswith(b"\r\n\r\n"):
                sock.sendall(HELLO)

    with scripted(serve) as port:
        told = send(port, interval=0.003)
    assert len(connections) == 1
    assert b"".join(pieces).startswith(REQUEST)
    assert len(pieces) > 5  # some meet on a busy machine
    assert told.answered >= 1
    assert told.answered <= told.asked <= told.answered + 1
    assert (told.others, told.cut, told.served, told.clients) == ({}, 0, 1, 1)
    assert told.bytes >= len(REQUEST) * told.asked
    assert told.interval_ms >= 3.0


def test_who_waits_for_an_answer_sends_nothing() -> None:
    received = []

    def serve(sock: socket.socket) -> None:
        received.append(request(sock))
        received.append(sock.recv(4096))  # blocks until the client leaves

    with scripted(serve) as port:
        told = send(port)
    assert received == [REQUEST, b""]
    assert (told.asked, told.answered, told.served, told.bytes) == (1, 0, 0, len(REQUEST))


def test_an_answer_to_half_a_request_is_told_by_its_status_and_the_client_comes_again() -> None:
    connections = []

    def serve(sock: socket.socket) -> None:
        connections.append(sock)
        sock.recv(1)
        if len(connections) == 1:
            sock.sendall(TOO_SLOW)
            sock.recv(4096)
            return
        request(sock)
        sock.sendall(HELLO)
        sock.recv(4096)

    with scripted(serve) as port:
        told = send(port)
    assert len(connections) >= 2
    assert told.others == {"408": 1}
    assert told.served == 1


def test_a_connection_that_ends_in_the_middle_of_a_request_is_cut() -> None:
    with scripted(lambda sock: sock.recv(1)) as port:
        told = send(port)
    assert told.cut >= 2
    assert (told.asked, told.answered, told.others) == (0, 0, {})


def test_an_idle_connection_may_be_closed() -> None:
    connections = []

    def serve(sock: socket.socket) -> None:
        connections.append(sock)
        request(sock)
        sock.sendall(HELLO)
        sock.shutdown(socket.SHUT_WR)
        sock.recv(4096)

    with scripted(serve) as port:
        told = send(port, interval=0.002)
    assert len(connections) >= 2
    assert (told.cut, told.others) == (0, {})
    assert told.answered >= 1


def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        told = send(unused.getsockname()[1], seconds=0.05)
    assert told.cut >= 1
    assert told.bytes == 0


def test_the_program_says_when_it_has_begun_and_ends_with_its_input() -> None:
    def serve(sock: socket.socket) -> None:
        sock.recv(1)
        sock.recv(4096)

    with scripted(serve) as port, running(["bench.clients.slow", "--port", str(port), "--clients", "1", "--interval-ms",
                                           "5", "--duration", "600"]) as child:
        assert child.line(30) == "1 clients"
        child.close_input()
        told = Told(**json.loads(child.line(30)))
    assert told.bytes >= 1
    assert told.seconds < 60


def test_without_an_input_to_end_with_it_ends_after_its_time() -> None:
    with scripted(lambda sock: None) as port, running(
            ["sh", "-c", 'exec "$0" -m bench.clients.slow --port "$1" --interval-ms 1 --duration 0.05 </dev/null',
             sys.executable, str(port)]) as child:
        assert child.line(30) == "8 clients"
        assert Told(**json.loads(child.line(30))).clients == 8


@pytest.mark.parametrize("argument", ["--clients=0", "--interval-ms=0"])
def test_what_cannot_be_is_refused_with_the_fix(argument: str) -> None:
    with running(["bench.clients.slow", "--port", "1", argument]) as child, pytest.raises(ChildError, match="at least"):
        child.line(30)


# Made-up records.


def record(subject: str, slow: int, rate: float, block: int = 1, *, flaws: tuple[str, ...] = (),
           cpu_percent: float = 40.0, sleep_ms: float = 3.0) -> Record:
    metrics = {"ok_per_s": rate, "served": float(GOOD), "cpu_percent": cpu_percent, "threads": 8.0, "little": 16.0}
    if rate:
        metrics |= {"p50_ms": 6.0, "p99_ms": 9.0}
    detail = {}
    if slow:
        metrics["slow_served"] = float(slow)
        detail = {"slow": {"asked": 9, "answered": 9, "cut": 0, "others": {}, "bytes_per_s": 100.0 * slow,
                           "interval_ms": 10.2}}
    return Record(Cell.of(subject, slow_clients=slow, sleep_ms=sleep_ms), block, metrics, detail, list(flaws))


def family(name: str, hold: dict[int, float], park: dict[int, float]) -> list[Record]:
    return [record(f"{name}-{kind}", slow, rate, flaws=() if rate else ("no answer at all",))
            for kind, rates in (("hold", hold), ("park", park)) for slow, rate in rates.items()]


AS_EXPECTED = (family("pool", {0: 2400, 4: 1200, 8: 0, 64: 0}, {0: 2400, 4: 2300, 8: 2200, 64: 900})
               + family("recycling", {0: 2400, 4: 1200, 8: 0, 64: 0}, {0: 2400, 4: 2350, 8: 2300, 64: 2000}))


def first(records: list[Record]) -> tuple[bool | None, str]:
    said = PRESET.says(Results(records))[0]
    return said.shown, said.text


def test_it_is_the_preset_of_its_name() -> None:
    assert find_preset("slow") is PRESET
    assert set(PRESET.columns) <= set(METRICS)
    cells = PRESET.cells(PRESET.defaults)
    assert len(set(cells)) == len(cells) == 4 * 7
    assert (PRESET.defaults.blocks or 0) * sum(PRESET.seconds(cell, PRESET.defaults) for cell in cells) < 120


def test_shown_if_holding_loses_threads_and_parking_does_not() -> None:
    shown, text = first(AS_EXPECTED)
    assert shown is True
    assert text == ("with 8 slow clients, 8 threads that hold their connections have so many responses a second left "
                    "for the others: pool-hold 0 of 2,400, recycling-hold 0 of 2,400; threads that park them: "
                    "pool-park 2,200 of 2,400, recycling-park 2,300 of 2,400.")


@pytest.mark.parametrize("records", [
    family("pool", {0: 2400, 8: 2300}, {0: 2400, 8: 2200}),  # holding loses nothing
    family("pool", {0: 2400, 8: 100}, {0: 2400, 8: 600}),  # parking loses most, too
    family("pool", {0: 2400, 8: 1200}, {0: 2400, 8: 2000}),  # not by a clear factor
    [*family("pool", {8: 100}, {8: 1500}), record("pool-hold", 8, 1600, block=2)],  # runs overlap
    [*AS_EXPECTED, record("recycling-hold", 8, 2300, block=2)],  # one of two families does not bear it out
])
def test_not_shown(records: list[Record]) -> None:
    assert first(records)[0] is False


@pytest.mark.parametrize(("records", "why"), [
    ([], ""),
    ([record("loop", 8, 250)], "takes a model with idle=hold"),
    (family("pool", {0: 2400, 4: 1200}, {0: 2400, 4: 2300}), "at least 8 slow clients"),
    (family("pool", {8: 0}, {8: 0}), "pool-park: no answer at all"),
    ([record("pool-hold", 8, 0), record("pool-park", 8, 2000, flaws=("12 reset",))], "pool-park: 12 reset"),
    ([Record(Cell.of("pool-hold", slow_clients=8, sleep_ms=3.0), 1, failed="it did not start"),
      record("pool-park", 8, 2000)], "pool-hold has no figures"),
])
def test_what_cannot_be_judged_is_no_claim(records: list[Record], why: str) -> None:
    if not records:
        assert PRESET.says(Results([])) == []
        return
    shown, text = first(records)
    assert shown is None
    assert why in text


def test_without_figures_of_before_the_difference_still_counts() -> None:
    shown, text = first(family("pool", {8: 10}, {8: 2000}))
    assert shown is True
    assert "pool-hold 10;" in text


def test_what_is_left_with_some_threads_lost_and_what_a_byte_costs() -> None:
    records = [*AS_EXPECTED, record("single", 0, 300), record("single", 4, 0)]
    [cost] = [each for each in records if (each.cell.subject, each.cell["slow_clients"]) == ("pool-park", 64)]
    cost.metrics["cpu_percent"] = 15 + 32  # 15 of 40 for 900 of 2400 responses; 32 % are 320,000 us for 6,400 bytes
    _, some, nobody, price, themselves = (saying.text for saying in PRESET.says(Results(records)))
    assert "4 of 8 threads are left to those that hold, 50 %" in some
    assert "pool-hold 50 %, pool-park 96 %" in some
    assert nobody == "4 slow clients are enough for nobody else to be answered by single."
    assert "pool-park keeps 38 % of its responses, and spends about 50 us of CPU on a byte" in price
    assert "pool-hold" not in price  # it is flawed
    assert "recycling-park 64" in themselves


def test_several_sleeps_have_a_heading_each() -> None:
    records = [*family("pool", {8: 0}, {8: 2000}), record("pool-hold", 8, 10, sleep_ms=1.0)]
    assert {saying.heading for saying in PRESET.says(Results(records))} == {
        "The handler sleeps 3 ms", "The handler sleeps 1 ms"}


@given(st.lists(st.builds(
    record, st.sampled_from(["single", "pool-hold", "pool-park", "pkg.mod:Class"]), st.sampled_from([0, 1, 8, 64]),
    st.floats(0, 1e6), st.integers(1, 3), flaws=st.sampled_from([(), ("3 reset",)]),
    cpu_percent=st.floats(0, 100), sleep_ms=st.sampled_from([0.0, 3.0]))))
def test_there_is_something_to_say_of_any_records(records: list[Record]) -> None:
    results = Results(map(Record.from_json, map(Record.to_json, records)))
    said = PRESET.says(results)
    assert len(said) >= len({each.cell["sleep_ms"] for each in records})
    assert all(saying.text and "nan" not in saying.text for saying in said)


def test_the_figure_names_what_is_hollow() -> None:
    pytest.importorskip("matplotlib")
    [drawing] = PRESET.figures(Results(AS_EXPECTED))
    assert drawing.svg.startswith("<svg")
    assert "higher is better" in drawing.svg
    assert "lower is better" in drawing.svg
    assert "pool-hold with 8 and 64, recycling-hold with 8 and 64 slow clients: no answer at all" in drawing.caption
    assert "pool-park" not in drawing.caption


def test_the_figure_of_next_to_nothing() -> None:
    pytest.importorskip("matplotlib")
    failed = Record(Cell.of("single", slow_clients=8, sleep_ms=3.0), 1, failed="it did not start")
    [drawing] = PRESET.figures(Results([failed]))
    assert "single with 8 slow clients: failed: it did not start" in drawing.caption


# A run.


def test_a_run_of_each_kind() -> None:
    options = Options(seconds=0.1, warmup=0.05, timeout=5.0)
    parks = PRESET.run(Cell.of("recycling-park", slow_clients=2, sleep_ms=1.0), 1, options)
    assert parks.failed == ""
    assert parks.metrics["ok_per_s"] > 0
    assert 0 < parks.metrics["served"] <= GOOD
    assert parks.detail["slow"]["bytes_per_s"] > 0
    assert parks.detail["slow"]["interval_ms"] >= INTERVAL_MS
    alone = PRESET.run(Cell.of("recycling-park", slow_clients=0, sleep_ms=1.0), 2, options)
    assert "slow" not in alone.detail
    assert alone.block == 2
    assert alone.metrics["threads"] in (0, THREADS)  # 0: it was over before anybody looked
    assert len(parks.to_json()) < 2000


def test_how_the_subjects_are_set_up_is_told() -> None:
    said = PRESET.setting({"options": {"subjects": ["loop", "pool-hold"]}})
    assert "PooledTaskmaster(threads=8, idle='hold')" in said


def test_what_does_not_serve_is_a_record_that_says_so() -> None:
    made = PRESET.run(Cell.of("nobody", slow_clients=0, sleep_ms=1.0), 1, PRESET.defaults)
    assert "'nobody'" in made.failed
