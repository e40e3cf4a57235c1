"""The page of `handlers.status`: HTML with nothing from elsewhere, no script, for light and dark screens."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from acceptor.recording import STATES
from handlers.scoreboard import ProcessNow, Row, StatusNow, idle

__all__ = ["page"]

_LETTERS = "ASQRHWKC_X"
"""In the order of a connection's life. (What has no thread is not on this page.)"""

_STYLE = """
:root { color-scheme: light dark; --paper: #f4f3f0; --panel: #fff; --ink: #1c1d20; --muted: #5d6067; --edge: #dcd9d2;
  --A: #a9d3ee; --Q: #b8478f; --R: #0072b2; --H: #009e73; --W: #e69f00; --K: #f0dc2c; --C: #cf4305; --_: #cfccc3;
  --S: #17181a; --X: #84878d; --on-Q: #fff; --on-R: #fff; --on-C: #fff; --on-S: #fff; }
@media (prefers-color-scheme: dark) { :root { --paper: #101215; --panel: #181b20; --ink: #eceef1; --muted: #9aa0a9;
  --edge: #2b3038; --A: #3a6d94; --Q: #e58cc4; --R: #56b4e9; --H: #14b487; --W: #f0a818; --K: #f0e442; --C: #f4662a;
  --_: #4b515a; --S: #fff; --X: #969ba4; --on-A: #fff; --on-Q: #000; --on-R: #000; --on-C: #000; --on-_: #fff;
  --on-S: #000; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 16px; max-width: 1100px; background: var(--paper); color: var(--ink);
  font: 14px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif; }
h1 { margin: 0; font-size: 18px; }
h2 { margin: 24px 0 6px; font-size: 14px; }
p { margin: 4px 0; max-width: 75ch; }
.muted, th, dt, footer { color: var(--muted); }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(140px, 1fr)); gap: 8px; margin: 12px 0 0; }
dl div { padding: 6px 10px; background: var(--panel); border: 1px solid var(--edge); border-radius: 8px; }
dd { margin: 0; font-size: 20px; font-variant-numeric: tabular-nums; }
dd small { font-size: 13px; color: var(--muted); }
.board { display: flex; flex-wrap: wrap; gap: 2px; margin: 0; padding: 0; list-style: none; }
b { display: inline-block; min-width: 1.5em; padding: 0 3px; border-radius: 3px; text-align: center; color: #000;
  font: 600 13px/1.5 ui-monospace, "DejaVu Sans Mono", "Liberation Mono", monospace; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 14px; margin: 8px 0 0; padding: 0; list-style: none; }
.wide { overflow-x: auto; width: fit-content; max-width: 100%; margin-top: 10px;
  background: var(--panel); border: 1px solid var(--edge); border-radius: 8px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th { font-weight: 500; text-align: left; }
th, td { padding: 3px 10px; white-space: nowrap; }
tr + tr { border-top: 1px solid var(--edge); }
.n { text-align: right; }
td.any { white-space: normal; overflow-wrap: anywhere; min-width: 20em; }
footer { margin-top: 24px; font-size: 13px; }
a { color: inherit; }
""" + "".join(f".s{letter} {{ background: var(--{letter}); color: var(--on-{letter}, #000); }}\n"
              for letter in _LETTERS)

_WEAKNESS = """
<p>A thread of this server has answered, so when all of them are stuck this page is stuck as well. Where the acceptor
was told that it is urgent, its own thread answers then, but only what was accepted: not what waits in the kernel, and
not over TLS. To look at a server that does not answer, start it with a control server (<code>taskmaster serve
--control</code>).</p>
<p>The numbers are read one after the other: they may be one off against each other. <a href="?refresh=2">Load it again
every two seconds</a>; for machines there are <a href="?auto">?auto</a> and <a href="?json">?json</a>.</p>
"""


