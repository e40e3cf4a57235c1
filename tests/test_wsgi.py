"""WSGI: what PEP 3333 promises an application, what it promises the client, and what this server adds to that."""

from __future__ import annotations

import functools
import gc
import io
import itertools
import os
import re
import socket
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote_from_bytes, unquote_to_bytes
from wsgiref.util import request_uri
from wsgiref.validate import check_environ, validator  # type: ignore[attr-defined]

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from acceptor import Limits, Timeouts, Violation, wsgi
from acceptor.forwarded import ForwardedHeaders
from acceptor.grammar import TCHAR
from acceptor.messages import Headers, Request, Response
from acceptor.networks import Networks
from acceptor.phases import Phase
from acceptor.violations import Compliance, ProtocolError
from acceptor.wire import H11Wire
from acceptor.wsgi import WSGI, FileWrapper, is_wsgi
from handlers import Dispatcher, hello
from handlers.wsgi import WSGI as WSGI_BY_ITS_OTHER_NAME
from tests.clients import PATIENCE, Gate, RawClient, Received, Truncated, request
from tests.conftest import Model
from tests.conftest import Serve as ServeWithModel
from tests.sessions import ADDRESS, SMALL, Body, CountedFile, Serve, Session, endless, failures, sessions, transports

TEXT = [("Content-Type", "text/plain")]


def without_address(value: object) -> str:
    """As a test's name, which is to be the same in every process: pytest-xdist compares them."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


@pytest.fixture
def start(caplog: pytest.LogCaptureFixture) -> Iterator[Serve]:
    yield from sessions(caplog)


@contextmanager
def session_of(app: Any, **options: Any) -> Iterator[Session]:
    """A session for one example of Hypothesis; it is over at the end."""
    session = Session(WSGI(app), **options)
    try:
        yield session
    finally:
        session.leave()
        session.join()


def answer(body: Iterable[bytes], status: str = "200 OK", headers: Iterable[tuple[str, str]] = TEXT) -> Any:
    """An application that always answers that."""
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response(status, list(headers))
        return body
    return app


def test_it_can_be_had_from_the_handlers_too() -> None:
    assert WSGI_BY_ITS_OTHER_NAME is WSGI


# The standard library's judge, under every model.

def kinds(environ: Any, start_response: Any) -> Iterable[bytes]:
    """Applications of every kind, by path. Each answers b"one two" but for those that have no body."""
    kind = environ["PATH_INFO"].removeprefix("/")
    if kind in KINDS:
        result: Iterable[bytes] = KINDS[kind](environ, start_response)
        return result
    if kind in ("204", "304"):
        start_response(f"{kind} Nothing", [])
        return []
    if kind == "replaced":
        start_response("200 OK", [*TEXT, ("X-Old", "1")])
        try:
            raise ValueError
        except ValueError:
            start_response("500 So it is", TEXT, sys.exc_info())
        return [b"one two"]
    headers = [*TEXT, ("Content-Length", "7")] if kind == "length" else TEXT
    write = start_response("200 OK", headers)
    if kind == "write":
        write(b"one ")
        write(b"two")
        return []
    if kind == "write and return":
        write(b"one ")
        return [b"", b"two"]
    if kind == "file":
        return environ["wsgi.file_wrapper"](io.BytesIO(b"one two"), 4)  # type: ignore[no-any-return]
    if kind in READERS:
        pieces = READERS[kind](environ["wsgi.input"])
        assert b"".join(pieces) == environ["QUERY_STRING"].encode(), pieces
        return [b"one two"]
    return SIMPLE.get(kind, [b"one two"])


def generator(environ: Any, start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", TEXT)
    yield b""
    yield b"one "
    yield b"two"


class ClassApp:
    """An application that is a class, and whose response is an instance: PEP 3333, "The Application Side"."""

    def __init__(self, environ: Any, start_response: Any) -> None:
        self.start = start_response

    def __iter__(self) -> Iterator[bytes]:
        self.start("200 OK", TEXT)
        yield b"one two"


SIMPLE: dict[str, Iterable[bytes]] = {"tuple": (b"one two",), "several": [b"one ", b"", b"two"]}
KINDS: dict[str, Any] = {"generator": generator, "class": ClassApp}
READERS: dict[str, Callable[[Any], Iterable[bytes]]] = {
    "read": lambda body: iter(lambda: body.read(3), b""),
    "read at once": lambda body: [body.read(1000)],
    "readline": lambda body: iter(body.readline, b""),
    "readline of a size": lambda body: iter(lambda: body.readline(2), b""),
    "readlines": lambda body: body.readlines(),
    "readlines of a size": lambda body: iter(lambda: b"".join(body.readlines(2)), b""),
    "iteration": iter,
}
"""What PEP 3333 demands of wsgi.input; each gives the pieces of the whole."""


def test_the_standard_librarys_validator_has_nothing_to_say(
        serve: ServeWithModel, capsys: pytest.CaptureFixture[str]) -> None:
    """It also finds what is not closed, or closed twice, and says so on stderr."""
    server = serve(WSGI(validator(kinds)))
    client = server.connect()
    for kind in ("list", "tuple", "several", "length", "generator", "class", "replaced", "write", "write and return",
                 "file", "204", "304"):
        for method in ("GET", "HEAD"):
            client.send(request(f"/{kind.replace(' ', '%20')}", method=method))
            received = client.read_response(method)
            status = {"204": 204, "304": 304, "replaced": 500}.get(kind, 200)
            assert received.status == status, f"{kind}: {received}; {server.errors}"
            assert received.body == (b"" if method == "HEAD" or kind in ("204", "304") else b"one two"), kind
            assert received.keep_alive, kind
    for kind in READERS:
        bodies: list[dict[str, Any]] = [{"body": b"abcdefg"}, {"chunks": [b"ab", b"cdef", b"g"]}]
        for body in bodies:
            client.send(request(f"/{kind.replace(' ', '%20')}?abcdefg", method="POST", **body))
            assert client.read_response("POST").body == b"one two", f"{kind}: {server.errors}"
    assert server.errors == []
    gc.collect()
    assert capsys.readouterr().err == ""


def test_the_environ_tells_the_truth_about_threads_and_processes(serve: ServeWithModel, model: Model) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", TEXT)
        return [repr([environ[f"wsgi.{flag}"] for flag in ("multithread", "multiprocess", "run_once")]).encode()]

    client = serve(WSGI(app)).connect()
    client.send(request())
    assert client.read_response().body == repr([model.concurrent, False, False]).encode()
    client.close()
    client = serve(WSGI(app), reuse_port=True).connect()
    client.send(request())
    assert client.read_response().body == repr([model.concurrent, True, False]).encode()


def test_the_environ_tells_where_the_connection_is_from_and_where_it_ends(
        serve: ServeWithModel, tmp_path: Path) -> None:
    """Not where it listens: that may be a wildcard, and then no name for a server."""
    environs: list[Any] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        environs.append(environ)
        start_response("200 OK", TEXT)
        return []

    path = str(tmp_path / "socket")
    server = serve(WSGI(app), port=None, bind=["0.0.0.0:0", f"unix:{path}"])
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        client = RawClient(sock)
        client.send(request(headers=["Connection: close"]))
        client.read_response()
    client = server.connect()
    client.send(b"GET / HTTP/1.0\r\n\r\n")
    client.read_response()
    unix, tcp = environs
    assert (unix["SERVER_NAME"], unix["SERVER_PORT"], unix["REMOTE_ADDR"]) == ("test", "80", "")
    assert "REMOTE_PORT" not in unix
    assert (tcp["SERVER_NAME"], tcp["SERVER_PORT"]) == ("127.0.0.1", str(server.port))
    assert (tcp["REMOTE_ADDR"], tcp["REMOTE_PORT"]) == ("127.0.0.1", str(client.sock.getsockname()[1]))
    for environ in environs:
        check_environ(environ)


# The environ.

LOCAL = ("192.0.2.7", 8080)


class FakeRequest(Request):
    """One that knows where it has come in."""

    local = LOCAL
    multithread = True
    multiprocess = False


def make_request(raw: bytes, *, allow: Iterable[Violation] = (), local: tuple[str, int] = LOCAL,
                 peer: tuple[str, int] = ("203.0.113.7", 49152), forwarded: ForwardedHeaders | None = None,
                 scheme: str = "http") -> Request:
    """The request in `raw`, as the strict layer reads it."""
    wire = H11Wire(Limits(), Compliance(allow))
    wire.receive(raw)
    head = wire.next_head()
    assert head is not None, f"this is no whole head: {raw!r}"
    headers, client, host = head.headers, peer, head.host
    if forwarded is not None:
        seen = forwarded.resolve(peer, scheme, headers)
        client, scheme, headers, host = seen.client, seen.scheme, seen.headers, seen.host or host
    request = FakeRequest(head.method, head.target, head.version, Headers(headers), peer=peer, client=client,
                          scheme=scheme, host=host)
    request.local = local
    return request


class NotCalled(AssertionError):  # noqa: N818
    """The application has not been called: the response is of the server's own."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"the application has not been called: {response}")
        self.status = response.status


def environ_of(raw: bytes, script_name: str = "", **options: Any) -> dict[str, Any]:
    """The environ that an application sees of it. NotCalled if it sees none."""
    seen: list[dict[str, Any]] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        seen.append(environ)
        start_response("200 OK", [])
        return []

    response = WSGI(app, script_name=script_name)(make_request(raw, **options))
    if not seen:
        raise NotCalled(response)
    return seen[0]


TRUSTED = ForwardedHeaders(Networks(["203.0.113.7"]))
UNTRUSTED = ForwardedHeaders(Networks(["203.0.113.8"]))


def head(line: str, *headers: str) -> bytes:
    return "\r\n".join([line, *headers, "", ""]).encode("latin-1")


def get(target: str, *headers: str, method: str = "GET") -> bytes:
    return head(f"{method} {target} HTTP/1.1", "Host: example.com", *headers)


