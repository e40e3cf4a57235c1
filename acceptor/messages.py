"""The contract between the acceptor and a handler: Request, Response, and the errors that cross it.

A handler is any callable that takes a `Request` and returns what to answer:

    def hello(request: Request) -> str:
        return "Hello, World"

It returns a `Response`, or a str or bytes, which means a Response of it with status 200. It runs on whichever thread
the taskmaster serves the connection with, so it may block, and it may be running in many threads at once. What it
raises becomes a 500 without details, and one log line with the traceback.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, BinaryIO, TypeAlias
from urllib.parse import unquote

from acceptor.fields import check_reason, encode_headers, phrase

if TYPE_CHECKING:
    from acceptor.stream import Socket
    from acceptor.tls import TLSInfo

__all__ = ["BodyError", "ClientDisconnectedError", "Detached", "HTTPError", "Handler", "Headers", "Request", "Response"]

Body: TypeAlias = "str | bytes | BinaryIO | Iterable[bytes]"


class Headers(Mapping[str, str]):
    """Request headers: names in any case, values as str (latin-1, as RFC 9110 section 5.5 leaves bytes >= 0x80 opaque).

    A name sent more than once reads as its values joined with ", " (RFC 9110 section 5.3); `get_all` keeps them apart.
    """

    __slots__ = ("raw",)

    def __init__(self, raw: list[tuple[bytes, bytes]]) -> None:
        self.raw = raw
        """The pairs as received, in order, names in lower case."""

    def get_all(self, name: str) -> list[str]:
        """Every value sent under `name`, in order; empty if there is none."""
        wanted = name.lower().encode("latin-1", "replace")
        return [value.decode("latin-1") for key, value in self.raw if key == wanted]

    def __getitem__(self, name: str) -> str:
        values = self.get_all(name)
        if not values:
            raise KeyError(name)
        return ", ".join(values)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name.decode("latin-1") for name, _ in self.raw))

    def __len__(self) -> int:
        return len({name for name, _ in self.raw})

    def __repr__(self) -> str:
        return f"Headers({self.raw!r})"


@dataclass(frozen=True, slots=True)
class Detached:
    """A connection that a handler has taken over: see `Request.detach`."""

    socket: Socket
    """Blocking, without a timeout. A socket.socket or, over TLS, an acceptor.tls.TLSSocket, which has its methods."""
    received: bytes
    """What the client has sent behind the request's head and nobody has read: it comes before what `socket` reads."""


