"""The tutorial, done as its reader does it: files from its blocks, its commands in its order, and what they answer.

A block of Python names its file in its first line. One with a class that begins with `...` changes the class that is in
the file already. A block of text behind a command is what it must answer, or a few lines of that; figures may differ.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest

from taskmaster import AcceptorSteps, Connection, ThreadedTaskmaster, ThreadState, contract_tools, scripted
from taskmaster.contract import running
from taskmaster.scripted import ScriptedAcceptor
from tests.proxies import accepts, free_port, wait_until

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "tutorial" / "your-own-taskmaster.md"
TEXT = PAGE.read_text()
PORT = "4242"
NOT_HERE = ("python3 -m venv .venv", ". .venv/bin/activate", "pip install -e '.[bench,cli,watch]' pytest",
            "taskmaster watch --compare pool,recycling,warmest:WarmestTaskmaster")
"""Commands of the page that take too long for a test, need a network, or somebody who looks."""
TABLES = ("arrivals one by one", "keep-alive off")
"""How tables of the lab begin: their figures are those of a day, and the test has no time for the other models."""
HURRY = "import taskmaster.scripted\ntaskmaster.scripted.PATIENCE = 0.3\n"
"""For suites that are to fail: what does not come need not be waited for as long as a reader does."""


class Block(NamedTuple):
    line: int
    language: str
    text: str


def blocks() -> Iterator[Block]:
    for match in re.finditer(r"^```(\w+)[^\n]*\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE):
        yield Block(TEXT.count("\n", 0, match.start()) + 2, match[1], match[2])


# Files.

def write(folder: Path, block: Block) -> None:
    """Do to its file what the block says."""
    match = re.match(r"# (\w+\.py)\n(.*)", block.text, re.DOTALL)
    assert match, f"line {block.line}: a block of Python begins with the name of its file"
    file, text = folder / match[1], match[2]
    file.write_text(changed(file.read_text(), text) if "\n    ...\n" in text else text)


def changed(old: str, change: str) -> str:
    """`old`, with the methods in `change` in place of those of the same names, or behind the one above them."""
    head, above = change.partition("class ")[0].strip(), ""
    if head:
        old = re.sub(r"(?<=\n)(?=\n\nclass )", f"{head}\n", old, count=1)
    for name, method in methods_of(change).items():
        known = methods_of(old)
        if name in known:
            old = old.replace(known[name], method)
        else:
            assert above, f"{name} is new, and behind nothing"
            old = old.replace(known[above], f"{known[above]}\n{method}")
        above = name
    return old


def methods_of(text: str) -> dict[str, str]:
    [definition] = [node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]
    lines = text.splitlines(keepends=True)
    return {each.name: "".join(lines[each.lineno - 1:each.end_lineno]) for each in definition.body
            if isinstance(each, ast.FunctionDef)}


# Commands.

@dataclass
class Reader:
    """Follows the page, in a folder of its own."""

    folder: Path
    port: str = field(default_factory=lambda: str(free_port()))
    answer: str = ""
    """Of the last command, until it has been compared."""
    again: Callable[[], str] = str
    """The same command once more, for races do not always end in the same way."""
    server: subprocess.Popen[str] | None = None

    def follow(self, page: Sequence[Block]) -> None:
        for block, following in zip(page, [*page[1:], Block(0, "", "")], strict=True):
            if block.language == "python":
                write(self.folder, block)
            elif block.language == "sh":
                for command in block.text.splitlines():
                    self.do(command, fails=" failed" in following.text)
            elif block.language == "text":
                if not block.text.startswith(TABLES):
                    self.compare(block)
            else:
                raise AssertionError(f"{PAGE}:{block.line}: what is a block of {block.language!r}?")

    def do(self, command: str, fails: bool) -> None:
        """fails: the page says that some of the tests fail."""
        command = command.replace(PORT, self.port)
        words = command.split()
        if words[0] in ("curl", "for"):
            self.answer = self.run("sh", "-c", command.replace("curl ", "curl -sS "))
            return
        self.stop()
        self.answer = ""
        if command in NOT_HERE:
            return
        if words[0] == "pytest":
            self.again = lambda: self.run(sys.executable, "-m", *words, hurry=fails)
            self.answer = self.again()
        elif words[:3] == ["python", "-m", "bench"]:
            self.answer = self.run(sys.executable, *self.shortened(words[1:]))
            assert re.search(r"^100%, .* warmest:WarmestTaskmaster, .*: .*\d", self.answer, re.MULTILINE), self.answer
            self.answer = ""
        elif words[0] == "taskmaster":
            self.serve(sys.executable, "-m", "acceptor", *words[1:])
        elif words[0] == "python":
            file = self.folder / words[1]
            file.write_text(file.read_text().replace(PORT, self.port))
            if "serve_forever" in file.read_text():
                self.serve(sys.executable, words[1])
            else:
                self.answer = self.run(sys.executable, words[1])
        else:
            raise AssertionError(f"nobody has told the test what to do with {command!r}")

    def shortened(self, words: list[str]) -> list[str]:
        """An experiment of the lab, without the other models, and no longer than it must be."""
        at = words.index("--models") + 1
        words[at] = words[at].rpartition(",")[2]
        quick = ["--blocks", "1", "--seconds", "0.1", "--warmup", "0"] if "quick" in words else []
        return [*words, *quick, "--no-report", "--out", str(self.folder / words[3])]

    def run(self, *words: str, hurry: bool = False) -> str:
        return subprocess.run(words, cwd=self.folder, env=self.environment(hurry), text=True, timeout=60, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout

    def serve(self, *words: str) -> None:
        self.server = subprocess.Popen(words, cwd=self.folder, env=self.environment(), text=True,
                                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        server = self.server
        wait_until(lambda: accepts(int(self.port)) or server.poll() is not None, f"{words} listens", 20)
        assert server.poll() is None, server.communicate()[0]

    def stop(self) -> None:
        """As Ctrl+C does; what the server has said is the answer."""
        if self.server is not None:
            self.server.send_signal(signal.SIGINT)
            self.answer, _ = self.server.communicate(timeout=20)
            self.server = None

    def environment(self, hurry: bool = False) -> dict[str, str]:
        (self.folder / "hurry.py").write_text(HURRY)
        options = f"-c {ROOT / 'pyproject.toml'} --rootdir {self.folder} -p no:cacheprovider"
        return {**os.environ, "PYTHONPATH": os.pathsep.join([str(self.folder), str(ROOT)]), "PYTHONUNBUFFERED": "1",
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": options + (" -p hurry" if hurry else "")}

    def compare(self, block: Block) -> None:
        if not self.answer:
            self.stop()
        answer, self.answer = self.answer, ""
        for _ in range(3):
            if not (missing := [line for line in block.text.splitlines() if not agrees(line, answer)]):
                return
            if " failed" not in block.text:
                break
            answer = self.again()
        raise AssertionError(f"{PAGE}:{block.line} shows\n" + "\n".join(missing) + f"\nand it is\n{answer}")


def agrees(line: str, answer: str) -> bool:
    """Whether a line of the page is in the answer; figures and times may differ."""
    if match := re.match(r"(FAILED \S+)", line):
        return match[1].rstrip(".") in answer
    if re.match(r"\d+ (failed|passed)", line):
        shown, now = outcome(line), outcome(answer)
        return (sum(now.values()) == sum(shown.values()) and bool(now["failed"]) == bool(shown["failed"])
                and now["failed"] >= shown["failed"])  # there may be more: they are races
    return words_of(line.removesuffix("...")) in words_of(answer)


def words_of(text: str) -> str:
    """Without numbers, and with one blank between words."""
    return " ".join(re.sub(r"\d+(\.\d+)?", "N", text).split())


def outcome(answer: str) -> Counter[str]:
    """How many tests have failed and passed, as the last line of pytest says."""
    return Counter({word: int(number) for number, word in re.findall(r"(\d+) (failed|passed)\b", answer)})


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path)
    yield reader
    if reader.server is not None:
        reader.server.kill()
        reader.server.communicate()


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page asks by curl")
def test_every_block_of_the_page_does_what_it_says(reader: Reader) -> None:
    *page, whole = blocks()
    lesson = next(number for number, block in enumerate(page) if block.text == "python lesson.py\n")
    reader.follow([*page[:lesson], *page[lesson + 2:]])
    reader.stop()
    assert whole.text == "# warmest.py\n" + (reader.folder / "warmest.py").read_text(), "as it is shown at the end"


def test_the_lesson_of_the_page_shows_what_the_page_shows(reader: Reader) -> None:
    page = [*blocks()]
    lesson = next(number for number, block in enumerate(page) if block.text == "python lesson.py\n")
    reader.follow([*(block for block in page[:lesson] if block.language == "python"), *page[lesson:lesson + 2]])
    assert (reader.folder / "lesson.svg").read_text() == (PAGE.parent / "lesson.svg").read_text()


# What a newcomer gets wrong is answered with the fix.

class Forgetful(ThreadedTaskmaster):
    """Whose loop is given to it."""

    def __init__(self, loop: Callable[[Forgetful], None]) -> None:
        super().__init__()
        self.loop = loop

    def execute_acceptor(self, acceptor: AcceptorSteps) -> None:
        self.begin(acceptor)
        self.start(lambda: self.loop(self), "forgetful")

    def handle_incoming_connection(self, connection: Connection) -> None:
        raise NotImplementedError


class WithoutBooks(Forgetful):
    def __init__(self) -> None:
        pass


class WithoutBeginning(Forgetful):
    def execute_acceptor(self, acceptor: AcceptorSteps) -> None:
        self.start(lambda: self.loop(self), "forgetful")


def test_a_constructor_that_forgets_the_books_is_told() -> None:
    with pytest.raises(TypeError, match=r"^WithoutBooks.__init__\(\) must call super\(\).__init__\(\) first"):
        WithoutBooks().execute_acceptor(ScriptedAcceptor())


def test_a_loop_that_has_the_name_of_a_part_of_the_register_is_told() -> None:
    with pytest.raises(TypeError, match=r"^Unlucky._run would replace a part of the register"):
        type("Unlucky", (Forgetful,), {"_run": lambda me: None})


def test_one_that_starts_threads_without_an_acceptor_is_told() -> None:
    with pytest.raises(RuntimeError, match=r"execute_acceptor\(\) must begin with self.begin\(acceptor\)"):
        WithoutBeginning(lambda me: None).execute_acceptor(ScriptedAcceptor())


def test_a_thread_that_is_not_in_the_register_is_told() -> None:
    with pytest.raises(RuntimeError, match=r"'MainThread' is not in the register: start it with self.start"):
        Forgetful(lambda me: None).enter(ThreadState.WAITING)


def test_who_forgets_the_lock_is_told() -> None:
    with pytest.raises(AssertionError, match=r"with self.lock held"):
        Forgetful(lambda me: None).enter_locked(ThreadState.WAITING)


@pytest.mark.parametrize(("name", "value"), [("_threads", 3), ("_left", []), ("states", []), ("counts", {})])
def test_a_name_that_is_taken_is_told(name: str, value: object) -> None:
    taskmaster = Forgetful(lambda me: None)
    setattr(taskmaster, name, value)
    with pytest.raises(TypeError, match=rf"^Forgetful has set self.{name}, and that name is taken"):
        taskmaster.execute_acceptor(ScriptedAcceptor())


def test_idle_is_no_list_of_those_that_are() -> None:
    taskmaster = Forgetful(lambda me: None)
    taskmaster.idle = []  # type: ignore[assignment]
    with pytest.raises(ValueError, match=r"^idle=\[\]: pass one of 'hold', 'park'"):
        taskmaster.execute_acceptor(ScriptedAcceptor())


def test_a_loop_that_returns_without_leaving_is_found_by_the_suite() -> None:
    with pytest.raises(AssertionError, match=r"^forgetful-scripted:0-1 died; this is a bug: RuntimeError: the loop has "
                                             r"returned; its last act must be self.leave\(reason\); "), \
            running(Forgetful(lambda me: None)):
        pass


def test_what_has_ended_a_thread_is_said_before_what_has_not_happened_since(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripted, "PATIENCE", 0.0)

    def trial() -> None:
        with running(Forgetful(lambda me: me.enter_locked(ThreadState.ACCEPTING))) as (acceptor, taskmaster):
            assert not taskmaster.shutdown(10), "it has died by then"
            acceptor.connect()[0].wait_for("accepted")

    with pytest.raises(AssertionError, match=r"^forgetful-scripted:0-1 died; this is a bug: AssertionError: what ends "
                                             r"in _locked is .*; waited 0 s without success for client 1 to be"):
        trial()


def test_threads_that_do_not_end_are_named_but_not_all_of_twenty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contract_tools, "PATIENCE", 0.0)
    ended = threading.Event()

    class Endless(Forgetful):
        def execute_acceptor(self, acceptor: AcceptorSteps) -> None:
            self.begin(acceptor)
            for _ in range(5):
                self.start(self.wait, "endless")

        def wait(self) -> None:
            ended.wait()
            self.leave("told")

    taskmaster = Endless(lambda me: None)
    with pytest.raises(AssertionError, match=r"^did not end within 0 s: \S+, \S+, \S+ and 2 more; "), \
            running(taskmaster):
        pass
    ended.set()
    assert not taskmaster.shutdown(10)


def test_of_many_clients_it_is_said_how_many_are_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripted, "PATIENCE", 0.0)
    acceptor = ScriptedAcceptor()
    acceptor.connect(20)
    acceptor.accept()
    with pytest.raises(AssertionError, match=r"without success for all of them to be processed; clients: 1 accepted, "
                                             r"19 queued$"):
        acceptor.settle(acceptor.connections, "processed")
