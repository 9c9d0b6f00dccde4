"""Checking: invariants against windows. The same code judges a file and a running program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from traincheck.causes import Cause, Causes
from traincheck.findings import CheckResult, Finding, Violation
from traincheck.invariant import Invariant
from traincheck.relations import Example, Memory, Needs, Relation, by_name
from traincheck.vocabulary import OPTIMIZER_STEP
from traincheck.window import Window

if TYPE_CHECKING:
    from traincheck.trace import Trace

MAX_KINDS: Final = 256
"""For so many kinds of windows it is remembered which invariants they concern: programs have a handful."""


@dataclass(slots=True)
class _Watch:
    """One subject and the invariants on it, which differ in their preconditions."""

    relation: Relation[Any]
    subject: Any
    triggers: frozenset[str]
    invariants: list[tuple[str, Invariant]]
    """With their ids, worked out once."""
    memories: dict[tuple[int, int], Memory] = field(default_factory=dict)
    all_held: bool = False
    """Whether each of the invariants held before: one more example that holds says nothing new."""
    fault: str = ""
    """What broke while judging it: it is off from then on."""

    def memory(self, process: tuple[int, int]) -> Memory:
        found = self.memories.get(process)
        if found is None:
            found = self.memories[process] = Memory()
        return found


class Checker:
    """Judges windows as they come. Windows of several processes may be mixed; those of one come in order."""

    def __init__(self, invariants: Iterable[Invariant]) -> None:
        self._watches = _watches({invariant.id: invariant for invariant in invariants})
        self._triggered: dict[frozenset[str], list[_Watch]] = {}
        """By the words of a window: the watches for which it may have examples."""
        self._held: set[str] = set()
        self._violated: set[str] = set()
        self._abstained: set[str] = set()
        self._causes = Causes()
        self._steps: Counter[tuple[int, int]] = Counter()
        self._skipped = 0

    @property
    def plan_needs(self) -> Needs:
        """What must be recorded for all the invariants to be judged exactly."""
        union = Needs()
        for watch in self._watches:
            union = union | watch.relation.needs(watch.subject)
        return union

    def add(self, window: Window) -> list[Finding]:
        """Judge one window. Returns the findings that are new with it, each cause once."""
        process = window.process.rank, window.process.pid
        self._steps[process] += 1
        new: list[Cause] = []
        for watch in self._triggered_by(window.words):
            for violation in self._judge(watch, window, watch.memory(process)):
                cause = self._causes.add(violation)
                if cause is not None:
                    new.append(cause)
        return [cause.finding() for cause in new]

    def _triggered_by(self, words: frozenset[str]) -> list[_Watch]:
        found = self._triggered.get(words)
        if found is None:
            if len(self._triggered) >= MAX_KINDS:
                self._triggered.clear()
            found = [watch for watch in self._watches if not (watch.triggers and watch.triggers.isdisjoint(words))]
            self._triggered[words] = found
        return found

    def skip(self, steps: int = 1) -> None:
        """Account for steps that were left out for the overhead budget."""
        self._skipped += steps

    def _judge(self, watch: _Watch, window: Window, memory: Memory) -> list[Violation]:
        if watch.fault:
            return []
        try:
            examples = list(watch.relation.examples(watch.subject, window, memory))
        except Exception as fault:  # a fault of ours must not end a run; it is in the report, and the check is off
            watch.fault = f"{watch.relation.name} could not judge step {window.step}: {type(fault).__name__}: {fault}"
            return []
        found: list[Violation] = []
        for example in examples:
            if example.held and watch.all_held:
                continue
            context = dict(example.context)
            for key, invariant in watch.invariants:
                if not invariant.precondition.holds(context):
                    continue
                if example.held:
                    self._held.add(key)
                    watch.all_held = all(other in self._held for other, _ in watch.invariants)
                elif not invariant.knows(context):
                    self._abstained.add(key)
                else:
                    self._violated.add(key)
                    found.append(_violation(invariant, example, window))
        return found

    def result(self) -> CheckResult:
        """The verdict so far."""
        faulty = {key for watch in self._watches if watch.fault for key, _ in watch.invariants}
        lists: dict[str, list[Invariant]] = {"violated": [], "held": [], "abstained": [], "not exercised": []}
        for watch in self._watches:
            for key, invariant in watch.invariants:
                lists[self._state(key, faulty)].append(invariant)
        return CheckResult(
            findings=self._causes.findings(),
            held=tuple(lists["held"]),
            violated=tuple(lists["violated"]),
            not_exercised=tuple(lists["not exercised"]),
            abstained=tuple(lists["abstained"]),
            steps=max(self._steps.values(), default=0),
            skipped_steps=self._skipped,
            notes=tuple(watch.fault for watch in self._watches if watch.fault),
        )

    def _state(self, invariant_id: str, faulty: set[str]) -> str:
        if invariant_id in self._violated:
            return "violated"
        if invariant_id in faulty:
            return "abstained"
        if invariant_id in self._held:
            return "held"
        return "abstained" if invariant_id in self._abstained else "not exercised"


def _violation(invariant: Invariant, example: Example, window: Window) -> Violation:
    return Violation(
        invariant,
        window.step,
        window.process.rank,
        example.names,
        example.expected,
        example.seen,
        example.api,
        _site(example, window),
    )


def _site(example: Example, window: Window) -> str:
    """Where the user's code makes the call at which it shows: one of the thing concerned, if there is one."""
    api = example.api or OPTIMIZER_STEP
    calls = [call for call in window.calls if api in (call.api, call.role) and "site" in call.args]
    concerned = [call for call in calls if call.subject in example.names]
    return next((str(call.args["site"]) for call in (*concerned, *calls)), "")


def _watches(invariants: Mapping[str, Invariant]) -> list[_Watch]:
    found: dict[tuple[str, Any], _Watch] = {}
    for key, invariant in invariants.items():
        relation = by_name(invariant.relation)
        subject = relation.subject_type(**invariant.subject)
        watch = found.setdefault((relation.name, subject), _Watch(relation, subject, relation.triggers(subject), []))
        watch.invariants.append((key, invariant))
    return list(found.values())


def check_trace(trace: Trace, invariants: Iterable[Invariant]) -> CheckResult:
    """Check a finished trace. Raises :class:`traincheck.errors.UserError` when it cannot be read."""
    checker = Checker(invariants)
    for window in trace.windows():
        checker.add(window)
    return checker.result()
