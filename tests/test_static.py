"""Static files: what is found and what never is, as what it is sent, and no descriptor left behind."""

from __future__ import annotations

import errno
import gzip
import logging
import mimetypes
import os
import re
import socket
import ssl
import stat
import threading
import types
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import example, given
from hypothesis import strategies as st

import handlers.static
from acceptor import TLS, Headers, Request, Response
from handlers import Dispatcher
from handlers.directory import Directory, File, may_be_served
from handlers.ranges import Multipart
from handlers.representations import content_type, media_types, preferred_coding
from handlers.static import Static, exact_tag
from tests.clients import PATIENCE, RawClient, Received, Truncated, request
from tests.conftest import Serve
from tests.test_ranges import parts_of

STYLE = b"body { margin: 0 }\n" * 100


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files have validators at once, and no test has to wait."""
    monkeypatch.setattr(handlers.static, "SETTLED", 0.0)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A directory of files, and a secret beside it. At the end nothing in there is open."""
    root = tmp_path / "public"
    make_tree(root)
    yield root
    assert not open_below(tmp_path)


def make_tree(root: Path) -> None:
    (root / "css").mkdir(parents=True)
    (root / "docs").mkdir()
    (root / ".git").mkdir()
    (root / ".well-known").mkdir()
    for name, content in {"index.html": b"<h1>Home</h1>", "css/style.css": STYLE, "docs/index.html": b"Docs",
                          "a b.txt": b"spaces", "caf\xe9.txt": b"coffee", "empty": b"", ".git/config": b"DOT SECRET",
                          ".htaccess": b"DOT SECRET", ".well-known/security.txt": b"Contact: us",
                          "100%.txt": b"percent", "%2e%2e": b"not what it looks like"}.items():
        (root / name).write_bytes(content)
    outside = root.parent / "secret"
    outside.mkdir()
    (outside / "key.txt").write_bytes(b"SECRET")
    (root.parent / "public-other").mkdir()
    (root.parent / "public-other" / "key.txt").write_bytes(b"SECRET")


def open_below(path: Path) -> list[str]:
    """What this process has open below `path`, directories included."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:  # the one that listed them
            pass
    return [name for name in found if name.startswith(f"{path}/") or name == str(path)]


class Answer:
    """A response, its body read and closed as the acceptor does it."""

    def __init__(self, response: Response) -> None:
        self.status = response.status
        self.headers = {name.decode(): value.decode("latin-1") for name, value in response.headers}
        assert len(self.headers) == len(response.headers), f"a header is there twice: {response.headers}"
        body = response.body
        self.kept_open = not isinstance(body, bytes)
        if isinstance(body, bytes):
            self.body = body
        else:
            assert isinstance(body, (File, Multipart)), body
            self.body = b"".join(body) if isinstance(body, Multipart) else body.read()
            body.close()
            assert int(self.headers["content-length"]) == len(self.body)


def ask(static: Callable[[Request], Any], target: str, method: str = "GET", headers: Mapping[str, str] | None = None
        ) -> Answer:
    pairs = [(name.lower().encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
    return Answer(static(Request(method, target, "1.1", Headers([(b"host", b"test"), *pairs]))))


# What is found.

@pytest.mark.parametrize(("target", "content"), [
    ("/css/style.css", STYLE), ("/css/style.css?v=1", STYLE), ("/c%73s/style.css", STYLE),
    ("http://test/css/style.css", STYLE), ("/index.html", b"<h1>Home</h1>"), ("/", b"<h1>Home</h1>"),
    ("http://test", b"<h1>Home</h1>"), ("/docs/", b"Docs"), ("/docs/index.html", b"Docs"), ("/a%20b.txt", b"spaces"),
    ("/caf%C3%A9.txt", b"coffee"), ("/empty", b""), ("/100%25.txt", b"percent"),
    ("/%252e%252e", b"not what it looks like"), ("/.well-known/security.txt", b"Contact: us"),
])
def test_files_are_found_by_their_decoded_path(root: Path, target: str, content: bytes) -> None:
    answer = ask(Static(root), target)
    assert (answer.status, answer.body) == (200, content)


@pytest.mark.parametrize("target", [
    "/nothing", "/css/nothing", "/nothing/style.css", "/css/", "/css", "/css/style.css/", "/css/style.css/x",
    "/CSS/style.css", "//css/style.css", "/css//style.css", "//", "/css/./style.css", "/./css/style.css", "/.",
    "/..", "/../secret/key.txt", "/css/../index.html", "/css/..", "/%2e%2e/secret/key.txt", "/%2E./secret/key.txt",
    "/..%2fsecret%2fkey.txt", "/css%2fstyle.css", "/css%2Fstyle.css", "/%252e%252e/secret/key.txt",
    "/..%5csecret%5ckey.txt", "/css%5cstyle.css", "/css%00/style.css", "/index.html%00", "/index.html%00.png",
    "/../public-other/key.txt", "/-other/key.txt", "/%c0%ae%c0%ae/secret/key.txt", "/%ff", "/%EF%BF%BD",
    "/..;/secret/key.txt", "/.git/config", "/.git", "/.git/", "/.htaccess", "/css/.well-known/x", "/%2egit/config",
    "/C:/index.html", "/c:index.html", "/C%3a%5cWindows", "/index.html::$DATA", "/index.html:stream",
    "//server/share/index.html", "/%5c%5cserver%5cshare", "/%5c%5c%3f%5cC%3a", "/index.html.", "/index.html%20",
    "/css./style.css", "/index.html%0a", "/%7f", "/nul", "/NUL.txt", "/con", "/aux.css", "/com1", "/lpt9.tar.gz",
    "/COM%C2%B9", "/conin$", "/GIT~1/config", "/HTACCE~1", "/STYLE~1.CSS", "*", "", "css/style.css",
    "/" + "a" * 300, "/" + "a/" * 3000, "/" + "%2e%2e/" * 50 + "etc/passwd", "/etc/passwd", "//etc/passwd",
])
def test_nothing_else_is_found(root: Path, target: str) -> None:
    (root / "STYLE~1.CSS").write_text("looks like another name of another file")
    (root / "nul").write_text("a device")
    (root / "css" / ".well-known").mkdir()
    (root / "css" / ".well-known" / "x").write_text("not at the root")
    assert ask(Static(root), target).status == 404
    assert ask(Static(root), target, "HEAD").status == 404


def test_dot_files_may_be_allowed_and_are_no_way_out(root: Path) -> None:
    static = Static(root, dot_files=True)
    assert ask(static, "/.git/config").body == b"DOT SECRET"
    for target in ("/..", "/.", "/../secret/key.txt", "/.git/../../secret/key.txt", "/.git/.", "/...", "/. "):
        assert ask(static, target).status == 404, target


@pytest.mark.parametrize(("prefix", "target", "status"), [
    ("/static/", "/static/css/style.css", 200), ("/static/", "/css/style.css", 404), ("/static/", "/static/", 200),
    ("/static/", "/static", 301), ("/static/", "/staticcss/style.css", 404), ("/static/", "/", 404),
    ("/static/", "/static//css/style.css", 404), ("/static/", "/static/../css/style.css", 404),
    ("/static/", "/static/.well-known/security.txt", 404), ("/.well-known/", "/.well-known/css/style.css", 200),
    ("/café/", "/caf%C3%A9/css/style.css", 200), ("/", "", 404),
])
def test_a_prefix_is_taken_off(root: Path, prefix: str, target: str, status: int) -> None:
    assert ask(Static(root, prefix=prefix), target).status == status


def test_it_is_a_handler_for_a_dispatcher(root: Path) -> None:
    inner, app = Dispatcher(), Dispatcher()
    inner.add_prefix("/static/", Static(root, prefix="/app/static/"))
    app.mount("/app", inner)
    assert ask(app, "/app/static/css/style.css").body == STYLE
    assert ask(app, "/app/static/css/style.css", "HEAD").headers["content-length"] == str(len(STYLE))
    assert ask(app, "/app/static/../secret/key.txt").status == 404
    post = ask(app, "/app/static/css/style.css", "POST")
    assert (post.status, post.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


NAMES = st.one_of(
    st.sampled_from(["..", ".", "", "css", "style.css", "secret", "key.txt", "public-other", "out", "up", "loop",
                     "%2e%2e", "%2E%2e", "%2f", "%5c", "%00", "\\..", "..\\", "%252e%252e", "%c0%ae", "etc", "passwd",
                     "C:", "nul", ".git", "config", "in", "dots", "tmp", "/", "//", "...", ".. ", "\uff0e\uff0e"]),
    st.text(max_size=4), st.text(alphabet="./\\%2efc0:~ ", max_size=8))


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with symbolic links of every kind, used by many examples."""
    root = tmp_path_factory.mktemp("linked") / "public"
    make_tree(root)
    make_links(root)
    return root


