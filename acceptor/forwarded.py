"""Who the client is, as the proxies before us say: X-Forwarded-For, -Proto and -Host, or Forwarded (RFC 7239).

Each proxy appends the address it was called from, so such a chain is read from the right: the peer is trusted, hence
what it appended is true; if that address is a trusted proxy too, what that one appended is true; and so on. Whatever
stands left of an address that is not trusted was sent by it, and may be anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from acceptor.networks import Networks, parse_address

__all__ = ["ForwardedHeaders", "Seen"]

_HOPS = 100
"""Proxies of a chain that are looked at; what stands left of them is not believed, nor paid for."""

_X = b"x-forwarded-"
_NEVER_READ = (b"x-real-ip", b"x-client-ip")
"""They say who the client is and are not read here. So they are always removed: no proxy has checked them for us."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as the first of our proxies saw it."""

    client: tuple[str, int]
    """Address and port (0 if not given)."""
    scheme: str
    """"http" or "https", if a proxy said it; else the connection's own."""
    host: str | None
    """Host and port ("example.com:8443"), if a proxy said it and it can be one; else None: `Host` counts."""
    headers: list[tuple[bytes, bytes]]
    """Without the headers that nobody trusted vouches for."""


class ForwardedHeaders:
    """Reads the headers of trusted proxies, and removes those of everybody else.

    trusted: the proxies, all of them; they must append to the chosen header, or replace it.
    header: the style the proxies write. The other is always removed: a client may have sent it through a proxy that
        does not know it. So are names with "_" for "-", which CGI and WSGI cannot tell apart.

    TypeError or ValueError for anything else. Any number of threads may use one; nothing blocks.
    """

    def __init__(self, trusted: Networks, header: Literal["x-forwarded", "forwarded"] = "x-forwarded") -> None:
        if not isinstance(trusted, Networks):
            raise TypeError(f"trusted={trusted!r}: pass Networks([...])")
        if header not in ("x-forwarded", "forwarded"):
            raise ValueError(f'header={header!r}: pass "x-forwarded" or "forwarded", whichever your proxies send')
        self._trusted = trusted
        self._style = _X if header == "x-forwarded" else b"forwarded"

    def resolve(self, peer: tuple[str, int], scheme: str, headers: list[tuple[bytes, bytes]]) -> Seen:
        """Who sent the request with these `headers` that came from `peer` by `scheme`. Never raises.

        peer: of the connection, or what its PROXY header said.
        """
        kept: list[tuple[bytes, bytes]] = []
        said: dict[bytes, list[bytes]] = {}
        trusted = peer[0] in self._trusted
        for pair in headers:
            name = pair[0].lower()
            plain = name.replace(b"_", b"-")
            if plain.startswith(_X) or plain == b"forwarded" or plain in _NEVER_READ:
                if not trusted or b"_" in name or not name.startswith(self._style):
                    continue
                said.setdefault(name, []).append(pair[1])
            kept.append(pair)
        # A header sent twice is one list: RFC 9110 section 5.3.
        lists = {name: b",".join(values) for name, values in said.items()}
        if not lists:
            return Seen(peer, scheme, None, kept)
        if self._style == _X:
            return self._by_x_forwarded(peer, scheme, lists, kept)
        return self._by_forwarded(peer, scheme, lists[b"forwarded"], kept)

    def _by_x_forwarded(self, peer: tuple[str, int], scheme: str, lists: dict[bytes, bytes],
                        kept: list[tuple[bytes, bytes]]) -> Seen:
        client = peer
        for value in reversed(lists.get(_X + b"for", b"").rsplit(b",", _HOPS)):
            text = _strip(value)
            if text[:1] == text[-1:] == b'"':
                text = text[1:-1]
            if text.count(b":") > 1 and not text.startswith(b"["):  # IPv6 without brackets: RFC 7239 section 7.4
                text = b"[%b]" % text
            node = _node(text)
            if node is None:
                break
            client = node
            if client[0] not in self._trusted:
                break
        proto, host = (_strip(lists.get(_X + name, b"").rpartition(b",")[2]) for name in (b"proto", b"host"))
        return Seen(client, _scheme(proto) or scheme, _host(host), kept)

    def _by_forwarded(self, peer: tuple[str, int], scheme: str, field: bytes,
                      kept: list[tuple[bytes, bytes]]) -> Seen:
        client = peer
        host: str | None = None
        elements, well_formed = _parse_forwarded(field)
        for element in elements:
            # By whoever was trusted last; the further left, the nearer to the client.
            scheme = _scheme(element.get(b"proto", b"")) or scheme
            host = _host(element.get(b"host", b"")) or host
            node = _node(element.get(b"for", b""))
            if node is None:
                break
            client = node
            if client[0] not in self._trusted:
                break
        if not well_formed:
            kept = [pair for pair in kept if pair[0].lower() != b"forwarded"]
        return Seen(client, scheme, host, kept)


