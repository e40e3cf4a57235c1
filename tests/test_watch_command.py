"""`taskmaster watch` and `taskmaster serve --control` as a person meets them: real processes, which leave nothing."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from acceptor import Acceptor
from acceptor.cli.commands import taskmaster
from acceptor.cli.options import OPTIONS
from taskmaster import SingleThreadedTaskmaster
from tests.cli_programs import clean_environ, command, running
from tests.clients import PATIENCE
from watching import child
from watching.asking import AskingError
from watching.child import sleeper
from watching.compare import _labels
from watching.gather import _found
from watching.load import CLIENTS, MOST_CLIENTS, SLEEP_MS, THINK_MS
from watching.server import ControlServer
from watching.source import LocalSource, Source, SourceError

MINE = """
from taskmaster import SingleThreadedTaskmaster

class Mine(SingleThreadedTaskmaster):
    pass

def app(request):
    print("this is for people")
    return "mine"
"""


def invoke(*arguments: str) -> Result:
    return CliRunner(env={option.variable: None for option in OPTIONS}).invoke(
        taskmaster, arguments, prog_name="taskmaster")


def said(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, {"Content-Type": "application/json"}),
                                timeout=PATIENCE) as response:
        return json.load(response)


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(0.01)
    return found


def children(process: int) -> list[int]:
    """Those that `process` has started."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if int(status.read_text().rpartition(")")[2].split()[1]) == process:
                found.append(int(status.parent.name))
    return found


