"""The models to compare, by the names used on the command line, and how each is given the same capacity.

`pkg.mod:Class` names a taskmaster of your own: anything that can be called and returns one.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from taskmaster import (
    PooledTaskmaster,
    RecyclingTaskmaster,
    SingleThreadedTaskmaster,
    Taskmaster,
    ThreadPerConnectionTaskmaster,
)

__all__ = ["MODELS", "Model", "find_model"]


@dataclass(frozen=True)
class Model:
    """One model: what to call, and the argument that takes its capacity (None: it has none)."""

    name: str
    factory: Callable[..., Taskmaster]
    capacity_argument: str | None

    def make(self, capacity: int) -> Taskmaster:
        """A taskmaster with room for `capacity` connections at once if it can be told; all else is its default."""
        return self.factory(**({self.capacity_argument: capacity} if self.capacity_argument else {}))

    def spelled(self, capacity: int) -> str:
        """How `make` makes it: "PooledTaskmaster(threads=128)"."""
        argument = f"{self.capacity_argument}={capacity}" if self.capacity_argument else ""
        return f"{getattr(self.factory, '__name__', self.name)}({argument})"


MODELS = {model.name: model for model in (
    Model("single", SingleThreadedTaskmaster, None),
    Model("thread", ThreadPerConnectionTaskmaster, "max_thread_count"),
    Model("pool", PooledTaskmaster, "threads"),
    Model("recycling", RecyclingTaskmaster, "max_thread_count"),
)}
"""In the order of the course, which is that of every table and picture."""


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
