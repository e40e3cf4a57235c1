"""Target `response`: what handlers return, written by `acceptor.framing` and `acceptor.sending`, read by h11.

What must hold, whatever a handler makes a Response of:

    it is refused at once, with TypeError or ValueError; or
    the client reads that status, those headers and that body, and then the next response; or
    its body fails, and then the client cannot take what it has got for the whole
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from acceptor.framing import Framing, Plan, plan
from acceptor.heads import RequestHead
from acceptor.messages import Body, Response
from acceptor.sending import ResponseBodyError, Sending, close_body, send_at_once
from acceptor.service import Service
from acceptor.stream import Stream
from fuzz.choices import Choices
from fuzz.clients import ScriptedSocket, read_answers

__all__ = ["response", "send"]

_NAMES = ("Content-Length", "content-length", "X-Own", "Connection", "Content-Type", "Date", "Server", "Trailer",
          "Transfer-Encoding", "Upgrade", "Keep-Alive", "Set-Cookie")
_VALUES = ("5", "0", "close", "keep-alive", "chunked", "a", "", "text/html", "1, 1", "007", " 5", "a\r\nX-Evil: 1")
_STATUSES = (200, 204, 205, 206, 304, 403, 500, 999, 201, 101, 100)
_CHANGED_STATUSES = (100, 101, 99, 1000, -200, "200", "204", 204, 304, 404)
_OF_THE_SERVER = {b"content-length", b"connection", b"date", b"transfer-encoding"}
_SECOND = Response("the second")


@dataclass(frozen=True)
class _Made:
    """A body to be sent, and what it amounts to."""

    body: Body
    content: bytes
    fails: bool = False
    """It raises at some time, or yields what is not bytes."""


def response(data: bytes) -> None:
    """Any status, headers and body; then a second response on the same connection."""
    choices = Choices(data)
    head = _request(choices.one_of(["GET", "HEAD", "POST"]), choices.one_of(["1.1", "1.0"]))
    keep_alive = choices.byte() % 4 > 0
    at_most = choices.byte() * 20
    status = choices.one_of(_STATUSES) if choices.byte() % 2 else choices.number() % 1000
    headers = [(_text(choices, _NAMES), _text(choices, _VALUES)) for _ in range(choices.byte() % 4)]
    changed = [(_raw(choices, _NAMES), _raw(choices, _VALUES)) for _ in range(max(0, choices.byte() % 8 - 5))]
    changed_status = choices.one_of(_CHANGED_STATUSES) if choices.byte() >= 0xe0 else None
    made = choices.one_of(_FORMS)(choices)
    with contextlib.ExitStack() as at_the_end:  # also if it is refused, and so never sent
        at_the_end.enter_context(contextlib.suppress(ZeroDivisionError))  # of ours
        at_the_end.callback(close_body, made.body)
        _exchange(head, keep_alive, at_most, made, status, headers, changed, changed_status)


def _exchange(head: RequestHead, keep_alive: bool, at_most: int, made: _Made, status: int,
              headers: list[tuple[str, str]], changed: list[tuple[bytes, bytes]], changed_status: object) -> None:
    try:
        meant = Response(made.body, status, headers)
    except (TypeError, ValueError):
        return
    meant.headers += changed
    if changed_status is not None:
        meant.status = changed_status  # type: ignore[assignment]
    try:
        planned = plan(head, meant, keep_alive)
    except (TypeError, ValueError):
        assert changed or changed_status is not None, "only what has been changed since it was made can be refused here"
        return
    sock = ScriptedSocket([], at_most=at_most or None)
    with sock:
        stream = Stream(sock, Service(lambda request: b""))
        failed = False
        try:
            send(stream, planned, meant.body)
        except ResponseBodyError:
            failed = True
        again = planned.keep_alive and not failed
        if again:
            stream.begin_response()
            send(stream, plan(_request("GET", "1.1"), _SECOND, True), _SECOND.body)
        sock.take()
        _check(sock.received, head, meant, made, failed=failed, again=again, framing=planned.framing)


def send(stream: Stream, planned: Plan, body: Body) -> int:
    """Head and body, as an exchange does, on a stream that waits; the bytes of body sent."""
    if not (isinstance(body, bytes) and send_at_once(stream, planned, body)):
        Sending(stream, planned, body).go()
    return planned.sent


def _check(received: bytes, head: RequestHead, meant: Response, made: _Made, *, failed: bool, again: bool,
           framing: Framing) -> None:
    answers = read_answers(received, [head.method, "GET"], broken=failed)
    if failed:
        assert made.fails or framing is Framing.LENGTH
        assert len(answers) <= 1
        for answer in answers:
            assert made.content.startswith(answer.body)
            assert not answer.whole or framing is Framing.LENGTH
        return
    assert len(answers) == 1 + again, f"{len(answers)} responses instead of {1 + again}"
    first = answers[0]
    assert first.whole
    assert first.status == meant.status
    theirs = [pair for pair in first.headers if pair[0] not in _OF_THE_SERVER]
    ours = [(name.lower(), value.strip(b" \t")) for name, value in meant.headers]
    assert theirs == [pair for pair in ours if pair[0] not in _OF_THE_SERVER]
    fields = dict(first.headers)
    assert (fields.get(b"connection") != b"close") == again
    assert not (b"content-length" in fields and b"transfer-encoding" in fields)
    if framing is Framing.NO_BODY:
        assert first.body == b""
        assert head.method == "HEAD" or meant.status in (204, 205, 304)
    else:
        given = [int(value) for name, value in ours if name == b"content-length"]
        whole = made.content
        if given and hasattr(meant.body, "read"):  # of a file, so much as is announced
            whole = whole[:given[-1]]
        assert first.body == whole
        assert not made.fails
    if again:
        assert answers[1].body == b"the second"


def _request(method: str, version: str) -> RequestHead:
    return RequestHead(method, "/", version, [], "a", False, True, False)


def _text(choices: Choices, usual: tuple[str, ...]) -> str:
    return choices.one_of(usual) if choices.byte() % 4 else choices.piece().decode("latin-1")


def _raw(choices: Choices, usual: tuple[str, ...]) -> bytes:
    return _text(choices, usual).encode("latin-1")


# Bodies.

def _bytes(choices: Choices) -> _Made:
    content = choices.rest()
    return _Made(content, content)


def _str(choices: Choices) -> _Made:
    text = choices.rest().decode("latin-1")
    return _Made(text, text.encode())


def _large(choices: Choices) -> _Made:
    content = choices.rest()
    content *= 70 * 1024 // (len(content) + 1)
    return _Made(content, content)


def _list(choices: Choices) -> _Made:
    pieces = _pieces(choices)
    return _Made(pieces, b"".join(pieces))


def _failing(choices: Choices) -> _Made:
    pieces = _pieces(choices)

    def body() -> Iterator[bytes]:
        yield from pieces
        raise OSError("not the client's")

    return _Made(body(), b"".join(pieces), fails=True)


def _odd(choices: Choices) -> _Made:
    pieces = _pieces(choices)
    odd: Iterable[object] = [*pieces, choices.one_of(["text", None, 1, bytearray(b"x")])]
    return _Made(odd, b"".join(pieces), fails=True)  # type: ignore[arg-type]


def _closing(choices: Choices) -> _Made:
    """An iterator whose close() fails."""
    pieces = _pieces(choices)

    class Closing:
        def __iter__(self) -> Iterator[bytes]:
            return iter(pieces)

        def close(self) -> None:
            raise ZeroDivisionError

    return _Made(Closing(), b"".join(pieces))


def _in_memory(choices: Choices) -> _Made:
    start, content = choices.byte(), choices.rest()
    file = io.BytesIO(content)
    file.seek(start)
    return _Made(file, content[start:])


def _on_disk(choices: Choices) -> _Made:
    start, content = choices.byte(), choices.rest()
    file = open(os.memfd_create("body"), "w+b")  # noqa: SIM115  # the server closes it
    file.write(content)
    file.flush()
    file.seek(start)
    return _Made(file, content[start:])


def _pieces(choices: Choices) -> list[bytes]:
    return [choices.piece() for _ in range(choices.byte() % 6)]


_FORMS: tuple[Callable[[Choices], _Made], ...] = (
    _bytes, _str, _large, _list, _failing, _odd, _closing, _in_memory, _on_disk)
