"""The verdicts of the processes of one run: each writes its own, and together they are one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from traincheck.causes import Causes
from traincheck.events import Process
from traincheck.findings import CheckResult, Finding
from traincheck.invariant import Invariant
from traincheck.report import json_document

FINISHED: Final = ".json"
UNFINISHED: Final = ".partial"
"""What a process had found when it was last heard of. The end of the process replaces it."""

TELLING: Final = ("violated", "held", "abstained", "not_exercised")
"""What became of an invariant in the run is the first of these that it became in any process."""


def write_verdict(folder: Path, process: Process, result: CheckResult, *, finished: bool) -> None:
    """Write what this process has found so far, or in the end."""
    path = folder / f"{process.rank}-{process.pid}{FINISHED if finished else UNFINISHED}"
    fresh = path.with_name(f".{path.name}")
    fresh.write_text(json_document.dump(result), encoding="utf-8")
    fresh.replace(path)
    if finished:
        path.with_suffix(UNFINISHED).unlink(missing_ok=True)


def read_verdicts(folder: Path) -> list[CheckResult]:
    """The verdicts in ``folder``, in order of rank. Raises :class:`traincheck.errors.UserError` on damaged ones."""
    found = []
    for path in sorted(folder.iterdir(), key=_rank_and_pid):
        if path.name.startswith(".") or path.suffix not in (FINISHED, UNFINISHED):
            continue
        result = json_document.load(path.read_text(encoding="utf-8"), str(path))
        if path.suffix == UNFINISHED:
            rank, pid = path.stem.split("-")
            note = f"process {pid} (rank {rank}) ended without a word: what it did last was not checked"
            result = replace(result, notes=(*result.notes, note))
        found.append(result)
    return found


def _rank_and_pid(path: Path) -> list[int]:
    return [int(part) for part in path.stem.split("-") if part.isdigit()]


def merged(results: Sequence[CheckResult], invariants: Iterable[Invariant]) -> CheckResult:
    """One verdict for a run checked against ``invariants``. A cause that shows on several ranks is told once."""
    states = {
        invariant.id: state
        for state in reversed(TELLING)
        for result in results
        for invariant in _with_state(result, state)
    }
    known = {invariant.id: invariant for invariant in invariants}
    by_state: dict[str, list[Invariant]] = {state: [] for state in TELLING}
    for invariant in known.values():
        by_state[states.get(invariant.id, "not_exercised")].append(invariant)
    return CheckResult(
        findings=_told_once((finding for result in results for finding in result.findings), known),
        held=tuple(by_state["held"]),
        violated=tuple(by_state["violated"]),
        not_exercised=tuple(by_state["not_exercised"]),
        abstained=tuple(by_state["abstained"]),
        steps=max((result.steps for result in results), default=0),
        skipped_steps=max((result.skipped_steps for result in results), default=0),
        notes=tuple(dict.fromkeys(note for result in results for note in result.notes)),
    )


def _with_state(result: CheckResult, state: str) -> tuple[Invariant, ...]:
    match state:
        case "violated":
            return result.violated
        case "held":
            return result.held
        case "abstained":
            return result.abstained
        case _:
            return result.not_exercised


def _told_once(findings: Iterable[Finding], invariants: Mapping[str, Invariant]) -> tuple[Finding, ...]:
    """The violations of all processes, grouped by cause as if one checker had seen them all."""
    causes = Causes()
    told = list(findings)
    violations = [violation for finding in told for violation in finding.violations]
    for violation in sorted(violations, key=lambda violation: (violation.step, violation.rank)):
        # What came from a file lacks the rank of the invariant in its pack.
        known = invariants.get(violation.invariant.id, violation.invariant)
        causes.add(replace(violation, invariant=known))
    return tuple(_of_all_processes(finding, told) for finding in causes.findings())


def _of_all_processes(finding: Finding, told: Sequence[Finding]) -> Finding:
    """``finding`` with the steps and ranks at which any process saw one of its violations."""
    own = {violation.invariant.id for violation in finding.violations}
    parts = [part for part in told if own & {violation.invariant.id for violation in part.violations}]
    ranks = sorted({part.rank for part in parts})
    shows = f" It shows on ranks {', '.join(map(str, ranks))}." if len(ranks) > 1 else ""
    return replace(
        finding,
        message=f"{finding.message}{shows}",
        last_step=max(part.last_step for part in parts),
        steps=max(part.steps for part in parts),
    )
