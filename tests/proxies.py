"""nginx and HAProxy as a `with` block: in the foreground, with a configuration and a folder of their own, as any user.

    with proxy("nginx", [acceptor.port]) as port: ...        connections to the backends are kept, and used again

They are set up as their manuals advise for a backend that keeps connections; what is not said here is their default.
HAProxy is told to do what nginx does by itself: a GET or HEAD whose kept connection was closed before the answer began
is sent again (RFC 9110 section 9.2.2), a POST is not.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["proxy"]

PATIENCE = 10.0
"""Seconds that a proxy may need to start."""
NGINX = """\
{user}
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    {temporary}
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
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), _free_port()
        log = folder / "output"
        if kind == "nginx":
            config = NGINX.format(
                folder=folder, port=port, idle=round(idle * 1000),
                user="user root root;" if os.geteuid() == 0 else "",  # else the workers may not enter the folder
                temporary=" ".join(f"{what}_temp_path {folder}/{what};"
                                   for what in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")),
                servers=" ".join(f"server 127.0.0.1:{backend} max_fails=0;" for backend in ports))
            command = ["nginx", "-p", name, "-e", f"{folder}/error.log", "-c", f"{folder}/config"]
        else:
            config = HAPROXY.format(port=port, servers="\n    ".join(
                f"server s{backend} 127.0.0.1:{backend} {options}" for backend in ports))
            command = ["haproxy", "-db", "-f", f"{folder}/config"]
        (folder / "config").write_text(config)
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            end = time.monotonic() + PATIENCE
            while not _listens(port):
                if process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"{kind} does not run: {log.read_text()[-2000:]}")
                time.sleep(0.02)
            yield port
        finally:
            process.terminate()
            process.wait(PATIENCE)


def _free_port() -> int:
    """A port that was free a moment ago: neither of the two can choose one and tell which."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0
