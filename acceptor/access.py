"""The access log: a record of each response, and the line that it makes.

A worker makes an `AccessRecord` and gives it to `log`, that is, to the logger "acceptor.access" of `logging`. It is not
made text before a handler asks, so whoever installs a handler chooses the format:

    target = logging.handlers.WatchedFileHandler("access.log")       # it follows a file that has been moved
    target.setFormatter(AccessFormatter("combined"))
    with BackgroundHandler(target) as background:                     # no response waits for the disk
        logging.getLogger("acceptor.access").addHandler(background)

`str(record)` is a line in the common log format; that is what handlers without an `AccessFormatter` write.

What a client sends can neither end a line nor a quoted field, nor reach a terminal (CVE-2020-7694): every line is
printable ASCII, in the text formats escaped as Apache does, see `escaped`. (`violations.printable` is for messages: it
leaves quotes alone, and shortens.)
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, TypeAlias

__all__ = ["AccessFormatter", "AccessRecord", "access_record", "escaped", "log"]

logger = logging.getLogger("acceptor")
access = logging.getLogger("acceptor.access")


@dataclass(slots=True)
class AccessRecord:
    """One response. Made by the thread that has sent it; nobody changes it afterwards, so any thread may read it."""

    client: str
    """Address of the client: "203.0.113.7", or "unix"."""
    peer: str
    """The other end of the connection, or whom its PROXY header names: "203.0.113.7:49152"."""
    time: float
    """When the request's head had been read, or was given up: seconds since the epoch."""
    seconds: float
    """From then until the response had been sent."""
    method: str | None
    """None, as target and version, if no request could be read."""
    target: str | None
    version: str | None
    """"1.1" or "1.0"."""
    status: int
    """As sent; 499, as in nginx, if the client left before there was an answer."""
    sent: int
    """Bytes of the body that were sent, without framing."""
    headers: list[tuple[bytes, bytes]]
    """The request's, names in lower case."""
    scheme: str
    host: str
    """Whom the request was for; may be empty."""
    user: str | None = None
    complete: bool = True
    """False if the response was cut short."""

    def __str__(self) -> str:
        """In the common log format."""
        return _common(self)


def log(record: AccessRecord) -> None:
    """Log `record` with level INFO; any thread. Blocks for as long as the handlers of the logger do.

    As `access.info("%s", record)`, but without looking for the line of code that calls: about half of the time.
    """
    if access.isEnabledFor(logging.INFO):
        access.handle(access.makeRecord(access.name, logging.INFO, "", 0, "%s", (record,), None))


_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F)} | {
    ord("\b"): r"\b", ord("\n"): r"\n", ord("\r"): r"\r", ord("\t"): r"\t", ord("\v"): r"\v", ord('"'): r"\"",
    ord("\\"): r"\\"}
_SPACE = {ord(" "): r"\x20"}


def escaped(text: str) -> str:
    r"""`text` as Apache writes it into a log: printable ASCII, and no quote in it ends a quoted field.

    Quotes and backslashes get a backslash before them; \b, \n, \r, \t and \v are written so; any other byte that is
    not printable ASCII is \xhh. (Apache 2.4, mod_log_config, "Format Notes". Characters beyond latin-1, which no client
    can send, are \uhhhh.)
    """
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return text.translate(_ESCAPES).encode("ascii", "backslashreplace").decode("ascii")


