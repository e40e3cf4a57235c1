"""The table of options, the kinds of values, and where they come from: command line, environment, file, default."""

from __future__ import annotations

import dataclasses
import inspect
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acceptor import TLS, Acceptor, Limits, Timeouts
from acceptor.cli.configuration import Configuration, read_configuration
from acceptor.cli.errors import ConfigurationError
from acceptor.cli.foreign import _OTHERWISE, _SAME, here_it_is
from acceptor.cli.kinds import FLAG, OFFLOAD, SIZE, TEXT, THREADS, Offload, Threads
from acceptor.cli.options import OPTIONS, SECTIONS, Option, option_named
from acceptor.cli.reference import configuration_as_toml, settings_reference

NOWHERE = Path("/nonexistent")


def read(command_line: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None,
         directory: Path = NOWHERE) -> Configuration:
    return read_configuration(command_line or {}, environ or {}, directory)


# The table.


@pytest.mark.parametrize(("settings", "prefix"), [(Limits, "limit_"), (Timeouts, "timeout_")])
def test_every_limit_and_timeout_is_an_option_with_its_default(settings: type[Limits | Timeouts], prefix: str) -> None:
    options = {option.becomes.partition(".")[2]: option for option in OPTIONS
               if option.becomes.partition(".")[0] == settings.__name__}
    fields = {field.name: field for field in dataclasses.fields(settings)}
    assert options.keys() == fields.keys()
    for name, option in options.items():
        assert option.default == fields[name].default
        assert option.name.replace("-", "_") in (name, prefix + name)
        takes_none = "None" in str(fields[name].type)
        assert (option.kind.metavar.endswith("|none")) is takes_none
        if takes_none:
            assert option.kind.parse("none") is None


@pytest.mark.parametrize(("function", "owner"), [(Acceptor, "Acceptor"), (TLS, "TLS")])
def test_every_argument_in_python_has_an_option(function: type, owner: str) -> None:
    named = " ".join(option.becomes for option in OPTIONS)
    elsewhere = {"host", "port", "limits", "timeouts", "sni",
                 "tls"}  # --bind; their fields; a function, which is for Python; of TLS' arguments
    for name in set(inspect.signature(function).parameters) - elsewhere:
        assert f"{owner}({name})" in named


def test_names_are_unique_and_well_formed() -> None:
    for attribute in ("name", "flag", "variable"):
        names = [getattr(option, attribute) for option in OPTIONS]
        assert len(set(names)) == len(names)
    for option in OPTIONS:
        assert re.fullmatch("[a-z]+(-[a-z]+)*", option.name)
        assert re.fullmatch("TASKMASTER(_[A-Z]+)+", option.variable)
        assert option.help.endswith("."), option.name
        assert option_named(option.name) is option
    assert len(SECTIONS) == len({option.section for option in OPTIONS})


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_a_default_is_a_value_that_can_be_written_and_read(option: Option) -> None:
    values = option.default if option.repeatable else (option.default,)
    for value in values:
        if value is not None:
            assert option.kind.parse(text_of(option, value)) == value


def test_the_settings_reference_has_every_option_in_tables() -> None:
    text = settings_reference()
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(rows) == len(OPTIONS)
    for option, row in zip(OPTIONS, rows, strict=True):
        assert option.flag.replace("|", r"\|") in row
        assert len(re.findall(r"(?<!\\)\|", row)) == 5, row
    assert re.findall("^### (.*)$", text, re.MULTILINE) == list(SECTIONS)


def test_what_is_said_of_other_servers_options_names_options_that_there_are() -> None:
    ours = {option.flag for option in OPTIONS} | {option.short for option in OPTIONS}
    theirs = {*_SAME, *(name for names in _OTHERWISE for name in names)}
    assert not theirs & ours
    for name in theirs:
        for mentioned in re.findall("--[a-z-]+", here_it_is(name)):
            assert mentioned in ours | {"--version"}, f"{name}: {mentioned}"
    assert here_it_is("--nothing-like-it") == ""


# Kinds.


