"""What a folder of results comes to: all that a report says of it, before it is a page, Markdown or text.

What a preset cannot make of the records (a figure without matplotlib, or by a mistake of its own) is missing, and said;
the rest is there.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from bench.lab.drawing import MISSING
from bench.lab.preset import Drawing, Preset, Saying
from bench.lab.record import Results
from bench.lab.run import machine_line
from bench.lab.tables import Part, parts_of
from bench.lab.trust import trust, warnings
from bench.presets import find_preset

__all__ = ["Account", "account_of", "command_of"]

_T = TypeVar("_T")
_log = logging.getLogger(__name__)
_WHO = {
    "single": "one thread accepts a connection, serves it to its end, and accepts the next",
    "thread": "a new thread for each connection",
    "pool-hold": "one thread accepts and hands over, workers serve; a worker waits for its client between requests",
    "pool-park": "as pool-hold, but a connection that is idle is put aside, and its worker serves others meanwhile",
    "recycling-hold": "every thread accepts a connection, serves it itself, and waits for its client between requests",
    "recycling-park": "as recycling-hold, but a connection that is idle is put aside, and its thread serves others",
    "loop": "one thread looks after all connections at once, and runs the handlers too",
    "loop-threads": "as loop, but handlers run in threads",
    "prefork": "recycling-park in several processes",
}


@dataclass(frozen=True)
class Account:
    """Of one folder. Plain text throughout, but for the figures."""

    folder: Path
    preset: Preset
    sayings: list[Saying]
    drawings: list[Drawing]
    parts: list[Part]
    """The table."""
    text: str
    """Table and sentences, for a terminal."""
    troubles: list[str]
    """What could not be made, and why."""
    setting: str
    who: list[tuple[str, str]]
    """The subjects that have to be explained, and what they are."""
    warnings: list[str]
    """What is to be known before anything is believed."""
    trust: list[str]
    size: str
    """"162 runs of 54 cells, 2026-11-26"."""
    machine: str
    """In a line."""
    circumstances: list[tuple[str, str]]
    """All that is known of the machine and the moment."""
    command: str
    """That does it again."""
    failed: bool
    """Every run."""


def account_of(folder: Path) -> Account:
    """OSError, ValueError or KeyError if `folder` does not hold what `bench run` leaves."""
    results = Results.read(folder)
    meta = results.meta
    preset = find_preset(meta["preset"])
    troubles: list[str] = []

    def made(what: str, make: Callable[[], _T], otherwise: _T) -> _T:
        try:
            return make()
        except Exception as error:
            if isinstance(error, ImportError) and find_spec("matplotlib") is None:
                troubles.append(MISSING)
            else:
                _log.exception("%s of %s", what, folder)
                troubles.append(f"The {what} could not be made: {type(error).__name__}: {error}")
            return otherwise

    table: list[tuple[str, ...]] = made("table", lambda: preset.table(results), [])
    return Account(
        folder, preset,
        sayings=made("sentences", lambda: preset.says(results), []),
        drawings=made("figures", lambda: preset.figures(results), []),
        parts=parts_of(table, results.cells) if table else [],
        text=made("text", lambda: preset.text(results), ""),
        troubles=troubles,
        setting=made("setting", lambda: preset.setting(meta), ""),
        who=[(subject, words) for subject in results.subjects if (words := _who(subject))],
        warnings=warnings(results),
        trust=trust(results, tuple(preset.columns)),
        size=f"{len(results.records):,} runs of {len(results.cells)} cells, {meta['started'][:10]}",
        machine=machine_line(meta),
        circumstances=_circumstances(meta),
        command=command_of(preset, meta),
        failed=all(record.failed for record in results.records),
    )


def command_of(preset: Preset, meta: Mapping[str, Any]) -> str:
    """The command line that measures the same again: what differs from the defaults of the preset, and the seed."""
    options, usual = meta["options"], asdict(preset.defaults)
    words = ["python", "-m", "bench", "run", preset.name]
    for name, flag in (("subjects", "--models"), ("connections", "--connections"), ("sleeps_ms", "--sleeps"),
                       ("keep_alive", "--keep-alive"), ("rates", "--rates"), ("blocks", "--blocks"),
                       ("seconds", "--seconds"), ("warmup", "--warmup"), ("timeout", "--timeout"),
                       ("generator", "--generator"), ("app", "--app")):
        value, default = options.get(name), usual[name]
        if value is not None and _typed(value) != _typed(default):
            words += [flag, _typed(value)]
    return shlex.join([*words, "--seed", str(options.get("seed", 0))])


def _typed(value: Any) -> str:
    """As it is typed on the command line."""
    if isinstance(value, (list, tuple)):
        return ",".join(map(_typed, value))
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)


def _who(subject: str) -> str:
    """Empty: it is none of ours, or there is nothing to be said."""
    name, _, python = subject.partition("@")
    model, _, wire = name.partition("/")
    said = [_WHO.get(model, "")]
    if said[0]:
        said += [f"with the parser {wire}"] if wire else []
        said += [f"in {python}"] if python else []
    return ", ".join(filter(None, said))


def _circumstances(meta: Mapping[str, Any]) -> list[tuple[str, str]]:
    """In the order of interest; what was not recorded is left out."""
    server, load = (meta.get("pinned") or [None, None])[:2]
    sleeps = _pairs(meta.get("measured_sleep_ms", {}), "{} ms takes {} ms")
    usable = meta.get("cores_usable")
    told = [
        ("Started", f"{meta['started']}" + (f", took {meta['took_s']:,} s" if meta.get("took_s") else "")),
        ("CPU", f"{meta['cpu']}, {meta['cores']} cores" + (f", usable: {_typed(usable)}" if usable else "")),
        ("Pinned", "not; server and load share the cores" if server is None else
         f"server to core {server}, load to core {load}"),
        ("Kernel", f"Linux {meta['kernel']}"),
        ("Python", f"{meta['python']}, {'with' if meta['gil'] else 'without'} GIL"
         + (f", switch interval {1e3 * meta['switch_interval_s']:g} ms" if "switch_interval_s" in meta else "")
         + (f" ({meta['python_build']})" if "python_build" in meta else "")),
        ("Packages", _pairs(meta.get("packages", {}), "{} {}")),
        ("Commit", str(meta["git"] or "unknown")),
        ("A sleep of", sleeps),
        ("Load average before", ", ".join(f"{load:.2f}" for load in meta.get("load_average", []))),
        ("Limits", _pairs({name: meta.get(name) for name in ("somaxconn", "tcp_tw_reuse", "local_ports", "open_files")},
                          "{} {}")),
        ("Host", str(meta.get("host", ""))),
    ]
    return [(name, text) for name, text in told if text]


def _pairs(values: Mapping[str, Any], form: str) -> str:
    return ", ".join(form.format(name, " ".join(str(value).split())) for name, value in values.items()
                     if value is not None)

