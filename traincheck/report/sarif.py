"""The verdict as SARIF 2.1.0 (OASIS), the format in which code hosts and editors show findings."""

from __future__ import annotations

import json
import re
from importlib.metadata import PackageNotFoundError, version
from typing import Final
from urllib.parse import quote

from traincheck.findings import CheckResult, Finding, Violation
from traincheck.invariant import Invariant
from traincheck.report.verdict import headline, verdict

SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def dump(result: CheckResult) -> str:
    """``result`` as one SARIF log with one run. A run that was not checked is told as an unsuccessful invocation."""
    rules = _rules(result)
    index = {rule["id"]: position for position, rule in enumerate(rules)}
    log = {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": {"name": "traincheck", "version": _version(), "rules": rules}},
                "invocations": [_invocation(result)],
                "results": [_result(finding, index) for finding in result.findings],
                "properties": {
                    "verdict": verdict(result),
                    "exercised": result.exercised,
                    "held": len(result.held),
                    "violated": len(result.violated),
                    "not_exercised": len(result.not_exercised),
                    "abstained": len(result.abstained),
                    "steps": result.steps,
                    "skipped_steps": result.skipped_steps,
                },
            }
        ],
    }
    return json.dumps(log, indent=2, allow_nan=False) + "\n"


_LINE: Final = re.compile("[0-9]{1,9}")


def _version() -> str:
    try:
        return version("traincheck-suite")
    except PackageNotFoundError:
        return "unknown"


def _rules(result: CheckResult) -> list[dict[str, object]]:
    invariants = (*result.violated, *result.held, *result.not_exercised, *result.abstained)
    by_code: dict[str, dict[str, object]] = {}
    for invariant in invariants:
        by_code.setdefault(invariant.code, _rule(invariant))
    for finding in result.findings:
        by_code.setdefault(finding.code, {"id": finding.code, "shortDescription": {"text": finding.title}})
    return list(by_code.values())


def _rule(invariant: Invariant) -> dict[str, object]:
    rule: dict[str, object] = {
        "id": invariant.code,
        "shortDescription": {"text": invariant.title},
        "fullDescription": {"text": invariant.text},
        "properties": {"relation": invariant.relation},
    }
    if invariant.curation:
        curation = invariant.curation
        rule["help"] = {"text": "\n\n".join(filter(None, (curation.why_silent, curation.fix))) or curation.title}
        rule["defaultConfiguration"] = {"level": curation.severity}
    return rule


def _invocation(result: CheckResult) -> dict[str, object]:
    checked = verdict(result) != "not checked"
    notes = [{"level": "warning", "message": {"text": note}} for note in result.notes]
    if not checked:
        notes.insert(0, {"level": "error", "message": {"text": headline(result)}})
    return {"executionSuccessful": checked, "toolExecutionNotifications": notes}


def _location(cause: Violation) -> dict[str, object]:
    location: dict[str, object] = {}
    file, _, line = cause.site.rpartition(":")
    if file and _LINE.fullmatch(line):  # a trace may hold anything there
        place = {"artifactLocation": {"uri": quote(file)}, "region": {"startLine": int(line)}}
        location["physicalLocation"] = place
    if cause.api:
        location["logicalLocations"] = [{"fullyQualifiedName": cause.api, "kind": "function"}]
    return location


def _result(finding: Finding, index: dict[object, int]) -> dict[str, object]:
    properties: dict[str, object] = {
        "title": finding.title,
        "step": finding.step,
        "last_step": finding.last_step,
        "steps": finding.steps,
        "rank": finding.rank,
        "run": finding.run,
        "violations": [violation.invariant.code for violation in finding.violations],
    }
    result: dict[str, object] = {
        "ruleId": finding.code,
        "ruleIndex": index[finding.code],
        "level": finding.severity,
        "message": {"text": finding.message or finding.title},
        "properties": properties,
    }
    if finding.violations:
        cause = finding.violations[0]
        properties |= {"names": list(cause.names), "expected": cause.expected, "seen": cause.seen}
        result["partialFingerprints"] = {"invariantId/v1": cause.invariant.id}
        location = _location(cause)
        if location:
            result["locations"] = [location]
    return result
