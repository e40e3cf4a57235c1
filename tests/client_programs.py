"""curl, wget and http.client as loads that check every answer, for `tests.real_clients` and `tests.soak`.

`line` is what the server must answer: method, path, and a digest of the body. Each load returns how often what came of
a request: "ok", or what went wrong. None tries a request again, because a second try hides what happened to the first.
(curl does, if a connection that it had kept was closed before the answer began, as RFC 9112 section 9.3.1 allows.)
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.client
import random
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence

__all__ = ["Normal", "big", "curl", "line", "load", "wget"]

LONGEST = 900.0
"""Seconds that a program may run."""
_IN_VAIN = 4.0
"""Seconds. curl waits five for a `100 Continue` before it sends the body anyway: then none came."""


def line(method: str, path: str, body: bytes = b"") -> str:
    """What the server answers to everything but "/big" and "/client"."""
    return f"{method} {path} {len(body)} {hashlib.sha256(body).hexdigest()[:16]}\n"


@functools.cache
def big() -> bytes:
    """What "/big" answers."""
    return random.Random(2).randbytes(50_000_000)


def curl(port: int, count: int, *options: str, method: str = "GET", body: bytes = b"") -> Counter[str]:
    """`count` requests by one curl process, over kept connections unless `options` say otherwise."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(body)
        file.flush()
        upload = ["-T", file.name] if method == "PUT" else []
        run = subprocess.run(["curl", "-q", "-sS", "--no-progress-meter", "--noproxy", "*", "--expect100-timeout", "5",
                              *options, *upload, "-w", "%{http_code} %{time_total}\n",
                              f"http://127.0.0.1:{port}/[1-{count}]"],
                             capture_output=True, timeout=LONGEST, check=False)
    return _judge(run, [line(method, f"/{number}", body) for number in range(1, count + 1)])


def wget(port: int, count: int) -> Counter[str]:
    """`count` requests: one process with a list of small files, kept alive, and one for a large body."""
    command = ["wget", "--no-config", "--no-proxy", "--tries=1", "--no-verbose", "-O", "-"]
    addresses = "".join(f"http://127.0.0.1:{port}/{number}\n" for number in range(1, count))
    small = subprocess.run([*command, "-i", "-"], input=addresses.encode(), capture_output=True, timeout=LONGEST,
                           check=False)
    large = subprocess.run([*command, f"http://127.0.0.1:{port}/big"], capture_output=True, timeout=LONGEST,
                           check=False)
    outcome = _judge(small, [line("GET", f"/{number}") for number in range(1, count)])
    outcome["ok" if large.stdout == big() else "a large body that differs"] += 1
    return outcome


def _judge(run: subprocess.CompletedProcess[bytes], expected: Sequence[str]) -> Counter[str]:
    """Compare what a program printed, in any order: the answers, and of curl a status and its seconds for each."""
    printed = Counter(run.stdout.decode("latin-1").splitlines(keepends=True))
    missing = (Counter(expected) - printed).total()
    wrong: Counter[str] = Counter()
    for text, count in printed.items():
        if text[:1].isdigit():
            status, seconds = text.split()
            if status != "200":
                wrong[f"status {status}"] += count
            elif float(seconds) > _IN_VAIN:
                wrong[f"more than {_IN_VAIN:g} s"] += count
    if missing > wrong.total():
        wrong["no answer, or a wrong one"] = missing - wrong.total()
    if run.returncode:
        wrong[f"exit status {run.returncode}: {run.stderr.decode('latin-1')[:120].strip()}"] = 1
    return wrong + Counter({"ok": len(expected) - missing})


