"""Which ranks hold the same content of a parameter: what wrappers, meshes and marks on parameters say of it.

Nothing here asks other ranks. What is said comes from ``DistributedDataParallel``, FSDP, ``DTensor``, DeepSpeed, and
the attributes that Megatron gave its parameters and others took over (``tensor_model_parallel``, ``allreduce``).
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import Module

from traincheck.record import named

LOCAL: Final = "local"
REPLICATED: Final = "replicated"
SHARDED: Final = "sharded"
COPIED: Final = "copied"

_PARTED: Final[weakref.WeakSet[Module]] = weakref.WeakSet()
"""Wrappers whose replicas part on purpose, to be averaged later: a framework said so."""

Ranks = tuple[int, ...]
Place = tuple[str, Ranks]
"""A placement (see :class:`traincheck.events.Variable`), and the ranks that hold the same content, if known."""

_ENGINES: Final = ("DeepSpeedEngine", "PipelineEngine", "DeepSpeedHybridEngine")
_NOWHERE: Final[Place] = (LOCAL, ())
_LOCAL_UPDATES: Final = "post_localSGD_hook"
"""The communication hook of DDP under which replicas part on purpose."""
_PARALLEL_STATES: Final = ("megatron.core.parallel_state", "megatron.mpu", "mpu", "deepspeed.utils.groups")
"""Modules that keep the groups of Megatron's layout, under Megatron's names."""


def placements(chain: list[Module], root: Module) -> dict[int, Place]:
    """The placement of each parameter below ``root`` of which a module says it; ``chain`` are the wrappers above."""
    found: dict[int, Place] = {}
    if world_size() > 1:
        for module in (*chain, *root.modules()):
            match type(module).__name__:
                case named.DATA_PARALLEL:
                    found.update(_of_data_parallel(module))
                case "FullyShardedDataParallel":
                    found.update(_of_flat_parameters(module))
                case engine if engine in _ENGINES:
                    found.update(_of_engine(module))
    return found


def place_of(tensor: Tensor, said: Place = _NOWHERE) -> Place:
    """The placement of a parameter, of which its modules have ``said`` something or nothing."""
    distributed = sys.modules.get("torch.distributed.tensor")
    if distributed is not None and isinstance(tensor, distributed.DTensor):
        return _on_mesh(tensor)
    if said is not _NOWHERE:
        return said
    if getattr(tensor, "_is_flat_param", False) or type(tensor).__name__ == "FlatParameter":
        return SHARDED, ()
    if getattr(tensor, "allreduce", True) is False:
        return SHARDED, _expert_replicas(tensor)
    parallel = getattr(tensor, "tensor_model_parallel", None)
    if parallel is None:
        return _NOWHERE
    return (SHARDED, _ranks_of("get_data_parallel_group")) if parallel else (REPLICATED, _stage_ranks())


def part(wrapper: Module) -> None:
    """Say that the replicas of this data-parallel wrapper train apart, and are averaged now and then."""
    _PARTED.add(wrapper)


def group_ranks(group: Any) -> Ranks:
    """The global ranks of a process group, in order."""
    return tuple(sorted(torch.distributed.get_process_group_ranks(group)))


def _of_data_parallel(wrapper: Any) -> Iterator[tuple[int, Place]]:
    hooks = [getattr(hook, "__name__", "") for hook, _ in getattr(wrapper, "_comm_hooks", ())]
    ranks = group_ranks(wrapper.process_group)
    if _LOCAL_UPDATES in hooks or wrapper in _PARTED or len(ranks) < 2:
        return
    for name, parameter in wrapper.module.named_parameters():
        if name not in wrapper.parameters_to_ignore:
            parallel = getattr(parameter, "tensor_model_parallel", False)
            yield id(parameter), (SHARDED if parallel else REPLICATED, ranks)


def _of_flat_parameters(wrapper: Any) -> Iterator[tuple[int, Place]]:
    handle = getattr(wrapper, "_handle", None)
    if handle is None:
        return
    if handle.uses_sharded_strategy:
        between = getattr(wrapper, "_inter_node_pg", None)
        place = SHARDED, () if between is None else group_ranks(between)
    else:
        place = REPLICATED, group_ranks(wrapper.process_group)
    for parameter in (handle.flat_param, *(handle.flat_param._params or ())):
        yield id(parameter), place


def _of_engine(engine: Any) -> Iterator[tuple[int, Place]]:
    """ZeRO leaves each rank a shard of the gradients from its first stage on, and of the parameters in its third."""
    stage, ranks = engine.zero_optimization_stage(), group_ranks(engine.seq_data_parallel_group)
    if len(ranks) < 2:
        return
    for parameter in engine.module.parameters():
        if getattr(parameter, "allreduce", True) is False:
            place: Place = SHARDED, _expert_replicas(parameter)
        elif stage == 3:
            place = SHARDED, ()
        elif getattr(parameter, "tensor_model_parallel", False):
            place = SHARDED, ranks
        else:
            place = COPIED if stage else REPLICATED, ranks
        yield id(parameter), place


def _on_mesh(tensor: Any) -> Place:
    """Equal on the ranks that differ from this one only along dimensions over which the tensor is replicated."""
    mesh = tensor.device_mesh
    if world_size() < 2 or mesh.size() < 2:  # a mesh outlives the process groups that it was made of
        return _NOWHERE
    coordinate = mesh.get_coordinate()
    if coordinate is None:
        return _NOWHERE
    own = tuple(
        slice(None) if place.is_replicate() else slice(mine, mine + 1)
        for place, mine in zip(tensor.placements, coordinate, strict=True)
    )
    ranks = tuple(sorted(mesh.mesh[own].flatten().tolist()))
    return (COPIED, ranks) if len(ranks) > 1 else (SHARDED, ())


def _expert_replicas(tensor: Any) -> Ranks:
    """DeepSpeed knows which ranks hold the same experts."""
    groups: Any = sys.modules.get("deepspeed.utils.groups")
    known = {} if groups is None else groups._get_expert_data_parallel_group_dict()
    group = known.get(getattr(tensor, "group_name", None))
    ranks = () if group is None else group_ranks(group)
    return ranks if len(ranks) > 1 else ()


def _stage_ranks() -> Ranks:
    """The ranks of the same pipeline stage, for layouts that are grids, as Megatron's are; empty: all ranks."""
    data, tensor = _ranks_of("get_data_parallel_group"), _ranks_of("get_tensor_model_parallel_group")
    if not data and not tensor:
        return ()
    me = torch.distributed.get_rank()
    return tuple(sorted({one + other - me for one in data or (me,) for other in tensor or (me,)}))


def _ranks_of(getter: str) -> Ranks:
    """The ranks of one of Megatron's groups, if somebody keeps it and it has several."""
    for name in _PARALLEL_STATES:
        get = getattr(sys.modules.get(name), getter, None)
        try:
            ranks = group_ranks(get()) if get is not None else ()
        except (AssertionError, AttributeError, KeyError, RuntimeError, ValueError):  # its way to say: no such group
            continue
        if len(ranks) > 1:
            return ranks
    return ()


def world_size() -> int:
    """How many processes train together."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size()
    return 1
