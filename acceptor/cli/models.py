"""The taskmaster that --taskmaster names, made with the options of the model; with --processes, one in each process.

Which arguments a model takes is read from its constructor, so that a class of the user's own is treated as the five of
this package are: an option that a model has no argument for is an error, and never ignored.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

from acceptor.cli.configuration import Configuration
from acceptor.cli.errors import CliError, ConfigurationError, StartError, did_you_mean
from acceptor.cli.foreign import LIKE
from acceptor.cli.loading import call_users, load
from acceptor.cli.offload import make_offload
from taskmaster import (
    EventLoopTaskmaster,
    PooledTaskmaster,
    RecyclingTaskmaster,
    SingleThreadedTaskmaster,
    Taskmaster,
    ThreadPerConnectionTaskmaster,
)
from taskmaster.prefork import PreforkTaskmaster

__all__ = ["describe", "in_effect", "inner_of", "make_taskmaster"]

MODELS: dict[str, type[Taskmaster]] = {
    "single": SingleThreadedTaskmaster,
    "thread": ThreadPerConnectionTaskmaster,
    "pool": PooledTaskmaster,
    "recycling": RecyclingTaskmaster,
    "loop": EventLoopTaskmaster,
}

_ARGUMENTS = {
    "threads": ("threads", "max_thread_count"),
    "standby": ("standby",),
    "queue": ("queue_size", "max_accept_count"),
    "idle-timeout": ("idle_timeout",),
    "idle": ("idle",),
    "offload": ("offload",),
}
"""The names that an option's argument may have; the first that the constructor has is taken."""


_OF_PROCESSES = ("max-requests", "max-requests-jitter", "max-memory")


def make_taskmaster(configuration: Configuration, directory: Path) -> Taskmaster:
    """ConfigurationError if the model does not have an option that was given; StartError if there is no such model."""
    model = _make_model(configuration, directory)
    processes = configuration["processes"]
    chosen = {name: configuration[name] for name in _OF_PROCESSES if configuration.differs(name)}
    if processes is None:
        for name in chosen:
            raise ConfigurationError(f"{configuration.said(name)}: it is about worker processes, and there are none "
                                     "without --processes; give both, if only --processes 1")
        return model
    if "max-requests-jitter" in chosen and "max-requests" not in chosen:
        raise ConfigurationError(f"{configuration.said('max-requests-jitter')}: there is no --max-requests; give both")
    try:
        return PreforkTaskmaster(model, processes, deadline=configuration["graceful-timeout"],
                                 **{name.replace("-", "_"): value for name, value in chosen.items()})
    except (TypeError, ValueError) as error:
        message = _with_options(str(error).removeprefix(f"processes={processes!r}: "))
        raise ConfigurationError(f"{configuration.said('processes')}: {message}") from None
    except RuntimeError as error:  # there is no fork here
        raise StartError(f"{configuration.said('processes')}: {error}") from None


def _make_model(configuration: Configuration, directory: Path) -> Taskmaster:
    name = configuration["taskmaster"]
    where = configuration.where("taskmaster")
    model = MODELS.get(name.lower()) or _own_model(name, where, directory)
    taken = _parameters(model)
    arguments: dict[str, Any] = {}

    def pass_on(option: str, value: object, said: str) -> None:
        argument = next((each for each in _ARGUMENTS[option] if each in taken), None)
        if argument is None:
            raise ConfigurationError(f"{said}: {_unable(option, name, model, taken)}")
        arguments[argument] = value

    if configuration.given("threads"):
        threads, said = configuration["threads"], configuration.said("threads")
        if threads.most is None and model in (PooledTaskmaster, RecyclingTaskmaster):
            raise ConfigurationError(f"{said}: the model {name} has a bound; write a number of at least 1 "
                                     "(-t thread has none, if that is meant)")
        if threads.least is not None and model in (PooledTaskmaster, ThreadPerConnectionTaskmaster):
            raise ConfigurationError(f"{said}: the model {name} has no --standby, and no range of --threads; write "
                                     f"--threads {threads.most}, or -t recycling")
        pass_on("threads", threads.most, said)
        if threads.most is None and "max_accept_count" in taken:
            arguments["max_accept_count"] = None  # where nobody waits, no default says how many may
        if threads.least is not None:
            if configuration.given("standby"):
                raise ConfigurationError(f"{said} and {configuration.said('standby')}: both say how many threads wait; "
                                         "leave one out")
            pass_on("standby", threads.least, said)
    for option in ("standby", "queue", "idle-timeout", "idle", "offload"):
        if configuration.given(option):
            value = configuration[option]
            if option == "offload" and value is not None:
                value = make_offload(value, configuration.where(option), directory)
            pass_on(option, value, configuration.said(option))

    def make() -> Taskmaster:
        try:
            return model(**arguments)
        except (TypeError, ValueError) as error:  # about an argument
            raise ConfigurationError(f"{where} {name}: {_with_options(str(error))}") from None

    return call_users(make, f"{where} {name}")


def inner_of(taskmaster: Taskmaster) -> Taskmaster:
    """What serves: with --processes, the taskmaster of each process; else the same."""
    return taskmaster.inner if isinstance(taskmaster, PreforkTaskmaster) else taskmaster


