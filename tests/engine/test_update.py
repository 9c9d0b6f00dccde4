"""Evidence that is kept and merged later gives what reading all traces at once gives."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.test_sharing import script_of, write
from traincheck.evidence import Case, Gatherer, Place, Run, Source, Summary, Tally, merged
from traincheck.evidence_file import evidence_path, load_evidence, save_evidence
from traincheck.held_out import MAX_GROUPS, grouped, held_out
from traincheck.infer import Inference, infer
from traincheck.json_file import DocumentError
from traincheck.values import Value, fields


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Traces of which some refute what the others teach."""
    folder = tmp_path_factory.mktemp("traces")
    faults = ([0] * 8, [0] * 6 + [1], [0, 0, 2, 0, 0, 0], [3] * 6, [0, 4] * 4, [0] * 7)
    return [str(write(folder / f"run{seed}", script_of(steps, seed))) for seed, steps in enumerate(faults)]


def told(inference: Inference) -> tuple[object, ...]:
    """Everything that inference says."""
    return inference.invariants, inference.dropped, inference.runs, inference.evidence


@given(st.permutations(range(6)), st.sets(st.integers(1, 5)))
@settings(max_examples=12, deadline=None)
def test_updating_in_any_order_gives_the_same_as_all_at_once(
    places: list[str], order: list[int], cuts: set[int]
) -> None:
    shuffled = [places[number] for number in order]
    known: Sequence[Summary] = ()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "evidence.json.gz"
        for start, end in zip((0, *sorted(cuts)), (*sorted(cuts), 6), strict=True):
            inference = infer(shuffled[start:end], known=known)
            save_evidence(path, inference.evidence)
            known = load_evidence(path)

    assert told(infer(places)) == told(inference)


def test_an_update_that_refutes_drops_what_was_inferred(places: list[str]) -> None:
    before = infer(places[:1])
    after = infer(places[1:2], known=before.evidence)

    assert {invariant.id for invariant in before.invariants} - {invariant.id for invariant in after.invariants}


def test_a_trace_counts_once(places: list[str]) -> None:
    once = infer(places[:2])
    again = infer([places[1], places[0], places[1]], known=once.evidence)

    assert told(once) == told(again)
    assert (places[1], places[0], places[1]) == again.repeated


runs = st.lists(
    st.tuples(st.integers(0, 200), st.integers(0, 90)), min_size=1, max_size=120, unique_by=lambda run: run[0]
)


@given(runs, st.randoms(use_true_random=False), st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_groups_follow_from_the_runs_alone(
    numbers: list[tuple[int, int]], random: Any, single_program: bool
) -> None:
    summaries = [_tiny(number, 0 if single_program else program) for number, program in numbers]
    shuffled = list(summaries)
    random.shuffle(shuffled)
    step_by_step: list[Summary] = []
    for summary in shuffled:
        step_by_step = grouped([*step_by_step, summary])

    assert grouped(summaries) == step_by_step
    assert len(step_by_step) <= MAX_GROUPS
    assert merged(summaries) == merged(step_by_step)
    if len(numbers) <= MAX_GROUPS and len({summary.runs[0].program for summary in summaries}) == 1:
        assert len(summaries) == len(step_by_step)


def _tiny(number: int, program: int) -> Summary:
    case = Case({(("number", number % 3),): Tally(1, 0, 1, 0, 1)}, [], 1, frozenset({f"train{program}.py"}))
    run = Run(f"run{number}", f"train{program}.py", 1, 1, (), f"{number:016x}")
    return Summary({("Cadence", "any"): case}, (run,))


values: st.SearchStrategy[Value] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=5,
)
contexts = st.dictionaries(st.text(max_size=5), values, max_size=3).map(fields)


