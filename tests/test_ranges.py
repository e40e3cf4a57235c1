"""Conditional requests and ranges: the examples and rules of RFC 9110 sections 13 and 14, and models of them."""

from __future__ import annotations

import email
import email.message
import itertools
import time
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from handlers.ranges import (
    MOST_RANGES,
    Multipart,
    Validators,
    content_range,
    failed_precondition,
    parse_date,
    parse_ranges,
    requested_ranges,
)

NOW = 1_800_000_000.0
"""In January 2027."""
MODIFIED = 783_459_811
"""Sat, 29 Oct 1994 19:43:31 GMT, the date in the examples of RFC 9110 section 13."""
CURRENT = Validators('"xyzzy"', MODIFIED)
SAME, EARLIER, LATER = (formatdate(MODIFIED + off, usegmt=True) for off in (0, -1, 1))


# Dates: section 5.6.7.

@pytest.mark.parametrize(("text", "date"), [
    ("Sun, 06 Nov 1994 08:49:37 GMT", 784111777),       # the section's examples
    ("Sunday, 06-Nov-94 08:49:37 GMT", 784111777),
    ("Sun Nov  6 08:49:37 1994", 784111777),
    ("Sat Nov 16 08:49:37 1994", 784975777),
    ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
    ("Wed, 31 Dec 1969 23:59:59 GMT", -1),
    ("Fri, 31 Dec 9999 23:59:59 GMT", 253402300799),
    ("Sat, 31 Dec 2016 23:59:60 GMT", 1483228800),      # a leap second
    ("Mon, 29 Feb 2016 00:00:00 GMT", 1456704000),
    ("Sunday, 06-Nov-77 08:49:37 GMT", 3403414177),     # 2077, 50 years from now
    ("Sunday, 06-Nov-78 08:49:37 GMT", 279190177),      # 1978
])
def test_a_date_has_three_formats(text: str, date: int) -> None:
    assert parse_date(text, NOW) == date


@pytest.mark.parametrize("text", [
    "", "now", "784111777", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 UTC", "06 Nov 1994 08:49:37 GMT",
    "Sun, 6 Nov 1994 08:49:37 GMT", "sun, 06 nov 1994 08:49:37 gmt", "Sun, 06 Nov 94 08:49:37 GMT",
    "Sun, 06 Nov 1994 08:49:37 GMT ", "Sun, 06 Nov 1994 24:00:00 GMT", "Sun, 06 Nov 1994 08:60:00 GMT",
    "Sun, 06 Nov 1994 08:49:61 GMT", "Tue, 29 Feb 2015 00:00:00 GMT", "Sun, 00 Nov 1994 08:49:37 GMT",
    "Sun, 06 Nov 0000 08:49:37 GMT", "Sun Nov 6 08:49:37 1994", "Sun, 06-Nov-94 08:49:37 GMT",
    "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 +0000",
])
def test_everything_else_is_no_date(text: str) -> None:
    assert parse_date(text, NOW) is None


@given(st.datetimes(datetime(1978, 1, 1), datetime(2076, 12, 31)))
def test_a_date_is_read_as_it_was_written(moment: datetime) -> None:
    seconds = int(moment.replace(tzinfo=UTC).timestamp())
    when = time.gmtime(seconds)
    assert parse_date(formatdate(seconds, usegmt=True), NOW) == seconds
    assert parse_date(time.strftime("%A, %d-%b-%y %H:%M:%S GMT", when), NOW) == seconds
    assert parse_date(time.asctime(when), NOW) == seconds


@given(st.text(alphabet=st.characters(max_codepoint=255)) | st.from_regex(r"\A[A-Z][a-z]{2}, [0-9]{2} Feb [0-9]{4} "
                                                                          r"[0-9]{2}:[0-9]{2}:[0-9]{2} GMT\Z"))
def test_a_date_never_raises(text: str) -> None:
    parsed = parse_date(text, NOW)
    assert parsed is None or isinstance(parsed, int)


# Conditions: section 13.

