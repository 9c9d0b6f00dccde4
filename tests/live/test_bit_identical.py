"""Weights, losses and random numbers are the same with a watch and without: mixed precision, frameworks, ranks."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import traincheck
from traincheck.record import active
from traincheck.record.fingerprints import fingerprints
from traincheck.record.snapshots import generator_states

STEPS = 24
"""More than the steps that a budget records at first, so that it leaves some out."""

Outcome = tuple[list[int | None], list[float], dict[str, int]]
"""Fingerprints of all weights and optimizer states, losses, fingerprints of the random-number generators."""


@pytest.fixture(autouse=True)
def _nothing_stays_active() -> Iterator[None]:
    yield
    session = active()
    if session is not None:
        session.close()


def seed() -> None:
    torch.manual_seed(5)
    random.seed(5)
    numpy.random.seed(5)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(6, 16)
        self.norm = nn.BatchNorm1d(16)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(16, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(self.drop(F.relu(self.norm(self.body(inputs)))))


def batches(count: int = STEPS) -> torch.utils.data.DataLoader:
    data = torch.utils.data.TensorDataset(torch.randn(8 * count, 6), torch.randint(0, 3, (8 * count,)))
    return torch.utils.data.DataLoader(data, batch_size=8, shuffle=True)


def outcome(model: nn.Module, optimizer: torch.optim.Optimizer, losses: list[float]) -> Outcome:
    state = [value for kept in optimizer.state.values() for value in kept.values() if isinstance(value, torch.Tensor)]
    return fingerprints([*model.state_dict().values(), *state]), losses, generator_states()


def train(*, autocast: bool = False, scale: bool = False, accumulate: int = 1, fused: bool = False) -> Outcome:
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=fused)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 5)
    scaler = torch.amp.GradScaler("cpu", enabled=scale, init_scale=2.0**6)
    losses = []
    for number, (inputs, labels) in enumerate(batches(STEPS * accumulate)):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            loss = F.cross_entropy(model(inputs), labels) / accumulate
        scaler.scale(loss).backward()
        losses.append(loss.item())
        if (number + 1) % accumulate == 0:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
            schedule.step()
            optimizer.zero_grad()
    return outcome(model, optimizer, losses)


def transformers_trainer() -> Outcome:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    model = transformers.BertForSequenceClassification(config)
    ids, labels = torch.randint(2, 64, (4 * STEPS, 8)), torch.randint(0, 2, (4 * STEPS,))
    dataset = [{"input_ids": row, "labels": label} for row, label in zip(ids, labels, strict=True)]
    arguments = transformers.TrainingArguments(
        num_train_epochs=1,
        per_device_train_batch_size=4,
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = transformers.Trainer(model, arguments, train_dataset=dataset)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return outcome(model, trainer.optimizer.optimizer, losses)


def lightning_trainer() -> Outcome:
    lightning = pytest.importorskip("lightning")
    losses: list[float] = []

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            loss = F.cross_entropy(self.net(batch[0]), batch[1])
            losses.append(loss.item())
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=0.01)

    module = Module()
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, batches())
    return outcome(module, trainer.optimizers[0], losses)


PROGRAMS: dict[str, Callable[[], Outcome]] = {
    "plain": train,
    "fused optimizer": lambda: train(fused=True),
    "bfloat16 autocast": lambda: train(autocast=True),
    "scaled mixed precision": lambda: train(autocast=True, scale=True),
    "accumulation": lambda: train(accumulate=3),
    "Transformers": transformers_trainer,
    "Lightning": lightning_trainer,
}


@pytest.mark.parametrize("overhead", [None, 0.02], ids=["every step", "budget"])
@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.filterwarnings("ignore")
def test_training_is_bit_identical(name: str, overhead: float | None, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    if name == "Lightning":
        PROGRAMS[name]()  # what it imports at its first run draws a random number
    seed()
    expected = PROGRAMS[name]()
    seed()
    with traincheck.watch(overhead=overhead) as watched:
        found = PROGRAMS[name]()

    assert STEPS <= len(expected[1])
    assert expected == found
    assert 0 < watched.result.steps
    assert () == watched.findings


def test_one_random_number_more_is_seen() -> None:
    seed()
    expected = train()
    seed()
    torch.rand(1)

    assert expected != train()


RANK = """
import json, random, sys, time
import numpy, torch
import torch.distributed as dist
import torch.nn.functional as F
import traincheck
from traincheck.record.fingerprints import fingerprints
from traincheck.record.snapshots import generator_states

dist.init_process_group("gloo")
torch.manual_seed(7)
if sys.argv[1] != "alone":
    watched = traincheck.watch(overhead=None if sys.argv[1] == "every" else 0.02)
model = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Dropout(0.3), torch.nn.Linear(16, 3))
replica = torch.nn.parallel.DistributedDataParallel(model)
optimizer = torch.optim.SGD(replica.parameters(), lr=0.05, momentum=0.9)
torch.manual_seed(100 + dist.get_rank())
random.seed(8)
numpy.random.seed(8)
losses = []
for _ in range(24):
    optimizer.zero_grad()
    loss = F.cross_entropy(replica(torch.randn(8, 6)), torch.randint(0, 3, (8,)))
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
if sys.argv[1] != "alone":
    watched.close()
    assert watched.result.steps and not watched.findings, watched.result
found = [fingerprints(list(model.state_dict().values())), losses, generator_states()]
open(f"{sys.argv[2]}/{dist.get_rank()}.json", "w").write(json.dumps(found))
dist.barrier()
time.sleep(0.2)  # lets gloo free its last tensors: doing so while Python exits would abort the process
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_ranks_are_bit_identical(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(RANK)

    def train_ranks(how: str) -> list[Any]:
        folder = tmp_path / how
        folder.mkdir()
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        command = [*launcher, str(tmp_path / "train.py"), how, str(folder)]
        ran = subprocess.run(command, capture_output=True, text=True)
        assert 0 == ran.returncode, ran.stderr
        return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]

    expected = train_ranks("alone")

    assert expected[0][0] == expected[1][0]
    assert expected[0][1] != expected[1][1]
    assert expected == train_ranks("every")
    assert expected == train_ranks("budget")
