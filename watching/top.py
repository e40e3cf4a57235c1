"""A server's threads in the terminal: `taskmaster top 127.0.0.1:9000`.

It asks the control server for a sample four times a second, and draws what it is told; see `watching.top_picture`.
"""

from __future__ import annotations

import json
import os
import sys
from time import monotonic
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from watching.asking import AskingError, Client, parse_url
from watching.top_history import History
from watching.top_keys import Keys
from watching.top_picture import Picture

__all__ = ["once", "top"]

_EVERY = 0.25
"""Seconds between two looks."""
_UNCUT = 10_000
"""Columns of a line where there is no terminal, at whose edge it would be cut."""


def once(url: str, token: str | None = None, *, as_json: bool = False, theme: str | None = None) -> None:
    """Print how it is now. AskingError if that cannot be told."""
    client = _client(url, token)
    try:
        said = client.snapshot()
    finally:
        client.close()
    if as_json:
        print(json.dumps(said, indent=2))
        return
    view = _View(client.address, theme)
    view.hear(said)
    view.console.print(view.picture(None))


def top(url: str, token: str | None = None, *, theme: str | None = None) -> None:
    """Show it until q is pressed. On the main thread, in a terminal; AskingError if it does not answer at first."""
    client = _client(url, token)
    view = _View(client.address, theme)
    try:
        view.hear(client.snapshot())
        with (Keys(sys.stdin.fileno()) as keys,
              Live(console=view.console, screen=True, auto_refresh=False, vertical_overflow="crop") as live):
            while True:
                live.update(view.picture(view.console.height), refresh=True)
                pressed = keys.wait(_EVERY)
                if "q" in pressed:
                    return
                if " " in pressed:
                    view.frozen = not view.frozen
                if not view.frozen:
                    try:
                        view.hear(client.snapshot())
                    except AskingError as error:
                        view.lose(str(error))
    except KeyboardInterrupt:
        pass
    finally:
        client.close()


class _View:
    """What has been heard, and what is to be seen of it."""

    def __init__(self, address: str, theme: str | None) -> None:
        self.console = Console(highlight=False)
        self._columns = None if self.console.is_terminal else self.console.width
        """What is broken into lines fits into so many; None: into the terminal's, as it is at the moment."""
        if self._columns is not None:
            self.console.width = _UNCUT
        self.frozen = False
        self._address = address
        self._picture = Picture(theme or _theme(), blocks=self.console.encoding.startswith("utf"))
        self._histories: dict[tuple[str, int], History] = {}
        """Of the sources that were in the last sample, by label and process."""
        self._now = 0.0
        """When that was, by the server's clock."""
        self._troubles: list[str] = []
        self._lost_at: float | None = None
        """When there was no answer for the first time; None: there is one."""

    def hear(self, said: dict[str, Any]) -> None:
        """A snapshot."""
        self._now, self._lost_at = said["time"], None
        histories = {}
        for sample in said["sources"]:
            key = sample["label"], sample["process"]
            histories[key] = self._histories.get(key) or History()
            histories[key].add(sample)
        self._histories = histories
        self._troubles = [f"{each['label']}: {each['error']}" for each in said.get("lost", [])]

    def lose(self, why: str) -> None:
        """There was no answer."""
        self._lost_at = self._lost_at or monotonic()
        self._troubles = [f"No news for {monotonic() - self._lost_at:.0f} s; trying again. {why[:1].upper()}{why[1:]}"]

    def picture(self, height: int | None) -> RenderableType:
        """In so many rows; None: once, and in as many as it takes."""
        troubles = [Text(trouble, style="bold red", no_wrap=height is not None, overflow="ellipsis")
                    for trouble in self._troubles]
        shown, width = list(self._histories.values()), self._columns or self.console.width
        legend = self._picture.legend(shown, width)
        if height is None:
            return Group(*troubles, self._picture.draw(shown, self._now, width, None), *legend)
        footer = Text(no_wrap=True, overflow="crop")
        footer.append(" frozen " if self.frozen else "", "reverse").append(" " if self.frozen else "").append(
            f"q quits, space {'goes on' if self.frozen else 'freezes'}   {self._address}", "dim")
        room = height - len(troubles) - len(legend) - 1
        return Group(*troubles, self._picture.draw(shown, self._now, width, room), *legend, footer)


def _client(url: str, token: str | None) -> Client:
    address, own = parse_url(url)
    return Client(address, own or token)


def _theme() -> str:
    """Where the terminal says by COLORFGBG what its background is, as some do: 7 and 15 are the light ones."""
    return "light" if os.environ.get("COLORFGBG", "").rpartition(";")[2] in ("7", "15") else "dark"