@contextmanager
def watching(directory: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`taskmaster watch` in `directory`, where its temporary files are too, and the URL of its page."""
    with subprocess.Popen(command("watch", *arguments), cwd=directory, text=True, start_new_session=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=clean_environ({"TMPDIR": str(directory)})) as process:
        try:
            assert process.stdout is not None
            assert select.select([process.stdout], [], [], PATIENCE)[0], "it says nothing"
            line = process.stdout.readline()
            found = re.search(r"http://\S+", line)
            assert found, (line, process.communicate()[1] if not line else "")
            yield process, found[0]
            assert process.poll() is not None, "it still runs"
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()


def sources(url: str) -> dict[str, Any]:
    return {sample["label"]: sample for sample in said(f"{url}/snapshot.json")["sources"]}


def error_of(source: Source) -> str:
    """Why it cannot be read; "" if it can."""
    try:
        source.sample()
    except SourceError as error:
        return str(error)
    return ""


def gone(processes: list[int]) -> bool:
    return not any(Path(f"/proc/{each}").exists() for each in processes)


# Side by side.


def test_models_are_compared_under_a_load_until_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    with watching(tmp_path, "--compare", "pool,mine:Mine", "--app", "mine:app", "--clients", "3", "--think", "0"
                  ) as (process, url):
        started = children(process.pid)
        assert len(started) == 3, "two servers, and their clients"
        [folder] = tmp_path.glob("taskmaster-*")
        assert folder.stat().st_mode & 0o777 == 0o700
        wait_until(lambda: all(each["responses"]["total"] >= 9 for each in sources(url).values()), "all are answered")
        now = sources(url)
        assert [(label, each["model"]) for label, each in now.items()] == [
            ("pool", "PooledTaskmaster"), ("mine:Mine", "Mine")]
        assert {each["process"] for each in now.values()} < set(started)
        load = wait_until(lambda: (told := said(f"{url}/load"))["seen"] and told, "the clients have seen something")
        assert {each["name"] for each in now.values()} == set(load.pop("seen"))
        assert load == {"clients": 3, "keep_alive": False, "sleep_ms": SLEEP_MS}
        assert said(f"{url}/load", {"clients": 5, "keep_alive": True})["clients"] == 5
        wait_until(lambda: sources(url)["pool"]["connections"]["open"] == 5, "there are five, who stay")
        with pytest.raises(urllib.error.HTTPError) as raised:
            said(f"{url}/load", {"clients": -1})
        assert b"pass a whole number from 0 to 1000" in raised.value.read()
        raised.value.close()
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=PATIENCE)
        assert (process.returncode, output) == (0, "")
        assert errors.replace("this is for people", "").strip() == ""
    assert gone(started)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.py"]


def test_a_model_that_dies_is_said_and_if_the_parent_does_all_end(tmp_path: Path) -> None:
    with watching(tmp_path, "--compare", "thread,single", "--clients", "1") as (process, url):
        started = children(process.pid)
        os.kill(sources(url)["thread"]["process"], signal.SIGKILL)
        wait_until(lambda: list(sources(url)) == ["single"], "its source is gone")
        assert process.stderr is not None
        assert re.fullmatch(r"thread \(process \d+\) has ended: killed by SIGKILL\n", process.stderr.readline())
        process.kill()
        process.wait(PATIENCE)
        wait_until(lambda: gone(started), "the others have ended by themselves")


@pytest.mark.parametrize(("arguments", "message"), [
    (["--compare", "pool,loop", "--threads", "2"], "loop: --threads 2: the model loop has no --threads"),
    (["--compare", "single", "--app", "dies"], "single has ended before it could serve (exit code 9)"),
])
def test_what_cannot_start_says_why_and_leaves_nothing(arguments: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "dies.py").write_text("import os; os._exit(9)\n")
    done = subprocess.run(command("watch", *arguments), cwd=tmp_path, env=clean_environ({"TMPDIR": str(tmp_path)}),
                          capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ")
    assert message in done.stderr
    assert not list(tmp_path.glob("taskmaster-*"))


@pytest.mark.parametrize(("arguments", "message"), [
    ([], "say what to watch: --compare thread,pool,recycling, or the address that a server's --control was given"),
    (["--compare", ","], "name models, as in --compare thread,pool,recycling"),
    (["--compare", "pool,poool"], "there is no model 'poool'; write single, thread, pool, recycling, loop, or for one"),
    (["--compare", "poool"], "package.module:Class; did you mean 'pool'?"),
    (["--compare", "pool", "127.0.0.1:9"], "--compare starts servers of its own, and '127.0.0.1:9' is another"),
    (["--clients", "5", "127.0.0.1:9"], "--clients is about --compare; leave it out"),
    (["--compare", "pool", "--clients", "1001"], "1001 is not in the range 0<=x<=1000"),
])
def test_a_wrong_command_line_says_what_to_write(arguments: list[str], message: str) -> None:
    result = invoke("watch", *arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_the_defaults_in_the_help_are_those_of_the_load() -> None:
    defaults = {each.name: each.default for each in taskmaster.commands["watch"].params}
    assert (defaults["clients"], defaults["sleep"], defaults["think"]) == (CLIENTS, SLEEP_MS, THINK_MS)
    assert f"0<=x<={MOST_CLIENTS}" in invoke("watch", "--help").output


@pytest.mark.parametrize("name", ["watch", "top"])
def test_the_help_teaches_with_examples_that_name_what_there_is(name: str) -> None:
    text = invoke(name, "--help").output
    examples = re.findall(rf"^  taskmaster {name} (.*?)(?:   .*)?$", text, re.MULTILINE)
    assert len(examples) >= 2
    known = {flag for each in taskmaster.commands[name].params for flag in (*each.opts, *each.secondary_opts)}
    for example in examples:
        assert set(re.findall(r"--[a-z-]+", example)) <= known, example


def test_names_on_the_page() -> None:
    assert _labels(["pool", "shop.models:Mine", "pool", "pool"]) == ["pool", "shop.models:Mine", "pool 2", "pool 3"]


def test_a_folder_of_the_users_that_is_called_as_ours_is_in_nobodys_way(tmp_path: Path,
                                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "watching").mkdir()
    (tmp_path / "watching" / "__init__.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert child._acceptor({"taskmaster": "single"}).handler is sleeper


def test_the_handler_sleeps_as_asked() -> None:
    with Acceptor(sleeper, port=0, taskmaster=SingleThreadedTaskmaster()) as acceptor:
        url = f"http://{acceptor.name}/"
        for query in ("", "?sleep=0", "?sleep=1.5"):
            with urllib.request.urlopen(url + query, timeout=PATIENCE) as response:
                assert response.read() == b"Hello\n"
        for query in ("?sleep=-1", "?sleep=10001", "?sleep=nan", "?sleep=long"):
            with pytest.raises(urllib.error.HTTPError) as raised:
                urllib.request.urlopen(url + query, timeout=PATIENCE)
            assert raised.value.code == 400
            raised.value.close()


# Servers that run already.


def test_servers_that_run_already_are_gathered_on_one_page(tmp_path: Path) -> None:
    made = [Acceptor(lambda request: "", port=0, taskmaster=SingleThreadedTaskmaster()) for _ in range(3)]
    first = ControlServer([LocalSource(made[0], "shop"), LocalSource(made[1], "images")], "127.0.0.1:0")
    second = ControlServer(LocalSource(made[2], "shop"), f"unix:{tmp_path}/control", token="swordfish")
    with contextlib.ExitStack() as stack:
        for each in (*made, first, second):
            stack.enter_context(each)  # type: ignore[arg-type]
        with pytest.raises(AskingError, match="asks for a token"):
            _found([first.url, f"unix:{tmp_path}/control"], None)
        found, secret = _found([first.url, f"unix:{tmp_path}/control"], "swordfish")
        assert secret is not None, "what asks for a token is not for everybody on the page that shows it"
        assert [each.label for each in found] == [
            f"shop ({first.name})", "images", f"shop (unix:{tmp_path}/control)"]
        assert [each.sample()["name"] for each in found] == [each.name for each in made]
        assert [each.sample()["label"] for each in found] == [each.label for each in found]
        assert found[1].steps(0.001)["label"] == "images"
        for each in found:
            stack.callback(each.close)
        first.show([])
        assert wait_until(lambda: error_of(found[1]), "it is gone") .startswith("images does not run any more")
        with pytest.raises(AskingError, match="watches no server at the moment"):
            _found([first.url], None)


def test_watch_and_top_of_a_server_that_serves_with_control(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    with running(tmp_path, "mine", "-b", "127.0.0.1:0", "--control", "127.0.0.1:0", "--processes", "2") as program:
        address = program.wait_for(r"to watch it: taskmaster top (127\.0\.0\.1:\d+), or http://\1 in a browser")[1]
        top = subprocess.run(command("top", address), env=clean_environ(), capture_output=True, text=True, timeout=60,
                             check=False)
        assert top.stderr == ""
        assert len(re.findall(r"^\S+ worker \d+  RecyclingTaskmaster", top.stdout, re.MULTILINE)) == 2
        with watching(tmp_path, address) as (process, url):
            assert [each["model"] for each in sources(url).values()] == ["RecyclingTaskmaster"] * 2
            assert said(f"{url}/load") is None, "these are somebody's clients, not ours"
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
        assert program.stop() == 0
    with pytest.raises(urllib.error.URLError, match="refused"):
        said(f"http://{address}/snapshot.json")


# --control.


@pytest.mark.parametrize(("arguments", "message"), [
    (["--control", "9000"], "--control '9000': write \"127.0.0.1:9000\", for this machine only"),
    (["--control", "127.0.0.1:1,127.0.0.1:2"], "write one address, such as"),
    (["--control", "/run/x"], "--control '/run/x': for a UNIX socket, write \"unix:/run/x\""),
    (["--control", ":9000"], "--control :9000: it can be reached from other machines: give --control-token, or listen"),
    (["--control", "0.0.0.0:9000", "--control-token", "short"], "--control-token: write at least 8 letters"),
    (["--control-token", "swordfish"], "--control-token: there is no control server without --control; give both"),
])
def test_a_wrong_control_says_what_to_write(arguments: list[str], message: str, tmp_path: Path,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke("serve", "nowhere", "--check-config", *arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_an_address_that_is_taken_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    with Acceptor(sleeper, port=0, taskmaster=SingleThreadedTaskmaster()) as other:
        done = subprocess.run(command("serve", "mine", "-b", "127.0.0.1:0", "--control", other.name), cwd=tmp_path,
                              env=clean_environ(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert f"cannot listen on {other.name}: Address already in use" in done.stderr


def test_without_the_extra_it_says_what_to_install() -> None:
    program = ("import sys; sys.modules['rich'] = None; sys.argv[1:] = ['top', '127.0.0.1:9']\n"
               "from acceptor.cli import main; main()")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60,
                          env=clean_environ())
    assert done.returncode == 1
    assert done.stderr == "Error: this needs rich, which is not installed; say: pip install 'taskmasters[watch]'\n"


def test_the_command_line_imports_nothing_of_it_before_it_is_asked_for() -> None:
    program = "import sys, acceptor.cli.commands; print({'watching', 'rich'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60,
                          env=clean_environ())
    assert done.stdout == "set()\n"
