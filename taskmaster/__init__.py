"""Who runs the work: the concurrency models, each a file, all behind one contract.

    base            the contract: Taskmaster, AcceptorSteps, ThreadState, Snapshot
    register        the books that every model keeps: threads, and why there are so many; books: the numbers
    threaded        what the models share beyond that; to build your own model on
    single          one thread accepts and serves: the yardstick
    per_connection  one thread accepts, a new thread serves each connection
    pooled          one thread accepts, a queue, n workers serve
    recycling       every thread accepts, serves, accepts again
    event_loop      one thread serves all connections, waiting for none of them
    prefork         processes that share the listen socket, each with a model of its own; how they are forked, told and
                    counted: processes, nursery, worker_process, channel, rows, cpus
    contract        the tests that every taskmaster passes, yours included

Standard library only: nothing here knows what a socket or a request is.
"""

from taskmaster.base import (
    AcceptorSteps,
    Connection,
    Snapshot,
    StopPhase,
    Taskmaster,
    TaskmasterBusyError,
    ThreadState,
)
from taskmaster.books import Decision
from taskmaster.event_loop import EventLoopTaskmaster
from taskmaster.per_connection import ThreadPerConnectionTaskmaster
from taskmaster.pooled import PooledTaskmaster
from taskmaster.prefork import PreforkTaskmaster, ProcessSnapshot
from taskmaster.recycling import RecyclingTaskmaster
from taskmaster.single import SingleThreadedTaskmaster
from taskmaster.threaded import ThreadedTaskmaster

__all__ = [
    "AcceptorSteps",
    "Connection",
    "Decision",
    "EventLoopTaskmaster",
    "PooledTaskmaster",
    "PreforkTaskmaster",
    "ProcessSnapshot",
    "RecyclingTaskmaster",
    "SingleThreadedTaskmaster",
    "Snapshot",
    "StopPhase",
    "Taskmaster",
    "TaskmasterBusyError",
    "ThreadPerConnectionTaskmaster",
    "ThreadState",
    "ThreadedTaskmaster",
]
