"""Models that are asked for frozen parts: by an attribute of model libraries, or by ``requires_grad`` of a module."""

from __future__ import annotations

import re
from typing import Final

from torch.nn import Module
from torch.optim import Optimizer

from traincheck.record.models import Models
from traincheck.values import Value

_ASKS: Final = re.compile(
    r"(num_)?(frozen|freeze)_"
    r"(stages|layers|blocks|at|(feature_)?(encoder|extractor)|backbone|trunk|body|base(_model)?|embeddings?|\w+_tower)"
)


def asked_to_freeze(optimizer: Optimizer, models: Models) -> dict[str, Value]:
    """Whether a model that asks for frozen parts has none: all of its parameters got gradients for this optimizer.

    Nothing where no model that the optimizer trains asks. To be called at its first step: parts may thaw later.
    """
    held = {id(tensor) for group in optimizer.param_groups for tensor in group["params"] if tensor.grad is not None}
    found: dict[str, Value] = {}
    for tree in models.trees:
        for module in tree.root.modules():
            asked = _asks(module)
            params = list(module.parameters()) if asked else []
            if not any(id(param) in held for param in params):
                continue
            ignored = all(param.requires_grad and id(param) in held for param in params)
            if ignored or not found:
                found = {"freezing_ignored": ignored, "freezing": f"{models.path(module)} with {asked}"}
    return found


def _asks(module: Module) -> str:
    """The attribute that asks for frozen parts, with its value, or ``""``.

    ``requires_grad`` means something to parameters only; a module takes it like any other name.
    """
    if vars(module).get("requires_grad") is False:
        return "requires_grad = False on the module"
    for name, value in vars(module).items():
        if (value is True or (type(value) is int and value > 0)) and _ASKS.fullmatch(name):
            return f"{name} = {value}"
    return ""
