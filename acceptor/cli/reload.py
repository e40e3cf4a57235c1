"""--reload: a parent that starts the server in a child process, and starts it anew when a file changes.

The parent listens, and the child inherits the listen sockets: while no child runs, clients wait in the kernel's queue,
and are not refused. A child that cannot start, because of a mistake in the application for example, does not end the
parent, which says so and waits for the next change.

They are one process group, so that a debugger in the application may use the terminal (setpgid(2)). Hence what the
terminal sends, as for Ctrl+C, both get, and so it is with many a supervisor; but what is sent to the parent alone, it
has to pass on. To the child a second signal would mean to cut requests. So the parent sends it none, but a word over a
socket, which it may say twice without harm. When the parent dies, the end of that socket says it too.

The parent has no signal handlers: it blocks the signals that it is interested in, and takes them one by one between two
looks at the files (sigtimedwait(2)).
"""

from __future__ import annotations

import fnmatch
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from acceptor import Acceptor
from acceptor.addresses import parse_address
from acceptor.cli.errors import StartError
from acceptor.listen_socket import ListenSocket, open_sockets
from acceptor.settings import TICK

__all__ = ["INHERITED", "obey", "run_reloading"]

logger = logging.getLogger("acceptor")

INHERITED = "_TASKMASTER_INHERITED"
"""In the environment of the child: the number of the socket to the parent, and behind it the addresses, of the form
fd://N, that it listens on instead of its own."""

_INTERVAL = 0.5
"""Seconds between two looks at the files."""
_PATIENCE = 5.0
"""Seconds that a child may take to end, beyond its own deadline, before it is killed."""
_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages"})
_STOP = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGQUIT})
_SIGNALS = _STOP | {signal.SIGHUP, signal.SIGCHLD}
_STARTED, _DRAIN, _CUT = b"S", b"D", b"C"
"""What is said over the socket: the first by the child, once it obeys; the others by the parent."""

Snapshot = dict[str, tuple[int, int]]
"""Of each file its st_mtime_ns and st_size."""


def obey(descriptor: int, acceptor: Acceptor) -> None:
    """In the child: have `acceptor` stop when the parent says so, or has died. Starts a thread, and returns."""
    parent = socket.socket(fileno=descriptor)
    parent.set_inheritable(False)

    def listen() -> None:
        try:
            parent.send(_STARTED)
            while word := parent.recv(1):
                acceptor.request_stop(now=word == _CUT)
        except OSError:  # as good as its end
            pass
        acceptor.request_stop()

    threading.Thread(target=listen, name="reload", daemon=True).start()


def run_reloading(bind: Sequence[str], backlog: int, reuse_port: bool, directories: Sequence[str],
                  patterns: Sequence[str], deadline: float, *, listening: Callable[[], object]) -> int:
    """Listen on the addresses, and run this same command in child processes until a signal says stop; an exit code.

    deadline: seconds that a child has to stop, by its own configuration. listening: called when the addresses are had;
        StartError if one cannot be.
    """
    if not hasattr(signal, "sigtimedwait"):
        raise StartError("--reload needs sigtimedwait(2), which this system does not have")
    sockets = _listen(bind, backlog, reuse_port)
    former = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        listening()
        return _Parent([each.sock.fileno() for each in sockets], directories, patterns, deadline).run()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
        for each in sockets:
            each.close()