def describe(taskmaster: Taskmaster) -> str:
    """For the log: "RecyclingTaskmaster, 8 to 100 threads"."""
    if isinstance(taskmaster, PreforkTaskmaster):
        count = taskmaster.process_count
        return f"{count} worker process{'es' if count > 1 else ''}, each with {describe(taskmaster.inner)}"
    if isinstance(taskmaster, EventLoopTaskmaster):
        return f"{type(taskmaster).__name__}, 1 thread{' and --offload' if taskmaster.offload is not None else ''}"
    most, least = taskmaster.max_thread_count, getattr(taskmaster, "standby", None)
    if most == 1:
        threads = "1 thread"
    elif most is None:
        threads = "a thread for each connection"
    else:
        threads = f"{f'{least} to ' if isinstance(least, int) else ''}{most} threads"
    return f"{type(taskmaster).__name__}, {threads}"


def in_effect(configuration: Configuration) -> dict[str, str]:
    """For --print-config: what the options that nobody has given are in the model that was chosen, by their names.

    Of our own models only, since for others the user's code would have to be run; and not if the options are wrong.
    """
    name = configuration["taskmaster"].lower()
    if name not in MODELS:
        return {}
    try:
        made = _make_model(configuration, Path())
    except CliError:
        return {}
    taken = _options(_parameters(MODELS[name]))
    standby, most = getattr(made, "standby", None), made.max_thread_count
    values = {"threads": most if standby is None or configuration.given("standby") else f"{standby}:{most}",
              "standby": standby, "queue": made.max_accept_count, "idle-timeout": getattr(made, "idle_timeout", None),
              "idle": getattr(made, "idle", None), "offload": None}
    return {option: (f"{value:g}" if isinstance(value, float) else str(value).lower()) if option in taken else ""
            for option, value in values.items()}


def _options(arguments: list[str]) -> set[str]:
    """The options that a constructor with these arguments has a place for."""
    return {option for option, names in _ARGUMENTS.items() if set(names) & set(arguments)}


def _own_model(name: str, where: str, directory: Path) -> type[Taskmaster]:
    if re.fullmatch("[0-9.]+", name):
        raise ConfigurationError(f"{where} {name!r}: it names the model, one of {', '.join(MODELS)}; gunicorn's -t is "
                                 "--timeout-handler here")
    if (like := LIKE.get(name.lower())) is not None:
        raise ConfigurationError(f"{where} {name!r}: there is no such model; {like} is the most like it")
    if ":" not in name:
        raise ConfigurationError(f"{where} {name!r}: there is no such model; write {', '.join(MODELS)}, or for one of "
                                 f"your own package.module:Class{did_you_mean(name.lower(), MODELS)}")
    model = load(name, where, directory)
    if not (isinstance(model, type) and issubclass(model, Taskmaster)):
        raise StartError(f"{where} {name!r} is {model!r:.80}: name a class derived from taskmaster.Taskmaster")
    if inspect.isabstract(model):
        missing = ", ".join(sorted(model.__abstractmethods__))
        raise StartError(f"{where} {name!r} is not finished: it has no {missing}")
    return model


def _parameters(model: type[Taskmaster]) -> list[str]:
    """The names of the constructor's arguments; with **options also those of the class that it derives from."""
    names: list[str] = []
    for owner in model.__mro__:
        if "__init__" not in vars(owner):
            continue
        parameters = list(inspect.signature(vars(owner)["__init__"]).parameters.values())[1:]
        names += [each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
        if not any(each.kind is each.VAR_KEYWORD for each in parameters):
            break
    return names


def _unable(option: str, name: str, model: type[Taskmaster], taken: list[str]) -> str:
    if model not in MODELS.values():
        return (f"{model.__name__}() has no argument called {' or '.join(_ARGUMENTS[option])}; it takes "
                f"{', '.join(taken) or 'none'}")
    able = [each for each, other in MODELS.items() if set(_ARGUMENTS[option]) & set(_parameters(other))]
    what = "--standby, and no range of --threads" if option == "standby" else f"--{option}"
    others = " and ".join(filter(None, [", ".join(able[:-1]), able[-1]]))
    instead = ""
    if name == "loop" and option == "threads":
        instead = ". Or its application has: write --offload threads:N"
    elif name == "thread" and option == "idle":
        instead = "; here each connection keeps its thread, idle or not"
    elif option == "offload":
        instead = ", so write -t loop too, or leave it out"
    return f"the model {name} has no {what}; {others} {'have' if len(able) > 1 else 'has'}{instead}"


def _with_options(message: str) -> str:
    """What a constructor says, for somebody who has called none: with the names of options for those of arguments."""
    for option, arguments in _ARGUMENTS.items():
        for argument in arguments:
            message = re.sub(rf"\b{argument}=None\b", f"--{option} none", message)
            message = re.sub(rf"\b{argument}=", f"--{option} ", message)
            if "_" in argument:  # else it is a word that a sentence may have
                message = re.sub(rf"\b{argument}\b", f"--{option}", message)
    return re.sub(r"\bpass (a|an|one)\b", r"write \1", message)
