"""The files of deploy/ and the command lines of their documents: what can be checked in a moment.

What the files do under load, `python -m tests.restarts` shows. nginx, HAProxy and systemd judge their own files, where
they are installed; everything else is checked without them.
"""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from click.testing import CliRunner

from acceptor import Acceptor, Limits, Timeouts
from acceptor.cli.commands import taskmaster
from acceptor.cli.configuration import Configuration, read_configuration
from acceptor.cli.foreign import here_it_is
from acceptor.cli.kinds import SIZE
from acceptor.cli.options import OPTIONS, option_named
from acceptor.health import Health
from taskmaster import PooledTaskmaster
from tests.proxies import NGINX
from tests.restarts.cases import HOSTS

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
DEPLOYMENT = "\n".join(page.read_text() for page in (ROOT / "docs" / "deployment.md",
                                                     *sorted((ROOT / "docs" / "deployment").glob("*.md"))))
SWITCHING = (ROOT / "docs" / "switching.md").read_text()
HAPROXY, NGINX_CONF, SERVICE, SOCKET, CONTAINER = (
    (DEPLOY / name).read_text()
    for name in ("haproxy.cfg", "nginx.conf", "taskmaster.service", "taskmaster.socket", "Containerfile"))
COMMAND = re.compile(r"^(?:    |#   |ExecStart=).*?\btaskmaster (serve .*(?:(?<=\\)\n[# ] .*)*)", re.MULTILINE)
LAST_WORDS = Timeouts().linger + 5.0 + 2.0
"""Seconds after the deadline: clients are told 503, the watcher ends, and threads do."""


def commands(text: str) -> list[str]:
    """What stands behind `taskmaster` in the command lines of a document or a file."""
    return [re.sub(r"\\\n[# ]\s+", "", command) for command in COMMAND.findall(text)]


ALL_COMMANDS = [command for text in (DEPLOYMENT, SWITCHING, HAPROXY, NGINX_CONF, SERVICE) for command in commands(text)]


@dataclass(frozen=True)
class Shop:
    """A folder with the application, and whatever else the commands name."""

    folder: Path

    def check(self, command: str) -> None:
        """`taskmaster COMMAND --check-config` in it, but for the place of the logs."""
        words = shlex.split(command.replace("/var/log/taskmaster", str(self.folder)))
        result = CliRunner().invoke(taskmaster, [*words, "--check-config"])
        assert (result.exit_code, result.output) == (0, "configuration ok\n"), command


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").write_text("from shop.wsgi import application as app\ncreate_app = lambda: app\n")
    (package / "wsgi.py").write_text("def application(environ, start_response): return []\n")
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("PORT", "FORWARDED_ALLOW_IPS"):
        monkeypatch.delenv(name, raising=False)
    yield Shop(tmp_path)
    for name in ("shop", "shop.wsgi"):
        sys.modules.pop(name, None)


def configuration(command: str) -> Configuration:
    """The values that a command line has for our options, which all have their long names."""
    said: dict[str, list[str]] = {}
    words = iter(shlex.split(command)[2:])
    for word in words:
        said.setdefault(word.removeprefix("--"), []).append(next(words))
    return read_configuration({name: values if option_named(name).repeatable else values[0]
                               for name, values in said.items()}, {}, Path("/nowhere"))


# Command lines.

def test_the_documents_have_command_lines() -> None:
    assert [len(commands(text)) for text in (HAPROXY, NGINX_CONF, SERVICE)] == [1, 1, 1]
    assert len(commands(DEPLOYMENT)) >= 7
    assert len(commands(SWITCHING)) == 5


@pytest.mark.parametrize("command", dict.fromkeys(ALL_COMMANDS))
def test_every_command_line_is_accepted(command: str, shop: Shop) -> None:
    shop.check(command)


@pytest.mark.parametrize("text", [DEPLOYMENT, SWITCHING], ids=["deployment", "switching"])
def test_every_option_named_in_the_text_is_there(text: str) -> None:
    """In the tables of switching.md: of the second and third column. The first has the options of others."""
    flags = {option.flag for option in OPTIONS}
    theirs = set(re.findall(r"--[\w-]+", " ".join(row[0] for row in table_rows())))
    for span in re.findall(r"`(--[^`]*)`", text):
        name, _, value = " ".join(span.split()).partition(" ")
        assert name in flags or name == "--help" or (text is SWITCHING and name in theirs), span
        if name in flags and value and not value.isupper():
            option_named(name.removeprefix("--")).kind.parse(shlex.split(value)[0])


