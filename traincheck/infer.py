"""Inference: from the evidence of known-good runs to invariants, and a reason for each hypothesis that was dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any, Final

from traincheck import precondition as preconditions
from traincheck.evidence import Case, Hypothesis, Run, Summary, Tally, merged
from traincheck.gathering import Engine, Processes, Reading, gather, survey
from traincheck.held_out import MAX_GROUPS, grouped, held_out
from traincheck.invariant import Evidence, Invariant
from traincheck.precondition import Precondition
from traincheck.prune import implied
from traincheck.relations import by_name
from traincheck.values import Fields, Value, identity

CHANCE: Final = 0.5
"""The null hypothesis: at each step a relation holds by accident with this chance, independently (as Daikon has it)."""
MIN_CONFIDENCE: Final = 0.96
"""Five independent steps, with the chance above."""
MANY_PROGRAMS: Final = 3
LEAST_PROGRAMS: Final = 2
"""Of many programs, so many must show a law: what a single one shows was never tried on another."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A hypothesis that did not become an invariant, and why."""

    relation: str
    subject: Mapping[str, Value]
    text: str
    reason: str


@dataclass(frozen=True, slots=True)
class Inference:
    """What was inferred, what was not, and from what."""

    invariants: tuple[Invariant, ...]
    dropped: tuple[Dropped, ...]
    runs: tuple[Run, ...]
    evidence: tuple[Summary, ...] = ()
    """What all of it rests on, in the groups that were held out in turn."""
    repeated: tuple[str, ...] = ()
    """Traces that were given twice, or known before: they count once."""


def infer(
    places: Sequence[str],
    *,
    engine: Engine = Processes(),  # noqa: B008 - frozen
    known: Sequence[Summary] = (),
    validate: Sequence[str] = (),
    least_programs: int = LEAST_PROGRAMS,
    progress: Callable[[int, int], None] | None = None,
) -> Inference:
    """Infer from the traces at ``places``, folders or URLs; each run (of several programs: each program) is held out.

    What fails there is dropped, and of many programs also what fewer than ``least_programs`` of them show. ``known`` is
    the evidence of traces that were read before: the result is the same as from all of them at once. ``validate`` names
    further clean traces that take part in the test only. ``progress(done, total)`` is called as the reading goes on.
    Raises :class:`traincheck.errors.UserError` on a trace that cannot be read.
    """
    readings, repeated = _new([survey(place) for place in places], known)
    witnesses = [survey(place) for place in validate]
    summaries = gather([*readings, *witnesses], engine, progress)
    evidence = list(known)
    for summary in islice(summaries, len(readings)):
        evidence.append(summary)
        if len(evidence) > 2 * MAX_GROUPS:
            evidence = grouped(evidence)
    return replace(learn(evidence, list(summaries), least_programs=least_programs), repeated=repeated)


def learn(
    references: Sequence[Summary], witnesses: Sequence[Summary] = (), *, least_programs: int = LEAST_PROGRAMS
) -> Inference:
    """What the references teach and neither they, held out in turn, nor the witnesses refute: see :func:`infer`."""
    evidence = grouped(references)
    inference = conclude(merged(evidence))
    failing = _failing_when_held_out(evidence) | _failing_on(inference.invariants, witnesses)
    reasons = {key: f"concluded from the other runs, it is violated in {run}" for key, run in failing.items()}
    programs = len({run.program for run in inference.runs})
    if programs >= MANY_PROGRAMS:
        reasons = _of_few_programs(inference.invariants, least_programs, programs) | reasons
    return replace(_without(inference, reasons), evidence=tuple(evidence))


def _new(readings: Sequence[Reading], known: Iterable[Summary]) -> tuple[list[Reading], tuple[str, ...]]:
    """Each trace once, without those that are known; and the places of the others."""
    seen = {run.identity for summary in known for run in summary.runs}
    new: list[Reading] = []
    repeated: list[str] = []
    for reading in readings:
        if reading.source.identity in seen:
            repeated.append(reading.place)
        else:
            seen.add(reading.source.identity)
            new.append(reading)
    return new, tuple(repeated)


def conclude(summary: Summary) -> Inference:
    """Judge every hypothesis on all the evidence."""
    kept: list[Invariant] = []
    dropped: list[Dropped] = []
    for hypothesis, case in sorted(summary.cases.items(), key=lambda item: repr(item[0])):
        verdict = _judge(hypothesis, case)
        if isinstance(verdict, Invariant):
            kept.append(verdict)
        else:
            dropped.append(verdict)
    for invariant_id, stronger in implied(kept).items():
        weaker = next(invariant for invariant in kept if invariant.id == invariant_id)
        kept.remove(weaker)
        reason = f"implied by: {stronger.text}"
        dropped.append(Dropped(weaker.relation, weaker.subject, weaker.text, reason))
    kept.sort(key=lambda invariant: (invariant.relation, invariant.text))
    dropped.sort(key=lambda drop: (drop.relation, drop.text))
    return Inference(tuple(kept), tuple(dropped), summary.runs)


