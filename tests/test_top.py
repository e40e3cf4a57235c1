"""`taskmaster top`: what it draws of samples, what it asks and is told, and the terminal, which is left as it was."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import termios
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from acceptor import Acceptor, HTTPError, Request, Response
from acceptor.cli.commands import taskmaster
from acceptor.recording import STATES
from taskmaster import SingleThreadedTaskmaster
from tests.cli_programs import clean_environ, command
from tests.clients import PATIENCE
from watching.asking import AskingError, Client, parse_url
from watching.messages import Sample
from watching.top_history import ORDER, History, Slots
from watching.top_picture import PALETTES, Picture, _duration, _rate

PAGE = Path(__file__).parent.parent / "watching" / "page"


def sample(letters: str = "AHH_.", time: float = 1000.0, **changes: Any) -> Sample:
    """A lane for each letter."""
    lanes = [{"lane": number, "thread": None if letter == "." else f"worker-{number}", "ident": 0, "state": letter,
              "since": time, "connection": 0, "request": None, "client": None} for number, letter in enumerate(letters)]
    connections = {"open": 9, "kernel": 3, "kernel_limit": 1024, "queued": 2, "parked": 90, "accepted": 5000,
                   "served": 4900, "refused": 0}
    made = {
        "time": time, "label": "pool", "name": "127.0.0.1:8080", "model": "PooledTaskmaster", "process": 4242,
        "max_thread_count": 16, "max_accept_count": None, "threads": {"accepting": 1, "serving": 16}, "lanes": lanes,
        "connections": connections | changes.pop("connections", {}),
        "responses": {"total": 5000, "by_class": {"2xx": 5000}, "per_second": 1234.5, "p50": 0.001, "p99": 0.0121},
        "histogram": {"buckets": [], "sum": 0.0, "count": 0}, "burst": None, "threads_started": 17, "grown": {},
        "shrunk": {}, "decisions": [], "violations": {},
    }
    return cast("Sample", made | changes)


def history(*samples: Sample) -> History:
    made = History()
    for each in samples:
        made.add(each)
    return made


def drawn(histories: list[History], width: int = 80, height: int | None = 24, **options: Any) -> list[str]:
    """The lines, without their colours."""
    console = Console(width=width, height=height or 100, file=io.StringIO(), color_system=None)
    now = max((each.last["time"] for each in histories), default=0.0)
    console.print(Picture("dark", **options).draw(histories, now, width, height))
    return cast("io.StringIO", console.file).getvalue().split("\n")[:-1]


# What is drawn.


def test_the_numbers_are_those_of_the_sample() -> None:
    lines = drawn([history(sample())])
    assert lines[0].split("  ") == ["pool", "PooledTaskmaster", "127.0.0.1:8080", "process 4242"]
    assert lines[1:3] == ["1,234 responses/s  p99 once a thread has it: 12 ms  17 threads  kernel 3",
                          "queued 2  parked 90  refused 0"], "80 columns are too few"
    assert drawn([history(sample())], width=110)[1].endswith("parked 90  refused 0")


def test_a_label_that_is_the_address_is_said_once() -> None:
    for label in ("127.0.0.1:8080", "127.0.0.1:8080 worker 2"):
        assert drawn([history(sample(label=label))])[0].split("  ") == [label, "PooledTaskmaster", "process 4242"]


def test_where_the_system_does_not_tell_there_is_a_question_mark() -> None:
    text = "\n".join(drawn([history(sample(connections={"kernel": None, "kernel_limit": None, "queued": 0}))]))
    assert "kernel ?" in text
    assert "max 0" in text


def test_every_thread_is_a_letter_and_the_rows_are_as_wide_as_the_terminal() -> None:
    letters = "AHHRW_KQ.C" * 7 + "AHX"
    lines = drawn([history(sample(letters))], width=40, height=30)
    begin = lines.index(letters[:40])
    assert lines[begin + 1] == letters[40:]


def test_a_strip_has_a_row_for_each_lane_and_ends_now() -> None:
    before, after = "AA_", "AHW"
    lines = drawn([history(sample(before, 1000.0), sample(after, 1030.0))], width=74, height=20)
    rows = [line for line in lines if re.match(r" +\d  ", line)]
    assert [row[:3].strip() for row in rows] == ["0", "1", "2"]
    for row, then, now in zip(rows, before, after, strict=True):
        strip = row[5:65]  # a second for each column
        assert (strip[-1], strip[-31], strip.replace(" ", "")) == (now, then, then + now)


def test_too_many_lanes_are_stacked_by_their_shares() -> None:
    lines = drawn([history(sample("H" * 30 + "A" * 70))], width=100, height=20)
    begin = next(index for index, line in enumerate(lines) if line.startswith("all"))
    assert "".join(line.rstrip()[-1] for line in lines[begin:begin + 10]) == "AAAAAAAHHH"


@given(st.text(ORDER, min_size=1, max_size=300), st.integers(1, 20))
def test_a_stack_is_as_high_as_the_shares_are(letters: str, height: int) -> None:
    rows = history(sample(letters)).shares(Slots(1000.0, 1), height)
    counts = Counter(row for row in rows)
    assert sum(counts.values()) == height
    for letter, count in Counter(letters).items():
        assert abs(counts[letter] - height * count / len(letters)) <= 1
    assert list(rows) == sorted(rows, key=ORDER.find, reverse=True), "what works is at the bottom"


@given(st.floats(0, 1e6), st.integers(1, 120), st.floats(0, 59.9))
def test_a_slot_is_the_same_for_all_and_the_last_one_is_now(end: float, count: int, before: float) -> None:
    slots = Slots(end, count)
    assert slots.place(end) == count - 1
    place = slots.place(end - before)
    assert place <= count - 1
    assert abs((count - 1 - place) * slots.seconds - before) <= slots.seconds * 1.001


@given(st.lists(st.tuples(st.floats(0.01, 10), st.integers(0, 50)), min_size=1, max_size=50))
def test_a_history_is_a_minute_and_knows_the_most_that_have_waited(looks: list[tuple[float, int]]) -> None:
    time, made, all_looks = 1000.0, History(), []
    for seconds, kernel in looks:
        time += seconds
        all_looks.append((time, kernel + 2))
        made.add(sample(time=time, connections={"kernel": kernel}))
    slots = Slots(time, 60)
    most = max(kernel for at, kernel in all_looks if slots.place(at) >= 0)
    assert max(count or 0 for count in made.waits(slots)) == most
    assert len(made._samples) <= sum(at >= time - 67 for at, _ in all_looks)


def test_the_same_sample_again_is_no_news() -> None:
    made = history(sample("A"), sample("H"))
    assert made.lanes(Slots(1000.0, 2)) == [" A"]


def test_decisions_of_one_reason_in_a_row_are_one_line() -> None:
    decisions = [{"time": 990.0, "change": 1, "reason": "start", "threads": 1},
                 *({"time": 995.0 + number, "change": 1, "reason": "the last waiter was taken", "threads": 2 + number}
                   for number in range(3)),
                 {"time": 999.5, "change": -1, "reason": "idle for 10 s", "threads": 3}]
    text = drawn([history(sample(decisions=decisions))])
    assert [line for line in text if " ago: " in line] == [
        "500 ms ago: -1 thread, to 3: idle for 10 s",
        "3.0 s ago: +3 threads, to 4: the last waiter was taken",
        "10 s ago: +1 thread, to 1: start",
    ]


@given(st.integers(1, 4), st.integers(20, 250), st.integers(6, 60), st.integers(0, 150), st.booleans())
def test_it_fits_into_any_terminal(count: int, width: int, height: int, lanes: int, refused: bool) -> None:
    decisions = [{"time": 990.0, "change": 1, "reason": f"a reason {number}", "threads": 1} for number in range(9)]
    histories = [history(sample("AH" * lanes, connections={"refused": int(refused)}, decisions=decisions))
                 for _ in range(count)]
    lines = drawn(histories, width, height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width


def test_several_stand_beside_each_other_where_there_is_room() -> None:
    histories = [history(sample(label=label)) for label in ("thread", "pool", "recycling")]
    assert re.match("thread .*pool .*recycling ", drawn(histories, width=184)[0])
    assert sum("PooledTaskmaster" in line for line in drawn(histories, width=80, height=60)) == 3


@given(st.integers(40, 200), st.text(ORDER, min_size=1))
def test_the_legend_says_each_letter_that_is_to_be_seen_and_fits(width: int, letters: str) -> None:
    lines = [line.plain for line in Picture("dark").legend([history(sample(letters))], width)]
    assert max(map(len, lines)) <= width + 2, "two blanks at the end do not matter"
    for letter, words in STATES.items():
        assert any(f" {letter}  {words}  " in line for line in lines) is (letter in letters)


def test_nothing_to_show_is_said() -> None:
    assert drawn([]) == ["There is no server to watch yet."]


def test_without_block_characters_bars_are_ascii() -> None:
    text = "\n".join(drawn([history(sample())], blocks=False))
    assert text.isascii()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_colours_are_those_of_the_page(theme: str) -> None:
    css = (PAGE / "page.css").read_text()
    blocks = {"light": css[:css.index('[data-theme="dark"]')], "dark": css[css.index('[data-theme="dark"]'):]}
    block = blocks[theme][:blocks[theme].index("}")]
    assert dict(re.findall(r"--state-(\w): (#[0-9a-f]{6})", block)) == PALETTES[theme]
    assert set(PALETTES[theme]) == set(STATES) - {"."} == set(ORDER)


@pytest.mark.parametrize(("seconds", "said"), [
    (None, "-"), (0.0, "0 ms"), (0.00042, "0.4 ms"), (0.0121, "12 ms"), (0.9499, "950 ms"), (0.97, "1.0 s"),
    (3.04, "3.0 s"), (75.0, "75 s"), (0.00996, "10 ms"),
])
def test_durations(seconds: float | None, said: str) -> None:
    assert _duration(seconds) == said


def test_rates() -> None:
    assert [_rate(each) for each in (0.0, 0.04, 3.21, 9.96, 1234.5)] == ["0", "0.0", "3.2", "10", "1,234"]


# What is asked, and what is said where there is no answer.


@pytest.mark.parametrize(("written", "address", "token"), [
    ("127.0.0.1:9000", "127.0.0.1:9000", None),
    ("http://127.0.0.1:9000", "127.0.0.1:9000", None),
    ("http://127.0.0.1:9000/?token=a%2Fb", "127.0.0.1:9000", "a/b"),
    ("http://[::1]:9000/snapshot.json?token=x", "[::1]:9000", "x"),
    ("http://shop.example", "shop.example:80", None),
    ("unix:/run/control.sock", "unix:/run/control.sock", None),
    ("unix:@control", "unix:@control", None),
])
def test_addresses_are_understood_as_people_write_them(written: str, address: str, token: str | None) -> None:
    assert parse_url(written) == (address, token)


@pytest.mark.parametrize(("written", "message"), [
    ("9000", "'9000' is no control server's address: write the address that `taskmaster serve --control`"),
    ("127.0.0.1", "is no control server's address"), ("", "'' is no control server's address"),
    ("ftp://127.0.0.1:9000", "is no control server's address"), ("unix:", "is no control server's address"),
    ("http://127.0.0.1:port", "is no control server's address"), ("http://[::1", "is no control server's address"),
    (":9000", "':9000' is an address to listen on"), ("127.0.0.1:0", "is an address to listen on"),
    ("https://127.0.0.1:9000", "control servers do not speak TLS; write http://"),
])
def test_what_is_no_address_is_said_to_be_none(written: str, message: str) -> None:
    with pytest.raises(AskingError, match=message):
        parse_url(written)


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_said_to_be_none(text: str) -> None:
    try:
        address, _ = parse_url(text)
    except AskingError:
        return
    assert parse_url(address)[0] == address


Answer = Callable[[Request], Any]


@pytest.fixture
def stub() -> Iterator[Callable[..., str]]:
    """A server that answers so, and its address."""
    running: list[Acceptor] = []

    def start(answer: Answer, bind: str = "127.0.0.1:0") -> str:
        running.append(Acceptor(answer, bind=bind, taskmaster=SingleThreadedTaskmaster()).start())
        return running[-1].name

    yield start
    for each in running:
        each.stop(deadline=1.0)


def shows(*samples: Sample) -> Answer:
    """A control server's /snapshot.json."""
    def answer(request: Request) -> Response:
        if request.path != "/snapshot.json":
            raise HTTPError(404)
        lost = [{"label": "images", "error": "it has ended"}]
        return Response(json.dumps({"time": 1000.0, "sources": samples, "lost": lost}))

    return answer


