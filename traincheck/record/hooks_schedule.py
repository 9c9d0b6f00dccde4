"""Learning-rate schedulers: their steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch.optim import Optimizer, lr_scheduler

from traincheck.record.arguments import qualified
from traincheck.record.calls import OpenCall
from traincheck.record.models import Labels
from traincheck.record.patching import Hook
from traincheck.values import Value
from traincheck.vocabulary import AFTER, BEFORE, LR_STEP

if TYPE_CHECKING:
    from traincheck.record.session import Session

_INITIAL = "initial step"
SCHEDULED_ONCE = "scheduled once"
"""While this is set (``inside`` of the thread), all steps of a schedule are one: 1 before it is taken, 2 after."""


class ScheduleHooks:
    """Records ``lr.step``, the outermost of each scheduler."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._labels = Labels()

    def begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> OpenCall | None:
        session, scheduler = self._session, args[0]
        inside = session.calls.thread.inside
        key = (LR_STEP, id(scheduler))
        inside[key] = inside.get(key, 0) + 1
        if inside[key] > 1 or inside.get(SCHEDULED_ONCE) == 2:
            return None
        if SCHEDULED_ONCE in inside:
            inside[SCHEDULED_ONCE] = 2
        label = self._labels.label(scheduler, type(scheduler).__name__)
        described: dict[str, Value] = {"in_init": bool(inside.get(_INITIAL))}
        if type(scheduler) is lr_scheduler.CosineAnnealingLR:
            described["period"] = scheduler.T_max
        if session.recording and not described["in_init"]:
            described |= session.boundary.run("progress", session.progress.scheduled, scheduler, session.step) or {}
        call = session.open(LR_STEP, f"{qualified(type(scheduler))}.step", label, described)
        session.snapshots.rates(call, BEFORE, _optimizer(scheduler))
        return call

    def ends(
        self, call: OpenCall | None, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, error: Any
    ) -> None:
        session, scheduler = self._session, args[0]
        inside = session.calls.thread.inside
        key = (LR_STEP, id(scheduler))
        inside[key] -= 1
        if not inside[key]:
            del inside[key]
        if call is None:
            return
        last_epoch = getattr(scheduler, "last_epoch", None)
        call.out["last_epoch"] = last_epoch if isinstance(last_epoch, (int, float)) else None
        session.snapshots.rates(call, AFTER, _optimizer(scheduler))
        session.finish(call, error)

    def read_begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Nothing is known of the file yet."""

    def read_ends(self, token: None, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, error: Any) -> None:
        self._session.progress.read(result)

    def load_begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._session.progress.schedule_loaded()

    def load_ends(self, token: None, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, error: Any) -> None:
        """The state was taken as given."""

    def initial_begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        inside = self._session.calls.thread.inside
        inside[_INITIAL] = inside.get(_INITIAL, 0) + 1

    def initial_ends(self, token: None, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, error: Any) -> None:
        self._session.calls.thread.inside[_INITIAL] -= 1


def install(session: Session) -> list[Callable[[], None]]:
    """Hook into every scheduler class that defines a step of its own."""
    if not session.wants(LR_STEP):
        return []
    hooks, wrap = ScheduleHooks(session), session.patches.wrap
    for kind in _kinds(lr_scheduler.LRScheduler):
        if "step" in vars(kind):
            wrap(kind, "step", Hook(LR_STEP, hooks.begins, hooks.ends, passive=True))
        if "load_state_dict" in vars(kind):
            wrap(kind, "load_state_dict", Hook("lr.load", hooks.load_begins, hooks.load_ends))
    read = Hook("checkpoint.read", hooks.read_begins, hooks.read_ends)
    session.patches.wrap_alike((torch.serialization, torch), "load", read)
    wrap(lr_scheduler.LRScheduler, "_initial_step", Hook(_INITIAL, hooks.initial_begins, hooks.initial_ends))
    return []


def _kinds(kind: type[Any]) -> Iterator[type]:
    yield kind
    for below in kind.__subclasses__():
        yield from _kinds(below)


def _optimizer(scheduler: Any) -> Optimizer | None:
    optimizer = getattr(scheduler, "optimizer", None)
    return optimizer if isinstance(optimizer, Optimizer) else None
