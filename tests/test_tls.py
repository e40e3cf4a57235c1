"""TLS: no byte is lost or sent twice at a tick, whoever violates TLS ends alone, and certificates are what was asked.

The clients are OpenSSL's client side as Python has it. `Client` is driven by hand, on memory, so that a test decides
which byte arrives when; `in_thread` runs an `ssl.SSLSocket` beside the server. A raw socket that does not block ends a
wait as a tick does, but at once; where the real thing matters it has SO_RCVTIMEO and SO_SNDTIMEO.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import socket
import ssl
import struct
import termios
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest
import trustme
from cryptography.hazmat.primitives import hashes, serialization  # which trustme needs
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given
from hypothesis import strategies as st

from acceptor.listen_socket import set_tick
from acceptor.tls import TLS, PlainHTTPError, TLSSocket
from tests.clients import PATIENCE, Gate, tcp_pair

Result = TypeVar("Result")
TICK = 0.01
"""Of SO_RCVTIMEO and SO_SNDTIMEO: 10 ms."""
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
versions = pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)

# Certificates.

AUTHORITY, STRANGER = trustme.CA(), trustme.CA()


@dataclass(frozen=True)
class Files:
    """PEM files: one certificate (with its chain), its key."""

    certfile: Path
    keyfile: Path

    @classmethod
    def issue(cls, folder: Path, name: str, authority: trustme.CA = AUTHORITY) -> Files:
        leaf = authority.issue_cert(name)
        files = cls(folder / f"{name}.pem", folder / f"{name}.key")
        files.certfile.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        files.keyfile.write_bytes(leaf.private_key_pem.bytes())
        return files

    def tls(self, **options: Any) -> TLS:
        return TLS(self.certfile, self.keyfile, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    for authority, name in ((AUTHORITY, "authority.pem"), (STRANGER, "stranger.pem")):
        (folder / name).write_bytes(authority.cert_pem.bytes())
    return folder


@pytest.fixture(scope="module")
def a_test(folder: Path) -> Files:
    return Files.issue(folder, "a.test")


@pytest.fixture(scope="module")
def b_test(folder: Path) -> Files:
    return Files.issue(folder, "b.test")


SERVER = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
AUTHORITY.issue_cert("a.test").configure_cert(SERVER)


def client_context(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
                   issuer: trustme.CA | None = None) -> ssl.SSLContext:
    """For clients that trust AUTHORITY, with a certificate that `issuer` has signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = context.maximum_version = version
    AUTHORITY.configure_trust(context)
    context.set_alpn_protocols(["h2", "http/1.1"])
    if issuer is not None:
        issuer.issue_cert("client@a.test").configure_cert(context)
    return context


# Two ends.


class Client:
    """The client of `server`, driven by hand. What it sends is in `sending` until it is delivered."""

    def __init__(self, context: ssl.SSLContext | None = None, *, server: TLS | ssl.SSLContext = SERVER,
                 name: str | None = "a.test", session: ssl.SSLSession | None = None,
                 buffer: int | None = None) -> None:
        ours, self.socket = socket.socketpair()
        self.socket.setblocking(False)
        ours.setblocking(False)
        if buffer is not None:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        self.server = TLSSocket(ours, server.context if isinstance(server, TLS) else server)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = context or client_context()
        if name is None:
            context.check_hostname = False
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=name, session=session)
        self.sending = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
        self.server.close()

    def work(self) -> None:
        """One step of the handshake; what it wants sent waits in `sending`."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        self.sending += self.outgoing.read()

    def write(self, data: bytes) -> None:
        self.tls.write(data)
        self.sending += self.outgoing.read()

    def deliver(self, count: int | None = None) -> None:
        """Let the next `count` bytes arrive at the server; None: all of them."""
        count = len(self.sending) if count is None else count
        data, self.sending = self.sending[:count], self.sending[count:]
        assert self.socket.send(data) == len(data), "the test sends more than the buffer takes"

    def take(self, count: int = 1 << 20) -> bytes:
        """Read up to `count` bytes that the server has sent, for `read` to decrypt."""
        try:
            data = self.socket.recv(count)
        except BlockingIOError:
            return b""
        self.incoming.write(data)
        return data

    def read(self) -> bytes:
        """Decrypt what has been taken; b"" for nothing, or the end."""
        data = b""
        while True:
            try:
                more = self.tls.read(1 << 20)
            except ssl.SSLWantReadError:
                self.sending += self.outgoing.read()
                return data
            if not more:
                return data
            data += more

    def handshake(self) -> Self:
        """To the end on both sides; raises what either end raises."""
        for _ in range(4):
            self.work()
            self.deliver()
            try:
                self.server.handshake()
            except BlockingIOError:
                pass
            self.take()
        self.work()  # raises if the server has refused
        self.read()
        return self


def patiently(call: Callable[..., Result], *arguments: Any) -> Result:
    """What a connection does: call again at each tick."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return call(*arguments)
        except BlockingIOError:
            assert time.monotonic() < end, f"{call} had no result in {PATIENCE:g} s"


