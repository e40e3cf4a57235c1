"""Several models side by side, under the same load, on one page: `taskmaster watch --compare thread,pool,recycling`.

Each model is an acceptor in a process of its own (`watching.child`), so that none waits for another's GIL; the clients
are in one more (`watching.load`). This process asks the control servers of all, which listen on UNIX sockets in a
directory that only this user may enter, and has the page.

    browser --- this process --- unix:.../0 --- thread     <--+
                      |    +---- unix:.../1 --- pool       <--+-- clients
                      |    +---- unix:.../2 --- recycling  <--+
                      +------------------------------------------- clients, told what to do
"""

from __future__ import annotations

import queue
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acceptor.signals import SIGNALS_EVERY, handled_signals
from watching.children import Child
from watching.gather import say_where
from watching.load import CLIENTS, SLEEP_MS, THINK_MS, Clientele
from watching.remote import RemoteSource
from watching.server import ControlServer

__all__ = ["CompareError", "Comparison"]

_START = 30.0
"""Seconds that the models may take to start: an application may have much to import."""


class CompareError(Exception):
    """It cannot start: why, for the person who wanted it to."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What to compare. `run` does, until a signal."""

    models: Sequence[str]
    """Names as for `taskmaster serve --taskmaster`."""
    clients: int = CLIENTS
    keep_alive: bool = False
    sleep_ms: float = SLEEP_MS
    think_ms: float = THINK_MS
    threads: str | None = None
    """As for `taskmaster serve --threads`; None: what each model has by itself."""
    app: str | None = None
    """"module:attribute" of what to serve; None: a handler that sleeps as asked."""
    bind: str = "127.0.0.1:0"
    """Where the page is."""
    open: bool = False
    """In a browser."""

    def run(self) -> int:
        """On the main thread; the exit code. CompareError if it cannot start."""
        folder = Path(tempfile.mkdtemp(prefix="taskmaster-"))  # mode 0700: mkdtemp(3)
        try:
            return _Run(self, folder).run()
        finally:
            shutil.rmtree(folder, ignore_errors=True)


class _Run:
    def __init__(self, comparison: Comparison, folder: Path) -> None:
        self._comparison = comparison
        self._folder = folder
        self._news: queue.SimpleQueue[tuple[Child | None, Any]] = queue.SimpleQueue()
        """(who, what it has said, or None if it has ended); (None, None): a signal says stop."""
        self._servers: dict[Child, RemoteSource] = {}
        """The models that run, in their order."""
        self._children: list[Child] = []

    def run(self) -> int:
        with handled_signals(lambda: self._news.put((None, None)), self._cut, None):
            try:
                self._start()
                listens = self._wait_until_they_listen()
                return self._serve(listens) if listens else 0
            finally:
                for child in self._children:
                    child.let_go()
                for child in self._children:
                    child.join()
                for source in self._servers.values():
                    source.close()

    def _cut(self) -> None:
        """A second signal: do not wait for them."""
        for child in self._children:
            child.kill()

    def _start(self) -> None:
        """All processes at once: they take half a second each, and there may be several processors."""
        asked = self._comparison
        options = {name: value for name, value in (("app", asked.app), ("threads", asked.threads)) if value is not None}
        for number, (model, label) in enumerate(zip(asked.models, _labels(asked.models), strict=True)):
            child = Child("watching.child", label, heard=lambda child, said: self._news.put((child, said)),
                          ended=lambda child: self._news.put((child, None)))
            self._children.append(child)
            address = f"unix:{self._folder / str(number)}"
            child.say({"options": options | {"taskmaster": model}, "control": address, "label": label})
            self._servers[child] = RemoteSource(address, label)

    def _wait_until_they_listen(self) -> list[str]:
        """The addresses of all; empty if a signal has come."""
        listens: dict[Child, str] = {}
        while len(listens) < len(self._children):
            child, said = self._next(_START)
            if child is None:
                return []
            if said is None:
                raise CompareError(f"{child.name} has ended before it could serve ({child.end})")
            if "error" in said:
                raise CompareError(f"{child.name}: {said['error'].replace('--taskmaster', '--compare')}")
            listens[child] = said["listens"]
        return [listens[child] for child in self._children]

    def _serve(self, listens: list[str]) -> int:
        asked = self._comparison
        load = Clientele(listens, clients=asked.clients, keep_alive=asked.keep_alive, sleep_ms=asked.sleep_ms,
                         think_ms=asked.think_ms, ended=lambda child: self._news.put((child, None)))
        try:
            with ControlServer(list(self._servers.values()), asked.bind, load=load) as control:
                say_where(control.url, asked.open)
                while True:
                    child, said = self._next(None)
                    if child is None:
                        return 0
                    if said is None:
                        self._has_ended(child, control)
                    if not self._servers:
                        raise CompareError("no model is left")
        except OSError as error:
            raise CompareError(error.strerror or str(error)) from None
        finally:
            load.stop()

    def _has_ended(self, child: Child, control: ControlServer) -> None:
        print(f"{child.name} (process {child.process}) has ended: {child.end}", file=sys.stderr, flush=True)
        if (source := self._servers.pop(child, None)) is not None:
            control.show(list(self._servers.values()))
            source.close()

    def _next(self, patience: float | None) -> tuple[Child | None, Any]:
        """What comes next. CompareError if nothing does."""
        while True:
            try:
                return self._news.get(timeout=SIGNALS_EVERY if patience is None else patience)
            except queue.Empty:
                if patience is not None:
                    raise CompareError(f"not all models serve after {patience:g} s") from None


def _labels(models: Iterable[str]) -> list[str]:
    """As they were written, "pool" or "shop.models:Mine", for the name of a class is its model's too; and "pool 2"."""
    seen: Counter[str] = Counter()
    labels = []
    for name in models:
        seen[name] += 1
        labels.append(name if seen[name] == 1 else f"{name} {seen[name]}")
    return labels