@pytest.mark.parametrize(("raw", "options", "expected"), [
    # The request line.
    (get("/a/b?c=d&e"), {}, {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/a/b", "QUERY_STRING": "c=d&e",
                             "REQUEST_URI": "/a/b?c=d&e", "RAW_URI": "/a/b?c=d&e", "SERVER_PROTOCOL": "HTTP/1.1"}),
    (get("/"), {}, {"PATH_INFO": "/", "QUERY_STRING": ""}),
    (get("/?"), {}, {"PATH_INFO": "/", "QUERY_STRING": "", "RAW_URI": "/?"}),
    (get("/a?b?c=http://d"), {}, {"PATH_INFO": "/a", "QUERY_STRING": "b?c=http://d"}),
    (get("/caf%C3%A9%2Fx%20y?q=%C3%A9"), {}, {"PATH_INFO": "/caf\xc3\xa9/x y", "QUERY_STRING": "q=%C3%A9"}),
    (get("/%00%ff%zz%"), {}, {"PATH_INFO": "/\x00\xff%zz%"}),
    (get("/a+b;c=d/../e//f"), {}, {"PATH_INFO": "/a+b;c=d/../e//f"}),
    (get("//evil.example/x"), {}, {"PATH_INFO": "//evil.example/x", "HTTP_HOST": "example.com"}),
    (get("/", method="BREW"), {}, {"REQUEST_METHOD": "BREW"}),
    (head("GET / HTTP/1.0"), {}, {"SERVER_PROTOCOL": "HTTP/1.0", "HTTP_HOST": None}),
    (head("GET / HTTP/1.7", "Host: a"), {}, {"SERVER_PROTOCOL": "HTTP/1.1"}),
    # RFC 9112 section 3.2.2: the absolute form, whose host is the one that counts.
    (get("http://example.com/a%20b?c"), {}, {"PATH_INFO": "/a b", "QUERY_STRING": "c", "HTTP_HOST": "example.com",
                                            "RAW_URI": "http://example.com/a%20b?c"}),
    (get("http://example.com"), {}, {"PATH_INFO": "/", "QUERY_STRING": ""}),
    (get("http://example.com?c"), {}, {"PATH_INFO": "/", "QUERY_STRING": "c"}),
    (get("HTTP://example.com/http://x"), {}, {"PATH_INFO": "/http://x"}),
    (get("http://other.example/"), {"allow": [Violation.MISMATCHED_HOST]}, {"HTTP_HOST": "other.example"}),
    (head("GET http://a.example/ HTTP/1.0"), {}, {"HTTP_HOST": "a.example"}),
    # Section 3.2.4: the server as a whole; PATH_INFO is empty, or begins with a slash (RFC 3875 section 4.1.5).
    (get("*", method="OPTIONS"), {}, {"PATH_INFO": "", "SCRIPT_NAME": "", "RAW_URI": "*"}),
    (get("*", method="OPTIONS"), {"script_name": "/shop"}, {"PATH_INFO": "", "SCRIPT_NAME": "/shop"}),
    # What is allowed although no target.
    (get("a/b"), {"allow": [Violation.INVALID_TARGET]}, {"PATH_INFO": "/a/b"}),
    (get("?a"), {"allow": [Violation.INVALID_TARGET]}, {"PATH_INFO": "/", "QUERY_STRING": "a"}),
    (get("ftp://x/y"), {"allow": [Violation.INVALID_TARGET]}, {"PATH_INFO": "/y"}),
    # Mounted below a path.
    (get("/shop/cart?x"), {"script_name": "/shop"}, {"SCRIPT_NAME": "/shop", "PATH_INFO": "/cart"}),
    (get("/shop"), {"script_name": "/shop"}, {"SCRIPT_NAME": "/shop", "PATH_INFO": ""}),
    (get("/shop/"), {"script_name": "/shop"}, {"SCRIPT_NAME": "/shop", "PATH_INFO": "/"}),
    (get("/sho%70/a"), {"script_name": "/shop"}, {"SCRIPT_NAME": "/shop", "PATH_INFO": "/a"}),
    (get("/a/b/c"), {"script_name": "/a/b"}, {"SCRIPT_NAME": "/a/b", "PATH_INFO": "/c"}),
    (get("/caf%C3%A9/a"), {"script_name": "/café"}, {"SCRIPT_NAME": "/caf\xc3\xa9", "PATH_INFO": "/a"}),
    (get("http://example.com/shop/a"), {"script_name": "/shop"}, {"SCRIPT_NAME": "/shop", "PATH_INFO": "/a"}),
    # Headers.
    (get("/", "X-Some-Thing: 1"), {}, {"HTTP_X_SOME_THING": "1", "HTTP_HOST": "example.com"}),
    (get("/", "Content-Type: text/plain; charset=x", "Content-Length: 5", method="POST"), {},
     {"CONTENT_TYPE": "text/plain; charset=x", "CONTENT_LENGTH": "5", "HTTP_CONTENT_TYPE": None,
      "HTTP_CONTENT_LENGTH": None}),
    (get("/"), {}, {"CONTENT_TYPE": None, "CONTENT_LENGTH": None}),
    (get("/", "Transfer-Encoding: chunked", method="POST"), {},
     {"CONTENT_LENGTH": None, "HTTP_TRANSFER_ENCODING": "chunked"}),
    (get("/", "Transfer-Encoding: chunked", "Content-Length: 5", method="POST"),
     {"allow": [Violation.LENGTH_AND_CHUNKED]}, {"CONTENT_LENGTH": None}),
    (get("/", "Accept: a", "X: b", "ACCEPT: c"), {}, {"HTTP_ACCEPT": "a, c"}),
    (get("/", "Cookie: a=1", "Cookie: b=2; c=3"), {}, {"HTTP_COOKIE": "a=1; b=2; c=3"}),
    (get("/", "X-Name: \t caf\xe9\t"), {}, {"HTTP_X_NAME": "caf\xe9"}),
    (get("/", "X-Empty:"), {}, {"HTTP_X_EMPTY": ""}),
    (get("/", "X-User: me", "X_User: root"), {}, {"HTTP_X_USER": "me"}),
    (get("/", "X_User: root", "X-User: me"), {}, {"HTTP_X_USER": "me"}),
    (get("/", "X_User: root", "Content_Length: 5", "Content_Type: x"), {},
     {"HTTP_X_USER": None, "CONTENT_LENGTH": None, "CONTENT_TYPE": None, "HTTP_CONTENT_LENGTH": None}),
    (get("/", "Odd!#$%&'*+.^`|~: 1"), {}, {"HTTP_ODD!#$%&'*+.^`|~": "1"}),
    (get("/", "Authorization: Basic x"), {}, {"HTTP_AUTHORIZATION": "Basic x"}),
    # Who, and whom.
    (get("/"), {}, {"REMOTE_ADDR": "203.0.113.7", "REMOTE_PORT": "49152", "SERVER_NAME": "192.0.2.7",
                    "SERVER_PORT": "8080", "wsgi.url_scheme": "http", "HTTPS": None}),
    (get("/"), {"scheme": "https"}, {"wsgi.url_scheme": "https", "HTTPS": "on"}),
    (get("/"), {"peer": ("unix", 0)}, {"REMOTE_ADDR": "", "REMOTE_PORT": None}),
    (get("/"), {"peer": ("2001:db8::1", 9)}, {"REMOTE_ADDR": "2001:db8::1", "REMOTE_PORT": "9"}),
    (get("/"), {"local": ("2001:db8::7", 80)}, {"SERVER_NAME": "[2001:db8::7]", "SERVER_PORT": "80"}),
    (get("/"), {"local": ("fe80::1%eth0", 80)}, {"SERVER_NAME": "[fe80::1]"}),
    (get("/"), {"local": ("unix", 0)}, {"SERVER_NAME": "example.com", "SERVER_PORT": "80"}),
    (get("/"), {"local": ("unix", 0), "scheme": "https"}, {"SERVER_NAME": "example.com", "SERVER_PORT": "443"}),
    (head("GET / HTTP/1.1", "Host: a:8443"), {"local": ("unix", 0)}, {"SERVER_NAME": "a", "SERVER_PORT": "8443"}),
    (head("GET / HTTP/1.1", "Host: a:"), {"local": ("unix", 0)}, {"SERVER_NAME": "a", "SERVER_PORT": "80"}),
    (head("GET / HTTP/1.1", "Host: [::1]:81"), {"local": ("unix", 0)}, {"SERVER_NAME": "[::1]", "SERVER_PORT": "81"}),
    (head("GET / HTTP/1.1", "Host: [::1]"), {"local": ("unix", 0)}, {"SERVER_NAME": "[::1]", "SERVER_PORT": "80"}),
    (head("GET / HTTP/1.1", "Host:"), {"local": ("unix", 0)}, {"SERVER_NAME": "localhost", "SERVER_PORT": "80"}),
    (head("GET / HTTP/1.0"), {"local": ("unix", 0)}, {"SERVER_NAME": "localhost", "SERVER_PORT": "80"}),
    # Proxies.
    (get("/", "X-Forwarded-For: 198.51.100.9", "X-Forwarded-Proto: https", "X-Forwarded-Host: shop.example:444"),
     {"forwarded": TRUSTED},
     {"REMOTE_ADDR": "198.51.100.9", "REMOTE_PORT": None, "wsgi.url_scheme": "https", "HTTPS": "on",
      "HTTP_HOST": "shop.example:444", "HTTP_X_FORWARDED_FOR": "198.51.100.9"}),
    (get("/", "X-Forwarded-For: 198.51.100.9", "X-Forwarded-Proto: https", "X-Forwarded-Host: shop.example"),
     {"forwarded": UNTRUSTED},
     {"REMOTE_ADDR": "203.0.113.7", "REMOTE_PORT": "49152", "wsgi.url_scheme": "http", "HTTPS": None,
      "HTTP_HOST": "example.com", "HTTP_X_FORWARDED_FOR": None}),
    (get("/", "X_Forwarded_For: 198.51.100.9", "X_Forwarded-For: 198.51.100.9"), {"forwarded": TRUSTED},
     {"REMOTE_ADDR": "203.0.113.7", "HTTP_X_FORWARDED_FOR": None}),
    (get("/", "X-Forwarded-For: 198.51.100.9"), {}, {"REMOTE_ADDR": "203.0.113.7"}),
])
def test_a_request_becomes_an_environ(raw: bytes, options: dict[str, Any], expected: dict[str, str | None]) -> None:
    environ = environ_of(raw, **options)
    assert {key: environ.get(key) for key in expected} == expected
    if environ["REQUEST_METHOD"] != "BREW":  # of which the validator warns
        check_environ(environ)


def test_the_environ_has_what_the_pep_asks_for_and_what_the_docstring_adds() -> None:
    made = make_request(get("/"))
    seen: list[Any] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        seen.append(environ)
        start_response("200 OK", [])
        return []

    WSGI(app)(made)
    environ = seen[0]
    assert type(environ) is dict
    assert environ["acceptor.request"] is made
    assert environ["wsgi.input"] is made.body
    assert environ["wsgi.errors"] is sys.stderr
    assert environ["wsgi.version"] == (1, 0)
    assert environ["wsgi.input_terminated"] is True
    assert environ["wsgi.file_wrapper"] is FileWrapper
    assert callable(environ["wsgi.early_hints"])
    assert environ["SERVER_SOFTWARE"].startswith("Taskmasters")
    assert not environ["wsgi.multiprocess"]


@pytest.mark.parametrize("target", ["/", "/shopping", "/sho", "/Shop", "/a/shop", "//shop", "http://example.com/x"])
def test_what_is_not_below_the_mount_is_not_found_and_the_application_not_called(target: str) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        raise AssertionError("called")

    assert WSGI(app, script_name="/shop")(make_request(get(target))).status == 404


