"""What the documents say is run: a snippet that does not work is a bug."""

from __future__ import annotations

import dataclasses
import inspect
import re
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from types import ModuleType

import pytest
import trustme

import taskmaster.per_connection
import taskmaster.pooled
import taskmaster.prefork
import taskmaster.recycling
import taskmaster.single
from acceptor import Acceptor, Timeouts, Violation, phases
from acceptor.cli.reference import settings_reference
from acceptor.phases import Phase
from acceptor.wsgi import WSGI
from taskmaster import SingleThreadedTaskmaster, ThreadState
from tests.clients import RawClient, request

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
HTTP = (ROOT / "docs" / "http.md").read_text()
SNIPPET = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
SERVER, FLASK, SITE, LIVE, SELECT, BLOCK, CUSTOM, CUSTOM_TEST, OPTIONS = SNIPPET.findall(README)
CLOCK, DETACH, TLS_AND_ADDRESSES = SNIPPET.findall(HTTP)
[MOUNTS] = SNIPPET.findall((ROOT / "docs" / "applications.md").read_text())

MODELS = [taskmaster.single, taskmaster.per_connection, taskmaster.pooled, taskmaster.recycling, taskmaster.event_loop]

# The custom taskmaster of the README, and its contract suite, become a module and a test class of this one.
custom: dict[str, object] = {"__name__": "readme"}
CUSTOM_TEST = CUSTOM_TEST.replace("from my_module import LeaderFollowersTaskmaster\n", "")
exec(compile(CUSTOM + CUSTOM_TEST, "README.md", "exec"), custom)
TestLeaderFollowersOfTheReadme = custom["TestLeaderFollowers"]


def test_the_ten_line_server_serves() -> None:
    scope: dict[str, object] = {"__name__": "readme"}
    exec(compile(SERVER, "README.md", "exec"), scope)
    assert len(SERVER.splitlines()) <= 10
    program = SERVER.replace("port=4242", "port=0").replace(".serve_forever()", "")
    assert program != SERVER
    with Acceptor(scope["hello"], port=0, taskmaster=SingleThreadedTaskmaster()) as acceptor:  # type: ignore[arg-type]
        assert urllib.request.urlopen(f"http://{acceptor.name}/").read() == b"Hello, World"


def test_the_application_of_select_answers(capsys: pytest.CaptureFixture[str]) -> None:
    scope: dict[str, object] = {"__name__": "readme"}
    exec(compile(SELECT, "README.md", "exec"), scope)
    exec(compile(BLOCK, "README.md", "exec"), scope)
    assert capsys.readouterr().out.startswith("http://127.0.0.1:")
    with Acceptor(scope["app"], port=0, taskmaster=SingleThreadedTaskmaster()) as acceptor:  # type: ignore[arg-type]
        def get(path: str) -> bytes:
            body: bytes = urllib.request.urlopen(f"http://{acceptor.name}{path}").read()
            return body

        assert get("/") == b"Hello"
        assert get("/greet?name=Ada&times=2") == b"Hello, Ada! Hello, Ada! "
        assert get("/lines").count(b"\n") == 1000


def test_the_flask_application_of_the_readme_is_served() -> None:
    scope: dict[str, object] = {"__name__": "shop"}
    exec(compile(FLASK, "README.md", "exec"), scope)
    with Acceptor(WSGI(scope["app"]), port=0, taskmaster=SingleThreadedTaskmaster()) as server:  # type: ignore[arg-type]
        assert urllib.request.urlopen(f"http://{server.name}/").read() == b"Hello"


def test_the_site_of_the_readme_has_an_application_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "public").mkdir()
    (tmp_path / "public" / "a.txt").write_text("a file")
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {"__name__": "readme"}
    exec(compile(SITE, "README.md", "exec"), scope)
    with Acceptor(scope["site"], port=0, taskmaster=SingleThreadedTaskmaster()) as server:  # type: ignore[arg-type]
        assert urllib.request.urlopen(f"http://{server.name}/you").read() == b"Hello, /you"
        assert urllib.request.urlopen(f"http://{server.name}/static/a.txt").read() == b"a file"


def test_several_applications_are_mounted_as_the_documents_say() -> None:
    scope: dict[str, object] = {"__name__": "applications"}
    exec(compile(MOUNTS, "applications.md", "exec"), scope)
    with Acceptor(scope["site"], port=0, taskmaster=SingleThreadedTaskmaster()) as server:  # type: ignore[arg-type]
        answers = [urllib.request.urlopen(f"http://{server.name}{path}").read()
                   for path in ("/shop", "/shop/cart", "/shopping", "/")]
    assert answers == [b"/shop", b"/shop", b"", b""]


def test_the_settings_page_is_made_of_the_table_of_options() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    assert page.endswith("\n\n" + settings_reference().replace("### ", "## ").rstrip() + "\n"), (
        "print settings_reference() again, below the introduction")


def test_the_test_of_the_readme_passes(tmp_path: Path) -> None:
    application = SITE[SITE.index("def application"):SITE.index("shop, files")]
    (tmp_path / "test_it.py").write_text(LIVE + application)
    run = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"], cwd=tmp_path,
                         capture_output=True, text=True, timeout=60)
    assert "1 passed" in run.stdout, run.stdout + run.stderr


