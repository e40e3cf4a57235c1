"""The load, a process of its own: clients of four kinds, who check every answer.

    python -m tests.restarts.load PORT COUNT RATE        about RATE requests a second, until COUNT have been made and
                                                         standard input has ended

    kept    GET and POST over one kept connection, without a pause
    new     GET and POST, a new connection for each
    idle    the same over one kept connection, with pauses of up to three seconds
    slow    GET and POST that the server takes 0.3 s to answer, over one kept connection

A kept connection that is seen to have ended is replaced before anything is sent over it, as every client does. No
request is sent again, with one exception: with --retry, a GET whose kept connection ended before the first byte of its
answer. RFC 9112 section 9.3.1 lets a client do that by itself, and not with a POST, since nobody knows whether it has
been carried out. Both are counted as `crossed`; the POST has failed.

It prints how many requests are done, every second, and at last one line of JSON.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import random
import select
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.client_programs import line

__all__ = ["KINDS", "Client", "Tally", "main"]

PATIENCE = 20.0
"""Seconds for an answer."""
KINDS = {"kept": 6, "new": 4, "idle": 12, "slow": 4}
"""How many clients of each."""
_SECONDS_OF_SLOW, _PAUSE = 0.3, 3.0


@dataclass
class Tally:
    """What came of the requests, from one client or from all."""

    outcomes: Counter[str] = field(default_factory=Counter)
    """"ok", or what went wrong."""
    crossed: Counter[str] = field(default_factory=Counter)
    """By method: requests that met the end of their kept connection."""
    seconds: list[float] = field(default_factory=list)
    """From a request to its right answer; without those that are slow by themselves."""
    connections: int = 0

    def add(self, other: Tally) -> None:
        self.outcomes += other.outcomes
        self.crossed += other.crossed
        self.seconds += other.seconds
        self.connections += other.connections


class Client:
    """One client and its connection. Owned by one thread."""

    def __init__(self, port: int, *, retry: bool) -> None:
        self.tally = Tally()
        self._retry = retry
        self._http = http.client.HTTPConnection("127.0.0.1", port, PATIENCE)

    def ask(self, method: str, path: str, body: bytes = b"", *, keep: bool = True, timed: bool = True) -> None:
        """One request; what comes of it is counted, and if `timed` the seconds that it takes."""
        begun = time.monotonic()
        outcome = self._try(method, path, body, keep)
        if outcome == _CROSSED:
            self.tally.crossed[method] += 1
            if self._retry and method == "GET":
                outcome = self._try(method, path, body, keep)
        self.tally.outcomes[outcome if outcome == "ok" else f"{method} {outcome}"] += 1
        if outcome == "ok" and timed:
            self.tally.seconds.append(time.monotonic() - begun)

    def close(self) -> None:
        self._http.close()

    def _try(self, method: str, path: str, body: bytes, keep: bool) -> str:
        client = self._http
        if client.sock is not None and _has_ended(client.sock):
            client.close()
        reused = client.sock is not None
        try:
            if not reused:
                self.tally.connections += 1
                client.connect()
            headers = {} if keep else {"Connection": "close"}
            client.request(method, path, body if method == "POST" else None, headers)
            response = client.getresponse()
        except (OSError, http.client.HTTPException) as error:
            client.close()
            if reused and isinstance(error, ConnectionError):  # RemoteDisconnected is one
                return _CROSSED
            return f"{type(error).__name__} on a {'kept' if reused else 'new'} connection"
        try:
            answer = response.read().decode()
        except (OSError, http.client.HTTPException) as error:
            client.close()
            return f"{type(error).__name__} in the middle of the answer"
        if response.status != 200:
            return str(response.status)
        return "ok" if answer == line(method, path, body) else "a wrong answer"


_CROSSED = "crossed the end of its kept connection"


def _has_ended(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


class Load:
    """All the clients."""

    def __init__(self, port: int, count: int, rate: float, *, retry: bool) -> None:
        self._port, self._count, self._retry = port, count, retry
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self.enough = threading.Event()
        """No more than `count` are wanted."""
        self._interval = (KINDS["kept"] + KINDS["new"]) / rate
        """Seconds between two requests of one client; those of the slow kinds hardly count."""
        self.done = 0
        self.tally = Tally()

    def run(self) -> None:
        """Return when all requests are over. Prints its progress."""
        threads = [threading.Thread(target=self._client, args=(kind, number))
                   for kind, clients in KINDS.items() for number in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(1.0)
                print(self.done, flush=True)

    def _client(self, kind: str, number: int) -> None:
        rng = random.Random(f"{kind} {number}")
        client = Client(self._port, retry=self._retry)
        due = time.monotonic() + rng.random() * self._interval
        while self._next():
            method = rng.choice(("GET", "POST"))
            path = f"/sleep/{_SECONDS_OF_SLOW}/{number}" if kind == "slow" else f"/{kind}/{number}"
            client.ask(method, path, rng.randbytes(rng.choice((0, 10, 3000))) if method == "POST" else b"",
                       keep=kind != "new", timed=kind != "slow")
            if kind == "idle":
                time.sleep(rng.random() * _PAUSE)
            elif kind != "slow":
                due += self._interval
                time.sleep(max(0.0, due - time.monotonic()))
        client.close()
        with self._lock:
            self.tally.add(client.tally)

    def _next(self) -> bool:
        with self._lock:
            self.done = next(self._numbers) - 1
            return self.done < self._count or not self.enough.is_set()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.restarts.load")
    parser.add_argument("port", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("rate", type=float)
    parser.add_argument("--retry", action="store_true")
    options = parser.parse_args(arguments)
    load = Load(options.port, options.count, options.rate, retry=options.retry)

    def wait_for_enough() -> None:
        sys.stdin.read()
        load.enough.set()

    threading.Thread(target=wait_for_enough, daemon=True).start()
    load.run()
    tally = load.tally
    seconds = sorted(tally.seconds) or [0.0]
    print(json.dumps({
        "outcomes": tally.outcomes, "crossed": tally.crossed,
        "p50": seconds[len(seconds) // 2], "p99": seconds[len(seconds) * 99 // 100], "longest": seconds[-1],
    }))


if __name__ == "__main__":
    main()
