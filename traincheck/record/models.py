"""Which models and optimizers a program has, and what it calls their variables.

Nobody names a model to TrainCheck. Modules are seen when they register a child or a parameter, when they are called,
or by one look at what is alive; the topmost module of a tree is the model, and its class is its label.
"""

from __future__ import annotations

import itertools
import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.modules import module as torch_module
from torch.optim import Optimizer
from torch.utils.weak import WeakIdKeyDictionary

from traincheck.record.alive import alive

_DEEPEST = 100
_WRAPPERS = {
    "DistributedDataParallel": "module",
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
    module: Module | None


@dataclass(slots=True)
class Tree:
    """One model: its modules by path, its variables in order."""

    label: str
    root: Module
    params: list[Owned] = field(default_factory=list)
    buffers: list[Owned] = field(default_factory=list)


class Labels:
    """Class names, numbered from the second object of a class on."""

    def __init__(self) -> None:
        self._of: Any = WeakIdKeyDictionary()
        self._counts: Counter[str] = Counter()

    def label(self, item: Any, name: str) -> str:
        """The label of ``item``; given now if it has none."""
        known: str | None = self._of.get(item)
        if known is None:
            self._counts[name] += 1
            count = self._counts[name]
            known = self._of[item] = name if count == 1 else f"{name}#{count}"
        return known

    def known(self, item: Any) -> str | None:
        """The label of ``item``, if it has one."""
        known: str | None = self._of.get(item)
        return known

    def items(self) -> list[tuple[Any, str]]:
        """Everything alive that has a label, in the order in which labels were given."""
        return list(self._of.items())


class Models:
    """The models and optimizers of this process. Walking their trees is left to :meth:`refresh`.

    Modules are told apart by identity: some (metrics) are equal to others when their states are.
    """

    def __init__(self) -> None:
        self._roots = Labels()
        self._optimizers = Labels()
        self._parents: Any = WeakIdKeyDictionary()
        self._live: Any = WeakIdKeyDictionary()  # in order of appearance
        self._paths: Any = WeakIdKeyDictionary()
        self._names: dict[int, str] = {}
        self._former: Any = WeakIdKeyDictionary()
        """The last name of each parameter that has had one: what was replaced keeps it."""
        self.loaded: Any = WeakIdKeyDictionary()
        """The parameters that hold what was loaded."""
        self._missed: set[int] = set()
        self._main: list[weakref.ref[Module]] | None = None
        self.trees: list[Tree] = []
        self.stale = True
        self._handles: list[Any] = []

    def install(self) -> None:
        """Begin to see modules as they are built, and take in those that are alive."""
        self._handles = [
            torch_module.register_module_module_registration_hook(self._registered_module),
            torch_module.register_module_parameter_registration_hook(self._registered_parameter),
        ]
        self._scan()

    def remove(self) -> None:
        """See no more."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def add(self, module: Module) -> str:
        """Make the model that ``module`` belongs to a known one; its label."""
        root = self.root(module)
        if self._roots.known(root) is None:
            self._live.setdefault(root)
            self._main = None
            self.stale = True
        return self._roots.label(root, class_name(root))

    def add_optimizer(self, optimizer: Optimizer) -> str:
        """Make the optimizer a known one; its label."""
        optimizer = innermost_optimizer(optimizer)
        if self._optimizers.known(optimizer) is None:
            self._main = None
            self.stale = True
        return self._optimizers.label(optimizer, type(optimizer).__name__)

    def optimizers(self) -> list[tuple[Optimizer, str]]:
        """The optimizers, with their labels."""
        return self._optimizers.items()

    def root(self, module: Module) -> Module:
        """The topmost living module above ``module``, without wrappers."""
        for _ in range(_DEEPEST):
            parent = self._parent(module)
            if parent is None:
                break
            module = parent
        return innermost(module)

    def wrapper(self, module: Module) -> str:
        """Class of the outermost wrapper around the model ``module``, or ``""``."""
        found, parent = "", self._parent(module)
        while parent is not None and wrapped(parent) is not None:
            found, parent = type(parent).__name__, self._parent(parent)
        return found

    def path(self, module: Module) -> str:
        """Model label and path of any module: ``Net.fc1``; its class alone when no known model holds it."""
        found: str | None = self._paths.get(module)
        if found is None and self.stale:
            self.refresh()
            found = self._paths.get(module)
        return class_name(module) if found is None else found

    def is_model(self, module: Module) -> bool:
        """Whether ``module`` is a model as a whole, or a wrapper around one."""
        return self.root(module) is innermost(module)

    def name_of(self, tensor: Tensor) -> str:
        """The name of a parameter, or ``""``."""
        return self._names.get(id(tensor), "")

    def in_eval_mode(self) -> bool:
        """Whether the models that an optimizer trains are all in evaluation mode."""
        if self._main is None:
            self._main = [weakref.ref(root) for root in self._trained_roots()]
        alive = [root for root in (reference() for reference in self._main) if root is not None]
        return bool(alive) and not any(root.training for root in alive)

    def refresh(self) -> None:
        """Walk the trees again, so that what was replaced is seen."""
        self.stale = False
        self._walk()
        orphans = self._orphans()
        if orphans - self._missed:
            self._adopt(orphans)
            orphans = self._orphans()
        if orphans - self._missed:
            self._scan()
            self._adopt(orphans)
            self._missed = self._orphans()
        self._main = None

    def tree(self, module: Module) -> Tree | None:
        """The model that ``module`` belongs to, as of the last walk."""
        root = self.root(module)
        return next((tree for tree in self.trees if tree.root is root), None)

    def held_by(self, optimizer: Optimizer) -> list[Owned]:
        """The parameters of an optimizer, by name."""
        label = self.add_optimizer(optimizer)
        found = []
        for number, group in enumerate(optimizer.param_groups):
            for place, tensor in enumerate(group["params"]):
                name = self._names.get(id(tensor)) or self._orphan(tensor, f"{label}.group{number}.{place}")
                found.append(Owned(name, tensor, None))
        return found

    def _orphan(self, tensor: Tensor, name: str) -> str:
        """How a parameter is called that no model has: by the name that it had in one."""
        former = self._former.get(tensor)
        return name if former is None else f"{former} (replaced)"

    def params(self) -> Iterator[Owned]:
        """All parameters of all known models, then those that only an optimizer holds."""
        yield from itertools.chain.from_iterable(tree.params for tree in self.trees)
        for optimizer, _ in self.optimizers():
            yield from (owned for owned in self.held_by(optimizer) if id(owned.tensor) not in self._names)

    def _walk(self) -> None:
        self.trees, self._names = [], {}
        self._paths.clear()
        for root, label in self._roots.items():
            if self.root(root) is not root:
                continue
            tree = Tree(label, root)
            self._visit(root, label, tree)
            self.trees.append(tree)
            for owned in tree.params:
                self._names.setdefault(id(owned.tensor), owned.name)
                self._former[owned.tensor] = owned.name

    def _visit(self, module: Module, path: str, tree: Tree) -> None:
        seen_before = module in self._paths
        self._paths.setdefault(module, path)
        for name, tensor in module._parameters.items():
            if tensor is not None:
                tree.params.append(Owned(f"{path}.{name}", tensor, module))
        for name, buffer in module._buffers.items():
            if buffer is not None:
                tree.buffers.append(Owned(f"{path}.{name}", buffer, module))
        if seen_before and path.startswith(self._paths[module] + "."):
            return  # a module that contains itself
        inner = wrapped(module)
        for name, child in module._modules.items():
            if child is not None:
                self._visit(child, path if child is inner else f"{path}.{name}", tree)

    def _orphans(self) -> set[int]:
        held = (group["params"] for optimizer, _ in self.optimizers() for group in optimizer.param_groups)
        return {id(tensor) for tensor in itertools.chain.from_iterable(held)} - self._names.keys()

    def _adopt(self, orphans: set[int]) -> None:
        """Make the models known that have these parameters, among the modules seen so far.

        What was taken out of its model is no model, even if something still holds it; when it is called, it is one.
        """
        for module in list(self._live):
            taken_out = module in self._parents and self._parent(module) is None
            if not taken_out and any(id(tensor) in orphans for tensor in module._parameters.values()):
                self.add(module)
        self.stale = False
        self._walk()

    def _scan(self) -> None:
        for module in alive(Module):
            if "_modules" in module.__dict__:
                self._live.setdefault(module)
                for child in module._modules.values():
                    if child is not None:
                        self._parents.setdefault(child, weakref.ref(module))

    def _trained_roots(self) -> list[Module]:
        if self.stale:
            self.refresh()
        held = {id(owned.tensor) for optimizer, _ in self.optimizers() for owned in self.held_by(optimizer)}
        trained = [tree.root for tree in self.trees if any(id(owned.tensor) in held for owned in tree.params)]
        return trained or [tree.root for tree in self.trees]

    def _parent(self, module: Module) -> Module | None:
        reference: weakref.ref[Module] | None = self._parents.get(module)
        parent = None if reference is None else reference()
        if parent is None or not any(child is module for child in parent._modules.values()):
            return None
        return parent

    def _registered_module(self, parent: Module, name: str, child: Module | None) -> None:
        if child is not None and not torch.compiler.is_compiling():
            self._parents[child] = weakref.ref(parent)
            self._live.setdefault(parent)
            self.stale = True

    def _registered_parameter(self, module: Module, name: str, param: torch.nn.Parameter | None) -> None:
        if not torch.compiler.is_compiling():
            self._live.setdefault(module)
            self.stale = True
