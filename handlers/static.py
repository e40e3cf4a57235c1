r"""Files below one directory, for GET and HEAD: validators, conditions, ranges, compressed siblings. RFC 9110.

    static = Static("public", max_age=3600, immutable=r"\.[0-9a-f]{8,}\.")
    Acceptor(static, taskmaster=...)                                # all of a server's paths, or those below one:
    app.add_prefix("/static/", Static("public", prefix="/static/"))

Found, or 404
  - A path names a file below the directory: `handlers.directory` says which it may name, and how a file is opened so
    that no other can be reached. What cannot be there, may not be seen or cannot be read is 404, and never 403, which
    would tell that it is there (RFC 9110 section 15.5.4). Of what cannot be read a warning goes to the log.
  - "/docs/" is the first of the `index` files in docs, and "/docs" is sent there: by 301, not 308, for there is no
    method but GET and HEAD to be kept, and every client knows 301. Location is relative ("./docs/", and the query): it
    is right behind a proxy that changes paths, and can lead to no other host. No directory is listed.
  - If the system has no descriptor left, or the directory itself is gone, 503 with Retry-After, and a warning.

Validators
  - The entity tag is strong: inode, size, mtime and ctime. Whatever changes a file's bytes sets its ctime (mmap(2) does
    so late), and no program can set that back, as deployments do with mtime. There is no device in it, because its
    number may be another after a restart.
  - A clock has ticks, and a file that changes twice in one has one stamp for two contents (RFC 9110 section 8.8.1; for
    Last-Modified the tick is a second, section 8.8.2.2). So a file that has changed in the last two seconds gets no
    validator, and is sent whole. Two, because a file server's clock may be late, and some file systems have no
    fractions. Afterwards neither a 304 nor an If-Range can be wrong by that.
  - What is replaced by rename(2) is sent as the old file or the new one. What is written in place while it is being
    sent is sent as it comes, and if it gets shorter, the connection is cut: Content-Length and tag are as at the start.

Compressed siblings
  - "style.css.br", ".zst" and ".gz" beside "style.css" are sent instead of it to those who accept them: of the ones
    that the client likes best, the smallest. One that is older than its file (mtime) is passed over, as out of date.
    Whoever finds one is told Vary: Accept-Encoding, whatever is sent. Each has its own tag; ranges are ranges of what
    is sent (RFC 9110 section 14.1.2), and several at once are not made of one that is compressed, because no client
    could tell what Content-Encoding means for a body in parts.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from email.utils import formatdate
from urllib.parse import quote

from acceptor import Request, Response
from handlers import static_arguments as arguments
from handlers.directory import Directory, File, may_be_served
from handlers.ranges import Multipart, Validators, content_range, failed_precondition, requested_ranges
from handlers.representations import CODINGS, IDENTITY, content_type, media_types, preferred_coding

__all__ = ["Static", "exact_tag"]

logger = logging.getLogger("handlers")

SETTLED = 2.0
"""Seconds since its last change after which a file has validators."""

_ALLOW = {"Allow": "GET, HEAD, OPTIONS"}
_OPTIONS = Response(b"", 204, _ALLOW)
_NOT_ALLOWED = Response("Method Not Allowed\n", 405, _ALLOW)
_NOT_FOUND = Response("Not Found\n", 404)
_UNAVAILABLE = Response("Service Unavailable\n", 503, {"Retry-After": "1"})

_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL,
                     errno.EILSEQ, errno.ENXIO, errno.ENODEV, errno.EACCES, errno.EPERM})
"""What open(2) says of a file that is not for this client. EINVAL, EILSEQ: a name that this file system cannot have."""
_BUSY = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})
"""What passes. EAGAIN: somebody has a lease on the file (fcntl(2)), which O_NONBLOCK does not wait for."""

_TAG = re.compile(r"[\x21\x23-\x7e]+")
"""RFC 9110 section 8.8.3: etagc, of which ASCII is enough."""


def exact_tag(status: os.stat_result) -> str:
    """What an entity tag is made of by default. It differs between machines, even for copies of one file."""
    return f"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}-{status.st_ctime_ns:x}"


class Static:
    """A handler that answers with the files below `directory`. See the module for what it promises.

    directory: it may be a symbolic link, which is followed anew for each request, so that it can be put elsewhere.
    prefix: what the paths begin with that are for this handler, the one of Dispatcher.mount included. All others are
        404, but for "/static" if it is "/static/", which is sent there.
    index: names of the files that stand for their directory; the first there is counts.
    precompressed: codings to look for beside a file, of "br", "zstd" and "gzip". Each costs a system call a request.
    max_age: seconds for which a file need not be asked for again (Cache-Control). None: as the client thinks fit.
    immutable: which files never change, having another name when they do; those may be kept for a year (RFC 8246). A
        regular expression, which is searched for in the path below the directory ("js/app.3f2a91cc.js"), or a function
        that takes this path; it is called by any thread.
    types: media types by extension, {".foo": "text/x-foo; charset=latin-1"}, which go before the usual ones.
    headers: more headers for every file, as {"Access-Control-Allow-Origin": "*"}.
    etag: what the entity tag is made of, from the file's status: any characters that may stand in one. Several machines
        with copies of the same files want `lambda status: f"{status.st_mtime_ns:x}-{status.st_size:x}"`, and have to
        see to it that no file ever changes and keeps its mtime.
    dot_files: names that begin with "." may be asked for. If not, still "/.well-known/" may (RFC 8615), where `prefix`
        is "/".
    follow_symlinks: symbolic links may lead anywhere. If not, they may lead to what is below the directory, and are
        relative; others are 404, with a warning in the log.

    Immutable, so any number of threads may call it. It blocks as the file system does. A response may hold an open
    file, which whoever sends the response closes (as the acceptor does, in every case). TypeError or ValueError for
    wrong arguments.
    """

    def __init__(self, directory: str | os.PathLike[str], *, prefix: str = "/", index: Iterable[str] = ("index.html",),
                 precompressed: Iterable[str] = tuple(CODINGS), max_age: int | None = None,
                 immutable: str | re.Pattern[str] | Callable[[str], object] | None = None,
                 types: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None,
                 etag: Callable[[os.stat_result], str] = exact_tag, dot_files: bool = False,
                 follow_symlinks: bool = False) -> None:
        self._directory = arguments.directory(directory)
        self._prefix = arguments.prefix(prefix)
        self._index = arguments.index(index)
        self._siblings = {coding: CODINGS[coding] for coding in arguments.precompressed(precompressed)}
        self._max_age = arguments.max_age(max_age)
        self._immutable = arguments.immutable(immutable)
        self._types = media_types(arguments.types(types))
        self._headers = arguments.headers(headers)
        self._etag = arguments.etag(etag)
        self._dot_files = dot_files
        self._follow_symlinks = follow_symlinks

    def __repr__(self) -> str:
        return f"Static({self._directory!r}, prefix={self._prefix!r})"

    def __call__(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            return _OPTIONS
        if request.method not in ("GET", "HEAD"):
            return _NOT_ALLOWED
        names = self._names(request)
        if names is None:
            return _NOT_FOUND
        try:
            directory = Directory(self._directory, follow_symlinks=self._follow_symlinks)
        except OSError as error:
            logger.warning("Static: 503 for %r: %s", request.path, error)
            return _UNAVAILABLE
        with directory:
            try:
                name, files = self._find(directory, names)
            except OSError as error:
                return _refusal(request, error)
        if not files:
            return _redirection(request)
        coding = preferred_coding(request.headers.get("accept-encoding"),
                                  {coding: file.status.st_size for coding, file in files.items()})
        file = files.pop(coding)
        for other in files.values():
            other.close()
        try:
            response = self._respond(request, "/".join([*names[:-1], name]), file, coding, varies=bool(files))
        except BaseException:  # a function that the user gave
            file.close()
            raise
        if isinstance(response.body, bytes):
            file.close()
        return response

    # Which files.

    def _names(self, request: Request) -> list[str] | None:
        """The way to what is asked for, the last name "" where that is a directory; None if it cannot be there."""
        path = request.path
        if path and path + "/" == self._prefix:
            return ["."]
        if not path.startswith(self._prefix) or "%2f" in request.target.partition("?")[0].lower():
            return None  # %2F would be a "/" in a name (RFC 3986 section 2.2), which none has
        names = path[len(self._prefix):].split("/")
        for place, name in enumerate(names):
            if not may_be_served(name) and (name or place < len(names) - 1):
                return None
            well_known = name == ".well-known" and place == 0 and self._prefix == "/"
            if name.startswith(".") and not self._dot_files and not well_known:
                return None
        return names

    def _find(self, directory: Directory, names: list[str]) -> tuple[str, dict[str, File]]:
        """The name of the file that the last of `names` stands for, and its representations, open, by their coding;
        none of them if it is a directory, with an index, without its "/". OSError if there is nothing."""
        *above, name = names
        directory.enter(above)
        if not name:
            return self._open_index(directory)
        try:
            return name, self._open(directory, name)
        except (IsADirectoryError, PermissionError) as error:  # a directory that may not be listed is one, too
            try:
                directory.enter([name])
            except NotADirectoryError:
                raise error from None
            name, files = self._open_index(directory)
            for file in files.values():
                file.close()
            return name, {}

    def _open_index(self, directory: Directory) -> tuple[str, dict[str, File]]:
        for name in self._index:
            try:
                return name, self._open(directory, name)
            except (FileNotFoundError, IsADirectoryError):
                pass
        raise FileNotFoundError(errno.ENOENT, "no index")

    def _open(self, directory: Directory, name: str) -> dict[str, File]:
        """The file `name` and its compressed siblings; nothing stays open if OSError is raised."""
        files = {IDENTITY: directory.open(name)}
        try:
            for coding, suffix in self._siblings.items():
                try:
                    sibling = directory.open(name + suffix)
                except OSError as error:
                    if error.errno not in _ABSENT:
                        raise
                else:
                    if sibling.status.st_mtime_ns >= files[IDENTITY].status.st_mtime_ns:
                        files[coding] = sibling
                    else:
                        sibling.close()
        except BaseException:
            for file in files.values():
                file.close()
            raise
        return files

    # What is said of them.

    def _respond(self, request: Request, path: str, file: File, coding: str, *, varies: bool) -> Response:
        """The answer with `file`, which is what to send for the file at `path` below the directory.

        varies: there is more than one to choose from.
        """
        now, size = time.time(), file.status.st_size
        current = self._validators(file.status, coding, now)
        vary = [("Vary", "Accept-Encoding")] if varies else []
        failed = failed_precondition(request.headers, current, now)
        if failed == 412:
            return Response("Precondition Failed\n", 412, vary)
        always = [*vary, *self._always(path, current)]
        if failed == 304:
            return Response(b"", 304, always)
        kind = content_type(path.rpartition("/")[2], self._types)
        headers = [*always, ("Accept-Ranges", "bytes"), ("X-Content-Type-Options", "nosniff")]
        if current.modified is not None:
            headers.append(("Last-Modified", formatdate(current.modified, usegmt=True)))
        if coding != IDENTITY:
            headers.append(("Content-Encoding", coding))
        whole = [*headers, ("Content-Type", kind), ("Content-Length", str(size))]
        if request.method == "HEAD":
            return Response(b"", 200, whole)
        spans = requested_ranges(request.headers, current, size, now)
        if spans is None or (len(spans) > 1 and coding != IDENTITY):
            return Response(file, 200, whole)
        if not spans:
            return Response("Range Not Satisfiable\n", 416, [*vary, ("Content-Range", content_range(None, size))])
        if len(spans) > 1:
            parts = Multipart(file, spans, size, kind)
            return Response(parts, 206, [*headers, ("Content-Type", parts.content_type),
                                         ("Content-Length", str(parts.size))])
        file.select(spans[0])
        return Response(file, 206, [*headers, ("Content-Type", kind), ("Content-Length", str(len(spans[0]))),
                                    ("Content-Range", content_range(spans[0], size))])

    def _validators(self, status: os.stat_result, coding: str, now: float) -> Validators:
        if now - status.st_ctime_ns / 1e9 < SETTLED:
            return Validators(None, None)
        tag = self._etag(status)
        if not isinstance(tag, str) or not _TAG.fullmatch(tag):
            raise ValueError(f'{self}: etag returned {tag!r}; it must be a str of visible ASCII without "')
        modified = min(status.st_mtime_ns // 10**9, int(now))  # RFC 9110 section 8.8.2.1: never later than Date
        return Validators(f'"{tag}"' if coding == IDENTITY else f'"{tag}-{coding}"', max(0, modified))

    def _always(self, path: str, current: Validators) -> list[tuple[str, str]]:
        """The headers of a 304, which are those of a 200, too: RFC 9110 section 15.4.5. Of no error: one with a
        max-age would be kept by caches, and be the answer to others, who have not asked for a range."""
        headers = list(self._headers)
        if current.etag is not None:
            headers.append(("ETag", current.etag))
        if self._immutable is not None and self._immutable(path):
            headers.append(("Cache-Control", "max-age=31536000, immutable"))
        elif self._max_age is not None:
            headers.append(("Cache-Control", f"max-age={self._max_age}"))
        return headers


def _redirection(request: Request) -> Response:
    """To the same path with a "/" behind it. RFC 3986 section 4.2: "./", so that no name is taken for a scheme."""
    name = quote(request.path.rpartition("/")[2], safe="")
    return Response("Moved Permanently\n", 301, {"Location": f"./{name}/{request.query and '?' + request.query}"})


def _refusal(request: Request, error: OSError) -> Response:
    """What to answer when a file cannot be opened; raises what only the server's administrator can judge."""
    if error.errno in (errno.EACCES, errno.EPERM) or error.errno in _BUSY:
        logger.warning("Static: %r cannot be opened: %s", request.path, error)
    if error.errno in _BUSY:
        return _UNAVAILABLE
    if error.errno not in _ABSENT:
        raise error
    return _NOT_FOUND
