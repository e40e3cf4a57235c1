"""A WSGI application as a handler: PEP 3333, all of it.

    Acceptor(WSGI(app), port=8080, taskmaster=RecyclingTaskmaster()).serve_forever()

What PEP 3333 calls the server is split here as the whole house is: this module turns what the application does into a
Response, and the acceptor sends it. Three things of the PEP decide how:

    start_response may be called as late as when the first piece is asked for, and until that piece is sent it may be
        called again, to report an error instead: so the first piece that is not empty is fetched before the handler
        returns, and everything else while it is sent
    write() sends before the application has returned: `Request.begin`
    close() of what the application returned is called exactly once, whatever happens: by the acceptor, once it has the
        response; by us if it never gets one

It stands here rather than in `handlers`, where it can be had as well, so that serving an application imports nothing
whose name the application may want for a package of its own.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, TypeAlias, cast

from acceptor.environ import Environ, EnvironMaker, FileWrapper
from acceptor.fields import check_reason, encode_field
from acceptor.interfaces import is_wsgi, takes
from acceptor.messages import Body, BodyError, ClientDisconnectedError, Request, Response, file_size

__all__ = ["WSGI", "Application", "FileWrapper", "is_wsgi"]

ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None]
Application: TypeAlias = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

logger = logging.getLogger("acceptor")

_NOT_THEIRS = frozenset({"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer",
                         "transfer-encoding", "upgrade"})
"""PEP 3333, "Other HTTP Features": hop-by-hop headers are the server's. An application that sets one does no harm: it
is left out. `Connection: close` is heeded."""


class WSGI:
    """The handler that calls `app(environ, start_response)`. Any number of threads, as the environ says.

    app: the application: a callable that takes an environ and start_response, and returns an iterable of bytes.
    script_name: the path under which the application is mounted, "/shop" for example, which becomes SCRIPT_NAME; what
        is not below it is answered 404. Give it to a proxy's target that keeps the prefix.

    The environ has, besides what PEP 3333 asks for: REMOTE_ADDR and REMOTE_PORT of the client (whom a trusted proxy
    names, if there is one; REMOTE_ADDR is empty over a UNIX socket, and REMOTE_PORT absent where nobody says it),
    REQUEST_URI and RAW_URI (the target as sent), HTTPS=on, wsgi.input_terminated (reading wsgi.input ends where the
    body does, chunked ones included), wsgi.early_hints (call it with header pairs, and a 103 is sent: RFC 8297), and
    acceptor.request, the Request itself. Header names with an underscore are left out: in the environ they would look
    like those with a hyphen, which a proxy in front may have checked. `OPTIONS *` has an empty PATH_INFO.

    What an application sends beyond its Content-Length is left out, and logged; write() raises for it. A body of one
    piece has the length that it has, whatever Content-Length says. If the request's body could not be read (BodyError)
    and the application fails, or answers 400 and above, the client gets the status that fits: 400, 408, 413 or 431.

    TypeError or ValueError if `app` cannot be called that way, or `script_name` is no path.
    """

    def __init__(self, app: Application, *, script_name: str = "") -> None:
        if not is_wsgi(app) and not takes(app, 2):
            raise TypeError(f"app={app!r}: it takes one argument, a Request, and so is a handler: pass it to Acceptor "
                            "as it is; a WSGI application takes (environ, start_response)")
        if not isinstance(script_name, str):
            raise TypeError(f'script_name={script_name!r}: pass a str such as "/shop", or "" for none')
        if script_name and (not script_name.startswith("/") or script_name.endswith("/")):
            raise ValueError(f'script_name={script_name!r}: write a path such as "/shop", or "" for none')
        self.app = app
        self._environs = EnvironMaker(script_name.encode().decode("latin-1"))

    def __call__(self, request: Request) -> Response:
        environ = self._environs.make(request)
        if environ is None:
            return Response("Not Found\n", 404)
        return _Call(request).run(self.app, environ)


class _Call:
    """One call of the application, and what it has said so far. Owned by the thread that runs the handler."""

    # Here and not in __init__, because most calls change the first only.
    _response: Response | None = None
    """Made by start_response; it can be replaced until it has been begun. None again once it is the acceptor's: its
    body may know start_response, and that would be a circle."""
    _returned = False
    """The response is with the acceptor."""
    _write: Callable[[bytes], None] | None = None
    """Once it has been begun."""
    _written = 0
    """Bytes, by that."""

    def __init__(self, request: Request) -> None:
        self._request = request

    def run(self, app: Application, environ: Environ) -> Response:
        result: Iterable[bytes] | None = None
        try:
            result = app(environ, self._start_response)
            # What most answers are needs none of what follows. (If the connection has been detached, nobody looks.)
            if (type(result) is list and len(result) == 1 and type(body := result[0]) is bytes and body
                    and (response := self._response) is not None and response.status < 400 and self._write is None):
                response.body = body
            elif self._request.detached:  # nobody wants an answer
                self._close_failed(result)
                return Response()
            else:
                response = self._finish(result)
        except BaseException as error:
            self._close_failed(result)
            if isinstance(error, Exception) and not isinstance(error, ClientDisconnectedError):
                self._blame_body(error)
            raise
        self._response, self._returned = None, True
        return response

    def _start_response(self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
                        ) -> Callable[[bytes], None]:
        """PEP 3333, "The start_response() Callable"."""
        if exc_info or self._response is not None or self._returned:
            try:
                if self._write is not None or self._returned:
                    if exc_info:
                        raise exc_info[1].with_traceback(exc_info[2])  # too late for another answer
                    raise AssertionError("start_response() again after the response has begun")
                if not exc_info:
                    raise AssertionError("start_response() a second time; that is allowed with exc_info only")
            finally:
                exc_info = None  # or there would be a circle: the traceback has this frame
        self._response = _response(status, headers)
        return self._write_now

    def _write_now(self, data: bytes) -> None:
        """PEP 3333, "The write() Callable"."""
        if self._returned:
            raise AssertionError("write() after the application has returned; yield what there is to be sent")
        if not isinstance(data, bytes):
            raise TypeError(f"write({data!r:.80}): pass bytes, not {type(data).__name__}")
        assert self._response is not None
        if self._write is None and data:
            self._write = self._request.begin(self._response)
        if self._write is not None:
            self._write(data)
            self._written += len(data)

    def _finish(self, result: Iterable[bytes]) -> Response:
        """The response, with the rest of its body."""
        if result is None or isinstance(result, (str, bytes)):
            raise TypeError(f"the application returned {result!r:.80}: it must return an iterable of bytes, such as "
                            "[body]")
        body = self._whole(result)
        if body is None:
            body = self._pieces(result)
        if (response := self._response) is None:
            raise AssertionError("the application has returned and yielded without calling start_response()")
        if response.status >= 400:
            self._blame_body(None)
        response.body = body
        return response

    def _whole(self, result: Iterable[bytes]) -> Body | None:
        """A body whose length is known; None if it has to go piece by piece."""
        response = self._response
        if response is None or self._write is not None:
            return None
        if type(result) is FileWrapper:  # a subclass may make something else of it
            size = file_size(result.filelike)
            if size is not None and _announced(response) is None:
                response.headers.append((b"content-length", b"%d" % size))
            return cast(Body, result.filelike) if size is not None else None
        if isinstance(result, (list, tuple)) and len(result) < 2 and not hasattr(result, "close"):
            piece = _checked(*result) if result else b""  # its length is known (PEP, "Content-Length")
            # Nothing, in answer to a HEAD, says nothing about the length that the answer to a GET has.
            return piece if piece or self._request.method != "HEAD" else None
        return None

    def _pieces(self, result: Iterable[bytes]) -> Body:
        """All of `result`, of which the first piece that is not empty has been made, and with it the status."""
        pieces = iter(result)
        first = b""
        if not (self._request.method == "HEAD" and self._response is not None):
            for piece in pieces:
                if first := _checked(piece):
                    break
        announced = _announced(self._response)
        left = None if announced is None else max(0, announced - self._written)
        return _Pieces(self._request, first, pieces, result, left)

    def _blame_body(self, error: Exception | None) -> None:
        """BodyError, if it is the request's body that could not be read, and nothing has been sent: the application has
        failed or answers as it can, 400 or 500, and we know better what was wrong."""
        status = self._request.body_error
        if status is not None and self._write is None:
            raise BodyError(status) from error

    def _close_failed(self, result: object) -> None:
        """After an error, which another one must not hide."""
        try:
            _close(result)
        except Exception:
            logger.exception("%r: close() of what the application returned failed", self._request)


class _Pieces:
    """What the application has returned, an iterator of which has been looked into.

    left: bytes that may be sent of it; None: any number. What goes beyond is neither sent nor asked for.
    """

    def __init__(self, request: Request, first: bytes, rest: Iterator[bytes], result: object, left: int | None) -> None:
        self._request = request
        self._first = first
        self._rest = rest
        self._result = result
        self._left = left

    def __iter__(self) -> Iterator[bytes]:
        first, self._first = self._first, b""
        # Not `yield from`: if its iterator is dropped halfway, that closes the other one too, and so does `close`.
        for piece in itertools.chain((first,), self._rest):
            if self._left is not None:
                if len(_checked(piece)) > self._left:
                    logger.warning("%r: the application's body is longer than its Content-Length; the rest is left out",
                                   self._request)
                    yield piece[:self._left]
                    return
                self._left -= len(piece)
            yield piece

    def close(self) -> None:
        result, self._result = self._result, None
        _close(result)


def _close(result: object) -> None:
    if (close := getattr(result, "close", None)) is not None:
        close()


def _checked(piece: object) -> bytes:
    if not isinstance(piece, bytes):
        raise TypeError(f"the application yielded {piece!r:.80} ({type(piece).__name__}); it must yield bytes")
    return piece


def _response(status: str, headers: Iterable[tuple[str, str]]) -> Response:
    """What start_response was called with, checked; TypeError or ValueError."""
    response = _new_response(Response)  # its __init__ would check all of it, each time
    response.body = b""
    try:
        known = _statuses.get(status)
    except TypeError:  # cannot be hashed
        known = None
    response.status, response.reason = _check_status(status) if known is None else known
    response.headers = fields = []
    for pair in headers:
        try:
            field = _fields.get(pair)
        except TypeError:
            field = None
        if field is None:
            field = _check_header(pair)
        if field:
            fields.append(field)
    return response


# Applications answer with the same few statuses and headers again and again, so what has been checked is remembered:
# nothing that has been refused, and nothing long. What is full is emptied; thus something that is different each time
# does not stay for ever, nor does it keep out what is not. Any thread may read and write them, as a dict allows, the
# same value each time. (Whoever's own kind of str is equal to one of these gets what that gets, which is checked.)
_statuses: dict[str, tuple[int, str | None]] = {}
"""Status and reason."""
_fields: dict[tuple[str, str], tuple[bytes, bytes] | tuple[()]] = {}
"""A header, as a Response has it; empty: it is left out."""
_REMEMBERED = 1000
"""Of each, and 128 characters of one."""
_LONG = 128

_new_response = Response.__new__
_STATUS = re.compile("([2-9][0-9]{2})(?: (.*))?", re.DOTALL)


def _check_status(status: str) -> tuple[int, str | None]:
    """Status and reason. Without a reason it has the standard one: the PEP asks for one, and not every application
    heeds it. ValueError if it is none."""
    found = _STATUS.fullmatch(status) if isinstance(status, str) else None
    if found is None:
        raise ValueError(f'start_response({status!r:.80}): the status is a str such as "200 OK", from 200 to 999')
    if found[2] is not None:
        check_reason(found[2])
    checked = int(found[1]), found[2]
    if type(status) is str and len(status) <= _LONG:
        _remember(_statuses, status, checked)
    return checked


def _check_header(pair: tuple[str, str]) -> tuple[bytes, bytes] | tuple[()]:
    """What `_fields` has of it. TypeError or ValueError, with the fix, if it is no header."""
    try:
        name, value = pair
        lower, value = name.lower(), value.strip(" \t")
        theirs = lower in _NOT_THEIRS and not (lower == "connection" and "close" in value.lower())
    except (AttributeError, TypeError, ValueError):
        raise TypeError(f"start_response(): header {pair!r:.80}: pass a tuple of a name and a value, both str"
                        ) from None
    checked = () if theirs else encode_field(name, value)
    if type(pair) is tuple and type(pair[0]) is type(pair[1]) is str and len(pair[0]) + len(pair[1]) <= _LONG:
        _remember(_fields, pair, checked)
    return checked


def _remember(known: dict[Any, Any], key: object, value: object) -> None:
    if len(known) >= _REMEMBERED:
        known.clear()
    known[key] = value


def _announced(response: Response | None) -> int | None:
    """Its Content-Length; of several, the last, which is the one that is sent."""
    if response is not None:
        for name, value in reversed(response.headers):
            if name == b"content-length":
                return int(value)
    return None
