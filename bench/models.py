"""The models to compare, by the names used on the command line, and how each is given the same capacity.

`pkg.mod:Class` names a taskmaster of your own: anything that can be called and returns one.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from taskmaster import (
    EventLoopTaskmaster,
    PooledTaskmaster,
    RecyclingTaskmaster,
    SingleThreadedTaskmaster,
    Taskmaster,
    ThreadPerConnectionTaskmaster,
)
from taskmaster.prefork import PreforkTaskmaster
from taskmaster.threaded import Inline

__all__ = ["MODELS", "OFFLOADED", "PROCESSES", "Model", "find_model", "names_of"]

OFFLOADED = 16
"""Threads that run the handlers of the event loop which is not to run them itself."""
PROCESSES = 2
"""Worker processes of prefork, if nobody says how many."""


@dataclass(frozen=True)
class Model:
    """One model: what to call, and with which arguments."""

    name: str
    factory: Callable[..., Taskmaster]
    capacity_argument: str | None
    """Takes the capacity; None: it has none."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments, always the same."""
    queue_argument: str = "queue_size"
    """Takes the number of connections that may wait for a thread, where it has one."""
    text: str = ""
    """How the call is written, "{}" standing for " for 128 together"; empty: as the arguments are."""

    def make(self, capacity: int, *, exactly: bool = False, **more: Any) -> Taskmaster:
        """A taskmaster with room for `capacity` connections at once if it can be told (0: its default); all else is its
        default.

        exactly: all threads are there from the start. more: further arguments, but for those that it does not have.
        """
        known = inspect.signature(self.factory).parameters
        if "queue_size" in more:
            more[self.queue_argument] = more.pop("queue_size")
        if exactly and capacity:
            more["standby"] = capacity
        return self.factory(**self._room(capacity), **self.settings,
                            **{name: more[name] for name in more if name in known})

    def spelled(self, capacity: int) -> str:
        """How `make` makes it: "PooledTaskmaster(threads=128, idle='hold')"."""
        if self.text:
            return self.text.format(f" for {capacity} together" if capacity else "")
        said = ", ".join(f"{name}={value!r}" for name, value in {**self._room(capacity), **self.settings}.items())
        return f"{getattr(self.factory, '__name__', self.name)}({said})"

    def _room(self, capacity: int) -> dict[str, int]:
        return {self.capacity_argument: capacity} if self.capacity_argument and capacity else {}


def _loop_with_threads() -> Taskmaster:
    return EventLoopTaskmaster(offload=ThreadPoolExecutor(OFFLOADED))  # whose threads end with the process


def _prefork(*, room: int = 0, standby: int | None = None, inline: Inline = "fair", processes: int = PROCESSES
             ) -> Taskmaster:
    each = -(-room // processes)
    limit = {"max_thread_count": each} if room else {}
    return PreforkTaskmaster(RecyclingTaskmaster(standby=None if standby is None else each, idle="park", inline=inline,
                                                 **limit), processes)


MODELS = {model.name: model for model in (
    Model("single", SingleThreadedTaskmaster, None),
    Model("thread", ThreadPerConnectionTaskmaster, "max_thread_count", queue_argument="max_accept_count"),
    Model("pool-hold", PooledTaskmaster, "threads", {"idle": "hold"}),
    Model("pool-park", PooledTaskmaster, "threads", {"idle": "park"}),
    Model("recycling-hold", RecyclingTaskmaster, "max_thread_count", {"idle": "hold"}),
    Model("recycling-park", RecyclingTaskmaster, "max_thread_count", {"idle": "park"}),
    Model("loop", EventLoopTaskmaster, None),
    Model("loop-threads", _loop_with_threads, None,
          text=f"EventLoopTaskmaster(offload=ThreadPoolExecutor({OFFLOADED}))"),
    Model("prefork", _prefork, "room",
          text=f"PreforkTaskmaster(RecyclingTaskmaster(idle='park', ...), processes={PROCESSES}){{}}"),
)}
"""In the order of the course, which is that of every table and picture."""


def names_of(word: str) -> list[str]:
    """The models that `word` on a command line stands for: one, or all that begin with it: "recycling" for both."""
    return [name for name in MODELS if word not in MODELS and name.startswith(f"{word}-")] or [word]


def find_model(name: str) -> Model:
    """The model called `name`, or your own by "pkg.mod:Class". ValueError, with the fix, if there is none."""
    if name in MODELS:
        return MODELS[name]
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise ValueError(f"there is no model {name!r}: choose from {', '.join(MODELS)}, or name a taskmaster of your "
                         "own as pkg.mod:Class")
    try:
        factory: Any = getattr(importlib.import_module(module), attribute)
        parameters = inspect.signature(factory).parameters
    except ImportError as error:
        raise ValueError(f"model {name!r} cannot be had: {error}; is it importable from where you are?") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"model {name!r} cannot be had: {error}") from error
    if isinstance(factory, type) and not issubclass(factory, Taskmaster):
        raise ValueError(f"model {name!r} is not a taskmaster: derive the class from taskmaster.Taskmaster")
    capacity = next((known for known in ("max_thread_count", "threads") if known in parameters), None)
    return Model(attribute, factory, capacity)
