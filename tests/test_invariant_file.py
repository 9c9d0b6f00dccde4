"""Files of invariants: what is written is read back, and what is not ours is refused with one line."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from traincheck.errors import UserError
from traincheck.invariant import Curation, Evidence, Invariant
from traincheck.invariant_file import (
    Provenance,
    SourceRun,
    check_subject,
    dump_invariants,
    load_invariants,
    parse_invariants,
    save_invariants,
)
from traincheck.json_file import MAX_SIZE_BYTES
from traincheck.precondition import ALWAYS, Clause, Precondition
from traincheck.relations import RELATIONS
from traincheck.values import Value, identity

PROVENANCE = Provenance("2026-01-02T03:04:05+00:00", "0.1.0", (SourceRun("python a.py", 40, {"torch": "2.13.0"}),))

STEPPED = Invariant(
    relation="EventContain",
    subject={"parent": "optimizer.step", "child": "change:param", "how": "some"},
    precondition=ALWAYS,
    text="an optimizer step changes at least one of the parameters it works on",
    evidence=Evidence(examples=40, steps=40, runs=1, programs=1, confidence=0.99),
)

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words,
    lambda items: st.lists(items, max_size=3).map(tuple),
    max_leaves=4,
)
clauses = st.builds(Clause, words, st.sampled_from(["constant", "consistent", "unequal", "exist"]), values)
preconditions = st.builds(
    Precondition, st.lists(st.lists(clauses, max_size=3).map(tuple), min_size=1, max_size=3).map(tuple)
)
evidence = st.builds(
    Evidence,
    examples=st.integers(0),
    steps=st.integers(0),
    runs=st.integers(0),
    programs=st.integers(0),
    confidence=st.floats(0, 1),
    excluded=st.integers(0),
)
curations = st.builds(
    Curation, words.filter(bool), words.filter(bool), st.sampled_from(["error", "warning"]), words, words
)


def fits(name: str, subject: Mapping[str, Value]) -> bool:
    try:
        check_subject(name, subject)
    except ValueError:
        return False
    return True


@st.composite
def invariants(draw: st.DrawFn) -> Invariant:
    relation = draw(st.sampled_from(RELATIONS))
    subject = draw(st.from_type(relation.subject_type).map(dataclasses.asdict).filter(lambda s: fits(relation.name, s)))
    return Invariant(
        relation.name,
        subject,
        draw(preconditions),
        draw(words),
        draw(evidence),
        draw(st.dictionaries(words, st.lists(values, max_size=3).map(tuple), max_size=2)),
        draw(st.none() | curations),
        draw(st.none() | st.integers(0)),
    )


def plain(value: Any) -> object:
    """A stand-in under which NaN equals itself, and ``1``, ``1.0`` and ``True`` do not equal each other."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return (
            type(value).__name__,
            [plain(getattr(value, member.name)) for member in dataclasses.fields(value)],
        )
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return identity(value)


@given(st.lists(invariants(), max_size=4, unique_by=lambda invariant: invariant.id))
def test_what_is_written_is_read_back(written: list[Invariant]) -> None:
    text = dump_invariants(written, PROVENANCE)

    read = parse_invariants(text, "a file")

    assert plain(written) == plain(read)
    assert text == dump_invariants(read, PROVENANCE)


def test_a_file_is_written_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "invariants.json"
    path.write_text("what was there")

    save_invariants(path, [STEPPED], PROVENANCE)

    assert [STEPPED] == load_invariants(path)
    assert [path] == list(tmp_path.iterdir())


def test_non_finite_numbers_survive() -> None:
    clause = Clause("norm", "constant", (math.nan, -math.inf))
    written = dataclasses.replace(STEPPED, precondition=Precondition(((clause,),)))

    text = dump_invariants([written], PROVENANCE)

    assert "NaN" not in text
    assert plain([written]) == plain(parse_invariants(text, "a file"))


def document() -> Any:
    return json.loads(dump_invariants([STEPPED], PROVENANCE))


def edited(edit: Callable[[Any], object]) -> str:
    data = document()
    edit(data)
    return json.dumps(data)