@dataclass
class Pair:
    """A server over a raw socket with ticks, and what a client with an `ssl.SSLSocket` does in a thread."""

    server: TLSSocket
    client: Future[Any]


@pytest.fixture
def in_thread() -> Iterator[Callable[..., Pair]]:
    """in_thread(what the client does, its context): a TCP connection. The server's handshake is left to the test."""
    with ExitStack() as stack, ThreadPoolExecutor() as threads:
        def start(act: Callable[[ssl.SSLSocket], Any], context: ssl.SSLContext | None = None) -> Pair:
            theirs, ours = tcp_pair()
            stack.callback(ours.close)
            theirs.settimeout(PATIENCE)
            set_tick(ours, TICK)

            def run() -> Any:
                with theirs, (context or client_context()).wrap_socket(theirs, server_hostname="a.test") as tls:
                    return act(tls)

            return Pair(TLSSocket(ours, SERVER), threads.submit(run))

        yield start


def fill(raw: socket.socket) -> int:
    """Write into a raw socket that does not block until there is no room; how many bytes that took."""
    filled = 0
    while True:
        try:
            filled += raw.send(bytes(64))
        except BlockingIOError:
            return filled


# Handshakes.


@versions
def test_a_handshake_is_made_and_told_about(version: ssl.TLSVersion, a_test: Files) -> None:
    with Client(client_context(version), server=a_test.tls()) as client:
        with pytest.raises(ValueError, match="handshake"):
            _ = client.server.info
        client.handshake()
        info = client.server.info
        assert info.version == client.tls.version() == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
        cipher = client.tls.cipher()
        assert cipher is not None
        assert info.cipher == cipher[0]
        assert info.server_name == "a.test"
        assert info.peer_certificate is None
        assert info.peer_certificate_der is None
        assert client.tls.selected_alpn_protocol() == "http/1.1"
        assert client.tls.compression() is None


def test_clients_cannot_renegotiate(a_test: Files) -> None:
    """Python's client cannot try: RFC 5746 section 5."""
    assert a_test.tls().context.options & ssl.OP_NO_RENEGOTIATION


@versions
def test_the_handshake_is_read_byte_by_byte(version: ssl.TLSVersion) -> None:
    with Client(client_context(version)) as client:
        ticks, done = 0, False
        while not done:
            client.work()
            if client.sending:
                client.deliver(1)
            try:
                client.server.handshake()
                done = True
            except BlockingIOError:
                ticks += 1
            client.take(1)
        assert ticks > 300, "a ClientHello alone has as many bytes"
        while client.take():
            client.work()
        client.write(b"question")
        client.deliver()
        assert client.server.recv(100) == b"question"


@versions
def test_the_handshake_is_written_into_a_full_buffer(version: ssl.TLSVersion) -> None:
    """First there is no room in it at all, then for as little as the client takes at a time."""
    with Client(client_context(version), buffer=1) as client:
        filled = fill(client.server.raw)
        client.work()
        client.deliver()
        for _ in range(2):
            with pytest.raises(BlockingIOError):
                client.server.handshake()
        while filled:
            filled -= len(client.socket.recv(filled))
        with pytest.raises(BlockingIOError):
            client.server.handshake()  # it waits for the client now, or still for room
        done = False
        while not done:
            try:
                client.server.handshake()
                done = True
            except BlockingIOError:
                client.take(7)
            client.work()
            client.deliver()
        while client.take(7):
            pass
        assert client.read() == b""


def test_bytes_read_before_are_the_first_of_the_handshake() -> None:
    with Client() as client:
        client.work()
        hello, client.sending = client.sending, b""
        for cut in (3, len(hello)):
            again = TLSSocket(client.server.raw, SERVER, hello[:cut])
            client.socket.send(hello[cut:])
            with pytest.raises(BlockingIOError):
                again.handshake()
            assert client.socket.recv(3) == b"\x16\x03\x03", "the server has answered the ClientHello"
            client.socket.recv(1 << 20)


