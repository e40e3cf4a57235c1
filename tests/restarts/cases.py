"""Restarts under load: behind HAProxy on machines of their own, with a listen socket that outlives the server, and
behind nginx. The proxies run the files of deploy/."""

from __future__ import annotations

import contextlib
import itertools
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.proxies import free_port, nginx
from tests.restarts.lab import (
    PATIENCE,
    ROOT,
    LoadProcess,
    LoadResult,
    Server,
    haproxy,
    listen_socket,
    model_options,
    taken_over,
    wait_until,
)
from tests.restarts.namespaces import FRONT, network

__all__ = ["CASES", "HEADER", "Case", "Row"]

RATE = 1500.0
"""Requests a second that the load tries to make."""
ROUNDS = 3
"""So often every server is restarted, at least."""
BETWEEN = 500
"""Requests between two restarts, at least."""
POST_CROSSED = "POST crossed the end of its kept connection"

HEADER = ["what", "model", "requests", "failed", "sent again by HAProxy", "GETs sent again by clients", "restarts",
          "p50 ms", "p99 ms", "longest ms"]


@dataclass(frozen=True)
class Row:
    """What came of a load, and of so many restarts."""

    result: LoadResult
    restarts: int
    repaired: int | None = None
    """Requests that HAProxy has sent again, to another server."""

    @property
    def wrong(self) -> dict[str, int]:
        """What went wrong, and how often."""
        return {what: count for what, count in self.result.outcomes.items() if what != "ok"}

    def cells(self) -> list[str]:
        """Below HEADER, from the third."""
        result, wrong = self.result, self.wrong
        why = ", ".join(f"{what}: {count:,}" for what, count in wrong.items())
        return [f"{sum(result.outcomes.values()):,}", f"{sum(wrong.values()):,}{f' ({why})' if why else ''}",
                "" if self.repaired is None else f"{self.repaired:,}", f"{result.crossed.get('GET', 0):,}",
                str(self.restarts), *(f"{1000 * seconds:,.0f}" for seconds in (result.p50, result.p99, result.longest))]


HOSTS = {"app1": "192.0.2.11", "app2": "192.0.2.12", "app3": "192.0.2.13"}
"""As in deploy/haproxy.cfg. No machine has such addresses: RFC 5737."""


def rolling(model: str, count: int, *, leave: str = "4", retries: str = "3", rounds: int = ROUNDS) -> Row:
    """Three machines behind HAProxy, whose servers are restarted one after the other."""
    config = _with((ROOT / "deploy" / "haproxy.cfg").read_text(), {"    retries 3\n": f"    retries {retries}\n"})
    options = ["--bind", ":8000", *model_options(model), "--leave", leave, "--live-path", "/livez",
               "--ready-path", "/readyz", "--trusted-proxies", "192.0.2.1"]
    servers: dict[str, Server] = {}
    with network("192.0.2.1", HOSTS) as net, contextlib.ExitStack() as stack:
        def start(host: str) -> None:
            servers[host] = Server(*options, before=net.on(host))
            stack.callback(servers[host].kill)

        def restarts() -> Iterator[None]:
            for host in itertools.cycle(HOSTS):
                servers[host].stop()
                start(host)
                while not proxy.is_up(host):
                    time.sleep(0.02)
                yield

        for host in HOSTS:
            start(host)
        proxy = stack.enter_context(haproxy(config, net.on(FRONT)))
        wait_until(lambda: proxy.is_up(*HOSTS), "HAProxy finds the servers")
        load = LoadProcess(80, count, RATE, before=net.on(FRONT))
        result, restarted = _under(load, restarts(), rounds * len(HOSTS), f"HAProxy, {model}")
        return Row(result, restarted, proxy.repaired)


def by_socket(model: str, count: int, *, overlap: bool = False, leave: str = "4") -> Row:
    """A server with a listen socket that somebody else holds, as systemd does."""
    with listen_socket() as sock, contextlib.ExitStack() as stack:
        restarts = _restarts(sock, model, leave, stack, overlap=overlap)
        next(restarts)
        load = LoadProcess(sock.getsockname()[1], count, RATE, "--retry")
        return Row(*_under(load, restarts, ROUNDS, f"socket, {model}"))


def by_port(model: str, count: int) -> Row:
    """Two servers that share a port by SO_REUSEPORT, restarted in turn, in a namespace for the sake of one setting."""
    options = ["--bind", "127.0.0.1:8000", "--reuse-port", *model_options(model), "--leave", "4"]
    with network("192.0.2.1", {}) as net, contextlib.ExitStack() as stack:
        subprocess.run([*net.on(FRONT), "sysctl", "-q", "-w", "net.ipv4.tcp_migrate_req=1"], check=True)

        def start() -> Server:
            server = Server(*options, before=net.on(FRONT))
            stack.callback(server.kill)
            return server

        def restarts() -> Iterator[None]:
            servers = deque([start(), start()])
            yield
            while True:
                servers.popleft().stop()
                servers.append(start())
                yield

        steps = restarts()
        next(steps)
        load = LoadProcess(8000, count, RATE, "--retry", before=net.on(FRONT))
        return Row(*_under(load, steps, ROUNDS, f"reuse-port, {model}"))