# The parts of a line. None: there is nothing to write, and "-" stands for it.

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@lru_cache(8)
def _local_time(second: int) -> str:
    """[10/Oct/2000:13:55:36 -0700]: in local time, with the offset of that time, in English whatever the locale is."""
    at = time.localtime(second)
    hours, minutes = divmod(abs(at.tm_gmtoff) // 60, 60)
    sign = "-" if at.tm_gmtoff < 0 else "+"
    return (f"[{at.tm_mday:02}/{_MONTHS[at.tm_mon - 1]}/{at.tm_year:04}:{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02} "
            f"{sign}{hours:02}{minutes:02}]")


def _utc_time(at: float) -> str:
    """2000-10-10T20:55:36.123Z: RFC 3339, a profile of ISO 8601."""
    second = int(at)
    utc = time.gmtime(second)
    return (f"{utc.tm_year:04}-{utc.tm_mon:02}-{utc.tm_mday:02}T{utc.tm_hour:02}:{utc.tm_min:02}:{utc.tm_sec:02}."
            f"{int((at - second) * 1000):03}Z")


def _header(record: AccessRecord, name: bytes) -> str | None:
    """What was sent under `name`, more than once joined with ", " (RFC 9110 section 5.3)."""
    values = [value.decode("latin-1") for key, value in record.headers if key == name]
    return ", ".join(values) if values else None


def _request_line(record: AccessRecord) -> str | None:
    return None if record.method is None else f"{record.method} {record.target} HTTP/{record.version}"


_Part: TypeAlias = Callable[[AccessRecord], "str | None"]

_ATOMS: dict[str, _Part] = {
    "h": lambda record: record.client,
    "l": lambda record: None,
    "u": lambda record: record.user,
    "t": lambda record: _local_time(int(record.time)),
    "r": _request_line,
    "m": lambda record: record.method,
    "U": lambda record: record.target and record.target.partition("?")[0],
    "q": lambda record: record.target and record.target.partition("?")[2],
    "H": lambda record: record.version and f"HTTP/{record.version}",
    "s": lambda record: str(record.status),
    "B": lambda record: str(record.sent),
    "b": lambda record: str(record.sent) if record.sent else None,
    "f": lambda record: _header(record, b"referer"),
    "a": lambda record: _header(record, b"user-agent"),
    "T": lambda record: str(int(record.seconds)),
    "M": lambda record: str(int(record.seconds * 1e3)),
    "D": lambda record: str(int(record.seconds * 1e6)),
    "L": lambda record: f"{record.seconds:.6f}",
    "p": lambda record: f"<{os.getpid()}>",
    "X": lambda record: None if record.complete else "X",
    "peer": lambda record: record.peer,
    "scheme": lambda record: record.scheme,
    "host": lambda record: record.host,
}
_BARE = frozenset({"h", "u", "m", "peer", "host"})
"""Atoms that formats have without quotes around them: a space in one would make two fields of it."""
_ATOM = re.compile(r"%(?:%|\((?:(?P<atom>[A-Za-z]+)|\{(?P<header>[^{}()]+)\}i)\)s)?")
"""A "%" with nothing behind it that is known, too."""


def _template(template: str) -> Callable[[AccessRecord], str]:
    """What writes a record by `template`; ValueError, with the atoms there are, if there is another in it."""
    parts: list[Callable[[AccessRecord], str]] = []

    def add(found: re.Match[str]) -> str:
        if found[0] == "%%":
            return "%%"
        atom, header = found["atom"], found["header"]
        if header:
            parts.append(_written(partial(_header, name=header.lower().encode()), bare=False))
        elif atom in _ATOMS:
            parts.append(_written(_ATOMS[atom], bare=atom in _BARE))
        else:
            raise ValueError(f"{template[found.start():found.start() + 20]!r} in {template!r} is no part of an access "
                             f"log; there are %({')s %('.join(_ATOMS)})s, %({{name}}i)s for the request's header "
                             "`name`, and %%")
        return "%s"

    line = _ATOM.sub(add, template)
    return lambda record: line % tuple([part(record) for part in parts])


def _written(part: _Part, *, bare: bool) -> Callable[[AccessRecord], str]:
    def write(record: AccessRecord) -> str:
        text = escaped(part(record) or "-")
        return text.translate(_SPACE) if bare else text
    return write


_COMMON = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s'
_STYLES = {"common": _COMMON, "combined": _COMMON + ' "%(f)s" "%(a)s"'}
_common = _template(_COMMON)
_encode = json.JSONEncoder(separators=(",", ":")).encode


def _json(record: AccessRecord) -> str:
    return _encode({
        "time": _utc_time(record.time), "client": record.client, "peer": record.peer, "user": record.user,
        "method": record.method, "target": record.target, "version": record.version, "scheme": record.scheme,
        "host": record.host or None, "status": record.status, "sent": record.sent,
        "seconds": round(record.seconds, 6), "complete": record.complete,
        "referer": _header(record, b"referer"), "user_agent": _header(record, b"user-agent"),
    })


class AccessFormatter(logging.Formatter):
    """Writes access records, for any handler of `logging`.

    style: "common" or "combined", which are Apache's; "json"; or a template of atoms, as gunicorn's access_log_format:

        %(h)s client's address      %(r)s request line           %(s)s status            %(t)s when it came, local time
        %(l)s "-"                   %(m)s method                 %(B)s bytes of body     %(T)s seconds it took
        %(u)s user                  %(U)s target's path          %(b)s the same, "-"     %(M)s milliseconds
        %(peer)s address:port       %(q)s target's query              if it is 0         %(D)s microseconds
        %(scheme)s http or https    %(H)s "HTTP/1.1"             %(X)s "X" if it was     %(L)s seconds: "0.001234"
        %(host)s whom it was for    %(f)s Referer                     cut short,         %(p)s process: "<4711>"
        %({name}i)s header `name`   %(a)s User-Agent                  "-" if not         %% a percent sign

    What is not there is "-". ValueError for anything else in a template. "common" and "combined" have no place to say
    that a response was cut short; %(b)s shows how far it came.

    A line of JSON is an object with these keys, in this order; what is not there is null:

        time        when the request came, UTC: "2000-10-10T20:55:36.123Z"
        client, peer, user, method, target, version, scheme, host       strings, as in AccessRecord
        status, sent, seconds       numbers
        complete    false if the response was cut short
        referer, user_agent         strings; bytes beyond ASCII are read as latin-1

    Log records that are no access records are written as their message. The other arguments are those of any formatter,
    for the sake of files for logging.config, where `style` is called "format": {"class":
    "acceptor.access.AccessFormatter", "format": "json"}. They change nothing.
    """

    def __init__(self, style: str | None = None, datefmt: str | None = None, kind: str = "%", validate: bool = True, *,
                 defaults: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        if style is None:
            style = "common"
        if not isinstance(style, str):
            raise TypeError(f'style={style!r}: pass "common", "combined", "json", or a template, as a str')
        self._line: Callable[[AccessRecord], str] = _json
        if style != "json":
            template = _STYLES.get(style, style)
            if "%(" not in template:
                raise ValueError(f'style={style!r}: pass "common", "combined", "json", or a template such as '
                                 f"'{_COMMON} %(L)s'")
            self._line = _template(template)

    def format(self, record: logging.LogRecord) -> str:
        found = access_record(record)
        return super().format(record) if found is None else self._line(found)


def access_record(record: logging.LogRecord) -> AccessRecord | None:
    """The access record in a log record; None if that is about something else."""
    args = record.args
    return args[0] if isinstance(args, tuple) and len(args) == 1 and isinstance(args[0], AccessRecord) else None
