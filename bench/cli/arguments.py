"""Arguments of the command line, read and checked: each says in its error what to give instead."""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from bench.lab.record import runs_in

__all__ = ["TEXT", "checked", "json_and_seed", "milliseconds", "minutes", "number", "numbers", "on_off", "results"]

TEXT: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter}
"""For a parser whose description has lines of its own."""
_T = TypeVar("_T")


def checked(convert: Callable[[str], _T]) -> Callable[[str], _T]:
    """`convert`, whose ValueError is shown to whoever typed the argument."""
    def typed(text: str) -> _T:
        try:
            return convert(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
    return typed


def number(kind: type[int] | type[float], least: float, most: float) -> Callable[[str], Any]:
    """A number of that kind, from `least` to `most`."""
    def convert(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = kind(least - 1)
        if not least <= value <= most:
            whole = "whole " if kind is int else ""
            raise argparse.ArgumentTypeError(f"{text!r}: give a {whole}number from {least:g} to {most:g}")
        return value
    return convert


def numbers(kind: type[int] | type[float], least: float, most: float) -> Callable[[str], tuple[Any, ...]]:
    """Several of them, with commas between, each once."""
    one = number(kind, least, most)

    def convert(text: str) -> tuple[Any, ...]:
        return tuple(dict.fromkeys(map(one, text.split(","))))
    return convert


def milliseconds(text: str) -> tuple[float, ...]:
    """"none,0.1,1": sleeps, each once, ascending; none is 0."""
    def one(word: str) -> float:
        if word in ("none", "0"):
            return 0.0
        try:
            value = float(word)
        except ValueError:
            value = -1.0
        if not 0.001 <= value <= 10_000:
            raise argparse.ArgumentTypeError(f"{word!r}: give milliseconds from 0.001 to 10000, or none, separated by "
                                             "commas: none,0.1,1")
        return value
    return tuple(sorted({one(word) for word in text.split(",")}))


def on_off(text: str) -> tuple[bool, ...]:
    words = text.split(",")
    if not set(words) <= {"on", "off"}:
        raise argparse.ArgumentTypeError(f"{text!r}: give on, off, or on,off")
    return tuple(word == "on" for word in dict.fromkeys(words))


def minutes(text: str) -> float:
    """"90s", "30m", "2h": in seconds."""
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    try:
        value = float(text[:-1]) * units[text[-1:]]
    except (KeyError, ValueError):
        value = -1.0
    if not 1 <= value <= 7 * 24 * 3600:
        raise argparse.ArgumentTypeError(f"{text!r}: give a time such as 90s, 30m or 2h, up to a week")
    return value


def results(text: str) -> Path:
    """A folder with results."""
    folder = Path(text)
    if not runs_in(folder).is_file() or not (folder / "meta.json").is_file():
        raise argparse.ArgumentTypeError(f"{text!r} holds no runs.jsonl and meta.json: give a folder made by "
                                         "python -m bench run")
    return folder


def json_and_seed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, metavar="FILE", help="also keep all that was measured in FILE")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), metavar="N",
                        help="for the order of the runs (default: a new one each time)")
