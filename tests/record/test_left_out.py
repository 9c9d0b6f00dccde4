"""Steps that are left out count all the same: what is recorded between them is what a whole recording has there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from traincheck.events import Call, Record, StepEnd
from traincheck.plan import Plan
from traincheck.record import Session
from traincheck.vocabulary import BACKWARD, DATA_NEXT, FORWARD, OPTIMIZER_STEP

PERIOD, FIRST = 8, 3
ROLES = (DATA_NEXT, FORWARD, BACKWARD, OPTIMIZER_STEP)


def now_and_then(step: int) -> int:
    """The first steps, and a pair out of each :data:`PERIOD`."""
    return step if step < FIRST or step % PERIOD < 2 else step - step % PERIOD + PERIOD


class Net(nn.Module):
    def __init__(self, *, recomputes: bool = False) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.1), nn.ReLU())
        self.head = nn.Linear(8, 2)
        self.recomputes = recomputes

    def forward(self, inputs: Tensor) -> Tensor:
        body = checkpoint(self.body, inputs, use_reentrant=False) if self.recomputes else self.body(inputs)
        return self.head(body)


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(80):
            yield torch.randn(4), torch.randint(2, ())


def data(batches: int, batch_size: int = 4) -> TensorDataset:
    return TensorDataset(torch.randn(batches * batch_size, 4), torch.randint(0, 2, (batches * batch_size,)))


def learn(model: nn.Module, optimizer: torch.optim.Optimizer, loader: DataLoader[tuple[Tensor, Tensor]]) -> None:
    model.train()
    criterion = nn.CrossEntropyLoss()
    for inputs, labels in loader:
        optimizer.zero_grad()
        criterion(model(inputs), labels).backward()
        optimizer.step()


def evaluate(model: nn.Module, loader: DataLoader[tuple[Tensor, Tensor]]) -> None:
    model.eval()
    with torch.no_grad():
        for inputs, labels in loader:
            F.cross_entropy(model(inputs), labels)


def epochs_with_evaluation(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    training, validation = DataLoader(data(13), 4, shuffle=True), DataLoader(data(3), 4)
    for _ in range(4):
        learn(model, optimizer, training)
        evaluate(model, validation)


def evaluation_within_the_epoch(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    validation, criterion = DataLoader(data(3), 4), nn.CrossEntropyLoss()
    for step, (inputs, labels) in enumerate(DataLoader(data(40), 4)):
        criterion(model(inputs), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % 5 == 4:
            evaluate(model, validation)
            model.train()


def accumulation(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for index, (inputs, labels) in enumerate(DataLoader(data(80), 4)):
        (F.cross_entropy(model(inputs), labels) / 2).backward()
        if index % 2:
            optimizer.step()
            optimizer.zero_grad()


def a_new_loader_for_each_epoch(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for _ in range(5):
        learn(model, optimizer, DataLoader(data(7), 4))


def a_stream(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for _ in range(2):
        learn(model, optimizer, DataLoader(Stream(), 4))


def two_loaders(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for (some, labels), (others, _) in zip(DataLoader(data(30), 4), DataLoader(data(30), 4), strict=True):
        loss = F.cross_entropy(model(some), labels) + model(others).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def without_a_loader(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    inputs, labels = data(1).tensors
    for step in range(40):
        for _ in range(2):
            (nn.CrossEntropyLoss()(model(inputs), labels) / 2).backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % 7 == 6:
            model.eval()
            with torch.no_grad():
                model(inputs)
            model.train()


def with_a_closure(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    inputs, labels = data(1).tensors

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), labels)
        loss.backward()
        return loss

    for _ in range(30):
        optimizer.step(closure)


Program = Callable[[nn.Module, torch.optim.Optimizer], None]
PROGRAMS: list[Program] = [
    epochs_with_evaluation,
    evaluation_within_the_epoch,
    accumulation,
    a_new_loader_for_each_epoch,
    a_stream,
    two_loaders,
    without_a_loader,
    with_a_closure,
]


def told(records: Iterable[Record]) -> dict[int, list[object]]:
    """What happens in each step that was recorded to its end, without positions and times."""
    found: dict[int, list[object]] = {}
    now: list[object] = []
    for record in sorted(records, key=lambda record: record.seq):
        if isinstance(record, Call) and record.role in ROLES:
            now.append((record.role, record.subject, record.context, dict(record.args), dict(record.out)))
        elif isinstance(record, StepEnd):
            if record.recorded:
                found[record.step] = now
            now = []
    return found


@pytest.mark.parametrize("recomputes", [False, True])
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_what_is_recorded_between_steps_that_are_left_out(
    program: Program, recomputes: bool, record, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run() -> None:
        torch.manual_seed(1)
        model = Net(recomputes=recomputes)
        program(model, torch.optim.SGD(model.parameters(), lr=0.1))

    whole = record(run)
    decide = Session.__init__

    def deciding(self: Session, *args: object, **options: object) -> None:
        decide(self, *args, **options)
        self.decide = now_and_then

    monkeypatch.setattr(Session, "__init__", deciding)
    partial = record(run)

    steps = [end.step for end in whole.steps()]
    assert steps == [end.step for end in partial.steps()]
    assert len(steps) > 2 * PERIOD
    assert [now_and_then(step) == step for step in steps] == [end.recorded for end in partial.steps()]
    everything, something = told(whole.records), told(partial.records)
    assert something == {step: everything[step] for step in something}


def test_a_fault_in_what_is_asked_of_a_step_that_is_left_out_is_told_and_ends_nothing(
    tmp_path: Path, record, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> bool:
        raise KeyError("a fault of ours")

    monkeypatch.setattr("traincheck.record.steps.Steps.feeds", fails)
    session = Session(Plan(), Nothing, project=tmp_path)
    session.decide = now_and_then
    session.start()
    model = Net()
    with pytest.warns(RuntimeWarning, match="a fault of ours"):
        learn(model, torch.optim.SGD(model.parameters(), lr=0.1), DataLoader(data(20), 4))
    session.close()

    assert any("a fault of ours" in fault for fault in session.faults)


class Nothing:
    def __init__(self, process: object) -> None:
        """One for each process."""

    def add(self, item: object) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Nothing to close."""