def make_links(root: Path) -> None:
    for name, target in {"out": "../secret", "css/up": "../..", "up": "..", "out.txt": "../secret/key.txt",
                         "absolute": str(root.parent / "secret"), "loop": "loop", "in": "css", "css/back": "../docs",
                         "dots": "css/../css/./../docs//", "slash": "/", "chain": "in/back", "self": ".",
                         "inside-absolute": str(root / "css"), "sneaky": "css/../../secret", "dangling": "nowhere",
                         "css/other": "../../public-other/key.txt", "file": "css/style.css",
                         "css/near.css": "style.css", "round": "../public/css",
                         "slashed": "css/style.css/", "docs/dot": "../.git/config"}.items():
        (root / name).symlink_to(target)


@given(st.lists(NAMES, max_size=8), st.booleans())
@example(["css", "up", "secret", "key.txt"], True)
@example(["out", "key.txt"], False)
@example(["self", "self", "..", "secret", "key.txt"], True)
def test_no_path_leads_out(linked: Path, names: list[str], dot_files: bool) -> None:
    target = "/" + "/".join(names)
    answer = ask(Static(linked, dot_files=dot_files), target)
    assert answer.status in (200, 301, 404)
    assert b"SECRET" not in answer.body or (dot_files and b"DOT SECRET" in answer.body), target
    if answer.status == 301:
        assert answer.headers["location"].startswith("./")
    assert not open_below(linked.parent)


# Names.

@pytest.mark.parametrize(("name", "served"), [
    ("style.css", True), ("a b", True), ("caf\xe9", True), ("\u65e5\u672c", True), (".git", True), ("a~", True),
    ("~a", True), ("a.~1~", True), ("console.log", True), ("com10", True), ("com", True), ("null", True), ("-", True),
    ("auxiliary.css", True), ("longer-name~1.txt", True), ("a~1.html", True), ("a'\"<>|?*&", True), ("..a", True),
    ("", False), (".", False), ("..", False), ("...", False), ("a.", False), ("a ", False), (" .", False),
    ("a/b", False), ("/", False), ("a\\b", False), ("\\", False), ("c:", False), ("a:b", False), ("\0", False),
    ("a\0", False), ("a\nb", False), ("a\n", False), ("\x7f", False), ("\ufffd", False),
    ("CON", False), ("con.html", False), ("nul.tar.gz", False), ("NUL .txt", False), (" aux", False), ("LPT1", False),
    ("com\xb2.txt", False), ("conout$", False), ("GIT~1", False), ("a~1", False), ("progra~12", False),
    ("index~1.htm", False),
])
def test_names(name: str, served: bool) -> None:
    assert may_be_served(name) is served


@given(st.text(st.characters()))
def test_a_name_that_is_served_is_one_name(name: str) -> None:
    if may_be_served(name):
        assert name
        assert not set(name) & set("/\\:\0\n\r")
        assert name not in (".", "..")
        name.encode()


# Symbolic links.

@pytest.mark.parametrize(("target", "content"), [
    ("/in/style.css", STYLE), ("/css/back/index.html", b"Docs"), ("/css/back/", b"Docs"), ("/dots/", b"Docs"),
    ("/chain/index.html", b"Docs"), ("/self/self/css/style.css", STYLE), ("/file", STYLE), ("/css/near.css", STYLE),
    ("/in/near.css", STYLE), ("/self/css/back/", b"Docs"), ("/self/in/back/index.html", b"Docs"),
])
def test_a_link_may_lead_to_what_is_below_the_directory(linked: Path, target: str, content: bytes) -> None:
    answer = ask(Static(linked), target)
    assert (answer.status, answer.body) == (200, content)


@pytest.mark.parametrize("target", [
    "/out/key.txt", "/out/", "/out", "/out.txt", "/up/secret/key.txt", "/up/", "/up", "/css/up/secret/key.txt",
    "/absolute/key.txt", "/slash/etc/passwd", "/sneaky/key.txt", "/css/other", "/inside-absolute/style.css",
    "/in/other", "/self/up/secret/key.txt", "/self/out/key.txt", "/self/self/css/up/secret/key.txt",
])
def test_a_link_may_not_lead_out_and_the_log_says_why(linked: Path, target: str, caplog: pytest.LogCaptureFixture
                                                      ) -> None:
    assert ask(Static(linked), target).status == 404
    assert "follow_symlinks=True" in caplog.text
    assert "\n" not in caplog.records[-1].getMessage()


@pytest.mark.parametrize("target", ["/loop", "/loop/", "/dangling", "/dangling/x", "/slashed/x", "/round/nothing",
                                    "/file/"])
def test_a_link_that_leads_nowhere_is_quiet(linked: Path, target: str, caplog: pytest.LogCaptureFixture) -> None:
    answer = ask(Static(linked, follow_symlinks=target.startswith("/round")), target)
    assert (answer.status, caplog.text) == (404, "")


@pytest.mark.parametrize(("target", "content"), [
    ("/out/key.txt", b"SECRET"), ("/out.txt", b"SECRET"), ("/css/up/secret/key.txt", b"SECRET"),
    ("/absolute/key.txt", b"SECRET"), ("/round/style.css", STYLE), ("/inside-absolute/style.css", STYLE),
])
def test_links_may_be_followed_wherever_they_lead(linked: Path, target: str, content: bytes) -> None:
    assert ask(Static(linked, follow_symlinks=True), target).body == content
    assert ask(Static(linked, follow_symlinks=True), "/../secret/key.txt").status == 404


