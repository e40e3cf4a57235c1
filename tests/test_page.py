"""The live page: its files by themselves, and in a browser, where there is one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, cast

import pytest

import watching
from acceptor.recording import STATES
from tests.browser import BROWSER, Browser
from tests.page_server import MadeUpLoad, made_up
from watching import ControlServer
from watching.messages import (
    Burst,
    ClientsSee,
    ConnectionsNow,
    DecisionSaid,
    Histogram,
    LaneNow,
    Responses,
    Sample,
    Steps,
)

PAGE = Path(watching.__file__).parent / "page"
FILES = sorted(PAGE.iterdir())
MODULES = [path for path in FILES if path.suffix == ".js"]
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="no node in PATH, which would run the page's modules")
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome in PATH")


# Without a browser.

class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def elements() -> list[tuple[str, dict[str, str | None]]]:
    parser = _Elements()
    parser.feed((PAGE / "index.html").read_text())
    return parser.found


def test_every_file_that_is_referred_to_exists() -> None:
    names = {attributes[key] for tag, attributes in elements() for key in ("src", "href")
             if tag in ("script", "link", "img") and key in attributes}
    assert {"page.css", "page.js", "icon.svg"} <= names
    for path in MODULES:
        names |= set(re.findall(r'from "\./([^"]+)"', path.read_text()))
    assert {name for name in names if not (PAGE / str(name)).is_file()} == set()
    assert {path.name for path in FILES} - names == {"index.html"}, "nothing refers to these"


def test_nothing_comes_from_elsewhere() -> None:
    for path in FILES:
        text = path.read_text().replace('xmlns="http://www.w3.org/2000/svg"', "")  # a name, not an address
        assert not re.findall(r"https?://|wss?://|@import|data:", text), path.name
        assert path.suffix != ".css" or "url(" not in text


def test_nothing_is_inline_that_a_strict_policy_forbids() -> None:
    for tag, attributes in elements():
        assert tag != "style"
        assert tag != "script" or attributes.get("src")
        assert not [name for name in attributes if name == "style" or name.startswith("on")], (tag, attributes)
    for path in MODULES:
        assert not re.findall(r"\beval\(|new Function|innerHTML|setAttribute\(\"style", path.read_text()), path.name


def test_ids_are_unique_and_those_that_scripts_ask_for_exist() -> None:
    ids = [attributes["id"] for _, attributes in elements() if "id" in attributes]
    assert len(ids) == len(set(ids))
    asked = {name for path in MODULES for name in re.findall(r'(?:\$|getElementById)\("([\w-]+)"\)', path.read_text())}
    assert asked - set(ids) == set()
    assert asked


def page_states() -> dict[str, str]:
    text = (PAGE / "states.js").read_text()
    return dict(re.findall(r'^  "(.)": "(.+)",$', text, re.M))


def test_letters_and_words_are_those_of_the_record() -> None:
    assert page_states() == STATES
    legend = re.search(r'LEGEND = "(.+)"', (PAGE / "states.js").read_text())
    assert legend is not None
    assert sorted(legend[1]) == sorted(set(STATES) - {"."})


def colours(theme: str) -> dict[str, str]:
    """Custom properties by name, as they are in a theme; the dark one has what it does not say from the light one."""
    text = (PAGE / "page.css").read_text()
    light = re.search(r":root \{(.+?)\}", text, re.S)
    dark = re.search(r':root\[data-theme="dark"\] \{(.+?)\}', text, re.S)
    assert light is not None
    assert dark is not None
    found = dict(re.findall(r"--([\w-]+): (#\w+);", light[1]))
    return found | dict(re.findall(r"--([\w-]+): (#\w+);", dark[1])) if theme == "dark" else found


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, "contrast ratio": 1 to 21."""
    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
        parts = [int(digits[at:at + 2], 16) / 255 for at in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_can_be_read_and_states_can_be_seen(theme: str) -> None:
    colour = colours(theme)
    for name in ("ink", "muted", "hot", "accent"):
        assert contrast(colour[name], colour["panel"]) >= 4.5, name
    assert contrast(colour["alarm"], colour["alarm-paper"]) >= 4.5
    assert contrast(colour["panel"], colour["accent"]) >= 4.5  # a pressed button
    states = [letter for letter in STATES if letter != "."]
    for letter in states:
        assert contrast(colour[f"on-{letter}"], colour[f"state-{letter}"]) >= 4.5, letter
    assert len({colour[f"state-{letter}"] for letter in states} | {colour["strip"]}) == len(states) + 1
    for name in ("kernel", "queued", "parked", "answers", "p99", "clients"):
        assert contrast(colour[f"curve-{name}"], colour["panel"]) >= 3, name  # WCAG 1.4.11, graphical objects


def run_node(*arguments: str) -> str:
    run = subprocess.run([str(NODE), *arguments], capture_output=True, timeout=20)
    assert run.returncode == 0, run.stderr.decode()
    return run.stdout.decode()


@needs_node
def test_modules_parse() -> None:
    run_node("--no-warnings", "--experimental-vm-modules", "-e",
             "const fs = require('fs'), vm = require('vm'); for (const path of process.argv.slice(1)) "
             "new vm.SourceTextModule(fs.readFileSync(path, 'utf-8'), {identifier: path})", *map(str, MODULES))


def node(module: str, expression: str) -> Any:
    """The value of an expression in which `m` is one of the modules of the page."""
    script = f"import * as m from {json.dumps((PAGE / module).as_uri())}; console.log(JSON.stringify({expression}))"
    return json.loads(run_node("--input-type=module", "-e", script))


@needs_node
def test_numbers_as_text() -> None:
    rates = [0, 0.004, 0.05, 0.0999, 1, 1.04, 9.94, 9.96, 12.4, 1234.5, None]
    assert node("words.js", f"{json.dumps(rates)}.map(m.rate)") == [
        "0", "0", "0.05", "0.1", "1.0", "1.0", "9.9", "10", "12", "1,235", "–"]
    times = [0, 0.0000951, 0.001, 0.01234, 0.9996, 59, 6000, None]
    assert node("words.js", f"{json.dumps(times)}.map(m.durationText)") == [
        "0 ms", "95 µs", "1.0 ms", "12 ms", "1.0 s", "59 s", "100 min", "–"]


@needs_node
def test_the_sentence_of_a_source() -> None:
    told = {  # threads started, hand-offs for each answer, answers, connections accepted, refused
        (800, 1, 800, 800, 0): "Starts 800 threads a second: one for each connection.",
        (0, 1, 800, 800, 0): "Hands one connection over for each answer.",
        (0, 0, 800, 800, 0): "No hand-offs, no new threads.",
        (0, None, 800, 800, 0): "No new threads.",
        (4, 0.5, 800, 800, 0): "Starts 4.0 threads a second, and hands 0.5 connections over for each answer.",
        (0, 0, 800, 0, 1): "No hand-offs, no new threads. 1 connection has been refused.",
        (0, 0, 0, 0, 0): "No answers at the moment. 1 thread in accept().",
    }
    before, trials = sample(time=100.0), []
    for started, handoffs, answers, accepted, refused in told:
        after = sample(time=101.0)
        after["threads_started"] += started
        after["responses"]["total"] += answers
        after["connections"]["accepted"] += accepted
        after["connections"]["refused"] = refused
        bursts = [{"requests": responses, "handoffs_per_request": None if off is None or handoffs is None
                   else handoffs + off} for responses, off in ((5, 9), (80, -0.1), (40, 0.2), (9, None))]
        trials.append((before, after, bursts))
    call = f"{json.dumps(trials)}.map(([before, after, bursts]) => m.story(after, m.rates(before, after, bursts)))"
    assert node("words.js", call) == list(told.values())


@needs_node
def test_limits_that_differ_are_said() -> None:
    told: dict[tuple[tuple[str, int | None], ...], str] = {
        (("thread", 100), ("recycling", 100)): "",
        (("pool", 16),): "",
        (("thread", 100), ("pool", 16), ("recycling", 100)): "pool serves 16 at once, the others 100.",
        (("thread", 100), ("pool", 16)): "thread serves 100 at once, pool 16.",
        (("thread", None), ("pool", 1600)): "thread serves as many as come at once, pool 1,600.",
        (("a", 1), ("b", 2), ("c", 2), ("d", 1), ("e", 9)): "e serves 9 at once, a and d 1, b and c 2.",
        (("a", 1), ("b", 2), ("c", 2), ("d", 1)): "a and d serve 1 at once, b and c 2.",
    }
    sources = [[{"label": label, "max_thread_count": most} for label, most in each] for each in told]
    assert node("words.js", f"{json.dumps(sources)}.map(m.limitsWords)") == [
        each and f"Not the same limits: {each}" for each in told.values()]


@needs_node
def test_no_age_is_said_where_none_is_known() -> None:
    lanes = [lane | {"since": since} for lane in sample(100.0)["lanes"][:2] for since in (None, 99.0)]
    assert node("inspect.js", f"{json.dumps(lanes)}.map((lane) => m.aboutLane(lane, 100, 100)[1])") == [
        f"A – {STATES['A']}", f"A – {STATES['A']}, for 1.0 s", f"H – {STATES['H']}", f"H – {STATES['H']}, for 1.0 s"]


@needs_node
def test_steps_are_arranged_as_rows_and_handoffs() -> None:
    arranged = node("arrange.js", f"(({{rows, handoffs, events}}) => ({{rows, handoffs, events}}))"
                                f"(m.arrange({json.dumps(StillSource().steps(0.02))}, 0.02))")
    assert [row["lane"] for row in arranged["rows"]] == [0, 1, 3], "lane 2 has no thread all the time"
    assert [piece["thread"] for piece in arranged["rows"][2]["pieces"] if piece["state"] == "R"] == [
        "thread-3", "thread-4"]
    closed, = (piece for piece in arranged["rows"][2]["pieces"] if piece["about"] == "connection 39: closed")
    assert closed["connection"] == 0, "the thread has it no more"
    handoff, = arranged["handoffs"]
    assert (handoff["from"]["lane"], handoff["to"]["lane"], handoff["from"]["connection"]) == (0, 1, 41)
    assert [event["state"] for event in arranged["events"]] == ["Q", "R", "A", "H", "R", "Q", "R", "W"]
    assert node("arrange.js", f"{json.dumps(arranged['events'])}.map(m.eventText)") == [
        "row 0 – finds it a thread, connection 41, from 127.0.0.1:49152, had waited 300 µs in the kernel",
        "row 1 – reads a request, connection 41", "row 0 – in accept()", "row 1 – handler, connection 41, GET /",
        "row 3 – reads a request, connection 40", "row 3 – finds it a thread, connection 39, from a UNIX socket",
        "row 3 – reads a request, connection 39",
        "row 1 – writes the response, connection 41"]


@needs_node
@pytest.mark.parametrize(("steps", "told"), [
    ([(0.0, "_", 0, None), (0.5, "R", 7, None)], "1 connection, 1 hand-off (1 begun before), no thread started."),
    ([(0.5, "S", 0, None), (0.6, "R", 7, None)], "1 connection, 1 hand-off (1 begun before), 1 thread started."),
    ([(0.0, "A", 0, None), (0.5, "R", 7, None)], "1 connection, no hand-offs, no thread started."),
    ([(-0.1, "R", 7, None), (0.5, "H", 7, None)], "1 connection, no hand-offs, no thread started."),
    ([(0.0, "K", 7, None), (0.5, "R", 7, None)], "1 connection, no hand-offs, no thread started."),
])
def test_what_was_handed_over_before_is_a_handoff_too(steps: list[Any], told: str) -> None:
    source = Steps(label="", name="", model="", process=1, begin=0.0, end=1.0,
                   lanes=[{"lane": 0, "thread": "worker", "steps": steps}])
    assert node("arrange.js", f"m.summary(m.arrange({json.dumps(source)}, 1))") == told


# In a browser.

def sample(time: float) -> Sample:
    def lane(number: int, thread: str | None, state: str, ago: float, connection: int = 0, request: str | None = None,
             client: str | None = None) -> LaneNow:
        return LaneNow(lane=number, thread=thread, ident=number, state=state, since=time - ago, connection=connection,
                       request=request, client=client)

    return Sample(
        time=time, label="pool", name="127.0.0.1:8080", model="PooledTaskmaster", process=4242, max_thread_count=16,
        max_accept_count=None, threads={"starting": 0, "accepting": 1, "waiting": 1, "serving": 0, "leaving": 0},
        lanes=[lane(0, "acceptor-0", "A", 0.5),
               lane(1, "worker-1", "H", 0.25, 41, "GET /report", "127.0.0.1:49152"), lane(2, None, ".", 3)],
        connections=ConnectionsNow(open=1100, kernel=3, kernel_limit=1024, queued=2, parked=1090, accepted=5000,
                                   served=4900, refused=6),
        responses=Responses(total=1_234_567, by_class={"2xx": 1_234_557, "5xx": 10}, per_second=1234.4, p50=0.001,
                            p99=0.0204),
        histogram=Histogram(buckets=[], sum=0.0, count=1_234_567),
        burst=Burst(time=time, seconds=0.02, requests=20, handoffs_per_request=1.0, wait_p99=0.0005,
                    kernel_wait_p99=0.003),
        threads_started=17, grown={"start": 16, "the last waiter was taken": 1}, shrunk={},
        decisions=[DecisionSaid(time=time - 1, change=1, reason="the last waiter was taken", threads=17)],
        violations={})


class StillSource:
    """A source of which every sample says the same, but for what a test changes; from the time it is made."""

    label = "pool"

    def __init__(self) -> None:
        self.changes: dict[str, Any] = {}
        self.began = time.monotonic()

    def sample(self) -> Sample:
        said = sample(time.monotonic())
        said["decisions"][0]["time"] = self.began
        return cast("Sample", {**said, **self.changes})

    def steps(self, seconds: float) -> Steps:
        t = self.began
        lanes: list[tuple[int, list[tuple[float, str, int, Any]]]] = [
            (0, [(0, "A", 0, None), (0.0002, "Q", 41, ["127.0.0.1", 49152, 0.0003]), (0.001, "A", 0, None)]),
            (1, [(0, "_", 0, None), (0.0005, "R", 41, None), (0.002, "H", 41, ["GET", "/"]), (0.018, "W", 41, None)]),
            (2, [(-3, ".", 0, None)]),
            (3, [(0.002, "R", 40, None), (0.003, "_", 40, "closed"), (0.003, ".", 0, None)]),
            (3, [(0.004, "Q", 39, ["", 0, None]), (0.005, "R", 39, None), (0.006, "_", 39, "closed"),
                 (0.006, ".", 0, None)])]
        return Steps(
            label="pool", name="127.0.0.1:8080", model="PooledTaskmaster", process=4242, begin=t, end=t + 0.02,
            lanes=[{"lane": number, "thread": f"thread-{place}", "steps": [(t + at, *step) for at, *step in steps]}
                   for place, (number, steps) in enumerate(lanes)])

    def stacks(self) -> str:
        return ""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """With no page yet, in the light theme, and 1280 x 900; there must be no error in the console at the end."""
    chromium.errors.clear()
    chromium.prefer(color_scheme="light")
    chromium.resize(1280, 900)
    yield chromium
    chromium.open("about:blank")
    assert chromium.errors == []


@pytest.fixture
def source() -> StillSource:
    return StillSource()


@pytest.fixture
def load() -> MadeUpLoad:
    return MadeUpLoad(sleep_ms=1.5)


@pytest.fixture
def server(source: StillSource, load: MadeUpLoad) -> Iterator[ControlServer]:
    with ControlServer(source, load=load) as server:
        yield server


@pytest.fixture
def page(browser: Browser, server: ControlServer) -> Iterator[Browser]:
    browser.open(server.url)
    browser.until("document.getElementById('load')?.hidden === false"
                  " && document.querySelector('.exact .caption')?.textContent"
                  " && document.querySelector('[data-is=answered]')?.textContent")  # nothing moves about any more
    yield browser
    browser.open("about:blank")  # before its server is gone, which a page would say in the console


def shown(page: Browser, what: str) -> str:
    text: str = page.evaluate(f"document.querySelector('[data-is=\"{what}\"]').textContent")
    return text


@needs_browser
def test_numbers_are_those_that_were_sent(page: Browser) -> None:
    sent = {"answers": "1,234", "p99": "20ms", "threads": "2", "open": "1,100", "kernel": "3", "queued": "2",
            "parked": "1,090", "refused": "6", "answered": "1,234,567", "errors": "10"}
    assert {key: shown(page, key) for key in sent} == sent
    text = page.evaluate("document.querySelector('.source').innerText")
    assert "PooledTaskmaster · serves 16 at once · 127.0.0.1:8080 · process 4242" in text
    assert "+16 start, +1 the last waiter was taken" in text
    assert page.evaluate("document.querySelector('.caption').textContent") == (
        "3 connections, 2 hand-offs (1 begun before), 2 threads started.")


@needs_browser
def test_freezing_stops_what_is_seen_and_nothing_else(page: Browser, source: StillSource) -> None:
    page.until("page.clock.offset !== null")
    page.press(" ")
    page.until("document.getElementById('status').textContent === 'frozen'")
    pixels = "document.querySelector('.strip canvas').toDataURL()"
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    before = page.evaluate(pixels)
    source.changes["responses"] = {**sample(0)["responses"], "total": 2_000_000}
    page.until("[...page.views.values()][0].history.samples.at(-1).responses.total === 2000000")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert (shown(page, "answered"), page.evaluate(pixels) == before) == ("1,234,567", True)
    page.press(" ")
    page.until("document.querySelector('[data-is=answered]').textContent === '2,000,000'")
    page.until(pixels, lambda value: value != before)


@needs_browser
def test_the_theme_is_the_systems_until_one_is_chosen_and_then_remembered(page: Browser, server: ControlServer) -> None:
    theme = "document.documentElement.dataset.theme"
    assert page.evaluate(theme) == "light"
    page.press("t")
    assert page.evaluate(theme) == "dark"
    page.open(server.url)
    page.until("!!document.querySelector('.source')")
    assert page.evaluate(theme) == "dark"


@needs_browser
def test_keys_for_help_trace_window_and_slow_motion(page: Browser) -> None:
    page.press("?")
    assert page.evaluate("document.getElementById('help-dialog').open")
    page.press("Escape")
    page.until("!document.getElementById('help-dialog').open")
    page.evaluate("document.getElementById('trace').addEventListener('click', (event) => {"
                  " event.preventDefault(); window.asked = event.currentTarget.getAttribute('href')})")
    page.press("d")
    assert page.evaluate("window.asked") == "trace?seconds=5"
    page.press("w")
    page.until("document.querySelector('#window input:checked').value === '0.2'")
    page.press("3")
    page.press("s")
    assert page.evaluate("document.getElementById('slow').ariaPressed") == "true"
    caption = "document.querySelector('.caption').textContent"
    page.until(f"/^[0-9.]+ ms: row [013] – .*, connection (39|40|41)/.test({caption})")
    page.press("s")
    page.until(f"{caption}.startsWith('3 connections')")
    assert page.evaluate("document.getElementById('freeze').ariaPressed") == "true", "slow motion freezes"


@needs_browser
def test_the_load_is_told_and_changed(page: Browser, load: MadeUpLoad) -> None:
    words = "document.getElementById('load-words').textContent"
    page.until(f"{words}.startsWith('20 clients, a new connection for each request, a handler that waits 1.5 ms')")
    page.press("k")
    page.until(f"{words}.includes('connections kept open')")
    page.evaluate("{const input = document.getElementById('clients'); input.value = 7;"
                  " input.dispatchEvent(new Event('change'))}")
    page.until(f"{words}.startsWith('7 clients')")
    assert load.wishes == [{"keep_alive": True}, {"clients": 7}]
    page.evaluate("{const input = document.getElementById('sleep'); input.value = 9999.5;"
                  " input.dispatchEvent(new Event('change'))}")
    page.until(f"{words}.includes('waits 9999.5 ms')")
    page.evaluate("{const input = document.getElementById('sleep'); input.value = 10001;"
                  " input.dispatchEvent(new Event('change'))}")
    assert page.evaluate("document.getElementById('sleep').value") == "9999.5"
    load.change({"clients": 8})
    page.until(f"{words}.startsWith('8 clients')")  # another page has changed it


@needs_browser
def test_what_its_clients_see_is_beside_what_the_server_sees(page: Browser, load: MadeUpLoad,
                                                             server: ControlServer) -> None:
    seen = "(key) => document.querySelector(`[data-is='${key}']`).checkVisibility()"
    assert page.evaluate(f"['clients', 'open', 'also-open', 'failures'].map({seen})") == [False, True, False, False]
    load.see("127.0.0.1:8080", ClientsSee(answers=200, failures=3, p50=0.2, p99=0.345))
    load.see("127.0.0.1:9", ClientsSee(answers=1, failures=0, p50=9.0, p99=9.0))
    page.until("document.querySelector('[data-is=clients]').textContent === '345ms'")
    assert page.evaluate(f"['clients', 'open', 'also-open', 'failures'].map({seen})") == [True, False, True, True]
    assert (shown(page, "p99"), shown(page, "failures")) == ("20ms", "3")
    text = page.evaluate("document.querySelector('.numbers').innerText")
    assert "p99 for its clients" in text
    assert "p99, once a thread has it" in text
    x, y = page.evaluate("(({right, top}) => [right - 30, top + 60])"
                         "(document.querySelector('.curves').getBoundingClientRect())")
    page.point(x, y)
    inspected = "document.getElementById('inspector').innerText"
    page.until(f"{inspected}.includes('for its clients: p50 200 ms, p99 345 ms, 3 failures')")
    assert "once a thread has it: p50 1.0 ms, p99 20 ms" in page.evaluate(inspected)


@needs_browser
def test_pointing_and_arrow_keys_tell_what_a_thread_does(page: Browser) -> None:
    text, hidden = "document.getElementById('inspector').innerText", "document.getElementById('inspector').hidden"
    x, y = page.until("page.views.values().next().value.strip.drawn && (({right, top}) => [right - 23, top])"
                      "(document.querySelector('.strip').getBoundingClientRect())")
    height = page.evaluate("page.views.values().next().value.strip.rowHeight")
    page.point(x, y + 1.5 * height)
    page.until(f"!{hidden} && {text}.includes('worker-1')")
    lines = page.evaluate(text).split("\n")
    lines = [line for line in lines if line]
    assert lines[:4] == ["worker-1", "H – handler, for 250 ms", "connection 41 from 127.0.0.1:49152", "GET /report"]
    page.point(2, 2)
    page.until(hidden)
    page.evaluate("document.querySelector('.strip').focus({focusVisible: true})")
    page.press("ArrowDown")
    page.press("End")
    page.until(f"{text}.includes('worker-1')")
    page.press("ArrowUp")
    page.until(f"{text}.includes('acceptor-0')")
    page.press("Enter")
    assert page.evaluate(f"!{hidden}")
    page.press("Escape")
    assert page.evaluate(hidden)


@needs_browser
def test_it_says_when_there_is_no_news(page: Browser, source: StillSource, server: ControlServer) -> None:
    server.stop()
    page.until("!banner.hidden && banner.textContent.startsWith('No news for ')")
    with ControlServer(source, server.name, load=MadeUpLoad()):
        page.until("banner.hidden")
        assert page.evaluate("document.getElementById('status').textContent") == "live"
    page.open("about:blank")
    assert all("ERR_" in error for error in page.errors), page.errors  # a browser logs each connection that fails
    page.errors.clear()


@needs_browser
@pytest.mark.parametrize(("waiting", "told"), [
    (0, "It has no threads yet."), (1, "Its threads run, but nobody records what they do.")])
def test_it_says_why_there_is_nothing_to_see(page: Browser, source: StillSource, waiting: int, told: str) -> None:
    source.changes |= {"lanes": [], "threads": {
        "starting": 0, "accepting": 0, "waiting": waiting, "serving": 0, "leaving": 0}}
    page.until(f"document.querySelector('.trouble').textContent.startsWith({json.dumps(told)})")
    assert not page.evaluate("document.querySelector('.trouble').hidden")


@needs_browser
def test_a_hundred_rows_of_three_sources_fit(browser: Browser) -> None:
    with made_up(100) as server:
        browser.open(server.url)
        for width, height in (390, 844), (1280, 900), (1920, 1080):
            browser.resize(width, height)
            browser.until(f"window.page?.detail.panels.size === 3 && [...page.views.values()].every(({{strip}}) => "
                          f"strip.drawn && strip.g.width <= {width} && strip.capacity >= strip.rows)")
            assert browser.evaluate("document.documentElement.scrollWidth") <= width
            assert browser.evaluate("document.querySelector('.strip').getBoundingClientRect().bottom") < height
            assert browser.evaluate("page.views.get('recycling 127.0.0.1:8082').strip.rows") == 100
        browser.open("about:blank")
