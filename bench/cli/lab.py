"""The lab itself: doctor, micro, run, report, compare, trace."""

from __future__ import annotations

import argparse
import random
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from bench.cli.arguments import TEXT, checked, milliseconds, minutes, number, numbers, on_off, results
from bench.clients.generators import generator_named
from bench.doctor.look import run_doctor
from bench.lab.compare import DESCRIPTION, METRICS_HELP, RELATIVE_HELP, TOLERANCE_HELP, run_compare_folders
from bench.lab.preset import Options
from bench.lab.record import Results
from bench.lab.report import run_report
from bench.lab.run import blocks_within, options_of, run_preset
from bench.physics.micro import run_micro
from bench.presets import PRESETS, find_preset
from bench.subjects import subjects_of
from bench.trace.run import run_trace

__all__ = ["add_lab", "chosen_options"]

_RUN = """\
Measure a preset: a fresh server process for each run, blocks in a shuffled order, kept as they come, then a report.

presets:
"""
_RUN_EXAMPLES = """\
examples:
  python -m bench run quick                                      what make compare runs: three minutes
  python -m bench run quick --keep-alive off --sleeps none       where the threaded models differ most: 35 s
  python -m bench run quick --models thread,my_model:MyTaskmaster       a taskmaster of your own, importable from here
  python -m bench run quick --models models,peers --app shop:app        your application, here and elsewhere
  python -m bench run quick --models recycling --python /opt/3.14t/bin/python3 --python /usr/bin/python3
  python -m bench run readme --blocks 5 --out results/monday     the original's matrix, five blocks
  python -m bench run readme --resume results/monday             go on where that was broken off
  python -m bench run starve --budget 10m                        as many blocks as fit into ten minutes
"""
_TRACE = """\
Two seconds of one or more models under load, event by event: who accepts, who serves, what is handed over to whom. Left
in lanes.json, which opens in Perfetto (https://ui.perfetto.dev) or chrome://tracing; lanes.svg: 50 ms, a lane for each
thread; and phases.svg: where a request's time goes.
"""


def add_lab(commands: Any) -> None:
    """Add their parsers to `commands`, which argparse's add_subparsers() has returned."""
    doctor = commands.add_parser("doctor", help="what this machine has, and what it cannot show",
                                 description="Look at this machine: tools, interpreters, limits, noise; and say what "
                                 "can be measured here, and what cannot. A few seconds.")
    doctor.add_argument("--json", type=Path, metavar="FILE", help="also keep what was found in FILE")
    doctor.set_defaults(run=run_doctor)
    micro = commands.add_parser("micro", help="what a thread, a hand-off, an accept, a sleep cost here",
                                description="Measure what the models are made of: threads, queues, locks, accept(), "
                                "sleeps, the GIL. Under half a minute for each interpreter.")
    micro.add_argument("--python", action="append", default=[], metavar="PATH",
                       help="an interpreter to measure, may be repeated (default: this one)")
    micro.add_argument("--quick", action="store_true", help="fewer rounds")
    micro.add_argument("--json", type=Path, metavar="FILE", help="also keep the figures in FILE")
    micro.set_defaults(run=run_micro)
    _run(commands.add_parser("run", help="measure a preset, and report", description=_RUN + _presets(),
                             epilog=_RUN_EXAMPLES, **TEXT))
    report = commands.add_parser("report", help="a page, figures and tables from results that are there",
                                 description="Make report.html (one file, no scripts), figs/*.svg and tables.md from "
                                 "what `run` has kept, and print the tables.")
    report.add_argument("folders", type=results, nargs="+", metavar="DIR", help="a folder of results, or several")
    report.add_argument("--out", type=Path, metavar="FILE",
                        help="the page (default: report.html in the first folder)")
    report.set_defaults(run=run_report)
    compare = commands.add_parser("compare", help="two folders of results: what is slower", description=DESCRIPTION,
                                  **TEXT)
    compare.add_argument("a", type=results, metavar="A")
    compare.add_argument("b", type=results, metavar="B")
    compare.add_argument("--metrics", type=lambda text: tuple(text.split(",")), metavar="A,B", help=METRICS_HELP)
    compare.add_argument("--tolerance", type=number(float, 0, 1000), default=3.0, metavar="%", help=TOLERANCE_HELP)
    compare.add_argument("--relative-to", metavar="SUBJECT", help=RELATIVE_HELP)
    compare.set_defaults(run=run_compare_folders)
    _trace(commands.add_parser("trace", help="who does what, event by event: Chrome trace and a picture of lanes",
                               description=_TRACE, **TEXT))


