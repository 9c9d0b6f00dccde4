"""What is read off a program at single calls: how targets weigh, where sequences end, whose state was loaded."""

from __future__ import annotations

import copy
import io
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset

from traincheck.record.labels import end_labels, padding_labels
from traincheck.record.loss_weights import target_weight

TARGETS = torch.tensor([-100, -100, -100, 0, 1, 2, 3, 4])


def logits() -> Tensor:
    return torch.randn(8, 5, requires_grad=True)


@pytest.mark.parametrize(
    ("weight", "loss"),
    [
        (1 / 20, lambda x: F.cross_entropy(x, TARGETS) / 4),
        (1 / 4, lambda x: F.cross_entropy(x, TARGETS, reduction="sum") * torch.tensor(0.25)),
        (1 / 8, lambda x: F.cross_entropy(x, TARGETS, reduction="none").mean() + x.pow(2).sum()),
        (0.9 / 5, lambda x: F.cross_entropy(x, TARGETS, label_smoothing=0.1)),
        (2 / 5, lambda x: 2 * F.nll_loss(x.log_softmax(1), TARGETS)),
    ],
)
def test_the_weight_of_a_target_is_that_of_its_gradient(weight: float, loss: Any) -> None:
    found = target_weight(loss(logits()))

    assert found is not None
    assert pytest.approx(weight) == found.read()["target_weight"]
    assert (8, 5) == (found.read()["targets"], found.read()["counted"])


@pytest.mark.parametrize(
    "loss",
    [
        lambda x: F.cross_entropy(x, TARGETS) + F.cross_entropy(x, TARGETS),
        lambda x: F.cross_entropy(x, TARGETS, weight=torch.rand(5)),
        lambda x: (F.cross_entropy(x, TARGETS, reduction="none") * torch.rand(8)).sum(),
        lambda x: 1 / F.cross_entropy(x, TARGETS),
        lambda x: F.mse_loss(x, torch.zeros(8, 5)),
    ],
)
def test_nothing_is_said_where_more_than_numbers_lie_in_between(loss: Any) -> None:
    assert target_weight(loss(logits())) is None


def test_targets_that_were_changed_in_place_are_left_alone() -> None:
    targets = TARGETS.clone()
    loss = F.cross_entropy(logits(), targets)
    targets[0] = 1

    assert target_weight(loss) is None


def test_the_weight_is_recorded_with_the_backward_pass(record) -> None:
    def program() -> None:
        for counted in (3, 6):
            targets = torch.zeros(8, dtype=torch.long)
            targets[counted:] = -100
            (F.cross_entropy(nn.Linear(4, 2)(torch.randn(8, 4)), targets) / 2).backward()

    calls = record(program).calls("backward")

    assert [pytest.approx(1 / 6), pytest.approx(1 / 12)] == [call.args["target_weight"] for call in calls]


IDS = torch.tensor([[5, 6, 2, 2], [7, 8, 9, 2]])
MASK = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
CAUSAL = SimpleNamespace(config=SimpleNamespace(eos_token_id=2))


def ends(labels: Tensor, model: Any = CAUSAL) -> dict[str, Any]:
    return end_labels(model, {"input_ids": IDS, "attention_mask": MASK, "labels": labels})


def test_ends_that_are_masked_like_padding_are_counted() -> None:
    right, wrong = IDS.masked_fill(MASK == 0, -100), IDS.masked_fill(IDS == 2, -100)

    assert {"eos_rows": 2, "eos_lost": 0, "eos_dropped": False} == ends(right)
    assert {"eos_rows": 2, "eos_lost": 2, "eos_dropped": True} == ends(wrong)


def test_labels_that_are_no_copy_of_the_input_say_nothing() -> None:
    masked = IDS.masked_fill(IDS != 8, -100)
    classes = torch.tensor([[1, 0, 1, -100], [0, 1, 0, -100]])
    prompt = IDS.masked_fill(torch.ones_like(IDS).bool(), -100)

    assert [{}, {}, {}] == [ends(masked), ends(classes), ends(prompt)]
    assert {} == ends(IDS, SimpleNamespace(config=SimpleNamespace(eos_token_id=2, is_encoder_decoder=True)))
    assert {} == ends(IDS, nn.Linear(2, 2))


def padded(labels: Tensor, ids: Tensor = IDS) -> dict[str, Any]:
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0]])
    return padding_labels({"input_ids": ids, "attention_mask": mask, "labels": labels})


PADDED = torch.tensor([[5, 6, 0, 0], [7, 8, 9, 0]])


def test_padding_with_labels_counts() -> None:
    """One position may stand for the end of the sequence: the second row says nothing."""
    assert {"pad_rows": 1, "pad_counted": True} == padded(PADDED, PADDED)
    assert {"pad_rows": 0, "pad_counted": False} == padded(PADDED.masked_fill(PADDED == 0, -100), PADDED)


def test_what_is_masked_for_another_reason_is_no_padding() -> None:
    several = torch.tensor([[5, 6, 3, 4], [7, 8, 9, 2]])

    assert {} == padded(several, several)
    assert {} == padded(PADDED[:, :2], PADDED)


