"""Clipping by the method of ``FullyShardedDataParallel``: over the shards of all ranks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from torch import Tensor
from torch.optim import Optimizer

from traincheck.record.arguments import argument
from traincheck.record.calls import OpenCall
from traincheck.record.fingerprints import number
from traincheck.record.patching import Hook
from traincheck.values import Value
from traincheck.vocabulary import GRAD_CLIP

if TYPE_CHECKING:
    from traincheck.record.session import Session

_MODULE: Final = "torch.distributed.fsdp.fully_sharded_data_parallel"
_API: Final = "torch.distributed.fsdp.FullyShardedDataParallel.clip_grad_norm_"


class ShardedClipHooks:
    """Records ``grad.clip``. Without a norm afterwards and a number of gradients: each rank sees its shards only."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> OpenCall | None:
        if not any(handle.uses_sharded_strategy for handle in args[0]._all_handles):
            return None  # it calls torch.nn.utils.clip_grad_norm_, which is recorded
        described: dict[str, Value] = {
            "max_norm": float(argument(args, kwargs, 1, "max_norm")),
            "norm_type": float(argument(args, kwargs, 2, "norm_type", 2.0)),
        }
        return self._session.open(GRAD_CLIP, _API, "", described)

    def ends(
        self, call: OpenCall | None, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, error: Any
    ) -> None:
        if call is not None and call.recorded and isinstance(result, Tensor):
            call.out["total_norm"] = number(result)
        self._session.finish(call, error)


def install(session: Session) -> list[Callable[[], None]]:
    """Hook into FSDP as soon as the program has imported it: its optimizer is built after its wrapper."""
    clip = ShardedClipHooks(session)
    hooked: list[str] = []

    def look(*_: Any) -> None:
        if not hooked and _MODULE in sys.modules:
            hooked.append(_MODULE)
            wrapper = sys.modules[_MODULE].FullyShardedDataParallel
            session.patches.wrap(wrapper, "clip_grad_norm_", Hook(GRAD_CLIP, clip.begins, clip.ends, passive=True))

    if session.wants(GRAD_CLIP):
        look()
        session.patches.wrap(Optimizer, "__init__", Hook("optimizer.__init__", look, look))
    return []
