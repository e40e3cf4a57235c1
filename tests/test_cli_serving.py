"""`taskmaster serve` as a process: what it serves, what signals do, what it logs, and what it exits with."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import ssl
import time
from pathlib import Path

import pytest
import trustme

from tests.cli_programs import get, run, running, wait_for_content
from tests.clients import PATIENCE, RawClient, request

APPLICATIONS = """
import os, sys, threading, time
import handlers, tests, bench                           # of this folder, not of ours

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/gate":
        print("in progress", file=environ["wsgi.errors"], flush=True)
        while not os.path.exists("open"):
            time.sleep(0.01)
    elif path == "/stuck":
        print("in progress", file=environ["wsgi.errors"], flush=True)
        threading.Event().wait()
    elif path == "/fails":
        raise ValueError("as asked")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [("%s %s" % (environ["SCRIPT_NAME"], path)).encode()]

def handler(request):
    return "handled"

def say(*words):
    sys.stderr.write(" ".join(map(str, ("hook", *words))) + "\\n")   # at once: several threads say something

class Hooks:
    def starting(self, acceptor): say("starting", acceptor.port)
    def ready(self, acceptor): say("ready", acceptor.port > 0)
    def stopping(self, acceptor): say("stopping")
    def stopped(self, acceptor): say("stopped")
    def thread_start(self): say("thread_start", threading.current_thread().name.partition("-")[0])
    def thread_exit(self): say("thread_exit")

hooks = Hooks()

class Failing:
    def ready(self, acceptor): raise ValueError("not ready after all")

