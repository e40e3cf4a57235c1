"""What a machine has and allows, as far as the lab needs it: tools, packages, interpreters, cores, limits."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import resource
import shutil
import socket
import sysconfig
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.children import ROOT
from bench.interpreters import Interpreter, ask

__all__ = ["TOOLS", "Facts", "Tool", "cgroup_file", "gather", "interpreters", "numbers", "packages_of", "quota_of",
           "steal_of"]


@dataclass(frozen=True)
class Tool:
    purpose: str
    get: str
    """How to get it."""


TOOLS = {
    "wrk": Tool("--generator wrk, make speed, threads, regress", "Debian has it: apt install wrk"),
    "hey": Tool("--generator hey", "Debian has it: apt install hey"),
    "h2load": Tool("--generator h2load", "Debian has it: apt install nghttp2-client"),
    "autocannon": Tool("--generator autocannon", "npm has it: npm install --global autocannon"),
    "sbcl": Tool("the original, Hunchentoot, as a peer", "Debian has both: apt install sbcl cl-hunchentoot"),
    "strace": Tool("system calls: make threads", "Debian has it: apt install strace"),
    "valgrind": Tool("counts instructions: make steps ARGS=--instructions", "Debian has it: apt install valgrind"),
    "chromium": Tool("a browser, to look at reports and pages", "Debian has it: apt install chromium"),
}
OLDEST = (3, 11)
"""Python that can run a server."""
_NEEDED = ("h11",)


@dataclass(frozen=True)
class Facts:
    """Numbers are None where the system does not tell."""

    tools: Mapping[str, str | None]
    """Where each is."""
    packages: Mapping[str, Mapping[str, str | None]]
    """By extra, the version of each package."""
    h11: str | None
    gil: bool
    """This interpreter has one."""
    interpreters: Sequence[Interpreter]
    """Besides this one, that can run a server."""
    cores: Sequence[int]
    """That this process may use."""
    siblings: Sequence[int]
    """The threads of the first core's physical core, itself included."""
    quota: float | None
    """Cores' worth of time that the control group may use; None: no such limit."""
    hypervisor: bool
    clock: str | None
    governor: str | None
    steal: float | None
    """The share of the machine's time that the hypervisor has given to others since the start."""
    load_average: float
    """Of the last minute."""
    open_files: int | None
    """That a process may ask for; None: as many as it likes."""
    threads: int | None
    """That all processes of this user, or of this control group, may have."""
    somaxconn: int | None
    ports: int | None
    """That connections may come from."""
    tcp_tw_reuse: int | None
    loopback: bool
    """It can be listened on."""


def gather() -> Facts:
    """Takes a second or so: each interpreter is asked."""
    usable = sorted(os.sched_getaffinity(0))
    cpu = f"/sys/devices/system/cpu/cpu{usable[0]}"
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    tasks = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    group = read("/proc/self/cgroup")
    kernel = [first(numbers(read(f"/proc/sys/kernel/{name}"))) for name in ("threads-max", "pid_max")]
    ports = numbers(read("/proc/sys/net/ipv4/ip_local_port_range"))
    return Facts(
        tools={name: shutil.which(name) for name in TOOLS},
        packages={extra: {name: version(name) for name in names} for extra, names in _extras().items()},
        h11=version("h11"),
        gil=not sysconfig.get_config_var("Py_GIL_DISABLED"),
        interpreters=interpreters(_candidates()),
        cores=usable,
        siblings=numbers(read(f"{cpu}/topology/thread_siblings_list"), ranges=True) or usable[:1],
        quota=quota_of(read(cgroup_file(group, "cpu.max"))),
        hypervisor=bool(re.search(r"^flags\s*:.*\bhypervisor\b", read("/proc/cpuinfo"), re.MULTILINE)),
        clock=read("/sys/devices/system/clocksource/clocksource0/current_clocksource").strip() or None,
        governor=read(f"{cpu}/cpufreq/scaling_governor").strip() or None,
        steal=steal_of(read("/proc/stat")),
        load_average=os.getloadavg()[0],
        open_files=None if hard == resource.RLIM_INFINITY else hard,
        threads=min((limit for limit in (*kernel, None if tasks == resource.RLIM_INFINITY else tasks,
                                         first(numbers(read(cgroup_file(group, "pids.max"))))) if limit), default=None),
        somaxconn=first(numbers(read("/proc/sys/net/core/somaxconn"))),
        ports=ports[1] - ports[0] + 1 if len(ports) == 2 else None,
        tcp_tw_reuse=first(numbers(read("/proc/sys/net/ipv4/tcp_tw_reuse"))),
        loopback=_loopback(),
    )


