"""The status page: what it says of a real server of each model, to whom it says it, and when no thread is free."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acceptor import Acceptor, Headers, Hooks, Request, Response
from acceptor.health import Health
from acceptor.recording import STATES
from handlers import Dispatcher, Status
from handlers.scoreboard import StatusNow, idle
from handlers.status_page import page
from taskmaster import (
    PooledTaskmaster,
    PreforkTaskmaster,
    RecyclingTaskmaster,
    SingleThreadedTaskmaster,
    Taskmaster,
)
from tests.clients import PATIENCE, Gate, RawClient, Received, request
from tests.conftest import Model, Serve, Server
from tests.test_prefork import Crossing

SECRET = "token=hunter2"
EVIL = "<script>alert('x')</script>\"&"


class App:
    """/status; /slow, which waits for `gate`; anything else answers at once."""

    def __init__(self, **options: Any) -> None:
        self.status = Status("/status", **options)
        self.gate = Gate("the slow handlers may go on")
        self.entered = threading.Semaphore(0)

    def __call__(self, request: Request) -> Response:
        if (answer := self.status.answer(request)) is not None:
            return answer
        if request.path.startswith("/slow"):
            self.entered.release()
            self.gate.pass_through()
        return Response("done")

    def wait_for(self, count: int) -> None:
        """Until so many more are in /slow."""
        for _ in range(count):
            assert self.entered.acquire(timeout=PATIENCE)

    @property
    def options(self) -> dict[str, Any]:
        """Of the Acceptor."""
        return {"urgent": self.status.answer, "hooks": Hooks(starting=self.status.show)}


@contextmanager
def running(app: App, taskmaster: Taskmaster, **options: Any) -> Iterator[Acceptor]:
    with Acceptor(app, port=0, taskmaster=taskmaster, **app.options, **options) as acceptor:
        try:
            yield acceptor
        finally:
            app.gate.open()


def ask(port: int, query: str = "json", method: str = "GET") -> Received:
    with RawClient.connect(port) as client:
        client.send(request(f"/status?{query}", method=method, headers=["Connection: close"]))
        return client.read_response(method)


def now(port: int) -> StatusNow:
    answer = ask(port)
    assert answer.status == 200, answer
    status: StatusNow = json.loads(answer.body)
    return status


def until(port: int, letters: str) -> StatusNow:
    """Ask until the scoreboard, sorted and without those who wait for work, is that; the one that asks is an H."""
    for _ in range(2000):
        status = now(port)
        found = "".join(sorted(row["state"] for row in status["scoreboard"] if row["state"] not in "A_SQX"))
        if found == letters:
            return status
    raise AssertionError(f"{found}, not {letters}")


class Page(HTMLParser):
    """What a browser would make of it: text, and elements that load, run or lead somewhere."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.tags: Counter[str] = Counter()
        self.links: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        if tag != "meta":
            self._open.append(tag)
        self.links += [value or "" for name, value in attributes if name in ("href", "src", "action", "data", "srcset")]
        assert not any(name.startswith("on") for name, _ in attributes)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> in the wrong place"

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.text.append(data.strip())


# The numbers, with each model.


def test_a_server_at_rest_shows_the_one_request_that_asks(serve: Serve, model: Model) -> None:
    app = App()
    server = serve(app, **app.options)
    status = now(server.port)
    assert (status["name"], status["model"], status["process"]) == (
        server.acceptor.name, type(server.taskmaster).__name__, os.getpid())
    connections = status["connections"]
    assert [connections[each] for each in ("open", "queued", "accepted", "served", "refused")] == [1, 0, 1, 0, 0]
    assert connections["kernel_limit"] == 1024
    [mine] = [row for row in status["scoreboard"] if row["connection"] is not None]
    assert (mine["state"], mine["request"], mine["client"], mine["connection"]) == ("H", "GET /status", None, 1)
    assert 0 <= (mine["seconds"] or 0) < PATIENCE
    if not model.offloads:
        assert server.acceptor.name in mine["thread"]
        assert status["threads"]["serving"] == 1
    else:  # or the loop's, which may not have parked it yet
        assert mine["thread"] == "(executor)" or mine["thread"].startswith("loop-")
    names = [row["thread"] for row in status["scoreboard"] if row["thread"] != "(executor)"]
    assert len(names) == len(set(names)) == sum(status["threads"].values())
    assert {row["state"] for row in status["scoreboard"]} <= set(STATES) - {"."}
    assert status["processes"] == []


