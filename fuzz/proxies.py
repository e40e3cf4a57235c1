"""Targets `proxy` and `forwarded`: who the client is, as a proxy says, or somebody who would like to be taken for one.

    proxy       only ProxyHeaderError; None for as long as it may still become a header, and no longer than 4112 bytes;
                what has been decided stays, whatever else comes; addresses are addresses
    forwarded   nothing is raised; an address that our proxy has written is believed, whatever stands left of it; who is
                not trusted says nothing; only headers that came remain, in order
"""

from __future__ import annotations

import time
from ipaddress import ip_address

from acceptor.forwarded import ForwardedHeaders, Seen
from acceptor.networks import Networks
from acceptor.proxy_protocol import Parsed, ProxyHeaderError, parse
from fuzz.choices import Choices

__all__ = ["forwarded", "proxy"]

_LONGEST = 16 + 4096
_FINE = 300
"""Bytes up to which every beginning of an input is looked at; beyond, some."""


def proxy(data: bytes) -> None:
    """PROXY headers, by their every beginning."""
    decided: Parsed | str | None = None
    for end in [*range(min(len(data), _FINE)), *range(_FINE, len(data), 97), len(data)]:
        outcome = _parse(data[:end])
        if isinstance(decided, Parsed):
            assert outcome == decided, "it was whole, and became something else"
        elif decided is not None:
            assert isinstance(outcome, str), "it could be none, and became one"
        elif isinstance(outcome, Parsed):
            assert outcome.length == end or end > _FINE, "it was whole before"
            assert outcome.length <= end
        decided = outcome
    if isinstance(decided, Parsed) and decided.source is not None:
        _check_address(decided.source)
        address, port = decided.source
        family = "TCP6" if ":" in address else "TCP4"
        line = f"PROXY {family} {address} {address} {port} {port}\r\n".encode()
        assert parse(line + data) == Parsed(decided.source, len(line))
    if len(data) >= _LONGEST:
        assert decided is not None, "it is waited for, and is long enough"


def _parse(data: bytes) -> Parsed | str | None:
    try:
        return parse(data)
    except ProxyHeaderError as error:
        text = str(error)
        assert text.isascii(), "not safe to log"
        assert text.isprintable(), "not safe to log"
        return text


def _check_address(address: tuple[str, int]) -> None:
    assert str(ip_address(address[0])) == address[0]
    assert not address[0].lower().startswith("::ffff:"), "an IPv4 address in two spellings"
    assert "%" not in address[0]
    assert 0 <= address[1] <= 65535


_PROXIES = Networks(["10.0.0.0/8", "::1", "unix"])
_RESOLVERS = {b"x-forwarded-for": ForwardedHeaders(_PROXIES), b"forwarded": ForwardedHeaders(_PROXIES, "forwarded")}
_CLIENT = ("203.0.113.7", 0)
_APPENDED = {
    b"x-forwarded-for": [b"203.0.113.7", b"203.0.113.7, 10.1.2.3", b'"203.0.113.7"', b"203.0.113.7,::1 , [::1]:80"],
    b"forwarded": [b"for=203.0.113.7", b"for=203.0.113.7;proto=https, for=10.0.0.1", b'for="203.0.113.7"',
                   b'for=203.0.113.7;host="a,b;c", for="[::1]:80"'],
}
"""What our own proxies have written behind what came to them: the client is always the same."""
_PEERS = [("10.0.0.1", 4711), ("198.51.100.1", 4711), ("::1", 0), ("unix", 0)]
_PATIENCE = 1.0
"""Seconds of CPU for a field as long as a head may be."""
_FIELD = 32_768


def forwarded(data: bytes) -> None:
    """X-Forwarded-For and Forwarded, with anything in front of what a proxy has appended."""
    choices = Choices(data)
    name = choices.one_of(list(_RESOLVERS))
    peer = choices.one_of(_PEERS)
    appended = choices.one_of(_APPENDED[name])
    repeat = choices.byte() >= 0xf0
    said = choices.rest()
    headers = [(b"host", b"a"), *_headers(said), (name, b"," + appended), (b"x-last", b"1")]
    seen = _resolve(name, peer, headers)
    _check(seen, peer, headers)
    if peer[0] in _PROXIES:
        assert seen.client == _CLIENT, f"{said!r} makes the client {seen.client}"
    alone = _resolve(name, peer, [(name, said)])
    _check(alone, peer, [(name, said)])
    if peer[0] in _PROXIES:
        joined = _resolve(name, peer, [(name, said + b"," + appended)])
        assert joined.client == _CLIENT, f"{said!r} makes the client {joined.client}"
    if repeat and said:
        began = time.thread_time()
        _resolve(name, peer, [(name, said * (_FIELD // len(said)))])
        assert time.thread_time() - began < _PATIENCE, "a field like this takes far too long"


def _headers(said: bytes) -> list[tuple[bytes, bytes]]:
    """`name: value` in each line; all kinds of names are worth it."""
    lines = [line.partition(b":") for line in said.split(b"\n")[:20]]
    return [(name.strip().lower(), value.strip()) for name, _, value in lines]


def _resolve(name: bytes, peer: tuple[str, int], headers: list[tuple[bytes, bytes]]) -> Seen:
    return _RESOLVERS[name].resolve(peer, "http", headers)


def _check(seen: Seen, peer: tuple[str, int], headers: list[tuple[bytes, bytes]]) -> None:
    if seen.client != peer:
        assert peer[0] in _PROXIES, "believed, and not trusted"
        _check_address(seen.client)
    assert seen.scheme in ("http", "https")
    if peer[0] not in _PROXIES:
        assert (seen.scheme, seen.host) == ("http", None)
        assert not any(pair[0].replace(b"_", b"-").startswith(b"x-forwarded-")
                       or pair[0].replace(b"_", b"-") in (b"forwarded", b"x-real-ip", b"x-client-ip")
                       for pair in seen.headers), "a header that nobody vouches for"
    if seen.host is not None:
        assert seen.host.isascii()
        assert seen.host.isprintable()
        assert not set(seen.host) & set(" /?#@\\\"'<>,;"), f"a host like {seen.host!r}"
    left = iter(headers)
    assert all(pair in left for pair in seen.headers), "a header that did not come, or not in that order"
