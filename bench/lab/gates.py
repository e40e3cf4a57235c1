"""What makes a figure unfit to be compared with others. A cell that fails a gate is drawn hollow, and says why.

Gates look at one run. They are about the figure, not about the server: a server that answers 503 is not wrong, but its
responses a second are not those of one that answers.
"""

from __future__ import annotations

from bench.clients.result import Result

__all__ = ["GENERATOR_BOUND", "NOISY", "flaws_of", "notes_of"]

GENERATOR_BOUND = 0.9
"""Share of its core above which it is the generator that was measured."""
NOISY = 0.1
"""Share of the server's core that others had, above which a run says little."""
_LITTLE = 0.5


def flaws_of(load: Result, connections: int) -> list[str]:
    """Why these figures must not be compared with others of the same load; empty if they may.

    By Little's law (Little, "A Proof for the Queuing Formula L = lambda W", Operations Research 9(3), 1961) throughput
    times mean latency is the number of requests in progress. In a closed loop these are the connections; where they are
    fewer than half, most clients are waiting where no latency shows it.
    """
    said = []
    if load.starved:
        said.append(f"{load.starved} of {connections} clients got no answer at all")
    said += [f"{count:,} responses {status}" for status, count in sorted(load.non_2xx.items())]
    said += [f"{count:,} {kind}" for kind, count in sorted(load.errors.items())]
    little = load.ok / load.seconds * load.mean_ms / 1e3
    if not load.ok:
        said.append("no answer at all")
    elif little < _LITTLE * connections:
        said.append(f"X·R is {little:.1f} with {connections} connections")
    return said


def notes_of(load: Result, others: float) -> list[str]:
    """What disturbs a figure, without making it another one."""
    said = []
    if load.generator_share > GENERATOR_BOUND:
        said.append(f"generator-bound ({load.generator_share:.0%} of its core)")
    if others > NOISY:
        said.append(f"others had {others:.0%} of the server's core")
    return said
