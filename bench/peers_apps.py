"""The programs that other servers serve for `bench speed`: all of them answer the 12 bytes of handlers.hello.

Nothing of ours is imported, so that a server in an environment of its own can have them, and Flask only if it is asked
for. `sleep_ms` is what each request sleeps; 0: it calls no sleep at all, for even time.sleep(0) costs 50 us.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

__all__ = ["BODY", "SLEEP", "WSGI", "asgi", "flask", "flask_from_environment", "from_environment", "wsgi"]

BODY = b"Hello, World"
SLEEP = "BENCH_SLEEP_MS"
"""The environment variable that says `sleep_ms` to a server which imports its application itself."""

WSGI = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
_HEADERS = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(BODY)))]


def wsgi(sleep_ms: float) -> WSGI:
    """The smallest WSGI application."""
    seconds = sleep_ms / 1e3

    def hello(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if seconds:
            time.sleep(seconds)
        start_response("200 OK", _HEADERS)
        return [BODY]

    return hello


def asgi(sleep_ms: float) -> Callable[..., Awaitable[None]]:
    """The smallest ASGI application."""
    seconds = sleep_ms / 1e3
    headers = [(name.lower().encode(), value.encode()) for name, value in _HEADERS]

    async def hello(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]],
                    send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        if scope["type"] != "http":
            return
        if seconds:
            await asyncio.sleep(seconds)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": BODY})

    return hello


def flask(sleep_ms: float) -> WSGI:
    """A Flask application with one route. ImportError without Flask."""
    seconds = sleep_ms / 1e3
    module = importlib.import_module("flask")
    app: Any = module.Flask("bench")

    def hello() -> Any:
        if seconds:
            time.sleep(seconds)
        return module.Response(BODY, mimetype="text/plain")

    app.add_url_rule("/", view_func=hello)
    application: WSGI = app
    return application


def from_environment() -> WSGI:
    return wsgi(float(os.environ.get(SLEEP, "0")))


def flask_from_environment() -> WSGI:
    return flask(float(os.environ.get(SLEEP, "0")))
