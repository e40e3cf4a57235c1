"""What the pages show is run: their Python, and the names in their command lines.

How a block of Python begins says what is done with it:

    ```python               run by the tests, in a namespace of its own; its __name__ is "snippet", so that what stands
                            under `if __name__ == "__main__":` is not
    ```python continued     run in the namespace of the block before
    ```python no-run        only compiled: it serves for ever, or needs what is not there

The words behind `python` are not in the site. `python -m docs.tools.snippets PAGE` runs the blocks of one page, one
after the other. Command lines stand in blocks that are indented or begin with ```sh, and in `backticks`.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

__all__ = ["Command", "Snippet", "commands", "run", "snippets"]

MARKS = ("", "continued", "no-run")

_BLOCK = re.compile(r"^( *)(```+)([^\n`]*)\n(.*?)^\1\2[ \t]*$", re.DOTALL | re.MULTILINE)
_COMMAND = re.compile(r"(?:\$ )?(?:[A-Z_]+=\S+ )*(?:sudo )?(?:\.venv/bin/)?(taskmaster [a-z]|python -m |make [a-z])")


@dataclass(frozen=True)
class Snippet:
    """A block of Python."""

    page: Path
    line: int
    """Where its first line is in the page, counted from 1."""
    mark: str
    """What stands behind `python`; see the module."""
    text: str

    def compiled(self) -> CodeType:
        """As code whose lines are those of the page. SyntaxError if it is none."""
        return compile("\n" * (self.line - 1) + self.text, str(self.page), "exec")


@dataclass(frozen=True)
class Command:
    """A command line, as words, without what is set before it and without a comment."""

    page: Path
    line: int
    words: tuple[str, ...]


def snippets(page: Path) -> list[Snippet]:
    """The blocks of Python in a page of Markdown. ValueError for a mark that there is not."""
    text = page.read_text()
    found = []
    for block in _BLOCK.finditer(text):
        language, _, mark = block[3].strip().partition(" ")
        if language == "python":
            line = text.count("\n", 0, block.start()) + 2
            if mark not in MARKS:
                raise ValueError(f"{page}:{line - 1}: ```python {mark}: write one of {', '.join(filter(None, MARKS))}, "
                                 "or nothing")
            lines = [each.removeprefix(block[1]) for each in block[4].splitlines()]
            found.append(Snippet(page, line, mark, "\n".join(lines) + "\n"))
    return found


def run(page: Path) -> None:
    """Run those of a page that are to be run, in this process; raises what they raise."""
    scope: dict[str, object] = {}
    for snippet in snippets(page):
        if snippet.mark == "no-run":
            continue
        if snippet.mark != "continued":
            scope = {"__name__": "snippet"}
        exec(snippet.compiled(), scope)


def commands(page: Path) -> Iterator[Command]:
    """The command lines of a page that call taskmaster, make, or a module of Python."""
    text = page.read_text()
    shell = "\n".join("" if line.startswith("#") else line for line in text.splitlines())
    shell = _BLOCK.sub(lambda block: _as_indented(block[0]) if block[3].strip() in ("sh", "console")
                       else "\n" * block[0].count("\n"), shell)
    shell = re.sub(r"\\\n\s*", " ", shell)
    for number, line in enumerate(shell.splitlines(), 1):
        candidates = [line.strip()] if line.startswith("    ") else re.findall(r"`([^`]+)`", line)
        for each in candidates:
            if match := _COMMAND.match(each):
                yield Command(page, number, _words(each[match.start(1):]))


def _as_indented(block: str) -> str:
    lines = block.splitlines()[1:-1]
    return "\n".join(["", *(f"    {line}" for line in lines), ""])


def _words(line: str) -> tuple[str, ...]:
    line = re.split(r"(?<!\S)[|<>]|&&|;(?!\w)| {4,}", line)[0]  # a pipe, or what is explained beside it
    try:
        return tuple(shlex.split(line, comments=True))
    except ValueError:  # a quotation mark of the text
        return tuple(line.split())


if __name__ == "__main__":
    run(Path(sys.argv[1]))
