"""Collectives that the program itself calls: which, over how many ranks, of what."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from traincheck.record.arguments import dtype_name
from traincheck.record.calls import OpenCall
from traincheck.record.fingerprints import fingerprints, first_tensor
from traincheck.record.patching import Hook
from traincheck.values import Value
from traincheck.vocabulary import COLLECTIVE

if TYPE_CHECKING:
    from traincheck.record.session import Session

_NAMES = (
    "all_reduce",
    "all_gather",
    "all_gather_into_tensor",
    "broadcast",
    "reduce",
    "reduce_scatter",
    "reduce_scatter_tensor",
    "all_to_all",
    "all_to_all_single",
    "barrier",
)
_EQUAL_AFTERWARDS = ("all_reduce", "broadcast")
"""Their tensor has the same content on every rank afterwards."""


class CollectiveHooks:
    """Records calls of one collective, the outermost."""

    def __init__(self, session: Session, name: str, original: Callable[..., Any]) -> None:
        self._session = session
        self._name = name
        self._signature = inspect.signature(original)

    def begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> OpenCall | None:
        inside = self._session.calls.thread.inside
        inside[COLLECTIVE] = inside.get(COLLECTIVE, 0) + 1
        if inside[COLLECTIVE] > 1:
            return None
        given = self._signature.bind(*args, **kwargs).arguments
        tensor = first_tensor(list(given.values()))
        described: dict[str, Value] = {"op": _operation(given.get("op")), "group_size": _size(given.get("group"))}
        if tensor is not None:
            described |= {"numel": tensor.numel(), "dtype": dtype_name(tensor.dtype)}
            described["shape"] = tuple(int(length) for length in tensor.shape)
        return self._session.open(f"{COLLECTIVE}{self._name}", f"torch.distributed.{self._name}", "", described)

    def ends(
        self, call: OpenCall | None, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, error: Any
    ) -> None:
        self._session.calls.thread.inside[COLLECTIVE] -= 1
        if call is None:
            return
        given = self._signature.bind(*args, **kwargs).arguments
        tensor = given.get("tensor")
        finished = error is None and not given.get("async_op") and call.recorded
        if finished and self._name in _EQUAL_AFTERWARDS and isinstance(tensor, Tensor):
            (call.out["hash"],) = fingerprints([tensor])
        self._session.finish(call, error)


def install(session: Session) -> list[Callable[[], None]]:
    """Hook into ``torch.distributed``, where this build has it."""
    if not torch.distributed.is_available():
        return []
    from torch.distributed import distributed_c10d

    for name in _NAMES:
        original = getattr(distributed_c10d, name, None)
        if original is not None and session.wants(f"{COLLECTIVE}{name}"):
            hooks = CollectiveHooks(session, name, original)
            hook = Hook(f"{COLLECTIVE}{name}", hooks.begins, hooks.ends, passive=True)
            session.patches.wrap_alike((distributed_c10d, torch.distributed), name, hook)
    return []


def _operation(operation: Any) -> str | None:
    """The reduction: ``RedOpType.AVG`` and ``ReduceOp.AVG`` alike are ``AVG``; without one it is a sum."""
    return None if operation is None else str(getattr(operation, "op", operation)).rsplit(".", 1)[-1]


def _size(group: Any) -> int:
    return torch.distributed.get_world_size(group)
