"""Who the client is behind proxies: rows from RFC 7239 and from what attackers send, and that nothing ever raises."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from acceptor.forwarded import ForwardedHeaders, Seen
from acceptor.networks import Networks

Pairs = list[tuple[bytes, bytes]]

PROXY = ("10.0.0.1", 40000)
STRANGER = ("203.0.113.9", 50000)
TRUSTED = Networks(["10.0.0.0/8", "fd00::/8", "unix"])
X = ForwardedHeaders(TRUSTED)
RFC = ForwardedHeaders(TRUSTED, "forwarded")
OTHER: Pairs = [(b"host", b"backend"), (b"accept", b"*/*")]


def resolve(reader: ForwardedHeaders, name: bytes, *values: bytes, peer: tuple[str, int] = PROXY) -> Seen:
    return reader.resolve(peer, "http", [OTHER[0], *((name, value) for value in values), OTHER[1]])


# The client, from X-Forwarded-For.

@pytest.mark.parametrize(("values", "client"), [
    ([], PROXY),
    ([b"192.0.2.43"], ("192.0.2.43", 0)),
    ([b"9.9.9.9, 192.0.2.43"], ("192.0.2.43", 0)),                       # the left was sent by the client
    ([b"192.0.2.43, 10.0.0.2"], ("192.0.2.43", 0)),                      # two proxies
    ([b"9.9.9.9, 192.0.2.43, 10.0.0.2, 10.0.0.3"], ("192.0.2.43", 0)),
    ([b"10.0.0.9, 192.0.2.43, 10.0.0.2"], ("192.0.2.43", 0)),            # the client claims to be a proxy
    ([b"10.0.0.4,10.0.0.3 ,\t10.0.0.2"], ("10.0.0.4", 0)),               # all trusted: the leftmost
    ([b"9.9.9.9", b"192.0.2.43"], ("192.0.2.43", 0)),                    # RFC 9110 section 5.3: one list
    ([b"9.9.9.9, 192.0.2.43", b"10.0.0.2"], ("192.0.2.43", 0)),
    ([b"192.0.2.43:47011"], ("192.0.2.43", 47011)),                      # RFC 7239 section 6: a port
    ([b'"192.0.2.43:47011"'], ("192.0.2.43", 47011)),
    ([b"2001:DB8:cafe::17"], ("2001:db8:cafe::17", 0)),                  # section 7.4
    ([b"[2001:db8:cafe::17]"], ("2001:db8:cafe::17", 0)),
    ([b"[2001:db8:cafe::17]:4711"], ("2001:db8:cafe::17", 4711)),
    ([b"192.0.2.43, fd00::2"], ("192.0.2.43", 0)),
    ([b"::ffff:192.0.2.43"], ("192.0.2.43", 0)),                         # RFC 4291 section 2.5.5.2
    ([b"192.0.2.43, ::ffff:10.0.0.2"], ("192.0.2.43", 0)),
    ([b"192.0.2.43, unknown"], PROXY),                                   # section 6.2: stop there
    ([b"192.0.2.43, unknown, 10.0.0.2"], ("10.0.0.2", 0)),
    ([b"192.0.2.43, _hidden, 10.0.0.2"], ("10.0.0.2", 0)),               # section 6.3
    ([b"192.0.2.43:_port"], ("192.0.2.43", 0)),
    ([b"192.0.2.43, , 10.0.0.2"], ("10.0.0.2", 0)),                      # a hop that knew nothing
    ([b"192.0.2.43", b""], PROXY),
    ([b"192.0.2.43, unix:"], PROXY),                                     # nginx, of a peer on a UNIX socket
    ([b"192.0.2.43, unix"], PROXY),
    ([b"192.0.2.43:65536"], PROXY),
    ([b"192.0.2.43:"], PROXY),
    ([b"192.0.2.43:-1"], PROXY),
    ([b"192.0.2.043"], PROXY),
    ([b"192.0.2.256"], PROXY),
    ([b"[192.0.2.43]"], PROXY),
    ([b"[2001:db8::17"], PROXY),
    ([b"2001:db8::17]"], PROXY),
    ([b"[2001:db8::17]x"], PROXY),
    ([b"fe80::1%eth0"], PROXY),                                          # no zone has a meaning beyond its host
    ([b"[fe80::1%<script>]"], PROXY),
    ([b"localhost"], PROXY),
    ([b"192.0.2.43;10.0.0.2"], PROXY),
    ([b'"'], PROXY),
    ([b"\xb2.0.0.1"], PROXY),
])
def test_the_client_of_x_forwarded_for(values: list[bytes], client: tuple[str, int]) -> None:
    seen = resolve(X, b"x-forwarded-for", *values)
    assert seen.client == client
    assert (seen.scheme, seen.host) == ("http", None)
    assert seen.headers == [OTHER[0], *((b"x-forwarded-for", value) for value in values), OTHER[1]]


# Forwarded, RFC 7239. A row: section, values, client, scheme, host.

V6 = ("2001:db8:cafe::17", 0)
V4 = ("192.0.2.43", 0)


@pytest.mark.parametrize(("section", "values", "client", "scheme", "host"), [
    ("4", [b'For="[2001:db8:cafe::17]:4711"'], (V6[0], 4711), "http", None),
    ("4", [b"for=192.0.2.60;proto=http;by=203.0.113.43"], ("192.0.2.60", 0), "http", None),
    ("4", [b"for=9.9.9.9, for=192.0.2.43"], V4, "http", None),
    ("4", [b"FOR=192.0.2.43;PROTO=HTTPS;HOST=A.example"], V4, "https", "A.example"),
    ("4 quoted token", [b'for="192.0.2.43";proto="https";host="a.example"'], V4, "https", "a.example"),
    ("4 quoted pairs", [b'for="\\1\\92.0.2.43"'], V4, "http", None),
    ("4 comma in quotes", [b'for=192.0.2.43;x="a, for=9.9.9.9"'], V4, "http", None),
    ("4 quote in quotes", [b'for=192.0.2.43;x="a\\", for=9.9.9.9"'], V4, "http", None),
    ("4 semicolon in quotes", [b'x=";for=9.9.9.9;";for=192.0.2.43'], V4, "http", None),
    ("4 extension", [b"secret=x;for=192.0.2.43;other=_y"], V4, "http", None),
    ("4 empty pairs", [b";for=192.0.2.43;;"], V4, "http", None),
    ("4 space around ;", [b"for=192.0.2.43 ; proto=https;\thost=a"], V4, "https", "a"),
    ("5.2 all trusted", [b"for=10.0.0.4, for=10.0.0.3"], ("10.0.0.4", 0), "http", None),
    ("5.2 two proxies", [b'for=9.9.9.9;proto=a, for=192.0.2.43;proto=https;host=a, for="[fd00::2]";proto=http;host=b'],
     V4, "https", "a"),
    ("5.2 untrusted says", [b"for=10.0.0.9;proto=https;host=evil, for=192.0.2.43"], V4, "http", None),
    ("5.3 host", [b'for=192.0.2.43;host="a.example:8443"'], V4, "http", "a.example:8443"),
    ("5.3 by one of two", [b"for=192.0.2.43, for=10.0.0.2;proto=https;host=b"], V4, "https", "b"),
    ("5.4 unknown proto", [b"for=192.0.2.43;proto=ftp"], V4, "http", None),
    ("6 quoted port", [b'for="192.0.2.43:47011"'], (V4[0], 47011), "http", None),
    ("6 obfport", [b'for="192.0.2.43:_x.y-z"'], V4, "http", None),
    ("6 brackets", [b'for="2001:db8:cafe::17"'], PROXY, "http", None),
    ("6.2 unknown", [b"for=9.9.9.9, for=unknown;proto=https"], PROXY, "https", None),
    ("6.2 unknown", [b"for=9.9.9.9, for=unknown, for=10.0.0.2"], ("10.0.0.2", 0), "http", None),
    ("6.3 obfuscated", [b"for=9.9.9.9, for=_SEVKISEK, for=10.0.0.2"], ("10.0.0.2", 0), "http", None),
    ("6.3 obfuscated", [b'for="_gazonk"'], PROXY, "http", None),
    ("7.1 two headers", [b"for=9.9.9.9", b"for=192.0.2.43, for=10.0.0.2"], V4, "http", None),
    ("5 no for", [b"for=9.9.9.9, proto=https;host=a"], PROXY, "https", "a"),
    ("4 empty element", [b"for=9.9.9.9, , for=10.0.0.2"], ("10.0.0.2", 0), "http", None),
    ("4 nothing", [b""], PROXY, "http", None),
])
def test_forwarded(section: str, values: list[bytes], client: tuple[str, int], scheme: str, host: str | None) -> None:
    seen = resolve(RFC, b"forwarded", *values)
    assert (seen.client, seen.scheme, seen.host) == (client, scheme, host)
    assert seen.headers == [OTHER[0], *((b"forwarded", value) for value in values), OTHER[1]]


@pytest.mark.parametrize(("section", "value"), [
    ("4 no =", b"for"),
    ("4 no value", b"for="),
    ("4 no name", b"=192.0.2.43"),
    ("4 space around =", b"for =192.0.2.43"),
    ("4 space around =", b"for= 192.0.2.43"),
    ("4 : is no token", b"for=192.0.2.43:80"),
    ("4 [ is no token", b"for=[2001:db8::17]"),
    ("4 open quote", b'for="192.0.2.43'),
    ("4 open quote", b'for=192.0.2.43"'),
    ("4 open escape", b'for="192.0.2.43\\'),
    ("4 behind quote", b'for="192.0.2.43"x'),
    ("4 escape outside", b"for=\\192.0.2.43"),
    ("4 parameter twice", b"for=192.0.2.43;For=192.0.2.44"),
    ("4 two pairs", b"for=192.0.2.43 proto=https"),
    ("4 control byte", b"for=192.0.2.43;x=\"\x01\""),
    ("4 control byte", b"for=192.0.2.43\x0b"),
    ("4 8 bits", b"f\xf6r=192.0.2.43"),
])
def test_a_malformed_forwarded_is_not_believed_and_kept_out(section: str, value: bytes) -> None:
    assert resolve(RFC, b"forwarded", value) == Seen(PROXY, "http", None, OTHER)
    # As the client's part of a chain it must not spoil what our own proxies appended, on its line or on theirs.
    ours = b'for="[2001:db8:cafe::17]";proto=https;host="a,b", for=10.0.0.2'
    for values in ([value + b", " + ours], [value, ours]):
        assert resolve(RFC, b"forwarded", *values) == Seen(V6, "https", None, OTHER)


# X-Forwarded-Proto and -Host.

@pytest.mark.parametrize(("values", "scheme"), [
    ([b"https"], "https"),
    ([b"HTTPS"], "https"),                  # RFC 3986 section 3.1
    ([b"http, https"], "https"),            # what our proxy appended
    ([b"https,http "], "http"),
    ([b"http", b"https"], "https"),
    ([b"https, ftp"], "http"),
    ([b"wss"], "http"),
    ([b"https,"], "http"),
    ([b""], "http"),
    ([b"https;"], "http"),
    ([b"https\xa0"], "http"),
])
def test_the_scheme_of_x_forwarded_proto(values: list[bytes], scheme: str) -> None:
    assert resolve(X, b"x-forwarded-proto", *values).scheme == scheme


def test_the_connection_s_own_scheme_stands_unless_a_proxy_says_another() -> None:
    assert X.resolve(PROXY, "https", []).scheme == "https"
    assert X.resolve(PROXY, "https", [(b"x-forwarded-for", b"192.0.2.43")]).scheme == "https"
    assert X.resolve(PROXY, "https", [(b"x-forwarded-proto", b"http")]).scheme == "http"
    assert X.resolve(STRANGER, "https", [(b"x-forwarded-proto", b"http")]).scheme == "https"
    assert RFC.resolve(PROXY, "https", [(b"forwarded", b"proto=wss")]).scheme == "https"


@pytest.mark.parametrize(("value", "host"), [
    (b"example.com", "example.com"),
    (b"example.com:8443", "example.com:8443"),
    (b"evil.example, example.com", "example.com"),
    (b"192.0.2.1:80", "192.0.2.1:80"),
    (b"[2001:db8::1]:80", "[2001:db8::1]:80"),
    (b"xn--bcher-kva.example", "xn--bcher-kva.example"),
    (b"a_b.example", "a_b.example"),
    (b"", None),
    (b"example.com,", None),
    (b"example.com:", None),
    (b"example.com:65536", None),
    (b"example.com:x", None),
    (b"user@example.com", None),
    (b"example.com/path", None),
    (b"example.com?", None),
    (b"example.com#", None),
    (b"exam ple.com", None),
    (b'"><script>', None),
    (b"example.com\r\nx: y", None),
    (b"example.com\n", None),
    (b"2001:db8::1", None),
    (b"[2001:db8:::1]", None),
    (b"[192.0.2.1]", None),
    (b"[", None),
    (b"b\xfccher.example", None),
])
def test_the_host_is_one_or_it_is_ignored(value: bytes, host: str | None) -> None:
    """RFC 9110 section 7.2, RFC 3986 section 3.2.2."""
    assert resolve(X, b"x-forwarded-host", value).host == host
    if b"," not in value:
        quoted = value.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
        assert resolve(RFC, b"forwarded", b'host="%b"' % quoted).host == host


# What reaches the handler.

FAMILY = [
    b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-prefix",
    b"x-forwarded-by", b"x-forwarded-scheme", b"x-forwarded-ssl", b"x-forwarded-client-cert", b"x-real-ip",
    b"x-client-ip", b"forwarded",
]
SPELLINGS = [spelling for name in FAMILY for spelling in dict.fromkeys(
    (name, name.title(), name.replace(b"-", b"_"), b"_".join(name.rsplit(b"-", 1))))]


def received() -> Pairs:
    values = {b"forwarded": b"for=127.0.0.1;proto=https;host=evil"}
    return [OTHER[0], *((name, values.get(name.lower(), b"127.0.0.1")) for name in SPELLINGS), OTHER[1]]


@pytest.mark.parametrize("reader", [X, RFC, ForwardedHeaders(Networks([]))])
def test_nothing_of_the_family_comes_through_from_a_stranger(reader: ForwardedHeaders) -> None:
    """CVE-2022-2255: mod_wsgi left X-Client-IP in."""
    assert reader.resolve(STRANGER, "http", received()) == Seen(STRANGER, "http", None, OTHER)


def test_from_a_trusted_peer_only_the_chosen_style_comes_through_in_its_own_spelling() -> None:
    kept = [name.lower() for name, _ in X.resolve(PROXY, "http", received()).headers]
    assert kept == [b"host", *(name for name in FAMILY[:9] for _ in range(2)), b"accept"]
    kept = [name.lower() for name, _ in RFC.resolve(PROXY, "http", received()).headers]
    assert kept == [b"host", b"forwarded", b"forwarded", b"accept"]


def test_the_other_style_is_not_believed() -> None:
    assert resolve(X, b"forwarded", b"for=192.0.2.43;proto=https;host=a") == Seen(PROXY, "http", None, OTHER)
    for name, value in ((b"for", b"192.0.2.43"), (b"proto", b"https"), (b"host", b"a")):
        assert resolve(RFC, b"x-forwarded-" + name, value) == Seen(PROXY, "http", None, OTHER)
        assert resolve(X, b"x_forwarded_" + name, value) == Seen(PROXY, "http", None, OTHER)
        assert resolve(X, b"X-Forwarded-" + name, value).headers != OTHER


def test_a_peer_on_a_unix_socket_can_be_trusted() -> None:
    assert resolve(X, b"x-forwarded-for", b"192.0.2.43", peer=("unix", 0)).client == V4
    assert resolve(ForwardedHeaders(Networks(["10.0.0.0/8"])), b"x-forwarded-for", b"192.0.2.43",
                   peer=("unix", 0)).client == ("unix", 0)


def test_with_everybody_trusted_the_leftmost_counts() -> None:
    reader = ForwardedHeaders(Networks(["*"]))
    assert resolve(reader, b"x-forwarded-for", b"192.0.2.43, 203.0.113.5", peer=STRANGER).client == V4


@pytest.mark.parametrize(("reader", "hop"), [(X, b"10.0.0.%d"), (RFC, b"for=10.0.0.%d")])
def test_a_chain_without_end_is_believed_for_a_hundred_hops(reader: ForwardedHeaders, hop: bytes) -> None:
    name = b"x-forwarded-for" if reader is X else b"forwarded"
    chain = [hop % number for number in range(200, 0, -1)]
    assert resolve(reader, name, b", ".join(chain)).client == ("10.0.0.100", 0)
    assert resolve(reader, name, b", ".join(chain[100:])).client == ("10.0.0.100", 0)
    assert resolve(reader, name, b", ".join(chain[101:])).client == ("10.0.0.99", 0)


@pytest.mark.parametrize(("trusted", "header", "error", "fix"), [
    (["10.0.0.0/8"], "x-forwarded", TypeError, "pass Networks"),
    (TRUSTED, "X-Forwarded-For", ValueError, 'pass "x-forwarded" or "forwarded"'),
    (TRUSTED, None, ValueError, 'pass "x-forwarded" or "forwarded"'),
])
def test_wrong_arguments_fail_at_once(trusted: Any, header: Any, error: type[Exception], fix: str) -> None:
    with pytest.raises(error, match=fix):
        ForwardedHeaders(trusted, header)


# Whatever comes.

ADDRESSES = st.one_of(
    st.ip_addresses(network="10.0.0.0/8"), st.ip_addresses(network="fd00::/8"), st.ip_addresses(),
).map(str)
FRAGMENTS = st.sampled_from([
    b"for=", b"10.0.0.2", b"192.0.2.43", b'"', b'"', b"\\", b",", b", ", b";", b"=", b"[", b"]", b"%", b":80", b"::1",
    b"proto=https", b"host=", b"a", b"unknown", b"_x", b" ", b"\xff", b"\n"])
GARBAGE = st.one_of(st.binary(max_size=60), st.lists(FRAGMENTS, max_size=12).map(b"".join))
STYLES = st.sampled_from(["x-forwarded", "forwarded"])


def is_trusted(address: str) -> bool:
    return address in TRUSTED


@given(STYLES, st.sampled_from([PROXY, STRANGER, ("", 0)]),
       st.lists(st.tuples(st.one_of(st.sampled_from(SPELLINGS), st.binary(max_size=9)), GARBAGE), max_size=6))
@example("forwarded", PROXY, [(b"forwarded", b'for="10.0.0.2'), (b"forwarded", b'"')])
@example("x-forwarded", PROXY, [(b"x-forwarded-for", b'"')])
def test_no_bytes_raise(header: Literal["x-forwarded", "forwarded"], peer: tuple[str, int], pairs: Pairs) -> None:
    seen = ForwardedHeaders(TRUSTED, header).resolve(peer, "http", pairs)
    assert seen.scheme in ("http", "https")
    assert seen.client == peer or str(ipaddress.ip_address(seen.client[0])) == seen.client[0]
    assert 0 <= seen.client[1] <= 65535
    assert seen.host is None or seen.host.isprintable()
    remaining = iter(pairs)
    assert all(pair in remaining for pair in seen.headers), "some of the headers, in the same order"
    if not is_trusted(peer[0]):
        assert (seen.client, seen.scheme, seen.host) == (peer, "http", None)


def chain(header: str, addresses: Sequence[str], decorated: bool) -> bytes:
    if header == "x-forwarded":
        return ", ".join(addresses).encode()
    nodes = [f'"[{address}]:1"' if ":" in address else f'"{address}"' for address in addresses]
    extension = r';x="a, \"for=8.8.8.8\\"' if decorated else ""
    return ", ".join(f"for={node}{extension}" for node in nodes).encode()


@given(STYLES, st.lists(ADDRESSES, min_size=1, max_size=6), GARBAGE, st.booleans())
def test_the_client_is_never_left_of_one_who_is_not_trusted(
        header: Literal["x-forwarded", "forwarded"], addresses: list[str], garbage: bytes, decorated: bool) -> None:
    reader = ForwardedHeaders(TRUSTED, header)
    name = b"x-forwarded-for" if header == "x-forwarded" else b"forwarded"
    right = chain(header, addresses, decorated)
    plain = [str(getattr(parsed := ipaddress.ip_address(address), "ipv4_mapped", None) or parsed)
             for address in addresses]
    strangers = [number for number, address in enumerate(plain) if not is_trusted(address)]
    expected = plain[strangers[-1] if strangers else 0]
    assert resolve(reader, name, right).client[0] == expected
    if strangers:  # and whatever it sent before
        for values in ([garbage + b"," + right], [garbage, right]):
            assert resolve(reader, name, *values).client[0] == expected
