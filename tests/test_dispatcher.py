"""The dispatcher: which route answers, what is answered if none does, and what is refused when a route is added."""

from __future__ import annotations

import functools
import http.client
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from acceptor import Acceptor, HTTPError, Request, Response
from handlers import Dispatcher, echo, hello
from taskmaster import PooledTaskmaster
from tests.test_handlers import FORM, make_request


def saying(text: str) -> Callable[[Request], str]:
    """A handler that answers `text`."""
    return lambda request: text


def ask(app: Dispatcher, target: str, method: str = "GET") -> tuple[int, str]:
    """Status and body of the answer."""
    response = app(make_request(target, method))
    assert isinstance(response.body, bytes), f"{method} {target}: {response!r}"
    return response.status, response.body.decode()


def allow(response: Response) -> list[str]:
    """The methods in Allow, in order."""
    values = [value.decode() for name, value in response.headers if name == b"allow"]
    assert len(values) == 1, f"{response!r} should have one Allow: {response.headers}"
    return values[0].split(", ")


# Which route has a path.

@pytest.mark.parametrize(("target", "status"), [
    ("/users", 200), ("/users?page=2", 200), ("/users?", 200), ("/user%73", 200),
    ("/", 404), ("/users/", 404), ("/users/ada", 404), ("/Users", 404), ("//users", 404), ("/a/../users", 404),
    ("users", 404), ("*", 404), ("", 404),
])
def test_an_exact_route_has_its_decoded_path_and_no_other(target: str, status: int) -> None:
    app = Dispatcher()
    app.add_route("/users", hello)
    assert ask(app, target)[0] == status


def test_an_exact_route_is_written_decoded() -> None:
    app = Dispatcher()
    app.add_route("/café au lait", hello)
    assert ask(app, "/caf%C3%A9%20au%20lait") == (200, "Hello, World")


@pytest.mark.parametrize(("target", "status"), [
    ("/static/", 200), ("/static/a/b.css?v=1", 200), ("/static/../secret", 200), ("/stati%63/x", 200),
    ("/static", 404), ("/", 404), ("/x/static/", 404),
])
def test_a_prefix_has_every_path_that_begins_with_it(target: str, status: int) -> None:
    app = Dispatcher()
    app.add_prefix("/static/", hello)
    assert ask(app, target)[0] == status


@pytest.mark.parametrize("pattern", ["/users/[a-z]+", "^/users/[a-z]+$", re.compile("/USERS/[a-z]+", re.IGNORECASE)])
@pytest.mark.parametrize(("target", "status"), [
    ("/users/ada", 200), ("/users/ada?x", 200),
    ("/users/ada9", 404), ("/users/ada/", 404), ("/x/users/ada", 404), ("/users/ada%0A", 404), ("/users/", 404),
])
def test_a_regex_has_the_paths_that_it_matches_as_a_whole(pattern: Any, target: str, status: int) -> None:
    app = Dispatcher()
    app.add_regex(pattern, hello)
    assert ask(app, target)[0] == status


def test_a_dispatcher_without_routes_finds_nothing() -> None:
    assert ask(Dispatcher(), "/") == (404, "Not Found\n")


# What a handler is given, and what it may answer.

def test_a_handler_is_given_the_request_itself() -> None:
    app = Dispatcher()
    seen: list[Request] = []

    @app.prefix("/a")
    def handler(request: Request) -> str:
        seen.append(request)
        return ""

    request = make_request("/abc?d")
    app(request)
    assert len(seen) == 1
    assert seen[0] is request
    assert request.path == "/abc"