def raises(status: int, text: str = "") -> Answer:
    def answer(request: Request) -> Response:
        raise HTTPError(status, text)

    return answer


def test_a_snapshot_is_asked_for_again_and_again_over_one_connection(stub: Callable[..., str], tmp_path: Path) -> None:
    seen: list[tuple[str, str]] = []

    def answer(request: Request) -> Response:
        seen.append((str(request.headers.get("Authorization")), request.version))
        return Response('{"sources": []}')

    for bind in ("127.0.0.1:0", f"unix:{tmp_path}/control"):
        client = Client(stub(answer, bind), token="swordfish")
        assert client.snapshot() == client.snapshot() == {"sources": []}
        client.close()
    assert seen == [("Bearer swordfish", "1.1")] * 4


@pytest.mark.parametrize(("answer", "token", "message"), [
    (raises(401), None, "asks for a token, that of its --control-token: say --token, set TASKMASTER_CONTROL_TOKEN"),
    (raises(401), "wrong", "asks for another token than this"),
    (raises(403, "Host is no name of this machine"), None, "refuses: Host is no name of this machine"),
    (raises(404), None, "has no /snapshot.json: it is an application's port, or the server is older than this command"),
    (raises(500, "oops"), None, "answers 500: oops"),
    (lambda request: "Hello", None, "answers, but is no control server of Taskmasters"),
    (lambda request: "[1]", None, "answers, but is no control server of Taskmasters"),
    (lambda request: '{"sources": 1}', None, "answers, but is no control server of Taskmasters"),
])
def test_a_wrong_answer_is_said_in_a_sentence(answer: Answer, token: str | None, message: str,
                                              stub: Callable[..., str]) -> None:
    client = Client(stub(answer), token)
    with pytest.raises(AskingError, match=message):
        client.snapshot()
    client.close()