def test_as_many_links_are_followed_as_the_kernel_follows(tmp_path: Path) -> None:
    (tmp_path / "0").write_text("end")
    for number in range(1, 43):
        (tmp_path / str(number)).symlink_to(str(number - 1))
    assert ask(Static(tmp_path), "/40").body == b"end"
    assert ask(Static(tmp_path), "/41").status == 404
    assert ask(Static(tmp_path, follow_symlinks=True), "/40").body == b"end"
    assert ask(Static(tmp_path, follow_symlinks=True), "/41").status == 404


def test_the_directory_itself_may_be_a_link_that_is_changed(tmp_path: Path) -> None:
    for release in ("1", "2"):
        (tmp_path / release).mkdir()
        (tmp_path / release / "version").write_text(release)
    current = tmp_path / "current"
    current.symlink_to("1")
    static = Static(current)
    assert ask(static, "/version").body == b"1"
    current.unlink()
    assert ask(static, "/version").status == 503
    current.symlink_to("2")
    assert ask(static, "/version").body == b"2"


@pytest.mark.parametrize("victim", ["css", "style.css"])
def test_what_is_swapped_for_a_link_between_two_steps_leads_nowhere(root: Path, monkeypatch: pytest.MonkeyPatch,
                                                                    victim: str) -> None:
    """The race of every check that comes before the opening: what was seen is renamed, and a link takes its place."""
    (root.parent / "secret" / "style.css").write_bytes(b"SECRET")
    really_open = os.open
    swapped: list[object] = []

    def lying_open(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == victim.encode() and not swapped:
            swapped.append(path)
            place, target = (("css", "../secret") if victim == "css" else ("css/style.css", "../../secret/style.css"))
            (root / place).rename(root / "moved")
            (root / place).symlink_to(target)
        descriptor = really_open(path, flags, mode, dir_fd=dir_fd)
        if path == b"css" and not swapped:  # between css and what is in it
            swapped.append(path)
            (root / "css").rename(root.parent / "moved")
            (root / "css").symlink_to("secret")
        return descriptor

    monkeypatch.setattr("handlers.directory.os.open", lying_open)
    answer = ask(Static(root), "/css/style.css")
    assert swapped
    assert answer.body in (STYLE, b"Not Found\n")


def test_a_directory_that_is_moved_away_is_left_by_the_way_we_came(root: Path) -> None:
    """".." is never asked of the kernel: it would lead to where the directory is now."""
    (root / "css" / "back.html").symlink_to("../index.html")
    with Directory(str(root)) as directory:
        directory.enter(["css"])
        (root.parent / "secret" / "index.html").write_bytes(b"SECRET")
        (root / "css").rename(root.parent / "secret" / "css")
        with directory.open("back.html") as file:
            assert file.read() == b"<h1>Home</h1>"


# What is no file.

def test_a_fifo_a_socket_and_a_device_are_not_found_and_nobody_waits_for_them(root: Path) -> None:
    os.mkfifo(root / "fifo")
    (root / "null").symlink_to("/dev/null")
    (root / "tty").symlink_to("/dev/tty")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "socket"))
        for name in ("fifo", "socket", "null", "tty"):
            for follow in (False, True):
                assert ask(Static(root, follow_symlinks=follow), f"/{name}").status == 404, name
                assert ask(Static(root, follow_symlinks=follow), f"/{name}/").status == 404, name


def test_a_sibling_or_an_index_that_is_no_file_does_not_count(root: Path) -> None:
    os.mkfifo(root / "index.html.gz")
    (root / "css" / "style.css.br").mkdir()
    (root / "css" / "style.css.gz").symlink_to("../../secret/key.txt")
    (root / "docs" / "index.html").unlink()
    (root / "docs" / "index.html").mkdir()
    static = Static(root)
    assert ask(static, "/", headers={"Accept-Encoding": "gzip"}).body == b"<h1>Home</h1>"
    assert ask(static, "/css/style.css", headers={"Accept-Encoding": "gzip, br"}).body == STYLE
    assert ask(static, "/docs/").status == 404
    assert ask(static, "/docs").status == 404