@pytest.mark.parametrize("opening", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01"])
def test_a_client_that_leaves_in_the_handshake_is_a_connection_error(opening: bytes) -> None:
    with Client() as client:
        client.socket.send(opening)
        client.socket.close()
        with pytest.raises(ConnectionError, match="handshake"):
            client.server.handshake()


@pytest.mark.parametrize("garbage", [
    bytes(64), b"\xff\xfe\xfd" * 30, b"SSH-2.0-OpenSSH\r\n", b"get / http/1.1\r\n\r\n",
    b"\x16\x03\x01\x00\x04abcd",  # a record of TLS with no ClientHello in it
    b"\x80\x2e\x01\x00\x02" + bytes(43),  # SSL 2.0
], ids=repr)
def test_garbage_is_an_ssl_error(garbage: bytes) -> None:
    with Client() as client:
        client.socket.send(garbage)
        with pytest.raises(ssl.SSLError) as caught:
            client.server.handshake()
        assert not isinstance(caught.value, PlainHTTPError)


def test_a_client_is_told_why_its_handshake_failed(folder: Path, a_test: Files) -> None:
    with Client(client_context(ssl.TLSVersion.TLSv1_2),
                server=a_test.tls(minimum_version=ssl.TLSVersion.TLSv1_3)) as client:
        client.work()
        client.deliver()
        with pytest.raises(ssl.SSLError, match="UNSUPPORTED_PROTOCOL"):
            client.server.handshake()
        client.take()
        with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
            client.work()


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "HEAD", "DELETE", "OPTIONS", "CONNECT", "PATCH", "PROPFIND"])
def test_plain_http_is_recognised_and_can_be_answered(method: str, at_once: bool) -> None:
    with Client() as client:
        request = f"{method} / HTTP/1.1\r\nHost: a.test\r\n\r\n".encode()
        caught: ssl.SSLError | None = None
        for piece in [request] if at_once else [bytes([byte]) for byte in request]:
            client.socket.send(piece)
            try:
                client.server.handshake()
            except BlockingIOError:
                pass
            except ssl.SSLError as error:
                caught = error
                break
        assert isinstance(caught, PlainHTTPError)
        assert client.take() == b"", "nothing that is not HTTP has been sent"
        client.server.raw.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        assert client.socket.recv(100).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("received", [b"DEL", b"DELETE / HTTP/1.1"], ids=repr)
def test_plain_http_is_recognised_in_what_was_read_before(received: bytes) -> None:
    with Client() as client:
        server = TLSSocket(client.server.raw, SERVER, received)
        client.socket.send(b"ETE / HTTP/1.1\r\n\r\n")
        with pytest.raises(PlainHTTPError):
            server.handshake()


# Clients' certificates.


@versions
@pytest.mark.parametrize(("asked", "issuer", "accepted"), [
    ("none", AUTHORITY, True), ("none", None, True),
    ("optional", AUTHORITY, True), ("optional", None, True), ("optional", STRANGER, False),
    ("required", AUTHORITY, True), ("required", None, False), ("required", STRANGER, False),
], ids=lambda value: {id(AUTHORITY): "ours", id(STRANGER): "stranger"}.get(id(value), str(value)))
def test_clients_certificates(version: ssl.TLSVersion, asked: str, issuer: trustme.CA | None, accepted: bool,
                              folder: Path, a_test: Files) -> None:
    tls = a_test.tls(client_certificate=asked, client_ca=None if asked == "none" else folder / "authority.pem")
    with Client(client_context(version, issuer), server=tls) as client:
        if not accepted:
            with pytest.raises(ssl.SSLError, match=r"CERTIFICATE_VERIFY_FAILED|PEER_DID_NOT_RETURN_A_CERTIFICATE"):
                client.handshake()
            return
        info = client.handshake().server.info
        if asked == "none" or issuer is None:
            assert info.peer_certificate is None
            assert info.peer_certificate_der is None
        else:
            assert info.peer_certificate is not None
            assert info.peer_certificate["subjectAltName"] == (("email", "client@a.test"),)
            assert info.peer_certificate_der is not None
            assert b"client@a.test" in info.peer_certificate_der


# SNI.


def shown(tls: TLS, name: str | None = "a.test") -> str:
    """The name in the certificate that a client is shown which asks for `name`."""
    context = client_context()
    context.check_hostname = False
    with Client(context, server=tls, name=name) as client:
        certificate = client.handshake().tls.getpeercert()
        assert certificate is not None
        return str(certificate["subjectAltName"][0][1])


def test_sni_picks_the_certificate(a_test: Files, b_test: Files) -> None:
    asked: list[str | None] = []
    b, c = b_test.tls(), b_test.tls().context

    def sni(name: str | None) -> TLS | ssl.SSLContext | None:
        asked.append(name)
        return b if name == "b.test" else c if name == "c.test" else None

    tls = a_test.tls(sni=sni)
    assert [shown(tls, name) for name in ("a.test", "b.test", "c.test", "B.Test", "d.test", None)] == [
        "a.test", "b.test", "b.test", "b.test", "a.test", "a.test"]
    assert asked == ["a.test", "b.test", "c.test", "b.test", "d.test", None]


def test_the_name_is_known_also_where_sni_is_not_used(a_test: Files) -> None:
    for name, known in (("b.test", "b.test"), ("B.TEST", "b.test"), (None, None)):
        context = client_context()
        context.check_hostname = False
        with Client(context, server=a_test.tls(), name=name) as client:
            assert client.handshake().server.info.server_name == known


@pytest.mark.parametrize("error", [RuntimeError("no such name"), SystemExit(1)], ids=repr)
def test_a_failing_sni_ends_its_handshake_only(error: BaseException, a_test: Files,
                                               caplog: pytest.LogCaptureFixture) -> None:
    def sni(name: str | None) -> None:
        if name == "bad.test\n":
            raise error

    tls = a_test.tls(sni=sni)
    with caplog.at_level(logging.INFO), Client(server=tls, name="bad.test\n") as client:
        with pytest.raises(ssl.SSLError, match="CALLBACK_FAILED"):
            client.handshake()
        client.take()
        with pytest.raises(ssl.SSLError, match="ALERT_INTERNAL_ERROR"):
            client.work()
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    assert "\n" not in record.getMessage(), "a name is whatever the client sends"
    assert shown(tls) == "a.test"


