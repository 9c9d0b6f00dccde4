"""The Lightning callback on real Trainers: exact steps, nothing changed, each silent bug found, each answer given."""

from __future__ import annotations

import importlib
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import traincheck
from traincheck.events import Call
from traincheck.plan import Plan
from traincheck.record import Session, active
from traincheck.vocabulary import FORWARD, OPTIMIZER_STEP, TRAINER_END, TRAINER_LOAD, TRAINER_SAVE, TRAINER_STEP

pytest.importorskip("lightning")

from traincheck.integrations.lightning import BASES, TrainCheckCallback

pytestmark = [
    # Lightning warns of what a small test does not care for (workers, loggers), and uses what torch deprecates.
    pytest.mark.filterwarnings(f"ignore:::{name}.*")
    for name in ("lightning", "pytorch_lightning", "torch", "lightning_fabric")
]

L: Any = importlib.import_module("lightning.pytorch")
BIN = Path(sys.executable).parent
RECIPES = Path(__file__).resolve().parent.parent.parent / "recipes" / "lightning"
PROGRAMS = Path(__file__).with_name("programs")

NAMESPACES = [base.__module__.partition(".callbacks")[0] for base in BASES]


@pytest.fixture(autouse=True)
def _nothing_stays_active() -> Iterator[None]:
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


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))


def batches(count: int = 96, size: int = 8, seed: int = 0) -> DataLoader[Any]:
    points = torch.randn(count, 8, generator=torch.Generator().manual_seed(seed))
    return DataLoader(TensorDataset(points, (points.sum(1) > 0).long()), batch_size=size, shuffle=True)


def module(namespace: str = "lightning.pytorch", **attributes: Any) -> Any:
    """A small classifier, with methods of the test's own."""
    base = importlib.import_module(namespace).LightningModule

    class Points(base):  # type: ignore[misc]  # the base is known at run time
        def __init__(self) -> None:
            super().__init__()
            self.net = net()
            self.losses: list[float] = []

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            loss = F.cross_entropy(self.net(batch[0]), batch[1])
            self.losses.append(loss.item())
            return loss

        def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
            self.log("val_loss", F.cross_entropy(self.net(batch[0]), batch[1]))

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=1e-2)

    torch.manual_seed(0)
    return type("Points", (Points,), attributes)()


def trainer(folder: Path, *callbacks: Any, namespace: str = "lightning.pytorch", **options: Any) -> Any:
    quiet = {
        "accelerator": "cpu", "default_root_dir": folder, "enable_progress_bar": False, "enable_model_summary": False,
        "logger": False, "enable_checkpointing": False, "max_epochs": 2, "log_every_n_steps": 1,
    }  # fmt: skip
    return importlib.import_module(namespace).Trainer(**{**quiet, **options}, callbacks=list(callbacks))


def fit(folder: Path, *callbacks: Any, model: Any = None, ckpt_path: Any = None, **options: Any) -> Any:
    """The Trainer after 24 steps of training, validated before, between and after."""
    done = trainer(folder, *callbacks, **options)
    torch.manual_seed(1)
    done.fit(module() if model is None else model, batches(), batches(32, 16), ckpt_path=ckpt_path)
    return done


def heard(run: Callable[[], Any]) -> Heard:
    """What a session hears of a training that the callback only tells the steps of."""
    found = Heard()
    session = Session(Plan(), lambda process: found, name="a test")
    session.start()
    try:
        run()
    finally:
        session.close()
    return found


def at(moment: str, step: int, action: Callable[[Any, Any], object]) -> Any:
    """A callback of the user's that does something at one step, when the hook ``moment`` is called."""

    def hook(self: Any, trainer: Any, pl_module: Any, *_: Any) -> None:
        if trainer.global_step == step:
            action(trainer, pl_module)

    return type("At", (L.Callback,), {moment: hook})()


def checked(**options: Any) -> TrainCheckCallback:
    return TrainCheckCallback(**{"overhead": None, **options})


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_a_clean_training_is_clean_under_both_import_names(tmp_path: Path, namespace: str) -> None:
    callback = checked()
    fit(tmp_path, callback, namespace=namespace, model=module(namespace), gradient_clip_val=1.0)

    assert () == callback.findings
    assert 25 == callback.result.steps
    assert callback.result.exercised > 15


def test_weights_losses_and_random_numbers_are_those_of_a_training_without_it(tmp_path: Path) -> None:
    alone, watched = module(), module()
    fit(tmp_path, model=alone, accumulate_grad_batches=2, gradient_clip_val=0.5)
    numbers = torch.get_rng_state()
    fit(tmp_path, checked(), model=watched, accumulate_grad_batches=2, gradient_clip_val=0.5)

    assert torch.equal(numbers, torch.get_rng_state())
    assert alone.losses == watched.losses
    assert all(torch.equal(left, right) for left, right in zip(alone.parameters(), watched.parameters(), strict=True))


