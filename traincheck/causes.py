"""One cause, one finding: violations that show together, on the same things or topic, go under the most telling one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from traincheck.findings import Finding, Violation
from traincheck.invariant import Invariant, Severity

TOGETHER: Final = 1
"""Violations that first show at most this many steps apart are taken for one cause."""

TELLING: Final = ("Membership", "APIArg", "Cadence", "APISequence", "EventContain", "APIOutput", "Consistent")
"""Relations from the most to the least direct statement of a cause, for invariants that no zoo ranks."""

GENERIC_WHY: Final = "The program keeps running and its loss may keep falling, so nothing points at it."
GENERIC_FIX: Final = "Compare what was seen with what was expected at that step; if the change is intended, infer anew."

MAX_NAMED: Final = 3


@dataclass(slots=True)
class Cause:
    """The violations of one cause so far: the first of each invariant."""

    first_step: int
    violations: list[Violation] = field(default_factory=list)
    last_step: int = 0
    steps: int = 0

    def note(self, step: int) -> None:
        """Count a step at which it showed."""
        if step != self.last_step or not self.steps:
            self.steps += 1
        self.last_step = step

    def names(self) -> set[str]:
        """Everything that its violations speak of."""
        return {name for violation in self.violations for name in violation.names}

    def finding(self) -> Finding:
        """As it is told: the most telling violation first."""
        ordered = sorted(self.violations, key=_rank)
        first = ordered[0]
        curation = first.invariant.curation
        severity: Severity = curation.severity if curation else "error"
        return Finding(
            code=first.invariant.code,
            title=curation.title if curation else first.invariant.text,
            severity=severity,
            message=message(first),
            step=self.first_step,
            rank=first.rank,
            last_step=self.last_step,
            steps=self.steps,
            why_silent=curation.why_silent if curation else GENERIC_WHY,
            fix=curation.fix if curation else GENERIC_FIX,
            violations=tuple(ordered),
        )


def _rank(violation: Violation) -> tuple[int, int, int, str]:
    """Sorts the most telling first: as the zoo ranks them, then by relation; later consequences last."""
    priority = violation.invariant.priority
    return (
        0 if priority is not None else 1,
        priority or 0,
        TELLING.index(violation.invariant.relation),
        violation.invariant.id,
    )


def message(violation: Violation) -> str:
    """Where it shows, what was seen and what was expected, in one or two sentences."""
    names = ", ".join(violation.names[:MAX_NAMED])
    more = len(violation.names) - MAX_NAMED
    named = f"{names} and {more} more" if more > 0 else names
    place = f"At step {violation.step}" + (f" ({violation.site})" if violation.site else "")
    if named:
        place += f", {named}"
    return f"{place}: {violation.seen}. Expected: {violation.expected}."


def _goes_on(cause: Cause, violation: Violation) -> bool:
    """Whether it speaks of the same topic (the letters of a code) as a cause that still shows: what that leads to."""
    topics = {_topic(found.invariant) for found in cause.violations}
    return cause.last_step >= violation.step - TOGETHER and _topic(violation.invariant) in topics - {""}


def _topic(invariant: Invariant) -> str:
    """``LRS`` for ``LRS001``; empty for what nobody has curated."""
    return invariant.code.rstrip("0123456789") if invariant.curation else ""


class Causes:
    """Groups violations as they come, in order of steps."""

    def __init__(self) -> None:
        self._causes: list[Cause] = []
        self._by_invariant: dict[str, Cause] = {}

    def add(self, violation: Violation) -> Cause | None:
        """Take a violation in. Returns the cause when it is a new one."""
        known = self._by_invariant.get(violation.invariant.id)
        if known is not None:
            known.note(violation.step)
            return None
        cause = self._home(violation)
        new = cause is None
        if cause is None:
            cause = Cause(violation.step)
            self._causes.append(cause)
        cause.violations.append(violation)
        cause.note(violation.step)
        self._by_invariant[violation.invariant.id] = cause
        return cause if new else None

    def _home(self, violation: Violation) -> Cause | None:
        for cause in self._causes:
            if abs(violation.step - cause.first_step) <= TOGETHER:
                return cause
        for cause in self._causes:
            if cause.names() & set(violation.names) or _goes_on(cause, violation):
                return cause
        return None

    def findings(self) -> tuple[Finding, ...]:
        """All causes, the severe ones first, then in the order in which they showed."""
        told = [cause.finding() for cause in self._causes]
        return tuple(sorted(told, key=lambda finding: (finding.severity != "error", finding.step)))
