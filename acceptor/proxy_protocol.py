"""HAProxy's PROXY protocol: before the first byte of a connection, TLS or not, a proxy says whose connection it is.

Versions 1 (a line of text) and 2 (binary), as in https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt, whose
sections are cited. No I/O here. The header is read once, at the start of a connection, and never again on a later
request: there it would be the client's. And only from proxies that are known to send it; whether it is there must not
be guessed (section 2), or anybody could claim any address.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from acceptor.networks import unmapped

__all__ = ["Parsed", "ProxyHeaderError", "parse"]

_V1 = b"PROXY "
_V1_LONGEST = 107
"""Bytes of a line, CRLF included: section 2.1."""
_PORT = re.compile(rb"0|[1-9][0-9]{0,4}")

_V2 = b"\r\n\r\n\0\r\nQUIT\n"
_V2_LONGEST = 4096
"""Bytes after the first 16. Section 2.2 has 216 at most, and TLVs without a limit; real ones are some hundred bytes."""
_V2_ADDRESSES = {0x11: 12, 0x12: 12, 0x21: 36, 0x22: 36, 0x31: 216, 0x32: 216}
"""Bytes of the addresses, by family (4 bits) and transport (4 bits)."""


class ProxyHeaderError(Exception):
    """What came is no PROXY header. Close the connection (section 2.1): nobody knows who it is. Safe to log."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """A whole PROXY header."""

    source: tuple[str, int] | None
    """The client's address and port. None where the proxy speaks for itself (LOCAL, as in a health check) or gives no
    TCP address (UNKNOWN, AF_UNSPEC, UNIX, UDP): the connection's own counts."""
    length: int
    """Bytes of the header; what comes behind them is the client's."""


def parse(data: bytes) -> Parsed | None:
    """The PROXY header at the beginning of `data`; None if more bytes are needed, of 4112 at most.

    ProxyHeaderError as soon as it can be none any more. TLVs of version 2 are skipped, a checksum (PP2_TYPE_CRC32C)
    too: section 2.2.3 asks for its check only of receivers that support it, and TCP has its own.
    """
    if data.startswith(_V2):
        return _parse_v2(data)
    if data.startswith(_V1):
        return _parse_v1(data)
    if _V1.startswith(data) or _V2.startswith(data):
        return None
    raise ProxyHeaderError(f"no PROXY header, but {data[:16]!r}")


def _parse_v1(data: bytes) -> Parsed | None:
    """Section 2.1."""
    line, end, _ = data[:_V1_LONGEST].partition(b"\r\n")
    if b"\n" in line or b"\r" in (line if end else line[:-1]):
        raise ProxyHeaderError("a PROXY line with a single CR or LF in it")
    if not end:
        if len(data) >= _V1_LONGEST:
            raise ProxyHeaderError(f"a PROXY line of more than {_V1_LONGEST} bytes")
        return None
    length = len(line) + 2
    parts = line.split(b" ")
    if parts[1] == b"UNKNOWN":  # whatever follows on the line is to be ignored
        return Parsed(None, length)
    if len(parts) != 6 or parts[1] not in (b"TCP4", b"TCP6"):
        raise ProxyHeaderError(f"not PROXY TCP4|TCP6 SOURCE DESTINATION PORT PORT: {line!r}")
    source, _ = (_v1_address(parts[1], part) for part in parts[2:4])
    port, _ = (_v1_port(part) for part in parts[4:])
    return Parsed((source, port), length)


def _v1_address(family: bytes, text: bytes) -> str:
    try:
        if b"%" in text:  # a scope id, in which ipaddress takes any character
            raise ValueError
        address = text.decode("ascii")
        return str(IPv4Address(address) if family == b"TCP4" else unmapped(IPv6Address(address)))
    except ValueError:
        raise ProxyHeaderError(f"PROXY {family.decode()} with the address {text!r}") from None


def _v1_port(text: bytes) -> int:
    if not _PORT.fullmatch(text) or int(text) > 65535:
        raise ProxyHeaderError(f"PROXY with the port {text!r}: 0-65535, no leading zeros")
    return int(text)


def _parse_v2(data: bytes) -> Parsed | None:
    """Section 2.2. Each byte is judged when it is there, but no address before the whole header is."""
    start = len(_V2)
    local = False
    if len(data) > start:
        if data[start] not in (0x20, 0x21):
            raise ProxyHeaderError(f"PROXY version and command {data[start]:#04x}: 0x20 and 0x21 are known")
        local = data[start] == 0x20
    if len(data) > start + 1 and not local:  # of LOCAL the family is to be ignored
        family, transport = divmod(data[start + 1], 16)
        if family > 3 or transport > 2:
            raise ProxyHeaderError(f"PROXY family and transport {data[start + 1]:#04x}: 0x00 to 0x32 are known")
    if len(data) < start + 4:
        return None
    kind, size = struct.unpack_from("!BH", data, start + 1)
    if size > _V2_LONGEST:
        raise ProxyHeaderError(f"a PROXY header of {size} bytes, more than {_V2_LONGEST}")
    if not local and size < _V2_ADDRESSES.get(kind, 0):
        raise ProxyHeaderError(f"PROXY addresses of kind {kind:#04x} in {size} bytes")
    begin, end = start + 4, start + 4 + size
    if len(data) < end:
        return None
    if local or kind not in (0x11, 0x21):
        return Parsed(None, end)
    width = 4 if kind == 0x11 else 16
    source = data[begin:begin + width]
    (port,) = struct.unpack_from("!H", data, begin + 2 * width)
    return Parsed((str(IPv4Address(source) if width == 4 else unmapped(IPv6Address(source))), port), end)