@pytest.mark.parametrize(("headers", "status"), [
    ({}, None),
    # 13.1.1
    ({"if-match": '"xyzzy"'}, None),
    ({"if-match": '"xyzzy", "r2d2xxxx", "c3piozzzz"'}, None),
    ({"if-match": "*"}, None),
    ({"if-match": '"r2d2xxxx"'}, 412),
    ({"if-match": 'W/"xyzzy"'}, 412),                   # 8.8.3.2: strong comparison
    ({"if-match": '"XYZZY"'}, 412),
    ({"if-match": ""}, 412),
    ({"if-match": "xyzzy"}, 412),
    ({"if-match": '"a,b","xyzzy"'}, None),              # a comma may stand in a tag
    ({"if-match": '"a" , ,\t"xyzzy",'}, None),
    # 13.1.2
    ({"if-none-match": '"xyzzy"'}, 304),
    ({"if-none-match": 'W/"xyzzy"'}, 304),              # weak comparison
    ({"if-none-match": '"xyzzy", "r2d2xxxx", "c3piozzzz"'}, 304),
    ({"if-none-match": 'W/"xyzzy", W/"r2d2xxxx", W/"c3piozzzz"'}, 304),
    ({"if-none-match": "*"}, 304),
    ({"if-none-match": " * "}, 304),
    ({"if-none-match": '"r2d2xxxx"'}, None),
    ({"if-none-match": '"xyzz", "yzzy", "*"'}, None),
    ({"if-none-match": "xyzzy"}, None),
    ({"if-none-match": 'w/"xyzzy'}, None),
    ({"if-none-match": '"xyzzy'}, None),
    # 13.1.3
    ({"if-modified-since": "Sat, 29 Oct 1994 19:43:31 GMT"}, 304),
    ({"if-modified-since": LATER}, 304),
    ({"if-modified-since": EARLIER}, None),
    ({"if-modified-since": "Saturday, 29-Oct-94 19:43:31 GMT"}, 304),
    ({"if-modified-since": "Sat Oct 29 19:43:31 1994"}, 304),
    ({"if-modified-since": "yesterday"}, None),
    ({"if-modified-since": f"{SAME}, {SAME}"}, None),   # sent twice
    ({"if-modified-since": SAME, "if-none-match": '"other"'}, None),
    ({"if-modified-since": EARLIER, "if-none-match": '"xyzzy"'}, 304),
    # 13.1.4
    ({"if-unmodified-since": "Sat, 29 Oct 1994 19:43:31 GMT"}, None),
    ({"if-unmodified-since": LATER}, None),
    ({"if-unmodified-since": EARLIER}, 412),
    ({"if-unmodified-since": "yesterday"}, None),
    ({"if-unmodified-since": EARLIER, "if-match": '"xyzzy"'}, None),
    ({"if-unmodified-since": SAME, "if-match": '"other"'}, 412),
    # 13.2.2
    ({"if-match": '"other"', "if-none-match": '"xyzzy"'}, 412),
    ({"if-match": '"xyzzy"', "if-none-match": '"xyzzy"'}, 304),
    ({"if-unmodified-since": EARLIER, "if-modified-since": SAME}, 412),
    ({"if-unmodified-since": SAME, "if-modified-since": SAME}, 304),
])
def test_preconditions(headers: dict[str, str], status: int | None) -> None:
    assert failed_precondition(headers, CURRENT, NOW) == status


@pytest.mark.parametrize(("headers", "status"), [
    ({"if-match": "*"}, None),
    ({"if-match": '"xyzzy"'}, 412),
    ({"if-none-match": "*"}, 304),
    ({"if-none-match": '"xyzzy"'}, None),
    ({"if-modified-since": SAME}, None),
    ({"if-unmodified-since": EARLIER}, None),
])
def test_without_validators_only_a_star_matches(headers: dict[str, str], status: int | None) -> None:
    assert failed_precondition(headers, Validators(None, None), NOW) == status


