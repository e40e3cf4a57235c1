"""`python -m bench hostile`: each model, with four threads, against each kind of hostile client; a table."""

from __future__ import annotations

import argparse
import re
import threading
from contextlib import ExitStack

from bench import machine
from bench.children import running
from bench.progress import Progress
from bench.studies.hostile.attacks import HOSTILE, Outcome, attack

__all__ = ["run_hostile"]

_THREADS = 4


def run_hostile(options: argparse.Namespace) -> int:
    """Run what the command line asks for; 1 if the good client had to go without an answer somewhere."""
    if options.port:
        outcomes = {options.name: _attack_all(("127.0.0.1", options.port), options.clients, options.patience)}
    else:
        outcomes = {name: _attack_model(name, options) for name in options.models}
    print(_table(outcomes))
    return int(any(outcome.worst is None for cells in outcomes.values() for outcome in cells.values()))


def _attack_model(name: str, options: argparse.Namespace) -> dict[str, Outcome]:
    """All kinds at once, each at a server of its own: they do little but wait."""
    clients = 1 if name == "single" else options.clients
    command = ["bench.server", "--model", name, "--capacity", str(_THREADS), "--exactly", "--big"]
    with ExitStack() as stack:
        servers = {kind: stack.enter_context(running(command)) for kind in HOSTILE}
        addresses = {kind: ("127.0.0.1", int(server.line(timeout=20))) for kind, server in servers.items()}
        return _side_by_side(addresses, clients, options.patience, name)


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


def _table(outcomes: dict[str, dict[str, Outcome]]) -> str:
    """For the documents: how long the good client waited at worst, and when the server was rid of the hostile ones."""
    rows = [["hostile clients", *outcomes]]
    rows += [[kind, *(str(cells[kind]) for cells in outcomes.values())] for kind in HOSTILE]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
             for row in rows]
    lines.insert(1, re.sub(r"[^|]", "-", lines[0]))
    return "\n".join([*lines, "", machine.one_line()])