@pytest.fixture
def files_of_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with what the snippets name."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "clients.pem"))
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("files_of_a_server")
def test_the_options_shown_are_those_there_are() -> None:
    scope: dict[str, object] = {"__name__": "readme", "app": lambda request: "",
                                "PooledTaskmaster": taskmaster.pooled.PooledTaskmaster,
                                "RecyclingTaskmaster": taskmaster.recycling.RecyclingTaskmaster}
    for snippet in (OPTIONS, TLS_AND_ADDRESSES):
        exec(compile(snippet, "http.md", "exec"), scope)
        assert isinstance(scope.pop("acceptor"), Acceptor)


def test_the_clock_of_the_documents_ticks() -> None:
    scope: dict[str, object] = {"__name__": "http"}
    exec(compile(CLOCK, "http.md", "exec"), scope)
    with (Acceptor(scope["clock"], port=0, taskmaster=SingleThreadedTaskmaster()) as server,  # type: ignore[arg-type]
          RawClient.connect(server.port) as client):
        client.send(request())
        assert client.read_head() == 200
        assert b"data: " in client.read_body(6)


def test_the_detached_connection_of_the_documents_shouts() -> None:
    scope: dict[str, object] = {"__name__": "http"}
    exec(compile(DETACH, "http.md", "exec"), scope)
    with (Acceptor(scope["shout"], port=0, taskmaster=SingleThreadedTaskmaster()) as server,  # type: ignore[arg-type]
          RawClient.connect(server.port) as client):
        client.send(request() + b"early ")
        client.half_close()
        head, _, rest = client.read_to_end().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert rest == b"EARLY "


def test_the_table_of_violations_is_that_of_the_code() -> None:
    rows = [f"| `{violation.name}` | {violation.section} | {violation.status} | {violation.text} |"
            for violation in Violation]
    assert re.findall(r"^\| `[A-Z0-9_]+` .*$", HTTP, re.MULTILINE) == rows, "\n".join(rows)


def test_the_table_of_phases_is_that_of_the_code() -> None:
    table = inspect.getdoc(phases) or ""  # since 3.13 the compiler takes the indentation away
    assert re.findall(r"^([A-Z]{4,})  ", table, re.MULTILINE) == list(Phase.__members__)
    named = set(re.findall(r"Timeouts\.(\w+)", phases.__doc__ or ""))
    assert named <= {field.name for field in dataclasses.fields(Timeouts)}


def test_every_file_and_folder_the_readme_links_to_is_there() -> None:
    for document in ("README.md", "CONTRIBUTING.md", "bench/README.md", *sorted(
            str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))):
        base = (ROOT / document).parent
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / document).read_text()):
            assert (base / target).exists(), f"{document} links to {target}"


def test_every_make_target_that_is_mentioned_is_there() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for document in ("README.md", "CONTRIBUTING.md"):
        mentioned = set(re.findall(r"(?:`|^    )make (\w+)", (ROOT / document).read_text(), re.MULTILINE))
        assert mentioned, document
        assert mentioned <= targets


HEADINGS = ["In one sentence", "Who accepts, who serves", "Thread states", "When it is busy", "How it stops"]


@pytest.mark.parametrize("module", [*MODELS, taskmaster.prefork], ids=lambda module: module.__name__)
def test_every_model_tells_its_story_under_the_same_headings(module: ModuleType) -> None:
    assert module.__doc__ is not None
    assert re.findall(r"^(\S.*)$", module.__doc__, re.MULTILINE)[1:6] == HEADINGS


@pytest.mark.parametrize("module", MODELS, ids=lambda module: module.__name__)
def test_the_tables_of_states_name_states_that_there_are(module: ModuleType) -> None:
    table = re.findall(r"^    ([A-Z]{4,})  ", module.__doc__ or "", re.MULTILINE)
    assert table, "no table of states"
    assert set(table) <= set(ThreadState.__members__)
    for state, counted in re.findall(r"^    ([A-Z]{4,}) .*?threads\[(\w+)\]", module.__doc__ or "", re.MULTILINE):
        assert state == counted


@pytest.mark.parametrize("module", MODELS, ids=lambda module: module.__name__)
def test_every_model_has_its_methods_in_the_same_order(module: ModuleType) -> None:
    order = ["__init__", "execute_acceptor", "handle_incoming_connection", "_accept_loop", "_work", "_serve",
             "_next_connection", "_wait_for_room"]
    source = Path(module.__file__ or "").read_text()
    methods = [name for name in re.findall(r"^    def (\w+)\(", source, re.MULTILINE) if name in order]
    assert methods == sorted(methods, key=order.index)


def test_help_of_the_bench_works_from_the_checkout() -> None:
    run = subprocess.run([sys.executable, "-m", "bench", "--help"], capture_output=True, text=True, cwd=ROOT,
                         timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    for command in ("compare", "waiting", "hostile", "scale"):
        assert command in run.stdout


def test_no_thread_is_left_by_the_documents() -> None:
    assert threading.active_count() == 1, threading.enumerate()
