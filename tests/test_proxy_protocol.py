"""The PROXY protocol: rows from its specification, and that no cut and no garbage gives a wrong answer."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from acceptor.proxy_protocol import Parsed, ProxyHeaderError, parse

SIGNATURE = bytes.fromhex("0D0A0D0A000D0A515549540A")
"""Section 2.2."""
FOUR = bytes([192, 0, 2, 1, 10, 0, 0, 1]) + struct.pack("!HH", 56324, 443)
SIX = ipaddress.IPv6Address("2001:db8::17").packed + ipaddress.IPv6Address("::1").packed + struct.pack("!HH", 65535, 80)
MAPPED = ipaddress.IPv6Address("::ffff:192.0.2.1").packed * 2 + struct.pack("!HH", 1, 80)
NOOP = b"\x04\x00\x02xx"
CHECKSUM = b"\x03\x00\x04\xde\xad\xbe\xef"  # a wrong one


def v2(version_and_command: int, kind: int, payload: bytes = b"") -> bytes:
    return SIGNATURE + bytes([version_and_command, kind]) + struct.pack("!H", len(payload)) + payload


GOOD: list[tuple[str, bytes, tuple[str, int] | None]] = [
    # Section 2.1.
    ("2.1", b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", ("192.168.0.1", 56324)),
    ("2.1 longest", b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", ("255.255.255.255", 65535)),
    ("2.1 port 0", b"PROXY TCP4 192.0.2.1 192.0.2.2 0 0\r\n", ("192.0.2.1", 0)),
    ("2.1", b"PROXY TCP6 2001:db8::1 ::1 1 80\r\n", ("2001:db8::1", 1)),
    ("2.1 any case", b"PROXY TCP6 2001:DB8:0:0:0:0:0:1 ::1 1 80\r\n", ("2001:db8::1", 1)),
    ("2.1 longest", b"PROXY TCP6 " + b" ".join([b":".join([b"ffff"] * 8)] * 2) + b" 65535 65535\r\n",
     (":".join(["ffff"] * 8), 65535)),
    ("2.1 mapped", b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 1 80\r\n", ("192.0.2.1", 1)),
    ("2.1 short", b"PROXY UNKNOWN\r\n", None),
    ("2.1 ignored", b"PROXY UNKNOWN 192.0.2.1 what ever\r\n", None),
    ("2.1 ignored", b"PROXY UNKNOWN \xff\x00\r\n", None),
    ("2.1 worst case", b"PROXY UNKNOWN " + b"f" * 91 + b"\r\n", None),
    # Section 2.2.
    ("2.2 TCP4", v2(0x21, 0x11, FOUR), ("192.0.2.1", 56324)),
    ("2.2 TCP6", v2(0x21, 0x21, SIX), ("2001:db8::17", 65535)),
    ("2.2 mapped", v2(0x21, 0x21, MAPPED), ("192.0.2.1", 1)),
    ("2.2 TLVs skipped", v2(0x21, 0x11, FOUR + NOOP + NOOP), ("192.0.2.1", 56324)),
    ("2.2.3 checksum not supported", v2(0x21, 0x21, SIX + CHECKSUM), ("2001:db8::17", 65535)),
    ("2.2 longest here", v2(0x21, 0x11, FOUR.ljust(4096, b"\0")), ("192.0.2.1", 56324)),
    ("2.2 LOCAL", v2(0x20, 0x00), None),
    ("2.2 LOCAL, block discarded", v2(0x20, 0x11, FOUR), None),
    ("2.2 LOCAL, family ignored", v2(0x20, 0xFF, b"any"), None),
    ("2.2 LOCAL, short", v2(0x20, 0x21, b"any"), None),
    ("2.2 UNSPEC", v2(0x21, 0x00), None),
    ("2.2 UNSPEC, ignored", v2(0x21, 0x00, FOUR), None),
    ("2.2 AF_INET, UNSPEC transport", v2(0x21, 0x10, FOUR), None),
    ("2.2 UDP is not supported", v2(0x21, 0x12, FOUR), None),
    ("2.2 UDP is not supported", v2(0x21, 0x22, SIX), None),
    ("2.2 UNIX", v2(0x21, 0x31, b"/a".ljust(108, b"\0") * 2), None),
    ("2.2 UNIX datagram", v2(0x21, 0x32, bytes(216)), None),
]

BAD: list[tuple[str, bytes]] = [
    # Section 2.2, end: what is neither.
    ("2.2 HTTP", b"GET / HTTP/1.1\r\n"),
    ("2.2 at once", b"G"),
    ("2.2 at once", b"PR0"),
    ("2.2 at once", b"PROXY\r"),
    ("2.2 at once", b"p"),
    ("2.2 at once", b"\r\n\r\n\r"),
    ("2.2 at once", b"\r\n\r\n\0\r\nQUIT\r"),
    ("2.2 TLS", b"\x16\x03\x01"),
    # Section 2.1.
    ("2.1 one space", b"PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n"),
    ("2.1 one space", b"PROXY TCP4 192.0.2.1 192.0.2.2  1 2\r\n"),
    ("2.1 no space", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n"),
    ("2.1 protocol", b"PROXY\x20\r\n"),
    ("2.1 protocol", b"PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n"),
    ("2.1 protocol", b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n"),
    ("2.1 protocol", b"PROXY UNKNOWNS\r\n"),
    ("2.1 too few", b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n"),
    ("2.1 too many", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n"),
    ("2.1 family", b"PROXY TCP4 ::1 ::1 1 2\r\n"),
    ("2.1 family", b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n"),
    ("2.1 family, destination", b"PROXY TCP4 192.0.2.1 ::1 1 2\r\n"),
    ("2.1 4 integers", b"PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n"),
    ("2.1 [0..255]", b"PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n"),
    ("2.1 heading zeros", b"PROXY TCP4 192.0.02.1 192.0.2.2 1 2\r\n"),
    ("2.1 128 bits", b"PROXY TCP6 1:2:3:4:5:6:7 ::1 1 2\r\n"),
    ("2.1 one ::", b"PROXY TCP6 1::2::3 ::1 1 2\r\n"),
    ("2.1 scope id", b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n"),
    ("2.1 scope id", b"PROXY TCP6 fe80::1%<b> ::1 1 2\r\n"),
    ("2.1 ASCII", "PROXY TCP4 192.0.2.\N{SUPERSCRIPT ONE} 192.0.2.2 1 2\r\n".encode()),
    ("2.1 name", b"PROXY TCP4 localhost 192.0.2.2 1 2\r\n"),
    ("2.1 port", b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n"),
    ("2.1 port", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n"),
    ("2.1 port", b"PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n"),
    ("2.1 port", b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n"),
    ("2.1 port, heading zeros", b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n"),
    ("2.1 port, heading zeros", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 00\r\n"),
    ("2.1 single LF", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n"),
    ("2.1 single LF", b"PROXY UNKNOWN\n\r\n"),
    ("2.1 single CR", b"PROXY UNKNOWN\rG"),
    ("2.1 single CR", b"PROXY UNKNOWN a\rb\r\n"),
    ("2.1 single CR", b"PROXY UNKNOWN a\r\r\n"),
    ("2.1 CRLF after 107", b"PROXY UNKNOWN " + b"f" * 92 + b"\r\n"),
    ("2.1 no CRLF in 107", b"PROXY UNKNOWN " + b"f" * 93),
    ("2.1 no CRLF in 107", b"PROXY UNKNOWN " + b"f" * 92 + b"\r"),
    # Section 2.2. Each as soon as it is seen.
    ("2.2 version", SIGNATURE + b"\x11"),
    ("2.2 version", SIGNATURE + b"\x31"),
    ("2.2 version", SIGNATURE + b"\x01"),
    ("2.2 command", SIGNATURE + b"\x22"),
    ("2.2 command", SIGNATURE + b"\x2f"),
    ("2.2 family", SIGNATURE + b"\x21\x41"),
    ("2.2 transport", SIGNATURE + b"\x21\x13"),
    ("2.2 too short", v2(0x21, 0x11, FOUR[:-1])),
    ("2.2 too short", v2(0x21, 0x12, b"")),
    ("2.2 too short", v2(0x21, 0x21, SIX[:-1])),
    ("2.2 too short", v2(0x21, 0x22, FOUR)),
    ("2.2 too short", v2(0x21, 0x31, bytes(215))),
    ("2.2 too short", v2(0x21, 0x32, SIX)),
    ("2.2 too long here", SIGNATURE + b"\x21\x11\x10\x01"),
    ("2.2 too long here", SIGNATURE + b"\x20\x00\xff\xff"),
]


def check_cuts(data: bytes) -> None:
    for cut in range(len(data)):
        assert parse(data[:cut]) is None, data[:cut]


@pytest.mark.parametrize(("section", "data", "source"), GOOD)
def test_a_header_is_read_however_it_is_cut(section: str, data: bytes, source: tuple[str, int] | None) -> None:
    assert parse(data) == Parsed(source, len(data)), section
    assert parse(data + b"GET / HTTP/1.1\r\n") == Parsed(source, len(data)), "what follows is the client's"
    assert parse(data + data) == Parsed(source, len(data)), "a second header is the client's"
    check_cuts(data)


@pytest.mark.parametrize(("section", "data"), BAD)
def test_what_is_no_header_is_refused(section: str, data: bytes) -> None:
    for more in (b"", b"\r\nGET / HTTP/1.1\r\n\r\n", bytes(5000)):
        with pytest.raises(ProxyHeaderError):
            parse(data + more)


@pytest.mark.parametrize(("section", "data"), [(section, data) for section, data in BAD if "at once" in section])
def test_no_byte_is_waited_for_once_it_cannot_be_one(section: str, data: bytes) -> None:
    assert parse(data[:-1]) is None
    with pytest.raises(ProxyHeaderError):
        parse(data)


def test_an_error_can_be_logged() -> None:
    for data in (b"\x1b[2J\nroot", b"PROXY \x1b[2J\n\r\n", b"PROXY TCP4 \x1b[2J 1 2 3\r\n", b"PROXY TCP4 \x1b[2J\r\n"):
        with pytest.raises(ProxyHeaderError) as caught:
            parse(data)
        assert str(caught.value).isprintable()


def text_header(source: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> bytes:
    return f"PROXY TCP{source.version} {source} {source} {port} 80\r\n".encode()


def binary_header(source: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int, rest: bytes) -> bytes:
    payload = source.packed * 2 + struct.pack("!HH", port, 80) + rest
    return v2(0x21, 0x11 if source.version == 4 else 0x21, payload)


@given(st.ip_addresses(), st.integers(0, 65535), st.binary(max_size=40), st.binary(max_size=20))
def test_what_is_built_is_read_back(source: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int, tlvs: bytes,
                                    rest: bytes) -> None:
    plain = getattr(source, "ipv4_mapped", None) or source
    for data in (text_header(source, port), binary_header(source, port, tlvs)):
        assert parse(data + rest) == Parsed((str(plain), port), len(data))
        check_cuts(data)


HEADERS = st.sampled_from([data for _, data, _ in GOOD] + [data for _, data in BAD])


@given(st.one_of(
    st.binary(max_size=200),
    st.builds(lambda data: b"PROXY " + data, st.binary(max_size=120)),
    st.builds(lambda data: SIGNATURE + data, st.binary(max_size=300)),
    st.builds(lambda data, at, new: data[:at] + new + data[at + 1:], HEADERS, st.integers(0, 60),
              st.binary(max_size=3)),
))
@example(b"")
def test_more_bytes_never_change_an_answer(data: bytes) -> None:
    """Once a prefix is a header or an error, all that is longer gives the same; and nothing else is ever raised."""

    def answer(data: bytes) -> Parsed | str | None:
        try:
            return parse(data)
        except ProxyHeaderError:
            return "refused"

    decided: Parsed | str | None = None
    for end in range(len(data) + 1):
        now = answer(data[:end])
        assert decided is None or now == decided, (data[:end], decided, now)
        decided = now
        if isinstance(now, Parsed):
            assert now.length <= end
            assert now.source is None or ipaddress.ip_address(now.source[0])
