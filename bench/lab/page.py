"""The report as one HTML file: no script, no font, no image from elsewhere, so that it can be kept and sent.

Order is that of an argument: the question, what was expected, then the figures, what they say, the table, and how far
to trust it. A verdict is a word, and not a colour alone; what is flawed is hollow, as in the figures.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby

from bench.lab.account import Account
from bench.lab.page_style import STYLE
from bench.lab.preset import Drawing, Saying
from bench.lab.record import runs_in
from bench.lab.tables import Part

__all__ = ["badge", "page"]

_ABOUT = ("Each experiment starts servers that differ in who does the work: their concurrency model, that is, which "
          "thread accepts a connection and which serves it. Each gets the same load on this machine, and the sentences "
          "are made from the figures that came of it.")
_POINT = 4 / 3
"""Pixels of CSS in a point, which is what matplotlib's sizes are in."""
_LEAST = 0.7
"""Of a figure's own size; where there is no room for that, it is scrolled."""


def page(accounts: Sequence[Account], names: Sequence[str], raw: Sequence[str]) -> str:
    """names: of the accounts, to be linked to; raw: where their folders are, from the page."""
    each = list(zip(accounts, names, raw, strict=True))
    if len(each) == 1:
        title, body = accounts[0].preset.title, _alone(*each[0])
    else:
        title = f"{len(each)} experiments"
        body = _several(accounts, names) + "".join(_one_of_several(*one) for one in each)
    return (f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta name="color-scheme" content="light dark">\n'
            f"<title>{_text(title)}: the lab of Taskmasters</title>\n<style>{STYLE}</style>\n</head>\n"
            f'<body>\n<main>\n<p class="over">The lab of Taskmasters</p>\n<h1>{_text(title)}</h1>\n{body}</main>\n'
            "</body>\n</html>\n")


def badge(saying: Saying, claimed: bool = False) -> str:
    """SHOWN, NOT SHOWN, or for what was `claimed` and cannot be judged NOT JUDGED; nothing if it is no claim."""
    if saying.shown is None:
        return '<b class="badge open">NOT JUDGED</b> ' if claimed else ""
    return f'<b class="badge {"shown" if saying.shown else "not"}">{"SHOWN" if saying.shown else "NOT SHOWN"}</b> '


def _text(text: str) -> str:
    """As HTML; no line begins with the per cent of a number that ends the one before."""
    return escape(text).replace(" %", "&nbsp;%")


def _alone(account: Account, name: str, raw: str) -> str:
    said = [f'<p class="lead">{_text(account.preset.question)}</p>\n<section class="short">\n<h2>In short</h2>\n',
            _in_short(account), f'<p class="small">{_made_of(account)}</p>\n']
    if account.who:
        said.append(f'<p class="small">Names such as {_text(account.who[-1][0])} are concurrency models: which thread '
                    "accepts a connection, and which serves it. All else is the same.</p>\n")
    parts = _argument(account, name, raw, 3)
    parts.insert(1, ("Who is who", _definitions(account.who)))
    return "".join(said) + f"</section>\n<article>\n{_sections(parts, 2)}</article>\n"


def _several(accounts: Sequence[Account], names: Sequence[str]) -> str:
    said = [f'<p class="lead">{_text(_ABOUT)}</p>\n<section class="short">\n<h2>In short</h2>\n<dl>\n']
    for account, name in zip(accounts, names, strict=True):
        said.append(f'<dt><a href="#{_text(name)}">{_text(account.preset.title)}</a></dt>\n'
                    f"<dd>{_in_short(account)}</dd>\n")
    who = dict(pair for account in accounts for pair in account.who)
    return "".join(said) + "</dl>\n</section>\n" + _sections([("Who is who", _definitions(list(who.items())))], 2)


def _one_of_several(account: Account, name: str, raw: str) -> str:
    parts = [("The question", _paragraphs(account.preset.question)), *_argument(account, name, raw, 4)]
    return (f'<article id="{_text(name)}">\n<h2>{_text(account.preset.title)}</h2>\n<p class="small">'
            f"{_made_of(account)}</p>\n{_sections(parts, 3)}</article>\n")


def _in_short(account: Account) -> str:
    """The effect that the preset is named after, and how the other claims fare."""
    first, *others = account.sayings or [Saying("There are no sentences.")]
    said = f"<p>{badge(first, claimed=bool(account.sayings))}{_text(first.text)}</p>\n"
    claims = [saying for saying in others if saying.shown is not None]
    shown = sum(bool(saying.shown) for saying in claims)
    said += "".join(f'<p class="warning">{_text(warning)}</p>\n' for warning in account.warnings)
    return said + (f'<p class="small">Other claims: {shown} shown, {len(claims) - shown} not.</p>\n' if claims else "")


def _made_of(account: Account) -> str:
    return f"{_text(account.size)}. {_text(account.machine.partition(', ')[2])}."


