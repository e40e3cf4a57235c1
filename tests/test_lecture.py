"""The lecture says what has been measured, shows pictures that are there, and names commands that exist.

A figure in a page has its source behind it, in a comment that no reader sees; what it must agree with is the median of
the runs in bench/published, rounded to as many digits as the page has:

    3.1<!-- convoy thread p50_ms cores=one switch_interval_ms=5 computing=1 -->       preset, subject, metric, axes
    2.7<!-- quick pool-hold ok_per_s keep_alive=off sleep_ms=0 / thread -->           the ratio to the same of thread
    216<!-- quick thread cpu_us keep_alive=off sleep_ms=0 - single -->                the difference
    12,831<!-- original recycling per_s keep_alive=off sleep_ms=0 connections=100 --> what the original published
    1,325<!-- docs/scale.md: recycling, park 10,000 full 5,824 51.0 (51 to 52) 1,325 B -->      words of a page with it

    <!-- table slow sleep_ms=3 metric=ok_per_s; rows subject; columns slow_clients=0, slow_clients=8 -->

stands before a table whose first column names the values of `rows`; columns that are not named are text. In words of
another page white space and the bars of its tables are all the same.

`python -m tests.test_lecture` takes the pictures in docs/lecture/figures from bench/published/report.html again.
"""

from __future__ import annotations

import argparse
import csv
import inspect
import re
import shlex
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from acceptor.settings import Timeouts
from bench.cli.lab import add_lab
from bench.cli.studies import add_studies
from bench.lab.record import Cell, Results, Value
from bench.subjects import subjects_of
from taskmaster import (
    AcceptorSteps,
    EventLoopTaskmaster,
    PooledTaskmaster,
    PreforkTaskmaster,
    RecyclingTaskmaster,
    SingleThreadedTaskmaster,
    Taskmaster,
    ThreadPerConnectionTaskmaster,
)
from watching.slow_motion.lessons import LESSONS
from watching.trace.picture import COLOURS, DARK

ROOT = Path(__file__).parent.parent
LECTURE = ROOT / "docs" / "lecture"
PUBLISHED = ROOT / "bench" / "published"
MODELS: dict[str, type[Taskmaster]] = {
    "single": SingleThreadedTaskmaster, "per-connection": ThreadPerConnectionTaskmaster, "pooled": PooledTaskmaster,
    "recycling": RecyclingTaskmaster, "event-loop": EventLoopTaskmaster, "prefork": PreforkTaskmaster}
OF_A_MODEL = ["In one sentence", "Timeline", "The loop", "What it cures", "What it costs", "When to use it",
              "The class", "Try it", "Read on"]
EFFECTS = ["experiment", "keep-alive", "slow-clients", "convoy", "accept-order", "littles-law", "woo", "free-threading"]
OF_AN_EFFECT = ["The picture", "The argument", "The figures", "Try it", "Read on"]
PAGES = [LECTURE / "index.md", *(LECTURE / "models" / f"{name}.md" for name in MODELS),
         *(LECTURE / f"{name}.md" for name in EFFECTS), LECTURE / "exercises.md"]
FIGURES = {
    "capacity": ("The experiment of the original, in full", 0),
    "open": ("Latency at equal work: requests come at their own rate", 1),
    "starve": ("Who is served, when clients keep their connections and threads are few", 0),
    "slow": ("What slow clients cost the others", 0), "step": ("Ten clients, then four hundred, then ten again", 0),
    "convoy": ("A tiny handler beside one that computes", 0), "accept": ("Who gets the next connection", 0),
    "tune": ("How many threads a pool should have", 0)}
"""Under which heading of the report a picture is, and the how manieth there."""

NUMBER = r"-?\d+(?:,\d{3})*(?:\.\d+)?"
MARK = re.compile(rf"({NUMBER})<!-- (.*?) -->", re.DOTALL)
TABLE = re.compile(r"<!-- table ([^>]*?) -->\n+((?:\|[^\n]*\n)+)")
COMMAND = re.compile(r"^ {4}((?:python -m|make|taskmaster|curl|wrk) [^\n]*)$", re.MULTILINE)

