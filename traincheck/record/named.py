"""What modules and variables are called: the class as the program wrote it, without wrappers, and a number."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer

from traincheck.record.arguments import qualified
from traincheck.record.by_identity import ByIdentity

DATA_PARALLEL = "DistributedDataParallel"
_WRAPPERS = {
    DATA_PARALLEL: "module",
    "DataParallel": "module",
    "FullyShardedDataParallel": "_fsdp_wrapped_module",
    "OptimizedModule": "_orig_mod",
    "CheckpointWrapper": "_checkpoint_wrapped_module",
    "DeepSpeedEngine": "module",
    "AveragedModel": "module",
    "_FabricModule": "_forward_module",
}


def wrapped(module: Module) -> Module | None:
    """The module that a wrapper (DDP, FSDP, ``torch.compile``) holds; ``None`` for any other module."""
    attribute = _WRAPPERS.get(type(module).__name__)
    return None if attribute is None else module._modules.get(attribute)


def innermost(module: Module) -> Module:
    """``module`` without the wrappers around it."""
    inner = wrapped(module)
    return module if inner is None else innermost(inner)


def layers_of(module: Module) -> Iterator[Module]:
    """``module``, if it is a wrapper what it holds, and so on to the model."""
    inner: Module | None = module
    while inner is not None:
        yield inner
        inner = wrapped(inner)


def innermost_optimizer(optimizer: Optimizer) -> Optimizer:
    """``optimizer`` without what a framework (Accelerate) put around it, which shows the same groups and state."""
    inner = getattr(optimizer, "optimizer", None)
    return innermost_optimizer(inner) if isinstance(inner, Optimizer) else optimizer


def class_name(module: Module) -> str:
    """The class as the program wrote it: FSDP2 puts its own in front."""
    names = [kind.__name__ for kind in type(module).__mro__]
    return names[2] if "FSDPModule" in names[1:2] and len(names) > 2 else names[0]


@dataclass(frozen=True, slots=True)
class Owned:
    """A parameter or buffer, and the module that registers it."""

    name: str
    tensor: Tensor
    module: weakref.ref[Module] | None


@dataclass(slots=True)
class Layer:
    """A module as it was found in its model."""

    reference: weakref.ref[Module]
    path: str
    """Model label and path; the class alone where no known model holds it."""
    label: str
    kind: str
    api: str
    """What a call of it is called."""
    holds: bool = False
    """Whether it had parameters of its own; FSDP takes them out of it while it runs."""

    @classmethod
    def of(cls, module: Module, path: str) -> Layer:
        """``module`` at this place; nothing is known of its parameters."""
        kind = type(module)
        return cls(weakref.ref(module), path, path.partition(".")[0], kind.__name__, f"{qualified(kind)}.forward")


@dataclass(slots=True)
class Tree:
    """One model: its variables in order. It does not keep the model alive."""

    label: str
    reference: weakref.ref[Module]
    params: list[Owned] = field(default_factory=list)
    buffers: list[Owned] = field(default_factory=list)

    @property
    def root(self) -> Module:
        """The topmost module. A model that has died has no tree."""
        root = self.reference()
        assert root is not None, f"{self.label} is gone"
        return root


class Labels:
    """Class names, numbered from the second object of a class on."""

    def __init__(self) -> None:
        # Some modules (metrics of torchmetrics) compare and hash by their state.
        self._of: ByIdentity[str] = ByIdentity()
        self._counts: Counter[str] = Counter()

    def label(self, item: Any, name: str) -> str:
        """The label of ``item``; given now if it has none."""
        known = self._of.get(item)
        if known is None:
            self._counts[name] += 1
            count = self._counts[name]
            known = self._of[item] = name if count == 1 else f"{name}#{count}"
        return known

    def known(self, item: Any) -> str | None:
        """The label of ``item``, if it has one."""
        return self._of.get(item)

    def items(self) -> list[tuple[Any, str]]:
        """Everything alive that has a label, in the order in which labels were given."""
        return self._of.items()
