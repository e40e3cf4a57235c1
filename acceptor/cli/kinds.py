"""The kinds of values that options have: how each is read from text, and written.

A command line and the environment hold nothing but text, and a TOML file's numbers and booleans are turned into text
first: so each kind has one `parse`, and a value means the same wherever it stands.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from acceptor.addresses import parse_address
from acceptor.networks import Networks
from acceptor.violations import Violation
from taskmaster.arguments import seconds, whole_number

__all__ = ["ADDRESS", "CONTROL", "DECIMAL", "DIRECTORY", "FILE", "FLAG", "NETWORK", "NUMBER", "OFFLOAD", "PROCESSES",
           "SCRIPT_NAME", "SIZE", "TEXT", "THREADS", "URL_PATH", "VIOLATION", "Kind", "Offload", "Threads", "choice",
           "duration", "whole"]


@dataclass(frozen=True)
class Kind:
    """What an option takes."""

    metavar: str
    """In the help: "SECONDS"."""
    parse: Callable[[str], Any]
    """The value that a text means; ValueError that says what to write instead, without naming option and value."""
    toml: tuple[type, ...] = (str,)
    """The types that it may have in a TOML file."""
    choices: tuple[str, ...] = ()
    """All texts there are, if they are few."""
    unparse: Callable[[Any], bool | int | float | str] = str
    """Of a value that is not None: what a TOML file may have for it."""
    is_path: bool = False

    def checked(self, check: Callable[[Any], object]) -> Kind:
        """This kind, where `check` takes the value. It may raise ValueError, with a message of `taskmaster.arguments`
        or the like, "name=value: pass something else"."""
        def parse(text: str) -> Any:
            value = self.parse(text)
            try:
                check(value)
            except ValueError as error:
                raise ValueError(_reworded(str(error), text)) from None
            return value

        return replace(self, parse=parse)

    def or_none(self) -> Kind:
        """This kind, or "none", which is None."""
        return replace(self, metavar=f"{self.metavar}|none", toml=(*self.toml, str),
                       parse=lambda text: None if text.lower() == "none" else self.parse(text))

    def write(self, value: object) -> str:
        """`value`, or a tuple of them, as TOML has it; None as "none"."""
        if isinstance(value, tuple):
            return f"[{', '.join(map(self.write, value))}]"
        plain = "none" if value is None else self.unparse(value)
        # JSON's false and numbers are TOML's too; so are its strings, but for DEL, which JSON leaves as it is.
        return json.dumps(plain, ensure_ascii=False).replace("\x7f", "\\u007f")


def _reworded(message: str, text: str) -> str:
    """An error of a constructor's, for somebody who has called no constructor: without the argument's name and value,
    which are not what the user wrote, and are said already."""
    message = re.sub(r"^[\w.]*(=.*?)?: ", "", message, count=1)
    message = re.sub(f"^{re.escape(repr(text))}(( is no address( to listen on)?)?: | (?=has ))", "", message)
    return message.replace("pass ", "write ").replace("None", "none")


def choice(*choices: str) -> Kind:
    def parse(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError(f"write one of {', '.join(choices)}")
        return text.lower()

    return Kind("|".join(choices), parse, choices=choices)


def _number(text: str) -> int:
    if not re.fullmatch("-?[0-9]{1,18}", text):  # a negative one is refused by a check, which knows how many it may be
        raise ValueError("write a whole number")
    return int(text)


NUMBER = Kind("N", _number, (int,), unparse=int)


def whole(*, at_least: int) -> Kind:
    return NUMBER.checked(lambda value: whole_number("", value, at_least=at_least))


_UNITS = {"G": 1 << 30, "M": 1 << 20, "K": 1 << 10, "": 1}


def _size(text: str) -> int:
    if not (match := re.fullmatch("([0-9]{1,15})([KMG]?)", text.upper())):
        raise ValueError("write a number of bytes, such as 65536, 64K, 10M or 1G")
    return int(match[1]) * _UNITS[match[2]]


def _shortest_size(value: int) -> int | str:
    for letter, unit in _UNITS.items():
        if letter and value and value % unit == 0:
            return f"{value // unit}{letter}"
    return value


SIZE = Kind("SIZE", _size, (int, str), unparse=_shortest_size)
"""A number of bytes; K, M and G stand for 1024, 1024**2 and 1024**3 of them, as in nginx."""


def _decimal(text: str) -> float:
    # Not all that float() takes, as "nan", "1e9" or "1_0". A negative one is refused by a check, as in _number.
    if not re.fullmatch(r"-?([0-9]{1,15}(\.[0-9]*)?|\.[0-9]+)", text):
        raise ValueError("write a number, such as 30 or 0.5")
    return float(text)


DECIMAL = Kind("N", _decimal, (int, float), unparse=lambda value: int(value) if value.is_integer() else value)


def duration(*, zero: bool = False) -> Kind:
    """Seconds."""
    return replace(DECIMAL, metavar="SECONDS").checked(lambda value: seconds("", value, zero=zero))


def _boolean(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError("write true or false")


FLAG = Kind("", _boolean, (bool,), choices=("true", "false"), unparse=bool)


def _text(text: str) -> str:
    if not text or "\0" in text:
        raise ValueError("write something here, or leave it out")
    return text


TEXT = Kind("TEXT", _text)
FILE = Kind("FILE", _text, is_path=True)
DIRECTORY = Kind("DIR", _text, is_path=True)


@dataclass(frozen=True)
class Threads:
    """So many serve (None: without limit), and so many at least are there (None: as the model has it)."""

    most: int | None
    least: int | None = None

    def __str__(self) -> str:
        most = "none" if self.most is None else str(self.most)
        return most if self.least is None else f"{self.least}:{most}"


def _threads(text: str) -> Threads:
    if text.lower() == "none":
        return Threads(None)
    if not (match := re.fullmatch("(?:([1-9][0-9]{0,8}):)?([1-9][0-9]{0,8})", text)):
        raise ValueError("write a number of at least 1, such as 16, or two, such as 4:64 for at least 4 and at most 64")
    most, least = int(match[2]), match[1] and int(match[1])
    if least and least > most:
        raise ValueError(f"the smaller number comes first; write {most}:{least}")
    return Threads(most, least or None)


THREADS = Kind("N|MIN:MAX", _threads, (int, str), unparse=lambda value: int(text) if (text := str(value)).isdecimal()
               else text)


def _processes(text: str) -> int | str:
    if text.lower() == "auto":
        return "auto"
    if not re.fullmatch("-?[0-9]{1,9}", text):
        raise ValueError("write a number of at least 1, auto (one for each processor), or none")
    return int(text)


PROCESSES = Kind("N|auto", _processes, (int,), unparse=lambda value: value).checked(
    lambda value: value == "auto" or whole_number("", value, at_least=1)).or_none()


@dataclass(frozen=True)
class Offload:
    """Where handlers run: `count` threads or processes, or an executor that a function of the user's makes."""

    what: str
    """"threads", "processes", or the name of the function, "module:attribute"."""
    count: int | None = None

    def __str__(self) -> str:
        return self.what if self.count is None else f"{self.what}:{self.count}"


