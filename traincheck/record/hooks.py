"""Every hook of a recording, by topic. What steps and stages are found from is always there; the rest as planned."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import traincheck.record.hooks_backward as backward
import traincheck.record.hooks_checkpoint as checkpoint
import traincheck.record.hooks_clipping as clipping
import traincheck.record.hooks_compiler as compiler
import traincheck.record.hooks_data as data
import traincheck.record.hooks_distributed as distributed
import traincheck.record.hooks_model as model
import traincheck.record.hooks_operations as operations
import traincheck.record.hooks_optimizer as optimizer
import traincheck.record.hooks_scaler as scaler
import traincheck.record.hooks_schedule as schedule
import traincheck.record.hooks_sharded as sharded

if TYPE_CHECKING:
    from traincheck.record.session import Session

_TOPICS = (
    data,
    model,
    backward,
    optimizer,
    clipping,
    scaler,
    schedule,
    checkpoint,
    operations,
    distributed,
    sharded,
    compiler,
)


def install_hooks(session: Session) -> list[Callable[[], None]]:
    """Install them all; what to call to remove those that are not patches."""
    undo: list[Callable[[], None]] = []
    for topic in _TOPICS:
        undo += session.boundary.run(topic.__name__, topic.install, session) or []
    return undo