def test_sni_must_not_change_what_clients_are_asked_for(folder: Path, a_test: Files, b_test: Files,
                                                        caplog: pytest.LogCaptureFixture) -> None:
    """OpenSSL would take the certificate of what sni returns, and not its demand: everybody would be let in."""
    guarded = b_test.tls(client_certificate="required", client_ca=folder / "authority.pem")
    tls = a_test.tls(sni=lambda name: guarded)
    with Client(server=tls) as client, pytest.raises(ssl.SSLError, match="CALLBACK_FAILED"):
        client.handshake()
    assert "give it the same as the default" in caplog.text


def test_a_client_cannot_carry_its_session_from_one_name_to_another(folder: Path, a_test: Files, b_test: Files) -> None:
    """a.test trusts AUTHORITY's clients, b.test STRANGER's. OpenSSL would resume a session of one with the other."""
    asked: dict[str, Any] = {"client_certificate": "required", "minimum_version": ssl.TLSVersion.TLSv1_3}
    b = b_test.tls(client_ca=folder / "stranger.pem", **asked)
    tls = a_test.tls(client_ca=folder / "authority.pem", sni=lambda name: b if name == "b.test" else None, **asked)
    context = client_context(issuer=AUTHORITY)
    with Client(context, server=tls) as client:
        client.handshake()
        session = client.tls.session
    with Client(context, server=tls, name="b.test", session=session) as client, \
            pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        client.handshake()


def test_sni_with_clients_certificates_needs_tls_1_3(folder: Path, a_test: Files) -> None:
    """Python cannot keep OpenSSL from resuming a session of TLS 1.2 under another name."""
    with pytest.raises(ValueError, match=r"pass minimum_version=ssl\.TLSVersion\.TLSv1_3"):
        a_test.tls(sni=lambda name: None, client_certificate="optional", client_ca=folder / "authority.pem")


# Reloading.


def test_reload_changes_the_certificate_of_new_connections_only(tmp_path: Path, a_test: Files, b_test: Files) -> None:
    files = Files(tmp_path / "cert.pem", tmp_path / "key.pem")
    files.certfile.write_bytes(a_test.certfile.read_bytes())
    files.keyfile.write_bytes(a_test.keyfile.read_bytes())
    tls = files.tls()
    with Client(server=tls) as before:
        before.handshake()
        files.certfile.write_bytes(b_test.certfile.read_bytes())
        with pytest.raises(ValueError, match="not that of the first certificate"):
            tls.reload()
        assert shown(tls) == "a.test", "a bad reload keeps the old"
        files.keyfile.write_bytes(b_test.keyfile.read_bytes())
        assert shown(tls) == "a.test"
        tls.reload()
        assert shown(tls) == "b.test"
        before.write(b"still there?")
        before.deliver()
        assert before.server.recv(100) == b"still there?"
        before.server.sendall(b"yes")
        before.take()
        assert before.read() == b"yes"


def test_any_context_can_be_used(a_test: Files, b_test: Files) -> None:
    reloads = iter([a_test, b_test])

    def make() -> ssl.SSLContext:
        files = next(reloads)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(files.certfile, files.keyfile)
        return context

    tls = TLS.of(make, sni=lambda name: b_test.tls() if name == "b.test" else None)
    assert (shown(tls), shown(tls, "b.test")) == ("a.test", "b.test")
    tls.reload()
    assert shown(tls) == "b.test"
    context = tls.context
    with pytest.raises(StopIteration):
        tls.reload()
    assert tls.context is context


# Wrong arguments.