def _argument(account: Account, name: str, raw: str, level: int) -> list[tuple[str, str]]:
    """Headings, and what stands below each. level: of headings below these."""
    preset = account.preset
    return [
        ("What was expected", '<p class="small">Written before anything was measured.</p>\n'
         + _paragraphs(preset.prediction)),
        ("The figures", "".join(_figure(drawing, f"{name}-{drawing.name}") for drawing in account.drawings)
         + "".join(f'<p class="trouble">{_text(trouble)}</p>\n' for trouble in account.troubles)),
        ("What the figures say", _sayings(account.sayings, level)),
        ("The table", _table(account.parts)),
        ("How it was measured", _paragraphs(preset.method) + _paragraphs(account.setting)),
        ("How far to trust this", _list(_text(sentence) for sentence in account.trust)),
        ("The machine, and how to do it again",
         _definitions(account.circumstances) + _again(account.command, raw, runs_in(account.folder).name)),
    ]


def _sections(parts: Sequence[tuple[str, str]], level: int) -> str:
    return "".join(f"<section>\n<h{level}>{head}</h{level}>\n{text}</section>\n" for head, text in parts if text)


def _again(command: str, raw: str, runs: str) -> str:
    return (f"<pre>{_text(command)}</pre>\n<p>Raw results, a line of JSON for each run: "
            f'<a href="{_text(raw)}{runs}">{runs}</a>; the machine and the options: '
            f'<a href="{_text(raw)}meta.json">meta.json</a>.</p>\n')


def _sayings(sayings: Sequence[Saying], level: int) -> str:
    """Those that follow each other under the same heading together; the first of all is a claim."""
    said = []
    for heading, those in groupby(sayings, key=lambda saying: saying.heading):
        said.append(f"<h{level}>{_text(heading)}</h{level}>\n" if heading else "")
        said.append(_list(badge(one, claimed=one is sayings[0]) + _text(one.text) for one in those))
    if any(saying.shown is not None for saying in sayings):
        said.append('<p class="small">Shown: on this machine the figures bear the claim out. Not shown: they do not. '
                    "Nothing is tuned to make a claim hold.</p>\n")
    return "".join(said)


def _figure(drawing: Drawing, prefix: str) -> str:
    """On white, whatever the page is on; as wide as it is drawn, or as there is room, but never too small to read."""
    svg = re.sub(r'\bid="', f'id="{prefix}-', drawing.svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}-", svg)
    head, closing, rest = svg.partition(">")
    width = re.search(r'\bwidth="([\d.]+)(pt|px)?"', head)
    head = re.sub(r'\s(?:width|height)="[^"]*"', "", head)
    pixels = float(width[1]) * (_POINT if width[2] == "pt" else 1) if width else 0
    style = f' style="max-width:{pixels:.0f}px; min-width:{_LEAST * pixels:.0f}px"' if pixels else ""
    label = _text(drawing.caption.partition(". ")[0])
    return (f'<figure>\n<div class="card" tabindex="0">{head} role="img" aria-label="{label}"{style}{closing}{rest}'
            f"</div>\n<figcaption>{_text(drawing.caption)}</figcaption>\n</figure>\n")


def _table(parts: Sequence[Part]) -> str:
    """One for all parts, so that their columns stand below each other."""
    if not parts:
        return ""
    heads, remarked = parts[0].heads, any(row[-1] for part in parts for row in part.rows)
    said = ['<div class="wide" tabindex="0"><table>\n<thead><tr><td></td>', *map(_head, heads[1:-1]),
            '<th scope="col" class="remark">remarks</th>' if remarked else "", "</tr></thead>\n"]
    for part in parts:
        said.append("<tbody>\n")
        if part.load:
            said.append(f'<tr class="load"><th scope="rowgroup" colspan="{len(heads) - 1 + remarked}">'
                        f"{_text(part.load)}</th></tr>\n")
        for row in part.rows:
            flawed = ' class="flawed"' if row[-1] else ""
            remark = f'<td class="remark">{_text(row[-1])}</td>' if remarked else ""
            said += [f'<tr{flawed}><th scope="row">{_text(row[0])}</th>', *map(_cell, row[1:-1]), remark, "</tr>\n"]
        said.append("</tbody>\n")
    return "".join(said) + "</table></div>\n"


def _head(text: str) -> str:
    return f'<th scope="col">{_text(text)}</th>'


def _cell(text: str) -> str:
    """The spread of "12.3 (11.9–12.7)" stands back."""
    value, bracket, spread = text.partition(" (")
    return f"<td>{_text(value)}" + (f" <small>({_text(spread)}</small></td>" if bracket else "</td>")


def _definitions(pairs: Sequence[tuple[str, str]]) -> str:
    if not pairs:
        return ""
    return "<dl>\n" + "".join(f"<dt>{_text(name)}</dt><dd>{_text(text)}</dd>\n" for name, text in pairs) + "</dl>\n"


def _paragraphs(text: str) -> str:
    marked = re.sub("`([^`]+)`", r"<code>\1</code>", _text(text))
    return "".join(f"<p>{one}</p>\n" for one in marked.split("\n\n") if one)


def _list(items: Iterable[str]) -> str:
    """Of HTML."""
    return "<ul>\n" + "".join(f"<li>{item}</li>\n" for item in items) + "</ul>\n"
