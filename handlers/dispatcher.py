"""Which handler answers which request: by path and method, in the order of the routes.

    app = Dispatcher()

    @app.route("/users", methods=["GET", "POST"])       # this path
    def users(request): ...

    @app.prefix("/static/")                             # every path that begins so
    def static(request): ...

    @app.regex(r"/users/(?P<name>[a-z]+)")              # every path that matches as a whole
    def user(request, name): ...

    @app.easy("/greet")                                 # see handlers.easy
    def greet(name: str = "World", times: int = 1): ...

    app.mount("/api", api)                              # the routes of another Dispatcher, below a path

    Acceptor(app, taskmaster=...).serve_forever()

The rules
  - A path is compared decoded ("/café") and without its query. Nothing else is done to it: "/users" and "/users/" are
    two paths, and ".." and "//" are what a handler of files has to look out for.
  - Routes are tried in the order in which they were added. The first that has both path and method answers.
  - No route has the path: 404. Some have, but none of them the method: 405 with Allow (RFC 9110 section 15.5.6), the
    methods of all of them together.
  - A route with GET has HEAD (RFC 9110 section 9.3.2): the same handler answers, and the server drops the body. OPTIONS
    is answered with 204 and Allow, unless a route names it; so is `OPTIONS *`, for all routes.
  - A regex' groups go to the handler: those without a name by position, in order, those with one by keyword. A group
    that took no part is None.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from acceptor import Request, Response
from handlers.easy import FORM_LIMIT, easy_handler
from handlers.routes import Route, RouteHandler, checked_path, compiled

__all__ = ["Dispatcher"]

_GET = ("GET",)
_NOT_FOUND = Response("Not Found\n", 404)

_H = TypeVar("_H", bound=RouteHandler)


@dataclass(frozen=True, slots=True)
class _Mount:
    """Another dispatcher, below a path without "/" at its end."""

    path: str
    dispatcher: Dispatcher


class Dispatcher:
    """A handler made of handlers. See the module for the rules.

    Any number of threads may call it, and any may add routes meanwhile; the next request sees them. What a handler
    raises passes through. Wrong arguments raise TypeError or ValueError when a route is added, and then it is not.
    """

    def __init__(self) -> None:
        # Guarded by self._adding.
        self._adding = threading.Lock()
        # Replaced whole under self._adding, and so read without it.
        self._routes: tuple[Route | _Mount, ...] = ()

    def __call__(self, request: Request) -> Response:
        """Answer `request` by the first route that has its path and method; else 404, 405 or 204."""
        method = request.method
        allowed: set[str] = set()
        for route, found in self._matching(request.path):
            if method in route.methods:
                return route.answer(request, found)
            allowed |= route.methods
        if method == "OPTIONS" and request.target == "*":  # RFC 9110 section 9.3.7: the server as a whole
            allowed = self._every_method()
        elif not allowed:
            return _NOT_FOUND
        headers = {"Allow": ", ".join(sorted(allowed | {"OPTIONS"}))}
        if method == "OPTIONS":
            return Response(b"", 204, headers)
        return Response("Method Not Allowed\n", 405, headers)

    def __repr__(self) -> str:
        return f"<Dispatcher with {len(self._routes)} route{'s' * (len(self._routes) != 1)}>"

    # Decorators. Each returns the function as it was, so that it can be called, tested and decorated again. The path is
    # checked before there is a function: `@app.route` without parentheses must fail, not lose a handler.

    def route(self, path: str, *, methods: Iterable[str] = _GET) -> Callable[[_H], _H]:
        """`path` goes to the decorated handler."""
        exact = checked_path(f"route({path!r})", path)
        return lambda handler: self._add("route", exact, methods, handler, exact.__eq__)

    def prefix(self, path: str, *, methods: Iterable[str] = _GET) -> Callable[[_H], _H]:
        """Every path that begins with `path` goes to the decorated handler: "/a" begins "/ab" as well."""
        begin = checked_path(f"prefix({path!r})", path)
        return lambda handler: self._add("prefix", begin, methods, handler, lambda path: path.startswith(begin))

    def regex(self, pattern: str | re.Pattern[str], *, methods: Iterable[str] = _GET) -> Callable[[_H], _H]:
        """Every path that `pattern` matches as a whole goes to the decorated handler, with the groups."""
        regex = compiled(f"regex({pattern!r})", pattern)
        return lambda handler: self._add("regex", regex, methods, handler, regex.fullmatch)

    def easy(self, path: str, *, methods: Iterable[str] = _GET, form_limit: int = FORM_LIMIT) -> Callable[[_H], _H]:
        """`path` goes to the decorated function, its parameters taken from the query and the form: `handlers.easy`."""
        add = self.route(path, methods=methods)

        def decorate(function: _H) -> _H:
            add(easy_handler(function, form_limit=form_limit))
            return function

        return decorate

    # The same for handlers that exist already, which are returned.

    def add_route(self, path: str, handler: _H, *, methods: Iterable[str] = _GET) -> _H:
        """As `route`."""
        return self.route(path, methods=methods)(handler)

    def add_prefix(self, path: str, handler: _H, *, methods: Iterable[str] = _GET) -> _H:
        """As `prefix`."""
        return self.prefix(path, methods=methods)(handler)

    def add_regex(self, pattern: str | re.Pattern[str], handler: _H, *, methods: Iterable[str] = _GET) -> _H:
        """As `regex`."""
        return self.regex(pattern, methods=methods)(handler)

    def add_easy(self, path: str, function: _H, *, methods: Iterable[str] = _GET, form_limit: int = FORM_LIMIT) -> _H:
        """As `easy`."""
        return self.easy(path, methods=methods, form_limit=form_limit)(function)

    def mount(self, path: str, dispatcher: Dispatcher) -> None:
        """Try the routes of `dispatcher` here, as though they stood here with `path` in front of theirs.

        A "/" at the end of `path` means nothing: the paths behind it begin with one. `request.path` stays what it is.
        """
        source = f"mount({path!r})"
        begin = checked_path(source, path).rstrip("/")
        if not isinstance(dispatcher, Dispatcher):
            raise TypeError(f"{source}: {dispatcher!r} is no Dispatcher; give a handler to prefix({path!r})")
        if any(each is self for each in dispatcher._all()):
            raise ValueError(f"{source}: {dispatcher!r} is this one, or holds it; a dispatcher cannot be inside itself")
        with self._adding:
            self._routes += (_Mount(begin, dispatcher),)

    def _add(self, kind: str, pattern: str | re.Pattern[str], methods: Iterable[str], handler: _H,
             find: Callable[[str], re.Match[str] | bool | None]) -> _H:
        if isinstance(handler, Dispatcher):
            raise TypeError(f'{kind}({pattern!r}): to put a Dispatcher below a path, write mount("/path", dispatcher)')
        route = Route.checked(kind, pattern, methods, handler, find)
        with self._adding:
            for earlier in self._routes:
                if isinstance(earlier, Route):
                    route.check_beside(earlier)
            self._routes += (route,)
        return handler

    def _matching(self, path: str) -> Iterator[tuple[Route, re.Match[str] | bool]]:
        """The routes that have `path`, in order, with what their `find` returned."""
        for route in self._routes:
            if isinstance(route, Route):
                if found := route.find(path):
                    yield route, found
            elif path.startswith(route.path) and path[len(route.path):len(route.path) + 1] == "/":
                yield from route.dispatcher._matching(path[len(route.path):])

    def _all(self) -> Iterator[Dispatcher]:
        """This dispatcher and all that are mounted in it."""
        yield self
        for route in self._routes:
            if isinstance(route, _Mount):
                yield from route.dispatcher._all()

    def _every_method(self) -> set[str]:
        return {method for each in self._all() for route in each._routes if isinstance(route, Route)
                for method in route.methods}