@pytest.mark.parametrize(("pattern", "target", "args", "kwargs"), [
    ("/a", "/a", (), {}),
    (r"/(\d+)/(\w+)", "/12/xy", ("12", "xy"), {}),
    (r"/(?P<year>\d+)/(?P<name>\w+)", "/12/xy", (), {"year": "12", "name": "xy"}),
    (r"/(\d+)/(?P<name>\w+)(\.html)", "/12/xy.html", ("12", ".html"), {"name": "xy"}),
    (r"/(?:\d+)/(\w+)", "/12/xy", ("xy",), {}),
    (r"/(a)?(?P<b>b)?", "/", (None,), {"b": None}),
    (r"/(.*)", "/caf%C3%A9", ("café",), {}),
    (r"/(?P<handler>x)", "/x", (), {"handler": "x"}),
])
def test_groups_without_a_name_go_by_position_and_those_with_one_by_keyword(
        pattern: str, target: str, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
    app = Dispatcher()
    seen: list[object] = []

    @app.regex(pattern)
    def handler(request: Request, *args: object, **kwargs: object) -> str:
        seen.extend([args, kwargs])
        return ""

    assert ask(app, target)[0] == 200
    assert seen == [args, kwargs]


@pytest.mark.parametrize(("answer", "body"), [("text", b"text"), (b"bytes", b"bytes"), (Response("x", 201), b"x")])
def test_a_handler_may_answer_str_bytes_or_a_response(answer: Any, body: bytes) -> None:
    app = Dispatcher()
    app.add_route("/", lambda request: answer)
    response = app(make_request("/"))
    assert response.body == body
    assert response.status == getattr(answer, "status", 200)


def test_a_handler_that_answers_something_else_is_named() -> None:
    app = Dispatcher()

    @app.route("/")
    def forgetful(request: Request) -> Any:
        "No return."

    with pytest.raises(TypeError, match=r"handler .*forgetful returned None .*did you forget `return`"):
        app(make_request("/"))


@pytest.mark.parametrize("error", [HTTPError(418), ValueError("x"), SystemExit(1)])
def test_what_a_handler_raises_passes_through(error: BaseException) -> None:
    app = Dispatcher()

    @app.route("/")
    def handler(request: Request) -> str:
        raise error

    with pytest.raises(type(error)) as caught:
        app(make_request("/"))
    assert caught.value is error


def test_decorators_leave_the_function_as_it_was_so_that_they_can_be_stacked() -> None:
    app = Dispatcher()

    def function(request: Request, name: str = "nobody") -> str:
        return name

    decorated = app.route("/a")(app.prefix("/b/")(app.regex("/c/(?P<name>.*)")(function)))
    assert decorated is function
    assert app.add_easy("/d", function) is function
    answers = {target: ask(app, target)[1] for target in ("/a", "/b/x", "/c/ada", "/d?name=bob")}
    assert answers == {"/a": "nobody", "/b/x": "nobody", "/c/ada": "ada", "/d?name=bob": "bob"}


# Methods.

@pytest.mark.parametrize(("methods", "accepted"), [
    (["GET"], ["GET", "HEAD"]), (["POST"], ["POST"]), (["GET", "POST"], ["GET", "HEAD", "POST"]), (["HEAD"], ["HEAD"]),
    ({"PURGE", "X-Y"}, ["PURGE", "X-Y"]), (("PUT", "PUT"), ["PUT"]), (iter(["DELETE"]), ["DELETE"]),
])
def test_a_route_takes_the_methods_it_names_and_head_if_it_takes_get(methods: Any, accepted: list[str]) -> None:
    app = Dispatcher()
    app.add_route("/", saying("yes"), methods=methods)
    for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "PURGE", "X-Y", "get", "TRACE", "CONNECT", "G"]:
        expected = (200, "yes") if method in accepted else (405, "Method Not Allowed\n")
        assert ask(app, "/", method) == expected, method


def test_a_route_takes_get_and_head_unless_it_says_otherwise() -> None:
    app = Dispatcher()
    for add, text in [(app.route("/a"), "a"), (app.prefix("/b"), "b"), (app.regex("/c"), "c")]:
        add(saying(text))
    app.add_easy("/d", lambda: "d")
    for path in ("/a", "/b", "/c", "/d"):
        answers = [ask(app, path, method)[0] for method in ("GET", "HEAD", "POST")]
        assert answers == [200, 200, 405], path


def test_the_handler_of_get_is_told_that_it_is_head() -> None:
    app = Dispatcher()
    app.add_route("/", lambda request: request.method)
    assert ask(app, "/", "HEAD") == (200, "HEAD")


def test_a_route_for_head_goes_before_the_one_for_get_that_would_take_it() -> None:
    app = Dispatcher()
    app.add_route("/", saying("head"), methods=["HEAD"])
    app.add_route("/", saying("get"))
    assert ask(app, "/", "HEAD") == (200, "head")
    assert ask(app, "/", "GET") == (200, "get")