@pytest.fixture
def bad_files(tmp_path: Path, a_test: Files) -> Path:
    key = serialization.load_pem_private_key(a_test.keyfile.read_bytes(), None)
    (tmp_path / "encrypted.key").write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret")))
    (tmp_path / "broken.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    (tmp_path / "empty.pem").write_text("")
    return tmp_path


@pytest.mark.parametrize(("arguments", "message"), [
    ({"certfile": "{bad}/missing.pem"}, r"certfile='.*missing.pem': No such file.*pass the path of a PEM file"),
    ({"keyfile": "{bad}/missing.key"}, r"keyfile='.*missing.key': No such file.*pass the path of a PEM file"),
    ({"certfile": "{bad}/empty.pem"}, r"certfile='.*empty.pem': no CERTIFICATE is in it; pass"),
    ({"keyfile": None}, r"keyfile='.*a.test.pem': no PRIVATE KEY is in it; pass"),
    ({"keyfile": "{good}/b.test.key"}, r"keyfile='.*b.test.key': the key is not that of the first certificate; pass"),
    ({"certfile": "{bad}/broken.pem"}, r"certfile='.*broken.pem', keyfile=.*pass intact PEM files"),
    ({"keyfile": "{bad}/encrypted.key"}, r"keyfile='.*encrypted.key': its key is encrypted; pass password="),
    ({"keyfile": "{bad}/encrypted.key", "password": "wrong"}, r"keyfile='.*encrypted.key'.*the right password"),
    ({"client_certificate": "always"}, r"client_certificate='always': pass one of 'none', 'optional', 'required'"),
    ({"client_certificate": "required"}, r"'required' with client_ca=None: .*as client_ca the PEM file"),
    ({"client_ca": "{good}/authority.pem"}, r"'none' with client_ca=.*pass client_certificate="),
    ({"client_certificate": "required", "client_ca": "{bad}/missing.pem"}, r"client_ca='.*missing.pem': No such file"),
    ({"client_certificate": "required", "client_ca": "{bad}/broken.pem"}, r"client_ca='.*broken.pem': .*pass an"),
    ({"ciphers": "no such cipher"}, r"ciphers='no such cipher': .*pass a list"),
    ({"minimum_version": ssl.TLSVersion.TLSv1_1}, r"minimum_version=.*pass ssl.TLSVersion.TLSv1_2"),
], ids=lambda value: "" if isinstance(value, str) else "-".join(value))
def test_wrong_arguments_and_files_say_the_fix(arguments: dict[str, Any], message: str, folder: Path, a_test: Files,
                                               b_test: Files, bad_files: Path) -> None:
    filled: dict[str, Any] = {"certfile": a_test.certfile, "keyfile": a_test.keyfile}
    for name, value in arguments.items():
        filled[name] = value.format(bad=bad_files, good=folder) if isinstance(value, str) else value
    with pytest.raises(ValueError, match=message):
        TLS(**filled)


@pytest.mark.parametrize(("call", "message"), [
    (lambda make, file: make(None), "certfile=None: pass the path"),
    (lambda make, file: make(file, 5), "keyfile=5: pass the path"),
    (lambda make, file: make.of(SERVER), "make_context=.*: pass a function"),
    (lambda make, file: make.of(lambda: SERVER, sni="a.test"), "sni='a.test': pass a function"),
    (lambda make, file: make.of(lambda: None), r"make_context returned None: return an ssl\.SSLContext"),
    (lambda make, file: make.of(client_context), "make_context returned .*PROTOCOL_TLS_SERVER"),
])
def test_wrong_types_say_the_fix(call: Callable[[Any, Path], TLS], message: str, a_test: Files) -> None:
    with pytest.raises(TypeError, match=message):
        call(TLS, a_test.certfile)


def test_an_encrypted_key_and_a_list_of_ciphers_work(a_test: Files, bad_files: Path) -> None:
    tls = TLS(str(a_test.certfile), bad_files / "encrypted.key", password="secret",
              ciphers="ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256")
    with Client(client_context(ssl.TLSVersion.TLSv1_2), server=tls) as client:
        assert "AES128-GCM-SHA256" in client.handshake().server.info.cipher


# Bytes, both ways, at every tick.

step = st.one_of(
    st.tuples(st.just("client writes"), st.integers(1, 40_000)),
    st.tuples(st.just("deliver"), st.integers(1, 20_000)),
    st.tuples(st.just("recv"), st.integers(1, 70_000)),
    st.tuples(st.just("pending"), st.just(0)),
    st.tuples(st.just("send"), st.integers(1, 150_000)),
    st.tuples(st.just("take"), st.integers(1, 20_000)),
)


def pattern(start: int, count: int) -> bytes:
    """`count` bytes of a sequence in which no long piece comes twice."""
    numbers = b"".join(number.to_bytes(4, "big") for number in range(start // 4, (start + count) // 4 + 1))
    return numbers[start % 4:start % 4 + count]


@versions
@given(steps=st.lists(step, max_size=40))
def test_ticks_lose_no_byte_and_send_none_twice(version: ssl.TLSVersion, steps: list[tuple[str, int]]) -> None:
    with Client(client_context(version), buffer=5000) as client:
        server = client.handshake().server
        written = sent = 0  # bytes that each end has been given
        received = answered = b""  # and that the other has got
        due = b""  # the server's send that ticks have interrupted

        def send() -> None:
            nonlocal due
            while due:
                count = server.send(due)
                assert 0 < count <= 64 * 1024
                due = due[count:]

        def recv(size: int) -> None:
            nonlocal received
            ready = server.pending()
            data = server.recv(size)
            assert 0 < len(data) <= size
            assert not ready or len(data) == min(size, ready)
            received += data

        for what, count in steps:
            try:
                if what == "client writes" and len(client.sending) < 100_000:
                    client.write(pattern(written, count))
                    written += count
                elif what == "deliver":
                    data = client.sending[:count]
                    client.sending = client.sending[client.socket.send(data) if data else 0:]
                elif what == "recv":
                    recv(count)
                elif what == "pending":
                    if server.pending():
                        recv(server.pending())  # must not raise BlockingIOError
                elif what == "send":
                    if not due:
                        due = pattern(sent, count)
                        sent += count
                    send()
                elif what == "take":
                    client.take(count)
                    answered += client.read()
            except BlockingIOError:
                assert what != "pending"
        end = time.monotonic() + PATIENCE
        while len(received) < written or len(answered) < sent or due:
            assert time.monotonic() < end, f"{len(received)} of {written}, {len(answered)} of {sent} bytes have come"
            if client.sending:
                try:
                    client.sending = client.sending[client.socket.send(client.sending[:9000]):]
                except BlockingIOError:
                    pass
            for call in (send, lambda: recv(1 << 20)):
                try:
                    call()
                except BlockingIOError:
                    pass
            client.take()
            answered += client.read()
        assert received == pattern(0, written)
        assert answered == pattern(0, sent)


@versions
def test_a_client_that_reads_late_gets_everything_once(version: ssl.TLSVersion,
                                                       in_thread: Callable[..., Pair]) -> None:
    full, size = Gate("the server has waited for room"), 10_000_000

    def read_late(tls: ssl.SSLSocket) -> bytes:
        full.pass_through()
        data = bytearray()
        while len(data) < size:
            data += tls.recv(1 << 20)
        return bytes(data)

    pair = in_thread(read_late, client_context(version))
    patiently(pair.server.handshake)
    data, ticks = pattern(0, size), 0
    view = memoryview(data)
    end = time.monotonic() + PATIENCE
    while view:
        try:
            view = view[pair.server.send(view):]
        except BlockingIOError:
            ticks += 1
            if ticks == 3:
                full.open()
            assert time.monotonic() < end, "the client reads, and there is no room"
    assert ticks >= 3
    assert pair.client.result(PATIENCE) == data


@versions
def test_recv_ends_at_each_tick_and_goes_on(version: ssl.TLSVersion, in_thread: Callable[..., Pair]) -> None:
    ticked = Gate("recv has ended at a tick")

    def speak_late(tls: ssl.SSLSocket) -> bytes:
        ticked.pass_through()
        tls.sendall(b"late")
        return tls.recv(100)

    pair = in_thread(speak_late, client_context(version))
    patiently(pair.server.handshake)
    for _ in range(2):
        with pytest.raises(BlockingIOError):
            pair.server.recv(100)
    ticked.open()
    assert patiently(pair.server.recv, 100) == b"late"
    assert pair.server.send(b"answer") == 6
    assert pair.client.result(PATIENCE) == b"answer"


def test_an_empty_send_and_an_empty_recv_are_nothing() -> None:
    with Client() as client:
        server = client.handshake().server
        assert server.send(b"") == 0
        assert client.take() == b""
        assert server.recv(0) == b""
        client.write(b"data")
        client.deliver()
        assert server.recv(100) == b"data"


# What can be read without the raw socket.


def test_pending_knows_of_records_that_have_been_read_and_not_decrypted() -> None:
    """To a connection that waits for input, the raw socket would say that there is none."""
    with Client() as client:
        server = client.handshake().server
        assert server.pending() == 0
        client.write(b"first")
        client.write(b"second")
        client.deliver()
        assert server.pending() == 0, "they are in the raw socket"
        assert server.recv(2) == b"fi"
        assert server.pending() == 3
        assert server.recv(100) == b"rst"
        assert server.pending() == 6
        assert (server.recv(2), server.pending(), server.recv(100), server.pending()) == (b"se", 4, b"cond", 0)
        with pytest.raises(BlockingIOError):
            server.recv(100)


def test_pending_knows_of_half_a_record() -> None:
    with Client() as client:
        server = client.handshake().server
        client.write(b"first")
        client.write(b"second")
        client.deliver(len(client.sending) - 1)
        assert server.recv(100) == b"first"
        assert server.pending() == 0
        client.deliver()
        assert server.recv(100) == b"second"


def test_pending_knows_of_an_end_and_of_an_error() -> None:
    for damaged in (False, True):
        with Client() as client:
            server = client.handshake().server
            client.write(b"last")
            client.deliver()
            if damaged:
                client.socket.send(b"\x17\x03\x03\x00\x20" + bytes(32))
            else:
                with pytest.raises(ssl.SSLWantReadError):
                    client.tls.unwrap()
                client.sending += client.outgoing.read()
                client.deliver()
            assert server.recv(100) == b"last"
            assert [server.pending(), server.pending()] == [1, 1]
            for _ in range(2):
                if damaged:
                    with pytest.raises(ssl.SSLError, match=r"BAD_RECORD_MAC|RECORD_LAYER_FAILURE"):
                        server.recv(100)
                else:
                    assert server.recv(100) == b""
                    assert not server.truncated


# Ends.


@versions
def test_a_client_sees_our_close_notify_and_can_go_on(version: ssl.TLSVersion) -> None:
    with Client(client_context(version)) as client:
        server = client.handshake().server
        server.sendall(b"last words")
        server.shutdown(socket.SHUT_WR)
        client.take()
        assert client.tls.read(100) == b"last words"
        assert client.tls.read(100) == b"", "close_notify; anything else would be SSLWantReadError or SSLEOFError"
        assert client.take() == b"", "the raw socket's end"
        client.write(b"one more thing")
        client.deliver()
        assert server.recv(100) == b"one more thing"
        client.tls.unwrap()
        client.sending += client.outgoing.read()
        client.deliver()
        assert server.recv(100) == b""
        assert not server.truncated


@versions
def test_close_notify_does_not_trip_over_what_has_not_been_read(version: ssl.TLSVersion) -> None:
    with Client(client_context(version)) as client:
        server = client.handshake().server
        client.write(b"first")
        client.write(b"second")
        client.write(b"third")
        client.deliver(len(client.sending) - 1)
        assert server.recv(2) == b"fi"
        server.shutdown(socket.SHUT_WR)
        client.take()
        assert client.tls.read(100) == b""
        client.deliver()
        received = b""
        while len(received) < 14:
            received += server.recv(100)
        assert received == b"rstsecondthird"


def test_close_notify_waits_for_room_as_data_does() -> None:
    with Client(buffer=1) as client:
        server = client.handshake().server
        due = pattern(0, 60_000)
        with pytest.raises(BlockingIOError):
            server.send(due)
        taken = b""
        done = 0
        while not done:
            client.take(500)
            taken += client.read()
            try:
                done = server.send(due)
            except BlockingIOError:
                pass
        assert done == len(due)
        ticks = 0
        while True:
            try:
                server.shutdown(socket.SHUT_WR)
                break
            except BlockingIOError:
                ticks += 1
                client.take(500)
                taken += client.read()
        assert ticks, "there was room: this test shows nothing"
        while client.take():
            taken += client.read()
        assert taken + client.read() == due
        assert client.tls.read(100) == b"", "close_notify, once"


def test_ends_of_the_raw_socket_are_ends_that_are_called_truncated() -> None:
    with Client() as client:
        server = client.handshake().server
        client.write(b"all there is")
        client.write(b"cut")
        client.deliver(len(client.sending) - 2)
        client.socket.shutdown(socket.SHUT_WR)
        assert server.recv(100) == b"all there is"
        assert not server.truncated
        assert [server.recv(100), server.recv(100)] == [b"", b""]
        assert server.truncated
        assert server.send(b"answer") == 6


def test_a_reset_is_an_error(in_thread: Callable[..., Pair]) -> None:
    begun = Gate("the handshake is done")

    def reset(tls: ssl.SSLSocket) -> None:
        begun.pass_through()
        tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    pair = in_thread(reset)
    patiently(pair.server.handshake)
    begun.open()
    pair.client.result(PATIENCE)
    with pytest.raises(ConnectionResetError):
        patiently(pair.server.recv, 100)
    with pytest.raises(BrokenPipeError):
        pair.server.sendall(bytes(100))
    with pytest.raises(OSError) as caught:  # noqa: PT011
        pair.server.shutdown(socket.SHUT_WR)
    assert caught.value.errno == errno.ENOTCONN, "what the raw socket's shutdown says"


@pytest.mark.parametrize("doing", ["recv", "send"])
def test_another_thread_can_abort_it(doing: str, in_thread: Callable[..., Pair]) -> None:
    aborted = Gate("the server has been aborted")
    pair = in_thread(lambda tls: aborted.pass_through())
    server = pair.server
    patiently(server.handshake)
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        server.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", 0, 0))  # only the abort can end a wait

    def recv() -> bytes:
        return server.recv(100)

    def send() -> bytes:
        while True:
            server.send(bytes(64 * 1024))

    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(recv if doing == "recv" else send)
        while doing == "send" and unsent(server.raw) < 64 * 1024:  # until the buffers fill
            assert not waiting.done()
        server.shutdown(socket.SHUT_RDWR)
        if doing == "recv":
            assert waiting.result(PATIENCE) == b""
            assert server.truncated
        else:
            with pytest.raises(BrokenPipeError):
                waiting.result(PATIENCE)
    aborted.open()
    pair.client.result(PATIENCE)


def unsent(sock: socket.socket) -> int:
    """Bytes that are in the send buffer: SIOCOUTQ, tcp(7)."""
    (count,) = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))
    return int(count)


def test_a_hang_up_ends_the_input_and_an_answer_can_still_be_sent() -> None:
    with Client() as client:
        server = client.handshake().server
        client.write(b"question")
        client.deliver()
        assert server.recv(4) == b"ques"
        server.shutdown(socket.SHUT_RD)
        assert [server.recv(100), server.recv(100)] == [b"tion", b""]
        server.sendall(b"answer")
        client.take()
        assert client.read() == b"answer"


def test_close_says_no_goodbye() -> None:
    """A response that failed halfway must not look whole."""
    with Client() as client:
        client.handshake().server.close()
        assert client.take() == b""


# Detached.


def test_a_detached_socket_has_the_timeouts_of_a_socket() -> None:
    with Client() as client:
        server = client.handshake().server
        assert server.fileno() == server.raw.fileno()
        server.setblocking(True)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 10_000)
        assert server.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 20_000
        server.settimeout(0.01)
        with pytest.raises(TimeoutError):
            server.recv(100)
        with pytest.raises(TimeoutError):
            server.sendall(bytes(1_000_000))
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.sendall(bytes(1_000_000))


