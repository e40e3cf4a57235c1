"""The site is built, its links lead somewhere, what it shows runs, and what is generated is up to date."""

from __future__ import annotations

import argparse
import functools
import importlib
import importlib.util
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import griffe
import pytest
from hypothesis import given
from hypothesis import strategies as st

import acceptor
import handlers
import taskmaster
import watching
from acceptor.cli.commands import taskmaster as command_line
from bench.cli.lab import add_lab
from bench.cli.studies import add_studies
from docs.tools import api, hooks
from docs.tools.arguments import PAGE, SECTIONS, arguments_of, arguments_reference, found
from docs.tools.docstrings import Heading, Meanings, Text, Verbatim, blocks, markdown, meanings
from docs.tools.snippets import Command, commands, run, snippets

ROOT = Path(__file__).parent.parent
SITE_PAGES = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "bench/README.md", "fuzz/README.md")), *SITE_PAGES]
MAKEFILE = (ROOT / "Makefile").read_text()
RUN_ELSEWHERE = {"README.md", "docs/http.md", "docs/applications.md",  # tests/test_docs.py
                 "docs/threads.md"}                                     # tests/test_bench_threads.py


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


# The site.

def test_the_site_is_built_without_a_warning_and_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    """One test, for it takes seconds to build."""
    build = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path], cwd=ROOT,
                           capture_output=True, text=True, timeout=120, check=False,
                           env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
    assert build.returncode == 0, build.stdout + build.stderr
    assert "WARNING" not in build.stderr

    pages = {page.relative_to(tmp_path).as_posix(): page.read_text() for page in tmp_path.rglob("*.html")}
    assert not list(tmp_path.rglob("*.py"))
    for name, page in pages.items():
        assert list(loaded(page)) == [], name

    anchors = {name: set(re.findall(r'\bid="([\w.]+)"', page)) for name, page in pages.items()}
    for package in (taskmaster, acceptor, handlers, watching):
        missing = {f"{package.__name__}.{name}" for name in package.__all__} - anchors[
            f"reference/{package.__name__}.html"]
        assert not missing, f"add to docs/reference/{package.__name__}.md: {missing}"
    whole_story = pages["reference/taskmaster.html"]
    assert "hunchentoot-recycling-taskmaster's model</summary>" in whole_story
    assert "<code>max_accept_count</code>: connections that may wait" in whole_story

    for name, page in pages.items():
        assert "```" not in re.sub(r"<(pre|code)\b.*?</\1>", "", page, flags=re.DOTALL), name
    assert '<span class="kn">from</span>' in pages["applications.html"]
    assert {each["location"] for each in json.loads((tmp_path / "search/search_index.json").read_text())["docs"]} >= {
        "settings.html", "reference/acceptor.html", "lab.html"}


def loaded(page: str) -> Iterator[str]:
    """What a browser would fetch from another server to show it. (Links are for those who click them.)"""
    for tag in re.findall(r"<(?:script|img|iframe|source|link)\b[^>]*>", page):
        if re.search(r'(?:src|href)="?(?:https?:)?//', tag):
            yield tag
    yield from re.findall(r"@import[^;]*|url\((?:https?:)?//[^)]*\)", page)


def test_the_check_sees_what_would_be_loaded() -> None:
    assert len(list(loaded('<link href="https://x/y.css"><script src="//x/y.js"></script><a href="https://x/">'))) == 2


def test_a_picture_that_does_not_know_of_the_dark_has_a_light_ground_there() -> None:
    [boxed] = re.findall(r'"slate"\] \.md-typeset img:is\((.*?)\)', (ROOT / "docs" / "assets" / "site.css").read_text())
    inside = re.findall(r'src\*="([^"]+)"', boxed)
    ends = tuple(re.findall(r'src\$="([^"]+)"', boxed))
    assert inside
    assert ends
    seen = 0
    for page in [*SITE_PAGES, ROOT / "bench" / "README.md"]:
        for link in re.findall(r"!\[[^\]]+\]\(([^)\s]+\.svg)\)", page.read_text()):
            adapts = "prefers-color-scheme: dark" in (page.parent / link).read_text()
            assert adapts != (link.endswith(ends) or any(part in link for part in inside)), f"{name_of(page)}: {link}"
            seen += 1
    assert seen


