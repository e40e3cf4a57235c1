"""A command whose --help ends with examples and notes, laid out as they are written."""

from __future__ import annotations

from typing import Any

import click

__all__ = ["TeachingCommand", "write_paragraphs"]


class TeachingCommand(click.Command):
    """examples: indented command lines, shown before the options. notes: paragraphs behind them."""

    def __init__(self, *args: Any, examples: str = "", notes: str = "", **options: Any) -> None:
        super().__init__(*args, **options)
        self.examples = examples
        self.notes = notes

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_help_text(ctx, formatter)
        formatter.write_paragraph()
        formatter.write_heading("Examples")
        write_paragraphs(self.examples, formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_paragraph()
        write_paragraphs(self.notes, formatter)


def write_paragraphs(text: str, formatter: click.HelpFormatter) -> None:
    """Those that are indented as they are."""
    for index, paragraph in enumerate(text.split("\n\n")):
        if index:
            formatter.write_paragraph()
        if paragraph.startswith("  "):
            formatter.write(f"{paragraph.rstrip()}\n")
        else:
            formatter.write_text(paragraph)
