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

It is an acceptor with threads of its own, never those of the server that it watches: a status page that needs a free
worker is gone when it is needed (Apache's mod_status). And a thread that holds an event stream would be one less.

Who may see it: by default whoever is on this machine. An address of another kind than loopback or a UNIX socket needs a
token, and so does nobody get in by a name that points here from elsewhere (DNS rebinding): without a token, Host must
be a name of this machine. Nothing can be changed through it but the load of `taskmaster watch`.
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
from urllib.parse import parse_qs, urlsplit

from acceptor import Acceptor, HTTPError, Limits, Request, Response
from taskmaster import ThreadPerConnectionTaskmaster
from watching.access import Access
from watching.messages import LoadState, Sample
from watching.messages import Steps as StepsSaid
from watching.source import MOST_SECONDS, LocalSource, Source, SourceError

__all__ = ["ControlServer", "Load"]

logger = logging.getLogger("watching")

_PAGE = Path(__file__).parent / "page"
_TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8",
          ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
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
        self._acceptor = Acceptor(
            self._answer, bind=bind, limits=Limits(body=64 * 1024),
            taskmaster=ThreadPerConnectionTaskmaster(max_thread_count=_VIEWERS, max_accept_count=_VIEWERS))
        self._looker: threading.Thread | None = None
        # Guarded by self._lock.
        self._lock = threading.Lock()
        self._sources = _sources_of(sources)
        # Guarded by self._sampling, which is held while sources are asked: whoever comes meanwhile wants to know the
        # same, and gets the same answer.
        self._sampling = threading.Lock()
        self._sampled = -1.0
        """When `_samples` was read."""
        self._samples: dict[str, Any] = {}

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
        self._acceptor.start()
        self._stopping.clear()
        self._looker = threading.Thread(target=self._look, name=f"control-{self.name}", daemon=True)
        self._looker.start()
        return self

    def stop(self) -> None:
        """End the streams, and all threads. A second call does nothing."""
        self._stopping.set()
        self._acceptor.stop(deadline=MOST_SECONDS)
        if self._looker is not None:
            self._looker.join()
            self._looker = None
        for source in self._sources_now():
            if isinstance(source, LocalSource):
                source.detach()

    def show(self, sources: Sources) -> None:
        """Show these from now on. Any thread."""
        with self._lock:
            self._sources = _sources_of(sources)
        with self._sampling:
            self._sampled = -1.0

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.stop()

    def _look(self) -> None:
        """The thread of its own: see that responses are counted, and what has been counted is taken."""
        while not self._stopping.is_set():
            for source in self._sources_now():
                if isinstance(source, LocalSource):
                    source.look()
            self._stopping.wait(_LOOK_EVERY)

    # The handler: on the control server's own threads.

    def _answer(self, request: Request) -> Response:
        refused = self._access.check(request)
        if refused is not None:
            return refused
        path, query = request.path, parse_qs(urlsplit(request.target).query)
        if request.method == "POST" and path == "/load":
            response = self._change_load(request)
        elif request.method not in ("GET", "HEAD"):
            raise HTTPError(405, headers={"Allow": "GET, HEAD"})
        elif path == "/events":
            response = Response(self._events(), headers={"Content-Type": "text/event-stream"})
        elif path == "/snapshot.json":
            response = _json(self._sample())
        elif path == "/steps.json":
            response = _json({"sources": self._steps(_seconds(query, 0.02))})
        elif path == "/trace":
            response = self._trace(_seconds(query, 5.0))
        elif path == "/threads":
            response = Response("\n".join(self._stacks()), headers={"Content-Type": "text/plain; charset=utf-8"})
        elif path == "/metrics":
            response = self._metrics(request)
        elif path == "/load":
            response = _json(self._load.state() if self._load is not None else None)
        else:
            response = _file("index.html" if path == "/" else path.removeprefix("/"))
        response.headers += _HEADERS
        return self._access.welcome(request, response)

    def _sample(self) -> dict[str, Any]:
        """Of all sources, one after the other; the same for all who ask within a moment."""
        with self._sampling:
            if monotonic() - self._sampled > _FRESH:
                samples: list[Sample] = []
                lost: list[dict[str, str]] = []
                for source in self._sources_now():
                    try:
                        samples.append(source.sample())
                    except SourceError as error:
                        lost.append({"label": source.label, "error": str(error)})
                self._samples = {"time": monotonic(), "sources": samples, "lost": lost}
                self._sampled = monotonic()
            return self._samples

    def _events(self) -> Iterator[bytes]:
        """Until its client leaves, or the server stops."""
        yield b"retry: 1000\n\n"
        while True:
            yield b"event: sample\ndata: " + json.dumps(self._sample(), separators=(",", ":")).encode() + b"\n\n"
            if self._stopping.wait(_EVERY):
                return

    def _steps(self, seconds: float) -> list[StepsSaid]:
        """Of all sources, in the same time: each is recorded by a thread of its own."""
        found: dict[int, StepsSaid] = {}

        def record(place: int, source: Source) -> None:
            try:
                found[place] = source.steps(seconds)
            except SourceError as error:
                logger.warning("%s: no steps: %s", source.label, error)

        threads = [threading.Thread(target=record, args=each, name=f"steps-{self.name}", daemon=True)
                   for each in enumerate(self._sources_now())]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [found[place] for place in sorted(found)]

    def _trace(self, seconds: float) -> Response:
        from watching.trace import chrome_trace

        body = json.dumps(chrome_trace(self._steps(seconds)), separators=(",", ":"))
        return Response(body, headers={"Content-Type": "application/json",
                                       "Content-Disposition": 'attachment; filename="trace.json"'})

    def _stacks(self) -> Iterator[str]:
        for source in self._sources_now():
            try:
                yield source.stacks()
            except SourceError as error:
                yield f"{source.label}: {error}\n"

    def _metrics(self, request: Request) -> Response:
        from watching.metrics import exposition

        try:
            body, content_type = exposition(self._sample()["sources"], request.headers.get("Accept"))
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
    return Response(json.dumps(said, separators=(",", ":")), headers={"Content-Type": "application/json"})


def _file(name: str) -> Response:
    """One of the page."""
    path = _PAGE / name
    if "/" in name or path.suffix not in _TYPES or not path.is_file():
        raise HTTPError(404, "There is / with the page, /events, /snapshot.json, /steps.json?seconds=0.02, "
                        "/trace?seconds=5, /threads and /metrics.\n")
    return Response(path.read_bytes(), headers={"Content-Type": _TYPES[path.suffix]})
