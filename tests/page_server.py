"""Sources that are made up, for the page's tests and for one's eyes:

    python -m tests.page_server --lanes 100

Three of them, as `taskmaster watch --compare thread,pool,recycling` has them, are played, not run: so many clients ask,
are accepted, served by a row's thread, and ask again. What a thread does is worked out step by step, as a recording
would have it, and the samples are read off the steps; so the page's parts agree with each other, as they would.
"""

from __future__ import annotations

import argparse
import heapq
import random
import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, cast

from watching import ControlServer
from watching.counts import quantile
from watching.messages import (
    Burst,
    ClientsSee,
    ConnectionsNow,
    DecisionSaid,
    Histogram,
    LaneNow,
    LaneSteps,
    LoadState,
    Responses,
    Sample,
    Steps,
)

__all__ = ["MADE_UP", "MadeUpLoad", "MadeUpSource", "made_up"]

MADE_UP = {"thread": "ThreadPerConnectionTaskmaster", "pool": "PooledTaskmaster", "recycling": "RecyclingTaskmaster"}
"""Models that can be played."""
_KEPT = 6.0
"""Seconds of steps."""

Step = tuple[float, str, int, Any]


class MadeUpLoad:
    """Clients as they are wanted. `wishes`: all that have been told. Any thread."""

    def __init__(self, clients: int = 20, sleep_ms: float = 1.0) -> None:
        self.now = LoadState(clients=clients, keep_alive=False, sleep_ms=sleep_ms, seen={})
        self.wishes: list[Mapping[str, Any]] = []

    def state(self) -> LoadState:
        return self.now

    def see(self, name: str, seen: ClientsSee) -> None:
        """What the clients of that server see."""
        self.now = cast("LoadState", {**self.now, "seen": {**self.now["seen"], name: seen}})

    def change(self, wishes: Mapping[str, Any]) -> LoadState:
        self.wishes.append(wishes)
        self.now = cast("LoadState", {**self.now, **wishes})
        return self.now


