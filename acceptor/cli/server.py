"""From a configuration to an Acceptor: the application as a handler, TLS, hooks, and everything else it is given."""

from __future__ import annotations

import logging
import os
import re
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from acceptor import TLS, Acceptor, ForwardedHeaders, Handler, Hooks, Limits, Timeouts
from acceptor.cli.configuration import Configuration
from acceptor.cli.control import Control
from acceptor.cli.errors import CliError, ConfigurationError, StartError
from acceptor.cli.loading import call_users, load, load_application, look_here_first
from acceptor.cli.models import inner_of, make_taskmaster
from acceptor.cli.offload import LateExecutor, NamedHandler
from acceptor.health import Health
from acceptor.interfaces import FACTORY_HINT, is_wsgi, takes
from acceptor.networks import Networks
from acceptor.wsgi import WSGI
from taskmaster.base import Taskmaster

__all__ = ["make_acceptor"]

logger = logging.getLogger("acceptor")

_OF_THREADS = ("thread_start", "thread_exit")
_OF_PROCESSES = ("process_start", "process_exit")
_OF_THE_SERVER = ("starting", "ready", "stopping", "stopped")


def make_acceptor(configuration: Configuration, *, access_log: bool, begin: Callable[[], object],
                  ready: Callable[[], object], stopped: Callable[[], object], handler: Handler | None = None
                  ) -> Acceptor:
    """Load everything that the configuration names, and put it together. Nothing is listened on.

    begin: called in each process that serves, before it does.
    ready, stopped: called as hooks of these names, before and after those of the user's.
    handler: what answers, whatever the configuration has as its application.

    What is quick to check comes first; the application, which may take a while to import, last. CliError if something
    is wrong.
    """
    limits, timeouts = _settings(configuration)
    forwarded = _forwarded(configuration)
    tls = _tls(configuration)
    directory = look_here_first(configuration["app-dir"], configuration.where("app-dir"))
    taskmaster = make_taskmaster(configuration, directory)
    hooks = _hooks(configuration, directory, taskmaster, Control(configuration), begin, ready, stopped)
    handler = handler or _handler(configuration, directory)
    try:
        return Acceptor(
            handler, taskmaster=taskmaster, bind=configuration["bind"], backlog=configuration["backlog"],
            reuse_port=configuration["reuse-port"], tls=tls, limits=limits, timeouts=timeouts,
            allow=configuration["allow"], proxy_protocol=configuration["proxy-protocol"], trusted_proxies=forwarded,
            access_log=access_log, urgent=handler.answer if isinstance(handler, Health) else None, hooks=hooks,
            http=configuration["http"])
    except (TypeError, ValueError) as error:
        raise ConfigurationError(str(error)) from None


def _settings(configuration: Configuration) -> tuple[Limits, Timeouts]:
    chosen: dict[str, dict[str, Any]] = {"Limits": {}, "Timeouts": {}}
    for each in configuration:
        owner, _, field = each.option.becomes.partition(".")
        if owner in chosen:
            chosen[owner][field] = each.value
    return Limits(**chosen["Limits"]), Timeouts(**chosen["Timeouts"])


def _forwarded(configuration: Configuration) -> ForwardedHeaders | tuple[str, ...]:
    trusted = configuration["trusted-proxies"]
    if trusted:
        return ForwardedHeaders(Networks(trusted), configuration["forwarded-header"])
    if configuration.differs("forwarded-header"):
        raise ConfigurationError(f"{configuration.where('forwarded-header')}: nobody is trusted to send it; say who is "
                                 "by --trusted-proxies")
    return ()


