"""taskmaster.saturation: what threads have used, and whether that is all they can get."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskmaster import PooledTaskmaster, SingleThreadedTaskmaster, ThreadedTaskmaster, ThreadState
from taskmaster.register import cpu_seconds_of_all
from taskmaster.saturation import CAN_TELL, cpu_seconds, saturated
from taskmaster.scripted import ScriptedAcceptor

READINGS = st.dictionaries(st.integers(1, 9), st.floats(0, 1e6), max_size=9)


def with_gil(monkeypatch: pytest.MonkeyPatch, enabled: bool) -> None:
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: enabled, raising=False)


@pytest.mark.parametrize(("gil", "cpus", "cores", "all_of_it"), [
    (True, 1, 0.5, False),
    (True, 1, 0.95, True),
    (True, 8, 0.5, False),
    (True, 8, 0.95, True),  # Python code, one thread at a time
    (True, 8, 3.0, False),  # C code that has released the GIL
    (True, 8, 7.5, True),
    (False, 8, 0.95, False),
    (False, 8, 7.5, True),
    (False, 1, 0.95, True),
])
def test_whether_more_threads_would_help(gil: bool, cpus: int, cores: float, all_of_it: bool,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    with_gil(monkeypatch, gil)
    # Two threads, 2 seconds; one that has come, and one that has left meanwhile, count for nothing.
    assert saturated({1: 5.0, 2: 0.0, 3: 9.0}, {1: 5.0 + cores, 2: cores, 4: 99.0}, 2.0, cpus) is all_of_it


@given(before=READINGS, seconds=st.floats(0.001, 1.0), cpus=st.integers(1, 64))
def test_who_has_used_nothing_has_not_used_all(before: Mapping[int, float], seconds: float, cpus: int) -> None:
    assert not saturated(before, before, seconds, cpus)


@pytest.mark.skipif(not CAN_TELL, reason="this system does not say what a thread has used")
def test_a_thread_that_computes_is_told_from_one_that_waits() -> None:
    over = threading.Event()
    spun = threading.Event()

    def spin() -> None:
        end = time.thread_time() + 0.02
        while time.thread_time() < end:
            pass
        spun.set()
        over.wait()

    threads = [threading.Thread(target=target) for target in (spin, over.wait)]
    for thread in threads:
        thread.start()
    try:
        assert spun.wait(30)
        used = cpu_seconds([thread.ident or 0 for thread in threads])
        assert used[threads[0].ident or 0] >= 0.02 > used[threads[1].ident or 0]
    finally:
        over.set()
        for thread in threads:
            thread.join()


@pytest.mark.skipif(not CAN_TELL, reason="this system does not tell what a thread has used")
def test_the_threads_of_all_taskmasters_of_the_process_count() -> None:
    acceptors = [ScriptedAcceptor(), ScriptedAcceptor()]
    taskmasters: list[ThreadedTaskmaster] = [SingleThreadedTaskmaster(), PooledTaskmaster(threads=2)]
    before = set(cpu_seconds_of_all())
    for taskmaster, acceptor in zip(taskmasters, acceptors, strict=True):
        taskmaster.execute_acceptor(acceptor)
    try:
        acceptors[0].wait_until(lambda: not any(each.snapshot().threads[ThreadState.STARTING] for each in taskmasters),
                                "their threads to begin")
        own = {thread.ident for taskmaster in taskmasters for thread in taskmaster.states()}
        assert set(cpu_seconds_of_all()) - before == own
        assert len(own) == 1 + 3
    finally:
        for taskmaster, acceptor in zip(taskmasters, acceptors, strict=True):
            acceptor.close()
            assert not taskmaster.shutdown(10)
    assert not own & set(cpu_seconds_of_all())
