"""Every case of `tests.corpus`, against running servers: over every model, in the clear and over TLS.

There is one server for each model, transport, and set of violations that it allows, and one connection at a time, so
that whatever a server does meanwhile belongs to the case.
"""

from __future__ import annotations

import contextlib
import logging
import re
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from acceptor import Request, Violation
from tests.clients import RawClient
from tests.conftest import MODELS, Model, Server, WatchedAcceptor
from tests.corpus import AFTER, CORPUS, LIMITS, Case, Outcome, account, last, refused, served
from tests.sessions import certificate, hostname, trusting

CASES = {f"{subject}: {case.name}": case for subject, cases in CORPUS.items() for case in cases}


def each(wanted: Callable[[Case], object]) -> pytest.MarkDecorator:
    """Run the test with every case that is `wanted`."""
    cases = [pytest.param(case, id=name) for name, case in CASES.items() if wanted(case)]
    return pytest.mark.parametrize("case", cases)


# Ways to a server.

@dataclass(frozen=True)
class Transport:
    name: str
    options: Callable[[], dict[str, Any]]
    """Of the acceptor."""
    wrap: Callable[[socket.socket], socket.socket]
    """What a client makes of its socket."""


PLAIN = Transport("plain", dict, lambda sock: sock)
OVER_TLS = Transport("tls", lambda: {"tls": certificate(), "http": "h11"},
                     lambda sock: trusting().wrap_socket(sock, server_hostname=hostname))
"""And parsed by h11; in the clear by httptools, where that is installed. (test_wires_agree has every case for both.)"""
TRANSPORTS = [PLAIN, OVER_TLS]


class Client(RawClient):
    """Remembers what it received."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.received = b""

    def half_close(self) -> None:
        socket.socket.shutdown(self.sock, socket.SHUT_WR)  # an SSLSocket's own would forget about TLS

    def _recv(self, *wanted: Any) -> bytes:
        try:
            data = super()._recv(*wanted)
        except BrokenPipeError:  # OpenSSL 3.6 answers a ragged end by an alert, which cannot be sent after half_close
            data = b""
        self.received += data
        return data


# Servers.

class Log(logging.Handler):
    """What the acceptor logs, access log included."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def problems(self) -> list[str]:
        """What should not be in it; then it is empty. A client must not be able to write what it likes into a log."""
        taken, self.records = self.records, []
        return [f"logged: {record.levelname}: {record.getMessage()!r} {record.exc_info or ''}" for record in taken
                if record.levelno >= logging.ERROR or record.exc_info
                or not (record.getMessage().isascii() and record.getMessage().isprintable())]


@dataclass
class Answering:
    """A running server, and the targets that its handler was called with in this case."""

    server: Server
    transport: Transport
    targets: list[str]
    log: Log
    connections: int = 0

    def connect(self) -> Client:
        self.connections += 1
        sock = socket.create_connection(("127.0.0.1", self.server.port), 10)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Client(self.transport.wrap(sock))


@dataclass
class Servers:
    """The servers of one model and transport, each started when it is needed."""

    model: Model
    transport: Transport
    log: Log
    running: dict[frozenset[Violation], Answering] = field(default_factory=dict)

    def allowing(self, *violations: Violation) -> Answering:
        allow = frozenset(violations)
        if allow not in self.running:
            targets: list[str] = []
            server = Server(WatchedAcceptor(_handler(targets), taskmaster=self.model(), port=0, limits=LIMITS,
                                            allow=allow, access_log=True, **self.transport.options()))
            server.start()
            self.running[allow] = Answering(server, self.transport, targets, self.log)
        return self.running[allow]

    def stop(self) -> list[str]:
        return [problem for answering in self.running.values() for problem in answering.server.stop()]


def _handler(targets: list[str]) -> Callable[[Request], bytes]:
    def handler(request: Request) -> bytes:
        targets.append(request.target)
        body = b"" if request.path == "/unread" else request.body.read()
        return account(request, body).encode("latin-1")
    return handler


