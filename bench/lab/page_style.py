"""How the report looks: a printed page, on a screen, a phone, or paper; light or dark as the reader has it."""

from __future__ import annotations

__all__ = ["STYLE"]

STYLE = """
:root { --paper: #fdfdfb; --ink: #1c1c1a; --soft: #5d5d58; --line: #d9d8d2; --box: #f3f2ed; --accent: #0b4f8a;
        --on-accent: #fff; --body: Charter, "Bitstream Charter", "Sitka Text", Cambria, Georgia, serif;
        --plain: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #191a1c; --ink: #e6e5e0; --soft: #a2a29b; --line: #3a3b3e; --box: #232427; --accent: #8cbdf0;
          --on-accent: #10233a; }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 1.0625rem/1.5 var(--body); }
main { max-width: 62rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
p, ul, dl, .lead { max-width: 44rem; }
p, ul, dl { margin: 0 0 .75rem; }
h1, h2, h3, h4, .over, .small, .badge, table, figcaption, dt, pre { font-family: var(--plain); }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .75rem; letter-spacing: -.01em; }
h2 { font-size: 1.3rem; line-height: 1.3; margin: 2.25rem 0 .6rem; }
h3 { font-size: 1.05rem; margin: 1.5rem 0 .5rem; }
h4 { font-size: .95rem; margin: 1.1rem 0 .4rem; }
a { color: var(--accent); }
.over { color: var(--soft); font-size: .8rem; letter-spacing: .08em; text-transform: uppercase; margin: 0 0 .4rem; }
.lead { font-size: 1.12rem; }
.small, figcaption { color: var(--soft); font-size: .82rem; line-height: 1.45; }
.short { background: var(--box); border-left: 4px solid var(--accent); padding: .9rem 1.1rem .3rem; margin: 1.25rem 0;
         max-width: 46rem; }
.short h2 { font-size: 1rem; margin: 0 0 .4rem; }
.short dd { margin: .15rem 0 1rem; }
.short dd p { margin-bottom: .3rem; }
article + article { border-top: 1px solid var(--line); margin-top: 3rem; padding-top: .5rem; }
ul { padding-left: 1.2rem; }
li { margin-bottom: .35rem; }
.badge { display: inline-block; font-size: .68rem; line-height: 1.35; letter-spacing: .05em; padding: .05rem .4rem;
         border: 1.5px solid var(--accent); border-radius: 3px; color: var(--accent); white-space: nowrap;
         vertical-align: .1em; }
.badge.shown { background: var(--accent); color: var(--on-accent); }
.badge.open { border-style: dashed; }
section dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: .25rem 1.1rem; }
.short dl { display: block; }
dt { font-size: .88rem; font-weight: 600; padding-top: .1rem; }
dd { margin: 0; overflow-wrap: anywhere; }
figure { margin: 1rem 0 1.5rem; }
.card { background: #fff; border: 1px solid var(--line); border-radius: 3px; padding: .6rem; overflow-x: auto; }
.card svg { display: block; width: 100%; height: auto; margin: 0 auto; }
figcaption { max-width: 44rem; margin-top: .45rem; }
.wide { overflow-x: auto; margin: 0 0 1.25rem; }
table { border-collapse: collapse; font-size: .84rem; line-height: 1.35; font-variant-numeric: tabular-nums; }
.load th { font-weight: 600; padding: .9rem 0 .3rem; border-bottom: 1px solid var(--soft); }
th, td { padding: .24rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
thead th { vertical-align: bottom; white-space: normal; min-width: 5rem; font-weight: 600; color: var(--soft); }
thead tr > * { border-bottom: 1.5px solid var(--soft); }
tbody th { font-weight: 500; padding-left: 0; position: sticky; left: 0; background: var(--paper); }
tbody th, .remark { text-align: left; }
td.remark { white-space: normal; min-width: 14rem; max-width: 22rem; font-size: .78rem; color: var(--soft); }
td small { color: var(--soft); font-size: .86em; }
.flawed th, .flawed td { font-style: italic; color: var(--soft); }
pre { background: var(--box); padding: .6rem .8rem; overflow-x: auto; font: .85rem/1.45 ui-monospace, SFMono-Regular,
      Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.warning { font-family: var(--plain); font-size: .88rem; font-weight: 600; }
code { font: .88em ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.trouble { border: 1.5px dashed var(--soft); padding: .5rem .8rem; font-family: var(--plain); font-size: .9rem; }
@media (max-width: 40rem) {
  main { padding: 1.25rem .9rem 3rem; }
  h1 { font-size: 1.5rem; }
  section dl { display: block; }
  dd { margin-bottom: .5rem; }
}
@media print {
  :root { --paper: #fff; --ink: #000; --soft: #444; --line: #bbb; --box: #f4f4f4; --accent: #0b4f8a;
          --on-accent: #fff; }
  body { font-size: 10pt; }
  main { max-width: none; padding: 0; }
  .card, .wide, pre { overflow: visible; }
  .card svg { min-width: 0 !important; max-height: 23cm; }
  pre { white-space: pre-wrap; }
  table { font-size: 7.5pt; }
  th, td { padding: .15rem .35rem; }
  figure, tr, li { break-inside: avoid; }
  h2, h3, h4, .load { break-after: avoid; }
  .badge { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
