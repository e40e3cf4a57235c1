"""`python -m bench report DIR...`: a page, figures and Markdown tables from what has been kept, and nothing measured.

    report.html    one file, which needs no other and no network (`bench.lab.page`)
    figs/*.svg     its figures
    tables.md      its tables and sentences, as GitHub shows them
"""

from __future__ import annotations

import argparse
import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from bench.lab.account import Account, account_of
from bench.lab.page import page
from bench.lab.record import runs_in
from bench.lab.tables import as_markdown

__all__ = ["report", "run_report"]


def run_report(options: argparse.Namespace) -> int:
    """Of options: `folders`, `out`: a file, or None. Print what the figures say, and make the page; 1 if every run of
    a folder failed, 2 if a folder cannot be read."""
    try:
        accounts = _accounts(options.folders)
    except _UnreadableError as error:
        print(error)
        return 2
    for account in accounts:
        print(f"\n{account.preset.title}\n{account.machine}\n\n{account.text}")
        for trouble in (*account.troubles, *account.warnings):
            print(textwrap.fill(trouble, 120))
    path = _written(accounts, options.out or options.folders[0] / "report.html")
    print(f"\nThe report: {path}\nIts tables for a README: {path.parent / 'tables.md'}")
    for account in accounts:
        print(f"Raw results: {runs_in(account.folder)} and meta.json")
    return int(any(account.failed for account in accounts))


def report(folders: Sequence[Path], out: Path | None = None) -> Path:
    """Make page, figures and tables of all `folders` together; return the page. OSError or ValueError if one cannot be
    read. out: the page; None: report.html in the first folder. The others stand beside it."""
    return _written(_accounts(folders), out or folders[0] / "report.html")


class _UnreadableError(ValueError):
    pass


def _accounts(folders: Sequence[Path]) -> list[Account]:
    accounts = []
    for folder in folders:
        try:
            accounts.append(account_of(folder))
        except KeyError as error:
            raise _UnreadableError(f"{folder}: meta.json lacks {error}; give a folder made by python -m bench run"
                              ) from error
        except (OSError, ValueError) as error:
            raise _UnreadableError(f"{folder}: {error}; give a folder made by python -m bench run") from error
    return accounts


def _written(accounts: Sequence[Account], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    names = _names(accounts)
    path.write_text(page(accounts, names, [_linked(account.folder, path.parent) for account in accounts]),
                    encoding="utf-8")
    figures = path.parent / "figs"
    for account, name in zip(accounts, names, strict=True):
        for drawing in account.drawings:
            figures.mkdir(exist_ok=True)
            (figures / f"{_file(name, drawing.name, accounts)}.svg").write_text(drawing.svg + "\n", encoding="utf-8")
    (path.parent / "tables.md").write_text(_markdown(accounts, names), encoding="utf-8")
    return path


def _names(accounts: Sequence[Account]) -> list[str]:
    """Of the presets, each once: "quick", "quick-2"."""
    names: list[str] = []
    for account in accounts:
        name = account.preset.name
        same = sum(other.preset.name == name for other in accounts[:len(names)])
        names.append(f"{name}-{same + 1}" if same else name)
    return names


def _file(name: str, drawing: str, accounts: Sequence[Account]) -> str:
    return drawing if len(accounts) == 1 or drawing.startswith(f"{name}-") else f"{name}-{drawing}"


def _linked(folder: Path, where: Path) -> str:
    """`folder` as a link from a file in `where`; it ends with a slash."""
    return quote(os.path.relpath(folder.resolve(), where.resolve())) + "/"


def _markdown(accounts: Sequence[Account], names: Sequence[str]) -> str:
    said = []
    for account, name in zip(accounts, names, strict=True):
        said += [f"## {account.preset.title}", f"{account.machine}. {account.size}."]
        said += ["\n".join(f"- {_marked(str(saying))}" for saying in account.sayings)]
        said += [f"![{drawing.caption.partition('. ')[0]}](figs/{_file(name, drawing.name, accounts)}.svg)"
                 for drawing in account.drawings]
        said += [as_markdown(account.parts), *account.troubles, *account.warnings, f"Again: `{account.command}`"]
    return "\n\n".join(filter(None, said)) + "\n"


def _marked(text: str) -> str:
    """The verdict in bold."""
    for verdict in ("SHOWN: ", "NOT SHOWN on this machine: "):
        if text.startswith(verdict):
            return f"**{verdict.strip()}** {text.removeprefix(verdict)}"
    return text