def test_no_answer_is_said_in_a_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        name = f"127.0.0.1:{listener.getsockname()[1]}"  # where nobody listens from here on
    with pytest.raises(AskingError, match=rf"^nothing listens on {name}; does the server run, with --control {name}"):
        Client(name).snapshot()
    with pytest.raises(AskingError, match=rf"^there is no socket {tmp_path}/x; does the server run"):
        Client(f"unix:{tmp_path}/x").snapshot()
    (tmp_path / "file").touch()
    with pytest.raises(AskingError, match=rf"^unix:{tmp_path}/file does not|^nothing listens on unix:{tmp_path}"):
        Client(f"unix:{tmp_path}/file").snapshot()


def test_what_does_not_speak_http_is_said_not_to() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"220 mail.example ESMTP\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(AskingError, match="does not speak HTTP"):
            Client(f"127.0.0.1:{listener.getsockname()[1]}").snapshot()
        thread.join(PATIENCE)


def invoke(*arguments: str, environ: dict[str, str] | None = None) -> Any:
    return CliRunner(env=environ or {"TASKMASTER_CONTROL_TOKEN": None}).invoke(taskmaster, ["top", *arguments],
                                                                               prog_name="taskmaster")


def test_once_it_prints_a_plain_reading(stub: Callable[..., str]) -> None:
    name = stub(shows(sample("AHH_"), sample("_" * 200, label="other")))
    for arguments in ([name, "--once"], [f"http://{name}/"]):  # it is no terminal: the same
        result = invoke(*arguments)
        assert result.exit_code == 0
        lines = [line.rstrip() for line in result.output.splitlines()]
        assert lines[0] == "images: it has ended"
        assert "AHH_" in lines
        assert lines.count("_" * 80) == 2, "wrapped"
        assert "\x1b" not in result.output
        legend = [f"{letter} +{re.escape(STATES[letter])}" for letter in "H_A"]
        assert re.search(" +".join(legend), result.output)
        assert "writes" not in result.output, "a letter that is not to be seen"