def test_the_order_of_preconditions_is_that_of_section_13_2_2() -> None:
    tags = [None, "*", '"xyzzy"', 'W/"xyzzy"', '"other"', 'W/"other", "xyzzy"']
    dates = [None, EARLIER, SAME, LATER, "no date"]
    for match, unmodified, none_match, modified in itertools.product(tags, dates, tags, dates):
        named = {"if-match": match, "if-unmodified-since": unmodified, "if-none-match": none_match,
                 "if-modified-since": modified}
        headers = {name: value for name, value in named.items() if value is not None}

        def answer(if_match: str | None = match, if_unmodified: str | None = unmodified,
                   if_none: str | None = none_match, if_modified: str | None = modified) -> int | None:
            if if_match is not None:                                            # step 1
                if if_match not in ("*", '"xyzzy"', 'W/"other", "xyzzy"'):
                    return 412
            elif if_unmodified == EARLIER:                                      # step 2
                return 412
            if if_none is not None:                                             # step 3
                if if_none != '"other"':
                    return 304
            elif if_modified in (SAME, LATER):                                  # step 4
                return 304
            return None                                                         # steps 5 and 6 are those of ranges

        assert failed_precondition(headers, CURRENT, NOW) == answer(), headers


@given(st.dictionaries(st.sampled_from(["if-match", "if-none-match", "if-modified-since", "if-unmodified-since",
                                        "if-range", "range"]),
                       st.text(alphabet='W/"*,xyz \xff:=-09bytes', max_size=40)))
def test_no_condition_raises(headers: dict[str, str]) -> None:
    assert failed_precondition(headers, CURRENT, NOW) in (None, 304, 412)
    requested_ranges(headers, CURRENT, 100, NOW)


# If-Range: section 13.1.5.

@pytest.mark.parametrize(("value", "current", "partial"), [
    ('"xyzzy"', CURRENT, True),
    ('W/"xyzzy"', CURRENT, False),
    ('"other"', CURRENT, False),
    ('"other", "xyzzy"', CURRENT, False),               # it takes one
    ("*", CURRENT, False),
    ("xyzzy", CURRENT, False),
    ("", CURRENT, False),
    (SAME, CURRENT, True),
    ("Saturday, 29-Oct-94 19:43:31 GMT", CURRENT, True),
    (EARLIER, CURRENT, False),
    (LATER, CURRENT, False),                            # the very same date, not one that is not earlier
    ("no date", CURRENT, False),
    ('"xyzzy"', Validators(None, None), False),
    (SAME, Validators(None, None), False),
    ("no date", Validators(None, None), False),
])
def test_if_range_asks_for_the_whole_unless_it_is_the_same(value: str, current: Validators, partial: bool) -> None:
    spans = requested_ranges({"range": "bytes=0-4", "if-range": value}, current, 100, NOW)
    assert spans == ([range(5)] if partial else None)


def test_if_range_without_range_means_nothing() -> None:
    assert requested_ranges({"if-range": '"xyzzy"'}, CURRENT, 100, NOW) is None
    assert requested_ranges({}, CURRENT, 100, NOW) is None
    assert requested_ranges({"range": "bytes=100-", "if-range": '"xyzzy"'}, CURRENT, 100, NOW) == []
    assert requested_ranges({"range": "bytes=100-", "if-range": '"other"'}, CURRENT, 100, NOW) is None


# Ranges: section 14.

