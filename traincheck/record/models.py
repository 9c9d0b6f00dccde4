"""Which models and optimizers a program has, and what it calls their variables.

Nobody names a model to TrainCheck. Modules are seen when they register a child or a parameter, when they are called,
or by one look at what is alive; the topmost module of a tree is the model, and its class is its label.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.modules import module as torch_module
from torch.optim import Optimizer
from torch.utils.weak import WeakIdKeyDictionary

from traincheck.record.alive import alive
from traincheck.record.boundary import Boundary
from traincheck.record.by_identity import ByIdentity
from traincheck.record.named import Labels, Layer, Owned, Tree, class_name, innermost, innermost_optimizer, wrapped

__all__ = ["Labels", "Layer", "Models", "Owned", "Tree", "class_name", "innermost", "innermost_optimizer"]

_DEEPEST = 100
MOST_LISTED: Final = 64
"""Lists of variables whose names are kept; a program whose lists are always new ones gains nothing by keeping more."""
Listed: TypeAlias = "tuple[list[Owned], tuple[str, ...], list[Tensor]]"
"""Variables, with their names and their tensors apart."""


class Models:
    """The models and optimizers of this process. Walking their trees is left to :meth:`refresh`.

    Modules are told apart by identity: some (metrics) are equal to others when their states are.
    """

    def __init__(self, boundary: Boundary) -> None:
        self._boundary = boundary
        self._roots = Labels()
        self._optimizers = Labels()
        self._stands_for: weakref.WeakKeyDictionary[Optimizer, list[list[Tensor]]] = weakref.WeakKeyDictionary()
        """What optimizers update that were given shards or copies of it."""
        self._parents: ByIdentity[weakref.ref[Module]] = ByIdentity()
        self._live: ByIdentity[None] = ByIdentity()
        self._layers: dict[int, Layer] = {}
        """The modules of the last walk, by identity."""
        self._seen: tuple[Any, ...] = ()
        """What the last walk saw, in a form that is compared fast."""
        self._held: dict[str, tuple[list[int], list[Owned]]] = {}
        self._grouped: dict[Hashable, list[Owned]] = {}
        self._listed: dict[int, Listed] = {}
        self._names: dict[int, str] = {}
        self._former: Any = WeakIdKeyDictionary()
        """The last name of each parameter that has had one: what was replaced keeps it."""
        self.loaded: Any = WeakIdKeyDictionary()
        """The parameters that hold what was loaded."""
        self.settled: Any = WeakIdKeyDictionary()
        """The parameters that an optimizer has held, or that a framework took from a hub."""
        self._missed: set[int] = set()
        self._main: list[weakref.ref[Module]] | None = None
        self.trees: list[Tree] = []
        self.stale = True
        self.generation = 0
        """Counts the walks: as long as it stays, the same modules have the same variables in the same optimizers."""
        self._handles: list[Any] = []

    def install(self, living: Iterable[Module]) -> None:
        """Begin to see modules as they are built, and take in those that are alive already."""
        self._handles = [
            torch_module.register_module_module_registration_hook(self._hook(self._registered_module)),
            torch_module.register_module_parameter_registration_hook(self._hook(self._registered_parameter)),
        ]
        self._take_in(living)

    def remove(self) -> None:
        """See no more."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def add(self, module: Module) -> str:
        """Make the model that ``module`` belongs to a known one; its label."""
        root = self.root(module)
        if self._roots.known(root) is None:
            self._live.add(root, None)
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

    def stand_for(self, optimizer: Optimizer, groups: Sequence[Sequence[Tensor]]) -> None:
        """Say that ``optimizer`` updates these parameters, whatever tensors its groups hold."""
        self._stands_for[optimizer] = [list(group) for group in groups]
        self.add_optimizer(optimizer)
        self.stale = True

    def stands_in(self, optimizer: Optimizer) -> bool:
        """Whether a framework takes the steps of this optimizer."""
        return optimizer in self._stands_for

    def groups(self, optimizer: Optimizer) -> list[list[Tensor]]:
        """The parameters that an optimizer updates, by group."""
        known = self._stands_for.get(optimizer)
        return [group["params"] for group in optimizer.param_groups] if known is None else known

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
        around = self.wrappers(module)
        return type(around[-1]).__name__ if around else ""

    def wrappers(self, module: Module) -> list[Module]:
        """The wrappers around the model ``module``, from the inside out."""
        found: list[Module] = []
        parent = self._parent(module)
        while parent is not None and wrapped(parent) is not None:
            found.append(parent)
            parent = self._parent(parent)
        return found

    def path(self, module: Module) -> str:
        """Model label and path of any module: ``Net.fc1``; its class alone when no known model holds it."""
        return self.layer(module).path

    def layer(self, module: Module) -> Layer:
        """What is known of any module: as the last walk found it, or by itself when that did not come by."""
        found = self._walked(module)
        if found is None and self.stale:
            self.refresh()
            found = self._walked(module)
        return Layer.of(module, class_name(module)) if found is None else found

    def _walked(self, module: Module) -> Layer | None:
        known = self._layers.get(id(module))
        return None if known is None or known.reference() is not module else known

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
        known = False
        for reference in self._main:
            root = reference()
            if root is not None:
                if root.training:
                    return False
                known = True
        return known

    def refresh(self) -> None:
        """Walk the trees again if anything in them was replaced."""
        if self.stale or self._look() != self._seen:
            self._walk_anew()
            self._seen = self._look()

    def _walk_anew(self) -> None:
        self.stale = False
        self._walk()
        orphans = self._orphans()
        if orphans - self._missed:
            self._adopt(orphans)
            orphans = self._orphans()
        if orphans - self._missed:
            self._take_in(alive(Module))
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
        ids = [id(tensor) for group in self.groups(optimizer) for tensor in group]
        known = self._held.get(label)
        if known is None or known[0] != ids:
            known = self._held[label] = (ids, self._named(optimizer, label))
            self._grouped, self._listed = {}, {}
        return known[1]

    def _named(self, optimizer: Optimizer, label: str) -> list[Owned]:
        found = []
        for number, group in enumerate(self.groups(optimizer)):
            for place, tensor in enumerate(group):
                name = self._names.get(id(tensor)) or self._orphan(tensor, f"{label}.group{number}.{place}")
                found.append(Owned(name, tensor, None))
                self.settled[tensor] = True
        return list({owned.name: owned for owned in found}.values())

    def trained_by(self, optimizer: Optimizer) -> list[Owned]:
        """All parameters of the models that an optimizer trains, and its own."""
        held = self.held_by(optimizer)
        ids = {id(owned.tensor) for owned in held}
        trees = (tree.params for tree in self.trees if any(id(owned.tensor) in ids for owned in tree.params))
        return self.group(("trained", id(held)), lambda: itertools.chain(*trees, held))

    def _orphan(self, tensor: Tensor, name: str) -> str:
        """How a parameter is called that no model has: by the name that it had in one."""
        former = self._former.get(tensor)
        return name if former is None else f"{former} (replaced)"

    def params(self) -> list[Owned]:
        """All parameters of all known models, then those that only an optimizer holds."""
        return self.group("params", self._params)

    def variables(self) -> list[Owned]:
        """All parameters, and the buffers of all known models."""
        return self.group("variables", lambda: itertools.chain(self._params(), *(tree.buffers for tree in self.trees)))

    def group(self, key: Hashable, members: Callable[[], Iterable[Owned]]) -> list[Owned]:
        """Members that are the same, each name once, as long as nothing is replaced: worked out once."""
        found = self._grouped.get(key)
        if found is None:
            # A module that stands in two places has two names, and both are kept.
            found = self._grouped[key] = list({owned.name: owned for owned in members()}.values())
        return found

    def listed(self, owned: list[Owned]) -> Listed:
        """The names and the tensors of such a list, worked out once."""
        found = self._listed.get(id(owned))
        if found is None or found[0] is not owned:
            if len(self._listed) >= MOST_LISTED:
                self._listed = {}
            names, tensors = tuple(item.name for item in owned), [item.tensor for item in owned]
            found = self._listed[id(owned)] = (owned, names, tensors)
        return found

    def _params(self) -> Iterator[Owned]:
        yield from itertools.chain.from_iterable(tree.params for tree in self.trees)
        for optimizer, _ in self.optimizers():
            yield from (owned for owned in self.held_by(optimizer) if id(owned.tensor) not in self._names)

    def _look(self) -> tuple[Any, ...]:
        """Which modules there are, what is registered in them, and what optimizers hold: all by identity.

        What is named here is held on to, or known to have died, so that no identity stands for two things.
        """
        roots = [id(root) for root, _ in self._roots.items() if self.root(root) is root]
        registered: list[int | str] = []
        for layer in self._layers.values():
            module = layer.reference()
            if module is None:
                return ()
            for items in (module._parameters, module._buffers, module._modules):
                registered.append(len(items))
                if items:
                    registered += items.keys()  # a scripted module has no dictionaries
                    registered += map(id, items.values())
        held = [
            [id(tensor) for tensor in group] for optimizer, _ in self.optimizers() for group in self.groups(optimizer)
        ]
        return roots, registered, held

    def _forget(self, root: weakref.ref[Module]) -> None:
        """A model has died: its variables are not held on to."""
        for tree in self.trees:
            if tree.reference is root:
                for owned in tree.params:
                    self._names.pop(id(owned.tensor), None)
        self.trees = [tree for tree in self.trees if tree.reference is not root]
        self._grouped, self._listed = {}, {}

    def _walk(self) -> None:
        self.generation += 1
        self.trees, self._names, self._layers = [], {}, {}
        self._held, self._grouped, self._listed = {}, {}, {}
        for root, label in self._roots.items():
            if self.root(root) is not root:
                continue
            tree = Tree(label, weakref.ref(root, self._forget))
            self._visit(root, label, tree)
            self.trees.append(tree)
            for owned in tree.params:
                self._names.setdefault(id(owned.tensor), owned.name)
                self._former[owned.tensor] = owned.name

    def _visit(self, module: Module, path: str, tree: Tree) -> None:
        layer = self._layers.get(id(module))
        seen_before = layer is not None
        if layer is None:
            layer = self._layers[id(module)] = Layer.of(module, path)
        reference = layer.reference
        for name, tensor in module._parameters.items():
            if tensor is not None:
                layer.holds = True
                tree.params.append(Owned(f"{path}.{name}", tensor, reference))
        for name, buffer in module._buffers.items():
            if buffer is not None:
                tree.buffers.append(Owned(f"{path}.{name}", buffer, reference))
        if seen_before and path.startswith(layer.path + "."):
            return  # a module that contains itself
        inner = wrapped(module)
        for name, child in module._modules.items():
            if child is not None:
                self._visit(child, path if child is inner else f"{path}.{name}", tree)

    def _orphans(self) -> set[int]:
        held = (group for optimizer, _ in self.optimizers() for group in self.groups(optimizer))
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

    def _take_in(self, modules: Iterable[Module]) -> None:
        for module in modules:
            if "_modules" in module.__dict__:
                self._live.add(module, None)
                for child in module._modules.values():
                    if child is not None:
                        self._parents.add(child, weakref.ref(module))

    def _trained_roots(self) -> list[Module]:
        if self.stale:
            self.refresh()
        held = {id(owned.tensor) for optimizer, _ in self.optimizers() for owned in self.held_by(optimizer)}
        trained = [tree.root for tree in self.trees if any(id(owned.tensor) in held for owned in tree.params)]
        return trained or [tree.root for tree in self.trees]

    def _parent(self, module: Module) -> Module | None:
        reference = self._parents.get(module)
        parent = None if reference is None else reference()
        if parent is None or not any(child is module for child in parent._modules.values()):
            return None
        return parent

    def _hook(self, work: Callable[[Module, str, Any], None]) -> Callable[[Module, str, Any], None]:
        def registered(module: Module, name: str, item: Any) -> None:
            if not torch.compiler.is_compiling():
                self._boundary.run("registration", work, module, name, item)

        return registered

    def _registered_module(self, parent: Module, name: str, child: Module | None) -> None:
        if child is not None:
            self._parents[child] = weakref.ref(parent)
            self._live.add(parent, None)
            self.stale = True

    def _registered_parameter(self, module: Module, name: str, param: torch.nn.Parameter | None) -> None:
        self._live.add(module, None)
        self.stale = True
