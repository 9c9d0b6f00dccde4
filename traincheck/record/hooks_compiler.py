"""``torch.jit.script`` compiles the source of the functions it finds: it must find torch's own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch

from traincheck.record.patching import Hook

if TYPE_CHECKING:
    from traincheck.record.session import Session


def install(session: Session) -> list[Callable[[], None]]:
    """Take the patches away while something is scripted."""

    def begins(args: tuple[Any, ...], kwargs: dict[str, Any]) -> AbstractContextManager[None]:
        suspended = session.patches.suspended()
        suspended.__enter__()
        return suspended

    def ends(
        suspended: AbstractContextManager[None] | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        result: Any,
        error: BaseException | None,
    ) -> None:
        if suspended is not None:
            suspended.__exit__(None, None, None)

    session.patches.wrap(torch.jit, "script", Hook("torch.jit.script", begins, ends))
    return []
