"""The control server: what is to be seen of a server, on a port or a UNIX socket of its own.

    control = ControlServer(acceptor, bind="127.0.0.1:9000").start()

    /                 the live page
    /events           a sample ten times a second, as server-sent events
    /snapshot.json    one sample of each source
    /steps.json       ?seconds=0.02: what happens in that time, step by step
    /trace            ?seconds=5: the same, as a Chrome trace, for https://ui.perfetto.dev
    /threads          where each thread is, with its stack
    /metrics          for Prometheus
    /load             what clients of ours do, null where there are none; POST changes it

?source=LABEL, with samples, steps and threads, asks for one source only.

It is an acceptor with threads of its own, never those of the server that it watches: a status page that needs a free
worker is gone when it is needed (Apache's mod_status). And a thread that holds an event stream would be one less.

Who may see it (`watching.access`): by default whoever is on this machine; where others could reach it, who knows its
token. Nothing can be changed through it but the load of `taskmaster watch`.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias
from urllib.parse import parse_qs

from acceptor import Acceptor, HTTPError, Limits, Request, Response
from taskmaster import AcceptorSteps, ThreadPerConnectionTaskmaster, ThreadState
from watching.access import Access
from watching.messages import LoadState, Sample
from watching.messages import Steps as StepsSaid
from watching.pieces import steps_in_pieces, trace_in_pieces
from watching.source import MOST_SECONDS, LocalSource, Source, SourceError

__all__ = ["ControlServer", "Load"]

logger = logging.getLogger("watching")

_TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8",
          ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
_FILES = {path.name: path for path in (Path(__file__).parent / "page").iterdir() if path.suffix in _TYPES}
_JSON = {"Content-Type": "application/json"}
_HEADERS = [
    (b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'self'; frame-ancestors 'none'; base-uri 'none'"),
]
_EVERY = 0.1
"""Seconds between two samples of an event stream."""
_FRESH = 0.05
"""Seconds for which a sample is as good as a new one, when several look."""
_VIEWERS = 32
"""Connections at once: each is a thread."""
_MOST_STREAMS = 24
"""Of them event streams: the others are for who wants to know something now."""
_LOOK_EVERY = 0.5
"""Seconds after which responses are counted, also if nobody looks."""


Sources: TypeAlias = Acceptor | Source | Sequence[Source] | Callable[[], Sequence[Source]]
"""What there is to be seen."""


class Load(Protocol):
    """Clients that can be told what to do."""

    def state(self) -> LoadState:
        """What they do."""

    def change(self, wishes: Mapping[str, Any]) -> LoadState:
        """Do so from now on; ValueError, with the fix, for what cannot be done."""


class _Threads(ThreadPerConnectionTaskmaster):
    """A thread for each connection, and one that looks: as one of this taskmaster's, so that the server beside it sees
    what it uses (`taskmaster.register.cpu_seconds_of_all`)."""

    def __init__(self, look: Callable[[], None]) -> None:
        super().__init__(max_thread_count=_VIEWERS, max_accept_count=_VIEWERS)
        self._look = look

    def execute_acceptor(self, acceptor: AcceptorSteps) -> None:
        super().execute_acceptor(acceptor)
        self.start(self._look_on, "look")

    def _look_on(self) -> None:
        self.enter(ThreadState.WAITING)
        self._look()
        self.leave("stopped")


class _Events:
    """The body of an event stream, which has its place until it is closed, also if it has never begun."""

    def __init__(self, events: Callable[[], Iterator[bytes]], release: Callable[[], None]) -> None:
        self._events = events
        self._release = release

    def __iter__(self) -> Iterator[bytes]:
        return self._events()

    def close(self) -> None:
        """Called once, by whoever has sent it, or could not."""
        self._release()


class ControlServer:
    """Shows `sources`: an acceptor, or sources, one or several, or a function that returns those that there are now.

    bind: where it listens: "127.0.0.1:0" (any free port), "unix:/run/app-control.sock".
    token: what has to be known to see anything; needed unless `bind` is loopback or a UNIX socket.
    load: clients that the page may change.

    ValueError for a `bind` without a token that needs one; OSError from `start` if it cannot be had.
    """

    def __init__(self, sources: Sources, bind: str = "127.0.0.1:0", *, token: str | None = None,
                 load: Load | None = None) -> None:
        self._access = Access(bind, token)
        self._load = load
        self._stopping = threading.Event()
        self._streams = threading.BoundedSemaphore(_MOST_STREAMS)
        self._acceptor = Acceptor(
            self._answer, bind=bind, limits=Limits(body=64 * 1024),
            taskmaster=_Threads(self._look))
        # Guarded by self._lock.
        self._lock = threading.Lock()
        self._sources = _sources_of(sources)
        self._shown = 0
        """How often they have changed."""
        # Guarded by self._sampling, which is held while sources are asked: whoever comes meanwhile wants to know the
        # same, and gets the same answer.
        self._sampling = threading.Lock()
        self._sampled = -1.0
        """When `_samples` was read; of which sources, by how often they had changed."""
        self._sampled_of = -1
        self._samples: dict[str, Any] = {}
        self._encoded = b""
        """The same as JSON: many may look."""

    @property
    def name(self) -> str:
        """Where it listens: "127.0.0.1:9000"."""
        return self._acceptor.name

    @property
    def url(self) -> str:
        """Of the page; with the token, which a browser then keeps."""
        return self._access.url(self._acceptor.urls[0])

    def start(self) -> Self:
        """Listen. A second call: RuntimeError."""
        self._stopping.clear()
        self._acceptor.start()
        return self

    def stop(self) -> None:
        """End the streams, what is being recorded, and all threads. A second call does nothing."""
        self._stopping.set()
        for source in self._sources_now():
            if isinstance(source, LocalSource):
                source.detach()  # ends its recording
        self._acceptor.stop(deadline=MOST_SECONDS)

    def show(self, sources: Sources) -> None:
        """Show these from now on. Any thread."""
        with self._lock:
            self._sources = _sources_of(sources)
            self._shown += 1

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.stop()

    def _look(self) -> None:
        """On a thread of its own: see that responses are counted, and what has been counted is taken."""
        while not self._stopping.is_set():
            for source in self._sources_now():
                if isinstance(source, LocalSource):
                    source.look()
            self._stopping.wait(_LOOK_EVERY)

    # The handler: on the control server's own threads.

    def _answer(self, request: Request) -> Response:
        first = self._access.check(request) or self._access.welcome(request)
        if first is not None:
            return first
        path, query = request.path, parse_qs(request.query)
        which = query.get("source", [None])[-1]
        if request.method == "POST" and path == "/load":
            response = self._change_load(request)
        elif request.method not in ("GET", "HEAD"):
            raise HTTPError(405, headers={"Allow": "GET, HEAD"})
        elif path == "/events":
            if not self._streams.acquire(blocking=False):
                raise HTTPError(503, f"{_MOST_STREAMS} pages are open already", {"Retry-After": "10"})
            response = Response(_Events(self._events, self._streams.release),
                                headers={"Content-Type": "text/event-stream"})
        elif path == "/snapshot.json":
            response = self._snapshot(which)
        elif path == "/steps.json":
            response = Response(steps_in_pieces(self._steps(_seconds(query, 0.02), which)), headers=_JSON)
        elif path == "/trace":
            response = self._trace(_seconds(query, 5.0))
        elif path == "/threads":
            response = Response("\n".join(self._stacks(which)), headers={"Content-Type": "text/plain; charset=utf-8"})
        elif path == "/metrics":
            response = self._metrics(request)
        elif path == "/load":
            response = _json(self._load.state() if self._load is not None else None)
        else:
            response = _file("index.html" if path == "/" else path.removeprefix("/"))
        response.headers += _HEADERS
        return response

    def _sample(self) -> tuple[dict[str, Any], bytes]:
        """Of all sources, one after the other, and the same as JSON; one for all who ask within a moment."""
        with self._sampling:
            with self._lock:
                shown, sources = self._shown, self._sources
            if monotonic() - self._sampled > _FRESH or shown != self._sampled_of:
                samples: dict[str, Sample] = {}
                lost: list[dict[str, str]] = []
                for source in sources():
                    try:
                        sample = source.sample()
                    except SourceError as error:
                        lost.append({"label": source.label, "error": str(error)})
                        continue
                    while sample["label"] in samples:
                        sample["label"] += "'"  # a name for each, on the page and among the metrics
                    samples[sample["label"]] = sample
                self._samples = {"time": monotonic(), "sources": list(samples.values()), "lost": lost}
                self._encoded = _encoded(self._samples)
                self._sampled, self._sampled_of = monotonic(), shown
            return self._samples, self._encoded

    def _snapshot(self, which: str | None) -> Response:
        sample, encoded = self._sample()
        if which is None:
            return Response(encoded, headers=_JSON)
        return _json({**sample, "sources": [each for each in sample["sources"] if each["label"] == which]})

    def _events(self) -> Iterator[bytes]:
        """Of a stream: until its client leaves, or the server stops."""
        yield b"retry: 1000\n\n"
        while True:
            yield b"event: sample\ndata: " + self._sample()[1] + b"\n\n"
            if self._stopping.wait(_EVERY):
                return

    def _steps(self, seconds: float, which: str | None = None) -> list[StepsSaid]:
        """Of all sources, or the one that is called so, in the same time: all but one by threads of their own."""
        if self._stopping.is_set():
            raise HTTPError(503, "The control server stops.")
        found: dict[int, StepsSaid] = {}

        def record(place: int, source: Source) -> None:
            try:
                found[place] = source.steps(seconds)
            except SourceError as error:
                logger.warning("%s: no steps: %s", source.label, error)

        wanted = [each for each in enumerate(self._sources_now()) if which in (None, each[1].label)]
        threads = [threading.Thread(target=record, args=each, name=f"steps-{self.name}", daemon=True)
                   for each in wanted[1:]]
        for thread in threads:
            thread.start()
        for each in wanted[:1]:
            record(*each)
        for thread in threads:
            thread.join()
        return [found[place] for place in sorted(found)]

    def _trace(self, seconds: float) -> Response:
        return Response(trace_in_pieces(self._steps(seconds)), headers={
            **_JSON, "Content-Disposition": 'attachment; filename="trace.json"'})

    def _stacks(self, which: str | None) -> Iterator[str]:
        for source in self._sources_now():
            if which not in (None, source.label):
                continue
            try:
                yield source.stacks()
            except SourceError as error:
                yield f"{source.label}: {error}\n"

    def _metrics(self, request: Request) -> Response:
        from watching.metrics import exposition

        try:
            body, content_type = exposition(self._sample()[0]["sources"], request.headers.get("Accept"))
        except ModuleNotFoundError as error:
            return Response(f"{error}\n", 501)
        return Response(body, headers={"Content-Type": content_type})

    def _change_load(self, request: Request) -> Response:
        if self._load is None:
            raise HTTPError(404)
        if request.headers.get("Content-Type", "").partition(";")[0].strip() != "application/json":
            # Which a form of another site cannot send (Fetch standard, CORS-safelisted request-header).
            raise HTTPError(415)
        try:
            wishes = json.loads(request.body.read())
            if not isinstance(wishes, dict):
                raise ValueError("pass an object, such as {\"clients\": 20}")
            return _json(self._load.change(wishes))
        except ValueError as error:
            return Response(f"{error}\n", 400)

    def _sources_now(self) -> list[Source]:
        with self._lock:
            return list(self._sources())


def _sources_of(sources: Sources) -> Callable[[], Sequence[Source]]:
    if callable(sources):
        return sources
    if isinstance(sources, Acceptor):
        sources = LocalSource(sources)
    found = list(sources) if isinstance(sources, Sequence) else [sources]
    return lambda: found


def _seconds(query: dict[str, list[str]], default: float) -> float:
    written = query.get("seconds", [str(default)])[-1]
    try:
        seconds = float(written)
        if not 0 < seconds <= MOST_SECONDS:
            raise ValueError
    except ValueError:
        raise HTTPError(400, f"seconds={written[:40]}: more than 0, and {MOST_SECONDS:g} at most\n") from None
    return seconds


def _json(said: object) -> Response:
    return Response(_encoded(said), headers=_JSON)


def _encoded(said: object) -> bytes:
    return json.dumps(said, separators=(",", ":")).encode()


def _file(name: str) -> Response:
    """One of the page."""
    if (path := _FILES.get(name)) is None:
        raise HTTPError(404, "There is / with the page, /events, /snapshot.json, /steps.json?seconds=0.02, "
                        "/trace?seconds=5, /threads and /metrics.\n")
    return Response(path.read_bytes(), headers={"Content-Type": _TYPES[path.suffix]})
