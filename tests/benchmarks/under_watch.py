"""Runs a program under ``traincheck.watch``: ``under_watch.py off|every|BUDGET PROGRAM``.

``off`` opens a watch and closes it again before the program begins: what was installed and used must cost nothing. With
``BENCH_BLOCK=N`` the watch sleeps during every second block of so many steps, and the program is compared with itself.
"""

from __future__ import annotations

import importlib
import os
import runpy
import sys
import time
from pathlib import Path
from typing import Any

import traincheck
from traincheck.governed import Governed


class Blocks:
    """Lets the watch sleep and wake as the program's clock ticks; for the governor, time stands still meanwhile."""

    def __init__(self, watched: traincheck.Watch, budget: float | None, steps: int) -> None:
        self._gate = watched.session.gate
        self._steps = steps
        self._number = 0
        self._asleep_ns = self._since_ns = 0
        boundary = watched.session.boundary
        watched.session.decide = Governed(budget, lambda: boundary.spent_ns, self._awake_ns)

    def _awake_ns(self) -> int:
        return time.perf_counter_ns() - self._asleep_ns

    def ticked(self) -> None:
        """A step of the program has ended."""
        self._number += 1
        awake, now_ns = self._number // self._steps % 2 == 0, time.perf_counter_ns()
        if awake and not self._gate.awake:
            self._asleep_ns += now_ns - self._since_ns
        elif self._gate.awake and not awake:
            self._since_ns = now_ns
        self._gate.awake = awake


def let_sleep(blocks: Blocks) -> None:
    """Hang on to the clock that all programs share."""
    clock: Any = importlib.import_module("timed").Clock
    tick = clock.tick

    def ticked(self: Any) -> None:
        tick(self)
        blocks.ticked()

    clock.tick = ticked


how, program = sys.argv[1:3]
sys.path.insert(0, str(Path(program).parent))
budget = float(how) if how[0].isdigit() else None
watched = traincheck.watch(overhead=budget)
if how == "off":
    watched.close()
if length := int(os.environ.get("BENCH_BLOCK", "0")):
    let_sleep(Blocks(watched, budget, length))
sys.argv = sys.argv[2:]
runpy.run_path(program, run_name="__main__")
watched.close()
