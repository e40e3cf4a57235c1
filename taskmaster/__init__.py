"""Who runs the work: the concurrency models, each a file, all behind one contract.

    base            the contract: Taskmaster, AcceptorSteps, ThreadState, Snapshot
    threaded        the register of threads that every model keeps; to build your own model on
    single          one thread accepts and serves: the yardstick
    per_connection  one thread accepts, a new thread serves each connection
    pooled          one thread accepts, a queue, n workers serve
    recycling       every thread accepts, serves, accepts again
    contract        the tests that every taskmaster passes, yours included

Standard library only: nothing here knows what a socket or a request is.
"""

from taskmaster.base import AcceptorSteps, Connection, Snapshot, Taskmaster, TaskmasterBusyError, ThreadState
from taskmaster.per_connection import ThreadPerConnectionTaskmaster
from taskmaster.pooled import PooledTaskmaster
from taskmaster.recycling import RecyclingTaskmaster
from taskmaster.single import SingleThreadedTaskmaster
from taskmaster.threaded import ThreadedTaskmaster

__all__ = [
    "AcceptorSteps",
    "Connection",
    "PooledTaskmaster",
    "RecyclingTaskmaster",
    "SingleThreadedTaskmaster",
    "Snapshot",
    "Taskmaster",
    "TaskmasterBusyError",
    "ThreadPerConnectionTaskmaster",
    "ThreadState",
    "ThreadedTaskmaster",
]
