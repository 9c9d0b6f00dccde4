"""Layers in a plain list: forgotten there, or hidden there on purpose."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn


class Holder(nn.Module):
    """``layers`` are whatever the test makes of them; they run between the first layer and the head."""

    def __init__(self, layers: object) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(4, 4), nn.Linear(4, 1)
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for layer in self.layers.values() if isinstance(self.layers, dict) else self.layers:
            x = layer(x)
        return self.head(x)


def told(record, make: Callable[[], Holder], also: Callable[[Holder], object] = lambda model: None) -> list[object]:
    """What each of three steps says of layers that are left out. ``also`` runs before the first and after each."""

    def program() -> None:
        model = make()
        kept = also(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(2, 4)).sum().backward()
            optimizer.step()
            if callable(kept):
                kept()

    return [step.args.get("left_out") for step in record(program).calls("optimizer.step") if step.subject == "SGD"]


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [nn.Linear(4, 4)],
        lambda: (nn.Sequential(nn.Linear(4, 4), nn.ReLU()),),
        lambda: {"one": nn.Linear(4, 4)},
    ],
)
def test_a_forgotten_layer_is_told_from_the_second_step_on(layers: Callable[[], object], record) -> None:
    assert [None, True, True] == told(record, lambda: Holder(layers()))


def test_it_is_told_where_it_is(record) -> None:
    def program() -> None:
        model = Holder([nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4))])
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            model(torch.randn(2, 4)).sum().backward()
            optimizer.step()

    last = record(program).calls("optimizer.step")[-1]

    assert "Holder.layers[0], Holder.layers[1].0" == last.args["loose_layers"]


def test_registered_layers_are_not_left_out(record) -> None:
    assert [False] * 3 == told(record, lambda: Holder(nn.ModuleList([nn.Linear(4, 4)])))


def frozen() -> nn.Module:
    return nn.Linear(4, 4).requires_grad_(False)


def loaded() -> nn.Module:
    layer = nn.Linear(4, 4)
    layer.load_state_dict(nn.Linear(4, 4).state_dict())
    return layer


@pytest.mark.parametrize("hidden", [frozen, loaded, lambda: nn.Linear(4, 4).eval(), nn.ReLU])
def test_what_is_hidden_on_purpose_is_not_left_out(hidden: Callable[[], nn.Module], record) -> None:
    assert [False] * 3 == told(record, lambda: Holder([hidden()]))


def test_a_layer_that_runs_without_gradients_is_not_left_out(record) -> None:
    class Teacher(Holder):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                target = self.layers[0](x)
            return (self.head(self.first(x)) - target).pow(2)

    assert [False] * 3 == told(record, lambda: Teacher([nn.Linear(4, 4)]))


def test_a_layer_that_was_trained_before_is_not_left_out(record) -> None:
    """Its gradients are those of then: what it gives is detached now."""

    class Student(Holder):
        def forward(self, x: Tensor) -> Tensor:
            return (self.head(self.first(x)) - self.layers[0](x).detach()).pow(2)

    def once(model: Holder) -> None:
        model.layers[0](torch.randn(2, 4)).sum().backward()

    assert [None, False, False] == told(record, lambda: Student([nn.Linear(4, 4)]), once)


def test_a_layer_with_an_optimizer_of_its_own_is_not_left_out(record) -> None:
    """As a discriminator that runs in the generator's loss: its optimizer may come later and step less often."""

    def own(model: Holder) -> object:
        return torch.optim.Adam(model.layers[0].parameters())

    assert [False] * 3 == told(record, lambda: Holder([nn.Linear(4, 4)]), own)


def test_a_layer_that_is_updated_by_hand_is_not_left_out(record) -> None:
    def by_hand(model: Holder) -> Callable[[], None]:
        def update() -> None:
            for param in model.layers[0].parameters():
                param.data -= 0.1 * param.grad
                param.grad = None

        return update

    assert [None, False, False] == told(record, lambda: Holder([nn.Linear(4, 4)]), by_hand)


def test_with_a_closure_too(record) -> None:
    def program() -> None:
        model = Holder([nn.Linear(4, 4)])
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

        def loss() -> Tensor:
            optimizer.zero_grad()
            result = model(torch.randn(2, 4)).sum()
            result.backward()
            return result

        for _ in range(2):
            optimizer.step(loss)

    assert [None, True] == [call.args.get("left_out") for call in record(program).calls("optimizer.step")]
