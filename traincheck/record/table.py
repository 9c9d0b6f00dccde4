"""The table of variables: what is known of each parameter and buffer beside its content."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from traincheck.events import Variable
from traincheck.record.fingerprints import unseen
from traincheck.record.models import Models, Owned, class_name
from traincheck.record.placement import Place, place_of, placements, world_size
from traincheck.vocabulary import BUFFER, PARAM

Description = tuple[Any, ...]


class Table:
    """Describes the variables, and says when a description has changed."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._last: list[Description] = []
        self._glance: tuple[Any, ...] | None = None

    def changed(self) -> tuple[Variable, ...] | None:
        """All variables as of now when any of them differs from the last time, else ``None``."""
        with unseen():
            glance = self._look()
            if glance is not None and glance == self._glance:
                return None
            self._glance = glance
            now = self._describe()
        if now == self._last:
            return None
        self._last = now
        return tuple(Variable(*description) for description in now)

    def _look(self) -> tuple[Any, ...] | None:
        """Everything that descriptions are made of, read fast; ``None`` where a tensor is not a plain one."""
        models = self._models
        seen: list[Any] = [models.generation, world_size()]
        for owned in models.variables():
            if not _is_plain(owned.tensor):
                return None
            seen.append(_state(owned))
        return tuple(seen)

    def _describe(self) -> list[Description]:
        holders = self._holders()
        first: dict[tuple[Any, ...], str] = {}
        rows: list[Description] = []
        for tree in self._models.trees:
            said = placements(self._models.wrappers(tree.root), tree.root)
            rows += [_row(owned, PARAM, holders, first, said.get(id(owned.tensor))) for owned in tree.params]
            rows += [_row(owned, BUFFER, holders, first, None) for owned in tree.buffers]
        known = {row[0] for row in rows}
        for owned in self._models.params():
            if owned.module is None and owned.name not in known:
                rows.append(_row(owned, PARAM, holders, first, None))
        return rows

    def _holders(self) -> dict[int, tuple[str, str]]:
        """For each parameter the optimizer that holds it, and the group."""
        holders: dict[int, tuple[str, str]] = {}
        for optimizer, label in self._models.optimizers():
            for number, group in enumerate(self._models.groups(optimizer)):
                for tensor in group:
                    holders.setdefault(id(tensor), (label, f"{label}.group{number}"))
        return holders


def _row(
    owned: Owned,
    kind: str,
    holders: dict[int, tuple[str, str]],
    first: dict[tuple[Any, ...], str],
    said: Place | None,
) -> Description:
    tensor, module = owned.tensor, owned.module
    owner = None if module is None else module()
    optimizer, group = holders.get(id(tensor), ("", ""))
    same = first.setdefault(_storage(tensor), owned.name)
    return (
        owned.name,
        kind,
        () if torch.nn.parameter.is_lazy(tensor) else tuple(getattr(tensor, "ds_shape", tensor.shape)),
        str(tensor.dtype).removeprefix("torch."),
        tensor.requires_grad,
        optimizer,
        group,
        owner is not None,
        "" if owner is None else class_name(owner),
        False if owner is None else owner.training,
        "" if same == owned.name else same,
        *(place_of(tensor) if said is None else place_of(tensor, said)),
    )


def _is_plain(tensor: Tensor) -> bool:
    """Whether the tensor has an address: no subclass, no other layout, nothing of a function transform."""
    plain = type(tensor) in (Tensor, torch.nn.Parameter) and tensor.layout is torch.strided
    return plain and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def _state(owned: Owned) -> tuple[Any, ...]:
    """What a description says of a plain tensor and its module and may change while both stay the same objects."""
    tensor = owned.tensor
    module = None if owned.module is None else owned.module()
    training = module is not None and module.training
    place = (tensor.data_ptr(), tensor.shape, tensor.stride())
    return (*place, tensor.dtype, tensor.requires_grad, training, len(tensor.__dict__))


def _storage(tensor: Tensor) -> tuple[Any, ...]:
    """Equal for two tensors that show the same memory."""
    if _is_plain(tensor) and tensor.device.type != "meta" and tensor.numel():
        return (tensor.data_ptr(), tensor.device, tuple(tensor.shape), tensor.stride())
    return (id(tensor),)


def learning_rates(optimizer: Optimizer, label: str) -> tuple[list[str], list[float]]:
    """The learning rate of each group, by name."""
    names = [f"{label}.group{number}" for number in range(len(optimizer.param_groups))]
    return names, [float(group.get("lr", 0.0)) for group in optimizer.param_groups]
