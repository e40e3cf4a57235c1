"""The access log: what a line says in each format, that no client can forge one, and the thread that writes lines."""

from __future__ import annotations

import inspect
import io
import json
import logging
import logging.config
import math
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import acceptor.background
from acceptor.access import AccessFormatter, AccessRecord, escaped, log
from acceptor.background import BackgroundHandler
from tests.clients import PATIENCE, Gate

AT = 971211336.789
"""10 October 2000, 20:55:36 UTC, which is the instant in Apache's documentation."""

RECORD = AccessRecord(
    client="203.0.113.7", peer="203.0.113.7:49152", time=AT, seconds=0.0012345, method="GET",
    target="/apache_pb.gif?size=2", version="1.0", status=200, sent=2326,
    headers=[(b"host", b"example.com"), (b"referer", b"http://www.example.com/start.html"),
             (b"user-agent", b"Mozilla/4.08 [en] (Win98; I ;Nav)"), (b"x-tag", b"a"), (b"x-tag", b"b")],
    scheme="https", host="example.com")
NO_REQUEST = AccessRecord(client="203.0.113.7", peer="203.0.113.7:49152", time=AT, seconds=30.5, method=None,
                          target=None, version=None, status=408, sent=0, headers=[], scheme="http", host="")


@pytest.fixture
def time_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Sets the local time zone, as POSIX writes it, for a test."""
    def set_to(zone: str) -> None:
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        acceptor.access._local_time.cache_clear()

    yield set_to
    monkeypatch.undo()
    time.tzset()
    acceptor.access._local_time.cache_clear()


def logged(record: AccessRecord) -> logging.LogRecord:
    """What the acceptor hands to `logging`."""
    return logging.LogRecord("acceptor.access", logging.INFO, "", 0, "%s", (record,), None)


def line(style: str, record: AccessRecord = RECORD) -> str:
    return AccessFormatter(style).format(logged(record))


# The formats.

def test_the_common_format_is_that_of_apaches_documentation(time_zone: Callable[[str], None]) -> None:
    time_zone("PST8PDT,M4.1.0,M10.5.0")
    expected = '203.0.113.7 - - [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif?size=2 HTTP/1.0" 200 2326'
    assert line("common") == expected
    assert str(RECORD) == expected
    assert logged(RECORD).getMessage() == expected
    assert AccessFormatter().format(logged(RECORD)) == expected


def test_the_combined_format_adds_referer_and_user_agent(time_zone: Callable[[str], None]) -> None:
    time_zone("UTC0")
    assert line("combined") == ('203.0.113.7 - - [10/Oct/2000:20:55:36 +0000] "GET /apache_pb.gif?size=2 HTTP/1.0" 200 '
                                '2326 "http://www.example.com/start.html" "Mozilla/4.08 [en] (Win98; I ;Nav)"')


def test_json_has_documented_keys_in_their_order() -> None:
    text = line("json")
    assert json.loads(text) == {
        "time": "2000-10-10T20:55:36.789Z", "client": "203.0.113.7", "peer": "203.0.113.7:49152", "user": None,
        "method": "GET", "target": "/apache_pb.gif?size=2", "version": "1.0", "scheme": "https", "host": "example.com",
        "status": 200, "sent": 2326, "seconds": 0.001234, "complete": True,
        "referer": "http://www.example.com/start.html", "user_agent": "Mozilla/4.08 [en] (Win98; I ;Nav)"}
    documented = re.findall(r"^    ([a-z_]+(?:, [a-z_]+)*)  +\w", inspect.getdoc(AccessFormatter) or "", re.MULTILINE)
    assert list(json.loads(text)) == ", ".join(documented).split(", ")


def test_where_there_was_no_request_nothing_is_made_up(time_zone: Callable[[str], None]) -> None:
    time_zone("UTC0")
    assert line("combined", NO_REQUEST) == '203.0.113.7 - - [10/Oct/2000:20:55:36 +0000] "-" 408 - "-" "-"'
    found = json.loads(line("json", NO_REQUEST))
    assert {key for key, value in found.items() if value is None} == {
        "user", "method", "target", "version", "host", "referer", "user_agent"}
    assert line("%(m)s %(U)s %(q)s %(H)s %(host)s %({accept}i)s", NO_REQUEST) == "- - - - - -"


@pytest.mark.parametrize(("atoms", "expected"), [
    ("%(h)s|%(l)s|%(u)s|%(peer)s", "203.0.113.7|-|-|203.0.113.7:49152"),
    ("%(r)s|%(m)s|%(U)s|%(q)s|%(H)s", "GET /apache_pb.gif?size=2 HTTP/1.0|GET|/apache_pb.gif|size=2|HTTP/1.0"),
    ("%(scheme)s://%(host)s%(U)s", "https://example.com/apache_pb.gif"),
    ("%(s)s %(B)s %(b)s", "200 2326 2326"),
    ("%(T)s %(M)s %(D)s %(L)s", "0 1 1234 0.001234"),
    ("%(f)s %(a)s", "http://www.example.com/start.html Mozilla/4.08 [en] (Win98; I ;Nav)"),
    ("%({Host}i)s %({X-Tag}i)s %({X-None}i)s", "example.com a, b -"),
    ("%(s)s 100%% %(X)s", "200 100% -"),
])
def test_a_template_has_gunicorns_atoms_and_some_more(atoms: str, expected: str) -> None:
    assert line(atoms) == expected


def test_gunicorns_own_default_can_be_carried_over(time_zone: Callable[[str], None]) -> None:
    time_zone("UTC0")
    assert line('%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"') == line("combined")
    assert re.fullmatch(r"<[0-9]+>", line("%(p)s"))


def test_the_documentation_has_every_atom() -> None:
    documented = re.findall(r"%\((\w+)\)s", AccessFormatter.__doc__ or "")
    assert sorted({*documented}) == sorted(acceptor.access._ATOMS)


def test_a_response_that_was_cut_short_says_so_where_there_is_room() -> None:
    cut = replace(RECORD, complete=False, sent=100)
    assert line("%(s)s %(B)s %(X)s", cut) == "200 100 X"
    assert json.loads(line("json", cut))["complete"] is False
    assert line("common", cut).endswith(" 200 100")


def test_no_bytes_are_a_dash_or_a_zero() -> None:
    assert line("%(b)s %(B)s", replace(RECORD, sent=0)) == "- 0"


def test_other_records_are_written_as_their_message() -> None:
    record = logging.LogRecord("other", logging.INFO, "", 0, "%s and %d", ("text", 1), None)
    assert [AccessFormatter(style).format(record) for style in ("common", "json")] == ["text and 1"] * 2


@pytest.mark.parametrize(("style", "expected"), [
    ("combinde", "pass \"common\", \"combined\", \"json\", or a template"),
    ("", "pass \"common\""),
    ("100%", "pass \"common\""),
    ("%(h)s %(x)s", "'%(x)s' in '%(h)s %(x)s' is no part of an access log; there are %(h)s %(l)s"),
    ("%(h)d", "'%(h)d'"),
    ("%(h)s %h", "'%h'"),
    ("%(h)s %", "'%'"),
    ("%({Server}o)s", "'%({Server}o)s'"),
    ("%({}i)s", "'%({}i)s'"),
])
def test_a_wrong_style_fails_at_once_and_says_what_there_is(style: str, expected: str) -> None:
    with pytest.raises(ValueError, match=re.escape(expected)):
        AccessFormatter(style)


def test_a_style_that_is_no_text_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="style=7: pass"):
        AccessFormatter(7)  # type: ignore[arg-type]


LOGGER = "acceptor.access.configured"
INI = f"""
[loggers]
keys = root, access
[handlers]
keys = file
[formatters]
keys = access
[logger_root]
handlers =
[logger_access]
qualname = {LOGGER}
handlers = file
[handler_file]
class = FileHandler
args = ("access.log",)
formatter = access
[formatter_access]
class = acceptor.access.AccessFormatter
format = %(s)s %(U)s
"""
DICT: dict[str, Any] = {
    "version": 1, "disable_existing_loggers": False, "loggers": {LOGGER: {"handlers": ["file"]}},
    "handlers": {"file": {"class": "logging.FileHandler", "filename": "access.log", "formatter": "access"}},
    "formatters": {"access": {"class": "acceptor.access.AccessFormatter", "format": "%(s)s %(U)s"}},
}


@pytest.mark.parametrize("how", ["ini", "dict"])
def test_configuration_files_can_name_it(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.config, "_clearExistingHandlers", lambda: None)  # it would close pytest's own
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    logger = logging.getLogger(LOGGER)
    try:
        if how == "ini":
            logging.config.fileConfig(io.StringIO(INI), disable_existing_loggers=False)
        else:
            logging.config.dictConfig(DICT)
        logger.handle(logged(RECORD))
    finally:
        for handler in logger.handlers[:]:
            logger.removeHandler(handler)
            handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)
    assert (tmp_path / "access.log").read_text() == "200 /apache_pb.gif\n"


# The time.

@pytest.mark.parametrize(("zone", "at", "expected"), [
    ("CET-1CEST,M3.5.0,M10.5.0/3", datetime(2024, 3, 31, 0, 59, 59, tzinfo=UTC), "[31/Mar/2024:01:59:59 +0100]"),
    ("CET-1CEST,M3.5.0,M10.5.0/3", datetime(2024, 3, 31, 1, 0, 0, tzinfo=UTC), "[31/Mar/2024:03:00:00 +0200]"),
    ("CET-1CEST,M3.5.0,M10.5.0/3", datetime(2024, 10, 27, 0, 30, 0, tzinfo=UTC), "[27/Oct/2024:02:30:00 +0200]"),
    ("CET-1CEST,M3.5.0,M10.5.0/3", datetime(2024, 10, 27, 1, 30, 0, tzinfo=UTC), "[27/Oct/2024:02:30:00 +0100]"),
    ("NST3:30", datetime(2024, 1, 1, 0, 0, 0, tzinfo=UTC), "[31/Dec/2023:20:30:00 -0330]"),
    ("NPT-5:45", datetime(2024, 5, 9, 4, 3, 2, tzinfo=UTC), "[09/May/2024:09:48:02 +0545]"),
])
def test_the_offset_is_that_of_the_time_itself(time_zone: Callable[[str], None], zone: str, at: datetime,
                                               expected: str) -> None:
    time_zone(zone)
    assert line("%(t)s", replace(RECORD, time=at.timestamp())) == expected


def test_months_are_english_in_every_locale(time_zone: Callable[[str], None]) -> None:
    time_zone("UTC0")
    times = [datetime(2024, month, 1, tzinfo=UTC).timestamp() for month in range(1, 13)]
    assert [line("%(t)s", replace(RECORD, time=at))[4:7] for at in times] == [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


@given(st.floats(0, 4e9))
@example(8192.443)
@example(math.nextafter(4e9, 0))
@example(math.nextafter(1, 0))
def test_a_time_reads_back_as_the_instant_it_was(at: float) -> None:
    record = replace(RECORD, time=at)
    local = datetime.strptime(line("%(t)s", record), "[%d/%b/%Y:%H:%M:%S %z]")
    assert local.timestamp() == int(at)
    written = json.loads(line("json", record))["time"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", written)
    utc = datetime.fromisoformat(written)
    assert int(utc.timestamp()) == int(at), "both formats show the same second"
    assert -1e-6 < at - utc.timestamp() < 0.001 + 1e-6, "cut to milliseconds"


# What clients send.

COMMON = re.compile(
    r"(?P<client>[!-~]+) - - "
    r"\[\d\d/(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "
    r'"(?P<method>[^ "\\]+) (?P<target>(?:[ !#-\[\]-~]|\\["\\bnrtv]|\\x[0-9a-f]{2})*) HTTP/(?P<version>1\.[01])" '
    r"(?P<status>\d{3}) (?P<sent>-|[1-9]\d*)")
FIELD = r'"((?:[ !#-\[\]-~]|\\["\\bnrtv]|\\x[0-9a-f]{2})*)"'
COMBINED = re.compile(f"{COMMON.pattern} {FIELD} {FIELD}")


def unescaped(text: str) -> str:
    """What `escaped` has made `text` of, by a reader of its own."""
    plain = {"b": "\b", "n": "\n", "r": "\r", "t": "\t", "v": "\v", '"': '"', "\\": "\\"}
    return re.sub(r"\\(?:x([0-9a-f]{2})|(.))",
                  lambda found: chr(int(found[1], 16)) if found[1] else plain[found[2]], text)


anything = st.binary(max_size=60)
records = st.builds(
    AccessRecord, client=st.just("203.0.113.7"), peer=st.just("203.0.113.7:49152"),
    time=st.floats(0, 4e9), seconds=st.floats(0, 1e5), method=st.from_regex(r"[A-Z]{1,9}", fullmatch=True),
    target=anything.map(lambda data: data.decode("latin-1")), version=st.sampled_from(["1.0", "1.1"]),
    status=st.integers(100, 999), sent=st.integers(0, 1 << 40),
    headers=st.lists(st.tuples(st.sampled_from([b"referer", b"user-agent", b"cookie", b"x-tag"]), anything),
                     max_size=5),
    scheme=st.sampled_from(["http", "https"]), host=anything.map(lambda data: data.decode("latin-1")),
    complete=st.booleans())


@given(records)
def test_whatever_a_client_sends_is_one_line_of_printable_ascii(record: AccessRecord) -> None:
    template = '%(r)s "%(U)s" "%(q)s" %(m)s %(host)s %(scheme)s "%({x-tag}i)s" %({Cookie}i)s %(f)s %(a)s'
    for style in ("common", "combined", "json", template):
        text = line(style, record)
        assert re.fullmatch("[ -~]+", text), (style, text)


@given(records)
def test_a_strict_reader_finds_in_a_line_what_the_client_sent(record: AccessRecord) -> None:
    found = COMMON.fullmatch(line("common", record))
    assert found
    assert (found["client"], found["method"], found["version"]) == (record.client, record.method, record.version)
    assert unescaped(found["target"]) == record.target
    assert (int(found["status"]), found["sent"]) == (record.status, str(record.sent or "-"))

    found = COMBINED.fullmatch(line("combined", record))
    assert found
    for text, name in ((found[7], b"referer"), (found[8], b"user-agent")):
        sent = b", ".join(value for key, value in record.headers if key == name)
        assert unescaped(text) == (sent.decode("latin-1") or "-")


@given(records)
def test_json_reads_back_as_it_was(record: AccessRecord) -> None:
    found = json.loads(line("json", record))
    for key in ("client", "peer", "method", "target", "version", "scheme", "status", "sent", "complete"):
        assert found[key] == getattr(record, key)
    assert found["host"] == (record.host or None)
    assert found["seconds"] == pytest.approx(record.seconds, abs=1e-6)


@given(st.text())
def test_any_text_at_all_is_escaped(text: str) -> None:
    assert re.fullmatch("[ -~]*", escaped(text))
    assert not re.search(r'(?<!\\)(\\\\)*"', escaped(text)), "a quote that ends a field"


@pytest.mark.parametrize(("text", "expected"), [
    ("plain /text?", "plain /text?"),
    ('a"b', r"a\"b"),
    ("a\\b", r"a\\b"),
    ("\r\n\t\b\v", r"\r\n\t\b\v"),
    ("\0\x1b[31m\x7f", r"\x00\x1b[31m\x7f"),
    ("caf\xe9 \x85\xff", r"caf\xe9 \x85\xff"),
    ("\u20ac\udc80", r"\u20ac\udc80"),
])
def test_it_is_escaped_as_apache_does(text: str, expected: str) -> None:
    assert escaped(text) == expected


def test_a_space_cannot_make_two_fields_of_one_without_quotes() -> None:
    record = replace(RECORD, client="a b", host="c d", user="e f", peer="g h")
    assert line("%(h)s %(u)s %(host)s %(peer)s", record) == r"a\x20b e\x20f c\x20d g\x20h"


def test_a_forged_line_stays_in_its_field() -> None:
    forged = '/" 200 1 "-" "-"\r\n203.0.113.8 - - [10/Oct/2000:13:55:36 -0700] "GET /admin'
    found = COMBINED.fullmatch(line("combined", replace(RECORD, target=forged)))
    assert found
    assert unescaped(found["target"]) == forged


# Logging it.

def test_log_gives_the_record_to_the_logger_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    logger, got = logging.getLogger("acceptor.access"), list[logging.LogRecord]()
    handler = logging.NullHandler()
    monkeypatch.setattr(handler, "handle", got.append)
    monkeypatch.setattr(logger, "handlers", [handler])
    monkeypatch.setattr(logger, "propagate", False)
    for level, lines in ((logging.INFO, 1), (logging.WARNING, 1), (logging.DEBUG, 2)):
        logger.setLevel(level)
        log(RECORD)
        assert len(got) == lines, logging.getLevelName(level)
    logger.setLevel(logging.NOTSET)
    assert (got[0].name, got[0].levelno, got[0].getMessage()) == ("acceptor.access", logging.INFO, str(RECORD))
    assert got[0].args == (RECORD,)


class Slow(logging.Handler):
    """Keeps what it is given; if it is held, not before it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.threads: set[str] = set()
        self._gate: Gate | None = None
        self._entered = threading.Event()
        self._wrote = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        self.threads.add(threading.current_thread().name)
        self._entered.set()
        if self._gate is not None:
            self._gate.pass_through()
        with self._wrote:
            self.lines.append(self.format(record))
            self._wrote.notify_all()

    def hold(self, background: BackgroundHandler) -> Gate:
        """Hold the thread of `background` in here, with the line "held" in its hands, until the gate is opened."""
        self._entered.clear()
        self._gate = Gate("the disk is there again")
        background.handle(message("held"))
        assert self._entered.wait(PATIENCE)
        return self._gate

    def wait_for(self, last: str, lines: int) -> None:
        """Wait until `lines` lines have been written, the last of which is `last`."""
        with self._wrote:
            assert self._wrote.wait_for(lambda: len(self.lines) >= lines, PATIENCE), self.lines
            assert self.lines[-1] == last


