"""Where the server's logs go, for a process that is a server: a library leaves that to whoever uses it.

Only the loggers "acceptor", "acceptor.access" and "taskmaster" are set up, and nothing goes on from them to the root
logger: what the application logs is the application's business. With --log-config everything is.
"""

from __future__ import annotations

import json
import logging
import logging.config
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from acceptor.access import AccessFormatter
from acceptor.background import BackgroundHandler, reopen_file
from acceptor.cli.configuration import Configuration
from acceptor.cli.errors import ConfigurationError, StartError, check_writable

__all__ = ["Logs", "check_logs"]

_SERVER = ("acceptor", "taskmaster")
_ACCESS = logging.getLogger("acceptor.access")
_REPLACED = ("access-log", "access-log-format", "error-log", "log-level", "log-format")
"""By --log-config."""


class Logs:
    """The handlers, from the beginning of a `with` to its end. Owned by the main thread.

    Processes that are forked meanwhile have them too, and the same files: each line is one write(2), at the end of the
    file (O_APPEND), and so the lines of several processes are not mixed.

    with_access: there is an access log, if one is asked for: this process serves, or those that it forks do.

    ConfigurationError or StartError if a file cannot be had or read.
    """

    def __init__(self, configuration: Configuration, *, with_access: bool = True) -> None:
        self._config: Path | None = None
        self._handlers: dict[logging.Handler, tuple[logging.Logger, ...]] = {}
        if configuration["log-config"] is not None:
            _check_alone(configuration)
            self._config = Path(configuration["log-config"])
            _configure(self._config, configuration.where("log-config"))
            self.access = with_access and bool(_ACCESS.handlers)
            return
        _check_access(configuration)
        formatter = _JSONFormatter() if configuration["log-format"] == "json" else logging.Formatter(
            "%(asctime)s [%(process)d] %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S %z")
        errors = _target(configuration, "error-log", sys.stderr)
        errors.setFormatter(formatter)
        self._add(errors, configuration["log-level"].upper(), *map(logging.getLogger, _SERVER))
        self.access = with_access and configuration["access-log"] is not None
        _ACCESS.propagate = False
        if self.access:
            target = _target(configuration, "access-log", sys.stdout, late=configuration["processes"] is not None)
            target.setFormatter(AccessFormatter(configuration["access-log-format"]))
            self._add(BackgroundHandler(target), logging.INFO, _ACCESS)

    def begin(self) -> None:
        """This process serves: have the access log written by a thread. Once, in each such process; a thread that ran
        before a fork would be missing after it."""
        for handler in self._handlers:
            if isinstance(handler, BackgroundHandler):
                if isinstance(handler.target, logging.FileHandler) and handler.target.stream is None:
                    handler.reopen()
                handler.start()

    def reopen(self) -> None:
        """Open the files anew, or read --log-config again; what goes wrong is logged, or raised."""
        if self._config is not None:
            _configure(self._config, "--log-config")
        for handler in self._handlers:
            if isinstance(handler, BackgroundHandler):
                handler.reopen()
            elif isinstance(handler, logging.FileHandler):
                reopen_file(handler)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        for handler in reversed(self._handlers):  # the access log first: it may have something to report
            handler.close()
            for logger in self._handlers[handler]:
                logger.removeHandler(handler)

    def _add(self, handler: logging.Handler, level: str | int, *loggers: logging.Logger) -> None:
        self._handlers[handler] = loggers
        for logger in loggers:
            logger.addHandler(handler)
            logger.setLevel(level)
            logger.propagate = False


def check_logs(configuration: Configuration) -> None:
    """As `Logs`, as far as is possible without making a file; a --log-config is followed."""
    if configuration["log-config"] is not None:
        _check_alone(configuration)
        _configure(Path(configuration["log-config"]), configuration.where("log-config"))
        return
    _check_access(configuration)
    for name in ("error-log", "access-log"):
        if configuration[name] not in (None, "-"):
            check_writable(configuration[name], configuration.where(name))


class _JSONFormatter(logging.Formatter):
    """An object in each line: time (UTC), level, logger, process, message and, if there is one, exception."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        parts = {"time": time.replace("+00:00", "Z"), "level": record.levelname, "logger": record.name,
                 "process": record.process, "message": record.getMessage()}
        if record.exc_info:
            parts["exception"] = self.formatException(record.exc_info)
        return json.dumps(parts)


def _target(configuration: Configuration, name: str, stream: Any, *, late: bool = False) -> logging.Handler:
    """late: the file is opened by whoever begins to write to it. A process that forks others and never writes would
    keep it open when it has long been rotated away, and its space on the disk taken."""
    path = configuration[name]
    if path == "-":
        return logging.StreamHandler(stream)
    check_writable(path, configuration.where(name))
    try:
        return logging.FileHandler(path, encoding="utf-8", delay=late)
    except OSError as error:
        raise StartError(f"{configuration.where(name)} {path!r}: {error.strerror}") from None


def _check_alone(configuration: Configuration) -> None:
    for name in _REPLACED:
        if configuration.differs(name):
            raise ConfigurationError(f"{configuration.where(name)} and {configuration.where('log-config')}: the latter "
                                     "says all that there is to say about logs; leave the other out")


def _check_access(configuration: Configuration) -> None:
    """A format in a file or in the environment may wait there for a log; who gives one here wants the log now."""
    if configuration["access-log"] is None and configuration.on_command_line("access-log-format"):
        raise ConfigurationError(f"{configuration.where('access-log-format')}: there is no access log without "
                                 "--access-log; give both, with --access-log - for standard output")


def _configure(path: Path, where: str) -> None:
    """Follow a logging configuration. Loggers that it does not name are left as they are, unless it says otherwise."""
    if path.suffix in (".yaml", ".yml"):
        raise ConfigurationError(f"{where} {str(path)!r}: YAML is not read: write .json, .toml or .ini")
    try:
        text = path.read_text("utf-8")
        if path.suffix not in (".json", ".toml"):
            logging.config.fileConfig(path, disable_existing_loggers=False, encoding="utf-8")
            return
        config = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        logging.config.dictConfig({"version": 1, "disable_existing_loggers": False, **config})
    except OSError as error:
        raise StartError(f"{where} {str(path)!r}: {error.strerror}") from None
    except KeyError as error:
        key = str(error.args[0]) if error.args else ""
        section = key in ("loggers", "handlers", "formatters") or key.startswith(("logger_", "handler_", "formatter_"))
        what = f"the section [{key}] is missing" if section else f"{key!r} is missing, or is not defined"
        empty = "; with nothing to list, write keys= in it" if key.endswith("s") and section else ""
        raise ConfigurationError(f"{where} {str(path)!r}: {what}{empty}") from None
    except Exception as error:  # logging.config raises whatever its parts raise: ValueError, TypeError
        cause = f" ({error.__cause__})" if error.__cause__ is not None else ""
        raise ConfigurationError(f"{where} {str(path)!r}: {type(error).__name__}: {error}{cause}") from None
