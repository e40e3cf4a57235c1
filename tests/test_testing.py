"""The fixture `live_server`: it serves what tests ask it to, and each thing that a test may leave behind is found.

Most of these are tests of tests: pytester runs some in a directory of their own, with the fixture in their conftest.py,
and the outcome is looked at.
"""

from __future__ import annotations

import http.client
import logging
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import trustme

import acceptor.testing
from acceptor import TLS, Request, Response
from acceptor.testing import LiveServer, StartLiveServer, make_live_server, no_answer, raw_answer
from taskmaster import PooledTaskmaster, RecyclingTaskmaster, SingleThreadedTaskmaster
from tests.clients import PATIENCE, Gate, RawClient, request
from tests.conftest import Model

pytest_plugins = ["pytester"]

live_server = make_live_server()


def hello(request: Request) -> str:
    return "Hello"


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"Hello from {environ['wsgi.url_scheme']}".encode()]


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=PATIENCE) as response:
        body: bytes = response.read()
    return body


# What it serves.

def test_it_serves_a_handler_and_a_wsgi_application_on_ports_of_their_own(live_server: StartLiveServer) -> None:
    first, second = live_server(hello), live_server(wsgi)
    assert get(f"{first.url}/") == b"Hello"
    assert get(f"{second}/") == b"Hello from http"
    assert first.url == f"http://127.0.0.1:{first.port}"
    assert first.port != second.port


def test_it_keeps_a_connection(live_server: StartLiveServer) -> None:
    server = live_server(hello)
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    for _ in range(3):
        client.request("GET", "/")
        assert client.getresponse().read() == b"Hello"
    assert server.taskmaster.snapshot().accepted == 1
    client.close()


def test_every_model_can_be_asked_for(live_server: StartLiveServer, model: Model) -> None:
    server = live_server(hello, taskmaster=model)
    assert get(server.url) == b"Hello"
    assert type(server.taskmaster) is type(model())
    assert type(server.taskmaster).__name__ in repr(server)


def test_a_taskmaster_is_an_instance_a_class_or_by_default_recycling(live_server: StartLiveServer) -> None:
    mine = PooledTaskmaster(threads=1)
    assert live_server(hello, taskmaster=mine).taskmaster is mine
    assert isinstance(live_server(hello, taskmaster=SingleThreadedTaskmaster).taskmaster, SingleThreadedTaskmaster)
    assert isinstance(live_server(hello).taskmaster, RecyclingTaskmaster)


def test_what_an_application_is_can_be_said(live_server: StartLiveServer) -> None:
    def either(*arguments: Any) -> Any:
        return wsgi(*arguments) if len(arguments) == 2 else "a handler"

    assert get(live_server(either, wsgi=False).url) == b"a handler"
    assert get(live_server(either, wsgi=True).url) == b"Hello from http"


def test_with_tls_the_url_says_so(live_server: StartLiveServer, tmp_path: Any) -> None:
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    server = live_server(wsgi, tls=TLS(str(tmp_path / "server.pem")))
    assert server.url == f"https://127.0.0.1:{server.port}"
    with urllib.request.urlopen(server.url, timeout=PATIENCE, context=context) as response:
        assert response.read() == b"Hello from https"


def test_options_of_the_acceptor_pass_through(live_server: StartLiveServer) -> None:
    server = live_server(hello, bind=["127.0.0.1:0", "127.0.0.1:0"], backlog=5)
    assert [get(url) for url in server.acceptor.urls] == [b"Hello"] * 2


@pytest.mark.parametrize(("arguments", "error", "expected"), [
    ({"app": 7}, TypeError, "7"),
    ({"app": hello, "taskmaster": 7}, TypeError, "taskmaster=7"),
    ({"app": hello, "deadline": -1}, ValueError, "deadline=-1"),
    ({"app": hello, "port": "http"}, TypeError, "port='http'"),
    ({"app": hello, "prot": 80}, TypeError, "prot"),
])
def test_wrong_arguments_fail_at_the_call(live_server: StartLiveServer, arguments: dict[str, Any],
                                          error: type[Exception], expected: str) -> None:
    with pytest.raises(error, match=re.escape(expected)):
        live_server(**arguments)