def test_sendall_goes_on_at_ticks(in_thread: Callable[..., Pair]) -> None:
    data = memoryview(pattern(0, 8_000_000)).cast("I")
    filled = Gate("the buffers are full")

    def read_late(tls: ssl.SSLSocket) -> bytes:
        filled.pass_through()
        received = bytearray()
        while len(received) < data.nbytes:
            received += tls.recv(1 << 20)
        return bytes(received)

    pair = in_thread(read_late)
    patiently(pair.server.handshake)
    ticks = 0

    class Counting:
        """The raw socket; it says when its sends have ended at ticks."""

        def send(self, data: bytes, flags: int = 0) -> int:
            nonlocal ticks
            try:
                return raw.send(data, flags)
            except BlockingIOError:
                ticks += 1
                if ticks == 2:
                    filled.open()
                raise

        def gettimeout(self) -> float | None:
            return raw.gettimeout()

    raw = pair.server.raw
    pair.server.raw = Counting()  # type: ignore[assignment]
    pair.server.sendall(data)
    pair.server.raw = raw
    assert ticks >= 2
    assert pair.client.result(PATIENCE) == data.tobytes()


# Key updates: RFC 8446 section 4.6.3. Python cannot ask for one, so they are made here, out of the client's secret.


class UpdatingClient(Client):
    """A client whose records are encrypted here, after the handshake, with what it has logged of its keys."""

    def __init__(self, keylog: Path) -> None:
        context = client_context()
        context.keylog_filename = str(keylog)
        super().__init__(context)
        self.handshake()
        assert self.server.info.cipher == "TLS_AES_256_GCM_SHA384"
        (secret,) = [line.split()[2] for line in keylog.read_text().splitlines()
                     if line.startswith("CLIENT_TRAFFIC_SECRET_0 ")]
        self.secret = bytes.fromhex(secret)
        self.number = 0

    def expand(self, label: str, length: int) -> bytes:
        """HKDF-Expand-Label, RFC 8446 section 7.1."""
        full = b"tls13 " + label.encode()
        info = struct.pack("!HB", length, len(full)) + full + b"\x00"
        return HKDFExpand(hashes.SHA384(), length, info).derive(self.secret)

    def record(self, kind: int, content: bytes) -> None:
        """Encrypt and deliver one record; section 5.2 and 5.3."""
        header = struct.pack("!BHH", 23, 0x0303, len(content) + 1 + 16)
        nonce = (int.from_bytes(self.expand("iv", 12), "big") ^ self.number).to_bytes(12, "big")
        self.socket.send(header + AESGCM(self.expand("key", 32)).encrypt(nonce, content + bytes([kind]), header))
        self.number += 1

    def use_new_key(self) -> None:
        self.secret, self.number = self.expand("traffic upd", 48), 0


