"""What an open page asks of a control server: ten samples a second, and every two seconds 20 ms step by step.

    python -m bench.studies.watching.viewer 127.0.0.1:9000

It prints a line when the first sample has come. It ends with its standard input; then it prints how much it has seen.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading

__all__ = ["STEPS_EVERY", "main"]

STEPS_EVERY = 2.0
_STEPS = "/steps.json?seconds=0.02"


def main() -> None:
    [address] = sys.argv[1:]
    over = threading.Event()
    seen = {"samples": 0, "bursts": 0}

    def read_events() -> None:
        connection = http.client.HTTPConnection(address, timeout=10)
        connection.request("GET", "/events", headers={"Host": "localhost"})
        response = connection.getresponse()
        while not over.is_set() and (line := response.readline()):
            if line.startswith(b"data: "):
                seen["samples"] += 1
                if seen["samples"] == 1:
                    print("sees it", flush=True)
        connection.close()

    def ask_for_steps() -> None:
        connection = http.client.HTTPConnection(address, timeout=10)
        wait = STEPS_EVERY / 2  # so that two seconds of a load have them once
        while not over.wait(wait):
            wait = STEPS_EVERY
            connection.request("GET", _STEPS, headers={"Host": "localhost"})
            connection.getresponse().read()
            seen["bursts"] += 1
        connection.close()

    threads = [threading.Thread(target=read_events), threading.Thread(target=ask_for_steps)]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    over.set()
    for thread in threads:
        thread.join()
    print(json.dumps(seen), flush=True)


if __name__ == "__main__":
    main()
