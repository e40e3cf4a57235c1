"""A server's life: hooks, signals, leaving before stopping, what systemd is told, what health checks learn."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from acceptor import Acceptor, Hooks, Request, systemd
from acceptor.health import Health
from taskmaster import PooledTaskmaster, SingleThreadedTaskmaster
from tests.clients import PATIENCE, Gate, RawClient, request
from tests.conftest import Model, Serve


def hello(request: Request) -> str:
    return "Hello"


# Hooks.

class Told:
    """What hooks were called, in order."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.fail = ""

    def hooks(self) -> Hooks:
        return Hooks(**{name: self._hook(name) for name in ("starting", "ready", "stopping", "stopped")})

    def _hook(self, name: str) -> Callable[[Acceptor], None]:
        def hook(acceptor: Acceptor) -> None:
            self.events.append(f"{name} {_open(acceptor)}")
            if name == self.fail:
                raise LookupError(name)
        return hook


def _open(acceptor: Acceptor) -> str:
    """Whether somebody listens there."""
    if not acceptor.port:
        return "-"
    with socket.socket() as probe:
        return "closed" if probe.connect_ex((acceptor.host, acceptor.port)) else "open"


def test_hooks_are_called_at_the_turns_of_a_servers_life(model: Model) -> None:
    told = Told()
    with Acceptor(hello, port=0, taskmaster=model(), hooks=told.hooks()) as acceptor:
        assert told.events == ["starting -", "ready open"]
    assert told.events == ["starting -", "ready open", "stopping open", "stopped closed"]
    acceptor.stop()
    assert len(told.events) == 4


def test_what_starting_raises_keeps_the_server_from_starting(model: Model) -> None:
    told = Told()
    told.fail = "starting"
    acceptor = Acceptor(hello, port=0, taskmaster=model(), hooks=told.hooks())
    with pytest.raises(LookupError, match="starting"):
        acceptor.start()
    assert told.events == ["starting -"]
    assert acceptor.taskmaster.snapshot().thread_count == 0
    told.fail = ""
    with acceptor:  # it can be tried again
        pass


def test_what_ready_raises_stops_the_server_again(model: Model) -> None:
    told = Told()
    told.fail = "ready"
    acceptor = Acceptor(hello, port=0, taskmaster=model(), hooks=told.hooks())
    with pytest.raises(LookupError, match="ready"):
        acceptor.start()
    assert told.events == ["starting -", "ready open", "stopping open", "stopped closed"]
    assert acceptor.taskmaster.snapshot().thread_count == 0


@pytest.mark.parametrize("fails", ["stopping", "stopped"])
def test_what_the_last_hooks_raise_is_logged_and_stops_nothing(fails: str, caplog: pytest.LogCaptureFixture) -> None:
    told = Told()
    told.fail = fails
    with Acceptor(hello, port=0, taskmaster=SingleThreadedTaskmaster(), hooks=told.hooks()):
        pass
    assert told.events[-2:] == ["stopping open", "stopped closed"]
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == [
        f"Hooks.{fails} failed; going on"]


def test_a_hook_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Hooks\.ready=3: pass a function that takes the acceptor"):
        Hooks(ready=3)  # type: ignore[arg-type]


def test_every_thread_calls_its_hooks_once_each_on_itself(model: Model) -> None:
    calls: list[tuple[str, str]] = []
    lock = threading.Lock()

    def note(what: str) -> None:
        with lock:
            calls.append((what, threading.current_thread().name))

    taskmaster = model()
    taskmaster.on_thread_start = lambda: note("start")
    taskmaster.on_thread_exit = lambda: note("exit")
    handled = []

    def handler(request: Request) -> str:
        handled.append(threading.current_thread().name)
        return ""

    with Acceptor(handler, port=0, taskmaster=taskmaster) as acceptor:
        for _ in range(3):
            with RawClient.connect(acceptor.port) as client:
                client.send(request(headers=["Connection: close"]))
                client.read_response()
    started = [name for what, name in calls if what == "start"]
    ended = [name for what, name in calls if what == "exit"]
    assert sorted(started) == sorted(ended)
    assert len(set(started)) == len(started)
    assert set(handled) <= set(started) or model.offloads
    assert any("watcher" in name for name in started)


