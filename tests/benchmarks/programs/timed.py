"""The clock of the benchmark programs: how long each step took, told in the end as one JSON line a step."""

import json
import os
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

RANK = int(os.environ.get("RANK", "0"))


def steps(default: int = 40) -> int:
    """How many steps the benchmark asks for (``BENCH_STEPS``)."""
    return int(os.environ.get("BENCH_STEPS", str(default)))


def timed(batches: Iterable[T]) -> Iterator[T]:
    """``batches`` one by one: what happens from one to the next is a step."""
    durations_ms = []
    start = time.perf_counter()
    for batch in batches:
        yield batch
        now = time.perf_counter()
        durations_ms.append(1000 * (now - start))
        start = now
    report(durations_ms)


def report(durations_ms: Iterable[float]) -> None:
    """Print the wall time of each step; of several processes the first one speaks."""
    if RANK:
        return
    for step, duration_ms in enumerate(durations_ms):
        print(json.dumps({"step": step, "ms": round(duration_ms, 3)}))
