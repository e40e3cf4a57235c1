"""`taskmaster serve --processes`, and `--offload`: signals, logs and hooks where more than one process serves."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli_programs import Program, get, run, running, wait_for_content
from tests.clients import PATIENCE, RawClient, request

APPLICATION = """
import concurrent.futures, os, sys, threading, time

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/gate":
        print("in progress", os.getpid(), file=sys.stderr, flush=True)
        while not os.path.exists("open"):
            time.sleep(0.01)
    elif path == "/meet":
        barrier.wait(10)
    elif path == "/stuck":
        print("in progress", os.getpid(), file=sys.stderr, flush=True)
        threading.Event().wait()
    elif path == "/die":
        os._exit(7)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]

barrier = threading.Barrier(2)

def say(*words):
    sys.stderr.write(" ".join(map(str, ("hook", *words, os.getpid()))) + "\\n")   # at once: several say something

class Hooks:
    def starting(self, acceptor): say("starting")
    def process_start(self): say("process_start")
    def ready(self, acceptor): say("ready")
    def stopping(self, acceptor): say("stopping")
    def process_exit(self): say("process_exit")
    def stopped(self, acceptor): say("stopped")

hooks = Hooks()

def executor():
    say("executor")
    return concurrent.futures.ThreadPoolExecutor(1)

def no_executor():
    return 5
"""

ANY_PORT = ("-b", "127.0.0.1:0")
TWO = (*ANY_PORT, "--processes", "2", "--threads", "1:8")
HOOKS = ("--hooks", "shop:hooks")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory with a module `shop`."""
    (tmp_path / "shop.py").write_text(APPLICATION)
    return tmp_path


@contextmanager
def in_progress(program: Program, port: int, target: str) -> Iterator[tuple[RawClient, int]]:
    """A client whose request is being handled, and by which process."""
    with RawClient.connect(port) as client:
        client.send(request(target))
        yield client, int(program.wait_for(r"in progress (\d+)")[1])


def pids(program: Program) -> list[int]:
    """Waits until the server listens: its worker processes."""
    found = [int(program.wait_for(r"worker process (\d+) has been forked \(start\)")[1]) for _ in range(2)]
    return sorted(found)


# Signals.


