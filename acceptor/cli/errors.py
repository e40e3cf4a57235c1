"""What goes wrong before there is a server, said to the person who started it. Never with a traceback of ours."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable

__all__ = ["CliError", "ConfigurationError", "StartError", "check_writable", "did_you_mean"]


class CliError(Exception):
    """Its text is for the user: what was found, and what to write instead."""

    exit_code: int


class ConfigurationError(CliError):
    """An option is wrong, wherever it stands."""

    exit_code = 2


class StartError(CliError):
    """What the options name cannot be had: the application, the address, the certificates."""

    exit_code = 1


def did_you_mean(word: str, known: Iterable[str], *, most: int = 3) -> str:
    """"; did you mean 'app'?", or "" if nothing `known` is like `word`. Names the `most` that are nearest."""
    near = difflib.get_close_matches(word, sorted(set(known)), n=most)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def check_writable(path: str, where: str) -> None:
    """StartError unless this user can write to the file, which is left as it is, or not made."""
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise StartError(f"{where} {path!r}: there is no directory {folder}; make it, or write elsewhere")
    if os.path.isdir(path):
        raise StartError(f"{where} {path!r}: this is a directory; name a file in it")
    if not os.access(path if os.path.exists(path) else folder, os.W_OK):
        raise StartError(f"{where} {path!r}: this user may not write there")
