"""The corpus: raw requests, and what must be answered. Written from RFC 9110 and RFC 9112, by subject, to be read.

A row is a `Case`:

    section      where the rule stands: "9112 2.2" is RFC 9112, section 2.2
    name         what is special about the bytes; with the CVE or the report if others have fallen for it
    sent         the bytes
    outcome      what the server must do
    violation    the one `Violation` that makes it refuse them, if it can be told to let them through
    allowed      what it must do then

An outcome says what is answered, in order, and what becomes of the connection:

    served("GET /", "POST /b hello")    two responses, 200 both; the connection is kept
    last("GET /")                       one, 200; then the connection is closed
    refused(400)                        400; then the connection is closed
    refused(400, after=["GET /"])       200 and then 400; then the connection is closed
    served(100, "POST / hello")         100, whereupon the client sends what `then` has; and 200

The text is that of the response, the handler's account of what it was called with (`account`). It knows a few targets
by name: /unread, whose body it does not read.

What follows: a connection that must be kept has to answer one more GET. If it must be closed, the same bytes go on with
a request that nobody may ever answer, `SMUGGLED`; unless the case is `alone`, where the client would wait for an answer
first, or `ends`, where it closes its side.

The limits are those of `LIMITS`. Where the RFCs leave a choice, the row has what this server has chosen: the strict
way, as a rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from acceptor import Limits, Request, Violation

__all__ = ["AFTER", "CORPUS", "LIMITS", "SMUGGLED", "Case", "Outcome", "account", "last", "refused", "served"]

LIMITS = Limits(request_line=8192, head=32768, header_count=100, body=100_000, chunk_extensions=4096, trailers=8192)

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
AFTER = b"GET /after HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def account(request: Request, body: bytes) -> str:
    """What the handler answers: "METHOD TARGET", and then what is worth telling:

        GET / HTTP/1.0        the version, unless it is 1.1
        GET / @b              the host, unless it is "a" or missing
        POST / hello          the body, or its size: "POST / <4000 bytes>"
        GET / [1] [2]         the values of fields X
        POST / hello {1}      the values of trailer fields X
    """
    words = [request.method, request.target]
    if request.version != "1.1":
        words.append(f"HTTP/{request.version}")
    if request.host not in (None, "", "a"):
        words.append(f"@{request.host}")
    if body:
        words.append(body.decode("latin-1") if len(body) <= 100 else f"<{len(body)} bytes>")
    words += [f"[{value}]" for value in request.headers.get_all("X")]
    words += [f"{{{value}}}" for value in request.trailers.get_all("X")]
    return " ".join(words)


@dataclass(frozen=True)
class Outcome:
    """What must be answered, and whether the connection must be kept afterwards."""

    answers: tuple[str | int, ...]
    """The body of a 200, or a status."""
    kept: bool
    method: str = "GET"
    """Of the request that was refused: the answer to a HEAD has no body."""

    @property
    def refuses(self) -> bool:
        """The last answer is an error."""
        return bool(self.answers) and isinstance(self.answers[-1], int)


def served(*answers: str | int) -> Outcome:
    return Outcome(answers, kept=True)


def last(*answers: str | int) -> Outcome:
    return Outcome(answers, kept=False)


def refused(status: int, *, after: Sequence[str | int] = (), method: str = "GET") -> Outcome:
    return Outcome((*after, status), kept=False, method=method)


NOTHING = Outcome((), kept=False)
"""No answer: the client was gone before its request was whole."""


@dataclass(frozen=True)
class Case:
    """A row; see the module."""

    section: str
    name: str
    sent: bytes
    outcome: Outcome
    violation: Violation | None = None
    allowed: Outcome | None = None
    then: bytes = b""
    """Sent when 100 Continue has come."""
    alone: bool = False
    ends: bool = False
    """The client closes its side after what it has sent."""
    streams: bool = False
    """It is about a handler that runs before the body has come whole."""

    def bytes_for(self, outcome: Outcome) -> bytes:
        """What the client sends before it has had any answer, if `outcome` is what must become of it."""
        return self.sent if outcome.kept or self.alone or self.ends else self.sent + SMUGGLED


def hexadecimal(byte: int) -> str:
    return f"0x{byte:02x}"


# How most of them begin; the field lines that matter and the empty line follow.
GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
HEAD_OF_UNREAD = b"POST /unread HTTP/1.1\r\nHost: a\r\n"
END = b"0\r\n\r\n"
"""The last chunk, and no trailers."""

REQUEST_LINE = [
    Case("9112 3", "a request", GET + b"\r\n", served("GET /")),
    Case("9112 3", "two spaces before the target", b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", refused(400)),
    Case("9112 3", "two spaces before the version", b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", refused(400)),
    Case("9112 3", "tabs for spaces", b"GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n", refused(400)),
    Case("9112 3", "a space before the method", b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", refused(400)),
    Case("9112 3", "a space after the version", b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", refused(400)),
    Case("9112 3", "a tab after the version", b"GET / HTTP/1.1\t\r\nHost: a\r\n\r\n", refused(400)),
    Case("9112 3", "a space in the target", b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", refused(400)),
    Case("9112 3", "two versions", b"GET / HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\n", refused(400)),
    Case("9112 3", "no target", b"GET HTTP/1.1\r\nHost: a\r\n\r\n", refused(400)),
    Case("9112 3", "no method", b"/ HTTP/1.1\r\nHost: a\r\n\r\n", refused(400)),
    Case("9112 3", "one word", b"hello\r\n\r\n", refused(400)),
    Case("9112 3", "a field line instead", b"Host: a\r\n\r\n", refused(400)),
    Case("9112 3", "a response instead", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", refused(400)),
]

VERSIONS = [
    Case("9112 2.3", "1.2 is served as 1.1", b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", served("GET /")),
    Case("9112 2.3", "1.9 is served as 1.1", b"GET / HTTP/1.9\r\nHost: a\r\n\r\n", served("GET /")),
    Case("9112 2.3", "1.2 with chunks", b"POST / HTTP/1.2\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
         b"5\r\nhello\r\n0\r\n\r\n", served("POST / hello")),
    Case("9112 3.2", "1.2 without Host", b"GET / HTTP/1.2\r\n\r\n", refused(400)),
    Case("9110 15.6.6", "2.0", b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", refused(505)),
    Case("9110 15.6.6", "3.0", b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", refused(505)),
    Case("9110 15.6.6", "9.9", b"GET / HTTP/9.9\r\nHost: a\r\n\r\n", refused(505)),
    Case("9110 15.6.6", "0.9", b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", refused(505)),
    Case("9112 2.3", "none, as HTTP/0.9 has it", b"GET /\r\n\r\n", refused(400)),
    Case("9112 2.3", "none, and the client waits", b"GET /\r\n", refused(400), alone=True),
    Case("9112 2.3", "none, but fields", b"GET /\r\nHost: a\r\n\r\n", refused(400)),
    Case("9112 2.3", "HTTP/1", b"GET / HTTP/1\r\nHost: a\r\n\r\n", refused(400)),
    Case("9112 2.3", "HTTP/2", b"GET / HTTP/2\r\nHost: a\r\n\r\n", refused(400)),
    Case("9112 2.3", "HTTP/11", b"GET / HTTP/11\r\nHost: a\r\n\r\n", refused(400)),
    Case("9112 2.3", "HTTP/1.10", b"GET / HTTP/1.10\r\nHost: a\r\n\r\n", refused(400)),
    Case("9112 2.3", "HTTP/01.1", b"GET / HTTP/01.1\r\nHost: a\r\n\r\n", refused(400)),
    Case("9112 2.3", "HTTP/1.1.1", b"GET / HTTP/1.1.1\r\nHost: a\r\n\r\n", refused(400)),
    Case("9112 2.3", "HTTP/+1.1", b"GET / HTTP/+1.1\r\nHost: a\r\n\r\n", refused(400)),
    Case("9112 2.3", "HTTP/x.y", b"GET / HTTP/x.y\r\nHost: a\r\n\r\n", refused(400)),
    Case("9112 2.3", "digits that are not ASCII", "GET / HTTP/١.١\r\nHost: a\r\n\r\n".encode(), refused(400)),
    Case("9112 2.3", "the name in lower case", b"GET / http/1.1\r\nHost: a\r\n\r\n", refused(400)),
    Case("9112 2.3", "another protocol's name", b"GET / ICAP/1.0\r\nHost: a\r\n\r\n", refused(400)),
]

METHODS = [
    Case("9110 9.1", "the handler decides on those of RFC 9110 and RFC 5789",
         b"".join(method + b" / HTTP/1.1\r\nHost: a\r\n\r\n" for method in
                  [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"PATCH"]),
         served("GET /", "HEAD /", "POST /", "PUT /", "DELETE /", "OPTIONS /", "TRACE /", "PATCH /")),
    Case("9110 9.1", "and on others: PROPFIND", b"PROPFIND / HTTP/1.1\r\nHost: a\r\n\r\n", served("PROPFIND /")),
    Case("9110 9.1", "and on others: M-SEARCH", b"M-SEARCH / HTTP/1.1\r\nHost: a\r\n\r\n", served("M-SEARCH /")),
    Case("9110 9.1", "and on others: X_1", b"X_1 / HTTP/1.1\r\nHost: a\r\n\r\n", served("X_1 /")),
    Case("9110 9.1", "lower case (hypercorn#278)", b"get / HTTP/1.1\r\nHost: a\r\n\r\n", refused(501),
         Violation.UNUSUAL_METHOD, served("get /")),
    Case("9110 9.1", "mixed case", b"PoST / HTTP/1.1\r\nHost: a\r\n\r\n", refused(501),
         Violation.UNUSUAL_METHOD, served("PoST /")),
    Case("9110 9.1", "a token that no method is", b"G#T / HTTP/1.1\r\nHost: a\r\n\r\n", refused(501),
         Violation.UNUSUAL_METHOD, served("G#T /")),
    Case("9110 9.1", "*", b"* / HTTP/1.1\r\nHost: a\r\n\r\n", refused(501), Violation.UNUSUAL_METHOD, served("* /")),
    Case("9110 9.1", "with a byte that is not ASCII", "GÉT / HTTP/1.1\r\nHost: a\r\n\r\n".encode(), refused(400)),
    *(Case("9110 9.1", f"{delimiter} in the method", b"G%cT / HTTP/1.1\r\nHost: a\r\n\r\n" % ord(delimiter),
           refused(400)) for delimiter in '"(),/:;<=>?@[\\]{}'),
    Case("9110 9.3.6", "CONNECT (hypercorn#277)", b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", refused(501)),
    Case("9110 9.3.6", "CONNECT to a path", b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", refused(501)),
    Case("9110 9.3.6", "CONNECT in HTTP/1.0", b"CONNECT a:443 HTTP/1.0\r\n\r\n", refused(501)),
    Case("9110 9.3.2", "HEAD has no body", b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", served("HEAD /")),
    Case("9110 9.3.2", "nor has a refusal of it", b"HEAD / HTTP/1.1\r\n\r\n", refused(400, method="HEAD")),
    Case("9110 9.3.1", "GET may have a body", GET + b"Content-Length: 5\r\n\r\nhello", served("GET / hello")),
]

TARGETS = [
    Case("9112 3.2.1", "path and query, as sent", b"GET /a%20b//../c?d=%2f&e HTTP/1.1\r\nHost: a\r\n\r\n",
         served("GET /a%20b//../c?d=%2f&e")),
    Case("9112 3.2.1", "a path of two slashes is no host",
         b"GET //b/c HTTP/1.1\r\nHost: a\r\n\r\n", served("GET //b/c")),
    Case("9112 3.2.1", "control bytes escaped, for the log (CVE-2020-7694)",
         b"GET /%1b%5b31m%0d%0a HTTP/1.1\r\nHost: a\r\n\r\n", served("GET /%1b%5b31m%0d%0a")),
    Case("9112 3.2.1", "escapes are the handler's business", b"GET /%zz% HTTP/1.1\r\nHost: a\r\n\r\n",
         served("GET /%zz%")),
    Case("9112 3.2", "a relative path", b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", refused(400),
         Violation.INVALID_TARGET, served("GET a")),
    Case("9112 3.2", "a query only", b"GET ?a HTTP/1.1\r\nHost: a\r\n\r\n", refused(400),
         Violation.INVALID_TARGET, served("GET ?a")),
    Case("9112 3.2", "a fragment", b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", refused(400),
         Violation.INVALID_TARGET, served("GET /a#b")),
    Case("9112 3.2", "a fragment behind a query", b"GET /a?b#c HTTP/1.1\r\nHost: a\r\n\r\n", refused(400),
         Violation.INVALID_TARGET, served("GET /a?b#c")),
    Case("9112 3.2.2", "absolute form", b"GET http://a/b?c HTTP/1.1\r\nHost: a\r\n\r\n", served("GET http://a/b?c")),
    Case("9112 3.2.2", "absolute form, https", b"GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n", served("GET https://a/")),
    Case("9112 3.2.2", "absolute form with a port", b"GET http://a:81/ HTTP/1.1\r\nHost: a:81\r\n\r\n",
         served("GET http://a:81/ @a:81")),
    Case("9112 3.2.2", "absolute form without a path", b"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n",
         served("GET http://a")),
    Case("9110 4.2.3", "scheme and host in any case", b"GET HTTP://A/ HTTP/1.1\r\nHost: a\r\n\r\n",
         served("GET HTTP://A/ @A")),
    Case("9112 3.2.2", "absolute form, and another Host", b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", refused(400),
         Violation.MISMATCHED_HOST, served("GET http://b/ @b")),
    Case("9112 3.2.2", "absolute form, and another port", b"GET http://b:81/ HTTP/1.1\r\nHost: b:82\r\n\r\n",
         refused(400), Violation.MISMATCHED_HOST, served("GET http://b:81/ @b:81")),
    Case("9112 3.2.2", "absolute form, but no Host", b"GET http://a/ HTTP/1.1\r\n\r\n", refused(400)),
    Case("9112 3.2.2", "absolute form in HTTP/1.0 needs none", b"GET http://b/ HTTP/1.0\r\n\r\n",
         last("GET http://b/ HTTP/1.0 @b")),
    Case("9110 4.2.1", "absolute form with an empty host", b"GET http:///b HTTP/1.1\r\nHost: a\r\n\r\n", refused(400),
         Violation.INVALID_TARGET, served("GET http:///b")),
    Case("9110 4.2.1", "absolute form with a port and an empty host", b"GET http://:80/ HTTP/1.1\r\nHost: :80\r\n\r\n",
         refused(400), Violation.INVALID_TARGET, served("GET http://:80/ @:80")),
    Case("9110 4.2.4", "absolute form with a user", b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", refused(400),
         Violation.INVALID_TARGET, served("GET http://u@a/")),
    Case("9112 3.2.2", "one slash after the scheme", b"GET http:/a HTTP/1.1\r\nHost: a\r\n\r\n", refused(400),
         Violation.INVALID_TARGET, served("GET http:/a")),
    Case("9112 3.2.2", "a scheme that is not served", b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", refused(400),
         Violation.INVALID_TARGET, served("GET ftp://a/")),
    Case("9112 3.2.3", "authority form without CONNECT", b"GET a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", refused(400),
         Violation.INVALID_TARGET, served("GET a:80 @a:80")),
    Case("9112 3.2.4", "OPTIONS *", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", served("OPTIONS *")),
    Case("9112 3.2.4", "GET *", b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", refused(400),
         Violation.INVALID_TARGET, served("GET *")),
    Case("9112 3.2.4", "OPTIONS *a", b"OPTIONS *a HTTP/1.1\r\nHost: a\r\n\r\n", refused(400),
         Violation.INVALID_TARGET, served("OPTIONS *a")),
]

LINE_ENDS = [
    Case("9112 2.2", "bare LF ends the request line", b"GET / HTTP/1.1\nHost: a\r\n\r\n", refused(400),
         Violation.BARE_LF, served("GET /")),
    Case("9112 2.2", "bare LF ends a field line", b"GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n", refused(400),
         Violation.BARE_LF, served("GET / [1]")),
    Case("9112 2.2", "bare LF ends the head", GET + b"\n", refused(400), Violation.BARE_LF, served("GET /")),
    Case("9112 2.2", "bare LF everywhere (CVE-2019-16785)", b"GET / HTTP/1.1\nHost: a\n\n", refused(400),
         Violation.BARE_LF, served("GET /")),
    Case("9112 2.2", "bare LF everywhere, and the client waits", b"GET / HTTP/1.1\nHost: a\n\n", refused(400),
         Violation.BARE_LF, served("GET /"), alone=True),
    Case("9112 2.2", "bare LF shows a field to some (CVE-2019-16785)", POST + b"X: 1\nContent-Length: 5\r\n\r\nhello",
         refused(400), Violation.BARE_LF, served("POST / hello [1]")),
    Case("9112 2.2", "bare LF before the request line", b"\n" + GET + b"\r\n", refused(400), Violation.BARE_LF,
         served("GET /")),
    Case("9112 2.2", "bare CR ends the request line", b"GET / HTTP/1.1\rHost: a\r\n\r\n", refused(400)),
    Case("9112 2.2", "bare CR ends a field line", b"GET / HTTP/1.1\r\nHost: a\rX: 1\r\n\r\n", refused(400)),
    Case("9112 2.2", "bare CR ends the head", GET + b"\r\r", refused(400)),
    Case("9112 2.2", "bare CR shows a field to some", POST + b"X: 1\rTransfer-Encoding: chunked\r\n\r\n" + END,
         refused(400)),
    Case("9112 2.2", "bare CR before the line end of the request line", b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n",
         refused(400)),
    Case("9112 2.2", "bare CR before the line end of a field", GET + b"X: 1\r\r\n\r\n", refused(400)),
    Case("9112 2.2", "bare CR before the request line", b"\r" + GET + b"\r\n", refused(400)),
    Case("9112 2.2", "CRLF before the request line", b"\r\n" + GET + b"\r\n", served("GET /")),
    Case("9112 2.2", "several CRLFs before the request line", b"\r\n\r\n\r\n" + GET + b"\r\n", served("GET /")),
    Case("9112 2.2", "CRLF after a body, by a client of old",
         POST + b"Content-Length: 5\r\n\r\nhello\r\n" + GET + b"\r\n", served("POST / hello", "GET /")),
    Case("9112 2.2", "CRLF between two requests", GET + b"\r\n\r\n" + GET + b"\r\n", served("GET /", "GET /")),
    Case("9112 2.2", "a line of white space before the request line", b" \r\n" + GET + b"\r\n", refused(400)),
    Case("9112 2.2", "white space before the first field", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", refused(400)),
    Case("9112 2.2", "a tab before the first field", b"GET / HTTP/1.1\r\n\tX: 1\r\nHost: a\r\n\r\n", refused(400)),
    Case("9112 2.2", "a line of white space before the first field", b"GET / HTTP/1.1\r\n \r\nHost: a\r\n\r\n",
         refused(400)),
]

FIELDS = [
    Case("9110 5.1", "names in any case", b"GET / HTTP/1.1\r\nhOST: a\r\nx: 1\r\n\r\n", served("GET / [1]")),
    Case("9110 5.6.2", "every character of a token in a name",
         GET + b"!#$%&'*+-.^_`|~09azAZ: 1\r\n\r\n", served("GET /")),
    Case("9112 5.1", "no white space around the value", GET + b"X:1\r\n\r\n", served("GET / [1]")),
    Case("9112 5.1", "white space around the value is not part of it",
         GET + b"X: \t 1\t \r\n\r\n", served("GET / [1]")),
    Case("9112 5.1", "white space in the value is", GET + b"X: 1 \t2\r\n\r\n", served("GET / [1 \t2]")),
    Case("9110 5.5", "an empty value", GET + b"X:\r\nX: \r\n\r\n", served("GET / [] []")),
    Case("9110 5.3", "a field twice", GET + b"X: 1\r\nX: 2\r\n\r\n", served("GET / [1] [2]")),
    Case("9110 5.5", "a colon in the value", GET + b"X: :1:\r\n\r\n", served("GET / [:1:]")),
    Case("9110 5.5", "obs-text is opaque", GET + b"X: \x80\xe9\xff\r\n\r\n", served("GET / [\x80\xe9\xff]")),
    Case("9110 5.5", "obs-text where a handshake is read (CVE-2026-42544)",
         GET + b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Protocol: \xff\xfe\r\n\r\n",
         served("GET /")),
    Case("9110 8.3", "two Content-Types are the handler's business (gunicorn 26)",
         GET + b"Content-Type: a/b\r\nContent-Type: c/d\r\n\r\n", served("GET /")),
    Case("9110 5.1", "an underscore is not a hyphen (CVE-2015-0219, CVE-2024-45614)",
         POST + b"Content_Length: 5\r\nTransfer_Encoding: chunked\r\n\r\n", served("POST /")),
    Case("9112 5.1", "a space before the colon", GET + b"X : 1\r\n\r\n", refused(400)),
    Case("9112 5.1", "a tab before the colon", GET + b"X\t: 1\r\n\r\n", refused(400)),
    Case("9112 5.1", "a space before the colon of Content-Length (cheroot)",
         POST + b"Content-Length : 5\r\n\r\nhello", refused(400)),
    Case("9112 5.1", "a space before the colon of Transfer-Encoding",
         POST + b"Transfer-Encoding : chunked\r\n\r\n" + END, refused(400)),
    Case("9112 5", "no colon", GET + b"X\r\n\r\n", refused(400)),
    Case("9112 5", "no name", GET + b": 1\r\n\r\n", refused(400)),
    Case("9112 5", "two words for a name", GET + b"X Y: 1\r\n\r\n", refused(400)),
    *(Case("9110 5.6.2", f"{delimiter} in a name", GET + b"X%cY: 1\r\n\r\n" % ord(delimiter), refused(400))
      for delimiter in '"(),/;<=>?@[\\]{}'),
    Case("9112 5.2", "a folded value", GET + b"X: 1\r\n 2\r\n\r\n", refused(400),
         Violation.OBS_FOLD, served("GET / [1 2]")),
    Case("9112 5.2", "a value folded by a tab", GET + b"X: 1\r\n\t2\r\n\r\n", refused(400),
         Violation.OBS_FOLD, served("GET / [1 2]")),
    Case("9112 5.2", "a value folded twice", GET + b"X: 1\r\n 2\r\n 3\r\n\r\n", refused(400),
         Violation.OBS_FOLD, served("GET / [1 2 3]")),
    Case("9112 5.2", "a folded field that hides another", POST + b"X: 1\r\n Transfer-Encoding: chunked\r\n\r\n",
         refused(400), Violation.OBS_FOLD, served("POST / [1 Transfer-Encoding: chunked]")),
    Case("9112 5.2", "a folded Transfer-Encoding", POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n5\r\nhello\r\n" + END,
         refused(400), Violation.OBS_FOLD, served("POST / hello")),
    Case("9112 5.2", "a folded Content-Length (uWSGI#2775)", POST + b"Content-Length: 5\r\n 0\r\n\r\nhello",
         refused(400), Violation.OBS_FOLD, refused(400)),
    Case("9112 5.2", "a folded Host", b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", refused(400),
         Violation.OBS_FOLD, refused(400)),
    Case("9110 5.5", "30,000 good bytes before a bad one (CVE-2020-5236)",
         GET + b"X: " + b"x" * 30_000 + b"\x10\r\n\r\n", refused(400),
         Violation.CONTROL_BYTE, served("GET / [" + "x" * 30_000 + "\x10]")),
]

_CONTROL = [*range(0x20), 0x7f]
_NEVER = [0x00, 0x0b, 0x0c, 0x0d]
"""NUL and CR, which RFC 9110 section 5.5 singles out; and VT and FF, which many a strip() takes for white space."""

BYTES = [
    *(Case("9110 9.1", f"{hexadecimal(byte)} in the method", b"G%cT / HTTP/1.1\r\nHost: a\r\n\r\n" % byte, refused(400))
      for byte in [*_CONTROL, 0x80, 0xff]),
    *(Case("9112 3.2", f"{hexadecimal(byte)} in the target", b"GET /%c HTTP/1.1\r\nHost: a\r\n\r\n" % byte,
           refused(400))
      for byte in [*_CONTROL, 0x80, 0xa0, 0xff]),
    *(Case("9110 5.1", f"{hexadecimal(byte)} in a name", GET + b"X%cY: 1\r\n\r\n" % byte, refused(400))
      for byte in [*_CONTROL, 0x80, 0xff]),
    *(Case("9110 5.5", f"{hexadecimal(byte)} in a value", GET + b"X: 1%c2\r\n\r\n" % byte, refused(400),
           Violation.CONTROL_BYTE, served(f"GET / [1{byte:c}2]"))
      for byte in _CONTROL if byte not in (0x09, 0x0a, *_NEVER)),
    *(Case("9110 5.5", f"{hexadecimal(byte)} in a value", GET + b"X: 1%c2\r\n\r\n" % byte, refused(400))
      for byte in _NEVER),
]

HOST = [
    Case("9112 3.2", "no Host", b"GET / HTTP/1.1\r\n\r\n", refused(400)),
    Case("9112 3.2", "two Hosts", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", refused(400)),
    Case("9112 3.2", "the same Host twice", b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", refused(400)),
    Case("9112 3.2", "two Hosts in HTTP/1.0", b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", refused(400)),
    Case("9110 7.2", "an empty Host", b"GET / HTTP/1.1\r\nHost:\r\n\r\n", served("GET /")),
    Case("9110 7.2", "a name and a port", b"GET / HTTP/1.1\r\nHost: b.example:8080\r\n\r\n",
         served("GET / @b.example:8080")),
    Case("9110 7.2", "a name with an underscore", b"GET / HTTP/1.1\r\nHost: b_c\r\n\r\n", served("GET / @b_c")),
    Case("9110 7.2", "an IPv4 address", b"GET / HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n", served("GET / @127.0.0.1:80")),
    Case("9110 7.2", "an IPv6 address", b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", served("GET / @[::1]:80")),
    *(Case("9110 7.2", f"{name} in Host", b"GET / HTTP/1.1\r\nHost: " + value + b"\r\n\r\n", refused(400),
           Violation.INVALID_HOST, served("GET / @" + value.decode("latin-1")))
      for name, value in [
          ("two words", b"a b"), ("a list", b"a, b"), ("a path", b"a/b"), ("a URI", b"http://a"), ("a user", b"u@a"),
          ("a query", b"a?b"), ("a fragment", b"a#b"), ("a backslash", b"a\\b"), ("a quote", b'"a"'),
          ("a port that is no number", b"a:b"), ("two ports", b"a:80:80"), ("IPv6 without brackets", b"::1"),
          ("half a bracket", b"[::1"), ("no address in brackets", b"[1:2]"),
          ("a bad escape", b"a%zz"), ("a byte that is not ASCII", b"\xe9"),
      ]),
    Case("9110 7.2", "an invalid Host in HTTP/1.0", b"GET / HTTP/1.0\r\nHost: a b\r\n\r\n", refused(400),
         Violation.INVALID_HOST, last("GET / HTTP/1.0 @a b")),
]

CONTENT_LENGTH = [
    Case("9112 6.2", "a body of 5 bytes", POST + b"Content-Length: 5\r\n\r\nhello", served("POST / hello")),
    Case("9112 6.3", "no length, no body", POST + b"\r\n", served("POST /")),
    Case("9110 8.6", "0", POST + b"Content-Length: 0\r\n\r\n", served("POST /")),
    Case("9110 8.6", "leading zeros", POST + b"Content-Length: 0005\r\n\r\nhello", served("POST / hello")),
    Case("9112 6.3", "different ones (CVE-2020-10108, cheroot#275)",
         POST + b"Content-Length: 5\r\nContent-Length: 0\r\n\r\nhello", refused(400)),
    Case("9112 6.3", "different ones, the other way round (cheroot#737)",
         POST + b"Content-Length: 0\r\nContent-Length: 5\r\n\r\nhello", refused(400)),
    Case("9112 6.3", "different ones in a list (CVE-2019-16792)", POST + b"Content-Length: 5, 0\r\n\r\nhello",
         refused(400)),
    Case("9112 6.3", "the same twice", POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", refused(400),
         Violation.REPEATED_LENGTH, served("POST / hello")),
    Case("9112 6.3", "the same in a list (gunicorn 26)", POST + b"Content-Length: 5, 5\r\n\r\nhello", refused(400),
         Violation.REPEATED_LENGTH, served("POST / hello")),
    *(Case("9110 8.6", name, POST + b"Content-Length: " + value + b"\r\n\r\nhello", refused(400))
      for name, value in [
          ("+5 (CVE-2022-24761, CVE-2022-24801, CVE-2023-47627)", b"+5"), ("-5", b"-5"), ("5.0", b"5.0"),
          ("0x5 (CVE-2022-24761)", b"0x5"), ("0_5 (CVE-2022-24761)", b"0_5"), ("5e0", b"5e0"), ("5a", b"5a"),
          ("hello", b"hello"), ("5 5", b"5 5"), ("5;", b"5;"), ("5,", b"5,"), (",5", b",5"), ("quoted", b'"5"'),
          ("empty", b""), ("a digit that is not ASCII", "٥".encode()), ("a superscript in latin-1", b"\xb2"),
      ]),
    Case("9110 8.6", "5, then VT, where strip() sees white space", POST + b"Content-Length: 5\x0b\r\n\r\nhello",
         refused(400)),
    Case("9110 8.6", "of 64 bits and 5 (uWSGI#2775)", POST + b"Content-Length: 18446744073709551621\r\n\r\nhello",
         refused(413)),
    Case("9110 8.6", "of 5,000 digits (h11#181)", POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nhello",
         refused(413)),
    Case("9112 8", "less than announced, and then the end",
         POST + b"Content-Length: 5\r\n\r\nhell", NOTHING, ends=True),
]

TRANSFER_ENCODING = [
    Case("9112 6.1", "chunked", POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
         served("POST / hello")),
    Case("9112 7", "in any case", POST + b"transfer-encoding:\tCHUNKED \r\n\r\n5\r\nhello\r\n0\r\n\r\n",
         served("POST / hello")),
    Case("9112 6.1", "GET with chunks", GET + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
         served("GET / hello")),
    Case("9112 6.1", "gzip, then chunked (CVE-2019-16786)",
         POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + END, refused(501)),
    Case("9112 6.1", "gzip, then chunked, on two lines",
         POST + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n" + END, refused(501)),
    *(Case("9112 6.3", name, POST + b"Transfer-Encoding: " + value + b"\r\n\r\n" + END, refused(400))
      for name, value in [
          ("chunked, then gzip", b"chunked, gzip"), ("chunked, then identity (CVE-2024-6827)", b"chunked, identity"),
          ("chunked twice (waitress#465)", b"chunked, chunked"), ("empty", b""), ("gzip", b"gzip"),
          ("identity", b"identity"), ("xchunked (CVE-2023-47641)", b"xchunked"),
          ("chunked and more (CVE-2024-1135)", b"chunkedx"), ("two words", b"chunked chunked"),
          ("quoted", b'"chunked"'), ("obs-text before chunked", b"\xa0chunked"),
      ]),
    Case("9110 5.6.1", "an empty element behind chunked, which others may not ignore",
         POST + b"Transfer-Encoding: chunked,\r\n\r\n" + END, refused(400)),
    Case("9112 7", "chunked with a parameter", POST + b"Transfer-Encoding: chunked;a=b\r\n\r\n" + END, refused(400)),
    Case("9112 6.1", "chunked on two lines", POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"
         + END, refused(400)),
    Case("9112 6.3", "chunked and identity on two lines",
         POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + END, refused(400)),
    Case("9110 5.5", "VT before chunked, where strip() sees white space (CVE-2019-16789)",
         POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + END, refused(400)),
    Case("9110 5.5", "NUL behind chunked", POST + b"Transfer-Encoding: chunked\x00\r\n\r\n" + END, refused(400)),
    Case("9112 6.1", "chunked in HTTP/1.0", b"POST / HTTP/1.0\r\nConnection: keep-alive\r\n"
         b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", refused(400),
         Violation.CHUNKED_IN_1_0, last("POST / HTTP/1.0 hello")),
]

LENGTH_AND_CHUNKED = [
    Case("9112 6.3", "the length first (CVE-2020-7658, CVE-2020-10109, hypercorn#279)",
         POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", refused(400),
         Violation.LENGTH_AND_CHUNKED, last("POST / hello")),
    Case("9112 6.3", "chunked first (waitress#464)",
         POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n", refused(400),
         Violation.LENGTH_AND_CHUNKED, last("POST / hello")),
    Case("9112 6.3", "a length of nothing",
         POST + b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", refused(400),
         Violation.LENGTH_AND_CHUNKED, last("POST / hello")),
    Case("9112 6.3", "a request where the chunks say the end is (CL.TE)",
         POST + b"Transfer-Encoding: chunked\r\nContent-Length: 40\r\n\r\n0\r\n\r\n", refused(400),
         Violation.LENGTH_AND_CHUNKED, last("POST /")),
    Case("9112 6.3", "a request where the length says the end is (TE.CL)",
         POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n23\r\n" + SMUGGLED + b"\r\n0\r\n\r\n",
         refused(400), Violation.LENGTH_AND_CHUNKED, last("POST / " + SMUGGLED.decode())),
    Case("9112 6.3", "a length, and a coding nobody knows (CVE-2024-1135)",
         POST + b"Content-Length: 5\r\nTransfer-Encoding: xchunked\r\n\r\nhello", refused(400)),
    Case("9112 6.3", "a bad length beside chunked",
         POST + b"Content-Length: x\r\nTransfer-Encoding: chunked\r\n\r\n" + END, refused(400)),
    Case("9112 6.1", "both in HTTP/1.0", b"POST / HTTP/1.0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
         b"5\r\nhello\r\n0\r\n\r\n", refused(400), Violation.LENGTH_AND_CHUNKED, refused(400)),
]

CHUNKS = [
    Case("9112 7.1", "several", CHUNKED + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", served("POST / hello")),
    Case("9112 7.1", "none but the last", CHUNKED + b"0\r\n\r\n", served("POST /")),
    Case("9112 7.1", "line ends are data inside a chunk", CHUNKED + b"4\r\n\r\n\r\n\r\n0\r\n\r\n",
         served("POST / \r\n\r\n")),
    Case("9112 7.1", "a size in capitals, one in small letters",
         CHUNKED + b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", served("POST / 01234567890123456789")),
    Case("9112 7.1", "a size with leading zeros",
         CHUNKED + b"0000000005\r\nhello\r\n000\r\n\r\n", served("POST / hello")),
    *(Case("9112 7.1", f"size {name}", CHUNKED + size + b"\r\nhello\r\n" + END, refused(400))
      for name, size in [
          ("0x5 (CVE-2022-24761, CVE-2022-24801)", b"0x5"), ("+5 (CVE-2022-24801)", b"+5"), ("-5", b"-5"),
          ("0_5 (CVE-2023-47627)", b"0_5"), ("5.0", b"5.0"), ("5h", b"5h"), ("g", b"g"), ("empty", b""),
          ("of two words", b"5 5"), ("with a space before it", b" 5"), ("with a tab before it", b"\t5"),
          ("that is not ASCII", "٥".encode()), ("with VT behind it", b"5\x0b"), ("with NUL behind it", b"5\x00"),
          ("that is an extension only", b";a"),
      ]),
    Case("9112 7.1", "size with a space behind it", CHUNKED + b"5 \r\nhello\r\n0\r\n\r\n", refused(400),
         Violation.CHUNK_SPACE, served("POST / hello")),
    Case("9112 7.1", "size with a tab behind it", CHUNKED + b"5\t\r\nhello\r\n0\r\n\r\n", refused(400),
         Violation.CHUNK_SPACE, served("POST / hello")),
    Case("9112 7.1", "last size with a space behind it", CHUNKED + b"5\r\nhello\r\n0 \r\n\r\n", refused(400),
         Violation.CHUNK_SPACE, served("POST / hello")),
    Case("9112 7.1", "size of 17 digits, most of them zeros: nobody sends that",
         CHUNKED + b"00000000000000005\r\nhello\r\n" + END,
         refused(400)),
    Case("9112 7.1", "size of 64 bits and 5", CHUNKED + b"10000000000000005\r\nhello\r\n" + END, refused(400)),
    Case("9112 7.1", "size of 5,000 digits", CHUNKED + b"f" * 5000 + b"\r\nhello\r\n" + END, refused(400)),
    Case("9112 7.1", "data followed by something else (CVE-2025-43859)",
         CHUNKED + b"5\r\nhelloXX0\r\n\r\n", refused(400)),
    Case("9112 7.1", "data followed by something else, and the client waits", CHUNKED + b"5\r\nhelloX", refused(400),
         alone=True),
    Case("9112 7.1", "data longer than its size", CHUNKED + b"4\r\nhello\r\n" + END, refused(400)),
    Case("9112 7.1", "data shorter than its size", CHUNKED + b"6\r\nhello\r\n" + END, refused(400)),
    Case("9112 7.1", "data ended by LF", CHUNKED + b"5\r\nhello\n" + END, refused(400)),
    Case("9112 7.1", "data ended by CR", CHUNKED + b"5\r\nhello\r" + END, refused(400)),
    Case("9112 7.1", "data ended by LF CR", CHUNKED + b"5\r\nhello\n\r" + END, refused(400)),
    Case("9112 7.1", "size ended by LF", CHUNKED + b"5\nhello\r\n" + END, refused(400)),
    Case("9112 7.1", "size ended by LF, and the client waits", CHUNKED + b"5\n", refused(400), alone=True),
    Case("9112 7.1", "size ended by CR", CHUNKED + b"5\rhello\r\n" + END, refused(400)),
    Case("9112 7.1", "size ended by CR CR LF", CHUNKED + b"5\r\r\nhello\r\n" + END, refused(400)),
    Case("9112 7.1", "last size ended by LF", CHUNKED + b"5\r\nhello\r\n0\n\r\n", refused(400)),
    Case("9112 7.1", "an empty line before a size", CHUNKED + b"5\r\nhello\r\n\r\n" + END, refused(400)),
    Case("9112 7.1", "no chunks at all", CHUNKED + b"hello", refused(400)),
    Case("9112 8", "the last missing, and then the end", CHUNKED + b"5\r\nhello\r\n", NOTHING, ends=True),
    Case("9112 8", "the last unfinished, and then the end (gunicorn#3382)", CHUNKED + b"5\r\nhello\r\n0\r\n", NOTHING,
         ends=True),
    Case("9112 8", "data unfinished, and then the end", CHUNKED + b"5\r\nhel", NOTHING, ends=True),
]

EXTENSIONS = [
    *(Case("9112 7.1.1", f"ignored: {name}", CHUNKED + b"5" + extension + b"\r\nhello\r\n0" + extension + b"\r\n\r\n",
           served("POST / hello"))
      for name, extension in [
          ("a name", b";a"), ("a value", b";a=b"), ("several", b";a;b=c;d"), ("a quoted value", b';a="b c"'),
          ("an empty quoted value", b';a=""'), ("a semicolon in quotes", b';a="b;c"'),
          ("an escaped quote", b';a="b\\"c"'), ("obs-text in quotes", b';a="\xe9"'),
          ("white space around the semicolon", b" ; a=b"), ("white space around the sign", b";a = b"),
      ]),
    *(Case("9112 7.1.1", name, CHUNKED + b"5" + extension + b"\r\nhello\r\n" + END, refused(400))
      for name, extension in [
          ("no name (CVE-2022-24761)", b";"), ("no name before the sign", b";=b"), ("no value", b";a="),
          ("two words", b";a b"), ("a quote that does not end", b';a="b'), ("something behind the quote", b';a="b"c'),
          ("NUL", b";a\x00"), ("a control byte in quotes", b';a="\x01"'), ("a delimiter", b";a=b@c"),
          ("bare CR (gunicorn#3556)", b";a\rb"), ("bare CR in quotes (gunicorn#3556)", b';a="\r"'),
          ("bare LF (waitress, CVE-2022-24761)", b";a\nb"), ("bare LF in quotes", b';a="\n"'),
          ("bare CR at the end", b";a\r"), ("CRLF in quotes", b';a="\r\n"'),
      ]),
    Case("9112 7.1.1", "bare LF for the line end", CHUNKED + b"5;a\nhello\r\n" + END, refused(400)),
    Case("9112 7.1.1", "bare LF for the line end of the last", CHUNKED + b"5\r\nhello\r\n0;a\n\r\n", refused(400)),
    Case("9112 7.1.1", "4,000 bytes",
         CHUNKED + b"5;a=" + b"b" * 3900 + b"\r\nhello\r\n0\r\n\r\n", served("POST / hello")),
    Case("9112 7.1.1", "more than the limit (GHSA-c2f4-cvqm-65w2)",
         CHUNKED + b"5;a=" + b"b" * 5000 + b"\r\nhello\r\n" + END, refused(400)),
    Case("9112 7.1.1", "more than the limit, and no end in sight", CHUNKED + b"5;a=" + b"b" * 9000, refused(400),
         alone=True),
    Case("9112 7.1.1", "more than the limit together", CHUNKED + (b"1;" + b"a" * 100 + b"\r\nx\r\n") * 50 + END,
         refused(400)),
]

TRAILERS = [
    Case("9112 7.1.2", "one", CHUNKED + b"5\r\nhello\r\n0\r\nX: 1\r\n\r\n", served("POST / hello {1}")),
    Case("9112 7.1.2", "several", CHUNKED + b"0\r\nX: 1\r\nY: 2\r\nX: 3\r\n\r\n", served("POST / {1} {3}")),
    Case("9110 6.5.1", "not merged into the header fields",
         POST + b"Transfer-Encoding: chunked\r\nX: 1\r\n\r\n0\r\nX: 2\r\n\r\n", served("POST / [1] {2}")),
    *(Case("9110 6.5.1", f"{line.partition(b':')[0].decode()}", CHUNKED + b"5\r\nhello\r\n0\r\n" + line + b"\r\n\r\n",
           refused(400), Violation.FORBIDDEN_TRAILER, served("POST / hello"))
      for line in [b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Host: b", b"Content-Type: a/b",
                   b"Authorization: Basic YTpi", b"Trailer: X"]),
    Case("9112 7.1.2", "a request for one (CVE-2025-58068)", CHUNKED + b"0\r\n" + SMUGGLED, refused(400)),
    Case("9112 7.1.2", "no colon", CHUNKED + b"0\r\nX\r\n\r\n", refused(400)),
    Case("9112 5.1", "a space before the colon", CHUNKED + b"0\r\nX : 1\r\n\r\n", refused(400)),
    Case("9112 7.1.2", "no name", CHUNKED + b"0\r\n: 1\r\n\r\n", refused(400)),
    Case("9112 7.1.2", "white space first", CHUNKED + b"0\r\n X: 1\r\n\r\n", refused(400)),
    Case("9112 5.2", "folded", CHUNKED + b"0\r\nX: 1\r\n 2\r\n\r\n", refused(400)),
    Case("9110 5.5", "NUL", CHUNKED + b"0\r\nX: 1\x002\r\n\r\n", refused(400)),
    Case("9110 5.5", "a control byte", CHUNKED + b"0\r\nX: 1\x102\r\n\r\n", refused(400)),
    Case("9112 2.2", "bare CR", CHUNKED + b"0\r\nX: 1\rY: 2\r\n\r\n", refused(400)),
    Case("9112 2.2", "bare LF ends one", CHUNKED + b"0\r\nX: 1\nY: 2\r\n\r\n", refused(400)),
    Case("9112 2.2", "bare LF ends the body", CHUNKED + b"0\r\n\n", refused(400)),
    Case("9112 2.2", "bare LF ends the body, and the client waits", CHUNKED + b"0\r\n\n", refused(400), alone=True),
    Case("9112 2.2", "bare LF ends one and the body, and the client waits", CHUNKED + b"0\r\nX: 1\n\n", refused(400),
         alone=True),
    Case("9110 15.5.14", "more than the limit", CHUNKED + b"0\r\nX: " + b"x" * 9000 + b"\r\n\r\n", refused(431)),
    Case("9110 15.5.14", "more than the limit, in small ones", CHUNKED + b"0\r\n" + b"X: 1\r\n" * 2000 + b"\r\n",
         refused(431)),
    Case("9110 15.5.14", "no end in sight", CHUNKED + b"0\r\nX: " + b"x" * 9000, refused(431), alone=True),
]

EXPECT = [
    Case("9110 10.1.1", "100-continue", POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n",
         served(100, "POST / hello"), then=b"hello"),
    Case("9110 10.1.1", "100-Continue", POST + b"expect:100-Continue\r\nContent-Length: 5\r\n\r\n",
         served(100, "POST / hello"), then=b"hello"),
    Case("9110 5.6.1", "100-continue, and an empty element",
         POST + b"Expect: 100-continue,\r\nContent-Length: 5\r\n\r\n",
         served(100, "POST / hello"), then=b"hello"),
    Case("9110 5.3", "100-continue twice",
         POST + b"Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
         served(100, "POST / hello"), then=b"hello"),
    Case("9110 5.6.1", "nothing", POST + b"Expect:\r\nContent-Length: 5\r\n\r\nhello", served("POST / hello")),
    Case("9110 10.1.1", "100-continue before chunks",
         POST + b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n",
         served(100, "POST / hello"), then=b"5\r\nhello\r\n0\r\n\r\n"),
    Case("9110 10.1.1", "100-continue before bad chunks",
         POST + b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n",
         refused(400, after=[100]), then=b"x\r\nhello\r\n" + END + SMUGGLED, alone=True),
    Case("9110 10.1.1", "100-continue, but no body", GET + b"Expect: 100-continue\r\n\r\n", served("GET /")),
    Case("9110 10.1.1", "100-continue in HTTP/1.0 is ignored",
         b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello", last("POST / HTTP/1.0 hello")),
    Case("9110 10.1.1", "a body that nobody asks for may not come, and what comes is not a request",
         HEAD_OF_UNREAD + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n", last("POST /unread"), streams=True),
    Case("9110 10.1.1", "the refusal instead: too large",
         POST + b"Expect: 100-continue\r\nContent-Length: 100001\r\n\r\n", refused(413)),
    Case("9110 10.1.1", "the refusal instead: length and chunked",
         POST + b"Expect: 100-continue\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", refused(400),
         Violation.LENGTH_AND_CHUNKED, refused(400, after=[100])),
    Case("9110 10.1.1", "something else", POST + b"Expect: 200-ok\r\nContent-Length: 5\r\n\r\nhello", refused(417),
         Violation.UNKNOWN_EXPECTATION, served("POST / hello")),
    Case("9110 10.1.1", "something else too", POST + b"Expect: 100-continue, 200-ok\r\n\r\n", refused(417),
         Violation.UNKNOWN_EXPECTATION, served("POST /")),
]

PIPELINING = [
    Case("9112 9.3.2", "in order (CVE-2023-46137)",
         b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % i for i in range(5)),
         served("GET /0", "GET /1", "GET /2", "GET /3", "GET /4")),
    Case("9112 9.3.2", "behind a body with a length", POST + b"Content-Length: 5\r\n\r\nhello" + GET + b"\r\n",
         served("POST / hello", "GET /")),
    Case("9112 9.3.2", "behind chunks", CHUNKED + b"5\r\nhello\r\n0\r\n\r\n" + GET + b"\r\n",
         served("POST / hello", "GET /")),
    Case("9112 9.3.2", "behind trailers", CHUNKED + b"5\r\nhello\r\n0\r\nX: 1\r\n\r\n" + GET + b"\r\n",
         served("POST / hello {1}", "GET /")),
    Case("9112 9.3.2", "behind HEAD", b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" + GET + b"\r\n", served("HEAD /", "GET /")),
    Case("9112 9.3.2", "behind HTTP/1.0 that stays",
         b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + GET + b"\r\n",
         served("GET / HTTP/1.0", "GET /")),
    Case("9112 9.3", "an unread body is not the next request (CVE-2022-29361, gunicorn#3301)",
         HEAD_OF_UNREAD + b"Content-Length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED + GET + b"\r\n",
         served("POST /unread", "GET /")),
    Case("9112 9.3", "nor are unread chunks",
         HEAD_OF_UNREAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(SMUGGLED) + SMUGGLED + b"\r\n" + END + GET
         + b"\r\n", served("POST /unread", "GET /")),
    Case("9112 9.3", "nor is what follows unread chunks that are bad",
         HEAD_OF_UNREAD + b"Transfer-Encoding: chunked\r\n\r\nx\r\n" + SMUGGLED, last("POST /unread"), streams=True),
    Case("9112 2.2", "behind a bad request nothing is (CVE-2024-49768)",
         GET + b"\r\n" + GET + b"X : 1\r\n\r\n", refused(400, after=["GET /"])),
    Case("9112 7.1", "behind bad chunks nothing is", GET + b"\r\n" + CHUNKED + b"x\r\n\r\n",
         refused(400, after=["GET /"])),
    Case("9112 6.3", "behind length and chunked nothing is",
         GET + b"\r\n" + POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
         refused(400, after=["GET /"]), Violation.LENGTH_AND_CHUNKED, last("GET /", "POST / hello")),
]

PERSISTENCE = [
    Case("9112 9.6", "close", GET + b"Connection: close\r\n\r\n", last("GET /")),
    Case("9112 9.6", "close, in any case, among others", GET + b"Connection: x, Close\r\n\r\n", last("GET /")),
    Case("9110 5.6.1", "close, and empty elements", GET + b"Connection: , close,\r\n\r\n", last("GET /")),
    Case("9112 9.3", "close beats keep-alive",
         GET + b"Connection: keep-alive\r\nConnection: close\r\n\r\n", last("GET /")),
    Case("9112 9.3", "an option nobody knows", GET + b"Connection: closed\r\n\r\n", served("GET /")),
    Case("9112 9.6", "close, behind a body", POST + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello",
         last("POST / hello")),
    Case("9112 9.6", "the client ends its side and still reads",
         GET + b"\r\n", Outcome(("GET /",), kept=False), ends=True),
    Case("9112 9.3", "HTTP/1.0, with no Host", b"GET / HTTP/1.0\r\n\r\n", last("GET / HTTP/1.0")),
    Case("9112 9.3", "HTTP/1.0 that stays",
         b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", served("GET / HTTP/1.0")),
    Case("9112 9.3", "HTTP/1.0 with both", b"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n",
         last("GET / HTTP/1.0")),
    Case("9112 9.3", "HTTP/1.0 with a body", b"POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello",
         last("POST / HTTP/1.0 hello")),
    Case("9110 7.8", "an upgrade that is not offered", GET + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
         b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", served("GET /")),
]

SIZES = [
    Case("9112 3", "a request line of 8,000 bytes", b"GET /" + b"x" * 7986 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
         served("GET /" + "x" * 7986)),
    Case("9110 15.5.15", "a request line of 9,000 bytes", b"GET /" + b"x" * 8986 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
         refused(414)),
    Case("9110 15.5.15", "a request line with no end in sight", b"GET /" + b"x" * 9000, refused(414), alone=True),
    Case("9110 15.5.15", "a method with no end in sight", b"G" * 9000, refused(414), alone=True),
    Case("9110 5.4", "a field of 20,000 bytes", GET + b"X: " + b"x" * 20_000 + b"\r\n\r\n",
         served("GET / [" + "x" * 20_000 + "]")),
    Case("9110 5.4", "a field of 33,000 bytes", GET + b"X: " + b"x" * 33_000 + b"\r\n\r\n", refused(431)),
    Case("9110 5.4", "a field of a million bytes (2c)", GET + b"X: " + b"x" * 1_000_000 + b"\r\n\r\n", refused(431)),
    Case("9110 5.4", "a field with no end in sight", GET + b"X: " + b"x" * 33_000, refused(431), alone=True),
    Case("9110 5.4", "a name with no end in sight", GET + b"x" * 33_000, refused(431), alone=True),
    Case("9110 5.4", "fields with no end in sight",
         GET + (b"X: " + b"x" * 995 + b"\r\n") * 33, refused(431), alone=True),
    Case("9112 2.2", "CRLFs with no end in sight", b"\r\n" * 17_000, refused(431), alone=True),
    Case("9110 5.4", "100 fields", GET + b"Y: 1\r\n" * 99 + b"\r\n", served("GET /")),
    Case("9110 5.4", "101 fields", GET + b"Y: 1\r\n" * 100 + b"\r\n", refused(431)),
    Case("9110 5.4", "1,000 fields (2c)", GET + b"Y: 1\r\n" * 1000 + b"\r\n", refused(431)),
    Case("9110 15.5.14", "a body of 100,000 bytes", POST + b"Content-Length: 100000\r\n\r\n" + b"x" * 100_000,
         served("POST / <100000 bytes>")),
    Case("9110 15.5.14", "a body of one more, announced", POST + b"Content-Length: 100001\r\n\r\n" + b"x" * 100_001,
         refused(413)),
    Case("9110 15.5.14", "a body of 100,000 bytes, in chunks",
         CHUNKED + (b"3e8\r\n" + b"x" * 1000 + b"\r\n") * 100 + END,
         served("POST / <100000 bytes>")),
    Case("9110 15.5.14", "a body of one more, in chunks",
         CHUNKED + (b"3e8\r\n" + b"x" * 1000 + b"\r\n") * 100 + b"1\r\nx\r\n" + END, refused(413)),
    Case("9110 15.5.14", "a body too large, in one chunk that is only announced", CHUNKED + b"186a1\r\nx", refused(413),
         alone=True),
]

OTHER_PROTOCOLS = [
    Case("9113 3.4", "HTTP/2 with prior knowledge",
         b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", refused(505)),
    Case("8446 4.1.2", "a TLS ClientHello", b"\x16\x03\x01\x00\xf0\x01\x00\x00\xec\x03\x03" + bytes(range(0x80, 0x100)),
         refused(400), alone=True),
    Case("8446 4.1.2", "a TLS ClientHello that holds a request",
         b"\x16\x03\x01\x00\xf0\x01\x00\x00\xec\x03\x03\r\n\r\n",
         refused(400)),
    Case("9112 2.2", "SOCKS 5", b"\x05\x01\x00", refused(400), alone=True),
    Case("9112 2.2", "SSH", b"SSH-2.0-OpenSSH_9.6\r\n\r\n", refused(400)),
    Case("9112 2.2", "SMTP", b"EHLO a\r\nMAIL FROM:<a@a>\r\n\r\n", refused(400)),
    Case("9112 2.2", "the PROXY protocol, where it is not expected",
         b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + GET + b"\r\n", refused(400)),
    Case("9112 2.2", "the PROXY protocol before a second request (Puma 8.0.2)",
         GET + b"\r\nPROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + GET + b"\r\n", refused(400, after=["GET /"])),
    Case("9112 2.2", "the PROXY protocol, version 2", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + b"\x7f\0\0\1" * 3,
         refused(400), alone=True),
]

CORPUS: dict[str, list[Case]] = {
    "request line": REQUEST_LINE,
    "version": VERSIONS,
    "method": METHODS,
    "target": TARGETS,
    "line ends": LINE_ENDS,
    "fields": FIELDS,
    "bytes": BYTES,
    "Host": HOST,
    "Content-Length": CONTENT_LENGTH,
    "Transfer-Encoding": TRANSFER_ENCODING,
    "length and chunked": LENGTH_AND_CHUNKED,
    "chunks": CHUNKS,
    "chunk extensions": EXTENSIONS,
    "trailers": TRAILERS,
    "Expect": EXPECT,
    "pipelining": PIPELINING,
    "persistence": PERSISTENCE,
    "sizes": SIZES,
    "other protocols": OTHER_PROTOCOLS,
}
"""Every case, by subject."""
