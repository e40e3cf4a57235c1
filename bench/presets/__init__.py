"""The experiments that `python -m bench run` knows, each in a module of its own.

    quick     every model, keep-alive on and off, a handler that sleeps or not: three minutes. What `make compare` runs
    readme    the matrix of hunchentoot-recycling-taskmaster's README, verbatim
    open      latency at equal work: requests come at their own rate
    starve    clients that stay, and few threads: who is served, and what newcomers wait
    step      10 to 400 to 10 connections: threads and queues over time
    convoy    a handler that computes beside a tiny one: the GIL's switch interval, and processes
    accept    who gets the next connection
    slow      clients that send a byte every 10 ms
    tune      how many threads a pool should have
"""

from __future__ import annotations

import importlib

from bench.lab.preset import Preset

__all__ = ["PRESETS", "find_preset"]

PRESETS = ("quick", "readme", "open", "starve", "step", "convoy", "accept", "slow", "tune")


def find_preset(name: str) -> Preset:
    """The preset called `name`: PRESET of its module. ValueError, with the fix, if there is none."""
    if name not in PRESETS:
        raise ValueError(f"there is no preset {name!r}: choose from {', '.join(PRESETS)}")
    preset: Preset = importlib.import_module(f"bench.presets.{name}").PRESET
    return preset
