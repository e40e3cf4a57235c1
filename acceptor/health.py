"""Answers for load balancers and orchestrators, in front of an application.

    live    200 as long as requests are answered at all; if it is not, restart the process
    ready   200; 503 as soon as the server leaves (`Acceptor.stop(leave=...)`): send no more requests

They take a thread as any request does. So a server all of whose threads are busy does not answer, which is what some
load balancers want to know, and what makes others restart a server that is only busy: then let the acceptor answer
them all the same,

    health = Health(handler)
    Acceptor(health, urgent=health.answer, taskmaster=...)
"""

from __future__ import annotations

from acceptor.messages import Handler, Request, Response, as_response

__all__ = ["Health"]

_NO_STORE = {"Cache-Control": "no-store"}
_OK = Response("ok\n", headers=_NO_STORE)
_LEAVING = Response("leaving\n", 503, headers=_NO_STORE)


class Health:
    """A handler that answers `live` and `ready` itself, any method, and hands everything else to `handler`.

    handler: answers everything else.
    live, ready: paths, such as "/livez" and "/readyz"; None: there is no such path.
    """

    def __init__(self, handler: Handler, *, live: str | None = "/livez", ready: str | None = "/readyz") -> None:
        for name, path in (("live", live), ("ready", ready)):
            if path is not None and (not isinstance(path, str) or not path.startswith("/")):
                raise ValueError(f'{name}={path!r}: pass a path, which begins with "/", or None')
        if live is not None and live == ready:
            raise ValueError(f"live={live!r} and ready={ready!r}: they say different things; give each a path")
        self.handler = handler
        self._live = live
        self._ready = ready

    def __call__(self, request: Request) -> Response:
        answer = self.answer(request)
        return as_response(self.handler(request), self.handler) if answer is None else answer

    def answer(self, request: Request) -> Response | None:
        """The answer to a health check; None if it is something else. Never blocks: for Acceptor(urgent=...)."""
        path = request.path
        if path == self._ready:
            return _LEAVING if request.stopping else _OK
        return _OK if path == self._live else None
