"""The Accelerate plugin on real loops: exact steps, nothing changed, each silent bug found, an end with it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import traincheck
from traincheck.events import Call
from traincheck.plan import Plan
from traincheck.record import Session, active
from traincheck.vocabulary import OPTIMIZER_STEP, TRAINER_LOAD, TRAINER_SAVE, TRAINER_STEP

pytest.importorskip("accelerate")

from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from traincheck.integrations.accelerate import Attached, TrainCheckPlugin

BIN = Path(sys.executable).parent
RECIPES = Path(__file__).resolve().parent.parent.parent / "recipes" / "accelerate"
PROGRAMS = Path(__file__).with_name("programs")


@pytest.fixture(autouse=True)
def _nothing_stays_active() -> Iterator[None]:
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    yield
    session = active()
    if session is not None:
        session.close()
        pytest.fail(f"{session.name} was left active")


class Heard:
    """A sink that keeps the calls."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def add(self, record: Any) -> None:
        if isinstance(record, Call):
            self.calls.append(record)

    def close(self) -> None:
        """Nothing is open."""

    def named(self, role: str) -> list[Call]:
        return [call for call in self.calls if call.role == role]


class Training:
    """A small loop in the shape that Accelerate's examples have, with places where a test can step in."""

    def __init__(self, accumulation: int = 1, plugin: TrainCheckPlugin | None = None, *, before: bool = True) -> None:
        self.accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulation)
        torch.manual_seed(0)
        self.attached: Attached | None = None
        if plugin is not None and before:
            self.attached = plugin.attach(self.accelerator)
        self.net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))
        optimizer = torch.optim.AdamW(self.net.parameters(), lr=1e-2)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.rate)
        self.model, self.optimizer, self.schedule, self.training, self.validation = self.accelerator.prepare(
            self.net, optimizer, schedule, batches(96, 8), batches(48, 16)
        )
        if plugin is not None and not before:
            self.attached = plugin.attach(self.accelerator)
        self.losses: list[float] = []

    def rate(self, step: int) -> float:
        return 1 - step / 100

    def epoch(self, after: Callable[[Training, int], object] = lambda training, batch: None) -> None:
        self.model.train()
        for batch, (points, labels) in enumerate(self.training):
            with self.accelerator.accumulate(self.model):
                loss = F.cross_entropy(self.model(points), labels)
                self.losses.append(loss.item())
                self.accelerator.backward(loss)
                if self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.model.parameters(), 1.0)
                self.optimizer.step()
                self.schedule.step()
                self.optimizer.zero_grad()
            after(self, batch)

    def evaluate(self) -> None:
        self.model.eval()
        with torch.no_grad():
            for points, _ in self.validation:
                self.model(points)
        self.model.train()

    def run(self, after: Callable[[Training, int], object] = lambda training, batch: None) -> None:
        for _ in range(2):
            self.epoch(after)
            self.evaluate()
        self.accelerator.end_training()


def batches(count: int, size: int) -> DataLoader[Any]:
    points = torch.randn(count, 8, generator=torch.Generator().manual_seed(count))
    return DataLoader(TensorDataset(points, (points.sum(1) > 0).long()), batch_size=size, shuffle=True)


def plugin(**options: Any) -> TrainCheckPlugin:
    return TrainCheckPlugin(**{"overhead": None, **options})


def heard(run: Callable[[], Any]) -> Heard:
    """What a session hears of a training that the plugin only tells the steps of."""
    found = Heard()
    session = Session(Plan(), lambda process: found, name="a test")
    session.start()
    try:
        run()
    finally:
        session.close()
    return found


@pytest.mark.parametrize("before", [True, False])
def test_a_clean_loop_is_clean_attached_before_and_after_prepare(before: bool) -> None:
    training = Training(accumulation=2, plugin=plugin(), before=before)
    training.run()

    assert training.attached is not None
    assert () == training.attached.findings
    assert 12 <= training.attached.result.steps <= 13
    assert training.attached.result.exercised > 15


def test_weights_losses_and_random_numbers_are_those_of_a_training_without_it() -> None:
    alone = Training(accumulation=2)
    alone.run()
    numbers = torch.get_rng_state()
    AcceleratorState._reset_state(reset_partial_state=True)
    watched = Training(accumulation=2, plugin=plugin())
    watched.run()

    assert torch.equal(numbers, torch.get_rng_state())
    assert alone.losses == watched.losses
    assert all(
        torch.equal(left, right) for left, right in zip(alone.net.parameters(), watched.net.parameters(), strict=True)
    )


def test_steps_are_real_updates_with_all_that_was_accumulated_for_them() -> None:
    found = heard(lambda: Training(accumulation=5, plugin=plugin()).run())

    # 12 batches in an epoch: the last step of it takes what is left, as Accelerate does.
    assert [5, 5, 2] * 2 == [call.out["micro_steps"] for call in found.named(TRAINER_STEP)]
    assert [5] * 6 == [call.args["planned_micro_steps"] for call in found.named(TRAINER_STEP)]
    assert 6 == len(found.named(OPTIMIZER_STEP))


