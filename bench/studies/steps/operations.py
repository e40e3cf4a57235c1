"""What `bench steps` measures: the steps of a request, without a network, each called again and again.

    python bench/studies/steps/operations.py [NAME ...]  time them, or all: JSON, microseconds for each, or why not
    python bench/studies/steps/operations.py --loops N NAME  call one of them N times, and nothing else: for profilers
    python bench/studies/steps/operations.py --mark NAME ...     a short and a long run of each, marked for callgrind
    python bench/studies/steps/operations.py --calls NAME  the functions that it calls, Python's and C's, and how often

Each uses what is inside the server, so it may not fit the code of another commit: then it says so. Nothing of the lab
is imported, because `bench regress --steps` runs this file on the code of other commits.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from acceptor.connection import Connection
from acceptor.framing import plan
from acceptor.messages import Response
from acceptor.phases import End
from acceptor.service import Service
from acceptor.settings import Limits
from acceptor.violations import Compliance
from acceptor.wsgi import WSGI
from handlers import hello

__all__ = ["OPERATIONS", "Operation", "calls_of", "measure", "run_marked", "runs_of"]


@dataclass(frozen=True)
class Operation:
    make: Callable[[], Callable[[], object]]
    """Returns what to call."""
    count: int = 1
    """How many of what is measured one call does."""


_SMALL = b"GET / HTTP/1.1\r\nHost: localhost:8080\r\n\r\n"
_LAST = b"GET / HTTP/1.1\r\nHost: localhost:8080\r\nConnection: close\r\n\r\n"
_BROWSER = (
    b"GET /articles/2026/fast?page=2&sort=date HTTP/1.1\r\n"
    b"Host: www.example.com\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
    b"Accept-Language: en-US,en;q=0.5\r\n"
    b"Accept-Encoding: gzip, deflate, br, zstd\r\n"
    b"Referer: https://www.example.com/articles\r\n"
    b"Connection: keep-alive\r\n"
    b"Cookie: session=0123456789abcdef0123456789abcdef; theme=dark; consent=yes\r\n"
    b"Upgrade-Insecure-Requests: 1\r\n"
    b"Sec-Fetch-Dest: document\r\n"
    b"Sec-Fetch-Mode: navigate\r\n"
    b"Sec-Fetch-Site: same-origin\r\n"
    b"Priority: u=0, i\r\n\r\n")
_MANY = 100
"""Requests on one connection."""
_FEW, _MORE = 100, 400
"""Of what is measured: so many in a short run, and so many more in a long one."""
_REPEAT, _LONG_ENOUGH = 9, 0.02
"""The least of so many repeats, each of at least so many seconds."""


class _Socket:
    """In place of a connected socket: what comes is there at once, and what goes is gone.

    requests: one for each recv(). parks: only one is there until `more` is called.
    """

    family = 2  # AF_INET

    def __init__(self, requests: Iterable[bytes], parks: bool = False) -> None:
        self._requests = iter(requests)
        self._parks = parks
        self._ready = True

    def more(self) -> None:
        self._ready = True

    def recv(self, size: int, flags: int = 0) -> bytes:
        if self._parks:
            if not self._ready:
                raise BlockingIOError
            self._ready = False
        return next(self._requests, b"")

    def recv_into(self, buffer: Any, size: int = 0, flags: int = 0) -> int:
        data = self.recv(size, flags)
        buffer[:len(data)] = data
        return len(data)

    def send(self, data: bytes, flags: int = 0) -> int:
        return len(data)

    def sendall(self, data: bytes, flags: int = 0) -> None:
        pass

    def sendmsg(self, buffers: Iterable[bytes], ancillary: object = (), flags: int = 0, address: object = None) -> int:
        return sum(map(len, buffers))

    def close(self) -> None:
        pass

    def fileno(self) -> int:
        return -1

    def setblocking(self, yes: bool) -> None:
        pass

    def settimeout(self, seconds: float | None) -> None:
        pass

    def shutdown(self, how: int) -> None:
        pass

    def setsockopt(self, *arguments: object) -> None:
        pass

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", 8080


def _wire(name: str) -> Any:
    """The class. ImportError if it cannot be had."""
    if name == "h11":
        from acceptor.wire import H11Wire
        return H11Wire
    from acceptor.httptools_wire import HttptoolsWire
    return HttptoolsWire


def _head(wire: str, data: bytes) -> Callable[[], object]:
    limits, compliance = Limits(), Compliance()
    reader = _wire(wire)(limits, compliance)

    def read() -> object:
        reader.receive(data)
        head = reader.next_head()
        reader.next_request()
        return head

    if read() is None:
        raise ValueError("no head was read")
    return read


def _response_head() -> Callable[[], object]:
    reader = _wire("h11")(Limits(), Compliance())
    reader.receive(_SMALL)
    head = reader.next_head()
    response = Response("Hello, World")
    return lambda: plan(head, response, True)


def _serving(wire: str, handler: Any, count: int, *, parks: bool = False) -> Callable[[], object]:
    """A whole connection of `count` requests, by a thread that holds it, or that parks it after each."""
    service = Service(handler, make_wire=_wire(wire))
    requests = [_SMALL] * count if count > 1 else [_LAST]
    address = ("127.0.0.1", 50000)

    def serve() -> Any:
        socket: Any = _Socket(requests, parks)
        connection = Connection(socket, address, service)
        if parks:
            while connection.serve(lambda: True) is End.PARK:
                socket.more()
        else:
            connection.serve()
        connection.close()
        return connection

    if (served := serve().served) != count:
        raise ValueError(f"{served} requests were served, not {count}")
    return serve


def _application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "12")])
    return [b"Hello, World"]


def _operations_of(wire: str) -> dict[str, Operation]:
    return {
        f"{wire}: small head": Operation(lambda: _head(wire, _SMALL)),
        f"{wire}: browser's head": Operation(lambda: _head(wire, _BROWSER)),
        f"{wire}: request (held)": Operation(lambda: _serving(wire, hello, _MANY), _MANY),
        f"{wire}: request (parked)": Operation(lambda: _serving(wire, hello, _MANY, parks=True), _MANY),
        f"{wire}: request (WSGI)": Operation(lambda: _serving(wire, WSGI(_application), _MANY), _MANY),
        f"{wire}: connection of one": Operation(lambda: _serving(wire, hello, 1)),
    }


OPERATIONS = {"response head": Operation(_response_head), **_operations_of("h11"), **_operations_of("httptools")}
"""By name."""


def measure(names: Iterable[str], repeat: int = _REPEAT, long_enough: float = _LONG_ENOUGH) -> dict[str, float | str]:
    """Microseconds of CPU for each, the least of the repeats, which are interleaved; or, as text, why there is none."""
    done: dict[str, float | str] = {}
    calls: dict[str, tuple[Callable[[], object], int]] = {}
    for name in names:
        try:
            call = OPERATIONS[name].make()
            calls[name] = call, _loops(call, long_enough)
        except Exception as error:  # another commit may have it otherwise
            done[name] = f"{type(error).__name__}: {error}"
    for _ in range(repeat):
        for name, (call, loops) in calls.items():
            taken = 1e6 * _time(call, loops) / loops / OPERATIONS[name].count
            done[name] = min(taken, float(done.get(name, taken)))
    return done


def run_marked(names: Iterable[str]) -> None:
    """For each of the operations: a mark, the short run, a mark, the long run, a mark. See `runs_of`."""
    for name in names:
        call = OPERATIONS[name].make()
        call()
        mark()
        for loops in runs_of(name):
            for _ in range(loops):
                call()
            mark()


def mark() -> None:
    """Call getpriority(2), which nobody else does, so that callgrind can be told to look for it."""
    os.getpriority(os.PRIO_PROCESS, 0)


def runs_of(name: str) -> tuple[int, int]:
    """Calls in the short run, and in the long one."""
    count = OPERATIONS[name].count
    few, more = max(1, _FEW // count), max(1, _MORE // count)
    return few, few + more


def calls_of(name: str) -> dict[str, float]:
    """How often one of what is measured calls each function, by its name; sys.setprofile sees those of C, too."""
    call, counts = OPERATIONS[name].make(), Counter[str]()
    call()  # what is done once is done

    def count(frame: Any, event: str, argument: Any) -> None:
        if event == "call":
            counts[frame.f_code.co_qualname] += 1
        elif event == "c_call":
            counts[argument.__qualname__] += 1

    sys.setprofile(count)
    try:
        call()
    finally:
        sys.setprofile(None)
    del counts["setprofile"]
    return {function: times / OPERATIONS[name].count for function, times in counts.items()}


def _loops(call: Callable[[], object], long_enough: float) -> int:
    """How often it must be called to take that long."""
    loops = 1
    while (taken := _time(call, loops)) < long_enough / 4:
        loops *= 4
    return max(1, round(loops * long_enough / taken))


def _time(call: Callable[[], object], loops: int) -> float:
    """CPU seconds of so many calls."""
    start = time.process_time()
    for _ in range(loops):
        call()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench/studies/steps/operations.py")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--loops", type=int, default=0, metavar="N")
    parser.add_argument("--mark", action="store_true")
    parser.add_argument("--calls", action="store_true")
    options = parser.parse_args()
    if options.calls:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # of which `head` shows the beginning
        for name in options.names:
            calls = calls_of(name)
            print(f"{name}: {sum(calls.values()):.1f} calls")
            for function, times in sorted(calls.items(), key=lambda item: -item[1]):
                print(f"{times:8.2f}  {function}")
    elif options.mark:
        run_marked(options.names)
    elif options.loops:
        [name] = options.names
        call = OPERATIONS[name].make()
        for _ in range(options.loops):
            call()
    else:
        print(json.dumps(measure(options.names or OPERATIONS)))


if __name__ == "__main__":
    main()