def message(text: str) -> logging.LogRecord:
    return logging.LogRecord("acceptor.access", logging.INFO, "", 0, "%s", (text,), None)


def reports(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged of losses."""
    return [record.getMessage() for record in caplog.records if record.name == "acceptor"]


def background_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "access-log"]


def test_lines_are_written_in_order_by_a_thread_that_ends_with_the_block() -> None:
    target = Slow()
    with BackgroundHandler(target) as background:
        for number in range(1000):
            background.handle(message(str(number)))
        assert len(background_threads()) == 1
    assert target.lines == [str(number) for number in range(1000)]
    assert target.threads == {"access-log"}
    assert background_threads() == []


def test_lines_of_many_threads_are_all_written() -> None:
    target = Slow()
    with BackgroundHandler(target) as background:
        def work(name: str) -> None:
            for number in range(200):
                background.handle(message(f"{name} {number}"))

        threads = [threading.Thread(target=work, args=(name,)) for name in "abcdefgh"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    assert background.lost == 0
    for name in "abcdefgh":
        assert [text for text in target.lines if text.startswith(name)] == [f"{name} {n}" for n in range(200)]


def test_an_access_record_is_formatted_by_the_thread_with_the_targets_formatter() -> None:
    class Noting(AccessFormatter):
        by: str

        def format(self, record: logging.LogRecord) -> str:
            self.by = threading.current_thread().name
            return super().format(record)

    target, formatter = Slow(), Noting("%(s)s %(U)s")
    with BackgroundHandler(target) as background:
        background.setFormatter(formatter)
        background.handle(logged(RECORD))
    assert target.lines == ["200 /apache_pb.gif"]
    assert formatter.by == "access-log"


def test_other_records_are_made_text_before_they_wait() -> None:
    target, changing = Slow(), ["before"]
    with BackgroundHandler(target) as background:
        gate = target.hold(background)
        background.handle(logging.LogRecord("x", logging.INFO, "", 0, "%s", (changing,), None))
        changing[0] = "after"
        gate.open()
    assert target.lines == ["held", "['before']"]


def test_levels_and_filters_count() -> None:
    target = Slow()
    target.setLevel(logging.INFO)
    with BackgroundHandler(target) as background:
        background.addFilter(lambda record: record.getMessage() != "unwanted")
        assert not background.handle(message("unwanted"))
        background.handle(logging.LogRecord("x", logging.DEBUG, "", 0, "too low", (), None))
        background.handle(message("wanted"))
    assert target.lines == ["wanted"]


# What is lost.

def test_nobody_waits_for_a_slow_disk_and_what_is_too_much_is_dropped_and_reported(
        caplog: pytest.LogCaptureFixture) -> None:
    target = Slow()
    with BackgroundHandler(target, limit=3) as background:
        gate = target.hold(background)
        for number in range(10):
            background.handle(message(str(number)))
        assert background.lost == 7
        assert reports(caplog) == []  # the one that reports is held
        gate.open()
    assert target.lines == ["held", "0", "1", "2"]
    assert reports(caplog) == ["access log: lines were lost: 7 because 3 others waited to be written (limit)"]


def test_losses_are_reported_once_per_burst_and_the_rest_at_the_end(
        caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor.background, "_BURST", 3600.0)
    target = Slow()
    with BackgroundHandler(target, limit=1) as background:
        for burst in (1, 2, 3):
            gate = target.hold(background)
            background.handle(message("waits"))
            background.handle(message("is lost"))
            gate.open()
            target.wait_for("waits", 2 * burst)
        assert len(reports(caplog)) == 1
    lost = "access log: lines were lost: {} because 1 others waited to be written (limit)"
    assert reports(caplog) == [lost.format(1), lost.format(2)]
    assert background.lost == 3


def test_what_could_not_be_reported_at_once_is_reported_even_if_nothing_more_is_logged(
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor.background, "_BURST", 0.05)
    target, log_of_losses = Slow(), Slow()
    logging.getLogger("acceptor").addHandler(log_of_losses)
    try:
        with BackgroundHandler(target, limit=1) as background:
            background._reported_at = time.monotonic()  # just now
            gate = target.hold(background)
            background.handle(message("waits"))
            background.handle(message("is lost"))
            gate.open()
            log_of_losses.wait_for("access log: lines were lost: 1 because 1 others waited to be written (limit)", 1)
    finally:
        logging.getLogger("acceptor").removeHandler(log_of_losses)


def test_a_full_disk_is_reported_once_and_not_by_a_traceback_for_each_line(
        caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    with BackgroundHandler(logging.FileHandler("/dev/full")) as background:  # full(4)
        for _ in range(10):
            background.handle(logged(RECORD))
    assert background.lost == 10
    assert capsys.readouterr().err == ""
    assert all("[Errno 28] No space left on device" in report for report in reports(caplog))
    assert sum(int(count) for report in reports(caplog) for count in re.findall(r"(\d+) could not be written", report)
               ) == 10
    assert len(reports(caplog)) <= 3  # the first, the rest at the end, and that the file cannot be closed


def test_a_directory_that_is_gone_ends_no_thread(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "logs").mkdir()
    with BackgroundHandler(WatchedFileHandler(tmp_path / "logs" / "access.log")) as background:
        (tmp_path / "logs" / "access.log").unlink()
        (tmp_path / "logs").rmdir()
        background.handle(message("into nothing"))
        background._waiting.put((gone := threading.Event()).set)
        assert gone.wait(PATIENCE)
        (tmp_path / "logs").mkdir()
        background.handle(message("there again"))
    assert (tmp_path / "logs" / "access.log").read_text() == "there again\n"
    assert background.lost == 1
    (report,) = reports(caplog)
    assert "1 could not be written (FileNotFoundError" in report


# Its life.

def test_while_it_is_not_started_whoever_logs_writes() -> None:
    target = Slow()
    background = BackgroundHandler(target)
    background.handle(message("before"))
    background.start()
    background.handle(message("meanwhile"))
    background.stop()
    background.handle(message("after"))
    assert target.lines == ["before", "meanwhile", "after"]
    assert target.threads == {"MainThread", "access-log"}


def test_a_failure_while_it_is_not_started_is_reported_too(caplog: pytest.LogCaptureFixture) -> None:
    background = BackgroundHandler(logging.FileHandler("/dev/full"))
    background.handle(message("lost"))
    background.close()
    assert background.lost == 1
    assert "1 could not be written" in reports(caplog)[0]


def test_starting_and_stopping_twice() -> None:
    target = Slow()
    background = BackgroundHandler(target)
    background.stop()
    for text in ("first", "second"):
        background.start()
        with pytest.raises(RuntimeError, match="runs already"):
            background.start()
        background.handle(message(text))
        background.stop()
        background.stop()
    assert target.lines == ["first", "second"]
    assert background_threads() == []


def test_a_disk_that_does_not_answer_does_not_hold_up_the_end(caplog: pytest.LogCaptureFixture) -> None:
    target = Slow()
    background = BackgroundHandler(target).start()
    gate = target.hold(background)
    background.handle(message("waits"))
    (thread,) = background_threads()
    background.stop(deadline=0.0)
    assert "could not be written within 0 s" in reports(caplog)[0]
    gate.open()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert target.lines == ["held", "waits"]


def test_logging_can_close_it_while_it_has_a_loss_to_report_to_a_logger_that_leads_to_it() -> None:
    target = Slow()
    background = BackgroundHandler(target, limit=1).start()
    logging.getLogger("acceptor").addHandler(background)
    try:
        gate = target.hold(background)
        background.handle(message("waits"))
        background.handle(message("is lost"))
        background.acquire()  # as logging.shutdown does
        try:
            gate.open()
            background.close()
        finally:
            background.release()
    finally:
        logging.getLogger("acceptor").removeHandler(background)
    assert sorted(target.lines) == ["access log: lines were lost: 1 because 1 others waited to be written (limit)",
                                    "held", "waits"]


@pytest.mark.parametrize("kind", [logging.FileHandler, WatchedFileHandler])
def test_after_reopen_lines_go_to_the_new_file(tmp_path: Path, kind: type[logging.FileHandler]) -> None:
    path, moved = tmp_path / "access.log", tmp_path / "access.log.1"
    with BackgroundHandler(kind(path)) as background:
        background.handle(message("old"))
        background._waiting.put((written := threading.Event()).set)
        assert written.wait(PATIENCE)
        path.rename(moved)
        background.reopen()
        background.handle(message("new"))
    assert (moved.read_text(), path.read_text()) == ("old\n", "new\n")


def test_a_file_that_was_moved_is_followed_without_reopen(tmp_path: Path) -> None:
    path, moved = tmp_path / "access.log", tmp_path / "access.log.1"
    background = BackgroundHandler(WatchedFileHandler(path))
    background.handle(message("old"))
    path.rename(moved)
    background.handle(message("new"))
    background.close()
    assert (moved.read_text(), path.read_text()) == ("old\n", "new\n")


def test_reopen_makes_the_file_at_once_also_while_it_is_not_started(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    background = BackgroundHandler(logging.FileHandler(path))
    path.rename(tmp_path / "access.log.1")
    background.reopen()
    assert path.exists()
    background.close()


def test_a_file_that_cannot_be_reopened_stays_open(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, moved = tmp_path / "access.log", tmp_path / "moved.log"
    background = BackgroundHandler(logging.FileHandler(path))
    path.rename(moved)
    path.mkdir()
    background.reopen()
    background.handle(message("still here"))
    background.close()
    assert moved.read_text() == "still here\n"
    assert "Is a directory" in reports(caplog)[0]


def test_reopen_may_be_called_by_a_signal_that_interrupts_a_line() -> None:
    background = BackgroundHandler(Slow()).start()

    def interrupted() -> None:
        with background._lock:
            background.reopen()

    thread = threading.Thread(target=interrupted, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive(), "reopen() waits for a lock that its own thread holds"
    background.stop()


@pytest.mark.parametrize(("arguments", "error", "expected"), [
    ({"target": "access.log"}, TypeError, "target='access.log': pass a handler of logging"),
    ({"target": logging.NullHandler(), "limit": 0}, ValueError, "limit=0"),
    ({"target": logging.NullHandler(), "limit": 1.5}, TypeError, "limit=1.5"),
])
def test_wrong_arguments_fail_at_once(arguments: dict[str, Any], error: type[Exception], expected: str) -> None:
    with pytest.raises(error, match=re.escape(expected)):
        BackgroundHandler(**arguments)
    with pytest.raises(ValueError, match="deadline=-1"):
        BackgroundHandler(Slow()).stop(-1)