def test_steps_are_those_of_the_trainer_and_sanity_validation_is_none(tmp_path: Path) -> None:
    found = heard(lambda: fit(tmp_path, checked(), accumulate_grad_batches=5))

    # 12 batches in an epoch: the third step of each takes what is left, as Lightning does.
    assert [5, 5, 2] * 2 == [call.out["micro_steps"] for call in found.named(TRAINER_STEP)]
    assert [5, 5, 2] * 2 == [call.args["planned_micro_steps"] for call in found.named(TRAINER_STEP)]
    assert 6 == len(found.named(OPTIMIZER_STEP))
    assert "eval" == found.named(FORWARD)[0].context.stage
    assert 24 == sum(call.context.stage == "train" for call in found.named(FORWARD))
    (end,) = found.named(TRAINER_END)
    assert (6, 2.0, 2.0) == (end.out["steps"], end.out["epochs"], end.args["planned_epochs"])


def test_a_batch_in_which_two_optimizers_step_is_one_step(tmp_path: Path) -> None:
    def training_step(self: Any, batch: list[Tensor], batch_idx: int) -> None:
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(F.cross_entropy(self.net(batch[0]), batch[1]))
            optimizer.step()

    def configure_optimizers(self: Any) -> list[Any]:
        return [torch.optim.SGD(part.parameters(), lr=0.1) for part in (self.net[0], self.net[4])]

    own = {"training_step": training_step, "configure_optimizers": configure_optimizers}
    model = module(automatic_optimization=False, **own)
    found = heard(lambda: fit(tmp_path, checked(), model=model))

    assert 24 == len(found.named(TRAINER_STEP))
    assert 48 == len(found.named(OPTIMIZER_STEP))


def test_a_batch_that_is_left_out_was_not_planned(tmp_path: Path) -> None:
    def training_step(self: Any, batch: list[Tensor], batch_idx: int) -> Tensor | None:
        return None if batch_idx % 3 == 1 else F.cross_entropy(self.net(batch[0]), batch[1])

    callback = checked()
    fit(tmp_path, callback, model=module(training_step=training_step), accumulate_grad_batches=4)

    assert () == callback.findings


@pytest.mark.parametrize(
    "options",
    [
        {"fast_dev_run": True},
        {"fast_dev_run": 3, "accumulate_grad_batches": 2},
        {"max_steps": 7, "max_epochs": 5},
        {"max_steps": 700},
        {"max_steps": 9, "max_epochs": -1, "val_check_interval": 3},
        {"limit_train_batches": 5, "accumulate_grad_batches": 2},
        {"overfit_batches": 2},
        {"precision": "bf16-mixed", "gradient_clip_val": 0.1, "gradient_clip_algorithm": "value"},
        {"num_sanity_val_steps": 0, "check_val_every_n_epoch": 2},
        {"barebones": True, "log_every_n_steps": None, "enable_checkpointing": None},
    ],
)
def test_a_trainer_with_other_settings_is_clean(tmp_path: Path, options: dict[str, Any]) -> None:
    callback = checked()
    if options.get("barebones"):
        options = {**options, **dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)}
    fit(tmp_path, callback, **options)

    assert () == callback.findings


def test_early_stopping_is_no_early_end(tmp_path: Path) -> None:
    callback = checked()
    done = fit(
        tmp_path, callback, at("on_validation_end", 12, lambda trainer, _: setattr(trainer, "should_stop", True))
    )

    assert 12 == done.global_step
    assert () == callback.findings


def test_an_optimizer_that_asks_for_many_losses_is_clean(tmp_path: Path) -> None:
    def configure_optimizers(self: Any) -> Any:
        return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=3)

    callback = checked()
    fit(tmp_path, callback, model=module(configure_optimizers=configure_optimizers))

    assert () == callback.findings


def test_checkpoints_are_compared_with_the_live_weights_when_saved_and_when_resumed_from(tmp_path: Path) -> None:
    def saving() -> Any:
        return L.callbacks.ModelCheckpoint(dirpath=tmp_path, save_last=True, enable_version_counter=False)

    def run() -> None:
        fit(tmp_path, checked(), saving(), enable_checkpointing=True)
        fit(tmp_path, checked(), saving(), enable_checkpointing=True, max_epochs=3, ckpt_path=tmp_path / "last.ckpt")

    found = heard(run)

    assert {(0, 0)} == {(call.out["missing"], call.out["differing"]) for call in found.named(TRAINER_SAVE)}
    assert [(0, 0)] == [(call.out["missing"], call.out["differing"]) for call in found.named(TRAINER_LOAD)]
    assert [24, 36] == [call.out["steps"] for call in found.named(TRAINER_END)]