def text_of(option: Option, value: object) -> str:
    """As `value` stands in a TOML file, without quotes."""
    loaded = tomllib.loads(f"x = {option.kind.write(value)}")["x"]
    return str(loaded).lower() if isinstance(loaded, bool) else str(loaded)


@given(st.sampled_from(OPTIONS), st.text() | st.from_regex("[0-9]{1,4}[KMG.:]?[0-9]{0,3}", fullmatch=True))
def test_any_text_is_a_value_that_survives_a_file_or_an_error_with_a_message(option: Option, text: str) -> None:
    try:
        value = option.kind.parse(text)
    except ValueError as error:
        message = str(error)
    else:
        assert option.kind.parse(text_of(option, value)) == value
        return
    assert message[:1].isalpha() or message[:1] in "'\"", f"{option.name}: {message}"


@pytest.mark.parametrize(("text", "value"), [
    ("0", 0), ("65536", 65536), ("64K", 65536), ("64k", 65536), ("10M", 10 << 20), ("2g", 2 << 30),
])
def test_sizes(text: str, value: int) -> None:
    assert SIZE.parse(text) == value


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (1000, "1000"), (8192, '"8K"'), (1 << 30, '"1G"')])
def test_sizes_are_written_as_short_as_they_can_be(value: int, text: str) -> None:
    assert SIZE.write(value) == text


@pytest.mark.parametrize(("text", "value"), [
    ("16", Threads(16)), ("4:64", Threads(64, 4)), ("8:8", Threads(8, 8)), ("none", Threads(None)),
])
def test_threads(text: str, value: Threads) -> None:
    assert THREADS.parse(text) == value
    assert str(value) == text


@pytest.mark.parametrize(("text", "value", "written"), [
    ("threads:16", Offload("threads", 16), "threads:16"), ("Processes:2", Offload("processes", 2), "processes:2"),
    ("shop:executor", Offload("shop:executor"), "shop:executor"), ("none", None, "none"),
])
def test_executors(text: str, value: Offload | None, written: str) -> None:
    assert OFFLOAD.parse(text) == value
    assert OFFLOAD.write(value) == f'"{written}"'


@pytest.mark.parametrize(("text", "value"), [
    ("1", True), ("true", True), ("TRUE", True), ("yes", True), ("on", True),
    ("0", False), ("false", False), ("no", False), ("off", False),
])
def test_flags(text: str, value: bool) -> None:
    assert FLAG.parse(text) is value


@pytest.mark.parametrize(("option", "text", "fix"), [
    ("threads", "0", "write a number of at least 1, such as 16, or two, such as 4:64"),
    ("threads", "-4", "write a number of at least 1"),
    ("threads", "64:4", "write 4:64"),
    ("processes", "0", "write a whole number of at least 1"),
    ("processes", "-1", "write a whole number of at least 1"),
    ("processes", "2.5", "write a number of at least 1, auto (one for each processor), or none"),
    ("max-requests", "0", "write a whole number of at least 1"),
    ("max-memory", "0", "write a whole number of at least 1"),
    ("offload", "threads:0", "say how many, as in threads:16"),
    ("offload", "processes:", "say how many, as in processes:16"),
    ("offload", "module", "package.module:function for what makes an executor"),
    ("idle", "drop", "write one of hold, park"),
    ("threads", ":4", "such as 4:64"),
    ("queue", "-1", "write a whole number of at least 0"),
    ("limit-body", "10MB", "such as 65536, 64K, 10M or 1G"),
    ("limit-head", "0", "write a whole number of at least 1"),
    ("limit-head", "none", "write a number of bytes"),
    ("timeout-head", "0", "of at least 0.001"),
    ("timeout-head", "1e9", "write a number"),
    ("timeout-keep-alive", "-1", "of at least 0.001"),
    ("graceful-timeout", "-.5", "of at least 0"),
    ("minimum-rate", "-1", "above 0 and below 1e12, or none"),
    ("limit-header-count", "-1", "write a whole number of at least 1"),
    ("timeout-head", "nan", "write a number"),
    ("timeout-head", "none", "write a number"),
    ("minimum-rate", "0", "above 0 and below 1e12, or none"),
    ("backlog", "0", "write a whole number of at least 1"),
    ("bind", "8080", 'write "127.0.0.1:8080" for this machine only, or ":8080"'),
    ("bind", "localhost", 'the port is missing; write "localhost:8080"'),
    ("bind", "http://localhost:80", 'write "localhost:80"'),
    ("bind", "::1:80", 'write "[::1]'),
    ("bind", "", "it is empty"),
    ("bind", "/tmp/x.sock", 'write "unix:/tmp/x.sock"'),
    ("bind", "127.0.0.1:1,:2", "one address for each --bind: write --bind 127.0.0.1:1 --bind :2"),
    ("bind", "unix:", 'write "unix:/run/app.sock"'),
    ("trusted-proxies", "10.0.0.5/8", 'has host bits set; write "10.0.0.0/8"'),
    ("proxy-protocol", "localhost", "no host name"),
    ("allow", "obs", "there are bare-lf, obs-fold"),
    ("interface", "asgi", "write one of auto, wsgi, handler"),
    ("script-name", "/app/", "does not end in one, such as /app"),
    ("live-path", "livez", "begins with a slash"),
    ("access-log-format", "%(nope)s", "%(h)s"),
    ("access-log-format", "short", '"common", "combined", "json"'),
    ("app-dir", "", "write something"),
    ("factory", "maybe", "write true or false"),
])
def test_a_wrong_value_says_what_to_write(option: str, text: str, fix: str) -> None:
    with pytest.raises(ValueError, match=re.escape(fix)) as caught:
        option_named(option).kind.parse(text)
    assert "pass " not in str(caught.value), "nobody passes anything on a command line"
    assert "None" not in str(caught.value)


