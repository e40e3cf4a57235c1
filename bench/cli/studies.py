"""Experiments with a form of their own: waiting, hostile, scale, speed, threads, regress, steps, watching."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from bench.cli.arguments import TEXT, checked, json_and_seed, number
from bench.models import MODELS, find_model, names_of
from bench.studies.hostile.study import run_hostile
from bench.studies.regress.sides import WORKING_TREE
from bench.studies.regress.study import run_regress
from bench.studies.scale.study import EXPERIMENTS, run_scale
from bench.studies.speed.entrants import Entrant, chosen
from bench.studies.speed.run import parse_cells
from bench.studies.speed.study import CELLS, run_speed
from bench.studies.steps.study import matching, run_steps
from bench.studies.threads.plan import EXPERIMENTS as THREADS
from bench.studies.threads.plan import chosen_experiments
from bench.studies.threads.study import existing, run_threads
from bench.studies.waiting.study import run_waiting
from bench.studies.watching.study import run_watching

__all__ = ["add_studies"]

_HOSTILE = """\
Hold a server's threads in six ways, four threads and four hostile clients each, while somebody else wants an answer.

For each kind of client and each model: how long the good client had to wait at worst, and when the server was rid of
the hostile ones. With the default timeouts; takes up to 90 seconds for each model, and that long for those that park,
which nobody urges to get rid of a client that costs them no thread. (The loop has one thread, whatever comes.)
"""
_SCALE = """\
More connections than threads, and more cores than the GIL lets a process use.

  crowd      10,000 idle connections beside 100 active ones, on 8 threads: what they cost these, and in memory
  fairness   64 clients with keep-alive on 8 threads: who is served, and how long newcomers wait
  loop       an event loop whose handlers sleep, and threads for them
  cores      a handler that computes, in one process and in two
  price      what parking costs: context switches and CPU for each request

Each claim is said to PASS or to FAIL, with its figures. About 8 minutes.
"""
_SPEED = """\
What a request costs: this server on each parser, and others, on one core under wrk on another, keep-alive on and off,
handlers that sleep 0, 0.1 and 1 ms; then large transfers. Each claim is said to PASS or to FAIL, with its figures, by
ratios within this run. What is not installed is left out, and said. About 10 minutes; --quick takes one.
"""
_REGRESS = """\
Is B slower than A? Pairs of runs, interleaved, on the code of each. A and B are commits, or directories with a checkout
(with a / in it). The exit code is 1 if a cell costs more than --tolerance more, with all of the 95 % interval.
"""
_STEPS = """\
The steps of a request one by one, without a network: parsers, the loop of a connection, WSGI, the head of a response.
Time is the least of several repeats; --instructions counts what callgrind sees, which does not depend on how busy the
machine is (2 to 4 minutes).
"""
_THREADS = """\
How threads move the CPU of a request, and the slowest answers: one knob at a time, all else equal, under wrk.

  threads    1 to 64 of them
  models     which thread accepts, which waits, which serves
  inline     whether a thread goes on with a client that pipelines
  switch     sys.setswitchinterval()
  defer      TCP_DEFER_ACCEPT, without keep-alive; system calls by strace(1), if it is there
  standby    threads that wait, of 100 that there may be

It ends with what differs, in sentences. docs/threads.md says why. About 6 minutes.
"""
_WATCHING = """\
What it costs a server to be watched, in CPU for each request: nobody looks; an open page, that is ten samples a second,
and 20 ms step by step every two seconds; every step written down all the time. Fresh servers, interleaved; about
3 minutes. The exit code is 1 if a page costs more than 2 %, with all of the 95 % interval.
"""
_REGRESS_EXAMPLES = """\
examples:
  python -m bench regress                                 HEAD and the working tree: about 3 minutes
  python -m bench regress main~5 main --pairs 12          12 pairs of each cell: narrower intervals
  python -m bench regress HEAD --steps                    steps of a request instead of servers: about 2 minutes
  python -m bench regress HEAD --instructions             the same counted, not timed: for a busy machine
  python -m bench regress HEAD ../other-checkout/ --cells on:0 --server=--http=h11