pages = pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])


def headings(text: str) -> list[str]:
    return re.findall(r"^## (.*)$", text, re.MULTILINE)


# Their form.

def test_no_page_is_missing_and_none_is_left_over() -> None:
    assert sorted(LECTURE.rglob("*.md")) == sorted(PAGES)


@pytest.mark.parametrize("name", MODELS)
def test_a_page_of_a_model_has_its_sections_in_order(name: str) -> None:
    assert headings((LECTURE / "models" / f"{name}.md").read_text()) == OF_A_MODEL


@pytest.mark.parametrize("name", EFFECTS)
def test_a_page_of_an_effect_has_its_sections_in_order(name: str) -> None:
    assert headings((LECTURE / f"{name}.md").read_text()) == OF_AN_EFFECT


@pages
def test_a_page_begins_with_its_question(page: Path) -> None:
    title, empty, question, *_ = page.read_text().split("\n", 3)
    assert title.startswith("# ")
    assert not empty
    assert re.match(r"\*\*.*\?\*\*$", question, re.DOTALL), question


@pages
def test_a_page_is_short_enough_to_be_read_at_a_sitting(page: Path) -> None:
    words = len(re.sub(r"<!--.*?-->", "", page.read_text(), flags=re.DOTALL).split())
    assert 300 <= words <= (1200 if page.stem != "exercises" else 3000), words


@pages
def test_lines_are_not_longer_than_anywhere_else(page: Path) -> None:
    text = re.sub(r"<!--.*?-->", "", page.read_text(), flags=re.DOTALL)
    assert [line for line in text.split("\n") if len(line) > 120 and not line.startswith(("|", "!["))] == []


@pages
def test_what_a_page_embeds_is_a_picture(page: Path) -> None:
    for link in re.findall(r"!\[[^\]]+\]\(([^)\s]+)\)", page.read_text()):
        assert "</svg>" in (page.parent / link).read_text(), link


@pytest.mark.parametrize("name", MODELS)
def test_a_page_of_a_model_begins_with_a_timeline_that_slow_motion_has_made(name: str) -> None:
    timeline = (LECTURE / "models" / f"{name}.md").read_text().partition("## Timeline")[2].partition("## ")[0]
    assert "](../../lessons/" in timeline


@pytest.mark.parametrize("name", EFFECTS)
def test_a_page_of_an_effect_begins_with_a_picture(name: str) -> None:
    picture = (LECTURE / f"{name}.md").read_text().partition("## The picture")[2].partition("## ")[0]
    assert "![" in picture or "\n    " in picture


@pytest.mark.parametrize(("lesson", "step", "said"), [
    ("single", 3, "Bob arrives"), ("single", 4, "nobody works"), ("per-connection", 6, "waits in a queue"),
    ("per-connection", 7, "refused"), ("per-connection", 8, "does not end"), ("pool", 4, "stays in the queue"),
    ("pool", 5, "refused"), ("recycling", 3, "it starts thread 3"), ("recycling", 7, "waits in the kernel"),
    ("recycling", 9, "one too many"), ("recycling", 11, "stays"), ("keep-alive-hold", 3, "waits in the queue"),
    ("keep-alive-park", 4, "handed to worker"), ("keep-alive-park", 6, "takes a thread"), ("stop", 3, "told to stop")])
def test_in_a_step_that_the_lecture_points_to_happens_what_it_says(lesson: str, step: int, said: str) -> None:
    captions = (ROOT / "docs" / "lessons" / f"{lesson}.txt").read_text()
    caption = re.search(rf"^ *{step}  (.*?)(?=^ *\d+  |\Z)", captions, re.DOTALL | re.MULTILINE)
    assert caption
    assert said in " ".join(caption[1].split())


# Their figures.

@cache
def results(preset: str) -> Results:
    return Results.read(PUBLISHED / preset)