def test_a_thread_goes_on_if_its_hook_fails(caplog: pytest.LogCaptureFixture) -> None:
    taskmaster = PooledTaskmaster(threads=1)
    taskmaster.on_thread_start = lambda: 1 / 0
    with Acceptor(hello, port=0, taskmaster=taskmaster) as acceptor, RawClient.connect(acceptor.port) as client:
        client.send(request())
        assert client.read_response().body == b"Hello"
    assert "on_thread_start failed on thread" in caplog.text


# Stopping in a hurry, and leaving before it.

def in_background(function: Callable[[], object]) -> tuple[threading.Thread, list[Any]]:
    """Run it on a thread of its own; its result comes into the list."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    return thread, results


@pytest.mark.parametrize("how", ["request_stop(now=True)", "stop(soft=False)"])
def test_a_soft_stop_can_be_told_to_hurry(how: str, model: Model) -> None:
    reached, gate = Gate("the handler runs"), Gate("the handler may go on")
    stopping = threading.Event()

    def handler(request: Request) -> str:
        reached.open()
        gate.pass_through()
        return "through"

    acceptor = Acceptor(handler, port=0, taskmaster=model(),
                        hooks=Hooks(stopping=lambda _: stopping.set())).start()
    try:
        with RawClient.connect(acceptor.port) as client:
            client.send(request())
            reached.pass_through()
            thread, reports = in_background(lambda: acceptor.stop(deadline=PATIENCE * 100))
            assert stopping.wait(PATIENCE)
            if how == "stop(soft=False)":
                acceptor.stop(soft=False)
            else:
                acceptor.request_stop(now=True)
            thread.join(PATIENCE)
            assert not thread.is_alive(), "it still waits for the handler"
            [report] = reports
            assert "(handling)" in report.cut[0]
            assert len(report.stuck) == (0 if model.offloads else 1), "the handler is still at its gate"
    finally:
        gate.open()


def test_a_server_that_leaves_serves_newcomers_and_lets_everybody_go(serve: Serve) -> None:
    """Until it has left; this test decides when that is."""
    ready = Health(hello)
    server = serve(ready)
    idle = server.connect()
    idle.send(request())
    assert idle.read_response().header("connection") is None
    if server.taskmaster.max_thread_count == 1:
        idle.close()
        server.wait_until_over(1)
    thread, reports = in_background(lambda: server.acceptor.stop(leave=PATIENCE * 100))
    statuses: list[int] = []
    while statuses[-1:] != [503]:  # until the other thread has come that far
        newcomer = server.connect()
        newcomer.send(request("/readyz"))
        response = newcomer.read_response()
        statuses.append(response.status)
        if response.status == 503:
            assert response.header("connection") == "close"
        newcomer.close()
    newcomer = server.connect()
    newcomer.send(request("/livez"))
    response = newcomer.read_response()
    assert (response.status, response.header("connection")) == (200, "close")
    newcomer.expect_eof()
    if server.taskmaster.max_thread_count != 1:
        idle.send(request())  # a connection that was kept is still served, once
        assert idle.read_response().header("connection") == "close"
        idle.expect_eof()
    assert thread.is_alive()
    server.wait_until_over(len(statuses) + 2)  # their threads may not know yet that the clients have it all
    server.acceptor.request_stop(now=True)
    thread.join(PATIENCE)
    assert [bool(report) for report in reports] == [False]


def test_health_checks_have_paths_of_their_own_and_the_rest_is_the_applications() -> None:
    def handler(request: Request) -> str:
        return request.path

    health = Health(handler, live=None, ready="/ready")
    with (Acceptor(health, port=0, taskmaster=PooledTaskmaster(threads=1)) as server,
          RawClient.connect(server.port) as client):
        answers = {}
        for path in ("/ready", "/ready/", "/livez", "/"):
            client.send(request(path))
            answers[path] = client.read_response().body
    assert answers == {"/ready": b"ok\n", "/ready/": b"/ready/", "/livez": b"/livez", "/": b"/"}


@pytest.mark.parametrize(("paths", "message"), [
    ({"live": "livez"}, "live='livez': pass a path, which begins with"),
    ({"live": "/x", "ready": "/x"}, "they say different things"),
])
def test_wrong_paths_of_health_checks_are_refused(paths: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Health(hello, **paths)


def test_two_servers_share_a_port_if_they_are_asked_to() -> None:
    with Acceptor(hello, port=0, taskmaster=SingleThreadedTaskmaster(), reuse_port=True) as one:
        with pytest.raises(OSError, match="something else listens there"):
            Acceptor(hello, port=one.port, taskmaster=SingleThreadedTaskmaster()).start()
        with Acceptor(lambda request: str(request.multiprocess), port=one.port, taskmaster=SingleThreadedTaskmaster(),
                      reuse_port=True) as other:
            one.stop()
            with RawClient.connect(other.port) as client:
                client.send(request())
                assert client.read_response().body == b"True"


# Signals, in a process of its own.

PROGRAM = """
import signal, sys, threading
from acceptor import Acceptor, Hooks
from taskmaster import RecyclingTaskmaster

