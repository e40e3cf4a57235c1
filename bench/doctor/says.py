"""What the facts of a machine mean for the lab, in lines: OK, NOTE (to know when figures are read), LACKS (with a fix).

Made of facts alone. A line that is `fatal` says that not even `make compare` can run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from bench.doctor.facts import TOOLS, Facts
from bench.doctor.noise import Quiet
from bench.lab.statistics import t_quantile

__all__ = ["Line", "of_facts", "of_quiet", "smallest_difference"]

_CONNECTIONS = 400
"""The most that a preset asks for by default."""
_LEAST_FILES, _MANY_FILES = 300, 11_000
"""What `make compare` takes in one process; and the crowd of `make scale`."""
_BACKLOG = 1024
_GOOD_CLOCKS = ("tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page")
"""Those that are read without a system call."""
_BLOCKS = (3, 5, 10)


@dataclass(frozen=True)
class Line:
    kind: str
    """"OK", "NOTE" or "LACKS"."""
    text: str
    fatal: bool = False

    def __str__(self) -> str:
        return f"{self.kind:<5}  {self.text}"


def of_facts(facts: Facts) -> Iterator[Line]:
    """What is there and what is allowed; then what this machine can show, and what not."""
    yield from _needs(facts)
    yield from _tools(facts)
    yield from _interpreters(facts)
    yield from _limits(facts)
    yield from _cores(facts)
    yield from _clocks(facts)


def of_quiet(facts: Facts, quiet: Quiet) -> Iterator[Line]:
    """What its noise lets be seen."""
    yield _others(facts, quiet)
    differences = [f"{smallest_difference(quiet.work_scatter, blocks):.1%} with {blocks} blocks" for blocks in _BLOCKS]
    yield Line("OK" if quiet.work_scatter < 0.03 else "NOTE",
               f"The same work takes {quiet.work_scatter:.1%} more or less from one tenth of a second to the next "
               f"({quiet.cpu_scatter:.1%} of CPU). So a difference in answers a second is hardly told from chance "
               f"below {', '.join(differences)}: more --blocks, or longer runs, show less.")
    yield Line("OK" if quiet.longest_gap_ms < 1 and quiet.lost < 0.02 else "NOTE",
               f"A process that never waits was stopped for up to {quiet.longest_gap_ms:.2f} ms, and "
               f"{quiet.gaps_per_s:,.0f} times a second for more than 20 us: {quiet.lost:.1%} of the time. The longest "
               "latencies of every model have that in them: do not compare what is shorter.")
    yield Line("OK" if quiet.late_p99_us < 500 else "NOTE",
               f"A sleep of 1 ms ends {quiet.late_us:,.0f} us late, one in a hundred {quiet.late_p99_us:,.0f} us: by "
               "so much handlers sleep longer, and requests at a rate begin later, than asked for.")
    yield _wake_up(facts, quiet)


def smallest_difference(scatter: float, blocks: int) -> float:
    """As a share: what a comparison of two cells with so many runs each does not tell from chance, at 95 %.

    Half the confidence interval of a mean of ratios, Student's t: `bench.lab.statistics`. scatter: of one run.
    """
    return t_quantile(blocks - 1) * math.sqrt(2 / blocks) * scatter


def _needs(facts: Facts) -> Iterator[Line]:
    if facts.h11 is None:
        yield Line("LACKS", "h11, without which there is no server. Fix: pip install -e .", fatal=True)
    if not facts.loopback:
        yield Line("LACKS", "Nothing can be listened on at 127.0.0.1, where all servers under test are. Fix: ip link "
                   "set lo up, or allow it in the container", fatal=True)
    for extra, packages in facts.packages.items():
        missing = [name for name, version in packages.items() if version is None]
        there = ", ".join(f"{name} {version}" for name, version in packages.items() if version is not None)
        if missing:
            without = "no figures" if extra == "bench" else "fewer servers to compare with"
            fix = "pip install -e '.[bench]'" if extra == "bench" else \
                "make speed installs them; bjoern and fastwsgi take apt install build-essential libev-dev"
            yield Line("LACKS", f"Packages [{extra}]: {', '.join(missing)}: {without}. Fix: {fix}"
                       + (f". There are {there}" if there else ""))
        else:
            yield Line("OK", f"Packages [{extra}]: {there}")


def _tools(facts: Facts) -> Iterator[Line]:
    there = [name for name, path in facts.tools.items() if path]
    if there:
        yield Line("OK", f"Tools: {', '.join(there)}")
    for name, path in facts.tools.items():
        if not path:
            yield Line("LACKS", f"{name} ({TOOLS[name].purpose}). Fix: {TOOLS[name].get}")


def _interpreters(facts: Facts) -> Iterator[Line]:
    for one in facts.interpreters:
        what = f"Python {one.version}{', without a GIL' if one.free_threaded else ''}: {one.path}"
        if not one.missing(("h11",)):
            yield Line("OK", f"{what}, for --python")
        else:
            yield Line("NOTE", f"{what}, which has no h11: enough for micro, not to serve. Fix: {one.path} -m venv "
                       "DIR, then DIR/bin/pip install h11 httptools, and --python DIR/bin/python")
    if facts.gil and not any(one.free_threaded for one in facts.interpreters):
        yield Line("LACKS", "A Python without a GIL, in which handlers that compute run at once. Fix: build 3.14 or "
                   "later with ./configure --disable-gil, or install python3.14t if there is a package")


def _limits(facts: Facts) -> Iterator[Line]:
    files = facts.open_files
    if files is None or files >= _MANY_FILES:
        yield Line("OK", f"Open files: {'no limit' if files is None else f'{files:,}'}")
    elif files >= _LEAST_FILES:
        yield Line("LACKS", f"Open files: {files:,}. {_MANY_FILES:,} for 10,000 idle connections (make scale). Fix: "
                   "raise the hard limit (ulimit -Hn; /etc/security/limits.conf)")
    else:
        yield Line("LACKS", f"Open files: {files:,}, too few for 100 connections. Fix: raise the hard limit (ulimit "
                   "-Hn; /etc/security/limits.conf)", fatal=True)
    if facts.threads is not None and facts.threads < 2 * _CONNECTIONS:
        yield Line("LACKS", f"Threads: {facts.threads:,}. A thread for each of {_CONNECTIONS} connections will not do. "
                   "Fix: raise ulimit -u, or pids.max of the control group")
    else:
        yield Line("OK", f"Threads: {'no limit' if facts.threads is None else f'{facts.threads:,}'}")
    if facts.somaxconn is not None and facts.somaxconn < _BACKLOG:
        yield Line("NOTE", f"somaxconn is {facts.somaxconn}: of more connections at once some wait a second for their "
                   f"next SYN. Fix: sysctl -w net.core.somaxconn={_BACKLOG * 4}")
    elif facts.somaxconn is not None:
        yield Line("OK", f"somaxconn: {facts.somaxconn:,}")
    if facts.ports is not None:
        yield _ports(facts.ports, facts.tcp_tw_reuse)


def _ports(ports: int, reuse: int | None) -> Line:
    """A closed connection holds its ports for 60 s (TCP_TIMEWAIT_LEN), or 1 s where they may be taken again (ip-sysctl:
    tcp_tw_reuse; 2, on loopback only, is the default since Linux 4.19)."""
    if reuse == 0:
        return Line("NOTE", f"Ports: {ports:,}, each taken for 60 s: more than {ports / 60:,.0f} connections a second "
                    "run out of them after a while. Fix: sysctl -w net.ipv4.tcp_tw_reuse=2")
    if ports < 10_000:
        return Line("NOTE", f"Ports: {ports:,}, few without keep-alive. Fix: sysctl -w net.ipv4.ip_local_port_range="
                    "'20000 60999'")
    return Line("OK", f"Ports: {ports:,}" + ("" if reuse is None else ", which can be taken again after a second"))


def _cores(facts: Facts) -> Iterator[Line]:
    count = len(facts.cores)
    if count == 1:
        yield Line("NOTE", "One core: server and load share it, and take from each other. Prefork, and a Python "
                   "without a GIL, cannot be seen at their best. Fix: a machine with more, or more of them for this "
                   "process (taskset -p)")
    else:
        named = ", ".join(map(str, facts.cores[:8])) + (", ..." if count > 8 else "")
        yield Line("OK", f"Cores: {count} ({named}). The server is kept to {facts.cores[0]}, the load to "
                   f"{facts.cores[1]}")
        yield Line("NOTE", "Where models are compared each server has one core: prefork, and a Python without a GIL, "
                   "are not seen at their best. "
                   + ("With two, the load would share what they take: make scale does that, for prefork" if count == 2
                      else "make scale gives prefork two"))
        if facts.cores[1] in facts.siblings:
            other = next((core for core in facts.cores if core not in facts.siblings), None)
            fix = f" Fix: taskset -c {facts.cores[0]},{other} python -m bench ..." if other is not None else ""
            yield Line("NOTE", f"Cores {facts.cores[0]} and {facts.cores[1]} are threads of one physical core: the "
                       f"load slows down the server.{fix}")
    if facts.quota is not None and facts.quota < count:
        yield Line("NOTE", f"The control group may use {facts.quota:g} of {count} cores, and is stopped for the rest "
                   "of each period when it has: latencies of tens of ms come from that. Fix: raise cpu.max")


def _clocks(facts: Facts) -> Iterator[Line]:
    if facts.clock in _GOOD_CLOCKS:
        yield Line("OK", f"Clock: {facts.clock}")
    elif facts.clock:
        yield Line("NOTE", f"Clock: {facts.clock}, which takes a system call to read: measuring costs more. Fix: "
                   "clocksource=tsc for the kernel, if the processor has a steady one")
    if facts.governor in (None, "performance"):
        yield Line("OK", "Frequency: " + (f"governor {facts.governor}" if facts.governor else "not for this system to "
                                          "set"))
    else:
        yield Line("NOTE", f"Frequency: governor {facts.governor}: what is idle becomes slow, so that a low load looks "
                   "dear. Fix: cpupower frequency-set --governor performance")


def _others(facts: Facts, quiet: Quiet) -> Line:
    stolen = "" if not facts.steal or facts.steal < 0.001 else \
        f" Since its start the hypervisor has given {facts.steal:.1%} of this machine's time to others."
    said = (f"Others had {quiet.others:.1%} of the server's core in this test, and the time of "
            f"{quiet.others_cores:.2f} cores in all; load average {facts.load_average:.2f}.{stolen}")
    if quiet.others > 0.02 or quiet.others_cores > 0.1:
        return Line("NOTE", f"{said} Fix: end what else computes here, or wait until it has ended")
    return Line("OK", said)


def _wake_up(facts: Facts, quiet: Quiet) -> Line:
    if quiet.idle_us is None or quiet.awake_us is None:
        return Line("NOTE", "With one core the price of waking another cannot be measured")
    more = quiet.idle_us - quiet.awake_us
    whose = "the hypervisor's" if facts.hypervisor else "the processor's"
    if more < 0.3 * quiet.awake_us:
        return Line("OK", f"A core that idles answers in {quiet.idle_us:,.0f} us, one that is awake in "
                    f"{quiet.awake_us:,.0f}: waking costs little here")
    fix = "" if facts.hypervisor else ". Fix: idle=poll for the kernel, if it is worth the power"
    return Line("NOTE", f"A core that idles answers in {quiet.idle_us:,.0f} us, one that is awake in "
                f"{quiet.awake_us:,.0f}. So of latencies at a low load about {more:,.0f} us are {whose} wake-up, "
                f"whoever serves: they tell nothing of a model{fix}")
