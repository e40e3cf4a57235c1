"""What an acceptor is given besides handler and taskmaster: addresses, TLS, limits, proxies; in every model."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from acceptor import TLS, Limits, Request, Response, Timeouts, Violation
from tests.clients import PATIENCE, Gate, RawClient, request
from tests.conftest import MODELS, Serve

concurrent = pytest.mark.parametrize("model", [model for model in MODELS if model.concurrent], indirect=True,
                                     ids=lambda model: model.name)
"""One thread accepts one connection at a time: the others wait in the kernel, where no limit sees them."""


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def certificate(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(path))
    return path


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def who(request: Request) -> str:
    return f"{request.client[0]} {request.scheme} {request.host}"


def echo(request: Request) -> bytes:
    return request.body.read()


# Addresses.

def test_one_acceptor_listens_on_several_addresses_of_every_kind(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    inherited = socket.create_server(("127.0.0.1", 0))
    inherited_port = inherited.getsockname()[1]
    server = serve(who, port=None, bind=["127.0.0.1:0", "[::1]:0", f"unix:{path}", inherited])
    addresses = server.acceptor.addresses
    assert addresses[2:] == [f"unix:{path}", f"127.0.0.1:{inherited_port}"]
    four, six = (int(address.rpartition(":")[2]) for address in addresses[:2])

    def connect_to_file() -> RawClient:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(path))
        return RawClient(sock)

    ways: list[tuple[Callable[[], RawClient], str]] = [
        (lambda: RawClient.connect(four), "127.0.0.1"), (lambda: RawClient.connect(six, "::1"), "::1"),
        (connect_to_file, "unix"), (lambda: RawClient.connect(inherited_port), "127.0.0.1")]
    for connect, name in ways:
        with connect() as client:
            client.send(request(headers=["Connection: close"]))
            assert client.read_response().body == f"{name} http test".encode()
    server.acceptor.stop()
    assert not path.exists()


def test_every_address_of_this_machine_is_one_dual_stack_socket(serve: Serve) -> None:
    server = serve(who, port=None, bind=":0")
    assert server.acceptor.addresses == [f"[::]:{server.port}"]
    for host in ("127.0.0.1", "::1"):
        with RawClient.connect(server.port, host) as client:
            client.send(request(headers=["Connection: close"]))
            assert client.read_response().body == f"{host} http test".encode()


# TLS.

def test_requests_of_every_kind_over_tls(serve: Serve, certificate: Path, trusting: ssl.SSLContext, tmp_path: Path
                                         ) -> None:
    big = tmp_path / "big"
    big.write_bytes(bytes(range(256)) * 20_000)

    def handler(request: Request) -> Response | bytes | str:
        if request.path == "/file":
            return Response(big.open("rb"))
        if request.path == "/pieces":
            return Response(b"%d," % number for number in range(1000))
        if request.path == "/tls":
            assert request.tls is not None
            return f"{request.tls.version} {request.tls.server_name} {request.scheme}"
        return request.body.read()

    server = serve(handler, tls=TLS(certificate))
    with RawClient(trusting.wrap_socket(socket.create_connection(("127.0.0.1", server.port), PATIENCE),
                                        server_hostname="localhost")) as client:
        client.send(request("/tls"))
        assert client.read_response().body == b"TLSv1.3 localhost https"
        client.send(request("/file"))
        assert client.read_response().body == big.read_bytes()
        client.send(request("/pieces") + request("/tls"))
        assert client.read_response().body == b"".join(b"%d," % number for number in range(1000))
        assert client.read_response().status == 200
        client.send(request("/echo", method="POST", chunks=[b"x" * 100_000] * 5))
        assert client.read_response("POST").body == b"x" * 500_000
        client.send(b"GET / HTTP/1.1\r\n\r\n")
        received = client.read_response()
        assert (received.status, received.keep_alive) == (400, False)
        client.expect_eof()


def test_a_client_that_speaks_plain_http_to_a_tls_port_can_read_that_it_is_wrong(serve: Serve, certificate: Path
                                                                                 ) -> None:
    server = serve(echo, tls=TLS(certificate))
    with server.connect() as client:
        client.send(request())
        assert client.read_response().status == 400


def test_a_certificate_is_replaced_without_a_restart(serve: Serve, certificate: Path, authority: trustme.CA,
                                                     trusting: ssl.SSLContext) -> None:
    tls = TLS(certificate)
    server = serve(who, tls=tls)

    def serial() -> object:
        with trusting.wrap_socket(socket.create_connection(("127.0.0.1", server.port), PATIENCE),
                                  server_hostname="localhost") as sock:
            peer = sock.getpeercert()
            assert peer is not None
            return peer["serialNumber"]

    first = serial()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    assert serial() == first
    tls.reload()
    assert serial() != first


# Limits.

@concurrent
def test_connections_beyond_the_limit_get_503_and_others_take_the_place_of_those_that_end(serve: Serve) -> None:
    server = serve(who, limits=Limits(connections=1))
    with server.connect() as first:
        first.send(request())
        assert first.read_response().status == 200
        for count in range(1, 4):
            with server.connect() as refused:
                assert refused.read_response().status == 503
            assert server.acceptor.refused_count == count
        first.send(request(headers=["Connection: close"]))
        assert first.read_response().status == 200
    server.wait_until_over(1)
    _wait_until_none_is_open(server.acceptor)
    with server.connect() as second:
        second.send(request())
        assert second.read_response().status == 200
    warnings = [record for record in server.records if "Limits.connections" in record.getMessage()]
    assert len(warnings) == 1, "a burst is logged once"
    server.records.clear()


@concurrent
def test_one_address_may_be_given_fewer_connections_than_all_together(serve: Serve) -> None:
    server = serve(who, limits=Limits(connections_per_address=1), port=None, bind=["127.0.0.1:0"])
    with server.connect() as first:
        first.send(request())
        assert first.read_response().status == 200
        with server.connect() as refused:
            assert refused.read_response().status == 503
        other = socket.create_connection(("127.0.0.1", server.port), PATIENCE, source_address=("127.0.0.2", 0))
        first.send(request(headers=["Connection: close"]))
        assert first.read_response().status == 200
        with RawClient(other) as client:
            client.send(request())
            assert client.read_response().body == b"127.0.0.2 http test"
    server.records.clear()


def _wait_until_none_is_open(acceptor: object) -> None:
    closed = threading.Event()
    for _ in range(int(PATIENCE / 0.01)):
        if acceptor.connection_count == 0:  # type: ignore[attr-defined]
            return
        closed.wait(0.01)
    raise AssertionError("connections are still open")


def test_a_connection_has_so_many_requests(serve: Serve) -> None:
    server = serve(who, limits=Limits(requests_per_connection=3))
    with server.connect() as client:
        for keep_alive in (True, True, False):
            client.send(request())
            received = client.read_response()
            assert (received.status, received.keep_alive) == (200, keep_alive)
        client.expect_eof()


# Violations.

def test_violations_are_counted_whether_allowed_or_not(serve: Serve) -> None:
    server = serve(who, allow=[Violation.OBS_FOLD])
    with server.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n")
        assert client.read_response().status == 200
        client.send(b"GET / HTTP/1.1\nHost: a\r\n\r\n")
        assert client.read_response().status == 400
    assert server.acceptor.violations == {Violation.OBS_FOLD: 1, Violation.BARE_LF: 1}
    server.records.clear()


# Proxies.

def test_the_proxy_header_names_the_client_and_is_demanded_of_those_who_send_it(serve: Serve) -> None:
    server = serve(who, proxy_protocol=["127.0.0.1"])
    with server.connect() as client:
        client.send(b"PROXY TCP4 203.0.113.7 192.0.2.1 5000 80\r\n" + request())
        assert client.read_response().body == b"203.0.113.7 http test"
        client.send(request())
        assert client.read_response().body == b"203.0.113.7 http test"
        client.send(b"PROXY TCP4 203.0.113.8 192.0.2.1 5000 80\r\n" + request())
        assert client.read_response().status == 400, "later on it is the client's, and no HTTP"
    with server.connect() as client:
        client.send(request())
        client.expect_eof()
    server.records.clear()


def test_forwarded_headers_are_believed_of_trusted_proxies_only(serve: Serve) -> None:
    lines = ["X-Forwarded-For: 6.6.6.6, 203.0.113.7", "X-Forwarded-Proto: https", "X-Forwarded-Host: example.org"]

    def handler(request: Request) -> str:
        return f"{who(request)} {sorted(request.headers)}"

    for trusted, seen in ((["127.0.0.1"], b"203.0.113.7 https example.org "),
                          (["10.0.0.0/8"], b"127.0.0.1 http test ")):
        server = serve(handler, trusted_proxies=trusted)
        with server.connect() as client:
            client.send(request(headers=lines))
            body = client.read_response().body
            assert body.startswith(seen)
            assert (b"x-forwarded-for" in body) == (trusted == ["127.0.0.1"])


# Deadlines and detaching, through a whole server.

def test_past_the_deadline_of_the_stop_a_detached_connection_is_shut_down_and_its_thread_joined(
        serve: Serve) -> None:
    ended: list[bytes] = []
    end = Gate("the handler has seen the end")
    entered = Gate("the handler has been entered")

    def handler(request: Request) -> str:
        detached = request.detach()
        detached.socket.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        entered.open()
        with detached.socket:
            ended.append(detached.socket.recv(100))
        end.open()
        return "nobody reads this"

    server = serve(handler)
    client = server.connect()
    client.send(request())
    entered.pass_through()
    report = server.acceptor.stop(deadline=0.05)
    assert [cut.rpartition(" ")[2] for cut in report.cut] == ["(detached)"]
    end.pass_through()  # where its thread is an executor's, nobody has joined it
    assert ended == [b""]
    assert not report.stuck
    server.acceptor._last_report = type(report)()  # it was meant to be cut


def test_slow_clients_are_ended_while_a_quick_one_waits(serve: Serve) -> None:
    """Under pressure the slow give way. The timeouts are long, so that it is the pressure that ends them."""
    server = serve(echo, timeouts=Timeouts(head=100, body=100, keep_alive=100, pressed=0.05))
    slow = [server.connect() for _ in range(17)]  # no model here serves so many at once
    for number, client in enumerate(slow):
        client.send((b"GET / HT", request(), b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx")[number % 3])
    with server.connect() as quick:
        quick.send(request(method="POST", body=b"quick"))
        received = quick.read_response("POST")
        assert (received.status, received.body) == (200, b"quick")
    for client in slow:
        client.close()
    server.records.clear()
