"""Networks: which addresses are in, the spellings accept(2) has for one address, and what a wrong value says."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import acceptor.networks
from acceptor.networks import Networks, parse_address


@pytest.mark.parametrize(("values", "address", "inside"), [
    (["10.0.0.0/8"], "10.255.255.255", True),
    (["10.0.0.0/8"], "11.0.0.0", False),
    (["10.0.0.0/8"], "::ffff:10.0.0.1", True),          # RFC 4291 section 2.5.5.2: IPv4-mapped
    (["10.0.0.0/8"], "::ffff:a00:1", True),
    (["10.0.0.0/8"], "::10.0.0.1", False),              # section 2.5.5.1: IPv4-compatible is something else
    (["10.0.0.0/255.0.0.0"], "10.1.2.3", True),
    (["127.0.0.1"], "127.0.0.1", True),
    (["127.0.0.1"], "127.0.0.2", False),
    (["::1"], "::1", True),
    (["::1"], "0:0:0:0:0:0:0:1", True),
    (["::1"], "127.0.0.1", False),
    (["2001:db8::/32"], "2001:DB8:cafe::17", True),
    (["fe80::/10"], "fe80::1%eth0", True),              # RFC 4007 section 11: a zone
    (["fe80::1"], "fe80::1%2", True),
    (["0.0.0.0/0"], "198.51.100.7", True),
    (["0.0.0.0/0"], "2001:db8::1", False),
    (["::/0"], "::ffff:198.51.100.7", False),
    (["unix"], "unix", True),
    (["unix"], "127.0.0.1", False),
    (["0.0.0.0/0", "::/0"], "unix", False),
    (["*"], "unix", True),
    (["*"], "198.51.100.7", True),
    (["192.0.2.1", "10.0.0.0/8", "unix"], "10.0.0.1", True),
    ([], "127.0.0.1", False),
    (["10.0.0.0/8"], "", False),
    (["10.0.0.0/8"], "10.0.0.0/8", False),
    (["10.0.0.0/8"], "010.0.0.1", False),
    (["10.0.0.0/8"], "10.0.0.1:80", False),
])
def test_an_address_is_in_or_not(values: list[str], address: str, inside: bool) -> None:
    assert (address in Networks(values)) is inside


@given(st.text())
def test_a_membership_never_raises(text: str) -> None:
    parsed = parse_address(text)
    assert (text in Networks(["0.0.0.0/0", "::/0"])) is (parsed is not None)
    assert text in Networks(["*"])


@given(st.ip_addresses(v=4), st.integers(0, 32))
def test_the_mapped_and_the_plain_address_are_in_the_same_networks(address: ipaddress.IPv4Address, bits: int) -> None:
    network = ipaddress.ip_network((int(address), bits), strict=False)
    other = str(ipaddress.IPv4Address(int(network.network_address) ^ (1 << 32 - bits) & 0xFFFFFFFF))
    networks = Networks([str(ipaddress.IPv4Network((network.network_address, bits)))])
    for spelling in ("", "::ffff:"):
        assert spelling + str(address) in networks
        assert (spelling + other in networks) is (bits == 0)


def test_it_takes_any_iterable_and_is_false_if_that_is_empty() -> None:
    assert not Networks(())
    assert Networks(value for value in ("unix",))
    assert repr(Networks({"10.0.0.0/8"})) == "Networks(['10.0.0.0/8'])"


@pytest.mark.parametrize(("values", "error", "fix"), [
    ("10.0.0.0/8", TypeError, 'pass a list'),
    (b"10.0.0.0/8", TypeError, 'pass a list'),
    (None, TypeError, 'pass a list'),
    ([b"10.0.0.0/8"], TypeError, "pass a str, not bytes"),
    ([167772160], TypeError, "pass a str, not int"),
    (["10.0.0.5/8"], ValueError, 'write "10.0.0.0/8" for the network, or "10.0.0.5"'),
    (["2001:db8::1/32"], ValueError, 'write "2001:db8::/32" for the network'),
    (["::ffff:10.0.0.0/104"], ValueError, 'write "10.0.0.0/8"'),
    (["::ffff:10.0.0.1"], ValueError, 'write "10.0.0.1/32"'),
    (["localhost"], ValueError, "no host name"),
    (["10.0.0.1:80"], ValueError, "no host name, port or scope id"),
    (["fe80::1%eth0"], ValueError, "scope id"),
    (["fe80::%eth0/10"], ValueError, "scope id"),
    (["10.0.0.0/33"], ValueError, "pass an address"),
    (["10.0.0.0/8,127.0.0.1"], ValueError, "pass an address"),
    ([""], ValueError, "pass an address"),
    (["127.0.0.1", "Unix"], ValueError, "'Unix': pass an address"),
])
def test_a_wrong_value_fails_at_once_and_says_the_fix(values: Any, error: type[Exception], fix: str) -> None:
    with pytest.raises(error) as caught:
        Networks(values, name="trusted_proxies")
    assert str(caught.value).startswith("trusted_proxies")
    assert fix in str(caught.value)


def test_a_repeated_peer_is_looked_up_once_and_not_everybody_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []

    def parse(text: str) -> object:
        parsed.append(text)
        return parse_address(text)

    monkeypatch.setattr(acceptor.networks, "parse_address", parse)
    networks = Networks(["10.0.0.0/8"])

    def ask(addresses: Iterable[str]) -> int:
        parsed.clear()
        assert all(address in networks for address in addresses)
        return len(parsed)

    assert ask(["10.0.0.1"] * 1000) == 1
    assert ask(f"10.1.{high}.{low}" for high in range(20) for low in range(256)) == 20 * 256
    assert ask(["10.0.0.1"]) == 1, "the oldest answers are forgotten"
    assert ask([f"10.1.19.{low}" for low in range(256)]) == 0, "the latest are not"
