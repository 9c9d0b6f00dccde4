"""Weights that were one parameter in two places when the model was built, and are two when it is trained."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import Module, Parameter
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.optim import Optimizer
from torch.utils.weak import WeakIdKeyDictionary

from traincheck.record.boundary import Boundary
from traincheck.record.models import Models
from traincheck.values import Value

_Place = tuple["weakref.ref[Module]", str]


class Ties:
    """Sees parameters as they are registered; a second place for one of them ties the two."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._place: Any = WeakIdKeyDictionary()
        """Where each parameter was registered first."""
        self._tied: list[tuple[_Place, _Place]] = []

    def install(self, boundary: Boundary) -> Callable[[], None]:
        """Begin to see parameters; what to call to see no more."""

        def registers(module: Module, name: str, param: Parameter | None) -> None:
            if not torch.compiler.is_compiling():
                boundary.run("ties", self._registered, module, name, param)

        handle = register_module_parameter_registration_hook(registers)
        return handle.remove

    def _registered(self, module: Module, name: str, param: Parameter | None) -> None:
        """``module`` is about to have ``param`` under that name."""
        if param is None:
            return
        first = self._place.get(param)
        here: _Place = (weakref.ref(module), name)
        if first is None or _at(first) is not param:
            self._place[param] = here
        elif first[0]() is not module:
            self._tied.append((first, here))

    def broken(self, optimizer: Optimizer) -> dict[str, Value]:
        """Whether ``optimizer`` trains two weights of one shape that were tied; nothing in models without ties."""
        held = {id(owned.tensor): owned.name for owned in self._models.held_by(optimizer)} if self._tied else {}
        self._tied = [tie for tie in self._tied if all(_at(place) is not None for place in tie)]
        pairs = [tuple(map(_at, tie)) for tie in self._tied]
        pairs = [pair for pair in pairs if all(id(param) in held for param in pair)]
        apart = [(one, other) for one, other in pairs if one is not other and one.shape == other.shape]
        if not apart:
            return {"untied": False} if pairs else {}
        return {"untied": True, "untied_pair": " and ".join(held[id(param)] for param in apart[0])}


def _at(place: _Place) -> Any:
    """The parameter that is there now."""
    module = place[0]()
    return None if module is None else module._parameters.get(place[1])
