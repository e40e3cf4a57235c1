"""Tell systemd how the service fares: sd_notify(3), for units with Type=notify."""

from __future__ import annotations

import logging
import os
import socket

__all__ = ["notify", "watchdog_interval"]

logger = logging.getLogger("acceptor")


def notify(*assignments: str) -> bool:
    """Send "READY=1", "STOPPING=1" and the like to the socket in $NOTIFY_SOCKET; False if there is none.

    Any thread; does not block for longer than the manager takes to read. What goes wrong is logged: a service must not
    fail because nobody listens.
    """
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return False
    if path.startswith("@"):  # unix(7): the abstract namespace
        path = "\0" + path[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.connect(path)
            sock.sendall("\n".join(assignments).encode())
    except OSError as error:
        logger.warning("cannot tell systemd %s at NOTIFY_SOCKET=%s: %s", assignments[0], path, error)
        return False
    return True


def watchdog_interval() -> float | None:
    """Seconds after which systemd wants to hear WATCHDOG=1 again, halved as sd_watchdog_enabled(3) advises; None if it
    does not, or wants it of another process."""
    microseconds, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not microseconds.isdigit() or int(microseconds) == 0 or pid not in ("", str(os.getpid())):
        return None
    return int(microseconds) / 2e6
