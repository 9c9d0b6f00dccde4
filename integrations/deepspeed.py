"""``watch_engine(engine)``: a DeepSpeed training that is checked while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import torch

from traincheck.agreement import Agreement
from traincheck.findings import CheckResult, Finding
from traincheck.options import DEFAULT_OVERHEAD, Options
from traincheck.reaction import LOGGER, OnViolation
from traincheck.record import active
from traincheck.selection import Sources
from traincheck.watching import Watch, prepare

try:
    from deepspeed import DeepSpeedEngine

    from .deepspeed_moments import EngineMoments
except ImportError as error:
    raise ImportError(
        f'watch_engine needs deepspeed ({error}). Run: pip install "traincheck-suite[deepspeed]"'
    ) from error

__all__ = ["EngineWatch", "watch_engine"]

NAME: Final = "watch_engine"


def watch_engine(
    engine: DeepSpeedEngine,
    *,
    zoo: str | Sequence[str] | None = "deepspeed",
    invariants: Sources | None = None,
    on_violation: OnViolation = "warn",
    select: str | Sequence[str] | None = None,
    ignore: str | Sequence[str] | None = None,
    overhead: float | None = DEFAULT_OVERHEAD,
    report: str | Path | None = None,
) -> EngineWatch:
    """Check the training of ``engine`` from now on, until the ``with`` ends, ``close()``, or the end of the program.

    The options are those of :func:`traincheck.watch`. Steps are those that ``engine.global_steps`` counts. Ranks other
    than the first say nothing; with ``report`` each of them writes a page of its own.

    Raises ``ValueError`` for an option that does not exist or when something is being watched already, and
    :class:`traincheck.errors.UserError` for packs and files that cannot be read.
    """
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    if report is not None and rank:
        report = Path(report) / f"rank-{rank}"
    options = Options(
        zoo=zoo,
        invariants=invariants,
        on_violation=on_violation,
        select=select,
        ignore=ignore,
        overhead=overhead,
        report=report,
    )
    watch = prepare(options, name=NAME, quiet=rank > 0)
    left = active()
    if left is not None:
        # A launcher watches this training already and has attached itself to every engine.
        LOGGER.info("TrainCheck: %s watches this training; watch_engine() adds nothing", left.name)
        return EngineWatch(engine, watch, None)
    watch.start([engine.module])
    EngineMoments(watch.session).install()
    return EngineWatch(engine, watch, Agreement() if on_violation == "stop" else None)


class EngineWatch:
    """An engine whose training is being checked."""

    def __init__(self, engine: Any, watch: Watch, agreement: Agreement | None) -> None:
        self._engine = engine
        self._watch = watch
        self._agreement = agreement
        self._asked = (-1, False)

    @property
    def should_stop(self) -> bool:
        """With ``on_violation="stop"``: whether the loop should end now. All ranks ask once for each step."""
        if self._agreement is None:
            return self._watch.should_stop
        step, answer = self._asked
        if step != self._engine.global_steps:
            answer = self._agreement.any(self._watch.should_stop)
            self._asked = (self._engine.global_steps, answer)
        return answer

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was found so far."""
        return self._watch.findings

    @property
    def result(self) -> CheckResult:
        """The verdict so far."""
        return self._watch.result

    def close(self) -> None:
        """Judge the last steps and stop. With ``on_violation="raise"`` what they show is raised here."""
        self._watch.close()

    def __enter__(self) -> EngineWatch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._watch.__exit__(kind, error, where)