def test_requests_that_wait_in_their_handlers_are_counted(serve: Serve, model: Model) -> None:
    if not model.concurrent:
        pytest.skip("one request at a time: then nobody is there to ask")
    app = App()
    server = serve(app, **app.options)
    clients = [server.connect() for _ in range(3)]
    try:
        for client in clients:
            client.send(request(f"/slow/{EVIL.replace(' ', '')}?{SECRET}"))
        app.wait_for(3)
        status = now(server.port)
        connections, threads = status["connections"], status["threads"]
        assert (connections["accepted"], connections["open"], connections["served"]) == (4, 4, 0)
        assert connections["accepted"] == (connections["queued"] + connections["parked"] + threads["serving"]
                                           + connections["served"] + connections["refused"])
        busy = Counter(row["request"] for row in status["scoreboard"] if row["state"] == "H")
        assert busy == {f"GET /slow/{EVIL}": 3, "GET /status": 1}
        if not model.offloads:
            assert (threads["serving"], connections["parked"], connections["queued"]) == (4, 0, 0)
        assert lines_of(server)["Scoreboard"].count("H") == 4
    finally:
        app.gate.open()
    for client in clients:
        assert client.read_response().body == b"done"


def lines_of(server: Server) -> dict[str, str]:
    answer = ask(server.port, "auto")
    assert answer.header("content-type") == "text/plain; charset=utf-8"
    return dict(line.split(": ", 1) for line in answer.body.decode().splitlines())


def test_the_lines_for_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    status, app = a_status(), App()
    with running(app, PooledTaskmaster(threads=2)) as acceptor:
        monkeypatch.setattr("handlers.status.read", lambda *of, **how: status)
        first = ask(acceptor.port, "auto").body.decode()
        status["connections"].update(kernel=3, kernel_limit=1024)  # type: ignore[call-arg]
        status["processes"] = [{"process": 1, "state": "ready", "requests": 1, "memory": 1, "threads": {}}] * 4
        status["scoreboard"] *= 3
        second = ask(acceptor.port, "auto").body.decode()
    assert first.splitlines() == [
        f"Server: {EVIL}", f"Model: {EVIL}", "Process: 1", "Total Connections: 8", "Served: 9", "Refused: 10",
        "BusyWorkers: 4", "IdleWorkers: 2", "Open: 5", "Queued: 6", "Parked: 7", "Scoreboard: H"]
    assert second.splitlines() == [
        *first.splitlines()[:-1], "Kernel: 3", "KernelLimit: 1024", "Processes: 4", "Scoreboard: HHH"]


def a_status() -> StatusNow:
    """With something evil in every text."""
    return {
        "name": EVIL, "model": EVIL, "process": 1, "max_thread_count": 6, "max_accept_count": None,
        "threads": {"starting": 1, "accepting": 2, "waiting": 3, "serving": 4, "leaving": 5},
        "connections": {"open": 5, "kernel": None, "kernel_limit": None, "queued": 6, "parked": 7, "accepted": 8,
                        "served": 9, "refused": 10},
        "violations": {EVIL: 1},
        "scoreboard": [{"state": "H", "thread": EVIL, "seconds": 1.0, "connection": 1, "request": EVIL,
                        "client": EVIL}],
        "processes": []}


@pytest.mark.parametrize("taskmaster", [lambda: PooledTaskmaster(threads=4, idle="hold"),
                                        lambda: RecyclingTaskmaster(standby=4, max_thread_count=4, idle="hold")],
                         ids=["pooled", "recycling"])
