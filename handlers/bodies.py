"""A request's body, read whole, up to a limit: what `echo` and the easy handlers need."""

from __future__ import annotations

from acceptor import HTTPError, Request

__all__ = ["read_whole"]


def read_whole(request: Request, limit: int) -> bytes:
    """The whole body of `request`, b"" if it has none; HTTPError 413 if it is longer than `limit` bytes.

    Blocks until the body has come. Of a body that announces itself as too long nothing is read, so that a client which
    waits for `100 Continue` does not send it (RFC 9110 section 10.1.1); of any other at most one byte too many. Raises
    what `Request.body` raises.
    """
    try:
        announced = int(request.headers.get("content-length", "0"))
    except ValueError:  # not one number; the body itself will tell
        announced = 0
    body = b"" if announced > limit else request.body.read(limit + 1)
    if max(announced, len(body)) > limit:
        raise HTTPError(413, f"The request's body is longer than the {limit} bytes that are read here.")
    return body
