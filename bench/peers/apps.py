"""The programs that other servers serve: all of them answer the 12 bytes of handlers.hello.

Nothing of ours is imported, so that a server in an environment of its own can have them, and Flask only if it is asked
for. What a request has to do before it is answered is `Work`; if there is nothing to do, nothing is called, for even
time.sleep(0) costs 50 us.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["APPS", "BODY", "WSGI", "Work", "application", "asgi", "asgi_from_environment", "environment", "load",
           "wsgi_from_environment"]

BODY = b"Hello, World"
APPS = ("wsgi", "flask")
"""Those of this module; any other is "module:app"."""
_VARIABLE = "BENCH_APP"
"""The environment variable that tells all this to a server which imports its application itself."""

WSGI = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
_HEADERS = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(BODY)))]


@dataclass(frozen=True)
class Work:
    """What a request has to do before it is answered."""

    sleep_ms: float = 0.0
    spin_ms: float = 0.0
    """Of CPU, in Python code: see handlers.spin."""
    by_path: bool = False
    """/sleep/MS and /spin/MS do that; every other path is answered at once."""

    def __bool__(self) -> bool:
        return bool(self.sleep_ms or self.spin_ms or self.by_path)

    def times(self, path: str) -> tuple[float, float]:
        """Seconds of sleep, and seconds of CPU, for a request for `path`. ValueError if it names no number."""
        if not self.by_path:
            return self.sleep_ms / 1e3, self.spin_ms / 1e3
        what, _, milliseconds = path[1:].partition("/")
        return (float(milliseconds) / 1e3 if what == "sleep" else 0.0,
                float(milliseconds) / 1e3 if what == "spin" else 0.0)

    def do(self, path: str) -> None:
        """Do it, in this thread."""
        sleep, spin = self.times(path)
        if sleep:
            time.sleep(sleep)
        if spin:
            _spin(spin)


def application(app: str, work: Work) -> WSGI:
    """The WSGI application called `app`: "wsgi", the smallest one; "flask", with Flask; or "module:app", the user's.

    ValueError if the user's cannot be had, ImportError without Flask. An application of the user's does its own work.
    """
    return _wsgi(work) if app == "wsgi" else _flask(work) if app == "flask" else load(app)


def load(name: str) -> WSGI:
    """The object that "module:app" names. ValueError, with the fix, if there is none."""
    module, _, attribute = name.partition(":")
    if not (module and attribute):
        raise ValueError(f'app {name!r}: write "module:app", a module that can be imported from where you are, and '
                         "what its WSGI application is called")
    try:
        app: Any = importlib.import_module(module)
        for part in attribute.split("."):
            app = getattr(app, part)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"app {name!r} cannot be had: {error}; is it importable from where you are?") from error
    if not callable(app):
        raise ValueError(f"app {name!r} is {app!r:.80}, which cannot be called")
    wsgi: WSGI = app
    return wsgi


def asgi(work: Work) -> Callable[..., Awaitable[None]]:
    """The smallest ASGI application; it sleeps as such do, by asyncio, and holds no thread."""
    headers = [(name.lower().encode(), value.encode()) for name, value in _HEADERS]
    works = bool(work)

    async def hello(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]],
                    send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        if scope["type"] != "http":
            return
        if works:
            sleep, spin = work.times(scope["path"])
            if sleep:
                await asyncio.sleep(sleep)
            if spin:
                _spin(spin)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": BODY})

    return hello


def environment(app: str, work: Work, switch_interval_ms: float | None) -> dict[str, str]:
    """What tells a process that imports `*_from_environment` what to serve, and how."""
    return {_VARIABLE: json.dumps([app, asdict(work), switch_interval_ms])}


def wsgi_from_environment() -> WSGI:
    return application(*_from_environment())


def asgi_from_environment() -> Callable[..., Awaitable[None]]:
    return asgi(_from_environment()[1])


def _from_environment() -> tuple[str, Work]:
    app, work, switch_interval_ms = json.loads(os.environ[_VARIABLE])
    if switch_interval_ms is not None:
        sys.setswitchinterval(switch_interval_ms / 1e3)
    return app, Work(**work)


def _wsgi(work: Work) -> WSGI:
    def hello(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", _HEADERS)
        return [BODY]

    def working(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        work.do(environ["PATH_INFO"])
        return hello(environ, start_response)

    return working if work else hello


def _flask(work: Work) -> WSGI:
    module = importlib.import_module("flask")
    app: Any = module.Flask("bench")
    works = bool(work)

    def hello(path: str = "") -> Any:
        if works:
            work.do(f"/{path}")
        return module.Response(BODY, mimetype="text/plain")

    app.add_url_rule("/", view_func=hello)
    app.add_url_rule("/<path:path>", view_func=hello)
    application: WSGI = app
    return application


def _spin(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        for _ in range(50):
            pass