def behind_nginx(model: str, count: int, *, reload: bool = False) -> Row:
    """nginx before the UNIX socket of a server that is restarted; or it is nginx that is told to reload."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        path, port = Path(folder, "sock"), free_port()
        config = _with((ROOT / "deploy" / "nginx.conf").read_text(), {
            "unix:/run/taskmaster.sock": f"unix:{path}", "listen 80;": f"listen 127.0.0.1:{port};"})
        sock = stack.enter_context(listen_socket(path))
        restarts = _restarts(sock, model, "4", stack, overlap=False)
        next(restarts)
        reload_nginx = stack.enter_context(nginx(config, port, PATIENCE))
        load = LoadProcess(port, count, RATE, "--retry")
        return Row(*_under(load, iter(reload_nginx, None) if reload else restarts, ROUNDS, f"nginx, {model}"))


def _restarts(sock: socket.socket, model: str, leave: str, stack: contextlib.ExitStack, *, overlap: bool
              ) -> Iterator[None]:
    """Start a server with `sock`; then at each step restart it.

    overlap: the new server is there before the old one is stopped; else once it has ended, as systemctl restart does.
    """
    def start() -> Server:
        server = taken_over(sock, *model_options(model), "--leave", leave, "--trusted-proxies", "unix")
        stack.callback(server.kill)
        return server

    server = start()
    yield
    while True:
        if overlap:
            old, server = server, start()
            old.stop()
        else:
            server.stop()
            server = start()
        yield


def _under(load: LoadProcess, restarts: Iterator[object], least: int, what: str) -> tuple[LoadResult, int]:
    """Restart until the load has been made, and so often at least; its result, and how often. Ends the load."""
    count = 0
    live = sys.stderr.isatty()
    try:
        while load.done < load.count or count < least:
            next(restarts)
            count += 1
            print("\r\x1b[K" * live + f"{what}: {count} restarts, {load.done:,} of {load.count:,} requests",
                  end="" if live else "\n", file=sys.stderr, flush=True)
            _wait_for(load, min(load.done + BETWEEN, load.count))
        return load.result(), count
    finally:
        load.kill()
        print("\r\x1b[K" * live, end="", file=sys.stderr, flush=True)


def _wait_for(load: LoadProcess, done: int) -> None:
    wait_until(lambda: load.done >= done, "the load goes on")


def _with(text: str, changes: dict[str, str]) -> str:
    for old, new in changes.items():
        if text.count(old) != 1:
            raise RuntimeError(f"{old!r} is there {text.count(old)} times, not once, in {text}")
        text = text.replace(old, new)
    return text


@dataclass(frozen=True)
class Case:
    """One row of the table for each model."""

    what: str
    run: Callable[[str, int], Row]
    models: Sequence[str] = ("recycling", "pool")
    share: float = 1.0
    """Of the requests."""
    shows: Callable[[Row], bool] | None = None
    """For what is not advised, and shown all the same: whether there was anything to be seen."""
    excused: str = ""
    """An outcome that no server can prevent. It is shown."""

    def is_good(self, row: Row) -> bool:
        if self.shows is not None:
            return self.shows(row)
        return not row.wrong.keys() - {self.excused}


ONE = ("recycling",)
CASES: dict[str, Case] = {
    "rolling": Case("rolling restart behind HAProxy", rolling),
    "rolling-once": Case("the same with `retries 0`", lambda *more: rolling(*more, retries="0", rounds=1), ONE, 0.4),
    "rolling-abrupt": Case(
        "without `--leave`", lambda *more: rolling(*more, leave="0", rounds=1), ONE, 0.4,
        shows=lambda row: bool(row.repaired)),
    "rolling-abrupt-once": Case(
        "without `--leave`, with `retries 0`", lambda *more: rolling(*more, leave="0", retries="0", rounds=1), ONE, 0.2,
        shows=lambda row: bool(row.wrong)),
    "socket": Case("systemd's socket, restart", by_socket),
    "socket-overlap": Case("systemd's socket, new server first", lambda *more: by_socket(*more, overlap=True)),
    "socket-abrupt": Case(
        "systemd's socket, restart without `--leave`", lambda *more: by_socket(*more, leave="0"), ONE, 0.4,
        excused=POST_CROSSED),
    "reuse-port": Case("two servers with `--reuse-port`", by_port, ONE, 0.4),
    "nginx": Case("nginx and systemd's socket, restart", behind_nginx, ONE),
    "nginx-reload": Case("nginx reloads", lambda *more: behind_nginx(*more, reload=True), ONE, 0.4,
                         excused=POST_CROSSED),
}
