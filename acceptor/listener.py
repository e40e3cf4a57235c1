"""Listen on several addresses, wait from any number of threads, and stop without losing what the kernel queued.

How a thread waits: in an epoll set that all of them share, in which each listen socket is registered with EPOLLONESHOT
(epoll_ctl(2)), which means for one event at a time. The event says which socket it is about. Whoever gets it is the
only one who does; however many connections arrive there, nobody else is woken until that thread has accepted and asks
for one more event of that socket; the other sockets stay armed meanwhile. Beside them in the set is the end of
a socket pair, which is readable forever once the listener stops, so that stopping wakes everybody.
`taskmaster.recycling` argues this choice, and docs/waiting.md measures it.

Parked connections (`watch`) are in the same set, for one event at a time too, so that whoever waits here waits for new
and for parked connections at once. Each that becomes ready goes to the end of the set's ready list, in the kernel, and
wakes one thread: that list is the queue, and there is no other, nor a thread that dispatches. And `ring` wakes one
thread, for no descriptor: one end of the socket pair is watched for being writable, which it always is.

Where there is no epoll, poll(2) does the
same less well: a connection wakes every thread, and all but one wait again.

How it stops, in this order, because both shutdown(2) and close(2) of a TCP listen socket reset what the kernel has
queued:
  1. accept everything that is queued, without blocking, and keep it for those who call `accept`
  2. set the flag
  3. shutdown(2): the kernel refuses new connections from here on, and the port is free for another server
  4. make the socket pair readable
  5. later, when nobody can be inside `accept` any more: `close`. Not before: the system would give the descriptor's
     number to the next file opened, and a thread about to accept would accept on that.
Between the last accept of step 1 and step 3 a TCP connection may still arrive, and is reset; on Linux nothing can
prevent that, and it lasts microseconds. (But with SO_REUSEPORT, and net.ipv4.tcp_migrate_req=1, the kernel gives it to
another process instead.) An AF_UNIX socket keeps its queue when it is shut down, so it is drained once more after step
3. One that was inherited is not shut down (see `acceptor.listen_socket`): what comes after step 1 stays queued for
whoever else holds it, and is reset by the last of them that closes it.
"""

from __future__ import annotations

import errno
import logging
import os
import random
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack

from acceptor.addresses import Address, Bound, cannot_listen
from acceptor.listen_socket import LINUX, Accepted, ListenSocket, open_sockets

__all__ = ["BELL", "ONCE", "Accepted", "Listener"]

logger = logging.getLogger("acceptor")

RETRY = frozenset({
    errno.ECONNABORTED,  # "a connection has been aborted"
    errno.EPERM,         # "firewall rules forbid connection"
    errno.EPROTO, errno.ENETDOWN, errno.ENOPROTOOPT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.EOPNOTSUPP,
    errno.ENETUNREACH, errno.ETIMEDOUT, getattr(errno, "ENONET", errno.EPROTO),
    # "already-pending network errors on the new socket ... treat them like EAGAIN by retrying"
})
"""accept(2): the next connection had died before it was accepted. The one after it may be fine."""

BACK_OFF = frozenset({
    errno.EMFILE,   # "the per-process limit on the number of open file descriptors has been reached"
    errno.ENFILE,   # "the system-wide limit on the total number of open files has been reached"
    errno.ENOBUFS,  # "not enough free memory ... limited by the socket buffer limits"
    errno.ENOMEM,
})
"""accept(2): the system lacks something. The connection stays queued, and the listen socket readable, so waiting for
that would spin: pause, then try again. One thread does; the others are not woken meanwhile."""

_PAUSE = 0.1
"""Seconds to back off: short beside a client's patience, long beside an accept."""
_COMPLAIN = 10.0
"""Seconds between two log lines about the same problem."""

ONCE = getattr(select, "EPOLLONESHOT", 0)
_CONNECTION = select.POLLIN | ONCE

BELL = -1
"""In place of a descriptor: `Listener.ring` has been called."""


