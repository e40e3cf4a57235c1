"""What the work is: the listen socket and HTTP/1.1, in any thread, without knowing which.

    acceptor     Acceptor: start, stop, and the steps a taskmaster makes its loops of
    listener     the listen socket: how threads wait on it, and how it stops without losing anybody
    refusals     503, in a way that a client can read
    connection   a connection's life: request, handler, response, again
    wire         bytes into requests, over h11
    framing      responses into bytes
    sending      responses onto a socket
    body         a request's body, read as it comes
    messages     Request, Response and errors: the contract with handlers
"""

from acceptor.acceptor import Acceptor, StopReport
from acceptor.messages import BodyError, ClientDisconnectedError, Handler, Headers, HTTPError, Request, Response

__all__ = [
    "Acceptor",
    "BodyError",
    "ClientDisconnectedError",
    "HTTPError",
    "Handler",
    "Headers",
    "Request",
    "Response",
    "StopReport",
]
