"""Evidence: what a run says for and against each hypothesis. A fold over windows whose results merge.

Merging is associative and commutative and the size is bounded: counts per distinct context and a few example places. So
traces can be summarised in parallel, and a new run is merged in without reading the old ones again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from traincheck.relations import RELATIONS, Memory, Relation
from traincheck.values import Fields
from traincheck.window import Window

MAX_CONTEXTS: Final = 512
"""More distinct contexts than this: the hypothesis speaks of too varied things, and is given up."""
MAX_PLACES: Final = 3

Hypothesis: TypeAlias = "tuple[str, Any]"
"""Relation name and subject."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a hypothesis failed: the first places are kept, for ``--why-not``."""

    run: str
    step: int
    rank: int
    seen: str


@dataclass(slots=True)
class Tally:
    """What was seen in one context."""

    passing: int = 0
    failing: int = 0
    passing_steps: int = 0
    """Steps with a passing example: the independent observations."""
    failing_steps: int = 0
    own_steps: int = 0
    """Passing steps of which this was the first context: over contexts they add up without counting a step twice."""
    programs: frozenset[str] = frozenset()
    """The programs in which it was seen."""

    def add(self, other: Tally) -> None:
        self.passing += other.passing
        self.failing += other.failing
        self.passing_steps += other.passing_steps
        self.failing_steps += other.failing_steps
        self.own_steps += other.own_steps
        self.programs |= other.programs


@dataclass(slots=True)
class Case:
    """The evidence on one hypothesis."""

    contexts: dict[Fields, Tally] = field(default_factory=dict)
    places: list[Place] = field(default_factory=list)
    runs: int = 0
    """Runs with at least one example."""
    programs: frozenset[str] = frozenset()

    @property
    def given_up(self) -> bool:
        """Whether there were too many distinct contexts to count."""
        return len(self.contexts) > MAX_CONTEXTS

    def merge(self, other: Case) -> None:
        """Take in the evidence of another run."""
        for context, tally in other.contexts.items():
            mine = self.contexts.get(context)
            if mine is None:
                mine = self.contexts[context] = Tally()
            mine.add(tally)
        self.places = sorted({*self.places, *other.places})[:MAX_PLACES]
        self.runs += other.runs
        self.programs |= other.programs


@dataclass(frozen=True, slots=True)
class Run:
    """Where evidence came from."""

    name: str
    program: str
    """The command without its options: runs of one program are not independent programs."""
    steps: int
    events: int
    versions: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class Summary:
    """The evidence of one or more runs on every hypothesis that they propose."""

    cases: dict[Hypothesis, Case] = field(default_factory=dict)
    runs: tuple[Run, ...] = ()

    def merge(self, other: Summary) -> None:
        """Take in another summary."""
        for hypothesis, case in other.cases.items():
            mine = self.cases.get(hypothesis)
            if mine is None:
                mine = self.cases[hypothesis] = Case()
            mine.merge(case)
        self.runs = tuple(sorted({*self.runs, *other.runs}, key=lambda run: (run.name, run.program, run.steps)))


def merged(summaries: Iterable[Summary]) -> Summary:
    """All of them as one."""
    total = Summary()
    for summary in summaries:
        total.merge(summary)
    return total


class Gatherer:
    """The fold over one run: windows in, :class:`Summary` out. Windows of several processes may be mixed."""

    def __init__(self, run: str, program: str, versions: tuple[tuple[str, str], ...] = ()) -> None:
        self._run, self._program, self._versions = run, program, versions
        self._cases: dict[Hypothesis, Case] = {}
        self._hypotheses: list[tuple[Relation[Any], Any, Case]] = []
        self._memories: dict[tuple[int, int, int], Memory] = {}
        self._proposed_from: set[tuple[frozenset[str], int]] = set()
        self._steps = 0
        self._events = 0

    def add(self, window: Window) -> None:
        """Take in the next window."""
        self._steps += 1
        self._events += len(window.calls) + sum(len(snapshot.names) for snapshot in window.snapshots)
        self._propose(window)
        process = window.process
        for index, (relation, subject, case) in enumerate(self._hypotheses):
            if case.given_up:
                continue
            key = (process.rank, process.pid, index)
            memory = self._memories.get(key)
            if memory is None:
                memory = self._memories[key] = Memory()
            self._count(relation, subject, case, window, memory)

    def _propose(self, window: Window) -> None:
        origin = (window.keys, window.process.world_size)
        if origin in self._proposed_from:
            return
        self._proposed_from.add(origin)
        for relation in RELATIONS:
            for subject in relation.propose(window):
                hypothesis = (relation.name, subject)
                if hypothesis not in self._cases:
                    self._cases[hypothesis] = case = Case(runs=0, programs=frozenset())
                    self._hypotheses.append((relation, subject, case))

    def _count(self, relation: Relation[Any], subject: Any, case: Case, window: Window, memory: Memory) -> None:
        seen: set[tuple[Fields, bool]] = set()
        passed = False
        for example in relation.examples(subject, window, memory):
            tally = case.contexts.get(example.context)
            if tally is None:
                tally = case.contexts[example.context] = Tally()
            new_step = (example.context, example.held) not in seen
            seen.add((example.context, example.held))
            if example.held:
                tally.own_steps += not passed
                passed = True
                tally.passing += example.count
                tally.passing_steps += new_step
            else:
                tally.failing += example.count
                tally.failing_steps += new_step
                if len(case.places) < MAX_PLACES:
                    case.places.append(Place(self._run, window.step, window.process.rank, example.seen))

    def summary(self) -> Summary:
        """The evidence gathered so far."""
        for case in self._cases.values():
            case.runs = 1 if case.contexts else 0
            case.programs = frozenset({self._program} if case.contexts else ())
            for tally in case.contexts.values():
                tally.programs = case.programs
        run = Run(self._run, self._program, self._steps, self._events, self._versions)
        return Summary(dict(self._cases), (run,))
