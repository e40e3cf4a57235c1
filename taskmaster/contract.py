"""The contract as tests: whatever passes them can be given to any Acceptor. Run it on your own taskmaster with pytest:

    from taskmaster.contract import TaskmasterContract

    class TestMine(TaskmasterContract):
        def make_taskmaster(self):
            return MyTaskmaster()

or, if it has limits, inherit `LimitedTaskmasterContract` and define `make_limited` too; and if it parks idle
connections, inherit `ParkingTaskmasterContract` and define `make_parking` (from both, if it does both). The acceptor is
a scripted one (`taskmaster.scripted`), so that a test can hold a connection at any point for as long as it likes, and
no test depends on how fast anything is. Nothing is imported here but the standard library.

    contract_serving    what every taskmaster must do
    contract_limits     ...one with limits
    contract_parking    ...one that parks
    contract_tools      what they share; of use in tests of your own
"""

from __future__ import annotations

from taskmaster.contract_limits import LimitedTaskmasterContract
from taskmaster.contract_parking import ParkingTaskmasterContract
from taskmaster.contract_serving import TaskmasterContract
from taskmaster.contract_tools import audit, balances, running

__all__ = ["LimitedTaskmasterContract", "ParkingTaskmasterContract", "TaskmasterContract", "audit", "balances",
           "running"]
