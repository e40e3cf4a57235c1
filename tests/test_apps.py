"""Flask and Django under every model: two applications of the same URLs, and one suite for both.

The clients are urllib with a cookie jar, http.client, and a raw socket where a browser would not do. What the two
frameworks do differently stands in the tests, for whoever moves an application here.
"""

from __future__ import annotations

import email.message
import gc
import http.client
import http.cookiejar
import itertools
import json
import logging
import os
import random
import re
import ssl
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from acceptor.wsgi import WSGI, Application
from taskmaster import (
    EventLoopTaskmaster,
    PooledTaskmaster,
    RecyclingTaskmaster,
    SingleThreadedTaskmaster,
    Taskmaster,
    ThreadPerConnectionTaskmaster,
)
from tests.apps import FILE_NAME, PIECE, Digest, django_app, flask_app, probe
from tests.clients import PATIENCE, Truncated, request
from tests.conftest import Model, Serve, Server

MIB = 1 << 20
UPLOAD = 100 * MIB
FOR_FIFTY: dict[str, Callable[[], Taskmaster]] = {
    "loop": EventLoopTaskmaster,
    "single": SingleThreadedTaskmaster,
    "per_connection": lambda: ThreadPerConnectionTaskmaster(max_thread_count=50),
    "pooled": lambda: PooledTaskmaster(threads=8, queue_size=50),
    "recycling": lambda: RecyclingTaskmaster(standby=2, max_thread_count=50),
}
"""The models of conftest with room for fifty connections."""
BEHIND_A_PROXY = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "shop.example"}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: email.message.Message
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class _Plain(urllib.request.HTTPErrorProcessor):
    """Every status is an answer; redirects are followed by the test."""

    def http_response(self, request: urllib.request.Request, response: Any) -> Any:
        return response


_HTTPS = urllib.request.HTTPSHandler(context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
"""Nobody speaks HTTPS here; but since Python 3.12 one made by default reads the system's certificates: 50 ms."""


class Browser:
    """Keeps cookies. One connection for each request: urllib knows no other way."""

    def __init__(self, server: Server, headers: Mapping[str, str] | None = None) -> None:
        self.jar = http.cookiejar.CookieJar()
        self._url = server.url
        self._headers = dict(headers or {})
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(self.jar), _Plain(), _HTTPS)

    def open(self, url: str, form: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None) -> Answer:
        """GET, or POST of a form. `url` may be a path."""
        data = None if form is None else urllib.parse.urlencode(form).encode()
        wanted = urllib.request.Request(urllib.parse.urljoin(self._url, url), data, self._headers | dict(headers or {}))
        with self._opener.open(wanted, timeout=PATIENCE) as response:
            return Answer(response.status, response.headers, response.read())

    def token(self) -> dict[str, str]:
        """The hidden field of the form at /login, as the framework names it."""
        page = self.open("/login")
        assert page.status == 200, page
        found = re.search(r'<input type="hidden" name="(\w+)" value="(\w+)">', page.text)
        assert found, page.text
        return {found[1]: found[2]}


class Site:
    """One of the applications, to be started under the model of the test."""

    def __init__(self, name: str, app: Application, serve: Serve) -> None:
        self.name = name
        self.app = app
        self.servers: list[Server] = []
        self._serve = serve

    def start(self, app: Application | None = None, *, script_name: str = "", **options: Any) -> Server:
        """A server; `options` are those of Acceptor."""
        server = self._serve(WSGI(app or self.app, script_name=script_name), **options)
        self.servers.append(server)
        return server


@pytest.fixture(scope="session")
def applications(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Application]:
    return {"flask": flask_app.app, "django": django_app.make(tmp_path_factory.mktemp("django"))}


@pytest.fixture(params=["flask", "django"])
def site(request: pytest.FixtureRequest, applications: dict[str, Application], serve: Serve) -> Iterator[Site]:
    """Each application in turn, with each model. What it does wrong must not look like an error of the server."""
    probe.reset()
    site = Site(request.param, applications[request.param], serve)
    yield site
    errors = [error for server in site.servers for error in server.errors]
    assert not errors, f"the server has logged {errors}"


@pytest.fixture
def server(site: Site) -> Server:
    return site.start()


def connect(server: Server) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)