# Where values come from.


def test_the_command_line_comes_before_the_environment_before_the_file_before_the_default(tmp_path: Path) -> None:
    def value(command_line: str | None, environ: str, content: str) -> tuple[Any, str]:
        (tmp_path / "pyproject.toml").write_text(f"[tool.taskmaster]\n{content}\n")
        configuration = read({"backlog": command_line}, {"TASKMASTER_BACKLOG": environ}, tmp_path)
        each = next(each for each in configuration if each.option.name == "backlog")
        assert configuration.given("backlog") is (each.origin != "default")
        return each.value, each.origin

    assert value("1", "2", "backlog = 3") == (1, "command line")
    assert value(None, "2", "backlog = 3") == (2, "environment TASKMASTER_BACKLOG")
    assert value(None, "", "backlog = 3") == (3, "file pyproject.toml")
    assert value(None, "", "") == (1024, "default")


def test_a_flag_can_be_taken_back(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.taskmaster]\nreload = true\n")
    assert read({"reload": None}, {}, tmp_path)["reload"] is True
    assert read({"reload": None}, {"TASKMASTER_RELOAD": "0"}, tmp_path)["reload"] is False
    assert read({"reload": False}, {"TASKMASTER_RELOAD": "1"}, tmp_path)["reload"] is False


def test_lists_do_not_add_up_and_are_separated_by_commas_or_white_space_in_the_environment(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.taskmaster]\nbind = ["127.0.0.1:3", ":4"]\nallow = "obs-fold"\n')
    assert read({"bind": ()}, {}, tmp_path)["bind"] == ("127.0.0.1:3", ":4")
    assert read({"bind": ()}, {}, tmp_path)["allow"] == ("obs-fold",)
    assert read({"bind": ()}, {"TASKMASTER_BIND": "unix:/a b:1,:2, :3"}, tmp_path)["bind"] == \
        ("unix:/a", "b:1", ":2", ":3")
    assert read({"bind": (":1",)}, {"TASKMASTER_BIND": ":2"}, tmp_path)["bind"] == (":1",)


