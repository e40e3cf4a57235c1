"""The test suites of Werkzeug, Flask and Django, with this server in place of theirs. Run from a checkout.

    python -m tests.peer_suites                              everything, under every model: six minutes
    python -m tests.peer_suites --model pool werkzeug        one model, one suite

    werkzeug    the tests of its development server, the reloader's and the debugger's too: `make_server` is ours
    django      LiveServerTestCase: the tests of it, and those that use it; the server class is ours
    flask       it has no test of a server, so all of them: each request of its test client goes over HTTP

A command, and not collected by pytest: it fetches the sources, which wheels do not have, with pip into a temporary
folder, in the versions that are installed here; nothing of them is kept. A table goes to standard output. What is not
applicable is run all the same, and if it fails otherwise than it should, that is a failure.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.models import MODELS

ROOT = Path(__file__).parent.parent
NEEDED = ["pytest<9", "pytest-timeout", "ephemeral-port-reserve"]
"""By their tests, and not by ours. (Flask's use what pytest 9 has no more.)"""
LONGEST = 900
"""Seconds that one suite may take with one model."""

RUN_PY = """\
import sys
sys.path[1:1] = {path!r}
from tests.apps.substitutes import run_werkzeug
run_werkzeug({original!r})
"""
ON_DISK = """\
from test_sqlite import *
DATABASES["default"]["TEST"] = {"NAME": "default.sqlite3"}
DATABASES["other"]["TEST"] = {"NAME": "other.sqlite3"}
"""
"""Django's tests use a database in memory, unless told otherwise; closing that does nothing, and so is not tested."""


@dataclass(frozen=True)
class Deviation:
    """Tests that no server, or not this one, is meant to pass: of `suite`, with ids like `pattern`."""

    suite: str
    pattern: str
    failure: str
    """What the failure must say."""
    reason: str


NOT_APPLICABLE = [
    Deviation("werkzeug", "*::test_untrusted_host", "#ignore",
               "a target has no fragment (RFC 9112 section 3.2); where that is allowed it is handed over as it is"),
    Deviation("werkzeug", "*::test_double_slash_path", "//double-slash",
               'a target "//name" is a path (RFC 9112 section 3.2.1), and the path has both slashes'),
    Deviation("werkzeug", "*::test_chunked_request[[]True[]]", "JSONDecodeError",
               '"Content-Length: invalid" is refused, chunked or not (RFC 9112 section 6.3)'),
    Deviation("werkzeug", "*::test_multiple_headers_concatenated", "a, b, c, d",
               "white space around a field's value does not belong to it (RFC 9110 section 5.5)"),
    Deviation("werkzeug", "*::test_multiline_header_folding", "first second third",
               "a fold reads as a space (RFC 9112 section 5.2), and is refused unless allowed"),
    Deviation("werkzeug", "*::test_streaming_close_response[[][]]", "None == 'close'",
               "theirs speaks HTTP/1.0 unless threaded; here a stream is chunked, and the connection kept"),
    Deviation("werkzeug", "*::test_streaming_close_response[[]crash[]]", "ConnectionResetError",
               "theirs speaks HTTP/1.0, where a cut cannot be seen; here it is seen"),
    Deviation("werkzeug", "*::test_streaming_chunked_truncation", "ConnectionResetError",
               "the cut is a reset, ConnectionResetError rather than IncompleteRead for http.client"),
    Deviation("django", "*.test_closes_connection_without_content_length", "False is not true",
               "a response without Content-Length is chunked, and the connection kept"),
    Deviation("django", "*.LiveServerViews.test_keep_alive_*", "True is not false",
               "the client asks for `Connection: close`, which counts (RFC 9112 section 9.6); theirs ignores it"),
    Deviation("django", "*.SingleThreadLiveServerViews.*", "False is not true",
               "theirs closes each connection when single-threaded; here it is kept"),
    Deviation("flask", "*::test_full_url_request", "ImmutableMultiDict([])",
               "reads the request's body in the test, when the response has come: a race, and no client can"),
]

NOT_RUN = [
    ("werkzeug", "test_serving.py::test_host_with_ipv6_scope", "replaces a method of their request handler"),
    ("werkzeug", "test_serving.py, the rest", "calls the reloader's functions, or run_simple in vain: no server"),
    ("django", "servers.test_basehttp, builtin_server", "call methods of their server classes, without a server"),
    ("django", "*.SeleniumTests and the like", "need a browser"),
    ("django", "admin_scripts.tests.StartProject, the rest", "does not ask the server that it starts"),
]


@dataclass(frozen=True)
class Suite:
    command: list[str]
    folder: str
    """Of the unpacked sources, to run in."""
    environment: dict[str, str]


def pytest_with(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pytest", "-p", "tests.apps.substitutes", "-q", "--timeout=60",
            "-p", "no:cacheprovider", "-p", "no:hypothesispytest", *arguments]


def django_with(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tests.apps.substitutes", *arguments]


SUITES = {
    "werkzeug": [Suite(pytest_with("-m", "dev_server", "--deselect", "tests/test_serving.py::test_host_with_ipv6_scope",
                                   "tests"), ".", {})],
    "django": [
        Suite(django_with(
            "servers.tests", "servers.test_liveserverthread", "staticfiles_tests.test_liveserver",
            "file_storage.tests.FileLikeObjectTestCase",
            *(f"admin_scripts.tests.StartProject.test_{name}" for name in (
                "project_template_tarball_url", "custom_project_template_from_tarball_by_url",
                "custom_project_template_from_tarball_by_url_django_user_agent"))), "tests", {}),
        Suite(django_with("--settings=test_on_disk", "servers.tests.LiveServerTestCloseConnectionTest",
                          "servers.test_liveserverthread.LiveServerThreadTest.test_closes_connections"), "tests", {}),
    ],
    "flask": [Suite(pytest_with("tests"), ".", {"PEER_WIRE": "1"})],
}


def fetch(names: Sequence[str], folder: Path) -> dict[str, Path]:
    """The sources of the installed versions, unpacked in `folder`, made ready. RuntimeError if pip cannot get them."""
    wanted = [f"{name}=={importlib.metadata.version(name)}" for name in names]
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    for command in ([*pip, "download", "--no-deps", "--no-binary", ",".join(names), "--dest", str(folder), *wanted],
                    [*pip, "install", "--no-deps", "--target", str(folder / "needed"), *NEEDED]):
        run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LONGEST,
                             check=False)
        if run.returncode:
            raise RuntimeError(f"pip: {run.stderr.strip()[-1000:]}")
    sources = {}
    for name, archive in ((name, next(folder.glob(f"{name}-*.tar.gz"))) for name in names):
        with tarfile.open(archive) as file:
            file.extractall(folder, filter="data")
        sources[name] = folder / archive.name.removesuffix(".tar.gz")
    if "werkzeug" in sources:
        program = sources["werkzeug"] / "tests" / "live_apps" / "run.py"
        original = program.rename(program.with_name("original_run.py"))
        program.write_text(RUN_PY.format(path=[str(ROOT), str(folder / "needed")], original=str(original)))
    if "django" in sources:
        (sources["django"] / "tests" / "test_on_disk.py").write_text(ON_DISK)
    return sources


def run(name: str, model: str, source: Path, folder: Path) -> dict[str, tuple[str, str]]:
    """Run one suite with one model: what became of each test, and why."""
    outcomes: dict[str, tuple[str, str]] = {}
    for suite in SUITES[name]:
        results = folder / "results"
        results.write_text("")
        environment = {**os.environ, **suite.environment, "PEER_MODEL": model, "PEER_RESULTS": str(results),
                       "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder / "needed")])}
        try:
            process = subprocess.run(suite.command, cwd=source / suite.folder, env=environment, timeout=LONGEST,
                                     stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
            ended, printed = process.returncode, process.stdout + process.stderr
        except subprocess.TimeoutExpired:
            ended, printed = -1, f"not finished after {LONGEST} s"
        told = [json.loads(line) for line in results.read_text().splitlines()]
        for test, outcome, details in told:
            if outcomes.get(test, ("skipped",))[0] == "skipped":  # each counts once; a failure stays one
                outcomes[test] = outcome, details
        if not told or ended not in (0, 1) or (ended == 1 and all(outcome != "failed" for _, outcome, _ in told)):
            outcomes["the suite itself"] = "failed", " ".join(printed.split())[-300:]
    return outcomes


def judge(suite: str, test: str, outcome: str, details: str) -> tuple[str, str]:
    """What stands in the table, and the note behind it."""
    if outcome == "passed":
        return "passed", ""
    if outcome == "skipped":
        return "n/a", details.removeprefix("Skipped: ")
    for exception in NOT_APPLICABLE:
        if exception.suite == suite and fnmatch.fnmatch(test, exception.pattern) and exception.failure in details:
            return "n/a", exception.reason
    return "FAILED", " ".join(details.split())[-300:]


def show(suite: str, models: Sequence[str], outcomes: dict[str, dict[str, tuple[str, str]]], every: bool) -> int:
    """Print the rows of one suite; the number of failures."""
    def row(test: str, verdicts: Sequence[str], note: str = "") -> None:
        print(f"{suite:9} {test:99} {''.join(f'{verdict:10}' for verdict in verdicts)}{note}".rstrip(), flush=True)

    failures, unremarkable = 0, 0
    for test in dict.fromkeys(test for model in models for test in outcomes[model]):
        judged = [judge(suite, test, *outcomes[model].get(test, ("failed", "was not run"))) for model in models]
        failures += sum(verdict == "FAILED" for verdict, _ in judged)
        if suite == "flask" and not every and all(verdict == "passed" for verdict, _ in judged):
            unremarkable += 1
            continue
        row(test.removeprefix("tests/"), [verdict for verdict, _ in judged],
            "; ".join(dict.fromkeys(note for _, note in judged if note)))
    if unremarkable:
        row(f"{unremarkable} others", ["passed"] * len(models))
    for other, what, reason in NOT_RUN:
        if other == suite:
            row(what, ["n/a"] * len(models), reason)
    return failures


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0: no failure, 1: some, 2: the sources cannot be had."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.peer_suites", formatter_class=argparse.RawDescriptionHelpFormatter,
        description=(__doc__ or "").partition("\n")[0], epilog="exit status: 0 no failure, 1 some, 2 no sources")
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"{', '.join(SUITES)} (default: all)")
    parser.add_argument("--model", action="append", choices=MODELS, help="may be repeated (default: all)")
    parser.add_argument("--all", action="store_true", help="also each of Flask's tests that passes everywhere")
    options = parser.parse_args(arguments)
    if wrong := set(options.suites) - set(SUITES):
        parser.error(f"there is no suite {', '.join(sorted(wrong))}; there are {', '.join(SUITES)}")
    names, models = options.suites or list(SUITES), options.model or list(MODELS)
    with tempfile.TemporaryDirectory(prefix="peer-suites-") as temporary:
        folder = Path(temporary)
        try:
            sources = fetch(names, folder)
        except (RuntimeError, importlib.metadata.PackageNotFoundError) as error:
            print(f"the sources cannot be had: {error}", file=sys.stderr)
            return 2
        print(f"Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}; "
              + ", ".join(source.name for source in sources.values()))
        print(f"{'suite':9} {'test':99} {''.join(f'{model:10}' for model in models)}")
        failures, seconds = 0, defaultdict[str, float](float)
        for name in names:
            outcomes = {}
            for model in models:
                begun = time.monotonic()
                outcomes[model] = run(name, model, sources[name], folder)
                seconds[model] += time.monotonic() - begun
            failures += show(name, models, outcomes, options.all)
        print(f"{'':9} {'seconds':99} {''.join(f'{seconds[model]:<10.0f}' for model in models)}")
    print(f"{failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
