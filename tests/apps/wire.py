"""Werkzeug's and Flask's test client over HTTP: what it gets has gone through a running server; for `substitutes`."""

from __future__ import annotations

import contextvars
import http.client
import itertools
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import werkzeug.test
from werkzeug.datastructures import Headers

from acceptor import Acceptor
from acceptor.wsgi import WSGI, Application
from taskmaster import Taskmaster

__all__ = ["Wire"]


class Wire:
    """Runs WSGI applications as `werkzeug.test.run_wsgi_app` does, but over HTTP. Any thread.

    What the test has put into the environ and HTTP has no place for is added to the server's. The application runs in a
    copy of the test's context, and what it raises is raised in the test, as they expect.
    """

    def __init__(self, taskmaster: Taskmaster) -> None:
        self._original = werkzeug.test.run_wsgi_app
        self._numbers = itertools.count()
        self._calls: dict[str, _Call] = {}
        self._acceptor = Acceptor(WSGI(self._run), port=0, taskmaster=taskmaster).start()

    def close(self) -> None:
        self._acceptor.stop()

    def run_wsgi_app(self, app: Application, environ: dict[str, Any], buffered: bool = False) -> Any:
        if "acceptor.request" in environ:  # Flask runs an exception, which is an application, within a request
            return self._original(app, environ, buffered)
        environ = dict(environ)
        call = _Call(app, environ)
        number = str(next(self._numbers))
        self._calls[number] = call
        client = http.client.HTTPConnection("127.0.0.1", self._acceptor.port, timeout=20)
        try:
            _send(client, environ, number)
            response = client.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException):
            if call.error is not None:
                raise call.error from None
            raise
        finally:
            del self._calls[number]
            client.close()
        if call.error is not None:
            raise call.error
        headers = Headers((name, value) for name, value in response.getheaders()
                          if name.lower() not in ("date", "connection", "transfer-encoding"))
        return iter([body]), f"{response.status} {response.reason}", headers

    def _run(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        return self._calls[environ.pop("HTTP_X_WIRE")].run(environ, start_response)


_OF_THE_TEST = {"SERVER_NAME", "SERVER_PORT", "SCRIPT_NAME", "PATH_INFO", "REMOTE_ADDR", "wsgi.url_scheme",
                "wsgi.errors", "wsgi.multithread"}
"""Where and what the server is, and where the application is mounted on it, the test says."""
_OF_THE_REQUEST = {"CONTENT_LENGTH", "CONTENT_TYPE"}
"""They may be empty in an environ, and have not been sent then."""


class _Call:
    """One request: the application and its environ, and what it raises. The server's thread runs it, the test waits."""

    def __init__(self, app: Application, environ: dict[str, Any]) -> None:
        self._app, self._environ = app, environ
        self._context = contextvars.copy_context()
        self.error: BaseException | None = None

    def run(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        path = self._environ["SCRIPT_NAME"] + self._environ["PATH_INFO"]
        assert environ["PATH_INFO"] == (path or "/"), (environ["PATH_INFO"], path)
        environ |= {key: value for key, value in self._environ.items()
                    if key in _OF_THE_TEST or not (key in environ or key in _OF_THE_REQUEST)}
        try:
            result = self._context.run(self._app, environ, start_response)
            try:
                pieces = iter(result)
                while (piece := self._context.run(next, pieces, None)) is not None:
                    yield piece
            finally:
                if hasattr(result, "close"):
                    self._context.run(result.close)
        except GeneratorExit:  # closed by the server, before the end
            raise
        except BaseException as error:
            self.error = error
            raise


def _send(client: http.client.HTTPConnection, environ: dict[str, Any], number: str) -> None:
    path = urllib.parse.quote((environ["SCRIPT_NAME"] + environ["PATH_INFO"]).encode("latin-1"), "/:@!$&'()*+,;=~")
    query = f"?{environ['QUERY_STRING']}" if environ.get("QUERY_STRING") else ""
    client.putrequest(environ["REQUEST_METHOD"], (path or "/") + query, skip_host=True, skip_accept_encoding=True)
    headers = {key[5:].replace("_", "-"): value for key, value in environ.items() if key.startswith("HTTP_")}
    headers |= {key.replace("_", "-"): environ[key] for key in ("CONTENT_TYPE", "CONTENT_LENGTH") if environ.get(key)}
    for name, value in {"HOST": environ["SERVER_NAME"], **headers, "X-WIRE": number, "CONNECTION": "close"}.items():
        client.putheader(name, value)
    client.endheaders()
    if (length := int(environ.get("CONTENT_LENGTH") or 0)) > 0:
        body = environ["wsgi.input"]
        before = body.tell() if body.seekable() else None
        client.send(body.read(length))
        if before is not None:
            body.seek(before)  # it may be sent again, after a redirect
