"""The arguments of Static, checked: each function returns what Static works with, or raises TypeError or ValueError."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping

from acceptor import Response
from handlers.directory import may_be_served
from handlers.representations import CODINGS
from handlers.routes import checked_path

__all__ = ["directory", "etag", "headers", "immutable", "index", "max_age", "precompressed", "prefix", "types"]

_OURS = re.compile("content-(?:encoding|length|location|range|type)|etag|last-modified|accept-ranges|location|"
                   "x-content-type-options", re.IGNORECASE)
"""Headers that say what is sent, which only Static knows."""
_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+(?:[ \t]*;[\x20-\x7e]*[\x21-\x7e])?", re.ASCII)
"""RFC 6838 section 4.2, and whatever parameters."""
_A_YEAR = 31536000


def directory(path: str | os.PathLike[str]) -> str:
    """Its absolute path, with links in it as they are."""
    try:
        name = os.fspath(path)
    except TypeError:
        name = None
    if not isinstance(name, str):
        raise TypeError(f"directory={path!r}: pass the path of a directory, a str or a Path")
    absolute = os.path.abspath(name)
    if not os.path.isdir(absolute):
        what = "is no directory" if os.path.exists(absolute) else "does not exist"
        raise ValueError(f"directory={path!r}: {absolute} {what}; pass the directory that holds the files")
    return absolute


def prefix(path: str) -> str:
    if not isinstance(path, str):
        raise TypeError(f'prefix={path!r}: pass what the paths begin with, as "/static/"')
    if not path.endswith("/"):
        raise ValueError(f'prefix={path!r}: it ends with "/", so that "{path}-other" is something else; write '
                         f'{path + "/"!r}')
    return checked_path(f"prefix={path!r}", path)


def index(names: Iterable[str]) -> tuple[str, ...]:
    checked = _words("index", names, '["index.html"]')
    for name in checked:
        if not may_be_served(name):
            raise ValueError(f'index={names!r}: {name!r} is no name of a file here; pass names, as ["index.html"]')
    return checked


def precompressed(codings: Iterable[str]) -> tuple[str, ...]:
    checked = _words("precompressed", codings, '["br", "gzip"]')
    for coding in checked:
        if coding not in CODINGS:
            raise ValueError(f"precompressed={codings!r}: {coding!r} is not among {', '.join(map(repr, CODINGS))}")
    return checked


def max_age(seconds: int | None) -> int | None:
    if seconds is not None and (not isinstance(seconds, int) or isinstance(seconds, bool)):
        raise TypeError(f"max_age={seconds!r}: pass a whole number of seconds, or None")
    if seconds is not None and not 0 <= seconds <= _A_YEAR:
        raise ValueError(f"max_age={seconds!r}: pass a number of seconds from 0 to {_A_YEAR}, a year")
    return seconds


def immutable(which: str | re.Pattern[str] | Callable[[str], object] | None) -> Callable[[str], object] | None:
    """A function that tells whether the file at a path is."""
    if isinstance(which, str):
        try:
            which = re.compile(which)
        except re.error as error:
            raise ValueError(f"immutable={which!r}: no regular expression: {error}") from None
    if isinstance(which, re.Pattern) and isinstance(which.pattern, str):
        return which.search
    if which is None or callable(which):
        return which
    raise TypeError(f"immutable={which!r}: pass a regular expression for str, or a function that takes a path and "
                    "tells whether the file there never changes")


def types(kinds: Mapping[str, str] | None) -> dict[str, str]:
    if not isinstance(kinds, Mapping | None):
        raise TypeError(f'types={kinds!r}: pass a mapping from extensions to media types, as {{".foo": "text/x-foo"}}')
    for extension, kind in (kinds or {}).items():
        if not isinstance(extension, str) or not isinstance(kind, str):
            raise TypeError(f'types: {extension!r}: {kind!r}: write two str, as ".foo": "text/x-foo"')
        if (extension and not extension.startswith(".")) or "." in extension[1:]:
            raise ValueError(f'types: {extension!r}: pass what os.path.splitext finds, as ".foo"; "" for none')
        if not _MEDIA_TYPE.fullmatch(kind):
            raise ValueError(f'types: {extension!r}: {kind!r} is no media type; write one as "text/x-foo"')
    return dict(kinds or {})


def headers(more: Mapping[str, str] | None) -> list[tuple[str, str]]:
    if not isinstance(more, Mapping | None):
        raise TypeError(f'headers={more!r}: pass a mapping, as {{"Access-Control-Allow-Origin": "*"}}')
    try:
        Response(b"", headers=more or {})
    except (TypeError, ValueError) as error:
        raise type(error)(f"headers={more!r}: {error}") from None
    for name in more or {}:
        if _OURS.fullmatch(name):
            raise ValueError(f"headers: {name!r} says what is sent, which Static does by itself; leave it out")
    return list((more or {}).items())


def etag(function: Callable[[os.stat_result], str]) -> Callable[[os.stat_result], str]:
    if not callable(function):
        raise TypeError(f"etag={function!r}: pass a function that makes a str of an os.stat_result")
    return function


def _words(name: str, values: Iterable[str], example: str) -> tuple[str, ...]:
    """`values`, if they are str, and not one str."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise TypeError(f"{name}={values!r}: pass a list of str, as {example}")
    checked = tuple(values)
    for value in checked:
        if not isinstance(value, str):
            raise TypeError(f"{name}={values!r}: {value!r} is no str; pass a list of str, as {example}")
    return checked
