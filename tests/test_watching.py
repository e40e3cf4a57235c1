"""Watching a server: what its sources say, what the control server serves, and to whom."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acceptor import Acceptor, Request, Response
from acceptor.recording import Step
from taskmaster import (
    PooledTaskmaster,
    PreforkTaskmaster,
    RecyclingTaskmaster,
    SingleThreadedTaskmaster,
    Snapshot,
    Taskmaster,
    ThreadPerConnectionTaskmaster,
    ThreadState,
)
from tests.clients import PATIENCE
from watching import ControlServer, LocalSource, RemoteSource, SourceError, control_for
from watching.bursts import burst_of
from watching.counts import BOUNDS, ResponseCounts, quantile
from watching.lanes import Rows
from watching.messages import LaneSteps, Sample, Steps
from watching.pieces import steps_in_pieces

MODELS = [SingleThreadedTaskmaster, ThreadPerConnectionTaskmaster, lambda: PooledTaskmaster(threads=3),
          RecyclingTaskmaster, lambda: RecyclingTaskmaster(idle="hold")]


def get(url: str, **headers: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def wait_until(condition: Callable[[], bool]) -> None:
    """Look again and again: numbers tell nobody when they change."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited {PATIENCE:g} s in vain"
        time.sleep(0.002)


def settle(acceptor: Acceptor) -> None:
    """Until all is counted: a client may have its response before."""
    wait_until(lambda: acceptor.taskmaster.snapshot().served == acceptor.taskmaster.snapshot().accepted)


def hello(request: Request) -> Response:
    return Response("hello", int(request.target.partition("=")[2] or 200))