@pytest.mark.parametrize(("raw", "options", "url"), [
    (get("/a/b%20c?d=e"), {}, "http://example.com/a/b%20c?d=e"),
    (get("/shop/a?d"), {"script_name": "/shop"}, "http://example.com/shop/a?d"),
    (head("GET /a HTTP/1.0"), {}, "http://192.0.2.7:8080/a"),
    (head("GET /a HTTP/1.0"), {"local": ("2001:db8::7", 80)}, "http://[2001:db8::7]/a"),
    (head("GET /a HTTP/1.0"), {"local": ("unix", 0), "scheme": "https"}, "https://localhost/a"),
    (get("http://example.com:81/a"), {"allow": [Violation.MISMATCHED_HOST]}, "http://example.com:81/a"),
])
def test_the_url_can_be_put_together_again_as_the_pep_says(raw: bytes, options: dict[str, Any], url: str) -> None:
    assert request_uri(environ_of(raw, **options)) == url


NAMES = st.text([chr(byte) for byte in range(256) if re.fullmatch(TCHAR, bytes([byte]))], min_size=1, max_size=60)
VALUES = st.text([chr(byte) for byte in [9, *range(0x20, 0x7f), *range(0x80, 0x100)]], max_size=20)
VISIBLE = st.text([chr(byte) for byte in range(0x21, 0x7f)], max_size=30)
METHODS = st.sampled_from(["GET", "HEAD", "POST", "OPTIONS", "PATCH", "PUT", "DELETE", "TRACE"])
"""Those of which the validator does not warn."""
EVERYTHING = list(Violation)


@given(method=METHODS, target=VISIBLE, headers=st.lists(st.tuples(NAMES, VALUES), max_size=5),
       script_name=st.sampled_from(["", "/a", "/%"]), everything=st.booleans(), has_port=st.booleans())
@example(method="OPTIONS", target="*", headers=[], script_name="", everything=False, has_port=True)
@example(method="GET", target="/a", headers=[("proxy", "evil"), ("x_a", "1"), ("x-a", "2"), ("x.a", "3")],
         script_name="/a", everything=False, has_port=True)
@example(method="GET", target="/", headers=[("host", "a"), ("content-type", "b"), ("content-type", "c")],
         script_name="", everything=True, has_port=False)
def test_whatever_the_strict_layer_lets_through_is_an_environ_as_the_pep_wants_it(
        method: str, target: str, headers: list[tuple[str, str]], script_name: str, everything: bool,
        has_port: bool) -> None:
    raw = head(f"{method} {target} HTTP/1.1", "Host: example.com", *(f"{name}:{value}" for name, value in headers))
    try:
        environ = environ_of(raw, script_name, allow=EVERYTHING if everything else [],
                             local=LOCAL if has_port else ("unix", 0))
    except ProtocolError:
        assume(False)
    except NotCalled as error:
        status = error.status
    else:
        status = 200
    if status == 404:
        assert script_name
        return
    check_environ(environ)
    for key, value in environ.items():
        assert type(key) is str
        if not key.startswith(("wsgi.", "acceptor.")):
            assert type(value) is str, f"{key}: {value!r}"
            value.encode("latin-1")
    assert environ["SERVER_NAME"]
    assert environ["SERVER_PORT"].isdigit()
    path, _, query = target.partition("?")
    assert environ["QUERY_STRING"] == query
    if path.startswith("/"):
        assert (environ["SCRIPT_NAME"] + environ["PATH_INFO"]).encode("latin-1") == unquote_to_bytes(path)
    for name, _ in headers:
        key = name.upper().replace("-", "_")
        if key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            continue
        sent = [value.strip(" \t") for other, value in headers
                if "_" not in other and other.upper().replace("-", "_") == key]
        if key != "HOST":
            assert environ.get(f"HTTP_{key}") == (("; " if key == "COOKIE" else ", ").join(sent) if sent else None)


@given(st.binary(max_size=40))
def test_any_bytes_of_a_path_arrive_as_they_were_meant(path: bytes) -> None:
    environ = environ_of(get("/" + quote_from_bytes(path)))
    assert environ["PATH_INFO"].encode("latin-1") == b"/" + path


def test_no_flood_of_odd_names_makes_an_environ_wrong() -> None:
    """Keys are remembered, up to a number."""
    for n in range(1000):
        name = f"X-Flood-{n}" if n % 2 else "X-" + "long-" * 20 + str(n)
        assert environ_of(get("/", f"{name}: {n}"))[f"HTTP_{name.upper().replace('-', '_')}"] == str(n)


# Templates: what is alike in all environs is made once.

OF_ITS_REQUEST = ("wsgi.input", "wsgi.early_hints", "acceptor.request")
LOCALS: list[tuple[str, int]] = [LOCAL, ("192.0.2.7", 80), ("2001:db8::7", 8080), ("fe80::1%eth0", 8080), ("unix", 0)]
PEERS: list[tuple[str, int]] = [("203.0.113.7", 49152), ("203.0.113.7", 0), ("2001:db8::1", 9), ("unix", 0)]


@dataclass
class Arrival:
    """A request, and where it has come in."""

    raw: bytes
    local: tuple[str, int]
    peer: tuple[str, int]
    scheme: str
    multithread: bool
    multiprocess: bool

    def request(self) -> Request:
        wire = H11Wire(Limits(), Compliance())
        wire.receive(self.raw)
        head = wire.next_head()
        assert head is not None
        request = FakeRequest(head.method, head.target, head.version, Headers(head.headers), peer=self.peer,
                              scheme=self.scheme, host=head.host)
        request.local, request.multithread, request.multiprocess = self.local, self.multithread, self.multiprocess
        return request


ARRIVALS = st.builds(
    Arrival, st.sampled_from([
        get("/"), get("/a/b?c"), get("/shop/x%20y"), get("/shop"), get("*", method="OPTIONS"), get("http://example.com/"),
        head("GET / HTTP/1.0"), head("GET / HTTP/1.1", "Host: other.example:81"), get("/", "Cookie: a", "Cookie: b"),
        get("/", "X-One: 1", "X_One: 2", "Accept: a", "Accept: b"), get("/", "Content-Length: 3", "Content-Type: c/d"),
    ]), st.sampled_from(LOCALS), st.sampled_from(PEERS), st.sampled_from(["http", "https"]), st.booleans(),
    st.booleans())


def spoiling(seen: list[dict[str, Any]]) -> Any:
    """An application that changes all of its environ, as it may."""
    def app(environ: Any, start_response: Any) -> list[bytes]:
        seen.append(environ.copy())
        environ["wsgi.input"].close()
        for key in environ:
            environ[key] = "spoiled"
        environ["HTTP_NEW"] = "new"
        start_response("200 OK", [])
        return []
    return app


@given(arrivals=st.lists(ARRIVALS, min_size=1, max_size=12), script_name=st.sampled_from(["", "/shop"]))
def test_an_environ_from_a_template_is_the_one_that_would_have_been_made_without(
        arrivals: list[Arrival], script_name: str) -> None:
    """Of one application at many addresses, and whatever it does to the environs before."""
    seen: list[dict[str, Any]] = []
    application = WSGI(spoiling(seen), script_name=script_name)
    for arrival in arrivals:
        alone: list[dict[str, Any]] = []
        first, second = arrival.request(), arrival.request()
        status = application(first).status
        assert WSGI(spoiling(alone), script_name=script_name)(second).status == status
        if status == 404:
            continue
        environ, = alone
        assert environ["acceptor.request"] is second
        assert seen[-1]["acceptor.request"] is first
        for key in OF_ITS_REQUEST:
            del environ[key], seen[-1][key]
        assert seen[-1] == environ
        assert environ["wsgi.multithread"] is arrival.multithread
        assert environ["wsgi.multiprocess"] is arrival.multiprocess
        assert environ["wsgi.url_scheme"] == arrival.scheme
        if arrival.local[1]:
            assert environ["SERVER_PORT"] == str(arrival.local[1])


