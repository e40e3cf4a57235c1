"""One page for servers that run already, and have control servers: `taskmaster watch 127.0.0.1:9000 127.0.0.1:9001`."""

from __future__ import annotations

import queue
import secrets
import webbrowser
from collections import Counter
from collections.abc import Sequence

from acceptor.signals import SIGNALS_EVERY, handled_signals
from watching.asking import AskingError, Client, parse_url
from watching.remote import RemoteSource
from watching.server import ControlServer

__all__ = ["gather", "say_where"]


def gather(urls: Sequence[str], *, token: str | None = None, bind: str = "127.0.0.1:0",
           open_browser: bool = False) -> int:
    """Show them until a signal says stop; the exit code. On the main thread.

    urls: see `watching.asking.parse_url`. token: for those whose URL has none.
    AskingError if one of them does not answer; OSError if `bind` cannot be had.
    """
    sources, secret = _found(urls, token)
    news: queue.SimpleQueue[None] = queue.SimpleQueue()
    try:
        with (handled_signals(lambda: news.put(None), lambda: None, None),
              ControlServer(sources, bind, token=secret) as control):
            say_where(control.url, open_browser)
            while True:
                try:
                    news.get(timeout=SIGNALS_EVERY)
                    return 0
                except queue.Empty:
                    pass
    finally:
        for source in sources:
            source.close()


def say_where(url: str, open_browser: bool) -> None:
    """In the terminal; and in a browser."""
    print(f"See {url}   (Ctrl+C stops)", flush=True)
    if open_browser and not webbrowser.open(url):
        print("No browser could be started here; open the address yourself.", flush=True)


def _found(urls: Sequence[str], token: str | None) -> tuple[list[RemoteSource], str | None]:
    """All that the control servers at these addresses show now; and a token, if one of them asks for one: what that
    shows is not for everybody here. AskingError."""
    found: list[tuple[str, str, str | None]] = []
    for url in urls:
        address, own = parse_url(url)
        client = Client(address, own or token)
        try:
            samples = client.snapshot()["sources"]
        finally:
            client.close()
        if not samples:
            raise AskingError(f"{address} watches no server at the moment")
        found += [(address, sample["label"], own or token) for sample in samples]
    times = Counter(label for _, label, _ in found)
    sources = [RemoteSource(address, label if times[label] == 1 else f"{label} ({address})", their_token, label)
               for address, label, their_token in found]
    return sources, secrets.token_urlsafe() if any(their_token for *_, their_token in found) else None