def raising(number: int, on: bytes | str) -> Callable[..., int]:
    """An os.open that fails with `number` for one name."""
    really_open = os.open

    def failing_open(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == on:
            raise OSError(number, os.strerror(number), path)
        return really_open(path, flags, mode, dir_fd=dir_fd)

    return failing_open


@pytest.mark.parametrize(("number", "status", "logged"), [
    (errno.EACCES, 404, True), (errno.EPERM, 404, True), (errno.ELOOP, 404, False), (errno.ENAMETOOLONG, 404, False),
    (errno.EINVAL, 404, False), (errno.EILSEQ, 404, False), (errno.ENODEV, 404, False),
    (errno.EMFILE, 503, True), (errno.ENFILE, 503, True), (errno.ENOMEM, 503, True), (errno.EAGAIN, 503, True),
])
@pytest.mark.parametrize("on", [b"css", b"style.css"])
def test_what_the_system_may_say(root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
                                 number: int, status: int, logged: bool, on: bytes) -> None:
    monkeypatch.setattr("handlers.directory.os.open", raising(number, on))
    answer = ask(Static(root), "/css/style.css")
    assert answer.status == status
    assert answer.headers.get("retry-after") == ("1" if status == 503 else None)
    assert bool(caplog.records) is logged
    assert not open_below(root)


def test_a_file_that_may_not_be_read_is_not_there_and_the_log_says_why(root: Path, monkeypatch: pytest.MonkeyPatch,
                                                                       caplog: pytest.LogCaptureFixture) -> None:
    """As the kernel has it for others than root: it may be looked at, and is no directory."""
    really_open = os.open

    def open_as_stranger(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == b"style.css" and not flags & os.O_PATH:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return really_open(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr("handlers.directory.os.open", open_as_stranger)
    assert ask(Static(root), "/css/style.css").status == 404
    assert "'/css/style.css' cannot be opened: [Errno 13] Permission denied" in caplog.text


def test_a_sibling_that_cannot_be_read_is_passed_over_unless_nothing_can(root: Path, monkeypatch: pytest.MonkeyPatch
                                                                         ) -> None:
    monkeypatch.setattr("handlers.directory.os.open", raising(errno.EACCES, b"style.css.gz"))
    assert ask(Static(root), "/css/style.css", headers={"Accept-Encoding": "gzip"}).status == 200
    monkeypatch.setattr("handlers.directory.os.open", raising(errno.EMFILE, b"style.css.gz"))
    assert ask(Static(root), "/css/style.css", headers={"Accept-Encoding": "gzip"}).status == 503
    assert not open_below(root)


def test_a_broken_disk_is_no_answer(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handlers.directory.os.open", raising(errno.EIO, b"style.css"))
    with pytest.raises(OSError, match="Input/output"):
        ask(Static(root), "/css/style.css")
    assert not open_below(root)


def test_when_the_directory_cannot_be_opened_it_is_503(root: Path, monkeypatch: pytest.MonkeyPatch,
                                                       caplog: pytest.LogCaptureFixture) -> None:
    static = Static(root)
    monkeypatch.setattr("handlers.directory.os.open", raising(errno.EMFILE, str(root)))
    assert ask(static, "/css/style.css").status == 503
    assert "Too many open files" in caplog.text


# Directories.

@pytest.mark.parametrize(("target", "location"), [
    ("/docs", "./docs/"), ("/docs?a=b&c=//evil", "./docs/?a=b&c=//evil"), ("/d%6fcs", "./docs/"),
    ("/evil%40host", "./evil%40host/"), ("/a%20%26%3F%23%22", "./a%20%26%3F%23%22/"), ("/%C3%A9", "./%C3%A9/"),
    ("/docs/deep", "./deep/"), ("http://test/docs", "./docs/"),
])
def test_a_directory_without_its_slash_is_sent_to_the_one_with_it(root: Path, target: str, location: str) -> None:
    for name in ("evil@host", 'a &?#"', "\xe9", "docs/deep"):
        (root / name).mkdir()
        (root / name / "index.html").touch()
    for method in ("GET", "HEAD"):
        answer = ask(Static(root), target, method)
        assert (answer.status, answer.headers["location"]) == (301, location)


@pytest.mark.parametrize("target", ["//docs", "///docs", "//evil.example/docs", "//evil.example/..", "/%2fdocs",
                                    "/%5cdocs", "/\\docs", "//docs/..", "/.//docs"])
def test_no_redirection_leads_to_another_host(root: Path, target: str) -> None:
    (root / "evil.example").mkdir()
    (root / "evil.example" / "index.html").touch()
    assert ask(Static(root), target).status == 404


def test_a_directory_without_an_index_is_not_there_at_all(root: Path) -> None:
    assert ask(Static(root), "/css").status == 404
    assert ask(Static(root), "/css/").status == 404
    assert ask(Static(root, index=()), "/docs").status == 404
    assert ask(Static(root, index=()), "/").status == 404


def test_the_first_index_counts(root: Path) -> None:
    (root / "docs" / "index.txt").write_text("text")
    assert ask(Static(root, index=["index.txt", "index.html"]), "/docs/").body == b"text"
    assert ask(Static(root, index=["index.txt", "index.html"]), "/").body == b"<h1>Home</h1>"
    assert ask(Static(root, index=["css", "index.html"]), "/").body == b"<h1>Home</h1>"


def test_who_may_pass_through_a_directory_need_not_list_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may do everything, so the kernel's answers are put in its mouth."""
    really_open = os.open

    def open_as_stranger(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        descriptor = really_open(path, flags, mode, dir_fd=dir_fd)
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) and not flags & os.O_PATH:
            os.close(descriptor)
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return descriptor

    monkeypatch.setattr("handlers.directory.os.open", open_as_stranger)
    assert ask(Static(root), "/docs").status == 301
    assert ask(Static(root), "/docs/").body == b"Docs"
    assert ask(Static(root), "/css").status == 404


# Methods.

@pytest.mark.parametrize("target", ["/css/style.css", "/nothing", "/../secret/key.txt", "*"])
def test_other_methods_are_told_which_there_are(root: Path, target: str) -> None:
    for method, status in (("POST", 405), ("PUT", 405), ("DELETE", 405), ("get", 405), ("OPTIONS", 204)):
        answer = ask(Static(root), target, method)
        assert (answer.status, answer.headers["allow"]) == (status, "GET, HEAD, OPTIONS")


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=0-4"}, {"Range": "bytes=9999-"},
                                     {"If-None-Match": '"other"'}, {"Accept-Encoding": "gzip"}])
def test_head_is_get_without_a_body_and_knows_no_ranges(root: Path, headers: dict[str, str]) -> None:
    """RFC 9110 sections 9.3.2 and 14.2."""
    with gzip.open(root / "css" / "style.css.gz", "wb") as file:
        file.write(STYLE)
    static = Static(root, max_age=10, headers={"X-More": "1"})
    head = ask(static, "/css/style.css", "HEAD", headers)
    get = ask(static, "/css/style.css", "GET", {name: value for name, value in headers.items() if name != "Range"})
    assert (head.status, head.headers, head.body, head.kept_open) == (200, get.headers, b"", False)


# As what it is sent.

@pytest.mark.parametrize(("name", "kind"), [
    ("a.html", "text/html; charset=utf-8"), ("a.HTML", "text/html; charset=utf-8"),
    ("a.txt", "text/plain; charset=utf-8"), ("a.b.c.html", "text/html; charset=utf-8"),
    ("a.css", "text/css; charset=utf-8"), ("a.js", "text/javascript; charset=utf-8"),
    ("a.mjs", "text/javascript; charset=utf-8"), ("a.json", "application/json"), ("a.svg", "image/svg+xml"),
    ("a.xml", "application/xml"), ("a.png", "image/png"), ("a.webp", "image/webp"), ("a.woff2", "font/woff2"),
    ("a.wasm", "application/wasm"), ("a.pdf", "application/pdf"), ("a.tar.gz", "application/gzip"),
    ("a.css.gz", "application/gzip"), ("a.txt.br", "application/octet-stream"), ("a", "application/octet-stream"),
    ("a.unheard-of", "application/octet-stream"), ("html", "application/octet-stream"),
    ("a.foo", "text/x-foo; charset=latin-1"), ("a.bar", "application/x-bar"),
])
def test_content_types(name: str, kind: str) -> None:
    types = media_types({".FOO": "text/x-foo; charset=latin-1", ".bar": "application/x-bar"})
    assert content_type(name, types) == kind


def test_content_types_do_not_depend_on_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mime.types").write_text("text/x-machine css unheard-of\n")
    before = media_types({})
    monkeypatch.setattr(mimetypes, "knownfiles", [str(tmp_path / "mime.types")])
    mimetypes.init()
    try:
        assert mimetypes.guess_type("a.css")[0] == "text/x-machine"
        assert media_types({}) == before
    finally:
        monkeypatch.undo()
        mimetypes.init()


def test_nobody_may_guess_a_type(root: Path) -> None:
    answer = ask(Static(root), "/css/style.css")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-type"] == "text/css; charset=utf-8"
    assert answer.headers["accept-ranges"] == "bytes"
    mine = Static(root, types={".css": "text/x-mine; charset=latin-1", "": "text/plain"})
    assert ask(mine, "/css/style.css").headers["content-type"] == "text/x-mine; charset=latin-1"
    assert ask(mine, "/empty").headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(("options", "target", "value"), [
    ({}, "/css/style.css", None),
    ({"max_age": 0}, "/css/style.css", "max-age=0"),
    ({"max_age": 60}, "/css/style.css", "max-age=60"),
    ({"max_age": 60, "immutable": r"\.css$"}, "/css/style.css", "max-age=31536000, immutable"),
    ({"max_age": 60, "immutable": re.compile("^css/")}, "/css/style.css", "max-age=31536000, immutable"),
    ({"immutable": r"\.js$"}, "/css/style.css", None),
    ({"max_age": 60, "immutable": "^docs/index.html$"}, "/docs/", "max-age=31536000, immutable"),
    ({"immutable": {"index.html"}.__contains__}, "/", "max-age=31536000, immutable"),
    ({"max_age": 5, "immutable": lambda path: False}, "/", "max-age=5"),
])
def test_how_long_it_may_be_kept(root: Path, options: dict[str, Any], target: str, value: str | None) -> None:
    static = Static(root, **options)
    answer = ask(static, target)
    assert answer.headers.get("cache-control") == value
    not_modified = ask(static, target, headers={"If-None-Match": answer.headers["etag"]})
    assert (not_modified.status, not_modified.headers.get("cache-control")) == (304, value)


def test_no_error_may_be_kept(root: Path) -> None:
    """A 416 with a max-age would be a cache's answer to those who ask for the whole file."""
    static = Static(root, max_age=60, immutable=".", headers={"Cache-Control": "public"})
    for target, headers, status in (("/css/style.css", {"Range": "bytes=99999-"}, 416),
                                    ("/css/style.css", {"If-Match": '"other"'}, 412), ("/nothing", {}, 404)):
        answer = ask(static, target, headers=headers)
        assert (answer.status, answer.headers.get("cache-control"), answer.headers.get("etag")) == (status, None, None)


def test_more_headers(root: Path) -> None:
    static = Static(root, headers={"Access-Control-Allow-Origin": "*", "Content-Security-Policy": "sandbox"})
    whole = ask(static, "/css/style.css")
    for headers in ({}, {"Range": "bytes=0-0"}, {"Range": "bytes=0-0,1000-"}, {"If-None-Match": whole.headers["etag"]}):
        answer = ask(static, "/css/style.css", headers=headers)
        assert answer.headers["access-control-allow-origin"] == "*", headers
        assert answer.headers["content-security-policy"] == "sandbox", headers
    assert "access-control-allow-origin" not in ask(static, "/nothing").headers


# Validators.

def test_a_tag_is_another_after_every_change(root: Path) -> None:
    path = root / "css" / "style.css"
    static = Static(root)

    def tag() -> str:
        return ask(static, "/css/style.css").headers["etag"]

    first = tag()
    assert re.fullmatch(r'"[0-9a-f-]+"', first)
    assert tag() == first
    before = path.stat()
    seen = {first}

    def changed() -> None:
        new = tag()
        assert new not in seen
        seen.add(new)

    path.write_bytes(STYLE + b"\n")                                     # another size
    changed()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns - 10**9))  # another mtime
    changed()
    other = root / "other"
    other.write_bytes(STYLE.upper() + b"\n")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns - 10**9))
    other.rename(path)                                                  # another file, of the same size and mtime
    changed()


