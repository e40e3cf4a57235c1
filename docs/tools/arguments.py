"""The arguments of everything that is made with arguments: `python -m docs.tools.arguments` writes the page.

Names, types and defaults are those of the code, and what they mean is said by its docstrings: the lines `name: meaning`
of a class or a function, or its first sentence, if that names the argument, or, for the fields of a dataclass, the
string below each. tests/test_docs_site.py holds that the page is up to date and that no meaning is missing.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from docs.tools.docstrings import Text, blocks, meanings

__all__ = ["PAGE", "SECTIONS", "Argument", "arguments_of", "arguments_reference", "found"]

PAGE = Path(__file__).parents[1] / "reference" / "arguments.md"

SECTIONS = {
    "The server": ["acceptor.Acceptor", "acceptor.Limits", "acceptor.Timeouts", "acceptor.TLS", "acceptor.Hooks",
                   "acceptor.ForwardedHeaders"],
    "The taskmasters": ["taskmaster.SingleThreadedTaskmaster", "taskmaster.ThreadPerConnectionTaskmaster",
                        "taskmaster.PooledTaskmaster", "taskmaster.RecyclingTaskmaster",
                        "taskmaster.EventLoopTaskmaster", "taskmaster.PreforkTaskmaster"],
    "The handlers": ["handlers.Dispatcher", "handlers.Static", "handlers.easy_handler", "acceptor.wsgi.WSGI",
                     "acceptor.health.Health", "handlers.Status", "acceptor.Response", "handlers.delay",
                     "handlers.spin"],
    "Watching": ["watching.control_for", "watching.ControlServer", "watching.LocalSource", "watching.RemoteSource"],
}
"""What is on the page, in its order."""

_INTRODUCTION = """\
# Arguments

<!-- Written by `python -m docs.tools.arguments`: do not edit. -->

What the server, the taskmasters and all else are made with, in Python. A test holds this page to the code. What
`taskmaster serve` takes is in [settings](../settings.md), with the argument here that each option becomes.

Where the default is missing, the argument must be given; a type in quotes is one of these words.
"""


@dataclass(frozen=True)
class Argument:
    """One argument, as it is shown."""

    name: str
    type: str
    default: str
    """As Python writes it; empty if the argument must be given."""
    meaning: str
    """Empty if nothing says it, which fails the tests."""


def found(path: str) -> Any:
    """What "acceptor.wsgi.WSGI" names."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def arguments_of(thing: Any) -> list[Argument]:
    """Of a class, the arguments it is called with; of a function its parameters, in order."""
    signature = inspect.signature(thing)
    names = list(signature.parameters)
    said = _below_fields(thing) if dataclasses.is_dataclass(thing) else meanings(inspect.getdoc(thing) or "", names)
    written = _written_defaults(thing)
    above = _first_sentence(thing)
    return [Argument(name, _type(thing, each.annotation), _default(each, written.get(name)),
                     said.get(name, "See above." if f"`{name}`" in above else ""))
            for name, each in signature.parameters.items()]


def _first_sentence(thing: Any) -> str:
    first = next(each.text for each in blocks(inspect.getdoc(thing) or "") if isinstance(each, Text))
    return re.sub(r" See the module\b[^.]*\.", "", first)


def _type(thing: Any, annotation: Any) -> str:
    """As it is written, but for names of a choice of words, which are those words."""
    def choice(name: re.Match[str]) -> str:
        meant = getattr(sys.modules[thing.__module__], name[0], None)
        return " | ".join(map(repr, get_args(meant))).replace("'", '"') if get_origin(meant) is Literal else name[0]

    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    text = re.sub(r"Literal\[([^]]+)\]", lambda words: words[1].replace(", ", " | ").replace("'", '"'), text)
    return re.sub(r"\b[A-Z]\w+\b", choice, text)


def _default(parameter: inspect.Parameter, written: str | None) -> str:
    value = parameter.default
    if value is inspect.Parameter.empty:
        return ""
    if written is not None:
        return written
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    return getattr(value, "__name__", None) or repr(value).replace("'", '"')


def _written_defaults(thing: Any) -> dict[str, str]:
    """Defaults of fields as the source has them, if that can be understood without it: `1 << 30`, but not `_QUEUE`."""
    return {node.target.id: ast.unparse(node.value) for node, _ in _fields(thing)
            if node.value is not None and not any(isinstance(each, ast.Name) for each in ast.walk(node.value))}


def _below_fields(thing: Any) -> dict[str, str]:
    return {node.target.id: " ".join(below.split()) for node, below in _fields(thing)}


def _fields(thing: Any) -> Iterator[tuple[Any, str]]:
    """The annotated names of a class' body, and the string that stands below each."""
    if not dataclasses.is_dataclass(thing):
        return
    [body] = ast.parse(textwrap.dedent(inspect.getsource(thing))).body  # type: ignore[arg-type]
    assert isinstance(body, ast.ClassDef)
    for node, after in zip(body.body, [*body.body[1:], ast.Pass()], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            yield node, after.value.value if is_text else ""  # type: ignore[attr-defined]


def arguments_reference() -> str:
    """The page."""
    parts = [_INTRODUCTION]
    for title, paths in SECTIONS.items():
        parts.append(f"## {title}\n")
        for path in paths:
            parts += _section(path)
    return "\n".join(parts)


def _section(path: str) -> list[str]:
    thing = found(path)
    page, arguments = path.partition(".")[0], arguments_of(thing)
    parts = [f"### {path.rpartition('.')[2]}\n", f"{_first_sentence(thing)}\n",
             f"More: [`{path}`]({page}.md#{path}).\n"]
    if not arguments:
        return [*parts, "It takes no arguments.\n"]
    rows = [f"| {' | '.join((f'`{each.name}`', _code(each.type), _code(each.default), _cell(each.meaning)))} |"
            for each in arguments]
    return [*parts, "| argument | type | default | what it means |", "|---|---|---|---|", *rows, ""]


def _code(text: str) -> str:
    return f"`{text}`".replace("|", r"\|") if text else ""


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(arguments_reference())
    print(f"{PAGE} is up to date")