def _offload(text: str) -> Offload:
    what, _, rest = text.partition(":")
    if what.lower() in ("threads", "processes"):
        if not re.fullmatch("[1-9][0-9]{0,4}", rest):
            raise ValueError(f"say how many, as in {what.lower()}:16")
        return Offload(what.lower(), int(rest))
    if not what or not rest:
        raise ValueError("write threads:16, processes:4, none, or package.module:function for what makes an executor")
    return Offload(text)


OFFLOAD = Kind("EXECUTOR", _offload).or_none()


def _address(text: str) -> str:
    if "," in text and not text.startswith("unix:"):
        several = " ".join(f"--bind {each.strip()}" for each in text.split(",") if each.strip())
        raise ValueError(f"one address for each --bind: write {several or '--bind 127.0.0.1:8080'}; in a file, a list")
    if re.fullmatch("[0-9]+", text):  # it would be a host without a port, but it is a port that is meant
        raise ValueError(f'write "127.0.0.1:{text}" for this machine only, or ":{text}" for all its addresses')
    return text


def _control(text: str) -> str:
    if re.fullmatch("[0-9]+", text):
        raise ValueError(f'write "127.0.0.1:{text}", for this machine only')
    return text


ADDRESS = Kind("ADDRESS", _address).checked(parse_address)
CONTROL = Kind("ADDRESS", _control).checked(parse_address)
NETWORK = Kind("NETWORK", _text).checked(lambda text: Networks([text]))


def _violation(text: str) -> str:
    name = text.lower().replace("_", "-")
    if name not in VIOLATION.choices:
        raise ValueError(f"there is no such violation; there are {', '.join(VIOLATION.choices)}")
    return name


VIOLATION = Kind("VIOLATION", _violation, choices=tuple(each.lower().replace("_", "-") for each in
                                                        Violation.__members__))


def _url_path(text: str) -> str:
    if not re.fullmatch("/[!-~]*", text) or "?" in text or "#" in text:
        raise ValueError("write a path that begins with a slash, and has no query, such as /healthz")
    return text


def _script_name(text: str) -> str:
    if not re.fullmatch("(/[^/]+)+", text):  # PEP 3333: the slash behind it is the first of PATH_INFO
        raise ValueError("write a path that begins with a slash and does not end in one, such as /app")
    return text


URL_PATH = Kind("/PATH", _url_path)
SCRIPT_NAME = Kind("/PREFIX", _script_name)
