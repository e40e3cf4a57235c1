"""Target `connection`: a whole connection over a pair of sockets, a client that follows a script, and handlers.

What must hold, whatever the client does:

    serve() returns how the connection ends, raises nothing, and logs no error, nor anything a terminal would obey
    the handler is called for the requests that the wire reads from these bytes, in order, and gets their bodies
    the client can read every response, each is the answer to its request, and behind a refusal there is nothing
    if handlers take all they are sent and the client is patient, every request is answered
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from acceptor.connection import Connection
from acceptor.forwarded import ForwardedHeaders
from acceptor.messages import BodyError, HTTPError, Request, Response
from acceptor.networks import Networks
from acceptor.phases import End
from acceptor.proxy_protocol import ProxyHeaderError, parse
from acceptor.service import Service
from acceptor.violations import Compliance
from acceptor.wire import chosen_wire
from fuzz.choices import Choices, cut, settings
from fuzz.clients import Answer, ScriptedSocket, read_answers
from fuzz.requests import Outcome, read

__all__ = ["connection", "serve"]

_PEER = ("192.0.2.1", 4711)


class _Log(logging.Handler):
    """Raises nothing; keeps what is wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.levelno >= logging.ERROR or record.exc_info or not (text.isascii() and text.isprintable()):
            self.wrong.append(f"{record.levelname}: {text!r} {record.exc_info or ''}")


_ECHO, _UNREAD, _PART, _SWALLOW, _STREAM, _REFUSE, _CLOSE, _DETACH = range(8)


@dataclass
class _Handler:
    """Answers the requests of one connection, each in one of 8 ways, and keeps what it has been given."""

    ways: tuple[int, int]
    """For requests with even numbers, and with odd ones."""
    service: Service = field(init=False)
    stops: bool
    """The server stops while the first request is being handled."""
    calls: list[tuple[Request, bytes | None]] = field(default_factory=list)
    """With the body; None unless it was read whole."""
    answers: list[tuple[int, bytes] | None] = field(default_factory=list)
    """Status and body of each answer; None where there is none."""
    detached: bytes | None = None

    def __call__(self, request: Request) -> Response | bytes:
        way = self.ways[len(self.calls) % 2]
        _ = request.path, request.query, request.host, dict(request.headers), repr(request)  # none of them raises
        self.calls.append((request, None))
        self.answers.append(None)
        if self.stops:
            self.service.stopping = True
        if way == _STREAM:
            self.answers[-1] = 200, b""
            return Response(self._stream(request))
        if way == _DETACH:
            self._detach(request)
            return b"of no interest"
        status, body = 200, b"[%d]" % len(self.calls)
        try:
            if way == _PART:
                body += request.body.read(3)
            elif way != _UNREAD:
                whole = request.body.read()
                self.calls[-1] = request, whole
                body += whole
        except BodyError as error:
            if way != _SWALLOW:
                self.answers[-1] = error.status, b"%d" % error.status
                raise
        if way == _REFUSE:
            self.answers[-1] = 403, b"no\n"
            raise HTTPError(403, "no")
        self.answers[-1] = status, body
        return Response(body, status, {"Connection": "close"} if way == _CLOSE else {})

    def _stream(self, request: Request) -> Iterator[bytes]:
        yield b""
        body = b""
        try:
            while piece := request.body.read1(10):
                body += piece
                self.answers[-1] = 200, body
                yield piece
        except BodyError as error:
            if not body:
                self.answers[-1] = error.status, b"%d" % error.status
            raise
        self.calls[-1] = request, body

    def _detach(self, request: Request) -> None:
        detached = request.detach()
        self.detached = detached.received
        try:
            body = b"" if request.method == "HEAD" else b"detached"
            detached.socket.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 8\r\n\r\n" + body)
            self.answers[-1] = 200, b"detached"
        except OSError:
            pass


def connection(data: bytes) -> None:
    """A whole connection, with handlers that echo, read half, stream, close, or take it over."""
    choices = Choices(data)
    chosen = settings(choices)
    ways, manner, at_most, options = chosen.options
    sent = choices.rest()
    script = cut(sent, chosen.cuts)
    for at in range(len(script) - 1, -1, -1):
        if manner & 1 and at % 3 == 2:
            script.insert(at, b"")  # a tick
    patient = not manner & 0x0e
    sock = ScriptedSocket(script, at_most=at_most or None, resets=bool(manner & 2),
                          leaves_after=manner >> 4 if manner & 4 else None)
    handler = _Handler((ways & 7, ways >> 3 & 7), stops=bool(options & 8))
    limits = replace(chosen.limits, requests_per_connection=2) if options & 4 else chosen.limits
    service = Service(handler, limits=limits, compliance=Compliance(chosen.allowed), log_access=True,
                      proxy_protocol=Networks([_PEER[0]] if options & 1 else []),
                      forwarded=ForwardedHeaders(Networks([_PEER[0]])) if options & 2 else None,
                      make_wire=chosen_wire("auto"))
    handler.service = service
    with sock:
        end = serve(sock, service)
        sock.take()
        if options & 1:
            sent = _behind_proxy_header(sent)
        expected = read([sent], limits, chosen.allowed) if sent else Outcome((), None, b"", {})
        _check_calls(handler, expected, sock, sent, end)
        left = read([sent], limits, chosen.allowed, at_most=len(handler.calls)).rest or b""
        refused = "HEAD" if left.lstrip(b"\r\n").startswith(b"HEAD ") else "GET"
        answers = read_answers(sock.received, [*(request.method for request, _ in handler.calls), refused],
                               broken=sock.broken or sock.left)
        _check_answers(handler, answers, sock.left, end)
        if patient:
            _check_kept(handler, answers, expected)
        if patient and not options & 12 and set(handler.ways) <= {_ECHO, _STREAM}:
            _check_all_answered(handler, answers, expected)