def ask(client: http.client.HTTPConnection, method: str, path: str, body: Any = None,
        headers: Mapping[str, str] | None = None) -> Answer:
    client.request(method, path, body, dict(headers or {}))
    response = client.getresponse()
    return Answer(response.status, response.headers, response.read())


def descriptors(path: Path) -> int:
    """How many this process has open of the file."""
    count = 0
    for link in Path("/proc/self/fd").iterdir():
        try:
            count += os.readlink(link) == str(path.resolve())
        except OSError:  # closed in the meantime
            pass
    return count


# Pages, forms, sessions.


def test_pages_are_made_by_templates_from_what_the_url_says(server: Server) -> None:
    browser = Browser(server)
    start = browser.open("/")
    assert (start.status, start.headers.get_content_type()) == (200, "text/html")
    assert "Hello, stranger!" in start.text
    page = browser.open("/hello/%C3%84rger%20%3Cb%3E?" + urllib.parse.urlencode({"title": "тест"}))
    assert "<title>тест</title>" in page.text
    assert "Hello, Ärger &lt;b&gt;!" in page.text


def test_a_form_logs_in_and_out_and_nobody_else(server: Server) -> None:
    ada, other = Browser(server), Browser(server)
    token = ada.token()
    assert ada.open("/login", {"user": "Ada"}).status == 403, "a form without its CSRF token was taken"
    answer = ada.open("/login", {"user": "Ada Ł", **token})
    assert (answer.status, answer.headers["Location"]) == (302, "/")
    assert "Hello, Ada Ł!" in ada.open(answer.headers["Location"]).text
    assert [ada.open("/counter").json["count"] for _ in range(3)] == [1, 2, 3]
    assert other.open("/counter").json == {"count": 1}
    assert "stranger" in other.open("/").text
    assert ada.open("/logout", token).status == 302
    assert "stranger" in ada.open("/").text
    assert ada.open("/counter").json == {"count": 1}


def test_cookies_come_one_by_one_and_go_together(server: Server) -> None:
    browser = Browser(server)
    browser.open("/counter")
    answer = browser.open("/cookies", headers={"Cookie": "three=3"})
    sent = answer.headers.get_all("Set-Cookie", [])
    assert [cookie.partition("=")[0] for cookie in sent] == ["one", "two", "three"], sent
    assert {cookie.name for cookie in browser.jar} >= {"one", "two"}
    assert browser.open("/counter").json == {"count": 2}, "the session's cookie came beside the others"


def test_one_connection_carries_it_all(server: Server) -> None:
    with closing(connect(server)) as client:
        statuses = [ask(client, *what).status for what in (
            ("GET", "/"), ("HEAD", "/"), ("POST", "/ignore", b"x" * 10_000), ("GET", "/stream/2"), ("GET", "/missing"),
            ("HEAD", "/stream/2"), ("POST", "/json", b'{"a": "\xc3\xa9"}', {"Content-Type": "application/json"}),
            ("GET", "/crash"), ("GET", "/json"), ("POST", "/body", b"abc"))]
        assert statuses == [200, 200, 200, 200, 404, 200, 200, 500, 405, 200]
    server.wait_until_over(1)
    assert server.taskmaster.snapshot().accepted == 1
    assert probe["finished"] == probe["closed"] == len(statuses)
    assert (probe["made"], probe["ended"]) == (2, 1), "a HEAD ran the generator"


def test_json_there_and_back(server: Server) -> None:
    kind = {"Content-Type": "application/json"}
    with closing(connect(server)) as client:
        answer = ask(client, "POST", "/json", json.dumps({"naïve": [1, None, "Ł"]}).encode(), kind)
        assert (answer.headers.get_content_type(), answer.json) == ("application/json", {"naïve": [1, None, "Ł"]})
        assert ask(client, "POST", "/json", b'{"a":', kind).status == 400


def test_errors_have_the_pages_of_the_application_and_the_server_goes_on(server: Server) -> None:
    with closing(connect(server)) as client:
        missing = ask(client, "GET", "/missing")
        assert (missing.status, missing.headers.get_content_type()) == (404, "text/html")
        assert "This page of the application says: 404 Not Found" in missing.text
        wrong = ask(client, "GET", "/json")
        assert wrong.status == 405
        assert "POST" in wrong.headers["Allow"]
        crashed = ask(client, "GET", "/crash")
        assert crashed.status == 500
        assert "This page of the application says: 500 Internal Server Error" in crashed.text
        assert ask(client, "GET", "/counter").json == {"count": 1}


