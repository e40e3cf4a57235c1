"""`bench scale fairness`: 64 clients that keep their connections, on 8 threads; the handler sleeps for 2 ms.

Who is served? Each client asks again when it has been answered, so all of them want a thread all the time. How evenly
they get one is said by Jain's index: 1 if all get the same, 8/64 if 8 get everything.

How long do newcomers wait? The 64 ask half as often as they could be answered, and meanwhile others come, on
connections of their own, for one request each.

And if clients do not wait for their answers (bench.clients.flood)? Then their next request is there already when a
thread is done with one: a thread may go on with it (inline="always"), or see to the others first ("fair"). Puma did the
former: CVE-2019-16770.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from bench.children import cores, running
from bench.clients.flood import Flooded
from bench.clients.result import Result, fairness
from bench.progress import Progress
from bench.studies.scale.trial import WARMUP, Finding, Load, Options, Report, Server, loading, measure, serving, step
from bench.table import grid

__all__ = ["run", "steps"]

_THREADS, _CLIENTS, _SLEEP_MS = 8, 64, 2.0
_NEWCOMERS = Load(4, keep_alive=False, pause_ms=40.0)
_FAIR, _LONGEST_WAIT = 0.95, 100.0


@dataclass(frozen=True)
class _Case:
    model: str
    inline: str = ""
    """Of clients that pipeline; empty: they wait for each answer."""

    def __str__(self) -> str:
        return f"{self.model}, inline={self.inline}" if self.inline else self.model


_CASES = (*map(_Case, ("recycling-hold", "pool-hold", "recycling-park", "pool-park")),
          *(_Case(model, inline) for model in ("recycling-park", "pool-park")
            for inline in ("always", "fair", "never")))


def steps(options: Options) -> int:
    return len(_CASES) * options.rounds


def run(options: Options, progress: Progress) -> Report:
    runs = [_one(case, options, progress) for _ in range(options.rounds) for case in _CASES]
    rows = [("model", "clients", "served", "Jain", "ok/s", "newcomers", "p99 ms", "longest ms", "left out", "")]
    findings = []
    for case in _CASES:
        mine = [one for one in runs if one["case"] == str(case)]
        served = [sum(count > 0 for count in one["answers"]) for one in mine]
        index = [fairness(one["answers"]) for one in mine]
        come = [Result(**one["newcomers"]) for one in mine]
        longest = max(one.max_ms for one in come)
        left_out = sum((one.starved or 0) + sum(one.errors.values()) + sum(one.non_2xx.values()) for one in come)
        rows.append((str(case), "pipeline" if case.inline else "wait", f"{min(served)} of {_CLIENTS}",
                     f"{min(index):.3f}", f"{median(sum(one['answers']) / one['seconds'] for one in mine):,.0f}",
                     f"{sum(one.ok for one in come):,}", f"{max(one.p99_ms for one in come):.1f}", f"{longest:.1f}",
                     str(left_out), ""))
        if case.inline == "always":
            findings.append(Finding(max(served) < _CLIENTS, f"{case}: clients that pipeline keep the others out",
                                    f"{max(served)} of {_CLIENTS} clients served"))
        elif case.model.endswith("hold"):
            findings.append(Finding(max(served) < _CLIENTS, f"{case}: it serves as many clients as it has threads, and "
                                    "the others starve", f"{max(served)} of {_CLIENTS} clients served"))
        else:
            fair = min(served) == _CLIENTS and min(index) > _FAIR
            findings.append(Finding(fair, f"{case}: every client is served, and Jain's index is over {_FAIR}",
                                    f"{min(served)} of {_CLIENTS} clients, index {min(index):.4f}"))
            if not case.inline:
                findings.append(Finding(
                    longest <= _LONGEST_WAIT and not left_out,
                    f"{case}: at half load no newcomer waits for more than {_LONGEST_WAIT:.0f} ms",
                    f"the longest {longest:.1f} ms of {sum(one.ok for one in come):,}, {left_out} not answered"))
    notes = [("Clients, index and newcomers: the worst of all rounds. Newcomers come at half load, to those who "
              "pipeline at full load. Left out: newcomers without an answer.")]
    return Report(grid(rows), findings, notes, runs)


def _one(case: _Case, options: Options, progress: Progress) -> dict[str, Any]:
    with step(progress, str(case)) as outcome:
        arguments = ["--sleep", str(_SLEEP_MS), *(["--inline", case.inline] if case.inline else [])]
        with serving(case.model, _THREADS, *arguments) as server:
            if case.inline:
                flooded, newcomers = _flood(server, options.seconds)
                answers, seconds = flooded.answers, flooded.seconds
            else:
                [full] = measure(server, [Load(_CLIENTS)], options.seconds)
                answers, seconds = full.answers, full.seconds
                half = Load(_CLIENTS, pause_ms=1e3 * _CLIENTS / (sum(answers) / seconds / 2))
                _, newcomers = measure(server, [half, _NEWCOMERS], options.seconds)
        outcome.append(f"{sum(count > 0 for count in answers)} of {_CLIENTS} served, Jain {fairness(answers):.3f}; "
                       f"newcomers wait for up to {newcomers.max_ms:.0f} ms")
        return {"case": str(case), "answers": answers, "seconds": seconds, "newcomers": asdict(newcomers)}


def _flood(server: Server, seconds: float) -> tuple[Flooded, Result]:
    with (running(["bench.clients.flood", "--port", str(server.port), "--connections", str(_CLIENTS), "--warmup",
                   str(WARMUP), "--duration", str(seconds)], cores()[1]) as flood,
          loading(server, _NEWCOMERS, seconds) as newcomers):
        told = json.loads(newcomers.line(WARMUP + seconds + 30))
        return Flooded(**json.loads(flood.line(WARMUP + seconds + 30))), Result(**told)
