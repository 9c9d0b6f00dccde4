"""What a reader sees in a terminal."""

from __future__ import annotations

import pytest

from traincheck.findings import CheckResult
from traincheck.report.text import render, render_invariants

BAD = """\
2 findings, the first at step 3: Title of UPD000

ERROR UPD000  Title of UPD000
    Where           step 3 and 36 more up to step 39, rank 1, in torch.optim.SGD.step
    Line of code    train.py:31
    Expected        every parameter changed
    Seen            2 of 8 stayed the same
                    Net.layers.0.weight, Net.layers.1.weight
    Silent because  Why UPD000 is silent.
    What to do      How to fix UPD000.
    Also broken     - UPD001 Title of UPD001 (step 3, rank 1)
                    - UPD002 Title of UPD002 (step 3, rank 1)
                    - UPD003 Title of UPD003 (step 3, rank 1)

ERROR {own}  Sentence 4.
    Where           step 3 and 36 more up to step 39, rank 1, in torch.optim.SGD.step
    Line of code    train.py:31
    Expected        every parameter changed
    Seen            2 of 8 stayed the same
                    Net.layers.0.weight, Net.layers.1.weight, Net.layers.2.weight,
                    Net.layers.3.weight, Net.layers.4.weight and 12 more
    Evidence        true in 120 examples at 40 steps of 3 reference runs of 2 programs

Checked 8 invariants; 40 steps judged, 4 steps skipped to stay within the overhead budget.
  5 violated       the run broke them
  1 held           judged at least once, and always true
  1 not exercised  the run never did what they speak about: nothing is known
  1 abstained      they met only situations in which they do not judge
Note: The pack does not fit.
More about a code: traincheck-check --explain UPD000
"""


def test_the_whole_text_of_a_run_with_findings(bad: CheckResult) -> None:
    expected = BAD.replace("{own}", bad.findings[1].code)

    assert expected == render(bad, color=False, width=100)


def test_a_clean_run_says_how_much_was_checked(clean: CheckResult) -> None:
    first, *_ = render(clean, color=False, width=100).splitlines()

    assert "Clean: 1 invariant held over 40 steps; no violation." == first


def test_nothing_checked_is_never_told_as_nothing_wrong(unchecked: CheckResult) -> None:
    text = render(unchecked, color=False, width=100)

    assert text.startswith("NOT CHECKED: none of the 2 invariants was exercised in 40 steps.")
    assert "Clean" not in text


def test_no_invariants_at_all_is_not_clean() -> None:
    text = render(CheckResult((), (), (), (), ()), color=False, width=100)

    assert text.startswith("NOT CHECKED: there was no invariant to check.")


def test_many_consequences_are_folded(bad: CheckResult) -> None:
    first = bad.findings[0]
    many = CheckResult((type(first)(**_fields(first, first.violations * 3)),), (), bad.violated, (), (), steps=40)

    text = render(many, color=False, width=100)

    assert 5 == text.count("    - ")
    assert "and 6 more" in text


def _fields(finding: object, violations: object) -> dict[str, object]:
    names = finding.__dataclass_fields__  # type: ignore[attr-defined]  # a dataclass
    return {name: getattr(finding, name) for name in names} | {"violations": violations}


@pytest.mark.parametrize("width", [1, 40, 72, 300])
def test_lines_fit_and_plain_text_has_no_escapes(bad: CheckResult, width: int) -> None:
    text = render(bad, color=False, width=width)

    assert "\x1b" not in text
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= max(40, width)
    assert not any(line.endswith(" ") for line in text.splitlines())


def test_colour_changes_nothing_but_colour(bad: CheckResult) -> None:
    from rich.text import Text

    colored = render(bad, color=True, width=100)
    plain = [line.rstrip() for line in Text.from_ansi(colored).plain.splitlines()]

    assert "\x1b[" in colored
    assert render(bad, color=False, width=100).splitlines() == plain


def test_names_from_files_cannot_steer_the_terminal(hostile: CheckResult) -> None:
    text = render(hostile, color=False, width=100)

    assert "\x1b" not in text
    assert "\x00" not in text
    assert "[bold]" in text


def test_a_code_is_explained(bad: CheckResult) -> None:
    text = render_invariants(bad.violated[:1], color=False, width=100)

    assert "UPD000  Title of UPD000" == text.splitlines()[0]
    assert "Severity        error" in text
    assert "It says         Sentence 0." in text
    assert "Silent because  Why UPD000 is silent." in text
    assert "What to do      How to fix UPD000." in text