def say(text):  # in one piece: several threads do
    print(f"{text}\\n", end="", flush=True)

def handler(request):
    if request.path == "/stop":
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    say("handling")
    sys.stdin.readline()
    return "answered"

acceptor = Acceptor(handler, port=0, taskmaster=RecyclingTaskmaster(), hooks=Hooks(
    ready=lambda acceptor: say(acceptor.port), stopping=lambda acceptor: say("stopping")))
report = acceptor.serve_forever(deadline=1000, reload=lambda: say("reloading") or 1 / len(sys.argv[1:]))
print("cut:", len(report.cut), "stuck:", len(report.stuck), flush=True)
"""


class Program:
    """The program above, and one client that waits for its answer."""

    def __init__(self, **environ: str) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, env=os.environ | environ)
        self.client = RawClient.connect(int(self.line()))
        self.client.send(request())
        assert self.line() == "handling"

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def let_the_handler_answer(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> tuple[str, str, int]:
        """Output and log after what has been read, and the exit code."""
        self.client.close()
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        code = self.process.wait(PATIENCE)  # not communicate(), which closes its input: the handler waits for that
        return self.process.stdout.read(), self.process.stderr.read(), code

    def close(self) -> None:
        self.client.close()
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def program() -> Iterator[Program]:
    program = Program()
    yield program
    program.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_lets_what_is_in_progress_be_answered(program: Program, number: signal.Signals) -> None:
    program.signal(number)
    assert program.line() == "stopping"
    program.let_the_handler_answer()
    assert program.client.read_response().body == b"answered"
    assert program.end() == ("cut: 0 stuck: 0\n", "", 0)


@pytest.mark.parametrize("numbers", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM),
                                     (signal.SIGTERM, signal.SIGQUIT)], ids=lambda numbers: numbers[1].name)
def test_a_second_signal_cuts_what_is_left(program: Program, numbers: tuple[signal.Signals, signal.Signals]) -> None:
    first, second = numbers
    program.signal(first)
    assert program.line() == "stopping"
    program.signal(second)
    program.client.read_to_end()
    output, log, code = program.end()
    assert (output, code) == ("cut: 1 stuck: 1\n", 0)
    assert "told to hurry, it cut GET / from 127.0.0.1:" in log


def test_a_signal_is_heeded_whichever_thread_the_kernel_gives_it_to(program: Program) -> None:
    program.let_the_handler_answer()
    assert program.client.read_response().body == b"answered"
    program.client.send(request("/stop"))
    assert {program.line(), program.line()} == {"handling", "stopping"}
    program.let_the_handler_answer()
    assert program.client.read_response().body == b"answered"
    assert program.end() == ("cut: 0 stuck: 0\n", "", 0)


def test_quit_cuts_at_once(program: Program) -> None:
    program.signal(signal.SIGQUIT)
    assert program.line() == "stopping"
    assert program.end()[0] == "cut: 1 stuck: 1\n"


def test_a_third_signal_has_the_effect_that_it_had_before(program: Program) -> None:
    program.signal(signal.SIGTERM)
    assert program.line() == "stopping"
    program.signal(signal.SIGTERM)
    program.signal(signal.SIGTERM)
    while program.process.poll() is None:  # the second may not have been seen when the third came: they are not queued
        program.signal(signal.SIGTERM)
        program.process.poll()
    assert program.end()[2] in (-signal.SIGTERM, 0)


def test_hangup_reloads_and_what_that_raises_is_logged(program: Program) -> None:
    program.signal(signal.SIGHUP)
    assert program.line() == "reloading"
    program.signal(signal.SIGHUP)  # it goes on after the first has failed
    assert program.line() == "reloading"
    program.let_the_handler_answer()
    assert program.client.read_response().body == b"answered"
    program.signal(signal.SIGTERM)
    assert program.line() == "stopping"
    output, log, code = program.end()
    assert (output, code) == ("cut: 0 stuck: 0\n", 0)
    assert log.count("ZeroDivisionError") == 2


def test_serve_forever_puts_the_signal_handlers_back() -> None:
    numbers = signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP
    before = [signal.getsignal(number) for number in numbers]
    acceptor = Acceptor(hello, port=0, taskmaster=PooledTaskmaster(threads=1),
                        hooks=Hooks(ready=lambda acceptor: acceptor.request_stop()))
    assert not acceptor.serve_forever(reload=lambda: None)
    assert [signal.getsignal(number) for number in numbers] == before


def test_off_the_main_thread_signals_are_left_alone(model: Model) -> None:
    during: list[Any] = []

    def look_and_stop(acceptor: Acceptor) -> None:
        during.append(signal.getsignal(signal.SIGTERM))
        acceptor.request_stop()

    acceptor = Acceptor(hello, port=0, taskmaster=model(), hooks=Hooks(ready=look_and_stop))
    before = signal.getsignal(signal.SIGTERM)
    thread, reports = in_background(acceptor.serve_forever)
    thread.join(PATIENCE)
    assert during == [before]
    assert [bool(report) for report in reports] == [False]


# systemd.

@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket at which systemd listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(PATIENCE)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield sock


def test_systemd_is_told_of_start_reload_and_stop(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    acceptor = Acceptor(hello, port=0, taskmaster=SingleThreadedTaskmaster())
    reloaded = threading.Event()
    thread, _ = in_background(lambda: acceptor.serve_forever(reload=reloaded.set))
    assert manager.recv(1000) == f"READY=1\nSTATUS=listening on http://127.0.0.1:{acceptor.port}".encode()
    before = time.monotonic_ns() // 1000
    acceptor._wishes.put(reloaded.set)  # as the signal does
    reloading, at = manager.recv(1000).decode().split("\n")
    assert reloading == "RELOADING=1"
    assert before <= int(at.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
    assert manager.recv(1000) == b"READY=1"
    assert reloaded.is_set()
    acceptor.request_stop()
    assert manager.recv(1000) == b"STOPPING=1"
    thread.join(PATIENCE)


def test_the_watchdog_hears_of_us_twice_in_its_time(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    acceptor = Acceptor(hello, port=0, taskmaster=SingleThreadedTaskmaster())
    thread, _ = in_background(acceptor.serve_forever)
    assert manager.recv(1000).startswith(b"READY=1")
    assert [manager.recv(1000) for _ in range(3)] == [b"WATCHDOG=1"] * 3
    acceptor.request_stop()
    thread.join(PATIENCE)


@pytest.mark.parametrize(("environ", "interval"), [
    ({}, None),
    ({"WATCHDOG_USEC": "3000000"}, 1.5),
    ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
    ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
    ({"WATCHDOG_USEC": "0"}, None),
    ({"WATCHDOG_USEC": "soon"}, None),
])
def test_the_watchdogs_interval(environ: dict[str, str], interval: float | None, monkeypatch: pytest.MonkeyPatch
                                ) -> None:
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert systemd.watchdog_interval() == interval


def test_nobody_is_told_if_nobody_listens(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not systemd.notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/at/all")
    assert not systemd.notify("READY=1")
    assert "cannot tell systemd READY=1 at NOTIFY_SOCKET=/nowhere/at/all" in caplog.text


def test_the_manager_may_listen_at_an_abstract_name(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"taskmasters-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        assert systemd.notify("READY=1", "STATUS=up")
        assert manager.recv(100) == b"READY=1\nSTATUS=up"


# Whose threads.

def test_a_taskmaster_knows_its_own_threads() -> None:
    mine, other = SingleThreadedTaskmaster(), SingleThreadedTaskmaster()
    seen: list[tuple[bool, bool]] = []
    gate = Gate("the thread has looked")

    def look() -> None:
        seen.append((mine.runs_this_thread, other.runs_this_thread))
        gate.open()

    mine.start_thread(look, "look")
    gate.pass_through()
    assert seen == [(True, False)]
    assert not mine.runs_this_thread