class Request:
    """One request. Belongs to the thread that runs its handler, until the handler's response has been sent.

    An application may add attributes of its own; those whose names begin with an underscore are the server's. Made by
    hand, for tests, it has come over no connection, and can neither `begin` nor `detach`.
    """

    def __init__(self, method: str, target: str, version: str, headers: Headers, peer: tuple[str, int] = ("", 0),
                 client: tuple[str, int] | None = None, scheme: str = "http", host: str | None = None,
                 body: io.RawIOBase | io.BytesIO | None = None) -> None:
        self.method = method
        """As sent, and so case-sensitive: "GET" (RFC 9110 section 9.1)."""
        self.target = target
        """As sent: "/caf%C3%A9?page=2" (RFC 9112 section 3.2)."""
        self.version = version
        """"1.1" or "1.0"."""
        self._headers = headers
        self.peer = peer
        """Address and port at the other end of the connection, or what a PROXY header says: ("203.0.113.7", 49152)."""
        self.client = peer if client is None else client
        """Who the client is: the peer, or behind a trusted proxy whom that names; the port is 0 if it does not say."""
        self.scheme = scheme
        """"http" or "https": what the client used, as a trusted proxy says or as the connection is."""
        self.host = headers.get("host", "") if host is None else host
        """Whom the request is for, a port included if it was sent: the authority of a target in absolute form, or else
        the header Host (RFC 9112 section 3.3), or what a trusted proxy says. May be empty."""
        self._raw_body = body
        self._body: io.BufferedReader | io.BytesIO | None = None
        """`body`, once somebody has asked for it."""

    @property
    def headers(self) -> Headers:
        return self._headers

    @headers.setter
    def headers(self, headers: Headers) -> None:
        self._headers = headers

    @property
    def raw_path(self) -> str:
        """The target's path, as sent: "/caf%C3%A9". Of a target in absolute form ("http://host/path") too, as RFC 9112
        section 3.2.2 demands."""
        path = self.target.partition("?")[0]
        if not path.startswith("/") and "://" in path:
            path = "/" + path.partition("://")[2].partition("/")[2]
        return path

    @cached_property
    def path(self) -> str:
        """`raw_path`, percent-decoded as UTF-8: "/café". What is not UTF-8 becomes U+FFFD, never an error."""
        return unquote(self.raw_path, errors="replace")

    @property
    def query(self) -> str:
        """The target's query as sent, without the "?": "page=2"; empty if there is none."""
        return self.target.partition("?")[2]

    @property
    def body(self) -> io.BufferedReader | io.BytesIO:
        """The request's body, as a binary file that is read as it arrives.

        `read(n)` blocks until n bytes have come or the body ends, `read1()` until any have; iterating gives lines. A
        client that asked for `100 Continue` gets it when the body is first read, not before. Raises `BodyError`
        (answered 400, 408, 413 or 431) if what comes is not a body, takes too long or is too much,
        `ClientDisconnectedError` if nothing comes any more.
        """
        if (body := self._body) is None:
            # Where there is none, an empty file of its own, which may be closed. (A reader takes 2.6 us, this 0.3.)
            raw = self._raw_body
            self._body = body = _NoBody() if raw is None else io.BufferedReader(raw, 65536)
        return body

    @body.setter
    def body(self, body: io.BufferedReader | io.BytesIO) -> None:
        self._body = body

    @property
    def trailers(self) -> Headers:
        """The trailer fields behind a chunked body (RFC 9110 section 6.5). Empty until the body has been read whole."""
        return Headers([])

    @property
    def body_error(self) -> int | None:
        """The status of the BodyError that reading the body has raised; None if it has not."""
        return None

    @property
    def tls(self) -> TLSInfo | None:
        """Version, cipher, name asked for, and the client's certificate; None if the connection is not TLS."""
        return None

    @property
    def local(self) -> tuple[str, int]:
        """Address and port at this end of the connection: ("192.0.2.1", 8080); ("unix", 0) for a UNIX socket."""
        return "", 0

    @property
    def multithread(self) -> bool:
        """The handler may be running in another thread at the same time: not under a taskmaster that serves one
        connection at a time."""
        return True

    @property
    def multiprocess(self) -> bool:
        """Other processes serve the same addresses: Acceptor(reuse_port=True)."""
        return False

    @property
    def stopping(self) -> bool:
        """The server stops: a handler that goes on for long, with events to send perhaps, should come to its end."""
        return False

    @property
    def detached(self) -> bool:
        """The connection has been taken over: see `detach`."""
        return False

    def send_informational(self, status: int, headers: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> None:
        """Send an interim response now, such as `103 Early Hints` (RFC 8297). Blocks for as long as sending does.

        status: 102 to 199 (100 the server sends itself, 101 goes with `detach`). Any number, before the response has
        begun; RuntimeError after that. A client of HTTP/1.0 gets none (RFC 9110 section 15.2).
        ClientDisconnectedError if it is gone.
        """
        if not isinstance(status, int) or not 102 <= status <= 199:
            raise ValueError(f"status={status!r}: pass the status of an interim response, 102 to 199")
        fields = encode_headers(headers)
        if any(name == b"content-length" for name, _ in fields):
            raise ValueError("Content-Length: an interim response has no body (RFC 9110 section 8.6); leave it out")
        self._send_informational(status, fields)

    def _send_informational(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Both are checked."""

    def begin(self, response: Response) -> Callable[[bytes], None]:
        """Begin `response` before the handler returns: for one whose body is pushed rather than made by an iterator.

            response = Response(headers={"Content-Type": "text/event-stream"})
            write = request.begin(response)
            while not request.stopping:
                write(next_event())
            return response

        Returns `write(data)`, for this thread: it sends `data` before it returns, and with the first of it the head. It
        blocks for as long as the client takes it slowly, and raises ClientDisconnectedError when that is gone. The
        handler must return that very response; its body comes behind what has been written. (With a Content-Length in
        its headers that is the length of both.) What the handler raises once something has been written, HTTPError
        included, cuts the connection, so that the client sees that it failed. RuntimeError a second time.
        """
        raise RuntimeError(self._no_connection)

    def detach(self) -> Detached:
        """Take the connection over, for WebSocket and the like: the server reads and writes nothing more on it.

        To be called by the handler, on its thread. What the handler returns is ignored; what it raises is logged, and
        closes the socket. Until it returns, its thread counts as serving, and `Acceptor.stop` waits for it, up to its
        deadline, and then shuts the socket down. Afterwards the socket belongs to whoever has it, who must close it.
        No response has been sent: `101 Switching Protocols`, too, is the handler's to send. RuntimeError a second time,
        or once the response has begun.
        """
        raise RuntimeError(self._no_connection)

    _no_connection = "this request came over no connection; it was made by hand"

    def __reduce__(self) -> tuple[Callable[..., Request], tuple[object, ...]]:
        """For a handler in another process: the body goes along, read whole, and the connection stays here.

        It reads the body, so it raises what that raises, and may block for as long. Pickled again, it is the same."""
        body = self.body.read()
        self._body = io.BytesIO(body)
        return _remake, (self.method, self.target, self.version, self.headers.raw, self.peer, self.client, self.scheme,
                         self.host, body, self.trailers.raw, self.tls, self.local, self.stopping)

    def __repr__(self) -> str:
        return f"<{self.method} {self.target} from {self.peer[0]}:{self.peer[1]}>"


class _NoBody(io.BytesIO):
    """The empty body of a request without one."""

    def peek(self, size: int = 0) -> bytes:
        """As io.BufferedReader, which the body of other requests is."""
        return b""


class _RemoteRequest(Request):
    """One that has been pickled, in another process: what it knows of its connection is as it was then."""

    trailers = Headers([])
    tls: TLSInfo | None = None
    local = "", 0
    stopping = False
    multiprocess = True
    _no_connection = ("begin(), detach() and the write() of WSGI need the connection; the handler runs in another "
                      "process, which has none: return the whole response, or run handlers on threads")

    def _send_informational(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """From there none is sent: a client must be able to do without (RFC 9110 section 15.2)."""


def _remake(method: str, target: str, version: str, headers: list[tuple[bytes, bytes]], peer: tuple[str, int],
            client: tuple[str, int], scheme: str, host: str, body: bytes, trailers: list[tuple[bytes, bytes]],
            tls: TLSInfo | None, local: tuple[str, int], stopping: bool) -> Request:
    request = _RemoteRequest(method, target, version, Headers(headers), peer, client, scheme, host, io.BytesIO(body))
    request.trailers, request.tls, request.local, request.stopping = Headers(trailers), tls, local, stopping
    return request


class Response:
    """What a handler answers.

    body: str (sent as UTF-8) or bytes; a binary file, sent from its current position to its end and then closed; or
        an iterable of bytes, sent as they come (chunked, unless `headers` has a Content-Length) and then closed if it
        has a close().
    status: 200 to 999; with 204, 205 and 304, as in answer to HEAD, the body is not sent.
    reason: the words behind the status (RFC 9112 section 4), which clients ignore; None: the standard ones.
    headers: a mapping, or pairs if a name repeats. Content-Type is added unless it is there, or the body empty:
        "text/plain; charset=utf-8" for str, "application/octet-stream" for the rest. Date and Transfer-Encoding are the
        server's business. Content-Length is, too, where the body is str or bytes; it counts for files, for iterables,
        and in answer to HEAD. "Connection: close" is honoured.

    TypeError or ValueError for anything else, a header that could smuggle a line (CR, LF or NUL) included. A Response
    of str or bytes may be returned any number of times, from any number of threads.
    """

    __slots__ = ("body", "headers", "reason", "status")

    def __init__(self, body: Body = b"", status: int = 200,
                 headers: Mapping[str, str] | Iterable[tuple[str, str]] = (), reason: str | None = None) -> None:
        if not isinstance(status, int) or not 200 <= status <= 999:
            raise ValueError(f"status={status!r}: pass a status code, a whole number from 200 to 999; the body comes "
                             "first: Response(body, status)")
        self.status = int(status)
        if reason is not None:
            check_reason(reason)
        self.reason = reason
        kind = _BINARY
        if isinstance(body, str):
            body, kind = body.encode(), _TEXT
        elif isinstance(body, bytes):
            pass
        elif isinstance(body, (bytearray, memoryview)):
            body = bytes(body)
        elif isinstance(body, Mapping) or not (isinstance(body, Iterable) or hasattr(body, "read")):
            raise TypeError(f"body={body!r} ({type(body).__name__}): pass str, bytes, a binary file, or an iterable of "
                            "bytes")
        self.body: Body = body
        self.headers = encode_headers(headers) if headers != () else []
        if body != b"":
            for name, _ in self.headers:
                if name == b"content-type":
                    break
            else:
                self.headers.append(kind)

    def __repr__(self) -> str:
        return f"Response({self.body!r:.60}, {self.status})"


_BINARY = b"content-type", b"application/octet-stream"
_TEXT = b"content-type", b"text/plain; charset=utf-8"


Handler: TypeAlias = Callable[[Request], "Response | str | bytes"]


class HTTPError(Exception):
    """Raise it in a handler to answer `status` with `text` (by default the status' own phrase)."""

    def __init__(self, status: int, text: str | None = None,
                 headers: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> None:
        self.response = Response(f"{text or phrase(status)}\n", status, headers)
        super().__init__(f"{status} {text or phrase(status)}")

    @property
    def status(self) -> int:
        return self.response.status


class BodyError(HTTPError, OSError):
    """The request's body is malformed, too large, or came too slowly. After the answer the connection closes.

    An OSError too, because that is what those who read files expect of a read that fails.
    """

    def __init__(self, status: int, text: str | None = None) -> None:
        super().__init__(status, text, {"Connection": "close"})


class ClientDisconnectedError(ConnectionError):
    """The client is gone. A handler need not catch it: nobody is left to answer, and it is not logged as an error."""


def as_response(value: object, handler: object) -> Response:
    """What `handler` returned, as a Response; TypeError that names the handler and the fix if it is none."""
    if isinstance(value, Response):
        return value
    if isinstance(value, (str, bytes)):
        return Response(value)
    name = getattr(handler, "__qualname__", None) or repr(handler)
    if value is None:
        hint = "did you forget `return`?"
    elif isinstance(value, Coroutine):
        value.close()  # or Python warns that it was never awaited
        hint = "handlers run on threads and may block: write `def`, not `async def`"
    elif isinstance(value, Mapping):
        hint = 'for JSON, write Response(json.dumps(...), headers={"Content-Type": "application/json"})'
    elif isinstance(value, tuple):
        hint = "write Response(body, status, headers)"
    else:
        hint = "wrap it: Response(...)" if isinstance(value, Iterable) else ""
    raise TypeError(f"handler {name} returned {value!r:.80} ({type(value).__name__}); "
                    f"return a str, bytes or acceptor.Response{'; ' + hint if hint else ''}")


def file_size(body: Body) -> int | None:
    """Bytes from the position to the end if `body` is a regular file that reads as it lies on the disk, else None."""
    file = body.raw if isinstance(body, (io.BufferedReader, io.BufferedRandom)) else body
    if not isinstance(file, io.FileIO):  # in memory, or unpacked on the way, as by gzip, or no file at all
        return None
    try:
        status = os.fstat(file.fileno())
        return max(0, status.st_size - body.tell()) if stat.S_ISREG(status.st_mode) else None  # type: ignore[union-attr]
    except (OSError, ValueError):  # a pipe, or closed
        return None
