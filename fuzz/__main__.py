"""`python -m fuzz`: the command line.

Atheris, which is libFuzzer for Python, makes up the inputs. It has to see the code as it is imported, to know which
branches an input takes; so whatever is fuzzed is imported late, here, and once.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fuzz.targets import Target

_HERE = Path(__file__).parent
_FINDINGS = _HERE / "findings"
_INSTALL = """\
python -m fuzz: atheris is missing, which makes up the inputs. Install it:
    make fuzz                         into .venv, and run every target for a minute; or
    pip install -e '.[fuzz]'          into this environment: CPython on Linux, x86-64
Without it, --list and inputs that are there already can be run: python -m fuzz TARGET FILE..."""
_DESCRIPTION = """\
Feed made-up bytes to what reads clients, proxies and handlers, and say when something goes wrong.

What is found goes to fuzz/findings/TARGET/, where the inputs that reached something new are kept too; the next run goes
on from there. The exit status is 0 if nothing was found, 1 if something was, 2 if nothing could be run.
"""
_EXAMPLES = """\
examples:
  python -m fuzz                                          every target, a minute each
  python -m fuzz wire --seconds 600                       one target, ten minutes
  python -m fuzz wire --seed 1 --fresh                    the same again, as far as the code is the same
  python -m fuzz wire fuzz/findings/wire/crash-0a1b       what was found once, again (needs no atheris)
  python -m fuzz wire fuzz/findings/wire/corpus           all inputs kept so far, for instance under coverage
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (None: this process' own); return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=_DESCRIPTION, epilog=_EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("target", nargs="?", metavar="TARGET", help="what to fuzz: see --list (default: every target in turn)")
    add("inputs", nargs="*", type=Path, metavar="FILE", help="run only these inputs, or those in these folders")
    add("--list", action="store_true", help="say which targets there are")
    add("--seconds", type=_seconds, default=60, metavar="S", help="how long, for each target (default: 60)")
    add("--seed", type=_seed, default=0, metavar="N", help="for chance; 0: a new one each time, printed (default: 0)")
    add("--fresh", action="store_true", help="begin with the seeds, and not with what earlier runs have kept")
    options = parser.parse_args(arguments)

    atheris = None if options.list or options.inputs else _atheris()
    targets = _load(atheris)
    if options.list:
        print("\n".join(f"{target.name:12}{target.about}" for target in targets.values()))
        return 0
    if options.target is not None and options.target not in targets:
        parser.error(f"there is no target {options.target!r}: give one of {', '.join(targets)}")
    for path in options.inputs:
        if not path.exists():
            parser.error(f"there is no file {path}")
    if options.inputs:
        return _replay(targets[options.target], options.inputs)
    if atheris is None:
        print(_INSTALL, file=sys.stderr)
        return 2
    if options.target is None:
        return _each(list(targets), options)
    _fuzz(atheris, targets[options.target], options)
    return 0


def _atheris() -> ModuleType | None:
    try:
        return importlib.import_module("atheris")
    except ImportError:
        return None


def _load(atheris: ModuleType | None) -> Mapping[str, Target]:
    """The targets; with atheris, so that it sees the branches taken in what they test."""
    watched = atheris.instrument_imports(include=["acceptor", "h11"]) if atheris else contextlib.nullcontext()
    with contextlib.redirect_stderr(io.StringIO()), watched:  # or it names each module
        targets: Mapping[str, Target] = importlib.import_module("fuzz.targets").TARGETS
    return targets


def _each(names: Sequence[str], options: argparse.Namespace) -> int:
    """One after the other, each in a process of its own, for libFuzzer ends the one it runs in."""
    found = []
    for name in names:
        print(f"== {name}", flush=True)
        command = [sys.executable, "-m", "fuzz", name, "--seconds", str(options.seconds), "--seed", str(options.seed)]
        if subprocess.run([*command, *(["--fresh"] if options.fresh else [])], check=False).returncode:
            found.append(name)
    print(f"== something was found: {', '.join(found)}" if found else "== nothing was found")
    return 1 if found else 0


def _fuzz(atheris: ModuleType, target: Target, options: argparse.Namespace) -> None:
    """Until the time is over, or something is found. Ends the process, with status 0 or 1."""
    folder = _FINDINGS / target.name
    corpus = folder / ("corpus-fresh" if options.fresh else "corpus")
    corpus.mkdir(parents=True, exist_ok=True)
    if options.fresh:
        for path in corpus.iterdir():
            path.unlink()
    seeds = importlib.import_module("fuzz.seeds").SEEDS[target.name]
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number:03}").write_bytes(seed)

    def run(data: bytes) -> None:
        try:
            target.run(data)
        except BaseException:
            print(f"\n== Found. The input is in the file named below; to see it again:\n"
                  f"==     python -m fuzz {target.name} FILE\n"
                  "== Repair it, and give it a row in tests/test_fuzz_regressions.py.", file=sys.stderr, flush=True)
            raise

    atheris.Setup([
        f"python -m fuzz {target.name}", str(corpus), f"-max_total_time={options.seconds}", f"-seed={options.seed}",
        f"-max_len={target.longest}", f"-dict={_HERE / 'tokens.dict'}", f"-artifact_prefix={folder}/", "-timeout=10",
        "-rss_limit_mb=1024", "-error_exitcode=1", "-timeout_exitcode=1", "-print_final_stats=1",
    ], run)
    atheris.Fuzz()


def _replay(target: Target, inputs: Sequence[Path]) -> int:
    wrong = 0
    for path in _files(inputs):
        data = path.read_bytes()
        try:
            target.run(data)
        except Exception:
            wrong += 1
            print(f"{path}: {data!r}\n{traceback.format_exc()}")
    print(f"{wrong} of the inputs show something wrong" if wrong else "nothing is wrong with any of them")
    return 1 if wrong else 0


def _files(inputs: Sequence[Path]) -> Iterator[Path]:
    for path in inputs:
        if path.is_dir():
            yield from sorted(each for each in path.iterdir() if each.is_file())
        else:
            yield path


def _seconds(text: str) -> int:
    return _whole(text, 1, 10 ** 6, "seconds, a whole number")


def _seed(text: str) -> int:
    return _whole(text, 0, 2 ** 32 - 1, "a whole number")


def _whole(text: str, least: int, most: int, what: str) -> int:
    if not (text.isascii() and text.isdigit()) or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"{text!r}: give {what} from {least} to {most}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
