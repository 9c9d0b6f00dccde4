"""All ranks stop, or none does: a yes of one rank is the answer of all, at the same step."""

from __future__ import annotations

from typing import Any

import torch


class Agreement:
    """One of these on each rank, made at the same moment. It has a process group of its own, off the training's.

    Only who may stop a run needs it: each question waits for all ranks.
    """

    def __init__(self) -> None:
        distributed = torch.distributed
        several = distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
        self._group: Any = distributed.new_group(backend="gloo") if several else None

    def any(self, wanted: bool) -> bool:
        """Whether any rank wants it. Every rank asks once for each step."""
        if self._group is None:
            return wanted
        votes = torch.tensor([int(wanted)])
        # The group's own method: the program's collectives are recorded, ours are not.
        self._group.allreduce([votes]).wait()
        return bool(votes.item())