class Gated:
    """A handler that answers when it may."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()

    def __call__(self, request: Request) -> str:
        self.entered.release()
        assert self.open.wait(10)
        return "done"


@contextmanager
def client_of(acceptor: Acceptor) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(acceptor.host, acceptor.port, timeout=10)
    try:
        yield connection
    finally:
        connection.close()


# What a source says.

@pytest.mark.parametrize("make", MODELS)
def test_at_rest_a_sample_agrees_with_the_snapshot_and_with_what_clients_have_read(make: Any) -> None:
    taskmaster: Taskmaster = make()
    with Acceptor(hello, port=0, taskmaster=taskmaster) as acceptor:
        source = LocalSource(acceptor)
        source.look()
        for status in (200, 200, 404, 503, 204):
            assert get(f"{acceptor.urls[0]}/?status={status}")[0] == status
        with client_of(acceptor) as client:
            for _ in range(3):
                client.request("GET", "/")
                client.getresponse().read()
        settle(acceptor)
        sample, snapshot = source.sample(), taskmaster.snapshot()
        assert sample["responses"]["total"] == sample["histogram"]["count"] == 8
        assert sample["responses"]["by_class"] == {"2xx": 6, "4xx": 1, "5xx": 1}
        now = sample["connections"]
        assert (now["accepted"], now["served"], now["refused"], now["queued"], now["parked"]) == (
            snapshot.accepted, snapshot.served, snapshot.refused, snapshot.queued, snapshot.parked) == (6, 6, 0, 0, 0)
        assert now["open"] == acceptor.connection_count == 0
        assert sample["threads"] == {state.word: count for state, count in snapshot.threads.items()}
        assert sample["threads_started"] == sum(snapshot.grown.values())
        assert sum(lane["thread"] is not None for lane in sample["lanes"]) == snapshot.thread_count


@pytest.mark.parametrize("make", MODELS)
def test_a_lane_shows_what_its_thread_does(make: Any) -> None:
    handler = Gated()
    with Acceptor(handler, port=0, taskmaster=make()) as acceptor, client_of(acceptor) as client:
        source = LocalSource(acceptor, "me", queries=True)
        try:
            client.request("GET", "/slow?x=1")
            assert handler.entered.acquire(timeout=10)
            port = client.sock.getsockname()[1]
            sample = source.sample()
            [lane] = [lane for lane in sample["lanes"] if lane["state"] == "H"]
            assert (lane["request"], lane["client"], lane["connection"]) == ("GET /slow?x=1", f"127.0.0.1:{port}", 1)
            assert lane["thread"] in {thread.name for thread in threading.enumerate()}
            assert lane["since"] is not None
            assert 0 <= sample["time"] - lane["since"] < 10
            assert all(other["since"] is None for other in sample["lanes"] if other["connection"] == 0)
            assert "GET /slow?x=1" in source.stacks()
            assert "assert self.open.wait(10)" in source.stacks()
            said = source.steps(0.001)
            [steps] = [each["steps"] for each in said["lanes"] if each["lane"] == lane["lane"]]
            assert [(state, number, about) for _, state, number, about in steps] == [("H", 1, ("GET", "/slow?x=1"))]
            assert steps[0][0] <= said["begin"] < said["end"]
        finally:
            handler.open.set()
        assert client.getresponse().read() == b"done"


def test_before_the_start_and_after_the_stop_there_is_a_sample_too() -> None:
    acceptor = Acceptor(hello, port=0, taskmaster=RecyclingTaskmaster())
    source = LocalSource(acceptor)
    assert source.sample()["lanes"] == []
    assert source.sample()["connections"]["kernel"] is None
    with pytest.raises(SourceError, match="has not been started"):
        source.steps(0.001)
    for total in (1, 2):  # it may be started again, and is counted on
        with acceptor:
            source.look()
            get(acceptor.urls[0])
        assert source.sample()["responses"]["total"] == total
    assert all(lane["thread"] is None for lane in source.sample()["lanes"])
    source.detach()
    with acceptor:
        get(acceptor.urls[0])
        assert acceptor.run is not None
        assert acceptor.run.service.counter is None
    assert source.sample()["responses"]["total"] == 2


def test_two_cannot_record_at_once_but_can_wait_for_each_other() -> None:
    with Acceptor(hello, port=0, taskmaster=RecyclingTaskmaster()) as acceptor:
        source = LocalSource(acceptor)
        both = [threading.Thread(target=source.steps, args=(0.002,)) for _ in range(2)]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
        recording = acceptor.record()
        try:
            with pytest.raises(SourceError, match="is being recorded"):
                source.steps(0.001)
        finally:
            recording.stop()
        with pytest.raises(ValueError, match="at most"):
            source.steps(1000)


@given(st.lists(st.tuples(st.floats(0, 20), st.sampled_from([200, 200, 204, 304, 404, 499, 503]))))
def test_responses_are_counted_as_they_came(answers: list[tuple[float, int]]) -> None:
    counts = ResponseCounts()
    for position, (seconds, status) in enumerate(answers):
        if status == 200:
            counts.ok(seconds)
        else:
            counts.other((seconds, status))
        if position % 3 == 0:
            counts.look()
    responses, histogram = counts.look()
    assert responses["total"] == histogram["count"] == len(answers)
    for digit in "2345":
        assert responses["by_class"].get(f"{digit}xx", 0) == sum(str(status)[0] == digit for _, status in answers)
    assert histogram["buckets"] == [(bound, sum(seconds <= bound for seconds, _ in answers)) for bound in BOUNDS]
    assert histogram["sum"] == pytest.approx(sum(seconds for seconds, _ in answers))


@given(st.lists(st.floats(0, 1), min_size=1), st.floats(0, 1))
def test_a_quantile_is_a_value_that_so_many_are_not_above(values: list[float], part: float) -> None:
    found = quantile(sorted(values), part)
    assert found is not None
    assert found in values
    assert sum(value <= found for value in values) >= part * len(values)
    assert sum(value < found for value in values) < max(1, part * len(values))
    assert quantile([], part) is None


@given(st.lists(st.sets(st.integers(0, 9))))
def test_a_thread_keeps_its_row_and_a_new_one_gets_the_lowest(times: list[set[int]]) -> None:
    threads = [threading.Thread() for _ in range(10)]
    rows = Rows()
    before: dict[threading.Thread, int] = {}
    for alive in times:
        now = dict(rows.assign([threads[number] for number in sorted(alive)], 0.0))
        assert set(now) == {threads[number] for number in alive}
        assert len(set(now.values())) == len(now)
        assert all(now[thread] == row for thread, row in before.items() if thread in now)
        if new := {row for thread, row in now.items() if thread not in before}:
            assert set(range(max(new))) <= set(now.values())
        before = now
    assert rows.count == max(map(len, times), default=0)


def burst(*lanes: list[Step]) -> Any:
    return burst_of(Steps(label="", name="", model="", process=1, begin=0.0, end=1.0, lanes=[
        LaneSteps(lane=number, thread=str(number), steps=steps) for number, steps in enumerate(lanes)]))


def test_a_burst_tells_of_handoffs_and_waits() -> None:
    client = ("127.0.0.1", 1, 0.004)
    told = burst(
        [(0.1, "Q", 1, client), (0.2, "A", 0, None), (0.3, "Q", 2, client), (0.31, "R", 2, None),
         (0.35, "H", 2, ("GET", "/")), (0.36, "R", 2, None), (0.37, "H", 2, None), (0.4, "W", 2, None)],
        [(0.15, "R", 1, None), (0.2, "H", 1, ("GET", "/")), (0.5, "W", 1, None), (1.5, "W", 1, None)],
    )
    assert (told["requests"], told["handoffs_per_request"], told["kernel_wait_p99"]) == (2, 0.5, 0.004)
    assert told["wait_p99"] == pytest.approx(0.05)
    assert burst()["handoffs_per_request"] is None


def test_what_waits_longer_than_a_burst_is_handed_over_too() -> None:
    before = (0.0, "H", 1, ("GET", "/"))
    taken = [(0.5, "R", 7, None), (0.6, "H", 7, ("GET", "/"))]
    assert burst([before, (0.4, "_", 1, "closed"), *taken])["handoffs_per_request"] == 1, "the other has begun before"
    assert burst([(0.0, "_", 0, None), *taken])["handoffs_per_request"] == 1
    assert burst(taken)["handoffs_per_request"] == 1, "a thread was started for it"
    assert burst([(0.0, "A", 0, None), *taken])["handoffs_per_request"] == 0, "it was in accept()"
    assert burst([(0.0, "K", 7, None), *taken])["handoffs_per_request"] == 0


# The control server.

@pytest.fixture
def watched() -> Iterator[tuple[Acceptor, ControlServer]]:
    with (Acceptor(hello, port=0, taskmaster=PooledTaskmaster(threads=2)) as acceptor,
          ControlServer(acceptor) as control):
        yield acceptor, control


def test_the_control_server_has_the_page_and_what_it_is_made_of(watched: tuple[Acceptor, ControlServer]) -> None:
    acceptor, control = watched
    get(acceptor.urls[0])
    settle(acceptor)
    status, page = get(control.url)
    assert (status, page[:15].lower()) == (200, b"<!doctype html>")
    said = json.loads(get(f"{control.url}/snapshot.json")[1])
    assert said["lost"] == []
    assert said["sources"][0]["responses"]["total"] == 1
    assert json.loads(get(f"{control.url}/steps.json?seconds=0.001")[1])["sources"][0]["lanes"]
    assert b"accept-" in get(f"{control.url}/threads")[1]


def test_a_wrong_question_gets_a_clear_answer(watched: tuple[Acceptor, ControlServer]) -> None:
    _, control = watched
    for path, status, words in (("/nothing", 404, b"/snapshot.json"), ("/../server.py", 404, b""),
                                ("/%2e%2e/server.py", 404, b""), ("/steps.json?seconds=x", 400, b"seconds=x"),
                                ("/steps.json?seconds=nan", 400, b"at most"), ("/trace?seconds=99", 400, b"at most")):
        got, body = get(control.url + path)
        assert got == status, path
        assert words in body
    assert get(f"{control.url}/load") == (200, b"null")
    request = urllib.request.Request(f"{control.url}/snapshot.json", method="POST", data=b"{}")
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(request, timeout=10)
    with error.value:
        assert error.value.code == 405


def test_events_come_one_after_the_other_until_it_stops() -> None:
    with Acceptor(hello, port=0, taskmaster=SingleThreadedTaskmaster()) as acceptor:
        control = ControlServer(acceptor).start()
        with urllib.request.urlopen(f"{control.url}/events", timeout=10) as stream:
            assert stream.headers["Content-Type"] == "text/event-stream"
            times: list[float] = []
            while len(times) < 2:
                line = stream.readline()
                if line.startswith(b"data: "):
                    times.append(json.loads(line[6:])["sources"][0]["time"])
            assert times[0] < times[1]
            stopping = threading.Thread(target=control.stop)
            stopping.start()
            while stream.readline():  # to its end: it is ended, not cut
                pass
            stopping.join(10)
            assert not stopping.is_alive()
        control.stop()


def test_it_answers_while_every_thread_of_the_server_is_busy() -> None:
    handler = Gated()
    with (Acceptor(handler, port=0, taskmaster=SingleThreadedTaskmaster()) as acceptor,
          ControlServer(acceptor) as control, client_of(acceptor) as client):
        try:
            client.request("GET", "/stuck")
            assert handler.entered.acquire(timeout=10)
            assert b"GET /stuck" in get(f"{control.url}/threads")[1]
        finally:
            handler.open.set()


class OneLoad:
    def __init__(self) -> None:
        self.clients = 5

    def state(self) -> Any:
        return {"clients": self.clients, "keep_alive": True, "sleep_ms": 0.0}

    def change(self, wishes: Any) -> Any:
        if not isinstance(wishes.get("clients"), int):
            raise ValueError("clients: pass a number")
        self.clients = wishes["clients"]
        return self.state()


def test_the_load_can_be_changed_by_the_page_and_not_by_another_site() -> None:
    load = OneLoad()
    with (Acceptor(hello, port=0, taskmaster=SingleThreadedTaskmaster()) as acceptor,
          ControlServer(acceptor, load=load) as control):
        def post(body: bytes, content_type: str) -> int:
            request = urllib.request.Request(f"{control.url}/load", body, {"Content-Type": content_type})
            try:
                with urllib.request.urlopen(request, timeout=10) as response:
                    return int(response.status)
            except urllib.error.HTTPError as error:
                with error:
                    return error.code

        assert json.loads(get(f"{control.url}/load")[1])["clients"] == 5
        assert post(b'{"clients": 9}', "application/json") == 200
        assert load.clients == 9
        assert post(b'{"clients": 1}', "text/plain") == 415
        assert post(b'{"clients": "x"}', "application/json") == 400
        assert post(b"[", "application/json") == 400
        assert load.clients == 9


# Who may see it.

def test_a_token_is_asked_for_and_kept_by_a_browser() -> None:
    with (Acceptor(hello, port=0, taskmaster=SingleThreadedTaskmaster()) as acceptor,
          ControlServer(acceptor, token="open-sesame") as control):
        server = f"http://{control.name}"
        assert get(server)[0] == 401
        assert get(f"{server}/snapshot.json", Authorization="Bearer wrong")[0] == 401
        assert get(f"{server}/snapshot.json", Authorization="Bearer open-sesame")[0] == 200
        client = http.client.HTTPConnection(control.name, timeout=10)
        client.request("GET", control.url.removeprefix(server))
        welcome = client.getresponse()
        client.close()
        assert (welcome.status, welcome.headers["Location"]) == (303, "/"), "the token stands in the address no more"
        cookie = welcome.headers["Set-Cookie"].partition(";")[0]
        assert "open-sesame" not in cookie
        assert get(f"{server}/snapshot.json", Cookie=cookie)[0] == 200
        with pytest.raises(SourceError, match="asks for a token"):
            RemoteSource(control.name).sample()
        remote = RemoteSource(control.name, "far", token="open-sesame")
        assert remote.sample()["label"] == "far"
        remote.close()


def test_a_name_from_elsewhere_is_not_served(watched: tuple[Acceptor, ControlServer]) -> None:
    _, control = watched
    assert get(f"{control.url}/snapshot.json", Host="evil.example")[0] == 403
    port = control.name.rpartition(":")[2]
    assert get(f"{control.url}/snapshot.json", Host=f"localhost:{port}")[0] == 200


@pytest.mark.parametrize("bind", ["0.0.0.0:9000", ":9000", "[::]:9000", "192.0.2.1:9000", "example.org:80"])
def test_what_others_can_reach_needs_a_token(bind: str) -> None:
    acceptor = Acceptor(hello, port=0, taskmaster=SingleThreadedTaskmaster())
    with pytest.raises(ValueError, match="pass a token"):
        ControlServer(acceptor, bind)
    ControlServer(acceptor, bind, token="long-enough")


@pytest.mark.parametrize("token", ["", "short", "with space in it", "ümlaut-ümlaut", "semi;colon", 'quote"quote'])
def test_a_token_that_is_none_is_refused(token: str) -> None:
    with pytest.raises(ValueError, match="token: pass at least 8"):
        ControlServer(Acceptor(hello, port=0, taskmaster=SingleThreadedTaskmaster()), token=token)


# Other processes.

def test_a_remote_source_says_the_same_over_a_unix_socket(tmp_path: Path) -> None:
    with Acceptor(hello, port=0, taskmaster=RecyclingTaskmaster()) as acceptor:
        local = LocalSource(acceptor)
        local.look()
        get(acceptor.urls[0])
        settle(acceptor)
        with ControlServer(local, f"unix:{tmp_path}/control.sock"):
            remote = RemoteSource(f"unix:{tmp_path}/control.sock", "here")
            said: Sample = remote.sample()
            assert said["label"] == "here"
            assert said["responses"]["total"] == 1
            assert remote.steps(0.001)["label"] == "here"
            assert "recycling-" in remote.stacks()
        with pytest.raises(SourceError, match="does the server run"):
            remote.sample()
        remote.close()


def test_a_remote_source_that_is_no_control_server_says_so(tmp_path: Path) -> None:
    with Acceptor(hello, port=0, taskmaster=SingleThreadedTaskmaster()) as acceptor:
        remote = RemoteSource(acceptor.name)
        with pytest.raises(SourceError, match=r"has no /snapshot\.json|no control server"):
            remote.sample()
        remote.close()
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with pytest.raises(SourceError, match="does the server run"):
        RemoteSource(f"127.0.0.1:{port}").sample()


def test_a_source_that_is_gone_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    with (Acceptor(hello, port=0, taskmaster=SingleThreadedTaskmaster()) as acceptor,
          ControlServer([RemoteSource(f"unix:{tmp_path}/none", "gone"), LocalSource(acceptor, "there")]) as control):
        said = json.loads(get(f"{control.url}/snapshot.json")[1])
        assert [source["label"] for source in said["sources"]] == ["there"]
        assert [lost["label"] for lost in said["lost"]] == ["gone"]
        assert b"there" in get(f"{control.url}/threads")[1]


def test_all_processes_of_a_prefork_server_are_seen() -> None:
    acceptor = Acceptor(hello, port=0, taskmaster=PreforkTaskmaster(RecyclingTaskmaster(), 2))
    control = control_for(acceptor)
    with acceptor, control:
        for _ in range(20):
            assert get(acceptor.urls[0])[0] == 200

        def sources() -> list[Sample]:
            found: list[Sample] = json.loads(get(f"{control.url}/snapshot.json")[1])["sources"]
            return found

        wait_until(lambda: sum(each["connections"]["served"] for each in sources()) == 20)
        assert len({each["process"] for each in sources()}) == 2
        assert sum(each["responses"]["total"] for each in sources()) == 20
        with socket.create_connection((acceptor.host, acceptor.port)) as client:
            client.sendall(b"GET / HTTP/1.1\nHost: x\n\n")
            assert client.recv(100).startswith(b"HTTP/1.1 400")
        wait_until(lambda: any(each["violations"] for each in sources()))  # a sample serves for a moment
        assert sum(each["violations"].get("bare_lf", 0) for each in sources()) == 1
        assert sorted(each["label"] for each in sources()) == [f"{acceptor.name} worker {number}" for number in (1, 2)]
        steps = json.loads(get(f"{control.url}/steps.json?seconds=0.001")[1])["sources"]
        assert len(steps) == 2
        assert all(each["lanes"] for each in steps)


def test_a_rate_is_right_also_if_nobody_has_looked_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("watching.counts.monotonic", lambda: now)
    counts = ResponseCounts()
    for seconds in (5.0, 0.1, 0.5):
        for _ in range(round(200 * seconds)):
            counts.ok(0.001)
        now += seconds
        assert counts.look()[0]["per_second"] == pytest.approx(200)
    now += 3
    counts.look()
    now += 1.5
    responses, _ = counts.look()
    assert (responses["per_second"], responses["p50"], responses["p99"]) == (0, None, None)


class Tiny(Taskmaster):
    """On the bare contract: no register, no states."""

    def execute_acceptor(self, acceptor: Any) -> None:
        self.acceptor = acceptor
        self.ended = threading.Event()
        self.start_thread(self._loop, "tiny")

    def _loop(self) -> None:
        while (connection := self.acceptor.accept()) is not None:
            self.handle_incoming_connection(connection)
        self.ended.set()

    def handle_incoming_connection(self, connection: Any) -> None:
        self.acceptor.process_connection(connection)

    def shutdown(self, deadline: float) -> list[str]:
        return [] if self.ended.wait(deadline) else ["tiny"]

    def snapshot(self) -> Snapshot:
        return Snapshot(threads=dict.fromkeys(ThreadState, 0), queued=0, parked=0, accepted=0, served=0, refused=0,
                        grown={}, shrunk={})


def test_a_taskmaster_without_a_register_is_watched_too() -> None:
    handler = Gated()
    with Acceptor(handler, port=0, taskmaster=Tiny()) as acceptor, client_of(acceptor) as client:
        source = LocalSource(acceptor)
        try:
            client.request("GET", "/x")
            assert handler.entered.acquire(timeout=10)
            assert [(lane["thread"], lane["state"]) for lane in source.sample()["lanes"]] == [("tiny", "H")]
            assert [lane["thread"] for lane in source.steps(0.001)["lanes"]] == ["tiny"]
        finally:
            handler.open.set()
        assert client.getresponse().read() == b"done"
        assert source.sample()["decisions"] == []


def test_what_is_wrong_in_a_request_of_a_browser_is_answered_too(watched: tuple[Acceptor, ControlServer]) -> None:
    _, control = watched
    host, port = control.name.split(":")
    for target, status in (("//[", 404), ("/" + "a" * 300 + ".js", 404), ("/%00.js", 404)):
        client = http.client.HTTPConnection(host, int(port), timeout=10)
        client.request("GET", target)
        assert client.getresponse().status == status
        client.close()


def test_another_site_cannot_have_the_server_recorded(watched: tuple[Acceptor, ControlServer]) -> None:
    _, control = watched
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)):
        assert get(f"{control.url}/steps.json?seconds=0.001", **{"Sec-Fetch-Site": site})[0] == status
    assert get(f"{control.url}/", **{"Sec-Fetch-Site": "cross-site"})[0] == 200  # a link to the page


def test_queries_are_not_shown_unless_they_are_asked_for() -> None:
    handler = Gated()
    with Acceptor(handler, port=0, taskmaster=RecyclingTaskmaster()) as acceptor, client_of(acceptor) as client:
        source = LocalSource(acceptor)
        try:
            client.request("GET", "/reset?token=hunter2")
            assert handler.entered.acquire(timeout=10)
            said = [json.dumps(source.sample()), json.dumps(source.steps(0.001)), source.stacks()]
            assert all("/reset?..." in each and "hunter2" not in each for each in said)
        finally:
            handler.open.set()


def test_two_control_servers_count_together() -> None:
    with Acceptor(hello, port=0, taskmaster=RecyclingTaskmaster()) as acceptor:
        first, second = LocalSource(acceptor), LocalSource(acceptor)
        for source in (first, second):
            source.look()
        for total in (1, 2):
            get(acceptor.urls[0])
            settle(acceptor)
            assert first.sample()["responses"]["total"] == second.sample()["responses"]["total"] == total
        first.detach()
        get(acceptor.urls[0])
        settle(acceptor)
        assert second.sample()["responses"]["total"] == 3
        second.detach()
        assert acceptor.run is not None
        assert acceptor.run.service.counter is None


def test_the_end_of_a_control_server_ends_what_it_records() -> None:
    with Acceptor(hello, port=0, taskmaster=RecyclingTaskmaster()) as acceptor:
        control = ControlServer(acceptor).start()
        said: list[Any] = []
        asking = threading.Thread(target=lambda: said.append(get(f"{control.url}/steps.json?seconds=10")))
        asking.start()
        assert acceptor.run is not None
        service = acceptor.run.service
        wait_until(lambda: service.recording is not None)
        began = time.monotonic()
        control.stop()
        asking.join(PATIENCE)
        assert time.monotonic() - began < 9, "it has not waited to the end"
        assert said[0][0] == 200
        assert service.recording is None


def test_while_one_records_for_long_another_is_told_so() -> None:
    with Acceptor(hello, port=0, taskmaster=RecyclingTaskmaster()) as acceptor:
        source = LocalSource(acceptor)
        long = threading.Thread(target=source.steps, args=(10,))
        long.start()
        assert acceptor.run is not None
        service = acceptor.run.service
        wait_until(lambda: service.recording is not None)
        with pytest.raises(SourceError, match="for somebody else"):
            source.steps(0.001)
        source.detach()
        long.join(PATIENCE)
        assert not long.is_alive()


def test_so_many_event_streams_and_no_more() -> None:
    with Acceptor(hello, port=0, taskmaster=RecyclingTaskmaster()) as acceptor, ControlServer(acceptor) as control:
        streams = [urllib.request.urlopen(f"{control.url}/events", timeout=10) for _ in range(24)]
        assert get(f"{control.url}/events")[0] == 503
        assert get(f"{control.url}/snapshot.json")[0] == 200
        for stream in streams:
            stream.close()
        wait_until(lambda: _status_of_events(control) == 200)


def _status_of_events(control: ControlServer) -> int:
    try:
        with urllib.request.urlopen(f"{control.url}/events", timeout=10) as stream:
            return int(stream.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_two_sources_of_one_name_get_two() -> None:
    with Acceptor(hello, port=0, taskmaster=RecyclingTaskmaster()) as acceptor:
        sources = [LocalSource(acceptor, "twin"), LocalSource(acceptor, "twin")]
        with ControlServer(sources) as control:
            said = json.loads(get(f"{control.url}/snapshot.json")[1])
            assert [each["label"] for each in said["sources"]] == ["twin", "twin'"]
            assert get(f"{control.url}/metrics")[0] == 200


def test_a_remote_source_is_found_by_its_name(tmp_path: Path) -> None:
    bind = f"unix:{tmp_path}/control.sock"
    with (Acceptor(hello, port=0, taskmaster=RecyclingTaskmaster()) as one,
          Acceptor(hello, port=0, taskmaster=PooledTaskmaster(threads=1)) as two,
          ControlServer([LocalSource(one, "one & 1"), LocalSource(two, "two")], bind) as control):
        for theirs, model in (("one & 1", "RecyclingTaskmaster"), ("two", "PooledTaskmaster")):
            remote = RemoteSource(bind, "here", theirs=theirs)
            assert (remote.sample()["model"], remote.sample()["label"]) == (model, "here")
            assert remote.steps(0.001)["model"] == model
            assert "Pooled" in remote.stacks() or theirs != "two"
            remote.close()
        control.show([LocalSource(two, "two")])
        gone = RemoteSource(bind, theirs="one & 1")
        with pytest.raises(SourceError, match="does not run any more"):
            gone.sample()
        gone.close()


def test_one_that_does_not_answer_is_not_asked_again_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("watching.remote._PATIENCE", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        remote = RemoteSource(f"127.0.0.1:{silent.getsockname()[1]}")
        for _ in range(3):
            with pytest.raises(SourceError, match="has not answered"):
                remote.sample()
        silent.setblocking(False)
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):
            silent.accept()


@given(st.lists(st.lists(st.tuples(st.floats(0, 1), st.sampled_from("AQH"), st.integers(0, 9), st.none()), max_size=5),
                max_size=3), st.integers(1, 3))
def test_pieces_of_json_are_json(lanes: list[list[Step]], piece: int) -> None:
    said = Steps(label="a", name="b", model="c", process=1, begin=0.0, end=1.0, lanes=[
        LaneSteps(lane=number, thread="t", steps=steps) for number, steps in enumerate(lanes)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("watching.pieces._PIECE", piece)
        assert json.loads(b"".join(steps_in_pieces([said, said]))) == json.loads(json.dumps({"sources": [said, said]}))


def test_a_thread_that_has_ended_is_no_thread_any_more() -> None:
    with Acceptor(hello, port=0, taskmaster=ThreadPerConnectionTaskmaster()) as acceptor:
        source = LocalSource(acceptor)
        for _ in range(5):
            get(acceptor.urls[0])
        wait_until(lambda: sum(source.sample()["threads"].values()) == 1)
        assert [lane["thread"] for lane in source.sample()["lanes"] if lane["thread"]] == [f"accept-{acceptor.name}-1"]
        assert " frames of the server)" in source.stacks()
