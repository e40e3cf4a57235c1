"""One run of `bench speed` or `bench regress`: a fresh server, a warm-up, and wrk. What it needs is told in words."""

from __future__ import annotations

from bench import machine
from bench.cells import Cell, Run
from bench.children import ChildError, cores, running
from bench.clients import wrk
from bench.processes import tree

__all__ = ["NO_WRK", "parse_cells", "run_once", "words_of"]

NO_WRK = ("wrk is not installed, and no other load generator will do here: ours, in Python, costs more than the "
          "server. Debian has it: apt install wrk")
_WARMUP = 0.3
"""Seconds, of our own generator, because wrk takes whole ones only."""


def run_once(command: list[str], cell: Cell, connections: int, seconds: float, number: int) -> Run:
    """Run the server `command` under the load of `cell`. What goes wrong is a Run with `failed`; ended by then.

    The command must print its port once it serves. A wrk that hangs is ended 15 seconds after it should have.
    """
    run = Run(cell, number, connections)
    server_core, load_core = cores()
    with running(command, server_core) as server:
        try:
            port = int(server.line(timeout=30))
            _warm_up(port, cell, connections, load_core)
            noise = machine.Noise(server_core, tree(server.pid))
            run.load = wrk.measure(port, connections, cell.keep_alive, warmup=0.0, duration=seconds, timeout=5.0,
                                   watch=server.pid, core=load_core, meanwhile=lambda: None)
            run.others = noise.share()
        except (ChildError, OSError, ValueError) as error:
            said = server.complaint()
            run.load, run.failed = None, str(error) if said in str(error) else f"{error}; the server said{said}"
        server.close_input()
    return run


def _warm_up(port: int, cell: Cell, connections: int, core: int | None) -> None:
    with running(["bench.clients.load", "--port", str(port), "--connections", str(connections), "--warmup", "0",
                  "--duration", str(_WARMUP), *([] if cell.keep_alive else ["--no-keep-alive"])], core) as load:
        load.line(_WARMUP + 20)


def parse_cells(text: str) -> list[tuple[bool, float]]:
    """"on:0,off:0.1", keep-alive and milliseconds of sleep, as pairs. ValueError, with the fix."""
    cells: dict[tuple[bool, float], None] = {}
    for word in text.split(","):
        keep_alive, _, sleep = word.partition(":")
        try:
            milliseconds = float(sleep)
        except ValueError:
            milliseconds = -1.0
        if keep_alive not in ("on", "off") or not 0 <= milliseconds <= 10_000:
            raise ValueError(f"{word!r} is no cell: write keep-alive and the milliseconds that the handler sleeps, "
                             "from 0 to 10000, such as on:0 or off:0.1; several with commas between")
        cells[keep_alive == "on", milliseconds] = None
    return list(cells)


def words_of(cell: Cell) -> str:
    """As `parse_cells` takes it."""
    return f"{'on' if cell.keep_alive else 'off'}:{cell.sleep_ms:g}"
