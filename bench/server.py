"""The server under test: one process, one model, one handler; it ends when its standard input closes.

    python -m bench.server --model recycling --sleep 0.1          milliseconds that the handler sleeps

It prints its port on a line of its own as soon as it listens, and nothing else until the end: it measures nothing while
it serves, its parent does that from outside. At the end comes one line of JSON: what the taskmaster counted.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from acceptor import Acceptor
from bench.models import find_model
from handlers import delay, hello, spin

__all__ = ["main"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.server", description="The server under test; ends with its "
                                     "standard input (Ctrl-D).")
    add = parser.add_argument
    add("--model", default="recycling", help="single, thread, pool, recycling or pkg.mod:Class (default: recycling)")
    add("--capacity", type=int, default=128, metavar="N", help="connections it has room for (default: 128)")
    add("--sleep", type=float, default=0.0, metavar="MS", help="milliseconds the handler sleeps; 0: none at all")
    add("--spin", type=float, default=0.0, metavar="MS", help="milliseconds of CPU it burns instead")
    add("--port", type=int, default=0, help="default: any free one")
    options = parser.parse_args()
    # Nothing at all for 0: even time.sleep(0) costs a system call and some 50 us.
    handler = (spin(options.spin / 1e3) if options.spin else delay(options.sleep / 1e3) if options.sleep else hello)
    try:
        taskmaster = find_model(options.model).make(options.capacity)
    except ValueError as error:
        parser.error(str(error))

    acceptor = Acceptor(handler, port=options.port, taskmaster=taskmaster).start()
    print(acceptor.port, flush=True)
    try:
        sys.stdin.read()  # until the parent closes it, or is no more
    except KeyboardInterrupt:
        pass
    running = taskmaster.snapshot()
    report = acceptor.stop(deadline=1.0)
    ended = taskmaster.snapshot()
    print(json.dumps({
        "threads": {state.value: count for state, count in running.threads.items() if count},
        "accepted": ended.accepted, "served": ended.served, "refused": ended.refused,
        "grown": dict(ended.grown), "shrunk": dict(ended.shrunk),
        "cpu_seconds": time.process_time(),
        "cut": list(report.cut), "stuck": list(report.stuck),
    }))


if __name__ == "__main__":
    main()