def test_threads_that_read_and_threads_that_hold_an_idle_connection(taskmaster: Callable[[], Taskmaster]) -> None:
    app = App()
    with running(app, taskmaster()) as acceptor, RawClient.connect(acceptor.port) as reads, \
            RawClient.connect(acceptor.port) as idles:
        for client in (idles, reads):
            client.send(request("/"))
            assert client.read_response().body == b"done"
        reads.send(b"GET /half")
        status = until(acceptor.port, "HKR")
        rows = {row["state"]: row for row in status["scoreboard"]}
        assert (rows["R"]["request"], rows["K"]["request"]) == (None, None), "they have none now"
        assert status["connections"]["open"] == status["threads"]["serving"] == 3


def test_a_taskmaster_without_a_register_shows_those_who_have_a_connection() -> None:
    class Mine(SingleThreadedTaskmaster):
        states = None  # type: ignore[assignment]

    app = App()
    with running(app, Mine()) as acceptor:
        [row] = now(acceptor.port)["scoreboard"]
    assert (row["state"], row["request"]) == ("H", "GET /status")
    assert acceptor.name in row["thread"]


def test_violations_are_shown() -> None:
    app = App()
    with running(app, PooledTaskmaster(threads=2)) as acceptor:
        with RawClient.connect(acceptor.port) as client:
            client.send(b"GET / HTTP/1.1\nHost: test\r\n\r\n")
            assert client.read_response().status == 400
        assert now(acceptor.port)["violations"] == {"bare_lf": 1}
        assert "bare_lf" in Page(ask(acceptor.port, "").body.decode()).text


@given(st.none() | st.integers(1, 50), *[st.integers(0, 50)] * 3)
def test_idle_threads_are_never_more_than_may_serve(limit: int | None, accepting: int, waiting: int, serving: int
                                                    ) -> None:
    status: Any = {"max_thread_count": limit,
                   "threads": {"accepting": accepting, "waiting": waiting, "serving": serving}}
    assert 0 <= idle(status) <= accepting + waiting
    if limit is not None and serving <= limit:
        assert idle(status) + serving <= limit


# The page.


def test_the_page_is_whole_and_needs_nothing_from_elsewhere(serve: Serve) -> None:
    app = App()
    server = serve(app, **app.options)
    answer = ask(server.port, "")
    html = answer.body.decode()
    shown = Page(html)
    assert answer.header("content-type") == "text/html; charset=utf-8"
    assert answer.header("cache-control") == "no-store"
    assert "default-src 'none'" in (answer.header("content-security-policy") or "")
    assert shown.links == ["?refresh=2", "?auto", "?json"]
    assert not {"script", "link", "img", "iframe", "object"} & set(shown.tags)
    assert "url(" not in html
    assert "@import" not in html
    for text in (server.acceptor.name, "threads serving", "queued", "GET /status"):
        assert text in shown.text, text
    assert "--control" in html, "it says what to do when it does not answer"


def test_everything_is_escaped() -> None:
    html = page(a_status(), None)
    shown = Page(html)
    assert "<script" not in html
    assert shown.text.count(EVIL) == 5, "name, thread, request, client, violation"
    assert shown.tags["title"] == 1


def test_a_target_with_a_script_is_shown_as_text() -> None:
    app = App(queries=True)
    with running(app, PooledTaskmaster(threads=2)) as acceptor, RawClient.connect(acceptor.port) as client:
        client.send(request(f"/slow?{EVIL.replace(' ', '')}"))
        app.wait_for(1)
        html = ask(acceptor.port, "").body.decode()
        assert "<script" not in html
        assert f"GET /slow?{EVIL}" in Page(html).text
        app.gate.open()