def test_a_method_that_no_route_of_the_path_takes_is_answered_with_all_that_some_take() -> None:
    app = Dispatcher()
    app.add_route("/a", hello)
    app.add_prefix("/a", hello, methods=["POST", "PUT"])
    app.add_regex("/b", hello, methods=["DELETE"])
    response = app(make_request("/a", "DELETE"))
    assert response.status == 405
    assert allow(response) == ["GET", "HEAD", "OPTIONS", "POST", "PUT"]


def test_a_later_route_answers_if_those_before_have_only_the_path() -> None:
    app = Dispatcher()
    app.add_route("/a", saying("exact"))
    app.add_prefix("/", saying("prefix"), methods=["POST"])
    assert ask(app, "/a", "POST") == (200, "prefix")


def test_options_is_answered_with_the_methods_and_no_body() -> None:
    app = Dispatcher()
    app.add_route("/a", hello, methods=["POST"])
    app.add_route("/b", hello)
    response = app(make_request("/a", "OPTIONS"))
    assert (response.status, response.body) == (204, b"")
    assert allow(response) == ["OPTIONS", "POST"]
    assert ask(app, "/c", "OPTIONS")[0] == 404


def test_a_route_may_answer_options_itself() -> None:
    app = Dispatcher()
    app.add_prefix("/", saying("cors"), methods=["OPTIONS"])
    app.add_route("/a", hello)
    assert ask(app, "/a", "OPTIONS") == (200, "cors")
    assert allow(app(make_request("/a", "PUT"))) == ["GET", "HEAD", "OPTIONS"]


def test_options_for_the_server_as_a_whole_is_answered_with_every_method_there_is() -> None:
    app, api = Dispatcher(), Dispatcher()
    app.add_route("/a", hello)
    app.mount("/api", api)
    api.add_route("/b", echo, methods=["POST"])
    response = app(make_request("*", "OPTIONS"))
    assert response.status == 204
    assert allow(response) == ["GET", "HEAD", "OPTIONS", "POST"]
    assert ask(app, "*", "GET")[0] == 404
    assert allow(Dispatcher()(make_request("*", "OPTIONS"))) == ["OPTIONS"]


# Dispatchers inside dispatchers.

def test_mounted_routes_are_tried_as_though_they_stood_there() -> None:
    app, api = Dispatcher(), Dispatcher()
    app.add_route("/api/first", saying("before"))
    app.mount("/api", api)
    app.add_prefix("/api", saying("after"))
    api.add_route("/first", saying("never"))
    api.add_route("/users", saying("users"))
    api.add_route("/", saying("index"))
    api.add_regex("/(?P<n>[0-9]+)", lambda request, n: f"{n} of {request.path}")
    assert ask(app, "/api/first") == (200, "before")
    assert ask(app, "/api/users") == (200, "users")
    assert ask(app, "/api/") == (200, "index")
    assert ask(app, "/api/12") == (200, "12 of /api/12")
    assert ask(app, "/api/none") == (200, "after"), "what the mounted one has not got is tried behind it"
    assert ask(app, "/api") == (200, "after"), "a mounted path begins with a slash"
    assert ask(app, "/apiusers") == (200, "after")
    assert ask(app, "/users") == (404, "Not Found\n")


def test_methods_of_mounted_routes_count_with_the_others() -> None:
    app, api = Dispatcher(), Dispatcher()
    app.mount("/api", api)
    app.add_route("/api/a", hello, methods=["PUT"])
    api.add_route("/a", hello, methods=["POST"])
    assert ask(app, "/api/a", "PUT")[0] == 200
    assert allow(app(make_request("/api/a", "GET"))) == ["OPTIONS", "POST", "PUT"]


@pytest.mark.parametrize(("outer", "inner"), [("/a", "/b"), ("/a/", "/b/"), ("/a", "/b/c"), ("/", "/a/b"),
                                              ("/é", "/ü")])
def test_mounts_may_be_nested_and_a_slash_at_their_end_means_nothing(outer: str, inner: str) -> None:
    app, middle, innermost = Dispatcher(), Dispatcher(), Dispatcher()
    app.mount(outer, middle)
    middle.mount(inner, innermost)
    innermost.add_route("/x", saying("found"))
    assert ask(app, outer.rstrip("/") + inner.rstrip("/") + "/x") == (200, "found")


