"""The access log: a record of each response, the line that it makes, and a thread to write lines with.

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
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from logging.handlers import QueueHandler
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Self, TypeAlias

from acceptor.violations import printable
from taskmaster.arguments import seconds, whole_number

__all__ = ["AccessFormatter", "AccessRecord", "BackgroundHandler", "escaped", "log"]

logger = logging.getLogger("acceptor")
access = logging.getLogger("acceptor.access")

_BURST = 5.0
"""Seconds between two reports of lost lines, at least."""


@dataclass(slots=True)
class AccessRecord:
    """One response. Made by the thread that has sent it; nobody changes it afterwards, so any thread may read it."""

    client: str
    """Address of the client: "203.0.113.7", or "unix"."""
    peer: str
    """The other end of the connection: "203.0.113.7:49152". Behind a trusted proxy, that proxy."""
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
    second, millisecond = divmod(int(at * 1000), 1000)
    utc = time.gmtime(second)
    return (f"{utc.tm_year:04}-{utc.tm_mon:02}-{utc.tm_mday:02}T{utc.tm_hour:02}:{utc.tm_min:02}:{utc.tm_sec:02}."
            f"{millisecond:03}Z")


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
    """Writes access records, for any handler of `logging`. In a dictConfig: {"()": "acceptor.access.AccessFormatter"}.

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

    Log records that are no access records are written as their message.
    """

    def __init__(self, style: str = "common") -> None:
        super().__init__()
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
        found = _access_record(record)
        return super().format(record) if found is None else self._line(found)


def _access_record(record: logging.LogRecord) -> AccessRecord | None:
    args = record.args
    return args[0] if isinstance(args, tuple) and len(args) == 1 and isinstance(args[0], AccessRecord) else None


_Waiting: TypeAlias = "SimpleQueue[logging.LogRecord | Callable[[], None] | None]"
"""What the thread has to do: write it, call it, or, with None, end."""


class BackgroundHandler(QueueHandler):
    """Has log records written by a thread of its own, so that whoever logs never waits for a disk or a terminal.

    target: the handler that writes; it has the format, and the file. From then on it is this one's, and closed with it.
    limit: records that may wait. Each keeps its request's headers, so they may take up to limit * Limits.head bytes.

    When `limit` records wait, because the disk has been slower than the clients for long, what is logged is dropped: a
    hole in the log is better than a server that does not answer. (Whoever wants to wait adds `target` itself to the
    logger.) Lines that `target` cannot write, to a full disk for example, are lost as well. Both are counted in `lost`
    and reported to the logger "acceptor", once per burst, instead of by a traceback for every line.

    Before `start` and after `stop`, whoever logs writes, and waits. Any thread may log; `start`, `stop` and `close` are
    for one at a time. Threads do not survive fork(2), so start it in the process that logs.

    Records that are no access records are made text by whoever logs them, as by any QueueHandler: what they are made of
    may change later.
    """

    def __init__(self, target: logging.Handler, *, limit: int = 10_000) -> None:
        if not isinstance(target, logging.Handler):
            raise TypeError(f"target={target!r}: pass a handler of logging, such as WatchedFileHandler(path)")
        # Fixed at construction.
        self._limit = whole_number("limit", limit, at_least=1)
        self.target = target
        target.handleError = self._note_failure  # type: ignore[method-assign]
        # Written by start and stop, under self._lock.
        self._waiting: _Waiting = SimpleQueue()
        self._thread: threading.Thread | None = None
        # Guarded by self._lock, which is held for a moment only.
        self._lock = threading.Lock()
        self._lost = 0
        self._dropped = self._failed = 0
        """Lines lost and not reported yet."""
        self._failure = ""
        self._reported_at = -_BURST
        super().__init__(self._waiting)

    @property
    def lost(self) -> int:
        """Lines that were dropped or could not be written, since the beginning."""
        with self._lock:
            return self._lost

    def start(self) -> Self:
        """Start the thread. RuntimeError if it runs already, or if the system gives none."""
        if self._thread is not None:
            raise RuntimeError("this BackgroundHandler runs already; stop() it first")
        waiting: _Waiting = SimpleQueue()  # the last thread may still be at its own, after a stop in vain
        thread = threading.Thread(target=self._run, args=(waiting,), name="access-log", daemon=True)
        thread.start()
        with self._lock:
            self._waiting, self._thread = waiting, thread
        return self

    def stop(self, deadline: float = 10.0) -> None:
        """Write all that waits, for up to `deadline` seconds, and end the thread; a second call does nothing.

        If the disk does not answer for so long, that is logged; the thread, a daemon, goes on trying.
        """
        deadline = seconds("deadline", deadline, zero=True)
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is None:
            return
        self._waiting.put(None)
        thread.join(deadline)
        if thread.is_alive():
            logger.warning("access log: %d lines could not be written within %g s", self._waiting.qsize(), deadline)
        self._report_losses(at_once=True)

    def close(self) -> None:
        """Stop, and close `target`. At the end of the process `logging` calls this."""
        self.stop()
        self.target.close()
        super().close()

    def reopen(self) -> None:
        """Open the file of `target` anew, after the lines logged so far; for what has no file, do nothing.

        For a file that has been moved, at SIGHUP, whose handler may call it: while the thread runs, that does it, and
        this returns at once.
        """
        if self._thread is None:
            self._reopen()
        else:
            self._waiting.put(self._reopen)  # without the lock, which the signal may have found held

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()

    # For `logging`: any thread.

    def setFormatter(self, fmt: logging.Formatter | None) -> None:  # noqa: N802
        """Of `target`, which is the one to format."""
        self.target.setFormatter(fmt)

    def handle(self, record: logging.LogRecord) -> bool:
        """As of every handler, but not under its lock. `logging` holds that while it closes this one, which waits for
        the thread, which may have a loss to report, to a logger that leads here."""
        kept: object = self.filter(record)
        if kept:
            self.emit(kept if isinstance(kept, logging.LogRecord) else record)
        return bool(kept)

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """For the queue: access records as they are, since they do not change; others made text."""
        return record if _access_record(record) is not None else super().prepare(record)

    def enqueue(self, record: logging.LogRecord) -> None:
        """Have `record` written: it never waits while the thread runs."""
        with self._lock:
            running = self._thread is not None
            if running and self._waiting.qsize() < self._limit:
                self._waiting.put(record)
            elif running:
                self._dropped += 1
                self._lost += 1
        if not running:
            self._write(record)
            self._report_losses()

    # The thread, if it runs.

    def _run(self, waiting: _Waiting) -> None:
        patience: float | None = None
        while True:
            try:
                item = waiting.get(timeout=patience)
            except Empty:
                pass
            else:
                if item is None:
                    return
                if isinstance(item, logging.LogRecord):
                    self._write(item)
                else:
                    item()
            patience = self._report_losses()

    def _write(self, record: logging.LogRecord) -> None:
        if record.levelno >= self.target.level:
            try:
                self.target.handle(record)
            except Exception:  # what handlers do before they care for errors: WatchedFileHandler's reopening
                self._note_failure(record)

    def _note_failure(self, record: logging.LogRecord) -> None:
        """The `handleError` of `target`: an exception is being handled. (Its own would print a traceback.)"""
        kind, error, _ = sys.exc_info()
        with self._lock:
            self._failed += 1
            self._lost += 1
            self._failure = f"{kind.__name__ if kind else None}: {error}"

    def _report_losses(self, at_once: bool = False) -> float | None:
        """Log what has been lost and not reported, if it is time; else return the seconds until it is."""
        now = time.monotonic()
        reasons = []
        with self._lock:
            if not (self._dropped or self._failed):
                return None
            if not at_once and now - self._reported_at < _BURST:
                return self._reported_at + _BURST - now
            if self._dropped:
                reasons.append(f"{self._dropped} because {self._limit} others waited to be written (limit)")
            if self._failed:
                reasons.append(f"{self._failed} could not be written ({printable(self._failure)})")
            self._dropped = self._failed = 0
            self._reported_at = now
        logger.warning("access log: lines were lost: %s", "; ".join(reasons))
        return None

    def _reopen(self) -> None:
        if not isinstance(self.target, logging.FileHandler):
            return
        try:
            stream = self.target._open()
        except OSError as error:
            logger.error("access log: %s; what was open stays open", error)
            return
        if (old := self.target.setStream(stream)) is not None:
            old.close()
