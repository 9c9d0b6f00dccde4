"""Before a program ends its process group, its ranks bring their last steps together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch

from traincheck.record import Session
from traincheck.record.patching import Hook

NAME: Final = "destroy_process_group"


def before_group_ends(session: Session, settle: Callable[[], None]) -> None:
    """Have ``settle`` called whenever the default group is about to be destroyed, after the last step has ended."""
    if not torch.distributed.is_available():
        return
    from torch.distributed import distributed_c10d

    def begins(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        group = kwargs.get("group", args[0] if args else None)
        if group is not None and group is not distributed_c10d.GroupMember.WORLD:
            return
        if session.automatic() and session.steps.closes_at_fetch(True):
            session.end_window()
        settle()

    def ends(token: None, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, error: Any) -> None:
        return

    session.patches.wrap_alike((distributed_c10d, torch.distributed), NAME, Hook(NAME, begins, ends))
    session.patches.rebind()