@pytest.mark.parametrize(("value", "spans"), [
    # 14.1.2, of 10,000 bytes
    ("bytes=0-499", [range(500)]),
    ("bytes=500-999", [range(500, 1000)]),
    ("bytes=-500", [range(9500, 10000)]),
    ("bytes=9500-", [range(9500, 10000)]),
    ("bytes=0-0,-1", [range(1), range(9999, 10000)]),
    ("bytes= 0-999, 4500-5499, -1000", [range(1000), range(4500, 5500), range(9000, 10000)]),
    ("bytes=500-600,601-999", [range(500, 1000)]),      # one after the other, and then overlapping
    ("bytes=500-700,601-999", [range(500, 1000)]),
    # what there is of it
    ("bytes=0-", [range(10000)]),
    ("bytes=9999-", [range(9999, 10000)]),
    ("bytes=0-10000", [range(10000)]),
    ("bytes=9000-99999999999999999999", [range(9000, 10000)]),
    ("bytes=-10000", [range(10000)]),
    ("bytes=-99999999999999999999", [range(10000)]),
    ("BYTES=0-0", [range(1)]),
    ("bytes=000-00004", [range(5)]),
    ("bytes=,0-0, ,\t5000-5000,", [range(1), range(5000, 5001)]),
    ("bytes=10000-,0-0", [range(1)]),
    ("bytes=-0,0-0", [range(1)]),
    # in the order asked for; what is near becomes one, where the first of it stood
    ("bytes=5000-5009,0-9", [range(5000, 5010), range(10)]),
    ("bytes=9000-9009,0-9,9020-9029", [range(9000, 9030), range(10)]),
    ("bytes=0-9,90-99", [range(100)]),
    ("bytes=0-9,91-99", [range(10), range(91, 100)]),
    ("bytes=0-9,0-9,0-9", [range(10)]),
    ("bytes=5-6,0-9999,1-2", [range(10000)]),
    # unsatisfiable: 416
    ("bytes=10000-", []),
    ("bytes=10000-20000", []),
    ("bytes=-0", []),
    ("bytes=-0,10000-", []),
    ("bytes=99999999999999999999-", []),
    # to be ignored
    ("bytes=1-0", None),
    ("bytes=0-0,5-4", None),
    ("bytes=20000-10000", None),
    ("bytes=", None),
    ("bytes=,", None),
    ("bytes", None),
    ("", None),
    ("=0-0", None),
    ("bytes=-", None),
    ("bytes=0", None),
    ("bytes=a-b", None),
    ("bytes=0-0-0", None),
    ("bytes=--1", None),
    ("bytes=+1-2", None),
    ("bytes=1_0-20", None),
    ("bytes=\xb2-3", None),
    ("bytes=0 - 1", None),
    ("bytes =0-1", None),
    ("bytes:0-1", None),
    ("bytes=0-0;", None),
    ("bytes=0-0, bytes=1-1", None),                     # sent twice
    ("seconds=0-1", None),
    ("none", None),
    ("bytes=" + "9" * 5000 + "-", None),                # int() would not take it
])
def test_the_ranges_of_10000_bytes(value: str, spans: list[range] | None) -> None:
    assert parse_ranges(value, 10_000) == spans


@pytest.mark.parametrize("value", ["bytes=0-", "bytes=-1", "bytes=-0", "bytes=0-99", "bytes=5-"])
def test_of_nothing_there_is_no_range(value: str) -> None:
    assert parse_ranges(value, 0) is None


@pytest.mark.parametrize("spec", ["0-", "0-0", "-1", "500-999"])
def test_so_many_ranges_and_no_more(spec: str) -> None:
    """CVE-2011-3192: with Range: bytes=0-,0-,0-, ... a server prepared thousands of copies."""
    one = parse_ranges(f"bytes={spec}", 1_000_000)
    assert parse_ranges("bytes=" + ",".join([spec] * MOST_RANGES), 1_000_000) == one
    assert parse_ranges("bytes=" + ",".join([spec] * (MOST_RANGES + 1)), 1_000_000) is None


_SPECS = st.one_of(
    st.tuples(st.integers(0, 3000), st.integers(0, 3000)).map(sorted).map(lambda pair: f"{pair[0]}-{pair[1]}"),
    st.integers(0, 3000).map(lambda first: f"{first}-"),
    st.integers(0, 3000).map(lambda suffix: f"-{suffix}"),
)


def _asked_for(spec: str, length: int) -> list[int]:
    """The bytes that one valid range-spec names, by the definitions of section 14.1.2, one by one."""
    first, last = spec.split("-")
    if not first:
        return list(range(length))[length - int(last) if int(last) < length else 0:]
    return [at for at in range(length) if at >= int(first) and (not last or at <= int(last))]


