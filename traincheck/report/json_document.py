"""The verdict as one JSON document: what scripts read, and how a live check hands its verdict over."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final, Literal

from pydantic import Field

from traincheck.findings import REPORT_SCHEMA_VERSION, CheckResult, Finding, Violation
from traincheck.invariant import Invariant, Severity
from traincheck.invariant_file import InvariantDocument, invariant_data, invariants_of
from traincheck.json_file import DocumentError, Strict, check_header, parse, validated
from traincheck.report.verdict import verdict

KIND: Final = "traincheck-report"


class _Violation(Strict):
    id: str
    code: str
    text: str
    step: int
    rank: int
    names: list[str]
    expected: str
    seen: str
    api: str
    site: str


class _Finding(Strict):
    code: str
    title: str
    severity: Severity
    message: str
    step: int
    last_step: int
    steps: int
    rank: int
    run: str
    why_silent: str
    fix: str
    violations: list[_Violation]


class _Listed(Strict):
    id: str
    code: str
    text: str


class _Report(Strict):
    schema_version: int
    kind: Literal["traincheck-report"]
    verdict: Literal["clean", "violations", "not checked"]
    findings: list[_Finding]
    exercised: int
    held: list[_Listed]
    violated: list[_Listed]
    not_exercised: list[_Listed]
    abstained: list[_Listed]
    steps: int = Field(ge=0)
    skipped_steps: int = Field(ge=0)
    notes: list[str]
    invariants: list[InvariantDocument]


def dump(result: CheckResult) -> str:
    """``result`` as JSON. Every invariant that it speaks of stands in full under ``invariants``, once."""
    everything = (*result.violated, *result.held, *result.not_exercised, *result.abstained)
    named = (violation.invariant for finding in result.findings for violation in finding.violations)
    document = {
        "schema_version": REPORT_SCHEMA_VERSION,
        "kind": KIND,
        "verdict": verdict(result),
        "findings": [_finding_data(finding) for finding in result.findings],
        "exercised": result.exercised,
        "held": _listed(result.held),
        "violated": _listed(result.violated),
        "not_exercised": _listed(result.not_exercised),
        "abstained": _listed(result.abstained),
        "steps": result.steps,
        "skipped_steps": result.skipped_steps,
        "notes": list(result.notes),
        "invariants": [
            invariant_data(invariant)
            for invariant in {invariant.id: invariant for invariant in (*everything, *named)}.values()
        ],
    }
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def load(text: str, name: str = "the report") -> CheckResult:
    """The inverse of :func:`dump`; ``name`` is what errors call the text. Raises :class:`DocumentError`."""
    data = parse(text, name)
    check_header(data, name, kind=KIND, version=REPORT_SCHEMA_VERSION)
    report = validated(_Report, data, name)
    known = {invariant.id: invariant for invariant in invariants_of(report.invariants, name)}
    try:
        return CheckResult(
            findings=tuple(_finding(finding, known) for finding in report.findings),
            held=_found(report.held, known),
            violated=_found(report.violated, known),
            not_exercised=_found(report.not_exercised, known),
            abstained=_found(report.abstained, known),
            steps=report.steps,
            skipped_steps=report.skipped_steps,
            notes=tuple(report.notes),
        )
    except KeyError as error:
        raise DocumentError(f"{name}: it speaks of the invariant {error}, which is not among its invariants") from error


def _listed(invariants: Iterable[Invariant]) -> list[dict[str, str]]:
    return [{"id": invariant.id, "code": invariant.code, "text": invariant.text} for invariant in invariants]


def _finding_data(finding: Finding) -> dict[str, object]:
    return {
        "code": finding.code,
        "title": finding.title,
        "severity": finding.severity,
        "message": finding.message,
        "step": finding.step,
        "last_step": finding.last_step,
        "steps": finding.steps,
        "rank": finding.rank,
        "run": finding.run,
        "why_silent": finding.why_silent,
        "fix": finding.fix,
        "violations": [_violation_data(violation) for violation in finding.violations],
    }


def _violation_data(violation: Violation) -> dict[str, object]:
    return {
        "id": violation.invariant.id,
        "code": violation.invariant.code,
        "text": violation.invariant.text,
        "step": violation.step,
        "rank": violation.rank,
        "names": list(violation.names),
        "expected": violation.expected,
        "seen": violation.seen,
        "api": violation.api,
        "site": violation.site,
    }


def _finding(finding: _Finding, known: dict[str, Invariant]) -> Finding:
    return Finding(
        code=finding.code,
        title=finding.title,
        severity=finding.severity,
        message=finding.message,
        step=finding.step,
        rank=finding.rank,
        last_step=finding.last_step,
        steps=finding.steps,
        why_silent=finding.why_silent,
        fix=finding.fix,
        violations=tuple(_violation(violation, known) for violation in finding.violations),
        run=finding.run,
    )


def _violation(violation: _Violation, known: dict[str, Invariant]) -> Violation:
    return Violation(
        invariant=known[violation.id],
        step=violation.step,
        rank=violation.rank,
        names=tuple(violation.names),
        expected=violation.expected,
        seen=violation.seen,
        api=violation.api,
        site=violation.site,
    )


def _found(listed: list[_Listed], known: dict[str, Invariant]) -> tuple[Invariant, ...]:
    return tuple(known[entry.id] for entry in listed)