"""


def add_studies(commands: Any) -> None:
    """Add their parsers to `commands`, which argparse's add_subparsers() has returned."""
    waiting = commands.add_parser("waiting", help="the ways in which threads can wait on one listen socket",
                                  description="Compare the ways in which many threads can wait on one listen socket. "
                                  "No HTTP server: bare sockets. Takes about 50 seconds.")
    waiting.add_argument("--json", type=Path, metavar="FILE", help="also keep the figures in FILE")
    waiting.set_defaults(run=run_waiting)
    _hostile(commands.add_parser("hostile", help="clients that try to hold every thread", description=_HOSTILE, **TEXT))
    _scale(commands.add_parser("scale", help="more connections than threads, more cores than one process uses",
                               description=_SCALE, **TEXT))
    _speed(commands.add_parser("speed", help="what a request costs, ours and others': figures, and claims",
                               description=_SPEED, **TEXT))
    _regress(commands.add_parser("regress", help="is one commit slower than another", description=_REGRESS,
                                 epilog=_REGRESS_EXAMPLES, **TEXT))
    _steps(commands.add_parser("steps", help="the steps of a request, without a network", description=_STEPS, **TEXT))
    _threads(commands.add_parser("threads", help="how threads move CPU per request and p99: one knob at a time",
                                 description=_THREADS, **TEXT))
    _watching(commands.add_parser("watching", help="what it costs a server to be watched", description=_WATCHING,
                                  **TEXT))


def _hostile(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--models", type=checked(_models), default=list(MODELS), metavar="A,B",
        help=f"from {', '.join(MODELS)}, or pkg.mod:Class; pool and recycling stand for both of theirs (default: all)")
    add("--clients", type=number(int, 1, 100), default=4, metavar="N",
        help="hostile clients of each kind; against one thread always one (default: 4)")
    add("--patience", type=number(float, 1, 3600), default=90.0, metavar="S",
        help="seconds until an attack is given up (default: 90)")
    add("--port", type=int, metavar="N", help="attack the server that listens there, on 127.0.0.1, instead: it must "
        "answer GET / and GET /big (40 MB) and read what is posted to /, as bench.studies.hostile.attacks:wsgi_app "
        "does")
    add("--name", default="theirs", metavar="NAME", help="what to call that server")
    parser.set_defaults(run=run_hostile)


def _scale(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--only", type=checked(_experiments), default=list(EXPERIMENTS), metavar="A,B",
        help=f"some of {', '.join(EXPERIMENTS)} (default: all)")
    add("--rounds", type=number(int, 1, 100), default=2, metavar="N",
        help="repetitions of what is compared, interleaved (default: 2)")
    add("--seconds", type=number(float, 0.1, 600), default=2.0, metavar="S",
        help="seconds of each load that count (default: 2)")
    add("--idle", type=number(int, 1, 100_000), default=10_000, metavar="N",
        help="idle connections of the crowd (default: 10000)")
    add("--json", type=Path, metavar="FILE", help="also keep all that was measured in FILE")
    add("--picture", type=Path, metavar="FILE", help="draw who was served (fairness): an SVG file")
    parser.set_defaults(run=run_scale)


def _speed(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--only", type=checked(_subjects), metavar="A,B", help="some of the subjects, in every cell; recycling-park "
        "stands for all that begin so (default: all, and those that need it least not where handlers sleep)")
    add("--cells", type=checked(parse_cells), metavar="on:0,off:0.1", help="keep-alive, and milliseconds of sleep "
        "(default: on and off, 0, 0.1 and 1)")
    add("--rounds", type=number(int, 1, 100), metavar="N", help="runs of each, interleaved (default: 3)")
    add("--seconds", type=number(int, 1, 600), default=1, metavar="N",
        help="seconds of each run that count; wrk takes whole ones (default: 1)")
    add("--python", "--peers-python", default=sys.executable, metavar="PATH",
        help="the Python that runs all servers, ours too: one where the others are installed (default: this one)")
    add("--quick", action="store_true", help="one round, no sleep, no transfers: a look")
    json_and_seed(parser)

    def run(options: argparse.Namespace) -> int:
        options.rounds = options.rounds or (1 if options.quick else 3)
        options.cells = options.cells or [cell for cell in CELLS if not (options.quick and cell[1])]
        return run_speed(options)

    parser.set_defaults(run=run)


