"""The verdict as JUnit XML, which every CI system shows: one test case per invariant."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from traincheck.findings import CheckResult, Finding, Violation
from traincheck.invariant import Invariant
from traincheck.report.verdict import (
    first_violations,
    headline,
    name_list,
    place,
    printable,
    states,
    verdict,
)


def dump(result: CheckResult) -> str:
    """``result`` as XML: violated is a failure, not exercised and abstained are skipped, unchecked is an error."""
    unchecked = verdict(result) == "not checked"
    cases = states(result)
    violated = len(result.violated)
    counts = {
        "tests": str(len(cases) + unchecked),
        "failures": str(violated),
        "errors": str(int(unchecked)),
        "skipped": str(len(result.not_exercised) + len(result.abstained)),
    }
    root = Element("testsuites", counts)
    suite = SubElement(root, "testsuite", {"name": "traincheck", **counts})
    if unchecked:
        case = SubElement(suite, "testcase", {"classname": "traincheck", "name": "something was checked"})
        SubElement(case, "error", {"message": headline(result)})
    found = first_violations(result)
    for invariant, state in cases:
        _case(suite, invariant, state, found.get(invariant.id))
    if result.notes:
        SubElement(suite, "system-out").text = printable("\n".join(result.notes))
    indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{tostring(root, encoding="unicode")}\n'


def _case(suite: Element, invariant: Invariant, state: str, found: tuple[Finding, Violation] | None) -> None:
    name = f"{invariant.code} {invariant.title}"
    case = SubElement(
        suite, "testcase", {"classname": f"traincheck.{printable(invariant.relation)}", "name": printable(name)}
    )
    if state == "violated":
        message = found[1].seen if found else invariant.text
        failure = SubElement(case, "failure", {"message": printable(message), "type": _severity(invariant)})
        failure.text = printable(_failure(*found) if found else invariant.text)
    elif state != "held":
        SubElement(case, "skipped", {"message": state})


def _severity(invariant: Invariant) -> str:
    return invariant.curation.severity if invariant.curation else "error"


def _failure(finding: Finding, violation: Violation) -> str:
    cause = violation is finding.violations[0]
    lines = [finding.message if cause else f"Same cause as {finding.code}: {finding.title}", f"Where: {place(finding)}"]
    if finding.run:
        lines.append(f"Run: {finding.run}")
    lines += [f"Expected: {violation.expected}", f"Seen: {violation.seen}"]
    if violation.names:
        lines.append(f"Concerned: {name_list(violation.names)}")
    if cause and finding.fix:
        lines.append(f"What to do: {finding.fix}")
    return "\n".join(filter(None, lines))
