"""`python -m bench hostile`: each model, with four threads, against each kind of hostile client; a table."""

from __future__ import annotations

import argparse
import inspect
import logging
import re
import threading
from collections.abc import Callable

from acceptor import Acceptor, Request
from bench import machine
from bench.hostile import BIG, HOSTILE, Outcome, attack
from bench.models import find_model
from bench.progress import Progress
from taskmaster import Taskmaster

__all__ = ["run_hostile"]

_THREADS = 4
_BIG = b"x" * BIG


def run_hostile(options: argparse.Namespace) -> int:
    """Run what the command line asks for; 1 if the good client had to go without an answer somewhere."""
    logging.getLogger("acceptor").setLevel(logging.ERROR)  # that clients are refused is the point
    if options.port:
        outcomes = {options.name: _attack_all(("127.0.0.1", options.port), options.clients, options.patience)}
    else:
        outcomes = {name: _attack_model(name, options) for name in options.models}
    print(_table(outcomes))
    return int(any(outcome.worst is None for cells in outcomes.values() for outcome in cells.values()))


def application(request: Request) -> bytes:
    """A small page, a big one, and it reads what it is sent."""
    request.body.read()
    return _BIG if request.path == "/big" else b"Hello"


def _attack_model(name: str, options: argparse.Namespace) -> dict[str, Outcome]:
    """All kinds at once, each at a server of its own: they do little but wait."""
    clients = 1 if name == "single" else options.clients
    servers = {kind: Acceptor(application, port=0, taskmaster=_make(name)).start() for kind in HOSTILE}
    try:
        return _side_by_side({kind: (server.host, server.port) for kind, server in servers.items()}, clients,
                             options.patience, name)
    finally:
        for server in servers.values():
            server.stop(soft=False)


def _attack_all(address: tuple[str, int], clients: int, patience: float) -> dict[str, Outcome]:
    """One kind after the other, at a server of somebody else's."""
    outcomes = {}
    progress = Progress(len(HOSTILE), patience)
    for kind in HOSTILE:
        progress.begin(kind)
        outcomes[kind] = attack(address, kind, clients, patience)
        progress.end(f"{kind}: {outcomes[kind]}")
    progress.clear()
    return outcomes


def _side_by_side(addresses: dict[str, tuple[str, int]], clients: int, patience: float, name: str
                  ) -> dict[str, Outcome]:
    outcomes: dict[str, Outcome] = {}
    progress = Progress(len(addresses), patience / len(addresses))
    lock = threading.Lock()

    def run(kind: str, address: tuple[str, int]) -> None:
        outcome = attack(address, kind, clients, patience)
        with lock:
            outcomes[kind] = outcome
            progress.end(f"{name}, {kind}: {outcome}")

    progress.begin(f"{name}: up to {patience:g} s")
    threads = [threading.Thread(target=run, args=each) for each in addresses.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    progress.clear()
    return {kind: outcomes[kind] for kind in addresses}


def _make(name: str) -> Taskmaster:
    """The model `name` with _THREADS threads to serve, and room for the rest to wait."""
    model = find_model(name)
    factory: Callable[..., Taskmaster] = model.factory
    known = inspect.signature(factory).parameters
    arguments: dict[str, int] = {model.capacity_argument: _THREADS} if model.capacity_argument else {}
    arguments |= {waiting: 64 for waiting in ("max_accept_count", "queue_size") if waiting in known}
    arguments |= {"standby": _THREADS} if "standby" in known else {}
    return factory(**arguments)


def _table(outcomes: dict[str, dict[str, Outcome]]) -> str:
    """For the documents: how long the good client waited at worst, and when the server was rid of the hostile ones."""
    rows = [["hostile clients", *outcomes]]
    rows += [[kind, *(str(cells[kind]) for cells in outcomes.values())] for kind in HOSTILE]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
             for row in rows]
    lines.insert(1, re.sub(r"[^|]", "-", lines[0]))
    return "\n".join([*lines, "", machine.one_line()])
