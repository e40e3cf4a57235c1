"""What the documents say is run: a snippet that does not work is a bug."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from types import ModuleType

import pytest

import taskmaster.per_connection
import taskmaster.pooled
import taskmaster.recycling
import taskmaster.single
from acceptor import Acceptor
from taskmaster import SingleThreadedTaskmaster, ThreadState

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SERVER, SELECT, BLOCK, CUSTOM, CUSTOM_TEST = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)

MODELS = [taskmaster.single, taskmaster.per_connection, taskmaster.pooled, taskmaster.recycling]

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


@pytest.mark.parametrize("module", MODELS, ids=lambda module: module.__name__)
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
    for command in ("compare", "waiting"):
        assert command in run.stdout


def test_no_thread_is_left_by_the_documents() -> None:
    assert threading.active_count() == 1, threading.enumerate()
