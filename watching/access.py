"""Who may see a control server."""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, quote

from acceptor import Request, Response

__all__ = ["Access"]

_LOCAL = re.compile(r"(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]+)?", re.IGNORECASE)
"""What a browser of this machine writes into Host."""
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{8,}")
"""RFC 6750 section 2.1."""


class Access:
    """bind: where the control server listens. token: what has to be known; None: being on this machine is enough.

    ValueError for a `bind` that others can reach, and no token.
    """

    def __init__(self, bind: str, token: str | None) -> None:
        if token is not None and (not isinstance(token, str) or not _TOKEN.fullmatch(token)):
            raise ValueError("token: pass at least 8 letters, digits or any of -._~+/=; "
                             "python -c 'import secrets; print(secrets.token_urlsafe())' makes one")
        if token is None and not _is_local(bind):
            raise ValueError(f"bind={bind!r} can be reached from other machines: pass a token, or listen on 127.0.0.1 "
                             "or on unix:/path")
        self._token = token
        self._session = secrets.token_urlsafe()
        """What a browser keeps, which is sent to other ports of the same host too (RFC 6265 section 8.5): so it is not
        the token."""

    def url(self, server: str) -> str:
        return server if self._token is None else f"{server}/?token={quote(self._token)}"

    def check(self, request: Request) -> Response | None:
        """What is answered to who may not; None: go on."""
        # Not for pages of other sites, which cannot read the answer, but could have the server recorded on and on.
        # (W3C, Fetch Metadata; browsers have it since 2023.) A link to the page is no harm.
        site = request.headers.get("Sec-Fetch-Site", "none")
        if site not in ("none", "same-origin") and request.path != "/":
            return Response("Not for a page of another site.\n", 403)
        if self._token is None:
            # A name of somebody else's that points to 127.0.0.1 would let his pages read what is here (DNS rebinding).
            if request.peer[0] == "unix" or _LOCAL.fullmatch(request.host):
                return None
            return Response("Host is no name of this machine: ask for it as 127.0.0.1 or localhost, or start the "
                            "control server with a token.\n", 403)
        authorization = request.headers.get("Authorization", "")
        known = [authorization.removeprefix("Bearer ")] if authorization.startswith("Bearer ") else []
        known += parse_qs(request.query).get("token", [])
        if any(hmac.compare_digest(each.encode(), self._token.encode()) for each in known):
            return None
        try:
            cookie = SimpleCookie(request.headers.get("Cookie", "")).get(_cookie(request))
        except CookieError:
            cookie = None
        if cookie is not None and hmac.compare_digest(cookie.value.encode(), self._session.encode()):
            return None
        return Response("A token is needed: /?token=..., or Authorization: Bearer ...\n", 401,
                        headers={"WWW-Authenticate": "Bearer"})

    def welcome(self, request: Request) -> Response | None:
        """To a browser that has come for the page with the token in its address: the page without it, which is not to
        be seen over its shoulder, and what it keeps instead. None: there is no need."""
        if self._token is None or request.path != "/" or "token=" not in request.query:
            return None
        cookie = f"{_cookie(request)}={self._session}; HttpOnly; SameSite=Strict; Path=/"
        return Response(status=303, headers={"Location": "/", "Set-Cookie": cookie})


def _cookie(request: Request) -> str:
    """Its name: several control servers may be on one host."""
    return f"taskmaster_control_{request.local[1]}"


def _is_local(bind: str) -> bool:
    if bind.startswith("unix:"):
        return True
    host = bind.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
