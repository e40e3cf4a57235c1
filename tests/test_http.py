"""HTTP as its clients see it, through a real acceptor, with each of the four models.

The tests are the same for every model; where models differ, which is in what they do at once, a test says so.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import random
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from acceptor import Handler, Request, Response, Timeouts
from tests.clients import PATIENCE, Gate, RawClient, access_lines, request
from tests.conftest import MODELS, Model, Serve, Server

FILE_SIZE = 20_000_000

# A small application.


def application(request: Request) -> Response | str | bytes:
    """What a client can ask for, by path."""
    return ANSWERS[request.path](request)


def pieces(request: Request) -> Response:
    return Response(iter([b"one ", b"", b"two ", b"three"]))


def digest(request: Request) -> str:
    """The request's body, read in the small pieces that it may come in."""
    total, hashed = 0, hashlib.md5()
    while data := request.body.read1():
        total += len(data)
        hashed.update(data)
    return f"{total} {hashed.hexdigest()}"


def relay(request: Request) -> Response:
    """The request's body as the response's, while it comes."""
    return Response(iter(lambda: request.body.read1(), b""))


ANSWERS: dict[str, Callable[[Request], Response | str | bytes]] = {
    "/text": lambda request: "naïve",
    "/bytes": lambda request: b"\0\r\n\xff",
    "/nothing": lambda request: "",
    "/pieces": pieces,
    "/no-pieces": lambda request: Response(iter([])),
    "/announced": lambda request: Response(iter([b"12", b"345"]), headers={"Content-Length": "5"}),
    "/no-content": lambda request: Response(b"", 204),
    "/missing": lambda request: Response("no such page", 404),
    "/digest": digest,
    "/echo": lambda request: request.body.read(),
    "/relay": relay,
    "/ignore": lambda request: "not read",
    "/none": lambda request: None,  # type: ignore[dict-item,return-value]
    "/tuple": lambda request: ("body", 200),  # type: ignore[dict-item,return-value]
    "/raise": lambda request: str(1 // 0),
}

CONTENT = {"/text": "naïve".encode(), "/bytes": b"\0\r\n\xff", "/nothing": b"", "/pieces": b"one two three",
           "/no-pieces": b"", "/announced": b"12345", "/no-content": b"", "/missing": b"no such page"}
"""What the answers to a GET are."""


def digest_of(data: bytes) -> bytes:
    return f"{len(data)} {hashlib.md5(data).hexdigest()}".encode()


@pytest.fixture(scope="session")
def big_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A file of 20 MB and the digest of its content, which does not repeat."""
    path = tmp_path_factory.mktemp("http") / "big"
    data = random.Random(4242).randbytes(FILE_SIZE)
    path.write_bytes(data)
    return path, hashlib.md5(data).hexdigest()


# Responses of every kind.

def test_every_kind_of_response_arrives_over_one_connection(serve: Serve) -> None:
    with serve(application).connect() as client:
        for path, content in CONTENT.items():
            client.send(request(path))
            received = client.read_response()
            assert (path, received.body, received.keep_alive) == (path, content, True)


def test_the_answers_to_pipelined_requests_come_in_order(serve: Serve) -> None:
    paths = [*CONTENT] * 3
    with serve(application).connect() as client:
        client.send(b"".join(request(path) for path in paths))
        for path in paths:
            assert (path, client.read_response().body) == (path, CONTENT[path])


def test_pipelined_requests_with_bodies_are_kept_apart(serve: Serve) -> None:
    with serve(application).connect() as client:
        client.send(request("/echo", method="POST", body=b"first") + request("/ignore", method="POST", body=b"GET / ")
                    + request("/echo", method="POST", chunks=[b"thi", b"rd"]) + request("/text"))
        bodies = [client.read_response().body for _ in range(4)]
        assert bodies == [b"first", b"not read", b"third", "naïve".encode()]


@pytest.mark.parametrize("path", CONTENT)
def test_head_is_answered_as_get_without_the_body(serve: Serve, path: str) -> None:
    def headers(method: str) -> list[tuple[str, str]]:
        client.send(request(path, method=method))
        received = client.read_response(method)
        assert received.keep_alive
        assert received.body == (b"" if method == "HEAD" else CONTENT[path])
        return [pair for pair in received.headers if pair[0] != "date"]

    with serve(application).connect() as client:
        assert headers("HEAD") == headers("GET")


@pytest.mark.parametrize(("lines", "stays"), [([], False), (["Connection: keep-alive"], True)], ids=["", "keep-alive"])
@pytest.mark.parametrize("path", CONTENT)
def test_a_client_of_1_0_is_answered_in_what_it_understands(
        serve: Serve, path: str, lines: list[str], stays: bool) -> None:
    """No chunks; kept open only if it asks for that, and if the end of the body can be known without."""
    stays = stays and path not in ("/pieces", "/no-pieces")
    with serve(application).connect() as client:
        for _ in range(2 if stays else 1):
            client.send(request(path, version="1.0", headers=lines))
            received = client.read_response()
            assert (received.body, received.keep_alive) == (CONTENT[path], stays)
            assert received.header("transfer-encoding") is None
            assert received.header("connection") == ("keep-alive" if stays else "close")
        if not stays:
            client.expect_eof()


def test_a_file_of_20_mb_goes_by_sendfile(
        serve: Serve, big_file: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    path, digest = big_file
    real, counts = os.sendfile, []

    def sendfile(to: int, source: int, offset: int, count: int) -> int:
        counts.append(real(to, source, offset, count))
        return counts[-1]

    monkeypatch.setattr(os, "sendfile", sendfile)
    server = serve(lambda request: Response(path.open("rb")) if request.path == "/file" else "next")
    with server.connect() as client:
        client.send(request("/file") + request("/next"))
        received = client.read_response()
        assert received.header("content-length") == str(FILE_SIZE)
        assert hashlib.md5(received.body).hexdigest() == digest
        assert client.read_response().body == b"next"
    assert sum(counts) == FILE_SIZE


# Requests with bodies.

@pytest.mark.parametrize("size", [0, 1, 65536, 5_000_000])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_of_any_size_is_read_and_another_request_follows(serve: Serve, framing: str, size: int) -> None:
    body = random.Random(size).randbytes(size)
    framed: dict[str, Any] = ({"body": body} if framing == "length" else
                              {"chunks": [body[start:start + 40_000] for start in range(0, size, 40_000)]})
    with serve(application).connect() as client:
        for _ in range(2):
            client.send(request("/digest", method="POST", **framed))
            received = client.read_response()
            assert (received.body, received.keep_alive) == (digest_of(body), True)


streaming = pytest.mark.parametrize("model", [model for model in MODELS if not model.buffers], indirect=True,
                                    ids=lambda model: model.name)
"""For what a model cannot do that reads a body before the handler is called."""


@streaming
def test_a_body_is_read_while_it_is_being_sent(serve: Serve) -> None:
    """Each piece is sent only when the handler has the one before."""
    got: list[bytes] = []
    one = threading.Semaphore(0)

    def handler(request: Request) -> str:
        while piece := request.body.read1():
            got.append(piece)
            one.release()
        return "end"

    with serve(handler).connect() as client:
        client.send(request(method="POST", headers=["Transfer-Encoding: chunked"]))
        for piece in (b"one", b"two", b"three"):
            client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            assert one.acquire(timeout=PATIENCE), f"the handler did not get {piece!r} by itself; it got {got}"
        client.send(b"0\r\n\r\n")
        assert client.read_response().body == b"end"
    assert got == [b"one", b"two", b"three"]


@streaming
@pytest.mark.parametrize("lines", [[], ["Expect: 100-continue"]], ids=["", "expecting 100"])
def test_a_response_may_be_made_of_the_request_while_that_comes(serve: Serve, lines: list[str]) -> None:
    with serve(application).connect() as client:
        client.send(request("/relay", method="POST", headers=["Content-Length: 9", *lines]))
        if lines:
            assert client.read_interim() == 100
        client.send(b"one")
        assert client.read_head() == 200
        assert client.read_body(3) == b"one"
        client.send(b"two")
        assert client.read_body(3) == b"two"
        client.send(b"end")
        assert client.read_response().body == b"end"


def test_a_response_arrives_piece_by_piece(serve: Serve) -> None:
    gates = [Gate(f"the client has piece {n}") for n in range(3)]

    def generate() -> Iterator[bytes]:
        for n, gate in enumerate(gates):
            yield b"%d" % n
            gate.pass_through()

    with serve(lambda request: Response(generate())).connect() as client:
        client.send(request())
        client.read_head()
        for n, gate in enumerate(gates):
            assert client.read_body(1) == b"%d" % n
            gate.open()
        assert client.read_response().body == b""


def test_100_continue_lets_a_client_send_its_body(serve: Serve) -> None:
    with serve(application).connect() as client:
        for _ in range(2):
            client.send(request("/echo", method="POST", headers=["Expect: 100-continue", "Content-Length: 5"]))
            assert client.read_interim() == 100
            client.send(b"hello")
            received = client.read_response()
            assert (received.interim, received.body, received.keep_alive) == ([100], b"hello", True)


@streaming
def test_a_client_that_expects_100_continue_is_refused_before_it_sends_its_body(serve: Serve) -> None:
    with serve(application).connect() as client:
        client.send(request("/ignore", method="POST", headers=["Expect: 100-continue", "Content-Length: 5"]))
        received = client.read_response()
        assert (received.interim, received.body, received.keep_alive) == ([], b"not read", False)
        client.expect_eof()


@pytest.mark.parametrize("size", [1000, 5_000_000])
def test_the_answer_to_a_body_that_nobody_reads_can_be_read(serve: Serve, model: Model, size: int) -> None:
    with serve(application).connect() as client:
        client.send(request("/ignore", method="POST", body=b"x" * size))
        received = client.read_response()
        assert (received.body, received.keep_alive) == (b"not read", size == 1000 or model.buffers)


# What is wrong.

@pytest.mark.parametrize(("path", "words"), [("/none", "did you forget `return`?"), ("/raise", "ZeroDivisionError"),
                                             ("/tuple", "write Response(body, status, headers)")])
def test_a_handler_that_fails_costs_its_request_only(
        serve: Serve, caplog: pytest.LogCaptureFixture, path: str, words: str) -> None:
    server = serve(application)
    with server.connect() as client:
        client.send(request(path) + request("/text"))
        received = client.read_response()
        assert (received.status, received.body) == (500, b"Internal Server Error\n")
        assert client.read_response().body == CONTENT["/text"]
    assert len(server.errors) == 1, server.errors
    assert words in caplog.text


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_handler_cannot_end_the_thread_or_the_server(serve: Serve, error: type[BaseException]) -> None:
    def handler(request: Request) -> str:
        if request.path == "/end":
            raise error
        return "still here"

    server = serve(handler)
    for _ in range(20):  # more than any model here has threads
        with server.connect() as client:
            client.send(request("/end", headers=["Connection: close"]))
            assert client.read_response().status == 500
    with server.connect() as client:
        client.send(request())
        assert client.read_response().body == b"still here"


@pytest.mark.parametrize(("data", "status"), [
    (b"\x16\x03\x01\x02\x00 a TLS client\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
    (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 100_000, 431),
], ids=["TLS", "no host", "2.0", "smuggling", "unknown coding", "long head"])
def test_what_is_not_http_is_refused_and_the_connection_closed(serve: Serve, data: bytes, status: int) -> None:
    server = serve(application)
    with server.connect() as client:
        client.send(data)
        received = client.read_response()
        assert (received.status, received.keep_alive) == (status, False)
        client.expect_eof()
    assert server.errors == []


def test_a_response_that_fails_halfway_is_a_visible_cut_and_costs_its_connection_only(serve: Serve) -> None:
    def generate() -> Iterator[bytes]:
        yield b"half"
        raise ValueError

    server = serve(lambda request: Response(generate()) if request.path == "/fail" else "still here")
    with server.connect() as client:
        client.send(request("/fail", version="1.0"))
        assert b"half" in client.read_to_reset()
    with server.connect() as client:
        client.send(request("/"))
        assert client.read_response().body == b"still here"
    assert len(server.errors) == 1, server.errors


# Clients that go away.

def leave_before_the_first_byte(client: RawClient) -> None:
    pass


def leave_in_the_head(client: RawClient) -> None:
    client.send(b"GET / HT")


def leave_in_the_body(client: RawClient) -> None:
    client.send(request("/digest", method="POST", headers=["Content-Length: 1000"]) + b"some")


def leave_in_a_body_nobody_reads(client: RawClient) -> None:
    client.send(request("/ignore", method="POST", headers=["Content-Length: 1000"]) + b"some")


def leave_before_the_body(client: RawClient) -> None:
    client.send(request("/digest", method="POST", headers=["Content-Length: 9", "Expect: 100-continue"]))
    client.read_interim()


def leave_before_the_response(client: RawClient) -> None:
    client.send(request("/text"))


def leave_in_the_response(client: RawClient) -> None:
    client.send(request("/endless"))
    client.read_head()


def leave_in_a_file(client: RawClient) -> None:
    client.send(request("/file"))
    client.read_head()


def leave_between_two_requests(client: RawClient) -> None:
    client.send(request("/text"))
    client.read_response()


def leave_after_a_pipelined_request(client: RawClient) -> None:
    client.send(request("/text") * 100)
    client.read_response()


@pytest.mark.parametrize("go", [RawClient.reset, RawClient.close], ids=["resets", "leaves"])
@pytest.mark.parametrize("leave", [
    leave_before_the_first_byte, leave_in_the_head, leave_in_the_body, leave_in_a_body_nobody_reads,
    leave_before_the_body, leave_before_the_response, leave_in_the_response, leave_in_a_file,
    leave_between_two_requests, leave_after_a_pipelined_request,
], ids=lambda leave: leave.__name__)
def test_a_client_that_goes_leaves_nothing_behind(
        serve: Serve, big_file: tuple[Path, str], leave: Callable[[RawClient], None],
        go: Callable[[RawClient], None]) -> None:
    """No connection, no busy thread (the fixture sees to the counters), no line in the log; and the next is served."""
    opened: list[Any] = []

    def handler(request: Request) -> Response | str | bytes:
        if request.path == "/file":
            opened.append(big_file[0].open("rb"))
            return Response(opened[-1])
        if request.path == "/endless":
            return Response(iter(lambda: b"x" * 65536, b""))
        return application(request)

    server = serve(handler)
    for count in (1, 2):
        client = server.connect()
        leave(client)
        go(client)
        server.wait_until_over(count)
        assert server.acceptor.connection_count == 0
    assert all(file.closed for file in opened)
    with server.connect() as client:
        client.send(request("/text"))
        assert client.read_response().body == CONTENT["/text"]
    assert server.errors == []


# Several clients.

@pytest.mark.parametrize("model", [model for model in MODELS if model.concurrent], indirect=True,
                         ids=lambda model: model.name)
def test_requests_that_wait_for_each_other_are_served_by_a_concurrent_model(serve: Serve) -> None:
    together = threading.Barrier(2)

    def handler(request: Request) -> str:
        together.wait(PATIENCE)
        return "met"

    server = serve(handler)
    with server.connect() as one, server.connect() as other:
        one.send(request())
        other.send(request())
        assert [one.read_response().body, other.read_response().body] == [b"met", b"met"], together
        assert server.taskmaster.snapshot().accepted == 2


@pytest.mark.parametrize("model", [model for model in MODELS if model.concurrent], indirect=True,
                         ids=lambda model: model.name)
def test_idle_connections_do_not_keep_others_from_being_served_by_a_concurrent_model(serve: Serve) -> None:
    server = serve(application)
    idle = [server.connect() for _ in range(2)]
    for client in idle:
        client.send(request("/text"))
        client.read_response()
    with server.connect() as client:
        client.send(request("/text"))
        assert client.read_response().body == CONTENT["/text"]
    for client in idle:
        client.send(request("/pieces"))
        assert client.read_response().body == CONTENT["/pieces"]


@pytest.mark.parametrize("model", [model for model in MODELS if not model.concurrent], indirect=True,
                         ids=lambda model: model.name)
def test_the_single_threaded_model_serves_one_connection_after_the_other(serve: Serve) -> None:
    entered, leave = Gate("the first request's handler runs"), Gate("the second request has been sent")
    order: list[str] = []

    def handler(request: Request) -> str:
        order.append(f"{request.path} begins")
        if request.path == "/1":
            entered.open()
            leave.pass_through()
        order.append(f"{request.path} ends")
        return "ok"

    server = serve(handler)
    with server.connect() as one:
        one.send(request("/1", headers=["Connection: close"]))
        entered.pass_through()
        with server.connect() as other:
            other.send(request("/2"))
            leave.open()
            assert one.read_response().body == b"ok"
            assert other.read_response().body == b"ok"
    assert order == ["/1 begins", "/1 ends", "/2 begins", "/2 ends"]


def test_many_clients_get_each_its_own_answers(serve: Serve, model: Model) -> None:
    """Eight threads, each with ten requests on each of three connections."""
    # Under pressure, idle connections would give way: a client that is slow to ask again would be told to come back.
    server = serve(lambda request: f"{request.path} {request.body.read().decode()}", timeouts=Timeouts(pressed=None))
    wrong: list[str] = []

    def client_thread(name: int) -> None:
        for connection in range(3):
            with RawClient.connect(server.port) as client:
                for n in range(10):
                    path, body = f"/{name}/{connection}/{n}", f"{name * n}"
                    client.send(request(path, method="POST", body=body.encode()))
                    if (received := client.read_response().body.decode()) != f"{path} {body}":
                        wrong.append(f"{path} got {received}")

    threads = [threading.Thread(target=client_thread, args=(name,), daemon=True) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), f"a client still waits; {server.taskmaster.snapshot()}"
    assert wrong == []
    server.wait_until_over(24)
    assert server.taskmaster.snapshot().accepted == 24


# Stopping.

def test_a_request_in_progress_when_the_server_stops_is_answered(
        serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, leave = Gate("the handler runs"), Gate("stop() has begun")

    def handler(request: Request) -> str:
        entered.open()
        leave.pass_through()
        return "answered"

    server = serve(handler)
    shutdown = server.taskmaster.shutdown

    def shutdown_has_begun(deadline: float) -> Sequence[str]:
        leave.open()
        return shutdown(deadline)

    monkeypatch.setattr(server.taskmaster, "shutdown", shutdown_has_begun)
    with server.connect() as client:
        client.send(request())
        entered.pass_through()
        stopper = threading.Thread(target=server.acceptor.stop, daemon=True)
        stopper.start()
        received = client.read_response()
        assert (received.body, received.keep_alive) == (b"answered", False)
        client.expect_eof()
        client.close()
        stopper.join(PATIENCE)
        assert not stopper.is_alive(), f"stop() still waits; {server.taskmaster.snapshot()}"


# Clients that others have written.

def test_http_client_keeps_its_connection_through_requests_of_every_kind(serve: Serve) -> None:
    server = serve(application)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    try:
        for path, content in CONTENT.items():
            connection.request("GET", path)
            with connection.getresponse() as response:
                assert (path, response.read(), response.will_close) == (path, content, False)
        connection.request("POST", "/echo", body=b"hello")
        with connection.getresponse() as response:
            assert response.read() == b"hello"
        connection.request("POST", "/echo", body=iter([b"hel", b"lo"]))  # chunked
        with connection.getresponse() as response:
            assert response.read() == b"hello"
        connection.request("HEAD", "/text")
        with connection.getresponse() as response:
            assert (response.read(), response.headers["Content-Length"]) == (b"", "6")
        assert server.taskmaster.snapshot().accepted == 1, "it had to connect again"
    finally:
        connection.close()


needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on the PATH")


def curl(server: Server, path: str, *options: str, data: bytes | None = None) -> str:
    """What curl prints: the body, and behind it the status and the HTTP version as curl understood them."""
    result = subprocess.run(
        ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "10", "--write-out", " %{http_code}",
         *options, *(["--data-binary", "@-"] if data is not None else []), server.url + path],
        input=data, capture_output=True, timeout=2 * PATIENCE, check=False)
    assert result.returncode == 0, f"curl {options}: {result.stderr.decode()}{result.stdout[:200]!r}"
    return result.stdout.decode()


@needs_curl
@pytest.mark.parametrize(("path", "options", "data", "expected"), [
    ("/text", [], None, "naïve 200"),
    ("/text", ["--http1.0"], None, "naïve 200"),
    ("/pieces", [], None, "one two three 200"),
    ("/pieces", ["--http1.0"], None, "one two three 200"),
    ("/pieces", ["--raw"], None, "4\r\none \r\n4\r\ntwo \r\n5\r\nthree\r\n0\r\n\r\n 200"),
    ("/no-content", [], None, " 204"),
    ("/missing", [], None, "no such page 404"),
    ("/raise", [], None, "Internal Server Error\n 500"),
    ("/echo", [], b"hello", "hello 200"),
    ("/echo", ["--http1.0"], b"hello", "hello 200"),
    ("/echo", ["--header", "Transfer-Encoding: chunked"], b"hello", "hello 200"),
    ("/echo", ["--header", "Expect: 100-continue"], b"hello", "hello 200"),
    ("/relay", ["--header", "Transfer-Encoding: chunked", "--header", "Expect: 100-continue"], b"hello", "hello 200"),
    ("/digest", ["--header", "Expect: 100-continue"], b"x" * 3_000_000,
     digest_of(b"x" * 3_000_000).decode() + " 200"),
    ("/ignore", ["--header", "Expect: 100-continue"], b"x" * 3_000_000, "not read 200"),
], ids=lambda value: None if isinstance(value, bytes) else str(value) or None)
def test_curl_understands_the_answer(
        serve: Serve, path: str, options: list[str], data: bytes | None, expected: str) -> None:
    assert curl(serve(application), path, *options, data=data) == expected


@needs_curl
def test_curl_waits_for_100_continue_no_longer_than_it_must(serve: Serve) -> None:
    """By default it sends the body after a second in any case; so the timeout is set to what nobody waits for."""
    server = serve(application)
    options = ["--header", "Expect: 100-continue", "--expect100-timeout", "60"]
    assert curl(server, "/echo", *options, data=b"hello") == "hello 200"


@needs_curl
def test_curl_uses_one_connection_for_several_requests(serve: Serve) -> None:
    server = serve(application)
    printed = curl(server, "/text", server.url + "/pieces", server.url + "/text")
    assert printed == "one two three 200naïve 200naïve 200"  # options first, the path last
    assert server.taskmaster.snapshot().accepted == 1


@needs_curl
def test_curl_downloads_a_file_of_20_mb_unchanged(serve: Serve, big_file: tuple[Path, str], tmp_path: Path) -> None:
    path, digest = big_file
    target = tmp_path / "downloaded"
    server = serve(lambda request: Response(path.open("rb")))
    assert curl(server, "/", "--output", str(target)) == " 200"
    assert hashlib.md5(target.read_bytes()).hexdigest() == digest


def test_the_access_log_has_a_line_for_each_response(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "acceptor.access")
    server = serve(application, access_log=True)
    with server.connect() as client:
        client.send(request("/text") + request("/pieces") + request("/missing"))
        for _ in range(3):
            client.read_response()
    server.wait_until_over(1)
    assert access_lines(caplog) == [
        '127.0.0.1 "GET /text HTTP/1.1" 200 6', '127.0.0.1 "GET /pieces HTTP/1.1" 200 13',
        '127.0.0.1 "GET /missing HTTP/1.1" 404 12',
    ]


def test_two_servers_run_side_by_side(serve: Serve, model: Model) -> None:
    handlers: list[Handler] = [lambda request: "one", lambda request: "other"]
    servers = [serve(handler) for handler in handlers]
    assert servers[0].port != servers[1].port
    for server, expected in zip(servers, [b"one", b"other"], strict=True):
        with server.connect() as client:
            client.send(request())
            assert client.read_response().body == expected
