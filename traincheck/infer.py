"""Inference: from the evidence of known-good runs to invariants, and a reason for each hypothesis that was dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

from traincheck import precondition as preconditions
from traincheck.evidence import Case, Gatherer, Hypothesis, Run, Summary, Tally, merged
from traincheck.invariant import Evidence, Invariant
from traincheck.precondition import Precondition
from traincheck.prune import implied
from traincheck.relations import by_name
from traincheck.trace import Trace, open_trace
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


def infer(
    paths: Sequence[Path],
    *,
    jobs: int = 1,
    validate: Sequence[Path] = (),
    least_programs: int = LEAST_PROGRAMS,
    progress: Callable[[int, int], None] | None = None,
) -> Inference:
    """Infer from the traces at ``paths``; each run (of several programs: each program) is held out in turn.

    What fails there is dropped, and of many programs also what fewer than ``least_programs`` of them show.

    ``validate`` names further clean traces that take part in that test only. ``progress(done, total)`` is called after
    each trace. Raises :class:`traincheck.errors.UserError` on a trace that cannot be read.
    """
    summaries = summarise([*paths, *validate], jobs=jobs, progress=progress)
    return learn(summaries[: len(paths)], summaries[len(paths) :], least_programs=least_programs)


def learn(
    references: Sequence[Summary], witnesses: Sequence[Summary] = (), *, least_programs: int = LEAST_PROGRAMS
) -> Inference:
    """What the references teach and neither they, held out in turn, nor the witnesses refute: see :func:`infer`."""
    inference = conclude(merged(references))
    failing = _failing_when_held_out(_by_program(references)) | _failing_on(inference.invariants, witnesses)
    reasons = {key: f"concluded from the other runs, it is violated in {run}" for key, run in failing.items()}
    programs = len({run.program for run in inference.runs})
    if programs >= MANY_PROGRAMS:
        reasons = _of_few_programs(inference.invariants, least_programs, programs) | reasons
    return _without(inference, reasons)


def summarise(
    paths: Sequence[Path], *, jobs: int = 1, progress: Callable[[int, int], None] | None = None
) -> list[Summary]:
    """The evidence of each trace, in order; ``jobs`` processes share the work."""
    summaries: list[Summary] = []
    results: Iterable[Summary]
    if jobs == 1 or len(paths) == 1:
        results = map(summarise_trace, paths)
        return _collect(results, summaries, len(paths), progress)
    with ProcessPoolExecutor(min(jobs, len(paths)), mp_context=get_context("spawn")) as pool:
        return _collect(pool.map(summarise_trace, paths), summaries, len(paths), progress)


def _collect(
    results: Iterable[Summary], into: list[Summary], total: int, progress: Callable[[int, int], None] | None
) -> list[Summary]:
    for summary in results:
        into.append(summary)
        if progress is not None:
            progress(len(into), total)
    return into


def summarise_trace(path: Path) -> Summary:
    """The evidence of one trace, in one pass."""
    trace = open_trace(path)
    gatherer = Gatherer(str(path.name), program_of(trace), tuple(sorted(trace.manifest.versions.items())))
    for window in trace.windows():
        gatherer.add(window)
    return gatherer.summary()


def program_of(trace: Trace) -> str:
    """The command that made the trace up to its options: ``python train.py``."""
    words: list[str] = []
    for word in trace.manifest.command:
        if word.startswith("-") and word != "-m":
            break
        words.append(Path(word).name)
    return " ".join(words)[:200]


def conclude(summary: Summary) -> Inference:
    """Judge every hypothesis on all the evidence."""
    kept: list[Invariant] = []
    dropped: list[Dropped] = []
    for hypothesis, case in summary.cases.items():
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

    if not case.contexts:
        return drop("there was never an occasion to see whether it holds")
    if case.given_up:
        return drop("it was seen in too many different circumstances to compare them")
    passing = {context: tally.passing_steps for context, tally in case.contexts.items() if tally.passing}
    failing = [context for context, tally in case.contexts.items() if tally.failing]
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


def _by_program(summaries: Sequence[Summary]) -> list[Summary]:
    """One summary a program, where there are several: what one program does must not depend on having seen it.

    Runs of a single program are held out one by one.
    """
    programs = {summary.runs[0].program for summary in summaries}
    if len(programs) < 2:
        return list(summaries)
    return [merged(s for s in summaries if s.runs[0].program == program) for program in sorted(programs)]


def _failing_when_held_out(summaries: Sequence[Summary]) -> dict[Hypothesis, str]:
    """Hypotheses that, concluded from all summaries but one, are refuted by that one."""
    if len(summaries) < 2:
        return {}
    found: dict[Hypothesis, str] = {}
    for index, held_out in enumerate(summaries):
        others = conclude(merged(summary for place, summary in enumerate(summaries) if place != index))
        found |= _failing_on(others.invariants, [held_out])
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