def test_no_number_of_addresses_fills_the_memory() -> None:
    seen: list[dict[str, Any]] = []
    application = WSGI(spoiling(seen))
    for port in range(1, 301):
        application(make_request(get("/"), local=("192.0.2.7", port)))
        application(make_request(get("/"), local=("192.0.2.7", port)))
    assert [environ["SERVER_PORT"] for environ in seen] == [str(n // 2) for n in range(2, 602)]
    assert len(application._environs._templates) == 100


def test_early_hints_are_sent_over_the_connection_of_their_request() -> None:
    sent: list[tuple[str, int, list[tuple[bytes, bytes]]]] = []

    class Hinting(FakeRequest):
        def _send_informational(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
            sent.append((self.local[0], status, headers))

    seen: list[dict[str, Any]] = []
    application = WSGI(spoiling(seen))
    for name in ("a", "b"):
        request = Hinting("GET", "/", "1.1", Headers([]))
        request.local = name, 1
        application(request)
    for environ in seen:
        environ["wsgi.early_hints"]([("Link", "</a.css>")])
    assert sent == [("a", 103, [(b"link", b"</a.css>")]), ("b", 103, [(b"link", b"</a.css>")])]


# wsgi.input.

@given(content=st.lists(st.sampled_from([b"a", b"b\n", b"\n", b"c" * 100, b"\r\n"]), max_size=20).map(b"".join),
       cuts=st.lists(st.integers(1, 200), max_size=4), kind=st.sampled_from(sorted(READERS)), chunked=st.booleans())
@example(content=b"", cuts=[], kind="readline", chunked=True)
def test_the_input_reads_like_a_file_of_the_body(content: bytes, cuts: list[int], kind: str, chunked: bool) -> None:
    pieces: list[bytes] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        pieces.extend(READERS[kind](environ["wsgi.input"]))
        start_response("200 OK", TEXT)
        return [environ["wsgi.input"].read()]

    edges = sorted({0, len(content), *(cut for cut in cuts if cut < len(content))})
    chunks = [content[a:b] for a, b in itertools.pairwise(edges)]
    with session_of(app) as session:
        session.client.send(request(method="POST", chunks=chunks) if chunked else request(method="POST", body=content))
        received = session.client.read_response("POST")
    assert received.status == 200
    assert received.body == b"", "there was more behind the end"
    assert received.keep_alive
    assert pieces == list(READERS[kind](io.BufferedReader(io.BytesIO(content))))


def test_100_continue_is_sent_when_the_input_is_first_read(start: Serve) -> None:
    called, read = Gate("the application is called"), Gate("it may read")

    def app(environ: Any, start_response: Any) -> list[bytes]:
        called.open()
        read.pass_through()
        body = environ["wsgi.input"].read()
        start_response("200 OK", TEXT)
        return [body]

    session = start(WSGI(app))
    session.client.send(request(method="POST", headers=["Expect: 100-continue", "Content-Length: 5"]))
    called.pass_through()
    assert session.client.has_received() == b""
    read.open()
    assert session.client.read_interim() == 100
    session.client.send(b"hello")
    assert session.client.read_response("POST").body == b"hello"


def test_a_body_that_is_not_read_needs_no_100_continue(start: Serve) -> None:
    session = start(WSGI(answer([b"no"], "403 Forbidden")))
    session.client.send(request(method="POST", headers=["Expect: 100-continue", "Content-Length: 5"]))
    received = session.client.read_response("POST")
    assert (received.interim, received.status, received.keep_alive) == ([], 403, False)


def test_the_input_can_be_read_while_the_response_is_sent_and_not_after_it(start: Serve) -> None:
    inputs = []

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        inputs.append(environ["wsgi.input"])
        start_response("200 OK", TEXT)
        yield b"> "
        yield from iter(environ["wsgi.input"].readline, b"")

    session = start(WSGI(app))
    session.client.send(request(method="POST", headers=["Transfer-Encoding: chunked"]))
    session.client.read_head()
    assert session.client.read_body(2) == b"> "
    session.client.send(b"2\r\na\n\r\n")
    assert session.client.read_body(2) == b"a\n"
    session.client.send(b"2\r\nb\n\r\n0\r\n\r\n" + request())
    assert session.client.read_response("POST").body == b"b\n"
    assert session.client.read_response().body == b"> "
    for read in (inputs[0].read, inputs[0].readline, inputs[0].readlines):
        with pytest.raises(ValueError, match="the request is over"):
            read()


def test_an_application_that_leaves_the_input_unread_loses_nothing(start: Serve) -> None:
    session = start(WSGI(answer([b"ok"])))
    session.client.send(request(method="POST", chunks=[b"unread"]) + request())
    assert session.client.read_response("POST").body == b"ok"
    assert session.client.read_response().body == b"ok"


# A body that cannot be read.

BAD_BODIES: dict[str, tuple[bytes, dict[str, Any], int]] = {
    "malformed": (request(method="POST", headers=["Transfer-Encoding: chunked"]) + b"3\r\nabc\r\nnonsense\r\n", {},
                  400),
    "too large": (request(method="POST", chunks=[b"abc", b"x" * 100]), {"limits": Limits(body=50)}, 413),
    "trailers": (request(method="POST", headers=["Transfer-Encoding: chunked"])
                 + b"3\r\nabc\r\n0\r\nX: " + b"x" * 100 + b"\r\n\r\n", {"limits": Limits(trailers=50)}, 431),
    "too slow": (request(method="POST", headers=["Content-Length: 5"]) + b"abc", {"timeouts": Timeouts(body=0.05)},
                 408),
}


def lets_it_through(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", TEXT)
    return [environ["wsgi.input"].read()]


def catches(status: str) -> Any:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        try:
            environ["wsgi.input"].read()
        except OSError:
            start_response(status, TEXT)
            return [b"of the application"]
        raise AssertionError("it could be read")
    return app


def translates(environ: Any, start_response: Any) -> list[bytes]:
    try:
        environ["wsgi.input"].read()
    except OSError:
        raise KeyError("no such field in the form") from None
    raise AssertionError("it could be read")


def reads_in_its_first_piece(environ: Any, start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", TEXT)
    yield environ["wsgi.input"].read()


def catches_in_its_first_piece(environ: Any, start_response: Any) -> Iterator[bytes]:
    try:
        environ["wsgi.input"].read()
    except OSError:
        start_response("500 What Was That", TEXT)
        yield b"of the application"


def replaces_its_answer(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", TEXT)
    try:
        environ["wsgi.input"].read()
    except OSError:
        start_response("500 Oops", TEXT, sys.exc_info())
    return [b"of the application"]


@pytest.mark.parametrize("app", [lets_it_through, catches("400 Bad Request"), catches("500 Oops"), translates,
                                 reads_in_its_first_piece, catches_in_its_first_piece, replaces_its_answer],
                         ids=["lets it through", "400", "500", "translates", "first piece", "500 in its first piece",
                              "replaces its answer"])
@pytest.mark.parametrize("kind", BAD_BODIES)
def test_a_body_that_cannot_be_read_is_answered_as_what_it_is_and_is_nobodys_failure(
        start: Serve, kind: str, app: Any) -> None:
    """Whatever the application makes of it, as long as it is no success. No line in the log: `start` checks that."""
    raw, options, status = BAD_BODIES[kind]
    session = start(WSGI(app), **options)
    session.client.send(raw)
    received = session.client.read_response("POST")
    assert received.status == status
    assert not received.keep_alive
    assert b"of the application" not in received.body
    session.client.half_close()
    session.client.expect_eof()


@pytest.mark.parametrize("kind", BAD_BODIES)
def test_an_application_that_knows_what_to_do_without_the_body_is_left_alone(start: Serve, kind: str) -> None:
    raw, options, _ = BAD_BODIES[kind]
    session = start(WSGI(catches("202 Accepted")), **options)
    session.client.send(raw)
    received = session.client.read_response("POST")
    assert (received.status, received.body) == (202, b"of the application")
    assert not received.keep_alive


def test_what_has_been_closed_although_the_answer_was_another_is_closed_once(start: Serve) -> None:
    body = Body([b"of the application"])

    def app(environ: Any, start_response: Any) -> Body:
        with pytest.raises(OSError, match="Bad Request"):
            environ["wsgi.input"].read()
        start_response("500 Oops", TEXT)
        return body

    session = start(WSGI(app))
    session.client.send(BAD_BODIES["malformed"][0])
    assert session.client.read_response("POST").status == 400
    session.leave()
    assert body.closings == 1


def test_a_client_that_leaves_its_body_unfinished_is_no_failure(start: Serve) -> None:
    session = start(WSGI(lets_it_through))
    session.client.send(request(method="POST", headers=["Content-Length: 5"]) + b"abc")
    session.await_recv(Phase.RECEIVING)
    session.client.close()
    session.await_end()


# start_response.

def exc_info() -> Any:
    try:
        raise ZeroDivisionError("of the application")
    except ZeroDivisionError:
        return sys.exc_info()


@pytest.mark.parametrize(("status", "line"), [
    ("200 OK", b"HTTP/1.1 200 OK\r\n"),
    ("200 Fine, thank you", b"HTTP/1.1 200 Fine, thank you\r\n"),
    ("404 Nicht gefunden: \xe4", b"HTTP/1.1 404 Nicht gefunden: \xe4\r\n"),
    ("599 ", b"HTTP/1.1 599 \r\n"),
    ("200 ", b"HTTP/1.1 200 \r\n"),
    ("200", b"HTTP/1.1 200 OK\r\n"),
    ("299", b"HTTP/1.1 299 \r\n"),
    ("999 \tx ", b"HTTP/1.1 999 \tx \r\n"),
])
def test_the_reason_is_the_applications(start: Serve, status: str, line: bytes) -> None:
    session = start(WSGI(answer([b"body"], status)))
    session.client.send(request(headers=["Connection: close"]))
    assert session.client.read_to_end().startswith(line)


@pytest.mark.parametrize(("status", "headers", "words"), [
    ("OK", [], 'the status is a str such as "200 OK"'),
    ("", [], 'the status is a str such as "200 OK"'),
    (200, [], 'the status is a str such as "200 OK"'),
    (b"200 OK", [], 'the status is a str such as "200 OK"'),
    ("2000 OK", [], 'the status is a str such as "200 OK"'),
    ("200OK", [], 'the status is a str such as "200 OK"'),
    ("٢٠٠ OK", [], 'the status is a str such as "200 OK"'),
    ("100 Continue", [], "from 200 to 999"),
    ("101 Switching Protocols", [], "from 200 to 999"),
    ("099 Nothing", [], "from 200 to 999"),
    ("200 OK\r\nX: y", [], "without control characters"),
    ("200 OK\n", [], "without control characters"),
    ("200 \u20ac", [], "within latin-1"),
    ("200 OK", [("X", "a\r\nY: b")], "line end"),
    ("200 OK", [("X", "a\nb")], "line end"),
    ("200 OK", [("X", "a\0b")], "control byte"),
    ("200 OK", [("X Y", "a")], "header name"),
    ("200 OK", [("X:", "a")], "header name"),
    ("200 OK", [("", "a")], "header name"),
    ("200 OK", [("X", "\u20ac")], "within latin-1"),
    ("200 OK", [("X", b"a")], "a name and a value, both str"),
    ("200 OK", [(b"X", "a")], "a name and a value, both str"),
    ("200 OK", [("X", 5)], "a name and a value, both str"),
    ("200 OK", [(5, "X")], "a name and a value, both str"),
    ("200 OK", [("X", None)], "a name and a value, both str"),
    ("200 OK", [("X", "a", "b")], "a name and a value, both str"),
    ("200 OK", ["X: a"], "a name and a value, both str"),
    ("200 OK", [("Content-Length", "five")], "not a number of bytes"),
    ("200 OK", [("Content-Length", "-1")], "not a number of bytes"),
    ("200 OK", [("Content-Length", "")], "not a number of bytes"),
])
def test_a_wrong_status_or_header_is_an_error_where_it_is_passed_and_says_the_fix(
        status: Any, headers: Any, words: str) -> None:
    caught: list[Exception] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        try:
            start_response(status, headers)
        except (TypeError, ValueError) as error:
            caught.append(error)
            start_response("500 Oops", [])
        return [b"the application's own"]

    assert WSGI(app)(make_request(get("/"))).body == b"the application's own"
    assert words in str(caught[0])
    assert len(str(caught[0])) < 300


class Text(str):
    """As the markup of template engines is."""

    __slots__ = ()


PARTS = st.sampled_from(["X", "x", "Content-Length", "Connection", "Transfer-Encoding", "Set-Cookie", "a", " a ", "5",
                         "close", "a\r\nY: b", "\u20ac", "caf\xe9", "", "b" * 200, Text("a\nb"), 5, None, b"a"])


def outcome(status: Any, headers: Any) -> object:
    """What comes of that call of start_response."""
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response(status, headers)
        return [b"body"]

    try:
        response = WSGI(app)(make_request(get("/")))
    except (TypeError, ValueError) as error:
        return type(error), str(error)
    return response.status, response.reason, response.headers


@given(calls=st.lists(st.tuples(
    st.sampled_from(["200 OK", "200", "404 Not Found", "200 OK\n", "nonsense", "200 " + "x" * 200, Text("200 O\nK"),
                     200]),
    st.lists(st.one_of(st.tuples(PARTS, PARTS), st.sampled_from(["ab", "abc", ("X",), ["X", "a"]])), max_size=3)),
    min_size=1, max_size=6))
@example([("200 OK", [("X", Text("a"))]), ("200 OK", [("X", "a")]), ("200 OK", [("X", Text("a\nb"))])])
@example([("200 OK", [("X", "a")]), ("200 OK", [("X", b"a")]), ("200 OK", [("X", ["a"])]), (["200 OK"], [])])
@example([("200 OK", [("te", "a"), ("TE", "a")]), ("200 OK", [("X", "a\nb")]), ("200 OK", [("X", "a\nb")])])
def test_what_was_checked_before_changes_nothing(calls: list[tuple[Any, Any]]) -> None:
    """What has been refused is refused again, with the same words; whether something like it has been let through or
    not."""
    remembered = [outcome(status, headers) for status, headers in calls]
    for (status, headers), result in zip(calls, remembered, strict=True):
        forget()
        assert outcome(status, headers) == result


def forget() -> None:
    wsgi._statuses.clear()
    wsgi._fields.clear()


def test_a_good_header_is_remembered_and_a_bad_one_or_a_long_one_is_not() -> None:
    forget()
    for _ in range(2):
        assert outcome("200 OK", [("X", " a"), ("TE", "b")]) == (200, "OK", [(b"x", b"a")])
        outcome("200 O\nK", [])
        outcome("200 OK", [("X", "a\nb")])
        outcome("200 OK", [("X", "a" * 129)])
        outcome("200 OK", [("a" * 129, "X")])
        outcome("200 OK", [["X", "b"], ("X", Text("b"))])
        outcome("200 " + "a" * 129, [])
    assert wsgi._statuses == {"200 OK": (200, "OK")}
    assert wsgi._fields == {("X", " a"): (b"x", b"a"), ("TE", "b"): ()}


def test_no_flood_of_statuses_and_headers_fills_the_memory_or_makes_one_wrong() -> None:
    for n in range(2500):
        assert outcome(f"200 {n}", [("X", f"{n}"), (f"X{n}", "a")]) == (
            200, str(n), [(b"x", b"%d" % n), (b"x%d" % n, b"a")])
        assert len(wsgi._statuses) <= 1000
        assert len(wsgi._fields) <= 1000


def test_a_response_is_nobody_elses() -> None:
    """Applications that answer alike share what was checked, and nothing that can be changed."""
    one = WSGI(answer([b"one"], headers=[("X", "a")]))(make_request(get("/")))
    two = WSGI(answer([b"two"], headers=[("X", "a")]))(make_request(get("/")))
    one.headers.append((b"y", b"b"))
    assert (one.body, two.body, two.headers) == (b"one", b"two", [(b"x", b"a")])


def test_what_is_the_servers_business_is_left_out_and_does_no_harm(start: Serve) -> None:
    """PEP 3333, "Other HTTP Features"; Date is the server's, too."""
    theirs = [(name, "x") for name in ("Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "TE",
                                       "Trailer", "Upgrade", "Date")]
    mine = [("Transfer-Encoding", "chunked"), ("X-Mine", "y"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"),
            ("X-Space", " a b ")]
    session = start(WSGI(answer([b"body"], headers=[*theirs, *mine])))
    for _ in range(2):
        session.client.send(request())
        received = session.client.read_response()
        assert (received.body, received.keep_alive) == (b"body", True)
        assert [pair for pair in received.headers if pair[0] != "date"] == [
            ("x-mine", "y"), ("set-cookie", "a=1"), ("set-cookie", "b=2"), ("x-space", "a b"), ("content-length", "4")]
        assert received.header("date") != "x"


def test_an_application_may_close_the_connection(start: Serve) -> None:
    session = start(WSGI(answer([b"last"], headers=[("Connection", "close")])))
    session.client.send(request())
    received = session.client.read_response()
    assert (received.body, received.keep_alive) == (b"last", False)
    session.client.half_close()
    session.client.expect_eof()


def test_the_headers_are_those_of_the_call_whatever_becomes_of_the_list(start: Serve) -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        headers = [("X", "1")]
        start_response("200 OK", headers)
        headers[:] = [("Y", "2")]
        yield b"body"

    session = start(WSGI(app))
    session.client.send(request())
    received = session.client.read_response()
    assert (received.header("x"), received.header("y")) == ("1", None)
    assert received.header("content-type") is None, "nobody has said what it is"


def test_an_error_before_the_first_piece_replaces_status_and_headers_as_a_whole(start: Serve) -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("X", "1"), ("Content-Length", "100")])
        yield b""
        start_response("503 Later", [("Y", "2")], exc_info())
        yield b"sorry"

    session = start(WSGI(app))
    session.client.send(request())
    received = session.client.read_response()
    assert (received.status, received.body) == (503, b"sorry")
    assert (received.header("x"), received.header("y"), received.header("content-length")) == (None, "2", None)


@pytest.mark.parametrize("how", ["write", "yield"])
def test_an_error_after_the_first_piece_is_raised_again_where_it_is_reported(
        start: Serve, caplog: pytest.LogCaptureFixture, how: str) -> None:
    raised: list[BaseException] = []

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        write = start_response("200 OK", TEXT)
        if how == "write":
            write(b"half")
        else:
            yield b"half"
        try:
            start_response("500 Oops", TEXT, exc_info())
        except ZeroDivisionError as error:
            raised.append(error)
            raise

    session = start(WSGI(app), may_fail=True)
    session.client.send(request())
    assert b"half" in session.client.read_to_reset()
    session.await_end()
    assert str(raised[0]) == "of the application"
    assert len(failures(caplog)) == 1
    assert "in exc_info" in caplog.text, "not the application's own traceback"


@pytest.mark.parametrize("begun", ["nothing", "write", "yield"])
def test_start_response_a_second_time_is_an_error_without_exc_info(start: Serve, begun: str) -> None:
    caught: list[AssertionError] = []

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        write = start_response("200 OK", TEXT)
        if begun == "write":
            write(b"a")
        if begun == "yield":
            yield b"a"
        try:
            start_response("500 Oops", TEXT)
        except AssertionError as error:
            caught.append(error)
        yield b"b"

    session = start(WSGI(app))
    session.client.send(request())
    received = session.client.read_response()
    assert (received.status, received.body) == (200, b"b" if begun == "nothing" else b"ab")
    assert "start_response()" in str(caught[0])


# write().

def test_what_is_written_arrives_before_the_application_goes_on(serve: ServeWithModel) -> None:
    arrived = Gate("the client has the first piece")

    def app(environ: Any, start_response: Any) -> list[bytes]:
        write = start_response("200 OK", TEXT)
        write(b"first")
        arrived.pass_through()
        write(b"second")
        return [b"third"]

    client = serve(WSGI(app)).connect()
    client.send(request())
    assert client.read_head() == 200
    assert client.read_body(5) == b"first"
    arrived.open()
    assert client.read_response().body == b"secondthird"
    client.send(request())
    assert client.read_response().body == b"firstsecondthird"


def test_writing_nothing_sends_nothing(start: Serve) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", TEXT)(b"")
        start_response("404 No", TEXT, exc_info())(b"")
        return [b"body"]

    session = start(WSGI(app))
    session.client.send(request())
    received = session.client.read_response()
    assert (received.status, received.header("content-length")) == (404, "4")


@pytest.mark.parametrize("data", ["text", None, 5, bytearray(b"x")])
def test_only_bytes_can_be_written(start: Serve, data: Any) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        write = start_response("200 OK", TEXT)
        with pytest.raises(TypeError, match="pass bytes, not"):
            write(data)
        return [b"body"]

    session = start(WSGI(app))
    session.client.send(request())
    assert session.client.read_response().body == b"body"


def test_writing_past_the_content_length_is_an_error_and_sends_nothing(start: Serve) -> None:
    """PEP 3333, "Handling the Content-Length Header"."""
    def app(environ: Any, start_response: Any) -> list[bytes]:
        write = start_response("200 OK", [("Content-Length", "5")])
        write(b"hell")
        with pytest.raises(Exception, match="longer than its Content-Length"):
            write(b"oo")
        write(b"o")
        return []

    session = start(WSGI(app))
    session.client.send(request() + request())
    assert session.client.read_response().body == b"hello"
    assert session.client.read_response().body == b"hello"


def test_write_is_of_no_use_once_the_application_has_returned(start: Serve) -> None:
    kept: list[Any] = []

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        kept.append(start_response("200 OK", TEXT))

        def pieces() -> Iterator[bytes]:
            yield b"a"
            with pytest.raises(AssertionError, match=r"write\(\) after the application has returned"):
                kept[-1](b"smuggled")
            yield b"b"
        return pieces()

    session = start(WSGI(app))
    session.client.send(request())
    assert session.client.read_response().body == b"ab"
    with pytest.raises(AssertionError, match=r"write\(\) after the application has returned"):
        kept[0](b"smuggled")
    session.client.send(request())
    assert session.client.read_response().body == b"ab"


@pytest.mark.parametrize(("method", "version"), [("GET", "1.1"), ("GET", "1.0"), ("HEAD", "1.1")])
@pytest.mark.parametrize("rest", [[], [b"c"], [b"c", b"d"], (), iter([b"c"])], ids=without_address)
def test_what_is_returned_comes_behind_what_was_written(
        start: Serve, method: str, version: str, rest: Iterable[bytes]) -> None:
    rest = list(rest)

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        write = start_response("200 OK", TEXT)
        write(b"a")
        write(b"b")
        return rest

    session = start(WSGI(app))
    session.client.send(request(method=method, version=version))
    received = session.client.read_response(method)
    assert received.body == (b"" if method == "HEAD" else b"ab" + b"".join(rest))
    assert received.header("transfer-encoding") == ("chunked" if version == "1.1" else None)
    assert received.keep_alive is (version == "1.1")


def test_an_application_that_writes_to_a_client_that_has_gone_learns_of_it(start: Serve) -> None:
    """And is not logged as a failure."""
    raised: list[type[BaseException]] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        write = start_response("200 OK", TEXT)
        try:
            while True:
                write(b"x" * 65536)
        except BaseException as error:
            raised.append(type(error))
            raise

    session = start(WSGI(app), buffer=SMALL)
    session.client.send(request())
    session.client.read_head()
    session.client.reset()
    session.await_end()
    assert [error.__name__ for error in raised] == ["ClientDisconnectedError"]


# Iterables.

@transports
def test_a_piece_is_sent_before_the_next_is_asked_for(start: Serve, tls: bool) -> None:
    """PEP 3333, "Buffering and Streaming"."""
    arrived = threading.Semaphore(0)

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        for piece in (b"one", b"", b"two", b"three"):
            yield piece
            assert piece == b"" or arrived.acquire(timeout=PATIENCE), "the client has not got it"

    session = start(WSGI(app), tls=tls)
    session.client.send(request())
    session.client.read_head()
    for piece in (b"one", b"two", b"three"):
        assert session.client.read_body(len(piece)) == piece
        arrived.release()
    assert session.client.read_response().body == b""


@pytest.mark.parametrize(("result", "length"), [
    ([b"hello"], "5"), ((b"hello",), "5"), ([], "0"), ((), "0"), ([b""], "0"),
    ([b"he", b"llo"], None), (iter([b"hello"]), None),
], ids=without_address)
def test_the_length_of_one_piece_is_known(result: Iterable[bytes], length: str | None) -> None:
    response = WSGI(answer(result))(make_request(get("/")))
    assert (str(len(response.body)) if isinstance(response.body, bytes) else None) == length


@pytest.mark.parametrize("given_length", ["3", "5", "9"])
def test_one_piece_has_the_length_that_it_has(start: Serve, given_length: str) -> None:
    session = start(WSGI(answer([b"hello"], headers=[("Content-Length", given_length)])))
    session.client.send(request() + request())
    for _ in range(2):
        received = session.client.read_response()
        assert (received.body, received.header("content-length")) == (b"hello", "5")


@pytest.mark.parametrize("pieces", [[b"hel", b"lo, and more"], [b"hello", b" and more"], [b"hello, and more", b"!"],
                                    [b"", b"hel", b"", b"lo", b"", b" and more"]], ids=without_address)
@pytest.mark.parametrize("written", [b"", b"he"])
def test_what_goes_beyond_the_content_length_is_neither_sent_nor_asked_for(
        start: Serve, caplog: pytest.LogCaptureFixture, pieces: list[bytes], written: bytes) -> None:
    body = Body([*pieces, b"not asked for"])

    def app(environ: Any, start_response: Any) -> Body:
        write = start_response("200 OK", [("Content-Length", str(5 + len(written)))])
        write(written)
        return body

    session = start(WSGI(app))
    session.client.send(request())
    assert session.client.read_response().body == written + b"hello"
    session.client.send(request())
    assert session.client.read_response().body == written + b"hello"
    session.leave()
    assert "is longer than its Content-Length" in caplog.text
    assert body.closings == 2


def test_an_iterator_of_the_announced_length_comes_to_its_own_end(
        start: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """What an application does behind its last piece is done, although nothing more could be sent."""
    ended = Gate("the application has come to its end")

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "5")])
        yield b"hello"
        yield b""
        ended.open()

    session = start(WSGI(app))
    session.client.send(request())
    assert session.client.read_response().body == b"hello"
    ended.pass_through()
    assert "longer" not in caplog.text


@pytest.mark.parametrize("result", [[], (), [b""], iter(()), iter([b"body"])], ids=without_address)
@pytest.mark.parametrize("given_length", [None, "1234"])
def test_an_answer_to_head_has_no_length_but_the_one_that_is_given(
        start: Serve, result: Iterable[bytes], given_length: str | None) -> None:
    """RFC 9110 section 8.6: it is that of the answer to a GET, or none. Frameworks return nothing for a HEAD."""
    headers = [] if given_length is None else [("Content-Length", given_length)]
    session = start(WSGI(answer(result, headers=headers)))
    session.client.send(request(method="HEAD"))
    received = session.client.read_response("HEAD")
    assert received.header("content-length") == given_length
    assert received.keep_alive


def test_a_head_that_is_answered_with_a_body_has_its_length(start: Serve) -> None:
    session = start(WSGI(answer([b"hello"])))
    session.client.send(request(method="HEAD"))
    assert session.client.read_response("HEAD").header("content-length") == "5"


def test_the_pieces_of_an_answer_to_head_are_not_asked_for(start: Serve) -> None:
    asked: list[int] = []

    def pieces() -> Iterator[bytes]:
        asked.append(1)
        yield b"body"

    session = start(WSGI(answer(pieces())))
    session.client.send(request(method="HEAD"))
    assert session.client.read_response("HEAD").status == 200
    session.leave()
    assert asked == []


@pytest.mark.parametrize(("result", "words"), [
    (None, "the application returned None: it must return an iterable of bytes"),
    (b"body", "the application returned b'body': it must return an iterable of bytes"),
    ("body", "it must return an iterable of bytes"),
    (5, "not iterable"),
    (["text"], "the application yielded 'text' (str); it must yield bytes"),
    ([None], "it must yield bytes"),
    (iter(["text"]), "the application yielded 'text' (str); it must yield bytes"),
    ([b"", bytearray(b"x")], "it must yield bytes"),
    (io.StringIO("text"), "it must yield bytes"),
], ids=without_address)
def test_a_wrong_result_is_a_500_and_the_log_says_the_fix(
        start: Serve, caplog: pytest.LogCaptureFixture, result: Any, words: str) -> None:
    session = start(WSGI(answer(result)), may_fail=True)
    session.client.send(request())
    received = session.client.read_response()
    assert (received.status, received.body, received.keep_alive) == (500, b"Internal Server Error\n", True)
    session.leave()
    assert len(failures(caplog)) == 1
    assert words in caplog.text


@pytest.mark.parametrize("result", [[], [b"body"], iter([b"body"]), iter([]), FileWrapper(io.BytesIO(b"x"))],
                         ids=without_address)
def test_an_application_that_never_calls_start_response_is_a_500(
        start: Serve, caplog: pytest.LogCaptureFixture, result: Any) -> None:
    session = start(WSGI(lambda environ, start_response: result), may_fail=True)
    session.client.send(request())
    assert session.client.read_response().status == 500
    session.leave()
    assert "without calling start_response()" in caplog.text


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit, StopIteration, OSError])
@pytest.mark.parametrize("where", ["call", "first piece"])
def test_an_application_that_raises_is_a_500_and_the_connection_goes_on(
        start: Serve, caplog: pytest.LogCaptureFixture, where: str, error: type[BaseException]) -> None:
    class Raising:
        def __iter__(self) -> Iterator[bytes]:
            return self

        def __next__(self) -> bytes:
            raise error("secret") if error is not StopIteration else ValueError("secret")

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/good":
            start_response("200 OK", TEXT)
            return [b"good"]
        start_response("200 OK", TEXT)
        if where == "call":
            raise error("secret")
        return Raising()

    session = start(WSGI(app), may_fail=True)
    session.client.send(request() + request("/good"))
    received = session.client.read_response()
    assert (received.status, received.body) == (500, b"Internal Server Error\n")
    assert session.client.read_response().body == b"good"
    assert len(failures(caplog)) == 1
    assert "secret" in caplog.text


# close().

class ClosingIterator:
    """Its own iterator, with a close(), as those of frameworks are."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self.closings = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._pieces)

    def close(self) -> None:
        self.closings += 1


class ClosingList(list[bytes]):
    """It looks like a list of one piece, and must be closed all the same."""

    closings = 0

    def close(self) -> None:
        self.closings += 1


def failing(pieces: int) -> Iterator[bytes]:
    yield from [b"piece"] * pieces
    raise ValueError("of the application")


PATHS: dict[str, dict[str, Any]] = {
    "sent": {"pieces": lambda: [b"a", b"b"]},
    "one piece": {"pieces": lambda: [b"a"]},
    "empty": {"pieces": list},
    "only empty pieces": {"pieces": lambda: [b"", b""]},
    "HEAD": {"pieces": lambda: [b"a", b"b"], "method": "HEAD"},
    "304": {"pieces": lambda: [b"a", b"b"], "status": "304 Not Modified"},
    "204": {"pieces": lambda: [b"a"], "status": "204 No Content"},
    "HTTP/1.0": {"pieces": lambda: [b"a", b"b"], "version": "1.0"},
    "behind write()": {"pieces": lambda: [b"a", b"b"], "write": b"x"},
    "exactly as long as announced": {"pieces": lambda: [b"a", b"b"], "length": "2"},
    "longer than announced": {"pieces": lambda: [b"ab", b"cd"], "length": "3"},
    "shorter than announced": {"pieces": lambda: [b"ab"], "length": "3", "fails": True},
    "nothing, and announced": {"pieces": list, "length": "3", "fails": True},
    "fails at once": {"pieces": lambda: failing(0), "fails": True},
    "fails halfway": {"pieces": lambda: failing(2), "fails": True},
    "fails behind write()": {"pieces": lambda: failing(0), "write": b"x", "fails": True},
    "not bytes": {"pieces": lambda: ["text"], "fails": True},
    "not bytes halfway": {"pieces": lambda: [b"a", "text"], "fails": True},
    "no start_response": {"pieces": lambda: [b"a"], "status": None, "fails": True},
}


@pytest.mark.parametrize(("path", "kind"), [
    (path, kind) for path in PATHS for kind in (Body, ClosingIterator, ClosingList)
    if kind is not ClosingList or not path.startswith("fails")  # a list does not
], ids=lambda value: getattr(value, "__name__", value))
def test_close_is_called_exactly_once_in_every_path(start: Serve, path: str, kind: Any) -> None:
    case = PATHS[path]
    body = kind(case["pieces"]())

    def app(environ: Any, start_response: Any) -> Any:
        if case.get("status", "200 OK"):
            headers = [("Content-Length", case["length"])] if "length" in case else []
            write = start_response(case.get("status", "200 OK"), headers)
            write(case.get("write", b""))
        assert body.closings == 0
        return body

    session = start(WSGI(app), may_fail=case.get("fails", False))
    session.client.send(request(method=case.get("method", "GET"), version=case.get("version", "1.1"),
                                headers=["Connection: close"]))
    try:
        session.client.read_to_end()
    except ConnectionResetError:
        assert case.get("fails")
    session.await_end()
    assert body.closings == 1


@pytest.mark.parametrize("kind", [Body, ClosingIterator], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("leave", [RawClient.reset, RawClient.close], ids=["resets", "leaves"])
def test_close_is_called_exactly_once_when_the_client_goes_away(
        kind: Any, leave: Callable[[RawClient], None]) -> None:
    """An iterator that is dropped halfway must not be closed by that too. (A log that keeps the error keeps it.)"""
    body = kind(iter(lambda: b"x" * 1000, b""))
    with session_of(answer(body), buffer=SMALL) as session:
        session.client.send(request())
        session.client.read_head()
        session.client.read_body(10_000)
        leave(session.client)
    gc.collect()
    assert body.closings == 1


def test_a_generators_finally_runs_when_the_client_goes_away(start: Serve) -> None:
    ended = Gate("the generator has been closed")

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        try:
            yield from endless()
        finally:
            ended.open()

    session = start(WSGI(app), buffer=SMALL)
    session.client.send(request())
    session.client.read_head()
    session.client.reset()
    ended.pass_through()


class BadlyClosing(Body):
    def close(self) -> None:
        super().close()
        raise ValueError("close() fails too")


def test_a_close_that_fails_is_logged_and_costs_nothing_else(start: Serve, caplog: pytest.LogCaptureFixture) -> None:
    body = BadlyClosing([b"a", b"b"])
    session = start(WSGI(answer(body)), may_fail=True)
    for _ in range(2):
        session.client.send(request())
        assert session.client.read_response().body == b"ab"
    session.leave()
    assert body.closings == 2
    assert len(failures(caplog)) == 2


def test_a_close_that_fails_does_not_hide_what_failed_before(start: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """Here a body that cannot be read, which has an answer of its own."""
    body = BadlyClosing([])

    def app(environ: Any, start_response: Any) -> Body:
        catches("500 Oops")(environ, start_response)
        return body

    session = start(WSGI(app), may_fail=True, limits=Limits(body=50))
    session.client.send(BAD_BODIES["too large"][0])
    assert session.client.read_response("POST").status == 413
    assert "close() fails too" in caplog.text


def test_a_request_that_is_over_is_gone_without_the_garbage_collector(start: Serve) -> None:
    """Applications hold their environ and start_response in what they return."""
    gone: list[weakref.ref[Request]] = []

    class Holding(ClosingIterator):
        def __init__(self, *held: Any) -> None:
            super().__init__([b"a", b"b"])
            self.held = held

    def holding(environ: Any, start_response: Any) -> Iterable[bytes]:
        gone.append(weakref.ref(environ["acceptor.request"]))
        write = start_response("200 OK", TEXT)
        if environ["PATH_INFO"] == "/write":
            write(b"x")
        if environ["PATH_INFO"] == "/generator":
            return (piece for piece in [b"a", environ["PATH_INFO"].encode()])
        return Holding(environ, start_response, write)

    gc.collect()
    gc.disable()
    try:
        session = start(WSGI(holding))
        for path in ("/", "/write", "/generator", "/last"):
            session.client.send(request(path))
            assert session.client.read_response().status == 200
        assert [reference() for reference in gone[:-1]] == [None] * 3
    finally:
        gc.enable()


# Files.

class Unread(CountedFile):
    """A file that nobody reads: its bytes never enter the process."""

    def read(self, size: int | None = -1, /) -> bytes:
        raise AssertionError("the file was read")

    readall = readinto = read  # type: ignore[assignment]


def wrapping(make: Callable[[], Any], headers: Iterable[tuple[str, str]] = (), block_size: int = 8192) -> Any:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", list(headers))
        return environ["wsgi.file_wrapper"](make(), block_size)  # type: ignore[no-any-return]
    return app


@pytest.fixture
def content(tmp_path: Path) -> Path:
    path = tmp_path / "content"
    path.write_bytes(b"0123456789" * 20_000)
    return path


def at(file: Any, position: int) -> Any:
    file.seek(position)
    return file


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(("position", "length"), [(0, None), (0, 200_000), (0, 15), (100_003, None), (100_003, 7),
                                                  (200_000, None), (0, 0)])
def test_a_file_goes_by_sendfile_from_where_it_stands_and_for_as_long_as_announced(
        start: Serve, content: Path, monkeypatch: pytest.MonkeyPatch, position: int, length: int | None,
        method: str) -> None:
    counts: list[int] = []
    real = os.sendfile

    def sendfile(to: int, source: int, offset: int, count: int) -> int:
        counts.append(count)
        return real(to, source, offset, count)

    monkeypatch.setattr(os, "sendfile", sendfile)
    files: list[Unread] = []

    def make() -> Unread:
        files.append(Unread(content))
        return at(files[-1], position)  # type: ignore[no-any-return]

    headers = [] if length is None else [("Content-Length", str(length))]
    session = start(WSGI(wrapping(make, headers)))
    expected = content.read_bytes()[position:][:length]
    for _ in range(2):
        session.client.send(request(method=method))
        received = session.client.read_response(method)
        assert received.body == (expected if method == "GET" else b"")
        assert received.header("content-length") == str(len(expected))
        assert received.keep_alive
    session.leave()
    assert [file.closings for file in files] == [1, 1]
    assert sum(counts) == (2 * len(expected) if method == "GET" else 0)


def pipe(data: bytes) -> Any:
    reading, writing = os.pipe()
    with open(writing, "wb") as file:
        file.write(data)
    return open(reading, "rb")  # the server closes it


def temporary(data: bytes) -> Any:
    file = tempfile.TemporaryFile()  # noqa: SIM115
    file.write(data)
    file.seek(0)
    return file


class OnlyReads:
    """A file that can be read, and nothing else; not even closed."""

    def __init__(self, data: bytes) -> None:
        self.read = io.BytesIO(data).read


FILES: dict[str, Callable[[bytes], Any]] = {
    "BytesIO": io.BytesIO, "pipe": pipe, "TemporaryFile": temporary, "read() only": OnlyReads,
    "SpooledTemporaryFile": lambda data: spooled(data),
}


def spooled(data: bytes) -> Any:
    file = tempfile.SpooledTemporaryFile()  # noqa: SIM115
    file.write(data)
    file.seek(0)
    return file


@transports
@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize(("length", "block_size"), [(None, 3), (10, 8192), (4, 3), (4, 8192), (0, 3)])
def test_whatever_can_be_read_is_sent_as_a_file(
        start: Serve, kind: str, length: int | None, block_size: int, tls: bool) -> None:
    """And closed: the system's files would warn otherwise."""
    headers = [] if length is None else [("Content-Length", str(length))]
    session = start(WSGI(wrapping(lambda: FILES[kind](b"0123456789"), headers, block_size)), tls=tls)
    for _ in range(2):
        session.client.send(request())
        received = session.client.read_response()
        assert received.body == b"0123456789"[:length]
        assert received.keep_alive


@pytest.mark.parametrize("position", [0, 199_990])
@pytest.mark.parametrize("length", [None, 6])
def test_a_file_over_tls_has_its_length_and_no_more(
        start: Serve, content: Path, position: int, length: int | None) -> None:
    headers = [] if length is None else [("Content-Length", str(length))]
    session = start(WSGI(wrapping(lambda: at(CountedFile(content), position), headers)), tls=True)
    for _ in range(2):
        session.client.send(request())
        received = session.client.read_response()
        assert received.body == content.read_bytes()[position:][:length]
        assert received.header("content-length") == str(len(received.body))
        assert received.keep_alive


@transports
@pytest.mark.parametrize("kind", [*FILES, "file"])
def test_a_file_that_is_shorter_than_announced_is_a_cut_or_a_500(
        start: Serve, content: Path, kind: str, tls: bool) -> None:
    def make() -> Any:
        return at(open(content, "rb"), 199_990) if kind == "file" else FILES[kind](b"0123456789")

    session = start(WSGI(wrapping(make, [("Content-Length", "11")])), tls=tls, may_fail=True)
    session.client.send(request())
    try:
        status: int | None = session.client.read_response().status
    except (Truncated, ConnectionResetError):
        status = None
    assert status in (500, None)
    session.await_end()


def test_a_file_may_grow_while_it_is_sent(start: Serve, content: Path) -> None:
    class Growing(io.FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            with open(content, "ab") as file:
                file.write(b"more")
            return super().read(size)

    session = start(WSGI(wrapping(lambda: Growing(content))), tls=True)
    session.client.send(request())
    assert session.client.read_response().body == b"0123456789" * 20_000


def test_a_file_comes_behind_what_was_written(start: Serve, content: Path) -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        write = start_response("200 OK", [("Content-Length", "8")])
        write(b"---")
        return environ["wsgi.file_wrapper"](open(content, "rb"))  # type: ignore[no-any-return]

    session = start(WSGI(app))
    for _ in range(2):
        session.client.send(request())
        assert session.client.read_response().body == b"---01234"


def test_what_a_subclass_of_the_wrapper_makes_of_a_file_is_what_is_sent(start: Serve, content: Path) -> None:
    class Reversed(FileWrapper):
        def __iter__(self) -> Iterator[bytes]:
            return (block[::-1] for block in iter(lambda: self.filelike.read(self.block_size), b""))

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        return Reversed(open(content, "rb"), 1 << 20)

    session = start(WSGI(app))
    session.client.send(request())
    assert session.client.read_response().body == content.read_bytes()[::-1]


def test_a_wrapper_can_be_iterated_over_in_blocks_and_closed_by_middleware(content: Path) -> None:
    file = CountedFile(content)
    wrapper = FileWrapper(file, 150_000)
    assert [len(block) for block in wrapper] == [150_000, 50_000]
    wrapper.close()
    assert file.closings == 1
    assert not hasattr(FileWrapper(OnlyReads(b"")), "close")


def test_a_file_whose_close_has_been_replaced_is_closed_by_that_once(start: Serve, content: Path) -> None:
    """As Django does, which has more to close than the file."""
    closed: list[str] = []

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        file = open(content, "rb")  # noqa: SIM115

        def close() -> None:
            closed.append("response")
            type(file).close(file)

        file.close = close  # type: ignore[method-assign]
        return environ["wsgi.file_wrapper"](file)  # type: ignore[no-any-return]

    session = start(WSGI(app))
    session.client.send(request())
    assert len(session.client.read_response().body) == 200_000
    session.leave()
    assert closed == ["response"]


# Early hints.

def test_early_hints_arrive_before_the_application_goes_on(start: Serve) -> None:
    arrived = Gate("the client has the hints")

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        environ["wsgi.early_hints"]([("Link", "</a.css>; rel=preload"), ("Link", "</b.js>; rel=preload")])
        arrived.pass_through()
        start_response("200 OK", TEXT)
        environ["wsgi.early_hints"]([("Link", "</c>")])
        yield b"body"
        with pytest.raises(RuntimeError, match="too late"):
            environ["wsgi.early_hints"]([("Link", "</d>")])

    session = start(WSGI(app))
    session.client.send(request())
    assert session.client.read_interim() == 103
    arrived.open()
    received = session.client.read_response()
    assert (received.interim, received.status, received.body) == ([103, 103], 200, b"body")


def test_there_are_no_early_hints_in_http_1_0(start: Serve) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        environ["wsgi.early_hints"]([("Link", "</a>")])
        start_response("200 OK", TEXT)
        return [b"body"]

    session = start(WSGI(app))
    session.client.send(request(version="1.0"))
    assert session.client.read_to_end().startswith(b"HTTP/1.1 200 OK\r\n")


# Any application, against a small model of the PEP.

@dataclass(frozen=True)
class Start:
    status: int
    length: int | None = None
    error: bool = False
    """With exc_info."""


@dataclass(frozen=True)
class Write:
    data: bytes


@dataclass(frozen=True)
class Yield:
    data: bytes


@dataclass(frozen=True)
class Raise:
    pass


Step = Start | Write | Yield | Raise
DATA = st.sampled_from([b"", b"a", b"bc", b"def"])
STARTS = st.builds(Start, st.sampled_from([200, 200, 204, 304, 404, 205]), st.sampled_from([None, None, 0, 3, 6]),
                   st.booleans())
CALL = st.lists(st.one_of(STARTS, st.builds(Write, DATA), st.just(Raise())), max_size=4)
PIECES = st.lists(st.one_of(st.builds(Yield, DATA), st.builds(Yield, DATA), STARTS, st.just(Raise())), max_size=5)


class Program:
    """An application that does what it is told when it is called, and while it is iterated over."""

    def __init__(self, call: list[Step], pieces: list[Step], kind: str) -> None:
        self.call = call
        self.pieces: list[Step] = [step for step in pieces if isinstance(step, Yield) or "list" not in kind]
        self.kind = kind
        self.result: Any = None

    def __call__(self, environ: Any, start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/good":
            start_response("200 OK", [])
            return [b"good"]
        self._start_response: Any = start_response
        self._write: Callable[[bytes], object] = len  # of no effect
        for step in self.call:
            self._do(step)
        if "list" in self.kind:
            kind: Any = list if self.kind == "list" else ClosingList
            self.result = kind(step.data for step in self.pieces if isinstance(step, Yield))
        else:
            self.result = {"iterator": ClosingIterator, "iterable": Body}[self.kind](self._iterate())
        return self.result

    def _iterate(self) -> Iterator[bytes]:
        for step in self.pieces:
            if isinstance(step, Yield):
                yield step.data
            else:
                self._do(step)

    def _do(self, step: Step) -> None:
        if isinstance(step, Start):
            headers = [] if step.length is None else [("Content-Length", str(step.length))]
            status = f"{step.status} As Told"
            self._write = (self._start_response(status, headers, exc_info()) if step.error
                           else self._start_response(status, headers))
        elif isinstance(step, Write):
            self._write(step.data)
        elif isinstance(step, Raise):
            raise ValueError("as told")

    def __repr__(self) -> str:
        return f"Program({self.call}, {self.pieces}, {self.kind!r})"


class Failed(Exception):  # noqa: N818
    """The application has failed, by the PEP."""


class Expected:
    """What PEP 3333 says becomes of a program: "whole", with `status` and `body`, or "500", or "cut"."""

    def __init__(self, program: Program, method: str) -> None:
        self._head = method == "HEAD"
        self._answer: Start | None = None
        self._begun = False
        self.body = b""
        try:
            self._run(program)
            self.outcomes = ["whole"]
        except Failed:
            self.outcomes = ["cut"] if self.body else ["500"]
            if self._answer is not None and len(self.body) == self._answer.length and self._begun:
                self.outcomes.append("whole")  # all of it had been sent when it failed

    @property
    def status(self) -> int:
        assert self._answer is not None
        return self._answer.status

    @property
    def _bodiless(self) -> bool:
        return self._head or (self._answer is not None and self._answer.status in (204, 205, 304))

    def _run(self, program: Program) -> None:
        for step in program.call:
            if isinstance(step, Write):
                if self._answer is not None and step.data:
                    self._send(step.data)
            else:
                self._do(step)
        if program.kind == "list" and len(program.pieces) < 2 and self._answer is not None and not self._begun:
            if not self._bodiless:
                self.body = b"".join(step.data for step in program.pieces if isinstance(step, Yield))
            return  # its length is what it is
        if not (self._head and self._answer is not None):
            self._iterate(program.pieces)
        if self._answer is None:
            raise Failed
        if not self._bodiless and self._answer.length is not None and len(self.body) < self._answer.length:
            raise Failed

    def _iterate(self, pieces: list[Step]) -> None:
        for step in pieces:
            if not isinstance(step, Yield):
                self._do(step)
                continue
            if not step.data:
                continue
            if self._answer is None:
                raise Failed
            if self._bodiless:
                return
            left = None if self._answer.length is None else self._answer.length - len(self.body)
            if left is not None and left < len(step.data):
                self.body += step.data[:left]
                return
            self._send(step.data)

    def _do(self, step: Step) -> None:
        if isinstance(step, Raise) or self._begun or (isinstance(step, Start) and self._answer and not step.error):
            raise Failed
        assert isinstance(step, Start)
        self._answer = step

    def _send(self, data: bytes) -> None:
        assert self._answer is not None
        self._begun = True
        if not self._bodiless:
            if self._answer.length is not None and len(self.body) + len(data) > self._answer.length:
                raise Failed
            self.body += data


@given(call=CALL, pieces=PIECES, kind=st.sampled_from(["list", "closing list", "iterator", "iterable"]),
       method=st.sampled_from(["GET", "GET", "HEAD"]), version=st.sampled_from(["1.1", "1.1", "1.0"]),
       begins_well=st.sampled_from([True, True, True, False]))
@example([Start(200, 3)], [Yield(b"a"), Yield(b"def")], "iterator", "GET", "1.1", False)
@example([Start(200, 3)], [Yield(b"a"), Yield(b"bc"), Raise()], "iterator", "GET", "1.1", False)
@example([Start(200)], [Yield(b"a"), Start(404, error=True)], "iterable", "GET", "1.0", False)
@example([], [Start(200), Yield(b"a")], "iterator", "HEAD", "1.1", False)
@example([Start(204), Write(b"a"), Raise()], [], "list", "GET", "1.1", False)
@example([Start(200), Write(b"a")], [Yield(b"bc")], "list", "GET", "1.0", False)
def test_whatever_an_application_does_the_client_has_a_whole_response_or_sees_that_it_has_not(
        call: list[Step], pieces: list[Step], kind: str, method: str, version: str, begins_well: bool) -> None:
    program = Program([Start(200), *call] if begins_well else call, pieces, kind)
    expected = Expected(program, method)
    with session_of(program, may_fail=True) as session:
        session.client.send(request(method=method, version=version))
        try:
            received: Received | None = session.client.read_response(method)
        except (Truncated, ConnectionResetError):
            received = None
        seen = "cut" if received is None else "whole" if received.status != 500 else "500"
        assert seen in expected.outcomes, f"{program}: {received}"
        if received is not None and seen == "whole":
            assert (received.status, received.body) == (expected.status, expected.body), program
            assert received.keep_alive is (version == "1.1"), program
        if received is not None and received.keep_alive and expected.outcomes[0] != "cut":
            session.client.send(request("/good"))
            assert session.client.read_response().body == b"good", program
    if program.result is not None and kind != "list":
        assert program.result.closings == 1, f"{program} was closed {program.result.closings} times"


# What an application is.

def plain(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", TEXT)
    return [b"plain"]


def with_options(environ: Any, start_response: Any, verbose: bool = False) -> list[bytes]:
    return plain(environ, start_response)


def anything(*args: Any, **kwargs: Any) -> list[bytes]:
    return plain(*args)


def handler(request: Request) -> str:
    return "handler"


def handler_with_more(request: Request, page: int = 1) -> str:
    return "handler"


def application_with_default(environ: Any, start_response: Any = None) -> list[bytes]:
    return plain(environ, start_response)


def logged(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)
    return wrapper


def application_of(function: Any) -> Any:
    """As Werkzeug's Request.application: it takes (environ, start_response), and is said to take (request)."""
    @functools.wraps(function)
    def application(*args: Any) -> list[bytes]:
        environ, start_response = args
        start_response("200 OK", TEXT)
        return [str(function(environ)).encode()]
    return application


class Instance:
    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        return plain(environ, start_response)

    def method(self, environ: Any, start_response: Any) -> list[bytes]:
        return plain(environ, start_response)

    def handle(self, request: Request) -> str:
        return "handler"

    @classmethod
    def of_class(cls, environ: Any, start_response: Any) -> list[bytes]:
        return plain(environ, start_response)

    @staticmethod
    def static(environ: Any, start_response: Any) -> list[bytes]:
        return plain(environ, start_response)


class HandlerInstance:
    def __call__(self, request: Request) -> str:
        return "handler"


def curried(name: str, environ: Any, start_response: Any) -> list[bytes]:
    return plain(environ, start_response)


@pytest.mark.parametrize(("app", "wsgi"), [
    (plain, True), (with_options, True), (anything, True), (application_with_default, True), (generator, True),
    (lambda environ, start_response: [], True), (lambda e, s: [], True), (lambda *args: [], True),
    (ClassApp, True), (Instance(), True), (Instance().method, True), (Instance.of_class, True), (Instance.static, True),
    (functools.partial(curried, "name"), True), (functools.partial(plain), True), (validator(plain), True),
    (logged(plain), True), (logged(Instance()), True), (application_of(handler), True), (max, True), (divmod, True),
    (handler, False), (handler_with_more, False), (lambda request: "", False), (lambda r: "", False),
    (HandlerInstance(), False), (Instance().handle, False), (logged(handler), False), (Dispatcher(), False),
    (hello, False), (WSGI(plain), False), (functools.partial(handler_with_more, page=2), False), (len, False),
    (functools.partial(max, 1), True),
], ids=lambda value: getattr(value, "__qualname__", None) or without_address(value)[:50])
def test_an_application_is_told_from_a_handler(app: Any, wsgi: bool) -> None:
    assert is_wsgi(app) is wsgi


async def asgi(scope: Any, receive: Any, send: Any) -> None: ...


async def asynchronous_handler(request: Request) -> str:
    return ""


async def asynchronous_generator(environ: Any, start_response: Any) -> Any:
    yield b""


class AsgiInstance:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


@pytest.mark.parametrize(("app", "words"), [
    (asgi, "is asynchronous, as ASGI applications are"),
    (AsgiInstance(), "is asynchronous"),
    (functools.partial(asgi, {}), "is asynchronous"),
    (asynchronous_handler, "is asynchronous"),
    (asynchronous_generator, "is asynchronous"),
    (lambda scope, receive, send: None, "takes three arguments, as ASGI applications do"),
    (lambda: plain, "is it a factory? Then call it, or say --factory"),
    (lambda *, config: plain, "a WSGI application takes (environ, start_response), a handler takes a Request"),
    (lambda environ, start_response, *, config: [], "a WSGI application takes (environ, start_response)"),
    (lambda a, b, c, d: None, "a WSGI application takes (environ, start_response)"),
    (HandlerInstance, "is it a factory?"),
    (sys, "cannot be called: pass a WSGI application or a handler"),
    (None, "cannot be called"),
    ("module:app", "cannot be called"),
], ids=without_address)
def test_what_is_neither_is_told_what_to_do(app: Any, words: str) -> None:
    for ask in (is_wsgi, WSGI):
        with pytest.raises(TypeError) as caught:
            ask(app)
        assert words in str(caught.value)


@pytest.mark.parametrize("app", [handler, Dispatcher(), lambda request: ""], ids=without_address)
def test_a_handler_is_no_application_and_is_told_to_stay_one(app: Any) -> None:
    with pytest.raises(TypeError, match="pass it to Acceptor as it is"):
        WSGI(app)


def test_whoever_says_that_it_is_an_application_is_believed_if_it_can_be_called_like_one() -> None:
    for app in (logged(handler), handler_with_more):
        assert not is_wsgi(app)
        WSGI(cast(Any, app))


@pytest.mark.parametrize(("script_name", "error"), [
    ("shop", ValueError), ("/shop/", ValueError), ("/", ValueError), (" /shop", ValueError), (5, TypeError),
    (None, TypeError), (b"/shop", TypeError),
])
def test_a_wrong_mount_is_refused_with_the_fix(script_name: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r'"/shop", or "" for none'):
        WSGI(plain, script_name=script_name)


def test_the_peers_of_a_session_are_what_these_tests_take_them_for(start: Serve) -> None:
    """End to end, once: the request that the server makes is the one that `make_request` makes."""
    environs: list[Any] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        environs.append(environ)
        start_response("200 OK", TEXT)
        return []

    session = start(WSGI(app), tls=True, forwarded=ForwardedHeaders(Networks([ADDRESS[0]])))
    session.client.send(request("/a%20b?c", headers=["X-Forwarded-For: 198.51.100.9", "X_Y: 1"]))
    session.client.read_response()
    environ, = environs
    assert (environ["PATH_INFO"], environ["QUERY_STRING"], environ["HTTP_HOST"]) == ("/a b", "c", "test")
    assert (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"], environ["HTTPS"]) == ("198.51.100.9", "https", "on")
    assert environ["SERVER_NAME"] == "127.0.0.1"
    assert "HTTP_X_Y" not in environ