def test_one_dispatcher_may_be_mounted_in_two_places() -> None:
    app, api = Dispatcher(), Dispatcher()
    app.mount("/v1", api)
    app.mount("/v2", api)
    api.add_route("/a", lambda request: request.path)
    assert [ask(app, path)[1] for path in ("/v1/a", "/v2/a")] == ["/v1/a", "/v2/a"]


def test_a_dispatcher_cannot_be_mounted_inside_itself() -> None:
    outer, middle, inner = Dispatcher(), Dispatcher(), Dispatcher()
    outer.mount("/a", middle)
    middle.mount("/b", inner)
    for dispatcher in (outer, middle, inner):
        with pytest.raises(ValueError, match="cannot be inside itself"):
            inner.mount("/c", dispatcher)
    assert ask(outer, "/a/b/c/x")[0] == 404


@pytest.mark.parametrize("kind", ["route", "prefix", "regex"])
def test_a_dispatcher_is_not_taken_for_a_handler(kind: str) -> None:
    with pytest.raises(TypeError, match=r'write mount\("/path", dispatcher\)'):
        getattr(Dispatcher(), kind)("/a")(Dispatcher())


def test_only_a_dispatcher_can_be_mounted() -> None:
    app: Any = Dispatcher()
    with pytest.raises(TypeError, match=r"no Dispatcher; give a handler to prefix\('/a'\)"):
        app.mount("/a", hello)
    with pytest.raises(ValueError, match='a path begins with "/"'):
        app.mount("a", Dispatcher())


# What is refused when a route is added.

def first(request: Request) -> str:
    return "first"


def second(request: Request) -> str:
    return "second"


@pytest.mark.parametrize(("kind", "pattern"), [("route", "/a"), ("prefix", "/a/"), ("regex", "/a(?:b)*" + "c" * 300)])
def test_the_same_path_and_method_twice_is_refused_with_both_names_and_the_first_stays(kind: str, pattern: str) -> None:
    app = Dispatcher()
    getattr(app, kind)(pattern, methods=["GET", "POST"])(first)
    with pytest.raises(ValueError, match=re.escape(f"{kind}({pattern!r}): POST goes to first already")) as caught:
        getattr(app, kind)(pattern, methods=["POST", "PUT"])(second)
    assert "never come to second" in str(caught.value)
    getattr(app, kind)(pattern, methods=["PUT"])(second)
    target = pattern.replace("(?:b)*", "")
    assert [ask(app, target, method)[1] for method in ("GET", "POST", "PUT")] == ["first", "first", "second"]


def test_head_behind_get_is_refused_with_what_to_do() -> None:
    app = Dispatcher()
    app.add_route("/a", first)
    with pytest.raises(ValueError, match=r"HEAD goes to first already.*: add the route for HEAD first"):
        app.add_route("/a", second, methods=["HEAD"])


def test_an_easy_handler_is_a_route_like_any_other() -> None:
    app = Dispatcher()
    app.add_easy("/a", lambda: "easy")
    with pytest.raises(ValueError, match=r"route\('/a'\): GET goes to .*<lambda> already"):
        app.add_route("/a", first)


def test_paths_that_only_overlap_are_not_refused() -> None:
    app = Dispatcher()
    app.add_prefix("/a", first)
    app.add_route("/a", second)
    app.add_regex("/a", second)
    app.add_regex(re.compile("/a", re.IGNORECASE), second)
    long = "c" * 300  # more than the repr of a compiled pattern shows
    app.add_regex(f"/{long}d", first)
    app.add_regex(f"/{long}e", second)
    assert ask(app, "/a") == (200, "first")
    assert ask(app, f"/{long}e") == (200, "second")


@pytest.mark.parametrize("kind", ["route", "prefix", "easy", "mount"])
@pytest.mark.parametrize(("path", "error", "text"), [
    ("users", ValueError, "write '/users'"),
    ("", ValueError, "write '/'"),
    ("/users?page=1", ValueError, "the query is not part of the path; write '/users'"),
    ("/caf%C3%A9", ValueError, "write the character instead of %C3"),
    (b"/users", TypeError, 'a str that begins with "/"'),
    (None, TypeError, 'a str that begins with "/"'),
    (first, TypeError, '(as a decorator: @app.route("/path"))'),
])
def test_a_path_that_no_request_has_is_refused_before_there_is_a_handler(
        kind: str, path: Any, error: type[Exception], text: str) -> None:
    add = getattr(Dispatcher(), kind)
    with pytest.raises(error, match=re.escape(text)) as caught:
        add(path, Dispatcher()) if kind == "mount" else add(path)
    assert f"({path!r})" in str(caught.value), "what was passed should be shown"


