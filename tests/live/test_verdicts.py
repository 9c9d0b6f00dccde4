"""The verdicts of several processes become one: each cause once, each invariant in one list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from traincheck.events import Process
from traincheck.findings import CheckResult, Finding, Violation
from traincheck.invariant import Evidence, Invariant
from traincheck.precondition import ALWAYS
from traincheck.verdicts import merged, read_verdicts, write_verdict

EVIDENCE = Evidence(examples=10, steps=10, runs=1, programs=1, confidence=0.99)
STATES = ("violated", "held", "abstained", "not_exercised")


def invariant(kind: str, across: str = "steps") -> Invariant:
    return Invariant("Consistent", {"kind": kind, "across": across}, ALWAYS, f"{kind} across {across}", EVIDENCE)


STAY, SHARED, LR = invariant("param"), invariant("param", "names"), invariant("lr", "ranks")
ALL = (STAY, SHARED, LR)


def finding(violated: Invariant, step: int, rank: int, steps: int = 1) -> Finding:
    violation = Violation(violated, step, rank, ("Net.weight",), "equal", "different")
    text = violated.text
    return Finding(text, text, "error", "seen", step, rank, step + steps - 1, steps, "", "", (violation,))


def verdict(states: Sequence[str], findings: Sequence[Finding] = ()) -> CheckResult:
    lists = {name: tuple(each for each, state in zip(ALL, states, strict=True) if state == name) for name in STATES}
    return CheckResult(findings=tuple(findings), steps=5, **lists)


def test_what_became_of_an_invariant_in_any_process_counts() -> None:
    together = merged(
        [verdict(["held", "not_exercised", "abstained"]), verdict(["violated", "abstained", "not_exercised"])], ALL
    )

    assert ((STAY,), (), (), (SHARED, LR)) == (
        together.violated,
        together.held,
        together.not_exercised,
        together.abstained,
    )


@given(st.lists(st.lists(st.sampled_from(STATES), min_size=3, max_size=3), max_size=5))
def test_each_invariant_is_in_one_list(states: list[list[str]]) -> None:
    together = merged([verdict(each) for each in states], ALL)

    lists = (together.violated, together.held, together.not_exercised, together.abstained)
    assert sorted(each.id for each in ALL) == sorted(each.id for part in lists for each in part)


def test_one_cause_on_two_ranks_is_told_once_with_both() -> None:
    states = ["violated", "held", "held"]
    together = merged([verdict(states, [finding(STAY, 3, 0, 2)]), verdict(states, [finding(STAY, 2, 1, 4)])], ALL)

    (told,) = together.findings
    assert (2, 1, 5, 4) == (told.step, told.rank, told.last_step, told.steps)
    assert "It shows on ranks 0, 1." in told.message


def test_without_any_process_nothing_was_exercised() -> None:
    together = merged([], ALL)

    assert ALL == together.not_exercised
    assert 0 == together.exercised


def test_a_verdict_that_was_never_finished_is_read_and_said(tmp_path: Path) -> None:
    result = verdict(["violated", "held", "held"], [finding(STAY, 3, 0)])
    write_verdict(tmp_path, Process(rank=0, pid=7), result, finished=False)
    write_verdict(tmp_path, Process(rank=1, pid=8), result, finished=False)
    write_verdict(tmp_path, Process(rank=1, pid=8), result, finished=True)

    first, second = read_verdicts(tmp_path)

    assert result == second
    assert result == replace(first, notes=())
    assert first.notes[0].startswith("process 7 (rank 0) ended without a word")
