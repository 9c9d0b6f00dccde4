"""Where a training step ends and what the program is doing, from nothing but its calls.

A window closes at the next fetch of a training batch after an optimizer step; in programs without a loader, at the
next training forward. Nothing here depends on what is recorded, nor on torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

STEP_LIMIT: Final = 64
"""Backward passes after which a window closes although no optimizer stepped (or 4 times the most seen so far)."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What holds in the program when something happens."""

    grad_enabled: bool
    eval_mode: bool
    """The main model (whose parameters an optimizer holds) is in evaluation mode."""


MOMENTS: Final = {(grad, mode): Moment(grad, mode) for grad in (False, True) for mode in (False, True)}
"""All there are."""


@dataclass
class Steps:
    """The state of the finder. Each method is told what is about to happen, or what just did."""

    phase: str = "init"
    micro_step: int = 0
    optimizer_exists: bool = False
    _stepped: bool = False
    _trained: bool = False
    _trained_in_eval_mode: bool = False
    _most_backwards: int = 0
    _training: set[str] = field(default_factory=set)
    """Loaders known to feed the training."""
    _evaluation: set[str] = field(default_factory=set)
    """Loaders of which a whole pass saw no backward."""
    _open_passes: set[str] = field(default_factory=set)
    """Training loaders that have not run out since their last fetch."""
    _since_backward: dict[str, bool] = field(default_factory=dict)
    """Loaders fetched from since the last backward, latest last, and whether that fetch was taken for training."""
    _fetched: set[str] = field(default_factory=set)
    """Loaders of which the current pass has seen no backward yet."""

    def is_training_fetch(self, loader: str, moment: Moment, stage: str | None = None) -> bool:
        """Whether a batch from ``loader`` is one to train on; ``stage`` is what the user said it is."""
        if stage is not None:
            return stage == "train"
        if moment.eval_mode and not moment.grad_enabled:
            return False
        if loader in self._training:
            return True
        return loader not in self._evaluation and moment.grad_enabled and not moment.eval_mode

    def closes_at_fetch(self, training: bool) -> bool:
        """Whether a batch fetched now begins a new step."""
        return training and self._complete()

    def fetched(self, loader: str, training: bool, moment: Moment) -> None:
        """A batch came from ``loader``."""
        self._since_backward.pop(loader, None)
        if training or moment.grad_enabled or not moment.eval_mode:
            self._since_backward[loader] = training
        self._fetched.add(loader)
        if training:
            self.phase = "train"
            self._open_passes.add(loader)
        elif self._trained or not moment.grad_enabled:
            self.phase = "eval"

    def ran_out(self, loader: str) -> None:
        """A pass over ``loader`` ended."""
        self._open_passes.discard(loader)
        self._since_backward.pop(loader, None)
        if loader in self._fetched and loader not in self._training:
            self._evaluation.add(loader)
        self._fetched.discard(loader)
        if loader not in self._training:
            self.phase = "train" if self._trained else "init"

    def may_close_at_forward(self) -> bool:
        """Whether an outermost forward that begins now may begin a new step."""
        return not self._open_passes and self._complete()

    def feeds(self, loader: str) -> bool:
        """Whether a batch from ``loader`` is one to train on as those before it: it changes nothing here."""
        return self.phase == "train" and loader in self._training and loader in self._open_passes

    def closes_at_forward(self, moment: Moment, in_optimizer_step: bool) -> bool:
        """Whether an outermost forward that begins now begins a new step."""
        if in_optimizer_step or self._open_passes or not self._trains(moment):
            return False
        return self._complete()

    def forward(self, moment: Moment) -> None:
        """An outermost forward begins."""
        if self._open_passes:
            return
        if self._trains(moment):
            self.phase = "train"

    def closes_at_backward(self, moment: Moment, in_optimizer_step: bool) -> bool:
        """Whether a backward that begins now shows that a step began unnoticed: trained in evaluation mode."""
        unnoticed = moment.eval_mode and not self._open_passes and not self._trained_in_eval_mode
        return unnoticed and self._trained and not in_optimizer_step and self._stepped

    def backward_begins(self, moment: Moment) -> None:
        """A backward begins: whatever came before it was training."""
        self.phase = "train"
        self._trained = True
        self._trained_in_eval_mode = moment.eval_mode
        latest = next(reversed(self._since_backward), None)
        for loader, training in self._since_backward.items():
            if training or loader == latest:
                self._training.add(loader)
                self._evaluation.discard(loader)
                self._open_passes.add(loader)
        self._since_backward.clear()
        self._fetched.clear()

    def backward_goes_on(self, moment: Moment) -> bool:
        """Whether a backward that begins now tells nothing but that it happens, which is counted."""
        as_before = self._trained and self._trained_in_eval_mode == moment.eval_mode
        if self.phase != "train" or self._since_backward or not as_before:
            return False
        self.micro_step += 1
        return True

    def backward_ends(self) -> None:
        """A backward completed."""
        self.micro_step += 1

    def closes_at_closure(self) -> bool:
        """Whether an optimizer step that begins now, and computes the loss itself, begins a new step."""
        return self._stepped and not self._open_passes

    def stepped(self) -> None:
        """An optimizer step happened, or was skipped by a gradient scaler."""
        self._stepped = True
        self.optimizer_exists = True

    def window_closed(self) -> None:
        """The window ended; a new one begins."""
        if self._stepped:
            self._most_backwards = max(self._most_backwards, self.micro_step)
        self.micro_step = 0
        self._stepped = False

    def stage(self, moment: Moment) -> str:
        """What the program is doing now."""
        evaluating = moment.eval_mode and not moment.grad_enabled
        if evaluating:
            return "eval"
        if self.phase == "train" and not self._open_passes and moment.eval_mode and not self._trained_in_eval_mode:
            return "eval"
        return self.phase

    def _trains(self, moment: Moment) -> bool:
        return moment.grad_enabled and (not moment.eval_mode or self._trained_in_eval_mode)

    def _complete(self) -> bool:
        if self._stepped:
            return True
        if not self.optimizer_exists:
            return self.micro_step > 0
        return self.micro_step >= max(STEP_LIMIT, 4 * self._most_backwards)