def test_two_optimizers_that_step_for_one_batch_are_one_step() -> None:
    def run() -> None:
        accelerator = Accelerator(cpu=True)
        first, second = nn.Linear(8, 4), nn.Linear(4, 2)
        optimizers = [torch.optim.SGD(part.parameters(), lr=0.1) for part in (first, second)]
        first, second, *optimizers, loader = accelerator.prepare(first, second, *optimizers, batches(48, 8))
        with plugin().attach(accelerator):
            for points, labels in loader:
                for optimizer in optimizers:
                    optimizer.zero_grad()
                    accelerator.backward(F.cross_entropy(second(first(points)), labels))
                    optimizer.step()

    found = heard(run)

    assert 6 == len(found.named(TRAINER_STEP))
    assert 12 == len(found.named(OPTIMIZER_STEP))


def test_a_loop_without_a_loader_is_divided_where_it_accumulates() -> None:
    def run() -> None:
        accelerator = Accelerator(cpu=True, gradient_accumulation_steps=3)
        model = nn.Linear(8, 2)
        model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
        with plugin().attach(accelerator):
            for _ in range(12):
                with accelerator.accumulate(model):
                    accelerator.backward(model(torch.randn(4, 8)).square().sum())
                    optimizer.step()
                    optimizer.zero_grad()

    assert [3, 3, 3, 3] == [call.out["micro_steps"] for call in heard(run).named(TRAINER_STEP)]


def test_accumulation_by_hand_is_no_plan_of_accelerate() -> None:
    accelerator = Accelerator(cpu=True)
    model = nn.Linear(8, 2)
    model, optimizer, loader = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1), batches(96, 8))
    with plugin().attach(accelerator) as attached:
        for number, (points, labels) in enumerate(loader, start=1):
            accelerator.backward(F.cross_entropy(model(points), labels) / 4)
            if number % 4 == 0:
                optimizer.step()
                optimizer.zero_grad()

    assert () == attached.findings


def trained_without_accumulate(each: int) -> list[str]:
    """Codes found where a plan of four micro-batches is left to a program that steps after ``each``."""
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=4)
    model = nn.Linear(8, 2)
    model, optimizer, loader = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1), batches(96, 8))
    with plugin().attach(accelerator) as attached:
        for number, (points, labels) in enumerate(loader, start=1):
            accelerator.backward(F.cross_entropy(model(points), labels))
            if number % each == 0:
                optimizer.step()
                optimizer.zero_grad()
    return [finding.code for finding in attached.findings]


def test_a_plan_to_accumulate_that_nothing_follows_is_found() -> None:
    assert ["ACC001"] == trained_without_accumulate(1)


def test_a_plan_to_accumulate_may_be_followed_by_hand() -> None:
    assert [] == trained_without_accumulate(4)


def test_states_are_compared_with_the_live_weights_when_saved_and_when_loaded(tmp_path: Path) -> None:
    def run() -> None:
        training = Training(plugin=plugin())
        training.epoch()
        training.accelerator.save_state(str(tmp_path / "state"))
        training.accelerator.save_state(str(tmp_path / "old"), safe_serialization=False)
        training.accelerator.save_model(training.model, str(tmp_path / "model"))
        training.epoch()
        for name in ("state", "old"):
            training.accelerator.load_state(str(tmp_path / name))
        training.accelerator.end_training()

    found = heard(run)

    assert [(0, 0)] * 3 == [(call.out["missing"], call.out["differing"]) for call in found.named(TRAINER_SAVE)]
    assert [(0, 0)] * 2 == [(call.out["missing"], call.out["differing"]) for call in found.named(TRAINER_LOAD)]


def replace_head(training: Training, batch: int) -> None:
    if batch == 5:
        training.net[4] = nn.Linear(16, 2)


def stay_in_eval(training: Training, batch: int) -> None:
    if batch == 5:
        training.net.eval()


def stick_at_the_end(training: Training, batch: int) -> None:
    if batch == 3:
        training.accelerator.gradient_state.__class__.end_of_dataloader = property(lambda self: True)


def save_without_head(training: Training, batch: int) -> None:
    if batch == 5:
        accelerator = training.accelerator
        whole = accelerator.get_state_dict
        accelerator.get_state_dict = lambda *args, **kwargs: dict(list(whole(*args, **kwargs).items())[:-2])
        accelerator.save_model(training.model, accelerator.project_dir)


def end_the_schedule(training: Training, batch: int) -> None:
    if batch == 5:
        training.schedule.scheduler.lr_lambdas = [lambda step: 0.0]


