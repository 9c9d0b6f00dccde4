"""``Trainer(callbacks=[TrainCheckCallback()])``: a Transformers training that is checked while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from traincheck.findings import CheckResult, Finding
from traincheck.options import DEFAULT_OVERHEAD, Options
from traincheck.reaction import OnViolation
from traincheck.selection import Sources

from .watched import Watched

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
    from transformers.trainer_callback import ExportableState

    from .transformers_moments import TrainerMoments, log_findings, tell_evaluations
except ImportError as error:
    raise ImportError(
        f'TrainCheckCallback needs transformers ({error}). Run: pip install "traincheck-suite[transformers]"'
    ) from error

__all__ = ["TrainCheckCallback"]

NAME: Final = "TrainCheckCallback"


class TrainCheckCallback(TrainerCallback, ExportableState):
    """Checks each training of the Trainer that it is given to.

    The options are those of :func:`traincheck.watch`. Without any, the invariants of the ``transformers`` pack are
    checked within 2 % of the training time, and each violation is one warning. With ``on_violation="stop"`` the Trainer
    ends after the step, on all ranks; with ``"raise"`` :class:`traincheck.ViolationError` carries the findings. Ranks
    other than the first say nothing; with ``report`` each of them writes a page of its own.

    Steps are counted from 0, as ``state.global_step`` stands while the step runs. Where a checkpoint restores callbacks
    (``restore_callback_states_from_checkpoint``), options that JSON cannot hold, such as a function, are lost.

    Raises ``ValueError`` for an option that does not exist, and :class:`traincheck.errors.UserError` for packs and
    files that cannot be read.
    """

    def __init__(
        self,
        *,
        zoo: str | Sequence[str] | None = "transformers",
        invariants: Sources | None = None,
        on_violation: OnViolation = "warn",
        select: str | Sequence[str] | None = None,
        ignore: str | Sequence[str] | None = None,
        overhead: float | None = DEFAULT_OVERHEAD,
        report: str | Path | None = None,
    ) -> None:
        options = Options(
            zoo=zoo,
            invariants=invariants,
            on_violation=on_violation,
            select=select,
            ignore=ignore,
            overhead=overhead,
            report=report,
        )
        self._watched = Watched(NAME, options)
        self._moments: TrainerMoments | None = None

    @property
    def result(self) -> CheckResult:
        """The verdict so far on the training that runs, or on the last one."""
        return self._watched.result

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was found so far."""
        return self.result.findings

    def state(self) -> dict[str, Any]:
        """What a resumed Trainer builds this callback anew from."""
        return {"args": self._watched.options.plain(), "attributes": {}}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # A checkpoint that was saved without this callback lacks the entry that the next save looks up.
        saved: Any = state.stateful_callbacks
        saved.setdefault(type(self).__name__, self.state())

        def listen(finding: Finding) -> None:
            entry = {f"traincheck/{finding.code}": finding.step, "traincheck/violations": len(self.findings)}
            state.log_history.append({**entry, "epoch": state.epoch, "step": state.global_step})

        if self._watched.begin(args.process_index, listen) and self._watched.watch is not None:
            if args.deepspeed:
                from .deepspeed_moments import EngineMoments

                EngineMoments(self._watched.watch.session).install()
            log_findings(self._watched.watch)
        self._tell("on_train_begin", args, state, control, **kwargs)

    def _tell(self, event: str, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        session = self._watched.session
        if session is None:
            return
        if self._moments is None or self._moments.session is not session:
            tell_evaluations(session)
            self._moments = TrainerMoments(session)
        self._watched.tell(f"transformers.{event}", getattr(self._moments, event), args, state, control, **kwargs)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._tell("on_step_begin", args, state, control, **kwargs)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._tell("on_pre_optimizer_step", args, state, control, **kwargs)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._tell("on_step_end", args, state, control, **kwargs)
        if self._watched.should_stop():
            control.should_training_stop = True

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._tell("on_epoch_end", args, state, control, **kwargs)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._tell("on_save", args, state, control, **kwargs)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._tell("on_train_end", args, state, control, **kwargs)
        self._watched.end()
