"""The verdict in one word and in one line: the same in every format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from traincheck.findings import CheckResult, Finding, Violation
from traincheck.invariant import Invariant

Verdict: TypeAlias = Literal["clean", "violations", "not checked"]

MAX_NAMES: Final = 5
"""How many parameters a finding names before it counts the rest."""

MAX_CONSEQUENCES: Final = 5
"""How many further violations of one cause are told before the rest is counted."""


def verdict(result: CheckResult) -> Verdict:
    """``clean`` only when something was judged and all of it held."""
    if result.findings or result.violated:
        return "violations"
    return "clean" if result.exercised else "not checked"


def headline(result: CheckResult) -> str:
    """The verdict as one line, for a reader who has never seen this tool."""
    match verdict(result):
        case "violations":
            return _violations(result)
        case "clean":
            held = count(len(result.held), "invariant")
            return f"Clean: {held} held over {count(result.steps, 'step')}; no violation."
        case _:
            return f"NOT CHECKED: {_nothing(result)} Nothing is known about this run."


def _violations(result: CheckResult) -> str:
    if not result.findings:
        return f"Violated: {count(len(result.violated), 'invariant')}."
    first = result.findings[0]
    if len(result.findings) == 1:
        return f"1 finding: {first.title}"
    return f"{len(result.findings)} findings, the first at step {first.step}: {first.title}"


def _nothing(result: CheckResult) -> str:
    total = len(result.not_exercised) + len(result.abstained)
    if not total:
        return "there was no invariant to check."
    if not result.steps:
        return "the run has no step that could be judged."
    return f"none of the {count(total, 'invariant')} was exercised in {count(result.steps, 'step')}."


def account(result: CheckResult) -> tuple[tuple[int, str, str], ...]:
    """How many invariants came out how: the number, the word, and what the word means."""
    return (
        (len(result.violated), "violated", "the run broke them"),
        (len(result.held), "held", "judged at least once, and always true"),
        (len(result.not_exercised), "not exercised", "the run never did what they speak about: nothing is known"),
        (len(result.abstained), "abstained", "they met only situations in which they do not judge"),
    )


def coverage(result: CheckResult) -> str:
    """What the verdict rests on: the steps that were judged, and those that were not."""
    judged = f"{count(result.steps, 'step')} {'judged' if result.exercised else 'looked at'}"
    if not result.skipped_steps:
        return judged
    return f"{judged}, {count(result.skipped_steps, 'step')} skipped to stay within the overhead budget"


def place(finding: Finding) -> str:
    """Where a finding shows: step, rank and call."""
    where = f"step {finding.step}, rank {finding.rank}"
    if finding.steps > 1:
        more = f"{finding.steps - 1} more up to step {finding.last_step}"
        where = f"step {finding.step} and {more}, rank {finding.rank}"
    api = finding.violations[0].api if finding.violations else ""
    return f"{where}, in {api}" if api else where


def name_list(names: Sequence[str]) -> str:
    """The first :data:`MAX_NAMES` names, and how many more there are."""
    shown = ", ".join(names[:MAX_NAMES])
    rest = len(names) - MAX_NAMES
    return f"{shown} and {rest} more" if rest > 0 else shown


def consequences(finding: Finding) -> tuple[str, ...]:
    """What else broke from the same cause, one line each."""
    return tuple(_consequence(violation) for violation in finding.violations[1:])


def _consequence(violation: Violation) -> str:
    invariant = violation.invariant
    name = f"{invariant.code} {invariant.title}" if invariant.curation else invariant.title
    return f"{name.rstrip('.')} (step {violation.step}, rank {violation.rank})"


def explained(result: CheckResult) -> str:
    """The code of the first finding that the zoo can explain, or nothing."""
    curated = (finding.code for finding in result.findings if any(v.invariant.curation for v in finding.violations[:1]))
    return next(curated, "")


def first_violations(result: CheckResult) -> dict[str, tuple[Finding, Violation]]:
    """For the id of each violated invariant its first violation, and the finding that it belongs to."""
    found: dict[str, tuple[Finding, Violation]] = {}
    for finding in result.findings:
        for violation in finding.violations:
            found.setdefault(violation.invariant.id, (finding, violation))
    return found


def states(result: CheckResult) -> tuple[tuple[Invariant, str], ...]:
    """Every invariant with what became of it, the violated ones first."""
    return (
        *((invariant, "violated") for invariant in result.violated),
        *((invariant, "held") for invariant in result.held),
        *((invariant, "not exercised") for invariant in result.not_exercised),
        *((invariant, "abstained") for invariant in result.abstained),
    )


def count(number: int, noun: str) -> str:
    """``1 step``, ``2 steps``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def printable(text: str) -> str:
    """``text`` without control characters: names come from files, and a terminal or an XML reader obeys them."""
    return "".join(character if character.isprintable() or character == "\n" else "?" for character in text)
