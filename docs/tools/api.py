"""Our docstrings for mkdocstrings: an extension of griffe that makes Markdown of each when a package has been read."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Collection
from typing import Any

import griffe

from docs.tools.docstrings import markdown

__all__ = ["Docstrings"]


_STORY = re.compile(r" ?See the module\b[^.]*\.")


class Docstrings(griffe.Extension):
    """See the module. mkdocstrings makes one, and calls it for each package."""

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **_: Any) -> None:
        for module in _modules(pkg):
            story = module.docstring.value if module.docstring is not None else ""
            for member in module.members.values():
                if not isinstance(member, griffe.Alias | griffe.Module):
                    _convert(member, story)
            if module.docstring is not None:
                module.docstring.value = _markdown(module, story)


def _modules(module: griffe.Module) -> list[griffe.Module]:
    return [module, *(each for inner in module.modules.values() if not inner.is_alias for each in _modules(inner))]


def _convert(thing: griffe.Object, story: str) -> None:
    """Of what says "See the module", the page has the docstring of the module too, `story`, folded up."""
    if isinstance(thing, griffe.Attribute) and "class-attribute" not in thing.labels and isinstance(
            thing.parent, griffe.Class):
        thing.value = None  # set in __init__: "method = method" says nothing
    if thing.docstring is not None:
        text = thing.docstring.value
        thing.docstring.value = _markdown(thing, _STORY.sub("", text))
        if _STORY.search(text):
            title, _, rest = story.partition("\n")
            told = textwrap.indent(_markdown(thing, rest), "    ")
            thing.docstring.value += f'\n??? abstract "{title.rstrip(".")}"\n\n{told}'
    for member in thing.members.values():
        if not isinstance(member, griffe.Alias | griffe.Module):
            _convert(member, story)


def _markdown(thing: griffe.Object, text: str) -> str:
    return markdown(text, _names(thing), lambda name: _identifier(thing, name))


def _names(thing: griffe.Object) -> Collection[str]:
    """The arguments that its docstring may explain."""
    function = thing.members.get("__init__") if isinstance(thing, griffe.Class) else thing
    parameters = [each.name for each in function.parameters] if isinstance(function, griffe.Function) else []
    return [*parameters, *(thing.members if isinstance(thing, griffe.Class) else ())]


def _identifier(thing: griffe.Object, name: str) -> str | None:
    """The path of what `name` means where `thing` is; None if it means nothing, or something of its own inside."""
    try:
        path = thing.resolve(name)
    except (griffe.NameResolutionError, griffe.AliasResolutionError):
        return None
    return None if any(part.startswith("_") for part in path.split(".")) else path
