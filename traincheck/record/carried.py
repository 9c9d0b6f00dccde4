"""Gradients that the loss of another optimizer left, and that are applied with those of an optimizer's own loss.

Losses of models that train against each other (a generator and a discriminator, an actor and a critic) run through one
another, so each leaves gradients in models that another optimizer trains; they are to be cleared, or never computed,
before that one steps. A loss that several optimizers apply together is none of that: no backward pass lies between
their steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from torch import Tensor
from torch.optim import Optimizer
from torch.utils.weak import WeakIdKeyDictionary

from traincheck.record.fingerprints import norms
from traincheck.record.models import Models
from traincheck.values import Value

_MOST_OPTIMIZERS: Final = 8
"""With more than this, as with one optimizer for each layer, nothing is asked: each is compared with each."""


@dataclass(slots=True)
class _Left:
    """What an optimizer's parameters held as gradients when another optimizer had stepped."""

    by: str
    """The label of the other optimizer."""
    grads: Any
    """These gradients, with the version of each before the next backward pass."""
    of_other: Any = None
    """The other optimizer's gradients, likewise."""


class Carried:
    """Follows what is left in gradients from the step of one optimizer to that of the next."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._step = 0
        self._left: dict[str, _Left] = {}
        """By the label of the optimizer whose parameters hold it."""
        self._others: dict[str, int] = {}
        """How many steps of other optimizers there were since its own last one."""

    def backward_begins(self) -> None:
        """What is there now, and not zero, is what the gradients of this pass will be added to."""
        waiting = {label: left for label, left in self._left.items() if left.of_other is None}
        for label, left in waiting.items():
            grads = list(left.grads)
            kept = [grad for grad, norm in zip(grads, norms(grads), strict=True) if norm]
            left.grads, left.of_other = _versions(kept), _versions(self._gradients(left.by))
            if not kept:
                del self._left[label]

    def applied(self, label: str, step: int) -> dict[str, Value]:
        """Whether the step that begins applies what another optimizer's loss left; nothing where no other steps."""
        self._go_on(step)
        left, others = self._left.pop(label, None), self._others.pop(label, 0)
        if left is None or left.of_other is None:
            return {"carried": False} if others else {}
        grown = any(grad._version > left.grads.get(grad, grad._version) for grad in self._gradients(label))
        # One loss for both, of which one optimizer steps less often, is accumulation.
        apart = all(left.of_other.get(grad) == grad._version for grad in self._gradients(left.by))
        if not grown or not (apart or others == 1):
            return {"carried": False}
        return {"carried": True, "carried_from": left.by}

    def stepped(self, optimizer: Optimizer, label: str, step: int) -> None:
        """A step has ended: what other optimizers' parameters hold now came from before it."""
        self._go_on(step)
        others = [(other, name) for other, name in self._models.optimizers() if name != label]
        if not 0 < len(others) < _MOST_OPTIMIZERS:
            return
        mine = {id(owned.tensor) for owned in self._models.held_by(optimizer)}
        for other, name in others:
            self._others[name] = self._others.get(name, 0) + 1
            theirs = (owned.tensor for owned in self._models.held_by(other) if id(owned.tensor) not in mine)
            grads = [param.grad for param in theirs if param.grad is not None]
            self._left.pop(name, None)
            if grads:
                self._left[name] = _Left(label, _versions(grads))

    def _gradients(self, label: str) -> list[Tensor]:
        held = (self._models.held_by(known) for known, name in self._models.optimizers() if name == label)
        return [owned.tensor.grad for params in held for owned in params if owned.tensor.grad is not None]

    def _go_on(self, step: int) -> None:
        """What was seen before steps that were left out says nothing any more."""
        if step > self._step + 1:
            self._left, self._others = {}, {}
        self._step = step


def _versions(grads: list[Tensor]) -> Any:
    return WeakIdKeyDictionary({grad: grad._version for grad in grads})