def _run(model: Model, transport: Transport) -> Iterator[Servers]:
    log, logger = Log(), logging.getLogger("acceptor")
    level = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(log)
    servers = Servers(model, transport, log)
    try:
        yield servers
    finally:
        problems = servers.stop() + log.problems()
        logger.removeHandler(log)
        logger.setLevel(level)
        assert not problems, "; ".join(problems)


PAIRS = [(model, transport) for transport in TRANSPORTS for model in MODELS
         if transport is PLAIN or model.name in ("recycling", "loop")]
"""Over TLS, one that parks connections and one that never waits: to hold them is a part of the former."""


def id_of(pair: tuple[Model, Transport]) -> str:
    return f"{pair[0].name}, {pair[1].name}"


@pytest.fixture(scope="module", params=PAIRS, ids=id_of)
def servers(request: pytest.FixtureRequest) -> Iterator[Servers]:
    """Each model over each transport."""
    yield from _run(*request.param)


@pytest.fixture(scope="module")
def one_model() -> Iterator[Servers]:
    """For what is about bytes only."""
    yield from _run(MODELS[-1], PLAIN)


@pytest.fixture(scope="module")
def one_model_over_tls() -> Iterator[Servers]:
    """For what is sent in pieces: unlike TCP, TLS never puts two of them together."""
    yield from _run(MODELS[-1], OVER_TLS)


# A case.

def check(answering: Answering, case: Case, outcome: Outcome, *, cut: bool = False) -> None:
    """Fail with all there is to know, unless `outcome` is what becomes of the case. cut: send it byte by byte."""
    acceptor = answering.server.acceptor
    answering.targets.clear()
    before = Counter(acceptor.violations)
    sent = case.bytes_for(outcome)
    pieces = [sent[i:i + 1] for i in range(len(sent))] if cut else [sent]
    # Whoever has asked for the end and goes on sending may have that answered by a reset. He has had his answer then;
    # whoever has been refused must be able to read that, so there is none (RFC 9112 section 9.6).
    resets = [OSError] if cut and not outcome.kept and not outcome.refuses else []
    problems: list[str] = []
    with answering.connect() as client:
        try:
            with contextlib.suppress(*resets):
                for piece in pieces:
                    client.send(piece)
            _converse(client, case, outcome)
            with contextlib.suppress(*resets):
                assert client.read_to_end() == b"", "more was answered than that"
        except (AssertionError, OSError) as error:
            problems.append(f"{type(error).__name__}: {error}")
    answering.server.wait_until_over(answering.connections)
    problems += answering.log.problems()
    problems += _wrong_calls(answering.targets, outcome)
    seen = set(Counter(acceptor.violations) - before)
    if case.violation is not None and case.violation not in seen:
        problems.append(f"{case.violation.name} was not counted")
    if case.violation is None and not outcome.refuses and seen:
        problems.append(f"counted as a violation: {seen}")
    if problems:
        pytest.fail("\n".join([f"RFC {case.section}: {case.name}", f"sent:     {_shown(sent)}",
                               f"then:     {_shown(case.then)}", f"received: {_shown(client.received)}",
                               f"expected: {outcome}", *problems]), pytrace=False)


def _converse(client: Client, case: Case, outcome: Outcome) -> None:
    """Read all that must be answered."""
    if case.ends:
        client.half_close()
    interim: list[int] = []
    keep_alive = False
    for answer in outcome.answers:
        if answer == 100:
            interim.append(100)
            if case.then:  # else it may come together with the answer
                client.read_interim()
                client.send(case.then)
            continue
        response = client.read_response(outcome.method if isinstance(answer, int) else answer.split()[0])
        status, body = (answer, None) if isinstance(answer, int) else (200, answer.encode("latin-1"))
        if isinstance(answer, str) and answer.startswith("HEAD "):
            body = b""
        assert (response.status, response.interim) == (status, interim)
        assert body is None or response.body == body, f"the body is {response.body!r}"
        interim, keep_alive = [], response.keep_alive
    if outcome.kept:
        assert keep_alive, "the response says that the connection closes"
        client.send(AFTER)
        assert client.read_response().body == b"GET /after"
    elif outcome.answers and not case.ends:
        assert not keep_alive, "the response says that the connection is kept"