def test_the_palette_follows_the_system_until_a_reader_chooses() -> None:
    palette = re.findall(r"^    - media: \"(.*?)\"", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert palette == ["(prefers-color-scheme)", "(prefers-color-scheme: light)", "(prefers-color-scheme: dark)"]


# Links.

@functools.cache
def anchors_of(page: Path) -> set[str]:
    """As a forge makes them of headings; and of `::: name`, which mkdocstrings turns into one."""
    text = re.sub(r"^(```+).*?^\1$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    slugs = set()
    for heading in re.findall(r"^#+ +(.*?)(?: *\{[^}]*\})?$", text, re.MULTILINE):
        heading = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        slugs.add(re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-"))
    return (slugs | set(re.findall(r"\{#([\w-]+)", text)) | set(re.findall(r'\bid="([^"]+)"', text))
            | set(re.findall(r"^::: (\S+)$", text, re.MULTILINE)))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    text = re.sub(r"^(```+).*?^\1$|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    targets = re.findall(r"\]\(([^)\s]+)\)|^\[[^]]+\]: (\S+)|(?:src|href)=\"([^\"]+)\"", text, re.MULTILINE)
    for target in map("".join, targets):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = page.parent / path if path else page
        assert there.exists(), f"{name_of(page)} links to {target}, which is not there"
        if anchor and there.suffix == ".md":
            assert anchor in anchors_of(there.resolve()), f"{name_of(page)} links to {target}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_markdown_means_the_same_to_a_forge_and_to_mkdocs(page: Path) -> None:
    """mkdocs wants an empty line above a list, four columns for what belongs to an item, and eight for code in it."""
    text = re.sub(r"^( *)(```+).*?^\1\2$", lambda block: "\n" * block[0].count("\n"), page.read_text(),
                  flags=re.DOTALL | re.MULTILINE)
    above, in_list = "", False
    for number, line in enumerate(text.splitlines(), 1):
        where = f"{name_of(page)}:{number}: {line}"
        is_item = re.match(r"(?:[-*]|\d+\.) ", line) is not None
        assert not is_item or in_list or not above, f"{where}: put an empty line above the list"
        assert not re.match(r" {1,3}(?:[-*]|\d+\.) ", line), f"{where}: indent it by four"
        is_code = re.match(r" {4,7}\S", line) and re.search(r"\S {3,}\S|^ +(\$|python|taskmaster) ", line)
        if in_list and not above and is_code:
            pytest.fail(f"{where}: behind a list, fence code (or indent it by 8, if it belongs to the item)")
        in_list = is_item or (in_list and (not line or line.startswith(" ") or bool(above)))
        above = line


# What the pages show.