def test_without_a_terminal_nothing_is_cut(stub: Callable[..., str]) -> None:
    reason = "a reason that is longer than eighty columns, as those of taskmasters of one's own may well be"
    decisions = [{"time": 999.0, "change": 1, "reason": reason, "threads": 3}]
    result = invoke(stub(shows(sample(label="shop.models:WarmestTaskmaster", name="unix:/run/shop/application.sock",
                                      model="WarmestTaskmaster", process=1234567, decisions=decisions))))
    assert "WarmestTaskmaster  unix:/run/shop/application.sock  process 1234567\n" in result.output
    assert f"to 3: {reason}\n" in result.output


def test_json_is_what_the_server_has_said(stub: Callable[..., str]) -> None:
    result = invoke(stub(shows(sample())), "--json")
    assert json.loads(result.output)["sources"] == [sample()]


@pytest.mark.parametrize("how", ["option", "environment", "URL"])
def test_the_token_may_stand_in_three_places(how: str, stub: Callable[..., str]) -> None:
    def answer(request: Request) -> Any:
        if request.headers.get("Authorization") != "Bearer swordfish":
            raise HTTPError(401)
        return shows(sample())(request)

    name = stub(answer)
    result = {"option": lambda: invoke(name, "--token", "swordfish"), "URL": lambda: invoke(f"http://{name}/?token=swordfish"),
              "environment": lambda: invoke(name, environ={"TASKMASTER_CONTROL_TOKEN": "swordfish"})}[how]()
    assert result.exit_code == 0
    assert "PooledTaskmaster" in result.output


