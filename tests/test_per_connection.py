"""What ThreadPerConnectionTaskmaster promises beyond the contract suite: of threads, not of connections."""

from __future__ import annotations

import pytest

from taskmaster import ThreadPerConnectionTaskmaster, ThreadState
from tests.test_shutdown import Gate, running


def test_a_worker_that_ends_counts_until_it_has_ended() -> None:
    taskmaster = ThreadPerConnectionTaskmaster(max_thread_count=1, max_accept_count=0)
    with running(taskmaster) as (acceptor, _):
        acceptor.wait_until(lambda: bool(acceptor.accepting), "the accepting thread")
        gate, reap = Gate(taskmaster, after=True), taskmaster.reap
        acceptor.settle(acceptor.connect(1, finished=True), "processed")
        gate.reached()
        assert taskmaster.snapshot().threads[ThreadState.LEAVING] == 1

        def reap_and_open(timeout: float | None = None) -> None:
            if timeout is None:  # the accepting thread waits for the end of the first worker: now it may come
                gate.open.set()
            reap(timeout)

        taskmaster.reap = reap_and_open  # type: ignore[method-assign]
        (second,) = acceptor.connect(1, finished=True)
        second.wait_for("processed")
        assert gate.open.is_set(), "a second worker was started while the first was not gone"


def test_a_worker_that_cannot_start_is_logged_and_its_connection_refused(caplog: pytest.LogCaptureFixture) -> None:
    taskmaster = ThreadPerConnectionTaskmaster()
    with running(taskmaster) as (acceptor, _):
        acceptor.wait_until(lambda: bool(acceptor.accepting), "the accepting thread")

        def start_thread(target: object, name: str) -> None:
            raise RuntimeError("can't start new thread")

        taskmaster.start_thread = start_thread  # type: ignore[method-assign]
        (connection,) = acceptor.connect()
        connection.wait_for("refused")
        assert "no thread for client 1: can't start new thread" in caplog.text
        now = taskmaster.snapshot()
        assert (now.accepted, now.refused, now.shrunk) == (1, 1, {"could not start": 1}), now
