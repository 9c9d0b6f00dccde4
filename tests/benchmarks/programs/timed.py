"""The clock of the benchmark programs: how long each step took, told in the end as one JSON line a step."""

import json
import os
import time
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import TypeVar

T = TypeVar("T")

RANK = int(os.environ.get("RANK", "0"))


def steps(default: int = 40) -> int:
    """How many steps the benchmark asks for (``BENCH_STEPS``)."""
    return int(os.environ.get("BENCH_STEPS", str(default)))


class Clock:
    """Begins when it is made. Each ``tick`` is the end of a step."""

    def __init__(self) -> None:
        self._ticks = [self._now()]

    def tick(self) -> None:
        self._ticks.append(self._now())

    def _now(self) -> tuple[float, float]:
        return time.perf_counter(), time.process_time()

    def report(self) -> None:
        """Print what each step took, on the wall and of the processor; of several processes the first one speaks."""
        for step, (before, after) in enumerate(pairwise(self._ticks)):
            wall_ms, cpu_ms = (round(1000 * (now - then), 3) for then, now in zip(before, after, strict=True))
            if not RANK:
                print(json.dumps({"step": step, "ms": wall_ms, "cpu_ms": cpu_ms}))


def timed(batches: Iterable[T]) -> Iterator[T]:
    """``batches`` one by one: what happens from one to the next is a step."""
    clock = Clock()
    for batch in batches:
        yield batch
        clock.tick()
    clock.report()
