"""Who is measured in the lab: names and what they stand for, commands, what is missing, and that they serve."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import interpreters
from bench.children import ChildError
from bench.lab.serving import serving
from bench.models import MODELS
from bench.peers import apps as peers_apps
from bench.peers import lisp
from bench.peers.apps import Work
from bench.peers.server import PEERS
from bench.subjects import WIRES, Setup, find_subject, subjects_of

APP = """\
def app(environ, start_response):
    body = b"mine, " + environ["PATH_INFO"].encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def endless(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"one, "
    yield b"two"


nothing = None
"""


def made_up_python(path: Path, version: str = "3.13.5", free_threaded: bool = True, **packages: str) -> Path:
    """A program at `path` that answers as an interpreter would; `packages` are those that it can import."""
    number = [int(part) for part in version.split(".")[:2]]
    path.write_text(f"#!/bin/sh\necho '{json.dumps([version, number, free_threaded, packages])}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def no_python_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreters, "_known", {})


# Names.


@pytest.mark.parametrize(("text", "names"), [
    ("pool,waitress,recycling-park/h11", ["pool-hold", "pool-park", "waitress", "recycling-park/h11"]),
    ("recycling/httptools", ["recycling-hold/httptools", "recycling-park/httptools"]),
    ("loop, loop,single", ["loop", "single"]),
    ("models", list(MODELS)),
    ("models/h11", [f"{name}/h11" for name in MODELS]),
    ("probe,stdlib", ["probe", "stdlib"]),
    ("taskmaster:PooledTaskmaster/h11", ["taskmaster:PooledTaskmaster/h11"]),
])
def test_words_stand_for_names(text: str, names: list[str]) -> None:
    assert subjects_of(text) == names


@given(st.lists(st.builds("{}{}".format, st.sampled_from([*MODELS, "taskmaster:PooledTaskmaster"]),
                          st.sampled_from(["", *(f"/{wire}" for wire in WIRES)])) | st.sampled_from(list(PEERS)),
                min_size=1, unique=True))
def test_names_are_read_as_they_are_written(names: list[str]) -> None:
    assert subjects_of(",".join(names)) == names
    assert [find_subject(name).name for name in names] == names


@pytest.mark.parametrize(("name", "message"), [
    ("gunicorm", "there is no model 'gunicorm': choose from single, .* other servers, waitress, .*, hunchentoot"),
    ("waitress/h11", "there is no model 'waitress/h11'"),
    ("single/h12", "there is no parser 'h12'; choose from h11, httptools"),
    ("nowhere.at_all:Class", "cannot be had: No module named 'nowhere'"),
    ("collections:Counter", "is not a taskmaster"),
    ("single@/nowhere/python", "/nowhere/python does not run: "),
    ("hunchentoot@3.13", "is no Python program; leave out @3.13"),
    ("", "there is no model ''"),
])
def test_names_that_stand_for_nobody(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        subjects_of(f"single,{name}")


def test_peers_are_all_others_that_are_installed(tmp_path: Path) -> None:
    path = made_up_python(tmp_path / "python", granian="2.6", uvicorn="0.38", h11="0.16")
    assert subjects_of(f"peers@{path}") == ["uvicorn-h11@3.13t", "granian@3.13t", "stdlib@3.13t"]


# Interpreters.


def test_a_subject_can_be_run_by_another_python(tmp_path: Path) -> None:
    path = made_up_python(tmp_path / "python", h11="0.16")
    subject = find_subject(f"recycling-park/h11@{path}")
    assert subject.name == "recycling-park/h11@3.13t"
    assert subject.command(Setup())[:3] == [str(path), "-m", "bench.server"]
    assert subject.missing() == ""
    assert subject.settings(Setup()) == "RecyclingTaskmaster(idle='park'), h11 0.16, Python 3.13.5"
    assert find_subject("waitress@3.13t").command(Setup())[0] == str(path), "it is known by its version from now on"
    assert interpreters.known() == {"3.13t": str(path)}


def test_whoever_names_no_python_is_run_by_each_that_is_asked_for(tmp_path: Path) -> None:
    one = made_up_python(tmp_path / "one", "3.12.1", free_threaded=False)
    other = made_up_python(tmp_path / "other", "3.14.0")
    assert subjects_of(f"single,stdlib@{one}", [str(one), str(other)]) == ["single@3.12", "single@3.14t", "stdlib@3.12"]


def test_two_pythons_that_a_table_could_not_tell_apart(tmp_path: Path) -> None:
    one, other = made_up_python(tmp_path / "one", "3.13.5"), made_up_python(tmp_path / "other", "3.13.6")
    with pytest.raises(ValueError, match=r"are both Python 3\.13t.*compare them one after the other"):
        subjects_of("single", [str(one), str(other)])


def test_this_python_is_known_by_its_version() -> None:
    tag = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if not interpreters.ask(sys.executable).free_threaded:
        assert find_subject(f"single@{tag}").python == sys.executable


def test_a_python_that_is_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made_up_python(tmp_path / "python3.99t", "3.99.0")
    made_up_python(tmp_path / "python3.98", "3.97.0", free_threaded=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_subject("single@3.99t").python == str(path)
    assert find_subject("single@3.98").python == "", "it is called so, and is another version"


def test_results_of_a_python_that_is_not_here_can_be_read() -> None:
    subject = find_subject("pool-park@3.99")
    assert subject.missing() == "no Python 3.99 is known here: give its path, pool-park@/path/to/python"
    assert subject.settings(Setup(threads=8)) == (
        "PooledTaskmaster(threads=8, idle='park'), all its threads from the start")
    with pytest.raises(ValueError, match=r"no Python 3\.99 is known"):
        subject.command(Setup())


def test_what_answers_nonsense_is_no_python(tmp_path: Path) -> None:
    path = tmp_path / "python"
    path.write_text("#!/bin/sh\necho hello\n")
    path.chmod(0o755)
    with pytest.raises(ValueError, match="is no Python: it answers 'hello"):
        find_subject(f"single@{path}")


def test_what_is_missing_is_said_with_what_installs_it(tmp_path: Path) -> None:
    path = str(made_up_python(tmp_path / "python"))

    def missing(name: str) -> str:
        return find_subject(f"{name}@{path}").missing()

    assert missing("single/httptools") == (
        f"h11 and httptools not installed: {path} -m pip install h11 httptools")
    assert missing("bjoern") == ("bjoern not installed: it is built from C: apt install build-essential libev-dev, and "
                                 f"then {path} -m pip install bjoern")
    assert missing("stdlib") == missing("probe") == ""
    old = made_up_python(tmp_path / "old", "3.9.1", free_threaded=False)
    assert find_subject(f"stdlib@{old}").missing() == f"Python 3.11 or newer is needed, and {old} is 3.9.1"


def test_this_python_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_subject("recycling-park").missing() == ""
    monkeypatch.setattr(subprocess, "run", None)
    assert find_subject("pool-hold/h11").missing() == ""
    assert find_subject("pool-hold/h11").settings(Setup()).startswith("PooledTaskmaster(idle='hold'), h11 ")


# Commands.


def said(name: str, setup: Setup) -> str:
    return " ".join(find_subject(name).command(setup)[2:])


@pytest.mark.parametrize(("name", "setup", "command"), [
    ("recycling-park", Setup(), "bench.server --model recycling-park --capacity 0"),
    ("pool-hold/h11", Setup(threads=8, queue=1000, idle_s=30),
     "bench.server --model pool-hold --http h11 --capacity 8 --exactly --queue 1000 --keep-alive 30"),
    ("prefork", Setup(capacity=128, processes=2, switch_interval_ms=0.5, sleep_ms=0.1, spin_ms=2, by_path=True),
     "bench.server --model prefork --capacity 128 --sleep 0.1 --spin 2 --by-path --switch-interval 0.5 --processes 2"),
    ("loop", Setup(sleep_ms=5, app="shop:app"), "bench.server --model loop --capacity 0 --app shop:app"),
    ("waitress", Setup(threads=4, capacity=128, queue=5),
     "bench.peers.server waitress --app wsgi --threads 4"),
    ("gunicorn", Setup(processes=2, app="shop:app", by_path=True),
     "bench.peers.server gunicorn --app shop:app --processes 2"),
    ("bjoern", Setup(threads=1, processes=1, app="flask", spin_ms=1),
     "bench.peers.server bjoern --app flask --spin 1 --processes 1"),
    ("stdlib", Setup(idle_s=2, switch_interval_ms=1),
     "bench.peers.server stdlib --app wsgi --keep-alive 2 --switch-interval 1"),
    ("probe", Setup(sleep_ms=0.1), "bench.studies.speed.probe --sleep 0.1"),
])
def test_commands(name: str, setup: Setup, command: str) -> None:
    assert said(name, setup) == command


@pytest.mark.parametrize(("name", "setup", "message"), [
    ("bjoern", Setup(threads=8), "bjoern cannot be told to have 8 threads: it has one; these can: waitress, cheroot"),
    ("werkzeug", Setup(threads=8), "it starts one for each connection"),
    ("waitress", Setup(processes=2), "cannot be told to have 2 processes; these can: gunicorn"),
    ("uvicorn-h11", Setup(app="shop:app"), "cannot serve shop:app: that is a WSGI application, and it serves ASGI"),
    ("probe", Setup(by_path=True), "cannot be told work by path"),
    ("hunchentoot", Setup(threads=8), "cannot be told to have exactly so many threads: give a capacity"),
    ("hunchentoot", Setup(processes=2), "is one process"),
    ("recycling-park", Setup(processes=2), "is one process, and cannot be 2; prefork can"),
    ("hunchentoot", Setup(app="shop:app"), "cannot serve shop:app"),
    ("single", Setup(app="shop"), "write \"module:app\", or wsgi or flask"),
    ("waitress", Setup(app=":app"), "write \"module:app\""),
])
def test_what_would_be_another_experiment_is_refused(name: str, setup: Setup, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_subject(name).command(setup)


@given(st.sampled_from([*MODELS, *PEERS]), st.builds(
    Setup, sleep_ms=st.floats(0, 1e4), capacity=st.none() | st.integers(1, 10**6), threads=st.none() | st.just(1),
    idle_s=st.none() | st.floats(0.1, 1e6), processes=st.none() | st.just(1)))
def test_numbers_are_told_as_they_are(name: str, setup: Setup) -> None:
    if setup.threads and name in ("werkzeug", "stdlib"):
        return
    command = find_subject(name).command(setup)
    for flag, value in (("--sleep", setup.sleep_ms or None), ("--keep-alive", setup.idle_s)):
        assert (float(command[command.index(flag) + 1]) if flag in command else None) == (
            value if value is None else pytest.approx(value, rel=1e-9))


def test_how_each_is_set_up_is_said_in_words() -> None:
    assert find_subject("prefork").settings(Setup(capacity=128, processes=3, switch_interval_ms=0.5)) == (
        "PreforkTaskmaster(RecyclingTaskmaster(idle='park', ...), processes=3) for 128 together, "
        "switch interval 0.5 ms")
    for name, peer in PEERS.items():
        text = find_subject(name).settings(Setup(threads=5, app="shop:app"))
        assert text.startswith(name.partition("-")[0])
        assert not peer.pool or "5" in text
        assert "shop:app" in text
        assert "{" not in text


# What others serve.


@given(st.sampled_from(["sleep", "spin"]), st.floats(0, 1e6))
def test_a_path_says_what_a_request_does(what: str, milliseconds: float) -> None:
    times = Work(by_path=True).times(f"/{what}/{milliseconds!r}")
    assert times == ((milliseconds / 1e3, 0.0) if what == "sleep" else (0.0, milliseconds / 1e3))
    assert Work(sleep_ms=1, spin_ms=2).times(f"/{what}/{milliseconds!r}") == (0.001, 0.002)


@pytest.mark.parametrize("path", ["/", "", "/sleepy/1", "/tiny", "/x/sleep/1"])
def test_other_paths_are_answered_at_once(path: str) -> None:
    assert Work(by_path=True).times(path) == (0.0, 0.0)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An application in the current directory."""
    (tmp_path / "mine_to_serve.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    return "mine_to_serve"


@pytest.mark.parametrize(("name", "message"), [
    ("nothing", "is None, which cannot be called"), ("app.x", "cannot be had: .* has no attribute 'x'"),
])
def test_applications_that_are_none(name: str, message: str, mine: str, tmp_path: Path,
                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=message):
        peers_apps.load(f"{mine}:{name}")


def ask(connection: HTTPConnection, path: str) -> tuple[int, bytes]:
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, response.read()


@pytest.mark.parametrize("name", [*MODELS, "stdlib"])
def test_it_serves_what_the_path_says(name: str) -> None:
    with serving(name, Setup(by_path=True, capacity=8), pinned=False) as server:
        client = HTTPConnection("127.0.0.1", server.port, timeout=20)
        try:
            assert ask(client, "/") == (200, b"Hello, World")
            used = server.cpu_seconds
            assert ask(client, "/spin/30") == (200, b"Hello, World")
            assert server.cpu_seconds - used > 0.029
            assert ask(client, "/sleep/0.01") == (200, b"Hello, World")
            assert ask(client, "/sleep/long")[0] == 404
        finally:
            client.close()


@pytest.mark.parametrize("name", ["recycling-park", "stdlib", "werkzeug"])
def test_it_serves_an_application_of_the_users(name: str, mine: str) -> None:
    if missing := find_subject(name).missing():
        pytest.skip(missing)
    with serving(name, Setup(app=f"{mine}:app"), pinned=False) as server:
        client = HTTPConnection("127.0.0.1", server.port, timeout=20)
        try:
            assert ask(client, "/a/b") == (200, b"mine, /a/b")
            assert ask(client, "/sleep/1") == (200, b"mine, /sleep/1")
        finally:
            client.close()


def test_stdlib_closes_a_connection_where_the_end_of_the_body_is_not_known(mine: str) -> None:
    with serving("stdlib", Setup(app=f"{mine}:endless"), pinned=False) as server:
        client = HTTPConnection("127.0.0.1", server.port, timeout=20)
        try:
            client.request("GET", "/")
            response = client.getresponse()
            assert response.getheader("connection") == "close"
            assert response.read() == b"one, two"
        finally:
            client.close()


@pytest.mark.parametrize("name", ["single", "stdlib"])
def test_an_application_that_is_not_there(name: str, mine: str) -> None:
    with (pytest.raises(ChildError, match="'nowhere_at_all:app' cannot be had: No module named 'nowhere_at_all'"),
          serving(name, Setup(app="nowhere_at_all:app"), pinned=False)):
        pass


# Lisp.


def test_without_lisp_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    lisp.ask.cache_clear()
    try:
        assert find_subject("hunchentoot").missing() == "sbcl is not installed: apt install sbcl cl-hunchentoot"
        with pytest.raises(ValueError, match=r"-recycling: sbcl is not installed: clone .* into ~/common-lisp"):
            find_subject("hunchentoot-recycling").command(Setup())
        assert find_subject("hunchentoot").settings(Setup(capacity=7)) == (
            "hunchentoot: one thread per connection, at most 7 threads, no log")
    finally:
        lisp.ask.cache_clear()


def made_up_lisp(folder: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    (folder / "sbcl").write_text(f"#!/bin/sh\n{program}\n")
    (folder / "sbcl").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    lisp.ask.cache_clear()


def test_lisp_that_loads_is_called_with_all_it_can_be_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_up_lisp(tmp_path, monkeypatch, "echo 'hunchentoot 1.3, SBCL 2.2'")
    try:
        subject = find_subject("hunchentoot")
        command = " ".join(subject.command(Setup(capacity=50, queue=3, idle_s=20, sleep_ms=0.1, by_path=True)))
        assert command.startswith("sbcl --noinform ")
        assert command.endswith(
            "--system hunchentoot --sleep 0.1 --by-path --threads 50 --queue 3 --keep-alive 20")
        assert subject.settings(Setup()).startswith("hunchentoot 1.3, SBCL 2.2: ")
        assert "hunchentoot-recycling" in subjects_of("peers")
    finally:
        lisp.ask.cache_clear()


def test_lisp_that_does_not_load_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_up_lisp(tmp_path, monkeypatch, "echo 'line 1' >&2; echo 'Component not found' >&2; exit 1")
    try:
        assert find_subject("hunchentoot").missing() == (
            "sbcl does not load it: Component not found. To get it: apt install sbcl cl-hunchentoot")
        assert "hunchentoot" not in subjects_of("peers")
    finally:
        lisp.ask.cache_clear()


@pytest.mark.skipif(not shutil.which("sbcl"), reason="sbcl is not installed: apt install sbcl cl-hunchentoot")
def test_the_original_serves() -> None:
    if missing := find_subject("hunchentoot").missing():
        pytest.skip(missing)
    with serving("hunchentoot", Setup(by_path=True, capacity=10, idle_s=20), pinned=False) as server:
        client = HTTPConnection("127.0.0.1", server.port, timeout=20)
        try:
            assert ask(client, "/") == ask(client, "/sleep/0.1") == ask(client, "/spin/0.1") == (200, b"Hello, World")
        finally:
            client.close()
