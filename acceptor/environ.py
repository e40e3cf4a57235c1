"""What a WSGI application is given: the environ of PEP 3333, made of a Request, and the wrapper for files in it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, cast
from urllib.parse import unquote_to_bytes

from acceptor.messages import Request
from acceptor.versions import installed_version

__all__ = ["Environ", "FileWrapper", "make_environ"]

Environ: TypeAlias = dict[str, Any]

_SOFTWARE = "/".join(filter(None, ["Taskmasters", installed_version("taskmasters")]))
"""SERVER_SOFTWARE."""


class FileWrapper:
    """`wsgi.file_wrapper`: a file to be sent by the quickest way there is, sendfile(2) where that is possible.

    filelike: anything with read(size); from where it stands to its end, or for as many bytes as Content-Length says.
    block_size: bytes read at a time by whoever iterates over it, as middleware does. The server has a size of its own.
    """

    close: Callable[[], object]
    """The file's; there only if that has it, as are `seekable`, `seek` and `tell`."""

    def __init__(self, filelike: Any, block_size: int = 64 * 1024) -> None:
        self.filelike = filelike
        self.block_size = block_size
        for name in ("close", "seekable", "seek", "tell"):  # what sends a part of it looks whether it has these
            if hasattr(filelike, name):
                setattr(self, name, getattr(filelike, name))

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if piece := self.filelike.read(self.block_size):
            return cast(bytes, piece)
        raise StopIteration


def make_environ(request: Request, script_name: str = "") -> Environ | None:
    """PEP 3333, "environ Variables"; `acceptor.wsgi.WSGI` says what else is in it. None if the path is not below
    `script_name`, where the application is mounted."""
    target, scheme, path = request.target, request.scheme, request.raw_path
    if not path.startswith("/"):
        path = "" if path == "*" else f"/{path}"  # OPTIONS *: RFC 9112 section 3.2.4; or what INVALID_TARGET allows
    # As the PEP has it, bytes that look like text: the application knows, or guesses, in which encoding.
    path = unquote_to_bytes(path).decode("latin-1") if "%" in path else path
    if script_name and path:
        if path != script_name and not path.startswith(script_name + "/"):
            return None
        path = path[len(script_name):]
    client, client_port = request.client
    name, port = _server(request)
    environ: Environ = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": script_name,
        "PATH_INFO": path,
        "QUERY_STRING": request.query,
        "REQUEST_URI": target,
        "RAW_URI": target,
        "SERVER_NAME": name,
        "SERVER_PORT": port,
        "SERVER_PROTOCOL": f"HTTP/{request.version}",
        "SERVER_SOFTWARE": _SOFTWARE,
        "REMOTE_ADDR": "" if client == "unix" else client,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scheme,
        "wsgi.input": request.body,
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": request.multithread,
        "wsgi.multiprocess": request.multiprocess,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
        "wsgi.early_hints": lambda headers: request.send_informational(103, headers),
        "acceptor.request": request,
    }
    if client_port:
        environ["REMOTE_PORT"] = str(client_port)
    if scheme == "https":
        environ["HTTPS"] = "on"
    for raw_name, raw_value in request.headers.raw:
        if b"_" in raw_name:
            continue
        key, value = _key(raw_name), raw_value.decode("latin-1")
        if key in environ:  # RFC 9110 section 5.3; cookies have a list of their own: RFC 6265 section 4.2.1
            value = f"{environ[key]}{'; ' if key == 'HTTP_COOKIE' else ', '}{value}"
        environ[key] = value
    if request.host:  # of the target, or whom a trusted proxy names: the header may be of another opinion
        environ["HTTP_HOST"] = request.host
    return environ


_keys: dict[bytes, str] = {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"}
"""Environ keys by header name. Those that have been seen are remembered, up to a number and a size; any thread may
write it, the same value each time."""


def _key(name: bytes) -> str:
    if (key := _keys.get(name)) is None:
        key = "HTTP_" + name.decode("latin-1").upper().replace("-", "_")
        if len(_keys) < 500 and len(name) < 50:
            _keys[name] = key
    return key


_HOST = re.compile("(.*?)(?::([0-9]*))?", re.DOTALL)


def _server(request: Request) -> tuple[str, str]:
    """SERVER_NAME and SERVER_PORT, which must not be empty: where the connection ends, or, over a UNIX socket, whom the
    request is for. IPv6 in brackets, as in a URL: RFC 3875 section 4.1.14."""
    name, port = request.local
    if port:
        return f"[{name.partition('%')[0]}]" if ":" in name else name, str(port)
    found = _HOST.fullmatch(request.host)
    assert found is not None, "it matches everything"
    return found[1] or "localhost", found[2] or ("443" if request.scheme == "https" else "80")