def table_rows() -> list[tuple[str, str, str]]:
    """Of switching.md: theirs, ours, remark."""
    rows = re.findall(r"^\| (.+?) \| (.*?) ?\| (.*?) ?\|$", SWITCHING, re.MULTILINE)
    return [(theirs, ours, remark) for theirs, ours, remark in rows if ours != "here"]


def test_the_tables_say_the_same_as_the_command() -> None:
    """For the options of others the command says what is to be written here; so do the tables. (Of one letter the
    command cannot know whose it is.)"""
    assert len(table_rows()) > 60
    for theirs, ours, remark in table_rows():
        for option in re.findall(r"`(--[\w-]+)`", theirs):
            there = here_it_is(option)
            missing = set(re.findall(r"(?<![\w-])--[a-z-]+", there)) - set(re.findall(r"--[a-z-]+", ours + remark))
            if there.startswith("here it is") and missing:
                pytest.fail(f"{option}: the command says {there!r}, and the table {ours!r}, {remark!r}", pytrace=False)


# HAProxy.

def of_haproxy(word: str) -> float:
    """The number behind `word` in the line of the servers, in seconds if it has a unit."""
    found = re.search(rf"^    default-server .*\b{word} (\d+)(ms|s)?\b", HAPROXY, re.MULTILINE)
    assert found, word
    return int(found[1]) / (1000 if found[2] == "ms" else 1)


def test_haproxys_settings_fit_those_of_its_servers() -> None:
    server = configuration(commands(HAPROXY)[0])
    assert of_haproxy("maxconn") + of_haproxy("pool-max-conn") + 1 < server["threads"].most
    assert server["leave"] >= 2 * (of_haproxy("inter") + of_haproxy("fastinter"))
    assert of_haproxy("fall") == 2
    assert of_haproxy("pool-purge-delay") < server["timeout-keep-alive"]
    assert re.search(r"^    http-check send meth GET uri (\S+) ", HAPROXY, re.MULTILINE)[1] == server["ready-path"]  # type: ignore[index]
    assert f"timeout http-request {server['timeout-head']:g}s" in HAPROXY
    for header in ("For", "Host", "Proto"):
        assert f"http-request set-header X-Forwarded-{header} " in HAPROXY


def test_haproxys_servers_are_those_of_the_restarts() -> None:
    assert dict(re.findall(r"^    server (\w+) ([\d.]+):8000$", HAPROXY, re.MULTILINE)) == HOSTS


def test_haproxys_file_has_the_form_of_its_sections() -> None:
    for line in filter(None, (line.partition("#")[0].rstrip() for line in HAPROXY.splitlines())):
        assert re.fullmatch(r"(defaults|frontend \w+|backend \w+)|    [a-z][a-z_-]*( .+)?", line), line
    if shutil.which("haproxy"):
        judged_by("haproxy", "-c", "-f", str(DEPLOY / "haproxy.cfg"))


def judged_by(*command: str) -> None:
    run = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


# nginx.

def of_nginx(directive: str) -> str:
    [value] = re.findall(rf"^ +{directive} ([^;]+);", NGINX_CONF, re.MULTILINE)
    assert isinstance(value, str)
    return value


def test_nginxs_settings_fit_those_of_its_server() -> None:
    server = configuration(commands(NGINX_CONF)[0])
    assert int(of_nginx("keepalive_timeout").removesuffix("s")) < server["timeout-keep-alive"] == Timeouts().keep_alive
    assert int(of_nginx("keepalive")) * 4 < server["threads"].most
    assert SIZE.parse(of_nginx("client_max_body_size")) == server["limit-body"] == Limits().body
    assert of_nginx("proxy_http_version") == "1.1"
    for header in ("Connection", "Host", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"):
        assert f"proxy_set_header {header} " in NGINX_CONF
    assert "$proxy_add_x_forwarded_for" not in re.sub(r"#.*", "", NGINX_CONF)


def test_nginx_and_systemd_mean_the_same_socket() -> None:
    assert of_nginx("server").split()[0] == f"unix:{unit(SOCKET)['Socket']['ListenStream']}"


def test_nginxs_file_has_the_form_of_its_blocks(tmp_path: Path) -> None:
    lines = [line.strip() for line in re.sub(r"#.*", "", NGINX_CONF).splitlines() if line.strip()]
    assert all(line.endswith((";", "{")) or line == "}" for line in lines)
    assert sum(line.endswith("{") for line in lines) == lines.count("}")
    if shutil.which("nginx"):
        config = NGINX_CONF.replace("listen 80;", f"listen unix:{tmp_path}/front;")  # it tries to listen
        (tmp_path / "nginx.conf").write_text(NGINX.format(folder=tmp_path, config=config, user="", temporary=""))
        judged_by("nginx", "-t", "-p", str(tmp_path), "-e", str(tmp_path / "error.log"), "-c",
                  str(tmp_path / "nginx.conf"))


# systemd.

def unit(text: str) -> configparser.ConfigParser:
    """A unit file; of what may be there several times, the last one."""
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=["="], comment_prefixes=["#"])
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    return parser


