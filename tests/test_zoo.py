"""Packs of the zoo: how they are found, read, curated and refused, and what the shipped ones promise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from traincheck.errors import UserError
from traincheck.invariant import Evidence, Invariant
from traincheck.invariant_file import Provenance, dump_invariants
from traincheck.precondition import ALWAYS
from traincheck.zoo import all_codes, explain, fits, load_pack, pack_names, read_curation, read_index


def invariant(child: str) -> Invariant:
    subject = {"parent": "optimizer.step", "child": child, "how": "some"}
    return Invariant("EventContain", subject, ALWAYS, f"A step contains {child}.", Evidence(40, 40, 2, 2, 0.99))


STEPS, LOSSES, OTHER = invariant("change:param"), invariant("loss"), invariant("backward")


def entry(of: Invariant, code: str) -> dict[str, Any]:
    return {
        "relation": of.relation,
        "subject": dict(of.subject),
        "code": code,
        "title": f"Title of {code}",
        "severity": "error",
        "why_silent": "Why.",
        "fix": "How.",
    }


def index(framework: str, version: str) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "kind": "traincheck-pack",
        "framework": framework,
        "version": version,
        "created": "2026-01-02",
        "recipes": [{"recipe": "a.py", "args": ["--seed", "1"]}],
        "inferred_with": {"torch": "2.13.0"},
        "versions": {"torch": ">=2.0,<3"},
    }


def curation(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"schema_version": 1, "kind": "traincheck-curation", "invariants": list(entries)}


def write_pack(root: Path, framework: str, version: str, *entries: dict[str, Any]) -> Path:
    folder = root / framework / version
    folder.mkdir(parents=True)
    (folder / "pack.json").write_text(json.dumps(index(framework, version)))
    (folder / "curation.json").write_text(json.dumps(curation(*entries)))
    (folder / "invariants.json").write_text(dump_invariants([OTHER, STEPS, LOSSES], Provenance("2026-01-02", "0")))
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_pack(tmp_path, "pytorch", "0.2", entry(STEPS, "UPD001"))
    write_pack(tmp_path, "pytorch", "0.10", entry(LOSSES, "LOS001"), entry(STEPS, "UPD001"))
    write_pack(tmp_path, "lightning", "1.0", entry(STEPS, "UPD002"))
    (tmp_path / "__pycache__").mkdir()
    return tmp_path


def test_packs_are_listed_the_newest_version_first(root: Path) -> None:
    assert ("lightning@1.0", "pytorch@0.10", "pytorch@0.2") == pack_names(root)


def test_only_curated_invariants_ship_in_the_order_of_their_curation(root: Path) -> None:
    pack = load_pack("pytorch", root)

    assert "pytorch@0.10" == pack.name
    assert ["LOS001", "UPD001"] == [found.code for found in pack.invariants]
    assert [0, 1] == [found.priority for found in pack.invariants]
    assert [LOSSES.id, STEPS.id] == [found.id for found in pack.invariants]


def test_a_version_is_found_by_its_name(root: Path) -> None:
    assert ["UPD001"] == [found.code for found in load_pack("pytorch@0.2", root).invariants]


@pytest.mark.parametrize("name", ["theano", "pytorch@0.3", "../pytorch", "", "@0.2", "pytorch@../0.2"])
def test_an_unknown_pack_is_told_with_those_that_exist(root: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"there are: lightning@1.0, pytorch@0.10, pytorch@0.2"):
        load_pack(name, root)


@pytest.mark.parametrize(("torch", "fitting"), [("2.13.0+cpu", True), ("2.0.0", True), ("1.13.1", False), ("x", True)])
def test_a_run_outside_of_what_a_pack_holds_for_is_told(root: Path, torch: str, fitting: bool) -> None:
    note = fits(load_pack("pytorch", root), {"torch": torch})

    assert fitting == (note is None)
    assert note is None or f"holds for torch >=2.0,<3; this run has torch {torch}." in note


def test_a_run_that_does_not_tell_its_versions_fits(root: Path) -> None:
    assert fits(load_pack("pytorch", root), {}) is None


def test_a_code_is_explained_whatever_its_case(root: Path) -> None:
    (found,) = explain("los001", root)

    assert "Title of LOS001" == found.title


def test_an_unknown_code_is_told_with_the_nearest(root: Path) -> None:
    with pytest.raises(UserError, match="the code 'UPD009'; nearest: UPD00"):
        explain("UPD009", root)


def test_codes_are_those_of_the_newest_packs(root: Path) -> None:
    assert ("LOS001", "UPD001", "UPD002") == all_codes(root)


BROKEN: dict[str, tuple[str, Callable[[Any], object], str]] = {
    "a wrong range": ("pack.json", lambda data: data["versions"].update(torch="two"), "versions.torch: 'two' is not a"),
    "another place": ("pack.json", lambda data: data.update(version="9"), "says that it is pytorch@9"),
    "a newer pack": ("pack.json", lambda data: data.update(schema_version=2), "reads up to 1"),
    "an unknown severity": (
        "curation.json",
        lambda data: data["invariants"][0].update(severity="fatal"),
        "invariants[0].severity: input should be 'error' or 'warning'",
    ),
    "no way out": ("curation.json", lambda data: data["invariants"][0].update(fix=""), "invariants[0].fix"),
    "an unknown relation": (
        "curation.json",
        lambda data: data["invariants"][1].update(relation="Often"),
        "invariants[1].relation: there is no relation 'Often'",
    ),
    "the same twice": (
        "curation.json",
        lambda data: data["invariants"].append(data["invariants"][0]),
        "invariants[2] repeats the relation and subject",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_damaged_pack_is_refused_with_its_place(root: Path, name: str) -> None:
    file_name, edit, reason = BROKEN[name]
    path = root / "pytorch" / "0.10" / file_name
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))

    with pytest.raises(UserError) as refusal:
        load_pack("pytorch@0.10", root)

    assert reason in str(refusal.value)
    assert str(path) in str(refusal.value)


def test_a_pack_without_its_invariants_is_refused(root: Path) -> None:
    (root / "pytorch" / "0.10" / "invariants.json").unlink()

    with pytest.raises(UserError, match=r"invariants.json cannot be read"):
        load_pack("pytorch", root)


@pytest.fixture(params=pack_names())
def shipped(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_every_curated_entry_of_a_shipped_pack_was_inferred(shipped: str) -> None:
    framework, _, version = shipped.partition("@")
    zoo = Path(__file__).parent.parent / "invariants_zoo"
    bases = [zoo / name / load_pack(name).index.version for name in read_index(zoo / framework / version).builds_on]
    entries = [entry for folder in [*bases, zoo / framework / version] for entry in read_curation(folder)]

    assert {entry.code for entry in entries} == {found.code for found in load_pack(shipped).invariants}


def test_shipped_texts_are_whole_sentences(shipped: str) -> None:
    for found in load_pack(shipped).invariants:
        assert found.curation is not None
        for text in (found.curation.why_silent, found.curation.fix, found.text):
            assert text[0].isupper() or set(text.split()[0]) & set("_()."), (found.code, text)
            assert text.endswith("."), (found.code, text)
        assert not found.title.endswith("."), found.code


def test_shipped_codes_are_letters_and_digits(shipped: str) -> None:
    for found in load_pack(shipped).invariants:
        assert found.code[:3].isupper(), found.code
        assert found.code[3:].isdigit(), found.code
