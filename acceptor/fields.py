"""The parts of a response's head, checked: names and values of fields, the reason phrase.

What a handler puts there must not be able to end a line, or everything behind it would be ours no more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from http import HTTPStatus

from acceptor.grammar import TCHAR

__all__ = ["check_field", "check_reason", "encode_field", "encode_headers", "phrase"]

_NAME = re.compile(TCHAR + rb"+")
"""RFC 9110 section 5.1: token."""
_BAD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]|^[ \t]|[ \t]$")
"""RFC 9110 section 5.5: no control byte but tab, and no white space around."""
_REASON = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
"""RFC 9112 section 4: no control byte but tab."""
_PHRASES = {status.value: status.phrase for status in HTTPStatus} | {
    413: "Content Too Large", 414: "URI Too Long", 416: "Range Not Satisfiable", 422: "Unprocessable Content",
}
"""As RFC 9110 section 15 has them, which Python before 3.13 does not."""


def phrase(status: int) -> str:
    """The standard reason phrase of `status`, or "" if it has none."""
    return _PHRASES.get(status, "")


def check_field(name: bytes, value: bytes) -> None:
    """ValueError if these cannot be a header field: RFC 9110 sections 5.1 and 5.5."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"header name {name!r}: only letters, digits and !#$%&'*+-.^_`|~ may stand in one")
    if _BAD_VALUE.search(value):
        raise ValueError(f"header {name.decode()}: value {value!r} holds a control byte (a line end, perhaps) or "
                         "white space at an end; remove it")


def check_reason(reason: str) -> bytes:
    """`reason` as bytes; ValueError if it cannot be a reason phrase (RFC 9112 section 4)."""
    try:
        encoded = reason.encode("latin-1")
    except (AttributeError, UnicodeEncodeError):
        encoded = b"\0"
    if not _REASON.fullmatch(encoded):
        raise ValueError(f"reason={reason!r:.80}: pass a str within latin-1, without control characters")
    return encoded


def encode_headers(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """`headers`, a mapping or pairs, as bytes, the names in lower case; TypeError or ValueError, with the fix, if they
    cannot stand in a response."""
    if not isinstance(headers, Iterable):
        raise TypeError(f"headers={headers!r}: pass a mapping, or pairs of a name and a value")
    encoded = []
    for pair in headers.items() if isinstance(headers, Mapping) else headers:
        try:
            if isinstance(pair, str):  # of two characters
                raise TypeError
            name, value = pair
        except (TypeError, ValueError):
            raise TypeError(_NO_PAIR.format(pair)) from None
        usual = type(name) is str and type(value) is str and len(name) + len(value) <= _SHORT
        encoded.append(_remembered(name, value) if usual else encode_field(name, value))
    return encoded


def encode_field(name: str, value: str) -> tuple[bytes, bytes]:
    """One header as `encode_headers` has it, with its errors."""
    try:
        raw_name, raw_value = name.encode("latin-1"), value.encode("latin-1")
    except (AttributeError, TypeError, ValueError):
        raise TypeError(_NO_PAIR.format((name, value))) from None
    check_field(raw_name, raw_value)
    raw_name = raw_name.lower()
    if raw_name == b"transfer-encoding":
        raise ValueError("header Transfer-Encoding: how the body is framed is the server's business; leave it out")
    if raw_name == b"content-length" and not (raw_value.isdigit() and len(raw_value) < 19):  # 19 digits: over 63 bits
        raise ValueError(f"header Content-Length: {raw_value!r:.40} is not a number of bytes; give one, or leave it "
                         "out")
    return raw_name, raw_value


_NO_PAIR = "header {!r}: pass a name and a value, both str and within latin-1"
_SHORT = 128
"""Characters up to which a header is remembered. Most headers of a server are always the same few."""
_remembered = lru_cache(1024)(encode_field)
