"""What is inferred from a run holds on it, was exercised by it, reads as a sentence, and catches faults once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.script import NAMES, Script, clean_run
from traincheck.check import Checker
from traincheck.evidence import Gatherer, Source, Summary, merged
from traincheck.findings import CheckResult
from traincheck.infer import Inference, conclude, learn
from traincheck.invariant import Invariant


def summary(script: Script, name: str = "run", program: str = "train.py") -> Summary:
    gatherer = Gatherer(Source(name, program))
    for window in script.windows():
        gatherer.add(window)
    return gatherer.summary()


def check(script: Script, invariants: tuple[Invariant, ...]) -> CheckResult:
    checker = Checker(invariants)
    for window in script.windows():
        checker.add(window)
    return checker.result()


@pytest.fixture(scope="module")
def inference() -> Inference:
    return conclude(summary(clean_run()))


def test_a_run_never_violates_what_was_inferred_from_it_and_exercises_all(inference: Inference) -> None:
    result = check(clean_run(), inference.invariants)

    assert () == result.findings
    assert () == result.not_exercised + result.abstained
    assert len(inference.invariants) == len(result.held) > 10


def test_every_invariant_reads_as_a_sentence(inference: Inference) -> None:
    for invariant in inference.invariants:
        assert invariant.text[0].isupper()
        assert invariant.text.endswith(".")
        assert "_" not in invariant.text.replace("zero_grad", "").replace("set_to_none", "").replace("set_epoch", "")


def test_every_dropped_hypothesis_has_a_reason(inference: Inference) -> None:
    assert inference.dropped
    assert all(drop.reason for drop in inference.dropped)


def program(name: str, *, scheduled: bool) -> Summary:
    script = Script(seed=len(name))
    for _ in range(12):
        script.step(scheduler_steps=int(scheduled))
    return summary(script, name, f"{name}.py")


def test_of_many_programs_two_must_show_a_law() -> None:
    one = [program("a", scheduled=True), program("bb", scheduled=False), program("ccc", scheduled=False)]
    two = [*one, program("dddd", scheduled=True)]
    law = ("Cadence", "There is at most one learning-rate scheduler step per optimizer step.")

    def texts(inference: Inference) -> set[tuple[str, str]]:
        return {(invariant.relation, invariant.text) for invariant in inference.invariants}

    strong = ("Cadence", "There is exactly one learning-rate scheduler step per optimizer step.")
    assert [False, True, True] == [
        bool({law, strong} & texts(found)) for found in (learn(one), learn(two), learn(one, least_programs=1))
    ]


def test_ids_name_the_content_not_the_evidence(inference: Inference) -> None:
    longer = conclude(summary(clean_run(steps=30, seed=5)))

    assert {invariant.id for invariant in inference.invariants} == {invariant.id for invariant in longer.invariants}


@given(st.lists(st.integers(6, 9), min_size=2, max_size=5), st.randoms(use_true_random=False))
@settings(max_examples=15)
def test_merging_is_associative_and_commutative(lengths: list[int], random: st.DataObject) -> None:
    parts = [summary(clean_run(length, seed), f"run{seed}") for seed, length in enumerate(lengths)]
    straight = merged(parts)
    shuffled = list(parts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # st.randoms gives a random.Random
    cut = len(parts) // 2
    nested = merged([merged(shuffled[:cut]), merged(shuffled[cut:])])

    assert straight == nested


def forget_zero_grad(script: Script) -> None:
    script.step(zero_grad=False)


def step_changes_nothing(script: Script) -> None:
    script.step(moves=())


def one_layer_stays(script: Script) -> None:
    script.step(moves=NAMES[:2])


def stay_in_eval_mode(script: Script) -> None:
    script.step(training=False)


def scheduler_twice(script: Script) -> None:
    script.step(scheduler_steps=2)


def evaluation_moves_weights(script: Script) -> None:
    script.evaluation()
    script.params[NAMES[0]] += 1
    script.step()


FAULTS: list[tuple[Callable[[Script], None], str]] = [
    (forget_zero_grad, "already applied|applied"),
    (step_changes_nothing, "none of them changed|stayed exactly the same"),
    (one_layer_stays, "stayed exactly the same"),
    (stay_in_eval_mode, "training False"),
    (scheduler_twice, "2 of StepLR"),
    (evaluation_moves_weights, "1 of 4 parameters are not what they were before it"),
]


@pytest.mark.parametrize(("fault", "words"), FAULTS, ids=lambda item: getattr(item, "__name__", ""))
def test_a_fault_gives_one_finding_at_its_step(
    inference: Inference, fault: Callable[[Script], None], words: str
) -> None:
    script = clean_run(steps=8, seed=3)
    for _ in range(6):
        fault(script)

    result = check(script, inference.invariants)

    assert [8] == [finding.step for finding in result.findings]
    seen = " ".join(violation.seen for violation in result.findings[0].violations)
    assert any(word in seen for word in words.split("|"))


def test_the_same_program_with_another_seed_is_clean(inference: Inference) -> None:
    assert () == check(clean_run(steps=40, seed=9), inference.invariants).findings


def test_a_relation_that_breaks_is_off_and_told(inference: Inference, monkeypatch: pytest.MonkeyPatch) -> None:
    from traincheck.relations.cadence import Cadence

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr(Cadence, "examples", broken)
    result = check(clean_run(), inference.invariants)

    assert any("a fault of ours" in note for note in result.notes)
    assert {"Cadence"} == {invariant.relation for invariant in result.abstained}
    assert () == result.findings
