"""--control: a server beside the one that serves, on an address of its own, that shows what that does (`watching`).

That package is imported only if it is asked for.
"""

from __future__ import annotations

import importlib.util
import logging
from typing import TYPE_CHECKING

from acceptor import Acceptor
from acceptor.cli.configuration import Configuration
from acceptor.cli.errors import ConfigurationError

if TYPE_CHECKING:
    from watching import ControlServer
    from watching.processes import ProcessesControl

__all__ = ["Control"]

logger = logging.getLogger("acceptor")


class Control:
    """What --control asks for; without it, nothing, and all calls do nothing. ConfigurationError if it cannot be."""

    def __init__(self, configuration: Configuration) -> None:
        self._bind: str | None = configuration["control"]
        self._token: str | None = configuration["control-token"]
        self._server: ControlServer | ProcessesControl | None = None
        if self._bind is None:
            if self._token is not None and configuration.on_command_line("control-token"):
                raise ConfigurationError(f"{configuration.where('control-token')}: there is no control server without "
                                         "--control; give both")
            return
        from watching import ControlServer

        try:
            ControlServer([], self._bind, token=self._token)
        except ValueError as error:
            message = str(error).replace(f"bind={self._bind!r} can be", "it can be")
            option = "control-token" if message.startswith("token: ") else "control"
            said = configuration.where(option) if option == "control-token" else configuration.said(option)
            message = message.removeprefix("token: ").replace("pass a token", "give --control-token").replace(
                "pass at least", "write at least")
            raise ConfigurationError(f"{said}: {message}") from None

    def make(self, acceptor: Acceptor) -> None:
        """Before `acceptor` is started, and forks."""
        if self._bind is not None:
            from watching import control_for

            self._server = control_for(acceptor, self._bind, self._token)

    def start(self) -> None:
        """OSError if the address cannot be had. Once the acceptor accepts connections."""
        if self._server is None:
            return
        self._server.start()
        name = self._server.name
        logger.info("to watch it: taskmaster top %s%s", name,
                    "" if name.startswith("unix:") else f", or http://{name} in a browser")
        if importlib.util.find_spec("prometheus_client") is None:
            logger.warning("--control has no /metrics, which need prometheus_client; say: pip install "
                           "'taskmasters[watch]'")

    def stop(self) -> None:
        """Nothing of it is left when this returns. A second call does nothing."""
        server, self._server = self._server, None
        if server is not None:
            server.stop()
