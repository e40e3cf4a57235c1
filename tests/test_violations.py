"""Violations: allowed by name, counted, and logged once per burst, in a form that no log can be broken with."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from acceptor import violations
from acceptor.settings import Limits
from acceptor.violations import Compliance, ProtocolError, Violation, printable
from acceptor.wire import H11Wire
from tests.test_wire import anything

PEER = "192.0.2.1:50000"


# The rules themselves.

@pytest.mark.parametrize("violation", Violation, ids=lambda violation: violation.name)
def test_a_violation_says_what_was_done_its_name_and_where_the_rule_stands(violation: Violation) -> None:
    assert re.fullmatch(r"91(10|12) \d+(\.\d+)*", violation.section)
    assert violation.status == {"UNUSUAL_METHOD": 501, "UNKNOWN_EXPECTATION": 417}.get(violation.name, 400)
    assert str(violation) == f"{violation.text} (Violation.{violation.name}, RFC {violation.section})"


def test_no_two_violations_are_one() -> None:
    """Members of an enum with equal values would be aliases, and be allowed together."""
    assert len(Violation) == len(Violation.__members__) == 13
    assert len({violation.text for violation in Violation}) == 13


# What is allowed.

@pytest.mark.parametrize("allow", [
    [Violation.OBS_FOLD, Violation.BARE_LF], (Violation.OBS_FOLD, Violation.BARE_LF), {"OBS_FOLD", "BARE_LF"},
    ["obs_fold", "bare-lf"], ["Obs-Fold", Violation.BARE_LF, "BARE_LF"], iter(["OBS-FOLD", "BARE-LF"]),
], ids=["list", "tuple", "set of names", "in any form", "mixed and twice", "iterator"])
def test_violations_are_allowed_by_themselves_or_by_name(allow: Any) -> None:
    assert Compliance(allow).allowed == {Violation.OBS_FOLD, Violation.BARE_LF}


def test_nothing_is_allowed_at_first_and_everything_can_be() -> None:
    assert Compliance().allowed == frozenset()
    assert Compliance(Violation).allowed == set(Violation)


@pytest.mark.parametrize("allow", [Violation.OBS_FOLD, "OBS_FOLD", None, 5, True], ids=repr)
def test_what_is_no_list_of_violations_is_refused_with_an_example(allow: Any) -> None:
    words = re.escape(f"allow={allow!r}: pass a list, such as allow=[Violation.OBS_FOLD]")
    with pytest.raises(TypeError, match=f"^{words}$"):
        Compliance(allow)


@pytest.mark.parametrize("wrong", [5, None, b"OBS_FOLD", ["OBS_FOLD"], True], ids=repr)
def test_what_is_no_violation_is_refused_with_an_example(wrong: Any) -> None:
    words = re.escape(f"allow: {wrong!r} ({type(wrong).__name__}) is no violation; pass Violation.OBS_FOLD, for ex")
    with pytest.raises(TypeError, match=f"^{words}"):
        Compliance([Violation.BARE_LF, wrong])


@pytest.mark.parametrize("wrong", ["", "OBSFOLD", "obs fold", "name", "__class__", "ÖBS_FOLD"])
def test_a_name_that_there_is_not_is_refused_with_those_there_are(wrong: str) -> None:
    with pytest.raises(ValueError, match=f"^allow: there is no violation {wrong!r}; there are ") as caught:
        Compliance([wrong])
    assert str(caught.value).partition("there are ")[2].split(", ") == [violation.name for violation in Violation]


# What is seen.

@given(st.lists(st.sampled_from(Violation)), st.sets(st.sampled_from(Violation)))
def test_what_is_seen_is_counted_and_refused_unless_it_is_allowed(
        seen: list[Violation], allow: set[Violation]) -> None:
    compliance = Compliance(allow)
    for violation in seen:
        if violation in allow:
            compliance.saw(violation)
            continue
        with pytest.raises(ProtocolError) as caught:
            compliance.saw(violation)
        error = caught.value
        assert (error.status, error.violation, str(error)) == (violation.status, violation, str(violation))
    assert compliance.counts == {violation: seen.count(violation) for violation in seen}


def test_the_counts_are_a_copy() -> None:
    compliance = Compliance(Violation)
    before = compliance.counts
    compliance.saw(Violation.BARE_LF)
    assert before == {}
    compliance.counts.clear()  # type: ignore[attr-defined]
    assert compliance.counts == {Violation.BARE_LF: 1}


class MeetingPoint(dict[Any, Any]):
    """Whoever has read a value waits for the others, before anybody can write: without a lock all read the same."""

    def __init__(self, threads: int) -> None:
        super().__init__()
        self._all_here = threading.Barrier(threads)

    def __getitem__(self, key: object) -> Any:
        return self.get(key, 0)

    def get(self, key: object, default: Any = None) -> Any:
        value = super().get(key, default)
        try:
            self._all_here.wait(0.05)
        except threading.BrokenBarrierError:  # under a lock nobody comes, and nobody waits again
            pass
        return value


def run_at_once(action: Callable[[], object], threads: int) -> None:
    running = [threading.Thread(target=action) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


def test_counting_by_many_threads_loses_nothing() -> None:
    compliance = Compliance(Violation)
    compliance._counts = MeetingPoint(4)  # type: ignore[assignment]
    run_at_once(lambda: compliance.saw(Violation.BARE_LF), 4)
    assert compliance.counts == {Violation.BARE_LF: 4}


def test_of_many_threads_at_once_one_logs(caplog: pytest.LogCaptureFixture) -> None:
    compliance = Compliance()
    compliance._logged = MeetingPoint(4)
    run_at_once(lambda: compliance.log_refusal(PEER, ProtocolError(400, "a")), 4)
    assert len(lines_of(caplog)) == 1


# What is logged.

class Clock:
    """A clock that tests can set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(violations, "time", clock)
    return clock


