"""Machines of the test's own: network namespaces, joined by a bridge that leads nowhere else.

    with network("192.0.2.1", {"app1": "192.0.2.11"}) as net:
        subprocess.Popen([*net.on("app1"), "taskmaster", "serve", ...])

The bridge is in the first namespace, the front, and not in the machine's own: nothing that is sent here can leave. It
needs root, and the command ip(8).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

__all__ = ["FRONT", "Network", "network", "why_not"]

FRONT = "front"


@dataclass(frozen=True)
class Network:
    names: Mapping[str, str]
    """Of each host the name that its namespace has on this machine."""

    def on(self, host: str) -> list[str]:
        """What to write before a command so that it runs on `host`. The command becomes this process: ip-netns(8)."""
        return ["ip", "netns", "exec", self.names[host]]


def why_not() -> str:
    """Why there can be no network here, and what to do; "" if there can."""
    if shutil.which("ip") is None:
        return "the command ip is not installed; try: apt-get install iproute2"
    if os.geteuid() != 0:
        return "network namespaces need root; run it as root"
    return ""


@contextlib.contextmanager
def network(address: str, hosts: Mapping[str, str]) -> Iterator[Network]:
    """The front at `address`, and `hosts`, each with its address, all of one /24. Removed at the end, in every case.

    Processes on it should have ended by then: a namespace lives as long as the last of them. RuntimeError, with what
    ip(8) said, if one cannot be made.
    """
    net = Network({host: f"taskmasters-{os.getpid()}-{host}" for host in (FRONT, *hosts)})
    front = net.names[FRONT]
    with contextlib.ExitStack() as stack:
        for name in net.names.values():
            _ip("netns", "add", name)
            stack.callback(_ip, "netns", "delete", name)  # its interfaces go with it
            _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", front, "link", "add", "bridge", "type", "bridge")
        _ip("-n", front, "address", "add", f"{address}/24", "dev", "bridge")
        _ip("-n", front, "link", "set", "bridge", "up")
        for host, its_address in hosts.items():
            name = net.names[host]
            _ip("-n", front, "link", "add", f"to-{host}", "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("-n", front, "link", "set", f"to-{host}", "master", "bridge", "up")
            _ip("-n", name, "address", "add", f"{its_address}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
        yield net


def _ip(*arguments: str) -> None:
    run = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {run.stderr.strip()}")
