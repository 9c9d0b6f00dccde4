"""Schedules that move the rate of an optimizer out of use, or begin anew after a resume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import ExponentialLR, LRScheduler


def train(model: nn.Module, optimizer: Optimizer, *schedulers: LRScheduler, steps: int = 3) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(2, 4)).sum().backward()
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()


def told(record, program: Callable[[], object], argument: str) -> list[object]:
    """What the steps of schedules say, those in constructors left out."""
    calls = [call for call in record(program).calls("lr.step") if not call.args["in_init"]]
    return [call.args.get(argument) for call in calls]


def test_the_schedule_of_an_optimizer_that_was_replaced(record) -> None:
    def program() -> None:
        model = nn.Linear(4, 1)
        first = Adam(model.parameters())
        schedule = ExponentialLR(first, 0.9)
        train(model, first, schedule)
        train(model, SGD(model.parameters(), lr=0.1), schedule)

    assert [False, False, False, False, True, True] == told(record, program, "orphaned")


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_optimizers_in_turn(record) -> None:
    def program() -> None:
        model = nn.Linear(4, 1)
        one, other = Adam(model.parameters()), SGD(model.parameters(), lr=0.1)
        schedules = ExponentialLR(one, 0.9), ExponentialLR(other, 0.9)
        for _ in range(3):
            train(model, one, *schedules, steps=1)
            train(model, other, *schedules, steps=1)

    assert True not in told(record, program, "orphaned")


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_optimizers_of_different_parameters(record) -> None:
    def program() -> None:
        body, head = nn.Linear(4, 4), nn.Linear(4, 1)
        of_body, of_head = Adam(body.parameters()), SGD(head.parameters(), lr=0.1)
        schedules = ExponentialLR(of_body, 0.9), ExponentialLR(of_head, 0.9)
        train(body, of_body, *schedules)
        train(head, of_head, *schedules)

    assert True not in told(record, program, "orphaned")


Resume = Callable[[dict[str, Any], Optimizer, LRScheduler], object]


def resumed(record, path: Path, resume: Resume, epoch: int = 2) -> list[object]:
    """What the first step of the schedule says that goes on from a file."""

    def build() -> tuple[nn.Module, Optimizer, LRScheduler]:
        model = nn.Linear(4, 1)
        optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
        return model, optimizer, ExponentialLR(optimizer, 0.9)

    def program() -> None:
        model, optimizer, schedule = build()
        train(model, optimizer, schedule, steps=epoch)
        states = {"model": model, "optimizer": optimizer, "schedule": schedule}
        torch.save({name: item.state_dict() for name, item in states.items()}, path)
        model, optimizer, schedule = build()
        saved = torch.load(path)
        model.load_state_dict(saved["model"])
        resume(saved, optimizer, schedule)
        train(model, optimizer, schedule, steps=2)

    return told(record, program, "begun_anew")[-2:]


def with_optimizer(saved: dict[str, Any], optimizer: Optimizer, schedule: LRScheduler) -> None:
    optimizer.load_state_dict(saved["optimizer"])


def with_both(saved: dict[str, Any], optimizer: Optimizer, schedule: LRScheduler) -> None:
    with_optimizer(saved, optimizer, schedule)
    schedule.load_state_dict(saved["schedule"])


def advanced_by_hand(saved: dict[str, Any], optimizer: Optimizer, schedule: LRScheduler) -> None:
    with_optimizer(saved, optimizer, schedule)
    schedule.last_epoch = saved["schedule"]["last_epoch"]


def nothing(saved: dict[str, Any], optimizer: Optimizer, schedule: LRScheduler) -> None:
    """A new training from old weights."""


@pytest.mark.parametrize(
    ("resume", "says"), [(with_optimizer, True), (with_both, False), (advanced_by_hand, False), (nothing, None)]
)
def test_a_resume(resume: Resume, says: bool | None, record, tmp_path: Path) -> None:
    assert [says, None] == resumed(record, tmp_path / "state.pt", resume)


def test_a_schedule_that_had_not_begun_begins(record, tmp_path: Path) -> None:
    assert [None, None] == resumed(record, tmp_path / "state.pt", with_optimizer, epoch=0)
