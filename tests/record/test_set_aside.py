"""Frozen parts that were put into evaluation mode, and what ``model.train()`` does to them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Tuned(nn.Module):
    """A backbone, frozen and put into evaluation mode, under a head that trains."""

    def __init__(self, *, frozen: bool = True, aside: bool = True) -> None:
        super().__init__()
        self.backbone, self.head = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), nn.Linear(4, 1)
        self.backbone.requires_grad_(not frozen)
        if aside:
            self.backbone.eval()

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.backbone(inputs))


class Kept(Tuned):
    def train(self, mode: bool = True) -> Kept:
        super().train(mode)
        self.backbone.eval()
        return self


def told(record, make: Callable[[], nn.Module], before: Callable[[nn.Module], object]) -> list[object]:
    """What each of two forwards says; ``before`` is called once before them."""

    def program() -> None:
        model = make()
        before(model)
        optimizer = torch.optim.SGD([param for param in model.parameters() if param.requires_grad], lr=0.1)
        for _ in range(2):
            model(torch.randn(3, 4)).sum().backward()
            optimizer.step()

    return [call.args.get("awake") for call in record(program).calls("forward")]


def test_train_of_the_model_wakes_the_part(record) -> None:
    assert [True, True] == told(record, Tuned, lambda model: model.train())


def test_a_part_that_is_put_aside_again(record) -> None:
    assert [False, False] == told(record, Kept, lambda model: model.train())


def test_a_part_that_is_told_to_train(record) -> None:
    assert [None, None] == told(record, Tuned, lambda model: model.backbone.train())


def test_a_part_that_is_not_frozen(record) -> None:
    assert [None, None] == told(record, lambda: Tuned(frozen=False), lambda model: model.train())


def test_a_frozen_part_that_nobody_put_aside(record) -> None:
    assert [None, None] == told(record, lambda: Tuned(aside=False), lambda model: model.train())


def test_the_model_as_a_whole_was_evaluated(record) -> None:
    def evaluate(model: nn.Module) -> None:
        model.eval()
        model.train()

    assert [None, None] == told(record, lambda: Tuned(aside=False), evaluate)
