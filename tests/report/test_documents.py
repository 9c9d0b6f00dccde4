"""What machines read: JSON that reads back, SARIF, JUnit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest

from traincheck.errors import UserError
from traincheck.findings import CheckResult
from traincheck.report import json_document, junit, sarif
from traincheck.report.combined import combined


def loads(text: str) -> Any:
    """Strict JSON: no NaN, no Infinity."""

    def refuse(name: str) -> None:
        raise AssertionError(name)

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("name", ["bad", "clean", "unchecked", "hostile"])
def test_json_reads_back(name: str, request: pytest.FixtureRequest) -> None:
    text = json_document.dump(request.getfixturevalue(name))

    assert text == json_document.dump(json_document.load(text))


def test_what_is_read_back_is_what_was_written(hostile: CheckResult) -> None:
    read = json_document.load(json_document.dump(hostile))

    assert hostile.findings[0].violations[0].names == read.findings[0].violations[0].names
    assert hostile.findings[0].run == read.findings[0].run
    assert [invariant.id for invariant in hostile.violated] == [invariant.id for invariant in read.violated]


def test_json_has_the_fields_that_scripts_rely_on(bad: CheckResult) -> None:
    document = loads(json_document.dump(bad))

    assert "violations" == document["verdict"]
    assert 6 == document["exercised"]
    assert ["UPD000", "UPD001", "UPD002", "UPD003"] == [entry["code"] for entry in document["violated"][:4]]
    assert [1, 1, 1] == [len(document[name]) for name in ("held", "not_exercised", "abstained")]
    first = document["findings"][0]
    assert ["UPD000", "Title of UPD000", "error", 3, 1] == [
        first[name] for name in ("code", "title", "severity", "step", "rank")
    ]
    assert {"id", "code", "text", "step", "rank", "names", "expected", "seen", "api", "site"} == set(
        first["violations"][0]
    )


@pytest.mark.parametrize(("name", "word"), [("bad", "violations"), ("clean", "clean"), ("unchecked", "not checked")])
def test_every_document_tells_the_verdict(name: str, word: str, request: pytest.FixtureRequest) -> None:
    result = request.getfixturevalue(name)

    assert word == loads(json_document.dump(result))["verdict"]
    assert word == loads(sarif.dump(result))["runs"][0]["properties"]["verdict"]


BROKEN: dict[str, tuple[Callable[[Any], object], str]] = {
    "an unknown field": (lambda data: data.update(extra=1), "extra: unknown field"),
    "another kind": (lambda data: data.update(kind="traincheck-invariants"), "not of kind 'traincheck-report'"),
    "newer": (lambda data: data.update(schema_version=99), "schema_version 99"),
    "an unknown invariant": (lambda data: data.update(invariants=[]), "which is not among its invariants"),
    "a wrong severity": (lambda data: data["findings"][0].update(severity="fatal"), "findings[0].severity"),
    "an edited invariant": (lambda data: data["invariants"][0].update(id="0"), "invariants[0].id"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_damaged_document_is_refused(bad: CheckResult, name: str) -> None:
    edit, reason = BROKEN[name]
    document = loads(json_document.dump(bad))
    edit(document)

    with pytest.raises(UserError) as refusal:
        json_document.load(json.dumps(document))

    assert reason in str(refusal.value)


def test_sarif_names_rules_levels_and_places(bad: CheckResult) -> None:
    log = loads(sarif.dump(bad))
    (run,) = log["runs"]
    rules, results = run["tool"]["driver"]["rules"], run["results"]

    assert "2.1.0" == log["version"]
    assert 8 == len(rules)
    assert all(result["ruleId"] == rules[result["ruleIndex"]]["id"] for result in results)
    assert ["error", "error"] == [result["level"] for result in results]
    assert 3 == results[0]["properties"]["step"]
    (location,) = results[0]["locations"]
    assert [{"fullyQualifiedName": "torch.optim.SGD.step", "kind": "function"}] == location["logicalLocations"]
    place = {"artifactLocation": {"uri": "train.py"}, "region": {"startLine": 31}}
    assert place == location["physicalLocation"]
    assert [True] == [invocation["executionSuccessful"] for invocation in run["invocations"]]


@pytest.mark.parametrize(
    "site", ["", ":", "train.py", "train.py:", ":3", f"train.py:{'9' * 5000}", "train.py:³", "a:b:-1"]
)
def test_a_place_that_is_none_is_left_out_of_sarif(bad: CheckResult, site: str) -> None:
    first, *others = bad.findings
    cause = replace(first.violations[0], site=site)
    changed = replace(bad, findings=(replace(first, violations=(cause,)), *others))

    (location,) = loads(sarif.dump(changed))["runs"][0]["results"][0]["locations"]
    assert ["logicalLocations"] == list(location)


def test_sarif_tells_an_unchecked_run_as_unsuccessful(unchecked: CheckResult) -> None:
    (invocation,) = loads(sarif.dump(unchecked))["runs"][0]["invocations"]

    assert not invocation["executionSuccessful"]
    assert invocation["toolExecutionNotifications"][0]["message"]["text"].startswith("NOT CHECKED")


def test_junit_has_one_case_per_invariant(bad: CheckResult) -> None:
    root = ElementTree.fromstring(junit.dump(bad).encode())
    (suite,) = root

    assert ("8", "5", "0", "2") == tuple(suite.attrib[name] for name in ("tests", "failures", "errors", "skipped"))
    assert 8 == len(suite.findall("testcase"))
    assert 5 == len(suite.findall("testcase/failure"))
    assert 2 == len(suite.findall("testcase/skipped"))
    text = suite.findall("testcase/failure")[0].text or ""
    assert "What to do: How to fix UPD000." in text


def test_junit_makes_an_unchecked_run_an_error(unchecked: CheckResult) -> None:
    (suite,) = ElementTree.fromstring(junit.dump(unchecked).encode())

    assert "1" == suite.attrib["errors"]
    assert 1 == len(suite.findall("testcase/error"))


def test_hostile_names_leave_the_documents_whole(hostile: CheckResult) -> None:
    ElementTree.fromstring(junit.dump(hostile).encode())
    (result,) = loads(sarif.dump(hostile))["runs"][0]["results"]

    assert hostile.findings[0].message == result["message"]["text"]


def test_several_runs_are_one_result(bad: CheckResult, clean: CheckResult) -> None:
    both = combined([("a", bad), ("b", clean), ("c", bad)])

    assert ["a", "a", "c", "c"] == [finding.run for finding in both.findings]
    assert bad.violated == both.violated
    assert ["HLD005"] == [invariant.code for invariant in both.held]
    assert 120 == both.steps
    assert ("a: The pack does not fit.", "c: The pack does not fit.") == both.notes


def test_a_single_run_is_left_as_it_is(bad: CheckResult) -> None:
    assert bad is combined([("a", bad)])
