"""Layers in a plain list, tuple or dict of a model: they run and get gradients, but ``parameters()`` lacks them.

A module that is hidden there on purpose (a teacher, a network that measures a loss) is frozen, loaded, in evaluation
mode or trained by an optimizer of its own; a layer that somebody forgot to register is none of that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer

from traincheck.record.by_identity import ByIdentity
from traincheck.record.idle import Idle, some_of
from traincheck.record.models import Models
from traincheck.values import Value

_NESTED: Final = 2
"""So deep lists of lists are looked through."""
_OWN: Final = frozenset(vars(Module()))
"""The attributes that every module has, among them those that register."""


class Loose:
    """Layers that ran in a model which does not register them, and whether somebody trains them."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._ran: ByIdentity[str] = ByIdentity()
        """Each such layer, with the label of the model in which it ran."""
        self._idle = Idle()

    def runs(self, module: Module, around: str) -> None:
        """A module that has no name in the model of the path ``around`` begins to run within its forward pass."""
        if module._parameters and module.training and torch.is_grad_enabled():
            self._ran[module] = around.partition(".")[0]

    def left_out(self, optimizer: Optimizer, step: int) -> dict[str, Value]:
        """Whether layers in the models that ``optimizer`` trains got gradients, again, and are what they were before.

        That they stay the same tells them from those which a program updates by hand. Nothing where only the next step
        can tell.
        """
        forgotten: list[str] = []
        waiting = False
        for params, place in self._unregistered(optimizer):
            idle, asked_before = self._idle.among(params, step)
            waiting |= not asked_before
            forgotten += [place] * len(idle)
        if not forgotten:
            return {} if waiting else {"left_out": False}
        return {"left_out": True, "loose_layers": some_of(forgotten)}

    def _unregistered(self, optimizer: Optimizer) -> Iterator[tuple[list[Tensor], str]]:
        """The parameters of such layers that got gradients and are in no optimizer, and where the layer is."""
        if not self._ran:
            return
        models = self._models
        trained = {owned.name.partition(".")[0] for owned in models.held_by(optimizer)}
        groups = (group for known, _ in models.optimizers() for group in models.groups(known))
        held = {id(tensor) for group in groups for tensor in group}
        places: dict[str, dict[int, str]] = {}
        for layer, label in self._ran.items():
            params = [param for param in layer._parameters.values() if param is not None and self._got_gradient(param)]
            params = [param for param in params if id(param) not in held]
            if not params or label not in trained or models.path(layer).partition(".")[0] == label:
                continue
            if label not in places:
                roots = (tree.root for tree in models.trees if tree.label == label)
                places[label] = dict(found for root in roots for found in self._in_containers(root))
            if id(layer) in places[label]:
                yield params, places[label][id(layer)]

    def _got_gradient(self, param: Tensor) -> bool:
        trains = param.requires_grad and param.is_leaf and param.grad is not None
        return trains and param not in self._models.loaded

    def _in_containers(self, root: Module) -> Iterator[tuple[int, str]]:
        """The modules in plain containers of ``root`` and of its modules, by identity, and where they are."""
        for module in root.modules():
            for name, value in vars(module).items():
                if name not in _OWN and isinstance(value, (list, tuple, dict)):
                    yield from _inside(value, f"{self._models.path(module)}.{name}", _NESTED)


def _inside(container: Any, path: str, depth: int) -> Iterator[tuple[int, str]]:
    for key, item in container.items() if isinstance(container, dict) else enumerate(container):
        place = f"{path}[{key!r}]"
        if isinstance(item, Module):
            for inner, layer in item.named_modules():
                yield id(layer), f"{place}.{inner}" if inner else place
        elif isinstance(item, (list, tuple, dict)) and depth > 1:
            yield from _inside(item, place, depth - 1)