HANDSHAKE, DATA = 22, 23
UPDATE_REQUESTED = b"\x18\x00\x00\x01\x01"


def test_key_updates_are_answered(tmp_path: Path) -> None:
    with UpdatingClient(tmp_path / "keys") as client:
        for turn in range(3):
            client.record(DATA, b"question %d" % turn)
            client.record(HANDSHAKE, UPDATE_REQUESTED)
            client.use_new_key()
            assert client.server.recv(100) == b"question %d" % turn
            with pytest.raises(BlockingIOError):
                client.server.recv(100)
            assert client.server.send(b"answer %d" % turn) == 8
            update = 5 + 5 + 1 + 16
            assert client.take()[update:update + 3] == b"\x17\x03\x03", "the server's key update, then data"
            assert client.read() == b"answer %d" % turn, "under the server's new key"
            client.record(DATA, b"thanks")
            assert client.server.recv(100) == b"thanks"


def test_a_send_in_the_middle_of_a_key_update_waits_for_its_rest(tmp_path: Path) -> None:
    with UpdatingClient(tmp_path / "keys") as client:
        client.record(HANDSHAKE, UPDATE_REQUESTED[:4])
        with pytest.raises(BlockingIOError):
            client.server.recv(100)
        for _ in range(2):
            with pytest.raises(BlockingIOError):
                client.server.send(b"answer")
        client.record(HANDSHAKE, UPDATE_REQUESTED[4:])
        client.use_new_key()
        assert client.server.send(b"answer") == 6
        client.take()
        assert client.read() == b"answer"
        client.record(DATA, b"thanks")
        assert client.server.recv(100) == b"thanks"


def test_a_client_that_leaves_in_the_middle_of_a_key_update_is_gone(tmp_path: Path) -> None:
    with UpdatingClient(tmp_path / "keys") as client:
        client.record(HANDSHAKE, UPDATE_REQUESTED[:4])
        with pytest.raises(BlockingIOError):
            client.server.recv(100)
        client.socket.shutdown(socket.SHUT_WR)
        with pytest.raises(ConnectionError):
            client.server.send(b"answer")