class MadeUpSource:
    """One model, played, with so many rows at most. A `watching.Source`; any thread."""

    def __init__(self, label: str, lanes: int, load: MadeUpLoad) -> None:
        self.label, self.load, self.most = label, load, lanes
        self.name = f"127.0.0.1:{8080 + list(MADE_UP).index(label)}"
        self.random = random.Random(lanes)
        self.lock = threading.Lock()
        # All below is guarded by self.lock. Times in seconds.
        now = time.monotonic() - 1.5
        self.rows: list[deque[Step]] = []
        self.free: list[tuple[float, int]] = []
        """Rows that are free, as heaps have them: when, and which."""
        self.clients: list[tuple[float, int, int]] = []
        """When each asks next, its number, and its connection (0: it makes a new one)."""
        self.ends: list[tuple[float, float, float]] = []
        """Of answers: when, seconds in all for the client, seconds of them until there was a thread."""
        self.window: deque[tuple[float, float, float]] = deque()
        self.accepts: deque[tuple[float, float, float]] = deque()
        """Of connections: when they came, were accepted, had a thread."""
        self.accepting_until = now
        self.count = self.total = self.started = 0
        self.grown: dict[str, int] = {}
        self.decisions: deque[DecisionSaid] = deque(maxlen=20)
        if label != "recycling":
            self._row(now, "A")
        for _ in range({"thread": 0, "pool": lanes - 1, "recycling": lanes}[label]):
            heapq.heappush(self.free, (now, self._row(now, "_" if label == "pool" else "A")))

    def sample(self) -> Sample:
        with self.lock:
            now = time.monotonic()
            self._play(now)
            return self._look(now)

    def steps(self, seconds: float) -> Steps:
        """Of the time before, where a recording would wait."""
        with self.lock:
            end = time.monotonic()
            self._play(end)
            return self._exact(end - seconds, end)

    def stacks(self) -> str:
        return f"{self.label} is made up\n"

    def _row(self, now: float, state: str) -> int:
        self.rows.append(deque([(now, ".", 0, None), (now, state, 0, None)]))
        self.started += 1
        self.grown["start"] = self.grown.get("start", 0) + 1
        return len(self.rows) - 1

    def _play(self, now: float) -> None:
        load = self.load.state()
        while len(self.clients) < load["clients"]:
            heapq.heappush(self.clients, (now + self.random.random() * 0.05, len(self.clients), 0))
        del self.clients[load["clients"]:]
        heapq.heapify(self.clients)
        while self.clients and self.clients[0][0] <= now:
            came, client, connection = heapq.heappop(self.clients)
            done, connection = self._serve(came, client, connection, load)
            pause = self.random.expovariate(1 / (0.012 + load["sleep_ms"] / 1000))
            heapq.heappush(self.clients, (done + pause, client, connection))
        for steps in self.rows:
            while len(steps) > 1 and steps[1][0] < now - _KEPT:
                steps.popleft()

    def _serve(self, came: float, client: int, connection: int, load: LoadState) -> tuple[float, int]:
        """When its client has the answer, and the connection that it keeps, or 0."""
        shake, address = self.random.random, ("127.0.0.1", 40000 + client)
        accepted = came
        new = not connection
        if new:
            self.count += 1
            connection = self.count
        if self.label != "recycling":
            accepted = max(came, self.accepting_until)
            took = (0.00015 if self.label == "thread" else 0.00003) * (1 + shake())
            self.accepting_until = accepted + took
            self.rows[0].append((accepted, "Q", connection, (*address, accepted - came)))
            self.rows[0].append((accepted + took, "A", 0, None))
        at, row = self._thread(accepted)
        steps = self.rows[row]
        begin = max(at, accepted + (0.00005 if self.label != "recycling" else 0))
        if self.label == "thread":
            self.started += 1
            steps.append((begin, "S", 0, f"worker-{self.count}"))
            begin += 0.00006 * (1 + shake())
        elif self.label == "recycling":
            steps.append((begin, "Q", connection, (*address, 0.0)))
            begin += 0.00001
        steps.append((begin, "R", connection, None))
        handler = begin + 0.0001 * (1 + shake())
        steps.append((handler, "H", connection, ("GET", f"/report/{connection % 7}")))
        writes = handler + max(0.0001, load["sleep_ms"] / 1000) * (0.8 + 0.4 * shake() + (shake() < 0.02) * 4)
        steps.append((writes, "W", connection, None))
        done = writes + 0.00006 * (1 + shake())
        keep = load["keep_alive"]
        steps.append((done, "_" if keep else "C", connection, "parked" if keep else None))
        rest = done + 0.00002
        if self.label == "thread":
            steps.append((rest, ".", 0, None))
        else:
            steps.append((rest, "_" if self.label == "pool" else "A", 0, None))
        heapq.heappush(self.free, (rest, row))
        heapq.heappush(self.ends, (done, done - came, begin - came))
        self.accepts.append((came, accepted, begin))
        return done, connection if keep else 0

    def _thread(self, at: float) -> tuple[float, int]:
        """The row that serves what comes at that time, and when it can."""
        ready = [each for each in self.free if each[0] <= at]
        if ready:
            chosen = min(ready, key=lambda each: each[1] if self.label == "thread" else each[0])
            self.free.remove(chosen)
            heapq.heapify(self.free)
            return at, chosen[1]
        if self.label == "thread" and len(self.rows) < self.most:
            row = self._row(at, ".")
            self._decide(at, 1, "a connection needs a thread")
            return at, row
        if not self.free:
            return at + 0.001, 0
        return heapq.heappop(self.free)

    def _decide(self, time: float, change: int, reason: str) -> None:
        self.decisions.append(DecisionSaid(time=time, change=change, reason=reason, threads=len(self.rows)))

    def _look(self, now: float) -> Sample:
        while self.ends and self.ends[0][0] <= now:
            self.window.append(heapq.heappop(self.ends))
            self.total += 1
        while self.window and self.window[0][0] < now - 1:
            self.window.popleft()
        while self.accepts and self.accepts[0][2] < now - 1:
            self.accepts.popleft()
        if self.label == "recycling" and self.random.random() < 0.02:
            self._decide(now - 0.05, *self.random.choice([(1, "the last waiter was taken"), (-1, "idle for 10 s")]))
        lanes = [self._lane(number, now) for number in range(len(self.rows))]
        states = [lane["state"] for lane in lanes]
        kernel = sum(came <= now < accepted for came, accepted, _ in self.accepts)
        queued = sum(accepted <= now < begin for _, accepted, begin in self.accepts) if self.label == "pool" else 0
        busy, clients = sum(state in "RHWCK" for state in states), self.load.state()["clients"]
        parked = max(0, clients - busy - kernel - queued) if self.load.state()["keep_alive"] else 0
        seconds = sorted(each[1] - each[2] for each in self.window)
        seen = sorted(each[1] for each in self.window)
        self.load.see(self.name, ClientsSee(answers=len(seen), failures=0, p50=quantile(seen, 0.5),
                                            p99=quantile(seen, 0.99)))
        return Sample(
            time=now, label=self.label, name=self.name, model=MADE_UP[self.label], process=4242,
            max_thread_count=self.most, max_accept_count=None,
            threads={"starting": states.count("S"), "accepting": states.count("A"), "waiting": states.count("_"),
                     "serving": busy, "leaving": states.count("X")},
            lanes=lanes,
            connections=ConnectionsNow(open=busy + queued + parked, kernel=kernel, kernel_limit=1024, queued=queued,
                                       parked=parked, accepted=self.count, served=self.total, refused=0),
            responses=Responses(total=self.total, by_class={"2xx": self.total}, per_second=float(len(seconds)),
                                p50=quantile(seconds, 0.5), p99=quantile(seconds, 0.99)),
            histogram=Histogram(buckets=[], sum=0.0, count=self.total),
            burst=Burst(time=now, seconds=0.02, requests=len(seconds),
                        handoffs_per_request=float(self.label != "recycling") if seconds else None,
                        wait_p99=max((each[2] for each in self.window), default=None), kernel_wait_p99=0.0),
            threads_started=self.started, grown=dict(self.grown), shrunk={}, decisions=list(self.decisions),
            violations={})

    def _lane(self, number: int, now: float) -> LaneNow:
        steps = self.rows[number]
        since, state, connection, about = next((each for each in reversed(steps) if each[0] <= now), steps[0])
        return LaneNow(lane=number, thread=None if state == "." else f"worker-127.0.0.1:8080-{number}", ident=number,
                       state=state, since=since, connection=connection,
                       request=" ".join(about) if state == "H" else None,
                       client=f"127.0.0.1:{40000 + connection % 1000}" if connection else None)

    def _exact(self, begin: float, end: float) -> Steps:
        lanes: list[LaneSteps] = []
        for number, steps in enumerate(self.rows):
            known = [each for each in steps if each[0] <= end]
            first = max(0, bisect_right(known, begin, key=lambda each: each[0]) - 1)
            lanes.append(LaneSteps(lane=number, thread=f"worker-127.0.0.1:8080-{number}", steps=known[first:]))
        return Steps(label=self.label, name=self.name, model=MADE_UP[self.label], process=4242, begin=begin,
                     end=end, lanes=lanes)


def made_up(lanes: int, labels: Sequence[str] = tuple(MADE_UP), bind: str = "127.0.0.1:0") -> ControlServer:
    """A control server that shows these models, with so many threads each, under one load."""
    load = MadeUpLoad(int(lanes * 0.9), 30.0) if lanes > 40 else MadeUpLoad()
    return ControlServer([MadeUpSource(label, lanes, load) for label in labels], bind, load=load)


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.page_server", description="The live page, on made-up sources.")
    parser.add_argument("--lanes", type=int, default=12, help="threads of each, at most (12)")
    parser.add_argument("--bind", default="127.0.0.1:0")
    parser.add_argument("--labels", default=",".join(MADE_UP), help="which models to play (thread,pool,recycling)")
    arguments = parser.parse_args()
    with made_up(arguments.lanes, arguments.labels.split(","), arguments.bind) as server:
        print(f"See {server.url}   (Ctrl+C stops)", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
