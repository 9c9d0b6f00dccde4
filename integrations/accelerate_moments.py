"""The moments of a loop written with Accelerate, told in the training vocabulary. Nothing is judged here."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from accelerate import Accelerator
from accelerate.local_sgd import LocalSGD
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.scheduler import AcceleratedScheduler
from torch.utils.data import dataloader

from traincheck.record import Session
from traincheck.record.arguments import argument
from traincheck.record.hooks_checkpoint import live_tensors
from traincheck.record.hooks_schedule import SCHEDULED_ONCE
from traincheck.record.loop import Loop, Schedule
from traincheck.record.models import innermost_optimizer
from traincheck.record.patching import Hook
from traincheck.record.placement import part
from traincheck.vocabulary import TRAINER_PREPARE

from .schedules import schedule_of

FRAMEWORK: Final = "accelerate"
WEIGHTS: Final = (("model", ".safetensors"), ("pytorch_model", ".bin"))
WHOLE: Final = ("NO", "MULTI_CPU", "MULTI_GPU")
"""Kinds of distribution in which each process holds the whole model, and saves it in formats that we read."""


class AcceleratorMoments:
    """Tells one session the steps and checkpoints of a loop that somebody wrote with Accelerate.

    A step is what lies between two batches with an update in between: all optimizers that step for a batch belong to
    it, and all batches whose gradients were accumulated. Loops without a loader are divided at ``accumulate``.
    Inside the Trainer of Transformers, which is such a loop, nothing is told: it tells its steps itself.
    """

    def __init__(self, session: Session, *, after_step: Callable[[], None] | None = None) -> None:
        self.session = session
        self._after_step = after_step
        self._loop: Loop | None = None
        self._source: int | None = None
        """The pass over a loader that the latest batch came from; ``None`` while there is no loader."""
        self._schedulers: list[Any] = []
        self._counts = False
        """Whether the program leaves the counting of micro-batches to ``accumulate``."""
        self._asked: weakref.WeakSet[Any] = weakref.WeakSet()
        """The optimizers of which was asked whether their models are prepared."""
        self._begin_window()

    def _begin_window(self) -> None:
        self._updates: list[int] = []
        """The optimizers that stepped."""
        self._micro_steps = 0
        self._planned: int | None = None
        self._fed = True
        """Whether a batch came since the latest backward pass."""
        self._lr: float | None = None

    def install(self) -> None:
        """Listen to every Accelerator of this process."""
        wrap = self.session.patches.wrap
        wrap(dataloader._BaseDataLoaderIter, "__next__", Hook("accelerate.batch", self._fetches, _nothing))
        wrap(Accelerator, "accumulate", Hook("accelerate.accumulate", self._accumulates, _nothing))
        wrap(Accelerator, "backward", Hook("accelerate.backward", self._divides, _nothing))
        wrap(AcceleratedOptimizer, "step", Hook("accelerate.step", self._steps, self._stepped))
        wrap(AcceleratedScheduler, "step", Hook("accelerate.schedule", self._schedules, self._scheduled))
        wrap(Accelerator, "save_state", Hook("accelerate.save_state", self._saves, self._saved))
        wrap(Accelerator, "save_model", Hook("accelerate.save_model", self._saves, self._saved_model))
        wrap(Accelerator, "load_state", Hook("accelerate.load_state", _nothing, self._loaded))
        wrap(LocalSGD, "__enter__", Hook("accelerate.local_sgd", self._parts, _nothing))
        wrap(Accelerator, "end_training", Hook("accelerate.end_training", self._ends, _nothing))

    def finish(self) -> None:
        """The loop is over: its last step is complete."""
        self._close_step()

    def _own_loop(self) -> Loop | None:
        """The loop as we tell it; ``None`` where something else drives it."""
        if self._loop is None and self.session.framework == "pytorch":
            self._loop = Loop(self.session, FRAMEWORK, "accelerate.Accelerator")
            self._loop.begin(0)
        return self._loop if self.session.framework == FRAMEWORK else None

    def _close_step(self, *, keep: bool = False) -> None:
        """The step ends here if there was an update. ``keep``: something rare follows."""
        loop = self._own_loop() if self._updates else None
        if loop is not None:
            self._end_step(loop)
            if keep:
                loop.keep()
            if self._after_step is not None:
                self._after_step()
        if self._updates:
            self._begin_window()

    def _end_step(self, loop: Loop) -> None:
        # A second model that accumulates by itself counts batches twice.
        planned = self._planned if len(set(self._updates)) == 1 else None
        schedule = self._schedulers[0] if len(self._schedulers) == 1 else None
        loop.end_step(
            micro_steps=planned, counted=self._micro_steps, lr=self._lr, schedule=Schedule(schedule_of(schedule))
        )

    def _fetches(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # A prepared loader asks for a batch before it hands out the one before, and once more before the last one.
        source = id(args[0])
        self._close_step(keep=source != self._source)
        self._source, self._fed = source, True

    def _accumulates(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._source is None:
            self._close_step()
        self._counts = True
        self._micro_steps += 1
        self._planned = args[0].gradient_accumulation_steps

    def _divides(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """It divides the loss by the number of micro-batches, also for who does not count them with ``accumulate``."""
        planned = args[0].gradient_accumulation_steps
        if planned > 1 and not self._counts and self._fed:
            self._micro_steps, self._planned = self._micro_steps + 1, planned
        self._fed = False

    def _tell_unprepared(self, optimizer: Any) -> None:
        """Where each process has a replica, a model that was not prepared is trained by each process for itself."""
        self._asked.add(optimizer)
        state, models, inner = optimizer.accelerator_state, self.session.models, innermost_optimizer(optimizer)
        if inner is None or state.num_processes < 2 or state.distributed_type.value not in WHOLE:
            return
        models.refresh()
        bare = [tree for tree in models.trees if not models.wrapper(tree.root)]
        names = {id(owned.tensor): owned.name for tree in bare for owned in tree.params}
        missing = [names[id(owned.tensor)] for owned in models.held_by(inner) if id(owned.tensor) in names]
        subject, count = ", ".join(missing[:1]), len(missing)
        self.session.tell(TRAINER_PREPARE, "accelerate.Accelerator.prepare", subject, {}, {"unprepared": count})

    def _steps(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether this call updates: others only accumulate."""
        if not args[0].gradient_state.sync_gradients:
            return False
        if args[0] not in self._asked and self._own_loop() is not None:
            self._tell_unprepared(args[0])
        optimizer = innermost_optimizer(args[0])
        rates = [float(group["lr"]) for group in optimizer.param_groups] if optimizer else []
        self._lr = max([*rates, *([] if self._lr is None else [self._lr])], default=None)
        return True

    def _stepped(self, updates: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, error: Any) -> None:
        if updates and error is None:
            self._updates.append(id(args[0]))

    def _schedules(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not any(known is args[0].scheduler for known in self._schedulers):
            self._schedulers.append(args[0].scheduler)
        if self._own_loop() is not None:
            self.session.calls.thread.inside[SCHEDULED_ONCE] = 1

    def _scheduled(self, token: None, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, error: Any) -> None:
        # It advances the schedule once for each process: schedules of Accelerate count batches of all processes.
        self.session.calls.thread.inside.pop(SCHEDULED_ONCE, None)

    def _saves(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._close_step(keep=True)

    def _saved(self, token: None, args: tuple[Any, ...], kwargs: dict[str, Any], folder: Any, error: Any) -> None:
        accelerator, loop = args[0], self._own_loop()
        # Whoever registers a hook there saves models in a way of their own.
        if error is None and loop is not None and _writes(accelerator) and not accelerator._save_model_state_pre_hook:
            for number, model in enumerate(accelerator._models):
                loop.saved(_weights(Path(folder), number), model, live_tensors(model))

    def _saved_model(self, token: None, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, error: Any) -> None:
        loop, model = self._own_loop(), argument(args, kwargs, 1, "model")
        if error is None and loop is not None and _writes(args[0]):
            loop.saved(Path(argument(args, kwargs, 2, "save_directory")), model, live_tensors(model))

    def _loaded(self, token: None, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, error: Any) -> None:
        accelerator, loop, folder = args[0], self._own_loop(), argument(args, kwargs, 1, "input_dir")
        if error is None and loop is not None and folder is not None and not accelerator._load_model_state_pre_hook:
            for number, model in enumerate(accelerator._models if _whole(accelerator) else ()):
                loop.loaded(_weights(Path(folder).expanduser(), number), model, live_tensors(model))

    def _parts(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if args[0].enabled:
            part(args[0].model)
            self.session.models.stale = True

    def _ends(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.finish()


def _whole(accelerator: Any) -> bool:
    return accelerator.distributed_type.value in WHOLE


def _writes(accelerator: Any) -> bool:
    return _whole(accelerator) and accelerator.is_main_process


def _weights(folder: Path, number: int) -> Path:
    """The file with the weights of one of the prepared models."""
    ending = f"_{number}" if number else ""
    files = [folder / f"{name}{ending}{suffix}" for name, suffix in WEIGHTS]
    return next((file for file in files if file.is_file()), files[0])


def _nothing(*_: Any) -> None:
    """Only the other border of the call is of interest."""


def attach(session: Session, framework: Any) -> None:
    """Have every loop that is written with Accelerate tell ``session`` what it does."""
    AcceleratorMoments(session).install()
