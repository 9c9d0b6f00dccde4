"""Measures a session against its budget, step by step, and lets the governor decide about the next one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from traincheck.governor import Governor

NS: Final = 1e-9


class Governed:
    """Called with a step's number as it begins: the next one that is recorded (``Session.decide``)."""

    def __init__(
        self, budget: float | None, spent_ns: Callable[[], int], clock_ns: Callable[[], int] = time.perf_counter_ns
    ) -> None:
        """``spent_ns`` is the time that recording and judging have taken so far in this process."""
        self._governor = Governor(budget)
        self._spent_ns = spent_ns
        self._clock_ns = clock_ns
        self._last: tuple[int, int, int, bool] | None = None

    def __call__(self, step: int) -> int:
        now, spent = self._clock_ns(), self._spent_ns()
        if self._last is not None and step > 0:
            first, began, spent_before, recorded = self._last
            duration, cost = (now - began) * NS, (spent - spent_before) * NS
            self._governor.measured(first, duration, cost, recorded=recorded, steps=step - first)
        following = self._governor.next_recorded(step)
        self._last = (step, now, spent, following == step)
        return following