def load(port: int, count: int, clients: int = 16, *, pause: float = 0.0, stay: int = 100,
         path: str = "") -> Counter[str]:
    """`count` GET, POST and HEAD requests by so many http.client connections at once: "GET ok", "POST 502", ...

    pause: before each request, all wait for each other, and then each for about so many seconds.
    stay: requests, on average, after which a client leaves and comes back.
    path: GET this one only, each client from an address of its own; the answer must be that address and the port.
    """
    outcome: Counter[str] = Counter()
    lock = threading.Lock()
    together = threading.Barrier(clients)

    def run(number: int) -> None:
        rng = random.Random(number)
        source = (f"127.0.1.{number + 1}", 0) if path else None
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, 60, source)) as client:
            for turn in range(number, count, clients):
                if pause and turn - number + clients <= count:  # not the last few, which do not concern all
                    together.wait(120)
                    time.sleep(pause + rng.uniform(-0.02, 0.02))
                method = "GET" if path else rng.choice(("GET", "GET", "POST", "POST", "HEAD"))
                body = rng.randbytes(rng.choice((0, 10, 2_000, 100_000))) if method == "POST" else None
                what = _ask(client, method, path or f"/{turn}", body)
                with lock:
                    outcome[f"{method} {what}"] += 1
                if rng.randrange(stay) == 0:
                    client.close()

    threads = [threading.Thread(target=run, args=(number,), name=f"client-{number}") for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcome


def _ask(client: http.client.HTTPConnection, method: str, path: str, body: bytes | None) -> str:
    """One request; "ok", the status that came instead of 200, or the name of what was raised."""
    try:
        if client.sock is None:
            client.connect()
        expected = "{}:{}".format(*client.sock.getsockname()) if path == "/client" else line(method, path, body or b"")
        client.request(method, path, body)
        response = client.getresponse()
        data = response.read().decode()
    except (OSError, http.client.HTTPException) as error:
        client.close()  # the next request connects again
        return type(error).__name__
    if response.status != 200:
        return str(response.status)
    if method == "HEAD":
        return "ok" if not data and response.getheader("Content-Length") == str(len(expected)) else "a wrong head"
    return "ok" if data == expected else "a wrong answer"


class Normal:
    """`clients` of them, each asking so often a second, half with keep-alive, until `over` is set; for `tests.soak`."""

    def __init__(self, port: int, clients: int = 8, per_second: float = 25.0) -> None:
        self._port, self._per_second = port, per_second
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.seconds: list[float] = []
        """Of every right answer, in order."""
        self.failures: Counter[str] = Counter()
        self.crossed = 0
        """Requests that met the close of their kept connection, and were sent again: RFC 9112 section 9.3.1."""
        self.threads = [threading.Thread(target=self._run, args=(number,)) for number in range(clients)]

    def _run(self, number: int) -> None:
        rng, keep = random.Random(number), number % 2 == 0
        client = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        with contextlib.closing(client):
            while not self.over.wait(rng.expovariate(self._per_second)):
                body = rng.randbytes(rng.choice((0, 100, 20_000)))
                method, path = rng.choice((("GET", f"/{number}"), ("PUT", f"/put?{number}")))
                begun, reused = time.monotonic(), client.sock is not None
                result = self._ask(client, method, path, body if method == "PUT" else b"", keep)
                if reused and result in ("RemoteDisconnected", "ConnectionResetError", "BrokenPipeError"):
                    with self.lock:
                        self.crossed += 1
                    result = self._ask(client, method, path, body if method == "PUT" else b"", keep)
                with self.lock:
                    if result == "ok":
                        self.seconds.append(time.monotonic() - begun)
                    else:
                        self.failures[result] += 1

    def _ask(self, client: http.client.HTTPConnection, method: str, path: str, body: bytes, keep: bool) -> str:
        try:
            client.request(method, path, body, {} if keep else {"Connection": "close"})
            response = client.getresponse()
            answer = response.read().decode()
        except (OSError, http.client.HTTPException) as error:
            client.close()
            return type(error).__name__
        right = response.status == 200 and answer == line(method, path.partition("?")[0], body)
        return "ok" if right else f"{response.status} {answer[:40]!r}"
