"""Parameters of a trained model that get gradients which no optimizer applies: they were forgotten when it was built.

A part that is left as it is on purpose is frozen, or what remains around frozen ones (normalisation, say), was loaded,
was trained before, or is most of the model, of which only a small part is trained; then nothing is said. A part that
was frozen and is not any more is meant to be trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.utils.weak import WeakIdKeyDictionary

from traincheck.record.alive import alive
from traincheck.record.idle import Idle, some_of
from traincheck.record.models import Models, Owned, Tree
from traincheck.values import Value


class Unheld:
    """Looks at each optimizer step for parameters that the step, and every other one, passes over."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._idle = Idle()
        self._frozen: Any = WeakIdKeyDictionary()
        """Parameters that no optimizer held while they were frozen."""
        self._looked_at: list[Owned] = []
        """The parameters that no optimizer held when it was last noted which of them are frozen."""
        self._nobodys: Any = WeakIdKeyDictionary()
        """Parameters of which is known that no optimizer anywhere holds them."""

    def passed_over(self, optimizer: Optimizer, step: int) -> dict[str, Value]:
        """Whether parameters of the models that ``optimizer`` trains got gradients, again, are in no optimizer, and
        are what they were. Nothing where only the next step can tell.
        """
        missing = self._missing(optimizer)
        idle, asked_before = self._idle.among([owned.tensor for owned in missing], step)
        if idle and self._are_nobodys(idle):
            ids = {id(tensor) for tensor in idle}
            return {"passed_over": True, "unheld": some_of(owned.name for owned in missing if id(owned.tensor) in ids)}
        return {"passed_over": False} if asked_before else {}

    def _missing(self, optimizer: Optimizer) -> list[Owned]:
        """What no optimizer holds among the parameters with a gradient, in models where that is the smaller part."""
        models = self._models
        held = [models.held_by(known) for known, _ in models.optimizers()]
        mine = models.held_by(optimizer)
        outside = models.group(("outside", id(mine)), lambda: _outside(models.trees, mine, held))
        if outside is not self._looked_at:
            self._looked_at = outside
            self._frozen.update({owned.tensor: True for owned in outside if not owned.tensor.requires_grad})
        missing = [owned for owned in outside if _gets_gradients(owned.tensor)]
        thawed = [owned for owned in missing if owned.tensor in self._frozen]
        if thawed or not missing or not all(owned.tensor.requires_grad for owned in outside):
            return thawed
        if not _smaller(missing, [owned for owned in mine if owned.tensor.requires_grad]):
            return []
        return [owned for owned in missing if not self._left_on_purpose(owned.tensor)]

    def _are_nobodys(self, params: list[Tensor]) -> bool:
        """Whether no optimizer holds them, also none that has not been seen yet. All that is alive is asked once."""
        unasked = {id(param) for param in params if param not in self._nobodys}
        for optimizer in alive(Optimizer) if unasked else ():
            if any(id(tensor) in unasked for group in optimizer.param_groups for tensor in group["params"]):
                self._models.add_optimizer(optimizer)
                return False
        self._nobodys.update(dict.fromkeys(params, True))
        return True

    def _left_on_purpose(self, param: Tensor) -> bool:
        return param in self._models.loaded or param in self._models.settled


def _outside(trees: list[Tree], mine: list[Owned], held: list[list[Owned]]) -> Iterator[Owned]:
    """The parameters of the models that have some of ``mine``, without those that are ``held``."""
    own = {id(owned.tensor) for owned in mine}
    known = {id(owned.tensor) for group in held for owned in group}
    for tree in trees:
        if any(id(owned.tensor) in own for owned in tree.params):
            yield from (owned for owned in tree.params if id(owned.tensor) not in known)


def _gets_gradients(param: Tensor) -> bool:
    return param.requires_grad and param.is_leaf and param.grad is not None


def _smaller(part: list[Owned], rest: list[Owned]) -> bool:
    """Whether it is fewer tensors, or fewer elements."""
    sizes = [{id(owned.tensor): owned.tensor.numel() for owned in group} for group in (part, rest)]
    return len(sizes[0]) < len(sizes[1]) or sum(sizes[0].values()) < sum(sizes[1].values())