def test_checkpoints_of_averaged_weights_are_compared_with_what_they_hold_of_the_live_ones(tmp_path: Path) -> None:
    averaging = getattr(L.callbacks, "EMAWeightAveraging", None)
    if averaging is None:
        pytest.skip("this Lightning does not average weights")
    callback = checked()
    saving = L.callbacks.ModelCheckpoint(dirpath=tmp_path)
    fit(tmp_path, callback, averaging(decay=0.9), saving, enable_checkpointing=True)

    assert () == callback.findings


def replace_head(trainer: Any, pl_module: Any) -> None:
    pl_module.net[4] = nn.Linear(16, 2)


def schedule(interval: str, length: int) -> Callable[[Any], Any]:
    def configure_optimizers(self: Any) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=length)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cosine, "interval": interval}}

    return configure_optimizers


def lose_weights(self: Any, checkpoint: dict[str, Any]) -> None:
    del checkpoint["state_dict"]["net.4.weight"]


class OffByOne:
    """Accumulation over one batch more than was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loop = importlib.import_module("lightning.pytorch.loops.training_epoch_loop")._TrainingEpochLoop
        monkeypatch.setattr(
            loop,
            "_accumulated_batches_reached",
            lambda self: self.batch_progress.current.ready % (self.trainer.accumulate_grad_batches + 1) == 0,
        )


def end_by_half(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the Trainer count each step twice when it asks whether it is done."""
    for name in ("fit_loop", "training_epoch_loop"):
        loop = importlib.import_module(f"lightning.pytorch.loops.{name}")
        monkeypatch.setattr(loop, "_is_max_limit_reached", lambda done, limit=-1: -1 < limit <= 2 * done)


@pytest.mark.parametrize("early", [True, False])
def test_an_end_before_max_steps_is_found_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, early: bool
) -> None:
    if early:
        end_by_half(monkeypatch)
    callback = checked()
    done = fit(tmp_path, callback, max_epochs=-1, max_steps=20)

    assert (10 if early else 20) == done.global_step
    assert (["END002"] if early else []) == [finding.code for finding in callback.findings]


@pytest.mark.parametrize("end", [{}, {"max_epochs": -1}])
def test_two_optimizers_may_pass_over_max_steps(tmp_path: Path, end: dict[str, Any]) -> None:
    def configure_optimizers(self: Any) -> Any:
        return [torch.optim.SGD(layer.parameters(), lr=0.1) for layer in (self.net[:2], self.net[2:])]

    def training_step(self: Any, batch: list[Tensor], batch_idx: int) -> None:
        for optimizer in self.optimizers():
            optimizer.zero_grad()
        self.manual_backward(F.cross_entropy(self.net(batch[0]), batch[1]))
        for optimizer in self.optimizers():
            optimizer.step()

    own = {"configure_optimizers": configure_optimizers, "training_step": training_step}
    callback = checked()
    done = fit(tmp_path, callback, model=module(**own, automatic_optimization=False), max_steps=11, **end)

    assert 12 == done.global_step
    assert () == callback.findings


@pytest.mark.parametrize("per_step", [True, False])
def test_a_schedule_per_step_that_is_advanced_once_per_epoch_is_found_at_the_end(
    tmp_path: Path, per_step: bool
) -> None:
    def lr_scheduler_step(self: Any, scheduler: Any, metric: Any) -> None:
        if per_step or self.trainer.is_last_batch:
            scheduler.step()

    own = {"configure_optimizers": schedule("step", 24), "lr_scheduler_step": lr_scheduler_step}
    callback = checked()
    fit(tmp_path, callback, model=module(**own))

    assert ([] if per_step else ["LRS004"]) == [finding.code for finding in callback.findings]


@pytest.mark.parametrize(
    ("code", "step", "attributes", "callbacks", "options"),
    [
        ("OPT001", 5, {}, [at("on_train_batch_end", 5, replace_head)], {}),
        ("MOD001", 12, {}, [at("on_train_epoch_start", 12, lambda trainer, pl_module: pl_module.eval())], {}),
        ("LRS006", 0, {"configure_optimizers": schedule("epoch", 24)}, [], {}),
        ("LRS009", 0, {"configure_optimizers": schedule("step", 2)}, [], {}),
        ("CKP005", 12, {"on_save_checkpoint": lose_weights}, [], {"enable_checkpointing": True}),
        ("ACC001", 0, {}, [], {"accumulate_grad_batches": 3}),
    ],
)
def test_a_silent_bug_is_one_finding_that_names_the_cause_within_a_step(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    step: int,
    attributes: dict[str, Any],
    callbacks: list[Any],
    options: dict[str, Any],
) -> None:
    if code == "ACC001":
        OffByOne(monkeypatch)
    callback = checked()
    fit(tmp_path, callback, *callbacks, model=module(**attributes), **options)

    assert [code] == [finding.code for finding in callback.findings]
    assert step <= callback.findings[0].step <= step + 1