def test_what_is_not_ascii_passes_both_ways_in_headers(server: Server) -> None:
    with server.connect() as client:
        client.send(request("/headers", headers=["X-Echo: café, \x80"]))
        assert client.read_response().header("x-echo") == "café, \x80"


# Uploads.


@cache
def upload_piece(number: int) -> bytes:
    """Megabyte `number` of an upload; each differs from its neighbours."""
    return random.Random(number).randbytes(MIB)


def upload(size: int) -> Iterator[bytes]:
    for number in range(size // MIB):
        yield upload_piece(number % 7)


@cache
def expected(size: int) -> dict[str, Any]:
    return {"size": size, "sha256": str(Digest(upload(size)))}


BOUNDARY = "----a-boundary-7d3f"
FORM_HEAD = (f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="title"\r\n\r\nÜber\r\n--{BOUNDARY}\r\n'
             'Content-Disposition: form-data; name="file"; filename="Daten Ł.bin"\r\n'
             "Content-Type: application/octet-stream\r\n\r\n").encode()
FORM_END = f"\r\n--{BOUNDARY}--\r\n".encode()
MULTIPART = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def form(size: int) -> Iterator[bytes]:
    """What a browser sends for a form with a text and a file of `size` bytes."""
    return itertools.chain([FORM_HEAD], upload(size), [FORM_END])


def with_length(size: int) -> dict[str, str]:
    return {**MULTIPART, "Content-Length": str(len(FORM_HEAD) + size + len(FORM_END))}


def test_a_form_with_a_file_of_100_mb(server: Server) -> None:
    with closing(connect(server)) as client:
        answer = ask(client, "POST", "/upload", form(UPLOAD), with_length(UPLOAD))
        assert answer.json == {"title": "Über", "name": "Daten Ł.bin", **expected(UPLOAD)}
        assert ask(client, "GET", "/counter").status == 200


def test_a_raw_body_of_any_size_waits_for_the_application_to_ask_for_it(server: Server) -> None:
    with server.connect() as client:
        client.send(request("/body", method="POST", headers=["Expect: 100-continue", f"Content-Length: {4 * MIB}"]))
        assert client.read_interim() == 100
        for piece in upload(4 * MIB):
            client.send(piece)
        assert json.loads(client.read_response("POST").body) == expected(4 * MIB)


def test_flask_reads_chunked_bodies_and_django_takes_them_for_empty(site: Site) -> None:
    """Without CONTENT_LENGTH Django reads nothing, whatever the server says: WSGIRequest takes it for 0. Where clients
    send chunks, a proxy has to buffer them (nginx does), or `django_app.known_length` around the application."""
    with closing(connect(site.start())) as client:
        if site.name == "flask":
            assert ask(client, "POST", "/body", upload(2 * MIB)).json == expected(2 * MIB)
            sent = ask(client, "POST", "/upload", form(UPLOAD), MULTIPART)
            assert sent.json == {"title": "Über", "name": "Daten Ł.bin", **expected(UPLOAD)}
        else:
            assert ask(client, "POST", "/body", upload(2 * MIB)).json["size"] == 0
            client.close()  # what it has not read ended the connection
            assert ask(client, "POST", "/upload", form(2 * MIB), MULTIPART).json["name"] is None


def test_a_middleware_tells_django_the_length_of_chunked_bodies(site: Site) -> None:
    with closing(connect(site.start(django_app.known_length(site.app)))) as client:
        assert ask(client, "POST", "/body", upload(2 * MIB)).json == expected(2 * MIB)
        sent = ask(client, "POST", "/upload", form(2 * MIB), MULTIPART)
        assert sent.json == {"title": "Über", "name": "Daten Ł.bin", **expected(2 * MIB)}
        assert ask(client, "GET", "/").status == 200


@pytest.mark.parametrize(("path", "status"), [("/ignore", {200}), ("/limited", {400, 413})])
def test_an_answer_that_does_not_wait_for_a_large_body_arrives(
        server: Server, model: Model, path: str, status: set[int]) -> None:
    with closing(connect(server)) as client:
        client.request("POST", path, upload(20 * MIB), {"Content-Length": str(20 * MIB)})
        response = client.getresponse()
        assert response.status in status
        assert response.read()
        assert response.will_close or model.buffers, "the connection is about to end, and the answer does not say so"
    server.wait_until_over(1)
    assert probe["finished"] == probe["closed"] == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # both leave a temporary file open then
@pytest.mark.parametrize("path", ["/body", "/upload"])
def test_a_client_that_leaves_in_the_middle_of_its_upload_ends_one_request(
        server: Server, model: Model, path: str, caplog: pytest.LogCaptureFixture) -> None:
    for logger in "django.request", flask_app.app.logger.name:
        caplog.set_level(logging.CRITICAL + 1, logger)  # a record would keep the traceback, and that the file
    with server.connect() as client:
        lines = [f"{name}: {value}" for name, value in with_length(UPLOAD).items()]
        client.send(request(path, method="POST", headers=lines))
        client.send(FORM_HEAD + b"x" * MIB)
        client.reset()
    server.wait_until_over(1)
    assert probe["finished"] == probe["closed"] == (0 if model.buffers else 1)
    assert Browser(server).open("/").status == 200
    gc.collect()


# Downloads.


def test_the_first_piece_arrives_before_the_last_is_made(server: Server) -> None:
    with server.connect() as client:
        client.send(request("/gated"))
        assert client.read_head() == 200
        assert client.read_body(6) == b"first\n"
        assert probe["ended"] == 0
        probe.gate.open()
        assert client.read_response().body == b"last\n"
    probe.wait_for("closed", 1)
    assert probe["ended"] == probe["finished"] == 1


def test_a_download_is_made_as_it_is_taken(server: Server) -> None:
    count = 512  # 32 MiB: far more than the buffers between the two hold
    with closing(connect(server)) as client:
        client.request("GET", f"/stream/{count}")
        response = client.getresponse()
        digest = Digest([response.read(PIECE)])
        assert probe["made"] < count, "all of it was made before anybody took it"
        rest = Digest(iter(lambda: response.read(MIB), b""))
        assert (digest.size, digest.size + rest.size) == (PIECE, count * PIECE)
        assert str(rest) == str(Digest(bytes([number % 256]) * PIECE for number in range(1, count)))
    probe.wait_for("closed", 1)
    assert probe["ended"] == probe["finished"] == 1


def test_a_client_that_leaves_in_the_middle_of_its_download_ends_the_generator(server: Server) -> None:
    with server.connect() as client:
        client.send(request("/stream/100000"))
        client.read_head()
        client.read_body(PIECE)
        client.reset()
    server.wait_until_over(1)
    assert probe["ended"] == probe["finished"] == probe["closed"] == 1
    assert probe["made"] < 100_000
    assert Browser(server).open("/").status == 200


def test_a_response_that_fails_halfway_is_cut_so_that_the_client_sees_it(server: Server) -> None:
    with server.connect() as client:
        client.send(request("/halfway"))
        assert client.read_head() == 200
        assert client.read_body(6) == b"first\n"
        with pytest.raises((Truncated, ConnectionResetError)):
            client.read_response()
    server.wait_until_over(1)
    assert probe["ended"] == probe["finished"] == probe["closed"] == 1
    assert ["halfway" in error for error in server.errors] == [True]
    server.records.clear()
    assert Browser(server).open("/").status == 200


def test_a_file_with_conditions_ranges_and_a_name(site: Site, tmp_path: Path) -> None:
    """Flask's send_file does ranges, Django's FileResponse does not."""
    content = b"".join(b"line %6d\n" % number for number in range(100_000))
    probe.file = tmp_path / "file"
    probe.file.write_bytes(content)
    server = site.start()
    with closing(connect(server)) as client:
        whole = ask(client, "GET", "/file")
        assert (whole.status, whole.headers["Content-Length"], whole.body) == (200, str(len(content)), content)
        assert f"filename*=utf-8''{urllib.parse.quote(FILE_NAME)}" in (
            whole.headers["Content-Disposition"].replace("UTF-8", "utf-8"))  # RFC 6266 section 4.3
        head = ask(client, "HEAD", "/file")
        assert (head.status, head.headers["Content-Length"], head.body) == (200, str(len(content)), b"")
        unchanged = ask(client, "GET", "/file", headers={"If-None-Match": whole.headers["ETag"]})
        assert (unchanged.status, unchanged.body, unchanged.headers["ETag"]) == (304, b"", whole.headers["ETag"])
        since = ask(client, "GET", "/file", headers={"If-Modified-Since": whole.headers["Last-Modified"]})
        assert (since.status, since.body) == (304, b"")
        part = ask(client, "GET", "/file", headers={"Range": "bytes=900000-900011"})
        beyond = ask(client, "GET", "/file", headers={"Range": "bytes=99000000-"})
        assert ask(client, "GET", "/file", headers={"If-None-Match": '"another"'}).body == content
    if site.name == "flask":
        assert (part.status, part.body, part.headers["Content-Range"]) == (
            206, content[900_000:900_012], f"bytes 900000-900011/{len(content)}")
        assert beyond.status == 416
    else:
        assert (part.status, part.body) == (beyond.status, beyond.body) == (200, content)
    probe.wait_for("finished", 7)
    server.wait_until_over(1)
    assert descriptors(probe.file) == 0, "the file is still open"


# Threads.


def test_fifty_clients_at_once_get_each_their_own(site: Site, model: Model) -> None:
    server = site.start(taskmaster=FOR_FIFTY.get(model.name, model)())
    if model.concurrent:
        probe.pair = threading.Barrier(2)  # no request is alone: another one is in progress, and puts its token down
    together = threading.Barrier(50)

    def run(number: int) -> list[dict[str, str]]:
        browser = Browser(server)
        together.wait(PATIENCE)
        return [browser.open(f"/mine/{number}-{turn}").json for turn in range(2)]

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(run, range(50)))
    for number, turns in enumerate(answers):
        for turn, answer in enumerate(turns):
            token = f"{number}-{turn}"
            assert answer.pop("url") == f"/mine/{token}"
            assert set(answer.values()) == {token}, answer
    probe.wait_for("finished", 100)
    assert descriptors(django_app.database()) == 0, "a connection of Django's has outlived its request"


