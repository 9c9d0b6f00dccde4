"""How far optimizers and schedules have come: a schedule moves the rate of an optimizer in use, from where it was.

A schedule keeps the optimizer that it was built with, also when another one has taken its place. And a training that
goes on from a file with its optimizer, but not with its schedule, begins the schedule anew.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from typing import Any, Final

from torch.optim import Optimizer

from traincheck.record.models import Models, innermost_optimizer
from traincheck.values import Value

_SCHEDULE: Final = frozenset({"last_epoch", "_step_count"})
"""What the state of every schedule has."""
_DEPTH: Final = 3
_MOST: Final = 1000
"""Collections of more than this are data or weights: they are not looked through."""


class Progress:
    """What optimizers and schedules have done so far, as far as steps are recorded."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._steps: weakref.WeakKeyDictionary[Optimizer, tuple[int, int]] = weakref.WeakKeyDictionary()
        """The last step of each optimizer, and the one before."""
        self._on_file = 0
        """How far the schedule had come whose state was read last."""
        self._restored = False
        """Whether a schedule was given its state back since."""
        self._loaded: weakref.WeakSet[Optimizer] = weakref.WeakSet()
        """Optimizers whose state was loaded since."""

    def stepped(self, optimizer: Optimizer, step: int) -> None:
        """An optimizer took a step."""
        optimizer = innermost_optimizer(optimizer)
        last, before = self._steps.get(optimizer, (-1, -1))
        self._steps[optimizer] = (last, before) if last == step else (step, last)

    def read(self, content: Any) -> None:
        """A file was read: there may be the state of a schedule in it."""
        found = max(_schedules(content, _DEPTH), default=0)
        if found:
            self._on_file, self._restored = found, False
            self._loaded.clear()

    def optimizer_loaded(self, optimizer: Optimizer) -> None:
        """An optimizer was given its state back."""
        self._loaded.add(innermost_optimizer(optimizer))

    def schedule_loaded(self) -> None:
        """A schedule was given its state back."""
        self._restored = True

    def scheduled(self, scheduler: Any, step: int) -> dict[str, Value]:
        """Whether the schedule that is about to go on is one of an optimizer out of use, or begins anew."""
        optimizer = getattr(scheduler, "optimizer", None)
        optimizer = innermost_optimizer(optimizer) if isinstance(optimizer, Optimizer) else None
        if optimizer is None or optimizer not in self._steps:
            return {}
        successor = self._successor(optimizer, step)
        found: dict[str, Value] = {"orphaned": successor is not None}
        if successor is not None:
            found["successor"] = self._models.add_optimizer(successor)
        if optimizer in self._loaded and self._on_file:
            anew = not self._restored and getattr(scheduler, "last_epoch", None) == 0
            found |= {"begun_anew": anew, "on_file": self._on_file}
            self._on_file = 0
        return found

    def _successor(self, optimizer: Optimizer, step: int) -> Optimizer | None:
        """Another optimizer of the same parameters that took the last two steps, while this one took none."""
        if self._steps[optimizer][0] >= step - 1:
            return None
        own = {id(owned.tensor) for owned in self._models.held_by(optimizer)}
        for other, steps in list(self._steps.items()):
            if steps == (step, step - 1) and own <= {id(owned.tensor) for owned in self._models.held_by(other)}:
                return other
        return None


def _schedules(content: Any, depth: int) -> Iterator[int]:
    """How far each schedule had come whose state is in there."""
    if isinstance(content, Mapping):
        if content.keys() >= _SCHEDULE and isinstance(content["last_epoch"], int):
            yield content["last_epoch"]
        elif depth and len(content) <= _MOST:
            for value in content.values():
                yield from _schedules(value, depth - 1)
    elif isinstance(content, (list, tuple)) and depth and len(content) <= _MOST:
        for value in content:
            yield from _schedules(value, depth - 1)