def page(now: StatusNow, refresh: int | None) -> str:
    """The page. refresh: have the browser load it again after so many seconds; None: not."""
    threads, connections = now["threads"], now["connections"]
    numbers = [
        ("threads serving", threads["serving"], _of(now["max_thread_count"])),
        ("threads idle", idle(now), ""),
        ("connections open", connections["open"], ""),
        ("in the kernel", "?" if connections["kernel"] is None else connections["kernel"],
         _of(connections["kernel_limit"])),
        ("queued", connections["queued"], _of(now["max_accept_count"])),
        ("parked", connections["parked"], ""),
        ("accepted", connections["accepted"], ""),
        ("served", connections["served"], ""),
        ("refused", connections["refused"], ""),
    ]
    title = f"{escape(now['name'])}: status"
    parts = [
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="refresh" content="{refresh}">' if refresh is not None else "",
        f"<title>{title}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(now['name'])}</h1>",
        f'<p class="muted">{escape(now["model"])}, answered by process {now["process"]}</p>',
        "<dl>", *(f"<div><dt>{what}</dt><dd>{number}{of}</dd></div>" for what, number, of in numbers), "</dl>",
        _processes(now["processes"]),
        f"<h2>Threads{' of this process' if now['processes'] else ''}</h2>",
        '<ol class="board">', *(f'<li title="{escape(row["thread"])}: {STATES[row["state"]]}">{_letter(row["state"])}'
                                "</li>" for row in now["scoreboard"]), "</ol>",
        '<ul class="legend">', *(f"<li>{_letter(letter)} {STATES[letter]}</li>" for letter in _LETTERS), "</ul>",
        _threads(now["scoreboard"]),
        _violations(now["violations"]),
        f"<footer>{_WEAKNESS}</footer></body></html>\n",
    ]
    return "\n".join(part for part in parts if part)


def _of(limit: int | None) -> str:
    return f" <small>of {limit}</small>" if limit is not None else ""


def _letter(state: str) -> str:
    return f'<b class="s{state}">{state}</b>'


def _threads(rows: list[Row]) -> str:
    addresses = any(row["client"] is not None for row in rows)
    heads = [("", ""), ("thread", ""), ("seconds", "n"), ("connection", "n"), *([("client", "")] if addresses else []),
             ("request", "any")]
    lines = []
    for row in rows:
        cells = [_letter(row["state"]), escape(row["thread"]),
                 f"{row['seconds']:.3f}" if row["seconds"] is not None else "", str(row["connection"] or ""),
                 *([escape(row["client"] or "")] if addresses else []), escape(row["request"] or "")]
        lines.append(cells)
    return _table(heads, lines)


def _processes(processes: list[ProcessNow]) -> str:
    if not processes:
        return ""
    heads = [("process", "n"), ("", ""), ("requests", "n"), ("MiB", "n"), ("serving", "n"), ("in accept()", "n"),
             ("waiting", "n")]
    lines = [[str(each["process"]), each["state"], str(each["requests"]), f"{each['memory'] / 2**20:.0f}",
              *(str(each["threads"][state]) for state in ("serving", "accepting", "waiting"))]
             for each in processes]
    return ('<h2>Processes</h2><p class="muted">The numbers above are those of all of these; what others have counted, '
            "that have ended, is not among them.</p>" + _table(heads, lines))


def _violations(violations: dict[str, int]) -> str:
    if not violations:
        return ""
    return "<h2>Violations of HTTP</h2>" + _table(
        [("times", "n"), ("what", "any")], ([str(count), escape(name)] for name, count in violations.items()))


def _table(heads: list[tuple[str, str]], lines: Iterable[list[str]]) -> str:
    """heads: (words, class) of each column; the cells are HTML."""
    def row(tag: str, cells: Iterable[str]) -> str:
        return "<tr>" + "".join(f'<{tag} class="{kind}">{cell}</{tag}>' if kind else f"<{tag}>{cell}</{tag}>"
                                for cell, (_, kind) in zip(cells, heads, strict=True)) + "</tr>"

    return '<div class="wide"><table>' + row("th", (head for head, _ in heads)) + "".join(
        row("td", line) for line in lines) + "</table></div>"
