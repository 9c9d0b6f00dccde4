"""``traincheck.watch`` checks a plain loop from inside, changes nothing, and answers in the way that was asked for."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import traincheck
from traincheck.findings import Finding
from traincheck.invariant import Curation, Evidence, Invariant
from traincheck.precondition import ALWAYS
from traincheck.record import active
from traincheck.watching import Watch

EVIDENCE = Evidence(examples=10, steps=10, runs=1, programs=1, confidence=0.99)

OWN = Curation("OWN001", "An evaluation leaves the parameters alone.", "error", "Nothing looks.", "Look.")

PARAMETERS_STAY = Invariant(
    "Consistent", {"kind": "param", "across": "steps"}, ALWAYS, OWN.title, EVIDENCE, curation=OWN
)

Trouble = Callable[[int, torch.nn.Module], None]


@pytest.fixture(autouse=True)
def _nothing_stays_active() -> Iterator[None]:
    yield
    session = active()
    if session is not None:
        session.close()


def train(trouble: Trouble = lambda step, model: None, steps: int = 6, stop: Watch | None = None) -> torch.nn.Module:
    """A small training. ``trouble`` is called between the steps."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(8, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for step in range(steps):
        if stop is not None and stop.should_stop:
            break
        optimizer.zero_grad()
        model(torch.randn(4, 4)).square().sum().backward()
        optimizer.step()
        evaluate(model)
        trouble(step, model)
    return model


def evaluate(model: torch.nn.Module) -> None:
    model.eval()
    with torch.no_grad():
        model(torch.ones(2, 4))
    model.train()


def overwrite_at_step_3(step: int, model: torch.nn.Module) -> None:
    if step == 3:
        with torch.no_grad():
            next(model.parameters()).zero_()


def watch(**options: object) -> Watch:
    return traincheck.watch(zoo=None, invariants=[PARAMETERS_STAY], **options)  # type: ignore[arg-type]  # any option


def test_a_clean_loop_is_clean_and_trains_the_same_weights_and_random_numbers() -> None:
    alone, numbers_alone = train().state_dict(), torch.get_rng_state()

    with watch() as watched:
        watched_weights, numbers = train().state_dict(), torch.get_rng_state()

    assert () == watched.findings
    assert 1 == watched.result.exercised
    assert list(alone) == list(watched_weights)
    assert all(torch.equal(alone[name], watched_weights[name]) for name in alone)
    assert torch.equal(numbers_alone, numbers)


def test_a_violation_is_one_warning_at_its_step_and_one_line_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    with watch() as watched:
        train(overwrite_at_step_3)

    warning, summary = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "step 4" in warning.getMessage()
    assert PARAMETERS_STAY.text in warning.getMessage()
    assert "TrainCheck: 1 finding" in summary.getMessage()
    assert [4] == [finding.step for finding in watched.findings]


def test_raise_ends_the_training_at_the_step_after_it_showed() -> None:
    reached = []

    def trouble(step: int, model: torch.nn.Module) -> None:
        reached.append(step)
        overwrite_at_step_3(step, model)

    with pytest.raises(traincheck.ViolationError) as raised, watch(on_violation="raise"):
        train(trouble, steps=20)

    assert [4] == [finding.step for finding in raised.value.findings]
    assert reached[-1] <= 5
    assert active() is None


def test_raise_at_the_last_step_comes_at_the_end_of_the_with() -> None:
    with pytest.raises(traincheck.ViolationError), watch(on_violation="raise"):
        train(overwrite_at_step_3, steps=5)


def test_the_error_of_the_program_is_not_replaced_by_ours() -> None:
    def train_and_fail() -> None:
        train(overwrite_at_step_3, steps=5)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), watch(on_violation="raise"):
        train_and_fail()


def test_stop_is_a_wish_that_the_loop_can_read() -> None:
    reached: list[int] = []
    with watch(on_violation="stop") as watched:
        train(lambda step, model: (reached.append(step), overwrite_at_step_3(step, model))[1], 20, stop=watched)

    assert watched.should_stop
    assert len(reached) < 8


def test_a_function_is_called_with_each_finding_and_its_errors_are_contained() -> None:
    found: list[Finding] = []

    def answer(finding: Finding) -> None:
        found.append(finding)
        raise KeyError("a bug of the user")

    with watch(on_violation=answer) as watched:
        train(overwrite_at_step_3)

    assert [PARAMETERS_STAY.code] == [finding.code for finding in found]
    assert len(watched.findings) == 1


def test_models_that_exist_already_are_found_and_steps_can_be_told() -> None:
    model = torch.nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch() as watched:
        for step in range(4):
            with traincheck.stage("train"):
                optimizer.zero_grad()
                model(torch.ones(2, 4)).sum().backward()
                optimizer.step()
            evaluate(model)
            traincheck.step()
            overwrite_at_step_3(step + 2, model)

    assert [2] == [finding.step for finding in watched.findings]


def test_an_expensive_check_is_done_at_fewer_steps_and_that_is_said() -> None:
    with watch(overhead=0.0) as watched:
        train(steps=40)

    assert 0 < watched.result.steps < 20
    assert watched.result.skipped_steps >= 20


def test_a_second_watch_names_the_first() -> None:
    with watch(), pytest.raises(ValueError, match=r"the watch started at .*test_watch\.py:\d+ is active"):
        watch()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"on_violation": "explode"}, "expected one of warn, raise, stop"),
        ({"select": "ZZZ"}, f"'ZZZ'; there are {PARAMETERS_STAY.code}"),
        ({"ignore": ["QQ1"]}, "'QQ1'"),
        ({"overhead": -1}, "overhead is -1"),
        ({"model": "a string"}, "cannot watch a str"),
        ({"invariants": None}, "there is nothing to check"),
        ({"zoo": "no-such-pack"}, "there is no zoo pack 'no-such-pack'"),
    ],
)
def test_a_wrong_option_is_said(options: dict[str, object], said: str) -> None:
    with pytest.raises((ValueError, traincheck.errors.UserError), match=said):
        traincheck.watch(**{"zoo": None, "invariants": [PARAMETERS_STAY], **options})

    assert active() is None


def test_without_any_training_the_run_is_unchecked_and_that_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with watch():
        pass

    assert "NOT CHECKED" in caplog.text


def test_a_report_can_be_written(tmp_path: Path) -> None:
    with watch(report=tmp_path / "report"):
        train(overwrite_at_step_3)

    assert PARAMETERS_STAY.text in (tmp_path / "report" / "index.html").read_text()


def test_step_and_stage_do_nothing_while_nothing_is_recorded() -> None:
    traincheck.step()
    with traincheck.stage("eval"):
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_a_child_that_was_forked_inside_a_stage_leaves_it() -> None:
    with traincheck.watch():
        child, status = -1, 1
        try:
            with traincheck.stage("eval"):
                child = os.fork()
            status = 0
        finally:
            if child == 0:
                os._exit(status)
        assert 0 == os.waitpid(child, 0)[1]


def test_a_stage_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="there are init, train, eval, checkpoint"):
        traincheck.stage("evaluate")
