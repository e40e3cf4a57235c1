"""Peers by network: which addresses are those of our own proxies."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

__all__ = ["Networks", "parse_address", "unmapped"]

_REMEMBERED = 1024
"""Addresses whose answer is kept; a proxy asks for the same few again and again."""
_MAPPED = IPv6Network("::ffff:0:0/96")
"""IPv4-mapped addresses, as a dual-stack socket shows IPv4 peers: RFC 4291 section 2.5.5.2."""


class Networks:
    """A set of addresses to ask `address in networks`, from any thread; it never blocks and never raises.

    values: addresses ("127.0.0.1", "::1"), networks ("10.0.0.0/8"), "unix" (every peer of a UNIX socket), or "*":
        everybody. "*" is safe only where nobody but the proxies can connect at all (a firewall, a UNIX socket, a
        network of their own): whoever else can is believed whatever he says.
    name: of the argument they come from, for the messages of TypeError and ValueError.

    An address is a str as accept(2) gives it: IPv4-mapped IPv6 counts as IPv4, scope ids ("%eth0") do not count.
    """

    def __init__(self, values: Iterable[str], *, name: str = "networks") -> None:
        if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
            raise TypeError(f'{name}={values!r}: pass a list of addresses and networks, as ["127.0.0.1", "10.0.0.0/8"]')
        self._values = tuple(values)
        self._networks = tuple(_network(name, value) for value in self._values if value not in ("unix", "*"))
        self._unix = "unix" in self._values
        self._everybody = "*" in self._values
        self._known = lru_cache(_REMEMBERED)(self._look_up)

    def __contains__(self, address: str) -> bool:
        return self._known(address)

    def __bool__(self) -> bool:
        return bool(self._values)

    def __repr__(self) -> str:
        return f"Networks({list(self._values)!r})"

    def _look_up(self, address: str) -> bool:
        if self._everybody or (self._unix and address == "unix"):
            return True
        parsed = parse_address(address)
        return parsed is not None and any(parsed in network for network in self._networks)


def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """The address that `text` spells, `unmapped`; None if it spells none."""
    try:
        return unmapped(ip_address(text))
    except ValueError:
        return None


def unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address in an IPv4-mapped one, so that each client has one spelling; any other as it is."""
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


def _network(name: str, value: object) -> IPv4Network | IPv6Network:
    if not isinstance(value, str):
        raise TypeError(f"{name}: {value!r}: pass a str, not {type(value).__name__}")
    try:
        network = ip_network(value, strict=False)
        if "%" in value:
            raise ValueError
    except ValueError:
        raise ValueError(f'{name}: {value!r}: pass an address ("127.0.0.1", "::1"), a network ("10.0.0.0/8"), "unix" '
                         'or "*"; no host name, port or scope id') from None
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):  # it would never match: see `unmapped`
        four = IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
        raise ValueError(f'{name}: {value!r}: IPv4-mapped addresses count as IPv4; write "{four}"')
    address = value.partition("/")[0]
    if network.network_address != ip_address(address):
        raise ValueError(f'{name}: {value!r} has host bits set; write "{network}" for the network, or "{address}" for '
                         "this address alone")
    return network
