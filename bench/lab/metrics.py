"""The figures of a run that can be compared: what each is called, its unit, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["METRICS", "Metric"]


@dataclass(frozen=True)
class Metric:
    label: str
    """As a column's head."""
    unit: str
    better: str
    """"higher", "lower", or "neither": it tells something, but is no merit."""
    digits: int = 0
    """Behind the point."""

    def said(self, value: float) -> str:
        """The number alone, as it is printed everywhere: "12,345.6"."""
        return f"{value:,.{self.digits}f}"

    @property
    def title(self) -> str:
        """For over a figure: "CPU for a response, us: lower is better"."""
        unit = f", {self.unit}" if self.unit else ""
        return f"{self.label}{unit}" + ("" if self.better == "neither" else f": {self.better} is better")


METRICS = {
    "ok_per_s": Metric("2xx responses a second", "", "higher"),
    "cpu_us": Metric("server CPU for a response", "us", "lower", 1),
    "p50_ms": Metric("p50", "ms", "lower", 2),
    "p99_ms": Metric("p99", "ms", "lower", 2),
    "p999_ms": Metric("p99.9", "ms", "lower", 2),
    "max_ms": Metric("longest", "ms", "lower", 1),
    "little": Metric("X·R: requests in progress", "", "neither", 1),
    "threads": Metric("threads, at most", "", "neither"),
    "served": Metric("clients served", "", "higher"),
    "jain": Metric("Jain's index of fairness", "", "higher", 3),
    "newcomer_p99_ms": Metric("newcomers' p99", "ms", "lower", 1),
    "newcomer_max_ms": Metric("newcomers' longest wait", "ms", "lower", 1),
    "left_out_percent": Metric("newcomers left out", "%", "lower", 1),
    "cpu_percent": Metric("server's CPU, of one core", "%", "neither"),
    "late_p99_ms": Metric("probe late by (p99)", "ms", "neither", 3),
    "slow_served": Metric("slow clients served", "", "higher"),
    "low_ok_per_s": Metric("2xx responses a second before the step", "", "higher"),
    "high_ok_per_s": Metric("2xx responses a second in it", "", "higher"),
    "after_ok_per_s": Metric("2xx responses a second after it", "", "higher"),
    "step_p99_ms": Metric("p99 in its first second", "ms", "lower", 1),
    "grown_s": Metric("threads grown after", "s", "lower", 2),
    "shrunk_s": Metric("threads gone after", "s", "lower", 2),
    "recovered_s": Metric("p99 as before after", "s", "lower", 2),
    "queued": Metric("server's queue, at most", "", "neither"),
    "kernel_queue": Metric("kernel's queue, at most", "", "neither"),
    "kernel_waiting": Metric("waiting in it, once settled", "", "neither"),
    "parked": Metric("parked, once settled", "", "neither"),
    "unseen": Metric("waiting unseen", "", "neither"),
    "busiest_percent": Metric("busiest thread's share", "%", "neither", 1),
    "threads_used": Metric("threads that served", "", "neither"),
    "switches": Metric("changes of thread", "", "neither"),
    "spins_per_s": Metric("computing handlers' responses a second", "", "higher", 1),
}
"""A preset adds its own here, by a name that says the unit."""