@given(st.lists(contexts, max_size=5, unique_by=repr), st.booleans())
@settings(deadline=None)
def test_every_value_comes_back_as_what_it_was(found: list[Any], given_up: bool) -> None:
    gatherer = Gatherer(Source("run", "train.py", (("torch", "2.13.0"),), "0123456789abcdef"))
    for window in script_of([0] * 3).windows():
        gatherer.add(window)
    summary = gatherer.summary()
    case = next(iter(summary.cases.values()))
    case.contexts = {context: Tally(*range(5)) for context in found}
    case.places = [Place("run", 3, 0, "\u20ac \U0001f600 \x00")]
    case.given_up = given_up
    with tempfile.TemporaryDirectory() as folder:
        save_evidence(Path(folder) / "e", [summary])
        (read,) = load_evidence(Path(folder) / "e")

    assert [exact(case) for case in summary.cases.values()] == [exact(read.cases[name]) for name in summary.cases]
    assert summary.runs == read.runs


def exact(case: Case) -> tuple[object, ...]:
    """All of it; repr tells True from 1 from 1.0, and one NaN is as good as another."""
    return sorted(map(repr, case.contexts.items())), case.places, case.runs, case.programs, case.given_up


def test_each_group_is_held_out_from_all_others() -> None:
    groups = [_tiny(number, 0) for number in range(5)]

    expected = [merged(group for group in groups if group is not left) for left in groups]
    assert groups == [group for group, _ in held_out(groups)]
    assert expected == [others for _, others in held_out(groups)]


def test_equal_evidence_gives_equal_bytes(places: list[str], tmp_path: Path) -> None:
    for number, order in enumerate((places, places[::-1])):
        save_evidence(tmp_path / str(number), infer(order).evidence)

    assert (tmp_path / "0").read_bytes() == (tmp_path / "1").read_bytes()


@pytest.fixture
def kept(places: list[str], tmp_path: Path) -> Path:
    path = evidence_path(tmp_path / "invariants.json")
    save_evidence(path, infer(places[:2]).evidence)
    return path


def test_it_lies_beside_the_invariants(kept: Path) -> None:
    assert "invariants.evidence.json.gz" == kept.name


def refusal(path: Path) -> str:
    with pytest.raises(DocumentError) as caught:
        load_evidence(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\x1f\x8b", gzip.compress(b"\xff", mtime=0), gzip.compress(b"[", mtime=0)]
)
def test_what_is_no_compressed_document_is_refused(kept: Path, content: bytes) -> None:
    kept.write_bytes(content)

    refusal(kept)


def test_a_file_that_is_cut_off_is_refused(kept: Path) -> None:
    kept.write_bytes(kept.read_bytes()[:-20])

    refusal(kept)


@pytest.mark.parametrize(
    ("path", "value", "place"),
    [
        (["schema_version"], 2, "schema_version 2"),
        (["schema_version"], True, "schema_version"),
        (["kind"], "traincheck-invariants", "kind"),
        (["traincheck"], "0.0.1", "gathered by traincheck 0.0.1"),
        (["new"], 1, "new: unknown field"),
        (["groups", 0, "runs"], [], "groups[0].runs"),
        (["groups", 0, "runs", 0, "steps"], -1, "groups[0].runs[0].steps"),
        (["groups", 0, "cases", 1, "relation"], "Magic", "groups[0].cases[1].relation"),
        (["groups", 0, "cases", 1, "subject"], {}, "groups[0].cases[1].subject"),
        (["groups", 0, "cases", 1, "given_up"], 1, "groups[0].cases[1].given_up"),
        (["groups", 0, "cases", 0, "contexts"], [{}], "groups[0].cases[0].contexts[0].fields"),
        (["groups", 0, "cases", 0, "programs"], [1], "groups[0].cases[0].programs[0]"),
    ],
)
def test_a_damaged_field_is_named(kept: Path, path: list[Any], value: object, place: str) -> None:
    document = json.loads(gzip.decompress(kept.read_bytes()))
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    kept.write_bytes(gzip.compress(json.dumps(document).encode()))

    assert place in refusal(kept)


def test_a_hypothesis_stands_in_a_group_once(kept: Path) -> None:
    document = json.loads(gzip.decompress(kept.read_bytes()))
    document["groups"][0]["cases"].append(document["groups"][0]["cases"][0])
    kept.write_bytes(gzip.compress(json.dumps(document).encode()))

    assert "repeats a hypothesis" in refusal(kept)
