"""The parameters of an easy handler's function: what may be sent for each, and what it becomes.

`handlers.easy` says what is promised; here it is done. Nothing here reads a request.
"""

from __future__ import annotations

import inspect
import math
import re
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass

from acceptor import HTTPError, Request
from handlers.routes import RouteHandler, check_callable, name_of

__all__ = ["Parameter", "parameters_of"]

_LONGEST_NUMBER = 400
"""Characters. The largest float has 309 digits; and the time that int() takes goes with the square of the length."""
_SHOWN = 40
"""Characters of a wrong value that the answer repeats."""
_REQUIRED = inspect.Parameter.empty


def _text(value: str) -> str:
    value.encode()  # ValueError if it was not UTF-8: lone surrogates, see handlers.easy
    return value


_INT = re.compile(r"[+-]?[0-9]+")
_FLOAT = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


def _int(value: str) -> int:
    if len(value) > _LONGEST_NUMBER or not _INT.fullmatch(value):  # int() takes "1_0", " 1" and other scripts, too
        raise ValueError
    return int(value)


def _float(value: str) -> float:
    if len(value) > _LONGEST_NUMBER or not _FLOAT.fullmatch(value) or not math.isfinite(number := float(value)):
        raise ValueError
    return number


def _bool(value: str) -> bool:
    if (word := value.lower()) in ("true", "1", "yes", "on"):
        return True
    if word in ("false", "0", "no", "off"):
        return False
    raise ValueError


@dataclass(frozen=True, slots=True)
class _Kind:
    """What one value of a parameter may be."""

    expected: str
    """For the answer: "a whole number"."""
    convert: Callable[[str], object]
    """ValueError if the text is not of this kind."""


_KINDS = {
    str: _Kind("text in UTF-8", _text),
    int: _Kind("a whole number", _int),
    float: _Kind("a number", _float),
    bool: _Kind("true or false", _bool),
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of an easy handler's function."""

    name: str
    kind: _Kind | None
    """None: it takes the request."""
    many: bool
    optional: bool
    default: object
    """_REQUIRED: it has none."""
    keyword_only: bool

    def value(self, sent: list[str]) -> object:
        """What to pass, given the values `sent`; HTTPError 400 if they will not do."""
        assert self.kind is not None
        if not sent:
            if self.default is not _REQUIRED:
                return self.default
            if self.optional:
                return None
            if self.many:
                return []
            raise HTTPError(400, f"Parameter {self.name}: missing; expected {self.kind.expected}.")
        if self.many:
            return [self._converted(self.kind, text) for text in sent]
        if len(sent) > 1:
            raise HTTPError(400, f"Parameter {self.name}: sent {len(sent)} times; expected {self.kind.expected}, once.")
        if self.optional and not sent[0] and self.kind is not _KINDS[str]:
            return None
        return self._converted(self.kind, sent[0])

    def _converted(self, kind: _Kind, text: str) -> object:
        try:
            return kind.convert(text)
        except ValueError:
            # ascii(), so that the answer holds no control byte, and nothing that a terminal or a log would act on.
            shown = ascii(text[:_SHOWN]) + ("..." if len(text) > _SHOWN else "")
            raise HTTPError(400, f"Parameter {self.name}: expected {kind.expected}, got {shown}.") from None


def parameters_of(function: RouteHandler) -> list[Parameter]:
    """The parameters of `function`, in order; TypeError if one of them cannot be filled from a request."""
    where = f"easy handler {name_of(function)}"
    check_callable(where, function)
    if not (inspect.isfunction(function) or inspect.ismethod(function)):
        raise TypeError(f"{where}: pass a function; of a {type(function).__name__} the parameters cannot be read")
    try:
        annotations = typing.get_type_hints(function)
    except Exception as error:  # an annotation that is a str is code
        raise TypeError(f"{where}: an annotation cannot be read: {error}; import what it names where the function's "
                        "module sees it, not under TYPE_CHECKING") from None
    return [_parameter(f"{where}, parameter `{each}`", each, annotations)
            for each in inspect.signature(function).parameters.values()]


def _parameter(where: str, given: inspect.Parameter, annotations: dict[str, object]) -> Parameter:
    if given.kind in (given.VAR_POSITIONAL, given.VAR_KEYWORD):
        raise TypeError(f"{where}: name each parameter; what has no name here can be read from request.query")
    if given.name not in annotations:
        hint = "Request" if given.name == "request" else "str"
        raise TypeError(f"{where}: annotate it, as in `{given.name}: {hint}`")
    annotation = annotations[given.name]
    keyword_only = given.kind is given.KEYWORD_ONLY
    if annotation is Request:
        return Parameter(given.name, None, False, False, given.default, keyword_only)
    inner, optional = _without_none(annotation)
    many = typing.get_origin(inner) is list
    if many:
        inner = next(iter(typing.get_args(inner)), None)
    kind = _KINDS.get(inner) if isinstance(inner, type) else None
    if kind is None:
        raise TypeError(f"{where}: annotate it with str, int, float, bool, list[...] of one of them, any of those "
                        "| None, or Request")
    return Parameter(given.name, kind, many, optional, given.default, keyword_only)


def _without_none(annotation: object) -> tuple[object, bool]:
    """X and True for `X | None`; else the annotation itself and False."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        inner = [each for each in typing.get_args(annotation) if each is not type(None)]
        if len(inner) == 1:
            return inner[0], True
    return annotation, False
