"""nginx and HAProxy as a `with` block: in the foreground, with a configuration and a folder of their own, as any user.

    with proxy("nginx", [acceptor.port]) as port: ...        connections to the backends are kept, and used again

They are set up as their manuals advise for a backend that keeps connections; what is not said here is their default.
HAProxy is told to do what nginx does by itself: a GET or HEAD whose kept connection was closed before the answer began
is sent again (RFC 9110 section 9.2.2), a POST is not. `nginx` and `foreground` are for other configurations.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

__all__ = ["NGINX", "accepts", "foreground", "free_port", "nginx", "proxy", "wait_until"]

PATIENCE = 10.0
"""Seconds that a proxy may need to start, and to end."""
NGINX = """\
{user}
daemon off;
pid {folder}/pid;
worker_processes 1;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    {temporary}
    {config}
}}
"""
BACKEND = """\
    client_max_body_size 0;
    upstream backend {{
        {servers}
        keepalive 32;
        keepalive_timeout {idle}ms;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://backend;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
"""
HAPROXY = """\
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    retries 10
    option redispatch
    retry-on conn-failure empty-response
listen all
    bind 127.0.0.1:{port}
    http-reuse always
    http-request disable-l7-retry unless METH_GET or {{ method HEAD }}
    {servers}
"""


@contextlib.contextmanager
def proxy(kind: str, ports: Sequence[int], *, idle: float = 60.0, options: str = "") -> Iterator[int]:
    """Run "nginx" or "haproxy" before the backends at 127.0.0.1:`ports`; yield the port that it listens on.

    idle: seconds that an unused connection to a backend is kept (nginx only; 60 is its default).
    options: HAProxy's, of each backend: "send-proxy".

    Blocks until it listens. RuntimeError, with what it printed, if it does not.
    """
    port = free_port()
    if kind == "nginx":
        config = BACKEND.format(port=port, idle=round(idle * 1000), servers=" ".join(
            f"server 127.0.0.1:{backend} max_fails=0;" for backend in ports))
        with nginx(config, port):
            yield port
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "haproxy.cfg")
        path.write_text(HAPROXY.format(port=port, servers="\n    ".join(
            f"server s{backend} 127.0.0.1:{backend} {options}" for backend in ports)))
        with foreground(["haproxy", "-db", "-f", str(path)], lambda: accepts(port)):
            yield port


@contextlib.contextmanager
def nginx(config: str, port: int, patience: float = PATIENCE) -> Iterator[Callable[[], object]]:
    """nginx in the foreground with `config` in its http block, which listens on `port`; yields `nginx -s reload`."""
    with tempfile.TemporaryDirectory() as folder:
        text = NGINX.format(
            folder=folder, config=config,
            user="user root root;" if os.geteuid() == 0 else "",  # else its workers may not enter the folder
            temporary=" ".join(f"{what}_temp_path {folder}/{what};"
                               for what in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")))
        Path(folder, "nginx.conf").write_text(text)
        command = ["nginx", "-p", folder, "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"]
        with foreground(command, lambda: accepts(port), patience):
            yield lambda: subprocess.run([*command, "-s", "reload"], check=True)


@contextlib.contextmanager
def foreground(command: Sequence[str], runs: Callable[[], bool], patience: float = PATIENCE) -> Iterator[None]:
    """`command`, running, once `runs` says so; ended by TERM. RuntimeError, with what it printed, if it ends before."""
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            wait_until(lambda: runs() or process.poll() is not None, f"{command[0]} runs", patience)
            if process.poll() is not None:
                output.seek(0)
                raise RuntimeError(f"{' '.join(command)}: {output.read()[-2000:]}")
            yield
        finally:
            process.terminate()
            process.wait(patience)


def free_port() -> int:
    """A port that was free a moment ago: a proxy cannot choose one and tell which."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def accepts(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def wait_until(condition: Callable[[], bool], what: str, patience: float) -> None:
    """Look again and again: other processes tell nobody. RuntimeError after `patience` seconds."""
    end = time.monotonic() + patience
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"waited {patience:g} s in vain until {what}")
        time.sleep(0.02)