@pytest.mark.parametrize(("environ", "content", "bind", "origin"), [
    ({}, "", "127.0.0.1:8080", "default"),
    ({"PORT": ""}, "", "127.0.0.1:8080", "default"),
    ({"PORT": "5000"}, "", "0.0.0.0:5000", "environment PORT"),
    ({"PORT": "5000"}, 'bind = "127.0.0.1:1"', "127.0.0.1:1", "file pyproject.toml"),
    ({"PORT": "5000", "TASKMASTER_BIND": ":2"}, "", ":2", "environment TASKMASTER_BIND"),
])
def test_port(environ: dict[str, str], content: str, bind: str, origin: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(f"[tool.taskmaster]\n{content}\n")
    value = next(each for each in read({}, environ, tmp_path) if each.option.name == "bind")
    assert (value.value, value.origin) == ((bind,), origin)


def test_forwarded_allow_ips() -> None:
    assert read({}, {"FORWARDED_ALLOW_IPS": "127.0.0.1,10.0.0.0/8"})["trusted-proxies"] == ("127.0.0.1", "10.0.0.0/8")
    assert read({}, {"FORWARDED_ALLOW_IPS": "*", "TASKMASTER_TRUSTED_PROXIES": "unix"})["trusted-proxies"] == ("unix",)
    assert read({}, {"FORWARDED_ALLOW_IPS": ""})["trusted-proxies"] == ()


@pytest.mark.parametrize(("environ", "content", "processes", "origin"), [
    ({}, "", None, "default"),
    ({"WEB_CONCURRENCY": "3"}, "", 3, "environment WEB_CONCURRENCY"),
    ({"WEB_CONCURRENCY": "3"}, "processes = 2", 2, "file pyproject.toml"),
    ({"WEB_CONCURRENCY": "3"}, 'processes = "none"', None, "file pyproject.toml"),
    ({"WEB_CONCURRENCY": "3", "TASKMASTER_PROCESSES": "auto"}, "", "auto", "environment TASKMASTER_PROCESSES"),
])
def test_web_concurrency(environ: dict[str, str], content: str, processes: int | str | None, origin: str,
                         tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(f"[tool.taskmaster]\n{content}\n")
    value = next(each for each in read({}, environ, tmp_path) if each.option.name == "processes")
    assert (value.value, value.origin) == (processes, origin)


def test_a_file_of_its_own_has_the_options_at_its_top_and_pyproject_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.taskmaster]\nbacklog = 1\nthreads = 5\n")
    (tmp_path / "own.toml").write_text('backlog = 2\nlimit_body = "10M"\nqueue = "none"\n')
    configuration = read({"config": "own.toml"}, {}, tmp_path)
    assert configuration["backlog"] == 2
    assert configuration["limit-body"] == 10 << 20
    assert configuration["queue"] is None
    assert configuration.given("queue")
    assert not configuration.given("threads")
    assert read({}, {"TASKMASTER_CONFIG": "own.toml"}, tmp_path)["backlog"] == 2
    assert read({"config": str(tmp_path / "pyproject.toml")}, {}, NOWHERE)["backlog"] == 1


def test_a_pyproject_without_the_table_is_nobodys_business(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert not any(configuration.source.value == "file" for configuration in read({}, {}, tmp_path))


@pytest.mark.parametrize(("content", "message"), [
    ("limit-bdy = 3", "own.toml: there is no option 'limit-bdy'; did you mean 'limit-body'?"),
    ("workers = 4", "own.toml: there is no option 'workers': here it is --processes"),
    ("processes = 'some'", "own.toml: processes = 'some': write a number of at least 1, auto"),
    ("processes = true", "own.toml: processes = true is a boolean: write a whole number, or a string (N|auto|none)"),
    ("limit_request_field_size = 4", "there is no option 'limit_request_field_size': here it is --limit-head"),
    ("backlog = 'many'", 'own.toml: backlog = "many" is a string: write a whole number, without quotes'),
    ("backlog = 1.5", "own.toml: backlog = 1.5 is a number: write a whole number"),
    ("backlog = true", "own.toml: backlog = true is a boolean: write a whole number"),
    ("backlog = [1]", "own.toml: backlog = [1] is a list: write a whole number"),
    ("backlog = 0", "own.toml: backlog = '0': write a whole number of at least 1"),
    ("factory = 1", "own.toml: factory = 1 is a whole number: write factory = true or factory = false"),
    ("limit-body = '10X'", "own.toml: limit-body = '10X': write a number of bytes"),
    ("bind = 80", "own.toml: bind = 80 is a whole number: write a list of strings"),
    ("bind = [':1', 80]", "own.toml: bind = 80 is a whole number: write a list of strings"),
    ("app = 2020-01-01", "own.toml: app = \"2020-01-01\" is date: write a string"),
    ("backlog = 1\nBACKLOG = 1", "own.toml: there is no option 'BACKLOG'"),
    ("live-path = '/a'\nlive_path = '/b'", "own.toml: live-path is there twice"),
    ("[limits]\nbody = 3", "own.toml: [limits] is no table of ours: all options stand at one level"),
    ("[tool.taskmaster]\nbacklog = 3", "in any other write the options at the top"),
    ("check-config = true", "own.toml: check-config is for the command line"),
    ("config = 'x.toml'", "own.toml: config is for the command line"),
    ("x = ", "own.toml is not TOML: "),
])
def test_a_wrong_file_is_named_with_the_key_and_the_fix(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(content)
    with pytest.raises(ConfigurationError) as caught:
        read({"config": "own.toml"}, {}, tmp_path)
    assert message in str(caught.value)


def test_a_pyproject_that_is_broken_is_said_to_be() -> None:
    with pytest.raises(ConfigurationError, match=re.escape("--config nope.toml: No such file")):
        read({"config": "nope.toml"})
    with pytest.raises(ConfigurationError, match=re.escape("TASKMASTER_CONFIG nope.toml: No such file")):
        read({}, {"TASKMASTER_CONFIG": "nope.toml"})


@pytest.mark.parametrize(("content", "message"), [
    ("[tool.taskmasters]\nbacklog = 3", "[tool.taskmasters] is read by nobody; write [tool.taskmaster]"),
    ("[tool.task-master]\nbacklog = 3", "write [tool.taskmaster]"),
    ("[tool]\ntaskmaster = 3", "tool.taskmaster is a whole number; write [tool.taskmaster]"),
    ("[tool", "pyproject.toml is not TOML: "),
])
def test_a_wrong_pyproject_is_an_error_even_if_nobody_asked_for_it(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(content)
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        read({}, {}, tmp_path)


@pytest.mark.parametrize(("command_line", "environ", "message"), [
    ({"limit-body": "x"}, {}, "--limit-body 'x': write a number of bytes"),
    ({"bind": (":1", "x")}, {}, "--bind 'x': the port is missing"),
    ({}, {"TASKMASTER_LIMIT_BODY": "x"}, "TASKMASTER_LIMIT_BODY='x': write a number of bytes"),
    ({}, {"TASKMASTER_FACTORY": "2"}, "TASKMASTER_FACTORY='2': write true or false"),
    ({}, {"PORT": "http"}, "PORT='http': set it to a number"),
    ({}, {"PORT": "70000"}, "PORT='0.0.0.0:70000': "),
    ({}, {"WEB_CONCURRENCY": "many"}, "WEB_CONCURRENCY='many': write a number of at least 1, auto"),
    ({}, {"FORWARDED_ALLOW_IPS": "10.0.0.1,x"}, "FORWARDED_ALLOW_IPS='x': write an address"),
])
def test_a_wrong_value_is_named_as_it_was_written(command_line: dict[str, Any], environ: dict[str, str], message: str
                                                  ) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(command_line, environ)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(("environ", "warning"), [
    ({"TASKMASTER_THREDS": "4"}, "TASKMASTER_THREDS in the environment is no option; did you mean TASKMASTER_THREADS?"),
    ({"TASKMASTER_LIMITBODY": "4"}, "did you mean TASKMASTER_LIMIT_BODY?"),
])
def test_a_variable_that_is_hardly_meant_so_is_warned_of(environ: dict[str, str], warning: str) -> None:
    [text] = read({}, environ).warnings
    assert warning in text


@pytest.mark.parametrize("variable", [
    "TASKMASTER_SERVICE_HOST", "TASKMASTER_SERVICE_PORT", "TASKMASTER_SERVICE_PORT_HTTP", "TASKMASTER_PORT",
    "TASKMASTER_PORT_8080_TCP", "TASKMASTER_PORT_8080_TCP_PROTO", "TASKMASTER_PORT_8080_TCP_ADDR", "TASKMASTER_COLOUR",
    "TASKMASTER_", *(option.variable for option in OPTIONS if option.everywhere and option.kind is TEXT),
])
def test_variables_of_others_are_their_business(variable: str) -> None:
    assert read({}, {variable: "tcp://10.0.0.1:8080"}).warnings == ()


def test_an_option_is_quoted_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text("queue = 'none'\n")
    configuration = read({"config": "own.toml", "threads": "4:64"}, {"TASKMASTER_LEAVE": "2.50"}, tmp_path)
    assert configuration.said("threads") == "--threads 4:64"
    assert configuration.said("leave") == "TASKMASTER_LEAVE=2.5"
    assert configuration.said("queue") == 'queue = "none" in own.toml'


# --print-config.


def values_of(option: Option) -> st.SearchStrategy[Any]:
    """Texts that are values of the option."""
    unit = option.kind.metavar.removesuffix("|none")
    texts = {
        "N": st.integers(1, 10**6).map(str), "SIZE": st.integers(1, 10**9).map(str),
        "SECONDS": st.decimals("0.01", 1000, places=2).map(str), "N|MIN:MAX": st.sampled_from(["4", "4:64", "none"]),
        "N|auto": st.sampled_from(["1", "4", "auto", "AUTO"]),
        "EXECUTOR": st.sampled_from(["threads:16", "processes:2", "Threads:1", "package.module:make"]),
        "ADDRESS": st.sampled_from(["127.0.0.1:1", "[::1]:2", "unix:/a\u00e9\"\\ b", "fd://3", "systemd"]),
        "NETWORK": st.sampled_from(["10.0.0.0/8", "unix", "*"]), "/PATH": st.sampled_from(["/a", "/b%20c"]),
        "/PREFIX": st.just("/a/b"), "FORMAT": st.sampled_from(["json", '%(h)s "%(r)s" \\ %(s)s']),
    }.get(unit, st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
    if option.kind.choices:
        texts = st.sampled_from(option.kind.choices)
    if option.is_flag:
        return st.booleans()
    if option.kind.metavar.endswith("|none"):
        texts |= st.just("none")
    return st.lists(texts, min_size=1, max_size=3).map(tuple) if option.repeatable else texts


@given(st.data())
def test_what_is_printed_means_the_same_as_a_file(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
                                                  ) -> None:
    options = [option for option in OPTIONS if option.everywhere and option.name != "config"]
    chosen = data.draw(st.lists(st.sampled_from(options), unique_by=lambda option: option.name))
    before = read({option.name: data.draw(values_of(option), label=option.name) for option in chosen})
    path = tmp_path_factory.mktemp("printed", numbered=True) / "own.toml"
    path.write_text(configuration_as_toml(before), "utf-8")
    after = read({"config": str(path)})
    for each in before:
        if each.option.everywhere and each.option.name != "config":
            assert after[each.option.name] == each.value
            if before.given(each.option.name):
                assert after.given(each.option.name)


def test_every_value_is_printed_with_its_origin(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text("threads = '4:64'\n")
    text = configuration_as_toml(read({"config": "own.toml", "limit-body": "10485760", "bind": (":1", ":2")},
                                      {"TASKMASTER_LEAVE": "2.5", "FORWARDED_ALLOW_IPS": "unix"}, tmp_path))
    lines = [re.sub(" +", " ", line) for line in text.splitlines()]
    for line in ('bind = [":1", ":2"] # command line', 'limit-body = "10M" # command line',
                 "leave = 2.5 # environment TASKMASTER_LEAVE",
                 'trusted-proxies = ["unix"] # environment FORWARDED_ALLOW_IPS', 'threads = "4:64" # file own.toml',
                 "backlog = 1024 # default", 'limit-connections = "none" # default', "# certfile = # not set",
                 "# queue = # default: thread 20, pool 1000, recycling none", "# Application"):
        assert line in lines, text