def _strip(value: bytes) -> bytes:
    return value.strip(b" \t")  # OWS; bytes.strip() would take more


_NODE = re.compile(rb"(?:([0-9.]+)|\[([0-9A-Fa-f:.]+)\])(?::(?:([0-9]{1,5})|_[0-9A-Za-z._-]+))?")


def _node(text: bytes) -> tuple[str, int] | None:
    """RFC 7239 section 6: an address, perhaps a port. None for anything else: "unknown" or "_hidden", where whoever
    knows does not say, or an empty one, or garbage."""
    match = _NODE.fullmatch(text)
    if match is None:
        return None
    four, six, port = match.groups()
    address = parse_address((four or six).decode())
    number = int(port or 0)
    if address is None or number > 65535 or (six and b":" not in six):
        return None
    return str(address), number


def _scheme(text: bytes) -> str | None:
    return {b"http": "http", b"https": "https"}.get(text.lower())  # in any case: RFC 3986 section 3.1


_HOST = re.compile(rb"(?:[0-9A-Za-z._~-]+|\[([0-9A-Fa-f:.]+)\])(?::([0-9]{1,5}))?")
"""RFC 9110 section 7.2, narrower: RFC 3986 section 3.2.2 lets a name be full of quotes and brackets. No host is."""


def _host(text: bytes) -> str | None:
    match = _HOST.fullmatch(text)
    if match is None:
        return None
    six, port = match.groups()
    if int(port or 0) > 65535 or (six and (b":" not in six or parse_address(six.decode()) is None)):
        return None
    return text.decode()


# RFC 7239 section 4, with the tokens and quoted strings of RFC 9110 section 5.6. White space around ";" is not in the
# grammar, but harmless, and sent. The quantifiers are possessive: nothing here ever goes back and tries again.
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+"'
_PAIR = re.compile(rb"(%b)=(%b|%b)" % (_TOKEN, _TOKEN, _QUOTED))
_ONE = rb"(?:%b=(?:%b|%b))?+" % (_TOKEN, _TOKEN, _QUOTED)
_ELEMENT = re.compile(rb"[ \t]*+%b(?:[ \t]*+;[ \t]*+%b)*+[ \t]*+" % (_ONE, _ONE))
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)


def _parse_forwarded(field: bytes) -> tuple[list[dict[bytes, bytes]], bool]:
    """The elements of a Forwarded, the last first, up to one that is malformed; and whether none is.

    From the right, so that a client that sends `for="` to a proxy that appends cannot spoil what was appended. A comma
    may stand in a quoted string, but the text from there to the end is never an element: it has an odd number of
    quotes, or rather of those that count. For the same reason all tries together take linear time.
    """
    elements: list[dict[bytes, bytes]] = []
    end = comma = len(field)
    while comma >= 0:
        comma = field.rfind(b",", 0, comma)
        if _ELEMENT.fullmatch(field, comma + 1, end):
            pairs = _PAIR.findall(field, comma + 1, end)
            element = {name.lower(): _unquoted(value) for name, value in pairs}
            if len(element) < len(pairs) or len(elements) == _HOPS:  # section 4: no parameter twice
                return elements, False
            elements.append(element)
            end = comma
    return elements, end < 0


def _unquoted(value: bytes) -> bytes:
    return _ESCAPE.sub(rb"\1", value[1:-1]) if value.startswith(b'"') else value
