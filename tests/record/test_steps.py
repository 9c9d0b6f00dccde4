"""Steps and stages are found in the loops that people write."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from traincheck.record.alive import alive
from traincheck.vocabulary import BACKWARD, DATA_NEXT, FORWARD, OPTIMIZER_STEP

Record = Callable[..., object]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 8)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(self.drop(functional.relu(self.body(inputs))))


def loader(batches: int = 4) -> DataLoader:
    count = batches * 2
    return DataLoader(TensorDataset(torch.randn(count, 4), torch.randint(0, 2, (count,))), batch_size=2)


def loss_of(model: nn.Module, batch: list[torch.Tensor]) -> torch.Tensor:
    return functional.cross_entropy(model(batch[0]), batch[1])


def steps_per_window(kept) -> list[int]:
    return [len(window.named(OPTIMIZER_STEP)) for window in kept.windows]


def test_a_plain_loop(record) -> None:
    def program() -> None:
        model = Net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            for batch in loader():
                optimizer.zero_grad()
                loss_of(model, batch).backward()
                optimizer.step()

    kept = record(program)

    assert [1] * 8 == steps_per_window(kept)
    assert list(range(7)) == [end.step for end in kept.steps()]
    assert {"train"} == {call.context.stage for call in kept.calls(FORWARD)}
    assert {0} == {call.context.micro_step for call in kept.calls(BACKWARD)}


def test_accumulation_lies_inside_a_window(record) -> None:
    def program() -> None:
        model = Net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for number, batch in enumerate(loader(12)):
            loss_of(model, batch).backward()
            if number % 4 == 3:
                optimizer.step()
                optimizer.zero_grad()

    kept = record(program)

    assert [1, 1, 1] == steps_per_window(kept)
    assert [0, 1, 2, 3] * 3 == [call.context.micro_step for call in kept.calls(BACKWARD)]


def test_evaluation_belongs_to_the_step_before(record) -> None:
    def program() -> None:
        model, held_out = Net(), loader(2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for number, batch in enumerate(loader(6)):
            loss_of(model, batch).backward()
            optimizer.step()
            optimizer.zero_grad()
            if number % 3 == 2:
                model.eval()
                with torch.no_grad():
                    for inputs, _ in held_out:
                        model(inputs)
                model.train()

    kept = record(program)
    stages = [[call.context.stage for call in window.named(FORWARD)] for window in kept.windows]

    assert [1] * 6 == steps_per_window(kept)
    assert [["train"], ["train"], ["train", "eval", "eval"]] * 2 == stages


def test_evaluation_on_the_training_loader_is_evaluation(record) -> None:
    def program() -> None:
        model, batches = Net(), loader(3)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            for batch in batches:
                loss_of(model, batch).backward()
                optimizer.step()
            model.eval()
            with torch.no_grad():
                for inputs, _ in batches:
                    model(inputs)
            model.train()

    kept = record(program)

    assert [1] * 6 == steps_per_window(kept)
    assert (["train"] * 3 + ["eval"] * 3) * 2 == [call.context.stage for call in kept.calls(FORWARD)]


def test_a_forgotten_train_is_training(record) -> None:
    def program() -> None:
        model, batches = Net(), loader(3)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            for batch in batches:
                loss_of(model, batch).backward()
                optimizer.step()
            model.eval()

    forwards = record(program).calls(FORWARD)

    assert ["train"] * 6 == [call.context.stage for call in forwards]
    assert [True] * 3 + [False] * 3 == [call.args["training"] for call in forwards]


def test_two_optimizers_in_one_step(record) -> None:
    def program() -> None:
        maker, judge = Net(), Net()
        first = torch.optim.Adam(maker.parameters())
        second = torch.optim.Adam(judge.parameters())
        for batch in loader():
            loss_of(judge, batch).backward()
            second.step()
            loss_of(maker, batch).backward()
            first.step()

    kept = record(program)

    assert [2] * 4 == steps_per_window(kept)
    assert ["Adam#2", "Adam"] * 4 == [call.subject for call in kept.calls(OPTIMIZER_STEP)]
    assert ["Net#2", "Net"] * 4 == [call.subject for call in kept.calls(FORWARD)]


def test_a_closure(record) -> None:
    def program() -> None:
        model, inputs, labels = Net(), torch.randn(8, 4), torch.randint(0, 2, (8,))
        optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(inputs), labels)
            loss.backward()
            return loss

        for _ in range(3):
            optimizer.step(closure)

    kept = record(program)
    steps = kept.calls(OPTIMIZER_STEP)

    assert [True] * 3 == [call.args["closure"] for call in steps]
    assert [1] * 3 == steps_per_window(kept)
    assert all(len(list(window.inside(window.named(OPTIMIZER_STEP)[0], BACKWARD))) > 1 for window in kept.windows)


def test_no_loader(record) -> None:
    def program() -> None:
        model = Net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(5):
            loss_of(model, [torch.randn(3, 4), torch.randint(0, 2, (3,))]).backward()
            optimizer.step()
            optimizer.zero_grad()
            model.eval()
            with torch.no_grad():
                model(torch.randn(2, 4))
            model.train()

    kept = record(program)

    assert [1] * 5 == steps_per_window(kept)
    assert ["train", "eval"] * 5 == [call.context.stage for call in kept.calls(FORWARD)]


def trained_by_hand() -> None:
    model = Net()
    for batch in loader():
        loss_of(model, batch).backward()
        with torch.no_grad():
            for weight in model.parameters():
                weight -= 0.1 * weight.grad
                weight.grad = None


@pytest.fixture
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Optimizers that other tests of this process left alive (in a traceback, in a framework) are not there."""
    before = {id(optimizer) for optimizer in alive(torch.optim.Optimizer)}

    def others(*kinds: type[Any]) -> list[Any]:
        return [item for item in alive(*kinds) if id(item) not in before]

    monkeypatch.setattr("traincheck.record.session.alive", others)