@pytest.mark.parametrize("page", [page for page in PAGES if snippets(page)], ids=name_of)
def test_every_block_of_python_runs(page: Path, tmp_path: Path) -> None:
    for snippet in snippets(page):
        snippet.compiled()
    if name_of(page) in RUN_ELSEWHERE or all(each.mark == "no-run" for each in snippets(page)):
        return
    ran = subprocess.run([sys.executable, "-m", "docs.tools.snippets", page], cwd=tmp_path, capture_output=True,
                         text=True, timeout=30, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert ran.returncode == 0, ran.stderr


def test_blocks_are_run_as_their_marks_say(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nx = 1\n```\n\n```python continued\nx += 1\nassert x == 2\n```\n\n"
                    "```python no-run\nraise SystemExit\n```\n\n```python\nassert 'x' not in globals()\n1 / 0\n```\n")
    with pytest.raises(ZeroDivisionError) as raised:
        run(page)
    assert raised.traceback[-1].lineno + 1 == 16  # the line of the page
    page.write_text("```python norun\n```\n")
    with pytest.raises(ValueError, match=r"page\.md:1: ```python norun: write one of continued, no-run"):
        snippets(page)


@functools.cache
def bench_commands() -> dict[str, argparse.ArgumentParser]:
    subparsers = argparse.ArgumentParser().add_subparsers()
    add_lab(subparsers)
    add_studies(subparsers)
    return dict(subparsers.choices)


def check_command(command: Command) -> None:
    """Whether what it calls is there, with the options it has."""
    program, *words = command.words
    if program == "make":
        for word in (each for each in words if "=" not in each):
            assert re.search(rf"^{word}:", MAKEFILE, re.MULTILINE), f"no target {word}"
        arguments = dict(each.split("=", 1) for each in words if "=" in each).get("ARGS", "").split()
        if words[0] == "lab" and arguments and "." not in arguments[0]:
            check_options(arguments, bench_options(arguments[0]))
    elif program == "python":
        module = words[1]
        assert is_there(module), f"no module {module}"
        if module == "bench" and words[2:] and re.fullmatch("[a-z]+", words[2]):
            check_options(words[3:], bench_options(words[2]))
    elif words[0] in command_line.commands:
        parameters = command_line.commands[words[0]].params
        check_options(words[1:], {name for each in parameters if isinstance(each, click.Option)
                                  for name in (*each.opts, *each.secondary_opts)})
    else:
        raise AssertionError(f"no command {words[0]}")


def is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # nor its package
        return False


def bench_options(name: str) -> set[str]:
    assert name in bench_commands(), f"no command {name}"
    return set(bench_commands()[name]._option_string_actions)


def check_options(words: list[str], options: set[str]) -> None:
    for word in words:
        name = word.partition("=")[0].rstrip(",.")
        assert not re.match(r"--[a-z]", name) or name in options | {"--help", "--version"}, f"no option {name}"


@pytest.mark.parametrize("page", [page for page in PAGES if any(commands(page))], ids=name_of)
def test_every_command_line_names_what_there_is(page: Path) -> None:
    for command in commands(page):
        try:
            check_command(command)
        except AssertionError as error:
            pytest.fail(f"{name_of(page)}:{command.line}: {' '.join(command.words)}: {error}", pytrace=False)


@pytest.mark.parametrize("line", ["make nothing", "make lab ARGS='run --nothing'", "python -m bench nothing",
                                  "python -m nothing.there", "taskmaster nothing", "taskmaster serve x --nothing 1"])
def test_a_command_line_that_names_nothing_is_seen(line: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"As in\n\n    {line}   # a comment\n")
    [command] = commands(page)
    with pytest.raises(AssertionError, match=r"no [a-z]+ "):
        check_command(command)


def test_command_lines_are_found_where_they_stand(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Say `make test`.\n\n    $ PYTHONPATH=. python -m bench run quick | less\n\n```sh\n"
                    "taskmaster serve shop:app \\\n    --bind :80\n```\n\n```python\n    make no = 1\n```\n")
    assert [each.words for each in commands(page)] == [
        ("make", "test"), ("python", "-m", "bench", "run", "quick"),
        ("taskmaster", "serve", "shop:app", "--bind", ":80")]


# What mkdocs and mkdocstrings call.



@pytest.mark.parametrize(("page", "link", "target", "home"), [
    ("docs/deployment.md", "../deploy/nginx.conf", "deploy/nginx.conf", "files/deploy/nginx.conf.md"),
    ("docs/deployment.md", "../deploy", "deploy", "files/deploy/index.md"),
    ("docs/lecture/models/pooled.md", "../../../bench/README.md", "bench/README.md", "lab.md"),
    ("docs/scale.md", "../README.md", "README.md", "files/README.md"),
    ("bench/README.md", "../docs/waiting.md", "docs/waiting.md", "waiting.md"),
    ("bench/README.md", "published/lanes.svg", "bench/published/lanes.svg", "files/bench/published/lanes.svg"),
    ("fuzz/README.md", "README.md", "fuzz/README.md", "files/fuzz/README.md")])
def test_links_out_of_docs_lead_to_pages_of_the_site(page: str, link: str, target: str, home: str) -> None:
    assert hooks.target_of(page, link) == target
    assert hooks.home_of(target) == home
    if target.endswith("README.md"):
        assert hooks.origin_of(home) == target


@pytest.mark.parametrize(("page", "link"), [("docs/scale.md", "threads.md"), ("docs/a/b.md", "../scale.svg"),
                                            ("docs/scale.md", "../../elsewhere")])
def test_other_links_are_left_as_they_are(page: str, link: str) -> None:
    assert hooks.target_of(page, link) is None


def test_what_says_see_the_module_has_the_docstring_of_the_module() -> None:
    package = griffe.load("taskmaster", search_paths=[ROOT], extensions=griffe.load_extensions(api.Docstrings),
                          allow_inspection=False)
    assert isinstance(package, griffe.Module)
    docstring = package["single.SingleThreadedTaskmaster"].docstring.value
    assert docstring.startswith("One thread accepts and serves, one connection at a time.\n\n??? abstract")
    assert "\n    **In one sentence**\n" in docstring
    assert '<autoref identifier="taskmaster.threaded.ThreadedTaskmaster.go_on" optional>' in package[
        "threaded.ThreadedTaskmaster"].members["inline"].docstring.value


# The page of arguments.

def test_the_page_of_arguments_is_that_of_the_code() -> None:
    assert PAGE.read_text() == arguments_reference(), "run python -m docs.tools.arguments"


@pytest.mark.parametrize("path", [path for paths in SECTIONS.values() for path in paths])
def test_every_argument_has_a_meaning(path: str) -> None:
    missing = [each.name for each in arguments_of(found(path)) if not each.meaning]
    assert not missing, f"the docstring of {path} does not say what these mean, in lines `name: meaning`: {missing}"


def test_every_taskmaster_is_on_the_page_of_arguments() -> None:
    there = {path for paths in SECTIONS.values() for path in paths}
    for name in taskmaster.__all__:
        thing = getattr(taskmaster, name)
        if inspect.isclass(thing) and issubclass(thing, taskmaster.Taskmaster) and not inspect.isabstract(thing):
            assert f"taskmaster.{name}" in there


# Docstrings.

def test_a_docstring_is_taken_apart() -> None:
    assert blocks("""One line.

    first: what it means,
        on two lines.
    second, third: both
    prose: no argument

    state    where
    A        here

        code()

    A heading
        Prose below
        it.
          - a list
            of one
    """, {"first", "second", "third"}) == [
        Text("One line."),
        Meanings([(("first",), "what it means, on two lines."), (("second", "third"), "both prose: no argument")]),
        Verbatim("state    where\nA        here"), Verbatim("code()"), Heading("A heading"), Text("Prose below\nit."),
        Text("- a list of one")]


def test_what_belongs_together_has_one_meaning() -> None:
    assert meanings("host, port: where\n    it is", {"host", "port"}) == {"host": "where it is", "port": "See `host`."}


def test_markdown_is_given_nothing_to_misunderstand() -> None:
    assert markdown("a <b> __init__ `x < y` and `Name`", link={"Name": "the.Name"}.get) == (
        'a &lt;b> \\_\\_init\\_\\_ `x < y` and <autoref identifier="the.Name" optional><code>Name</code></autoref>\n')


@given(st.lists(st.text(st.sampled_from("ab:, .-"), max_size=12).map(lambda line: " " * (len(line) % 3 * 4) + line)))
def test_no_word_of_a_docstring_is_lost(lines: list[str]) -> None:
    docstring = "\n".join(lines)
    shown = markdown(docstring)
    for word in re.findall("[ab]+", docstring):
        assert word in shown


@pytest.mark.parametrize("module", ["taskmaster.recycling", "taskmaster.base", "acceptor.acceptor"])
def test_no_word_of_ours_is_lost(module: str) -> None:
    docstring = importlib.import_module(module).__doc__ or ""
    words = re.findall(r"\w+", docstring)
    assert [word for word in re.findall(r"\w+", markdown(docstring)) if word != "text"] == [
        word for word in words if word != "text"]
