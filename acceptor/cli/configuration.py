"""Every option's value, and where it is from: the command line, the environment, a TOML file, or the table's default.

    --limit-body 10M                    the command line
    TASKMASTER_LIMIT_BODY=10M           the environment; an empty string is no value, since not everything that sets
                                        variables can unset them
    limit-body = "10M"                  --config FILE.toml, at its top level
    [tool.taskmaster]                   ./pyproject.toml, if there is no --config
    limit-body = "10M"

Three variables that other servers and hosting services know come last, before the default: PORT, for --bind,
FORWARDED_ALLOW_IPS, for --trusted-proxies, and WEB_CONCURRENCY, for --processes.
"""

from __future__ import annotations

import difflib
import enum
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from acceptor.cli.errors import ConfigurationError, did_you_mean
from acceptor.cli.foreign import here_it_is
from acceptor.cli.options import OPTIONS, Option, option_named

__all__ = ["Configuration", "Source", "Value", "read_configuration"]


_PREFIX = "TASKMASTER_"
_WELL_KNOWN = {"bind": "PORT", "trusted-proxies": "FORWARDED_ALLOW_IPS", "processes": "WEB_CONCURRENCY"}


class Source(enum.Enum):
    COMMAND_LINE = "command line"
    ENVIRONMENT = "environment"
    FILE = "file"
    DEFAULT = "default"


@dataclass(frozen=True)
class Value:
    """What an option is."""

    option: Option
    value: Any
    source: Source
    where: str
    """As the user has written it: "--limit-body", "TASKMASTER_LIMIT_BODY", "limit-body in pyproject.toml"."""
    origin: str
    """"command line", "environment TASKMASTER_LIMIT_BODY", "file pyproject.toml", "default"."""


class Configuration:
    """The values of all options, by their names. Checked each for itself; what goes together is not."""

    def __init__(self, values: dict[str, Value], warnings: Sequence[str] = ()) -> None:
        self._values = values
        self.warnings = tuple(warnings)
        """What is no error, but hardly meant. For whoever reads the configuration to show."""

    def __getitem__(self, name: str) -> Any:
        """The value; None if the option has neither value nor default."""
        return self._values[name].value

    def __iter__(self) -> Iterator[Value]:
        """In the order of the table."""
        return iter(self._values.values())

    def given(self, name: str) -> bool:
        """Somebody has chosen the value: it is not the default."""
        return self._values[name].source is not Source.DEFAULT

    def differs(self, name: str) -> bool:
        """The value is not the default: unlike `given`, what --print-config has written into a file says nothing."""
        return bool(self._values[name].value != self._values[name].option.default)

    def on_command_line(self, name: str) -> bool:
        """The value was given for this very run, and so is meant to do something in it."""
        return self._values[name].source is Source.COMMAND_LINE

    def replaced(self, values: Mapping[str, Any]) -> Configuration:
        """The same with other values for some options, for the program's own purposes."""
        return Configuration(self._values | {name: replace(self._values[name], value=value)
                                             for name, value in values.items()}, self.warnings)

    def where(self, name: str) -> str:
        """What to call the option in a message: as the user has written it."""
        return self._values[name].where

    def said(self, name: str) -> str:
        """The option and its value, as written: "--queue none", "TASKMASTER_QUEUE=none", 'queue = "none" in x.toml'."""
        each = self._values[name]
        text = "none" if each.value is None else str(each.option.kind.unparse(each.value))
        if each.source is Source.FILE:
            return each.where.replace(" in ", f" = {each.option.kind.write(each.value)} in ", 1)
        return f"{each.where}{'=' if each.source is Source.ENVIRONMENT else ' '}{text}"


def read_configuration(command_line: Mapping[str, Any], environ: Mapping[str, str], directory: Path) -> Configuration:
    """Put the values together. ConfigurationError for the first that is wrong.

    command_line: by option: text, a bool for flags, a sequence of text where it may be repeated; what was not given is
        None or empty.
    directory: where pyproject.toml is looked for.
    """
    values = {}
    config = _from_outside(option_named("config"), command_line, environ) or _default(option_named("config"))
    path, table = _file(config, directory)
    for option in OPTIONS:
        values[option.name] = _from_outside(option, command_line, environ) or (
            _from_file(option, path, table[option.name]) if option.name in table else
            _from_well_known(option, environ) or _default(option))
    return Configuration(values | {"config": config}, list(_warnings(environ)))


def _warnings(environ: Mapping[str, str]) -> Iterator[str]:
    """About variables that look as if they were for this program, and are not."""
    known = [option.name for option in OPTIONS if option.everywhere]
    for variable in sorted(environ):
        # Kubernetes makes the others for a service called "taskmaster", as TASKMASTER_PORT_8080_TCP_ADDR.
        if not variable.startswith(_PREFIX) or re.fullmatch("(SERVICE_HOST|(SERVICE_)?PORT(_.*)?)",
                                                            name := variable.removeprefix(_PREFIX)):
            continue
        name = name.lower().replace("_", "-")
        if name not in known and (near := difflib.get_close_matches(name, known, n=1, cutoff=0.75)):
            yield f"{variable} in the environment is no option; did you mean {option_named(near[0]).variable}?"


