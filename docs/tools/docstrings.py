"""Our docstrings, taken apart. They are plain text, made to be read in the source:

    a paragraph                  at the margin, wrapped anywhere
    name: what it means          an argument; further lines of it may be indented
    other, two: of both
        a table, or code         indented: to be shown as it stands
    A heading                    a short line above an indented block, which is read as all of this again
        - an item                a list

`blocks` finds these, and `markdown` writes them for a page.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

__all__ = ["Block", "Heading", "Meanings", "Text", "Verbatim", "blocks", "markdown", "meanings"]

_MEANING = re.compile(r"([a-z_]\w*(?:, [a-z_]\w*)*): +(\S.*)")
_COLUMNS = re.compile(r"\S {2,}\S")
_NAME = re.compile(r"`([A-Za-z_][\w.]*)(\(\))?`")


@dataclass(frozen=True)
class Text:
    """A paragraph or a list, with its line breaks."""

    text: str


@dataclass(frozen=True)
class Verbatim:
    """A table or code."""

    text: str


@dataclass(frozen=True)
class Heading:
    """A short line above an indented block; the blocks behind it are those of that block."""

    text: str


@dataclass
class Meanings:
    """Arguments and what they mean, in order; each line may be for several names."""

    rows: list[tuple[tuple[str, ...], str]] = field(default_factory=list)


Block = Text | Verbatim | Heading | Meanings


def blocks(docstring: str, names: Collection[str] | None = None) -> list[Block]:
    """The blocks of a docstring, in order. Lines for arguments are found only for `names`; None: for any."""
    return list(_blocks(inspect.cleandoc(docstring).splitlines(), names))


def meanings(docstring: str, names: Collection[str]) -> dict[str, str]:
    """What the docstring says of each of `names`, on one line; nothing of those that it does not explain.

    Of several that are explained together, the first has the text, and the others refer to it.
    """
    found: dict[str, str] = {}
    for block in blocks(docstring, names):
        for row in block.rows if isinstance(block, Meanings) else ():
            first, *others = row[0]
            found[first] = row[1]
            found.update(dict.fromkeys(others, f"See `{first}`."))
    return found


def markdown(docstring: str, names: Collection[str] | None = None,
             link: Callable[[str], str | None] = lambda name: None) -> str:
    """The docstring as Markdown. `link` is asked for the identifier of each name in backticks; None: it has none."""
    return "\n\n".join(_written(block, link) for block in blocks(docstring, names)) + "\n"


def _written(block: Block, link: Callable[[str], str | None]) -> str:
    match block:
        case Text(text):
            return _prose(text, link)
        case Verbatim(text):
            return f"```text\n{text}\n```"
        case Heading(text):
            return f"**{_prose(text, link)}**"
        case Meanings(rows):
            return "\n".join(f"- {', '.join(f'`{name}`' for name in several)}: {_prose(meaning, link)}"
                             for several, meaning in rows)


def _prose(text: str, link: Callable[[str], str | None]) -> str:
    """What Markdown would take for its own is escaped, but for `code` and *emphasis*, which we write as it does."""
    def linked(code: re.Match[str]) -> str:
        identifier = link(code[1])
        shown = code[0].strip("`")
        return f'<autoref identifier="{identifier}" optional><code>{shown}</code></autoref>' if identifier else code[0]

    spans = re.split(r"(`[^`]+`)", text)
    spans[::2] = (span.replace("<", "&lt;").replace("__", r"\_\_") for span in spans[::2])
    spans[1::2] = (_NAME.sub(linked, span) for span in spans[1::2])
    return "".join(spans)


def _blocks(lines: list[str], names: Collection[str] | None) -> Iterator[Block]:
    at = 0
    while at < len(lines):
        end = at
        if not lines[at]:
            at += 1
        elif lines[at].startswith(" "):
            end = _end_of_indented(lines, at)
            yield _indented(lines[at:end])
            at = end
        elif _is_meaning(lines[at], names):
            yield (found := Meanings())
            while at < len(lines) and _is_meaning(lines[at], names):
                end = at + 1
                while end < len(lines) and lines[end] and not _is_meaning(lines[end], names):
                    end += 1
                match = _MEANING.fullmatch(lines[at])
                assert match is not None
                text = " ".join([match[2], *(line.strip() for line in lines[at + 1:end])])
                found.rows.append((tuple(match[1].split(", ")), text))
                at = end
        elif _is_heading(lines, at):
            yield Heading(lines[at])
            end = _end_of_indented(lines, at + 1)
            yield from _blocks(inspect.cleandoc("\n".join(["", *lines[at + 1:end]])).splitlines(), names)
            at = end
        else:
            while end < len(lines) and lines[end] and not lines[end].startswith(" ") and (
                    end == at or not _is_meaning(lines[end], names)):
                end += 1
            yield from _paragraph(lines[at:end])
            at = end


def _paragraph(lines: list[str]) -> Iterator[Block]:
    is_table = len(lines) > 1 and sum(bool(_COLUMNS.search(line)) for line in lines) > len(lines) / 2
    yield Verbatim("\n".join(lines)) if is_table else Text("\n".join(lines))


def _indented(lines: list[str]) -> Block:
    """A list is one that Markdown understands; everything else is shown as it is."""
    text = inspect.cleandoc("\n".join(["", *lines]))
    if all(line.startswith(("- ", "  ")) for line in text.splitlines()):
        return Text(re.sub(r"\n {2,}", " ", text))
    return Verbatim(text)


def _is_meaning(line: str, names: Collection[str] | None) -> bool:
    match = _MEANING.fullmatch(line)
    return match is not None and (names is None or all(name in names for name in match[1].split(", ")))


def _is_heading(lines: list[str], at: int) -> bool:
    above = at == 0 or not lines[at - 1]
    return (above and len(lines[at]) <= 60 and lines[at][-1] not in ".:,;" and not _COLUMNS.search(lines[at])
            and lines[at + 1:at + 2] != [] and lines[at + 1].startswith("    "))


def _end_of_indented(lines: list[str], at: int) -> int:
    end = at
    while end < len(lines) and (not lines[end] or lines[end].startswith(" ")):
        end += 1
    while not lines[end - 1]:
        end -= 1
    return end