class BuildsDropout(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return nn.Dropout(0.5)(self.layer(x))


def test_a_dropout_that_is_built_for_one_call_is_in_the_mode_of_the_layer_around_it(record) -> None:
    def program() -> None:
        model = BuildsDropout()
        model(torch.randn(2, 4)).sum().backward()
        model.eval()(torch.randn(2, 4))

    calls = record(program).calls("dropout")

    assert [(True, True), (True, False)] == [(call.args["active"], call.args["layer_training"]) for call in calls]


class Twins(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.left(x) + 2 * self.right(x * x)


def stepped(model: Twins, *, swapped: bool = False) -> torch.optim.Optimizer:
    layers = (model.right, model.left) if swapped else (model.left, model.right)
    optimizer = torch.optim.Adam([param for layer in layers for param in layer.parameters()])
    model(torch.randn(8, 4)).pow(2).sum().backward()
    optimizer.step()
    return optimizer


@pytest.mark.parametrize(("swapped", "misplaced"), [(False, 0), (True, 8)])
def test_state_that_comes_back_at_another_parameter_is_recognised(swapped: bool, misplaced: int, record) -> None:
    def program() -> None:
        file = io.BytesIO()
        torch.save(stepped(Twins()).state_dict(), file)
        file.seek(0)
        stepped(Twins(), swapped=swapped).load_state_dict(torch.load(file))

    (load,) = record(program).calls("optimizer.load")

    assert misplaced == load.out["misplaced"]


def test_state_of_another_process_is_not_judged(record) -> None:
    state: list[Any] = []
    state.append(copy.deepcopy(stepped(Twins()).state_dict()))

    (load,) = record(lambda: stepped(Twins()).load_state_dict(state[0])).calls("optimizer.load")

    assert "misplaced" not in load.out


class Noise(Dataset[Tensor]):
    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(np.random.rand(3).astype(np.float32))


class Constant(Noise):
    def __getitem__(self, index: int) -> Tensor:
        return torch.zeros(3)


def seed_alike(worker: int) -> None:
    np.random.seed(1)


def passes(dataset: Dataset[Tensor], seeding: Any) -> None:
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = DataLoader(dataset, batch_size=2, num_workers=2, worker_init_fn=seeding)
    for _ in range(2):
        for batch in loader:
            optimizer.zero_grad()
            model(batch).sum().backward()
            optimizer.step()


@pytest.mark.parametrize(
    ("dataset", "seeding", "equal", "repeated"),
    [(Noise(), None, 0, 0), (Noise(), seed_alike, 1, 2), (Constant(), seed_alike, 0, 0)],
)
def test_workers_that_start_alike_and_draw_numbers_are_counted(
    dataset: Dataset[Tensor], seeding: Any, equal: int, repeated: int, record
) -> None:
    fetches = record(lambda: passes(dataset, seeding)).calls("data.next")

    assert equal == sum(call.out.get("equal_workers", 0) for call in fetches)
    assert repeated == sum(call.out.get("repeated_workers", 0) for call in fetches)


@pytest.mark.parametrize(("first", "aligned"), [("train", True), ("eval", False)])
def test_spectral_vectors_are_aligned_by_the_first_training_pass(first: str, aligned: bool, record) -> None:
    def program() -> None:
        model, other = (nn.Sequential(spectral_norm(nn.Linear(64, 64)), nn.ReLU()) for _ in range(2))
        model.train(first == "train")
        model(torch.randn(2, 64)).sum().backward()
        other.load_state_dict(model.state_dict())
        other.eval()(torch.randn(2, 64))

    calls = record(program).calls("spectral_norm")

    assert aligned == calls[-1].args["aligned"]


class Staged(nn.Module):
    def __init__(self, freezes: bool, asked: str, value: object) -> None:
        super().__init__()
        setattr(self, asked, value)
        self.stages = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 1)])
        self.stages[0].requires_grad_(not freezes)

    def forward(self, x: Tensor) -> Tensor:
        return self.stages[1](self.stages[0](x))


@pytest.mark.parametrize(("asked", "value"), [("frozen_stages", 1), ("requires_grad", False)])
@pytest.mark.parametrize("freezes", [True, False])
def test_a_model_that_asks_for_frozen_stages_and_has_none(freezes: bool, asked: str, value: object, record) -> None:
    def program() -> None:
        model = Staged(freezes, asked, value)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            model(torch.randn(2, 4)).sum().backward()
            optimizer.step()

    steps = record(program).calls("optimizer.step")

    assert [not freezes, None] == [step.args.get("freezing_ignored") for step in steps]


@pytest.mark.parametrize("updates", [0, 2])
def test_an_average_says_how_many_weights_went_into_it(updates: int, record) -> None:
    def program() -> None:
        model = nn.Sequential(nn.Linear(4, 1))
        averaged = AveragedModel(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(3):
            model(torch.randn(2, 4)).sum().backward()
            optimizer.step()
            if step < updates:
                averaged.update_parameters(model)
        averaged(torch.randn(2, 4))

    forwards = record(program).calls("forward")

    assert [updates] == [call.args["averaged_steps"] for call in forwards if "averaged_steps" in call.args]


def test_a_model_says_whether_another_one_feeds_it(record) -> None:
    def program() -> None:
        first, second = nn.Sequential(nn.Linear(4, 4)), nn.Sequential(nn.Linear(4, 1))
        x = torch.randn(2, 4)
        second(first(x)).sum().backward()
        second(first(x).detach())
        second(x.requires_grad_())

    forwards = record(program).calls("forward")

    fed = [(call.subject, call.args.get("fed")) for call in forwards]
    expected = [("Sequential", None), ("Sequential#2", True), ("Sequential", None)] + [("Sequential#2", None)] * 2
    assert expected == fed