@pytest.mark.parametrize("path", ["/100%", "/50% off", "/%zz", "/a#b", "/a b", "/*"])
def test_a_path_may_hold_any_other_character(path: str) -> None:
    app = Dispatcher()
    app.add_route(path, hello)
    request = make_request("/")
    request.path = path
    assert app(request).status == 200


@pytest.mark.parametrize(("pattern", "error", "text"), [
    ("/(a", ValueError, "missing ), unterminated subpattern at position 1; escape what is meant literally"),
    ("/a{99999999999}", ValueError, "no regular expression"),
    ("users/.*", ValueError, "not with 'u'; put a \"/\" in front"),
    ("^users", ValueError, "not with 'u'"),
    (re.compile(b"/a"), TypeError, "pass a regular expression for str"),
    (b"/a", TypeError, "pass a regular expression for str"),
    (None, TypeError, "pass a regular expression for str"),
    (first, TypeError, "pass a regular expression for str"),
])
def test_a_regex_that_cannot_match_a_path_is_refused(pattern: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=re.escape(text)):
        Dispatcher().regex(pattern)


@pytest.mark.parametrize("kind", ["route", "prefix", "regex", "easy"])
@pytest.mark.parametrize(("methods", "error", "text"), [
    ("GET", TypeError, 'pass a list of str, such as methods=["GET", "POST"]'),
    (b"GET", TypeError, "pass a list of str"),
    (None, TypeError, "pass a list of str"),
    ([], ValueError, "nothing would be answered; name one, or leave it out for GET and HEAD"),
    (["get"], ValueError, "'get' is no method; pass single words in capitals"),
    (["GET, POST"], ValueError, "'GET, POST' is no method"),
    (["GET", ""], ValueError, "'' is no method"),
    (["GET\n"], ValueError, "is no method"),
    ([b"GET"], TypeError, "b'GET' is no str"),
    ([1], TypeError, "1 is no str"),
])
def test_methods_that_are_no_list_of_methods_are_refused(
        kind: str, methods: Any, error: type[Exception], text: str) -> None:
    app = Dispatcher()
    with pytest.raises(error, match=re.escape(text)) as caught:
        getattr(app, kind)("/a", methods=methods)(lambda: "" if kind == "easy" else first)
    assert "('/a'): methods=" in str(caught.value)
    assert repr(app) == "<Dispatcher with 0 routes>", "what was refused should not have been added"


@pytest.mark.parametrize("kind", ["route", "prefix", "regex"])
@pytest.mark.parametrize("handler", [None, "hello", b"", 5, Response("x")])
def test_a_handler_that_cannot_be_called_is_refused(kind: str, handler: Any) -> None:
    with pytest.raises(TypeError, match="pass a callable that takes a Request"):
        getattr(Dispatcher(), kind)("/a")(handler)


def test_a_coroutine_function_is_refused() -> None:
    async def handler(request: Request) -> str:
        return ""

    app: Any = Dispatcher()
    with pytest.raises(TypeError, match="handler is `async def`; handlers run on threads and may block: write `def`"):
        app.add_route("/a", handler)


@pytest.mark.parametrize(("pattern", "handler", "call"), [
    ("/a", lambda: "", "<lambda>(request)"),
    ("/a", lambda request, name: "", "<lambda>(request)"),
    ("/(a)", first, "first(request, <group 1>)"),
    ("/(?P<a>a)", first, "first(request, a=...)"),
    ("/(?P<request>a)", first, "first(request, request=...)"),
    ("/(?P<a>a)(b)", lambda request, a: "", "<lambda>(request, <group 2>, a=...)"),
])
def test_a_handler_that_cannot_take_what_it_will_be_given_is_refused(pattern: str, handler: Any, call: str) -> None:
    with pytest.raises(TypeError, match="it is called as") as caught:
        Dispatcher().add_regex(pattern, handler)
    assert call in str(caught.value)