@pytest.mark.usefixtures("_alone")
def test_no_optimizer(record) -> None:
    kept = record(trained_by_hand)

    assert [1] * 4 == [len(window.named(BACKWARD)) for window in kept.windows]


def test_a_skipped_backward(record) -> None:
    def program() -> None:
        model = Net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for number, batch in enumerate(loader(6)):
            loss = loss_of(model, batch)
            if number % 2:
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()

    assert [1, 1, 1] == steps_per_window(record(program))


def test_batches_without_any_step_are_cut(record) -> None:
    def program() -> None:
        model = Net()
        torch.optim.SGD(model.parameters(), lr=0.1)
        for batch in loader(140):
            loss_of(model, batch).backward()

    assert [64, 64, 12] == [len(window.named(BACKWARD)) for window in record(program).windows]


class Stream(IterableDataset):
    def __iter__(self):
        for number in range(4):
            yield torch.randn(4), torch.tensor(number % 2)


def test_a_loader_without_a_length(record) -> None:
    def program() -> None:
        model, held_out = Net(), loader(1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            for batch in DataLoader(Stream(), batch_size=2):
                loss_of(model, batch).backward()
                optimizer.step()
            model.eval()
            with torch.no_grad():
                for inputs, _ in held_out:
                    model(inputs)
            model.train()

    kept = record(program)

    assert [1] * 4 == steps_per_window(kept)
    assert [1, 2, 1, 2] == [len(window.named(FORWARD)) for window in kept.windows]
    assert [0, 0, 0, 0] == [window.named(DATA_NEXT)[0].context.micro_step for window in kept.windows]


def test_steps_told_by_the_program_are_exact(record) -> None:
    from traincheck.record import active

    def program() -> None:
        model = Net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for batch in loader(6):
            loss_of(model, batch).backward()
            optimizer.step()
            session = active()
            assert session is not None
            with session.contexts.stage("eval"):
                model(batch[0])
            session.end_step()

    kept = record(program, step_source="manual")

    assert [1] * 6 == steps_per_window(kept)[:6]
    assert ["train", "eval"] * 6 == [call.context.stage for call in kept.calls(FORWARD)]
    assert 6 == len(kept.steps())


@pytest.mark.usefixtures("_alone")
def test_the_optimizer_of_an_earlier_training_is_garbage(record) -> None:
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.itself = optimizer
    gc.disable()
    del model, optimizer
    try:
        kept = record(trained_by_hand)
    finally:
        gc.enable()

    assert [1] * 4 == [len(window.named(BACKWARD)) for window in kept.windows]