def _from_outside(option: Option, command_line: Mapping[str, Any], environ: Mapping[str, str]) -> Value | None:
    said = command_line.get(option.name)
    if said is not None and said != ():
        where = option.flag
        if isinstance(said, bool):
            value: Any = said
            where = option.flag if said else f"--no-{option.name}"
        else:
            value = _parsed(option, said if option.repeatable else [said], where, " {!r}")
        return Value(option, value, Source.COMMAND_LINE, where, Source.COMMAND_LINE.value)
    text = environ.get(option.variable, "") if option.everywhere else ""
    if not text:
        return None
    texts = _items(text) if option.repeatable else [text]
    value = _parsed(option, texts, option.variable, "={!r}")
    return Value(option, value, Source.ENVIRONMENT, option.variable, f"environment {option.variable}")


def _items(text: str) -> list[str]:
    """Of a list in the environment: separated by commas, as everybody does it, or by white space, as click does."""
    return list(filter(None, re.split(r"[,\s]+", text)))


def _from_file(option: Option, path: Path, content: Any) -> Value:
    where = f"{option.name} in {path}"
    items = content if option.repeatable and isinstance(content, list) else [content]
    for item in items:
        if type(item) not in option.kind.toml:
            raise ConfigurationError(f"{path}: {option.name} = {json.dumps(item, default=str)} is {_toml_name(item)}: "
                                     f"{_wanted(option)}")
    texts = [str(item).lower() if isinstance(item, bool) else str(item) for item in items]
    value = _parsed(option, texts, f"{path}: {option.name}", " = {!r}")
    return Value(option, value, Source.FILE, where, f"file {path}")


def _from_well_known(option: Option, environ: Mapping[str, str]) -> Value | None:
    name = _WELL_KNOWN.get(option.name, "")
    text = environ.get(name, "")
    if not text:
        return None
    if name == "PORT":  # as gunicorn has it: such a variable comes from a hosting service, which connects from outside
        if not re.fullmatch("[0-9]{1,5}", text):
            raise ConfigurationError(f"PORT={text!r}: set it to a number from 0 to 65535, or give --bind")
        texts = [f"0.0.0.0:{text}"]
    else:
        texts = _items(text) if option.repeatable else [text]
    return Value(option, _parsed(option, texts, name, "={!r}"), Source.ENVIRONMENT, name, f"environment {name}")


def _default(option: Option) -> Value:
    return Value(option, option.default, Source.DEFAULT, option.flag, Source.DEFAULT.value)


def _parsed(option: Option, texts: list[str], where: str, form: str) -> Any:
    """The option's value. ConfigurationError that shows it in `form`, behind `where`."""
    values = []
    for text in texts:
        try:
            values.append(option.kind.parse(text))
        except ValueError as error:
            raise ConfigurationError(f"{where}{form.format(text)}: {error}") from None
    return tuple(values) if option.repeatable else values[0]


def _file(config: Value, directory: Path) -> tuple[Path, dict[str, Any]]:
    """The TOML file that counts, and its options by name; none if there is no such file."""
    asked = config.value is not None
    path = Path(config.value) if asked else Path("pyproject.toml")
    try:
        content = tomllib.loads((directory / path).read_text("utf-8"))
    except FileNotFoundError as error:
        if not asked:
            return path, {}
        raise ConfigurationError(f"{config.where} {path}: {error.strerror}") from None
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None
    except ValueError as error:  # also UnicodeDecodeError
        raise ConfigurationError(f"{path} is not TOML: {error}") from None
    if path.name == "pyproject.toml":
        tools = content.get("tool")
        tools = tools if isinstance(tools, dict) else {}
        for name in tools:
            if name != "taskmaster" and re.sub("[-_]", "", name.lower()) in ("taskmaster", "taskmasters"):
                raise ConfigurationError(f"{path}: [tool.{name}] is read by nobody; write [tool.taskmaster]")
        content = tools.get("taskmaster", {})
        if not isinstance(content, dict):
            raise ConfigurationError(f"{path}: tool.taskmaster is {_toml_name(content)}; write [tool.taskmaster], and "
                                     "the options below it")
    known = [option.name for option in OPTIONS if option.everywhere and option.name != "config"]
    table = {}
    for key, item in content.items():
        name = key.replace("_", "-")
        if name not in known:
            raise ConfigurationError(f"{path}: {_unknown(key, item, known)}")
        if name in table:
            raise ConfigurationError(f"{path}: {name} is there twice, with - and with _; write it once")
        table[name] = item
    return path, table


def _unknown(key: str, item: object, known: Iterable[str]) -> str:
    if key == "tool" and isinstance(item, dict):
        return "[tool.taskmaster] is read in a file called pyproject.toml; in any other write the options at the top"
    if key in ("config", "check-config", "print-config"):
        return f"{key} is for the command line"
    if isinstance(item, dict):
        return f"[{key}] is no table of ours: all options stand at one level"
    name = key.replace("_", "-")
    if there := here_it_is(f"--{name}"):
        return f"there is no option {key!r}: {there}"
    return f"there is no option {key!r}{did_you_mean(name, known, most=1)}"


def _toml_name(item: object) -> str:
    return {str: "a string", bool: "a boolean", int: "a whole number", float: "a number", list: "a list",
            dict: "a table"}.get(type(item), type(item).__name__)


def _wanted(option: Option) -> str:
    if option.is_flag:
        return f"write {option.name} = true or {option.name} = false"
    number = "a number" if float in option.kind.toml else "a whole number"
    if str not in option.kind.toml:
        return f"write {number}, without quotes"
    if int in option.kind.toml:
        return f"write {number}, or a string ({option.kind.metavar})"
    return "write a list of strings" if option.repeatable else "write a string"
