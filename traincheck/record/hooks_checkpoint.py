"""Checkpoints: whether what is saved or loaded is what the models hold."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer

from traincheck.record.arguments import argument, qualified
from traincheck.record.calls import OpenCall
from traincheck.record.fingerprints import fingerprints, tensors_in, unseen
from traincheck.record.models import Tree, innermost
from traincheck.record.patching import Hook
from traincheck.record.state_memory import StateMemory, state_contents
from traincheck.values import Value
from traincheck.vocabulary import AFTER, BEFORE, CHECKPOINT_LOAD, CHECKPOINT_SAVE, OPTIMIZER_LOAD

if TYPE_CHECKING:
    from traincheck.record.session import Session

_DEPTH = 4
_PREFIXES = ("module.", "_orig_mod.", "_fsdp_wrapped_module.")


class CheckpointHooks:
    """Records ``checkpoint.save``, ``checkpoint.load`` and ``optimizer.load``, the outermost."""

    def __init__(self, session: Session, role: str, api: str, memory: StateMemory | None = None) -> None:
        self._session = session
        self._role = role
        self._api = api
        self._memory = memory
        self._before: list[int | None] = []
        self._aliased = 0

    def begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> OpenCall | bool | None:
        session = self._session
        inside = session.calls.thread.inside
        inside[self._role] = inside.get(self._role, 0) + 1
        if inside[self._role] > 1:
            return None
        call = self._opened(args, kwargs)
        session.contexts.enter_checkpoint(1)
        return call or True

    def ends(
        self, call: OpenCall | bool | None, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, error: Any
    ) -> None:
        session = self._session
        session.calls.thread.inside[self._role] -= 1
        if call is None:
            return
        session.contexts.enter_checkpoint(-1)
        if isinstance(call, OpenCall):
            if error is None and call.recorded:
                self._describe(call, args, kwargs, result)
            session.finish(call, error)

    def _opened(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> OpenCall | None:
        session, models, owner = self._session, self._session.models, args[0] if args else None
        if self._role == CHECKPOINT_SAVE:
            return session.open(self._role, self._api, "")
        api = f"{qualified(type(owner))}.load_state_dict"
        if isinstance(owner, Optimizer):
            return session.open(self._role, api, models.add_optimizer(owner))
        if not isinstance(owner, Module):
            return None
        models.add(owner)
        session.describe()
        described: dict[str, Value] = {"strict": bool(argument(args, kwargs, 2, "strict", True))}
        call = session.open(self._role, api, models.path(innermost(owner)), described)
        tree = models.tree(owner)
        session.snapshots.params(call, BEFORE, lambda: [] if tree is None else tree.params)
        if call is not None and call.recorded:
            live = live_tensors(owner)
            self._before = fingerprints(list(live.values()))
            self._aliased = _aliased(argument(args, kwargs, 1, "state_dict"), live)
        return call

    def _describe(self, call: OpenCall, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        session = self._session
        if self._role == CHECKPOINT_SAVE:
            call.out = _compare_saved(argument(args, kwargs, 0, "obj"), session.models.trees)
            return
        given = argument(args, kwargs, 1, "state_dict")
        if self._role == OPTIMIZER_LOAD:
            session.models.refresh()
            session.progress.optimizer_loaded(args[0])
            found = self._memory.recognised(state_contents(args[0], session.models)) if self._memory else {}
            call.out = {"shared_storage": _shared(args[0], session.models.optimizers()), **found}
            session.snapshots.optimizer_state(call, AFTER, args[0])
            return
        live = live_tensors(args[0])
        after = fingerprints(list(live.values()))
        call.out = {
            "missing": len(result.missing_keys),
            "unexpected": len(result.unexpected_keys),
            "given": len(given),
            "matched": len(given) - len(result.unexpected_keys),
            "aliased": self._aliased,
            "changed": sum(then != now for then, now in zip(self._before, after, strict=False)),
            "differing": _differing({_clean(name): value for name, value in given.items()}, live),
        }
        names = {_clean(name) for name in given}
        session.models.loaded.update({tensor: True for name, tensor in live.items() if name in names})
        session.describe()
        tree = session.models.tree(args[0])
        session.snapshots.params(call, AFTER, lambda: [] if tree is None else tree.params)


class StateDictHooks:
    """Remembers the state that an optimizer gives out."""

    def __init__(self, session: Session, memory: StateMemory) -> None:
        self._session = session
        self._memory = memory

    def begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Nothing changes while the state is put together."""

    def ends(self, token: None, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, error: Any) -> None:
        if error is None:
            self._session.models.add_optimizer(args[0])
            self._session.models.refresh()
            self._memory.taken(state_contents(args[0], self._session.models))


def install(session: Session) -> list[Callable[[], None]]:
    """Hook into saving and loading. ``safetensors`` only if the program has imported it."""
    wrap = session.patches.wrap
    if session.wants(CHECKPOINT_SAVE):
        hook = _hook(session, CHECKPOINT_SAVE, "torch.save")
        session.patches.wrap_alike((torch.serialization, torch), "save", hook)
        safetensors = sys.modules.get("safetensors.torch")
        for name in ("save_model", "save_file") if safetensors is not None else ():
            wrap(safetensors, name, _hook(session, CHECKPOINT_SAVE, f"safetensors.torch.{name}"))
    if session.wants(CHECKPOINT_LOAD):
        wrap(Module, "load_state_dict", _hook(session, CHECKPOINT_LOAD, ""))
    if session.wants(OPTIMIZER_LOAD):
        memory = StateMemory()
        taking = StateDictHooks(session, memory)
        wrap(Optimizer, "state_dict", Hook("optimizer.state_dict", taking.begins, taking.ends))
        wrap(Optimizer, "load_state_dict", _hook(session, OPTIMIZER_LOAD, "", memory))
    return []