def test_a_server_that_cannot_start_leaves_nothing(live_server: StartLiveServer) -> None:
    handlers = logging.getLogger("acceptor").handlers[:]
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(OSError, match="Address already in use"):
        live_server(hello, port=other.getsockname()[1])
    assert logging.getLogger("acceptor").handlers == handlers


def test_errors_are_told_with_their_place_and_belong_to_one_server(live_server: StartLiveServer) -> None:
    def failing(request: Request) -> str:
        raise ValueError("no such shop")

    first, second = live_server(failing), live_server(hello)
    for server in (first, second):
        with RawClient.connect(server.port) as client:
            client.send(request("/price"))
            assert client.read_response().status == (500 if server is first else 200)
    (error,) = first.errors
    assert re.fullmatch(r"GET /price from 127\.0\.0\.1:\d+: the handler failed: ValueError: no such shop "
                        r"\(.*test_testing\.py:\d+, in failing\)", error), error
    assert second.errors == []


def test_a_port_is_not_taken_for_one_that_begins_with_it(live_server: StartLiveServer) -> None:
    server = live_server(hello)
    assert server._is_of_server(f"recycling-127.0.0.1:{server.port}-1")
    assert server._is_of_server(f"watcher-127.0.0.1:{server.port}")
    assert not server._is_of_server(f"recycling-127.0.0.1:{server.port}1-1")
    assert not server._is_of_server("MainThread")


def test_stop_says_what_it_cut(live_server: StartLiveServer) -> None:
    entered, gone = Gate("the handler runs"), Gate("its client has seen the end of the connection")

    def slow(request: Request) -> str:
        entered.open()
        gone.pass_through()
        return "late"

    def read() -> None:
        client.expect_eof()
        gone.open()

    server = live_server(slow)
    with RawClient.connect(server.port) as client:
        client.send(request())
        entered.pass_through()
        reader = threading.Thread(target=read)
        reader.start()
        report = server.stop(deadline=0)
        reader.join()
    assert len(report.cut) == 1
    assert "(handling)" in report.cut[0]
    assert not report.stuck
    assert server.stop() == report
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port))


# Handlers that answer as no server should.

def answer_of(server: LiveServer) -> tuple[int, bytes]:
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    try:
        client.request("POST", "/", body=b"x" * 100_000)
        response = client.getresponse()
        return response.status, response.read()
    finally:
        client.close()