def _tls(configuration: Configuration) -> TLS | None:
    certfile, asked, authorities = (configuration[name] for name in ("certfile", "client-certificate", "client-ca"))
    if certfile is None:
        for name in ("keyfile", "keyfile-password-file", "ciphers", "tls-minimum", "client-certificate", "client-ca"):
            if configuration.differs(name):
                raise ConfigurationError(f"{configuration.where(name)}: there is no TLS without --certfile; give both")
        return None
    if authorities is None and asked != "none":
        raise ConfigurationError(f"{configuration.said('client-certificate')}: say by --client-ca which "
                                 "authorities sign the certificates of clients")
    if authorities is not None and asked == "none":
        raise ConfigurationError(f"{configuration.said('client-ca')}: clients are asked for no "
                                 "certificate; say --client-certificate required, or optional")
    oldest = ssl.TLSVersion.TLSv1_3 if configuration["tls-minimum"] == "1.3" else ssl.TLSVersion.TLSv1_2
    try:
        return TLS(certfile, configuration["keyfile"], password=_password(configuration), client_ca=authorities,
                   client_certificate=asked, ciphers=configuration["ciphers"], minimum_version=oldest)
    except ValueError as error:
        raise StartError(_tls_problem(error, configuration)) from None


def _tls_problem(error: ValueError, configuration: Configuration) -> str:
    """What TLS says, with the names of options for those of arguments, and what is known here besides."""
    message, certfile, password = str(error), configuration["certfile"], configuration["keyfile-password-file"]
    if configuration["keyfile"] is None and message.startswith("keyfile=") and "no PRIVATE KEY is in it" in message:
        return f"{configuration.where('certfile')} {certfile!r} holds no private key: give --keyfile"
    keyfile = Path(configuration["keyfile"] or certfile)
    if password is not None and "the right password" in message and b"ENCRYPTED" in keyfile.read_bytes():
        return (f"{configuration.where('keyfile-password-file')} {password!r}: the password in it is wrong for "
                f"{str(keyfile)!r}, or that file or the certificate is damaged")
    # OpenSSL's own words are in an error's arguments, and its place in CPython's source is nobody's business.
    message = re.sub(r"\('(.*?)\.?',\)", r"\1", re.sub(r" \(_ssl\.c:\d+\)", "", message))
    message = message.replace("pass password=", "give --keyfile-password-file").replace("; pass ", "; give ")
    for name in ("certfile", "keyfile", "client-ca", "ciphers"):
        message = message.replace(f"{name.replace('-', '_')}=", f"{configuration.where(name)} ")
    return message


def _password(configuration: Configuration) -> str | None:
    path = configuration["keyfile-password-file"]
    if path is None:
        return None
    try:
        return Path(path).read_text("utf-8").partition("\n")[0].removesuffix("\r")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8
        why = error.strerror if isinstance(error, OSError) else error
        raise StartError(f"{configuration.said('keyfile-password-file')}: {why}") from None


def _handler(configuration: Configuration, directory: Path) -> Handler:
    """The application, as a handler; WSGI or not, and with its health checks around it."""
    reference = configuration["app"]
    if reference is None:
        raise ConfigurationError('name the application: "taskmaster serve module:attribute"')
    where = "the application" if configuration.where("app") == "MODULE:ATTRIBUTE" else configuration.where("app")
    factory = configuration["factory"]
    application = load_application(reference, where, directory, factory=factory,
                                   guess=configuration["interface"] == "auto")
    try:
        wsgi = is_wsgi(application)
    except TypeError as error:
        message = str(error).replace(repr(application), "it", 1)
        called = "what the factory has made takes arguments, or is none" if factory or reference.endswith(")") else \
            f'write "{reference}()", or add --factory'
        raise StartError(f"{where} {reference!r}: {message.replace(FACTORY_HINT, called)}") from None
    if configuration["interface"] != "auto":
        wsgi = configuration["interface"] == "wsgi"
    script_name = configuration["script-name"]
    if wsgi:
        try:
            handler: Handler = WSGI(application, script_name=script_name or "")
        except TypeError:
            raise StartError(f"{configuration.said('interface')}: {reference!r} takes a Request, and so is a "
                             "handler; leave the option out") from None
    else:
        if script_name is not None:
            raise ConfigurationError(f"{configuration.said('script-name')}: {reference!r} is a handler, "
                                     "and SCRIPT_NAME is of WSGI; leave it out")
        if not takes(application, 1):
            raise StartError(f"{configuration.said('interface')}: {reference!r} cannot be called with a "
                             "Request alone, as handlers are; leave the option out, or say wsgi")
        handler = application
    offload = configuration["offload"]
    if offload is not None and offload.what != "threads":
        handler = NamedHandler(handler, reference, directory=directory, factory=factory,
                               interface="wsgi" if wsgi else "handler", script_name=script_name)
    live, ready = configuration["live-path"], configuration["ready-path"]
    if live is None and ready is None:
        return handler
    if live == ready:
        raise ConfigurationError(f"{configuration.said('live-path')} and {configuration.said('ready-path')}: they say "
                                 "different things; give each a path of its own")
    return Health(handler, live=live, ready=ready)