def test_schedules_that_fit_their_interval_are_clean(tmp_path: Path) -> None:
    for interval, length in (("step", 24), ("epoch", 2), ("epoch", 7), ("step", 100)):
        callback = checked()
        fit(tmp_path, callback, model=module(configure_optimizers=schedule(interval, length)))

        assert () == callback.findings


BROKEN = at("on_train_batch_end", 5, replace_head)


def test_raise_ends_the_training_and_leaves_nothing_behind(tmp_path: Path) -> None:
    callback = checked(on_violation="raise")
    with pytest.raises(traincheck.ViolationError, match="OPT001"):
        fit(tmp_path, callback, BROKEN)

    assert active() is None
    assert ["OPT001"] == [finding.code for finding in callback.findings]


def test_stop_ends_the_training_after_the_step(tmp_path: Path) -> None:
    done = fit(tmp_path, checked(on_violation="stop"), BROKEN)

    assert 5 < done.global_step <= 7


def test_the_number_of_findings_stands_beside_the_loss(tmp_path: Path) -> None:
    logger = L.loggers.CSVLogger(tmp_path)
    fit(tmp_path, checked(), BROKEN, logger=logger)

    columns, *rows = [line.split(",") for line in (Path(logger.log_dir) / "metrics.csv").read_text().splitlines()]
    logged = [row[columns.index("traincheck/violations")] for row in rows]
    assert ["0.0", "1.0"] == sorted({value for value in logged if value})


def test_a_training_that_fails_gives_up_its_watch_and_the_next_has_its_own(tmp_path: Path) -> None:
    def fail(trainer: Any, pl_module: Any) -> None:
        raise ZeroDivisionError

    callback = checked(on_violation="raise")
    with pytest.raises(ZeroDivisionError):
        fit(tmp_path, callback, at("on_train_batch_end", 3, fail))
    assert active() is None

    fit(tmp_path, callback)

    assert 25 == callback.result.steps


def test_of_two_callbacks_the_first_watches_and_that_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = checked(), checked()
    fit(tmp_path, first, second)

    assert (25, 0) == (first.result.steps, second.result.steps)
    assert "more than one TrainCheckCallback" in caplog.text


def test_validation_alone_is_not_watched(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="traincheck"):
        trainer(tmp_path, checked()).validate(module(), batches(32, 16))

    assert "" == caplog.text


def test_a_wrong_option_is_said_at_once() -> None:
    with pytest.raises(ValueError, match="expected one of warn, raise, stop"):
        TrainCheckCallback(on_violation="explode")  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize("broken", [False, True])
def test_a_loop_with_fabric_is_watched_from_its_set_up_until_close(broken: bool) -> None:
    callback = checked()
    fabric = importlib.import_module("lightning.fabric").Fabric(accelerator="cpu", callbacks=[callback])
    torch.manual_seed(0)
    plain = net()
    model, optimizer = fabric.setup(plain, torch.optim.AdamW(plain.parameters(), lr=1e-2))
    loader = fabric.setup_dataloaders(batches())
    for number, (points, labels) in enumerate(loader):
        optimizer.zero_grad()
        fabric.backward(F.cross_entropy(model(points), labels))
        optimizer.step()
        fabric.call("on_train_batch_end", labels, number)  # a hook of the user's own, with arguments of its own
        if broken and number == 5:
            plain[4] = nn.Linear(16, 2)
    callback.close()

    assert (["OPT001"] if broken else []) == [finding.code for finding in callback.findings]
    assert 12 <= callback.result.steps <= 13


def check(*program: object) -> tuple[int, list[dict[str, Any]]]:
    """Status and findings of the command, run on two processes."""
    command = [BIN / "traincheck-check", "--zoo", "lightning", "--format", "json", "--", sys.executable, *program]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, timeout=300)
    return done.returncode, json.loads(done.stdout)["findings"]


@pytest.mark.slow
def test_two_processes_are_clean_without_an_edit() -> None:
    assert (0, []) == check(RECIPES / "ddp.py", "--seed", "33")


@pytest.mark.slow
def test_a_forward_past_the_wrapper_is_found_where_the_ranks_part() -> None:
    status, findings = check(PROGRAMS / "past_wrapper.py", "lightning")

    assert 1 == status
    assert [("DST004", 3)] == [(finding["code"], finding["step"]) for finding in findings]
