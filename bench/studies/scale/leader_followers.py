"""Leader/followers, with parking: a third way in which threads can wait for parked connections, to be compared.

One thread, the leader, waits for connections, new and parked; when it has one it lets another lead, and serves. So
there is no hand-off of connections, as with recycling; but the leadership is handed over, by a lock, for each request.
Schmidt et al., Pattern-Oriented Software Architecture, volume 2 (2000), "Leader/Followers".
"""

from __future__ import annotations

import threading

from taskmaster import AcceptorSteps, Connection, ThreadedTaskmaster, ThreadState
from taskmaster.threaded import Idle, Inline

__all__ = ["LeaderFollowersTaskmaster"]


class LeaderFollowersTaskmaster(ThreadedTaskmaster):
    """`threads` of them, of whom one leads."""

    def __init__(self, *, threads: int = 16, idle: Idle = "park", inline: Inline = "fair") -> None:
        super().__init__()
        self.choose_parking(idle, inline)
        self.max_thread_count: int = threads
        self._lead = threading.Lock()
        """Held by the leader; the followers wait for it."""

    def execute_acceptor(self, acceptor: AcceptorSteps) -> None:
        self.begin(acceptor)
        for _ in range(self.max_thread_count):
            self.start(self._work, "leader-follower")

    def handle_incoming_connection(self, connection: Connection) -> None:
        with self.lock:
            self.count_in_locked(connection)
            self.enter_locked(ThreadState.SERVING)
        following: Connection | None = connection
        while following is not None:
            idle = self.process(following)
            with self.lock:
                self.count_out_locked(idle)
                self.enter_locked(ThreadState.WAITING)
            following = self._take_queued() if idle and not self.park(following) else None

    def others_idle(self) -> bool:
        return self.counts[ThreadState.WAITING] + self.counts[ThreadState.ACCEPTING] > 0 and not self.queue

    def _take_queued(self) -> Connection | None:
        """While it stops: what could not be parked."""
        with self.lock:
            if not self.queue:
                return None
            self.enter_locked(ThreadState.SERVING)
            return self.queue.popleft()

    def _work(self) -> None:
        self.enter(ThreadState.WAITING)
        while True:
            with self._lead:
                self.enter(ThreadState.ACCEPTING)
                connection = self.acceptor.accept()
            if connection is None:
                break
            self.hand_over(connection)
        self.leave("stopped")