@pytest.mark.parametrize(
    ("code", "step", "accumulation", "bug"),
    [
        ("OPT001", 5, 1, replace_head),
        ("MOD001", 5, 1, stay_in_eval),
        ("ACC001", 1, 4, stick_at_the_end),
        ("CKP005", 5, 1, save_without_head),
        ("LRS003", 7, 1, end_the_schedule),
    ],
)
def test_a_silent_bug_is_one_finding_that_names_the_cause_within_a_step(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    step: int,
    accumulation: int,
    bug: Callable[[Training, int], object],
) -> None:
    monkeypatch.setattr(GradientState, "end_of_dataloader", GradientState.end_of_dataloader)  # put back afterwards
    training = Training(accumulation, plugin())
    training.accelerator.project_configuration.project_dir = str(tmp_path)
    training.run(bug)

    assert training.attached is not None
    assert [code] == [finding.code for finding in training.attached.findings]
    assert step <= training.attached.findings[0].step <= step + 1


def test_raise_ends_the_loop_and_leaves_nothing_behind() -> None:
    training = Training(plugin=plugin(on_violation="raise"))
    with pytest.raises(traincheck.ViolationError, match="OPT001"):
        training.run(replace_head)
    assert training.attached is not None
    training.attached.close()

    assert active() is None


def test_stop_is_a_wish_that_the_loop_can_read() -> None:
    training = Training(plugin=plugin(on_violation="stop"))
    assert training.attached is not None
    reached = []
    with training.attached as attached:
        for _ in range(2):
            training.epoch(lambda _, batch: (replace_head(training, batch), reached.append(attached.should_stop)))

    assert 6 == reached.index(True) or 7 == reached.index(True)


def test_the_number_of_findings_stands_beside_what_is_logged() -> None:
    training = Training(plugin=plugin())
    logged: list[dict[str, Any]] = []

    class Tracker:
        name = "list"

        def log(self, values: dict[str, Any], step: int | None, **_: Any) -> None:
            logged.append(values)

        def finish(self) -> None:
            """Nothing is open."""

    training.accelerator.trackers = [Tracker()]
    values = {"loss": 1.0}
    training.accelerator.log(values)
    training.run(lambda loop, batch: (replace_head(loop, batch), loop.accelerator.log({"batch": batch}))[0])

    assert {"loss": 1.0} == values
    assert {"loss": 1.0, "traincheck/violations": 0} == logged[0]
    assert 1 == logged[-1]["traincheck/violations"]


def test_inside_the_trainer_of_transformers_it_steps_aside() -> None:
    transformers = pytest.importorskip("transformers")

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 2)

        def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"loss": F.cross_entropy(self.linear(x), labels)}

    from traincheck.integrations.transformers import TrainCheckCallback

    def run() -> None:
        rows = [{"x": torch.randn(8), "labels": torch.tensor(number % 2)} for number in range(32)]
        arguments = transformers.TrainingArguments(
            "unused", max_steps=6, per_device_train_batch_size=4, gradient_accumulation_steps=2, use_cpu=True,
            report_to="none", save_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        callback = TrainCheckCallback(zoo="pytorch")
        trainer = transformers.Trainer(Model(), arguments, train_dataset=rows, callbacks=[callback])
        with plugin().attach(trainer.accelerator):
            trainer.train()

    found = heard(run)

    assert ["transformers.Trainer.step"] * 6 == [call.api for call in found.named(TRAINER_STEP)]


def test_a_wrong_option_is_said_at_once() -> None:
    with pytest.raises(ValueError, match="expected one of warn, raise, stop"):
        TrainCheckPlugin(on_violation="explode")  # type: ignore[arg-type]  # on purpose


def check(*program: object) -> tuple[int, list[dict[str, Any]]]:
    """Status and findings of the command, run on two processes."""
    launcher = [BIN / "torchrun", "--standalone", "--nproc-per-node", "2"]
    command = [BIN / "traincheck-check", "--zoo", "accelerate", "--format", "json", "--", *launcher, *program]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, timeout=300)
    return done.returncode, json.loads(done.stdout)["findings"]


@pytest.mark.slow
def test_two_processes_are_clean_without_an_edit() -> None:
    assert (0, []) == check(RECIPES / "ddp.py", "--seed", "33")


@pytest.mark.slow
def test_a_forward_past_the_wrapper_is_found_where_the_ranks_part() -> None:
    status, findings = check(PROGRAMS / "past_wrapper.py", "accelerate")

    assert 1 == status
    assert [("DST007", 3)] == [(finding["code"], finding["step"]) for finding in findings]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trouble", "expected"),
    [
        ("model", [("ACC002", 0)]),
        ("loader", [("DST011", 1)]),
        ("local steps", []),
    ],
)
def test_what_was_not_prepared_is_named_and_replicas_may_part_on_purpose(
    trouble: str, expected: list[tuple[str, int]]
) -> None:
    _, findings = check(PROGRAMS / "unprepared.py", trouble)

    assert expected == [(finding["code"], finding["step"]) for finding in findings]
