"""Inputs to begin with: well-formed ones of every kind, and some that are refused. What is rare is found from these.

They are written by the program into the working corpus of a run; there are no files to be kept in step with the code.
"""

from __future__ import annotations

from collections.abc import Iterable

from acceptor.violations import Violation

__all__ = ["SEEDS", "lead"]

_GET = b"GET /a?b=c HTTP/1.1\r\nHost: a\r\n"
_POST = b"POST /p HTTP/1.1\r\nHost: a\r\n"
_CHUNKED = _POST + b"Transfer-Encoding: chunked\r\n\r\n"

REQUESTS = [
    _GET + b"\r\n",
    _GET + b"\r\n" + _GET + b"Connection: close\r\n\r\n",
    b"HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + _GET + b"\r\n",
    b"\r\n\r\n" + _POST + b"Content-Length: 5\r\n\r\nhello\r\n" + _GET + b"\r\n",
    _POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
    _CHUNKED + b"5;a=b\r\nhello\r\n0\r\nX: 1\r\n\r\n" + _GET + b"\r\n",
    _CHUNKED + b"a ; a = \"b;\\\"c\"\r\n0123456789\r\n5\r\nhello\r\n0\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\nX: \xe9\r\n\r\n",
    b"GET http://a:80/b HTTP/1.1\r\nHost: a:80\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    b"GET / HTTP/1.7\r\nHost:\r\n\r\n",
    b"DELETE / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01",
    b"GET / HTTP/2.0\r\n\r\n",
]
VIOLATING = {
    Violation.BARE_LF: b"\nGET / HTTP/1.1\nHost: a\n\n",
    Violation.OBS_FOLD: _GET + b"X: 1\r\n 2\r\n\r\n",
    Violation.CONTROL_BYTE: _GET + b"X: 1\x01\r\n\r\n",
    Violation.LENGTH_AND_CHUNKED:
        _POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n0\r\n\r\n",
    Violation.CHUNKED_IN_1_0: b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n0\r\n\r\n",
    Violation.REPEATED_LENGTH: _POST + b"Content-Length: 2, 2\r\nContent-Length: 2\r\n\r\nhe",
    Violation.INVALID_HOST: b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    Violation.MISMATCHED_HOST: b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
    Violation.INVALID_TARGET: b"GET a#b HTTP/1.1\r\nHost: a\r\n\r\n",
    Violation.UNUSUAL_METHOD: b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
    Violation.UNKNOWN_EXPECTATION: _GET + b"Expect: more\r\n\r\n",
    Violation.CHUNK_SPACE: _CHUNKED + b"2 \r\nhe\r\n0\t\r\n\r\n",
    Violation.FORBIDDEN_TRAILER: _CHUNKED + b"2\r\nhe\r\n0\r\nHost: b\r\nX: 1\r\n\r\n",
}
_BODIES = [
    b"5\r\nhello\r\n0\r\n\r\n",
    b"2;a=b;c\r\nhe\r\n3\r\nllo\r\n000\r\nX: 1\r\nY: 2\r\n\r\nGET", b"5\r\nhelloX", b"g\r\n",
    b"1\t;\ta=\"\\\"\"\r\na\r\n0\r\n\r\n", b"ffffffffffffffff\r\n",
]
_V2 = b"\r\n\r\n\0\r\nQUIT\n"
PROXY = [
    b"PROXY TCP4 203.0.113.7 10.0.0.1 49152 80\r\nGET", b"PROXY TCP6 2001:db8::7 ::ffff:10.0.0.1 49152 80\r\n",
    b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN a b c\r\n",
    _V2 + b"\x21\x11\0\x0c\xcb\0\x71\7\x0a\0\0\1\xc0\0\0\x50GET", _V2 + b"\x20\0\0\0", _V2 + b"\x21\0\0\3abc",
    _V2 + b"\x21\x21\0\x28" + bytes(range(0x28)),
]
_FORWARDED = [b"", b"198.51.100.1", b'for="', b"for=_hidden;proto=https", b'for="[2001:db8::1]:80";host="a\\"b", for=x',
              b"x-forwarded-for: 1.2.3.4\nx-forwarded-proto: https\nx_forwarded_host: b\nforwarded: for=1.2.3.4",
              b"\"1.2.3.4\", unknown, ::1", b'a="\\",b=",c="']


def lead(allowed: Iterable[Violation] = (), limits: int = 0, cuts: int = 0, options: bytes = b"\0\0\0\0") -> bytes:
    """The settings at the beginning of an input for `wire`, `chunks` or `connection`: see `fuzz.choices`."""
    bits = sum(1 << list(Violation).index(each) for each in allowed)
    return bytes([bits >> 8, bits & 255, limits, cuts]) + options


def _requests(options: bytes) -> list[bytes]:
    return [*(lead(limits=number % 4, options=options) + sent for number, sent in enumerate(REQUESTS)),
            *(lead(options=options) + sent for sent in REQUESTS),
            *(lead([violation], options=options) + sent for violation, sent in VIOLATING.items()),
            lead(Violation, options=options) + b"".join(VIOLATING.values())]


def _connections() -> list[bytes]:
    ways = [bytes([way | other << 3, manner, at_most, options]) for way, other, manner, at_most, options in [
        (0, 0, 0, 0, 0), (4, 0, 0, 7, 0), (1, 2, 1, 0, 0), (3, 5, 2, 0, 2), (6, 7, 0x14, 0, 4), (7, 7, 0, 0, 8)]]
    proxied = [lead(options=b"\0\0\0\3") + PROXY[0][:-3] + sent for sent in REQUESTS[:2]]
    return [seed for options in ways for seed in _requests(options)] + proxied


SEEDS = {
    "wire": _requests(b"\0\0\0\0"),
    "chunks": [*(lead(limits=limits) + sent for sent in _BODIES for limits in range(4)),
               *(lead([violation], 3) + sent.partition(b"\r\n\r\n")[2] for violation, sent in VIOLATING.items()),
               lead(options=b"\1\0\0\0") + b"\2\5hello\3abc\4\2\1a\2bcrest"],
    "connection": _connections(),
    "proxy": PROXY,
    "forwarded": [bytes([name, peer, appended, repeat]) + said for name in range(2) for said in _FORWARDED
                  for peer, appended, repeat in [(0, 0, 0), (1, 1, 0), (2, 2, 0xff), (3, 3, 0)]],
    "response": [bytes([method, version, 1, 0, 1, status, 0, 0, 0, form]) + b"\3\5hello\5world\4 end"
                 for method, version, status, form in
                 [*((0, 0, 0, form) for form in range(9)), *((1, 1, status, 0) for status in range(6)), (0, 1, 0, 3)]]
    + [b"\0\0\1\0\1\0\2\1\2\1\0\1\0\1\3\0\0\0\0HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"],
}
"""By target."""