def serve(sock: ScriptedSocket, service: Service) -> End:
    """Serve a connection from here to its end; AssertionError for what must not be in a log."""
    log, logger = _Log(), logging.getLogger("acceptor")
    level, propagate = logger.level, logger.propagate
    logger.addHandler(log)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        end = Connection(sock, _PEER, service).serve()
    finally:
        logger.removeHandler(log)
        logger.setLevel(level)
        logger.propagate = propagate
    assert not log.wrong, log.wrong
    return end


def _behind_proxy_header(sent: bytes) -> bytes:
    try:
        parsed = parse(sent)
    except ProxyHeaderError:
        return b""
    return b"" if parsed is None else sent[parsed.length:]


def _check_calls(handler: _Handler, expected: Outcome, sock: ScriptedSocket, sent: bytes, end: End) -> None:
    assert len(handler.calls) <= len(expected.requests), "called for what is no request"
    for (request, body), meant in zip(handler.calls, expected.requests, strict=False):
        assert (request.method, request.target, request.version) == (
            meant.head.method, meant.head.target, meant.head.version)
        assert body is None or (meant.whole and body == meant.body), f"{body!r} was read, and {meant.body!r} was sent"
    assert (end is End.DETACHED) == (handler.detached is not None)
    if handler.detached is not None:
        assert sent.endswith(handler.detached + sock.unsent), "what was detached is not what has not been read"


def _check_answers(handler: _Handler, answers: list[Answer], left: bool, end: End) -> None:
    """left: the client was gone, and may have missed some."""
    assert len(answers) >= len(handler.calls) - 1 or left, "a request without an answer"
    refusal = answers[len(handler.calls):]
    for number, (answer, meant) in enumerate(zip(answers, handler.answers, strict=False)):
        request = handler.calls[number][0]
        last = number == len(handler.calls) - 1
        assert answer.whole or last
        assert dict(answer.headers).get(b"connection") != b"close" or (last and not refusal), "and still goes on"
        if meant is None:  # it ended before
            assert not answer.whole
            continue
        status, body = meant
        assert answer.status == status
        if request.method == "HEAD":
            assert answer.body == b""
        elif status == 200 or status == 403:
            assert answer.body == body if answer.whole else body.startswith(answer.body)
    assert len(refusal) <= 1
    for answer in refusal:
        assert answer.status >= 400
        assert dict(answer.headers)[b"connection"] == b"close"
        assert answer.whole or left
    assert not (end is End.DETACHED and refusal)


def _check_kept(handler: _Handler, answers: list[Answer], expected: Outcome) -> None:
    """Behind an answer that says that the connection is kept, the next request is answered; unless it was streamed, and
    somebody had still to read, and did not."""
    if not answers or len(answers) > len(handler.calls):
        return
    last, request = answers[-1], handler.calls[len(answers) - 1][0]
    said = dict(last.headers).get(b"connection", b"keep-alive" if request.version == "1.1" else b"close")
    if not last.whole or said != b"keep-alive" or handler.ways[(len(answers) - 1) % 2] == _STREAM:
        return
    if len(answers) < len(handler.calls):
        assert not expected.requests[len(answers)].whole, "a request that nobody answers"
    else:
        assert len(answers) == len(expected.requests), "it says that it is kept, and it is not"
        assert not expected.refused, "a refusal that nobody is told of"


def _check_all_answered(handler: _Handler, answers: list[Answer], expected: Outcome) -> None:
    """Each request is answered, up to one after which the connection closes; and so is what was refused."""
    wanted: list[int] = []
    for number, request in enumerate(expected.requests):
        head, streams = request.head, handler.ways[number % 2] == _STREAM
        if request.whole or (streams and head.method == "HEAD"):  # which is not asked for anything, so reads nothing
            wanted.append(200)
        elif expected.refused and not (streams and request.body):
            wanted.append(expected.refused[0])
        if not request.whole or not head.keep_alive or (streams and head.version == "1.0"):
            break
    else:
        if expected.refused:
            wanted.append(expected.refused[0])
    got = [answer.status for answer in answers if answer.whole]
    assert got == wanted, f"answered: {got}; it should be {wanted}"
