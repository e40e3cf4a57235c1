"""The standard library's server, as a peer: http.server.ThreadingHTTPServer, a thread for each connection.

What it does not have by default, and without which it is no match for anybody: HTTP/1.1, which keeps connections, and
"Connection: close" when it does not (RFC 9112 section 9.6); a buffer around what it sends, or head and body are two
packets, and Nagle's algorithm holds the second until the client has acknowledged the first (RFC 1122 section 4.2.3.4),
which takes 40 ms; and a backlog of more than 5. It writes no log.
"""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import IO, Any, cast
from wsgiref.handlers import SimpleHandler
from wsgiref.simple_server import WSGIRequestHandler

from bench.peers.apps import BODY, WSGI, Work

__all__ = ["make_server"]

_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")


def make_server(address: tuple[str, int], app: WSGI | None, work: Work, *, backlog: int, keep_alive: float
                ) -> Any:
    """A socketserver.BaseServer that answers by do_GET; or by `app`, through wsgiref."""
    common = {"protocol_version": "HTTP/1.1", "wbufsize": -1, "timeout": keep_alive,
              "log_message": lambda *_: None}
    handler: type[BaseHTTPRequestHandler]
    if app is None:
        handler = type("Handler", (_Hello,), common | {"work": work})
    else:
        handler = type("Handler", (_Application,), common | {"app": staticmethod(app)} | {
            f"do_{method}": _Application.answer for method in _METHODS})
    server: Any = type("Server", (ThreadingHTTPServer,), {"request_queue_size": backlog})(address, handler)
    server.base_environ = {"SERVER_NAME": address[0], "SERVER_PORT": str(address[1]), "GATEWAY_INTERFACE": "CGI/1.1",
                           "REMOTE_HOST": "", "CONTENT_LENGTH": "", "SCRIPT_NAME": ""}
    return server


class _Hello(BaseHTTPRequestHandler):
    work: Work

    def do_GET(self) -> None:
        try:
            self.work.do(self.path)
        except ValueError:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(BODY)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(BODY)


class _Application(WSGIRequestHandler):
    """wsgiref's, which serves one request of HTTP/1.0, made to go on where both ends of the body are known."""

    app: WSGI
    server: Any

    def handle(self) -> None:
        BaseHTTPRequestHandler.handle(self)

    def answer(self) -> None:
        body, answer = cast(IO[bytes], self.rfile), cast(IO[bytes], self.wfile)
        gateway = _Gateway(body, answer, sys.stderr, self.get_environ())
        gateway.of = self
        if "content-length" in self.headers or "transfer-encoding" in self.headers:
            self.close_connection = True  # the application may leave it unread
        gateway.run(self.app)


class _Gateway(SimpleHandler):
    http_version = "1.1"
    headers: Any
    of: _Application

    def cleanup_headers(self) -> None:
        super().cleanup_headers()
        if "Content-Length" not in self.headers:
            self.of.close_connection = True
        if self.of.close_connection:
            self.headers["Connection"] = "close"
