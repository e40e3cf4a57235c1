"""Who is measured: a name on the command line, and the program that it stands for.

    recycling-park               one of our models, with the parser that is the default: see bench.models
    recycling-park/h11           the same with that parser
    pkg.mod:Class                a taskmaster of your own
    waitress, stdlib             another server: see bench.peers.server
    hunchentoot                  the original, in Lisp: see bench.peers.lisp
    probe                        the least that a threaded server can do: see bench.studies.speed.probe
    waitress@/path/to/python     any of these, but for Lisp, run by that Python; in tables: waitress@3.13t

A subject is a program that prints its port once it serves, and ends with its standard input.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from bench import interpreters
from bench.models import MODELS, find_model, names_of
from bench.peers import lisp
from bench.peers.server import PEERS
from bench.programs import Lisp, Ours, Probe, Server, Setup, Subject

__all__ = ["PROBE", "WIRES", "Setup", "Subject", "find_subject", "subjects_of"]

WIRES = ("h11", "httptools")
PROBE = "probe"


def find_subject(name: str) -> Subject:
    """Whom `name` stands for. ValueError, with the fix, if nobody.

    Behind an @ stands the path of a Python, which must run, and which is known from then on by its version; or that
    version, as in the names that tables have. One of a version that is not known lacks it: `Subject.missing`.
    """
    rest, at, python = name.partition("@")
    if at and "/" in python:
        name = f"{rest}@{interpreters.know(python)}"
    elif at:
        python = interpreters.find(python)
    else:
        python = sys.executable
    if rest in lisp.SYSTEMS:
        if at:
            raise ValueError(f"{name!r}: {rest} is no Python program; leave out {at}{name.partition('@')[2]}")
        return Lisp(name, rest)
    if rest == PROBE:
        return Probe(name, rest, "", python)
    if rest in PEERS:
        return Server(name, rest, "", python)
    model, slash, wire = rest.partition("/")
    if slash and wire not in WIRES:
        raise ValueError(f"{name!r}: there is no parser {wire!r}; choose from {', '.join(WIRES)}")
    try:
        find_model(model)
    except ValueError as error:
        if ":" in model:
            raise
        raise ValueError(f"there is no model {rest!r}: choose from {', '.join(MODELS)}, from other servers, "
                         f"{', '.join([*PEERS, *lisp.SYSTEMS])}, or name a taskmaster of your own as pkg.mod:Class"
                         ) from error
    return Ours(name, model, wire, python)


def subjects_of(text: str, pythons: Sequence[str] = ()) -> list[str]:
    """The names that a comma-separated list stands for, in its order. ValueError for an unknown one.

    "pool" is both of its kinds, "models" all of ours, "peers" all others that are installed; a parser or an interpreter
    behind it goes to each. pythons: paths; whoever has none in its name is taken once for each of these.
    """
    names: dict[str, None] = {}
    for word in text.split(","):
        rest, at, python = word.strip().partition("@")
        word, slash, wire = rest.partition("/")
        for one in [python] if at else pythons or [""]:
            behind = f"{slash}{wire}{f'@{one}' if one else ''}"
            for name in _expanded(word, behind):
                names[find_subject(name).name] = None
    return list(names)


def _expanded(word: str, behind: str) -> list[str]:
    if word == "models":
        return [f"{name}{behind}" for name in MODELS]
    if word == "peers":
        subjects = [find_subject(f"{name}{behind}") for name in PEERS]
        if not behind:
            subjects += [find_subject(name) for name in lisp.SYSTEMS]
        return [subject.name for subject in subjects if not subject.missing()]
    return [f"{name}{behind}" for name in names_of(word)]