class Listener:
    """Listens on any number of addresses. `accept` may be called by any number of threads; the rest by the acceptor.

    addresses: where to listen, at least one; also sockets that listen already, which are the listener's from then on.
        OSError, with what to do about it, if one cannot be had; those opened before it are closed again.
    backlog: connections the kernel may queue for each address (listen(2); bounded by net.core.somaxconn).
    tick: seconds, 0.001 at least, that one read or write on an accepted socket may take before it raises
        BlockingIOError (it is the kernel's SO_RCVTIMEO and SO_SNDTIMEO, which answer EAGAIN: socket(7)).
    reuse_port: other processes may listen there too (SO_REUSEPORT); of TCP addresses only.
    """

    def __init__(self, addresses: Sequence[Address | socket.socket], backlog: int, tick: float, *,
                 reuse_port: bool = False) -> None:
        if not addresses:
            raise ValueError("addresses is empty: pass at least one address to listen on")
        # Fixed at construction.
        self._backlog = backlog
        self._tick = tick
        self._sockets: dict[int, ListenSocket] = {}
        """By descriptor."""
        self._waiting = select.poll()
        with ExitStack() as opened:
            for address in addresses:
                for listening in open_sockets(address, backlog, tick, reuse_port=reuse_port):
                    self._add(listening, address)
                    opened.callback(listening.close)
            self._wake_reader, self._wake_writer = socket.socketpair()
            opened.callback(self._wake_writer.close)
            opened.callback(self._wake_reader.close)
            self._events: select.epoll | _Poll = select.epoll() if hasattr(select, "epoll") else _Poll()
            opened.pop_all()
        for listening in self._sockets.values():
            self._events.register(listening.sock, _CONNECTION)
        self._events.register(self._wake_reader, select.POLLIN)
        self._bell = self._wake_writer.fileno()
        self._own = frozenset([*self._sockets, self._bell, self._wake_reader.fileno()])
        """The descriptors in the set that are not those of connections."""
        self.can_park = not isinstance(self._events, _Poll)
        """Whether `watch` and `ring` work here."""
        self.watch_again = self._events.modify
        """As `watch`, for what has been watched before: the bare epoll_ctl(2), given `events | ONCE`, which raises
        OSError or ValueError if it has been closed. For what is done for every request."""
        if self.can_park:
            self._events.register(self._bell, ONCE)
        self.addresses: list[Bound] = [listening.address for listening in self._sockets.values()]
        """Where it listens, in the order asked for: the real addresses."""
        # For whoever stops it.
        self.serves = True
        """False: nobody accepts in this process, and what an inherited socket has queued is for others to take."""
        self.shuts = True
        """Whether `stop` shuts the listen sockets down; not if other processes go on accepting from them."""
        # Written by `stop`, before the flag is set; taken from by any thread. deque: append and popleft are atomic.
        self._drained: deque[Accepted] = deque()
        self._stopped = False
        self._wakes = True
        """That it stops wakes who waits; until `wait_late`, which is called by one thread."""
        # Written by any accepting thread; two at once make one log line more.
        self._complained_at = -_COMPLAIN
        # Written by any accepting thread: at worst a connection comes before or behind its turn.
        self._more: ListenSocket | None = None
        """Where a connection has been accepted, and there may be more."""
        self._newcomer_next = False
        """A parked connection has had a turn, and there may be a new one."""
        if not LINUX:
            logger.warning("made for Linux; on %s waiting threads wake together, and each connection costs a few "
                           "system calls more", sys.platform)

    def accept(self, timeout: float | None = None) -> Accepted | int | None:
        """The next connection, or a descriptor given to `watch`, which has become ready, or BELL; None for good once
        stopped. TimeoutError once nothing has come for `timeout` seconds.

        Never raises for what the network does: see RETRY and BACK_OFF.
        """
        while not self._stopped:
            if self._newcomer_next and (accepted := self._accept_another()) is not None:
                return accepted
            if not (came := self._events.poll(timeout, 1)):
                raise TimeoutError
            descriptor = came[0][0]
            if descriptor not in self._own:
                if self._more is not None:
                    self._newcomer_next = True
                return descriptor
            if (listening := self._sockets.get(descriptor)) is None:
                if descriptor == self._bell:
                    if self._more is not None:
                        self._newcomer_next = True
                    return BELL
                continue
            try:
                accepted = listening.accept()  # until it is armed, nobody else is awake for this socket
                self._more = listening
                return accepted
            except BlockingIOError as error:  # the client has gone again
                if came[0][1] & select.POLLHUP and not self._stopped:  # or it is inherited, and somebody shut it down
                    self._complain(error)
                    self._pause()
            except OSError as error:
                if error.errno not in RETRY and not self._stopped:  # stopped: EINVAL, the socket having been shut down
                    self._complain(error)
                    self._pause()
            finally:
                # Let the next connection to that address, or one that waits already, wake one thread.
                self._events.modify(descriptor, _CONNECTION)
        return self.take_drained()

    def _accept_another(self) -> Accepted | None:
        """After a parked connection: a new one, if there are more where the last one came from.

        For in the set a listen socket is one among many. When all threads are busy, one of a burst of new connections
        would be accepted in each round of those that are there, who have a request each: the hundredth had to wait for
        5,000 requests.
        """
        self._newcomer_next = False
        if (listening := self._more) is None:
            return None
        try:
            return listening.accept()
        except OSError:  # there is none; or what else is wrong, its next event will tell
            self._more = None
            return None

    def watch(self, descriptor: int, events: int) -> bool:
        """Have `accept` return `descriptor`, once, to one thread, as soon as it is ready for `events`; any thread.

        If it has been closed meanwhile, nothing happens. Whether the set has it now: then `watch_again` will do.
        """
        try:
            try:
                self._events.register(descriptor, events | ONCE)
            except FileExistsError:  # it has been watched before, perhaps by a thread that was quicker
                self._events.modify(descriptor, events | ONCE)
        except (OSError, ValueError):
            return False
        return True

    def ring(self) -> None:
        """Have `accept` return BELL, once, to one thread; any thread."""
        try:
            self._events.modify(self._bell, select.POLLOUT | ONCE)
        except ValueError:  # closed: a job was done as the server stopped, and has been collected
            pass

    def wait_late(self, timeout: float) -> int | None:
        """After `stop`: the next descriptor that is ready, or BELL; None if none is for `timeout` seconds. For the one
        thread that there is by then."""
        if self._wakes:
            self._events.unregister(self._wake_reader)
            self._wakes = False
        came = self._events.poll(timeout, 1)
        return self._other(came[0][0]) if came and came[0][0] not in self._sockets else None

    def _other(self, descriptor: int) -> int | None:
        """What it means that a descriptor is ready which is not that of a listen socket."""
        if descriptor == self._bell:
            return BELL
        return descriptor if descriptor != self._wake_reader.fileno() else None

    def pending(self) -> bool:
        """Whether a connection waits in the kernel's queue of any address; False once stopped. For one thread at a
        time, while others accept: it looks without taking or arming anything. One system call, which does not block."""
        # Not POLLHUP: such a socket has been shut down, by `stop`, or by somebody else who holds it.
        return any(events == select.POLLIN for _, events in self._waiting.poll(0)) and not self._stopped

    def queues(self) -> list[tuple[Bound, tuple[int, int] | None]]:
        """For each address: how many connections wait in the kernel to be accepted, and how many may; None if the
        system does not tell. Any thread, also once stopped; a system call for each."""
        return [(address, listening.queue)
                for address, listening in zip(self.addresses, self._sockets.values(), strict=True)]

    def stop(self) -> None:
        """Accept no more, and wake everybody; a second call only wakes. `accept` still returns what was queued."""
        # Another process that has it may have shut it down, and listen(2) would open it again.
        left = [listening for listening in self._sockets.values()
                if listening.listens and (self.serves or not listening.inherited)]
        ours = [listening for listening in left if self.shuts and not listening.inherited]
        if not self._stopped:
            for listening in ours:
                listening.sock.listen(0)  # what comes now is turned away rather than queued
            # Ours twice: while one was drained, clients came to another.
            self._drain([*left, *ours])
            self._stopped = True
        # Again in a second call: the first may have been interrupted here.
        for listening in ours:
            try:
                listening.sock.shutdown(socket.SHUT_RDWR)
            except OSError:  # not everywhere can a listen socket be shut down; closing it will do
                continue
            if listening.sock.family == socket.AF_UNIX:
                self._drain([listening])
        try:
            self._wake_writer.send(b"!")
        except OSError:  # closed already
            pass

    def shared(self) -> Listener:
        """In a process that has just been forked: the same listen sockets, waited for by an epoll set of its own.

        Its `stop` takes what the kernel has queued, and leaves the sockets as they are, for the others have them too;
        unless `shuts` is set before.
        The one that it was made of must not be used in this process any more; it is closed there.
        """
        socks = [listening.sock for listening in self._sockets.values()]
        shared = Listener([socket.socket(fileno=os.dup(sock.fileno())) for sock in socks], self._backlog, self._tick)
        shared.addresses = self.addresses
        shared.shuts = False
        for ours, theirs in zip(self._sockets.values(), shared._sockets.values(), strict=True):
            theirs.inherited = ours.inherited
            ours.disown()
        self.close()
        return shared

    def take_drained(self) -> Accepted | None:
        """After `stop`: one of the connections the kernel had queued, None if there are none left."""
        try:
            return self._drained.popleft()
        except IndexError:
            return None

    def close(self) -> None:
        """Give everything back to the system. Only when no thread can be inside `accept` any more."""
        while (accepted := self.take_drained()) is not None:
            accepted[0].close()
        self._events.close()
        for listening in self._sockets.values():
            listening.close()
        self._wake_reader.close()
        self._wake_writer.close()

    def _add(self, listening: ListenSocket, address: object) -> None:
        number = listening.sock.fileno()
        if (other := self._sockets.get(number)) is not None:
            if other.sock is not listening.sock:
                listening.sock.detach()  # the other one closes it
            raise cannot_listen(address, errno.EEXIST, why="it is among the addresses twice", fix="pass it once")
        self._sockets[number] = listening
        self._waiting.register(number, select.POLLIN)

    def _drain(self, sockets: Sequence[ListenSocket]) -> None:
        lost = None
        for listening in sockets:
            for _ in range(self._backlog + 1):  # all that can be queued; newcomers must not keep it going for ever
                try:
                    self._drained.append(listening.accept())
                except BlockingIOError:
                    break
                except OSError as error:
                    if error.errno not in RETRY:
                        lost = error if error.errno != errno.EINVAL else lost  # it has been shut down
                        break
        if lost is not None and not self._stopped:  # once
            logger.warning("connections waiting in the kernel's backlog are lost: %s", lost)

    def _pause(self) -> None:
        poll = select.poll()
        poll.register(self._wake_reader, select.POLLIN)
        poll.poll(_PAUSE * 1000)

    def _complain(self, error: OSError) -> None:
        now = time.monotonic()
        if now - self._complained_at < _COMPLAIN:
            return
        self._complained_at = now
        if error.errno in BACK_OFF:
            logger.error("cannot accept connections: %s; trying again every %g s, clients wait meanwhile. Raise the "
                         "limit (ulimit -n) or lower the taskmaster's max_thread_count", error, _PAUSE)
        else:
            logger.error("accept() failed: %s; trying again every %g s", error, _PAUSE)


class _Poll:
    """What is used of select.epoll, by poll(2): it wakes everybody, and arms nothing. A set for each call, because
    select.poll objects are not for two threads at once."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket | int] = []

    def register(self, sock: socket.socket | int, events: int) -> None:
        self._sockets.append(sock)

    def unregister(self, sock: socket.socket) -> None:
        self._sockets.remove(sock)

    def modify(self, sock: socket.socket | int, events: int) -> None:
        pass

    def poll(self, timeout: float | None, maxevents: int) -> list[tuple[int, int]]:
        poll = select.poll()
        for sock in self._sockets:
            poll.register(sock, select.POLLIN)
        ready = poll.poll(None if timeout is None else timeout * 1000)
        return random.sample(ready, min(len(ready), maxevents))  # the first would starve the others; epoll takes turns

    def close(self) -> None:
        pass
