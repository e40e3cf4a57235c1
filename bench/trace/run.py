"""`python -m bench trace MODEL...`: who does what, event by event, while a load runs.

Each model serves in a process of its own (`bench.trace.server`), which records what its threads do;
`bench.clients.load` asks from this one. What comes of it: `lanes.json`, a Chrome trace of all of it, `lanes.svg`, a
picture of 50 ms, `phases.svg`, where a request's time goes, and a few sentences.

Recording is not free: some six times in a request a line is written down, which takes microseconds. So what a trace
tells is who does what, and in which order; for what it costs there is `bench run`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import textwrap
from dataclasses import dataclass
from pathlib import Path
from time import monotonic_ns

from acceptor.recording import STATES
from bench import machine
from bench.children import ChildError, cores, running
from bench.clients.load import Load
from bench.clients.result import Result
from bench.lab.drawing import MISSING
from bench.lab.run import default_folder
from bench.lab.serving import on_load_core
from bench.models import MODELS
from bench.progress import Progress
from bench.subjects import Setup, find_subject, subjects_of
from bench.trace.phases import draw_phases
from watching.trace import Trace, tracks_of
from watching.trace.chrome import write_json
from watching.trace.picture import draw
from watching.trace.tracks import Track

__all__ = ["Asked", "Traced", "read", "record", "run_trace", "sentences", "traced_command"]


@dataclass(frozen=True)
class Asked:
    """What is done to each model."""

    seconds: float = 2.0
    connections: int = 10
    sleep_ms: float = 1.0
    keep_alive: bool = False
    threads: int | None = None
    """That it may have; None: its default."""
    warmup: float = 0.5
    """Seconds of the load, before, that are not looked at."""

    def __str__(self) -> str:
        sleep = f"a handler that sleeps {self.sleep_ms:g} ms" if self.sleep_ms else "a handler that answers at once"
        return (f"{self.connections} client{'s' * (self.connections != 1)}, keep-alive "
                f"{'on' if self.keep_alive else 'off'}, {sleep}")


@dataclass(frozen=True)
class Traced:
    """What has come of one model."""

    trace: Trace
    load: Result


def run_trace(options: argparse.Namespace) -> int:
    """Trace the models asked for; the exit status: 1 if one of them could not be traced, 2 if it does not exist."""
    asked = Asked(options.seconds, options.connections, options.sleep, options.keep_alive == "on", options.threads)
    try:
        names = subjects_of(",".join(options.models))
        for name in names:
            traced_command(name, Setup())
    except ValueError as error:
        print(f"bench trace: {error}", file=sys.stderr)
        return 2
    folder: Path = options.out or default_folder("trace", machine.describe([])["host"])
    folder.mkdir(parents=True, exist_ok=True)
    about = machine.one_line()
    print(f"{about}\n{asked}; {asked.seconds:g} s of each model.\n", flush=True)
    progress = Progress(len(names), asked.warmup + asked.seconds + 2.0)
    traced: dict[str, Traced] = {}
    failed: dict[str, str] = {}
    for name in names:
        progress.begin(name)
        try:
            traced[name] = record(name, asked)
            progress.end(name)
        except (ChildError, OSError, ValueError) as error:
            failed[name] = str(error)
            progress.end(f"{name}: {error}")
    progress.clear()
    if traced:
        traces = {name: found.trace for name, found in traced.items()}
        with open(folder / "lanes.json", "w", encoding="utf-8") as file:
            write_json(file, traces, {"machine": about, "load": str(asked)})
        (folder / "lanes.svg").write_text(draw(traces, f"{asked}. {about}"), encoding="utf-8")
        try:
            (folder / "phases.svg").write_text(draw_phases(traces, f"{asked}. {about}"), encoding="utf-8")
        except ImportError:
            print(MISSING)
    for name, found in traced.items():
        print(name)
        for sentence in sentences(found, asked):
            print(textwrap.fill(sentence, 116, initial_indent="  ", subsequent_indent="  "))
    for name, why in failed.items():
        print(f"{name}: not traced: {why}", file=sys.stderr)
    if traced:
        print(f"\n{folder / 'lanes.svg'}: the picture of 50 ms; phases.svg: where a request's time goes\n"
              f"{folder / 'lanes.json'}: all of it, for https://ui.perfetto.dev (Open trace file)\n"
              "Recording takes some microseconds for each request: see here who does what, and what that costs by "
              "python -m bench run.")
    return 1 if failed else 0


def record(name: str, asked: Asked) -> Traced:
    """Have the model `name` serve and be loaded; what its threads did meanwhile.

    Blocks for the length of the load and about a second. ChildError, OSError or ValueError, with the reason, if that
    cannot be done.
    """
    command = traced_command(name, Setup(sleep_ms=asked.sleep_ms, capacity=asked.threads))
    with tempfile.TemporaryDirectory() as place:
        with running([*command, "--out", place], cores()[0]) as child:
            port = int(child.line(timeout=30))
            with on_load_core(), Load(port, asked.connections, asked.keep_alive) as load:
                load.run(asked.warmup)
                load.forget()
                begin = monotonic_ns()  # on Linux one clock for all processes: CLOCK_MONOTONIC
                load.run(asked.seconds)
                end = monotonic_ns()
                result = load.result((end - begin) / 1e9, 0.0, None)
            child.close_input()
            child.line(timeout=60)  # it has stopped, and writes no more
        return Traced(Trace(read(Path(place)), begin, end), result)


def read(folder: Path) -> list[Track]:
    """All that has been recorded there, by one process or several. ValueError if there is nothing."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    tracks = [track for said in found for track in tracks_of(said)]
    if not tracks:
        raise ValueError(f"{folder} holds no recording: no thread of the server has taken a step, or it did not end "
                         "as it should")
    return sorted(tracks, key=lambda track: track.begin)


def sentences(found: Traced, asked: Asked) -> list[str]:
    """What happened, in a few lines."""
    trace, load = found.trace, found.load
    wrong = [f"{count:,} responses {status}" for status, count in load.non_2xx.items()]
    wrong += [f"{count:,} {kind}" for kind, count in load.errors.items()]
    if load.starved:
        wrong.append(f"{load.starved} of {asked.connections} clients got no answer")
    said = []
    if trace.requests:
        each = len(trace.handoffs) / trace.requests
        waited = sum(trace.waits) / trace.requests / 1e3
        said.append(f"{trace.requests:,} requests. For each, on average, {each:.2f} hand-offs from thread to thread, "
                    f"and {waited:,.0f} us between accept() and a thread that serves.")
    else:
        said.append("No request came to a handler.")
    most = max(at.threads for at in trace.numbers)
    shares = ", ".join(f"{STATES[state]} {share:.1%}" for state, share in trace.shares.items())
    said.append(f"{most} thread{'s' * (most != 1)} at most. Of the time of all of them: {shares}.")
    if wrong:
        said.append(f"But {'; '.join(wrong)}.")
    if trace.full:
        said.append("More happened than a lane holds, and so the beginning is missing: give fewer --seconds.")
    return said


def traced_command(name: str, setup: Setup) -> list[str]:
    """As `Subject.command`, but with `bench.trace.server`. ValueError, with the fix, for what is no model of ours."""
    command = find_subject(name).command(setup)
    if "bench.server" not in command:
        raise ValueError(f"{name} is not one of our taskmasters, so nobody can record its threads: "
                         f"choose from {', '.join(MODELS)}, or name a taskmaster of your own as pkg.mod:Class")
    return ["bench.trace.server" if word == "bench.server" else word for word in command]