failing = Failing()
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory with a module `shop`, and packages of names that we have too."""
    (tmp_path / "shop.py").write_text(APPLICATIONS)
    for name in ("handlers", "tests", "bench"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    return tmp_path


HOOKS = ("--hooks", "shop:hooks")
ANY_PORT = ("-b", "127.0.0.1:0")


def test_it_serves_says_what_it_is_and_exits_with_0(site: Path) -> None:
    with running(site, "shop", *ANY_PORT, "-t", "pool", "--threads", "3", "--script-name", "/a") as program:
        line = program.wait_for("Taskmasters")[0] + program.said
        for word in ("h11", "Python", f"process {program.process.pid}", "PooledTaskmaster, 3 threads"):
            assert word in line
        assert get(program.port, "/a/b") == b"/a /b"
        assert program.stop() == 0
    assert "stopped; connections: 1 served, 0 refused" in program.said
    assert "Traceback" not in program.said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=str)
def test_a_request_in_progress_is_answered(site: Path, number: signal.Signals) -> None:
    with running(site, "shop", *ANY_PORT, *HOOKS) as program, RawClient.connect(program.port) as client:
        client.send(request("/gate"))
        program.wait_for("in progress")
        program.signal(number)
        program.wait_for("hook stopping")
        (site / "open").touch()
        assert client.read_response().body == b" /gate"
        assert program.end() == 0


@pytest.mark.parametrize("numbers", [[signal.SIGTERM, signal.SIGINT], [signal.SIGQUIT]], ids=str)
def test_what_is_cut_is_told_by_the_exit_code(site: Path, numbers: list[signal.Signals]) -> None:
    with running(site, "shop", *ANY_PORT, *HOOKS) as program, RawClient.connect(program.port) as client:
        client.send(request("/stuck"))
        program.wait_for("in progress")
        program.signal(numbers[0])
        program.wait_for("hook stopping")
        for number in numbers[1:]:
            program.signal(number)
        assert program.end() == 3, "and within PATIENCE, not after the graceful timeout"
    assert re.search(r"it cut \S.*127\.0\.0\.1", program.said), program.said


def test_past_the_graceful_timeout_requests_are_cut(site: Path) -> None:
    with running(site, "shop", *ANY_PORT, "--graceful-timeout", "0.1") as program, \
            RawClient.connect(program.port) as client:
        client.send(request("/stuck"))
        program.wait_for("in progress")
        assert program.stop() == 3


def test_it_leaves_before_it_stops(site: Path) -> None:
    with running(site, "shop:handler", *ANY_PORT, "--leave", "600", "--ready-path", "/readyz", "--live-path", "/livez"
                 ) as program:
        port = program.port
        for path in ("/readyz", "/livez"):
            assert get(port, path) == b"ok\n"
        program.signal(signal.SIGTERM)
        answers = [200]
        end = time.monotonic() + PATIENCE
        while answers[-1] == 200 and time.monotonic() < end:  # until the signal has arrived
            with RawClient.connect(port) as client:
                client.send(request("/readyz"))
                answers.append(client.read_response().status)
        assert answers[-1] == 503
        assert get(port, "/livez") == b"ok\n"
        assert get(port) == b"handled"
        program.signal(signal.SIGTERM)
        # At once, not after 600 s. 3 if the thread that has sent the last answer was still about to say so.
        assert program.end() in (0, 3), program.said


def test_it_listens_on_all_that_it_is_told(site: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as inherited:
        bind = ["-b", "127.0.0.1:0", "-b", f"unix:{site}/app.sock", "-b", f"fd://{inherited.fileno()}"]
        with running(site, "shop:handler", *bind, pass_fds=(inherited.fileno(),)) as program:
            assert get(program.port) == b"handled"
            assert get(inherited.getsockname()[1]) == b"handled"
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(site / "app.sock"))
                client = RawClient(sock)
                client.send(request())
                assert client.read_response().body == b"handled"
            assert program.stop() == 0
    assert not (site / "app.sock").exists()


def test_the_port_of_the_environment_is_open_to_all(site: Path) -> None:
    with running(site, environ={"TASKMASTER_APP": "shop", "PORT": "0", "TASKMASTER_THREADS": "1:2"}) as program:
        assert "1 to 2 threads" in program.wait_for("Taskmasters").string
        assert "http://0.0.0.0:" in program.wait_for("listening on").string
        assert program.stop() == 0


def test_an_address_that_is_taken_is_said_to_be(site: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        (site / "shop.pid").write_text("4711\n")
        for arguments in (["--pidfile", "shop.pid"], ["--reload"]):
            done = run(site, "serve", "shop", "-b", address, *arguments)
            assert done.returncode == 1
            assert f"Error: cannot listen on {address}: Address already in use" in done.stderr
            assert "Traceback" not in done.stderr
    assert (site / "shop.pid").read_text() == "4711\n", "another's is left alone"


def test_hooks_are_called_in_order(site: Path) -> None:
    with running(site, "shop", *ANY_PORT, "--hooks", "shop:hooks", "-t", "single") as program:
        program.wait_for("hook ready")
        assert program.stop() == 0
    said = [line.removeprefix("hook ") for line in program.said.splitlines() if line.startswith("hook ")]
    server = [word for word in said if not word.startswith("thread")]
    assert server == ["starting 0", "ready True", "stopping", "stopped"]
    threads = [word for word in said if word.startswith("thread")]
    assert sorted(threads) == ["thread_exit", "thread_exit", "thread_start single", "thread_start watcher"]
    assert said.index("starting 0") < said.index(threads[0])
    assert said[-1] == "stopped"


def test_a_hook_that_fails_ends_it_with_its_own_traceback(site: Path) -> None:
    done = run(site, "serve", "shop", *ANY_PORT, "--hooks", "shop:failing", "--pidfile", "shop.pid")
    assert done.returncode == 1
    assert "Error: the hook ready failed:" in done.stderr
    assert done.stderr.rstrip().endswith("ValueError: not ready after all")
    assert done.stderr.count("  File ") == 1
    assert not (site / "shop.pid").exists()


def test_the_pid_file_is_there_while_it_serves(site: Path) -> None:
    with running(site, "shop", *ANY_PORT, "--pidfile", "shop.pid", "--hooks", "shop:hooks") as program:
        program.wait_for("hook ready")
        assert (site / "shop.pid").read_text() == f"{program.process.pid}\n"
        assert program.stop() == 0
    assert not (site / "shop.pid").exists()


# Logs, and SIGHUP.


def test_a_hangup_opens_the_log_files_anew(site: Path) -> None:
    logs = ["--access-log", "access.log", "--access-log-format", "%(m)s %(U)s %(s)s", "--error-log", "error.log"]
    with running(site, "shop", *ANY_PORT, *logs, "--hooks", "shop:hooks") as program:
        program.wait_for("hook ready")
        port = int((site / "error.log").read_text().partition("http://127.0.0.1:")[2].partition(" ")[0])
        get(port, "/before")
        wait_for_content(site / "access.log", "GET /before 200\n")
        for name in ("access.log", "error.log"):
            (site / name).rename(site / f"{name}.1")
        program.signal(signal.SIGHUP)
        wait_for_content(site / "error.log", "reloaded: log files\n")
        get(port, "/after")
        assert program.stop() == 0
    assert (site / "access.log.1").read_text() == "GET /before 200\n"
    assert (site / "access.log").read_text() == "GET /after 200\n"
    assert "stopped" in (site / "error.log").read_text()
    assert "stopped" not in program.said.replace("hook stopped", "")


def test_a_hangup_reads_the_certificates_again(site: Path) -> None:
    authority = trustme.CA()
    client = ssl.create_default_context()
    authority.configure_trust(client)

    def issue(name: str) -> None:
        authority.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(str(site / "server.pem"))

    def names(port: int) -> set[str]:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
            client.check_hostname = False
            with client.wrap_socket(sock) as tls:
                certificate = tls.getpeercert()
                return set(re.findall(r"\w+\.test", str(certificate)))

    issue("before.test")
    with running(site, "shop", *ANY_PORT, "--certfile", "server.pem") as program:
        port = program.port
        assert names(port) == {"before.test"}
        issue("after.test")
        program.signal(signal.SIGHUP)
        program.wait_for("reloaded: certificates")
        assert names(port) == {"after.test"}
        (site / "server.pem").write_text("broken")
        program.signal(signal.SIGHUP)
        assert "server.pem" in program.wait_for("cannot reload the certificates, and goes on with those it").string
        assert names(port) == {"after.test"}
        assert program.stop() == 0


def test_the_log_can_be_json(site: Path) -> None:
    with running(site, "shop", *ANY_PORT, "--log-format", "json") as program:
        port = int(program.wait_for(r"listening on http://127.0.0.1:(\d+)")[1])
        with RawClient.connect(port) as client:
            client.send(request("/fails"))
            assert client.read_response().status == 500
        assert program.stop() == 0
    records = [json.loads(line) for line in program.said.splitlines()]
    failed = next(record for record in records if "exception" in record)
    assert failed["exception"].endswith("ValueError: as asked")
    assert failed["level"] == "ERROR"
    assert {record["process"] for record in records} == {program.process.pid}


@pytest.mark.parametrize("form", ["json", "toml", "ini"])
def test_logs_as_a_logging_configuration_says(site: Path, form: str) -> None:
    (site / "log.json").write_text(json.dumps({
        "formatters": {"access": {"()": "acceptor.access.AccessFormatter", "style": "%(U)s"}},
        "handlers": {"access": {"class": "logging.FileHandler", "filename": "access.log", "formatter": "access"},
                     "errors": {"class": "logging.StreamHandler"}},
        "loggers": {"acceptor": {"handlers": ["errors"], "level": "INFO"},
                    "acceptor.access": {"handlers": ["access"], "propagate": False}}}))
    (site / "log.toml").write_text(
        '[handlers.access]\nclass = "logging.FileHandler"\nfilename = "access.log"\n'
        '[handlers.errors]\nclass = "logging.StreamHandler"\n'
        '[loggers.acceptor]\nhandlers = ["errors"]\nlevel = "INFO"\n'
        '[loggers."acceptor.access"]\nhandlers = ["access"]\npropagate = false\n')
    (site / "log.ini").write_text(
        "[loggers]\nkeys=root,acceptor,access\n[handlers]\nkeys=errors,access\n[formatters]\nkeys=\n"
        "[logger_root]\nhandlers=\n[logger_acceptor]\nqualname=acceptor\nlevel=INFO\nhandlers=errors\n"
        "[logger_access]\nqualname=acceptor.access\nhandlers=access\npropagate=0\n"
        "[handler_errors]\nclass=StreamHandler\nargs=()\n"
        "[handler_access]\nclass=FileHandler\nargs=('access.log',)\n")
    with running(site, "shop", *ANY_PORT, "--log-config", f"log.{form}") as program:
        port = program.port
        get(port, "/before")
        wait_for_content(site / "access.log", "/before")
        (site / "access.log").rename(site / "access.log.1")
        program.signal(signal.SIGHUP)
        program.wait_for("reloaded")
        get(port, "/after")
        wait_for_content(site / "access.log", "/after")
        assert program.stop() == 0
    assert "/after" not in (site / "access.log.1").read_text()


def test_a_wrong_logging_configuration_says_what_is_wrong(site: Path) -> None:
    (site / "log.json").write_text(json.dumps({"handlers": {"x": {"class": "no.such.Handler"}}}))
    (site / "log.toml").write_text("[handlers")
    (site / "log.ini").write_text("[loggers]\nkeys=root\n")
    words = {"json": "Unable to configure handler 'x'", "toml": "TOMLDecodeError",
             "ini": "the section [formatters] is missing; with nothing to list, write keys= in it"}
    for form, word in words.items():
        done = run(site, "serve", "shop", "--log-config", f"log.{form}", "--check-config")
        assert done.returncode == 2
        assert f"--log-config 'log.{form}'" in done.stderr
        assert word in done.stderr
        assert "Traceback" not in done.stderr


def test_standard_output_is_the_access_logs(site: Path) -> None:
    (site / "selfish.py").write_text(
        "import threading, urllib.request, os, signal\n"
        "def ready(acceptor):\n"
        "    def visit():\n"
        "        urllib.request.urlopen(acceptor.urls[0] + '/itself').read()\n"
        "        acceptor.request_stop()\n"
        "    threading.Thread(target=visit).start()\n")
    done = run(site, "serve", "shop", *ANY_PORT, "--access-log", "-", "--hooks", "selfish")
    assert done.returncode == 0, done.stderr
    assert '"GET /itself HTTP/1.1" 200 8' in done.stdout
    assert done.stdout.count("\n") == 1


def test_the_check_listens_nowhere_and_makes_no_file(site: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run(site, "serve", "shop", "-b", address, "--error-log", "error.log", "--check-config")
    assert (done.returncode, done.stdout, done.stderr) == (0, "configuration ok\n", "")
    assert not (site / "error.log").exists()


def test_https_is_served(site: Path) -> None:
    authority = trustme.CA()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(site / "server.pem"))
    client = ssl.create_default_context()
    authority.configure_trust(client)
    with running(site, "shop", *ANY_PORT, "--certfile", "server.pem", "--tls-minimum", "1.3") as program:
        connection = http.client.HTTPSConnection("localhost", program.port, context=client, timeout=PATIENCE)
        connection.request("GET", "/x")
        assert connection.getresponse().read() == b" /x"
        connection.close()
        assert program.stop() == 0


def test_it_can_be_interrupted_while_it_loads(site: Path) -> None:
    # Many short sleeps: a signal that comes just before a long one would be heeded at its end.
    (site / "endless.py").write_text("import sys, time\nprint('loading', file=sys.stderr, flush=True)\n"
                                     "while True:\n    time.sleep(0.01)\n")
    with running(site, "endless", *ANY_PORT) as program:
        program.wait_for("loading")
        program.signal(signal.SIGINT)
        assert program.end() == 1
    assert "Traceback" not in program.said
