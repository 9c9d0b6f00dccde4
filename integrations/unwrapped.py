"""What frameworks wrap, without the wrappers."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer


def innermost_optimizer(optimizer: Any) -> Optimizer | None:
    """The optimizer of torch inside what Accelerate made of it."""
    while isinstance(getattr(optimizer, "optimizer", None), Optimizer):
        optimizer = optimizer.optimizer
    return optimizer if isinstance(optimizer, Optimizer) and hasattr(optimizer, "param_groups") else None