def _judge(hypothesis: Hypothesis, case: Case) -> Invariant | Dropped:
    relation, subject = by_name(hypothesis[0]), hypothesis[1]
    text = relation.describe(subject)

    def drop(reason: str) -> Dropped:
        return Dropped(relation.name, asdict(subject), _sentence(text, preconditions.ALWAYS), reason)

    if case.given_up:
        return drop("it was seen in too many different circumstances to compare them")
    if not case.contexts:
        return drop("there was never an occasion to see whether it holds")
    # Where two preconditions do equally well, the choice must not depend on which trace was read first.
    contexts = sorted(case.contexts.items(), key=repr)
    passing = {context: tally.passing_steps for context, tally in contexts if tally.passing}
    failing = [context for context, tally in contexts if tally.failing]
    if not passing:
        return drop(f"it never held; {_where(case)}")
    condition = preconditions.find(passing, failing)
    if condition is None:
        return drop(f"it holds and fails in the same circumstances; {_where(case)}")
    condition = _supported(condition, case.contexts)
    if condition is None:
        return drop(f"seen at {_steps(case.contexts.values())} steps only: too few to tell a law from an accident")
    return Invariant(
        relation=relation.name,
        subject=asdict(subject),
        precondition=condition,
        text=_sentence(text, condition),
        evidence=_evidence(case, condition),
        domain=_domain(case.contexts, condition),
    )


def _where(case: Case) -> str:
    place = case.places[0]
    return f"for example at step {place.step} of {place.run}: {place.seen}"


def _supported(condition: Precondition, contexts: Mapping[Fields, Tally]) -> Precondition | None:
    """The conjunctions that were seen to hold often enough."""
    kept = tuple(
        conjunction
        for conjunction in condition.conjunctions
        if _confidence(_steps(_within(Precondition((conjunction,)), contexts).values())) >= MIN_CONFIDENCE
    )
    return Precondition(kept) if kept else None


def _within(condition: Precondition, contexts: Mapping[Fields, Tally]) -> dict[Fields, Tally]:
    return {context: tally for context, tally in contexts.items() if tally.passing and condition.holds(dict(context))}


def _steps(tallies: Iterable[Tally]) -> int:
    """Independent observations. Contexts may share steps: what is surely distinct counts."""
    known = list(tallies)
    return max(sum(tally.own_steps for tally in known), max((tally.passing_steps for tally in known), default=0))


def _confidence(steps: int) -> float:
    return float(1 - CHANCE**steps)


def _evidence(case: Case, condition: Precondition) -> Evidence:
    inside = _within(condition, case.contexts)
    steps = _steps(inside.values())
    return Evidence(
        examples=sum(tally.passing for tally in inside.values()),
        steps=steps,
        runs=case.runs,
        programs=len(frozenset[str]().union(*(tally.programs for tally in inside.values()))),
        confidence=_confidence(steps),
        excluded=sum(tally.failing for tally in case.contexts.values()),
    )


def _domain(contexts: Mapping[Fields, Tally], condition: Precondition) -> dict[str, tuple[Value, ...]]:
    seen: dict[str, dict[Any, Value]] = {}
    for context in _within(condition, contexts):
        for name, value in context:
            seen.setdefault(name, {})[identity(value)] = value
    return {name: tuple(values[key] for key in sorted(values, key=repr)) for name, values in sorted(seen.items())}


def _sentence(text: str, condition: Precondition) -> str:
    body = text if condition.always else f"where {condition}: {text}"
    return f"{body[0].upper()}{body[1:]}."


def _failing_when_held_out(summaries: Sequence[Summary]) -> dict[Hypothesis, str]:
    """Hypotheses that, concluded from all summaries but one, are refuted by that one."""
    if len(summaries) < 2:
        return {}
    found: dict[Hypothesis, str] = {}
    for group, others in held_out(summaries):
        found |= _failing_on(conclude(others).invariants, [group])
    return found


def _failing_on(invariants: Sequence[Invariant], witnesses: Sequence[Summary]) -> dict[Hypothesis, str]:
    """Which of the invariants are violated by the runs that the summaries speak of; with the name of such a run."""
    found: dict[Hypothesis, str] = {}
    for invariant in invariants:
        hypothesis = _hypothesis(invariant)
        for witness in witnesses:
            case = witness.cases.get(hypothesis)
            if case is not None and any(_violates(invariant, *item) for item in case.contexts.items()):
                found[hypothesis] = witness.runs[0].name
    return found


def _violates(invariant: Invariant, context: Fields, tally: Tally) -> bool:
    named = dict(context)
    return bool(tally.failing) and invariant.precondition.holds(named) and invariant.knows(named)


def _of_few_programs(invariants: Sequence[Invariant], least: int, total: int) -> dict[Hypothesis, str]:
    """Which of the invariants rest on fewer programs than ``least``, and the reason as it is told."""
    return {
        _hypothesis(invariant): f"only {invariant.evidence.programs} of {total} programs shows it"
        for invariant in invariants
        if invariant.evidence.programs < least
    }


def _hypothesis(invariant: Invariant) -> Hypothesis:
    relation = by_name(invariant.relation)
    return (relation.name, relation.subject_type(**invariant.subject))


def _without(inference: Inference, reasons: Mapping[Hypothesis, str]) -> Inference:
    kept: list[Invariant] = []
    dropped = list(inference.dropped)
    for invariant in inference.invariants:
        reason = reasons.get(_hypothesis(invariant))
        if reason is None:
            kept.append(invariant)
        else:
            dropped.append(Dropped(invariant.relation, invariant.subject, invariant.text, reason))
    return replace(inference, invariants=tuple(kept), dropped=tuple(dropped))
