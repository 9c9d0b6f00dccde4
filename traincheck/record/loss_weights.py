"""How much one target counts in a backward pass: read off the graph between the loss and its log-likelihoods.

Only sums, means and products with single numbers lie between a loss and the function that compared predictions with
targets, in most programs; where anything else does, nothing is said.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from traincheck.record.fingerprints import number, unseen
from traincheck.values import Value
from traincheck.vocabulary import TARGET_WEIGHT

MOST_NODES: Final = 64

_LIKELIHOODS = ("NllLossBackward0", "NllLoss2DBackward0")
_PASSED = (
    "ToCopyBackward0",
    "CloneBackward0",
    "AliasBackward0",
    "ViewBackward0",
    "UnsafeViewBackward0",
    "ReshapeAliasBackward0",
    "SumBackward0",
)
_PRODUCTS, _QUOTIENTS = ("MulBackward0", "MulBackward1"), ("DivBackward0", "DivBackward1")
_MEAN: Final = 1
"""How torch writes the reduction ``mean``."""


@dataclass(frozen=True, slots=True)
class TargetWeight:
    """What a backward pass is about to give to each target. Read it after the pass, when a device is waited for."""

    factors: tuple[float | Tensor, ...]
    divisors: tuple[float | Tensor, ...]
    mean: bool
    targets: int
    counted: Tensor
    classes: int

    def read(self) -> dict[str, Value]:
        """As it is recorded: the weight of one target, how many there are, and how many of them count."""
        counted = int(number(self.counted) or 0)
        above, below = _product(self.factors), _product(self.divisors)
        if above is None or not below or not math.isfinite(below) or not counted:
            return {}
        return {
            TARGET_WEIGHT: above / below / (counted if self.mean else 1),
            "targets": self.targets,
            "counted": counted,
            "classes": self.classes,
        }


def target_weight(loss: Any) -> TargetWeight | None:
    """The weight of a target in ``loss``, if exactly one comparison with class targets is found below it."""
    if not isinstance(loss, Tensor) or loss.numel() != 1 or loss.grad_fn is None:
        return None
    try:
        with unseen():
            found = list(_walk(loss.grad_fn))
    except RuntimeError:  # a saved tensor was changed in place, or is gone: the program's own affair
        return None
    return found[0] if len(found) == 1 else None


def _walk(root: Any) -> Iterator[TargetWeight]:
    waiting: list[tuple[Any, tuple[float | Tensor, ...], tuple[float | Tensor, ...]]] = [(root, (), ())]
    for _ in range(MOST_NODES):
        if not waiting:
            return
        node, factors, divisors = waiting.pop()
        name, below = node.name(), [following for following, _ in node.next_functions]
        if name in _LIKELIHOODS:
            weight = _of_likelihood(node, factors, divisors)
            if weight is not None:
                yield weight
        elif name == "AddBackward0":
            second = (*factors, float(node._saved_alpha))
            waiting += [(below[0], factors, divisors)] if below[0] is not None else []
            waiting += [(below[1], second, divisors)] if below[1] is not None else []
        elif len([following for following in below if following is not None]) == 1:
            step = _one_step(node, name)
            if step is not None:
                following = next(following for following in below if following is not None)
                waiting.append((following, (*factors, *step[0]), (*divisors, *step[1])))


def _one_step(node: Any, name: str) -> tuple[tuple[float | Tensor, ...], tuple[float | Tensor, ...]] | None:
    """What a node with one input multiplies by, and divides by; ``None`` when it does something else."""
    if name in _PASSED:
        return (), ()
    if name == "MeanBackward0":
        return (), (float(node._saved_self_sym_numel),)
    if name not in (*_PRODUCTS, *_QUOTIENTS):
        return None
    first = node.next_functions[0][0] is not None
    if name in _QUOTIENTS and not first:
        return None  # the loss is the divisor
    other = node._saved_other if first else node._saved_self
    if isinstance(other, Tensor):
        if other.numel() != 1:
            return None
        other = other.detach()
    return ((other,), ()) if name in _PRODUCTS else ((), (other,))


def _of_likelihood(
    node: Any, factors: tuple[float | Tensor, ...], divisors: tuple[float | Tensor, ...]
) -> TargetWeight | None:
    if node._saved_weight is not None:
        return None  # classes have weights of their own
    target, predictions = node._saved_target, node._saved_self
    if type(target) is not Tensor or target.device.type == "meta":
        return None
    return TargetWeight(
        factors,
        divisors,
        node._saved_reduction == _MEAN,
        target.numel(),
        torch.count_nonzero(target != node._saved_ignore_index),
        predictions.shape[min(1, predictions.dim() - 1)],
    )


def _product(numbers: tuple[float | Tensor, ...]) -> float | None:
    total = 1.0
    for item in numbers:
        value = number(item) if isinstance(item, Tensor) else item
        if value is None:
            return None
        total *= value
    return total
