"""Gradients that another optimizer's loss left: applied by mistake, cleared in time, or meant."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as loss_of

ONES, ZEROS = torch.ones(2, 1), torch.zeros(2, 1)


class Pair:
    """A generator and a discriminator, with an optimizer each."""

    def __init__(self) -> None:
        self.generator, self.discriminator = nn.Linear(3, 4), nn.Linear(4, 1)
        self.of_generator = torch.optim.Adam(self.generator.parameters())
        self.of_discriminator = torch.optim.SGD(self.discriminator.parameters(), lr=0.1)

    def clear(self) -> None:
        self.of_generator.zero_grad()
        self.of_discriminator.zero_grad()

    def fake(self) -> Tensor:
        return self.generator(torch.randn(2, 3))

    def train_generator(self) -> None:
        loss_of(self.discriminator(self.fake()), ONES).backward()
        self.of_generator.step()

    def train_discriminator(self, fake: Tensor) -> None:
        real = loss_of(self.discriminator(torch.randn(2, 4)), ONES)
        (real + loss_of(self.discriminator(fake), ZEROS)).backward()
        self.of_discriminator.step()


def told(record, step: Callable[[Pair], object], steps: int = 3) -> dict[str, list[object]]:
    """What each step of the two optimizers says."""

    def program() -> None:
        pair = Pair()
        for _ in range(steps):
            step(pair)

    calls = record(program).calls("optimizer.step")
    return {name: [call.args.get("carried") for call in calls if call.subject == name] for name in ("Adam", "SGD")}


def test_gradients_of_the_generators_loss_in_the_discriminator(record) -> None:
    def step(pair: Pair) -> None:
        pair.clear()
        pair.train_generator()
        pair.train_discriminator(pair.fake().detach())

    assert {"Adam": [None, False, False], "SGD": [True] * 3} == told(record, step)


def test_gradients_of_the_discriminators_loss_in_the_generator(record) -> None:
    def step(pair: Pair) -> None:
        pair.clear()
        pair.train_discriminator(pair.fake())
        pair.train_generator()

    assert {"Adam": [True] * 3, "SGD": [None, False, False]} == told(record, step)


def test_with_closures_too(record) -> None:
    """Lightning gives each step one, also in loops by hand, where it does nothing."""

    def step(pair: Pair) -> None:
        def closure() -> Tensor:
            pair.of_discriminator.zero_grad()
            loss = loss_of(pair.discriminator(torch.randn(2, 4)), ONES)
            loss.backward()
            return loss

        pair.of_generator.zero_grad()
        loss_of(pair.discriminator(pair.fake()), ONES).backward()
        pair.of_generator.step(lambda: torch.zeros(()))
        pair.of_discriminator.step(closure)

    assert {"Adam": [None, False, False], "SGD": [False] * 3} == told(record, step)


def test_a_leak_with_closures(record) -> None:
    def step(pair: Pair) -> None:
        pair.clear()
        loss_of(pair.discriminator(pair.fake()), ONES).backward()
        pair.of_generator.step(lambda: torch.zeros(()))
        loss_of(pair.discriminator(torch.randn(2, 4)), ONES).backward()
        pair.of_discriminator.step(lambda: torch.zeros(()))

    assert {"Adam": [None, False, False], "SGD": [True] * 3} == told(record, step)


def test_they_are_cleared_in_time(record) -> None:
    def step(pair: Pair) -> None:
        pair.of_generator.zero_grad()
        pair.train_generator()
        pair.of_discriminator.zero_grad(set_to_none=False)
        pair.train_discriminator(pair.fake())

    assert {"Adam": [None, False, False], "SGD": [False] * 3} == told(record, step)


def test_they_are_cleared_by_hand(record) -> None:
    def step(pair: Pair) -> None:
        for param in pair.generator.parameters():
            param.grad = None
        pair.train_generator()
        for param in pair.discriminator.parameters():
            param.grad.data.zero_()
        pair.train_discriminator(pair.fake().detach())

    assert {"Adam": [None, False, False], "SGD": [False] * 3} == told(record, step)


def test_one_loss_for_both(record) -> None:
    def step(pair: Pair) -> None:
        pair.clear()
        loss_of(pair.discriminator(pair.fake()), ONES).backward()
        pair.of_generator.step()
        pair.of_discriminator.step()

    assert {"Adam": [None, False, False], "SGD": [False] * 3} == told(record, step)


def test_one_loss_for_both_and_one_that_steps_less_often(record) -> None:
    steps = iter(range(6))

    def step(pair: Pair) -> None:
        loss_of(pair.discriminator(pair.fake()), ONES).backward()
        pair.of_generator.step()
        pair.of_generator.zero_grad()
        if next(steps) % 2:
            pair.of_discriminator.step()
            pair.of_discriminator.zero_grad()

    assert [False] * 3 == told(record, step, 6)["SGD"]


def test_copies_that_are_trained_between_gradients_that_accumulate(record) -> None:
    """First-order meta-learning: each task trains a copy and adds the copy's gradients to the original's."""

    def program() -> None:
        model = nn.Linear(4, 1)
        outer, inner = torch.optim.Adam(model.parameters()), []
        for _ in range(3):
            outer.zero_grad()
            for _ in range(2):
                learner = copy.deepcopy(model)
                inner.append(torch.optim.SGD(learner.parameters(), lr=0.1))
                for _ in range(2):
                    inner[-1].zero_grad()
                    learner(torch.randn(2, 4)).sum().backward()
                    inner[-1].step()
                learner(torch.randn(2, 4)).sum().backward()
                for mine, its in zip(model.parameters(), learner.parameters(), strict=True):
                    mine.grad = its.grad.clone() if mine.grad is None else mine.grad.add_(its.grad)
            outer.step()

    assert True not in [call.args.get("carried") for call in record(program).calls("optimizer.step")]


def test_one_optimizer_has_nothing_to_tell(record) -> None:
    def program() -> None:
        model = nn.Linear(4, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            model(torch.randn(2, 4)).sum().backward()
            optimizer.step()

    assert [None, None] == [call.args.get("carried") for call in record(program).calls("optimizer.step")]
