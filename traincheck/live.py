"""Checks a training run while it runs: the sink that judges each step as it ends."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from traincheck.check import Checker
from traincheck.events import Call, Process, Record, StepEnd
from traincheck.exchange import Exchange
from traincheck.findings import CheckResult, Finding
from traincheck.invariant import Invariant
from traincheck.plan import Interruption
from traincheck.relations import Needs, by_name
from traincheck.vocabulary import COLLECTIVE
from traincheck.window import Window, WindowBuilder

if TYPE_CHECKING:
    from traincheck.last_words import LastWords

SAVE_EVERY_S: Final = 5.0
"""How often a long run writes down how far it got, in case that it is killed."""


class LiveSink:
    """Judges the windows of one process, and answers to what is new.

    ``save`` is given the verdict so far now and then, and whether it is the final one. In a forked child the sink does
    nothing: the verdict belongs to the parent.
    """

    def __init__(
        self,
        process: Process,
        invariants: Sequence[Invariant],
        react: Callable[[Sequence[Finding]], None],
        save: Callable[[CheckResult, bool], None],
        *,
        exchange: Exchange | None = None,
        last_words: LastWords | None = None,
    ) -> None:
        self.interruption: Interruption | None = None
        """What the last steps would have raised, when they were judged only at the end of the run."""
        self.judges = process.rank == 0 or not all(map(compares_ranks, invariants))
        """Whether there is anything to judge in this process: rank 0 judges what compares ranks."""
        self._owner = os.getpid()
        self._checker = Checker(invariants)
        self._builder = WindowBuilder(process)
        self._exchange = exchange or Exchange(process, needs_across_ranks(invariants))
        self._react = react
        self._save = save
        self._last_words = last_words
        self._saved_s = -SAVE_EVERY_S
        self._closed = False

    def add(self, record: Record) -> None:
        """Take the next record; the end of a step judges it."""
        if isinstance(record, StepEnd) and not record.recorded:
            self._leave_out(record)
            return
        if self._closed or os.getpid() != self._owner:
            return
        if self._last_words is not None:
            self._keep(self._last_words, record)
        window = self._builder.add(record)
        if not isinstance(record, StepEnd):
            return
        if window is not None:
            self._judge(self._exchange.submit(window))
        if time.monotonic() - self._saved_s >= SAVE_EVERY_S:
            self._save_now(finished=False)

    def _leave_out(self, end: StepEnd) -> None:
        """A step without records has ended: this happens at almost every step of a fast program."""
        self._builder.add(end)
        self._checker.skip()

    def _keep(self, last_words: LastWords, record: Record) -> None:
        if isinstance(record, StepEnd):
            last_words.ended(record)
        elif isinstance(record, Call) and record.end < 0 and record.role.startswith(COLLECTIVE):
            last_words.begun(record)

    def settle(self) -> None:
        """The process group is about to end: bring together what the ranks have of the last steps."""
        if not self._closed and os.getpid() == self._owner:
            self._judge(self._exchange.finish())

    def close(self) -> None:
        """Judge what is left. May be called twice."""
        if self._closed or os.getpid() != self._owner:
            return
        self._closed = True
        rest = self._builder.rest()
        windows = self._exchange.submit(rest) if rest is not None else []
        try:
            self._judge([*windows, *self._exchange.finish()])
        except Interruption as interruption:
            self.interruption = interruption
        self._save_now(finished=True)
        if self._last_words is not None:
            self._last_words.close()

    @property
    def result(self) -> CheckResult:
        """The verdict so far."""
        result = self._checker.result()
        notes = result.notes
        if self._exchange.skipped:
            notes += (f"The ranks could not be compared at {self._exchange.skipped} of the steps.",)
        return replace(result, notes=notes)

    def _judge(self, windows: Sequence[Window]) -> None:
        findings = [finding for window in windows for finding in self._checker.add(window)]
        if findings:
            self._save_now(finished=False)
            self._react(findings)

    def _save_now(self, *, finished: bool) -> None:
        self._saved_s = time.monotonic()
        self._save(self.result, finished)


def compares_ranks(invariant: Invariant) -> bool:
    """Whether it compares ranks: a field of its subject says so."""
    return any(isinstance(value, str) and value.endswith("ranks") for value in invariant.subject.values())


def needs_across_ranks(invariants: Iterable[Invariant]) -> Needs:
    """What must travel to judge those of the invariants that compare ranks."""
    needs = Needs()
    for invariant in filter(compares_ranks, invariants):
        relation = by_name(invariant.relation)
        needs |= relation.needs(relation.subject_type(**invariant.subject))
    return needs
