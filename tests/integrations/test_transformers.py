"""The Trainer callback: right steps, right answers, the same training; with the real Trainer."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")

from traincheck.integrations.transformers import TrainCheckCallback
from transformers import EarlyStoppingCallback, GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback

import traincheck
from tests.integrations.tiny_transformers import tiny_model, tiny_trainer
from traincheck.record import active

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(autouse=True)
def _nothing_stays_active() -> Iterator[None]:
    yield
    session = active()
    if session is not None:
        session.close()


class At(TrainerCallback):
    """Does something to the model as a step begins."""

    def __init__(self, step: int, trouble: Any) -> None:
        self.step = step
        self.trouble = trouble

    def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if state.global_step == self.step:
            self.trouble(model)


def replace_head(model: Any) -> None:
    model.classifier = torch.nn.Linear(16, 2)


def watching(**options: Any) -> TrainCheckCallback:
    return TrainCheckCallback(**{"overhead": None, **options})


def codes(callback: TrainCheckCallback) -> list[str]:
    return [finding.code for finding in callback.findings]


def test_a_clean_training_is_clean_and_says_how_much_was_checked(tmp_path: Path) -> None:
    callback = watching()
    trainer = tiny_trainer(tmp_path, callback, eval_strategy="epoch", gradient_accumulation_steps=2)

    trainer.train()

    assert [] == codes(callback)
    assert 8 == trainer.state.global_step
    assert callback.result.exercised > 25
    assert 9 == callback.result.steps  # and what comes after the last
    assert active() is None


def test_a_violation_is_told_once_at_the_step_of_the_trainer(tmp_path: Path, caplog: Any) -> None:
    callback = watching()
    trainer = tiny_trainer(tmp_path, callback, At(5, replace_head))

    trainer.train()

    first, summary = [record.getMessage() for record in caplog.records if record.name == "traincheck"]
    assert ["OPT001"] == codes(callback)
    assert 5 == callback.findings[0].step
    assert "step 5" in first
    assert "classifier.weight (replaced)" in first
    assert summary.startswith("TrainCheck: 1 finding")


def test_findings_stand_in_the_log_history_beside_the_loss(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, watching(), At(5, replace_head))

    trainer.train()

    history = trainer.state.log_history
    assert [(4, 0), (8, 1), (12, 1), (16, 1)] == [
        (entry["step"], entry["traincheck/violations"]) for entry in history if "loss" in entry
    ]
    (entry,) = [entry for entry in history if "traincheck/OPT001" in entry]
    assert (5, 6) == (entry["traincheck/OPT001"], entry["step"])


def test_raise_ends_the_training_with_the_findings(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, watching(on_violation="raise"), At(5, replace_head))

    with pytest.raises(traincheck.ViolationError) as raised:
        trainer.train()

    assert ["OPT001"] == [finding.code for finding in raised.value.findings]
    assert 6 == trainer.state.global_step


def test_stop_ends_the_training_after_the_step(tmp_path: Path) -> None:
    callback = watching(on_violation="stop")
    trainer = tiny_trainer(tmp_path, callback, At(5, replace_head))

    trainer.train()

    assert 6 == trainer.state.global_step
    assert ["OPT001"] == codes(callback)


def test_a_function_gets_each_finding(tmp_path: Path) -> None:
    got: list[str] = []
    trainer = tiny_trainer(tmp_path, watching(on_violation=lambda found: got.append(found.code)), At(5, replace_head))

    trainer.train()

    assert ["OPT001"] == got


def test_ignore_and_select_choose_codes(tmp_path: Path) -> None:
    callback = watching(ignore=["OPT"])
    trainer = tiny_trainer(tmp_path, callback, At(5, replace_head))

    trainer.train()

    assert not [code for code in codes(callback) if code.startswith("OPT")]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"on_violation": "explode"}, "expected one of warn, raise, stop"),
        ({"overhead": -1}, "expected a fraction"),
        ({"zoo": "keras"}, "there is no zoo pack"),
        ({"select": ["XYZ"]}, "no invariant has a code"),
    ],
)
def test_a_wrong_option_is_told_before_any_training(option: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, traincheck.errors.UserError), match=message):
        TrainCheckCallback(**option)


def test_the_report_is_written(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path / "out", watching(report=tmp_path / "report"), At(5, replace_head))

    trainer.train()

    assert "OPT001" in (tmp_path / "report" / "index.html").read_text()


# Training on.


def test_a_resumed_training_counts_on(tmp_path: Path) -> None:
    tiny_trainer(tmp_path, watching(), save_strategy="steps", save_steps=6, max_steps=6).train()
    callback = watching()
    trainer = tiny_trainer(tmp_path, callback, At(9, replace_head), save_strategy="steps", save_steps=6)

    trainer.train(resume_from_checkpoint=True)

    assert ["OPT001"] == codes(callback)
    assert 9 == callback.findings[0].step


def test_a_checkpoint_that_was_saved_without_the_callback_can_be_resumed_with_it(tmp_path: Path) -> None:
    tiny_trainer(tmp_path, save_strategy="steps", save_steps=6, max_steps=6).train()
    callback = watching()

    tiny_trainer(tmp_path, callback, save_strategy="steps", save_steps=6).train(resume_from_checkpoint=True)

    assert [] == codes(callback)


def test_options_survive_where_a_checkpoint_restores_callbacks(tmp_path: Path) -> None:
    options: dict[str, Any] = {"on_violation": "stop", "ignore": ["DAT"]}
    tiny_trainer(tmp_path, watching(**options), save_strategy="steps", save_steps=6, max_steps=6).train()
    trainer = tiny_trainer(
        tmp_path, watching(), At(9, replace_head), save_strategy="no", restore_callback_states_from_checkpoint=True
    )

    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))

    saved = json.loads((tmp_path / "checkpoint-6" / "trainer_state.json").read_text())
    assert options.items() <= saved["stateful_callbacks"]["TrainCheckCallback"]["args"].items()
    assert 10 == trainer.state.global_step


def test_a_trainer_can_train_again_also_after_a_failure(tmp_path: Path) -> None:
    def fail(model: Any) -> None:
        raise ZeroDivisionError

    callback = watching()
    trouble = At(3, fail)
    trainer = tiny_trainer(tmp_path, callback, trouble)
    with pytest.raises(ZeroDivisionError):
        trainer.train()
    trouble.trouble = replace_head

    trainer.train()

    assert ["OPT001"] == codes(callback)
    assert 3 == callback.findings[0].step


# Checkpoints and the end.


class LosesTheHead(Trainer):
    """Saves a state dictionary that somebody filtered."""

    def save_model(self, output_dir: Any = None, _internal_call: bool = False) -> None:
        state = {name: value for name, value in self.model.state_dict().items() if "classifier" not in name}
        self._save(output_dir, state_dict=state)


def test_a_checkpoint_that_lacks_weights_is_found(tmp_path: Path) -> None:
    callback = watching()

    tiny_trainer(tmp_path, callback, kind=LosesTheHead, save_strategy="steps", save_steps=6).train()

    assert ["CKP005"] == codes(callback)
    assert 6 == callback.findings[0].step


def test_a_checkpoint_is_looked_at_also_in_a_step_that_the_budget_leaves_out(tmp_path: Path) -> None:
    callback = watching(overhead=1e-9)

    tiny_trainer(tmp_path, callback, kind=LosesTheHead, save_strategy="steps", save_steps=13).train()

    assert ["CKP005"] == codes(callback)


def test_a_checkpoint_that_changed_on_disk_before_it_was_loaded_is_found(tmp_path: Path) -> None:
    tiny_trainer(tmp_path, save_strategy="steps", save_steps=6, max_steps=6).train()

    class LoadsElsewhere(Trainer):
        def _load_from_checkpoint(self, *args: Any, **kwargs: Any) -> None:
            super()._load_from_checkpoint(*args, **kwargs)
            self.model.apply(self.model._init_weights)

    callback = watching()
    tiny_trainer(tmp_path, callback, kind=LoadsElsewhere).train(resume_from_checkpoint=True)

    assert ["CKP008"] == codes(callback)
    assert 6 == callback.findings[0].step


def test_a_resume_without_the_state_of_the_optimizer_is_found(tmp_path: Path) -> None:
    tiny_trainer(tmp_path, save_strategy="steps", save_steps=6, max_steps=6, save_only_model=True).train()
    callback = watching()

    tiny_trainer(tmp_path, callback, lr_scheduler_type="constant").train(resume_from_checkpoint=True)

    assert "CKP009" == codes(callback)[0]
    assert 6 == callback.findings[0].step


class ModelsLanguage(Trainer):
    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        return super().compute_loss(model, {**inputs, "labels": inputs["input_ids"]}, *args, **kwargs)


def untie(model: Any) -> None:
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())


@pytest.mark.parametrize(("change", "expected"), [(untie, ["TIE003"]), (lambda model: None, [])])
def test_weights_that_the_configuration_ties_are_tied(change: Any, expected: list[str], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=60, n_positions=16, n_embd=16, n_layer=1, n_head=2))
    change(model)
    callback = watching()

    tiny_trainer(tmp_path, callback, kind=ModelsLanguage, model=model, max_steps=4).train()

    assert expected == codes(callback)


def test_a_checkpoint_in_several_shards_is_whole(tmp_path: Path) -> None:
    class Shards(Trainer):
        def save_model(self, output_dir: Any = None, _internal_call: bool = False) -> None:
            self.model.save_pretrained(output_dir, max_shard_size="5KB")

    callback = watching()

    tiny_trainer(tmp_path, callback, kind=Shards, save_strategy="steps", save_steps=6).train()

    assert (tmp_path / "checkpoint-6" / "model.safetensors.index.json").exists()
    assert [] == codes(callback)


@pytest.mark.skipif(not hasattr(Trainer, "set_initial_training_values"), reason="older Trainers count elsewhere")
def test_a_training_that_ends_before_its_epochs_is_found(tmp_path: Path) -> None:
    class RoundsDown(Trainer):
        def set_initial_training_values(self, *args: Any, **kwargs: Any) -> Any:
            *values, max_steps = super().set_initial_training_values(*args, **kwargs)
            return (*values, max_steps - 4)

    callback = watching()
    trainer = tiny_trainer(tmp_path, callback, kind=RoundsDown)

    trainer.train()

    assert ["END001"] == codes(callback)
    assert 12 == trainer.state.global_step


def test_an_end_that_was_asked_for_is_no_violation(tmp_path: Path) -> None:
    callback = watching()
    trainer = tiny_trainer(
        tmp_path,
        callback,
        EarlyStoppingCallback(1),
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="steps",
        save_steps=2,
        load_best_model_at_end=True,
        learning_rate=1e-9,
    )

    trainer.train()

    assert trainer.state.global_step < 16
    assert [] == codes(callback)


def test_a_schedule_for_another_number_of_steps_is_found_at_the_end(tmp_path: Path) -> None:
    from transformers import get_linear_schedule_with_warmup

    model = tiny_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    schedule = get_linear_schedule_with_warmup(optimizer, 0, 64)
    callback = watching()

    tiny_trainer(tmp_path, callback, model=model, optimizers=(optimizer, schedule)).train()

    assert ["LRS005"] == codes(callback)


# Unnoticed.


def outcome(folder: Path, *callbacks: TrainerCallback, **arguments: Any) -> tuple[Any, ...]:
    """Weights, losses and random states of a training."""
    torch.manual_seed(3)
    trainer = tiny_trainer(folder, *callbacks, seed=3, **arguments)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    weights = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    shutil.rmtree(folder, ignore_errors=True)
    return weights, losses, torch.get_rng_state(), random.getstate(), np.random.get_state()[1]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"gradient_accumulation_steps": 3, "warmup_steps": 2, "lr_scheduler_type": "cosine"},
        {"bf16": True},
        {"gradient_checkpointing": True},
        {"eval_strategy": "steps", "eval_steps": 5, "save_strategy": "steps", "save_steps": 5},
        {"optim": "sgd", "max_grad_norm": 0.0},
    ],
    ids=["plain", "accumulation", "bf16", "checkpointing", "eval and save", "sgd"],
)
def test_training_is_bit_identical(tmp_path: Path, arguments: dict[str, Any]) -> None:
    weights, losses, *states = outcome(tmp_path / "alone", **arguments)

    watched, losses_watched, *states_watched = outcome(tmp_path / "watched", watching(), **arguments)

    assert losses == losses_watched
    assert all(torch.equal(weights[name], watched[name]) for name in weights)
    assert torch.equal(states[0], states_watched[0])
    assert states[1] == states_watched[1]
    assert (states[2] == states_watched[2]).all()


def test_nothing_of_ours_stays_on_the_trainer(tmp_path: Path) -> None:
    before = {name: vars(Trainer)[name] for name in ("evaluate", "predict", "log")}

    tiny_trainer(tmp_path, watching(), max_steps=2).train()

    assert before == {name: vars(Trainer)[name] for name in before}


def test_a_fault_of_ours_does_not_end_the_training(tmp_path: Path, monkeypatch: Any) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr("traincheck.record.loop.Loop.end_step", broken)
    callback = watching()
    trainer = tiny_trainer(tmp_path, callback)

    with pytest.warns(RuntimeWarning, match="a fault of ours"):
        trainer.train()

    assert 16 == trainer.state.global_step
    assert any("a fault of ours" in note for note in callback.result.notes)


def test_a_file_that_is_not_what_it_says_does_not_end_the_training(tmp_path: Path) -> None:
    class Breaks(Trainer):
        def save_model(self, output_dir: Any = None, _internal_call: bool = False) -> None:
            super().save_model(output_dir, _internal_call)
            (Path(output_dir) / "model.safetensors").write_bytes(b"nothing")

    trainer = tiny_trainer(tmp_path, watching(), kind=Breaks, save_strategy="steps", save_steps=6)

    with pytest.warns(RuntimeWarning, match="trainer.save"):
        trainer.train()

    assert 16 == trainer.state.global_step