@pytest.mark.parametrize("target", [f"/slow?{SECRET}", f"http://{SECRET}@test/slow?{SECRET}"], ids=["path", "absolute"])
def test_queries_and_addresses_are_shown_to_those_who_want_them_only(target: str) -> None:
    for shown in (False, True):
        app = App(queries=shown, clients=shown)
        with running(app, PooledTaskmaster(threads=2), allow=["INVALID_HOST", "MISMATCHED_HOST", "INVALID_TARGET"]
                     ) as acceptor, RawClient.connect(acceptor.port) as client:
            client.send(request(target))
            app.wait_for(1)
            address = "{}:{}".format(*client.sock.getsockname())
            for query in ("", "json", "auto"):
                said = ask(acceptor.port, query).body.decode()
                assert (SECRET in said, address in said) == ((shown and query != "auto",) * 2), query
                assert query == "auto" or "/slow" in said
            app.gate.open()


@pytest.mark.parametrize(("query", "seconds"), [("refresh=2", "2"), ("refresh=3600", "3600"), ("", None),
                                                ("refresh=0", None), ("refresh=3601", None), ("refresh=x", None),
                                                ("refresh=1&refresh=2", "1"), (f"refresh={'9' * 5000}", None),
                                                ("refresh=²", None), ("refresh=", None), ('refresh=1"', None)])
def test_a_browser_is_told_to_load_it_again_if_somebody_asks(query: str, seconds: str | None) -> None:
    status = Status()
    with Acceptor(status, port=0, taskmaster=SingleThreadedTaskmaster(), hooks=Hooks(starting=status.show)):
        body = status(a_request(f"/status?{query}")).body
    assert isinstance(body, bytes)
    assert (b'<meta http-equiv="refresh"' in body) == (seconds is not None)
    assert seconds is None or f'content="{seconds}"'.encode() in body


# Who is shown, and when.


def a_request(target: str = "/status", method: str = "GET") -> Request:
    return Request(method, target, "1.1", Headers([]))


def test_as_long_as_there_is_nothing_to_show_it_says_what_to_do() -> None:
    status = Status()
    acceptor = Acceptor(status, port=0, taskmaster=SingleThreadedTaskmaster())
    assert status(a_request()).status == 503
    assert b"Hooks(starting=status.show)" in status(a_request()).body
    status.show(acceptor)
    assert status(a_request()).status == 503, "it has not been started"
    with acceptor:
        assert status(a_request()).status == 200
        assert now(acceptor.port)["name"] == acceptor.name


def test_it_answers_get_and_head_only() -> None:
    app = App()
    with running(app, PooledTaskmaster(threads=2)) as acceptor:
        assert ask(acceptor.port, method="HEAD").body == b""
        refused = ask(acceptor.port, method="DELETE")
        assert (refused.status, refused.header("allow")) == (405, "GET, HEAD")


def test_what_is_not_its_path_is_somebody_elses() -> None:
    status = Status("/server-status")
    assert status.answer(a_request("/status")) is None
    assert status.answer(a_request("/server-status/")) is None
    assert status.answer(a_request("/server-status?auto")) is not None


@pytest.mark.parametrize("path", ["status", "", "/status?auto", None])
def test_a_path_that_is_none_is_refused(path: Any) -> None:
    with pytest.raises(ValueError, match='pass a path, which begins with "/"'):
        Status(path)


def test_what_is_no_acceptor_is_refused() -> None:
    with pytest.raises(TypeError, match="pass the Acceptor"):
        Status().show(SimpleNamespace())  # type: ignore[arg-type]


def test_beside_health_checks_in_a_dispatcher_as_the_module_says() -> None:
    status = Status("/status")
    site = Dispatcher()
    site.add_route(status.path, status)
    site.add_route("/", lambda request: "home")
    health = Health(site)
    with Acceptor(health, port=0, urgent=lambda request: health.answer(request) or status.answer(request),
                  hooks=Hooks(starting=status.show), taskmaster=PooledTaskmaster(threads=2)) as acceptor, \
            RawClient.connect(acceptor.port) as client:
        answers = {}
        for path in ("/", "/livez", "/readyz", "/status?auto"):
            client.send(request(path))
            answers[path] = client.read_response().body.partition(b":")[0]
    assert answers == {"/": b"home", "/livez": b"ok\n", "/readyz": b"ok\n", "/status?auto": b"Server"}