def lines_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    lines = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return lines


def test_a_refusal_is_logged_with_peer_status_reason_and_the_name_to_allow_it_by(
        caplog: pytest.LogCaptureFixture) -> None:
    compliance = Compliance()
    compliance.log_refusal(PEER, ProtocolError(400, str(Violation.OBS_FOLD), Violation.OBS_FOLD))
    (line,) = lines_of(caplog)
    assert line == f"{PEER}: 400: {Violation.OBS_FOLD.text} (Violation.OBS_FOLD, RFC 9112 5.2)"
    compliance.log_refusal(PEER, ProtocolError(431, "too much"))
    (record,) = caplog.records
    assert (record.name, record.levelno, record.getMessage()) == ("acceptor", logging.WARNING, f"{PEER}: 431: too much")


def test_a_burst_is_logged_once_and_the_next_says_how_long_it_was(
        clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    compliance, error = Compliance(), ProtocolError(400, "not HTTP")
    for _ in range(100):
        compliance.log_refusal(PEER, error)
        clock.now += 4.9
    assert lines_of(caplog) == [f"{PEER}: 400: not HTTP"]
    clock.now += 5
    compliance.log_refusal(PEER, error)
    assert lines_of(caplog) == [f"{PEER}: 400: not HTTP (99 more like it were not logged)"]
    clock.now += 5
    compliance.log_refusal(PEER, error)
    assert lines_of(caplog) == [f"{PEER}: 400: not HTTP"], "counted from the last line on"


def test_the_first_refusal_is_logged_even_when_the_system_has_just_started(
        clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    clock.now = 0.0
    Compliance().log_refusal(PEER, ProtocolError(400, "not HTTP"))
    assert lines_of(caplog) == [f"{PEER}: 400: not HTTP"]


def test_one_kind_of_refusal_does_not_hide_another(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    compliance = Compliance()
    errors = [ProtocolError(400, "a"), ProtocolError(431, "b"), ProtocolError(400, "c", Violation.BARE_LF),
              ProtocolError(400, "d", Violation.OBS_FOLD)]
    for error in errors * 3:
        compliance.log_refusal(PEER, error)
    assert lines_of(caplog) == [f"{PEER}: 400: a", f"{PEER}: 431: b", f"{PEER}: 400: c", f"{PEER}: 400: d"]


def test_two_acceptors_have_bursts_of_their_own(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    for compliance in Compliance(), Compliance():
        compliance.log_refusal(PEER, ProtocolError(400, "a"))
    assert len(lines_of(caplog)) == 2


@given(st.text())
@example("\x1b[31mred\r\nSep 1 a line of its own")
@example("caf\xe9 \u2028 \ud800 \U0001f600 \x85 \x7f")
@example("\xa0")
@example("x" * 301)
@example("\u20ac" * 100_000)
def test_what_is_printable_is_short_ascii_without_control_bytes_and_otherwise_as_it_was(text: str) -> None:
    safe = printable(text)
    assert safe.isascii()
    assert safe.isprintable()
    assert len(safe) <= 300 + len("... (1000000 characters)")
    if text.isascii() and text.isprintable() and len(text) <= 300:
        assert safe == text
    elif len(safe) <= 300:
        assert safe.encode().decode("unicode_escape") == text, "nothing is lost"


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@given(anything, st.text(max_size=10))
@example(b"GET /\x1b[31m HTTP/1.1\r\nHost: a\r\n\r\n", "")
@example(b"GET / HTTP/1.1\r\nHost: a\r\nX\x1b[31m\xe9: 1\r\n\r\n", "")
@example(b"GET / HTTP/1.1\r\nHost: a\r\nX" + b"\xe9" * 30_000 + b"\r\n\r\n", "fe80::1%\x1b[31m")
@example(b"\x16\x03\x01\x80", "")
@example(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\x9b31m\r\n", "")
def test_whatever_is_refused_a_log_line_is_ascii_without_control_bytes_and_short(data: bytes, peer: str) -> None:
    compliance, handler = Compliance(), Lines()
    wire = H11Wire(Limits(), compliance)
    logger = logging.getLogger("acceptor")
    logger.addHandler(handler)
    try:
        wire.receive(data)
        while wire.next_head() is not None:
            while wire.next_body():
                pass
            if not wire.next_request():
                break
    except ProtocolError as error:
        compliance.log_refusal(peer, error)
        assert len(handler.lines) == 1
    finally:
        logger.removeHandler(handler)
    for line in handler.lines:
        assert all(0x20 <= ord(character) < 0x7f for character in line), line
        assert len(line) < 450
