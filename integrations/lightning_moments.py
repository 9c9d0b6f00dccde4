"""The moments of a Lightning Trainer, told in the training vocabulary. Nothing is judged here."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from torch.nn import Module
from torch.optim import Optimizer

from traincheck.record import Session, active
from traincheck.record.hooks_checkpoint import live_tensors
from traincheck.record.loop import Ended, Loop, Schedule
from traincheck.record.patching import Hook

from .schedules import length_of, schedule_of, steps_of

FRAMEWORK: Final = "lightning"

HOOKS: Final = (
    *(
        "on_fit_start",
        "on_train_start",
        "on_train_epoch_start",
        "on_train_batch_start",
        "on_before_backward",
        "on_before_optimizer_step",
    ),
    *("on_train_batch_end", "on_train_end", "on_exception"),
    *(f"on_{stage}_{moment}" for stage in ("validation", "test", "predict") for moment in ("start", "end")),
)
"""The hooks of a callback that :class:`TrainerMoments` wants to be told of."""


class TrainerMoments:
    """Tells one session what a Trainer does: its steps, its evaluations, its checkpoints, its end, in its numbers.

    A step is what lies between two changes of ``trainer.global_step``, in whole batches: with manual optimisation a
    batch in which several optimizers step is one step, although Lightning counts each of them.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._loop = Loop(session, FRAMEWORK, "lightning.Trainer")
        self._evaluating = ExitStack()
        self._saves_of: Any = None
        """The Trainer whose saving is seen."""
        self._step = 0
        self._begin_window(0)

    def _begin_window(self, global_step: int) -> None:
        self._global_step = global_step
        self._backwards: list[int] = []
        """For each batch of this step, how often its loss was differentiated."""
        self._lr: float | None = None

    def on_fit_start(self, trainer: Any, pl_module: Module) -> None:
        if self._saves_of is not trainer:
            self._saves_of = trainer
            tell_saves(self.session, self._loop, trainer)

    def on_train_start(self, trainer: Any, pl_module: Module) -> None:
        manual = not _automatic(pl_module)
        self._step = trainer.fit_loop.total_batch_idx + 1 if manual else trainer.global_step
        self._loop.begin(self._step, pl_module, *trainer.optimizers)
        self._begin_window(trainer.global_step)
        resumed = trainer.ckpt_path
        if resumed is not None and Path(resumed).is_file() and _whole(pl_module):
            self._loop.loaded(Path(resumed), pl_module, live_tensors(pl_module))

    def on_train_epoch_start(self, trainer: Any, pl_module: Module) -> None:
        # StochasticWeightAveraging puts its average into the model for one last pass, over the statistics of norms.
        for callback in trainer.callbacks:
            if getattr(callback, "swa_end", None) == trainer.current_epoch - 1:
                self._loop.replaced(pl_module, f"lightning.{type(callback).__name__}")

    def on_train_batch_start(self, trainer: Any, pl_module: Module, *_: Any) -> None:
        if not self._backwards:
            self._loop.begin_step()
        self._backwards.append(0)

    def on_before_backward(self, trainer: Any, pl_module: Module, *_: Any) -> None:
        if self._backwards:
            self._backwards[-1] += 1

    def on_before_optimizer_step(self, trainer: Any, pl_module: Module, optimizer: Optimizer) -> None:
        rates = [float(group["lr"]) for group in optimizer.param_groups]
        self._lr = max([*rates, *([] if self._lr is None else [self._lr])], default=None)

    def on_train_batch_end(self, trainer: Any, pl_module: Module, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self._global_step:
            return
        planned = self._planned_backwards(trainer) if _automatic(pl_module) else None
        self._loop.end_step(micro_steps=planned, lr=self._lr, schedule=_schedule(trainer, pl_module))
        self._step += 1
        self._begin_window(trainer.global_step)
        if trainer.is_last_batch or _validates(trainer, batch_idx):
            self._loop.keep()

    def _planned_backwards(self, trainer: Any) -> int | None:
        """How many backward passes this step was to have; ``None`` where the optimizer asks for as many as it likes.

        A ``training_step`` that returns nothing leaves its batch out. The last step of an epoch takes what is left.
        """
        if max(self._backwards, default=0) > 1:
            return None
        left_out = self._backwards.count(0)
        batches = len(self._backwards) if trainer.is_last_batch else int(trainer.accumulate_grad_batches)
        return batches - left_out

    def on_train_end(self, trainer: Any, pl_module: Module) -> None:
        self._loop.end(_ended(trainer, pl_module, self._step))

    def on_exception(self, trainer: Any, pl_module: Module, *_: Any) -> None:
        self._evaluating.close()
        self._loop.pause()

    def on_validation_start(self, trainer: Any, pl_module: Module) -> None:
        self._evaluating.enter_context(self._loop.evaluation())

    def on_validation_end(self, trainer: Any, pl_module: Module) -> None:
        self._evaluating.close()

    on_test_start = on_predict_start = on_validation_start
    on_test_end = on_predict_end = on_validation_end


def tell_saves(session: Session, loop: Loop, trainer: Any) -> None:
    """After each checkpoint of ``trainer`` the file is compared with the live weights, by the rank that wrote it."""

    def begins(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """There is no file yet."""

    def ends(token: None, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, error: Any) -> None:
        path, module = Path(args[0] if args else kwargs["filepath"]), trainer.lightning_module
        if error is None and trainer.is_global_zero and path.is_file() and _whole(module):
            loop.saved(path, module, live_tensors(module))

    session.patches.wrap(trainer, "save_checkpoint", Hook("Trainer.save_checkpoint", begins, ends))


def _automatic(pl_module: Any) -> bool:
    return bool(pl_module.automatic_optimization)


def _whole(pl_module: Any) -> bool:
    """Whether checkpoints hold the whole module: one that is not loaded strictly keeps what it likes."""
    return getattr(pl_module, "strict_loading", True) is not False


def _validates(trainer: Any, batch_idx: int) -> bool:
    """Whether validation, and with it perhaps a checkpoint, follows this batch."""
    every = trainer.val_check_batch
    return bool(every) and math.isfinite(every) and (batch_idx + 1) % every == 0


def _schedule(trainer: Any, pl_module: Module) -> Schedule:
    """The schedule that the Trainer advances by itself; where there are several, nothing is said."""
    configs = trainer.lr_scheduler_configs if _automatic(pl_module) else []
    if len(configs) != 1 or configs[0].frequency != 1 or configs[0].reduce_on_plateau:
        return Schedule()
    config = configs[0]
    lengths = {"step": _steps(trainer), "epoch": trainer.max_epochs}
    fitting = [unit for unit, number in lengths.items() if number == length_of(config.scheduler)]
    return Schedule(schedule_of(config.scheduler), config.interval, fitting[0] if len(fitting) == 1 else None)


def _steps(trainer: Any) -> int | None:
    """The number of steps of this training, as planned; ``None`` when nobody can tell."""
    limits = [trainer.max_steps] if trainer.max_steps >= 0 else []
    if trainer.max_epochs is not None and trainer.max_epochs >= 0 and math.isfinite(trainer.num_training_batches):
        limits.append(trainer.max_epochs * math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches))
    return min(limits, default=None)


def _ended(trainer: Any, pl_module: Module, steps: int) -> Ended:
    """What the Trainer planned and did. It ends at ``max_epochs`` or at ``max_steps``, whichever comes first.

    With manual optimisation each optimizer's step counts, and the last batch may pass over the limit.
    """
    epochs = trainer.fit_loop.epoch_progress.current.processed
    by_epochs = trainer.max_epochs is not None and trainer.max_epochs >= 0
    by_steps = trainer.max_steps >= 0 and not (by_epochs and epochs >= trainer.max_epochs)
    schedule = _schedule(trainer, pl_module)
    per_step = schedule.interval == "step"
    return Ended(
        steps=steps if _automatic(pl_module) else trainer.global_step,
        planned_steps=trainer.max_steps if by_steps and _automatic(pl_module) else None,
        epochs=float(epochs),
        planned_epochs=float(trainer.max_epochs) if by_epochs and not by_steps else None,
        stopped=bool(trainer.should_stop),
        schedule=schedule.kind,
        schedule_steps=steps_of(trainer.lr_scheduler_configs[0].scheduler) if per_step else None,
    )


def methods(hand_on: Callable[..., None]) -> dict[str, Any]:
    """For each hook of a callback a method that calls ``hand_on(self, name, *args)``."""

    def method(name: str) -> Any:
        def hook(self: Any, *args: Any, **kwargs: Any) -> None:
            hand_on(self, name, *args)

        return hook

    return {name: method(name) for name in HOOKS}


def attach(session: Session, framework: Any) -> None:
    """Have every Trainer that is made from now on tell the session of its process what it does."""

    def begins(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Nothing is known of it yet."""

    def ends(token: None, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, error: Any) -> None:
        if error is None:
            _add(args[0], attached(framework.__name__))

    session.patches.wrap(framework.Trainer, "__init__", Hook("Trainer.__init__", begins, ends))


def attached(framework: str) -> Any:
    """A callback, of the framework's own kind, that tells the session of the process that it runs in.

    A Trainer may start processes of its own and send itself there.
    """

    def reduce(callback: Any) -> Any:
        return attached, (framework,)

    own = {"moments": None, "__reduce__": reduce}
    kind: Any = type("TrainCheckMoments", (import_module(framework).Callback,), {**methods(_tell_active), **own})
    return kind()


def _tell_active(callback: Any, name: str, *args: Any) -> None:
    session = active()
    if session is None:
        return
    if callback.moments is None or callback.moments.session is not session:
        callback.moments = TrainerMoments(session)
    session.boundary.run(f"lightning.{name}", getattr(callback.moments, name), *args)


def _add(trainer: Any, callback: Any) -> None:
    """After the user's callbacks, whose work belongs to the step, and before those that save."""
    places = (place for place, other in enumerate(trainer.callbacks) if other in trainer.checkpoint_callbacks)
    trainer.callbacks.insert(next(places, len(trainer.callbacks)), callback)
