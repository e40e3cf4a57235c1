"""What answers: handlers to measure with, and handlers to build an application of.

    workloads     hello, echo, delay, spin: what bench/ measures
    dispatcher    Dispatcher: which handler answers which request
    routes        one route of it, and the checks when it is added
    easy          functions whose parameters are the query's and the form's
    parameters    what those may be, and how they are read
    bodies        a request's body, read whole, up to a limit
    static        Static: the files below a directory; static_arguments: what it is told
    directory     how they are named and opened, and no others
    ranges        conditional requests and ranges; representations: media types and codings
    status        Status: what the server's threads do, as a page; status_page, and scoreboard, which it is made of
    wsgi          WSGI applications

A handler is any callable that takes an `acceptor.Request`, so all of this is optional: nothing in `acceptor` or
`taskmaster` imports this folder.
"""

from handlers.dispatcher import Dispatcher
from handlers.easy import FORM_LIMIT, easy_handler
from handlers.static import Static
from handlers.status import Status
from handlers.workloads import ECHO_LIMIT, delay, echo, hello, spin

__all__ = ["ECHO_LIMIT", "FORM_LIMIT", "Dispatcher", "Static", "Status", "delay", "easy_handler", "echo", "hello",
           "spin"]
