"""Several results as one: the verdict on several runs that were checked against the same invariants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from traincheck.findings import CheckResult
from traincheck.invariant import Invariant
from traincheck.report.verdict import states

TELLING: Final = ("violated", "held", "abstained", "not exercised")
"""What became of an invariant over all runs is the first of these that it became in any."""


def combined(results: Sequence[tuple[str, CheckResult]]) -> CheckResult:
    """One result for the runs, each given with its name. A single run stays as it is."""
    if len(results) == 1:
        return results[0][1]
    found: dict[str, dict[str, Invariant]] = {state: {} for state in TELLING}
    for _, result in results:
        for invariant, state in states(result):
            found[state][invariant.id] = invariant
    kept = _each_once(found)
    return CheckResult(
        findings=tuple(replace(finding, run=name) for name, result in results for finding in result.findings),
        held=kept["held"],
        violated=kept["violated"],
        not_exercised=kept["not exercised"],
        abstained=kept["abstained"],
        steps=sum(result.steps for _, result in results),
        skipped_steps=sum(result.skipped_steps for _, result in results),
        notes=tuple(f"{name}: {note}" for name, result in results for note in result.notes),
    )


def _each_once(found: dict[str, dict[str, Invariant]]) -> dict[str, tuple[Invariant, ...]]:
    taken: set[str] = set()
    kept: dict[str, tuple[Invariant, ...]] = {}
    for state in TELLING:
        kept[state] = tuple(invariant for key, invariant in found[state].items() if key not in taken)
        taken |= set(found[state])
    return kept