# When no thread is free.


@pytest.mark.parametrize("queue", [0, 2], ids=["refused", "queued"])
@pytest.mark.parametrize("idle", ["hold", "park"])
@pytest.mark.parametrize("make", [lambda **options: PooledTaskmaster(threads=2, queue_size=options.pop("queue"),
                                                                     **options),
                                  lambda **options: RecyclingTaskmaster(
                                      max_thread_count=2, max_accept_count=options.pop("queue"), **options)],
                         ids=["pooled", "recycling"])
def test_it_is_answered_when_every_thread_is_stuck(make: Callable[..., Taskmaster], idle: str, queue: int) -> None:
    app = App()
    with running(app, make(idle=idle, queue=queue)) as acceptor:
        stuck = [RawClient.connect(acceptor.port) for _ in range(2)]
        for client in stuck:
            client.send(request("/slow"))
        app.wait_for(2)
        status = now(acceptor.port)
        assert status["threads"]["serving"] == status["max_thread_count"] == 2
        assert [row["request"] for row in status["scoreboard"] if row["request"]] == ["GET /slow"] * 2
        assert Page(ask(acceptor.port, "").body.decode()).text.count("GET /slow") == 2
        assert b"\nIdleWorkers: 0\n" in ask(acceptor.port, "auto").body
        app.gate.open()
        for client in stuck:
            assert client.read_response().body == b"done"
            client.close()


def test_without_urgent_it_waits_as_all_do() -> None:
    app = App()
    with Acceptor(app, port=0, taskmaster=PooledTaskmaster(threads=1, queue_size=0),
                  hooks=Hooks(starting=app.status.show)) as acceptor, RawClient.connect(acceptor.port) as stuck:
        stuck.send(request("/slow"))
        app.wait_for(1)
        assert ask(acceptor.port).status == 503
        app.gate.open()
        stuck.read_response()


# In several processes.


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_of_worker_processes_it_shows_the_numbers_of_all_and_the_threads_of_one() -> None:
    crossing, status = Crossing(), Status("/status", clients=True)

    def handler(request: Request) -> Response:
        if (answer := status.answer(request)) is not None:
            return answer
        crossing.pass_through()
        return Response("done")

    with Acceptor(handler, port=0, taskmaster=PreforkTaskmaster(PooledTaskmaster(threads=4), 2),
                  hooks=Hooks(starting=status.show)) as acceptor:
        slow = [RawClient.connect(acceptor.port) for _ in range(3)]
        for client in slow:
            client.send(request("/slow"))
        pids = Counter(crossing.wait_for(3))
        seen = now(acceptor.port)
        html = Page(ask(acceptor.port, "").body.decode())
        lines = ask(acceptor.port, "auto").body.decode()
        crossing.open(3)
        for client in slow:
            assert client.read_response().body == b"done"
            client.close()
        workers = {each.pid for each in acceptor.taskmaster.processes()}  # type: ignore[attr-defined]
    crossing.close()
    assert (seen["model"], seen["max_thread_count"]) == ("PreforkTaskmaster", 8)
    assert seen["connections"]["open"] == seen["connections"]["accepted"] == seen["threads"]["serving"] == 4
    assert {each["process"] for each in seen["processes"]} == workers
    assert seen["process"] in workers
    assert sum(each["threads"]["serving"] for each in seen["processes"]) == 4
    assert sum(each["requests"] for each in seen["processes"]) == 4
    here = Counter(row["request"] for row in seen["scoreboard"] if row["request"])
    assert here == Counter({"GET /slow": pids[seen["process"]], "GET /status": 1}) + Counter()
    assert len(seen["scoreboard"]) == 1 + 4, "it accepts, and its workers"
    assert "Threads of this process" in html.text
    assert "\nProcesses: 2\n" in lines