REFUSED: dict[str, tuple[str, str]] = {
    "not JSON": ("{\n  nothing", "line 2 column 3"),
    "cut off": (dump_invariants([STEPPED], PROVENANCE)[:200], "is not JSON: line"),
    "not a number in JSON": ('{"kind": NaN}', "NaN is not JSON"),
    "a list": ("[1]", "expected a JSON object, found a list"),
    "empty": ("", "line 1 column 1"),
    "too deep": ("[" * 100_000, "nested too deeply"),
    "a manifest": ('{"command": [], "started_at": "", "schema_version": 1}', "looks like the manifest of a trace"),
    "a report": ('{"findings": [], "verdict": "clean"}', "looks like a report of traincheck-check"),
    "JSON Lines": ('{"relation": "x"}\n{"relation": "y"}\n', "JSON Lines"),
    "another tool": ('{"relation": "x", "params": []}', "of another tool"),
    "another kind": (edited(lambda data: data.update(kind="recipe")), "its field 'kind' is 'recipe'"),
    "newer": (edited(lambda data: data.update(schema_version=2)), "reads up to 1. Upgrade with: pip install -U"),
    "no version": (edited(lambda data: data.pop("schema_version")), "schema_version is None; expected 1"),
    "true as version": (edited(lambda data: data.update(schema_version=True)), "schema_version is True; expected 1"),
    "no list": (edited(lambda data: data.pop("invariants")), "invariants: this field is missing"),
    "an unknown field": (edited(lambda data: data["invariants"][0].update(x=1)), "invariants[0].x: unknown field"),
    "a wrong type": (
        edited(lambda data: data["invariants"][0]["evidence"].update(steps="40")),
        "invariants[0].evidence.steps: input should be a valid integer",
    ),
    "a wrong test": (
        edited(lambda data: data["invariants"][0].update(precondition=[[{"field": "a", "test": "b", "value": 1}]])),
        "invariants[0].precondition[0][0].test: input should be 'constant'",
    ),
    "no recorded value": (
        edited(lambda data: data["invariants"][0]["domain"].update(stage=[{"__import__": "os"}])),
        "invariants[0].domain.stage[0]: not a recorded value",
    ),
    "a precondition that never holds": (
        edited(lambda data: data["invariants"][0].update(precondition=[])),
        "invariants[0].precondition: list should have at least 1 item",
    ),
    "an unknown relation": (
        edited(lambda data: data["invariants"][0].update(relation="Eventually")),
        "invariants[0].relation: there is no relation 'Eventually'; there are APIArg, APIOutput",
    ),
    "an unknown subject field": (
        edited(lambda data: data["invariants"][0]["subject"].update(color="red")),
        "invariants[0].subject.color: unknown field; EventContain has parent, child, how",
    ),
    "a missing subject field": (
        edited(lambda data: data["invariants"][0]["subject"].pop("child")),
        "invariants[0].subject.child: this field is missing",
    ),
    "a wrong subject value": (
        edited(lambda data: data["invariants"][0]["subject"].update(how="perhaps")),
        "invariants[0].subject.how: input should be 'some'",
    ),
    "a subject that the relation cannot tell": (
        edited(lambda data: data["invariants"][0]["subject"].update(child="change:nothing")),
        "invariants[0].subject: not a subject that EventContain knows",
    ),
    "an edited invariant": (
        edited(lambda data: data["invariants"][0]["subject"].update(how="every")),
        "invariants[0].id is",
    ),
    "the same twice": (
        edited(lambda data: data["invariants"].append(data["invariants"][0])),
        "invariants[1] repeats the id",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_not_ours_is_refused_with_one_line(tmp_path: Path, name: str) -> None:
    text, reason = REFUSED[name]
    path = tmp_path / "invariants.json"
    path.write_text(text)

    with pytest.raises(UserError) as refusal:
        load_invariants(path)

    assert reason in str(refusal.value)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: No such file"):
        load_invariants(tmp_path / "missing.json")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "invariants.json"
    path.write_bytes(b'{"kind": "\xff"}')

    with pytest.raises(UserError, match=r"not UTF-8 text \(at byte 10\)"):
        load_invariants(path)


def test_a_trace_is_told_apart_from_invariants(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").touch()

    with pytest.raises(UserError, match="is a trace, not a file of invariants"):
        load_invariants(tmp_path)


def test_a_huge_file_is_refused_unparsed(tmp_path: Path) -> None:
    path = tmp_path / "invariants.json"
    with path.open("wb") as file:
        file.truncate(MAX_SIZE_BYTES + 1)

    with pytest.raises(UserError, match="larger than 64 MB"):
        load_invariants(path)


def test_a_directory_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        save_invariants(tmp_path / "missing" / "invariants.json", [STEPPED], PROVENANCE)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with pytest.raises(UserError):
        parse_invariants(text, "a file")