class _Parent:
    def __init__(self, descriptors: Sequence[int], directories: Sequence[str], patterns: Sequence[str],
                 deadline: float) -> None:
        self._descriptors = descriptors
        self._directories = directories
        self._patterns = patterns
        self._deadline = deadline
        self._stopping = False
        """A signal has said so."""

    def run(self) -> int:
        logger.info("watching %s for changes of %s", ", ".join(self._directories), ", ".join(self._patterns))
        while True:
            seen = self._look()  # before the child reads them
            child = _Child(self._descriptors)
            code, changed = self._follow(child, seen)
            if self._stopping:
                if code >= 0:
                    return code
                return 3 if child.started else 1  # killed, and so requests may have been cut
            if not changed:
                if code in (0, 3):  # somebody has told it to stop
                    return code
                ended = f"exit code {code}" if code >= 0 else signal.strsignal(-code)
                logger.error("the server has ended (%s); it is started again when a file changes, and "
                             "clients wait until then", ended)
                changed = self._wait(seen)
            if not changed:
                return max(code, 1)
            logger.info("%s has changed; the server starts anew", changed)

    def _follow(self, child: _Child, seen: Snapshot) -> tuple[int, str]:
        """Wait until `child` has ended: its exit code, and which file's change has ended it, "" if none has."""
        changed, kill_at = "", float("inf")
        while (code := child.ended()) is None:
            received = signal.sigtimedwait(_SIGNALS, _INTERVAL)
            number = received.si_signo if received is not None else 0
            if number in _STOP:
                child.stop(_CUT if self._stopping or number == signal.SIGQUIT else _DRAIN)
                self._stopping = True
            elif number == signal.SIGHUP:
                child.process.send_signal(number)
            elif not self._stopping and not changed and (changed := _difference(seen, self._look())):
                child.stop(_DRAIN)
                kill_at = time.monotonic() + self._deadline + _PATIENCE
            elif time.monotonic() > kill_at:
                child.process.kill()
        return code, changed

    def _wait(self, seen: Snapshot) -> str:
        """Wait until a file changes, and say which; "" if a signal says stop."""
        while not (changed := _difference(seen, self._look())):
            received = signal.sigtimedwait(_SIGNALS, _INTERVAL)
            if received is not None and received.si_signo in _STOP:
                return ""
        return changed

    def _look(self) -> Snapshot:
        return dict(_files(self._directories, self._patterns))


class _Child:
    """This process' own command once more, as it was given to Python."""

    def __init__(self, descriptors: Sequence[int]) -> None:
        self._socket, others = socket.socketpair()
        self._socket.setblocking(False)
        addresses = (f"fd://{each}" for each in descriptors)
        environ = os.environ | {INHERITED: " ".join([str(others.fileno()), *addresses])}
        with others:
            try:
                self.process = subprocess.Popen([sys.executable, *sys.orig_argv[1:]], env=environ,
                                                pass_fds=[others.fileno(), *descriptors], preexec_fn=_unblock)
            except OSError as error:
                self._socket.close()
                raise StartError(f"cannot start {sys.executable}: {error.strerror}") from None

        self.started = False
        """As far as is known: updated by `ended` and `stop`."""

    def ended(self) -> int | None:
        """Its exit code, if it has."""
        code = self.process.poll()
        self._look()
        if code is not None:
            self._socket.close()
        return code

    def stop(self, word: bytes) -> None:
        """Say that it should stop; a child that does not listen yet has nothing to lose, and is ended."""
        self._look()
        if not self.started:
            self.process.terminate()
            return
        try:
            self._socket.send(word)
        except OSError:  # it has ended
            pass

    def _look(self) -> None:
        try:
            self.started |= self._socket.recv(1) == _STARTED
        except OSError:  # nothing has been said; or it has ended, and a second call
            pass


def _unblock() -> None:
    """In the child, which inherits what the parent blocks. The parent has no other thread that could be in the way."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _listen(bind: Iterable[str], backlog: int, reuse_port: bool) -> list[ListenSocket]:
    sockets: list[ListenSocket] = []
    try:
        for address in bind:
            sockets += open_sockets(parse_address(address), backlog, TICK, reuse_port=reuse_port)
    except OSError as error:
        for each in sockets:
            each.close()
        raise StartError(error.strerror) from None
    return sockets


def _files(directories: Iterable[str], patterns: Sequence[str]) -> Iterator[tuple[str, tuple[int, int]]]:
    """The files to watch; not those in hidden directories, or in virtual environments (PEP 405)."""
    for directory in directories:
        for folder, folders, names in os.walk(directory):
            if "pyvenv.cfg" in names:
                folders.clear()
                continue
            folders[:] = [name for name in folders if not name.startswith(".") and name not in _SKIPPED]
            for name in names:
                if any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
                    path = os.path.join(folder, name)
                    try:
                        status = os.stat(path)
                    except OSError:  # gone meanwhile, or a link to nowhere
                        continue
                    yield path, (status.st_mtime_ns, status.st_size)


def _difference(before: Snapshot, after: Snapshot) -> str:
    """A file that is in one of them only, or differs; "" if there is none."""
    if before == after:
        return ""
    return min(path for path, _ in before.items() ^ after.items())
