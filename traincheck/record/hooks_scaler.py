"""Gradient scaling for mixed precision: scale, unscale, step, update."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from traincheck.record.calls import OpenCall
from traincheck.record.patching import Hook
from traincheck.vocabulary import GRAD_UNSCALE, SCALER_SCALE, SCALER_STEP, SCALER_UPDATE

if TYPE_CHECKING:
    from traincheck.record.session import Session

_METHODS = {SCALER_SCALE: "scale", GRAD_UNSCALE: "unscale_", SCALER_STEP: "step", SCALER_UPDATE: "update"}


class ScalerHooks:
    """Records the calls of one method of an enabled scaler."""

    def __init__(self, session: Session, role: str) -> None:
        self._session = session
        self._role = role

    def begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> OpenCall | bool | None:
        scaler = args[0]
        if not scaler.is_enabled():
            return None
        if not self._session.recording:
            return True
        method = _METHODS[self._role]
        api, kind = f"torch.amp.GradScaler.{method}", type(scaler).__name__
        return self._session.open(self._role, api, kind, {"scale": float(scaler.get_scale())}) or True

    def ends(
        self, call: OpenCall | bool | None, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, error: Any
    ) -> None:
        if call is None:
            return
        if error is None:
            self._note(call, args, kwargs, result)
        if isinstance(call, OpenCall):
            self._session.finish(call, error)

    def _note(self, call: OpenCall | bool, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        if self._role == SCALER_SCALE and isinstance(result, Tensor):
            self._session.scaled_loss = weakref.ref(result)
        if self._role == SCALER_STEP:
            self._session.steps.stepped()
            if isinstance(call, OpenCall):
                call.out["skipped"] = _found_inf(args[0], args[1] if len(args) > 1 else kwargs["optimizer"])


def install(session: Session) -> list[Callable[[], None]]:
    """Hook into ``GradScaler``."""
    for role, method in _METHODS.items():
        if role in (SCALER_SCALE, SCALER_STEP) or session.wants(role):
            hooks = ScalerHooks(session, role)
            passive = role in (GRAD_UNSCALE, SCALER_UPDATE)
            session.patches.wrap(GradScaler, method, Hook(role, hooks.begins, hooks.ends, passive=passive))
    return []


def _found_inf(scaler: Any, optimizer: Any) -> bool:
    found = scaler._per_optimizer_states[id(optimizer)]["found_inf_per_device"]
    return any(bool(value.item()) for value in found.values())
