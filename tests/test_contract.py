"""The contract suite over every model of ours."""

from taskmaster import (
    PooledTaskmaster,
    RecyclingTaskmaster,
    SingleThreadedTaskmaster,
    Taskmaster,
    ThreadPerConnectionTaskmaster,
)
from taskmaster.contract import LimitedTaskmasterContract, ParkingTaskmasterContract, TaskmasterContract


class TestSingleThreaded(TaskmasterContract):
    concurrent = False

    def make_taskmaster(self) -> Taskmaster:
        return SingleThreadedTaskmaster()


class TestThreadPerConnection(LimitedTaskmasterContract):
    def make_taskmaster(self) -> Taskmaster:
        return ThreadPerConnectionTaskmaster()

    def make_limited(self, max_thread_count: int, max_accept_count: int | None) -> Taskmaster:
        return ThreadPerConnectionTaskmaster(max_thread_count=max_thread_count, max_accept_count=max_accept_count)


class TestPooled(LimitedTaskmasterContract):
    def make_taskmaster(self) -> Taskmaster:
        return PooledTaskmaster(threads=20, idle="hold")

    def make_limited(self, max_thread_count: int, max_accept_count: int | None) -> Taskmaster:
        return PooledTaskmaster(threads=max_thread_count, queue_size=max_accept_count, idle="hold")


class TestRecycling(LimitedTaskmasterContract):
    one_accepts = False

    def make_taskmaster(self) -> Taskmaster:
        return RecyclingTaskmaster(standby=4, idle="hold")

    def make_limited(self, max_thread_count: int, max_accept_count: int | None) -> Taskmaster:
        return RecyclingTaskmaster(standby=1, max_thread_count=max_thread_count, max_accept_count=max_accept_count,
                                   idle="hold")


class TestPooledThatParks(LimitedTaskmasterContract, ParkingTaskmasterContract):
    def make_taskmaster(self) -> Taskmaster:
        return PooledTaskmaster(threads=20, idle="park")

    def make_limited(self, max_thread_count: int, max_accept_count: int | None) -> Taskmaster:
        return PooledTaskmaster(threads=max_thread_count, queue_size=max_accept_count, idle="park")

    make_parking = make_limited


class TestRecyclingThatParks(LimitedTaskmasterContract, ParkingTaskmasterContract):
    one_accepts = False

    def make_taskmaster(self) -> Taskmaster:
        return RecyclingTaskmaster(standby=4, idle="park")

    def make_limited(self, max_thread_count: int, max_accept_count: int | None) -> Taskmaster:
        return RecyclingTaskmaster(standby=1, max_thread_count=max_thread_count, max_accept_count=max_accept_count,
                                   idle="park")

    make_parking = make_limited
