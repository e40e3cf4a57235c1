"""The stage: a real taskmaster with its real threads, which move one at a time, because a script says so.

Each act (`connect`, and those of a client) goes on until nothing moves any more: a gate is opened, one thread runs to
its next gate, and so do those that it wakes; this is a *moment*, a column of the picture. `step` closes a step: it says
in words what has happened, and where everybody is; StageError if they are not, with all lanes. So a caption cannot send
anybody where they are not, and the same script gives the same picture, to the byte.

The order in which gates are opened is the stage's:

    1. whoever has just been given something goes on with it, the thread that was started first before the others
    2. a handler returns whose client the script has answered; who waits for a client that has said something, hears it
    3. accept() returns the next connection, as the real acceptor's does, to the thread that has waited for the shortest
       time (docs/waiting.md)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any

from taskmaster.base import Taskmaster, TaskmasterBusyError
from taskmaster.contract_tools import balances
from taskmaster.scripted import PATIENCE
from watching.slow_motion.cast import Cast
from watching.slow_motion.chronicle import Chronicle
from watching.slow_motion.gates import Lane, StageError
from watching.slow_motion.script import Client, StagedAcceptor
from watching.slow_motion.story import Story
from watching.slow_motion.svg import draw
from watching.slow_motion.text import render

__all__ = ["Stage"]

_LOOK = 0.0005
"""Seconds between two looks whether all are at rest: a condition of a taskmaster notifies nobody here."""
_AT = {"the kernel": "in the kernel", "the queue": "in the queue", "503": "refused with 503", "parked": "parked",
       "gone": "gone"}


class Stage:
    """Runs `taskmaster` for the length of a `with` block, for one script. All methods by the thread that runs that.

    taskmaster: any whose threads wait for each other on conditions, events, semaphores, queues or locks (no RLocks)
        that are attributes of it; one that offloads has a StagedExecutor for that. No processes.
    title: of the story.
    model: how the taskmaster is made, for the reader; its class, if nothing is said.
    patience: seconds after which a thread that has not come to rest is an error.

    At the end of the block everybody is let go. StageError if a thread does not end, or the books do not balance.
    """

    def __init__(self, taskmaster: Taskmaster, *, title: str = "", model: str = "", patience: float = PATIENCE) -> None:
        self.taskmaster = taskmaster
        self.acceptor = StagedAcceptor()
        self.acceptor.played, self.acceptor.error = self._play, self.error
        self.acceptor.queued = lambda: taskmaster.snapshot().queued
        self.story = Story(title, model or type(taskmaster).__name__)
        self._patience = patience
        self._gates = self.acceptor.gates
        self._cast = Cast(taskmaster, self._gates, self.acceptor.name)
        self._chronicle = Chronicle(self.story, self.acceptor, self._cast)
        self._shut = ""
        """States whose gates the script keeps shut."""
        self._time_out = False
        self._shutdown: Lane | None = None

    # For the script.

    def connect(self, name: str, requests: int = 1) -> Client:
        """A client arrives, who has sent so many requests already: 0, and it says nothing yet."""
        if any(client.name == name for client in self.acceptor.clients):
            raise ValueError(f"there is a {name} already; a name is a connection's: give this one another")
        client = self.acceptor.arrive(name, requests)
        self._play()
        return client

    def time_out(self) -> None:
        """The thread that has waited longest, in an accept() with a timeout, runs into that."""
        with self.acceptor.changed:
            if not any(lane.letter == "A" and not lane.patient for lane in self._gates.held_locked()):
                raise self.error("nobody can time out: no thread is in an accept() that has a timeout")
        self._time_out = True
        self._play()

    def stop(self) -> None:
        """As Acceptor.stop does: accept() returns what has arrived, and then None; and `shutdown` is called."""
        self.acceptor.close()
        self._shutdown = self._cast.start_hidden(lambda: self.taskmaster.shutdown(self._patience), "shutdown")
        self._play()

    @property
    def stopped(self) -> bool:
        """Whether `shutdown` has returned, since `stop`."""
        return self._shutdown is not None and self._shutdown.ended

    def call(self, function: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        """Call this, such as `taskmaster.resize`, on a thread of its own, while the others move; raise what it raises.

        StageError if it does not return.
        """
        future: Future[object] = Future()

        def run() -> None:
            try:
                future.set_result(function(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)

        lane = self._cast.start_hidden(run, getattr(function, "__name__", "the call"))
        self._play()
        if not future.done():
            raise self.error(f"{lane.name} does not return, though all threads are at rest")
        future.result()

    def keep_shut(self, letters: str) -> None:
        """Do not open the gates of these states, of "S" (a thread that starts), "Q", "R", "W" and "C"; "" for none.

        To see what happens while a thread is there, which else it passes.
        """
        self._shut = letters
        self._play()

    def step(self, caption: str, **places: str) -> None:
        """What has been done since the last step, in a sentence; and where clients are now, by their names.

        places: "the kernel", "the queue", "parked", "503", "gone", or the name of a lane, such as "worker 1"; as in
            `Client.place`. StageError if they are not there.
        """
        clients = {client.name: client for client in self.acceptor.clients}
        for name, place in places.items():
            if name not in clients:
                raise self.error(f"step {caption!r}: there is no client {name!r}; connect one")
            if (really := clients[name].place) != place:
                raise self.error(f"step {caption!r}: {name} was to be {_AT.get(place, f'with {place}')}, "
                                 f"and is {_AT.get(really, f'with {really}')}")
        self._chronicle.step(caption)

    # For the reader.

    def text(self) -> str:
        return render(self.story)

    def svg(self, path: str | Path | None = None) -> str:
        """The story as SVG; also written to `path`."""
        drawn = draw(self.story)
        if path is not None:
            Path(path).write_text(drawn)
        return drawn

    def error(self, message: str) -> StageError:
        """One that shows all lanes, as they are now."""
        return StageError(f"{message}\n\n{render(self._chronicle.so_far())}\n{self.taskmaster.snapshot()}")

    # How it is done.

    def __enter__(self) -> Stage:
        self._cast.begin()
        try:
            self.call(self.taskmaster.execute_acceptor, self.acceptor)
            self._cast.start_executor()
            self._play()
        except TaskmasterBusyError:  # it goes on with its own
            self._cast.end(self._patience)
            raise
        except BaseException:
            self._let_go()
            raise
        self._chronicle.begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
                 ) -> None:
        wrong = [f"these threads did not end: {late}"] if (late := self._let_go()) else []
        if kind is not None:
            return
        now = self.taskmaster.snapshot()
        if not late and (now.thread_count or now.queued or now.parked or not balances(now)):
            wrong.append("the books do not balance in the end")
        if wrong := [*wrong, *self.acceptor.complaints]:
            raise self.error("\n".join(wrong))

    def _play(self) -> None:
        """Open one gate after the other until there is none to be opened, and all threads are at rest."""
        self._settle()
        self._chronicle.act()
        if not self._open_one():
            self._chronicle.moment()
            return
        self._settle()
        self._chronicle.moment()
        while self._open_one():
            self._settle()
            self._chronicle.moment()

    def _open_one(self) -> bool:
        """Let the one go who is next, if there is one: see the module for the order."""
        with self.acceptor.changed:
            held = self._gates.held_locked()
            for lane in held:
                if lane.until is None and lane.letter not in self._shut:
                    self._gates.open_locked(lane)
                    return True
            for lane in held:
                if lane.until is not None and lane.until():
                    self._gates.open_locked(lane)
                    return True
            accepting = sorted((lane for lane in held if lane.letter == "A"), key=lambda lane: lane.since)
            if self._time_out:
                self._time_out = False
                return self.acceptor.give_locked(next(lane for lane in accepting if not lane.patient), time_out=True)
            return bool(accepting) and self.acceptor.give_locked(accepting[-1])

    def _settle(self) -> None:
        """Return when all are at rest; StageError after `patience` seconds."""
        end = time.monotonic() + self._patience
        with self.acceptor.changed:
            while not self.acceptor.changed.wait_for(self._gates.at_rest_locked, _LOOK):
                if time.monotonic() > end:
                    names = " and ".join(lane.name for lane in self._gates.moving_locked())
                    raise self.error(f"after {self._patience:g} s {names} did not come to rest: at a gate, or in a "
                                     "wait for a condition, event, semaphore, queue or lock that is an attribute of "
                                     "the taskmaster")

    def _let_go(self) -> list[str]:
        """Have everything end; the names of the threads that did not."""
        self.acceptor.close()
        self._gates.set_free()
        return list(self.taskmaster.shutdown(self._patience)) or self._cast.end(self._patience)