def numbers(text: str, ranges: bool = False) -> list[int]:
    """All whole numbers in it; ranges: "0-2,5" has 0, 1, 2 and 5, as /sys writes sets of cores."""
    if not ranges:
        return [int(word) for word in re.findall(r"\d+", text)]
    found: list[int] = []
    for low, high in re.findall(r"(\d+)(?:-(\d+))?", text):
        found += range(int(low), int(high or low) + 1)
    return found


def first(values: Sequence[int]) -> int | None:
    return values[0] if values else None


def cgroup_file(text: str, name: str) -> str:
    """Where the limit `name` of this process is, from /proc/self/cgroup: cgroups(7), version 2 only."""
    group = re.search(r"^0::(/.*)$", text, re.MULTILINE)
    return f"/sys/fs/cgroup{group[1].rstrip('/')}/{name}" if group else ""


def quota_of(text: str) -> float | None:
    """Cores, from cpu.max: "150000 100000" is 1.5, "max 100000" none."""
    found = re.fullmatch(r"(\d+) (\d+)", text.strip())
    return int(found[1]) / int(found[2]) if found and int(found[2]) else None


def steal_of(text: str) -> float | None:
    """From /proc/stat (proc(5)): of all time of all cores, what other guests had."""
    found = re.match(r"cpu +(.*)", text)
    ticks = numbers(found[1])[:8] if found else []
    total = sum(ticks)
    return ticks[7] / total if len(ticks) == 8 and total else None


def packages_of(project: Mapping[str, Any], extra: str) -> list[str]:
    """The packages of an extra in a parsed pyproject.toml, those of extras that it refers to included."""
    name, extras = project["project"]["name"], project["project"]["optional-dependencies"]
    found: list[str] = []
    for requirement in extras[extra]:
        if inner := re.match(rf"{re.escape(name)}\[([^]]+)\]", requirement):
            for other in inner[1].split(","):
                found += packages_of(project, other.strip())
        else:
            found.append(re.split(r"[^A-Za-z0-9._-]", requirement)[0])
    return list(dict.fromkeys(found))


def interpreters(paths: Iterable[str]) -> list[Interpreter]:
    """Those that run, each version and build once, without this one, and without those too old to run a server."""
    found: dict[tuple[str, bool], Interpreter] = {}
    for path in paths:
        try:
            one = ask(path)
        except ValueError:
            continue  # it is not what its name says, or too old to understand the question
        same = found.get((one.version, one.free_threaded))
        if one.number >= OLDEST and (same is None or (same.missing(_NEEDED) and not one.missing(_NEEDED))):
            found[one.version, one.free_threaded] = one
    found.pop((platform.python_version(), bool(sysconfig.get_config_var("Py_GIL_DISABLED"))), None)
    return sorted(found.values(), key=lambda one: (one.number, one.version, one.free_threaded))


def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def read(path: str) -> str:
    """Empty if there is no such file."""
    try:
        return Path(path).read_text(errors="replace") if path else ""
    except OSError:
        return ""


def _extras() -> dict[str, list[str]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return {"bench": packages_of(project, "bench"),
            "peers": [*packages_of(project, "peers"), "bjoern", "fastwsgi"]}  # these two are built by the Makefile


def _candidates() -> list[str]:
    """Where interpreters are usually found: on the path, and where pyenv keeps them. Without those whose name says that
    they are too old, and without pyenv's shims, which take longer than all the rest and lead to the same."""
    folders = dict.fromkeys(os.path.realpath(folder) for folder in os.get_exec_path())
    found = [path for folder in folders for path in sorted(Path(folder).glob("python3*"))
             if Path(folder).name != "shims" and re.fullmatch(r"python3(\.\d+t?)?", path.name)]
    found += sorted(Path.home().glob(".pyenv/versions/*/bin/python"))
    return [str(path) for path in found if not _too_old(path.name) and not _too_old(f"python{path.parent.parent.name}")]


def _too_old(name: str) -> bool:
    """Of "python3.9" and "python2.7.18"; not of what does not say its version."""
    said = re.match(r"python(\d+)\.(\d+)", name)
    return said is not None and (int(said[1]), int(said[2])) < OLDEST


def _loopback() -> bool:
    try:
        with socket.create_server(("127.0.0.1", 0)):
            return True
    except OSError:
        return False