def _hooks(configuration: Configuration, directory: Path, taskmaster: Taskmaster, control: Control,
           begin: Callable[[], object], ready: Callable[[], object], stopped: Callable[[], object]) -> Hooks:
    """The user's hooks, and ours; those of threads and processes become the taskmaster's."""
    users = _users_hooks(configuration, directory)
    inner = inner_of(taskmaster)
    forks = inner is not taskmaster
    for name in _OF_THREADS:
        if name in users:
            for each in (taskmaster, inner):  # the main process has threads of its own
                setattr(each, f"on_{name}", users[name])

    def call(name: str, *arguments: object) -> None:
        if name in users:
            call_users(lambda: users[name](*arguments), f"the hook {name}")

    def on_process_start() -> None:
        begin()
        call("process_start")
        offload = getattr(inner, "offload", None)
        if isinstance(offload, LateExecutor):
            offload.open()

    def on_worker_start() -> None:
        """One that lacks what it needs serves nobody: at the start, that ends the server."""
        try:
            on_process_start()
        except CliError as error:
            logger.critical("%s", error)
            logging.shutdown()
            os._exit(StartError.exit_code)

    def on_starting(acceptor: Acceptor) -> None:
        call("starting", acceptor)
        control.make(acceptor)
        if forks:
            _warn_of_threads()
        else:
            on_process_start()

    def on_ready(acceptor: Acceptor) -> None:
        control.start()
        ready()
        call("ready", acceptor)

    def on_stopped(acceptor: Acceptor) -> None:
        control.stop()
        try:
            if not forks and "process_exit" in users:
                users["process_exit"]()
        finally:
            try:
                if "stopped" in users:
                    users["stopped"](acceptor)
            finally:
                stopped()

    if forks:
        taskmaster.on_process_start = on_worker_start  # type: ignore[attr-defined]
        taskmaster.on_process_exit = users.get("process_exit")  # type: ignore[attr-defined]
    return Hooks(starting=on_starting, ready=on_ready, stopping=users.get("stopping"), stopped=on_stopped)


def _warn_of_threads() -> None:
    """Before the fork: whatever has been loaded may have started some."""
    others = [thread.name for thread in threading.enumerate() if thread is not threading.current_thread()]
    if others:
        logger.warning("these threads run in the main process, and will not be in the worker processes: %s. What has "
                       "started them when it was imported should do so in the hook process_start (--hooks)",
                       ", ".join(others))


def _users_hooks(configuration: Configuration, directory: Path) -> dict[str, Callable[..., object]]:
    reference = configuration["hooks"]
    if reference is None:
        return {}
    where = configuration.said("hooks")
    found = load(reference, configuration.where("hooks"), directory, module_alone=True)
    if isinstance(found, type):
        raise StartError(f"{where} is a class; name an object made of it")
    names = (*_OF_THE_SERVER, *_OF_PROCESSES, *_OF_THREADS)
    hooks = {name: hook for name in names if (hook := getattr(found, name, None)) is not None}
    if not hooks:
        raise StartError(f"{where} has no function called {', '.join(names[:-1])} or {names[-1]}")
    for name, hook in hooks.items():
        if not callable(hook):
            raise StartError(f"{where}: {name} is {hook!r:.80}; make it a function")
    return hooks
