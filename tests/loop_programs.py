"""Handlers for tests of executors, which other processes and interpreters import: so there is little here."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from typing import Any

from acceptor import HTTPError, Request, Response
from acceptor.wsgi import WSGI
from taskmaster import RecyclingTaskmaster, Taskmaster

__all__ = ["recycling_8", "recycling_32", "where"]


def where(request: Request) -> Response | str:
    """Who answers, and how long the body was; or something else, by path."""
    if request.path == "/die":
        os.kill(os.getpid(), signal.SIGKILL)
    if request.path == "/unique":
        return os.urandom(8).hex()
    if request.path == "/fail":
        raise OSError("secret")
    if request.path == "/missing":
        raise HTTPError(404)
    if request.path == "/pieces":
        return Response(iter([b"one ", b"two"]))
    if request.path == "/file":
        return Response(open(__file__, "rb"))
    if request.path == "/wsgi":
        return WSGI(application)(request)
    return f"{os.getpid()} {request.path} {len(request.body.read())}"


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return iter([environ["REQUEST_METHOD"].encode(), b" ", environ["wsgi.input"].read()])


# For `python -m bench run quick --models ...,tests.loop_programs:recycling_8`: see docs/event-loop.md.

def recycling_8() -> Taskmaster:
    return RecyclingTaskmaster(standby=8, max_thread_count=8, idle="park")


def recycling_32() -> Taskmaster:
    return RecyclingTaskmaster(standby=32, max_thread_count=32, idle="park")