def test_raw_answer_sends_what_it_is_given(live_server: StartLiveServer) -> None:
    assert answer_of(live_server(raw_answer(b"HTTP/1.1 299 Odd\r\nContent-Length: 2\r\n\r\nhi"))) == (299, b"hi")
    with pytest.raises(http.client.BadStatusLine):
        answer_of(live_server(raw_answer(b"\0\1\2\r\n")))
    with pytest.raises(http.client.RemoteDisconnected):
        answer_of(live_server(raw_answer(b"")))
    with pytest.raises(http.client.IncompleteRead):
        answer_of(live_server(raw_answer(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")))


def test_raw_answer_can_reset(live_server: StartLiveServer) -> None:
    with RawClient.connect(live_server(raw_answer(b"half", reset=True)).port) as client:
        client.send(request())
        assert client.read_to_reset() in (b"", b"half")


def test_no_answer_ends_with_the_server(live_server: StartLiveServer) -> None:
    server = live_server(no_answer)
    with RawClient.connect(server.port) as client:
        client.send(request())
        client.sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.sock.recv(1)
        assert not server.stop()
        client.expect_eof()


def test_no_answer_ends_with_its_client(live_server: StartLiveServer) -> None:
    server = live_server(no_answer, taskmaster=SingleThreadedTaskmaster())
    for leave in (RawClient.close, RawClient.reset):
        client = RawClient.connect(server.port)
        client.send(request())
        leave(client)
    with RawClient.connect(server.port) as client:  # its turn comes when the two have gone
        client.send(request())
        client.half_close()
        client.expect_eof()


# What it finds.

class Inner:
    """Runs tests that have the fixture, with warnings as errors."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester

    def run(self, body: str, conftest: str = "from acceptor.testing import live_server", *options: str) -> str:
        """What pytest said about a module of these imports and `body`; the line with the numbers last."""
        self.pytester.makeconftest(conftest)
        self.pytester.makepyfile(f"{IMPORTS}\n{body}")
        result = self.pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:django", "-p", "no:flask",
                                                   "-W", "error", *options)
        return "\n".join(result.outlines + result.errlines)

    def beside(self, plugin: str, body: str, conftest: str) -> str:
        """`run`, with another plugin."""
        self.pytester.makepyfile(other_plugin=plugin)
        self.pytester.syspathinsert()
        return self.run(body, conftest, "-p", "other_plugin")


IMPORTS = """
import http.client, socket, threading, urllib.error, urllib.request
import pytest
from acceptor import Response
from taskmaster import PooledTaskmaster
from tests.clients import RawClient, request as raw

def hello(request):
    return "Hello"

def failing(request):
    raise ValueError("of the handler")

def wsgi(environ, start_response):
    start_response("200 OK", [])
    return [b"Hello"]

def get(server):
    with urllib.request.urlopen(server.url) as response:
        return response.read()

def status(server):
    try:
        with urllib.request.urlopen(server.url) as response:
            return response.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
"""


@pytest.fixture
def inner(pytester: pytest.Pytester) -> Iterator[Inner]:
    before = set(threading.enumerate())
    yield Inner(pytester)
    for thread in set(threading.enumerate()) - before:  # that the tests were made to leave
        thread.join(PATIENCE)
        assert not thread.is_alive(), thread


def outcome(output: str) -> str:
    """The last line, without the time it took: "1 passed, 1 error"."""
    found = re.findall(r"^=*\s*((?:\d+ \w+(?:, )?)+) in ", output, re.MULTILINE)
    assert found, output
    return str(found[-1]).strip()


def test_a_test_that_leaves_nothing_passes(inner: Inner) -> None:
    output = inner.run("""
def test_urllib(live_server):
    assert get(live_server(hello)) == get(live_server(wsgi)) == b"Hello"

def test_a_connection_that_is_still_open_is_no_failure(live_server):
    global client
    client = http.client.HTTPConnection("127.0.0.1", live_server(hello).port)
    client.request("GET", "/")
    assert client.getresponse().read() == b"Hello"

def test_nor_is_one_without_a_request(live_server):
    client.close()
    with socket.create_connection(("127.0.0.1", live_server(hello).port)):
        pass

def test_nor_is_a_thread_of_the_tests_own(live_server):
    global over
    get(live_server(hello))
    over = threading.Event()
    threading.Thread(target=over.wait).start()

def test_nor_is_a_socket_from_before(live_server):
    over.set()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = live_server(hello, bind=listening.dup())
        assert get(server) == b"Hello"
        kept.append(listening.dup())

kept = []

class Thread(threading.Thread):
    def join(self, timeout=None):
        self.over.set()
        super().join(timeout)

def test_strict(live_server):
    kept.pop().close()
    server = live_server(hello, strict=True)
    thread = threading.Thread(target=get, args=[server])
    thread.start()
    get(server)
    thread.join()
    about_to_end = Thread(target=lambda: about_to_end.over.wait())
    about_to_end.over = threading.Event()
    about_to_end.start()
""")
    assert outcome(output) == "6 passed", output


def test_errors_of_a_handler_fail_the_test(inner: Inner) -> None:
    output = inner.run("""
def test_it(live_server):
    assert status(live_server(failing)) == 500
""")
    assert outcome(output) == "1 passed, 1 error", output
    assert re.search(r"<LiveServer http://127.0.0.1:\d+ with RecyclingTaskmaster> was not left as it should be:\n"
                     r"  - the server logged errors; .*\n"
                     r"      GET / from 127.0.0.1:\d+: the handler failed: ValueError: of the handler \(.*, in "
                     r"failing\)", output), output


def test_errors_that_a_test_is_about_do_not(inner: Inner) -> None:
    output = inner.run("""
def test_they_are_allowed(live_server):
    assert status(live_server(failing, errors_allowed=True)) == 500

def test_they_are_looked_at(live_server):
    server = live_server(failing)
    assert status(server) == 500
    assert len(server.errors) == 1

def test_they_are_of_another_server(live_server):
    assert status(live_server(failing, errors_allowed=True)) == 500
    assert status(live_server(hello)) == 200
""")
    assert outcome(output) == "3 passed", output


IN_PROGRESS = """
entered, gone = threading.Event(), threading.Event()

def slow(request):
    entered.set()
    while not ({until}):
        threading.Event().wait(0.01)
    return "late"

def read(client):
    with client:
        client.read_to_end()
    gone.set()

def test_it(live_server):
    server = live_server(slow, deadline={deadline})
    client = RawClient.connect(server.port)
    client.send(raw())
    assert entered.wait(10)
    threading.Thread(target=read, args=[client]).start()
    {then}
"""
CUT = "gone.is_set()"
"""The client has seen the end of its connection, without an answer."""


def test_a_request_that_is_cut_fails_the_test(inner: Inner) -> None:
    output = inner.run(IN_PROGRESS.format(deadline="0.1", until=CUT, then="pass"))
    assert outcome(output) == "1 passed, 1 error", output
    assert re.search(r"- requests in progress were cut 0\.1 s after the test: GET / from 127\.0\.0\.1:\d+ \(handling\)",
                     output)


def test_a_request_that_ends_in_time_does_not(inner: Inner) -> None:
    output = inner.run(IN_PROGRESS.format(deadline="10", until="request.stopping", then="pass"))
    assert outcome(output) == "1 passed", output


def test_a_request_that_the_test_itself_cuts_does_not(inner: Inner) -> None:
    output = inner.run(IN_PROGRESS.format(deadline="10", until=CUT, then="assert server.stop(deadline=0).cut"))
    assert outcome(output) == "1 passed", output


def test_threads_of_the_server_that_do_not_end_fail_the_test(inner: Inner) -> None:
    output = inner.run("""
over = threading.Event()

class Forgets(PooledTaskmaster):
    def shutdown(self, deadline):
        self.start_thread(over.wait, f"forgotten-{self.acceptor.name}-1")
        return super().shutdown(deadline)

def test_it(live_server):
    get(live_server(hello, taskmaster=Forgets))

def test_after():
    over.set()
""")
    assert outcome(output) == "2 passed, 1 error", output
    assert re.search(r"- threads of the server have not ended: forgotten-127\.0\.0\.1:\d+-1$", output, re.MULTILINE)


def test_a_connection_that_a_handler_took_and_keeps_fails_the_test(inner: Inner) -> None:
    output = inner.run("""
kept = []

def taking(request):
    kept.append(request.detach().socket)
    kept[0].sendall(b"taken")
    return b""

def test_it(live_server):
    with socket.create_connection(("127.0.0.1", live_server(taking).port)) as client:
        client.sendall(raw())
        assert client.recv(5) == b"taken"

def test_after():
    kept[0].close()
""")
    assert outcome(output) == "2 passed, 1 error", output
    assert re.search(r"- sockets of the server are open, to clients at port \d+; whoever takes", output), output


def test_a_strict_test_fails_for_what_others_leave(inner: Inner) -> None:
    output = inner.run("""
over = threading.Event()

def test_it(live_server):
    global client
    client = http.client.HTTPConnection("127.0.0.1", live_server(hello, strict=True).port)
    client.request("GET", "/")
    client.getresponse().read()
    threading.Thread(target=over.wait, name="my own").start()

def test_after():
    client.close()
    over.set()
""")
    assert outcome(output) == "2 passed, 1 error", output
    assert re.search(r"- clients have not closed their connections, from port \d+$", output, re.MULTILINE), output
    assert "- threads that were started since the server was still run: my own" in output


def test_all_problems_of_all_servers_are_told_also_if_the_test_fails(inner: Inner) -> None:
    output = inner.run("""
def test_it(live_server):
    first, second = live_server(failing), live_server(failing, taskmaster=PooledTaskmaster)
    status(first), status(second)
    assert not "this test's own failure"
""")
    assert outcome(output) == "1 failed, 1 error", output
    assert output.count("was not left as it should be") >= 2
    assert "this test's own failure" in output


def test_where_there_is_no_proc_sockets_are_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments: object) -> Any:
        raise FileNotFoundError

    inodes = acceptor.testing._own_sockets()
    monkeypatch.setattr(os, "listdir", missing)
    monkeypatch.setitem(vars(acceptor.testing), "open", missing)
    assert acceptor.testing._own_sockets() == frozenset()
    assert acceptor.testing._tcp_ports(inodes) == []


def test_sockets_are_found_with_their_ports() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        before = acceptor.testing._own_sockets()
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client, listening.accept()[0], socket.socket():
            other = client.getsockname()[1]
            found = acceptor.testing._tcp_ports(acceptor.testing._own_sockets() - before)
            assert sorted(found) == sorted([(port, other), (other, port)])
    assert not acceptor.testing._own_sockets() - before


# How it is had.

TWO = """
ports = set()

def test_one(servers):
    ports.add(servers.port)
    assert get(servers) == b"Hello"

def test_two(servers):
    ports.add(servers.port)
    assert get(servers) == b"Hello"
    assert len(ports) == 1
"""


def test_one_server_for_a_whole_session(inner: Inner) -> None:
    output = inner.run(TWO, """
import pytest
from acceptor.testing import make_live_server

start = make_live_server(scope="session")

@pytest.fixture(scope="session")
def servers(start):
    return start(lambda request: "Hello")
""")
    assert outcome(output) == "2 passed", output


def test_what_a_session_leaves_is_told_at_its_end(inner: Inner) -> None:
    output = inner.run("""
def test_one(start):
    assert status(start(failing)) == 500

def test_two(start):
    pass
""", 'from acceptor.testing import make_live_server\nstart = make_live_server("session")')
    assert outcome(output) == "2 passed, 1 error", output
    assert "ERROR at teardown of test_two" in output


OTHER_PLUGIN = """
import pytest

@pytest.fixture
def live_server():
    return "the other plugin's"
"""
CLAIMING = OTHER_PLUGIN + """
@pytest.fixture(autouse=True)
def helper(request):
    if "live_server" in request.fixturenames:
        request.getfixturevalue("live_server")._live_server_modified_settings.enable()
"""
"""As pytest-django 4.14 does."""
ONE = """
def test_it(live_server):
    assert get(live_server(hello)) == b"Hello"
"""


@pytest.mark.parametrize("conftest", [
    "from acceptor.testing import live_server",
    'pytest_plugins = ["acceptor.testing"]',
    'from acceptor.testing import LiveServer\npytest_plugins = ["acceptor.testing"]',
])
def test_it_counts_beside_a_plugin_with_a_fixture_of_the_same_name(inner: Inner, conftest: str) -> None:
    output = inner.beside(OTHER_PLUGIN, ONE, conftest)
    assert outcome(output) == "1 passed", output


def test_beside_a_plugin_that_takes_any_of_this_name_for_its_own_it_says_what_to_do(inner: Inner) -> None:
    output = inner.beside(CLAIMING, ONE, "from acceptor.testing import live_server")
    assert outcome(output) == "1 error", output
    assert "give it another one in conftest.py: from acceptor.testing import live_server as serve" in output


@pytest.mark.parametrize("conftest", [
    "from acceptor.testing import live_server as serve",
    "from acceptor.testing import make_live_server\nserve = make_live_server()",
])
def test_under_another_name_both_can_be_had(inner: Inner, conftest: str) -> None:
    output = inner.beside(OTHER_PLUGIN, """
def test_it(serve, live_server):
    assert get(serve(hello)) == b"Hello"
    assert live_server == "the other plugin's"
""", conftest)
    assert outcome(output) == "1 passed", output
    output = inner.beside(CLAIMING, ONE.replace("live_server", "serve"), conftest)
    assert outcome(output) == "1 passed", output


def test_who_does_not_call_it_is_told_to(live_server: StartLiveServer) -> None:
    with pytest.raises(AttributeError, match=re.escape("live_server has no 'url': call it, live_server(app)")):
        live_server.url  # noqa: B018
    assert not hasattr(live_server, "port")


def test_a_server_needs_no_pytest() -> None:
    program = "import sys, acceptor, taskmaster; assert not {'pytest', '_pytest'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_response_can_be_streamed(live_server: StartLiveServer) -> None:
    server = live_server(lambda request: Response(iter([b"a", b"b"])))
    assert get(server.url) == b"ab"