@pytest.mark.parametrize("together", [False, True], ids=["the main process alone", "the whole group"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=str)
def test_a_request_in_progress_is_answered(site: Path, number: signal.Signals, together: bool) -> None:
    with running(site, "shop", *TWO, *HOOKS) as program:
        port = program.port
        with in_progress(program, port, "/gate") as (client, pid):
            if together:  # as by Ctrl+C in a terminal
                os.killpg(program.process.pid, number)
            else:
                program.signal(number)
            program.wait_for("hook stopping")
            (site / "open").touch()
            assert client.read_response().body == b"%d" % pid
        assert program.end() == 0
    assert "stopped; connections: 1 served, 0 refused" in program.said
    assert "Traceback" not in program.said


def test_a_second_signal_cuts_and_the_exit_code_tells(site: Path) -> None:
    with running(site, "shop", *TWO, *HOOKS) as program:
        port = program.port
        with in_progress(program, port, "/stuck"):
            program.signal(signal.SIGTERM)
            program.wait_for("hook stopping")
            program.signal(signal.SIGTERM)
            assert program.end() == 3, "and within PATIENCE, not after the graceful timeout"


def test_a_worker_that_is_killed_is_replaced_and_said_to_be(site: Path) -> None:
    with running(site, "shop", *TWO) as program:
        one, other = pids(program)
        port = program.port
        os.kill(one, signal.SIGKILL)
        program.wait_for(f"worker process {one} was killed by SIGKILL")
        new = int(program.wait_for(rf"worker process (\d+) has been forked in place of {one}")[1])
        assert {int(get(port)) for _ in range(20)} <= {other, new}
        assert program.stop() == 0


def test_without_its_nursery_it_ends_and_does_not_look_like_a_stop(site: Path) -> None:
    with running(site, "shop", *TWO) as program:
        worker, _ = pids(program)
        assert program.port
        nursery = int(re.findall(r"^PPid:\s+(\d+)$", Path(f"/proc/{worker}/status").read_text(), re.MULTILINE)[0])
        os.kill(nursery, signal.SIGKILL)
        assert program.end() == 3


def test_a_worker_is_replaced_after_max_requests(site: Path) -> None:
    with running(site, "shop", *ANY_PORT, "--processes", "1", "--max-requests", "3", "--max-requests-jitter", "0"
                 ) as program:
        first = int(program.wait_for(r"worker process (\d+) has been forked")[1])
        port = program.port
        assert {int(get(port)) for _ in range(3)} == {first}
        assert "3 requests" in program.wait_for(f"worker process {first} is going to be replaced .max_requests").string
        program.wait_for(f"worker process {first} has ended")
        assert int(get(port)) != first
        assert program.stop() == 0


def test_a_change_of_a_file_restarts_all_processes(site: Path) -> None:
    with running(site, "shop", *TWO, "--reload", *HOOKS) as program:
        before = pids(program)
        port = program.port
        program.wait_for("hook ready")
        assert int(get(port)) in before
        (site / "shop.py").write_text(APPLICATION + "\n")
        program.wait_for("shop.py has changed; the server starts anew")
        after = pids(program)
        assert int(get(port)) in after
        assert not set(before) & set(after)
        os.killpg(program.process.pid, signal.SIGINT)
        assert program.end() == 0
    assert "cut" not in program.said


# Logs.


def test_each_line_of_the_access_log_is_whole_whoever_writes_it(site: Path) -> None:
    """Also those that are longer than the buffers of a file: the lines of both processes go into one file."""
    count, threads = 40, 4

    def visit(number: int) -> None:
        with RawClient.connect(port) as client:
            for index in range(count):
                mark = f"{number}-{index}-"
                client.send(request("/", headers=[f"Mark: {mark * (20_000 // len(mark))}"]))
                assert client.read_response().status == 200

    logs = ["--access-log", "access.log", "--access-log-format", "%(p)s %({mark}i)s"]
    with running(site, "shop", *TWO, *logs) as program:
        workers = pids(program)
        port = program.port
        visitors = [threading.Thread(target=visit, args=(number,)) for number in range(threads)]
        for visitor in visitors:
            visitor.start()
        for visitor in visitors:
            visitor.join(PATIENCE)
        assert program.stop() == 0
    marks = set()
    for line in (site / "access.log").read_text().splitlines():
        found = re.fullmatch(r"<(\d+)> (\d+-\d+-)\2+", line)
        assert found, f"{line[:100]} ... {line[-100:]}"
        assert int(found[1]) in workers
        marks.add(found[2])
    assert len(marks) == count * threads


def test_a_hangup_opens_the_log_files_of_all_processes_anew(site: Path) -> None:
    logs = ["--access-log", "access.log", "--access-log-format", "%(U)s", "--error-log", "error.log"]
    with running(site, "shop", *TWO, *logs, "--pidfile", "shop.pid", *HOOKS) as program:
        program.wait_for("hook ready")
        port = int((site / "error.log").read_text().partition("http://127.0.0.1:")[2].partition(" ")[0])
        get(port, "/before")
        wait_for_content(site / "access.log", "/before\n")
        for name in ("access.log", "error.log"):
            (site / name).rename(site / f"{name}.1")
        assert (site / "shop.pid").read_text() == f"{program.process.pid}\n"
        program.signal(signal.SIGHUP)
        wait_for_content(site / "error.log", "reloaded: log files\n", 3)  # each process, and the main one
        wait_until_closed(program, site / "access.log.1")
        for _ in range(10):
            get(port, "/after")
        assert program.stop() == 0
    assert (site / "access.log.1").read_text() == "/before\n"
    assert (site / "access.log").read_text() == "/after\n" * 10
    assert "stopped" in (site / "error.log").read_text()
    assert not (site / "shop.pid").exists()


def wait_until_closed(program: Program, path: Path) -> None:
    """Wait until no process of the server has the file open, or the disk would not get the space of it back."""
    end = time.monotonic() + PATIENCE
    while opened := [process for process in os.listdir("/proc") if process.isdecimal()
                     and belongs_to(program, int(process)) and str(path) in open_files(process)]:
        assert time.monotonic() < end, f"the processes {opened} have it open"


def belongs_to(program: Program, process: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        return os.getpgid(process) == program.process.pid
    return False


def open_files(process: str) -> set[str]:
    found = set()
    with contextlib.suppress(FileNotFoundError):  # it has ended
        for each in os.scandir(f"/proc/{process}/fd"):
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                found.add(os.readlink(each.path))
    return found


def test_systemd_hears_of_the_main_process_alone(site: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(site / "notify"))
        manager.settimeout(PATIENCE)
        environ = {"NOTIFY_SOCKET": str(site / "notify"), "WATCHDOG_USEC": "200000"}
        with running(site, "shop", *TWO, environ=environ) as program:
            assert manager.recv(4096).startswith(b"READY=1\nSTATUS=listening on http://127.0.0.1:")
            assert manager.recv(4096) == b"WATCHDOG=1"
            program.signal(signal.SIGHUP)
            said: list[bytes] = []
            while not said or said[-1] != b"READY=1":
                said.append(manager.recv(4096))
            assert any(each.startswith(b"RELOADING=1\n") for each in said)
            program.signal(signal.SIGTERM)
            while said[-1] != b"STOPPING=1":
                said.append(manager.recv(4096))
            assert program.end() == 0
            manager.setblocking(False)
            with pytest.raises(BlockingIOError):
                manager.recv(4096)
    assert said.count(b"READY=1") == 1
    assert said.count(b"STOPPING=1") == 1


# Hooks.


def hooks_called(program: Program) -> list[tuple[str, int]]:
    return [(name, int(pid)) for name, pid in re.findall(r"^hook (\w+) (\d+)$", program.said, re.MULTILINE)]


def test_hooks_are_called_in_their_processes(site: Path) -> None:
    with running(site, "shop", *TWO, *HOOKS) as program:
        workers = pids(program)
        program.wait_for("hook ready")
        assert program.stop() == 0
    called = hooks_called(program)
    main = program.process.pid
    assert [name for name, pid in called if pid == main] == ["starting", "ready", "stopping", "stopped"]
    for worker in workers:
        assert [name for name, pid in called if pid == worker] == ["process_start", "process_exit"]
    assert called.index(("ready", main)) > max(called.index(("process_start", worker)) for worker in workers)


def test_without_processes_the_hooks_of_the_process_are_those_of_the_only_one(site: Path) -> None:
    with running(site, "shop", *ANY_PORT, *HOOKS) as program:
        program.wait_for("hook ready")
        assert program.stop() == 0
    assert [name for name, _ in hooks_called(program)] == ["starting", "process_start", "ready", "stopping",
                                                            "process_exit", "stopped"]


def test_a_hook_of_a_process_that_fails_ends_the_start_with_its_own_traceback(site: Path) -> None:
    (site / "failing.py").write_text("def process_start():\n    raise ValueError('no database')\n")
    for processes in ([], ["--processes", "2"]):
        done = run(site, "serve", "shop", *ANY_PORT, *processes, "--hooks", "failing")
        assert done.returncode == 1, done.stderr
        assert "the hook process_start failed:\n\nTraceback" in done.stderr
        assert "\nValueError: no database\n" in done.stderr
        assert set(re.findall(r'^  File "(.*?)"', done.stderr, re.MULTILINE)) == {str(site / "failing.py")}
        if processes:
            assert re.search(r"^Error: worker process \d+ .*exit code 1", done.stderr, re.MULTILINE), done.stderr


def test_threads_that_are_there_before_the_fork_are_warned_of(site: Path) -> None:
    (site / "shop.py").write_text(APPLICATION + "threading.Thread(target=threading.Event().wait, name='poller', "
                                                "daemon=True).start()\n")
    with running(site, "shop", *TWO, environ={"PYTHONWARNINGS": "ignore"}) as program:
        assert "will not be in the worker processes: poller. What has started them when it was imported should" in (
            program.wait_for("these threads run in the main process").string)
        assert program.port
        assert program.stop() == 0


# Health checks.


@pytest.mark.parametrize("processes", [[], ["--processes", "1"]], ids=["one process", "a worker"])
def test_health_checks_are_answered_although_every_thread_is_busy(site: Path, processes: list[str]) -> None:
    model = ["-t", "pool", "--threads", "1", "--queue", "2"]
    with running(site, "shop", *ANY_PORT, *model, *processes, "--ready-path", "/readyz", "--live-path", "/livez"
                 ) as program:
        port = program.port
        with in_progress(program, port, "/gate") as (client, pid):
            assert get(port, "/readyz") == b"ok\n", "it waits in the queue"
            with RawClient.connect(port) as waiting:
                waiting.send(request())
                assert get(port, "/livez") == b"ok\n", "the queue is full"
                (site / "open").touch()
                assert int(waiting.read_response().body) == pid
            assert int(client.read_response().body) == pid
        assert program.stop() == 0


# The event loop.


def test_the_loop_serves_others_while_threads_handle(site: Path) -> None:
    with running(site, "shop", *ANY_PORT, "-t", "loop", "--offload", "threads:2") as program:
        port = program.port
        with RawClient.connect(port) as one, RawClient.connect(port) as other:
            for client in (one, other):
                client.send(request("/meet"))
            for client in (one, other):  # both are handled at once, or the barrier breaks
                assert int(client.read_response().body) == program.process.pid
        assert program.stop() == 0


@pytest.mark.parametrize("processes", ["none", "2"])
def test_the_application_runs_in_other_processes_that_load_it_by_its_name(site: Path, processes: str) -> None:
    with running(site, "shop", *ANY_PORT, "-t", "loop", "--offload", "processes:1", "--processes", processes,
                 "--ready-path", "/readyz") as program:
        port = program.port
        assert get(port, "/readyz") == b"ok\n"
        first = int(get(port))
        assert os.stat(f"/proc/{first}")
        assert first != program.process.pid
        assert program.stop() == 0
    wait_until_gone(first)


def test_an_executor_whose_process_has_died_is_replaced(site: Path) -> None:
    with running(site, "shop", *ANY_PORT, "-t", "loop", "--offload", "processes:1") as program:
        port = program.port
        first = int(get(port))
        with RawClient.connect(port) as client:
            client.send(request("/die"))
            assert client.read_response().status == 500
        assert int(get(port)) != first
        program.wait_for("the executor of --offload is broken, and is replaced")
        assert program.stop() == 0


@pytest.mark.parametrize("offload", ["threads:1", "processes:1", "shop:executor"])
def test_what_never_ends_in_the_executor_does_not_keep_the_server(site: Path, offload: str) -> None:
    with running(site, "shop", *ANY_PORT, "-t", "loop", "--offload", offload, "--graceful-timeout", "0.1",
                 "--access-log", "access.log") as program:
        port = program.port
        get(port, "/before")
        with in_progress(program, port, "/stuck") as (_, pid):
            assert program.stop() == 3
    if pid != program.process.pid:
        wait_until_gone(pid)
    assert "GET /before" in (site / "access.log").read_text(), "the logs are written to the end"


def wait_until_gone(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            end = time.monotonic() + PATIENCE
            while os.path.exists(f"/proc/{pid}") and not gone(descriptor):
                assert time.monotonic() < end, f"process {pid} is left"
        finally:
            os.close(descriptor)


def gone(descriptor: int) -> bool:
    """A descriptor of a process is readable once that has ended: pidfd_open(2)."""
    return bool(select.select([descriptor], [], [], 0.1)[0])


def test_an_executor_of_ones_own_is_made_once_the_server_starts(site: Path) -> None:
    with running(site, "shop", *ANY_PORT, "-t", "loop", "--offload", "shop:executor", *HOOKS) as program:
        assert int(get(program.port)) == program.process.pid
        assert program.stop() == 0
    assert [name for name, _ in hooks_called(program)][:4] == ["starting", "process_start", "executor", "ready"]


def test_what_is_no_executor_ends_the_start(site: Path) -> None:
    done = run(site, "serve", "shop", *ANY_PORT, "-t", "loop", "--offload", "shop:no_executor")
    assert done.returncode == 1
    assert "Error: --offload shop:no_executor has made 5: return an executor, as those of concurrent" in done.stderr
    assert "Traceback" not in done.stderr
