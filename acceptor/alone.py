"""An exchange on the one thread that serves all connections: nothing but its handler may keep that thread waiting.

    1. the body is read, as it comes, into memory or, beyond 64 KiB, into a file; the connection is parked in between
    2. the handler runs, on this thread, and then it blocks whatever else there is to do; or as a job of an executor,
       and then the connection is parked until the job is done
    3. the response is sent, as the client takes it; the connection is parked in between

So a handler never waits for a body, and a client that expects `100 Continue` gets it before there is a handler to ask.

A job in this process has the connection to itself, and may do with it what a handler may do on a thread. Who makes a
response's pieces, one by one, sends them too, and waits for the client: no more of a response is in memory than its
handler has made. What lies there whole, bytes or a file on the disk, is left to the thread that serves all.

A job in another process, or interpreter, gets the handler and the request pickled, the body as bytes; its response
comes back pickled, the body as bytes. So both are in memory whole, and `begin` and `detach` are not to be had there.
Which of the two a job is, is the executor's business: one that pickles it leaves the exchange behind.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Future
from dataclasses import dataclass
from pickle import PicklingError
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, TypeAlias

from acceptor.body import RequestBody
from acceptor.exchange import Exchange, internal_error
from acceptor.framing import CONTINUE
from acceptor.messages import (
    BodyError,
    ClientDisconnectedError,
    Handler,
    HTTPError,
    Request,
    Response,
    as_response,
    file_size,
)
from acceptor.phases import End, Phase
from acceptor.sending import close_body
from acceptor.stream import Patience
from acceptor.violations import ProtocolError

if TYPE_CHECKING:
    from acceptor.connection import Connection
    from acceptor.heads import RequestHead

__all__ = ["LoneExchange"]

logger = logging.getLogger("acceptor")

_IN_MEMORY = 64 * 1024
"""Bytes of a body beyond which it goes into a file."""
_PIECE = 64 * 1024
"""Bytes that a handler is given of it at a time."""


class LoneExchange(Exchange):
    """One request. Owned by the thread that serves all; from `submit` until the job is done, by the job."""

    _file: SpooledTemporaryFile[bytes] | None = None
    """The body."""
    _job: Future[_Outcome] | None = None

    def __init__(self, connection: Connection, head: RequestHead) -> None:
        super().__init__(connection, head)
        self._read_whole = self._raw_body is None
        """There is nothing of the body left to be read from the client."""

    @property
    def patience(self) -> float:
        if self.at_work:
            return float("inf")
        if not self._read_whole and self._patience is not None and self._connection.phase is Phase.RECEIVING:
            return self._patience.left
        return super().patience

    @property
    def at_work(self) -> bool:
        return self._job is not None and not self._job.done()

    def _begin(self) -> End | None:
        connection = self._connection
        if self._read_whole:
            connection.enter(Phase.HANDLING)
            self._started = connection.since
            return self._answer()
        connection.enter(Phase.RECEIVING)
        self._started = connection.since
        self._file = SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115  # see _end
        self._patience = Patience(connection.service.timeouts.body, connection.service)
        self._step = LoneExchange._receive_body
        if self._head.expects_continue:
            connection.stream.send(CONTINUE)
        return self._receive_body()

    # 1. The body.

    def _receive_body(self) -> End | None:
        connection = self._connection
        try:
            self._receive_all()
        except ProtocolError as error:
            connection.service.compliance.log_refusal(connection.peer, error)
            return self._respond(BodyError(error.status).response)
        except TimeoutError:
            if connection.stream.has_unsent:  # half of 100 Continue, behind which nothing can be read
                raise
            return self._respond(BodyError(408).response)
        except _NoRoomError as error:
            logger.error("%s: its body cannot be kept in a file: %s; is there room in the directory for temporary "
                         "files (TMPDIR)?", self, error)
            return self._respond(internal_error())
        self._file.seek(0)  # type: ignore[union-attr]
        self._read_whole = True
        self._raw_body = RequestBody(self._read_body, False, None)
        connection.enter(Phase.HANDLING)
        return self._answer()

    def _receive_all(self) -> None:
        """Into the file. MustWait if it has not come whole."""
        assert self._file is not None
        assert self._patience is not None
        wire, stream = self._connection.wire, self._connection.stream
        stream.flush()  # of 100 Continue
        while (data := wire.next_body()) != b"":
            if data is not None:
                try:
                    self._file.write(data)
                except OSError as error:
                    raise _NoRoomError(error) from error
            elif received := stream.receive_patiently(self._patience):
                wire.receive(received)
                stream.end_turn()
            else:
                raise ClientDisconnectedError(f"{self._connection.peer} left before the end of its request's body")

    def _read_body(self, expects_continue: bool, until: float | None) -> bytes:
        assert self._file is not None
        return self._file.read(_PIECE)

    def _discard_body(self) -> bool:
        return self._read_whole

    # 2. The handler.

    def _answer(self) -> End | None:
        connection = self._connection
        offload = connection.offload
        connection.stream.waits = True  # while the handler has it
        if offload is None:
            if connection.lane is not None:
                connection.record("H", (self.method, self.target))
            response = self._handle()
            return End.DETACHED if self._detached else self._respond(response)
        self._step = LoneExchange._collect
        lane = connection.lane
        if lane is not None:  # before: then all of it is the job's, which has a lane of its own
            connection.record("Q")
            connection.lane = None
        try:
            self._job = offload.submit(_Job(self, connection.service.handler))
        except Exception as error:
            connection.lane = lane
            return self._respond(self._cannot_run(error))
        # From here on all of it is the job's, until that is done. Nothing is touched here but this:
        self._job.add_done_callback(functools.partial(_tell, connection))
        return connection.stream.wait_for_job()

    def run_job(self) -> _Outcome:
        """The job, in this process."""
        self._in_job = True
        connection = self._connection
        jobs, me = connection.service.jobs, threading.get_ident()
        jobs.add(me)
        if (recording := connection.service.recording) is not None:
            connection.lane = recording.lane()
            connection.record("R")
            connection.record("H", (self.method, self.target))
        try:
            response = self._handle()
            if self._detached:
                return End.DETACHED
            if isinstance(response.body, bytes) or file_size(response.body) is not None:
                return response
            return self._respond(response)
        except BaseException as error:  # the client is gone, most likely; not the executor's affair
            return error
        finally:
            connection.record("_", "done")
            connection.lane = None
            self._in_job = False
            jobs.discard(me)

    def _collect(self) -> End | None:
        """The job is done."""
        assert self._job is not None
        try:
            outcome = self._job.result()
        except BaseException as error:  # SystemExit too: it was raised elsewhere
            outcome = self._cannot_run(error)
        if isinstance(outcome, BaseException):
            raise outcome
        if isinstance(outcome, _Failed):
            logger.error("%s: the handler failed:\n%s", self, outcome.traceback.rstrip())
            outcome = internal_error()
        return self._respond(outcome) if isinstance(outcome, Response) else outcome

    def _cannot_run(self, error: BaseException) -> Response:
        logger.error("%s: %s did not run its handler: %s", self, type(self._connection.offload).__name__,
                     _explained(error), exc_info=error)
        return internal_error()

    # The end.

    def give_up(self) -> bool:
        job = self._job
        if job is None:
            return super().give_up()
        job.cancel()  # if it has not begun
        if job.done():
            self._give_up_job(job)
            return not self._detached
        job.add_done_callback(self._close_late)
        return False

    def _give_up_job(self, job: Future[_Outcome]) -> None:
        """It is done, too late, and nobody wants what has come of it."""
        failed = job.cancelled() or job.exception() is not None
        outcome = None if failed else job.result()
        if not failed and (outcome is None or isinstance(outcome, End)):  # the job has sent it
            self._end()
            return
        self._to_close = outcome if isinstance(outcome, Response) else Response()  # else the job has closed it
        super().give_up()

    def _close_late(self, job: Future[_Outcome]) -> None:
        """On the job's thread: until now it may have used the socket."""
        self._give_up_job(job)
        if not self._detached:
            self._connection.close()

    def _end(self) -> None:
        super()._end()
        if self._file is not None:
            self._file.close()
        self._job = None


