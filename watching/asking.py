"""Asking a control server, for people who have written its address: what is wrong is said with the fix."""

from __future__ import annotations

import http.client
import json
import re
import socket
from typing import Any
from urllib.parse import parse_qs, urlsplit

from acceptor.addresses import TCPAddress, UnixAddress, parse_address

__all__ = ["AskingError", "Client", "parse_url"]

_PATIENCE = 5.0
"""Seconds for an answer."""
_FIX = ('write the address that `taskmaster serve --control` or `taskmaster watch` has said, such as '
        '"http://127.0.0.1:9000" or "unix:/run/app-control.sock"')


class AskingError(Exception):
    """There is no answer, or not what was asked for: why, and what to do."""


def parse_url(text: str) -> tuple[str, str | None]:
    """The address, "127.0.0.1:9000" or "unix:/path", and the token, if there is one, in what somebody has written:
    either of them, or the URL of a page. AskingError if it is none of these."""
    if text.startswith("https://"):
        raise AskingError(f"{text!r}: control servers do not speak TLS; write http://, or tunnel to it by ssh -L")
    written, token = text, None
    try:
        if not text.startswith("unix:"):
            parts = urlsplit(text if "://" in text else f"//{text}")
            if parts.scheme not in ("", "http"):
                raise ValueError
            written, token = parts.netloc, next(iter(parse_qs(parts.query).get("token", [])), None)
            if parts.scheme and not re.search(r":[0-9]+$", written):
                written += ":80"
        address = parse_address(written)
    except ValueError:
        raise AskingError(f"{text!r} is no control server's address: {_FIX}") from None
    if isinstance(address, UnixAddress):
        return str(address), token
    if not isinstance(address, TCPAddress) or not address.host or not address.port:
        raise AskingError(f"{text!r} is an address to listen on; {_FIX}")
    return str(address), token


class Client:
    """Asks the control server at `address` (see `parse_url`), over one connection that it keeps. One thread at a time.

    token: if it asks for one.
    """

    def __init__(self, address: str, token: str | None = None) -> None:
        self.address = address
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._connection: http.client.HTTPConnection | None = None

    def snapshot(self) -> dict[str, Any]:
        """{"time": ..., "sources": [a `watching.messages.Sample` each], ...}. AskingError."""
        body = self.ask("/snapshot.json")
        try:
            said = json.loads(body)
            assert isinstance(said["sources"], list)
        except (AssertionError, KeyError, TypeError, ValueError):
            raise AskingError(f"{self.address} answers, but is no control server of Taskmasters; {_FIX}") from None
        return dict(said)

    def close(self) -> None:
        """Give the connection back. It can ask again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def ask(self, target: str, patience: float = _PATIENCE) -> bytes:
        """What it answers with 200; AskingError. patience: seconds to wait for each piece of it."""
        kept = self._connection is not None
        try:
            if self._connection is None:
                self._connection = _connection(self.address)
            self._connection.timeout = patience
            if self._connection.sock is not None:
                self._connection.sock.settimeout(patience)
            self._connection.request("GET", target, headers=self._headers)
            response = self._connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if kept and not isinstance(error, TimeoutError):  # it may have been closed meanwhile
                return self.ask(target, patience)
            raise AskingError(self._silence(error, patience)) from error
        if response.status != 200:
            self.close()
            raise AskingError(self._refusal(response.status, body.decode(errors="replace").strip()[:300]))
        return body

    def _silence(self, error: Exception, patience: float) -> str:
        if isinstance(error, ConnectionRefusedError):
            return f"nothing listens on {self.address}; does the server run, with --control {self.address}?"
        if isinstance(error, FileNotFoundError):
            path = self.address.removeprefix("unix:")
            return f"there is no socket {path}; does the server run, with --control {self.address}?"
        if isinstance(error, PermissionError):
            return f"{self.address} is not for this user: {error.strerror}; become the one who runs the server"
        if isinstance(error, socket.gaierror):
            return f"{self.address}: there is no such host ({error.strerror}); {_FIX}"
        if isinstance(error, TimeoutError):
            return f"{self.address} has not answered for {patience:g} s; is it a control server, and does it run?"
        if isinstance(error, http.client.HTTPException) and not isinstance(error, ConnectionError):
            return f"{self.address} does not speak HTTP; {_FIX}"
        return f"{self.address} does not answer: {error}"

    def _refusal(self, status: int, said: str) -> str:
        if status == 401 and self._headers:
            return f"{self.address} asks for another token than this; it is that of its --control-token"
        if status == 401:
            return (f"{self.address} asks for a token, that of its --control-token: say --token, set "
                    "TASKMASTER_CONTROL_TOKEN, or write the address with its /?token=...")
        if status == 403:
            return f"{self.address} refuses: {said}"
        if status == 404:
            return (f"{self.address} answers, but has no /snapshot.json: it is an application's port, or the server is "
                    f"older than this command; {_FIX}")
        return f"{self.address} answers {status}: {said}"


def _connection(address: str) -> http.client.HTTPConnection:
    if address.startswith("unix:"):
        return _UnixConnection(address.removeprefix("unix:"))
    return http.client.HTTPConnection(address)


class _UnixConnection(http.client.HTTPConnection):
    """Over a UNIX socket; "@name" is one in the abstract namespace."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path.replace("@", "\0", 1) if self._path.startswith("@") else self._path)