def test_an_error_is_one_sentence_and_the_exit_code_1(stub: Callable[..., str]) -> None:
    name = stub(raises(404))
    result = invoke(name)
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {name} answers, but has no /snapshot.json")
    assert result.output.count("\n") == 1


# In a terminal.


class Terminal:
    """`taskmaster top` in a terminal of 100 columns and 30 rows."""

    def __init__(self, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self.theirs = theirs
        self.before = termios.tcgetattr(theirs)
        self.process = subprocess.Popen(command("top", *arguments), stdin=theirs, stdout=theirs, stderr=theirs,
                                        env=clean_environ({"TERM": "xterm-256color"}))
        self.seen = ""

    def wait_for(self, text: str) -> None:
        """In what comes from now on."""
        end, new = time.monotonic() + PATIENCE, ""
        while text not in new:
            assert select.select([self._ours], [], [], max(0.0, end - time.monotonic()))[0], (
                f"waited in vain for {text!r}; it has shown:\n{self.seen}")
            new += (more := os.read(self._ours, 65536).decode(errors="replace"))
            self.seen += more

    def press(self, key: str) -> None:
        os.write(self._ours, key.encode())

    def close(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)
        os.close(self._ours)
        os.close(self.theirs)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    made: list[Terminal] = []

    def start(*arguments: str) -> Terminal:
        made.append(Terminal(*arguments))
        return made[-1]

    yield start
    for each in made:
        each.close()


def test_keys_freeze_and_quit_and_the_terminal_is_as_it_was(stub: Callable[..., str],
                                                            terminal: Callable[..., Terminal]) -> None:
    top = terminal(stub(shows(sample())))
    top.wait_for("space freezes")
    assert "\x1b[?1049h" in top.seen, "on a screen of its own"
    assert not termios.tcgetattr(top.theirs)[3] & termios.ICANON
    top.press(" ")
    top.wait_for("frozen")
    top.press(" ")
    top.wait_for("space freezes")
    top.press("q")
    top.wait_for("\x1b[?1049l")
    assert top.process.wait(PATIENCE) == 0
    assert termios.tcgetattr(top.theirs) == top.before


def test_a_server_that_goes_away_is_said_and_asked_again(terminal: Callable[..., Terminal],
                                                         stub: Callable[..., str]) -> None:
    with Acceptor(shows(sample()), port=0, taskmaster=SingleThreadedTaskmaster()) as acceptor:
        name = acceptor.name
        top = terminal(name)
        top.wait_for("PooledTaskmaster")
    top.wait_for("trying again")
    stub(shows(sample(time=1001.0, label="back")), name)
    top.wait_for("back")
    top.process.send_signal(signal.SIGTERM)
    assert top.process.wait(PATIENCE) == 128 + signal.SIGTERM
    assert termios.tcgetattr(top.theirs) == top.before