def _wrong_calls(targets: list[str], outcome: Outcome) -> list[str]:
    """The handler must have been called for what was answered 200; beyond that at most once, for a body that is none,
    and never with what is smuggled."""
    expected = [answer.split(" ")[1] for answer in outcome.answers if isinstance(answer, str)]
    expected += ["/after"] if outcome.kept else []
    spare = 0 if outcome.kept else 1
    if targets[:len(expected)] == expected and len(targets) <= len(expected) + spare and "/smuggled" not in targets:
        return []
    return [f"the handler was called with {targets}"]


def _shown(data: bytes) -> str:
    return repr(data) if len(data) < 2000 else f"{data[:800]!r} ... {data[-800:]!r} ({len(data)} bytes)"


@pytest.mark.parametrize(("servers", "case"), [
    pytest.param(pair, case, id=f"{id_of(pair)}-{name}") for pair in PAIRS for name, case in CASES.items()
    if case not in CORPUS["bytes"] and not (case.streams and pair[0].buffers)], indirect=["servers"])
def test_what_the_rfcs_ask_for(servers: Servers, case: Case) -> None:
    check(servers.allowing(), case, case.outcome)


@each(lambda case: case in CORPUS["bytes"])
def test_what_the_rfcs_ask_for_of_each_byte(one_model: Servers, case: Case) -> None:
    check(one_model.allowing(), case, case.outcome)


@each(lambda case: case.violation)
def test_a_violation_that_is_allowed(servers: Servers, case: Case) -> None:
    assert case.violation is not None
    assert case.allowed is not None
    check(servers.allowing(case.violation), case, case.allowed)


@each(lambda case: len(case.bytes_for(case.outcome)) < 400)
def test_byte_by_byte(one_model_over_tls: Servers, case: Case) -> None:
    check(one_model_over_tls.allowing(), case, case.outcome, cut=True)


@each(lambda case: case.outcome.refuses and not case.violation)
def test_what_cannot_be_allowed_is_refused_whatever_is_allowed(one_model: Servers, case: Case) -> None:
    check(one_model.allowing(*Violation), case, case.outcome)


# The table itself, and the checking of it.

def test_the_table_names_every_violation_and_sections_that_look_like_it() -> None:
    cases = CASES.values()
    assert len(cases) == sum(map(len, CORPUS.values())), "two cases of a subject have the same name"
    assert {case.violation for case in cases} == {*Violation, None}
    assert all((case.violation is None) == (case.allowed is None) for case in cases)
    assert [case for case in cases if not re.fullmatch(r"(9110|9112|9113|8446) \d+(\.\d+)*", case.section)] == []


@pytest.mark.parametrize("outcome", [
    refused(400), refused(400, after=["GET /"]), last("GET /"), served("GET /else"), served("GET /", "GET /"),
    served(100, "GET /"), Outcome((), kept=False),
], ids=str)
def test_a_wrong_row_fails(one_model: Servers, outcome: Outcome) -> None:
    closes = b"Connection: close\r\n" if outcome in (served("GET /", "GET /"), Outcome((), kept=False)) else b""
    case = Case("9112 3", "a good request", b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n" % closes, outcome)
    with pytest.raises(pytest.fail.Exception, match="a good request"):
        check(one_model.allowing(), case, outcome)


@pytest.mark.parametrize(("level", "text"), [
    (logging.ERROR, "the handler failed"), (logging.INFO, "\x1b[31m"), (logging.INFO, "\xe9"), (logging.INFO, "a\nb")])
def test_what_must_not_be_in_the_log_is_found(level: int, text: str) -> None:
    log = Log()
    log.handle(logging.LogRecord("acceptor", logging.INFO, "", 1, "GET %s", ("/",), None))
    assert log.problems() == []
    log.handle(logging.LogRecord("acceptor", level, "", 1, "%s", (text,), None))
    assert log.problems() != []
