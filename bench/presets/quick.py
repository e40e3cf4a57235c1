"""`python -m bench run quick`, or `make compare`: every model, keep-alive on and off, a handler that sleeps or not."""

from __future__ import annotations

from bench.lab.preset import Options
from bench.models import MODELS
from bench.presets.matrix import MatrixPreset

__all__ = ["PRESET"]


class _Quick(MatrixPreset):
    name = "quick"
    title = "The models side by side"
    question = (
        "A concurrency model decides which thread accepts a connection and which serves it. What does that decision "
        "cost, and what does it give? All else is held equal: the same acceptor, the same handler, the same room for "
        "connections.")
    prediction = (
        "Without keep-alive every request comes on a new connection, so the price of a connection counts: a thread for "
        "each pays for a thread start, a pool for a hand-off, recycling for neither. So recycling and pool answer at "
        "least twice as much as a thread per connection. With keep-alive a connection is accepted once and then served "
        "by one thread in every model, by the same code: the three are within 25 % of each other, if each holds its "
        "connections. Parking costs some system calls more for each request; the event loop costs the least CPU as "
        "long as its handler does not sleep; and two processes on one core give nothing.")
    method = (
        "100 clients in one process ask again as soon as they are answered (a closed loop), each on a connection of "
        "its own, with keep-alive or without; the handler sleeps 1 ms, or not at all. Every run has a fresh server on "
        "one core and a load process on another, a warm-up that does not count, and CPU time taken from the server's "
        "process clocks at both ends of what counts. Blocks of all cells, shuffled. What a closed loop hides: a client "
        "that waits asks for nothing meanwhile, so p99 flatters; the preset `open` does not.")
    defaults = Options(subjects=tuple(MODELS), blocks=2, seconds=0.8, warmup=0.3, connections=(100,),
                       sleeps_ms=(0.0, 1.0), keep_alive=(True, False))


PRESET = _Quick()
