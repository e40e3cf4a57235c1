"""Handlers that do nothing useful, in four ways: what bench/ measures, and what a course tries first.

    hello       answers at once          what is left is the price of the server
    delay(s)    sleeps, without the GIL  stands for I/O: a database, another server
    spin(s)     computes, with the GIL   stands for Python code
    echo        answers what was sent    the way of a request's body

Any number of threads may be in any of them at once.
"""

from __future__ import annotations

import time

from acceptor import Handler, HTTPError, Request, Response
from handlers.bodies import read_whole

__all__ = ["ECHO_LIMIT", "delay", "echo", "hello", "spin"]

ECHO_LIMIT = 1024 * 1024
"""Bytes of body that `echo` reads; a longer one is answered 413 (RFC 9110 section 15.5.14)."""

_LONGEST = 3600.0
"""Seconds. More would measure nothing: a number of milliseconds, most likely."""

_HELLO = Response("Hello, World")
"""Made once, because a Response of bytes may be returned any number of times, from any number of threads."""


def hello(request: Request) -> Response:
    """Answer "Hello, World". The cheapest handler there can be."""
    return _HELLO


def echo(request: Request) -> Response:
    """Answer the request's body, with its Content-Type (application/octet-stream if it has none).

    The body is read whole first, so that this works with clients that do not read while they write. HTTPError 413 if
    it is longer than `ECHO_LIMIT`, 400 if its Content-Type cannot stand in a response.
    """
    body = read_whole(request, ECHO_LIMIT)
    kind = request.headers.get("content-type") or "application/octet-stream"
    try:
        return Response(body, headers={"Content-Type": kind})
    except ValueError:  # the wire lets control bytes through in a request that no response may have
        raise HTTPError(400, "The Content-Type of the request cannot be repeated.") from None


def delay(seconds: float) -> Handler:
    """A handler that sleeps for `seconds` and then answers as `hello` does.

    seconds: a number above 0 and up to 3600; TypeError or ValueError for anything else.

    The sleep releases the GIL, as waiting for I/O does.
    """
    duration = _duration("delay", seconds)

    def handler(request: Request) -> Response:
        time.sleep(duration)
        return _HELLO

    handler.__qualname__ = f"delay({duration:g})"
    return handler


def spin(seconds: float) -> Handler:
    """A handler that burns `seconds` of CPU time of its thread, in Python code, and then answers as `hello` does.

    seconds: a number above 0 and up to 3600; TypeError or ValueError for anything else.

    It never gives the GIL up by itself; like any Python code it loses it to a waiting thread after
    `sys.getswitchinterval()`. It burns a few microseconds more than was asked for.
    """
    duration = _duration("spin", seconds)

    def handler(request: Request) -> Response:
        # The thread's own clock, not perf_counter's: that goes on while the thread waits for the GIL or for a core, so
        # that ten threads would burn 10 ms each in 10 ms, between them a tenth of the work.
        end = time.thread_time() + duration
        while time.thread_time() < end:
            for _ in range(50):  # a reading is a system call; most of the time is to be spent in Python code
                pass
        return _HELLO

    handler.__qualname__ = f"spin({duration:g})"
    return handler


def _duration(name: str, seconds: float) -> float:
    """`seconds` as a float, checked; TypeError or ValueError, naming the handler `name`."""
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool):
        raise TypeError(f"{name}({seconds!r}): pass a number of seconds, not {type(seconds).__name__}")
    if seconds == 0:
        raise ValueError(f"{name}(0): use hello, which does neither; time.sleep(0) alone takes about 76 us")
    if not 0 < seconds <= _LONGEST:  # written so that NaN fails too
        raise ValueError(f"{name}({seconds!r}): pass a number of seconds above 0 and up to {_LONGEST:g}")
    return float(seconds)
