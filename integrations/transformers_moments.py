"""The moments of a Transformers Trainer, told in the training vocabulary. Nothing is judged here."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from traincheck.record import Session
from traincheck.record.hooks_checkpoint import live_tensors
from traincheck.record.loop import Ended, Found, Loop, Schedule
from traincheck.record.patching import Arguments, Hook
from traincheck.watching import Watch

from .schedules import schedule_of, share_left, steps_of

FRAMEWORK: Final = "transformers"
OPTIMIZER: Final = "optimizer"
"""How the names of the files begin that hold the state of the optimizer."""
EVALUATIONS: Final = ("evaluate", "predict")


class TrainerMoments(TrainerCallback):
    """Tells one session what a Trainer does: its steps, its evaluations, its checkpoints, its end, in its numbers."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._loop = Loop(session, FRAMEWORK, "transformers.Trainer")
        self._lr: float | None = None

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Module | None = None,
        optimizer: Any = None,
        **kwargs: Any,
    ) -> None:
        items = (item for item in (model, optimizer) if isinstance(item, (Module, Optimizer)))
        found = None if model is None else self.session.boundary.run("model", _found, model, args)
        self._loop.begin(state.global_step, *items, found=found)
        resumed = _resumed_from(args, state)
        if resumed is not None and model is not None and _whole(args):
            kept = any(resumed.glob(f"{OPTIMIZER}*"))
            self._loop.loaded(resumed, model, _tensors_in_file(model), with_optimizer=kept)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._loop.begin_step()

    def on_pre_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        optimizer: Any = None,
        **kwargs: Any,
    ) -> None:
        self._lr = max((float(group["lr"]) for group in optimizer.param_groups), default=None) if optimizer else None

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        lr_scheduler: Any = None,
        **kwargs: Any,
    ) -> None:
        micro_steps = args.gradient_accumulation_steps
        self._loop.end_step(micro_steps=micro_steps, lr=self._lr, schedule=Schedule(schedule_of(lr_scheduler)))
        self._keep_if_rare(control)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._keep_if_rare(control)

    def _keep_if_rare(self, control: TrainerControl) -> None:
        if control.should_save or control.should_training_stop:
            self._loop.keep()

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Module | None = None,
        **kwargs: Any,
    ) -> None:
        if args.should_save and model is not None and _whole(args):
            self._loop.saved(_checkpoint(args, state), model, _tensors_in_file(model))

    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        lr_scheduler: Any = None,
        **kwargs: Any,
    ) -> None:
        by_epochs = args.max_steps <= 0
        self._loop.end(
            Ended(
                steps=state.global_step,
                planned_steps=state.max_steps,
                epochs=state.epoch if by_epochs else None,
                planned_epochs=float(args.num_train_epochs) if by_epochs else None,
                stopped=bool(control.should_training_stop) and state.global_step < state.max_steps,
                schedule=schedule_of(lr_scheduler),
                schedule_steps=steps_of(lr_scheduler),
                final_lr=share_left(lr_scheduler),
            )
        )


def frozen_adapters(model: Module) -> list[str] | None:
    """The tensors of those adapters in use (PEFT) of which none trains; ``None`` for a model without adapters."""
    prefix = getattr(getattr(model, "base_model", None), "prefix", None)
    chosen = getattr(model, "active_adapters", None)
    if not isinstance(prefix, str) or not isinstance(chosen, list):
        return None
    found: list[str] = []
    for adapter in chosen:
        own = [(name, param) for name, param in model.named_parameters() if prefix in name and f".{adapter}" in name]
        if not any(param.requires_grad for _, param in own):
            found += [name for name, _ in own]
    return found


def untied(model: Module) -> list[str] | None:
    """The weights that the configuration ties to others, and that are not tied; ``None`` where it ties none."""
    declared = getattr(model, "all_tied_weights_keys", None)
    if not isinstance(declared, dict) or not declared or not getattr(model.config, "tie_word_embeddings", False):
        return None
    params = dict(model.named_parameters(remove_duplicate=False))
    known = [(name, source) for name, source in declared.items() if name in params and source in params]
    return [name for name, source in known if params[name] is not params[source]]


def _found(model: Module, args: TrainingArguments) -> Found:
    return Found(frozen_adapters(model), untied(model) if _whole(args) else None)


def _checkpoint(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(args.output_dir or ".") / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"


def _resumed_from(args: TrainingArguments, state: TrainerState) -> Path | None:
    """Where the weights came from, as far as a callback can know: the folder that was saved at this step."""
    given = args.resume_from_checkpoint
    folder = Path(given) if isinstance(given, str) else _checkpoint(args, state)
    return folder if state.global_step and folder.is_dir() else None


def _whole(args: TrainingArguments) -> bool:
    """Whether each process holds the whole model: sharded checkpoints have formats of their own."""
    return not args.deepspeed and not args.fsdp


def _tensors_in_file(model: Module) -> dict[str, Tensor]:
    """The live tensors that a checkpoint of ``model`` holds, by their names in it."""
    live = live_tensors(model)
    if hasattr(model, "peft_config"):
        from peft import get_peft_model_state_dict

        return dict(get_peft_model_state_dict(model, state_dict=live, save_embedding_layers=False))
    left_out = getattr(model, "_keys_to_ignore_on_save", None) or ()
    return {name: tensor for name, tensor in live.items() if name not in left_out}


def tell_evaluations(session: Session) -> None:
    """Whatever happens inside ``evaluate`` and ``predict`` is evaluation, also in the middle of training."""

    def begins(args: tuple[Any, ...], kwargs: dict[str, Any]) -> AbstractContextManager[None]:
        inside = session.contexts.stage("eval")
        inside.__enter__()
        return inside

    def ends(inside: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, error: Any) -> None:
        if inside is not None:
            inside.__exit__(None, None, None)

    for name in EVALUATIONS:
        session.patches.wrap(Trainer, name, Hook(f"Trainer.{name}", begins, ends))


def log_findings(watch: Watch) -> None:
    """Put the number of findings into everything that the Trainer logs, so that it stands beside the loss."""

    def adapt(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        logs = args[1] if len(args) > 1 else kwargs.get("logs")
        if isinstance(logs, dict):
            logs["traincheck/violations"] = len(watch.findings)
        return args, kwargs

    def nothing(*_: Any) -> None:
        """Only the arguments are of interest."""

    watch.session.patches.wrap(Trainer, "log", Hook("Trainer.log", nothing, nothing, adapt))


def attach(session: Session, framework: Any) -> None:
    """Have every Trainer that is made from now on tell ``session`` what it does."""

    def begins(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Nothing is known of it yet."""

    def ends(token: None, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, error: Any) -> None:
        if error is None:
            args[0].add_callback(TrainerMoments(session))

    tell_evaluations(session)
    session.patches.wrap(framework.Trainer, "__init__", Hook("Trainer.__init__", begins, ends))
