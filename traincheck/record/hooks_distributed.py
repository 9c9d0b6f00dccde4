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
from traincheck.record.placement import group_ranks
from traincheck.values import Value
from traincheck.vocabulary import COLLECTIVE, COLLECTIVES, RANKS_PART

if TYPE_CHECKING:
    from traincheck.record.session import Session

_EQUAL_AFTERWARDS = ("all_reduce", "broadcast")
"""Their tensor has the same content on every rank afterwards."""
_OF_LISTS = ("all_to_all",)
_SPLITS = ("input_split_sizes", "output_split_sizes")
"""What may send another number of elements to each rank."""


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
        group = given.get("group") or torch.distributed.group.WORLD
        if torch.distributed.get_rank(group) < 0:
            return None  # another group's collective, which does nothing here
        tensor = first_tensor(list(given.values()))
        described: dict[str, Value] = {"op": _operation(given.get("op")), "group": group_ranks(group)}
        if tensor is not None:
            described |= {"numel": tensor.numel(), "dtype": dtype_name(tensor.dtype)}
            described["shape"] = tuple(int(length) for length in tensor.shape)
        described["uneven"] = self._name in _OF_LISTS or any(given.get(split) is not None for split in _SPLITS)
        if self._session.calls.thread.modules or self._session.steps.optimizer_exists:
            self._session.activity()
        call = self._session.open(f"{COLLECTIVE}{self._name}", f"torch.distributed.{self._name}", "", described)
        self._session.calls.announce(call)
        return call

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


class JoinHooks:
    """Records ``ranks.part`` at the end of a ``Join``, at the beginning of the step that follows."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        session = self._session
        if session.automatic() and session.steps.closes_at_fetch(training=True):
            session.end_window()
        session.record_now()
        session.tell(RANKS_PART, "torch.distributed.algorithms.Join.__exit__", "", {}, {})

    def ends(self, token: None, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, error: Any) -> None:
        """Nothing: the call was told when it began."""


def install(session: Session) -> list[Callable[[], None]]:
    """Hook into ``torch.distributed``, where this build has it."""
    if not torch.distributed.is_available():
        return []
    from torch.distributed import distributed_c10d
    from torch.distributed.algorithms.join import Join

    join = JoinHooks(session)
    session.patches.wrap(Join, "__exit__", Hook(RANKS_PART, join.begins, join.ends))
    for role in COLLECTIVES:
        name = role.removeprefix(COLLECTIVE)
        original = getattr(distributed_c10d, name, None)
        if original is not None and session.wants(role):
            hooks = CollectiveHooks(session, name, original)
            hook = Hook(role, hooks.begins, hooks.ends, passive=True)
            session.patches.wrap_alike((distributed_c10d, torch.distributed), name, hook)
    return []


def _operation(operation: Any) -> str | None:
    """The reduction: ``RedOpType.AVG`` and ``ReduceOp.AVG`` alike are ``AVG``; without one it is a sum."""
    return None if operation is None else str(getattr(operation, "op", operation)).rsplit(".", 1)[-1]
