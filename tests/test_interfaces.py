"""What looks like a factory. What is an application, and what a handler, is in test_wsgi.py."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acceptor.interfaces import factory_signature, is_wsgi


def create_app(test_config: Any = None) -> Any: ...


def create_app2(config: Any = None, testing: bool = False) -> Any: ...


def make(config: Any) -> Any: ...


def main(global_config: Any, **settings: Any) -> Any: ...


def make_wsgi_app(name: Any, /) -> Any: ...


def get_application(*args: Any) -> Any: ...


def app_factory(a: Any, b: Any) -> Any: ...


def configured(a: Any = 1, b: Any = 2, c: Any = 3) -> Any: ...


def optional(name: Any = "x", *, colour: str = "red") -> Any: ...


@functools.wraps(create_app)
def wrapped(*args: Any) -> Any: ...


class Blueprint:
    def create_app(self, name: Any) -> Any: ...


@pytest.mark.parametrize("app", [
    create_app, create_app2, make, main, make_wsgi_app, get_application, app_factory, configured, optional, wrapped,
    Blueprint().create_app,
], ids=lambda app: app.__qualname__)
def test_what_looks_like_a_factory_is_shown_as_one(app: Any) -> None:
    assert factory_signature(app) == inspect.signature(app, follow_wrapped=False)
    is_wsgi(app)  # which it could be called as: else that is the message


def plain(environ: Any, start_response: Any) -> Any: ...


def with_defaults(environ: Any = None, start_response: Any = None) -> Any: ...


def handler(request: Any, page: int = 1) -> Any: ...


def lazy(request: Any = None) -> Any: ...


def get_app(environ: Any, start_response: Any) -> Any: ...


def get_appointments(r: Any) -> Any: ...


def anonymous(e: Any, s: Any) -> Any: ...


def anything(*args: Any, **kwargs: Any) -> Any: ...


def nothing() -> Any: ...


def create_app_of(a: Any, b: Any, c: Any) -> Any: ...


@functools.wraps(get_app)
def decorated(*args: Any) -> Any: ...


class Instance:
    def __call__(self, config: Any = None) -> Any: ...


@pytest.mark.parametrize("app", [
    plain, with_defaults, handler, lazy, get_app, get_appointments, anonymous, anything, nothing, create_app_of,
    decorated, Instance(), Instance, functools.partial(create_app), len, max, None, 5, lambda r: "", lambda e, s: [],
], ids=lambda app: getattr(app, "__qualname__", None) or type(app).__name__)
def test_what_does_not_is_left_alone(app: Any) -> None:
    assert factory_signature(app) is None


@given(st.sampled_from(["create", "make", "get"]), st.sampled_from(["app", "application", "wsgi"]),
       st.from_regex("([0-9]|_[a-z]{1,9})?", fullmatch=True))
def test_the_name_of_a_function_tells(verb: str, noun: str, more: str) -> None:
    def function(thing: Any) -> Any: ...

    function.__name__ = f"{verb}_{noun}{more}"
    assert factory_signature(function) is not None