def _regress(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("a", nargs="?", default="HEAD", metavar="A", help="a commit, or a directory (default: HEAD)")
    add("b", nargs="?", default=WORKING_TREE, metavar="B", help="another (default: the working tree)")
    add("--cells", type=checked(parse_cells), default=CELLS, metavar="on:0,off:0.1",
        help="keep-alive, and milliseconds of sleep (default: on and off, 0, 0.1 and 1)")
    add("--pairs", type=number(int, 2, 1000), default=8, metavar="N", help="of each cell (default: 8)")
    add("--seconds", type=number(int, 1, 600), default=1, metavar="N",
        help="seconds of each run that count; wrk takes whole ones (default: 1)")
    add("--tolerance", type=number(float, 0, 1000), default=3.0, metavar="%",
        help="per cent that it may cost more (default: 3)")
    add("--model", default="recycling-park", metavar="NAME", help="which model serves (default: recycling-park)")
    add("--server", action="append", default=[], metavar="ARGUMENT",
        help="another argument of bench.server, such as --server=--http=h11; may be repeated")
    add("--steps", action="store_true", help="compare the steps of a request, not servers; needs no wrk")
    add("--instructions", action="store_true",
        help="of these steps, compare instructions that callgrind counts, not time; one run of each is enough")
    json_and_seed(parser)
    parser.set_defaults(run=run_regress)


def _steps(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--only", type=checked(_operations), default=[], metavar="A,B",
        help="those with one of these words in their name")
    add("--instructions", action="store_true", help="count them by callgrind, too")
    add("--python", default=sys.executable, metavar="PATH", help="the Python that runs them (default: this one)")
    add("--json", type=Path, metavar="FILE", help="also keep the figures in FILE")
    parser.set_defaults(run=run_steps)


def _threads(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--only", type=checked(chosen_experiments), default=list(THREADS), metavar="A,B",
        help=f"some of {', '.join(THREADS)} (default: all)")
    add("--rounds", type=number(int, 1, 100), metavar="N", help="runs of each, interleaved (default: 3)")
    add("--seconds", type=number(int, 1, 600), default=1, metavar="N",
        help="seconds of each run that count; wrk takes whole ones (default: 1)")
    add("--quick", action="store_true", help="one round: a look, which tells no differences")
    add("--page", type=existing, metavar="FILE", help="put tables and sentences into this page, between its marks")
    add("--again", type=existing, metavar="FILE", help="measure nothing, show what --json has kept in FILE")
    json_and_seed(parser)

    def run(options: argparse.Namespace) -> int:
        options.rounds = options.rounds or (1 if options.quick else 3)
        return run_threads(options)

    parser.set_defaults(run=run)


def _watching(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--blocks", type=number(int, 2, 1000), default=8, metavar="N", help="runs of each, interleaved (default: 8)")
    add("--seconds", type=number(int, 2, 600), default=2, metavar="N",
        help="seconds of each run that count; a multiple of two, for the steps of a page (default: 2)")
    add("--keep-alive", choices=("on", "off", "both"), default="both", help="default: both")
    add("--model", default="recycling-park", metavar="NAME", help="which model serves (default: recycling-park)")
    json_and_seed(parser)
    parser.set_defaults(run=run_watching)


def _models(text: str) -> list[str]:
    names = list(dict.fromkeys(name for word in text.split(",") for name in names_of(word)))
    for name in names:
        find_model(name)
    return names


def _subjects(text: str) -> list[Entrant]:
    return chosen(text.split(","))


def _experiments(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in EXPERIMENTS:
            raise ValueError(f"there is no experiment {name!r}: choose from {', '.join(EXPERIMENTS)}")
    return names


def _operations(text: str) -> list[str]:
    words = text.split(",")
    matching(words)
    return words
