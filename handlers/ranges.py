"""What of a representation is sent, if any: conditional requests and ranges, RFC 9110 sections 13 and 14.

    failed_precondition    304, 412, or none: If-Match, If-None-Match, If-Modified-Since, If-Unmodified-Since
    requested_ranges       the bytes that Range asks for, if If-Range allows
    Multipart              a body of several of them

No file system here and, but for Multipart, no I/O. Dates are whole seconds since the epoch.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO

__all__ = ["MOST_RANGES", "Multipart", "Validators", "content_range", "failed_precondition", "parse_date",
           "parse_ranges", "requested_ranges"]

MOST_RANGES = 100
"""Ranges in one request; with more the whole is sent, as RFC 9110 section 14.2 allows. (CVE-2011-3192 was a server that
took any number, overlapping, and prepared them all.)"""

_GAP = 80
"""Bytes between two ranges that are sent rather than the head of another part: RFC 9110 section 15.3.7.2."""
_BLOCK = 256 * 1024
"""Bytes read at a time for a body of several parts."""


@dataclass(frozen=True, slots=True)
class Validators:
    """What tells one state of a representation from another: RFC 9110 section 8.8. None: there is none to rely on."""

    etag: str | None
    """A strong entity tag, with its quotes."""
    modified: int | None
    """The date of Last-Modified, in a second that was over when it was first told to anybody."""


# Conditions: section 13.

_TAG = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')
"""Section 8.8.3: entity-tag."""


def failed_precondition(headers: Mapping[str, str], current: Validators, now: float) -> int | None:
    """412 or 304, if a precondition of a GET or HEAD says so, in the order of RFC 9110 section 13.2.2; else None.

    For a resource that would be answered with 2xx without them (section 13.2.1). A date that is none, and any date if
    there is none to compare it with, counts as not sent (sections 13.1.3 and 13.1.4).
    """
    if (wanted := headers.get("if-match")) is not None:
        if not _matches(wanted, current.etag, weakly=False):
            return 412
    elif (since := _compared(headers, "if-unmodified-since", current, now)) is not None and since > 0:
        return 412
    if (known := headers.get("if-none-match")) is not None:
        if _matches(known, current.etag, weakly=True):
            return 304
    elif (since := _compared(headers, "if-modified-since", current, now)) is not None and since <= 0:
        return 304
    return None


def _matches(value: str, etag: str | None, *, weakly: bool) -> bool:
    """Whether `value`, "*" or a list, has the entity tag `etag`, which is strong: RFC 9110 section 8.8.3.2.

    What stands in the list and is no entity tag is passed over.
    """
    if value.strip() == "*":
        return True
    return any(tag == etag and (weakly or not weak) for weak, tag in _TAG.findall(value))


def _compared(headers: Mapping[str, str], name: str, current: Validators, now: float) -> int | None:
    """Seconds from the date in header `name` to that of the last change; None if there are not two to compare."""
    value = headers.get(name)
    date = None if value is None else parse_date(value, now)
    return None if date is None or current.modified is None else current.modified - date


def _range_is_wanted(headers: Mapping[str, str], current: Validators, now: float) -> bool:
    """What If-Range says: RFC 9110 section 13.1.5.

    A date has to be the very same one, and strong in the sense of section 8.8.2.2, as those of `Validators` are.
    """
    value = headers.get("if-range")
    if value is None:
        return True
    if '"' in value[:3]:
        return value == current.etag
    date = parse_date(value, now)
    return date is not None and date == current.modified


_MONTHS = {name: number for number, name in enumerate(
    ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1)}
_DAY, _MONTH = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)", rf"(?P<month>{'|'.join(_MONTHS)})"
_LONG_DAY = "(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)"
_TIME = "(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_DATES = [re.compile(pattern) for pattern in (
    rf"{_DAY}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT",
    rf"{_LONG_DAY}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT",
    rf"{_DAY} {_MONTH} (?P<day>[0-9 ][0-9]) {_TIME} (?P<year>[0-9]{{4}})",
)]
"""RFC 9110 section 5.6.7: IMF-fixdate and the two obsolete formats, which must still be understood."""


def parse_date(text: str, now: float) -> int | None:
    """The HTTP-date `text`; None if it is none. `now` tells the century of a year of two digits."""
    found = next(filter(None, (pattern.fullmatch(text) for pattern in _DATES)), None)
    if found is None:
        return None
    year, second = int(found["year"]), int(found["second"])
    if len(found["year"]) == 2:
        this_year = datetime.fromtimestamp(now, UTC).year
        year += this_year // 100 * 100
        if year > this_year + 50:
            year -= 100
    try:
        minute = datetime(year, _MONTHS[found["month"]], int(found["day"]), int(found["hour"]), int(found["minute"]),
                          tzinfo=UTC)
    except ValueError:
        return None
    return int(minute.timestamp()) + second if second <= 60 else None  # 60: a leap second


# Ranges: section 14.

_SPEC = re.compile(r"(?P<first>[0-9]{1,100})-(?P<last>[0-9]{0,100})|-(?P<suffix>[0-9]{1,100})")
"""Section 14.1.1: int-range, suffix-range; no file has a size of more digits, and int() takes any number of so few."""


def requested_ranges(headers: Mapping[str, str], current: Validators, length: int, now: float) -> list[range] | None:
    """What a GET with these headers is to be sent of `length` bytes; see `parse_ranges`. None: everything."""
    value = headers.get("range")
    if value is None or not _range_is_wanted(headers, current, now):
        return None
    return parse_ranges(value, length)


def parse_ranges(value: str, length: int) -> list[range] | None:
    """The bytes that `value`, a Range, asks for; empty if none of them is there, which is answered 416.

    None if it is to be ignored, as RFC 9110 section 14.2 allows or demands: another unit than bytes, what is not
    well-formed, more than `MOST_RANGES`, or nothing to take a range of. Ranges that overlap or all but touch become
    one, at the place of the first of them (section 15.3.7.2), so no byte is sent twice.
    """
    unit, separator, rest = value.partition("=")
    specs = [spec for each in rest.split(",") if (spec := each.strip(" \t"))]  # section 5.6.1.2: empty elements
    if unit.lower() != "bytes" or not separator or not 0 < len(specs) <= MOST_RANGES or length == 0:
        return None
    spans = []
    for spec in specs:
        found = _SPEC.fullmatch(spec)
        if not found:
            return None
        if found["suffix"]:
            start, stop = max(0, length - int(found["suffix"])), length
        else:
            start, stop = int(found["first"]), int(found["last"]) + 1 if found["last"] else length
            if found["last"] and stop <= start:
                return None  # section 14.1.1: invalid, not merely unsatisfiable
        if start < length:
            spans.append(range(start, min(stop, length)))
    return _coalesced(spans)


def _coalesced(spans: Sequence[range]) -> list[range]:
    merged: list[tuple[int, range]] = []
    for place, span in sorted(enumerate(spans), key=lambda each: each[1].start):
        if merged and span.start <= merged[-1][1].stop + _GAP:
            earlier, before = merged[-1]
            merged[-1] = min(place, earlier), range(before.start, max(before.stop, span.stop))
        else:
            merged.append((place, span))
    return [span for _, span in sorted(merged, key=lambda each: each[0])]


class Multipart:
    """The body of a 206 with several ranges of `file`: RFC 9110 section 14.6. To be iterated once.

    It reads a block at a time, and ends early if the file does. Closing it closes `file`.
    """

    def __init__(self, file: BinaryIO, spans: Sequence[range], length: int, content_type: str) -> None:
        boundary = secrets.token_hex(16)  # no file can hold what nobody can guess
        self._file = file
        self._parts = [(_part_head(boundary, content_type, span, length), span) for span in spans]
        self._end = f"\r\n--{boundary}--\r\n".encode()
        self.content_type = f"multipart/byteranges; boundary={boundary}"
        self.size = sum(len(head) + len(span) for head, span in self._parts) + len(self._end)
        """Bytes, all in all."""

    def __iter__(self) -> Iterator[bytes]:
        for head, span in self._parts:
            at, before = span.start, head
            while at < span.stop:
                data = os.pread(self._file.fileno(), min(_BLOCK, span.stop - at), at)
                if not data:
                    return
                yield before + data
                at, before = at + len(data), b""
        yield self._end

    def close(self) -> None:
        self._file.close()


def _part_head(boundary: str, content_type: str, span: range, length: int) -> bytes:
    return (f"\r\n--{boundary}\r\nContent-Type: {content_type}\r\nContent-Range: {content_range(span, length)}\r\n\r\n"
            ).encode("latin-1")


def content_range(span: range | None, length: int) -> str:
    """The value of Content-Range for `span` of `length` bytes; None: for a 416 (RFC 9110 section 14.4)."""
    return f"bytes {span.start}-{span.stop - 1}/{length}" if span is not None else f"bytes */{length}"
