"""--reload: which files are watched, and what becomes of clients, mistakes and signals meanwhile."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
from pathlib import Path

import pytest

from acceptor.cli.reload import _difference, _files
from tests.cli_programs import get, running
from tests.clients import PATIENCE, RawClient, request

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it takes signals by sigtimedwait(2)")

LISTENER = """
import os
from acceptor import Acceptor

original = Acceptor.request_stop

def request_stop(self, *, now=False):
    os.write(2, b"asked to stop, now=%s\\n" % str(now).encode())
    original(self, now=now)

Acceptor.request_stop = request_stop

def starting(acceptor):
    pass
"""
"""Hooks that tell what a child is asked for."""

ASKED = "asked to stop, now=(.*)"
ANY_PORT = ("-b", "127.0.0.1:0")


def write(path: Path, answer: str, before: str = "") -> None:
    """A module whose application answers `answer`. Each has another size, so that no clock is too coarse."""
    path.write_text(f"{before}\nimport os, sys, time\n"
                    f"def say(words):\n"
                    f"    print(words, file=sys.stderr, flush=True)\n"
                    f"def stopping(acceptor):\n"
                    f"    say('hook stopping')\n"
                    f"def app(request):\n"
                    f"    if request.path == '/gate':\n"
                    f"        say('in progress')\n"
                    f"        while not os.path.exists('open'): time.sleep(0.01)\n"
                    f"    if request.path == '/pid':\n"
                    f"        return str(os.getpid())\n"
                    f"    return {answer!r}\n")


def ended(pid: int) -> bool:
    """Waits until there is no such process."""
    descriptor = os.pidfd_open(pid)
    try:
        return bool(select.select([descriptor], [], [], PATIENCE)[0])
    finally:
        os.close(descriptor)


def test_a_change_is_served_a_mistake_is_survived_and_nobody_is_refused(tmp_path: Path) -> None:
    module = tmp_path / "shop.py"
    write(module, "one")
    with running(tmp_path, "shop", *ANY_PORT, "--reload", "--pidfile", "shop.pid", "--reload-include", "*.html",
                 "--reload-include", "*.py") as program:
        program.wait_for(r"watching \. for changes of \*\.py, \*\.html$")
        port = program.port
        assert get(port) == b"one"
        assert (tmp_path / "shop.pid").read_text() == f"{program.process.pid}\n"
        write(module, "number two")
        program.wait_for("shop.py has changed")
        assert get(port) == b"number two", "it was asked while nobody served, and waited"
        write(module, "never", before="raise ValueError('a mistake')")
        program.wait_for("ValueError: a mistake")
        program.wait_for("the server has ended .exit code 1.; it is started again when a file changes, "
                         "and clients wait until then")
        with RawClient.connect(port) as client:
            client.send(request())  # it waits until somebody is there
            write(module, "at last")
            assert client.read_response().body == b"at last"
        assert (tmp_path / "shop.pid").exists()
        assert program.stop() == 0
    assert not (tmp_path / "shop.pid").exists()
    assert "acceptor/cli" not in program.said


@pytest.mark.parametrize("together", [False, True], ids=["the parent alone", "the whole group"])
def test_a_signal_drains_once_whoever_gets_it(tmp_path: Path, together: bool) -> None:
    write(tmp_path / "shop.py", "one")
    (tmp_path / "listener.py").write_text(LISTENER)
    with running(tmp_path, "shop", *ANY_PORT, "--reload", "--hooks", "listener") as program:
        port = program.port
        child = int(get(port, "/pid"))
        with RawClient.connect(port) as client:
            client.send(request("/gate"))
            program.wait_for("in progress")
            program.signal(signal.SIGINT)
            assert program.wait_for(ASKED)[1] == "False"
            if together:  # as a terminal does it
                os.kill(child, signal.SIGINT)
                assert program.wait_for(ASKED)[1] == "False", "it has cut what was in progress"
            (tmp_path / "open").touch()
            assert client.read_response().body == b"one"
        assert program.end() == 0


def test_a_change_waits_for_requests_in_progress(tmp_path: Path) -> None:
    write(tmp_path / "shop.py", "one")
    with running(tmp_path, "shop", *ANY_PORT, "--reload", "--hooks", "shop") as program:
        port = program.port
        with RawClient.connect(port) as client:
            client.send(request("/gate"))
            program.wait_for("in progress")
            write(tmp_path / "shop.py", "number two")
            program.wait_for("hook stopping")
            (tmp_path / "open").touch()
            assert client.read_response().body == b"one"
        program.wait_for("has changed")
        assert get(port) == b"number two"
        assert program.stop() == 0


def test_a_parent_that_is_killed_leaves_nobody_behind(tmp_path: Path) -> None:
    write(tmp_path / "shop.py", "one")
    with running(tmp_path, "shop", *ANY_PORT, "--reload") as program:
        child = int(get(program.port, "/pid"))
        program.signal(signal.SIGKILL)
        assert ended(child)
        program.end()


def test_a_child_that_is_told_to_stop_ends_the_parent(tmp_path: Path) -> None:
    write(tmp_path / "shop.py", "one")
    with running(tmp_path, "shop", *ANY_PORT, "--reload") as program:
        os.kill(int(get(program.port, "/pid")), signal.SIGTERM)
        assert program.end() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT], ids=str)
def test_it_can_be_stopped_while_it_waits_for_a_change_or_loads(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "shop.py").write_text("raise ValueError\n")
    with running(tmp_path, "shop", *ANY_PORT, "--reload") as program:
        program.wait_for("it is started again when a file changes")
        program.signal(number)
        assert program.end() == 1
    # Many short sleeps: a signal that comes just before a long one would be heeded at its end.
    (tmp_path / "shop.py").write_text("import sys, time\nprint('loading', file=sys.stderr, flush=True)\n"
                                      "while True:\n    time.sleep(0.01)\n")
    with running(tmp_path, "shop", *ANY_PORT, "--reload") as program:
        program.wait_for("loading")
        program.signal(number)
        assert program.end() == 1


def test_a_socket_file_survives_and_is_removed_at_the_end(tmp_path: Path) -> None:
    write(tmp_path / "shop.py", "one")
    with running(tmp_path, "shop", "-b", f"unix:{tmp_path}/app.sock", "--reload") as program:
        for answer in ("one", "number two"):
            if answer != "one":
                write(tmp_path / "shop.py", answer)
            program.wait_for("listening on")
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(PATIENCE)
                sock.connect(f"{tmp_path}/app.sock")
                client = RawClient(sock)
                client.send(request())
                assert client.read_response().body == answer.encode()
        assert program.stop() == 0
    assert not (tmp_path / "app.sock").exists()


def test_a_hangup_is_passed_on(tmp_path: Path) -> None:
    write(tmp_path / "shop.py", "one")
    with running(tmp_path, "shop", *ANY_PORT, "--reload") as program:
        get(program.port)
        program.signal(signal.SIGHUP)
        program.wait_for("reloaded: log files")
        assert program.stop() == 0


# Which files.


def test_the_files_that_are_watched(tmp_path: Path) -> None:
    for name in ("a.py", "b.txt", "sub/c.py", ".hidden/d.py", "__pycache__/e.py", "node_modules/f.py", "venv/lib/g.py",
                 "venv/pyvenv.cfg", "sub/.h.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "nowhere.py").symlink_to("gone")
    watched = {os.path.relpath(path, tmp_path) for path, _ in _files([str(tmp_path)], ["*.py"])}
    assert watched == {"a.py", "sub/c.py", "sub/.h.py"}
    watched = {os.path.relpath(path, tmp_path) for path, _ in _files([str(tmp_path / "sub"), str(tmp_path)], ["b.*"])}
    assert watched == {"b.txt"}


def test_a_change_is_a_new_a_gone_or_another_file() -> None:
    before = {"a": (1, 1), "b": (2, 2)}
    assert _difference(before, dict(before)) == ""
    assert _difference(before, {**before, "c": (3, 3)}) == "c"
    assert _difference(before, {"a": (1, 1)}) == "b"
    assert _difference(before, {**before, "a": (1, 2)}) == "a"
    assert _difference(before, {**before, "b": (3, 2)}) == "b"