def test_any_callable_that_takes_a_request_may_be_a_handler() -> None:
    class Page:
        def __call__(self, request: Request) -> str:
            return "object"

        def show(self, request: Request) -> str:
            return "method"

    class Signless:
        __signature__ = "none that Python can read"

        def __call__(self, request: Request) -> str:
            return "no signature"

    def two(greeting: str, request: Request) -> str:
        return greeting

    app = Dispatcher()
    app.add_route("/object", Page())
    app.add_route("/method", Page().show)
    app.add_route("/partial", functools.partial(two, "partial"))
    app.add_route("/signless", Signless())
    for path, text in [("/object", "object"), ("/method", "method"), ("/partial", "partial"),
                       ("/signless", "no signature")]:
        assert ask(app, path) == (200, text)


# Against a naive model.

METHODS = ["GET", "HEAD", "POST", "PUT", "OPTIONS"]
PATHS = ["/", "/a", "/b", "/a/", "/a/b", "/a/b/a", "/b/a", "/ab", "/a\n", "/é"]


@dataclass
class Plan:
    """A route to be added, or, if it has `inner`, a dispatcher to be mounted."""

    kind: str
    path: str
    methods: list[str] = field(default_factory=list)
    inner: list[Plan] | None = None


routes = st.builds(Plan, st.sampled_from(["route", "prefix"]), st.sampled_from(PATHS),
                   st.lists(st.sampled_from(METHODS), min_size=1, unique=True))
regexes = st.builds(Plan, st.just("regex"), st.sampled_from(["/a", "/[ab]", "/a.*", "/(a|b)/b", "/.?", "/a$", ".*"]),
                    st.lists(st.sampled_from(METHODS), min_size=1, unique=True))
plans = st.recursive(
    st.lists(routes | regexes, max_size=6),
    lambda inner: st.lists(routes | regexes | st.builds(Plan, st.just("mount"), st.sampled_from(["/", "/a", "/a/b"]),
                                                        inner=inner), max_size=6),
    max_leaves=4,
)


@dataclass
class Entry:
    """A route of the model: what it matches as one regular expression, mounts and all."""

    number: str
    pattern: str
    methods: set[str]


def build(plan: list[Plan], number: str = "", begin: str = "") -> tuple[Dispatcher, list[Entry]]:
    """A dispatcher made as planned, whose handlers answer their numbers; and the model of it."""
    app = Dispatcher()
    model: list[Entry] = []
    for i, route in enumerate(plan):
        name = f"{number}.{i}"
        if route.inner is not None:
            inner, entries = build(route.inner, name, begin + route.path.rstrip("/"))
            app.mount(route.path, inner)
            model += entries
            continue
        try:
            getattr(app, route.kind)(route.path, methods=route.methods)(lambda request, *groups, name=name: name)
        except ValueError:
            continue  # the same path and method twice
        pattern = {"route": re.escape(route.path), "prefix": re.escape(route.path) + "(?s:.*)"}.get(route.kind)
        # Behind a mount, as in front of it, a path begins with a slash, whatever a regex would match.
        pattern = f"(?=/)(?:{pattern or route.path})" if begin else f"(?:{pattern or route.path})"
        model.append(Entry(name, re.escape(begin) + pattern, {*route.methods, *(["HEAD"] * ("GET" in route.methods))}))
    return app, model


@given(plans, st.sampled_from([*PATHS, "/a/a", "/a/b/", "/a/b/b", "/c", "/a/b/a/b"]), st.sampled_from([*METHODS, "X"]))
@example([Plan("route", "/a", ["GET"]), Plan("prefix", "/", ["POST", "GET"])], "/a", "POST")
@example([Plan("mount", "/a", inner=[Plan("regex", ".*", ["GET"])])], "/a", "GET")
@example([Plan("mount", "/", inner=[Plan("mount", "/a", inner=[Plan("route", "/b", ["GET"])])])], "/a/b", "PUT")
def test_the_first_route_with_path_and_method_answers_and_else_allow_is_what_the_routes_take(
        plan: list[Plan], path: str, method: str) -> None:
    app, model = build(plan)
    having = [entry for entry in model if re.fullmatch(entry.pattern, path)]
    winner = next((entry.number for entry in having if method in entry.methods), None)

    request = make_request("/", method)
    request.path = path
    response = app(request)

    told = f"{method} {path!r}: {response!r}; the model: {having}"
    if winner is not None:
        assert (response.status, response.body) == (200, winner.encode()), told
    elif not having:
        assert response.status == 404, told
    else:
        assert response.status == (204 if method == "OPTIONS" else 405), told
        assert allow(response) == sorted({"OPTIONS"}.union(*(entry.methods for entry in having))), told


