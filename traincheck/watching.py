"""``traincheck.watch``: checks a plain training loop from inside, with one line."""

from __future__ import annotations

import atexit
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

from torch.nn import Module
from torch.optim import Optimizer

from traincheck.check import Checker
from traincheck.departure import before_group_ends
from traincheck.errors import UserError
from traincheck.events import Process
from traincheck.findings import CheckResult, Finding
from traincheck.governed import Governed
from traincheck.invariant import Invariant
from traincheck.live import LiveSink
from traincheck.options import DEFAULT_OVERHEAD, Options
from traincheck.plan import Interruption, Plan, Sink
from traincheck.reaction import LOGGER, OnViolation, Reaction, told
from traincheck.record import LAUNCHED, Session, active
from traincheck.record.process import describe_process
from traincheck.report.verdict import headline, verdict
from traincheck.selection import Sources

Save: TypeAlias = Callable[[Process, CheckResult, bool], None]


def watch(
    model: Module | None = None,
    optimizer: Optimizer | None = None,
    *more: Module | Optimizer,
    zoo: str | Sequence[str] | None = "pytorch",
    invariants: Sources | None = None,
    on_violation: OnViolation = "warn",
    select: str | Sequence[str] | None = None,
    ignore: str | Sequence[str] | None = None,
    overhead: float | None = DEFAULT_OVERHEAD,
    report: str | Path | None = None,
) -> Watch:
    """Check the training of this process from now on, until the ``with`` ends, ``close()``, or the end of the program.

    The options are those of :class:`traincheck.options.Options`. Models and optimizers are found without being given.

    Raises ``ValueError`` when something is being watched already, or for a code or option that does not exist;
    :class:`traincheck.errors.UserError` for packs and files that cannot be read.
    """
    first = active()
    if first is not None and first.name not in LAUNCHED.values():
        raise ValueError(f"{first.name} is active in this process already; close it before you watch again")
    options = Options(
        zoo=zoo,
        invariants=invariants,
        on_violation=on_violation,
        select=select,
        ignore=ignore,
        overhead=overhead,
        report=report,
    )
    caller = sys._getframe(1)
    watched = prepare(options, name=f"the watch started at {caller.f_code.co_filename}:{caller.f_lineno}")
    if first is not None:
        LOGGER.warning("TrainCheck: %s runs this program and does the watching; watch() adds nothing", first.name)
    else:
        watched.start([_watchable(item) for item in (model, optimizer, *more) if item is not None])
    return watched


def prepare(
    options: Options, *, name: str, listen: Callable[[Finding], object] | None = None, quiet: bool = False
) -> Watch:
    """A watch with these options, not started yet. Raises what :meth:`Options.gathered` raises."""
    options.validate()
    loaded = options.gathered(describe_process("pytorch").versions)
    return Watch(
        loaded.invariants,
        name=name,
        overhead=options.overhead,
        reaction=Reaction(options.on_violation, listen=listen, quiet=quiet),
        report=options.report,
        notes=loaded.notes,
        quiet=quiet,
    )


def _watchable(item: object) -> Module | Optimizer:
    if isinstance(item, (Module, Optimizer)):
        return item
    raise ValueError(f"cannot watch a {type(item).__name__}: expected torch modules and optimizers")


class Watch:
    """A training that is being checked."""

    def __init__(
        self,
        invariants: Sequence[Invariant],
        *,
        name: str,
        overhead: float | None,
        reaction: Reaction | None = None,
        report: str | Path | None = None,
        notes: Sequence[str] = (),
        save: Save | None = None,
        last_words: Path | None = None,
        project: Path | None = None,
        quiet: bool = False,
    ) -> None:
        self._invariants = invariants
        self._reaction = reaction or Reaction("warn")
        self._quiet = quiet
        self._report = None if report is None else Path(report)
        self._notes = tuple(notes)
        self._save = save
        self._last_words = last_words
        self._sink: LiveSink | None = None
        self._running = False
        self._session = Session(Plan(needs=Checker(invariants).plan_needs), self._open_sink, project=project, name=name)
        self._session.decide = Governed(overhead, lambda: self._session.boundary.spent_ns)

    def start(self, given: Sequence[Module | Optimizer] = ()) -> None:
        """Begin to record. ``given`` are models and optimizers that exist already."""
        self._running = True
        self._session.start()
        self._session.watch(*given)
        before_group_ends(self._session, self._settle)
        atexit.register(self._close_at_exit)

    @property
    def session(self) -> Session:
        """What records for it."""
        return self._session

    def close(self) -> None:
        """Judge the last steps and stop. With ``on_violation="raise"`` what they show is raised here."""
        if not self._running:
            return
        self._running = False
        atexit.unregister(self._close_at_exit)
        self._session.close()
        result = self.result
        if self._save is None and not self._quiet:
            # Whoever saves the verdict of this process tells it together with those of the others.
            self._tell(result)
        self._write_report(result)
        if self._sink is not None and self._sink.interruption is not None:
            raise self._sink.interruption

    def _tell(self, result: CheckResult) -> None:
        if self._sink is not None and not self._sink.judges:
            LOGGER.info("TrainCheck: what is to be checked compares the ranks; the verdict is told by rank 0")
            return
        level = logging.INFO if verdict(result) == "clean" else logging.WARNING
        LOGGER.log(level, "TrainCheck: %s", headline(result))

    @property
    def should_stop(self) -> bool:
        """With ``on_violation="stop"``: whether the loop should end now."""
        return self._reaction.should_stop

    @property
    def result(self) -> CheckResult:
        """The verdict so far."""
        result = Checker(self._invariants).result() if self._sink is None else self._sink.result
        return self._noted(result)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was found so far."""
        return self.result.findings

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        try:
            self.close()
        except Interruption:
            if error is None:
                raise

    def _open_sink(self, process: Process) -> Sink:
        def save(result: CheckResult, finished: bool) -> None:
            if self._save is not None:
                self._save(process, self._noted(result), finished)

        last_words = None
        if self._last_words is not None:
            from traincheck.last_words import LastWords  # Needed below a launcher only.

            last_words = LastWords(self._last_words, process)
        self._sink = LiveSink(process, self._invariants, self._reaction, save, last_words=last_words)
        return self._sink

    def _noted(self, result: CheckResult) -> CheckResult:
        return replace(result, notes=(*self._notes, *result.notes, *self._session.faults))

    def _write_report(self, result: CheckResult) -> None:
        """A report that cannot be written must not end a training that has succeeded."""
        if self._report is None:
            return
        from traincheck.report.html import write_report

        try:
            write_report(result, self._report)
        except (OSError, UserError) as error:
            LOGGER.warning("TrainCheck: the report could not be written to %s: %s", self._report, error)

    def _settle(self) -> None:
        if self._sink is not None:
            self._sink.settle()

    def _close_at_exit(self) -> None:
        try:
            self.close()
        except Interruption:
            for finding in self.findings:
                LOGGER.warning("%s", told(finding))