def test_a_change_that_hides_its_mtime_is_seen_by_its_ctime() -> None:
    values = {"st_ino": 1, "st_size": 2, "st_mtime_ns": 3, "st_ctime_ns": 4}
    statuses: list[Any] = [types.SimpleNamespace(**{**values, **changed}) for changed in (
        {}, {"st_ctime_ns": 7}, {"st_mtime_ns": 7}, {"st_ino": 7}, {"st_size": 7})]
    assert len({exact_tag(status) for status in statuses}) == 5


def test_what_changed_a_moment_ago_has_no_validators(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may change again within the tick of a clock, and nobody could tell: RFC 9110 sections 8.8.1 and 8.8.2.2."""
    path, static = root / "css" / "style.css", Static(root)
    first = ask(static, "/css/style.css").headers
    changed = path.stat().st_ctime_ns / 1e9
    monkeypatch.setattr(handlers.static, "SETTLED", 2.0)
    for now, settled in ((changed - 100, False), (changed, False), (changed + 1.9, False), (changed + 2.1, True)):
        monkeypatch.setattr("handlers.static.time.time", lambda now=now: now)
        answer = ask(static, "/css/style.css")
        assert answer.status == 200
        assert ("etag" in answer.headers, "last-modified" in answer.headers) == (settled, settled), now - changed
        for name, value in (("If-None-Match", first["etag"]), ("If-Modified-Since", first["last-modified"])):
            assert ask(static, "/css/style.css", headers={name: value}).status == (304 if settled else 200)
        for value in (first["etag"], first["last-modified"]):
            partial = ask(static, "/css/style.css", headers={"Range": "bytes=0-4", "If-Range": value})
            assert partial.status == (206 if settled else 200)
        assert ask(static, "/css/style.css", headers={"Range": "bytes=0-4"}).status == 206


def test_last_modified_is_never_later_than_now_and_never_before_the_epoch(root: Path, monkeypatch: pytest.MonkeyPatch
                                                                          ) -> None:
    """RFC 9110 section 8.8.2.1."""
    now = (root / "index.html").stat().st_ctime + 100.9
    monkeypatch.setattr("handlers.static.time.time", lambda: now)
    for modified, told in ((int(now) + 10**6, int(now)), (2**40, int(now)), (-1, 0), (10**9, 10**9)):
        os.utime(root / "index.html", (modified, modified))
        assert ask(Static(root), "/").headers["last-modified"] == formatdate(told, usegmt=True)


def test_conditions_are_those_of_the_file(root: Path) -> None:
    os.utime(root / "index.html", (10**9, 10**9 + 0.9))
    static = Static(root)
    tag = ask(static, "/").headers["etag"]
    date, earlier = (formatdate(10**9 + off, usegmt=True) for off in (0, -1))
    for headers, status in (({"If-None-Match": tag}, 304), ({"If-None-Match": f"W/{tag}"}, 304),
                            ({"If-None-Match": '"other"'}, 200), ({"If-Modified-Since": date}, 304),
                            ({"If-Modified-Since": earlier}, 200), ({"If-Match": tag}, 200), ({"If-Match": "*"}, 200),
                            ({"If-Match": f"W/{tag}"}, 412), ({"If-Unmodified-Since": date}, 200),
                            ({"If-Unmodified-Since": earlier}, 412)):
        for method in ("GET", "HEAD"):
            answer = ask(static, "/", method, headers)
            assert answer.status == status, headers
            assert answer.kept_open is (status == 200 and method == "GET")
            if status == 304:
                assert (answer.headers, answer.body) == ({"etag": tag}, b"")
    for target, status in (("/nothing", 404), ("/docs", 301)):  # section 13.2.1
        assert ask(static, target, headers={"If-None-Match": "*", "If-Match": '"x"'}).status == status


def test_a_tag_can_be_made_of_something_else(root: Path) -> None:
    static = Static(root, etag=lambda status: f"{status.st_size}")
    assert ask(static, "/").headers["etag"] == '"13"'
    for wrong in ("", 'a"b', "a b", "caf\xe9", "a\nb", None, 13):
        with pytest.raises(ValueError, match="etag returned"):
            ask(Static(root, etag=lambda status, wrong=wrong: wrong), "/")  # type: ignore[misc]
        assert not open_below(root)


# Ranges.

def test_one_range(root: Path) -> None:
    answer = ask(Static(root), "/css/style.css", headers={"Range": "bytes=5-9"})
    assert (answer.status, answer.body) == (206, STYLE[5:10])
    assert answer.headers["content-range"] == f"bytes 5-9/{len(STYLE)}"
    assert answer.headers["content-type"] == "text/css; charset=utf-8"
    assert {"etag", "last-modified", "accept-ranges"} <= set(answer.headers)


def test_several_ranges(root: Path) -> None:
    answer = ask(Static(root), "/css/style.css", headers={"Range": "bytes=1000-1009, -7, 0-4"})
    assert answer.status == 206
    assert "content-range" not in answer.headers  # RFC 9110 section 15.3.7.2
    parts = parts_of(answer.headers["content-type"], answer.body)
    assert [part["Content-Range"] for part in parts] == ["bytes 1000-1009/1900", "bytes 1893-1899/1900",
                                                         "bytes 0-4/1900"]
    assert {part["Content-Type"] for part in parts} == {"text/css; charset=utf-8"}
    assert [part.get_payload(decode=True) for part in parts] == [STYLE[1000:1010], STYLE[-7:], STYLE[:5]]


@pytest.mark.parametrize(("value", "status", "length"), [
    ("bytes=1900-", 416, 22), ("bytes=-0", 416, 22), ("bytes=5-4", 200, 1900), ("lines=1-2", 200, 1900),
    ("bytes=" + ",".join(["0-"] * 101), 200, 1900), ("bytes=" + ",".join(["0-"] * 100), 206, 1900),
    ("bytes=0-1000,500-1500", 206, 1501),
])
def test_ranges_that_are_not_sent(root: Path, value: str, status: int, length: int) -> None:
    answer = ask(Static(root), "/css/style.css", headers={"Range": value})
    assert (answer.status, len(answer.body)) == (status, length)
    if status == 416:
        assert answer.headers["content-range"] == "bytes */1900"


def test_of_an_empty_file_everything_is_sent(root: Path) -> None:
    for value in ("bytes=0-", "bytes=-5", "bytes=0-99"):
        answer = ask(Static(root), "/empty", headers={"Range": value})
        assert (answer.status, answer.body) == (200, b"")


def test_conditions_come_before_ranges(root: Path) -> None:
    """RFC 9110 section 13.2.2, and 14.2 for a range that cannot be met."""
    static = Static(root)
    tag = ask(static, "/").headers["etag"]
    for value in ("bytes=0-0", "bytes=99-"):
        assert ask(static, "/", headers={"Range": value, "If-None-Match": tag}).status == 304
        assert ask(static, "/", headers={"Range": value, "If-Match": '"other"'}).status == 412
        assert ask(static, "/", headers={"Range": value, "If-Range": '"other"'}).status == 200
    assert ask(static, "/", headers={"Range": "bytes=0-0", "If-Range": tag}).status == 206
    assert ask(static, "/", headers={"Range": "bytes=0-0", "If-Match": tag}).status == 206


@given(st.integers(0, 40), st.integers(0, 40), st.lists(st.integers(-1, 60), max_size=8))
def test_a_file_is_read_up_to_where_its_range_ends(linked: Path, start: int, stop: int, sizes: list[int]) -> None:
    """As over TLS, where there is no sendfile(2)."""
    with Directory(str(linked)) as directory:
        directory.enter(["css"])
        file = directory.open("style.css")
    with file:
        file.select(range(start, stop))
        got = b"".join(file.read(size) for size in sizes) + file.read()
        assert got == STYLE[start:stop]
        assert (file.read(), file.read(10), file.read(None)) == (b"", b"", b"")


# Compressed siblings.

@pytest.fixture
def siblings(root: Path) -> Path:
    """The same as `root`; css/style.css has siblings in all codings, br the smallest, gzip the largest."""
    for suffix, size in ((".br", 10), (".zst", 20), (".gz", 30)):
        (root / "css" / f"style.css{suffix}").write_bytes(suffix.encode().ljust(size, b"-"))
    return root


@pytest.mark.parametrize(("accept", "coding"), [
    (None, None), ("", None), ("gzip", "gzip"), ("GZIP", "gzip"), ("x-gzip", "gzip"), ("br", "br"), ("zstd", "zstd"),
    ("gzip, deflate, br, zstd", "br"), ("gzip, deflate", "gzip"), ("deflate", None), ("gzip;q=1.0, br;q=0.5", "gzip"),
    ("gzip;q=0.5, br;q=0", "gzip"), ("br;q=0, *", "zstd"), ("*", "br"), ("*;q=0", None), ("identity", None),
    # RFC 9110 section 12.5.3
    ("compress, gzip", "gzip"), ("compress;q=0.5, gzip;q=1.0", "gzip"),
    ("gzip;q=1.0, identity; q=0.5, *;q=0", "gzip"),
    ("identity;q=1, gzip;q=0.5", None), ("identity;q=0.5, gzip;q=0.5", "gzip"), ("identity;q=0", None),
    ("identity;q=0, gzip;q=0.001", "gzip"), ("gzip;q=0.001", "gzip"), ("gzip;q=0.000", None), ("gzip;q=0.0001", None),
    ("gzip;q=2", None), ("gzip;q=-1", None), ("gzip; Q=1", "gzip"), ("gzip\t;\tq=1", "gzip"), (",, gzip ,", "gzip"),
    ("gzip;q=1;x=y", None), ("gzip br", None), ("nothing, \xff, gzip", "gzip"),
    ("*;q=0.5, br;q=0.1, zstd;q=0.2", "gzip"),
])
def test_which_coding_is_sent(siblings: Path, accept: str | None, coding: str | None) -> None:
    headers = {} if accept is None else {"Accept-Encoding": accept}
    answer = ask(Static(siblings), "/css/style.css", headers=headers)
    assert answer.status == 200
    assert answer.headers.get("content-encoding") == coding
    assert answer.headers["vary"] == "Accept-Encoding"
    assert answer.headers["content-type"] == "text/css; charset=utf-8"
    suffix = {None: "", "br": ".br", "zstd": ".zst", "gzip": ".gz"}[coding]
    assert answer.body == (siblings / "css" / f"style.css{suffix}").read_bytes()


_WEIGHTS = st.sampled_from(["", ";q=0", ";q=0.0", ";q=0.1", ";q=0.25", ";q=0.9", ";q=1", ";q=1.000", " ; q=0.5"])
_CODINGS = ["br", "zstd", "gzip", "identity", "*", "deflate"]


@given(st.dictionaries(st.sampled_from(_CODINGS), _WEIGHTS), st.permutations(_CODINGS),
       st.dictionaries(st.sampled_from(["br", "zstd", "gzip"]), st.integers(0, 50)), st.integers(0, 50))
def test_the_coding_is_the_one_that_section_12_5_3_prefers(said: dict[str, str], order: list[str],
                                                           sizes: dict[str, int], plain: int) -> None:
    sizes = {"identity": plain, **sizes}
    chosen = preferred_coding(", ".join(coding + said[coding] for coding in order if coding in said), sizes)

    def weight(coding: str) -> float:
        """What is said of `coding`; -1: nothing."""
        text = said.get(coding, said.get("*"))
        return -1 if text is None else float(text.partition("=")[2] or 1)

    acceptable = [coding for coding in sizes if weight(coding) > 0 or (weight(coding) < 0 and coding == "identity")]
    if not acceptable:
        assert chosen == "identity"
        return
    assert chosen in acceptable
    for other in acceptable:  # nothing would have been better
        mine, its = weight(chosen), weight(other)
        assert mine > its or (mine == its and sizes[chosen] <= sizes[other]), other


@given(st.text(alphabet=st.characters(max_codepoint=255)))
def test_no_accept_encoding_raises(accept: str) -> None:
    assert preferred_coding(accept, {"identity": 5, "gzip": 3}) in ("identity", "gzip")


def test_each_representation_is_one_of_its_own(siblings: Path) -> None:
    static = Static(siblings, etag=lambda status: "same")
    plain = ask(static, "/css/style.css").headers
    packed = ask(static, "/css/style.css", headers={"Accept-Encoding": "gzip"}).headers
    assert (plain["etag"], packed["etag"]) == ('"same"', '"same-gzip"')
    for accept, tag, status in (("gzip", packed["etag"], 304), ("gzip", plain["etag"], 200), ("", plain["etag"], 304),
                                ("", packed["etag"], 200)):
        answer = ask(static, "/css/style.css", headers={"Accept-Encoding": accept, "If-None-Match": tag})
        assert (answer.status, answer.headers["vary"]) == (status, "Accept-Encoding")
    for headers, status in (({"If-Match": '"x"'}, 412), ({"Range": "bytes=9999-"}, 416)):
        answer = ask(static, "/css/style.css", headers=headers)
        assert (answer.status, answer.headers["vary"]) == (status, "Accept-Encoding")


def test_ranges_are_ranges_of_what_is_sent(siblings: Path) -> None:
    static = Static(siblings)
    one = ask(static, "/css/style.css", headers={"Accept-Encoding": "gzip", "Range": "bytes=0-2"})
    assert (one.status, one.body, one.headers["content-encoding"]) == (206, b".gz", "gzip")
    assert one.headers["content-range"] == "bytes 0-2/30"
    (siblings / "css" / "style.css.gz").write_bytes(b"x" * 1000)
    several = ask(static, "/css/style.css", headers={"Accept-Encoding": "gzip", "Range": "bytes=0-2,500-502"})
    assert (several.status, len(several.body), several.headers["content-encoding"]) == (200, 1000, "gzip")


def test_a_sibling_that_is_older_than_its_file_is_out_of_date(siblings: Path) -> None:
    path, sibling = siblings / "css" / "style.css", siblings / "css" / "style.css.gz"
    for name in ("style.css.br", "style.css.zst"):
        (siblings / "css" / name).unlink()
    mtime = path.stat().st_mtime_ns
    for age, used in ((0, True), (-1, True), (1, False)):
        os.utime(sibling, ns=(mtime - age, mtime - age))
        answer = ask(Static(siblings), "/css/style.css", headers={"Accept-Encoding": "gzip"})
        assert (answer.headers.get("content-encoding"), answer.headers.get("vary")) == (
            ("gzip", "Accept-Encoding") if used else (None, None))


def test_siblings_are_looked_for_as_told(siblings: Path) -> None:
    everything = {"Accept-Encoding": "br, zstd, gzip"}
    assert ask(Static(siblings, precompressed=["gzip"]), "/css/style.css", headers=everything
               ).headers["content-encoding"] == "gzip"
    answer = ask(Static(siblings, precompressed=()), "/css/style.css", headers=everything)
    assert (answer.body, "vary" in answer.headers) == (STYLE, False)
    assert "vary" not in ask(Static(siblings), "/index.html", headers=everything).headers
    direct = ask(Static(siblings), "/css/style.css.gz", headers=everything)
    assert (direct.headers["content-type"], "content-encoding" in direct.headers) == ("application/gzip", False)
    (siblings / "css" / "style.css").unlink()
    assert ask(Static(siblings), "/css/style.css", headers=everything).status == 404


def test_an_index_has_siblings_too(siblings: Path) -> None:
    (siblings / "docs" / "index.html.gz").write_bytes(b"packed")
    answer = ask(Static(siblings), "/docs/", headers={"Accept-Encoding": "gzip"})
    assert (answer.headers["content-encoding"], answer.headers["content-type"]) == ("gzip", "text/html; charset=utf-8")


def test_a_function_that_raises_leaves_nothing_open(siblings: Path) -> None:
    def failing(path: str) -> bool:
        raise RuntimeError(path)

    with pytest.raises(RuntimeError, match="style"):
        ask(Static(siblings, immutable=failing), "/css/style.css", headers={"Accept-Encoding": "gzip"})
    assert not open_below(siblings)


def test_what_is_replaced_meanwhile_is_the_one_or_the_other(root: Path) -> None:
    static, path, spare = Static(root), root / "changing.txt", root / "changing.new"
    contents = [b"a" * 1000, b"b" * 2000]
    path.write_bytes(contents[0])
    begin = threading.Barrier(5)

    def replace() -> None:
        begin.wait(PATIENCE)
        for number in range(100):
            spare.write_bytes(contents[number % 2])
            spare.replace(path)

    def read() -> set[tuple[bytes, str]]:
        begin.wait(PATIENCE)
        answers = [ask(static, "/changing.txt") for _ in range(50)]
        return {(answer.body, answer.headers["etag"]) for answer in answers}

    with ThreadPoolExecutor(5) as pool:
        replaced = pool.submit(replace)
        seen = set().union(*(reader.result(PATIENCE) for reader in [pool.submit(read) for _ in range(4)]))
        replaced.result(PATIENCE)
    assert {body for body, _ in seen} <= set(contents)
    assert len({tag for _, tag in seen}) == len(seen), "two contents have one tag"


# Served.

def get(client: RawClient, target: str, method: str = "GET", *headers: str) -> Received:
    client.send(request(target, method=method, headers=headers))
    return client.read_response(method)


def test_real_requests(serve: Serve, root: Path) -> None:
    big = bytes(range(256)) * 20_000
    (root / "big.bin").write_bytes(big)
    with gzip.open(root / "css" / "style.css.gz", "wb") as file:
        file.write(STYLE)
    app = Dispatcher()
    app.add_prefix("/static/", Static(root, prefix="/static/", max_age=60))
    server = serve(app)
    client = server.connect()
    whole = get(client, "/static/big.bin")
    assert (whole.status, whole.body == big, whole.header("content-length")) == (200, True, str(len(big)))
    head = get(client, "/static/big.bin", "HEAD")
    assert (head.status, head.body, head.header("content-length")) == (200, b"", str(len(big)))
    for spec, expected in (("0-0", big[:1]), ("1000000-3000000", big[1_000_000:3_000_001]), ("-5", big[-5:])):
        part = get(client, "/static/big.bin", "GET", f"Range: bytes={spec}")
        assert (part.status, part.body == expected, part.keep_alive) == (206, True, True)
    several = get(client, "/static/big.bin", "GET", "Range: bytes=0-99,2000000-2999999,-1")
    parts = several.body.split(b"\r\n--" + (several.header("content-type") or "").partition("=")[2].encode())
    assert [part.partition(b"\r\n\r\n")[2] for part in parts[1:-1]] == [big[:100], big[2_000_000:3_000_000], big[-1:]]
    tag = whole.header("etag")
    not_modified = get(client, "/static/big.bin", "GET", f"If-None-Match: {tag}")
    assert (not_modified.status, not_modified.body, not_modified.header("etag")) == (304, b"", tag)
    assert not_modified.header("cache-control") == "max-age=60"
    assert get(client, "/static/big.bin", "GET", "Range: bytes=99999999-").status == 416
    assert get(client, "/static/big.bin", "GET", 'If-Match: "other"').status == 412
    packed = get(client, "/static/css/style.css", "GET", "Accept-Encoding: gzip")
    assert (packed.header("content-encoding"), gzip.decompress(packed.body)) == ("gzip", STYLE)
    moved = get(client, "/static/docs?x=1")
    assert (moved.status, moved.header("location")) == (301, "./docs/?x=1")
    assert get(client, "/static/../secret/key.txt").status == 404
    assert get(client, "/static/%2e%2e/secret/key.txt").status == 404
    assert get(client, "/static/empty").body == b""
    assert get(client, "/static/", "POST").status == 405
    assert get(client, "/static/").body == b"<h1>Home</h1>"
    client.close()
    server.wait_until_over(1)
    assert not open_below(root)


def test_a_client_that_leaves_leaves_nothing_open(serve: Serve, root: Path) -> None:
    with (root / "huge.bin").open("wb") as file:
        file.truncate(1 << 30)
    server = serve(Static(root))
    for count, headers in enumerate(([], ["Range: bytes=1-"], ["Range: bytes=0-0,1000-"]), 1):
        client = server.connect()
        client.send(request("/huge.bin", headers=headers))
        assert client.read_head() in (200, 206)
        client.reset()
        server.wait_until_over(count)
        assert not open_below(root)


@pytest.mark.parametrize("headers", [[], ["Range: bytes=1-"], ["Range: bytes=0-0,1000-"]])
def test_a_file_that_changes_its_size_on_the_way(serve: Serve, root: Path, headers: list[str]) -> None:
    """What was announced is sent, or the connection is cut."""
    static, path = Static(root), root / "css" / "style.css"

    def changing(request: Request) -> Response:
        response = static(request)
        os.truncate(path, int(request.query))
        return response

    server = serve(changing)
    for size, ends in ((len(STYLE) * 2, True), (len(STYLE) // 2, False)):
        path.write_bytes(STYLE)
        with server.connect() as client:
            client.send(request(f"/css/style.css?{size}", headers=headers))
            if ends:
                received = client.read_response()
                assert len(received.body) == int(received.header("content-length") or 0)
                assert received.keep_alive
            else:
                with pytest.raises((Truncated, ConnectionResetError)):
                    client.read_response()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def test_over_tls_nothing_is_sent_but_the_range(serve: Serve, root: Path, tmp_path: Path, authority: trustme.CA
                                                ) -> None:
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    server = serve(Static(root), tls=TLS(tmp_path / "server.pem"))
    raw = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
    with RawClient(context.wrap_socket(raw, server_hostname="localhost")) as client:
        for headers, body in (([], STYLE), (["Range: bytes=5-9"], STYLE[5:10]), (["Range: bytes=0-0"], STYLE[:1])):
            received = get(client, "/css/style.css", "GET", *headers)
            assert (received.body, received.keep_alive) == (body, True)
        assert get(client, "/css/style.css", "GET", "Range: bytes=0-4,1000-1004").status == 206
        assert get(client, "/css/style.css", "HEAD").status == 200


# Arguments.

@pytest.mark.parametrize(("options", "error", "fix"), [
    ({"directory": None}, TypeError, "pass the path of a directory"),
    ({"directory": b"public"}, TypeError, "pass the path of a directory"),
    ({"directory": "/nowhere"}, ValueError, "/nowhere does not exist"),
    ({"directory": __file__}, ValueError, "is no directory"),
    ({"prefix": "static/"}, ValueError, "write '/static/'"),
    ({"prefix": "/static"}, ValueError, "write '/static/'"),
    ({"prefix": "/a?b/"}, ValueError, "the query is not part of the path"),
    ({"prefix": "/a%20b/"}, ValueError, "write the character instead"),
    ({"prefix": None}, TypeError, '"/static/"'),
    ({"index": "index.html"}, TypeError, 'as ["index.html"]'),
    ({"index": None}, TypeError, 'as ["index.html"]'),
    ({"index": [b"index.html"]}, TypeError, "is no str"),
    ({"index": ["a/index.html"]}, ValueError, "is no name of a file"),
    ({"index": [".."]}, ValueError, "is no name of a file"),
    ({"precompressed": "gzip"}, TypeError, 'as ["br", "gzip"]'),
    ({"precompressed": ["deflate"]}, ValueError, "not among 'br', 'zstd', 'gzip'"),
    ({"max_age": -1}, ValueError, "from 0 to 31536000"),
    ({"max_age": 10**9}, ValueError, "from 0 to 31536000"),
    ({"max_age": "60"}, TypeError, "whole number of seconds"),
    ({"max_age": True}, TypeError, "whole number of seconds"),
    ({"max_age": 1.5}, TypeError, "whole number of seconds"),
    ({"immutable": "("}, ValueError, "no regular expression"),
    ({"immutable": True}, TypeError, "pass a regular expression"),
    ({"immutable": re.compile(b"a")}, TypeError, "pass a regular expression"),
    ({"types": [".foo"]}, TypeError, "pass a mapping"),
    ({"types": {"foo": "text/x-foo"}}, ValueError, 'as ".foo"'),
    ({"types": {".tar.foo": "text/x-foo"}}, ValueError, 'as ".foo"'),
    ({"types": {".foo": "foo"}}, ValueError, "is no media type"),
    ({"types": {".foo": "text/x-foo\r\nX: y"}}, ValueError, "is no media type"),
    ({"types": {".foo": "text/x-foo; a=\x7f"}}, ValueError, "is no media type"),
    ({"types": {".foo": None}}, TypeError, "write two str"),
    ({"headers": "X: y"}, TypeError, "pass a mapping"),
    ({"headers": {"X": "a\nb"}}, ValueError, "control byte"),
    ({"headers": {"ETag": '"x"'}}, ValueError, "leave it out"),
    ({"headers": {"content-type": "text/html"}}, ValueError, "leave it out"),
    ({"headers": {"Transfer-Encoding": "chunked"}}, ValueError, "leave it out"),
    ({"etag": "size"}, TypeError, "pass a function"),
])
def test_wrong_arguments_are_told_at_once(root: Path, options: dict[str, Any], error: type[Exception], fix: str
                                          ) -> None:
    with pytest.raises(error, match=re.escape(fix)) as raised:
        Static(**{"directory": root, **options})
    assert next(iter(options)) in str(raised.value)


def test_a_relative_directory_stays_where_it_was(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    static = Static("public")
    monkeypatch.chdir("/")
    assert ask(static, "/css/style.css").status == 200
    assert repr(static) == f"Static({str(root)!r}, prefix='/')"
    assert logging.getLogger("handlers").handlers == []
