"""Files below one directory and no others: which names are looked up, and how they are opened.

Names. Refused unseen, on every system, is what any file system could take for something else than one name below this
directory: "", ".", "..", separators, control characters, and the ways in which Windows' file systems, which can be
mounted on Linux too, name a drive or a stream (":"), a device ("NUL.txt"), or a file a second time ("a.", "GIT~1").

Opening. A path that is checked first and opened then can be changed in between. One that is opened first and compared
then (by /proc/self/fd, say) has been opened already, whatever it is, and needs /proc. So the way down is taken with
openat(2), one name at a time, each relative to the descriptor of the directory before it and with O_NOFOLLOW: what was
checked is what is open, and renaming on the way changes nothing of that. A symbolic link is read, and where it leads
is walked in the same way, ".." going back to the descriptor that we came through. (openat2(2) with RESOLVE_BENEATH does
the same in one call, for which Python has no name.)

O_NONBLOCK lets the opening of a FIFO return at once, and fstat(2) on the descriptor tells that it is none of ours.
"""

from __future__ import annotations

import errno
import io
import os
import re
import stat
from collections.abc import Sequence
from types import TracebackType
from typing import Self

__all__ = ["Directory", "File", "may_be_served"]

_NEVER = re.compile(
    r"[\x00-\x1f\x7f/\\:]"
    r"|[\ufffd\ud800-\udfff]"  # stands for bytes that are not UTF-8, in which no name of ours is written
    r"|\A\Z|[. ]\Z"  # Windows drops dots and spaces at an end; "." and ".." are among these
    r"|\A[^.~]{1,6}~[0-9]{1,6}(?:\.[^.]{0,3})?\Z"  # FAT's short name of another file: GIT~1 is .git
)
_DEVICES = frozenset({"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", "CLOCK$",
                      *(f"{port}{number}" for port in ("COM", "LPT") for number in "0123456789¹²³")})
"""Windows' devices: each is in every directory, in any case, and with anything behind a dot."""

_DIRECTORY = os.O_DIRECTORY | getattr(os, "O_PATH", os.O_RDONLY)
"""O_PATH: to pass through a directory one need not be allowed to list it."""
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
_PERHAPS_A_LINK = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EMLINK})
"""What O_NOFOLLOW makes of a symbolic link: open(2); with O_DIRECTORY, ENOTDIR; EMLINK is FreeBSD's."""
_MOST_LINKS = 40
"""As many as Linux follows: path_resolution(7)."""


def may_be_served(name: str) -> bool:
    """Whether `name`, one part of a path, can be that of a file or directory here. Dot files are not judged."""
    return not _NEVER.search(name) and name.partition(".")[0].strip(" ").upper() not in _DEVICES


class File(io.FileIO):
    """A regular file open for reading, of which `read` gives what lies between the position and `stop`.

    The acceptor sends it by sendfile(2) from its position, for the length that the response announces, or, over TLS,
    by `read` up to the end: so that has to be where the length ends, even if the file has grown.
    """

    def __init__(self, descriptor: int, status: os.stat_result) -> None:
        super().__init__(descriptor)
        self.status = status
        """As it was when the file was opened."""
        self.stop = status.st_size

    def select(self, span: range) -> None:
        """Let these bytes be what is sent."""
        self.seek(span.start)
        self.stop = span.stop

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, self.stop - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left)) or b""


class Directory:
    """Somewhere below the directory `path`, at first there. A context manager; owned by one thread.

    follow_symlinks: symbolic links may lead anywhere. Else they may lead to what is below `path`, and are relative.

    Whatever is called raises OSError as open(2) does, PermissionError where a link leads out. It blocks as the file
    system does. Names are as `may_be_served` has them, and encoded as UTF-8, whatever the locale says.
    """

    def __init__(self, path: str, *, follow_symlinks: bool = False) -> None:
        self._no_follow = 0 if follow_symlinks else os.O_NOFOLLOW
        self._way = [os.open(path, _DIRECTORY)]
        """Descriptors of the directories from `path` down to where we are."""
        self._open = list(self._way)
        """Descriptors to be closed: those, and others that links have led through."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
                 ) -> None:
        while self._open:
            os.close(self._open.pop())

    def enter(self, names: Sequence[str]) -> None:
        """Go down, through one directory after another."""
        way, descriptor = self._walk(names, _DIRECTORY)
        if descriptor is not None:
            self._open.append(descriptor)
            way.append(descriptor)
        self._way = way

    def open(self, name: str) -> File:
        """Open the file `name`, which the caller closes. IsADirectoryError for a directory, OSError (ENXIO) for what is
        neither: a FIFO, a socket, a device."""
        descriptor = self._walk([name], _FILE)[1]
        if descriptor is None:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                number = errno.EISDIR if stat.S_ISDIR(status.st_mode) else errno.ENXIO
                raise OSError(number, os.strerror(number), name)
            return File(descriptor, status)
        except BaseException:
            os.close(descriptor)
            raise

    def _walk(self, names: Sequence[str], flags: int) -> tuple[list[int], int | None]:
        """From where we are through `names`: the way to what the last of them is, and its descriptor, opened with
        `flags`, which the caller closes; None if it is the last directory of that way."""
        way = list(self._way)
        to_do = [name.encode() for name in reversed(names)]
        links = 0
        while to_do:
            name = to_do.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":  # of a link
                if len(way) == 1:
                    raise _leads_out(names[-1])
                way.pop()
                continue
            try:
                descriptor = os.open(name, (_DIRECTORY if to_do else flags) | self._no_follow, dir_fd=way[-1])
            except OSError as error:
                links += 1
                if error.errno not in _PERHAPS_A_LINK or not self._no_follow or links > _MOST_LINKS:
                    raise
                try:
                    target = os.readlink(name, dir_fd=way[-1])
                except OSError:  # no link
                    raise error from None
                if target.startswith(b"/"):
                    raise _leads_out(names[-1]) from None
                to_do += reversed(target.split(b"/"))
                continue
            if not to_do:
                return way, descriptor
            self._open.append(descriptor)
            way.append(descriptor)
        return way, None


def _leads_out(name: str) -> PermissionError:
    return PermissionError(errno.EACCES, "a symbolic link is absolute, or leads out of the directory that is served; "
                                         "follow_symlinks=True would allow it", name)
