"""The context of a call: what the program is doing, and which modes of torch are on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch

from traincheck.events import Context
from traincheck.record.calls import Calls
from traincheck.record.models import Models
from traincheck.record.steps import MOMENTS, Moment, Steps
from traincheck.vocabulary import FORWARD, MODULE_FORWARD

_FORWARDS: Final = (FORWARD, MODULE_FORWARD)


class Contexts:
    """Tells the context that holds now. Equal ones are one object."""

    def __init__(self, models: Models, steps: Steps, calls: Calls) -> None:
        self._models = models
        self._steps = steps
        self._calls = calls
        self._stated: list[str] = []
        """The stages that the user has said, the innermost one last."""
        self._in_checkpoint = 0
        self._known: dict[tuple[str, int, bool, str], Context] = {}

    def moment(self) -> Moment:
        """What holds now."""
        return MOMENTS[torch.is_grad_enabled(), self._models.in_eval_mode()]

    def now(self) -> Context:
        """The context of a call that begins now."""
        moment = self.moment()
        key = (self._stage(moment), self._steps.micro_step, moment.grad_enabled, _autocast())
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = Context(*key)
        return found

    def inside(self) -> Context:
        """The same for a layer: that of the forward that it is in, where nothing that may change inside of it has."""
        stack = self._calls.thread.stack
        if stack and stack[-1].role in _FORWARDS and not self._stated:
            outer = stack[-1].context
            same_modes = outer.grad_enabled is torch.is_grad_enabled() and outer.autocast == _autocast()
            if same_modes and outer.micro_step == self._steps.micro_step:
                return outer
        return self.now()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Say what the program does inside, instead of having it found."""
        self._stated.append(name)
        try:
            yield
        finally:
            self._stated.remove(name)

    def stated_stage(self) -> str | None:
        """What the user said that the program is doing."""
        return self._stated[-1] if self._stated else None

    def enter_checkpoint(self, change: int) -> None:
        """Saving or loading begins (1) or ends (-1)."""
        self._in_checkpoint += change

    def _stage(self, moment: Moment) -> str:
        """What the program is doing, as said by the user or as found."""
        if self._stated:
            return self._stated[-1]
        return "checkpoint" if self._in_checkpoint else self._steps.stage(moment)


def _autocast() -> str:
    if not torch._C._is_any_autocast_enabled():
        return ""
    for device in ("cpu", "cuda"):
        if torch.is_autocast_enabled(device):
            return str(torch.get_autocast_dtype(device)).removeprefix("torch.")
    return ""
