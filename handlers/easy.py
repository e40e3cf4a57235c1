"""Easy handlers: functions whose parameters are the request's. After Hunchentoot's `define-easy-handler`.

    @app.easy("/greet")
    def greet(request: Request, name: str = "World", times: int = 1) -> str:
        return f"Hello, {name}!" * times

    GET /greet?name=Ada&times=3

Where values come from: the fields of the query and, with POST, PUT and PATCH, those of a form sent as
application/x-www-form-urlencoded. A body of any other type is left for the function to read. A field that is no
parameter is ignored. At most 1000 fields of each (more is answered 400), and a form of `form_limit` bytes (413).

What a parameter may be
    str           as sent, if it is UTF-8
    int           digits, perhaps with a sign: no spaces, no underscores; up to 400 characters
    float         digits, perhaps with a point and an exponent, as Python writes them; finite, up to 400 characters
    bool          true or false, 1 or 0, yes or no, on or off, in any case
    list[X]       X is one of those: a field that may be sent more than once; an empty list if it is not sent
    X | None      None if it is not sent; and also if it is sent empty, as browsers do, unless X is str or list[...]
    Request       the request

A parameter with a default takes it if the field is not sent. Whatever is wrong is answered 400, with a text that names
the parameter: one without default that is not sent, a value of another type, a field sent twice that is no list.
"""

from __future__ import annotations

from urllib.parse import parse_qsl

from acceptor import Handler, HTTPError, Request, Response
from handlers.bodies import read_whole
from handlers.parameters import parameters_of
from handlers.routes import RouteHandler, name_of

__all__ = ["FORM_LIMIT", "easy_handler"]

FORM_LIMIT = 1024 * 1024
"""Bytes of form that are read, unless `form_limit` says otherwise; a longer one is answered 413."""
_MAX_FIELDS = 1000


def easy_handler(function: RouteHandler, *, form_limit: int = FORM_LIMIT) -> Handler:
    """A handler that calls `function` with its parameters taken from the request. See the module.

    function: takes any of the parameters that the module lists, and returns what a handler returns.
    form_limit: bytes of form that are read, at least 1.

    TypeError if a parameter cannot be filled (no annotation, or one that is not in the list), or if `function` is not
    a function. The handler raises HTTPError 400 and 413, and what `function` raises; any number of threads may call it.
    """
    if not isinstance(form_limit, int) or isinstance(form_limit, bool):
        raise TypeError(f"form_limit={form_limit!r}: pass a whole number of bytes, not {type(form_limit).__name__}")
    if form_limit < 1:
        raise ValueError(f"form_limit={form_limit!r}: pass at least 1 byte; to read no form, do not answer POST, PUT "
                         "and PATCH")
    parameters = parameters_of(function)

    def handler(request: Request) -> Response | str | bytes:
        fields = _fields(request, form_limit)
        positional: list[object] = []
        named: dict[str, object] = {}
        for parameter in parameters:
            value = request if parameter.kind is None else parameter.value(fields.get(parameter.name, []))
            if parameter.keyword_only:
                named[parameter.name] = value
            else:
                positional.append(value)
        return function(*positional, **named)

    handler.__qualname__ = name_of(function)
    return handler


def _fields(request: Request, form_limit: int) -> dict[str, list[str]]:
    """The fields of the query and of the form, in the order in which they were sent; HTTPError 400 or 413."""
    pairs = _parsed("query", request.query)
    if request.method in ("POST", "PUT", "PATCH"):
        kind = request.headers.get("content-type", "").partition(";")[0]
        if kind.strip().lower() == "application/x-www-form-urlencoded":
            pairs += _parsed("form", read_whole(request, form_limit).decode(errors="surrogateescape"))
    fields: dict[str, list[str]] = {}
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    return fields


def _parsed(what: str, text: str) -> list[tuple[str, str]]:
    if not text:
        return []
    try:
        # What is not UTF-8 is kept apart, as lone surrogates, so that it matters only in a field that somebody wants.
        return parse_qsl(text, keep_blank_values=True, errors="surrogateescape", max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise HTTPError(400, f"The {what} has more than {_MAX_FIELDS} fields.") from None
