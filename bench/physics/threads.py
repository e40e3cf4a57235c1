"""What threads cost: to start one, to hand something to one, to give one a connection, and to lock.

Each function takes the seconds that it may take and returns microseconds, the mean of as many calls as fit in; None if
it cannot be measured here. The thread that calls it is the one that waits for the others. Needs the standard library
alone.
"""

from __future__ import annotations

import _thread
import queue
import select
import socket
import threading
import time
import timeit
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["accepted", "bare_thread", "condition", "each", "epoll", "handed_over", "lock", "queues", "rlock",
           "simple_queues", "started", "statement", "thread"]


def each(call: Callable[[], object], seconds: float) -> float:
    """Microseconds of a call, the mean of those that `seconds` have room for; at least one, after one that is not
    counted. Reading the clock adds some 0.1 us."""
    call()
    clock, calls = time.perf_counter, 0
    start = now = clock()
    while now < start + seconds or not calls:
        call()
        calls += 1
        now = clock()
    return 1e6 * (now - start) / calls


def statement(text: str, seconds: float, **names: object) -> float:
    """Microseconds of a statement that takes less than one, the least of five: without the loop around it."""
    loops = max(10, int(seconds * 2e5))
    taken, empty = (min(timeit.repeat(what, globals=names, number=loops, repeat=5)) for what in (text, "pass"))
    return max(0.0, 1e6 * (taken - empty) / loops)


def thread(seconds: float) -> float:
    def one() -> None:
        started = threading.Thread(target=int)
        started.start()
        started.join()

    return each(one, seconds)


def bare_thread(seconds: float) -> float:
    """Without the bookkeeping of `threading`; a lock tells that it has run."""
    ran = _thread.allocate_lock()
    ran.acquire()

    def one() -> None:
        _thread.start_new_thread(ran.release, ())
        ran.acquire()

    return each(one, seconds)


def queues(seconds: float) -> float:
    return _there_and_back(queue.Queue, seconds)


def simple_queues(seconds: float) -> float:
    return _there_and_back(queue.SimpleQueue, seconds)


def condition(seconds: float) -> float:
    """Two threads, one Condition, and a word that says whose turn it is."""
    changed, turn = threading.Condition(), "mine"

    def change(word: str, until: tuple[str, ...]) -> str:
        nonlocal turn
        with changed:
            turn = word
            changed.notify()
            changed.wait_for(lambda: turn in until)
            return turn

    def answer() -> None:
        while change("mine", ("theirs", "over")) != "over":
            pass

    with _beside(answer):
        taken = each(lambda: change("theirs", ("mine",)), seconds)
        change("over", ("over",))
    return taken


def epoll(seconds: float) -> float:
    """Two threads, each of which waits in epoll_wait(2) for a byte of the other."""
    ours, theirs = socket.socketpair()
    with ours, theirs, select.epoll() as our_wait, select.epoll() as their_wait:
        our_wait.register(ours, select.EPOLLIN)
        their_wait.register(theirs, select.EPOLLIN)

        def answer() -> None:
            while True:
                their_wait.poll()
                data = theirs.recv(1)
                if not data:
                    return
                theirs.send(data)

        def one() -> None:
            ours.send(b".")
            our_wait.poll()
            ours.recv(1)

        with _beside(answer):
            taken = each(one, seconds)
            ours.shutdown(socket.SHUT_WR)
    return taken


def accepted(seconds: float) -> float:
    """A connection, in the thread that has waited for it in accept(2)."""
    return _connections(_answer, seconds)


def handed_over(seconds: float) -> float:
    """A connection, handed by the thread that accepts to one that waits at a queue.Queue."""
    handed: queue.Queue[socket.socket | None] = queue.Queue()

    def work() -> None:
        while (sock := handed.get()) is not None:
            _answer(sock)

    with _beside(work):
        taken = _connections(handed.put, seconds)
        handed.put(None)
    return taken


def started(seconds: float) -> float:
    """A connection, for which the thread that accepts starts another."""
    return _connections(lambda sock: threading.Thread(target=_answer, args=(sock,), daemon=True).start(), seconds)


def lock(seconds: float) -> float:
    return statement("with lock: pass", seconds, lock=threading.Lock())


def rlock(seconds: float) -> float:
    return statement("with lock: pass", seconds, lock=threading.RLock())


def _there_and_back(make: Callable[[], Any], seconds: float) -> float:
    there, back = make(), make()

    def answer() -> None:
        while there.get():
            back.put(True)

    def one() -> None:
        there.put(True)
        back.get()

    with _beside(answer):
        taken = each(one, seconds)
        there.put(False)
    return taken


def _connections(serve: Callable[[socket.socket], object], seconds: float) -> float:
    """Connect over loopback, be answered with one byte, see the end. serve: is called with what has been accepted."""
    over = False
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listener:
        address = listener.getsockname()

        def accept() -> None:
            while True:
                sock, _ = listener.accept()
                if over:
                    sock.close()
                    return
                serve(sock)

        def one() -> None:
            with socket.socket() as sock:
                sock.connect(address)
                while sock.recv(2):
                    pass

        with _beside(accept):
            taken = each(one, seconds)
            over = True
            one()
    return taken


def _answer(sock: socket.socket) -> None:
    with sock:
        sock.send(b".")


@contextmanager
def _beside(run: Callable[[], None]) -> Iterator[None]:
    """A thread that runs `run`, which must end by itself."""
    other = threading.Thread(target=run, daemon=True)
    other.start()
    yield
    other.join()
