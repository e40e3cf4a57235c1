"""The pieces of `python -m tests.restarts`: whatever goes wrong must be counted, and as what it is."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO

import pytest

from tests.client_programs import line
from tests.clients import PATIENCE
from tests.restarts import __main__ as command
from tests.restarts import namespaces
from tests.restarts.app import app
from tests.restarts.cases import CASES, HEADER, POST_CROSSED, Case, Row
from tests.restarts.lab import LoadResult
from tests.restarts.load import Client


def answer(text: str, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()


@contextmanager
def scripted(*connections: Sequence[bytes | None]) -> Iterator[int]:
    """A server on a port of its own; for each connection, what it sends after each request that it has read. None: it
    closes instead, as it does at the end."""
    def serve() -> None:
        for answers in connections:
            sock, _ = listening.accept()
            with sock:
                for each in answers:
                    sock.recv(65536)
                    if each is None:
                        break
                    sock.sendall(each)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the client has not made all its requests"


def test_right_answers_are_counted_and_their_connection_is_kept() -> None:
    with scripted([answer(line("GET", "/a")), answer(line("POST", "/b", b"body"))]) as port:
        client = Client(port, retry=False)
        client.ask("GET", "/a")
        client.ask("POST", "/b", b"body", timed=False)
        client.close()
    assert client.tally.outcomes == {"ok": 2}
    assert client.tally.connections == 1
    assert len(client.tally.seconds) == 1


@pytest.mark.parametrize(("sent", "outcome"), [
    (answer(line("GET", "/b")), "GET a wrong answer"),
    (answer("stopping", "503 Service Unavailable"), "GET 503"),
    (answer(line("GET", "/a"))[:-3], "GET IncompleteRead in the middle of the answer"),
    (b"HTTQ/1.1 200 OK\r\n\r\n", "GET BadStatusLine on a new connection"),
    (None, "GET RemoteDisconnected on a new connection"),
])
def test_whatever_goes_wrong_on_a_new_connection_is_a_failure(sent: bytes | None, outcome: str) -> None:
    with scripted([sent]) as port:
        client = Client(port, retry=True)
        client.ask("GET", "/a")
        client.close()
    assert client.tally.outcomes == {outcome: 1}
    assert not client.tally.crossed
    assert not client.tally.seconds


def test_a_refused_connection_is_a_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    client = Client(port, retry=True)
    client.ask("POST", "/a", b"")
    assert client.tally.outcomes == {"POST ConnectionRefusedError on a new connection": 1}


@pytest.mark.parametrize(("method", "retry", "outcomes"), [
    ("GET", True, {"ok": 2}),
    ("GET", False, {"ok": 1, "GET crossed the end of its kept connection": 1}),
    ("POST", True, {"ok": 1, POST_CROSSED: 1}),
])
def test_a_request_that_crosses_the_end_of_its_connection(method: str, retry: bool, outcomes: dict[str, int]) -> None:
    again = [[answer(line("GET", "/b"))]] if method == "GET" and retry else []
    with scripted([answer(line("GET", "/a")), None], *again) as port:
        client = Client(port, retry=retry)
        client.ask("GET", "/a")
        client.ask(method, "/b")
        client.close()
    assert client.tally.outcomes == outcomes
    assert client.tally.crossed == {method: 1}
    assert client.tally.connections == 1 + len(again)


def test_a_kept_connection_that_has_ended_is_replaced() -> None:
    with scripted([answer(line("GET", "/a"))], [answer(line("POST", "/b"))]) as port:
        client = Client(port, retry=False)
        client.ask("GET", "/a")
        assert client._http.sock is not None
        client._http.sock.recv(1, socket.MSG_PEEK)  # until the end has come
        client.ask("POST", "/b")
        client.close()
    assert client.tally.outcomes == {"ok": 2}
    assert client.tally.connections == 2


def test_the_application_answers_as_the_load_expects() -> None:
    environ = {"SCRIPT_NAME": "", "PATH_INFO": "/sleep/0/x", "REQUEST_METHOD": "POST", "wsgi.input": BytesIO(b"body")}
    statuses: list[str] = []

    def start_response(status: str, headers: object, exc_info: object = None) -> Callable[[bytes], object]:
        statuses.append(status)
        return lambda data: None

    assert b"".join(app(environ, start_response)).decode() == line("POST", "/sleep/0/x", b"body")
    assert statuses == ["200 OK"]


def row(repaired: int = 0, **outcomes: int) -> Row:
    named = {key.replace("_", " "): count for key, count in outcomes.items()}
    return Row(LoadResult(named, {"GET": 2}, 0.001, 0.002, 1.5), 9, repaired)


def test_a_row_is_good_if_nothing_has_gone_wrong_and_its_cells_stand_below_the_header() -> None:
    case = CASES["rolling"]
    assert case.is_good(row(ok=50_000))
    assert not case.is_good(row(ok=49_999, GET_503=1))
    cells = [case.what, "pool", *row(ok=49_999, GET_503=1, repaired=7).cells()]
    assert cells[1:] == ["pool", "50,000", "1 (GET 503: 1)", "7", "2", "9", "1", "2", "1,500"]
    assert len(cells) == len(HEADER)


def test_what_no_server_can_prevent_is_excused_where_it_is_said() -> None:
    crossed = Row(LoadResult({"ok": 1, POST_CROSSED: 1}, {"POST": 1}, 0.0, 0.0, 0.0), 3)
    assert not CASES["socket"].is_good(crossed)
    assert CASES["socket-abrupt"].is_good(crossed)


def test_a_contrast_must_show_something() -> None:
    assert CASES["rolling-abrupt"].is_good(row(ok=10, repaired=1))
    assert not CASES["rolling-abrupt"].is_good(row(ok=10))
    assert CASES["rolling-abrupt-once"].is_good(row(ok=10, GET_503=1))
    assert not CASES["rolling-abrupt-once"].is_good(row(ok=10))


def test_the_exit_code_says_whether_every_row_is_good(monkeypatch: pytest.MonkeyPatch,
                                                      capsys: pytest.CaptureFixture[str]) -> None:
    def run(model: str, count: int) -> Row:
        assert count == 500
        if model == "pool":
            raise RuntimeError("it did\nnot | run")
        return row(ok=count)

    monkeypatch.setattr(command, "CASES", {"one": Case("one case", run, share=0.5)})
    monkeypatch.setattr(command, "ENDS", {"two": ("two", lambda model: (f"of {model}", model != "thread"))})
    monkeypatch.setattr(command.signal, "signal", lambda *_: None)  # type: ignore[attr-defined]
    assert command.main(["--requests", "1000", "--model", "recycling"]) == 0
    assert "| one case | recycling | 500 | 0 |" in capsys.readouterr().out
    assert command.main(["--requests", "1000"]) == 1
    output = capsys.readouterr().out
    assert "| one case | pool |  | RuntimeError: it did not / run |" in output
    assert "| two | of single | of thread | of pool | of recycling | <-- !" in output
    assert "2 of 3 rows are not as they must be" in output


@pytest.mark.parametrize(("missing", "cases", "message"), [
    ("haproxy", ["rolling", "stops"], "haproxy is not installed"),
    ("nginx", ["nginx-reload"], "nginx is not installed"),
    ("ip", ["rolling"], "the command ip is not installed"),
    ("nginx", ["rolling"], ""),
    ("haproxy", ["socket", "stops"], ""),
])
def test_what_is_missing_is_named_before_anything_is_run(missing: str, cases: list[str], message: str,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None if name == missing else f"/bin/{name}")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert command.cannot_run(cases).startswith(message)
    assert bool(command.cannot_run(cases)) == bool(message)


def test_namespaces_need_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert command.cannot_run(["rolling"]) == "network namespaces need root; run it as root"
    assert command.cannot_run(["socket"]) == ""


def test_what_has_been_made_of_a_network_is_removed_if_the_rest_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    added: list[str] = []

    def ip(*arguments: str) -> None:
        match arguments:
            case "netns", "add", name:
                added.append(name)
            case "netns", "delete", name:
                added.remove(name)
            case "-n", _, "link", "add", "to-app2", *_:
                raise RuntimeError("no more")

    monkeypatch.setattr(namespaces, "_ip", ip)
    with (pytest.raises(RuntimeError, match="no more"),
          namespaces.network("192.0.2.1", {"app1": "192.0.2.11", "app2": "192.0.2.12"})):
        pytest.fail("it has been made")
    assert added == []


def test_a_case_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        command.main(["rolling", "soket"])
    assert "no case begins with soket; there are rolling, " in capsys.readouterr().err