@cache
def original() -> list[dict[str, str]]:
    with open(ROOT / "bench" / "presets" / "original.tsv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_the_figures_of_record_are_there() -> None:
    assert results("starve").subjects
    assert original()


def value_of(text: str) -> Value:
    if text in ("on", "off"):
        return text == "on"
    try:
        return float(text)
    except ValueError:
        return text


def looked_up(source: str, wanted: Mapping[str, str]) -> float | None:
    """The figure of `source` for these `wanted`: subject, metric, axes. None if those runs have no such metric."""
    axes = {name: value for name, value in wanted.items() if name not in ("subject", "metric")}
    if source == "original":
        [row] = [row for row in original() if row["server"] == wanted["subject"]
                 and all(row[name] == value for name, value in axes.items())]
        if wanted["metric"] == "little":
            return float(row["per_s"]) * float(row["mean_ms"]) / 1e3
        return float(row[wanted["metric"]])
    asked = {name: value_of(value) for name, value in axes.items()}
    cells: list[Cell] = list(results(source).where(wanted["subject"], **asked))
    assert len(cells) == 1, f"{wanted} is in {len(cells)} cells of {source}"
    known = {name for record in results(source).records for name in record.metrics}
    assert wanted["metric"] in known, f"{source} has no {wanted['metric']}: {sorted(known)}"
    return results(source).median(cells[0], wanted["metric"])


def words_of(said: str) -> dict[str, str]:
    """The words of a mark: `metric=p50_ms` by name; without a name the first is the subject, the next the metric."""
    names = iter(("subject", "metric"))
    found = {}
    for word in shlex.split(said):
        name, equals, value = word.partition("=")
        if equals:
            found[name] = value
        else:
            found[next(names)] = word
    return found


def agrees(text: str, figure: float) -> bool:
    """Whether `figure`, rounded to the digits of `text`, is `text`."""
    digits = len(text.partition(".")[2])
    within: float = 0.5 / 10 ** digits * (1 + 1e-4)  # runs are kept with six digits
    return abs(figure - float(text.replace(",", ""))) <= within


def marks(text: str) -> Iterator[tuple[str, str]]:
    for number, mark in MARK.findall(text):
        if not mark.startswith("table "):
            yield number, " ".join(mark.split())


@pages
def test_figures_in_sentences_are_those_that_were_measured(page: Path) -> None:
    for number, mark in marks(page.read_text()):
        source, _, said = mark.partition(" ")
        if source.endswith(":"):  # the words of another page, in which the number stands
            kept = " ".join((ROOT / source[:-1]).read_text().replace("<!-- END -->", "").replace("|", " ").split())
            assert said in kept, f"{source} does not say: {said}"
            assert number in re.findall(NUMBER, said), f"{number} is not in: {said}"
            continue
        of, operator, to = re.fullmatch(r"(.*?)(?: (/|-) (.*))?", said).groups()  # type: ignore[union-attr]
        figure = looked_up(source, words_of(of))
        assert figure is not None, mark
        if operator:
            against = looked_up(source, words_of(of) | words_of(to))
            assert against, mark
            figure = figure / against if operator == "/" else figure - against
        assert agrees(number, figure), f"{number}, but {figure:.6g}: {mark}"


@pages
def test_figures_in_tables_are_those_that_were_measured(page: Path) -> None:
    for mark, table in TABLE.findall(page.read_text()):
        fixed, rows, columns = (part.strip() for part in mark.split(";"))
        source, _, fixed = fixed.partition(" ")
        wanted = [words_of(column) for column in columns.removeprefix("columns ").split(", ")]
        _, _, *lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
        assert lines
        for line in lines:
            row = re.search(rf"`([^`]+)`|({NUMBER})", line[0])
            assert row, line[0]
            name = {rows.removeprefix("rows "): row[1] or row[2]}
            for cell, column in zip(line[1:], wanted, strict=False):
                figure = looked_up(source, {**words_of(fixed), **name, **column})
                said = re.search(NUMBER, cell)
                if figure is None:
                    assert not said, f"{line[0]}, {column}: {cell}, but there is no such figure"
                else:
                    assert said, f"{line[0]}, {column}: {cell}, but {figure:.6g}"
                    assert agrees(said[0], figure), f"{line[0]}, {column}: {cell}, but {figure:.6g}"


@pages
def test_every_mark_is_understood(page: Path) -> None:
    text = page.read_text()
    assert [line for line in text.split("\n") if re.search(r"<!--[^>]*\|[^>]*-->", line)] == []  # it would end a cell
    assert text.count("<!--") == len([*marks(text)]) + len(TABLE.findall(text)), "a mark stands right behind its number"


def test_a_wrong_figure_is_seen() -> None:
    assert agrees("3.1", 3.13)
    assert not agrees("3.2", 3.13)
    assert agrees("2,310", 2309.6)
    assert not agrees("2,310", 2309.4)
    assert looked_up("starve", words_of("thread served connections=100")) == 8
    with pytest.raises(AssertionError, match="is in 0 cells"):
        looked_up("starve", words_of("thread served connections=7"))
    with pytest.raises(AssertionError, match="has no beauty"):
        looked_up("starve", words_of("thread beauty connections=100"))


@pytest.mark.parametrize("name", [*EFFECTS, *(f"models/{name}" for name in MODELS)])
def test_a_page_names_where_its_figures_come_from(name: str) -> None:
    text = (LECTURE / f"{name}.md").read_text()
    assert [*marks(text), *TABLE.findall(text)]
    assert "2026-11-2" in text  # the day
    assert re.search(r"preset `\w+`|presets `\w+`|docs/|\]\(\.\./", text)


@pytest.mark.parametrize("name", ["slow-clients", "keep-alive"])
def test_timeouts_are_the_defaults(name: str) -> None:
    said = re.findall(r"`Timeouts\.(\w+)`[^|\n]*\| (\d+) s", (LECTURE / f"{name}.md").read_text())
    assert said
    for timeout, seconds in said:
        assert getattr(Timeouts(), timeout) == float(seconds), timeout


# Their pictures of record.

def picture(name: str) -> str:
    """The picture of the report, as a file."""
    heading, which = FIGURES[name]
    [section] = [section for section in re.split(r"<h2[^>]*>", (PUBLISHED / "report.html").read_text())
                 if section.startswith(f"{heading}</h2>") and "<svg" in section]
    drawn = re.findall(r"<svg.*?</svg>", section, re.DOTALL)[which]
    return re.sub(r' style="max-width:[^"]*"', "", drawn, count=1) + "\n"


@pytest.mark.parametrize("name", FIGURES)
def test_pictures_are_those_of_the_report(name: str) -> None:
    kept = LECTURE / "figures" / f"{name}.svg"
    assert kept.read_text() == picture(name), "python -m tests.test_lecture takes it from the report again"


def test_every_picture_is_shown_somewhere() -> None:
    shown = "".join(page.read_text() for page in PAGES)
    assert {path.stem for path in (LECTURE / "figures").iterdir()} == set(FIGURES)
    assert [name for name in FIGURES if f"figures/{name}.svg" not in shown] == []


def test_the_colours_of_the_lanes_are_those_that_the_pages_name() -> None:
    """Magenta is the state Q, in the picture of record as on the live page."""
    drawn = (PUBLISHED / "lanes.svg").read_text()
    css = (ROOT / "watching" / "page" / "page.css").read_text()
    assert dict(re.findall(r"--state-(\S): (#\w{6})", css[css.index('dark"]'):])) == DARK
    for colours in (COLOURS, DARK):
        assert all(f"--{state}: {colour};" in drawn for state, colour in colours.items())
    for page in (LECTURE / "index.md", ROOT / "bench" / "README.md"):
        assert "Magenta is finding a thread for a connection" in " ".join(page.read_text().split())


# Their code and commands.

@pytest.mark.parametrize("name", MODELS)
def test_a_page_of_a_model_names_every_argument_with_its_default(name: str) -> None:
    section = (LECTURE / "models" / f"{name}.md").read_text().partition("## The class")[2].partition("\n## ")[0]
    assert f"`{MODELS[name].__name__}" in section
    said = dict(re.findall(r"^\| `(\w+)` \| (?:`(.*?)`)?[^|]*\|", section, re.MULTILINE))
    parameters = dict(inspect.signature(MODELS[name].__init__).parameters)
    del parameters["self"]
    if name != "single":  # inherits a constructor without arguments
        assert said == {parameter: "" if it.default is inspect.Parameter.empty else f"{it.default!r}".replace("'", '"')
                        for parameter, it in parameters.items()}


@pages
def test_the_steps_of_a_loop_exist(page: Path) -> None:
    for step in re.findall(r"\bacceptor\.(\w+)\(", page.read_text()):
        assert hasattr(AcceptorSteps, step), step


@pytest.mark.parametrize("name", MODELS)
def test_the_loop_on_a_page_is_that_of_the_module(name: str) -> None:
    """Every step that the page's loop takes is taken in the module's, or in what it is built on."""
    loop = (LECTURE / "models" / f"{name}.md").read_text().partition("## The loop")[2].partition("\n## ")[0]
    code = "\n".join(re.findall(r"```python\n(.*?)```", loop, re.DOTALL))
    assert code.strip()
    module = inspect.getmodule(MODELS[name])
    assert module
    assert module.__doc__
    compile(code, name, "exec")
    steps = set(re.findall(r"\bacceptor\.(\w+)\(", code))
    assert steps <= set(re.findall(r"\b(?:acceptor|replica)\.(\w+)\(", module.__doc__ + inspect.getsource(module))) | (
        {"accept", "process_connection"} if name == "prefork" else set())


def lab_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench")
    commands = parser.add_subparsers(required=True)
    add_lab(commands)
    add_studies(commands)
    return parser


def check_lab(arguments: list[str]) -> None:
    options = lab_parser().parse_args(arguments)
    named = getattr(options, "subjects", None) or getattr(options, "models", None)
    if named and arguments[0] in ("run", "trace"):
        known = [name for name in (named.split(",") if isinstance(named, str) else named) if "my_model" not in name]
        subjects_of(",".join(known))


@pages
def test_commands_say_what_is_understood(page: Path) -> None:
    """All of a command line of the lab, and the names of lessons. (tests.test_docs_site looks at the others.)"""
    for line in COMMAND.findall(page.read_text().replace(" \\\n       ", "")):
        words = shlex.split(re.split(r" {3,}", line)[0])  # what stands behind is an explanation
        if words[:3] == ["python", "-m", "watching.slow_motion"]:
            assert words[3] in LESSONS, line
        elif words[:3] == ["python", "-m", "bench"] or words[:2] == ["make", "lab"]:
            try:
                check_lab(words[3:] if words[0] == "python" else shlex.split(words[2].removeprefix("ARGS=")))
            except SystemExit as error:
                raise AssertionError(f"not understood: {line}") from error


def test_there_is_something_to_try_on_every_page() -> None:
    without = [page.stem for page in PAGES if not COMMAND.findall(page.read_text())]
    assert without == []


def test_exercises_have_something_to_try_and_an_answer() -> None:
    text = (LECTURE / "exercises.md").read_text()
    exercises = re.split(r"^### ", text, flags=re.MULTILINE)[1:]
    assert 10 <= len(exercises) <= 15
    for number, exercise in enumerate(exercises, 1):
        assert exercise.startswith(f"{number}. ")
        assert exercise.count("<details") == exercise.count("</details>") == 1, exercise[:60]
        assert "Watch" in exercise or "watch" in exercise, exercise[:60]


if __name__ == "__main__":
    for each in FIGURES:
        (LECTURE / "figures" / f"{each}.svg").write_text(picture(each))
