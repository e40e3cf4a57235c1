"""Run the server that a configuration describes: logs, pid file, reloads, and the exit code at its end."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, MutableMapping
from pathlib import Path

from acceptor import Acceptor, StopReport
from acceptor.cli.configuration import Configuration
from acceptor.cli.errors import CliError, ConfigurationError, StartError, check_writable
from acceptor.cli.logs import Logs, check_logs
from acceptor.cli.models import describe, inner_of
from acceptor.cli.offload import LateExecutor
from acceptor.cli.reference import versions
from acceptor.cli.reload import INHERITED, obey, run_reloading
from acceptor.cli.server import make_acceptor
from taskmaster.base import Taskmaster

__all__ = ["check", "serve"]

logger = logging.getLogger("acceptor")

_LOST = 3
"""The exit code if requests were cut, threads did not end, or the worker processes lost who looks after them."""


def check(configuration: Configuration) -> None:
    """What `serve` does before it listens. CliError if something is wrong."""
    check_logs(configuration)
    _check_reload(configuration)
    _PidFile(configuration["pidfile"], configuration.where("pidfile"))
    make_acceptor(configuration, access_log=False, begin=_nothing, ready=_nothing, stopped=_nothing)


def serve(configuration: Configuration, environ: MutableMapping[str, str] = os.environ) -> int:
    """Serve until a signal says stop; the exit code. CliError if it cannot start. On the main thread.

    environ: what a reloading parent says is taken out of it, lest the processes that the application starts have it.
    """
    inherited = environ.pop(INHERITED, "").split()
    if inherited:
        os.set_inheritable(int(inherited[0]), False)
    reloads = configuration["reload"] and not inherited
    _check_reload(configuration)
    with Logs(configuration, with_access=not reloads) as logs:
        if not inherited:
            for warning in configuration.warnings:
                logger.warning("%s", warning)
        if reloads:
            return _reload(configuration)
        if inherited:
            # The sockets and the pid file are the parent's.
            configuration = configuration.replaced({"bind": tuple(inherited[1:]), "reuse-port": False, "pidfile": None})
        pidfile = _PidFile(configuration["pidfile"], configuration.where("pidfile"))

        def ready() -> None:
            pidfile.write()
            if inherited:  # not sooner, since it starts a thread, and that must be after a fork
                obey(int(inherited[0]), acceptor)

        acceptor = make_acceptor(configuration, access_log=logs.access, begin=logs.begin, ready=ready,
                                 stopped=pidfile.remove)
        logger.info("%s; process %d; %s", versions(), os.getpid(), describe(acceptor.taskmaster))
        code = _to_the_end(acceptor, configuration, logs)
    _end_offload(inner_of(acceptor.taskmaster), code)
    return code


def _to_the_end(acceptor: Acceptor, configuration: Configuration, logs: Logs) -> int:
    report = _serve_forever(acceptor, configuration, logs)
    if report is None:
        logger.warning("stopped by a signal, before everything had ended")
        return _LOST
    snapshot = acceptor.taskmaster.snapshot()
    logger.info("stopped; connections: %d served, %d refused", snapshot.served,
                snapshot.refused + acceptor.refused_count)
    abandoned = "the nursery died" in snapshot.shrunk  # nobody has asked for this stop: it must not look like one
    return _LOST if report or abandoned else 0


def _end_offload(taskmaster: Taskmaster, code: int) -> None:
    """End the executor; and if it still has something to do, which was cut, this process, which would wait for that."""
    offload = getattr(taskmaster, "offload", None)
    if not isinstance(offload, LateExecutor):
        return
    offload.shutdown(wait=False, cancel_futures=True)
    if offload.in_progress:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _nothing() -> None:
    pass


def _serve_forever(acceptor: Acceptor, configuration: Configuration, logs: Logs) -> StopReport | None:
    """None if it has been stopped by force, while it stopped."""
    def reload() -> None:
        parts: dict[str, Callable[[], object]] = {"log files": logs.reopen}
        if acceptor.tls is not None:
            parts["certificates"] = acceptor.tls.reload
        for what, reload_it in parts.items():
            try:
                reload_it()
                logger.info("reloaded: %s", what)
            except (CliError, OSError, ValueError) as error:
                logger.error("cannot reload the %s, and goes on with those it has: %s", what, error)

    try:
        return acceptor.serve_forever(deadline=configuration["graceful-timeout"], leave=configuration["leave"],
                                      reload=reload)
    except KeyboardInterrupt:
        return None
    except (OSError, RuntimeError) as error:  # an address, or threads, that the system does not give
        raise StartError(getattr(error, "strerror", None) or str(error)) from None


def _check_reload(configuration: Configuration) -> None:
    """In a file or in the environment --reload-dir and --reload-include may wait for the --reload of another day."""
    for name in ("reload-dir", "reload-include"):
        if not configuration["reload"] and configuration.on_command_line(name):
            raise ConfigurationError(f"{configuration.where(name)}: nothing is watched without --reload; give both")
    for directory in configuration["reload-dir"] if configuration["reload"] else ():
        if not os.path.isdir(directory):
            what = "this is no directory" if os.path.exists(directory) else "there is no such directory"
            raise StartError(f"{configuration.where('reload-dir')} {directory!r}: {what}")


def _reload(configuration: Configuration) -> int:
    pidfile = _PidFile(configuration["pidfile"], configuration.where("pidfile"))
    directories = configuration["reload-dir"] or (configuration["app-dir"],)
    patterns = tuple(dict.fromkeys(("*.py", *configuration["reload-include"])))
    deadline = configuration["leave"] + configuration["graceful-timeout"]
    try:
        return run_reloading(configuration["bind"], configuration["backlog"], configuration["reuse-port"], directories,
                             patterns, deadline, listening=pidfile.write)
    finally:
        pidfile.remove()


class _PidFile:
    """path: None, and there is none. StartError if it cannot be written."""

    def __init__(self, path: str | None, where: str) -> None:
        if path is not None:
            check_writable(path, where)
        self._path = None if path is None else Path(path).absolute()
        self._where = where
        self._written = f"{os.getpid()}\n"

    def write(self) -> None:
        """Once it listens, so that a second server that finds the address taken does not touch it."""
        if self._path is not None:
            try:
                self._path.write_text(self._written)
            except OSError as error:
                raise StartError(f"{self._where} {str(self._path)!r}: {error.strerror}") from None

    def remove(self) -> None:
        """Unless it is another's by now."""
        if self._path is not None:
            try:
                if self._path.read_text() == self._written:
                    self._path.unlink()
            except FileNotFoundError:  # it has not been written, or somebody has removed it
                pass
            except OSError as error:
                logger.warning("%s %s: %s", self._where, self._path, error.strerror)