def test_asynchronous_views_work_too(server: Server) -> None:
    """Both frameworks do that by themselves: an event loop for each call."""
    with closing(connect(server)) as client:
        assert [ask(client, "GET", "/async").json for _ in range(3)] == [{"path": "/async"}] * 3


# Behind a proxy.


def test_urls_are_those_of_the_client_behind_a_trusted_proxy(site: Site) -> None:
    browser = Browser(site.start(trusted_proxies=["127.0.0.1"]), BEHIND_A_PROXY)
    assert browser.open("/where").json == {"url": "https://shop.example/where", "secure": True, "client": "203.0.113.7"}
    redirected = browser.open("/about")
    # The one is absolute, the other relative; both are right: RFC 9110 section 10.2.2.
    assert (redirected.status, redirected.headers["Location"]) == (
        (308, "https://shop.example/about/") if site.name == "flask" else (301, "/about/"))


def test_nobody_else_may_say_who_the_client_is(site: Site) -> None:
    server = site.start()
    answer = Browser(server, BEHIND_A_PROXY).open("/where").json
    assert answer == {"url": f"{server.url}/where", "secure": False, "client": "127.0.0.1"}


def test_a_form_that_was_made_over_https_is_taken_behind_a_trusted_proxy_only(site: Site) -> None:
    """Django compares Origin with the scheme and the host that it sees, and so needs them right."""
    headers = {**BEHIND_A_PROXY, "Origin": "https://shop.example"}
    for trusted, status in (["127.0.0.1"], 302), ([], 302 if site.name == "flask" else 403):
        browser = Browser(site.start(trusted_proxies=trusted), BEHIND_A_PROXY)
        assert browser.open("/login", {"user": "Ada", **browser.token()}, headers).status == status


def test_an_application_may_be_mounted_below_a_path(site: Site) -> None:
    server = site.start(script_name="/shöp", trusted_proxies=["127.0.0.1"])
    browser = Browser(server, BEHIND_A_PROXY)
    url, page = browser.open("/sh%C3%B6p/where").json["url"], browser.open("/sh%C3%B6p/").text
    assert urllib.parse.unquote(url) == "https://shop.example/shöp/where"  # Flask leaves the ö as it is
    assert 'href="/shöp/login"' in urllib.parse.unquote(page)
    assert browser.open("/where").status == 404
