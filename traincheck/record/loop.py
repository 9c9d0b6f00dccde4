"""The loop of a framework, as its adapter tells it: where steps begin and end, and in which numbers it counts.

An adapter translates moments into these few calls and judges nothing. Whatever fails in here is contained.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer

from traincheck.record.hooks_checkpoint import aligned, compared
from traincheck.record.models import innermost
from traincheck.record.saved import read_weights
from traincheck.record.session import Session
from traincheck.values import Value
from traincheck.vocabulary import TRAINER_BEGIN, TRAINER_END, TRAINER_LOAD, TRAINER_SAVE, TRAINER_STEP


@dataclass(frozen=True, slots=True)
class Ended:
    """What a framework's loop says of a run that is over. ``None``: it does not say."""

    steps: int
    planned_steps: int | None = None
    epochs: float | None = None
    planned_epochs: float | None = None
    stopped: bool = False
    """Whether somebody asked for an early end."""
    schedule: str = ""
    """The kind of learning-rate schedule: ``linear``, ``cosine``."""
    schedule_steps: int | None = None
    final_lr: float | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What a framework's loop finds in the model when a run begins. ``None``: the question does not arise."""

    frozen_adapters: Sequence[str] | None = None
    """The tensors of active adapters (PEFT) that do not train."""
    untied: Sequence[str] | None = None
    """The weights that the configuration ties to others, and that are not tied."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """What a framework's loop knows of its learning-rate schedule. ``None``: nothing."""

    kind: str = ""
    """Such as ``linear``, ``cosine``."""
    interval: str | None = None
    """How often the loop advances it: once per ``step`` or per ``epoch``."""
    unit: str | None = None
    """Of what its length is the number in this training: of its ``step``s or of its ``epoch``s."""


class Loop:
    """One training run of a framework, told to the session that records it."""

    def __init__(self, session: Session, framework: str, api: str) -> None:
        """``api`` is the dotted name of what drives the loop, as findings name it."""
        self._session = session
        self._api = api
        self._inside = ExitStack()
        self._first_step = 0
        session.framework = framework

    def begin(self, step: int, *items: Module | Optimizer, found: Found | None = None) -> None:
        """The run begins with this step, from 0: a run that is resumed begins later."""
        session = self._session
        session.watch(*items)
        if session.step == 0:
            session.step = step
        self._first_step = session.step
        answers = {} if found is None else {"frozen_adapters": found.frozen_adapters, "untied": found.untied}
        for question, names in answers.items():
            if names is not None:
                out: dict[str, Value] = {question: len(names)}
                self._tell(TRAINER_BEGIN, "begin", {}, functools.partial(dict, out), ", ".join(names[:1]))

    def begin_step(self) -> None:
        """What follows, up to :meth:`end_step`, is training."""
        self._inside.close()
        self._inside.enter_context(self._session.contexts.stage("train"))

    def pause(self) -> None:
        """Training is interrupted: what follows is found rather than told, until the next step begins."""
        self._inside.close()

    def end_step(
        self,
        *,
        micro_steps: int | None = None,
        counted: int | None = None,
        lr: float | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        """The step is complete. ``lr`` is what it used.

        ``micro_steps`` is how many micro-batches it was to have, ``counted`` how many it had, where that is not the
        number of its backward passes.
        """
        self._inside.close()
        session, schedule = self._session, schedule or Schedule()
        args: dict[str, Value] = {
            "planned_micro_steps": micro_steps,
            "schedule": schedule.kind,
            "schedule_interval": schedule.interval,
            "first_step": session.step == self._first_step,
        }
        out: dict[str, Value] = {
            "micro_steps": session.steps.micro_step if counted is None else counted,
            "lr": lr,
            "schedule_unit": schedule.unit,
        }
        self._tell(TRAINER_STEP, "step", args, lambda: out)
        session.end_step()

    def keep(self) -> None:
        """Something rare follows, a checkpoint or the end: it is recorded even if this step was to be left out."""
        self._session.record_now()

    def evaluation(self) -> AbstractContextManager[None]:
        """What happens inside is evaluation."""
        return self._session.contexts.stage("eval")

    def saved(self, path: Path, model: Module, tensors: Mapping[str, Tensor]) -> None:
        """A checkpoint of ``model`` was written to ``path``: ``tensors``, by their names in the file."""
        self._compare(TRAINER_SAVE, "save", path, model, tensors)

    def loaded(
        self, path: Path, model: Module, tensors: Mapping[str, Tensor], *, with_optimizer: bool | None = None
    ) -> None:
        """The run goes on from the checkpoint of ``model`` at ``path``.

        ``with_optimizer``: whether the state of the optimizer lies there too; ``None`` where that is not known.
        """
        more: dict[str, Value] = {} if with_optimizer is None else {"lost_optimizers": int(not with_optimizer)}
        self._compare(TRAINER_LOAD, "load", path, model, tensors, more)

    def replaced(self, model: Module, by: str) -> None:
        """The framework puts other weights into ``model``, as it was asked to: ``by`` is who does."""
        session, subject = self._session, self._session.models.path(innermost(model))
        if session.recording:
            session.boundary.run(TRAINER_LOAD, session.tell, TRAINER_LOAD, by, subject, {}, {})

    def end(self, account: Ended) -> None:
        """The run is over."""
        self._inside.close()
        self.keep()
        args: dict[str, Value] = {
            "planned_steps": account.planned_steps,
            "planned_epochs": account.planned_epochs,
            "stopped": account.stopped,
            "schedule": account.schedule,
            "steps": account.steps,
        }
        out: dict[str, Value] = {
            "steps": account.steps,
            "epochs": account.epochs,
            "schedule_steps": account.schedule_steps,
            "final_lr": account.final_lr,
        }
        self._tell(TRAINER_END, "end", args, lambda: out)

    def _compare(
        self,
        role: str,
        moment: str,
        path: Path,
        model: Module,
        live: Mapping[str, Tensor],
        more: Mapping[str, Value] | None = None,
    ) -> None:
        def account() -> dict[str, Value]:
            found = compared(aligned(read_weights(path), live), live)
            renamed = bool(found.pop("unexpected")) and bool(found["missing"])
            return {**({} if renamed else found), **(more or {})}

        self._tell(role, moment, {}, account, subject=self._session.models.path(innermost(model)))

    def _tell(
        self,
        role: str,
        moment: str,
        args: Mapping[str, Value],
        account: Callable[[], Mapping[str, Value]],
        subject: str = "",
    ) -> None:
        def tell() -> None:
            self._session.tell(role, f"{self._api}.{moment}", subject, args, account())

        if self._session.recording and self._session.wants(role):
            self._session.boundary.run(role, tell)
