"""Results to render: a run with findings, a clean one, one that was not checked, and one with hostile names."""

from __future__ import annotations

from dataclasses import replace

import pytest

from traincheck.findings import CheckResult, Finding, Violation
from traincheck.invariant import Curation, Evidence, Invariant
from traincheck.precondition import ALWAYS

CHILDREN = ("optimizer.step", "backward", "forward", "loss", "dropout", "matmul", "attention", "autocast", "lr.step")


def invariant(number: int, code: str = "") -> Invariant:
    """The ``number``-th invariant, which says nothing that is true."""
    curation = Curation(code, f"Title of {code}", "error", f"Why {code} is silent.", f"How to fix {code}.")
    return Invariant(
        relation="EventContain",
        subject={"parent": "optimizer.step", "child": CHILDREN[number], "how": "some"},
        precondition=ALWAYS,
        text=f"Sentence {number}.",
        evidence=Evidence(examples=120, steps=40, runs=3, programs=2, confidence=0.99),
        domain={"loss": (float("nan"), 1.0)},
        curation=curation if code else None,
    )


def violation(of: Invariant, num_names: int = 2, step: int = 3) -> Violation:
    """A violation of ``of``."""
    names = tuple(f"Net.layers.{number}.weight" for number in range(num_names))
    return Violation(
        of, step, 1, names, "every parameter changed", "2 of 8 stayed the same", "torch.optim.SGD.step", "train.py:31"
    )


def finding(*violations: Violation) -> Finding:
    """The finding that the violations are."""
    first = violations[0].invariant
    return Finding(
        code=first.code,
        title=first.title,
        severity="error",
        message="At step 3, Net.layers.0.weight: 2 of 8 stayed the same.",
        step=3,
        rank=1,
        last_step=39,
        steps=37,
        why_silent=first.curation.why_silent if first.curation else "",
        fix=first.curation.fix if first.curation else "",
        violations=violations,
    )


@pytest.fixture
def bad() -> CheckResult:
    """Two findings: one of the zoo with consequences, one of the user's own invariants."""
    broken = [invariant(number, f"UPD00{number}") for number in range(4)]
    own = invariant(4)
    return CheckResult(
        findings=(finding(*map(violation, broken)), finding(violation(own, num_names=17))),
        held=(invariant(5, "HLD005"),),
        violated=(*broken, own),
        not_exercised=(invariant(6, "NEX006"),),
        abstained=(invariant(7, "ABS007"),),
        steps=40,
        skipped_steps=4,
        notes=("The pack does not fit.",),
    )


@pytest.fixture
def clean() -> CheckResult:
    """Everything that was judged held."""
    return CheckResult((), (invariant(0, "HLD000"),), (), (invariant(1, "NEX001"),), (), steps=40)


@pytest.fixture
def unchecked() -> CheckResult:
    """Nothing was exercised."""
    return CheckResult((), (), (), (invariant(0, "NEX000"), invariant(1, "NEX001")), (), steps=40)


HOSTILE = "<script>alert(1)</script>\x1b[31m]]>\x00\"'&[bold]{{ 7*7 }}"


@pytest.fixture
def hostile() -> CheckResult:
    """Every text that a file can bring is an attempt on the reader's browser, terminal or parser."""
    base = invariant(0)
    curation = Curation(HOSTILE, HOSTILE, "error", HOSTILE, HOSTILE)
    broken = replace(base, text=HOSTILE, curation=curation)
    other = replace(invariant(1), text=HOSTILE, curation=curation)
    attacks = tuple(Violation(of, 0, 0, (HOSTILE,), HOSTILE, HOSTILE, HOSTILE, HOSTILE) for of in (broken, other))
    told = Finding(HOSTILE, HOSTILE, "error", HOSTILE, 0, 0, 0, 1, HOSTILE, HOSTILE, attacks, run=HOSTILE)
    return CheckResult((told,), (), (broken, other), (), (), steps=1, notes=(HOSTILE,))
