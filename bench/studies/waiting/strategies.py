"""Six ways in which many threads can wait on one listen socket. A lecture: what `python -m bench waiting` measures.

Each way is a class. It gets the listen socket once; then each thread asks it, once, for a function of its own, which
waits for the next connection and returns it. What to look for in each:

    How many threads does the kernel wake for one connection? One is enough. All is a thundering herd: the others find
    nothing and wait again, and with a GIL they do even that one after the other.
    Which thread, if one? If it is the one that has waited longest (first in, first out), each is busy now and then. If
    it is the one that has waited shortest (last in, first out), those too many go cold, so that a pool can see that it
    could be smaller.

EPOLLIN alone is level-triggered: "there is something", said to everyone who asks for as long as it is true.
"""

from __future__ import annotations

import select
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

__all__ = ["OURS", "STRATEGIES", "BlockingAccept", "EpollExclusive", "Strategy"]


class Strategy(ABC):
    """One way of waiting. `listener` is a listening TCP socket, which it may set to what it needs."""

    name: ClassVar[str]

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.listener.setblocking(False)

    @abstractmethod
    def for_thread(self) -> Callable[[], socket.socket]:
        """Called once by each thread: the function by which that thread waits for a connection, and accepts it."""


class BlockingAccept(Strategy):
    """accept(2) itself waits. The kernel queues those who wait in it, and wakes the first. Nothing could be simpler.

    The price comes at the end: only shutdown(2) of the listen socket wakes them all, and that resets the connections
    which the kernel has queued; and there is no timeout by which a thread could see that it is not needed.
    """

    name = "blocking accept()"

    def __init__(self, listener: socket.socket) -> None:
        super().__init__(listener)
        listener.setblocking(True)

    def for_thread(self) -> Callable[[], socket.socket]:
        return lambda: self.listener.accept()[0]


class Timeout(Strategy):
    """settimeout, Python's obvious answer to that. Python then waits in poll(2) first, which wakes everybody."""

    name = "settimeout()"

    def __init__(self, listener: socket.socket) -> None:
        super().__init__(listener)
        listener.settimeout(60.0)

    def for_thread(self) -> Callable[[], socket.socket]:
        return lambda: self.listener.accept()[0]


class EpollEach(Strategy):
    """An epoll set for each thread. The socket becomes ready in all of them at once: everybody wakes, as with poll."""

    name = "epoll for each"
    flags: ClassVar[int] = select.EPOLLIN

    def for_thread(self) -> Callable[[], socket.socket]:
        events = select.epoll()
        events.register(self.listener, self.flags)
        return lambda: _next(events, self.listener)


class EpollExclusive(EpollEach):
    """The same with EPOLLEXCLUSIVE: of all those sets the kernel tells one, the one added last that has a waiter.

    It tells another for each connection that arrives, although the first has not yet accepted: a burst wakes as many
    threads as there are connections, and they all meet at the GIL.
    """

    name = "epoll for each, EXCLUSIVE"
    flags = select.EPOLLIN | select.EPOLLEXCLUSIVE


class EpollShared(Strategy):
    """One epoll set for all threads. The kernel wakes one; but the socket stays ready until that one has accepted, and
    another may be told of it meanwhile, for nothing."""

    name = "one epoll"

    def __init__(self, listener: socket.socket) -> None:
        super().__init__(listener)
        self.events = select.epoll()
        self.events.register(listener, select.EPOLLIN)

    def for_thread(self) -> Callable[[], socket.socket]:
        return lambda: _next(self.events, self.listener)


class EpollOneShot(Strategy):
    """One epoll set in which the socket is armed for one event; who gets it accepts, and arms it again. Ours.

    Until it is armed again nobody else is woken, whatever arrives; arming it while a connection waits wakes the next
    thread at once. The price is a system call for each connection: epoll_ctl(2). See acceptor/listener.py.
    """

    name = "one epoll, ONESHOT (ours)"
    armed: ClassVar[int] = select.EPOLLIN | select.EPOLLONESHOT

    def __init__(self, listener: socket.socket) -> None:
        super().__init__(listener)
        self.events = select.epoll()
        self.events.register(listener, self.armed)

    def for_thread(self) -> Callable[[], socket.socket]:
        return self._accept

    def _accept(self) -> socket.socket:
        while True:
            self.events.poll(None, 1)
            try:
                return self.listener.accept()[0]
            except BlockingIOError:  # the client has gone again
                pass
            finally:
                self.events.modify(self.listener, self.armed)


def _next(events: select.epoll, listener: socket.socket) -> socket.socket:
    """Wait in `events` until this thread is the one that gets a connection."""
    while True:
        events.poll(None, 1)
        try:
            return listener.accept()[0]
        except BlockingIOError:  # another thread was faster: woken for nothing
            pass


OURS = EpollOneShot.name
STRATEGIES = {strategy.name: strategy for strategy in
              (BlockingAccept, Timeout, EpollEach, EpollExclusive, EpollShared, EpollOneShot)}
"""By name, in the order of the lecture."""