def test_systemd_waits_longer_than_the_server_may_take() -> None:
    server, service = configuration(commands(SERVICE)[0]), unit(SERVICE)["Service"]
    assert int(service["TimeoutStopSec"]) >= server["leave"] + server["graceful-timeout"] + LAST_WORDS
    assert int(service["LimitNOFILE"]) > 10 * server["threads"].most


def test_the_service_takes_its_socket_from_systemd_and_says_when_it_is_ready() -> None:
    server, service = configuration(commands(SERVICE)[0]), unit(SERVICE)
    assert server["bind"] == ("systemd",)
    assert server["trusted-proxies"] == ("unix",)
    assert service["Unit"]["Requires"] == "taskmaster.socket"
    assert service["Service"]["Type"] == "notify"
    assert service["Service"]["ExecReload"].endswith(" -HUP $MAINPID")
    assert int(service["Service"]["RestartPreventExitStatus"]) == 2
    assert unit(SOCKET)["Install"]["WantedBy"] == "sockets.target"


def test_systemd_accepts_its_units(tmp_path: Path) -> None:
    for name, text in ("taskmaster.service", SERVICE), ("taskmaster.socket", SOCKET):
        sections = unit(text)
        assert set(sections.sections()) <= {"Unit", "Service", "Socket", "Install"}
        assert all(re.fullmatch("[A-Z][A-Za-z]+", key) for section in sections.sections() for key in sections[section])
        (tmp_path / name).write_text(text.replace("/opt/shop/bin/taskmaster", sys.executable))
    if shutil.which("systemd-analyze"):
        run = subprocess.run(["systemd-analyze", "verify", *map(str, tmp_path.glob("taskmaster.*"))],
                             capture_output=True, text=True, timeout=30, check=False)
        assert "taskmaster." not in run.stderr, run.stderr


# The container.

def of_container(instruction: str) -> str:
    joined = CONTAINER.replace("\\\n", " ")
    return re.findall(rf"^{instruction} +(.*)", joined, re.MULTILINE)[-1]  # type: ignore[no-any-return]


def test_the_containers_command_is_accepted(shop: Shop) -> None:
    entry, arguments = json.loads(of_container("ENTRYPOINT")), json.loads(of_container("CMD"))
    assert entry[0] == "taskmaster"
    shop.check(shlex.join([*entry[1:], *arguments]))


def test_the_containers_variables_are_options() -> None:
    variables = dict(word.split("=", 1) for word in shlex.split(of_container("ENV")))
    ours = {name: value for name, value in variables.items() if name.startswith("TASKMASTER_")}
    assert set(ours) <= {option.variable for option in OPTIONS}
    server = read_configuration({}, ours, Path("/nowhere"))
    assert server["bind"] == (f":{of_container('EXPOSE')}",)
    assert (server["live-path"], server["ready-path"]) == ("/livez", "/readyz")
    [waits] = re.findall(r"--stop-timeout (\d+)", CONTAINER.partition("FROM")[0])
    assert int(waits) >= server["leave"] + server["graceful-timeout"] + LAST_WORDS


def test_the_container_runs_as_nobody_in_particular_and_stops_softly() -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", of_container("USER"))
    assert of_container("STOPSIGNAL") == "SIGTERM"
    assert of_container("FROM").endswith("-slim")


def test_the_containers_health_check_tells_a_server_that_lives() -> None:
    words = json.loads(of_container("HEALTHCHECK").partition("CMD ")[2])
    assert words[0] == "python"

    def run(port: int) -> int:
        return subprocess.run([sys.executable, *(word.replace("8000", str(port)) for word in words[1:])],
                              capture_output=True, timeout=30, check=False).returncode

    with Acceptor(Health(lambda request: ""), port=0, taskmaster=PooledTaskmaster(threads=2)) as server:
        assert run(server.port) == 0
    assert run(server.port) == 1
