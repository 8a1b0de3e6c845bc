"""What a process that is measured does: it waits for orders on standard input and answers each with a line of JSON.

Processes stay alive between orders, so that the implementations take turns within seconds. This file runs in every
peer's own environment and knows no musenet.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from itertools import cycle
from typing import Any

Order = dict[str, Any]
READY = "ready"
"""What a process says when it waits for orders."""


def serve(actions: dict[str, Callable[[Order], Order]]) -> None:
    """Answer orders, each named in its `do`, until standard input ends. What libraries print goes to standard error."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        print(READY, file=answers, flush=True)
        for line in sys.stdin:
            order = json.loads(line)
            print(json.dumps(actions[order["do"]](order)), file=answers, flush=True)


def repeated(step: Callable[[Any], int], batches: list[Any]) -> Callable[[Order], Order]:
    """An action that takes so many `steps` over the batches in turn; `step` says how many samples it took."""
    turn = cycle(batches)
    return lambda order: timed(lambda: sum(step(next(turn)) for _ in range(order["steps"])))


def timed(work: Callable[[], int]) -> Order:
    """Seconds that pass and seconds of all cores that `work` takes, and its samples."""
    wall, cpu = time.perf_counter(), time.process_time()
    samples = work()
    return {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu, "samples": samples}
