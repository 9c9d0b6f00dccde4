"""``TrainCheckPlugin().attach(accelerator)``: a loop written with Accelerate that is checked while it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from traincheck.findings import CheckResult, Finding
from traincheck.options import DEFAULT_OVERHEAD, Options
from traincheck.plan import Interruption
from traincheck.reaction import OnViolation
from traincheck.record.arguments import argument
from traincheck.record.models import innermost_optimizer
from traincheck.record.patching import Arguments, Hook
from traincheck.selection import Sources

from .watched import Watched

try:
    from accelerate import Accelerator

    from .accelerate_moments import AcceleratorMoments
except ImportError as error:
    raise ImportError(
        f'TrainCheckPlugin needs accelerate ({error}). Run: pip install "traincheck-suite[accelerate]"'
    ) from error

__all__ = ["TrainCheckPlugin", "Attached"]

NAME: Final = "TrainCheckPlugin"
METRIC: Final = "traincheck/violations"


@dataclass(frozen=True, kw_only=True)
class TrainCheckPlugin:
    """What to check in a loop that is written with Accelerate, and how to answer.

    The options are those of :func:`traincheck.watch`. Without any, the invariants of the ``accelerate`` pack are
    checked within 2 % of the training time, and each violation is one warning. With ``"raise"``
    :class:`traincheck.ViolationError` carries the findings; with ``"stop"`` the loop has to look at
    :attr:`Attached.should_stop`. Ranks other than the first say nothing; with ``report`` each of them writes a page of
    its own. Whatever ``accelerator.log`` logs gets the number of findings, as ``traincheck/violations``.

    A step is what lies between two batches with an update in between. Raises ``ValueError`` for an option that does not
    exist, and :class:`traincheck.errors.UserError` for packs and files that cannot be read.
    """

    zoo: str | Sequence[str] | None = "accelerate"
    invariants: Sources | None = None
    on_violation: OnViolation = "warn"
    select: str | Sequence[str] | None = None
    ignore: str | Sequence[str] | None = None
    overhead: float | None = DEFAULT_OVERHEAD
    report: str | Path | None = None

    def __post_init__(self) -> None:
        self._watched()

    def _watched(self) -> Watched:
        return Watched(NAME, Options(**{field.name: getattr(self, field.name) for field in fields(self)}))

    def attach(self, accelerator: Accelerator) -> Attached:
        """Check what is trained with ``accelerator`` from now on: before or after ``prepare``."""
        return Attached(self._watched(), accelerator)


class Attached:
    """A training with Accelerate that is being checked: until ``close``, ``end_training``, or the end of a ``with``."""

    def __init__(self, watched: Watched, accelerator: Accelerator) -> None:
        """Made by :meth:`TrainCheckPlugin.attach`."""
        self.should_stop = False
        """With ``on_violation="stop"``: whether the loop should end now. All ranks say the same."""
        self._watched = watched
        own = watched.begin(accelerator.process_index)
        self._moments: AcceleratorMoments | None = None
        if watched.session is None:
            return
        models: list[Any] = accelerator._models
        optimizers = [innermost_optimizer(optimizer) for optimizer in accelerator._optimizers]
        watched.session.watch(*models, *(optimizer for optimizer in optimizers if optimizer is not None))
        self._moments = AcceleratorMoments(watched.session, after_step=self._ask)
        self._moments.install()
        if own:
            self._listen(watched.session.patches.wrap)

    @property
    def result(self) -> CheckResult:
        """The verdict so far."""
        return self._watched.result

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was found so far."""
        return self.result.findings

    def close(self) -> None:
        """Judge the last steps and stop. With ``on_violation="raise"`` what they show is raised here."""
        if self._moments is not None:
            self._watched.tell("accelerate.close", self._moments.finish)
        self._watched.end()

    def __enter__(self) -> Attached:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        try:
            self.close()
        except Interruption:
            if error is None:
                raise

    def _ask(self) -> None:
        self.should_stop = self.should_stop or self._watched.should_stop()

    def _listen(self, wrap: Callable[[Any, str, Hook], None]) -> None:
        """Put the number of findings into everything that is logged, and close when the training ends."""

        def adapt(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
            values = {**argument(args, kwargs, 1, "values", {}), METRIC: len(self.findings)}
            return ((args[0], values, *args[2:]), kwargs) if len(args) > 1 else (args, {**kwargs, "values": values})

        def ended(*_: Any) -> None:
            self.close()

        wrap(Accelerator, "log", Hook("accelerate.log", _nothing, _nothing, adapt))
        wrap(Accelerator, "end_training", Hook("accelerate.end", _nothing, ended))


def _nothing(*_: Any) -> None:
    """Only the other border of the call, or its arguments, are of interest."""