@given(st.integers(1, 2500), st.lists(_SPECS, min_size=1, max_size=8))
@example(100, ["90-99", "0-9", "50-59"])
def test_what_is_sent_is_what_was_asked_for(length: int, specs: list[str]) -> None:
    spans = parse_ranges("bytes=" + ",".join(specs), length)
    assert spans is not None
    asked = [positions for spec in specs if (positions := _asked_for(spec, length))]
    sent = [at for span in spans for at in span]
    wanted = set(itertools.chain(*asked))
    assert len(sent) == len(set(sent)), "no byte is sent twice"
    assert wanted <= set(sent) <= set(range(length))
    assert bool(spans) == bool(asked)
    for at in set(sent) - wanted:  # it lies in a gap that is smaller than what another part would cost
        assert any(at - step in wanted for step in range(1, 81))
        assert any(at + step in wanted for step in range(1, 81))
    places = [min(place for place, positions in enumerate(asked) if set(positions) <= set(span)) for span in spans]
    assert places == sorted(places), "the parts are in the order in which they were asked for"


@given(st.text(alphabet="bytes=0123456789-, \t", max_size=60) | st.text(alphabet=st.characters(max_codepoint=255)),
       st.integers(0, 1000))
def test_no_range_raises_or_reaches_beyond_the_end(value: str, length: int) -> None:
    for text in (value, f"bytes={value}"):
        for span in parse_ranges(text, length) or []:
            assert 0 <= span.start < span.stop <= length


@pytest.mark.parametrize(("span", "length", "value"), [
    (range(42, 1234), 1234, "bytes 42-1233/1234"),      # the examples of 14.4
    (None, 1234, "bytes */1234"),
    (range(500), 1234, "bytes 0-499/1234"),
    (range(500, 1000), 1234, "bytes 500-999/1234"),
    (range(500, 1234), 1234, "bytes 500-1233/1234"),
    (range(734, 1234), 1234, "bytes 734-1233/1234"),
])
def test_content_range(span: range | None, length: int, value: str) -> None:
    assert content_range(span, length) == value


# Several parts: section 14.6.

def parts_of(kind: str, body: bytes) -> list[email.message.Message]:
    """The parts of a multipart body, as the standard library's mail parser sees them."""
    message = email.message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
    assert message.is_multipart(), body[:200]
    assert not message.defects, message.defects
    parts = message.get_payload()
    assert isinstance(parts, list)
    return [part for part in parts if isinstance(part, email.message.Message)]


@given(st.lists(st.tuples(st.integers(0, 600_000), st.integers(1, 300_000)), min_size=2, max_size=5))
def test_a_body_of_several_parts(tmp_path_factory: pytest.TempPathFactory, spans: list[tuple[int, int]]) -> None:
    path = tmp_path_factory.getbasetemp() / "ranges"
    if not path.exists():
        path.write_bytes(b"0123456789" * 90_000)  # no line ends, which the mail parser would tidy up
    data = path.read_bytes()
    wanted = [range(start, start + size) for start, size in spans]
    multipart = Multipart(path.open("rb"), wanted, len(data), "text/x-test; charset=utf-8")
    body = b"".join(multipart)
    multipart.close()
    assert len(body) == multipart.size
    parts = parts_of(multipart.content_type, body)
    assert [part["Content-Range"] for part in parts] == [content_range(span, len(data)) for span in wanted]
    assert {part["Content-Type"] for part in parts} == {"text/x-test; charset=utf-8"}
    assert [part.get_payload(decode=True) for part in parts] == [data[span.start:span.stop] for span in wanted]


def test_no_two_bodies_have_the_same_boundary(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    kinds = set()
    for _ in range(10):
        multipart = Multipart((tmp_path / "a").open("rb"), [range(1), range(5, 6)], 10, "text/plain")
        kinds.add(multipart.content_type)
        multipart.close()
    assert len(kinds) == 10


def test_a_body_of_several_parts_ends_early_with_its_file_and_closes_it(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    file = path.open("rb")
    multipart = Multipart(file, [range(2), range(4, 8), range(9, 10)], 10, "text/plain")
    path.write_bytes(b"01234")
    body = b"".join(multipart)
    assert body.endswith(b"\r\n\r\n4")
    assert len(body) < multipart.size
    multipart.close()
    assert file.closed
    multipart.close()