def _hook(session: Session, role: str, api: str, memory: StateMemory | None = None) -> Hook:
    hooks = CheckpointHooks(session, role, api, memory)
    return Hook(role, hooks.begins, hooks.ends)


def live_tensors(module: Module) -> dict[str, Tensor]:
    """What a state dictionary of the module would hold, by clean name, without running its hooks."""
    found: dict[str, Tensor] = {}
    for path, part in innermost(module).named_modules(remove_duplicate=False):
        own = {**part._parameters, **part._buffers}
        for name, tensor in own.items():
            if tensor is not None and name not in part._non_persistent_buffers_set:
                found[_clean(f"{path}.{name}" if path else name)] = tensor
    return found


def _clean(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix).replace(f".{prefix}", ".") if prefix != "module." else name
    return name


def _compare_saved(saved: Any, trees: list[Tree]) -> dict[str, Value]:
    """How the saved tensors compare with the model that they most resemble."""
    out: dict[str, Value] = {"tensors": sum(1 for _ in tensors_in(saved)), "matches": ""}
    best: tuple[tuple[int, int], str, dict[str, Any], dict[str, Tensor]] = ((0, 0), "", {}, {})
    for given in _mappings(saved, _DEPTH):
        for tree in trees:
            live = live_tensors(tree.root)
            names = aligned(given, live)
            overlap = len(names.keys() & live.keys())
            likeness = (overlap, _aliased(names, live))
            if likeness > best[0] and 2 * overlap >= min(len(names), len(live)):
                best = (likeness, tree.label, names, live)
    if not best[1]:
        return out
    _, label, names, live = best
    return {**out, "matches": label, **compared(names, live)}


def compared(given: Mapping[str, Any], live: Mapping[str, Tensor]) -> dict[str, Value]:
    """How many of the live tensors are missing among the given ones, unexpected there, or different.

    A tensor that is given under one of its names is not missing under the others.
    """
    kept = {_memory(live[name]) for name in given if name in live}
    missing = [name for name in live if name not in given and _memory(live[name]) not in kept]
    unexpected = len(given.keys() - live.keys())
    return {"missing": len(missing), "unexpected": unexpected, "differing": _differing(given, live)}


def aligned(given: Mapping[str, Any], live: Mapping[str, Tensor]) -> dict[str, Any]:
    """The saved names without wrappers; a leading ``module.`` goes only where the model has none."""
    names = {_clean(name): value for name, value in given.items()}
    if all(name.startswith("module.") for name in names) and not any(name.startswith("module.") for name in live):
        return {name.removeprefix("module."): value for name, value in names.items()}
    return names


def _mappings(value: Any, depth: int) -> Iterator[Mapping[str, Any]]:
    """The mappings from names to tensors inside what is saved; a module counts as one."""
    if isinstance(value, Module):
        yield live_tensors(value)
    elif isinstance(value, Mapping):
        tensors = {name: item for name, item in value.items() if isinstance(name, str) and isinstance(item, Tensor)}
        if tensors:
            yield tensors
        for item in value.values() if depth else ():
            yield from _mappings(item, depth - 1)
    elif isinstance(value, (list, tuple)) and depth:
        for item in value:
            yield from _mappings(item, depth - 1)


def _differing(given: Mapping[str, Any], live: Mapping[str, Tensor]) -> int:
    """How many tensors in both are not equal, in the live one's type."""
    pairs = [(given[name], live[name]) for name in live if isinstance(given.get(name), Tensor)]
    pairs = [(left, right) for left, right in pairs if _memory(left) != _memory(right)]
    with unseen():
        cast = [left.to(device=right.device, dtype=right.dtype) for left, right in pairs]
    left_digests, right_digests = fingerprints(cast), fingerprints([right for _, right in pairs])
    shapes = [left.shape != right.shape for left, right in pairs]
    return sum(s or a != b for s, a, b in zip(shapes, left_digests, right_digests, strict=True))


def _aliased(given: Mapping[str, Any], live: Mapping[str, Tensor]) -> int:
    """How many of the given tensors are the model's own."""
    pairs = ((given[name], live[name]) for name in live if isinstance(given.get(name), Tensor))
    return sum(1 for left, right in pairs if right.numel() and _memory(left) == _memory(right))


def _memory(tensor: Tensor) -> tuple[Any, ...]:
    if tensor.layout is not torch.strided or tensor.device.type == "meta":
        return (id(tensor),)
    return (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride()) if tensor.numel() else (id(tensor),)


def _shared(optimizer: Optimizer, optimizers: list[tuple[Optimizer, str]]) -> int:
    """How many state tensors of the optimizer share their memory with another living optimizer."""
    others = [tensor for other, _ in optimizers if other is not optimizer for tensor in tensors_in(dict(other.state))]
    foreign = {tensor.data_ptr() for tensor in others if tensor.numel()}
    return sum(tensor.data_ptr() in foreign for tensor in tensors_in(dict(optimizer.state)) if tensor.numel())
