"""What the work is: the listen sockets and HTTP/1.1, in any thread, without knowing which.

    acceptor        Acceptor: how it is made, started and stopped; hooks, signals, systemd
    run             what there is between start and stop: the steps a taskmaster makes its loops of, and the end
    addresses       where to listen; listen_socket, listener: how threads wait there, and how that stops
    registry        the connections there are, and who has each
    watcher         the one thread of its own: refusals, lingering, slow handlers

    connection      a connection's life: a request's head, its exchange, again; phases has its table
    exchange        one request and its response: body, handler, framing, sending; pushing: by the handler itself
    stream          a socket read and written within deadlines; tls, tls_socket: the same, encrypted

    wire            bytes into requests, over h11, or llhttp (httptools_wire); heads: what they mean; chunks: chunked
                    bodies
    violations      what HTTP forbids, by name; grammar: what a token is
    settings        Limits, Timeouts
    proxy_protocol  who the client is, behind proxies; forwarded, networks

    messages        Request, Response and errors: the contract with handlers; fields: what a header may be
    wsgi            a WSGI application as a handler; environ: what it is given; interfaces: whether it is one
    health          answers for load balancers
    recording       what each thread does, step by step, while somebody records
    access          the access log; background: written on a thread of its own
    testing         a fixture for pytest; cli: the command line
"""

from acceptor.acceptor import Acceptor
from acceptor.forwarded import ForwardedHeaders
from acceptor.hooks import Hooks
from acceptor.messages import (
    BodyError,
    ClientDisconnectedError,
    Detached,
    Handler,
    Headers,
    HTTPError,
    Request,
    Response,
)
from acceptor.run import StopReport
from acceptor.settings import Limits, Timeouts
from acceptor.tls import TLS, TLSInfo
from acceptor.violations import Violation

__all__ = [
    "TLS",
    "Acceptor",
    "BodyError",
    "ClientDisconnectedError",
    "Detached",
    "ForwardedHeaders",
    "HTTPError",
    "Handler",
    "Headers",
    "Hooks",
    "Limits",
    "Request",
    "Response",
    "StopReport",
    "TLSInfo",
    "Timeouts",
    "Violation",
]
