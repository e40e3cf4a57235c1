"""One route: which paths and which methods, and what answers them. The checks of what is registered are here.

Which route wins, and what is answered if none does, is the dispatcher's part.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from acceptor import Request, Response
from acceptor.messages import as_response

__all__ = ["Route", "RouteHandler", "check_callable", "checked_path", "compiled", "name_of"]

RouteHandler: TypeAlias = Callable[..., "Response | str | bytes"]
"""Takes a Request and, behind a regex, its groups."""

_METHOD = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Z]+")
"""RFC 9110 sections 5.6.2 and 9.1: a token, in capitals; lower case is allowed there, but has never been meant."""


@dataclass(frozen=True, slots=True)
class Route:
    """A route, as it was registered. Immutable, so any thread may use it."""

    kind: str
    """The method of Dispatcher it comes from: "route", "prefix" or "regex"."""
    pattern: str | re.Pattern[str]
    """Two routes of the same kind and pattern have the same paths."""
    named: frozenset[str]
    """The methods it was registered for."""
    methods: frozenset[str]
    """The methods it answers: those, and HEAD if GET is one of them (RFC 9110 section 9.3.2)."""
    handler: RouteHandler
    find: Callable[[str], re.Match[str] | bool | None]
    """Takes a path; something true if it is this route's."""
    unnamed: tuple[int, ...]
    """The numbers of the groups without a name, if it is a regex."""

    @classmethod
    def checked(cls, kind: str, pattern: str | re.Pattern[str], methods: Iterable[str], handler: RouteHandler,
                find: Callable[[str], re.Match[str] | bool | None]) -> Route:
        """A route, its methods and its handler checked: TypeError or ValueError if they will not do."""
        source = _source(kind, pattern)
        named = _checked_methods(source, methods)
        regex = pattern if isinstance(pattern, re.Pattern) else None
        unnamed = _unnamed_groups(regex) if regex else ()
        _check_handler(source, handler, unnamed, regex.groupindex if regex else {})
        return cls(kind, pattern, named, named | ({"HEAD"} if "GET" in named else set()), handler, find, unnamed)

    @property
    def source(self) -> str:
        """How it was written, for messages: "prefix('/static/')"."""
        return _source(self.kind, self.pattern)

    def check_beside(self, earlier: Route) -> None:
        """ValueError if `earlier` has the very same paths and takes a method that this was registered for."""
        both = self.named & earlier.methods
        if both and (self.kind, self.pattern) == (earlier.kind, earlier.pattern):
            hint = "; GET includes HEAD: add the route for HEAD first" if both == {"HEAD"} else ""
            raise ValueError(f"{self.source}: {', '.join(sorted(both))} goes to {name_of(earlier.handler)} already and "
                             f"would never come to {name_of(self.handler)}; change path or methods of one{hint}")

    def answer(self, request: Request, found: re.Match[str] | bool) -> Response:
        """Call the handler with what `find` returned; TypeError, naming the handler, if it returns no response."""
        handler = self.handler
        if isinstance(found, re.Match):
            return as_response(handler(request, *(found[i] for i in self.unnamed), **found.groupdict()), handler)
        return as_response(handler(request), handler)


def checked_path(source: str, path: object) -> str:
    """`path` if it can be a request's path, or begin one; else TypeError or ValueError."""
    if not isinstance(path, str):
        raise TypeError(f'{source}: pass a path, a str that begins with "/" (as a decorator: @app.route("/path"))')
    if not path.startswith("/"):
        raise ValueError(f'{source}: a path begins with "/"; write {"/" + path!r}')
    if "?" in path:
        raise ValueError(f"{source}: the query is not part of the path; write {path.partition('?')[0]!r}, and take the "
                         "rest from request.query or the parameters of an easy handler")
    if placeholder := re.search("<[^/]*>|{[^/]*}", path):
        raise ValueError(f"{source}: a path has no placeholders such as {placeholder[0]}; write "
                         '@app.regex(r"/users/(?P<name>[^/]+)")')
    if escape := re.search("%[0-9A-Fa-f]{2}", path):
        raise ValueError(f"{source}: paths are compared decoded; write the character instead of {escape[0]}")
    return path


def compiled(source: str, pattern: object) -> re.Pattern[str]:
    """`pattern` compiled, if it can match a path; else TypeError or ValueError."""
    if isinstance(pattern, str):
        try:
            pattern = re.compile(pattern)
        except (re.error, OverflowError) as error:  # OverflowError: a{99999999999}
            raise ValueError(f"{source}: no regular expression: {error}; escape what is meant literally") from None
    if not isinstance(pattern, re.Pattern) or not isinstance(pattern.pattern, str):
        raise TypeError(f"{source}: pass a regular expression for str, as a str or compiled")
    if (first := pattern.pattern.removeprefix("^")[:1]).isalnum():
        raise ValueError(f'{source}: it must match the whole path, which begins with "/", not with {first!r}; '
                         'put a "/" in front')
    return pattern


def check_callable(source: str, handler: RouteHandler) -> None:
    """TypeError if `handler` cannot be called, or is a coroutine function."""
    if not callable(handler):
        raise TypeError(f"{source}: handler={handler!r} ({type(handler).__name__}): pass a callable that takes a "
                        "Request")
    if inspect.iscoroutinefunction(handler):
        raise TypeError(f"{source}: {name_of(handler)} is `async def`; handlers run on threads and may block: write "
                        "`def`")


def name_of(handler: object) -> str:
    """What to call `handler` in a message."""
    return getattr(handler, "__qualname__", None) or repr(handler)


def _source(kind: str, pattern: str | re.Pattern[str]) -> str:
    return f"{kind}({pattern.pattern if isinstance(pattern, re.Pattern) else pattern!r})"


def _checked_methods(source: str, methods: object) -> frozenset[str]:
    """`methods` as a set, if they are methods; else TypeError or ValueError."""
    if isinstance(methods, (str, bytes)) or not isinstance(methods, Iterable):
        raise TypeError(f'{source}: methods={methods!r}: pass a list of str, such as methods=["GET", "POST"]')
    named = list(methods)
    if not named:
        raise ValueError(f"{source}: methods={methods!r}: nothing would be answered; name one, or leave it out for GET "
                         "and HEAD")
    for method in named:
        if not isinstance(method, str):
            raise TypeError(f'{source}: methods={methods!r}: {method!r} is no str; write it as "GET"')
        if not _METHOD.fullmatch(method):
            raise ValueError(f'{source}: methods={methods!r}: {method!r} is no method; pass single words in capitals, '
                             'such as methods=["GET", "POST"]')
    return frozenset(named)


def _unnamed_groups(regex: re.Pattern[str]) -> tuple[int, ...]:
    return tuple(i for i in range(1, regex.groups + 1) if i not in regex.groupindex.values())


def _check_handler(source: str, handler: RouteHandler, unnamed: Iterable[int], named: Mapping[str, int]) -> None:
    """TypeError if `handler` cannot be called with a request and these groups.

    What has no signature that Python knows of is believed to fit.
    """
    check_callable(source, handler)
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(None, *unnamed, **named)
    except TypeError as error:
        call = ", ".join(["request", *(f"<group {i}>" for i in unnamed), *(f"{name}=..." for name in named)])
        raise TypeError(f"{source}: it is called as {name_of(handler)}({call}), but takes {signature}: {error}; change "
                        "the one or the other") from None
