"""What a WSGI application is given: the environ of PEP 3333, made of a Request, and the wrapper for files in it.

Half of an environ is the same for all requests that come to one address. So it is made once, as a template; each
request gets a copy of that, and fills in what is its own.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MethodType
from typing import Any, TypeAlias, cast
from urllib.parse import unquote_to_bytes

from acceptor.messages import Request
from acceptor.versions import installed_version

__all__ = ["Environ", "EnvironMaker", "FileWrapper"]

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


class EnvironMaker:
    """Makes the environ of each request to one application. Any number of threads.

    script_name: where that is mounted, as SCRIPT_NAME has it.
    """

    def __init__(self, script_name: str = "") -> None:
        self._script_name = script_name
        self._templates: dict[tuple[tuple[str, int], str, bool, bool], Environ] = {}
        """By what a template depends on. One application may be served by several acceptors, at several addresses; a
        template is never changed, and any thread may add one: another thread's of the same key is its equal."""

    def make(self, request: Request) -> Environ | None:
        """PEP 3333, "environ Variables"; `acceptor.wsgi.WSGI` says what else is in it. None if the path is not below
        `script_name`."""
        target, scheme = request.target, request.scheme
        path, _, query = target.partition("?")
        if path[:1] != "/":
            path = request.raw_path  # of the absolute form
            if path[:1] != "/":
                path = "" if path == "*" else f"/{path}"  # RFC 9112 section 3.2.4; or what INVALID_TARGET allows
        if "%" in path:  # as the PEP has it, bytes that look like text: the application knows, or guesses, the encoding
            path = unquote_to_bytes(path).decode("latin-1")
        if (mount := self._script_name) and path:
            if path != mount and not path.startswith(mount + "/"):
                return None
            path = path[len(mount):]
        local = request.local
        key = local, scheme, request.multithread, request.multiprocess
        environ = (self._templates.get(key) or self._make_template(key)).copy()
        environ["REQUEST_METHOD"] = request.method
        environ["PATH_INFO"] = path
        environ["QUERY_STRING"] = query
        environ["REQUEST_URI"] = environ["RAW_URI"] = target
        if request.version != "1.1":
            environ["SERVER_PROTOCOL"] = f"HTTP/{request.version}"
        address, port = request.client
        if port:
            environ["REMOTE_PORT"] = str(port)
        environ["REMOTE_ADDR"] = "" if address == "unix" else address
        host = request.host
        if not local[1]:
            environ["SERVER_NAME"], environ["SERVER_PORT"] = _server_of(host, scheme)
        environ["wsgi.input"] = request.body
        environ["wsgi.errors"] = sys.stderr
        environ["wsgi.early_hints"] = MethodType(_send_early_hints, request)
        environ["acceptor.request"] = request
        for name, raw_value in request.headers.raw:
            if (header := _keys[name]) is None:
                continue
            value = raw_value.decode("latin-1")
            if header in environ:  # RFC 9110 section 5.3; cookies have a list of their own: RFC 6265 section 4.2.1
                value = f"{environ[header]}{'; ' if header == 'HTTP_COOKIE' else ', '}{value}"
            environ[header] = value
        if host:  # of the target, or whom a trusted proxy names: the header may be of another opinion
            environ["HTTP_HOST"] = host
        return environ

    def _make_template(self, key: tuple[tuple[str, int], str, bool, bool]) -> Environ:
        """What all environs of that `key` have alike."""
        (name, port), scheme, multithread, multiprocess = key
        template: Environ = {
            # Filled in for each request. They stand here so that the table of a copy has room for all.
            "REQUEST_METHOD": "", "PATH_INFO": "", "QUERY_STRING": "", "REQUEST_URI": "", "RAW_URI": "",
            "REMOTE_ADDR": "", "wsgi.input": None, "wsgi.errors": None, "wsgi.early_hints": None,
            "acceptor.request": None,
            "SCRIPT_NAME": self._script_name,
            # IPv6 in brackets, as in a URL: RFC 3875 section 4.1.14. Of a UNIX socket it is filled in, too.
            "SERVER_NAME": f"[{name.partition('%')[0]}]" if ":" in name else name,
            "SERVER_PORT": str(port),
            "SERVER_PROTOCOL": "HTTP/1.1",
            "SERVER_SOFTWARE": _SOFTWARE,
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": scheme,
            "wsgi.input_terminated": True,
            "wsgi.multithread": multithread,
            "wsgi.multiprocess": multiprocess,
            "wsgi.run_once": False,
            "wsgi.file_wrapper": FileWrapper,
        }
        if scheme == "https":
            template["HTTPS"] = "on"
        if len(self._templates) < _TEMPLATES:
            self._templates[key] = template
        return template


_TEMPLATES = 100
"""Of one application, at most: a host may have any number of addresses."""


def _send_early_hints(request: Request, headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> None:
    """`wsgi.early_hints`, once it is bound."""
    request.send_informational(103, headers)


class _Keys(dict[bytes, "str | None"]):
    """Environ keys by header name; None: it is left out. Those that have been seen are remembered, up to a number and a
    size; any thread may write it, the same value each time."""

    def __missing__(self, name: bytes) -> str | None:
        key = None if b"_" in name else "HTTP_" + name.decode("latin-1").upper().replace("-", "_")
        if len(self) < 500 and len(name) < 50:
            self[name] = key
        return key


_keys = _Keys({b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"})

_HOST = re.compile("(.*?)(?::([0-9]*))?", re.DOTALL)


def _server_of(host: str, scheme: str) -> tuple[str, str]:
    """SERVER_NAME and SERVER_PORT, which must not be empty, over a UNIX socket: whom the request is for."""
    found = _HOST.fullmatch(host)
    assert found is not None, "it matches everything"
    return found[1] or "localhost", found[2] or ("443" if scheme == "https" else "80")
