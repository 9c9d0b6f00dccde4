"""Evidence: what a run says for and against each hypothesis. A fold over windows whose results merge.

Merging is associative and commutative and the size is bounded: counts per distinct context and a few example places. So
traces can be summarised in parallel, and a new run is merged in without reading the old ones again. Hypotheses do not
see each other: a long trace is shared out by hypothesis, and every share sees all windows in order, as memories need.
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
MAX_ORIGINS: Final = 4096
"""How many kinds of windows are remembered to have been asked for hypotheses."""

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
    """The first ones, in order."""
    runs: int = 0
    """Runs with at least one example."""
    programs: frozenset[str] = frozenset()
    given_up: bool = False
    """There were too many distinct contexts to count, so none is kept."""

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
        self.bound(given_up=other.given_up)

    def fails_at(self, place: Place) -> None:
        """Keep the place if it is among the first ones."""
        self.places = sorted({*self.places, place})[:MAX_PLACES]

    def bound(self, *, given_up: bool = False) -> None:
        """Give up when there are too many contexts: what is left does not depend on the order in which they came."""
        if given_up or self.given_up or len(self.contexts) > MAX_CONTEXTS:
            self.given_up = True
            self.contexts.clear()
            self.places.clear()


@dataclass(frozen=True, slots=True, order=True)
class Run:
    """Where evidence came from."""

    name: str
    program: str
    """The command without its options: runs of one program are not independent programs."""
    steps: int
    events: int
    versions: tuple[tuple[str, str], ...] = ()
    identity: str = ""
    """Equal exactly for two readings of one trace, wherever it lies; empty where it is not known."""


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
        self.runs = tuple(sorted({*self.runs, *other.runs}))


def merged(summaries: Iterable[Summary]) -> Summary:
    """All of them as one."""
    total = Summary()
    for summary in summaries:
        total.merge(summary)
    return total


@dataclass(frozen=True, slots=True)
class Source:
    """What is known of a run before its windows are seen."""

    name: str
    program: str
    versions: tuple[tuple[str, str], ...] = ()
    identity: str = ""


@dataclass(frozen=True, slots=True)
class Share:
    """Some of the hypotheses: one of ``of`` shares, which together are all of them."""

    number: int = 0
    of: int = 1

    def takes(self, relation: int, subject: int) -> bool:
        """Whether the ``subject``-th hypothesis of the ``relation``-th relation belongs to it.

        What hypotheses of one relation look up in a window they look up once; so as few shares as keep many workers
        busy divide a relation.
        """
        lanes = max(1, self.of // 3)
        return (relation * lanes + subject % lanes) % self.of == self.number


class Gatherer:
    """The fold over one run: windows in, :class:`Summary` out. Windows of several processes may be mixed.

    Several gatherers that each take a share of the hypotheses give, merged, what one gives that takes them all.
    """

    def __init__(self, source: Source, share: Share = Share()) -> None:
        self._source, self._share = source, share
        self._known: list[set[Any]] = [set() for _ in RELATIONS]
        self._cases: dict[Hypothesis, Case] = {}
        self._hypotheses: list[tuple[Relation[Any], Any, Case]] = []
        self._memories: dict[tuple[int, int], list[Memory]] = {}
        self._proposed_from: set[tuple[frozenset[str], int]] = set()
        self._steps = 0
        self._events = 0

    def add(self, window: Window) -> None:
        """Take in the next window."""
        self._steps += 1
        self._events += len(window.calls) + sum(len(snapshot.names) for snapshot in window.snapshots)
        self._propose(window)
        memories = self._memories.setdefault((window.process.rank, window.process.pid), [])
        memories += [Memory() for _ in range(len(self._hypotheses) - len(memories))]
        for (relation, subject, case), memory in zip(self._hypotheses, memories, strict=True):
            if not case.given_up:
                self._count(relation, subject, case, window, memory)

    def _propose(self, window: Window) -> None:
        origin = (window.keys, window.process.world_size)
        if origin in self._proposed_from:
            return
        if len(self._proposed_from) >= MAX_ORIGINS:
            self._proposed_from.clear()
        self._proposed_from.add(origin)
        for number, (relation, known) in enumerate(zip(RELATIONS, self._known, strict=True)):
            # What a window proposes is a set in places: only in an order of its own is it the same in each process.
            for subject in sorted(set(relation.propose(window)) - known, key=repr):
                if self._share.takes(number, len(known)):
                    self._cases[relation.name, subject] = case = Case()
                    self._hypotheses.append((relation, subject, case))
                known.add(subject)

    def _count(self, relation: Relation[Any], subject: Any, case: Case, window: Window, memory: Memory) -> None:
        seen: set[tuple[Fields, bool]] = set()
        passed = False
        for example in relation.examples(subject, window, memory):
            context, held = example.context, example.held
            tally = case.contexts.get(context)
            if tally is None:
                tally = case.contexts[context] = Tally()
            new_step = (context, held) not in seen
            seen.add((context, held))
            if held:
                tally.own_steps += not passed
                passed = True
                tally.passing += example.count
                tally.passing_steps += new_step
            else:
                tally.failing += example.count
                tally.failing_steps += new_step
                if len(case.places) < MAX_PLACES or window.step <= case.places[-1].step:
                    case.fails_at(Place(self._source.name, window.step, window.process.rank, example.seen))
        if len(case.contexts) > MAX_CONTEXTS:
            case.bound()

    def summary(self) -> Summary:
        """The evidence gathered so far."""
        source = self._source
        for case in self._cases.values():
            case.runs = 1 if case.contexts or case.given_up else 0
            case.programs = frozenset({source.program} if case.runs else ())
            for tally in case.contexts.values():
                tally.programs = case.programs
        run = Run(source.name, source.program, self._steps, self._events, source.versions, source.identity)
        return Summary(dict(self._cases), (run,))
