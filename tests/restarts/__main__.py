"""The command line, and its two tables."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from collections.abc import Sequence

from bench.machine import one_line
from tests.case_choice import choose
from tests.restarts.cases import CASES, HEADER
from tests.restarts.ends import ENDS
from tests.restarts.namespaces import why_not

MODELS = ("single", "thread", "pool", "recycling")


def measure(name: str, model: str, count: int) -> tuple[list[str], bool]:
    """Run one case; its row, and whether it is as it must be."""
    case = CASES[name]
    try:
        row = case.run(model, round(count * case.share))
    except Exception as error:  # the others are still to be run
        return [case.what, model, "", _told(error)], False
    return [case.what, model, *row.cells()], case.is_good(row)


def look(name: str, model: str) -> tuple[str, bool]:
    try:
        return ENDS[name][1](model)
    except Exception as error:
        return _told(error), False


def _told(error: Exception) -> str:
    """What fits into a cell; all of it goes to standard error."""
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    return f"{type(error).__name__}: {str(error)[:60]}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0: all is well, 1: something is not, 2: it cannot be run here."""
    names = [*CASES, *ENDS]
    parser = argparse.ArgumentParser(
        prog="python -m tests.restarts", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Restarts under load, in which no request may fail. Two tables go to standard output.",
        epilog=f"cases: {', '.join(names)}\n\nexit status: 0 all is well, 1 something is not, 2 it cannot be run here")
    options, chosen = choose(parser, names, models=MODELS, requests=50_000, what="of each load", arguments=arguments)
    if problem := cannot_run(chosen):
        parser.error(problem)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that everything is taken down, as with Ctrl+C
    begun = time.monotonic()
    models = options.model or MODELS
    good = [
        *load_table([name for name in chosen if name in CASES], models, options.requests),
        *end_table([name for name in chosen if name in ENDS], models),
    ]
    print(f"{one_line()}\n\n{good.count(False)} of {len(good)} rows are not as they must be; "
          f"{time.monotonic() - begun:.0f} s")
    return 0 if all(good) else 1


def cannot_run(chosen: Sequence[str]) -> str:
    """Why not all of these cases can be run here, and what to do; "" if they can."""
    for program, prefix in ("haproxy", "rolling"), ("nginx", "nginx"):
        if any(name.startswith(prefix) for name in chosen) and shutil.which(program) is None:
            return f"{program} is not installed; try: apt-get install {program}, or name the cases to run"
    return why_not() if any(name.startswith(("rolling", "reuse-port")) for name in chosen) else ""


def load_table(names: Sequence[str], models: Sequence[str], count: int) -> list[bool]:
    """Print it row by row; which rows are as they must be."""
    good = []
    print_head(HEADER if names else [])
    for name in names:
        for model in CASES[name].models:
            if model in models:
                cells, is_good = measure(name, model, count)
                print_row([*cells, *[""] * (len(HEADER) - len(cells))], is_good)
                good.append(is_good)
    print()
    return good


def end_table(names: Sequence[str], models: Sequence[str]) -> list[bool]:
    good = []
    print_head(["what", *models] if names else [])
    for name in names:
        looks = [look(name, model) for model in models]
        good.append(all(is_good for _, is_good in looks))
        print_row([ENDS[name][0], *(text for text, _ in looks)], good[-1])
    print()
    return good


def print_head(cells: Sequence[str]) -> None:
    if cells:
        print_row(cells)
        print(f"|{'---|' * len(cells)}", flush=True)


def print_row(cells: Sequence[str], good: bool = True) -> None:
    """As Markdown has it; what is not good is marked behind the table's edge."""
    text = " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in cells)
    print(f"| {text} |{'' if good else ' <-- !'}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
