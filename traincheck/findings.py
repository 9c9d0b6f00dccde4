"""What a check says: violations, the findings that group them by cause, and the account of what was checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from traincheck.invariant import Invariant, Severity

REPORT_SCHEMA_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant whose precondition held and whose relation did not."""

    invariant: Invariant
    step: int
    rank: int
    names: tuple[str, ...]
    """The variables, calls or ranks concerned, most telling first."""
    expected: str
    seen: str
    api: str = ""
    """Concrete name of the call at which it shows."""
    site: str = ""
    """File and line of the user's code at which that call was made: ``train.py:31``."""


@dataclass(frozen=True, slots=True)
class Finding:
    """All violations of one cause."""

    code: str
    title: str
    severity: Severity
    message: str
    """What was expected, what was seen, where: plain sentences."""
    step: int
    """First step at which it showed."""
    rank: int
    last_step: int
    steps: int
    """At how many steps it showed."""
    why_silent: str
    fix: str
    violations: tuple[Violation, ...]
    """One per invariant, its first; the one that names the cause comes first."""
    run: str = ""
    """Which run it is of, when several were checked together."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The verdict on a run. Each invariant is in exactly one of the four lists."""

    findings: tuple[Finding, ...]
    held: tuple[Invariant, ...]
    violated: tuple[Invariant, ...]
    not_exercised: tuple[Invariant, ...]
    """Never triggered: nothing is known about them."""
    abstained: tuple[Invariant, ...]
    """Triggered only where they do not judge, or broken by a fault of ours."""
    steps: int = 0
    """Steps that were judged."""
    skipped_steps: int = 0
    """Steps left out for the overhead budget."""
    notes: tuple[str, ...] = field(default=())
    """What the reader must know to trust the verdict: faults of ours, packs that do not fit."""

    @property
    def exercised(self) -> int:
        """How many invariants were judged at least once. With none, the run is not clean but unchecked."""
        return len(self.held) + len(self.violated)