class _NoRoomError(Exception):
    """A body could not be written into its file."""


@dataclass(frozen=True)
class _Failed:
    """The handler has failed, in another process. As text, because not everything that can be raised can be pickled,
    and what cannot be unpickled breaks a ProcessPoolExecutor."""

    traceback: str


_Outcome: TypeAlias = "Response | End | _Failed | BaseException | None"
"""Of a job: a response that is to be sent; or it has been sent, and this is what `Exchange.run` returns, or raises."""


class _Job:
    """What is submitted. Pickled, it leaves the exchange behind: that makes a Request by hand of itself."""

    def __init__(self, request: Request, handler: Handler, serial: bytes = b"") -> None:
        self._request = request
        self._handler = handler

    def __call__(self) -> _Outcome:
        if isinstance(self._request, LoneExchange):
            return self._request.run_job()
        try:
            return _packed(as_response(self._handler(self._request), self._handler))
        except HTTPError as error:
            return error.response
        except BaseException:  # SystemExit too: a handler ends its request, never the process
            return _Failed(traceback.format_exc())

    def __reduce__(self) -> tuple[Callable[..., _Job], tuple[Request, Handler, bytes]]:
        # No two are alike: who remembers results, as Dask does, must not take this one for one it has had.
        return _Job, (self._request, self._handler, os.urandom(8))


def _packed(response: Response) -> Response:
    """The same with its body as bytes, and nothing that cannot be pickled."""
    body = response.body
    if not isinstance(body, bytes):
        try:
            read: Callable[..., bytes] | None = getattr(body, "read", None)
            if read is None:
                body = b"".join(body)  # type: ignore[arg-type]
            else:  # no more than is announced: framing.plan
                announced = [int(value) for name, value in response.headers if name == b"content-length"]
                body = read(*announced[-1:])
        finally:
            close_body(response.body)
    packed = Response(body, response.status, reason=response.reason)
    packed.headers = response.headers
    return packed


_UNPICKLABLE = re.compile("pickle|local object|serialize|cross-interpreter")
"""In what pickle, Dask, and the interpreters of Python 3.14 say of it, each by errors of other types."""


def _explained(error: BaseException) -> str:
    """What has gone wrong with an executor, and what to do about it."""
    if isinstance(error, BrokenExecutor):
        advice = ("it runs nothing any more, and cannot be mended: find out what has ended its workers (the kernel, "
                  "for want of memory? a library that crashed?), and restart the server")
    elif isinstance(error, CancelledError):
        advice = "the job was cancelled; shut the executor down after the server, not before"
    elif isinstance(error, PicklingError) or _UNPICKLABLE.search(str(error)):
        advice = ("it pickles what it runs: pass the server a handler that is a function at the top level of a module "
                  "(not a lambda, an inner function or a bound method of something that holds a lock or a file)")
    elif isinstance(error, RuntimeError) and "shutdown" in str(error):
        advice = "shut the executor down after the server, not before"
    else:
        return str(error) or type(error).__name__
    return f"{str(error) or type(error).__name__}; {advice}"


def _tell(connection: Connection, job: Future[_Outcome]) -> None:
    """The job is done: have the connection come back. By whatever thread has noticed."""
    connection.service.wake(connection)
