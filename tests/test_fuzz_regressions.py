"""What `python -m fuzz` has found, as raw bytes and what must become of them; and that it would find it again.

A row is added for whatever is found. Each is read here by itself, whole and byte by byte, and then given to its target.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import acceptor.chunks
import acceptor.connection
import acceptor.exchange
import acceptor.framing
import acceptor.proxy_protocol
import acceptor.sending
import acceptor.violations
from acceptor.exchange import Exchange
from acceptor.forwarded import ForwardedHeaders, Seen
from acceptor.framing import plan
from acceptor.heads import RequestHead
from acceptor.messages import Response
from acceptor.service import Service
from acceptor.violations import Violation
from acceptor.wire import H11Wire
from fuzz import __main__ as command
from fuzz.choices import LIMITS
from fuzz.chunks import read_chunks
from fuzz.clients import ScriptedSocket
from fuzz.requests import read
from fuzz.seeds import SEEDS, lead
from fuzz.serving import serve
from fuzz.targets import TARGETS, Target

_GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
_POST = b"POST / HTTP/1.1\r\nHost: a\r\n"


@dataclass(frozen=True)
class Row:
    """Bytes, and what must be read from them."""

    name: str
    sent: bytes
    reads: tuple[str, ...] = ()
    """Each request, as "METHOD TARGET BODY"; or the one body."""
    refused: int | None = None
    allowed: tuple[Violation, ...] = ()
    limits: int = 0
    """Which of fuzz.choices.LIMITS."""

    def __str__(self) -> str:
        return self.name


REQUESTS = [
    Row("a request line that is none, and longer than a head may be", b"x" * 60 + b"\r\n\r\n", refused=431, limits=2),
    Row("empty lines without an end, and then no request line", b"\r\n" * 81 + b"?\r\n", refused=431, limits=1),
    Row("a length that is folded into a list", _POST + b"Content-Length: 2\r\n ,2\r\n\r\nhe", refused=400,
        allowed=(Violation.OBS_FOLD,)),
    Row("the same, allowed", _POST + b"Content-Length: 2\r\n ,2\r\n\r\nhe", ("POST / he",),
        allowed=(Violation.OBS_FOLD, Violation.REPEATED_LENGTH)),
    Row("codings that are folded into a list", _POST + b"Transfer-Encoding: gzip,\r\n chunked\r\n\r\n0\r\n\r\n",
        refused=501, allowed=(Violation.OBS_FOLD,)),
    Row("h11 looks at lengths among the trailers, and we do not", _POST + b"Transfer-Encoding: chunked\r\n\r\n"
        b"2\r\nhe\r\n0\r\nTransfer-Encoding: hcunked\r\n\r\n" + _GET + b"\r\n", ("POST / he", "GET / "),
        allowed=(Violation.FORBIDDEN_TRAILER,)),
]
CHUNKS = [
    Row("a CR in a trailer, and then too much of it", b"5\r\nhello\r\n0\r\nX: 5\rhl\nelo\r\n\nGETGETGET", ("hello",),
        refused=400, limits=3),
    Row("an extension where none may be", b"0;a\r\n\r\n", refused=400, limits=2),
    Row("white space without an end, where it is allowed", b"2" + b" " * 21 + b"\r\nhe\r\n0\r\n\r\n", refused=400,
        allowed=(Violation.CHUNK_SPACE,), limits=1),
    Row("white space for each chunk, where it is allowed", (b"1" + b" " * 9 + b"\r\na\r\n") * 3 + b"0\r\n\r\n", ("aa",),
        refused=400, allowed=(Violation.CHUNK_SPACE,), limits=1),
]


def _ways(sent: bytes) -> list[list[bytes]]:
    return [[sent], [sent[at:at + 1] for at in range(len(sent))]]


@pytest.mark.parametrize("row", REQUESTS, ids=str)
def test_requests_that_were_read_wrongly(row: Row) -> None:
    for pieces in _ways(row.sent):
        outcome = read(pieces, LIMITS[row.limits], row.allowed)
        assert tuple(f"{request.head.method} {request.head.target} {request.body.decode()}"
                     for request in outcome.requests) == row.reads
        assert (outcome.refused and outcome.refused[0]) == row.refused
    TARGETS["wire"].run(lead(row.allowed, row.limits) + row.sent)
    TARGETS["connection"].run(lead(row.allowed, row.limits) + row.sent)


@pytest.mark.parametrize("row", CHUNKS, ids=str)
def test_chunks_that_were_read_wrongly(row: Row) -> None:
    for pieces in _ways(row.sent):
        outcome = read_chunks(pieces, LIMITS[row.limits], row.allowed)
        assert (outcome.body.decode(), outcome.refused and outcome.refused[0]) == ("".join(row.reads), row.refused)
    TARGETS["chunks"].run(lead(row.allowed, row.limits) + row.sent)


@pytest.mark.parametrize(("sent", "status"), [
    (b"HEAD / HTTP/\xa91.0\r\n\r\n", b"400"),
    (b"HEAD / HTTP/1.0\r\nConnection: keep-a" + b"\2" * 120 + b"live\r\n\r\n", b"400"),
], ids=["a request line", "a field"])
def test_the_refusal_of_a_head_has_no_body(sent: bytes, status: bytes) -> None:
    sock = ScriptedSocket([sent])
    with sock:
        serve(sock, Service(lambda request: b""))
        sock.take()
    head, end, body = sock.received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + status)
    assert end
    assert body == b""
    TARGETS["connection"].run(lead() + sent)


_HEAD = RequestHead("GET", "/", "1.1", [], "a", False, True, False)


@pytest.mark.parametrize("changed", [
    (b"Content-Length", b""), (b"Content-Length ", b"0"), (b"Content-Length", b"-1"), (b"Content-Length", b"+1"),
    (b"", b""), (b"", b"1"), (b"X Y", b"1"), (b"X:", b"1"), (b"X", b"\0"), (b"X", b"1\x0b"), (b"X", b"1\r\nY: 2"),
    (b"X", b"1\n"), (b"X\r\nY", b"1"), (b"Transfer-Encoding\t", b"chunked"), (b"\xe9", b"1"),
], ids=repr)
def test_a_header_that_was_changed_into_none_is_not_sent(changed: tuple[bytes, bytes]) -> None:
    response = Response("hello")
    response.headers.append(changed)
    with pytest.raises(ValueError, match="header"):
        plan(_HEAD, response, True)


@pytest.mark.parametrize("status", [100, 101, 99, 1000, -200, "200", "204", None, 200.5], ids=repr)
def test_a_status_that_was_changed_into_none_is_not_sent(status: object) -> None:
    response = Response("hello")
    response.status = status  # type: ignore[assignment]
    with pytest.raises(ValueError, match="status"):
        plan(_HEAD, response, True)


RESPONSES = [
    b"\0\1o\x001\1\0f",  # a header without a name
    b"\1\1\1\0\1\1\0\0\xff\0\3\5helto\5world\4 und",  # 100, and then nothing
]


@pytest.mark.parametrize("data", RESPONSES, ids=repr)
def test_responses_that_were_written_wrongly(data: bytes) -> None:
    TARGETS["response"].run(data)


# The targets: they hold now, and would fail.

each_target = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)


@each_target
def test_every_seed_is_as_it_should_be(target: Target) -> None:
    for seed in SEEDS[target.name]:
        assert len(seed) <= target.longest
        target.run(seed)


@each_target
def test_seeds_a_little_changed_are_as_they_should_be(target: Target) -> None:
    rng = random.Random(1)
    for _ in range(150):
        data = bytearray(rng.choice(SEEDS[target.name]))
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(data) + 1)
            data[at:at + rng.randint(0, 3)] = rng.choice([b"", rng.randbytes(1), b"\r\n", b"\n", b" ", b":", b","])
        target.run(bytes(data))


@each_target
def test_anything_is_as_it_should_be(target: Target) -> None:
    given(st.binary(max_size=200))(settings(max_examples=50, deadline=None)(target.run))()


def _from_the_left(self: ForwardedHeaders, peer: tuple[str, int], scheme: str, lists: dict[bytes, bytes],
                   kept: list[tuple[bytes, bytes]]) -> Seen:
    first = lists.get(b"x-forwarded-for", b"").partition(b",")[0].decode("latin-1")
    return Seen((first, 0) if first.startswith("198") else peer, scheme, None, kept)


_CHUNKED = _POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n0\r\n\r\n"
_TWICE = _GET + b"\r\n" + _GET + b"\r\n"
_ANY_SIZE = re.compile(rb"(\+?[0-9A-Fa-f]{1,16})()()\r\n")


def _all_in_lower_case(self: H11Wire, raw: bytes, line: tuple[bytes, ...]) -> list[tuple[bytes, bytes]]:
    fields = (field.partition(b":") for field in raw.lower().splitlines()[1:-1])
    return [(name, value.strip()) for name, _, value in fields]


BREAKAGES: dict[str, tuple[str, bytes, object, str, object]] = {
    "an error of its own": ("wire", lead() + _CHUNKED, H11Wire, "next_body", lambda self: 1 // 0),
    "a body without an end": ("wire", lead() + _CHUNKED, H11Wire, "next_body", lambda self: b"x"),
    "a body that loses what comes in pieces": (
        "wire", lead() + _CHUNKED, H11Wire, "receive", lambda self, data: setattr(self, "_data", data)),
    "the next request is what was in a body": (
        "wire", lead() + _POST + b"Content-Length: 2\r\n\r\nhe", H11Wire, "next_body", lambda self: b""),
    "a limit that is not kept": (
        "wire", lead((), 1) + _GET + b"X: %b\r\n\r\n" % (b"x" * 200), H11Wire, "_check_size", lambda self, end: None),
    "what parses matters": ("wire", lead() + _GET + b"X: Y\r\n\r\n", H11Wire, "_parse", _all_in_lower_case),
    "an odd size": ("chunks", lead() + b"+2\r\nhe\r\n0\r\n\r\n", acceptor.chunks, "_SIZE_LINE", _ANY_SIZE),
    "no limit for extensions": ("chunks", lead((), 2) + b"0;a=b\r\n\r\n", acceptor.chunks.ChunkedBody,
                                "_check_extensions", lambda self, more: None),
    "a request without an answer": ("connection", lead() + _TWICE, Exchange, "_respond", lambda self, response: None),
    "an answer twice": ("connection", lead() + _TWICE, Exchange, "_discard_body", lambda self: False),
    "an error in the log": ("connection", lead() + _TWICE, acceptor.exchange, "Headers", None),
    "something to say after a refusal": (
        "connection", lead() + b"?\r\n\r\n", acceptor.connection, "error_bytes",
        lambda status, text, headers=b"": acceptor.framing.error_bytes(status, text, headers) * 2),
    "control bytes in the log": (
        "connection", lead() + b"?\x1b[31m\r\n\r\n", acceptor.violations, "printable", lambda text: f"\x1b{text}"),
    "a line that is waited for": (
        "proxy", b"PROXY TCP4 " + b"1" * 5000, acceptor.proxy_protocol, "_V1_LONGEST", 10 ** 6),
    "an address that is none": ("proxy", b"PROXY TCP4 1.2.3.x 5.6.7.8 9 10\r\n", acceptor.proxy_protocol,
                                "_v1_address", lambda family, text: text.decode()),
    "what stands on the left is believed": (
        "forwarded", b"\0\0\0\0" + b"198.51.100.1", ForwardedHeaders, "_by_x_forwarded", _from_the_left),
    "a response without an end": ("response", SEEDS["response"][3], acceptor.sending, "LAST_CHUNK", b""),
    "a response with a length too many": ("response", SEEDS["response"][3], acceptor.framing, "_date_line",
                                          lambda: b"content-length: 1\r\n"),
}


@pytest.mark.parametrize("name", BREAKAGES)
def test_a_target_finds_what_is_broken(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target, data, where, what, broken = BREAKAGES[name]
    TARGETS[target].run(data)
    monkeypatch.setattr(where, what, broken)
    with pytest.raises((AssertionError, ValueError, ZeroDivisionError)):
        TARGETS[target].run(data)


# The command.

def test_the_command_lists_its_targets(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--list"]) == 0
    assert re.findall(r"^(\w+) +\S", capsys.readouterr().out, re.MULTILINE) == list(TARGETS)


def test_without_atheris_it_says_what_to_install(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, "_atheris", lambda: None)
    assert command.main(["wire"]) == 2
    assert "pip install" in capsys.readouterr().err


def test_an_input_is_run_again_without_atheris(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delattr(command, "_atheris")
    (tmp_path / "found").write_bytes(lead() + _CHUNKED)
    assert command.main(["wire", str(tmp_path)]) == 0
    monkeypatch.setattr(H11Wire, "next_body", lambda self: b"x")
    assert command.main(["wire", str(tmp_path / "found")]) == 1
    assert "it goes on and on" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "said"), [
    (["nothing"], "wire, chunks"), (["wire", "--seconds", "0"], "from 1"), (["wire", "--seed", "x"], "whole number"),
    (["wire", "no-such-file"], "no-such-file"),
], ids=str)
def test_wrong_arguments_say_what_to_give(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(arguments)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err