def _run(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("preset", choices=PRESETS, metavar="PRESET", help="one of those above")
    add("--models", "--subjects", dest="subjects", metavar="A,B",
        help="who is measured: models of ours (pool stands for both of its kinds, models for all), a parser behind a "
        "slash (loop/h11), pkg.mod:Class for your own, peers by name (peers: all that are installed)")
    add("--app", default="", metavar="MODULE:APP", help="a WSGI application of yours to serve instead of the handler")
    add("--python", action="append", default=[], metavar="PATH",
        help="run the servers in this interpreter; repeated, in each of them")
    add("--connections", type=numbers(int, 1, 5000), metavar="N,N", help="clients at once")
    add("--sleeps", dest="sleeps_ms", type=milliseconds, metavar="MS,MS",
        help="what the handler sleeps, in milliseconds; none: no sleep is called")
    add("--keep-alive", type=on_off, metavar="on,off")
    add("--rates", type=numbers(float, 0.01, 1e6), metavar="R,R", help="of an open loop: see the preset")
    add("--blocks", "--rounds", dest="blocks", type=number(int, 1, 1000), metavar="N",
        help="how often each cell is run")
    add("--budget", type=minutes, metavar="TIME", help="as many blocks as fit into 90s, 30m or 2h")
    add("--seconds", "--duration", dest="seconds", type=number(float, 0.05, 600), metavar="S",
        help="of each run that count")
    add("--warmup", type=number(float, 0, 60), metavar="S", help="seconds of each run that do not")
    add("--timeout", type=number(float, 0.1, 600), default=10.0, metavar="S",
        help="seconds that a client waits for a response before it counts an error (default: 10)")
    add("--generator", type=checked(_generator), default="builtin", metavar="NAME",
        help="what makes a closed loop: builtin, wrk, hey, h2load, autocannon (default: builtin)")
    add("--seed", type=int, default=None, metavar="N",
        help="for the order of the runs (default: a new one each time; it is kept with the results)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--out", type=Path, metavar="DIR",
                       help="where results go (default: bench/results/DATE-PRESET-HOST)")
    where.add_argument("--resume", type=results, metavar="DIR", help="go on with what is there, as it was begun")
    add("--no-report", action="store_true", help="measure only")

    def run(arguments: argparse.Namespace) -> int:
        preset = find_preset(arguments.preset)
        try:
            if arguments.resume:
                begun = Results.read(arguments.resume).meta
                if begun["preset"] != preset.name:
                    raise ValueError(f"--resume {arguments.resume}: that is {begun['preset']}, not {preset.name}")
                options = options_of(begun)
            else:
                options = chosen_options(arguments)
            folder = run_preset(preset, options, arguments.resume or arguments.out, resume=bool(arguments.resume))
        except (ValueError, FileExistsError) as error:
            parser.error(str(error))
        if folder is None:
            return 130
        return 0 if arguments.no_report else run_report(argparse.Namespace(folders=[folder], out=None))

    parser.set_defaults(run=run)


def chosen_options(arguments: argparse.Namespace) -> Options:
    """The preset's defaults, and what was asked for instead. ValueError for what the preset does not vary."""
    preset = find_preset(arguments.preset)
    chosen = {field.name: value for field in fields(Options)
              if (value := getattr(arguments, field.name, None)) not in (None, [], "")}
    for name in chosen:
        if getattr(preset.defaults, name, None) is None and name != "seed":
            flag = {"sleeps_ms": "sleeps", "subjects": "models"}.get(name, name.replace("_", "-"))
            raise ValueError(f"the preset {preset.name} has no --{flag}; leave it out")
    chosen.setdefault("seed", random.randrange(10**6))
    options = replace(preset.defaults, **chosen)
    subjects = subjects_of(arguments.subjects or ",".join(options.subjects or ()), options.python)
    options = replace(options, subjects=tuple(subjects))
    if arguments.budget:
        options = replace(options, blocks=blocks_within(preset, options, arguments.budget))
    return options


def _trace(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("models", nargs="+", metavar="MODEL", help="as in --models of run; several are drawn on one scale of time")
    add("--seconds", type=number(float, 0.1, 60), default=2.0, metavar="S", help="of the load (default: 2)")
    add("--connections", type=number(int, 1, 1000), default=10, metavar="N", help="clients (default: 10)")
    add("--sleep", type=number(float, 0, 10_000), default=1.0, metavar="MS",
        help="what the handler sleeps, in milliseconds; 0: nothing (default: 1)")
    add("--keep-alive", choices=("on", "off"), default="off", help="default: off, where the models differ most")
    add("--threads", type=number(int, 1, 1000), default=None, metavar="N", help="that each may have (default: its own)")
    add("--out", type=Path, metavar="DIR",
        help="where lanes.json and lanes.svg go (default: bench/results/DATE-trace-HOST)")
    parser.set_defaults(run=run_trace)


def _generator(name: str) -> str:
    generator_named(name)
    return name


def _presets() -> str:
    from bench import presets

    assert presets.__doc__ is not None
    return "\n".join(line for line in presets.__doc__.splitlines() if line.startswith("    "))
