"""Learning-rate schedules, as the loops of frameworks speak of them: kind, length, what is left of the rate."""

from __future__ import annotations

import re
from typing import Any, Final

from torch.optim.lr_scheduler import ReduceLROnPlateau

ROUNDED: Final = 6
"""Decimals of a share of the learning rate."""

LENGTHS: Final = {"OneCycleLR": "total_steps", "CosineAnnealingLR": "T_max", "PolynomialLR": "total_iters"}
"""Schedulers that are made for a whole training, and the attribute that says for how many of their steps."""

_SCHEDULE: Final = re.compile(r"_get_(.+?)(?:_schedule)?(?:_with_.*)?_lr_lambda")


def schedule_of(scheduler: Any) -> str:
    """The kind of a schedule of Transformers, such as ``linear``; of any other the class of the scheduler."""
    name = getattr(getattr(_function(scheduler), "func", None), "__name__", "")
    known = _SCHEDULE.match(name)
    return known[1] if known else "" if scheduler is None else type(scheduler).__name__


def length_of(scheduler: Any) -> int | None:
    """How many steps of its own the schedule is made for; ``None`` where it does not say."""
    attribute = LENGTHS.get(type(scheduler).__name__)
    keywords = getattr(_function(scheduler), "keywords", {})
    length = keywords.get("num_training_steps") if attribute is None else getattr(scheduler, attribute, None)
    return length if isinstance(length, int) else None


def steps_of(scheduler: Any) -> int | None:
    """How many steps the schedule has made; ``None`` for one that follows a metric: evaluations advance it."""
    return None if isinstance(scheduler, ReduceLROnPlateau) else getattr(scheduler, "last_epoch", None)


def share_left(scheduler: Any) -> float | None:
    """The learning rate now as a share of the one that the schedule is made for."""
    base = max(getattr(scheduler, "base_lrs", None) or [0.0])
    return round(max(scheduler.get_last_lr()) / base, ROUNDED) if base else None


def _function(scheduler: Any) -> Any:
    """What computes the rate of the first group, in schedules that are made of functions."""
    return (getattr(scheduler, "lr_lambdas", None) or [None])[0]