@given(plans, st.text() | st.sampled_from(PATHS), st.text() | st.sampled_from(METHODS))
@example([], "*", "OPTIONS")
@example([Plan("regex", ".*", ["GET"])], "*", "OPTIONS")
@example([Plan("prefix", "/", ["GET"])], "http://example.org/", "GET")
@example([Plan("prefix", "/", ["GET"])], "/%ff%00\ud800", "GET")
def test_whatever_is_asked_is_answered_with_200_204_404_or_405(plan: list[Plan], target: str, method: str) -> None:
    app, model = build(plan)
    response = app(make_request(target, method))
    assert response.status in (200, 204, 404, 405), f"{method!r} {target!r}: {response!r}; the model: {model}"


# Many threads.

def test_routes_added_while_requests_are_served_are_all_there_and_none_is_lost() -> None:
    app = Dispatcher()
    app.add_route("/", hello)
    start = threading.Barrier(5)
    wrong: list[object] = []
    done = threading.Event()

    def add(adder: int) -> None:
        start.wait(10)
        for i in range(50):
            app.add_route(f"/{adder}/{i}", saying(f"{adder}/{i}"))
            if (answer := ask(app, f"/{adder}/{i}")) != (200, f"{adder}/{i}"):
                wrong.append(answer)

    def call() -> None:
        start.wait(10)
        while not done.is_set():
            if (answer := ask(app, "/")) != (200, "Hello, World"):
                wrong.append(answer)

    adders = [threading.Thread(target=add, args=(i,)) for i in range(3)]
    caller = threading.Thread(target=call)
    for thread in [*adders, caller]:
        thread.start()
    start.wait(10)
    for thread in adders:
        thread.join()
    done.set()
    caller.join()
    assert wrong == []
    assert repr(app) == "<Dispatcher with 151 routes>"
    assert [ask(app, f"/{a}/{i}")[1] for a in range(3) for i in range(50)] == [f"{a}/{i}" for a in range(3)
                                                                             for i in range(50)]


# Through a server.

def test_a_whole_application_answers_through_a_server() -> None:
    app, api = Dispatcher(), Dispatcher()
    app.mount("/api", api)
    app.add_route("/echo", echo, methods=["POST"])
    app.add_prefix("/static/", lambda request: request.path)

    @api.regex("/users/(?P<name>[a-zé]+)")
    def user(request: Request, name: str) -> str:
        return f"user {name}"

    @app.easy("/greet", methods=["GET", "POST"])
    def greet(name: str = "World", times: int = 1) -> str:
        return f"Hello, {name}!" * times

    asked = [
        ("GET", "/api/users/ren%C3%A9", None, 200, "user rené"),
        ("GET", "/static/a%20b", None, 200, "/static/a b"),
        ("POST", "/echo", b"body", 200, "body"),
        ("GET", "/greet?name=Ada&times=2", None, 200, "Hello, Ada!Hello, Ada!"),
        ("POST", "/greet?times=2", b"name=Bob", 200, "Hello, Bob!Hello, Bob!"),
        ("GET", "/greet?times=x%00", None, 400, "Parameter times: expected a whole number, got 'x\\x00'.\n"),
        ("HEAD", "/greet", None, 200, ""),
        ("GET", "/none", None, 404, "Not Found\n"),
        ("PUT", "/greet", b"name=Bob", 405, "Method Not Allowed\n"),
        ("OPTIONS", "/greet", None, 204, ""),
        ("OPTIONS", "*", None, 204, ""),
    ]
    with Acceptor(app, port=0, taskmaster=PooledTaskmaster(threads=2)) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        try:
            for method, target, body, status, text in asked:
                connection.request(method, target, body, {"Content-Type": FORM} if body else {})
                response = connection.getresponse()
                assert (response.status, response.read().decode()) == (status, text), f"{method} {target}"
                if status in (204, 405) and target != "*":
                    assert response.getheader("allow") == "GET, HEAD, OPTIONS, POST", f"{method} {target}"
                assert not response.will_close, f"{method} {target} should have left the connection open"
        finally:
            connection.close()
