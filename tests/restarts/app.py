"""The application that is served: every answer can be checked, and some take as long as they are told.

    /anything       the method, the path, and a digest of the body (tests.client_programs.line)
    /sleep/0.3/x    the same, after 0.3 s

If $HELD is set, the descriptor that it names gets a byte when a request begins.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tests.client_programs import line

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["app"]

_HELD = os.environ.get("HELD", "")


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    if _HELD:
        os.write(int(_HELD), b".")
    body = environ["wsgi.input"].read()
    if path.startswith("/sleep/"):
        time.sleep(float(path.split("/")[2]))
    answer = line(method, path, body).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))])
    return [answer]
