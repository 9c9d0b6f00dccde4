"""Which steps are recorded, so that what recording costs stays within a budget.

The first steps always are, and what they cost beyond the budget is paid back before more are recorded. Later ones come
in pairs of neighbours, because some relations compare a step with the one before it, one pair every ``interval`` steps.
Intervals are powers of two and pairs begin at multiples of them: ranks that settle on different intervals, each from
its own measurements, still record the steps of the largest one together, without a word between them.
"""

from __future__ import annotations

from collections import deque
from typing import Final

FIRST_STEPS: Final = 10
"""Recorded in full, whatever they cost: most bugs are there from the start."""

PAIR: Final = 2
"""The shortest interval: every step."""

LONGEST: Final = 2**20
SHARE: Final = 0.75
"""Of the budget, what may be spent on what can be measured. A process does not see all that it costs: caches that it
empties, objects that are collected later."""

LEFT_OUT_S: Final = 12e-6
"""What a step costs that is left out, 8 to 13 us on the machine of the benchmarks: calls that are passed over are not
measured, for that would cost more."""

REMEMBERED: Final = 16
"""So many of the latest measurements count."""


class Governor:
    """Decides, step by step, from what steps took and what recording them cost."""

    def __init__(self, budget: float | None) -> None:
        """``budget`` is the allowed cost as a fraction of the program's own time; ``None`` records every step."""
        if budget is not None and not 0 <= budget:
            raise ValueError(
                f"overhead is {budget}; expected a fraction of step time such as 0.02, or None for no limit"
            )
        self.budget = budget
        self._durations = deque[float](maxlen=4 * REMEMBERED)
        self._costs = deque[float](maxlen=REMEMBERED)
        self._idle_costs = deque[float](maxlen=REMEMBERED)
        self._credit = 0.0
        self._asked = 0
        """Steps so far: a run that is resumed begins with a later number, and its first steps are first steps too."""
        self._in_pair = False

    def next_recorded(self, step: int) -> int:
        """``step`` itself if it is recorded; else the later one at which to ask again, all before it being left out.

        Asked as a step begins, in order.
        """
        self._asked += 1
        if self.budget is None or self._asked <= FIRST_STEPS:
            return step
        if step % PAIR:
            return step if self._in_pair else step + 1
        interval = self.interval
        self._in_pair = self._credit >= 0 and step % interval == 0
        return step if self._in_pair else step - step % interval + interval

    def measured(self, step: int, duration: float, cost: float, *, recorded: bool, steps: int = 1) -> None:
        """What ``steps`` from ``step`` on took in all, and how much of it was ours, in seconds."""
        if self.budget is None:
            return
        charged = cost if recorded else cost + steps * LEFT_OUT_S
        (self._costs if recorded else self._idle_costs).append(charged / steps)
        self._credit -= charged
        if step > 0:  # the first one holds the start of the program, which is no training
            own_time = max(0.0, duration - cost)
            self._durations.append(own_time / steps)
            self._credit += SHARE * self.budget * own_time

    @property
    def interval(self) -> int:
        """Steps from the beginning of one pair to the next: the smallest that the budget allows."""
        cost, idle = _median(self._costs), _median(self._idle_costs)
        allowed = SHARE * (self.budget or 0.0) * _median(self._durations)
        interval = PAIR
        while interval < LONGEST and PAIR * cost + (interval - PAIR) * idle > interval * allowed:
            interval *= 2
        return interval


def _median(values: deque[float]) -> float:
    return sorted(values)[len(values) // 2] if values else 0.0
